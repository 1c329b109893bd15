use std::time::{Duration, Instant};

/// Units of a clock of `rate` Hz in a duration, rounded to the nearest.
pub(crate) fn units(duration: Duration, rate: u32) -> u64 {
    let scaled = duration.as_nanos() * u128::from(rate) + 500_000_000;
    u64::try_from(scaled / 1_000_000_000).unwrap_or(u64::MAX)
}

/// The duration of `units` of a clock of `rate` Hz.
pub(crate) fn duration(units: u64, rate: u32) -> Duration {
    let nanos = u128::from(units) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The timestamps of the stream that the events share, as far as its audio has shown them.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamClock {
    /// A moment and the timestamp that it has.
    anchor: Option<(Instant, u32)>,
    /// Where the newest event ended.
    free_from: Option<u32>,
}

impl StreamClock {
    pub(crate) fn set(&mut self, at: Instant, timestamp: u32) {
        self.anchor = Some((at, timestamp));
    }

    /// The timestamp of an event that begins at `at`; the first of a stream without audio has
    /// 0, and time runs on from there.
    pub(crate) fn begin(&mut self, at: Instant, rate: u32) -> u32 {
        let (since, anchor) = *self.anchor.get_or_insert((at, 0));
        let elapsed = units(at.saturating_duration_since(since), rate) as u32;
        let timestamp = anchor.wrapping_add(elapsed);
        match self.free_from {
            // Audio that came late by some milliseconds has moved the clock back. An event must
            // not begin within the one before, or a receiver takes the two for one.
            Some(free) if (1..rate).contains(&free.wrapping_sub(timestamp)) => free,
            _ => timestamp,
        }
    }

    /// Says where an event has ended.
    pub(crate) fn end(&mut self, timestamp: u32) {
        self.free_from = Some(timestamp);
    }
}
