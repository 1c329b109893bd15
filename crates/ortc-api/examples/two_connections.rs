//! Two connections of one process call each other over loopback, and one hears the other.
//!
//! `cargo run -p ortc-api --example two_connections`

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use ortc_api::{
    MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCConnection, RTCConnectionOptions,
    RTCEvent, RTCEvents,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = || RTCConnectionOptions::new().with_loopback(true);
    let alice = RTCConnection::new(options())?;
    let bob = RTCConnection::new(options())?;
    let (alice_events, bob_events) = (alice.events(), bob.events());

    // What a signalling channel would carry: who each side is, and where it can be reached.
    trickle(&alice, &bob);
    trickle(&bob, &alice);
    alice.set_remote_ice(bob.local().ice)?;
    bob.set_remote_ice(alice.local().ice)?;
    alice.connect()?;
    bob.connect()?;

    // Alice sends a stream, and describes its track to Bob.
    let (track, source) = MediaStreamTrack::local(MediaFormat::Opus);
    let stream = MediaStream::new();
    stream.add_track(&track);
    alice.add_stream(&stream, true)?;
    for track in alice.tracks(None) {
        bob.receive_track(&track.description())?;
    }
    connected(alice_events).await?;
    connected(bob_events).await?;

    // One second of Opus silence (RFC 6716 §3.1: CELT, 20 ms), heard by Bob.
    let received = bob.receiving_streams()[0].tracks()[0].clone();
    let mut frames = received.take_frames().ok_or("somebody else reads this track")?;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for n in 0..50 {
        tick.tick().await;
        source
            .send(MediaFrame { data: Bytes::from_static(b"\xf8\xff\xfe"), timestamp: n * 960 })?;
    }
    let first = frames.recv().await.ok_or("the track has ended")?;
    println!("stream {} of kind {:?}: {} bytes", stream.id(), track.kind(), first.data.len());

    alice.close();
    alice.closed().await;
    bob.closed().await;
    println!("closed");
    Ok(())
}

/// Applies every candidate of `from` and tells it to `to`.
fn trickle(from: &RTCConnection, to: &RTCConnection) {
    let to = to.downgrade();
    from.on_candidate(Some(move |from: &RTCConnection, candidate| {
        if let (Ok(()), Some(to)) = (from.set_local_candidate(&candidate), to.upgrade()) {
            let _ = to.set_remote_candidate(&candidate);
        }
    }));
}

async fn connected(mut events: RTCEvents) -> Result<(), Box<dyn Error>> {
    while let Some(event) = events.recv().await {
        match event {
            RTCEvent::Connected => return Ok(()),
            RTCEvent::ActiveCandidate { local, remote } => println!("{local}\n  <-> {remote}"),
            RTCEvent::Disconnected(reason) => return Err(reason.into()),
            _ => {}
        }
    }
    Err("closed before it was connected".into())
}
