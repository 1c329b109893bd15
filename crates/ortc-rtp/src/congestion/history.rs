//! What was sent, until feedback says what became of it.

use std::time::{Duration, Instant};

use ortc_io::prefetch;

use super::ccfb::CongestionFeedback;
use super::transport_feedback::TransportFeedback;
use crate::Ssrc;

/// The room grows from the first to the last: 4 kB, enough for calls, to 128 kB, a second of
/// 80 Mbit/s.
const MIN_ROOM: usize = 256;
const MAX_ROOM: usize = 8_192;

/// Streams that one report by SSRCs may be about, as each costs a look at all that was sent.
const MAX_STREAMS: usize = 32;

/// What became of a packet, or of some that follow each other and fared alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketResult {
    /// Its number, with its rollovers; that of the first.
    pub number: u64,
    /// How many packets it is about.
    pub packets: u32,
    /// When it was sent, in microseconds since the history was made.
    pub sent_us: i64,
    /// Its length in bytes; that of all.
    pub len: usize,
    /// When it came, in microseconds of the receiver's clock; `None` if it is lost.
    pub arrived_us: Option<i64>,
    /// Whether it was taken for lost before.
    pub was_lost: bool,
    /// The cluster of probes that it belongs to; 0 is none.
    pub cluster: u16,
}

impl PacketResult {
    /// Takes in the packets behind, if they were sent and came at the same moments as these: most of
    /// a run do, and an estimate makes the same of each. Returns whether it has; those of a probe are
    /// looked at one by one.
    #[inline]
    pub(crate) fn join(&mut self, next: &Self) -> bool {
        let is_of_them = (self.sent_us, self.arrived_us) == (next.sent_us, next.arrived_us)
            && self.was_lost == next.was_lost
            && (self.cluster, next.cluster) == (0, 0)
            && self.number + u64::from(self.packets) == next.number;
        if is_of_them {
            self.packets += next.packets;
            self.len += next.len;
        }
        is_of_them
    }

    /// Adds it to those before, the last of which [takes it in](Self::join) if it can.
    #[inline]
    pub(crate) fn add_to(self, results: &mut Vec<Self>) {
        if !results.last_mut().is_some_and(|last| last.join(&self)) {
            results.push(self);
        }
    }
}

/// A ring of the packets that were sent last, by transport-wide numbers.
///
/// It has no memory before the first packet, and doubles what it has when feedback takes long,
/// up to 8,192 packets; then the oldest is forgotten.
#[derive(Debug)]
pub struct SentHistory {
    epoch: Instant,
    /// The newest moment of sending, and what it is since the epoch: packets come in bursts.
    moment: (Instant, u32),
    entries: Box<[Entry]>,
    /// The number of the next packet, with its rollovers.
    next: u64,
    /// The lowest number that no feedback has said anything about.
    unacknowledged: u64,
    /// The lowest number that [`tell_sent`](Self::tell_sent) has not told of.
    untold: u64,
    in_flight: u64,
    /// The receiver's time at the reference of the newest feedback, and that reference.
    reference: Option<(i64, i32)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Since the epoch, wrapping.
    sent_us: u32,
    ssrc: u32,
    sequence: u16,
    len: u16,
    cluster: u16,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Unknown,
    Lost,
    Received,
}

impl SentHistory {
    /// Makes one that has sent nothing; `first` is the number of the first packet.
    pub fn new(now: Instant, first: u16) -> Self {
        let next = u64::from(first) + (1 << 16);
        Self {
            epoch: now,
            moment: (now, 0),
            entries: Box::default(),
            next,
            unacknowledged: next,
            untold: next,
            in_flight: 0,
            reference: None,
        }
    }

    /// The 16 bits of the next packet's number.
    pub fn next_number(&self) -> u16 {
        self.next as u16
    }

    /// Has the processor fetch where the next packets are noted.
    pub(crate) fn prefetch(&self) {
        if let [first, .., last] = &*self.entries {
            let next = self.entries.get(self.at(self.next)).unwrap_or(first);
            let behind = self.entries.get(self.at(self.next + 4)).unwrap_or(last);
            prefetch(next);
            prefetch(behind);
        }
    }

    /// Has the processor fetch what feedback is about next, as far as it usually is.
    pub(crate) fn prefetch_unacknowledged(&self) {
        // A line of the cache has three of them.
        for number in (self.unacknowledged..self.next).step_by(3).take(24) {
            if let Some(entry) = self.entries.get(self.at(number)) {
                prefetch(entry);
            }
        }
    }

    /// Notes a packet that is sent with the next number.
    ///
    /// `cluster` names the probes that it belongs to, and is 0 for none.
    #[inline]
    pub fn on_sent(&mut self, now: Instant, ssrc: Ssrc, sequence: u16, len: usize, cluster: u16) {
        if self.moment.0 != now {
            self.moment = (now, self.us(now) as u32);
        }
        if self.next - self.unacknowledged >= self.entries.len() as u64 {
            self.make_room();
        }
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        self.in_flight += u64::from(len);
        let entry = Entry {
            sent_us: self.moment.1,
            ssrc: ssrc.0,
            sequence,
            len,
            cluster,
            standing: Standing::Unknown,
        };
        let at = self.at(self.next);
        self.entries[at] = entry;
        self.next += 1;
    }

    #[cold]
    fn make_room(&mut self) {
        let had = self.entries.len();
        if had == MAX_ROOM {
            self.acknowledge_to(self.unacknowledged + 1);
            return;
        }
        let mut entries = vec![Entry::default(); (2 * had).max(MIN_ROOM)].into_boxed_slice();
        for number in self.next.saturating_sub(had as u64)..self.next {
            if had > 0 {
                entries[number as usize & (2 * had - 1)] = self.entries[self.at(number)];
            }
        }
        self.entries = entries;
    }

    fn at(&self, number: u64) -> usize {
        number as usize & (self.entries.len() - 1)
    }

    fn us(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.epoch).as_micros() as i64
    }

    /// Takes the packets below `number` out of what is in flight.
    fn acknowledge_to(&mut self, number: u64) {
        for number in self.unacknowledged..number.min(self.next) {
            let entry = self.entries[self.at(number)];
            if entry.standing == Standing::Unknown {
                self.in_flight = self.in_flight.saturating_sub(u64::from(entry.len));
            }
        }
        self.unacknowledged = self.unacknowledged.max(number.min(self.next));
    }

    /// How many packets [`tell_sent`](Self::tell_sent) will tell of.
    pub fn untold(&self) -> u64 {
        self.next - self.untold
    }

    /// Tells `each` what was sent since it was asked last, moment by moment: when, how many bytes,
    /// and how many were [in flight](Self::in_flight) then. What was forgotten meanwhile is left out.
    pub fn tell_sent(&mut self, mut each: impl FnMut(Instant, usize, u64)) {
        let room = self.entries.len() as u64;
        let from = self.untold.max(self.next.saturating_sub(room));
        self.untold = self.next;
        let lens = (from..self.next).map(|number| u64::from(self.entries[self.at(number)].len));
        let mut in_flight = self.in_flight.saturating_sub(lens.sum());
        let (newest, newest_us) = self.moment;
        let mut number = from;
        while number < self.next {
            let sent_us = self.entries[self.at(number)].sent_us;
            let mut bytes = 0;
            while number < self.next
                && let entry = self.entries[self.at(number)]
                && entry.sent_us == sent_us
            {
                bytes += u64::from(entry.len);
                number += 1;
            }
            in_flight += bytes;
            let age = Duration::from_micros(newest_us.wrapping_sub(sent_us).into());
            each(newest.checked_sub(age).unwrap_or(newest), bytes as usize, in_flight);
        }
    }

    /// Bytes that were sent and that no feedback has said anything about.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether anything was sent.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Tells `each` what transport-wide feedback says that was not known, in the order of sending.
    pub fn on_feedback(
        &mut self,
        now: Instant,
        feedback: &TransportFeedback<'_>,
        mut each: impl FnMut(PacketResult),
    ) {
        let reference = feedback.reference();
        let start = match self.reference {
            None => 0,
            // 24 bits of it are sent: the shortest way round is the right one.
            Some((at, before)) => at + i64::from(reference.wrapping_sub(before) << 8 >> 8) * 64_000,
        };
        self.reference = Some((start, reference));
        let now_us = self.us(now);
        let back = self.next_number().wrapping_sub(feedback.base());
        let mut number = self.next - u64::from(back);
        feedback.each_status(|_, arrived| {
            let arrived_us = arrived.map(|ticks| start + ticks * 250);
            if let Some(result) = self.settle(now_us, number, arrived_us) {
                each(result);
            }
            number += 1;
        });
    }

    /// As [`on_feedback`](Self::on_feedback), by SSRCs and sequence numbers (RFC 8888).
    pub fn on_congestion_feedback(
        &mut self,
        now: Instant,
        feedback: &CongestionFeedback<'_>,
        mut each: impl FnMut(PacketResult),
    ) {
        let report = i64::from(feedback.timestamp());
        let start = match self.reference {
            None => 0,
            Some((at, before)) => {
                let passed = i64::from((report as u32).wrapping_sub(before as u32) as i32);
                at + passed * 1_000_000 / 65_536
            }
        };
        self.reference = Some((start, report as i32));
        let oldest = self.next.saturating_sub(self.entries.len() as u64);
        let now_us = self.us(now);
        for stream in feedback.streams().take(MAX_STREAMS) {
            for number in oldest..self.next {
                let entry = self.entries[self.at(number)];
                if entry.ssrc != stream.ssrc.0 || entry.len == 0 {
                    continue;
                }
                let Some(arrival) = stream.arrival(entry.sequence) else { continue };
                let arrived_us = arrival.map(|arrival| {
                    start - i64::from(arrival.before_report.unwrap_or(0)) * 1_000_000 / 1_024
                });
                if let Some(result) = self.settle(now_us, number, arrived_us) {
                    each(result);
                }
            }
        }
    }

    /// Notes what became of a packet; `None` if that was known, or it is not.
    #[inline]
    fn settle(
        &mut self,
        now_us: i64,
        number: u64,
        arrived_us: Option<i64>,
    ) -> Option<PacketResult> {
        if number >= self.next || self.next - number > self.entries.len() as u64 {
            return None;
        }
        if number > self.unacknowledged {
            self.acknowledge_to(number);
        }
        let at = self.at(number);
        let entry = &mut self.entries[at];
        let was_lost = entry.standing == Standing::Lost;
        let standing = if arrived_us.is_some() { Standing::Received } else { Standing::Lost };
        if entry.len == 0 || entry.standing == Standing::Received || entry.standing == standing {
            return None;
        }
        if number == self.unacknowledged {
            self.unacknowledged += 1;
            if entry.standing == Standing::Unknown {
                self.in_flight = self.in_flight.saturating_sub(u64::from(entry.len));
            }
        }
        entry.standing = standing;
        let age = (now_us as u32).wrapping_sub(entry.sent_us);
        Some(PacketResult {
            number,
            packets: 1,
            sent_us: now_us - i64::from(age),
            len: usize::from(entry.len),
            arrived_us,
            was_lost,
            cluster: entry.cluster,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtcpView;
    use crate::congestion::{Arrival, ArrivalLog};

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Has a log tell about these numbers, and the history take it.
    fn answer(history: &mut SentHistory, now: Instant, came: &[u16]) -> Vec<(u64, bool, bool)> {
        let mut log = ArrivalLog::new();
        came.iter().for_each(|number| log.on_packet(now, *number, Ssrc(7), 100));
        let mut bytes = Vec::new();
        assert!(log.write_due(at(now, 300), Ssrc(1), &mut bytes));
        let packet = RtcpView::new(&bytes).next().unwrap().unwrap();
        let feedback = TransportFeedback::parse(&packet).unwrap().unwrap();
        let mut results = Vec::new();
        history.on_feedback(now, &feedback, |it| {
            results.push((it.number, it.arrived_us.is_some(), it.was_lost));
        });
        results
    }

    #[test]
    fn what_was_sent_is_told_once_moment_by_moment_with_what_was_in_flight() {
        let start = Instant::now();
        let mut history = SentHistory::new(start, 0xffff);
        let told = |history: &mut SentHistory| {
            let mut told = Vec::new();
            history.tell_sent(|sent, bytes, in_flight| told.push((sent, bytes, in_flight)));
            told
        };
        assert_eq!(told(&mut history), []);
        for (ms, len) in [(0, 100), (0, 50), (10, 200), (25, 300)] {
            history.on_sent(at(start, ms), Ssrc(7), 1, len, 0);
        }
        assert_eq!(history.untold(), 4);
        let sent = [(at(start, 0), 150, 150), (at(start, 10), 200, 350), (at(start, 25), 300, 650)];
        assert_eq!(told(&mut history), sent);
        answer(&mut history, at(start, 40), &[0xffff, 0, 1, 2]);
        history.on_sent(at(start, 50), Ssrc(7), 2, 40, 0);
        assert_eq!(told(&mut history), [(at(start, 50), 40, 40)]);
        assert_eq!(history.untold(), 0);
        // Of more than there is room for, the oldest are not told of.
        for number in 0..MAX_ROOM as u64 + 10 {
            history.on_sent(at(start, 60 + number), Ssrc(7), 3, 1, 0);
        }
        assert_eq!(told(&mut history).len(), MAX_ROOM);
    }

    #[test]
    fn each_packet_is_settled_once_or_as_lost_and_then_as_late() {
        let start = Instant::now();
        let mut history = SentHistory::new(start, 0xffff);
        for n in 0..4 {
            history.on_sent(at(start, n), Ssrc(7), n as u16, 100, 0);
        }
        assert_eq!(history.in_flight(), 400);
        let first = 0x1_ffff;
        let told = answer(&mut history, at(start, 50), &[0xffff, 1]);
        let lost = (first + 1, false, false);
        assert_eq!(told, [(first, true, false), lost, (first + 2, true, false)]);
        assert_eq!(history.in_flight(), 100);
        let told = answer(&mut history, at(start, 60), &[0, 1, 2]);
        assert_eq!(told, [(first + 1, true, true), (first + 3, true, false)]);
        assert_eq!(history.in_flight(), 0);
        // What was never sent.
        assert_eq!(answer(&mut history, at(start, 70), &[3, 500, 40_000]), []);
    }

    #[test]
    fn packets_that_fared_alike_are_told_of_together() {
        let packet = PacketResult {
            number: 7,
            packets: 1,
            sent_us: 1_000,
            len: 100,
            arrived_us: Some(5_000),
            was_lost: false,
            cluster: 0,
        };
        let mut joined = packet;
        assert!(joined.join(&PacketResult { number: 8, len: 50, ..packet }));
        assert!(joined.join(&PacketResult { number: 9, ..packet }));
        assert_eq!(joined, PacketResult { packets: 3, len: 250, ..packet });
        for other in [
            PacketResult { number: 11, ..packet },
            PacketResult { number: 10, sent_us: 1_001, ..packet },
            PacketResult { number: 10, arrived_us: Some(5_250), ..packet },
            PacketResult { number: 10, arrived_us: None, ..packet },
            PacketResult { number: 10, was_lost: true, ..packet },
            PacketResult { number: 10, cluster: 1, ..packet },
        ] {
            assert!(!joined.join(&other), "{other:?}");
        }
        assert_eq!(joined.packets, 3);
        let mut probe = PacketResult { cluster: 4, ..packet };
        assert!(!probe.join(&PacketResult { number: 8, ..probe }));
    }

    #[test]
    fn the_times_of_sending_and_of_coming_are_kept_over_the_wrap_of_the_reference() {
        let start = Instant::now();
        let mut history = SentHistory::new(start, 0);
        let mut arrived = Vec::new();
        for (n, reference) in [(0, 0x7f_fffei32), (1, 0x7f_ffff), (2, -0x80_0000), (3, -0x7f_ffff)]
        {
            history.on_sent(at(start, 64 * n), Ssrc(7), n as u16, 100, n as u16);
            let mut body = vec![0; 20];
            body[8..12].copy_from_slice(&[0, n as u8, 0, 1]);
            body[12..16].copy_from_slice(&(reference << 8).to_be_bytes());
            body[16..19].copy_from_slice(&[0x20, 1, 4]);
            let packet = crate::RtcpPacket { count: 15, packet_type: 205, body: &body };
            let feedback = TransportFeedback::parse(&packet).unwrap().unwrap();
            history.on_feedback(at(start, 64 * n + 9), &feedback, |it| {
                assert_eq!((it.sent_us, it.cluster), (64_000 * n as i64, n as u16));
                arrived.extend(it.arrived_us);
            });
        }
        assert_eq!(arrived, [1_000, 65_000, 129_000, 193_000]);
    }

    #[test]
    fn room_grows_with_what_is_on_its_way_and_has_a_bound() {
        let start = Instant::now();
        let mut history = SentHistory::new(start, 9);
        assert!(history.is_empty());
        for n in 0..20_000u64 {
            history.on_sent(at(start, n), Ssrc(7), n as u16, 100, 0);
            assert!(history.in_flight() <= 100 * MAX_ROOM as u64);
        }
        assert_eq!(history.entries.len(), MAX_ROOM);
        let newest = history.next_number().wrapping_sub(1);
        let told = answer(&mut history, at(start, 20_001), &[newest]);
        assert_eq!((told.len(), history.in_flight()), (1, 0));
        let mut history = SentHistory::new(start, 9);
        for n in 0..2_000 {
            history.on_sent(at(start, n), Ssrc(7), n as u16, 100, 0);
            let number = history.next_number().wrapping_sub(1);
            answer(&mut history, at(start, n), &[number]);
        }
        assert_eq!(history.entries.len(), MIN_ROOM);
    }

    #[test]
    fn reports_by_sequence_numbers_settle_the_same() {
        let start = Instant::now();
        let mut history = SentHistory::new(start, 0);
        for n in 0..6u16 {
            let ssrc = Ssrc(7 + u32::from(n % 2));
            history.on_sent(at(start, u64::from(n)), ssrc, 0xfffeu16.wrapping_add(n / 2), 100, 0);
        }
        let mut bytes = Vec::new();
        let begin = CongestionFeedback::begin(Ssrc(1), &mut bytes);
        let came = |before| Some(Arrival { ecn: 0, before_report: Some(before) });
        let reports = [came(1_024), None, came(0)];
        CongestionFeedback::write_stream(Ssrc(7), 0xfffe, reports.into_iter(), &mut bytes);
        CongestionFeedback::finish(begin, 65_536, &mut bytes);
        let packet = RtcpView::new(&bytes).next().unwrap().unwrap();
        let feedback = CongestionFeedback::parse(&packet).unwrap().unwrap();
        let mut results = Vec::new();
        history.on_congestion_feedback(at(start, 50), &feedback, |it| {
            results.push((it.number - (1 << 16), it.arrived_us));
        });
        assert_eq!(results, [(0, Some(-1_000_000)), (2, None), (4, Some(0))]);
    }
}
