//! Frames into RTP payloads, and packets back into frames, for every codec but telephone
//! events.
//!
//! - [`Packetizer`] cuts one encoded frame into [`OutgoingPacket`]s.
//! - [`JitterBuffer`] puts packets back in order and has them wait for those that are late.
//! - [`Repeater`] has packets of sound repeat those before them (RFC 2198).
//! - [`Depacketizer`] puts frames together and says what was damaged.
//! - [`FrameAssembler`] is both for one received track, whichever of its codecs comes.
//!
//! What a frame is:
//!
//! | codec | one frame | payload format |
//! |---|---|---|
//! | opus | an Opus packet | RFC 7587 |
//! | alaw, ulaw | any number of samples, a byte each; usually 160 (20 ms) | RFC 3551 §4.5.14 |
//! | vp8 | a frame | RFC 7741 |
//! | vp9 | a picture: a frame, a superframe, or the frames of all spatial layers | RFC 9628 |
//! | av1 | a temporal unit in the low-overhead format, every OBU with its size | AV1 RTP 1.0 |
//! | h264 | an access unit with start codes (Annex B) | RFC 6184, packetization mode 1 |
//!
//! # Whose code this is
//!
//! VP8 frames are cut by `rtc-rtp`. The rest is ours, because of what was found in 0.21.1:
//! its VP8 depacketizer refuses packets of less than four bytes, which the tail of a frame
//! may have; its VP9 payloads never say that a frame depends on another, and three references
//! are refused; its H.264 loses parameter sets that do not fit one packet, keeps fragments
//! without a bound and reads past a STAP-A; its AV1 reads past an OBU that claims to be
//! longer than the frame. The tests hold ours against its depacketizers where these are
//! sound.

mod assembler;
mod audio;
mod av1;
mod depacketizer;
mod h264;
mod jitter;
mod key_frame;
mod lateness;
mod picture;
mod repeat;
#[cfg(test)]
mod tests;
mod vp8;
mod vp9;

use bytes::Bytes;

pub use assembler::{AssemblerCounts, FrameAssembler};
pub use depacketizer::{Damage, Depacketizer, EncodedFrame, FrameEvent};
pub use jitter::{JitterBuffer, JitterConfig, JitterCounts, Playout};
pub use key_frame::begins_key_frame;
pub use picture::picture_size;
pub use repeat::{MAX_REPEATED, Repeater};

use crate::{CodecName, OutgoingPacket};

/// Room for a payload in bytes that fits every path: 1,280 bytes that IPv6 guarantees
/// (RFC 8200 §5), less 48 for IPv6 and UDP, 4 for a TURN channel, 12 for the RTP header, 16
/// for the tag of SRTP and 40 for header extensions.
pub const DEFAULT_MAX_PAYLOAD: usize = 1_160;

/// Least room that is accepted: every payload format can make progress with it.
const MIN_MAX_PAYLOAD: usize = 32;

/// Longest frame in bytes that is cut or put together: a key frame of 4K video is well below.
pub const MAX_FRAME_LEN: usize = 4 << 20;

/// Why a frame was not made into packets: a fault of whoever made the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketizeError {
    /// There is nothing in it.
    #[error("the frame is empty")]
    Empty,
    /// It is longer than [`MAX_FRAME_LEN`], or than a codec without fragments allows.
    #[error("the frame has {len} bytes; at most {max} can be sent")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// It is not what the codec makes.
    #[error("this is no frame of {}: {reason}", codec.as_str())]
    Malformed {
        /// The codec.
        codec: CodecName,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The room for payloads is below 32 bytes: a fault of the caller.
    #[error("a payload of {0} bytes is too small; give room for 32 or more")]
    MaxPayload(usize),
}

/// Cuts the frames of one track into RTP payloads.
///
/// It keeps what goes from frame to frame: picture ids, and where a talk spurt began.
#[derive(Debug, Clone)]
pub struct Packetizer {
    codec: CodecName,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Audio(audio::Spurt),
    Vp8(vp8::Packetizer),
    Vp9(vp9::Packetizer),
    Av1,
    H264,
}

impl Packetizer {
    /// Makes a packetizer; `None` for [`CodecName::Dtmf`], [`CodecName::Red`] and
    /// [`CodecName::Rtx`], which have no frames of their own.
    pub fn new(codec: CodecName) -> Option<Self> {
        let state = match codec {
            CodecName::Opus | CodecName::Alaw | CodecName::Ulaw => {
                State::Audio(audio::Spurt::default())
            }
            CodecName::Vp8 => State::Vp8(vp8::Packetizer::default()),
            CodecName::Vp9 => State::Vp9(vp9::Packetizer::default()),
            CodecName::Av1 => State::Av1,
            CodecName::H264 => State::H264,
            CodecName::Dtmf | CodecName::Red | CodecName::Rtx => return None,
        };
        Some(Self { codec, state })
    }

    /// The codec.
    pub fn codec(&self) -> CodecName {
        self.codec
    }

    /// Cuts `frame`, whose media time is `timestamp` in units of the clock rate, into payloads
    /// of at most `max_payload` bytes, and appends them to `out` in the order of sending.
    ///
    /// Video has the marker on the last packet of a frame, audio on the first of a talk spurt.
    /// Payloads share the frame's memory where the format lets them.
    ///
    /// # Errors
    /// [`PacketizeError`]; nothing is appended then, and the next frame may follow.
    pub fn packetize(
        &mut self,
        frame: &Bytes,
        timestamp: u64,
        max_payload: usize,
        out: &mut Vec<OutgoingPacket>,
    ) -> Result<(), PacketizeError> {
        if max_payload < MIN_MAX_PAYLOAD {
            return Err(PacketizeError::MaxPayload(max_payload));
        }
        if frame.is_empty() {
            return Err(PacketizeError::Empty);
        }
        if frame.len() > MAX_FRAME_LEN {
            return Err(PacketizeError::TooLong { len: frame.len(), max: MAX_FRAME_LEN });
        }
        let codec = self.codec;
        let malformed = |reason| PacketizeError::Malformed { codec, reason };
        let payloads = match &mut self.state {
            State::Audio(spurt) => {
                let opus = codec == CodecName::Opus;
                return spurt.packetize(opus, frame, timestamp, max_payload, out);
            }
            State::Vp8(state) => state.packetize(frame, max_payload),
            State::Vp9(state) => state.packetize(frame, max_payload).map_err(malformed)?,
            State::Av1 => av1::packetize(frame, max_payload).map_err(malformed)?,
            State::H264 => h264::packetize(frame, max_payload).map_err(malformed)?,
        };
        if payloads.is_empty() {
            return Err(malformed("there is nothing to send in it"));
        }
        let last = payloads.len() - 1;
        out.extend(payloads.into_iter().enumerate().map(|(at, payload)| OutgoingPacket {
            payload,
            timestamp,
            marker: at == last,
        }));
        Ok(())
    }
}
