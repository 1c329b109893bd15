//! Ogg pages (RFC 3533 §6).

use std::io::{self, ErrorKind, Read};

/// This page begins in the middle of a packet.
pub(crate) const CONTINUED: u8 = 1;
/// The first page of a logical stream.
pub(crate) const FIRST: u8 = 2;
/// The last page of a logical stream.
pub(crate) const LAST: u8 = 4;

/// Most segments of a page: their number is one byte.
pub(crate) const MAX_SEGMENTS: usize = 255;

const HEADER: usize = 27;
const CHECKSUM: std::ops::Range<usize> = 22..26;

/// A page, taken apart. At most 65,307 bytes on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) flags: u8,
    pub(crate) granule: u64,
    pub(crate) serial: u32,
    pub(crate) sequence: u32,
    /// Lengths of the segments, at most 255 of them; one of 255 bytes goes on in the next.
    pub(crate) lacing: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum PageError {
    /// It does not begin with a page header of version 0, or its checksum is wrong.
    Damaged,
    /// The input ends in the middle of it.
    Truncated,
    /// The system failed to read.
    Io(io::Error),
}

impl Page {
    /// Reads the next page and adds its length to `offset`; `None` at the end of the input.
    pub(crate) fn read(input: &mut impl Read, offset: &mut u64) -> Result<Option<Self>, PageError> {
        let mut head = [0; HEADER];
        match fill(input, &mut head)? {
            0 => return Ok(None),
            HEADER => {}
            short if b"OggS".starts_with(&head[..short.min(4)]) => {
                return Err(PageError::Truncated);
            }
            _ => return Err(PageError::Damaged),
        }
        if !head.starts_with(b"OggS\0") {
            return Err(PageError::Damaged);
        }
        let mut lacing = vec![0; usize::from(head[26])];
        exactly(input, &mut lacing)?;
        let mut body = vec![0; lacing.iter().map(|&length| usize::from(length)).sum()];
        exactly(input, &mut body)?;

        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let page = Self {
            flags: head[5],
            granule: u64::from(word(6)) | u64::from(word(10)) << 32,
            serial: word(14),
            sequence: word(18),
            lacing,
            body,
        };
        let expected = word(22);
        head[CHECKSUM].fill(0);
        if checksum(&[&head, &page.lacing, &page.body]) != expected {
            return Err(PageError::Damaged);
        }
        *offset += (HEADER + page.lacing.len() + page.body.len()) as u64;
        Ok(Some(page))
    }

    /// The page as it is written, in one piece.
    pub(crate) fn encode(&self) -> Vec<u8> {
        debug_assert!(self.lacing.len() <= MAX_SEGMENTS);
        let mut bytes = Vec::with_capacity(HEADER + self.lacing.len() + self.body.len());
        bytes.extend_from_slice(b"OggS\0");
        bytes.push(self.flags);
        bytes.extend_from_slice(&self.granule.to_le_bytes());
        bytes.extend_from_slice(&self.serial.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.push(self.lacing.len() as u8);
        bytes.extend_from_slice(&self.lacing);
        bytes.extend_from_slice(&self.body);
        let checksum = checksum(&[&bytes]);
        bytes[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Appends a whole packet; `false` if it does not fit on this page.
    pub(crate) fn push_packet(&mut self, packet: &[u8]) -> bool {
        if self.lacing.len() + packet.len() / 255 + 1 > MAX_SEGMENTS {
            return false;
        }
        self.lacing.extend(std::iter::repeat_n(255, packet.len() / 255));
        self.lacing.push((packet.len() % 255) as u8);
        self.body.extend_from_slice(packet);
        true
    }
}

/// Reads until `buffer` is full or the input ends; returns how much was read.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, PageError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(PageError::Io(error)),
        }
    }
    Ok(filled)
}

fn exactly(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), PageError> {
    if fill(input, buffer)? == buffer.len() { Ok(()) } else { Err(PageError::Truncated) }
}

/// CRC-32 with the polynomial 0x04c11db7, neither reflected nor inverted (RFC 3533 §6).
fn checksum(parts: &[&[u8]]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = (index as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                value = value << 1 ^ if value >> 31 == 1 { 0x04c1_1db7 } else { 0 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0, |crc: u32, byte| crc << 8 ^ TABLE[usize::from((crc >> 24) as u8 ^ byte)])
}
