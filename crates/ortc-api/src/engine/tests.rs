//! The control thread dies. No input that is known does that: what panics there is an actor or a
//! task, which costs its connection alone.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::{interval, timeout};

use super::*;
use crate::connection::RTCConnection;
use crate::events::{RTCDisconnectReason, RTCEvent, RTCEvents};
use crate::options::RTCConnectionOptions;

const LIMIT: Duration = Duration::from_secs(20);

const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn connection(engine: &Engine) -> RTCConnection {
    let options = RTCConnectionOptions::new().with_engine(engine.clone()).with_loopback(true);
    RTCConnection::new(options).unwrap()
}

/// Has two connections signal each other all that they find; returns both, connected.
async fn call(one: &Engine, two: &Engine) -> [(RTCConnection, RTCEvents); 2] {
    let pair = [connection(one), connection(two)];
    for (own, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
        let peer = other.downgrade();
        own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            conn.set_local_candidate(&candidate).unwrap();
            if let Some(peer) = peer.upgrade() {
                peer.set_remote_candidate(&candidate).unwrap();
            }
        }));
        own.set_remote_ice(other.local().ice).unwrap();
        own.connect().unwrap();
    }
    let mut pair = pair.map(|conn| {
        let events = conn.events();
        (conn, events)
    });
    for (_, events) in &mut pair {
        until(events, |event| *event == RTCEvent::Connected).await;
    }
    pair
}

async fn until(events: &mut RTCEvents, matches: impl Fn(&RTCEvent) -> bool) -> RTCEvent {
    let found = async {
        loop {
            let event = events.recv().await.expect("open");
            if matches(&event) {
                return event;
            }
        }
    };
    timeout(LIMIT, found).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_thread_that_dies_ends_the_connections_of_its_engine_and_no_others() {
    let [doomed, other] = [(); 2].map(|()| Engine::new(EngineConfig::new()).unwrap());
    let [(one, mut events), (two, of_two)] = call(&doomed, &other).await;
    let port = crate::RTCSocket::bind_on(&doomed, LOCALHOST).await.unwrap();
    let bound = port.local_addr().unwrap();
    doomed.request(Request::Panic).unwrap();

    // The application hears of it, with a reason, and then that it is over.
    let is_end = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
    let reason = RTCDisconnectReason::Internal("its actor, or the control thread, has panicked");
    assert!(reason.is_final());
    assert_eq!(until(&mut events, is_end).await, RTCEvent::Disconnected(reason));
    assert_eq!(timeout(LIMIT, events.recv()).await.expect("in time"), None);
    timeout(LIMIT, one.closed()).await.expect("everything is let go of");
    // Whatever is asked is answered.
    assert!(matches!(one.connect(), Err(crate::ConnectError::Closed)));
    timeout(LIMIT, one.stats()).await.expect("answered");
    assert!(doomed.stats().await.is_none());
    let new = RTCConnection::new(RTCConnectionOptions::new().with_engine(doomed.clone()));
    assert!(matches!(new, Err(NewConnectionError::EngineGone)));
    // The media thread ends with it, and so do its sockets.
    timeout(LIMIT, async {
        let mut tick = interval(Duration::from_millis(10));
        while UdpSocket::bind(bound).is_err() {
            tick.tick().await;
        }
    })
    .await
    .expect("the port is free");
    // Other engines do not hear of it: the peer of that call misses it by consent, later.
    assert_eq!(other.stats().await.unwrap().connections, 1);
    let fresh = Engine::new(EngineConfig::new()).unwrap();
    let pair = call(&fresh, &other).await;
    assert_eq!(other.stats().await.unwrap().connections, 2);
    for (conn, _) in pair.into_iter().chain([(two, of_two)]) {
        conn.close();
        timeout(LIMIT, conn.closed()).await.expect("closed");
    }
    drop((port, one));
}
