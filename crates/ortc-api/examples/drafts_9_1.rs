//! The drafts' own example ("Simple Peer-to-peer Example", draft B §9.1), in the order of
//! their code: a session of audio and video between two peers, here two tasks of one process.
//!
//! `cargo run -p ortc-api --example drafts_9_1`

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::time::Duration;

use ortc_api::{
    MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCConnection, RTCConnectionOptions,
    TrackKind,
};
use ortc_media::{ColourBars, Law, Tone};
use serde_json::{Value, from_str, from_value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Who is shown a frame, of which kind, of how many bytes.
type Shown = (String, TrackKind, usize);

type Failure = Box<dyn Error + Send + Sync>;

/// What the drafts call `signalingChannel`: text to the other peer, and text from it.
struct SignallingChannel {
    to_peer: UnboundedSender<String>,
    from_peer: UnboundedReceiver<String>,
}

/// One peer: the drafts' two global variables and what their functions close over.
struct Page {
    name: &'static str,
    signalling: SignallingChannel,
    conn: Option<RTCConnection>,
    /// What the remote view shows.
    shown: UnboundedSender<Shown>,
    started: UnboundedSender<RTCConnection>,
}

impl Page {
    // call start() to initiate
    fn start(&mut self) -> Result<RTCConnection, Failure> {
        // Our two peers are in one process; the drafts' name a STUN server here.
        let conn = RTCConnection::new(RTCConnectionOptions::new().with_loopback(true))?;

        // send my ICE information to the other peer
        let to_peer = self.signalling.to_peer.clone();
        let local = conn.local().ice;
        to_peer.send(
            json!({ "iceInfo": { "usernameFrag": local.username_frag, "password": local.password } })
                .to_string(),
        )?;

        // apply any local ICE candidate and send it to the remote
        let candidates = to_peer.clone();
        conn.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            if conn.set_local_candidate(&candidate).is_ok() {
                let _ = candidates.send(json!({ "candidate": candidate }).to_string());
            }
        }));

        // once remote stream arrives, show it in the remote video element
        let name = self.name;
        conn.on_add_stream(Some(move |_: &RTCConnection, stream: MediaStream| {
            println!("{name}: a stream arrives, {}", stream.id());
        }));

        // get a local stream, show it in a self-view and add it to be sent
        let stream = get_user_media();
        conn.add_stream(&stream, true)?;
        // send tracks description to the peer
        for track in conn.tracks(None) {
            to_peer.send(json!({ "track": track.description() }).to_string())?;
        }
        self.started.send(conn.clone())?;
        self.conn = Some(conn.clone());
        Ok(conn)
    }

    async fn on_message(&mut self) -> Result<(), Failure> {
        while let Some(data) = self.signalling.from_peer.recv().await {
            let conn = match &self.conn {
                Some(conn) => conn.clone(),
                None => self.start()?,
            };

            let mut message: Value = from_str(&data)?;
            if message["iceInfo"].is_object() {
                conn.set_remote_ice(from_value(message["iceInfo"].take())?)?;
                conn.connect()?;
            }
            if message["candidate"].is_object() {
                conn.set_remote_candidate(&from_value(message["candidate"].take())?)?;
            }
            if message["track"].is_object() {
                // Where a browser has a video element, we take every frame ourselves.
                let track = conn.receive_track(&from_value(message["track"].take())?)?;
                tokio::spawn(remote_view(self.name, track, self.shown.clone()));
            }
        }
        Ok(())
    }
}

/// The drafts' `getUserMedia`: a camera that sees colour bars and a microphone that hears a
/// tone.
fn get_user_media() -> MediaStream {
    let stream = MediaStream::new();
    let (microphone, sound) = MediaStreamTrack::local(MediaFormat::Ulaw);
    stream.add_track(&microphone);
    tokio::spawn(async move {
        let mut tone = Tone::new(Law::Ulaw, 440.0, -12.0);
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let frame = tone.frame();
            let frame = MediaFrame { data: frame.data, timestamp: frame.timestamp };
            if let Err(error) = sound.send(frame) {
                log_error(&error);
            }
        }
    });
    let (camera, pictures) = MediaStreamTrack::local(MediaFormat::Vp8);
    stream.add_track(&camera);
    tokio::spawn(async move {
        let mut bars = ColourBars::new(320, 180, 15);
        let mut tick = tokio::time::interval(Duration::from_secs(1) / 15);
        loop {
            tick.tick().await;
            let frame = bars.frame();
            let frame = MediaFrame { data: frame.data, timestamp: frame.timestamp };
            if let Err(error) = pictures.send(frame) {
                log_error(&error);
            }
        }
    });
    stream
}

/// The drafts' `remoteView`: takes every frame of a track, as a decoder would.
async fn remote_view(name: &str, track: MediaStreamTrack, shown: UnboundedSender<Shown>) {
    let Some(mut frames) = track.take_frames() else { return };
    while let Some(frame) = frames.recv().await {
        let len = frame.data.len();
        if shown.send((name.to_owned(), track.kind(), len)).is_err() {
            return;
        }
    }
}

fn log_error(error: &dyn Error) {
    println!("{error}");
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (to_bob, from_alice) = unbounded_channel();
    let (to_alice, from_bob) = unbounded_channel();
    let (shown, mut views) = unbounded_channel();
    let (started, mut connections) = unbounded_channel();
    let page = |name, to_peer, from_peer| Page {
        name,
        signalling: SignallingChannel { to_peer, from_peer },
        conn: None,
        shown: shown.clone(),
        started: started.clone(),
    };
    let mut alice = page("alice", to_bob, from_bob);
    let bob = page("bob", to_alice, from_alice);
    alice.start()?;
    for mut page in [alice, bob] {
        tokio::spawn(async move {
            if let Err(error) = page.on_message().await {
                println!("{error}");
            }
        });
    }

    // Until both have been shown ten frames of each kind.
    let mut counts = std::collections::BTreeMap::new();
    while counts.len() < 4 || counts.values().any(|count| *count < 10) {
        let (name, kind, len) = views.recv().await.ok_or("the views have gone")?;
        let count = counts.entry((name.clone(), kind)).or_insert(0);
        *count += 1;
        if *count == 10 {
            println!("{name} is shown {kind:?}: the tenth frame has {len} bytes");
        }
    }
    for conn in [connections.recv().await, connections.recv().await].into_iter().flatten() {
        conn.close();
        conn.closed().await;
    }
    Ok(())
}
