//! H.264 in packetization mode 1 (RFC 6184): single NAL units, STAP-A and FU-A.

use bytes::{BufMut, Bytes, BytesMut};

use super::depacketizer::Malformed;

const SLICE: u8 = 1;
const IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;
const FILLER: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The NAL units of a byte stream (Annex B); `None` if it does not begin with a start code.
fn nal_units(frame: &Bytes) -> Option<Vec<Bytes>> {
    let zeros = frame.iter().take_while(|&&byte| byte == 0).count();
    if zeros < 2 || frame.get(zeros) != Some(&1) {
        return None;
    }
    let mut units = Vec::new();
    let mut start = zeros + 1;
    loop {
        let next = frame[start..].windows(3).position(|code| code == [0, 0, 1]);
        let end = next.map_or(frame.len(), |at| start + at);
        // Zeros before a start code belong to it; a NAL unit never ends with one (§7.4.1).
        let trailing = frame[start..end].iter().rev().take_while(|&&byte| byte == 0).count();
        if end - trailing > start {
            units.push(frame.slice(start..end - trailing));
        }
        match next {
            Some(at) => start += at + 3,
            None => return Some(units),
        }
    }
}

pub(super) fn packetize(frame: &Bytes, max_payload: usize) -> Result<Vec<Bytes>, &'static str> {
    let mut units = nal_units(frame).ok_or("it does not begin with a start code (Annex B)")?;
    // Neither tells a receiver anything (RFC 6184 §5.2 has no need of them).
    units.retain(|unit| !matches!(unit[0] & 0x1f, DELIMITER | FILLER));
    if units.iter().any(|unit| !(1..=23).contains(&(unit[0] & 0x1f))) {
        return Err("it holds a NAL unit of a type that RTP keeps for itself");
    }
    let mut payloads = Vec::new();
    let mut rest = &units[..];
    while let Some(unit) = rest.first() {
        if unit.len() > max_payload {
            fragment(unit, max_payload, &mut payloads);
            rest = &rest[1..];
            continue;
        }
        // As many as fit one packet, for small ones that stand together.
        let mut len = 1;
        let count = rest
            .iter()
            .take_while(|unit| {
                len += 2 + unit.len();
                len <= max_payload
            })
            .count();
        if count < 2 {
            payloads.push(unit.clone());
            rest = &rest[1..];
        } else {
            payloads.push(aggregate(&rest[..count]));
            rest = &rest[count..];
        }
    }
    Ok(payloads)
}

/// Puts units into one STAP-A (RFC 6184 §5.7.1).
fn aggregate(units: &[Bytes]) -> Bytes {
    let forbidden = units.iter().fold(0, |bits, unit| bits | unit[0] & 0x80);
    let importance = units.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
    let mut payload = BytesMut::with_capacity(1 + units.iter().map(|u| 2 + u.len()).sum::<usize>());
    payload.put_u8(forbidden | importance | STAP_A);
    for unit in units {
        payload.put_u16(unit.len() as u16);
        payload.put_slice(unit);
    }
    payload.freeze()
}

/// Cuts a unit into FU-As (RFC 6184 §5.8), as even as they can be.
fn fragment(unit: &Bytes, max_payload: usize, payloads: &mut Vec<Bytes>) {
    let (indicator, kind) = (unit[0] & 0xe0 | FU_A, unit[0] & 0x1f);
    let body = &unit[1..];
    let count = body.len().div_ceil(max_payload - 2);
    let step = body.len().div_ceil(count.max(1)).max(1);
    for (at, part) in body.chunks(step).enumerate() {
        let (first, last) = (at == 0, (at + 1) * step >= body.len());
        let header = u8::from(first) << 7 | u8::from(last) << 6 | kind;
        payloads.push([&[indicator, header], part].concat().into());
    }
}

/// What goes from packet to packet within an access unit.
#[derive(Debug, Clone, Default)]
pub(super) struct Unpacker {
    /// A FU-A has begun and not ended: its type.
    fragment: Option<u8>,
    key: bool,
}

impl Unpacker {
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Appends the NAL units of a payload, each with a start code.
    pub(super) fn append(&mut self, payload: &[u8], frame: &mut Vec<u8>) -> Result<(), Malformed> {
        let (&first, rest) = payload.split_first().ok_or(Malformed)?;
        let kind = first & 0x1f;
        if kind != FU_A && self.fragment.is_some() {
            return Err(Malformed);
        }
        match kind {
            1..=23 => {
                self.unit(payload, frame);
                Ok(())
            }
            STAP_A => {
                let mut rest = rest;
                while let Some((len, after)) = rest.split_first_chunk::<2>() {
                    let len = usize::from(u16::from_be_bytes(*len));
                    let (unit, after) = after.split_at_checked(len).ok_or(Malformed)?;
                    if !(1..=23).contains(&(unit.first().ok_or(Malformed)? & 0x1f)) {
                        return Err(Malformed);
                    }
                    self.unit(unit, frame);
                    rest = after;
                }
                if rest.is_empty() { Ok(()) } else { Err(Malformed) }
            }
            FU_A => {
                let (&header, part) = rest.split_first().ok_or(Malformed)?;
                let (start, end, kind) = (header & 0x80 != 0, header & 0x40 != 0, header & 0x1f);
                if !(1..=23).contains(&kind) || start != self.fragment.is_none() {
                    return Err(Malformed);
                }
                if start {
                    self.unit(&[first & 0xe0 | kind], frame);
                    self.fragment = Some(kind);
                } else if self.fragment != Some(kind) {
                    return Err(Malformed);
                }
                frame.extend_from_slice(part);
                if end {
                    self.fragment = None;
                }
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    fn unit(&mut self, unit: &[u8], frame: &mut Vec<u8>) {
        self.key |= unit[0] & 0x1f == IDR;
        frame.extend_from_slice(&START_CODE);
        frame.extend_from_slice(unit);
    }

    /// Ends the access unit: whether it has an IDR picture.
    pub(super) fn finish(&mut self) -> Result<bool, Malformed> {
        let Self { fragment, key } = std::mem::take(self);
        if fragment.is_some() { Err(Malformed) } else { Ok(key) }
    }
}

/// Whether an access unit can begin with this payload: what comes before slices, or the slice
/// with the first macroblock.
pub(super) fn begins(payload: &[u8]) -> bool {
    // first_mb_in_slice is an Exp-Golomb code: a one stands for zero.
    let first_slice = |body: &[u8]| body.first().is_some_and(|byte| byte & 0x80 != 0);
    let unit = |unit: &[u8]| match unit.split_first() {
        Some((&head, body)) => match head & 0x1f {
            SLICE | 2 | IDR => first_slice(body),
            SEI | SPS | PPS | DELIMITER => true,
            _ => false,
        },
        None => false,
    };
    match payload {
        [head, rest @ ..] if head & 0x1f == STAP_A => rest.get(2..).is_some_and(unit),
        [head, header, body @ ..] if head & 0x1f == FU_A => {
            let kind = header & 0x1f;
            header & 0x80 != 0 && (!matches!(kind, SLICE | 2 | IDR) || first_slice(body))
        }
        whole => unit(whole),
    }
}

/// Whether a picture begins here that depends on no other, or the parameter sets before it.
pub(super) fn begins_key(payload: &[u8]) -> bool {
    let is_key = |head: &u8| matches!(head & 0x1f, IDR | SPS);
    match payload {
        [head, rest @ ..] if head & 0x1f == STAP_A => {
            let mut rest = rest;
            while let [high, low, unit @ ..] = rest {
                if unit.first().is_some_and(is_key) {
                    return true;
                }
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                rest = unit.get(len..).unwrap_or_default();
            }
            false
        }
        [head, header, ..] if head & 0x1f == FU_A => header & 0x80 != 0 && is_key(header),
        whole => whole.first().is_some_and(is_key),
    }
}
