use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::channels::{Channels, MAX_QUEUED};
use super::message::{Builder, Class, MAX_TEXT, Message, attribute, method};
use super::transaction::{FIRST_RTO, Step, Transaction, rto};
use super::{Action, Login, ServerFailure, Taken, long_term_key};
use crate::random::Seeds;

/// How long an allocation is asked for, in seconds (RFC 8656 §7.2 has 600 as the default).
const LIFETIME: u32 = 600;

/// An allocation is refreshed this long before it ends (RFC 8656 §8.1 has a minute).
const REFRESH_EARLY: Duration = Duration::from_secs(60);

/// Shortest time between two refreshes, whatever lifetime a server grants.
const SHORTEST: Duration = Duration::from_secs(10);

/// A refresh that is not answered is tried again after this, as long as the allocation may be
/// there: a network that is gone for some seconds takes none with it.
const REFRESH_AGAIN: Duration = Duration::from_secs(5);

/// An allocation is looked after at most so often when there is doubt about it.
const DOUBT: Duration = Duration::from_secs(5);

/// How often one request is made again for a nonce that has gone stale.
const MAX_STALE: u8 = 3;

/// UDP, as a relay's transport.
const TRANSPORT_UDP: [u8; 4] = [17, 0, 0, 0];

/// Address family IPv6, as REQUESTED-ADDRESS-FAMILY has it.
const FAMILY_IPV6: [u8; 4] = [2, 0, 0, 0];

/// What a request of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Allocate,
    Refresh,
    Bind(u16),
    /// Gives back what the server has for our socket from before.
    Discard,
}

#[derive(Debug)]
struct Asked {
    transaction: Transaction,
    purpose: Purpose,
    /// Nonces that were stale so far.
    stale: u8,
}

/// What the server made of us (RFC 8489 §9.2).
#[derive(Debug)]
struct Session {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: [u8; 16],
}

/// The allocation of one TURN server, from one socket (RFC 8656).
///
/// Peers are reached through channels alone, which install their permissions; what a peer
/// sends from an address that has no channel yet comes as a Data indication.
#[derive(Debug)]
pub(crate) struct TurnClient {
    login: Login,
    session: Option<Session>,
    asked: Vec<Asked>,
    /// The least time that an answer has taken.
    round_trip: Option<Duration>,
    start: Option<Instant>,
    wants_ipv6: bool,
    is_stream: bool,
    relayed: Option<SocketAddr>,
    refresh_at: Option<Instant>,
    /// When the server forgets the allocation.
    ends_at: Option<Instant>,
    /// When it was last looked after out of doubt.
    doubted: Option<Instant>,
    /// Whether an allocation of ours that the server still has is to make room.
    may_discard: bool,
    pub(crate) channels: Channels,
    is_settled: bool,
}

impl TurnClient {
    pub(crate) fn new(at: Instant, login: Login, wants_ipv6: bool, is_stream: bool) -> Self {
        Self {
            login,
            session: None,
            asked: Vec::new(),
            round_trip: None,
            start: Some(at),
            wants_ipv6,
            is_stream,
            relayed: None,
            refresh_at: None,
            ends_at: None,
            doubted: None,
            may_discard: false,
            channels: Channels::default(),
            is_settled: false,
        }
    }

    /// Makes an allocation in place of one that was lost, of which the server may still know.
    pub(crate) fn again(at: Instant, login: Login, wants_ipv6: bool, is_stream: bool) -> Self {
        Self { may_discard: true, ..Self::new(at, login, wants_ipv6, is_stream) }
    }

    /// Asks for the allocation to be refreshed, since it may be gone: nothing comes through it.
    pub(crate) fn doubt(&mut self, now: Instant) {
        let is_asked = self.asked.iter().any(|asked| asked.purpose == Purpose::Refresh);
        let lately = self.doubted.is_some_and(|at| now.saturating_duration_since(at) < DOUBT);
        if self.relayed.is_some() && !is_asked && !lately {
            self.doubted = Some(now);
            self.refresh_at = Some(now);
        }
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The server has answered somebody in this time.
    pub(crate) fn learn(&mut self, round_trip: Duration) {
        self.round_trip = Some(self.round_trip.map_or(round_trip, |least| least.min(round_trip)));
        self.asked.iter_mut().for_each(|asked| asked.transaction.learn(rto(round_trip)));
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// The address that is relayed to us, while it is.
    pub(crate) fn relayed(&self) -> Option<SocketAddr> {
        self.relayed
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let asked = self.asked.iter().map(|asked| asked.transaction.next());
        let channels = self.channels.poll_timeout();
        asked.chain(self.start).chain(self.refresh_at).chain(channels).min()
    }

    /// `in_use` says of a channel whether it is worth keeping.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        in_use: impl Fn(u16) -> bool,
        ids: &mut Seeds,
        actions: &mut Vec<Action>,
    ) {
        if self.start.take_if(|at| *at <= now).is_some() {
            self.ask(now, Purpose::Allocate, 0, ids);
        }
        if self.refresh_at.take_if(|at| *at <= now).is_some() {
            self.ask(now, Purpose::Refresh, 0, ids);
        }
        for number in self.channels.due(now, in_use) {
            self.ask(now, Purpose::Bind(number), 0, ids);
        }
        let mut expired = Vec::new();
        self.asked.retain_mut(|asked| match asked.transaction.step(now) {
            Step::Wait => true,
            Step::Send(datagram) => {
                actions.push(Action::Transmit(datagram));
                true
            }
            Step::Expired => {
                expired.push(asked.purpose);
                false
            }
        });
        for purpose in expired {
            self.give_up(now, purpose, ServerFailure::TimedOut, actions);
        }
    }

    fn ask(&mut self, now: Instant, purpose: Purpose, stale: u8, ids: &mut Seeds) {
        let id = ids.transaction_id();
        let lifetime = if purpose == Purpose::Discard { 0 } else { LIFETIME };
        let lifetime = lifetime.to_be_bytes();
        let request = match purpose {
            Purpose::Allocate => {
                let allocate = Builder::new(Class::Request, method::ALLOCATE, id)
                    .attribute(attribute::REQUESTED_TRANSPORT, &TRANSPORT_UDP);
                if self.wants_ipv6 {
                    allocate.attribute(attribute::REQUESTED_ADDRESS_FAMILY, &FAMILY_IPV6)
                } else {
                    allocate
                }
            }
            Purpose::Refresh | Purpose::Discard => {
                Builder::new(Class::Request, method::REFRESH, id)
                    .attribute(attribute::LIFETIME, &lifetime)
            }
            Purpose::Bind(number) => {
                let Some(peer) = self.channels.peer(number) else { return };
                let [high, low] = number.to_be_bytes();
                Builder::new(Class::Request, method::CHANNEL_BIND, id)
                    .attribute(attribute::CHANNEL_NUMBER, &[high, low, 0, 0])
                    .xor_address(attribute::XOR_PEER_ADDRESS, peer)
            }
        };
        let first = self.round_trip.map_or(FIRST_RTO, rto);
        let transaction =
            Transaction::new(now, id, self.sign(request), self.is_stream).with_rto(first);
        self.asked.push(Asked { transaction, purpose, stale });
    }

    fn sign(&self, request: Builder) -> Bytes {
        match &self.session {
            None => request.finish(),
            Some(session) => request
                .attribute(attribute::USERNAME, self.login.username.as_bytes())
                .attribute(attribute::REALM, &session.realm)
                .attribute(attribute::NONCE, &session.nonce)
                .finish_with(&session.key),
        }
    }

    /// Takes an answer of the server.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        message: Message<'_>,
        ids: &mut Seeds,
        actions: &mut Vec<Action>,
    ) -> Taken {
        let Some(at) = self.asked.iter().position(|asked| asked.transaction.id == message.id)
        else {
            return Taken::Unasked;
        };
        let Asked { purpose, stale, .. } = self.asked[at];
        let code = (message.class == Class::Error).then(|| message.error_code());
        // 401 and 438 tell how to sign, 300 where to go: none of them is signed
        // (RFC 8489 §9.2.5). Whatever else answers a signed request has to be.
        if let Some(session) = &self.session
            && !matches!(code, Some(Some(300 | 401 | 438)))
            && !message.verify(&session.key)
        {
            return Taken::Forged;
        }
        let taken = self.asked.swap_remove(at).transaction.round_trip(now);
        self.learn(taken);
        match code {
            None if purpose != Purpose::Discard => self.succeeded(now, purpose, message, actions),
            Some(Some(401)) if self.session.is_none() && self.take_session(message) => {
                self.ask(now, purpose, stale, ids);
            }
            // Credentials that were good are asked for again by a server that has restarted.
            Some(Some(401))
                if self.relayed.is_some() && stale < MAX_STALE && self.take_session(message) =>
            {
                self.ask(now, purpose, stale + 1, ids);
            }
            Some(Some(438)) if stale < MAX_STALE && self.take_session(message) => {
                self.ask(now, purpose, stale + 1, ids);
            }
            // The server has no relays on IPv6; one on IPv4 is better than none.
            Some(Some(440)) if purpose == Purpose::Allocate && self.wants_ipv6 => {
                self.wants_ipv6 = false;
                self.ask(now, purpose, stale, ids);
            }
            Some(Some(300)) if purpose == Purpose::Allocate => {
                self.is_settled = true;
                actions.push(match message.address(attribute::ALTERNATE_SERVER) {
                    Some(server) => Action::Redirected(server),
                    None => Action::Failed(ServerFailure::Malformed),
                });
            }
            Some(Some(437)) if purpose == Purpose::Allocate && self.may_discard => {
                self.may_discard = false;
                self.ask(now, Purpose::Discard, 0, ids);
            }
            // Whatever it says, there is no such allocation now.
            None | Some(_) if purpose == Purpose::Discard => {
                self.ask(now, Purpose::Allocate, 0, ids);
            }
            None => {}
            Some(code) => {
                let reason = code.map_or(ServerFailure::Malformed, ServerFailure::of_code);
                self.give_up(now, purpose, reason, actions);
            }
        }
        // What was asked again leaves at once.
        self.handle_timeout(now, |_| true, ids, actions);
        Taken::Yes
    }

    /// Learns how to sign from a 401 or a 438.
    fn take_session(&mut self, message: Message<'_>) -> bool {
        let text = |kind| message.attribute(kind).filter(|text| text.len() <= MAX_TEXT);
        let Some(nonce) = text(attribute::NONCE) else { return false };
        let realm = match (text(attribute::REALM), &self.session) {
            (Some(realm), _) => realm.to_vec(),
            (None, Some(session)) => session.realm.clone(),
            (None, None) => return false,
        };
        let Ok(name) = std::str::from_utf8(&realm) else { return false };
        let key = long_term_key(&self.login.username, name, &self.login.credential);
        self.session = Some(Session { realm, nonce: nonce.to_vec(), key });
        true
    }

    fn succeeded(
        &mut self,
        now: Instant,
        purpose: Purpose,
        message: Message<'_>,
        actions: &mut Vec<Action>,
    ) {
        match purpose {
            Purpose::Allocate => {
                let relayed = message.address(attribute::XOR_RELAYED_ADDRESS);
                let Some(relayed) = relayed.filter(|relayed| relayed.port() != 0) else {
                    return self.give_up(now, purpose, ServerFailure::Malformed, actions);
                };
                self.granted(now, message);
                self.relayed = Some(relayed);
                self.is_settled = true;
                let mapped = message.address(attribute::XOR_MAPPED_ADDRESS);
                actions.push(Action::Allocated { relayed, mapped });
            }
            Purpose::Refresh => self.granted(now, message),
            Purpose::Discard => {}
            Purpose::Bind(number) => {
                for datagram in self.channels.bound(now, number) {
                    actions.push(Action::TransmitOn(number, datagram));
                }
            }
        }
    }

    /// Notes how long the allocation lasts.
    fn granted(&mut self, now: Instant, message: Message<'_>) {
        let lifetime = message.number(attribute::LIFETIME).unwrap_or(LIFETIME).min(3600);
        let lifetime = Duration::from_secs(lifetime.into());
        self.refresh_at = Some(now + lifetime.saturating_sub(REFRESH_EARLY).max(SHORTEST));
        self.ends_at = Some(now + lifetime);
    }

    fn give_up(
        &mut self,
        now: Instant,
        purpose: Purpose,
        reason: ServerFailure,
        actions: &mut Vec<Action>,
    ) {
        match purpose {
            // One peer that the server does not relay to says nothing about the others.
            Purpose::Bind(number) if reason != ServerFailure::AllocationMismatch => {
                self.channels.refused(now, number);
                actions.push(Action::PeerRefused(reason));
            }
            Purpose::Refresh
                if reason == ServerFailure::TimedOut
                    && self.ends_at.is_some_and(|end| now < end) =>
            {
                self.refresh_at = Some(now + REFRESH_AGAIN);
            }
            _ => self.fail(reason, actions),
        }
    }

    /// The allocation is gone, or never was.
    pub(crate) fn fail(&mut self, reason: ServerFailure, actions: &mut Vec<Action>) {
        let had_failed = std::mem::replace(&mut self.is_settled, true) && self.relayed.is_none();
        if let Some(relayed) = self.relayed.take() {
            actions.push(Action::Lost(relayed));
        }
        self.asked.clear();
        self.channels = Channels::default();
        (self.start, self.refresh_at) = (None, None);
        if !had_failed {
            actions.push(Action::Failed(reason));
        }
    }

    /// Whom a channel leads to.
    pub(crate) fn peer(&self, number: u16) -> Option<SocketAddr> {
        self.relayed.and_then(|_| self.channels.peer(number))
    }

    /// Has the channel to a peer bound, if it is not yet. Some are left for peers that nobody has
    /// signalled, whose checks show where they are.
    pub(crate) fn prepare(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        ids: &mut Seeds,
        actions: &mut Vec<Action>,
    ) {
        if self.relayed.is_none() || self.channels.are_few_left() {
            return;
        }
        let Some(number) = self.channels.number(peer) else { return };
        if self.channels.begin(now, number) {
            self.ask(now, Purpose::Bind(number), 0, ids);
            self.handle_timeout(now, |_| true, ids, actions);
        }
    }

    /// Sends to a peer: on its channel, or when that is bound. Until then in an indication, if the
    /// server has a permission for the peer's address already, from another channel
    /// (RFC 8656 §12: it is the IP address that counts). Returns whether it was taken.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        number: u16,
        datagram: Bytes,
        ids: &mut Seeds,
        actions: &mut Vec<Action>,
    ) -> bool {
        if self.channels.is_bound(now, number) {
            actions.push(Action::TransmitOn(number, datagram));
            return true;
        }
        let (queued, bind) = match self.channels.permitted(number) {
            Some(peer) => {
                let indication =
                    Builder::new(Class::Indication, method::SEND, ids.transaction_id())
                        .xor_address(attribute::XOR_PEER_ADDRESS, peer)
                        .attribute(attribute::DATA, &datagram);
                actions.push(Action::Transmit(indication.finish()));
                (true, self.channels.begin(now, number))
            }
            None => self.channels.queue(now, number, datagram),
        };
        if bind {
            self.ask(now, Purpose::Bind(number), 0, ids);
            self.handle_timeout(now, |_| true, ids, actions);
        }
        debug_assert!(!bind || queued, "at least {MAX_QUEUED} datagrams wait for a channel");
        queued
    }

    /// Gives the allocation back, by one request that nobody waits for.
    pub(crate) fn release(&mut self, ids: &mut Seeds, actions: &mut Vec<Action>) {
        if self.relayed.take().is_some() {
            let id = ids.transaction_id();
            let request = Builder::new(Class::Request, method::REFRESH, id)
                .attribute(attribute::LIFETIME, &0u32.to_be_bytes());
            actions.push(Action::Transmit(self.sign(request)));
        }
    }
}
