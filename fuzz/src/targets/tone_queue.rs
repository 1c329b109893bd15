//! Commands to the tone queue at any moment: what it says, it sends, and a receiver hears that.

use std::time::{Duration, Instant};

use ortc_dtmf::{
    DTMFTone, Digit, ReceivedPacket, RedundancyConfig, ToneEvent, ToneOutput, ToneQueue,
    ToneQueueConfig, ToneReceiver, ToneReceiverConfig, ToneReport,
};

use crate::Dice;

const PAYLOAD_TYPE: u8 = 101;
const RATE: u32 = 8_000;

struct Run {
    queue: ToneQueue,
    receiver: ToneReceiver,
    sequence: u16,
    /// Of the queue: what sounds, and what has begun.
    sounding: Option<Digit>,
    began: Vec<u8>,
    heard: Vec<u8>,
}

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let redundancy = RedundancyConfig { payload_type: PAYLOAD_TYPE, events: dice.byte() };
    let config = ToneQueueConfig {
        redundancy: (redundancy.events & 1 != 0).then_some(redundancy),
        ..ToneQueueConfig::new(RATE)
    };
    let mut run = Run {
        queue: ToneQueue::new(config),
        receiver: ToneReceiver::new(ToneReceiverConfig::default()),
        sequence: 0,
        sounding: None,
        began: Vec::new(),
        heard: Vec::new(),
    };
    let mut now = Instant::now();
    // A thousand tones of an hour each are no more interesting than forty.
    for _ in 0..40 {
        if dice.is_over() {
            break;
        }
        let operation = dice.byte();
        let time = |dice: &mut Dice<'_>| Duration::from_millis(u64::from(dice.byte()) * 8);
        let text = |dice: &mut Dice<'_>| String::from_utf8_lossy(dice.bytes()).into_owned();
        match operation & 7 {
            0 => {
                let tones = text(&mut dice);
                let (duration, gap) = (time(&mut dice), time(&mut dice));
                let _ = run.queue.insert_dtmf(now, &tones, Some(duration), Some(gap));
            }
            1 | 2 => {
                let digits = text(&mut dice);
                let (duration, inter_tone_gap) = (time(&mut dice), time(&mut dice));
                let _ = run.queue.play(now, &[DTMFTone { digits, duration, inter_tone_gap }]);
            }
            3 => {
                let _ = run.queue.tonestart(now, dice.byte().into());
            }
            4 => run.queue.tonestop(now),
            5 => run.queue.flush(now),
            _ => {}
        }
        let until = now + time(&mut dice);
        run.advance(until);
        now = until;
    }
    run.queue.flush(now);
    run.advance(now + Duration::from_secs(10));
    assert!(run.queue.is_idle(), "after a flush there is nothing to be done");
    assert_eq!(run.sounding, None);
    while let Some((due, _)) = run.receiver.poll_timeout() {
        run.receiver.handle_timeout(due);
    }
    run.listen();
    assert_eq!(run.heard, run.began, "each tone is heard once, and in order");
}

impl Run {
    /// Does what is due until then, on time.
    fn advance(&mut self, until: Instant) {
        let mut steps = 0;
        while let Some((due, _)) = self.queue.poll_timeout().filter(|(due, _)| *due <= until) {
            steps += 1;
            assert!(steps < 1_000_000, "it never rests");
            while let Some(output) = self.queue.poll_output(due) {
                self.take(due, output);
            }
            self.receiver.handle_timeout(due);
            self.listen();
        }
    }

    fn take(&mut self, now: Instant, output: ToneOutput) {
        match output {
            ToneOutput::Event(ToneEvent::Began { digit, .. }) => {
                assert_eq!(self.sounding.replace(digit), None, "one after another");
                self.began.push(digit.event());
            }
            ToneOutput::Event(ToneEvent::Ended { digit, .. }) => {
                assert_eq!(self.sounding.take(), Some(digit));
            }
            ToneOutput::Event(ToneEvent::QueueEmpty { .. }) => {
                assert_eq!(self.queue.tone_buffer(), "");
            }
            ToneOutput::Packet(packet) => {
                self.sequence = self.sequence.wrapping_add(1);
                let received = ReceivedPacket {
                    sequence: self.sequence,
                    timestamp: packet.timestamp,
                    marker: packet.marker,
                    clock_rate: RATE,
                    payload: packet.payload(),
                };
                let taken = if packet.is_redundant() {
                    self.receiver.handle_redundant(now, &received, PAYLOAD_TYPE).is_ok()
                } else {
                    self.receiver.handle_packet(now, &received).is_ok()
                };
                assert!(taken, "what the queue sends is well-formed");
            }
        }
    }

    fn listen(&mut self) {
        while let Some(report) = self.receiver.poll_output() {
            if let ToneReport::Began(tone) = report {
                self.heard.push(tone.event);
            }
        }
    }
}
