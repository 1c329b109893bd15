mod agreement;
mod connecting_soon;
mod lost;
mod rebinding;
pub(crate) mod server;
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ortc_io::{Encapsulation, Path, SharedSocket, SocketEvent, SocketId};

use self::server::{Script, indication};
use self::world::{NATS, NatType, World, turn};
use super::message::{Builder, Class, Message, attribute, method};
use crate::{
    CandidateTypes, IceAgent, IceCommand, IceConfig, IceEvent, IceState, RTCIceConnectionInfo,
    RTCIceServer, ServerFailure, SharedHost,
};

const SECOND: Duration = Duration::from_secs(1);
const SERVER: &str = "203.0.113.1:3478";

fn stun(config: IceConfig) -> IceConfig {
    config.with_servers(vec![RTCIceServer::new(format!("stun:{SERVER}"))])
}

fn relays(config: IceConfig) -> IceConfig {
    config.with_servers(vec![turn(SERVER)])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn is_end(event: &IceEvent) -> bool {
    *event == IceEvent::EndOfCandidates
}

#[test]
fn a_stun_server_tells_the_address_behind_a_nat() {
    let mut world = World::new([NatType::Port; 2], stun);
    world.gather(0);
    world.advance(SECOND);
    assert_eq!(
        world.hosts[0].lines(),
        [
            "candidate:1 1 udp 2130706431 10.1.0.2 5000 typ host",
            "candidate:s1 1 udp 1694498815 203.0.113.10 40000 typ srflx raddr 10.1.0.2 rport 5000",
        ]
    );
    assert_eq!(world.hosts[0].when(is_end), Some(20), "one round trip");
    let stats = world.hosts[0].agent.stats();
    assert_eq!((stats.server_requests, stats.server_responses), (1, 1));
}

#[test]
fn a_host_without_a_nat_has_no_reflexive_candidate() {
    let mut world = World::new([NatType::None; 2], stun);
    world.gather(0);
    world.advance(SECOND);
    assert_eq!(world.hosts[0].lines().len(), 1);
    assert_eq!(world.hosts[0].when(is_end), Some(20));
}

#[test]
fn a_mapping_is_kept_alive_until_a_pair_is_selected() {
    let mut world = World::new([NatType::Full; 2], stun);
    world.gather(0);
    world.advance(60 * SECOND);
    assert_eq!(world.servers[0].asked.len(), 4, "every 15 s");
    world.connect();
    assert!(world.drive(SECOND, World::is_connected));
    let asked = world.servers[0].asked.len();
    world.advance(120 * SECOND);
    assert_eq!(world.servers[0].asked.len(), asked, "the pair's own checks do it");
}

#[test]
fn a_silent_server_is_given_up_and_holds_up_the_end_alone() {
    let mut world = World::new([NatType::Port; 2], |config| {
        let dead = RTCIceServer::new("stun:203.0.113.99");
        config.with_servers(vec![dead, RTCIceServer::new(format!("stun:{SERVER}"))])
    });
    world.gather(0);
    world.advance(20 * SECOND);
    let host = &world.hosts[0];
    assert_eq!(host.lines().len(), 2);
    let failed =
        IceEvent::ServerFailed { url: "stun:203.0.113.99".into(), reason: ServerFailure::TimedOut };
    assert_eq!(host.when(|event| *event == failed), Some(9750));
    assert_eq!(host.when(is_end), Some(9750));
    assert_eq!(host.agent.stats().servers_failed, 1);
}

#[test]
fn answers_from_elsewhere_or_to_nothing_change_nothing() {
    let mut world = World::new([NatType::None; 2], stun);
    world.servers[0].script.extend([Script::Silence, Script::Silence]);
    world.gather(0);
    world.advance(SECOND / 10);
    let (ours, mapped) = (address("203.0.113.10:5000"), address("198.51.100.66:6666"));
    let forged = |id| {
        Builder::new(Class::Success, method::BINDING, id)
            .xor_address(attribute::XOR_MAPPED_ADDRESS, mapped)
            .finish()
    };
    world.inject(address(SERVER), ours, forged([1; 12]));
    world.inject(address(SERVER), ours, Bytes::from_static(&[0, 1, 2, 3]));
    world.inject(address("198.51.100.1:3478"), ours, forged([1; 12]));
    world.advance(SECOND / 10);
    let stats = world.hosts[0].agent.stats();
    // A peer's would have to be signed to be a message at all.
    assert_eq!((stats.unasked_responses, stats.malformed), (1, 2));
    assert_eq!(world.hosts[0].lines().len(), 1);
    world.advance(SECOND);
    assert!(world.hosts[0].when(is_end).is_some(), "the true answer still counts");
}

#[test]
fn what_a_server_has_said_changes_nothing_when_it_is_said_again() {
    let mut world = World::new([NatType::None, NatType::Port], relays);
    world.record = Some(Vec::new());
    world.connect();
    assert!(world.drive(SECOND, World::is_connected));
    world.advance(SECOND);
    let is_answer = |bytes: &[u8]| {
        let class = Message::parse(bytes).map(|message| message.class);
        matches!(class, Some(Class::Success | Class::Error))
    };
    let mut said = world.record.take().unwrap();
    said.retain(|(from, _, bytes)| *from == address(SERVER) && is_answer(bytes));
    assert!(said.len() >= 2 * 3, "401, an allocation and a channel for each: {}", said.len());
    let state =
        |world: &World| [0, 1].map(|side| (world.hosts[side].lines(), world.hosts[side].pair()));
    let unasked = |world: &World| {
        world.hosts.iter().map(|host| host.agent.stats().unasked_responses).sum::<u64>()
    };
    let before = (state(&world), unasked(&world));
    for (from, to, bytes) in said.clone() {
        world.inject(from, to, bytes);
    }
    world.advance(SECOND);
    assert_eq!(state(&world), before.0);
    assert_eq!(unasked(&world), before.1 + said.len() as u64, "each is counted");
}

#[test]
fn an_allocation_is_made_refreshed_and_given_back() {
    let mut world = World::new([NatType::Port; 2], relays);
    world.gather(0);
    world.advance(SECOND);
    assert_eq!(
        world.hosts[0].lines(),
        [
            "candidate:1 1 udp 2130706431 10.1.0.2 5000 typ host",
            "candidate:s1 1 udp 1694498815 203.0.113.10 40000 typ srflx raddr 10.1.0.2 rport 5000",
            "candidate:r00 1 udp 12582911 203.0.113.1 50001 typ relay raddr 203.0.113.10 rport 40000",
        ]
    );
    assert_eq!(world.hosts[0].when(is_end), Some(40), "two round trips: 401 first");
    world.advance(1000 * SECOND);
    let refreshes = world.servers[0].asked.iter().filter(|asked| asked.0 == method::REFRESH);
    assert_eq!(refreshes.count(), 1, "at 540 s");
    world.command(0, IceCommand::Close);
    world.advance(SECOND);
    assert!(world.servers[0].allocations.is_empty());
    assert_eq!(world.hosts[0].agent.state(), IceState::Closed);
}

#[test]
fn stale_nonces_are_replaced() {
    let mut world = World::new([NatType::Port; 2], relays);
    world.gather(0);
    world.advance(SECOND);
    world.servers[0].script.extend([Script::Stale, Script::Stale]);
    world.advance(600 * SECOND);
    assert_eq!(world.servers[0].asked.len(), 2 + 3);
    assert_eq!(world.hosts[0].agent.stats().servers_failed, 0);
    world.servers[0].script.extend(vec![Script::Stale; 4]);
    world.advance(600 * SECOND);
    assert_eq!(world.hosts[0].agent.stats().servers_failed, 1, "not for ever");
}

#[test]
fn a_server_may_send_its_clients_to_another() {
    let other = "203.0.113.2:3479";
    let mut world = World::new([NatType::Port; 2], relays);
    world.servers.push(server::ScriptedServer::new(other));
    world.servers[0].script.push_back(Script::Alternate(address(other)));
    world.gather(0);
    world.advance(SECOND);
    let relayed = world.hosts[0].lines().pop().unwrap();
    assert!(relayed.contains("203.0.113.2 50001 typ relay"), "{relayed}");
    // And not in a circle.
    let mut world = World::new([NatType::Port; 2], relays);
    world.servers[0].script.push_back(Script::Alternate(address(SERVER)));
    world.gather(0);
    world.advance(SECOND);
    assert_eq!(failures(&world), [ServerFailure::Redirected]);
}

fn failures(world: &World) -> Vec<ServerFailure> {
    let failed = world.hosts[0].events.iter().filter_map(|(_, event)| match event {
        IceEvent::ServerFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    failed.collect()
}

#[test]
fn each_refusal_has_its_name_and_ends_the_gathering() {
    for (code, reason) in [
        (403, ServerFailure::Forbidden),
        (437, ServerFailure::AllocationMismatch),
        (441, ServerFailure::Unauthorized(441)),
        (442, ServerFailure::Unsupported(442)),
        (486, ServerFailure::QuotaReached),
        (508, ServerFailure::InsufficientCapacity),
        (599, ServerFailure::Other(599)),
    ] {
        let mut world = World::new([NatType::Port; 2], relays);
        world.servers[0].script.push_back(Script::Error(code));
        world.gather(0);
        world.advance(SECOND);
        assert_eq!(failures(&world), [reason]);
        assert!(world.hosts[0].when(is_end).is_some());
    }
    let mut world = World::new([NatType::Port; 2], |config| {
        let server = RTCIceServer::new(format!("turn:{SERVER}")).with_credential("alice", "wrong");
        config.with_servers(vec![server])
    });
    world.gather(0);
    world.advance(SECOND);
    assert_eq!(failures(&world), [ServerFailure::Unauthorized(401)]);
}

#[test]
fn another_login_is_tried_on_the_same_server_when_one_has_failed() {
    let mut world = World::new([NatType::Port; 2], |config| {
        let server = || RTCIceServer::new(format!("turn:{SERVER}"));
        let logins = ["wrong", "secret", "never asked"];
        config.with_servers(logins.map(|it| server().with_credential("alice", it)).into())
    });
    world.gather(0);
    world.advance(SECOND);
    assert_eq!(failures(&world), [ServerFailure::Unauthorized(401)]);
    assert_eq!(world.servers[0].allocations.len(), 1);
    assert_eq!(world.hosts[0].lines().len(), 3);
    assert!(world.hosts[0].when(is_end).is_some());
}

#[test]
fn an_answer_that_is_not_signed_is_none() {
    for script in [Script::Unsigned, Script::WronglySigned] {
        let mut world = World::new([NatType::Port; 2], relays);
        world.gather(0);
        world.drive(SECOND, |world| world.servers[0].asked.len() == 1);
        world.servers[0].script.push_back(script);
        // The copy of the request, after 50 ms, is answered as it should be.
        world.advance(SECOND / 20);
        assert_eq!(world.hosts[0].agent.stats().bad_integrity, 1);
        assert_eq!(world.hosts[0].lines().len(), 1);
    }
    // An error of somebody who cannot sign does not end an allocation either.
    let mut world = World::new([NatType::Port; 2], relays);
    world.gather(0);
    world.advance(SECOND);
    let nothing_lost = |world: &World| world.hosts[0].agent.stats().servers_failed == 0;
    world.advance(538 * SECOND);
    world.servers[0].script.push_back(Script::Unsigned);
    world.advance(2 * SECOND);
    assert!(nothing_lost(&world) && world.hosts[0].agent.stats().bad_integrity == 1);
    world.advance(10 * SECOND);
    assert!(nothing_lost(&world), "the signed answer to the next copy counts");
}

#[test]
fn every_pair_of_nats_connects_by_the_best_path_there_is() {
    use NatType::{Full, None, Port, Sym};
    for a in NATS {
        for b in NATS {
            let mut world = World::new([a, b], relays);
            world.connect();
            let connected = world.drive(SECOND, World::is_connected);
            assert!(connected, "{a:?} and {b:?} do not connect within a second");
            world.advance(2 * SECOND);
            let relayed = world.hosts.iter().any(|host| {
                let path = host.agent.selected_path().unwrap();
                path.encapsulation != Encapsulation::Plain
            });
            let needs_relay = matches!((a, b), (Port, Sym) | (Sym, Port) | (Sym, Sym));
            assert_eq!(relayed, needs_relay, "{a:?} and {b:?}");
            if matches!((a, b), (None | Full, _) | (_, None | Full)) {
                assert!(!relayed);
            }
        }
    }
}

#[test]
fn they_do_so_with_loss_and_delay_as_well() {
    let mut longest = Duration::ZERO;
    for seed in 0..3 {
        for (a, b) in NATS.into_iter().flat_map(|a| NATS.map(|b| (a, b))) {
            let mut world = World::new([a, b], relays);
            (world.delay, world.loss) = (Duration::from_millis(50), 0.05);
            world.random = fastrand::Rng::with_seed(seed);
            world.connect();
            // The way through a relay takes seven round trips; each that is lost, 250 ms more.
            let connected = world.drive(5 * SECOND, World::is_connected);
            assert!(connected, "{a:?} and {b:?} do not connect within 5 s, seed {seed}");
            longest = longest.max(world.now - world.start);
        }
    }
    eprintln!("with 5 % of loss and 50 ms each way, the longest of 48 took {longest:?}");
}

#[test]
fn relays_alone_connect_and_tell_no_address_of_ours() {
    let only = |config| relays(config).with_candidate_types(CandidateTypes::RELAYED);
    let mut world = World::new([NatType::Full; 2], only);
    world.connect();
    assert!(world.drive(SECOND, World::is_connected));
    world.advance(30 * SECOND);
    for host in &world.hosts {
        let lines = host.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("typ relay raddr 0.0.0.0 rport 0"), "{lines:?}");
        assert_eq!(host.pair().unwrap(), ("relay".into(), "relay".into()));
    }
    // Channels outlive their ten minutes.
    world.advance(1200 * SECOND);
    assert!(world.is_connected());
    let states = world.hosts[0]
        .events
        .iter()
        .filter(|(_, event)| matches!(event, IceEvent::StateChanged(IceState::Disconnected)));
    assert_eq!(states.count(), 0);
    let binds = world.servers[0].asked.iter().filter(|asked| asked.0 == method::CHANNEL_BIND);
    let binds = binds.count();
    assert!((2 + 2 * 4..=2 + 2 * 6).contains(&binds), "one in four minutes: {binds}");
}

#[test]
fn a_restart_of_a_relayed_peer_is_followed_by_the_same_relay_of_ours() {
    let only = |config| relays(config).with_candidate_types(CandidateTypes::RELAYED);
    let mut world = World::new([NatType::Full; 2], only);
    world.connect();
    assert!(world.drive(SECOND, World::is_connected));
    world.advance(30 * SECOND);
    let (relay, path) = (world.hosts[0].found().pop().unwrap(), world.selected(0));
    // It comes back as another agent, with other credentials and another allocation.
    let info = RTCIceConnectionInfo::from_random([9; 32]);
    world.hosts[1].agent = IceAgent::new(only(IceConfig::new(info.clone(), 9)));
    world.gather(1);
    world.command(1, IceCommand::SetRemoteCandidate(relay));
    let ours = world.hosts[0].agent.config.credentials.clone();
    world.command(1, IceCommand::Connect { remote: ours, controlling: false });
    world.command(0, IceCommand::Connect { remote: info, controlling: true });
    assert_eq!(world.selected(0), path, "media is sent there until another path is found");
    assert!(world.drive(2 * SECOND, World::is_connected));
    world.advance(60 * SECOND);
    assert!(world.is_connected() && world.selected(0) != path);
    assert_eq!(world.hosts[0].found().len(), 1, "the allocation is the same");
}

#[test]
fn a_relay_that_is_not_set_answers_nothing() {
    let only = |config| relays(config).with_candidate_types(CandidateTypes::RELAYED);
    let mut world = World::new([NatType::Full; 2], only);
    world.hosts[0].sets = false;
    world.connect();
    world.advance(2 * SECOND);
    let candidate = world.hosts[0].found().pop().unwrap();
    world.command(1, IceCommand::SetRemoteCandidate(candidate.clone()));
    world.advance(2 * SECOND);
    assert!(!world.is_connected());
    assert_eq!(world.hosts[0].agent.stats().requests_sent, 0);
    world.command(0, IceCommand::SetLocalCandidate(candidate));
    let candidate = world.hosts[1].found().pop().unwrap();
    world.command(0, IceCommand::SetRemoteCandidate(candidate));
    assert!(world.drive(5 * SECOND, World::is_connected));
}

#[test]
fn strangers_that_are_relayed_to_us_get_no_channel() {
    let mut world = World::new([NatType::None; 2], relays);
    world.gather(0);
    world.advance(SECOND);
    let (ours, stranger) = (address("203.0.113.10:5000"), address("198.51.100.66:6666"));
    let before = world.servers[0].asked.len();
    let request = Builder::new(Class::Request, method::BINDING, [3; 12])
        .attribute(attribute::USERNAME, b"nobody:knows")
        .attribute(0x0024, &[1, 2, 3, 4])
        .attribute(0x8029, &[1; 8])
        .finish_with(b"a wrong password");
    for data in [&request[..], b"\x16\xfe\xfd", b""] {
        world.inject(address(SERVER), ours, indication(stranger, data));
    }
    // Nor does one whom no server relays.
    world.inject(stranger, ours, indication(stranger, &request));
    world.advance(SECOND);
    let stats = world.hosts[0].agent.stats();
    assert_eq!((stats.stray_indications, stats.malformed), (3, 1));
    assert_eq!(world.servers[0].asked.len(), before, "nothing was asked of the server");
    // Nor on a channel that was never bound.
    let encapsulation = Encapsulation::ChannelData(0x4000);
    let socket = SocketId { slot: 0, generation: 0 };
    let path = Path { encapsulation, ..Path::plain(socket, address(SERVER)) };
    world.hosts[0].agent.handle_datagram(world.now, path, &request);
    assert_eq!(world.hosts[0].agent.stats().not_set, 1);
}

#[test]
fn names_are_asked_for_once_and_one_address_of_each_family_is_taken() {
    let mut world = World::new([NatType::Port; 2], |config| {
        let server = RTCIceServer::new("stun:stun.example.net");
        config.with_servers(vec![server, RTCIceServer::new("stun:nowhere.example.net")])
    });
    world.gather(0);
    let names: Vec<_> = world.hosts[0].resolve.iter().map(|(_, name)| name.clone()).collect();
    assert_eq!(names, ["stun.example.net", "nowhere.example.net"]);
    let tokens: Vec<_> = world.hosts[0].resolve.iter().map(|(token, _)| *token).collect();
    let ips = ["203.0.113.1", "203.0.113.2", "2001:db8::1"].map(|ip| ip.parse().unwrap());
    let now = world.now;
    world.hosts[0].agent.handle_resolved(now, tokens[0], Ok(ips.to_vec()));
    world.hosts[0].agent.handle_resolved(now, tokens[0], Ok(ips.to_vec()));
    world.advance(20 * SECOND);
    assert_eq!(world.hosts[0].lines().len(), 2);
    assert_eq!(failures(&world), [ServerFailure::Unresolved("it takes too long".into())]);
    assert_eq!(world.hosts[0].when(is_end), Some(10_000));
}

#[test]
fn a_candidate_that_hides_behind_a_name_takes_part_once_it_is_resolved() {
    let mut world = World::new([NatType::None; 2], |config| config);
    world.hosts[1].sets = false;
    world.connect();
    let found = world.hosts[1].found().remove(0);
    world.command(1, IceCommand::SetLocalCandidate(found.clone()));
    let hide = |name: &str| {
        let mut hidden = found.clone();
        hidden.connection_address = name.into();
        IceCommand::SetRemoteCandidate(hidden)
    };
    for name in ["aaaa.local", "bbbb.local", "example.net", "a.b.local"] {
        world.command(0, hide(name));
    }
    let asked = world.hosts[0].resolve.clone();
    let names: Vec<_> = asked.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["aaaa.local", "bbbb.local"], "only names of the link are looked up");
    let (now, agent) = (world.now, &mut world.hosts[0].agent);
    agent.handle_resolved(now, asked[1].0, Err("nobody knows it".into()));
    assert_eq!(agent.stats().candidates_ignored, 3);
    let address = found.connection_address.parse().unwrap();
    agent.handle_resolved(now, asked[0].0, Ok(vec![address]));
    assert!(world.drive(SECOND, World::is_connected));
    assert_eq!(world.hosts[0].pair(), Some(("host".into(), "host".into())));
    // What is resolved at a time is bounded.
    for n in 0..100 {
        world.command(0, hide(&format!("n{n}.local")));
    }
    assert_eq!(world.hosts[0].resolve.len(), 2 + 32);
}

#[test]
fn a_stream_is_opened_for_tcp_and_tls_and_one_that_fails_is_reported() {
    let mut world = World::new([NatType::Port; 2], |config| {
        let mut server = turn("203.0.113.1:3478?transport=tcp");
        server.url.push("turns:203.0.113.1".into());
        config.with_servers(vec![server])
    });
    world.gather(0);
    let opened: Vec<_> =
        world.hosts[0].streams.iter().map(|(_, at, tls)| (*at, tls.clone())).collect();
    let over_tls = (address("203.0.113.1:5349"), Some("203.0.113.1".to_owned()));
    assert_eq!(opened, [(address(SERVER), None), over_tls]);
    let tokens: Vec<_> = world.hosts[0].streams.iter().map(|(token, ..)| *token).collect();
    let error = std::sync::Arc::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    let failed = SocketEvent::BindFailed { token: tokens[1], address: opened[1].0, error };
    let (now, agent) = (world.now, &mut world.hosts[0].agent);
    agent.handle_socket_event(now, failed);
    let socket = SocketId { slot: 9, generation: 0 };
    let local = address("10.1.0.2:6000");
    world.hosts[0].sockets.push((socket, local));
    let bound = SocketEvent::Bound { token: tokens[0], socket, local };
    world.hosts[0].agent.handle_socket_event(now, bound);
    world.advance(SECOND);
    let relayed = world.hosts[0].lines().pop().unwrap();
    assert!(relayed.contains("candidate:r01 1 udp 8388607 203.0.113.1"), "{relayed}");
    assert!(matches!(&failures(&world)[..], [ServerFailure::Stream(_)]));
    assert!(world.hosts[0].when(is_end).is_some());
    // The stream breaks, and its relay is gone.
    let error = Some(std::sync::Arc::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
    let (now, agent) = (world.now, &mut world.hosts[0].agent);
    agent.handle_socket_event(now, SocketEvent::Unbound { socket, error });
    world.advance(SECOND);
    let is_withdrawn = |event: &IceEvent| matches!(event, IceEvent::CandidateWithdrawn(_));
    assert!(world.hosts[0].when(is_withdrawn).is_some());
    assert_eq!(failures(&world).len(), 2);
}

#[test]
fn a_stun_server_is_asked_over_tls_and_tells_of_no_candidate() {
    let over_tls =
        |config: IceConfig| config.with_servers(vec![RTCIceServer::new("stuns:203.0.113.1:3478")]);
    for answers in [true, false] {
        let mut world = World::new([NatType::Port; 2], over_tls);
        world.gather(0);
        let (token, at, tls) = world.hosts[0].streams.pop().unwrap();
        assert_eq!((at, tls.as_deref()), (address(SERVER), Some("203.0.113.1")));
        let socket = SocketId { slot: 9, generation: 0 };
        let local = address("10.1.0.2:6000");
        world.hosts[0].sockets.push((socket, local));
        let (now, agent) = (world.now, &mut world.hosts[0].agent);
        agent.handle_socket_event(now, SocketEvent::Bound { token, socket, local });
        if !answers {
            let error = Some(std::sync::Arc::new(std::io::ErrorKind::BrokenPipe.into()));
            agent.handle_socket_event(now, SocketEvent::Unbound { socket, error });
        }
        world.advance(20 * SECOND);
        assert_eq!(world.hosts[0].lines().len(), 1, "that of the host");
        assert!(world.hosts[0].when(is_end).is_some());
        let broken = [ServerFailure::Stream("broken pipe".into())];
        assert_eq!(failures(&world)[..], broken[usize::from(answers)..]);
        let is_open = world.hosts[0].sockets.iter().any(|(open, _)| *open == socket);
        assert_eq!(is_open, !answers, "it is closed once it has answered");
        assert_eq!(world.servers[0].asked.len(), 1);
    }
}

#[test]
fn the_peers_of_a_relay_are_bounded() {
    let mut world = World::new([NatType::None; 2], relays);
    world.gather(0);
    world.advance(SECOND);
    let relayed = world.servers[0].allocations[0].relay;
    let servers = &mut world.hosts[0].agent.servers;
    let paths =
        (1..=200).filter_map(|port| servers.path_to(relayed, ([192, 0, 2, 1], port).into()));
    assert_eq!(paths.count(), super::channels::MAX_PEERS);
    let path = servers.path_to(relayed, address("192.0.2.1:1")).unwrap();
    for _ in 0..100 {
        servers.send(world.now, path, Bytes::from_static(b"x"));
    }
    world.advance(SECOND);
    let message = Message::parse(&indication(relayed, b"x")).map(|message| message.class);
    assert_eq!(message, Some(Class::Indication));
    let bound = &world.servers[0].allocations[0].channels;
    assert_eq!(bound.len(), 1, "a channel is bound when something is sent");
}

#[test]
fn a_connection_on_a_shared_socket_has_a_socket_of_its_own_for_its_relay() {
    let shared = SharedSocket {
        socket: SocketId { slot: 100, generation: 0 },
        local: address("10.1.0.2:9000"),
    };
    let of_first = |config: IceConfig| {
        let host = SharedHost { shared, announced: None, from_wildcard: false };
        let is_first = config.tie_breaker == 1;
        let shared = if is_first { vec![host] } else { Vec::new() };
        relays(config).with_shared_sockets(shared)
    };
    // Neither gets through to the other but by a relay.
    let mut world = World::new([NatType::Sym; 2], of_first);
    world.connect();
    world.advance(5 * SECOND);
    for host in &world.hosts {
        assert_eq!(host.agent.state(), IceState::Connected);
    }
    let lines = world.hosts[0].lines();
    assert!(lines.iter().any(|line| line.contains("typ relay")), "{lines:?}");
    let own = world.hosts[0].sockets.iter().find(|(id, _)| *id != shared.socket);
    let (own, _) = *own.expect("one for the relay");
    let path = world.hosts[0].agent.selected_path().unwrap();
    let with_channel = matches!(path.encapsulation, Encapsulation::ChannelData(_));
    assert!(path.socket == own && with_channel || path.socket == shared.socket, "{path:?}");
    // The shared one is gone: what was only there for it goes as well.
    let event = SocketEvent::Unbound { socket: shared.socket, error: None };
    world.hosts[0].agent.handle_socket_event(world.now, event);
    world.advance(SECOND);
    let left: Vec<_> = world.hosts[0].sockets.iter().map(|(id, _)| *id).collect();
    assert!(!left.contains(&own), "{left:?}");
}

#[test]
fn a_socket_that_was_for_a_relay_alone_is_closed_when_there_is_none() {
    let shared = SharedSocket {
        socket: SocketId { slot: 100, generation: 0 },
        local: address("10.1.0.2:9000"),
    };
    let mut world = World::new([NatType::Port; 2], |config| {
        let host = SharedHost { shared, announced: None, from_wildcard: false };
        relays(config).with_shared_sockets(vec![host])
    });
    world.servers.clear();
    world.gather(0);
    assert_eq!(world.hosts[0].sockets.len(), 2);
    world.advance(12 * SECOND);
    assert_eq!(world.hosts[0].sockets, [(shared.socket, shared.local)]);
    let failed = |event: &IceEvent| matches!(event, IceEvent::ServerFailed { .. });
    assert!(world.hosts[0].when(failed).is_some());
}
