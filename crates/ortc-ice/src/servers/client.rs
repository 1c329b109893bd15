use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ortc_io::SocketId;

use super::retry::Held;
use super::{StunClient, TurnClient};

#[derive(Debug)]
pub(super) enum Core {
    Stun(StunClient),
    Turn(Box<TurnClient>),
}

/// One server that is asked, from one socket or through one stream.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) server: usize,
    pub(super) address: SocketAddr,
    pub(super) link: Link,
    pub(super) core: Core,
    pub(super) redirects: u8,
    pub(super) held: Held,
    /// Attempts to make it again since it was lost.
    pub(super) retries: u32,
    /// When the next one is due.
    pub(super) again: Option<Instant>,
    /// The socket of a candidate that it asks for; `None` if it has a stream.
    pub(super) base: Option<SocketId>,
}

/// What a client speaks through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Socket(SocketId),
    Stream(SocketId),
    Opening {
        token: u64,
        until: Instant,
    },
    /// The stream has closed.
    Closed,
}

impl Client {
    pub(super) fn new(
        server: usize,
        address: SocketAddr,
        link: Link,
        core: Core,
        redirects: u8,
        base: Option<SocketId>,
    ) -> Self {
        let (held, retries, again) = (Held::Never, 0, None);
        Self { server, address, link, core, redirects, held, retries, again, base }
    }

    pub(super) fn socket(&self) -> Option<SocketId> {
        match self.link {
            Link::Socket(socket) | Link::Stream(socket) => Some(socket),
            Link::Opening { .. } | Link::Closed => None,
        }
    }

    /// Whether it has a socket of its own, as that of the candidate is shared.
    pub(super) fn has_own_socket(&self) -> bool {
        self.base.is_some() && self.base != self.socket()
    }

    /// Whether its socket or stream is of no use without it.
    pub(super) fn closes_alone(&self) -> bool {
        self.has_own_socket() || self.is_stream() && !self.is_turn()
    }

    pub(super) fn is_settled(&self) -> bool {
        match &self.core {
            Core::Stun(stun) => stun.is_settled(),
            Core::Turn(turn) => turn.is_settled(),
        }
    }

    pub(super) fn has_succeeded(&self) -> bool {
        match &self.core {
            Core::Stun(stun) => stun.has_succeeded(),
            Core::Turn(turn) => turn.relayed().is_some(),
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self.link, Link::Stream(_))
    }

    pub(super) fn is_turn(&self) -> bool {
        matches!(self.core, Core::Turn(_))
    }

    /// How long the server has taken to answer, at most.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        match &self.core {
            Core::Stun(stun) => stun.round_trip(),
            Core::Turn(turn) => turn.round_trip(),
        }
    }

    /// Another client has had an answer in this time from the same server.
    pub(super) fn learn(&mut self, round_trip: Duration) {
        match &mut self.core {
            Core::Stun(stun) => stun.learn(round_trip),
            Core::Turn(turn) => turn.learn(round_trip),
        }
    }

    pub(super) fn relayed(&self) -> Option<SocketAddr> {
        match &self.core {
            Core::Turn(turn) => turn.relayed(),
            Core::Stun(_) => None,
        }
    }
}
