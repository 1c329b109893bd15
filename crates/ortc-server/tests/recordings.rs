//! Recordings of sound and pictures together, and recordings of whoever is killed.

use std::fs;
use std::future::pending;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ortc_api::{FrameSender, MediaFormat, MediaFrame};
use ortc_media::{ColourBars, Law, OpenOptions, Tone, open_all};
use ortc_server::rooms::RoomLimits;
use serde_json::Value;
use tokio::time::timeout;

#[path = "../../../tests/src/av_sync.rs"]
#[allow(unreachable_pub, reason = "it is public where it belongs")]
mod av_sync;
mod support;

use av_sync::{changes, run};
use support::members::{Running, patiently};
use support::{Scratch, Serving, needs, plays};

const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/speech.ogg");

/// 20 ms.
const TICK: Duration = Duration::from_millis(20);

/// What may be missing at the end of the recording of whoever is killed: a second, and as much as
/// this machine is late.
const LAST_MOMENTS: u64 = 75;

/// What is sent to everybody in a room, and what has been sent of it.
#[derive(Default)]
struct Sent {
    ticks: AtomicU64,
    sounds: Mutex<Vec<Bytes>>,
    pictures: Mutex<Vec<Bytes>>,
}

/// Sends speech, a tone and colour bars, for as long as it is polled.
async fn publish(sent: Arc<Sent>, speech: FrameSender, tone: FrameSender, bars: FrameSender) {
    let mut recording = Vec::new();
    for mut reader in open_all(SPEECH, &OpenOptions::default()).unwrap() {
        recording.extend(std::iter::from_fn(|| reader.next_frame().unwrap()).map(|it| it.data));
    }
    let mut generator = Tone::new(Law::Ulaw, 440.0, -12.0);
    let mut pictures = ColourBars::new(320, 180, 25);
    let mut tick = tokio::time::interval(TICK);
    for n in 0.. {
        tick.tick().await;
        let data = recording[n as usize % recording.len()].clone();
        sent.sounds.lock().unwrap().push(data.clone());
        speech.send(MediaFrame { data, timestamp: n * 960 }).unwrap();
        let data = generator.frame().data;
        tone.send(MediaFrame { data, timestamp: n * 160 }).unwrap();
        if n % 2 == 0 {
            let picture = pictures.frame();
            sent.pictures.lock().unwrap().push(picture.data.clone());
            let timestamp = picture.timestamp;
            bars.send(MediaFrame { data: picture.data, timestamp }).unwrap();
        }
        sent.ticks.store(n + 1, Ordering::Relaxed);
    }
}

/// Somebody who records until killed: where, after what time, and what had been sent by then.
struct Killed {
    directory: PathBuf,
    after: Duration,
    ticks: u64,
}

async fn recorder(
    url: String,
    directory: PathBuf,
    files: &str,
    after: Duration,
    sent: &Sent,
) -> Killed {
    let mut process = Command::new(env!("CARGO_BIN_EXE_ortc"))
        .args(["call", "--signal", &url, "--record-as", files, "--record"])
        .arg(&directory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = process.stderr.take().unwrap();
    let connected = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(stderr).lines();
        while !lines.next().unwrap().unwrap().ends_with(": connected") {}
        // Whatever else is said, nobody waits for it to be read.
        lines
    });
    let lines = patiently(connected).await.unwrap();
    let _ = timeout(after, pending::<()>()).await;
    let ticks = sent.ticks.load(Ordering::Relaxed);
    process.kill().unwrap();
    process.wait().unwrap();
    drop(lines);
    Killed { directory, after, ticks }
}

/// Frames of a file by their kinds.
fn frames(file: &Path) -> Vec<(ortc_media::MediaFormat, Vec<Bytes>)> {
    let readers = open_all(file, &OpenOptions::default()).unwrap();
    let all = readers.into_iter().map(|mut reader| {
        let format = reader.format();
        let frames = std::iter::from_fn(|| reader.next_frame().unwrap()).map(|it| it.data);
        (format, frames.collect())
    });
    all.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_at_any_moment_leaves_files_that_play_up_to_the_last_second() {
    needs("ffmpeg", "ffmpeg");
    let scratch = Scratch::new("killed");
    let server = Running::start(RoomLimits::default()).await;
    let publisher = server.join("x").await;
    let sent = Arc::<Sent>::default();
    let speech = publisher.publish("talk", MediaFormat::Opus);
    let tone = publisher.publish("tone", MediaFormat::Ulaw);
    let bars = publisher.publish("talk", MediaFormat::Vp8);
    let publishing = tokio::spawn(publish(Arc::clone(&sent), speech, tone, bars));
    let mut random = fastrand::Rng::with_seed(7);
    let mut files = 0;
    for round in 0..5 {
        let recorders = (0..10).map(|n| {
            let kinds = ["tracks", "webm", "mkv"][(round + n) % 3];
            let directory = scratch.0.join(format!("{round}-{n}"));
            let after = Duration::from_millis(random.u64(100..3_500));
            recorder(server.room("x"), directory, kinds, after, &sent)
        });
        for killed in futures_util::future::join_all(recorders).await {
            let entries = fs::read_dir(&killed.directory).unwrap();
            let recorded: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            assert!(!recorded.is_empty() || killed.after.as_millis() < 2_000);
            for file in recorded {
                plays(&file);
                files += 1;
                for (format, frames) in frames(&file) {
                    let sent = match format {
                        ortc_media::MediaFormat::Opus => sent.sounds.lock().unwrap(),
                        ortc_media::MediaFormat::Vp8 => sent.pictures.lock().unwrap(),
                        // One period of a tone is like another.
                        _ => continue,
                    };
                    let per_frame = if format.is_video() { 2 } else { 1 };
                    // A little more may have come while it was being killed.
                    let by_then = (killed.ticks / per_frame) as usize;
                    let sent = &sent[..sent.len().min(by_then + 10)];
                    let last = frames.last().unwrap();
                    let at = sent.iter().rposition(|it| it == last).unwrap();
                    let missing = by_then.saturating_sub(at + 1) as u64 * per_frame;
                    assert!(
                        missing <= LAST_MOMENTS,
                        "{} ends {missing} ticks before it was killed, after {:?}",
                        file.display(),
                        killed.after
                    );
                }
            }
        }
    }
    assert!(files >= 80, "{files}");
    publishing.abort();
    drop(publisher);
    server.stop().await;
}

fn summary(caller: Child) -> Value {
    let output = caller.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_file_of_sound_and_pictures_is_played_and_recorded_as_one_and_in_step() {
    let server = Serving::start();
    let scratch = Scratch::new("as-one");
    let pictures =
        "color=black:s=192x144:r=25:d=2[a];color=white:s=192x144:r=25:d=2[b];[a][b]concat";
    let sound = "aevalsrc='if(gte(t,2),0.5*sin(2*PI*1000*t),0)':s=48000:d=4";
    let inputs = ["-y", "-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", sound];
    // In WebM, and with a codec that WebM does not have.
    let x264 =
        ["-c:v", "libx264", "-bf", "0", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "libopus"];
    let vpx = ["-c:v", "libvpx", "-g", "25", "-c:a", "libopus"];
    for (name, codecs, codec, recorded) in
        [("av.webm", &vpx[..], "vp8", "webm"), ("av.mkv", &x264[..], "h264", "mkv")]
    {
        let played = scratch.0.join(name);
        let played = played.to_str().unwrap();
        run("ffmpeg", &[&inputs[..], codecs, &[played]].concat());
        let directory = scratch.0.join(codec);
        let record = ["--record", directory.to_str().unwrap(), "--record-as", "webm", "--json"];
        let player = server.call(codec, &["--play", played, "--json"]);
        let recorder = server.call(codec, &record);
        let (player, recorder) = (summary(player), summary(recorder));
        let sent = player["sent"].as_array().unwrap();
        assert_eq!(
            (sent.len(), &sent[0]["complete"], &sent[1]["complete"]),
            (2, &true.into(), &true.into())
        );
        let received = recorder["received"].as_array().unwrap();
        let video = received.iter().find(|track| track["kind"] == "video").unwrap();
        let audio = received.iter().find(|track| track["kind"] == "audio").unwrap();
        assert_eq!((&video["codec"], &audio["codec"]), (&codec.into(), &"opus".into()));
        assert_eq!(video["file"], audio["file"], "in one file");
        for track in [video, audio] {
            assert_eq!((&track["lost"], &track["undecodable"]), (&0.into(), &0.into()));
            let seconds = track["duration_seconds"].as_f64().unwrap();
            assert!((3.8..4.3).contains(&seconds), "{track}");
        }
        let file = PathBuf::from(video["file"].as_str().unwrap());
        assert_eq!(file.extension().unwrap(), recorded);
        plays(&file);
        let (white, onset) = changes(&file);
        assert!((white - onset).abs() < 0.04, "{name}: {white} and {onset}");
        // What was recorded is played like any other file.
        let all = frames(&file);
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|(_, frames)| frames.len() >= 95), "{name}");
        let length = run(
            "ffprobe",
            &["-show_entries", "format=duration", "-of", "csv=p=0", file.to_str().unwrap()],
        );
        let length: f64 = String::from_utf8(length).unwrap().trim().parse().unwrap();
        assert!((3.8..4.3).contains(&length), "{length}");
    }
}
