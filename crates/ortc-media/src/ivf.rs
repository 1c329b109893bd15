//! IVF: frames of VP8, VP9 and AV1, each with its time.

use std::io::{self, Read, Seek, SeekFrom, Write};

use bytes::Bytes;

use crate::wav::read_full;
use crate::{
    MediaCounts, MediaFormat, MediaFrame, MediaReadError, MediaReader, MediaWriter, video,
};

const HEADER: usize = 32;
/// Longest frame that is read; real ones are well below.
const MAX_FRAME: usize = 4 << 20;
/// Units of a timestamp in a second.
const CLOCK: u64 = 90_000;

/// Reads an IVF file.
///
/// Memory is bounded by two frames of at most 4 MiB. A file that ends in the middle of a frame,
/// as after a crash of its writer, is read up to there.
#[derive(Debug)]
pub struct IvfReader<R> {
    input: R,
    format: MediaFormat,
    size: (u16, u16),
    /// A timestamp of the file counts `scale / rate` seconds.
    rate: u64,
    scale: u64,
    /// The time of the first frame, which becomes 0.
    first: Option<u64>,
    next: Option<(u64, Bytes)>,
    last_duration: u32,
    frames: u64,
    truncated: bool,
}

impl<R: Read> IvfReader<R> {
    /// Reads the header and the first frame.
    ///
    /// # Errors
    /// [`MediaReadError::Ivf`] says what cannot be read.
    pub fn new(mut input: R) -> Result<Self, MediaReadError> {
        let bad = |reason: String| Err(MediaReadError::Ivf { reason });
        let mut head = [0; HEADER];
        if read_full(&mut input, &mut head)? < HEADER || !head.starts_with(b"DKIF") {
            return bad("it has no whole header".into());
        }
        let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 2)) << 16;
        let format = match &head[8..12] {
            b"VP80" => MediaFormat::Vp8,
            b"VP90" => MediaFormat::Vp9,
            b"AV01" => MediaFormat::Av1,
            other => {
                let name = String::from_utf8_lossy(other);
                return bad(format!("its codec is {name:?}; VP80, VP90 and AV01 can be read"));
            }
        };
        let (rate, scale) = (word(16), word(20));
        if rate == 0 || scale == 0 {
            return bad("its time base is zero".into());
        }
        let extra = u64::from(half(6)).saturating_sub(HEADER as u64);
        io::copy(&mut (&mut input).take(extra), &mut io::sink())?;
        let mut reader = Self {
            input,
            format,
            size: (half(12), half(14)),
            rate,
            scale,
            first: None,
            next: None,
            last_duration: (scale * CLOCK / rate).clamp(1, CLOCK) as u32,
            frames: 0,
            truncated: false,
        };
        reader.next = reader.read()?;
        Ok(reader)
    }

    /// Width and height in pixels, as the header has them.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Whether the file ended in the middle of a frame.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Reads a frame with its time in units of 1/90,000 s. Empty ones, which stand where an
    /// encoder left a frame out, are skipped.
    fn read(&mut self) -> Result<Option<(u64, Bytes)>, MediaReadError> {
        loop {
            match self.read_any()? {
                Some((_, data)) if data.is_empty() => {}
                frame => return Ok(frame),
            }
        }
    }

    fn read_any(&mut self) -> Result<Option<(u64, Bytes)>, MediaReadError> {
        let mut head = [0; 12];
        match read_full(&mut self.input, &mut head)? {
            0 => return Ok(None),
            12 => {}
            _ => {
                self.truncated = true;
                return Ok(None);
            }
        }
        let (len, time) = head.split_at(4);
        let len = len.iter().rev().fold(0usize, |value, &byte| value << 8 | usize::from(byte));
        let time = time.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        if len > MAX_FRAME {
            let index = self.frames;
            return Err(MediaReadError::Ivf {
                reason: format!("frame {index} has {len} bytes; at most {MAX_FRAME} can be read"),
            });
        }
        // In steps, so that no length that a file claims is allocated before it is there.
        let mut data = Vec::new();
        (&mut self.input).take(len as u64).read_to_end(&mut data)?;
        if data.len() < len {
            self.truncated = true;
            return Ok(None);
        }
        self.frames += 1;
        let time = u128::from(time) * u128::from(self.scale * CLOCK) / u128::from(self.rate);
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let first = *self.first.get_or_insert(time);
        Ok(Some((time.saturating_sub(first), data.into())))
    }
}

impl<R: Read + Send> MediaReader for IvfReader<R> {
    fn format(&self) -> MediaFormat {
        self.format
    }

    fn next_frame(&mut self) -> Result<Option<MediaFrame>, MediaReadError> {
        let Some((timestamp, data)) = self.next.take() else { return Ok(None) };
        self.next = self.read()?;
        if let Some((next, _)) = &self.next {
            // A time that stands still or goes back is a fault of the file, which plays on.
            self.last_duration =
                next.saturating_sub(timestamp).clamp(1, u64::from(u32::MAX)) as u32;
        }
        let key = video::is_key(self.format, &data);
        Ok(Some(MediaFrame { data, timestamp, duration: self.last_duration, key }))
    }
}

/// A frame this far before the last was not late on the network, and one this far after it is
/// no pause: the sender's clock has jumped. Five seconds, and ten minutes.
const EARLIEST: i64 = -5 * CLOCK as i64;
const MAX_GAP: i64 = 600 * CLOCK as i64;
/// After a jump the file goes on as if a frame of 30 in a second had been before it.
const USUAL: u64 = CLOCK / 30;
/// The header is brought up to date after so many frames: about twice a second.
const SYNC: u64 = 15;

/// Writes VP8, VP9 or AV1 as it is received into an IVF file, from the first key frame on.
///
/// Times are in units of 1/90,000 s. The length in the header is brought up to date about twice
/// a second; players go by the frames, so a file whose writer was killed plays.
#[derive(Debug)]
pub struct IvfWriter<W> {
    output: W,
    format: MediaFormat,
    size: (u16, u16),
    /// The timestamp of the file's time 0, wrapping.
    base: u64,
    told: u64,
    counts: MediaCounts,
}

impl<W: Write + Seek> IvfWriter<W> {
    /// Begins a file of `format`: VP8, VP9 or AV1. Nothing is written before a key frame,
    /// whose size goes into the header. The output has to be at its beginning.
    ///
    /// `None` for any other format: the file cannot hold it.
    pub fn new(output: W, format: MediaFormat) -> Option<Self> {
        fourcc(format)?;
        Some(Self {
            output,
            format,
            size: (0, 0),
            base: 0,
            told: 0,
            counts: MediaCounts::default(),
        })
    }

    /// Completes the header and gives the output back.
    ///
    /// # Errors
    /// The system's.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.sync()?;
        Ok(self.output)
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"DKIF");
        put(6, &(HEADER as u16).to_le_bytes());
        put(8, fourcc(self.format).unwrap_or(b"    "));
        put(12, &self.size.0.to_le_bytes());
        put(14, &self.size.1.to_le_bytes());
        put(16, &(CLOCK as u32).to_le_bytes());
        put(20, &1u32.to_le_bytes());
        // The number of frames for some, whose unit of time is a frame; ffmpeg writes and reads
        // it as the length in units of time, which is the same then.
        let length = match self.counts.frames {
            0 => 0,
            1 => USUAL,
            frames => self.counts.duration + self.counts.duration / (frames - 1),
        };
        put(24, &u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        header
    }

    fn sync(&mut self) -> io::Result<()> {
        self.told = self.counts.frames;
        self.output.seek(SeekFrom::Start(0))?;
        self.output.write_all(&self.header())?;
        self.output.seek(SeekFrom::End(0))?;
        self.output.flush()
    }

    /// The time of a frame in the file; `None` if it has passed.
    fn place(&mut self, timestamp: u64) -> Option<u64> {
        if self.counts.frames == 0 {
            self.base = timestamp;
            return Some(0);
        }
        // Both are modulo 2^64, so their distance has a sign.
        let ahead = timestamp.wrapping_sub(self.base).wrapping_sub(self.counts.duration) as i64;
        match ahead {
            1..=MAX_GAP => Some(timestamp.wrapping_sub(self.base)),
            EARLIEST..=0 => None,
            _ => {
                let time = self.counts.duration + USUAL;
                self.base = timestamp.wrapping_sub(time);
                self.counts.jumps += 1;
                Some(time)
            }
        }
    }
}

impl<W: Write + Seek + Send> MediaWriter for IvfWriter<W> {
    fn format(&self) -> MediaFormat {
        self.format
    }

    fn write(&mut self, timestamp: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() || data.len() > MAX_FRAME {
            self.counts.malformed += 1;
            return Ok(());
        }
        if self.counts.frames == 0 {
            if !video::is_key(self.format, data) {
                self.counts.before_key += 1;
                return Ok(());
            }
            self.size = video::size(self.format, data).unwrap_or_default();
            self.output.write_all(&self.header())?;
        }
        let Some(time) = self.place(timestamp) else {
            self.counts.late += 1;
            return Ok(());
        };
        // One write, so that a kill leaves few chances of half a frame.
        let mut frame = Vec::with_capacity(12 + data.len());
        frame.extend_from_slice(&(data.len() as u32).to_le_bytes());
        frame.extend_from_slice(&time.to_le_bytes());
        frame.extend_from_slice(data);
        self.output.write_all(&frame)?;
        self.counts.frames += 1;
        self.counts.bytes += data.len() as u64;
        self.counts.duration = time;
        if self.counts.frames - self.told >= SYNC { self.sync() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.counts.frames == 0 { Ok(()) } else { self.sync() }
    }

    fn finish(self: Box<Self>) -> io::Result<MediaCounts> {
        let counts = self.counts;
        self.into_inner()?;
        Ok(counts)
    }

    fn counts(&self) -> MediaCounts {
        self.counts
    }
}

fn fourcc(format: MediaFormat) -> Option<&'static [u8; 4]> {
    match format {
        MediaFormat::Vp8 => Some(b"VP80"),
        MediaFormat::Vp9 => Some(b"VP90"),
        MediaFormat::Av1 => Some(b"AV01"),
        _ => None,
    }
}
