//! Packets that are pushed before the keys have come.
//!
//! Who hears that a connection is secure may push before the keys are here, by way of other
//! mailboxes: what waits for no longer than [`UNKEYED`] is sent. Whoever pushes earlier than that is
//! early, and each packet goes when its own time is over. A frame is kept whole or not at all: of one
//! that has begun to go, nothing is sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ortc_io::ring::Popped;

use super::RtpSession;
use super::outbound::{MAX_DROPS, Sender};

/// How long packets wait for the keys: as long as those that have come do.
const UNKEYED: Duration = Duration::from_millis(200);

/// What comes within this time is of one age: so there are few ages to note.
const GRAIN: Duration = Duration::from_millis(10);

/// What of a sender waits for the keys.
#[derive(Debug, Default)]
pub(super) struct Unkeyed {
    /// How many packets have come, and when, the oldest first.
    waiting: VecDeque<(Instant, usize)>,
    /// The time of a frame of which packets are gone.
    cut: Option<u64>,
}

impl Unkeyed {
    /// Notes that so many packets wait at `now`.
    fn note(&mut self, now: Instant, count: usize) {
        let known: usize = self.waiting.iter().map(|(_, count)| count).sum();
        self.forget(known.saturating_sub(count));
        let new = count.saturating_sub(known);
        match self.waiting.back_mut() {
            _ if new == 0 => {}
            Some((since, count)) if now < *since + GRAIN => *count += new,
            _ => self.waiting.push_back((now, new)),
        }
    }

    /// Forgets all of them: there are keys.
    fn end(&mut self) {
        self.waiting.clear();
    }

    /// Forgets the oldest ones, which somebody else has taken.
    fn forget(&mut self, mut count: usize) {
        while let Some((_, oldest)) = self.waiting.front_mut().filter(|_| count > 0) {
            let taken = count.min(*oldest);
            *oldest -= taken;
            count -= taken;
            if *oldest == 0 {
                self.waiting.pop_front();
            }
        }
    }

    /// How many have waited for too long.
    fn take_old(&mut self, now: Instant) -> usize {
        let mut old = 0;
        while let Some((_, count)) =
            self.waiting.pop_front_if(|(since, _)| now.saturating_duration_since(*since) >= UNKEYED)
        {
            old += count;
        }
        old
    }
}

impl Sender {
    /// Drops what has waited for the keys for too long, or does not wait for them; how many packets.
    fn drop_unkeyed(&mut self, now: Instant) -> u64 {
        let count = self.feed.waiting();
        if count == 0 && self.unkeyed.is_none() {
            return self.drop_all();
        }
        let unkeyed = self.unkeyed.get_or_insert_default();
        unkeyed.note(now, count);
        let mut dropped = 0;
        for _ in 0..unkeyed.take_old(now) {
            let Popped::Item((packet, _)) = self.feed.pop() else { break };
            unkeyed.cut = Some(packet.timestamp);
            dropped += 1;
        }
        if self.feed.waiting() == 0 { dropped + self.drop_all() } else { dropped }
    }

    /// Takes all that is in its rings, at most as much as they hold now.
    pub(super) fn drop_all(&mut self) -> u64 {
        if let Some(unkeyed) = &mut self.unkeyed {
            unkeyed.end();
        }
        let pops = std::iter::repeat_with(|| self.pop()).take(MAX_DROPS);
        pops.take_while(|popped| matches!(popped, Popped::Item(_))).count() as u64
    }

    /// Whether a packet is of a frame that has been dropped in part, before the keys came.
    pub(super) fn is_cut(&mut self, timestamp: u64) -> bool {
        let Some(unkeyed) = &self.unkeyed else { return false };
        let is_cut = unkeyed.cut == Some(timestamp);
        if !is_cut {
            self.unkeyed = None;
        }
        is_cut
    }
}

impl RtpSession {
    /// There are keys: what has waited for them for too long is dropped, and nothing else waits.
    pub(super) fn end_unkeyed(&mut self, now: Instant) {
        self.drop_unkeyed(now);
        let unkeyed = self.senders.iter_mut().filter_map(|sender| sender.unkeyed.as_deref_mut());
        unkeyed.for_each(Unkeyed::end);
    }

    /// Drops what has waited for the keys for too long.
    pub(super) fn drop_unkeyed(&mut self, now: Instant) {
        for sender in &mut self.senders {
            self.stats.send_drops.no_keys += sender.drop_unkeyed(now);
        }
    }
}
