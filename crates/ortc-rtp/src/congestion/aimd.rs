//! The rate by delays: up by a factor far from what the link is known to take, by steps close to
//! it, and down to a share of what gets through (draft-ietf-rmcat-gcc-02 §5.5, and what libwebrtc
//! does since).

use std::time::{Duration, Instant};

use super::delay::Usage;

/// What is left after an overuse (§5.5: 0.85).
const BETA: f64 = 0.85;

/// Growth by a factor in a second, far from the known capacity (§5.5: 1.08), as its logarithm.
const LN_GROWTH: f64 = 0.076_961_041_136_128_32;

/// More than so much above what gets through is not known to get through (§5.5: 1.5, and some
/// room for those who send little).
const AHEAD: f64 = 1.5;
const AHEAD_BPS: f64 = 10_000.0;

/// Least growth by steps, in bits per second each second.
const MIN_STEP_BPS: f64 = 4_000.0;

/// A packet and a picture, as steps are measured by them.
const PACKET_BITS: f64 = 1_200.0 * 8.0;
const PICTURES_PER_SECOND: f64 = 30.0;

/// How long the other side takes to see the effect of a step, besides the round trip.
const REACTION: Duration = Duration::from_millis(100);

/// The rate by delays.
#[derive(Debug)]
pub(super) struct RateControl {
    rate_bps: f64,
    state: State,
    capacity: Capacity,
    changed_at: Option<Instant>,
    decreased_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Hold,
    Increase,
}

impl RateControl {
    pub(super) fn new(start_bps: f64) -> Self {
        Self {
            rate_bps: start_bps,
            state: State::Hold,
            capacity: Capacity::default(),
            changed_at: None,
            decreased_at: None,
        }
    }

    pub(super) fn rate_bps(&self) -> f64 {
        self.rate_bps
    }

    /// Sets it to what a probe has found, or to what the application wants it to begin with.
    pub(super) fn set(&mut self, now: Instant, rate_bps: f64) {
        self.rate_bps = rate_bps;
        self.changed_at = Some(now);
    }

    /// Whether an overuse is to be reacted to: once in a round trip, or when less gets through
    /// than half of what is sent, for then the rate is far too high.
    pub(super) fn may_decrease(
        &self,
        now: Instant,
        round_trip: Duration,
        throughput_bps: Option<f64>,
    ) -> bool {
        let pause = round_trip.clamp(Duration::from_millis(10), Duration::from_millis(200));
        let is_over = self.decreased_at.is_none_or(|at| now >= at + pause);
        is_over || throughput_bps.is_some_and(|through| through < self.rate_bps / 2.0)
    }

    /// Takes what the queue does, and what gets through.
    ///
    /// `in_alr`: the application sends less than it may, and so nothing is learnt about more.
    pub(super) fn update(
        &mut self,
        now: Instant,
        usage: Usage,
        throughput_bps: Option<f64>,
        round_trip: Duration,
        in_alr: bool,
    ) {
        match usage {
            Usage::Under => self.state = State::Hold,
            Usage::Over => return self.decrease(now, throughput_bps),
            Usage::Normal if self.state == State::Hold => {
                self.state = State::Increase;
                self.changed_at = Some(now);
            }
            Usage::Normal => {}
        }
        if self.state == State::Increase {
            self.increase(now, throughput_bps, round_trip, in_alr);
        }
    }

    fn increase(
        &mut self,
        now: Instant,
        throughput_bps: Option<f64>,
        round_trip: Duration,
        in_alr: bool,
    ) {
        if let (Some(through), Some((_, upper))) = (throughput_bps, self.capacity.bounds())
            && through > upper
        {
            // The link takes more than was known.
            self.capacity = Capacity::default();
        }
        let since = self.changed_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let seconds = since.as_secs_f64().min(1.0);
        self.changed_at = Some(now);
        if in_alr {
            return;
        }
        let step = if self.capacity.mean_kbps.is_some() {
            self.step_bps(round_trip) * seconds
        } else {
            (self.rate_bps * (LN_GROWTH * seconds).exp_m1()).max(1_000.0 * seconds)
        };
        let limit = throughput_bps.map_or(f64::MAX, |bps| AHEAD * bps + AHEAD_BPS);
        self.rate_bps = (self.rate_bps + step).min(limit.max(self.rate_bps));
    }

    /// Growth close to the known capacity: half a packet in each time of response, at least, and
    /// some more for round trips that are long.
    fn step_bps(&self, round_trip: Duration) -> f64 {
        let picture = self.rate_bps / PICTURES_PER_SECOND;
        let packets = (picture / PACKET_BITS).ceil().max(1.0);
        let response = (round_trip + REACTION).as_secs_f64();
        (picture / packets / response).max(MIN_STEP_BPS)
    }

    fn decrease(&mut self, now: Instant, throughput_bps: Option<f64>) {
        self.state = State::Hold;
        let through = throughput_bps.unwrap_or(self.rate_bps);
        let mut lower = through * BETA;
        if lower > self.rate_bps
            && let Some(mean) = self.capacity.mean_kbps
        {
            lower = BETA * mean * 1e3;
        }
        if let Some((bottom, _)) = self.capacity.bounds()
            && through < bottom
        {
            // The link takes less than was known.
            self.capacity = Capacity::default();
        }
        self.rate_bps = self.rate_bps.min(lower);
        self.capacity.on_overuse(through);
        (self.changed_at, self.decreased_at) = (Some(now), Some(now));
    }
}

/// What the link was seen to take when it was overused: a mean, and how far from it that was.
#[derive(Debug, Default)]
struct Capacity {
    mean_kbps: Option<f64>,
    /// Relative to the square root of the mean.
    deviation: f64,
}

impl Capacity {
    fn on_overuse(&mut self, through_bps: f64) {
        const ALPHA: f64 = 0.05;
        let sample = through_bps / 1e3;
        let mean = self.mean_kbps.map_or(sample, |mean| (1.0 - ALPHA) * mean + ALPHA * sample);
        self.mean_kbps = Some(mean);
        let error = mean - sample;
        let spread = error * error / mean.max(1.0);
        let deviation = (1.0 - ALPHA) * self.deviation.max(0.4) + ALPHA * spread;
        self.deviation = deviation.clamp(0.4, 2.5);
    }

    /// Three deviations below and above the mean, in bits per second.
    fn bounds(&self) -> Option<(f64, f64)> {
        let mean = self.mean_kbps?;
        let deviation = 3.0 * (self.deviation * mean).sqrt();
        Some(((mean - deviation).max(0.0) * 1e3, (mean + deviation) * 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    #[test]
    fn growth_is_that_of_the_draft() {
        assert!((LN_GROWTH - 1.08f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn it_grows_by_a_factor_until_an_overuse_and_by_steps_after_it() {
        let start = Instant::now();
        let mut control = RateControl::new(1e6);
        let at = |n: u64| start + Duration::from_millis(100 * n);
        for n in 0..=20 {
            control.update(at(n), Usage::Normal, Some(control.rate_bps()), ROUND_TRIP, false);
        }
        let rate = control.rate_bps();
        assert!((rate - 1e6 * 1.08f64.powi(2)).abs() < 5e3, "{rate}");
        control.update(at(21), Usage::Over, Some(1e6), ROUND_TRIP, false);
        assert_eq!(control.rate_bps(), 850_000.0);
        for n in 22..=42 {
            control.update(at(n), Usage::Normal, Some(control.rate_bps()), ROUND_TRIP, false);
        }
        // Packets of 7,200 to 9,600 bits, one each 200 ms: some 40 kbit/s each second.
        let rate = control.rate_bps();
        assert!((rate - 928_000.0).abs() < 5e3, "{rate}");
    }

    #[test]
    fn it_does_not_run_away_from_what_gets_through_and_not_at_all_in_alr() {
        let start = Instant::now();
        let mut control = RateControl::new(1e6);
        for n in 0..100 {
            let at = start + Duration::from_millis(100 * n);
            control.update(at, Usage::Normal, Some(700_000.0), ROUND_TRIP, false);
        }
        assert_eq!(control.rate_bps(), 700_000.0 * AHEAD + AHEAD_BPS);
        let mut control = RateControl::new(1e6);
        for n in 0..100 {
            let at = start + Duration::from_millis(100 * n);
            control.update(at, Usage::Normal, Some(300_000.0), ROUND_TRIP, true);
        }
        assert_eq!(control.rate_bps(), 1e6);
    }

    #[test]
    fn a_link_that_has_become_wider_is_noticed_by_what_gets_through() {
        let start = Instant::now();
        let mut control = RateControl::new(1e6);
        control.update(start, Usage::Over, Some(1e6), ROUND_TRIP, false);
        assert!(control.capacity.mean_kbps.is_some());
        let at = start + Duration::from_millis(100);
        control.update(at, Usage::Normal, Some(1.2e6), ROUND_TRIP, false);
        assert!(control.capacity.mean_kbps.is_none());
    }

    #[test]
    fn overuse_is_reacted_to_once_in_a_round_trip() {
        let start = Instant::now();
        let mut control = RateControl::new(1e6);
        assert!(control.may_decrease(start, ROUND_TRIP, None));
        control.update(start, Usage::Over, Some(1e6), ROUND_TRIP, false);
        let soon = start + Duration::from_millis(50);
        assert!(!control.may_decrease(soon, ROUND_TRIP, Some(1e6)));
        assert!(control.may_decrease(soon, ROUND_TRIP, Some(3e5)));
        assert!(control.may_decrease(start + ROUND_TRIP, ROUND_TRIP, Some(1e6)));
    }
}
