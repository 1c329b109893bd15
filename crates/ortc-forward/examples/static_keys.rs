//! Two pinned forwarders exchange SRTP on loopback, with keys that both know from the start
//! instead of ICE and DTLS, and say what a packet costs.
//!
//! `cargo run --release -p ortc-forward --example static_keys -- [PACKETS]`

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_forward::{
    ForwarderCommand, ForwarderConfig, ForwarderEvent, ForwarderHandle, ForwarderStats,
    ForwarderThread, spawn_pinned,
};
use ortc_io::ring::{RingReceiver, ring};
use ortc_io::{Bind, ConnectionId, Path, PathUpdate, SocketEvent, SocketId, SrtpKeys, SrtpProfile};
use ortc_rtp::{OutgoingPacket, PayloadType, ReceiverConfig, SenderConfig, Ssrc};
use tokio::sync::oneshot;

const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const SSRC: Ssrc = Ssrc(0x0BEE_F000);
const OPUS: PayloadType = PayloadType(111);
/// Packets that go out together, as those of one picture do.
const BURST: u64 = 8;

struct Peer {
    handle: ForwarderHandle,
    thread: ForwarderThread,
    socket: SocketId,
    local: SocketAddr,
    /// Kept, or the forwarder stops: nobody would hear it.
    _events: RingReceiver<ForwarderEvent>,
}

impl Peer {
    async fn start(number: usize) -> Result<Self, Box<dyn Error>> {
        let config = ForwarderConfig {
            name: format!("ortc-forward-{number}"),
            core: Some(number),
            ..ForwarderConfig::default()
        };
        let (handle, mut events, thread) = spawn_pinned(config)?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        handle.send(ForwarderCommand::Attach(CONNECTION))?;
        handle.send(ForwarderCommand::Bind(Bind { connection: CONNECTION, token: 0, address }))?;
        handle.send(ForwarderCommand::Open(CONNECTION))?;
        match events.recv().await {
            Some(ForwarderEvent::Socket(_, SocketEvent::Bound { socket, local, .. })) => {
                Ok(Self { handle, thread, socket, local, _events: events })
            }
            other => Err(format!("the socket was not bound: {other:?}").into()),
        }
    }

    /// Says where the other one is and which keys are shared.
    fn meet(&self, other: SocketAddr, is_client: bool) -> Result<(), Box<dyn Error>> {
        let path = Path::plain(self.socket, other);
        let material = [0x5a; 56];
        let keys = SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &material, is_client)
            .ok_or("the keying material is too short")?;
        self.handle.send(ForwarderCommand::Path(CONNECTION, PathUpdate::Validated(path)))?;
        self.handle.send(ForwarderCommand::Path(CONNECTION, PathUpdate::Selected(path)))?;
        self.handle.send(ForwarderCommand::SetKeys(CONNECTION, keys))?;
        Ok(())
    }

    async fn stats(&self) -> Result<ForwarderStats, Box<dyn Error>> {
        let (reply, stats) = oneshot::channel();
        self.handle.send(ForwarderCommand::Snapshot(reply))?;
        Ok(stats.await?)
    }
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]
async fn main() -> Result<(), Box<dyn Error>> {
    let packets: u64 = match std::env::args().nth(1) {
        Some(argument) => {
            argument.parse().map_err(|_| format!("{argument} is no number of packets"))?
        }
        None => 8_000,
    };
    let (alice, bob) = (Peer::start(0).await?, Peer::start(1).await?);
    alice.meet(bob.local, true)?;
    bob.meet(alice.local, false)?;

    let (mut sending, to_send) = ring(256);
    let (received, mut receiving) = ring(4096);
    bob.handle.send(ForwarderCommand::AddReceiver(
        CONNECTION,
        ReceiverConfig { ssrc: SSRC, payload_types: vec![(OPUS, 48_000)], packets: received },
    ))?;
    bob.stats().await?;
    alice.handle.send(ForwarderCommand::AddSender(
        CONNECTION,
        SenderConfig {
            ssrc: SSRC,
            payload_type: OPUS,
            clock_rate: 48_000,
            cname: "alice".to_owned(),
            packets: to_send,
            enabled: true,
        },
    ))?;
    println!("alice {} -> bob {}", alice.local, bob.local);

    let before = (alice.stats().await?, bob.stats().await?);
    let started = Instant::now();
    let payload = Bytes::from(vec![0x42; 1_160]);
    let mut arrived = 0;
    for n in 0..packets {
        let packet = OutgoingPacket {
            payload: payload.clone(),
            timestamp: n / BURST * 960,
            marker: n % BURST == BURST - 1,
        };
        if sending.send(packet).await.is_err() {
            return Err("alice has stopped".into());
        }
        if n % BURST == BURST - 1 {
            // As much as has come by now; the rest comes later.
            tokio::time::sleep(Duration::from_micros(1)).await;
            while let ortc_io::ring::Popped::Item(packet) = receiving.pop() {
                if arrived < 3 {
                    println!(
                        "bob has sequence {} timestamp {} with {} bytes",
                        packet.sequence,
                        packet.timestamp,
                        packet.payload.len()
                    );
                }
                arrived += 1;
            }
        }
    }
    let rest = Duration::from_millis(300);
    while arrived < packets && tokio::time::timeout(rest, receiving.recv()).await.is_ok() {
        arrived += 1;
    }
    let took = started.elapsed();
    let after = (alice.stats().await?, bob.stats().await?);
    let cost = |before: &ForwarderStats, after: &ForwarderStats| {
        let nanos = after.cpu.saturating_sub(before.cpu).as_nanos();
        nanos / u128::from(packets.max(1))
    };
    println!("{arrived} of {packets} packets of 1,200 bytes arrived in {took:.2?}");
    println!(
        "alice: {} ns of CPU per packet, {} packets per call",
        cost(&before.0, &after.0),
        after.0.sent / after.0.send_calls.max(1)
    );
    println!("bob:   {} ns of CPU per packet", cost(&before.1, &after.1));

    alice.handle.stop();
    bob.handle.stop();
    let patience = Duration::from_secs(1);
    if !(alice.thread.join(patience) && bob.thread.join(patience)) {
        return Err("a forwarder has not stopped".into());
    }
    Ok(())
}
