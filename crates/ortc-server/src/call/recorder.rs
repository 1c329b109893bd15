//! Records a received track.

use std::fmt;
use std::fs;
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ortc_api::{CodecName, RTCTrackDescription, ReceivedFrame, TrackKind};
use ortc_media::{
    AnnexBWriter, IvfWriter, Law, MediaCounts, MediaFormat, MediaWriter, OggOpusConfig,
    OggOpusWriter, WavWriter,
};

use super::new_file::{NewFile, NewPath};

/// Most files that are told of for one track; a sender that changes its codec more often than
/// this has its sound and pictures recorded all the same.
pub(super) const MAX_TOLD: usize = 100;

/// Longest part of a file's name that comes from the network.
const MAX_STEM: usize = 64;

/// Why a track cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The directory cannot be made or is none.
    #[error("cannot record into {path}: {source}", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be created or written.
    #[error("cannot write {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A finished recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// The files: none if not a single frame could be recorded, and one more each time the
    /// codec changed; at most 100 are named.
    pub files: Vec<PathBuf>,
    /// What is in the first file.
    pub format: Option<MediaFormat>,
    /// Length of all files, filled gaps included.
    pub duration: Duration,
    /// When the first recorded frame came.
    pub began: Option<Instant>,
    /// Frames in the files.
    pub frames: u64,
    /// Frames of video that came before the first key frame: not recorded.
    pub before_key: u64,
    /// Frames of video that need one that is missing: not recorded.
    pub undecodable: u64,
    /// Frames whose time had passed: not recorded.
    pub late: u64,
}

/// Writes one track into `DIR/NAME-audio.EXT` or `DIR/NAME-video.EXT`, as it arrives.
///
/// What a file is follows from the codec: Ogg for Opus, WAV for A-law and µ-law, IVF for VP8,
/// VP9 and AV1, a byte stream for H.264. It is made with the first frame, for video with the
/// first key frame, and never over one that is there: `NAME-2-audio.EXT` follows. Frames that a
/// decoder would stumble over are left out, up to the next key frame. When the sender changes
/// its codec, a new file begins.
pub struct Recorder {
    directory: PathBuf,
    stem: String,
    kind: &'static str,
    formats: Vec<(u8, MediaFormat)>,
    file: Option<(NewPath, Box<dyn MediaWriter>)>,
    done: Recording,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, stem, kind, formats, done, .. } = self;
        f.debug_struct("Recorder")
            .field("directory", directory)
            .field("stem", stem)
            .field("kind", kind)
            .field("formats", formats)
            .field("file", &self.file.as_ref().map(|(path, _)| path.shown()))
            .field("done", done)
            .finish()
    }
}

impl Recorder {
    /// Makes the directory for recordings, if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or nothing can be made in it.
    pub fn prepare(directory: &Path) -> Result<(), RecordError> {
        let failed = |source| RecordError::Directory { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        if fs::metadata(directory).map_err(failed)?.permissions().readonly() {
            return Err(failed(ErrorKind::PermissionDenied.into()));
        }
        Ok(())
    }

    /// A recorder for a track, named after its first stream, or its SSRC if it is in none.
    pub fn new(directory: &Path, description: &RTCTrackDescription) -> Self {
        let name = description.msid.first().unwrap_or(&description.ssrc);
        let format = |codec: &ortc_api::RTCCodec| {
            Some((codec.payload_id, codec.known().and_then(media_format)?))
        };
        Self {
            directory: directory.to_owned(),
            stem: file_stem(name),
            kind: if description.kind == TrackKind::Video { "video" } else { "audio" },
            formats: description.codecs.iter().filter_map(format).collect(),
            file: None,
            done: Recording::default(),
        }
    }

    /// Takes a frame; they have to come in order.
    ///
    /// # Errors
    /// The file cannot be created or written. Do not go on after one.
    pub fn push(&mut self, frame: &ReceivedFrame) -> Result<(), RecordError> {
        let known = self.formats.iter().find(|(id, _)| *id == frame.payload_id);
        // Whoever made frames of the packets knew the codec.
        let Some(&(_, format)) = known else { return Ok(()) };
        if self.file.as_ref().is_some_and(|(_, writer)| writer.format() != format) {
            self.end_file()?;
        }
        let (path, writer) = match &mut self.file {
            Some(_) if !frame.intact => {
                self.done.undecodable += 1;
                return Ok(());
            }
            Some(file) => file,
            None if !frame.intact || !frame.key => {
                self.done.before_key += 1;
                return Ok(());
            }
            none => {
                let file = create(&self.directory, &self.stem, self.kind, format, &frame.data)?;
                self.done.format.get_or_insert(format);
                self.done.began.get_or_insert(frame.received_at);
                none.insert(file)
            }
        };
        let written = writer.write(frame.timestamp, &frame.data);
        written.map_err(|source| RecordError::File { path: path.shown(), source })
    }

    /// Writes what is on its way to the file: call it once a second, so that little is lost
    /// however this ends.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        let Some((path, writer)) = &mut self.file else { return Ok(()) };
        writer.flush().map_err(|source| RecordError::File { path: path.shown(), source })
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<Recording, RecordError> {
        self.end_file()?;
        Ok(self.done)
    }

    fn end_file(&mut self) -> Result<(), RecordError> {
        let Some((path, writer)) = self.file.take() else { return Ok(()) };
        let format = writer.format();
        let finished = writer.finish();
        let failed = |source| RecordError::File { path: path.shown(), source };
        let counts = finished.map_err(failed)?;
        if let Some(made) = path.made()
            && self.done.files.len() < MAX_TOLD
        {
            self.done.files.push(made.to_owned());
        }
        self.done.duration += duration(format, &counts);
        self.done.frames += counts.frames;
        self.done.late += counts.late;
        self.done.before_key += counts.before_key;
        Ok(())
    }
}

/// Length of a file.
fn duration(format: MediaFormat, counts: &MediaCounts) -> Duration {
    // Video is counted up to the beginning of its last frame, which lasts as long as the others.
    let last = match counts.frames {
        2.. if format.is_video() => counts.duration / (counts.frames - 1),
        _ => 0,
    };
    let micros = u128::from(counts.duration + last) * 1_000_000 / u128::from(format.clock_rate());
    Duration::from_micros(micros as u64)
}

pub(super) fn media_format(codec: CodecName) -> Option<MediaFormat> {
    Some(match codec {
        CodecName::Opus => MediaFormat::Opus,
        CodecName::Alaw => MediaFormat::Alaw,
        CodecName::Ulaw => MediaFormat::Ulaw,
        CodecName::Vp8 => MediaFormat::Vp8,
        CodecName::Vp9 => MediaFormat::Vp9,
        CodecName::Av1 => MediaFormat::Av1,
        CodecName::H264 => MediaFormat::H264,
        _ => return None,
    })
}

fn create(
    directory: &Path,
    stem: &str,
    kind: &str,
    format: MediaFormat,
    first: &[u8],
) -> Result<(NewPath, Box<dyn MediaWriter>), RecordError> {
    let file = NewFile::new(directory, stem, format!("-{kind}.{}", format.file_extension()));
    let path = file.path();
    match writer(BufWriter::new(file), format, first) {
        Ok(writer) => Ok((path, writer)),
        Err(source) => Err(RecordError::File { path: path.shown(), source }),
    }
}

fn writer(
    file: BufWriter<NewFile>,
    format: MediaFormat,
    first: &[u8],
) -> io::Result<Box<dyn MediaWriter>> {
    Ok(match format {
        MediaFormat::Opus => {
            // RTP always announces two channels (RFC 7587 §7); the first packet says what it
            // has (RFC 6716 §3.1).
            let channels = if first.first().is_some_and(|toc| toc & 0x04 != 0) { 2 } else { 1 };
            let config = OggOpusConfig { channels, ..OggOpusConfig::default() };
            Box::new(OggOpusWriter::new(file, config).map_err(io::Error::other)?)
        }
        MediaFormat::Alaw => Box::new(WavWriter::new(file, Law::Alaw)?),
        MediaFormat::Ulaw => Box::new(WavWriter::new(file, Law::Ulaw)?),
        MediaFormat::H264 => Box::new(AnnexBWriter::new(file)),
        other => match IvfWriter::new(file, other) {
            Some(writer) => Box::new(writer),
            None => return Err(ErrorKind::Unsupported.into()),
        },
    })
}

/// What of a name may be in the name of a file, everywhere.
pub(super) fn file_stem(name: &str) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let stem: String = name.chars().take(MAX_STEM).map(harmless).collect();
    if stem.is_empty() { "track".to_owned() } else { stem }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use bytes::Bytes;
    use ortc_media::{ColourBars, OggOpusReader, OpenOptions, open};

    use super::*;

    /// A directory of its own for a test, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("ortc-recorder-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            Recorder::prepare(&path).unwrap();
            Self(path)
        }

        fn recorder(&self, msid: &str, codecs: &[CodecName]) -> Recorder {
            let description = RTCTrackDescription {
                kind: codecs[0].kind(),
                ssrc: "1".into(),
                msid: vec![msid.into()],
                codecs: codecs.iter().map(|codec| codec.default_codec()).collect(),
                media_attributes: None,
                rtp_ext_headers: None,
                header_extensions: Vec::new(),
                rtx_ssrc: None,
                encodings: Vec::new(),
            };
            Recorder::new(&self.0, &description)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn frame(codec: CodecName, timestamp: u64, data: &[u8]) -> ReceivedFrame {
        ReceivedFrame {
            data: Bytes::copy_from_slice(data),
            timestamp,
            sequence: 0,
            payload_id: codec.default_codec().payload_id,
            key: true,
            intact: true,
            received_at: Instant::now(),
            clock_rate: codec.default_clock_rate(),
            capture_time: None,
            lost_before: 0,
        }
    }

    fn opus(mark: u8) -> ReceivedFrame {
        frame(CodecName::Opus, 7_000 + u64::from(mark) * 960, &[0x78, mark])
    }

    #[test]
    fn a_track_is_recorded_in_length() {
        let scratch = Scratch::new("length");
        let mut recorder = scratch.recorder("../a b", &[CodecName::Opus]);
        let first = opus(0);
        recorder.push(&first).unwrap();
        // 4 is lost, 3 comes twice.
        for mark in [1, 2, 3, 3, 5, 6] {
            recorder.push(&opus(mark)).unwrap();
        }
        let recording = recorder.finish().unwrap();
        let path = scratch.0.join("___a_b-audio.ogg");
        let expected = Recording {
            files: vec![path.clone()],
            format: Some(MediaFormat::Opus),
            duration: Duration::from_millis(140),
            began: Some(first.received_at),
            frames: 6,
            late: 1,
            ..Recording::default()
        };
        assert_eq!(recording, expected);

        let mut reader = OggOpusReader::new(File::open(path).unwrap()).unwrap();
        let mut marks = Vec::new();
        while let Some(packet) = reader.read_packet().unwrap() {
            marks.push(packet.data.get(1).copied());
        }
        assert_eq!(marks, [Some(0), Some(1), Some(2), Some(3), None, Some(5), Some(6)]);
    }

    #[test]
    fn pictures_that_cannot_be_decoded_are_left_out() {
        let scratch = Scratch::new("pictures");
        let mut recorder = scratch.recorder("x", &[CodecName::Vp8]);
        let mut bars = ColourBars::new(64, 64, 30);
        let bars: Vec<_> = (0..6).map(|_| bars.frame()).collect();
        // Before the first key frame, whole, whole, without its reference twice, whole.
        for (bar, intact) in bars.iter().zip([false, true, true, false, false, true]) {
            let timestamp = 5_000_000 + bar.timestamp;
            let mut frame = frame(CodecName::Vp8, timestamp, &bar.data);
            (frame.key, frame.intact) = (intact, intact);
            recorder.push(&frame).unwrap();
        }
        let recording = recorder.finish().unwrap();
        assert_eq!((recording.frames, recording.before_key, recording.undecodable), (3, 1, 2));
        // From the second frame to the sixth, and half of that for the last.
        assert_eq!(recording.duration.as_millis(), 200);
        assert_eq!(recording.files, [scratch.0.join("x-video.ivf")]);
        let mut reader = open(&recording.files[0], &OpenOptions::default()).unwrap();
        let read = std::iter::from_fn(|| reader.next_frame().unwrap());
        let read: Vec<_> = read.map(|frame| (frame.timestamp, frame.data)).collect();
        let expected = [1, 2, 5].map(|at| (bars[at].timestamp - 3_000, bars[at].data.clone()));
        assert_eq!(read, expected);
    }

    #[test]
    fn another_codec_begins_another_file() {
        let scratch = Scratch::new("change");
        let mut recorder = scratch.recorder("x", &[CodecName::Opus, CodecName::Ulaw]);
        let ulaw = |n: u64| frame(CodecName::Ulaw, 900_000 + n * 160, &[0xff; 160]);
        for frame in [opus(0), opus(1), ulaw(0), ulaw(1), ulaw(2), opus(9)] {
            recorder.push(&frame).unwrap();
        }
        let recording = recorder.finish().unwrap();
        let names = ["x-audio.ogg", "x-audio.wav", "x-2-audio.ogg"];
        assert_eq!(recording.files, names.map(|name| scratch.0.join(name)));
        assert_eq!(recording.format, Some(MediaFormat::Opus));
        assert_eq!((recording.frames, recording.duration.as_millis()), (6, 120));
    }

    #[test]
    fn a_file_is_named_and_made_by_the_codec() {
        let scratch = Scratch::new("named");
        for (codec, data, name) in [
            (CodecName::Alaw, &[0xd5; 160][..], "audio.wav"),
            (CodecName::H264, &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 1][..], "video.h264"),
        ] {
            let mut recorder = scratch.recorder("x", &[codec]);
            recorder.push(&frame(codec, 0, data)).unwrap();
            let recording = recorder.finish().unwrap();
            assert_eq!(recording.files, [scratch.0.join(format!("x-{name}"))]);
            let reader = open(&recording.files[0], &OpenOptions::default()).unwrap();
            assert_eq!(reader.format(), media_format(codec).unwrap());
        }
    }

    #[test]
    fn nothing_is_written_over() {
        let scratch = Scratch::new("over");
        let record = || {
            let mut recorder = scratch.recorder("x", &[CodecName::Opus]);
            recorder.push(&opus(0)).unwrap();
            recorder.finish().unwrap().files
        };
        assert_eq!(record(), [scratch.0.join("x-audio.ogg")]);
        assert_eq!(record(), [scratch.0.join("x-2-audio.ogg")]);
    }

    #[test]
    fn silence_leaves_no_file() {
        let scratch = Scratch::new("silence");
        let recording = scratch.recorder("x", &[CodecName::Opus]).finish().unwrap();
        assert_eq!(recording, Recording::default());
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    }

    #[test]
    fn the_first_packet_says_how_many_channels() {
        let scratch = Scratch::new("channels");
        let mut recorder = scratch.recorder("", &[CodecName::Opus]);
        recorder.push(&frame(CodecName::Opus, 0, &[0x7c, 1])).unwrap();
        let files = recorder.finish().unwrap().files;
        assert_eq!(files, [scratch.0.join("track-audio.ogg")]);
        assert_eq!(OggOpusReader::new(File::open(&files[0]).unwrap()).unwrap().channels(), 2);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let error = Recorder::prepare(Path::new(file)).unwrap_err().to_string();
        assert_eq!(error, format!("cannot record into {file}: File exists (os error 17)"));
    }
}
