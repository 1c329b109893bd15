use std::collections::VecDeque;

use ortc_io::DatagramKind;
use ortc_io::ring::{PushError, RingReceiver, RingSender, ring};

use crate::ForwarderEvent;

/// Events on their way to the control plane: collected during a turn, handed over at its
/// end, so that one wake-up serves them all.
#[derive(Debug)]
pub(crate) struct Outbox {
    ring: RingSender<ForwarderEvent>,
    waiting: VecDeque<ForwarderEvent>,
    capacity: usize,
    pub(crate) datagrams_dropped: u64,
    pub(crate) states_dropped: u64,
    pub(crate) is_closed: bool,
}

impl Outbox {
    pub(crate) fn new(capacity: usize) -> (Self, RingReceiver<ForwarderEvent>) {
        let capacity = capacity.max(4);
        let (sender, receiver) = ring(capacity);
        let outbox = Self {
            ring: sender,
            waiting: VecDeque::new(),
            capacity,
            datagrams_dropped: 0,
            states_dropped: 0,
            is_closed: false,
        };
        (outbox, receiver)
    }

    /// Whether there is room for a datagram: a quarter of the ring is kept for the rest, and
    /// another for DTLS. Checks come again and again on every pair, and when there are too
    /// many of them, handshakes should still get through.
    pub(crate) fn has_room_for_datagram(&mut self, kind: DatagramKind) -> bool {
        let quarters = if kind == DatagramKind::Dtls { 3 } else { 2 };
        let has_room = self.waiting.len() + self.ring.len() < self.capacity / 4 * quarters;
        if !has_room {
            self.datagrams_dropped += 1;
        }
        has_room
    }

    /// Whether so much waits that no further commands should be carried out.
    pub(crate) fn is_congested(&self) -> bool {
        self.waiting.len() >= self.capacity
    }

    /// Queues an event. Commands stop at one capacity, so only media that come and go can
    /// fill a second one; what is over that is dropped, counted.
    pub(crate) fn push(&mut self, event: ForwarderEvent) {
        if self.waiting.len() < 2 * self.capacity {
            self.waiting.push_back(event);
        } else {
            self.states_dropped += 1;
        }
    }

    /// Hands over what the ring takes; returns whether that was all.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(event) = self.waiting.pop_front() {
            match self.ring.push(event) {
                Ok(()) => {}
                Err(PushError::Full(event)) => {
                    self.waiting.push_front(event);
                    return false;
                }
                Err(PushError::Closed(_)) => {
                    self.is_closed = true;
                    self.waiting.clear();
                }
            }
        }
        true
    }
}
