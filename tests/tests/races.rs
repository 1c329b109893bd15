//! What comes at the wrong moment, or from the wrong sender, costs nothing but itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ortc_api::{Engine, RTCConnection, RTCConnectionOptions, RTCDisconnectReason, RTCEvent};
use ortc_io::DatagramKind;
use ortc_io::sim::{self, LinkConfig, Network, Verdict};
use ortc_tests::{Pair, Peer, frame, pass};

const SOON: Duration = Duration::from_secs(10);

/// A call with sound from Alice, and what Bob has heard of it.
struct Call {
    pair: Pair,
    source: ortc_api::FrameSender,
    frames: ortc_api::FrameReceiver,
    next: u64,
}

impl Call {
    async fn new(net: &Network) -> Self {
        let mut pair = Pair::new(net);
        let (_, source) = pair.alice.send_audio();
        pair.describe();
        pair.connect_within(SOON).await;
        let track = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
        let frames = track.take_frames().unwrap();
        Self { pair, source, frames, next: 0 }
    }

    /// Plays some frames; each is heard once, in order, as it was sent.
    async fn is_heard(&mut self) {
        for _ in 0..10 {
            let sent = frame(self.next);
            self.next += 1;
            self.source.send(sent.clone()).unwrap();
            let heard = tokio::time::timeout(SOON, self.frames.recv()).await;
            assert_eq!(heard.expect("heard in time").expect("open").data, sent.data);
            pass(Duration::from_millis(20)).await;
        }
    }
}

type Wire = Arc<Mutex<Vec<(std::net::SocketAddr, std::net::SocketAddr, Vec<u8>)>>>;

/// Keeps a copy of all that is sent.
fn record(net: &Network) -> Wire {
    let wire = Wire::default();
    let copy = Arc::clone(&wire);
    net.tap(move |seen| {
        copy.lock().unwrap().push((seen.from, seen.to, seen.bytes.to_vec()));
        Verdict::Pass
    });
    wire
}

#[test]
fn a_call_outlives_the_replay_of_everything() {
    sim::run(1, |net| async move {
        let wire = record(&net);
        let mut call = Call::new(&net).await;
        call.is_heard().await;
        for _ in 0..3 {
            let copies = wire.lock().unwrap().clone();
            for (from, to, bytes) in &copies {
                net.inject(*from, *to, bytes);
            }
            pass(Duration::from_millis(100)).await;
            call.is_heard().await;
        }
        // And from an address that nobody has heard of.
        let copies = wire.lock().unwrap().clone();
        for (_, to, bytes) in &copies {
            net.inject("10.0.0.66:6666".parse().unwrap(), *to, bytes);
        }
        pass(Duration::from_secs(5)).await;
        call.is_heard().await;
        assert!(!call.pair.bob.seen.iter().any(|e| matches!(e, RTCEvent::Disconnected(_))));
    });
}

#[test]
fn a_call_outlives_forgeries_of_every_kind() {
    sim::run(2, |net| async move {
        let wire = record(&net);
        let mut call = Call::new(&net).await;
        call.is_heard().await;
        let copies = wire.lock().unwrap().clone();
        let stranger = "10.0.0.66:6666".parse().unwrap();
        let mut random = fastrand::Rng::with_seed(net.random());
        for (from, to, bytes) in &copies {
            for round in 0..6 {
                let mut forged = bytes.clone();
                match round {
                    // Cut anywhere; one bit changed; all but the first bytes noise; too long.
                    0 => forged.truncate(random.usize(0..forged.len())),
                    1 | 2 => {
                        let at = random.usize(0..forged.len());
                        forged[at] ^= 1 << random.u8(0..8);
                    }
                    3 => random.fill(&mut forged[1..]),
                    4 => forged.extend((0..4000).map(|_| random.u8(..))),
                    _ => random.fill(&mut forged),
                }
                let from = if random.bool() { *from } else { stranger };
                net.inject(from, *to, &forged);
            }
            pass(Duration::from_millis(5)).await;
        }
        call.is_heard().await;
        pass(Duration::from_secs(40)).await;
        call.is_heard().await;
    });
}

#[test]
fn a_peer_that_vanishes_is_missed_sent_nothing_and_welcomed_back() {
    sim::run(3, |net| async move {
        let mut call = Call::new(&net).await;
        // Past the first ten seconds, in which every pair is still being checked.
        pass(SOON * 3).await;
        call.is_heard().await;
        let Pair { alice, bob } = &mut call.pair;
        net.partition(&alice.host, &bob.host);
        let gone = net.elapsed();
        let lost = RTCEvent::Disconnected(RTCDisconnectReason::PathLost);
        alice.until(Duration::from_secs(60), |event| *event == lost).await;
        let missed = net.elapsed() - gone;
        assert!((10..=35).contains(&missed.as_secs()), "missed after {missed:?}");
        bob.until(Duration::from_secs(60), |event| *event == lost).await;
        // Every pair has failed by then, or consent has expired, whichever comes first; from
        // 30 s on, and without consent, no media is sent (RFC 7675 §5.1).
        pass(Duration::from_secs(31)).await;
        let quiet_since = net.transcript().len();
        for n in 0..100 {
            call.source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        let rtp = |entry: &&sim::TranscriptEntry| entry.kind == DatagramKind::Rtp;
        assert_eq!(net.transcript()[quiet_since..].iter().filter(rtp).count(), 0);
        pass(Duration::from_secs(120)).await;
        net.heal(&alice.host, &bob.host);
        alice.until(SOON, |event| *event == RTCEvent::Connected).await;
        bob.until(SOON, |event| *event == RTCEvent::Connected).await;
        call.next = 1000;
        call.is_heard().await;
    });
}

#[test]
fn a_handler_that_panics_costs_its_own_connection_only() {
    sim::run(4, |net| async move {
        let [a, b] = [("alice", 1), ("bob", 2)].map(|(name, n)| {
            let host = net.host(name, &[[10, 0, 0, n].into()]);
            let engine = Engine::simulated(host.io(), net.random());
            (host, engine)
        });
        let peer = |(host, engine): &(sim::Host, Engine)| {
            let options = RTCConnectionOptions::new().with_engine(engine.clone());
            let conn = RTCConnection::new(options).unwrap();
            let events = conn.events();
            Peer { host: host.clone(), conn, events, seen: Vec::new() }
        };
        let mut doomed = Pair { alice: peer(&a), bob: peer(&b) };
        let mut other = Pair { alice: peer(&a), bob: peer(&b) };
        doomed
            .alice
            .conn
            .on_connected(Some(|_: &RTCConnection| panic!("a bug of the application")));
        other.connect_within(SOON).await;
        doomed.signal().await;
        let end = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
        let told = doomed.alice.until(SOON, end).await;
        let reason = "its actor, or the control thread, has panicked";
        assert_eq!(told, RTCEvent::Disconnected(RTCDisconnectReason::Internal(reason)));
        tokio::time::timeout(SOON, doomed.alice.conn.closed()).await.expect("closed");
        assert!(doomed.alice.conn.connect().is_err());
        let (stream, source) = other.alice.send_audio();
        other.describe();
        pass(Duration::from_secs(1)).await;
        source.send(frame(7)).unwrap();
        let track = other.bob.conn.receiving_streams()[0].tracks()[0].clone();
        let heard = tokio::time::timeout(SOON, track.take_frames().unwrap().recv()).await;
        assert_eq!(heard.unwrap().unwrap().data, frame(7).data);
        other.alice.conn.remove_stream(&stream);
        // The other side misses it, by close_notify or by consent.
        doomed.bob.until(Duration::from_secs(60), end).await;
        // The engine goes on taking connections.
        let mut third = Pair { alice: peer(&a), bob: peer(&b) };
        third.connect_within(SOON).await;
    });
}

#[test]
fn everything_may_be_said_twice() {
    sim::run(5, |net| async move {
        let mut pair = Pair::new(&net);
        let [ours, theirs] = [pair.alice.gathered().await, pair.bob.gathered().await];
        for (own, other, mine) in
            [(&pair.alice, &pair.bob, &ours), (&pair.bob, &pair.alice, &theirs)]
        {
            for _ in 0..3 {
                own.conn.set_remote_ice(other.conn.local().ice).unwrap();
                own.conn.connect().unwrap();
                for candidate in mine {
                    own.conn.set_local_candidate(candidate).unwrap();
                    other.conn.set_remote_candidate(candidate).unwrap();
                }
                other.conn.set_remote_end_of_candidates().unwrap();
            }
        }
        for peer in [&mut pair.alice, &mut pair.bob] {
            peer.until(SOON, |event| *event == RTCEvent::Connected).await;
        }
        for (own, other, mine) in
            [(&pair.alice, &pair.bob, &ours), (&pair.bob, &pair.alice, &theirs)]
        {
            own.conn.set_remote_ice(other.conn.local().ice).unwrap();
            own.conn.connect().unwrap();
            own.conn.set_local_candidate(&mine[0]).unwrap();
            other.conn.set_remote_candidate(&mine[0]).unwrap();
        }
        pass(Duration::from_secs(60)).await;
        for peer in [&mut pair.alice, &mut pair.bob] {
            peer.conn.close();
            while let Some(event) = peer.events.recv().await {
                assert!(!matches!(event, RTCEvent::Disconnected(_)), "{event:?}");
            }
        }
    });
}

/// Closed at every few milliseconds of the way; the peer's candidates, hellos and keys arrive
/// at what has gone.
#[test]
fn a_close_at_any_moment_is_answered_in_time() {
    for step in 0..60 {
        sim::run(step, |net| async move {
            net.link(LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::default() });
            let mut pair = Pair::new(&net);
            let (_, source) = pair.alice.send_audio();
            pair.describe();
            pair.signal().await;
            for n in 0..step {
                source.send(frame(n)).unwrap();
                pass(Duration::from_millis(4)).await;
            }
            pair.alice.conn.close();
            if step % 2 == 0 {
                pair.bob.conn.close();
            }
            let Pair { alice, mut bob } = pair;
            tokio::time::timeout(Duration::from_secs(3), alice.conn.closed())
                .await
                .expect("closed");
            assert!(alice.conn.set_remote_ice(bob.conn.local().ice).is_err());
            if step % 2 == 0 {
                let closed = tokio::time::timeout(Duration::from_secs(3), bob.conn.closed());
                closed.await.expect("closed");
            } else if alice.conn.remote().is_some_and(|remote| remote.dtls.is_some()) {
                let end = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
                bob.until(Duration::from_secs(60), end).await;
            }
            let address = alice.host.addresses()[0];
            let quiet_since = net.transcript().len();
            pass(Duration::from_secs(60)).await;
            let later = &net.transcript()[quiet_since..];
            assert_eq!(later.iter().filter(|entry| entry.from.ip() == address).count(), 0);
        });
    }
}

#[test]
fn media_that_overtakes_the_handshake_is_opened_or_dropped_and_the_call_goes_on() {
    for seed in 0..20 {
        sim::run(seed, |net| async move {
            // The server of the handshake may send as soon as it has the client's last flight,
            // and its own, delayed, comes after its media.
            net.tap(|seen| match seen.kind {
                DatagramKind::Dtls if seen.bytes.len() % 3 == 0 => Verdict::Drop,
                _ => Verdict::Pass,
            });
            let mut pair = Pair::new(&net);
            let (_, from_alice) = pair.alice.send_audio();
            let (_, from_bob) = pair.bob.send_audio();
            pair.describe();
            pair.signal().await;
            for n in 0..250 {
                from_alice.send(frame(n)).unwrap();
                from_bob.send(frame(n)).unwrap();
                pass(Duration::from_millis(20)).await;
                if n == 50 {
                    net.untap();
                }
            }
            for peer in [&mut pair.alice, &mut pair.bob] {
                peer.until(SOON, |event| *event == RTCEvent::Connected).await;
                let track = peer.conn.receiving_streams()[0].tracks()[0].clone();
                let mut frames = track.take_frames().unwrap();
                let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
                assert_eq!(heard.data.len(), frame(0).data.len());
            }
        });
    }
}

#[test]
fn fifty_connections_share_an_engine() {
    sim::run(6, |net| async move {
        let [a, b] = [("alice", 1), ("bob", 2)].map(|(name, n)| {
            let host = net.host(name, &[[10, 0, 0, n].into()]);
            let engine = Engine::simulated(host.io(), net.random());
            (host, engine)
        });
        let peer = |(host, engine): &(sim::Host, Engine)| {
            let options = RTCConnectionOptions::new().with_engine(engine.clone());
            let conn = RTCConnection::new(options).unwrap();
            let events = conn.events();
            Peer { host: host.clone(), conn, events, seen: Vec::new() }
        };
        let mut calls = Vec::new();
        for n in 0..50 {
            let mut pair = Pair { alice: peer(&a), bob: peer(&b) };
            let (_, source) = pair.alice.send_audio();
            pair.describe();
            pair.signal().await;
            calls.push((n, pair, source));
        }
        for (_, pair, _) in &mut calls {
            pair.alice.until(SOON, |event| *event == RTCEvent::Connected).await;
            pair.bob.until(SOON, |event| *event == RTCEvent::Connected).await;
        }
        pass(Duration::from_secs(1)).await;
        for (n, _, source) in &mut calls {
            source.send(frame(*n)).unwrap();
        }
        // Each hears its own and nothing else.
        for (n, pair, _) in &mut calls {
            let track = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
            let mut frames = track.take_frames().unwrap();
            let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
            assert_eq!(heard.data, frame(*n).data);
            let more = tokio::time::timeout(Duration::from_secs(1), frames.recv()).await;
            assert!(more.is_err(), "{more:?}");
        }
    });
}
