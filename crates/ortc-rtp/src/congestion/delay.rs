//! Whether a queue grows or empties, from how far apart packets were sent and came
//! (draft-ietf-rmcat-gcc-02 §5.1 to §5.4; the trendline filter is what libwebrtc has in the
//! place of the Kalman filter since).

use std::time::Instant;

use ortc_io::prefetch;

use super::history::PacketResult;

/// Packets that were sent within this time are looked at together (§5.2).
const GROUP_US: i64 = 5_000;

/// Packets that come within this time of each other, although they were sent further apart, have
/// waited together somewhere: a burst of a wireless link, which says nothing about a queue.
const BURST_US: i64 = 5_000;
const MAX_BURST_US: i64 = 100_000;

/// Groups that the line is laid through.
const WINDOW: usize = 20;

/// How much of the smoothed delay is kept with each group.
const SMOOTHING: f64 = 0.9;

/// Makes the slope comparable with the threshold, which is one of delays in milliseconds.
const GAIN: f64 = 4.0;
const MAX_DELTAS: u32 = 60;

/// Growth of the threshold per millisecond, and its fall (§5.4: so that it yields to a flow that
/// fills queues, and is not starved by it).
const RISE: f64 = 0.0087;
const FALL: f64 = 0.039;
const MIN_THRESHOLD: f64 = 6.0;
const MAX_THRESHOLD: f64 = 600.0;
const FIRST_THRESHOLD: f64 = 12.5;

/// What is further above the threshold is a jump, to which it does not adapt (§5.4).
const JUMP: f64 = 15.0;

/// For so long the slope must be above the threshold before that counts (§5.4).
const OVERUSE_MS: f64 = 10.0;

/// What the queue on the way does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Usage {
    /// It stays as it is.
    #[default]
    Normal,
    /// It grows: more is sent than gets through.
    Over,
    /// It empties.
    Under,
}

/// Packets that were sent in one go.
#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: i64,
    sent: i64,
    first_arrived_us: i64,
    arrived_us: i64,
}

/// Finds out what the queue on the way does.
#[derive(Debug, Default)]
pub(super) struct DelayDetector {
    current: Option<Group>,
    previous: Option<Group>,
    line: Trendline,
}

impl DelayDetector {
    /// Takes a packet that has come; they are to be given in the order of sending.
    pub(super) fn on_packet(&mut self, now: Instant, packet: &PacketResult) {
        let Some(arrived_us) = packet.arrived_us else { return };
        let new = Group {
            first_sent: packet.sent_us,
            sent: packet.sent_us,
            first_arrived_us: arrived_us,
            arrived_us,
        };
        let Some(current) = &mut self.current else {
            self.current = Some(new);
            return;
        };
        if packet.sent_us < current.first_sent {
            return;
        }
        let is_burst = {
            let (sent, arrived) = (packet.sent_us - current.sent, arrived_us - current.arrived_us);
            sent == 0
                || (arrived < sent
                    && arrived <= BURST_US
                    && arrived_us - current.first_arrived_us < MAX_BURST_US)
        };
        if is_burst || packet.sent_us - current.first_sent <= GROUP_US {
            current.sent = current.sent.max(packet.sent_us);
            current.arrived_us = current.arrived_us.max(arrived_us);
            return;
        }
        let complete = std::mem::replace(current, new);
        if let Some(before) = self.previous.replace(complete) {
            let sent = complete.sent - before.sent;
            let arrived = complete.arrived_us - before.arrived_us;
            self.line.on_group(now, sent as f64 / 1e3, arrived as f64 / 1e3, complete.arrived_us);
        }
    }

    /// Has the processor fetch what its line is drawn through.
    pub(super) fn prefetch(&self) {
        if let Some(delays) = &self.line.delays {
            prefetch(&**delays);
        }
    }

    pub(super) fn usage(&self) -> Usage {
        self.line.usage
    }
}

/// Lays a line through the delays of groups: a slope above zero is a queue that grows.
#[derive(Debug)]
struct Trendline {
    /// Those of the last groups.
    delays: Option<Box<Delays>>,
    /// How many there have been.
    groups: usize,
    first_arrived_us: Option<i64>,
    accumulated: f64,
    smoothed: f64,
    deltas: u32,
    threshold: f64,
    adapted_at: Option<Instant>,
    over_for: f64,
    over_count: u32,
    before: f64,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Self {
            delays: None,
            groups: 0,
            first_arrived_us: None,
            accumulated: 0.0,
            smoothed: 0.0,
            deltas: 0,
            threshold: FIRST_THRESHOLD,
            adapted_at: None,
            over_for: -1.0,
            over_count: 0,
            before: 0.0,
            usage: Usage::Normal,
        }
    }
}

/// Times of arrival and smoothed delays, both in milliseconds, in any order, as a line has none, and
/// their sums. Those go on from point to point, and are made anew with each window: nothing adds up
/// that was lost in rounding.
#[derive(Debug, Default)]
struct Delays {
    points: [(f64, f64); WINDOW],
    /// One of them, by how far from which the others are summed up: close to zero little is lost.
    origin: (f64, f64),
    sums: Sums,
}

/// Of times, of delays, of the squares of times, and of the products.
#[derive(Debug, Default)]
struct Sums {
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

/// What the squares of points' distances from their mean, in milliseconds, add up to at most if they
/// came at one time: the least of two times that are told apart is a quarter of one.
const AT_ONCE: f64 = 1e-3;

/// Points further apart than this, in milliseconds, are summed up anew each time.
const FAR: f64 = 30_000.0;

impl Sums {
    fn add(&mut self, (x, y): (f64, f64), sign: f64) {
        self.x += sign * x;
        self.y += sign * y;
        self.xx += sign * (x * x);
        self.xy += sign * (x * y);
    }
}

impl Delays {
    fn set(&mut self, place: usize, at: f64, delay: f64) {
        let before = std::mem::replace(&mut self.points[place], (at, delay));
        if place == 0 || (at - before.0).abs() > FAR {
            self.origin = (at, delay);
            self.sums = Sums::default();
            for point in self.points {
                self.sums.add(self.relative(point), 1.0);
            }
        } else {
            self.sums.add(self.relative(before), -1.0);
            self.sums.add(self.relative((at, delay)), 1.0);
        }
    }

    fn relative(&self, (at, delay): (f64, f64)) -> (f64, f64) {
        (at - self.origin.0, delay - self.origin.1)
    }

    /// The slope by least squares; `None` if all came at one time.
    fn slope(&self) -> Option<f64> {
        let Sums { x, y, xx, xy } = self.sums;
        let count = WINDOW as f64;
        let (above, below) = (xy - x * y / count, xx - x * x / count);
        (below > AT_ONCE).then(|| above / below)
    }
}

impl Trendline {
    fn on_group(&mut self, now: Instant, sent_ms: f64, arrived_ms: f64, arrived_us: i64) {
        self.deltas = (self.deltas + 1).min(1_000);
        let first = *self.first_arrived_us.get_or_insert(arrived_us);
        self.accumulated += arrived_ms - sent_ms;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        let delays = self.delays.get_or_insert_default();
        delays.set(self.groups % WINDOW, (arrived_us - first) as f64 / 1e3, self.smoothed);
        self.groups += 1;
        let slope = if self.groups >= WINDOW { delays.slope() } else { None };
        self.detect(now, slope.unwrap_or(self.before), sent_ms);
    }

    fn detect(&mut self, now: Instant, slope: f64, sent_ms: f64) {
        if self.deltas < 2 {
            return;
        }
        let trend = f64::from(self.deltas.min(MAX_DELTAS)) * slope * GAIN;
        if trend > self.threshold {
            // Over for half of the first group, as nobody knows when it began (§5.4).
            self.over_for =
                if self.over_for < 0.0 { sent_ms / 2.0 } else { self.over_for + sent_ms };
            self.over_count += 1;
            if self.over_for > OVERUSE_MS && self.over_count > 1 && slope >= self.before {
                (self.over_for, self.over_count) = (0.0, 0);
                self.usage = Usage::Over;
            }
        } else {
            (self.over_for, self.over_count) = (-1.0, 0);
            self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.before = slope;
        self.adapt(now, trend.abs());
    }

    fn adapt(&mut self, now: Instant, trend: f64) {
        let since = now.saturating_duration_since(self.adapted_at.unwrap_or(now));
        self.adapted_at = Some(now);
        if trend > self.threshold + JUMP {
            return;
        }
        let gain = if trend < self.threshold { FALL } else { RISE };
        let ms = (since.as_secs_f64() * 1e3).min(100.0);
        let adapted = self.threshold + gain * (trend - self.threshold) * ms;
        self.threshold = adapted.clamp(MIN_THRESHOLD, MAX_THRESHOLD);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Sends a packet every 10 ms; `delay_ms` says how long each takes.
    fn run(delay_ms: impl Fn(u64) -> f64) -> Vec<Usage> {
        let start = Instant::now();
        let mut detector = DelayDetector::default();
        (0..200)
            .map(|n| {
                let sent_us = 10_000 * n as i64;
                let arrived_us = (sent_us as f64 + delay_ms(n) * 1e3) as i64;
                let packet = PacketResult {
                    number: n,
                    packets: 1,
                    sent_us,
                    len: 1_000,
                    arrived_us: Some(arrived_us),
                    was_lost: false,
                    cluster: 0,
                };
                detector.on_packet(start + Duration::from_millis(10 * n + 50), &packet);
                detector.usage()
            })
            .collect()
    }

    #[test]
    fn a_line_through_points_on_a_line_has_its_slope_wherever_they_are() {
        for origin in [0.0, 1e9] {
            let mut delays = Delays::default();
            for n in 0..WINDOW {
                let at = (n * 7 % WINDOW) as f64 * 10.0;
                delays.set(n, origin + at, 30.0 + at / 4.0);
            }
            let found = delays.slope().unwrap();
            assert!((found - 0.25).abs() < 1e-6, "{found}");
        }
        let mut at_once = Delays::default();
        for n in 0..3 * WINDOW / 2 {
            at_once.set(n % WINDOW, 1e9 + 0.1, n as f64);
        }
        assert_eq!(at_once.slope(), None);
    }

    #[test]
    fn a_line_is_the_same_from_point_to_point_as_anew() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut delays = Delays::default();
        let mut at = 0.0;
        for n in 0..50 * WINDOW {
            // Hours without a packet, and a delay that jumps by seconds.
            at += match rng.u8(..) {
                0 => 1e7,
                // What a peer says need not be so.
                1 => -1e9,
                _ => 0.25 + rng.f64() * 20.0,
            };
            let jump = if rng.u8(..) == 0 { 1e4 } else { 0.0 };
            delays.set(n % WINDOW, at, rng.f64() * 50.0 + jump);
            if n < WINDOW {
                continue;
            }
            let mean = |of: fn(&(f64, f64)) -> f64| {
                delays.points.iter().map(of).sum::<f64>() / WINDOW as f64
            };
            let (x, y) = (mean(|it| it.0), mean(|it| it.1));
            let (above, below) =
                delays.points.iter().fold((0.0, 0.0), |(above, below), (at, delay)| {
                    (above + (at - x) * (delay - y), below + (at - x) * (at - x))
                });
            let (found, expected) = (delays.slope().unwrap(), above / below);
            assert!((found - expected).abs() < 1e-3, "{n}: {found} {expected}");
        }
    }

    fn first(usages: &[Usage], wanted: Usage) -> Option<usize> {
        usages.iter().position(|usage| *usage == wanted)
    }

    #[test]
    fn a_delay_that_stays_is_normal_whatever_it_is() {
        assert!(run(|_| 300.0).iter().all(|usage| *usage == Usage::Normal));
        // Some jitter without a direction.
        let jitter = |n: u64| 20.0 + f64::from((n * 7 % 5) as u32);
        assert!(run(jitter).iter().all(|usage| *usage != Usage::Over));
    }

    #[test]
    fn a_queue_that_grows_is_overuse_within_a_quarter_of_a_second_and_emptying_is_underuse() {
        let usages = run(|n| match n {
            0..50 => 20.0,
            50..100 => 20.0 + (n - 50) as f64 * 3.0,
            _ => (170.0 - (n - 100) as f64 * 3.0).max(20.0),
        });
        let over = first(&usages, Usage::Over).unwrap();
        assert!((51..75).contains(&over), "{over}");
        let under = first(&usages, Usage::Under).unwrap();
        assert!((100..140).contains(&under), "{under}");
        assert_eq!(usages[199], Usage::Normal);
    }

    #[test]
    fn packets_that_waited_together_are_one_burst() {
        // A link that lets out what has come every 40 ms.
        let usages = run(|n| (40 - 10 * (n % 4)) as f64);
        assert!(usages.iter().all(|usage| *usage != Usage::Over));
    }
}
