use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::TelephoneEvent;
use crate::clock::duration;
use crate::report::{ReceivedTone, ToneSource};

/// The longest duration that a report can tell.
const FULL: u32 = u16::MAX as u32;

/// Segments that are remembered of an event; those before are found by their distance.
const SEGMENTS: usize = 16;

/// Segments that may be missing between two reports of an event: more than five seconds of the
/// fastest clock, and less than the distance at which multiples of milliseconds meet.
const MOST_SEGMENTS: u32 = 7;

/// The fastest clock that events are usually described with: a wrong one must not be taken for
/// more, or what is measured in it means nothing.
pub(crate) const FASTEST_CLOCK: u32 = 48_000;

/// Clock rates that peers have been seen to count in.
const RATES: [u32; 6] = [8_000, 16_000, 24_000, 32_000, 44_100, 48_000];

/// What is known of one pressed key.
#[derive(Debug)]
pub(crate) struct Pressed {
    pub(crate) event: u8,
    pub(crate) stage: Stage,
    /// The end bit has been seen.
    pub(crate) is_over: bool,
    pub(crate) last_arrival: Instant,
    /// Timestamps of its segments, the first of them the event's own.
    segments: VecDeque<u32>,
    begin_timestamp: u32,
    /// The longest duration told of the newest segment.
    segment_units: u32,
    volume: u8,
    clock_rate: u32,
    begin: Instant,
    is_late: bool,
    growth: Growth,
}

/// Where the reports of an event have got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its beginning is reported then, unless an event before it comes first.
    Held { until: Instant },
    /// Its beginning has been reported.
    Sounding,
    /// Its end has been reported too.
    Done,
}

/// How the duration has grown while time passed.
#[derive(Debug, Clone, Copy)]
struct Growth {
    from: (Instant, u64),
    to: (Instant, u64),
    steps: u32,
    /// Units a second of the slowest and of the fastest step.
    range: (f64, f64),
}

impl Growth {
    fn new(at: (Instant, u64)) -> Self {
        Self { from: at, to: at, steps: 0, range: (f64::MAX, 0.0) }
    }

    fn step(&mut self, to: (Instant, u64)) {
        self.steps += 1;
        if self.steps == 1 {
            // The first report often tells of more than has passed.
            self.from = to;
        } else {
            let rate = Self::between(self.to, to);
            self.range = (self.range.0.min(rate), self.range.1.max(rate));
        }
        self.to = to;
    }

    /// Units a second, if the steps agree on them and took their time: else they say more about
    /// the network than about the clock.
    fn rate(&self) -> Option<f64> {
        let passed = self.to.0.saturating_duration_since(self.from.0);
        let is_steady = self.range.1 < 1.3 * self.range.0;
        (self.steps >= 3 && is_steady && passed >= Duration::from_millis(40))
            .then(|| Self::between(self.from, self.to))
    }

    fn between(from: (Instant, u64), to: (Instant, u64)) -> f64 {
        let passed = to.0.saturating_duration_since(from.0).as_secs_f64();
        to.1.saturating_sub(from.1) as f64 / passed.max(1e-6)
    }
}

/// Where a report belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// To a segment that is known.
    Known,
    /// To the segment after the newest.
    Next,
    /// To the segment before the first.
    Before,
}

impl Pressed {
    /// An event of which the first report arrives at `now`, `elapsed` units after it began.
    pub(crate) fn new(
        now: Instant,
        timestamp: u32,
        elapsed: u32,
        clock_rate: u32,
        report: TelephoneEvent,
        stage: Stage,
        is_late: bool,
    ) -> Self {
        let units = u32::from(report.duration);
        // What is told to be older than any packet gets is not believed.
        let passed = duration(u64::from(elapsed.max(units)), clock_rate);
        let begin = now.checked_sub(passed.min(Duration::from_secs(10))).unwrap_or(now);
        let at = (now, u64::from(units));
        Self {
            event: report.event,
            stage,
            is_over: report.end,
            last_arrival: now,
            segments: VecDeque::from([timestamp]),
            begin_timestamp: timestamp,
            segment_units: units,
            volume: report.volume,
            clock_rate,
            begin,
            is_late,
            growth: Growth::new(at),
        }
    }

    pub(crate) fn timestamp(&self) -> u32 {
        self.begin_timestamp
    }

    /// Where a report with this timestamp belongs in this event, if it does.
    pub(crate) fn place(&self, timestamp: u32, report: &TelephoneEvent) -> Option<Place> {
        if report.event != self.event {
            return None;
        }
        let newest = *self.segments.back()?;
        // Segments follow each other by exactly the longest duration, which no two keys do that
        // are pressed on a grid of milliseconds or frames.
        let is_whole =
            |distance: u32| distance.is_multiple_of(FULL) && distance <= MOST_SEGMENTS * FULL;
        let since_begin = timestamp.wrapping_sub(self.begin_timestamp);
        let length = newest.wrapping_sub(self.begin_timestamp);
        if self.segments.contains(&timestamp) || since_begin <= length && is_whole(since_begin) {
            return Some(Place::Known);
        }
        // Some peers begin a segment with the packet after the full one, a little later, and have
        // it tell of that little.
        let slack = self.clock_rate.min(FASTEST_CLOCK) / 10;
        let follows = |distance: u32, full: u32| {
            (FULL..=FULL + slack).contains(&distance)
                && (full == FULL || u32::from(report.duration) == distance - FULL)
        };
        let since = timestamp.wrapping_sub(newest);
        if !self.is_over && (is_whole(since) || follows(since, self.segment_units)) {
            return Some(Place::Next);
        }
        let before = self.begin_timestamp.wrapping_sub(timestamp);
        let is_full = u32::from(report.duration) == FULL;
        if !report.end && (is_whole(before) || is_full && follows(before, FULL)) {
            return Some(Place::Before);
        }
        None
    }

    /// Takes a report that belongs to it.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        timestamp: u32,
        report: &TelephoneEvent,
        place: Place,
    ) {
        let before = self.units();
        match place {
            Place::Known => {}
            Place::Next => {
                self.segments.push_back(timestamp);
                self.segment_units = 0;
                if self.segments.len() > SEGMENTS {
                    self.segments.pop_front();
                }
            }
            Place::Before => {
                self.segments.push_front(timestamp);
                self.segments.truncate(SEGMENTS);
                self.begin_timestamp = timestamp;
            }
        }
        if self.segments.back() == Some(&timestamp) {
            // Durations that go back are not believed.
            self.segment_units = self.segment_units.max(report.duration.into());
        }
        self.is_over |= report.end;
        self.volume = report.volume;
        self.last_arrival = now;
        let units = self.units();
        // An end that is heard may be one that was repeated, long after it.
        if place != Place::Before && units > before && !report.end {
            self.growth.step((now, units));
        }
    }

    /// Its length so far in units of its clock.
    fn units(&self) -> u64 {
        let newest = self.segments.back().copied().unwrap_or(self.begin_timestamp);
        u64::from(newest.wrapping_sub(self.begin_timestamp)) + u64::from(self.segment_units)
    }

    /// The rate that its durations count in, if that is clearly another than was described.
    pub(crate) fn other_rate(&self) -> Option<u32> {
        let measured = self.growth.rate()?;
        let distance = |rate: u32| (measured / f64::from(rate)).ln().abs();
        let nearest = RATES.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        let times = |rate: u32| (f64::from(rate) / f64::from(self.clock_rate)).ln().abs();
        // Within 15 % of a rate that is at least twice or half the one described.
        nearest.filter(|rate| distance(*rate) < 0.15 && times(*rate) > 0.6)
    }

    /// What is known of it.
    pub(crate) fn tone(&self) -> ReceivedTone {
        let rate = self.other_rate().unwrap_or(self.clock_rate);
        ReceivedTone {
            event: self.event,
            begin: self.begin,
            duration: duration(self.units(), rate),
            volume: self.volume,
            source: ToneSource::TelephoneEvent,
            is_late: self.is_late,
        }
    }
}
