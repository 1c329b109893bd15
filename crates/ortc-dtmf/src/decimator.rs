use std::f64::consts::PI;

/// Taps per output sample and factor: enough that nothing above 4.8 kHz folds down by more
/// than -50 dB, while tones of up to 3 kHz pass untouched.
const TAPS: usize = 22;

/// Hz at which the filter is half-way down.
const CUT_OFF: f64 = 3_900.0;

/// Brings sound down to 8,000 Hz.
#[derive(Debug, Clone)]
pub(crate) struct Decimator {
    factor: usize,
    taps: Vec<f32>,
    /// Input that outputs still need.
    input: Vec<f32>,
}

impl Decimator {
    /// A decimator by `factor`; 1 passes samples as they are.
    pub(crate) fn new(factor: usize) -> Self {
        let len = if factor == 1 { 1 } else { TAPS * factor + 1 };
        let middle = (len - 1) as f64 / 2.0;
        let cut_off = CUT_OFF / (8_000.0 * factor as f64);
        let tap = |at: usize| {
            let x = at as f64 - middle;
            let sinc =
                if x == 0.0 { 2.0 * cut_off } else { (2.0 * PI * cut_off * x).sin() / (PI * x) };
            let window = 0.54 - 0.46 * (2.0 * PI * at as f64 / (len - 1).max(1) as f64).cos();
            sinc * window
        };
        let taps: Vec<f64> = if factor == 1 { vec![1.0] } else { (0..len).map(tap).collect() };
        let sum: f64 = taps.iter().sum();
        let taps = taps.iter().map(|tap| (tap / sum) as f32).collect();
        Self { factor, taps, input: vec![0.0; len - 1] }
    }

    /// Input samples by which the output lags.
    pub(crate) fn delay(&self) -> u64 {
        (self.taps.len() as u64 - 1) / 2
    }

    /// Appends the samples at 8,000 Hz that `input` completes.
    pub(crate) fn process(&mut self, input: &[i16], out: &mut Vec<f32>) {
        if self.factor == 1 {
            out.extend(input.iter().map(|sample| f32::from(*sample)));
            return;
        }
        self.input.extend(input.iter().map(|sample| f32::from(*sample)));
        let mut at = 0;
        while at + self.taps.len() - 1 + self.factor <= self.input.len() {
            let part = &self.input[at + self.factor - 1..];
            out.push(dot(&self.taps, part));
            at += self.factor;
        }
        self.input.drain(..at);
    }
}

/// The sum of products, in eight lanes so that it is computed eight at a time.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a_parts, a_rest) = a.as_chunks::<8>();
    let (b_parts, _) = b.as_chunks::<8>();
    for (a, b) in a_parts.iter().zip(b_parts) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(&b[a.len() - a_rest.len()..]).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_pass_and_what_would_fold_down_does_not() {
        for factor in [1, 2, 3, 4, 6] {
            let rate = 8_000.0 * factor as f64;
            let gain = |hz: f64| {
                let wave = |at: usize| (at as f64 * hz / rate * 2.0 * PI).sin() * 10_000.0;
                let input: Vec<i16> = (0..8_000 * factor).map(|at| wave(at) as i16).collect();
                let (mut decimator, mut out) = (Decimator::new(factor), Vec::new());
                // In parts of odd sizes, as it may come.
                for part in input.chunks(77) {
                    decimator.process(part, &mut out);
                }
                assert_eq!(out.len(), 8_000);
                let energy: f32 = out[100..].iter().map(|sample| sample * sample).sum();
                10.0 * (f64::from(energy) / 7_900.0 * 2.0 / 1e8).log10()
            };
            for hz in [100.0, 697.0, 1_633.0, 2_900.0] {
                assert!(gain(hz).abs() < 0.1, "{factor} {hz} {}", gain(hz));
            }
            if factor > 1 {
                for hz in [5_000.0, 6_500.0, 7_303.0] {
                    assert!(gain(hz) < -45.0, "{factor} {hz} {}", gain(hz));
                }
            }
        }
    }
}
