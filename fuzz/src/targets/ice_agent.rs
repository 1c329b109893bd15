//! Two ICE agents, commands in any order, and a network that does what it likes with what they
//! say to each other: the invariants of `ortc-ice`'s own random operations, guided by coverage.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_ice::{
    IceAgent, IceCommand, IceConfig, IceEvent, IceState, Output, RTCIceCandidateDescription,
    RTCIceConnectionInfo,
};
use ortc_io::{InterfaceAddress, InterfaceKind, Path, PathUpdate, SocketEvent, SocketId};

use crate::Dice;

/// Datagrams that may be on their way.
const MAX_FLYING: usize = 64;

const ADDRESSES: [&[&str]; 2] = [&["192.0.2.1", "2001:db8::1"], &["198.51.100.1"]];

struct Side {
    agent: IceAgent,
    info: RTCIceConnectionInfo,
    interfaces: Vec<InterfaceAddress>,
    sockets: Vec<(SocketId, SocketAddr)>,
    found: Vec<RTCIceCandidateDescription>,
    /// The addresses of candidates that were ever set.
    set: Vec<(String, u16)>,
    validated: Vec<Path>,
    state: IceState,
    next_slot: u32,
}

struct World {
    now: Instant,
    sides: [Side; 2],
    /// To whom, from, to, bytes.
    flying: VecDeque<(usize, SocketAddr, SocketAddr, Bytes)>,
}

fn interface(address: &str) -> InterfaceAddress {
    let address: IpAddr = address.parse().expect("written above");
    InterfaceAddress {
        name: format!("if-{address}"),
        address,
        scope_id: 0,
        kind: InterfaceKind::Network,
    }
}

impl Side {
    fn new(number: usize) -> Self {
        let byte = number as u8 + 1;
        let info = RTCIceConnectionInfo::from_random([byte; 32]);
        let config = IceConfig::new(info.clone(), u64::from(byte)).with_seed(u64::from(byte));
        Self {
            agent: IceAgent::new(config),
            info,
            interfaces: ADDRESSES[number].iter().map(|address| interface(address)).collect(),
            sockets: Vec::new(),
            found: Vec::new(),
            set: Vec::new(),
            validated: Vec::new(),
            state: IceState::AwaitingConnect,
            next_slot: 0,
        }
    }

    fn address(&self, socket: SocketId) -> Option<SocketAddr> {
        self.sockets.iter().find(|(id, _)| *id == socket).map(|(_, address)| *address)
    }
}

pub(crate) fn run(data: &[u8]) {
    // The engine draws transaction identifiers from it.
    fastrand::seed(1);
    let mut dice = Dice::new(data);
    let sides = [Side::new(0), Side::new(1)];
    let mut world = World { now: Instant::now(), sides, flying: VecDeque::new() };
    let controlling = dice.byte();
    for side in 0..2 {
        world.command(side, IceCommand::Gather);
        if controlling & 4 == 0 {
            world.set(side, 0);
            world.connect(side, controlling >> side & 1 == 0);
        }
    }
    for _ in 0..200 {
        if dice.is_over() {
            break;
        }
        world.operate(&mut dice);
    }
    world.advance(Duration::from_secs(60));
}

impl World {
    fn operate(&mut self, dice: &mut Dice<'_>) {
        let operation = dice.byte();
        let side = usize::from(operation >> 7);
        match operation & 0x0f {
            0 => self.set(side, usize::from(dice.byte())),
            1 => {
                let found = &self.sides[1 - side].found;
                let candidate = found.get(usize::from(dice.byte()) % found.len().max(1)).cloned();
                if let Some(candidate) = candidate {
                    self.command(side, IceCommand::SetRemoteCandidate(candidate));
                }
            }
            2 => {
                let line = String::from_utf8_lossy(dice.bytes()).into_owned();
                if let Ok(candidate) = line.parse() {
                    self.command(side, IceCommand::SetRemoteCandidate(candidate));
                }
            }
            3 => self.connect(side, dice.byte() & 1 == 0),
            4 => {
                let kept = dice.byte();
                let all = ADDRESSES[side].iter().zip(0u8..);
                let kept = all.filter(|(_, n)| kept >> n & 1 == 0);
                self.sides[side].interfaces = kept.map(|(it, _)| interface(it)).collect();
                self.command(side, IceCommand::Update);
            }
            5 => {
                let known = self.sides[1 - side].found.first().cloned();
                if let Some(candidate) = known {
                    self.command(side, IceCommand::RemoveRemoteCandidate(candidate));
                }
            }
            6 if dice.byte() == 0 => self.command(side, IceCommand::Close),
            7 => self.advance(Duration::from_millis(u64::from(dice.short()))),
            8 => self.inject(side, dice),
            9 => drop(self.flying.pop_front()),
            10 => self.flying.rotate_left(1.min(self.flying.len())),
            11 => {
                let (at, flip) = (usize::from(dice.byte()), dice.byte());
                if let Some((.., bytes)) = self.flying.front_mut().filter(|it| !it.3.is_empty()) {
                    let mut changed = bytes.to_vec();
                    let at = at % changed.len();
                    changed[at] ^= flip;
                    *bytes = changed.into();
                }
            }
            12 => {
                if let Some(again) = self.flying.front().cloned() {
                    self.flying.push_back(again);
                }
            }
            _ => {
                for _ in 0..self.flying.len() {
                    self.deliver();
                }
                self.advance(Duration::from_millis(20));
            }
        }
    }

    fn command(&mut self, side: usize, command: IceCommand) {
        let now = self.now;
        self.sides[side].agent.handle_command(now, command);
        self.settle(side);
    }

    fn set(&mut self, side: usize, n: usize) {
        let found = &self.sides[side].found;
        if let Some(candidate) = found.get(n % found.len().max(1)).cloned() {
            let set = (candidate.connection_address.clone(), candidate.connection_port);
            self.sides[side].set.push(set);
            self.command(side, IceCommand::SetLocalCandidate(candidate));
        }
    }

    fn connect(&mut self, side: usize, controlling: bool) {
        let remote = self.sides[1 - side].info.clone();
        self.command(side, IceCommand::Connect { remote, controlling });
    }

    /// Any bytes from anywhere.
    fn inject(&mut self, side: usize, dice: &mut Dice<'_>) {
        let from = if dice.byte() & 1 == 0 { "198.51.100.1" } else { "203.0.113.9" };
        let from = SocketAddr::new(from.parse().expect("it is one"), dice.short());
        let Some((socket, _)) = self.sides[side].sockets.first().copied() else { return };
        let bytes = dice.bytes();
        let now = self.now;
        self.sides[side].agent.handle_datagram(now, Path::plain(socket, from), bytes);
        self.settle(side);
    }

    fn deliver(&mut self) {
        let Some((side, from, to, bytes)) = self.flying.pop_front() else { return };
        let socket = self.sides[side].sockets.iter().find(|(_, local)| *local == to);
        if let Some((socket, _)) = socket.copied() {
            let now = self.now;
            self.sides[side].agent.handle_datagram(now, Path::plain(socket, from), &bytes);
            self.settle(side);
        }
    }

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        loop {
            let due = |side: &Side| side.agent.poll_timeout().map(|(at, _)| at);
            let next = [0, 1].into_iter().filter_map(|n| Some((due(&self.sides[n])?, n))).min();
            let Some((at, side)) = next.filter(|(at, _)| *at <= until) else { break };
            steps += 1;
            assert!(steps < 200_000, "it never rests");
            self.now = self.now.max(at);
            let now = self.now;
            self.sides[side].agent.handle_timeout(now);
            self.settle(side);
        }
        self.now = until;
    }

    /// Does what an agent wants done, and looks at it.
    fn settle(&mut self, number: usize) {
        let mut outputs = 0;
        loop {
            let Some(output) = self.sides[number].agent.poll_output() else { break };
            outputs += 1;
            assert!(outputs < 10_000, "it never ends");
            let answer = self.take(number, output);
            if let Some(event) = answer {
                let now = self.now;
                self.sides[number].agent.handle_socket_event(now, event);
            }
        }
        let side = &self.sides[number];
        assert_eq!(side.agent.state(), side.state);
        if side.state == IceState::Closed {
            assert_eq!(side.agent.poll_timeout(), None);
        }
    }

    fn take(&mut self, number: usize, output: Output) -> Option<SocketEvent> {
        let side = &mut self.sides[number];
        match output {
            Output::Enumerate => return Some(SocketEvent::Interfaces(side.interfaces.clone())),
            Output::Bind { token, address } => {
                let socket = SocketId { slot: side.next_slot, generation: 0 };
                let port = 5_000 + side.next_slot as u16;
                side.next_slot += 1;
                let local = SocketAddr::new(address.ip(), port);
                side.sockets.push((socket, local));
                return Some(SocketEvent::Bound { token, socket, local });
            }
            Output::Unbind(socket) => side.sockets.retain(|(id, _)| *id != socket),
            Output::Transmit { path, datagram } => {
                let from = side.address(path.socket).expect("it sends from its own sockets");
                let as_set = (from.ip().to_string(), from.port());
                assert!(side.set.contains(&as_set), "{from} was never set");
                if self.flying.len() < MAX_FLYING {
                    self.flying.push_back((1 - number, from, path.remote, datagram));
                }
            }
            Output::Path(PathUpdate::Validated(path)) => {
                assert!(!side.validated.contains(&path), "validated twice");
                side.validated.push(path);
            }
            Output::Path(PathUpdate::Selected(path)) => {
                assert!(side.validated.contains(&path), "selected, and not validated");
            }
            Output::Path(PathUpdate::Lost(path)) => side.validated.retain(|known| *known != path),
            Output::Event(IceEvent::StateChanged(next)) => {
                assert_ne!(side.state, next, "a change that is none");
                assert_ne!(side.state, IceState::Closed, "a life after closing");
                side.state = next;
            }
            Output::Event(IceEvent::CandidateFound(candidate)) => side.found.push(candidate),
            Output::Event(IceEvent::CandidateWithdrawn(gone)) => {
                side.found.retain(|known| *known != gone);
            }
            _ => {}
        }
        None
    }
}
