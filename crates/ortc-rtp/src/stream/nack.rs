use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::srtp::ReplayWindow;

/// How long a packet is waited for that was merely overtaken, to begin with: less than two frames
/// of sound, and most networks reorder by less.
const REORDERING: Duration = Duration::from_millis(10);
/// The bounds of that as it is learnt.
const MIN_REORDERING: Duration = Duration::from_millis(2);
const MAX_REORDERING: Duration = Duration::from_millis(50);

/// The time there and back until it is known.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// Shortest and longest time after which a packet is asked for again.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
const MAX_INTERVAL: Duration = Duration::from_millis(500);

/// Requests go out no closer than this, so that what is lost in one burst is asked for at once.
const GATHERING: Duration = Duration::from_millis(5);

/// How often a packet is asked for. At 5 % loss each way all ten fail once in 10^10.
const MAX_ASKS: u8 = 10;

/// How long a packet is missed before it is given up: later nobody waits for it, and a key frame
/// is sooner.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(1);

/// Most packets that are missed at a time, and asked for in one go: half a second of video at
/// 5 Mbit/s. After a longer gap a key frame is as cheap.
const MAX_MISSING: usize = 256;

/// What is missing of a received stream, when to ask for it (RFC 4585 §6.2.1) and when to give it
/// up.
///
/// It sees all authentic packets of a stream, those that were sent again too; it also tells what
/// has come before.
#[derive(Debug)]
pub struct LossTracker {
    seen: ReplayWindow,
    highest: Option<u64>,
    /// In ascending order.
    missing: VecDeque<Missing>,
    /// When requests may go out again.
    not_before: Option<Instant>,
    reordering: Duration,
    round_trip: RoundTrip,
    /// Whether what is sent again can be told from what was overtaken.
    has_rtx: bool,
    given_up: u64,
    /// Since somebody was told.
    newly_given_up: u64,
}

/// A packet that has not come.
#[derive(Debug, Clone, Copy)]
struct Missing {
    index: u64,
    since: Instant,
    due: Instant,
    asked_at: Option<Instant>,
    asks: u8,
}

/// What a packet is to a [`LossTracker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was not asked for: new, or overtaken by others.
    New,
    /// It was asked for.
    Recovered,
    /// It has come before, or is too old to tell.
    Duplicate,
}

/// The estimate of RFC 6298 §2.
#[derive(Debug, Clone, Copy, Default)]
struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl RoundTrip {
    fn sample(&mut self, measured: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(measured);
                self.variation = measured / 4;
            }
            Some(smoothed) => {
                self.variation = self.variation * 3 / 4 + smoothed.abs_diff(measured) / 4;
                self.smoothed = Some(smoothed * 7 / 8 + measured / 8);
            }
        }
    }
}

impl Default for LossTracker {
    fn default() -> Self {
        Self::new()
    }
}

impl LossTracker {
    /// Makes a tracker that has seen nothing.
    pub fn new() -> Self {
        Self {
            seen: ReplayWindow::default(),
            highest: None,
            missing: VecDeque::new(),
            not_before: None,
            reordering: REORDERING,
            round_trip: RoundTrip::default(),
            has_rtx: false,
            given_up: 0,
            newly_given_up: 0,
        }
    }

    /// Says whether packets are sent again on a stream of their own: then any other that comes late
    /// was only overtaken, whenever it was asked for.
    pub fn expect_rtx(&mut self, has_rtx: bool) {
        self.has_rtx = has_rtx;
    }

    /// The index of a sequence number that comes in what was sent again: the one that is closest
    /// to the newest. `None` for one before the first packet that could be.
    pub fn index_of(&self, sequence: u16) -> Option<u64> {
        self.seen.extend(sequence).ok()
    }

    /// Takes a packet. `is_rtx` says that it has come as one that was sent again for sure.
    pub fn on_packet(&mut self, now: Instant, index: u64, is_rtx: bool) -> Arrival {
        if self.seen.check(index).is_err() {
            return Arrival::Duplicate;
        }
        self.seen.commit(index);
        match self.highest {
            Some(highest) if index < highest => self.take_late(now, index, is_rtx),
            Some(highest) => {
                self.miss(now, highest + 1..index);
                self.highest = Some(index);
                Arrival::New
            }
            None => {
                self.highest = Some(index);
                Arrival::New
            }
        }
    }

    /// Notes that these have not come.
    fn miss(&mut self, now: Instant, indices: std::ops::Range<u64>) {
        let count = indices.end - indices.start;
        if count > MAX_MISSING as u64 {
            self.give_up(count + self.missing.len() as u64);
            self.missing.clear();
            return;
        }
        let due = now + self.reordering;
        for index in indices {
            if self.missing.len() == MAX_MISSING {
                self.missing.pop_front();
                self.give_up(1);
            }
            self.missing.push_back(Missing { index, since: now, due, asked_at: None, asks: 0 });
        }
    }

    fn give_up(&mut self, packets: u64) {
        self.given_up += packets;
        self.newly_given_up += packets;
    }

    fn take_late(&mut self, now: Instant, index: u64, is_rtx: bool) -> Arrival {
        let Ok(at) = self.missing.binary_search_by_key(&index, |missing| missing.index) else {
            // From before the first, or given up already.
            return Arrival::New;
        };
        let Some(missing) = self.missing.remove(at) else { return Arrival::New };
        let late = now.saturating_duration_since(missing.since);
        let Some(asked_at) = missing.asked_at else {
            self.learn_reordering(late);
            return Arrival::New;
        };
        let measured = now.saturating_duration_since(asked_at);
        // What comes much sooner than an answer could had only been overtaken.
        let soonest = self.round_trip.smoothed.unwrap_or(ROUND_TRIP) / 2;
        let is_soon = missing.asks == 1 && measured < soonest;
        if !is_rtx && (self.has_rtx || is_soon) {
            self.learn_reordering(late);
            return Arrival::New;
        }
        // Of one that was asked for several times, nobody knows which of them was answered.
        if missing.asks == 1 {
            self.round_trip.sample(measured);
        }
        Arrival::Recovered
    }

    /// Slowly forgets how far packets are reordered, and learns at once that it is more.
    fn learn_reordering(&mut self, late: Duration) {
        let forgotten = self.reordering * 31 / 32;
        self.reordering = forgotten.max(late * 5 / 4).clamp(MIN_REORDERING, MAX_REORDERING);
    }

    /// Takes a time there and back that was measured otherwise; what the answers to requests say
    /// goes first.
    pub fn hint_round_trip(&mut self, measured: Duration) {
        if self.round_trip.smoothed.is_none() {
            self.round_trip.sample(measured);
        }
    }

    /// The time there and back, as far as the answers to requests have told.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.smoothed
    }

    fn interval(&self) -> Duration {
        let RoundTrip { smoothed, variation } = self.round_trip;
        let slack = (variation * 2).max(GATHERING * 2);
        (smoothed.unwrap_or(ROUND_TRIP) + slack).clamp(MIN_INTERVAL, MAX_INTERVAL)
    }

    /// When [`poll`](Self::poll) will have something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.missing.iter().map(|missing| missing.due).min()?;
        Some(self.not_before.map_or(due, |at| at.max(due)))
    }

    /// Appends the indices to `lost` that are to be asked for at `now`, in ascending order, at
    /// most 256, and gives up what has been missed for too long.
    pub fn poll(&mut self, now: Instant, lost: &mut Vec<u64>) {
        if self.not_before.is_some_and(|at| now < at) {
            return;
        }
        let interval = self.interval();
        let before = self.missing.len();
        self.missing.retain(|missing| {
            let is_late = now.saturating_duration_since(missing.since) >= MAX_AGE;
            !(is_late || missing.asks == MAX_ASKS && now >= missing.due)
        });
        self.give_up((before - self.missing.len()) as u64);
        let asked = lost.len();
        for missing in self.missing.iter_mut().filter(|missing| now >= missing.due) {
            missing.asks += 1;
            missing.asked_at = Some(now);
            // The last word is that of its age.
            missing.due = (now + interval).min(missing.since + MAX_AGE);
            lost.push(missing.index);
        }
        if lost.len() > asked {
            self.not_before = Some(now + GATHERING);
        }
    }

    /// How many packets were given up since this was asked the last time: what was in them, only
    /// a key frame can make good.
    pub fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.newly_given_up)
    }

    /// Packets that are missing and not given up.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// Packets that were given up.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        start: Instant,
        tracker: LossTracker,
    }

    impl Fixture {
        fn new() -> Self {
            Self { start: Instant::now(), tracker: LossTracker::new() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn packet(&mut self, ms: u64, index: u64) -> Arrival {
            self.tracker.on_packet(self.at(ms), index, false)
        }

        fn lost(&mut self, ms: u64) -> (Vec<u64>, u64) {
            let mut lost = Vec::new();
            self.tracker.poll(self.at(ms), &mut lost);
            (lost, self.tracker.take_given_up())
        }

        /// When it wants to be polled next.
        fn due(&self) -> Option<u64> {
            let at = self.tracker.poll_timeout()?;
            Some((at - self.start).as_millis() as u64)
        }
    }

    #[test]
    fn a_packet_that_was_overtaken_is_not_asked_for() {
        let mut f = Fixture::new();
        assert_eq!(f.packet(0, 70_000), Arrival::New);
        assert_eq!(f.packet(1, 70_002), Arrival::New);
        assert_eq!(f.due(), Some(11));
        assert_eq!(f.lost(10), (vec![], 0));
        assert_eq!(f.packet(10, 70_001), Arrival::New);
        assert_eq!(f.packet(10, 70_001), Arrival::Duplicate);
        assert_eq!((f.due(), f.lost(2_000)), (None, (vec![], 0)));
        // It has learnt that packets are overtaken by 9 ms.
        f.packet(20, 70_004);
        assert_eq!(f.due(), Some(20 + 11));
    }

    #[test]
    fn a_lost_packet_is_asked_for_again_after_a_round_trip_and_given_up_after_a_second() {
        let mut f = Fixture::new();
        f.packet(0, 5);
        f.packet(0, 8);
        assert_eq!(f.lost(10), (vec![6, 7], 0));
        assert_eq!(f.lost(100), (vec![], 0));
        // One is answered after 60 ms, which is how long it takes from now on.
        assert_eq!(f.packet(70, 6), Arrival::Recovered);
        assert_eq!(f.tracker.round_trip(), Some(Duration::from_millis(60)));
        assert_eq!(f.due(), Some(120));
        assert_eq!(f.lost(120), (vec![7], 0));
        let mut asked = vec![120];
        let mut given_up_at = None;
        while let Some(due) = f.due() {
            match f.lost(due) {
                (lost, 0) if lost == [7] => asked.push(due),
                (lost, 1) if lost.is_empty() => given_up_at = Some(due),
                other => panic!("{other:?} at {due}"),
            }
        }
        assert_eq!(asked[..3], [120, 210, 300]);
        assert!(asked.len() <= usize::from(MAX_ASKS), "{asked:?}");
        assert_eq!((given_up_at, f.tracker.given_up()), (Some(asked.last().unwrap() + 90), 1));
        // Should it come after all, it is taken, once.
        assert_eq!((f.packet(2_000, 7), f.packet(2_000, 7)), (Arrival::New, Arrival::Duplicate));
    }

    #[test]
    fn what_was_overtaken_says_nothing_about_the_round_trip() {
        let mut f = Fixture::new();
        f.packet(0, 5);
        f.packet(0, 7);
        assert_eq!(f.lost(10), (vec![6], 0));
        assert_eq!((f.packet(15, 6), f.tracker.round_trip()), (Arrival::New, None));
        // So is all that does not come on the stream of what is sent again.
        f.tracker.expect_rtx(true);
        f.packet(20, 10);
        // In whole milliseconds.
        let due = f.due().unwrap() + 1;
        assert_eq!(f.lost(due), (vec![8, 9], 0));
        assert_eq!((f.packet(due + 80, 8), f.tracker.round_trip()), (Arrival::New, None));
        assert_eq!(f.tracker.on_packet(f.at(due + 90), 9, true), Arrival::Recovered);
        assert_eq!(f.tracker.round_trip(), Some(Duration::from_millis(90)));
    }

    #[test]
    fn bursts_are_gathered_and_a_long_gap_is_not_asked_for_at_all() {
        let mut f = Fixture::new();
        f.packet(0, 0);
        f.packet(0, 2);
        f.packet(3, 4);
        assert_eq!(f.lost(10), (vec![1], 0));
        // 3 is due at 13, and waits until requests may go out again.
        assert_eq!((f.lost(13), f.due()), ((vec![], 0), Some(15)));
        assert_eq!(f.lost(15), (vec![3], 0));
        f.packet(20, 4 + 256 + 1);
        let (lost, given_up) = f.lost(30);
        assert_eq!((lost.len(), given_up, f.tracker.missing()), (256, 2, 256));
        f.packet(40, 10_000);
        assert_eq!(f.tracker.missing(), 0);
        assert_eq!(f.due(), None);
        assert_eq!(f.lost(40), (vec![], 256 + 10_000 - 262));
    }

    #[test]
    fn what_was_sent_again_has_the_index_closest_to_the_newest() {
        let mut f = Fixture::new();
        assert_eq!(f.tracker.index_of(7), Some(7));
        f.packet(0, 65_540);
        assert_eq!(f.tracker.index_of(65_530), Some(65_530));
        assert_eq!(f.tracker.index_of(10), Some(65_546));
    }
}
