use std::collections::VecDeque;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::clock::StreamClock;
use crate::packet::{EventPacket, Redundancy};
use crate::sounding::Sounding;
use crate::tone::{DEFAULT_DURATION, DEFAULT_GAP, Item};
use crate::{DTMFTone, Digit};

/// Draft B's limits (§4.2.2.1).
const MIN_DURATION: Duration = Duration::from_millis(70);
const MAX_DURATION: Duration = Duration::from_millis(6_000);
const MIN_GAP: Duration = DEFAULT_GAP;
/// What a `,` stands for (draft B §4.2.2.1).
const PAUSE: Duration = Duration::from_millis(2_000);

/// Draft A gives no limits; times have to end at some point, and an hour is more than any key.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Tones that wait: more than anyone dials, and 40 kB.
const MAX_TONES: usize = 1_024;

/// A caller that is later than this to a tone's beginning has it begin when it comes: with
/// less, tones keep to their times and only the packets are late.
const LATE: Duration = Duration::from_millis(20);

/// How a [`ToneQueue`] puts its tones into packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToneQueueConfig {
    /// Hz of the stream's clock, that of the audio beside it. More than 0.
    pub clock_rate: u32,
    /// Between two reports of a tone, and between the packets of its end; 20 ms unless set,
    /// at least 5.
    pub update_interval: Duration,
    /// Packets that say the end, 1 to 8; three unless set (RFC 4733 §2.5.1.4).
    pub end_packets: u8,
    /// Level of the tones: dBm0 without the sign, 0 to 63; 10 unless set.
    pub volume: u8,
    /// A held tone sounds at least this long, however quickly its key is released; 40 ms unless
    /// set, what ITU-T Q.24 asks of every receiver to recognise.
    pub min_held: Duration,
    /// Repeats events that are over in each packet, as RFC 2198 has it; none unless set.
    pub redundancy: Option<RedundancyConfig>,
}

/// How packets repeat events (RFC 2198, RFC 4733 §2.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedundancyConfig {
    /// The payload type of `telephone-event` in the description, 0 to 127: it stands within
    /// the payload, while the packet has that of `red`.
    pub payload_type: u8,
    /// Events before the one that is sent that each packet repeats, at most 5.
    pub events: u8,
}

impl ToneQueueConfig {
    /// A queue for a stream whose clock has `clock_rate` Hz.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            update_interval: Duration::from_millis(20),
            end_packets: 3,
            volume: 10,
            min_held: Duration::from_millis(40),
            redundancy: None,
        }
    }
}

/// The tone engine of a sending stream: both drafts' commands in, packets and events out.
///
/// Draft B's handler uses [`insert_dtmf`](Self::insert_dtmf), which replaces what waits; draft
/// A's track uses [`play`](Self::play), which adds to it, and [`tonestart`](Self::tonestart).
/// The crate's documentation has the drive loop.
#[derive(Debug)]
pub struct ToneQueue {
    config: ToneQueueConfig,
    redundancy: Option<Redundancy>,
    clock: StreamClock,
    state: State,
    items: VecDeque<Item>,
    /// A key that is held, whose tone has not begun, and since when.
    held: Option<(Digit, Instant)>,
    /// Packets of an end that is over that are still to be sent.
    ends: Option<Ends>,
    packets: VecDeque<EventPacket>,
    events: VecDeque<ToneEvent>,
    /// Nothing begins before it was asked for.
    newest_command: Option<Instant>,
    /// Something has been played that no [`ToneEvent::QueueEmpty`] has followed.
    has_played: bool,
    duration: Duration,
    gap: Duration,
}

#[derive(Debug)]
enum State {
    Idle,
    Sounding(Sounding),
    /// A gap or a pause.
    Waiting {
        until: Instant,
        is_pause: bool,
    },
}

#[derive(Debug)]
struct Ends {
    packet: EventPacket,
    remaining: u8,
    next_at: Instant,
}

/// What a [`ToneQueue`] wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToneOutput {
    /// A packet to be sent now.
    Packet(EventPacket),
    /// Something to be told.
    Event(ToneEvent),
}

/// What happens to the tones of a [`ToneQueue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToneEvent {
    /// A tone begins (draft A `tonestart`).
    Began {
        /// Which.
        digit: Digit,
        /// When.
        at: Instant,
    },
    /// A tone has ended (draft A `tonestop`, and `tone` if it was completed).
    Ended {
        /// Which.
        digit: Digit,
        /// When it began.
        begin: Instant,
        /// How long it has sounded.
        duration: Duration,
        /// The silence that follows.
        gap: Duration,
        /// False when [`ToneQueue::flush`] cut it.
        completed: bool,
    },
    /// All has been played, and the gap after it is over.
    QueueEmpty {
        /// When.
        at: Instant,
    },
}

impl ToneEvent {
    /// What draft A's event `tone` tells: the digit that has completed, with the duration that it
    /// really had. `None` for other events, and for a tone that was cut.
    pub fn tone(&self) -> Option<DTMFTone> {
        match *self {
            Self::Ended { digit, duration, gap, completed: true, .. } => {
                Some(DTMFTone { digits: digit.to_string(), duration, inter_tone_gap: gap })
            }
            Self::Ended { .. } | Self::Began { .. } | Self::QueueEmpty { .. } => None,
        }
    }
}

/// Why [`ToneQueue::insert_dtmf`] did nothing (draft B §4.2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InsertDtmfError {
    /// Tones of less than 70 ms.
    #[error("a tone lasts 70 ms at least, not {} ms", .0.as_millis())]
    DurationTooShort(Duration),
    /// Tones of more than 6,000 ms.
    #[error("a tone lasts 6000 ms at most, not {} ms", .0.as_millis())]
    DurationTooLong(Duration),
    /// A gap of less than 50 ms.
    #[error("the gap between tones is 50 ms at least, not {} ms", .0.as_millis())]
    GapTooShort(Duration),
    /// More tones than the queue holds.
    #[error("more than {MAX_TONES} tones")]
    TooMany,
}

/// Why [`ToneQueue::play`] or [`ToneQueue::tonestart`] did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PlayError {
    /// A tone that lasts no time.
    #[error("a tone of no duration")]
    NoDuration,
    /// A duration or a gap of more than an hour.
    #[error("a duration or a gap of more than an hour")]
    TooLong,
    /// The queue is full.
    #[error("more than {MAX_TONES} tones wait")]
    TooMany,
    /// There is no tone of this character.
    #[error("`{0}` is no DTMF digit")]
    NotADigit(char),
}

#[derive(Debug, Clone, Copy)]
enum Step {
    RepeatEnd,
    Update,
    End,
    Next,
}

impl ToneQueue {
    /// An empty queue. What `config` has out of range is brought into it.
    pub fn new(config: ToneQueueConfig) -> Self {
        let config = ToneQueueConfig {
            clock_rate: config.clock_rate.max(1),
            update_interval: config
                .update_interval
                .clamp(Duration::from_millis(5), Duration::from_secs(1)),
            end_packets: config.end_packets.clamp(1, 8),
            volume: config.volume.min(63),
            min_held: config.min_held.min(LONGEST),
            ..config
        };
        let redundancy =
            config.redundancy.map(|other| Redundancy::new(other.payload_type, other.events));
        Self {
            config,
            redundancy,
            clock: StreamClock::default(),
            state: State::Idle,
            items: VecDeque::new(),
            held: None,
            ends: None,
            packets: VecDeque::new(),
            events: VecDeque::new(),
            newest_command: None,
            has_played: false,
            duration: DEFAULT_DURATION,
            gap: DEFAULT_GAP,
        }
    }

    /// Replaces what waits by `tones` (draft B §4.2.2.1 "insertDTMF").
    ///
    /// `0` to `9`, `A` to `D`, `a` to `d`, `#` and `*` are tones, `,` is a pause of 2 s, other
    /// characters are left out. The duration is 100 ms unless given, the gap 50, and at most an
    /// hour. The tone that sounds goes on to its end, and so does a held one; a pause is cut short. `""` takes back
    /// what waits, and a held tone that has not begun.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, when the duration is not within 70 to 6,000 ms, when the gap
    /// is less than 50 ms, and with more than 1,024 tones.
    pub fn insert_dtmf(
        &mut self,
        now: Instant,
        tones: &str,
        duration: Option<Duration>,
        gap: Option<Duration>,
    ) -> Result<(), InsertDtmfError> {
        let duration = duration.unwrap_or(DEFAULT_DURATION);
        let gap = gap.unwrap_or(DEFAULT_GAP).min(LONGEST);
        if duration < MIN_DURATION {
            return Err(InsertDtmfError::DurationTooShort(duration));
        }
        if duration > MAX_DURATION {
            return Err(InsertDtmfError::DurationTooLong(duration));
        }
        if gap < MIN_GAP {
            return Err(InsertDtmfError::GapTooShort(gap));
        }
        let items: VecDeque<Item> = Item::read(tones, duration, gap).take(MAX_TONES + 1).collect();
        if items.len() > MAX_TONES {
            return Err(InsertDtmfError::TooMany);
        }
        self.items = items;
        self.held = None;
        (self.duration, self.gap) = (duration, gap);
        self.cut_pause(now);
        self.wake(now);
        Ok(())
    }

    /// Adds tones to what waits (draft A "play"): of each, its digits one after another.
    ///
    /// For a string with the defaults there is [`play_digits`](Self::play_digits).
    ///
    /// # Errors
    ///
    /// Fails, and adds nothing, when a tone has no duration or lasts more than an hour, and when
    /// more than 1,024 tones would wait.
    pub fn play(&mut self, now: Instant, tones: &[DTMFTone]) -> Result<(), PlayError> {
        if tones.iter().any(|tone| tone.duration.is_zero()) {
            return Err(PlayError::NoDuration);
        }
        if tones.iter().any(|tone| tone.duration.max(tone.inter_tone_gap) > LONGEST) {
            return Err(PlayError::TooLong);
        }
        let room = MAX_TONES.saturating_sub(self.items.len());
        let read = |tone: &DTMFTone| -> Vec<Item> {
            let items = Item::read(&tone.digits, tone.duration, tone.inter_tone_gap);
            items.take(room + 1).collect()
        };
        let items: Vec<Item> = tones.iter().flat_map(read).take(room + 1).collect();
        if items.len() > room {
            return Err(PlayError::TooMany);
        }
        self.items.extend(items);
        self.wake(now);
        Ok(())
    }

    /// Adds the digits of a string, 100 ms each and 50 ms apart (draft A "play").
    ///
    /// # Errors
    ///
    /// Fails as [`play`](Self::play) does.
    pub fn play_digits(&mut self, now: Instant, digits: &str) -> Result<(), PlayError> {
        self.play(now, &[DTMFTone::new(digits)])
    }

    /// Presses a key: its tone begins when nothing else waits, and sounds until
    /// [`tonestop`](Self::tonestop) (draft A "tonestart").
    ///
    /// What is played in the meantime goes first as long as the tone has not begun, and after it
    /// from then on. A key that was still held is released.
    ///
    /// # Errors
    ///
    /// Fails when the character is no digit, and when 1,024 tones wait.
    pub fn tonestart(&mut self, now: Instant, digit: char) -> Result<(), PlayError> {
        let digit = Digit::from_char(digit).ok_or(PlayError::NotADigit(digit))?;
        if self.items.len() >= MAX_TONES {
            return Err(PlayError::TooMany);
        }
        self.tonestop(now);
        self.held = Some((digit, now));
        self.wake(now);
        Ok(())
    }

    /// Releases the key (draft A "tonestop"); without one that is held it does nothing.
    ///
    /// A tone that has not begun yet is not lost: it is played for as long as its key was held.
    pub fn tonestop(&mut self, now: Instant) {
        let min = self.config.min_held;
        if let Some((digit, since)) = self.held.take() {
            let duration = now.saturating_duration_since(since).clamp(min, LONGEST);
            let duration = duration.max(Duration::from_millis(1));
            self.items.push_back(Item::Tone { digit, duration, gap: DEFAULT_GAP });
        } else if let State::Sounding(tone) = &mut self.state {
            tone.end.get_or_insert(now.max(tone.begin + min));
        }
    }

    /// Stops the tone that sounds and empties the queue (draft A "flush").
    pub fn flush(&mut self, now: Instant) {
        self.items.clear();
        self.held = None;
        self.cut_pause(now);
        if let State::Sounding(tone) = &mut self.state
            && tone.end.is_none_or(|end| now < end)
        {
            tone.end = Some(now.max(tone.begin));
            tone.is_cut = true;
        }
    }

    /// What is still to be played (draft B "toneBuffer"); the tone that sounds and a held one
    /// are not in it.
    pub fn tone_buffer(&self) -> String {
        self.items.iter().map(|item| item.to_char()).collect()
    }

    /// The duration of the newest [`insert_dtmf`](Self::insert_dtmf) (draft B "duration").
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The gap of the newest [`insert_dtmf`](Self::insert_dtmf) (draft B "interToneGap").
    pub fn inter_tone_gap(&self) -> Duration {
        self.gap
    }

    /// The digit that sounds.
    pub fn sounding(&self) -> Option<Digit> {
        match &self.state {
            State::Sounding(tone) => Some(tone.digit),
            State::Idle | State::Waiting { .. } => None,
        }
    }

    /// True while a tone sounds: the stream sends events and no audio (RFC 4733 §2.4). Audio
    /// keeps its timestamps, so that it goes on with the right one.
    pub fn is_audio_paused(&self) -> bool {
        self.sounding().is_some()
    }

    /// Nothing sounds, nothing waits, and nothing is left to be sent or told.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
            && self.ends.is_none()
            && self.packets.is_empty()
            && self.events.is_empty()
    }

    /// Says which timestamp the stream has at `now`: to be called with each audio packet, sent
    /// or paused, so that events get timestamps of the same clock.
    ///
    /// Without it the first event has timestamp 0, and the others follow in time.
    pub fn audio_sent(&mut self, now: Instant, timestamp: u32) {
        self.clock.set(now, timestamp);
    }

    /// Changes the rate of the clock, from the next tone on: the audio has another codec.
    pub fn set_clock_rate(&mut self, clock_rate: u32) {
        self.config.clock_rate = clock_rate.max(1);
    }

    /// When there is something to be polled next, and why; `None` while nothing is played.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if !self.packets.is_empty() || !self.events.is_empty() {
            return self.newest_command.map(|at| (at, "outputs wait"));
        }
        let (due, step) = self.next_step()?;
        let reason = match step {
            Step::RepeatEnd => "the end of a tone is repeated",
            Step::Update => "a tone is reported",
            Step::End => "a tone ends",
            Step::Next => "a gap or a pause ends",
        };
        Some((due, reason))
    }

    /// What is due at `now`, one thing a call, until `None`.
    pub fn poll_output(&mut self, now: Instant) -> Option<ToneOutput> {
        loop {
            // Events first: a tone has begun when its first packet goes out.
            if let Some(event) = self.events.pop_front() {
                return Some(ToneOutput::Event(event));
            }
            if let Some(packet) = self.packets.pop_front() {
                return Some(ToneOutput::Packet(packet));
            }
            match self.next_step() {
                Some((due, step)) if due <= now => self.run(step, due, now),
                _ => return None,
            }
        }
    }

    fn next_step(&self) -> Option<(Instant, Step)> {
        let repeat = self.ends.as_ref().map(|ends| (ends.next_at, Step::RepeatEnd));
        let state = match &self.state {
            State::Idle => None,
            State::Waiting { until, .. } => Some((*until, Step::Next)),
            State::Sounding(tone) => Some(match tone.end {
                Some(end) if end <= tone.next_update => (end, Step::End),
                _ => (tone.next_update, Step::Update),
            }),
        };
        [repeat, state].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn run(&mut self, step: Step, due: Instant, now: Instant) {
        match step {
            Step::RepeatEnd => self.repeat_end(due),
            Step::Update => {
                let interval = self.config.update_interval;
                let State::Sounding(tone) = &mut self.state else { return };
                // A caller that is late to the end as well needs only that.
                if let Some(end) = tone.end.filter(|end| *end <= now) {
                    return self.end_tone(end);
                }
                tone.update(now, interval, self.redundancy.as_ref(), &mut self.packets);
            }
            Step::End => self.end_tone(due),
            Step::Next => self.next_item(due, now),
        }
    }

    fn repeat_end(&mut self, due: Instant) {
        let Some(ends) = &mut self.ends else { return };
        self.packets.push_back(ends.packet.clone());
        ends.remaining -= 1;
        ends.next_at = due + self.config.update_interval;
        if ends.remaining == 0 {
            self.ends = None;
        }
    }

    fn end_tone(&mut self, end: Instant) {
        let State::Sounding(mut tone) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        let units = tone.finish(end, self.redundancy.as_ref(), &mut self.packets);
        self.clock.end(tone.timestamp.wrapping_add(units as u32));
        if let Some(packet) = self.packets.back() {
            if let Some(redundancy) = &mut self.redundancy {
                redundancy.remember(packet.timestamp, packet.report);
            }
            let remaining = self.config.end_packets - 1;
            let mut packet = packet.clone();
            packet.marker = false;
            let next_at = end + self.config.update_interval;
            self.ends = (remaining > 0).then_some(Ends { packet, remaining, next_at });
        }
        self.events.push_back(ToneEvent::Ended {
            digit: tone.digit,
            begin: tone.begin,
            duration: end.duration_since(tone.begin),
            gap: tone.gap,
            completed: !tone.is_cut,
        });
        self.state = State::Waiting { until: end + tone.gap, is_pause: false };
    }

    /// A gap or a pause is over: begins what comes next.
    fn next_item(&mut self, due: Instant, now: Instant) {
        let due = self.newest_command.map_or(due, |at| due.max(at)).min(now);
        let at = if now.duration_since(due) > LATE { now } else { due };
        match self.items.pop_front() {
            Some(Item::Pause) => {
                self.has_played = true;
                self.state = State::Waiting { until: at + PAUSE, is_pause: true };
            }
            Some(Item::Tone { digit, duration, gap }) => {
                self.begin_tone(digit, at, Some(at + duration), gap);
            }
            None => match self.held.take() {
                Some((digit, _)) => self.begin_tone(digit, at, None, DEFAULT_GAP),
                None => {
                    self.state = State::Idle;
                    if std::mem::take(&mut self.has_played) {
                        self.events.push_back(ToneEvent::QueueEmpty { at });
                    }
                }
            },
        }
    }

    fn begin_tone(&mut self, digit: Digit, at: Instant, end: Option<Instant>, gap: Duration) {
        // A gap too short for the packets of the end before: they go out together.
        if let Some(ends) = self.ends.take() {
            let repeats = std::iter::repeat_n(ends.packet, usize::from(ends.remaining));
            self.packets.extend(repeats);
        }
        let rate = self.config.clock_rate;
        let clock = (rate, self.clock.begin(at, rate));
        let tone = Sounding::new(digit, at, end, gap, self.config.volume, clock);
        self.state = State::Sounding(tone);
        self.has_played = true;
        self.events.push_back(ToneEvent::Began { digit, at });
    }

    /// Begins at `now` with what was added, if nothing goes on.
    fn wake(&mut self, now: Instant) {
        self.newest_command = Some(now);
        if matches!(self.state, State::Idle) && (!self.items.is_empty() || self.held.is_some()) {
            self.state = State::Waiting { until: now, is_pause: false };
        }
    }

    fn cut_pause(&mut self, now: Instant) {
        if let State::Waiting { until, is_pause: true } = &mut self.state {
            *until = now.min(*until);
        }
    }
}

#[cfg(test)]
mod tests;
