//! How well sound and pictures of a file are in step, as ffmpeg sees it.

use std::path::Path;
use std::process::Command;

/// Runs `ffmpeg` or `ffprobe`, which has nothing to complain of; what it has written.
pub fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(["-v", "error"])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; apt-get install ffmpeg"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""), "{program} {arguments:?}");
    output.stdout
}

/// When black becomes white, and when a tone begins, in seconds.
pub fn changes(file: &Path) -> (f64, f64) {
    let name = file.to_str().unwrap();
    let movie = format!("movie={name},signalstats");
    let entries = "frame=pts_time:frame_tags=lavfi.signalstats.YAVG";
    let frames =
        run("ffprobe", &["-f", "lavfi", "-i", &movie, "-show_entries", entries, "-of", "csv=p=0"]);
    let frames = String::from_utf8(frames).unwrap();
    let white = frames.lines().find_map(|line| {
        let (time, luma) = line.split_once(',').unwrap();
        let luma: f64 = luma.trim_end_matches(',').parse().unwrap();
        (luma > 128.0).then(|| time.parse::<f64>().unwrap())
    });
    let filled = "aresample=async=1:first_pts=0";
    let options = ["-map", "0:a", "-af", filled, "-ac", "1", "-ar", "8000", "-f", "s16le", "-"];
    let sound = run("ffmpeg", &[&["-copyts", "-i", name][..], &options].concat());
    let samples = sound.chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]]));
    let onset = samples.map(i16::unsigned_abs).position(|level| level > 2_000);
    (white.unwrap(), onset.unwrap() as f64 / 8_000.0)
}
