//! What a server says last in DTLS 1.2, and who gets it again (RFC 6347 §4.2.4).
//!
//! The server is connected when it says so; the client may not have heard it, and repeats its own
//! last flight. Whoever can send from the client's address, its own or a forged one, can do as if.
//! So, beside one copy in advance on a long path, never more bytes leave than have come to ask for
//! them. A datagram with an authentic Finished
//! of the client's is answered each time; any other one more and more seldom, since a client
//! of which only that arrives waits longer between two, too.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::record::last_flight;

/// Between two answers: what a client sends in one go is answered once.
const INTERVAL: Duration = Duration::from_millis(50);

/// What is not authentic is answered again after one in so many parts of the time since the server
/// was connected, as acknowledgements are in a silence.
const PARTS: u32 = 4;

/// How often what is not authentic is answered. At that pace it is some 25 times in the 40 s of a
/// handshake.
const REPEATS: u32 = 64;

/// The datagrams that ended a handshake for the server, and may have been lost.
#[derive(Debug)]
pub(crate) struct FinalFlight {
    datagrams: Vec<Bytes>,
    connected: Instant,
    sent_at: Instant,
    /// How often it may still be sent for what is not authentic.
    left: u32,
    /// Bytes that have come and were not answered, but no more than one answer has.
    credit: usize,
    /// When it goes out for the second time whether it is asked for or not.
    again: Option<Instant>,
}

impl FinalFlight {
    /// Of all that the server has said at `now`, when it was connected; it goes out again `early`
    /// after that.
    pub(crate) fn new(now: Instant, said: Vec<Bytes>, early: Option<Duration>) -> Self {
        let (datagrams, again) = (last_flight(said), early.map(|early| now + early));
        Self { datagrams, connected: now, sent_at: now, left: REPEATS, credit: 0, again }
    }

    /// The client has shown that it has finished.
    pub(crate) fn heard(&mut self) {
        self.again = None;
    }

    /// When it goes out without being asked for.
    pub(crate) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// What goes out now without being asked for.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Vec<Bytes>> {
        self.again.take_if(|at| *at <= now)?;
        self.sent_at = now;
        Some(self.datagrams.clone())
    }

    /// What to send for a datagram of so many bytes that asks for it; nothing if it is too much,
    /// too soon or too often.
    pub(crate) fn answer(&mut self, now: Instant, asked: usize, is_authentic: bool) -> Vec<Bytes> {
        let size = self.datagrams.iter().map(Bytes::len).sum();
        self.credit = (self.credit + asked).min(size);
        let since = now.saturating_duration_since(self.connected);
        let pause = if is_authentic { INTERVAL } else { INTERVAL.max(since / PARTS) };
        let is_spent = !is_authentic && self.left == 0;
        if self.credit < size || now < self.sent_at + pause || is_spent {
            return Vec::new();
        }
        self.left -= u32::from(!is_authentic);
        self.credit = 0;
        self.sent_at = now;
        self.datagrams.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn flight(start: Instant) -> FinalFlight {
        let datagrams = vec![Bytes::from_static(&[20; 14]), Bytes::from_static(&[22; 61])];
        FinalFlight::new(start, datagrams, None)
    }

    #[test]
    fn on_a_long_path_it_goes_out_again_early_and_once() {
        let start = Instant::now();
        let datagrams = vec![Bytes::from_static(&[20; 14])];
        let mut flight = FinalFlight::new(start, datagrams.clone(), Some(25 * MS));
        assert_eq!((flight.again(), flight.due(start + 24 * MS)), (Some(start + 25 * MS), None));
        assert_eq!(flight.due(start + 25 * MS), Some(datagrams));
        assert_eq!((flight.again(), flight.due(start + 9_000 * MS)), (None, None));
        assert!(flight.answer(start + 74 * MS, 100, true).is_empty(), "it has just gone");
        assert!(!flight.answer(start + 75 * MS, 100, true).is_empty());
        let mut heard = FinalFlight::new(start, Vec::new(), Some(25 * MS));
        heard.heard();
        assert_eq!(heard.due(start + 25 * MS), None);
        let mut short = self::flight(start);
        assert_eq!(short.due(start + INTERVAL), None, "on a short one it is asked for");
    }

    /// When datagrams of so many bytes, one every `every`, are answered within a time, in ms.
    fn answers(bytes: usize, every: Duration, time: Duration, is_authentic: bool) -> Vec<u128> {
        let start = Instant::now();
        let mut flight = flight(start);
        let mut at = start;
        let mut answered = Vec::new();
        while at < start + time {
            at += every;
            if !flight.answer(at, bytes, is_authentic).is_empty() {
                answered.push((at - start).as_millis());
            }
        }
        answered
    }

    #[test]
    fn no_more_leaves_than_has_come() {
        // 75 bytes are six datagrams of 14, or two of 40.
        let all = answers(14, 100 * MS, 3_000 * MS, true);
        assert_eq!(all, [600, 1_200, 1_800, 2_400, 3_000]);
        assert_eq!(answers(40, 100 * MS, 500 * MS, true), [200, 400]);
        assert_eq!(answers(75, 100 * MS, 300 * MS, true), [100, 200, 300]);
        // What came and was not answered is not saved up.
        let start = Instant::now();
        let mut flight = flight(start);
        assert!(flight.answer(start + 10 * MS, 9_000, true).is_empty());
        assert_eq!(flight.answer(start + 50 * MS, 1, true).len(), 2);
        assert!(flight.answer(start + 100 * MS, 74, true).is_empty());
    }

    #[test]
    fn what_is_not_authentic_is_answered_more_and_more_seldom() {
        let all = answers(1_000, MS, 40_000 * MS, false);
        assert_eq!(all[..6], [50, 100, 150, 200, 267, 356]);
        assert!((20..=26).contains(&all.len()), "{all:?}");
        // What is authentic, at once.
        assert_eq!(answers(1_000, MS, 1_000 * MS, true).len(), 20);
    }

    #[test]
    fn what_is_not_authentic_is_answered_64_times_and_what_is_is_answered_after_that() {
        let start = Instant::now();
        let (mut flight, mut at, mut count) = (flight(start), start + INTERVAL, 0);
        for _ in 0..80 {
            count += u32::from(!flight.answer(at, 1_000, false).is_empty());
            // A third of the time more, of which a quarter is waited for.
            at += (at - start) / 3;
        }
        assert_eq!(count, REPEATS);
        assert_eq!(flight.answer(at, 1_000, true).len(), 2);
    }
}
