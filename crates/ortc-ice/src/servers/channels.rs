use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// The first channel number (RFC 8656 §12).
const FIRST: u16 = 0x4000;

/// Most peers of an allocation: those that are signalled, and some that are learned.
pub(crate) const MAX_PEERS: usize = 128;

/// How many are left for those.
const LEARNED: usize = 28;

/// Datagrams to one peer that wait for its channel: a check, and its retransmissions.
pub(crate) const MAX_QUEUED: usize = 4;

/// How often a channel is bound again: it lasts for 10 minutes, its permission for 5
/// (RFC 8656 §12.3 and §9).
const REBIND: Duration = Duration::from_secs(240);

/// A peer that the server would not relay to is asked for again after this, at the earliest.
const REFUSED: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not wanted yet, or not any more.
    Idle,
    /// Asked for.
    Binding,
    /// Bound; to be bound again at that time.
    Bound(Instant),
    /// Bound, and being bound again.
    Rebinding,
    /// Refused; nothing is sent until then.
    Refused(Instant),
}

#[derive(Debug)]
struct Channel {
    peer: SocketAddr,
    state: State,
    waiting: VecDeque<Bytes>,
}

/// The channels of an allocation: a number for each peer, for good.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// By number, from [`FIRST`] on.
    channels: Vec<Channel>,
}

impl Channels {
    /// The number of a peer's channel; `None` when there are too many peers.
    pub(crate) fn number(&mut self, peer: SocketAddr) -> Option<u16> {
        let known = self.channels.iter().position(|channel| channel.peer == peer);
        let index = match known {
            Some(index) => index,
            None if self.channels.len() >= MAX_PEERS => return None,
            None => {
                let waiting = VecDeque::new();
                self.channels.push(Channel { peer, state: State::Idle, waiting });
                self.channels.len() - 1
            }
        };
        // At most `MAX_PEERS`.
        Some(FIRST + index as u16)
    }

    /// Whether those that are left are for peers that are learned of.
    pub(crate) fn are_few_left(&self) -> bool {
        self.channels.len() + LEARNED >= MAX_PEERS
    }

    fn get(&self, number: u16) -> Option<&Channel> {
        self.channels.get(usize::from(number.checked_sub(FIRST)?))
    }

    fn get_mut(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number.checked_sub(FIRST)?))
    }

    pub(crate) fn peer(&self, number: u16) -> Option<SocketAddr> {
        self.get(number).map(|channel| channel.peer)
    }

    /// Whether it may be sent on.
    pub(crate) fn is_bound(&self, _now: Instant, number: u16) -> bool {
        let state = self.get(number).map(|channel| channel.state);
        matches!(state, Some(State::Bound(_) | State::Rebinding))
    }

    /// The peer of a channel that is not bound, if the server is known to relay to its address, as
    /// another channel to that is bound.
    pub(crate) fn permitted(&self, number: u16) -> Option<SocketAddr> {
        let Channel { peer, state, .. } = self.get(number)?;
        let is_bound = |state| matches!(state, State::Bound(_) | State::Rebinding);
        let is_refused = matches!(state, State::Refused(_));
        let mut others = self.channels.iter().filter(|channel| is_bound(channel.state));
        let is_permitted = !is_refused && others.any(|channel| channel.peer.ip() == peer.ip());
        is_permitted.then_some(*peer)
    }

    /// Whether the channel is to be bound now, which it counts as being from then on.
    pub(crate) fn begin(&mut self, now: Instant, number: u16) -> bool {
        let Some(channel) = self.get_mut(number) else { return false };
        let begins = match channel.state {
            State::Idle => true,
            State::Refused(until) => until <= now,
            _ => false,
        };
        if begins {
            channel.state = State::Binding;
        }
        begins
    }

    /// Keeps a datagram until the channel is bound; the oldest makes room. Returns whether it
    /// was kept, and whether the channel is to be bound now.
    pub(crate) fn queue(&mut self, now: Instant, number: u16, datagram: Bytes) -> (bool, bool) {
        let bind = self.begin(now, number);
        let Some(channel) = self.get_mut(number) else { return (false, false) };
        if matches!(channel.state, State::Refused(_)) {
            return (false, false);
        }
        if channel.waiting.len() >= MAX_QUEUED {
            channel.waiting.pop_front();
        }
        channel.waiting.push_back(datagram);
        (true, bind)
    }

    /// A channel is bound; returns what has waited for it.
    pub(crate) fn bound(&mut self, now: Instant, number: u16) -> VecDeque<Bytes> {
        let Some(channel) = self.get_mut(number) else { return VecDeque::new() };
        channel.state = State::Bound(now + REBIND);
        std::mem::take(&mut channel.waiting)
    }

    /// The server does not relay to that peer.
    pub(crate) fn refused(&mut self, now: Instant, number: u16) {
        if let Some(channel) = self.get_mut(number) {
            channel.state = State::Refused(now + REFUSED);
            channel.waiting = VecDeque::new();
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.channels.iter().filter_map(|channel| match channel.state {
            State::Bound(at) => Some(at),
            _ => None,
        });
        due.min()
    }

    /// The channels that are to be bound again; those that are out of use lapse.
    pub(crate) fn due(&mut self, now: Instant, in_use: impl Fn(u16) -> bool) -> Vec<u16> {
        let mut due = Vec::new();
        for (number, channel) in (FIRST..).zip(&mut self.channels) {
            if matches!(channel.state, State::Bound(at) if at <= now) {
                channel.state = if in_use(number) {
                    due.push(number);
                    State::Rebinding
                } else {
                    State::Idle
                };
            }
        }
        due
    }
}
