//! Random commands at random times to a tone queue: what it sends and tells stays in order.

use std::time::{Duration, Instant};

use fastrand::Rng;
use ortc_dtmf::{
    DTMFTone, Digit, RedundancyConfig, ToneEvent, ToneOutput, ToneQueue, ToneQueueConfig,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What the outputs so far allow to come next.
#[derive(Default)]
struct Witness {
    sounding: Option<(Digit, Instant)>,
    /// Code, end and length in units of the newest event on the wire, by its beginning.
    newest: Option<(Instant, bool, u64)>,
    tones: u64,
    packets: u64,
}

impl Witness {
    fn see(&mut self, output: &ToneOutput) {
        match output {
            ToneOutput::Event(ToneEvent::Began { digit, at }) => {
                assert_eq!(self.sounding.replace((*digit, *at)), None);
                self.tones += 1;
            }
            ToneOutput::Event(ToneEvent::Ended { digit, begin, .. }) => {
                assert_eq!(self.sounding.take(), Some((*digit, *begin)));
            }
            ToneOutput::Event(ToneEvent::QueueEmpty { .. }) => assert_eq!(self.sounding, None),
            ToneOutput::Packet(packet) => {
                self.packets += 1;
                let report = packet.report;
                let units = u64::from(packet.timestamp_offset) + u64::from(report.duration);
                assert!((4..=45).contains(&packet.payload().len()) && report.duration > 0);
                match self.newest {
                    Some((begin, ended, told)) if begin == packet.begin => {
                        assert!(!packet.marker && units >= told && (report.end || !ended));
                    }
                    newest => {
                        assert!(packet.marker);
                        assert!(
                            newest.is_none_or(|(begin, ended, _)| ended && begin < packet.begin)
                        );
                    }
                }
                self.newest = Some((packet.begin, report.end, units));
            }
        }
    }
}

fn poll(queue: &mut ToneQueue, now: Instant, witness: &mut Witness) {
    while let Some(output) = queue.poll_output(now) {
        witness.see(&output);
        assert!(witness.packets < 1_000_000);
    }
    assert!(queue.poll_timeout().is_none_or(|(due, _)| due > now));
    assert_eq!(queue.is_audio_paused(), witness.sounding.is_some());
}

fn text(rng: &mut Rng) -> String {
    (0..rng.usize(..8))
        .filter_map(|_| "0123456789*#ABCDabcd,,xé ".chars().nth(rng.usize(..26)))
        .collect()
}

#[test]
fn random_commands_keep_beginnings_ends_and_packets_in_order() {
    let (mut tones, mut packets) = (0, 0);
    for seed in 0..500 {
        let mut rng = Rng::with_seed(seed);
        let start = Instant::now();
        let redundancy =
            rng.bool().then(|| RedundancyConfig { payload_type: rng.u8(..), events: rng.u8(..8) });
        let config = ToneQueueConfig {
            update_interval: ms(rng.u64(0..100)),
            end_packets: rng.u8(..6),
            min_held: ms(rng.u64(0..100)),
            redundancy,
            ..ToneQueueConfig::new(rng.choice([1, 8_000, 48_000]).unwrap())
        };
        let mut queue = ToneQueue::new(config);
        let (mut witness, mut at) = (Witness::default(), 0);
        for _ in 0..200 {
            let now = start + ms(at);
            // Refused commands are as good as others: they change nothing.
            match rng.u8(..10) {
                0 => {
                    let duration = rng.bool().then(|| ms(rng.u64(60..6_100)));
                    let gap = rng.bool().then(|| ms(rng.u64(40..200)));
                    let _ = queue.insert_dtmf(now, &text(&mut rng), duration, gap);
                }
                1 | 2 => {
                    let tone = DTMFTone {
                        digits: text(&mut rng),
                        duration: ms(rng.u64(0..400)),
                        inter_tone_gap: ms(rng.u64(0..100)),
                    };
                    let _ = queue.play(now, &[tone.clone(), tone]);
                }
                3 | 4 => {
                    let _ = queue.tonestart(now, rng.choice(['1', '#', 'x']).unwrap());
                }
                5 | 6 => queue.tonestop(now),
                7 if rng.u8(..4) == 0 => queue.flush(now),
                8 => queue.audio_sent(now, rng.u32(..)),
                9 if rng.u8(..4) == 0 => queue.set_clock_rate(rng.u32(..96_000)),
                _ => {}
            }
            at += rng.choice([0, 1, 7, 20, 50, 300, 5_000]).unwrap();
            // At each deadline, at once, or late.
            while let Some((due, _)) =
                queue.poll_timeout().filter(|(due, _)| *due <= start + ms(at))
            {
                if rng.u8(..4) == 0 {
                    break;
                }
                poll(&mut queue, due, &mut witness);
            }
            if rng.bool() {
                poll(&mut queue, start + ms(at), &mut witness);
            }
        }
        queue.flush(start + ms(at));
        poll(&mut queue, start + ms(at + 10_000), &mut witness);
        poll(&mut queue, start + ms(at + 20_000), &mut witness);
        assert!(queue.is_idle() && queue.poll_timeout().is_none(), "seed {seed}: {queue:?}");
        assert_eq!((queue.tone_buffer(), witness.sounding), (String::new(), None));
        tones += witness.tones;
        packets += witness.packets;
    }
    assert!(tones > 5_000 && packets > 50_000, "{tones} tones, {packets} packets");
}
