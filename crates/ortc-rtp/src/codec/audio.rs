//! Opus (RFC 7587) and G.711 (RFC 3551 §4.5.14).

use bytes::Bytes;

use super::PacketizeError;
use crate::{CodecName, OutgoingPacket, opus_packet_duration};

/// Where the talk spurt goes on, in units of the clock rate; `None` before the first packet.
#[derive(Debug, Clone, Default)]
pub(super) struct Spurt {
    next: Option<u64>,
}

impl Spurt {
    /// Appends the packets of a frame; the marker is on the first of a talk spurt
    /// (RFC 3551 §4.1): at the beginning, and wherever time is missing.
    pub(super) fn packetize(
        &mut self,
        opus: bool,
        frame: &Bytes,
        timestamp: u64,
        max_payload: usize,
        out: &mut Vec<OutgoingPacket>,
    ) -> Result<(), PacketizeError> {
        let marker = self.next != Some(timestamp);
        if opus {
            let Some(samples) = opus_packet_duration(frame) else {
                let reason = "the lengths of its frames do not add up (RFC 6716 §3.4)";
                return Err(PacketizeError::Malformed { codec: CodecName::Opus, reason });
            };
            // One Opus packet is one payload (RFC 7587 §4.2): it cannot be cut.
            if frame.len() > max_payload {
                return Err(PacketizeError::TooLong { len: frame.len(), max: max_payload });
            }
            self.next = Some(timestamp.wrapping_add(u64::from(samples)));
            out.push(OutgoingPacket { payload: frame.clone(), timestamp, marker });
            return Ok(());
        }
        // A sample is a byte: what does not fit goes on in its own time.
        for start in (0..frame.len()).step_by(max_payload) {
            let payload = frame.slice(start..frame.len().min(start + max_payload));
            let timestamp = timestamp.wrapping_add(start as u64);
            out.push(OutgoingPacket { payload, timestamp, marker: marker && start == 0 });
        }
        self.next = Some(timestamp.wrapping_add(frame.len() as u64));
        Ok(())
    }
}
