//! Consent to send (RFC 7675), asked for and given where the datagrams are.
//!
//! A connection that has settled exchanges nothing but consent: a binding request every few
//! seconds each way, and its response. Brought to ICE and back, each would cost two wake-ups and
//! an actor's message. So ICE hands the path that it has settled on to its socket port
//! ([`SocketCommand::DelegateConsent`](crate::SocketCommand::DelegateConsent)), with all that
//! STUN takes, and the port says that it has it. From then on the port
//!
//! - **answers** requests on that very path that are nothing but consent: of the peer's and our
//!   username fragment, of the role that the peer has, authenticated;
//! - **asks** every 4 to 6 s, all that is due within 100 ms in one system call, with transaction
//!   identifiers that nobody can tell beforehand;
//! - **passes on everything else** as it does without: other paths, other usernames, a conflict
//!   of roles, a nomination by the side that should not, responses to what it has not asked.
//!   ICE goes on deciding, and may [take the path back](crate::SocketCommand::ReclaimConsent);
//! - **gives the path back** when a response is overdue, when the peer refuses, or when it does
//!   not send there any more ([`ConsentReturn`]), and with it says when the last response came.
//!   What becomes of the connection then is decided by ICE, as it always was.
//!
//! [`ConsentTable`] is the core that every socket port shares, beside
//! [`PathTable`](crate::paths::PathTable): no socket, no clock, no randomness of its own. A port
//! that knows nothing of it ignores the command; ICE then does it all, as nobody has said that he
//! does.
//!
//! # Use
//!
//! 1. [`delegate`](ConsentTable::delegate) and [`reclaim`](ConsentTable::reclaim) as ICE asks;
//!    [`review`](ConsentTable::review) whenever the path that a connection sends on may have
//!    changed, [`forget`](ConsentTable::forget) when it has gone.
//! 2. Show each STUN datagram to [`handle`](ConsentTable::handle) first; send what it answers.
//! 3. At [`poll_timeout`](ConsentTable::poll_timeout), send what
//!    [`poll_request`](ConsentTable::poll_request) gives until that is `None`.
//! 4. Bring what [`poll_event`](ConsentTable::poll_event) gives to the connections.

mod counts;
pub(crate) mod stun;
#[cfg(test)]
mod tests;
mod wheel;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

pub use self::counts::{CheckCounters, CheckCounts, CheckEvent};
use self::stun::{Class, MAX_MESSAGE, Message, TransactionId};
use self::wheel::{Due, Wheel};
use crate::{ConnectionId, Encapsulation, Path, SocketEvent};

/// Requests of one connection whose responses may still come: at 4 s and more between two, the
/// round trip of the older is longer than any worth having.
const OUTSTANDING: usize = 2;

/// Longest username that is taken: two fragments of 256 and a colon (RFC 8445 §5.3).
const MAX_USERNAME: usize = 513;

/// Where the consent of a connection is to be kept, and with what.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsentDelegation {
    /// Repeated in what is said of it.
    pub token: u64,
    /// The path: selected, and not encapsulated.
    pub path: Path,
    /// Our username fragment and password: what requests of the peer are made with.
    pub local: ConsentCredentials,
    /// Those of the peer: what our requests are made with.
    pub remote: ConsentCredentials,
    /// Whether we are the controlling side.
    pub controlling: bool,
    /// Our tie-breaker (RFC 8445 §16.1).
    pub tie_breaker: u64,
    /// The priority that requests carry (RFC 8445 §7.1.1).
    pub priority: u32,
    /// Mean time between two requests; each is 0.8 to 1.2 times as long (RFC 7675 §5.1).
    pub interval: Duration,
    /// The path is given back when no response has come for so long.
    pub patience: Duration,
    /// When a response last came.
    pub answered: Instant,
    /// Secret randomness for the identifiers of transactions and the jitter.
    pub seed: u64,
    /// Where requests and responses are counted, besides in those of the table.
    pub counters: CheckCounters,
}

/// A username fragment and its password (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct ConsentCredentials {
    /// The username fragment.
    pub username_frag: String,
    /// The password; never printed.
    pub password: String,
}

impl fmt::Debug for ConsentCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fragment = &self.username_frag;
        f.debug_struct("ConsentCredentials")
            .field("username_frag", fragment)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConsentDelegation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentDelegation")
            .field("token", &self.token)
            .field("path", &self.path)
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("controlling", &self.controlling)
            .finish_non_exhaustive()
    }
}

/// Why a socket port does not keep the consent of a path any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentReturn {
    /// It was asked to.
    Reclaimed,
    /// No response has come for as long as it was to wait.
    Silent,
    /// The peer has answered with an error, and that with the right key.
    Refused,
    /// The connection does not send there any more.
    PathChanged,
}

/// What has become of a STUN datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentVerdict {
    /// It is no matter of settled consent: for ICE, as ever.
    Pass,
    /// It is dealt with, and counted.
    Done,
    /// It is dealt with, and this many bytes of the buffer are to be sent back on its path.
    Answer(usize),
}

/// Room for what is to be sent.
pub type ConsentBuffer = [u8; MAX_MESSAGE];

/// An empty buffer.
pub const CONSENT_BUFFER: ConsentBuffer = [0; MAX_MESSAGE];

/// What a table has done, over all connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsentStats {
    /// Paths that it keeps the consent of now.
    pub kept: u64,
    /// Paths that were handed to it.
    pub delegated: u64,
    /// Requests sent.
    pub requests: u64,
    /// Authenticated responses to them.
    pub confirmed: u64,
    /// Authenticated requests answered.
    pub answered: u64,
    /// Messages with the right names, and a MESSAGE-INTEGRITY that is missing or wrong.
    pub forged: u64,
    /// Paths given back because no response had come.
    pub silent: u64,
    /// Paths given back because the peer has refused.
    pub refused: u64,
}

/// The settled paths of all connections of a socket port; see the [module](self).
#[derive(Debug)]
pub struct ConsentTable {
    /// By the slots of the connections.
    kept: Vec<Option<Box<Kept>>>,
    wheel: Wheel,
    /// Counts delegations, so that the wheel's entries can be told from older ones.
    stamp: u64,
    events: VecDeque<(ConnectionId, SocketEvent)>,
    stats: ConsentStats,
}

#[derive(Debug)]
struct Kept {
    connection: ConnectionId,
    token: u64,
    stamp: u64,
    path: Path,
    controlling: bool,
    /// `ours:theirs`, as requests of the peer have it.
    username: Box<[u8]>,
    local: Password,
    remote: Password,
    /// Our request, but for its transaction.
    request: Box<[u8]>,
    seed: u64,
    counters: CheckCounters,
    /// Counts our requests.
    count: u64,
    outstanding: [Option<TransactionId>; OUTSTANDING],
    interval: Duration,
    patience: Duration,
    answered: Instant,
    next_request: Instant,
}

/// A password, and not the key that is made of it for each message: that is 200 ns of work, and 40
/// times as large.
struct Password(Zeroizing<Box<str>>);

impl Password {
    fn new(password: &str) -> Self {
        Self(Zeroizing::new(password.into()))
    }

    fn key(&self) -> hmac::Key {
        stun::integrity_key(&self.0)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").finish_non_exhaustive()
    }
}

impl Default for ConsentTable {
    fn default() -> Self {
        Self::new()
    }
}

impl ConsentTable {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self {
            kept: Vec::new(),
            wheel: Wheel::new(),
            stamp: 0,
            events: VecDeque::new(),
            stats: ConsentStats::default(),
        }
    }

    /// Keeps the consent of a path from now on, in place of what the connection had; says so by
    /// [`SocketEvent::ConsentDelegated`]. The caller has seen that the connection sends there.
    ///
    /// Nothing happens if the path is encapsulated or the usernames are longer than any.
    pub fn delegate(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        delegation: &ConsentDelegation,
    ) {
        let ConsentDelegation { token, path, local, remote, .. } = delegation;
        let (ours, theirs) = (&local.username_frag, &remote.username_frag);
        if path.encapsulation != Encapsulation::Plain
            || ours.len() + 1 + theirs.len() > MAX_USERNAME
        {
            return;
        }
        self.forget(connection);
        self.stamp += 1;
        let request = stun::request(stun::Asking {
            username: &format!("{theirs}:{ours}"),
            controlling: delegation.controlling,
            tie_breaker: delegation.tie_breaker,
            priority: delegation.priority,
        });
        let mut kept = Kept {
            connection,
            token: *token,
            stamp: self.stamp,
            path: *path,
            controlling: delegation.controlling,
            username: format!("{ours}:{theirs}").into_bytes().into_boxed_slice(),
            local: Password::new(&local.password),
            remote: Password::new(&remote.password),
            request,
            seed: delegation.seed,
            counters: delegation.counters.clone(),
            count: 0,
            outstanding: [None; OUTSTANDING],
            interval: delegation.interval,
            patience: delegation.patience,
            answered: delegation.answered,
            next_request: now,
        };
        let key = kept.remote.key();
        let (_, wait) = kept.draw(&key);
        // As if the one before had been sent when it was answered.
        kept.next_request = delegation.answered + wait;
        self.wheel.insert(now, kept.due_at(), kept.due());
        let slot = connection.slot as usize;
        if slot >= self.kept.len() {
            self.kept.resize_with(slot + 1, || None);
        }
        self.kept[slot] = Some(Box::new(kept));
        self.stats.kept += 1;
        self.stats.delegated += 1;
        self.events.push_back((connection, SocketEvent::ConsentDelegated { token: *token }));
    }

    /// Gives a path back to ICE; nothing happens if it is not (any more) the one of this token.
    pub fn reclaim(&mut self, connection: ConnectionId, token: u64) {
        if self.get(connection).is_some_and(|kept| kept.token == token) {
            self.give_back(connection, ConsentReturn::Reclaimed);
        }
    }

    /// Gives a path back if the connection does not send on it, but on `sending` or nowhere.
    pub fn review(&mut self, connection: ConnectionId, sending: Option<Path>) {
        if self.get(connection).is_some_and(|kept| Some(kept.path) != sending) {
            self.give_back(connection, ConsentReturn::PathChanged);
        }
    }

    /// Lets go of whatever is kept for a connection, and says nothing.
    pub fn forget(&mut self, connection: ConnectionId) {
        if self.get(connection).is_some() {
            self.kept[connection.slot as usize] = None;
            self.stats.kept -= 1;
        }
    }

    /// The next thing to be told, and whom.
    pub fn poll_event(&mut self) -> Option<(ConnectionId, SocketEvent)> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > 64 {
            self.events = VecDeque::new();
        }
        event
    }

    /// Decides about a STUN datagram that came in on a path of `connection`.
    pub fn handle(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        path: Path,
        datagram: &[u8],
        out: &mut ConsentBuffer,
    ) -> ConsentVerdict {
        let Some(kept) = self.kept.get_mut(connection.slot as usize).and_then(Option::as_mut)
        else {
            return ConsentVerdict::Pass;
        };
        if kept.connection != connection || kept.path != path {
            return ConsentVerdict::Pass;
        }
        let Some(message) = Message::parse(datagram) else { return ConsentVerdict::Pass };
        if message.class == Class::Request {
            if !kept.is_plain(&message) {
                return ConsentVerdict::Pass;
            }
            let key = kept.local.key();
            if !message.verify(&key) {
                self.stats.forged += 1;
                return ConsentVerdict::Done;
            }
            self.stats.answered += 1;
            kept.counters.count(CheckEvent::RequestReceived);
            kept.counters.count(CheckEvent::ResponseSent);
            let len = stun::response(&message.id, path.remote, &key, out);
            return ConsentVerdict::Answer(len);
        }
        let asked = kept.outstanding.iter_mut().find(|id| **id == Some(message.id));
        let Some(asked) = asked else { return ConsentVerdict::Pass };
        if !message.verify(&kept.remote.key()) {
            self.stats.forged += 1;
            return ConsentVerdict::Done;
        }
        *asked = None;
        if message.class == Class::Success {
            kept.answered = now;
            self.stats.confirmed += 1;
            kept.counters.count(CheckEvent::ResponseReceived);
        } else {
            self.stats.refused += 1;
            self.give_back(connection, ConsentReturn::Refused);
        }
        ConsentVerdict::Done
    }

    /// When [`poll_request`](Self::poll_request) may have something, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.wheel.poll_timeout().map(|at| (at, "consent is due"))
    }

    /// The next request that is due, written to `out`: its path and its length.
    pub fn poll_request(&mut self, now: Instant, out: &mut ConsentBuffer) -> Option<(Path, usize)> {
        while let Some(due) = self.wheel.pop(now) {
            let kept = self.kept.get_mut(due.slot as usize).and_then(Option::as_mut);
            let Some(kept) = kept.filter(|kept| kept.stamp == due.stamp) else { continue };
            if kept.answered + kept.patience <= now {
                let connection = kept.connection;
                self.stats.silent += 1;
                self.give_back(connection, ConsentReturn::Silent);
                continue;
            }
            let asks = kept.next_request <= now;
            let written = asks.then(|| (kept.path, kept.ask(now, out)));
            if asks {
                kept.counters.count(CheckEvent::ConsentRequestSent);
            }
            self.wheel.insert(now, kept.due_at(), due);
            if written.is_some() {
                self.stats.requests += 1;
                return written;
            }
        }
        None
    }

    /// What was done so far.
    pub fn stats(&self) -> ConsentStats {
        self.stats
    }

    fn get(&self, connection: ConnectionId) -> Option<&Kept> {
        let kept = self.kept.get(connection.slot as usize)?.as_deref();
        kept.filter(|kept| kept.connection == connection)
    }

    fn give_back(&mut self, connection: ConnectionId, reason: ConsentReturn) {
        let Some(kept) = self.get(connection) else { return };
        let (token, answered) = (kept.token, kept.answered);
        let event = SocketEvent::ConsentReturned { token, answered, reason };
        self.events.push_back((connection, event));
        self.forget(connection);
    }
}

impl Kept {
    /// Whether a request asks for consent, and for nothing else.
    fn is_plain(&self, message: &Message<'_>) -> bool {
        let has_other_role = if self.controlling {
            message.is_controlled && !message.is_controlling && !message.uses_candidate
        } else {
            message.is_controlling && !message.is_controlled
        };
        has_other_role
            && message.has_priority
            && !message.is_unusual
            && message.username == &*self.username
    }

    /// Writes the next request.
    fn ask(&mut self, now: Instant, out: &mut ConsentBuffer) -> usize {
        let key = self.remote.key();
        let (id, wait) = self.draw(&key);
        self.next_request = now + wait;
        self.outstanding.rotate_right(1);
        self.outstanding[0] = Some(id);
        out[..self.request.len()].copy_from_slice(&self.request);
        stun::seal(self.request.len(), &id, &key, out)
    }

    /// Draws the identifier of the next request and the time until the one after it.
    ///
    /// The peer has the key, and not the seed.
    fn draw(&mut self, key: &hmac::Key) -> (TransactionId, Duration) {
        self.count += 1;
        let mut context = hmac::Context::with_key(key);
        context.update(b"consent");
        context.update(&self.seed.to_be_bytes());
        context.update(&self.count.to_be_bytes());
        let tag = context.sign();
        let mut id = [0; 12];
        id.copy_from_slice(&tag.as_ref()[..12]);
        let random = tag.as_ref()[12..].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let permille = 800 + random % 401;
        (id, self.interval.mul_f64(permille as f64 / 1000.0))
    }

    /// When there is something to do for it.
    fn due_at(&self) -> Instant {
        self.next_request.min(self.answered + self.patience)
    }

    fn due(&self) -> Due {
        Due { slot: self.connection.slot, stamp: self.stamp }
    }
}
