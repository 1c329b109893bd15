//! Short bursts at a higher rate, to see whether they get through: at the beginning, where the
//! application sends little, and after a fall.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::history::PacketResult;

/// A burst takes so long, and has at least so many packets (as libwebrtc has it).
const SPAN: Duration = Duration::from_millis(15);
const MIN_PACKETS: usize = 5;

/// What is tried first, as multiples of the rate that it begins with; and what is tried after a
/// probe that got through.
const FIRST: [f64; 2] = [3.0, 6.0];
const FURTHER: f64 = 2.0;

/// A probe that has brought this share of its rate may not have met the limit yet.
const GOT_THROUGH: f64 = 0.7;

/// For so long the outcome of a probe is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is probed while the application sends little, and after a fall.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
const RECOVERY_INTERVAL: Duration = Duration::from_secs(3);

/// A fall to less than this share of the rate is one to recover from: by a probe every three
/// seconds for a minute, then less often, until it is forgotten.
const FALL: f64 = 0.66;
const RECOVERY: Duration = Duration::from_secs(60);
const LATE_RECOVERY_INTERVAL: Duration = Duration::from_secs(10);
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A rate that a probe has raised by this factor, and that has not held for so long, was there for
/// the moment of the burst only: another flow has it. It is left to growth for a while.
const RAISED: f64 = 1.3;
const HELD: Duration = Duration::from_secs(5);
const DISTRUST: Duration = Duration::from_secs(20);

/// Clusters whose packets are told apart.
const MAX_CLUSTERS: usize = 4;

/// This share of a burst says enough.
const ENOUGH: f64 = 0.8;

/// A burst cannot come faster than so, or times are wrong.
const MAX_RATIO: f64 = 2.0;

/// A burst that came slower than this share of its rate has met the limit, and then a little less
/// than that is the rate, so that its queue empties.
const LIMITED: f64 = 0.9;
const UTILIZATION: f64 = 0.95;

/// A burst to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeCluster {
    /// What its packets are noted with; never 0.
    pub id: u16,
    /// Bits per second to send it with.
    pub bits_per_second: u64,
    /// Bytes that it has at least.
    pub min_bytes: usize,
    /// Packets that it has at least.
    pub min_packets: usize,
}

/// Decides when to probe.
#[derive(Debug)]
pub(super) struct ProbeController {
    next_id: u16,
    phase: Phase,
    probed_at: Option<Instant>,
    /// The highest rate of late, and, when it has fallen far below that, since when.
    peak_bps: f64,
    fallen: Option<Instant>,
    raised_at: Option<Instant>,
    distrusted_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing is known about the peer.
    Unanswered,
    /// One was sent at this rate.
    Waiting {
        since: Instant,
        bps: f64,
    },
    Done,
}

impl ProbeController {
    pub(super) fn new() -> Self {
        Self {
            next_id: 1,
            phase: Phase::Unanswered,
            probed_at: None,
            peak_bps: 0.0,
            fallen: None,
            raised_at: None,
            distrusted_until: None,
        }
    }

    /// What to probe now, given the rate and what the application is given at most.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        rate_bps: f64,
        max_bps: f64,
        in_alr: bool,
        is_congested: bool,
    ) -> [Option<ProbeCluster>; 2] {
        if let Phase::Waiting { since, .. } = self.phase
            && now >= since + PATIENCE
        {
            self.phase = Phase::Done;
        }
        match self.phase {
            Phase::Unanswered => {
                let [low, high] = FIRST.map(|factor| (factor * rate_bps).min(max_bps));
                let first = self.probe(now, low, rate_bps);
                let second = (high > low).then(|| self.probe(now, high, rate_bps)).flatten();
                if first.is_none() {
                    self.phase = Phase::Done;
                }
                return [first, second];
            }
            Phase::Waiting { .. } => return [None; 2],
            Phase::Done => {}
        }
        if is_congested {
            return [None; 2];
        }
        if self.distrusted_until.is_some_and(|until| now < until) {
            return [None; 2];
        }
        if self.fallen.is_some_and(|at| now >= at + FORGOTTEN) || rate_bps >= 0.9 * self.peak_bps {
            self.fallen = None;
            self.peak_bps = rate_bps;
        }
        let since = |interval| self.probed_at.is_none_or(|at| now >= at + interval);
        let recovery = self
            .fallen
            .map(|at| if now < at + RECOVERY { RECOVERY_INTERVAL } else { LATE_RECOVERY_INTERVAL });
        let wanted = if recovery.is_some_and(since) {
            // No further than to what it was: that it took once.
            (FURTHER * rate_bps).min(self.peak_bps)
        } else if in_alr && since(IDLE_INTERVAL) {
            FURTHER * rate_bps
        } else {
            return [None; 2];
        };
        [self.probe(now, wanted.min(max_bps), rate_bps), None]
    }

    /// Takes the outcome of a probe; what to probe next.
    pub(super) fn on_outcome(
        &mut self,
        now: Instant,
        found_bps: f64,
        max_bps: f64,
    ) -> Option<ProbeCluster> {
        let Phase::Waiting { bps, .. } = self.phase else { return None };
        if found_bps < GOT_THROUGH * bps {
            return None;
        }
        let further = (FURTHER * found_bps).min(max_bps);
        self.phase = Phase::Done;
        if further <= 1.1 * bps { None } else { self.probe(now, further, found_bps) }
    }

    /// Notes that a probe has raised the rate.
    pub(super) fn on_raise(&mut self, now: Instant, before_bps: f64, after_bps: f64) {
        if after_bps > RAISED * before_bps {
            self.raised_at = Some(now);
        }
    }

    /// Notes that the rate is lowered.
    pub(super) fn on_decrease(&mut self, now: Instant, before_bps: f64, after_bps: f64) {
        let was_raised = self.raised_at.take().is_some_and(|at| now < at + HELD);
        if was_raised && self.probed_at.is_some() {
            self.distrusted_until = Some(now + DISTRUST);
        } else {
            self.peak_bps = self.peak_bps.max(before_bps);
        }
        if after_bps < FALL * self.peak_bps {
            self.fallen.get_or_insert(now);
        }
        if matches!(self.phase, Phase::Waiting { .. }) {
            self.phase = Phase::Done;
        }
        self.probed_at = Some(now);
    }

    fn probe(&mut self, now: Instant, bps: f64, rate_bps: f64) -> Option<ProbeCluster> {
        if bps < 1.05 * rate_bps {
            return None;
        }
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.probed_at = Some(now);
        self.phase = Phase::Waiting { since: now, bps };
        Some(ProbeCluster {
            id,
            bits_per_second: bps as u64,
            min_bytes: (bps * SPAN.as_secs_f64() / 8.0) as usize,
            min_packets: MIN_PACKETS,
        })
    }
}

/// Finds out how fast bursts came.
#[derive(Debug, Default)]
pub(super) struct ProbeEstimator {
    clusters: VecDeque<Burst>,
}

#[derive(Debug)]
struct Burst {
    cluster: ProbeCluster,
    packets: usize,
    bytes: usize,
    first_sent: i64,
    last_sent: i64,
    /// Of what was sent last, and of what came first: they are outside of the spans that the
    /// others took.
    last_sent_bytes: usize,
    first_arrived_us: i64,
    last_arrived_us: i64,
    first_arrived_bytes: usize,
}

impl ProbeEstimator {
    /// Expects the packets of a cluster.
    pub(super) fn expect(&mut self, cluster: ProbeCluster) {
        if self.clusters.len() == MAX_CLUSTERS {
            self.clusters.pop_front();
        }
        self.clusters.push_back(Burst {
            cluster,
            packets: 0,
            bytes: 0,
            first_sent: 0,
            last_sent: 0,
            last_sent_bytes: 0,
            first_arrived_us: 0,
            last_arrived_us: 0,
            first_arrived_bytes: 0,
        });
    }

    /// Takes a packet; the rate that its burst has found, once there is enough of it.
    pub(super) fn on_packet(&mut self, packet: &PacketResult) -> Option<f64> {
        let arrived_us = packet.arrived_us?;
        let burst = self.clusters.iter_mut().find(|it| it.cluster.id == packet.cluster)?;
        burst.take(packet, arrived_us);
        burst.rate()
    }
}

impl Burst {
    fn take(&mut self, packet: &PacketResult, arrived_us: i64) {
        if self.packets == 0 {
            (self.first_sent, self.last_sent) = (packet.sent_us, packet.sent_us);
            (self.first_arrived_us, self.last_arrived_us) = (arrived_us, arrived_us);
        }
        self.packets += packet.packets as usize;
        self.bytes += packet.len;
        self.first_sent = self.first_sent.min(packet.sent_us);
        if packet.sent_us > self.last_sent {
            (self.last_sent, self.last_sent_bytes) = (packet.sent_us, 0);
        }
        if packet.sent_us == self.last_sent {
            self.last_sent_bytes += packet.len;
        }
        if arrived_us < self.first_arrived_us {
            (self.first_arrived_us, self.first_arrived_bytes) = (arrived_us, 0);
        }
        if arrived_us == self.first_arrived_us {
            self.first_arrived_bytes += packet.len;
        }
        self.last_arrived_us = self.last_arrived_us.max(arrived_us);
    }

    fn rate(&self) -> Option<f64> {
        let enough = |has: usize, wanted: usize| has as f64 >= ENOUGH * wanted as f64;
        if !enough(self.packets, self.cluster.min_packets)
            || !enough(self.bytes, self.cluster.min_bytes)
        {
            return None;
        }
        let sent = (self.last_sent - self.first_sent) as f64 / 1e6;
        let arrived = (self.last_arrived_us - self.first_arrived_us) as f64 / 1e6;
        let bits = |without: usize| 8.0 * self.bytes.saturating_sub(without) as f64;
        if !(1e-3..=1.0).contains(&sent) || !(1e-3..=1.0).contains(&arrived) {
            return None;
        }
        let sent_bps = bits(self.last_sent_bytes) / sent;
        let arrived_bps = bits(self.first_arrived_bytes) / arrived;
        if arrived_bps > MAX_RATIO * sent_bps || arrived_bps <= 0.0 {
            return None;
        }
        if arrived_bps < LIMITED * sent_bps {
            return Some(UTILIZATION * arrived_bps);
        }
        Some(arrived_bps.min(sent_bps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ProbeCluster =
        ProbeCluster { id: 3, bits_per_second: 2_000_000, min_bytes: 3_750, min_packets: 5 };

    /// Five packets of 1,000 bytes, sent and received at these distances.
    fn outcome(sent_us: u64, arrived_us: i64) -> Option<f64> {
        let mut estimator = ProbeEstimator::default();
        estimator.expect(CLUSTER);
        let mut found = None;
        for n in 0..5 {
            let packet = PacketResult {
                number: n,
                packets: 1,
                sent_us: (sent_us * n) as i64,
                len: 1_000,
                arrived_us: Some(9_000_000 + arrived_us * n as i64),
                was_lost: false,
                cluster: 3,
            };
            found = estimator.on_packet(&packet).or(found);
        }
        found
    }

    #[test]
    fn a_burst_has_the_rate_that_it_came_with_or_was_sent_with() {
        assert_eq!(outcome(4_000, 4_000), Some(2e6));
        assert_eq!(outcome(4_000, 8_000), Some(UTILIZATION * 1e6));
        assert_eq!(outcome(4_000, 3_000), Some(2e6));
        assert_eq!(outcome(4_000, 1_000), None, "faster than anything can come");
        assert_eq!(outcome(0, 4_000), None, "sent all at once, it says nothing");
    }

    #[test]
    fn it_begins_with_two_and_goes_on_while_they_get_through() {
        let now = Instant::now();
        let mut controller = ProbeController::new();
        let rates =
            |probes: [Option<ProbeCluster>; 2]| probes.map(|p| p.map(|p| p.bits_per_second));
        let first = controller.poll(now, 3e5, 1e7, false, false);
        assert_eq!(rates(first), [Some(900_000), Some(1_800_000)]);
        assert_eq!(rates(controller.poll(now, 3e5, 1e7, false, false)), [None; 2]);
        let next = controller.on_outcome(now, 1.8e6, 1e7);
        assert_eq!(next.map(|p| (p.id, p.bits_per_second)), Some((3, 3_600_000)));
        assert_eq!(controller.on_outcome(now, 2e6, 1e7), None);
        let later = now + PATIENCE;
        assert_eq!(rates(controller.poll(later, 2e6, 1e7, false, false)), [None; 2]);
    }

    #[test]
    fn a_thin_stream_is_probed_every_five_seconds_and_a_fall_every_three() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut controller = ProbeController::new();
        controller.poll(now, 3e5, 3e5, false, false);
        let count = |controller: &mut ProbeController, from: u64, in_alr| {
            (from..from + 30_000)
                .step_by(100)
                .filter(|ms| controller.poll(at(*ms), 3e5, 1e7, in_alr, false)[0].is_some())
                .count()
        };
        assert_eq!(count(&mut controller, 0, true), 6);
        assert_eq!(count(&mut controller, 30_000, false), 0);
        controller.on_decrease(at(60_000), 3e6, 3e5);
        assert_eq!(count(&mut controller, 60_000, false), 9);
        assert_eq!(count(&mut controller, 120_000, false), 3, "less often after a minute");
        assert_eq!(count(&mut controller, 700_000, false), 0, "and then it is forgotten");
        controller.on_decrease(at(800_000), 3e6, 3e5);
        controller.on_raise(at(801_000), 3e5, 3e6);
        controller.on_decrease(at(803_000), 3e6, 3e5);
        assert_eq!(count(&mut controller, 803_000, false), 4, "not while it has not held");
    }
}
