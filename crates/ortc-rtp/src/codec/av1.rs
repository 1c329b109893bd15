//! AV1 (RTP Payload Format for AV1, version 1.0, of the Alliance for Open Media).

use bytes::{BufMut, Bytes, BytesMut};

use super::depacketizer::Malformed;

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

/// An OBU header bit: an extension byte follows.
const HAS_EXTENSION: u8 = 0x04;
/// An OBU header bit: its size follows.
const HAS_SIZE: u8 = 0x02;

/// A temporal delimiter with its size: every temporal unit of a file begins with one.
const DELIMITER: [u8; 2] = [TEMPORAL_DELIMITER << 3 | HAS_SIZE, 0];

fn kind(header: u8) -> u8 {
    header >> 3 & 0x0f
}

/// Reads a LEB128 number of at most 32 bits and returns what follows it (AV1 §4.10.5).
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((value as usize, &bytes[at + 1..]));
        }
    }
    None
}

fn put_leb128(mut value: usize, out: &mut impl BufMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn leb128_len(value: usize) -> usize {
    (value.checked_ilog2().unwrap_or(0) / 7 + 1) as usize
}

/// Takes the first OBU off: its header bytes, its body, and what follows.
fn take_obu(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let &header = bytes.first()?;
    let header_len = if header & HAS_EXTENSION != 0 { 2 } else { 1 };
    let (head, rest) = bytes.split_at_checked(header_len)?;
    // obu_forbidden_bit (AV1 §5.3.2).
    if header & 0x80 != 0 {
        return None;
    }
    if header & HAS_SIZE == 0 {
        return Some((head, rest, &[]));
    }
    let (len, rest) = leb128(rest)?;
    let (body, rest) = rest.split_at_checked(len)?;
    Some((head, body, rest))
}

/// Cuts a temporal unit: OBUs without their sizes, small ones together, large ones over
/// several packets. Delimiters, tile lists and padding are left out, as §5 asks.
pub(super) fn packetize(unit: &Bytes, max_payload: usize) -> Result<Vec<Bytes>, &'static str> {
    let mut elements: Vec<BytesMut> = Vec::new();
    let mut rest = &unit[..];
    while !rest.is_empty() {
        let (head, body, after) = take_obu(rest).ok_or("an OBU is longer than the frame")?;
        rest = after;
        if matches!(kind(head[0]), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            continue;
        }
        let mut element = BytesMut::with_capacity(head.len() + body.len());
        element.put_u8(head[0] & !HAS_SIZE);
        element.put_slice(&head[1..]);
        element.put_slice(body);
        elements.push(element);
    }
    let new_sequence = is_key(unit);
    let mut payloads = Vec::new();
    let mut packet: Vec<BytesMut> = Vec::new();
    let mut room = max_payload - 1;
    let mut continued = false;
    for mut element in elements {
        loop {
            let needed = leb128_len(element.len()) + element.len();
            if needed <= room {
                room -= needed;
                packet.push(element);
                break;
            }
            // Two bytes of size are enough for what fits a packet.
            let part = room.saturating_sub(2).min(element.len());
            // A few bytes at the end of a packet are not worth another element.
            let cut = part > 8 || packet.is_empty();
            if cut {
                packet.push(element.split_to(part));
            }
            let first = payloads.is_empty() && new_sequence;
            payloads.push(encode(&packet, continued, cut, first));
            packet.clear();
            continued = cut;
            room = max_payload - 1;
        }
    }
    if !packet.is_empty() {
        let first = payloads.is_empty() && new_sequence;
        payloads.push(encode(&packet, continued, false, first));
    }
    Ok(payloads)
}

/// Writes one packet (§4.4, §4.5): Z, Y, W, N, then the elements, the last of up to three
/// without its size.
fn encode(elements: &[BytesMut], continued: bool, continues: bool, new_sequence: bool) -> Bytes {
    let counted = elements.len() <= 3;
    let count = if counted { elements.len() as u8 } else { 0 };
    let mut payload =
        BytesMut::with_capacity(1 + elements.iter().map(|e| 4 + e.len()).sum::<usize>());
    payload.put_u8(
        u8::from(continued) << 7
            | u8::from(continues) << 6
            | count << 4
            | u8::from(new_sequence) << 3,
    );
    for (at, element) in elements.iter().enumerate() {
        if !counted || at + 1 < elements.len() {
            put_leb128(element.len(), &mut payload);
        }
        payload.put_slice(element);
    }
    payload.freeze()
}

/// What goes from packet to packet within a temporal unit.
#[derive(Debug, Clone, Default)]
pub(super) struct Unpacker {
    /// An OBU that the next packet continues.
    partial: Vec<u8>,
    continues: bool,
}

impl Unpacker {
    pub(super) fn reset(&mut self) {
        self.partial.clear();
        self.continues = false;
    }

    /// Bytes that wait outside the frame.
    pub(super) fn pending(&self) -> usize {
        self.partial.len()
    }

    pub(super) fn append(&mut self, payload: &[u8], frame: &mut Vec<u8>) -> Result<(), Malformed> {
        let (&header, mut rest) = payload.split_first().ok_or(Malformed)?;
        let (continued, continues) = (header & 0x80 != 0, header & 0x40 != 0);
        let count = header >> 4 & 3;
        if continued != self.continues || rest.is_empty() {
            return Err(Malformed);
        }
        if frame.is_empty() {
            frame.extend_from_slice(&DELIMITER);
        }
        let mut index = 0;
        while !rest.is_empty() {
            index += 1;
            let element = if count != 0 && index == count {
                std::mem::take(&mut rest)
            } else {
                let (len, after) = leb128(rest).ok_or(Malformed)?;
                let (element, after) = after.split_at_checked(len).ok_or(Malformed)?;
                rest = after;
                element
            };
            self.partial.extend_from_slice(element);
            if !(rest.is_empty() && continues) {
                self.end_obu(frame)?;
            }
        }
        if count != 0 && index != count {
            return Err(Malformed);
        }
        self.continues = continues;
        Ok(())
    }

    /// Writes the gathered OBU with its size.
    fn end_obu(&mut self, frame: &mut Vec<u8>) -> Result<(), Malformed> {
        // An element may be empty (§4.5); there is no OBU in it.
        if !self.partial.is_empty() {
            let (head, body, rest) = take_obu(&self.partial).ok_or(Malformed)?;
            if !rest.is_empty() {
                return Err(Malformed);
            }
            if !matches!(kind(head[0]), TEMPORAL_DELIMITER | TILE_LIST) {
                frame.push(head[0] | HAS_SIZE);
                frame.extend_from_slice(&head[1..]);
                put_leb128(body.len(), frame);
                frame.extend_from_slice(body);
            }
        }
        self.partial.clear();
        Ok(())
    }

    /// Ends the temporal unit.
    pub(super) fn finish(&mut self) -> Result<(), Malformed> {
        let whole = !self.continues;
        self.reset();
        if whole { Ok(()) } else { Err(Malformed) }
    }
}

/// Whether a temporal unit can begin with this payload: a new OBU that no other must precede.
pub(super) fn begins(payload: &[u8]) -> bool {
    let Some((&header, rest)) = payload.split_first() else { return false };
    if header & 0x80 != 0 {
        return false;
    }
    let first = if header >> 4 & 3 == 1 { Some(rest) } else { leb128(rest).map(|(_, rest)| rest) };
    let obu = first.and_then(|rest| rest.first());
    obu.is_some_and(|&obu| matches!(kind(obu), SEQUENCE_HEADER | TEMPORAL_DELIMITER | 3 | 5 | 6))
}

/// Whether a coded video sequence begins here: with the N bit (AV1 RTP §4.4), or with a sequence
/// header.
pub(super) fn begins_key(payload: &[u8]) -> bool {
    let Some((&header, rest)) = payload.split_first() else { return false };
    if header & 0x80 != 0 {
        return false;
    }
    let first = if header >> 4 & 3 == 1 { Some(rest) } else { leb128(rest).map(|(_, rest)| rest) };
    let obu = first.and_then(|rest| rest.first());
    header & 0x08 != 0 || obu.is_some_and(|&obu| kind(obu) == SEQUENCE_HEADER)
}

/// Whether a temporal unit begins a coded video sequence (AV1 §7.5): a sequence header, then a
/// key frame that is shown as it is.
pub(super) fn is_key(unit: &[u8]) -> bool {
    let mut rest = unit;
    let mut header = None;
    while let Some((head, body, after)) = take_obu(rest) {
        match kind(head[0]) {
            SEQUENCE_HEADER => header = Some(body),
            FRAME | FRAME_HEADER => {
                // A still picture's header has neither of the two (reduced_still_picture_header).
                let still = header.is_some_and(|body| body.first().is_some_and(|b| b & 8 != 0));
                // show_existing_frame, then two bits of frame_type, 0 for a key frame.
                let key = body.first().is_some_and(|byte| byte & 0xe0 == 0);
                return header.is_some() && (still || key);
            }
            _ => {}
        }
        if after.len() == rest.len() {
            break;
        }
        rest = after;
    }
    false
}
