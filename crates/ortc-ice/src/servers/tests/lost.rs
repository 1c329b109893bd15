//! Allocations that are lost are made again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ortc_io::{SocketEvent, SocketId};

use super::server::Script;
use super::world::{NatType, World, turn};
use super::{SECOND, SERVER, address, failures, relays};
use crate::servers::message::method;
use crate::{CandidateTypes, IceEvent, ServerFailure};

fn is_withdrawn(event: &IceEvent) -> bool {
    matches!(event, IceEvent::CandidateWithdrawn(_))
}

/// How often one side has asked for an allocation.
fn asked(world: &World) -> usize {
    world.servers[0].asked.iter().filter(|(asked, _)| *asked == method::ALLOCATE).count()
}

#[test]
fn an_allocation_that_the_server_forgets_is_made_again() {
    let mut world = World::new([NatType::Port; 2], relays);
    world.gather(0);
    world.advance(SECOND);
    let relayed = world.hosts[0].found().pop().unwrap();
    world.servers[0].allocations.clear();
    world.advance(600 * SECOND);
    assert_eq!(failures(&world), [ServerFailure::AllocationMismatch]);
    let withdrawn = IceEvent::CandidateWithdrawn(relayed);
    let gone = world.hosts[0].when(|event| *event == withdrawn).unwrap();
    let again = world.hosts[0].found().pop().unwrap();
    assert_eq!(again.connection_port, 50002);
    let found = IceEvent::CandidateFound(again);
    let took = world.hosts[0].when(|event| *event == found).unwrap() - gone;
    assert!((375..=800).contains(&took), "{took} ms");
    assert_eq!(asked(&world), 4, "a challenge and an answer, twice");
}

#[test]
fn a_relayed_call_outlives_its_server() {
    let only_relays = |config| relays(config).with_candidate_types(CandidateTypes::RELAYED);
    for wait in [1, 100] {
        let mut world = World::new([NatType::Port; 2], only_relays);
        world.connect();
        assert!(world.drive(SECOND, World::is_connected));
        world.advance(wait * SECOND);
        let before = world.now;
        // It has restarted: it knows nobody, and its nonces are others.
        world.servers[0].allocations.clear();
        world.servers[0].restart();
        let moved = |world: &World| {
            world.hosts.iter().all(|host| {
                host.events.iter().rev().any(|(_, event)| matches!(event, IceEvent::ActivePair { local, .. } if local.connection_port > 50002))
            })
        };
        assert!(world.drive(60 * SECOND, moved), "{:?}", world.hosts[0].events);
        let gap = world.now - before;
        // A response is overdue after 7 s at the latest.
        assert!(gap < 9 * SECOND, "{gap:?}");
        world.advance(60 * SECOND);
        assert!(world.is_connected());
        assert_eq!(world.servers[0].allocations.len(), 2);
    }
}

#[test]
fn a_server_that_is_down_is_asked_more_and_more_seldom_and_not_for_ever() {
    let mut world = World::new([NatType::Port; 2], relays);
    world.gather(0);
    world.advance(SECOND);
    world.servers[0].allocations.clear();
    // It comes back without room for anybody.
    world.servers[0].script.push_back(Script::Error(437));
    world.servers[0].script.extend((0..200).map(|_| Script::Error(508)));
    world.advance(540 * SECOND);
    assert!(world.hosts[0].when(is_withdrawn).is_some());
    let before = asked(&world);
    world.advance(60 * SECOND);
    let in_a_minute = asked(&world) - before;
    assert!((5..=9).contains(&in_a_minute), "{in_a_minute}");
    world.advance(3600 * SECOND);
    assert_eq!(asked(&world), 2 + 36);
    world.advance(3600 * SECOND);
    assert_eq!(asked(&world), 2 + 36);
    assert_eq!(failures(&world).len(), 1, "it is told once");
}

#[test]
fn wrong_credentials_are_not_tried_again() {
    let mut world = World::new([NatType::Port; 2], relays);
    world.gather(0);
    world.advance(SECOND);
    // They have run out, as those of a REST API do.
    world.servers[0].script.extend((0..200).map(|_| Script::Error(441)));
    world.advance(1200 * SECOND);
    assert_eq!(failures(&world), [ServerFailure::Unauthorized(441)]);
    assert_eq!(asked(&world), 2);
}

#[test]
fn an_allocation_that_is_still_there_makes_room_for_the_new_one() {
    let mut world = World::new([NatType::Port; 2], relays);
    world.gather(0);
    world.advance(SECOND);
    // The last answer is to the allocation that is made again: one for this socket is there.
    let script = [Script::Error(437), Script::Stale, Script::Error(437)];
    world.servers[0].script.extend(script);
    world.advance(545 * SECOND);
    assert_eq!(world.hosts[0].found().pop().unwrap().connection_port, 50002);
    assert_eq!(world.servers[0].allocations.len(), 1);
}

#[test]
fn a_network_that_is_gone_for_a_minute_takes_no_allocation_with_it() {
    let mut world = World::new([NatType::Port; 2], relays);
    world.gather(0);
    world.advance(535 * SECOND);
    world.loss = 1.0;
    world.advance(40 * SECOND);
    world.loss = 0.0;
    world.advance(600 * SECOND);
    assert!(world.hosts[0].when(is_withdrawn).is_none());
    assert_eq!((failures(&world).len(), asked(&world)), (0, 2));
}

#[test]
fn a_stream_that_breaks_is_opened_again() {
    let mut world = World::new([NatType::Port; 2], |config| {
        config.with_servers(vec![turn("203.0.113.1:3478?transport=tcp")])
    });
    world.gather(0);
    let mut slot = 9;
    let mut open = |world: &mut World| {
        slot += 1;
        let token = world.hosts[0].streams.last().unwrap().0;
        let (socket, local) = (SocketId { slot, generation: 0 }, ([10, 1, 0, 2], 6000).into());
        world.hosts[0].sockets.retain(|(socket, _)| socket.slot < 9);
        world.hosts[0].sockets.push((socket, local));
        let bound = SocketEvent::Bound { token, socket, local };
        world.hosts[0].agent.handle_socket_event(world.now, bound);
        socket
    };
    let socket = open(&mut world);
    world.advance(SECOND);
    assert_eq!(world.hosts[0].found().len(), 2);
    world.servers[0].allocations.clear();
    let error = Some(Arc::new(io::Error::from(io::ErrorKind::BrokenPipe)));
    let now = world.now;
    world.hosts[0].agent.handle_socket_event(now, SocketEvent::Unbound { socket, error });
    // It is down for a while.
    let mut delays = Vec::new();
    for tries in 2..6 {
        let since = world.now;
        assert!(world.drive(20 * SECOND, |world| world.hosts[0].streams.len() == tries));
        delays.push((world.now - since).as_millis());
        let (token, address, _) = world.hosts[0].streams.last().unwrap().clone();
        let error = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let failed = SocketEvent::BindFailed { token, address, error };
        let now = world.now;
        world.hosts[0].agent.handle_socket_event(now, failed);
    }
    for (delay, nominal) in delays.iter().zip([500, 1000, 2000, 4000]) {
        assert!((nominal * 3 / 4..=nominal * 5 / 4).contains(delay), "{delays:?}");
    }
    assert!(world.drive(20 * SECOND, |world| world.hosts[0].streams.len() == 6));
    open(&mut world);
    world.advance(Duration::from_millis(100));
    let ports: Vec<_> = world.hosts[0].found().iter().map(|it| it.connection_port).collect();
    assert_eq!(ports, [5000, 50001, 50002]);
    assert!(world.servers[0].owns(address(SERVER)));
}
