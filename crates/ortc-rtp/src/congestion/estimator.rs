//! How much may be sent, of all that is known.

use std::time::{Duration, Instant};

use super::aimd::RateControl;
use super::alr::LimitDetector;
use super::arrivals::MAX_INTERVAL;
use super::delay::{DelayDetector, Usage};
use super::history::PacketResult;
use super::loss::LossBound;
use super::probe::{ProbeCluster, ProbeController, ProbeEstimator};
use super::throughput::Throughput;

/// Without feedback for so long, and some round trips, less is sent, and again after as long.
const SILENCE: Duration = Duration::from_secs(1);
const SILENCE_FACTOR: f64 = 0.7;

/// A queue that an overuse has left is emptied by sending less than gets through: the more the
/// longer it is, down to a half, and not for longer than so: another flow may keep it full.
const QUEUE: f64 = 0.05;
const LONG_QUEUE: f64 = 0.4;
const LEAST_SHARE: f64 = 0.5;
const SENT: f64 = 1.2;
const DRAIN: Duration = Duration::from_secs(4);

/// A queue of this length that grows is one too many, however slowly it does, so that all flows
/// that share it notice it at once. If it is not shorter between one time and the next, somebody
/// else keeps it: then only longer ones count.
const LONG: f64 = 0.08;
const LONGEST: f64 = 0.6;
const LONGER: f64 = 1.5;
const SHORTER: f64 = 0.98;

/// What is on its way at most, as time at the estimate besides the least round trip and the
/// distance of feedback, and as some packets: what is over
/// that waits somewhere, and is noticed so before any feedback has come through the queue. The
/// share that is sent then falls with the square, down to so little.
const IN_FLIGHT: Duration = Duration::from_millis(150);
const IN_FLIGHT_BITS: f64 = 8.0 * 3_000.0;
const LEAST_IN_FLIGHT_SHARE: f64 = 0.1;

/// A packet that was sent so long before the one before it had come has waited behind that, and
/// what comes so, one after the other, comes as fast as the link takes it; it says so if there is
/// enough of it.
const WAITED_US: i64 = 1_000;
const WAITED_SECONDS: f64 = 0.004;

/// How long what gets through says little about what could, after the application has sent little.
const LIMITED_LATELY: Duration = Duration::from_secs(2);

/// The least delay is that of the last ten to twenty seconds: clocks drift and paths change.
const BASE: Duration = Duration::from_secs(10);

/// A change is told when it is by so much, and not more often; a fall is told at once.
const TOLD_CHANGE: f64 = 0.05;
const TOLD_FALL: f64 = 0.15;
const TOLD_INTERVAL: Duration = Duration::from_millis(500);

/// More is sent in a moment than the rate says, so that pictures do not wait.
const PACING: f64 = 2.5;
const PACING_WHILE_DRAINING: f64 = 1.1;

/// What a send-side estimate begins with and stays within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BandwidthLimits {
    /// What is taken to be there before anything is known, in bits per second.
    pub start: u64,
    /// What is sent at least, in bits per second, whatever the network says.
    pub min: u64,
    /// What is sent at most, in bits per second; nothing above it is probed for.
    pub max: u64,
}

impl Default for BandwidthLimits {
    /// 300 kbit/s to begin with, 30 kbit/s at least and 10 Mbit/s at most.
    fn default() -> Self {
        Self { start: 300_000, min: 30_000, max: 10_000_000 }
    }
}

impl BandwidthLimits {
    /// The same, in an order that makes sense.
    fn sound(self) -> Self {
        let min = self.min.max(5_000);
        let max = self.max.max(min);
        Self { start: self.start.clamp(min, max), min, max }
    }
}

/// Estimates how much may be sent on a connection, from what feedback says about what was sent.
///
/// The bound by delays and that by losses (draft-ietf-rmcat-gcc-02) are both kept; the lower one
/// counts, and a cap that the peer names (REMB). Probes find out what neither can know. It
/// has no timer: whatever passes is noticed when something is sent or acknowledged.
#[derive(Debug)]
pub struct BandwidthEstimator {
    limits: BandwidthLimits,
    detector: DelayDetector,
    rate: RateControl,
    loss: LossBound,
    throughput: Throughput,
    limit: LimitDetector,
    was_limited: bool,
    limited_at: Option<Instant>,
    /// Bits of packets that have waited, lately, and how long they took to come.
    waited: (f64, f64),
    controller: ProbeController,
    probes: ProbeEstimator,
    pending: [Option<ProbeCluster>; 2],
    remb_bps: f64,
    cap_bps: f64,
    round_trip: Duration,
    /// That of the history, too.
    epoch: Instant,
    /// The least delay of the last seconds and of those before, and the least round trip.
    base: [Option<(i64, Duration)>; 2],
    base_at: Instant,
    in_flight: u64,
    queue: Duration,
    long: f64,
    was_short: bool,
    draining_since: Option<Instant>,
    feedback_at: Option<Instant>,
    /// How far feedback is apart.
    interval: Duration,
    silent_at: Option<Instant>,
    overused_at: Option<Instant>,
    told: Option<(Instant, f64)>,
    known: Known,
}

/// What is concluded from feedback, and looked at with each packet that is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    estimate_bps: f64,
    /// What may be on its way, in bits, before less is sent.
    room_bits: f64,
    /// The share of the estimate that is sent, if no more is.
    share: f64,
}

impl BandwidthEstimator {
    /// Makes one that knows nothing, at the moment that the history of what is sent is made.
    pub fn new(now: Instant, limits: BandwidthLimits) -> Self {
        let limits = limits.sound();
        let known =
            Known { estimate_bps: limits.start as f64, room_bits: f64::INFINITY, share: 1.0 };
        Self {
            limits,
            detector: DelayDetector::default(),
            rate: RateControl::new(limits.start as f64),
            loss: LossBound::default(),
            throughput: Throughput::default(),
            limit: LimitDetector::new(now),
            was_limited: false,
            limited_at: None,
            waited: (0.0, 0.0),
            controller: ProbeController::new(),
            probes: ProbeEstimator::default(),
            pending: [None; 2],
            remb_bps: f64::MAX,
            cap_bps: f64::MAX,
            round_trip: Duration::from_millis(200),
            epoch: now,
            base: [None; 2],
            base_at: now,
            in_flight: 0,
            queue: Duration::ZERO,
            long: LONG,
            was_short: true,
            draining_since: None,
            feedback_at: None,
            interval: MAX_INTERVAL,
            silent_at: None,
            overused_at: None,
            told: None,
            known,
        }
    }

    /// Sets other limits; before the peer has said anything, also what it begins with.
    pub fn set_limits(&mut self, limits: BandwidthLimits) {
        self.limits = limits.sound();
        if !self.is_informed() {
            self.rate = RateControl::new(self.limits.start as f64);
        }
        self.renew();
    }

    /// Caps what is probed for and told, in bits per second: the application wants no more.
    pub fn set_cap(&mut self, bits_per_second: Option<u64>) {
        self.cap_bps = bits_per_second.map_or(f64::MAX, |bits| bits as f64);
        self.renew();
    }

    /// Whether the peer has ever said anything: before that, nothing is known but what it began
    /// with, and nothing should be held back for it.
    pub fn is_informed(&self) -> bool {
        self.feedback_at.is_some() || self.remb_bps < f64::MAX
    }

    /// What may be sent, in bits per second, all streams and their headers together.
    pub fn target(&self) -> u64 {
        self.target_bps() as u64
    }

    /// The same without regard to a queue that is being emptied at the moment: what a choice for
    /// longer goes by.
    pub fn estimate(&self) -> u64 {
        self.estimate_bps() as u64
    }

    /// Whether it ends with what the application wants at the most, by its
    /// [limits](BandwidthLimits::max) or a [cap](Self::set_cap), and not with what gets through.
    pub fn is_capped(&self) -> bool {
        self.estimate_bps() >= self.max_bps()
    }

    /// What is sent in a moment at most, in bits per second, if there is as much.
    pub fn pacing_rate(&self) -> u64 {
        let factor = if self.share() < 1.0 { PACING_WHILE_DRAINING } else { PACING };
        (factor * self.target_bps()) as u64
    }

    /// The smoothed round trip, with the time that the peer holds its feedback back.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// How long the queue on the way is taken to be, above the least of the last seconds.
    pub fn queue(&self) -> Duration {
        self.queue
    }

    /// The target while no queue is being emptied.
    fn estimate_bps(&self) -> f64 {
        let bound = self.loss.bps().unwrap_or(f64::MAX).min(self.remb_bps);
        let (min, max) = (self.limits.min as f64, self.max_bps());
        // A peer that says nothing else knows best.
        let is_all = self.feedback_at.is_none() && self.remb_bps < f64::MAX;
        let own = if is_all { f64::MAX } else { self.rate.rate_bps() };
        own.min(bound).clamp(min, max)
    }

    fn max_bps(&self) -> f64 {
        (self.limits.max as f64).min(self.cap_bps).max(self.limits.min as f64)
    }

    fn target_bps(&self) -> f64 {
        (self.known.estimate_bps * self.share()).max(self.limits.min as f64)
    }

    /// The share of the estimate that is sent while a queue is being emptied.
    fn share(&self) -> f64 {
        let Known { room_bits, share, .. } = self.known;
        debug_assert_eq!(self.known, self.conclude());
        let bits = 8.0 * self.in_flight as f64;
        if bits <= room_bits {
            return share;
        }
        let full = bits / room_bits;
        share.min((full * full).recip().max(LEAST_IN_FLIGHT_SHARE))
    }

    fn conclude(&self) -> Known {
        let estimate_bps = self.estimate_bps();
        let mut share = 1.0f64;
        if self.draining_since.is_some() {
            let long = (self.queue.as_secs_f64() - QUEUE) / LONG_QUEUE;
            share = (1.0 - long.max(0.0)).max(LEAST_SHARE);
        }
        let room_bits = self.least().map_or(f64::INFINITY, |(_, round_trip)| {
            let span = round_trip + self.interval + IN_FLIGHT;
            estimate_bps * span.as_secs_f64() + IN_FLIGHT_BITS
        });
        Known { estimate_bps, room_bits, share }
    }

    /// Something has changed that conclusions are drawn from.
    fn renew(&mut self) {
        self.known = self.conclude();
    }

    /// The least delay and round trip of the last ten to twenty seconds.
    fn least(&self) -> Option<(i64, Duration)> {
        let [before, now] = self.base;
        match (before, now) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.min(b.1))),
            (one, other) => one.or(other),
        }
    }

    /// Takes a packet that is sent, and how many bytes are on their way with it.
    pub fn on_sent(&mut self, now: Instant, len: usize, in_flight: u64) {
        self.in_flight = in_flight;
        self.limit.on_sent(now, len, self.target_bps());
        let Some(feedback_at) = self.feedback_at else { return };
        let patience = SILENCE.max(3 * self.round_trip);
        let since = self.silent_at.unwrap_or(feedback_at).max(feedback_at);
        // What is sent after a pause has not been answered because it could not be.
        if now < since + patience {
            return;
        }
        if self.silent_at.is_some_and(|at| at >= feedback_at) {
            let before = self.rate.rate_bps();
            let after = (SILENCE_FACTOR * before).max(self.limits.min as f64);
            self.rate.set(now, after);
            self.controller.on_decrease(now, before, after);
            self.renew();
        }
        self.silent_at = Some(now);
    }

    /// Takes a cap that the peer names for the sum of all streams (REMB), in bits per second.
    pub fn on_remb(&mut self, bits_per_second: u64) {
        self.remb_bps = bits_per_second as f64;
        self.renew();
    }

    /// Takes what one message of feedback says, in the order of sending, and how many bytes are
    /// still on their way. Packets that fared alike may be told of together.
    pub fn on_feedback(&mut self, now: Instant, results: &[PacketResult], in_flight: u64) {
        self.in_flight = in_flight;
        if results.is_empty() {
            return;
        }
        let since = self.feedback_at.map_or(MAX_INTERVAL, |at| now.saturating_duration_since(at));
        self.interval = (7 * self.interval + since.min(MAX_INTERVAL)) / 8;
        self.feedback_at = Some(now);
        self.on_times(now, results);
        let in_alr = self.limit.since().is_some();
        if self.was_limited && !in_alr {
            self.throughput.expect_change();
        }
        self.was_limited = in_alr;
        if in_alr {
            self.limited_at = Some(now);
        }
        // What has waited in the feedback before counts for less.
        let (bits, seconds) = self.waited;
        self.waited = (bits / 2.0, seconds / 2.0);
        let least = self.least().map_or(i64::MAX, |(least, _)| least);
        let mut before = None;
        let mut probed = None;
        for packet in results {
            self.loss.on_packet(packet);
            self.on_waited(packet, &mut before, least);
            // One that was taken for lost has come again, or late: its time says nothing.
            if let Some(arrived_us) = packet.arrived_us
                && !packet.was_lost
            {
                self.detector.on_packet(now, packet);
                self.throughput.on_packet(arrived_us, packet.len, in_alr);
                if packet.cluster > 0 {
                    probed = self.probes.on_packet(packet).or(probed);
                }
            }
        }
        self.control(now, probed, in_alr);
        self.loss.update(self.rate.rate_bps(), self.throughput.bps());
        if self
            .draining_since
            .is_some_and(|since| now >= since + DRAIN || self.queue.as_secs_f64() < QUEUE)
        {
            self.draining_since = None;
        }
        self.probe(now, in_alr);
        self.renew();
    }

    /// Has the processor fetch what feedback looks at besides this.
    pub(crate) fn prefetch(&self) {
        self.detector.prefetch();
    }

    /// Microseconds on the clock that moments of sending are told on.
    fn us(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.epoch).as_micros() as i64
    }

    /// Round trip and queue, by the newest packets that came.
    fn on_times(&mut self, now: Instant, results: &[PacketResult]) {
        let came = results.iter().filter(|it| !it.was_lost);
        let came = came.filter_map(|it| Some((it.sent_us, it.arrived_us? - it.sent_us)));
        let last = came.reduce(|(_, least), (sent_us, delay)| (sent_us, least.min(delay)));
        let Some((newest, delay)) = last else { return };
        let age = self.us(now) - newest;
        let sample = Duration::from_micros(u64::try_from(age).unwrap_or(0));
        self.round_trip = (7 * self.round_trip + sample) / 8;
        if now >= self.base_at + BASE {
            self.base = [self.base[1], None];
            self.base_at = now;
        }
        let least = self.base[1].map_or((delay, sample), |(least, round_trip)| {
            (least.min(delay), round_trip.min(sample))
        });
        self.base[1] = Some(least);
        let least = self.least().map_or(delay, |(least, _)| least);
        self.queue = Duration::from_micros((delay - least).unsigned_abs());
        if self.queue.as_secs_f64() < self.long / 3.0 {
            self.was_short = true;
            self.long = (self.long * SHORTER).max(LONG);
        }
    }

    /// What comes out of a queue comes as fast as the link takes it; `before` is when the packets
    /// before have come, and whether they had waited, and `least` the least delay. Those that come at
    /// the same moment have waited if the first has: it is the link that comes between two moments.
    fn on_waited(&mut self, packet: &PacketResult, before: &mut Option<(i64, bool)>, least: i64) {
        if packet.was_lost {
            return;
        }
        let Some(arrived_us) = packet.arrived_us else { return };
        let (came, had_waited) = before.unwrap_or((arrived_us, false));
        let has_waited = if came == arrived_us {
            had_waited
        } else {
            came < arrived_us && (came - packet.sent_us).saturating_sub(least) >= WAITED_US
        };
        *before = Some((arrived_us, has_waited));
        if has_waited {
            let (bits, seconds) = &mut self.waited;
            *bits += 8.0 * packet.len as f64;
            *seconds += (arrived_us - came) as f64 / 1e6;
        }
    }

    /// What gets through, in bits per second. Where the application has sent little until now, that
    /// is what the link has taken of a burst: it did not fail to take more.
    fn through(&self, now: Instant) -> Option<f64> {
        let through = self.throughput.bps();
        let (bits, seconds) = self.waited;
        let is_limited = self.limited_at.is_some_and(|at| now < at + LIMITED_LATELY);
        if !is_limited || seconds < WAITED_SECONDS {
            return through;
        }
        let taken = (bits / seconds).min(self.rate.rate_bps());
        through.map(|bps| bps.max(taken))
    }

    /// What the queue does, and whether it has become too long.
    fn usage(&self) -> Usage {
        match self.detector.usage() {
            Usage::Normal if self.queue.as_secs_f64() >= self.long => Usage::Over,
            usage => usage,
        }
    }

    fn control(&mut self, now: Instant, probed: Option<f64>, in_alr: bool) {
        let usage = self.usage();
        let through = match usage {
            Usage::Over => self.through(now),
            Usage::Normal | Usage::Under => self.throughput.bps(),
        };
        if usage == Usage::Over {
            self.overused_at = Some(now);
            // While a queue is emptied and all that is sent for that gets through, and no more,
            // nothing new is known about the link.
            self.renew();
            let (sent, is_emptied) = (self.target_bps(), self.share() < 1.0);
            let is_known = is_emptied && through.is_some_and(|bps| bps < SENT * sent);
            if !is_known && self.rate.may_decrease(now, self.round_trip, through) {
                let before = self.estimate_bps();
                self.rate.update(now, usage, through, self.round_trip, in_alr);
                if !std::mem::take(&mut self.was_short) {
                    self.long = (self.long * LONGER).min(LONGEST);
                }
                self.draining_since.get_or_insert(now);
                self.controller.on_decrease(now, before, self.estimate_bps());
            }
            return;
        }
        match probed {
            Some(bps) => {
                let max = self.max_bps();
                // In the middle of a stream a probe only ever adds.
                if bps > self.rate.rate_bps() || !self.has_rate() {
                    let before = self.rate.rate_bps();
                    self.rate.set(now, bps.min(max));
                    self.throughput.on_probe(bps);
                    self.controller.on_raise(now, before, bps);
                    self.loss.on_probe(bps);
                }
                let further = self.controller.on_outcome(now, bps, max);
                self.push_probe(further);
            }
            None => self.rate.update(now, usage, through, self.round_trip, in_alr),
        }
        let (min, max) = (self.limits.min as f64, self.max_bps());
        let rate = self.rate.rate_bps();
        if !(min..=max).contains(&rate) {
            self.rate.set(now, rate.clamp(min, max));
        }
    }

    /// Whether more is known than what it began with.
    fn has_rate(&self) -> bool {
        self.overused_at.is_some()
    }

    fn probe(&mut self, now: Instant, in_alr: bool) {
        if self.pending.iter().any(Option::is_some) {
            return;
        }
        let is_recent = |at: Instant| now < at + Duration::from_secs(2);
        let is_congested = self.draining_since.is_some() || self.overused_at.is_some_and(is_recent);
        let (rate, max) = (self.estimate_bps(), self.max_bps().min(self.remb_bps));
        for cluster in self.controller.poll(now, rate, max, in_alr, is_congested) {
            self.push_probe(cluster);
        }
    }

    fn push_probe(&mut self, cluster: Option<ProbeCluster>) {
        let Some(cluster) = cluster else { return };
        if let Some(free) = self.pending.iter_mut().find(|it| it.is_none()) {
            self.probes.expect(cluster);
            *free = Some(cluster);
        }
    }

    /// The next burst to be sent.
    pub fn poll_probe(&mut self) -> Option<ProbeCluster> {
        let next = self.pending[0].take().or_else(|| self.pending[1].take())?;
        self.pending.rotate_left(1);
        Some(next)
    }

    /// What may be sent, in bits per second, when that has changed by as much as is worth telling:
    /// by 5 %, at most every half second, or by a fall of 15 %.
    pub fn poll_change(&mut self, now: Instant) -> Option<u64> {
        if !self.is_informed() {
            return None;
        }
        let target = self.target_bps();
        let is_due = self.told.is_none_or(|(at, told)| {
            let change = (target - told) / told;
            change < -TOLD_FALL || (change.abs() >= TOLD_CHANGE && now >= at + TOLD_INTERVAL)
        });
        is_due.then(|| {
            self.told = Some((now, target));
            target as u64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages about packets that are sent in moments of some, lost, late and held up in turn.
    fn messages(seed: u64) -> Vec<Vec<PacketResult>> {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut number, mut sent_us, mut came_us) = (0, 0, 0);
        let mut messages = Vec::new();
        let mut late = Vec::new();
        for _ in 0..100 {
            let mut message = std::mem::take(&mut late);
            for _ in 0..random.usize(1..6) {
                sent_us += random.i64(0..12_000);
                for _ in 0..random.usize(1..9) {
                    // With the one before it or up to 500 µs later, and not before it can.
                    came_us = i64::max(came_us + 250 * random.i64(0..3), sent_us + 20_000);
                    let is_lost = random.u8(0..20) == 0;
                    let packet = PacketResult {
                        number,
                        packets: 1,
                        sent_us,
                        len: random.usize(100..1_200),
                        arrived_us: (!is_lost).then_some(came_us),
                        was_lost: false,
                        cluster: 0,
                    };
                    message.push(packet);
                    if is_lost && random.bool() {
                        late.push(PacketResult {
                            arrived_us: Some(came_us + 50_000),
                            was_lost: true,
                            ..packet
                        });
                    }
                    number += 1;
                }
            }
            messages.push(message);
        }
        messages
    }

    #[test]
    fn of_packets_that_fared_alike_the_same_is_made_one_by_one_and_together() {
        let start = Instant::now();
        for seed in 0..20 {
            let estimator = || BandwidthEstimator::new(start, BandwidthLimits::default());
            let (mut single, mut joint) = (estimator(), estimator());
            let (mut joins, mut waited) = (0, false);
            for (n, message) in (1..).zip(messages(seed)) {
                let now = start + Duration::from_millis(50 * n);
                let mut joined = message.clone();
                joined.dedup_by(|next, last| last.join(next));
                joins += message.len() - joined.len();
                single.on_feedback(now, &message, 0);
                joint.on_feedback(now, &joined, 0);
                let (one, other) = (single.waited.0, joint.waited.0);
                assert!((one - other).abs() <= 1e-9 * one, "{one} and {other}");
                waited |= joint.waited.0 > 0.0;
                assert_eq!(single.waited.1, joint.waited.1);
                assert_eq!(format!("{:?}", single.loss), format!("{:?}", joint.loss));
                assert_eq!(format!("{:?}", single.detector), format!("{:?}", joint.detector));
                assert_eq!(format!("{:?}", single.throughput), format!("{:?}", joint.throughput));
                assert_eq!(single.target(), joint.target());
            }
            assert!(joins > 100 && waited, "{joins} of seed {seed} are joined");
        }
    }

    #[test]
    fn what_has_waited_comes_as_fast_as_the_link_takes_it() {
        let start = Instant::now();
        let packet = |number: u64, sent_us, arrived_us| PacketResult {
            number,
            packets: 1,
            sent_us,
            len: 1_250,
            arrived_us: Some(arrived_us),
            was_lost: false,
            cluster: 0,
        };
        // Two come at a time, 2 ms apart: 10 Mbit/s. The first two have not been seen to wait.
        let queued = (0..8).map(|n| packet(n, 0, 20_000 + 2_000 * (n / 2) as i64));
        let mut estimator = BandwidthEstimator::new(start, BandwidthLimits::default());
        // A least delay is to be known.
        estimator.on_feedback(start, &[packet(100, -50_000, -45_000)], 0);
        estimator.on_feedback(start, &queued.collect::<Vec<_>>(), 0);
        assert_eq!(estimator.waited, (6.0 * 10_000.0, 0.006));
        // What comes at one moment without having waited says nothing.
        let mut estimator = BandwidthEstimator::new(start, BandwidthLimits::default());
        let spaced =
            (0..8).map(|n| packet(n, 50_000 * (n / 2) as i64, 50_000 * (n / 2) as i64 + 9));
        estimator.on_feedback(start, &spaced.collect::<Vec<_>>(), 0);
        assert_eq!(estimator.waited, (0.0, 0.0));
    }
}
