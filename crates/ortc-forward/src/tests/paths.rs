//! Which path is received from and which is sent on.

use std::time::Duration;

use ortc_io::sim;

use super::*;

/// The datagram, where the event is DTLS.
fn dtls(event: &ForwarderEvent) -> &[u8] {
    match event {
        ForwarderEvent::Dtls(datagram) => &datagram.datagram,
        other => panic!("not DTLS: {other:?}"),
    }
}

#[test]
fn dtls_is_parked_until_its_path_is_validated() {
    sim::run(21, |net| async move {
        let a = Peer::start(&net, "10.0.0.1", 1).await;
        let mut b = Peer::start(&net, "10.0.0.2", 2).await;
        let (to_b, to_a) = (a.path_to(&b), b.path_to(&a));

        a.send_control(Some(to_b), b"\x16 from a stranger");
        settle().await;
        b.send(ForwarderCommand::Path(ID, PathUpdate::Authenticated(to_a)));
        a.send_control(Some(to_b), b"\x16 one");
        a.send_control(Some(to_b), b"\x16 two");
        assert_eq!(b.pending().await.len(), 0);
        let stats = b.stats().await;
        assert_eq!((stats.paths.unvalidated, stats.paths.parked), (1, 2));

        b.send(ForwarderCommand::Path(ID, PathUpdate::Validated(to_a)));
        a.send_control(Some(to_b), b"\x16 three");
        let events = b.pending().await;
        let got: Vec<_> = events.iter().map(dtls).collect();
        assert_eq!(got, [b"\x16 one".as_slice(), b"\x16 two", b"\x16 three"]);
    });
}

#[test]
fn media_that_overtakes_the_check_of_its_path_is_not_lost() {
    sim::run(27, |net| async move {
        let a = Peer::start(&net, "10.0.0.1", 1).await;
        let b = Peer::start(&net, "10.0.0.2", 2).await;
        let to_a = b.path_to(&a);
        a.select(a.path_to(&b));
        b.send(ForwarderCommand::Path(ID, PathUpdate::Authenticated(to_a)));
        for (peer, is_client) in [(&a, true), (&b, false)] {
            peer.send(ForwarderCommand::Open(ID));
            peer.set_keys(is_client);
        }
        let sender = a.add_sender();
        let mut receiver = b.add_receiver();
        for n in 0..5 {
            sender.push(packet(n)).unwrap();
        }
        settle().await;
        assert_eq!(numbers(&mut receiver), all(0..0));
        let stats = b.stats().await;
        assert!((5..=6).contains(&stats.paths.parked), "and perhaps a report: {stats:?}");

        b.send(ForwarderCommand::Path(ID, PathUpdate::Validated(to_a)));
        sender.push(packet(5)).unwrap();
        settle().await;
        assert_eq!(numbers(&mut receiver), all(0..6));
        let stats = b.stats().await;
        assert_eq!((stats.paths.unvalidated, stats.paths.released), (0, stats.paths.parked));
    });
}

#[test]
fn no_more_than_eight_dtls_datagrams_are_parked() {
    sim::run(22, |net| async move {
        let a = Peer::start(&net, "10.0.0.1", 1).await;
        let mut b = Peer::start(&net, "10.0.0.2", 2).await;
        let to_a = b.path_to(&a);
        b.send(ForwarderCommand::Path(ID, PathUpdate::Authenticated(to_a)));
        settle().await;
        for _ in 0..20 {
            a.send_control(Some(a.path_to(&b)), b"\x16 hello");
        }
        let stats = b.stats().await;
        assert_eq!((stats.paths.parked, stats.paths.park_overflow), (8, 12));
        b.send(ForwarderCommand::Path(ID, PathUpdate::Validated(to_a)));
        assert_eq!(b.pending().await.len(), 8);
    });
}

#[test]
fn a_change_of_path_loses_nothing_and_grace_ends_after_five_seconds() {
    sim::run(23, |net| async move {
        let (mut a, b) = pair(&net).await;
        let old = a.path_to(&b);
        let sender = a.add_sender();
        let mut receiver = b.add_receiver();
        sender.push(packet(0)).unwrap();
        settle().await;

        // b has already let go of the old path when a still sends on it.
        let (socket, local) = a.bind(2).await;
        let new_at_b = Path::plain(b.socket, local);
        b.select(new_at_b);
        b.send(ForwarderCommand::Path(ID, PathUpdate::Lost(b.path_to(&a))));
        settle().await;
        sender.push(packet(1)).unwrap();
        settle().await;
        a.select(Path::plain(socket, b.local));
        settle().await;
        sender.push(packet(2)).unwrap();
        settle().await;
        assert_eq!(numbers(&mut receiver), all(0..3));

        a.send(ForwarderCommand::Path(ID, PathUpdate::Selected(old)));
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        sender.push(packet(3)).unwrap();
        settle().await;
        assert_eq!(numbers(&mut receiver), all(3..4));
        tokio::time::sleep(Duration::from_millis(500)).await;
        // A report may have come too late as well.
        let before = b.stats().await.paths.unvalidated;
        sender.push(packet(4)).unwrap();
        assert_eq!(b.stats().await.paths.unvalidated, before + 1);
        assert_eq!(numbers(&mut receiver), all(0..0));
    });
}

#[test]
fn control_without_a_path_takes_the_selected_one_else_the_last_validated() {
    sim::run(24, |net| async move {
        let a = Peer::start(&net, "10.0.0.1", 1).await;
        let mut b = Peer::start(&net, "10.0.0.2", 2).await;
        b.select(b.path_to(&a));
        a.send_control(None, b"\x16 to nobody");
        assert_eq!(a.stats().await.paths.no_path, 1);
        a.validate(a.path_to(&b));
        a.send_control(None, b"\x16 to b");
        assert_eq!(b.pending().await.iter().map(dtls).collect::<Vec<_>>(), [b"\x16 to b"]);
    });
}

#[test]
fn control_does_not_leave_through_a_socket_of_somebody_else() {
    sim::run(25, |net| async move {
        let a = Peer::start(&net, "10.0.0.1", 1).await;
        let b = Peer::start(&net, "10.0.0.2", 2).await;
        let foreign = SocketId { slot: 77, generation: 0 };
        a.send_control(Some(Path::plain(foreign, b.local)), b"\x16 hello");
        assert_eq!(a.stats().await.paths.foreign_socket, 1);
        assert_eq!(b.stats().await.received, 0);
    });
}

#[test]
fn stun_is_heard_from_any_address() {
    sim::run(26, |net| async move {
        let a = Peer::start(&net, "10.0.0.1", 1).await;
        let mut b = Peer::start(&net, "10.0.0.2", 2).await;
        a.send_control(Some(a.path_to(&b)), b"\x00\x01 binding");
        match b.event().await {
            ForwarderEvent::Stun(stun) => {
                assert_eq!((stun.connection, stun.path), (ID, b.path_to(&a)));
                assert_eq!(stun.datagram, b"\x00\x01 binding".as_slice());
            }
            other => panic!("not STUN: {other:?}"),
        }
    });
}
