use std::time::{Duration, Instant};

/// The clock of pictures (RFC 3551 §5).
pub(crate) const PICTURE_CLOCK: u32 = 90_000;
/// A moment of somebody's clock as NTP has it (RFC 3550 §4): 32 bits of seconds since 1900, and 32
/// of fraction. They begin anew in 2036.
///
/// A peer's clock need not show the time of day, as ours does not: its moments compare with each
/// other, not with those of anybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// How much later it is than `other`, in microseconds; negative if it is earlier. The nearer
    /// of both ways round, at most 68 years.
    pub fn micros_since(self, other: Self) -> i64 {
        let distance = i128::from(self.0.wrapping_sub(other.0) as i64);
        ((distance * 1_000_000) >> 32) as i64
    }

    /// The moment so many units of a clock rate, given in Hz, later; or earlier, if they are
    /// negative. A clock rate of 0 is taken for 1.
    pub fn plus_units(self, units: i64, clock_rate: u32) -> Self {
        let distance = (i128::from(units) << 32) / i128::from(clock_rate.max(1));
        Self(self.0.wrapping_add(distance as u64))
    }

    /// The time since 1900, or 2036.
    pub fn since_epoch(self) -> Duration {
        let nanos = ((self.0 & 0xffff_ffff) * 1_000_000_000) >> 32;
        Duration::new(self.0 >> 32, nanos as u32)
    }
}

/// Maps instants to NTP timestamps (RFC 3550 §4): 32 bits of seconds, 32 of fraction.
///
/// All streams of a session share it, so that their sender reports can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NtpClock {
    start: Instant,
    ntp_at_start: u64,
}

impl NtpClock {
    /// Makes a clock that shows `ntp_at_start` at `start`.
    pub fn new(start: Instant, ntp_at_start: u64) -> Self {
        Self { start, ntp_at_start }
    }

    /// The NTP timestamp at `now`; an instant before the start counts as the start.
    pub fn ntp(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        self.ntp_at_start.wrapping_add(since.as_secs() << 32 | fraction)
    }

    /// The middle 32 bits, as reports repeat them: units of 1/65,536 s.
    pub fn middle(&self, now: Instant) -> u32 {
        (self.ntp(now) >> 16) as u32
    }

    /// The next of the moments that all clocks of a host have in common, 31 ms apart, so that
    /// what need not be exact is done for many sessions at a time.
    pub(crate) fn next_tick(&self, at: Instant) -> Instant {
        /// In NTP units: a power of two.
        const TICK: u64 = 1 << 27;
        let missing = self.ntp(at).wrapping_neg() % TICK;
        at + Duration::from_nanos((missing * 1_000_000_000) >> 32)
    }
}

/// A duration in units of 1/65,536 s, at most 18 hours.
pub(crate) fn in_65536ths(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros() * 65_536 / 1_000_000).unwrap_or(u32::MAX)
}

/// A duration in units of a clock rate, wrapping.
pub(crate) fn in_clock_units(duration: Duration, clock_rate: u32) -> u32 {
    (duration.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_apart_across_the_range() {
        let (one, other) = (NtpTime(u64::MAX - (1 << 31) + 1), NtpTime(1 << 31));
        assert_eq!((other.micros_since(one), one.micros_since(other)), (1_000_000, -1_000_000));
        assert_eq!(one.plus_units(48_000, 48_000), other);
        assert_eq!(other.plus_units(-90_000, 90_000), one);
        assert_eq!(NtpTime(5 << 32 | 1 << 31).since_epoch(), Duration::from_millis(5_500));
        assert_eq!(one.plus_units(i64::MIN, 0).plus_units(i64::MAX, 0).plus_units(1, 0), one);
    }

    #[test]
    fn ntp_time_runs_in_seconds_and_fractions() {
        let start = Instant::now();
        let clock = NtpClock::new(start, 5 << 32);
        assert_eq!(clock.ntp(start), 5 << 32);
        assert_eq!(clock.ntp(start + Duration::from_millis(2_500)), 7 << 32 | 1 << 31);
        assert_eq!(clock.middle(start + Duration::from_millis(500)), 5 << 16 | 1 << 15);
        // Whoever's start it was, the moments are the same, but for what rounding takes.
        let later = NtpClock::new(
            start + Duration::from_millis(7),
            clock.ntp(start + Duration::from_millis(7)),
        );
        for ms in [7, 30, 31, 32, 62, 900] {
            let at = start + Duration::from_millis(ms);
            let (one, other) = (clock.next_tick(at), later.next_tick(at));
            assert!(at <= one && one < at + Duration::from_micros(31_250), "{ms} ms");
            assert!(one.max(other) - one.min(other) < Duration::from_nanos(5), "{ms} ms");
        }
        assert_eq!(in_65536ths(Duration::from_millis(1_500)), 98_304);
        assert_eq!(in_clock_units(Duration::from_millis(20), 48_000), 960);
    }
}
