use std::f64::consts::{PI, TAU};
use std::time::Duration;

use thiserror::Error;

use crate::Digit;

/// Amplitude of a sine of 0 dBm0 in 16 bits: full scale is 3.14 dBm0 (ITU-T G.711).
pub(crate) const AMPLITUDE_0_DBM0: f64 = 22_826.0;

/// A sampling rate that tones are not generated or detected at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} Hz: not 8000, 16000, 24000, 32000 or 48000")]
pub struct UnsupportedRate(pub u32);

/// Checks a rate, and returns how many times 8,000 Hz it is.
pub(crate) fn factor(rate: u32) -> Result<usize, UnsupportedRate> {
    match rate {
        8_000 => Ok(1),
        16_000 => Ok(2),
        24_000 => Ok(3),
        32_000 => Ok(4),
        48_000 => Ok(6),
        _ => Err(UnsupportedRate(rate)),
    }
}

/// How generated tones sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToneShape {
    /// Level of the tone of the row in dBm0; -10 unless set.
    pub low_dbm0: f64,
    /// Level of the tone of the column in dBm0; -8 unless set, as lines lose more of it.
    pub high_dbm0: f64,
    /// How long it takes to come up and to go down, so that it does not click; 3 ms unless set,
    /// at most 20.
    pub ramp: Duration,
}

impl Default for ToneShape {
    fn default() -> Self {
        Self { low_dbm0: -10.0, high_dbm0: -8.0, ramp: Duration::from_millis(3) }
    }
}

/// Makes the tones of a keypad, sample by sample (ITU-T Q.23).
///
/// Phases are reckoned from the beginning of the tone, so the frequencies are exact however
/// long a key is held.
///
/// ```
/// use ortc_dtmf::{Digit, ToneGenerator, ToneShape};
///
/// let mut generator = ToneGenerator::new(8_000, ToneShape::default()).unwrap();
/// let mut frame = [0i16; 160];
/// generator.start(Digit::from_char('5').unwrap());
/// generator.fill(&mut frame);
/// assert!(frame.iter().any(|sample| sample.abs() > 10_000));
/// generator.stop();
/// generator.fill(&mut frame);
/// generator.fill(&mut frame);
/// assert_eq!(frame, [0; 160]);
/// ```
#[derive(Debug, Clone)]
pub struct ToneGenerator {
    rate: u32,
    shape: ToneShape,
    ramp: u64,
    sounding: Option<Sound>,
}

#[derive(Debug, Clone, Copy)]
struct Sound {
    digit: Digit,
    at: u64,
    /// The sample at which it begins to go down.
    falls_at: Option<u64>,
}

impl ToneGenerator {
    /// A generator of samples at `rate` Hz.
    ///
    /// # Errors
    ///
    /// Fails at a rate other than 8,000, 16,000, 24,000, 32,000 and 48,000.
    pub fn new(rate: u32, shape: ToneShape) -> Result<Self, UnsupportedRate> {
        factor(rate)?;
        let ramp = shape.ramp.min(Duration::from_millis(20));
        let ramp = crate::clock::units(ramp, rate);
        Ok(Self { rate, shape, ramp, sounding: None })
    }

    /// Begins a tone; one that sounds is cut off.
    pub fn start(&mut self, digit: Digit) {
        self.sounding = Some(Sound { digit, at: 0, falls_at: None });
    }

    /// Lets the tone go down; it is silent a ramp later.
    pub fn stop(&mut self) {
        if let Some(sound) = &mut self.sounding {
            let at = sound.at;
            sound.falls_at.get_or_insert(at);
        }
    }

    /// What sounds, until it has gone down.
    pub fn sounding(&self) -> Option<Digit> {
        self.sounding.map(|sound| sound.digit)
    }

    /// Overwrites `samples` with the tone, and with silence after it.
    pub fn fill(&mut self, samples: &mut [i16]) {
        for sample in samples {
            *sample = self.sample();
        }
    }

    /// A whole tone, ramps included.
    pub fn tone(&mut self, digit: Digit, duration: Duration) -> Vec<i16> {
        let len = crate::clock::units(duration, self.rate);
        self.sounding = Some(Sound { digit, at: 0, falls_at: Some(len.saturating_sub(self.ramp)) });
        let samples = (0..len).map(|_| self.sample()).collect();
        self.sounding = None;
        samples
    }

    fn sample(&mut self) -> i16 {
        let Some(sound) = &mut self.sounding else { return 0 };
        let down = sound.falls_at.map_or(self.ramp, |falls_at| {
            (falls_at + self.ramp).saturating_sub(sound.at.max(falls_at))
        });
        if down == 0 && self.ramp > 0 || sound.falls_at == Some(sound.at) && self.ramp == 0 {
            self.sounding = None;
            return 0;
        }
        let up = (sound.at + 1).min(self.ramp.max(1));
        let gain = raised_cosine(up, self.ramp) * raised_cosine(down, self.ramp);
        let (low, high) = sound.digit.frequencies();
        let wave = |hz: f64, dbm0: f64| {
            // Whole turns are taken off first, or the phase loses its precision in an hour.
            let turns = sound.at as f64 * hz / f64::from(self.rate);
            AMPLITUDE_0_DBM0 * 10f64.powf(dbm0 / 20.0) * (turns.fract() * TAU).sin()
        };
        let value = wave(low, self.shape.low_dbm0) + wave(high, self.shape.high_dbm0);
        sound.at += 1;
        // A cast of a float saturates.
        (value * gain).round() as i16
    }
}

/// The gain `at` of `of` samples into a ramp.
fn raised_cosine(at: u64, of: u64) -> f64 {
    if at >= of { 1.0 } else { (1.0 - (PI * at as f64 / of as f64).cos()) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Level of a frequency in dBm0, by correlation over a whole number of its turns.
    fn level(samples: &[i16], rate: u32, hz: f64) -> f64 {
        let (mut re, mut im) = (0.0, 0.0);
        for (at, sample) in samples.iter().enumerate() {
            let angle = at as f64 * hz / f64::from(rate) * TAU;
            re += f64::from(*sample) * angle.cos();
            im += f64::from(*sample) * angle.sin();
        }
        let amplitude = 2.0 * f64::hypot(re, im) / samples.len() as f64;
        20.0 * (amplitude / AMPLITUDE_0_DBM0).log10()
    }

    #[test]
    fn every_digit_has_its_frequencies_at_their_levels_at_every_rate() {
        for rate in [8_000, 16_000, 24_000, 32_000, 48_000] {
            let mut generator = ToneGenerator::new(rate, ToneShape::default()).unwrap();
            for digit in Digit::all() {
                generator.start(digit);
                let mut samples = vec![0; rate as usize + 200];
                generator.fill(&mut samples);
                // One second, past the ramp.
                let second = &samples[200..];
                let (low, high) = digit.frequencies();
                let (low, high) = (level(second, rate, low), level(second, rate, high));
                assert!(
                    (low + 10.0).abs() < 0.05 && (high + 8.0).abs() < 0.05,
                    "{digit} {low} {high}"
                );
            }
        }
        assert_eq!(
            ToneGenerator::new(44_100, ToneShape::default()).err(),
            Some(UnsupportedRate(44_100))
        );
    }

    #[test]
    fn a_tone_begins_and_ends_without_a_click() {
        let mut generator = ToneGenerator::new(8_000, ToneShape::default()).unwrap();
        let digit = Digit::from_char('1').unwrap();
        let tone = generator.tone(digit, Duration::from_millis(50));
        assert_eq!(tone.len(), 400);
        let peak = |part: &[i16]| part.iter().map(|sample| sample.abs()).max().unwrap();
        // An eighth of the ramp has 4 % of the amplitude.
        assert!(peak(&tone[..3]) < 700 && peak(&tone[397..]) < 700);
        assert!(peak(&tone[24..376]) > 14_000);
    }

    #[test]
    fn a_stopped_tone_goes_down_and_is_silent_then() {
        let mut generator = ToneGenerator::new(8_000, ToneShape::default()).unwrap();
        generator.start(Digit::from_char('9').unwrap());
        let mut samples = [0; 400];
        generator.fill(&mut samples);
        generator.stop();
        assert!(generator.sounding().is_some());
        generator.fill(&mut samples);
        assert!(samples[..12].iter().any(|sample| sample.abs() > 3_000));
        assert_eq!(samples[24..], [0; 376]);
        assert_eq!(generator.sounding(), None);
        let sudden = ToneShape { ramp: Duration::ZERO, ..ToneShape::default() };
        let mut generator = ToneGenerator::new(8_000, sudden).unwrap();
        generator.start(Digit::from_char('9').unwrap());
        generator.fill(&mut samples);
        generator.stop();
        generator.fill(&mut samples);
        assert_eq!(samples, [0; 400]);
    }
}
