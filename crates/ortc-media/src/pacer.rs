use std::time::{Duration, Instant};

/// How far a sender may fall behind before its schedule moves. What is less is caught up
/// with by sending at once; a longer burst would only be dropped by the receiver's buffer.
const MAX_BEHIND: Duration = Duration::from_millis(100);

/// When a packet is due and which media time it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// When to send it; in the past if the sender is behind.
    pub due: Instant,
    /// Its time since the first packet, in units of the clock rate.
    pub media_time: u64,
}

/// Tells when each packet of a file is due, if it is played at the pace of its own clock.
///
/// It has no clock itself. Errors do not add up: every instant is reckoned from the start.
#[derive(Debug, Clone)]
pub struct Pacer {
    start: Instant,
    clock_rate: u64,
    samples: u64,
    slips: u64,
}

impl Pacer {
    /// Begins at `start`: that is when the first packet is due. Durations are in samples at
    /// 48 kHz, as Opus has them.
    pub fn new(start: Instant) -> Self {
        Self::with_clock_rate(start, 48_000)
    }

    /// Begins at `start`, with durations in units of `1 / clock_rate` seconds; 0 is taken
    /// for 1.
    pub fn with_clock_rate(start: Instant, clock_rate: u32) -> Self {
        Self { start, clock_rate: u64::from(clock_rate.max(1)), samples: 0, slips: 0 }
    }

    /// Takes the slot of the next packet, which lasts `samples` units of the clock rate.
    ///
    /// A sender that was held up for more than 100 ms does not send a burst: the rest of the
    /// schedule moves with it, while media time goes on without a gap.
    pub fn next(&mut self, now: Instant, samples: u32) -> Slot {
        let mut due = self.due();
        let behind = now.saturating_duration_since(due);
        if behind > MAX_BEHIND {
            self.start += behind;
            self.slips += 1;
            due = self.due();
        }
        let slot = Slot { due, media_time: self.samples };
        self.samples += u64::from(samples);
        slot
    }

    /// When the packet after the last one is due, which is when the last one has been heard.
    pub fn due(&self) -> Instant {
        // In two steps, so that hours of samples do not overflow on the way.
        let seconds = Duration::from_secs(self.samples / self.clock_rate);
        let rest = self.samples % self.clock_rate * 1_000_000_000 / self.clock_rate;
        let rest = Duration::from_nanos(rest);
        self.start + seconds + rest
    }

    /// Media time that was handed out so far, in units of the clock rate.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// How often the schedule had to move.
    pub fn slips(&self) -> u64 {
        self.slips
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_day_of_packets_does_not_drift() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let packets = 24 * 3600 * 400; // 2.5 ms each
        for _ in 0..packets - 1 {
            let due = pacer.due();
            pacer.next(due, 120);
        }
        let last = pacer.next(start, 120);
        let expected = Slot {
            due: start + Duration::from_secs(24 * 3600) - Duration::from_micros(2500),
            media_time: (packets - 1) * 120,
        };
        assert_eq!(last, expected);
        assert_eq!(pacer.slips(), 0);
    }

    #[test]
    fn frames_of_video_are_due_by_their_own_clock() {
        let start = Instant::now();
        let mut pacer = Pacer::with_clock_rate(start, 90_000);
        for _ in 0..30 {
            pacer.next(start, 3_003);
        }
        assert_eq!(pacer.due(), start + Duration::from_millis(1_001));
    }

    #[test]
    fn a_short_delay_is_caught_up_with() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.next(start, 960);
        let slot = pacer.next(start + 100 * MS, 960);
        assert_eq!(slot, Slot { due: start + 20 * MS, media_time: 960 });
        assert_eq!(pacer.slips(), 0);
    }

    #[test]
    fn a_long_delay_moves_the_schedule_but_not_media_time() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.next(start, 960);
        let resumed = start + 500 * MS;
        assert_eq!(pacer.next(resumed, 960), Slot { due: resumed, media_time: 960 });
        let next = pacer.next(resumed, 960);
        assert_eq!(next, Slot { due: resumed + 20 * MS, media_time: 1920 });
        assert_eq!((pacer.slips(), pacer.samples()), (1, 2880));
    }
}
