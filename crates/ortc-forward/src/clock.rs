use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds between the epochs of NTP (1900) and Unix (1970), RFC 5905 §6.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// What the wall clock showed at some instant of the monotonic one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClock {
    at: Instant,
    ntp: u64,
}

impl WallClock {
    /// The wall clock that showed the NTP timestamp `ntp` (32.32 bits, RFC 5905 §6) at `at`.
    pub const fn new(at: Instant, ntp: u64) -> Self {
        Self { at, ntp }
    }

    /// The system's wall clock, `at` being now.
    pub fn system(at: Instant) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = unix.as_secs().wrapping_add(NTP_TO_UNIX) << 32;
        Self { at, ntp: seconds | fraction(unix.subsec_nanos()) }
    }

    /// The NTP timestamp at an instant not before that of the clock.
    pub(crate) fn ntp(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.at);
        self.ntp
            .wrapping_add((passed.as_secs() << 32).wrapping_add(fraction(passed.subsec_nanos())))
    }
}

fn fraction(nanos: u32) -> u64 {
    (u64::from(nanos) << 32) / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_passes_in_seconds_and_their_fractions() {
        let start = Instant::now();
        let clock = WallClock::new(start, 7 << 32);
        assert_eq!(clock.ntp(start), 7 << 32);
        assert_eq!(clock.ntp(start + Duration::from_millis(2_500)), (9 << 32) | (1 << 31));
    }
}
