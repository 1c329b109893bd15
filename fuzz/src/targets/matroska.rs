//! WebM and Matroska files: of others, and as they are written from frames of any kind.

use std::io::Cursor;
use std::time::Duration;

use ortc_media::{Container, MatroskaReader, MatroskaWriter, MediaFormat};

use crate::Dice;

/// Frames that are read of one file: an input has no more bytes than that.
const MAX_FRAMES: usize = 100_000;

const FORMATS: [MediaFormat; 7] = [
    MediaFormat::Opus,
    MediaFormat::Alaw,
    MediaFormat::Ulaw,
    MediaFormat::Vp8,
    MediaFormat::Vp9,
    MediaFormat::Av1,
    MediaFormat::H264,
];

pub(crate) fn run(data: &[u8]) {
    read(data);
    write(data);
}

fn read(data: &[u8]) {
    let Ok(mut reader) = MatroskaReader::new(data) else { return };
    let tracks = reader.tracks();
    let mut frames = 0;
    while let Ok(Some(frame)) = reader.next_frame() {
        frames += 1;
        assert!(frames <= MAX_FRAMES, "it never ends");
        let track = tracks.iter().find(|track| track.number == frame.track);
        assert!(track.is_some_and(|track| track.format.is_some()), "of a track that can be read");
        assert!(!frame.data.is_empty());
    }
}

/// Writes what the input says; whatever it is, it is read as it was written.
fn write(data: &[u8]) {
    let mut dice = Dice::new(data);
    let kind = if dice.byte() & 1 == 0 { Container::WebM } else { Container::Matroska };
    let mut writer = MatroskaWriter::new(Cursor::new(Vec::new()), kind);
    let mut tracks = Vec::new();
    let mut position = Duration::ZERO;
    let mut sounds = Vec::new();
    while !dice.is_over() {
        let step = dice.byte();
        position += Duration::from_micros(u64::from(dice.short()) * 100);
        let data = dice.bytes();
        match step % 8 {
            0 => {
                let format = FORMATS[usize::from(step >> 3) % FORMATS.len()];
                if let Ok(track) = writer.add_track(format, data) {
                    tracks.push((track, format));
                }
            }
            1 => writer.flush().expect("memory"),
            _ if tracks.is_empty() => {}
            _ => {
                let (track, format) = tracks[usize::from(step) % tracks.len()];
                writer.write(track, position, data).expect("memory");
                let is_sound = format == MediaFormat::Opus || format == MediaFormat::Ulaw;
                if is_sound && !data.is_empty() {
                    sounds.push((track as u64 + 1, data.to_vec()));
                }
            }
        }
    }
    let (file, counts) = writer.finish().expect("memory");
    if counts.frames == 0 {
        assert!(file.get_ref().is_empty());
        return;
    }
    let mut reader = MatroskaReader::new(file.get_ref().as_slice()).expect("it was written");
    let known = reader.tracks();
    assert_eq!(known.len(), tracks.len());
    let mut read = Vec::new();
    while let Some(frame) = reader.next_frame().expect("it was written") {
        let format = known.iter().find(|track| track.number == frame.track);
        let is_sound = matches!(
            format.and_then(|track| track.format),
            Some(MediaFormat::Opus | MediaFormat::Ulaw)
        );
        if is_sound {
            read.push((frame.track, frame.data.to_vec()));
        }
    }
    assert!(!reader.is_truncated());
    assert_eq!(read, sounds);
}
