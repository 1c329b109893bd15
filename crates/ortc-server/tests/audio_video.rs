//! Sound and pictures of every codec between two `ortc call`: what is recorded is what was
//! played.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use ortc_media::{ColourBars, MediaFrame, OpenOptions, open};
use serde_json::Value;

mod support;

use support::{Scratch, Serving, decode, likeness, needs};

const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/speech.ogg");

#[test]
fn speech_and_colour_bars_go_together_both_ways() {
    let server = Serving::start();
    let scratch = Scratch::new("together");
    let call = |directory: &str| {
        let record = scratch.0.join(directory);
        let record = record.to_str().unwrap();
        let bars = ["--play", "bars:320x180@15", "--play", SPEECH];
        let rest = ["--record", record, "--duration", "3", "--json"];
        server.call("x", &[&bars[..], &rest].concat())
    };
    let summaries = [call("a"), call("b")].map(summary);
    for (mine, theirs) in [(0, 1), (1, 0)] {
        let (sent, received) = (&summaries[theirs]["sent"], &summaries[mine]["received"]);
        let [video, audio] = ["video", "audio"].map(|kind| track(received, kind));
        assert_eq!(received.as_array().unwrap().len(), 2);
        assert_eq!((&video["ssrc"], &audio["ssrc"]), (&sent[0]["ssrc"], &sent[1]["ssrc"]));
        assert_eq!(video["msid"], audio["msid"], "they belong together");
        assert_eq!((&video["codec"], &audio["codec"]), (&"vp8".into(), &"opus".into()));
        for counter in ["lost", "late", "before_key", "undecodable"] {
            assert_eq!((&video[counter], &audio[counter]), (&0.into(), &0.into()), "{counter}");
        }
        let began = |track: &Value| track["began_seconds"].as_f64().unwrap();
        let apart = (began(video) - began(audio)).abs();
        assert!(apart < 0.1, "they begin {apart} s apart");

        let mut bars = ColourBars::new(320, 180, 15);
        let pictures = frames(&file(video));
        let expected: Vec<_> = pictures.iter().map(|_| bars.frame()).collect();
        assert_eq!(pictures, expected);
        check(video, "vp8", 3.0);
        check(audio, "opus", 3.0);
        assert!(likeness(&decode(&file(audio)), &decode(Path::new(SPEECH))) >= 0.9);
    }
}

#[test]
fn every_format_is_played_and_recorded_as_it_is() {
    needs("ffmpeg", "ffmpeg");
    let server = Serving::start();
    let scratch = Scratch::new("formats");
    let path = |name: &str| scratch.0.join(name);
    let picture = ["-f", "lavfi", "-i", "testsrc2=size=192x144:rate=15:duration=2"];
    let encode = |name: &str, arguments: &[&str]| {
        ffmpeg(&[&picture[..], arguments, &[path(name).to_str().unwrap()]].concat());
    };
    // Key frames in the middle, frames of one packet and of many.
    let libvpx = ["-deadline", "realtime", "-cpu-used", "8", "-b:v", "400k", "-g", "12"];
    encode("vp8.ivf", &[&["-c:v", "libvpx"], &libvpx[..]].concat());
    encode("vp9.ivf", &[&["-c:v", "libvpx-vp9"], &libvpx[..]].concat());
    encode("av1.ivf", &["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-g", "12"]);
    let x264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "12"];
    encode("h264.h264", &[&x264[..], &["-f", "h264"]].concat());
    let (wav, part) = (path("sound.wav"), ["-t", "2", "-ar", "16000"]);
    ffmpeg(&[&["-i", SPEECH][..], &part, &[wav.to_str().unwrap()]].concat());

    let call = |video: [&str; 2], law: &str, directory: &str| {
        let names = [path("sound.wav"), path(video[0]), path(video[1]), path(directory)];
        let [sound, first, second, record] = names.each_ref().map(|name| name.to_str().unwrap());
        let play = ["--play", sound, "--play", first, "--play", second];
        let rest = ["--wav-codec", law, "--frame-rate", "15", "--record", record, "--json"];
        server.call("x", &[&play[..], &rest].concat())
    };
    let one = call(["vp8.ivf", "h264.h264"], "ulaw", "one");
    let other = call(["vp9.ivf", "av1.ivf"], "alaw", "other");
    let [one, other] = [one, other].map(summary);
    let heard = [(&other, &one, "ulaw", "pcm_mulaw"), (&one, &other, "alaw", "pcm_alaw")];
    for (heard, played, codec, name) in heard {
        assert_eq!(heard["received"].as_array().unwrap().len(), 3);
        for sent in played["sent"].as_array().unwrap() {
            let received = heard["received"].as_array().unwrap();
            let track = received.iter().find(|track| track["ssrc"] == sent["ssrc"]).unwrap();
            assert_eq!((&track["codec"], &track["kind"]), (&sent["codec"], &sent["kind"]));
            assert_eq!((&track["lost"], &track["undecodable"]), (&0.into(), &0.into()));
            let original = PathBuf::from(sent["file"].as_str().unwrap());
            if sent["kind"] == "audio" {
                assert_eq!(sent["codec"], codec);
                check(track, name, 2.0);
                let likeness = likeness(&decode(&file(track)), &decode(&original));
                assert!(likeness >= 0.9, "{codec} is like the original by {likeness} only");
                continue;
            }
            // Whoever hangs up first cuts off the other's end, by less than the tolerance.
            let (got, all) = (frames(&file(track)), frames(&original));
            assert!(got.len() >= all.len() - 5, "{} of {} frames", got.len(), all.len());
            for (got, sent) in got.iter().zip(&all) {
                assert_eq!((got.key, &got.data), (sent.key, &sent.data), "{codec}");
                assert!(got.timestamp.abs_diff(sent.timestamp) <= 1);
            }
            let pictures = pictures(&file(track));
            assert_eq!(pictures.len(), got.len());
            assert_eq!(pictures[..], self::pictures(&original)[..pictures.len()]);
            check(track, sent["codec"].as_str().unwrap(), got.len() as f64 / 15.0);
        }
    }
}

#[test]
fn a_tone_and_a_file_end_with_the_file() {
    needs("ffmpeg", "ffmpeg");
    let server = Serving::start();
    let scratch = Scratch::new("tone");
    let record = scratch.0.to_str().unwrap();
    let short = scratch.0.join("short.ogg");
    ffmpeg(&["-i", SPEECH, "-t", "1", "-c", "copy", short.to_str().unwrap()]);
    let play = ["--play", "tone:1000", "--play", short.to_str().unwrap(), "--json"];
    let player = server.call("x", &play);
    let recorder = server.call("x", &["--record", record, "--json"]);
    let [player, recorder] = [player, recorder].map(summary);
    assert_eq!((&player["ended"], &recorder["ended"]), (&"played".into(), &"peer-left".into()));
    let sent = &player["sent"];
    assert_eq!((&sent[0]["complete"], &sent[1]["complete"]), (&false.into(), &true.into()));
    let received = recorder["received"].as_array().unwrap();
    let tone = received.iter().find(|track| track["codec"] == "ulaw").unwrap();
    let sound = decode(&file(tone));
    // One period of 1,000 Hz is eight samples.
    let (first, second) = (&sound[..4_000], &sound[8..4_008]);
    let product: f32 = first.iter().zip(second).map(|(a, b)| a * b).sum();
    let energy: f32 = first.iter().map(|a| a * a).sum();
    assert!(product / energy > 0.99 && energy / 4_000.0 > 1e6, "{product} {energy}");
}

/// The summary of a call that did all it was told.
fn summary(caller: Child) -> Value {
    let output = caller.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn track<'a>(received: &'a Value, kind: &str) -> &'a Value {
    received.as_array().unwrap().iter().find(|track| track["kind"] == kind).unwrap()
}

fn file(track: &Value) -> PathBuf {
    track["file"].as_str().unwrap().into()
}

/// What others make of a recording: its codec, and its length to 2 %.
fn check(track: &Value, codec: &str, seconds: f64) {
    needs("ffprobe", "ffmpeg");
    let file = file(track);
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_entries", "stream=codec_name:format=duration"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!((probe.status.code(), &probe.stderr[..]), (Some(0), &b""[..]));
    let probe: Value = serde_json::from_slice(&probe.stdout).unwrap();
    assert_eq!(probe["streams"][0]["codec_name"], codec);
    let near =
        |length: f64| (length / seconds - 1.0).abs() < 0.02 || (length - seconds).abs() < 0.1;
    let told = track["duration_seconds"].as_f64().unwrap();
    assert!(near(told), "{codec}: {told} instead of {seconds} s");
    // A byte stream of H.264 has no times.
    if codec != "h264" {
        let length: f64 = probe["format"]["duration"].as_str().unwrap().parse().unwrap();
        assert!(near(length), "{codec}: {length} instead of {seconds} s");
    }
}

/// A checksum of every picture. Decodes without a complaint, or fails.
fn pictures(file: &Path) -> Vec<String> {
    let path = file.to_str().unwrap();
    let sums = ffmpeg(&["-i", path, "-vsync", "passthrough", "-f", "framemd5", "-"]);
    let sums = String::from_utf8(sums).unwrap();
    let sum = |line: &str| line.rsplit(',').next().unwrap().trim().to_owned();
    sums.lines().filter(|line| !line.starts_with('#')).map(sum).collect()
}

fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""), "ffmpeg {arguments:?}");
    output.stdout
}

/// The frames of a file.
fn frames(file: &Path) -> Vec<MediaFrame> {
    let options = OpenOptions { frame_rate: (15, 1), ..OpenOptions::default() };
    let mut reader = open(file, &options).unwrap();
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}
