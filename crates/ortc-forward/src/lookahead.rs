//! What the next datagrams of a batch need, fetched from memory while those before are handled.
//!
//! Feedback comes from all who are sent something, and each of these connections has left the caches
//! since it said something last. Waiting for its memory would cost more than opening and reading the
//! message does.

use std::time::Instant;

use ortc_io::{DatagramKind, ReceiveBatch, classify};

use crate::plane::Plane;

/// The connections that the next datagrams are of, as far as they are of one and RTCP: what is published
/// comes many packets at a time, and is waited for once.
#[derive(Debug, Default)]
pub(crate) struct Lookahead {
    /// Their slots, the nearest last: those that have a step yet to be taken.
    slots: [Option<u32>; Self::STEPS - 1],
}

impl Lookahead {
    /// How far it looks: each step looks at what the one before has fetched.
    pub(crate) const STEPS: usize = 4;
}

impl Plane {
    /// Takes one step with each of the next datagrams, the furthest of which is at `place`, if there
    /// are as many.
    #[inline]
    pub(crate) fn look_ahead(
        &self,
        now: Instant,
        batch: &ReceiveBatch,
        place: usize,
        ahead: &mut Lookahead,
    ) {
        let slot = (place < batch.len()).then(|| self.slot_of(now, batch, place)).flatten();
        let [first, second, third] = ahead.slots;
        ahead.slots = [slot, first, second];
        if let Some(slot) = slot {
            self.links.prefetch(slot);
        }
        let session = |slot: Option<u32>| self.links.at(slot?)?.session.as_ref();
        if let Some(session) = session(first) {
            session.prefetch_control();
        }
        if let Some(session) = session(second) {
            session.prefetch_estimate();
        }
        if let Some(session) = session(third) {
            session.prefetch_unacknowledged();
        }
    }

    /// The slot of the connection that a datagram is of, if it is RTCP; channel data is not.
    fn slot_of(&self, now: Instant, batch: &ReceiveBatch, place: usize) -> Option<u32> {
        let is_rtcp = classify(batch.get(place)) == DatagramKind::Rtcp;
        let id = is_rtcp.then(|| self.paths.route(now, batch.outer_path(place))).flatten();
        id.map(|id| id.slot)
    }
}
