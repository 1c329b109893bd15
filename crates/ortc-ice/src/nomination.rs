//! Which of several nominated pairs counts.
//!
//! The engine repeats a nomination with every check of a pair that it has once nominated, and of
//! several nominated pairs each side takes the best by its own reckoning. Behind NATs those
//! differ, as a side knows itself by other candidates than its peer does, and the two could send
//! on different pairs for ever. So here a nomination ends when another pair is selected, and the
//! controlled side follows: it leaves a pair whose checks nominate it no more for the one that
//! they do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use is::stun::StunMessage;
use ortc_io::Path;

use crate::engine::sha1_hmac;
use crate::{IceAgent, IceState};

/// Longest check that the engine makes: a USERNAME of 255 bytes, and the rest.
pub(crate) const MAX_CHECK: usize = 512;

/// Of a peer that nominates a new path the old one is left after so much silence: what is still
/// under way on it, or was sent again, has come by then.
const MOVED: Duration = Duration::from_secs(1);

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
    pub(crate) fn check_to_send(&self, path: Path, datagram: Bytes) -> Bytes {
        let Some(selected) = self.paths.selected() else { return datagram };
        let nominates = selected == path && self.state == IceState::Connected;
        let is_right = selected == path && !nominates;
        let remote = self.remote.as_ref().filter(|_| !is_right);
        remote
            .and_then(|remote| with_nomination(&datagram, &remote.password, nominates))
            .unwrap_or(datagram)
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

    /// An authenticated check has come in on a path; the controlled side heeds what it nominates.
    pub(crate) fn follow_nomination(&mut self, now: Instant) {
        let Some(selected) = self.paths.selected() else { return };
        if self.is_controlling() || self.state != IceState::Connected {
            return;
        }
        let nominated = self.paths.last_nominated().filter(|path| *path != selected);
        let Some(path) = nominated else { return };
        // Behind a NAT that has forgotten it, a peer nominates the path that it had, and here it is
        // another one. Where both are alive, as with peers that nominate all, neither is left so.
        if !self.paths.is_nominated(selected) || self.paths.has_moved(now, selected, path, MOVED) {
            self.select_path(now, path);
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
