//! What frames of video say of themselves in their headers.

use crate::MediaFormat;

/// Whether a frame can be decoded without any other.
pub(crate) fn is_key(format: MediaFormat, frame: &[u8]) -> bool {
    match format {
        // RFC 6386 §9.1: the frame type is the first bit, and an empty frame repeats the last.
        MediaFormat::Vp8 => frame.first().is_some_and(|byte| byte & 1 == 0),
        MediaFormat::Vp9 => vp9(frame).is_some_and(|(key, _)| key),
        MediaFormat::Av1 => av1_is_key(frame),
        MediaFormat::H264 => nal_types(frame).any(|kind| kind == 5),
        MediaFormat::Opus | MediaFormat::Alaw | MediaFormat::Ulaw => true,
    }
}

/// Width and height of a key frame in pixels, if it tells.
pub(crate) fn size(format: MediaFormat, frame: &[u8]) -> Option<(u16, u16)> {
    match format {
        MediaFormat::Vp8 => {
            let bytes = frame.get(3..10).filter(|bytes| bytes[..3] == [0x9d, 0x01, 0x2a])?;
            // The upper two bits ask for scaling.
            let size = |at| u16::from_le_bytes([bytes[at], bytes[at + 1]]) & 0x3fff;
            Some((size(3), size(5)))
        }
        MediaFormat::Vp9 => vp9(frame)?.1,
        MediaFormat::Av1 => {
            let (_, header) = obus(frame).find(|(kind, _)| *kind == 1)?;
            Some(av1_sequence(header)?.size)
        }
        _ => None,
    }
}

/// The types of the NAL units of a byte stream.
pub(crate) fn nal_types(frame: &[u8]) -> impl Iterator<Item = u8> + '_ {
    frame.windows(4).filter(|bytes| bytes[..3] == [0, 0, 1]).map(|bytes| bytes[3] & 0x1f)
}

/// Reads bits, the first one of a byte highest.
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads up to 32 bits, the first one highest.
    pub(crate) fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    /// Reads an Exp-Golomb code (ITU-T H.264 §9.1).
    pub(crate) fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        if zeros > 31 {
            return None;
        }
        let rest = self.take(zeros)?;
        Some(((1_u64 << zeros) - 1) as u32 + rest)
    }
}

/// Whether a VP9 frame is a key frame, and its size if so (VP9 bitstream §6.2).
fn vp9(frame: &[u8]) -> Option<(bool, Option<(u16, u16)>)> {
    let mut bits = Bits::new(frame);
    if bits.take(2)? != 2 {
        return None;
    }
    let profile = bits.take(1)? | bits.take(1)? << 1;
    if profile == 3 {
        bits.take(1)?;
    }
    let (shows_existing, inter) = (bits.flag()?, bits.flag()?);
    if shows_existing || inter {
        return Some((false, None));
    }
    Some((true, vp9_size(&mut bits, profile)))
}

fn vp9_size(bits: &mut Bits<'_>, profile: u32) -> Option<(u16, u16)> {
    // show_frame, error_resilient_mode, and the sync code.
    bits.take(2)?;
    if bits.take(24)? != 0x49_8342 {
        return None;
    }
    if profile >= 2 {
        bits.take(1)?;
    }
    let rgb = bits.take(3)? == 7;
    let odd = profile & 1 == 1;
    bits.take(match (rgb, odd) {
        (false, false) => 1,
        (false, true) => 4,
        (true, true) => 1,
        (true, false) => return None,
    })?;
    let (width, height) = (bits.take(16)?, bits.take(16)?);
    Some((width.wrapping_add(1) as u16, height.wrapping_add(1) as u16))
}

/// The OBUs of a temporal unit, types and bodies, as far as their sizes are right.
pub(crate) fn obus(unit: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = unit;
    std::iter::from_fn(move || {
        let (&header, mut after) = rest.split_first()?;
        if header & 4 != 0 {
            after = after.get(1..)?;
        }
        let body = if header & 2 == 0 {
            std::mem::take(&mut after)
        } else {
            let mut len = 0usize;
            for shift in 0.. {
                let (&byte, next) = after.split_first()?;
                after = next;
                len |= usize::from(byte & 0x7f) << (7 * shift);
                if byte & 0x80 == 0 {
                    break;
                }
                if shift == 3 {
                    return None;
                }
            }
            let (body, next) = after.split_at_checked(len)?;
            after = next;
            body
        };
        rest = after;
        Some((header >> 3 & 0x0f, body))
    })
}

/// Whether a temporal unit has a sequence header before a key frame (AV1 §7.5).
fn av1_is_key(unit: &[u8]) -> bool {
    let mut still = None;
    for (kind, body) in obus(unit) {
        match (kind, body.first()) {
            (1, Some(first)) => still = Some(first & 8 != 0),
            // show_existing_frame and frame_type; neither is there in a reduced still picture.
            (3 | 6, Some(first)) => return still.is_some_and(|still| still || first & 0xe0 == 0),
            _ => {}
        }
    }
    false
}

/// What an AV1 sequence header says.
pub(crate) struct Av1Sequence {
    /// The largest size of its pictures in pixels.
    pub(crate) size: (u16, u16),
    /// Profile, level, tier and colours, as the second and third byte of a configuration record
    /// have them (AV1 in ISOBMFF §2.3.3).
    pub(crate) configuration: [u8; 2],
}

/// Reads a sequence header (AV1 §5.5.1); of one that is cut off after the size, what follows is
/// taken to be as usual.
pub(crate) fn av1_sequence(body: &[u8]) -> Option<Av1Sequence> {
    let mut bits = Bits::new(body);
    let profile = bits.take(3)?;
    bits.take(1)?;
    let is_reduced = bits.flag()?;
    let (mut level, mut tier) = (0, 0);
    if is_reduced {
        level = bits.take(5)?;
    } else {
        let mut model = None;
        if bits.flag()? {
            bits.take(32)?;
            bits.take(32)?;
            if bits.flag()? {
                // num_ticks_per_picture: as many zeros as bits that follow the one.
                let mut zeros = 0;
                while !bits.flag()? {
                    zeros += 1;
                }
                bits.take(zeros)?;
            }
            if bits.flag()? {
                model = Some(bits.take(5)? as usize + 1);
                bits.take(32)?;
                bits.take(10)?;
            }
        }
        let delays = bits.flag()?;
        for point in 0..=bits.take(5)? {
            bits.take(12)?;
            let at = bits.take(5)?;
            let high = if at > 7 { bits.take(1)? } else { 0 };
            if point == 0 {
                (level, tier) = (at, high);
            }
            if let Some(len) = model
                && bits.flag()?
            {
                bits.take(2 * len + 1)?;
            }
            if delays && bits.flag()? {
                bits.take(4)?;
            }
        }
    }
    let (width, height) = (bits.take(4)? as usize + 1, bits.take(4)? as usize + 1);
    let (width, height) = (bits.take(width)?, bits.take(height)?);
    let size = (width.wrapping_add(1) as u16, height.wrapping_add(1) as u16);
    // 4:2:0 of 8 bits.
    let colours = av1_colours(&mut bits, profile, is_reduced).unwrap_or(0x0c);
    let configuration = [(profile << 5 | level) as u8, (tier << 7) as u8 | colours];
    Some(Av1Sequence { size, configuration })
}

/// The colours, as a configuration record has them: high_bitdepth, twelve_bit, monochrome, two of
/// subsampling, two of the position of samples.
fn av1_colours(bits: &mut Bits<'_>, profile: u32, is_reduced: bool) -> Option<u8> {
    if !is_reduced && bits.flag()? {
        bits.take(7)?;
    }
    bits.take(3)?;
    if !is_reduced {
        bits.take(4)?;
        let has_order = bits.flag()?;
        if has_order {
            bits.take(2)?;
        }
        let has_screen_content = bits.flag()? || bits.flag()?;
        if has_screen_content && !bits.flag()? {
            bits.flag()?;
        }
        if has_order {
            bits.take(3)?;
        }
    }
    bits.take(3)?;
    let high = bits.flag()?;
    let twelve = profile == 2 && high && bits.flag()?;
    let mono = profile != 1 && bits.flag()?;
    let described = if bits.flag()? { Some(bits.take(24)?) } else { None };
    let depth = u8::from(high) << 6 | u8::from(twelve) << 5;
    if mono {
        return Some(depth | 0x1c);
    }
    // BT.709 with the transfer of sRGB and no matrix is RGB.
    if described == Some(0x01_0d00) {
        return Some(depth);
    }
    bits.flag()?;
    let (x, y) = match profile {
        0 => (true, true),
        1 => (false, false),
        _ if twelve => {
            let x = bits.flag()?;
            (x, x && bits.flag()?)
        }
        _ => (true, false),
    };
    let position = if x && y { bits.take(2)? as u8 } else { 0 };
    Some(depth | u8::from(x) << 3 | u8::from(y) << 2 | position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vp9_key_frames_tell_their_size() {
        // 0x82: marker 2, profile 0, shown; the sync code; BT.601; 320 by 180.
        let key = [0x82, 0x49, 0x83, 0x42, 0x20, 0x13, 0xf0, 0x0b, 0x30, 0];
        assert_eq!(size(MediaFormat::Vp9, &key), Some((320, 180)));
        assert!(is_key(MediaFormat::Vp9, &key));
        assert!(!is_key(MediaFormat::Vp9, &[0x86, 0]));
        for len in 0..key.len() - 1 {
            assert_eq!(size(MediaFormat::Vp9, &key[..len]), None, "{len}");
        }
    }

    #[test]
    fn av1_sequence_headers_tell_the_size() {
        // As libaom writes it for 320 by 180: one operating point, no timing.
        let header = [0x00, 0x00, 0x00, 0x04, 0x3c, 0xfe, 0xcc, 0xda, 0xf9, 0x00, 0x40];
        let mut unit = vec![0x12, 0, 0x0a, 11];
        unit.extend(header);
        unit.extend([0x32, 2, 0x10, 0]);
        assert_eq!(size(MediaFormat::Av1, &unit), Some((320, 180)));
        for len in 0..unit.len() {
            let _ = size(MediaFormat::Av1, &unit[..len]);
        }
        assert_eq!(size(MediaFormat::Av1, &[0x0a, 4, 0, 0, 0, 4]), None);
        assert!(is_key(MediaFormat::Av1, &unit));
        assert!(!is_key(MediaFormat::Av1, &[0x12, 0, 0x32, 2, 0x10, 0]));
        assert!(!is_key(MediaFormat::Av1, &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff]));
    }
}
