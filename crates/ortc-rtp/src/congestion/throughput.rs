//! What gets through, by what was acknowledged.

/// What the first estimate is made of, and later ones, in microseconds.
const FIRST_WINDOW_US: i64 = 500_000;
const WINDOW_US: i64 = 150_000;

/// How much a sample that differs from the estimate is doubted.
const UNCERTAINTY: f64 = 10.0;

/// What an estimate loses of its certainty with each sample, in (kbit/s)².
const DRIFT: f64 = 5.0;
const FIRST_VARIANCE: f64 = 50.0;

/// Estimates the rate of acknowledged bits (draft-ietf-rmcat-gcc-02 §5.5: R_hat; the estimator
/// weighs samples by how far they are from what is known, as that of libwebrtc does).
#[derive(Debug)]
pub(super) struct Throughput {
    estimate_kbps: Option<f64>,
    variance: f64,
    window: Option<Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began_us: i64,
    newest_us: i64,
    bytes: u64,
}

impl Default for Throughput {
    fn default() -> Self {
        Self { estimate_kbps: None, variance: FIRST_VARIANCE, window: None }
    }
}

impl Throughput {
    /// Takes a packet that came at this time of the receiver's clock.
    ///
    /// `in_alr` says that the application sends less than it may: what comes through then says
    /// less about what would.
    pub(super) fn on_packet(&mut self, arrived_us: i64, len: usize, in_alr: bool) {
        let span = if self.estimate_kbps.is_none() { FIRST_WINDOW_US } else { WINDOW_US };
        let window = self.window.get_or_insert(Window {
            began_us: arrived_us,
            newest_us: arrived_us,
            bytes: 0,
        });
        // Reordered; or nothing has come for long, and a rate over that would be none.
        let passed = arrived_us - window.began_us;
        if passed < span {
            window.bytes += len as u64;
            window.newest_us = window.newest_us.max(arrived_us);
            return;
        }
        let (idle, bits) = (arrived_us - window.newest_us, 8 * window.bytes);
        *window = Window { began_us: arrived_us, newest_us: arrived_us, bytes: len as u64 };
        if idle < span {
            self.on_sample(bits as f64 * 1e3 / passed as f64, in_alr);
        }
    }

    fn on_sample(&mut self, sample: f64, in_alr: bool) {
        let Some(estimate) = self.estimate_kbps else {
            self.estimate_kbps = Some(sample);
            return;
        };
        let doubt = if in_alr && sample < estimate { 2.0 * UNCERTAINTY } else { UNCERTAINTY };
        let relative = doubt * (estimate - sample).abs() / estimate.max(1.0);
        let (sample_variance, known) = (relative * relative, self.variance + DRIFT);
        let sum = (sample_variance + known).max(f64::MIN_POSITIVE);
        self.estimate_kbps = Some((sample_variance * estimate + known * sample) / sum);
        self.variance = sample_variance * known / sum;
    }

    /// Has the next sample count more: it is expected to be another.
    pub(super) fn expect_change(&mut self) {
        self.variance += 200.0;
    }

    /// Takes what a probe has found to get through, of which later samples may differ.
    pub(super) fn on_probe(&mut self, bps: f64) {
        self.estimate_kbps = Some(bps / 1e3);
        self.variance += 1_000.0;
        self.window = None;
    }

    /// Bits per second; `None` before there is a first half second.
    pub(super) fn bps(&self) -> Option<f64> {
        self.estimate_kbps.map(|kbps| kbps * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 bytes every `gap_us`, from `from_us` on, for so long.
    fn feed(throughput: &mut Throughput, from_us: i64, for_us: i64, gap_us: i64) {
        let mut at = from_us;
        while at < from_us + for_us {
            throughput.on_packet(at, 1_000, false);
            at += gap_us;
        }
    }

    #[test]
    fn half_a_second_is_the_first_estimate_and_changes_are_followed_in_a_second() {
        let mut throughput = Throughput::default();
        feed(&mut throughput, 0, 400_000, 8_000);
        assert_eq!(throughput.bps(), None);
        feed(&mut throughput, 400_000, 600_000, 8_000);
        let bps = throughput.bps().unwrap();
        assert!((bps - 1e6).abs() < 5e4, "{bps}");
        feed(&mut throughput, 1_000_000, 1_000_000, 16_000);
        let bps = throughput.bps().unwrap();
        assert!((bps - 5e5).abs() < 1e5, "{bps}");
    }

    #[test]
    fn a_pause_is_not_taken_for_a_low_rate() {
        let mut throughput = Throughput::default();
        feed(&mut throughput, 0, 1_000_000, 8_000);
        feed(&mut throughput, 9_000_000, 100_000, 8_000);
        let bps = throughput.bps().unwrap();
        assert!((bps - 1e6).abs() < 5e4, "{bps}");
    }
}
