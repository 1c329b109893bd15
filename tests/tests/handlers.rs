//! Events by handler, beside the stream.

use std::sync::mpsc;
use std::time::Duration;

use ortc_api::{RTCConnection, RTCEvent, RTCEventKind};
use ortc_io::sim;
use ortc_tests::{Pair, Peer, pass};

#[test]
fn the_drafts_way_of_trickling_connects() {
    sim::run(1, |net| async move {
        let mut pair = Pair::new(&net);
        let (a, b) = (pair.alice.conn.local().ice, pair.bob.conn.local().ice);
        for (own, other, remote) in
            [(&pair.alice.conn, &pair.bob.conn, b), (&pair.bob.conn, &pair.alice.conn, a)]
        {
            let signalling = other.downgrade();
            own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
                conn.set_local_candidate(&candidate).unwrap();
                if let Some(other) = signalling.upgrade() {
                    other.set_remote_candidate(&candidate).unwrap();
                }
            }));
            own.set_remote_ice(remote).unwrap();
            own.connect().unwrap();
        }
        pair.alice.until(Duration::from_secs(10), |event| *event == RTCEvent::Connected).await;
    });
}

#[test]
fn a_handler_is_replaced_and_cleared_and_listeners_are_removed() {
    sim::run(2, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let (report, heard) = mpsc::channel();
        let say = |name: &'static str| {
            let report = report.clone();
            move |_: &RTCConnection| report.send(name).unwrap()
        };
        let listen = |name: &'static str| {
            let report = report.clone();
            move |_: &RTCConnection, _| report.send(name).unwrap()
        };
        peer.conn.on_end_of_candidates(Some(say("replaced")));
        peer.conn.on_end_of_candidates(Some(say("kept")));
        let removed =
            peer.conn.add_event_listener(RTCEventKind::EndOfCandidates, listen("removed"));
        peer.conn.add_event_listener(RTCEventKind::EndOfCandidates, listen("listener"));
        peer.conn.remove_event_listener(removed);
        pass(Duration::from_secs(1)).await;
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["kept", "listener"]);
        peer.conn.on_end_of_candidates(None::<fn(&RTCConnection)>);
        peer.conn.update().unwrap();
        pass(Duration::from_secs(1)).await;
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["listener"]);
    });
}

#[test]
fn handlers_go_with_the_connection() {
    sim::run(3, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let (report, heard) = mpsc::channel::<()>();
        // A handler that holds its own connection: closing must break the circle.
        let own = peer.conn.clone();
        peer.conn.on_connected(Some(move |_: &RTCConnection| {
            let _ = (&own, &report);
        }));
        let weak = peer.conn.downgrade();
        peer.conn.close();
        peer.conn.closed().await;
        drop(peer);
        assert_eq!(heard.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        assert!(weak.upgrade().is_none());
    });
}
