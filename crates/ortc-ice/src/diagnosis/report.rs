use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ortc_io::{InterfaceAddress, InterfaceKind};

use crate::ServerFailure;

/// What a [`Diagnosis`](super::Diagnosis) has found out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkReport {
    /// The addresses of this host, as the system names them.
    pub interfaces: Vec<InterfaceAddress>,
    /// Whether UDP gets out and back at all.
    pub udp: UdpStatus,
    /// What stands before each interface that a server over UDP was asked from.
    pub nats: Vec<NatReport>,
    /// What became of each server, in the order in which they were named.
    pub servers: Vec<ServerReport>,
    /// Datagrams that were dropped: malformed, unasked for, from elsewhere, or with a wrong
    /// MESSAGE-INTEGRITY.
    pub ignored: u64,
}

/// Whether UDP works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpStatus {
    /// At least one server has answered over UDP.
    Works,
    /// None has, and one that was asked over TCP has.
    Blocked,
    /// No server has answered at all, or none was asked.
    Unknown,
}

/// How a NAT maps addresses (RFC 4787 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// No answer has come, or too few to tell.
    Unknown,
    /// There is no NAT: servers see the address of the socket.
    None,
    /// One mapping for all destinations.
    EndpointIndependent,
    /// A mapping for each address that is sent to.
    AddressDependent,
    /// A mapping for each address and port that is sent to.
    AddressAndPortDependent,
    /// One of the last two: servers at different addresses see different mappings, and none was
    /// asked on two ports.
    DestinationDependent,
}

impl Mapping {
    /// Whether it is one of the kinds with which a peer cannot be told where to send
    /// ("symmetric").
    pub fn is_dependent(self) -> bool {
        matches!(
            self,
            Self::AddressDependent | Self::AddressAndPortDependent | Self::DestinationDependent
        )
    }
}

/// Whom a NAT or a firewall lets in (RFC 4787 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// It could not be asked for: see [`NatReport::behaviour`].
    Unknown,
    /// Anybody, once something was sent.
    EndpointIndependent,
    /// Addresses that were sent to, from any port.
    AddressDependent,
    /// Addresses and ports that were sent to.
    AddressAndPortDependent,
}

/// Whether a server helps to find out the behaviour of a NAT (RFC 5780).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BehaviourDiscovery {
    /// No server that has answered names another address of its own (OTHER-ADDRESS).
    NotOffered,
    /// This one does, but its other address, the second one here, does not answer.
    OtherSilent(SocketAddr, SocketAddr),
    /// This one does, but answers from the address that was asked, or refuses to.
    NotHeeded(SocketAddr),
    /// This one does.
    Used(SocketAddr),
}

/// What stands before one address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatReport {
    /// The name of its interface.
    pub interface: String,
    /// The socket that asked.
    pub local: SocketAddr,
    /// Under which address each server saw it. Empty if none has answered.
    pub seen: Vec<SeenAs>,
    /// How it is mapped.
    pub mapping: Mapping,
    /// Who gets in.
    pub filtering: Filtering,
    /// By which server the last two were found out, if by one.
    pub behaviour: BehaviourDiscovery,
    /// Whether two hosts behind the NAT reach each other by their outer addresses; `None` where
    /// there is no NAT or nothing could be tried.
    pub hairpinning: Option<bool>,
}

/// What a server has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenAs {
    /// The server's address, as it was asked.
    pub server: SocketAddr,
    /// Ours, as it came in there.
    pub mapped: SocketAddr,
    /// From the first request to the answer.
    pub time: Duration,
}

/// What became of a server: one URI.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerReport {
    /// Its URI, as it was given.
    pub url: String,
    /// Why it could not be asked at all.
    pub failure: Option<ServerFailure>,
    /// What became of each of its addresses that this host can send to.
    pub attempts: Vec<ServerAttempt>,
}

impl ServerReport {
    /// Whether one of its addresses does what it should.
    pub fn works(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.result.is_ok())
    }

    /// Whether it relays.
    pub fn relays(&self) -> bool {
        let relays =
            |attempt: &ServerAttempt| matches!(&attempt.result, Ok(it) if it.relayed.is_some());
        self.attempts.iter().any(relays)
    }
}

/// What became of one address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAttempt {
    /// The address.
    pub address: SocketAddr,
    /// What lies between.
    pub transport: ServerTransport,
    /// The answer, or why there is none.
    pub result: Result<ServerResponse, ServerFailure>,
}

/// What carries the messages of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTransport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// A server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerResponse {
    /// From the first request to the answer or the allocation; over TCP and TLS with the time
    /// for the connection.
    pub time: Duration,
    /// Our address, as the server sees it.
    pub mapped: Option<SocketAddr>,
    /// The address that was relayed to us, of a TURN server.
    pub relayed: Option<SocketAddr>,
    /// Whether the server has confirmed that it has the allocation back.
    pub given_back: bool,
}

/// Whether peers find a path to this host, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Directly, with whoever can send UDP at all.
    Direct,
    /// Directly with most; not with peers whose NAT has a mapping for each destination.
    DirectWithMost,
    /// With most through a TURN server alone, which there is.
    RelayNeeded,
    /// With most through a TURN server alone, and there is none that works.
    RelayMissing,
    /// This host has no address but for itself.
    NoNetwork,
    /// Too little has been answered.
    Unknown,
}

impl NetworkReport {
    /// Whether some server relays.
    pub fn has_relay(&self) -> bool {
        self.servers.iter().any(ServerReport::relays)
    }

    /// What all of it comes to. IPv4 decides where it got out, as not every peer has IPv6.
    pub fn verdict(&self) -> Verdict {
        let relayed =
            || if self.has_relay() { Verdict::RelayNeeded } else { Verdict::RelayMissing };
        let reached = self.nats.iter().filter(|nat| !nat.seen.is_empty());
        let rank = |nat: &&NatReport| {
            // Loopback says something when there is nothing else, as on a developer's host.
            (!nat.local.ip().is_loopback(), nat.local.is_ipv4(), nat.reach())
        };
        match reached.max_by_key(rank).map(NatReport::reach) {
            Some(Reach::Everyone) => Verdict::Direct,
            Some(Reach::Most) => Verdict::DirectWithMost,
            Some(Reach::Few) => relayed(),
            _ if self.udp == UdpStatus::Blocked => relayed(),
            None if !self.interfaces.iter().any(leads_out) && !self.has_relay() => {
                Verdict::NoNetwork
            }
            Some(Reach::Unknown) | None => Verdict::Unknown,
        }
    }
}

/// With whom a path exists, from the worst to the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Unknown,
    Few,
    Most,
    Everyone,
}

impl NatReport {
    /// Whether a NAT changes the address; `None` if no server has answered.
    pub fn is_translated(&self) -> Option<bool> {
        let changed = self.seen.iter().any(|seen| seen.mapped != self.local);
        (!self.seen.is_empty()).then_some(changed)
    }

    fn reach(&self) -> Reach {
        match (self.mapping, self.filtering) {
            (Mapping::Unknown, _) => Reach::Unknown,
            (mapping, _) if mapping.is_dependent() => Reach::Few,
            // A peer whose NAT changes ports sends from an address that was sent to.
            (_, Filtering::EndpointIndependent | Filtering::AddressDependent) => Reach::Everyone,
            _ => Reach::Most,
        }
    }
}

/// Where an address means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressScope {
    /// Everywhere.
    Public,
    /// In a private network (RFC 1918, RFC 4193).
    Private,
    /// In the network of a provider that has a NAT of its own (RFC 6598).
    Shared,
    /// On one link (RFC 3927, RFC 4291 §2.5.6).
    LinkLocal,
    /// On this host.
    Loopback,
}

impl AddressScope {
    /// The scope of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [first, second, ..] = address.octets();
        match () {
            () if address.is_loopback() => Self::Loopback,
            () if address.is_link_local() => Self::LinkLocal,
            () if address.is_private() => Self::Private,
            () if first == 100 && second & 0xc0 == 64 => Self::Shared,
            () => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        match () {
            () if address.is_loopback() => Self::Loopback,
            () if address.is_unicast_link_local() => Self::LinkLocal,
            () if address.is_unique_local() => Self::Private,
            () => Self::Public,
        }
    }
}

/// Whether packets to others can leave by it.
pub(super) fn leads_out(interface: &InterfaceAddress) -> bool {
    interface.kind != InterfaceKind::Loopback && is_usable(interface.address)
}

pub(super) fn is_usable(address: IpAddr) -> bool {
    !crate::description::is_link_local(address)
        && !address.is_unspecified()
        && !address.is_multicast()
        && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Tells the mapping from what servers have seen of one socket: pairs of the address that was
/// asked and the one that was seen.
pub(super) fn mapping_of(local: SocketAddr, seen: &[(SocketAddr, SocketAddr)]) -> Mapping {
    // A server on this side of the NAT sees what others do not, and says nothing of it.
    let outside: Vec<_> = seen.iter().filter(|(_, mapped)| *mapped != local).collect();
    if outside.is_empty() {
        return if seen.is_empty() { Mapping::Unknown } else { Mapping::None };
    }
    // Whether any two differ: of the ports of one address, and of two addresses.
    let (mut of_one, mut of_two) = (None, None);
    for (i, (to, mapped)) in outside.iter().enumerate() {
        for (other, seen) in &outside[i + 1..] {
            let differ = if to.ip() == other.ip() { &mut of_one } else { &mut of_two };
            *differ = Some(differ.unwrap_or(false) || mapped != seen);
        }
    }
    match (of_one, of_two) {
        (Some(true), _) => Mapping::AddressAndPortDependent,
        (Some(false), Some(true)) => Mapping::AddressDependent,
        (None, Some(true)) => Mapping::DestinationDependent,
        (_, Some(false)) => Mapping::EndpointIndependent,
        (_, None) => Mapping::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_mapping_is_told_from_what_servers_see() {
        let told = |seen: &[(&str, &str)]| {
            let seen: Vec<_> = seen.iter().map(|(to, as_)| (address(to), address(as_))).collect();
            mapping_of(address("10.0.0.2:5000"), &seen)
        };
        let (one, two) = ("192.0.2.9:1", "192.0.2.9:2");
        let (a1, a2, b1) = ("198.51.100.1:3478", "198.51.100.1:3479", "198.51.100.2:3478");
        assert_eq!(told(&[]), Mapping::Unknown);
        assert_eq!(told(&[(a1, "10.0.0.2:5000")]), Mapping::None);
        assert_eq!(told(&[(a1, one)]), Mapping::Unknown, "one destination tells nothing");
        assert_eq!(told(&[(a1, one), (a2, one)]), Mapping::Unknown, "nor does one address");
        assert_eq!(told(&[(a1, one), (b1, one)]), Mapping::EndpointIndependent);
        assert_eq!(told(&[(a1, one), (b1, two)]), Mapping::DestinationDependent);
        assert_eq!(told(&[(a1, one), (a2, one), (b1, two)]), Mapping::AddressDependent);
        assert_eq!(told(&[(a1, one), (a2, two)]), Mapping::AddressAndPortDependent);
        let inside = ("10.0.0.1:3478", "10.0.0.2:5000");
        assert_eq!(told(&[inside, (a1, one), (b1, one)]), Mapping::EndpointIndependent);
    }

    #[test]
    fn addresses_are_told_by_their_reach() {
        use AddressScope::*;
        let cases = [
            ("127.0.0.1", Loopback),
            ("::1", Loopback),
            ("169.254.1.2", LinkLocal),
            ("fe80::1", LinkLocal),
            ("10.1.2.3", Private),
            ("172.16.0.1", Private),
            ("fd00::1", Private),
            ("100.64.0.1", Shared),
            ("100.128.0.1", Public),
            ("203.0.113.1", Public),
            ("2001:db8::1", Public),
        ];
        for (text, scope) in cases {
            assert_eq!(AddressScope::of(text.parse().unwrap()), scope, "{text}");
        }
    }
}
