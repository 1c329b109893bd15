//! What strangers, broken peers and slow applications send: counted, and harmless.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ortc_io::DatagramKind;
use ortc_io::sim::{self, Verdict};
use ortc_rtp::ReceiveDrops;

use super::*;

/// Collects the RTP that is sent from now on.
fn record(net: &Network) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let recorded = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let sink = Arc::clone(&recorded);
    net.tap(move |sent| {
        if sent.kind == DatagramKind::Rtp {
            sink.lock().unwrap().push(sent.bytes.to_vec());
        }
        Verdict::Pass
    });
    recorded
}

#[test]
fn forged_replayed_and_truncated_packets_are_counted_and_change_nothing() {
    sim::run(41, |net| async move {
        let (a, mut b) = pair(&net).await;
        let recorded = record(&net);
        let sender = a.add_sender();
        let mut receiver = b.add_receiver();
        for n in 0..10 {
            sender.push(packet(n)).unwrap();
        }
        settle().await;
        assert_eq!(numbers(&mut receiver), all(0..10));
        let recorded = recorded.lock().unwrap().clone();
        assert_eq!(recorded.len(), 10);

        for (n, genuine) in recorded.iter().enumerate() {
            net.inject(a.local, b.local, genuine);
            let mut forged = genuine.clone();
            forged[2] ^= 0x7f;
            forged[12 + n] ^= 1;
            net.inject(a.local, b.local, &forged);
            net.inject(a.local, b.local, &genuine[..2 + n]);
        }
        let stats = b.stats().await;
        let expected = ReceiveDrops {
            replayed: 10,
            not_authentic: 10,
            malformed: 10,
            ..ReceiveDrops::default()
        };
        assert_eq!(stats.media.receive_drops, expected);
        sender.push(packet(10)).unwrap();
        settle().await;
        assert_eq!(numbers(&mut receiver), [10]);
        assert_eq!(b.route_event().await, RouteEvent::ReceiverConnected(ID, SSRC));
    });
}

#[test]
fn media_from_an_unknown_address_reaches_no_session() {
    sim::run(42, |net| async move {
        let (a, b) = pair(&net).await;
        let recorded = record(&net);
        net.link(sim::LinkConfig::lossy(1.0));
        let sender = a.add_sender();
        let mut receiver = b.add_receiver();
        sender.push(packet(0)).unwrap();
        settle().await;
        let genuine = recorded.lock().unwrap()[0].clone();
        net.inject("10.9.9.9:1".parse().unwrap(), b.local, &genuine);
        net.inject("10.9.9.9:1".parse().unwrap(), b.local, b"\x80\xc8\x00\x06forged");
        assert_eq!(b.stats().await.paths.unvalidated, 2);
        assert_eq!(numbers(&mut receiver), all(0..0));

        // The window has not moved: the same packet from where it belongs is taken.
        net.inject(a.local, b.local, &genuine);
        settle().await;
        assert_eq!(numbers(&mut receiver), [0]);
    });
}

#[test]
fn an_ssrc_that_nobody_described_is_dropped_after_a_while() {
    sim::run(43, |net| async move {
        let (a, b) = pair(&net).await;
        let sender = a.add_sender();
        sender.push(packet(0)).unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let drops = ReceiveDrops { unknown_ssrc: 1, ..ReceiveDrops::default() };
        assert_eq!(b.stats().await.media.receive_drops, drops);
    });
}

#[test]
fn datagrams_of_no_protocol_of_ours_are_counted() {
    sim::run(44, |net| async move {
        let (a, mut b) = pair(&net).await;
        for datagram in [&b""[..], b"\x05zrtp", b"\xc0quic", b"\x50", b"\x40\x00\x00\x01x"] {
            net.inject(a.local, b.local, datagram);
        }
        let stats = b.stats().await;
        assert_eq!((stats.received, stats.paths.unknown), (5, 5));
        assert_eq!(b.pending().await.len(), 0);
    });
}

#[test]
fn a_flood_of_stun_crowds_out_neither_answers_nor_handshakes() {
    sim::run(45, |net| async move {
        let (a, mut b) = pair(&net).await;
        let capacity = ForwarderConfig::default().event_capacity;
        for _ in 0..2 * capacity {
            net.inject(a.local, b.local, b"\x00\x01\x00\x00");
            tokio::task::yield_now().await;
        }
        let stats = b.stats().await;
        assert!(stats.datagram_events_dropped > 0, "{stats:?}");
        net.inject(a.local, b.local, b"\x16\xfe\xfd handshake");
        let stats = b.stats().await;
        b.send(ForwarderCommand::Close(ID));
        let events = b.pending().await;
        assert!(events.iter().any(|event| matches!(event, ForwarderEvent::Dtls(_))));
        assert!(matches!(events.last(), Some(ForwarderEvent::Route(RouteEvent::Closed(ID)))));
        assert_eq!(events.len() as u64 - 1 + stats.datagram_events_dropped, stats.received);
    });
}

#[test]
fn a_control_plane_that_does_not_listen_holds_commands_back_and_loses_no_answer() {
    sim::run(48, |net| async move {
        let host = net.host("host", &["10.0.0.1".parse().unwrap()]);
        let io = host.io();
        let clock = WallClock::new(ortc_io::now(), 0);
        let config = ForwarderConfig { event_capacity: 8, ..ForwarderConfig::default() };
        let (core, handle, mut events) = PacketForwarder::new(&config, 1, clock, local_waker(&io));
        actix::spawn(drive_local(core, io));
        for _ in 0..500 {
            handle.send(ForwarderCommand::Detach(ID)).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(handle.waiting() > 0, "commands wait while nobody listens");
        for _ in 0..500 {
            let event = tokio::time::timeout(Duration::from_secs(1), events.recv()).await;
            assert!(matches!(event, Ok(Some(ForwarderEvent::Detached(ID)))));
        }
    });
}

#[test]
fn an_application_that_does_not_read_loses_the_newest() {
    sim::run(46, |net| async move {
        let (a, b) = pair(&net).await;
        let mut sender = a.add_sender();
        let (packets, mut receiver) = ring(3);
        b.send(ForwarderCommand::AddReceiver(ID, receiver_config(packets)));
        for n in 0..10 {
            sender.send(packet(n)).await.unwrap();
        }
        let stats = b.stats().await;
        assert_eq!(stats.media.receive_drops.ring_full, 7);
        assert_eq!(numbers(&mut receiver), all(0..3));
        drop(receiver);
        sender.send(packet(10)).await.unwrap();
        assert_eq!(b.stats().await.media.receive_drops.ring_closed, 1);
    });
}

#[test]
fn a_panic_costs_the_connection_it_happened_in() {
    sim::run(47, |net| async move {
        let (mut a, b) = pair(&net).await;
        let other = ConnectionId { slot: 9, generation: 0 };
        a.send(ForwarderCommand::Attach(other));
        let address = SocketAddr::new(a.local.ip(), 0);
        a.send(ForwarderCommand::Bind(Bind { connection: other, token: 5, address }));
        let bound = a.event().await;
        assert!(matches!(bound, ForwarderEvent::Socket(_, SocketEvent::Bound { token: 5, .. })));

        a.send(ForwarderCommand::Panic(Some(ID)));
        let lost = a.event().await;
        assert!(
            matches!(&lost, ForwarderEvent::Socket(ID, SocketEvent::Unbound { socket, error: Some(_) }) if *socket == a.socket),
            "{lost:?}"
        );
        assert_eq!(a.route_event().await, RouteEvent::Closed(ID));
        a.send(ForwarderCommand::Detach(ID));
        assert!(matches!(a.event().await, ForwarderEvent::Detached(ID)));
        let stats = a.stats().await;
        assert_eq!((stats.panicked_connections, stats.connections, stats.sockets), (1, 1, 1));
        drop(b);
    });
}
