use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use crate::ReceivedPacket;
use crate::stream::MAX_MISSING_AGE;

/// Most packets that wait: a burst of a large key frame, overtaken once, is below.
const CAPACITY: usize = 64;

/// The same where what is lost is asked for: a second of video at 10 Mbit/s.
const PATIENT_CAPACITY: usize = 1_024;

/// How long a packet waits where what is lost is asked for: as long as it is.
const PATIENT_HOLD: Duration = MAX_MISSING_AGE;

/// How long a packet waits for one before it, unless told otherwise: networks reorder by
/// less, and one retransmission over a usual path is as fast.
const HOLD: Duration = Duration::from_millis(100);

/// Puts packets in order of their sequence numbers, as far as a bound of 64 packets and a
/// time allow.
#[derive(Debug, Clone)]
pub struct ReorderBuffer {
    waiting: BTreeMap<u64, ReceivedPacket>,
    next: Option<u64>,
    hold: Duration,
    capacity: usize,
    counts: ReorderCounts,
}

/// What a [`ReorderBuffer`] has dropped or given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReorderCounts {
    /// Dropped: a later packet had been handed out already.
    pub late: u64,
    /// Dropped: it was waiting already.
    pub duplicates: u64,
    /// Packets that were not waited for any longer.
    pub given_up: u64,
    /// Dropped, the oldest first: four times as many as may wait were there, and nobody polled.
    pub unread: u64,
}

impl Default for ReorderBuffer {
    fn default() -> Self {
        Self::new(HOLD)
    }
}

impl ReorderBuffer {
    /// Makes a buffer in which a packet waits for one before it at most for `hold`; default
    /// 100 ms.
    pub fn new(hold: Duration) -> Self {
        let (waiting, counts) = (BTreeMap::new(), ReorderCounts::default());
        Self { waiting, next: None, hold, capacity: CAPACITY, counts }
    }

    /// Waits for a second, and with up to 1,024 packets, for what is asked for again: where the
    /// sender acts upon NACK (RFC 4585 §6.2.1).
    pub fn wait_for_recovery(&mut self) {
        self.hold = self.hold.max(PATIENT_HOLD);
        self.capacity = PATIENT_CAPACITY;
    }

    /// Takes a packet, in whatever order. The first one begins the stream.
    pub fn push(&mut self, packet: ReceivedPacket) {
        let next = *self.next.get_or_insert(packet.sequence);
        if packet.sequence < next {
            self.counts.late += 1;
        } else if let Entry::Vacant(place) = self.waiting.entry(packet.sequence) {
            place.insert(packet);
            // Some more are kept for one who does not poll.
            if self.waiting.len() > 4 * self.capacity {
                self.counts.unread += 1;
                let (sequence, _) = self.waiting.pop_first().expect("there are more than none");
                self.next = Some(sequence.saturating_add(1));
            }
        } else {
            self.counts.duplicates += 1;
        }
    }

    /// Hands out the next packet in order, or the one after a gap that has been waited for
    /// long enough at `now`.
    pub fn poll(&mut self, now: Instant) -> Option<ReceivedPacket> {
        let next = self.next?;
        let first = self.waiting.first_entry()?;
        let sequence = *first.key();
        let due = || self.poll_timeout().is_some_and(|at| at <= now);
        if sequence != next && self.waiting.len() <= self.capacity && !due() {
            return None;
        }
        self.counts.given_up += sequence - next;
        self.next = Some(sequence.saturating_add(1));
        self.waiting.pop_first().map(|(_, packet)| packet)
    }

    /// When [`poll`](Self::poll) will give up on a gap; `None` when nothing waits. Ask
    /// once `poll` has nothing more.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // The oldest arrival counts, else a gap would be waited for anew with every packet.
        self.waiting.values().map(|packet| packet.received_at).min().map(|at| at + self.hold)
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
    pub fn counts(&self) -> ReorderCounts {
        self.counts
    }
}
