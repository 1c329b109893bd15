use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::MAX_ENCODINGS;
use super::vp8::{PictureShift, Pictures};
use crate::stream::{SendStream, in_clock_units};

/// Runs that are remembered: each picture that is left out begins one, and what may be sent again
/// is a second old.
const MAX_RUNS: usize = 64;

/// Pictures that were skipped and are remembered: what was lost of them may come late.
const SKIPPED: usize = 8;

/// How far a timestamp that reports say may be from what the time that has passed says: more is a
/// sender whose reports are of no use.
const PLAUSIBLE: Duration = Duration::from_secs(3);

/// Makes one stream out of packets of several encodings, of which some are left out: as a
/// [`Rewriter`](crate::Rewriter) does of one source.
///
/// | what happens | sequence numbers | timestamps | picture ids of VP8 |
/// |---|---|---|---|
/// | packets are lost or reordered before they come here | keep the gap, or the order | as received | as received |
/// | a picture is [skipped](Self::skip) | go on without a gap | as received | go on without a gap |
/// | another encoding [begins](Self::begin) | go on without a gap | go on as reports of the sender align them, or by the time that has passed | go on without a gap |
/// | [`pad`](Self::pad)ding | go on without a gap | as received | as received |
#[derive(Debug, Default)]
pub(crate) struct LayerRewriter {
    /// The newest last.
    runs: VecDeque<Run>,
    is_running: bool,
    /// The source's timestamp of the newest packet that was sent.
    newest: Option<u32>,
    /// Those of the last pictures that were skipped, and where the next one goes.
    skipped: [Option<u32>; SKIPPED],
    next_skipped: usize,
    /// Whether timestamps may still be behind what has been sent.
    may_be_behind: bool,
    pictures: Pictures,
}

/// What has been sent so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) next_index: u64,
    /// The newest packet: when it was sent, and its timestamp.
    pub(crate) newest: Option<(Instant, u32)>,
    /// Where timestamps begin.
    pub(crate) offset: u32,
}

impl Sent {
    pub(crate) fn of(stream: &SendStream) -> Self {
        let (next_index, newest) = (stream.next_index(), stream.newest());
        Self { next_index, newest, offset: stream.timestamp_offset() }
    }
}

/// Packets that are sent with the same distances between their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) encoding: u8,
    /// The first index of the source that belongs to it, and the first that does not any more.
    first: u64,
    end: u64,
    /// What is added to the source's indices and timestamps, wrapping.
    shift: u64,
    timestamp_shift: u32,
    /// A timestamp of the source that would not be later than what was sent before, and what it
    /// is instead.
    lifted: Option<(u32, u32)>,
    pub(crate) pictures: PictureShift,
}

impl Run {
    /// The number that a packet of the source is sent with.
    pub(crate) fn index(&self, index: u64) -> u64 {
        index.wrapping_add(self.shift)
    }

    pub(crate) fn timestamp(&self, timestamp: u32) -> u32 {
        match self.lifted {
            Some((source, sent)) if source == timestamp => sent,
            _ => timestamp.wrapping_add(self.timestamp_shift),
        }
    }

    fn source_of(&self, sent: u64) -> Option<u64> {
        let index = sent.wrapping_sub(self.shift);
        (self.first..self.end).contains(&index).then_some(index)
    }
}

/// What the encodings of a track say of their timestamps, to be played together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Alignment([Option<(u64, u32)>; MAX_ENCODINGS]);

impl Alignment {
    /// Notes a report: NTP time, and the same instant on the clock of the encoding.
    pub(crate) fn set(&mut self, encoding: u8, ntp: u64, timestamp: u32) {
        if let Some(place) = self.0.get_mut(usize::from(encoding)) {
            *place = Some((ntp, timestamp));
        }
    }

    /// What is added to a timestamp of `from` to have the same instant on the clock of `to`.
    fn between(&self, from: u8, to: u8, clock_rate: u32) -> Option<u32> {
        let at = |encoding: u8| self.0.get(usize::from(encoding)).copied().flatten();
        let ((from_ntp, from_at), (to_ntp, to_at)) = (at(from)?, at(to)?);
        let passed = from_ntp.wrapping_sub(to_ntp) as i64;
        let passed = (i128::from(passed) * i128::from(clock_rate) + (1 << 31)) >> 32;
        Some(to_at.wrapping_add(passed as u32).wrapping_sub(from_at))
    }
}

/// Another encoding, and the packet that it begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    pub(crate) encoding: u8,
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) clock_rate: u32,
    pub(crate) pictures: Pictures,
}

impl LayerRewriter {
    /// The encoding that is sent.
    pub(crate) fn encoding(&self) -> Option<u8> {
        self.runs.back().filter(|_| self.is_running).map(|run| run.encoding)
    }

    /// Whether a packet of the encoding that is sent comes after all that were sent or skipped.
    pub(crate) fn is_new(&self, index: u64) -> bool {
        self.runs.back().is_some_and(|run| index >= run.end)
    }

    /// The run that a late packet of the encoding that is sent belongs to: its number was left out.
    fn late(&self, encoding: u8, index: u64) -> Option<Run> {
        let mut runs = self.runs.iter().rev().take_while(|run| run.encoding == encoding);
        runs.find(|run| (run.first..run.end).contains(&index)).copied()
    }

    /// Whether there is a number for a late packet, and its picture was not skipped.
    pub(crate) fn has_room_for(&self, encoding: u8, index: u64, timestamp: u32) -> bool {
        let is_skipped = self.skipped.contains(&Some(timestamp));
        self.is_running && !is_skipped && self.late(encoding, index).is_some()
    }

    /// Leaves out a packet of the encoding that is sent.
    pub(crate) fn skip(&mut self, index: u64, timestamp: u32) {
        let Some(run) = self.runs.back_mut().filter(|_| self.is_running) else { return };
        // Before the end it has been, or its number is reserved.
        if index < run.end {
            return;
        }
        let mut next = Run { first: index + 1, end: index + 1, ..*run };
        next.shift = run.shift.wrapping_sub(1);
        if !self.skipped.contains(&Some(timestamp)) {
            next.pictures.id = next.pictures.id.wrapping_sub(1);
            self.skipped[self.next_skipped] = Some(timestamp);
            self.next_skipped = (self.next_skipped + 1) % SKIPPED;
        }
        // What is missing before it keeps its number.
        run.end = index;
        self.push(next);
    }

    fn push(&mut self, next: Run) {
        if let Some(run) = self.runs.back_mut()
            && run.end == run.first
        {
            *run = next;
            return;
        }
        if self.runs.is_empty() {
            // Nothing is to be allocated while packets are sent.
            self.runs.reserve_exact(MAX_RUNS);
        }
        if self.runs.len() == MAX_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(next);
    }

    /// Gives up the numbers from `next` on, which were kept for packets that are missing.
    fn give_up(&mut self, next: u64) {
        for run in self.runs.iter_mut().rev() {
            let kept = next.saturating_sub(run.index(run.first));
            run.end = run.end.min(run.first.saturating_add(kept));
        }
    }

    /// Leaves the next number to a packet that does not come from the source.
    pub(crate) fn pad(&mut self, sent: Sent) {
        self.give_up(sent.next_index);
        let Some(run) = self.runs.back().copied().filter(|_| self.is_running) else { return };
        let shift = sent.next_index.wrapping_add(1).wrapping_sub(run.end);
        self.push(Run { first: run.end, shift, ..run });
    }

    /// Breaks off, until [`begin`](Self::begin).
    pub(crate) fn stop(&mut self) {
        self.is_running = false;
    }

    /// Goes on with an encoding, at a packet that can be decoded by itself.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        sent: Sent,
        alignment: &Alignment,
        beginning: Beginning,
    ) {
        let Beginning { encoding, index, pictures, .. } = beginning;
        self.give_up(sent.next_index);
        let timestamp_shift = self.align(now, sent, alignment, beginning);
        let after = self.pictures;
        let id = after.id.zip(pictures.id).map_or(0, |(last, id)| (last + 1).wrapping_sub(id));
        let tl0 = after.tl0.zip(pictures.tl0);
        let tl0 = tl0.map_or(0, |(last, tl0)| last.wrapping_add(1).wrapping_sub(tl0));
        let shift = sent.next_index.wrapping_sub(index);
        self.push(Run {
            encoding,
            first: index,
            end: index,
            shift,
            timestamp_shift,
            lifted: None,
            pictures: PictureShift { id, tl0 },
        });
        (self.is_running, self.may_be_behind) = (true, true);
        (self.newest, self.skipped) = (None, [None; SKIPPED]);
    }

    fn align(&self, now: Instant, sent: Sent, alignment: &Alignment, beginning: Beginning) -> u32 {
        let Beginning { encoding, timestamp, clock_rate, .. } = beginning;
        let Some((sent_at, newest)) = sent.newest else {
            return sent.offset.wrapping_sub(timestamp);
        };
        let passed = in_clock_units(now.saturating_duration_since(sent_at), clock_rate);
        let by_time = newest.wrapping_add(passed.max(1)).wrapping_sub(timestamp);
        let Some(before) = self.runs.back() else { return by_time };
        let exact = if before.encoding == encoding {
            Some(before.timestamp_shift)
        } else {
            let between = alignment.between(encoding, before.encoding, clock_rate);
            between.map(|between| before.timestamp_shift.wrapping_add(between))
        };
        let plausible = in_clock_units(PLAUSIBLE, clock_rate);
        let is_plausible =
            |exact: &u32| (exact.wrapping_sub(by_time) as i32).unsigned_abs() <= plausible;
        exact.filter(is_plausible).unwrap_or(by_time)
    }

    /// The run that a packet of the encoding that is sent belongs to, and so its numbers. `None`
    /// when there is none for it any more.
    pub(crate) fn place(
        &mut self,
        sent: Sent,
        encoding: u8,
        index: u64,
        timestamp: u32,
        pictures: Pictures,
    ) -> Option<Run> {
        let run = *self.runs.back().filter(|run| self.is_running && run.encoding == encoding)?;
        if index < run.end {
            return self.late(encoding, index);
        }
        if self.may_be_behind && self.newest != Some(timestamp) {
            self.lift(sent, run, index, timestamp);
        }
        let run = self.runs.back_mut()?;
        run.end = index + 1;
        self.newest = Some(timestamp);
        // Picture ids have 7 or 15 bits, of which the shift goes round in any case.
        let id = pictures.id.map(|id| id.wrapping_add(run.pictures.id) & 0x7fff);
        let tl0 = pictures.tl0.map(|tl0| tl0.wrapping_add(run.pictures.tl0));
        self.pictures = Pictures { id: id.or(self.pictures.id), tl0: tl0.or(self.pictures.tl0) };
        Some(*run)
    }

    /// Has a picture be later than what was sent before, if it would not be: the encoding before
    /// may have been ahead, and two pictures of one time are one to a receiver.
    fn lift(&mut self, sent: Sent, run: Run, index: u64, timestamp: u32) {
        let Some((_, newest)) = sent.newest else { return };
        let exact = timestamp.wrapping_add(run.timestamp_shift);
        if (exact.wrapping_sub(newest) as i32) > 0 {
            self.may_be_behind = false;
            return;
        }
        let lifted = Some((timestamp, newest.wrapping_add(1)));
        // What is missing in between keeps its number.
        let first = if run.first == run.end { run.first } else { index };
        if let Some(run) = self.runs.back_mut() {
            run.end = first;
        }
        self.push(Run { first, end: first, lifted, ..run });
    }

    /// What was sent, or could have been, with this number: the run, and the index in its
    /// encoding. `None` for what did not come from there, or is forgotten.
    pub(crate) fn source_of(&self, sent: u64) -> Option<(Run, u64)> {
        self.runs.iter().rev().find_map(|run| Some((*run, run.source_of(sent)?)))
    }

    /// What a timestamp of the encoding that was sent last is as it is sent.
    pub(crate) fn timestamp(&self, received: u32) -> Option<u32> {
        Some(received.wrapping_add(self.runs.back()?.timestamp_shift))
    }

    /// The encoding that was sent last.
    pub(crate) fn last_encoding(&self) -> Option<u8> {
        Some(self.runs.back()?.encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alignment_knows_the_same_instant_on_two_clocks() {
        let mut alignment = Alignment::default();
        alignment.set(0, 10 << 32, 1_000);
        assert_eq!(alignment.between(1, 0, 90_000), None);
        // Half a second later, on a clock that is 5,000 ahead; and before the first one wraps.
        alignment.set(1, (10 << 32) + (1 << 31), 1_000 + 45_000 + 5_000);
        alignment.set(2, 9 << 32, 1_000u32.wrapping_sub(90_000) - 7);
        for (from, to, expected) in [(1, 0, -5_000), (0, 1, 5_000), (2, 0, 7), (0, 2, -7)] {
            assert_eq!(alignment.between(from, to, 90_000), Some(expected as u32), "{from} {to}");
        }
    }
}
