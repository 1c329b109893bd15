use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::TelephoneEvent;
use crate::clock::duration;
use crate::report::{ReceivedTone, ToneSource};

/// The longest duration that a report can tell.
const FULL: u32 = u16::MAX as u32;

/// Segments that are remembered of an event; those before are found by their distance.
const SEGMENTS: usize = 16;

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
            growth: Growth { from: at, to: at, steps: 0 },
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
        let since_begin = timestamp.wrapping_sub(self.begin_timestamp);
        let length = newest.wrapping_sub(self.begin_timestamp);
        if self.segments.contains(&timestamp)
            || since_begin <= length && since_begin.is_multiple_of(FULL)
        {
            return Some(Place::Known);
        }
        // A segment is full when the next begins; some peers begin the next with their next
        // packet, a little later.
        let slack = self.clock_rate / 10;
        // Of an event that went on that long much is known, even where half a second is lost.
        let nearly_full = FULL.saturating_sub(self.clock_rate / 2);
        let follows = |distance: u32| (FULL..=FULL + slack).contains(&distance);
        if !self.is_over
            && follows(timestamp.wrapping_sub(newest))
            && self.segment_units >= nearly_full
        {
            return Some(Place::Next);
        }
        let before = self.begin_timestamp.wrapping_sub(timestamp);
        let is_full = u32::from(report.duration) >= nearly_full;
        if !report.end && (before == FULL || follows(before) && is_full) {
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
        if place != Place::Before && units > before {
            self.growth.to = (now, units);
            self.growth.steps += 1;
        }
    }

    /// Its length so far in units of its clock.
    fn units(&self) -> u64 {
        let newest = self.segments.back().copied().unwrap_or(self.begin_timestamp);
        u64::from(newest.wrapping_sub(self.begin_timestamp)) + u64::from(self.segment_units)
    }

    /// The rate that its durations count in, if that is clearly another than was described.
    pub(crate) fn other_rate(&self) -> Option<u32> {
        let Growth { from: (since, first), to: (until, last), steps } = self.growth;
        let passed = until.saturating_duration_since(since);
        // Less says more about the network than about the clock.
        if steps < 3 || passed < Duration::from_millis(60) {
            return None;
        }
        let measured = last.saturating_sub(first) as f64 / passed.as_secs_f64();
        let distance = |rate: u32| (measured / f64::from(rate)).ln().abs();
        let nearest = RATES.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        nearest.filter(|rate| distance(*rate) < 0.15 && distance(self.clock_rate) > 0.5)
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
