//! Nothing waits for what could have been asked for, or guessed, before.

use std::time::Duration;

use super::server::Script;
use super::world::{NatType, World};
use super::{SECOND, SERVER, address, relays};
use crate::servers::message::{Class, Message, attribute, method};
use crate::{IceConfig, IceEvent, RTCIceServer};

fn both(config: IceConfig) -> IceConfig {
    let stun = RTCIceServer::new(format!("stun:{SERVER}"));
    config.with_servers(vec![stun, super::turn(SERVER)])
}

fn is_relay(event: &IceEvent) -> bool {
    matches!(event, IceEvent::CandidateFound(candidate) if candidate.kind == "relay")
}

fn is_pair(event: &IceEvent) -> bool {
    matches!(event, IceEvent::ActivePair { .. })
}

#[test]
fn the_controlled_side_sends_on_what_works_before_it_is_nominated() {
    let mut world = World::new([NatType::None; 2], |config| config);
    world.connect();
    assert!(world.drive(SECOND, World::is_connected));
    let selected = world.hosts.each_ref().map(|host| host.when(is_pair));
    assert!(selected[0].is_some());
    assert_eq!(selected[0], selected[1], "a nomination takes half a round trip more");
}

#[test]
fn before_its_state_says_so_the_owner_knows_the_round_trip() {
    let mut world = World::new([NatType::None; 2], |config| config);
    world.connect();
    assert!(world.drive(SECOND, World::is_connected));
    for host in &world.hosts {
        let told = host
            .events
            .iter()
            .position(|(_, event)| *event == IceEvent::RoundTrip(Duration::from_millis(20)));
        let connected = host
            .events
            .iter()
            .position(|(_, event)| *event == IceEvent::StateChanged(crate::IceState::Connected));
        assert!(told.is_some() && told < connected, "{:?}", host.events);
    }
}

#[test]
fn channels_to_all_candidates_of_the_peer_are_asked_for_at_once() {
    let mut world = World::new([NatType::Sym; 2], relays);
    world.connect();
    // Two round trips to the relay, and one in which checks, which leave 20 ms apart, would have got
    // but two of them on their way.
    world.advance(Duration::from_millis(61));
    let asked = &world.servers[0].asked;
    let binds = asked.iter().filter(|(kind, _)| *kind == method::CHANNEL_BIND).count();
    assert_eq!(binds, 6, "a host, a reflexive and a relayed candidate on either side");
}

#[test]
fn a_port_that_nobody_has_signalled_is_answered_before_its_channel_is_bound() {
    let mut world = World::new([NatType::Sym; 2], relays);
    world.record = Some(Vec::new());
    world.connect();
    assert!(world.drive(SECOND, World::is_connected));
    world.advance(SECOND);
    let record = world.record.take().unwrap();
    let to_server = record.iter().filter(|(_, to, _)| *to == address(SERVER));
    let messages = to_server.filter_map(|(from, _, bytes)| Some((*from, Message::parse(bytes)?)));
    let sent: Vec<_> = messages
        .filter(|(_, it)| (it.class, it.method) == (Class::Indication, method::SEND))
        .map(|(from, it)| {
            let data = it.attribute(attribute::DATA).unwrap();
            assert_eq!(data[0] >> 1, 0, "STUN alone");
            (from, it.address(attribute::XOR_PEER_ADDRESS).unwrap())
        })
        .collect();
    assert!(!sent.is_empty());
    for one in &sent {
        let copies = sent.iter().filter(|other| *other == one).count();
        assert!(copies <= 4, "{copies} within the round trip that the channel takes");
    }
}

#[test]
fn a_lost_request_is_sent_again_by_what_another_has_taken() {
    let mut world = World::new([NatType::Port; 2], both);
    world.gather(0);
    world.advance(Duration::from_millis(11));
    // The binding request has been heard, and the allocation, 5 ms later, is not.
    world.servers[0].script.push_back(Script::Silence);
    world.advance(SECOND);
    // From 5 ms on, 50 ms for the copy that is lost, and two round trips.
    assert_eq!(world.hosts[0].when(is_relay), Some(5 + 50 + 40));
}
