use std::time::{Duration, Instant};

use super::clock::{NtpClock, PICTURE_CLOCK, in_clock_units};
use super::rewrite::Placed;
use crate::view::FIXED_HEADER;
use crate::{OutgoingPacket, PayloadType, ReportBlock, RtpHeader, SenderInfo, Ssrc};

/// One track on its way out: the only writer of its sequence numbers and timestamps.
///
/// Sequence numbers go on without a gap while it is disabled and enabled again, so that a
/// receiver sees silence and no loss.
#[derive(Debug)]
pub struct SendStream {
    ssrc: Ssrc,
    payload_type: PayloadType,
    clock_rate: u32,
    /// The next sequence number with its rollovers.
    next_index: u64,
    /// The one that it began with.
    first_index: u64,
    timestamp_offset: u32,
    /// The newest timestamp, and when the first packet of it was sent.
    newest: Option<(Instant, u32)>,
    /// The stream of what is sent again, and its next sequence number with its rollovers.
    rtx: Option<(Ssrc, u64)>,
    stats: SendStreamStats,
    /// Whether the newest packet was the last of its picture.
    is_between_pictures: bool,
}

/// What a [`SendStream`] has sent, and what the peer says about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendStreamStats {
    /// Packets sent.
    pub packets: u64,
    /// Payload bytes sent.
    pub octets: u64,
    /// Bytes of headers and of padding, of all packets, those that were sent again included.
    pub header_octets: u64,
    /// Pictures sent, of a track of video: packets with the marker.
    pub frames: u64,
    /// Packets sent again, not counted in the above, and their payload bytes.
    pub resent_packets: u64,
    /// See [`resent_packets`](Self::resent_packets).
    pub resent_octets: u64,
    /// NACKs of the peer (RFC 4585 §6.2.1), each of which may be of many packets.
    pub nacks: u64,
    /// Key frames that the peer has asked for by PLI (RFC 4585 §6.3.1).
    pub picture_losses: u64,
    /// Key frames that it has asked for by FIR (RFC 5104 §4.3.1), those repeated counted.
    pub full_intra_requests: u64,
    /// Round trips that reports of the peer have measured, and all of them together.
    pub round_trips: u64,
    /// See [`round_trips`](Self::round_trips).
    pub total_round_trip: Duration,
    /// The newest report of the peer.
    pub remote: Option<RemoteReport>,
}

/// What the peer says about a stream of ours (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteReport {
    /// Loss since its report before, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost so far; negative when duplicates outnumber them.
    pub cumulative_lost: i32,
    /// Packets that it must have received for that, those that were sent again on a stream of their
    /// own left out.
    pub received: u64,
    /// Interarrival jitter in units of the clock rate.
    pub jitter: u32,
    /// Time there and back; `None` until the peer has had a sender report of ours.
    pub round_trip: Option<Duration>,
}

impl SendStream {
    /// Makes a stream that has sent nothing.
    ///
    /// `clock_rate` is in Hz. `initial_sequence` and `timestamp_offset` are to be random
    /// (RFC 3550 §5.1); the sequence number's top bit is cleared, so that the first packets
    /// may be lost without the peer missing a rollover (RFC 3711 §3.3.1).
    pub fn new(
        ssrc: Ssrc,
        payload_type: PayloadType,
        clock_rate: u32,
        initial_sequence: u16,
        timestamp_offset: u32,
    ) -> Self {
        Self {
            ssrc,
            payload_type,
            clock_rate,
            next_index: u64::from(initial_sequence & 0x7fff),
            first_index: u64::from(initial_sequence & 0x7fff),
            timestamp_offset,
            newest: None,
            rtx: None,
            stats: SendStreamStats::default(),
            is_between_pictures: false,
        }
    }

    /// Its SSRC.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// Changes what is put on packets from the next on; sequence numbers go on.
    pub fn set_codec(&mut self, payload_type: PayloadType, clock_rate: u32) {
        self.payload_type = payload_type;
        self.clock_rate = clock_rate;
    }

    /// The payload type that it puts on packets.
    pub fn payload_type(&self) -> PayloadType {
        self.payload_type
    }

    /// Its clock rate in Hz.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// What it has sent, and what the peer says about it.
    pub fn stats(&self) -> &SendStreamStats {
        &self.stats
    }

    /// The next sequence number, with its rollovers, of a packet that is sent again on a stream of
    /// its own.
    pub(crate) fn next_rtx_index(&mut self, rtx: Ssrc) -> u64 {
        // Random as the offset is, and without the top bit, as above.
        let first = u64::from(self.timestamp_offset >> 16 & 0x7fff);
        let index = self.rtx.filter(|(ssrc, _)| *ssrc == rtx).map_or(first, |(_, next)| next);
        self.rtx = Some((rtx, index + 1));
        index
    }

    /// Counts what a packet that was sent had beside its payload: header and padding.
    pub fn note_header(&mut self, octets: usize) {
        self.stats.header_octets += octets as u64;
    }

    /// Counts a packet that was sent again.
    pub(crate) fn note_resent(&mut self, octets: usize) {
        self.stats.resent_packets += 1;
        self.stats.resent_octets += octets as u64;
    }

    /// Counts a NACK.
    pub(crate) fn note_nack(&mut self) {
        self.stats.nacks += 1;
    }

    /// Counts a request for a key frame.
    pub(crate) fn note_key_frame_request(&mut self, is_full_intra: bool) {
        match is_full_intra {
            true => self.stats.full_intra_requests += 1,
            false => self.stats.picture_losses += 1,
        }
    }

    /// Numbers the next packet and returns its header; `packet` counts as sent.
    pub fn next_header(&mut self, now: Instant, packet: &OutgoingPacket) -> RtpHeader<'static> {
        let timestamp = self.timestamp_offset.wrapping_add(packet.timestamp as u32);
        let header = RtpHeader {
            payload_type: self.payload_type,
            marker: packet.marker,
            sequence: self.next_index as u16,
            timestamp,
            ssrc: self.ssrc,
            extensions: &[],
        };
        self.next_index += 1;
        // A picture that takes some time to be sent is of the moment at which that began: reports
        // would have it later than the sound that was captured with it.
        if self.newest.is_none_or(|(_, newest)| newest != timestamp) {
            self.newest = Some((now, timestamp));
        }
        self.is_between_pictures = packet.marker;
        self.count_frame(packet.marker);
        self.stats.packets += 1;
        self.stats.octets += packet.payload.len() as u64;
        header
    }

    /// Counts a picture where there are some (RFC 3551 §5: their clock), by its last packet.
    fn count_frame(&mut self, marker: bool) {
        self.stats.frames += u64::from(marker && self.clock_rate == PICTURE_CLOCK);
    }

    /// Whether the newest packet had the marker: was the last of its picture, if it is one of
    /// pictures.
    pub fn is_between_pictures(&self) -> bool {
        self.is_between_pictures
    }

    /// Numbers a packet of padding, at the time of the newest packet, and returns its header,
    /// without extension. It counts as sent, with no octets (RFC 3550 §6.4.1).
    pub fn next_padding(&mut self) -> RtpHeader<'static> {
        self.next_index += 1;
        self.stats.packets += 1;
        RtpHeader { sequence: self.next_index.wrapping_sub(1) as u16, ..self.padding_header() }
    }

    /// The header of padding at the time of the newest packet, without a number.
    pub(crate) fn padding_header(&self) -> RtpHeader<'static> {
        RtpHeader {
            payload_type: self.payload_type,
            marker: false,
            sequence: 0,
            timestamp: self.newest.map_or(self.timestamp_offset, |(_, newest)| newest),
            ssrc: self.ssrc,
            extensions: &[],
        }
    }

    /// Notes a packet whose numbers come from a [`Rewriter`](super::Rewriter), and its marker; it
    /// counts as sent. Returns its header, without extension.
    // Each packet of each subscriber goes through it, and a call is as much as what it does.
    #[inline(always)]
    pub fn note_forwarded(
        &mut self,
        now: Instant,
        placed: Placed,
        payload_len: usize,
        marker: bool,
    ) -> RtpHeader<'static> {
        if placed.index >= self.next_index {
            self.is_between_pictures = marker;
            self.next_index = placed.index + 1;
            self.newest = Some((now, placed.timestamp));
        }
        self.count_frame(marker);
        self.stats.packets += 1;
        self.stats.octets += payload_len as u64;
        RtpHeader {
            payload_type: self.payload_type,
            marker,
            sequence: placed.index as u16,
            timestamp: placed.timestamp,
            ssrc: self.ssrc,
            extensions: &[],
        }
    }

    /// Numbers the next packet, one of an event that began at `begin`, and returns its header,
    /// without extension; it counts as sent.
    ///
    /// The audio's clock goes on from the audio, and from the event only if there was none.
    pub fn next_tone(
        &mut self,
        begin: Instant,
        timestamp: u32,
        payload_len: usize,
    ) -> RtpHeader<'static> {
        let sequence = self.next_index as u16;
        self.next_index += 1;
        self.newest.get_or_insert((begin, timestamp));
        self.stats.packets += 1;
        self.stats.octets += payload_len as u64;
        RtpHeader {
            payload_type: self.payload_type,
            marker: false,
            sequence,
            timestamp,
            ssrc: self.ssrc,
            extensions: &[],
        }
    }

    /// Notes the time of a packet, its media time being `timestamp`, that is not sent.
    pub fn note_silenced(&mut self, now: Instant, timestamp: u64) {
        self.newest = Some((now, self.timestamp_offset.wrapping_add(timestamp as u32)));
    }

    /// The timestamp of a moment that may be before the newest packet.
    pub fn timestamp_of(&self, at: Instant) -> u32 {
        let Some((sent_at, newest)) = self.newest else { return self.timestamp_offset };
        match sent_at.checked_duration_since(at) {
            Some(before) => newest.wrapping_sub(self.in_clock_units(before)),
            None => self.timestamp_at(at),
        }
    }

    /// A span of time in units of the clock rate, rounded down.
    pub fn in_clock_units(&self, span: Duration) -> u32 {
        in_clock_units(span, self.clock_rate)
    }

    /// The timestamp at `now`: that of the newest packet and the time since, or where it
    /// begins.
    pub fn timestamp_at(&self, now: Instant) -> u32 {
        self.newest.map_or(self.timestamp_offset, |(sent_at, newest)| {
            newest.wrapping_add(self.in_clock_units(now.saturating_duration_since(sent_at)))
        })
    }

    /// The next sequence number, with its rollovers.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// What is added to the timestamps of sources that begin at 0.
    pub fn timestamp_offset(&self) -> u32 {
        self.timestamp_offset
    }

    /// The newest packet: when it was sent, and its timestamp.
    pub fn newest(&self) -> Option<(Instant, u32)> {
        self.newest
    }

    /// Writes the next packet, not sealed, and returns its length.
    ///
    /// Returns `None`, having done nothing, when `out` has not 12 bytes more than the payload.
    pub fn next_packet(
        &mut self,
        now: Instant,
        packet: &OutgoingPacket,
        out: &mut [u8],
    ) -> Option<usize> {
        let len = FIXED_HEADER + packet.payload.len();
        let out = out.get_mut(..len)?;
        out[..FIXED_HEADER].copy_from_slice(&self.next_header(now, packet).fixed());
        out[FIXED_HEADER..].copy_from_slice(&packet.payload);
        Some(len)
    }

    /// The sender's part of a report at `now`; `None` before the first packet.
    ///
    /// Its RTP timestamp runs on from that of the newest packet (RFC 3550 §6.4.1).
    pub fn sender_info(&self, now: Instant, ntp: u64) -> Option<SenderInfo> {
        let (sent_at, timestamp) = self.newest?;
        let since = now.saturating_duration_since(sent_at);
        Some(SenderInfo {
            ssrc: self.ssrc,
            ntp,
            rtp_timestamp: timestamp.wrapping_add(in_clock_units(since, self.clock_rate)),
            packets: self.stats.packets as u32,
            octets: self.stats.octets as u32,
        })
    }

    /// When the newest packet was sent.
    pub fn newest_at(&self) -> Option<Instant> {
        self.newest.map(|(sent_at, _)| sent_at)
    }

    /// Takes what the peer reports about this stream.
    pub fn on_report(&mut self, now: Instant, clock: &NtpClock, block: &ReportBlock) {
        let round_trip = (block.last_sender_report != 0).then(|| {
            let units = clock
                .middle(now)
                .wrapping_sub(block.last_sender_report)
                .wrapping_sub(block.delay_since_last);
            // Negative by rounding, or a false report.
            if units > u32::MAX / 2 {
                Duration::ZERO
            } else {
                Duration::from_micros(u64::from(units) * 1_000_000 / 65_536)
            }
        });
        self.stats.round_trips += u64::from(round_trip.is_some());
        self.stats.total_round_trip += round_trip.unwrap_or_default();
        self.stats.remote = Some(RemoteReport {
            fraction_lost: block.fraction_lost,
            cumulative_lost: block.cumulative_lost,
            received: self.received_by(block),
            jitter: block.jitter,
            round_trip,
        });
    }

    /// Packets that the peer has received by its report: all up to the highest, less those that it
    /// has lost; no more than there were.
    fn received_by(&self, block: &ReportBlock) -> u64 {
        let sent = self.next_index - self.first_index;
        // How far it is behind what was sent last; what is ahead of that cannot be.
        let newest = (self.next_index as u32).wrapping_sub(1);
        let behind = (newest.wrapping_sub(block.highest_sequence) as i32).max(0);
        let received = sent as i64 - i64::from(behind) - i64::from(block.cumulative_lost);
        received.clamp(0, sent as i64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtpView;
    use bytes::Bytes;

    fn packet(timestamp: u64) -> OutgoingPacket {
        OutgoingPacket { payload: Bytes::from_static(b"opus"), timestamp, marker: timestamp == 0 }
    }

    #[test]
    fn packets_are_numbered_and_timed_from_random_beginnings() {
        let start = Instant::now();
        let mut stream = SendStream::new(Ssrc(9), PayloadType(111), 48_000, 0xffff, 0xffff_fff0);
        let mut seen = Vec::new();
        for n in 0..3u64 {
            let mut out = [0; 20];
            let at = start + Duration::from_millis(20 * n);
            assert_eq!(stream.next_packet(at, &packet(960 * n), &mut out), Some(16));
            let view = RtpView::parse(&out[..16]).unwrap();
            assert_eq!((view.ssrc(), view.payload()), (Ssrc(9), &b"opus"[..]));
            seen.push((view.sequence(), view.timestamp(), view.marker()));
        }
        assert_eq!(
            seen,
            [(0x7fff, 0xffff_fff0, true), (0x8000, 944, false), (0x8001, 1904, false)]
        );
        let report = stream.sender_info(start + Duration::from_millis(50), 77);
        assert_eq!(
            report,
            Some(SenderInfo {
                ssrc: Ssrc(9),
                ntp: 77,
                rtp_timestamp: 1904 + 480,
                packets: 3,
                octets: 12
            })
        );
    }

    #[test]
    fn a_packet_that_does_not_fit_uses_no_number() {
        let now = Instant::now();
        let mut stream = SendStream::new(Ssrc(9), PayloadType(0), 8_000, 5, 0);
        assert_eq!(stream.next_packet(now, &packet(0), &mut [0; 15]), None);
        assert_eq!(stream.sender_info(now, 0), None);
        assert_eq!(stream.next_header(now, &packet(0)).sequence, 5);
    }

    #[test]
    fn the_round_trip_leaves_out_the_time_that_the_peer_held_the_report() {
        let start = Instant::now();
        let clock = NtpClock::new(start, 1 << 40);
        let mut stream = SendStream::new(Ssrc(9), PayloadType(0), 8_000, 5, 0);
        (0..10).for_each(|n| _ = stream.next_header(start, &packet(n)));
        let block = ReportBlock {
            ssrc: Ssrc(9),
            fraction_lost: 3,
            cumulative_lost: 4,
            highest_sequence: 14,
            jitter: 6,
            last_sender_report: clock.middle(start + Duration::from_millis(500)),
            delay_since_last: 65_536 / 4,
        };
        stream.on_report(start + Duration::from_millis(1_000), &clock, &block);
        let expected = RemoteReport {
            fraction_lost: 3,
            cumulative_lost: 4,
            received: 6,
            jitter: 6,
            round_trip: Some(Duration::from_millis(250)),
        };
        assert_eq!(stream.stats().remote, Some(expected));
        let never = ReportBlock { last_sender_report: 0, ..block };
        stream.on_report(start, &clock, &never);
        assert_eq!(stream.stats().remote.unwrap().round_trip, None);
        // What cannot be is not believed.
        for (highest_sequence, cumulative_lost, expected) in
            [(4, 0, 0), (14, -100, 10), (14, 11, 0), (u32::MAX, 0, 0), (0x1_000e, 0, 10)]
        {
            let odd = ReportBlock { highest_sequence, cumulative_lost, ..block };
            stream.on_report(start, &clock, &odd);
            assert_eq!(stream.stats().remote.unwrap().received, expected, "{highest_sequence}");
        }
    }
}
