use std::time::Duration;

/// How much longer than a round trip an answer may take: the work of a handshake on a busy machine,
/// and jitter.
const THINKING: Duration = Duration::from_millis(20);

/// The first copy of a flight waits so long at least.
const SHORTEST: Duration = Duration::from_millis(40);

/// On a path that takes so long or longer, what begins and what ends a handshake goes out twice: a
/// loss costs a round trip and more, and those are its smallest datagrams.
const LONG: Duration = Duration::from_millis(40);

/// The second copy goes out after so much of a round trip: not with the same burst of losses, and
/// before the peer's answer can have come.
const EARLY_PART: u32 = 4;

/// When flights are sent again on a path whose round trip is known.
///
/// RFC 6347 §4.2.4.1 and RFC 9147 §5.8.2 have a second where nothing is known, and let whoever knows
/// more take less.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    round_trip: Option<Duration>,
    /// Copies of the present flight beyond the first.
    copies: u32,
    /// Whether the present flight is to be sent again early.
    is_first: bool,
}

impl Pace {
    pub(crate) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
    }

    /// A client begins.
    pub(crate) fn begin_first(&mut self) {
        (self.copies, self.is_first) = (0, true);
    }

    /// Something has come that may be the peer's answer, or a part of it: the present flight needs no
    /// second copy in advance. Whoever repeats himself, or is forged, changes no more than that.
    pub(crate) fn answered(&mut self) {
        self.is_first = false;
    }

    /// Another flight goes out.
    pub(crate) fn begin(&mut self) {
        (self.copies, self.is_first) = (0, false);
    }

    /// The present flight goes out again.
    pub(crate) fn repeats(&mut self) {
        let was_early = std::mem::take(&mut self.is_first) && self.early().is_some();
        self.copies = self.copies.saturating_add(u32::from(!was_early));
    }

    /// After how long what is worth two copies goes out for the second time.
    pub(crate) fn early(&self) -> Option<Duration> {
        self.round_trip.filter(|it| *it >= LONG).map(|it| it / EARLY_PART)
    }

    /// How long the copy that goes out now waits for an answer at most: the first two a round trip
    /// and a quarter, as one of them was most likely lost, and each after them twice as long as the
    /// one before.
    pub(crate) fn wait(&self) -> Option<Duration> {
        if let Some(early) = self.early().filter(|_| self.is_first) {
            return Some(early);
        }
        let first = (self.round_trip?.mul_f64(1.25) + THINKING).max(SHORTEST);
        Some(first.saturating_mul(2_u32.saturating_pow(self.copies.saturating_sub(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(round_trip_ms: u64) -> Vec<u128> {
        let mut pace = Pace::default();
        pace.set_round_trip(Duration::from_millis(round_trip_ms));
        (0..5)
            .map(|_| {
                let wait = pace.wait().unwrap().as_millis();
                pace.repeats();
                wait
            })
            .collect()
    }

    #[test]
    fn copies_wait_for_a_round_trip_twice_and_then_longer() {
        assert_eq!(waits(100), [145, 145, 290, 580, 1160]);
        assert_eq!(waits(0), [40, 40, 80, 160, 320]);
        assert_eq!(Pace::default().wait(), None);
    }

    #[test]
    fn a_hello_is_sent_again_early_and_once_so_on_a_long_path_alone() {
        let mut pace = Pace::default();
        for (round_trip, waits) in [(39, [68, 68, 137]), (40, [10, 70, 70])] {
            pace.set_round_trip(Duration::from_millis(round_trip));
            pace.begin_first();
            for wait in waits {
                assert_eq!(pace.wait().unwrap().as_millis(), wait);
                pace.repeats();
            }
        }
        pace.begin_first();
        pace.answered();
        assert_eq!(pace.wait().unwrap().as_millis(), 70, "the hello was answered");
    }

    #[test]
    fn another_flight_begins_with_the_first_wait() {
        let round_trip = Some(Duration::from_millis(100));
        let mut pace = Pace { round_trip, copies: 7, is_first: false };
        pace.begin();
        assert_eq!(pace.wait(), Some(Duration::from_millis(145)));
        pace.copies = u32::MAX;
        assert!(pace.wait().unwrap() > Duration::from_secs(3600), "it never overflows");
    }
}
