use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Depacketizer, FrameEvent, JitterBuffer, JitterConfig, JitterCounts};
use crate::{
    CodecName, PayloadType, RTCTrackDescription, ReceivedPacket, RedundantView, RtcpFeedback,
};

/// Makes frames of the packets of one received track, in whatever order and with whichever of
/// its codecs they come.
///
/// Push packets as they come, then poll until there is no more; poll again at
/// [`poll_timeout`](Self::poll_timeout).
///
/// ```
/// use std::time::{Duration, Instant};
/// use bytes::Bytes;
/// use ortc_rtp::codec::{FrameAssembler, FrameEvent};
/// use ortc_rtp::{CodecName, PayloadType, ReceivedPacket};
///
/// let now = Instant::now();
/// let mut frames = FrameAssembler::new([(PayloadType(0), CodecName::Ulaw)]);
/// frames.push(ReceivedPacket {
///     payload: Bytes::from_static(&[0xff; 160]),
///     payload_type: PayloadType(0),
///     sequence: 7,
///     timestamp: 0,
///     marker: true,
///     received_at: now,
///     capture_time: None,
/// });
/// let Some(FrameEvent::Frame(frame)) = frames.poll(now) else { panic!() };
/// assert_eq!((frame.data.len(), frame.key), (160, true));
/// ```
#[derive(Debug)]
pub struct FrameAssembler {
    jitter: JitterBuffer,
    clock_rates: Vec<(PayloadType, u32)>,
    codecs: Vec<(PayloadType, CodecName)>,
    depacketizer: Option<(PayloadType, Depacketizer)>,
    events: VecDeque<FrameEvent>,
    scratch: Vec<FrameEvent>,
    unknown: u64,
}

/// What a [`FrameAssembler`] has dropped or given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AssemblerCounts {
    /// By the buffer that puts packets in order.
    pub jitter: JitterCounts,
    /// Packets whose payload type stands for no codec with frames; among them telephone
    /// events, which are read elsewhere.
    pub unknown_payload_type: u64,
}

impl FrameAssembler {
    /// Makes an assembler for these payload types.
    pub fn new(codecs: impl IntoIterator<Item = (PayloadType, CodecName)>) -> Self {
        let codecs: Vec<(PayloadType, CodecName)> = codecs.into_iter().collect();
        let clock_rates = codecs.iter().map(|(id, codec)| (*id, codec.default_clock_rate()));
        Self {
            jitter: JitterBuffer::default(),
            clock_rates: clock_rates.collect(),
            codecs,
            depacketizer: None,
            events: VecDeque::new(),
            scratch: Vec::new(),
            unknown: 0,
        }
    }

    /// Makes an assembler for the codecs of a description; unknown ones are left out.
    ///
    /// Of packets of `red` the primary is taken, if it is of one of the other codecs.
    pub fn for_track(description: &RTCTrackDescription) -> Self {
        let mut assembler = Self::new([]);
        assembler.set_codecs(description);
        assembler
    }

    /// Takes packets of the codecs of this description from now on, and those that wait. Where its
    /// sender acts upon NACK, what is lost is [expected](JitterBuffer::expect_repairs) to come.
    pub fn set_codecs(&mut self, description: &RTCTrackDescription) {
        let known = |codec: &crate::RTCCodec| Some((codec.payload_type(), codec.known()?));
        self.codecs = description.codecs.iter().filter_map(known).collect();
        self.clock_rates = description.payload_types();
        if description.takes(RtcpFeedback::Nack) {
            self.jitter.expect_repairs();
        }
    }

    /// Has packets wait as `config` says.
    pub fn set_jitter(&mut self, config: JitterConfig) {
        self.jitter.set_config(config);
    }

    /// Takes a packet, in whatever order.
    pub fn push(&mut self, packet: ReceivedPacket) {
        let clock_rate = self.clock_rate(packet.payload_type);
        self.jitter.push(packet, clock_rate);
    }

    /// The clock rate of a payload type in Hz; `None` if it is none of the codecs'.
    pub fn clock_rate(&self, payload_type: PayloadType) -> Option<u32> {
        let known = self.clock_rates.iter().find(|(id, _)| *id == payload_type);
        known.map(|(_, clock_rate)| *clock_rate)
    }

    /// How long packets wait at present; see [`JitterBuffer::delay`].
    pub fn delay(&self) -> Duration {
        self.jitter.delay()
    }

    /// Hands out the next frame or damage, as of `now`.
    pub fn poll(&mut self, now: Instant) -> Option<FrameEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let packet = self.jitter.poll(now)?;
            self.handle(&packet);
            self.events.extend(self.scratch.drain(..));
        }
    }

    /// When to poll again although nothing came; `None` when nothing waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.jitter.poll_timeout()
    }

    /// Whether a key frame has to come before video can be decoded.
    pub fn needs_key_frame(&self) -> bool {
        self.depacketizer.as_ref().is_some_and(|(_, depacketizer)| depacketizer.needs_key_frame())
    }

    /// What was dropped or given up so far.
    pub fn counts(&self) -> AssemblerCounts {
        let jitter = self.jitter.counts();
        AssemblerCounts { jitter, unknown_payload_type: self.unknown }
    }

    fn handle(&mut self, packet: &ReceivedPacket) {
        let is_red = |(id, codec): &(PayloadType, CodecName)| {
            *codec == CodecName::Red && *id == packet.payload_type
        };
        if !self.codecs.iter().any(is_red) {
            return self.handle_plain(packet);
        }
        match RedundantView::parse(&packet.payload) {
            Ok(view) => {
                let primary = view.primary();
                let payload = packet.payload.slice_ref(primary.payload);
                let payload_type = primary.payload_type;
                self.handle_plain(&ReceivedPacket { payload, payload_type, ..packet.clone() });
            }
            Err(_) => self.skip(packet),
        }
    }

    fn handle_plain(&mut self, packet: &ReceivedPacket) {
        let known = self.codecs.iter().find(|(id, _)| *id == packet.payload_type);
        let Some(&(id, codec)) = known else {
            self.skip(packet);
            return;
        };
        // A sender that changes its codec begins again, with a key frame.
        if self.depacketizer.as_ref().is_none_or(|(current, _)| *current != id) {
            match Depacketizer::new(codec) {
                Some(made) => self.depacketizer = Some((id, made)),
                None => return self.skip(packet),
            }
        }
        if let Some((_, depacketizer)) = &mut self.depacketizer {
            depacketizer.handle(packet, &mut self.scratch);
        }
    }

    /// Drops a packet that belongs to no frame; its number is not missing.
    fn skip(&mut self, packet: &ReceivedPacket) {
        self.unknown += 1;
        if let Some((_, depacketizer)) = &mut self.depacketizer {
            let empty = ReceivedPacket { payload: bytes::Bytes::new(), ..packet.clone() };
            depacketizer.handle(&empty, &mut self.scratch);
        }
    }
}
