//! A call from its beginning to its end.

use std::collections::BTreeMap;
use std::future::pending;
use std::io::Write;
use std::pin::{Pin, pin};
use std::time::Duration;

use ortc_api::{
    AddDtmfError, AddStreamError, CandidateTypes, ConnectError, MediaFormat, MediaStream,
    MediaStreamTrack, NewConnectionError, RTCConnection, RTCConnectionOptions, RTCDisconnectReason,
    RTCEvent, RTCEvents, RTCIceConnectionInfo, RTCStatsReport, RTCTrackDescription,
    ReceiveTrackError, SetRemoteIceError, TcpCandidates, ToneError, TrackKind,
};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::channel::{self, ChannelError, Incoming, SignalReceiver, SignalSender};
use super::keys::{Heard, Listening, Pressing};
use super::options::{CallOptions, RecordAs};
use super::player::{PlayError, Player, api_format};
use super::recorder::{RecordError, Recorder};
use super::stats;
use super::stream::ReceivingStream;
use super::summary::{Ending, Summary};
use super::tracks::{Received, Receiving, Sending, Sent};
use crate::signalling::{Capabilities, Signal, SignalError, SignalParseError};
use crate::tls::{Authorities, TlsError};

/// How long it may take to connect, once the other peer is known: its candidates may come late,
/// and a person may have to admit it.
const CONNECT: Duration = Duration::from_secs(60);

/// How long a call waits for a path to come back.
const OUTAGE: Duration = Duration::from_secs(30);

/// How long the connection may take to let go of everything.
const CLOSE: Duration = Duration::from_secs(2);

/// How long a room may take to say why it has hung up.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Tracks that the summary tells of: those of a room come and go as long as the call lasts.
const MAX_TOLD: usize = 1_000;

/// Why a call is not begun.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// A file cannot be played.
    #[error(transparent)]
    Play(#[from] PlayError),
    /// Nothing can be recorded there.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Whom to trust cannot be read.
    #[error("--tls-ca: {0}")]
    Authorities(#[from] TlsError),
    /// Nothing could ever be found to go through.
    #[error("--relay-only needs a TURN server: --ice-server turn:USER:SECRET@HOST:PORT")]
    NoRelay,
}

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    New(#[from] NewConnectionError),
    #[error(transparent)]
    AddStream(#[from] AddStreamError),
    #[error(transparent)]
    AddDtmf(#[from] AddDtmfError),
    #[error("the keys cannot be pressed: {0}")]
    Tones(#[from] ToneError),
    #[error("the other peer's iceInfo cannot be used: {0}")]
    RemoteIce(#[from] SetRemoteIceError),
    #[error("cannot connect to the other peer: {0}")]
    Connect(#[from] ConnectError),
    #[error("the other peer cannot be understood: {0}")]
    Malformed(#[from] SignalParseError),
    #[error("not connected: {0}")]
    Disconnected(#[from] RTCDisconnectReason),
    #[error("no path to the other peer works, after {} s of trying", CONNECT.as_secs())]
    NoPath,
    #[error("the connection was closed from inside")]
    Closed,
    #[error("playing has failed: {0}")]
    Playing(JoinError),
}

/// Makes a call, until it ends or `interrupted` completes.
///
/// # Errors
/// When it is not even begun: a file cannot be played, nothing can be recorded, whom to trust cannot
/// be read, or there is no TURN server to go through. Whatever goes wrong later is in the [`Summary`].
pub async fn call(
    options: CallOptions,
    interrupted: impl Future<Output = ()>,
) -> Result<Summary, NotBegun> {
    let players = options.play.iter().map(|source| Player::open_all(source, options.playing));
    let players = players.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    if let Some(directory) = &options.record {
        Recorder::prepare(directory)?;
    }
    if let Authorities::File(_) = options.authorities {
        options.authorities.client_config().await?;
    }
    let mut urls = options.ice_servers.iter().flat_map(|server| &server.url);
    if options.relay_only && !urls.any(|url| url.to_ascii_lowercase().starts_with("turn")) {
        return Err(NotBegun::NoRelay);
    }
    let mut interrupted = pin!(interrupted);
    let begun = tokio::select! {
        begun = Call::begin(options, players) => begun,
        () = &mut interrupted => {
            let mut summary = Summary { ended: Ending::Interrupted, ..Summary::new() };
            summary.judge(None, true);
            return Ok(summary);
        }
    };
    match begun {
        Ok(call) => Ok(call.run(interrupted).await),
        Err(failure) => Ok(Summary { error: Some(failure.to_string()), ..Summary::new() }),
    }
}

/// What a call awaits.
#[derive(Debug, Clone, Copy)]
enum Awaiting {
    /// The other peer's credentials.
    Peer,
    /// A path, and the other peer's certificate.
    Connected { since: Instant },
    /// Its end.
    End { since: Instant, lost: Option<Instant> },
}

/// What follows from something that has happened.
type Step = Result<Option<Ending>, Failure>;

struct Call {
    options: CallOptions,
    awaiting: Awaiting,
    connection: RTCConnection,
    events: RTCEvents,
    /// The signalling channel, until it is lost: a call goes on without it.
    sender: Option<SignalSender>,
    receiver: Option<SignalReceiver>,
    /// What will be played once connected.
    ready: Vec<Sending>,
    playing: JoinSet<(usize, Sent)>,
    /// Keys that are yet to be pressed.
    pressing: Option<Pressing>,
    listening: Listening,
    /// Files that are not played to their end yet, and keys that are not all pressed.
    unfinished: usize,
    played: Vec<(usize, Sent)>,
    receiving: JoinSet<Vec<Received>>,
    /// Streams that are recorded together, by name, and where their tracks go.
    streams: BTreeMap<String, mpsc::UnboundedSender<(RTCTrackDescription, MediaStreamTrack)>>,
    /// What is received now, by SSRC.
    tracks: BTreeMap<String, MediaStreamTrack>,
    received: Vec<Received>,
    stop: watch::Sender<bool>,
    /// When statistics are told next, and those that were told last.
    stats_due: Option<Instant>,
    restart_due: Option<Instant>,
    told: Option<RTCStatsReport>,
    summary: Summary,
}

impl Call {
    async fn begin(options: CallOptions, players: Vec<Player>) -> Result<Self, Failure> {
        let (sender, receiver) = channel::connect(&options.signal, &options.authorities).await?;
        // On one host, loopback may be all there is.
        let loopback = options.signal.is_loopback();
        let mut connecting = RTCConnectionOptions::new()
            .with_loopback(loopback)
            .with_link_local(options.link_local)
            .with_network_changes(true)
            .with_in_band_dtmf(options.dtmf_in_band)
            .with_audio_redundancy(options.redundancy)
            .with_dtls_version(options.dtls)
            .with_mdns_candidates(options.mdns)
            .with_tcp_candidates(TcpCandidates { active: true, passive: options.tcp })
            .with_ice_servers(options.ice_servers.clone());
        if options.relay_only {
            connecting = connecting.with_candidate_types(CandidateTypes::RELAYED);
        }
        let connection = RTCConnection::new(connecting)?;
        let mut call = Self {
            options,
            awaiting: Awaiting::Peer,
            events: connection.events(),
            connection,
            sender: Some(sender),
            receiver: Some(receiver),
            ready: Vec::new(),
            playing: JoinSet::new(),
            pressing: None,
            listening: Listening::new(),
            unfinished: 0,
            played: Vec::new(),
            receiving: JoinSet::new(),
            streams: BTreeMap::new(),
            tracks: BTreeMap::new(),
            received: Vec::new(),
            stop: watch::channel(false).0,
            stats_due: None,
            restart_due: None,
            told: None,
            summary: Summary::new(),
        };
        let ice = call.connection.local().ice;
        call.tell(Signal::Capabilities(Capabilities::own())).await;
        call.tell(Signal::IceInfo(ice)).await;
        call.add(players).await?;
        call.progress(if call.is_room() { "joining" } else { "waiting for the other peer" });
        Ok(call)
    }

    /// Adds what will be played as the tracks of one stream, and describes them to the other
    /// peer.
    async fn add(&mut self, players: Vec<Player>) -> Result<(), Failure> {
        let stream = MediaStream::new();
        let mut sources = Vec::new();
        for player in players {
            let Some(format) = api_format(player.format()) else { continue };
            let (track, frames) = MediaStreamTrack::local(format);
            sources.push((player, frames, stream.add_track(&track)));
        }
        let has_sound = sources.iter().any(|(_, _, track)| track.kind() == TrackKind::Audio);
        // Keys have a track of sound to go with, be it silent.
        let silent = (self.options.dtmf.is_some() && !has_sound).then(|| {
            let in_band = self.options.dtmf_in_band;
            let format = if in_band { MediaFormat::Ulaw } else { MediaFormat::Opus };
            let (track, frames) = MediaStreamTrack::local(format);
            (stream.add_track(&track), frames)
        });
        if stream.tracks().is_empty() {
            return Ok(());
        }
        self.connection.add_stream(&stream, true)?;
        if let Some(tones) = &self.options.dtmf {
            let handler = self.connection.add_dtmf_handler(Some((&stream).into()))?;
            self.pressing = Some(Pressing::begin(&handler, tones)?);
            self.unfinished += 1;
        }
        if let Some((source, _)) = silent
            && let Some(track) = self.connection.track(&source)
        {
            self.tell(Signal::Track(track.description())).await;
        }
        for (player, frames, source) in sources {
            let Some(track) = self.connection.track(&source) else {
                return Err(Failure::Closed);
            };
            self.unfinished += usize::from(!player.source().is_endless());
            self.ready.push(Sending { player, frames, ssrc: track.ssrc() });
            self.tell(Signal::Track(track.description())).await;
        }
        Ok(())
    }

    async fn run(mut self, mut interrupted: Pin<&mut impl Future<Output = ()>>) -> Summary {
        let ending = loop {
            let deadline = self.deadline();
            let step = tokio::select! {
                incoming = receive(&mut self.receiver) => self.hear(incoming),
                event = self.events.recv() => self.notice(event).await,
                pressed = press(&mut self.pressing) => self.note_pressed(pressed),
                Some(heard) = self.listening.next() => {
                    self.note_heard(heard);
                    Ok(None)
                }
                Some(played) = self.playing.join_next() => self.note_played(played),
                Some(received) = self.receiving.join_next() => {
                    self.note_received(received);
                    Ok(None)
                }
                () = reached(deadline) => self.expire(),
                () = reached(self.stats_due) => {
                    self.tell_stats().await;
                    Ok(None)
                }
                () = reached(self.restart_due) => {
                    self.restart().await;
                    Ok(None)
                }
                () = &mut interrupted => Ok(Some(Ending::Interrupted)),
            };
            match step {
                Ok(None) => {}
                Ok(Some(ending)) => break ending,
                Err(failure) => {
                    self.fail(failure.to_string());
                    break Ending::Failed;
                }
            }
        };
        self.end(ending).await
    }

    /// When something has to have happened.
    fn deadline(&self) -> Option<Instant> {
        match self.awaiting {
            Awaiting::Peer => None,
            Awaiting::Connected { since } => Some(since + CONNECT),
            Awaiting::End { since, lost } => {
                let end = self.options.duration.map(|duration| since + duration);
                let outage = lost.map(|lost| lost + OUTAGE);
                end.into_iter().chain(outage).min()
            }
        }
    }

    /// A deadline has passed.
    fn expire(&self) -> Step {
        match self.awaiting {
            Awaiting::Peer => Ok(None),
            Awaiting::Connected { .. } => Err(Failure::NoPath),
            Awaiting::End { lost: None, .. } => Ok(Some(Ending::Duration)),
            Awaiting::End { .. } => Err(RTCDisconnectReason::PathLost.into()),
        }
    }

    /// Tells how it goes, and again later.
    async fn tell_stats(&mut self) {
        let (Some(lines), Awaiting::End { since, .. }) = (self.options.stats, self.awaiting) else {
            self.stats_due = None;
            return;
        };
        self.stats_due = Some(Instant::now() + lines.every);
        let report = self.connection.stats().await;
        let at = since.elapsed();
        // Nobody misses them if nobody reads.
        if lines.json {
            let _ = writeln!(std::io::stdout(), "{}", stats::to_json(at, &report));
        } else {
            let text = stats::to_text(at, &report, self.told.as_ref());
            let _ = write!(std::io::stderr(), "{text}");
        }
        self.told = Some(report);
    }

    /// Restarts ICE, and again later.
    async fn restart(&mut self) {
        self.restart_due = self.options.restart_ice.map(|every| Instant::now() + every);
        match self.connection.restart_ice() {
            Ok(ice) => self.tell(Signal::IceInfo(ice)).await,
            Err(error) => self.summary.warn(format!("ICE is not restarted: {error}")),
        }
    }

    /// Something has come on the signalling channel.
    fn hear(&mut self, incoming: Incoming) -> Step {
        let is_alone = matches!(self.awaiting, Awaiting::Peer);
        // Who is not connected yet will not be without it; and it is what makes a member of a
        // room.
        let is_needed = is_alone || self.is_room();
        match incoming {
            Incoming::Signals(signals) => {
                for signal in signals {
                    if let Some(ending) = self.heed(signal)? {
                        return Ok(Some(ending));
                    }
                }
                Ok(None)
            }
            // Nothing else will come in its place.
            Incoming::Malformed(error @ SignalParseError::Field { .. })
                if is_alone && error.field() == Some("iceInfo") =>
            {
                Err(error.into())
            }
            Incoming::Malformed(error) => {
                self.summary.warn(format!("the other peer cannot be understood: {error}"));
                Ok(None)
            }
            Incoming::Ended(error) if is_needed => {
                if let ChannelError::Closed { reason, .. } = &error {
                    // The server has said it in a message, too.
                    self.summary.warnings.retain(|warning| !warning.ends_with(reason.as_str()));
                }
                Err(error.into())
            }
            Incoming::Ended(error) => {
                (self.sender, self.receiver) = (None, None);
                self.summary.warn(error.to_string());
                Ok(None)
            }
        }
    }

    fn heed(&mut self, signal: Signal) -> Step {
        match signal {
            Signal::IceInfo(info) => self.meet(info)?,
            Signal::Candidate(candidate) => {
                if let Err(error) = self.connection.set_remote_candidate(&candidate) {
                    self.summary
                        .warn(format!("a candidate of the other peer is left out: {error}"));
                }
            }
            Signal::CandidateWithdrawn(candidate) => {
                // One that was left out has nothing to take back.
                let _ = self.connection.remove_remote_candidate(&candidate);
            }
            Signal::Track(description) => self.listen(description),
            // What is played is decided before anybody is there.
            Signal::Capabilities(_) => {}
            Signal::EndOfCandidates {} => {
                // Refused only when the connection is closed, which is noticed by itself.
                let _ = self.connection.set_remote_end_of_candidates();
            }
            Signal::Bye {} => return Ok(Some(Ending::PeerLeft)),
            Signal::TrackEnded(ended) => {
                if let Some(track) = self.tracks.remove(&ended.ssrc) {
                    // Its recording ends by itself, once it has taken what has come.
                    self.connection.stop_receiving(&track);
                    self.progress(&format!("track {} has ended", ended.ssrc));
                }
            }
            Signal::TrackLimit(limit) => {
                let sent = self.connection.tracks(None);
                if let Some(track) = sent.iter().find(|track| track.ssrc() == limit.ssrc) {
                    // On a connection that is closed it is of no use.
                    let _ = track.set_max_bitrate(limit.max_bitrate);
                }
            }
            Signal::Error(error) => self.complained(&error),
        }
        Ok(None)
    }

    /// The server finds something wrong.
    fn complained(&mut self, error: &SignalError) {
        let text = format!("the signalling server says: {}", error.message);
        // In a room, what it does not take of us nobody gets.
        let is_lost = matches!(&*error.code, "bad-track" | "too-many-tracks" | "bad-ice-info");
        if self.is_room() && is_lost { self.fail(text) } else { self.summary.warn(text) }
    }

    /// The other peer has said who it is; or says it again, after a restart.
    fn meet(&mut self, info: RTCIceConnectionInfo) -> Result<(), Failure> {
        let connection = &self.connection;
        let met = connection.set_remote_ice(info).map_err(Failure::from);
        let met = met.and_then(|()| connection.connect().map_err(Failure::from));
        match (self.awaiting, met) {
            (Awaiting::Peer, Ok(())) => {
                self.awaiting = Awaiting::Connected { since: Instant::now() };
                self.progress("connecting");
                Ok(())
            }
            (Awaiting::Peer, Err(failure)) => Err(failure),
            (_, Ok(())) => Ok(()),
            (_, Err(failure)) => {
                self.summary.warn(failure.to_string());
                Ok(())
            }
        }
    }

    /// The other peer has described a track.
    fn listen(&mut self, description: RTCTrackDescription) {
        let ssrc = description.ssrc.clone();
        match self.connection.receive_track(&description) {
            // The same track has been described before.
            Ok(track) if self.tracks.get(&ssrc) == Some(&track) => {}
            Ok(track) => {
                let stream = description.msid.first().map_or("", String::as_str);
                self.progress(&format!("track {ssrc} of stream {stream:?}"));
                self.tracks.insert(ssrc, track.clone());
                self.receive(description, track);
            }
            Err(error @ ReceiveTrackError::NoSupportedCodec(_))
                if self.options.record.is_some() =>
            {
                self.fail(format!("cannot record track {ssrc}: {error}"));
            }
            Err(error) => {
                self.summary.warn(format!("a track of the other peer is left out: {error}"));
            }
        }
    }

    /// Receives a track, and records it as is wished.
    fn receive(&mut self, description: RTCTrackDescription, track: MediaStreamTrack) {
        let stop = self.stop.subscribe();
        let (directory, container) = match (self.options.record.clone(), self.options.record_as) {
            (Some(directory), RecordAs::Streams(container)) => (directory, container),
            (directory, _) => {
                let Some(frames) = track.take_frames() else { return };
                let receiving = Receiving { description, frames, directory };
                self.receiving.spawn(async { vec![receiving.run(stop).await] });
                return;
            }
        };
        let name = description.msid.first().unwrap_or(&description.ssrc).clone();
        // Those whose recordings have ended are not kept.
        self.streams.retain(|_, tracks| !tracks.is_closed());
        let track = match self.streams.get(&name) {
            Some(tracks) => match tracks.send((description, track)) {
                Ok(()) => return,
                Err(refused) => refused.0,
            },
            None => (description, track),
        };
        let (sender, tracks) = mpsc::unbounded_channel();
        let stream = ReceivingStream { name: name.clone(), directory, container, tracks };
        // The receiver is there.
        let _ = sender.send(track);
        self.streams.insert(name, sender);
        self.receiving.spawn(stream.run(stop));
    }

    /// The connection has something to say.
    async fn notice(&mut self, event: Option<RTCEvent>) -> Step {
        match event {
            Some(RTCEvent::Candidate(candidate)) => {
                match self.connection.set_local_candidate(&candidate) {
                    Ok(()) => self.tell(Signal::Candidate(candidate)).await,
                    Err(error) => self.summary.warn(format!("a local candidate: {error}")),
                }
            }
            Some(RTCEvent::CandidateWithdrawn(candidate)) => {
                self.tell(Signal::CandidateWithdrawn(candidate)).await;
            }
            Some(RTCEvent::EndOfCandidates) => self.tell(Signal::EndOfCandidates {}).await,
            Some(RTCEvent::ActiveCandidate { local, remote }) => {
                self.summary.local_candidate = Some(local);
                self.summary.remote_candidate = Some(remote);
            }
            Some(RTCEvent::Connected) => self.connected(),
            Some(RTCEvent::Disconnected(RTCDisconnectReason::PathLost)) => {
                if let Awaiting::End { lost, .. } = &mut self.awaiting {
                    lost.get_or_insert_with(Instant::now);
                    self.summary.warn("the path to the other peer was lost".to_owned());
                }
            }
            // A call has a limit of its own for that.
            Some(RTCEvent::Disconnected(RTCDisconnectReason::NoPath)) => {}
            Some(RTCEvent::Disconnected(RTCDisconnectReason::ClosedByPeer)) => {
                return self.hung_up().await;
            }
            Some(RTCEvent::Disconnected(reason)) => return Err(reason.into()),
            Some(RTCEvent::AddDtmfHandler(handler)) => self.listening.listen(&handler),
            Some(RTCEvent::IceServerFailed { url, reason }) => {
                self.summary.warn(format!("{url}: {reason}"));
            }
            // Streams are known from the descriptions of their tracks.
            Some(_) => {}
            None => return Err(Failure::Closed),
        }
        Ok(None)
    }

    /// The peer has closed the connection. A room says why, on the channel.
    async fn hung_up(&mut self) -> Step {
        if self.is_room()
            && let Some(receiver) = &mut self.receiver
        {
            let last = async {
                loop {
                    if let Incoming::Ended(error) = receiver.receive().await {
                        break error;
                    }
                }
            };
            if let Ok(error) = timeout(LAST_WORD, last).await {
                return Err(error.into());
            }
        }
        Ok(Some(Ending::PeerLeft))
    }

    fn connected(&mut self) {
        let now = Instant::now();
        let began = match &mut self.awaiting {
            Awaiting::End { lost, .. } => {
                *lost = None;
                return;
            }
            Awaiting::Peer => now,
            Awaiting::Connected { since } => *since,
        };
        self.awaiting = Awaiting::End { since: now, lost: None };
        self.stats_due = self.options.stats.map(|lines| now + lines.every);
        self.restart_due = self.options.restart_ice.map(|every| now + every);
        self.summary.connected = true;
        self.summary.connect_ms = Some((now - began).as_secs_f64() * 1000.0);
        for (index, sending) in self.ready.drain(..).enumerate() {
            let stop = self.stop.subscribe();
            self.playing.spawn(async move { (index, sending.run(now, stop).await) });
        }
        self.progress("connected");
    }

    fn note_played(&mut self, played: Result<(usize, Sent), JoinError>) -> Step {
        match played {
            Ok((index, mut sent)) => {
                if let Some(error) = sent.error.take() {
                    self.fail(error.to_string());
                }
                self.unfinished -= usize::from(!sent.is_endless);
                self.played.push((index, sent));
            }
            Err(error) => return Err(Failure::Playing(error)),
        }
        Ok(self.played_out())
    }

    /// The ending of a call that has played all, unless it goes on regardless.
    fn played_out(&self) -> Option<Ending> {
        let is_over = self.unfinished == 0 && self.options.duration.is_none();
        is_over.then_some(Ending::Played)
    }

    /// A key was pressed, or all have been.
    fn note_pressed(&mut self, pressed: Option<char>) -> Step {
        match pressed {
            Some(digit) => {
                self.summary.dtmf_sent.push(digit);
                Ok(None)
            }
            None => {
                self.pressing = None;
                self.unfinished -= 1;
                Ok(self.played_out())
            }
        }
    }

    /// The other peer has pressed a key.
    fn note_heard(&mut self, heard: Heard) {
        let digit = self.listening.note(heard);
        self.progress(&format!("the other peer has pressed {digit}"));
    }

    fn note_received(&mut self, received: Result<Vec<Received>, JoinError>) {
        match received {
            Ok(received) => {
                for mut received in received {
                    if let Some(error) = received.error.take() {
                        self.fail(error.to_string());
                    }
                    if self.received.len() < MAX_TOLD {
                        self.received.push(received);
                    }
                }
            }
            Err(error) => self.fail(format!("receiving has failed: {error}")),
        }
    }

    /// Hangs up, finishes the recordings and sums up.
    async fn end(mut self, ending: Ending) -> Summary {
        let connected = match self.awaiting {
            Awaiting::End { since, .. } => Some(since),
            Awaiting::Peer | Awaiting::Connected { .. } => None,
        };
        self.summary.duration_seconds =
            connected.map_or(0.0, |since| since.elapsed().as_secs_f64());
        self.summary.ended = ending;
        self.stop.send_replace(true);
        while let Some(played) = self.playing.join_next().await {
            // The ending is known by now; what has failed is not.
            if let Err(failure) = self.note_played(played) {
                self.fail(failure.to_string());
            }
        }
        while let Some(received) = self.receiving.join_next().await {
            self.note_received(received);
        }
        self.connection.close();
        if ending != Ending::PeerLeft {
            self.tell(Signal::Bye {}).await;
        }
        if timeout(CLOSE, self.connection.closed()).await.is_err() {
            self.summary.warn("the connection does not let go of everything".to_owned());
        }
        if let Some(sender) = self.sender.take() {
            sender.close().await;
        }

        let unplayed = self.ready.drain(..).map(Sending::unplayed).enumerate();
        self.played.extend(unplayed);
        self.played.sort_by_key(|(index, _)| *index);
        let is_almost_played = self.played.iter().all(|(_, sent)| sent.is_nearly_complete);
        let is_pressed = self.pressing.is_none();
        let mut summary = self.summary;
        summary.dtmf_received = self.listening.summed_up(connected);
        summary.sent = self.played.into_iter().map(|(_, sent)| sent.track).collect();
        summary.received = self.received.into_iter().map(|r| r.summed_up(connected)).collect();
        summary.judge(self.options.duration, is_almost_played && is_pressed);
        summary
    }

    /// Says something to the other peer, unless the channel is gone; its end is heard on its
    /// other half.
    async fn tell(&mut self, signal: Signal) {
        if let Some(sender) = &mut self.sender
            && sender.send(&signal).await.is_err()
        {
            self.sender = None;
        }
    }

    /// Notes what the call could not do. The first such thing is the reason.
    fn fail(&mut self, error: String) {
        match self.summary.error {
            None => self.summary.error = Some(error),
            Some(_) => self.summary.warn(error),
        }
    }

    fn is_room(&self) -> bool {
        self.options.signal.is_room()
    }

    fn progress(&self, text: &str) {
        if self.options.progress {
            // Nobody misses it if stderr is closed.
            let _ = writeln!(std::io::stderr(), "{}: {text}", self.options.signal);
        }
    }
}

async fn press(pressing: &mut Option<Pressing>) -> Option<char> {
    match pressing {
        Some(pressing) => pressing.next().await,
        None => pending().await,
    }
}

async fn receive(receiver: &mut Option<SignalReceiver>) -> Incoming {
    match receiver {
        Some(receiver) => receiver.receive().await,
        None => pending().await,
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
