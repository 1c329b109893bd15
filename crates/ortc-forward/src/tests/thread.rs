//! The thread: real sockets on loopback.

use std::time::Duration;

use super::*;
use crate::{ForwarderActor, ForwarderThread, SendCommandError, spawn_pinned};

/// Far more than any of this takes, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Pinned {
    handle: ForwarderHandle,
    events: RingReceiver<ForwarderEvent>,
    thread: ForwarderThread,
    socket: SocketId,
    local: SocketAddr,
}

impl Pinned {
    async fn start(name: &str, core: Option<usize>) -> Self {
        let config = ForwarderConfig { name: name.to_owned(), core, ..ForwarderConfig::default() };
        let (handle, mut events, thread) = spawn_pinned(config).unwrap();
        handle.send(ForwarderCommand::Attach(ID)).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let bind = Bind { connection: ID, token: 1, address };
        handle.send(ForwarderCommand::Bind(bind)).unwrap();
        handle.send(ForwarderCommand::Open(ID)).unwrap();
        match next(&mut events).await {
            ForwarderEvent::Socket(ID, SocketEvent::Bound { socket, local, .. }) => {
                Self { handle, events, thread, socket, local }
            }
            other => panic!("not bound: {other:?}"),
        }
    }

    fn talk_to(&self, remote: SocketAddr, is_client: bool) {
        let path = Path::plain(self.socket, remote);
        for command in [
            ForwarderCommand::Path(ID, PathUpdate::Validated(path)),
            ForwarderCommand::Path(ID, PathUpdate::Selected(path)),
            ForwarderCommand::SetKeys(ID, keys(is_client)),
        ] {
            self.handle.send(command).unwrap();
        }
    }

    async fn stats(&self) -> ForwarderStats {
        let (reply, stats) = oneshot::channel();
        self.handle.send(ForwarderCommand::Snapshot(reply)).unwrap();
        stats.await.unwrap()
    }
}

async fn next(events: &mut RingReceiver<ForwarderEvent>) -> ForwarderEvent {
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await;
        match event.expect("in time").expect("running") {
            // Nobody talks while a thread stops.
            ForwarderEvent::Socket(_, SocketEvent::PathDoubted(_)) => {}
            event => return event,
        }
    }
}

#[tokio::test]
async fn two_threads_exchange_media_and_stop() {
    // No machine has core 100,000: the thread runs all the same.
    let mut a = Pinned::start("forward-a", Some(0)).await;
    let mut b = Pinned::start("forward-b", Some(100_000)).await;
    a.talk_to(b.local, true);
    b.talk_to(a.local, false);

    let (mut sender, to_send) = ring(16);
    let (received, mut receiver) = ring(1024);
    b.handle.send(ForwarderCommand::AddReceiver(ID, receiver_config(received))).unwrap();
    // b is ready once it has answered; only then does a begin.
    assert_eq!(b.stats().await.connections, 1);
    a.handle.send(ForwarderCommand::AddSender(ID, sender_config(to_send))).unwrap();
    for n in 0..500 {
        sender.send(packet(n)).await.unwrap();
    }
    for n in 0..500 {
        let received = tokio::time::timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
        assert_eq!(number(&received), n);
    }
    assert!(matches!(
        next(&mut b.events).await,
        ForwarderEvent::Route(RouteEvent::ReceiverConnected(ID, SSRC))
    ));
    assert_eq!(a.stats().await.media.rtp_sent, 500);

    a.handle.stop();
    assert!(a.thread.join(PATIENCE));
    assert!(matches!(next(&mut a.events).await, ForwarderEvent::Route(RouteEvent::Closed(ID))));
    assert!(matches!(next(&mut a.events).await, ForwarderEvent::Detached(ID)));
    assert!(a.events.recv().await.is_none());
    // Its BYE came before its sockets went.
    assert!(matches!(
        next(&mut b.events).await,
        ForwarderEvent::Route(RouteEvent::ReceiverDisconnected(ID, SSRC, _))
    ));
    b.handle.stop();
    assert!(b.thread.join(PATIENCE));
    std::net::UdpSocket::bind(b.local).expect("the address is free again");
}

#[tokio::test]
async fn a_thread_that_panics_hangs_up() {
    let mut a = Pinned::start("forward-c", None).await;
    a.handle.send(ForwarderCommand::Panic(None)).unwrap();
    let hung_up = tokio::time::timeout(PATIENCE, a.events.recv()).await.unwrap();
    assert!(hung_up.is_none());
    assert!(a.thread.join(PATIENCE));
    assert!(matches!(
        a.handle.send(ForwarderCommand::Attach(ID)),
        Err(SendCommandError::Stopped(_))
    ));
}

#[actix::test]
async fn the_actor_takes_its_thread_with_it() {
    use ortc_io::probe::Probe;
    use ortc_io::{Attach, SocketCommand};

    let config = ForwarderConfig { name: "forward-d".to_owned(), ..ForwarderConfig::default() };
    let forwarder = ForwarderActor::start_pinned(config).unwrap();
    let mut events = Probe::<SocketEvent>::new();
    let unused = Probe::new();
    forwarder.do_send(SocketCommand::Attach(Attach {
        connection: ID,
        events: events.recipient(),
        stun: unused.recipient(),
        dtls: unused.recipient(),
    }));
    let address = "127.0.0.1:0".parse().unwrap();
    forwarder.do_send(SocketCommand::Bind(Bind { connection: ID, token: 2, address }));
    let SocketEvent::Bound { token: 2, socket, local } = events.next().await else {
        panic!("not bound");
    };
    drop(forwarder);
    // What its owner did not give back is reported, after the thread has ended.
    let lost = events.next().await;
    assert!(
        matches!(&lost, SocketEvent::Unbound { socket: s, error: Some(_) } if *s == socket),
        "{lost:?}"
    );
    std::net::UdpSocket::bind(local).expect("the address is free again");
}
