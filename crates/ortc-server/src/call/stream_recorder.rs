//! Records the tracks of a received stream in one file.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ortc_media::{Container, MatroskaTrackError, MatroskaWriter, MediaFormat};

use super::new_file::{NewFile, NewPath};
use super::recorder::{RecordError, file_stem};

/// Writes the tracks of one stream into `DIR/NAME.webm` or `DIR/NAME.mkv`, as they come.
///
/// A file is made with the first frame that can be decoded by itself, and never over one that is
/// there: `NAME-2.webm` follows. A track that comes later, or takes the place of one that has ended,
/// goes on in the same file. Where a codec comes that the file cannot hold, another one begins.
pub(super) struct StreamRecorder {
    directory: PathBuf,
    stem: String,
    container: Container,
    file: Option<StreamFile>,
}

struct StreamFile {
    path: NewPath,
    writer: MatroskaWriter<BufWriter<NewFile>>,
    /// Where in the stream the file begins.
    begins: Duration,
    tracks: Vec<FileTrack>,
}

/// A track of a file, and whose frames go there; `None` if that one has ended.
struct FileTrack {
    source: Option<u64>,
    format: MediaFormat,
    number: usize,
}

/// What became of a frame.
#[derive(Debug)]
pub(super) enum Recorded {
    /// It goes into this file.
    In(NewPath),
    /// It is not recorded, as only a key frame can be the first of a track.
    WantsKeyFrame,
}

impl StreamRecorder {
    pub(super) fn new(directory: &Path, name: &str, container: Container) -> Self {
        let stem = file_stem(name);
        Self { directory: directory.to_owned(), stem, container, file: None }
    }

    /// Has the next file be one that this format may be in.
    pub(super) fn expect(&mut self, format: MediaFormat) {
        if !self.container.takes(format) {
            self.container = Container::Matroska;
        }
    }

    /// Takes a frame of a track. What is no key frame has to follow one.
    pub(super) fn push(
        &mut self,
        source: u64,
        format: MediaFormat,
        position: Duration,
        data: &[u8],
    ) -> Result<Recorded, RecordError> {
        let is_known = |track: &FileTrack| track.source == Some(source) && track.format == format;
        let is_free = |track: &FileTrack| track.source.is_none() && track.format == format;
        let number = match &mut self.file {
            Some(file) => {
                let tracks = &mut file.tracks;
                let at = tracks.iter().position(is_known).or_else(|| {
                    // Only what can be the first frame may take the place of another source.
                    let at = tracks.iter().position(is_free)?;
                    format.is_key_frame(data).then_some(at)
                });
                at.map(|at| {
                    tracks[at].source = Some(source);
                    tracks[at].number
                })
            }
            None => None,
        };
        let number = match number {
            Some(number) => number,
            None => match self.add_track(source, format, position, data)? {
                Some(number) => number,
                None => return Ok(Recorded::WantsKeyFrame),
            },
        };
        let Some(file) = &mut self.file else { return Ok(Recorded::WantsKeyFrame) };
        let written = file.writer.write(number, position.saturating_sub(file.begins), data);
        match written {
            Ok(()) => Ok(Recorded::In(file.path.clone())),
            Err(source) => Err(RecordError::File { path: file.path.shown(), source }),
        }
    }

    /// Adds a track that begins with this frame, to the file that is there or to a new one; its
    /// number, or `None` if it has to begin with another frame.
    fn add_track(
        &mut self,
        source: u64,
        format: MediaFormat,
        position: Duration,
        data: &[u8],
    ) -> Result<Option<usize>, RecordError> {
        if !format.is_key_frame(data) {
            return Ok(None);
        }
        self.expect(format);
        for _ in 0..2 {
            if self.file.is_none() {
                let end = format!(".{}", self.container.file_extension());
                let file = NewFile::new(&self.directory, &self.stem, end);
                let path = file.path();
                let writer = MatroskaWriter::new(BufWriter::new(file), self.container);
                self.file = Some(StreamFile { path, writer, begins: position, tracks: Vec::new() });
            }
            let Some(file) = &mut self.file else { break };
            match file.writer.add_track(format, data) {
                Ok(number) => {
                    file.tracks.push(FileTrack { source: Some(source), format, number });
                    return Ok(Some(number));
                }
                Err(MatroskaTrackError::Undescribed(_)) => break,
                // It goes on in another file.
                Err(_) => self.end_file()?,
            }
        }
        Ok(None)
    }

    /// A track has ended: another one may take its place.
    pub(super) fn end_track(&mut self, source: u64) {
        let tracks = self.file.iter_mut().flat_map(|file| &mut file.tracks);
        for track in tracks.filter(|track| track.source == Some(source)) {
            track.source = None;
        }
    }

    /// Writes what is on its way to the file: to be called once a second at least, so that little is
    /// lost however this ends.
    pub(super) fn flush(&mut self) -> Result<(), RecordError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let path = &file.path;
        let failed = |source| RecordError::File { path: path.shown(), source };
        file.writer.flush().map_err(failed)
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> Result<(), RecordError> {
        self.end_file()
    }

    fn end_file(&mut self) -> Result<(), RecordError> {
        let Some(StreamFile { path, writer, .. }) = self.file.take() else { return Ok(()) };
        writer.finish().map(drop).map_err(|source| RecordError::File { path: path.shown(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ortc_media::{ColourBars, MatroskaReader};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A directory of its own for a test, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("ortc-stream-recorder-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        /// Track and time in ms of each frame of a file.
        fn frames(&self, name: &str) -> Vec<(u64, u128)> {
            let file = fs::read(self.0.join(name)).unwrap();
            let mut reader = MatroskaReader::new(&file[..]).unwrap();
            let frames = std::iter::from_fn(|| reader.next_frame().unwrap());
            frames.map(|frame| (frame.track, frame.position.as_millis())).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn is_recorded(result: Result<Recorded, RecordError>) -> bool {
        matches!(result.unwrap(), Recorded::In(_))
    }

    #[test]
    fn tracks_that_come_and_go_are_in_one_file() {
        let scratch = Scratch::new("come-and-go");
        let mut recorder = StreamRecorder::new(&scratch.0, "a/b", Container::WebM);
        let mut bars = ColourBars::new(64, 64, 30);
        let mut larger = ColourBars::new(128, 64, 30);
        let mut push = |source, format, ms, data: &[u8]| {
            is_recorded(recorder.push(source, format, ms * MS, data))
        };
        assert!(push(1, MediaFormat::Opus, 100, &[0x78, 1]));
        assert!(!push(2, MediaFormat::Vp8, 110, &[0x11, 0, 0]), "no key frame yet");
        assert!(push(2, MediaFormat::Vp8, 150, &bars.frame().data));
        // Another layer of the same source, and a pause.
        assert!(push(2, MediaFormat::Vp8, 5_000, &larger.frame().data));
        recorder.end_track(2);
        let mut push = |source, format, ms, data: &[u8]| {
            is_recorded(recorder.push(source, format, ms * MS, data))
        };
        assert!(!push(3, MediaFormat::Vp8, 5_500, &[0x11, 0, 0]), "it begins with a key frame");
        assert!(push(3, MediaFormat::Vp8, 5_533, &bars.frame().data));
        assert!(push(3, MediaFormat::Vp8, 5_566, &[0x11, 0, 0]));
        recorder.finish().unwrap();
        assert_eq!(scratch.names(), ["a_b.webm"]);
        let expected = [(1, 0), (2, 50), (2, 4_900), (2, 5_433), (2, 5_466)];
        assert_eq!(scratch.frames("a_b.webm"), expected);
    }

    #[test]
    fn a_codec_that_a_file_cannot_hold_begins_another() {
        let scratch = Scratch::new("another");
        let record = |expected: Option<MediaFormat>| {
            let mut recorder = StreamRecorder::new(&scratch.0, "x", Container::WebM);
            expected.into_iter().for_each(|format| recorder.expect(format));
            for (ms, format) in
                [(0, MediaFormat::Opus), (20, MediaFormat::Ulaw), (40, MediaFormat::Opus)]
            {
                assert!(is_recorded(recorder.push(1, format, ms * MS, &[0x78, 1])));
            }
            recorder.finish().unwrap();
        };
        record(None);
        assert_eq!(scratch.names(), ["x.mkv", "x.webm"]);
        assert_eq!(scratch.frames("x.webm"), [(1, 0)]);
        assert_eq!(scratch.frames("x.mkv"), [(1, 0), (2, 20)]);
        record(Some(MediaFormat::Ulaw));
        assert_eq!(scratch.names(), ["x-2.mkv", "x.mkv", "x.webm"]);
    }

    #[test]
    fn nothing_leaves_no_file() {
        let scratch = Scratch::new("nothing");
        let mut recorder = StreamRecorder::new(&scratch.0, "x", Container::Matroska);
        assert!(!is_recorded(recorder.push(1, MediaFormat::H264, MS, &[0, 0, 0, 1, 0x65, 1])));
        recorder.flush().unwrap();
        recorder.finish().unwrap();
        assert!(scratch.names().is_empty());
    }
}
