//! TCP candidates (RFC 6544), in virtual time.

use std::time::Duration;

use ortc_ice::{
    IceCommand, IceConfig, IceEvent, IceState, IgnoredReason, RTCIceCandidateDescription,
    TcpCandidates,
};

mod common;

use common::{Pair, config};

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";

fn with(byte: u8, tcp: TcpCandidates) -> IceConfig {
    config(byte).with_tcp_candidates(tcp)
}

/// Two sides, of which no datagram gets through.
fn without_udp(seed: u64, a: TcpCandidates, b: TcpCandidates) -> Pair {
    let mut pair = Pair::with_configs(seed, (with(1, a), &[A]), (with(2, b), &[B]));
    pair.blocks = Box::new(|_, _| true);
    pair
}

#[test]
fn two_sides_connect_over_tcp_where_there_is_no_udp() {
    use TcpCandidates as Tcp;
    for (seed, (a, b)) in [
        (Tcp::ALL, Tcp::ALL),
        (Tcp::ACTIVE, Tcp::PASSIVE),
        (Tcp::PASSIVE, Tcp::ACTIVE),
        (Tcp::ACTIVE, Tcp::ALL),
    ]
    .into_iter()
    .enumerate()
    {
        let mut pair = without_udp(seed as u64, a, b);
        pair.start();
        let time = pair.drive_until_connected(Duration::from_secs(1));
        assert!(time < Duration::from_millis(500), "{a:?} {b:?}: {time:?}");
        pair.advance(Duration::from_secs(120));
        for side in &pair.sides {
            assert!(side.is_on_stream(), "{a:?} {b:?}");
            let states: Vec<_> = side.states().into_iter().map(|(_, state)| state).collect();
            assert_eq!(states, [IceState::Checking, IceState::Connected]);
        }
        let [ours, theirs] = pair.a().active_pair().unwrap();
        let types = [ours, theirs].map(|it| (it.transport, it.tcp_type.unwrap_or_default()));
        let of = |kind: &str| ("tcp".to_owned(), kind.to_owned());
        let expected = [of("active"), of("passive")];
        let is_turned = types == [of("passive"), of("active")];
        assert!(types == expected && a.active || is_turned && a.passive, "{types:?}");
        // Both sides mean the same stream.
        let selected = |side: usize| pair.sides[side].agent.selected_path().unwrap();
        let ends = |side: usize| {
            let socket = selected(side).socket;
            let it = pair.sides[side].streams.iter().find(|(id, ..)| *id == socket).unwrap();
            (it.1, it.2)
        };
        assert_eq!(ends(0), (ends(1).1, ends(1).0));
    }
}

#[test]
fn udp_is_preferred_and_streams_of_no_use_are_closed() {
    let all = TcpCandidates::ALL;
    let mut pair = Pair::with_configs(7, (with(1, all), &[A]), (with(2, all), &[B]));
    pair.start();
    pair.drive_until_connected(Duration::from_secs(1));
    pair.advance(Duration::from_secs(5));
    assert!(pair.sides.iter().all(|side| side.is_connected() && !side.is_on_stream()));
    let opened: Vec<_> = pair.sides.iter().map(|side| side.opened).collect();
    pair.advance(Duration::from_secs(120));
    assert_eq!(pair.sides.iter().map(|side| side.opened).collect::<Vec<_>>(), opened);
    assert!(pair.sides.iter().all(|side| side.is_connected() && !side.is_on_stream()));
}

#[test]
fn there_are_no_tcp_candidates_unless_they_are_wanted() {
    let mut pair = Pair::with_configs(1, (config(1), &[A]), (with(2, TcpCandidates::ALL), &[B]));
    pair.gather();
    let lines = |side: usize| -> Vec<String> {
        pair.sides[side].found().iter().map(ToString::to_string).collect()
    };
    assert!(lines(0).iter().all(|line| line.contains(" udp ")), "{:?}", lines(0));
    let tcp: Vec<_> = lines(1).into_iter().filter(|line| line.contains(" tcp ")).collect();
    let expected = [
        "candidate:a1 1 tcp 1524629247 192.0.2.2 9 typ host tcptype active",
        "candidate:p2 1 tcp 1520434687 192.0.2.2 6000 typ host tcptype passive",
    ];
    assert_eq!(tcp, expected);
    let ignored = pair.a().events.iter().filter_map(|(_, event)| match event {
        IceEvent::CandidateIgnored { candidate, reason } => Some((candidate.clone(), *reason)),
        _ => None,
    });
    let reason = IgnoredReason::TransportUnsupported;
    let expected: Vec<_> = expected.map(|line| (line.parse().unwrap(), reason)).into();
    assert_eq!(ignored.collect::<Vec<_>>(), expected);
}

#[test]
fn a_stream_that_ends_is_opened_again_however_often() {
    for (active, passive) in [(0, 1), (1, 0)] {
        let of = |side| if side == active { TcpCandidates::ACTIVE } else { TcpCandidates::PASSIVE };
        let mut pair = without_udp(3, of(0), of(1));
        pair.start();
        pair.drive_until_connected(Duration::from_secs(1));
        // More often than addresses of a peer, or of ours, are remembered.
        for round in 0..150 {
            pair.cut_streams();
            pair.advance(Duration::from_millis(30));
            pair.drive_until(Duration::from_secs(2), |pair| {
                pair.sides.iter().all(|side| side.is_connected() && side.is_on_stream())
            });
            assert_eq!(pair.sides[active].opened, round + 2);
            pair.advance(Duration::from_secs(1));
        }
        assert_eq!(pair.sides[passive].streams.len(), 1);
        for side in &pair.sides {
            assert_eq!(side.agent.stats().streams_ended, 150);
            assert_eq!(side.agent.stats().over_limit, 0);
            assert_eq!(side.states().len(), 2, "{:?}", side.states());
        }
    }
}

#[test]
fn a_peer_whose_stream_does_not_come_back_is_gone_and_welcome_later() {
    for (active, passive) in [(0, 1), (1, 0)] {
        let of = |side| if side == active { TcpCandidates::ACTIVE } else { TcpCandidates::PASSIVE };
        let mut pair = without_udp(3, of(0), of(1));
        pair.start();
        pair.drive_until_connected(Duration::from_secs(1));
        // Long enough for what had no answer to be given up.
        pair.advance(Duration::from_secs(20));
        pair.blocks_streams = Box::new(|_, _| true);
        pair.cut_streams();
        pair.advance(Duration::from_secs(3));
        assert_eq!(pair.sides[passive].agent.state(), IceState::Disconnected);
        pair.advance(Duration::from_secs(40));
        assert!(pair.sides.iter().all(|side| !side.is_connected()));
        pair.blocks_streams = Box::new(|_, _| false);
        pair.drive_until_connected(Duration::from_secs(20));
    }
}

#[test]
fn who_refuses_streams_is_asked_less_and_less() {
    let mut pair = without_udp(5, TcpCandidates::ACTIVE, TcpCandidates::PASSIVE);
    pair.blocks_streams = Box::new(|_, _| true);
    pair.start();
    pair.advance(Duration::from_secs(300));
    let opened = pair.a().opened;
    assert!((10..=40).contains(&opened), "{opened} in five minutes");
    pair.blocks_streams = Box::new(|_, _| false);
    pair.drive_until_connected(Duration::from_secs(30));
}

#[test]
fn a_stream_on_which_nothing_comes_is_closed() {
    let mut pair = without_udp(5, TcpCandidates::ACTIVE, TcpCandidates::PASSIVE);
    pair.start();
    pair.drive_until_connected(Duration::from_secs(1));
    let to = pair.b().listening[0].1;
    // Over the limit, those that are of no use make room, and the selected one does not.
    for port in 1..=40 {
        pair.open_silent_stream(([198, 51, 100, 1], port).into(), to);
    }
    assert_eq!(pair.b().streams.len(), 16);
    pair.advance(Duration::from_secs(14));
    assert_eq!(pair.b().streams.len(), 16);
    pair.advance(Duration::from_secs(2));
    assert_eq!(pair.b().streams.len(), 1);
    assert!(pair.sides.iter().all(|side| side.is_connected() && side.is_on_stream()));
    assert_eq!(pair.a().opened, 1);
}

#[test]
fn a_peer_that_restarts_is_followed_on_its_streams() {
    let mut pair = without_udp(5, TcpCandidates::ACTIVE, TcpCandidates::PASSIVE);
    pair.start();
    pair.drive_until_connected(Duration::from_secs(1));
    for side in [1, 0] {
        let remote = pair.sides[1 - side].info.clone();
        let fresh = ortc_ice::RTCIceConnectionInfo { fingerprint: Some("other".into()), ..remote };
        // The same credentials are no restart, and change nothing.
        let same = IceCommand::Connect { remote: fresh, controlling: side == 0 };
        pair.command(side, same);
    }
    pair.advance(Duration::from_secs(20));
    assert!(pair.sides.iter().all(|side| side.is_connected() && side.is_on_stream()));
    assert_eq!(pair.a().opened, 1);
}

#[test]
fn a_candidate_that_is_withdrawn_takes_its_streams_with_it() {
    let mut pair = without_udp(5, TcpCandidates::ACTIVE, TcpCandidates::PASSIVE);
    pair.start();
    pair.drive_until_connected(Duration::from_secs(1));
    let passive: RTCIceCandidateDescription =
        pair.b().found().into_iter().find(|it| it.transport == "tcp").unwrap();
    pair.command(0, IceCommand::RemoveRemoteCandidate(passive.clone()));
    pair.advance(Duration::from_millis(50));
    assert!(pair.sides.iter().all(|side| side.streams.is_empty()));
    pair.command(0, IceCommand::SetRemoteCandidate(passive));
    pair.drive_until(Duration::from_secs(5), |pair| {
        pair.sides.iter().all(|side| side.is_connected() && side.is_on_stream())
    });
    // The host has the address no longer.
    pair.sides[1].interfaces.clear();
    pair.command(1, IceCommand::Update);
    pair.advance(Duration::from_millis(50));
    assert!(pair.sides.iter().all(|side| side.streams.is_empty()));
    assert!(pair.b().listening.is_empty());
}

#[test]
fn what_the_peer_is_told_of_its_address_is_that_of_its_stream() {
    let mut pair = without_udp(5, TcpCandidates::ACTIVE, TcpCandidates::PASSIVE);
    pair.start();
    pair.drive_until_connected(Duration::from_secs(1));
    let (_, local, _) = pair.a().streams[0];
    let [_, remote] = pair.b().active_pair().unwrap();
    let told = format!("{}:{}", remote.connection_address, remote.connection_port);
    assert_eq!((told, remote.kind.as_str()), (local.to_string(), "prflx"));
}
