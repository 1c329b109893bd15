use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::DatagramKind;

/// What became of a simulated datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It has not arrived yet.
    InFlight,
    /// It was put into the receive buffer of a socket.
    Delivered,
    /// The link lost it.
    Lost,
    /// The queue of the link was full.
    QueueFull,
    /// It was longer than the MTU of the link allows.
    TooLong,
    /// The two hosts are partitioned.
    Partitioned,
    /// Its source address is down, or its destination is nobody's.
    NoRoute,
    /// A NAT let nobody in from there, or does not hairpin.
    Filtered,
    /// No socket is bound where it arrived.
    Unheard,
    /// The receive buffer of the socket was full.
    BufferFull,
    /// A tap took it off the wire.
    Intercepted,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InFlight => "in flight",
            Self::Delivered => "delivered",
            Self::Lost => "lost",
            Self::QueueFull => "queue full",
            Self::TooLong => "too long",
            Self::Partitioned => "partitioned",
            Self::NoRoute => "no route",
            Self::Filtered => "filtered",
            Self::Unheard => "unheard",
            Self::BufferFull => "buffer full",
            Self::Intercepted => "intercepted",
        })
    }
}

/// One datagram in the life of a simulated network, in the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TranscriptEntry {
    /// When it was sent, since the start of the simulation.
    pub at: Duration,
    /// The address it was sent from.
    pub from: SocketAddr,
    /// The address that its receiver sees it come from; another one than
    /// [`from`](Self::from) behind a NAT.
    pub seen_from: SocketAddr,
    /// The address it was sent to.
    pub to: SocketAddr,
    /// Its kind by RFC 7983.
    pub kind: DatagramKind,
    /// Its length in bytes.
    pub len: usize,
    /// What became of it.
    pub fate: Fate,
    /// When it arrived, since the start of the simulation.
    pub arrived: Option<Duration>,
}

impl fmt::Display for TranscriptEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DatagramKind::Stun => "stun",
            DatagramKind::Dtls => "dtls",
            DatagramKind::TurnChannel => "turn",
            DatagramKind::Rtp => "rtp",
            DatagramKind::Rtcp => "rtcp",
            DatagramKind::Unknown => "unknown",
        };
        let ms = self.at.as_secs_f64() * 1e3;
        write!(f, "{ms:>12.3} ms  {}", self.from)?;
        if self.seen_from != self.from {
            write!(f, " ({})", self.seen_from)?;
        }
        write!(f, " > {}  {kind} {}  {}", self.to, self.len, self.fate)?;
        match self.arrived {
            Some(arrived) => write!(f, " at {:.3} ms", arrived.as_secs_f64() * 1e3),
            None => Ok(()),
        }
    }
}

/// The first so many datagrams, and the count of the rest.
#[derive(Debug)]
pub(super) struct Transcript {
    entries: Vec<TranscriptEntry>,
    limit: usize,
    unrecorded: u64,
}

impl Transcript {
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), limit, unrecorded: 0 }
    }

    /// Records a datagram; returns where, for [`conclude`](Self::conclude).
    pub(super) fn record(&mut self, entry: TranscriptEntry) -> Option<usize> {
        if self.entries.len() == self.limit {
            self.unrecorded += 1;
            return None;
        }
        self.entries.push(entry);
        Some(self.entries.len() - 1)
    }

    pub(super) fn see_from(&mut self, index: Option<usize>, seen_from: SocketAddr) {
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.seen_from = seen_from;
        }
    }

    pub(super) fn conclude(&mut self, index: Option<usize>, fate: Fate, arrived: Option<Duration>) {
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.fate = fate;
            entry.arrived = arrived;
        }
    }

    pub(super) fn entries(&self) -> &[TranscriptEntry] {
        &self.entries
    }

    pub(super) fn unrecorded(&self) -> u64 {
        self.unrecorded
    }
}
