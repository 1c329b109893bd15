//! TCP candidates (RFC 6544): which streams there are, and between which ends of the engine.
//!
//! A stream is a path of its own, a socket with one remote address. To the engine it is a pair of
//! candidates like any other, which has nothing to send on while there is no stream:
//!
//! | | our end | the peer's end |
//! |---|---|---|
//! | [`Carrier::Outgoing`] | an active candidate, port 9 | a passive candidate as signalled |
//! | [`Carrier::Incoming`] | a passive candidate | one of 16 places, since the peer's port is another one each time |
//!
//! We connect with the first check of a pair, which waits meanwhile, and again, later each time,
//! when a stream has ended. Nothing is opened while a path over UDP does.

mod agent;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::{Encapsulation, Path, SocketId};

use crate::description::Carrier;
use crate::engine::Ends;

/// Most streams that we open at once.
const MAX_OUTGOING: usize = 16;

/// Most streams of the peer. One is enough; a peer that is roaming has some that have not ended
/// yet.
const MAX_INCOMING: usize = 16;

/// How long a stream may be of no use: no check has passed on it either way.
const IDLE: Duration = Duration::from_secs(15);

/// When a stream is opened again: at once after one that was of use, then after this, and twice
/// as long each time, up to the longest.
const RETRY: Duration = Duration::from_millis(250);
const MAX_RETRY: Duration = Duration::from_secs(16);

/// How long a peer that opens streams has to open another one, before it is told that there is no
/// path: a round trip or two, and a retransmission.
pub(crate) const COMING_BACK: Duration = Duration::from_secs(2);

/// The bit that tells tokens of streams and ports from those of sockets. (Those of streams to
/// servers have the one above.)
const TOKEN: u64 = 1 << 62;

/// Stand for the places of the peer's streams: reserved (RFC 1112 §4) and for discarding
/// (RFC 6666), so that no candidate has them. The port is the place.
const PLACES_V4: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
const PLACES_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);

/// A stream that we open.
#[derive(Debug)]
struct Outgoing {
    /// Our active candidate, and the peer's passive one.
    local: SocketAddr,
    remote: SocketAddr,
    state: State,
    /// Streams in a row that were of no use.
    failures: u32,
}

#[derive(Debug)]
enum State {
    /// The latest check waits for it.
    Opening {
        token: u64,
        check: Bytes,
    },
    Open {
        socket: SocketId,
        since: Instant,
    },
    Closed {
        retry_at: Instant,
    },
}

/// A stream that the peer has opened.
#[derive(Debug)]
struct Incoming {
    socket: SocketId,
    /// Our passive candidate, and where the stream is from.
    local: SocketAddr,
    source: SocketAddr,
    since: Instant,
}

/// A port at which the peer connects.
#[derive(Debug)]
struct Port {
    token: u64,
    /// The address of this host that it is for; `None` for the one that connections share.
    ip: Option<IpAddr>,
    tried: u32,
    /// Its address, once it is open.
    local: Option<SocketAddr>,
}

/// All streams to the peer, and the ports where it can open some.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    outgoing: Vec<Outgoing>,
    /// By place; none before the first, as most connections never have one.
    incoming: Vec<Option<Incoming>>,
    ports: Vec<Port>,
    tokens: u64,
    /// When the last stream has ended by itself.
    ended_at: Option<Instant>,
}

/// What is to be done about a check that has no stream yet.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// Open one.
    Open { token: u64 },
    /// It waits, or is not sent.
    Nothing,
    /// There are too many.
    TooMany,
}

/// The end of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Gone {
    socket: SocketId,
    ends: Ends,
}

impl Streams {
    fn token(&mut self) -> u64 {
        self.tokens += 1;
        TOKEN | self.tokens
    }

    /// Whether ports are still awaited.
    pub(crate) fn is_asking(&self) -> bool {
        self.ports.iter().any(|port| port.local.is_none())
    }

    /// The ends of a stream.
    pub(crate) fn ends(&self, socket: SocketId) -> Option<Ends> {
        let of_outgoing = |it: &Outgoing| match it.state {
            State::Open { socket: open, .. } if open == socket => Some(it.ends()),
            _ => None,
        };
        self.outgoing.iter().find_map(of_outgoing).or_else(|| {
            let incoming = |(place, it): (usize, &Option<Incoming>)| {
                it.as_ref().filter(|it| it.socket == socket).map(|it| it.ends(place))
            };
            self.incoming.iter().enumerate().find_map(incoming)
        })
    }

    /// The path between two ends, if there is a stream.
    pub(crate) fn path_between(&self, ends: Ends) -> Option<Path> {
        let (socket, remote) = match ends.carrier {
            Carrier::Udp => return None,
            Carrier::Outgoing => {
                let it = self.outgoing.iter().find(|it| it.ends() == ends)?;
                let State::Open { socket, .. } = it.state else { return None };
                (socket, it.remote)
            }
            Carrier::Incoming => {
                let place = usize::from(ends.remote.port().checked_sub(1)?);
                let it = self.incoming.get(place)?.as_ref().filter(|it| it.ends(place) == ends)?;
                (it.socket, it.source)
            }
        };
        Some(Path { socket, remote, encapsulation: Encapsulation::Rfc4571 })
    }

    /// Has a check wait for a stream of its own.
    fn want(&mut self, now: Instant, ends: Ends, check: Bytes) -> Wanted {
        let Ends { local, remote, .. } = ends;
        let known = self.outgoing.iter().position(|it| it.ends() == ends);
        let at = match known {
            Some(at) => at,
            None if self.outgoing.len() >= MAX_OUTGOING => return Wanted::TooMany,
            None => {
                let state = State::Closed { retry_at: now };
                self.outgoing.push(Outgoing { local, remote, state, failures: 0 });
                self.outgoing.len() - 1
            }
        };
        match &mut self.outgoing[at].state {
            State::Opening { check: waiting, .. } => *waiting = check,
            State::Closed { retry_at } if *retry_at <= now => {
                let token = self.token();
                self.outgoing[at].state = State::Opening { token, check };
                return Wanted::Open { token };
            }
            State::Open { .. } | State::Closed { .. } => {}
        }
        Wanted::Nothing
    }

    fn opening(&mut self, token: u64) -> Option<&mut Outgoing> {
        let is_it =
            |it: &&mut Outgoing| matches!(it.state, State::Opening { token: t, .. } if t == token);
        self.outgoing.iter_mut().find(is_it)
    }

    /// A stream is open; returns its ends and the check that has waited for it.
    fn opened(&mut self, now: Instant, token: u64, socket: SocketId) -> Option<(Ends, Bytes)> {
        let it = self.opening(token)?;
        let open = State::Open { socket, since: now };
        let State::Opening { check, .. } = std::mem::replace(&mut it.state, open) else {
            return None;
        };
        Some((it.ends(), check))
    }

    /// A stream could not be opened; false if it was none.
    fn open_failed(&mut self, now: Instant, token: u64) -> bool {
        self.opening(token).map(|it| it.close(now, false)).is_some()
    }

    /// The peer has opened a stream to a candidate of ours. `keeps` says which one must not make
    /// room; the oldest other one does. `None` if there is no room.
    fn accepted(
        &mut self,
        now: Instant,
        socket: SocketId,
        (local, source): (SocketAddr, SocketAddr),
        keeps: impl Fn(SocketId) -> bool,
    ) -> Option<Option<Gone>> {
        self.incoming.resize_with(MAX_INCOMING, || None);
        let free = self.incoming.iter().position(Option::is_none);
        let oldest = || {
            let others = self.incoming.iter().enumerate().filter_map(|(place, it)| {
                let it = it.as_ref().filter(|it| !keeps(it.socket))?;
                Some((it.since, place))
            });
            others.min().map(|(_, place)| place)
        };
        let place = free.or_else(oldest)?;
        let new = Incoming { socket, local, source, since: now };
        let old = self.incoming[place].replace(new);
        Some(old.map(|old| Gone { socket: old.socket, ends: old.ends(place) }))
    }

    /// A stream has ended. `was_of_use` says whether a check has been answered on it.
    fn ended(&mut self, now: Instant, socket: SocketId, was_of_use: bool) -> Option<Gone> {
        let ends = self.ends(socket)?;
        self.ended_at = Some(now);
        for it in &mut self.outgoing {
            if it.ends() == ends {
                it.close(now, was_of_use);
            }
        }
        self.incoming.iter_mut().for_each(|place| {
            place.take_if(|it| it.socket == socket);
        });
        Some(Gone { socket, ends })
    }

    /// Whether one has ended so lately that the peer may be about to open another.
    pub(crate) fn may_come_back(&self, now: Instant) -> bool {
        self.ended_at.is_some_and(|at| now.saturating_duration_since(at) < COMING_BACK)
    }

    /// Forgets streams between ends that are gone; returns those that are to be closed.
    fn forget(&mut self, gone: impl Fn(Ends) -> bool) -> Vec<SocketId> {
        let mut sockets = Vec::new();
        for it in self.outgoing.extract_if(.., |it| gone(it.ends())) {
            if let State::Open { socket, .. } = it.state {
                sockets.push(socket);
            }
        }
        for (place, it) in self.incoming.iter_mut().enumerate() {
            if let Some(it) = it.take_if(|it| gone(it.ends(place))) {
                sockets.push(it.socket);
            }
        }
        sockets
    }

    fn sockets(&self) -> impl Iterator<Item = (SocketId, Instant)> {
        let outgoing = self.outgoing.iter().filter_map(|it| match it.state {
            State::Open { socket, since } => Some((socket, since)),
            _ => None,
        });
        outgoing.chain(self.incoming.iter().flatten().map(|it| (it.socket, it.since)))
    }

    /// Streams that were of no use for too long; `is_used` says which are.
    fn idle(&self, now: Instant, is_used: impl Fn(SocketId) -> bool) -> Vec<SocketId> {
        let is_idle = |(socket, since): &(SocketId, Instant)| {
            now.saturating_duration_since(*since) >= IDLE && !is_used(*socket)
        };
        self.sockets().filter(is_idle).map(|(socket, _)| socket).collect()
    }

    /// When [`idle`](Self::idle) may have some.
    pub(crate) fn next_idle(&self, is_used: impl Fn(SocketId) -> bool) -> Option<Instant> {
        let unused = self.sockets().filter(|(socket, _)| !is_used(*socket));
        unused.map(|(_, since)| since + IDLE).min()
    }
}

impl Outgoing {
    fn ends(&self) -> Ends {
        Ends { carrier: Carrier::Outgoing, local: self.local, remote: self.remote }
    }

    fn close(&mut self, now: Instant, was_of_use: bool) {
        self.failures = if was_of_use { 0 } else { self.failures.saturating_add(1) };
        let wait = match self.failures {
            0 => Duration::ZERO,
            failures => (RETRY * (1 << (failures - 1).min(10))).min(MAX_RETRY),
        };
        self.state = State::Closed { retry_at: now + wait };
    }
}

impl Incoming {
    fn ends(&self, place: usize) -> Ends {
        let ip = match self.local {
            SocketAddr::V4(_) => IpAddr::V4(PLACES_V4),
            SocketAddr::V6(_) => IpAddr::V6(PLACES_V6),
        };
        // There are 16.
        let remote = SocketAddr::new(ip, place as u16 + 1);
        Ends { carrier: Carrier::Incoming, local: self.local, remote }
    }
}
