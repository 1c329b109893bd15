//! The receiving side of transport-wide feedback: what has come is noted, and told from time to
//! time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::transport_feedback::FeedbackHeader;
use crate::Ssrc;

/// Feedback takes at most this share of what comes (as libwebrtc has it)...
pub(super) const SHARE: f64 = 0.05;

/// ...for which a packet of feedback is taken to have so many bits: with the headers of IP, UDP
/// and SRTCP, and some 20 packets that it is about.
pub(super) const FEEDBACK_BITS: f64 = 8.0 * 90.0;

/// More often says no more about delays, more seldom lets the sender react too late.
pub(super) const MIN_INTERVAL: Duration = Duration::from_millis(50);
pub(super) const MAX_INTERVAL: Duration = Duration::from_millis(250);

/// Numbers that are kept track of: a second of 30 Mbit/s. What is older has been told or is lost.
const MAX_WINDOW: usize = 4_096;

/// Missing packets that feedback may begin with.
const MAX_MISSING: usize = 200;

/// Numbers below the newest told that may still come late and be told after all.
const LATE: u64 = 256;

/// When packets came, by the numbers that the peer has given them; makes the feedback.
///
/// Takes no memory before the first packet, and at most 64 kB.
#[derive(Debug, Default)]
pub struct ArrivalLog {
    /// In units of 250 µs, from `first` on.
    arrivals: VecDeque<Option<i64>>,
    first: u64,
    /// The lowest number that is to be told next.
    untold: u64,
    /// The source of the newest packet.
    media: Option<Ssrc>,
    epoch: Option<Instant>,
    due: Option<Instant>,
    told_at: Option<Instant>,
    interval: Option<Duration>,
    bytes: u64,
    feedback_count: u8,
    dropped: u64,
}

impl ArrivalLog {
    /// Makes one that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a packet of `len` bytes that came at `now`, and the 16 bits of its number.
    pub fn on_packet(&mut self, now: Instant, number: u16, ssrc: Ssrc, len: usize) {
        let epoch = *self.epoch.get_or_insert(now);
        self.media = Some(ssrc);
        self.bytes += len as u64;
        let Some(number) = self.place(number) else {
            self.dropped += 1;
            return;
        };
        let slot = &mut self.arrivals[(number - self.first) as usize];
        if slot.is_none() {
            let since = now.saturating_duration_since(epoch).as_micros();
            *slot = Some((since / 250) as i64);
            self.untold = self.untold.min(number);
        }
        if self.due.is_none() {
            let told_at = *self.told_at.get_or_insert(now);
            self.due = Some((told_at + self.interval.unwrap_or(MIN_INTERVAL)).max(now));
        }
    }

    /// Finds the place of a number; `None` when it is too old.
    fn place(&mut self, number: u16) -> Option<u64> {
        if self.arrivals.is_empty() && self.untold == 0 {
            // Far from zero, so that what is told of late ones stays above it.
            self.first = (1 << 16) + u64::from(number);
            self.untold = self.first;
        }
        let end = self.first + self.arrivals.len() as u64;
        // What is less than half of all numbers ahead is newer.
        let ahead = i64::from(number.wrapping_sub(end as u16) as i16);
        let full = end.checked_add_signed(ahead)?;
        if full < self.first {
            return None;
        }
        if full >= end {
            let skipped = (full - end) as usize;
            if skipped >= MAX_WINDOW {
                // A jump: nothing before it is worth telling any more.
                self.arrivals.clear();
                (self.first, self.untold) = (full, full);
            } else {
                self.arrivals.extend(std::iter::repeat_n(None, skipped));
            }
            self.arrivals.push_back(None);
            while self.arrivals.len() > MAX_WINDOW {
                self.arrivals.pop_front();
                self.first += 1;
                self.untold = self.untold.max(self.first);
            }
        }
        Some(full)
    }

    /// When the next feedback is due; `None` while nothing has come since the last.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        Some((self.due?, "transport-wide feedback is due"))
    }

    /// Appends feedback about all that has not been told, in packets that follow each other,
    /// if it is due; whether it was. Of what is longer than a datagram, the rest is due at once.
    pub fn write_due(&mut self, now: Instant, sender: Ssrc, out: &mut Vec<u8>) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        let mut from = (self.untold - self.first) as usize;
        // One message is about so many at most: of a longer gap the end is told, or nothing would
        // ever come behind it.
        let missing = self.arrivals.iter().skip(from).take_while(|it| it.is_none()).count();
        let skipped = missing.saturating_sub(MAX_MISSING);
        from += skipped;
        self.untold += skipped as u64;
        let media = self.media.unwrap_or(Ssrc(0));
        let header = FeedbackHeader { sender, media, feedback_count: self.feedback_count };
        let arrivals = self.arrivals.iter().skip(from).copied();
        let told = header.write(self.untold as u16, arrivals, out);
        if told == 0 {
            return false;
        }
        self.feedback_count = self.feedback_count.wrapping_add(1);
        self.untold += told as u64;
        if self.untold < self.first + self.arrivals.len() as u64 {
            self.due = Some(now);
        }
        self.interval = Some(self.next_interval(now));
        (self.told_at, self.bytes) = (Some(now), 0);
        while self.first + LATE < self.untold && self.arrivals.pop_front().is_some() {
            self.first += 1;
        }
        true
    }

    /// How long after this one the next feedback is due, by what has come since the last.
    fn next_interval(&self, now: Instant) -> Duration {
        let Some(told_at) = self.told_at else { return MIN_INTERVAL };
        let elapsed = now.saturating_duration_since(told_at).max(MIN_INTERVAL).as_secs_f64();
        let rate = (self.bytes * 8) as f64 / elapsed;
        let wanted = FEEDBACK_BITS / (SHARE * rate.max(1.0));
        Duration::from_secs_f64(wanted.min(1.0)).clamp(MIN_INTERVAL, MAX_INTERVAL)
    }

    /// Packets that came too late to be told.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtcpView;
    use crate::congestion::TransportFeedback;

    struct Fixture {
        start: Instant,
        log: ArrivalLog,
    }

    impl Fixture {
        fn new() -> Self {
            Self { start: Instant::now(), log: ArrivalLog::new() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn take(&mut self, ms: u64, number: u16) {
            let now = self.at(ms);
            self.log.on_packet(now, number, Ssrc(9), 1_000);
        }

        /// What is told at this time: the numbers, and when they came in milliseconds.
        fn told(&mut self, ms: u64) -> Option<Vec<(u16, Option<i64>)>> {
            let (now, mut out) = (self.at(ms), Vec::new());
            self.log.write_due(now, Ssrc(1), &mut out).then(|| {
                let packet = RtcpView::new(&out).next().unwrap().unwrap();
                let feedback = TransportFeedback::parse(&packet).unwrap().unwrap();
                let start = i64::from(feedback.reference()) * 64;
                let mut told = Vec::new();
                feedback.each_status(|n, at| told.push((n, at.map(|at| start + at / 4))));
                told
            })
        }
    }

    #[test]
    fn what_came_is_told_once_and_what_is_missing_as_such() {
        let mut f = Fixture::new();
        for (ms, number) in [(0, 0xfffe), (10, 0xffff), (20, 1)] {
            f.take(ms, number);
        }
        assert_eq!(f.log.poll_timeout().map(|(at, _)| at), Some(f.at(50)));
        assert_eq!(f.told(49), None);
        let expected = vec![(0xfffe, Some(0)), (0xffff, Some(10)), (0, None), (1, Some(20))];
        assert_eq!(f.told(50), Some(expected));
        assert_eq!((f.told(1_000), f.log.poll_timeout()), (None, None));
        // One that comes late is told after all, and what is told again says the same.
        f.take(1_010, 0);
        assert_eq!(f.told(1_010), Some(vec![(0, Some(1_010)), (1, Some(20))]));
    }

    #[test]
    fn feedback_takes_a_twentieth_of_what_comes_within_its_limits() {
        for (gap, expected) in [(1, 50..52), (40, 72..90), (200, 200..260)] {
            let mut f = Fixture::new();
            let mut told = Vec::new();
            for ms in 0..10_000 {
                if u64::is_multiple_of(ms, gap) {
                    f.take(ms, (ms / gap) as u16);
                }
                told.extend(f.told(ms).map(|_| ms));
            }
            let mean = (told[told.len() - 1] - told[0]) / (told.len() as u64 - 1);
            assert!(expected.contains(&mean), "{mean} ms at a packet each {gap} ms");
        }
    }

    #[test]
    fn a_jump_begins_anew_and_memory_has_a_bound() {
        let mut f = Fixture::new();
        let mut random = fastrand::Rng::with_seed(3);
        for ms in 0..20_000 {
            f.take(ms, random.u16(..));
            f.told(ms);
            assert!(f.log.arrivals.len() <= MAX_WINDOW);
        }
        assert!(f.log.dropped() > 0);
        let mut f = Fixture::new();
        f.take(0, 5);
        f.take(1, 30_005);
        assert_eq!(f.told(50), Some(vec![(30_005, Some(1))]));
    }

    #[test]
    fn what_comes_behind_a_long_gap_is_told() {
        let mut f = Fixture::new();
        f.take(0, 0);
        f.take(1, 2_000);
        assert_eq!(f.told(60), Some(vec![(0, Some(0))]));
        let told = f.told(60).unwrap();
        assert_eq!((told[0], told.len()), ((1_800, None), 201));
        assert_eq!(told[200], (2_000, Some(1)));
    }

    #[test]
    fn more_than_fits_one_packet_is_told_in_several_at_once() {
        let mut f = Fixture::new();
        (0..1_000).for_each(|number| f.take(number / 100, number as u16));
        let told: Vec<_> = std::iter::from_fn(|| f.told(90)).flatten().map(|(n, _)| n).collect();
        assert_eq!(told, (0..1_000).collect::<Vec<u16>>());
    }
}
