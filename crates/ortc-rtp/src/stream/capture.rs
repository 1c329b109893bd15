use super::clock::NtpTime;
use crate::SenderInfo;

/// How far a report may be off the one before without being doubted, in microseconds: clocks of
/// sound and of hosts drift apart by less in an hour, and senders note down the moment of sending
/// with some jitter.
const TOLERANCE: i64 = 100_000;

/// When the packets of a stream were captured, by the clock of their sender.
///
/// A sender report tells which RTP timestamp belongs to which moment of the sender's clock
/// (RFC 3550 §6.4.1); all else follows from the clock rate. Tracks of one sender have one such
/// clock, so that is how sound and pictures are brought together. Where packets have the header
/// extension `abs-capture-time`, that goes first, as it comes from where they were captured,
/// however often they have been forwarded since.
///
/// Reports come from the network. One without a time is none, and one that contradicts the one
/// before is only believed once the next one says the same: a mistaken one does no harm, and a clock
/// that was set counts from the second report on.
///
/// ```
/// use ortc_rtp::{CaptureClock, NtpTime, SenderInfo, Ssrc};
///
/// let mut clock = CaptureClock::new();
/// assert_eq!(clock.capture_time(1_000, 90_000), None);
/// let report = SenderInfo {
///     ssrc: Ssrc(1), ntp: 7 << 32, rtp_timestamp: 1_000, packets: 0, octets: 0,
/// };
/// clock.on_sender_report(&report, 90_000);
/// assert_eq!(clock.capture_time(1_000 + 45_000, 90_000), Some(NtpTime(7 << 32 | 1 << 31)));
/// ```
#[derive(Debug, Clone, Default)]
pub struct CaptureClock {
    reported: Option<Anchor>,
    /// A report that contradicts it.
    doubted: Option<Anchor>,
    /// What the header extension has said last.
    told: Option<Anchor>,
}

/// A timestamp and the moment that belongs to it.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    timestamp: u32,
    clock_rate: u32,
    time: NtpTime,
}

impl Anchor {
    /// The moment of a timestamp, at most half its range away; `None` if it counts in other units.
    fn time_of(&self, timestamp: u32, clock_rate: u32) -> Option<NtpTime> {
        let units = timestamp.wrapping_sub(self.timestamp) as i32;
        (clock_rate == self.clock_rate).then(|| self.time.plus_units(units.into(), clock_rate))
    }

    /// Whether another one says the same, as nearly as it has to be; `None` if they cannot be
    /// compared.
    fn agrees(&self, other: &Self) -> Option<bool> {
        let expected = self.time_of(other.timestamp, other.clock_rate)?;
        Some(other.time.micros_since(expected).abs() <= TOLERANCE)
    }
}

impl CaptureClock {
    /// A clock that nothing has been heard of.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a sender report of the stream, whose timestamps count in units of `clock_rate`.
    pub fn on_sender_report(&mut self, info: &SenderInfo, clock_rate: u32) {
        // RFC 3550 §6.4.1: zero if the sender has no clock at all.
        if info.ntp == 0 || clock_rate == 0 {
            return;
        }
        let time = NtpTime(info.ntp);
        let report = Anchor { timestamp: info.rtp_timestamp, clock_rate, time };
        let before = self.reported.and_then(|before| Some((before, before.agrees(&report)?)));
        match before {
            // Overtaken on the way.
            Some((before, true)) if time.micros_since(before.time) < 0 => {}
            Some((_, true)) | None => {
                (self.reported, self.doubted) = (Some(report), None);
            }
            Some((_, false)) => {
                let is_said_again =
                    self.doubted.is_some_and(|doubted| doubted.agrees(&report) == Some(true));
                match is_said_again {
                    true => (self.reported, self.doubted) = (Some(report), None),
                    false => self.doubted = Some(report),
                }
            }
        }
    }

    /// Takes an element `abs-capture-time` of a packet: 8 bytes of time, and maybe 8 that say how
    /// far the clock it was captured by is ahead of that of the sender's reports. Anything else is
    /// ignored.
    pub fn on_element(&mut self, timestamp: u32, clock_rate: u32, element: &[u8]) {
        let long = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        let Some((time, offset)) = element.split_at_checked(8) else { return };
        let offset = if offset.is_empty() { Some(0) } else { long(offset) };
        let (Some(time), Some(offset)) = (long(time), offset) else { return };
        if time == 0 || clock_rate == 0 {
            return;
        }
        let told = Anchor { timestamp, clock_rate, time: NtpTime(time.wrapping_sub(offset)) };
        let is_newer = self.told.is_none_or(|before| {
            before.clock_rate != clock_rate || timestamp.wrapping_sub(before.timestamp) as i32 >= 0
        });
        if is_newer {
            self.told = Some(told);
        }
    }

    /// When something with this timestamp was captured, by the clock of the sender; `None` as long
    /// as nothing tells.
    pub fn capture_time(&self, timestamp: u32, clock_rate: u32) -> Option<NtpTime> {
        let time = |anchor: Option<Anchor>| anchor?.time_of(timestamp, clock_rate);
        time(self.told).or_else(|| time(self.reported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ssrc;

    fn seconds(seconds: f64) -> u64 {
        (seconds * 4_294_967_296.0) as u64
    }

    fn report(clock: &mut CaptureClock, at: f64, rtp_timestamp: u32) {
        let ntp = seconds(at);
        let info = SenderInfo { ssrc: Ssrc(1), ntp, rtp_timestamp, packets: 0, octets: 0 };
        clock.on_sender_report(&info, 90_000);
    }

    /// The time of a timestamp in milliseconds.
    fn millis(clock: &CaptureClock, timestamp: u32) -> Option<i64> {
        let time = clock.capture_time(timestamp, 90_000)?;
        Some((time.micros_since(NtpTime(0)) + 500) / 1_000)
    }

    #[test]
    fn timestamps_before_and_after_a_report_have_a_time_across_their_range() {
        let mut clock = CaptureClock::new();
        assert_eq!(millis(&clock, 0), None);
        report(&mut clock, 10.0, u32::MAX - 89_999);
        assert_eq!(millis(&clock, u32::MAX - 89_999), Some(10_000));
        assert_eq!(millis(&clock, 90_000), Some(12_000));
        assert_eq!(millis(&clock, u32::MAX - 179_999), Some(9_000));
        assert_eq!(clock.capture_time(0, 48_000), None, "of another clock rate");
        // The sender's clocks drift apart by a millisecond a second.
        report(&mut clock, 11.001, 0);
        assert_eq!(millis(&clock, 90_000), Some(12_001));
    }

    #[test]
    fn a_report_that_is_mistaken_changes_nothing_and_one_that_is_repeated_does() {
        let mut clock = CaptureClock::new();
        report(&mut clock, 0.0, 5);
        assert_eq!(millis(&clock, 0), None, "no time is no time");
        report(&mut clock, 10.0, 0);
        report(&mut clock, 99.0, 90_000);
        assert_eq!(millis(&clock, 90_000), Some(11_000));
        report(&mut clock, 12.0, 180_000);
        report(&mut clock, 99.0, 270_000);
        assert_eq!(millis(&clock, 270_000), Some(13_000), "the first was disproved");
        report(&mut clock, 100.0, 360_000);
        assert_eq!(millis(&clock, 360_000), Some(100_000), "the clock was set");
        // One from before comes late.
        report(&mut clock, 99.05, 270_000);
        assert_eq!(millis(&clock, 360_000), Some(100_000));
    }

    #[test]
    fn what_packets_say_themselves_goes_first() {
        let mut clock = CaptureClock::new();
        report(&mut clock, 10.0, 0);
        let element = |at: f64, offset: Option<f64>| {
            let mut element = seconds(at).to_be_bytes().to_vec();
            element.extend(offset.iter().flat_map(|offset| seconds(*offset).to_be_bytes()));
            element
        };
        for len in [0, 7, 9, 15, 17] {
            clock.on_element(0, 90_000, &vec![1; len]);
        }
        clock.on_element(0, 90_000, &[0; 8]);
        assert_eq!(millis(&clock, 0), Some(10_000));
        clock.on_element(90_000, 90_000, &element(50.0, None));
        assert_eq!(millis(&clock, 180_000), Some(51_000));
        clock.on_element(180_000, 90_000, &element(51.0, Some(2.5)));
        clock.on_element(90_000, 90_000, &element(1.0, None));
        assert_eq!(millis(&clock, 180_000), Some(48_500), "an older one comes late");
    }
}
