//! Media from application to application.

use std::time::Duration;

use ortc_io::DatagramKind;
use ortc_io::sim::{self, Fate, LinkConfig};
use ortc_rtp::RouteEvent;

use super::*;

#[test]
fn media_flow_over_loss_and_reordering() {
    sim::run(11, |net| async move {
        let (a, mut b) = pair(&net).await;
        net.link(LinkConfig {
            loss: 0.1,
            reorder: 0.2,
            duplicate: 0.1,
            delay: Duration::from_millis(30),
            ..LinkConfig::default()
        });
        let sender = a.add_sender();
        let mut receiver = b.add_receiver();
        for n in 0..500 {
            sender.push(packet(n)).unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;

        let got = drain(&mut receiver);
        let sent = net.transcript();
        let lost = sent
            .iter()
            .filter(|sent| sent.kind == DatagramKind::Rtp && sent.fate == Fate::Lost)
            .count();
        assert!((20..100).contains(&lost), "{lost} of 500 were lost");
        assert_eq!(got.len(), 500 - lost, "all that arrived was received, and once");

        assert!(!got.is_sorted_by_key(|packet| packet.sequence), "nothing was reordered");
        for received in &got {
            let (first, base) = (&got[0], u64::from(got[0].timestamp));
            let (n, zero) = (number(received), number(first));
            assert_eq!(received.sequence + zero, first.sequence + n);
            assert_eq!(received.timestamp, (base + n * 960).wrapping_sub(zero * 960) as u32);
            assert_eq!((received.marker, received.payload_type), (n == 0, OPUS));
        }
        assert_eq!(b.route_event().await, RouteEvent::ReceiverConnected(ID, SSRC));
    });
}

#[test]
fn srtp_before_the_keys_is_opened_when_they_come() {
    sim::run(12, |net| async move {
        let (a, mut b) = pair_without_keys(&net).await;
        a.set_keys(true);
        let sender = a.add_sender();
        let mut receiver = b.add_receiver();
        for n in 0..20 {
            sender.push(packet(n)).unwrap();
        }
        settle().await;
        assert_eq!((numbers(&mut receiver), b.pending().await.len()), (Vec::new(), 0));

        b.set_keys(false);
        settle().await;
        assert_eq!(numbers(&mut receiver), all(0..20));
        assert_eq!(b.route_event().await, RouteEvent::ReceiverConnected(ID, SSRC));
    });
}

#[test]
fn a_burst_leaves_in_one_call_and_packets_without_a_path_are_counted() {
    sim::run(13, |net| async move {
        let (a, b) = pair(&net).await;
        let sender = a.add_sender();
        settle().await;
        for n in 0..64 {
            sender.push(packet(n)).unwrap();
        }
        settle().await;
        assert_eq!(b.stats().await.paths.unvalidated, 0);
        let sent = a.stats().await.media.rtp_sent;
        assert_eq!(sent, 64);

        a.send(ForwarderCommand::Path(ID, PathUpdate::SendingSuspended));
        settle().await;
        sender.push(packet(64)).unwrap();
        let stats = a.stats().await;
        assert_eq!((stats.media.rtp_sent, stats.media.send_drops.no_path), (64, 1));
    });
}

#[test]
fn more_than_one_turn_takes_goes_out_in_order() {
    sim::run(14, |net| async move {
        let (a, b) = pair(&net).await;
        let mut sender = a.add_sender();
        let mut receiver = b.add_receiver();
        for n in 0..500 {
            sender.send(packet(n)).await.unwrap();
        }
        settle().await;
        assert_eq!(numbers(&mut receiver), all(0..500));
    });
}

#[test]
fn more_connections_than_one_turn_serves_all_get_their_share() {
    const MANY: u32 = 600;
    sim::run(15, |net| async move {
        let mut a = Peer::start(&net, "10.0.0.1", 1).await;
        let mut b = Peer::start(&net, "10.0.0.2", 2).await;
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for slot in 100..100 + MANY {
            let id = ConnectionId { slot, generation: 0 };
            let mut ends = Vec::new();
            for peer in [&mut a, &mut b] {
                peer.send(ForwarderCommand::Attach(id));
                let address = SocketAddr::new(peer.local.ip(), 0);
                let bind = Bind { connection: id, token: 0, address };
                peer.send(ForwarderCommand::Bind(bind));
                peer.send(ForwarderCommand::Open(id));
                match peer.event().await {
                    ForwarderEvent::Socket(_, SocketEvent::Bound { socket, local, .. }) => {
                        ends.push((socket, local));
                    }
                    other => panic!("not bound: {other:?}"),
                }
            }
            for (peer, own, other, is_client) in [(&a, 0, 1, true), (&b, 1, 0, false)] {
                let path = Path::plain(ends[own].0, ends[other].1);
                peer.send(ForwarderCommand::Path(id, PathUpdate::Validated(path)));
                peer.send(ForwarderCommand::SetKeys(id, keys(is_client)));
            }
            let (sender, packets) = ring(4);
            a.send(ForwarderCommand::AddSender(id, sender_config(packets)));
            let (packets, receiver) = ring(4);
            b.send(ForwarderCommand::AddReceiver(id, receiver_config(packets)));
            senders.push(sender);
            receivers.push(receiver);
            tokio::task::yield_now().await;
        }
        settle().await;
        for n in 0..3 {
            for sender in &senders {
                sender.push(packet(n)).unwrap();
            }
            settle().await;
        }
        for receiver in &mut receivers {
            assert_eq!(numbers(receiver), all(0..3));
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let run = |seed| {
        sim::run(seed, |net| async move {
            net.link(LinkConfig { loss: 0.2, ..LinkConfig::default() });
            let (a, b) = pair(&net).await;
            let sender = a.add_sender();
            let _receiver = b.add_receiver();
            for n in 0..100 {
                sender.push(packet(n)).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            net.transcript()
        })
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
