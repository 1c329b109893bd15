//! EBML, the binary XML of Matroska (RFC 8794): numbers and elements.

use std::io::{self, Read};

use crate::wav::read_full;

/// The size of an element whose end is where another one begins.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Appends an id, which carries its length in itself.
fn put_id(out: &mut Vec<u8>, id: u32) {
    let bytes = id.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    out.extend_from_slice(&bytes[zeros..]);
}

/// Appends a number of as many bytes as it needs (RFC 8794 §4).
pub(crate) fn put_vint(out: &mut Vec<u8>, value: u64) {
    // All ones would be an unknown size.
    let len = (1..8).find(|len| value < (1 << (7 * len)) - 1).unwrap_or(8);
    put_vint_of(out, value, len);
}

/// Appends a number of `len` bytes, 1 to 8, which it has to fit in.
pub(crate) fn put_vint_of(out: &mut Vec<u8>, value: u64, len: usize) {
    debug_assert!((1..=8).contains(&len) && value < 1 << (7 * len));
    let marked = value | 1 << (7 * len);
    out.extend_from_slice(&marked.to_be_bytes()[8 - len..]);
}

/// Appends an element with these bytes.
pub(crate) fn put_binary(out: &mut Vec<u8>, id: u32, body: &[u8]) {
    put_id(out, id);
    put_vint(out, body.len() as u64);
    out.extend_from_slice(body);
}

pub(crate) fn put_uint(out: &mut Vec<u8>, id: u32, value: u64) {
    let bytes = value.to_be_bytes();
    let zeros = bytes[..7].iter().take_while(|byte| **byte == 0).count();
    put_binary(out, id, &bytes[zeros..]);
}

pub(crate) fn put_float(out: &mut Vec<u8>, id: u32, value: f64) {
    put_binary(out, id, &value.to_be_bytes());
}

pub(crate) fn put_text(out: &mut Vec<u8>, id: u32, text: &str) {
    put_binary(out, id, text.as_bytes());
}

/// Appends an element with the elements that `fill` appends.
pub(crate) fn put_master(out: &mut Vec<u8>, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    put_binary(out, id, &body);
}

/// Appends the head of an element whose size is told later, in 8 bytes.
pub(crate) fn put_unknown(out: &mut Vec<u8>, id: u32) {
    put_id(out, id);
    out.extend_from_slice(&[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
}

/// Appends an element without a meaning, of `len` bytes in all, at least 9.
pub(crate) fn put_void(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len >= 9);
    out.push(0xec);
    put_vint_of(out, (len - 9) as u64, 8);
    out.resize(out.len() + len - 9, 0);
}

/// Why a piece of a file is none.
#[derive(Debug)]
pub(crate) enum EbmlError {
    /// It is not what it should be.
    Malformed(&'static str),
    /// The file ends in it.
    Truncated,
    Io(io::Error),
}

impl From<io::Error> for EbmlError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the head of an element, its id and its size; `None` at the end.
pub(crate) fn read_head(input: &mut impl Read) -> Result<Option<(u32, u64)>, EbmlError> {
    let mut first = [0];
    if read_full(input, &mut first)? == 0 {
        return Ok(None);
    }
    let len = first[0].leading_zeros() as usize + 1;
    if len > 4 {
        return Err(EbmlError::Malformed("what should be an element is none"));
    }
    let id = read_rest(input, first[0].into(), len)?;
    Ok(Some((id as u32, read_size(input)?)))
}

fn read_size(input: &mut impl Read) -> Result<u64, EbmlError> {
    let mut first = [0];
    exactly(input, &mut first)?;
    let len = first[0].leading_zeros() as usize + 1;
    if len > 8 {
        return Err(EbmlError::Malformed("a size has more than eight bytes"));
    }
    let marker = 1 << (7 * len);
    let value = read_rest(input, first[0].into(), len)? & (marker - 1);
    Ok(if value == marker - 1 { UNKNOWN } else { value })
}

fn read_rest(input: &mut impl Read, first: u64, len: usize) -> Result<u64, EbmlError> {
    let mut rest = [0; 7];
    let rest = &mut rest[..len - 1];
    exactly(input, rest)?;
    Ok(rest.iter().fold(first, |value, byte| value << 8 | u64::from(*byte)))
}

/// Fills `buffer`.
fn exactly(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), EbmlError> {
    if read_full(input, buffer)? == buffer.len() { Ok(()) } else { Err(EbmlError::Truncated) }
}

/// Reads the body of an element, of which no more is allocated than is there.
pub(crate) fn read_body(input: &mut impl Read, size: u64, max: u64) -> Result<Vec<u8>, EbmlError> {
    if size > max {
        return Err(EbmlError::Malformed("an element is longer than any real one"));
    }
    let mut body = Vec::new();
    input.take(size).read_to_end(&mut body)?;
    if (body.len() as u64) < size { Err(EbmlError::Truncated) } else { Ok(body) }
}

/// Passes over the body of an element.
pub(crate) fn skip(input: &mut impl Read, size: u64) -> Result<(), EbmlError> {
    if size == UNKNOWN {
        return Err(EbmlError::Malformed("an element that cannot be read has no end"));
    }
    let skipped = io::copy(&mut input.take(size), &mut io::sink())?;
    if skipped < size { Err(EbmlError::Truncated) } else { Ok(()) }
}

/// An unsigned number; of more than 8 bytes the last count.
pub(crate) fn uint(body: &[u8]) -> u64 {
    body.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Takes a number off the front of `bytes`, as sizes are written, with its length in bytes.
pub(crate) fn take_vint(bytes: &mut &[u8]) -> Option<(u64, usize)> {
    let len = bytes.first()?.leading_zeros() as usize + 1;
    let (number, rest) = bytes.split_at_checked(len).filter(|_| len <= 8)?;
    *bytes = rest;
    Some((uint(number) & ((1 << (7 * len)) - 1), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_written_as_they_are_read() {
        for value in [0, 1, 126, 127, 128, 16_382, 16_383, 1 << 20, (1 << 56) - 2] {
            let mut bytes = Vec::new();
            put_vint(&mut bytes, value);
            let mut rest = &bytes[..];
            assert_eq!(take_vint(&mut rest), Some((value, bytes.len())));
            assert_eq!(read_size(&mut &bytes[..]).unwrap(), value);
        }
        let mut bytes = Vec::new();
        put_vint_of(&mut bytes, 5, 8);
        assert_eq!(bytes, [1, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(take_vint(&mut &[0u8; 9][..]), None);
        assert_eq!(take_vint(&mut &[0x40u8][..]), None);
    }

    #[test]
    fn elements_are_written_as_they_are_read() {
        let mut bytes = Vec::new();
        put_uint(&mut bytes, 0xd7, 0);
        put_uint(&mut bytes, 0x2a_d7b1, 1_000_000);
        put_unknown(&mut bytes, 0x1853_8067);
        put_void(&mut bytes, 20);
        let input = &mut &bytes[..];
        assert_eq!(read_head(input).unwrap(), Some((0xd7, 1)));
        assert_eq!(uint(&read_body(input, 1, 8).unwrap()), 0);
        assert_eq!(read_head(input).unwrap(), Some((0x2a_d7b1, 3)));
        assert_eq!(uint(&read_body(input, 3, 8).unwrap()), 1_000_000);
        assert_eq!(read_head(input).unwrap(), Some((0x1853_8067, UNKNOWN)));
        assert_eq!(read_head(input).unwrap(), Some((0xec, 11)));
        skip(input, 11).unwrap();
        assert_eq!(read_head(input).unwrap(), None);
        assert!(matches!(read_head(&mut &[0x1au8, 0x45][..]), Err(EbmlError::Truncated)));
        assert!(matches!(read_head(&mut &[0x08u8][..]), Err(EbmlError::Malformed(_))));
        assert!(matches!(read_body(&mut &[1u8][..], 2, 8), Err(EbmlError::Truncated)));
        assert!(matches!(skip(&mut &[1u8][..], UNKNOWN), Err(EbmlError::Malformed(_))));
    }
}
