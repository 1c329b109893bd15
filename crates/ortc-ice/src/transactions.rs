use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ortc_io::Path;

/// Requests remembered at once: some 30 s of checks at the pace of 20 ms.
const CAPACITY: usize = 1536;

/// A response that comes later than this answers nothing any more: longer than the 12
/// retransmissions of a pair last at the slow pace.
const LIFETIME: Duration = Duration::from_secs(40);

/// A STUN transaction identifier (RFC 8489 §5).
pub(crate) type TransactionId = [u8; 12];

/// Where each request of ours went, so that a response from anywhere else is refused
/// (RFC 8445 §7.2.5.2.1: the addresses of a response must be those of its request).
///
/// Most responses are to the latest requests, which are looked at first, so that a list does;
/// it is small in every connection that is idle, and a lookup in vain passes over 100 kB at most.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    sent: VecDeque<Sent>,
}

/// A request of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// When it was sent first.
    pub(crate) at: Instant,
    /// When it, or a copy, was sent last.
    pub(crate) last: Instant,
    pub(crate) id: TransactionId,
    path: Path,
    /// Whether it nominates the path.
    pub(crate) nominates: bool,
}

impl Transactions {
    /// Remembers a request, and whether it nominates its path; the oldest make room.
    pub(crate) fn insert(&mut self, now: Instant, id: TransactionId, path: Path, nominates: bool) {
        while let Some(oldest) = self.sent.front() {
            let is_late = now.saturating_duration_since(oldest.at) >= LIFETIME;
            if self.sent.len() < CAPACITY && !is_late {
                break;
            }
            self.sent.pop_front();
        }
        if self.sent.len() * 4 < self.sent.capacity() {
            // What the search for a path took is not needed to keep it.
            self.sent.shrink_to(self.sent.len() * 2);
        }
        self.sent.push_back(Sent { at: now, last: now, id, path, nominates });
    }

    /// Whether a request with this identifier went out on this very path.
    pub(crate) fn sent_on(&self, id: &TransactionId, path: Path) -> bool {
        self.sent.iter().rev().any(|sent| sent.id == *id && sent.path == path)
    }

    /// Forgets a request that has been answered, and returns it.
    pub(crate) fn answered(&mut self, id: &TransactionId) -> Option<Sent> {
        let at = self.sent.iter().rposition(|sent| sent.id == *id)?;
        self.sent.remove(at)
    }

    /// Notes that a copy of a request went out.
    pub(crate) fn repeated(&mut self, now: Instant, id: &TransactionId) {
        if let Some(sent) = self.sent.iter_mut().rev().find(|sent| sent.id == *id) {
            sent.last = now;
        }
    }

    /// The last request on a path that has not been answered.
    pub(crate) fn last_on(&self, path: Path) -> Option<&Sent> {
        self.sent.iter().rev().find(|sent| sent.path == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ortc_io::SocketId;

    fn path(port: u16) -> Path {
        Path::plain(SocketId { slot: 0, generation: 0 }, ([192, 0, 2, 1], port).into())
    }

    fn id(n: u32) -> TransactionId {
        let mut id = [0; 12];
        id[..4].copy_from_slice(&n.to_be_bytes());
        id
    }

    #[test]
    fn a_response_must_come_from_the_address_that_was_asked() {
        let mut transactions = Transactions::default();
        let now = Instant::now();
        transactions.insert(now, id(1), path(1), false);
        assert!(transactions.sent_on(&id(1), path(1)));
        assert!(!transactions.sent_on(&id(1), path(2)));
        assert!(!transactions.sent_on(&id(2), path(1)));
        let elsewhere = Path { socket: SocketId { slot: 1, generation: 0 }, ..path(1) };
        assert!(!transactions.sent_on(&id(1), elsewhere));
    }

    #[test]
    fn a_request_is_answered_once() {
        let mut transactions = Transactions::default();
        let now = Instant::now();
        transactions.insert(now, id(1), path(1), false);
        transactions.insert(now, id(2), path(1), true);
        let last = transactions.last_on(path(1)).unwrap();
        assert_eq!((last.last, last.id, last.nominates), (now, id(2), true));
        let later = now + Duration::from_millis(20);
        transactions.repeated(later, &id(2));
        assert_eq!(
            transactions.last_on(path(1)).map(|sent| (sent.at, sent.last)),
            Some((now, later))
        );
        let answered = transactions.answered(&id(1)).unwrap();
        assert_eq!((answered.at, answered.nominates), (now, false));
        assert_eq!(transactions.answered(&id(1)), None);
        assert_eq!(transactions.last_on(path(2)), None);
        assert!(!transactions.sent_on(&id(1), path(1)));
        assert!(transactions.sent_on(&id(2), path(1)));
    }

    #[test]
    fn the_registry_is_bounded_in_number_and_time() {
        let mut transactions = Transactions::default();
        let now = Instant::now();
        for n in 0..5000 {
            transactions.insert(now, id(n), path(1), false);
        }
        assert_eq!(transactions.sent.len(), CAPACITY);
        assert!(transactions.sent_on(&id(4999), path(1)));
        assert!(!transactions.sent_on(&id(0), path(1)));
        transactions.insert(now + LIFETIME, id(9999), path(1), false);
        assert_eq!(transactions.sent.len(), 1);
        assert!(transactions.sent.capacity() < 16);
    }
}
