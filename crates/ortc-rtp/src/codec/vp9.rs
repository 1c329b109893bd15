//! VP9 (RFC 9628).

use bytes::Bytes;

use super::depacketizer::Malformed;

/// Flags, and a picture id of 15 bits.
const DESCRIPTOR: usize = 3;

/// Cuts frames in non-flexible mode without layer indices: that says all there is to say of a
/// stream whose layers are not known here.
#[derive(Debug, Clone, Default)]
pub(super) struct Packetizer {
    picture_id: u16,
}

impl Packetizer {
    pub(super) fn packetize(
        &mut self,
        frame: &Bytes,
        max_payload: usize,
    ) -> Result<Vec<Bytes>, &'static str> {
        let inter = !key(frame).ok_or("it does not begin with a VP9 frame header")?;
        let step = max_payload - DESCRIPTOR;
        let payloads = (0..frame.len())
            .step_by(step)
            .map(|start| {
                let part = &frame[start..frame.len().min(start + step)];
                let (first, last) = (start == 0, start + step >= frame.len());
                // I, P, B and E (RFC 9628 §4.2).
                let flags =
                    0x80 | u8::from(inter) << 6 | u8::from(first) << 3 | u8::from(last) << 2;
                let [high, low] = (0x8000 | self.picture_id).to_be_bytes();
                [&[flags, high, low], part].concat().into()
            })
            .collect();
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        Ok(payloads)
    }
}

/// Length of the payload descriptor (RFC 9628 §4.2).
fn descriptor(payload: &[u8]) -> Result<usize, Malformed> {
    let at = |index: usize| payload.get(index).copied().ok_or(Malformed);
    let flags = at(0)?;
    let flexible = flags & 0x10 != 0;
    let mut len = 1;
    if flags & 0x80 != 0 {
        len += if at(len)? & 0x80 != 0 { 2 } else { 1 };
    }
    if flags & 0x20 != 0 {
        // Layer indices, and TL0PICIDX outside flexible mode.
        len += if flexible { 1 } else { 2 };
    }
    if flexible && flags & 0x40 != 0 {
        // At most three references, each with a bit that says whether another follows.
        for reference in 1.. {
            if reference > 3 {
                return Err(Malformed);
            }
            len += 1;
            if at(len - 1)? & 1 == 0 {
                break;
            }
        }
    }
    if flags & 0x02 != 0 {
        len = scalability_structure(payload, len)?;
    }
    if len >= payload.len() { Err(Malformed) } else { Ok(len) }
}

/// The end of the scalability structure that begins at `start` (RFC 9628 §4.2.1).
fn scalability_structure(payload: &[u8], start: usize) -> Result<usize, Malformed> {
    let at = |index: usize| payload.get(index).copied().ok_or(Malformed);
    let head = at(start)?;
    let mut len = start + 1;
    if head & 0x10 != 0 {
        len += 4 * (usize::from(head >> 5) + 1);
    }
    if head & 0x08 != 0 {
        let pictures = at(len)?;
        len += 1;
        for _ in 0..pictures {
            len += 1 + usize::from(at(len)? >> 2 & 3);
        }
    }
    Ok(len)
}

/// Whether a picture begins here: the start of a frame of the lowest spatial layer.
pub(super) fn begins(payload: &[u8]) -> bool {
    let Ok(_) = descriptor(payload) else { return false };
    let flags = payload[0];
    let layer = if flags & 0x20 != 0 {
        let id_len = match (flags & 0x80 != 0, payload[1] & 0x80 != 0) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        payload[1 + id_len] >> 1 & 7
    } else {
        0
    };
    flags & 0x08 != 0 && layer == 0
}

/// Whether a picture begins here that depends on no other.
pub(super) fn begins_key(payload: &[u8]) -> bool {
    begins(payload) && payload[0] & 0x40 == 0
}

pub(super) fn append(payload: &[u8], frame: &mut Vec<u8>) -> Result<(), Malformed> {
    let len = descriptor(payload)?;
    frame.extend_from_slice(&payload[len..]);
    Ok(())
}

/// Whether a frame is a key frame, from its uncompressed header (VP9 bitstream §6.2); `None`
/// for what has no such header.
fn key(frame: &[u8]) -> Option<bool> {
    let &first = frame.first()?;
    if first >> 6 != 2 {
        return None;
    }
    // Profile 3 has a reserved bit before the rest.
    let shift = if first & 0x30 == 0x30 { 1 } else { 0 };
    let bits = first << (4 + shift);
    let (shows_existing, inter) = (bits & 0x80 != 0, bits & 0x40 != 0);
    Some(!shows_existing && !inter)
}

pub(super) fn is_key(frame: &[u8]) -> bool {
    key(frame).unwrap_or(false)
}
