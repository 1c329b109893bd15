//! A voice menu, called by a caller without hands: it plays a prompt until the first key, takes
//! keys until `#`, and records what is said then until it is silent.
//!
//! `cargo run -p ortc-api --example ivr -- PROMPT.ogg RECORDING.ogg`

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ortc_api::{FrameReceiver, FrameSender, RTCConnection, RTCDTMFEvent, RTCDTMFEvents, RTCEvent};
use ortc_media::{OggOpusConfig, OggOpusWriter};
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[path = "ivr/caller.rs"]
mod caller;

#[tokio::main]
async fn main() -> Result<()> {
    let speech = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/speech.ogg");
    let own = || std::env::temp_dir().join(format!("ivr-{}.ogg", std::process::id()));
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let prompt = arguments.next().unwrap_or_else(|| speech.into());
    let recording = arguments.next().unwrap_or_else(own);

    let (menu, frames) = caller::line()?;
    let caller = caller::call(&menu, speech.into()).await?;
    let (keys, heard) = answer(&menu).await?;
    let (digits, packets) = serve(keys, frames, heard, &prompt, &recording).await?;
    println!("{digits}, and {packets} packets in {}", recording.display());
    assert_eq!((digits.as_str(), packets > 40), ("42", true));
    menu.close();
    caller.close();
    Ok(())
}

/// Waits for the caller's keys and voice.
async fn answer(menu: &RTCConnection) -> Result<(RTCDTMFEvents, FrameReceiver)> {
    let mut events = menu.events();
    while let Some(event) = events.recv().await {
        if let RTCEvent::AddDtmfHandler(handler) = event {
            let track = menu.receiving_streams()[0].tracks()[0].clone();
            return Ok((handler.events(), track.take_frames().ok_or("it is taken")?));
        }
    }
    Err("the connection was closed".into())
}

/// The menu itself: returns the keys, and how much was recorded.
async fn serve(
    mut keys: RTCDTMFEvents,
    frames: FrameSender,
    mut heard: FrameReceiver,
    prompt: &Path,
    recording: &Path,
) -> Result<(String, u64)> {
    let mut digits = String::new();
    let play = caller::play(prompt, &frames, usize::MAX);
    tokio::select! {
        played = play => played?,
        Some(RTCDTMFEvent::Dtmf { tone }) = keys.recv() => digits.push_str(&tone), // barge-in
    }
    let wait = Duration::from_secs(3);
    while let Ok(Some(RTCDTMFEvent::Dtmf { tone })) = timeout(wait, keys.recv()).await
        && tone != "#"
    {
        digits.push_str(&tone);
    }
    let file =
        File::create(recording).map_err(|error| format!("{}: {error}", recording.display()))?;
    let mut recorder = OggOpusWriter::new(file, OggOpusConfig::default())?;
    while let Ok(Some(frame)) = timeout(Duration::from_secs(1), heard.recv()).await {
        recorder.write(frame.timestamp, &frame.data)?;
    }
    let packets = recorder.counts().packets;
    recorder.finish()?;
    Ok((digits, packets))
}
