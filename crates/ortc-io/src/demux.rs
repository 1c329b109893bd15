/// What a datagram is, by its first byte (RFC 7983 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatagramKind {
    /// First byte 0 to 3.
    Stun,
    /// First byte 20 to 63.
    Dtls,
    /// First byte 64 to 79.
    TurnChannel,
    /// First byte 128 to 191, second byte outside 192 to 223 (RFC 5761 §4).
    Rtp,
    /// First byte 128 to 191, second byte 192 to 223 (RFC 5761 §4).
    Rtcp,
    /// Everything else, ZRTP and QUIC included: dropped and counted.
    Unknown,
}

impl DatagramKind {
    /// Whether it is RTP or RTCP.
    #[inline]
    pub fn is_media(self) -> bool {
        matches!(self, Self::Rtp | Self::Rtcp)
    }
}

/// Classifies a datagram by its first two bytes; an empty one is [`DatagramKind::Unknown`].
pub fn classify(datagram: &[u8]) -> DatagramKind {
    match datagram {
        [0..=3, ..] => DatagramKind::Stun,
        [20..=63, ..] => DatagramKind::Dtls,
        [64..=79, ..] => DatagramKind::TurnChannel,
        [128..=191, 192..=223, ..] => DatagramKind::Rtcp,
        [128..=191, ..] => DatagramKind::Rtp,
        _ => DatagramKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_byte_has_the_kind_that_rfc_7983_gives_it() {
        for first in 0..=255u8 {
            let expected = match first {
                0..=3 => DatagramKind::Stun,
                20..=63 => DatagramKind::Dtls,
                64..=79 => DatagramKind::TurnChannel,
                128..=191 => DatagramKind::Rtp,
                _ => DatagramKind::Unknown,
            };
            assert_eq!(classify(&[first, 0]), expected, "first byte {first}");
        }
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_packet_type() {
        for second in 0..=255u8 {
            let expected =
                if (192..=223).contains(&second) { DatagramKind::Rtcp } else { DatagramKind::Rtp };
            assert_eq!(classify(&[0x80, second]), expected, "second byte {second}");
        }
        assert_eq!(classify(&[]), DatagramKind::Unknown);
        assert_eq!(classify(&[0x80]), DatagramKind::Rtp);
    }
}
