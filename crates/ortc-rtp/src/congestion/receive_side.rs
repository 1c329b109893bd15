//! How much gets through, found out by the receiver and told as a cap: for senders that act upon
//! nothing else (draft-alvestrand-rmcat-remb-03).

use std::time::{Duration, Instant};

use super::aimd::RateControl;
use super::delay::{DelayDetector, Usage};
use super::history::PacketResult;
use super::remb::Remb;
use super::throughput::Throughput;
use crate::Ssrc;

/// Streams that are looked at.
const MAX_STREAMS: usize = 32;

/// How often the rate grows, and how often it is told; a fall is told at once.
const UPDATE: Duration = Duration::from_millis(100);
const INTERVAL: Duration = Duration::from_secs(1);
const FALL: f64 = 0.97;

/// A timestamp that is further ahead is that of another clock.
const LONGEST_PAUSE_US: i64 = 10_000_000;

/// The time there and back is not known to one who only receives.
const ROUND_TRIP: Duration = Duration::from_millis(200);

/// More than so much above what gets through is nothing to begin with.
const FIRST: f64 = 1.5;

/// What is told at least, in bits per second.
const MIN_BPS: f64 = 30_000.0;

/// Estimates what a peer may send, by the times of capture in RTP timestamps and when its packets
/// came (draft-ietf-rmcat-gcc-02 §3, "receive-side controller"): less exact than what a sender
/// finds out by itself, and for peers that know nothing better.
#[derive(Debug)]
pub struct ReceiveEstimator {
    epoch: Instant,
    streams: Vec<Stream>,
    throughput: Throughput,
    rate: RateControl,
    is_begun: bool,
    updated: Instant,
    told: Option<(Instant, f64)>,
}

#[derive(Debug)]
struct Stream {
    ssrc: Ssrc,
    detector: DelayDetector,
    /// The newest timestamp, and the moment that it stands for, in microseconds since the epoch.
    newest: (u32, i64),
}

impl ReceiveEstimator {
    /// Makes one that has seen nothing.
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            streams: Vec::new(),
            throughput: Throughput::default(),
            rate: RateControl::new(MIN_BPS),
            is_begun: false,
            updated: now,
            told: None,
        }
    }

    /// Takes a packet of `len` bytes: of which stream, with which timestamp on a clock of this many
    /// Hz. What is sent again has none that says when it was sent, and only counts.
    pub fn on_packet(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        timestamp: Option<(u32, u32)>,
        len: usize,
    ) {
        let arrived_us = now.saturating_duration_since(self.epoch).as_micros() as i64;
        self.throughput.on_packet(arrived_us, len, false);
        if let Some((timestamp, clock_rate)) = timestamp.filter(|(_, clock_rate)| *clock_rate > 0) {
            self.on_time(now, ssrc, (timestamp, clock_rate), (arrived_us, len));
        }
        let through = self.throughput.bps();
        if !self.is_begun
            && let Some(bps) = through
        {
            self.is_begun = true;
            self.rate.set(now, FIRST * bps);
        }
        let usage = self.usage();
        let is_due = match usage {
            Usage::Over => self.rate.may_decrease(now, ROUND_TRIP, through),
            Usage::Normal | Usage::Under => now >= self.updated + UPDATE,
        };
        if self.is_begun && is_due {
            self.updated = now;
            self.rate.update(now, usage, through, ROUND_TRIP, false);
        }
    }

    fn on_time(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        (timestamp, clock_rate): (u32, u32),
        (arrived_us, len): (i64, usize),
    ) {
        let at = match self.streams.iter().position(|stream| stream.ssrc == ssrc) {
            Some(at) => at,
            None if self.streams.len() < MAX_STREAMS => {
                let newest = (timestamp, arrived_us);
                self.streams.push(Stream { ssrc, detector: DelayDetector::default(), newest });
                self.streams.len() - 1
            }
            None => return,
        };
        let stream = &mut self.streams[at];
        let (before, sent_us) = stream.newest;
        let passed = timestamp.wrapping_sub(before) as i32;
        // What comes late says nothing about a queue.
        let Ok(passed) = u32::try_from(passed) else { return };
        let passed_us = i64::from(passed) * 1_000_000 / i64::from(clock_rate);
        if passed_us > LONGEST_PAUSE_US {
            // The clock has jumped: another source.
            let newest = (timestamp, arrived_us);
            *stream = Stream { ssrc, detector: DelayDetector::default(), newest };
            return;
        }
        let sent_us = sent_us + passed_us;
        stream.newest = (timestamp, sent_us);
        let packet = PacketResult {
            number: 0,
            packets: 1,
            sent_us,
            len,
            arrived_us: Some(arrived_us),
            was_lost: false,
            cluster: 0,
        };
        stream.detector.on_packet(now, &packet);
    }

    fn usage(&self) -> Usage {
        let mut all = self.streams.iter().map(|stream| stream.detector.usage());
        let is_under = all.clone().any(|usage| usage == Usage::Under);
        match all.find(|usage| *usage == Usage::Over) {
            Some(over) => over,
            None if is_under => Usage::Under,
            None => Usage::Normal,
        }
    }

    /// What the peer may send, in bits per second; `None` before that is known.
    pub fn bits_per_second(&self) -> Option<u64> {
        self.is_begun.then(|| self.rate.rate_bps().max(MIN_BPS) as u64)
    }

    /// When the next is to be told; `None` before anything is known.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let rate = self.bits_per_second()? as f64;
        let at = match self.told {
            None => self.updated,
            Some((_, told)) if rate < FALL * told => self.updated,
            Some((at, _)) => at + INTERVAL,
        };
        Some((at, "what the peer may send is to be told"))
    }

    /// Appends what the peer may send, all of these streams together, if it is due; whether it was.
    pub fn write_due(&mut self, now: Instant, sender: Ssrc, out: &mut Vec<u8>) -> bool {
        let (Some((due, _)), Some(rate)) = (self.poll_timeout(), self.bits_per_second()) else {
            return false;
        };
        if now < due {
            return false;
        }
        self.told = Some((now, rate as f64));
        let ssrcs: Vec<_> = self.streams.iter().map(|stream| stream.ssrc).collect();
        Remb::write(sender, rate, &ssrcs, out);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtcpView;

    /// Pictures, 30 a second, over a link of this rate with a queue, for so many seconds, sent at
    /// what is told and at `wants` at most; what is told at the end.
    fn run(link_bps: f64, wants: f64, seconds: u64) -> u64 {
        let start = Instant::now();
        let mut estimator = ReceiveEstimator::new(start);
        let (mut free_at, mut told, mut lost) = (0.0f64, wants, 0);
        for n in 0..seconds * 30 {
            let at = n as f64 / 30.0;
            let mut left = (told.min(wants) / 30.0 / 8.0) as usize;
            while left > 0 {
                let len = left.min(1_200);
                left -= len;
                let begins = free_at.max(at);
                // Half a second of queue.
                if begins - at > 0.5 {
                    lost += 1;
                    continue;
                }
                free_at = begins + len as f64 * 8.0 / link_bps;
                let now = start + Duration::from_secs_f64(free_at + 0.02);
                let timestamp = (n as u32).wrapping_mul(3_000).wrapping_sub(9_000);
                estimator.on_packet(now, Ssrc(7), Some((timestamp, 90_000)), len);
                let mut bytes = Vec::new();
                if estimator.write_due(now, Ssrc(1), &mut bytes) {
                    let packet = RtcpView::new(&bytes).next().unwrap().unwrap();
                    let remb = Remb::parse(&packet).unwrap();
                    assert_eq!(remb.ssrcs().collect::<Vec<_>>(), [Ssrc(7)]);
                    told = remb.bits_per_second as f64;
                }
            }
        }
        assert!(lost < 100, "{lost} lost");
        told as u64
    }

    #[test]
    fn a_link_that_is_too_thin_is_found() {
        let told = run(1e6, 3e6, 30);
        assert!((600_000..1_200_000).contains(&told), "{told} of 1 Mbit/s");
    }

    #[test]
    fn a_link_that_is_wide_enough_holds_nothing_back() {
        let told = run(1e7, 2e6, 30);
        assert!((2_000_000..4_000_000).contains(&told), "{told}");
    }

    #[test]
    fn it_is_told_every_second_and_a_fall_at_once_and_any_timestamps_are_taken() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut estimator = ReceiveEstimator::new(start);
        assert_eq!((estimator.poll_timeout(), estimator.bits_per_second()), (None, None));
        for n in 0..100 {
            estimator.on_packet(at(10 * n), Ssrc(7), None, 1_000);
        }
        let mut bytes = Vec::new();
        assert!(estimator.write_due(at(1_000), Ssrc(1), &mut bytes));
        assert!(!estimator.write_due(at(1_999), Ssrc(1), &mut bytes));
        assert!(estimator.write_due(at(2_000), Ssrc(1), &mut bytes));
        estimator.rate.set(at(2_000), 100_000.0);
        assert!(estimator.write_due(at(2_001), Ssrc(1), &mut bytes));
        let mut random = fastrand::Rng::with_seed(4);
        for n in 0..20_000 {
            let timestamp = Some((random.u32(..), random.u32(..) >> random.u32(0..32)));
            let ssrc = Ssrc(random.u32(0..50));
            estimator.on_packet(at(2_100 + n), ssrc, timestamp, random.usize(0..1_500));
        }
        assert_eq!(estimator.streams.len(), MAX_STREAMS);
    }
}
