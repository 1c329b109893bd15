//! Sound of any usual rate to 8 kHz, by a windowed sinc in as many phases as the rates need.

/// Rate of what comes out, in Hz.
const OUT: u32 = 8_000;
/// The middle of the filter's slope in Hz: what is above 4 kHz is down by 70 dB, what is below
/// 3.3 kHz by less than 1.
const CUTOFF: f64 = 3_650.0;
/// Reach of the filter to either side, in samples of what comes out.
const REACH: f64 = 32.0;

/// Turns sound into 8 kHz, piece by piece.
#[derive(Debug, Clone)]
pub(crate) struct Resampler {
    /// `up / down` samples come out for one that goes in.
    up: usize,
    down: usize,
    /// Taps on either side.
    half: usize,
    /// `up` rows of `2 * half` taps; empty if nothing is to be done.
    taps: Vec<f32>,
    /// What the next sample needs; the first of it is at `position - half + 1`.
    window: Vec<f32>,
    /// Where the next sample lies between those of the window, in parts of `up`.
    phase: usize,
}

impl Resampler {
    /// For one of the rates that files have, in Hz; `None` for any other, because the filter
    /// would need thousands of phases.
    pub(crate) fn new(rate: u32) -> Option<Self> {
        const RATES: [u32; 9] =
            [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000];
        if !RATES.contains(&rate) {
            return None;
        }
        let common = gcd(OUT, rate);
        let (up, down) = ((OUT / common) as usize, (rate / common) as usize);
        let ratio = f64::from(rate) / f64::from(OUT);
        let half = (REACH * ratio).ceil() as usize;
        let taps = if rate == OUT { Vec::new() } else { taps(up, half, rate) };
        // The first sample has silence before it.
        Some(Self { up, down, half, taps, window: vec![0.0; half - 1], phase: 0 })
    }

    /// Takes samples, and appends those that can be told now.
    pub(crate) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        if self.taps.is_empty() {
            out.extend_from_slice(samples);
            return;
        }
        self.window.extend_from_slice(samples);
        let width = 2 * self.half;
        let mut start = 0;
        while start + width <= self.window.len() {
            let window = &self.window[start..start + width];
            let taps = &self.taps[self.phase * width..(self.phase + 1) * width];
            out.push(window.iter().zip(taps).map(|(sample, tap)| sample * tap).sum());
            self.phase += self.down;
            start += self.phase / self.up;
            self.phase %= self.up;
        }
        // A step is shorter than the window, so `start` is within it.
        self.window.drain(..start.min(self.window.len()));
    }

    /// Appends the last samples: after them is silence.
    pub(crate) fn finish(&mut self, out: &mut Vec<f32>) {
        if !self.taps.is_empty() {
            self.push(&vec![0.0; self.half], out);
        }
    }
}

/// The filter in `up` phases, each with a sum of one.
fn taps(up: usize, half: usize, rate: u32) -> Vec<f32> {
    use std::f64::consts::PI;
    let cutoff = 2.0 * CUTOFF / f64::from(rate);
    let mut taps = Vec::with_capacity(up * 2 * half);
    for phase in 0..up {
        let row: Vec<f64> = (0..2 * half)
            .map(|index| {
                let at = index as f64 - (half - 1) as f64 - phase as f64 / up as f64;
                let sinc =
                    if at == 0.0 { 1.0 } else { (PI * cutoff * at).sin() / (PI * cutoff * at) };
                // Blackman: side lobes at -58 dB, and falling.
                let turn = PI * at / half as f64;
                sinc * (0.42 + 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
            })
            .collect();
        let sum: f64 = row.iter().sum();
        taps.extend(row.iter().map(|tap| (tap / sum) as f32));
    }
    taps
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One second of a sine of amplitude 1, resampled in uneven pieces.
    fn sine(rate: u32, hz: f64) -> Vec<f32> {
        let sample = |at: u32| (f64::from(at) / f64::from(rate) * hz * std::f64::consts::TAU).sin();
        let samples: Vec<f32> = (0..rate).map(|at| sample(at) as f32).collect();
        let mut resampler = Resampler::new(rate).unwrap();
        let mut out = Vec::new();
        for piece in samples.chunks(777) {
            resampler.push(piece, &mut out);
        }
        resampler.finish(&mut out);
        out
    }

    fn rms(samples: &[f32]) -> f32 {
        (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32).sqrt()
    }

    #[test]
    fn a_second_stays_a_second_and_speech_stays_as_it_is() {
        for rate in [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
            for hz in [300.0, 1_000.0, 3_000.0] {
                let out = sine(rate, hz);
                assert_eq!(out.len(), 8_000, "{rate}");
                let expected = |at: usize| (at as f64 / 8_000.0 * hz * std::f64::consts::TAU).sin();
                // Away from the ends, where there is silence on one side.
                let error: Vec<_> = (200..7_800).map(|at| out[at] - expected(at) as f32).collect();
                assert!(rms(&error) < 0.01, "{rate} {hz}: {}", rms(&error));
            }
        }
    }

    #[test]
    fn what_8_khz_cannot_carry_is_filtered_out() {
        for rate in [16_000, 44_100, 48_000] {
            for hz in [4_100.0, 5_000.0, 7_000.0] {
                let out = sine(rate, hz);
                assert!(rms(&out[200..7_800]) < 0.001, "{rate} {hz}: {}", rms(&out[200..7_800]));
            }
        }
        assert!(Resampler::new(12_345).is_none());
    }
}
