//! What strangers send changes nothing.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use common::{Pair, info};
use ortc_ice::IceState;
use ortc_io::PathUpdate;

const SECOND: Duration = Duration::from_secs(1);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Connects a pair and returns it with every datagram that was sent.
fn recorded() -> (Pair, Vec<(SocketAddr, SocketAddr, Bytes)>) {
    let mut pair = Pair::new(1, &["192.0.2.1"], &["198.51.100.1"]);
    pair.record = Some(Vec::new());
    pair.start();
    pair.drive_until_connected(SECOND);
    pair.advance(5 * SECOND);
    let record = pair.record.take().unwrap();
    (pair, record)
}

#[test]
fn a_true_response_from_another_address_is_refused() {
    let mut pair = Pair::new(1, &["192.0.2.1"], &["198.51.100.1"]);
    pair.record = Some(Vec::new());
    // The peer's responses are kept from us, but for those that somebody else hands in.
    let (ours, theirs) = (address("192.0.2.1:5000"), address("198.51.100.1:5000"));
    pair.blocks = Box::new(move |from, _| from == theirs);
    pair.start();
    pair.advance(SECOND);
    let record = pair.record.take().unwrap();
    let response = |(from, _, datagram): &&(_, _, Bytes)| *from == theirs && datagram[0] == 1;
    let (_, _, datagram) = record.iter().find(response).expect("a response").clone();
    pair.inject(0, address("203.0.113.66:5000"), ours, &datagram);
    assert_eq!(pair.a().agent.stats().unasked_responses, 1);
    assert_eq!(pair.a().updates, [], "no path was validated");
    pair.inject(0, theirs, ours, &datagram);
    let stats = pair.a().agent.stats();
    assert_eq!((stats.unasked_responses, stats.responses_received), (1, 1));
    assert!(matches!(pair.a().updates[0].1, PathUpdate::Validated(path) if path.remote == theirs));
}

#[test]
fn a_request_with_a_wrong_password_is_neither_answered_nor_remembered() {
    let (mut pair, record) = recorded();
    let (ours, stranger) = (address("192.0.2.1:5000"), address("203.0.113.66:5000"));
    let request = |(_, to, datagram): &&(_, _, Bytes)| *to == ours && datagram[0] == 0;
    let (_, _, datagram) = record.iter().find(request).expect("a request").clone();
    let (sent, updates) = (pair.a().sent.clone(), pair.a().updates.clone());
    // Flip one bit at a time: every byte is covered by the integrity, or by the grammar.
    for index in 0..datagram.len() - 8 {
        let mut forged = datagram.to_vec();
        forged[index] ^= 0x01;
        pair.inject(0, stranger, ours, &forged);
    }
    assert_eq!((&pair.a().sent, &pair.a().updates), (&sent, &updates));
    assert!(pair.a().agent.stats().bad_integrity > 50, "{:?}", pair.a().agent.stats());
}

#[test]
fn a_replayed_request_authenticates_a_path_but_never_validates_it() {
    let (mut pair, record) = recorded();
    let (ours, stranger) = (address("192.0.2.1:5000"), address("203.0.113.66:5000"));
    let request = |(_, to, datagram): &&(_, _, Bytes)| *to == ours && datagram[0] == 0;
    let (_, _, datagram) = record.iter().find(request).expect("a request").clone();
    pair.inject(0, stranger, ours, &datagram);
    pair.advance(60 * SECOND);
    let of_stranger: Vec<_> = pair
        .a()
        .updates
        .iter()
        .filter_map(|(_, update)| match update {
            PathUpdate::Authenticated(path) if path.remote == stranger => Some("authenticated"),
            PathUpdate::Validated(path) if path.remote == stranger => Some("validated"),
            PathUpdate::Selected(path) if path.remote == stranger => Some("selected"),
            PathUpdate::Lost(path) if path.remote == stranger => Some("lost"),
            _ => None,
        })
        .collect();
    assert_eq!(of_stranger, ["authenticated", "lost"]);
    assert_eq!(pair.a().selected().unwrap().1, address("198.51.100.1:5000"));
}

#[test]
fn an_address_that_never_answers_gets_at_most_three_times_what_came_from_it() {
    let (mut pair, record) = recorded();
    let (ours, stranger) = (address("192.0.2.1:5000"), address("203.0.113.66:5000"));
    let request = |(_, to, datagram): &&(_, _, Bytes)| *to == ours && datagram[0] == 0;
    let (_, _, datagram) = record.iter().find(request).expect("a request").clone();
    for replays in 1..=3 {
        pair.record = Some(Vec::new());
        pair.inject(0, stranger, ours, &datagram);
        pair.advance(60 * SECOND);
        let back = bytes_between(&pair.record.take().unwrap(), ours, stranger);
        assert!((1..=3 * datagram.len()).contains(&back), "{back} after {replays}");
    }
}

/// Somebody who has the credentials, and lets his checks come from an address that is not his.
#[test]
fn nor_does_one_whose_checks_are_genuine() {
    let mut pair = Pair::new(1, &["192.0.2.1"], &["198.51.100.1"]);
    let (ours, forged) = (address("192.0.2.1:5000"), address("198.51.100.1:5000"));
    pair.sides[1].signals = false;
    // All that goes there is lost, and one in ten that come from there gets here.
    let come = Cell::new(0);
    pair.blocks = Box::new(move |from, _| {
        come.set(come.get() + u32::from(from == forged));
        from == ours || come.get() % 10 != 1
    });
    pair.record = Some(Vec::new());
    pair.start();
    pair.advance(30 * SECOND);
    let record = pair.record.take().unwrap();
    let back = bytes_between(&record, ours, forged);
    let stats = pair.a().agent.stats();
    assert!(stats.amplification_withheld > 0 && stats.requests_received > 0, "{stats:?}");
    let longest = record.iter().map(|(.., datagram)| datagram.len()).max().unwrap();
    let most = 3 * longest * stats.requests_received as usize;
    assert!(back > 0 && back <= most, "{back} bytes, {stats:?}");
}

fn bytes_between(
    record: &[(SocketAddr, SocketAddr, Bytes)],
    from: SocketAddr,
    to: SocketAddr,
) -> usize {
    let between = record.iter().filter(|(of, for_, _)| (*of, *for_) == (from, to));
    between.map(|(_, _, datagram)| datagram.len()).sum()
}

#[test]
fn a_replay_from_everywhere_is_bounded() {
    let (mut pair, record) = recorded();
    let ours = address("192.0.2.1:5000");
    let request = |(_, to, datagram): &&(_, _, Bytes)| *to == ours && datagram[0] == 0;
    let (_, _, datagram) = record.iter().find(request).expect("a request").clone();
    for port in 1..=1000 {
        pair.inject(0, ([203, 0, 113, 66], port).into(), ours, &datagram);
    }
    let stats = pair.a().agent.stats();
    assert_eq!(stats.over_limit, 900);
    pair.advance(60 * SECOND);
    assert_eq!(pair.a().agent.state(), IceState::Connected);
    let to_strangers = pair.a().agent.stats().requests_sent - stats.requests_sent;
    assert!(to_strangers < 1500, "{to_strangers} checks to 100 addresses");
}

#[test]
fn random_and_mutated_datagrams_never_panic_and_never_connect() {
    let (mut pair, record) = recorded();
    let mut random = fastrand::Rng::with_seed(7);
    let (ours, stranger) = (address("192.0.2.1:5000"), address("203.0.113.66:5000"));
    let before = pair.a().updates.len();
    for round in 0..20_000 {
        let mut datagram = if round % 2 == 0 {
            let (_, _, datagram) = &record[random.usize(..record.len())];
            datagram.to_vec()
        } else {
            let mut noise = vec![0; random.usize(..200)];
            random.fill(&mut noise);
            // Past the header, or nothing but the header would be tested.
            if noise.len() >= 20 {
                let length = (noise.len() as u16 - 20) & !3;
                noise.truncate(20 + usize::from(length));
                noise[..2].copy_from_slice(&[random.u8(..2), [1, 0x11][random.usize(..2)]]);
                noise[2..4].copy_from_slice(&length.to_be_bytes());
                noise[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            }
            noise
        };
        for _ in 0..random.usize(1..6) {
            if !datagram.is_empty() {
                let index = random.usize(..datagram.len());
                datagram[index] = random.u8(..);
            }
        }
        if random.u8(..) < 20 {
            datagram.truncate(random.usize(..=datagram.len()));
        }
        pair.inject(0, stranger, ours, &datagram);
    }
    // A change of the FINGERPRINT alone is a replay: it can authenticate, and no more.
    let further = pair.a().updates[before..].iter();
    assert!(further.clone().count() <= 1);
    assert!(further.clone().all(|(_, update)| matches!(update, PathUpdate::Authenticated(_))));
    assert!(pair.a().is_connected());
}

#[test]
fn requests_for_somebody_else_are_counted_apart() {
    let (mut pair, record) = recorded();
    // A request to the other side names the other side's fragment first.
    let (theirs, stranger) = (address("198.51.100.1:5000"), address("203.0.113.66:5000"));
    let request = |(_, to, datagram): &&(_, _, Bytes)| *to == theirs && datagram[0] == 0;
    let (_, _, datagram) = record.iter().find(request).expect("a request").clone();
    let ufrag = info(2).username_frag;
    assert!(datagram.windows(8).any(|window| window == ufrag.as_bytes()));
    pair.inject(0, stranger, address("192.0.2.1:5000"), &datagram);
    assert_eq!(pair.a().agent.stats().foreign_username, 1);
}

/// The transaction identifiers of the checks of a pair whose first side has this seed, and
/// whose thread has that one.
fn transactions(seed: u64, of_the_thread: u64) -> Vec<Bytes> {
    fastrand::seed(of_the_thread);
    let ours = common::config(1).with_seed(seed);
    let mut pair =
        Pair::with_configs(1, (ours, &["192.0.2.1"]), (common::config(2), &["198.51.100.1"]));
    pair.record = Some(Vec::new());
    pair.start();
    pair.drive_until_connected(SECOND);
    let ours = address("192.0.2.1:5000");
    let record = pair.record.take().unwrap().into_iter();
    let checks = record.filter(|(from, _, datagram)| *from == ours && datagram[0] == 0);
    checks.map(|(_, _, datagram)| datagram.slice(8..20)).collect()
}

#[test]
fn transaction_identifiers_follow_from_the_seed_of_the_agent_alone() {
    let ids = transactions(7, 1);
    assert!(!ids.is_empty());
    assert_eq!(ids, transactions(7, 2));
    assert!(transactions(8, 1).iter().all(|id| !ids.contains(id)));
}
