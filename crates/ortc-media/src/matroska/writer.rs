use std::io::{self, Seek, SeekFrom, Write};
use std::time::Duration;

use super::codec::{Codec, codec_delay, to_block};
use super::{MAX_FRAME, id};
use crate::ebml::{
    put_binary, put_float, put_master, put_text, put_uint, put_unknown, put_vint, put_vint_of,
    put_void,
};
use crate::{MediaFormat, video};

/// What is written at a time: frames of this much media, in milliseconds. A cluster costs some 20
/// bytes, and what is not written yet is lost in a crash.
const CLUSTER_SPAN: i64 = 400;

/// And no more bytes than that: what a fast encoder makes in that time.
const CLUSTER_BYTES: usize = 4 << 20;

/// Room for the descriptions of all tracks, also of those that come later: some 20 of them. All of
/// the header is in one page, so that nothing ever sees half of it.
const TRACKS_ROOM: usize = 3 << 10;

/// Room for what tells where the other parts are.
const SEEK_ROOM: usize = 100;

/// How far before the last one of its track a frame is that has only been timed anew, in milliseconds.
const NEAR: i64 = 100;

/// Places to jump to are no closer than this, in milliseconds.
const CUE_SPACING: i64 = 2_000;

/// Most of them; beyond, every second one is forgotten.
const MAX_CUES: usize = 16_384;

/// Most tracks: their numbers have one byte in each block.
const MAX_TRACKS: usize = 126;

/// What a file says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// WebM, for browsers: Opus, VP8, VP9 and AV1.
    WebM,
    /// Matroska, for anything.
    Matroska,
}

impl Container {
    /// How the name of such a file ends, without the dot.
    pub fn file_extension(self) -> &'static str {
        match self {
            Self::WebM => "webm",
            Self::Matroska => "mkv",
        }
    }

    /// Whether tracks of this format may be in it.
    pub fn takes(self, format: MediaFormat) -> bool {
        match format {
            MediaFormat::Opus | MediaFormat::Vp8 | MediaFormat::Vp9 | MediaFormat::Av1 => true,
            MediaFormat::Alaw | MediaFormat::Ulaw | MediaFormat::H264 => self == Self::Matroska,
        }
    }

    fn doc_type(self) -> &'static str {
        match self {
            Self::WebM => "webm",
            Self::Matroska => "matroska",
        }
    }
}

/// Why a track cannot be added to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatroskaTrackError {
    /// WebM has no such codec.
    #[error("WebM cannot hold {}", .0.name())]
    Format(MediaFormat),
    /// The first frame does not say what a player has to know: the size of pictures, or how they
    /// are to be decoded. A later key frame may.
    #[error("the first frame of {} is no key frame, or does not say how to decode it", .0.name())]
    Undescribed(MediaFormat),
    /// There are too many tracks in the file already.
    #[error("there is no room for another track in this file")]
    Full,
}

/// What went into a file, and what did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MatroskaCounts {
    /// Frames that were written, of all tracks.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames not written: empty, longer than 4 MiB, or not what the format has.
    pub malformed: u64,
    /// The time up to the beginning of the last frame.
    pub duration: Duration,
}

/// Writes sound and pictures together into a WebM or Matroska file, as they come.
///
/// Frames are written 400 ms at a time, in one piece: whatever kills the process leaves a file that
/// plays, all but the last moments of it. Tracks may be added at any time, for a source that comes
/// later, or that changes its codec: there is room kept for them. Frames have their times, so what
/// pauses leaves a gap. An orderly [end](Self::finish) adds where to jump to.
///
/// ```
/// use std::io::Cursor;
/// use std::time::Duration;
/// use ortc_media::{ColourBars, Container, MatroskaReader, MatroskaWriter, MediaFormat};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut bars = ColourBars::new(320, 180, 25);
/// let mut writer = MatroskaWriter::new(Cursor::new(Vec::new()), Container::WebM);
/// let first = bars.frame();
/// let pictures = writer.add_track(MediaFormat::Vp8, &first.data)?;
/// let sound = writer.add_track(MediaFormat::Opus, &[0x78])?;
/// writer.write(pictures, Duration::ZERO, &first.data)?;
/// writer.write(sound, Duration::from_millis(10), &[0x78, 1, 2, 3])?;
/// let (file, counts) = writer.finish()?;
/// assert_eq!(counts.frames, 2);
///
/// let mut reader = MatroskaReader::new(file.get_ref().as_slice())?;
/// assert_eq!(reader.tracks().len(), 2);
/// assert_eq!(reader.next_frame()?.unwrap().data, first.data);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MatroskaWriter<W> {
    output: W,
    container: Container,
    tracks: Vec<(MediaFormat, Codec)>,
    /// The time of the last frame of each.
    track_times: Vec<Option<i64>>,
    /// What is not written yet: time in milliseconds, track, whether it is a key frame, block.
    blocks: Vec<(i64, usize, bool, Vec<u8>)>,
    block_bytes: usize,
    /// Where the segment's contents begin; `None` before anything is written.
    segment: Option<u64>,
    places: Places,
    /// Bytes in the file.
    length: u64,
    /// Whether a track was added that the file does not tell of yet.
    has_new_track: bool,
    /// The time of the last cluster, and of the last frame, in milliseconds.
    cluster_time: i64,
    last_time: i64,
    /// Time, track and offset of where one can jump to.
    cues: Vec<(i64, usize, u64)>,
    cue_spacing: i64,
    counts: MatroskaCounts,
}

/// Where in the file something stands that is written over.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    segment_size: u64,
    seek: u64,
    info: u64,
    duration: u64,
    tracks: u64,
}

impl<W: Write + Seek> MatroskaWriter<W> {
    /// Begins a file. Nothing is written before the first frames. The output has to be at its
    /// beginning.
    pub fn new(output: W, container: Container) -> Self {
        Self {
            output,
            container,
            tracks: Vec::new(),
            track_times: Vec::new(),
            blocks: Vec::new(),
            block_bytes: 0,
            segment: None,
            places: Places::default(),
            length: 0,
            has_new_track: false,
            cluster_time: 0,
            last_time: 0,
            cues: Vec::new(),
            cue_spacing: CUE_SPACING,
            counts: MatroskaCounts::default(),
        }
    }

    /// Adds a track of this format, of which `first` will be the first frame: for video a key frame.
    /// Returns what it is called by.
    ///
    /// # Errors
    /// [`MatroskaTrackError`]; the file goes on without it.
    pub fn add_track(
        &mut self,
        format: MediaFormat,
        first: &[u8],
    ) -> Result<usize, MatroskaTrackError> {
        if !self.container.takes(format) {
            return Err(MatroskaTrackError::Format(format));
        }
        let codec = Codec::of(format, first).filter(|_| video::is_key(format, first));
        let codec = codec.ok_or(MatroskaTrackError::Undescribed(format))?;
        self.tracks.push((format, codec));
        if self.tracks.len() > MAX_TRACKS || self.track_entries().len() + 32 > TRACKS_ROOM {
            self.tracks.pop();
            return Err(MatroskaTrackError::Full);
        }
        self.track_times.push(None);
        self.has_new_track = true;
        Ok(self.tracks.len() - 1)
    }

    /// Appends a frame of a track at its time in the file. Frames of one track have to come in
    /// order, and one that is up to 100 ms before the last is put a millisecond behind it, since no
    /// two of a track may have one time; what is late among those of others finds its place, within
    /// a cluster.
    ///
    /// What is no frame is dropped and counted: it came from the network.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, track: usize, position: Duration, data: &[u8]) -> io::Result<()> {
        let Some((format, _)) = self.tracks.get(track) else { return Ok(()) };
        let format = *format;
        let block = to_block(format, data);
        if block.is_empty() || data.len() > MAX_FRAME {
            self.counts.malformed += 1;
            return Ok(());
        }
        // Rounded. A year of milliseconds is far from the end of their range.
        let time = i64::try_from((position.as_micros() + 500) / 1_000).unwrap_or(i64::MAX / 2);
        let last = &mut self.track_times[track];
        let time = match *last {
            Some(last) if (last - NEAR..=last).contains(&time) => last + 1,
            _ => time,
        };
        *last = Some(time);
        let is_key = video::is_key(format, data);
        let first = self.blocks.iter().map(|(time, ..)| *time).min().unwrap_or(time);
        let begins = format.is_video() && is_key && !self.blocks.is_empty();
        let spans = (time - first).abs() >= CLUSTER_SPAN;
        if begins || spans || self.block_bytes + block.len() > CLUSTER_BYTES {
            self.flush()?;
        }
        self.counts.frames += 1;
        self.counts.bytes += data.len() as u64;
        self.counts.duration = self.counts.duration.max(position);
        self.block_bytes += block.len();
        self.last_time = self.last_time.max(time);
        self.blocks.push((time, track, is_key, block.into_owned()));
        Ok(())
    }

    /// Writes the frames that were gathered: call it once a second, for a source that has fallen
    /// silent.
    ///
    /// # Errors
    /// The system's.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let mut piece = match self.segment {
            None => self.header(),
            Some(_) => Vec::new(),
        };
        let is_first = !piece.is_empty();
        if !is_first && self.has_new_track {
            // First, so that no frame is of a track that is not there.
            self.rewrite(self.places.tracks, &self.tracks_region())?;
        }
        self.has_new_track = false;
        let offset = self.length + piece.len() as u64;
        self.put_cluster(&mut piece, offset);
        self.output.write_all(&piece)?;
        self.length += piece.len() as u64;
        if is_first {
            self.output.flush()
        } else {
            let duration = (self.last_time as f64).max(1.0).to_be_bytes();
            self.rewrite(self.places.duration, &duration)
        }
    }

    /// Writes what is left, and where to jump to, and gives the output back.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> io::Result<(W, MatroskaCounts)> {
        self.flush()?;
        let Some(segment) = self.segment else { return Ok((self.output, self.counts)) };
        if self.has_new_track {
            self.rewrite(self.places.tracks, &self.tracks_region())?;
        }
        let cues = self.length;
        let mut piece = Vec::new();
        put_master(&mut piece, id::CUES, |out| {
            for (time, track, offset) in &self.cues {
                put_master(out, id::CUE_POINT, |out| {
                    put_uint(out, id::CUE_TIME, *time as u64);
                    put_master(out, id::CUE_TRACK_POSITIONS, |out| {
                        put_uint(out, id::CUE_TRACK, *track as u64 + 1);
                        put_uint(out, id::CUE_CLUSTER_POSITION, offset - segment);
                    });
                });
            }
        });
        if self.cues.is_empty() {
            piece.clear();
        }
        self.output.write_all(&piece)?;
        self.length += piece.len() as u64;

        let mut seek = Vec::new();
        let mut parts = vec![(id::INFO, self.places.info), (id::TRACKS, self.places.tracks)];
        parts.extend((!self.cues.is_empty()).then_some((id::CUES, cues)));
        put_master(&mut seek, id::SEEK_HEAD, |out| {
            for (part, offset) in parts {
                put_master(out, id::SEEK, |out| {
                    put_binary(out, id::SEEK_ID, &part.to_be_bytes());
                    put_uint(out, id::SEEK_POSITION, offset - segment);
                });
            }
        });
        let rest = SEEK_ROOM - seek.len();
        put_void(&mut seek, rest);
        self.rewrite(self.places.seek, &seek)?;
        let mut size = Vec::new();
        put_vint_of(&mut size, self.length - segment, 8);
        self.rewrite(self.places.segment_size, &size)?;
        Ok((self.output, self.counts))
    }

    /// What was written and dropped so far.
    pub fn counts(&self) -> MatroskaCounts {
        self.counts
    }

    /// What of file it is.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Writes over what stands at `offset`.
    fn rewrite(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.output.seek(SeekFrom::Start(offset))?;
        self.output.write_all(bytes)?;
        self.output.seek(SeekFrom::End(0))?;
        self.output.flush()
    }

    /// What comes before the first cluster. Notes where its parts stand.
    fn header(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        put_master(&mut out, id::EBML, |out| {
            put_uint(out, id::EBML_VERSION, 1);
            put_uint(out, id::EBML_READ_VERSION, 1);
            put_uint(out, id::EBML_MAX_ID_LENGTH, 4);
            put_uint(out, id::EBML_MAX_SIZE_LENGTH, 8);
            put_text(out, id::DOC_TYPE, self.container.doc_type());
            // CodecDelay and SeekPreRoll are of version 4, SimpleBlock is of version 2.
            put_uint(out, id::DOC_TYPE_VERSION, 4);
            put_uint(out, id::DOC_TYPE_READ_VERSION, 2);
        });
        put_unknown(&mut out, id::SEGMENT);
        let here = |out: &Vec<u8>| out.len() as u64;
        self.segment = Some(here(&out));
        self.places.segment_size = here(&out) - 8;
        self.places.seek = here(&out);
        put_void(&mut out, SEEK_ROOM);
        self.places.info = here(&out);
        let name = concat!("ortc-media ", env!("CARGO_PKG_VERSION"));
        put_master(&mut out, id::INFO, |out| {
            put_uint(out, id::TIMESTAMP_SCALE, 1_000_000);
            put_text(out, id::MUXING_APP, name);
            put_text(out, id::WRITING_APP, name);
            // Last, so that it is found again.
            put_float(out, id::DURATION, (self.last_time as f64).max(1.0));
        });
        self.places.duration = here(&out) - 8;
        self.places.tracks = here(&out);
        out.extend(self.tracks_region());
        out
    }

    /// The descriptions of all tracks, and the room for more.
    fn tracks_region(&self) -> Vec<u8> {
        let mut region = Vec::new();
        put_binary(&mut region, id::TRACKS, &self.track_entries());
        let rest = TRACKS_ROOM - region.len();
        put_void(&mut region, rest);
        region
    }

    fn track_entries(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        for (number, (format, codec)) in (1..).zip(&self.tracks) {
            put_master(&mut entries, id::TRACK_ENTRY, |out| {
                put_uint(out, id::TRACK_NUMBER, number);
                put_uint(out, id::TRACK_UID, number);
                put_uint(out, id::TRACK_TYPE, if format.is_video() { 1 } else { 2 });
                put_uint(out, id::FLAG_LACING, 0);
                put_text(out, id::LANGUAGE, "und");
                put_text(out, id::CODEC_ID, codec.id);
                if !codec.private.is_empty() {
                    put_binary(out, id::CODEC_PRIVATE, &codec.private);
                }
                if *format == MediaFormat::Opus {
                    put_uint(out, id::CODEC_DELAY, codec_delay(*format));
                    // RFC 7845 §4.6: 80 ms.
                    put_uint(out, id::SEEK_PRE_ROLL, 80_000_000);
                }
                match format.is_video() {
                    true => put_master(out, id::VIDEO, |out| {
                        put_uint(out, id::PIXEL_WIDTH, codec.size.0.into());
                        put_uint(out, id::PIXEL_HEIGHT, codec.size.1.into());
                    }),
                    false => put_master(out, id::AUDIO, |out| {
                        put_float(out, id::SAMPLING_FREQUENCY, format.clock_rate().into());
                        put_uint(out, id::CHANNELS, codec.channels.into());
                    }),
                }
            });
        }
        entries
    }

    /// Appends a cluster of the gathered frames, which will stand at `offset`.
    fn put_cluster(&mut self, out: &mut Vec<u8>, offset: u64) {
        // Stable: frames of one track keep their order.
        self.blocks.sort_by_key(|(time, ..)| *time);
        let first = self.blocks.first().map_or(0, |(time, ..)| *time);
        // Times of clusters do not go back; a straggler's is before its cluster's.
        let time = first.max(self.cluster_time);
        self.cluster_time = time;
        let mut body = Vec::with_capacity(self.block_bytes + 32 * self.blocks.len() + 16);
        put_uint(&mut body, id::TIMESTAMP, time as u64);
        for (at, track, is_key, block) in &self.blocks {
            let relative = (at - time).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            body.push(id::SIMPLE_BLOCK as u8);
            put_vint(&mut body, 4 + block.len() as u64);
            body.push(0x80 | (*track as u8 + 1));
            body.extend_from_slice(&relative.to_be_bytes());
            body.push(if *is_key { 0x80 } else { 0 });
            body.extend_from_slice(block);
        }
        put_binary(out, id::CLUSTER, &body);
        self.note_cue(offset);
        self.blocks.clear();
        self.block_bytes = 0;
    }

    /// Notes that one can jump to the cluster that is being written, if it is so.
    fn note_cue(&mut self, offset: u64) {
        let has_video = self.tracks.iter().any(|(format, _)| format.is_video());
        let is_target = |track: usize| self.tracks[track].0.is_video() == has_video;
        let found = self.blocks.iter().find(|(_, track, is_key, _)| *is_key && is_target(*track));
        let Some(&(time, track, ..)) = found else { return };
        let is_far = |(last, ..): &(i64, usize, u64)| time - last >= self.cue_spacing;
        if !self.cues.last().is_none_or(is_far) {
            return;
        }
        self.cues.push((time, track, offset));
        if self.cues.len() > MAX_CUES {
            let mut at = 0;
            self.cues.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.cue_spacing *= 2;
        }
    }
}
