use std::time::{Duration, Instant};

use ortc_io::Path;

use crate::IceTiming;
use crate::random::SplitMix;

/// Paths that are checked besides the selected one once a connection has settled.
const SPARES: usize = 2;

/// Most paths that are checked then: the above, and some that the peer nominates.
const MAX_KEPT: usize = 8;

/// Beyond the longest consent interval, a response is late after this: a round trip and a
/// retransmission on a bad path.
const LATE: Duration = Duration::from_secs(1);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The connection has settled: check only what is worth it, and slowly.
    Settle,
    /// The selected path is silent: check everything, and fast.
    Hurry,
    /// Consent has expired: nothing may be sent any more.
    ConsentExpired,
    /// All pairs are to be formed again.
    Retry,
}

/// Everything that happens by the clock around the engine's own checks.
#[derive(Debug)]
pub(crate) struct Upkeep {
    timing: IceTiming,
    random: SplitMix,
    settle_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// When the last response came on the selected path; `None` once consent has expired.
    consent_from: Option<Instant>,
    hurried: bool,
    /// The only paths to check, when settled.
    kept: Option<Vec<Path>>,
}

impl Upkeep {
    pub(crate) fn new(timing: IceTiming, seed: u64) -> Self {
        Self {
            timing,
            random: SplitMix::new(seed),
            settle_at: None,
            retry_at: None,
            consent_from: None,
            hurried: false,
            kept: None,
        }
    }

    /// What is due at `now`, one thing at a time.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Due> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.consent_expiry()) {
            self.consent_from = None;
            Some(Due::ConsentExpired)
        } else if is_due(self.hurry_at()) {
            self.hurried = true;
            self.hurry();
            Some(Due::Hurry)
        } else if is_due(self.settle_at) {
            self.settle_at = None;
            Some(Due::Settle)
        } else if is_due(self.retry_at) {
            self.retry_at = None;
            Some(Due::Retry)
        } else {
            None
        }
    }

    /// When something will be due, and what.
    pub(crate) fn next(&self) -> Option<(Instant, &'static str)> {
        [
            (self.consent_expiry(), "consent expires"),
            (self.hurry_at(), "the selected path is silent"),
            (self.settle_at, "the connection settles"),
            (self.retry_at, "pairs are formed again"),
        ]
        .into_iter()
        .filter_map(|(at, why)| Some((at?, why)))
        .min()
    }

    fn consent_expiry(&self) -> Option<Instant> {
        self.consent_from.map(|from| from + self.timing.consent_timeout)
    }

    fn hurry_at(&self) -> Option<Instant> {
        self.consent_from.filter(|_| !self.hurried).map(|from| from + self.patience())
    }

    /// How long after the last response the selected path is silent.
    pub(crate) fn patience(&self) -> Duration {
        let longest = self.timing.consent_interval.mul_f64(1.2) + LATE;
        longest.min(self.timing.consent_timeout)
    }

    /// When a response last came on the selected path, while that is counted here.
    pub(crate) fn answered(&self) -> Option<Instant> {
        self.consent_from
    }

    /// Does not count responses any more: somebody else does.
    pub(crate) fn pause_consent(&mut self) {
        self.consent_from = None;
    }

    /// Counts responses again, the last of which came at `answered`.
    pub(crate) fn resume_consent(&mut self, answered: Instant) {
        self.consent_from.get_or_insert(answered);
    }

    /// Takes another time for a response that was only supposed to have come at `supposed`.
    pub(crate) fn correct_consent(&mut self, supposed: Instant, answered: Instant) {
        if self.consent_from == Some(supposed) {
            self.consent_from = Some(answered);
        }
    }

    /// Whether only some paths are checked, as the connection has settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether that is one.
    pub(crate) fn keeps_one_path(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.len() == 1)
    }

    /// A pair was selected that was last answered at `answered`.
    pub(crate) fn selected(&mut self, now: Instant, path: Path, answered: Instant) {
        self.consent_from = Some(answered);
        self.retry_at = None;
        self.hurried = false;
        match self.kept {
            None => self.settle_at = Some(now + self.timing.prune_after),
            Some(_) => self.keep(path),
        }
    }

    /// A response came on the selected path. Returns the time to the next consent check, if
    /// it is to change.
    pub(crate) fn consented(&mut self, now: Instant) -> Option<Duration> {
        *self.consent_from.as_mut()? = now;
        if std::mem::take(&mut self.hurried) {
            self.settle_at = Some(now + self.timing.prune_after);
        }
        self.kept.is_some().then(|| self.consent_interval())
    }

    /// 0.8 to 1.2 times the mean (RFC 7675 §5.1).
    fn consent_interval(&mut self) -> Duration {
        let permille = 800 + self.random.next() % 401;
        self.timing.consent_interval.mul_f64(permille as f64 / 1000.0)
    }

    /// Restricts checks to these paths. Returns the time to the next consent check.
    pub(crate) fn settle(&mut self, kept: Vec<Path>) -> Duration {
        self.kept = Some(kept);
        self.consent_interval()
    }

    /// Lifts the restriction, for good or until settled again.
    pub(crate) fn hurry(&mut self) {
        self.kept = None;
        self.settle_at = None;
    }

    /// Lifts the restriction because there is something new to check.
    pub(crate) fn something_new(&mut self, now: Instant) {
        if self.kept.take().is_some() {
            self.settle_at = Some(now + self.timing.prune_after);
        }
    }

    /// Whether a pair is selected and better ones are looked for: those that have not been
    /// answered yet. All the others can wait until the connection settles.
    pub(crate) fn is_improving(&self) -> bool {
        self.settle_at.is_some()
    }

    /// Settles in a quarter of the time: all pairs have been answered. Not at once, since the
    /// check that nominates may have been lost, and is repeated slowly when settled.
    pub(crate) fn settle_soon(&mut self, now: Instant) {
        let soon = now + self.timing.prune_after / 4;
        self.settle_at = self.settle_at.map(|at| at.min(soon));
    }

    /// How many spares are worth keeping.
    pub(crate) fn spares() -> usize {
        SPARES
    }

    /// Adds a path to those that are checked: the peer has nominated it.
    pub(crate) fn keep(&mut self, path: Path) {
        if let Some(kept) = &mut self.kept
            && !kept.contains(&path)
        {
            if kept.len() >= MAX_KEPT {
                // The first is the selected one.
                kept.remove(1);
            }
            kept.push(path);
        }
    }

    /// Whether a check on this path may go out.
    pub(crate) fn allows(&self, path: Path) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.contains(&path))
    }

    /// Forms the pairs again after `period`.
    pub(crate) fn retry_after(&mut self, now: Instant, period: Duration) {
        self.retry_at = Some(now + period);
    }

    /// The same, unless it is to be earlier.
    pub(crate) fn retry_within(&mut self, now: Instant, period: Duration) {
        self.retry_at.get_or_insert(now + period);
    }

    /// No retry any more.
    pub(crate) fn stop_retrying(&mut self) {
        self.retry_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ortc_io::SocketId;

    fn path(port: u16) -> Path {
        Path::plain(SocketId { slot: 0, generation: 0 }, ([192, 0, 2, 1], port).into())
    }

    #[test]
    fn a_silent_selected_path_is_hurried_and_then_loses_consent() {
        let start = Instant::now();
        let mut upkeep = Upkeep::new(IceTiming::default(), 1);
        upkeep.selected(start, path(1), start);
        let mut seen = Vec::new();
        while let Some((at, why)) = upkeep.next() {
            seen.push(((at - start).as_secs(), why, upkeep.due(at).unwrap()));
        }
        assert_eq!(
            seen,
            [
                (7, "the selected path is silent", Due::Hurry),
                (30, "consent expires", Due::ConsentExpired)
            ]
        );
    }

    #[test]
    fn consent_checks_are_jittered_by_a_fifth() {
        let start = Instant::now();
        let mut upkeep = Upkeep::new(IceTiming::default(), 1);
        upkeep.selected(start, path(1), start);
        assert_eq!(upkeep.consented(start), None, "not yet settled");
        upkeep.settle(vec![path(1)]);
        let intervals: Vec<_> = (0..500).filter_map(|_| upkeep.consented(start)).collect();
        let (low, high) = (intervals.iter().min().unwrap(), intervals.iter().max().unwrap());
        assert!((4000..4050).contains(&low.as_millis()), "{low:?}");
        assert!((5950..=6000).contains(&high.as_millis()), "{high:?}");
    }

    #[test]
    fn kept_paths_are_bounded_and_the_selected_one_stays() {
        let mut upkeep = Upkeep::new(IceTiming::default(), 1);
        upkeep.settle(vec![path(1)]);
        for port in 2..100 {
            upkeep.keep(path(port));
        }
        assert!(upkeep.allows(path(1)) && upkeep.allows(path(99)) && !upkeep.allows(path(50)));
        assert_eq!(upkeep.kept.as_ref().unwrap().len(), MAX_KEPT);
    }
}
