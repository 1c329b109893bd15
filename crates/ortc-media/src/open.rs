//! Files by what is in them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read};
use std::path::Path;

use crate::matroska::TrackReader;
use crate::sniff::looks_like;
use crate::wav::read_full;
use crate::{
    AnnexBReader, AnnexBWriter, IvfReader, IvfWriter, Law, MatroskaReader, MediaCounts,
    MediaFormat, MediaFrame, MediaReadError, MediaReader, MediaWriter, OggOpusConfig,
    OggOpusReader, OggOpusWriteError, OggOpusWriter, WavReader, WavWriter,
};

/// How files are read that leave something open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// The law in which a WAV file is sent; `None` for its own, and µ-law for PCM. Default
    /// `None`.
    pub law: Option<Law>,
    /// Frames in a second of H.264, which has no times, as a fraction. Default (30, 1).
    pub frame_rate: (u32, u32),
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { law: None, frame_rate: (30, 1) }
    }
}

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such file, or it may not be read.
    #[error("cannot open {path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// There is not a single byte in it.
    #[error("{path} is empty; supported: {SUPPORTED}")]
    Empty {
        /// The file.
        path: String,
    },
    /// Its content is of no supported kind.
    #[error("{path} is no media file that can be played{}; supported: {SUPPORTED}", resemblance(*.looks_like))]
    Unsupported {
        /// The file.
        path: String,
        /// What its first bytes look like, if they are known.
        looks_like: Option<&'static str>,
    },
    /// It is of a supported kind, but cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        error: MediaReadError,
    },
}

const SUPPORTED: &str = "Ogg/Opus, WAV (PCM of 8 or 16 bits, A-law, µ-law), IVF (VP8, VP9, AV1), \
                         WebM and Matroska (of these codecs), H.264 as a byte stream (Annex B)";

fn resemblance(what: Option<&'static str>) -> String {
    what.map(|what| format!(": it looks like {what}")).unwrap_or_default()
}

/// Opens a media file. Its content says what it is; its name does not matter. Of several tracks it
/// is the first that can be read.
///
/// # Errors
/// [`OpenError`], whose message tells a user what is wrong and what is supported.
pub fn open(
    path: impl AsRef<Path>,
    options: &OpenOptions,
) -> Result<Box<dyn MediaReader>, OpenError> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| OpenError::Io { path: name.clone(), error })?;
    open_stream(BufReader::new(file), &name, options)
}

/// Opens a media file with all its tracks that can be read, in the order of the file: one, but for
/// WebM and Matroska. [`MediaReader::begins`] says how they stand to each other.
///
/// Pictures of H.264 that are shown in another order than they are decoded in (B-frames), which RTP's
/// receivers seldom take, come in the order of decoding, at ascending times.
///
/// # Errors
/// As [`open`].
pub fn open_all(
    path: impl AsRef<Path>,
    options: &OpenOptions,
) -> Result<Vec<Box<dyn MediaReader>>, OpenError> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let failed = |error| OpenError::Io { path: name.clone(), error };
    let mut file = File::open(path).map_err(failed)?;
    let mut start = [0; 4];
    let len = read_full(&mut file, &mut start).map_err(failed)?;
    if start[..len] != EBML {
        return Ok(vec![open(path, options)?]);
    }
    // Each track is read by itself: their readers keep a pace of their own.
    let unreadable = |error| OpenError::Unreadable { path: name.clone(), error };
    let reopened = || {
        let file = File::open(path).map_err(failed)?;
        MatroskaReader::new(BufReader::new(file)).map_err(unreadable)
    };
    let tracks = playable(&reopened()?).map_err(unreadable)?;
    let mut readers: Vec<Box<dyn MediaReader>> = Vec::new();
    for (number, format) in tracks {
        let reader = TrackReader::new(reopened()?, number, format).map_err(unreadable)?;
        readers.push(Box::new(reader));
    }
    Ok(readers)
}

/// The tracks of a file that can be read: their numbers and formats; at least one.
fn playable<R: Read>(
    reader: &MatroskaReader<R>,
) -> Result<Vec<(u64, MediaFormat)>, MediaReadError> {
    let tracks = reader.tracks();
    let playable: Vec<_> =
        tracks.iter().filter_map(|track| Some((track.number, track.format?))).collect();
    if playable.is_empty() {
        let found: Vec<_> = tracks.into_iter().map(|track| track.codec).collect();
        let reason = format!(
            "it has {}; Opus, A-law, µ-law, VP8, VP9, AV1 and H.264 can be read",
            found.join(", ")
        );
        return Err(MediaReadError::Matroska { reason });
    }
    Ok(playable)
}

/// Opens a media file that comes from anywhere; `name` is what errors call it.
///
/// # Errors
/// As [`open`].
pub fn open_stream(
    mut input: impl Read + Send + 'static,
    name: &str,
    options: &OpenOptions,
) -> Result<Box<dyn MediaReader>, OpenError> {
    let path = || name.to_owned();
    let mut start = [0; 16];
    let len =
        read_full(&mut input, &mut start).map_err(|error| OpenError::Io { path: path(), error })?;
    let start = &start[..len];
    if start.is_empty() {
        return Err(OpenError::Empty { path: path() });
    }
    let input = Cursor::new(start.to_vec()).chain(input);
    let unreadable = |error: MediaReadError| OpenError::Unreadable { path: path(), error };
    if start.starts_with(b"OggS") {
        let reader = OggOpusReader::new(input).map_err(|error| unreadable(error.into()))?;
        return Ok(Box::new(OggMedia { reader, timestamp: 0 }));
    }
    if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WAVE") {
        return Ok(Box::new(WavReader::new(input, options.law).map_err(unreadable)?));
    }
    if start.starts_with(b"DKIF") {
        return Ok(Box::new(IvfReader::new(input).map_err(unreadable)?));
    }
    if start.starts_with(&EBML) {
        let reader = MatroskaReader::new(input).map_err(unreadable)?;
        let tracks = playable(&reader).map_err(unreadable)?;
        let Some(&(number, format)) = tracks.first() else {
            return Err(OpenError::Unsupported { path: path(), looks_like: looks_like(start) });
        };
        return Ok(Box::new(TrackReader::new(reader, number, format).map_err(unreadable)?));
    }
    if is_h264(start) {
        return Ok(Box::new(AnnexBReader::new(input, options.frame_rate).map_err(unreadable)?));
    }
    Err(OpenError::Unsupported { path: path(), looks_like: looks_like(start) })
}

/// What WebM and Matroska begin with.
const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

/// Whether it begins with a start code and a NAL unit that a stream can begin with; MPEG-1 and
/// MPEG-2 have the same start codes.
fn is_h264(start: &[u8]) -> bool {
    let zeros = start.iter().take_while(|&&byte| byte == 0).count();
    let Some([1, head, ..]) = start.get(zeros..) else { return false };
    zeros >= 2 && head & 0x80 == 0 && matches!(head & 0x1f, 1 | 5..=9)
}

/// Makes a file for a recording of `format`; what was there is overwritten.
///
/// # Errors
/// The system's.
pub fn create(path: impl AsRef<Path>, format: MediaFormat) -> io::Result<Box<dyn MediaWriter>> {
    let output = BufWriter::new(File::create(path)?);
    Ok(match format {
        MediaFormat::Opus => {
            let config = OggOpusConfig::default();
            let writer = OggOpusWriter::new(output, config).map_err(|error| match error {
                OggOpusWriteError::Io(error) => error,
                other => io::Error::other(other),
            })?;
            Box::new(writer)
        }
        MediaFormat::Alaw => Box::new(WavWriter::new(output, Law::Alaw)?),
        MediaFormat::Ulaw => Box::new(WavWriter::new(output, Law::Ulaw)?),
        MediaFormat::Vp8 | MediaFormat::Vp9 | MediaFormat::Av1 => {
            Box::new(IvfWriter::new(output, format).expect("IVF holds these three"))
        }
        MediaFormat::H264 => Box::new(AnnexBWriter::new(output)),
    })
}

/// An Ogg/Opus file with the time of each packet.
struct OggMedia<R> {
    reader: OggOpusReader<R>,
    timestamp: u64,
}

impl<R: Read + Send> MediaReader for OggMedia<R> {
    fn format(&self) -> MediaFormat {
        MediaFormat::Opus
    }

    fn next_frame(&mut self) -> Result<Option<MediaFrame>, MediaReadError> {
        let Some(packet) = self.reader.read_packet()? else { return Ok(None) };
        let timestamp = self.timestamp;
        self.timestamp += u64::from(packet.samples);
        Ok(Some(MediaFrame { data: packet.data, timestamp, duration: packet.samples, key: true }))
    }
}

impl<W: io::Write + Send> MediaWriter for OggOpusWriter<W> {
    fn format(&self) -> MediaFormat {
        MediaFormat::Opus
    }

    fn write(&mut self, timestamp: u64, data: &[u8]) -> io::Result<()> {
        Self::write(self, timestamp, data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::flush(self)
    }

    fn finish(self: Box<Self>) -> io::Result<MediaCounts> {
        let counts = MediaWriter::counts(&*self);
        Self::finish(*self)?;
        Ok(counts)
    }

    fn counts(&self) -> MediaCounts {
        let counts = Self::counts(self);
        MediaCounts {
            frames: counts.packets,
            bytes: counts.bytes,
            duration: counts.samples,
            filled: counts.filled,
            late: counts.late,
            malformed: counts.malformed,
            before_key: 0,
            jumps: counts.jumps,
        }
    }
}
