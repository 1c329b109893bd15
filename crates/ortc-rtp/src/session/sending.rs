//! What was sent and is answered with feedback, and what is decided by that.

use std::time::Instant;

use super::bandwidth::{Counted, DATAGRAM_OVERHEAD};
use crate::Ssrc;
use crate::congestion::{BandwidthEstimator, BandwidthLimits, Pacer, ProbeCluster, SentHistory};

/// Packets of which the history alone knows: more than most messages of feedback are about, and less
/// than a second of sound, as it is here that a silence of the peer is noticed.
const MAX_UNTOLD: u64 = 48;

/// What a packet that is sent looks at stands in front, in as few lines of the cache as can be: most
/// of a forwarder's connections have left the caches from one burst to the next.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Sending {
    pub(super) history: SentHistory,
    /// Whether the pacer may be in the middle of a probe, or about to begin one: it is told of each
    /// packet at once then.
    pub(super) may_probe: bool,
    pub(super) pacer: Pacer,
    pub(super) estimator: BandwidthEstimator,
}

impl Sending {
    #[cold]
    pub(super) fn begin(now: Instant, limits: BandwidthLimits, cap: Option<u64>) -> Box<Self> {
        let mut estimator = BandwidthEstimator::new(now, limits);
        estimator.set_cap(cap);
        Box::new(Self {
            history: SentHistory::new(now, 0),
            may_probe: false,
            pacer: Pacer::new(now, estimator.pacing_rate()),
            estimator,
        })
    }

    /// Notes a packet of a track whose packets count like that; `len` is that of the datagram.
    #[inline]
    pub(super) fn note(&mut self, now: Instant, counted: Counted, of: (Ssrc, u16), len: usize) {
        let len = len + DATAGRAM_OVERHEAD;
        match counted {
            Counted::No => {}
            Counted::Paced => _ = self.pacer.on_sent(now, len),
            Counted::Acknowledged => self.on_sent(now, of, len),
        }
    }

    /// Notes a packet that the peer will say something about.
    #[inline]
    fn on_sent(&mut self, now: Instant, (ssrc, sequence): (Ssrc, u16), len: usize) {
        if self.may_probe {
            return self.on_sent_probing(now, (ssrc, sequence), len);
        }
        self.history.on_sent(now, ssrc, sequence, len, 0);
        if self.history.untold() >= MAX_UNTOLD {
            self.settle();
        }
    }

    /// Those of a probe are paced one by one.
    #[cold]
    fn on_sent_probing(&mut self, now: Instant, (ssrc, sequence): (Ssrc, u16), len: usize) {
        let cluster = self.pacer.on_sent(now, len);
        self.history.on_sent(now, ssrc, sequence, len, cluster);
        if self.history.untold() >= MAX_UNTOLD || !self.pacer.is_probing() {
            self.settle();
        }
        self.may_probe = self.pacer.is_probing();
    }

    /// A burst is to be sent; nothing is untold.
    pub(super) fn push_probe(&mut self, now: Instant, cluster: ProbeCluster) {
        self.pacer.push_probe(now, cluster);
        self.may_probe = true;
    }

    /// Tells the pacer and the estimate of what has been sent, of which the history alone has known:
    /// when feedback comes, or somebody asks.
    pub(super) fn settle(&mut self) {
        let Self { history, pacer, estimator, may_probe } = self;
        history.tell_sent(|at, bytes, in_flight| {
            if !*may_probe {
                pacer.on_sent(at, bytes);
            }
            estimator.on_sent(at, bytes, in_flight);
        });
    }
}
