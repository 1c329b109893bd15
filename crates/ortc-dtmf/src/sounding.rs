use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::clock::units;
use crate::packet::{EventPacket, Redundancy};
use crate::{Digit, TelephoneEvent};

/// The longest duration that a report can tell.
const FULL: u64 = u16::MAX as u64;

/// A tone that sounds, and what has been said of it on the wire.
#[derive(Debug)]
pub(crate) struct Sounding {
    pub(crate) digit: Digit,
    pub(crate) begin: Instant,
    /// When it ends; `None` while its key is held.
    pub(crate) end: Option<Instant>,
    pub(crate) gap: Duration,
    /// It was to sound for longer.
    pub(crate) is_cut: bool,
    pub(crate) clock_rate: u32,
    pub(crate) timestamp: u32,
    pub(crate) volume: u8,
    pub(crate) next_update: Instant,
    /// Units that earlier segments took.
    segments: u64,
    /// The longest duration that a packet has told, in units from the beginning; `None` before
    /// the first.
    told: Option<u64>,
}

impl Sounding {
    pub(crate) fn new(
        digit: Digit,
        begin: Instant,
        end: Option<Instant>,
        gap: Duration,
        volume: u8,
        (clock_rate, timestamp): (u32, u32),
    ) -> Self {
        Self {
            digit,
            begin,
            end,
            gap,
            is_cut: false,
            clock_rate,
            timestamp,
            volume,
            next_update: begin,
            segments: 0,
            told: None,
        }
    }

    /// Writes the report that is due, and the end of a segment that it leaves behind.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        interval: Duration,
        redundancy: Option<&Redundancy>,
        out: &mut VecDeque<EventPacket>,
    ) {
        // A caller that is late gets one report, of the newest moment that had one.
        let passed = now.saturating_duration_since(self.begin);
        let steps = u32::try_from(passed.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        let at = self.begin + interval.saturating_mul(steps);
        self.next_update = at + interval;
        // The first report covers what an audio packet would cover: a duration of nothing
        // means something else (RFC 4733 §2.3.5).
        let at = if steps == 0 { self.next_update } else { at };
        let at = self.end.map_or(at, |end| at.min(end));
        let elapsed = units(at.duration_since(self.begin), self.clock_rate).max(1);
        self.report(elapsed, false, redundancy, out);
    }

    /// Writes the report of its end, and returns where it ended, in units.
    pub(crate) fn finish(
        &mut self,
        end: Instant,
        redundancy: Option<&Redundancy>,
        out: &mut VecDeque<EventPacket>,
    ) -> u64 {
        let elapsed = units(end.saturating_duration_since(self.begin), self.clock_rate).max(1);
        // Durations must not go back: a tone that was cut within its first report lasts as long
        // as that said.
        let elapsed = elapsed.max(self.told.unwrap_or(0));
        self.report(elapsed, true, redundancy, out);
        elapsed
    }

    fn report(
        &mut self,
        elapsed: u64,
        end: bool,
        redundancy: Option<&Redundancy>,
        out: &mut VecDeque<EventPacket>,
    ) {
        let segment = (elapsed - 1) / FULL * FULL;
        if segment > self.segments {
            // Only the last segment has the end bit, and only the first the marker
            // (RFC 4733 §2.5.1.3).
            self.push(FULL as u16, false, redundancy, out);
            self.segments = segment;
        }
        // At most 65,535, as the segment was chosen.
        self.push((elapsed - segment) as u16, end, redundancy, out);
        self.told = Some(elapsed);
    }

    fn push(
        &mut self,
        duration: u16,
        end: bool,
        redundancy: Option<&Redundancy>,
        out: &mut VecDeque<EventPacket>,
    ) {
        let report =
            TelephoneEvent { event: self.digit.event(), end, volume: self.volume, duration };
        let offset = self.segments as u32;
        let marker = self.told.is_none() && self.segments == 0;
        let timestamp = self.timestamp.wrapping_add(offset);
        out.push_back(Redundancy::packet(
            redundancy, timestamp, offset, self.begin, marker, report,
        ));
    }
}
