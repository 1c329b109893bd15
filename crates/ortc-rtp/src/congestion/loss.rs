//! The rate by loss: what the losses of the last seconds say about a bottleneck, as apart from
//! losses that come at any rate.
//!
//! A rate that is lowered whenever more than a tenth is lost (draft-ietf-rmcat-gcc-02 §6) sinks to
//! nothing on a radio link that loses as much whatever is sent. So, as libwebrtc does since, the
//! losses are explained by two numbers: a share that is lost anyway, and a bandwidth, of which all
//! that is sent above it is lost. Of a few candidates, the bandwidth is taken with which what was
//! seen is the likeliest.

use std::collections::VecDeque;

use super::history::PacketResult;

/// What one observation is made of.
const OBSERVATION_US: i64 = 250_000;
const MIN_PACKETS: u32 = 10;

/// Observations that are looked at, and how much each counts less than the one after it.
const WINDOW: usize = 20;
const WEIGHT: f64 = 0.9;

/// The share that may be lost anyway: some percent of any stream, and more of one that is so thin
/// that it is hardly what fills the link.
const INHERENT: f64 = 0.08;
const INHERENT_BPS: f64 = 100_000.0;

/// Candidates beside what is the bandwidth now.
const UP: f64 = 1.02;
const DOWN: f64 = 0.95;

/// Of two candidates that explain it as well the higher one is taken: so much is it preferred, for
/// each packet.
const PREFERENCE: f64 = 0.02;

/// Below this share of losses there is no bottleneck to be found by them.
const FEW: f64 = 0.02;

/// The bound by losses.
#[derive(Debug, Default)]
pub(super) struct LossBound {
    observations: VecDeque<Observation>,
    partial: Partial,
    /// `None` where losses bound nothing.
    bandwidth_bps: Option<f64>,
    inherent: f64,
}

#[derive(Debug, Clone, Copy)]
struct Observation {
    received: f64,
    lost: f64,
    sent_bps: f64,
}

#[derive(Debug, Default)]
struct Partial {
    began_us: Option<i64>,
    newest_us: Option<i64>,
    received: u32,
    lost: u32,
    bytes: usize,
}

impl LossBound {
    pub(super) fn on_packet(&mut self, packet: &PacketResult) {
        let partial = &mut self.partial;
        if packet.was_lost {
            // It was only late.
            partial.lost = partial.lost.saturating_sub(packet.packets);
            partial.received += packet.packets;
            return;
        }
        partial.began_us.get_or_insert(packet.sent_us);
        partial.newest_us = partial.newest_us.max(Some(packet.sent_us));
        partial.bytes += packet.len;
        if packet.arrived_us.is_some() {
            partial.received += packet.packets;
        } else {
            partial.lost += packet.packets;
        }
    }

    /// Makes something of what has been taken in; `delay_bps` is the rate by delays, `through_bps`
    /// what gets through.
    pub(super) fn update(&mut self, delay_bps: f64, through_bps: Option<f64>) {
        let Partial { began_us: Some(began), newest_us: Some(newest), received, lost, bytes } =
            self.partial
        else {
            return;
        };
        let span = newest - began;
        if span < OBSERVATION_US || received + lost < MIN_PACKETS {
            return;
        }
        self.partial = Partial::default();
        if self.observations.len() == WINDOW {
            self.observations.pop_front();
        }
        self.observations.push_back(Observation {
            received: f64::from(received),
            lost: f64::from(lost),
            sent_bps: (bytes * 8) as f64 / (span as f64 / 1e6),
        });
        self.choose(delay_bps, through_bps);
    }

    fn choose(&mut self, delay_bps: f64, through_bps: Option<f64>) {
        if self.average() < FEW {
            // What was held back is let go of by and by.
            self.bandwidth_bps =
                self.bandwidth_bps.map(|bps| bps * 1.1).filter(|bps| *bps < delay_bps);
            self.inherent = self.average();
            return;
        }
        let current = self.bandwidth_bps.unwrap_or(delay_bps).min(delay_bps);
        let grown = (current * UP).min(delay_bps);
        let mut best: Option<(f64, f64, f64)> = None;
        // Not above what it would have grown to: that nothing speaks against more, as nothing of it
        // was sent, is no reason to send it at once.
        let through = through_bps.map(|bps| bps.min(grown));
        let found = [Some(grown), Some(current), Some(current * DOWN), through];
        for bandwidth in found.into_iter().flatten() {
            let bandwidth = bandwidth.min(delay_bps).max(1_000.0);
            let inherent = self.likeliest_inherent(bandwidth);
            let likelihood = self.likelihood(bandwidth, inherent);
            if best.is_none_or(|(known, ..)| likelihood > known) {
                best = Some((likelihood, bandwidth, inherent));
            }
        }
        if let Some((_, bandwidth, inherent)) = best {
            self.inherent = inherent;
            self.bandwidth_bps = (bandwidth < delay_bps).then_some(bandwidth);
        }
    }

    fn weighted(&self) -> impl Iterator<Item = (f64, &Observation)> {
        let weights = std::iter::successors(Some(1.0), |weight| Some(weight * WEIGHT));
        weights.zip(self.observations.iter().rev())
    }

    /// The share of losses.
    fn average(&self) -> f64 {
        let (lost, all) = self.weighted().fold((0.0, 0.0), |(lost, all), (weight, seen)| {
            (lost + weight * seen.lost, all + weight * (seen.lost + seen.received))
        });
        if all > 0.0 { lost / all } else { 0.0 }
    }

    /// The share that is lost anyway with which a bandwidth explains best what was seen, by
    /// ten steps of a golden section: to a tenth of a percent.
    fn likeliest_inherent(&self, bandwidth: f64) -> f64 {
        const SECTION: f64 = 0.618;
        let (mut low, mut high) = (1e-4, (INHERENT + INHERENT_BPS / bandwidth).min(0.5));
        for _ in 0..10 {
            let (left, right) = (high - SECTION * (high - low), low + SECTION * (high - low));
            if self.likelihood(bandwidth, left) > self.likelihood(bandwidth, right) {
                high = right;
            } else {
                low = left;
            }
        }
        f64::midpoint(low, high)
    }

    /// The logarithm of how likely what was seen is, with what is preferred.
    fn likelihood(&self, bandwidth: f64, inherent: f64) -> f64 {
        let preferred = PREFERENCE * (1.0 + bandwidth / 1e3).ln();
        self.weighted()
            .map(|(weight, seen)| {
                let above = ((seen.sent_bps - bandwidth) / seen.sent_bps).max(0.0);
                let lost = (inherent + (1.0 - inherent) * above).clamp(1e-4, 1.0 - 1e-4);
                let packets = seen.lost + seen.received;
                weight
                    * (seen.lost * lost.ln()
                        + seen.received * (1.0 - lost).ln()
                        + packets * preferred)
            })
            .sum()
    }

    /// Bits per second; `None` where losses bound nothing.
    pub(super) fn bps(&self) -> Option<f64> {
        self.bandwidth_bps
    }

    /// Takes that a probe has got through.
    pub(super) fn on_probe(&mut self, bps: f64) {
        self.bandwidth_bps = self.bandwidth_bps.map(|known| known.max(bps));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends at the bound for so many seconds, and loses what is above the bandwidth, and a share
    /// anyway; the bound at the end.
    fn run(seconds: u64, delay_bps: f64, bandwidth: f64, anyway: f64) -> f64 {
        let mut random = fastrand::Rng::with_seed(9);
        let mut bound = LossBound::default();
        let (mut at, mut number) = (0.0, 0);
        let mut rate = delay_bps;
        let mut through = 0.0;
        while at < seconds as f64 {
            let lost = random.f64() < anyway || random.f64() * rate > bandwidth;
            through += (f64::from(u8::from(!lost)) * rate - through) * 0.05;
            bound.on_packet(&PacketResult {
                number,
                packets: 1,
                sent_us: (at * 1e6) as i64,
                len: 1_000,
                arrived_us: (!lost).then_some((at * 1e6) as i64),
                was_lost: false,
                cluster: 0,
            });
            bound.update(delay_bps, Some(through));
            rate = bound.bps().unwrap_or(delay_bps);
            at += 8_000.0 / rate;
            number += 1;
        }
        rate
    }

    #[test]
    fn losses_that_come_at_any_rate_bound_nothing_much() {
        for anyway in [0.0, 0.02, 0.05, 0.1] {
            let rate = run(60, 2e6, 1e9, anyway);
            assert!(rate > 1e6, "{rate} at {anyway}");
        }
    }

    #[test]
    fn a_bottleneck_without_a_queue_is_found() {
        for anyway in [0.0, 0.02] {
            let rate = run(30, 3e6, 1e6, anyway);
            assert!((6e5..1.3e6).contains(&rate), "{rate} at {anyway}");
        }
    }

    #[test]
    fn what_was_held_back_is_let_go_of_when_nothing_is_lost_any_more() {
        let mut bound = LossBound { bandwidth_bps: Some(5e5), ..LossBound::default() };
        for number in 0..2_000 {
            bound.on_packet(&PacketResult {
                number,
                packets: 1,
                sent_us: 5_000 * number as i64,
                len: 1_000,
                arrived_us: Some(0),
                was_lost: false,
                cluster: 0,
            });
            bound.update(2e6, Some(5e5));
        }
        assert_eq!(bound.bps(), None);
    }
}
