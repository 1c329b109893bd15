//! Whether tracks of video are sent worse than they could be, and why: what webrtc-stats calls
//! quality limitation.
//!
//! Of a track that is forwarded in one of several layers, the choice of the layer is the answer. What
//! an application sends is made by its encoder, of which nothing is known here but what comes out: it
//! is limited while that takes all there is, since it would have to be more for a better picture.

use std::time::{Duration, Instant};

use super::RtpSession;
use super::bandwidth::Counted;
use super::layers::AROUND;
use super::outbound::{Feed, Sender};
use crate::stream::PICTURE_CLOCK;

/// How often what applications send is looked at.
const JUDGED_EVERY: Duration = Duration::from_millis(400);

/// A track takes all there is from this share on, and until it takes less than that one. What an
/// encoder makes is a tenth or so below what it was told; and where nothing limits it, what may be
/// sent is found to be half as much again.
const TAKES_ALL: f64 = 0.85;
const TAKES_LESS: f64 = 0.75;

/// What keeps a track from being sent better.
///
/// webrtc-stats knows `cpu` as well. Nothing is encoded here, so that is never the cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QualityLimitation {
    /// Nothing does: it is sent as well as there is.
    #[default]
    None,
    /// What may be sent, as congestion control has found out.
    Bandwidth,
    /// The application: a cap on the track or on all of them, or the most that it wants.
    Other,
}

/// What has kept a track of video from being sent better so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QualityLimitations {
    /// What does now.
    pub reason: QualityLimitation,
    /// How long nothing did since the track was added; the time that it was stopped is in it.
    pub none: Duration,
    /// How long what may be sent did.
    pub bandwidth: Duration,
    /// How long the application did.
    pub other: Duration,
    /// How often pictures of another size were sent for that; `None` where what is sent is not chosen
    /// here, and its size is not known.
    pub resolution_changes: Option<u64>,
}

/// What is remembered of one track of video.
#[derive(Debug)]
pub(super) struct Quality {
    reason: QualityLimitation,
    /// Until when the times below have been added up.
    until: Instant,
    none: Duration,
    bandwidth: Duration,
    other: Duration,
    spatial: Option<u8>,
    changes: u64,
    rate: Rate,
}

/// Bits per second, averaged over about a second.
#[derive(Debug, Default)]
pub(super) struct Rate {
    measured: Option<(Instant, u64)>,
    bits: f64,
}

impl Rate {
    /// Takes how many bytes there have been until now.
    fn measure(&mut self, now: Instant, bytes: u64) {
        let Some((at, before)) = self.measured.replace((now, bytes)) else { return };
        let passed = now.saturating_duration_since(at).as_secs_f64();
        // Fewer than before are those of fewer tracks, and say nothing of a rate.
        if passed > 0.0 && bytes >= before {
            let bits = 8.0 * (bytes - before) as f64 / passed;
            self.bits += (bits - self.bits) / 2.0;
        }
    }

    /// Whether it takes all of this, given whether it has until now.
    fn takes_all(&self, of: u64, has: bool) -> bool {
        self.bits >= of as f64 * if has { TAKES_LESS } else { TAKES_ALL }
    }
}

impl Quality {
    /// Of a track with this clock, if it is one of pictures.
    pub(super) fn of(now: Instant, clock_rate: u32) -> Option<Box<Self>> {
        (clock_rate == PICTURE_CLOCK).then(|| {
            Box::new(Self {
                reason: QualityLimitation::None,
                until: now,
                none: Duration::ZERO,
                bandwidth: Duration::ZERO,
                other: Duration::ZERO,
                spatial: None,
                changes: 0,
                rate: Rate::default(),
            })
        })
    }

    pub(super) fn reason(&self) -> QualityLimitation {
        self.reason
    }

    /// Takes the reason from now on, and the spatial layer that is sent, where one is chosen.
    pub(super) fn judge(&mut self, now: Instant, reason: QualityLimitation, spatial: Option<u8>) {
        let passed = now.saturating_duration_since(self.until);
        *self.spent() += passed;
        self.until = self.until.max(now);
        let before = std::mem::replace(&mut self.reason, reason);
        let is_limited = [before, reason] != [QualityLimitation::None; 2];
        if let Some(spatial) = spatial {
            let is_other = self.spatial.replace(spatial).is_some_and(|it| it != spatial);
            self.changes += u64::from(is_other && is_limited);
        }
    }

    /// Notes that the track was stopped or started. What was since the last judgement, a moment ago,
    /// counts with what comes.
    pub(super) fn lift(&mut self) {
        self.reason = QualityLimitation::None;
    }

    fn spent(&mut self) -> &mut Duration {
        match self.reason {
            QualityLimitation::None => &mut self.none,
            QualityLimitation::Bandwidth => &mut self.bandwidth,
            QualityLimitation::Other => &mut self.other,
        }
    }

    /// What is known at `now`.
    fn told(&self, now: Instant, is_chosen: bool) -> QualityLimitations {
        let Self { reason, none, bandwidth, other, changes, .. } = *self;
        let resolution_changes = is_chosen.then_some(changes);
        let passed = |of| match of == reason {
            true => now.saturating_duration_since(self.until),
            false => Duration::ZERO,
        };
        QualityLimitations {
            reason,
            none: none + passed(QualityLimitation::None),
            bandwidth: bandwidth + passed(QualityLimitation::Bandwidth),
            other: other + passed(QualityLimitation::Other),
            resolution_changes,
        }
    }
}

impl Sender {
    /// What keeps it from being sent better; `None` of sound.
    pub(super) fn limitations(&self, now: Instant) -> Option<QualityLimitations> {
        Some(self.quality.as_ref()?.told(now, self.is_selected()))
    }

    /// Bytes sent so far, with all that is around them.
    fn bytes_on_the_wire(&self) -> u64 {
        let stats = self.stream.stats();
        let packets = stats.packets + stats.resent_packets;
        stats.octets + stats.resent_octets + packets * AROUND as u64
    }
}

impl RtpSession {
    /// Looks whether what applications send takes all there is.
    pub(super) fn judge_own(&mut self, now: Instant) {
        let is_soon = |(at, _): (Instant, u64)| now < at + JUDGED_EVERY;
        if self.sent_rate.measured.is_some_and(is_soon) {
            return;
        }
        let sum = self.senders.iter().map(Sender::bytes_on_the_wire).sum();
        self.sent_rate.measure(now, sum);
        let estimate = self.estimated_bitrate();
        let is_capped = self.is_estimate_capped();
        for sender in &mut self.senders {
            let bytes = sender.bytes_on_the_wire();
            let is_own = matches!(sender.feed, Feed::Ring(_)) && sender.counted() != Counted::No;
            let (cap, is_sent) = (sender.max_bitrate, sender.enabled && is_own);
            let Some(quality) = &mut sender.quality else { continue };
            if !is_own {
                continue;
            }
            quality.rate.measure(now, bytes);
            let was = |reason| quality.reason == reason;
            let (by_bandwidth, by_cap) =
                (was(QualityLimitation::Bandwidth), was(QualityLimitation::Other));
            let is_full =
                estimate.is_some_and(|of| self.sent_rate.takes_all(of, by_bandwidth || by_cap));
            let is_at_cap = cap.is_some_and(|of| quality.rate.takes_all(of, by_cap));
            let reason = match (is_full, is_at_cap) {
                _ if !is_sent => QualityLimitation::None,
                (true, _) if !is_capped => QualityLimitation::Bandwidth,
                (true, _) | (_, true) => QualityLimitation::Other,
                (false, false) => QualityLimitation::None,
            };
            quality.judge(now, reason, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_spent_with_the_reason_that_there_was_and_changes_count_while_there_is_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut quality = Quality::of(start, PICTURE_CLOCK).unwrap();
        assert!(Quality::of(start, 48_000).is_none(), "sound has none");
        // The source has begun with a better one: nobody was limited.
        quality.judge(at(1), QualityLimitation::None, Some(1));
        quality.judge(at(2), QualityLimitation::None, Some(2));
        quality.judge(at(5), QualityLimitation::Bandwidth, Some(2));
        quality.judge(at(6), QualityLimitation::Bandwidth, Some(1));
        quality.judge(at(9), QualityLimitation::Other, Some(0));
        // What was limited is not any more, with the last of the changes.
        quality.judge(at(11), QualityLimitation::None, Some(2));
        quality.judge(at(12), QualityLimitation::None, None);
        let told = quality.told(at(20), true);
        let of = |seconds| Duration::from_secs(seconds);
        let expected = QualityLimitations {
            reason: QualityLimitation::None,
            none: of(14),
            bandwidth: of(4),
            other: of(2),
            resolution_changes: Some(3),
        };
        assert_eq!(told, expected);
        quality.judge(at(20), QualityLimitation::Other, None);
        let told = quality.told(at(23), false);
        assert_eq!((told.other, told.resolution_changes), (of(5), None));
        quality.lift();
        assert_eq!(quality.told(at(24), false).reason, QualityLimitation::None);
    }

    #[test]
    fn a_rate_that_comes_close_takes_all_until_it_is_well_below() {
        let start = Instant::now();
        let mut rate = Rate::default();
        let mut bytes = 0;
        let mut at = start;
        let mut run = |rate: &mut Rate, bits: u64, seconds: u64| {
            for _ in 0..seconds * 10 {
                bytes += bits / 80;
                at += Duration::from_millis(100);
                rate.measure(at, bytes);
            }
        };
        run(&mut rate, 900_000, 5);
        assert!(rate.takes_all(1_000_000, false));
        run(&mut rate, 800_000, 5);
        assert!(rate.takes_all(1_000_000, true) && !rate.takes_all(1_000_000, false));
        run(&mut rate, 700_000, 5);
        assert!(!rate.takes_all(1_000_000, true));
    }
}
