use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::{MediaReadError, video};

/// What the frames of a file or source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MediaFormat {
    /// Opus packets (RFC 6716).
    Opus,
    /// G.711 A-law, 8 kHz mono, a byte per sample.
    Alaw,
    /// G.711 µ-law, 8 kHz mono, a byte per sample.
    Ulaw,
    /// VP8 frames (RFC 6386).
    Vp8,
    /// VP9 frames and superframes.
    Vp9,
    /// AV1 temporal units in the low-overhead format.
    Av1,
    /// H.264 access units with start codes (Annex B).
    H264,
}

impl MediaFormat {
    /// Units of a timestamp in a second, as in RTP: 48,000 for Opus, 8,000 for G.711, 90,000
    /// for video.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Alaw | Self::Ulaw => 8_000,
            Self::Vp8 | Self::Vp9 | Self::Av1 | Self::H264 => 90_000,
        }
    }

    /// Whether it is pictures.
    pub fn is_video(self) -> bool {
        matches!(self, Self::Vp8 | Self::Vp9 | Self::Av1 | Self::H264)
    }

    /// Whether a frame of this format can be decoded without any other; always so for sound.
    pub fn is_key_frame(self, frame: &[u8]) -> bool {
        video::is_key(self, frame)
    }

    /// Its name in lower case, as ORTC describes codecs: `opus`, `ulaw`, `vp8`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Alaw => "alaw",
            Self::Ulaw => "ulaw",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
            Self::H264 => "h264",
        }
    }

    /// How the name of a file ends that [`create`](crate::create) writes, without the dot.
    pub fn file_extension(self) -> &'static str {
        match self {
            Self::Opus => "ogg",
            Self::Alaw | Self::Ulaw => "wav",
            Self::Vp8 | Self::Vp9 | Self::Av1 => "ivf",
            Self::H264 => "h264",
        }
    }
}

/// A frame out of a file or source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaFrame {
    /// The frame, as it goes into a packetizer.
    pub data: Bytes,
    /// Its time since the first frame, in units of the format's
    /// [clock rate](MediaFormat::clock_rate).
    pub timestamp: u64,
    /// How long it lasts, in the same units; at least 1.
    pub duration: u32,
    /// Whether it can be decoded without any other; always so for audio.
    pub key: bool,
}

/// Reads frames in the order of sending.
///
/// [`Pacer`](crate::Pacer) says when each is due.
pub trait MediaReader: Send {
    /// What the frames are.
    fn format(&self) -> MediaFormat;

    /// How much later its first frame is than the beginning of the file: how tracks of one file
    /// stand to each other.
    fn begins(&self) -> Duration {
        Duration::ZERO
    }

    /// Reads the next frame; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the file, or the system's error. Do not go on after one.
    fn next_frame(&mut self) -> Result<Option<MediaFrame>, MediaReadError>;
}

/// What went into a recording, and what did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MediaCounts {
    /// Frames that were written.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long the file is, in units of the clock rate, what was filled included; up to the
    /// beginning of the last frame for video.
    pub duration: u64,
    /// Units of gaps that were filled: with silence for G.711, with what a decoder conceals
    /// for Opus, with nothing for video, whose frames have their times.
    pub filled: u64,
    /// Frames not written: their time had passed.
    pub late: u64,
    /// Frames not written: they are not what the format has.
    pub malformed: u64,
    /// Frames of video not written: no key frame had come.
    pub before_key: u64,
    /// Jumps of the sender's clock; the file goes on without a gap there.
    pub jumps: u64,
}

/// Writes frames as they are received, in order.
///
/// Whatever kills the process, the file holds all but the last second and can be read.
pub trait MediaWriter: Send {
    /// What the frames are.
    fn format(&self) -> MediaFormat;

    /// Appends a frame that belongs at `timestamp`, in units of the format's clock rate from
    /// any origin. The first one begins the file; for video it has to be a key frame.
    ///
    /// What is malformed or late is dropped and counted: it came from the network.
    ///
    /// # Errors
    /// The system's.
    fn write(&mut self, timestamp: u64, data: &[u8]) -> io::Result<()>;

    /// Makes sure that what was written so far is in the file: for a sender that has fallen
    /// silent.
    ///
    /// # Errors
    /// The system's.
    fn flush(&mut self) -> io::Result<()>;

    /// Completes the file.
    ///
    /// # Errors
    /// The system's.
    fn finish(self: Box<Self>) -> io::Result<MediaCounts>;

    /// What was written and dropped so far.
    fn counts(&self) -> MediaCounts;
}
