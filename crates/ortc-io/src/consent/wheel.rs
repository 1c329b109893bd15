//! Deadlines of many connections, brought together so that what is due is due at once.

use std::time::{Duration, Instant};

/// How far apart the wheel stops: what is due in between waits for the next stop, and is served
/// by one wake-up and one system call. A fiftieth of the time between two requests.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// Stops of one turn; a deadline beyond 12.8 s is looked at then and put back.
const STOPS: u64 = 128;

/// Something that is due for the slot, unless its stamp is an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) slot: u32,
    pub(super) stamp: u64,
}

/// A timer wheel: constant time for each deadline, however many there are.
#[derive(Debug)]
pub(super) struct Wheel {
    stops: Vec<Vec<Due>>,
    /// When the stop with the number 0 was.
    base: Option<Instant>,
    /// The first stop that has not been emptied.
    next: u64,
    len: usize,
    /// What the stop that is being emptied has left.
    due: Vec<Due>,
}

impl Wheel {
    pub(super) fn new() -> Self {
        let stops = vec![Vec::new(); STOPS as usize];
        Self { stops, base: None, next: 0, len: 0, due: Vec::new() }
    }

    /// Has `due` come at the first stop that is not before `at`.
    pub(super) fn insert(&mut self, now: Instant, at: Instant, due: Due) {
        let base = *self.base.get_or_insert(now);
        if self.len == 0 && self.due.is_empty() {
            // It has stood still.
            self.next = self.next.max(stop(now.saturating_duration_since(base)));
        }
        let wanted = stop(at.saturating_duration_since(base));
        let number = wanted.clamp(self.next, self.next + STOPS - 1);
        self.stops[(number % STOPS) as usize].push(due);
        self.len += 1;
    }

    /// The next that is due at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Due> {
        loop {
            if let Some(due) = self.due.pop() {
                return Some(due);
            }
            if self.len == 0 || self.next_at()? > now {
                return None;
            }
            let stop = &mut self.stops[(self.next % STOPS) as usize];
            self.len -= stop.len();
            std::mem::swap(stop, &mut self.due);
            // In the order in which they came; the room of both lists is used again.
            self.due.reverse();
            self.next += 1;
        }
    }

    /// When something may be due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let full = (self.next..self.next + STOPS)
            .find(|number| !self.stops[(number % STOPS) as usize].is_empty())?;
        self.at(full)
    }

    fn next_at(&self) -> Option<Instant> {
        self.at(self.next)
    }

    fn at(&self, number: u64) -> Option<Instant> {
        Some(self.base? + TICK * u32::try_from(number).ok()?)
    }
}

/// The first stop that is not before this time.
fn stop(since: Duration) -> u64 {
    since.as_nanos().div_ceil(TICK.as_nanos()).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(slot: u32) -> Due {
        Due { slot, stamp: 0 }
    }

    fn slots(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| wheel.pop(now)).map(|due| due.slot).collect()
    }

    #[test]
    fn what_is_due_between_two_stops_comes_together_at_the_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut wheel = Wheel::new();
        assert_eq!((wheel.poll_timeout(), wheel.pop(start)), (None, None));
        for (slot, ms) in [(1, 101), (2, 500), (3, 150), (4, 200), (5, 201)] {
            wheel.insert(start, at(ms), due(slot));
        }
        assert_eq!(wheel.poll_timeout(), Some(at(200)));
        assert_eq!(slots(&mut wheel, at(199)), []);
        assert_eq!(slots(&mut wheel, at(200)), [1, 3, 4]);
        assert_eq!(wheel.poll_timeout(), Some(at(300)));
        assert_eq!(slots(&mut wheel, at(10_000)), [5, 2]);
        assert_eq!(wheel.poll_timeout(), None);
    }

    #[test]
    fn after_a_standstill_and_far_ahead_it_goes_on() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut wheel = Wheel::new();
        wheel.insert(start, at(1), due(1));
        assert_eq!(slots(&mut wheel, at(1)), [1]);
        wheel.insert(at(86_400), at(86_401), due(2));
        assert_eq!(wheel.poll_timeout(), Some(at(86_401)));
        // Too far ahead: early, and to be put back.
        wheel.insert(at(86_400), at(90_000), due(3));
        assert_eq!(slots(&mut wheel, at(86_401)), [2]);
        let early = wheel.poll_timeout().unwrap();
        assert!(early > at(86_410) && early < at(86_420));
        assert_eq!(slots(&mut wheel, early), [3]);
        // In the past: at the next stop.
        wheel.insert(early, at(0), due(4));
        assert!(wheel.poll_timeout().unwrap() <= early + TICK);
        assert_eq!(slots(&mut wheel, early + TICK), [4]);
    }
}
