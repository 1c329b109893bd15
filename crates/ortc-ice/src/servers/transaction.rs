use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::transactions::TransactionId;

/// How long each copy of a request waits for an answer (RFC 8489 §6.2.1, with a first wait of
/// 250 ms for its 500: what is lost is the first thing that a user waits for). After the last
/// one, 9.75 s in all, the server has failed.
const WAITS: [u64; 7] = [250, 500, 1000, 2000, 2000, 2000, 2000];

/// Over a stream nothing is sent again, and the wait is as long.
const STREAM_WAITS: [u64; 1] = [9750];

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
    next: Instant,
    sent: usize,
    waits: &'static [u64],
}

impl Transaction {
    /// A request that is to be sent at `at`.
    pub(crate) fn new(at: Instant, id: TransactionId, datagram: Bytes, is_stream: bool) -> Self {
        let waits: &[u64] = if is_stream { &STREAM_WAITS } else { &WAITS };
        Self { id, datagram, next: at, sent: 0, waits }
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
        let Some(wait) = self.waits.get(self.sent) else { return Step::Expired };
        self.sent += 1;
        self.next = now + Duration::from_millis(*wait);
        Step::Send(self.datagram.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(is_stream: bool) -> Vec<u128> {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, [1; 12], Bytes::new(), is_stream);
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
    fn a_request_is_sent_seven_times_and_over_a_stream_once() {
        assert_eq!(times(false), [0, 250, 750, 1750, 3750, 5750, 7750, 9750]);
        assert_eq!(times(true), [0, 9750]);
    }
}
