//! Hosts behind NATs of each kind, and servers of each kind, in virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::{InterfaceAddress, InterfaceKind};

use super::*;
use crate::servers::message::{Builder, Class, attribute, method};
use crate::servers::tests::server::{Script, ScriptedServer};

/// One way.
const DELAY: Duration = Duration::from_millis(10);

const HOST: &str = "10.0.0.2";
const OUTSIDE: &str = "203.0.113.10";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A NAT of any kind; none where the mapping is `Mapping::None`, and a firewall still.
struct Nat {
    mapping: Mapping,
    filtering: Filtering,
    hairpins: bool,
    /// Inner address, whom it is for, outer address, whom it has sent to.
    mappings: Vec<(SocketAddr, Option<SocketAddr>, SocketAddr, Vec<SocketAddr>)>,
}

impl Nat {
    fn outward(&mut self, inner: SocketAddr, to: SocketAddr) -> SocketAddr {
        let only = match self.mapping {
            Mapping::AddressDependent => Some(SocketAddr::new(to.ip(), 0)),
            Mapping::AddressAndPortDependent => Some(to),
            _ => None,
        };
        let known = self.mappings.iter_mut().find(|it| it.0 == inner && it.1 == only);
        if let Some((_, _, outer, sent_to)) = known {
            sent_to.push(to);
            return *outer;
        }
        let next = SocketAddr::new(OUTSIDE.parse().unwrap(), 40000 + self.mappings.len() as u16);
        let outer = if self.mapping == Mapping::None { inner } else { next };
        self.mappings.push((inner, only, outer, vec![to]));
        outer
    }

    fn inward(&self, from: SocketAddr, outer: SocketAddr) -> Option<SocketAddr> {
        let (inner, _, _, sent_to) = self.mappings.iter().find(|it| it.2 == outer)?;
        let open = match self.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => sent_to.iter().any(|to| to.ip() == from.ip()),
            _ => sent_to.contains(&from),
        };
        open.then_some(*inner)
    }
}

/// What a STUN server does of RFC 5780.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Plain,
    /// All of it.
    Full,
    /// It answers from where it was asked.
    Heedless,
    /// It names an address that is not there.
    HalfDead,
    Dead,
}

/// A server at an address and port, and perhaps at the next address and the next port.
struct StunServer {
    kind: Kind,
    at: SocketAddr,
    /// Answers are sent from here too, forged.
    forger: Option<SocketAddr>,
    /// What it says is its other address, if not that.
    claims: Option<SocketAddr>,
}

impl StunServer {
    fn other(&self) -> SocketAddr {
        let IpAddr::V4(ip) = self.at.ip() else { panic!("{}", self.at) };
        SocketAddr::new(Ipv4Addr::from(u32::from(ip) + 1).into(), self.at.port() + 1)
    }

    fn owns(&self, to: SocketAddr) -> bool {
        let other = self.other();
        let there = [self.at.ip(), other.ip()].contains(&to.ip())
            && [self.at.port(), other.port()].contains(&to.port());
        match self.kind {
            Kind::Dead => false,
            Kind::Plain | Kind::HalfDead => to == self.at,
            Kind::Full | Kind::Heedless => there,
        }
    }

    fn answer(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Vec<(SocketAddr, Bytes)> {
        let request = Message::parse(bytes).unwrap();
        assert_eq!((request.class, request.method), (Class::Request, method::BINDING));
        let answer = |seen: SocketAddr| {
            Builder::new(Class::Success, method::BINDING, request.id)
                .xor_address(attribute::XOR_MAPPED_ADDRESS, seen)
        };
        let mut sent = Vec::new();
        if let Some(forger) = self.forger {
            sent.push((forger, answer(address("6.6.6.6:6")).finish()));
        }
        let mut honest = answer(from);
        if self.kind != Kind::Plain {
            let other = self.claims.unwrap_or(self.other());
            let IpAddr::V4(ip) = other.ip() else { panic!("{other}") };
            let value: Vec<u8> =
                [0, 1].into_iter().chain(other.port().to_be_bytes()).chain(ip.octets()).collect();
            honest = honest.attribute(attribute::OTHER_ADDRESS, &value);
        }
        let change = request.number(attribute::CHANGE_REQUEST).unwrap_or(0);
        let swap = |ip: bool, port: bool| {
            let (other, at) = (self.other(), self.at);
            let pick = |swap: bool, now, one, two| match swap {
                true if now == one => two,
                true => one,
                false => now,
            };
            let ip = if ip {
                [other.ip(), at.ip()][usize::from(to.ip() == other.ip())]
            } else {
                to.ip()
            };
            SocketAddr::new(ip, pick(port, to.port(), at.port(), other.port()))
        };
        let source = match self.kind {
            Kind::Full => swap(change & 4 != 0, change & 2 != 0),
            // Its other address would not be heard.
            Kind::HalfDead if change != 0 => return sent,
            _ => to,
        };
        sent.push((source, honest.finish()));
        sent
    }
}

struct World {
    now: Instant,
    start: Instant,
    diagnosis: Diagnosis,
    nat: Nat,
    stun: Vec<StunServer>,
    turn: Vec<ScriptedServer>,
    sockets: BTreeMap<u64, SocketAddr>,
    streams: Vec<(u64, SocketAddr, Option<String>)>,
    resolving: Vec<(u64, String)>,
    flying: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Bytes)>,
    sequence: u64,
    sent_to: Vec<SocketAddr>,
}

impl World {
    fn new(mapping: Mapping, filtering: Filtering, servers: &[RTCIceServer]) -> Self {
        let interface = |name: &str, ip: &str, kind| InterfaceAddress {
            name: name.into(),
            address: ip.parse().unwrap(),
            scope_id: 0,
            kind,
        };
        let interfaces = vec![
            interface("lo", "127.0.0.1", InterfaceKind::Loopback),
            interface("eth0", HOST, InterfaceKind::Network),
            interface("eth0", "fe80::1", InterfaceKind::Network),
        ];
        let now = Instant::now();
        Self {
            now,
            start: now,
            diagnosis: Diagnosis::new(now, interfaces, servers, 7).unwrap(),
            nat: Nat { mapping, filtering, hairpins: false, mappings: Vec::new() },
            stun: Vec::new(),
            turn: Vec::new(),
            sockets: BTreeMap::new(),
            streams: Vec::new(),
            resolving: Vec::new(),
            flying: BTreeMap::new(),
            sequence: 0,
            sent_to: Vec::new(),
        }
    }

    /// With a STUN server at an address that it is asked at.
    fn with(mut self, at: &str, kind: Kind) -> Self {
        self.stun.push(StunServer { kind, at: address(at), forger: None, claims: None });
        self
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        self.sequence += 1;
        self.flying.insert((self.now + DELAY, self.sequence), (from, to, bytes));
    }

    fn drain(&mut self) {
        while let Some(output) = self.diagnosis.poll_output() {
            match output {
                DiagnosisOutput::Bind { token, address, .. } => {
                    assert!(address.is_ipv4() && !address.ip().is_loopback(), "{address}");
                    let local = SocketAddr::new(HOST.parse().unwrap(), 5000 + token as u16);
                    self.sockets.insert(token, local);
                    self.diagnosis.handle_bound(self.now, token, local);
                }
                DiagnosisOutput::Transmit { token, to, datagram } => {
                    let Some(inner) = self.sockets.get(&token).copied() else {
                        // A stream, which has no NAT before it here.
                        self.fly(stream(token), to, datagram);
                        continue;
                    };
                    self.sent_to.push(to);
                    let from = self.nat.outward(inner, to);
                    self.fly(from, to, datagram);
                }
                DiagnosisOutput::OpenStream { token, server, tls } => {
                    self.streams.push((token, server, tls));
                }
                DiagnosisOutput::Resolve { token, host } => self.resolving.push((token, host)),
                DiagnosisOutput::Close { token } => _ = self.sockets.remove(&token),
            }
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &Bytes) {
        if let Some(server) = self.stun.iter().find(|server| server.owns(to)) {
            for (source, answer) in server.answer(from, to, bytes) {
                self.fly(source, from, answer);
            }
            return;
        }
        if let Some(server) = self.turn.iter_mut().find(|server| server.owns(to)) {
            for (from, to, bytes) in server.handle(from, to, bytes) {
                self.fly(from, to, bytes);
            }
            return;
        }
        if to.ip() == stream(0).ip() {
            let token = u64::from(to.port());
            return self.diagnosis.handle_datagram(self.now, token, from, bytes);
        }
        if from.ip() == to.ip() && !self.nat.hairpins {
            return;
        }
        let Some(inner) = self.nat.inward(from, to) else { return };
        let token = self.sockets.iter().find(|(_, local)| **local == inner).map(|(it, _)| *it);
        if let Some(token) = token {
            self.diagnosis.handle_datagram(self.now, token, from, bytes);
        }
    }

    /// Lets time pass until all is found out.
    fn run(&mut self) -> NetworkReport {
        self.drain();
        while !self.diagnosis.is_done() {
            let timer = self.diagnosis.poll_timeout().map(|(at, _)| at);
            let next = timer.into_iter().chain(self.flying.keys().next().map(|key| key.0)).min();
            self.now = self.now.max(next.expect("it waits for nothing that never comes"));
            assert!(self.now - self.start < Duration::from_secs(21), "it ends");
            while let Some(first) = self.flying.first_entry().filter(|it| it.key().0 <= self.now) {
                let (from, to, bytes) = first.remove();
                self.deliver(from, to, &bytes);
                self.drain();
            }
            self.diagnosis.handle_timeout(self.now);
            self.drain();
        }
        assert!(self.sockets.is_empty(), "all sockets are closed");
        assert_eq!(self.diagnosis.poll_timeout(), None);
        self.diagnosis.report()
    }
}

/// Where a stream is from.
fn stream(token: u64) -> SocketAddr {
    SocketAddr::new([198, 18, 0, 1].into(), token as u16)
}

fn stun(text: &str) -> RTCIceServer {
    RTCIceServer::new(format!("stun:{text}"))
}

fn turn(text: &str) -> RTCIceServer {
    RTCIceServer::new(format!("turn:{text}")).with_credential("alice", "secret")
}

const A: &str = "198.51.100.1:3478";
const B: &str = "192.0.2.77:3478";

#[test]
fn every_kind_of_nat_is_recognised_with_the_help_of_one_server() {
    use Filtering as F;
    use Mapping as M;
    let mappings =
        [M::None, M::EndpointIndependent, M::AddressDependent, M::AddressAndPortDependent];
    let filterings = [F::EndpointIndependent, F::AddressDependent, F::AddressAndPortDependent];
    for mapping in mappings {
        for filtering in filterings {
            for hairpins in [false, true] {
                let mut world = World::new(mapping, filtering, &[stun(A)]).with(A, Kind::Full);
                world.nat.hairpins = hairpins;
                let report = world.run();
                let [nat] = &report.nats[..] else { panic!("{report:?}") };
                assert_eq!((nat.mapping, nat.filtering), (mapping, filtering));
                assert_eq!(nat.behaviour, BehaviourDiscovery::Used(address(A)));
                assert_eq!(nat.is_translated(), Some(mapping != M::None));
                let hairpins = match mapping {
                    M::None => None,
                    M::EndpointIndependent => Some(hairpins),
                    _ => nat.hairpinning,
                };
                assert_eq!(nat.hairpinning, hairpins, "{mapping:?} {filtering:?}");
                let verdict = match (mapping, filtering) {
                    (M::AddressDependent | M::AddressAndPortDependent, _) => Verdict::RelayMissing,
                    (_, F::AddressAndPortDependent) => Verdict::DirectWithMost,
                    _ => Verdict::Direct,
                };
                assert_eq!((report.verdict(), report.udp), (verdict, UdpStatus::Works));
                assert_eq!(report.ignored, 0);
            }
        }
    }
}

#[test]
fn two_plain_servers_tell_the_mapping_and_one_tells_none() {
    for (mapping, told, verdict) in [
        (Mapping::None, Mapping::None, Verdict::DirectWithMost),
        (Mapping::EndpointIndependent, Mapping::EndpointIndependent, Verdict::DirectWithMost),
        (Mapping::AddressDependent, Mapping::DestinationDependent, Verdict::RelayMissing),
        (Mapping::AddressAndPortDependent, Mapping::DestinationDependent, Verdict::RelayMissing),
    ] {
        let filtering = Filtering::AddressAndPortDependent;
        let mut world = World::new(mapping, filtering, &[stun(A), stun(B)])
            .with(A, Kind::Plain)
            .with(B, Kind::Plain);
        let report = world.run();
        assert_eq!(report.nats[0].mapping, told);
        assert_eq!(report.nats[0].filtering, Filtering::Unknown);
        assert_eq!(report.nats[0].behaviour, BehaviourDiscovery::NotOffered);
        assert_eq!(report.verdict(), verdict);
        let took = world.now - world.start;
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    let mapping = Mapping::EndpointIndependent;
    let report =
        World::new(mapping, Filtering::AddressDependent, &[stun(A)]).with(A, Kind::Plain).run();
    assert_eq!((report.nats[0].mapping, report.verdict()), (Mapping::Unknown, Verdict::Unknown));
}

#[test]
fn a_server_that_does_not_keep_its_word_tells_no_filtering() {
    let other = address("198.51.100.2:3479");
    for (kind, behaviour) in [
        (Kind::Heedless, BehaviourDiscovery::NotHeeded(address(A))),
        (Kind::HalfDead, BehaviourDiscovery::OtherSilent(address(A), other)),
    ] {
        let filtering = Filtering::EndpointIndependent;
        let report =
            World::new(Mapping::EndpointIndependent, filtering, &[stun(A)]).with(A, kind).run();
        let nat = &report.nats[0];
        assert_eq!((nat.behaviour, nat.filtering), (behaviour, Filtering::Unknown));
    }
}

#[test]
fn forged_answers_change_nothing_and_are_counted() {
    let filtering = Filtering::EndpointIndependent;
    let servers = [stun(A)];
    let mut world =
        World::new(Mapping::EndpointIndependent, filtering, &servers).with(A, Kind::Full);
    let honest =
        World::new(Mapping::EndpointIndependent, filtering, &servers).with(A, Kind::Full).run();
    // Whoever it is knows every identifier, and has another address.
    world.stun[0].forger = Some(address("198.51.100.66:3478"));
    let forged = world.run();
    assert!(forged.ignored >= 7, "{forged:?}");
    assert_eq!(NetworkReport { ignored: 0, ..forged }, honest);
    // Those who know no identifier, and have the server's address.
    let mut world =
        World::new(Mapping::EndpointIndependent, filtering, &servers).with(A, Kind::Full);
    world.drain();
    for (token, local) in world.sockets.clone() {
        let lie = Builder::new(Class::Success, method::BINDING, [9; 12])
            .xor_address(attribute::XOR_MAPPED_ADDRESS, local);
        let lie = lie.finish();
        world.diagnosis.handle_datagram(world.now, token, address(A), &lie);
        world.diagnosis.handle_datagram(world.now, token, address(A), &lie[..lie.len() - 1]);
        world.diagnosis.handle_datagram(world.now, token, address(A), b"");
    }
    let report = world.run();
    assert_eq!(report.ignored, 9);
    assert_eq!(NetworkReport { ignored: 0, ..report }, honest);
}

#[test]
fn an_other_address_that_cannot_be_one_is_not_asked() {
    let impossible = [
        "127.0.0.1:3479",
        "224.0.0.1:3479",
        "255.255.255.255:3479",
        "0.0.0.0:3479",
        "169.254.1.1:3479",
        "198.51.100.2:0",
        // One that differs in port or address alone cannot answer all the questions.
        "198.51.100.1:3479",
        "198.51.100.2:3478",
    ];
    for claim in impossible {
        let mut world =
            World::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent, &[stun(A)])
                .with(A, Kind::Full);
        world.stun[0].claims = Some(address(claim));
        let report = world.run();
        assert_eq!(report.nats[0].behaviour, BehaviourDiscovery::NotOffered, "{claim}");
        let outer = |to: &SocketAddr| to.ip() == OUTSIDE.parse::<IpAddr>().unwrap();
        let mut asked = world.sent_to.iter().filter(|to| !outer(to));
        assert!(asked.all(|to| *to == address(A)), "{claim}: {:?}", world.sent_to);
    }
}

#[test]
fn an_allocation_is_told_and_given_back() {
    let mut world = World::new(
        Mapping::AddressAndPortDependent,
        Filtering::AddressAndPortDependent,
        &[turn(A), stun(B)],
    )
    .with(B, Kind::Plain);
    world.turn.push(ScriptedServer::new(A));
    let report = world.run();
    let answer = report.servers[0].attempts[0].result.clone().unwrap();
    assert_eq!(answer.relayed, Some(address("198.51.100.1:50001")));
    // A challenge and the answer to it.
    assert_eq!((answer.time, answer.given_back), (4 * DELAY, true));
    assert!(world.turn[0].allocations.is_empty());
    // It is a STUN server as well, so two have told the mapping.
    assert_eq!(report.nats[0].mapping, Mapping::DestinationDependent);
    assert_eq!((report.verdict(), report.has_relay()), (Verdict::RelayNeeded, true));
}

#[test]
fn why_a_server_is_of_no_use_is_told() {
    let servers = [
        turn(A),
        turn(B),
        RTCIceServer::new("turn:192.0.2.5").with_credential("alice", "wrong"),
        RTCIceServer::new("turns:192.0.2.9?transport=udp").with_credential("alice", "secret"),
        stun("nobody.invalid"),
        RTCIceServer::new("stuns:192.0.2.6"),
    ];
    let mut world =
        World::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent, &servers);
    world.turn.extend([ScriptedServer::new(A), ScriptedServer::new("192.0.2.5:3478")]);
    world.turn[0].script.extend([const { Script::Error(486) }; 8]);
    world.turn[1].script.extend([const { Script::Error(401) }; 8]);
    world.drain();
    let (token, host) = world.resolving.pop().unwrap();
    assert_eq!(host, "nobody.invalid");
    world.diagnosis.handle_resolved(world.now, token, Err("no such name".into()));
    let (token, server, tls) = world.streams.pop().unwrap();
    assert_eq!((server, tls.as_deref()), (address("192.0.2.6:5349"), Some("192.0.2.6")));
    world.diagnosis.handle_failed(world.now, token, "refused".into());
    let report = world.run();
    let failures: Vec<_> = report
        .servers
        .iter()
        .map(|server| {
            assert!(!server.works());
            let attempt = server.attempts.first().and_then(|it| it.result.clone().err());
            server.failure.clone().or(attempt).unwrap().to_string()
        })
        .collect();
    assert_eq!(
        failures,
        [
            "the user's quota of allocations is used up (486)",
            "it does not answer",
            "it refuses the username or the credential (401)",
            "it is not asked: TURN over DTLS is not spoken here",
            "its name cannot be resolved: no such name",
            "the connection to it failed: refused",
        ]
    );
}

#[test]
fn blocked_udp_is_told_from_servers_that_are_dead() {
    let over_tcp = RTCIceServer::new(format!("turn:{A}?transport=tcp"));
    let servers = [stun(B), over_tcp.with_credential("alice", "secret")];
    for is_up in [true, false] {
        let mut world =
            World::new(Mapping::None, Filtering::EndpointIndependent, &servers).with(B, Kind::Dead);
        world.turn.push(ScriptedServer::new(A));
        world.drain();
        let (token, server, tls) = world.streams.pop().unwrap();
        assert_eq!((server, tls), (address(A), None));
        if is_up {
            world.diagnosis.handle_bound(world.now, token, stream(token));
        }
        let report = world.run();
        let expected = if is_up {
            (UdpStatus::Blocked, Verdict::RelayNeeded)
        } else {
            (UdpStatus::Unknown, Verdict::Unknown)
        };
        assert_eq!((report.udp, report.verdict()), expected, "{report:?}");
        assert!(world.turn[0].allocations.is_empty());
    }
}

#[test]
fn a_redirection_is_followed_and_ends() {
    let mut world =
        World::new(Mapping::None, Filtering::EndpointIndependent, &[turn(A)]).with(B, Kind::Dead);
    world.turn.extend([ScriptedServer::new(A), ScriptedServer::new("192.0.2.5:3478")]);
    world.turn[0].script.push_back(Script::Alternate(address("192.0.2.5:3478")));
    let report = world.run();
    let [attempt] = &report.servers[0].attempts[..] else { panic!("{report:?}") };
    assert_eq!(attempt.address, address("192.0.2.5:3478"));
    assert!(attempt.result.is_ok());

    let mut world = World::new(Mapping::None, Filtering::EndpointIndependent, &[turn(A)]);
    world.turn.extend([ScriptedServer::new(A), ScriptedServer::new("192.0.2.5:3478")]);
    world.turn[0].script.push_back(Script::Alternate(address("192.0.2.5:3478")));
    world.turn[1].script.push_back(Script::Alternate(address(A)));
    let report = world.run();
    assert_eq!(report.servers[0].attempts[0].result, Err(ServerFailure::Redirected));
}

#[test]
fn a_host_without_a_network_is_told_so() {
    let now = Instant::now();
    let interface = InterfaceAddress {
        name: "lo".into(),
        address: [127, 0, 0, 1].into(),
        scope_id: 0,
        kind: InterfaceKind::Loopback,
    };
    let diagnosis = Diagnosis::new(now, vec![interface], &[], 1).unwrap();
    assert!(diagnosis.is_done());
    assert_eq!(diagnosis.report().verdict(), Verdict::NoNetwork);
    assert!(Diagnosis::new(now, Vec::new(), &[RTCIceServer::new("turn:h")], 1).is_err());
}

#[test]
fn whatever_comes_in_whatever_order_it_ends_and_sends_little() {
    let servers = [
        stun(A),
        turn(B),
        stun("name.example"),
        RTCIceServer::new("turns:192.0.2.6").with_credential("alice", "secret"),
    ];
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world =
            World::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent, &servers);
        let (mut sent, mut waiting) = (Vec::new(), Vec::new());
        while !world.diagnosis.is_done() {
            while let Some(output) = world.diagnosis.poll_output() {
                match output {
                    DiagnosisOutput::Bind { token, .. }
                    | DiagnosisOutput::OpenStream { token, .. }
                    | DiagnosisOutput::Resolve { token, .. } => waiting.push(token),
                    DiagnosisOutput::Transmit { token, to, datagram } => {
                        sent.push((token, to, datagram));
                    }
                    DiagnosisOutput::Close { .. } => {}
                }
            }
            world.now += Duration::from_millis(random.u64(0..400));
            let (now, token) = (world.now, random.u64(0..20));
            let diagnosis = &mut world.diagnosis;
            match random.u8(0..8) {
                0 => diagnosis.handle_bound(now, token, address("10.0.0.2:5000")),
                1 if random.u8(0..8) == 0 => diagnosis.handle_failed(now, token, "gone".into()),
                2 => diagnosis.handle_resolved(now, token, Ok(vec![[192, 0, 2, 9].into()])),
                3 => diagnosis.handle_send_failed(now, token, address(A), "no route".into()),
                4 | 5 if !sent.is_empty() => {
                    // An answer to something that was asked, with some of its bits turned.
                    let (token, from, asked) = random.choice(&sent).unwrap().clone();
                    let request = Message::parse(&asked).unwrap();
                    let class = [Class::Success, Class::Error][random.usize(0..2)];
                    let mut answer = Builder::new(class, request.method, request.id)
                        .xor_address(attribute::XOR_MAPPED_ADDRESS, address("203.0.113.9:1"))
                        .attribute(attribute::OTHER_ADDRESS, &[0, 1, 13, 151, 198, 51, 100, 2])
                        .attribute(attribute::ERROR_CODE, &[0, 0, random.u8(3..7), random.u8(..)])
                        .finish()
                        .to_vec();
                    if random.bool() {
                        let at = random.usize(..answer.len());
                        answer[at] ^= 1 << random.u8(0..8);
                    }
                    diagnosis.handle_datagram(now, token, from, &answer);
                }
                _ if !waiting.is_empty() && random.bool() => {
                    let token = waiting.swap_remove(random.usize(..waiting.len()));
                    diagnosis.handle_bound(now, token, address("10.0.0.2:5000"));
                    diagnosis.handle_resolved(now, token, Err("no such name".into()));
                }
                _ => diagnosis.handle_timeout(now),
            }
            assert!(world.now - world.start < Duration::from_secs(300), "seed {seed} ends");
        }
        assert!(sent.len() < 400, "seed {seed} sends {}", sent.len());
        world.diagnosis.report().verdict();
    }
}
