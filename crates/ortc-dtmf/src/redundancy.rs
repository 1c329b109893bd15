//! RFC 2198, as far as telephone events use it.

use thiserror::Error;

/// Blocks that are read from one payload, at most; each may hold several events.
const MAX_BLOCKS: usize = 16;

/// Furthest that a redundant block can lie back, in units of the clock: 14 bits.
pub(crate) const MAX_OFFSET: u32 = 0x3fff;

/// Longest redundant block: 10 bits.
const MAX_BLOCK: usize = 0x3ff;

/// One block of a redundant payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedundantBlock<'a> {
    /// The payload type of its contents, 0 to 127.
    pub payload_type: u8,
    /// How much earlier than the packet's timestamp it is; 0 for the primary.
    pub timestamp_offset: u16,
    /// Its contents.
    pub payload: &'a [u8],
}

/// Why a payload is not one of RFC 2198, or cannot be written as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RedundancyError {
    /// A header or a block does not end within the payload.
    #[error("a redundant payload that ends too early")]
    Truncated,
    /// There are more blocks than anyone sends.
    #[error("a redundant payload of more than {MAX_BLOCKS} blocks")]
    TooMany,
    /// A payload type, an offset or a length does not fit into its field.
    #[error("a block that does not fit into the fields of RFC 2198")]
    DoesNotFit,
}

/// Reads the blocks of a redundant payload, the oldest first and the primary last
/// (RFC 2198 §3).
///
/// # Errors
///
/// Fails, without a block, when any of them is not whole.
///
/// ```
/// use ortc_dtmf::{RedundantBlock, decode_redundant, encode_redundant};
///
/// let old = RedundantBlock { payload_type: 101, timestamp_offset: 1_200, payload: &[1, 0x8a, 3, 32] };
/// let new = RedundantBlock { payload_type: 101, timestamp_offset: 0, payload: &[2, 0x0a, 0, 160] };
/// let mut payload = Vec::new();
/// encode_redundant(&[old, new], &mut payload).unwrap();
/// assert_eq!(payload.len(), 5 + 8);
/// assert_eq!(decode_redundant(&payload).unwrap(), [old, new]);
/// ```
pub fn decode_redundant(payload: &[u8]) -> Result<Vec<RedundantBlock<'_>>, RedundancyError> {
    let mut headers = Vec::new();
    let mut rest = payload;
    loop {
        let &first = rest.first().ok_or(RedundancyError::Truncated)?;
        if first & 0x80 == 0 {
            rest = &rest[1..];
            headers.push((first, 0, None));
            break;
        }
        if headers.len() + 1 >= MAX_BLOCKS {
            return Err(RedundancyError::TooMany);
        }
        let (header, behind) = rest.split_first_chunk::<4>().ok_or(RedundancyError::Truncated)?;
        let fields = u32::from_be_bytes(*header);
        let offset = fields >> 10 & MAX_OFFSET;
        headers.push((first & 0x7f, offset as u16, Some(fields as usize & MAX_BLOCK)));
        rest = behind;
    }
    headers
        .into_iter()
        .map(|(payload_type, timestamp_offset, len)| {
            let len = len.unwrap_or(rest.len());
            let (payload, behind) = rest.split_at_checked(len).ok_or(RedundancyError::Truncated)?;
            rest = behind;
            Ok(RedundantBlock { payload_type, timestamp_offset, payload })
        })
        .collect()
}

/// Appends a redundant payload to `out`: `blocks` in their order, the last of which is the
/// primary (RFC 2198 §3).
///
/// # Errors
///
/// Fails, and appends nothing, when there is no block or a block does not fit: payload types
/// have 7 bits, offsets 14, lengths 10, and the primary's offset is 0.
pub fn encode_redundant(
    blocks: &[RedundantBlock<'_>],
    out: &mut Vec<u8>,
) -> Result<(), RedundancyError> {
    let (primary, redundant) = blocks.split_last().ok_or(RedundancyError::DoesNotFit)?;
    let fits = redundant.iter().all(|block| {
        block.payload_type < 0x80
            && u32::from(block.timestamp_offset) <= MAX_OFFSET
            && block.payload.len() <= MAX_BLOCK
    });
    if !fits || primary.payload_type >= 0x80 || primary.timestamp_offset != 0 {
        return Err(RedundancyError::DoesNotFit);
    }
    if blocks.len() > MAX_BLOCKS {
        return Err(RedundancyError::TooMany);
    }
    for block in redundant {
        let fields = 1 << 31
            | u32::from(block.payload_type) << 24
            | u32::from(block.timestamp_offset) << 10
            | block.payload.len() as u32;
        out.extend_from_slice(&fields.to_be_bytes());
    }
    out.push(primary.payload_type);
    for block in blocks {
        out.extend_from_slice(block.payload);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: RedundantBlock<'_> =
        RedundantBlock { payload_type: 101, timestamp_offset: 0, payload: &[1, 2, 3, 4] };

    #[test]
    fn a_primary_alone_has_one_byte_of_header() {
        let mut payload = Vec::new();
        encode_redundant(&[PRIMARY], &mut payload).unwrap();
        assert_eq!(payload, [101, 1, 2, 3, 4]);
        assert_eq!(decode_redundant(&payload), Ok(vec![PRIMARY]));
    }

    #[test]
    fn the_largest_fields_come_back() {
        let long = [7; MAX_BLOCK];
        let block = RedundantBlock { payload_type: 127, timestamp_offset: 0x3fff, payload: &long };
        let mut payload = Vec::new();
        encode_redundant(&[block, PRIMARY], &mut payload).unwrap();
        assert_eq!(decode_redundant(&payload), Ok(vec![block, PRIMARY]));
        let over = [
            RedundantBlock { payload_type: 128, ..block },
            RedundantBlock { timestamp_offset: 0x4000, ..block },
            RedundantBlock { payload: &[0; MAX_BLOCK + 1], ..block },
        ];
        for block in over {
            let error = encode_redundant(&[block, PRIMARY], &mut payload);
            assert_eq!(error, Err(RedundancyError::DoesNotFit));
        }
        assert_eq!(encode_redundant(&[], &mut payload), Err(RedundancyError::DoesNotFit));
        assert_eq!(
            encode_redundant(&[block], &mut payload),
            Err(RedundancyError::DoesNotFit),
            "a primary with an offset"
        );
        assert_eq!(encode_redundant(&[PRIMARY; 17], &mut payload), Err(RedundancyError::TooMany));
    }

    #[test]
    fn what_ends_too_early_or_never_is_refused_wherever_it_ends() {
        let mut payload = Vec::new();
        let blocks = [RedundantBlock { timestamp_offset: 9, ..PRIMARY }, PRIMARY];
        encode_redundant(&blocks, &mut payload).unwrap();
        // The primary ends with the packet, so it may be of any length.
        for len in 0..9 {
            assert_eq!(decode_redundant(&payload[..len]), Err(RedundancyError::Truncated), "{len}");
        }
        assert_eq!(decode_redundant(&[0xff; 4_000]), Err(RedundancyError::TooMany));
    }
}
