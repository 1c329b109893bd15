//! Two agents find each other, whatever the network and the order of things.

mod common;

use std::time::Duration;

use common::{Pair, config, info};
use ortc_ice::{IceCommand, IceEvent, IceState};
use ortc_io::PathUpdate;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn two_hosts_connect_in_a_few_round_trips() {
    let mut pair = Pair::new(1, &["192.0.2.1"], &["198.51.100.1"]);
    pair.start();
    let took = pair.drive_until_connected(SECOND);
    assert!(took <= Duration::from_millis(100), "{took:?}");
    let selected = ("192.0.2.1:5000".parse().unwrap(), "198.51.100.1:5000".parse().unwrap());
    assert_eq!(pair.a().selected(), Some(selected));
    assert_eq!(pair.b().selected(), Some((selected.1, selected.0)));
    for side in [pair.a(), pair.b()] {
        let path = side.agent.selected_path().unwrap();
        let updates: Vec<_> = side.updates.iter().map(|(_, update)| *update).collect();
        let mut ladder = updates.clone();
        ladder.retain(|update| *update != PathUpdate::Authenticated(path));
        assert_eq!(ladder, [PathUpdate::Validated(path), PathUpdate::Selected(path)]);
        assert_eq!(updates.len(), 3, "{updates:?}");
        let states: Vec<_> = side.states().into_iter().map(|(_, state)| state).collect();
        assert_eq!(states, [IceState::Checking, IceState::Connected]);
    }
}

#[test]
fn the_active_pair_is_described_by_both_candidates() {
    let mut pair = Pair::new(1, &["192.0.2.1"], &["198.51.100.1"]);
    pair.start();
    pair.drive_until_connected(SECOND);
    let (ours, theirs) = (pair.a().found().remove(0), pair.b().found().remove(0));
    let active = IceEvent::ActivePair { local: ours, remote: theirs };
    assert_eq!(pair.a().events.iter().filter(|(_, event)| *event == active).count(), 1);
}

#[test]
fn two_hundred_of_two_hundred_seeds_connect_at_thirty_percent_loss() {
    let mut times: Vec<Duration> = (0..200)
        .map(|seed| {
            let mut pair = Pair::new(seed, &["192.0.2.1", "2001:db8::1"], &["198.51.100.1"]);
            pair.loss = 0.3;
            pair.start();
            pair.drive_until_connected(20 * SECOND)
        })
        .collect();
    times.sort();
    assert!(times[100] < Duration::from_millis(350), "median {:?}", times[100]);
    assert!(times[199] < 4 * SECOND, "worst {:?}", times[199]);
}

#[test]
fn both_sides_controlling_leaves_one_that_controls() {
    both_in_one_role(true);
}

#[test]
fn both_sides_controlled_leaves_one_that_controls() {
    both_in_one_role(false);
}

fn both_in_one_role(controlling: bool) {
    for seed in 0..50 {
        let mut pair = Pair::new(seed, &["192.0.2.1"], &["198.51.100.1", "198.51.100.2"]);
        pair.loss = if seed % 2 == 0 { 0.0 } else { 0.2 };
        pair.gather();
        pair.connect(0, controlling);
        pair.connect(1, controlling);
        pair.drive_until_connected(20 * SECOND);
        pair.advance(5 * SECOND);
        let roles = [pair.a().agent.is_controlling(), pair.b().agent.is_controlling()];
        assert_ne!(roles[0], roles[1], "seed {seed}");
        let (a, b) = (pair.a().selected().unwrap(), pair.b().selected().unwrap());
        assert_eq!(a, (b.1, b.0), "seed {seed}: both sides agree on the pair");
    }
}

#[test]
fn a_remote_forty_seconds_late_connects() {
    let mut pair = Pair::new(3, &["192.0.2.1"], &["198.51.100.1"]);
    pair.loss = 0.1;
    pair.gather();
    pair.connect(0, true);
    pair.advance(40 * SECOND);
    assert_eq!(pair.a().agent.state(), IceState::Disconnected);
    assert_eq!(pair.b().agent.state(), IceState::AwaitingConnect);
    assert!(pair.b().sent.is_empty(), "nothing is answered before Connect");
    pair.connect(1, false);
    let took = pair.drive_until_connected(5 * SECOND) - 40 * SECOND;
    assert!(took < 2 * SECOND, "{took:?}");
    let stats = pair.b().agent.stats();
    assert!(stats.requests_held > 32 && stats.requests_held_dropped > 0, "{stats:?}");
}

#[test]
fn candidates_and_credentials_come_in_any_order() {
    for order in 0..6 {
        let mut pair = Pair::new(order, &["192.0.2.1"], &["198.51.100.1"]);
        pair.sides[0].signals = false;
        pair.sides[1].signals = false;
        pair.gather();
        pair.connect(1, false);
        let candidate = pair.b().found().remove(0);
        let mut steps = vec![
            IceCommand::SetRemoteCandidate(candidate.clone()),
            IceCommand::Connect { remote: info(2), controlling: true },
            IceCommand::SetRemoteCandidate(candidate),
            IceCommand::RemoteEndOfCandidates,
        ];
        steps.rotate_left(order as usize % 4);
        for step in steps {
            pair.command(0, step);
            pair.advance(Duration::from_millis(300));
        }
        pair.drive_until_connected(2 * SECOND);
        assert_eq!(pair.a().agent.stats().candidates_duplicate, 1);
        // The other side heard of us by our checks only.
        let remotes = pair.b().events.iter().filter_map(|(_, event)| match event {
            IceEvent::ActivePair { remote, .. } => Some(remote.kind.as_str()),
            _ => None,
        });
        assert_eq!(remotes.collect::<Vec<_>>(), ["prflx"]);
    }
}

#[test]
fn a_withheld_candidate_sends_and_answers_nothing() {
    let mut pair = Pair::new(5, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
    pair.sides[0].sets = false;
    pair.start();
    let found = pair.a().found();
    assert_eq!(found.len(), 2);
    pair.command(0, IceCommand::SetLocalCandidate(found[1].clone()));
    pair.drive_until_connected(SECOND);
    pair.advance(60 * SECOND);
    let withheld = "192.0.2.1:5000".parse().unwrap();
    assert_eq!(pair.a().sent.get(&withheld), None);
    assert!(pair.a().agent.stats().not_set > 10, "the peer did try");
    let used = ("192.0.2.2:5001".parse().unwrap(), "198.51.100.1:5000".parse().unwrap());
    assert_eq!(pair.a().selected(), Some(used));
}

#[test]
fn a_better_path_found_later_is_nominated() {
    // The first address of a host is its best; it is set last.
    let mut pair = Pair::new(6, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
    pair.sides[0].sets = false;
    pair.start();
    let found = pair.a().found();
    pair.command(0, IceCommand::SetLocalCandidate(found[1].clone()));
    pair.drive_until_connected(SECOND);
    pair.advance(60 * SECOND);
    pair.command(0, IceCommand::SetLocalCandidate(found[0].clone()));
    let better = ("192.0.2.1:5000".parse().unwrap(), "198.51.100.1:5000".parse().unwrap());
    pair.drive_until(SECOND, |pair| {
        pair.a().selected() == Some(better) && pair.b().selected() == Some((better.1, better.0))
    });
    assert!(pair.sides.iter().all(|side| side.states().len() == 2), "no change of state");
    let pairs = |side: &common::Side| {
        side.events.iter().filter(|(_, e)| matches!(e, IceEvent::ActivePair { .. })).count()
    };
    assert_eq!((pairs(pair.a()), pairs(pair.b())), (2, 2));
}

#[test]
fn long_passwords_connect() {
    let mut long = config(1);
    long.credentials.password = "p".repeat(256);
    let mut longer = config(2);
    longer.credentials.password = format!("{}{}", "q".repeat(24), "A/+9".repeat(11));
    let mut pair = Pair::with_configs(7, (long, &["192.0.2.1"]), (longer, &["198.51.100.1"]));
    pair.start();
    pair.drive_until_connected(SECOND);
}

#[test]
fn a_candidate_that_cannot_be_used_is_reported_and_harmless() {
    let mut pair = Pair::new(8, &["192.0.2.1"], &["198.51.100.1"]);
    let lines = [
        "candidate:9 1 udp 2122260223 3a5b7c9d-0000-4000-8000-000000000000.local 6000 typ host",
        "candidate:9 1 tcp 1518280447 198.51.100.1 9 typ host",
    ];
    for line in lines {
        pair.command(0, IceCommand::SetRemoteCandidate(line.parse().unwrap()));
    }
    pair.start();
    pair.drive_until_connected(SECOND);
    let reasons = pair.a().events.iter().filter_map(|(_, event)| match event {
        IceEvent::CandidateIgnored { candidate, reason } => {
            Some((candidate.to_string(), reason.to_string()))
        }
        _ => None,
    });
    assert_eq!(
        reasons.collect::<Vec<_>>(),
        [
            (lines[0].to_owned(), "its address is a name that cannot be resolved".to_owned()),
            (lines[1].to_owned(), "nothing here can be paired with its transport".to_owned(),),
        ]
    );
}

#[test]
fn checks_are_paced_and_pairs_bounded_whatever_the_peer_signals() {
    let ours: Vec<String> = (1..=8).map(|last| format!("192.0.2.{last}")).collect();
    let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
    let mut pair = Pair::new(11, &ours, &["198.51.100.1"]);
    pair.sides[1].signals = false;
    pair.gather();
    for port in 1..=100 {
        let line = format!("candidate:1 1 udp 2130706431 203.0.113.9 {port} typ host");
        pair.command(0, IceCommand::SetRemoteCandidate(line.parse().unwrap()));
    }
    pair.record = Some(Vec::new());
    pair.connect(0, true);
    for _ in 0..20 {
        let before = pair.a().agent.stats().requests_sent;
        pair.advance(SECOND);
        let sent = pair.a().agent.stats().requests_sent - before;
        assert!(sent <= 51, "Ta is 20 ms: {sent} in a second");
    }
    let mut pairs: Vec<_> =
        pair.record.iter().flatten().map(|(from, to, _)| (*from, *to)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert!((300..=400).contains(&pairs.len()), "{} of 800", pairs.len());
}

#[test]
fn a_restart_of_the_peer_connects_again_with_its_new_credentials() {
    let mut pair = Pair::new(9, &["192.0.2.1"], &["198.51.100.1"]);
    pair.start();
    pair.drive_until_connected(SECOND);
    // The peer comes back as another agent, on another host, with other credentials.
    let restarted =
        Pair::with_configs(9, (config(1), &["192.0.2.1"]), (config(3), &["198.51.100.9"]));
    let [_, b] = restarted.sides;
    pair.sides[1] = b;
    pair.command(1, IceCommand::Gather);
    let ours = pair.a().found().remove(0);
    pair.command(1, IceCommand::SetRemoteCandidate(ours));
    pair.connect(1, false);
    pair.advance(SECOND / 2);
    // Its checks were there before its credentials.
    assert!(pair.a().agent.stats().requests_held > 0);
    pair.connect(0, true);
    pair.drive_until_connected(SECOND);
    let states: Vec<_> = pair.a().states().into_iter().map(|(_, state)| state).collect();
    use IceState::{Checking, Connected};
    assert_eq!(states, [Checking, Connected, Checking, Connected]);
    let selected = ("192.0.2.1:5000".parse().unwrap(), "198.51.100.9:5000".parse().unwrap());
    assert_eq!(pair.a().selected(), Some(selected));
}

#[test]
fn one_that_waits_to_be_checked_sends_nothing_into_networks_that_do_not_lead_there() {
    let servers = config(1).with_lite(true);
    let client = ["198.51.100.1", "10.0.0.5", "10.0.0.6", "2001:db8::5"];
    let mut pair = Pair::with_configs(1, (servers, &["192.0.2.1"]), (config(2), &client));
    // Only the first address of the client leads to the server.
    pair.blocks = Box::new(|from, to| {
        let own = |address: std::net::SocketAddr| !address.ip().to_string().starts_with("10.");
        !(own(from) && own(to))
    });
    pair.gather();
    // Whatever it is told, it begins as controlled.
    pair.connect(0, true);
    pair.connect(1, true);
    let took = pair.drive_until_connected(SECOND);
    assert!(took <= Duration::from_millis(300), "{took:?}");
    pair.advance(60 * SECOND);
    let stats = pair.a().agent.stats();
    assert_eq!((stats.candidates_not_needed, pair.a().is_connected()), (4, true));
    assert!(!pair.a().agent.is_controlling() && pair.b().agent.is_controlling());
    let (ours, theirs) = pair.a().selected().unwrap();
    assert_eq!((ours.ip(), theirs.ip()), ([192, 0, 2, 1].into(), [198, 51, 100, 1].into()));
    // To whom nothing came from, nothing went.
    let validated: Vec<_> = pair
        .a()
        .updates
        .iter()
        .filter(|(_, update)| matches!(update, PathUpdate::Authenticated(_)))
        .collect();
    assert_eq!(validated.len(), 1, "{validated:?}");
}
