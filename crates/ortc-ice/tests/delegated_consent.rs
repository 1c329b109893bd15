//! Consent that the socket port keeps: ICE hears only what it must, and nothing else changes.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Pair, info, interface};
use ortc_ice::{IceCommand, IceState};
use ortc_io::PathUpdate;
use ortc_io::consent::ConsentStats;

const SECOND: Duration = Duration::from_secs(1);

fn connected(seed: u64, a: &[&str], b: &[&str]) -> Pair {
    let mut pair = Pair::new(seed, a, b);
    pair.delegate();
    pair.start();
    pair.drive_until_connected(SECOND);
    pair
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn sent(pair: &Pair) -> usize {
    pair.sides.iter().flat_map(|side| side.sent.values()).sum()
}

fn consent(pair: &Pair, side: usize) -> ConsentStats {
    pair.sides[side].consent.as_ref().unwrap().stats()
}

fn kept(pair: &Pair) -> [u64; 2] {
    [0, 1].map(|side| consent(pair, side).kept)
}

#[test]
fn a_settled_connection_costs_the_agent_nothing() {
    let mut pair = connected(1, &["192.0.2.1"], &["198.51.100.1"]);
    pair.advance(20 * SECOND);
    assert_eq!(kept(&pair), [1, 1]);
    let before = (sent(&pair), pair.sides.each_ref().map(|side| side.agent.stats()));
    for side in &pair.sides {
        assert_eq!(side.agent.poll_timeout(), None);
    }
    pair.advance(600 * SECOND);
    // As many as without: 120 checks a side at 5 s on the average, each with its response.
    let datagrams = sent(&pair) - before.0;
    assert!((460..=500).contains(&datagrams), "{datagrams}");
    assert_eq!(pair.sides.each_ref().map(|side| side.agent.stats()), before.1);
    assert!(pair.sides.iter().all(|side| side.is_connected() && side.states().len() == 2));
}

#[test]
fn a_peer_whose_port_does_not_keep_consent_sees_no_difference() {
    let mut pair = connected(2, &["192.0.2.1"], &["198.51.100.1"]);
    pair.sides[1].consent = None;
    pair.advance(3600 * SECOND);
    assert_eq!(consent(&pair, 0).kept, 1);
    assert!(pair.sides.iter().all(|side| side.is_connected() && side.states().len() == 2));
    assert!(consent(&pair, 0).answered > 600);
    assert_eq!(consent(&pair, 0).silent, 0);
}

#[test]
fn spares_are_checked_while_the_port_keeps_the_selected_path_and_take_over() {
    for seed in 0..10 {
        let mut pair = connected(seed, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
        pair.advance(3600 * SECOND);
        assert_eq!(kept(&pair), [1, 1], "seed {seed}");
        let stats = pair.a().agent.stats();
        assert!(stats.requests_vouched > 500, "{stats:?}");
        assert_eq!(pair.a().states().len(), 2);
        let dead = address("192.0.2.1:5000");
        assert_eq!(pair.a().selected().unwrap().0, dead);
        pair.blocks = Box::new(move |from, to| from == dead || to == dead);
        let alive = (address("192.0.2.2:5001"), address("198.51.100.1:5000"));
        let start = pair.elapsed();
        let end = pair.drive_until(30 * SECOND, |pair| {
            pair.a().selected() == Some(alive) && pair.b().selected() == Some((alive.1, alive.0))
        });
        assert!(end - start < 25 * SECOND, "seed {seed}: {:?}", end - start);
        pair.advance(60 * SECOND);
        assert!(pair.a().is_connected() && pair.a().states().len() == 2, "seed {seed}");
        assert_eq!(kept(&pair), [1, 1], "it has settled again");
    }
}

#[test]
fn sending_stops_when_consent_expires() {
    for seed in 0..10 {
        let mut pair = connected(seed, &["192.0.2.1"], &["198.51.100.1"]);
        pair.advance(3600 * SECOND);
        pair.blocks = Box::new(|_, _| true);
        let start = pair.elapsed();
        pair.advance(60 * SECOND);
        for side in &pair.sides {
            let suspended: Vec<_> = side
                .updates
                .iter()
                .filter(|(_, update)| *update == PathUpdate::SendingSuspended)
                .map(|(at, _)| *at - start)
                .collect();
            // The last response came at most 6.1 s before the outage.
            assert_eq!(suspended.len(), 1, "seed {seed}");
            assert!((23 * SECOND..=30 * SECOND).contains(&suspended[0]), "{suspended:?}");
            assert_eq!(side.agent.state(), IceState::Disconnected);
        }
        assert_eq!(kept(&pair), [0, 0]);
    }
}

#[test]
fn an_outage_of_a_minute_heals() {
    for seed in 0..20 {
        let mut pair = connected(seed, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
        pair.advance(Duration::from_millis(30_000 + 137 * seed));
        pair.blocks = Box::new(|_, _| true);
        pair.advance(60 * SECOND);
        pair.blocks = Box::new(|_, _| false);
        let start = pair.elapsed();
        let took = pair.drive_until_connected(10 * SECOND) - start;
        assert!(took < 3 * SECOND, "seed {seed}: {took:?}");
        pair.advance(30 * SECOND);
        assert_eq!(kept(&pair), [1, 1], "seed {seed}");
    }
}

#[test]
fn a_short_outage_is_noticed_after_the_first_response_that_is_missing() {
    let mut pair = connected(3, &["192.0.2.1"], &["198.51.100.1"]);
    pair.advance(60 * SECOND);
    pair.blocks = Box::new(|_, _| true);
    pair.advance(8 * SECOND);
    // ICE has it back and checks fast.
    assert_eq!(kept(&pair), [0, 0]);
    let before = sent(&pair);
    pair.advance(3 * SECOND);
    assert!(sent(&pair) - before >= 6, "{}", sent(&pair) - before);
    pair.blocks = Box::new(|_, _| false);
    pair.advance(30 * SECOND);
    assert_eq!(kept(&pair), [1, 1]);
    assert!(pair.sides.iter().all(|side| side.states().len() == 2), "nobody was disconnected");
}

#[test]
fn twenty_percent_loss_for_an_hour_never_disconnects() {
    let mut pair = connected(6, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
    pair.loss = 0.2;
    pair.advance(3600 * SECOND);
    for side in &pair.sides {
        assert_eq!(side.states().len(), 2, "{:?}", side.states());
    }
}

#[test]
fn new_candidates_and_an_update_take_the_path_back_for_a_while() {
    let mut pair = connected(7, &["192.0.2.1"], &["198.51.100.1"]);
    pair.advance(30 * SECOND);
    assert_eq!(kept(&pair), [1, 1]);
    pair.sides[0].interfaces = vec![interface("192.0.2.1"), interface("203.0.113.7")];
    pair.command(0, IceCommand::Update);
    // The new candidate is set here and signalled there.
    assert_eq!(kept(&pair), [0, 0]);
    pair.advance(30 * SECOND);
    assert_eq!(kept(&pair), [1, 1]);
    let gone = pair.a().selected().unwrap().0;
    pair.sides[0].interfaces.retain(|interface| interface.address != gone.ip());
    pair.command(0, IceCommand::Update);
    pair.drive_until(20 * SECOND, |pair| {
        pair.sides.iter().all(common::Side::is_connected)
            && pair.a().selected().is_some_and(|(local, _)| local != gone)
            && pair.b().selected().is_some_and(|(_, remote)| remote != gone)
    });
    pair.advance(40 * SECOND);
    assert_eq!(kept(&pair), [1, 1]);
}

#[test]
fn a_restart_of_the_peer_takes_the_path_back() {
    let mut pair = connected(8, &["192.0.2.1"], &["198.51.100.1"]);
    pair.advance(3600 * SECOND);
    // Of other credentials than the peer has, which is as if it had gone.
    let remote = info(99);
    pair.command(0, IceCommand::Connect { remote, controlling: true });
    assert_eq!(kept(&pair)[0], 0);
    assert_eq!(pair.a().agent.state(), IceState::Checking);
    pair.advance(40 * SECOND);
    assert!(!pair.a().is_connected(), "nobody has those credentials");
    assert!(!pair.b().is_connected(), "and its requests have not been answered");
    pair.connect(0, true);
    pair.drive_until_connected(10 * SECOND);
    pair.advance(40 * SECOND);
    assert_eq!(kept(&pair), [1, 1]);
}

#[test]
fn closing_takes_everything_along() {
    let mut pair = connected(9, &["192.0.2.1"], &["198.51.100.1"]);
    pair.advance(60 * SECOND);
    pair.command(0, IceCommand::Close);
    assert_eq!((kept(&pair)[0], pair.a().agent.poll_timeout()), (0, None));
    let before = pair.a().sent.clone();
    pair.advance(60 * SECOND);
    assert_eq!(pair.a().sent, before);
    assert_eq!(pair.b().agent.state(), IceState::Disconnected);
}
