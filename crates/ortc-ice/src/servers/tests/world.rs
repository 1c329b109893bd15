//! Two agents behind NATs of their own, and a server between them, in virtual time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::{
    Encapsulation, InterfaceAddress, InterfaceKind, Path, SharedSocket, SocketEvent, SocketId,
};

use super::server::ScriptedServer;
use crate::{
    IceAgent, IceCommand, IceConfig, IceEvent, IceState, Output, RTCIceCandidateDescription,
    RTCIceConnectionInfo, RTCIceServer,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NatType {
    /// None: the host has a public address.
    None,
    /// Full cone: whoever sends to a mapping gets through.
    Full,
    /// Port restricted: who has been sent to.
    Port,
    /// Symmetric: a mapping for each peer.
    Sym,
}

pub(super) const NATS: [NatType; 4] = [NatType::None, NatType::Full, NatType::Port, NatType::Sym];

#[derive(Debug)]
struct Mapping {
    inner: SocketAddr,
    outer: SocketAddr,
    /// Whom it is for alone.
    only: Option<SocketAddr>,
    sent_to: Vec<SocketAddr>,
}

#[derive(Debug)]
pub(super) struct Nat {
    pub(super) kind: NatType,
    public: IpAddr,
    mappings: Vec<Mapping>,
}

impl Nat {
    /// Gets another address, and forgets all mappings.
    pub(super) fn rebind(&mut self, public: IpAddr) {
        self.public = public;
        self.mappings.clear();
    }

    fn outward(&mut self, inner: SocketAddr, to: SocketAddr) -> SocketAddr {
        if self.kind == NatType::None {
            return inner;
        }
        let only = (self.kind == NatType::Sym).then_some(to);
        let next = SocketAddr::new(self.public, 40000 + self.mappings.len() as u16);
        let known = self.mappings.iter_mut().find(|it| it.inner == inner && it.only == only);
        if let Some(known) = known {
            if !known.sent_to.contains(&to) {
                known.sent_to.push(to);
            }
            return known.outer;
        }
        self.mappings.push(Mapping { inner, outer: next, only, sent_to: vec![to] });
        next
    }

    fn inward(&self, from: SocketAddr, outer: SocketAddr) -> Option<SocketAddr> {
        if self.kind == NatType::None {
            return Some(outer);
        }
        let mapping = self.mappings.iter().find(|it| it.outer == outer)?;
        let open = self.kind == NatType::Full || mapping.sent_to.contains(&from);
        open.then_some(mapping.inner)
    }
}

pub(super) struct Host {
    pub(super) agent: IceAgent,
    address: IpAddr,
    pub(super) nat: Nat,
    pub(super) sockets: Vec<(SocketId, SocketAddr)>,
    pub(super) events: Vec<(Duration, IceEvent)>,
    /// Names that were to be resolved.
    pub(super) resolve: Vec<(u64, String)>,
    pub(super) streams: Vec<(u64, SocketAddr, Option<String>)>,
    /// Whether candidates are set and signalled as they are found.
    pub(super) sets: bool,
}

impl Host {
    pub(super) fn found(&self) -> Vec<RTCIceCandidateDescription> {
        let found = self.events.iter().filter_map(|(_, event)| match event {
            IceEvent::CandidateFound(candidate) => Some(candidate.clone()),
            _ => None,
        });
        found.collect()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.found().iter().map(ToString::to_string).collect()
    }

    /// When something was told first.
    pub(super) fn when(&self, is_it: impl Fn(&IceEvent) -> bool) -> Option<u128> {
        let told = self.events.iter().find(|(_, event)| is_it(event));
        told.map(|(at, _)| at.as_millis())
    }

    /// The types of the pair that was selected last.
    pub(super) fn pair(&self) -> Option<(String, String)> {
        self.events.iter().rev().find_map(|(_, event)| match event {
            IceEvent::ActivePair { local, remote } => {
                Some((local.kind.clone(), remote.kind.clone()))
            }
            _ => None,
        })
    }
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) hosts: [Host; 2],
    pub(super) servers: Vec<ScriptedServer>,
    /// One way.
    pub(super) delay: Duration,
    /// Probability of loss.
    pub(super) loss: f64,
    pub(super) random: fastrand::Rng,
    /// How long candidates take from one side to the other at most; no time, at first.
    pub(super) signalling: Duration,
    /// Everything that went over the wire: from, to, bytes. Only while recording.
    pub(super) record: Option<Vec<(SocketAddr, SocketAddr, Bytes)>>,
    flying: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Bytes)>,
    /// Candidates on their way to a side.
    signalled: BTreeMap<(Instant, u64), (usize, RTCIceCandidateDescription)>,
    sequence: u64,
}

pub(super) fn turn(address: &str) -> RTCIceServer {
    RTCIceServer::new(format!("turn:{address}")).with_credential("alice", "secret")
}

impl World {
    /// Hosts behind NATs, with one server at 203.0.113.1:3478.
    pub(super) fn new(
        nats: [NatType; 2],
        mut configure: impl FnMut(IceConfig) -> IceConfig,
    ) -> Self {
        fastrand::seed(7);
        let mut host = |side: u8| {
            let kind = nats[usize::from(side)];
            let public: IpAddr = [203, 0, 113, 10 + side].into();
            let address = if kind == NatType::None { public } else { [10, 1 + side, 0, 2].into() };
            let info = RTCIceConnectionInfo::from_random([side + 1; 32]);
            Host {
                agent: IceAgent::new(configure(IceConfig::new(info, u64::from(side) + 1))),
                address,
                nat: Nat { kind, public, mappings: Vec::new() },
                sockets: Vec::new(),
                events: Vec::new(),
                resolve: Vec::new(),
                streams: Vec::new(),
                sets: true,
            }
        };
        let start = Instant::now();
        Self {
            now: start,
            start,
            hosts: [host(0), host(1)],
            servers: vec![ScriptedServer::new("203.0.113.1:3478")],
            delay: Duration::from_millis(10),
            loss: 0.0,
            random: fastrand::Rng::with_seed(7),
            signalling: Duration::ZERO,
            record: None,
            flying: BTreeMap::new(),
            signalled: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub(super) fn command(&mut self, side: usize, command: IceCommand) {
        self.hosts[side].agent.handle_command(self.now, command);
        self.drain();
    }

    /// Has one side gather.
    pub(super) fn gather(&mut self, side: usize) {
        self.command(side, IceCommand::Gather);
    }

    /// Has both sides gather and connect.
    pub(super) fn connect(&mut self) {
        self.gather(0);
        self.gather(1);
        for side in [0, 1] {
            let remote = self.hosts[1 - side].agent.config.credentials.clone();
            self.command(side, IceCommand::Connect { remote, controlling: side == 0 });
        }
    }

    /// Puts a datagram on the wire.
    pub(super) fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        self.sequence += 1;
        if let Some(record) = &mut self.record {
            record.push((from, to, bytes.clone()));
        }
        if self.random.f64() >= self.loss {
            self.flying.insert((self.now + self.delay, self.sequence), (from, to, bytes));
        }
    }

    fn drain(&mut self) {
        for side in [0, 1] {
            while let Some(output) = self.hosts[side].agent.poll_output() {
                self.put_out(side, output);
            }
        }
    }

    fn put_out(&mut self, side: usize, output: Output) {
        let (now, since) = (self.now, self.now - self.start);
        let host = &mut self.hosts[side];
        match output {
            Output::Enumerate => {
                let interface = InterfaceAddress {
                    name: "eth0".into(),
                    address: host.address,
                    scope_id: 0,
                    kind: InterfaceKind::Network,
                };
                host.agent.handle_socket_event(now, SocketEvent::Interfaces(vec![interface]));
            }
            Output::Bind { token, address } => {
                let slot = host.sockets.len() as u32;
                let socket = SocketId { slot, generation: 0 };
                let local = SocketAddr::new(address.ip(), 5000 + slot as u16);
                host.sockets.push((socket, local));
                host.agent.handle_socket_event(now, SocketEvent::Bound { token, socket, local });
            }
            Output::Transmit { path, datagram } => {
                let from = host.sockets.iter().find(|(id, _)| *id == path.socket);
                let Some((_, from)) = from else { return };
                let from = host.nat.outward(*from, path.remote);
                let bytes = match path.encapsulation {
                    Encapsulation::ChannelData(number) => {
                        let length = u16::try_from(datagram.len()).unwrap().to_be_bytes();
                        [&number.to_be_bytes()[..], &length, &datagram].concat().into()
                    }
                    _ => datagram,
                };
                self.inject(from, path.remote, bytes);
            }
            Output::Event(event) => {
                host.events.push((since, event.clone()));
                if let (IceEvent::CandidateFound(candidate), true) = (event, host.sets) {
                    let set = IceCommand::SetLocalCandidate(candidate.clone());
                    host.agent.handle_command(now, set);
                    self.signal(1 - side, candidate);
                }
            }
            Output::Resolve { token, host: name } => host.resolve.push((token, name)),
            Output::OpenStream { token, server, tls } => host.streams.push((token, server, tls)),
            // Whoever shares it has bound it at the port that it says.
            Output::Join { token, shared, .. } => {
                let SharedSocket { socket, local } = shared;
                host.sockets.push((socket, local));
                host.agent.handle_socket_event(now, SocketEvent::Bound { token, socket, local });
            }
            Output::Unbind(socket) => host.sockets.retain(|(id, _)| *id != socket),
            // No TCP candidate is wanted, no address hidden, and the port is one
            // that keeps no consent.
            Output::OpenPeerStream { .. }
            | Output::Listen { .. }
            | Output::StopListening(_)
            | Output::PublishName { .. }
            | Output::WithdrawName(_)
            | Output::Share { .. }
            | Output::Release(_)
            | Output::ClaimPeer(_)
            | Output::DelegateConsent(_)
            | Output::ReclaimConsent(_)
            | Output::Path(_) => {}
        }
    }

    fn signal(&mut self, to: usize, candidate: RTCIceCandidateDescription) {
        if self.signalling.is_zero() {
            let command = IceCommand::SetRemoteCandidate(candidate);
            return self.hosts[to].agent.handle_command(self.now, command);
        }
        let at = self.now + self.signalling.mul_f64(self.random.f64());
        // They keep their order.
        let before = self.signalled.iter().filter(|(_, (side, _))| *side == to);
        let at = before.map(|((before, _), _)| *before).chain([at]).max().unwrap();
        self.sequence += 1;
        self.signalled.insert((at, self.sequence), (to, candidate));
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.owns(to)) {
            for (from, to, bytes) in server.handle(from, to, &bytes) {
                self.inject(from, to, bytes);
            }
            return;
        }
        for host in &mut self.hosts {
            let Some(inner) = host.nat.inward(from, to) else { continue };
            let Some((socket, _)) = host.sockets.iter().find(|(_, address)| *address == inner)
            else {
                continue;
            };
            let plain = Path::plain(*socket, from);
            let (path, data) = if bytes[0] & 0xc0 == 0x40 {
                let number = u16::from_be_bytes([bytes[0], bytes[1]]);
                let encapsulation = Encapsulation::ChannelData(number);
                (Path { encapsulation, ..plain }, bytes.slice(4..))
            } else {
                (plain, bytes.clone())
            };
            host.agent.handle_datagram(self.now, path, &data);
        }
    }

    /// Lets time pass until `until` holds, for `period` at the most; returns whether it does.
    pub(super) fn drive(&mut self, period: Duration, until: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + period;
        loop {
            self.drain();
            if until(self) {
                return true;
            }
            let timers = self.hosts.iter().filter_map(|host| Some(host.agent.poll_timeout()?.0));
            let signalled = self.signalled.keys().next().map(|(at, _)| *at);
            let flying = self.flying.keys().next().map(|(at, _)| *at);
            let next = timers.chain(flying).chain(signalled).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            while let Some(first) = self.flying.first_entry().filter(|it| it.key().0 <= self.now) {
                let (from, to, bytes) = first.remove();
                self.deliver(from, to, bytes);
            }
            while let Some(first) = self.signalled.first_entry().filter(|it| it.key().0 <= self.now)
            {
                let (to, candidate) = first.remove();
                let command = IceCommand::SetRemoteCandidate(candidate);
                self.hosts[to].agent.handle_command(self.now, command);
            }
            for host in &mut self.hosts {
                if host.agent.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                    host.agent.handle_timeout(self.now);
                }
            }
        }
    }

    pub(super) fn advance(&mut self, period: Duration) {
        self.drive(period, |_| false);
    }

    /// The path that media of a side uses.
    pub(super) fn selected(&self, side: usize) -> Option<Path> {
        self.hosts[side].agent.selected_path()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.hosts.iter().all(|host| host.agent.state() == IceState::Connected)
    }
}
