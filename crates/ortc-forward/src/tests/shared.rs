//! Several connections on one socket.

use std::io;

use ortc_io::paths::SharedStats;
use ortc_io::{Join, SharedSocket, sim};

use super::*;

const OTHER: ConnectionId = ConnectionId { slot: 4, generation: 0 };

/// A forwarder with one shared socket that two connections have joined.
struct Server {
    peer: Peer,
    shared: SharedSocket,
}

impl Server {
    async fn start(net: &Network) -> Self {
        let mut peer = Peer::start(net, "10.0.0.1", 1).await;
        let shared = bind_shared(&mut peer, 5000).await.expect("a free port")[0];
        peer.send(ForwarderCommand::Attach(OTHER));
        let mut server = Self { peer, shared };
        for (connection, username_frag) in [(ID, "alic"), (OTHER, "bobb")] {
            let joined = server.join(connection, username_frag).await;
            let SharedSocket { socket, local } = shared;
            assert!(matches!(joined, SocketEvent::Bound { token: 5, socket: s, local: l }
                if s == socket && l == local));
        }
        server
    }

    async fn join(&mut self, connection: ConnectionId, username_frag: &str) -> SocketEvent {
        let username_frag = username_frag.to_owned();
        let join = Join { connection, token: 5, shared: self.shared, username_frag, fork: false };
        self.peer.send(ForwarderCommand::Join(join));
        match self.peer.event().await {
            ForwarderEvent::Socket(of, event) if of == connection => event,
            other => panic!("not an answer: {other:?}"),
        }
    }

    fn path_to(&self, peer: &Peer) -> Path {
        Path::plain(self.shared.socket, peer.local)
    }

    fn validate(&self, connection: ConnectionId, path: Path) {
        for update in [
            PathUpdate::Authenticated(path),
            PathUpdate::Validated(path),
            PathUpdate::Selected(path),
        ] {
            self.peer.send(ForwarderCommand::Path(connection, update));
        }
    }
}

async fn bind_shared(peer: &mut Peer, port: u16) -> Result<Vec<SharedSocket>, io::ErrorKind> {
    let address = SocketAddr::new(peer.local.ip(), port);
    peer.send(ForwarderCommand::BindShared { token: 9, address });
    match peer.event().await {
        ForwarderEvent::SharedBound(9, result) => result.map_err(|error| error.kind()),
        other => panic!("not an answer: {other:?}"),
    }
}

fn request_to(username_frag: &str) -> Vec<u8> {
    let head = b"\x00\x01\x00\x10\x21\x12\xa4\x42____________\x00\x06\x00\x09";
    [head, username_frag.as_bytes(), b":peer\0\0\0"].concat()
}

/// Whose each event is, and the first bytes of its datagram.
fn owners(events: &[ForwarderEvent]) -> Vec<(ConnectionId, u8)> {
    let owner = |event: &ForwarderEvent| match event {
        ForwarderEvent::Stun(datagram) | ForwarderEvent::Dtls(datagram) => {
            (datagram.connection, datagram.datagram[0])
        }
        other => panic!("not a datagram: {other:?}"),
    };
    events.iter().map(owner).collect()
}

#[test]
fn control_is_brought_to_the_connection_that_it_is_meant_for() {
    sim::run(51, |net| async move {
        let mut server = Server::start(&net).await;
        let client = Peer::start(&net, "10.0.0.2", 2).await;
        let to_server = |datagram: &[u8]| {
            net.inject(client.local, server.shared.local, datagram);
        };
        for username_frag in ["bobb", "alic", "nobo"] {
            to_server(&request_to(username_frag));
        }
        to_server(b"\x16 from a stranger");
        assert_eq!(owners(&server.peer.pending().await), [(OTHER, 0), (ID, 0)]);
        server.validate(OTHER, server.path_to(&client));
        settle().await;
        to_server(b"\x16 to Bob");
        assert_eq!(owners(&server.peer.pending().await), [(OTHER, 0x16)]);
        let stats = server.peer.stats().await;
        let nobodys = SharedStats { unknown_username: 1, strangers: 1, ..SharedStats::default() };
        assert_eq!(stats.shared, nobodys);
    });
}

#[test]
fn a_flood_of_requests_to_nobody_costs_counting() {
    sim::run(52, |net| async move {
        let mut server = Server::start(&net).await;
        for n in 0..20_000u32 {
            let from = SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 7));
            net.inject(from, server.shared.local, &request_to(&format!("{:04}", n % 10_000)));
            if n % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(server.peer.pending().await.len(), 0);
        assert_eq!(server.peer.stats().await.shared.unknown_username, 20_000);
    });
}

#[test]
fn a_username_fragment_that_is_taken_is_refused_and_free_again_afterwards() {
    sim::run(53, |net| async move {
        let mut server = Server::start(&net).await;
        let third = ConnectionId { slot: 5, generation: 0 };
        server.peer.send(ForwarderCommand::Attach(third));
        match server.join(third, "bobb").await {
            SocketEvent::BindFailed { token: 5, address, error } => {
                assert_eq!(
                    (address, error.kind()),
                    (server.shared.local, io::ErrorKind::AddrInUse)
                );
            }
            other => panic!("not refused: {other:?}"),
        }
        server.peer.send(ForwarderCommand::Detach(OTHER));
        assert!(matches!(server.peer.event().await, ForwarderEvent::Detached(OTHER)));
        assert!(matches!(server.join(third, "bobb").await, SocketEvent::Bound { .. }));
    });
}

#[test]
fn whoever_loses_a_path_to_a_newer_connection_hears_of_it() {
    sim::run(54, |net| async move {
        let mut server = Server::start(&net).await;
        let client = Peer::start(&net, "10.0.0.2", 2).await;
        let path = server.path_to(&client);
        server.validate(ID, path);
        server.validate(OTHER, path);
        let events = server.peer.pending().await;
        assert!(
            matches!(events[..], [ForwarderEvent::Socket(ID, SocketEvent::PathTaken(p))] if p == path),
            "{events:?}"
        );
        server.peer.send_control(None, b"\x16 by Alice");
        assert_eq!(server.peer.stats().await.paths.no_path, 1);
    });
}

#[test]
fn a_shared_socket_is_closed_after_its_last_user_and_counted_once() {
    sim::run(55, |net| async move {
        let mut server = Server::start(&net).await;
        let in_use = Err(io::ErrorKind::AddrInUse);
        assert_eq!(server.peer.stats().await.sockets, 2, "and the peer's own");
        server.peer.send(ForwarderCommand::ReleaseShared(server.shared.socket));
        assert_eq!(bind_shared(&mut server.peer, 5000).await, in_use);
        server.peer.send(ForwarderCommand::Unbind(OTHER, server.shared.socket));
        assert!(matches!(
            server.peer.event().await,
            ForwarderEvent::Socket(OTHER, SocketEvent::Unbound { error: None, .. })
        ));
        assert_eq!(bind_shared(&mut server.peer, 5000).await, in_use);
        server.peer.send(ForwarderCommand::Detach(ID));
        assert!(matches!(server.peer.event().await, ForwarderEvent::Detached(ID)));
        assert_eq!(server.peer.stats().await.sockets, 0);
        assert!(bind_shared(&mut server.peer, 5000).await.is_ok());
    });
}

#[test]
fn a_connection_that_is_given_up_leaves_the_socket_to_the_others() {
    sim::run(56, |net| async move {
        let mut server = Server::start(&net).await;
        server.peer.send(ForwarderCommand::Open(OTHER));
        server.peer.send(ForwarderCommand::Panic(Some(OTHER)));
        let events = server.peer.pending().await;
        let heard = |event: &ForwarderEvent| {
            matches!(event, ForwarderEvent::Socket(OTHER, SocketEvent::Unbound { socket, error })
                if *socket == server.shared.socket && error.is_some())
        };
        assert_eq!(events.iter().filter(|event| heard(event)).count(), 1, "{events:?}");
        net.inject(([10, 0, 0, 9], 9).into(), server.shared.local, &request_to("alic"));
        net.inject(([10, 0, 0, 9], 9).into(), server.shared.local, &request_to("bobb"));
        assert_eq!(owners(&server.peer.pending().await), [(ID, 0)]);
    });
}

#[test]
fn media_find_their_connection_by_the_address_that_was_validated() {
    sim::run(57, |net| async move {
        let server = Server::start(&net).await;
        let client = Peer::start(&net, "10.0.0.2", 2).await;
        let to_server = Path::plain(client.socket, server.shared.local);
        client.select(to_server);
        client.send(ForwarderCommand::Open(ID));
        client.set_keys(true);
        server.validate(OTHER, server.path_to(&client));
        server.peer.send(ForwarderCommand::Open(OTHER));
        server.peer.send(ForwarderCommand::SetKeys(OTHER, keys(false)));
        let (packets, mut receiver) = ring(1024);
        let config = receiver_config(packets);
        server.peer.send(ForwarderCommand::AddReceiver(OTHER, config));
        let sender = client.add_sender();
        settle().await;
        for n in 0..20 {
            sender.push(packet(n)).unwrap();
        }
        settle().await;
        assert_eq!(numbers(&mut receiver), all(0..20));
        assert_eq!(server.peer.stats().await.shared.strangers, 0);
    });
}

#[test]
fn a_packet_costs_one_look_up() {
    sim::run(58, |net| async move {
        let host = net.host("server", &[[10, 0, 0, 1].into()]);
        let mut io = host.io();
        let (mut forwarder, handle, mut events) = PacketForwarder::new(
            &ForwarderConfig::default(),
            1,
            WallClock::new(ortc_io::now(), 0),
            std::task::Waker::noop().clone(),
        );
        let (local, remote) = ("10.0.0.1:5000".parse().unwrap(), ([10, 0, 0, 2], 9).into());
        handle.send(ForwarderCommand::Attach(ID)).unwrap();
        handle.send(ForwarderCommand::BindShared { token: 1, address: local }).unwrap();
        forwarder.turn(ortc_io::now(), &mut io);
        let Popped::Item(ForwarderEvent::SharedBound(1, Ok(bound))) = events.pop() else {
            panic!("not bound");
        };
        let (shared, path) = (bound[0], Path::plain(bound[0].socket, remote));
        let username_frag = "abcd".to_owned();
        for command in [
            ForwarderCommand::Join(Join {
                connection: ID,
                token: 2,
                shared,
                username_frag,
                fork: false,
            }),
            ForwarderCommand::Path(ID, PathUpdate::Validated(path)),
            ForwarderCommand::Path(ID, PathUpdate::Selected(path)),
            ForwarderCommand::Open(ID),
            ForwarderCommand::SetKeys(ID, keys(false)),
        ] {
            handle.send(command).unwrap();
        }
        forwarder.turn(ortc_io::now(), &mut io);
        let before = forwarder.lookups();
        for _ in 0..50 {
            net.inject(remote, local, b"\x80\x6f what is no SRTP, but comes from the right place");
        }
        settle().await;
        forwarder.turn(ortc_io::now(), &mut io);
        assert_eq!(forwarder.lookups() - before, 50);
    });
}
