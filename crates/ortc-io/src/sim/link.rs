use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Fate;

/// How long a reordered datagram is held back at least, where a link has hardly any delay:
/// longer than the resolution of the clock, so that another can overtake it.
const LEAST_REORDERING: Duration = Duration::from_millis(2);

/// What a link, one direction between two hosts, does to datagrams.
///
/// The default is a good local network: 1 ms of delay, an MTU of 1,500 and nothing lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkConfig {
    /// Probability that a datagram is lost, 0 to 1.
    pub loss: f64,
    /// One-way delay.
    pub delay: Duration,
    /// Further delay, evenly distributed between nothing and this. Order is kept.
    pub jitter: Duration,
    /// Probability that a datagram is held back once more by up to its delay, 0 to 1, so
    /// that those behind may overtake it.
    pub reorder: f64,
    /// Probability that a datagram arrives twice, 0 to 1.
    pub duplicate: f64,
    /// Bits per second of payload; `None` for no limit.
    pub rate: Option<u64>,
    /// Bytes that may wait for their turn at [`rate`](Self::rate); what does not fit is
    /// dropped.
    pub queue: usize,
    /// Largest IP packet, headers included; a longer one is dropped as if "don't fragment"
    /// were set.
    pub mtu: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            loss: 0.0,
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            reorder: 0.0,
            duplicate: 0.0,
            rate: None,
            queue: 64 * 1024,
            mtu: 1500,
        }
    }
}

impl LinkConfig {
    /// The default with this probability of loss.
    pub fn lossy(loss: f64) -> Self {
        Self { loss, ..Self::default() }
    }
}

/// One direction between two hosts: its own configuration, if any, and its queue.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) config: Option<LinkConfig>,
    /// When the last queued bit will have left, if there is a rate.
    busy_until: Option<Instant>,
    /// When the last datagram that kept its place arrives.
    last_arrival: Option<Instant>,
}

impl Link {
    /// Decides when a datagram, and its duplicate if there is one, arrives.
    ///
    /// `len` is the UDP payload, `headers` what IP and UDP add to it.
    pub(super) fn carry(
        &mut self,
        config: &LinkConfig,
        rng: &mut Rng,
        now: Instant,
        len: usize,
        headers: usize,
    ) -> Result<(Instant, Option<Instant>), Fate> {
        if len + headers > config.mtu {
            return Err(Fate::TooLong);
        }
        let departure = match config.rate {
            None => now,
            Some(rate) => {
                let start = self.busy_until.map_or(now, |busy| busy.max(now));
                let waiting = start.duration_since(now).as_secs_f64() * rate as f64 / 8.0;
                if waiting as usize + len > config.queue {
                    return Err(Fate::QueueFull);
                }
                let departure =
                    start + Duration::from_secs_f64(len as f64 * 8.0 / rate.max(1) as f64);
                self.busy_until = Some(departure);
                departure
            }
        };
        if happens(rng, config.loss) {
            return Err(Fate::Lost);
        }
        let arrival = self.arrival(config, rng, departure);
        let duplicate =
            happens(rng, config.duplicate).then(|| self.arrival(config, rng, departure));
        Ok((arrival, duplicate))
    }

    fn arrival(&mut self, config: &LinkConfig, rng: &mut Rng, departure: Instant) -> Instant {
        let arrival = departure + config.delay + up_to(rng, config.jitter);
        if happens(rng, config.reorder) {
            let most = (config.delay + config.jitter).max(LEAST_REORDERING);
            return arrival + LEAST_REORDERING / 2 + up_to(rng, most);
        }
        let arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
        self.last_arrival = Some(arrival);
        arrival
    }
}

fn happens(rng: &mut Rng, probability: f64) -> bool {
    // No draw for what cannot happen, so that a perfect link leaves the sequence alone.
    probability > 0.0 && rng.f64() < probability
}

fn up_to(rng: &mut Rng, most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 { Duration::ZERO } else { Duration::from_nanos(rng.u64(0..=nanos)) }
}
