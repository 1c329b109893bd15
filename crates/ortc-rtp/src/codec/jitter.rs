use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use super::lateness::Lateness;
use crate::ReceivedPacket;
use crate::stream::MAX_MISSING_AGE;

/// Most packets that wait: a burst of a large key frame, overtaken once, is below.
const CAPACITY: usize = 64;

/// The same where packets wait for longer, for what is sent again or for their time: a second of
/// video at 10 Mbit/s.
const PATIENT_CAPACITY: usize = 1_024;

/// How long a gap is waited for, at least: networks reorder by less, and one retransmission over a
/// usual path is as fast.
const HOLD: Duration = Duration::from_millis(100);

/// The least delay of what is played at once: what a host takes to wake up for a packet.
const LEAST_DELAY: Duration = Duration::from_millis(20);

/// How fast a delay gets shorter again: by a fiftieth of the time that passes, which nobody notices
/// in what is played.
const SHORTENING: u32 = 50;

/// When packets are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Playout {
    /// In order, and each as soon as those before it are there: for a recorder, or a player that
    /// has a buffer itself.
    AsReceived,
    /// In order, and at the pace at which they were sent: each waits for as long as the latest ones
    /// are late, so that they come evenly. For whoever plays at once what is handed out.
    Paced,
}

/// How long packets wait in a [`JitterBuffer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitterConfig {
    /// When they are handed out.
    pub playout: Playout,
    /// The least: of the delay if they are paced, else of the time that a gap is waited for.
    pub min_delay: Duration,
    /// The most that any packet waits: afterwards what is missing before it is given up.
    pub max_delay: Duration,
}

impl JitterConfig {
    /// For a recorder: nothing waits but for what is missing before it, 100 ms at least and a
    /// second at most. This is the default.
    pub const fn recording() -> Self {
        let (min_delay, max_delay) = (HOLD, MAX_MISSING_AGE);
        Self { playout: Playout::AsReceived, min_delay, max_delay }
    }

    /// For a player: paced, by 20 ms at least and a second at most.
    pub const fn live() -> Self {
        let (min_delay, max_delay) = (LEAST_DELAY, MAX_MISSING_AGE);
        Self { playout: Playout::Paced, min_delay, max_delay }
    }
}

impl Default for JitterConfig {
    fn default() -> Self {
        Self::recording()
    }
}

/// Puts packets in order of their sequence numbers, and has them wait for those that are late.
///
/// How long, it learns from how late they come: by the jitter of the network, and by the time that
/// it takes until what was lost is there again. Push packets as they come, then poll until there is
/// no more; poll again at [`poll_timeout`](Self::poll_timeout). It holds 4,096 packets at most.
///
/// | | packet in order | packet behind a gap |
/// |---|---|---|
/// | [`AsReceived`](Playout::AsReceived) | at once | waits as long as packets are late |
/// | [`Paced`](Playout::Paced) | waits for its time | waits for its time |
/// | either, where lost packets are [sent again](Self::expect_repairs) | as above | waits for `max_delay` |
#[derive(Debug, Clone)]
pub struct JitterBuffer {
    config: JitterConfig,
    waiting: BTreeMap<u64, ReceivedPacket>,
    next: Option<u64>,
    is_repaired: bool,
    lateness: Lateness,
    /// How long packets wait, but for the bounds, and as of when.
    delay: Duration,
    delay_at: Option<Instant>,
    counts: JitterCounts,
}

/// What a [`JitterBuffer`] has dropped or given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JitterCounts {
    /// Dropped: a later packet had been handed out already.
    pub late: u64,
    /// Dropped: it was waiting already.
    pub duplicates: u64,
    /// Packets that were not waited for any longer.
    pub given_up: u64,
    /// Dropped, the oldest first: four times as many as may wait were there, and nobody polled.
    pub unread: u64,
    /// The times of packets jumped: the source has changed, or its clock.
    pub restarts: u64,
}

impl Default for JitterBuffer {
    fn default() -> Self {
        Self::new(JitterConfig::default())
    }
}

impl JitterBuffer {
    /// Makes an empty buffer.
    pub fn new(config: JitterConfig) -> Self {
        Self {
            config,
            waiting: BTreeMap::new(),
            next: None,
            is_repaired: false,
            lateness: Lateness::new(),
            delay: Duration::ZERO,
            delay_at: None,
            counts: JitterCounts::default(),
        }
    }

    /// Has packets wait as `config` says from now on, those that are here too.
    pub fn set_config(&mut self, config: JitterConfig) {
        self.config = config;
    }

    /// Expects that what is lost is sent again, so that it is worth waiting for: where the sender
    /// acts upon NACK (RFC 4585 §6.2.1).
    pub fn expect_repairs(&mut self) {
        self.is_repaired = true;
    }

    /// Takes a packet, in whatever order. The first one begins the stream. `clock_rate` is that of
    /// its timestamp in Hz; a packet without is handed out as soon as those before it are.
    pub fn push(&mut self, packet: ReceivedPacket, clock_rate: Option<u32>) {
        if let Some(clock_rate) = clock_rate {
            self.lateness.note(packet.received_at, packet.timestamp, clock_rate);
            self.adapt(packet.received_at);
        }
        let next = *self.next.get_or_insert(packet.sequence);
        if packet.sequence < next {
            self.counts.late += 1;
            return;
        }
        match self.waiting.entry(packet.sequence) {
            Entry::Occupied(_) => self.counts.duplicates += 1,
            Entry::Vacant(place) => {
                place.insert(packet);
                // Some more are kept for one who does not poll.
                if self.waiting.len() > 4 * self.capacity()
                    && let Some((sequence, _)) = self.waiting.pop_first()
                {
                    self.counts.unread += 1;
                    self.next = Some(sequence.saturating_add(1));
                }
            }
        }
    }

    /// Hands out the next packet in order whose time has come at `now`, or the one after a gap that
    /// has been waited for long enough.
    pub fn poll(&mut self, now: Instant) -> Option<ReceivedPacket> {
        let (&sequence, first) = self.waiting.first_key_value()?;
        let is_full = self.waiting.len() > self.capacity();
        if !is_full && self.due(sequence, first).is_some_and(|due| due > now) {
            return None;
        }
        self.counts.given_up += sequence - self.next?;
        self.next = Some(sequence.saturating_add(1));
        self.waiting.pop_first().map(|(_, packet)| packet)
    }

    /// When [`poll`](Self::poll) will have something; `None` when nothing waits. Ask once `poll` has
    /// nothing more.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (&sequence, first) = self.waiting.first_key_value()?;
        self.due(sequence, first)
    }

    /// When the first packet that waits is to be handed out; `None` for at once.
    fn due(&self, sequence: u64, first: &ReceivedPacket) -> Option<Instant> {
        let is_next = self.next == Some(sequence);
        let is_paced = self.config.playout == Playout::Paced;
        if is_paced && (is_next || !self.is_repaired) {
            let latest = first.received_at + self.config.max_delay;
            let due = self.lateness.earliest(first.timestamp)? + self.delay();
            return Some(due.min(latest));
        }
        let hold = match is_next {
            true => return None,
            false if self.is_repaired => self.config.max_delay,
            false => self.delay(),
        };
        // The oldest arrival counts, else a gap would be waited for anew with every packet.
        self.waiting.values().map(|packet| packet.received_at).min().map(|at| at + hold)
    }

    /// How long packets wait at present: all of them, if they are paced, else those behind a gap.
    pub fn delay(&self) -> Duration {
        self.delay.max(self.config.min_delay).min(self.config.max_delay)
    }

    /// Has packets wait for as long as others are late: longer at once, less long bit by bit.
    fn adapt(&mut self, now: Instant) {
        let is_patient = self.is_repaired || self.config.playout == Playout::AsReceived;
        let late = if is_patient { self.lateness.latest() } else { self.lateness.usual() };
        let elapsed = self.delay_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.delay_at = self.delay_at.max(Some(now));
        self.delay = late.max(self.delay.saturating_sub(elapsed / SHORTENING));
    }

    fn capacity(&self) -> usize {
        match self.config.playout {
            Playout::AsReceived if !self.is_repaired => CAPACITY,
            _ => PATIENT_CAPACITY,
        }
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no packet waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What was dropped or given up so far.
    pub fn counts(&self) -> JitterCounts {
        JitterCounts { restarts: self.lateness.restarts(), ..self.counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PayloadType;
    use bytes::Bytes;

    const MS: Duration = Duration::from_millis(1);
    const OPUS: Option<u32> = Some(48_000);

    struct Fixture {
        start: Instant,
        buffer: JitterBuffer,
        got: Vec<(u64, u32)>,
    }

    impl Fixture {
        fn new(config: JitterConfig) -> Self {
            Self { start: Instant::now(), buffer: JitterBuffer::new(config), got: Vec::new() }
        }

        /// A packet of 20 ms that comes at a time, in ms.
        fn push(&mut self, at: u32, sequence: u32) {
            self.run(at);
            self.push_with(at, sequence.into(), sequence.wrapping_mul(960));
        }

        fn push_with(&mut self, at: u32, sequence: u64, timestamp: u32) {
            let packet = ReceivedPacket {
                payload: Bytes::new(),
                payload_type: PayloadType(111),
                sequence,
                timestamp,
                marker: false,
                received_at: self.start + at * MS,
                capture_time: None,
            };
            self.buffer.push(packet, OPUS);
            self.run(at);
        }

        /// Lets time pass, and notes what is handed out and when, in ms.
        fn run(&mut self, until: u32) {
            let end = self.start + until * MS;
            loop {
                let now = self.buffer.poll_timeout().map_or(end, |at| at.min(end));
                match self.buffer.poll(now) {
                    Some(packet) => {
                        let at = now.saturating_duration_since(self.start).as_millis() as u32;
                        self.got.push((packet.sequence, at));
                    }
                    None => return,
                }
            }
        }
    }

    #[test]
    fn what_is_as_received_waits_only_for_what_is_missing_before_it() {
        let mut f = Fixture::new(JitterConfig::recording());
        for (at, sequence) in [(0, 0), (20, 1), (60, 3), (70, 2), (80, 4), (120, 6)] {
            f.push(at, sequence);
        }
        f.run(300);
        f.push(320, 5);
        assert_eq!(f.got, [(0, 0), (1, 20), (2, 70), (3, 70), (4, 80), (6, 220)]);
        let expected = JitterCounts { late: 1, given_up: 1, ..JitterCounts::default() };
        assert_eq!(f.buffer.counts(), expected);
        // The next gap is waited for until one that is as late would be here.
        assert_eq!(f.buffer.delay(), 220 * MS);
        for at in [140, 160, 180] {
            f.push(at + 200, at / 20);
        }
        f.push(420, 11);
        f.run(1_000);
        assert_eq!(f.got.last(), Some(&(11, 640)));
    }

    #[test]
    fn what_is_paced_comes_evenly_and_as_late_as_the_network_is_uneven() {
        let mut f = Fixture::new(JitterConfig::live());
        for n in 0..500u32 {
            // Up to 40 ms late, and never overtaken.
            f.push(20 * n + [0, 10, 20, 40, 30][(n % 5) as usize], n);
        }
        f.run(20_000);
        let settled = &f.got[100..];
        let delays: Vec<_> =
            settled.iter().map(|(n, at)| i64::from(*at) - 20 * *n as i64).collect();
        assert_eq!(delays, vec![50; delays.len()]);
        assert_eq!(f.buffer.counts(), JitterCounts::default());
        assert_eq!(f.buffer.delay(), 50 * MS);
    }

    #[test]
    fn what_is_paced_is_given_up_when_its_time_has_come() {
        let mut f = Fixture::new(JitterConfig::live());
        for n in (0..50).filter(|n| *n != 20) {
            f.push(20 * n, n);
        }
        f.push(1_000, 20);
        f.run(2_000);
        let at = f.got.iter().position(|(n, _)| *n == 21).unwrap();
        assert_eq!(f.got[at - 1..at + 1], [(19, 400), (21, 440)]);
        let counts = f.buffer.counts();
        assert_eq!((counts.late, counts.given_up), (1, 1));
    }

    #[test]
    fn what_is_sent_again_is_waited_for_and_the_next_time_nothing_stops() {
        let mut f = Fixture::new(JitterConfig::live());
        f.buffer.expect_repairs();
        for n in 0..200u32 {
            f.run(20 * n);
            // Every twentieth is lost, and there again after 150 ms.
            if n % 20 != 10 {
                f.push(20 * n, n);
            }
            if n % 20 == 17 {
                f.push(20 * n + 10, n - 7);
            }
        }
        f.run(10_000);
        assert_eq!(f.got.len(), 200);
        assert_eq!(f.buffer.counts(), JitterCounts::default());
        assert_eq!(f.buffer.delay(), 150 * MS);
        // All stopped for the first, and then came in its turn.
        let delay = |n: u32| i64::from(f.got[n as usize].1) - i64::from(20 * n);
        assert_eq!([delay(5), delay(10), delay(11), delay(17)], [20, 150, 150 - 20 + 20, 150]);
        assert!((40..200).all(|n| delay(n) == 150), "{:?}", f.got);
    }

    #[test]
    fn nothing_waits_for_longer_than_the_cap() {
        let config = JitterConfig { max_delay: 200 * MS, ..JitterConfig::live() };
        let mut f = Fixture::new(config);
        f.buffer.expect_repairs();
        for n in 0..100u32 {
            if n != 30 {
                // One comes much too late.
                f.push(20 * n + if n == 60 { 900 } else { 0 }, n);
            }
        }
        f.run(10_000);
        for (n, at) in &f.got {
            let came = 20 * *n as u32 + if *n == 60 { 900 } else { 0 };
            assert!(*at <= came + 200, "{n} at {at}");
        }
        assert_eq!(f.buffer.delay(), 200 * MS);
    }

    #[test]
    fn numbers_and_times_wrap_and_jump() {
        let mut f = Fixture::new(JitterConfig::live());
        let mut timestamp = u32::MAX - 9_600;
        for n in 0..100u64 {
            // The source changes, and with it where its times begin, 10,000 numbers further.
            let (sequence, jump) = if n < 50 { (n, 0) } else { (n + 10_000, 1_000_000_000) };
            f.run(20 * n as u32);
            f.push_with(20 * n as u32, sequence, timestamp.wrapping_add(jump));
            timestamp = timestamp.wrapping_add(960);
        }
        f.run(5_000);
        assert_eq!(f.got.len(), 100);
        assert!(f.got.iter().enumerate().all(|(n, (_, at))| *at <= 20 * n as u32 + 20));
        let expected = JitterCounts { given_up: 10_000, restarts: 1, ..JitterCounts::default() };
        assert_eq!(f.buffer.counts(), expected);
    }

    #[test]
    fn what_nobody_polls_is_bounded() {
        for config in [JitterConfig::recording(), JitterConfig::live()] {
            let mut buffer = JitterBuffer::new(config);
            let packet = ReceivedPacket {
                payload: Bytes::new(),
                payload_type: PayloadType(0),
                sequence: 0,
                timestamp: 0,
                marker: false,
                received_at: Instant::now(),
                capture_time: None,
            };
            for sequence in 0..10_000 {
                buffer.push(ReceivedPacket { sequence, ..packet.clone() }, None);
            }
            assert_eq!(buffer.len(), 4 * buffer.capacity());
            assert_eq!(buffer.counts().unread, 10_000 - buffer.len() as u64);
            let first = buffer.poll(packet.received_at).unwrap();
            assert_eq!(first.sequence, buffer.counts().unread);
        }
    }
}
