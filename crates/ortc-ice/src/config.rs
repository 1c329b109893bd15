use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ortc_io::consent::CheckCounters;
use ortc_io::{InterfaceAddress, InterfaceKind, LinkNames, SharedSocket, StreamListener, Tally};

use crate::{IceStats, RTCIceConnectionInfo, RTCIceServer};

/// What an ICE agent is made with.
///
/// ```
/// use ortc_ice::{IceConfig, RTCIceConnectionInfo};
///
/// // Randomness comes from the caller: 32 bytes of a CSPRNG.
/// let credentials = RTCIceConnectionInfo::from_random([7; 32]);
/// let config = IceConfig::new(credentials, 0x1234_5678_9abc_def0).with_loopback(true);
/// assert!(config.interfaces.loopback);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceConfig {
    /// Our credentials, as they are signalled to the peer.
    pub credentials: RTCIceConnectionInfo,
    /// Settles role conflicts: the larger number keeps controlling (RFC 8445 §7.3.1.1).
    pub tie_breaker: u64,
    /// Seeds the jitter of consent checks, the first port tried and the transaction identifiers
    /// of checks. The latter are to be guessed by nobody (RFC 8489 §5), so it should be random,
    /// and used for nothing that is sent; by default it is the tie-breaker, which is sent.
    pub seed: u64,
    /// Which addresses of this host are gathered.
    pub interfaces: InterfaceFilter,
    /// STUN and TURN servers: at most 16 URIs are asked. One that fails is reported by
    /// [`IceEvent::ServerFailed`](crate::IceEvent::ServerFailed), and harms nothing.
    pub servers: Vec<RTCIceServer>,
    /// Certificates (DER) that a TURN server's may be signed by over TLS; the system's own roots
    /// when `None`.
    pub server_roots: Option<Arc<[Vec<u8>]>>,
    /// Which types of candidates of ours take part; all by default.
    pub candidate_types: CandidateTypes,
    /// Which TCP candidates of ours there are; none by default.
    pub tcp: TcpCandidates,
    /// The port of passive ones, where connections share one; when `None`, they have ports of
    /// their own.
    pub tcp_port: Option<TcpPort>,
    /// What answers the names that host candidates carry in place of addresses; when `None`, they
    /// carry addresses.
    pub names: Option<LinkNames>,
    /// Ports to bind; any, when `None`.
    pub port_range: Option<RangeInclusive<u16>>,
    /// Sockets to gather on in place of sockets of the connection's own; none by default.
    pub shared: Vec<SharedHost>,
    /// Whether the credentials and the sockets are another agent's: set by
    /// [`with_local_side_of`](Self::with_local_side_of).
    pub fork: Option<Fork>,
    /// Whether only those who check us are checked; see [`with_lite`](Self::with_lite).
    pub lite: bool,
    /// How fast checks go and when things are given up.
    pub timing: IceTiming,
    /// Where the actor puts what its agent counts, for whoever has kept a clone; two configurations
    /// that put it into different places are not equal.
    pub tally: Tally<IceStats>,
    /// Where checks and consents are counted, those of the socket port as well.
    pub counters: CheckCounters,
}

/// A socket shared with other connections, as a host candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedHost {
    /// The socket, which is joined under our username fragment.
    pub shared: SharedSocket,
    /// The address that the candidate is to carry in place of the socket's own: the outer one
    /// of a NAT that maps one address to one (`10.0.0.5` to `203.0.113.5`, ports unchanged).
    pub announced: Option<IpAddr>,
    /// Whether the socket is one of those that a wildcard stood for. It is a candidate only
    /// while this host has its address and [`IceConfig::interfaces`] admits that; one that was
    /// bound by its address always is.
    pub from_wildcard: bool,
}

/// What an agent knows of the other whose local side it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// Whether that one's gathering is over, so that all of its sockets are known.
    pub complete: bool,
}

impl IceConfig {
    /// Makes a configuration with defaults: all interfaces but loopback, both families, any
    /// port, the timing of [`IceTiming::default`].
    pub fn new(credentials: RTCIceConnectionInfo, tie_breaker: u64) -> Self {
        Self {
            credentials,
            tie_breaker,
            seed: tie_breaker,
            interfaces: InterfaceFilter::default(),
            servers: Vec::new(),
            server_roots: None,
            candidate_types: CandidateTypes::ALL,
            tcp: TcpCandidates::NONE,
            tcp_port: None,
            names: None,
            port_range: None,
            shared: Vec::new(),
            fork: None,
            lite: false,
            timing: IceTiming::default(),
            tally: Tally::default(),
            counters: CheckCounters::default(),
        }
    }

    /// Gathers loopback addresses as well, or not.
    #[must_use]
    pub fn with_loopback(mut self, include: bool) -> Self {
        self.interfaces.loopback = include;
        self
    }

    /// Gathers addresses of a single link as well, or not; see
    /// [`link_local`](InterfaceFilter::link_local).
    #[must_use]
    pub fn with_link_local(mut self, include: bool) -> Self {
        self.interfaces.link_local = include;
        self
    }

    /// Gathers only what the filter admits.
    #[must_use]
    pub fn with_interfaces(mut self, filter: InterfaceFilter) -> Self {
        self.interfaces = filter;
        self
    }

    /// Names STUN and TURN servers; see [`servers`](Self::servers).
    #[must_use]
    pub fn with_servers(mut self, servers: Vec<RTCIceServer>) -> Self {
        self.servers = servers;
        self
    }

    /// Trusts TURN servers over TLS by these roots alone.
    #[must_use]
    pub fn with_server_roots(mut self, roots: Arc<[Vec<u8>]>) -> Self {
        self.server_roots = Some(roots);
        self
    }

    /// Has only these types of candidates take part.
    #[must_use]
    pub fn with_candidate_types(mut self, types: CandidateTypes) -> Self {
        self.candidate_types = types;
        self
    }

    /// Has these TCP candidates as well (RFC 6544).
    #[must_use]
    pub fn with_tcp_candidates(mut self, tcp: TcpCandidates) -> Self {
        self.tcp = tcp;
        self
    }

    /// Has its passive TCP candidates on a port that connections share.
    #[must_use]
    pub fn with_tcp_port(mut self, port: TcpPort) -> Self {
        self.tcp.passive = true;
        self.tcp_port = Some(port);
        self
    }

    /// Hides the addresses of this host behind names that only its own links can resolve
    /// (`UUID.local`; draft-ietf-mmusic-mdns-ice-candidates). No candidate carries an address of
    /// an interface then, unless a STUN server has said that it is public.
    #[must_use]
    pub fn with_hidden_addresses(mut self, names: LinkNames) -> Self {
        self.names = Some(names);
        self
    }

    /// Binds only ports of this range.
    #[must_use]
    pub fn with_port_range(mut self, ports: RangeInclusive<u16>) -> Self {
        self.port_range = Some(ports);
        self
    }

    /// Gathers on these sockets and binds none.
    #[must_use]
    pub fn with_shared_sockets(mut self, shared: Vec<SharedHost>) -> Self {
        self.shared = shared;
        self
    }

    /// Waits to be checked, or not: for servers that every peer can reach. Candidates of the peer
    /// are not tried, so nothing is sent into networks that cannot be reached from here, and it
    /// begins as controlled; a path is checked once the peer has, and kept alive.
    ///
    /// It is less than a full agent and more than the lite one of RFC 8445 §2.5, which never
    /// checks: here media is taken from no address that has not answered. Two of them never
    /// connect.
    #[must_use]
    pub fn with_lite(mut self, lite: bool) -> Self {
        self.lite = lite;
        self
    }

    /// Counts checks and consents in these counters.
    #[must_use]
    pub fn with_counters(mut self, counters: CheckCounters) -> Self {
        self.counters = counters;
        self
    }

    /// Makes a fork: it has the credentials of another agent, gathers on that one's sockets, as
    /// far as they are known, and binds none. Others may come by
    /// [`IceCommand::AddShared`](crate::IceCommand::AddShared).
    #[must_use]
    pub fn with_local_side_of(mut self, shared: Vec<SharedHost>, fork: Fork) -> Self {
        self.shared = shared;
        self.fork = Some(fork);
        self
    }

    /// Stops sending when no response came for this long (RFC 7675 §5.1); 30 s by default.
    #[must_use]
    pub fn with_consent_timeout(mut self, timeout: Duration) -> Self {
        self.timing.consent_timeout = timeout;
        self
    }

    /// Sets the [`seed`](Self::seed).
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Chooses among the addresses of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceFilter {
    /// Whether addresses of loopback interfaces are gathered; by default not.
    pub loopback: bool,
    /// Whether IPv4 addresses are gathered; by default they are.
    pub ipv4: bool,
    /// Whether IPv6 addresses are gathered; by default they are.
    pub ipv6: bool,
    /// Whether addresses of a single link (169.254.0.0/16, fe80::/10) are gathered, and those of
    /// the peer used; by default not. They mean nothing to a peer on another link, one on the same
    /// link nearly always has better ones, and they tell the hardware address of an interface,
    /// where they are made of it (RFC 8445 §5.1.1.1 forbids them beside temporary addresses;
    /// browsers leave those of IPv6 out). They are for links without a router: two devices and a
    /// cable. Over UDP alone, and no server is asked from one.
    pub link_local: bool,
    /// Names of the only interfaces to use; empty for all.
    pub only: Vec<String>,
    /// Names of interfaces not to use.
    pub except: Vec<String>,
}

impl Default for InterfaceFilter {
    fn default() -> Self {
        Self {
            loopback: false,
            ipv4: true,
            ipv6: true,
            link_local: false,
            only: Vec::new(),
            except: Vec::new(),
        }
    }
}

impl InterfaceFilter {
    /// Whether a candidate is to be gathered on this address.
    pub fn admits(&self, interface: &InterfaceAddress) -> bool {
        let address = interface.address;
        let family = if address.is_ipv4() { self.ipv4 } else { self.ipv6 };
        let of_link = crate::description::is_link_local(address);
        // Without its scope, an address of an IPv6 link cannot be bound.
        let has_scope = address.is_ipv4() || interface.scope_id != 0;
        family
            && (self.loopback || interface.kind != InterfaceKind::Loopback)
            && (!of_link || self.link_local && has_scope)
            && !address.is_unspecified()
            && !address.is_multicast()
            && (self.only.is_empty() || self.only.contains(&interface.name))
            && !self.except.contains(&interface.name)
    }
}

/// Chooses among the types of candidates (RFC 8445 §5.1.1): those that are left out are neither
/// reported nor used, and no other candidate names their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidateTypes {
    /// Addresses of this host.
    pub host: bool,
    /// Addresses under which STUN and TURN servers see this host.
    pub server_reflexive: bool,
    /// Addresses of TURN servers, which relay.
    pub relayed: bool,
}

impl CandidateTypes {
    /// All of them.
    pub const ALL: Self = Self { host: true, server_reflexive: true, relayed: true };

    /// Relayed ones alone: the peer learns no address of this host, and a server knows who
    /// talks to whom instead.
    pub const RELAYED: Self = Self { host: false, server_reflexive: false, relayed: true };
}

impl Default for CandidateTypes {
    fn default() -> Self {
        Self::ALL
    }
}

/// Chooses TCP candidates, for networks without UDP (RFC 6544). Pairs of them come after all that
/// are direct over UDP, and before relays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpCandidates {
    /// Ours that connect, to passive ones of the peer. A peer can have us connect to any address
    /// and port, where a binding request is sent; as it can by UDP.
    pub active: bool,
    /// Ours that are connected to, each with a port of its own or all with a
    /// [shared](IceConfig::with_tcp_port) one: browsers have active ones.
    pub passive: bool,
}

impl TcpCandidates {
    /// None.
    pub const NONE: Self = Self { active: false, passive: false };
    /// Those that connect.
    pub const ACTIVE: Self = Self { active: true, passive: false };
    /// Those that are connected to.
    pub const PASSIVE: Self = Self { active: false, passive: true };
    /// Both.
    pub const ALL: Self = Self { active: true, passive: true };
}

/// A TCP port that connections share for their passive candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpPort {
    /// The port. One that is bound to a wildcard stands for each address that
    /// [`IceConfig::interfaces`] admits.
    pub listener: StreamListener,
    /// The address that candidates are to carry in place of its own.
    pub announced: Option<IpAddr>,
}

/// How fast checks go and when things are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IceTiming {
    /// Time between two checks (Ta). RFC 8445 §14.2 says 50 ms by default and lets it be as
    /// little as 5 ms; 20 ms, as checks are small and pairs are few.
    pub check_interval: Duration,
    /// First retransmission of a check. RFC 8445 §14.3 says 500 ms; 100 ms, as a lost first
    /// check is what a user waits for.
    pub initial_rto: Duration,
    /// Longest time between two retransmissions while there is no connection: 1 s.
    pub max_rto: Duration,
    /// Retransmissions before a pair has failed: 12, about 10 s with the above.
    pub max_retransmits: usize,
    /// Mean time between two consent checks: 5 s, randomised by 20 % (RFC 7675 §5.1).
    pub consent_interval: Duration,
    /// No response for this long, and nothing is sent any more: 30 s (RFC 7675 §5.1).
    pub consent_timeout: Duration,
    /// Once connected for this long, only the selected pair and two spares are checked: 10 s;
    /// a quarter of it from when all pairs have been answered. Until then pairs without an
    /// answer are checked, too.
    pub prune_after: Duration,
    /// While disconnected, all pairs are formed again every 2 s.
    pub retry_interval: Duration,
    /// An unselected path that was not heard from for this long is dropped: 40 s, longer
    /// than any consent interval and its retransmissions.
    pub path_idle: Duration,
}

impl Default for IceTiming {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_millis(20),
            initial_rto: Duration::from_millis(100),
            max_rto: Duration::from_secs(1),
            max_retransmits: 12,
            consent_interval: Duration::from_secs(5),
            consent_timeout: Duration::from_secs(30),
            prune_after: Duration::from_secs(10),
            retry_interval: Duration::from_secs(2),
            path_idle: Duration::from_secs(40),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str, kind: InterfaceKind) -> InterfaceAddress {
        InterfaceAddress { name: name.into(), address: address.parse().unwrap(), scope_id: 0, kind }
    }

    #[test]
    fn a_filter_chooses_by_kind_family_and_name() {
        let all = [
            interface("lo", "127.0.0.1", InterfaceKind::Loopback),
            interface("eth0", "192.0.2.1", InterfaceKind::Network),
            interface("eth0", "2001:db8::1", InterfaceKind::Network),
            interface("eth0", "fe80::1", InterfaceKind::Network),
            interface("eth1", "169.254.3.4", InterfaceKind::Network),
            interface("tun0", "10.8.0.1", InterfaceKind::Network),
        ];
        let admitted = |filter: &InterfaceFilter| {
            all.iter()
                .filter(|i| filter.admits(i))
                .map(|i| i.address.to_string())
                .collect::<Vec<_>>()
        };
        let base = InterfaceFilter::default;
        assert_eq!(admitted(&base()), ["192.0.2.1", "2001:db8::1", "10.8.0.1"]);
        let loopback = InterfaceFilter { loopback: true, ipv6: false, ..base() };
        assert_eq!(admitted(&loopback), ["127.0.0.1", "192.0.2.1", "10.8.0.1"]);
        let links = InterfaceFilter { link_local: true, ipv6: false, ..base() };
        assert_eq!(admitted(&links), ["192.0.2.1", "169.254.3.4", "10.8.0.1"]);
        let only = InterfaceFilter { only: vec!["eth0".into()], ipv4: false, ..base() };
        assert_eq!(admitted(&only), ["2001:db8::1"]);
        let except = InterfaceFilter { except: vec!["eth0".into()], ..base() };
        assert_eq!(admitted(&except), ["10.8.0.1"]);
    }
}
