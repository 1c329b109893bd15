//! Payloads of every codec, in any order, put together to frames.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_rtp::codec::{FrameAssembler, FrameEvent, MAX_FRAME_LEN};
use ortc_rtp::{CodecName, PayloadType, ReceivedPacket};

use crate::Dice;

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let count = CodecName::all().count() as u8;
    let codecs = (0..count).map(PayloadType).zip(CodecName::all());
    let mut assembler = FrameAssembler::new(codecs);
    let start = Instant::now();
    let mut now = start;
    while !dice.is_over() {
        let steps = dice.byte();
        now += Duration::from_millis(u64::from(steps & 0x0f) * 10);
        assembler.push(ReceivedPacket {
            payload_type: PayloadType(dice.byte() % (count + 1)),
            sequence: 1_000 + u64::from(dice.byte()),
            timestamp: u32::from(dice.byte()) * 960,
            marker: steps & 0x80 != 0,
            payload: Bytes::copy_from_slice(dice.bytes()),
            received_at: now,
            capture_time: None,
        });
        while let Some(event) = assembler.poll(now) {
            if let FrameEvent::Frame(frame) = event {
                assert!(frame.data.len() <= MAX_FRAME_LEN);
            }
        }
        assert!(assembler.poll_timeout().is_none_or(|at| at > now));
    }
}
