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
            obus(frame).find(|(kind, _)| *kind == 1).and_then(|(_, body)| av1(body))
        }
        _ => None,
    }
}

/// The types of the NAL units of a byte stream.
pub(crate) fn nal_types(frame: &[u8]) -> impl Iterator<Item = u8> + '_ {
    frame.windows(4).filter(|bytes| bytes[..3] == [0, 0, 1]).map(|bytes| bytes[3] & 0x1f)
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// Reads up to 32 bits, the first one highest.
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }
}

/// Whether a VP9 frame is a key frame, and its size if so (VP9 bitstream §6.2).
fn vp9(frame: &[u8]) -> Option<(bool, Option<(u16, u16)>)> {
    let mut bits = Bits { bytes: frame, at: 0 };
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
fn obus(unit: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
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

/// The largest size that a sequence header allows (AV1 §5.5.1).
fn av1(body: &[u8]) -> Option<(u16, u16)> {
    let mut bits = Bits { bytes: body, at: 0 };
    bits.take(4)?;
    if bits.flag()? {
        bits.take(5)?;
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
        for _ in 0..=bits.take(5)? {
            bits.take(12)?;
            if bits.take(5)? > 7 {
                bits.take(1)?;
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
    Some((width.wrapping_add(1) as u16, height.wrapping_add(1) as u16))
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
