//! Leaving a dead path that nobody has told of, and coming back to it.
//!
//! Consent alone takes half a minute to notice. Sooner than that the socket port says that media
//! has stopped coming ([`SocketEvent::PathDoubted`](ortc_io::SocketEvent::PathDoubted)), or a
//! response is overdue: reason to *doubt* the selected path. It is then checked ten times a second,
//! and after a first unanswered check, so are the best of the others. One response on it ends the
//! doubt. Should none have come when another path has answered twice, it is *left* for that one,
//! which the controlling side nominates. A path that loses one packet in twenty, each way, is left
//! wrongly once in a million doubts, and doubted only if media stands still.
//!
//! A path that was left may have been the better one. It is *tried* after 5 s, then more and more
//! seldom: if it answers nearly all of some checks, all pairs are formed again, and the best one
//! is taken. One that fails again soon is tried the later.
//!
//! These checks are made here and not by the engine, which has a pace of its own. They bear the
//! username fragments, the priority and the role that the engine's do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use is::stun::StunMessage;
use ortc_io::Path;
use tracing::debug;

use crate::engine::{Ends, Engine, Pace, sha1_hmac};
use crate::transactions::TransactionId;
use crate::{IceAgent, IceState, RTCIceConnectionInfo};

/// Time between two rounds of checks.
const ROUND: Duration = Duration::from_millis(100);

/// How long a path may leave all checks unanswered, and a round trip: six of them, however much
/// time passes between two on a host that has too much to do.
const PATIENCE: Duration = Duration::from_millis(550);
const CHECKS: u32 = 6;

/// After that, rounds are as far apart, for paths that are yet to be found.
const SLOW_ROUND: Duration = Duration::from_millis(250);

/// Rounds until a doubt ends without a path to go to; some 8 s. Then consent expires in its time.
const DOUBT_ROUNDS: u32 = 36;

/// Rounds after which everything is looked at, as no other path is at hand.
const ALONE_ROUNDS: u32 = 3;

/// Responses that another path must have given.
const ANSWERS: u32 = 2;

/// Other paths that are checked in a doubt.
const OTHERS: usize = 4;

/// Least time between two doubts.
const REST: Duration = Duration::from_millis(300);

/// Rounds by which a new selection is made known. The engine's own choices wait until then, as it
/// begins afresh and its first one need not be its best.
const CONFIRM_ROUNDS: u32 = 10;

/// Checks of a path that was left, and how many are to be answered.
const TRIAL: (u32, u32) = (5, 4);

/// How long after a path is left it is tried, at first.
const FIRST_TRIAL: Duration = Duration::from_secs(5);

/// The same, at most.
const LAST_TRIAL: Duration = Duration::from_secs(60);

/// Trials of one path.
const MAX_TRIALS: u32 = 16;

/// A path that is left within this time of being returned to is tried the later.
const FLAPPING: Duration = Duration::from_secs(60);

/// What checks are made for at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The selected path is in doubt.
    Doubt,
    /// It was left for the selected one.
    Confirm,
    /// It was left before, and may be alive again.
    Trial,
}

#[derive(Debug, Clone, Copy)]
struct Probing {
    purpose: Purpose,
    path: Path,
    since: Instant,
    next: Instant,
    rounds: u32,
}

/// A path that was left.
#[derive(Debug, Clone, Copy)]
struct Left {
    path: Path,
    again: Instant,
    wait: Duration,
    trials: u32,
}

/// What is doubted, and what was left.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    probing: Option<Probing>,
    left: Option<Left>,
    /// When the last doubt ended.
    rested: Option<Instant>,
    /// When a path was last returned to, and how long it was waited with.
    returned: Option<(Instant, Duration)>,
}

impl Doubts {
    /// When something is to be done.
    pub(crate) fn next(&self) -> Option<Instant> {
        let trial = self.left.filter(|_| self.probing.is_none()).map(|left| left.again);
        self.probing.map(|probing| probing.next).into_iter().chain(trial).min()
    }

    /// Whether the engine's choice of this path is to wait: it begins afresh, or the path was left
    /// and has not been tried yet.
    pub(crate) fn holds_choice(&self, path: Path) -> bool {
        let confirms = self.probing.is_some_and(|probing| probing.purpose == Purpose::Confirm);
        confirms || self.left.is_some_and(|left| left.path == path)
    }

    /// Forgets everything: the pairs are others.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Does not return to paths that are gone for good.
    pub(crate) fn forget(&mut self, path: Path) {
        self.left.take_if(|left| left.path == path);
    }

    fn begin(&mut self, now: Instant, purpose: Purpose, path: Path) {
        self.probing = Some(Probing { purpose, path, since: now, next: now, rounds: 0 });
    }
}

/// A check as the engine makes them.
fn check(
    (ours, theirs): (&RTCIceConnectionInfo, &RTCIceConnectionInfo),
    id: TransactionId,
    (controlling, tie_breaker): (bool, u64),
    priority: u32,
    nominates: bool,
) -> Option<Bytes> {
    // The engine's identifiers cannot be made, but any message has one to take.
    let mut indication = [0; 20];
    indication[..8].copy_from_slice(&[0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    indication[8..].copy_from_slice(&id);
    let id = StunMessage::parse(&indication).ok()?.trans_id();
    let username = format!("{}:{}", theirs.username_frag, ours.username_frag);
    let check = StunMessage::binding_request(
        &username,
        id,
        controlling,
        tie_breaker,
        priority,
        nominates && controlling,
    );
    let mut bytes = [0; crate::nomination::MAX_CHECK];
    let length = check.to_bytes(Some(theirs.password.as_bytes()), &mut bytes, sha1_hmac).ok()?;
    Some(Bytes::copy_from_slice(&bytes[..length]))
}

impl IceAgent {
    /// There is reason to doubt a path; of interest if media uses it.
    pub(crate) fn doubt(&mut self, now: Instant, path: Path) {
        if self.state != IceState::Connected || self.paths.selected() != Some(path) {
            return;
        }
        let is_doubted = self.doubts.probing.is_some_and(|it| it.purpose == Purpose::Doubt);
        let rests = self.doubts.rested.is_some_and(|at| now.saturating_duration_since(at) < REST);
        if is_doubted || rests {
            return;
        }
        debug!(remote = %path.remote, "the selected path is in doubt");
        self.stats.paths_doubted += 1;
        self.paths.count_anew();
        self.doubts.begin(now, Purpose::Doubt, path);
        self.run_doubts(now);
    }

    /// Does what is due.
    pub(crate) fn run_doubts(&mut self, now: Instant) {
        self.review_doubts(now);
        if self.doubts.probing.is_none()
            && let Some(left) = self.doubts.left.filter(|left| left.again <= now)
        {
            self.paths.count_anew();
            self.doubts.begin(now, Purpose::Trial, left.path);
        }
        while let Some(probing) = self.doubts.probing.filter(|probing| probing.next <= now) {
            let period = match probing.purpose {
                Purpose::Doubt => self.doubt_round(now, probing),
                Purpose::Confirm => self.confirm_round(now, probing),
                Purpose::Trial => self.trial_round(now, probing),
            };
            // It may be another one, or none, by now.
            let same =
                |it: &&mut Probing| (it.purpose, it.since) == (probing.purpose, probing.since);
            if let Some(probing) = self.doubts.probing.as_mut().filter(same) {
                probing.rounds += 1;
                probing.next = now + period;
            }
        }
    }

    /// Ends what has no reason any more; to be called when something has been answered, too.
    pub(crate) fn review_doubts(&mut self, now: Instant) {
        let (selected, connected) = (self.paths.selected(), self.state == IceState::Connected);
        if !connected {
            return self.doubts.clear();
        }
        self.doubts.left.take_if(|left| Some(left.path) == selected);
        let Some(Probing { purpose, path, .. }) = self.doubts.probing else { return };
        let is_over = match purpose {
            Purpose::Doubt => selected != Some(path) || self.paths.answers(path) > 0,
            Purpose::Confirm => selected == Some(path),
            Purpose::Trial => self.doubts.left.is_none(),
        };
        if is_over {
            self.end_probing(now, purpose);
        }
    }

    fn end_probing(&mut self, now: Instant, purpose: Purpose) {
        self.doubts.probing = None;
        match purpose {
            Purpose::Doubt => self.doubts.rested = Some(now),
            Purpose::Confirm => self.take_held_choice(now),
            Purpose::Trial => {}
        }
    }

    fn doubt_round(&mut self, now: Instant, probing: Probing) -> Duration {
        let Probing { path, since, rounds, .. } = probing;
        let round_trip = self.paths.round_trip(path).unwrap_or_default();
        let waited = now.saturating_duration_since(since);
        let is_silent = rounds >= CHECKS && waited >= PATIENCE + 2 * round_trip;
        if is_silent && let Some(other) = self.paths.best_answered(path, ANSWERS) {
            self.leave(now, path, other);
            return ROUND;
        }
        if rounds >= DOUBT_ROUNDS {
            self.end_probing(now, Purpose::Doubt);
            return ROUND;
        }
        self.check_path(now, path, true);
        if rounds > 0 {
            let others = self.paths.worth_keeping(OTHERS);
            let others: Vec<Path> = others.into_iter().filter(|other| *other != path).collect();
            for other in &others {
                self.check_path(now, *other, false);
            }
            if rounds == ALONE_ROUNDS {
                self.look_around(now);
            }
        }
        if is_silent { SLOW_ROUND } else { ROUND }
    }

    /// Has the engine look at all pairs, and servers asked whether they still know us.
    fn look_around(&mut self, now: Instant) {
        self.upkeep.something_new(now);
        self.paths.check_again();
        self.set_pace(Pace::Search);
        self.servers.doubt(now);
    }

    fn leave(&mut self, now: Instant, path: Path, other: Path) {
        self.end_probing(now, Purpose::Doubt);
        self.paths.forget_nominations();
        self.form_all_pairs(now);
        self.select_path(now, other);
        if self.paths.selected() != Some(other) {
            return;
        }
        debug!(from = %path.remote, to = %other.remote, "a silent path is left");
        self.stats.paths_left += 1;
        let flapped = self.doubts.returned.filter(|(at, _)| *at + FLAPPING > now);
        let wait = flapped.map_or(FIRST_TRIAL, |(_, wait)| (wait * 2).min(LAST_TRIAL));
        self.doubts.left = Some(Left { path, again: now + wait, wait, trials: 0 });
        self.doubts.begin(now, Purpose::Confirm, path);
        self.run_engine(now);
        self.servers.doubt(now);
    }

    /// Has the engine begin afresh with all pairs, while the connection goes on.
    pub(crate) fn form_all_pairs(&mut self, now: Instant) {
        self.upkeep.something_new(now);
        self.paths.check_again();
        self.set_pace(Pace::Search);
        self.engine_choice = None;
        if let Some(engine) = &mut self.engine {
            engine.recreate_pairs();
        }
    }

    /// Says by checks which path is nominated, and that the one that was left is not.
    fn confirm_round(&mut self, now: Instant, probing: Probing) -> Duration {
        if probing.rounds >= CONFIRM_ROUNDS {
            self.end_probing(now, Purpose::Confirm);
        } else if self.is_controlling()
            && let Some(selected) = self.paths.selected()
        {
            self.check_path(now, selected, true);
            self.check_path(now, probing.path, false);
        }
        ROUND
    }

    /// What the engine has chosen meanwhile, if it is alive.
    fn take_held_choice(&mut self, now: Instant) {
        let before = self.paths.selected();
        let choice = self.engine_choice.filter(|path| self.paths.is_checked(*path));
        if let Some(path) = choice.filter(|path| self.takes_choice(*path)) {
            self.select_path(now, path);
        }
        if let Some(before) = before.filter(|before| self.paths.selected() != Some(*before)) {
            self.doubts.begin(now, Purpose::Confirm, before);
        }
    }

    fn trial_round(&mut self, now: Instant, probing: Probing) -> Duration {
        let Some(mut left) = self.doubts.left else { return ROUND };
        let (checks, answers) = TRIAL;
        let path = probing.path;
        let round_trip = self.paths.round_trip(path).unwrap_or_default();
        if self.paths.answers(path) >= answers {
            self.end_probing(now, Purpose::Trial);
            self.return_to(now, left);
        } else if probing.rounds < checks {
            if !self.check_path(now, path, false) {
                // Its candidates are gone.
                self.doubts.left = None;
                self.end_probing(now, Purpose::Trial);
            }
        } else if now >= probing.since + PATIENCE + 2 * round_trip {
            left.trials += 1;
            left.wait = (left.wait * 2).min(LAST_TRIAL);
            left.again = now + left.wait;
            self.doubts.left = Some(left).filter(|left| left.trials < MAX_TRIALS);
            self.end_probing(now, Purpose::Trial);
        }
        ROUND
    }

    fn return_to(&mut self, now: Instant, left: Left) {
        self.doubts.left = None;
        let Some(selected) = self.paths.selected() else { return };
        debug!(remote = %left.path.remote, "a path that was left is alive again");
        self.doubts.returned = Some((now, left.wait));
        if self.is_controlling() {
            // Whether it is the best one is for the engine to say.
            self.form_all_pairs(now);
            self.doubts.begin(now, Purpose::Confirm, left.path);
            self.run_engine(now);
        } else if !self.paths.is_nominated(selected) {
            // A peer that nominates another path has its reasons.
            self.select_path(now, left.path);
        }
    }

    /// Sends a check; false if the path has no ends any more.
    pub(crate) fn check_path(&mut self, now: Instant, path: Path, nominates: bool) -> bool {
        let Some(ends) = self.ends(path).filter(|_| !self.paths.is_barred(path)) else {
            return false;
        };
        let Some(id) = self.engine.as_mut().map(Engine::transaction_id) else { return false };
        let nominates = nominates && self.is_controlling();
        let Some(check) = self.make_check(ends, id, nominates) else { return false };
        self.send_check(now, path, (id, check), nominates);
        true
    }

    /// A check as the engine makes them.
    pub(crate) fn make_check(
        &self,
        ends: Ends,
        id: TransactionId,
        nominates: bool,
    ) -> Option<Bytes> {
        let priority = self.gathering.by_end((ends.carrier, ends.local))?.check_priority();
        let credentials = (&self.config.credentials, self.remote.as_ref()?);
        let role = (self.is_controlling(), self.config.tie_breaker);
        check(credentials, id, role, priority, nominates)
    }

    /// Whether the checks of a new selection are made here already.
    pub(crate) fn is_confirming(&self) -> bool {
        self.doubts.probing.is_some_and(|probing| probing.purpose == Purpose::Confirm)
    }
}
