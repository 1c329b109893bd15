//! Telephone events among the audio of a track (RFC 4733 §2.1): cores of both directions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::ring::PushError;

use super::SendStream;
use crate::redundancy::MAX_OFFSET;
use crate::{
    ReceivedPacket, ReceivedTonePacket, RedundantBlock, RedundantView, RtpHeader, RtpView,
    TonePacket, ToneRoute, write_redundant,
};

/// Length of a payload that reports one event (RFC 4733 §2.3): what a peer may send with another
/// payload type than it has described.
const ONE_REPORT: usize = 4;

/// Events that a packet may repeat: RFC 4733 §2.6.1 speaks of five.
const MAX_REPEATED: usize = 5;

/// Longest event that is repeated: four reports.
const MAX_REPEATED_LEN: usize = 16;

/// Bytes that repeating adds to a packet at most: a header and a payload for each event, and a
/// header for the packet's own.
pub(crate) const MAX_REPETITION: usize = MAX_REPEATED * (4 + MAX_REPEATED_LEN) + 1;

/// Longest payload that repeats others.
const MAX_REDUNDANT: usize = MAX_REPETITION + MAX_REPEATED_LEN;

/// Samples of a packet of audio of one byte a sample: 20 ms, what everybody sends.
const FRAME: u32 = 160;

/// Bytes that filling up adds to a packet at most.
pub(crate) const MAX_FILLED: usize = 3 * FRAME as usize;

/// The audio that follows a tone in the sound may come this much early.
const EARLY: Duration = Duration::from_millis(5);

/// What a sending track's tones do to it: their place among its audio, and what they repeat.
///
/// It belongs to one stream, and is run by whoever writes that stream's packets.
#[derive(Debug, Default)]
pub struct TonePlacer {
    /// The newest event: when it began, its timestamp, and the one that it reaches to.
    newest: Option<(Instant, u32, u32)>,
    paused_until: Option<Instant>,
    /// Samples that the newest event was filled up with at its beginning.
    lead: u32,
    /// Events that are over, the newest last.
    over: VecDeque<Over>,
}

/// An event that is over: what is repeated of it.
#[derive(Debug)]
struct Over {
    timestamp: u32,
    payload: Bytes,
}

impl TonePlacer {
    /// Whether a tone sounds at `now`, so that no audio is sent.
    pub fn is_sounding(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Whether nothing has been sent, or what was sent last has let the audio go on.
    pub fn is_over(&self) -> bool {
        self.paused_until.is_none()
    }

    /// Places a packet that is sent at `now`: its header, with the stream's next sequence number
    /// and the timestamp that the audio had when the event began, and the payload to send.
    pub fn place(
        &mut self,
        now: Instant,
        stream: &mut SendStream,
        packet: &TonePacket,
    ) -> (RtpHeader<'static>, Bytes) {
        let timestamp = self.timestamp(stream, packet);
        self.paused_until = (!packet.pause.is_zero()).then(|| now + packet.pause);
        let mut payload_type = packet.payload_type;
        let mut payload = packet.payload.clone();
        if let Some(redundancy) = packet.redundancy {
            if let Some(repeating) = self.repeating(timestamp, packet) {
                (payload_type, payload) = (redundancy.payload_type, repeating);
            }
            if packet.pause.is_zero() {
                self.remember(timestamp, packet);
            }
        }
        if let Some(byte) = packet.fill {
            payload = self.filled(now, stream, packet, timestamp, byte);
        }
        let header = stream.next_tone(packet.begin, timestamp, payload.len());
        (RtpHeader { payload_type, marker: packet.marker, ..header }, payload)
    }

    fn timestamp(&mut self, stream: &SendStream, packet: &TonePacket) -> u32 {
        let TonePacket { begin, timestamp_offset, reaches, .. } = *packet;
        let timestamp = match self.newest {
            Some((of, timestamp, _)) if of == begin => timestamp,
            _ if packet.fill.is_some() => self.behind_audio(stream, begin),
            newest => {
                self.lead = 0;
                let timestamp = stream.timestamp_of(begin);
                // Audio that came late has moved the clock back by some milliseconds. Events
                // must not overlap, or a receiver takes two for one (RFC 4733 §2.5.1.4).
                let second = stream.in_clock_units(Duration::from_secs(1)).max(2);
                match newest {
                    Some((_, _, free)) if (1..second).contains(&free.wrapping_sub(timestamp)) => {
                        free
                    }
                    _ => timestamp,
                }
            }
        };
        self.newest = Some((begin, timestamp, timestamp.wrapping_add(reaches)));
        // What fills up the beginning is before the first of the event's own samples.
        let lead = if timestamp_offset == 0 { 0 } else { self.lead };
        timestamp.wrapping_add(timestamp_offset + lead)
    }

    /// Where a packet of audio would begin, at that moment or a little before, and notes by how
    /// much.
    fn behind_audio(&mut self, stream: &SendStream, begin: Instant) -> u32 {
        let timestamp = stream.timestamp_of(begin);
        let audio = stream.newest().map_or(timestamp, |(_, newest)| newest);
        let ahead = u32::try_from(timestamp.wrapping_sub(audio) as i32).unwrap_or(0);
        // Audio that is due about now takes its place behind the tone.
        let frames = if ahead <= 3 * FRAME { FRAME } else { (ahead.div_ceil(FRAME) - 1) * FRAME };
        self.lead = ahead.saturating_sub(frames);
        audio.wrapping_add(frames)
    }

    /// The payload of a piece of sound, filled up to whole packets of audio at either end of the
    /// event.
    fn filled(
        &mut self,
        now: Instant,
        stream: &SendStream,
        packet: &TonePacket,
        timestamp: u32,
        byte: u8,
    ) -> Bytes {
        let lead = if packet.timestamp_offset == 0 { self.lead } else { 0 };
        let mut payload = vec![byte; lead as usize];
        payload.extend_from_slice(&packet.payload);
        if packet.pause.is_zero() {
            let sound = self.lead + packet.reaches;
            payload.resize(payload.len() + (sound.next_multiple_of(FRAME) - sound) as usize, byte);
            // The next packet of audio is the one that follows.
            let end = timestamp.wrapping_add(payload.len() as u32);
            let ahead = end.wrapping_sub(stream.timestamp_at(now)) as i32;
            let second = stream.in_clock_units(Duration::from_secs(1)).max(1);
            let ahead = u32::try_from(ahead).unwrap_or(0).min(second);
            let until = Duration::from_secs_f64(f64::from(ahead) / f64::from(second));
            self.paused_until = Some(now + until.saturating_sub(EARLY));
        }
        payload.into()
    }

    /// The payload of a packet, and before it those of events that are over, as far as the 14
    /// bits reach: 0.3 s at 48 kHz, 2 s at 8 kHz. `None` when it does not fit.
    fn repeating(&self, timestamp: u32, packet: &TonePacket) -> Option<Bytes> {
        let most = packet.redundancy.map_or(0, |it| usize::from(it.events)).min(MAX_REPEATED);
        let block = |timestamp_offset, payload| RedundantBlock {
            payload_type: packet.payload_type,
            timestamp_offset,
            payload,
        };
        let mut blocks = [block(0, &[][..]); MAX_REPEATED + 1];
        // Its own is there as well, once its end is told again.
        let before = self.over.iter().filter_map(|over| {
            let back = timestamp.wrapping_sub(over.timestamp);
            (1..=MAX_OFFSET).contains(&back).then_some((back as u16, &over.payload))
        });
        let count = before.clone().count().min(most);
        let too_many = before.clone().count() - count;
        for (place, (back, payload)) in blocks.iter_mut().zip(before.skip(too_many)) {
            *place = block(back, payload);
        }
        blocks[count] = block(0, &packet.payload);
        let mut bytes = [0; MAX_REDUNDANT];
        let len = write_redundant(&blocks[..=count], &mut bytes).ok()?;
        Some(Bytes::copy_from_slice(&bytes[..len]))
    }

    /// Keeps the end of an event, which is told several times.
    fn remember(&mut self, timestamp: u32, packet: &TonePacket) {
        self.over.retain(|over| over.timestamp != timestamp);
        if packet.payload.len() <= MAX_REPEATED_LEN {
            self.over.push_back(Over { timestamp, payload: packet.payload.clone() });
        }
        if self.over.len() > MAX_REPEATED + 1 {
            self.over.pop_front();
        }
    }
}

/// Where the tones of a receiving track go, and what is known of its sequence numbers.
///
/// It belongs to one stream, and sees all of its packets.
#[derive(Debug)]
pub struct ToneSplitter {
    route: ToneRoute,
    /// The highest index so far.
    newest: Option<u64>,
    /// When it was last seen that something may be missing.
    gap_at: Option<Instant>,
}

/// What became of a packet that a [`ToneSplitter`] has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitPacket {
    /// It is none of a tone: the reader of the audio gets it.
    Audio,
    /// It is of a tone only, and has gone where those go, or not: the reader of the audio gets
    /// its number alone, or it would wait for what is missing there.
    Tone(Result<(), PushError<()>>),
    /// It has audio and tones, and those have gone where they go: the reader of the audio gets
    /// it too.
    Both,
}

impl ToneSplitter {
    /// Makes the splitter of one stream.
    pub fn new(route: ToneRoute) -> Self {
        Self { route, newest: None, gap_at: None }
    }

    /// Looks for tones of other payload types from now on; where they go stays the same.
    pub fn set_payload_types(&mut self, types: crate::TonePayloadTypes) {
        self.route.payload_types = types;
    }

    /// Takes a packet of the track.
    ///
    /// `is_described` is false for a payload type of no codec of the track: that of a tone, if
    /// it is as short as one; whoever reads it looks closer.
    pub fn take(
        &mut self,
        now: Instant,
        view: &RtpView<'_>,
        index: u64,
        is_described: bool,
        packet: impl FnOnce() -> ReceivedPacket,
    ) -> SplitPacket {
        let types = &self.route.payload_types;
        let is_event = match is_described {
            true => types.events.contains(&view.payload_type()),
            false => view.payload().len() == ONE_REPORT,
        };
        let has_event = || {
            types.redundant.contains(&view.payload_type())
                && RedundantView::parse(view.payload()).is_ok_and(|view| {
                    view.blocks().any(|block| types.events.contains(&block.payload_type))
                })
        };
        let previous = self.newest;
        if previous.is_none_or(|newest| index > newest + 1) {
            self.gap_at = Some(now);
        }
        self.newest = previous.max(Some(index));
        if !is_event && !has_event() {
            return SplitPacket::Audio;
        }
        // A ring that nobody reads may be full as well.
        let pushed = if self.route.packets.is_full() && !self.route.packets.is_closed() {
            Err(PushError::Full(()))
        } else {
            let tone = ReceivedTonePacket { packet: packet(), previous, gap_at: self.gap_at };
            self.route.packets.push(tone).map_err(|error| match error {
                PushError::Full(_) => PushError::Full(()),
                PushError::Closed(_) => PushError::Closed(()),
            })
        };
        if is_event { SplitPacket::Tone(pushed) } else { SplitPacket::Both }
    }
}
