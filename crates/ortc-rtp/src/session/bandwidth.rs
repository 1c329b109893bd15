//! Congestion control of a connection: numbers that are common to all its tracks, feedback about
//! them both ways, the estimate, and the pace.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ortc_io::prefetch;

use super::RtpSession;
use super::inbound::Receiver;
use super::outbound::{Feed, Sender};
use super::sending::Sending;
use crate::congestion::{
    ArrivalLog, BandwidthLimits, CongestionFeedback, PacketResult, ReceiveEstimator, Remb,
    StreamArrivals, TransportFeedback,
};
use crate::stream::PICTURE_CLOCK;
use crate::view::{FIXED_HEADER, NUMBER_ROOM, PADDED, u16_at};
use crate::{
    ArrivalFeedback, Extension, RouteEvent, RtcpPacket, RtpHeader, RtpView, SrtpError, Ssrc,
};

/// What a datagram has around it on most networks: the headers of IPv4 and UDP.
pub(super) const DATAGRAM_OVERHEAD: usize = 28;

/// Longest padding that there is (RFC 3550 §5.1: its length is one byte).
const PADDING: u8 = 255;

/// What waits to be sent may wait for so long; packets of pictures usually have so many bits.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
const USUAL_BITS: f64 = 8.0 * 1_200.0;

/// Congestion control of one connection. It has no memory of its own until something is sent or
/// received with a number.
#[derive(Debug, Default)]
pub(super) struct Congestion {
    pub(super) limits: BandwidthLimits,
    /// The sum of the caps of all tracks that are numbered, if all have one.
    cap: Option<u64>,
    sending: Option<Box<Sending>>,
    arrivals: Option<Box<ArrivalLog>>,
    stream_arrivals: Option<Box<StreamArrivals>>,
    receive_side: Option<Box<ReceiveEstimator>>,
    /// Whether a ring has packets that may not be sent yet.
    is_held: bool,
}

thread_local! {
    /// What one message of feedback says. Each connection of a thread uses the same memory, which is
    /// in the caches then.
    static RESULTS: Cell<Vec<PacketResult>> = const { Cell::new(Vec::new()) };
}

impl Congestion {
    #[inline]
    fn sending(&mut self, now: Instant) -> &mut Sending {
        let (limits, cap) = (self.limits, self.cap);
        self.sending.get_or_insert_with(|| Sending::begin(now, limits, cap))
    }

    /// The number of the next packet that is sent with one.
    #[inline]
    pub(super) fn next_number(&mut self, now: Instant) -> u16 {
        self.sending(now).history.next_number()
    }

    /// Notes a packet that is sent, with the next number if it has one; `len` is that of the
    /// datagram.
    #[inline]
    pub(super) fn on_sent(&mut self, now: Instant, counted: Counted, of: (Ssrc, u16), len: usize) {
        if let Some(sending) = self.noting(now, counted) {
            sending.note(now, counted, of, len);
        }
    }

    /// What notes packets that count like that; none where they do not count at all.
    #[inline]
    pub(super) fn noting(&mut self, now: Instant, counted: Counted) -> Option<&mut Sending> {
        (counted != Counted::No).then(|| self.sending(now))
    }

    /// Whether nothing has been sent yet that counts.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.sending.is_none()
    }

    /// What has been sent, with all that is to be decided by it.
    fn settled(&mut self) -> Option<&mut Sending> {
        let sending = self.sending.as_deref_mut()?;
        sending.settle();
        Some(sending)
    }

    /// Has the processor fetch where that is which notes packets.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(&self.sending);
    }

    /// Has the processor fetch what noting a packet looks at.
    pub(super) fn prefetch_sending(&self) {
        if let Some(sending) = &self.sending {
            prefetch(&sending.history);
            prefetch(&sending.may_probe);
        }
    }

    /// And then what that refers to.
    pub(super) fn prefetch_sent(&self) {
        if let Some(sending) = &self.sending {
            sending.history.prefetch();
        }
    }

    /// Whether something waits for its time, or a probe is to be made: feedback changes when.
    pub(super) fn is_pacing(&self) -> bool {
        self.is_held || self.sending.as_ref().is_some_and(|sending| sending.may_probe)
    }

    /// Has the processor fetch where feedback finds what it looks at.
    pub(super) fn prefetch_estimator(&self) {
        if let Some(sending) = &self.sending {
            prefetch::<Sending>(sending);
        }
    }

    /// Has the processor fetch what feedback looks at beside that.
    pub(super) fn prefetch_feedback(&self) {
        if let Some(sending) = &self.sending {
            sending.history.prefetch_unacknowledged();
            sending.estimator.prefetch();
        }
    }

    /// Notes a packet that is sent again, if it was sealed, and if it is numbered.
    pub(super) fn on_resent(
        &mut self,
        now: Instant,
        counted: Counted,
        ssrc: Ssrc,
        packet: &[u8],
        sealed: &Result<usize, SrtpError>,
    ) {
        if let Ok(len) = sealed {
            self.on_sent(now, counted, (ssrc, u16_at(packet, 2)), *len);
        }
    }

    /// Whether packets that can wait have to wait now. Before the peer has said anything there is
    /// nothing to wait for.
    fn holds(&mut self, now: Instant) -> bool {
        match self.settled() {
            Some(sending) if sending.estimator.is_informed() => sending.pacer.next_at(now) > now,
            _ => false,
        }
    }

    /// Lets go of what was learnt: what comes is of another path, or nothing comes any more.
    pub(super) fn clear(&mut self) {
        *self = Self { limits: self.limits, ..Self::default() };
    }
}

/// What was written, if anything was due.
fn compound(write_due: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<Vec<u8>> {
    let mut compound = Vec::new();
    write_due(&mut compound).then_some(compound)
}

/// How the packets of a sending track count in the estimate of what may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Not at all: nobody says anything about them.
    No,
    /// They are sent in their time, and that is all: the peer names a rate.
    Paced,
    /// The peer says what became of each of them.
    Acknowledged,
}

impl Counted {
    /// Those of a track with that.
    pub(super) fn of(number_id: Option<u8>, feedback: ArrivalFeedback) -> Self {
        match (number_id, feedback) {
            (Some(_), _) | (None, ArrivalFeedback::PerStream) => Self::Acknowledged,
            (None, ArrivalFeedback::MaximumBitrate) => Self::Paced,
            (None, ArrivalFeedback::None) => Self::No,
        }
    }
}

impl Sender {
    /// How its packets count.
    pub(super) fn counted(&self) -> Counted {
        Counted::of(self.number_id, self.feedback)
    }

    /// Whether one of several layers is sent.
    pub(super) fn is_selected(&self) -> bool {
        matches!(&self.feed, Feed::Forward(forward) if forward.selector.is_some())
    }

    /// Whether its packets wait for their time: those of pictures come in bursts that are worth it,
    /// and sound goes at once.
    pub(super) fn is_paced(&self) -> bool {
        self.counted() != Counted::No
            && self.stream.clock_rate() == PICTURE_CLOCK
            && matches!(self.feed, Feed::Ring(_))
    }
}

impl RtpSession {
    /// Sets what the estimate of what may be sent begins with and stays within; it begins anew.
    pub fn limit_bandwidth(&mut self, limits: BandwidthLimits) {
        self.congestion.limits = limits;
        if let Some(sending) = &mut self.congestion.sending {
            sending.estimator.set_limits(limits);
        }
    }

    /// Has packets of a sending track numbered, in the header extension of this id, with those of
    /// all other tracks that are, and feedback about them acted upon; or not, without an id. An
    /// SSRC that is none is ignored.
    pub fn number_sent(&mut self, ssrc: Ssrc, id: Option<u8>) {
        if let Some(sender) = self.sender_mut(ssrc) {
            sender.number_id = id.filter(|id| *id > 0);
            self.update_cap();
        }
    }

    /// Has the numbers of a receiving track's packets, in the header extension of this id,
    /// answered with transport-wide feedback; or not, without an id. An SSRC that is none is
    /// ignored.
    pub fn acknowledge_numbers(&mut self, ssrc: Ssrc, id: Option<u8>) {
        for ssrc in self.encodings_of(ssrc).chain([ssrc]) {
            if let Some(receiver) = self.receiver_mut(ssrc) {
                receiver.number_id = id.filter(|id| *id > 0);
            }
        }
    }

    /// Has this feedback about the packets of a sending track acted upon, where they are not
    /// numbered. An SSRC that is none is ignored.
    pub fn count_sent(&mut self, ssrc: Ssrc, feedback: ArrivalFeedback) {
        if let Some(sender) = self.sender_mut(ssrc) {
            sender.feedback = feedback;
            self.update_cap();
        }
    }

    /// Gives this feedback about the packets of a receiving track, where no numbers of theirs are
    /// answered. An SSRC that is none is ignored.
    pub fn acknowledge_arrivals(&mut self, ssrc: Ssrc, feedback: ArrivalFeedback) {
        if let Some(receiver) = self.receiver_mut(ssrc) {
            receiver.feedback = feedback;
        }
    }

    /// Caps what is to be sent of a sending track, in bits per second; an SSRC that is none is
    /// ignored. Where all tracks that are numbered have a cap, no more than their sum is probed
    /// for, or told to be there.
    pub fn cap_sender(&mut self, ssrc: Ssrc, max_bitrate: Option<u64>) {
        if let Some(sender) = self.sender_mut(ssrc) {
            sender.max_bitrate = max_bitrate;
            self.update_cap();
            self.share_layers_anew();
        }
    }

    /// Has the estimate keep within the caps of the tracks there are.
    pub(super) fn update_cap(&mut self) {
        let counts = |it: &&Sender| it.counted() != Counted::No && it.enabled;
        let numbered = self.senders.iter().filter(counts);
        let cap = numbered
            // The cap of one in several layers says which of them is sent, and not what there is.
            .map(|sender| sender.max_bitrate.filter(|_| !sender.is_selected()))
            .try_fold(0u64, |sum, cap| Some(sum.saturating_add(cap?)))
            .filter(|cap| *cap > 0);
        self.congestion.cap = cap;
        if let Some(sending) = &mut self.congestion.sending {
            sending.estimator.set_cap(cap);
        }
    }

    /// What may be sent, in bits per second, all tracks together; `None` before the peer has said
    /// anything about what has come.
    pub fn available_outgoing_bitrate(&self) -> Option<u64> {
        let sending = self.congestion.sending.as_ref()?;
        sending.estimator.is_informed().then(|| sending.estimator.target())
    }

    /// What may be sent for longer than a moment; `None` as above.
    pub(super) fn estimated_bitrate(&self) -> Option<u64> {
        let sending = self.congestion.sending.as_ref()?;
        sending.estimator.is_informed().then(|| sending.estimator.estimate())
    }

    /// Whether it is the application that what may be sent ends with, and not what gets through.
    pub(super) fn is_estimate_capped(&self) -> bool {
        self.congestion.sending.as_ref().is_some_and(|sending| sending.estimator.is_capped())
    }

    /// Notes a packet that has come, of a track or of what is sent again of one, if there is to be
    /// feedback about it.
    pub(super) fn note_arrival(&mut self, now: Instant, ssrc: Ssrc, packet: &[u8]) {
        let known = self.receivers.binary_search_by_key(&ssrc, Receiver::ssrc);
        let receiver = known.ok().map(|at| &self.receivers[at]).or_else(|| {
            let (_, original) = self.rtx_receivers.iter().find(|(rtx, _)| *rtx == ssrc)?;
            let at = self.receivers.binary_search_by_key(original, Receiver::ssrc).ok()?;
            Some(&self.receivers[at])
        });
        let Some(receiver) = receiver else { return };
        let (number_id, feedback) = (receiver.number_id, receiver.feedback);
        if number_id.is_none() && feedback == ArrivalFeedback::None {
            return;
        }
        let Ok(view) = RtpView::parse(packet) else { return };
        let len = packet.len() + DATAGRAM_OVERHEAD;
        let Some(id) = number_id else {
            let clock_rate = receiver.stream.clock_rate_of(view.payload_type());
            return self.note_unnumbered(now, feedback, &view, clock_rate, len);
        };
        let mut elements = view.extensions().map_while(Result::ok);
        let Some(number) = elements.find(|element| element.id == id) else { return };
        let Ok(number) = <[u8; 2]>::try_from(number.data) else { return };
        let arrivals = self.congestion.arrivals.get_or_insert_default();
        arrivals.on_packet(now, u16::from_be_bytes(number), ssrc, len);
    }

    /// What the peer may send, in bits per second, if that is found out here: of a peer that acts
    /// upon nothing better than REMB.
    pub fn available_incoming_bitrate(&self) -> Option<u64> {
        self.congestion.receive_side.as_ref()?.bits_per_second()
    }

    fn note_unnumbered(
        &mut self,
        now: Instant,
        feedback: ArrivalFeedback,
        view: &RtpView<'_>,
        clock_rate: Option<u32>,
        len: usize,
    ) {
        let congestion = &mut self.congestion;
        match feedback {
            ArrivalFeedback::None => {}
            ArrivalFeedback::PerStream => {
                let arrivals = congestion.stream_arrivals.get_or_insert_default();
                arrivals.on_packet(now, view.ssrc(), view.sequence(), len);
            }
            ArrivalFeedback::MaximumBitrate => {
                let new = || Box::new(ReceiveEstimator::new(now));
                let estimator = congestion.receive_side.get_or_insert_with(new);
                let timestamp = clock_rate.map(|clock_rate| (view.timestamp(), clock_rate));
                estimator.on_packet(now, view.ssrc(), timestamp, len);
            }
        }
    }

    /// Takes feedback that is about congestion; whether it is.
    pub(super) fn on_congestion_feedback(&mut self, now: Instant, packet: &RtcpPacket<'_>) -> bool {
        let Some(sending) = self.congestion.settled() else { return false };
        let Sending { history, estimator, pacer, .. } = sending;
        let mut results = RESULTS.take();
        results.clear();
        if let Some(feedback) = TransportFeedback::parse(packet) {
            match feedback {
                Ok(feedback) => {
                    history.on_feedback(now, &feedback, |it| it.add_to(&mut results));
                }
                Err(error) => self.stats.receive_drops.count_malformed(error),
            }
        } else if let Some(feedback) = CongestionFeedback::parse(packet) {
            match feedback {
                Ok(feedback) => {
                    history.on_congestion_feedback(now, &feedback, |it| results.push(it));
                    // It is stream by stream.
                    results.sort_unstable_by_key(|it| it.number);
                    results.dedup_by(|next, last| last.join(next));
                }
                Err(error) => self.stats.receive_drops.count_malformed(error),
            }
        } else if let Some(remb) = Remb::parse(packet) {
            estimator.on_remb(remb.bits_per_second);
        } else {
            RESULTS.set(results);
            return false;
        }
        estimator.on_feedback(now, &results, history.in_flight());
        RESULTS.set(results);
        pacer.set_rate(now, estimator.pacing_rate());
        while let Some(cluster) = sending.estimator.poll_probe() {
            sending.push_probe(now, cluster);
        }
        self.tell_bandwidth(now);
        true
    }

    fn tell_bandwidth(&mut self, now: Instant) {
        let Some(sending) = &mut self.congestion.sending else { return };
        if let Some(bits_per_second) = sending.estimator.poll_change(now) {
            self.events.push_back(RouteEvent::BandwidthChanged(self.connection, bits_per_second));
        }
        self.share_layers(now);
        self.judge_own(now);
    }

    /// When feedback is due, or what waits may be sent.
    pub(super) fn poll_congestion(&self) -> Option<(Instant, &'static str)> {
        let Congestion { sending, arrivals, stream_arrivals, receive_side, is_held, .. } =
            &self.congestion;
        let feedback = arrivals.as_ref().and_then(|arrivals| arrivals.poll_timeout());
        let of_streams = stream_arrivals.as_ref().and_then(|arrivals| arrivals.poll_timeout());
        let rate = receive_side.as_ref().and_then(|estimator| estimator.poll_timeout());
        let feedback = [feedback, of_streams, rate].into_iter().flatten();
        // Before there are keys nothing can be said.
        let feedback = feedback.filter(|_| self.keys.is_some());
        let pace = sending.as_ref().filter(|sending| *is_held || sending.pacer.is_probing());
        let pace = pace.map(|sending| (sending.pacer.wakes_at(), "what waits may be sent"));
        feedback.chain(pace).min_by_key(|(at, _)| *at)
    }

    /// Queues feedback that is due.
    pub(super) fn queue_congestion_feedback(&mut self, now: Instant) {
        if let Some(sending) = self.congestion.settled() {
            // It is not to ask for the same moment again, even if nothing can be sent.
            sending.pacer.next_at(now);
        }
        if self.keys.is_none() {
            return;
        }
        let sender = self.reporter.ssrc();
        let ntp = (self.clock.ntp(now) >> 16) as u32;
        let Congestion { arrivals, stream_arrivals, receive_side, .. } = &mut self.congestion;
        let by_number = arrivals.as_mut();
        let by_stream = stream_arrivals.as_mut();
        let rate = receive_side.as_mut();
        let due = [
            by_number.and_then(|it| compound(|out| it.write_due(now, sender, out))),
            by_stream.and_then(|it| compound(|out| it.write_due(now, ntp, sender, out))),
            rate.and_then(|it| compound(|out| it.write_due(now, sender, out))),
        ];
        self.queue(due.into_iter().flatten().collect());
        self.tell_bandwidth(now);
    }

    /// Whether what can wait has to wait now; asked once for each packet that is readied.
    pub(super) fn holds_pictures(&mut self, now: Instant) -> bool {
        let waits = |sender: &Sender| sender.is_paced() && sender.feed.waiting() > 0;
        if !self.congestion.is_held && !self.senders.iter().any(waits) {
            return false;
        }
        if std::mem::take(&mut self.congestion.is_held)
            && let Some(sending) = self.congestion.settled()
        {
            // An application that sends more than it is told to does not fill its ring for ever.
            let paced = self.senders.iter().filter(|sender| sender.is_paced());
            let waiting: usize = paced.map(|sender| sender.feed.waiting()).sum();
            let needed = (waiting as f64 * USUAL_BITS / LONGEST_WAIT.as_secs_f64()) as u64;
            let rate = sending.estimator.pacing_rate().max(needed);
            sending.pacer.set_rate(now, rate);
        }
        self.congestion.holds(now)
    }

    /// Notes that nothing waits any more.
    pub(super) fn hold_nothing(&mut self) {
        self.congestion.is_held = false;
    }

    /// Notes that a ring was passed over for its packets have to wait.
    pub(super) fn hold(&mut self) {
        self.congestion.is_held = true;
    }

    /// The sending track that padding of a probe goes with, if there is to be one now: one whose
    /// packets are sent again on a stream of their own, on that; else one that is between two
    /// pictures.
    pub(super) fn padding_target(&mut self, now: Instant) -> Option<Ssrc> {
        let sending = self.congestion.sending.as_deref_mut().filter(|sending| sending.may_probe)?;
        sending.settle();
        if !sending.pacer.wants_padding(now) {
            return None;
        }
        let takes = |sender: &&Sender| sender.enabled && sender.takes_padding();
        self.senders.iter().find(takes).map(Sender::ssrc)
    }

    /// Room that a packet of padding takes, without what sealing adds.
    pub(super) const fn padding_room() -> usize {
        FIXED_HEADER + NUMBER_ROOM + PADDING as usize
    }

    /// Writes a packet of nothing but padding and seals it; returns its length.
    pub(super) fn write_padding(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        out: &mut [u8],
    ) -> Option<usize> {
        let keys = self.keys.as_mut()?;
        let at = self.senders.binary_search_by_key(&ssrc, Sender::ssrc).ok()?;
        let sender = &mut self.senders[at];
        let counted = sender.counted();
        let id = sender.number_id;
        let rtx = sender.retransmitter.as_ref().and_then(|it| it.padding_stream());
        let header = match rtx {
            Some((rtx, payload_type)) => {
                let sequence = sender.stream.next_rtx_index(rtx) as u16;
                RtpHeader { ssrc: rtx, payload_type, sequence, ..sender.stream.padding_header() }
            }
            None => {
                if let Feed::Forward(forward) = &mut sender.feed {
                    forward.pad(&sender.stream);
                }
                sender.stream.next_padding()
            }
        };
        let number = id.map(|id| (id, self.congestion.next_number(now).to_be_bytes()));
        let mut bytes = [0; FIXED_HEADER + NUMBER_ROOM];
        let element = number.as_ref().map(|(id, data)| Extension { id: *id, data });
        let len = RtpHeader { extensions: element.as_slice(), ..header }.write(&mut bytes).ok()?;
        bytes[0] |= PADDED;
        let mut padding = [0; PADDING as usize];
        padding[PADDING as usize - 1] = PADDING;
        match keys.sender.protect_rtp_from(&bytes[..len], &padding, out) {
            Ok(len) => {
                self.congestion.on_sent(now, counted, (header.ssrc, header.sequence), len);
                self.stats.padding_sent += 1;
                self.datagrams.count_sent(len);
                sender.stream.note_header(len - keys.sender.overhead());
                Some(len)
            }
            Err(error) => {
                tracing::debug!(ssrc = ssrc.0, %error, "padding is not sealed");
                self.stats.send_drops.not_sealed += 1;
                None
            }
        }
    }
}

impl Sender {
    /// Whether padding may be sent with it now.
    fn takes_padding(&self) -> bool {
        let has_rtx = self.retransmitter.as_ref().is_some_and(|it| it.padding_stream().is_some());
        self.counted() == Counted::Acknowledged
            && self.stream.clock_rate() == PICTURE_CLOCK
            && self.stream.newest().is_some()
            && (has_rtx || self.stream.is_between_pictures())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use ortc_io::ring::{RingSender, ring};
    use ortc_io::{ConnectionId, SrtpKeys, SrtpProfile};

    use super::*;
    use crate::{OutgoingPacket, PayloadType, ReceiverConfig, SenderConfig};

    const TRACK: Ssrc = Ssrc(0x1111);
    const VP8: PayloadType = PayloadType(96);
    const ID: ConnectionId = ConnectionId { slot: 3, generation: 1 };
    const NUMBER_ID: u8 = 3;

    /// Two sessions with a link in between that has a rate one way, in steps of a millisecond.
    struct Pair {
        start: Instant,
        now: Instant,
        a: RtpSession,
        b: RtpSession,
        frames: RingSender<OutgoingPacket>,
        /// Bits a millisecond, and what is left of it.
        rate: f64,
        credit: f64,
        queue: VecDeque<Vec<u8>>,
        received: u64,
        told: Vec<u64>,
        /// Messages that left nothing to do, and all others.
        idle: u64,
        busy: u64,
    }

    impl Pair {
        fn new(rate_bps: f64, numbered: bool) -> Self {
            let now = Instant::now();
            let (mut a, mut b) = (RtpSession::new(ID, 1, now), RtpSession::new(ID, 2, now));
            let material: Vec<u8> = (0..56).collect();
            for (session, is_client) in [(&mut a, true), (&mut b, false)] {
                let profile = SrtpProfile::AeadAes128Gcm;
                let keys = SrtpKeys::from_exported(profile, &material, is_client).unwrap();
                session.set_keys(now, &keys).unwrap();
            }
            let (frames, packets) = ring(512);
            a.add_sender(
                now,
                SenderConfig {
                    ssrc: TRACK,
                    payload_type: VP8,
                    clock_rate: 90_000,
                    cname: "a".to_owned(),
                    packets,
                    enabled: true,
                },
            );
            let (packets, _) = ring(1);
            let payload_types = vec![(VP8, 90_000)];
            b.add_receiver(now, ReceiverConfig { ssrc: TRACK, payload_types, packets });
            if numbered {
                a.number_sent(TRACK, Some(NUMBER_ID));
                b.acknowledge_numbers(TRACK, Some(NUMBER_ID));
            }
            let (rate, credit) = (rate_bps / 1e3, 0.0);
            let queue = VecDeque::new();
            let told = Vec::new();
            let (received, idle, busy) = (0, 0, 0);
            Self { start: now, now, a, b, frames, rate, credit, queue, received, told, idle, busy }
        }

        /// Sends pictures of this rate in all, at 30 a second, for so many seconds.
        fn run(&mut self, seconds: u64, wants: impl Fn(&RtpSession) -> u64) {
            for _ in 0..seconds * 1_000 {
                let ms = (self.now - self.start).as_millis() as u64;
                if ms.is_multiple_of(33) {
                    self.frame(ms, wants(&self.a) as usize / 30 / 8);
                }
                self.turn();
                self.now += Duration::from_millis(1);
            }
        }

        fn frame(&mut self, ms: u64, bytes: usize) {
            let count = bytes.div_ceil(1_200).max(1);
            for n in 1..=count {
                let payload = Bytes::from(vec![7; (bytes / count).max(1)]);
                let packet = OutgoingPacket { payload, timestamp: 90 * ms, marker: n == count };
                let _ = self.frames.push(packet);
            }
        }

        fn turn(&mut self) {
            let now = self.now;
            for session in [&mut self.a, &mut self.b] {
                if session.poll_timeout().is_some_and(|(at, _)| at <= now) {
                    session.handle_timeout(now);
                }
            }
            self.queue.extend(transmits(&mut self.a, now));
            self.credit = if self.queue.is_empty() { 0.0 } else { self.credit + self.rate };
            while let Some(first) = self.queue.front()
                && self.credit >= 8.0 * first.len() as f64
            {
                self.credit -= 8.0 * first.len() as f64;
                let mut datagram = self.queue.pop_front().unwrap();
                self.received += datagram.len() as u64;
                self.b.handle_datagram(now, &mut datagram);
            }
            for mut datagram in transmits(&mut self.b, now) {
                self.answer(&mut datagram);
            }
            while let Some(event) = self.a.poll_event() {
                if let RouteEvent::BandwidthChanged(ID, bits) = event {
                    self.told.push(bits);
                }
            }
        }
    }

    impl Pair {
        /// Has the sending side take RTCP, which leaves it nothing to do if that is said.
        fn answer(&mut self, datagram: &mut [u8]) {
            let due = self.a.poll_timeout();
            if self.a.handle_rtcp(self.now, datagram) {
                self.busy += 1;
                return;
            }
            self.idle += 1;
            assert_eq!(self.a.poll_event(), None);
            assert_eq!(self.a.next_transmit(self.now), None);
            let at = |due: Option<(Instant, &str)>| due.map(|(at, _)| at);
            let (due, now) = (at(due), at(self.a.poll_timeout()));
            assert!(now.is_none() || now >= due && due.is_some(), "{now:?} is before {due:?}");
        }
    }

    fn transmits(session: &mut RtpSession, now: Instant) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while let Some(room) = session.next_transmit(now) {
            let mut out = vec![0; room];
            let len = session.write_transmit(now, &mut out).expect("what was readied is written");
            out.truncate(len);
            datagrams.push(out);
        }
        datagrams
    }

    #[test]
    fn what_is_told_is_what_the_link_takes() {
        let mut pair = Pair::new(2e6, true);
        let wants = |a: &RtpSession| a.available_outgoing_bitrate().unwrap_or(300_000) * 9 / 10;
        pair.run(20, wants);
        let told = pair.told.last().copied().unwrap();
        assert!((1_200_000..2_600_000).contains(&told), "{told}");
        let (before, times) = (pair.received, pair.told.len());
        pair.run(10, wants);
        let rate = (pair.received - before) * 8 / 10;
        assert!(rate > 1_200_000, "{rate}");
        assert!(pair.told.len() - times <= 25, "it is not told all the time");
        let (idle, busy) = (pair.idle, pair.busy);
        assert!(idle > 50 && busy > 5, "{idle} messages leave nothing to do, and {busy} do");
        assert_eq!(pair.a.stats().feedback_ignored, 0);
    }

    #[test]
    fn a_thin_stream_is_probed_with_padding_that_harms_nothing() {
        let mut pair = Pair::new(3e6, true);
        pair.run(15, |_| 100_000);
        let told = pair.told.last().copied().unwrap();
        assert!(told > 1_000_000, "{told}");
        assert!(pair.a.stats().padding_sent > 20);
        let stats = pair.a.stats();
        let sent = stats.rtp_sent + stats.rtcp_sent + stats.padding_sent;
        assert_eq!(pair.a.datagrams().sent, sent, "padding is on the wire like anything else");
        let stats = pair.b.receiver_stats(TRACK).unwrap();
        assert_eq!(pair.b.stats().receive_drops.malformed, 0);
        assert_eq!(pair.a.sender_stats(TRACK).unwrap().packets, stats.packets);
    }

    #[test]
    fn a_burst_of_who_has_sent_little_says_what_the_link_takes() {
        for rate in [600_000, 800_000] {
            let mut pair = Pair::new(rate as f64, true);
            pair.run(3, |_| 100_000);
            let known = pair.told.len();
            // A key frame, and more to come than before; it makes a queue for a moment.
            pair.frame(3_000, 4_400);
            pair.run(12, |_| 390_000);
            let least = pair.told[known..].iter().min().copied().unwrap();
            assert!(least > rate / 2, "{least} of {rate}");
        }
    }

    #[test]
    fn a_cap_is_neither_told_nor_probed_beyond() {
        let mut pair = Pair::new(3e6, true);
        pair.a.cap_sender(TRACK, Some(500_000));
        pair.run(15, |_| 100_000);
        assert_eq!(pair.told.iter().max().copied(), Some(500_000));
    }

    #[test]
    fn without_numbers_there_is_no_memory_no_feedback_and_no_waiting() {
        let mut pair = Pair::new(3e6, false);
        pair.run(5, |_| 2_000_000);
        assert_eq!((pair.told.len(), pair.a.available_outgoing_bitrate()), (0, None));
        assert!(pair.a.congestion.sending.is_none() && pair.b.congestion.arrivals.is_none());
        let mut silent = Pair::new(3e6, true);
        silent.b.acknowledge_numbers(TRACK, None);
        silent.run(5, |_| 2_000_000);
        assert_eq!(silent.a.available_outgoing_bitrate(), None);
        assert!(silent.received >= pair.received, "nothing is held back without feedback");
    }

    #[test]
    fn an_application_that_does_not_listen_is_not_held_back_for_ever() {
        let mut pair = Pair::new(1e9, true);
        pair.a.limit_bandwidth(BandwidthLimits { start: 300_000, min: 30_000, max: 300_000 });
        pair.run(10, |_| 2_000_000);
        let rate = pair.received * 8 / 10;
        assert!(rate > 1_900_000, "{rate}");
        assert_eq!(pair.told.iter().max().copied(), Some(300_000));
        let waiting = pair.a.senders[0].feed.waiting();
        assert!(waiting < 160, "{waiting} wait");
    }

    #[test]
    fn runs_stay_together_while_pictures_are_paced() {
        let mut pair = Pair::new(1e9, true);
        pair.a.limit_bandwidth(BandwidthLimits { start: 1 << 22, min: 1 << 22, max: 1 << 22 });
        pair.run(2, |_| 300_000);
        pair.frame(2_001, 40_000);
        let mut bursts = Vec::new();
        while pair.a.senders[0].feed.waiting() > 0 {
            let sent = transmits(&mut pair.a, pair.now);
            if !sent.is_empty() {
                bursts.push(sent.len());
            }
            let (at, _) = pair.a.poll_timeout().unwrap();
            pair.now = at;
            pair.a.handle_timeout(at);
        }
        assert!(bursts.len() > 4 && bursts.len() < 12, "{bursts:?}");
        assert!(bursts[..bursts.len() - 1].iter().all(|burst| *burst >= 3), "{bursts:?}");
    }
}
