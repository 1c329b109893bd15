use std::f64::consts::TAU;
use std::sync::LazyLock;

use crate::decimator::dot;
use crate::digit::{HIGH_GROUP, LOW_GROUP};

/// Samples of the window, at 8,000 Hz: 25 ms. The first zeros of its Hann window lie 80 Hz
/// away, so that neighbours of a group do not disturb each other, and the groups, 268 Hz apart,
/// are beyond its side lobes.
pub(crate) const WINDOW: usize = 200;

/// Samples between two windows: 5 ms.
pub(crate) const HOP: usize = 40;

const RATE: f64 = 8_000.0;

/// The windowed cosines and sines of the eight frequencies.
struct Tables {
    window: [f32; WINDOW],
    waves: [([f32; WINDOW], [f32; WINDOW]); 8],
    sum: f32,
    sum_of_squares: f32,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let window: [f64; WINDOW] =
        std::array::from_fn(|at| 0.5 - 0.5 * (TAU * (at as f64 + 0.5) / WINDOW as f64).cos());
    let waves = frequencies().map(|hz| {
        let angle = |at: usize| TAU * hz * at as f64 / RATE;
        let cos = std::array::from_fn(|at| (window[at] * angle(at).cos()) as f32);
        let sin = std::array::from_fn(|at| (-window[at] * angle(at).sin()) as f32);
        (cos, sin)
    });
    Tables {
        window: window.map(|value| value as f32),
        waves,
        sum: window.iter().sum::<f64>() as f32,
        sum_of_squares: window.iter().map(|value| value * value).sum::<f64>() as f32,
    }
});

/// The low group, then the high.
fn frequencies() -> [f64; 8] {
    std::array::from_fn(|at| if at < 4 { LOW_GROUP[at] } else { HIGH_GROUP[at - 4] })
}

/// What one window holds at the eight frequencies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spectrum {
    re: [f32; 8],
    im: [f32; 8],
    /// Squares of the amplitudes that sines of these frequencies would have.
    pub(crate) power: [f32; 8],
    /// The square of the amplitude of one sine with the energy of the window.
    pub(crate) total: f32,
}

impl Spectrum {
    pub(crate) fn of(samples: &[f32; WINDOW]) -> Self {
        let tables = &*TABLES;
        let mut spectrum = Self { re: [0.0; 8], im: [0.0; 8], power: [0.0; 8], total: 0.0 };
        let windowed: [f32; WINDOW] = std::array::from_fn(|at| samples[at] * tables.window[at]);
        spectrum.total = 2.0 * dot(&windowed, &windowed) / tables.sum_of_squares;
        for (at, (cos, sin)) in tables.waves.iter().enumerate() {
            let (re, im) = (dot(cos, samples), dot(sin, samples));
            spectrum.re[at] = re;
            spectrum.im[at] = im;
            spectrum.power[at] = 4.0 * (re * re + im * im) / (tables.sum * tables.sum);
        }
        spectrum
    }

    /// The strongest frequency of each group.
    pub(crate) fn strongest(&self) -> (usize, usize) {
        let strongest = |group: std::ops::Range<usize>| {
            group.max_by(|a, b| self.power[*a].total_cmp(&self.power[*b])).unwrap_or(0)
        };
        (strongest(0..4), strongest(4..8))
    }

    /// How far off its nominal frequency a tone is, in Hz, from the turn of its phase since the
    /// window before. It is unambiguous within 100 Hz.
    pub(crate) fn deviation(&self, before: &Self, at: usize) -> f64 {
        let angle = |spectrum: &Self| f64::from(spectrum.im[at]).atan2(f64::from(spectrum.re[at]));
        let turns = (angle(self) - angle(before)) / TAU - frequencies()[at] * HOP as f64 / RATE;
        (turns - turns.round()) * RATE / HOP as f64
    }
}

/// Hz of a frequency by its number.
pub(crate) fn frequency(at: usize) -> f64 {
    frequencies()[at]
}

/// What the window leaves of the power of a tone that is `hz` off.
pub(crate) fn window_gain(hz: f64) -> f64 {
    let x = hz * WINDOW as f64 / RATE;
    let near = |value: f64| (x.abs() - value).abs() < 1e-3;
    let gain = if near(0.0) {
        1.0
    } else if near(1.0) {
        0.5
    } else {
        let angle = std::f64::consts::PI * x;
        angle.sin() / angle / (1.0 - x * x)
    };
    gain * gain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, from: usize) -> [f32; WINDOW] {
        std::array::from_fn(|at| ((from + at) as f64 * hz / RATE * TAU).sin() as f32 * 100.0)
    }

    #[test]
    fn power_and_deviation_of_a_sine_are_measured() {
        for (at, nominal) in frequencies().into_iter().enumerate() {
            for percent in [-3.5, -1.5, 0.0, 1.0, 3.5] {
                let hz = nominal * (1.0 + percent / 100.0);
                let (before, now) = (Spectrum::of(&sine(hz, 0)), Spectrum::of(&sine(hz, HOP)));
                let deviation = now.deviation(&before, at);
                assert!((deviation - (hz - nominal)).abs() < 1.0, "{hz} {deviation}");
                let power = f64::from(now.power[at]) / window_gain(hz - nominal);
                assert!((power / 1e4 - 1.0).abs() < 0.05, "{hz} {power}");
                assert!((now.total / 1e4 - 1.0).abs() < 0.02, "{hz} {}", now.total);
            }
        }
    }
}
