//! Two RTP sessions talk over a pair of UDP sockets: Opus-like packets, sealed with SRTP,
//! both ways for three seconds, with reports; then each says goodbye.
//!
//! No other protocol crate is involved: the keys, which DTLS would agree on, are drawn here.
//!
//! ```sh
//! cargo run -p ortc-rtp --example srtp_both_ways
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::ring::{Popped, RingReceiver, RingSender, ring};
use ortc_io::{ConnectionId, SrtpKeys, SrtpProfile};
use ortc_rtp::{
    OpusDepacketizer, OpusPacketizer, OutgoingPacket, PayloadType, ReceivedPacket, ReceiverConfig,
    RtpSession, SenderConfig, Ssrc,
};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time;

const OPUS: PayloadType = PayloadType(111);
const PACKET_MS: u64 = 20;
const PACKETS: u64 = 150;

type Failure = Box<dyn Error + Send + Sync>;

/// Wakes the task that drives a session when a packet is pushed for it.
struct Pushed(Notify);

impl Wake for Pushed {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// One peer: a session, its socket, and where to send.
struct Peer {
    name: &'static str,
    session: RtpSession,
    socket: UdpSocket,
    remote: SocketAddr,
    pushed: Arc<Pushed>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut material = [0; 56];
    let mut seeds = [0; 16];
    aws_lc_rs::rand::fill(&mut material)?;
    aws_lc_rs::rand::fill(&mut seeds)?;
    let (first, second) = seeds.split_at(8);
    let sockets = [UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?];
    let addresses = [sockets[0].local_addr()?, sockets[1].local_addr()?];
    let [alice, bob] = sockets;

    let alice = Peer::new("alice", alice, addresses[1], first.try_into()?, &material, true)?;
    let bob = Peer::new("bob", bob, addresses[0], second.try_into()?, &material, false)?;
    tokio::try_join!(alice.call(Ssrc(1), Ssrc(2)), bob.call(Ssrc(2), Ssrc(1)))?;
    Ok(())
}

impl Peer {
    fn new(
        name: &'static str,
        socket: UdpSocket,
        remote: SocketAddr,
        seed: [u8; 8],
        material: &[u8],
        is_client: bool,
    ) -> Result<Self, Failure> {
        let id = ConnectionId { slot: u32::from(is_client), generation: 0 };
        let now = ortc_io::now();
        let mut session = RtpSession::new(id, u64::from_le_bytes(seed), now);
        let keys = SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, material, is_client)
            .ok_or("too little keying material")?;
        session.set_keys(now, &keys)?;
        let pushed = Arc::new(Pushed(Notify::new()));
        Ok(Self { name, session, socket, remote, pushed })
    }

    /// Sends and receives one track each, then closes and prints what was counted.
    async fn call(mut self, own: Ssrc, theirs: Ssrc) -> Result<(), Failure> {
        let (source, packets) = ring(8);
        self.session.add_sender(
            ortc_io::now(),
            SenderConfig {
                ssrc: own,
                payload_type: OPUS,
                clock_rate: 48_000,
                cname: self.name.to_owned(),
                packets,
                enabled: true,
            },
        );
        let (packets, mut sink) = ring(256);
        let payload_types = vec![(OPUS, 48_000)];
        let config = ReceiverConfig { ssrc: theirs, payload_types, packets };
        self.session.add_receiver(ortc_io::now(), config);

        let talking = tokio::spawn(talk(source));
        // Both stop at about the same time; what is still under way may come meanwhile.
        let end = ortc_io::now() + Duration::from_millis(PACKETS * PACKET_MS + 300);
        self.run_until(end).await?;
        talking.await?;

        let sent = self.session.sender_stats(own).ok_or("no sender")?;
        let received = self.session.receiver_stats(theirs).ok_or("no receiver")?;
        self.session.close(ortc_io::now());
        self.transmit(ortc_io::now()).await;

        let name = self.name;
        println!("{name}: {} packets sent, the peer reports {:?}", sent.packets, sent.remote);
        println!("{name}: {} packets received, {} lost", received.packets, received.lost);
        println!("{name}: {} ms of Opus, {:?}", heard(&mut sink)?, self.session.stats());
        if sent.packets != PACKETS || received.packets != PACKETS {
            return Err("not every packet was sent and received".into());
        }
        Ok(())
    }

    /// The drive loop of a session.
    async fn run_until(&mut self, end: Instant) -> Result<(), Failure> {
        let waker = Waker::from(Arc::clone(&self.pushed));
        let mut buffer = [0; 2048];
        loop {
            self.session.register(&waker);
            let now = ortc_io::now();
            self.session.handle_timeout(now);
            self.transmit(now).await;
            while let Some(event) = self.session.poll_event() {
                println!("{}: {event:?}", self.name);
            }
            if now >= end {
                return Ok(());
            }
            let wake_at = self.session.poll_timeout().map_or(end, |(at, _)| at.min(end));
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let (len, from) = received?;
                    if from == self.remote {
                        self.session.handle_datagram(ortc_io::now(), &mut buffer[..len]);
                    }
                }
                () = self.pushed.0.notified() => {}
                () = time::sleep_until(wake_at.into()) => {}
            }
        }
    }

    /// Writes and sends whatever waits. A datagram that the system does not take is lost.
    async fn transmit(&mut self, now: Instant) {
        let mut buffer = [0; 2048];
        while let Some(room) = self.session.next_transmit(now) {
            if let Some(len) = self.session.write_transmit(now, &mut buffer[..room])
                && let Err(error) = self.socket.send_to(&buffer[..len], self.remote).await
            {
                println!("{}: {error}", self.name);
            }
        }
    }
}

/// Pushes a packet every 20 ms.
async fn talk(mut source: RingSender<OutgoingPacket>) {
    let mut packetizer = OpusPacketizer::new(false);
    let mut ticks = time::interval(Duration::from_millis(PACKET_MS));
    for n in 0..PACKETS {
        ticks.tick().await;
        // One frame of 20 ms; a decoder would hear noise.
        let packet = [&[31 << 3][..], &[n as u8; 60]].concat();
        if let Ok(Some(packet)) = packetizer.packetize(Bytes::from(packet))
            && source.send(packet).await.is_err()
        {
            return;
        }
    }
}

/// How many milliseconds of Opus have come.
fn heard(sink: &mut RingReceiver<ReceivedPacket>) -> Result<u64, Failure> {
    let mut depacketizer = OpusDepacketizer::new();
    let mut samples = 0;
    while let Popped::Item(packet) = sink.pop() {
        samples += u64::from(depacketizer.depacketize(&packet)?.samples);
    }
    Ok(samples / 48)
}
