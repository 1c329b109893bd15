//! Which of several nominated pairs counts.
//!
//! The engine repeats a nomination with every check of a pair that it has once nominated, and of
//! several nominated pairs each side takes the best by its own reckoning. Behind NATs those
//! differ, as a side knows itself by other candidates than its peer does, and the two could send
//! on different pairs for ever. So here a nomination ends when another pair is selected, and the
//! controlled side follows: it leaves a pair whose checks nominate it no more for the one that
//! they do.
//!
//! That takes until a check on each of the two has come through, and the engine would leave the
//! former path unchecked and repeat a lost check after up to a second. So the controlling side
//! makes its choice known by checks of its own ([`Announcement`]), until both are answered.

use std::time::{Duration, Instant};

use bytes::Bytes;
use is::stun::StunMessage;
use ortc_io::Path;

use crate::engine::{Ends, sha1_hmac};
use crate::{IceAgent, IceState};

/// Longest check that the engine makes: a USERNAME of 255 bytes, and the rest.
pub(crate) const MAX_CHECK: usize = 512;

/// Of a peer that nominates a new path the old one is doubted after so much silence: what is still
/// under way on it, or was sent again, has come by then.
const MOVED: Duration = Duration::from_secs(1);

/// How long after a nomination the one before is taken back for it: a few rounds of checks, with
/// some lost. A check that merely does not nominate, seconds after all pairs were nominated, takes
/// nothing back: Firefox nominates every pair, and none with its checks for consent, the first of
/// which comes 4 s later at the soonest.
const TOGETHER: Duration = Duration::from_secs(3);

/// Rounds by which a choice is made known as fast as can be.
const ROUNDS: u32 = 10;

/// Time between those after them, and how many there are: a peer that is suspended hears nothing, and
/// goes on where it was for as long as consent lasts (RFC 7675 §5.1).
const SLOW_ROUND: Duration = Duration::from_secs(2);
const SLOW_ROUNDS: u32 = 15;

/// Time between two of them, and a round trip and a half.
const ROUND: Duration = Duration::from_millis(30);

/// The same at most, on a path that answers slowly.
const LONGEST_ROUND: Duration = Duration::from_millis(500);

/// Former paths that are taken back in one round.
const TAKEN_BACK: usize = 4;

/// A choice of path that the peer is being told of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announcement {
    next: Instant,
    rounds: u32,
}

impl Announcement {
    /// When there is something to do.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }
}

/// The same check of the controlling side with a nomination, or without one, signed anew; `None`
/// if it is so already, or no such check.
fn with_nomination(datagram: &[u8], password: &str, nominates: bool) -> Option<Bytes> {
    let check = StunMessage::parse(datagram).ok()?;
    let check = Some(check).filter(|check| check.use_candidate() != nominates)?;
    let (username, priority) = (check.username()?, check.prio()?);
    let tie_breaker = check.ice_controlling()?;
    let other = StunMessage::binding_request(
        username,
        check.trans_id(),
        true,
        tie_breaker,
        priority,
        nominates,
    );
    let mut bytes = [0; MAX_CHECK];
    let length = other.to_bytes(Some(password.as_bytes()), &mut bytes, sha1_hmac).ok()?;
    Some(Bytes::copy_from_slice(&bytes[..length]))
}

impl IceAgent {
    /// A check as it is to be sent: that of the selected pair nominates, and no other one does.
    /// Returns whether it does.
    pub(crate) fn check_to_send(&self, path: Path, datagram: Bytes) -> (Bytes, bool) {
        let selected = self.paths.selected();
        let nominates = selected == Some(path) && self.state == IceState::Connected;
        let is_right = selected.is_none_or(|selected| selected == path && !nominates);
        let remote = self.remote.as_ref().filter(|_| !is_right);
        let other =
            remote.and_then(|remote| with_nomination(&datagram, &remote.password, nominates));
        let check = other.unwrap_or(datagram);
        let nominates = StunMessage::parse(&check).is_ok_and(|it| it.use_candidate());
        (check, nominates)
    }

    /// The priority of the pair of a path (RFC 8445 §6.1.2.3), as we reckon it.
    pub(crate) fn rank(&self, path: Path) -> u64 {
        let Some(Ends { carrier, local, remote }) = self.ends(path) else { return 0 };
        let ours = self.gathering.by_end((carrier, local)).map(|it| it.description.priority);
        let theirs = self.remotes.describe((carrier, remote)).map(|it| it.priority);
        let (ours, theirs) = (u64::from(ours.unwrap_or(0)), u64::from(theirs.unwrap_or(0)));
        (ours.min(theirs) << 32) + 2 * ours.max(theirs)
    }

    /// Another path was selected: begins to make it known.
    pub(crate) fn announce(&mut self, now: Instant) {
        if self.is_controlling() {
            self.announcement = Some(Announcement { next: now, rounds: 0 });
        }
    }

    /// Does what is due to make the selected path known: checks nominate it until one of them is
    /// answered, and those of paths before it take that back.
    pub(crate) fn run_announcement(&mut self, now: Instant) {
        let Some(announcement) = self.announcement.filter(|it| it.next <= now) else { return };
        let selected = self.paths.selected().filter(|_| self.state == IceState::Connected);
        let Some(selected) = selected.filter(|_| self.is_controlling()) else {
            self.announcement = None;
            return;
        };
        let mut is_known = self.paths.is_agreed(selected);
        // The engine has just made the first check.
        if !is_known && announcement.rounds > 0 && !self.is_confirming() {
            self.check_path(now, selected, true);
        }
        for former in self.paths.still_named(now).into_iter().take(TAKEN_BACK) {
            is_known = false;
            if !self.is_confirming() {
                self.check_path(now, former, false);
            }
        }
        let is_over = is_known || announcement.rounds >= ROUNDS + SLOW_ROUNDS;
        let round_trip = self.paths.round_trip(selected).unwrap_or_default();
        let period = if announcement.rounds < ROUNDS {
            (ROUND + round_trip.mul_f64(1.5)).min(LONGEST_ROUND)
        } else {
            SLOW_ROUND
        };
        let next = Announcement { next: now + period, rounds: announcement.rounds + 1 };
        self.announcement = Some(next).filter(|_| !is_over);
    }

    /// Whether the engine's choice is to be taken: by the controlling side not in place of one that
    /// is better known to be alive, by the other one not in place of a pair that the peer nominates
    /// by one that it does not.
    pub(crate) fn takes_choice(&self, path: Path) -> bool {
        let selected = self.paths.selected().filter(|selected| *selected != path);
        let Some(selected) = selected.filter(|_| self.state == IceState::Connected) else {
            return true;
        };
        if self.is_controlling() {
            if self.doubts.holds_choice(path) {
                return false;
            }
            // What has once worked may have died since, unlike the one that was just answered.
            return self.paths.is_checked(path) || !self.paths.is_checked(selected);
        }
        !self.paths.is_nominated(selected) || self.paths.is_nominated(path)
    }

    /// A check of ours was answered on a path: as long as nothing is nominated, the controlled side
    /// sends on the first one that works (RFC 8445 §12.1.1), so that a handshake waits for no
    /// nomination, and for none that is lost.
    pub(crate) fn take_first_valid(&mut self, now: Instant, path: Path) {
        let is_searching = self.state == IceState::Checking && self.paths.selected().is_none();
        if is_searching && !self.is_controlling() && self.paths.is_answered(path) {
            self.select_path(now, path);
        }
    }

    /// An authenticated check has come in on a path; the controlled side heeds what it nominates.
    pub(crate) fn follow_nomination(&mut self, now: Instant) {
        let Some(selected) = self.paths.selected() else { return };
        if self.is_controlling() || self.state != IceState::Connected {
            return;
        }
        let nominated = self.paths.last_nominated().filter(|path| *path != selected);
        let Some(path) = nominated else { return };
        if !self.paths.is_nominated(selected) && self.paths.is_for(selected, path, TOGETHER) {
            self.select_path(now, path);
        } else if self.paths.has_moved(now, selected, path, MOVED) {
            // Behind a NAT that has forgotten it, a peer nominates the path that it had, and here it
            // is another one: the old one is dead. A peer that nominates all that it checks does so
            // as well when a check of ours has it check a spare, and has gone nowhere: seconds pass
            // between two checks of the selected path, so that silence there proves nothing.
            self.doubt(now, selected);
        }
    }

    /// The selected path is silent: what was nominated counts no more, and the engine's own
    /// choice is next.
    pub(crate) fn leave_nomination(&mut self, now: Instant) {
        self.paths.forget_nominations();
        let choice = self.engine_choice.filter(|path| self.paths.is_checked(*path));
        if let Some(path) = choice.filter(|path| self.paths.selected() != Some(*path)) {
            self.select_path(now, path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_loses_or_gets_its_nomination_and_nothing_else() {
        let id = StunMessage::parse(&check(true)).unwrap().trans_id();
        for nominates in [true, false] {
            let datagram = check(nominates);
            assert_eq!(with_nomination(&datagram, "password", nominates), None, "it is so");
            let other = with_nomination(&datagram, "password", !nominates).unwrap();
            let other = StunMessage::parse(&other).unwrap();
            assert_eq!(other.use_candidate(), !nominates);
            assert!(other.verify(b"password", sha1_hmac));
            assert_eq!((other.trans_id(), other.username()), (id, Some("abcd:efgh")));
            assert_eq!((other.prio(), other.ice_controlling()), (Some(7), Some(9)));
        }
        assert_eq!(with_nomination(b"no STUN", "password", false), None);
    }

    fn check(nominates: bool) -> Vec<u8> {
        // The engine lets nobody make an identifier, but any message has one to take.
        let indication = [&[0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[5; 12]].concat();
        let id = StunMessage::parse(&indication).unwrap().trans_id();
        let check = StunMessage::binding_request("abcd:efgh", id, true, 9, 7, nominates);
        let mut bytes = [0; MAX_CHECK];
        let length = check.to_bytes(Some(b"password"), &mut bytes, sha1_hmac).unwrap();
        bytes[..length].to_vec()
    }
}
