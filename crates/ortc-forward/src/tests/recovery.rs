//! What a subscriber has lost is sent again by its forwarder, wherever the publisher is.

use ortc_io::sim::{self, LinkConfig};
use ortc_rtp::{KeyFrameFeedback, RecoverConfig, RetransmitConfig, RtxStream};

use super::fan_out::{Room, VP8_SENT, sent_ssrc};
use super::*;

const RTX: PayloadType = PayloadType(121);

fn rtx(n: usize) -> RtxStream {
    RtxStream { ssrc: Ssrc(0xe000_0000 + n as u32), payload_types: vec![(VP8_SENT, RTX)] }
}

/// Has the `n`th client be sent again what it has lost, by `rtx` or as it was.
fn recover(room: &Room, n: usize, rtx: Option<RtxStream>) {
    let (ssrc, nack) = (sent_ssrc(n), true);
    let at_server = room.clients[n].at_server;
    let config = RetransmitConfig { ssrc, nack, rtx: rtx.clone() };
    room.server_of(at_server).send(ForwarderCommand::Retransmit(at_server, config));
    let key_frames = KeyFrameFeedback::PictureLoss;
    let config = RecoverConfig { ssrc, nack, key_frames, rtx };
    room.clients[n].peer.send(ForwarderCommand::Recover(ID, config));
}

/// Has the publisher send again what the server has lost.
fn recover_publisher(room: &Room) {
    let config = RetransmitConfig { ssrc: SSRC, nack: true, rtx: None };
    room.clients[0].peer.send(ForwarderCommand::Retransmit(ID, config));
    let key_frames = KeyFrameFeedback::PictureLoss;
    let config = RecoverConfig { ssrc: SSRC, nack: true, key_frames, rtx: None };
    let at_server = room.clients[0].at_server;
    room.server_of(at_server).send(ForwarderCommand::Recover(at_server, config));
}

/// A room of so many forwarders with three subscribers, the last of which has no `rtx`; all that
/// is lost on its way to or from anybody is made good.
fn all_is_recovered(seed: u64, forwarders: usize) {
    sim::run(seed, |net| async move {
        let room = Room::of_forwarders(&net, 4, forwarders).await;
        let mut receivers: Vec<_> = (1..4).map(|n| room.subscribe(n)).collect();
        let sender = room.publish();
        recover(&room, 1, Some(rtx(1)));
        recover(&room, 2, Some(rtx(2)));
        recover(&room, 3, None);
        recover_publisher(&room);
        settle().await;
        // The first ones begin the streams.
        for n in 0..3 {
            sender.push(packet(n)).unwrap();
            settle().await;
        }
        net.link(LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::lossy(0.1) });
        for n in 3..1_003 {
            sender.push(packet(n)).unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        net.link(LinkConfig::default());
        // The last ones show that something is missing before them.
        for n in 1_003..1_006 {
            sender.push(packet(n)).unwrap();
            settle().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for receiver in &mut receivers {
            let got = drain(receiver);
            let first = got[0].sequence;
            assert!(got.iter().all(|it| it.sequence - first == number(it)), "under its number");
            let mut numbers: Vec<_> = got.iter().map(number).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, all(0..1_006));
        }
        let publisher = room.clients[0].peer.stats().await.media;
        let (mut retransmitted, mut asked_for, mut not_sealed) = (0, 0, 0);
        for server in &room.servers {
            let media = server.stats().await.media;
            retransmitted += media.recovery.retransmitted;
            asked_for += media.recovery.asked_for;
            not_sealed += media.recovery.not_sealed + media.send_drops.not_sealed;
        }
        assert!(retransmitted > 200, "{retransmitted} sent again to subscribers");
        assert!((50..=asked_for).contains(&publisher.recovery.asked), "{publisher:?}");
        assert!(publisher.recovery.retransmitted < 200, "{publisher:?}");
        assert_eq!(not_sealed, 0);
    });
}

#[test]
fn a_loss_on_any_leg_is_made_good() {
    all_is_recovered(1, 1);
}

#[test]
fn so_it_is_where_the_publisher_is_on_another_thread() {
    all_is_recovered(2, 3);
}

#[test]
fn what_was_paused_or_is_too_old_is_not_sent_again() {
    sim::run(3, |net| async move {
        let room = Room::new(&net, 2).await;
        let mut receiver = room.subscribe(1);
        let sender = room.publish();
        recover(&room, 1, Some(rtx(1)));
        settle().await;
        let (client, at_server) = (&room.clients[1], room.clients[1].at_server);
        let link = |loss| {
            let config = LinkConfig::lossy(loss);
            net.link_between(&room.servers[0].host, &client.peer.host, config);
        };
        sender.push(packet(0)).unwrap();
        settle().await;
        // Two are lost before a pause, two are not sent at all, two come after it.
        link(1.0);
        (1..3).for_each(|n| sender.push(packet(n)).unwrap());
        settle().await;
        let pause = |enabled| ForwarderCommand::EnableSender(at_server, sent_ssrc(1), enabled);
        room.servers[0].send(pause(false));
        settle().await;
        (3..5).for_each(|n| sender.push(packet(n)).unwrap());
        settle().await;
        room.servers[0].send(pause(true));
        link(0.0);
        settle().await;
        (5..7).for_each(|n| sender.push(packet(n)).unwrap());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut got = drain(&mut receiver);
        got.sort_by_key(|packet| packet.sequence);
        assert_eq!(got.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 5, 6]);
        assert!(got.iter().zip(got[0].sequence..).all(|(packet, n)| packet.sequence == n));

        // Nobody hears of it for more than a second.
        link(1.0);
        sender.push(packet(7)).unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        link(0.0);
        sender.push(packet(8)).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(numbers(&mut receiver), [8]);
        let (served, lost) = (room.servers[0].stats().await.media, client.peer.stats().await.media);
        assert!(served.recovery.unavailable > 0, "{served:?}");
        assert_eq!((lost.recovery.given_up, lost.key_frames_requested), (1, 1));
    });
}
