//! Receiver estimated maximum bit rate (draft-alvestrand-rmcat-remb-03 §2.2).

use crate::compound::PAYLOAD_FEEDBACK;
use crate::view::u32_at;
use crate::{RtcpPacket, Ssrc};

/// Application layer feedback (RFC 4585 §6.4).
const FORMAT: u8 = 15;

const IDENTIFIER: &[u8; 4] = b"REMB";

/// What a receiver says about the bit rate that it can be sent: a cap for the sum of all streams
/// of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remb<'a> {
    /// Bits per second.
    pub bits_per_second: u64,
    ssrcs: &'a [u8],
}

impl<'a> Remb<'a> {
    /// Reads it; `None` when the packet is something else or is too short.
    pub fn parse(packet: &RtcpPacket<'a>) -> Option<Self> {
        if packet.packet_type != PAYLOAD_FEEDBACK || packet.count != FORMAT {
            return None;
        }
        let body = packet.body;
        if body.get(8..12)? != IDENTIFIER {
            return None;
        }
        let word = u32_at(body.get(12..16)?, 0);
        let (exponent, mantissa) = (word >> 18 & 0x3f, u64::from(word & 0x3_ffff));
        // 18 bits shifted by up to 63: what does not fit is as good as no cap.
        let bits_per_second =
            if mantissa.leading_zeros() >= exponent { mantissa << exponent } else { u64::MAX };
        let count = (word >> 24) as usize;
        let ssrcs = &body[16..];
        Some(Self { bits_per_second, ssrcs: &ssrcs[..(4 * count).min(ssrcs.len())] })
    }

    /// The streams that it names, as far as they are there, at most 255.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        self.ssrcs.chunks_exact(4).map(|ssrc| Ssrc(u32_at(ssrc, 0)))
    }

    /// Appends one about at most 255 streams, rounded down to 18 bits.
    pub fn write(sender: Ssrc, bits_per_second: u64, ssrcs: &[Ssrc], out: &mut Vec<u8>) {
        let ssrcs = &ssrcs[..ssrcs.len().min(255)];
        let exponent = (u64::BITS - bits_per_second.leading_zeros()).saturating_sub(18);
        let mantissa = (bits_per_second >> exponent) as u32;
        let words = (4 + ssrcs.len()) as u16;
        out.extend([0x80 | FORMAT, PAYLOAD_FEEDBACK]);
        out.extend(words.to_be_bytes());
        out.extend(sender.0.to_be_bytes());
        out.extend([0; 4]);
        out.extend(IDENTIFIER);
        out.extend(((ssrcs.len() as u32) << 24 | exponent << 18 | mantissa).to_be_bytes());
        for ssrc in ssrcs {
            out.extend(ssrc.0.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtcpView;

    fn read(bytes: &[u8]) -> Option<(u64, Vec<Ssrc>)> {
        let packet = RtcpView::new(bytes).next().unwrap().unwrap();
        Remb::parse(&packet).map(|remb| (remb.bits_per_second, remb.ssrcs().collect()))
    }

    #[test]
    fn what_is_written_is_read_rounded_to_eighteen_bits() {
        for (bits, expected) in [
            (0, 0),
            (262_143, 262_143),
            (262_144, 262_144),
            (262_145, 262_144),
            (2_500_000, 2_500_000 & !15),
            (u64::MAX, 0x3_ffff << 46),
        ] {
            let mut bytes = Vec::new();
            Remb::write(Ssrc(7), bits, &[Ssrc(8), Ssrc(9)], &mut bytes);
            assert_eq!(read(&bytes), Some((expected, vec![Ssrc(8), Ssrc(9)])), "{bits}");
        }
    }

    #[test]
    fn the_one_of_the_draft_is_read_and_other_feedback_is_not() {
        let mut bytes = vec![0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0];
        bytes.extend(b"REMB");
        bytes.extend([1, 0b0000_1011, 0xff, 0xff, 0, 0, 0, 5]);
        assert_eq!(read(&bytes), Some((0x3_ffff << 2, vec![Ssrc(5)])));
        // More streams said than there are, and a shift that does not fit.
        bytes[16..18].copy_from_slice(&[9, 0xff]);
        assert_eq!(read(&bytes), Some((u64::MAX, vec![Ssrc(5)])));
        bytes[12] = b'X';
        assert_eq!(read(&bytes), None);
        for len in 0..12 {
            let body = &bytes[4..4 + len];
            let packet = RtcpPacket { count: FORMAT, packet_type: PAYLOAD_FEEDBACK, body };
            assert_eq!(Remb::parse(&packet), None, "{len}");
        }
    }
}
