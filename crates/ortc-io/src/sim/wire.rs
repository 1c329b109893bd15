use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::link::{Link, LinkConfig};
use super::nat::Translator;
use super::sockets::{FIRST_PORT, IoState};
use super::transcript::{Fate, Transcript, TranscriptEntry};
use super::{NatKind, SimConfig};
use crate::{InterfaceAddress, InterfaceKind, classify};
use fastrand::Rng;
use tokio::sync::watch;

/// The realm of public addresses; behind the NAT of index `n` is realm `n + 1`.
pub(super) const INTERNET: usize = 0;

/// Everything about the simulated network: a core, stepped by [`Network`](super::Network).
pub(super) struct Wire {
    pub(super) config: SimConfig,
    pub(super) epoch: Instant,
    pub(super) rng: Rng,
    pub(super) hosts: Vec<HostState>,
    pub(super) nats: Vec<Translator>,
    pub(super) ios: Vec<IoState>,
    pub(super) default_link: LinkConfig,
    /// By (sending host, receiving host); whom a NAT does not know is `None`.
    links: BTreeMap<(usize, Option<usize>), Link>,
    partitions: BTreeSet<(usize, usize)>,
    flights: BinaryHeap<Flight>,
    sequence: u64,
    pub(super) transcript: Transcript,
}

pub(super) struct HostState {
    pub(super) name: String,
    realm: usize,
    pub(super) addresses: Vec<(IpAddr, bool)>,
    pub(super) changes: watch::Sender<()>,
    pub(super) next_port: u16,
    /// Whether the system takes nothing that is to be sent.
    pub(super) refuses_sends: bool,
    /// With what it refuses to bind sockets.
    pub(super) refuses_binds: Option<io::ErrorKind>,
}

/// A datagram on its way.
struct Flight {
    due: Instant,
    sequence: u64,
    /// The realm that it arrives in, or the host if it never leaves it.
    into: Destination,
    /// Who sent it; flows are kept in order when simultaneous ones are shuffled.
    sender: Option<usize>,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
    entry: Option<usize>,
}

/// What is never reordered among itself: one sender's datagrams to one address.
type Flow = (Option<usize>, SocketAddr);

/// When a datagram arrives, and when it does so again.
type Arrivals = (Instant, Option<Instant>);

#[derive(Clone, Copy)]
enum Destination {
    Realm(usize),
    Host(usize),
}

// A heap's greatest comes first: the earliest, and of those the one sent first.
impl Ord for Flight {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.sequence).cmp(&(self.due, self.sequence))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Flight {}

impl Wire {
    pub(super) fn new(config: SimConfig, epoch: Instant) -> Self {
        Self {
            config,
            epoch,
            // Another sequence than the thread's fastrand, which has the seed itself.
            rng: Rng::with_seed(config.seed ^ 0x6f72_7463_2d73_696d),
            hosts: Vec::new(),
            nats: Vec::new(),
            ios: Vec::new(),
            default_link: LinkConfig::default(),
            links: BTreeMap::new(),
            partitions: BTreeSet::new(),
            flights: BinaryHeap::new(),
            sequence: 0,
            transcript: Transcript::new(config.transcript_limit),
        }
    }

    pub(super) fn add_host(&mut self, name: &str, addresses: &[IpAddr], realm: usize) -> usize {
        for address in addresses {
            self.assert_free(realm, *address);
        }
        self.hosts.push(HostState {
            name: name.to_owned(),
            realm,
            addresses: addresses.iter().map(|address| (*address, true)).collect(),
            changes: watch::Sender::new(()),
            next_port: FIRST_PORT,
            refuses_sends: false,
            refuses_binds: None,
        });
        self.hosts.len() - 1
    }

    pub(super) fn add_nat(
        &mut self,
        name: &str,
        kind: NatKind,
        public: IpAddr,
        outer: usize,
    ) -> usize {
        self.assert_free(outer, public);
        self.nats.push(Translator::new(name, kind, public, outer));
        self.nats.len() - 1
    }

    pub(super) fn add_address(&mut self, host: usize, address: IpAddr) {
        self.assert_free(self.hosts[host].realm, address);
        self.hosts[host].addresses.push((address, true));
    }

    fn assert_free(&self, realm: usize, address: IpAddr) {
        assert!(
            !address.is_loopback() && !address.is_unspecified() && !address.is_multicast(),
            "{address} cannot be the address of a simulated host"
        );
        let host = self
            .hosts
            .iter()
            .find(|host| host.realm == realm && host.addresses.iter().any(|(a, _)| *a == address));
        assert!(
            host.is_none(),
            "{address} is already an address of {}",
            host.map_or("", |h| &h.name)
        );
        let nat = self.nats.iter().find(|nat| nat.outer == realm && nat.public == address);
        assert!(
            nat.is_none(),
            "{address} is already the address of {}",
            nat.map_or("", |n| &n.name)
        );
    }

    pub(super) fn interfaces(&self, host: usize) -> Vec<InterfaceAddress> {
        let interface =
            |name: String, address, kind| InterfaceAddress { name, address, scope_id: 0, kind };
        let host = &self.hosts[host];
        let mut found =
            vec![interface("lo".to_owned(), Ipv4Addr::LOCALHOST.into(), InterfaceKind::Loopback)];
        if host.addresses.iter().any(|(address, _)| address.is_ipv6()) {
            found.push(interface(
                "lo".to_owned(),
                Ipv6Addr::LOCALHOST.into(),
                InterfaceKind::Loopback,
            ));
        }
        for (index, (address, up)) in host.addresses.iter().enumerate() {
            if *up {
                found.push(interface(format!("eth{index}"), *address, InterfaceKind::Network));
            }
        }
        found
    }

    pub(super) fn set_link(&mut self, from: usize, to: usize, config: Option<LinkConfig>) {
        self.links.entry((from, Some(to))).or_default().config = config;
    }

    pub(super) fn set_partition(&mut self, a: usize, b: usize, parted: bool) {
        for pair in [(a, b), (b, a)] {
            if parted {
                self.partitions.insert(pair);
            } else {
                self.partitions.remove(&pair);
            }
        }
    }

    fn record(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Option<usize> {
        self.transcript.record(TranscriptEntry {
            at: now.duration_since(self.epoch),
            from,
            seen_from: from,
            to,
            kind: classify(bytes),
            len: bytes.len(),
            fate: Fate::InFlight,
            arrived: None,
        })
    }

    /// Writes down a datagram that a tap has taken.
    pub(super) fn intercepted(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let entry = self.record(now, from, to, bytes);
        self.transcript.conclude(entry, Fate::Intercepted, None);
    }

    /// Sends a datagram from a host. Returns whether the host itself could.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        host: usize,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) -> bool {
        let entry = self.record(now, from, to, &bytes);
        let (seen_from, arrivals, into) = match self.plan(now, host, from, to, bytes.len()) {
            Ok(plan) => plan,
            Err(fate) => {
                self.transcript.conclude(entry, fate, None);
                return fate != Fate::NoRoute;
            }
        };
        self.transcript.see_from(entry, seen_from);
        let flight = |due, bytes, entry| Flight {
            due,
            sequence: 0,
            into,
            sender: Some(host),
            from: seen_from,
            to,
            bytes,
            entry,
        };
        if let Some(due) = arrivals.1 {
            self.launch(flight(arrivals.0, bytes.clone(), entry));
            let again = self.record(now, from, to, &bytes);
            self.transcript.see_from(again, seen_from);
            self.launch(flight(due, bytes, again));
        } else {
            self.launch(flight(arrivals.0, bytes, entry));
        }
        true
    }

    /// Puts a datagram on the public side of the network, claiming to be from `from`.
    pub(super) fn inject(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) {
        let entry = self.record(now, from, to, &bytes);
        let realm = self
            .hosts
            .iter()
            .find(|host| host.addresses.iter().any(|(a, _)| *a == to.ip()))
            .filter(|_| !self.is_in(INTERNET, to.ip()))
            .map_or(INTERNET, |host| host.realm);
        self.launch(Flight {
            due: now,
            sequence: 0,
            into: Destination::Realm(realm),
            sender: None,
            from,
            to,
            bytes,
            entry,
        });
    }

    fn launch(&mut self, mut flight: Flight) {
        flight.sequence = self.sequence;
        self.sequence += 1;
        self.flights.push(flight);
    }

    /// Decides whether, when and as whose a datagram arrives, and where its journey ends.
    fn plan(
        &mut self,
        now: Instant,
        host: usize,
        from: SocketAddr,
        to: SocketAddr,
        len: usize,
    ) -> Result<(SocketAddr, Arrivals, Destination), Fate> {
        if !self.is_up(host, from.ip()) || from.is_ipv4() != to.is_ipv4() || to.port() == 0 {
            return Err(Fate::NoRoute);
        }
        if to.ip().is_loopback() || self.is_up(host, to.ip()) {
            return Ok((from, (now, None), Destination::Host(host)));
        }
        if from.ip().is_loopback() {
            return Err(Fate::NoRoute);
        }
        let (realm, seen_from) = self.route_out(now, self.hosts[host].realm, from, to)?;
        let target = self.receiver(realm, to);
        if target.is_some_and(|target| self.partitions.contains(&(host, target))) {
            return Err(Fate::Partitioned);
        }
        let headers = if to.is_ipv4() { 20 + 8 } else { 40 + 8 };
        let link = self.links.entry((host, target)).or_default();
        let config = link.config.unwrap_or(self.default_link);
        let arrivals = link.carry(&config, &mut self.rng, now, len, headers)?;
        Ok((seen_from, arrivals, Destination::Realm(realm)))
    }

    /// Goes out through as many NATs as it takes to reach a realm that knows `to`.
    fn route_out(
        &mut self,
        now: Instant,
        mut realm: usize,
        mut from: SocketAddr,
        to: SocketAddr,
    ) -> Result<(usize, SocketAddr), Fate> {
        let mut passed = None;
        loop {
            if self.is_in(realm, to.ip()) {
                break;
            }
            let Some(index) = realm.checked_sub(1) else {
                return Err(Fate::NoRoute);
            };
            let nat = &mut self.nats[index];
            from = nat.outbound(now, from, to).ok_or(Fate::NoRoute)?;
            realm = nat.outer;
            passed = Some(index);
        }
        match passed.map(|index| &self.nats[index]) {
            Some(nat) if nat.public == to.ip() && !nat.hairpinning => Err(Fate::Filtered),
            _ => Ok((realm, from)),
        }
    }

    fn is_in(&self, realm: usize, ip: IpAddr) -> bool {
        self.host_in(realm, ip).is_some()
            || self.nats.iter().any(|nat| nat.outer == realm && nat.public == ip)
    }

    fn host_in(&self, realm: usize, ip: IpAddr) -> Option<usize> {
        self.hosts.iter().position(|host| {
            host.realm == realm && host.addresses.iter().any(|(address, _)| *address == ip)
        })
    }

    /// Which host a datagram is going to, as far as that can be said before it arrives.
    fn receiver(&self, mut realm: usize, mut to: SocketAddr) -> Option<usize> {
        loop {
            if let Some(host) = self.host_in(realm, to.ip()) {
                return Some(host);
            }
            let index =
                self.nats.iter().position(|nat| nat.outer == realm && nat.public == to.ip())?;
            to = self.nats[index].behind(to.port())?;
            realm = index + 1;
        }
    }

    /// When the next datagram is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.flights.peek().map(|flight| flight.due)
    }

    /// Hands over everything that is due.
    pub(super) fn deliver_due(&mut self, now: Instant) {
        let mut due = Vec::new();
        while self.flights.peek().is_some_and(|flight| flight.due <= now) {
            due.extend(self.flights.pop());
        }
        if self.config.perturb {
            due = self.shuffle(due);
        }
        for flight in due {
            let entry = flight.entry;
            let fate = self.arrive(now, flight);
            let arrived = (fate == Fate::Delivered).then(|| now.duration_since(self.epoch));
            self.transcript.conclude(entry, fate, arrived);
        }
    }

    /// Shuffles what is due at the same instant, each flow staying in order.
    fn shuffle(&mut self, due: Vec<Flight>) -> Vec<Flight> {
        let mut flows: Vec<(Flow, VecDeque<Flight>)> = Vec::new();
        let mut shuffled = Vec::with_capacity(due.len());
        for flight in due {
            let flow = (flight.sender, flight.to);
            match flows.iter_mut().find(|(known, _)| *known == flow) {
                Some((_, flights)) => flights.push_back(flight),
                None => flows.push((flow, VecDeque::from([flight]))),
            }
        }
        while !flows.is_empty() {
            let picked = self.rng.usize(..flows.len());
            shuffled.extend(flows[picked].1.pop_front());
            if flows[picked].1.is_empty() {
                flows.swap_remove(picked);
            }
        }
        shuffled
    }

    fn arrive(&mut self, now: Instant, flight: Flight) -> Fate {
        let mut to = flight.to;
        let host = match flight.into {
            Destination::Host(host) => host,
            Destination::Realm(mut realm) => loop {
                if let Some(host) = self.host_in(realm, to.ip()) {
                    break host;
                }
                let nat =
                    self.nats.iter().position(|nat| nat.outer == realm && nat.public == to.ip());
                let Some(index) = nat else { return Fate::NoRoute };
                match self.nats[index].inbound(now, flight.from, to) {
                    Some(inner) => to = inner,
                    None => return Fate::Filtered,
                }
                realm = index + 1;
            },
        };
        if !self.is_up(host, to.ip()) {
            return Fate::NoRoute;
        }
        self.hand_over(host, to, flight.from, flight.bytes)
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.duration_since(self.epoch)
    }
}
