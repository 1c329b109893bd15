//! A unit test with a recorded DTLS: a call is played back to its receiver, without the peer.
//!
//! `cargo run -p ortc-api --features sim --example recorded_dtls`
//!
//! First a call between two connections is recorded: the keys that DTLS has agreed on, and the
//! packets as they were on the wire. Then the receiver is run alone, with a DTLS that answers with
//! those keys and does nothing else, and is shown the packets: changed, cut or out of order, as the
//! test wants them. What it does with packets from the field, a bug report for one, is tested
//! without whoever sent them.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient, WeakRecipient};
use ortc_api::sim::{self, Network, Verdict};
use ortc_api::testing::introduce;
use ortc_api::{
    DtlsPorts, DtlsStart, Engine, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack,
    RTCConnection, RTCConnectionOptions, RTCEvent, RTCTrackDescription, Transports,
};
use ortc_dtls::{DtlsCommand, DtlsEvent};
use ortc_io::{DatagramKind, DatagramReceived};
use tokio::time::{sleep, timeout};

/// Frames of the call.
const FRAMES: u64 = 50;

/// What is kept of a call: enough to hear it again.
#[derive(Debug, Default)]
struct Recording {
    /// Keys and certificate.
    handshake: Option<DtlsEvent>,
    track: Option<RTCTrackDescription>,
    packets: Vec<Vec<u8>>,
}

type Shared = Arc<Mutex<Recording>>;

/// Two connections, of which the second has these transports.
fn pair(net: &Network, transports: Transports) -> [RTCConnection; 2] {
    [(1, Transports::new()), (2, transports)].map(|(n, transports)| {
        let host = net.host(&format!("host {n}"), &[[10, 0, 0, n].into()]);
        let engine = Engine::simulated(host.io(), net.random());
        let options = RTCConnectionOptions::new().with_engine(engine).with_transports(transports);
        RTCConnection::new(options).expect("it is made")
    })
}

async fn connected(conn: &RTCConnection) {
    let mut events = conn.events();
    while events.recv().await.expect("open") != RTCEvent::Connected {}
}

fn record() -> Shared {
    let recording = Shared::default();
    let kept = Arc::clone(&recording);
    sim::run(1, |net| async move {
        let of_dtls = Arc::clone(&kept);
        let recorder = Transports::new().with_dtls_actor(move |mut start: DtlsStart| {
            let context = Context::new();
            let own = context.address();
            let owner = std::mem::replace(&mut start.owner, own.downgrade().recipient());
            let ports = start.start();
            context.run(Recorder { inner: ports.commands, owner, recording: Arc::clone(&of_dtls) });
            DtlsPorts { commands: own.recipient(), ..ports }
        });
        let [caller, receiver] = pair(&net, recorder);
        let (microphone, frames) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        stream.add_track(&microphone);
        caller.add_stream(&stream, true).expect("it is added");
        lock(&kept).track = Some(caller.tracks(None)[0].description());
        let on_wire = Arc::clone(&kept);
        net.tap(move |seen| {
            if seen.kind == DatagramKind::Rtp {
                lock(&on_wire).packets.push(seen.bytes.to_vec());
            }
            Verdict::Pass
        });
        introduce(&caller, &receiver).expect("they are introduced");
        connected(&caller).await;
        for n in 0..FRAMES {
            let data = [&[0x78], &u64::to_be_bytes(n)[..]].concat().into();
            frames.send(MediaFrame { data, timestamp: n * 960 }).expect("it is Opus");
            sleep(Duration::from_millis(20)).await;
        }
    });
    recording
}

/// Plays the packets that `choose` makes of the recorded ones; the numbers of the frames heard.
fn play(recording: &Shared, choose: impl Fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>) -> Vec<u64> {
    sim::run(2, |net| async move {
        let kept = Arc::clone(recording);
        let player = Transports::new().with_dtls_actor(move |start: DtlsStart| {
            DtlsPorts::of(&Player { start, recording: Arc::clone(&kept) }.start())
        });
        // The other one has the path found, and no keys that would be of use.
        let [other, receiver] = pair(&net, player);
        let track = lock(recording).track.clone().expect("it was recorded");
        let received = receiver.receive_track(&track).expect("it is taken");
        let mut frames = received.take_frames().expect("nobody else reads");
        introduce(&other, &receiver).expect("they are introduced");
        let mut events = receiver.events();
        let (from, to) = loop {
            if let RTCEvent::ActiveCandidate { local, remote } = events.recv().await.expect("open")
            {
                let address = |host: &str, port| format!("{host}:{port}").parse();
                break (
                    address(&remote.connection_address, remote.connection_port).expect("it is one"),
                    address(&local.connection_address, local.connection_port).expect("it is one"),
                );
            }
        };
        let heard = tokio::spawn(async move {
            let mut heard = Vec::new();
            while let Ok(Some(frame)) = timeout(Duration::from_secs(1), frames.recv()).await {
                heard.push(u64::from_be_bytes(frame.data[1..].try_into().expect("as it was sent")));
            }
            heard
        });
        let packets = lock(recording).packets.clone();
        for packet in choose(packets) {
            net.inject(from, to, &packet);
            sleep(Duration::from_millis(20)).await;
        }
        heard.await.expect("it does not panic")
    })
}

fn main() {
    let recording = record();
    let all: Vec<_> = (0..FRAMES).collect();
    assert_eq!(play(&recording, |packets| packets), all, "as it was");
    let twice = play(&recording, |packets| packets.iter().chain(&packets).cloned().collect());
    assert_eq!(twice, all, "a replay is not heard");
    let swapped = play(&recording, |mut packets| {
        packets.swap(10, 11);
        packets
    });
    assert_eq!(swapped, all, "what was overtaken is waited for");
    let forged = play(&recording, |mut packets| {
        packets[20][30] ^= 1;
        packets
    });
    assert_eq!(forged.len(), all.len() - 1, "what was changed is not heard");
    println!("{FRAMES} recorded packets were heard again, and no forged or repeated one");
}

fn lock(recording: &Shared) -> std::sync::MutexGuard<'_, Recording> {
    recording.lock().expect("no test panics here")
}

/// Hands on what it hears, and keeps what the handshake came to.
struct Recorder {
    inner: Recipient<DtlsCommand>,
    owner: WeakRecipient<DtlsEvent>,
    recording: Shared,
}

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<DtlsCommand> for Recorder {
    type Result = ();

    fn handle(&mut self, command: DtlsCommand, _: &mut Context<Self>) {
        self.inner.do_send(command);
    }
}

impl Handler<DtlsEvent> for Recorder {
    type Result = ();

    fn handle(&mut self, event: DtlsEvent, _: &mut Context<Self>) {
        if matches!(event, DtlsEvent::Connected { .. }) {
            lock(&self.recording).handshake = Some(event.clone());
        }
        if let Some(owner) = self.owner.upgrade() {
            owner.do_send(event);
        }
    }
}

/// DTLS that has done its handshake before.
struct Player {
    start: DtlsStart,
    recording: Shared,
}

impl Player {
    fn tell(&self, event: Option<DtlsEvent>) {
        if let (Some(owner), Some(event)) = (self.start.owner.upgrade(), event) {
            owner.do_send(event);
        }
    }
}

impl Actor for Player {
    type Context = Context<Self>;
}

impl Handler<DtlsCommand> for Player {
    type Result = ();

    fn handle(&mut self, command: DtlsCommand, context: &mut Context<Self>) {
        match command {
            DtlsCommand::Start { .. } => self.tell(lock(&self.recording).handshake.clone()),
            DtlsCommand::Close => {
                self.tell(Some(DtlsEvent::Stopped(Ok(()))));
                context.stop();
            }
            // What is recorded needs no path.
            DtlsCommand::PathLost | DtlsCommand::PathFound | DtlsCommand::RoundTrip(_) => {}
            DtlsCommand::SendApplicationData(_) => {}
        }
    }
}

impl Handler<DatagramReceived> for Player {
    type Result = ();

    /// The other side's handshake: nobody answers.
    fn handle(&mut self, _: DatagramReceived, _: &mut Context<Self>) {}
}
