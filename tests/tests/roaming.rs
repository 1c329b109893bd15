//! The network changes in the middle of a call.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ortc_api::{
    FrameReceiver, FrameSender, RTCConnection, RTCConnectionOptions, RTCDisconnectReason, RTCEvent,
    RestartIceError,
};
use ortc_io::DatagramKind;
use ortc_io::sim::{self, LinkConfig, NatKind, Network, Verdict};
use ortc_tests::{Pair, Peer, frame, pass, signalled};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(20);
const WIFI: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const MOBILE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 51));

/// A call with sound both ways, one frame each 20 ms.
struct Call {
    pair: Pair,
    ways: [Way; 2],
    n: u64,
}

/// One direction of it.
struct Way {
    source: FrameSender,
    frames: FrameReceiver,
    last: Instant,
    /// The longest time without a frame.
    gap: Duration,
}

impl Call {
    async fn of(mut pair: Pair) -> Self {
        let sources = [pair.alice.send_audio().1, pair.bob.send_audio().1];
        pair.describe();
        let receivers = [&pair.bob, &pair.alice].map(|peer| {
            let track = peer.conn.receiving_streams()[0].tracks()[0].clone();
            track.take_frames().expect("nobody else reads")
        });
        signal_changes(&pair.alice.conn, &pair.bob.conn);
        signal_changes(&pair.bob.conn, &pair.alice.conn);
        pair.connect_within(10 * SECOND).await;
        let [one, other] = sources;
        let [at_bob, at_alice] = receivers;
        let way = |source, frames| Way { source, frames, last: ortc_io::now(), gap: TICK };
        Self { pair, ways: [way(one, at_bob), way(other, at_alice)], n: 0 }
    }

    /// Talks for a while; returns the longest silence of either direction.
    async fn talk(&mut self, time: Duration) -> [Duration; 2] {
        let until = ortc_io::now() + time;
        for way in &mut self.ways {
            (way.last, way.gap) = (ortc_io::now(), Duration::ZERO);
        }
        while ortc_io::now() < until {
            self.n += 1;
            for way in &mut self.ways {
                way.source.send(frame(self.n)).expect("connected");
            }
            pass(TICK).await;
            for way in &mut self.ways {
                while tokio::time::timeout(Duration::ZERO, way.frames.recv()).await.is_ok() {
                    way.gap = way.gap.max(ortc_io::now() - way.last);
                    way.last = ortc_io::now();
                }
            }
        }
        self.ways.each_mut().map(|way| way.gap.max(ortc_io::now() - way.last))
    }
}

/// What a signalling channel carries after the beginning.
fn signal_changes(from: &RTCConnection, to: &RTCConnection) {
    let (found, gone) = (to.downgrade(), to.downgrade());
    from.on_candidate(Some(move |from: &RTCConnection, candidate| {
        if let (Ok(()), Some(to)) = (from.set_local_candidate(&candidate), found.upgrade()) {
            to.set_remote_candidate(&candidate).expect("a valid candidate");
        }
    }));
    from.on_candidate_withdrawn(Some(move |_: &RTCConnection, candidate| {
        if let Some(to) = gone.upgrade() {
            to.remove_remote_candidate(&candidate).expect("a valid candidate");
        }
    }));
}

fn following() -> RTCConnectionOptions {
    RTCConnectionOptions::new().with_network_changes(true)
}

fn roamer(net: &Network) -> Peer {
    Peer::with_options(net.host("alice", &[WIFI]), net.random(), following())
}

fn mobile_link() -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(40), ..LinkConfig::lossy(0.02) }
}

fn handshakes(net: &Network) -> usize {
    net.transcript().iter().filter(|seen| seen.kind == DatagramKind::Dtls).count()
}

/// From Wi-Fi to mobile, and back: the one address goes before the other has come, or after.
#[test]
fn media_goes_on_over_the_address_that_is_left() {
    let mut controlling = [0, 0];
    for seed in 0..20 {
        let alice_controls = sim::run(seed, move |net| async move {
            net.link(mobile_link());
            let alice = roamer(&net);
            let bob = Peer::new(&net, "bob", 2, net.random());
            let mut call = Call::of(Pair { alice, bob }).await;
            call.talk(15 * SECOND).await;
            let (host, before) = (call.pair.alice.host.clone(), handshakes(&net));
            for (up, down, overlap) in [(MOBILE, WIFI, true), (WIFI, MOBILE, false)] {
                if !overlap {
                    host.set_up(down, false);
                    call.talk(Duration::from_millis(200)).await;
                }
                if host.addresses().contains(&up) || up == MOBILE {
                    host.add_address(up);
                } else {
                    host.set_up(up, true);
                }
                if overlap {
                    call.talk(Duration::from_millis(200)).await;
                    host.set_up(down, false);
                }
                let gaps = call.talk(20 * SECOND).await;
                assert!(gaps.iter().all(|gap| *gap < SECOND), "seed {seed}, to {up}: {gaps:?}");
                let address = up.to_string();
                let is_active = |event: &RTCEvent| {
                    matches!(event, RTCEvent::ActiveCandidate { local, .. }
                        if local.connection_address == address)
                };
                call.pair.alice.until(SECOND, is_active).await;
            }
            assert_eq!(handshakes(&net), before, "and without a handshake");
            let ice = |peer: &Peer| peer.conn.local().ice;
            let key = |peer: &Peer| format!("{}:{}", ice(peer).username_frag, ice(peer).password);
            key(&call.pair.alice) > key(&call.pair.bob)
        });
        controlling[usize::from(alice_controls)] += 1;
    }
    assert!(controlling.iter().all(|count| *count > 0), "both roles have roamed: {controlling:?}");
}

/// The peer is not told, as over a signalling channel that is gone: it finds out.
#[test]
fn a_peer_that_is_not_told_of_the_change_finds_out() {
    for seed in 0..10 {
        sim::run(seed, move |net| async move {
            let alice = roamer(&net);
            let bob = Peer::new(&net, "bob", 2, net.random());
            let mut call = Call::of(Pair { alice, bob }).await;
            call.talk(15 * SECOND).await;
            let alice = &call.pair.alice;
            alice.conn.on_candidate_withdrawn(None::<fn(&RTCConnection, _)>);
            alice.conn.on_candidate(Some(|conn: &RTCConnection, candidate| {
                conn.set_local_candidate(&candidate).expect("it was found");
            }));
            let host = alice.host.clone();
            host.add_address(MOBILE);
            host.set_up(WIFI, false);
            let gaps = call.talk(30 * SECOND).await;
            assert!(gaps.iter().all(|gap| *gap < 2 * SECOND), "seed {seed}: {gaps:?}");
            assert!(call.talk(10 * SECOND).await.iter().all(|gap| *gap < SECOND));
        });
    }
}

/// An address that goes dark in the middle of a call, while the host knows nothing of it.
fn darken(net: &Network, dark: IpAddr) {
    net.tap(move |seen| match seen.from.ip() == dark || seen.to.ip() == dark {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
}

/// How often a side was told another pair since it was asked last.
async fn moves(peer: &mut Peer) -> usize {
    let mut moves = 0;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, peer.events.recv()).await {
        moves += usize::from(matches!(event, RTCEvent::ActiveCandidate { .. }));
    }
    moves
}

#[test]
fn a_goodbye_is_heard_whose_path_has_just_died() {
    for seed in 0..10 {
        sim::run(seed, move |net| async move {
            net.link(mobile_link());
            let alice = Peer::on(net.host("alice", &[WIFI, MOBILE]), net.random());
            let bob = Peer::new(&net, "bob", 2, net.random());
            let mut call = Call::of(Pair { alice, bob }).await;
            call.talk(SECOND * [2, 15, 40][seed as usize % 3]).await;
            darken(&net, WIFI);
            let Pair { alice, mut bob } = call.pair;
            if seed % 2 == 0 {
                alice.conn.close();
            }
            drop(alice);
            let is_end = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
            let end = bob.until(SECOND, is_end).await;
            assert_eq!(end, RTCEvent::Disconnected(RTCDisconnectReason::ClosedByPeer));
        });
    }
}

/// Nobody tells anybody: it is noticed as nothing comes any more.
#[test]
fn a_path_that_dies_without_a_word_is_left_in_two_seconds_and_taken_again() {
    for seed in 0..20 {
        sim::run(seed, move |net| async move {
            net.link(mobile_link());
            let alice = Peer::on(net.host("alice", &[WIFI, MOBILE]), net.random());
            let bob = Peer::new(&net, "bob", 2, net.random());
            let mut call = Call::of(Pair { alice, bob }).await;
            // Before it has settled, too.
            call.talk(SECOND * [1, 15, 40][seed as usize % 3]).await;
            darken(&net, WIFI);
            let gaps = call.talk(10 * SECOND).await;
            assert!(gaps.iter().all(|gap| *gap < 2 * SECOND), "seed {seed}: {gaps:?}");
            net.untap();
            let gaps = call.talk(30 * SECOND).await;
            assert!(gaps.iter().all(|gap| *gap < SECOND), "seed {seed}: {gaps:?}");
            moves(&mut call.pair.alice).await;
            call.talk(30 * SECOND).await;
            assert_eq!(moves(&mut call.pair.alice).await, 0, "seed {seed}: and there it stays");
        });
    }
}

#[test]
fn five_percent_loss_moves_nothing() {
    for seed in 0..5 {
        sim::run(seed, move |net| async move {
            let delay = Duration::from_millis(50);
            net.link(LinkConfig { delay, ..LinkConfig::lossy(0.05) });
            let alice = Peer::on(net.host("alice", &[WIFI, MOBILE]), net.random());
            let bob = Peer::new(&net, "bob", 2, net.random());
            let mut call = Call::of(Pair { alice, bob }).await;
            call.talk(20 * SECOND).await;
            let Pair { alice, bob } = &mut call.pair;
            moves(alice).await;
            moves(bob).await;
            call.talk(120 * SECOND).await;
            let Pair { alice, bob } = &mut call.pair;
            assert_eq!((moves(alice).await, moves(bob).await), (0, 0), "seed {seed}");
        });
    }
}

/// The NAT has forgotten its bindings, and gives us another port.
#[test]
fn media_goes_on_through_a_nat_that_has_forgotten_us() {
    for seed in 0..10 {
        sim::run(seed, move |net| async move {
            let nat = net.nat("nat", NatKind::PortRestricted, [10, 0, 0, 200].into());
            let host = nat.host("alice", &[[192, 168, 0, 5].into()]);
            let alice = Peer::on(host, net.random());
            let bob = Peer::new(&net, "bob", 2, net.random());
            let mut call = Call::of(Pair { alice, bob }).await;
            call.talk(15 * SECOND).await;
            nat.restart();
            let gaps = call.talk(40 * SECOND).await;
            assert!(gaps.iter().all(|gap| *gap < 3 * SECOND), "seed {seed}: {gaps:?}");
            assert!(call.talk(10 * SECOND).await.iter().all(|gap| *gap < SECOND));
        });
    }
}

/// Nothing is left of the network, for a while.
#[test]
fn a_host_without_any_address_comes_back() {
    sim::run(3, |net| async move {
        let alice = roamer(&net);
        let bob = Peer::new(&net, "bob", 2, net.random());
        let mut call = Call::of(Pair { alice, bob }).await;
        let host = call.pair.alice.host.clone();
        host.set_up(WIFI, false);
        call.talk(50 * SECOND).await;
        host.set_up(WIFI, true);
        call.talk(5 * SECOND).await;
        assert!(call.talk(10 * SECOND).await.iter().all(|gap| *gap < SECOND));
    });
}

/// Neither the path nor the handshake has to do with the credentials, which are others afterwards.
#[test]
fn a_restart_of_our_own_ice_interrupts_nothing() {
    for seed in 0..20 {
        sim::run(seed, move |net| async move {
            net.link(mobile_link());
            let alice = roamer(&net);
            let bob = Peer::new(&net, "bob", 2, net.random());
            let mut call = Call::of(Pair { alice, bob }).await;
            call.talk(SECOND * [1, 15, 40][seed as usize % 3]).await;
            let before = handshakes(&net);
            // By either side, and by both at once; the signalling takes its time.
            for restarts in [[true, false], [false, true], [true, true]] {
                let conns = [&call.pair.alice.conn, &call.pair.bob.conn].map(Clone::clone);
                let former = conns.each_ref().map(|conn| conn.local().ice);
                let new: Vec<_> = (0..2)
                    .filter(|side| restarts[*side])
                    .map(|side| (side, conns[side].restart_ice().expect("connected")))
                    .collect();
                let gaps = call.talk(SECOND * [0, 2, 15][seed as usize % 3]).await;
                assert!(gaps.iter().all(|gap| *gap < SECOND / 2), "seed {seed}: {gaps:?}");
                for (side, ice) in new {
                    assert_eq!(conns[side].local().ice, ice);
                    assert_ne!(former[side].username_frag, ice.username_frag);
                    assert_eq!(former[side].fingerprint, ice.fingerprint);
                    conns[1 - side].set_remote_ice(signalled(&ice)).expect("the same certificate");
                    conns[1 - side].connect().expect("it follows");
                }
                let gaps = call.talk(60 * SECOND).await;
                assert!(gaps.iter().all(|gap| *gap < SECOND / 2), "seed {seed}: {gaps:?}");
            }
            assert_eq!(handshakes(&net), before, "and without a handshake");
            for peer in [&mut call.pair.alice, &mut call.pair.bob] {
                let lost = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
                assert!(!has_come(peer, lost).await, "seed {seed}");
            }
        });
    }
}

#[test]
fn a_peer_that_hears_of_a_restart_too_late_is_lost_on_both_sides_and_found_again() {
    for seed in 0..6 {
        sim::run(seed, move |net| async move {
            let mut call = Call::of(Pair::new(&net)).await;
            call.talk(10 * SECOND).await;
            let conns = [&call.pair.alice.conn, &call.pair.bob.conn].map(Clone::clone);
            // What the peer knows is of before two restarts.
            conns[0].restart_ice().expect("connected");
            let ice = conns[0].restart_ice().expect("once more");
            let gaps = call.talk(15 * SECOND).await;
            assert!(gaps.iter().all(|gap| *gap < SECOND / 2), "seed {seed}: {gaps:?}");
            call.talk(60 * SECOND).await;
            for peer in [&mut call.pair.alice, &mut call.pair.bob] {
                let lost = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
                assert!(has_come(peer, lost).await, "seed {seed}: nobody is left with half a call");
            }
            conns[1].set_remote_ice(signalled(&ice)).expect("the same certificate");
            conns[1].connect().expect("it follows");
            call.talk(30 * SECOND).await;
            let gaps = call.talk(10 * SECOND).await;
            assert!(gaps.iter().all(|gap| *gap < SECOND / 2), "seed {seed}: {gaps:?}");
        });
    }
}

/// Whether such an event is among those that wait.
async fn has_come(peer: &mut Peer, is_it: impl Fn(&RTCEvent) -> bool) -> bool {
    let mut has_come = false;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, peer.events.recv()).await {
        has_come |= is_it(&event);
    }
    has_come
}

#[test]
fn ice_is_not_restarted_where_the_peer_or_others_would_be_left_behind() {
    sim::run(1, |net| async move {
        let mut pair = Pair::new(&net);
        let early = pair.alice.conn.restart_ice();
        assert_eq!(early, Err(RestartIceError::NotConnected));
        pair.connect_within(10 * SECOND).await;
        // Whoever had it may have shown it to others.
        drop(pair.alice.conn.local_socket().expect("connected"));
        assert_eq!(pair.alice.conn.restart_ice(), Err(RestartIceError::NotAlone));
        let bob = pair.bob.conn.clone();
        assert!(bob.restart_ice().is_ok());
        bob.close();
        assert_eq!(bob.restart_ice(), Err(RestartIceError::Closed));
    });
}
