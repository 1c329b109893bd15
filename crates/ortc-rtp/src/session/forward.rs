//! Tracks that are forwarded: received by one session, sent by others.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ortc_io::prefetch;
use ortc_io::ring::RingReceiver;

use super::bandwidth::{Congestion, Counted};
use super::ext_headers::{MAX_BLOCK, SendExtHeaders};
use super::outbound::{Feed, MAX_DATAGRAM, Sender};
use super::retransmit::Retransmitter;
use super::{DatagramCounts, RtpSession, SessionStats};
use crate::layers::{LayerMark, LayerSelector, Sent, Spot};
use crate::stream::{Passage, Placed, Rewriter, SendStream};
use crate::view::PADDED;
use crate::{
    Extension, ForwardConfig, InsertedPacket, KeyFrameRequest, MAX_ENCODINGS, RouteEvent, RtpView,
    SenderInfo, SrtpError, SrtpSender, Ssrc, TrackSource,
};

/// How often a key frame of one track is asked for at the most: whatever joins or is lost in
/// between is served by the same one. An encoder needs some 100 ms for it, and each costs as
/// much as a second of video.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);

/// Key frame requests of one session that wait to be passed on: one per track is enough.
const MAX_REQUESTS: usize = 64;

/// A packet that was opened in place, for whoever forwards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedRtp {
    /// Its track.
    pub ssrc: Ssrc,
    /// Sequence number with its rollovers.
    pub index: u64,
    /// Length of the plaintext packet, which stands where the sealed one stood.
    pub len: usize,
    /// Bytes of padding that it gets as it is sent on, at most [`MAX_PADDING`]; none unless
    /// whoever forwards it wants packets of one size.
    pub padding: u8,
    /// What it says of its layer, where its track comes in several.
    pub mark: LayerMark,
}

/// What a peer says of the clock of a track that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceReport {
    /// The encoding, where there are several.
    pub encoding: u8,
    /// When it came.
    pub received_at: Instant,
    /// NTP time, 32.32 bits, and the same instant on the RTP clock.
    pub ntp: u64,
    /// See [`ntp`](Self::ntp).
    pub rtp_timestamp: u32,
}

/// Most bytes of padding that [`ForwardRun::write`] adds to a packet.
pub const MAX_PADDING: u8 = 16;

/// Bytes of room that [`ForwardRun::write`] needs for a packet.
pub const FORWARD_ROOM: usize = MAX_DATAGRAM + MAX_BLOCK;

/// So many bytes of padding (RFC 3550 §5.1): zeros, and the last one says how many.
fn padding(count: u8) -> ([u8; MAX_PADDING as usize], usize) {
    let count = count.min(MAX_PADDING);
    let mut bytes = [0; MAX_PADDING as usize];
    if let Some(last) = usize::from(count).checked_sub(1) {
        bytes[last] = count;
    }
    (bytes, count.into())
}

/// A sending track of a session that forwards, and where it was found the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardTarget {
    /// The SSRC that it is sent with.
    pub ssrc: Ssrc,
    at: usize,
}

impl ForwardTarget {
    /// Names a sending track.
    pub fn new(ssrc: Ssrc) -> Self {
        Self { ssrc, at: 0 }
    }

    /// Where it was found the last time.
    pub(super) fn place(self) -> usize {
        self.at
    }
}

/// What a sender forwards.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) rewriter: Rewriter,
    pub(super) source: TrackSource,
    needs_key_frames: bool,
    /// Which packets are sent of a source in several layers; they take their numbers from it.
    pub(super) selector: Option<Box<LayerSelector>>,
    /// What an application puts in between.
    pub(super) inserted: Option<RingReceiver<InsertedPacket>>,
    /// The newest sender reports of the source.
    reports: [Option<SourceReport>; MAX_ENCODINGS],
}

impl Forward {
    pub(super) fn new(config: ForwardConfig) -> Self {
        let ForwardConfig { source, payload_types, unwrapped, extensions, .. } = config;
        let needs_key_frames = config.needs_key_frames;
        let rewriter = Rewriter::new(payload_types, extensions).unwrapping(unwrapped);
        let (selector, inserted, reports) = (None, None, [None; MAX_ENCODINGS]);
        Self { rewriter, source, needs_key_frames, selector, inserted, reports }
    }

    /// Has the processor fetch what each packet looks at.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(&self.rewriter);
        prefetch(&self.needs_key_frames);
        prefetch(&self.selector);
    }

    /// Whether a packet of a source in several layers is sent.
    fn admits(&mut self, packet: &RtpView<'_>, opened: &OpenedRtp) -> bool {
        let selector = self.selector.as_mut();
        selector.is_some_and(|it| it.admits(opened.mark, opened.index, packet))
    }

    /// The place of one that is.
    fn spot(
        &mut self,
        now: Instant,
        stream: &SendStream,
        packet: &RtpView<'_>,
        opened: &OpenedRtp,
        clock_rate: u32,
    ) -> Option<Spot> {
        let of = (opened.mark, opened.index);
        self.selector.as_mut()?.place(now, Sent::of(stream), of, packet, clock_rate)
    }

    /// Breaks off: nothing is sent for a while, and then it goes on with the same source.
    pub(super) fn pause(&mut self) {
        self.rewriter.pause();
        if let Some(selector) = &mut self.selector {
            selector.pause();
        }
    }

    /// Leaves the next number to a packet of padding.
    pub(super) fn pad(&mut self, stream: &SendStream) {
        match &mut self.selector {
            Some(selector) => selector.pad(Sent::of(stream)),
            None => self.rewriter.pad(),
        }
    }

    /// Makes way for packets that do not come from the source.
    pub(super) fn interrupt(&mut self, stream: &SendStream) {
        match &mut self.selector {
            Some(selector) => selector.pad(Sent::of(stream)),
            None => self.rewriter.interrupt(),
        }
    }

    /// The place of a packet of an application.
    pub(super) fn insert(&mut self, now: Instant, stream: &SendStream) -> Placed {
        if let Some(selector) = &mut self.selector {
            selector.pad(Sent::of(stream));
        }
        self.rewriter.insert(now, stream)
    }

    /// Where what was sent with this number comes from: the encoding, and its index there.
    pub(super) fn source_of(&self, sent: u64) -> Option<(u8, u64)> {
        match &self.selector {
            Some(selector) => selector.source_of(sent),
            None => self.rewriter.source_of(sent).map(|index| (0, index)),
        }
    }

    /// How a packet is sent again that was sent, or could have been, with this number.
    pub(super) fn spot_again(&self, sent: u64, packet: &RtpView<'_>) -> Option<Spot> {
        match &self.selector {
            Some(selector) => selector.spot_again(sent, packet),
            None => {
                let timestamp = self.rewriter.timestamp(packet.timestamp())?;
                Some(Spot::unchanged(sent, timestamp, packet.marker()))
            }
        }
    }

    /// What the sender says of itself in a report: on the clock of the source, so that what
    /// belongs together there can be played together.
    pub(super) fn sender_info(
        &self,
        stream: &SendStream,
        now: Instant,
        ntp: u64,
    ) -> Option<SenderInfo> {
        let info = stream.sender_info(now, ntp)?;
        let encoding = self.selector.as_ref().map_or(Some(0), |it| it.last_encoding());
        let report = encoding.and_then(|encoding| self.reports[usize::from(encoding)]);
        let by_source = report.and_then(|report| {
            let passed = stream.in_clock_units(now.saturating_duration_since(report.received_at));
            let timestamp = report.rtp_timestamp.wrapping_add(passed);
            match &self.selector {
                Some(selector) => selector.timestamp(timestamp),
                None => self.rewriter.timestamp(timestamp),
            }
        });
        Some(SenderInfo { rtp_timestamp: by_source.unwrap_or(info.rtp_timestamp), ..info })
    }
}

/// Sends packets of another session on, which follow each other, to one sending track; made by
/// [`RtpSession::forward_run`].
///
/// What does not change from packet to packet is looked at once, and what is counted of all of them
/// is counted when it is dropped.
#[derive(Debug)]
pub struct ForwardRun<'a> {
    now: Instant,
    srtp: &'a mut SrtpSender,
    /// Bytes that sealing adds.
    overhead: usize,
    stream: &'a mut SendStream,
    forward: &'a mut Forward,
    ext_headers: Option<&'a mut SendExtHeaders>,
    number_id: Option<u8>,
    counted: Counted,
    retransmitter: Option<&'a mut Retransmitter>,
    congestion: &'a mut Congestion,
    upstream: &'a mut Upstream,
    stats: &'a mut SessionStats,
    datagrams: &'a mut DatagramCounts,
    /// Packets that were sent, and the bytes of their datagrams.
    sent: u64,
    bytes: u64,
}

impl ForwardRun<'_> {
    /// Writes and seals a packet of another session, which opened it as `opened`, into `out`,
    /// which has [`FORWARD_ROOM`]; returns its length, or `None` when it is not to be sent,
    /// counted.
    ///
    /// Padding is added unless the packet has some of its own.
    #[inline]
    pub fn write(
        &mut self,
        packet: &RtpView<'_>,
        opened: &OpenedRtp,
        out: &mut [u8],
    ) -> Option<usize> {
        let Self { now, overhead, .. } = *self;
        let drops = &mut self.stats.send_drops;
        let is_layered = opened.mark.is_layered();
        if is_layered && !self.forward.admits(packet, opened) {
            drops.other_layer += 1;
            return None;
        }
        let Some(Passage { types, skipped }) = self.forward.rewriter.passage(packet) else {
            drops.not_forwarded += 1;
            return None;
        };
        let (payload, body) = (&packet.payload()[skipped..], &packet.body()[skipped..]);
        let (padding, added) = padding(if packet.is_padded() { 0 } else { opened.padding });
        let header_room = self.forward.rewriter.header_room(packet, self.number_id.is_some());
        if header_room + body.len() + added + overhead > MAX_DATAGRAM {
            drops.oversized += 1;
            return None;
        }
        let (index, timestamp) = (opened.index, packet.timestamp());
        let (placed, spot) = if is_layered {
            let spot = self.forward.spot(now, self.stream, packet, opened, types.clock_rate);
            (spot.map(|spot| spot.placed()), spot)
        } else {
            let rewriter = &mut self.forward.rewriter;
            (rewriter.place(now, self.stream, index, timestamp, types.clock_rate), None)
        };
        let Some(placed) = placed else {
            drops.late += 1;
            return None;
        };
        if placed.begins && self.forward.needs_key_frames {
            self.upstream.push(self.forward.source, 0);
        }
        let marker = spot.map_or(packet.marker(), |spot| spot.marker);
        let mut header = self.stream.note_forwarded(now, placed, payload.len(), marker);
        header.payload_type = types.sent;
        let pairs = self.ext_headers.as_mut().and_then(|pairs| {
            let len = packet.header_len() + body.len() + overhead;
            pairs.is_due(&header.fixed(), payload, len).then(|| pairs.element())
        });
        let sending = self.congestion.noting(now, self.counted);
        let number = match (self.number_id, &sending) {
            (Some(id), Some(sending)) => Some((id, sending.history.next_number().to_be_bytes())),
            _ => None,
        };
        let element = number.as_ref().map(|(id, data)| Extension { id: *id, data });
        let rewriter = &self.forward.rewriter;
        let header_len = rewriter.write_header(&header, packet, pairs, element, out)?;
        let padding = &padding[..added];
        if added > 0 {
            out[0] |= PADDED;
        }
        let sealed = match spot.filter(Spot::changes_payload) {
            None => self.srtp.protect_rtp_behind(header_len, body, padding, out),
            Some(spot) => {
                let len = spot.copy_body(header_len, packet, padding, out)?;
                self.srtp.protect_rtp(out, len)
            }
        };
        let len = match sealed {
            Ok(len) => len,
            Err(error) => return self.note_not_sealed(header.ssrc, error),
        };
        if let Some(sending) = sending {
            sending.note(now, self.counted, (header.ssrc, header.sequence), len);
        }
        self.stats.padding_bytes += added as u64;
        self.sent += 1;
        self.bytes += len as u64;
        self.stream.note_header(len - overhead - payload.len());
        if let Some(retransmitter) = &mut self.retransmitter {
            retransmitter.note_forwarded(now, placed.index, &out[..len]);
        }
        Some(len)
    }

    #[cold]
    fn note_not_sealed(&mut self, ssrc: Ssrc, error: SrtpError) -> Option<usize> {
        tracing::debug!(ssrc = ssrc.0, %error, "RTP is not sealed");
        self.stats.send_drops.not_sealed += 1;
        None
    }
}

impl Drop for ForwardRun<'_> {
    fn drop(&mut self) {
        self.stats.rtp_sent += self.sent;
        self.stats.rtp_forwarded += self.sent;
        self.datagrams.count_all_sent(self.sent, self.bytes);
    }
}

/// When key frames of a receiving track are asked for.
#[derive(Debug, Default)]
pub(super) struct KeyFrameRequests {
    /// Whether they are asked for by FIR, and the number of the next.
    pub(super) is_full_intra: bool,
    number: u8,
    requested: u64,
    sent: Option<Instant>,
    due: Option<Instant>,
}

impl KeyFrameRequests {
    /// Notes that one is wanted; whether to ask for it now.
    fn request(&mut self, now: Instant) -> bool {
        if self.due.is_some() {
            return false;
        }
        match self.sent {
            Some(sent) if now < sent + KEY_FRAME_INTERVAL => {
                self.due = Some(sent + KEY_FRAME_INTERVAL);
                false
            }
            _ => {
                self.sent = Some(now);
                self.requested += 1;
                true
            }
        }
    }

    /// How many have been asked for.
    pub(super) fn requested(&self) -> u64 {
        self.requested
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        Some((self.due?, "a key frame may be asked for again"))
    }

    /// Whether to ask for one that has waited.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.due.take_if(|due| *due <= now).is_some();
        if due {
            self.sent = Some(now);
            self.requested += 1;
        }
        due
    }
}

/// Key frames that peers want of tracks that are forwarded to them.
#[derive(Debug, Default)]
pub(super) struct Upstream(VecDeque<(TrackSource, u8)>);

impl Upstream {
    pub(super) fn push(&mut self, source: TrackSource, encoding: u8) {
        let request = (source, encoding);
        if !self.0.contains(&request) && self.0.len() < MAX_REQUESTS {
            self.0.push_back(request);
        }
    }
}

impl RtpSession {
    /// Adds a track to be sent that another session receives. One of the same SSRC, even if it
    /// was removed, goes on with the new source.
    ///
    /// Its packets come by [`forward_run`](Self::forward_run).
    pub fn add_forward(&mut self, now: Instant, config: ForwardConfig) {
        let (ssrc, enabled) = (config.ssrc, config.enabled);
        // Said in reports, should there be one before the first packet.
        let Some(first) = config.payload_types.first().copied() else { return };
        let cname = config.cname.clone();
        let feed = Feed::Forward(Box::new(Forward::new(config)));
        self.insert_sender(now, ssrc, (first.sent, first.clock_rate), &cname, feed, enabled);
    }

    /// Begins to send packets of another session on, `count` of them that follow each other and
    /// go to one track.
    ///
    /// `None` when none of them is to be sent, counted; and when there is no such track, or it is
    /// not forwarded, as it was removed a moment ago.
    pub fn forward_run(
        &mut self,
        now: Instant,
        target: &mut ForwardTarget,
        count: usize,
    ) -> Option<ForwardRun<'_>> {
        let drops = &mut self.stats.send_drops;
        let Some(keys) = &mut self.keys else {
            drops.no_keys += count as u64;
            return None;
        };
        if self.senders.get(target.at).is_none_or(|sender| sender.ssrc() != target.ssrc) {
            target.at = self.senders.binary_search_by_key(&target.ssrc, Sender::ssrc).ok()?;
        }
        let sender = &mut self.senders[target.at];
        if !sender.enabled {
            drops.disabled += count as u64;
            return None;
        }
        if sender.is_silenced(now, 0) {
            drops.silenced += count as u64;
            return None;
        }
        let counted = sender.counted();
        let Sender { stream, feed, ext_headers, number_id, retransmitter, .. } = sender;
        let Feed::Forward(forward) = feed else { return None };
        Some(ForwardRun {
            now,
            overhead: keys.sender.overhead(),
            srtp: &mut keys.sender,
            stream,
            forward,
            ext_headers: ext_headers.as_deref_mut(),
            number_id: *number_id,
            counted,
            retransmitter: retransmitter.as_deref_mut(),
            congestion: &mut self.congestion,
            upstream: &mut self.upstream,
            stats: &mut self.stats,
            datagrams: &mut self.datagrams,
            sent: 0,
            bytes: 0,
        })
    }

    /// Counts packets that were to be forwarded while there was no path.
    pub fn count_no_path(&mut self, packets: u64) {
        self.stats.send_drops.no_path += packets;
    }

    /// Takes packets of an application for a forwarded track, numbered with those of its source
    /// and sent at the time that they come; they need the payload types of the track. An SSRC
    /// that is none is ignored, and so is one that is not forwarded: its ring is dropped.
    pub fn insert(&mut self, ssrc: Ssrc, packets: RingReceiver<InsertedPacket>) {
        if let Some(Sender { feed: Feed::Forward(forward), .. }) = self.sender_mut(ssrc) {
            forward.inserted = Some(packets);
        }
    }

    /// Where the packets of a sending track come from, if it is forwarded.
    pub fn source_of(&self, ssrc: Ssrc) -> Option<TrackSource> {
        let at = self.senders.binary_search_by_key(&ssrc, Sender::ssrc).ok()?;
        match &self.senders[at].feed {
            Feed::Forward(forward) => Some(forward.source),
            Feed::Ring(_) => None,
        }
    }

    /// The sending tracks that are forwarded.
    pub fn forwarded(&self) -> Vec<Ssrc> {
        let forwards = |sender: &&Sender| matches!(sender.feed, Feed::Forward(_));
        self.senders.iter().filter(forwards).map(Sender::ssrc).collect()
    }

    /// Of which track of another session this peer wants a key frame, one after the other.
    ///
    /// Of a track in several encodings, of which of them; else that is 0.
    pub fn poll_key_frame_request(&mut self) -> Option<(TrackSource, u8)> {
        self.upstream.0.pop_front()
    }

    /// Whether [`poll_key_frame_request`](Self::poll_key_frame_request) has something.
    pub fn has_key_frame_requests(&self) -> bool {
        !self.upstream.0.is_empty()
    }

    /// Notes that a peer of ours asks for key frames of a sending track.
    pub(super) fn on_key_frame_request(&mut self, now: Instant, request: KeyFrameRequest) -> bool {
        let Ok(at) = self.senders.binary_search_by_key(&request.source, Sender::ssrc) else {
            return false;
        };
        let sender = &mut self.senders[at];
        sender.stream.note_key_frame_request(request.number.is_some());
        let is_repeated = request.number.is_some() && sender.last_intra_request == request.number;
        sender.last_intra_request = request.number.or(sender.last_intra_request);
        if is_repeated {
            return true;
        }
        match &sender.feed {
            Feed::Forward(forward) => {
                let encoding = forward.selector.as_ref().map_or(0, |it| it.shown_encoding());
                self.upstream.push(forward.source, encoding);
            }
            Feed::Ring(_) if sender.key_frames.request(now) => {
                let event = RouteEvent::KeyFrameRequested(self.connection, request.source);
                self.events.push_back(event);
            }
            Feed::Ring(_) => {}
        }
        true
    }

    /// Tells of key frames that peers have wanted too soon after the one before.
    pub(super) fn tell_of_due_key_frames(&mut self, now: Instant) {
        for sender in &mut self.senders {
            if sender.key_frames.is_due(now) {
                let event = RouteEvent::KeyFrameRequested(self.connection, sender.ssrc());
                self.events.push_back(event);
            }
        }
    }

    /// Asks the peer for a key frame of a receiving track, at once or as soon as half a second
    /// has passed since the last time; an SSRC that is none is ignored. Of a track in several
    /// encodings it is of the one that its reader gets.
    pub fn request_key_frame(&mut self, now: Instant, ssrc: Ssrc) {
        let ssrc = self.read_encoding(ssrc).unwrap_or(ssrc);
        self.request_key_frame_on(now, ssrc);
    }

    /// The same, of one encoding of a track, counted from the least.
    pub fn request_key_frame_of(&mut self, now: Instant, ssrc: Ssrc, encoding: u8) {
        // Where it has no SSRC yet there is nobody to ask.
        if let Some(ssrc) = self.encoding_ssrc(ssrc, encoding) {
            self.request_key_frame_on(now, ssrc);
        }
    }

    pub(super) fn request_key_frame_on(&mut self, now: Instant, ssrc: Ssrc) {
        let wanted =
            self.receiver_mut(ssrc).is_some_and(|receiver| receiver.key_frames.request(now));
        if wanted {
            self.queue_picture_loss(ssrc);
        }
    }

    /// Asks for the key frames that have waited.
    pub(super) fn request_due_key_frames(&mut self, now: Instant) {
        for at in 0..self.receivers.len() {
            if self.receivers[at].key_frames.is_due(now) {
                self.queue_picture_loss(self.receivers[at].ssrc());
            }
        }
    }

    fn queue_picture_loss(&mut self, ssrc: Ssrc) {
        let Some(receiver) = self.receiver_mut(ssrc) else { return };
        let requests = &mut receiver.key_frames;
        let number = requests.is_full_intra.then_some(requests.number);
        requests.number = requests.number.wrapping_add(1);
        if self.keys.is_some() {
            let compound = match number {
                Some(number) => self.reporter.full_intra_request(ssrc, number),
                None => self.reporter.picture_loss(ssrc),
            };
            self.queue(compound.into_iter().collect());
            self.stats.key_frames_requested += 1;
        }
    }

    /// Takes a sender report of the source of a forwarded track.
    pub fn on_source_report(&mut self, ssrc: Ssrc, report: SourceReport) {
        if let Some(Sender { feed: Feed::Forward(forward), .. }) = self.sender_mut(ssrc)
            && let Some(place) = forward.reports.get_mut(usize::from(report.encoding))
        {
            *place = Some(report);
            if let Some(selector) = &mut forward.selector {
                selector.on_report(report.encoding, report.ntp, report.rtp_timestamp);
            }
        }
    }

    /// The newest sender report of an encoding of a receiving track, of one that has no others
    /// of 0.
    pub fn source_report(&self, ssrc: Ssrc, encoding: u8) -> Option<SourceReport> {
        let ssrc = self.encoding_ssrc(ssrc, encoding)?;
        let at = self.receivers.binary_search_by_key(&ssrc, super::Receiver::ssrc).ok()?;
        let (received_at, info) = self.receivers[at].stream.sender_report()?;
        let (ntp, rtp_timestamp) = (info.ntp, info.rtp_timestamp);
        Some(SourceReport { encoding, received_at, ntp, rtp_timestamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_of_padding_says_how_much_there_is() {
        assert_eq!(padding(0), ([0; 16], 0));
        assert_eq!(padding(1), ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1));
        let (bytes, count) = padding(200);
        assert_eq!((bytes[..15].to_vec(), bytes[15], count), (vec![0; 15], 16, 16));
    }

    #[test]
    fn many_requests_are_one_and_a_later_one_waits_for_half_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut requests = KeyFrameRequests::default();
        assert!(requests.request(at(0)));
        assert_eq!(requests.poll_timeout(), None);
        assert_eq!((requests.request(at(1)), requests.request(at(2))), (false, false));
        assert_eq!(requests.poll_timeout().map(|(due, _)| due), Some(at(500)));
        assert_eq!((requests.is_due(at(499)), requests.is_due(at(500))), (false, true));
        assert!(!requests.is_due(at(2_000)));
        assert!(!requests.request(at(999)));
        assert!(requests.is_due(at(1_000)));
        assert!(requests.request(at(1_500)));
    }
}
