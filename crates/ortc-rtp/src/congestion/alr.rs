//! Whether the application limits the rate: what gets through then says nothing about what could.

use std::time::Instant;

/// Less than this share of the rate is little; it counts as little for some time, and no longer
/// little in less (as libwebrtc has it).
const SHARE: f64 = 0.65;
const WINDOW_SECONDS: f64 = 0.5;
const BEGIN: f64 = 0.8;
const END: f64 = 0.5;

/// Finds out that less is sent than the rate allows.
#[derive(Debug)]
pub(super) struct LimitDetector {
    updated: Instant,
    /// What could have been sent and was not, as a share of the window.
    unused: f64,
    began: Option<Instant>,
}

impl LimitDetector {
    pub(super) fn new(now: Instant) -> Self {
        Self { updated: now, unused: 0.0, began: None }
    }

    /// Takes a packet of `len` bytes that is sent while this is the rate.
    pub(super) fn on_sent(&mut self, now: Instant, len: usize, rate_bps: f64) {
        let window = (SHARE * rate_bps * WINDOW_SECONDS).max(1.0);
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.updated = now;
        self.unused += passed / WINDOW_SECONDS;
        self.unused = (self.unused - 8.0 * len as f64 / window).clamp(-1.0, 1.0);
        if self.unused > BEGIN {
            self.began.get_or_insert(now);
        } else if self.unused < END {
            self.began = None;
        }
    }

    /// Since when less is sent.
    pub(super) fn since(&self) -> Option<Instant> {
        self.began
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn half_of_the_rate_is_noticed_in_seconds_and_the_whole_at_once() {
        let start = Instant::now();
        let at = |n: u64| start + Duration::from_millis(10 * n);
        let mut limit = LimitDetector::new(start);
        for n in 0..200 {
            limit.on_sent(at(n), 1_250, 1e6);
        }
        assert_eq!(limit.since(), None);
        let noticed = (200..800).find(|n| {
            limit.on_sent(at(*n), 400, 1e6);
            limit.since().is_some()
        });
        assert!(noticed.is_some_and(|n| (250..600).contains(&n)), "{noticed:?}");
        let from = noticed.unwrap_or(800) + 1;
        let over = (from..900).find(|n| {
            limit.on_sent(at(*n), 1_250, 1e6);
            limit.since().is_none()
        });
        assert!(over.is_some_and(|n| n < from + 50), "{over:?}");
    }
}
