//! The media of one connection, composed of SRTP, streams and reports.

mod bandwidth;
mod ext_headers;
mod forward;
mod inbound;
mod layers;
mod outbound;
mod prefetch;
mod quality;
mod recovery;
mod retransmit;
mod sending;
mod snapshot;
mod stats;
mod tones;
mod unkeyed;
mod unknown;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use ortc_io::{ConnectionId, SrtpKeys};

use crate::stream::{
    NtpClock, ReceiveStreamStats, ReceiveTimings, Reporter, RtcpScheduler, SendStream,
    SendStreamStats, StreamEvent,
};
use crate::{
    ArrivalFeedback, DEFAULT_EXT_HEADERS_ID, PayloadType, ReceiverConfig, RouteEvent, SenderConfig,
    SrtpError, SrtpReceiver, SrtpSender, Ssrc, ToneRoute,
};
use forward::Upstream;
use inbound::{Parking, Receiver};
use outbound::{Feed, Outbox, Sender};
use quality::Quality;
use retransmit::Resends;
use unknown::Unknown;

pub use forward::{FORWARD_ROOM, ForwardRun, ForwardTarget, MAX_PADDING, OpenedRtp, SourceReport};
pub use quality::{QualityLimitation, QualityLimitations};
pub use retransmit::Retransmission;
pub use snapshot::{DatagramCounts, ReceiverSnapshot, SenderSnapshot, SessionSnapshot};
pub use stats::{ReceiveDrops, RecoveryStats, SendDrops, SessionStats};
pub use unknown::EarlyLimits;

/// What may be chosen about an [`RtpSession`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// When a receiving track is taken to have ended.
    pub timings: ReceiveTimings,
    /// The mean interval of RTCP reports, before it is randomised (RFC 3550 §6.3). Default
    /// 1 s: it is for two peers only, under 0.1 % of a video stream.
    pub report_interval: Duration,
    /// NTP time, 32.32 bits, at the instant the session is made. It only has to be the same
    /// for the sessions of one host that a peer may want to synchronise (RFC 3550 §4); the
    /// default is the beginning of 2026.
    pub ntp_at_start: u64,
    /// What is kept of tracks that nobody has described yet.
    pub early: EarlyLimits,
    /// The id of the header extension element that has the pairs of a track (ORTC drafts,
    /// "rtpExtHeaders"), 1 to 255 and the same on both sides of a connection. Default
    /// [`DEFAULT_EXT_HEADERS_ID`].
    pub ext_headers_id: u8,
}

/// 2026-01-01T00:00:00Z in seconds since 1900.
const BEGINNING_OF_2026: u64 = 3_976_214_400;

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            timings: ReceiveTimings::default(),
            report_interval: Duration::from_secs(1),
            ntp_at_start: BEGINNING_OF_2026 << 32,
            early: EarlyLimits::default(),
            ext_headers_id: DEFAULT_EXT_HEADERS_ID,
        }
    }
}

/// The media of one connection: SRTP, streams and reports over plain datagrams.
///
/// It touches no socket and no clock. Whoever drives it
///
/// 1. gives it what arrives, with [`handle_rtp`](Self::handle_rtp) and
///    [`handle_rtcp`](Self::handle_rtcp);
/// 2. calls [`handle_timeout`](Self::handle_timeout) when
///    [`poll_timeout`](Self::poll_timeout) says so, and, if it is awake anyway, when
///    [`poll_report`](Self::poll_report) does;
/// 3. writes what is to be sent, room by room, with [`next_transmit`](Self::next_transmit)
///    and [`write_transmit`](Self::write_transmit), straight into its own buffers;
/// 4. drains [`poll_event`](Self::poll_event);
/// 5. is told of pushed packets by the waker it has [registered](Self::register).
///
/// Sending allocates nothing per packet; receiving only copies the payload for the
/// application. Senders and receivers are kept in the order of their SSRCs.
#[derive(Debug)]
pub struct RtpSession {
    connection: ConnectionId,
    timings: ReceiveTimings,
    random: fastrand::Rng,
    clock: NtpClock,
    keys: Option<Keys>,
    senders: Vec<Sender>,
    /// Streams of removed senders, oldest first: should one come back under the same key, its
    /// numbers must go on.
    retired: VecDeque<SendStream>,
    receivers: Vec<Receiver>,
    /// Those in several layers, sorted by the SSRC of the track.
    layered: Vec<layers::Layered>,
    sharing: layers::Sharing,
    /// What is sent of all tracks, for whether that is all there is.
    sent_rate: quality::Rate,
    /// SSRCs of what is sent again, each with that of its track; sorted.
    rtx_receivers: Vec<(Ssrc, Ssrc)>,
    resends: Resends,
    /// What is asked for; kept for its memory.
    lost: Vec<u64>,
    /// Of tracks that are yet to be added.
    tone_routes: Vec<(Ssrc, ToneRoute)>,
    parking: Parking,
    /// `None` while all that comes is of tracks that are described.
    unknown: Option<Box<Unknown>>,
    early_limits: EarlyLimits,
    ext_headers_id: u8,
    outbox: Outbox,
    upstream: Upstream,
    congestion: bandwidth::Congestion,
    scheduler: RtcpScheduler,
    reporter: Reporter,
    events: VecDeque<RouteEvent>,
    closed: bool,
    stats: SessionStats,
    datagrams: DatagramCounts,
    authentic: u64,
}

/// Tracks that were sent: the numbers of each are kept with its SSRC, as SRTP keeps its indices.
const MAX_RETIRED: usize = 256;

/// Both directions of SRTP.
#[derive(Debug)]
struct Keys {
    /// Of the master keys, to know the same again: they themselves are of no use any more.
    digest: [u8; 32],
    sender: SrtpSender,
    receiver: SrtpReceiver,
}

impl RtpSession {
    /// Makes a session with the default options.
    ///
    /// `seed` decides its own SSRC, sequence numbers, timestamp offsets and report intervals;
    /// outside of tests it comes from a secure generator.
    pub fn new(connection: ConnectionId, seed: u64, now: Instant) -> Self {
        Self::with_options(connection, seed, now, SessionOptions::default())
    }

    /// Makes a session.
    pub fn with_options(
        connection: ConnectionId,
        seed: u64,
        now: Instant,
        options: SessionOptions,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let scheduler = RtcpScheduler::new(random.u64(..), options.report_interval, now);
        // RFC 7022 §4.2: 96 random bits, until a sender brings the connection's name.
        let cname = format!("{:024x}", random.u128(..1 << 96));
        let reporter = Reporter::new(Ssrc(random.u32(..)), &cname);
        Self {
            connection,
            timings: options.timings,
            random,
            clock: NtpClock::new(now, options.ntp_at_start),
            keys: None,
            senders: Vec::new(),
            retired: VecDeque::new(),
            receivers: Vec::new(),
            layered: Vec::new(),
            sharing: layers::Sharing::default(),
            sent_rate: quality::Rate::default(),
            rtx_receivers: Vec::new(),
            resends: Resends::default(),
            lost: Vec::new(),
            tone_routes: Vec::new(),
            parking: Parking::default(),
            unknown: None,
            early_limits: options.early,
            ext_headers_id: options.ext_headers_id.max(1),
            outbox: Outbox::default(),
            upstream: Upstream::default(),
            congestion: bandwidth::Congestion::default(),
            scheduler,
            reporter,
            events: VecDeque::new(),
            closed: false,
            stats: SessionStats::default(),
            datagrams: DatagramCounts::default(),
            authentic: 0,
        }
    }

    /// The connection it belongs to.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Takes the SRTP keys; what was parked for them is opened now, in its order.
    ///
    /// Other keys than before start replay windows and indices anew; the same again change
    /// nothing, for no index may be used twice. A closed session ignores them.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] when a key or salt has not the length of its profile; the
    /// session keeps the keys it had.
    pub fn set_keys(&mut self, now: Instant, keys: &SrtpKeys) -> Result<(), SrtpError> {
        let digest = digest_of(keys);
        if self.closed || self.keys.as_ref().is_some_and(|had| had.digest == digest) {
            return Ok(());
        }
        self.keys = Some(Keys {
            digest,
            sender: SrtpSender::from_keys(keys)?,
            receiver: SrtpReceiver::from_keys(keys)?,
        });
        self.end_unkeyed(now);
        self.reset_recovery();
        self.open_parked(now);
        Ok(())
    }

    /// Whether keys have been set.
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Adds a track to be sent. One of the same SSRC, even if it was removed, goes on with
    /// the new configuration: its sequence numbers must not repeat under the same key.
    pub fn add_sender(&mut self, now: Instant, config: SenderConfig) {
        let SenderConfig { ssrc, payload_type, clock_rate, cname, packets, enabled } = config;
        let codec = (payload_type, clock_rate);
        self.insert_sender(now, ssrc, codec, &cname, Feed::Ring(packets), enabled);
    }

    /// Adds a sender, or gives the one of the same SSRC another feed.
    fn insert_sender(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        (payload_type, clock_rate): (PayloadType, u32),
        cname: &str,
        feed: Feed,
        enabled: bool,
    ) {
        if self.closed {
            return;
        }
        self.schedule_first(now);
        self.reporter.set_cname(cname);
        let at = match self.senders.binary_search_by_key(&ssrc, Sender::ssrc) {
            Ok(at) => {
                self.senders[at].feed = feed;
                self.senders[at].enabled = enabled;
                self.senders[at].number_id = None;
                self.senders[at].feedback = ArrivalFeedback::None;
                at
            }
            Err(at) => {
                let retired = self.retired.iter().position(|stream| stream.ssrc() == ssrc);
                let stream = retired.and_then(|at| self.retired.remove(at)).unwrap_or_else(|| {
                    let (sequence, offset) = (self.random.u16(..), self.random.u32(..));
                    SendStream::new(ssrc, payload_type, clock_rate, sequence, offset)
                });
                self.senders.reserve_exact(1);
                self.senders.insert(at, Sender::new(stream, feed, enabled));
                at
            }
        };
        let sender = &mut self.senders[at];
        sender.stream.set_codec(payload_type, clock_rate);
        if sender.quality.is_none() {
            sender.quality = Quality::of(now, clock_rate);
        }
    }

    /// Starts or stops sending a track; an SSRC that is none is ignored.
    pub fn enable_sender(&mut self, ssrc: Ssrc, enabled: bool) {
        if let Ok(at) = self.senders.binary_search_by_key(&ssrc, Sender::ssrc) {
            self.senders[at].enable(enabled);
            self.update_cap();
            self.share_layers_anew();
        }
    }

    /// Removes a sending track and queues RTCP BYE for it; an SSRC that is none is ignored.
    pub fn remove_sender(&mut self, now: Instant, ssrc: Ssrc) {
        if let Ok(at) = self.senders.binary_search_by_key(&ssrc, Sender::ssrc) {
            let sender = self.senders.remove(at);
            self.update_cap();
            self.outbox.forget(ssrc);
            self.queue_goodbyes(now, std::slice::from_ref(&sender));
            if self.retired.len() == MAX_RETIRED {
                self.retired.pop_front();
            }
            self.retired.push_back(sender.stream);
        }
    }

    /// Adds a track to be received; one of the same SSRC is replaced. Packets of it that came
    /// before, up to 3 s and what else [`EarlyLimits`] says, are delivered now; if they are not
    /// all that came, a key frame of video is asked for.
    pub fn add_receiver(&mut self, now: Instant, config: ReceiverConfig) {
        if self.closed {
            return;
        }
        self.schedule_first(now);
        let ssrc = config.ssrc;
        let mut receiver = Receiver::new(config, self.timings);
        self.route_tones(&mut receiver);
        match self.receivers.binary_search_by_key(&ssrc, Receiver::ssrc) {
            Ok(at) => self.receivers[at] = receiver,
            Err(at) => {
                self.receivers.reserve_exact(1);
                self.receivers.insert(at, receiver);
            }
        }
        self.deliver_early(now, ssrc);
    }

    /// Removes a receiving track, and drops what still comes of it; an SSRC that is none is
    /// ignored.
    pub fn remove_receiver(&mut self, ssrc: Ssrc) {
        self.remove_encodings(ssrc);
        self.forget_recovery(ssrc);
        if let Ok(at) = self.receivers.binary_search_by_key(&ssrc, Receiver::ssrc) {
            self.receivers.remove(at);
            self.let_go(ssrc);
        }
    }

    /// Queues RTCP BYE for every sender, lets go of all tracks and ignores what comes.
    ///
    /// [`RouteEvent::Closed`] is the last event. Fetch what is to be sent once more, then
    /// drop the session and the keys with it.
    pub fn close(&mut self, now: Instant) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let leaving = std::mem::take(&mut self.senders);
        self.outbox.clear();
        self.queue_goodbyes(now, &leaving);
        self.retired.clear();
        self.receivers.clear();
        self.layered.clear();
        self.rtx_receivers.clear();
        self.resends.clear();
        self.tone_routes.clear();
        self.congestion.clear();
        self.parking = Parking::default();
        self.unknown = None;
        self.events.push_back(RouteEvent::Closed(self.connection));
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Has `waker` woken at the next packet that is pushed for any sender. Fetch with
    /// [`next_transmit`](Self::next_transmit) *after* registering.
    pub fn register(&self, waker: &Waker) {
        for sender in &self.senders {
            sender.feed.register(waker);
            if let Some(tones) = &sender.tones {
                tones.packets.register(waker);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.closed {
            return None;
        }
        // Those of many sessions together cost one wake-up.
        let report = self.poll_report().map(|at| (self.clock.next_tick(at), "a report is due"));
        self.receivers
            .iter()
            .filter_map(|receiver| receiver.stream.poll_timeout())
            .chain(report)
            .chain(self.receivers.iter().filter_map(|receiver| receiver.key_frames.poll_timeout()))
            .chain(self.senders.iter().filter_map(|sender| sender.key_frames.poll_timeout()))
            .chain(self.recovery_timeout())
            .chain(self.parking.poll_timeout())
            .chain(self.unknown_timeout())
            .chain(self.poll_congestion())
            .min_by_key(|(at, _)| *at)
    }

    /// When the next report is due, if there is anything to report.
    ///
    /// It is worth no wake-up of its own: it can wait for the moment that
    /// [`poll_timeout`](Self::poll_timeout) says, at most 31 ms later. Who is awake before that
    /// calls [`handle_timeout`](Self::handle_timeout) then, and is spared the wake-up.
    pub fn poll_report(&self) -> Option<Instant> {
        let has_tracks = !(self.senders.is_empty() && self.receivers.is_empty());
        (!self.closed && has_tracks && self.keys.is_some()).then(|| self.scheduler.next())
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.stats.receive_drops.parked += self.parking.expire(now);
        self.expire_unknown(now);
        for at in 0..self.receivers.len() {
            let event = self.receivers[at].stream.handle_timeout(now);
            self.raise(at, event);
        }
        self.ask_for_lost(now);
        self.request_due_key_frames(now);
        self.queue_congestion_feedback(now);
        self.tell_of_due_key_frames(now);
        if self.keys.is_some() && self.scheduler.is_due(now) {
            self.queue_reports(now);
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<RouteEvent> {
        self.events.pop_front()
    }

    /// What has been counted.
    pub fn stats(&self) -> &SessionStats {
        &self.stats
    }

    /// What a sending track has counted; `None` if there is none of this SSRC.
    pub fn sender_stats(&self, ssrc: Ssrc) -> Option<SendStreamStats> {
        let at = self.senders.binary_search_by_key(&ssrc, Sender::ssrc).ok()?;
        Some(*self.senders[at].stream.stats())
    }

    /// What a receiving track has counted; `None` if there is none of this SSRC.
    pub fn receiver_stats(&self, ssrc: Ssrc) -> Option<ReceiveStreamStats> {
        let at = self.receivers.binary_search_by_key(&ssrc, Receiver::ssrc).ok()?;
        Some(self.receivers[at].stream.stats())
    }

    /// The first track starts the schedule of reports; before there was nothing to say.
    fn schedule_first(&mut self, now: Instant) {
        if self.senders.is_empty() && self.receivers.is_empty() {
            self.scheduler.restart(now);
        }
    }

    /// Queues what has happened to the receiving track, or one encoding of it, at this place.
    fn raise(&mut self, at: usize, event: Option<StreamEvent>) {
        if event.is_none() {
            return;
        }
        let (ssrc, event) = match self.receivers[at].layer {
            Some(layer) => (layer.0, self.merge_events(layer, event)),
            None => (self.receivers[at].ssrc(), event),
        };
        let connection = self.connection;
        self.events.extend(event.map(|event| match event {
            StreamEvent::Connected => RouteEvent::ReceiverConnected(connection, ssrc),
            StreamEvent::Disconnected(reason) => {
                RouteEvent::ReceiverDisconnected(connection, ssrc, reason)
            }
        }));
    }
}

/// Tells master keys from others: SHA-256 of all there is to them, each of the length that its
/// profile has.
fn digest_of(keys: &SrtpKeys) -> [u8; 32] {
    let SrtpKeys { profile, local_key, local_salt, remote_key, remote_salt } = keys;
    let mut context = Context::new(&SHA256);
    context.update(&[*profile as u8]);
    for part in [local_key, local_salt, remote_key, remote_salt] {
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
