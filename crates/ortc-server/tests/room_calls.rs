//! `ortc serve` and several `ortc call` in a room of it, as processes over real sockets.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::Value;

mod support;

use support::{Scratch, Serving, decode, likeness, probe};

const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/speech.ogg");

#[test]
fn three_callers_record_each_others_sound_and_pictures() {
    three_callers(&Serving::start(), "room");
}

#[test]
fn so_they_do_on_one_port_for_each_of_several_media_threads() {
    let options = ["--udp", "127.0.0.1:0", "--threads", "2"];
    three_callers(&Serving::start_with(&options), "threads");
}

fn three_callers(server: &Serving, name: &str) {
    let scratch = Scratch::new(name);
    let names = ["a", "b", "c"];
    let callers = names.map(|name| {
        let record = scratch.0.join(name);
        let play = ["--play", SPEECH, "--play", "bars:320x180@15"];
        let rest = ["--record", record.to_str().unwrap(), "--duration", "8", "--json"];
        server.join("x", &[&play[..], &rest].concat())
    });
    let summaries = callers.map(|caller| summary(caller, 0));
    for (n, summary) in summaries.iter().enumerate() {
        assert_eq!((&summary["ended"], &summary["error"]), (&"duration".into(), &Value::Null));
        let received = summary["received"].as_array().unwrap();
        assert_eq!(received.len(), 4, "{summary:#}");
        let mut streams: Vec<_> = received.iter().map(stream_of).collect();
        streams.sort();
        streams.dedup();
        assert_eq!(streams.len(), 2, "{received:#?}");
        for stream in streams {
            let of_stream = received.iter().filter(|track| stream_of(track) == stream);
            let tracks: Vec<_> = of_stream.collect();
            let [audio, video] = ["audio", "video"]
                .map(|kind| *tracks.iter().find(|track| track["kind"] == kind).unwrap());
            for track in [audio, video] {
                assert_eq!((&track["lost"], &track["undecodable"]), (&0.into(), &0.into()));
                let file = file(track);
                assert!(file.starts_with(scratch.0.join(names[n])), "{}", file.display());
                // The three come and go within a second of each other, or some on a busy machine.
                let (codec, seconds) = probe(&file);
                assert_eq!(track["codec"], codec);
                assert!((5.0..=8.5).contains(&seconds), "{codec}: {seconds} s");
                let told = track["duration_seconds"].as_f64().unwrap();
                assert!((told - seconds).abs() < 0.1, "{told} for {seconds} s");
            }
            assert_eq!((&audio["codec"], &video["codec"]), (&"opus".into(), &"vp8".into()));
            check_sound(&file(audio));
        }
    }
}

#[test]
fn a_leavers_recording_is_closed_and_a_newcomers_is_begun_while_the_call_goes_on() {
    let server = Serving::start();
    let scratch = Scratch::new("leaver");
    let record = scratch.0.join("heard");
    let options = ["--record", record.to_str().unwrap(), "--duration", "8"];
    let mut listener = server.join("x", &options);
    let mut said = BufReader::new(listener.stderr.take().unwrap()).lines().map(Result::unwrap);
    until(&mut said, |line| line.ends_with(": connected"));
    // The same file, the same name of a stream or not: two recordings.
    for _ in 0..2 {
        let play = ["--play", SPEECH, "--duration", "2", "--json"];
        let player = server.join("x", &play);
        until(&mut said, |line| line.contains(": track ") && !line.ends_with("ended"));
        let sent = &summary(player, 0)["sent"][0];
        assert_eq!(sent["codec"], "opus");
        until(&mut said, |line| line.ends_with(" has ended"));
        // At once, not when the call ends.
        while !files(&record).iter().all(|file| is_finished(file)) {
            std::thread::yield_now();
        }
        assert!(listener.try_wait().unwrap().is_none(), "the call goes on");
    }
    drop(said);
    let output = listener.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let files = files(&record);
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let (codec, seconds) = probe(&file);
        assert_eq!(codec, "opus");
        assert!((1.5..=2.2).contains(&seconds), "{seconds} s");
        check_sound(&file);
    }
}

#[test]
fn the_summary_tells_when_a_track_began_and_ended() {
    let server = Serving::start();
    let scratch = Scratch::new("told");
    let record = scratch.0.to_str().unwrap();
    let listener = server.join("x", &["--record", record, "--duration", "5", "--json"]);
    let short = server.join("x", &["--play", "tone", "--duration", "1.5", "--json"]);
    let long = server.join("x", &["--play", "bars:64x64@10", "--duration", "6", "--json"]);
    let [short, listener, long] = [short, listener, long].map(|caller| summary(caller, 0));
    assert_eq!(listener["received"].as_array().unwrap().len(), 2, "{listener:#}");
    let received = |codec: &str| {
        let tracks = listener["received"].as_array().unwrap();
        tracks.iter().find(|track| track["codec"] == codec).unwrap()
    };
    let (tone, bars) = (received("ulaw"), received("vp8"));
    let ended = tone["ended_seconds"].as_f64().unwrap();
    // By the clock of the listener, who may have been there for a while.
    assert!((1.0..5.0).contains(&ended), "{ended} s");
    assert_eq!(bars["ended_seconds"], Value::Null, "it lasted");
    assert!(bars["began_seconds"].as_f64().unwrap() < 4.0);
    assert_eq!(file(bars).extension().unwrap(), "ivf");
    assert_eq!(short["received"].as_array().unwrap().len(), 1, "it has heard of the bars");
    assert_eq!((&long["ended"], &listener["ended"]), (&"duration".into(), &"duration".into()));
}

#[test]
fn alone_in_a_room_is_no_failure() {
    let server = Serving::start();
    let alone = summary(server.join("x", &["--play", "tone", "--duration", "1", "--json"]), 0);
    assert_eq!((&alone["connected"], &alone["ended"]), (&true.into(), &"duration".into()));
    assert_eq!(alone["received"], Value::Array(Vec::new()));
    assert_eq!(alone["warnings"], Value::Array(Vec::new()));
}

#[test]
fn a_room_that_hangs_up_says_why_and_the_call_has_failed() {
    let mut server = Serving::start();
    let mut caller = server.join("x", &["--play", "tone", "--duration", "60"]);
    let mut said = BufReader::new(caller.stderr.take().unwrap()).lines().map(Result::unwrap);
    until(&mut said, |line| line.ends_with(": connected"));
    server.interrupt();
    let output = caller.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    let reason = "Failed: the signalling server has closed the connection: the server is shutting \
                  down (1001)\n";
    assert!(text.ends_with(reason), "{text}");

    let server = Serving::start();
    let refused = summary(server.join("a%20b", &["--json"]), 1);
    let reason = "the signalling server has closed the connection: a room's name has 1 to 64 \
                  characters out of A-Z a-z 0-9 . _ ~ - (4400)";
    assert_eq!(refused["error"], reason);
    assert_eq!(refused["warnings"], Value::Array(Vec::new()), "it is said once");
}

/// Reads lines up to one that `is` it.
fn until(lines: &mut impl Iterator<Item = String>, is: impl Fn(&str) -> bool) {
    assert!(lines.any(|line| is(&line)), "the program has ended before");
}

/// The summary of a call that ends with this status.
fn summary(caller: Child, status: i32) -> Value {
    let output = caller.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stream_of(track: &Value) -> &str {
    track["msid"][0].as_str().unwrap()
}

fn file(track: &Value) -> PathBuf {
    track["file"].as_str().unwrap_or_else(|| panic!("{track:#}")).into()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Whether a recording has been finished: its last page ends the stream (RFC 3533 §6).
fn is_finished(file: &Path) -> bool {
    let bytes = fs::read(file).unwrap();
    let last = bytes.windows(4).rposition(|window| window == b"OggS");
    last.and_then(|at| bytes.get(at + 5)).is_some_and(|flags| flags & 4 != 0)
}

/// Whether a recording is the speech, from wherever it begins.
fn check_sound(recording: &Path) {
    let (heard, played) = (decode(recording), decode(Path::new(SPEECH)));
    // A second of it, which is looked for in the first two of what was played: who joins late
    // has missed the beginning.
    let piece = &heard[1_600..1_600 + 9_600];
    let best = |piece: &[f32]| {
        let places = (0..10).map(|step| likeness(piece, &played[step * 1_600..]));
        places.fold(0.0, f32::max)
    };
    assert!(best(piece) >= 0.9, "the sound is like the original by {} only", best(piece));
    let backwards: Vec<f32> = piece.iter().rev().copied().collect();
    assert!(best(&backwards) < 0.5, "the measure tells sounds apart");
}
