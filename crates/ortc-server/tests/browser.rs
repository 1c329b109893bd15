//! A browser on one side, with a page of a hundred lines and no library.

use std::f32::consts::TAU;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

mod support;

use support::{Scratch, Serving, decode, needs};

const PAGE: &str = include_str!("browser/first-contact.html");
const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/speech.ogg");
const TONE_HZ: f32 = 440.0;

#[test]
fn chromium_sends_audio_that_a_rust_peer_records() {
    let server = Serving::start();
    let scratch = Scratch::new("browser");
    let recordings = scratch.0.join("recordings");
    let record = recordings.to_str().unwrap();
    let caller = server.call("b", &["--record", record, "--duration", "4", "--json"]);
    let tone = scratch.0.join("tone.wav");
    fs::write(&tone, wav_tone()).unwrap();
    let signal = format!("{}/pairs/b", server.url.replace("http:", "ws:"));
    let (page, _reports) = serve_page();
    let browser = Chromium::open(&format!("{page}/?signal={signal}"), &tone, &scratch.0);

    let output = caller.wait_with_output().unwrap();
    drop(browser);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    assert_eq!(summary["connected"], true);
    let received = &summary["received"][0];
    assert_eq!((&received["codec"], &received["kind"]), (&"opus".into(), &"audio".into()));
    let sound = decode(Path::new(received["file"].as_str().unwrap()));
    let seconds = sound.len() as f32 / 8_000.0;
    assert!((3.0..=4.5).contains(&seconds), "{seconds} s");
    // The middle second, away from the codec's start, in pieces: where the browser repeats its
    // file the phase jumps.
    let middle = &sound[sound.len() / 2 - 4_000..sound.len() / 2 + 4_000];
    let share = |hertz| {
        let of_piece = |piece| share_of_tone(piece, hertz);
        middle.chunks(400).map(of_piece).sum::<f32>() / 20.0
    };
    assert!(share(TONE_HZ) > 0.8, "{TONE_HZ} Hz are {} of the recording", share(TONE_HZ));
    assert!(share(700.0) < 0.1, "the measure tells frequencies apart");
}

#[test]
fn chromium_and_a_rust_peer_show_each_other_pictures() {
    let server = Serving::start();
    let scratch = Scratch::new("pictures");
    let recordings = scratch.0.join("recordings");
    let record = recordings.to_str().unwrap();
    let options = ["--play", "bars:320x180@15", "--record", record, "--duration", "4", "--json"];
    let caller = server.call("v", &options);
    let tone = scratch.0.join("tone.wav");
    fs::write(&tone, wav_tone()).unwrap();
    let signal = format!("{}/pairs/v", server.url.replace("http:", "ws:"));
    let (page, reports) = serve_page();
    let url = format!("{page}/?video&signal={signal}");
    let browser = Chromium::open(&url, &tone, &scratch.0);

    let shown = reports.recv_timeout(Duration::from_secs(30)).unwrap();
    let output = caller.wait_with_output().unwrap();
    drop(browser);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{summary:#}");

    check_bars(&shown);

    let received = summary["received"].as_array().unwrap();
    let video = received.iter().find(|track| track["kind"] == "video").unwrap();
    let audio = received.iter().find(|track| track["kind"] == "audio").unwrap();
    assert_eq!((&video["codec"], &audio["codec"]), (&"vp8".into(), &"opus".into()));
    assert_eq!(video["msid"], audio["msid"]);
    assert_eq!(video["undecodable"], 0, "{video:#}");
    let told = video["duration_seconds"].as_f64().unwrap();
    assert!((2.5..=4.5).contains(&told), "{told} s");
    let pictures = Command::new("ffmpeg")
        .args(["-v", "error", "-i", video["file"].as_str().unwrap()])
        .args(["-vsync", "passthrough", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    assert_eq!((pictures.status.code(), &pictures.stderr[..]), (Some(0), &b""[..]));
    let sums = String::from_utf8(pictures.stdout).unwrap();
    let sums = sums.lines().filter(|line| !line.starts_with('#')).count();
    assert!(sums >= 25, "{sums} pictures");
}

#[test]
fn chromium_and_a_rust_peer_hear_each_other_s_keys() {
    let server = Serving::start();
    let scratch = Scratch::new("keys");
    let options = ["--play", SPEECH, "--dtmf", "0123456789ABCD*#", "--duration", "10", "--json"];
    let caller = server.call("k", &options);
    let tone = scratch.0.join("tone.wav");
    fs::write(&tone, wav_tone()).unwrap();
    let signal = format!("{}/pairs/k", server.url.replace("http:", "ws:"));
    let (page, reports) = serve_page();
    let url = format!("{page}/?keys=0123456789ABCD*%23&signal={signal}");
    let browser = Chromium::open(&url, &tone, &scratch.0);

    let heard = reports.recv_timeout(Duration::from_secs(30)).unwrap();
    let output = caller.wait_with_output().unwrap();
    drop(browser);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    // Every key once: `#` cannot stand in the address of a report.
    assert_eq!(heard["keys"], "0123456789ABCD*h");
    assert_eq!(summary["dtmf_sent"], "0123456789ABCD*#");
    let keys = summary["dtmf_received"].as_array().unwrap();
    let digits: String = keys.iter().map(|key| key["digit"].as_str().unwrap()).collect();
    assert_eq!(digits, "0123456789ABCD*#");
    for key in keys {
        let lasted = key["duration_seconds"].as_f64().unwrap();
        assert!((0.08..=0.14).contains(&lasted), "{key}");
    }
}

#[test]
fn chromium_is_a_member_of_a_room_like_any_other() {
    let server = Serving::start();
    let scratch = Scratch::new("room");
    let recordings = scratch.0.join("recordings");
    let record = recordings.to_str().unwrap();
    let options = ["--play", "bars:320x180@15", "--record", record, "--duration", "15", "--json"];
    let caller = server.join("r", &options);
    let tone = scratch.0.join("tone.wav");
    fs::write(&tone, wav_tone()).unwrap();
    let signal = format!("{}/rooms/r", server.url.replace("http:", "ws:"));
    let (page, reports) = serve_page();
    let url = format!("{page}/?video&signal={signal}");
    let browser = Chromium::open(&url, &tone, &scratch.0);
    check_bars(&reports.recv_timeout(Duration::from_secs(30)).unwrap());
    // It leaves without a word.
    drop(browser);

    let output = caller.wait_with_output().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    let received = summary["received"].as_array().unwrap();
    let track = |kind: &str| received.iter().find(|track| track["kind"] == kind).unwrap();
    let (video, audio) = (track("video"), track("audio"));
    assert_eq!((&video["codec"], &audio["codec"]), (&"vp8".into(), &"opus".into()));
    assert_eq!(video["msid"], audio["msid"]);
    for track in [video, audio] {
        assert!(track["ended_seconds"].is_number(), "{track:#}");
        assert!(track["duration_seconds"].as_f64().unwrap() > 0.5, "{track:#}");
    }
    let sound = decode(Path::new(audio["file"].as_str().unwrap()));
    let share = share_of_tone(&sound[sound.len() / 2..sound.len() / 2 + 400], TONE_HZ);
    assert!(share > 0.8, "{TONE_HZ} Hz are {share} of the recording");
}

/// White, yellow, cyan, green, magenta, red, blue and black at 75 %.
fn check_bars(shown: &Value) {
    assert_eq!((&shown["width"], &shown["height"]), (&320.into(), &180.into()));
    for (at, bar) in shown["bars"].as_array().unwrap().iter().enumerate() {
        let expected =
            [at % 4 < 2, at < 4, at % 2 == 0].map(|is_lit| if is_lit { 191.0 } else { 0.0 });
        for (seen, expected) in bar.as_array().unwrap().iter().zip(expected) {
            let away = (seen.as_f64().unwrap() - expected).abs();
            assert!(away < 25.0, "bar {at} is {bar}, not {expected:?}");
        }
    }
}

/// How much of a sound's energy is at one frequency, 0 to 1 (8 kHz sampling).
fn share_of_tone(sound: &[f32], hertz: f32) -> f32 {
    let energy: f32 = sound.iter().map(|sample| sample * sample).sum();
    let part = |function: fn(f32) -> f32| -> f32 {
        let phase = |n: usize| TAU * hertz * n as f32 / 8_000.0;
        sound.iter().enumerate().map(|(n, sample)| sample * function(phase(n))).sum()
    };
    let (real, imaginary) = (part(f32::cos), part(f32::sin));
    2.0 * (real * real + imaginary * imaginary) / (energy * sound.len() as f32)
}

/// One second of tone, 48 kHz mono, which the browser repeats.
fn wav_tone() -> Vec<u8> {
    let samples: Vec<u8> = (0..48_000)
        .map(|n| (TAU * TONE_HZ * n as f32 / 48_000.0).sin() * 12_000.0)
        .flat_map(|sample| (sample as i16).to_le_bytes())
        .collect();
    let length = samples.len() as u32;
    let mut file = Vec::from(*b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(48_000u32.to_le_bytes());
    file.extend(96_000u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

/// Serves the page to everybody until the test ends; returns where, and what the page reports.
fn serve_page() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (reports, received) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // One short GET.
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]);
            if let Some(report) = request.strip_prefix("GET /report?") {
                let report = report.split(' ').next().unwrap_or_default();
                let report = report.replace("%27", "\"").replace('\'', "\"");
                let _ = reports.send(serde_json::from_str(&report).unwrap());
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{PAGE}", PAGE.len());
        }
    });
    (url, received)
}

/// A headless Chromium, ended with the test.
struct Chromium(Child);

impl Chromium {
    fn open(url: &str, tone: &Path, scratch: &Path) -> Self {
        needs("chromium", "chromium");
        let process = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--allow-loopback-in-peer-connection"])
            .args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
            .arg("--autoplay-policy=no-user-gesture-required")
            .arg(format!("--use-file-for-fake-audio-capture={}", tone.display()))
            .arg(format!("--user-data-dir={}", scratch.join("profile").display()))
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(process)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
