use crate::view::{u16_at, u32_at};
use crate::{RtpError, Ssrc};

/// RTCP packet types (RFC 3550 §12.1, RFC 4585 §6.1).
pub(crate) const SENDER_REPORT: u8 = 200;
pub(crate) const RECEIVER_REPORT: u8 = 201;
pub(crate) const GOODBYE: u8 = 203;
pub(crate) const TRANSPORT_FEEDBACK: u8 = 205;
pub(crate) const PAYLOAD_FEEDBACK: u8 = 206;

/// Messages of payload-specific feedback (RFC 4585 §6.3.1, RFC 5104 §4.3.1).
pub(crate) const GENERIC_NACK: u8 = 1;
pub(crate) const PICTURE_LOSS: u8 = 1;
pub(crate) const FULL_INTRA_REQUEST: u8 = 4;

/// Length of one report block (RFC 3550 §6.4.1).
const REPORT_BLOCK: usize = 24;

/// Tells RTCP from RTP by the second byte (RFC 5761 §4): the packet types 192 to 223 stand
/// where RTP has marker and payload type.
pub fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|second| (192..=223).contains(second))
}

/// Iterates over the packets of a plaintext RTCP compound (RFC 3550 §6.1).
///
/// Reduced-size RTCP (RFC 5506) is taken too: nothing is asked of the first packet. A
/// malformed packet is an error, and the last item.
#[derive(Debug, Clone)]
pub struct RtcpView<'a> {
    rest: &'a [u8],
}

impl<'a> RtcpView<'a> {
    /// Makes a view of a compound; what is wrong with it shows in the iteration.
    pub fn new(compound: &'a [u8]) -> Self {
        Self { rest: compound }
    }

    fn split(&mut self) -> Result<RtcpPacket<'a>, RtpError> {
        let bytes = std::mem::take(&mut self.rest);
        if bytes.len() < 4 {
            return Err(RtpError::TooShort);
        }
        if bytes[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let len = 4 + 4 * usize::from(u16_at(bytes, 2));
        if bytes.len() < len {
            return Err(RtpError::Length);
        }
        let (packet, rest) = bytes.split_at(len);
        let mut body = &packet[4..];
        if packet[0] & 0x20 != 0 {
            // RFC 3550 §6.4.1 wants a multiple of four, on the last packet only; the goodbyes
            // of pion and webrtc-rs are padded by three.
            let padding = usize::from(*body.last().ok_or(RtpError::Padding)?);
            if padding == 0 || padding > body.len() {
                return Err(RtpError::Padding);
            }
            body = &body[..body.len() - padding];
        }
        self.rest = rest;
        Ok(RtcpPacket { count: packet[0] & 0x1f, packet_type: packet[1], body })
    }
}

impl<'a> Iterator for RtcpView<'a> {
    type Item = Result<RtcpPacket<'a>, RtpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() { None } else { Some(self.split()) }
    }
}

/// One packet of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtcpPacket<'a> {
    /// The five bits behind version and padding: a count, or a feedback message type.
    pub count: u8,
    /// The packet type, for example 200 for a sender report.
    pub packet_type: u8,
    /// What follows the four bytes of header, padding removed.
    pub body: &'a [u8],
}

impl<'a> RtcpPacket<'a> {
    /// Whether it is a goodbye (RFC 3550 §6.6).
    pub fn is_bye(&self) -> bool {
        self.packet_type == GOODBYE
    }

    /// The sources that a goodbye names, as far as they are there; none for other packets.
    pub fn bye_sources(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        let count = if self.is_bye() { usize::from(self.count) } else { 0 };
        self.body.chunks_exact(4).take(count).map(|ssrc| Ssrc(u32_at(ssrc, 0)))
    }

    /// The sources of which a key frame is asked for: by PLI (RFC 4585 §6.3.1) or by FIR
    /// (RFC 5104 §4.3.1); none for other packets.
    pub fn key_frame_requests(&self) -> impl Iterator<Item = KeyFrameRequest> + use<'a> {
        // A PLI names the one source in its header, a FIR any number of them behind it.
        let sources = match (self.packet_type, self.count) {
            (PAYLOAD_FEEDBACK, PICTURE_LOSS) => self.body.get(4..8),
            (PAYLOAD_FEEDBACK, FULL_INTRA_REQUEST) => self.body.get(8..),
            _ => None,
        };
        let body = self.body;
        sources.unwrap_or_default().chunks(8).filter(|entry| entry.len() >= 4).map(move |entry| {
            let number = entry.get(4).map(|number| (Ssrc(u32_at(body, 0)), *number));
            KeyFrameRequest { source: Ssrc(u32_at(entry, 0)), number }
        })
    }

    /// The source of which packets are said to be lost, and their sequence numbers, by a generic
    /// NACK (RFC 4585 §6.2.1); `None` for other packets.
    pub fn nack(&self) -> Option<(Ssrc, impl Iterator<Item = u16> + use<'a>)> {
        if (self.packet_type, self.count) != (TRANSPORT_FEEDBACK, GENERIC_NACK) {
            return None;
        }
        let source = Ssrc(u32_at(self.body.get(4..8)?, 0));
        let lost = self.body[8..].chunks_exact(4).flat_map(|entry| {
            // The first one, and a bit for each of the sixteen behind it.
            let (first, others) = (u16_at(entry, 0), u16_at(entry, 2));
            let is_lost = move |n: &u16| *n == 0 || others & (1 << (n - 1)) != 0;
            (0..17).filter(is_lost).map(move |n| first.wrapping_add(n))
        });
        Some((source, lost))
    }

    /// The sender's part of a sender report (RFC 3550 §6.4.1); `None` for other packets and
    /// for one that is too short.
    pub fn sender_info(&self) -> Option<SenderInfo> {
        if self.packet_type != SENDER_REPORT || self.body.len() < 24 {
            return None;
        }
        Some(SenderInfo {
            ssrc: Ssrc(u32_at(self.body, 0)),
            ntp: u64::from(u32_at(self.body, 4)) << 32 | u64::from(u32_at(self.body, 8)),
            rtp_timestamp: u32_at(self.body, 12),
            packets: u32_at(self.body, 16),
            octets: u32_at(self.body, 20),
        })
    }

    /// The report blocks of a sender or receiver report, as far as they are there; none for
    /// other packets.
    pub fn report_blocks(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        let start = match self.packet_type {
            SENDER_REPORT => 24,
            RECEIVER_REPORT => 4,
            _ => self.body.len(),
        };
        self.body
            .get(start..)
            .unwrap_or_default()
            .chunks_exact(REPORT_BLOCK)
            .take(usize::from(self.count))
            .map(ReportBlock::read)
    }
}

/// That a receiver wants a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFrameRequest {
    /// Of which source.
    pub source: Ssrc,
    /// Of a FIR, who asks and the number of the request, which stays the same when that is
    /// repeated (RFC 5104 §4.3.1.1); a PLI has none.
    pub number: Option<(Ssrc, u8)>,
}

/// Writes the entries of a generic NACK (RFC 4585 §6.2.1) for these sequence numbers, in
/// ascending order, behind `out`: at most `most` entries. Returns how many numbers they name.
pub(crate) fn write_nack_entries(lost: &[u64], most: usize, out: &mut Vec<u8>) -> usize {
    let mut named = 0;
    for _ in 0..most {
        let Some(first) = lost.get(named) else { break };
        let mut others = 0u16;
        named += 1;
        while let Some(distance) = lost.get(named).map(|next| next.wrapping_sub(*first))
            && (1..=16).contains(&distance)
        {
            others |= 1 << (distance - 1);
            named += 1;
        }
        out.extend((*first as u16).to_be_bytes());
        out.extend(others.to_be_bytes());
    }
    named
}

/// What a sender says about itself in a report (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// The sender.
    pub ssrc: Ssrc,
    /// NTP time of the report, 32.32 bits.
    pub ntp: u64,
    /// The same instant on the RTP clock.
    pub rtp_timestamp: u32,
    /// Packets sent so far, wrapping.
    pub packets: u32,
    /// Payload bytes sent so far, wrapping.
    pub octets: u32,
}

/// What a receiver says about one source (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source it is about.
    pub ssrc: Ssrc,
    /// Loss since the previous report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost so far; negative when duplicates outnumber them. 24 bits.
    pub cumulative_lost: i32,
    /// Highest sequence number, with its rollovers.
    pub highest_sequence: u32,
    /// Interarrival jitter in units of the clock rate.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report, or 0.
    pub last_sender_report: u32,
    /// Time since that came, in 65,536ths of a second, or 0.
    pub delay_since_last: u32,
}

impl ReportBlock {
    fn read(bytes: &[u8]) -> Self {
        let lost = u32_at(bytes, 4);
        Self {
            ssrc: Ssrc(u32_at(bytes, 0)),
            fraction_lost: (lost >> 24) as u8,
            // Shifted up and down again, the sign of the 24-bit number spreads.
            cumulative_lost: (lost << 8) as i32 >> 8,
            highest_sequence: u32_at(bytes, 8),
            jitter: u32_at(bytes, 12),
            last_sender_report: u32_at(bytes, 16),
            delay_since_last: u32_at(bytes, 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender report with one block, then a goodbye of two sources.
    fn compound() -> Vec<u8> {
        let mut bytes = vec![0x81, 200, 0, 12];
        for word in [7u32, 1, 2, 3, 4, 5] {
            bytes.extend(word.to_be_bytes());
        }
        for word in [9u32, 0x40ff_fffe, 0x0001_0002, 11, 12, 13] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend([0x82, 203, 0, 2, 0, 0, 0, 7, 0, 0, 0, 8]);
        bytes
    }

    #[test]
    fn a_compound_is_taken_apart() {
        let bytes = compound();
        let packets: Vec<_> = RtcpView::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(packets.len(), 2);
        assert_eq!(
            packets[0].sender_info(),
            Some(SenderInfo {
                ssrc: Ssrc(7),
                ntp: 1 << 32 | 2,
                rtp_timestamp: 3,
                packets: 4,
                octets: 5
            })
        );
        assert_eq!(
            packets[0].report_blocks().collect::<Vec<_>>(),
            [ReportBlock {
                ssrc: Ssrc(9),
                fraction_lost: 0x40,
                cumulative_lost: -2,
                highest_sequence: 0x0001_0002,
                jitter: 11,
                last_sender_report: 12,
                delay_since_last: 13,
            }]
        );
        assert!(!packets[0].is_bye() && packets[1].is_bye());
        assert_eq!(packets[1].bye_sources().collect::<Vec<_>>(), [Ssrc(7), Ssrc(8)]);
        assert_eq!(packets[0].bye_sources().count(), 0);
    }

    #[test]
    fn counts_beyond_the_body_are_cut_short() {
        let bye = [0x9f, 203, 0, 1, 0, 0, 0, 7];
        let packet = RtcpView::new(&bye).next().unwrap().unwrap();
        assert_eq!(packet.bye_sources().collect::<Vec<_>>(), [Ssrc(7)]);
        let report = [0x9f, 200, 0, 1, 0, 0, 0, 7];
        let packet = RtcpView::new(&report).next().unwrap().unwrap();
        assert_eq!((packet.sender_info(), packet.report_blocks().count()), (None, 0));
    }

    #[test]
    fn truncation_at_every_length_is_an_error_or_a_shorter_compound() {
        let bytes = compound();
        for len in 0..bytes.len() {
            let last = RtcpView::new(&bytes[..len]).last();
            if len == 0 {
                assert_eq!(last, None);
            } else if len != 52 {
                assert!(matches!(last, Some(Err(_))), "{len}");
            }
        }
    }

    #[test]
    fn lost_packets_are_written_and_read_back() {
        let mut lost: Vec<u64> = vec![65_530, 65_531, 65_546, 65_547, 65_600];
        lost.extend(70_000..70_100);
        let mut bytes = vec![0x81, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(write_nack_entries(&lost, 64, &mut bytes), lost.len());
        assert_eq!(bytes.len(), 12 + 4 * (1 + 1 + 1 + 6));
        bytes[3] = (bytes.len() / 4 - 1) as u8;
        let packet = RtcpView::new(&bytes).next().unwrap().unwrap();
        let (source, named) = packet.nack().unwrap();
        assert_eq!(source, Ssrc(2));
        assert!(named.eq(lost.iter().map(|index| *index as u16)));
        assert_eq!(write_nack_entries(&lost, 2, &mut Vec::new()), 4);
        // Cut short: what is there is read.
        for len in [0, 4, 7, 8, 11] {
            let body = &bytes[4..4 + len];
            let packet = RtcpPacket { count: 1, packet_type: 205, body };
            assert_eq!(packet.nack().map(|(_, lost)| lost.count()), (len >= 8).then_some(0));
        }
    }

    #[test]
    fn a_full_intra_request_has_a_number_and_a_picture_loss_has_none() {
        let fir = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 9, 0, 0, 0, 0, 0, 0, 8, 3, 0, 0, 0, 0, 0];
        let packet = RtcpPacket { count: 4, packet_type: 206, body: &fir };
        let asked: Vec<_> = packet.key_frame_requests().collect();
        let request = |source, number| KeyFrameRequest {
            source: Ssrc(source),
            number: Some((Ssrc(1), number)),
        };
        assert_eq!(asked, [request(7, 9), request(8, 3)]);
        let packet = RtcpPacket { count: 1, packet_type: 206, body: &fir[4..16] };
        let asked: Vec<_> = packet.key_frame_requests().collect();
        assert_eq!(asked, [KeyFrameRequest { source: Ssrc(7), number: None }]);
    }

    #[test]
    fn padding_is_removed_and_its_count_checked() {
        let mut bytes = vec![0xa1, 203, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3];
        for (count, expected) in [(3, Ok(5)), (4, Ok(4)), (8, Ok(0)), (0, Err(())), (9, Err(()))] {
            bytes[11] = count;
            let got = RtcpView::new(&bytes).next().unwrap().map(|packet| packet.body.len());
            assert_eq!(got, expected.map_err(|()| RtpError::Padding), "{count}");
        }
        assert_eq!(RtcpView::new(&[0xa0, 203, 0, 0]).next(), Some(Err(RtpError::Padding)));
    }

    #[test]
    fn rtcp_is_told_from_rtp() {
        assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x80, 206]));
        assert!(!is_rtcp(&[0x80, 111]) && !is_rtcp(&[0x80, 0xef]) && !is_rtcp(&[0x80]));
    }
}
