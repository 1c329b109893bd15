//! When to send: bursts of a few milliseconds, so that runs stay together and queues on the way
//! stay short.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::probe::ProbeCluster;

/// What is sent in one go, at the rate of the moment: as long as the groups that delays are told
/// by, and some packets of one run at usual rates.
const SLICE: Duration = Duration::from_millis(5);

/// Bursts that wait.
const MAX_PROBES: usize = 4;

/// A burst that there is nothing to fill with is given up.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// Decides when the next packet may be sent.
///
/// It holds nothing: what may not be sent yet stays in the ring that it waits in, which has a
/// bound of its own. What cannot wait is sent and counts against what comes after it.
#[derive(Debug)]
pub struct Pacer {
    rate_bps: f64,
    /// What was sent ahead of the rate, in bits.
    debt: f64,
    updated: Instant,
    /// Since a slice was used up: until its debt is paid.
    is_waiting: bool,
    probe: Option<Probe>,
    probes: VecDeque<(Instant, ProbeCluster)>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    cluster: ProbeCluster,
    since: Instant,
    bytes: usize,
    packets: usize,
}

impl Pacer {
    /// Makes one that has sent nothing.
    pub fn new(now: Instant, bits_per_second: u64) -> Self {
        Self {
            rate_bps: bits_per_second as f64,
            debt: 0.0,
            updated: now,
            is_waiting: false,
            probe: None,
            probes: VecDeque::new(),
        }
    }

    /// Sets the rate from now on.
    pub fn set_rate(&mut self, now: Instant, bits_per_second: u64) {
        self.pay(now);
        self.rate_bps = bits_per_second as f64;
    }

    /// Queues a burst; of more than four the oldest is given up.
    pub fn push_probe(&mut self, now: Instant, cluster: ProbeCluster) {
        if self.probes.len() == MAX_PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back((now, cluster));
    }

    fn rate(&self) -> f64 {
        let probing = self.probe.map_or(0.0, |probe| probe.cluster.bits_per_second as f64);
        self.rate_bps.max(probing).max(1_000.0)
    }

    fn pay(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.updated = self.updated.max(now);
        self.debt = (self.debt - passed * self.rate()).max(0.0);
        if self.debt == 0.0 {
            self.is_waiting = false;
        }
        let is_over = |probe: &mut Probe| now >= probe.since + PROBE_PATIENCE;
        self.probe.take_if(is_over);
        if self.probe.is_none() {
            while let Some((at, cluster)) = self.probes.pop_front() {
                if now < at + 2 * PROBE_PATIENCE {
                    // What is still owed at the old rate would only make its beginning later.
                    (self.debt, self.is_waiting) = (0.0, false);
                    self.probe = Some(Probe { cluster, since: now, bytes: 0, packets: 0 });
                    break;
                }
            }
        }
    }

    /// When the next packet may be sent; at `now` or before, it may be sent at once.
    pub fn next_at(&mut self, now: Instant) -> Instant {
        self.pay(now);
        if !self.is_waiting {
            return now;
        }
        now + self.debt_time()
    }

    /// Takes a packet that is sent; the cluster of probes that it belongs to, or 0.
    pub fn on_sent(&mut self, now: Instant, len: usize) -> u16 {
        self.pay(now);
        self.debt += 8.0 * len as f64;
        if self.debt >= self.rate() * SLICE.as_secs_f64() {
            self.is_waiting = true;
        }
        let Some(probe) = &mut self.probe else { return 0 };
        probe.bytes += len;
        probe.packets += 1;
        let cluster = probe.cluster;
        if probe.bytes >= cluster.min_bytes && probe.packets >= cluster.min_packets {
            self.probe = None;
        }
        cluster.id
    }

    /// Whether padding is to be sent now, for a burst that there is no media for.
    pub fn wants_padding(&mut self, now: Instant) -> bool {
        self.pay(now);
        self.probe.is_some() && !self.is_waiting
    }

    /// When to ask again, after it was asked last: when more may be sent, or a moment later.
    pub fn wakes_at(&self) -> Instant {
        if self.is_waiting { self.updated + self.debt_time() } else { self.updated + SLICE }
    }

    /// A little longer than the debt takes to be paid, so that it is never the same instant.
    fn debt_time(&self) -> Duration {
        Duration::from_secs_f64(self.debt / self.rate()) + Duration::from_micros(1)
    }

    /// Whether a burst is being sent or waits.
    pub fn is_probing(&self) -> bool {
        self.probe.is_some() || !self.probes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends packets as early as they may be, for so long; the times in microseconds.
    fn run(pacer: &mut Pacer, start: Instant, len: usize, span: Duration) -> Vec<(u64, u16)> {
        let mut now = start;
        let mut sent = Vec::new();
        loop {
            let at = pacer.next_at(now);
            now = now.max(at);
            if now >= start + span {
                return sent;
            }
            if at <= now && pacer.next_at(now) <= now {
                let cluster = pacer.on_sent(now, len);
                sent.push(((now - start).as_micros() as u64, cluster));
            }
        }
    }

    #[test]
    fn the_rate_is_kept_and_packets_go_in_slices() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start, 8_000_000);
        let sent = run(&mut pacer, start, 1_000, Duration::from_secs(1));
        assert!((1_000..=1_006).contains(&sent.len()), "{}", sent.len());
        let mut moments: Vec<_> = sent.iter().map(|(at, _)| *at).collect();
        moments.dedup();
        assert!((199..=201).contains(&moments.len()), "{}", moments.len());
    }

    #[test]
    fn what_was_not_sent_is_not_made_up_for() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start, 8_000_000);
        let later = start + Duration::from_secs(5);
        let sent = run(&mut pacer, later, 1_000, Duration::from_millis(4));
        assert_eq!(sent.len(), 5);
    }

    #[test]
    fn a_probe_is_sent_at_its_own_rate_and_only_that_long() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start, 1_000_000);
        let cluster =
            ProbeCluster { id: 9, bits_per_second: 4_000_000, min_bytes: 7_500, min_packets: 5 };
        pacer.push_probe(start, cluster);
        assert!(pacer.wants_padding(start));
        let sent = run(&mut pacer, start, 1_000, Duration::from_millis(100));
        let probes: Vec<_> = sent.iter().filter(|(_, id)| *id == 9).map(|(at, _)| *at).collect();
        assert_eq!(probes.len(), 8);
        assert!((10_000..17_000).contains(&probes[7]), "{probes:?}");
        assert!(!pacer.is_probing());
        assert!(!pacer.wants_padding(start + Duration::from_millis(100)));
    }

    #[test]
    fn a_probe_without_anything_to_send_is_given_up() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start, 1_000_000);
        let cluster =
            ProbeCluster { id: 9, bits_per_second: 4_000_000, min_bytes: 7_500, min_packets: 5 };
        pacer.push_probe(start, cluster);
        pacer.next_at(start);
        let later = start + 2 * PROBE_PATIENCE;
        pacer.next_at(later);
        assert!(!pacer.is_probing());
        assert_eq!(pacer.on_sent(later, 1_000), 0);
    }
}
