use crate::g711::Law;
use crate::{MediaFormat, MediaFrame, MediaReadError, MediaReader};

/// Samples of a frame: 20 ms.
const FRAME: u64 = 160;
const RATE: u64 = 8_000;

/// A sine in G.711, without end: for tests, and where there is nothing to play.
///
/// Its phase is reckoned from the first sample, in thousandths of a hertz, so the frequency is
/// exact however long it runs.
#[derive(Debug, Clone)]
pub struct Tone {
    law: Law,
    millihertz: u64,
    amplitude: f64,
    timestamp: u64,
}

impl Tone {
    /// A tone of `hz`, between 0 and 4,000, at `dbfs` decibels below or at full scale, such as
    /// -12; what is outside is brought inside.
    pub fn new(law: Law, hz: f64, dbfs: f64) -> Self {
        let millihertz = (hz.clamp(0.0, 4_000.0) * 1_000.0).round() as u64;
        // 32,124 is full scale of µ-law, and nearly that of A-law.
        let amplitude = 32_124.0 * 10f64.powf(dbfs.min(0.0) / 20.0);
        Self { law, millihertz, amplitude, timestamp: 0 }
    }

    /// The next frame of 20 ms.
    pub fn frame(&mut self) -> MediaFrame {
        const TURN: u64 = RATE * 1_000;
        let timestamp = self.timestamp;
        self.timestamp += FRAME;
        let code = |at: u64| {
            let turned = u128::from(at) * u128::from(self.millihertz) % u128::from(TURN);
            let angle = turned as f64 / TURN as f64 * std::f64::consts::TAU;
            self.law.encode((self.amplitude * angle.sin()).round() as i16)
        };
        let data: Vec<u8> = (timestamp..timestamp + FRAME).map(code).collect();
        MediaFrame { data: data.into(), timestamp, duration: FRAME as u32, key: true }
    }
}

impl MediaReader for Tone {
    fn format(&self) -> MediaFormat {
        match self.law {
            Law::Alaw => MediaFormat::Alaw,
            Law::Ulaw => MediaFormat::Ulaw,
        }
    }

    fn next_frame(&mut self) -> Result<Option<MediaFrame>, MediaReadError> {
        Ok(Some(self.frame()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_has_its_frequency_and_level_also_after_hours() {
        for law in [Law::Alaw, Law::Ulaw] {
            for start in [0, 8_000 * 3_600 * 24] {
                let mut tone = Tone::new(law, 440.0, -6.0);
                tone.timestamp = start;
                let samples: Vec<f64> = (0..50)
                    .flat_map(|_| tone.frame().data.to_vec())
                    .map(|code| f64::from(law.decode(code)))
                    .collect();
                // Its part in one second of a sine of 440 Hz that began with the first sample.
                let part: f64 = samples
                    .iter()
                    .enumerate()
                    .map(|(at, sample)| {
                        let at = (start as f64 + at as f64) % 8_000.0;
                        sample * (at / 8_000.0 * 440.0 * std::f64::consts::TAU).sin() / 4_000.0
                    })
                    .sum();
                assert!((part - 16_100.0).abs() < 100.0, "{law:?} {part}");
                let energy: f64 = samples.iter().map(|sample| sample * sample).sum();
                assert!((energy / 8_000.0 - part * part / 2.0).abs() < part * part / 1_000.0);
            }
        }
    }
}
