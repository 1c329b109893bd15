//! How large the pictures of an encoded frame are, as its own headers say.

use crate::CodecName;

/// Width and height in pixels of the pictures from this frame on; `None` where the frame does
/// not say: most but key frames.
///
/// For AV1 it is the largest size that the sequence header admits (AV1 §5.5.1). Frames of
/// audio have none.
pub fn picture_size(codec: CodecName, frame: &[u8]) -> Option<(u32, u32)> {
    match codec {
        CodecName::Vp8 => vp8(frame),
        CodecName::Vp9 => vp9(&mut Bits::new(frame)),
        CodecName::Av1 => av1(&mut Bits::new(sequence_header(frame)?)),
        CodecName::H264 => h264(&mut Bits::new(&parameter_set(frame)?)),
        CodecName::Opus
        | CodecName::Alaw
        | CodecName::Ulaw
        | CodecName::Dtmf
        | CodecName::Red
        | CodecName::Rtx => None,
    }
}

/// Reads a header bit by bit, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn flag(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// A number of up to 32 bits.
    fn number(&mut self, bits: u32) -> Option<u32> {
        (0..bits).try_fold(0, |number: u32, _| Some(number << 1 | u32::from(self.flag()?)))
    }

    fn skip(&mut self, bits: u32) -> Option<()> {
        (0..bits).try_for_each(|_| self.flag().map(|_| ()))
    }

    /// An Exp-Golomb code (H.264 §9.1), which AV1 calls uvlc.
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros == 32 {
                return None;
            }
        }
        let rest = self.number(zeros)?;
        Some(((1u64 << zeros) - 1 + u64::from(rest)) as u32)
    }

    /// A signed Exp-Golomb code (H.264 §9.1.1).
    fn signed_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.golomb()?);
        Some(if code % 2 == 0 { -(code / 2) } else { code / 2 + 1 })
    }
}

/// RFC 6386 §9.1: the first bit of a key frame is 0, and a start code goes before the size.
fn vp8(frame: &[u8]) -> Option<(u32, u32)> {
    let [first, _, _, 0x9d, 0x01, 0x2a, w, ww, h, hh, ..] = *frame else { return None };
    // The two bits above ask for scaling.
    let size = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    (first & 1 == 0).then(|| (size(w, ww), size(h, hh)))
}

/// The uncompressed header of a key frame (VP9 §6.2).
fn vp9(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    if bits.number(2)? != 2 {
        return None;
    }
    let profile = bits.number(1)? | bits.number(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let (shows_existing, inter) = (bits.flag()?, bits.flag()?);
    bits.skip(2)?;
    if shows_existing || inter || bits.number(24)? != 0x49_8342 {
        return None;
    }
    if profile >= 2 {
        bits.skip(1)?;
    }
    let rgb = bits.number(3)? == 7;
    match (rgb, profile & 1 == 1) {
        (false, false) | (true, true) => bits.skip(1)?,
        (false, true) => bits.skip(4)?,
        // RGB has no subsampling, which needs one of the odd profiles.
        (true, false) => return None,
    }
    Some((bits.number(16)? + 1, bits.number(16)? + 1))
}

/// The sequence header among the OBUs of a temporal unit (AV1 §5.3), which goes before frames.
fn sequence_header(mut unit: &[u8]) -> Option<&[u8]> {
    loop {
        let (&header, after) = unit.split_first()?;
        let after = if header & 4 != 0 { after.get(1..)? } else { after };
        let (body, rest) = if header & 2 == 0 {
            (after, &[][..])
        } else {
            let (len, after) = leb128(after)?;
            after.split_at_checked(len)?
        };
        match header >> 3 & 0x0f {
            1 => return Some(body),
            3 | 6 => return None,
            _ => unit = rest,
        }
    }
}

/// A length of up to 28 bits (AV1 §4.10.5): longer ones are beyond any frame.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let len = bytes.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    let (length, rest) = bytes.split_at(len);
    let value = length.iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    Some((value, rest))
}

fn av1(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    // seq_profile, still_picture.
    bits.skip(4)?;
    if bits.flag()? {
        // reduced_still_picture_header has one level and nothing else.
        bits.skip(5)?;
    } else {
        let mut delay_bits = None;
        if bits.flag()? {
            bits.skip(64)?;
            if bits.flag()? {
                bits.golomb()?;
            }
            if bits.flag()? {
                delay_bits = Some(bits.number(5)? + 1);
                bits.skip(42)?;
            }
        }
        let has_display_delay = bits.flag()?;
        for _ in 0..=bits.number(5)? {
            bits.skip(12)?;
            if bits.number(5)? > 7 {
                bits.skip(1)?;
            }
            if let Some(delay_bits) = delay_bits
                && bits.flag()?
            {
                bits.skip(2 * delay_bits + 1)?;
            }
            if has_display_delay && bits.flag()? {
                bits.skip(4)?;
            }
        }
    }
    let (width_bits, height_bits) = (bits.number(4)? + 1, bits.number(4)? + 1);
    Some((bits.number(width_bits)? + 1, bits.number(height_bits)? + 1))
}

/// The first sequence parameter set of an access unit, without what keeps start codes out of
/// it (H.264 §7.4.1.1); it goes before the slices.
fn parameter_set(frame: &[u8]) -> Option<Vec<u8>> {
    /// Of a parameter set that is sound, far beyond what tells the size.
    const MAX_LEN: usize = 512;
    let mut rest = frame;
    loop {
        let start = rest.windows(3).position(|bytes| *bytes == [0, 0, 1])? + 3;
        rest = &rest[start..];
        match rest.first()? & 0x1f {
            7 => break,
            1..=5 => return None,
            _ => {}
        }
    }
    let mut set = Vec::new();
    let mut zeros = 0;
    for &byte in rest.get(1..)?.iter().take(MAX_LEN) {
        match byte {
            3 if zeros >= 2 => {
                zeros = 0;
                continue;
            }
            0..3 if zeros >= 2 => break,
            0 => zeros += 1,
            _ => zeros = 0,
        }
        set.push(byte);
    }
    Some(set)
}

/// A sequence parameter set (H.264 §7.3.2.1.1).
fn h264(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    let profile = bits.number(8)?;
    bits.skip(16)?;
    bits.golomb()?;
    let mut chroma = 1;
    if matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244) {
        chroma = bits.golomb()?;
        if chroma == 3 {
            bits.skip(1)?;
        }
        bits.golomb()?;
        bits.golomb()?;
        bits.skip(1)?;
        if bits.flag()? {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.golomb()?;
    match bits.golomb()? {
        0 => {
            bits.golomb()?;
        }
        1 => {
            bits.skip(1)?;
            bits.golomb()?;
            bits.golomb()?;
            for _ in 0..bits.golomb()?.min(255) {
                bits.golomb()?;
            }
        }
        _ => {}
    }
    bits.golomb()?;
    bits.skip(1)?;
    let (width, height) = (bits.golomb()?, bits.golomb()?);
    let fields = u32::from(!bits.flag()?) + 1;
    if fields == 2 {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let (mut right, mut below) = (0, 0);
    if bits.flag()? {
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma == 1 { 2 } else { 1 } * fields;
        right = bits.golomb()?.checked_add(bits.golomb()?)?.checked_mul(unit_x)?;
        below = bits.golomb()?.checked_add(bits.golomb()?)?.checked_mul(unit_y)?;
    }
    let width = width.checked_add(1)?.checked_mul(16)?.checked_sub(right)?;
    let height = height.checked_add(1)?.checked_mul(16 * fields)?.checked_sub(below)?;
    Some((width, height))
}

fn scaling_list(bits: &mut Bits<'_>, len: usize) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..len {
        if next != 0 {
            next = (last + bits.signed_golomb()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use CodecName::{Av1, H264, Opus, Vp8, Vp9};

    /// The beginnings of key frames of 322 by 180 as ffmpeg 5.1 has them encoded: libvpx,
    /// libvpx-vp9, libaom, and libx264 in the profiles baseline, high (once interlaced with
    /// scaling lists) and high 4:4:4.
    const KEY_FRAMES: [(CodecName, &str); 7] = [
        (Vp8, "f055009d012a4201b4000007"),
        (Vp9, "824983420014100b360a38"),
        (Av1, "12000a0b000000043d06ccdaf9004032"),
        (H264, "000000016742c00bd901519e227c0440000003004000000503c50a920000000168"),
        (H264, "000000016764000cacd941519e227c0440000003004000000503c50a65800000000168"),
        (H264, "0000000167640015acd941533c44980880000003008000000a0f8a14cb0000000168"),
        (H264, "0000000167f4000c919b282a33c7c6e022000003000200000300281e28532c0000000168"),
    ];

    #[test]
    fn key_frames_of_usual_encoders_tell_their_size() {
        for (codec, frame) in KEY_FRAMES {
            let frame = hex(frame);
            assert_eq!(picture_size(codec, &frame), Some((322, 180)), "{codec:?} {frame:x?}");
            assert_eq!(picture_size(Opus, &frame), None);
            // No beginning of it says anything else, and none is read beyond its end.
            for len in 0..frame.len() {
                let size = picture_size(codec, &frame[..len]);
                assert!(size.is_none_or(|size| size == (322, 180)), "{codec:?} {len}: {size:?}");
            }
        }
    }

    #[test]
    fn other_frames_say_nothing() {
        for (codec, frame) in [
            // Frames that depend on others.
            (Vp8, "f155009d012a4201b40000"),
            (Vp9, "8600408092"),
            (Av1, "1200320210000a0b000000043d06ccdaf90040"),
            (H264, "00000001419a0000000167 42c00bd901519e227c0440"),
            // And what is no frame at all.
            (Av1, "0affffffffffff"),
            (H264, "6742c00bd9"),
            (H264, "00000167 42c00b 00000000000000000000"),
        ] {
            assert_eq!(picture_size(codec, &hex(frame)), None, "{codec:?} {frame}");
        }
    }

    #[test]
    fn random_bytes_are_read_without_a_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        for (codec, frame) in KEY_FRAMES {
            for _ in 0..20_000 {
                let mut frame = hex(frame);
                let at = random.usize(..frame.len());
                random.fill(&mut frame[at..]);
                if let Some((width, height)) = picture_size(codec, &frame) {
                    assert!(codec == H264 || width <= 65_536 && height <= 65_536);
                }
            }
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }
}
