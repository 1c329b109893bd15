use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::clock::{duration, units};
use crate::report::{EndReason, ReceivedTone, ToneReport, ToneSource};
use crate::{
    DetectedTone, Detection, Digit, Law, ToneDetector, ToneDetectorConfig, ToneGenerator,
    ToneShape, UnsupportedRate,
};

/// Sound is delayed by this much, so that a tone can be muted from its beginning on: it takes a
/// [`ToneDetector`] 55 ms to be sure of one.
const LOOK_AHEAD: Duration = Duration::from_millis(70);

/// What is muted before and after a tone, whose ends are known within some milliseconds.
const MARGIN: Duration = Duration::from_millis(6);

/// How long sound takes to go down and to come up again where it is muted.
const FADE: Duration = Duration::from_millis(2);

/// Tones and pauses shorter than this are made longer: what receivers have to recognise is 40 ms
/// of both (ITU-T Q.24), and what was shorter on the wire was pressed all the same.
const SHORTEST: Duration = Duration::from_millis(50);

/// Tones that wait to be sounded; what is over is dropped and counted.
const MAX_WAITING: usize = 64;

/// Takes the tones out of sound and reports them: from a line to telephone events.
///
/// The sound comes out 70 ms late and without its tones, so that whoever hears it and is sent
/// the events besides hears a digit once.
#[derive(Debug)]
pub struct ToneExtractor {
    rate: u32,
    detector: ToneDetector,
    /// Sound that has come in and not gone out.
    line: VecDeque<i16>,
    /// Samples that came in.
    position: u64,
    /// What is muted, from a sample on and up to one; the newest may be open.
    muted: VecDeque<(u64, Option<u64>)>,
    /// Steps down from the full level.
    faded: u16,
    reports: VecDeque<ToneReport>,
}

impl ToneExtractor {
    /// An extractor for sound at `rate` Hz.
    ///
    /// # Errors
    ///
    /// Fails at a rate other than 8,000, 16,000, 24,000, 32,000 and 48,000.
    pub fn new(rate: u32, config: ToneDetectorConfig) -> Result<Self, UnsupportedRate> {
        let detector = ToneDetector::new(rate, config)?;
        let delay = units(LOOK_AHEAD, rate) as usize;
        Ok(Self {
            rate,
            detector,
            line: std::iter::repeat_n(0, delay).collect(),
            position: 0,
            muted: VecDeque::new(),
            faded: 0,
            reports: VecDeque::new(),
        })
    }

    /// How much later the sound comes out.
    pub fn delay(&self) -> Duration {
        LOOK_AHEAD
    }

    /// Puts the sound of 70 ms ago, without its tones, in the place of `samples`, the last of
    /// which is of `now`.
    pub fn process(&mut self, now: Instant, samples: &mut [i16]) {
        self.detector.process(samples);
        self.position += samples.len() as u64;
        while let Some(detection) = self.detector.poll_output() {
            self.detected(now, detection);
        }
        let first = self.position - samples.len() as u64;
        for (at, sample) in (first..).zip(samples) {
            self.line.push_back(*sample);
            let out = self.line.pop_front().unwrap_or(0);
            *sample = self.fade(at, out);
        }
    }

    /// The same for G.711, at 8,000 Hz.
    pub fn process_g711(&mut self, now: Instant, law: Law, codes: &mut [u8]) {
        let mut samples: Vec<i16> = codes.iter().map(|code| law.decode(*code)).collect();
        self.process(now, &mut samples);
        for (code, sample) in codes.iter_mut().zip(samples) {
            *code = law.encode(sample);
        }
    }

    /// What was found, as of telephone events; [`ToneQueue::tonestart`](crate::ToneQueue) and
    /// `tonestop` send them.
    pub fn poll_output(&mut self) -> Option<ToneReport> {
        self.reports.pop_front()
    }

    fn detected(&mut self, now: Instant, detection: Detection) {
        let margin = units(MARGIN, self.rate);
        match detection {
            Detection::Began(tone) => {
                self.muted.push_back((tone.begin.saturating_sub(margin), None));
                let tone = self.received(now, &tone);
                self.reports.push_back(ToneReport::Began(tone));
            }
            Detection::Ended(tone) => {
                if let Some((_, until)) = self.muted.back_mut() {
                    *until = Some(tone.end + margin);
                }
                let tone = self.received(now, &tone);
                self.reports.push_back(ToneReport::Ended(tone, EndReason::Ended));
            }
        }
        // A tone takes 50 ms, so this is ten seconds in which nobody has polled.
        if self.reports.len() > 2 * MAX_WAITING {
            self.reports.pop_front();
        }
    }

    fn received(&self, now: Instant, tone: &DetectedTone) -> ReceivedTone {
        let ago = duration(self.position.saturating_sub(tone.begin), self.rate);
        ReceivedTone {
            event: tone.digit.event(),
            begin: now.checked_sub(ago).unwrap_or(now),
            duration: duration(tone.end.saturating_sub(tone.begin), self.rate),
            volume: (-tone.level_dbm0).round().clamp(0.0, 63.0) as u8,
            source: ToneSource::InBand,
            is_late: false,
        }
    }

    /// The sample that goes out while sample `at` comes in.
    fn fade(&mut self, at: u64, sample: i16) -> i16 {
        let Some(at) = at.checked_sub(units(LOOK_AHEAD, self.rate)) else { return sample };
        while self.muted.front().is_some_and(|(_, until)| until.is_some_and(|until| until <= at)) {
            self.muted.pop_front();
        }
        let is_muted = self.muted.front().is_some_and(|(from, _)| *from <= at);
        let steps = units(FADE, self.rate) as u16;
        self.faded =
            if is_muted { (self.faded + 1).min(steps) } else { self.faded.saturating_sub(1) };
        (i32::from(sample) * i32::from(steps - self.faded) / i32::from(steps)) as i16
    }
}

/// Puts tones into sound as they are reported: from telephone events to a line.
///
/// While a tone sounds, and for a pause of 50 ms after it if another waits, it takes the place
/// of the sound. Digits that come faster than a line can take them wait: none is lost, and none
/// runs into the next.
#[derive(Debug)]
pub struct ToneInserter {
    rate: u32,
    generator: ToneGenerator,
    waiting: VecDeque<Waiting>,
    state: Inserting,
    dropped: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    digit: Digit,
    /// Samples; `None` until its end is reported.
    len: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Inserting {
    Nothing,
    Tone {
        passed: u64,
        len: Option<u64>,
    },
    /// A ramp down, and a pause if another tone waits.
    Pause {
        passed: u64,
    },
}

impl ToneInserter {
    /// An inserter for sound at `rate` Hz.
    ///
    /// # Errors
    ///
    /// Fails at a rate other than 8,000, 16,000, 24,000, 32,000 and 48,000.
    pub fn new(rate: u32, shape: ToneShape) -> Result<Self, UnsupportedRate> {
        let generator = ToneGenerator::new(rate, shape)?;
        let state = Inserting::Nothing;
        Ok(Self { rate, generator, waiting: VecDeque::new(), state, dropped: 0 })
    }

    /// Takes a report; events that are no digits have no tones here, and are left alone.
    pub fn handle(&mut self, report: &ToneReport) {
        match report {
            // One that is late is over already: its end follows, and another tone may go on.
            ToneReport::Began(tone) if !tone.is_late => {
                let Some(digit) = tone.digit() else { return };
                self.end_open(None);
                self.wait(digit, None);
            }
            ToneReport::Began(_) => {}
            ToneReport::Ended(tone, _) => match tone.digit() {
                Some(digit) if tone.is_late => {
                    self.wait(digit, Some(self.len(Some(tone.duration))));
                }
                Some(_) => self.end_open(Some(tone.duration)),
                None => {}
            },
        }
    }

    /// Tones that were dropped, 64 of them waiting.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// True if the next samples are replaced.
    pub fn is_sounding(&self) -> bool {
        !matches!(self.state, Inserting::Nothing) || !self.waiting.is_empty()
    }

    /// Replaces those of `samples` that are of a tone.
    pub fn process(&mut self, samples: &mut [i16]) {
        for sample in samples {
            if let Some(tone) = self.sample() {
                *sample = tone;
            }
        }
    }

    /// The same for G.711, at 8,000 Hz; codes that are of no tone are left as they are.
    pub fn process_g711(&mut self, law: Law, codes: &mut [u8]) {
        for code in codes {
            if let Some(tone) = self.sample() {
                *code = law.encode(tone);
            }
        }
    }

    fn wait(&mut self, digit: Digit, len: Option<u64>) {
        if self.waiting.len() >= MAX_WAITING {
            self.dropped += 1;
            return;
        }
        self.waiting.push_back(Waiting { digit, len });
    }

    /// Says how long the tone lasts whose end has not been reported.
    fn end_open(&mut self, length: Option<Duration>) {
        let len = self.len(length);
        let open = match &mut self.state {
            Inserting::Tone { len: open @ None, .. } => Some(open),
            _ => self.waiting.iter_mut().map(|waiting| &mut waiting.len).find(|len| len.is_none()),
        };
        if let Some(open) = open {
            *open = Some(len);
        }
    }

    fn len(&self, length: Option<Duration>) -> u64 {
        units(length.unwrap_or(SHORTEST).max(SHORTEST), self.rate)
    }

    fn sample(&mut self) -> Option<i16> {
        let shortest = units(SHORTEST, self.rate);
        let is_over = match &mut self.state {
            Inserting::Nothing => true,
            Inserting::Tone { passed, len } => {
                *passed += 1;
                if len.is_some_and(|len| *passed > len) {
                    self.generator.stop();
                    self.state = Inserting::Pause { passed: 0 };
                }
                false
            }
            Inserting::Pause { passed } => {
                *passed += 1;
                *passed > shortest || self.waiting.is_empty() && self.generator.sounding().is_none()
            }
        };
        if is_over {
            let Some(next) = self.waiting.pop_front() else {
                self.state = Inserting::Nothing;
                return None;
            };
            self.generator.start(next.digit);
            self.state = Inserting::Tone { passed: 1, len: next.len };
        }
        let mut sample = [0];
        self.generator.fill(&mut sample);
        Some(sample[0])
    }
}

#[cfg(test)]
mod tests;
