use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ortc_io::{InterfaceAddress, InterfaceKind, SharedSocket, SocketId};

use crate::aliases::Aliases;
use crate::description::{Carrier, Kind, is_link_local};
use crate::link_local::{to_bind, with_port};
use crate::random::SplitMix;
use crate::servers::Relay;
use crate::{
    CandidateTypes, Fork, IceConfig, InterfaceFilter, RTCIceCandidateDescription, SharedHost,
};

/// Most addresses that are gathered. A host with containers has some 20.
const MAX_LOCAL: usize = 32;

/// Ports of a range that are tried before an address is given up.
const MAX_PORTS_TRIED: u32 = 64;

/// Most server-reflexive candidates of one socket: a NAT behind another, twice.
const MAX_REFLEXIVE: usize = 4;

/// Stands where a candidate has no socket.
pub(crate) const NO_SOCKET: SocketId = SocketId { slot: u32::MAX, generation: u32::MAX };

/// The port of active TCP candidates, which have none (RFC 6544 §4.5).
const DISCARD: u16 = 9;

/// A candidate of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) kind: Kind,
    pub(crate) carrier: Carrier,
    /// The socket that it is sent from; [`NO_SOCKET`] of a TCP candidate, whose streams are.
    pub(crate) socket: SocketId,
    /// Its base (RFC 8445 §5.1.1.2): the address of the socket, or of the relay.
    pub(crate) address: SocketAddr,
    /// RFC 8445 §5.1.2.1, unlike that of any other.
    pub(crate) preference: u16,
    pub(crate) description: RTCIceCandidateDescription,
    /// The address that its candidate carries in place of its own.
    announced: Option<IpAddr>,
    /// Whether it goes when this host has its address no longer.
    follows_interface: bool,
    /// Whether the owner has let it take part.
    pub(crate) set: bool,
    /// Whether the owner never hears of it, as it does not want candidates of that type.
    pub(crate) hidden: bool,
}

impl Local {
    pub(crate) fn is_relayed(&self) -> bool {
        self.kind == Kind::Relayed
    }

    /// What pairs of it are known by.
    pub(crate) fn end(&self) -> (Carrier, SocketAddr) {
        (self.carrier, self.address)
    }
}

impl Local {
    /// What checks of it carry: the priority of a peer-reflexive candidate that may come of them
    /// (RFC 8445 §7.1.1).
    pub(crate) fn check_priority(&self) -> u32 {
        priority(Kind::PeerReflexive, self.preference)
    }

    /// What a fork is to know of it.
    pub(crate) fn shared_host(&self) -> SharedHost {
        SharedHost {
            shared: SharedSocket { socket: self.socket, local: self.address },
            announced: self.announced,
            from_wildcard: self.follows_interface,
        }
    }
}

/// An address that is being bound.
#[derive(Debug, Clone, Copy)]
struct Pending {
    token: u64,
    /// Without a port, and with a scope if it has one.
    address: SocketAddr,
    first_port: u32,
    tried: u32,
    shared: Option<SharedHost>,
}

/// A socket that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WantedSocket {
    pub(crate) token: u64,
    pub(crate) address: SocketAddr,
    /// The socket that has this address and is to be joined.
    pub(crate) shared: Option<SharedSocket>,
}

/// What a look at the interfaces has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) wanted: Vec<WantedSocket>,
    pub(crate) gone: Vec<Local>,
    /// Addresses over the limit.
    pub(crate) left_out: usize,
}

/// Gathers host candidates: one socket for each address that the filter admits, or those of
/// the sockets that are shared. Keeps what servers say of them, too.
#[derive(Debug)]
pub(crate) struct Gathering {
    filter: InterfaceFilter,
    types: CandidateTypes,
    ports: Option<RangeInclusive<u16>>,
    shared: Vec<SharedHost>,
    /// Of a fork, whether all sockets of its local side are known.
    fork: Option<Fork>,
    /// Whether forks may join.
    pub(crate) is_sharing: bool,
    random: SplitMix,
    awaits_interfaces: bool,
    /// Asked to gather again meanwhile.
    again: bool,
    pending: Vec<Pending>,
    /// Host candidates.
    found: Vec<Local>,
    /// Server-reflexive and relayed ones.
    of_servers: Vec<Local>,
    /// TCP ones.
    pub(crate) tcp: Vec<Local>,
    /// The addresses of this host that may be used, as of late, best first.
    admitted: Vec<SocketAddr>,
    /// TCP candidates found so far.
    tcp_found: u16,
    /// What hides addresses, if something does.
    pub(crate) aliases: Option<Aliases>,
    /// Relays found so far.
    relays: u16,
    next_token: u64,
    next_preference: u16,
}

impl Gathering {
    pub(crate) fn new(config: &IceConfig) -> Self {
        Self {
            filter: config.interfaces.clone(),
            types: config.candidate_types,
            ports: config.port_range.clone().filter(|ports| !ports.is_empty()),
            shared: config.shared.clone(),
            fork: config.fork,
            is_sharing: false,
            random: SplitMix::new(config.seed),
            awaits_interfaces: false,
            again: false,
            pending: Vec::new(),
            found: Vec::new(),
            of_servers: Vec::new(),
            tcp: Vec::new(),
            admitted: Vec::new(),
            tcp_found: 0,
            aliases: config.names.as_ref().map(|_| Aliases::new(config.seed)),
            relays: 0,
            next_token: 0,
            next_preference: u16::MAX,
        }
    }

    /// Starts, or starts again once the running gathering is over. Returns whether the
    /// interfaces are to be enumerated now.
    pub(crate) fn start(&mut self) -> bool {
        if self.is_asking() {
            self.again = true;
            return false;
        }
        self.awaits_interfaces = true;
        true
    }

    /// Whether an answer of the socket port is awaited.
    pub(crate) fn is_asking(&self) -> bool {
        self.awaits_interfaces || !self.pending.is_empty()
    }

    /// Takes sockets of the local side that a fork has; returns whether to gather again.
    pub(crate) fn add_shared(&mut self, hosts: Vec<SharedHost>, complete: bool) -> bool {
        let Some(fork) = &mut self.fork else { return false };
        fork.complete |= complete;
        let known = self.shared.len();
        for host in hosts {
            if self.shared.len() < MAX_LOCAL && !self.shared.contains(&host) {
                self.shared.push(host);
            }
        }
        self.shared.len() > known
    }

    /// Whether the gathering has come to its end; asked after each answer of the port.
    pub(crate) fn has_ended(&self) -> bool {
        !self.is_asking() && self.fork.is_none_or(|fork| fork.complete)
    }

    /// All candidates found so far.
    pub(crate) fn found(&self) -> impl Iterator<Item = &Local> {
        self.found.iter()
    }

    /// Takes the wish for another round.
    pub(crate) fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }

    /// Compares the interfaces of this host with what is bound.
    pub(crate) fn interfaces(&mut self, interfaces: &[InterfaceAddress]) -> Difference {
        if !std::mem::take(&mut self.awaits_interfaces) {
            return Difference::default();
        }
        self.admitted = preferred_order(&self.filter, interfaces);
        self.admitted.truncate(MAX_LOCAL);
        self.admitted.shrink_to_fit();
        let addresses = self.addresses(interfaces);
        let gone = |local: &Local| !addresses.contains(&with_port(local.address, 0));
        let mut difference = Difference {
            gone: self.found.iter().filter(|local| gone(local)).cloned().collect(),
            ..Difference::default()
        };
        self.found.retain(|local| !gone(local));
        for address in addresses {
            if self.found.iter().any(|local| with_port(local.address, 0) == address) {
                continue;
            }
            if self.found.len() + self.pending.len() >= MAX_LOCAL {
                difference.left_out += 1;
                continue;
            }
            let first_port = (self.random.next() >> 32) as u32;
            let shared = self.shared_at(address);
            let token = self.next_token;
            let pending = Pending { token, address, first_port, tried: 0, shared };
            self.next_token += 1;
            self.pending.reserve_exact(1);
            self.pending.push(pending);
            difference.wanted.push(self.wanted(pending));
        }
        difference
    }

    /// The addresses to gather on, best first.
    fn addresses(&self, interfaces: &[InterfaceAddress]) -> Vec<SocketAddr> {
        let mut admitted = preferred_order(&self.filter, interfaces);
        if self.shared.is_empty() && self.fork.is_none() {
            return admitted;
        }
        admitted.retain(|at| self.shared_at(*at).is_some_and(|shared| shared.from_wildcard));
        let bound_by_address = self.shared.iter().filter(|shared| !shared.from_wildcard);
        bound_by_address.map(|shared| with_port(shared.shared.local, 0)).chain(admitted).collect()
    }

    fn shared_at(&self, address: SocketAddr) -> Option<SharedHost> {
        let is_there = |shared: &&SharedHost| with_port(shared.shared.local, 0) == address;
        self.shared.iter().find(is_there).copied()
    }

    fn wanted(&self, pending: Pending) -> WantedSocket {
        if let Some(SharedHost { shared, .. }) = pending.shared {
            let (token, address) = (pending.token, shared.local);
            return WantedSocket { token, address, shared: Some(shared) };
        }
        let port = match &self.ports {
            None => 0,
            Some(ports) => {
                let offset = pending.first_port.wrapping_add(pending.tried) % self.ports_to_try();
                // Below `count`, which is at most 65,536 from the start of the range.
                ports.start() + offset as u16
            }
        };
        let address = with_port(pending.address, port);
        WantedSocket { token: pending.token, address, shared: None }
    }

    /// How many ports of the range there are to try; one, if any will do.
    pub(crate) fn ports_to_try(&self) -> u32 {
        self.ports.as_ref().map_or(1, |ports| u32::from(ports.end() - ports.start()) + 1)
    }

    /// The port to try after so many others; `seed` tells where it begins.
    pub(crate) fn port_to_try(&self, seed: u64, tried: u32) -> u16 {
        let Some(ports) = &self.ports else { return 0 };
        let first = SplitMix::new(seed).next() as u32;
        // Below the number of ports, which is at most 65,536 from the start of the range.
        ports.start() + (first.wrapping_add(tried) % self.ports_to_try()) as u16
    }

    /// A socket is bound; `None` if it was not asked for.
    pub(crate) fn bound(
        &mut self,
        token: u64,
        socket: SocketId,
        address: SocketAddr,
    ) -> Option<&Local> {
        let index = self.pending.iter().position(|pending| pending.token == token)?;
        let pending = self.pending.remove(index);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        let preference = self.next_preference;
        // 65,535 addresses later they are no longer unique, which costs an order, no more.
        self.next_preference = self.next_preference.saturating_sub(1).max(1);
        let address = with_port(pending.address, address.port());
        let announced = pending.shared.and_then(|shared| shared.announced);
        let follows_interface = pending.shared.is_none_or(|shared| shared.from_wildcard);
        let description = RTCIceCandidateDescription {
            foundation: (u32::from(u16::MAX - preference) + 1).to_string(),
            component: 1,
            transport: "udp".into(),
            priority: priority(Kind::Host, preference),
            connection_address: self.signalled_address(address.ip(), announced),
            connection_port: address.port(),
            kind: "host".into(),
            rel_address: None,
            rel_port: None,
            tcp_type: None,
        };
        let (kind, carrier, hidden) = (Kind::Host, Carrier::Udp, !self.types.host);
        self.found.reserve_exact(1);
        self.found.push(Local {
            kind,
            carrier,
            socket,
            address,
            preference,
            description,
            announced,
            follows_interface,
            set: false,
            hidden,
        });
        self.found.last()
    }

    /// What a host candidate carries: the address, or what stands for it.
    fn signalled_address(&mut self, ip: IpAddr, announced: Option<IpAddr>) -> String {
        match (announced, &mut self.aliases) {
            (Some(announced), _) => announced.to_string(),
            (None, Some(aliases)) => aliases.of(ip),
            (None, None) => ip.to_string(),
        }
    }

    /// Whether a socket is shared with other connections.
    pub(crate) fn is_shared(&self, socket: SocketId) -> bool {
        self.shared.iter().any(|shared| shared.shared.socket == socket)
    }

    /// A server sees a socket under `mapped`; `None` if that is known, or no news.
    pub(crate) fn add_reflexive(&mut self, socket: SocketId, mapped: SocketAddr) -> Option<&Local> {
        let host = self.found.iter().find(|local| local.socket == socket)?;
        let (address, preference) = (host.address, host.preference);
        let is_udp = |local: &&Local| local.carrier == Carrier::Udp;
        let is_known =
            self.all().filter(is_udp).any(|local| local.is_at(mapped) && !local.is_relayed());
        let of_socket =
            |local: &&Local| local.kind == Kind::ServerReflexive && local.socket == socket;
        // Without a NAT in between, a hidden address is public, and nothing else says so.
        let is_told = address == mapped && self.aliases.is_none();
        if is_told || is_known || self.all().filter(of_socket).count() >= MAX_REFLEXIVE {
            return None;
        }
        let foundation = format!("s{}", host.description.foundation);
        let reveals = self.types.host && self.aliases.is_none();
        let related = if reveals { address } else { nowhere(mapped) };
        let description = describe(Kind::ServerReflexive, preference, foundation, mapped, related);
        self.of_servers.push(Local {
            kind: Kind::ServerReflexive,
            carrier: Carrier::Udp,
            socket,
            address,
            preference,
            description,
            announced: None,
            follows_interface: true,
            set: false,
            hidden: !self.types.server_reflexive,
        });
        self.of_servers.last()
    }

    /// A server relays to us what comes to an address of its own.
    pub(crate) fn add_relayed(&mut self, relay: Relay) -> Option<&Local> {
        let Relay { socket, relayed, mapped, server, rank } = relay;
        if self.all().any(|local| local.is_at(relayed)) {
            return None;
        }
        self.relays = self.relays.wrapping_add(1);
        // Unlike any other, and the less a relay costs, the more.
        let preference = (0x4000 * (3 - u16::from(rank))).saturating_sub(self.relays % 0x4000);
        let foundation = format!("r{server}{rank}");
        let reveals = self.types.host && self.types.server_reflexive && self.aliases.is_none();
        let related = mapped.filter(|_| reveals).unwrap_or(nowhere(relayed));
        let description = describe(Kind::Relayed, preference, foundation, relayed, related);
        self.of_servers.push(Local {
            kind: Kind::Relayed,
            carrier: Carrier::Udp,
            socket,
            address: relayed,
            preference,
            description,
            announced: None,
            follows_interface: true,
            set: false,
            hidden: !self.types.relayed,
        });
        self.of_servers.last()
    }

    /// A relayed address is gone.
    pub(crate) fn remove_relayed(&mut self, relayed: SocketAddr) -> Option<Local> {
        let is_it = |local: &Local| local.is_relayed() && local.address == relayed;
        let at = self.of_servers.iter().position(is_it)?;
        Some(self.of_servers.remove(at))
    }

    /// What servers said of a socket that is gone.
    pub(crate) fn remove_of_servers(&mut self, socket: SocketId) -> Vec<Local> {
        self.of_servers.extract_if(.., |local| local.socket == socket).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Local> {
        self.found.iter().chain(&self.of_servers).chain(&self.tcp)
    }

    /// The addresses of this host that may be used, as the last look has found them.
    pub(crate) fn admitted(&self) -> Vec<IpAddr> {
        self.admitted.iter().map(SocketAddr::ip).collect()
    }

    /// Those of them that are not of a single link: where streams are from and to.
    pub(crate) fn admitted_for_tcp(&self) -> Vec<IpAddr> {
        self.admitted().into_iter().filter(|ip| !is_link_local(*ip)).collect()
    }

    /// The addresses of host candidates of UDP.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.found.iter().map(|local| local.address.ip())
    }

    /// Makes a TCP candidate: an active one with any port, or a passive one at `address`, which
    /// is signalled as `announced`. `None` if it is known, or there are too many.
    pub(crate) fn add_tcp(
        &mut self,
        carrier: Carrier,
        address: SocketAddr,
        announced: Option<IpAddr>,
    ) -> Option<&Local> {
        let is_active = carrier == Carrier::Outgoing;
        let address = if is_active { SocketAddr::new(address.ip(), DISCARD) } else { address };
        let is_known = self.tcp.iter().any(|local| local.end() == (carrier, address));
        if is_known || self.tcp.len() >= 2 * MAX_LOCAL {
            return None;
        }
        self.tcp_found = self.tcp_found.wrapping_add(1);
        // RFC 6544 §4.2: the direction first, and unlike any other.
        let direction = if is_active { 6 } else { 4 };
        let preference = (direction << 13) | (0x1fff - self.tcp_found % 0x2000);
        let (name, tcp_type) = if is_active { ("a", "active") } else { ("p", "passive") };
        let description = RTCIceCandidateDescription {
            foundation: format!("{name}{}", self.tcp_found),
            component: 1,
            transport: "tcp".into(),
            priority: TCP_HOST_TYPE_PREFERENCE << 24 | u32::from(preference) << 8 | 255,
            connection_address: self.signalled_address(address.ip(), announced),
            connection_port: address.port(),
            kind: "host".into(),
            rel_address: None,
            rel_port: None,
            tcp_type: Some(tcp_type.into()),
        };
        self.tcp.push(Local {
            kind: Kind::Host,
            carrier,
            socket: NO_SOCKET,
            address,
            preference,
            description,
            announced,
            follows_interface: true,
            set: false,
            hidden: !self.types.host,
        });
        self.tcp.last()
    }

    /// Takes out the TCP candidates that are gone.
    pub(crate) fn remove_tcp(&mut self, gone: impl Fn(&Local) -> bool) -> Vec<Local> {
        self.tcp.extract_if(.., |local| gone(local)).collect()
    }

    /// A socket could not be bound. Returns the next one to try, if there is any.
    pub(crate) fn bind_failed(&mut self, token: u64) -> Option<WantedSocket> {
        let index = self.pending.iter().position(|pending| pending.token == token)?;
        let ports = self.ports.as_ref().filter(|_| self.pending[index].shared.is_none());
        let ports = ports.map_or(1, |p| u32::from(p.end() - p.start()) + 1);
        self.pending[index].tried += 1;
        if self.pending[index].tried < ports.min(MAX_PORTS_TRIED) {
            return Some(self.wanted(self.pending[index]));
        }
        self.pending.remove(index);
        None
    }

    /// A socket is gone.
    pub(crate) fn unbound(&mut self, socket: SocketId) -> Option<Local> {
        let index = self.found.iter().position(|local| local.socket == socket)?;
        Some(self.found.remove(index))
    }

    /// Finds the candidate that a description is of and lets it take part; `Ok(None)` if it
    /// does already, or another with the same base.
    pub(crate) fn set(
        &mut self,
        description: &RTCIceCandidateDescription,
    ) -> Result<Option<&Local>, ()> {
        let bases: Vec<_> = self.set_candidates().map(Local::end).collect();
        let all = self.found.iter_mut().chain(&mut self.of_servers).chain(&mut self.tcp);
        let local = all.filter(|local| !local.hidden).find(|local| {
            local.description.connection_address == description.connection_address
                && local.description.connection_port == description.connection_port
                && local.description.kind == description.kind
                && local.description.tcp_type == description.tcp_type
        });
        let local = local.ok_or(())?;
        local.set = true;
        Ok((!bases.contains(&local.end())).then_some(local))
    }

    /// The candidates that take part.
    pub(crate) fn set_candidates(&self) -> impl Iterator<Item = &Local> {
        self.all().filter(|local| local.set)
    }

    /// The bases of the candidates that take part, which are what is paired and checked.
    pub(crate) fn set_bases(&self) -> impl Iterator<Item = &Local> {
        let is_first = |local: &&Local| {
            self.by_end(local.end()).is_some_and(|first| std::ptr::eq(first, *local))
        };
        self.set_candidates().filter(is_first)
    }

    /// The candidate of a socket, if it takes part; relayed ones are of none.
    pub(crate) fn by_socket(&self, socket: SocketId) -> Option<&Local> {
        self.set_candidates().find(|local| local.socket == socket && !local.is_relayed())
    }

    /// The first candidate with a base, if one takes part.
    pub(crate) fn by_end(&self, end: (Carrier, SocketAddr)) -> Option<&Local> {
        self.set_candidates().find(|local| local.end() == end)
    }

    /// The first candidate of UDP with a base, if one takes part.
    pub(crate) fn by_address(&self, address: SocketAddr) -> Option<&Local> {
        self.by_end((Carrier::Udp, address))
    }
}

impl Local {
    /// Whether it is signalled with this address.
    fn is_at(&self, address: SocketAddr) -> bool {
        self.description.connection_port == address.port()
            && self.description.connection_address == address.ip().to_string()
    }
}

/// The type preference of TCP host candidates, that of browsers and of the engine: below that of
/// UDP from behind a NAT, and above a relay's (RFC 6544 §4.2 leaves it to us).
const TCP_HOST_TYPE_PREFERENCE: u32 = 90;

/// RFC 8445 §5.1.2.1, for component 1, with the type preferences of §5.1.2.2.
fn priority(kind: Kind, preference: u16) -> u32 {
    let of_type: u32 = match kind {
        Kind::Host => 126,
        Kind::PeerReflexive => 110,
        Kind::ServerReflexive => 100,
        Kind::Relayed => 0,
    };
    (of_type << 24) | (u32::from(preference) << 8) | 255
}

fn describe(
    kind: Kind,
    preference: u16,
    foundation: String,
    address: SocketAddr,
    related: SocketAddr,
) -> RTCIceCandidateDescription {
    RTCIceCandidateDescription {
        foundation,
        component: 1,
        transport: "udp".into(),
        priority: priority(kind, preference),
        connection_address: address.ip().to_string(),
        connection_port: address.port(),
        kind: if kind == Kind::Relayed { "relay" } else { "srflx" }.into(),
        rel_address: Some(related.ip().to_string()),
        rel_port: Some(related.port()),
        tcp_type: None,
    }
}

/// What stands for an address that is not to be told.
fn nowhere(like: SocketAddr) -> SocketAddr {
    let ip = if like.is_ipv4() { [0; 4].into() } else { IpAddr::from([0u16; 8]) };
    SocketAddr::new(ip, 0)
}

/// The addresses to gather, best first: the network, its single links, loopback, and in each, IPv6
/// and IPv4 by turns (RFC 8421 §4).
fn preferred_order(filter: &InterfaceFilter, interfaces: &[InterfaceAddress]) -> Vec<SocketAddr> {
    let mut order: Vec<SocketAddr> = Vec::new();
    for (kind, of_link) in [
        (InterfaceKind::Network, false),
        (InterfaceKind::Network, true),
        (InterfaceKind::Loopback, false),
    ] {
        let of = |ipv6: bool| {
            interfaces
                .iter()
                .filter(move |i| i.kind == kind && is_link_local(i.address) == of_link)
                .filter(move |i| filter.admits(i) && i.address.is_ipv6() == ipv6)
                .map(to_bind)
        };
        let (mut six, mut four) = (of(true), of(false));
        loop {
            let (a, b) = (six.next(), four.next());
            if a.is_none() && b.is_none() {
                break;
            }
            for address in a.into_iter().chain(b) {
                if !order.contains(&address) {
                    order.push(address);
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests;
