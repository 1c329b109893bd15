//! What happens to a connection over time: consent, outages, pruning, roaming.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Pair, config, interface};
use ortc_ice::{IceCommand, IceEvent, IceState};
use ortc_io::{Path, PathUpdate, SocketEvent};

const SECOND: Duration = Duration::from_secs(1);

fn connected(seed: u64, a: &[&str], b: &[&str]) -> Pair {
    let mut pair = Pair::new(seed, a, b);
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

#[test]
fn consent_is_asked_for_every_four_to_six_seconds() {
    let mut pair = connected(1, &["192.0.2.1"], &["198.51.100.1"]);
    pair.advance(20 * SECOND);
    let before = sent(&pair);
    pair.advance(600 * SECOND);
    // 120 checks a side at 5 s on the average, each with its response.
    let datagrams = sent(&pair) - before;
    assert!((460..=500).contains(&datagrams), "{datagrams}");
    assert!(pair.sides.iter().all(|side| side.is_connected() && side.states().len() == 2));
}

#[test]
fn a_settled_connection_checks_the_selected_pair_and_two_spares() {
    let four = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    let other = ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"];
    let mut pair = connected(2, &four, &other);
    pair.advance(30 * SECOND);
    let before = sent(&pair);
    pair.advance(60 * SECOND);
    // At most three pairs a side, a request and a response each, every 4 s or more.
    let datagrams = sent(&pair) - before;
    assert!(datagrams <= 2 * 3 * 2 * 15, "{datagrams}");
    assert!(pair.sides.iter().all(common::Side::is_connected));
    assert!(pair.a().agent.stats().requests_withheld > 0);
    // The routes of the pairs that are not checked any more are given back.
    let updates = &pair.a().updates;
    let count = |wanted: fn(&PathUpdate) -> bool| updates.iter().filter(|(_, u)| wanted(u)).count();
    assert_eq!(count(|update| matches!(update, PathUpdate::Validated(_))), 16);
    assert!(count(|update| matches!(update, PathUpdate::Lost(_))) >= 10);
}

#[test]
fn once_connected_what_has_been_answered_is_not_checked_until_it_settles() {
    let four = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    let other = ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"];
    for seed in 0..20 {
        let mut pair = connected(seed, &four, &other);
        pair.advance(10 * SECOND);
        // Some two checks for each of the 16 pairs on either side, and their responses; one
        // that is repeated in every pair makes them a thousand.
        let datagrams = sent(&pair);
        assert!((64..=200).contains(&datagrams), "seed {seed}: {datagrams}");
        let best = (address("192.0.2.1:5000"), address("198.51.100.1:5000"));
        assert_eq!(pair.a().selected(), Some(best));
        assert_eq!(pair.b().selected(), Some((best.1, best.0)));
    }
}

#[test]
fn a_better_pair_that_opens_after_connecting_is_taken() {
    let two = ["192.0.2.1", "192.0.2.2"];
    let mut pair = Pair::new(6, &two, &["198.51.100.1"]);
    let best = (address("192.0.2.1:5000"), address("198.51.100.1:5000"));
    pair.blocks = Box::new(move |from, to| from == best.0 || to == best.0);
    pair.start();
    pair.drive_until_connected(SECOND);
    pair.advance(4 * SECOND);
    assert_ne!(pair.a().selected(), Some(best));
    pair.blocks = Box::new(|_, _| false);
    pair.advance(3 * SECOND);
    assert_eq!(pair.a().selected(), Some(best));
    assert_eq!(pair.b().selected(), Some((best.1, best.0)));
}

#[test]
fn after_an_outage_all_pairs_are_checked_again_and_the_best_is_taken() {
    let two = ["192.0.2.1", "192.0.2.2"];
    let mut pair = connected(7, &two, &["198.51.100.1"]);
    let best = pair.a().selected().unwrap();
    pair.advance(60 * SECOND);
    pair.blocks = Box::new(|_, _| true);
    pair.advance(40 * SECOND);
    assert!(!pair.a().is_connected() && !pair.b().is_connected());
    // The worse pair comes back first.
    pair.blocks = Box::new(move |from, to| from == best.0 || to == best.0);
    pair.drive_until_connected(10 * SECOND);
    assert_ne!(pair.a().selected(), Some(best));
    pair.blocks = Box::new(|_, _| false);
    pair.advance(5 * SECOND);
    assert_eq!(pair.a().selected(), Some(best));
}

#[test]
fn a_spare_takes_over_when_the_selected_path_dies() {
    let mut pair = connected(3, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
    pair.advance(60 * SECOND);
    let dead = address("192.0.2.1:5000");
    assert_eq!(pair.a().selected().unwrap().0, dead);
    pair.blocks = Box::new(move |from, to| from == dead || to == dead);
    let alive = (address("192.0.2.2:5001"), address("198.51.100.1:5000"));
    let start = pair.elapsed();
    let end = pair.drive_until(30 * SECOND, |pair| {
        pair.a().selected() == Some(alive) && pair.b().selected() == Some((alive.1, alive.0))
    });
    assert!(end - start < 25 * SECOND, "{:?}", end - start);
    pair.advance(60 * SECOND);
    let side = pair.a();
    assert!(side.is_connected() && side.states().len() == 2, "{:?}", side.states());
    let lost = PathUpdate::Lost(Path::plain(side.socket(dead).unwrap(), alive.1));
    assert_eq!(side.updates.iter().filter(|(_, update)| *update == lost).count(), 1);
}

#[test]
fn sending_stops_when_consent_expires() {
    let mut pair = connected(4, &["192.0.2.1"], &["198.51.100.1"]);
    pair.advance(60 * SECOND);
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
        // The last response came at most 6 s before the outage.
        assert_eq!(suspended.len(), 1);
        assert!((24 * SECOND..=30 * SECOND).contains(&suspended[0]), "{suspended:?}");
        assert_eq!(side.agent.state(), IceState::Disconnected);
    }
}

#[test]
fn consent_expires_after_the_time_that_is_configured() {
    let quick = || config(1).with_consent_timeout(10 * SECOND);
    let mut pair = Pair::with_configs(5, (quick(), &["192.0.2.1"]), (config(2), &["198.51.100.1"]));
    pair.start();
    pair.drive_until_connected(SECOND);
    pair.advance(60 * SECOND);
    pair.blocks = Box::new(|_, _| true);
    let start = pair.elapsed();
    let expired = |pair: &Pair| pair.a().agent.state() == IceState::Disconnected;
    let took = pair.drive_until(11 * SECOND, expired) - start;
    assert!((4 * SECOND..=10 * SECOND).contains(&took), "{took:?}");
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
        for side in &pair.sides {
            let path = side.agent.selected_path().unwrap();
            let last = side.updates.iter().rev().find(|(_, update)| {
                matches!(update, PathUpdate::Selected(_) | PathUpdate::SendingSuspended)
            });
            assert_eq!(last.unwrap().1, PathUpdate::Selected(path), "sending is resumed");
            let states: Vec<_> = side.states().into_iter().map(|(_, state)| state).collect();
            use IceState::{Checking, Connected, Disconnected};
            assert_eq!(states, [Checking, Connected, Disconnected, Connected]);
        }
    }
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
fn update_reports_what_is_new_and_withdraws_what_is_gone() {
    let mut pair = connected(7, &["192.0.2.1"], &["198.51.100.1"]);
    pair.advance(20 * SECOND);
    let before = pair.a().found().remove(0);
    let old_path = pair.a().agent.selected_path().unwrap();
    pair.sides[0].interfaces = vec![interface("203.0.113.7")];
    pair.command(0, IceCommand::Update);
    let end = pair.elapsed();
    let after = pair.a().found().remove(1);
    assert_eq!(after.connection_address, "203.0.113.7");
    let events: Vec<_> =
        pair.a().events.iter().filter(|(at, _)| *at == end).map(|(_, e)| e.clone()).collect();
    assert_eq!(
        events,
        [
            IceEvent::CandidateWithdrawn(before),
            IceEvent::StateChanged(IceState::Disconnected),
            IceEvent::CandidateFound(after),
            IceEvent::EndOfCandidates,
        ]
    );
    let lost = PathUpdate::Lost(old_path);
    assert!(pair.a().updates.iter().any(|(_, update)| *update == lost));
    let remote = address("198.51.100.1:5000");
    pair.drive_until(20 * SECOND, |pair| {
        pair.a().is_connected()
            && pair.a().selected() == Some((address("203.0.113.7:5001"), remote))
    });
}

/// Has one of three addresses after the other be gone for 300 ms, and all be there for as long.
fn change_addresses(pair: &mut Pair, rounds: usize) {
    let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    for round in 0..rounds {
        for there in
            [all.iter().filter(|it| **it != all[round % 3]).collect(), all.iter().collect()]
        {
            let there: Vec<&&str> = there;
            pair.sides[0].interfaces = there.into_iter().map(|it| interface(it)).collect();
            pair.command(0, IceCommand::Update);
            pair.advance(Duration::from_millis(300));
        }
    }
}

#[test]
fn who_has_lost_its_address_and_is_answered_on_no_other_says_so_in_two_seconds() {
    for seed in 0..10 {
        let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let mut pair = connected(seed, &all, &["198.51.100.1"]);
        pair.advance(Duration::from_secs(seed));
        assert_eq!(pair.a().selected().unwrap().0.ip(), address("192.0.2.1:0").ip());
        // The peer is gone, and its goodbye was lost.
        pair.blocks = Box::new(|_, _| true);
        let start = pair.elapsed();
        change_addresses(&mut pair, 10);
        let (at, last) = pair.a().states().pop().unwrap();
        assert_eq!(last, IceState::Disconnected, "seed {seed}");
        // The other two have been answered before, so each is taken until it goes, at 1.2 s.
        assert!(at - start <= Duration::from_millis(3_300), "seed {seed}: {:?}", at - start);
        pair.blocks = Box::new(|_, _| false);
        let end = pair.elapsed();
        assert!(pair.drive_until_connected(10 * SECOND) - end < 3 * SECOND, "seed {seed}");
    }
}

#[test]
fn addresses_that_come_and_go_end_no_connection_that_another_one_carries() {
    for seed in 0..10 {
        let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let mut pair = connected(seed, &all, &["198.51.100.1"]);
        pair.advance(Duration::from_secs(seed));
        change_addresses(&mut pair, 30);
        assert_eq!(pair.a().states().len(), 2, "seed {seed}: {:?}", pair.a().states());
    }
}

#[test]
fn a_socket_that_fails_is_withdrawn() {
    let mut pair = connected(8, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
    let socket = pair.a().agent.selected_path().unwrap().socket;
    let now = pair.now;
    let failed = SocketEvent::Unbound { socket, error: None };
    pair.sides[0].sockets.retain(|(id, _)| *id != socket);
    pair.sides[0].agent.handle_socket_event(now, failed);
    pair.settle();
    pair.drive_until(SECOND, |pair| {
        pair.a().selected().is_some_and(|(local, _)| local == address("192.0.2.2:5001"))
    });
}

#[test]
fn nothing_is_sent_after_close() {
    let mut pair = connected(9, &["192.0.2.1"], &["198.51.100.1"]);
    pair.command(0, IceCommand::Close);
    let before = pair.a().sent.clone();
    pair.command(0, IceCommand::Gather);
    pair.connect(0, true);
    pair.advance(60 * SECOND);
    assert_eq!(pair.a().sent, before);
    assert_eq!(pair.a().agent.poll_timeout(), None);
    assert_eq!(pair.a().agent.state(), IceState::Closed);
    assert_eq!(pair.b().agent.state(), IceState::Disconnected);
}

/// What the socket port says when a newer connection on a shared socket has validated a path.
fn take_path(pair: &mut Pair) -> (SocketAddr, SocketAddr) {
    let path = pair.a().agent.selected_path().expect("connected");
    let selected = pair.a().selected().expect("connected");
    let now = pair.now;
    pair.sides[0].agent.handle_socket_event(now, SocketEvent::PathTaken(path));
    pair.settle();
    selected
}

#[test]
fn a_path_that_a_newer_connection_has_taken_is_lost_for_good() {
    let mut pair = Pair::new(31, &["192.0.2.1"], &["198.51.100.1"]);
    pair.start();
    pair.drive_until_connected(SECOND);
    let (ours, _) = take_path(&mut pair);
    assert_eq!(pair.a().agent.state(), IceState::Disconnected);
    let sent = pair.a().sent[&ours];
    pair.advance(120 * SECOND);
    assert_eq!(pair.a().agent.state(), IceState::Disconnected, "it does not flap");
    assert_eq!(pair.a().sent[&ours], sent, "it neither checks nor answers there");
    assert_eq!((pair.a().agent.stats().paths_taken, pair.a().agent.selected_path()), (1, None));
    assert!(pair.a().agent.stats().barred > 0, "the peer did go on");
}

#[test]
fn a_path_that_was_taken_is_replaced_by_another_one() {
    let mut pair = Pair::new(32, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
    pair.start();
    pair.drive_until_connected(SECOND);
    let taken = take_path(&mut pair);
    pair.advance(30 * SECOND);
    assert_eq!(pair.a().agent.state(), IceState::Connected);
    assert_ne!(pair.a().selected(), Some(taken));
}
