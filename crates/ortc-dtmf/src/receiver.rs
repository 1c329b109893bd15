use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::pressed::{FASTEST_CLOCK, Place, Pressed, Stage};
use crate::redundancy::{RedundancyError, decode_redundant};
use crate::report::{EndReason, ToneReport};
use crate::{TelephoneEvent, TelephoneEventError};

/// Events that are remembered, so that what comes late of them is no other event: five seconds
/// of the shortest digits that anyone recognises.
const REMEMBERED: usize = 128;

/// Reports that wait to be polled; what is over is dropped and counted.
const MAX_REPORTS: usize = 256;

/// How late a packet of an event may be that nothing is known of.
const WINDOW: Duration = Duration::from_secs(5);

/// No sound is sampled faster.
const MAX_CLOCK: u32 = 768_000;

/// What a [`ToneReceiver`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToneReceiverConfig {
    /// A tone of which nothing more arrives has ended; 300 ms unless set, six updates of the
    /// slowest senders.
    pub end_timeout: Duration,
    /// After a gap in the sequence numbers, a beginning is reported this much later: the event
    /// before it may be in what is missing. 60 ms unless set; with 0 digits are reported as they
    /// arrive, and with up to 5 s they are in order whatever the network does.
    pub hold: Duration,
}

impl Default for ToneReceiverConfig {
    fn default() -> Self {
        Self { end_timeout: Duration::from_millis(300), hold: Duration::from_millis(60) }
    }
}

/// One packet, as the receiving stream has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedPacket<'a> {
    /// Its sequence number.
    pub sequence: u16,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// Its marker bit, of which nothing depends: some peers set it always, and some never.
    pub marker: bool,
    /// Hz of its payload type's clock, as described.
    pub clock_rate: u32,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Recognises pressed keys in the telephone events of one SSRC (RFC 4733 §2.5.2).
///
/// However the packets come — late, twice, in another order, without beginning or end — a key
/// pressed once is reported once, as long as any of its packets arrives: an event is known by
/// its timestamp, and by nothing else. The crate's documentation has the drive loop.
#[derive(Debug)]
pub struct ToneReceiver {
    config: ToneReceiverConfig,
    /// The newest last, in the order of their beginnings as far as they are known.
    pressed: VecDeque<Pressed>,
    reports: VecDeque<ToneReport>,
    newest_sequence: Option<u16>,
    /// Something may be missing until then.
    gap_until: Option<Instant>,
    counts: ToneReceiverCounts,
}

/// What a [`ToneReceiver`] has met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToneReceiverCounts {
    /// Packets with telephone events, malformed ones included.
    pub packets: u64,
    /// Packets that hold none, and were to.
    pub malformed: u64,
    /// Tones reported.
    pub tones: u64,
    /// Tones that were reported after one that began later.
    pub late_tones: u64,
    /// Reports of events that were more than 5 s late, and were not heeded.
    pub too_late: u64,
    /// Tones that ended because nothing more came.
    pub timed_out: u64,
    /// Tones whose durations were in another clock than described.
    pub wrong_clock: u64,
    /// Reports that were dropped, as nobody polled them.
    pub dropped_reports: u64,
}

impl ToneReceiver {
    /// A receiver for one SSRC.
    pub fn new(config: ToneReceiverConfig) -> Self {
        Self {
            config,
            pressed: VecDeque::new(),
            reports: VecDeque::new(),
            newest_sequence: None,
            gap_until: None,
            counts: ToneReceiverCounts::default(),
        }
    }

    /// Takes a packet of `telephone-event`.
    ///
    /// # Errors
    ///
    /// Fails, having counted it, when the payload is malformed; nothing else is to be done.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        packet: &ReceivedPacket<'_>,
    ) -> Result<(), TelephoneEventError> {
        self.counts.packets += 1;
        let reports: Vec<(u32, TelephoneEvent)> = match TelephoneEvent::decode_all(packet.payload) {
            Ok(reports) => reports.collect(),
            Err(error) => {
                self.counts.malformed += 1;
                return Err(error);
            }
        };
        let follows = self.follows(now, packet.sequence);
        let sent = packet.timestamp.wrapping_add(length(&reports));
        self.take_all(now, packet.clock_rate, (packet.timestamp, sent), &reports, follows);
        self.report_due(now);
        Ok(())
    }

    /// Takes a packet of `red` that has telephone events in some of its blocks, those of
    /// `payload_type`; others are left alone.
    ///
    /// # Errors
    ///
    /// Fails, having counted it, when the packet is malformed; a malformed block is only
    /// counted.
    pub fn handle_redundant(
        &mut self,
        now: Instant,
        packet: &ReceivedPacket<'_>,
        payload_type: u8,
    ) -> Result<(), RedundancyError> {
        self.counts.packets += 1;
        let blocks =
            decode_redundant(packet.payload).inspect_err(|_| self.counts.malformed += 1)?;
        let follows = self.follows(now, packet.sequence);
        // The packet was sent when the event of its primary had lasted that long.
        let primary = blocks.last().filter(|block| block.payload_type == payload_type);
        let primary = primary.and_then(|block| TelephoneEvent::decode_all(block.payload).ok());
        let primary = primary.map_or(0, |reports| length(&reports.collect::<Vec<_>>()));
        let sent = packet.timestamp.wrapping_add(primary);
        for block in blocks.iter().filter(|block| block.payload_type == payload_type) {
            let Ok(reports) = TelephoneEvent::decode_all(block.payload) else {
                self.counts.malformed += 1;
                continue;
            };
            let reports: Vec<_> = reports.collect();
            let timestamp = packet.timestamp.wrapping_sub(block.timestamp_offset.into());
            // What is repeated lies back by design, and is no sign of a clock that was set back.
            let follows = follows && block.timestamp_offset == 0;
            self.take_all(now, packet.clock_rate, (timestamp, sent), &reports, follows);
        }
        self.report_due(now);
        Ok(())
    }

    /// Takes note of another packet of the same SSRC: with the sequence numbers of the audio a
    /// gap is known from a change of payload, and digits need not be held back.
    pub fn handle_other(&mut self, now: Instant, sequence: u16) {
        self.follows(now, sequence);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.report_due(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let due = self.pressed.iter().filter_map(|pressed| match pressed.stage {
            Stage::Held { until } => Some((until, "a tone is reported")),
            Stage::Sounding => {
                Some((pressed.last_arrival + self.config.end_timeout, "a tone times out"))
            }
            Stage::Done => None,
        });
        due.min_by_key(|(at, _)| *at)
    }

    /// What has been recognised, in order, one report a call.
    pub fn poll_output(&mut self) -> Option<ToneReport> {
        self.reports.pop_front()
    }

    /// What it has met.
    pub fn counts(&self) -> &ToneReceiverCounts {
        &self.counts
    }

    /// Notes a sequence number; true if it is newer than all before.
    fn follows(&mut self, now: Instant, sequence: u16) -> bool {
        let Some(newest) = self.newest_sequence.replace(sequence) else {
            // What arrives first need not have been sent first.
            self.gap_until = Some(now + self.config.hold);
            return true;
        };
        match sequence.wrapping_sub(newest) as i16 {
            1 => true,
            2.. => {
                self.gap_until = Some(now + self.config.hold);
                true
            }
            ..=0 => {
                self.newest_sequence = Some(newest);
                false
            }
        }
    }

    /// Takes the reports of one payload, whose first event has the timestamp that is given
    /// first; the other is of the moment at which it was sent.
    fn take_all(
        &mut self,
        now: Instant,
        clock_rate: u32,
        (timestamp, sent): (u32, u32),
        reports: &[(u32, TelephoneEvent)],
        follows: bool,
    ) {
        for (offset, report) in reports {
            let begin = timestamp.wrapping_add(*offset);
            let elapsed = sent.wrapping_sub(begin);
            self.take(now, clock_rate.clamp(1, MAX_CLOCK), begin, elapsed, report, follows);
        }
    }

    fn take(
        &mut self,
        now: Instant,
        clock_rate: u32,
        timestamp: u32,
        elapsed: u32,
        report: &TelephoneEvent,
        follows: bool,
    ) {
        // Nothing of an event that is over is sent five seconds later: a peer whose timestamps
        // stand still has had a key pressed again.
        let is_heard = |pressed: &Pressed| {
            let since = now.saturating_duration_since(pressed.last_arrival);
            !(follows && pressed.is_over && since > WINDOW)
        };
        let place = |pressed: &Pressed| {
            is_heard(pressed).then(|| pressed.place(timestamp, report)).flatten()
        };
        let known = self.pressed.iter().rposition(|other| place(other) == Some(Place::Known));
        let known = known.or_else(|| self.pressed.iter().rposition(|other| place(other).is_some()));
        if let Some(pressed) = known.and_then(|at| self.pressed.get_mut(at)) {
            if let Some(place) = pressed.place(timestamp, report) {
                pressed.take(now, timestamp, report, place);
            }
            return;
        }
        let is_before = |pressed: &Pressed| {
            (timestamp.wrapping_sub(pressed.timestamp()) as i32) < 0
                // After a minute nothing is late any more, and timestamps may have gone round.
                && now.saturating_duration_since(pressed.last_arrival) < 12 * WINDOW
        };
        // An older timestamp in a newer packet: the peer has set its clock anew.
        let later: Vec<&Pressed> = match follows {
            true => Vec::new(),
            false => self.pressed.iter().filter(|pressed| is_before(pressed)).collect(),
        };
        let is_late = later.iter().any(|pressed| !matches!(pressed.stage, Stage::Held { .. }));
        if let Some(newest) = self.pressed.back().filter(|_| is_late) {
            // A clock that is described too slow must not shorten the window.
            let window = WINDOW.as_secs() as u32 * clock_rate.max(FASTEST_CLOCK);
            if newest.timestamp().wrapping_sub(timestamp) > window {
                self.counts.too_late += 1;
                return;
            }
        }
        let at = self.pressed.len() - later.len();
        let until = self.gap_until.filter(|until| now < *until).unwrap_or(now);
        let stage = if is_late { Stage::Done } else { Stage::Held { until } };
        let pressed = Pressed::new(now, timestamp, elapsed, clock_rate, *report, stage, is_late);
        if is_late {
            // What began later has been reported, so this one is over.
            let tone = pressed.tone();
            self.counts.late_tones += 1;
            self.counts.tones += 1;
            self.report(ToneReport::Began(tone));
            let reason = if report.end { EndReason::Ended } else { EndReason::Replaced };
            self.report(ToneReport::Ended(tone, reason));
        }
        self.pressed.insert(at, pressed);
        if self.pressed.len() > REMEMBERED {
            self.forget();
        }
    }

    /// Drops the oldest event, reporting what was not.
    fn forget(&mut self) {
        if let Some(oldest) = self.pressed.front()
            && oldest.stage != Stage::Done
        {
            self.begin(0);
            self.end(0, EndReason::Replaced);
        }
        self.pressed.pop_front();
    }

    /// Reports what is due at `now`.
    fn report_due(&mut self, now: Instant) {
        let is_due =
            |pressed: &Pressed| matches!(pressed.stage, Stage::Held { until } if until <= now);
        // One that is due takes those before it along.
        let due = self.pressed.iter().rposition(is_due).map_or(0, |at| at + 1);
        for at in 0..due {
            if matches!(self.pressed[at].stage, Stage::Held { .. }) {
                self.begin(at);
            }
        }
        for at in 0..self.pressed.len() {
            let pressed = &self.pressed[at];
            if pressed.stage != Stage::Sounding {
                continue;
            }
            if pressed.is_over {
                self.end(at, EndReason::Ended);
            } else if pressed.last_arrival + self.config.end_timeout <= now {
                self.end(at, EndReason::TimedOut);
            }
        }
    }

    /// Reports that the event at `at` has begun, which ends another.
    fn begin(&mut self, at: usize) {
        for other in 0..self.pressed.len() {
            if other != at && self.pressed[other].stage == Stage::Sounding {
                let over = self.pressed[other].is_over;
                let reason = if over { EndReason::Ended } else { EndReason::Replaced };
                self.end(other, reason);
            }
        }
        let pressed = &mut self.pressed[at];
        if matches!(pressed.stage, Stage::Held { .. }) {
            pressed.stage = Stage::Sounding;
            let tone = pressed.tone();
            self.counts.tones += 1;
            self.report(ToneReport::Began(tone));
        }
    }

    fn end(&mut self, at: usize, reason: EndReason) {
        let pressed = &mut self.pressed[at];
        pressed.stage = Stage::Done;
        let tone = pressed.tone();
        self.counts.wrong_clock += u64::from(pressed.other_rate().is_some());
        self.counts.timed_out += u64::from(reason == EndReason::TimedOut);
        self.report(ToneReport::Ended(tone, reason));
    }

    fn report(&mut self, report: ToneReport) {
        if self.reports.len() >= MAX_REPORTS {
            self.counts.dropped_reports += 1;
            return;
        }
        self.reports.push_back(report);
    }
}

/// How long the events of a payload last together.
fn length(reports: &[(u32, TelephoneEvent)]) -> u32 {
    reports.iter().map(|(_, report)| u32::from(report.duration)).sum()
}

#[cfg(test)]
mod tests;
