use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::Path;

/// Most requests held.
const CAPACITY: usize = 32;

/// A peer repeats a check long before this, so an older one says nothing new.
const LIFETIME: Duration = Duration::from_secs(10);

/// Authenticated requests of a peer whose credentials have not been signalled yet.
#[derive(Debug, Default)]
pub(crate) struct HeldRequests {
    queue: VecDeque<(Instant, Path, Bytes)>,
}

impl HeldRequests {
    /// Holds a request; returns how many others were dropped for it.
    pub(crate) fn push(&mut self, now: Instant, path: Path, datagram: &[u8]) -> usize {
        let mut dropped = self.expire(now);
        if self.queue.len() >= CAPACITY {
            self.queue.pop_front();
            dropped += 1;
        }
        self.queue.push_back((now, path, Bytes::copy_from_slice(datagram)));
        dropped
    }

    /// Hands out what is held, and how many were too old.
    pub(crate) fn take(&mut self, now: Instant) -> (Vec<(Path, Bytes)>, usize) {
        let dropped = self.expire(now);
        (self.queue.drain(..).map(|(_, path, datagram)| (path, datagram)).collect(), dropped)
    }

    fn expire(&mut self, now: Instant) -> usize {
        let before = self.queue.len();
        self.queue.retain(|(at, _, _)| now.saturating_duration_since(*at) < LIFETIME);
        before - self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ortc_io::SocketId;

    #[test]
    fn requests_are_held_for_ten_seconds_and_at_most_thirty_two() {
        let path = Path::plain(SocketId { slot: 0, generation: 0 }, ([192, 0, 2, 1], 1).into());
        let (mut held, now) = (HeldRequests::default(), Instant::now());
        let dropped: usize = (0..40).map(|n| held.push(now, path, &[n])).sum();
        assert_eq!(dropped, 8);
        assert_eq!(held.push(now + LIFETIME, path, &[99]), 32);
        let (taken, dropped) = held.take(now + LIFETIME);
        assert_eq!((taken, dropped), (vec![(path, Bytes::from_static(&[99]))], 0));
        assert_eq!(held.take(now), (vec![], 0));
    }
}
