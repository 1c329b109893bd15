//! Where key frames begin, as the first of their payloads says.

use super::{av1, h264, vp8, vp9};
use crate::CodecName;

/// Whether a key frame begins with this RTP payload; never for audio, which has none.
///
/// It looks at descriptors and headers alone, so it serves packets on their way. For H.264 a
/// parameter set counts as a beginning too, since it goes before the picture.
pub fn begins_key_frame(codec: CodecName, payload: &[u8]) -> bool {
    match codec {
        CodecName::Vp8 => vp8::begins_key(payload),
        CodecName::Vp9 => vp9::begins_key(payload),
        CodecName::Av1 => av1::begins_key(payload),
        CodecName::H264 => h264::begins_key(payload),
        CodecName::Opus
        | CodecName::Alaw
        | CodecName::Ulaw
        | CodecName::Dtmf
        | CodecName::Rtx
        | CodecName::Red => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::Packetizer;

    /// A key frame and one that depends on it, as encoders make them, cut into small payloads.
    fn payloads(codec: CodecName, frame: &[u8]) -> Vec<Bytes> {
        let mut packets = Vec::new();
        let frame = [frame, &[0xab; 200]].concat();
        let mut packetizer = Packetizer::new(codec).unwrap();
        packetizer.packetize(&frame.into(), 0, 64, &mut packets).unwrap();
        packets.into_iter().map(|packet| packet.payload).collect()
    }

    #[test]
    fn the_first_payload_of_a_key_frame_says_so_and_no_other_does() {
        let frames: [(CodecName, &[u8], &[u8]); 4] = [
            (CodecName::Vp8, &[0xf0, 0x55, 0, 0x9d, 1, 0x2a], &[0xf1, 0x55, 0]),
            (CodecName::Vp9, &[0x82, 0x49, 0x83, 0x42], &[0x86, 0, 0x40]),
            (
                CodecName::Av1,
                &[0x12, 0, 0x0a, 0x03, 0, 0, 0, 0x32, 0xc9, 1, 0x10],
                &[0x12, 0, 0x32, 0xc9, 1, 0x30],
            ),
            (
                CodecName::H264,
                &[0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 0x88],
                &[0, 0, 0, 1, 0x41, 0x9a],
            ),
        ];
        for (codec, key, delta) in frames {
            let key: Vec<_> =
                payloads(codec, key).iter().map(|it| begins_key_frame(codec, it)).collect();
            assert!(key.len() > 2 && key[0], "{codec:?}: {key:?}");
            assert!(!key[key.len() - 1], "{codec:?}: {key:?}");
            let delta = payloads(codec, delta);
            assert!(!delta.iter().any(|it| begins_key_frame(codec, it)), "{codec:?}: {delta:x?}");
        }
        assert!(!begins_key_frame(CodecName::Opus, &[0x10, 0, 0]));
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic() {
        let mut random = fastrand::Rng::with_seed(9);
        for codec in CodecName::all() {
            for _ in 0..5_000 {
                let bytes: Vec<u8> = (0..random.usize(..24)).map(|_| random.u8(..)).collect();
                begins_key_frame(codec, &bytes);
            }
        }
    }
}
