use std::collections::VecDeque;

use crate::decimator::Decimator;
use crate::generator::{AMPLITUDE_0_DBM0, UnsupportedRate, factor};
use crate::spectrum::{HOP, Spectrum, WINDOW, frequency, window_gain};
use crate::{Digit, Law};

/// What a [`ToneDetector`] takes for a tone (ITU-T Q.24).
///
/// The defaults take what the tables of Q.24 want taken, with a margin for noise, and not what
/// they want refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToneDetectorConfig {
    /// Level that each of the two frequencies needs, in dBm0; -27 unless set, as -25 is to be
    /// taken and -29 not.
    pub min_level_dbm0: f32,
    /// How much stronger the high frequency may be, in dB; 6 unless set, as 4 is to be taken.
    pub max_twist_db: f32,
    /// How much stronger the low frequency may be, in dB; 10 unless set, as 8 is to be taken.
    pub max_reverse_twist_db: f32,
}

impl Default for ToneDetectorConfig {
    fn default() -> Self {
        Self { min_level_dbm0: -27.0, max_twist_db: 6.0, max_reverse_twist_db: 10.0 }
    }
}

/// Samples at 8,000 Hz that a tone lasts at least: half-way between the 23 ms that are to be
/// refused and the 40 that are to be taken.
const MIN_TONE: f64 = 252.0;

/// Samples at 8,000 Hz that it may be away, 20 ms: breaks of 10 ms are part of a tone, pauses
/// of 40 are not.
const MAX_BREAK: f64 = 160.0;

/// How far off a tone may be: half-way between the 1.5 % that are to be taken and the 3.5 that
/// are to be refused.
const MAX_DEVIATION: f64 = 0.025;

/// The same for one window, which noise moves more.
const MAX_DEVIATION_ONCE: f64 = 0.04;

/// The share of the energy of a window that the two frequencies have to have.
const MIN_PURITY: f64 = 0.8;

/// The same for the best window of a tone: what is below that here is speech, and a tone has it
/// with noise 10 dB below.
const BEST_PURITY: f64 = 0.9;

/// Windows at the height of a tone that have to be clean: 40 ms have five, 23 have two.
const MIN_CLEAN: u32 = 3;

/// A tone that the detector has found, in samples of what it was given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectedTone {
    /// Which.
    pub digit: Digit,
    /// The sample at which it begins, within about a millisecond if there is little noise.
    pub begin: u64,
    /// The sample at which it ends; for one that has just begun, that up to which it is known.
    pub end: u64,
    /// Level of both frequencies together in dBm0.
    pub level_dbm0: f32,
    /// How much stronger the high frequency is, in dB.
    pub twist_db: f32,
}

/// What a [`ToneDetector`] tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Detection {
    /// A tone has been recognised; some 50 ms after it began.
    Began(DetectedTone),
    /// It has ended; some 40 ms before.
    Ended(DetectedTone),
}

/// Finds the tones of a keypad in sound (ITU-T Q.24).
///
/// It looks at windows of 25 ms, every 5 ms, for two frequencies that have nearly all the energy,
/// that are what they should be by the turn of their phases, and that last. Speech seldom has
/// that; the crate's documentation has figures.
#[derive(Debug)]
pub struct ToneDetector {
    config: ToneDetectorConfig,
    factor: u64,
    decimator: Decimator,
    /// Samples at 8,000 Hz that are still to be looked at.
    samples: Vec<f32>,
    /// The sample at 8,000 Hz that `samples` begins with; negative while that is the silence
    /// before the first.
    position: i64,
    past: VecDeque<Spectrum>,
    state: State,
    /// The end of the tone before, at 8,000 Hz.
    free_from: f64,
    output: VecDeque<Detection>,
    dropped: u64,
}

/// Windows that are remembered: enough to find where a tone began.
const PAST: usize = 16;

/// Detections that wait to be polled.
const MAX_OUTPUT: usize = 64;

#[derive(Debug, Clone, Copy)]
enum State {
    Silent,
    Suspected(Tone),
    Sounding(Tone),
}

/// A window that is nothing but a tone: its two frequencies, and how far they are off in Hz.
#[derive(Debug, Clone, Copy)]
struct Clean {
    low: usize,
    high: usize,
    off_low: f64,
    off_high: f64,
    purity: f64,
}

/// A tone as it is followed, in samples at 8,000 Hz.
#[derive(Debug, Clone, Copy)]
struct Tone {
    low: usize,
    high: usize,
    begin: f64,
    /// Where it was last heard.
    end: f64,
    /// The strongest sum of both powers, and what either had then.
    peak: f32,
    peak_low: f32,
    peak_high: f32,
    clean: u32,
    /// Sums over the clean windows.
    off_low: f64,
    off_high: f64,
    purest: f64,
}

impl Tone {
    fn power(&self, spectrum: &Spectrum) -> f32 {
        spectrum.power[self.low] + spectrum.power[self.high]
    }

    fn is_same(&self, clean: &Clean) -> bool {
        (self.low, self.high) == (clean.low, clean.high)
    }
}

impl ToneDetector {
    /// A detector for samples at `rate` Hz.
    ///
    /// # Errors
    ///
    /// Fails at a rate other than 8,000, 16,000, 24,000, 32,000 and 48,000.
    pub fn new(rate: u32, config: ToneDetectorConfig) -> Result<Self, UnsupportedRate> {
        let factor = factor(rate)?;
        Ok(Self {
            config,
            factor: factor as u64,
            decimator: Decimator::new(factor),
            samples: vec![0.0; WINDOW],
            position: -(WINDOW as i64),
            past: VecDeque::new(),
            state: State::Silent,
            free_from: 0.0,
            output: VecDeque::new(),
            dropped: 0,
        })
    }

    /// Listens to samples of 16 bits, as many as there are.
    pub fn process(&mut self, samples: &[i16]) {
        self.decimator.process(samples, &mut self.samples);
        let mut at = 0;
        while let Some(window) = self.samples[at..].first_chunk::<WINDOW>() {
            let spectrum = Spectrum::of(window);
            let centre = (self.position + at as i64) as f64 + WINDOW as f64 / 2.0;
            self.step(spectrum, centre);
            at += HOP;
        }
        self.samples.drain(..at);
        self.position += at as i64;
    }

    /// Listens to G.711, at 8,000 Hz.
    pub fn process_g711(&mut self, law: Law, codes: &[u8]) {
        let mut samples = [0; 160];
        for part in codes.chunks(samples.len()) {
            for (sample, code) in samples.iter_mut().zip(part) {
                *sample = law.decode(*code);
            }
            self.process(&samples[..part.len()]);
        }
    }

    /// What it has found, in order.
    pub fn poll_output(&mut self) -> Option<Detection> {
        self.output.pop_front()
    }

    /// Detections that nobody polled, 64 of them waiting.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn step(&mut self, spectrum: Spectrum, centre: f64) {
        let before = self.past.back().copied();
        self.past.push_back(spectrum);
        if self.past.len() > PAST {
            self.past.pop_front();
        }
        let clean = before.and_then(|before| self.clean(&spectrum, &before));
        self.state = match self.state {
            State::Silent => self.suspect(clean, centre),
            State::Suspected(tone) => self.follow_suspected(tone, &spectrum, clean, centre),
            State::Sounding(tone) => self.follow_sounding(tone, &spectrum, clean, centre),
        };
    }

    /// What a window holds, if it is nothing but a tone.
    fn clean(&self, now: &Spectrum, before: &Spectrum) -> Option<Clean> {
        let (low, high) = now.strongest();
        let floor = self.min_power();
        // A tone that is off loses up to 3 dB to the window, so this comes before the exact test.
        if now.power[low].min(now.power[high]) < floor / 2.0 {
            return None;
        }
        let (off_low, off_high) = (now.deviation(before, low), now.deviation(before, high));
        let is_near = |off: f64, at: usize| off.abs() <= MAX_DEVIATION_ONCE * frequency(at);
        if !is_near(off_low, low) || !is_near(off_high, high) {
            return None;
        }
        let power_low = f64::from(now.power[low]) / window_gain(off_low);
        let power_high = f64::from(now.power[high]) / window_gain(off_high);
        let twist = 10.0 * (power_high / power_low).log10();
        let purity = (power_low + power_high) / f64::from(now.total);
        let is_tone = power_low.min(power_high) >= f64::from(floor)
            && purity >= MIN_PURITY
            && twist <= f64::from(self.config.max_twist_db)
            && twist >= -f64::from(self.config.max_reverse_twist_db);
        is_tone.then_some(Clean { low, high, off_low, off_high, purity })
    }

    fn min_power(&self) -> f32 {
        let amplitude = AMPLITUDE_0_DBM0 as f32 * 10f32.powf(self.config.min_level_dbm0 / 20.0);
        amplitude * amplitude
    }

    fn suspect(&self, clean: Option<Clean>, centre: f64) -> State {
        let Some(Clean { low, high, off_low, off_high, purity }) = clean else {
            return State::Silent;
        };
        let Some(spectrum) = self.past.back() else { return State::Silent };
        let (peak_low, peak_high) = (spectrum.power[low], spectrum.power[high]);
        State::Suspected(Tone {
            low,
            high,
            begin: centre,
            end: centre,
            peak: peak_low + peak_high,
            peak_low,
            peak_high,
            clean: 1,
            off_low,
            off_high,
            purest: purity,
        })
    }

    fn follow_suspected(
        &mut self,
        mut tone: Tone,
        spectrum: &Spectrum,
        clean: Option<Clean>,
        centre: f64,
    ) -> State {
        let power = tone.power(spectrum);
        match clean {
            Some(clean) if tone.is_same(&clean) => {
                tone.clean += 1;
                tone.off_low += clean.off_low;
                tone.off_high += clean.off_high;
                tone.purest = tone.purest.max(clean.purity);
            }
            // At the height of a tone all windows are clean.
            _ if power >= 0.8 * tone.peak => return self.suspect(clean, centre),
            _ if power < 0.25 * tone.peak => return self.suspect(clean, centre),
            _ => {}
        }
        if power > tone.peak {
            tone.peak = power;
            (tone.peak_low, tone.peak_high) = (spectrum.power[tone.low], spectrum.power[tone.high]);
        }
        tone.begin = self.beginning(&tone, centre);
        tone.end = centre;
        let off = |sum: f64, at: usize| sum.abs() / f64::from(tone.clean) / frequency(at);
        let is_tone = tone.clean >= MIN_CLEAN
            && centre - tone.begin >= MIN_TONE
            && tone.purest >= BEST_PURITY
            && off(tone.off_low, tone.low) <= MAX_DEVIATION
            && off(tone.off_high, tone.high) <= MAX_DEVIATION;
        if !is_tone {
            return State::Suspected(tone);
        }
        self.tell(Detection::Began(self.detected(&tone)));
        State::Sounding(tone)
    }

    fn follow_sounding(
        &mut self,
        mut tone: Tone,
        spectrum: &Spectrum,
        clean: Option<Clean>,
        centre: f64,
    ) -> State {
        let power = tone.power(spectrum);
        let is_other = clean.is_some_and(|clean| !tone.is_same(&clean));
        if !is_other && power >= 0.25 * tone.peak && power >= 0.35 * spectrum.total {
            tone.end = centre;
            // Its level may change while it lasts.
            tone.peak = power.max(0.99 * tone.peak);
            return State::Sounding(tone);
        }
        if !is_other && centre - tone.end <= MAX_BREAK {
            return State::Sounding(tone);
        }
        tone.end = self.ending(&tone, centre);
        self.free_from = tone.end;
        self.tell(Detection::Ended(self.detected(&tone)));
        self.suspect(clean, centre)
    }

    /// Where the tone's amplitude was half its height, on its way up: there the middle of the
    /// window meets the beginning of the tone.
    fn beginning(&self, tone: &Tone, centre: f64) -> f64 {
        let half = 0.5 * tone.peak.sqrt();
        let mut later = (centre, tone.peak.sqrt());
        for (steps, spectrum) in (0..).zip(self.past.iter().rev()) {
            let here = (centre - f64::from(steps) * HOP as f64, tone.power(spectrum).sqrt());
            if here.1 < half {
                return crossing(here, later, half).max(self.free_from);
            }
            later = here;
        }
        later.0.max(self.free_from)
    }

    /// Where its amplitude was half its height on its way down, after `tone.end`.
    fn ending(&self, tone: &Tone, centre: f64) -> f64 {
        let half = 0.5 * tone.peak.sqrt();
        let mut later = (centre, 0.0);
        for (steps, spectrum) in (0..).zip(self.past.iter().rev()) {
            let here = (centre - f64::from(steps) * HOP as f64, tone.power(spectrum).sqrt());
            if here.0 <= tone.end {
                return crossing(here, later, half);
            }
            later = here;
        }
        tone.end
    }

    fn detected(&self, tone: &Tone) -> DetectedTone {
        let samples = |at: f64| {
            let at = (at * self.factor as f64) as u64;
            at.saturating_sub(self.decimator.delay())
        };
        let dbm0 =
            |power: f32| 10.0 * (power / (AMPLITUDE_0_DBM0 * AMPLITUDE_0_DBM0) as f32).log10();
        DetectedTone {
            digit: Digit::at(tone.low, tone.high - 4),
            begin: samples(tone.begin),
            end: samples(tone.end),
            level_dbm0: dbm0(tone.peak_low + tone.peak_high),
            twist_db: dbm0(tone.peak_high) - dbm0(tone.peak_low),
        }
    }

    fn tell(&mut self, detection: Detection) {
        if self.output.len() >= MAX_OUTPUT {
            self.dropped += 1;
            return;
        }
        self.output.push_back(detection);
    }
}

/// Where a line through two points has the height `level`.
fn crossing(a: (f64, f32), b: (f64, f32), level: f32) -> f64 {
    let rise = b.1 - a.1;
    let share = if rise == 0.0 { 0.0 } else { ((level - a.1) / rise).clamp(0.0, 1.0) };
    a.0 + (b.0 - a.0) * f64::from(share)
}

#[cfg(test)]
mod tests;
