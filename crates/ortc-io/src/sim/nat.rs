use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Host, Network};

/// How long an unused mapping lives: two minutes, the least that RFC 4787 (REQ-5) allows.
const MAPPING_TIMEOUT: Duration = Duration::from_secs(120);

/// Mappings of one NAT; beyond that, new ones are refused as a real one would.
const MAX_MAPPINGS: usize = 16_384;

/// The first public port that a NAT gives out.
const FIRST_PORT: u16 = 20_000;

/// The usual kinds of network address translators, by RFC 3489's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// One public address per inner socket; anyone may send to it (RFC 4787:
    /// endpoint-independent mapping and filtering).
    FullCone,
    /// One public address per inner socket; only IP addresses that it has sent to may answer
    /// (address-dependent filtering).
    AddressRestricted,
    /// One public address per inner socket; only IP address and port pairs that it has sent
    /// to may answer (address- and port-dependent filtering).
    PortRestricted,
    /// Another public port per destination, and only that destination may answer (address-
    /// and port-dependent mapping and filtering).
    Symmetric,
}

/// A handle to a NAT of a simulated network; see [`Network::nat`].
///
/// It translates the address family of its public address; the other family stays inside.
#[derive(Debug, Clone)]
pub struct Nat {
    pub(super) network: Network,
    pub(super) index: usize,
}

impl Nat {
    /// Puts a host behind this NAT. Private addresses may be those of other networks.
    ///
    /// # Panics
    /// When there is another host with one of the addresses behind it.
    pub fn host(&self, name: &str, addresses: &[IpAddr]) -> Host {
        self.network.add_host(name, addresses, self.index + 1)
    }

    /// Puts a NAT behind this NAT, as carriers do.
    pub fn nat(&self, name: &str, kind: NatKind, public: IpAddr) -> Nat {
        self.network.add_nat(name, kind, public, self.index + 1)
    }

    /// Sets after how long without an outgoing datagram a mapping is forgotten; 120 s at
    /// first.
    pub fn set_timeout(&self, timeout: Duration) {
        self.network.lock().nats[self.index].timeout = timeout;
    }

    /// Sets whether inner hosts reach each other through their public addresses; off at
    /// first.
    pub fn set_hairpinning(&self, on: bool) {
        self.network.lock().nats[self.index].hairpinning = on;
    }

    /// Forgets all mappings, as a restarted router does; public ports will be new ones.
    pub fn restart(&self) {
        self.network.lock().nats[self.index].mappings.clear();
    }

    /// The address by which the world knows the hosts behind it.
    pub fn public(&self) -> IpAddr {
        self.network.lock().nats[self.index].public
    }
}

#[derive(Debug)]
struct Mapping {
    inner: SocketAddr,
    /// The one destination it is for, in a symmetric NAT.
    only: Option<SocketAddr>,
    port: u16,
    /// When something was last sent through it.
    used: Instant,
    /// Who was sent something, and when last.
    contacted: Vec<(SocketAddr, Instant)>,
}

#[derive(Debug)]
pub(super) struct Translator {
    pub(super) name: String,
    pub(super) kind: NatKind,
    pub(super) public: IpAddr,
    /// The realm of its public side.
    pub(super) outer: usize,
    pub(super) timeout: Duration,
    pub(super) hairpinning: bool,
    mappings: Vec<Mapping>,
    next_port: u16,
}

impl Translator {
    pub(super) fn new(name: &str, kind: NatKind, public: IpAddr, outer: usize) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            public,
            outer,
            timeout: MAPPING_TIMEOUT,
            hairpinning: false,
            mappings: Vec::new(),
            next_port: FIRST_PORT,
        }
    }

    /// Translates the source of an outgoing datagram; `None` when it cannot.
    pub(super) fn outbound(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        if to.is_ipv4() != self.public.is_ipv4() {
            return None;
        }
        let timeout = self.timeout;
        self.mappings.retain(|mapping| now.duration_since(mapping.used) < timeout);
        let only = (self.kind == NatKind::Symmetric).then_some(to);
        let known = self.mappings.iter().position(|m| m.inner == from && m.only == only);
        let index = match known {
            Some(index) => index,
            None if self.mappings.len() == MAX_MAPPINGS => return None,
            None => {
                let port = self.free_port();
                self.mappings.push(Mapping {
                    inner: from,
                    only,
                    port,
                    used: now,
                    contacted: Vec::new(),
                });
                self.mappings.len() - 1
            }
        };
        let mapping = &mut self.mappings[index];
        mapping.used = now;
        mapping.contacted.retain(|(_, at)| now.duration_since(*at) < timeout);
        match mapping.contacted.iter_mut().find(|(address, _)| *address == to) {
            Some((_, at)) => *at = now,
            None => mapping.contacted.push((to, now)),
        }
        Some(SocketAddr::new(self.public, mapping.port))
    }

    /// Translates the destination of an incoming datagram; `None` when it is filtered.
    pub(super) fn inbound(
        &self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let fresh = |at: Instant| now.duration_since(at) < self.timeout;
        let mapping = self.mappings.iter().find(|m| m.port == to.port() && fresh(m.used))?;
        let mut contacted = mapping.contacted.iter().filter(|(_, at)| fresh(*at));
        let admitted = match self.kind {
            NatKind::FullCone => true,
            NatKind::AddressRestricted => contacted.any(|(address, _)| address.ip() == from.ip()),
            NatKind::PortRestricted | NatKind::Symmetric => {
                contacted.any(|(address, _)| *address == from)
            }
        };
        admitted.then_some(mapping.inner)
    }

    /// Who is behind a public port, filtered or not.
    pub(super) fn behind(&self, port: u16) -> Option<SocketAddr> {
        self.mappings.iter().find(|mapping| mapping.port == port).map(|mapping| mapping.inner)
    }

    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if self.mappings.iter().all(|mapping| mapping.port != port) {
                return port;
            }
        }
    }
}
