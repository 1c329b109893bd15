//! One UDP port for many connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ortc_api::{
    AnnounceError, BindError, Engine, FrameReceiver, FrameSender, NewConnectionError,
    RTCConnection, RTCConnectionOptions, RTCDisconnectReason, RTCEvent, RTCSocket,
};
use ortc_io::DatagramKind;
use ortc_io::sim::{self, Host, NatKind, Network, Verdict};
use ortc_tests::{Pair, Peer, frame, pass};

const SOON: Duration = Duration::from_secs(10);
const PORT: u16 = 5000;

fn at(last: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, last], port).into()
}

/// A host with an engine and one port on it.
struct Server {
    host: Host,
    engine: Engine,
    socket: RTCSocket,
}

impl Server {
    async fn new(net: &Network, last: u8) -> Self {
        let host = net.host(&format!("server {last}"), &[[10, 0, 0, last].into()]);
        let engine = Engine::simulated(host.io(), net.random());
        let socket = RTCSocket::bind_on(&engine, at(last, PORT)).await.expect("a free port");
        Self { host, engine, socket }
    }

    /// A new connection on the port.
    fn peer(&self) -> Peer {
        let options = RTCConnectionOptions::new().with_socket(self.socket.clone());
        peer(&self.host, options)
    }
}

fn peer(host: &Host, options: RTCConnectionOptions) -> Peer {
    let conn = RTCConnection::new(options).expect("the engine runs");
    let events = conn.events();
    Peer { host: host.clone(), conn, events, seen: Vec::new() }
}

/// Sound in both directions between two peers.
struct Sound {
    sources: [FrameSender; 2],
    frames: [FrameReceiver; 2],
}

impl Sound {
    /// Has both sides send and receive.
    fn of(pair: &Pair) -> Self {
        let sources = [pair.alice.send_audio().1, pair.bob.send_audio().1];
        pair.describe();
        let frames = [&pair.bob, &pair.alice].map(|peer| {
            let track = peer.conn.receiving_streams()[0].tracks()[0].clone();
            track.take_frames().expect("nobody else reads")
        });
        Self { sources, frames }
    }

    /// Plays a frame each way, and hears it.
    async fn is_heard(&mut self, n: u64) {
        for (source, frames) in self.sources.iter().zip(&mut self.frames) {
            source.send(frame(n)).unwrap();
            let heard = tokio::time::timeout(SOON, frames.recv()).await.expect("heard in time");
            assert_eq!(heard.expect("open").data, frame(n).data);
        }
    }
}

fn is_lost(event: &RTCEvent) -> bool {
    *event == RTCEvent::Disconnected(RTCDisconnectReason::PathLost)
}

#[test]
fn twenty_clients_call_one_port_and_each_hears_its_own_sound() {
    sim::run(1, |net| async move {
        let server = Server::new(&net, 1).await;
        let (mut pairs, mut sounds) = (Vec::new(), Vec::new());
        for client in 2..22 {
            let bob = Peer::new(&net, &format!("client {client}"), client, net.random());
            let mut pair = Pair { alice: server.peer(), bob };
            sounds.push(Sound::of(&pair));
            pair.signal().await;
            pairs.push(pair);
        }
        for pair in &mut pairs {
            pair.alice.until(SOON, |event| *event == RTCEvent::Connected).await;
            pair.bob.until(SOON, |event| *event == RTCEvent::Connected).await;
        }
        for n in 0..20 {
            for (index, sound) in sounds.iter_mut().enumerate() {
                // Frames that are unlike those of all others.
                sound.is_heard(n * 100 + index as u64).await;
            }
        }
        // Nothing has left the server, or come to it, by another port.
        let of_server = |address: SocketAddr| address.ip() == IpAddr::from([10, 0, 0, 1]);
        for seen in net.transcript() {
            for address in [seen.from, seen.to] {
                assert!(!of_server(address) || address.port() == PORT, "{seen:?}");
            }
        }
        // Each connection is somebody else to its peer.
        let mut fragments: Vec<_> =
            pairs.iter().map(|pair| pair.alice.conn.local().ice.username_frag).collect();
        fragments.sort();
        fragments.dedup();
        assert_eq!(fragments.len(), 20);
        let certificate = |pair: &Pair| pair.alice.conn.local().dtls;
        assert_ne!(certificate(&pairs[0]), certificate(&pairs[1]));
        // One that closes takes nobody along.
        let mut gone = pairs.remove(0);
        gone.alice.conn.close();
        let closed = RTCEvent::Disconnected(RTCDisconnectReason::ClosedByPeer);
        gone.bob.until(SOON, |event| *event == closed).await;
        gone.alice.conn.closed().await;
        for sound in &mut sounds[1..] {
            sound.is_heard(9_999).await;
        }
    });
}

#[test]
fn a_candidate_of_the_port_that_is_not_set_sends_and_answers_nothing() {
    sim::run(2, |net| async move {
        let server = Server::new(&net, 1).await;
        let mut pair = Pair { alice: server.peer(), bob: Peer::new(&net, "bob", 2, 2) };
        let (ours, theirs) = (pair.alice.conn.local().ice, pair.bob.conn.local().ice);
        pair.alice.conn.set_remote_ice(theirs).unwrap();
        pair.bob.conn.set_remote_ice(ours).unwrap();
        pair.alice.conn.connect().unwrap();
        pair.bob.conn.connect().unwrap();
        let found = pair.alice.gathered().await;
        assert_eq!(found.iter().map(Peer::address).collect::<Vec<_>>(), [at(1, PORT)]);
        pair.bob.conn.set_remote_candidate(&found[0]).unwrap();
        for candidate in pair.bob.gathered().await {
            pair.bob.conn.set_local_candidate(&candidate).unwrap();
            pair.alice.conn.set_remote_candidate(&candidate).unwrap();
        }
        pass(Duration::from_secs(5)).await;
        let sent = net.transcript().iter().filter(|seen| seen.from == at(1, PORT)).count();
        assert_eq!(sent, 0);
        pair.alice.conn.set_local_candidate(&found[0]).unwrap();
        pair.bob.until(SOON, |event| *event == RTCEvent::Connected).await;
        // Gathering again finds nothing new, and loses nothing.
        pair.alice.conn.update().unwrap();
        assert_eq!(pair.alice.gathered().await.len(), 1, "the one of before");
        pass(Duration::from_secs(60)).await;
        assert!(!pair.alice.seen.iter().any(|event| matches!(event, RTCEvent::Disconnected(_))));
    });
}

/// A client that has vanished calls again from its old address and port, and gets through; the
/// connection of before is told.
#[test]
fn a_peer_that_comes_back_from_the_same_port_gets_through() {
    sim::run(3, |net| async move {
        let server = Server::new(&net, 1).await;
        let client = Server::new(&net, 2).await;
        let mut old = Pair { alice: server.peer(), bob: client.peer() };
        let mut old_sound = Sound::of(&old);
        old.connect_within(SOON).await;
        old_sound.is_heard(1).await;
        // The client is gone without a word.
        net.partition(&server.host, &client.host);
        drop((old.bob, old_sound));
        pass(SOON).await;
        net.heal(&server.host, &client.host);
        let mut new = Pair { alice: server.peer(), bob: client.peer() };
        let mut sound = Sound::of(&new);
        let before = net.elapsed();
        new.connect_within(SOON).await;
        assert!(net.elapsed() - before < Duration::from_secs(1), "and at once");
        old.alice.until(Duration::from_secs(1), is_lost).await;
        for n in 0..10 {
            sound.is_heard(n).await;
        }
        // The old one does not come back, nor does it disturb the new one.
        pass(Duration::from_secs(120)).await;
        sound.is_heard(99).await;
        old.alice.conn.close();
        old.alice.conn.closed().await;
        sound.is_heard(100).await;
        for peer in [&new.alice, &new.bob] {
            assert!(!peer.seen.iter().any(|event| matches!(event, RTCEvent::Disconnected(_))));
        }
    });
}

/// Two ports, and two calls between them, both alive: their packets cannot be told apart, so
/// the newer call has the path for good, at both ends.
#[test]
fn of_two_calls_between_the_same_two_ports_the_newer_one_lives() {
    sim::run(4, |net| async move {
        let (one, two) = (Server::new(&net, 1).await, Server::new(&net, 2).await);
        let mut old = Pair { alice: one.peer(), bob: two.peer() };
        let mut old_sound = Sound::of(&old);
        old.connect_within(SOON).await;
        old_sound.is_heard(1).await;
        let mut new = Pair { alice: one.peer(), bob: two.peer() };
        let mut sound = Sound::of(&new);
        new.connect_within(SOON).await;
        old.alice.until(SOON, is_lost).await;
        old.bob.until(SOON, is_lost).await;
        for n in 0..100 {
            sound.is_heard(n).await;
            pass(Duration::from_millis(500)).await;
        }
        let states = |peer: &mut Peer| {
            let changes = |event: &&RTCEvent| {
                matches!(event, RTCEvent::Connected | RTCEvent::Disconnected(_))
            };
            peer.seen.iter().filter(changes).count()
        };
        for peer in [&mut old.alice, &mut old.bob, &mut new.alice, &mut new.bob] {
            // Nothing that was not awaited above: it does not go to and fro.
            let late = tokio::time::timeout(SOON, peer.events.recv()).await;
            assert!(late.is_err(), "{late:?}");
            assert!(states(peer) <= 1);
        }
    });
}

type Wire = Arc<Mutex<Vec<(SocketAddr, SocketAddr, Vec<u8>)>>>;

/// Mallory has a connection of her own to the server's port, so that her checks are genuine,
/// and sends all that she sends from Alice's address as well.
#[test]
fn nobody_takes_an_address_by_forging_it() {
    sim::run(5, |net| async move {
        let server = Server::new(&net, 1).await;
        let mut call = Pair { alice: server.peer(), bob: Peer::new(&net, "alice", 2, 2) };
        let mut sound = Sound::of(&call);
        call.connect_within(SOON).await;
        sound.is_heard(1).await;
        let alice = net.transcript().iter().find(|seen| seen.to == at(1, PORT)).unwrap().from;
        assert_eq!(alice.ip(), IpAddr::from([10, 0, 0, 2]));

        let wire = Wire::default();
        let copy = Arc::clone(&wire);
        net.tap(move |seen| {
            if seen.from.ip() == IpAddr::from([10, 0, 0, 66]) {
                copy.lock().unwrap().push((seen.from, seen.to, seen.bytes.to_vec()));
            }
            Verdict::Pass
        });
        // The newer one, to which the address would go.
        let mut mallory = Pair { alice: server.peer(), bob: Peer::new(&net, "mallory", 66, 66) };
        let mut her_sound = Sound::of(&mallory);
        mallory.signal().await;
        for n in 2..200 {
            pass(Duration::from_millis(20)).await;
            let copies = std::mem::take(&mut *wire.lock().unwrap());
            for (_, to, bytes) in copies {
                net.inject(alice, to, &bytes);
            }
            sound.is_heard(n).await;
        }
        let forged = net
            .transcript()
            .iter()
            .filter(|seen| seen.from == alice && seen.kind == DatagramKind::Stun)
            .count();
        assert!(forged > 10, "only {forged}");
        mallory.alice.until(SOON, |event| *event == RTCEvent::Connected).await;
        her_sound.is_heard(1).await;
        sound.is_heard(1000).await;
        for peer in [&call.alice, &call.bob] {
            assert!(!peer.seen.iter().any(|event| matches!(event, RTCEvent::Disconnected(_))));
        }
        let late = tokio::time::timeout(Duration::from_secs(120), call.alice.events.recv()).await;
        assert!(late.is_err(), "{late:?}");
    });
}

#[test]
fn requests_to_a_connection_that_has_closed_are_answered_by_nobody() {
    sim::run(6, |net| async move {
        let server = Server::new(&net, 1).await;
        let mut pair = Pair { alice: server.peer(), bob: Peer::new(&net, "bob", 2, 2) };
        pair.connect_within(SOON).await;
        let host = net.host("stranger", &[[10, 0, 0, 9].into()]);
        let wire = Wire::default();
        let copy = Arc::clone(&wire);
        net.tap(move |seen| {
            copy.lock().unwrap().push((seen.from, seen.to, seen.bytes.to_vec()));
            Verdict::Pass
        });
        pass(SOON).await;
        pair.alice.conn.close();
        pair.alice.conn.closed().await;
        net.untap();
        let from_server =
            |net: &Network| net.transcript().iter().filter(|seen| seen.from == at(1, PORT)).count();
        let before = from_server(&net);
        for (from, to, bytes) in wire.lock().unwrap().iter().filter(|(_, to, _)| *to == at(1, PORT))
        {
            net.inject(*from, *to, bytes);
            net.inject(SocketAddr::new(host.addresses()[0], 7), *to, bytes);
        }
        pass(SOON).await;
        assert_eq!(from_server(&net), before);
    });
}

#[test]
fn a_port_lives_as_long_as_its_last_user() {
    sim::run(7, |net| async move {
        let Server { host, engine, socket } = Server::new(&net, 1).await;
        let bind = || RTCSocket::bind_on(&engine, at(1, PORT));
        let in_use = |result: Result<RTCSocket, BindError>| matches!(result, Err(BindError::AddressInUse(address)) if address == at(1, PORT));
        let clone = socket.clone();
        let options = RTCConnectionOptions::new().with_socket(socket);
        // Its handle is gone before the connection has come as far as to join.
        let mut alice = peer(&host, options.clone());
        drop((options, clone));
        let mut pair = Pair { bob: Peer::new(&net, "bob", 2, 2), alice };
        pair.connect_within(SOON).await;
        assert!(in_use(bind().await), "a connection has it");
        pair.alice.conn.close();
        pair.alice.conn.closed().await;
        let again = bind().await.expect("nobody has it");
        assert_eq!(again.local_addr(), Some(at(1, PORT)));
        assert!(in_use(bind().await), "a handle has it");
        drop(again);
        // A connection that is dropped rather than closed.
        let again = bind().await.expect("nobody has it");
        alice = peer(&host, RTCConnectionOptions::new().with_socket(again));
        pass(Duration::from_millis(100)).await;
        assert!(in_use(bind().await), "a connection has it");
        drop(alice);
        pass(Duration::from_secs(3)).await;
        drop(bind().await.expect("nobody has it"));
    });
}

#[test]
fn a_port_that_cannot_be_bound_says_why() {
    sim::run(8, |net| async move {
        let server = Server::new(&net, 1).await;
        let refused = RTCSocket::bind_on(&server.engine, at(99, PORT)).await;
        assert!(matches!(refused, Err(BindError::AddressNotAvailable(a)) if a == at(99, PORT)));
        let other = Server::new(&net, 2).await;
        let options = RTCConnectionOptions::new().with_engine(other.engine);
        let refused = RTCConnection::new(options.with_socket(server.socket.clone()));
        assert!(matches!(refused, Err(NewConnectionError::OtherEngine)));
        let announced = |ip: &str| server.socket.clone().with_announced(ip.parse().unwrap()).err();
        let other_family = AnnounceError::OtherFamily {
            announced: "2001:db8::1".parse().unwrap(),
            bound: at(1, PORT),
        };
        assert_eq!(announced("2001:db8::1"), Some(other_family));
        let unspecified = IpAddr::from([0, 0, 0, 0]);
        assert_eq!(announced("0.0.0.0"), Some(AnnounceError::NotUnicast(unspecified)));
        assert_eq!(announced("203.0.113.5"), None);
    });
}

#[test]
fn a_wildcard_has_a_candidate_for_each_address_and_answers_from_the_one_that_was_asked() {
    sim::run(9, |net| async move {
        let host = net.host("server", &[[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
        let engine = Engine::simulated(host.io(), 1);
        let any: SocketAddr = ([0, 0, 0, 0], PORT).into();
        let socket = RTCSocket::bind_on(&engine, any).await.unwrap();
        assert_eq!(socket.local_addr(), Some(any));
        let ambiguous = socket.clone().with_announced([203, 0, 113, 5].into()).err();
        assert_eq!(ambiguous, Some(AnnounceError::Ambiguous { addresses: 2 }));
        let options = RTCConnectionOptions::new().with_socket(socket);
        let mut with_loopback = peer(&host, options.clone().with_loopback(true));
        let alice = peer(&host, options);
        let mut pair = Pair { alice, bob: Peer::new(&net, "bob", 9, 9) };
        let mut sound = Sound::of(&pair);
        let addresses = |found: Vec<_>| found.iter().map(Peer::address).collect::<Vec<_>>();
        let found = addresses(with_loopback.gathered().await);
        assert_eq!(found, [at(1, PORT), at(2, PORT), ([127, 0, 0, 1], PORT).into()]);
        pair.connect_within(SOON).await;
        sound.is_heard(1).await;
        let asked = |seen: &sim::TranscriptEntry| seen.from.ip() == IpAddr::from([10, 0, 0, 9]);
        let transcript = net.transcript();
        for address in [at(1, PORT), at(2, PORT)] {
            assert!(transcript.iter().any(|seen| asked(seen) && seen.to == address));
            assert!(transcript.iter().any(|seen| seen.from == address));
        }
        // The path that is used goes away; the other one is there, on the same port.
        let used = transcript.last().unwrap();
        let used = if asked(used) { used.to } else { used.from };
        host.set_up(used.ip(), false);
        pair.alice.conn.update().unwrap();
        pass(Duration::from_secs(40)).await;
        sound.is_heard(2).await;
        let last = *net.transcript().last().unwrap();
        let remaining = if used == at(1, PORT) { at(2, PORT) } else { at(1, PORT) };
        assert!([last.from, last.to].contains(&remaining), "{last:?}");
    });
}

#[test]
fn behind_a_one_to_one_nat_the_announced_address_is_called() {
    sim::run(10, |net| async move {
        let outer: IpAddr = [10, 0, 0, 200].into();
        let nat = net.nat("nat", NatKind::FullCone, outer);
        let inner = nat.host("server", &[[192, 168, 0, 5].into()]);
        let engine = Engine::simulated(inner.io(), 1);
        let socket = RTCSocket::bind_on(&engine, ([192, 168, 0, 5], PORT).into()).await.unwrap();
        // As the port of a simulated NAT is its own choice, the server opens it by a call.
        let opener = peer(&inner, RTCConnectionOptions::new().with_socket(socket.clone()));
        let mut first = Pair { alice: opener, bob: Peer::new(&net, "first", 2, 2) };
        first.connect_within(SOON).await;
        let socket = socket.with_announced(outer).unwrap();
        let mut alice = peer(&inner, RTCConnectionOptions::new().with_socket(socket));
        let found = alice.gathered().await;
        assert_eq!(found.len(), 1);
        assert_eq!(Peer::address(&found[0]), SocketAddr::new(outer, PORT));
        assert_eq!(found[0].kind, "host");
        alice.conn.set_local_candidate(&found[0]).expect("as it was found");
    });
}

#[test]
fn ports_and_connections_in_any_order_end_in_order() {
    sim::run(11, |net| async move {
        let server = Server::new(&net, 1).await;
        let mut peers: Vec<Peer> = (0..50).map(|_| server.peer()).collect();
        let Server { engine, socket, .. } = server;
        drop(socket);
        while !peers.is_empty() {
            let index = usize::try_from(net.random()).unwrap_or(0) % peers.len();
            let peer = peers.swap_remove(index);
            if net.random() % 2 == 0 {
                peer.conn.close();
                peer.conn.closed().await;
            }
            if net.random() % 3 == 0 {
                pass(Duration::from_millis(100)).await;
            }
        }
        pass(Duration::from_secs(3)).await;
        drop(RTCSocket::bind_on(&engine, at(1, PORT)).await.expect("the last one has gone"));
    });
}
