use std::time::Instant;

use bytes::Bytes;

use super::{MAX_FRAME_LEN, av1, h264, vp8, vp9};
use crate::{CodecName, NtpTime, PayloadType, ReceivedPacket, opus_packet_duration};

/// A payload is not what its format allows; it costs the frame it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A frame that came whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    /// The frame, for a decoder or a file.
    pub data: Bytes,
    /// The RTP timestamp as received.
    pub timestamp: u32,
    /// Whether it can be decoded without any other; always so for audio.
    pub key: bool,
    /// Whether every frame since the last key frame came whole. Always so for audio; a video
    /// decoder shows rubbish for a frame of which this is false.
    pub intact: bool,
    /// Sequence number of its first packet, with rollovers.
    pub sequence: u64,
    /// The payload type of its packets.
    pub payload_type: PayloadType,
    /// When its last packet was taken from the socket.
    pub received_at: Instant,
    /// When it was captured, by the clock of its sender; `None` until that is known.
    pub capture_time: Option<NtpTime>,
}

/// Why a frame, or part of the stream, is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Damage {
    /// Packets never came.
    Lost {
        /// How many.
        packets: u64,
    },
    /// The stream does not begin with the beginning of a frame, or the end of one is missing.
    Incomplete,
    /// A payload is not what its format allows.
    Malformed,
    /// A frame is longer than allowed.
    TooLong,
}

/// What comes out of a [`Depacketizer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameEvent {
    /// A frame is whole.
    Frame(EncodedFrame),
    /// Something is missing here. For video this is the moment to ask for a key frame.
    Damaged(Damage),
}

/// Puts the packets of one codec together into frames.
///
/// Packets have to come in order of their sequence numbers; a gap is a loss. What is older
/// than the newest is dropped. Memory is bounded by the longest frame.
#[derive(Debug, Clone)]
pub struct Depacketizer {
    codec: CodecName,
    unpacker: Unpacker,
    max_frame_len: usize,
    /// The sequence number that comes next; `None` before the first packet.
    next: Option<u64>,
    /// The frame that is being put together.
    current: Option<Current>,
    data: Vec<u8>,
    /// The timestamp of a damaged frame, of which nothing more is taken.
    skipped: Option<u32>,
    needs_key: bool,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    timestamp: u32,
    sequence: u64,
    payload_type: PayloadType,
    received_at: Instant,
    capture_time: Option<NtpTime>,
}

/// Where a packet stands after those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Next,
    AfterGap,
}

#[derive(Debug, Clone)]
enum Unpacker {
    Opus,
    G711,
    Vp8,
    Vp9,
    Av1(av1::Unpacker),
    H264(h264::Unpacker),
}

impl Depacketizer {
    /// Makes a depacketizer; `None` for [`CodecName::Dtmf`], [`CodecName::Red`] and
    /// [`CodecName::Rtx`], which have no frames of their own.
    pub fn new(codec: CodecName) -> Option<Self> {
        let unpacker = match codec {
            CodecName::Opus => Unpacker::Opus,
            CodecName::Alaw | CodecName::Ulaw => Unpacker::G711,
            CodecName::Vp8 => Unpacker::Vp8,
            CodecName::Vp9 => Unpacker::Vp9,
            CodecName::Av1 => Unpacker::Av1(av1::Unpacker::default()),
            CodecName::H264 => Unpacker::H264(h264::Unpacker::default()),
            CodecName::Dtmf | CodecName::Red | CodecName::Rtx => return None,
        };
        let needs_key = !matches!(unpacker, Unpacker::Opus | Unpacker::G711);
        Some(Self {
            codec,
            unpacker,
            max_frame_len: MAX_FRAME_LEN,
            next: None,
            current: None,
            data: Vec::new(),
            skipped: None,
            needs_key,
        })
    }

    /// Allows frames of at most `bytes` instead of [`MAX_FRAME_LEN`].
    pub fn with_max_frame_len(mut self, bytes: usize) -> Self {
        self.max_frame_len = bytes;
        self
    }

    /// The codec.
    pub fn codec(&self) -> CodecName {
        self.codec
    }

    /// Whether a key frame has to come before anything can be decoded: so from the beginning,
    /// and after damage. Never for audio.
    pub fn needs_key_frame(&self) -> bool {
        self.needs_key
    }

    /// Takes a packet and appends what became of it to `out`: at most one frame that it
    /// completes, the one before it, whose marker was missing, and two damages.
    pub fn handle(&mut self, packet: &ReceivedPacket, out: &mut Vec<FrameEvent>) {
        let place = match self.next {
            Some(next) if packet.sequence < next => return,
            Some(next) if packet.sequence > next => {
                let damage = Damage::Lost { packets: packet.sequence - next };
                self.drop_current(packet.timestamp);
                self.damaged(damage, out);
                Place::AfterGap
            }
            Some(_) => Place::Next,
            None => Place::First,
        };
        self.next = Some(packet.sequence.saturating_add(1));
        // Padding alone: senders probe with it. It says nothing of frames.
        if packet.payload.is_empty() {
            return;
        }
        if matches!(self.unpacker, Unpacker::Opus | Unpacker::G711) {
            self.handle_audio(packet, out);
        } else {
            self.handle_video(packet, place, out);
        }
    }

    /// Bytes held of a frame that is not whole yet.
    pub fn buffered(&self) -> usize {
        let pending = match &self.unpacker {
            Unpacker::Av1(unpacker) => unpacker.pending(),
            _ => 0,
        };
        self.data.len() + pending
    }

    /// Forgets the frame that is being put together: the stream was interrupted.
    pub fn reset(&mut self) {
        self.next = None;
        self.skipped = None;
        self.clear();
        self.needs_key = !matches!(self.unpacker, Unpacker::Opus | Unpacker::G711);
    }

    fn handle_audio(&mut self, packet: &ReceivedPacket, out: &mut Vec<FrameEvent>) {
        let opus = matches!(self.unpacker, Unpacker::Opus);
        if opus && opus_packet_duration(&packet.payload).is_none() {
            self.damaged(Damage::Malformed, out);
            return;
        }
        out.push(FrameEvent::Frame(EncodedFrame {
            data: packet.payload.clone(),
            timestamp: packet.timestamp,
            key: true,
            intact: true,
            sequence: packet.sequence,
            payload_type: packet.payload_type,
            received_at: packet.received_at,
            capture_time: packet.capture_time,
        }));
    }

    fn handle_video(&mut self, packet: &ReceivedPacket, place: Place, out: &mut Vec<FrameEvent>) {
        if self.current.is_some_and(|current| current.timestamp != packet.timestamp) {
            // The marker was left out (RFC 6184 §5.1 and others let a sender do so).
            self.finish(out);
        }
        if self.skipped == Some(packet.timestamp) {
            // The rest of a damaged frame. One that begins anew at the same time would be a
            // part of it: a slice, a partition, a layer.
            if packet.marker {
                self.skipped = None;
            }
            return;
        }
        self.skipped = None;
        if self.current.is_none() {
            if !self.begins(&packet.payload, place) {
                // A gap was reported by itself.
                if place != Place::AfterGap {
                    self.damaged(Damage::Incomplete, out);
                }
                self.skip_rest(packet);
                return;
            }
            let ReceivedPacket { timestamp, sequence, payload_type, received_at, .. } = *packet;
            let capture_time = None;
            self.current =
                Some(Current { timestamp, sequence, payload_type, received_at, capture_time });
        }
        if let Err(damage) = self.append(packet) {
            self.clear();
            self.skip_rest(packet);
            self.damaged(damage, out);
            return;
        }
        if packet.marker {
            self.finish(out);
        }
    }

    fn begins(&self, payload: &[u8], place: Place) -> bool {
        let contiguous = place == Place::Next;
        match &self.unpacker {
            Unpacker::Opus | Unpacker::G711 => true,
            Unpacker::Vp8 => vp8::begins(payload),
            Unpacker::Vp9 => vp9::begins(payload),
            // What follows the end of a frame is the beginning of the next, whatever it is.
            Unpacker::Av1(_) => contiguous || av1::begins(payload),
            Unpacker::H264(_) => contiguous || h264::begins(payload),
        }
    }

    fn append(&mut self, packet: &ReceivedPacket) -> Result<(), Damage> {
        if let Some(current) = &mut self.current {
            current.received_at = packet.received_at;
            current.capture_time = packet.capture_time.or(current.capture_time);
        }
        if self.buffered() + packet.payload.len() > self.max_frame_len {
            return Err(Damage::TooLong);
        }
        match &mut self.unpacker {
            Unpacker::Opus | Unpacker::G711 => Ok(()),
            Unpacker::Vp8 => vp8::append(&packet.payload, &mut self.data),
            Unpacker::Vp9 => vp9::append(&packet.payload, &mut self.data),
            Unpacker::Av1(unpacker) => unpacker.append(&packet.payload, &mut self.data),
            Unpacker::H264(unpacker) => unpacker.append(&packet.payload, &mut self.data),
        }
        .map_err(|Malformed| Damage::Malformed)
    }

    /// Ends the frame that is being put together.
    fn finish(&mut self, out: &mut Vec<FrameEvent>) {
        let Some(current) = self.current.take() else { return };
        let key = match &mut self.unpacker {
            Unpacker::Opus | Unpacker::G711 => Ok(true),
            Unpacker::Vp8 => Ok(vp8::is_key(&self.data)),
            Unpacker::Vp9 => Ok(vp9::is_key(&self.data)),
            Unpacker::Av1(unpacker) => unpacker.finish().map(|()| av1::is_key(&self.data)),
            Unpacker::H264(unpacker) => unpacker.finish(),
        };
        let Ok(key) = key else {
            self.clear();
            self.damaged(Damage::Incomplete, out);
            return;
        };
        if key {
            self.needs_key = false;
        }
        out.push(FrameEvent::Frame(EncodedFrame {
            data: std::mem::take(&mut self.data).into(),
            timestamp: current.timestamp,
            key,
            intact: !self.needs_key,
            sequence: current.sequence,
            payload_type: current.payload_type,
            received_at: current.received_at,
            capture_time: current.capture_time,
        }));
    }

    /// Drops the frame that is being put together, whose packets are missing; what comes of it
    /// later is skipped.
    fn drop_current(&mut self, timestamp: u32) {
        if let Some(current) = self.current
            && current.timestamp == timestamp
        {
            self.skipped = Some(timestamp);
        }
        self.clear();
    }

    fn skip_rest(&mut self, packet: &ReceivedPacket) {
        self.skipped = (!packet.marker).then_some(packet.timestamp);
    }

    fn clear(&mut self) {
        self.current = None;
        self.data.clear();
        match &mut self.unpacker {
            Unpacker::Av1(unpacker) => unpacker.reset(),
            Unpacker::H264(unpacker) => unpacker.reset(),
            _ => {}
        }
    }

    fn damaged(&mut self, damage: Damage, out: &mut Vec<FrameEvent>) {
        self.needs_key = !matches!(self.unpacker, Unpacker::Opus | Unpacker::G711);
        out.push(FrameEvent::Damaged(damage));
    }
}
