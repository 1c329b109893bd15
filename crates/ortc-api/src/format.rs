use std::time::Instant;

use bytes::Bytes;
use ortc_rtp::{CodecName, NtpTime, TrackKind};

/// What a local track carries: the encoding of its frames and the unit of their media time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MediaFormat {
    /// Opus packets (RFC 6716); media time in 1/48,000 s.
    Opus,
    /// G.711 A-law, a byte each sample, usually 160 of them; media time in 1/8,000 s.
    Alaw,
    /// G.711 µ-law, as A-law.
    Ulaw,
    /// VP8 frames; media time in 1/90,000 s.
    Vp8,
    /// VP9 pictures: a frame or a superframe; media time in 1/90,000 s.
    Vp9,
    /// AV1 temporal units in the low-overhead format; media time in 1/90,000 s.
    Av1,
    /// H.264 access units with start codes (Annex B); media time in 1/90,000 s.
    H264,
}

impl MediaFormat {
    /// The codec.
    pub const fn codec(self) -> CodecName {
        match self {
            Self::Opus => CodecName::Opus,
            Self::Alaw => CodecName::Alaw,
            Self::Ulaw => CodecName::Ulaw,
            Self::Vp8 => CodecName::Vp8,
            Self::Vp9 => CodecName::Vp9,
            Self::Av1 => CodecName::Av1,
            Self::H264 => CodecName::H264,
        }
    }

    /// The kind of track that carries this.
    pub fn kind(self) -> TrackKind {
        self.codec().kind()
    }

    /// Units of media time in a second.
    pub fn clock_rate(self) -> u32 {
        self.codec().default_clock_rate()
    }
}

/// One encoded frame that an application sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaFrame {
    /// The frame, as the encoder made it.
    pub data: Bytes,
    /// Media time since the start of the source, in units of the format's clock rate.
    pub timestamp: u64,
}

/// One encoded frame that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// The frame, for a decoder.
    pub data: Bytes,
    /// Media time in units of the codec's clock rate, unwrapped; the first frame of a track
    /// may be at any time.
    pub timestamp: u64,
    /// RTP sequence number of its first packet, with its rollovers.
    pub sequence: u64,
    /// RTP payload type: which of the described codecs it is.
    pub payload_id: u8,
    /// Whether it can be decoded without any other; always so for audio.
    pub key: bool,
    /// Whether every frame since the last key frame came whole; always so for audio.
    pub intact: bool,
    /// When its last packet came from the network.
    pub received_at: Instant,
    /// Units of [`timestamp`](Self::timestamp) in a second.
    pub clock_rate: u32,
    /// When it was captured, by the sender's clock, by which tracks of one sender are brought
    /// together: see [`StreamReader`](crate::StreamReader). `None` before the first sender report
    /// (RFC 3550 §6.4.1) of its track, a second at most after its first packet, unless packets say
    /// so themselves: where `abs-capture-time` is described among the header extensions.
    pub capture_time: Option<NtpTime>,
    /// Packets right before this frame that never came, and of which what they were part of has
    /// been left out.
    pub lost_before: u64,
}
