//! A test of a voice menu that records, over a network that loses 5 % of all datagrams.
//!
//! `cargo run -p ortc-api --features sim --example lossy_recorder`
//!
//! The menu and its recorder are the application, and know nothing of tests. The test runs both
//! sides of the call on one thread, in virtual time, from a seed: ten seconds of call take some
//! milliseconds, and a seed that fails fails every time.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::io::Write;
use std::time::Duration;

use ortc_api::sim::{self, LinkConfig};
use ortc_api::testing::introduce;
use ortc_api::{
    Engine, FrameReceiver, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCConnection,
    RTCConnectionOptions, RTCDTMFEvent, RTCDTMFEvents, RTCEvent,
};
use ortc_media::{OggOpusConfig, OggOpusReader, OggOpusWriter};
use tokio::time::{sleep, timeout};

// The application: this would be your crate.

/// Takes keys until `#`.
async fn menu(mut keys: RTCDTMFEvents) -> String {
    let mut digits = String::new();
    while let Some(RTCDTMFEvent::Dtmf { tone }) = keys.recv().await
        && tone != "#"
    {
        digits.push_str(&tone);
    }
    digits
}

/// Records what is said until it is silent for a second.
async fn record<W: Write>(mut voice: FrameReceiver, file: W) -> W {
    let mut recorder = OggOpusWriter::new(file, OggOpusConfig::default()).expect("it is written");
    while let Ok(Some(frame)) = timeout(Duration::from_secs(1), voice.recv()).await {
        recorder.write(frame.timestamp, &frame.data).expect("it is written");
    }
    recorder.finish().expect("it is written")
}

// Its test: `#[test]`, in your crate.

fn a_menu_and_its_recording_survive_a_loss_of_five_percent(seed: u64) {
    sim::run(seed, |net| async move {
        net.link(LinkConfig { delay: Duration::from_millis(40), ..LinkConfig::lossy(0.05) });
        let [server, caller] = [1, 2].map(|n| {
            let host = net.host(&format!("host {n}"), &[[10, 0, 0, n].into()]);
            let engine = Engine::simulated(host.io(), net.random());
            RTCConnection::new(RTCConnectionOptions::new().with_engine(engine)).expect("it is made")
        });
        let (microphone, frames) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        stream.add_track(&microphone);
        caller.add_stream(&stream, true).expect("it is added");
        let keypad = caller.add_dtmf_handler(None).expect("there is audio");
        introduce(&server, &caller).expect("they are introduced");

        let mut events = server.events();
        let pressed = loop {
            if let RTCEvent::AddDtmfHandler(handler) = events.recv().await.expect("open") {
                break handler.events();
            }
        };
        let track = server.receiving_streams()[0].tracks()[0].clone();
        let voice = track.take_frames().expect("nobody else reads");
        keypad.insert_dtmf("42#", None, None).expect("it is open");
        assert_eq!(menu(pressed).await, "42");

        // Ten seconds of speech: a TOC byte (RFC 6716 §3.1) and something behind it.
        let recording = tokio::spawn(record(voice, Vec::new()));
        for n in 0..500 {
            let data = [&[0x78], &u64::to_be_bytes(n)[..]].concat().into();
            frames.send(MediaFrame { data, timestamp: n * 960 }).expect("it is Opus");
            sleep(Duration::from_millis(20)).await;
        }
        let file = recording.await.expect("it does not panic");
        let mut reader = OggOpusReader::new(file.as_slice()).expect("it is a file");
        let (mut samples, mut heard) = (0, 0);
        while let Some(packet) = reader.read_packet().expect("it is whole") {
            samples += packet.samples;
            // What is missing is filled, so the file is as long as what was said.
            heard += usize::from(packet.data.len() > 1);
        }
        assert!(samples >= 490 * 960, "{samples} samples are recorded");
        assert!((430..500).contains(&heard), "{heard} of 500 packets have arrived");
    });
}

fn main() {
    for seed in 0..20 {
        a_menu_and_its_recording_survive_a_loss_of_five_percent(seed);
    }
    println!("20 calls at 5 % loss: every key was heard, and every recording has its length");
}
