//! Whatever is asked in whatever order, some things always hold.

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::{Pair, config, interface};
use ortc_ice::{IceCommand, IceEvent, IceState, RTCIceConnectionInfo, TcpCandidates};
use ortc_io::{Path, PathUpdate};

#[test]
fn no_order_of_operations_breaks_an_invariant() {
    for seed in 0..300 {
        let mut pair = Pair::new(seed, &["192.0.2.1", "2001:db8::1"], &["198.51.100.1"]);
        if seed % 3 > 0 {
            pair.delegate();
        }
        if seed % 3 > 1 {
            pair.sides[1].consent = None;
        }
        for side in &mut pair.sides {
            (side.sets, side.signals) = (false, false);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut set = Vec::new();
        for _ in 0..120 {
            operate(&mut pair, &mut random, &mut set);
            check(&pair, &set, seed);
        }
    }
}

#[test]
fn nor_do_streams_that_come_and_go() {
    for seed in 0..200 {
        let side = |byte| config(byte).with_tcp_candidates(TcpCandidates::ALL);
        let mut pair = Pair::with_configs(
            seed,
            (side(1), &["192.0.2.1", "2001:db8::1"]),
            (side(2), &["198.51.100.1"]),
        );
        for side in &mut pair.sides {
            (side.sets, side.signals) = (false, false);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut set = Vec::new();
        for _ in 0..120 {
            match random.u8(..12) {
                0 => pair.cut_streams(),
                1 => {
                    let side = random.usize(..2);
                    let port = random.u16(1..100);
                    if let Some((_, to)) = random.choice(pair.sides[side].listening.clone()) {
                        let is_v4 = to.is_ipv4();
                        let from = if is_v4 { "203.0.113.9" } else { "2001:db8::9" };
                        let from = (from.parse::<IpAddr>().unwrap(), port).into();
                        pair.open_silent_stream(from, to);
                    }
                }
                2 => {
                    let is_blocked = random.bool();
                    pair.blocks_streams = Box::new(move |_, _| is_blocked);
                }
                3 => {
                    let is_blocked = random.bool();
                    pair.blocks = Box::new(move |_, _| is_blocked);
                }
                _ => operate(&mut pair, &mut random, &mut set),
            }
            check(&pair, &set, seed);
            for side in &pair.sides {
                let streams = side.streams.len();
                assert!(streams <= 32, "seed {seed}: {streams} streams");
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut pair = Pair::new(seed, &["192.0.2.1", "192.0.2.2"], &["198.51.100.1"]);
        pair.delegate();
        pair.record = Some(Vec::new());
        pair.loss = 0.2;
        pair.start();
        pair.advance(Duration::from_secs(60));
        let events: Vec<_> = pair.sides.iter().map(|side| side.events.clone()).collect();
        (pair.record, events)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}

fn operate(pair: &mut Pair, random: &mut fastrand::Rng, set: &mut Vec<(usize, String, u16)>) {
    let side = random.usize(..2);
    match random.u8(..16) {
        0 => pair.command(side, IceCommand::Gather),
        1 => {
            let addresses = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1"];
            // Addresses are of one side only: the network goes by them.
            let mine = |index: &usize| (*index == 2) == (side == 1);
            let chosen = (0..4).filter(mine).filter(|_| random.bool()).map(|i| addresses[i]);
            pair.sides[side].interfaces = chosen.map(interface).collect();
            pair.command(side, IceCommand::Update);
        }
        2..=4 => {
            let found = pair.sides[side].found();
            if let Some(candidate) = random.choice(found) {
                set.push((side, candidate.connection_address.clone(), candidate.connection_port));
                pair.command(side, IceCommand::SetLocalCandidate(candidate));
            }
        }
        5..=8 => {
            let found = pair.sides[1 - side].found();
            if let Some(candidate) = random.choice(found) {
                pair.command(side, IceCommand::SetRemoteCandidate(candidate));
            }
        }
        9..=10 => pair.connect(side, random.bool()),
        11 if random.u8(..) < 40 => {
            let remote = RTCIceConnectionInfo::from_random([random.u8(1..4); 32]);
            pair.command(side, IceCommand::Connect { remote, controlling: random.bool() });
        }
        12 if random.u8(..) < 10 => pair.command(side, IceCommand::Close),
        13 => pair.loss = [0.0, 0.3, 1.0][random.usize(..3)],
        14 => pair.advance(Duration::from_millis(random.u64(..60_000))),
        15 if pair.sides[side].agent.selected_path().is_some() => pair.doubt(side),
        _ => pair.advance(Duration::from_millis(random.u64(..500))),
    }
}

fn check(pair: &Pair, set: &[(usize, String, u16)], seed: u64) {
    for (index, side) in pair.sides.iter().enumerate() {
        for address in side.sent.keys() {
            let key = (index, address.ip().to_string(), address.port());
            assert!(set.contains(&key), "seed {seed}: {address} sends and was never set");
        }
        let mut validated: Vec<Path> = Vec::new();
        for (_, update) in &side.updates {
            match update {
                PathUpdate::Validated(path) => {
                    assert!(!validated.contains(path), "seed {seed}: validated twice");
                    validated.push(*path);
                }
                PathUpdate::Selected(path) => {
                    assert!(validated.contains(path), "seed {seed}: selected, not validated");
                }
                PathUpdate::Lost(path) => validated.retain(|known| known != path),
                PathUpdate::Authenticated(_) | PathUpdate::SendingSuspended => {}
            }
        }
        let mut state = IceState::AwaitingConnect;
        for (_, event) in &side.events {
            if let IceEvent::StateChanged(next) = event {
                assert_ne!(state, *next, "seed {seed}: a change that is none");
                assert_ne!(state, IceState::Closed, "seed {seed}: a life after closing");
                state = *next;
            }
        }
        assert_eq!(side.agent.state(), state, "seed {seed}");
        if state == IceState::Closed {
            assert_eq!(side.agent.poll_timeout(), None, "seed {seed}");
        }
    }
}
