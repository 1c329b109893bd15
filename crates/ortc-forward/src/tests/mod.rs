//! Two forwarders on a simulated network, with keys made by hand.

mod actor;
mod closing;
mod consent;
mod fan_out;
mod hearing;
mod hostile;
mod invariants;
mod media;
mod paths;
mod recovery;
mod reports;
mod shared;
mod thread;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ortc_io::ring::{Popped, RingReceiver, RingSender, ring};
use ortc_io::sim::{Host, Network};
use ortc_io::{
    Bind, ConnectionId, Path, PathUpdate, SendControl, SocketEvent, SocketId, SrtpKeys, SrtpProfile,
};
use ortc_rtp::{
    OutgoingPacket, PayloadType, ReceivedPacket, ReceiverConfig, RouteEvent, SenderConfig, Ssrc,
};
use tokio::sync::oneshot;

use crate::{
    ForwarderCommand, ForwarderConfig, ForwarderEvent, ForwarderHandle, ForwarderStats,
    PacketForwarder, WallClock, connect, drive_local, local_waker,
};

const ID: ConnectionId = ConnectionId { slot: 3, generation: 7 };
const SSRC: Ssrc = Ssrc(0x1234_5678);
const OPUS: PayloadType = PayloadType(111);

/// One forwarder with one attached connection and one socket.
struct Peer {
    host: Host,
    handle: ForwarderHandle,
    events: RingReceiver<ForwarderEvent>,
    socket: SocketId,
    local: SocketAddr,
}

impl Peer {
    /// Starts a forwarder on a new host, attaches [`ID`] and binds a socket.
    async fn start(net: &Network, address: &str, seed: u64) -> Self {
        let mut peer = Self::bare(net, address, seed, 1).remove(0);
        peer.send(ForwarderCommand::Attach(ID));
        (peer.socket, peer.local) = peer.bind(1).await;
        peer
    }

    /// Starts forwarders on a new host that are connected with each other.
    fn bare(net: &Network, address: &str, seed: u64, count: usize) -> Vec<Self> {
        Self::bare_with(net, address, seed, count, |_| {})
    }

    /// The same, each prepared before its first turn.
    fn bare_with(
        net: &Network,
        address: &str,
        seed: u64,
        count: usize,
        prepare: fn(&mut PacketForwarder),
    ) -> Vec<Self> {
        let ip: IpAddr = address.parse().unwrap();
        let host = net.host(address, &[ip]);
        let clock = WallClock::new(ortc_io::now(), 0);
        let mut ios = Vec::new();
        let (mut forwarders, ends): (Vec<_>, Vec<_>) = (0..count as u64)
            .map(|n| {
                let io = host.io();
                let waker = local_waker(&io);
                ios.push(io);
                let config = ForwarderConfig::default();
                let (mut forwarder, handle, events) =
                    PacketForwarder::new(&config, seed + n, clock, waker);
                prepare(&mut forwarder);
                (forwarder, (handle, events))
            })
            .unzip();
        connect(&mut forwarders);
        for (forwarder, io) in forwarders.into_iter().zip(ios) {
            actix::spawn(drive_local(forwarder, io));
        }
        let socket = SocketId { slot: u32::MAX, generation: 0 };
        let local = SocketAddr::new(ip, 0);
        let peer = |(handle, events)| Self { host: host.clone(), handle, events, socket, local };
        ends.into_iter().map(peer).collect()
    }

    async fn bind(&mut self, token: u64) -> (SocketId, SocketAddr) {
        let address = SocketAddr::new(self.local.ip(), 0);
        self.send(ForwarderCommand::Bind(Bind { connection: ID, token, address }));
        match self.event().await {
            ForwarderEvent::Socket(ID, SocketEvent::Bound { token: t, socket, local }) => {
                assert_eq!(t, token);
                (socket, local)
            }
            other => panic!("not bound: {other:?}"),
        }
    }

    fn send(&self, command: ForwarderCommand) {
        self.handle.send(command).unwrap();
    }

    /// The next event; virtual time makes waiting for one that never comes an error.
    async fn event(&mut self) -> ForwarderEvent {
        tokio::time::timeout(Duration::from_secs(3600), self.events.recv())
            .await
            .expect("an event is missing")
            .expect("the forwarder has stopped")
    }

    async fn route_event(&mut self) -> RouteEvent {
        loop {
            match self.event().await {
                ForwarderEvent::Route(event) => return event,
                // Time passes, and nobody talks.
                ForwarderEvent::Socket(_, SocketEvent::PathDoubted(_)) => {}
                other => panic!("not a route event: {other:?}"),
            }
        }
    }

    /// Events that have come so far.
    async fn pending(&mut self) -> Vec<ForwarderEvent> {
        settle().await;
        let mut events = Vec::new();
        while let Popped::Item(event) = self.events.pop() {
            events.push(event);
        }
        events
    }

    fn path_to(&self, peer: &Peer) -> Path {
        Path::plain(self.socket, peer.local)
    }

    fn validate(&self, path: Path) {
        self.send(ForwarderCommand::Path(ID, PathUpdate::Authenticated(path)));
        self.send(ForwarderCommand::Path(ID, PathUpdate::Validated(path)));
    }

    fn select(&self, path: Path) {
        self.validate(path);
        self.send(ForwarderCommand::Path(ID, PathUpdate::Selected(path)));
    }

    fn set_keys(&self, is_client: bool) {
        self.send(ForwarderCommand::SetKeys(ID, keys(is_client)));
    }

    fn add_sender(&self) -> RingSender<OutgoingPacket> {
        let (sender, packets) = ring(64);
        self.send(ForwarderCommand::AddSender(ID, sender_config(packets)));
        sender
    }

    fn add_receiver(&self) -> RingReceiver<ReceivedPacket> {
        let (packets, receiver) = ring(1024);
        self.send(ForwarderCommand::AddReceiver(ID, receiver_config(packets)));
        receiver
    }

    fn send_control(&self, path: Option<Path>, datagram: &'static [u8]) {
        let datagram = Bytes::from_static(datagram);
        self.send(ForwarderCommand::SendControl(SendControl { connection: ID, path, datagram }));
    }

    async fn stats(&self) -> ForwarderStats {
        settle().await;
        let (reply, stats) = oneshot::channel();
        self.send(ForwarderCommand::Snapshot(reply));
        stats.await.unwrap()
    }
}

/// Two forwarders that send each other what they have; the first is the DTLS client.
async fn pair(net: &Network) -> (Peer, Peer) {
    let (a, b) = pair_without_keys(net).await;
    a.set_keys(true);
    b.set_keys(false);
    settle().await;
    (a, b)
}

/// Two forwarders whose paths are selected and whose connections are open for media.
async fn pair_without_keys(net: &Network) -> (Peer, Peer) {
    let a = Peer::start(net, "10.0.0.1", 1).await;
    let b = Peer::start(net, "10.0.0.2", 2).await;
    a.select(a.path_to(&b));
    b.select(b.path_to(&a));
    a.send(ForwarderCommand::Open(ID));
    b.send(ForwarderCommand::Open(ID));
    settle().await;
    (a, b)
}

/// Lets everything happen that needs no time but the network's.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn sender_config(packets: RingReceiver<OutgoingPacket>) -> SenderConfig {
    let cname = "somebody".to_owned();
    let clock_rate = 48_000;
    SenderConfig { ssrc: SSRC, payload_type: OPUS, clock_rate, cname, packets, enabled: true }
}

fn receiver_config(packets: RingSender<ReceivedPacket>) -> ReceiverConfig {
    ReceiverConfig { ssrc: SSRC, payload_types: vec![(OPUS, 48_000)], packets }
}

fn keys(is_client: bool) -> SrtpKeys {
    let material: Vec<u8> = (0..56).collect();
    SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &material, is_client).unwrap()
}

fn packet(n: u64) -> OutgoingPacket {
    let payload = Bytes::from(format!("packet {n:06}"));
    OutgoingPacket { payload, timestamp: n * 960, marker: n == 0 }
}

/// A packet of `len` bytes.
fn packet_of(n: u64, len: usize) -> OutgoingPacket {
    OutgoingPacket { payload: Bytes::from(vec![n as u8; len]), ..packet(n) }
}

fn drain(receiver: &mut RingReceiver<ReceivedPacket>) -> Vec<ReceivedPacket> {
    let mut packets = Vec::new();
    while let Popped::Item(packet) = receiver.pop() {
        packets.push(packet);
    }
    packets
}

/// The numbers of the [`packet`]s that have come.
fn numbers(receiver: &mut RingReceiver<ReceivedPacket>) -> Vec<u64> {
    drain(receiver).iter().map(number).collect()
}

fn number(received: &ReceivedPacket) -> u64 {
    std::str::from_utf8(&received.payload[7..]).unwrap().parse().unwrap()
}

/// A run of [`numbers`].
fn all(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.collect()
}
