//! How connections end, and what comes late for them.

use std::time::Duration;

use ortc_io::{DatagramKind, sim};
use ortc_rtp::DisconnectReason;

use super::*;

const NEXT: ConnectionId = ConnectionId { slot: ID.slot, generation: ID.generation + 1 };

#[test]
fn closing_says_bye_then_acknowledges_then_releases_the_sockets() {
    sim::run(31, |net| async move {
        let (mut a, mut b) = pair(&net).await;
        let sender = a.add_sender();
        let _receiver = b.add_receiver();
        sender.push(packet(0)).unwrap();
        settle().await;
        a.send(ForwarderCommand::Close(ID));
        assert_eq!(a.route_event().await, RouteEvent::Closed(ID));
        assert!(sender.push(packet(1)).is_err(), "the ring of a closed sender is gone");

        // close_notify still has a path.
        a.send_control(None, b"\x15 close_notify");
        a.send(ForwarderCommand::Detach(ID));
        assert!(matches!(a.event().await, ForwarderEvent::Detached(ID)));
        let stats = a.stats().await;
        assert_eq!((stats.connections, stats.sockets), (0, 0));

        assert_eq!(b.route_event().await, RouteEvent::ReceiverConnected(ID, SSRC));
        assert!(matches!(b.event().await, ForwarderEvent::Dtls(_)));
        let bye = RouteEvent::ReceiverDisconnected(ID, SSRC, DisconnectReason::Bye);
        assert_eq!(b.route_event().await, bye);
        let sent = net.transcript();
        let kinds = sent.iter().filter(|sent| sent.from == a.local).map(|sent| sent.kind);
        let expected = [DatagramKind::Rtp, DatagramKind::Rtcp, DatagramKind::Dtls];
        assert_eq!(kinds.collect::<Vec<_>>(), expected);
    });
}

#[test]
fn questions_about_a_connection_that_is_gone_are_answered() {
    sim::run(32, |net| async move {
        let mut a = Peer::start(&net, "10.0.0.1", 1).await;
        a.send(ForwarderCommand::Detach(ID));
        assert!(matches!(a.event().await, ForwarderEvent::Detached(ID)));
        a.send(ForwarderCommand::Close(ID));
        assert_eq!(a.route_event().await, RouteEvent::Closed(ID));
        a.send(ForwarderCommand::Detach(ID));
        assert!(matches!(a.event().await, ForwarderEvent::Detached(ID)));
        a.send(ForwarderCommand::Bind(Bind { connection: ID, token: 9, address: a.local }));
        assert!(matches!(
            a.event().await,
            ForwarderEvent::Socket(ID, SocketEvent::BindFailed { token: 9, .. })
        ));
        a.send(ForwarderCommand::Unbind(ID, a.socket));
        assert!(matches!(
            a.event().await,
            ForwarderEvent::Socket(ID, SocketEvent::Unbound { error: None, .. })
        ));
    });
}

#[test]
fn commands_of_a_gone_generation_are_dropped_and_counted() {
    sim::run(33, |net| async move {
        let (mut a, b) = pair(&net).await;
        a.send(ForwarderCommand::Detach(ID));
        assert_eq!(a.route_event().await, RouteEvent::Closed(ID));
        assert!(matches!(a.event().await, ForwarderEvent::Detached(ID)));
        a.send(ForwarderCommand::Attach(NEXT));
        a.send(ForwarderCommand::Open(NEXT));
        let before = a.stats().await;

        a.set_keys(true);
        let sender = a.add_sender();
        let _receiver = a.add_receiver();
        a.send(ForwarderCommand::Open(ID));
        a.send(ForwarderCommand::Attach(ID));
        a.select(a.path_to(&b));
        a.send_control(None, b"\x16 late");
        let stats = a.stats().await;
        assert_eq!(stats.stale_commands - before.stale_commands, 8);
        assert_eq!((stats.stale_keys, stats.orphaned, stats.connections), (1, 1, 1));
        assert!(sender.push(packet(0)).is_err());
    });
}

#[test]
fn a_later_generation_ends_an_earlier_one_that_was_forgotten() {
    sim::run(34, |net| async move {
        let (mut a, _b) = pair(&net).await;
        a.send(ForwarderCommand::Attach(NEXT));
        assert_eq!(a.route_event().await, RouteEvent::Closed(ID));
        assert!(matches!(a.event().await, ForwarderEvent::Detached(ID)));
        let stats = a.stats().await;
        assert_eq!((stats.connections, stats.sockets), (1, 0));
    });
}

#[test]
fn stopping_says_bye_and_hangs_up() {
    sim::run(35, |net| async move {
        let (mut a, mut b) = pair(&net).await;
        let sender = a.add_sender();
        let _receiver = b.add_receiver();
        sender.push(packet(0)).unwrap();
        settle().await;
        a.handle.stop();
        assert_eq!(a.route_event().await, RouteEvent::Closed(ID));
        assert!(matches!(a.event().await, ForwarderEvent::Detached(ID)));
        assert!(a.events.recv().await.is_none());
        assert!(matches!(
            a.handle.send(ForwarderCommand::Attach(NEXT)),
            Err(crate::SendCommandError::Stopped(_))
        ));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(b.route_event().await, RouteEvent::ReceiverConnected(ID, SSRC));
        let bye = RouteEvent::ReceiverDisconnected(ID, SSRC, DisconnectReason::Bye);
        assert_eq!(b.route_event().await, bye);
    });
}

#[test]
fn a_forwarder_that_nobody_listens_to_stops() {
    sim::run(36, |net| async move {
        let Peer { handle, events, host, .. } = Peer::start(&net, "10.0.0.1", 1).await;
        drop(events);
        handle.send(ForwarderCommand::EnumerateInterfaces(ID)).unwrap();
        settle().await;
        handle.stop();
        settle().await;
        assert!(handle.send(ForwarderCommand::Attach(NEXT)).is_err());
        drop(host);
    });
}

#[test]
fn a_forwarder_that_nobody_can_command_stops() {
    sim::run(37, |net| async move {
        let Peer { handle, mut events, local, host, .. } = Peer::start(&net, "10.0.0.1", 1).await;
        let clone = handle.clone();
        drop(handle);
        settle().await;
        assert_eq!(clone.waiting(), 0);
        drop(clone);
        assert!(matches!(events.recv().await, Some(ForwarderEvent::Detached(ID))));
        assert!(events.recv().await.is_none());
        let mut io = host.io();
        ortc_io::DatagramIo::bind(&mut io, local).expect("the address is free again");
    });
}
