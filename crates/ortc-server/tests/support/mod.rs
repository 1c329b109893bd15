//! Real processes for the tests: the server, callers, and what looks at their files.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

pub mod coturn;
pub mod members;
pub mod netns;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

/// Fails, and says what to do, when a program is not installed.
pub fn needs(program: &str, package: &str) {
    let there = Command::new(program)
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    assert!(there, "this test needs {program}: apt-get install {package}, or cargo xtask ci");
}

/// The sound of a file, mono at 8 kHz. Decodes without a complaint, or fails.
pub fn decode(file: &Path) -> Vec<f32> {
    needs("ffmpeg", "ffmpeg");
    let output = Command::new("ffmpeg")
        .args(["-v", "warning", "-i"])
        .arg(file)
        .args(["-f", "s16le", "-ac", "1", "-ar", "8000", "-"])
        .output()
        .unwrap();
    // That one channel is mono is no complaint; WAV cannot say it.
    let said = String::from_utf8_lossy(&output.stderr);
    let is_complaint = |line: &&str| !line.starts_with("Guessed Channel Layout");
    let complaints = said.lines().filter(is_complaint).collect::<String>();
    assert_eq!((output.status.code(), complaints.as_str()), (Some(0), ""), "{}", file.display());
    let samples = output.stdout.chunks_exact(2);
    samples.map(|sample| f32::from(i16::from_le_bytes([sample[0], sample[1]]))).collect()
}

/// The highest normalized correlation of two sounds, shifted by at most 100 ms.
pub fn likeness(heard: &[f32], played: &[f32]) -> f32 {
    const SHIFT: usize = 800;
    let length = heard.len().min(played.len()) - 2 * SHIFT;
    let energy = |sound: &[f32]| sound.iter().map(|sample| sample * sample).sum::<f32>().sqrt();
    let heard = &heard[SHIFT..SHIFT + length];
    let at = |shift: usize| {
        let played = &played[shift..shift + length];
        let product: f32 = heard.iter().zip(played).map(|(a, b)| a * b).sum();
        product / (energy(heard) * energy(played))
    };
    (0..=2 * SHIFT).map(at).fold(0.0, f32::max)
}

/// The codec of a recording and its length in seconds, as ffprobe sees them.
pub fn probe(file: &Path) -> (String, f64) {
    needs("ffprobe", "ffmpeg");
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_entries", "stream=codec_name:format=duration"])
        .arg(file)
        .output()
        .unwrap();
    assert_eq!((probe.status.code(), &probe.stderr[..]), (Some(0), &b""[..]));
    let probe: Value = serde_json::from_slice(&probe.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&probe["streams"][0]["codec_name"]), text(&probe["format"]["duration"]).parse().unwrap())
}

/// Has ffmpeg read and decode all of a file. It does so without a complaint, or this fails.
pub fn plays(file: &Path) {
    needs("ffmpeg", "ffmpeg");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(file)
        .args(["-map", "0", "-f", "null", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""), "{}", file.display());
}

/// Waits until something is so that no process tells of.
pub fn until(limit: Duration, what: &str, is_so: impl Fn() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let wait = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while !is_so() {
                tick.tick().await;
            }
        };
        tokio::time::timeout(limit, wait).await.expect(what);
    });
}

/// Whether a caller that records in this directory has a file of at least so many bytes.
pub fn has_recorded(directory: &Path, bytes: u64) -> bool {
    let is_long = |entry: fs::DirEntry| entry.metadata().is_ok_and(|it| it.len() >= bytes);
    fs::read_dir(directory).is_ok_and(|files| files.flatten().any(is_long))
}

/// `ortc serve` on a port of the system's choice.
pub struct Serving {
    process: Child,
    pub url: String,
}

impl Serving {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(options: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_ortc")).args(["serve"]).args(options))
    }

    /// With as many descriptors as are given.
    pub fn start_with_descriptors(descriptors: u32) -> Self {
        let limited = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        Self::start_by(command.args(["-c", &limited, env!("CARGO_BIN_EXE_ortc"), "serve"]))
    }

    fn start_by(command: &mut Command) -> Self {
        let command = command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim_end().to_owned();
        assert!(url.contains("://127.0.0.1:"), "{url}");
        Self { process, url }
    }

    /// A caller in a pair.
    pub fn call(&self, name: &str, arguments: &[&str]) -> Child {
        self.caller(&format!("/pairs/{name}"), arguments)
    }

    /// A caller in a room.
    pub fn join(&self, name: &str, arguments: &[&str]) -> Child {
        self.caller(&format!("/rooms/{name}"), arguments)
    }

    /// Has the server shut down.
    pub fn interrupt(&mut self) {
        let killed = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        assert!(killed.unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }

    fn caller(&self, path: &str, arguments: &[&str]) -> Child {
        let signal = format!("{}{path}", self.url.replacen("http", "ws", 1));
        Command::new(env!("CARGO_BIN_EXE_ortc"))
            .args(["call", "--signal", &signal])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A directory of its own for a test, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        // Two tests of one process may name theirs alike.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (process, nth) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("ortc-call-{process}-{nth}-{name}"));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
