use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::ring::{PushError, RingSender};

use super::RtpSession;
use super::forward::{KeyFrameRequests, OpenedRtp};
use super::recovery::Recovery;
use crate::compound::{PAYLOAD_FEEDBACK, TRANSPORT_FEEDBACK};
use crate::stream::{ReceiveStream, ReceiveTimings, RedundancyRepair, SplitPacket, ToneSplitter};
use crate::{
    ArrivalFeedback, LayerMark, ReceivedPacket, ReceiverConfig, RedundancyConfig, RtcpPacket,
    RtcpView, RtpView, Ssrc, Tap, is_rtcp,
};

/// SRTP that comes before its keys: what a peer sends between its last handshake message and
/// our reading it.
const MAX_PARKED: usize = 64;
const PARKED_FOR: Duration = Duration::from_millis(200);

/// Listeners of one track: more would be a mistake, and each costs a look at every packet.
const MAX_TAPS: usize = 16;

/// A track that is received.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) stream: ReceiveStream,
    pub(super) key_frames: KeyFrameRequests,
    pub(super) recovery: Option<Box<Recovery>>,
    pub(super) packets: RingSender<ReceivedPacket>,
    /// The track, and the encoding of it, that its packets are of, where that has several.
    pub(super) layer: Option<(Ssrc, u8)>,
    pub(super) taps: Vec<Tap>,
    pub(super) tones: Option<ToneSplitter>,
    /// The header extension that has the numbers to be answered.
    pub(super) number_id: Option<u8>,
    /// What else is said about its packets.
    pub(super) feedback: ArrivalFeedback,
    /// Finds lost packets in others that repeat them.
    pub(super) repair: Option<Box<RedundancyRepair>>,
}

impl Receiver {
    pub(super) fn new(config: ReceiverConfig, timings: ReceiveTimings) -> Self {
        let ReceiverConfig { ssrc, payload_types, packets } = config;
        let stream = ReceiveStream::new(ssrc, payload_types, timings);
        Self {
            stream,
            key_frames: KeyFrameRequests::default(),
            recovery: None,
            packets,
            layer: None,
            taps: Vec::new(),
            tones: None,
            number_id: None,
            feedback: ArrivalFeedback::None,
            repair: None,
        }
    }

    pub(super) fn ssrc(&self) -> Ssrc {
        self.stream.ssrc()
    }

    /// Hands on what a packet repeats of those that have not come; whether it has been handed on
    /// itself, before it came.
    fn repair_from(&mut self, now: Instant, view: &RtpView<'_>, index: u64) -> bool {
        let Self { repair: Some(repair), packets, taps, recovery, stream, .. } = self else {
            return false;
        };
        repair.on_packet(view, index, |found| {
            // What nobody reads is not copied; and whoever is only sent it on wants it whole.
            if taps.is_empty() && (packets.is_closed() || packets.is_full()) {
                return;
            }
            if let Some(recovery) = recovery {
                // It is not asked for any more.
                recovery.tracker.on_packet(now, found.index, false);
            }
            let packet = ReceivedPacket {
                payload: Bytes::copy_from_slice(found.payload),
                payload_type: found.payload_type,
                sequence: found.index,
                timestamp: found.timestamp,
                marker: false,
                received_at: now,
                capture_time: stream.capture_time(found.timestamp),
            };
            hand_out(taps, &packet);
            // Where there is no room, more is lost than that.
            let _ = packets.push(packet);
        })
    }
}

/// Gives listeners a copy, and forgets those that have hung up.
fn hand_out(taps: &mut Vec<Tap>, packet: &ReceivedPacket) {
    taps.retain(|tap| {
        if tap.packets.is_full() || tap.packets.push(packet.clone()).is_err() {
            tap.dropped.fetch_add(1, Ordering::Relaxed);
        }
        !tap.packets.is_closed()
    });
}

/// Sealed packets that wait for keys, oldest first.
#[derive(Debug, Default)]
pub(super) struct Parking {
    packets: VecDeque<(Instant, Vec<u8>)>,
}

impl Parking {
    /// Parks a copy; returns how many packets that has cost.
    fn park(&mut self, now: Instant, packet: &[u8]) -> u64 {
        let expired = self.expire(now);
        if self.packets.len() == MAX_PARKED {
            return expired + 1;
        }
        // What has waited for its path was received before.
        let at = self.packets.back().map_or(now, |(last, _)| now.max(*last));
        self.packets.push_back((at, packet.to_vec()));
        expired
    }

    /// Drops what has waited too long; returns how many.
    pub(super) fn expire(&mut self, now: Instant) -> u64 {
        let kept = self.packets.partition_point(|(at, _)| *at + PARKED_FOR < now);
        self.packets.drain(..kept).count() as u64
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        // A moment later than the last at which it may be opened.
        let (at, _) = self.packets.front()?;
        Some((*at + PARKED_FOR + Duration::from_millis(1), "parked packets expire"))
    }
}

impl RtpSession {
    /// Takes a datagram from a validated path, telling RTP from RTCP (RFC 5761 §4).
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        if is_rtcp(datagram) {
            let _ = self.handle_rtcp(now, datagram);
        } else {
            self.handle_rtp(now, datagram);
        }
    }

    /// Takes an SRTP packet from a validated path. It is worked on in place, and stands there
    /// opened where it is returned: it belongs to a receiving track, and may be forwarded.
    pub fn handle_rtp(&mut self, now: Instant, packet: &mut [u8]) -> Option<OpenedRtp> {
        if !self.may_open(now, packet) {
            return None;
        }
        self.datagrams.received += 1;
        self.datagrams.bytes_received += packet.len() as u64;
        if self.is_flood(packet) {
            self.stats.receive_drops.too_many_ssrcs += 1;
            return None;
        }
        let keys = self.keys.as_mut()?;
        match keys.receiver.unprotect_rtp(packet) {
            Ok(opened) => {
                self.authentic += 1;
                self.bind_encoding(now, opened.ssrc, &packet[..opened.len]);
                self.note_arrival(now, opened.ssrc, &packet[..opened.len]);
                let opened = self.restore(now, opened, packet)?;
                let taken = self.deliver(now, opened.ssrc, opened.index, &packet[..opened.len]);
                let (ssrc, mark) = taken?;
                let (index, len, padding) = (opened.index, opened.len, 0);
                Some(OpenedRtp { ssrc, index, len, padding, mark })
            }
            Err(error) => {
                self.stats.receive_drops.count(error);
                None
            }
        }
    }

    /// Takes an SRTCP packet from a validated path. It is worked on in place.
    ///
    /// Returns whether it may have left anything to do: to be sent, to be told, or at another time
    /// than before. Most feedback of congestion control leaves nothing, and there is much of it.
    pub fn handle_rtcp(&mut self, now: Instant, packet: &mut [u8]) -> bool {
        if !self.may_open(now, packet) {
            // It may wait for its keys now.
            return true;
        }
        self.datagrams.received += 1;
        self.datagrams.bytes_received += packet.len() as u64;
        let Some(keys) = &mut self.keys else { return true };
        match keys.receiver.unprotect_rtcp(packet) {
            Ok(len) => {
                self.authentic += 1;
                !self.on_compound(now, &packet[..len]) || self.has_work()
            }
            Err(error) => {
                self.stats.receive_drops.count(error);
                false
            }
        }
    }

    /// Whether anything is to be sent or told, or sent in its time.
    fn has_work(&self) -> bool {
        !self.events.is_empty()
            || self.outbox.has_compounds()
            || self.has_retransmissions()
            || self.has_key_frame_requests()
            || self.congestion.is_pacing()
    }

    /// Adds a listener to a receiving track, until it hangs up; at most 16, and to an SSRC that
    /// is none not one: its ring is dropped.
    pub fn add_tap(&mut self, ssrc: Ssrc, tap: Tap) {
        if let Some(receiver) = self.receiver_mut(ssrc)
            && receiver.taps.len() < MAX_TAPS
        {
            receiver.taps.push(tap);
        }
    }

    /// Has what packets of a receiving track repeat (RFC 2198) be put in the place of lost ones, as
    /// `config` says; in place of what was said before. An SSRC that is none is ignored.
    pub fn repair_receiver(&mut self, config: RedundancyConfig) {
        let Some(receiver) = self.receiver_mut(config.ssrc) else { return };
        match &mut receiver.repair {
            Some(repair) => repair.set_payload_types(config),
            None => receiver.repair = Some(Box::new(RedundancyRepair::new(config))),
        }
    }

    /// Whether there are keys to open a packet with; otherwise it is parked.
    fn may_open(&mut self, now: Instant, packet: &[u8]) -> bool {
        if self.closed {
            self.stats.receive_drops.closed += 1;
            return false;
        }
        if self.keys.is_none() {
            self.stats.receive_drops.parked += self.parking.park(now, packet);
            return false;
        }
        true
    }

    /// Opens what was parked, after the keys have come.
    pub(super) fn open_parked(&mut self, now: Instant) {
        self.stats.receive_drops.parked += self.parking.expire(now);
        for (received_at, mut packet) in std::mem::take(&mut self.parking.packets) {
            self.handle_datagram(received_at, &mut packet);
        }
    }

    /// Hands an opened packet to its track, which is returned, with what the packet says of its
    /// layer; `None` when there is none that takes it.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        index: u64,
        packet: &[u8],
    ) -> Option<(Ssrc, LayerMark)> {
        let view = match RtpView::parse(packet) {
            Ok(view) => view,
            Err(error) => {
                self.stats.receive_drops.count_malformed(error);
                return None;
            }
        };
        let Ok(at) = self.receivers.binary_search_by_key(&ssrc, Receiver::ssrc) else {
            self.keep_early(now, index, &view, packet);
            return None;
        };
        let drops = &mut self.stats.receive_drops;
        let receiver = &mut self.receivers[at];
        let event = receiver.stream.on_packet(now, &view, index);
        if let Some(layer) = receiver.layer {
            let Ok(event) = event else {
                drops.unknown_payload_type += 1;
                return None;
            };
            let captured = receiver.stream.capture_time(view.timestamp());
            self.raise(at, event);
            return self
                .deliver_layer(now, layer, (index, &view), captured)
                .map(|mark| (layer.0, mark));
        }
        // Reckoned for who reads it: what is only forwarded does without.
        let copy = |stream: &ReceiveStream| ReceivedPacket {
            payload: Bytes::copy_from_slice(view.payload()),
            payload_type: view.payload_type(),
            sequence: index,
            timestamp: view.timestamp(),
            marker: view.marker(),
            received_at: now,
            capture_time: stream.capture_time(view.timestamp()),
        };
        let is_described = event.is_ok();
        let tones = receiver.tones.as_mut();
        let split = tones
            .map(|tones| tones.take(now, &view, index, is_described, || copy(&receiver.stream)));
        let Ok(event) = event else {
            drops.unknown_payload_type += 1;
            return None;
        };
        let is_read = !matches!(split, Some(SplitPacket::Tone(_)));
        if let Some(SplitPacket::Tone(pushed)) = split {
            match pushed {
                Ok(()) => self.stats.rtp_received += 1,
                Err(PushError::Full(())) => drops.ring_full += 1,
                Err(PushError::Closed(())) => drops.ring_closed += 1,
            }
            // The reader of the audio gets the number alone, or it would wait for what is
            // missing there. Where it has no room it has lost more than that.
            let _ = receiver.packets.push(ReceivedPacket {
                payload: Bytes::new(),
                payload_type: view.payload_type(),
                sequence: index,
                timestamp: view.timestamp(),
                marker: view.marker(),
                received_at: now,
                capture_time: receiver.stream.capture_time(view.timestamp()),
            });
        }
        let was_found = receiver.repair_from(now, &view, index);
        let is_read = is_read && !was_found;
        // Asked first: a packet that nobody reads is not to be copied, only forwarded.
        let takes = is_read && !receiver.packets.is_closed() && !receiver.packets.is_full();
        let copy = if receiver.taps.is_empty() || was_found {
            takes.then(|| copy(&receiver.stream))
        } else {
            let copy = copy(&receiver.stream);
            hand_out(&mut receiver.taps, &copy);
            takes.then_some(copy)
        };
        match copy.map(|copy| receiver.packets.push(copy)) {
            Some(Ok(())) => self.stats.rtp_received += 1,
            Some(Err(PushError::Closed(_))) => drops.ring_closed += 1,
            None if !is_read => {}
            None if receiver.packets.is_closed() => drops.ring_closed += 1,
            Some(Err(PushError::Full(_))) | None => drops.ring_full += 1,
        }
        self.raise(at, event);
        Some((ssrc, LayerMark::default()))
    }

    /// Takes a compound; returns whether it is of congestion control alone.
    pub(super) fn on_compound(&mut self, now: Instant, compound: &[u8]) -> bool {
        self.stats.rtcp_received += 1;
        let mut is_of_congestion = true;
        for packet in RtcpView::new(compound) {
            match packet {
                Ok(packet) => is_of_congestion &= self.on_control(now, &packet),
                Err(error) => {
                    self.stats.receive_drops.count_malformed(error);
                    return false;
                }
            }
        }
        is_of_congestion
    }

    /// Takes one packet of a compound; returns whether it is of congestion control.
    fn on_control(&mut self, now: Instant, packet: &RtcpPacket<'_>) -> bool {
        if let Some(info) = packet.sender_info()
            && let Some(receiver) = self.receiver_mut(info.ssrc)
        {
            receiver.stream.on_sender_report(now, info);
            if let Some(layer) = receiver.layer {
                self.align_reader(layer, info.ntp, info.rtp_timestamp);
            }
        }
        for block in packet.report_blocks() {
            let clock = self.clock;
            if let Some(sender) = self.sender_mut(block.ssrc) {
                sender.stream.on_report(now, &clock, &block);
            }
            self.end_ext_headers(block.ssrc);
        }
        for ssrc in packet.bye_sources() {
            if let Some(receiver) = self.receiver_mut(ssrc) {
                receiver.stream.on_bye(now);
            }
        }
        let is_of_congestion = self.on_congestion_feedback(now, packet);
        let mut answered = is_of_congestion;
        for request in packet.key_frame_requests() {
            answered |= self.on_key_frame_request(now, request);
        }
        if let Some((ssrc, lost)) = packet.nack() {
            answered |= self.on_nack(now, ssrc, lost);
        }
        if matches!(packet.packet_type, TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK) && !answered {
            self.stats.feedback_ignored += 1;
        }
        is_of_congestion
    }

    /// Reads when packets of a receiving track were captured in the header extension of this id;
    /// or not, without an id. An SSRC that is none is ignored.
    pub fn read_capture_times(&mut self, ssrc: Ssrc, id: Option<u8>) {
        if let Some(receiver) = self.receiver_mut(ssrc) {
            receiver.stream.set_capture_extension(id);
        }
    }

    pub(super) fn receiver_mut(&mut self, ssrc: Ssrc) -> Option<&mut Receiver> {
        let at = self.receivers.binary_search_by_key(&ssrc, Receiver::ssrc).ok()?;
        Some(&mut self.receivers[at])
    }
}
