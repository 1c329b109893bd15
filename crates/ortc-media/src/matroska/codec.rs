//! How frames of each format stand in a Matroska file (RFC 9559, and its codec mappings).

use std::borrow::Cow;

use super::MAX_FRAME;
use crate::MediaFormat;
use crate::video::{self, Bits, obus};

/// What of Opus a decoder throws away at the beginning, in samples at 48 kHz: the look-ahead of
/// common encoders.
const PRE_SKIP: u16 = 312;

/// What a track says of its frames.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Codec {
    pub(super) id: &'static str,
    pub(super) private: Vec<u8>,
    /// Width and height in pixels, of pictures.
    pub(super) size: (u16, u16),
    pub(super) channels: u8,
}

impl Codec {
    /// Of a track that begins with this frame; `None` if the frame does not tell what has to be
    /// known.
    pub(super) fn of(format: MediaFormat, first: &[u8]) -> Option<Self> {
        let size =
            || video::size(format, first).filter(|(width, height)| *width > 0 && *height > 0);
        let (private, size) = match format {
            MediaFormat::Opus => (opus_head(channels(first)?), (0, 0)),
            MediaFormat::Alaw => (wave_format(6), (0, 0)),
            MediaFormat::Ulaw => (wave_format(7), (0, 0)),
            MediaFormat::Vp8 | MediaFormat::Vp9 => (Vec::new(), size()?),
            MediaFormat::Av1 => (av1_configuration(first)?, size()?),
            MediaFormat::H264 => avc_configuration(first)?,
        };
        let channels = if format == MediaFormat::Opus { channels(first)? } else { 1 };
        Some(Self { id: codec_id(format), private, size, channels })
    }
}

/// Channels of an Opus packet (RFC 6716 §3.1).
fn channels(packet: &[u8]) -> Option<u8> {
    packet.first().map(|toc| if toc & 0x04 == 0 { 1 } else { 2 })
}

/// Nanoseconds that a decoder throws away at the beginning.
pub(super) fn codec_delay(format: MediaFormat) -> u64 {
    if format == MediaFormat::Opus { u64::from(PRE_SKIP) * 1_000_000_000 / 48_000 } else { 0 }
}

fn codec_id(format: MediaFormat) -> &'static str {
    match format {
        MediaFormat::Opus => "A_OPUS",
        MediaFormat::Alaw | MediaFormat::Ulaw => "A_MS/ACM",
        MediaFormat::Vp8 => "V_VP8",
        MediaFormat::Vp9 => "V_VP9",
        MediaFormat::Av1 => "V_AV1",
        MediaFormat::H264 => "V_MPEG4/ISO/AVC",
    }
}

/// What the frames of a track are, of which these are known; `None` if it cannot be read.
pub(super) fn format_of(
    id: &str,
    private: &[u8],
    clock_rate: u32,
    channels: u64,
) -> Option<MediaFormat> {
    Some(match id {
        "A_OPUS" if channels <= 2 => MediaFormat::Opus,
        "A_MS/ACM" if clock_rate == 8_000 && channels == 1 => match private.get(..2)? {
            [6, 0] => MediaFormat::Alaw,
            [7, 0] => MediaFormat::Ulaw,
            _ => return None,
        },
        "V_VP8" => MediaFormat::Vp8,
        "V_VP9" => MediaFormat::Vp9,
        "V_AV1" => MediaFormat::Av1,
        "V_MPEG4/ISO/AVC" => MediaFormat::H264,
        _ => return None,
    })
}

/// The header of Ogg/Opus (RFC 7845 §5.1), which Matroska has as well.
fn opus_head(channels: u8) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend_from_slice(&PRE_SKIP.to_le_bytes());
    head.extend_from_slice(&48_000_u32.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    head
}

/// A `WAVEFORMATEX` of G.711: 8 kHz, one channel, 8 bits.
fn wave_format(tag: u16) -> Vec<u8> {
    let mut format = tag.to_le_bytes().to_vec();
    format.extend_from_slice(&1_u16.to_le_bytes());
    format.extend_from_slice(&8_000_u32.to_le_bytes());
    format.extend_from_slice(&8_000_u32.to_le_bytes());
    for value in [1_u16, 8, 0] {
        format.extend_from_slice(&value.to_le_bytes());
    }
    format
}

/// A frame as it stands in a block: H.264 with lengths in place of start codes, AV1 without temporal
/// delimiters.
pub(super) fn to_block(format: MediaFormat, frame: &[u8]) -> Cow<'_, [u8]> {
    match format {
        MediaFormat::H264 => {
            let mut block = Vec::with_capacity(frame.len() + 16);
            for nal in nal_units(frame) {
                block.extend_from_slice(&(nal.len() as u32).to_be_bytes());
                block.extend_from_slice(nal);
            }
            block.into()
        }
        // As any encoder writes it: two bytes at the beginning.
        MediaFormat::Av1 => frame.strip_prefix(&[0x12, 0]).unwrap_or(frame).into(),
        _ => frame.into(),
    }
}

/// How the frames of a track are made of its blocks.
#[derive(Debug, Clone, Default)]
pub(super) struct Unpacking {
    /// Bytes of a length in front of each NAL unit.
    length_size: usize,
    /// Parameter sets with start codes.
    parameters: Vec<u8>,
}

impl Unpacking {
    /// By what a track says of its codec; `None` if that cannot be read.
    pub(super) fn of(format: MediaFormat, private: &[u8]) -> Option<Self> {
        if format != MediaFormat::H264 {
            return Some(Self::default());
        }
        // ISO/IEC 14496-15 §5.3.3.1.
        let length_size = usize::from(private.get(4)? & 3) + 1;
        let mut parameters = Vec::new();
        let mut rest = private.get(5..)?;
        for mask in [0x1f, 0xff] {
            let (count, mut sets) = rest.split_first()?;
            for _ in 0..count & mask {
                let (len, after) = sets.split_at_checked(2)?;
                let len = usize::from(len[0]) << 8 | usize::from(len[1]);
                let (set, after) = after.split_at_checked(len)?;
                parameters.extend_from_slice(&[0, 0, 0, 1]);
                parameters.extend_from_slice(set);
                sets = after;
            }
            rest = sets;
        }
        Some(Self { length_size, parameters })
    }

    /// A frame out of a block; `None` if it is none.
    pub(super) fn frame(&self, format: MediaFormat, block: Vec<u8>) -> Option<Vec<u8>> {
        let frame = match format {
            MediaFormat::H264 => self.byte_stream(&block)?,
            // A receiver wants to see where a temporal unit begins.
            MediaFormat::Av1 if !block.starts_with(&[0x12, 0]) => [&[0x12, 0], &block[..]].concat(),
            _ => block,
        };
        (!frame.is_empty() && frame.len() <= MAX_FRAME).then_some(frame)
    }

    fn byte_stream(&self, mut block: &[u8]) -> Option<Vec<u8>> {
        let mut frame = Vec::with_capacity(block.len() + 16);
        while !block.is_empty() {
            let (len, rest) = block.split_at_checked(self.length_size)?;
            let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            let (nal, rest) = rest.split_at_checked(len)?;
            if !nal.is_empty() {
                frame.extend_from_slice(&[0, 0, 0, 1]);
                frame.extend_from_slice(nal);
            }
            block = rest;
        }
        let has = |kind| video::nal_types(&frame).any(|it| it == kind);
        if has(5) && !has(7) {
            frame.splice(0..0, self.parameters.iter().copied());
        }
        Some(frame)
    }
}

/// The NAL units of a byte stream (ITU-T H.264 Annex B).
fn nal_units(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = frame;
    let start = |bytes: &[u8]| bytes.windows(3).position(|code| code == [0, 0, 1]);
    rest = start(rest).map_or(&[], |at| &rest[at + 3..]);
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let (nal, after) = match start(rest) {
                Some(at) => (&rest[..at], &rest[at + 3..]),
                None => (rest, &[][..]),
            };
            rest = after;
            // Zeros at the end belong to the next start code.
            let len = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if len > 0 {
                return Some(&nal[..len]);
            }
        }
    })
}

/// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1) of the parameter sets that are in a
/// frame, and the size of its pictures.
fn avc_configuration(frame: &[u8]) -> Option<(Vec<u8>, (u16, u16))> {
    let sets = |kind: u8| {
        let sets = nal_units(frame).filter(move |nal| nal[0] & 0x1f == kind);
        // A length has 16 bits.
        sets.filter(|set| set.len() <= usize::from(u16::MAX)).take(31)
    };
    let first = sets(7).next()?;
    let parameters = SequenceParameters::parse(first)?;
    sets(8).next()?;
    let mut record = vec![1, first[1], first[2], first[3], 0xff];
    for (kind, reserved) in [(7, 0xe0), (8, 0)] {
        record.push(reserved | sets(kind).count() as u8);
        for set in sets(kind) {
            record.extend_from_slice(&(set.len() as u16).to_be_bytes());
            record.extend_from_slice(set);
        }
    }
    if matches!(first[1], 100 | 110 | 122 | 144) {
        let [luma, chroma] = parameters.depths;
        record.extend([0xfc | parameters.chroma, 0xf8 | luma, 0xf8 | chroma, 0]);
    }
    Some((record, parameters.size))
}

/// What is in a sequence parameter set of H.264 (§7.3.2.1.1).
#[derive(Debug, PartialEq)]
struct SequenceParameters {
    size: (u16, u16),
    chroma: u8,
    /// Bits of a sample beyond 8, of luma and chroma.
    depths: [u8; 2],
}

impl SequenceParameters {
    fn parse(nal: &[u8]) -> Option<Self> {
        // §7.4.1.1: after two zeros, a three keeps start codes out.
        let mut bytes = Vec::with_capacity(nal.len());
        for byte in nal.get(1..)? {
            if !(*byte == 3 && bytes.ends_with(&[0, 0])) {
                bytes.push(*byte);
            }
        }
        let mut bits = Bits::new(&bytes);
        let profile = bits.take(8)?;
        bits.take(16)?;
        bits.exp_golomb()?;
        let (mut chroma, mut depths) = (1, [0, 0]);
        if matches!(
            profile,
            44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
        ) {
            chroma = bits.exp_golomb()?;
            if chroma > 3 || chroma == 3 && bits.flag()? {
                return None;
            }
            for depth in &mut depths {
                *depth = u8::try_from(bits.exp_golomb()?).ok().filter(|depth| *depth <= 6)?;
            }
            bits.flag()?;
            if bits.flag()? {
                for list in 0..if chroma == 3 { 12 } else { 8 } {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.exp_golomb()?;
        match bits.exp_golomb()? {
            0 => {
                bits.exp_golomb()?;
            }
            1 => {
                bits.flag()?;
                bits.exp_golomb()?;
                bits.exp_golomb()?;
                for _ in 0..bits.exp_golomb()?.min(255) {
                    bits.exp_golomb()?;
                }
            }
            _ => {}
        }
        bits.exp_golomb()?;
        bits.flag()?;
        let (width, height) = (bits.exp_golomb()?, bits.exp_golomb()?);
        let fields = if bits.flag()? { 1 } else { 2 };
        if fields == 2 {
            bits.flag()?;
        }
        bits.flag()?;
        let mut crop = [0; 4];
        if bits.flag()? {
            for side in &mut crop {
                *side = bits.exp_golomb()?;
            }
        }
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = fields * if chroma == 1 { 2 } else { 1 };
        let side = |blocks: u32, unit: u32, crop: &[u32]| {
            let full = u64::from(blocks).checked_add(1)?.checked_mul(16)?;
            let cut = u64::from(unit) * (u64::from(crop[0]) + u64::from(crop[1]));
            u16::try_from(full.checked_sub(cut)?).ok().filter(|side| *side > 0)
        };
        let width = side(width, unit_x, &crop[..2])?;
        let blocks = height.checked_add(1)?.checked_mul(fields)?.checked_sub(1)?;
        let height = side(blocks, unit_y, &crop[2..])?;
        Some(Self { size: (width, height), chroma: chroma as u8, depths })
    }
}

/// Passes over a scaling list (§7.3.2.1.1.1).
fn skip_scaling_list(bits: &mut Bits<'_>, len: usize) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..len {
        if next != 0 {
            let code = i64::from(bits.exp_golomb()?);
            let delta = if code % 2 == 0 { -code / 2 } else { (code + 1) / 2 };
            next = (last + delta).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// `AV1CodecConfigurationRecord` (AV1 in ISOBMFF §2.3) of the sequence header in a temporal unit.
fn av1_configuration(unit: &[u8]) -> Option<Vec<u8>> {
    let (_, header) = obus(unit).find(|(kind, _)| *kind == 1)?;
    let sequence = video::av1_sequence(header)?;
    let [second, third] = sequence.configuration;
    let mut record = vec![0x81, second, third, 0];
    // The header as an OBU with its size.
    record.push(0x0a);
    let mut len = header.len();
    while len >= 0x80 {
        record.push(len as u8 | 0x80);
        len >>= 7;
    }
    record.push(len as u8);
    record.extend_from_slice(header);
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 320 by 180, as x264 makes it: of the main profile, and of the high one.
    const MAIN: &[u8] =
        &[0x67, 0x4d, 0x40, 0x0d, 0xec, 0xa0, 0xa0, 0xbf, 0xc8, 0x03, 0x68, 0x22, 0x11, 0x96];

    fn access_unit(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
    }

    #[test]
    fn h264_has_lengths_in_a_file_and_start_codes_out_of_it() {
        let unit = access_unit(&[&[0x09, 0x10], &[0x65, 0x88, 0x80]]);
        let block = to_block(MediaFormat::H264, &unit);
        assert_eq!(*block, [0, 0, 0, 2, 0x09, 0x10, 0, 0, 0, 3, 0x65, 0x88, 0x80]);
        let short = to_block(MediaFormat::H264, &[0, 0, 1, 0x41, 0xe0, 0, 0, 0, 1, 0x41, 0x20]);
        assert_eq!(*short, [0, 0, 0, 2, 0x41, 0xe0, 0, 0, 0, 2, 0x41, 0x20]);
        assert!(to_block(MediaFormat::H264, &[1, 2, 3]).is_empty());

        let private = [1, 0x4d, 0x40, 0x0d, 0xff, 0xe1, 0, 2, 0x67, 0x4d, 1, 0, 2, 0x68, 0xee];
        let unpacking = Unpacking::of(MediaFormat::H264, &private).unwrap();
        let parameters = access_unit(&[&[0x67, 0x4d], &[0x68, 0xee]]);
        let frame = unpacking.frame(MediaFormat::H264, block.to_vec()).unwrap();
        assert_eq!(frame, [&parameters[..], &unit].concat(), "a key frame has its parameter sets");
        for len in 0..private.len() {
            assert!(Unpacking::of(MediaFormat::H264, &private[..len]).is_none(), "{len}");
        }
        for len in [1, 3, 5, 9] {
            assert_eq!(unpacking.frame(MediaFormat::H264, block[..len].to_vec()), None, "{len}");
        }
    }

    #[test]
    fn h264_tells_its_size() {
        let parameters = SequenceParameters::parse(MAIN).unwrap();
        assert_eq!((parameters.chroma, parameters.depths), (1, [0, 0]));
        for len in 0..MAIN.len() {
            let _ = SequenceParameters::parse(&MAIN[..len]);
        }
        let key = access_unit(&[MAIN, &[0x68, 0xee, 0x3c, 0x80], &[0x65, 0x88]]);
        let codec = Codec::of(MediaFormat::H264, &key).unwrap();
        assert_eq!(codec.private[..8], [1, 0x4d, 0x40, 0x0d, 0xff, 0xe1, 0, 14]);
        assert_eq!(Codec::of(MediaFormat::H264, &access_unit(&[MAIN, &[0x65, 0x88]])), None);
    }

    #[test]
    fn av1_has_no_delimiters_in_a_file_and_its_sequence_header_beside_it() {
        // As libaom writes it for 320 by 180.
        let header = [0x00, 0x00, 0x00, 0x04, 0x3c, 0xfe, 0xcc, 0xda, 0xf9, 0x00, 0x40];
        let mut unit = vec![0x12, 0, 0x0a, 11];
        unit.extend(header);
        unit.extend([0x32, 2, 0x10, 0]);
        let block = to_block(MediaFormat::Av1, &unit);
        assert_eq!(*block, unit[2..]);
        let unpacking = Unpacking::of(MediaFormat::Av1, &[]).unwrap();
        assert_eq!(unpacking.frame(MediaFormat::Av1, block.to_vec()), Some(unit.clone()));
        let codec = Codec::of(MediaFormat::Av1, &unit).unwrap();
        assert_eq!(codec.size, (320, 180));
        let mut expected = vec![0x81, 0x00, 0x0c, 0, 0x0a, 11];
        expected.extend(header);
        assert_eq!(codec.private, expected);
    }

    #[test]
    fn sound_is_described_as_it_is() {
        let codec = Codec::of(MediaFormat::Opus, &[0x7c]).unwrap();
        assert_eq!((codec.channels, codec.private.len()), (2, 19));
        assert_eq!(format_of(codec.id, &codec.private, 48_000, 2), Some(MediaFormat::Opus));
        for format in [MediaFormat::Alaw, MediaFormat::Ulaw] {
            let codec = Codec::of(format, &[0]).unwrap();
            assert_eq!(format_of(codec.id, &codec.private, 8_000, 1), Some(format));
            assert_eq!(format_of(codec.id, &codec.private, 16_000, 1), None);
        }
        assert_eq!(format_of("A_VORBIS", &[], 48_000, 2), None);
        assert_eq!(Codec::of(MediaFormat::Vp8, &[0x10, 0, 0, 0x9d, 1, 0x2a, 0, 0, 0, 0]), None);
    }
}
