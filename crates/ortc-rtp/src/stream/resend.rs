use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::SealMark;
use crate::view::{FIXED_HEADER, NUMBER_ROOM};

/// How long what was sent is kept to be sent again: a receiver that waits for longer would rather
/// have a key frame.
pub(crate) const HISTORY_AGE: Duration = Duration::from_secs(1);

/// Most packets of a stream that are kept: half a second of video at 20 Mbit/s.
pub(crate) const HISTORY_PACKETS: usize = 1_024;

/// Most bytes of them: as many packets, nearly, as are kept of them.
const HISTORY_BYTES: usize = 1 << 20;

/// The shortest time after which a packet is sent again once more, whatever the round trip.
const MIN_RESEND_INTERVAL: Duration = Duration::from_millis(5);
/// The same while the round trip is not known.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(20);

/// What may be sent again beside each byte that is sent: a half. A network that loses a third of
/// all packets would need as much.
const SHARE: u64 = 2;
/// What may be sent again in one go however little is sent: a key frame of a small picture.
const LEAST_BURST: u64 = 32 * 1024;

/// A packet that was sent and may have to be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) index: u64,
    sent_at: Instant,
    header: [u8; FIXED_HEADER + NUMBER_ROOM],
    header_len: u8,
    pub(crate) payload: Bytes,
    /// What sealing it has given.
    pub(crate) mark: SealMark,
}

impl Kept {
    /// The header exactly as it was sent: sealed again, it may not differ.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header[..usize::from(self.header_len)]
    }
}

/// Packets of one stream that were sent lately, by their indices.
#[derive(Debug, Default)]
pub(crate) struct SendHistory {
    /// In ascending order.
    packets: VecDeque<Kept>,
    bytes: usize,
}

impl SendHistory {
    /// Keeps a packet, whose index is higher than all before.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        index: u64,
        header: &[u8],
        payload: Bytes,
        mark: SealMark,
    ) {
        let mut kept = [0; FIXED_HEADER + NUMBER_ROOM];
        // None that is sent from here is longer.
        let Some(place) = kept.get_mut(..header.len()) else { return };
        place.copy_from_slice(header);
        let (header, header_len) = (kept, header.len() as u8);
        self.bytes += payload.len();
        self.packets.push_back(Kept { index, sent_at: now, header, header_len, payload, mark });
        while self.packets.len() > HISTORY_PACKETS || self.bytes > HISTORY_BYTES {
            self.pop();
        }
        self.expire(now);
    }

    /// Lets go of what is too old.
    pub(crate) fn expire(&mut self, now: Instant) {
        let is_old = |kept: &Kept| now.saturating_duration_since(kept.sent_at) > HISTORY_AGE;
        while self.packets.front().is_some_and(is_old) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.packets.pop_front() {
            self.bytes -= oldest.payload.len();
        }
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Kept> {
        let at = self.packets.binary_search_by_key(&index, |kept| kept.index).ok()?;
        Some(&self.packets[at])
    }
}

/// When packets were sent again, so that none is more often than about once in a round trip: a
/// request that follows another after one may come sooner behind it than it was sent.
#[derive(Debug)]
pub(crate) struct ResendTimes {
    since: Instant,
    /// By the remainder of the index: the low half of the index, and milliseconds since `since`.
    times: Vec<Option<(u32, u32)>>,
}

impl ResendTimes {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, times: Vec::new() }
    }

    /// Whether a packet may be sent again at `now`; it counts as sent then.
    pub(crate) fn may_resend(
        &mut self,
        now: Instant,
        index: u64,
        round_trip: Option<Duration>,
    ) -> bool {
        // Room only for those that are ever asked.
        if self.times.is_empty() {
            self.times = vec![None; HISTORY_PACKETS];
        }
        let interval = round_trip.map_or(UNKNOWN_ROUND_TRIP, |trip| trip * 3 / 4);
        let interval = interval.max(MIN_RESEND_INTERVAL);
        let at = now.saturating_duration_since(self.since).as_millis() as u32;
        let time = &mut self.times[index as usize % HISTORY_PACKETS];
        let is_recent = time.is_some_and(|(of, before)| {
            let passed = Duration::from_millis(u64::from(at.wrapping_sub(before)));
            of == index as u32 && passed < interval
        });
        if !is_recent {
            *time = Some((index as u32, at));
        }
        !is_recent
    }

    /// Notes that a packet was not sent again after all.
    pub(crate) fn forget(&mut self, index: u64) {
        if let Some(time) = self.times.get_mut(index as usize % HISTORY_PACKETS) {
            time.take_if(|(of, _)| *of == index as u32);
        }
    }
}

/// How many bytes may be sent again: a share of what is sent, so that nobody who says that all of
/// it is lost makes a stream twice as large.
#[derive(Debug)]
pub(crate) struct ResendBudget {
    /// Bytes that may be sent again now.
    left: u64,
    /// Since when, and how many bytes were sent since; and in the second before.
    second: (Instant, u64),
    last_second: u64,
}

impl ResendBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: LEAST_BURST, second: (now, 0), last_second: 0 }
    }

    /// Notes bytes that are sent for the first time.
    pub(crate) fn sent(&mut self, now: Instant, bytes: usize) {
        let (since, sent) = &mut self.second;
        let passed = now.saturating_duration_since(*since);
        if passed >= Duration::from_secs(1) {
            self.last_second = if passed < Duration::from_secs(2) { *sent } else { 0 };
            (*since, *sent) = (now, 0);
        }
        *sent += bytes as u64;
        let most = ((*sent).max(self.last_second) / SHARE).max(LEAST_BURST);
        self.left = (self.left + bytes as u64 / SHARE).min(most);
    }

    /// Whether so many bytes may be sent again.
    pub(crate) fn has(&self, bytes: usize) -> bool {
        self.left >= bytes as u64
    }

    /// Notes bytes that are sent again.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
    }
}

/// What sealing the packets of a forwarded stream has given, for those that may have to be sealed
/// again: so where there is no `rtx`.
#[derive(Debug, Default)]
pub(crate) struct SealMarks {
    /// By the remainder of the index.
    marks: Vec<Option<(u64, SealMark)>>,
}

impl SealMarks {
    pub(crate) fn push(&mut self, index: u64, mark: Option<SealMark>) {
        if self.marks.is_empty() {
            self.marks = vec![None; HISTORY_PACKETS];
        }
        self.marks[index as usize % HISTORY_PACKETS] = mark.map(|mark| (index, mark));
    }

    pub(crate) fn get(&self, index: u64) -> Option<SealMark> {
        let kept = self.marks.get(index as usize % HISTORY_PACKETS).copied().flatten();
        kept.filter(|(of, _)| *of == index).map(|(_, mark)| mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(n: u8) -> SealMark {
        SealMark::of(&[n; 8]).unwrap()
    }

    #[test]
    fn a_history_is_bounded_by_number_age_and_bytes() {
        let start = Instant::now();
        let mut history = SendHistory::default();
        for index in 0..2_000u64 {
            history.push(start, index, &[0; 12], Bytes::from_static(b"x"), mark(1));
        }
        let has = |history: &SendHistory, index| history.get(index).is_some();
        assert!(!has(&history, 975) && has(&history, 976) && has(&history, 1_999));
        let later = start + HISTORY_AGE + Duration::from_millis(1);
        history.push(later, 2_000, &[1; 20], Bytes::from_static(b"y"), mark(2));
        assert!(!has(&history, 1_999));
        let kept = history.get(2_000).unwrap();
        assert_eq!((kept.header(), &*kept.payload, kept.mark), (&[1; 20][..], &b"y"[..], mark(2)));
        for index in 2_001..2_020 {
            history.push(later, index, &[0; 12], vec![0; 100_000].into(), mark(3));
        }
        assert!(!has(&history, 2_009) && has(&history, 2_010));
    }

    #[test]
    fn a_packet_is_sent_again_about_once_in_a_round_trip() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut times = ResendTimes::new(start);
        let trip = Some(Duration::from_millis(100));
        let may: Vec<_> = [0, 50, 74, 75, 149].map(|ms| times.may_resend(at(ms), 7, trip)).into();
        assert_eq!(may, [true, false, false, true, false]);
        assert!(times.may_resend(at(150), 8, trip));
        assert!(times.may_resend(at(175), 8, None), "unknown is short");
        assert!(!times.may_resend(at(178), 8, Some(Duration::ZERO)), "never at once");
        times.forget(9);
        times.forget(8);
        assert!(times.may_resend(at(178), 8, trip), "it was not there");
    }

    #[test]
    fn what_is_sent_again_is_a_share_of_what_is_sent() {
        let start = Instant::now();
        let mut budget = ResendBudget::new(start);
        let spend_all = |budget: &mut ResendBudget| {
            let mut spent = 0;
            while budget.has(1_000) {
                budget.spend(1_000);
                spent += 1_000;
            }
            spent
        };
        assert_eq!(spend_all(&mut budget), 32_000);
        // 5 Mbit/s for ten seconds, with all that it allows sent again all the time.
        let mut spent = 0;
        for n in 0..5_000 {
            budget.sent(start + Duration::from_millis(2 * n), 1_250);
            spent += spend_all(&mut budget);
        }
        assert_eq!(spent, 5_000 * 1_250 / 2 / 1_000 * 1_000);
        // Saved up, it is half a second of that.
        for n in 5_000..10_000 {
            budget.sent(start + Duration::from_millis(2 * n), 1_250);
        }
        assert_eq!(spend_all(&mut budget), 312_000);
    }

    #[test]
    fn marks_are_those_of_the_newest_packets() {
        let mut marks = SealMarks::default();
        assert_eq!(marks.get(5), None);
        marks.push(5, Some(mark(1)));
        assert_eq!((marks.get(5), marks.get(5 + 1_024)), (Some(mark(1)), None));
        marks.push(5 + 1_024, Some(mark(2)));
        assert_eq!((marks.get(5), marks.get(5 + 1_024)), (None, Some(mark(2))));
    }
}
