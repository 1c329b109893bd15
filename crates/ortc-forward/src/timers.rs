use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Stale entries that may lie in the heap beside the live ones before it is swept.
const STALE_ALLOWED: usize = 64;

/// One deadline per connection slot, in a heap with lazy deletion.
///
/// A deadline that moves away, as a time-out does with every packet, costs nothing: the
/// earlier alarm stays, fires, and is set anew. Only one that comes nearer is pushed.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
    /// What each slot is to be woken for; an entry of the heap that disagrees is stale.
    armed: Vec<Option<(Instant, &'static str)>>,
    live: usize,
}

impl Timers {
    /// Sees to it that `slot` fires no later than its deadline.
    pub(crate) fn arm(&mut self, slot: u32, deadline: Option<(Instant, &'static str)>) {
        let Some((at, reason)) = deadline else { return };
        let index = slot as usize;
        if self.armed.len() <= index {
            self.armed.resize(index + 1, None);
        }
        match self.armed[index] {
            Some((armed, _)) if armed <= at => return,
            Some(_) => {}
            None => self.live += 1,
        }
        self.armed[index] = Some((at, reason));
        self.heap.push(Reverse((at, slot)));
        if self.heap.len() > 2 * self.live + STALE_ALLOWED {
            let armed = &self.armed;
            self.heap.retain(|Reverse((at, slot))| {
                armed[*slot as usize].is_some_and(|(armed, _)| armed == *at)
            });
        }
    }

    /// Forgets the deadline of a slot.
    pub(crate) fn disarm(&mut self, slot: u32) {
        if let Some(armed) = self.armed.get_mut(slot as usize)
            && armed.take().is_some()
        {
            self.live -= 1;
        }
    }

    /// The next slot whose deadline has come; it is disarmed.
    pub(crate) fn fire(&mut self, now: Instant) -> Option<u32> {
        let (at, _) = self.next()?;
        if at > now {
            return None;
        }
        let Reverse((_, slot)) = self.heap.pop()?;
        self.disarm(slot);
        Some(slot)
    }

    /// The earliest deadline and what it is for.
    pub(crate) fn next(&mut self) -> Option<(Instant, &'static str)> {
        while let Some(Reverse((at, slot))) = self.heap.peek() {
            match self.armed[*slot as usize] {
                Some((armed, reason)) if armed == *at => return Some((armed, reason)),
                _ => self.heap.pop(),
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn slots_fire_in_order_and_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.arm(2, Some((at(20), "b")));
        timers.arm(0, Some((at(10), "a")));
        timers.arm(5, Some((at(30), "c")));
        timers.disarm(5);
        assert_eq!(timers.next(), Some((at(10), "a")));
        assert_eq!(timers.fire(at(9)), None);
        assert_eq!(timers.fire(at(25)), Some(0));
        assert_eq!(timers.fire(at(25)), Some(2));
        assert_eq!((timers.fire(at(99)), timers.next()), (None, None));
    }

    #[test]
    fn a_deadline_that_comes_nearer_counts_and_one_that_moves_away_costs_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.arm(0, Some((at(10), "first")));
        for later in 11..1000 {
            timers.arm(0, Some((at(later), "later")));
        }
        assert_eq!(timers.heap.len(), 1);
        timers.arm(0, Some((at(5), "nearer")));
        assert_eq!(timers.fire(at(6)), Some(0));
        assert_eq!(timers.fire(at(2000)), None);
    }

    #[test]
    fn stale_entries_are_bounded() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for ms in (0..10_000u64).rev() {
            timers.arm(0, Some((start + Duration::from_millis(ms), "nearer")));
        }
        assert!(timers.heap.len() <= 2 + STALE_ALLOWED, "{}", timers.heap.len());
        assert_eq!(timers.next(), Some((start, "nearer")));
    }
}
