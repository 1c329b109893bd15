//! The receiving side of RFC 8888: when the packets of each stream came, told from time to time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::arrivals::{FEEDBACK_BITS, MAX_INTERVAL, MIN_INTERVAL, SHARE};
use super::ccfb::{Arrival, CongestionFeedback};
use crate::Ssrc;

/// Streams that are told of: as many as a sender looks at.
const MAX_STREAMS: usize = 32;

/// Numbers of one stream that are kept track of: a second of 10 Mbit/s.
const MAX_WINDOW: usize = 1_024;

/// Numbers below the newest told that may still come late, and are told after all.
const LATE: u64 = 32;

/// Packets that one message is about, at most: it stays within a datagram.
const MAX_REPORTS: usize = 480;

/// When packets came, by the SSRCs and sequence numbers that they have anyway; makes the feedback.
///
/// Takes no memory before the first packet, and at most 16 kB for each of at most 32 streams.
#[derive(Debug, Default)]
pub struct StreamArrivals {
    streams: Vec<Stream>,
    due: Option<Instant>,
    told_at: Option<Instant>,
    interval: Option<Duration>,
    bytes: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Stream {
    ssrc: Ssrc,
    /// From `first` on.
    arrivals: VecDeque<Option<Instant>>,
    first: u64,
    /// The lowest number that is to be told next.
    untold: u64,
}

impl Stream {
    fn new(ssrc: Ssrc, sequence: u16) -> Self {
        // Far from zero, so that what comes late stays above it.
        let first = (1 << 16) + u64::from(sequence);
        Self { ssrc, arrivals: VecDeque::new(), first, untold: first }
    }

    /// Notes a packet; whether its number is none of long ago.
    fn take(&mut self, now: Instant, sequence: u16) -> bool {
        let end = self.first + self.arrivals.len() as u64;
        // What is less than half of all numbers ahead is newer.
        let ahead = i64::from(sequence.wrapping_sub(end as u16) as i16);
        let Some(number) = end.checked_add_signed(ahead) else { return false };
        if number < self.first {
            return false;
        }
        if number >= end {
            let skipped = (number - end) as usize;
            if skipped >= MAX_WINDOW {
                // A jump: nothing before it is worth telling any more.
                self.arrivals.clear();
                (self.first, self.untold) = (number, number);
            } else {
                self.arrivals.extend(std::iter::repeat_n(None, skipped));
            }
            self.arrivals.push_back(None);
            self.forget(self.arrivals.len().saturating_sub(MAX_WINDOW));
        }
        let slot = &mut self.arrivals[(number - self.first) as usize];
        if slot.is_none() {
            *slot = Some(now);
            self.untold = self.untold.min(number);
        }
        true
    }

    fn forget(&mut self, count: usize) {
        self.arrivals.drain(..count);
        self.first += count as u64;
        self.untold = self.untold.max(self.first);
    }

    fn has_news(&self) -> bool {
        self.untold < self.first + self.arrivals.len() as u64
    }
}

impl StreamArrivals {
    /// Makes one that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a packet of `len` bytes that came at `now`.
    pub fn on_packet(&mut self, now: Instant, ssrc: Ssrc, sequence: u16, len: usize) {
        self.bytes += len as u64;
        let at = match self.streams.iter().position(|stream| stream.ssrc == ssrc) {
            Some(at) => at,
            None if self.streams.len() < MAX_STREAMS => {
                self.streams.push(Stream::new(ssrc, sequence));
                self.streams.len() - 1
            }
            None => {
                self.dropped += 1;
                return;
            }
        };
        if !self.streams[at].take(now, sequence) {
            self.dropped += 1;
        } else if self.due.is_none() {
            let told_at = *self.told_at.get_or_insert(now);
            self.due = Some((told_at + self.interval.unwrap_or(MIN_INTERVAL)).max(now));
        }
    }

    /// When the next feedback is due; `None` while nothing has come since the last.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        Some((self.due?, "feedback about streams is due"))
    }

    /// Appends feedback about all that has not been told, if it is due; whether it was. `ntp` is
    /// the time of this side's clock: the middle 32 bits of an NTP timestamp. Of what is too much
    /// for a datagram, the rest is due at once.
    pub fn write_due(&mut self, now: Instant, ntp: u32, sender: Ssrc, out: &mut Vec<u8>) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        let start = CongestionFeedback::begin(sender, out);
        let mut room = MAX_REPORTS;
        for stream in self.streams.iter_mut().filter(|stream| stream.has_news()) {
            let from = (stream.untold - stream.first) as usize;
            let count = (stream.arrivals.len() - from).min(room);
            if count == 0 {
                break;
            }
            let told = stream.arrivals.iter().skip(from).take(count).map(|at| {
                let before = now.saturating_duration_since((*at)?).as_micros() * 1_024 / 1_000_000;
                let before_report = Some(u16::try_from(before).unwrap_or(u16::MAX));
                Some(Arrival { ecn: 0, before_report })
            });
            CongestionFeedback::write_stream(stream.ssrc, stream.untold as u16, told, out);
            stream.untold += count as u64;
            let kept = stream.untold.saturating_sub(LATE).max(stream.first);
            stream.forget((kept - stream.first) as usize);
            // Each stream has a head, as long as four reports.
            room = room.saturating_sub(count + 4);
        }
        CongestionFeedback::finish(start, ntp, out);
        if self.streams.iter().any(Stream::has_news) {
            self.due = Some(now);
        }
        let told_at = self.told_at.replace(now).unwrap_or(now);
        let elapsed = now.saturating_duration_since(told_at).max(MIN_INTERVAL).as_secs_f64();
        let rate = (self.bytes * 8) as f64 / elapsed;
        let wanted = FEEDBACK_BITS / (SHARE * rate.max(1.0));
        let wanted = Duration::from_secs_f64(wanted.min(1.0));
        self.interval = Some(wanted.clamp(MIN_INTERVAL, MAX_INTERVAL));
        self.bytes = 0;
        true
    }

    /// Packets that are not told of: they came too late, or there are too many streams.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtcpView;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// What is told at this time: streams, numbers, and how long before.
    fn told(log: &mut StreamArrivals, now: Instant) -> Option<Vec<(u32, u16, Option<u16>)>> {
        let mut bytes = Vec::new();
        log.write_due(now, 7, Ssrc(1), &mut bytes).then(|| {
            let packet = RtcpView::new(&bytes).next().unwrap().unwrap();
            let feedback = CongestionFeedback::parse(&packet).unwrap().unwrap();
            assert_eq!(feedback.timestamp(), 7);
            let all = feedback.streams().flat_map(|stream| {
                (0..stream.len() as u16).map(move |n| {
                    let number = stream.begin.wrapping_add(n);
                    let came = stream.arrival(number).unwrap();
                    (stream.ssrc.0, number, came.map(|it| it.before_report.unwrap()))
                })
            });
            all.collect()
        })
    }

    #[test]
    fn each_packet_is_told_once_and_a_late_one_after_all() {
        let start = Instant::now();
        let mut log = StreamArrivals::new();
        log.on_packet(start, Ssrc(8), 0xffff, 1_000);
        log.on_packet(at(start, 10), Ssrc(8), 1, 1_000);
        log.on_packet(at(start, 20), Ssrc(9), 5, 1_000);
        assert_eq!(log.poll_timeout().map(|(due, _)| due), Some(at(start, 50)));
        assert_eq!(told(&mut log, at(start, 49)), None);
        let first = [(8, 0xffff, Some(51)), (8, 0, None), (8, 1, Some(40)), (9, 5, Some(30))];
        assert_eq!(told(&mut log, at(start, 50)).unwrap(), first);
        assert_eq!((log.poll_timeout(), told(&mut log, at(start, 500))), (None, None));
        log.on_packet(at(start, 600), Ssrc(8), 0, 1_000);
        let again = [(8, 0, Some(0)), (8, 1, Some(604))];
        assert_eq!(told(&mut log, at(start, 600)).unwrap(), again);
        log.on_packet(at(start, 700), Ssrc(8), 0xff00, 1_000);
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn messages_and_memory_are_bounded() {
        let start = Instant::now();
        let mut log = StreamArrivals::new();
        for n in 0..5_000u16 {
            log.on_packet(start, Ssrc(u32::from(n % 40)), n / 40 * 200, 100);
        }
        assert_eq!(log.dropped(), 1_000);
        let mut count = 0;
        let mut bytes = Vec::new();
        while log.write_due(at(start, 100), 0, Ssrc(1), &mut bytes) {
            assert!(bytes.len() < 1_200, "{}", bytes.len());
            bytes.clear();
            count += 1;
        }
        assert!((50..200).contains(&count), "{count}");
        assert!(log.streams.iter().all(|stream| stream.arrivals.len() <= LATE as usize));
    }
}
