//! Opus in RTP (RFC 7587) and what can be told of a packet without decoding it (RFC 6716 §3).

use bytes::Bytes;

use crate::{OutgoingPacket, ReceivedPacket};

/// RFC 7587 §4.1: whatever the sound, the RTP clock runs at 48 kHz.
pub const OPUS_CLOCK_RATE: u32 = 48_000;

/// Longest packet in time: 120 ms (RFC 6716 §3.2.5).
const MAX_SAMPLES: u32 = 5_760;

/// Longest frame in bytes (RFC 6716 §3.2.1).
const MAX_FRAME: usize = 1_275;

/// Longest packet that says only that there is nothing to hear (RFC 6716 §3.1, DTX).
const MAX_DTX: usize = 2;

/// The duration of an Opus packet in samples at 48 kHz: 120 to 5,760.
///
/// `None` for what is no Opus packet: the lengths of its frames are checked against the
/// packet (RFC 6716 §3.4), what is in the frames is not.
pub fn opus_packet_duration(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    let frames = match toc & 3 {
        0 => (rest.len() <= MAX_FRAME).then_some(1),
        1 => (rest.len().is_multiple_of(2) && rest.len() / 2 <= MAX_FRAME).then_some(2),
        2 => {
            let (first, rest) = frame_len(rest)?;
            let second = rest.len().checked_sub(first)?;
            (second <= MAX_FRAME).then_some(2)
        }
        _ => many_frames(rest),
    }?;
    let samples = frames * frame_samples(toc >> 3);
    (samples <= MAX_SAMPLES).then_some(samples)
}

/// Counts the frames of a packet of code 3 (RFC 6716 §3.2.5); `None` when their lengths do
/// not add up.
fn many_frames(rest: &[u8]) -> Option<u32> {
    let (&head, mut rest) = rest.split_first()?;
    let (variable, padded, count) = (head & 0x80 != 0, head & 0x40 != 0, head & 0x3f);
    // The shortest frame has 2.5 ms: 48 of them are 120 ms.
    if !(1..=48).contains(&count) {
        return None;
    }
    if padded {
        let mut padding = 0;
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            // 255 stands for 254 bytes and another length byte.
            padding += usize::from(byte.min(254));
            if byte < 255 {
                break;
            }
        }
        rest = &rest[..rest.len().checked_sub(padding)?];
    }
    if variable {
        let mut sum = 0;
        for _ in 1..count {
            let (len, after) = frame_len(rest)?;
            sum += len;
            rest = after;
        }
        let last = rest.len().checked_sub(sum)?;
        return (last <= MAX_FRAME).then_some(u32::from(count));
    }
    let count = usize::from(count);
    let even = rest.len().is_multiple_of(count) && rest.len() / count <= MAX_FRAME;
    even.then_some(count as u32)
}

/// Reads the length of a frame, one or two bytes (RFC 6716 §3.2.1).
fn frame_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 252 {
        return Some((usize::from(first), rest));
    }
    let (&second, rest) = rest.split_first()?;
    Some((usize::from(second) * 4 + usize::from(first), rest))
}

/// The duration of one frame of a configuration (RFC 6716 §3.1, table 2).
fn frame_samples(config: u8) -> u32 {
    match config {
        0..=11 => [480, 960, 1_920, 2_880][usize::from(config % 4)],
        12..=15 => [480, 960][usize::from(config % 2)],
        _ => [120, 240, 480, 960][usize::from(config % 4)],
    }
}

/// What is wrong with a packet that should be Opus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Opus packet (RFC 6716 §3.4): {len} bytes whose frame lengths do not add up")]
pub struct NotOpus {
    /// Its length in bytes.
    pub len: usize,
}

/// Makes RTP payloads of Opus packets: one each, as it is (RFC 7587 §4.2).
///
/// It keeps the time. The marker is set on the first packet and the first after silence.
#[derive(Debug, Clone)]
pub struct OpusPacketizer {
    timestamp: u64,
    talking: bool,
    dtx: bool,
}

impl OpusPacketizer {
    /// Makes a packetizer at media time 0.
    ///
    /// With `dtx`, packets of one or two bytes, in which an encoder says that there is
    /// nothing to hear, pass in time but are not sent (RFC 7587 §3.1.3).
    pub fn new(dtx: bool) -> Self {
        Self { timestamp: 0, talking: false, dtx }
    }

    /// The media time of the next packet in samples at 48 kHz.
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Makes the next packet; `None` when it is silence that is not sent.
    ///
    /// # Errors
    /// [`NotOpus`]: nothing has changed; leave the packet out, or call
    /// [`skip`](Self::skip) with the time that it should have taken.
    pub fn packetize(&mut self, packet: Bytes) -> Result<Option<OutgoingPacket>, NotOpus> {
        let samples = opus_packet_duration(&packet).ok_or(NotOpus { len: packet.len() })?;
        if self.dtx && packet.len() <= MAX_DTX {
            self.skip(samples);
            return Ok(None);
        }
        let marker = !std::mem::replace(&mut self.talking, true);
        let timestamp = self.timestamp;
        self.timestamp += u64::from(samples);
        Ok(Some(OutgoingPacket { payload: packet, timestamp, marker }))
    }

    /// Lets time pass in silence.
    pub fn skip(&mut self, samples: u32) {
        self.timestamp += u64::from(samples);
        self.talking = false;
    }
}

/// An Opus packet that was received, in its place in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpusFrame {
    /// The Opus packet.
    pub packet: Bytes,
    /// Media time since the first packet in samples at 48 kHz; negative for one that was
    /// sent before the first that came.
    pub timestamp: i64,
    /// Its duration in samples at 48 kHz.
    pub samples: u32,
}

/// Takes Opus packets out of RTP.
///
/// It neither orders nor delays: packets come out as they come in, each with its time.
#[derive(Debug, Clone, Default)]
pub struct OpusDepacketizer {
    /// Timestamp and media time of the newest packet.
    newest: Option<(u32, i64)>,
}

impl OpusDepacketizer {
    /// Makes a depacketizer that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the Opus packet out of an RTP packet.
    ///
    /// # Errors
    /// [`NotOpus`]: drop it; it changes nothing.
    pub fn depacketize(&mut self, packet: &ReceivedPacket) -> Result<OpusFrame, NotOpus> {
        let len = packet.payload.len();
        let samples = opus_packet_duration(&packet.payload).ok_or(NotOpus { len })?;
        let timestamp = self.newest.map_or(0, |(newest, time)| {
            time + i64::from(packet.timestamp.wrapping_sub(newest) as i32)
        });
        if self.newest.is_none_or(|(_, time)| timestamp > time) {
            self.newest = Some((packet.timestamp, timestamp));
        }
        Ok(OpusFrame { packet: packet.payload.clone(), timestamp, samples })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::PayloadType;

    /// CELT, 20 ms.
    const CELT_20: u8 = 31 << 3;

    #[test]
    fn durations_follow_the_table_of_configurations() {
        let of = |config: u8| opus_packet_duration(&[config << 3, 1, 2, 3]);
        let expected = |config: u8| match config {
            0..=11 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
            12 | 14 => 480,
            13 | 15 => 960,
            _ => 120 << (config & 3),
        };
        for config in 0..32 {
            assert_eq!(of(config), Some(expected(config)), "{config}");
        }
    }

    #[test]
    fn frames_add_up_in_every_code() {
        for (packet, expected) in [
            (&[CELT_20][..], Some(960)),
            (&[CELT_20 | 1, 7, 7], Some(1_920)),
            (&[CELT_20 | 1], Some(1_920)),
            (&[CELT_20 | 2, 1, 7, 7, 7], Some(1_920)),
            (&[CELT_20 | 3, 3, 7, 7, 7], Some(2_880)),
            (&[CELT_20 | 3, 0x83, 1, 0, 7, 8, 8], Some(2_880)),
            (&[CELT_20 | 3, 0x42, 2, 7, 7, 0, 0], Some(1_920)),
            (&[16 << 3 | 3, 48], Some(5_760)),
        ] {
            assert_eq!(opus_packet_duration(packet), expected, "{packet:?}");
        }
    }

    #[test]
    fn what_does_not_add_up_is_no_opus_packet() {
        for packet in [
            &[][..],
            &[CELT_20 | 1, 7],
            &[CELT_20 | 2],
            &[CELT_20 | 2, 3, 7, 7],
            &[CELT_20 | 2, 252],
            &[CELT_20 | 3],
            &[CELT_20 | 3, 0],
            &[CELT_20 | 3, 7],
            &[CELT_20 | 3, 49],
            &[CELT_20 | 3, 2, 7],
            &[CELT_20 | 3, 0x83, 1, 9, 7],
            &[CELT_20 | 3, 0x42, 5, 7],
            &[CELT_20 | 3, 0x41, 255],
            &[0; 1_277],
        ] {
            assert_eq!(opus_packet_duration(packet), None, "{packet:?}");
        }
        assert_eq!(opus_packet_duration(&[0; 1_276]), Some(480));
    }

    #[test]
    fn random_bytes_never_panic_and_never_exceed_120_ms() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..50_000 {
            let bytes: Vec<u8> = (0..random.usize(0..20)).map(|_| random.u8(..)).collect();
            let samples = opus_packet_duration(&bytes);
            assert!(samples.is_none_or(|samples| (120..=5_760).contains(&samples)));
        }
    }

    #[test]
    fn the_marker_starts_a_talk_spurt_and_silence_passes_in_time() {
        let speech = || Bytes::from_static(&[CELT_20, 1, 2, 3]);
        let silence = || Bytes::from_static(&[CELT_20]);
        let run = |dtx| {
            let mut packetizer = OpusPacketizer::new(dtx);
            [speech(), speech(), silence(), silence(), speech(), speech()]
                .into_iter()
                .filter_map(|packet| packetizer.packetize(packet).unwrap())
                .map(|packet| (packet.timestamp, packet.marker))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(true), [(0, true), (960, false), (3_840, true), (4_800, false)]);
        let sent: Vec<_> = (0..6).map(|n| (960 * n, n == 0)).collect();
        assert_eq!(run(false), sent);
        let mut packetizer = OpusPacketizer::new(false);
        assert_eq!(packetizer.packetize(Bytes::new()), Err(NotOpus { len: 0 }));
        assert_eq!(packetizer.timestamp(), 0);
    }

    #[test]
    fn time_goes_on_when_the_timestamp_wraps_and_packets_are_out_of_order() {
        let mut depacketizer = OpusDepacketizer::new();
        let start = u32::MAX - 959;
        let mut times = Vec::new();
        for n in [1u32, 0, 3, 2, 50] {
            let packet = ReceivedPacket {
                payload: Bytes::from_static(&[CELT_20, 1]),
                payload_type: PayloadType(111),
                sequence: u64::from(n),
                timestamp: start.wrapping_add(960 * n),
                marker: false,
                received_at: Instant::now(),
                capture_time: None,
            };
            times.push(depacketizer.depacketize(&packet).unwrap().timestamp);
        }
        assert_eq!(times, [0, -960, 1_920, 960, 49 * 960]);
    }
}
