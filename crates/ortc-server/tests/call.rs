//! The program itself: `ortc serve` and `ortc call` as processes, over real sockets.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ortc_media::OggOpusReader;
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

mod support;

use support::{Scratch, Serving, decode, likeness, needs};

const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/speech.ogg");

#[test]
fn two_callers_hear_what_the_other_plays() {
    let server = Serving::start();
    let scratch = Scratch::new("both");
    let call = |directory: &str| {
        let record = scratch.0.join(directory);
        let record = record.to_str().unwrap();
        server.call("x", &["--play", SPEECH, "--record", record, "--duration", "10", "--json"])
    };
    let callers = [call("a"), call("b")];
    let summaries = callers.map(|caller| {
        let output = caller.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    let [sent, _] = [&summaries[0]["sent"][0]["ssrc"], &summaries[1]["sent"][0]["ssrc"]];
    assert_eq!(&summaries[1]["received"][0]["ssrc"], sent);

    for summary in summaries {
        assert_eq!(summary["connected"], true);
        assert_eq!(summary["error"], Value::Null);
        let connect_ms = summary["connect_ms"].as_f64().unwrap();
        assert!(connect_ms < 500.0, "{connect_ms} ms");
        assert_eq!(summary["local_candidate"]["component"], 1);
        assert_eq!(summary["remote_candidate"]["component"], 1);
        assert_eq!(summary["received"].as_array().unwrap().len(), 1);
        let received = &summary["received"][0];
        assert_eq!((&received["codec"], &received["kind"]), (&"opus".into(), &"audio".into()));
        assert_eq!(received["lost"], 0, "on loopback");

        let file = Path::new(received["file"].as_str().unwrap());
        let recorded = packets(file);
        let played = packets(Path::new(SPEECH));
        assert!((490..=510).contains(&recorded.len()), "{} packets", recorded.len());
        assert_eq!(recorded[..], played[..recorded.len()], "packet by packet");
        check_sound(file);
    }
}

/// What others make of a recording.
fn check_sound(recording: &Path) {
    needs("ffprobe", "ffmpeg");
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_entries", "stream=codec_name:format=duration"])
        .arg(recording)
        .output()
        .unwrap();
    assert_eq!((probe.status.code(), &probe.stderr[..]), (Some(0), &b""[..]));
    let probe: Value = serde_json::from_slice(&probe.stdout).unwrap();
    assert_eq!(probe["streams"][0]["codec_name"], "opus");
    let seconds: f64 = probe["format"]["duration"].as_str().unwrap().parse().unwrap();
    assert!((9.8..=10.2).contains(&seconds), "{seconds} s");

    let (heard, played) = (decode(recording), decode(Path::new(SPEECH)));
    let likeness = likeness(&heard, &played);
    assert!(likeness >= 0.9, "the sound is like the original by {likeness} only");
    // The measure tells different sounds apart.
    let backwards: Vec<f32> = heard.iter().rev().copied().collect();
    assert!(support::likeness(&backwards, &played) < 0.5);
}

#[test]
fn an_interrupted_caller_says_goodbye_and_finishes_its_file() {
    let server = Serving::start();
    let scratch = Scratch::new("interrupted");
    let player = server.call("x", &["--play", SPEECH, "--json"]);
    let mut listener = server.call("x", &["--record", scratch.0.to_str().unwrap()]);
    // It says when it is connected; then it hears for a while.
    let mut lines = BufReader::new(listener.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().ends_with(": connected") {}
    let file = wait_for_file(&scratch.0);
    let killed = Command::new("kill").args(["-INT", &listener.id().to_string()]).status();
    assert!(killed.unwrap().success());
    let listener = listener.wait_with_output().unwrap();
    assert_eq!(listener.status.code(), Some(0), "nothing was left to do: {listener:?}");
    let mut reader = OggOpusReader::new(BufReader::new(File::open(file).unwrap())).unwrap();
    while reader.read_packet().unwrap().is_some() {}
    assert!(!reader.is_truncated());

    let player = player.wait_with_output().unwrap();
    assert_eq!(player.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&player.stdout).unwrap();
    assert_eq!(summary["ended"], "peer-left");
    assert_eq!(summary["error"], "the other peer hung up before the files were played");
}

#[test]
fn a_caller_tells_how_it_goes_while_it_lasts() {
    let server = Serving::start();
    let options = ["--play", SPEECH, "--redundancy", "1", "--duration", "3", "--stats", "0.5"];
    let (json, text) = ([&options[..], &["--json"]].concat(), options);
    let callers = [server.call("x", &json), server.call("x", &text)];
    let [json, text] = callers.map(|caller| caller.wait_with_output().unwrap());
    assert_eq!((json.status.code(), text.status.code()), (Some(0), Some(0)), "{json:?} {text:?}");
    let mut lines: Vec<Value> = String::from_utf8(json.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.pop().unwrap()["connected"], true, "the summary is the last");
    assert!((3..=7).contains(&lines.len()), "{} lines", lines.len());
    let inbound = |line: &Value| {
        let stats = line["stats"].as_array().unwrap();
        stats.iter().find(|it| it["type"] == "inbound-rtp").cloned()
    };
    let last = inbound(lines.last().unwrap()).unwrap();
    let (came, repeated) = (&last["packetsReceived"], &last["fecPacketsReceived"]);
    assert!(came.as_u64().unwrap() > 50, "{last}");
    // Each but the first repeats one, and nothing is lost on loopback.
    assert!(repeated.as_u64().unwrap() + 1 >= came.as_u64().unwrap(), "{last}");
    assert_eq!(repeated, &last["fecPacketsDiscarded"], "{last}");
    let told = String::from_utf8(text.stderr).unwrap();
    let sent = told.lines().filter(|line| line.starts_with("  sent audio ")).count();
    assert!((3..=7).contains(&sent), "{told}");
    assert!(told.contains(" s: sends ") && told.contains(" kbit/s, round trip "), "{told}");
    assert!(told.contains("  received audio "), "{told}");
}

#[test]
fn a_third_caller_is_told_why_not() {
    let server = Serving::start();
    let mut callers = [server.call("x", &[]), server.call("x", &[])];
    for caller in &mut callers {
        let mut lines = BufReader::new(caller.stderr.as_mut().unwrap()).lines();
        while !lines.next().unwrap().unwrap().ends_with(": connected") {}
    }
    let third = server.call("x", &["--json"]).wait_with_output().unwrap();
    assert_eq!(third.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&third.stdout).unwrap();
    let reason = "two peers are in this pair already: choose another name";
    let error = format!("the signalling server has closed the connection: {reason} (4409)");
    assert_eq!(summary["error"], Value::from(error));
    assert_eq!(summary["warnings"], Value::Array(Vec::new()), "it is said once");
    for caller in &mut callers {
        caller.kill().unwrap();
        caller.wait().unwrap();
    }
}

#[test]
fn what_cannot_be_begun_is_not() {
    let refused = |arguments: &[&str], text: &str| {
        let output = ortc(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), text);
        assert_eq!(output.stdout, b"");
    };
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    // Nothing listens there, and nothing is asked.
    let signal = ["call", "--signal", "ws://127.0.0.1:1/pairs/x"];
    refused(
        &[&signal[..], &["--play", manifest]].concat(),
        &format!(
            "ortc: {manifest} is no media file that can be played: it looks like text; supported: \
             Ogg/Opus, WAV (PCM of 8 or 16 bits, A-law, µ-law), IVF (VP8, VP9, AV1), WebM and \
             Matroska (of these codecs), H.264 as a byte stream (Annex B)\n"
        ),
    );
    refused(
        &[&signal[..], &["--record", manifest]].concat(),
        &format!("ortc: cannot record into {manifest}: File exists (os error 17)\n"),
    );
    let server = Serving::start();
    let taken = server.url.trim_start_matches("http://");
    refused(
        &["serve", "--listen", taken],
        &format!(
            "ortc: {taken} is in use by another program: stop that one, or choose another port \
             with --listen 127.0.0.1:PORT (0 lets the system choose)\n"
        ),
    );
}

#[test]
fn what_can_never_come_about_is_not_begun() {
    let output = ortc(&[
        "call",
        "--signal",
        "ws://127.0.0.1:1/rooms/x",
        "--relay-only",
        "--ice-server",
        "stun:x",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "ortc: --relay-only needs a TURN server: --ice-server turn:USER:SECRET@HOST:PORT\n"
    );
    let output = ortc(&["serve", "--listen", "127.0.0.1:0", "--record-failures", "/dev/null"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("ortc: cannot record failures into /dev/null: "), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = ortc(&["serve", "--listen", "127.0.0.1:0", "--tcp", &address]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("ortc: cannot take TCP for media: "), "{said}");
    assert!(said.ends_with("; choose another address with --tcp ADDR:PORT\n"), "{said}");
}

#[test]
fn a_server_that_is_not_there_is_one_clear_line() {
    let output = ortc(&["call", "--signal", "ws://127.0.0.1:1/pairs/x"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "Not connected\nFailed: nothing listens at ws://127.0.0.1:1/pairs/x: start a server there \
         with `ortc serve`\n"
    );
    let server = Serving::start();
    let url = format!("{}/healthz", server.url.replace("http:", "ws:"));
    let output = ortc(&["call", "--signal", &url]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "Not connected\nFailed: {url} is no WebSocket of a signalling server: it answers with \
             HTTP status 200\n"
        )
    );
}

#[tokio::test]
async fn a_peer_that_cannot_be_understood_is_named_with_its_field() {
    let server = Serving::start();
    let error = |name: &'static str, messages: &'static [&'static str]| {
        let caller = server.call(name, &["--json"]);
        let url = format!("{}/pairs/{name}", server.url.replace("http:", "ws:"));
        async move {
            let (mut peer, _) = connect_async(url).await.unwrap();
            for message in messages {
                peer.send(Message::text(*message)).await.unwrap();
            }
            // It hangs up, or its socket goes: either way the server says so.
            let left = async {
                while let Some(Ok(message)) = peer.next().await {
                    if message.to_string() == r#"{"bye":{}}"# {
                        break;
                    }
                }
            };
            timeout(Duration::from_secs(20), left).await.unwrap();
            let output = caller.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
            (summary["error"].as_str().unwrap().to_owned(), summary["warnings"].clone())
        }
    };
    let none = Value::Array(Vec::new());
    assert_eq!(
        error("missing", &[r#"{"iceInfo":{"usernameFrag":"abcd"}}"#]).await,
        (
            "the other peer cannot be understood: iceInfo: missing field `password`".to_owned(),
            none.clone()
        )
    );
    const UNVERIFIED: &str =
        r#"{"iceInfo":{"usernameFrag":"abcd","password":"pppppppppppppppppppppp"}}"#;
    let (error, warnings) = error(
        "unverified",
        &[
            r#"{"candidate":{"foundation":"1"}}"#,
            r#"{"candidate":{"foundation":"1","component":1,"transport":"udp","priority":1,"connectionAddress":"no address","connectionPort":1,"type":"host"}}"#,
            UNVERIFIED,
        ],
    )
    .await;
    assert_eq!(
        error,
        "cannot connect to the other peer: the peer's iceInfo names no certificate fingerprint: \
         have it send one, or allow an unverified remote in the options"
    );
    let warnings = warnings.as_array().unwrap();
    assert_eq!(
        warnings[0],
        "the other peer cannot be understood: candidate: missing field `component`"
    );
    let second = warnings[1].as_str().unwrap();
    assert!(second.starts_with("a candidate of the other peer is left out: "), "{second}");
    assert!(second.contains("no address"), "{second}");
    assert_eq!(warnings.len(), 2);
}

fn ortc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ortc")).args(arguments).output().unwrap()
}

/// The first file in a directory, once something has been written to it.
fn wait_for_file(directory: &Path) -> PathBuf {
    loop {
        let first = fs::read_dir(directory).unwrap().next();
        if let Some(Ok(entry)) = first
            && entry.metadata().unwrap().len() > 1000
        {
            return entry.path();
        }
        std::thread::yield_now();
    }
}

fn packets(file: &Path) -> Vec<Vec<u8>> {
    let mut reader = OggOpusReader::new(BufReader::new(File::open(file).unwrap())).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.read_packet().unwrap() {
        packets.push(packet.data.to_vec());
    }
    packets
}

#[test]
fn a_server_is_called_over_tls_if_its_certificate_is_trusted() {
    let scratch = Scratch::new("tls");
    let file = |name: &str| scratch.0.join(name).to_str().unwrap().to_owned();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (cert, key, empty) = (file("cert.pem"), file("key.pem"), file("empty.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::write(&empty, "").unwrap();
    let server = Serving::start_with(&["--tls-cert", &cert, "--tls-key", &key]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let trusting = ["--tls-ca", &cert, "--play", "tone", "--duration", "1", "--json"];
    let callers = [server.call("x", &trusting), server.call("x", &trusting)];
    for caller in callers {
        let output = caller.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["received"][0]["codec"], "ulaw", "{summary}");
    }
    let output = server.call("y", &["--json"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = summary["error"].as_str().unwrap();
    assert!(error.contains("is not trusted"), "{error}");
    // Nobody is asked for that.
    for (file, expected) in
        [(&*empty, "holds no certificate\n"), ("/does/not/exist", "No such file")]
    {
        let output = ortc(&["call", "--signal", "ws://127.0.0.1:1/pairs/y", "--tls-ca", file]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with(&format!("ortc: --tls-ca: {file}")), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    // Somebody without TLS here, where there is TLS.
    let signal = format!("{}/pairs/x", server.url.replacen("https", "ws", 1));
    let output = ortc(&["call", "--signal", &signal]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("what answers at {signal} is no signalling server")), "{said}");
    assert!(said.ends_with("one with TLS is reached by wss://\n"), "{said}");
    // Somebody without TLS at the other end.
    let plain = Serving::start();
    let signal = format!("{}/pairs/x", plain.url.replacen("http", "wss", 1));
    let output = Command::new(env!("CARGO_BIN_EXE_ortc"))
        .args(["call", "--signal", &signal, "--tls-ca", &cert])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("there is no TLS with wss://127.0.0.1"), "{said}");
    assert!(said.ends_with("a server without TLS is reached by ws://\n"), "{said}");
}
