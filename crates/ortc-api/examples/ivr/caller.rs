//! What a voice menu is called by: a connection in the same process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ortc_api::{
    FrameSender, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCConnection,
    RTCConnectionOptions,
};
use ortc_media::OggOpusReader;
use tokio::time::{interval, sleep};

use super::Result;

/// A connection that sends one track of sound, and what feeds it.
pub(super) fn line() -> Result<(RTCConnection, FrameSender)> {
    let conn = RTCConnection::new(RTCConnectionOptions::new().with_loopback(true))?;
    let (track, frames) = MediaStreamTrack::local(MediaFormat::Opus);
    let stream = MediaStream::new();
    stream.add_track(&track);
    conn.add_stream(&stream, true)?;
    Ok((conn, frames))
}

/// Calls the menu: listens for a moment, presses `42#`, and speaks for two seconds.
pub(super) async fn call(menu: &RTCConnection, speech: PathBuf) -> Result<RTCConnection> {
    let (caller, frames) = line()?;
    let keys = caller.add_dtmf_handler(None)?;
    for (from, to) in [(menu, &caller), (&caller, menu)] {
        let peer = to.downgrade();
        from.on_candidate(Some(move |from: &RTCConnection, candidate| {
            if let (Ok(()), Some(peer)) = (from.set_local_candidate(&candidate), peer.upgrade()) {
                let _ = peer.set_remote_candidate(&candidate);
            }
        }));
        to.set_remote_ice(from.local().ice)?;
        for track in from.tracks(None) {
            to.receive_track(&track.description())?;
        }
    }
    menu.connect()?;
    caller.connect()?;
    let prompt = caller.receiving_streams()[0].tracks()[0].clone();
    let mut prompt = prompt.take_frames().ok_or("it is taken")?;
    tokio::spawn(async move {
        for _ in 0..25 {
            prompt.recv().await.ok_or("the prompt was cut")?;
        }
        keys.insert_dtmf("42#", None, None).map_err(|_| "the line is closed")?;
        sleep(Duration::from_millis(600)).await;
        play(&speech, &frames, 100).await.map_err(|_| "nothing can be said")
    });
    Ok(caller)
}

/// Sends the first packets of a file in real time.
pub(super) async fn play(file: &Path, frames: &FrameSender, packets: usize) -> Result<()> {
    let opened = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut file = OggOpusReader::new(opened)?;
    let (mut timestamp, mut tick) = (0, interval(Duration::from_millis(20)));
    for _ in 0..packets {
        let Some(packet) = file.read_packet()? else { break };
        tick.tick().await;
        frames.send(MediaFrame { data: packet.data, timestamp })?;
        timestamp += u64::from(packet.samples);
    }
    Ok(())
}
