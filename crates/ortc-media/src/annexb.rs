//! H.264 byte streams (ITU-T H.264 Annex B).

use std::io::{self, Read, Write};

use crate::wav::read_full;
use crate::{
    MediaCounts, MediaFormat, MediaFrame, MediaReadError, MediaReader, MediaWriter, video,
};

/// Longest access unit that is read or written; real ones are well below.
const MAX_UNIT: usize = 4 << 20;
const CLOCK: u64 = 90_000;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Reads an H.264 byte stream, an access unit at a time.
///
/// The stream has no times: frames come at the rate that is given. Every NAL unit is handed
/// out with a start code of four bytes.
#[derive(Debug)]
pub struct AnnexBReader<R> {
    input: R,
    /// What was read and not taken; begins in a NAL unit, after its start code.
    buffer: Vec<u8>,
    /// How much of it was searched for a start code.
    searched: usize,
    ended: bool,
    /// The access unit that is being gathered, whether it has a slice, and an IDR slice.
    unit: Vec<u8>,
    has_slice: bool,
    frame_rate: (u32, u32),
    frames: u64,
}

impl<R: Read> AnnexBReader<R> {
    /// Reads up to the first start code. `frame_rate` is a fraction, such as (30,000, 1,001);
    /// zeros are taken for ones.
    ///
    /// # Errors
    /// [`MediaReadError::AnnexB`] when there is no start code.
    pub fn new(input: R, frame_rate: (u32, u32)) -> Result<Self, MediaReadError> {
        let mut reader = Self {
            input,
            buffer: Vec::new(),
            searched: 0,
            ended: false,
            unit: Vec::new(),
            has_slice: false,
            frame_rate: (frame_rate.0.max(1), frame_rate.1.max(1)),
            frames: 0,
        };
        // What comes before the first start code may only be zeros (§B.1).
        match reader.take_nal()? {
            Some(nal) if nal.iter().all(|&byte| byte == 0) && !reader.ended_empty() => Ok(reader),
            _ => {
                Err(MediaReadError::AnnexB { reason: "it does not begin with a start code".into() })
            }
        }
    }

    fn ended_empty(&self) -> bool {
        self.ended && self.buffer.is_empty()
    }

    /// Takes what comes before the next start code, or the rest; `None` at the end.
    fn take_nal(&mut self) -> Result<Option<Vec<u8>>, MediaReadError> {
        loop {
            let from = self.searched.saturating_sub(2);
            let found = self.buffer[from..].windows(3).position(|code| code == [0, 0, 1]);
            if let Some(at) = found.map(|at| from + at) {
                let rest = self.buffer.split_off(at + 3);
                let mut nal = std::mem::replace(&mut self.buffer, rest);
                nal.truncate(at);
                self.searched = 0;
                return Ok(Some(nal));
            }
            if self.ended {
                self.searched = 0;
                let rest = std::mem::take(&mut self.buffer);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_UNIT {
                return Err(too_long());
            }
            let start = self.buffer.len();
            self.buffer.resize(start + (64 << 10), 0);
            let got = read_full(&mut self.input, &mut self.buffer[start..])?;
            self.buffer.truncate(start + got);
            self.ended = got == 0;
        }
    }

    fn frame(&mut self) -> Option<MediaFrame> {
        if !self.has_slice {
            return None;
        }
        self.has_slice = false;
        let data = std::mem::take(&mut self.unit);
        let (rate, scale) = (u64::from(self.frame_rate.0), u64::from(self.frame_rate.1));
        let at =
            |frame: u64| (u128::from(frame) * u128::from(CLOCK * scale) / u128::from(rate)) as u64;
        let timestamp = at(self.frames);
        self.frames += 1;
        let duration = (at(self.frames) - timestamp).clamp(1, u64::from(u32::MAX)) as u32;
        let key = video::is_key(MediaFormat::H264, &data);
        Some(MediaFrame { data: data.into(), timestamp, duration, key })
    }
}

fn too_long() -> MediaReadError {
    let reason = format!("a frame has more than {MAX_UNIT} bytes");
    MediaReadError::AnnexB { reason }
}

impl<R: Read + Send> MediaReader for AnnexBReader<R> {
    fn format(&self) -> MediaFormat {
        MediaFormat::H264
    }

    fn next_frame(&mut self) -> Result<Option<MediaFrame>, MediaReadError> {
        while let Some(nal) = self.take_nal()? {
            // Zeros at the end belong to the next start code.
            let len = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            let Some(&head) = nal[..len].first() else { continue };
            let kind = head & 0x1f;
            let slice = matches!(kind, 1 | 2 | 5);
            // §7.4.1.2.3: what can only stand before the slices of a picture, or the slice
            // with the first macroblock (Exp-Golomb code of zero: a one).
            let first_slice = slice && nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
            let begins = first_slice || matches!(kind, 6..=9 | 14..=18);
            let done = if begins { self.frame() } else { None };
            if self.unit.len() + len > MAX_UNIT {
                return Err(too_long());
            }
            self.unit.extend_from_slice(&START_CODE);
            self.unit.extend_from_slice(&nal[..len]);
            self.has_slice |= slice;
            if done.is_some() {
                return Ok(done);
            }
        }
        Ok(self.frame())
    }
}

/// Writes H.264 access units as they are received, from the first with an IDR picture on.
///
/// The file has no times; a player shows it at the rate that it is told.
#[derive(Debug)]
pub struct AnnexBWriter<W> {
    output: W,
    base: u64,
    counts: MediaCounts,
}

impl<W: Write> AnnexBWriter<W> {
    /// Begins a file.
    pub fn new(output: W) -> Self {
        Self { output, base: 0, counts: MediaCounts::default() }
    }

    /// Gives the output back.
    ///
    /// # Errors
    /// The system's.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }
}

impl<W: Write + Send> MediaWriter for AnnexBWriter<W> {
    fn format(&self) -> MediaFormat {
        MediaFormat::H264
    }

    fn write(&mut self, timestamp: u64, data: &[u8]) -> io::Result<()> {
        let begins = data.starts_with(&START_CODE) || data.starts_with(&START_CODE[1..]);
        if !begins || data.len() > MAX_UNIT {
            self.counts.malformed += 1;
            return Ok(());
        }
        let key = video::is_key(MediaFormat::H264, data);
        if self.counts.frames == 0 {
            if !key {
                self.counts.before_key += 1;
                return Ok(());
            }
            self.base = timestamp;
        }
        self.output.write_all(data)?;
        self.counts.frames += 1;
        self.counts.bytes += data.len() as u64;
        let time = timestamp.wrapping_sub(self.base);
        // A clock that was set back changes nothing: the file has no times.
        self.counts.duration = self.counts.duration.max(if time >> 63 == 0 { time } else { 0 });
        if self.counts.frames.is_multiple_of(15) { self.output.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
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
