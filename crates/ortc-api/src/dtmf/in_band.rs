//! Keys in the sound of G.711, for peers that know no telephone events.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_dtmf::{
    Digit, EventPacket, Law, ToneDetectorConfig, ToneExtractor, ToneGenerator, ToneReport,
    ToneShape,
};
use ortc_io::ring::RingReceiver;
use ortc_rtp::codec::{EncodedFrame, FrameAssembler, FrameEvent};
use ortc_rtp::{CodecName, PayloadType, RTCCodec, RTCTrackDescription, ReceivedPacket, TonePacket};

use super::sending::SILENCE;

/// Hz of G.711.
const RATE: u32 = 8_000;

/// Samples of a packet that is made here: 20 ms, what everybody sends.
const FRAME: u32 = 160;

/// A tone is put into the sound this much later than it begins. Its packets have their samples
/// behind them when they are sent, 20 ms later, and go on where the audio has stopped, which is up
/// to a packet after that.
const LATER: Duration = Duration::from_millis(40);

/// The ramp of a generated tone, in samples.
const RAMP: u32 = 24;

/// Missing sound up to this long is filled with what was before it, or a tone that loses a packet
/// would be two: 60 ms. More is silence.
const CONCEALED: u32 = 480;

/// Silence that is filled in, at most: a second. After a longer one nothing can go on.
const FILLED: u32 = 8_000;

/// A tone whose sound does not go on has ended: as with telephone events.
const CUT_OFF: Duration = Duration::from_millis(300);

/// Silence after which a tone has ended for certain.
const ENDING: usize = 800;

/// The law of a codec of G.711.
pub(super) fn law(codec: &RTCCodec) -> Option<Law> {
    match codec.known()? {
        CodecName::Alaw => Some(Law::Alaw),
        CodecName::Ulaw => Some(Law::Ulaw),
        _ => None,
    }
}

/// Makes the sound of tones, in packets that take the place of a track's own.
pub(super) struct ToneSound {
    law: Law,
    generator: ToneGenerator,
    /// The tone that is made: when it began.
    begin: Option<Instant>,
    /// Hz of the clock that reports of it are in: another track may have asked for it.
    clock_rate: u32,
    /// Samples of it that have been made.
    made: u32,
    is_over: bool,
}

impl ToneSound {
    /// `None` never: the rate is one that tones are made at.
    pub(super) fn new(law: Law) -> Option<Self> {
        let generator = ToneGenerator::new(RATE, ToneShape::default()).ok()?;
        Some(Self { law, generator, begin: None, clock_rate: RATE, made: 0, is_over: false })
    }

    /// The sound of a tone as far as a report says that it has lasted; `clock_rate` is that of
    /// tones that begin now.
    pub(super) fn make(
        &mut self,
        report: &EventPacket,
        clock_rate: u32,
        payload_type: PayloadType,
    ) -> Vec<TonePacket> {
        if self.begin != Some(report.begin) {
            let Some(digit) = Digit::from_event(report.report.event) else { return Vec::new() };
            self.generator.start(digit);
            (self.begin, self.made, self.is_over) = (Some(report.begin), 0, false);
            self.clock_rate = clock_rate.max(1);
            if !report.report.end {
                // The first report tells of what is yet to sound.
                return Vec::new();
            }
        }
        if self.is_over {
            return Vec::new();
        }
        self.is_over = report.report.end;
        let lasted = u64::from(report.timestamp_offset) + u64::from(report.report.duration);
        // No tone is longer than an hour.
        let lasted = (lasted * u64::from(RATE) / u64::from(self.clock_rate)) as u32;
        let mut samples = vec![0; lasted.saturating_sub(self.made) as usize];
        if self.is_over {
            // It goes down before its end, or right after it where that is no more possible.
            let ramp = samples.len().max(RAMP as usize) - RAMP as usize;
            samples.resize(ramp + RAMP as usize, 0);
            let (sounds, falls) = samples.split_at_mut(ramp);
            self.generator.fill(sounds);
            self.generator.stop();
            self.generator.fill(falls);
        } else {
            self.generator.fill(&mut samples);
        }
        let begin = report.begin + LATER;
        let mut packets = Vec::new();
        for part in samples.chunks(FRAME as usize) {
            let payload: Bytes = part.iter().map(|sample| self.law.encode(*sample)).collect();
            let (timestamp_offset, reaches) = (self.made, self.made + part.len() as u32);
            let marker = self.made == 0;
            self.made = reaches;
            packets.push(TonePacket {
                payload,
                payload_type,
                marker,
                begin,
                timestamp_offset,
                reaches,
                pause: SILENCE,
                redundancy: None,
                fill: Some(self.law.encode(0)),
            });
        }
        if let Some(last) = packets.last_mut().filter(|_| self.is_over) {
            last.pause = Duration::ZERO;
        }
        packets
    }
}

/// Hears tones in the sound of a received track.
pub(super) struct ToneHearing {
    packets: RingReceiver<ReceivedPacket>,
    frames: FrameAssembler,
    laws: Vec<(PayloadType, Law)>,
    extractor: ToneExtractor,
    /// The timestamp at which the sound goes on.
    next: Option<u32>,
    /// The newest frame.
    last: Vec<i16>,
    /// When sound has come last.
    heard_at: Option<Instant>,
    sounds: bool,
    reports: VecDeque<ToneReport>,
}

impl ToneHearing {
    /// `None` for a track that has no G.711, or has telephone events.
    pub(super) fn of(
        description: &RTCTrackDescription,
        packets: RingReceiver<ReceivedPacket>,
    ) -> Option<Self> {
        let extractor = ToneExtractor::new(RATE, ToneDetectorConfig::default()).ok()?;
        Some(Self {
            packets,
            frames: FrameAssembler::for_track(description),
            laws: Self::laws(description)?,
            extractor,
            next: None,
            last: Vec::new(),
            heard_at: None,
            sounds: false,
            reports: VecDeque::new(),
        })
    }

    /// The payload types of G.711 in a track that has them and no telephone events.
    pub(super) fn laws(description: &RTCTrackDescription) -> Option<Vec<(PayloadType, Law)>> {
        let of = |codec: &RTCCodec| Some((codec.payload_type(), law(codec)?));
        let laws: Vec<_> = description.codecs.iter().filter_map(of).collect();
        let has_events = !description.payload_types_of(CodecName::Dtmf).is_empty();
        (!laws.is_empty() && !has_events).then_some(laws)
    }

    /// The track is described otherwise; false when tones are not in its sound any more.
    pub(super) fn set_description(&mut self, description: &RTCTrackDescription) -> bool {
        self.frames.set_codecs(description);
        let laws = Self::laws(description);
        let goes_on = laws.is_some();
        self.laws = laws.unwrap_or_default();
        goes_on
    }

    /// Waits for sound; `None` when none comes any more.
    pub(super) async fn recv(&mut self) -> Option<ReceivedPacket> {
        self.packets.recv().await
    }

    pub(super) fn take(&mut self, now: Instant, packet: ReceivedPacket) {
        self.frames.push(packet);
        self.advance(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let cut_off = self.heard_at.filter(|_| self.sounds).map(|at| at + CUT_OFF);
        [cut_off, self.frames.poll_timeout()].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        if self.sounds && self.heard_at.is_none_or(|at| at + CUT_OFF <= now) {
            self.hear(now, &mut [0; ENDING]);
            self.next = None;
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<ToneReport> {
        self.reports.pop_front()
    }

    fn advance(&mut self, now: Instant) {
        while let Some(event) = self.frames.poll(now) {
            if let FrameEvent::Frame(frame) = event {
                self.take_frame(&frame);
            }
        }
    }

    fn take_frame(&mut self, frame: &EncodedFrame) {
        let law = self.laws.iter().find(|(id, _)| *id == frame.payload_type);
        let Some(&(_, law)) = law else { return };
        let at = frame.received_at;
        let missing = self.next.map_or(0, |next| frame.timestamp.wrapping_sub(next));
        match missing {
            1..=CONCEALED if !self.last.is_empty() => {
                let last = std::mem::take(&mut self.last);
                let filled = last.iter().cycle().take(missing as usize);
                self.hear(at, &mut filled.copied().collect::<Vec<_>>());
            }
            1..=FILLED => self.hear(at, &mut vec![0; missing as usize]),
            _ => {}
        }
        self.last = frame.data.iter().map(|code| law.decode(*code)).collect();
        self.next = Some(frame.timestamp.wrapping_add(frame.data.len() as u32));
        self.heard_at = Some(at);
        let mut samples = self.last.clone();
        self.hear(at, &mut samples);
    }

    fn hear(&mut self, now: Instant, samples: &mut [i16]) {
        // What is left without its tones is of no interest here.
        self.extractor.process(now, samples);
        while let Some(report) = self.extractor.poll_output() {
            self.sounds = matches!(report, ToneReport::Began(_));
            self.reports.push_back(report);
        }
    }
}
