//! One local side, several peers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ortc_api::{
    AnnounceError, Certificate, ConnectError, Engine, FrameReceiver, FrameSender, LocalSocketError,
    NewConnectionError, RTCConnection, RTCConnectionOptions, RTCDisconnectReason, RTCEvent,
    RTCSocket,
};
use ortc_io::sim::{self, Host, Network};
use ortc_tests::{Pair, Peer, frame, pass, signalled};

const SOON: Duration = Duration::from_secs(10);

fn peer(host: &Host, options: RTCConnectionOptions) -> Peer {
    let conn = RTCConnection::new(options).expect("the engine runs");
    let events = conn.events();
    Peer { host: host.clone(), conn, events, seen: Vec::new() }
}

/// Another connection with the local side of this one.
fn fork(of: &Peer) -> Peer {
    let socket = of.conn.local_socket().expect("it is open");
    peer(&of.host, RTCConnectionOptions::new().with_socket(socket))
}

/// A call, and its sound both ways.
struct Call {
    pair: Pair,
    sources: [FrameSender; 2],
    frames: [FrameReceiver; 2],
}

impl Call {
    fn of(pair: Pair) -> Self {
        let sources = [pair.alice.send_audio().1, pair.bob.send_audio().1];
        pair.describe();
        let frames = [&pair.bob, &pair.alice].map(|peer| {
            let track = peer.conn.receiving_streams()[0].tracks()[0].clone();
            track.take_frames().expect("nobody else reads")
        });
        Self { pair, sources, frames }
    }

    async fn is_heard(&mut self, n: u64) {
        for (source, frames) in self.sources.iter().zip(&mut self.frames) {
            source.send(frame(n)).unwrap();
            let heard = tokio::time::timeout(SOON, frames.recv()).await.expect("heard in time");
            assert_eq!(heard.expect("open").data, frame(n).data);
        }
    }

    /// One side is told that the other has closed.
    async fn is_closed_by_alice(&mut self) {
        self.pair.alice.conn.close();
        let closed = RTCEvent::Disconnected(RTCDisconnectReason::ClosedByPeer);
        self.pair.bob.until(SOON, |event| *event == closed).await;
        self.pair.alice.conn.closed().await;
    }
}

/// The ports at 10.0.0.1 that anything was sent from or to.
fn ports_used(net: &Network) -> BTreeSet<u16> {
    let of_alice = |address: &SocketAddr| address.ip() == std::net::IpAddr::from([10, 0, 0, 1]);
    let transcript = net.transcript();
    let addresses = transcript.iter().flat_map(|seen| [seen.from, seen.to]);
    addresses.filter(of_alice).map(|address| address.port()).collect()
}

#[test]
fn one_local_side_talks_to_four_peers_and_outlives_the_connection_it_is_from() {
    sim::run(1, |net| async move {
        let first = Peer::new(&net, "alice", 1, net.random());
        let local = first.conn.local();
        // Two before the first socket is bound, one after all candidates have been found.
        let mut alices = vec![fork(&first), fork(&first)];
        alices.insert(0, first);
        pass(Duration::from_millis(100)).await;
        alices.push(fork(&alices[1]));
        let mut calls = Vec::new();
        for (alice, last) in alices.into_iter().zip(2..) {
            assert_eq!(alice.conn.local(), local, "they are one local side");
            let bob = Peer::new(&net, &format!("bob {last}"), last, net.random());
            let mut call = Call::of(Pair { alice, bob });
            call.pair.signal().await;
            calls.push(call);
        }
        for Call { pair, .. } in &mut calls {
            pair.alice.until(SOON, |event| *event == RTCEvent::Connected).await;
            pair.bob.until(SOON, |event| *event == RTCEvent::Connected).await;
            assert_eq!(pair.bob.conn.remote().unwrap().dtls, local.dtls);
        }
        for n in 0..5 {
            for (index, call) in calls.iter_mut().enumerate() {
                // Frames that are unlike those of all others.
                call.is_heard(n * 100 + index as u64).await;
            }
        }
        assert_eq!(ports_used(&net).len(), 1);
        calls.remove(0).is_closed_by_alice().await;
        pass(Duration::from_secs(60)).await;
        for call in &mut calls {
            call.is_heard(9_999).await;
        }
        // The socket goes with the last of them.
        let host = calls[0].pair.alice.host.clone();
        while let Some(mut call) = calls.pop() {
            assert_eq!(host.bound().len(), 1);
            call.is_closed_by_alice().await;
        }
        pass(Duration::from_secs(1)).await;
        assert_eq!(host.bound(), []);
    });
}

/// A peer begins to check as soon as it has what one message told many; whom it will be
/// answered by is decided later.
#[test]
fn checks_of_a_peer_that_comes_early_wait_for_the_fork_that_takes_it() {
    sim::run(2, |net| async move {
        let engine_host = net.host("alice", &[[10, 0, 0, 1].into()]);
        let engine = Engine::simulated(engine_host.io(), 1);
        let options = RTCConnectionOptions::new().with_engine(engine.clone());
        let mut first = peer(&engine_host, options);
        let socket = first.conn.local_socket().unwrap();
        let candidates = first.gathered().await;
        first.conn.set_local_candidate(&candidates[0]).unwrap();
        let mut early = Peer::new(&net, "early", 2, 2);
        early.conn.set_remote_ice(signalled(&first.conn.local().ice)).unwrap();
        early.conn.set_remote_candidate(&candidates[0]).unwrap();
        early.conn.connect().unwrap();
        for candidate in early.gathered().await {
            early.conn.set_local_candidate(&candidate).unwrap();
        }
        // It repeats its checks once a second at this time, so an answer within half of that is
        // to one of those that have waited.
        pass(Duration::from_secs(8)).await;
        let held = engine.stats().await.unwrap().shared;
        assert!(held.held > 5 && held.unknown_username == 0, "{held:?}");
        let late = peer(&engine_host, RTCConnectionOptions::new().with_socket(socket));
        late.conn.set_local_candidate(&candidates[0]).unwrap_err();
        let mut pair = Pair { alice: late, bob: early };
        let found = pair.alice.gathered().await;
        pair.alice.conn.set_local_candidate(&found[0]).unwrap();
        let before = net.elapsed();
        pair.alice.conn.set_remote_ice(signalled(&pair.bob.conn.local().ice)).unwrap();
        pair.alice.conn.connect().unwrap();
        pair.alice.until(SOON, |event| *event == RTCEvent::Connected).await;
        assert!(net.elapsed() - before < Duration::from_millis(500));
        pair.bob.until(SOON, |event| *event == RTCEvent::Connected).await;
        let mut call = Call::of(pair);
        call.is_heard(1).await;
    });
}

#[test]
fn a_local_side_talks_to_a_peer_once() {
    sim::run(3, |net| async move {
        let mut pair = Pair::new(&net);
        // The first is connected when it becomes one of several.
        pair.connect_within(SOON).await;
        let again = fork(&pair.alice);
        let bob = signalled(&pair.bob.conn.local().ice);
        again.conn.set_remote_ice(bob.clone()).unwrap();
        assert_eq!(again.conn.connect(), Err(ConnectError::ForkExists));
        let Pair { alice, bob: old } = pair;
        alice.conn.close();
        alice.conn.closed().await;
        drop(old);
        // Nobody talks to it now.
        assert_eq!(again.conn.connect(), Ok(()));
        assert_eq!(again.conn.connect(), Ok(()), "twice is once");
    });
}

#[test]
fn what_cannot_be_shared_says_why() {
    sim::run(4, |net| async move {
        let alice = Peer::new(&net, "alice", 1, 1);
        let socket = alice.conn.local_socket().unwrap();
        assert_eq!(socket.local_addr(), None, "nothing is bound yet");
        let options = RTCConnectionOptions::new().with_socket(socket.clone());
        let certificate = Certificate::generate().unwrap();
        let refused = RTCConnection::new(options.clone().with_certificate(certificate));
        assert!(matches!(refused, Err(NewConnectionError::SocketHasCertificate)));
        let other = Engine::simulated(net.host("other", &[[10, 0, 0, 9].into()]).io(), 1);
        let refused = RTCConnection::new(options.with_engine(other));
        assert!(matches!(refused, Err(NewConnectionError::OtherEngine)));
        let announced = socket.with_announced([203, 0, 113, 5].into()).err();
        assert_eq!(announced, Some(AnnounceError::LocalSide));
        alice.conn.close();
        assert_eq!(alice.conn.local_socket().err(), Some(LocalSocketError::Closed));
    });
}

#[test]
fn a_connection_on_a_port_can_be_forked_and_the_port_is_the_ports() {
    sim::run(5, |net| async move {
        let host = net.host("alice", &[[10, 0, 0, 1].into()]);
        let engine = Engine::simulated(host.io(), 1);
        let port: SocketAddr = ([10, 0, 0, 1], 5000).into();
        let bound = RTCSocket::bind_on(&engine, port).await.unwrap();
        let options = RTCConnectionOptions::new().with_socket(bound.clone());
        let (first, stranger) = (peer(&host, options.clone()), peer(&host, options));
        let second = fork(&first);
        assert_ne!(stranger.conn.local(), first.conn.local());
        assert_eq!(second.conn.local(), first.conn.local());
        let mut calls = Vec::new();
        for (alice, last) in [first, second, stranger].into_iter().zip(2..) {
            let bob = Peer::new(&net, &format!("bob {last}"), last, net.random());
            let mut call = Call::of(Pair { alice, bob });
            call.pair.connect_within(SOON).await;
            calls.push(call);
        }
        for (call, n) in calls.iter_mut().zip(0..) {
            call.is_heard(n).await;
        }
        assert_eq!(ports_used(&net), BTreeSet::from([5000]));
        drop(calls);
        pass(Duration::from_secs(3)).await;
        assert_eq!(host.bound(), [port], "its handle is left");
        drop(bound);
        pass(Duration::from_secs(1)).await;
        assert_eq!(host.bound(), []);
    });
}

#[test]
fn an_address_that_comes_later_is_a_candidate_of_all_and_one_that_goes_of_none() {
    sim::run(6, |net| async move {
        let mut first = Peer::new(&net, "alice", 1, 1);
        let mut second = fork(&first);
        assert_eq!((first.gathered().await.len(), second.gathered().await.len()), (1, 1));
        let host = first.host.clone();
        host.add_address([10, 0, 0, 77].into());
        first.conn.update().unwrap();
        let is_new = |event: &RTCEvent| matches!(event, RTCEvent::Candidate(found) if found.connection_address == "10.0.0.77");
        let found = first.until(SOON, is_new).await;
        let of_fork = second.until(SOON, is_new).await;
        let address = |event| match event {
            RTCEvent::Candidate(found) => Peer::address(&found),
            other => panic!("{other:?}"),
        };
        assert_eq!(address(found), address(of_fork));
        host.set_up([10, 0, 0, 1].into(), false);
        second.conn.update().unwrap();
        first.conn.update().unwrap();
        pass(SOON).await;
        assert_eq!(host.bound().len(), 1, "the socket of the address that has gone is closed");
        drop((first, second));
        pass(SOON).await;
        assert_eq!(host.bound(), []);
    });
}

/// Local sides that are got, used and let go of in any order leave nothing behind.
#[test]
fn local_sides_in_any_order_end_in_order() {
    sim::run(7, |net| async move {
        let host = net.host("alice", &[[10, 0, 0, 1].into()]);
        let engine = Engine::simulated(host.io(), 1);
        for _ in 0..50 {
            let options = RTCConnectionOptions::new().with_engine(engine.clone());
            let mut peers = vec![peer(&host, options)];
            let mut sockets = Vec::new();
            for _ in 0..net.random() % 20 {
                let one = usize::try_from(net.random()).unwrap_or(0) % peers.len().max(1);
                match (net.random() % 5, peers.get(one)) {
                    (0, Some(peer)) => drop(peer.conn.local_socket()),
                    (1, Some(peer)) => sockets.extend(peer.conn.local_socket()),
                    (2, Some(of)) if of.conn.local_socket().is_ok() => peers.push(fork(of)),
                    (3, Some(_)) => drop(peers.swap_remove(one)),
                    (4, _) => drop(sockets.pop()),
                    _ => {}
                }
                if net.random() % 2 == 0 {
                    pass(Duration::from_millis(20)).await;
                }
            }
            let left = sockets.pop();
            drop((peers, sockets));
            if let Some(socket) = left {
                let last = peer(&host, RTCConnectionOptions::new().with_socket(socket));
                pass(Duration::from_secs(1)).await;
                last.conn.close();
            }
            pass(Duration::from_secs(4)).await;
            assert_eq!(host.bound(), []);
        }
    });
}
