use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use ortc_io::{SrtpKeys, SrtpProfile};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use crate::association::{Association, Event, Failure, Taken};
use crate::final_flight::FinalFlight;
use crate::pace::Pace;
use crate::record::{client_random, is_handshake_of_epoch_0, is_plausible};
use crate::state::{State, Transition};
use crate::{Certificate, DtlsConfig, DtlsError, DtlsFailure, DtlsRole};

/// Datagrams kept until the role is known: a ClientHello in two fragments, sent four times.
const MAX_PARKED: usize = 8;

/// The largest datagram looked at: a jumbo frame.
const MAX_DATAGRAM: usize = 9_216;

/// Outputs that wait for the owner. It takes them after every call, so that this many are
/// there only if one call made them all.
const MAX_OUTPUTS: usize = 256;

/// RFC 9000 §8.1 has the same figure: what an unvalidated address may be sent per byte received.
const AMPLIFICATION: u64 = 3;

/// The engine names an instant years ahead when it has nothing to wait for but its own deadline.
/// The last of its retransmissions is one year ahead.
const NEVER: Duration = Duration::from_secs(2 * 365 * 24 * 3600);

/// How long a silence of the peer is that losses alone do not explain.
const LONG_SILENCE: Duration = Duration::from_secs(16);

/// After that, retransmissions are as far apart as one in so many parts of it: they last for long,
/// and whoever comes back is not kept waiting.
const SILENCE_PARTS: u32 = 4;

/// For how long after it is connected, or the path was found, a side sends its last flight again,
/// each time after a quarter of what has passed: in DTLS 1.3 it is the client that may not be heard.
const AFTERMATH: Duration = Duration::from_secs(60);

/// How often a handshake begins afresh beyond [`DtlsConfig::restarts`] where messages of two are
/// mixed, and the time between: by then what is late has come.
const MIXED_RESTARTS: u32 = 5;
const MIXED_INTERVAL: Duration = Duration::from_secs(1);

/// How often a goodbye is sent, as none is repeated later, and who misses it waits for consent to
/// expire. It is one record, of which a peer takes one.
const GOODBYES: usize = 3;

/// A handshake takes at most so many times as long as it waits for one datagram.
const MAX_WAITS: u32 = 3;

/// What an endpoint wants done.
#[derive(Debug, Clone)]
pub enum DtlsOutput {
    /// Send this datagram to the peer.
    Transmit(Bytes),
    /// The handshake is complete and the peer's certificate is the expected one.
    Connected {
        /// The SRTP master keys, sorted into ours and theirs.
        keys: SrtpKeys,
        /// The peer's certificate, DER.
        certificate: Bytes,
        /// The version of DTLS as it is on the wire: 0xfefd is 1.2, 0xfefc is 1.3.
        version: u16,
    },
    /// The peer sent application data.
    ApplicationData(Bytes),
    /// It is over; the last output. `Ok` after either side has closed.
    Stopped(Result<(), DtlsFailure>),
}

/// Counters of one endpoint, from its creation on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DtlsStats {
    /// Datagrams given to the endpoint.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Datagrams to transmit.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Dropped because they could be no DTLS record of an honest
    /// peer: too long, cut short, another protocol, another version.
    pub dropped_implausible: u64,
    /// Dropped because eight were parked, or because a client has no use for what came early.
    pub dropped_parked: u64,
    /// Dropped by a client that waits for a first answer, as they were none.
    pub dropped_unrecognized: u64,
    /// Dropped because it was over.
    pub dropped_stopped: u64,
    /// Not sent, for the limit on amplification.
    pub dropped_amplification: u64,
    /// Outputs dropped because nobody took them.
    pub dropped_outputs: u64,
    /// Handshakes begun afresh after an error.
    pub restarts: u64,
    /// Hellos of other clients in the midst of a handshake, after too many of them.
    pub dropped_hellos: u64,
    /// Not answered by a server that is connected, though a client seemed to have missed its last
    /// flight: it was too soon, too often, or asked for in fewer bytes than that has.
    pub dropped_repeats: u64,
    /// Datagrams that came once it was connected. Few of them are an honest peer's, who repeats its
    /// last flight or closes; what is not authentic among them changes nothing.
    pub received_connected: u64,
}

/// One side of a DTLS association: a state machine without socket, clock or thread.
///
/// After every call take [`DtlsOutput`]s until there are none, then arm one timer for
/// [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct DtlsEndpoint {
    config: DtlsConfig,
    /// Until connected: afterwards no handshake begins afresh.
    certificate: Option<Certificate>,
    state: State,
    /// Of the last call; never goes back.
    now: Instant,
    parked: Vec<Bytes>,
    handshake: Option<Box<Handshake>>,
    association: Option<Association>,
    timer: Option<Timer>,
    /// How far the engine's clock is ahead of ours. The engine doubles its timeout without a
    /// limit; in a handshake that waits longer than `max_rto` its clock is set forward.
    skew: Duration,
    /// When what is lost of a handshake is sent again.
    pace: Pace,
    /// When the peer was last heard, the handshake began or the path was found.
    heard: Instant,
    /// When a side that is connected has said all it has to say.
    aftermath: Instant,
    /// Whether there is no path, so that nothing is sent and nothing awaited.
    is_paused: bool,
    /// What a server that is connected sent last, for a client that has not heard it.
    final_flight: Option<FinalFlight>,
    outputs: VecDeque<DtlsOutput>,
    stats: DtlsStats,
}

/// When the engine is to be called.
#[derive(Debug, Clone, Copy)]
struct Timer {
    due: Instant,
    /// What the engine's clock then shows.
    engine: Instant,
}

/// What is needed from start to connected.
#[derive(Debug)]
struct Handshake {
    role: DtlsRole,
    expected_sha256: Option<[u8; 32]>,
    started: Instant,
    /// When it started, or the path was found again.
    begun: Instant,
    /// When the present association was begun.
    associated: Instant,
    /// Fresh associations begun.
    attempt: u32,
    /// When a client whose handshake failed begins afresh. It waits for a round trip, so that
    /// what the server sent for the old hello is not taken for an answer to the new one.
    resume_at: Option<Instant>,
    /// Those that were not free.
    restarts: u32,
    /// Datagrams sent by the present association.
    answered: u64,
    /// Of the ClientHello that the present association has seen first.
    client_random: Option<[u8; 32]>,
    peer_certificate: Option<Bytes>,
    keys: Option<(SrtpProfile, Zeroizing<Vec<u8>>)>,
}

impl DtlsEndpoint {
    /// Makes an endpoint that waits to be started.
    pub fn new(config: DtlsConfig, certificate: Certificate, now: Instant) -> Self {
        Self {
            config,
            certificate: Some(certificate),
            state: State::ExpectStart,
            now,
            parked: Vec::new(),
            handshake: None,
            association: None,
            timer: None,
            skew: Duration::ZERO,
            pace: Pace::default(),
            heard: now,
            aftermath: now,
            is_paused: false,
            final_flight: None,
            outputs: VecDeque::new(),
            stats: DtlsStats::default(),
        }
    }

    /// Begins the handshake in the given role, with what has been parked.
    ///
    /// `expected_sha256` is the SHA-256 of the certificate that the peer must present; no key
    /// is released before it was compared. `None` takes any certificate.
    ///
    /// # Errors
    ///
    /// [`DtlsError::AlreadyStarted`] if it was started or closed before.
    pub fn start(
        &mut self,
        role: DtlsRole,
        expected_sha256: Option<[u8; 32]>,
        now: Instant,
    ) -> Result<(), DtlsError> {
        if self.state != State::ExpectStart {
            return Err(DtlsError::AlreadyStarted);
        }
        self.advance(now);
        self.handshake = Some(Box::new(Handshake {
            role,
            expected_sha256,
            started: self.now,
            begun: self.now,
            associated: self.now,
            attempt: 0,
            resume_at: None,
            restarts: 0,
            answered: 0,
            client_random: None,
            peer_certificate: None,
            keys: None,
        }));
        self.heard = self.now;
        self.transition(Transition::Start, "the role is decided");
        self.begin_association();
        for datagram in std::mem::take(&mut self.parked) {
            match role {
                DtlsRole::Server => self.feed(&datagram),
                // Nobody can have answered a hello that had not been sent.
                DtlsRole::Client => self.stats.dropped_parked += 1,
            }
        }
        Ok(())
    }

    /// Has a handshake wait: there is no path. Nothing is sent again, and its time does not run.
    /// What comes in is taken all the same.
    pub fn path_lost(&mut self, now: Instant) {
        self.advance(now);
        self.is_paused = true;
    }

    /// Has it go on, with all of its time: what was sent last is sent again at once, as it is
    /// likely to be lost.
    pub fn path_found(&mut self, now: Instant) {
        self.advance(now);
        if !std::mem::take(&mut self.is_paused) {
            return;
        }
        self.heard = self.now;
        self.aftermath = self.now + AFTERMATH;
        if let Some(handshake) = self.handshake.as_mut() {
            handshake.begun = self.now;
        }
        if let Some(timer) = self.timer.as_mut() {
            timer.due = self.now;
        }
    }

    /// Notes how long the path takes there and back, at most, for the retransmissions of a
    /// handshake that is to start, or goes on.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.pace.set_round_trip(round_trip);
    }

    /// When a handshake is given up.
    fn deadline(&self) -> Option<Instant> {
        let handshake = self.handshake.as_ref().filter(|_| self.state.is_handshaking())?;
        let wait = self.config.handshake_timeout;
        Some((self.heard + wait).min(handshake.begun + wait * MAX_WAITS))
    }

    /// Takes a datagram from the peer.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        self.advance(now);
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.len() as u64;
        if !is_plausible(datagram, MAX_DATAGRAM) {
            self.stats.dropped_implausible += 1;
            return;
        }
        match self.state {
            State::ExpectStart if self.parked.len() < MAX_PARKED => {
                self.parked.push(Bytes::copy_from_slice(datagram));
            }
            State::ExpectStart => self.stats.dropped_parked += 1,
            State::Stopped => self.stats.dropped_stopped += 1,
            State::ExpectCertificate | State::ExpectFinished | State::ExpectClose => {
                self.stats.received_connected += u64::from(self.state == State::ExpectClose);
                self.feed(datagram);
            }
        }
    }

    /// Does what is due: retransmissions, and giving up.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        if self.is_paused {
            return;
        }
        if self.deadline().is_some_and(|deadline| self.now >= deadline) {
            return self.fail(DtlsFailure::TimedOut);
        }
        if let Some(handshake) = self.handshake.as_mut()
            && handshake.resume_at.take_if(|at| *at <= self.now).is_some()
        {
            return self.begin_association();
        }
        if let Some(timer) = self.timer.filter(|timer| timer.due <= self.now) {
            self.pace.repeats();
            self.skew = self.skew.max(timer.engine.saturating_duration_since(self.now));
        }
        let due = self.final_flight.as_mut().and_then(|flight| flight.due(self.now));
        due.into_iter().flatten().for_each(|datagram| self.transmit(datagram));
        let now = self.engine_now();
        let Some(association) = self.association.as_mut() else { return };
        match association.handle_timeout(now) {
            Ok(()) => self.settle(),
            Err(failure) => self.recover(failure),
        }
    }

    /// Sends application data to the peer, in one record.
    ///
    /// # Errors
    ///
    /// [`DtlsError::NotConnected`], or [`DtlsError::TooLarge`] if it does not fit into one
    /// datagram.
    pub fn send_application_data(&mut self, now: Instant, message: &[u8]) -> Result<(), DtlsError> {
        self.advance(now);
        let limit = self.config.largest_message();
        if message.len() > limit {
            return Err(DtlsError::TooLarge { actual: message.len(), limit });
        }
        let now = self.engine_now();
        let Some(association) =
            self.association.as_mut().filter(|_| self.state == State::ExpectClose)
        else {
            return Err(DtlsError::NotConnected);
        };
        match association.handle_timeout(now).and_then(|()| association.send(message)) {
            Ok(()) => self.settle(),
            Err(failure) => self.recover(failure),
        }
        Ok(())
    }

    /// Closes: with a close_notify if connected, which is sent three times, silently otherwise. Ends
    /// in [`DtlsOutput::Stopped`].
    pub fn close(&mut self, now: Instant) {
        self.advance(now);
        if self.state == State::Stopped {
            return;
        }
        if self.state == State::ExpectClose {
            self.flush_close_notify(GOODBYES);
        }
        self.stop(Transition::Close, Ok(()));
    }

    /// What is to be done next; `None` until the next call.
    pub fn poll_output(&mut self) -> Option<DtlsOutput> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // An idle endpoint holds no room for what it said last.
            self.outputs.shrink_to_fit();
        }
        output
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.is_paused {
            return None;
        }
        let engine = self.timer.map(|timer| (timer.due, "DTLS retransmission"));
        let handshake = self.handshake.as_ref().filter(|_| self.state.is_handshaking());
        let deadline = self.deadline().map(|at| (at, "DTLS handshake deadline"));
        let resume = handshake.and_then(|it| Some((it.resume_at?, "DTLS fresh start")));
        let again = self.final_flight.as_ref().and_then(FinalFlight::again);
        let again = again.map(|at| (at, "DTLS last flight"));
        [engine, deadline, resume, again].into_iter().flatten().min()
    }

    /// The counters.
    pub fn stats(&self) -> DtlsStats {
        self.stats
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn engine_now(&self) -> Instant {
        self.now + self.skew
    }

    /// Notes when the engine wants to be called, in our time.
    fn arm(&mut self, engine: Option<Instant>) {
        let engine_now = self.engine_now();
        let Some(engine) = engine.filter(|engine| *engine < engine_now + NEVER) else {
            self.timer = None;
            return;
        };
        // With a gap in the peer's flight the engine wants to repeat its ACK at once, for ever.
        let silence = self.now.saturating_duration_since(self.heard);
        let pause = self.config.first_rto.max(silence / SILENCE_PARTS);
        let engine = if engine <= engine_now { engine_now + pause } else { engine };
        if self.timer.is_some_and(|timer| timer.engine == engine) {
            return;
        }
        let mut wait = engine - engine_now;
        let parted = if self.state.is_handshaking() {
            Some(if silence >= LONG_SILENCE { silence } else { Duration::ZERO })
        } else {
            // Whoever is there has most likely heard it: more and more seldom.
            let left = self.aftermath.checked_duration_since(self.now);
            left.map(|left| AFTERMATH.saturating_sub(left))
        };
        if let Some(time) = parted {
            wait = wait.min(self.config.max_rto.max(time / SILENCE_PARTS));
        }
        if self.state.is_handshaking()
            && silence < LONG_SILENCE
            && let Some(at_most) = self.pace.wait()
        {
            wait = wait.min(at_most);
        }
        self.timer = Some(Timer { due: self.now + wait, engine });
    }

    fn feed(&mut self, datagram: &[u8]) {
        let sent = self.stats.datagrams_sent;
        let is_authentic = self.offer_and_settle(datagram);
        if self.stats.datagrams_sent == sent && (is_authentic || is_handshake_of_epoch_0(datagram))
        {
            self.repeat_final_flight(datagram.len(), is_authentic);
        }
    }

    /// Answers a client that still sends its own last flight: it has not heard ours.
    ///
    /// The engine would do this too, at intervals that double without a limit; a client would give
    /// up between them. The same bytes again are to it what a late datagram is.
    fn repeat_final_flight(&mut self, asked: usize, is_authentic: bool) {
        let now = self.now;
        let Some(flight) = self.final_flight.as_mut() else { return };
        let answer = flight.answer(now, asked, is_authentic);
        self.stats.dropped_repeats += u64::from(answer.is_empty());
        for datagram in answer {
            self.transmit(datagram);
        }
    }

    /// Whether a client that is connected for us has shown once more that it has finished.
    fn offer_and_settle(&mut self, datagram: &[u8]) -> bool {
        if !self.notice_fresh_client(datagram) {
            self.stats.dropped_hellos += 1;
            return false;
        }
        let taken = self.offer(datagram);
        let has_finished = matches!(taken, Ok(Taken::FinishedAgain));
        match taken {
            Ok(Taken::Yes | Taken::FinishedAgain) => {
                let was_long_silent = self.now >= self.heard + LONG_SILENCE;
                self.heard = self.now;
                self.pace.answered();
                self.settle();
                // It is back: what was to be sent again long from now is sent soon.
                if let Some(timer) = self.timer.as_mut().filter(|_| was_long_silent) {
                    timer.due = timer.due.min(self.now + self.config.first_rto);
                }
            }
            Ok(Taken::Unrecognized) => self.stats.dropped_unrecognized += 1,
            // What clogs the queue is not this datagram: the fresh association may have it.
            Err(failure @ Failure::Clogged(_)) if self.state.is_handshaking() => {
                self.recover(failure);
                if let Ok(Taken::Yes) = self.offer(datagram) {
                    self.settle();
                }
            }
            Err(failure) => self.recover(failure),
        }
        has_finished
    }

    fn offer(&mut self, datagram: &[u8]) -> Result<Taken, Failure> {
        let now = self.engine_now();
        match self.association.as_mut() {
            Some(association) => association.handle_datagram(now, datagram),
            None => Ok(Taken::Unrecognized),
        }
    }

    /// A server whose client has begun afresh in mid-handshake begins afresh with it, for the
    /// engine would answer the new hello with the old flight; whether the datagram is to be taken.
    fn notice_fresh_client(&mut self, datagram: &[u8]) -> bool {
        let Some(handshake) = self.handshake.as_mut() else { return true };
        if handshake.role == DtlsRole::Client || self.state != State::ExpectCertificate {
            return true;
        }
        let Some(random) = client_random(datagram) else { return true };
        let begun_afresh = handshake.client_random.is_some_and(|known| known != random);
        if begun_afresh {
            if self.now < self.next_restart() {
                return false;
            }
            self.recover(Failure::Clogged("the client has begun another handshake".to_owned()));
        }
        if let Some(handshake) = self.handshake.as_mut() {
            handshake.client_random.get_or_insert(random);
        }
        true
    }

    /// When the handshake may begin afresh because of datagrams that anybody can forge who knows
    /// the peer's address: as often as after errors, and then once in a second. So a burst of them
    /// ends no handshake, and a flood gets no more than an answer a second.
    fn next_restart(&self) -> Instant {
        let Some(handshake) = self.handshake.as_ref() else { return self.now };
        let beyond = (handshake.restarts + 1).saturating_sub(self.config.restarts);
        handshake.started + Duration::from_secs(1) * beyond
    }

    /// Makes a fresh association of the engine; when even that fails, all is over.
    fn begin_association(&mut self) {
        let Some(handshake) = self.handshake.as_mut() else { return };
        handshake.answered = 0;
        handshake.client_random = None;
        handshake.peer_certificate = None;
        handshake.keys = None;
        match handshake.role {
            DtlsRole::Client => self.pace.begin_first(),
            DtlsRole::Server => self.pace.begin(),
        }
        let attempt = handshake.attempt;
        handshake.attempt += 1;
        handshake.associated = self.now;
        let now = self.now + self.skew;
        let Some(certificate) = self.certificate.as_ref() else { return };
        match Association::new(&self.config, certificate, handshake.role, attempt, now) {
            Ok(association) => {
                self.association = Some(association);
                self.settle();
            }
            Err(failure) => self.fail(failure.into()),
        }
    }

    /// Takes all that the engine has to say. Certificates go first: nothing leaves, no packet
    /// and no key, for a peer that is not the expected one.
    fn settle(&mut self) {
        let Some(association) = self.association.as_mut() else { return };
        let (events, timer) = match association.poll() {
            Ok(polled) => polled,
            Err(failure) => return self.recover(failure),
        };
        // Whoever has the peer's certificate answers with another flight.
        if events.iter().any(|event| matches!(event, Event::PeerCertificate(_))) {
            self.pace.begin();
        }
        self.arm(timer);

        for event in &events {
            if let Event::PeerCertificate(certificate) = event
                && !self.accept(certificate)
            {
                return self.fail(DtlsFailure::FingerprintMismatch);
            }
        }
        let (mut connected, mut closed, mut failed) = (false, false, None);
        let mut application_data = Vec::new();
        let mut packets = Vec::new();
        for event in events {
            match event {
                Event::PeerCertificate(_) => {}
                Event::Packet(packet) => {
                    packets.push(packet.clone());
                    self.transmit(packet);
                }
                Event::Keys(profile, material) => {
                    if let Some(handshake) = self.handshake.as_mut() {
                        handshake.keys = Some((profile, material));
                    }
                }
                Event::Connected => connected = true,
                Event::ApplicationData(data) => {
                    if let Some(flight) = &mut self.final_flight {
                        flight.heard();
                    }
                    application_data.push(data);
                }
                Event::CloseNotify => closed = true,
                Event::Failed(failure) => failed = Some(failure),
            }
        }
        if connected {
            let is_server = self.handshake.as_ref().is_some_and(|it| it.role == DtlsRole::Server);
            // In DTLS 1.3 it is the client that may not be heard.
            if is_server && self.association.as_ref().is_some_and(Association::is_version_12) {
                self.final_flight = Some(FinalFlight::new(self.now, packets, self.pace.early()));
            }
            if !self.finish() {
                return;
            }
        }
        for data in application_data {
            self.emit(DtlsOutput::ApplicationData(data));
        }
        if let Some(failure) = failed {
            return self.recover(failure);
        }
        if closed {
            self.flush_close_notify(1);
            self.stop(Transition::Close, Ok(()));
        }
    }

    /// Compares the peer's certificate with the signalled fingerprint.
    fn accept(&mut self, certificate: &Bytes) -> bool {
        let Some(handshake) = self.handshake.as_mut() else { return false };
        let actual = digest(&SHA256, certificate);
        if handshake.expected_sha256.is_some_and(|expected| actual.as_ref() != expected) {
            return false;
        }
        handshake.peer_certificate = Some(certificate.clone());
        self.transition(Transition::Accept, "the certificate is the expected one");
        true
    }

    /// Releases the keys; `false` if there is nothing to release and all is over.
    fn finish(&mut self) -> bool {
        let Some(handshake) = self.handshake.take().map(|it| *it) else { return false };
        let is_client = handshake.role == DtlsRole::Client;
        let Some(certificate) = handshake.peer_certificate else {
            self.fail(DtlsFailure::Protocol("the peer showed no certificate".to_owned()));
            return false;
        };
        let keys = handshake
            .keys
            .and_then(|(profile, material)| SrtpKeys::from_exported(profile, &material, is_client));
        let Some(keys) = keys else {
            self.flush_close_notify(1);
            self.fail(DtlsFailure::NoSrtpProfile);
            return false;
        };
        let version = self.association.as_ref().map_or(0, Association::version);
        debug!(version = format_args!("{version:04x}"), profile = ?keys.profile, "DTLS connected");
        self.transition(Transition::Finish, "the handshake is complete");
        self.aftermath = self.now + AFTERMATH;
        self.certificate = None;
        if let Some(association) = self.association.as_mut() {
            // What comes again of the client's last flight is answered here, not by the engine.
            association.settle_down();
        }
        self.emit(DtlsOutput::Connected { keys, certificate, version });
        true
    }

    /// Decides what a failure of the engine means: a fresh start, or the end.
    fn recover(&mut self, failure: Failure) {
        if self.state == State::ExpectClose && matches!(failure, Failure::TimedOut) {
            // That its last flight is not acknowledged is no end of a connection that has its keys.
            debug!("the last flight is not sent any more");
            (self.association, self.timer) = (None, None);
            return;
        }
        let Some(handshake) = self.handshake.as_mut().filter(|_| self.state.is_handshaking())
        else {
            return self.fail(failure.into());
        };
        // A server that has answered nothing owes nothing: noise before the hello is free.
        let free = handshake.role == DtlsRole::Server && handshake.answered == 0;
        // What is repeated wears the engine's patience out as well as its memory: it is no end.
        let is_clogged = matches!(failure, Failure::Clogged(_) | Failure::TimedOut);
        let is_mixed = matches!(failure, Failure::Mixed(_));
        let is_paced = is_clogged || is_mixed;
        let restarts = self.config.restarts + if is_mixed { MIXED_RESTARTS } else { 0 };
        if !free && !is_clogged && handshake.restarts >= restarts {
            return self.fail(failure.into());
        }
        let mut not_before = self.next_restart();
        let Some(handshake) = self.handshake.as_mut() else { return };
        if is_mixed && handshake.restarts >= self.config.restarts {
            not_before = not_before.max(handshake.associated + MIXED_INTERVAL);
        }
        handshake.restarts += u32::from(!free);
        self.stats.restarts += 1;
        debug!(?failure, "the DTLS handshake begins afresh");
        // Not the period of the server's retransmissions, which would meet it each time.
        let pause = self.config.first_rto * handshake.restarts * 3 / 4;
        match handshake.role {
            DtlsRole::Server if free || !is_paced || not_before <= self.now => {
                self.transition(Transition::Restart, "the engine gave up");
                self.begin_association();
            }
            role => {
                let earliest = if is_paced { not_before } else { self.now };
                let pause = if role == DtlsRole::Client { pause } else { Duration::ZERO };
                handshake.resume_at = Some(earliest.max(self.now + pause));
                self.association = None;
                self.timer = None;
                self.transition(Transition::Restart, "the engine gave up");
            }
        }
    }

    fn flush_close_notify(&mut self, copies: usize) {
        let now = self.engine_now();
        let Some(association) = self.association.as_mut() else { return };
        let polled = association
            .handle_timeout(now)
            .and_then(|()| association.close())
            .and_then(|()| association.poll());
        let Ok((events, _)) = polled else { return };
        for event in events {
            if let Event::Packet(packet) = event {
                (0..copies).for_each(|_| self.transmit(packet.clone()));
            }
        }
    }

    fn transmit(&mut self, packet: Bytes) {
        let limited = !self.config.address_validated
            && self.state == State::ExpectCertificate
            && self.handshake.as_ref().is_some_and(|it| it.role == DtlsRole::Server);
        let bytes = packet.len() as u64;
        if limited && self.stats.bytes_sent + bytes > AMPLIFICATION * self.stats.bytes_received {
            self.stats.dropped_amplification += 1;
            return;
        }
        if let Some(handshake) = self.handshake.as_mut() {
            handshake.answered += 1;
        }
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += bytes;
        self.emit(DtlsOutput::Transmit(packet));
    }

    fn emit(&mut self, output: DtlsOutput) {
        let is_bulk = matches!(output, DtlsOutput::Transmit(_) | DtlsOutput::ApplicationData(_));
        if is_bulk && self.outputs.len() >= MAX_OUTPUTS {
            self.stats.dropped_outputs += 1;
            return;
        }
        self.outputs.push_back(output);
    }

    fn fail(&mut self, failure: DtlsFailure) {
        warn!(%failure, "DTLS failed");
        self.stop(Transition::Fail, Err(failure));
    }

    fn stop(&mut self, transition: Transition, result: Result<(), DtlsFailure>) {
        if !self.transition(transition, "it is over") {
            return;
        }
        self.association = None;
        self.handshake = None;
        self.final_flight = None;
        self.timer = None;
        self.parked = Vec::new();
        self.emit(DtlsOutput::Stopped(result));
    }

    /// The only place where the state changes.
    fn transition(&mut self, transition: Transition, reason: &'static str) -> bool {
        let Some(next) = self.state.next(transition) else {
            // A second certificate in one handshake ends here: it was compared, nothing moves.
            debug!(state = ?self.state, ?transition, reason, "not in this state");
            return false;
        };
        debug!(from = ?self.state, to = ?next, reason, "DTLS");
        self.state = next;
        true
    }
}

impl From<Failure> for DtlsFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TimedOut => Self::TimedOut,
            Failure::Clogged(reason) | Failure::Mixed(reason) | Failure::Protocol(reason) => {
                Self::Protocol(reason)
            }
        }
    }
}
