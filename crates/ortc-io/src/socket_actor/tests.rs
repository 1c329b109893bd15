use std::net::SocketAddr;
use std::time::Duration;

use actix::Addr;

use super::*;
use crate::probe::Probe;
use crate::sim::{self, Fate, Network};
use crate::{InterfaceKind, Path, PathUpdate};

const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };

const STUN: &[u8] = &[0, 1, 2];
const DTLS: &[u8] = &[22, 254, 253];
const RTP: &[u8] = &[128, 0, 1];

/// A socket actor with one connection, and what it says.
struct Bench {
    actor: Addr<SocketActor>,
    events: Probe<SocketEvent>,
    stun: Probe<DatagramReceived>,
    dtls: Probe<DatagramReceived>,
    media: Probe<DatagramReceived>,
}

impl Bench {
    fn new(actor: SocketActor) -> Self {
        let bench = Self {
            actor: actor.start(),
            events: Probe::new(),
            stun: Probe::new(),
            dtls: Probe::new(),
            media: Probe::new(),
        };
        bench.command(SocketCommand::Attach(Attach {
            connection: ID,
            events: bench.events.recipient(),
            stun: bench.stun.recipient(),
            dtls: bench.dtls.recipient(),
        }));
        bench
    }

    fn command(&self, command: SocketCommand) {
        self.actor.do_send(command);
    }

    fn path(&self, update: PathUpdate) {
        self.command(SocketCommand::Path(ID, update));
    }

    fn send(&self, path: Option<Path>, datagram: &'static [u8]) {
        let datagram = Bytes::from_static(datagram);
        self.command(SocketCommand::SendControl(SendControl { connection: ID, path, datagram }));
    }

    async fn bind(&mut self, address: &str) -> (SocketId, SocketAddr) {
        let address = address.parse().unwrap();
        self.command(SocketCommand::Bind(Bind { connection: ID, token: 7, address }));
        match self.events.next().await {
            SocketEvent::Bound { token: 7, socket, local } => (socket, local),
            other => panic!("{other:?}"),
        }
    }

    async fn stats(&self) -> (SocketActorStats, Option<PathStats>) {
        self.actor.send(ReadSocketStats(ID)).await.unwrap()
    }
}

/// Two hosts, each with a bound socket, and the path from the first to the second.
async fn pair(net: &Network) -> (Bench, Bench, Path, Path) {
    let mut benches = Vec::new();
    for n in 1..=2 {
        let address = format!("10.0.0.{n}");
        let host = net.host(&address, &[address.parse().unwrap()]);
        let mut bench = Bench::new(SocketActor::over(host.io()));
        let bound = bench.bind(&format!("{address}:5000")).await;
        benches.push((bench, bound));
    }
    let (right, (right_socket, right_address)) = benches.pop().unwrap();
    let (left, (left_socket, left_address)) = benches.pop().unwrap();
    let there = Path::plain(left_socket, right_address);
    let back = Path::plain(right_socket, left_address);
    (left, right, there, back)
}

async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

const SOON: Duration = Duration::from_millis(50);

#[test]
fn stun_is_heard_from_anyone_and_dtls_waits_for_validation() {
    sim::run(1, |net| async move {
        let (left, mut right, there, back) = pair(&net).await;
        left.send(Some(there), STUN);
        let heard = right.stun.next().await;
        let expected = DatagramReceived {
            connection: ID,
            path: back,
            received_at: now(),
            datagram: Bytes::from_static(STUN),
        };
        assert_eq!(heard, expected);

        left.send(Some(there), DTLS);
        right.dtls.expect_none_for(SOON).await;
        right.path(PathUpdate::Authenticated(back));
        left.send(Some(there), DTLS);
        pass(SOON).await;
        let sent = now() - SOON + Duration::from_millis(1);
        right.dtls.expect_none_for(SOON).await;
        right.path(PathUpdate::Validated(back));
        let released = right.dtls.next().await;
        assert_eq!((released.received_at, &released.datagram[..]), (sent, DTLS));
        left.send(Some(there), DTLS);
        assert_eq!(right.dtls.next().await.received_at, now());
        right.dtls.expect_none_for(SOON).await;

        let (total, paths) = right.stats().await;
        let expected = PathStats { parked: 1, released: 1, unvalidated: 1, ..PathStats::default() };
        assert_eq!(paths, Some(expected));
        let expected = SocketActorStats { received: 4, delivered: 3, ..Default::default() };
        assert_eq!(total, expected);
    });
}

#[test]
fn without_a_path_it_sends_where_it_was_last_told() {
    sim::run(1, |net| async move {
        let (left, mut right, there, _) = pair(&net).await;
        let to = || net.transcript().last().map(|entry| entry.to);
        left.send(None, STUN);
        left.path(PathUpdate::Selected(there));
        left.send(None, STUN);
        pass(SOON).await;
        assert_eq!(to(), None);
        left.path(PathUpdate::Validated(there));
        left.send(None, STUN);
        right.stun.next().await;
        assert_eq!(to(), Some(there.remote));
        let elsewhere = Path { remote: "10.0.0.2:6000".parse().unwrap(), ..there };
        left.path(PathUpdate::Validated(elsewhere));
        left.path(PathUpdate::Selected(there));
        left.path(PathUpdate::Lost(there));
        left.send(None, STUN);
        pass(SOON).await;
        assert_eq!(to(), Some(elsewhere.remote));
        left.path(PathUpdate::SendingSuspended);
        left.send(None, STUN);
        left.send(Some(Path { encapsulation: Encapsulation::Rfc4571, ..there }), STUN);
        let foreign = SocketId { slot: 9, generation: 0 };
        left.send(Some(Path { socket: foreign, ..there }), STUN);
        pass(SOON).await;
        assert_eq!(net.transcript().len(), 2);
        let (total, paths) = left.stats().await;
        let expected =
            PathStats { no_path: 2, suspended: 1, foreign_socket: 1, ..PathStats::default() };
        assert_eq!(paths, Some(expected));
        let expected =
            SocketActorStats { sent: 2, encapsulated: 1, refused: 1, ..Default::default() };
        assert_eq!(total, expected);
    });
}

#[test]
fn a_lost_path_is_heard_for_five_seconds_more() {
    sim::run(1, |net| async move {
        let (left, mut right, there, back) = pair(&net).await;
        right.path(PathUpdate::Validated(back));
        right.path(PathUpdate::Lost(back));
        pass(Duration::from_millis(4990)).await;
        left.send(Some(there), DTLS);
        right.dtls.next().await;
        pass(Duration::from_millis(10)).await;
        left.send(Some(there), DTLS);
        right.dtls.expect_none_for(SOON).await;
    });
}

#[test]
fn media_goes_to_its_own_port_once_there_is_one() {
    sim::run(1, |net| async move {
        let (left, mut right, there, back) = pair(&net).await;
        left.path(PathUpdate::Validated(there));
        right.path(PathUpdate::Validated(back));
        let send = || {
            left.actor.do_send(SendMedia { connection: ID, datagram: Bytes::from_static(RTP) });
        };
        send();
        pass(SOON).await;
        let media = right.media.recipient();
        right.actor.do_send(AttachMedia { connection: ID, media });
        send();
        assert_eq!(right.media.next().await.datagram, RTP);
        assert_eq!(right.stats().await.0.no_media_port, 1);
    });
}

#[test]
fn detaching_closes_sockets_and_silences_the_connection() {
    sim::run(1, |net| async move {
        let (left, mut right, there, back) = pair(&net).await;
        let mut done = Probe::new();
        let detach = || SocketCommand::Detach(Detach { connection: ID, done: done.recipient() });
        right.command(detach());
        right.command(SocketCommand::EnumerateInterfaces(ID));
        right.path(PathUpdate::Validated(back));
        assert_eq!(done.next().await, Detached(ID));
        left.send(Some(there), STUN);
        right.stun.expect_none_for(SOON).await;
        right.events.expect_none_for(SOON).await;
        assert_eq!(net.transcript()[0].fate, Fate::Unheard);
        let (total, paths) = right.stats().await;
        assert_eq!((total.refused, paths), (1, None));
    });
}

#[test]
fn binding_and_unbinding_are_answered() {
    sim::run(1, |net| async move {
        let host = net.host("alice", &["10.0.0.1".parse().unwrap()]);
        let mut bench = Bench::new(SocketActor::over(host.io()));
        let wrong: SocketAddr = "10.0.0.9:0".parse().unwrap();
        bench.command(SocketCommand::Bind(Bind { connection: ID, token: 3, address: wrong }));
        match bench.events.next().await {
            SocketEvent::BindFailed { token: 3, address, error } => {
                assert_eq!((address, error.kind()), (wrong, io::ErrorKind::AddrNotAvailable));
            }
            other => panic!("{other:?}"),
        }
        let (bound, local) = bench.bind("10.0.0.1:0").await;
        bench.command(SocketCommand::Unbind(ID, bound));
        bench.command(SocketCommand::Unbind(ID, bound));
        match bench.events.next().await {
            SocketEvent::Unbound { socket, error: None } => assert_eq!(socket, bound),
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.bind(&local.to_string()).await.1, local);
        bench.command(SocketCommand::EnumerateInterfaces(ID));
        match bench.events.next().await {
            SocketEvent::Interfaces(found) => {
                let found: Vec<_> = found.iter().map(|i| (i.kind, i.address.to_string())).collect();
                let loopback = (InterfaceKind::Loopback, "127.0.0.1".to_owned());
                assert_eq!(found, [loopback, (InterfaceKind::Network, "10.0.0.1".to_owned())]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.stats().await.0.refused, 1);
    });
}

#[test]
fn dropping_the_last_address_closes_the_sockets() {
    sim::run(1, |net| async move {
        let (left, right, there, _) = pair(&net).await;
        drop(right);
        pass(SOON).await;
        left.send(Some(there), STUN);
        pass(SOON).await;
        assert_eq!(net.transcript()[0].fate, Fate::Unheard);
    });
}

/// Hears nothing of what it is sent, as it is never given a turn.
struct Busy;

impl Actor for Busy {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(2);
        context.wait(actix::fut::wrap_future(std::future::pending()));
    }
}

impl Handler<DatagramReceived> for Busy {
    type Result = ();

    fn handle(&mut self, _: DatagramReceived, _: &mut Context<Self>) {}
}

#[test]
fn a_flood_is_taken_in_turns_and_what_a_full_mailbox_cannot_hold_is_counted() {
    sim::run(1, |net| async move {
        let (left, mut right, there, _) = pair(&net).await;
        let busy = Busy.start();
        let other = ConnectionId { slot: 1, generation: 0 };
        right.command(SocketCommand::Attach(Attach {
            connection: other,
            events: right.events.recipient(),
            stun: busy.clone().recipient(),
            dtls: busy.recipient(),
        }));
        let address = "10.0.0.2:6000".parse().unwrap();
        right.command(SocketCommand::Bind(Bind { connection: other, token: 7, address }));
        right.events.next().await;
        // More than the turns of one message take, within the simulated receive buffer.
        for _ in 0..600 {
            left.send(Some(there), STUN);
        }
        for _ in 0..100 {
            left.send(Some(Path { remote: address, ..there }), STUN);
        }
        pass(SOON).await;
        let (total, _) = right.stats().await;
        assert_eq!((total.received, right.stun.drain().len()), (700, 600));
        let kept = total.delivered - 600;
        assert!((1..10).contains(&kept), "{kept} in a mailbox of two");
        assert_eq!(total.mailbox_full, 100 - kept);
    });
}

#[actix::test]
async fn real_sockets_keep_the_same_contract() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let [mut left, mut right] = [(); 2].map(|()| Bench::new(SocketActor::new()));
        let (left_socket, left_address) = left.bind(address).await;
        let (right_socket, right_address) = right.bind(address).await;
        let there = Path::plain(left_socket, right_address);
        let back = Path::plain(right_socket, left_address);
        left.path(PathUpdate::Validated(there));
        right.path(PathUpdate::Validated(back));
        for _ in 0..3 {
            left.send(None, STUN);
            right.send(None, STUN);
            assert_eq!(right.stun.next().await.path, back);
            assert_eq!(left.stun.next().await.path, there);
        }
        for _ in 0..20 {
            left.send(None, DTLS);
        }
        for _ in 0..20 {
            assert_eq!(right.dtls.next().await.datagram, DTLS);
        }
        let mut done = Probe::new();
        let detach = Detach { connection: ID, done: done.recipient() };
        right.command(SocketCommand::Detach(detach));
        assert_eq!(done.next().await, Detached(ID));
        std::net::UdpSocket::bind(right_address).unwrap();
    }
}

#[test]
fn connections_share_a_socket_until_the_last_has_gone() {
    sim::run(40, |net| async move {
        let host = net.host("server", &[[10, 0, 0, 1].into()]);
        let mut bench = Bench::new(SocketActor::over(host.io()));
        let mut answers = Probe::new();
        let address: SocketAddr = "10.0.0.1:5000".parse().unwrap();
        let bind = |reply| SocketCommand::BindShared(BindShared { address, reply });
        bench.command(bind(answers.recipient()));
        let shared = answers.next().await.0.expect("a free port")[0];
        assert_eq!(shared.local, address);
        let join = |username_frag: &str| {
            let username_frag = username_frag.to_owned();
            SocketCommand::Join(Join {
                connection: ID,
                token: 3,
                shared,
                username_frag,
                fork: false,
            })
        };
        bench.command(join("abcd"));
        let SharedSocket { socket, local } = shared;
        let joined = bench.events.next().await;
        assert!(matches!(joined, SocketEvent::Bound { token: 3, socket: s, local: l }
            if s == socket && l == local));
        bench.command(join("efgh"));
        let refused = bench.events.next().await;
        assert!(matches!(refused, SocketEvent::BindFailed { token: 3, .. }), "{refused:?}");

        let head = b"\x00\x01\x00\x10\x21\x12\xa4\x42____________\x00\x06\x00\x09";
        for username_frag in [b"efgh", b"abcd"] {
            let request = [&head[..], username_frag, b":peer\0\0\0"].concat();
            net.inject(([10, 0, 0, 2], 9).into(), address, &request);
        }
        assert_eq!(bench.stun.next().await.path.socket, socket);
        assert_eq!(bench.stats().await.0.shared.unknown_username, 1);

        bench.command(SocketCommand::ReleaseShared(socket));
        bench.command(bind(answers.recipient()));
        let in_use = answers.next().await.0.expect_err("it is in use").kind();
        assert_eq!(in_use, io::ErrorKind::AddrInUse);
        bench.command(SocketCommand::Unbind(ID, socket));
        let left = bench.events.next().await;
        assert!(matches!(left, SocketEvent::Unbound { error: None, .. }), "{left:?}");
        bench.command(bind(answers.recipient()));
        answers.next().await.0.expect("it is free again");
    });
}
