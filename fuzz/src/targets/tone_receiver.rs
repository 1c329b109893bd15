//! Packets of telephone events from a peer that does what it likes.

use std::time::{Duration, Instant};

use ortc_dtmf::{ReceivedPacket, ToneReceiver, ToneReceiverConfig, ToneReport};

use crate::Dice;

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let config = ToneReceiverConfig {
        hold: Duration::from_millis(u64::from(dice.byte()) * 20),
        ..ToneReceiverConfig::default()
    };
    let mut receiver = ToneReceiver::new(config);
    let mut now = Instant::now();
    let mut sounding = None;
    let mut late = None;
    let mut hear = |receiver: &mut ToneReceiver| {
        while let Some(report) = receiver.poll_output() {
            match report {
                ToneReport::Began(tone) if tone.is_late => {
                    assert_eq!(late.replace(tone.event), None);
                }
                ToneReport::Ended(tone, _) if tone.is_late => {
                    assert_eq!(late.take(), Some(tone.event), "it comes whole");
                }
                ToneReport::Began(tone) => assert_eq!(sounding.replace(tone.event), None),
                ToneReport::Ended(tone, _) => assert_eq!(sounding.take(), Some(tone.event)),
            }
        }
        assert_eq!(late, None);
        sounding
    };
    while !dice.is_over() {
        let operation = dice.byte();
        now += Duration::from_millis(u64::from(operation >> 4) * 15);
        let packet = ReceivedPacket {
            sequence: dice.byte().into(),
            timestamp: u32::from(dice.byte()) * 160,
            marker: operation & 1 != 0,
            clock_rate: if operation & 2 == 0 { 8_000 } else { dice.long() },
            payload: &[],
        };
        match operation & 0x0c {
            0 => receiver.handle_other(now, packet.sequence),
            4 => receiver.handle_timeout(now),
            8 => {
                let payload = dice.bytes();
                let _ = receiver.handle_packet(now, &ReceivedPacket { payload, ..packet });
            }
            _ => {
                let payload = dice.bytes();
                let _ = receiver.handle_redundant(now, &ReceivedPacket { payload, ..packet }, 101);
            }
        }
        hear(&mut receiver);
    }
    // Once nothing comes any more, everything comes to its end, and soon.
    let mut steps = 0;
    while let Some((due, _)) = receiver.poll_timeout() {
        steps += 1;
        assert!(steps < 1_000, "it never rests");
        receiver.handle_timeout(due.max(now));
        hear(&mut receiver);
    }
    assert_eq!(hear(&mut receiver), None, "nothing sounds for ever");
}
