//! What a socket needs beyond paths when several connections share it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Parked;
use crate::{ConnectionId, Path};

/// Requests of one connection that are remembered at once: 2.5 s of checks at the pace of
/// one in 20 ms. One that is older than that has been sent again.
pub(super) const MAX_TRANSACTIONS: usize = 128;

/// Requests that wait on one socket for a connection that claims their peer.
pub(super) const MAX_HELD: usize = 32;

/// How long a request waits to be claimed: its peer repeats it long before.
pub(super) const HELD_LIFETIME: Duration = Duration::from_secs(10);

/// Requests that there is always room for: some 80 kB.
const SMALL_TABLE: usize = 1_024;

/// How long a response is waited for: longer than any round trip worth having.
pub(super) const TRANSACTION_LIFETIME: Duration = Duration::from_secs(10);

/// The magic cookie of a STUN message (RFC 8489 §5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The attribute USERNAME (RFC 8489 §14.3).
const USERNAME: u16 = 0x0006;

/// A STUN transaction identifier (RFC 8489 §5).
pub(super) type TransactionId = [u8; 12];

/// What tells whose a STUN message is. Nothing in it is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peeked<'a> {
    /// A binding request, and the two parts of its USERNAME (RFC 8445 §7.2.2).
    Request {
        /// The username fragment of the side that is asked: before the colon.
        asked: &'a [u8],
        /// That of the side that asks.
        asking: &'a [u8],
    },
    /// A binding response, of either kind.
    Response(TransactionId),
    /// A binding indication, which names nobody.
    Indication,
}

/// Looks at a STUN message just as far as it takes to know whose it is.
///
/// `None` for what is no ICE: another method, no magic cookie, a length that is not its own,
/// a request without a username.
pub(super) fn peek(datagram: &[u8]) -> Option<Peeked<'_>> {
    let (header, mut attributes) = datagram.split_at_checked(20)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if length != attributes.len() || header[4..8] != MAGIC_COOKIE {
        return None;
    }
    match [header[0], header[1]] {
        [0x00, 0x01] => {}
        [0x01, 0x01 | 0x11] => return header[8..].try_into().ok().map(Peeked::Response),
        [0x00, 0x11] => return Some(Peeked::Indication),
        _ => return None,
    }
    while let Some((head, rest)) = attributes.split_at_checked(4) {
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..length)?;
        if u16::from_be_bytes([head[0], head[1]]) == USERNAME {
            let colon = value.iter().position(|byte| *byte == b':')?;
            return Some(Peeked::Request { asked: &value[..colon], asking: &value[colon + 1..] });
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The transaction of a binding request.
pub(super) fn request_id(datagram: &[u8]) -> Option<TransactionId> {
    match datagram {
        [0x00, 0x01, ..] => datagram.get(8..20)?.try_into().ok(),
        _ => None,
    }
}

/// Where a request went, for whom and when.
#[derive(Debug, Clone, Copy)]
struct Sent {
    connection: ConnectionId,
    remote: SocketAddr,
    at: Instant,
}

/// Who has joined under one username fragment.
#[derive(Debug)]
enum Users {
    /// One connection, whoever calls it.
    One(ConnectionId),
    /// Forks of one local side, told apart by whom each has claimed.
    Forks(Vec<Fork>),
}

#[derive(Debug)]
struct Fork {
    connection: ConnectionId,
    /// The username fragment of its peer.
    peer: Option<Box<[u8]>>,
}

/// Whose a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    One(ConnectionId),
    /// One of several forks, of which none has claimed this peer yet.
    NotClaimed,
    Nobody,
}

/// A request of a peer that no fork has claimed.
#[derive(Debug)]
struct Held {
    asked: Box<[u8]>,
    asking: Box<[u8]>,
    request: Parked,
}

/// Who shares a socket, and what tells their STUN apart.
#[derive(Debug)]
pub(super) struct Shared {
    /// Whether whoever bound the socket still wants it, in use or not.
    pub(super) held: bool,
    /// The connection that it was bound for: what its STUN and TURN servers say is for it.
    pub(super) first: Option<ConnectionId>,
    /// By username fragment.
    users: HashMap<Box<[u8]>, Users>,
    /// The oldest first.
    waiting: VecDeque<Held>,
    /// Requests whose responses may still come.
    sent: HashMap<TransactionId, Sent>,
}

impl Shared {
    pub(super) fn new() -> Self {
        let (users, waiting, sent) = (HashMap::new(), VecDeque::new(), HashMap::new());
        Self { held: true, first: None, users, waiting, sent }
    }

    /// Whether nobody needs the socket any more.
    pub(super) fn is_idle(&self) -> bool {
        !self.held && self.users.is_empty()
    }

    /// Registers a username fragment; false if another connection has it, unless both are forks
    /// of one local side.
    pub(super) fn join(
        &mut self,
        username_frag: &str,
        connection: ConnectionId,
        fork: bool,
    ) -> bool {
        let new = Fork { connection, peer: None };
        match self.users.get_mut(username_frag.as_bytes()) {
            Some(Users::One(other)) => *other == connection,
            Some(Users::Forks(forks)) => {
                let known = forks.iter().any(|fork| fork.connection == connection);
                if fork && !known {
                    forks.push(new);
                }
                fork || known
            }
            None => {
                let users = if fork { Users::Forks(vec![new]) } else { Users::One(connection) };
                self.users.insert(username_frag.as_bytes().into(), users);
                true
            }
        }
    }

    /// Lets forks of this connection's local side join under its username fragment; false if it
    /// is not the connection's.
    pub(super) fn share(&mut self, username_frag: &str, connection: ConnectionId) -> bool {
        let users = self.users.get_mut(username_frag.as_bytes());
        if let Some(users @ Users::One(_)) = users {
            if !matches!(users, Users::One(user) if *user == connection) {
                return false;
            }
            *users = Users::Forks(vec![Fork { connection, peer: None }]);
        }
        self.held = true;
        self.join(username_frag, connection, true)
    }

    /// Gives a fork the requests of this peer, whom no other may have: those that have waited,
    /// and those that come. `None` if another fork has claimed it.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        username_frag: &str,
        connection: ConnectionId,
        peer: &str,
    ) -> Option<Vec<Parked>> {
        let Some(Users::Forks(forks)) = self.users.get_mut(username_frag.as_bytes()) else {
            return Some(Vec::new());
        };
        let claimed = |fork: &Fork| fork.peer.as_deref() == Some(peer.as_bytes());
        if forks.iter().any(|fork| fork.connection != connection && claimed(fork)) {
            return None;
        }
        let own = forks.iter_mut().find(|fork| fork.connection == connection)?;
        own.peer = Some(peer.as_bytes().into());
        let (taken, left): (VecDeque<Held>, _) = self.waiting.drain(..).partition(|held| {
            *held.asked == *username_frag.as_bytes() && *held.asking == *peer.as_bytes()
        });
        self.waiting = left;
        let fresh =
            |request: &Parked| now.saturating_duration_since(request.received_at) < HELD_LIFETIME;
        Some(taken.into_iter().map(|held| held.request).filter(fresh).collect())
    }

    /// Keeps a request until its peer is claimed; returns how many others were dropped for it.
    pub(super) fn hold(
        &mut self,
        now: Instant,
        path: Path,
        (asked, asking): (&[u8], &[u8]),
        datagram: &[u8],
    ) -> u64 {
        let before = self.waiting.len();
        self.waiting
            .retain(|held| now.saturating_duration_since(held.request.received_at) < HELD_LIFETIME);
        if self.waiting.len() >= MAX_HELD {
            self.waiting.pop_front();
        }
        let dropped = before - self.waiting.len();
        let request = Parked { path, received_at: now, datagram: Bytes::copy_from_slice(datagram) };
        self.waiting.push_back(Held { asked: asked.into(), asking: asking.into(), request });
        dropped as u64
    }

    pub(super) fn leave(&mut self, username_frag: &str, connection: ConnectionId) {
        self.first.take_if(|first| *first == connection);
        let gone = match self.users.get_mut(username_frag.as_bytes()) {
            None => return,
            Some(Users::One(user)) => *user == connection,
            Some(Users::Forks(forks)) => {
                forks.retain(|fork| fork.connection != connection);
                forks.is_empty()
            }
        };
        if gone {
            self.users.remove(username_frag.as_bytes());
            self.waiting.retain(|held| *held.asked != *username_frag.as_bytes());
        }
    }

    /// Whose a request is that asks the one and is from the other.
    pub(super) fn asked(&self, asked: &[u8], asking: &[u8]) -> Asked {
        match self.users.get(asked) {
            None => Asked::Nobody,
            Some(Users::One(connection)) => Asked::One(*connection),
            Some(Users::Forks(forks)) => forks
                .iter()
                .find(|fork| fork.peer.as_deref() == Some(asking))
                .map_or(Asked::NotClaimed, |fork| Asked::One(fork.connection)),
        }
    }

    pub(super) fn sent(
        &mut self,
        at: Instant,
        id: TransactionId,
        connection: ConnectionId,
        remote: SocketAddr,
    ) {
        self.sent.insert(id, Sent { connection, remote, at });
    }

    pub(super) fn forget(&mut self, id: &TransactionId, connection: ConnectionId) {
        if self.sent.get(id).is_some_and(|sent| sent.connection == connection) {
            self.sent.remove(id);
            // What a storm of connections has taken is not needed for the few after it.
            if self.sent.capacity() > SMALL_TABLE && self.sent.len() < self.sent.capacity() / 8 {
                self.sent.shrink_to(self.sent.len() * 2);
            }
        }
    }

    /// Whose request a response from `remote` answers.
    pub(super) fn asker(
        &self,
        now: Instant,
        id: &TransactionId,
        remote: SocketAddr,
    ) -> Option<ConnectionId> {
        let sent = self.sent.get(id).filter(|sent| sent.remote == remote)?;
        let age = now.saturating_duration_since(sent.at);
        (age < TRANSACTION_LIFETIME).then_some(sent.connection)
    }

    #[cfg(test)]
    pub(super) fn has_user(&self, username_frag: &str, connection: ConnectionId) -> bool {
        match self.users.get(username_frag.as_bytes()) {
            None => false,
            Some(Users::One(user)) => *user == connection,
            Some(Users::Forks(forks)) => forks.iter().any(|fork| fork.connection == connection),
        }
    }

    #[cfg(test)]
    pub(super) fn transactions(&self) -> usize {
        self.sent.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: [u8; 2], attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&kind[..], &length, &MAGIC_COOKIE, &[7; 12], attributes].concat()
    }

    #[test]
    fn a_request_is_known_by_the_first_part_of_its_username() {
        // PRIORITY, then a username of seven bytes and its padding.
        let attributes = b"\x00\x24\x00\x04\x01\x02\x03\x04\x00\x06\x00\x07abc:xyz\x00";
        let request = message([0, 1], attributes);
        let (asked, asking) = (&b"abc"[..], &b"xyz"[..]);
        assert_eq!(peek(&request), Some(Peeked::Request { asked, asking }));
        assert_eq!(request_id(&request), Some([7; 12]));
        assert_eq!(peek(&message([1, 1], attributes)), Some(Peeked::Response([7; 12])));
        assert_eq!(peek(&message([1, 0x11], &[])), Some(Peeked::Response([7; 12])));
        assert_eq!(request_id(&message([1, 1], &[])), None);
        assert_eq!(peek(&message([0, 0x11], &[])), Some(Peeked::Indication));
    }

    #[test]
    fn what_is_no_ice_is_nobodys() {
        let username = b"\x00\x06\x00\x07abc:xyz\x00";
        let whole = message([0, 1], username);
        for len in 0..whole.len() {
            assert_eq!(peek(&whole[..len]), None, "{len} bytes");
        }
        for (kind, attributes) in [
            ([0, 1], &b""[..]),
            ([0, 1], b"\x00\x06\x00\x07abc-xyz\x00"),
            ([0, 1], b"\x00\x06\xff\xffabc:xyz\x00"),
            ([0, 1], b"\x00\x24\xff\xffabc:xyz\x00"),
            ([0, 3], username),
            ([1, 3], username),
        ] {
            assert_eq!(peek(&message(kind, attributes)), None, "{kind:?} {attributes:?}");
        }
        let mut other_cookie = whole.clone();
        other_cookie[4] ^= 1;
        assert_eq!(peek(&other_cookie), None);
        assert_eq!(peek(&[whole, vec![0]].concat()), None);
    }

    #[cfg(feature = "sim")]
    #[test]
    fn any_bytes_can_be_looked_at() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut named = 0;
        for _ in 0..100_000 {
            let mut attributes: Vec<u8> = (0..rng.usize(0..40)).map(|_| rng.u8(..8)).collect();
            if rng.bool() {
                attributes.extend_from_slice(b"\x00\x06\x00\x03a:b\x00");
            }
            let bytes = message([0, 1], &attributes);
            named += usize::from(matches!(peek(&bytes), Some(Peeked::Request { .. })));
            peek(&bytes[..rng.usize(..bytes.len())]);
        }
        assert!(named > 1_000, "only {named} had a username");
    }
}
