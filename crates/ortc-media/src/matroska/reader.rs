use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;

use super::codec::{Unpacking, format_of};
use super::{MAX_FRAME, id};
use crate::ebml::{EbmlError, read_body, read_head, skip, take_vint, uint};
use crate::{MediaFormat, MediaFrame, MediaReadError, MediaReader, opus_packet_samples, video};

/// Most tracks that are read of a file.
const MAX_TRACKS: usize = 128;

/// Longest description of a codec that is read; that of a font in an attachment is none.
const MAX_PRIVATE: u64 = 64 << 10;

/// A track of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatroskaTrack {
    /// Its number, which its frames have.
    pub number: u64,
    /// What its frames are; `None` if they cannot be read.
    pub format: Option<MediaFormat>,
    /// The name of its codec in the file.
    pub codec: String,
}

/// A frame out of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatroskaFrame {
    /// The number of its track.
    pub track: u64,
    /// Its time in the file.
    pub position: Duration,
    /// The frame, as it goes into a packetizer.
    pub data: Bytes,
}

/// Reads the frames of a WebM or Matroska file, those of all tracks that can be read, as they
/// stand.
///
/// A file that ends in the middle of something, as after a crash of its writer, is read up to
/// there. Memory is bounded by a frame of at most 4 MiB.
#[derive(Debug)]
pub struct MatroskaReader<R> {
    input: R,
    tracks: Vec<Entry>,
    /// Nanoseconds of a unit of time.
    scale: u64,
    cluster_time: u64,
    /// Frames of a block that has several.
    ready: VecDeque<MatroskaFrame>,
    truncated: bool,
}

/// What is known of a track.
#[derive(Debug, Clone)]
struct Entry {
    number: u64,
    codec: String,
    private: Vec<u8>,
    clock_rate: u32,
    channels: u64,
    is_encoded: bool,
    readable: Option<(MediaFormat, Unpacking)>,
}

impl Entry {
    fn new() -> Self {
        Self {
            number: 0,
            codec: String::new(),
            private: Vec::new(),
            clock_rate: 8_000,
            channels: 1,
            is_encoded: false,
            readable: None,
        }
    }

    fn settle(&mut self) {
        let format = format_of(&self.codec, &self.private, self.clock_rate, self.channels);
        self.readable = format
            .filter(|_| !self.is_encoded)
            .and_then(|format| Some((format, Unpacking::of(format, &self.private)?)));
    }
}

fn bad(reason: impl Into<String>) -> MediaReadError {
    MediaReadError::Matroska { reason: reason.into() }
}

impl<R: Read> MatroskaReader<R> {
    /// Reads up to the first frames.
    ///
    /// Reading happens in small pieces: hand in a buffered reader.
    ///
    /// # Errors
    /// [`MediaReadError::Matroska`] says what cannot be read.
    pub fn new(input: R) -> Result<Self, MediaReadError> {
        let mut reader = Self {
            input,
            tracks: Vec::new(),
            scale: 1_000_000,
            cluster_time: 0,
            ready: VecDeque::new(),
            truncated: false,
        };
        match read_head(&mut reader.input) {
            Ok(Some((id::EBML, size))) => reader.step(skip, size)?,
            Err(EbmlError::Io(error)) => return Err(error.into()),
            _ => return Err(bad("it does not begin as one")),
        }
        // What comes before the first cluster.
        loop {
            match reader.element()? {
                Some((id::CLUSTER, _)) => break,
                Some(_) => {}
                None => break,
            }
        }
        reader.tracks.iter_mut().for_each(Entry::settle);
        if reader.tracks.is_empty() {
            return Err(bad("it describes no track"));
        }
        Ok(reader)
    }

    /// The tracks of the file, in the order in which it describes them.
    pub fn tracks(&self) -> Vec<MatroskaTrack> {
        let track = |entry: &Entry| MatroskaTrack {
            number: entry.number,
            format: entry.readable.as_ref().map(|(format, _)| *format),
            codec: entry.codec.clone(),
        };
        self.tracks.iter().map(track).collect()
    }

    /// Whether the file ended in the middle of something.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Reads the next frame of any track that can be read; `None` at the end of the file.
    ///
    /// # Errors
    /// What is wrong with the file, or the system's error. Do not go on after one.
    pub fn next_frame(&mut self) -> Result<Option<MatroskaFrame>, MediaReadError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            if self.element()?.is_none() {
                return Ok(None);
            }
        }
    }

    /// Takes note of the next element, and passes over what has no meaning here; its id. What is
    /// within others is taken as if it stood beside them, as each id has one place only: so none
    /// has to say where it ends. `None` at the end.
    fn element(&mut self) -> Result<Option<(u32, u64)>, MediaReadError> {
        if self.truncated {
            return Ok(None);
        }
        let head = match read_head(&mut self.input) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(None),
            Err(error) => return self.give_up(error).map(|()| None),
        };
        let (id, size) = head;
        match id {
            id::SEGMENT | id::INFO | id::TRACKS | id::VIDEO | id::AUDIO | id::BLOCK_GROUP => {}
            id::CLUSTER => self.cluster_time = 0,
            id::TRACK_ENTRY => {
                if self.tracks.len() == MAX_TRACKS {
                    return Err(bad(format!("it has more than {MAX_TRACKS} tracks")));
                }
                self.tracks.push(Entry::new());
            }
            id::CONTENT_ENCODINGS => {
                if let Some(entry) = self.tracks.last_mut() {
                    entry.is_encoded = true;
                }
                self.step(skip, size)?;
            }
            id::CODEC_PRIVATE => {
                let private = self.body(size, MAX_PRIVATE)?;
                if let Some((entry, private)) = self.tracks.last_mut().zip(private) {
                    entry.private = private;
                }
            }
            id::TIMESTAMP_SCALE
            | id::TIMESTAMP
            | id::TRACK_NUMBER
            | id::CHANNELS
            | id::SAMPLING_FREQUENCY
            | id::CODEC_ID => {
                if let Some(body) = self.body(size, 256)? {
                    self.note(id, &body);
                }
            }
            id::SIMPLE_BLOCK | id::BLOCK => {
                if let Some(block) = self.body(size, MAX_FRAME as u64 + 1_024)? {
                    self.take_block(&block);
                }
            }
            _ => self.step(skip, size)?,
        }
        Ok(Some(head))
    }

    fn note(&mut self, id: u32, body: &[u8]) {
        let number = uint(body);
        match id {
            id::TIMESTAMP_SCALE => self.scale = number.max(1),
            id::TIMESTAMP => self.cluster_time = number,
            _ => {}
        }
        let Some(entry) = self.tracks.last_mut() else { return };
        match id {
            id::TRACK_NUMBER => entry.number = number,
            id::CHANNELS => entry.channels = number,
            id::SAMPLING_FREQUENCY => {
                let rate = match body.len() {
                    4 => f64::from(f32::from_bits(number as u32)),
                    8 => f64::from_bits(number),
                    _ => return,
                };
                // `as` saturates.
                entry.clock_rate = rate as u32;
            }
            id::CODEC_ID => {
                entry.codec = String::from_utf8_lossy(body).trim_end_matches('\0').to_owned();
            }
            _ => {}
        }
    }

    /// Takes the frames of a block (RFC 9559 §10.1).
    fn take_block(&mut self, block: &[u8]) {
        let mut rest = block;
        let Some((track, _)) = take_vint(&mut rest) else { return };
        let Some((head, rest)) = rest.split_at_checked(3) else { return };
        let found = self.tracks.iter().find(|entry| entry.number == track);
        let Some((format, unpacking)) = found.and_then(|entry| entry.readable.as_ref()) else {
            return;
        };
        let relative = i64::from(i16::from_be_bytes([head[0], head[1]]));
        let time = self.cluster_time.saturating_add_signed(relative);
        let nanos = time.saturating_mul(self.scale);
        let position = Duration::from_nanos(nanos);
        for data in unlaced(head[2] >> 1 & 3, rest).unwrap_or_default() {
            if let Some(data) = unpacking.frame(*format, data.to_vec()) {
                self.ready.push_back(MatroskaFrame { track, position, data: data.into() });
            }
        }
    }

    /// The body of an element; `None` if the file ends in it.
    fn body(&mut self, size: u64, max: u64) -> Result<Option<Vec<u8>>, MediaReadError> {
        match read_body(&mut self.input, size, max) {
            Ok(body) => Ok(Some(body)),
            Err(error) => self.give_up(error).map(|()| None),
        }
    }

    fn step(
        &mut self,
        step: impl FnOnce(&mut R, u64) -> Result<(), EbmlError>,
        size: u64,
    ) -> Result<(), MediaReadError> {
        match step(&mut self.input, size) {
            Ok(()) => Ok(()),
            Err(error) => self.give_up(error),
        }
    }

    /// Notes that the file ends early, or says what is wrong with it.
    fn give_up(&mut self, error: EbmlError) -> Result<(), MediaReadError> {
        match error {
            EbmlError::Truncated => {
                self.truncated = true;
                Ok(())
            }
            EbmlError::Malformed(reason) => Err(bad(reason)),
            EbmlError::Io(error) => Err(error.into()),
        }
    }
}

/// The frames of a block by how it says where they end (RFC 9559 §10.3); `None` if that is wrong.
fn unlaced(lacing: u8, body: &[u8]) -> Option<Vec<&[u8]>> {
    if lacing == 0 {
        return Some(vec![body]);
    }
    let (&count, mut rest) = body.split_first()?;
    let count = usize::from(count) + 1;
    let mut sizes = Vec::with_capacity(count);
    match lacing {
        1 => {
            for _ in 1..count {
                let mut size = 0;
                loop {
                    let (&byte, after) = rest.split_first()?;
                    rest = after;
                    size += usize::from(byte);
                    if byte < 255 {
                        break;
                    }
                }
                sizes.push(size);
            }
        }
        3 => {
            let mut size = 0_i64;
            for at in 1..count {
                let (value, len) = take_vint(&mut rest)?;
                let value = i64::try_from(value).ok()?;
                // The first one as it is, the others by how much they are longer.
                let bias = if at == 1 { 0 } else { (1 << (7 * len - 1)) - 1 };
                size = size.checked_add(value - bias)?;
                sizes.push(usize::try_from(size).ok()?);
            }
        }
        _ => {
            if !rest.len().is_multiple_of(count) {
                return None;
            }
            sizes.resize(count - 1, rest.len() / count);
        }
    }
    let mut frames = Vec::with_capacity(count);
    for size in sizes {
        let (frame, after) = rest.split_at_checked(size)?;
        frames.push(frame);
        rest = after;
    }
    frames.push(rest);
    Some(frames)
}

/// A gap in sound that is longer than this, in units of its clock, was a pause: 20 ms. Times in a
/// file are mostly rounded to milliseconds.
fn least_gap(format: MediaFormat) -> u64 {
    u64::from(format.clock_rate() / 50)
}

/// How far pictures of H.264 may be out of order: what its decoders hold at the most (§A.3.1).
const REORDERED: usize = 16;

/// Reads one track of a file.
pub(crate) struct TrackReader<R> {
    reader: MatroskaReader<R>,
    number: u64,
    format: MediaFormat,
    /// The time of the track's first frame in the file, in units of the clock rate.
    first: u64,
    /// Frames that were read ahead, and their times, which are handed out in ascending order: those
    /// of pictures that are shown later than the next one would go back.
    ahead: VecDeque<Bytes>,
    times: BinaryHeap<Reverse<u64>>,
    has_ended: bool,
    /// The next frame and its time.
    next: Option<(u64, Bytes)>,
    last_duration: u32,
}

impl<R: Read> TrackReader<R> {
    /// Of the track of this number, which has to be one that can be read.
    pub(crate) fn new(
        reader: MatroskaReader<R>,
        number: u64,
        format: MediaFormat,
    ) -> Result<Self, MediaReadError> {
        let mut reader = Self {
            reader,
            number,
            format,
            first: 0,
            ahead: VecDeque::new(),
            times: BinaryHeap::new(),
            has_ended: false,
            next: None,
            last_duration: if format.is_video() { 3_000 } else { format.clock_rate() / 50 },
        };
        reader.next = reader.advance(None)?;
        reader.first = reader.next.as_ref().map_or(0, |(time, _)| *time);
        Ok(reader)
    }

    /// The frame after one that is at `before` and lasts so long, and its time.
    fn advance(
        &mut self,
        before: Option<(u64, u64)>,
    ) -> Result<Option<(u64, Bytes)>, MediaReadError> {
        let depth = if self.format == MediaFormat::H264 { REORDERED } else { 0 };
        while self.ahead.len() <= depth && !self.has_ended {
            match self.reader.next_frame()? {
                Some(frame) if frame.track == self.number => {
                    let rate = u128::from(self.format.clock_rate());
                    let time = (frame.position.as_nanos() * rate + 500_000_000) / 1_000_000_000;
                    self.times.push(Reverse(u64::try_from(time).unwrap_or(u64::MAX)));
                    self.ahead.push_back(frame.data);
                }
                Some(_) => {}
                None => self.has_ended = true,
            }
        }
        let Some((data, Reverse(time))) = self.ahead.pop_front().zip(self.times.pop()) else {
            return Ok(None);
        };
        let time = match before {
            // Sound follows on, whatever the rounding says.
            Some((at, duration)) if !self.format.is_video() => {
                let end = at.saturating_add(duration);
                if time > end.saturating_add(least_gap(self.format)) { time } else { end }
            }
            Some((at, _)) => time.max(at),
            None => time,
        };
        Ok(Some((time, data)))
    }
}

impl<R: Read + Send> MediaReader for TrackReader<R> {
    fn format(&self) -> MediaFormat {
        self.format
    }

    fn begins(&self) -> Duration {
        let rate = u64::from(self.format.clock_rate());
        let rest = self.first % rate * 1_000_000_000 / rate;
        Duration::from_secs(self.first / rate) + Duration::from_nanos(rest)
    }

    fn next_frame(&mut self) -> Result<Option<MediaFrame>, MediaReadError> {
        let Some((time, data)) = self.next.take() else { return Ok(None) };
        let own = match self.format {
            MediaFormat::Opus => opus_packet_samples(&data).unwrap_or(0),
            MediaFormat::Alaw | MediaFormat::Ulaw => data.len() as u32,
            _ => 0,
        };
        self.next = self.advance(Some((time, own.into())))?;
        match &self.next {
            // A time that stands still is a fault of the file, which plays on.
            Some((next, _)) => {
                self.last_duration = (next - time).clamp(1, u64::from(u32::MAX)) as u32;
            }
            None if own > 0 => self.last_duration = own,
            None => {}
        }
        let timestamp = time - self.first;
        let key = video::is_key(self.format, &data);
        Ok(Some(MediaFrame { data, timestamp, duration: self.last_duration, key }))
    }
}
