//! Whole calls in virtual time.

use std::time::Duration;

use ortc_api::{DtlsFailure, RTCDisconnectReason, RTCEvent, TrackKind};
use ortc_io::DatagramKind;
use ortc_io::sim::{self, LinkConfig, NatKind, SimConfig, TranscriptEntry};
use ortc_tests::{Pair, Peer, frame, pass};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn two_peers_hear_each_other() {
    sim::run(1, |net| async move {
        let mut pair = Pair::new(&net);
        let (_, from_alice) = pair.alice.send_audio();
        let (_, from_bob) = pair.bob.send_audio();
        pair.describe();
        pair.connect_within(SOON).await;
        for (peer, source) in [(&mut pair.bob, from_alice), (&mut pair.alice, from_bob)] {
            let streams = peer.conn.receiving_streams();
            let track = streams[0].tracks()[0].clone();
            assert_eq!(track.kind(), TrackKind::Audio);
            let mut frames = track.take_frames().unwrap();
            for n in 0..50 {
                source.send(frame(n)).unwrap();
                let received = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
                assert_eq!(received.data, frame(n).data);
                assert_eq!(received.payload_id, 111);
            }
        }
    });
}

#[test]
fn the_first_connection_is_quick_on_a_quick_network() {
    sim::run(2, |net| async move {
        net.link(LinkConfig { delay: Duration::from_millis(1), ..LinkConfig::default() });
        let mut pair = Pair::new(&net);
        pair.connect_within(SOON).await;
        assert!(net.elapsed() < Duration::from_millis(300), "took {:?}", net.elapsed());
    });
}

#[test]
fn remote_dtls_is_none_until_connected_and_then_the_peers_own() {
    sim::run(3, |net| async move {
        let mut pair = Pair::new(&net);
        assert_eq!(pair.alice.conn.remote(), None);
        pair.signal().await;
        assert_eq!(pair.alice.conn.remote().unwrap().dtls, None);
        pair.alice.until(SOON, |event| *event == RTCEvent::Connected).await;
        let remote = pair.alice.conn.remote().unwrap().dtls.unwrap();
        let own = pair.bob.conn.local().dtls.unwrap();
        assert_eq!(remote.fingerprint.get("sha-256"), own.fingerprint.get("sha-256"));
        assert_eq!(remote.fingerprint.get("sha-1"), own.fingerprint.get("sha-1"));
    });
}

#[test]
fn connects_at_30_percent_loss_both_ways_in_200_of_200_seeds() {
    for seed in 0..200 {
        sim::run(seed, |net| async move {
            net.link(LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::lossy(0.3) });
            Pair::new(&net).connect_within(Duration::from_secs(60)).await;
        });
    }
}

fn transcript(seed: u64) -> Vec<TranscriptEntry> {
    sim::run(seed, |net| async move {
        net.link(LinkConfig {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(10),
            ..LinkConfig::lossy(0.2)
        });
        let mut pair = Pair::new(&net);
        let (_, source) = pair.alice.send_audio();
        pair.describe();
        pair.connect_within(Duration::from_secs(60)).await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        for n in 0..250 {
            tick.tick().await;
            source.send(frame(n)).unwrap();
        }
        pair.alice.conn.close();
        pair.alice.conn.closed().await;
        // Alice's word may have been lost.
        pair.bob.conn.close();
        pair.bob.conn.closed().await;
        net.transcript()
    })
}

#[test]
fn the_same_seed_gives_the_same_transcript_and_another_seed_another() {
    let (one, again, other) = (transcript(5), transcript(5), transcript(6));
    assert!(one.len() > 250, "only {} datagrams", one.len());
    for (index, (first, second)) in one.iter().zip(&again).enumerate() {
        assert_eq!(first, second, "datagram {index}");
    }
    assert_eq!(one.len(), again.len());
    assert_ne!(one, other);
}

#[test]
fn a_wrong_fingerprint_never_connects() {
    sim::run(7, |net| async move {
        let mut pair = Pair::new(&net);
        // Bob is signalled with Alice's own fingerprint in place of his.
        let mut forged = pair.bob.conn.local().ice;
        forged.fingerprint = pair.alice.conn.local().ice.fingerprint;
        pair.signal_bob_as(&forged).await;
        let is_end = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
        let end = pair.alice.until(Duration::from_secs(120), is_end).await;
        let mismatch = RTCDisconnectReason::Security(DtlsFailure::FingerprintMismatch);
        assert_eq!(end, RTCEvent::Disconnected(mismatch));
        assert!(!pair.alice.seen.contains(&RTCEvent::Connected));
        assert_eq!(pair.alice.conn.remote().unwrap().dtls, None);
        pair.alice.conn.closed().await;
    });
}

#[test]
fn a_candidate_that_is_not_set_sends_and_answers_nothing() {
    sim::run(8, |net| async move {
        let mut pair = Pair::new(&net);
        pair.alice.conn.set_remote_ice(pair.bob.conn.local().ice).unwrap();
        pair.bob.conn.set_remote_ice(pair.alice.conn.local().ice).unwrap();
        pair.alice.conn.connect().unwrap();
        pair.bob.conn.connect().unwrap();
        let withheld = pair.alice.gathered().await;
        // Bob knows where Alice is, and asks; Alice knows of Bob, and has not set her own.
        for candidate in &withheld {
            pair.bob.conn.set_remote_candidate(candidate).unwrap();
        }
        for candidate in pair.bob.gathered().await {
            pair.bob.conn.set_local_candidate(&candidate).unwrap();
            pair.alice.conn.set_remote_candidate(&candidate).unwrap();
        }
        pass(Duration::from_secs(40)).await;
        let address = Peer::address(&withheld[0]);
        let heard = net.transcript();
        assert!(heard.iter().filter(|entry| entry.to == address).count() > 5);
        assert_eq!(heard.iter().filter(|entry| entry.from == address).count(), 0);
        // Set at last, it takes part: the remote is 40 s late, and connects.
        pair.alice.conn.set_local_candidate(&withheld[0]).unwrap();
        pair.alice.until(SOON, |event| *event == RTCEvent::Connected).await;
        pair.bob.until(SOON, |event| *event == RTCEvent::Connected).await;
    });
}

#[test]
fn a_peer_behind_any_nat_reaches_one_that_is_not() {
    use NatKind::{AddressRestricted, FullCone, PortRestricted, Symmetric};
    for kind in [FullCone, AddressRestricted, PortRestricted, Symmetric] {
        sim::run(12, |net| async move {
            let nat = net.nat("nat", kind, [203, 0, 113, 1].into());
            let inside = nat.host("alice", &[[192, 168, 0, 2].into()]);
            let alice = Peer::on(inside, net.random());
            let bob = Peer::new(&net, "bob", 2, net.random());
            let mut pair = Pair { alice, bob };
            let (_, source) = pair.bob.send_audio();
            pair.describe();
            pair.connect_within(SOON).await;
            let is_pair = |event: &RTCEvent| matches!(event, RTCEvent::ActiveCandidate { .. });
            let selected = pair.bob.seen.iter().find(|event| is_pair(event)).unwrap();
            let RTCEvent::ActiveCandidate { remote, .. } = selected else { unreachable!() };
            assert_eq!(
                (&*remote.kind, &*remote.connection_address),
                ("prflx", "203.0.113.1"),
                "{kind:?}: learned from Alice's own checks"
            );
            let track = pair.alice.conn.receiving_streams()[0].tracks()[0].clone();
            let mut frames = track.take_frames().unwrap();
            source.send(frame(1)).unwrap();
            assert_eq!(frames.recv().await.unwrap().data, frame(1).data);
        });
    }
}

#[test]
fn no_order_of_what_is_simultaneous_and_no_kind_of_bad_link_keeps_a_call_from_working() {
    for seed in 0..50 {
        let config = SimConfig { perturb: true, ..SimConfig::new(seed) };
        sim::run_with(config, |net| async move {
            net.link(LinkConfig {
                delay: Duration::from_millis(40),
                jitter: Duration::from_millis(30),
                reorder: 0.1,
                duplicate: 0.1,
                rate: Some(500_000),
                ..LinkConfig::lossy(0.1)
            });
            let mut pair = Pair::new(&net);
            let (_, source) = pair.alice.send_audio();
            pair.describe();
            pair.connect_within(Duration::from_secs(30)).await;
            let track = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
            let mut frames = track.take_frames().unwrap();
            for n in 0..50 {
                source.send(frame(n)).unwrap();
                pass(Duration::from_millis(20)).await;
            }
            pass(Duration::from_secs(1)).await;
            pair.bob.conn.close();
            let mut received = Vec::new();
            while let Some(frame) = frames.recv().await {
                received.push(frame.data);
            }
            let sent: Vec<_> = (0..50).map(|n| frame(n).data).collect();
            let order: Vec<_> = sent.iter().filter(|data| received.contains(data)).collect();
            assert_eq!(received.iter().collect::<Vec<_>>(), order, "each at most once, in order");
            assert!(received.len() >= 30, "{} of 50", received.len());
        });
    }
}

#[test]
fn closing_tells_the_peer_and_frees_both_sides() {
    sim::run(9, |net| async move {
        let mut pair = Pair::new(&net);
        pair.connect_within(SOON).await;
        pair.alice.conn.close();
        pair.alice.conn.closed().await;
        assert_eq!(pair.alice.events.recv().await, None);
        let is_end = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
        let end = pair.bob.until(SOON, is_end).await;
        assert_eq!(end, RTCEvent::Disconnected(RTCDisconnectReason::ClosedByPeer));
        pair.bob.conn.closed().await;
        let quiet_since = net.transcript().len();
        pass(Duration::from_secs(60)).await;
        assert_eq!(net.transcript().len(), quiet_since);
    });
}

#[test]
fn dropping_the_last_handle_closes() {
    sim::run(10, |net| async move {
        let mut pair = Pair::new(&net);
        pair.connect_within(SOON).await;
        let Pair { alice, mut bob } = pair;
        let weak = alice.conn.downgrade();
        drop(alice);
        assert!(weak.upgrade().is_none());
        let is_end = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
        let end = bob.until(SOON, is_end).await;
        assert_eq!(end, RTCEvent::Disconnected(RTCDisconnectReason::ClosedByPeer));
    });
}

#[test]
fn media_before_the_connection_is_not_sent_in_the_clear() {
    sim::run(11, |net| async move {
        let mut pair = Pair::new(&net);
        let (_, source) = pair.alice.send_audio();
        for n in 0..10 {
            source.send(frame(n)).unwrap();
        }
        pair.describe();
        pair.connect_within(SOON).await;
        let early = net.transcript();
        assert_eq!(early.iter().filter(|entry| entry.kind == DatagramKind::Rtp).count(), 0);
    });
}
