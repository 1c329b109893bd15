//! The call of the README, run as it stands there.
#![allow(clippy::print_stdout, reason = "the code of the README talks to its user")]

use std::time::Duration;

use bytes::Bytes;
use ortc_api::{
    FrameReceiver, FrameSender, MediaFormat, MediaStream, MediaStreamTrack, RTCConnection,
    RTCConnectionOptions, RTCEvent,
};
use ortc_tests::frame;
use serde_json::{Value, from_value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

async fn call(
    mut from_peer: Receiver<Value>,
    to_peer: Sender<Value>,
    speak: impl FnOnce(FrameSender),
) -> Result<(), Box<dyn std::error::Error>> {
    let conn = RTCConnection::new(RTCConnectionOptions::new().with_loopback(true))?;
    let mut events = conn.events();
    to_peer.send(json!({ "iceInfo": conn.local().ice })).await?;

    let (microphone, frames) = MediaStreamTrack::local(MediaFormat::Opus);
    let stream = MediaStream::new();
    stream.add_track(&microphone);
    conn.add_stream(&stream, true)?;
    for track in conn.tracks(None) {
        to_peer.send(json!({ "track": track.description() })).await?;
    }
    speak(frames); // a task of yours: frames.send(MediaFrame { data, timestamp })

    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(RTCEvent::Candidate(candidate)) => {
                    conn.set_local_candidate(&candidate)?;
                    to_peer.send(json!({ "candidate": candidate })).await?;
                }
                Some(RTCEvent::AddStream(stream)) => println!("hears {:?}", stream.tracks()),
                Some(_) => {}
                None => return Ok(()),
            },
            Some(mut message) = from_peer.recv() => {
                if message["iceInfo"].is_object() {
                    conn.set_remote_ice(from_value(message["iceInfo"].take())?)?;
                    conn.connect()?;
                } else if message["candidate"].is_object() {
                    conn.set_remote_candidate(&from_value(message["candidate"].take())?)?;
                } else if message["track"].is_object() {
                    conn.receive_track(&from_value(message["track"].take())?)?;
                }
            }
        }
    }
}

/// One word of the code is another here: the two peers are on one host, which may have no
/// address but loopback.
const HERE: &str = ".with_loopback(true)";

#[test]
fn the_code_is_that_of_the_readme() {
    let squeezed = |text: &str| text.replace([' ', '\n', ','], "");
    let readme = include_str!("../../README.md");
    let (_, after) = readme.split_once("```rust,no_run\n").expect("a call");
    let (code, _) = after.split_once("```").expect("its end");
    // What the call imports may stand among other imports here.
    let (_, call) = code.split_once("async fn call(").expect("the call");
    let own = include_str!("readme.rs");
    assert!(squeezed(own).replace(HERE, "").contains(&squeezed(call)), "other code");
}

#[tokio::test]
async fn who_is_called_by_it_hears_what_it_speaks() {
    let (to_peer, from_call) = channel(64);
    let (to_call, from_peer) = channel(64);
    let (spoken, microphone) = oneshot::channel();
    let speak = |frames| assert!(spoken.send(frames).is_ok());
    let heard = tokio::select! {
        ended = call(from_peer, to_peer, speak) => panic!("{ended:?}"),
        heard = hears(from_call, to_call, microphone) => heard,
    };
    assert_eq!(heard[..1], [0x78]);
}

/// A peer of the call, which drives its microphone too: the first frame that it hears.
async fn hears(
    mut from_peer: Receiver<Value>,
    to_peer: Sender<Value>,
    microphone: oneshot::Receiver<FrameSender>,
) -> Bytes {
    let conn = RTCConnection::new(RTCConnectionOptions::new().with_loopback(true)).unwrap();
    let mut events = conn.events();
    to_peer.send(json!({ "iceInfo": conn.local().ice })).await.unwrap();
    let source = microphone.await.unwrap();
    let mut reader: Option<FrameReceiver> = None;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for n in 0.. {
        let heard = async {
            match &mut reader {
                Some(frames) => frames.recv().await.expect("the track goes on").data,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            data = heard => return data,
            _ = tick.tick() => source.send(frame(n)).unwrap(),
            event = events.recv() => if let Some(RTCEvent::Candidate(candidate)) = event {
                conn.set_local_candidate(&candidate).unwrap();
                to_peer.send(json!({ "candidate": candidate })).await.unwrap();
            },
            Some(message) = from_peer.recv() => {
                if let Some(ice) = message.get("iceInfo") {
                    conn.set_remote_ice(from_value(ice.clone()).unwrap()).unwrap();
                    conn.connect().unwrap();
                } else if let Some(candidate) = message.get("candidate") {
                    conn.set_remote_candidate(&from_value(candidate.clone()).unwrap()).unwrap();
                } else if let Some(track) = message.get("track") {
                    let track = conn.receive_track(&from_value(track.clone()).unwrap()).unwrap();
                    reader = track.take_frames();
                }
            }
        }
    }
    unreachable!("it goes on until something is heard")
}
