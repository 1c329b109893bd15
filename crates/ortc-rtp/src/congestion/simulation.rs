//! Flows that share a link, in virtual time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::*;
use crate::{RtcpView, Ssrc};

const TICK: Duration = Duration::from_micros(500);
const PACKET: usize = 1_200;

/// A link with a queue, as a router has it.
struct Link {
    /// From when on it takes how many bits per second.
    rates: Vec<(Duration, f64)>,
    /// What does not fit is lost.
    queue_bytes: usize,
    delay: Duration,
    jitter: Duration,
    loss: f64,
    random: fastrand::Rng,
    queue: VecDeque<InFlight>,
    queued_bytes: usize,
    credit: f64,
    /// On their way behind the queue.
    leaving: VecDeque<(Instant, InFlight)>,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    flow: usize,
    number: u64,
    len: usize,
}

impl Link {
    fn new(seed: u64, bps: f64) -> Self {
        Self {
            rates: vec![(Duration::ZERO, bps)],
            queue_bytes: (bps * 0.3 / 8.0) as usize,
            delay: Duration::from_millis(25),
            jitter: Duration::ZERO,
            loss: 0.0,
            random: fastrand::Rng::with_seed(seed),
            queue: VecDeque::new(),
            queued_bytes: 0,
            credit: 0.0,
            leaving: VecDeque::new(),
        }
    }

    fn rate(&self, since: Duration) -> f64 {
        self.rates.iter().rev().find(|(from, _)| *from <= since).map_or(0.0, |(_, bps)| *bps)
    }

    fn enter(&mut self, packet: InFlight) {
        if self.random.f64() < self.loss || self.queued_bytes + packet.len > self.queue_bytes {
            return;
        }
        self.queued_bytes += packet.len;
        self.queue.push_back(packet);
    }

    /// How long what enters now will wait.
    fn wait(&self, since: Duration) -> Duration {
        Duration::from_secs_f64(self.queued_bytes as f64 * 8.0 / self.rate(since))
    }

    fn turn(&mut self, now: Instant, since: Duration) {
        self.credit += self.rate(since) * TICK.as_secs_f64();
        while let Some(first) = self.queue.front().copied() {
            let bits = first.len as f64 * 8.0;
            if self.credit < bits {
                return;
            }
            self.credit -= bits;
            self.queued_bytes -= first.len;
            self.queue.pop_front();
            let jitter = self.jitter.mul_f64(self.random.f64());
            // In its order, as over one path.
            let at = now + self.delay + jitter;
            let at = self.leaving.back().map_or(at, |(before, _)| at.max(*before));
            self.leaving.push_back((at, first));
        }
        self.credit = 0.0;
    }
}

/// A flow that obeys its estimate.
struct Gcc {
    ssrc: Ssrc,
    history: SentHistory,
    estimator: BandwidthEstimator,
    pacer: Pacer,
    log: ArrivalLog,
    /// Frames of it that wait to be sent.
    waiting: VecDeque<usize>,
    next_frame: Instant,
    /// The application sends no more than this, in bits per second.
    wants: f64,
    feedback: VecDeque<(Instant, Vec<u8>)>,
    /// How long feedback takes.
    back: Duration,
    told: Vec<(Duration, u64)>,
    received_bytes: usize,
}

/// A flow that fills queues until it loses something, with a window (as TCP Reno).
struct Reno {
    window: f64,
    in_flight: usize,
    next: u64,
    expected: u64,
    acknowledged: VecDeque<(Instant, u64)>,
    recover_from: u64,
    received_bytes: usize,
}

/// A flow that sends at one rate, or not at all, for some time each, and heeds nothing.
struct Bursts {
    bps: f64,
    /// When it begins to send next, or ceases to.
    change: Instant,
    is_on: bool,
    /// How long it sends, and how long not.
    spans: [Duration; 2],
    credit: f64,
    received_bytes: usize,
}

enum Flow {
    Gcc(Box<Gcc>),
    Reno(Reno),
    Bursts(Bursts),
}

struct World {
    start: Instant,
    now: Instant,
    link: Link,
    flows: Vec<Flow>,
    /// When, and how long the queue was.
    waits: Vec<(Duration, Duration)>,
}

impl World {
    fn new(link: Link) -> Self {
        let start = Instant::now();
        Self { start, now: start, link, flows: Vec::new(), waits: Vec::new() }
    }

    fn gcc(&mut self, start_bps: u64, wants: f64) {
        let now = self.now;
        let limits = BandwidthLimits { start: start_bps, ..BandwidthLimits::default() };
        let estimator = BandwidthEstimator::new(now, limits);
        self.flows.push(Flow::Gcc(Box::new(Gcc {
            ssrc: Ssrc(7),
            history: SentHistory::new(now, 0xfff0),
            pacer: Pacer::new(now, estimator.pacing_rate()),
            estimator,
            log: ArrivalLog::new(),
            waiting: VecDeque::new(),
            next_frame: now,
            wants,
            feedback: VecDeque::new(),
            back: self.link.delay,
            told: Vec::new(),
            received_bytes: 0,
        })));
    }

    fn reno(&mut self) {
        self.flows.push(Flow::Reno(Reno {
            window: 10.0,
            in_flight: 0,
            next: 0,
            expected: 0,
            acknowledged: VecDeque::new(),
            recover_from: 0,
            received_bytes: 0,
        }));
    }

    fn bursts(&mut self, bps: f64, spans: [f64; 2]) {
        self.flows.push(Flow::Bursts(Bursts {
            bps,
            change: self.now,
            is_on: false,
            spans: spans.map(Duration::from_secs_f64),
            credit: 0.0,
            received_bytes: 0,
        }));
    }

    fn since(&self) -> Duration {
        self.now - self.start
    }

    fn run(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            self.turn();
            self.now += TICK;
        }
    }

    fn turn(&mut self) {
        let (now, since) = (self.now, self.since());
        for at in 0..self.flows.len() {
            match &mut self.flows[at] {
                Flow::Gcc(flow) => flow.turn(now, since, at, &mut self.link),
                Flow::Reno(flow) => flow.turn(now, at, &mut self.link),
                Flow::Bursts(flow) => flow.turn(now, at, &mut self.link),
            }
        }
        self.link.turn(now, since);
        self.waits.push((since, self.link.wait(since)));
        while self.link.leaving.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, packet)) = self.link.leaving.pop_front() else { break };
            match &mut self.flows[packet.flow] {
                Flow::Gcc(flow) => {
                    flow.received_bytes += packet.len;
                    flow.log.on_packet(now, packet.number as u16, flow.ssrc, packet.len);
                }
                Flow::Bursts(flow) => flow.received_bytes += packet.len,
                Flow::Reno(flow) => {
                    flow.received_bytes += packet.len;
                    flow.acknowledged.push_back((now + self.link.delay, packet.number));
                }
            }
        }
    }

    fn flow(&mut self, at: usize) -> &mut Gcc {
        match &mut self.flows[at] {
            Flow::Gcc(flow) => flow,
            Flow::Reno(_) | Flow::Bursts(_) => panic!("flow {at} has no estimate"),
        }
    }

    fn target(&mut self, at: usize) -> f64 {
        self.flow(at).estimator.target() as f64
    }

    /// What has come of each flow in the next seconds, in bits per second.
    fn rates(&mut self, seconds: f64) -> Vec<f64> {
        let received = |flow: &Flow| match flow {
            Flow::Gcc(flow) => flow.received_bytes,
            Flow::Reno(flow) => flow.received_bytes,
            Flow::Bursts(flow) => flow.received_bytes,
        };
        let before: Vec<_> = self.flows.iter().map(received).collect();
        self.run(seconds);
        let bits = |(flow, before)| (received(flow) - before) as f64 * 8.0 / seconds;
        self.flows.iter().zip(before).map(bits).collect()
    }

    /// The share of time since `from` in which the queue was longer than this.
    fn standing(&self, from: f64, limit: Duration) -> f64 {
        let from = Duration::from_secs_f64(from);
        let waits = self.waits.iter().filter(|(at, _)| *at >= from);
        let over = waits.clone().filter(|(_, wait)| *wait > limit).count();
        over as f64 / waits.count() as f64
    }
}

impl Gcc {
    fn turn(&mut self, now: Instant, since: Duration, flow: usize, link: &mut Link) {
        if now >= self.next_frame {
            self.next_frame += Duration::from_micros(33_333);
            let rate = self.wants.min(self.estimator.target() as f64);
            let mut left = (rate / 30.0 / 8.0) as usize;
            while left > 0 && self.waiting.len() < 500 {
                self.waiting.push_back(left.min(PACKET));
                left = left.saturating_sub(PACKET);
            }
        }
        let mut report = Vec::new();
        if self.log.write_due(now, Ssrc(1), &mut report) {
            self.feedback.push_back((now + self.back, report));
        }
        while self.feedback.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, bytes)) = self.feedback.pop_front() else { break };
            let packet = RtcpView::new(&bytes).next().unwrap().unwrap();
            let feedback = TransportFeedback::parse(&packet).unwrap().unwrap();
            let mut results = Vec::new();
            self.history.on_feedback(now, &feedback, |it| it.add_to(&mut results));
            self.estimator.on_feedback(now, &results, self.history.in_flight());
            self.pacer.set_rate(now, self.estimator.pacing_rate());
            while let Some(cluster) = self.estimator.poll_probe() {
                self.pacer.push_probe(now, cluster);
            }
            self.told.extend(self.estimator.poll_change(now).map(|bps| (since, bps)));
        }
        while self.pacer.next_at(now) <= now {
            let padding = self.pacer.wants_padding(now).then_some(300);
            let Some(len) = self.waiting.pop_front().or(padding) else { break };
            let cluster = self.pacer.on_sent(now, len);
            let number = u64::from(self.history.next_number());
            self.history.on_sent(now, self.ssrc, 0, len, cluster);
            self.estimator.on_sent(now, len, self.history.in_flight());
            link.enter(InFlight { flow, number, len });
        }
    }
}

impl Reno {
    fn turn(&mut self, now: Instant, flow: usize, link: &mut Link) {
        while self.acknowledged.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, number)) = self.acknowledged.pop_front() else { break };
            let lost = number - self.expected;
            self.in_flight -= (lost + 1) as usize;
            self.expected = number + 1;
            if lost > 0 && number >= self.recover_from {
                self.window = (self.window / 2.0).max(2.0);
                self.recover_from = self.next;
            }
            self.window += 1.0 / self.window;
        }
        // All of a window may be lost.
        if self.in_flight > 0 && self.acknowledged.is_empty() && link.queue.is_empty() {
            let waits = link.leaving.iter().any(|(_, packet)| packet.flow == flow);
            if !waits {
                (self.in_flight, self.expected) = (0, self.next);
            }
        }
        while self.in_flight < self.window as usize {
            link.enter(InFlight { flow, number: self.next, len: PACKET });
            self.next += 1;
            self.in_flight += 1;
        }
    }
}

impl Bursts {
    fn turn(&mut self, now: Instant, flow: usize, link: &mut Link) {
        if now >= self.change {
            self.is_on = !self.is_on;
            self.change += self.spans[usize::from(!self.is_on)];
        }
        if self.is_on {
            self.credit += self.bps * TICK.as_secs_f64() / 8.0;
        }
        while self.credit >= PACKET as f64 {
            self.credit -= PACKET as f64;
            link.enter(InFlight { flow, number: 0, len: PACKET });
        }
    }
}

#[test]
fn a_rate_that_falls_and_rises_is_followed_without_a_standing_queue() {
    for seed in 0..40 {
        let mut link = Link::new(seed, 3e6);
        link.jitter = Duration::from_millis(seed % 3 * 5);
        let at = |seconds| Duration::from_secs_f64(seconds);
        link.rates = vec![(at(0.0), 3e6), (at(20.0), 5e5), (at(40.0), 3e6)];
        let mut world = World::new(link);
        world.gcc(300_000, 1e7);
        world.run(20.0);
        let before = world.target(0);
        assert!((2e6..3.6e6).contains(&before), "{before} of 3 Mbit/s, seed {seed}");
        world.run(3.0);
        let fallen = world.target(0);
        assert!((1.5e5..6e5).contains(&fallen), "{fallen} of 0.5 Mbit/s, seed {seed}");
        world.run(17.0);
        let standing = world.standing(23.0, Duration::from_millis(200));
        assert!(standing < 0.02, "{standing} of the time, seed {seed}");
        let low = world.target(0);
        assert!((2.5e5..6.5e5).contains(&low), "{low} of 0.5 Mbit/s, seed {seed}");
        world.run(15.0);
        let risen = world.target(0);
        assert!(risen > 2.1e6, "{risen} of 3 Mbit/s, seed {seed}");
        world.run(15.0);
        let standing = world.standing(55.0, Duration::from_millis(200));
        assert!(standing < 0.02, "{standing} of the time at last, seed {seed}");
    }
}

#[test]
fn a_link_is_filled_within_seconds_of_the_beginning_by_probes() {
    for seed in 0..10 {
        let mut world = World::new(Link::new(seed, 4e6));
        world.gcc(300_000, 1e7);
        world.run(5.0);
        let target = world.target(0);
        assert!((2.4e6..5e6).contains(&target), "{target} of 4 Mbit/s, seed {seed}");
    }
}

#[test]
fn an_application_that_sends_little_is_told_what_it_could_send() {
    let mut world = World::new(Link::new(1, 5e6));
    world.gcc(300_000, 150_000.0);
    world.run(20.0);
    let target = world.target(0);
    assert!(target > 2e6, "{target}");
    assert!(world.flow(0).told.len() < 30, "it is told what changes, not all there is");
}

#[test]
fn two_flows_share_a_link() {
    for seed in 0..10 {
        let mut world = World::new(Link::new(seed, 4e6));
        world.gcc(300_000, 1e7);
        world.run(10.0);
        world.gcc(300_000, 1e7);
        world.run(60.0);
        let rates = world.rates(60.0);
        let (low, sum) = (rates[0].min(rates[1]), rates[0] + rates[1]);
        assert!(low > 0.25 * sum, "{rates:?}, seed {seed}");
        assert!(sum > 2.4e6, "{rates:?}, seed {seed}");
    }
}

#[test]
fn near_and_far_peers_follow_a_rate_that_changes() {
    for (seed, round_trip) in [20, 50, 100, 200].into_iter().enumerate() {
        for seed in (0..5).map(|n| 10 * seed as u64 + n) {
            let mut link = Link::new(seed, 3e6);
            link.delay = Duration::from_millis(round_trip / 2);
            link.jitter = Duration::from_millis(5);
            let at = |seconds| Duration::from_secs_f64(seconds);
            link.rates = vec![(at(0.0), 3e6), (at(20.0), 5e5), (at(40.0), 3e6)];
            let mut world = World::new(link);
            world.gcc(300_000, 1e7);
            world.run(20.0);
            let before = world.target(0);
            assert!((1.8e6..3.8e6).contains(&before), "{before} at {round_trip} ms, seed {seed}");
            world.run(3.0);
            let fallen = world.target(0);
            assert!(fallen < 6e5, "{fallen} of 0.5 Mbit/s at {round_trip} ms, seed {seed}");
            world.run(17.0);
            let standing = world.standing(24.0, Duration::from_millis(200));
            assert!(standing < 0.03, "{standing} of the time at {round_trip} ms, seed {seed}");
            world.run(15.0);
            let risen = world.target(0);
            assert!(risen > 2e6, "{risen} of 3 Mbit/s at {round_trip} ms, seed {seed}");
        }
    }
}

#[test]
fn a_near_and_a_far_flow_share_a_link() {
    for seed in 0..5 {
        let mut link = Link::new(seed, 4e6);
        link.delay = Duration::from_millis(10);
        let mut world = World::new(link);
        world.gcc(300_000, 1e7);
        world.gcc(300_000, 1e7);
        // One has 20 ms there and back, the other 200.
        world.flow(1).back = Duration::from_millis(190);
        world.run(60.0);
        let rates = world.rates(60.0);
        let (low, sum) = (rates[0].min(rates[1]), rates[0] + rates[1]);
        assert!(low > 0.15 * sum, "{rates:?}, seed {seed}");
        assert!(sum > 2.4e6, "{rates:?}, seed {seed}");
    }
}

#[test]
fn traffic_that_comes_in_bursts_takes_what_it_takes_and_no_more() {
    for seed in 0..5 {
        let mut world = World::new(Link::new(seed, 4e6));
        world.gcc(300_000, 1e7);
        // Half of the link for a second of four: a quarter of what there is, in the mean an eighth.
        world.bursts(2e6, [1.0, 3.0]);
        world.run(20.0);
        let from = world.since().as_secs_f64();
        let rates = world.rates(60.0);
        assert!(rates[0] > 1.2e6, "{rates:?}, seed {seed}");
        assert!(rates[1] > 0.85 * 2e6 / 4.0, "{rates:?}, seed {seed}");
        let standing = world.standing(from, Duration::from_millis(200));
        assert!(standing < 0.1, "{standing} of the time, seed {seed}");
    }
}

#[test]
fn a_flow_that_fills_the_queue_does_not_starve_one_that_does_not() {
    for seed in 0..10 {
        let mut world = World::new(Link::new(seed, 4e6));
        world.gcc(300_000, 1e7);
        world.run(10.0);
        world.reno();
        world.run(20.0);
        let rates = world.rates(60.0);
        assert!(rates[0] > 3e5, "{rates:?}, seed {seed}");
        assert!(rates[1] > 3e5, "{rates:?}, seed {seed}");
    }
}

#[test]
fn losses_that_come_at_any_rate_do_not_bring_it_down() {
    for seed in 0..10 {
        for loss in [0.05, 0.1] {
            let mut link = Link::new(seed, 2e6);
            link.loss = loss;
            let mut world = World::new(link);
            world.gcc(300_000, 1e7);
            world.run(60.0);
            let target = world.target(0);
            assert!(target > 1e6, "{target} of 2 Mbit/s at {loss}, seed {seed}");
        }
    }
}

#[test]
fn a_bottleneck_with_hardly_a_queue_is_found_by_losses() {
    for seed in 0..10 {
        let mut link = Link::new(seed, 1e6);
        link.queue_bytes = 5 * PACKET;
        let mut world = World::new(link);
        world.gcc(3_000_000, 1e7);
        world.run(20.0);
        let before = world.flow(0).received_bytes;
        let rates = world.rates(20.0);
        assert!(rates[0] > 5e5, "{rates:?}, seed {seed}, {before}");
        let target = world.target(0);
        assert!(target < 1.4e6, "{target} of 1 Mbit/s, seed {seed}");
    }
}

#[test]
fn a_silent_network_lowers_the_rate_and_its_return_is_noticed() {
    let mut link = Link::new(4, 2e6);
    let at = |seconds| Duration::from_secs_f64(seconds);
    link.rates = vec![(at(0.0), 2e6), (at(10.0), 1.0), (at(20.0), 2e6)];
    let mut world = World::new(link);
    world.gcc(300_000, 1e7);
    world.run(10.0);
    let before = world.target(0);
    world.run(10.0);
    let silent = world.target(0);
    assert!(silent < before / 4.0, "{silent} after {before}");
    world.run(20.0);
    let back = world.target(0);
    assert!(back > 1e6, "{back}");
}
