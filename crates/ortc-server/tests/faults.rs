//! What the system does to a running program: it is stopped for a while, has no descriptors left,
//! no room on its disk.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

mod support;

use support::netns::can_make_namespaces;
use support::{Scratch, Serving, has_recorded, until};

/// Far more than it takes to connect.
const SOON: Duration = Duration::from_secs(20);

/// Bytes of a second of G.711.
const G711_RATE: u64 = 8_000;

fn signal(name: &str, process: &Child) {
    let sent = Command::new("kill").args([name, &process.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn warnings(summary: &Value) -> Vec<&str> {
    summary["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Suspends one of two callers for so many seconds in the midst of a call. Returns what both sum
/// up, the one that was suspended first.
fn suspended_for(seconds: u32) -> [Value; 2] {
    let server = Serving::start();
    let duration = (seconds + 15).to_string();
    let scratch = Scratch::new(&format!("suspended-{seconds}"));
    let directories = ["one", "two"].map(|name| scratch.0.join(name));
    let callers = directories.each_ref().map(|directory| {
        let record = directory.to_str().unwrap();
        let arguments = ["--play", "tone", "--record", record, "--duration", &duration, "--json"];
        server.call("x", &arguments)
    });
    // In the midst of a call, and not while ICE has yet to settle on a pair.
    for directory in &directories {
        until(SOON, "they have heard each other for two seconds", || {
            has_recorded(directory, 2 * G711_RATE)
        });
    }
    signal("-STOP", &callers[0]);
    // What passes is the time of this machine: there is nothing to wait for.
    let passed = Command::new("sleep").arg(seconds.to_string()).status();
    assert!(passed.unwrap().success());
    signal("-CONT", &callers[0]);
    let outputs = callers.map(|caller| caller.wait_with_output().unwrap());
    let codes = outputs.each_ref().map(|output| output.status.code());
    assert_eq!(codes, [Some(0); 2], "{outputs:?}");
    outputs.each_ref().map(summary)
}

/// So much of `seconds` as was heard, at 50 packets a second.
fn heard(summary: &Value) -> f64 {
    summary["received"][0]["packets"].as_f64().unwrap() / 50.0
}

#[test]
fn a_caller_that_is_suspended_for_a_second_goes_on() {
    for summary in suspended_for(1) {
        assert_eq!(warnings(&summary), [""; 0]);
        assert!(heard(&summary) > 12.0, "{summary}");
    }
}

#[test]
fn a_caller_that_is_suspended_for_five_seconds_goes_on() {
    for summary in suspended_for(5) {
        assert_eq!(warnings(&summary), [""; 0]);
        assert!(heard(&summary) > 12.0, "{summary}");
    }
}

/// Longer than consent lasts: the other one says that the path was lost, and both find it again.
#[test]
fn a_caller_that_is_suspended_for_forty_seconds_comes_back() {
    let [suspended, other] = suspended_for(40);
    assert_eq!(warnings(&other), ["the path to the other peer was lost"]);
    for summary in [suspended, other] {
        assert!(heard(&summary) > 8.0, "{summary}");
        assert_eq!(summary["error"], Value::Null);
    }
}

/// A server that has no descriptor left takes nobody in and forwards all the same; with
/// descriptors it takes people in again.
#[test]
fn a_server_without_descriptors_goes_on_forwarding() {
    let server = Serving::start_with_descriptors(64);
    let scratch = Scratch::new("descriptors");
    let directories = ["one", "two"].map(|name| scratch.0.join(name));
    let callers = directories.each_ref().map(|directory| {
        let record = directory.to_str().unwrap();
        server.join("x", &["--play", "tone", "--record", record, "--duration", "12", "--json"])
    });
    for directory in &directories {
        until(SOON, "they hear each other", || has_recorded(directory, 1));
    }
    let address = server.url.strip_prefix("http://").unwrap();
    let idle: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Long enough for it to have taken as many as it can.
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let refused = ask();
    for caller in callers {
        let output = caller.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let summary = summary(&output);
        assert_eq!(summary["received"][0]["lost"], 0);
        assert!(heard(&summary) > 10.0, "{summary}");
    }
    assert!(!refused.is_ok_and(|answer| answer.contains("200 OK")), "it was out of descriptors");
    drop(idle);
    until(Duration::from_secs(30), "it answers again", || {
        ask().is_ok_and(|answer| answer.contains("200 OK"))
    });
}

/// A disk that is full ends the recording, as an error of the call; the call itself goes on, and
/// what was written can be played.
#[test]
fn a_full_disk_costs_the_recording_and_not_the_call() {
    if !can_make_namespaces("a_full_disk_costs_the_recording_and_not_the_call") {
        return;
    }
    let server = Serving::start();
    let scratch = Scratch::new("full");
    let player = server.call("x", &["--play", "tone", "--duration", "8", "--json"]);
    let signal = format!("{}/pairs/x", server.url.replacen("http", "ws", 1));
    // A file system of 32 kB, for this process alone.
    let alone = "mount -t tmpfs -o size=32k none \"$1\" && exec \"$0\" call --signal \"$2\" \
                 --record \"$1\" --duration 8 --json";
    let recorder = Command::new("unshare")
        .args(["--mount", "sh", "-c", alone, env!("CARGO_BIN_EXE_ortc")])
        .arg(&scratch.0)
        .arg(&signal)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let recorder = recorder.wait_with_output().unwrap();
    assert_eq!(recorder.status.code(), Some(1), "{recorder:?}");
    let summary = summary(&recorder);
    let error = summary["error"].as_str().unwrap();
    assert!(error.starts_with("cannot write ") && error.contains("No space left"), "{error}");
    let duration = summary["duration_seconds"].as_f64().unwrap();
    assert!(duration >= 7.9, "the call went on: {duration} s");
    assert!(heard(&summary) > 7.0, "and was heard: {summary}");
    assert_eq!(summary["received"][0]["lost"], 0);
    let player = player.wait_with_output().unwrap();
    assert_eq!(player.status.code(), Some(0), "{player:?}");
    assert!(!has_recorded(&scratch.0, 0), "it was on the other file system");
}
