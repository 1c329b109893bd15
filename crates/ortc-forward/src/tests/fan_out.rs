//! One publisher, many subscribers, one forwarder in between.

use std::cell::Cell;
use std::time::Duration;

use ortc_io::sim;
use ortc_rtp::{ForwardConfig, ForwardedPayloadType, TrackSource};

use super::*;
use crate::StepTimes;

const VP8: PayloadType = PayloadType(96);
pub(super) const VP8_SENT: PayloadType = PayloadType(120);

/// A server with one connection for each of its clients.
pub(super) struct Room {
    /// Its forwarders: each has the connections of the slots whose remainder is its place.
    pub(super) servers: Vec<Peer>,
    pub(super) clients: Vec<Client>,
}

pub(super) struct Client {
    pub(super) peer: Peer,
    /// The server's connection to it.
    pub(super) at_server: ConnectionId,
    /// The server's path to it.
    path: Path,
}

impl Room {
    /// The first client is the publisher.
    pub(super) async fn new(net: &Network, clients: u8) -> Self {
        Self::of_forwarders(net, clients, 1).await
    }

    pub(super) async fn of_forwarders(net: &Network, clients: u8, count: usize) -> Self {
        Self::of_servers(net, clients, Peer::bare(net, "10.0.0.254", 9, count)).await
    }

    async fn of_servers(net: &Network, clients: u8, servers: Vec<Peer>) -> Self {
        let mut room = Self { servers, clients: Vec::new() };
        for n in 0..clients {
            room.join(net, n).await;
        }
        room
    }

    async fn join(&mut self, net: &Network, n: u8) {
        let peer = Peer::start(net, &format!("10.0.1.{n}"), u64::from(n)).await;
        let at_server = ConnectionId { slot: 10 + u32::from(n), generation: 0 };
        let place = at_server.slot as usize % self.servers.len();
        let server = &mut self.servers[place];
        server.send(ForwarderCommand::Attach(at_server));
        let address = SocketAddr::new(server.local.ip(), 0);
        server.send(ForwarderCommand::Bind(Bind { connection: at_server, token: 0, address }));
        let (socket, local) = loop {
            match server.event().await {
                ForwarderEvent::Socket(_, SocketEvent::Bound { socket, local, .. }) => {
                    break (socket, local);
                }
                _ => continue,
            }
        };
        server.send(ForwarderCommand::Open(at_server));
        peer.send(ForwarderCommand::Open(ID));
        let path = Path::plain(socket, peer.local);
        server.send(ForwarderCommand::Path(at_server, PathUpdate::Validated(path)));
        peer.select(Path::plain(peer.socket, local));
        server.send(ForwarderCommand::SetKeys(at_server, keys(false)));
        peer.set_keys(true);
        settle().await;
        self.clients.push(Client { peer, at_server, path });
    }

    /// Has the first client publish [`SSRC`] as VP8.
    pub(super) fn publish(&self) -> RingSender<OutgoingPacket> {
        let publisher = &self.clients[0];
        let (sender, packets) = ring(256);
        let config = SenderConfig { payload_type: VP8, ..sender_config(packets) };
        publisher.peer.send(ForwarderCommand::AddSender(ID, config));
        // Nobody at the server reads it.
        let (packets, _) = ring(1);
        let config = ReceiverConfig { ssrc: SSRC, payload_types: vec![(VP8, 90_000)], packets };
        let publisher = publisher.at_server;
        self.server_of(publisher).send(ForwarderCommand::AddReceiver(publisher, config));
        sender
    }

    /// Has the `n`th client be sent what the first publishes.
    pub(super) fn subscribe(&self, n: usize) -> RingReceiver<ReceivedPacket> {
        self.forward(n, SSRC);
        let (packets, receiver) = ring(1024);
        let (ssrc, payload_types) = (sent_ssrc(n), vec![(VP8_SENT, 90_000)]);
        let config = ReceiverConfig { ssrc, payload_types, packets };
        self.clients[n].peer.send(ForwarderCommand::AddReceiver(ID, config));
        receiver
    }

    fn forward(&self, n: usize, source: Ssrc) {
        let config = ForwardConfig {
            ssrc: sent_ssrc(n),
            source: TrackSource { connection: self.clients[0].at_server, ssrc: source },
            payload_types: vec![ForwardedPayloadType {
                received: VP8,
                sent: VP8_SENT,
                clock_rate: 90_000,
            }],
            unwrapped: Vec::new(),
            extensions: Vec::new(),
            cname: "room".to_owned(),
            needs_key_frames: true,
            enabled: true,
        };
        let subscriber = self.clients[n].at_server;
        self.server_of(subscriber).send(ForwarderCommand::AddForward(subscriber, config));
    }

    pub(super) fn server_of(&self, connection: ConnectionId) -> &Peer {
        &self.servers[connection.slot as usize % self.servers.len()]
    }

    /// What all forwarders have counted of packets that were forwarded and key frames that
    /// were asked for.
    async fn counts(&self) -> (u64, u64) {
        let (mut forwarded, mut asked_for) = (0, 0);
        for server in &self.servers {
            let media = server.stats().await.media;
            forwarded += media.rtp_forwarded;
            asked_for += media.key_frames_requested;
        }
        (forwarded, asked_for)
    }
}

pub(super) fn sent_ssrc(n: usize) -> Ssrc {
    Ssrc(0xf000_0000 + n as u32)
}

#[test]
fn a_subscriber_that_panics_while_it_is_told_of_a_track_costs_nobody_else() {
    sim::run(3, |net| async move {
        let room = Room::new(&net, 3).await;
        let [mut one, mut other] = [1, 2].map(|n| room.subscribe(n));
        let sender = room.publish();
        settle().await;
        let source = TrackSource { connection: room.clients[0].at_server, ssrc: SSRC };
        room.servers[0].send(ForwarderCommand::PanicTelling(source, sent_ssrc(1)));
        settle().await;
        (0..5).for_each(|n| sender.push(packet(n)).unwrap());
        settle().await;
        assert_eq!(drain(&mut one).len(), 0);
        assert_eq!(drain(&mut other).iter().map(number).collect::<Vec<_>>(), all(0..5));
        let stats = room.servers[0].stats().await;
        assert_eq!((stats.panicked_connections, stats.connections), (1, 2));
    });
}

#[test]
fn every_subscriber_gets_every_packet_and_the_publisher_one_request() {
    sim::run(1, |net| async move {
        let room = Room::new(&net, 6).await;
        let mut receivers: Vec<_> = (1..6).map(|n| room.subscribe(n)).collect();
        let sender = room.publish();
        settle().await;
        for burst in 0..10 {
            for n in 0..8 {
                sender.push(packet(burst * 8 + n)).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(33)).await;
        }
        settle().await;
        for receiver in &mut receivers {
            let got = drain(receiver);
            assert_eq!(got.iter().map(number).collect::<Vec<_>>(), all(0..80));
            let first = got[0].sequence;
            assert!(got.iter().zip(first..).all(|(packet, n)| packet.sequence == n));
            assert!(got.iter().all(|packet| packet.payload_type == VP8_SENT));
        }
        let stats = room.servers[0].stats().await;
        assert_eq!(stats.media.rtp_forwarded, 5 * 80);
        // What is for one subscriber stands in one run.
        assert_eq!(stats.runs.lengths[7], 5 * 10, "{:?}", stats.runs);
        assert_eq!(stats.media.key_frames_requested, 1);
    });
}

#[test]
fn what_overtakes_the_check_of_its_path_is_forwarded_too() {
    sim::run(37, |net| async move {
        let room = Room::new(&net, 2).await;
        let sender = room.publish();
        let mut receiver = room.subscribe(1);
        settle().await;
        let Client { at_server, path, .. } = room.clients[0];
        let server = room.server_of(at_server);
        server.send(ForwarderCommand::Path(at_server, PathUpdate::Lost(path)));
        tokio::time::sleep(Duration::from_secs(5)).await;
        server.send(ForwarderCommand::Path(at_server, PathUpdate::Authenticated(path)));
        for n in 0..4 {
            sender.push(packet(n)).unwrap();
            settle().await;
        }
        assert_eq!(numbers(&mut receiver), all(0..0));
        server.send(ForwarderCommand::Path(at_server, PathUpdate::Validated(path)));
        sender.push(packet(4)).unwrap();
        settle().await;
        assert_eq!(numbers(&mut receiver), all(0..5));
    });
}

#[test]
fn packets_of_a_picture_that_differ_by_a_byte_leave_in_one_run_with_padding() {
    let runs = |prepare: fn(&mut PacketForwarder)| {
        sim::run(1, |net| async move {
            let servers = Peer::bare_with(&net, "10.0.0.254", 9, 1, prepare);
            let room = Room::of_servers(&net, 4, servers).await;
            let mut receivers: Vec<_> = (1..4).map(|n| room.subscribe(n)).collect();
            let sender = room.publish();
            settle().await;
            let before = room.servers[0].stats().await.runs;
            let sent: Vec<_> = (0..8).map(|n| packet_of(n, 100 + n as usize / 4)).collect();
            sent.iter().for_each(|packet| sender.push(packet.clone()).unwrap());
            settle().await;
            for receiver in &mut receivers {
                let got: Vec<_> = drain(receiver).into_iter().map(|it| it.payload).collect();
                assert_eq!(got, sent.iter().map(|it| it.payload.clone()).collect::<Vec<_>>());
            }
            let stats = room.servers[0].stats().await;
            let new = |length: usize| stats.runs.lengths[length - 1] - before.lengths[length - 1];
            (new(4), new(8), stats.media.padding_bytes)
        })
    };
    assert_eq!(runs(|_| {}), (2 * 3, 0, 0));
    // Those of each subscriber in one run; four of them one byte larger.
    assert_eq!(runs(|it| it.pad(16)), (0, 3, 4 * 3));
}

#[test]
fn a_pause_costs_no_number_and_ends_with_a_key_frame_request() {
    sim::run(2, |net| async move {
        let room = Room::new(&net, 2).await;
        let mut receiver = room.subscribe(1);
        let sender = room.publish();
        let (at_server, ssrc) = (room.clients[1].at_server, sent_ssrc(1));
        let push = |range: std::ops::Range<u64>| {
            range.for_each(|n| sender.push(packet(n)).unwrap());
        };
        settle().await;
        push(0..10);
        settle().await;
        room.servers[0].send(ForwarderCommand::EnableSender(at_server, ssrc, false));
        settle().await;
        push(10..20);
        tokio::time::sleep(Duration::from_secs(1)).await;
        room.servers[0].send(ForwarderCommand::EnableSender(at_server, ssrc, true));
        settle().await;
        push(20..30);
        settle().await;
        let got = drain(&mut receiver);
        let numbers: Vec<_> = got.iter().map(number).collect();
        assert_eq!(numbers, [all(0..10), all(20..30)].concat());
        assert!(got.iter().zip(got[0].sequence..).all(|(packet, n)| packet.sequence == n));
        // The source's clock went on, and so does the subscriber's.
        let shift =
            |packet: &ReceivedPacket| packet.timestamp.wrapping_sub(number(packet) as u32 * 960);
        assert!(got.iter().all(|packet| shift(packet) == shift(&got[0])));
        let stats = room.servers[0].stats().await.media;
        assert_eq!((stats.key_frames_requested, stats.send_drops.disabled), (2, 10));
    });
}

#[test]
fn a_subscriber_that_leaves_costs_nothing_and_one_that_comes_back_goes_on() {
    sim::run(3, |net| async move {
        let room = Room::new(&net, 3).await;
        let mut stays = room.subscribe(1);
        let mut leaves = room.subscribe(2);
        let sender = room.publish();
        settle().await;
        sender.push(packet(0)).unwrap();
        settle().await;
        let (at_server, ssrc) = (room.clients[2].at_server, sent_ssrc(2));
        room.servers[0].send(ForwarderCommand::RemoveSender(at_server, ssrc));
        settle().await;
        sender.push(packet(1)).unwrap();
        settle().await;
        // The same SSRC under the same keys: no number may come twice.
        room.forward(2, SSRC);
        settle().await;
        sender.push(packet(2)).unwrap();
        settle().await;
        let got = drain(&mut leaves);
        assert_eq!(got.iter().map(number).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(got[1].sequence, got[0].sequence + 1);
        assert_eq!(numbers(&mut stays), all(0..3));

        // Gone altogether: its place is forgotten with the next packet.
        room.servers[0].send(ForwarderCommand::Detach(at_server));
        settle().await;
        sender.push(packet(3)).unwrap();
        settle().await;
        assert_eq!((numbers(&mut stays), numbers(&mut leaves)), (vec![3], vec![]));
        assert_eq!(room.servers[0].stats().await.media.rtp_forwarded, 6);
    });
}

#[test]
fn requests_of_many_subscribers_reach_the_publisher_as_one() {
    sim::run(4, |net| async move {
        let room = Room::new(&net, 5).await;
        let _receivers: Vec<_> = (1..5).map(|n| room.subscribe(n)).collect();
        let sender = room.publish();
        settle().await;
        sender.push(packet(0)).unwrap();
        settle().await;
        assert_eq!(room.counts().await.1, 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Every client has lost the picture, again and again for 900 ms.
        for _ in 0..9 {
            for (n, client) in room.clients.iter().enumerate().skip(1) {
                let ask = ForwarderCommand::RequestKeyFrame(ID, sent_ssrc(n));
                client.peer.send(ask);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        settle().await;
        // At 0, 500 and 1,000 ms at the most; each client asks twice in that time.
        let asked = room.counts().await.1 - 1;
        assert!((2..=3).contains(&asked), "asked for {asked}");
    });
}

#[test]
fn a_room_spans_several_forwarders() {
    sim::run(6, |net| async move {
        let room = Room::of_forwarders(&net, 7, 3).await;
        let mut receivers: Vec<_> = (1..7).map(|n| room.subscribe(n)).collect();
        let sender = room.publish();
        settle().await;
        for burst in 0..10 {
            for n in 0..8 {
                sender.push(packet(burst * 8 + n)).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(33)).await;
        }
        settle().await;
        for receiver in &mut receivers {
            assert_eq!(numbers(receiver), all(0..80));
        }
        // Everybody has asked at the beginning, wherever they are; the publisher heard it once.
        assert_eq!(room.counts().await, (6 * 80, 1));
        let publisher = room.server_of(room.clients[0].at_server).stats().await;
        assert_eq!((publisher.crossed, publisher.crossed_dropped), (2 * 80, 0));

        // Those of one other forwarder leave: nothing crosses to it any more.
        for n in [1, 4] {
            let gone = room.clients[n].at_server;
            room.server_of(gone).send(ForwarderCommand::RemoveSender(gone, sent_ssrc(n)));
        }
        settle().await;
        sender.push(packet(80)).unwrap();
        settle().await;
        for (n, receiver) in (1..7).zip(&mut receivers) {
            assert_eq!(numbers(receiver).len(), usize::from(n != 1 && n != 4), "{n}");
        }
        let publisher = room.server_of(room.clients[0].at_server).stats().await;
        assert_eq!(publisher.crossed, 2 * 80 + 1);
    });
}

#[test]
fn a_subscriber_of_another_forwarder_that_closes_is_forgotten_without_a_packet() {
    sim::run(8, |net| async move {
        let room = Room::of_forwarders(&net, 2, 2).await;
        let _receiver = room.subscribe(1);
        let sender = room.publish();
        settle().await;
        sender.push(packet(0)).unwrap();
        settle().await;
        let publisher = room.server_of(room.clients[0].at_server);
        assert_eq!(publisher.stats().await.crossed, 1);
        let gone = room.clients[1].at_server;
        room.server_of(gone).send(ForwarderCommand::Close(gone));
        settle().await;
        // Told by closing: the next packet does not even cross.
        sender.push(packet(1)).unwrap();
        settle().await;
        assert_eq!(publisher.stats().await.crossed, 1);
    });
}

#[test]
fn the_steps_of_forwarding_are_timed_where_a_clock_is_given() {
    thread_local!(static READINGS: Cell<u64> = const { Cell::new(0) });
    /// A clock that goes on by a microsecond whenever it is read.
    fn read() -> Duration {
        READINGS.set(READINGS.get() + 1);
        Duration::from_micros(READINGS.get())
    }
    let times = |prepare: fn(&mut PacketForwarder)| {
        sim::run(4, |net| async move {
            let servers = Peer::bare_with(&net, "10.0.0.254", 9, 1, prepare);
            let room = Room::of_servers(&net, 3, servers).await;
            let (publisher, mut received) = (room.publish(), room.subscribe(1));
            settle().await;
            let before = room.servers[0].stats().await.steps;
            publisher.push(packet(0)).unwrap();
            settle().await;
            assert_eq!(numbers(&mut received), [0]);
            let after = room.servers[0].stats().await.steps;
            let StepTimes { open, seal, send } = after;
            (open - before.open, seal - before.seal, send - before.send)
        })
    };
    assert_eq!(times(|_| {}), (Duration::ZERO, Duration::ZERO, Duration::ZERO));
    let (open, seal, send) = times(|it| it.meter_steps(read));
    // One packet was sealed, between two readings; turns in which nothing had come read, too.
    assert_eq!(seal, Duration::from_micros(1));
    assert!(!open.is_zero() && !send.is_zero(), "{open:?} {send:?}");
}
