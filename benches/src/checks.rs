//! What ICE itself costs, without sockets, threads and handshakes: two agents in one thread, over a
//! wire in virtual time, so that nothing but their work is counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ortc_ice::{IceAgent, IceCommand, IceConfig, IceEvent, IceState, Output, RTCIceConnectionInfo};
use ortc_io::{InterfaceAddress, InterfaceKind, Path, SocketEvent, SocketId};
use serde_json::{Value, json};

use crate::bench::{Bench, Figure, Options, Row};
use crate::error::{Failure, Result};
use crate::usage::thread_cpu_ns;

pub(crate) const BENCH: Bench = Bench {
    name: "checks",
    part: "",
    help: "CPU time of ICE alone: its checks until a connection settles, and its consent afterwards",
    figures: &[
        Figure { key: "cpu_us_per_connection", goal: None },
        Figure { key: "checks_per_connection", goal: None },
        Figure { key: "connect_ms", goal: None },
        Figure { key: "idle_cpu_us_per_second", goal: None },
        Figure { key: "idle_checks_per_second", goal: None },
    ],
    run,
    contestant: None,
};

/// Addresses of each side: 1 pair to 64.
const CANDIDATES: [u8; 4] = [1, 2, 4, 8];

/// Connections of each row.
const CONNECTIONS: u64 = 200;

/// One way.
const DELAY: Duration = Duration::from_millis(10);

/// By then a connection has settled: on the selected pair and two spares.
const SETTLED: Duration = Duration::from_secs(15);

/// How long it is watched then: of a consent interval of 5 s, many.
const WATCHED: Duration = Duration::from_secs(300);

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    if !options.wants("ortc") {
        return Ok(());
    }
    for candidates in CANDIDATES {
        let connections = options.scaled(CONNECTIONS);
        let mut sum = Cost::default();
        for seed in 0..connections {
            sum.add(connection(candidates, seed)?);
        }
        let sides = 2.0 * connections as f64;
        let watched = WATCHED.as_secs_f64() * sides;
        let parameters = json!({ "candidates": candidates });
        let figures = json!({
            "cpu_us_per_connection": round(sum.connecting_ns / 1e3 / sides),
            "checks_per_connection": round(sum.checks / sides),
            "connect_ms": round(sum.connect_ms / connections as f64),
            "idle_cpu_us_per_second": round(sum.idle_ns / 1e3 / watched),
            "idle_checks_per_second": round(sum.idle_checks / watched),
        });
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        report(Row { who: "ortc", parameters: object(parameters), figures: object(figures) });
    }
    Ok(())
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Of both sides together.
#[derive(Debug, Default)]
struct Cost {
    connecting_ns: f64,
    connect_ms: f64,
    checks: f64,
    idle_ns: f64,
    idle_checks: f64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.connecting_ns += other.connecting_ns;
        self.connect_ms += other.connect_ms;
        self.checks += other.checks;
        self.idle_ns += other.idle_ns;
        self.idle_checks += other.idle_checks;
    }
}

/// Has two agents connect and stay connected.
fn connection(candidates: u8, seed: u64) -> Result<Cost> {
    let mut wire = Wire::new(candidates, seed);
    let before = thread_cpu_ns();
    wire.connect();
    let until = wire.now + SETTLED;
    wire.run(until);
    let Some(connected) = wire.connected else {
        return Err(Failure::new("the agents do not connect"));
    };
    let settled = thread_cpu_ns();
    let checks = wire.checks();
    let until = wire.now + WATCHED;
    wire.run(until);
    Ok(Cost {
        connecting_ns: (settled - before) as f64,
        connect_ms: connected.as_secs_f64() * 1e3,
        checks: checks as f64,
        idle_ns: (thread_cpu_ns() - settled) as f64,
        idle_checks: (wire.checks() - checks) as f64,
    })
}

/// Two agents and what is between them.
struct Wire {
    now: Instant,
    begun: Instant,
    agents: [IceAgent; 2],
    credentials: [RTCIceConnectionInfo; 2],
    candidates: u8,
    /// By their numbers, which are those of the sockets.
    addresses: [Vec<SocketAddr>; 2],
    flying: BTreeMap<(Instant, u64), (usize, Path, Vec<u8>)>,
    sequence: u64,
    connected: Option<Duration>,
}

impl Wire {
    fn new(candidates: u8, seed: u64) -> Self {
        let credentials = [1, 2].map(|side| RTCIceConnectionInfo::from_random([side; 32]));
        let agent = |side: usize| {
            let config = IceConfig::new(credentials[side].clone(), seed * 2 + side as u64 + 1);
            IceAgent::new(config)
        };
        let begun = Instant::now();
        Self {
            now: begun,
            begun,
            agents: [agent(0), agent(1)],
            credentials: credentials.clone(),
            candidates,
            addresses: [Vec::new(), Vec::new()],
            flying: BTreeMap::new(),
            sequence: 0,
            connected: None,
        }
    }

    fn checks(&self) -> u64 {
        self.agents.iter().map(|agent| agent.stats().requests_sent).sum()
    }

    fn connect(&mut self) {
        for side in [0, 1] {
            self.agents[side].handle_command(self.now, IceCommand::Gather);
            self.drain(side);
            let remote = self.credentials[1 - side].clone();
            let connect = IceCommand::Connect { remote, controlling: side == 0 };
            self.agents[side].handle_command(self.now, connect);
            self.drain(side);
        }
    }

    /// Lets time pass until then.
    fn run(&mut self, until: Instant) {
        loop {
            let timers = self.agents.iter().filter_map(|agent| Some(agent.poll_timeout()?.0));
            let next = timers.chain(self.flying.keys().next().map(|key| key.0)).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            while let Some(first) = self.flying.first_entry().filter(|it| it.key().0 <= self.now) {
                let (side, path, datagram) = first.remove();
                self.agents[side].handle_datagram(self.now, path, &datagram);
                self.drain(side);
            }
            for side in [0, 1] {
                if self.agents[side].poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                    self.agents[side].handle_timeout(self.now);
                    self.drain(side);
                }
            }
            let both = self.agents.iter().all(|agent| agent.state() == IceState::Connected);
            if both && self.connected.is_none() {
                self.connected = Some(self.now - self.begun);
            }
        }
    }

    fn drain(&mut self, side: usize) {
        while let Some(output) = self.agents[side].poll_output() {
            match output {
                Output::Enumerate => {
                    let interfaces = (1..=self.candidates).map(|number| InterfaceAddress {
                        name: format!("eth{number}"),
                        address: [10, side as u8, number, 1].into(),
                        scope_id: 0,
                        kind: InterfaceKind::Network,
                    });
                    let event = SocketEvent::Interfaces(interfaces.collect());
                    self.agents[side].handle_socket_event(self.now, event);
                }
                Output::Bind { token, address } => {
                    let slot = self.addresses[side].len() as u32;
                    let (socket, local) = (SocketId { slot, generation: 0 }, address.ip());
                    let local = SocketAddr::new(local, 5000);
                    self.addresses[side].push(local);
                    let event = SocketEvent::Bound { token, socket, local };
                    self.agents[side].handle_socket_event(self.now, event);
                }
                Output::Event(IceEvent::CandidateFound(candidate)) => {
                    let set = IceCommand::SetLocalCandidate(candidate.clone());
                    self.agents[side].handle_command(self.now, set);
                    let signalled = IceCommand::SetRemoteCandidate(candidate);
                    self.agents[1 - side].handle_command(self.now, signalled);
                }
                Output::Transmit { path, datagram } => {
                    let from = self.addresses[side][path.socket.slot as usize];
                    let other = 1 - side;
                    let Some(slot) = self.addresses[other].iter().position(|it| *it == path.remote)
                    else {
                        continue;
                    };
                    let socket = SocketId { slot: slot as u32, generation: 0 };
                    self.sequence += 1;
                    let arrival = (other, Path::plain(socket, from), datagram.to_vec());
                    self.flying.insert((self.now + DELAY, self.sequence), arrival);
                }
                // The port of this wire keeps no consent: all of ICE's work is to be seen.
                _ => {}
            }
        }
    }
}
