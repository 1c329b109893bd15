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
const MAX_CHECK: usize = 512;

/// Of a peer that nominates a new path the old one is left after so much silence: what is still
/// under way on it, or was sent again, has come by then.
const MOVED: Duration = Duration::from_secs(1);

/// The same check without its nomination, signed anew; `None` if it is no nomination.
fn without_nomination(datagram: &[u8], password: &str) -> Option<Bytes> {
    let check = StunMessage::parse(datagram).ok().filter(StunMessage::use_candidate)?;
    let (username, priority) = (check.username()?, check.prio()?);
    let tie_breaker = check.ice_controlling()?;
    let plain = StunMessage::binding_request(
        username,
        check.trans_id(),
        true,
        tie_breaker,
        priority,
        false,
    );
    let mut bytes = [0; MAX_CHECK];
    let length = plain.to_bytes(Some(password.as_bytes()), &mut bytes, sha1_hmac).ok()?;
    Some(Bytes::copy_from_slice(&bytes[..length]))
}

impl IceAgent {
    /// A check as it is to be sent: only that of the selected pair nominates.
    pub(crate) fn check_to_send(&self, path: Path, datagram: Bytes) -> Bytes {
        let is_other = self.paths.selected().is_some_and(|selected| selected != path);
        let remote = self.remote.as_ref().filter(|_| is_other);
        remote
            .and_then(|remote| without_nomination(&datagram, &remote.password))
            .unwrap_or(datagram)
    }

    /// Whether the engine's choice is to be taken: not in place of a pair that the peer nominates
    /// by one that it does not.
    pub(crate) fn takes_choice(&self, path: Path) -> bool {
        let holds = |selected| self.paths.is_nominated(selected) && !self.paths.is_nominated(path);
        self.is_controlling()
            || self.state != IceState::Connected
            || !self.paths.selected().is_some_and(|selected| selected != path && holds(selected))
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
    fn a_check_loses_its_nomination_and_nothing_else() {
        let id = StunMessage::parse(&check(true)).unwrap().trans_id();
        for nominates in [true, false] {
            let datagram = check(nominates);
            let plain = without_nomination(&datagram, "password");
            assert_eq!(plain.is_some(), nominates);
            let Some(plain) = plain else { continue };
            let plain = StunMessage::parse(&plain).unwrap();
            assert!(!plain.use_candidate() && plain.verify(b"password", sha1_hmac));
            assert_eq!((plain.trans_id(), plain.username()), (id, Some("abcd:efgh")));
            assert_eq!((plain.prio(), plain.ice_controlling()), (Some(7), Some(9)));
        }
        assert_eq!(without_nomination(b"no STUN", "password"), None);
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
