//! Packets of any numbers and times, in any order, through the buffer that waits for them, and onto
//! one axis of time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_rtp::codec::{JitterBuffer, JitterConfig, Playout};
use ortc_rtp::{FrameTime, NtpTime, PayloadType, ReceivedPacket, StreamAligner};

use crate::Dice;

/// No packet is held back for longer.
const CAP: Duration = Duration::from_millis(400);

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let first = dice.byte();
    let config = JitterConfig {
        playout: if first & 1 == 0 { Playout::AsReceived } else { Playout::Paced },
        min_delay: Duration::from_millis(u64::from(first >> 2) * 10),
        max_delay: CAP,
    };
    let mut buffer = JitterBuffer::new(config);
    if first & 2 != 0 {
        buffer.expect_repairs();
    }
    let mut stream = StreamAligner::new();
    let tracks = [stream.add_track(), stream.add_track()];
    let mut positions = [None; 2];
    let (mut sequence, mut timestamp, mut last) = (1_u64 << 16, 0_u32, None);
    let (mut pushed, mut polled) = (0, 0);
    let mut now = Instant::now();
    while !dice.is_over() {
        let step = dice.byte();
        now += Duration::from_millis(u64::from(step >> 4) * 5);
        match step & 7 {
            0 => sequence = sequence.saturating_add_signed(i64::from(dice.byte() as i8) * 300),
            1 => timestamp = dice.long(),
            _ => {
                sequence += 1;
                timestamp = timestamp.wrapping_add(960);
            }
        }
        let late = Duration::from_millis(u64::from(dice.byte()));
        let packet = ReceivedPacket {
            payload: Bytes::new(),
            payload_type: PayloadType(step & 1),
            sequence: if step & 8 == 0 {
                sequence
            } else {
                sequence.saturating_sub(dice.byte().into())
            },
            timestamp,
            marker: false,
            received_at: now.checked_sub(late).unwrap_or(now),
            capture_time: (step & 0x10 != 0).then(|| NtpTime(u64::from(dice.long()) << 20)),
        };
        let clock_rate = [None, Some(48_000), Some(90_000), Some(0)][usize::from(step >> 5 & 3)];
        buffer.push(packet, clock_rate);
        pushed += 1;
        assert!(buffer.delay() <= CAP);
        while let Some(packet) = buffer.poll(now) {
            assert!(last < Some(packet.sequence), "in order");
            last = Some(packet.sequence);
            polled += 1;
            let time = FrameTime {
                timestamp: packet.timestamp.into(),
                clock_rate: clock_rate.unwrap_or(8_000),
                capture_time: packet.capture_time,
                received_at: packet.received_at,
            };
            let track = usize::from(packet.payload_type.0);
            stream.push(tracks[track], time, track);
        }
        assert!(buffer.poll_timeout().is_none_or(|at| at > now), "what is due is handed out");
        assert!(buffer.poll_timeout().is_none_or(|at| at <= now + CAP), "nothing waits for ever");
        assert!(buffer.len() <= 4_096);
        while let Some(aligned) = stream.poll(now) {
            let track = aligned.item;
            assert_eq!(aligned.track, tracks[track]);
            assert!(positions[track] < Some(aligned.position), "positions grow");
            positions[track] = Some(aligned.position);
        }
        assert!(stream.poll_timeout().is_none_or(|at| at > now));
    }
    let counts = buffer.counts();
    let dropped = counts.late + counts.duplicates + counts.unread;
    assert_eq!(pushed, polled + dropped + buffer.len() as u64, "nothing is lost uncounted");
    for track in tracks {
        stream.end_track(track);
    }
    while stream.poll(now).is_some() {}
    assert!(tracks.iter().all(|track| !stream.is_waiting(*track)));
}
