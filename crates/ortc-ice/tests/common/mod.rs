//! Two agents in virtual time over a seeded, lossy network.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses a part")]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_ice::{
    IceAgent, IceCommand, IceConfig, IceEvent, IceState, Output, RTCIceCandidateDescription,
    RTCIceConnectionInfo,
};
use ortc_io::consent::{CONSENT_BUFFER, ConsentTable, ConsentVerdict};
use ortc_io::{
    ConnectionId, Encapsulation, InterfaceAddress, InterfaceKind, ListenOn, Path, PathUpdate,
    SharedSocket, SocketEvent, SocketId,
};

/// The connection of each side at its own port.
pub const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };

/// One side: an agent, its host and what it has said.
pub struct Side {
    pub agent: IceAgent,
    pub info: RTCIceConnectionInfo,
    pub interfaces: Vec<InterfaceAddress>,
    pub sockets: Vec<(SocketId, SocketAddr)>,
    /// Streams: ours, theirs.
    pub streams: Vec<(SocketId, SocketAddr, SocketAddr)>,
    /// Where streams are taken, by token.
    pub listening: Vec<(u64, SocketAddr)>,
    /// Names that stand for addresses of this side.
    pub names: Vec<(String, IpAddr)>,
    /// How often a stream was opened, or tried to be.
    pub opened: usize,
    /// Events, with the time since the start.
    pub events: Vec<(Duration, IceEvent)>,
    pub updates: Vec<(Duration, PathUpdate)>,
    /// Datagrams that left, by local address.
    pub sent: BTreeMap<SocketAddr, usize>,
    /// Whether found candidates are set at once.
    pub sets: bool,
    /// Whether they are signalled to the peer at once.
    pub signals: bool,
    /// What keeps consent in the agent's stead; `None` is a port that does not.
    pub consent: Option<ConsentTable>,
    next_slot: u32,
}

impl Side {
    fn new(config: IceConfig, addresses: &[&str]) -> Self {
        Self {
            info: config.credentials.clone(),
            agent: IceAgent::new(config),
            interfaces: addresses.iter().map(|address| interface(address)).collect(),
            sockets: Vec::new(),
            streams: Vec::new(),
            listening: Vec::new(),
            names: Vec::new(),
            opened: 0,
            events: Vec::new(),
            updates: Vec::new(),
            sent: BTreeMap::new(),
            sets: true,
            signals: true,
            consent: None,
            next_slot: 0,
        }
    }

    /// The candidates found so far.
    pub fn found(&self) -> Vec<RTCIceCandidateDescription> {
        let found = self.events.iter().filter_map(|(_, event)| match event {
            IceEvent::CandidateFound(candidate) => Some(candidate.clone()),
            _ => None,
        });
        found.collect()
    }

    /// The states told so far, with the time since the start.
    pub fn states(&self) -> Vec<(Duration, IceState)> {
        let states = self.events.iter().filter_map(|(at, event)| match event {
            IceEvent::StateChanged(state) => Some((*at, *state)),
            _ => None,
        });
        states.collect()
    }

    /// The address of the selected socket and the remote one.
    pub fn selected(&self) -> Option<(SocketAddr, SocketAddr)> {
        let path = self.agent.selected_path()?;
        Some((self.address(path.socket)?, path.remote))
    }

    pub fn address(&self, socket: SocketId) -> Option<SocketAddr> {
        self.sockets.iter().find(|(id, _)| *id == socket).map(|(_, address)| *address)
    }

    pub fn socket(&self, address: SocketAddr) -> Option<SocketId> {
        self.sockets.iter().find(|(_, a)| *a == address).map(|(id, _)| *id)
    }

    fn next_socket(&mut self) -> SocketId {
        self.next_slot += 1;
        SocketId { slot: self.next_slot - 1, generation: 0 }
    }

    /// Whether media goes over a stream.
    pub fn is_on_stream(&self) -> bool {
        let path = self.agent.selected_path();
        path.is_some_and(|path| path.encapsulation == Encapsulation::Rfc4571)
    }

    /// The pair that media uses, as it was told last.
    pub fn active_pair(&self) -> Option<[RTCIceCandidateDescription; 2]> {
        self.events.iter().rev().find_map(|(_, event)| match event {
            IceEvent::ActivePair { local, remote } => Some([local.clone(), remote.clone()]),
            _ => None,
        })
    }

    /// When something is to be done next.
    fn poll_timeout(&self) -> Option<Instant> {
        let consent = self.consent.as_ref().and_then(ConsentTable::poll_timeout);
        let all = [self.agent.poll_timeout(), consent].into_iter().flatten();
        all.map(|(at, _)| at).min()
    }

    pub fn is_connected(&self) -> bool {
        self.agent.state() == IceState::Connected
    }
}

/// An interface with this address, of an IPv6 link with its scope: `fe80::1%2`.
pub fn interface(address: &str) -> InterfaceAddress {
    let (address, scope) = address.split_once('%').unwrap_or((address, "0"));
    let address: IpAddr = address.parse().unwrap();
    InterfaceAddress {
        name: format!("if-{address}"),
        address,
        scope_id: scope.parse().unwrap(),
        kind: InterfaceKind::Network,
    }
}

/// The scope of an address of an IPv6 link.
pub fn scope(address: SocketAddr) -> Option<u32> {
    match address {
        SocketAddr::V6(address) if address.ip().is_unicast_link_local() => Some(address.scope_id()),
        _ => None,
    }
}

fn with_scope(address: SocketAddr, scope: u32) -> SocketAddr {
    let SocketAddr::V6(mut address) = address else { return address };
    address.set_scope_id(scope);
    address.into()
}

/// The credentials of a side whose random bytes are all `byte`.
pub fn info(byte: u8) -> RTCIceConnectionInfo {
    RTCIceConnectionInfo::from_random([byte; 32])
}

pub fn config(byte: u8) -> IceConfig {
    IceConfig::new(info(byte), u64::from(byte))
}

/// Decides which datagrams a network drops: from, to.
pub type Firewall = Box<dyn Fn(SocketAddr, SocketAddr) -> bool>;

/// What is on its way to a side.
enum Flight {
    Datagram(SocketAddr, SocketAddr, Bytes),
    /// A stream that a side has opened: its token, its own address, the other one.
    Open(usize, u64, SocketAddr, SocketAddr),
    /// On a stream.
    Message(SocketAddr, SocketAddr, Bytes),
    /// The end of one.
    Close(SocketAddr, SocketAddr),
}

pub struct Pair {
    pub now: Instant,
    pub start: Instant,
    pub sides: [Side; 2],
    /// Probability of loss, each way.
    pub loss: f64,
    pub delay: Duration,
    pub blocks: Firewall,
    /// Which streams the network refuses.
    pub blocks_streams: Firewall,
    /// IPv6 links: the scope that each side knows it by.
    pub links: Vec<[u32; 2]>,
    /// Everything sent: from, to, bytes. Only while recording.
    pub record: Option<Vec<(SocketAddr, SocketAddr, Bytes)>>,
    random: fastrand::Rng,
    flying: BTreeMap<(Instant, u64), Flight>,
    sequence: u64,
}

impl Pair {
    pub fn new(seed: u64, a: &[&str], b: &[&str]) -> Self {
        Self::with(seed, Side::new(config(1), a), Side::new(config(2), b))
    }

    pub fn with_configs(seed: u64, a: (IceConfig, &[&str]), b: (IceConfig, &[&str])) -> Self {
        Self::with(seed, Side::new(a.0, a.1), Side::new(b.0, b.1))
    }

    fn with(seed: u64, a: Side, b: Side) -> Self {
        // The engine draws transaction identifiers from it.
        fastrand::seed(seed);
        let start = Instant::now();
        Self {
            now: start,
            start,
            sides: [a, b],
            loss: 0.0,
            delay: Duration::from_millis(10),
            blocks: Box::new(|_, _| false),
            blocks_streams: Box::new(|_, _| false),
            links: Vec::new(),
            record: None,
            random: fastrand::Rng::with_seed(seed),
            flying: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub fn a(&self) -> &Side {
        &self.sides[0]
    }

    pub fn b(&self) -> &Side {
        &self.sides[1]
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn command(&mut self, side: usize, command: IceCommand) {
        let now = self.now;
        self.sides[side].agent.handle_command(now, command);
        self.settle();
    }

    pub fn gather(&mut self) {
        self.command(0, IceCommand::Gather);
        self.command(1, IceCommand::Gather);
    }

    pub fn connect(&mut self, side: usize, controlling: bool) {
        let remote = self.sides[1 - side].info.clone();
        self.command(side, IceCommand::Connect { remote, controlling });
    }

    /// Gathers and connects both; the first controls.
    pub fn start(&mut self) {
        self.gather();
        self.connect(0, true);
        self.connect(1, false);
    }

    /// Lets time pass until `done`, or panics after `limit`.
    pub fn drive_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let deadline = self.now + limit;
        while !done(self) {
            assert!(self.step(deadline), "not done after {limit:?}: {:?}", self.states());
        }
        self.elapsed()
    }

    pub fn drive_until_connected(&mut self, limit: Duration) -> Duration {
        self.drive_until(limit, |pair| pair.sides.iter().all(Side::is_connected))
    }

    pub fn advance(&mut self, time: Duration) {
        let deadline = self.now + time;
        while self.step(deadline) {}
    }

    fn states(&self) -> [Vec<(Duration, IceState)>; 2] {
        [self.a().states(), self.b().states()]
    }

    /// Hands a datagram to a side, as if the network had brought it.
    pub fn inject(&mut self, side: usize, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let socket = self.sides[side].socket(to).expect("a bound address");
        let (now, path, mut buffer) = (self.now, Path::plain(socket, from), CONSENT_BUFFER);
        let consent = self.sides[side].consent.as_mut();
        let verdict = consent.map_or(ConsentVerdict::Pass, |consent| {
            consent.handle(now, CONNECTION, path, datagram, &mut buffer)
        });
        match verdict {
            ConsentVerdict::Pass => self.sides[side].agent.handle_datagram(now, path, datagram),
            ConsentVerdict::Done => {}
            ConsentVerdict::Answer(len) => {
                self.transmit(side, path, Bytes::copy_from_slice(&buffer[..len]));
            }
        }
        self.settle();
    }

    /// Has both sides' ports keep consent.
    pub fn delegate(&mut self) {
        self.sides.iter_mut().for_each(|side| side.consent = Some(ConsentTable::new()));
    }

    /// Two addresses of the first side and one of the second, connected for so long.
    pub fn connected_for(time: Duration, seed: u64, delegated: bool) -> Self {
        let mut pair = Self::new(seed, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
        if delegated {
            pair.delegate();
        }
        pair.start();
        pair.drive_until_connected(Duration::from_secs(1));
        pair.advance(time);
        pair
    }

    /// Goes to the next thing that happens, at the latest to `deadline`; false when there.
    fn step(&mut self, deadline: Instant) -> bool {
        let timeouts = self.sides.iter().filter_map(Side::poll_timeout);
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let next = timeouts.chain(arrival).min().unwrap_or(deadline);
        if next > deadline {
            self.now = deadline;
            return false;
        }
        let stuck = next == deadline && self.now == deadline;
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let flight = entry.remove();
            self.arrive(flight);
        }
        for index in 0..2 {
            let side = &mut self.sides[index];
            if side.agent.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                side.agent.handle_timeout(self.now);
            }
            let mut buffer = CONSENT_BUFFER;
            while let Some((path, len)) = self.sides[index]
                .consent
                .as_mut()
                .and_then(|consent| consent.poll_request(self.now, &mut buffer))
            {
                self.transmit(index, path, Bytes::copy_from_slice(&buffer[..len]));
            }
        }
        self.settle();
        !stuck
    }

    /// Carries out everything that both sides want done.
    pub fn settle(&mut self) {
        loop {
            let output = |side: usize| Some((side, self.sides[side].agent.poll_output()?));
            if let Some((side, output)) = (0..2).find_map(output) {
                self.carry_out(side, output);
                continue;
            }
            let now = self.now;
            let told = self.sides.iter_mut().find_map(|side| {
                let (_, event) = side.consent.as_mut()?.poll_event()?;
                side.agent.handle_socket_event(now, event);
                Some(())
            });
            if told.is_none() {
                return;
            }
        }
    }

    fn transmit(&mut self, index: usize, path: Path, datagram: Bytes) {
        let side = &mut self.sides[index];
        if path.encapsulation == Encapsulation::Rfc4571 {
            let known = side.streams.iter().find(|(socket, ..)| *socket == path.socket);
            let (_, local, remote) = *known.expect("a stream that is open");
            assert_eq!(remote, path.remote);
            return self.fly(Flight::Message(local, remote, datagram));
        }
        let from = side.address(path.socket).expect("a bound socket");
        *side.sent.entry(from).or_default() += 1;
        if let Some(record) = &mut self.record {
            record.push((from, path.remote, datagram.clone()));
        }
        if self.random.f64() < self.loss || (self.blocks)(from, path.remote) {
            return;
        }
        let (from, to) = match (scope(from), scope(path.remote)) {
            (None, None) => (from, path.remote),
            (Some(own), Some(scope)) if own == scope => {
                let link = self.links.iter().find(|link| link[index] == scope);
                // Nobody else is on that link.
                let Some(link) = link else { return };
                (with_scope(from, link[1 - index]), with_scope(path.remote, link[1 - index]))
            }
            _ => panic!("nothing gets from {from} to {}", path.remote),
        };
        self.fly(Flight::Datagram(from, to, datagram));
    }

    /// What a socket port says that hears no media on the selected path of a side any more.
    pub fn doubt(&mut self, side: usize) {
        let path = self.sides[side].agent.selected_path().expect("connected");
        let now = self.now;
        self.sides[side].agent.handle_socket_event(now, SocketEvent::PathDoubted(path));
        self.settle();
    }

    fn fly(&mut self, flight: Flight) {
        self.sequence += 1;
        self.flying.insert((self.now + self.delay, self.sequence), flight);
    }

    fn arrive(&mut self, flight: Flight) {
        let now = self.now;
        match flight {
            Flight::Datagram(from, to, datagram) => {
                let side = self.sides.iter().position(|side| side.socket(to).is_some());
                if let Some(side) = side {
                    self.inject(side, from, to, &datagram);
                }
            }
            Flight::Open(side, token, local, remote) => {
                let other = self.sides[1 - side].listening.iter().any(|(_, at)| *at == remote);
                let is_open = other && !(self.blocks_streams)(local, remote);
                let this = &mut self.sides[side];
                this.opened += 1;
                let event = if is_open {
                    let socket = this.next_socket();
                    this.streams.push((socket, local, remote));
                    SocketEvent::Bound { token, socket, local }
                } else {
                    let error = Arc::new(io::ErrorKind::ConnectionRefused.into());
                    SocketEvent::BindFailed { token, address: remote, error }
                };
                this.agent.handle_socket_event(now, event);
            }
            Flight::Message(from, to, message) => {
                let ends = |(_, local, remote): &(SocketId, SocketAddr, SocketAddr)| {
                    (*local, *remote) == (to, from)
                };
                let known = self.sides.iter().enumerate().find_map(|(side, it)| {
                    Some((side, it.streams.iter().find(|stream| ends(stream))?.0))
                });
                // With its first message a stream is the listener's, unless it was cut meanwhile.
                let is_open = self.sides.iter().flat_map(|side| &side.streams);
                let is_open =
                    is_open.copied().any(|(_, local, remote)| (local, remote) == (from, to));
                let new = || is_open.then(|| self.accept(from, to)).flatten();
                let Some((side, socket)) = known.or_else(new) else { return };
                let path =
                    Path { encapsulation: Encapsulation::Rfc4571, ..Path::plain(socket, from) };
                self.sides[side].agent.handle_datagram(now, path, &message);
            }
            Flight::Close(from, to) => {
                for side in 0..2 {
                    let it = &mut self.sides[side];
                    let is_it =
                        |(_, local, remote): &mut (_, _, _)| (*local, *remote) == (to, from);
                    let gone: Vec<_> = it.streams.extract_if(.., is_it).collect();
                    for (socket, ..) in gone {
                        let error = Some(Arc::new(io::ErrorKind::ConnectionReset.into()));
                        it.agent.handle_socket_event(now, SocketEvent::Unbound { socket, error });
                    }
                }
            }
        }
        self.settle();
    }

    fn accept(&mut self, from: SocketAddr, to: SocketAddr) -> Option<(usize, SocketId)> {
        let now = self.now;
        let (side, token) = self.sides.iter().enumerate().find_map(|(side, it)| {
            Some((side, it.listening.iter().find(|(_, at)| *at == to)?.0))
        })?;
        let it = &mut self.sides[side];
        let socket = it.next_socket();
        it.streams.push((socket, to, from));
        let accepted = SocketEvent::Accepted { token, socket, local: to, remote: from };
        it.agent.handle_socket_event(now, accepted);
        Some((side, socket))
    }

    /// Opens a stream to a side from somewhere, on which nothing comes.
    pub fn open_silent_stream(&mut self, from: SocketAddr, to: SocketAddr) {
        self.accept(from, to).expect("somebody listens");
        self.settle();
    }

    /// Cuts all streams, as a NAT does that has forgotten them, but with a word to both ends.
    pub fn cut_streams(&mut self) {
        for side in &self.sides {
            for (_, local, remote) in side.streams.clone() {
                self.sequence += 1;
                self.flying.insert((self.now, self.sequence), Flight::Close(remote, local));
            }
        }
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        let (now, elapsed) = (self.now, self.elapsed());
        let side = &mut self.sides[index];
        match output {
            Output::Resolve { token, host } => {
                let all = self.sides.iter().flat_map(|side| &side.names);
                let found: Vec<_> =
                    all.filter(|(name, _)| *name == host).map(|(_, address)| *address).collect();
                let nobody = || "nobody has this name".to_owned();
                let answer = if found.is_empty() { Err(nobody()) } else { Ok(found) };
                self.sides[index].agent.handle_resolved(now, token, answer);
            }
            Output::OpenStream { .. } => unreachable!("no server is configured"),
            Output::Enumerate => {
                let event = SocketEvent::Interfaces(side.interfaces.clone());
                side.agent.handle_socket_event(now, event);
            }
            Output::Bind { token, address } => {
                let socket = side.next_socket();
                let mut local = address;
                local.set_port(5000 + socket.slot as u16);
                side.sockets.push((socket, local));
                side.agent.handle_socket_event(now, SocketEvent::Bound { token, socket, local });
            }
            Output::Join { token, shared, .. } => {
                let SharedSocket { socket, local } = shared;
                side.sockets.push((socket, local));
                side.agent.handle_socket_event(now, SocketEvent::Bound { token, socket, local });
            }
            Output::PublishName { name, address } => side.names.push((name, address)),
            Output::WithdrawName(name) => side.names.retain(|(known, _)| *known != name),
            // There are no forks here.
            Output::Share { .. } | Output::Release(_) | Output::ClaimPeer(_) => {}
            Output::OpenPeerStream { token, from, remote } => {
                self.sequence += 1;
                let local = SocketAddr::new(from, 40_000 + (self.sequence % 20_000) as u16);
                self.fly(Flight::Open(index, token, local, remote));
            }
            Output::Listen { token, on, credentials } => {
                assert_eq!(*credentials, side.info);
                let ListenOn::Own(address) = on else { unreachable!("no port is shared") };
                let local = SocketAddr::new(address.ip(), 6000 + side.listening.len() as u16);
                side.listening.push((token, local));
                side.agent.handle_socket_event(now, SocketEvent::Listening { token, local });
            }
            Output::StopListening(token) => side.listening.retain(|(of, _)| *of != token),
            Output::Unbind(socket) => {
                side.sockets.retain(|(id, _)| *id != socket);
                let is_it = |(id, ..): &mut (SocketId, _, _)| *id == socket;
                let closed: Vec<_> = side.streams.extract_if(.., is_it).collect();
                for (_, local, remote) in closed {
                    self.fly(Flight::Close(local, remote));
                }
            }
            Output::Transmit { path, datagram } => self.transmit(index, path, datagram),
            Output::Path(update) => {
                side.updates.push((elapsed, update));
                if let Some(consent) = &mut side.consent {
                    match update {
                        PathUpdate::Selected(path) => consent.review(CONNECTION, Some(path)),
                        PathUpdate::SendingSuspended => consent.review(CONNECTION, None),
                        _ => {}
                    }
                }
            }
            Output::DelegateConsent(delegation) => {
                if let Some(consent) = &mut side.consent {
                    consent.delegate(now, CONNECTION, &delegation);
                }
            }
            Output::ReclaimConsent(token) => {
                if let Some(consent) = &mut side.consent {
                    consent.reclaim(CONNECTION, token);
                }
            }
            Output::Event(event) => {
                side.events.push((elapsed, event.clone()));
                if let IceEvent::CandidateFound(candidate) = event {
                    if side.sets {
                        let set = IceCommand::SetLocalCandidate(candidate.clone());
                        side.agent.handle_command(now, set);
                    }
                    if side.signals {
                        let set = IceCommand::SetRemoteCandidate(candidate);
                        self.sides[1 - index].agent.handle_command(now, set);
                    }
                }
            }
        }
    }
}
