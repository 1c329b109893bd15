use std::collections::VecDeque;
use std::time::Duration;

use crate::{ReceivedTone, ToneReport};

/// How far apart the two sources may have a key begin: sound waits in buffers and codecs for
/// longer than events do.
const APART: Duration = Duration::from_millis(400);

/// Keys that are remembered: more than anyone presses within that time.
const REMEMBERED: usize = 32;

/// Makes one of the reports of two sources, for peers that send a tone as events and leave it in
/// their sound too.
///
/// Each key of one source stands for at most one of the other, so that a digit pressed twice is
/// reported twice, and one that has come in one source only is reported as well. The source that
/// has it first is the one that is heard.
#[derive(Debug, Default)]
pub struct ToneMerger {
    /// The newest last.
    seen: VecDeque<Seen>,
}

#[derive(Debug)]
struct Seen {
    tone: ReceivedTone,
    /// The other source has reported it too.
    is_matched: bool,
    is_withheld: bool,
    has_ended: bool,
}

impl ToneMerger {
    /// A merger that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a report of a [`ToneReceiver`](crate::ToneReceiver) or a
    /// [`ToneExtractor`](crate::ToneExtractor), and returns it unless the other has told of the
    /// same key.
    pub fn handle(&mut self, report: ToneReport) -> Option<ToneReport> {
        let is_withheld = match report {
            ToneReport::Began(tone) => self.began(tone),
            ToneReport::Ended(tone, _) => self.ended(tone),
        };
        (!is_withheld).then_some(report)
    }

    fn began(&mut self, tone: ReceivedTone) -> bool {
        let same = self.seen.iter_mut().find(|seen| {
            let other = seen.tone;
            let apart = other.begin.max(tone.begin) - other.begin.min(tone.begin);
            !seen.is_matched
                && other.source != tone.source
                && other.event == tone.event
                && apart <= APART
        });
        let is_withheld = same.map(|seen| seen.is_matched = true).is_some();
        self.seen.push_back(Seen { tone, is_matched: is_withheld, is_withheld, has_ended: false });
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        is_withheld
    }

    fn ended(&mut self, tone: ReceivedTone) -> bool {
        let is_same = |seen: &&mut Seen| {
            let key = |tone: &ReceivedTone| (tone.event, tone.source, tone.is_late);
            !seen.has_ended && key(&seen.tone) == key(&tone)
        };
        self.seen.iter_mut().rfind(is_same).is_some_and(|seen| {
            seen.has_ended = true;
            seen.is_withheld
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::EndReason;
    use crate::ToneSource::{self, InBand, TelephoneEvent as Event};

    /// Runs reports through a merger: source, event, beginning in ms; each ends before the next.
    fn merged(reports: &[(ToneSource, u8, u64)]) -> Vec<(ToneSource, u8, u64)> {
        let start = Instant::now();
        let mut merger = ToneMerger::new();
        let mut through = Vec::new();
        for (source, event, begin) in reports {
            let tone = ReceivedTone {
                event: *event,
                begin: start + Duration::from_millis(*begin),
                duration: Duration::from_millis(50),
                volume: 10,
                source: *source,
                is_late: false,
            };
            let began = merger.handle(ToneReport::Began(tone));
            let ended = merger.handle(ToneReport::Ended(tone, EndReason::Ended));
            assert_eq!(began.is_some(), ended.is_some());
            through.extend(began.map(|_| (*source, *event, *begin)));
        }
        through
    }

    #[test]
    fn a_key_that_comes_both_ways_is_reported_once_whichever_is_first() {
        let reports = [(Event, 5, 0), (InBand, 5, 90), (InBand, 6, 400), (Event, 6, 380)];
        assert_eq!(merged(&reports), [(Event, 5, 0), (InBand, 6, 400)]);
    }

    #[test]
    fn a_digit_pressed_twice_is_reported_twice() {
        let reports = [(Event, 5, 0), (Event, 5, 120), (InBand, 5, 130), (InBand, 5, 250)];
        assert_eq!(merged(&reports), [(Event, 5, 0), (Event, 5, 120)]);
    }

    #[test]
    fn a_key_of_one_source_only_is_reported() {
        let reports = [(Event, 5, 0), (InBand, 5, 401), (InBand, 6, 600), (Event, 7, 700)];
        assert_eq!(merged(&reports), reports);
        // All packets of the first key are lost, and its sound stands for one of the two.
        let reports = [(InBand, 5, 100), (Event, 5, 150), (InBand, 5, 250)];
        assert_eq!(merged(&reports), [(InBand, 5, 100), (InBand, 5, 250)]);
    }

    #[test]
    fn tones_that_overlap_end_each_for_itself() {
        let now = Instant::now();
        let tone = |source, event| ReceivedTone {
            event,
            begin: now,
            duration: Duration::ZERO,
            volume: 10,
            source,
            is_late: false,
        };
        let mut merger = ToneMerger::new();
        let ended = |tone| ToneReport::Ended(tone, EndReason::Ended);
        assert!(merger.handle(ToneReport::Began(tone(Event, 5))).is_some());
        assert!(merger.handle(ToneReport::Began(tone(InBand, 5))).is_none());
        assert!(merger.handle(ended(tone(Event, 5))).is_some());
        assert!(merger.handle(ended(tone(InBand, 5))).is_none());
        for _ in 0..1_000 {
            assert!(merger.handle(ToneReport::Began(tone(Event, 6))).is_some());
        }
        assert_eq!(merger.seen.len(), REMEMBERED);
    }
}
