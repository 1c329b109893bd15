//! What can be told of an Opus packet without decoding it (RFC 6716 §3).

/// Longest packet in time: 120 ms (RFC 6716 §3.2.5, R5).
const MAX_SAMPLES: u32 = 5760;

/// Length of an Opus packet in samples at 48 kHz, from its first byte or two
/// (RFC 6716 §3.1 and §3.2).
///
/// `None` for what is no Opus packet: empty, without frames, or longer than 120 ms.
pub fn opus_packet_samples(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    let samples = frames * frame_samples(toc);
    (1..=MAX_SAMPLES).contains(&samples).then_some(samples)
}

/// Length of one frame in samples at 48 kHz (RFC 6716 §3.1, table 2).
fn frame_samples(toc: u8) -> u32 {
    let config = toc >> 3;
    match config {
        0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        _ => 120 << (config & 3),
    }
}

/// A packet without frame data that a decoder conceals, and its length: for a gap of `gap`
/// samples behind a packet that began with `toc`.
///
/// It keeps mode, bandwidth and channels, and takes the same frame length or the longest
/// shorter one of that mode that fits. `None` if even the shortest is too long.
pub(crate) fn concealment(toc: u8, gap: u64) -> Option<(u8, u32)> {
    let config = toc >> 3;
    // Configurations of one mode and bandwidth stand together, by growing frame length.
    let first = match config {
        0..=11 | 16.. => config & !3,
        _ => config & !1,
    };
    let fitting = (first..=config).rev().map(|config| config << 3 | toc & 0x04);
    fitting.map(|toc| (toc, frame_samples(toc))).find(|&(_, samples)| u64::from(samples) <= gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_the_table_of_configurations() {
        let of = |config: u8| opus_packet_samples(&[config << 3, 0]).unwrap();
        let silk = [480, 960, 1920, 2880];
        for config in 0..12 {
            assert_eq!(of(config), silk[usize::from(config % 4)], "SILK {config}");
        }
        assert_eq!([of(12), of(13), of(14), of(15)], [480, 960, 480, 960]);
        for config in 16..32 {
            assert_eq!(of(config), [120, 240, 480, 960][usize::from(config % 4)], "CELT {config}");
        }
    }

    #[test]
    fn the_number_of_frames_multiplies() {
        let toc = 31 << 3; // CELT, 20 ms
        assert_eq!(opus_packet_samples(&[toc | 1, 0]), Some(1920));
        assert_eq!(opus_packet_samples(&[toc | 2, 0]), Some(1920));
        assert_eq!(opus_packet_samples(&[toc | 3, 6]), Some(5760));
        assert_eq!(opus_packet_samples(&[toc | 3, 0x80 | 6]), Some(5760), "VBR flag");
    }

    #[test]
    fn what_is_no_opus_packet_has_no_length() {
        let toc = 31 << 3;
        assert_eq!(opus_packet_samples(&[]), None);
        assert_eq!(opus_packet_samples(&[toc | 3]), None, "no frame count");
        assert_eq!(opus_packet_samples(&[toc | 3, 0]), None, "no frames");
        assert_eq!(opus_packet_samples(&[toc | 3, 7]), None, "140 ms");
    }

    #[test]
    fn concealment_keeps_the_mode_and_never_overshoots() {
        for config in 0..32u8 {
            for gap in [0, 119, 120, 479, 480, 1000, 5000] {
                let toc = config << 3 | 4;
                let Some((fill, samples)) = concealment(toc, gap) else {
                    assert!(gap < if config < 16 { 480 } else { 120 }, "{config} {gap}");
                    continue;
                };
                assert!(u64::from(samples) <= gap && samples <= frame_samples(toc));
                assert_eq!(opus_packet_samples(&[fill]), Some(samples));
                assert_eq!(fill & 7, 4, "stereo stays, one frame");
                let mode = |toc: u8| if toc >> 3 < 12 { 0 } else { 1 + (toc >> 7) };
                assert_eq!(mode(fill), mode(toc));
            }
        }
    }
}
