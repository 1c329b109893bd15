//! Several payloads in one (RFC 2198): views, bounds checked, and how to write one.

use crate::{PayloadType, RtpError};

/// Blocks that are read from one payload, at most: nobody repeats more.
const MAX_BLOCKS: usize = 16;

/// Furthest that a block can lie back, in units of the clock: 14 bits.
pub(crate) const MAX_OFFSET: u32 = 0x3fff;

/// Longest block that is not the primary: 10 bits.
pub(crate) const MAX_BLOCK: usize = 0x3ff;

/// Length of the header of a block, and of that of the primary.
const HEADER: usize = 4;
const LAST_HEADER: usize = 1;

/// One block of a redundant payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedundantBlock<'a> {
    /// The payload type of its contents.
    pub payload_type: PayloadType,
    /// How much earlier than the packet's timestamp it is; 0 for the primary.
    pub timestamp_offset: u16,
    /// Its contents.
    pub payload: &'a [u8],
}

/// A payload of RFC 2198 whose bounds have been checked.
///
/// ```
/// use ortc_rtp::{PayloadType, RedundantView};
///
/// // An event of payload type 110, 960 units after another of two bytes.
/// let payload = [0x80 | 110, 0x0f, 0x00, 2, 110, 7, 8, 9];
/// let view = RedundantView::parse(&payload).unwrap();
/// let blocks: Vec<_> = view.blocks().map(|it| (it.timestamp_offset, it.payload)).collect();
/// assert_eq!(blocks, [(960, &[7, 8][..]), (0, &[9])]);
/// assert_eq!(view.primary().payload_type, PayloadType(110));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RedundantView<'a> {
    /// Headers of all blocks but the primary.
    headers: &'a [u8],
    primary: PayloadType,
    payloads: &'a [u8],
}

impl<'a> RedundantView<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// When a header or a block does not end within it, or there are more than 16 blocks.
    pub fn parse(payload: &'a [u8]) -> Result<Self, RtpError> {
        let mut at = 0;
        let mut repeated = 0;
        loop {
            let &first = payload.get(at).ok_or(RtpError::TooShort)?;
            if first & 0x80 == 0 {
                break;
            }
            let header = payload.get(at..at + HEADER).ok_or(RtpError::TooShort)?;
            repeated += Self::length(header);
            at += HEADER;
            if at / HEADER >= MAX_BLOCKS {
                return Err(RtpError::Length);
            }
        }
        let (headers, rest) = payload.split_at(at);
        let payloads = &rest[LAST_HEADER..];
        if payloads.len() < repeated {
            return Err(RtpError::TooShort);
        }
        Ok(Self { headers, primary: PayloadType(rest[0]), payloads })
    }

    /// The blocks, the oldest first and the primary last.
    pub fn blocks(&self) -> impl Iterator<Item = RedundantBlock<'a>> + use<'a> {
        let mut rest = self.payloads;
        let headers = self.headers.chunks_exact(HEADER);
        let primary = self.primary;
        headers.map(Some).chain([None]).map(move |header| {
            let Some(header) = header else {
                return RedundantBlock {
                    payload_type: primary,
                    timestamp_offset: 0,
                    payload: rest,
                };
            };
            let (payload, behind) = rest.split_at(Self::length(header).min(rest.len()));
            rest = behind;
            let offset = u16::from_be_bytes([header[1], header[2]]) >> 2;
            let payload_type = PayloadType(header[0] & 0x7f);
            RedundantBlock { payload_type, timestamp_offset: offset, payload }
        })
    }

    /// The primary: what the packet would be by itself.
    pub fn primary(&self) -> RedundantBlock<'a> {
        let repeated: usize = self.headers.chunks_exact(HEADER).map(Self::length).sum();
        let payload = self.payloads.get(repeated..).unwrap_or_default();
        RedundantBlock { payload_type: self.primary, timestamp_offset: 0, payload }
    }

    fn length(header: &[u8]) -> usize {
        usize::from(u16::from_be_bytes([header[2], header[3]])) & MAX_BLOCK
    }
}

/// Writes a redundant payload into `out`, the blocks in their order and the primary last, and
/// returns its length (RFC 2198 §3).
///
/// # Errors
/// [`RtpError::NoRoom`] when it does not fit; [`RtpError::Length`] when there is no block, or a
/// payload type, an offset or a length does not fit into its field.
pub fn write_redundant(blocks: &[RedundantBlock<'_>], out: &mut [u8]) -> Result<usize, RtpError> {
    let (primary, repeated) = blocks.split_last().ok_or(RtpError::Length)?;
    let fits = |block: &RedundantBlock<'_>| {
        block.payload_type.0 < 0x80
            && u32::from(block.timestamp_offset) <= MAX_OFFSET
            && block.payload.len() <= MAX_BLOCK
    };
    let is_sound = primary.timestamp_offset == 0 && primary.payload_type.0 < 0x80;
    if blocks.len() > MAX_BLOCKS || !is_sound || !repeated.iter().all(fits) {
        return Err(RtpError::Length);
    }
    let len = blocks.iter().map(|block| HEADER + block.payload.len()).sum::<usize>() - HEADER
        + LAST_HEADER;
    let mut rest = out.get_mut(..len).ok_or(RtpError::NoRoom)?;
    let mut write = |bytes: &[u8]| {
        let (head, tail) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        rest = tail;
    };
    for block in repeated {
        let fields = 1 << 31
            | u32::from(block.payload_type.0) << 24
            | u32::from(block.timestamp_offset) << 10
            | block.payload.len() as u32;
        write(&fields.to_be_bytes());
    }
    write(&[primary.payload_type.0]);
    for block in blocks {
        write(block.payload);
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: RedundantBlock<'_> =
        RedundantBlock { payload_type: PayloadType(5), timestamp_offset: 0, payload: &[1, 2, 3] };

    fn written(blocks: &[RedundantBlock<'_>]) -> Vec<u8> {
        let mut out = [0; 1_500];
        let len = write_redundant(blocks, &mut out).unwrap();
        out[..len].to_vec()
    }

    fn read(payload: &[u8]) -> Vec<RedundantBlock<'_>> {
        RedundantView::parse(payload).unwrap().blocks().collect()
    }

    #[test]
    fn the_packet_of_rfc_2198_has_its_bits_where_they_are_drawn() {
        // §4: a PCMA primary (here: type 5) with a reduced block (type 7) before it.
        let before =
            RedundantBlock { payload_type: PayloadType(7), timestamp_offset: 160, payload: &[9] };
        let payload = written(&[before, PRIMARY]);
        assert_eq!(payload, [0x87, 0x02, 0x80, 0x01, 0x05, 9, 1, 2, 3]);
        assert_eq!(read(&payload), [before, PRIMARY]);
        assert_eq!(RedundantView::parse(&payload).unwrap().primary(), PRIMARY);
    }

    #[test]
    fn a_primary_alone_has_one_byte_of_header_and_may_be_empty() {
        assert_eq!(written(&[PRIMARY]), [5, 1, 2, 3]);
        assert_eq!(read(&[5, 1, 2, 3]), [PRIMARY]);
        assert_eq!(read(&[5]), [RedundantBlock { payload: &[], ..PRIMARY }]);
    }

    #[test]
    fn the_largest_fields_come_back_and_larger_ones_are_refused() {
        let long = [7; MAX_BLOCK];
        let block = RedundantBlock {
            payload_type: PayloadType(127),
            timestamp_offset: MAX_OFFSET as u16,
            payload: &long,
        };
        assert_eq!(read(&written(&[block, PRIMARY])), [block, PRIMARY]);
        let over = [
            RedundantBlock { payload_type: PayloadType(128), ..block },
            RedundantBlock { timestamp_offset: MAX_OFFSET as u16 + 1, ..block },
            RedundantBlock { payload: &[0; MAX_BLOCK + 1], ..block },
        ];
        let mut out = [0; 4_000];
        for block in over {
            assert_eq!(write_redundant(&[block, PRIMARY], &mut out), Err(RtpError::Length));
        }
        assert_eq!(write_redundant(&[], &mut out), Err(RtpError::Length));
        assert_eq!(write_redundant(&[block], &mut out), Err(RtpError::Length), "no primary");
        assert_eq!(write_redundant(&[PRIMARY; 17], &mut out), Err(RtpError::Length));
        assert_eq!(write_redundant(&[PRIMARY], &mut out[..3]), Err(RtpError::NoRoom));
    }

    #[test]
    fn what_ends_too_early_or_never_is_refused() {
        let payload = written(&[RedundantBlock { timestamp_offset: 9, ..PRIMARY }, PRIMARY]);
        // The primary ends with the packet, so it may be of any length.
        for len in 0..8 {
            let error = RedundantView::parse(&payload[..len]).err();
            assert_eq!(error, Some(RtpError::TooShort), "{len}");
        }
        assert_eq!(RedundantView::parse(&[0xff; 4_000]).err(), Some(RtpError::Length));
    }
}
