use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::transactions::TransactionId;

/// How long the first copy of a request waits for an answer, to a server that has not answered
/// yet. RFC 8489 §6.2.1 has 500 ms: what is lost is the first thing that a user waits for. The second
/// copy waits as long, since two that are lost in a row are most likely chance, and each after
/// that twice as long as the one before.
pub(crate) const FIRST_RTO: Duration = Duration::from_millis(150);

/// The same for one that has: a round trip and a half, and what it takes to think.
const THINKING: Duration = Duration::from_millis(20);
const SHORTEST_RTO: Duration = Duration::from_millis(50);
const LONGEST_RTO: Duration = Duration::from_millis(500);

/// How long a copy waits at most.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// When a server has failed that has answered none of them. Over a stream nothing is sent again,
/// and the wait is as long.
const PATIENCE: Duration = Duration::from_millis(9750);
const STREAM_WAITS: [u64; 1] = [PATIENCE.as_millis() as u64];

/// A question whose answer may well be silence: four copies within 2.75 s, so that with one
/// datagram in ten lost each way one silence in a thousand is the loss of all.
pub(crate) const BRIEF_WAITS: [u64; 4] = [250, 500, 1000, 1000];

/// What is due with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing yet.
    Wait,
    /// It is to be sent, once more perhaps.
    Send(Bytes),
    /// No answer will come.
    Expired,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) id: TransactionId,
    datagram: Bytes,
    /// When the first copy was sent, or is to be.
    began: Instant,
    next: Instant,
    sent: u32,
    rto: Duration,
    /// Milliseconds that each copy waits; by [`rto`](Self::rto) if there are none.
    waits: &'static [u64],
}

/// How long the first copy of a request waits, to a server whose answer has taken so long.
pub(crate) fn rto(round_trip: Duration) -> Duration {
    (round_trip.mul_f64(1.5) + THINKING).clamp(SHORTEST_RTO, LONGEST_RTO)
}

impl Transaction {
    /// A request that is to be sent at `at`.
    pub(crate) fn new(at: Instant, id: TransactionId, datagram: Bytes, is_stream: bool) -> Self {
        let waits: &[u64] = if is_stream { &STREAM_WAITS } else { &[] };
        Self { id, datagram, began: at, next: at, sent: 0, rto: FIRST_RTO, waits }
    }

    /// The same, with a first copy that waits so long.
    pub(crate) fn with_rto(mut self, rto: Duration) -> Self {
        self.rto = rto;
        self
    }

    /// How long an answer that comes now has taken, at most: it may be to a later copy.
    pub(crate) fn round_trip(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Notes that the server has answered somebody in so much time that a first copy waits for
    /// `rto`.
    pub(crate) fn learn(&mut self, rto: Duration) {
        if rto >= self.rto || !self.waits.is_empty() {
            return;
        }
        self.rto = rto;
        if self.sent == 1 {
            self.next = self.next.min(self.began + rto);
        }
    }

    /// The same, with copies that wait for as many milliseconds each.
    pub(crate) fn with_waits(mut self, waits: &'static [u64]) -> Self {
        self.waits = waits;
        self
    }

    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    pub(crate) fn step(&mut self, now: Instant) -> Step {
        if now < self.next {
            return Step::Wait;
        }
        if self.sent == 0 {
            self.began = now;
        }
        let Some(wait) = self.wait(now) else { return Step::Expired };
        self.sent += 1;
        self.next = now + wait;
        Step::Send(self.datagram.clone())
    }

    /// How long the next copy waits; `None` if there is none.
    fn wait(&self, now: Instant) -> Option<Duration> {
        if !self.waits.is_empty() {
            return self.waits.get(self.sent as usize).copied().map(Duration::from_millis);
        }
        let left = PATIENCE.checked_sub(now.saturating_duration_since(self.began))?;
        let wait = self
            .rto
            .saturating_mul(2_u32.saturating_pow(self.sent.saturating_sub(1)))
            .min(LONGEST_WAIT);
        Some(wait.min(left)).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(change: impl Fn(Transaction) -> Transaction, is_stream: bool) -> Vec<u128> {
        let start = Instant::now();
        let mut transaction = change(Transaction::new(start, [1; 12], Bytes::new(), is_stream));
        let mut times = Vec::new();
        loop {
            let at = transaction.next();
            times.push((at - start).as_millis());
            match transaction.step(at) {
                Step::Send(_) => assert_eq!(transaction.step(at), Step::Wait),
                step => {
                    assert_eq!(step, Step::Expired);
                    return times;
                }
            }
        }
    }

    #[test]
    fn a_request_is_sent_nine_times_and_over_a_stream_once() {
        let same = |transaction| transaction;
        assert_eq!(times(same, false), [0, 150, 300, 600, 1200, 2400, 4400, 6400, 8400, 9750]);
        assert_eq!(times(same, true), [0, 9750]);
        let brief = |transaction: Transaction| transaction.with_waits(&BRIEF_WAITS);
        assert_eq!(times(brief, false), [0, 250, 750, 1750, 2750]);
    }

    #[test]
    fn a_first_copy_is_sent_again_sooner_once_the_server_has_answered_somebody() {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, [1; 12], Bytes::new(), false);
        assert!(matches!(transaction.step(start), Step::Send(_)));
        transaction.learn(Duration::from_millis(95));
        assert_eq!((transaction.next() - start).as_millis(), 95);
        transaction.learn(Duration::from_millis(200));
        assert_eq!((transaction.next() - start).as_millis(), 95, "never later");
        let mut over_stream = Transaction::new(start, [1; 12], Bytes::new(), true);
        assert!(matches!(over_stream.step(start), Step::Send(_)));
        over_stream.learn(Duration::from_millis(95));
        assert_eq!(over_stream.next() - start, PATIENCE, "nothing is sent again there");
    }

    #[test]
    fn the_first_copy_waits_as_long_as_the_server_has_taken_before() {
        let first = |ms| {
            let rto = rto(Duration::from_millis(ms));
            let times = times(|transaction| transaction.with_rto(rto), false);
            (times[1], *times.last().unwrap())
        };
        assert_eq!([1, 40, 100, 5000].map(first).map(|times| times.0), [50, 80, 170, 500]);
        assert_eq!([1, 40, 100, 5000].map(first).map(|times| times.1), [9750; 4]);
    }
}
