use std::time::{Duration, Instant};

/// How long the earliest and the latest packet are remembered, at least and at most twice that:
/// clocks of two hosts are some 100 ppm apart, which is 3 ms in this time.
const SPAN: Duration = Duration::from_secs(15);

/// What is further off than this was not on its way so long: the source has changed, or its clock.
const JUMP: i64 = 3_000_000;

/// Lateness is told apart to this, in microseconds, up to a second.
const BUCKET: i64 = 10_000;
const BUCKETS: usize = 100;

/// What a packet is worth in the histogram after the next one: it remembers some 500 packets, ten
/// seconds of sound.
const MEMORY: f32 = 1.0 - 1.0 / 512.0;

/// How many packets are to come in time where nothing is sent again: a decoder conceals the rest,
/// and the delay of all would be that of the latest otherwise.
const IN_TIME: f32 = 0.98;

/// How late the packets of a stream come, after the earliest moment at which they could have.
///
/// A packet's time on its way cannot be known, only how much longer it was than that of others: the
/// earliest of the last seconds counts as not late at all.
#[derive(Debug, Clone)]
pub(super) struct Lateness {
    reference: Option<Reference>,
    /// The negative of the shortest transit.
    earliest: Highest,
    latest: Highest,
    histogram: [f32; BUCKETS],
    restarts: u64,
}

/// Where timestamps are reckoned from.
#[derive(Debug, Clone, Copy)]
struct Reference {
    start: Instant,
    clock_rate: u32,
    /// The newest timestamp, as it is and unwrapped.
    timestamp: u32,
    unwrapped: i64,
}

impl Reference {
    fn unwrap(&self, timestamp: u32) -> i64 {
        self.unwrapped + i64::from(timestamp.wrapping_sub(self.timestamp) as i32)
    }

    /// Media time in microseconds since the reference.
    fn media(&self, timestamp: u32) -> i64 {
        self.unwrap(timestamp).saturating_mul(1_000_000) / i64::from(self.clock_rate)
    }
}

/// The highest value of the last seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Highest {
    current: Option<i64>,
    before: Option<i64>,
    since: Option<Instant>,
}

impl Highest {
    fn note(&mut self, now: Instant, value: i64) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= SPAN {
            (self.before, self.current, self.since) = (self.current, None, Some(now));
        }
        self.current = self.current.max(Some(value));
    }

    fn value(&self) -> Option<i64> {
        self.current.max(self.before)
    }
}

impl Lateness {
    pub(super) fn new() -> Self {
        Self {
            reference: None,
            earliest: Highest::default(),
            latest: Highest::default(),
            histogram: [0.0; BUCKETS],
            restarts: 0,
        }
    }

    /// Takes note of a packet.
    pub(super) fn note(&mut self, arrived: Instant, timestamp: u32, clock_rate: u32) {
        let reference = self.reference.filter(|reference| reference.clock_rate == clock_rate);
        let Some(mut reference) = reference else {
            return self.restart(arrived, timestamp, clock_rate);
        };
        let elapsed = micros(arrived.saturating_duration_since(reference.start));
        let transit = elapsed - reference.media(timestamp);
        let late = transit + self.earliest.value().unwrap_or(-transit);
        if late.abs() > JUMP {
            return self.restart(arrived, timestamp, clock_rate);
        }
        self.earliest.note(arrived, -transit);
        let late = late.max(0);
        self.latest.note(arrived, late);
        self.histogram.iter_mut().for_each(|weight| *weight *= MEMORY);
        self.histogram[((late / BUCKET) as usize).min(BUCKETS - 1)] += 1.0;
        let unwrapped = reference.unwrap(timestamp);
        if unwrapped > reference.unwrapped {
            (reference.timestamp, reference.unwrapped) = (timestamp, unwrapped);
        }
        self.reference = Some(reference);
    }

    /// Begins anew with a source whose times compare with nothing before.
    fn restart(&mut self, arrived: Instant, timestamp: u32, clock_rate: u32) {
        self.restarts += u64::from(self.reference.is_some());
        self.reference = (clock_rate > 0).then_some(Reference {
            start: arrived,
            clock_rate,
            timestamp,
            unwrapped: 0,
        });
        self.earliest = Highest::default();
        self.earliest.note(arrived, 0);
    }

    /// The earliest moment at which a packet of this timestamp could have come; `None` before the
    /// first.
    pub(super) fn earliest(&self, timestamp: u32) -> Option<Instant> {
        let reference = self.reference?;
        let after = reference.media(timestamp) - self.earliest.value()?;
        match u64::try_from(after) {
            Ok(after) => reference.start.checked_add(Duration::from_micros(after)),
            Err(_) => reference.start.checked_sub(Duration::from_micros(after.unsigned_abs())),
        }
    }

    /// How late the latest packet of the last seconds came.
    pub(super) fn latest(&self) -> Duration {
        Duration::from_micros(self.latest.value().unwrap_or(0).unsigned_abs())
    }

    /// How late packets come, but for the latest two in a hundred.
    pub(super) fn usual(&self) -> Duration {
        let mut rest = self.histogram.iter().sum::<f32>() * (1.0 - IN_TIME);
        for (bucket, weight) in self.histogram.iter().enumerate().rev() {
            if *weight > rest {
                return Duration::from_micros((bucket as u64 + 1) * BUCKET as u64);
            }
            rest -= weight;
        }
        Duration::ZERO
    }

    /// How often it had to begin anew.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_earliest_packet_is_not_late_and_the_others_are_by_what_they_take_longer() {
        let start = Instant::now();
        let mut lateness = Lateness::new();
        assert_eq!((lateness.earliest(0), lateness.latest()), (None, Duration::ZERO));
        for n in 0..1_000u32 {
            // One in ten comes 35 ms late, and one at all 400 ms.
            let late = if n == 500 { 400 } else { 35 * u32::from(n % 10 == 3) };
            let timestamp = (u32::MAX - 480_000).wrapping_add(960 * n);
            lateness.note(start + (20 * n + late) * MS, timestamp, 48_000);
        }
        let first = u32::MAX - 480_000;
        assert_eq!(lateness.earliest(first), Some(start));
        assert_eq!(lateness.earliest(first.wrapping_add(96_000)), Some(start + 2_000 * MS));
        assert_eq!((lateness.usual(), lateness.latest()), (40 * MS, 400 * MS));
        assert_eq!(lateness.restarts(), 0);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let start = Instant::now();
        let mut lateness = Lateness::new();
        for n in 0..5_000u32 {
            // A path that gets longer by 50 ms after 10 s.
            let late = if n < 500 { 0 } else { 50 };
            lateness.note(start + (20 * n + late) * MS, 960 * n, 48_000);
        }
        assert_eq!(lateness.earliest(0), Some(start + 50 * MS));
        assert_eq!((lateness.usual(), lateness.latest()), (10 * MS, Duration::ZERO));
    }

    #[test]
    fn another_source_begins_anew() {
        let start = Instant::now();
        let mut lateness = Lateness::new();
        lateness.note(start, 0, 48_000);
        lateness.note(start + 20 * MS, 900_000_000, 48_000);
        lateness.note(start + 40 * MS, 960, 8_000);
        assert_eq!(lateness.restarts(), 2);
        assert_eq!(lateness.earliest(960 + 160), Some(start + 60 * MS));
        lateness.note(start, 0, 0);
        assert_eq!(lateness.earliest(0), None);
    }
}
