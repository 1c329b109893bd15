//! VP8 (RFC 7741).

use bytes::Bytes;
use rtp::codec::vp8::Vp8Payloader;
use rtp::packetizer::Payloader;

use super::depacketizer::Malformed;

/// Cuts frames with `rtc-rtp`; each has a picture id, so that a receiver notices a frame that
/// is missing whole.
#[derive(Debug, Clone)]
pub(super) struct Packetizer {
    payloader: Vp8Payloader,
}

impl Default for Packetizer {
    fn default() -> Self {
        let mut payloader = Vp8Payloader::default();
        payloader.enable_picture_id = true;
        Self { payloader }
    }
}

impl Packetizer {
    pub(super) fn packetize(&mut self, frame: &Bytes, max_payload: usize) -> Vec<Bytes> {
        // It only fails for rooms below its header, and those were refused.
        self.payloader.payload(max_payload, frame).unwrap_or_default()
    }
}

/// Length of the payload descriptor (RFC 7741 §4.2) and whether a frame begins here.
fn descriptor(payload: &[u8]) -> Result<(usize, bool), Malformed> {
    let at = |index: usize| payload.get(index).copied().ok_or(Malformed);
    let first = at(0)?;
    let mut len = 1;
    if first & 0x80 != 0 {
        let extension = at(1)?;
        len = 2;
        if extension & 0x80 != 0 {
            // M: the picture id has 15 bits.
            len += if at(len)? & 0x80 != 0 { 2 } else { 1 };
        }
        if extension & 0x40 != 0 {
            len += 1;
        }
        if extension & 0x30 != 0 {
            len += 1;
        }
    }
    if len >= payload.len() {
        return Err(Malformed);
    }
    // S and partition 0.
    Ok((len, first & 0x17 == 0x10))
}

pub(super) fn begins(payload: &[u8]) -> bool {
    descriptor(payload).is_ok_and(|(_, begins)| begins)
}

/// Whether a key frame begins here (RFC 6386 §9.1).
pub(super) fn begins_key(payload: &[u8]) -> bool {
    descriptor(payload).is_ok_and(|(len, begins)| begins && is_key(&payload[len..]))
}

pub(super) fn append(payload: &[u8], frame: &mut Vec<u8>) -> Result<(), Malformed> {
    let (len, begins) = descriptor(payload)?;
    if begins != frame.is_empty() {
        return Err(Malformed);
    }
    frame.extend_from_slice(&payload[len..]);
    Ok(())
}

/// Whether a frame is a key frame (RFC 6386 §9.1).
pub(super) fn is_key(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte & 1 == 0)
}
