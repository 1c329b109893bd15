use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ortc_io::{Encapsulation, Path, PathUpdate, SocketId};

/// Most paths that are known at once, as many as a socket port keeps for a connection.
const MAX_PATHS: usize = 256;

/// Most paths that are remembered as taken; the oldest are forgotten first.
const MAX_BARRED: usize = 64;

/// How many bytes go out for each that has come, to an address that nobody has told of and that
/// has not answered: its requests may be replayed. A response and two checks are less, so a
/// single request is enough to validate a path.
const AMPLIFICATION: usize = 3;

/// What is known of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    path: Path,
    /// Since when it is known.
    since: Instant,
    /// When an authenticated datagram last came in on it.
    heard: Instant,
    /// When a response last came in on it; `None` while it is only authenticated.
    answered: Option<Instant>,
    /// Whether that was since the pairs were formed, so that the engine knows it too.
    checked: bool,
    /// When the peer has nominated it, if it did so with its last check.
    nominated: Option<Instant>,
    /// Since when it has done so with every check.
    nominated_since: Option<Instant>,
    /// Since when its checks do not nominate it any more.
    taken_back: Option<Instant>,
    /// The time from a check to its response, the last one.
    round_trip: Option<Duration>,
    /// The least time from the first copy of a check to its response: a round trip and no less.
    longest_trip: Option<Duration>,
    /// Responses since [`Paths::count_anew`].
    answers: u32,
    /// Bytes that may go out on it before anything has been answered.
    credit: usize,
}

/// A path that we have nominated, until an answered check has taken that back.
///
/// It may be one on which nothing has come, or nothing comes any more: the peer may have heard all
/// the same.
#[derive(Debug, Clone, Copy)]
struct Named {
    path: Path,
    /// When that was sent last.
    at: Instant,
    /// Whether the peer has answered it.
    agreed: bool,
}

impl Known {
    fn new(now: Instant, path: Path) -> Self {
        Self {
            path,
            since: now,
            heard: now,
            answered: None,
            checked: false,
            nominated: None,
            nominated_since: None,
            taken_back: None,
            round_trip: None,
            longest_trip: None,
            answers: 0,
            credit: 0,
        }
    }

    fn nominated(&mut self, now: Instant, nominates: bool) {
        let was = self.taken_back.or(self.nominated.map(|_| now));
        self.taken_back = was.filter(|_| !nominates);
        self.nominated = nominates.then_some(now);
        self.nominated_since = self.nominated_since.or(Some(now)).filter(|_| nominates);
    }
}

/// Most paths that are remembered as nominated; the oldest are forgotten first.
const MAX_NAMED: usize = 32;

/// For how long that is remembered of a path on which nothing comes: consent lasts half as long.
const NAMED_FOR: Duration = Duration::from_secs(60);

/// The paths of a connection, as far up the ladder of [`PathUpdate`] as each has come.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    known: Vec<Known>,
    selected: Option<Path>,
    /// Taken by newer connections: not used any more, or the two would take them from each
    /// other for ever.
    barred: Vec<Path>,
    /// Those that the peer may take for nominated.
    named: Vec<Named>,
}

impl Paths {
    /// The path that media uses.
    pub(crate) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Forgets a path and does not use it any more; returns whether it was the selected one.
    pub(crate) fn bar(&mut self, path: Path) -> bool {
        if !self.is_barred(path) {
            if self.barred.len() >= MAX_BARRED {
                self.barred.remove(0);
            }
            self.barred.push(path);
        }
        self.named.retain(|named| named.path != path);
        self.remove(|known| known.path == path);
        self.selected.take_if(|selected| *selected == path).is_some()
    }

    pub(crate) fn is_barred(&self, path: Path) -> bool {
        self.barred.contains(&path)
    }

    /// Tries all paths again: the peer has restarted.
    pub(crate) fn lift_bars(&mut self) {
        self.barred.clear();
    }

    /// Whether something authenticated may come in on this path: it is known, or fits.
    pub(crate) fn has_room_for(&self, path: Path) -> bool {
        self.known.len() < MAX_PATHS || self.find(path).is_some()
    }

    fn add(&mut self, known: Known) {
        // Few, and kept for as long as the connection.
        self.known.reserve_exact(1);
        self.known.push(known);
    }

    /// Notes an authenticated request.
    pub(crate) fn note_request(
        &mut self,
        now: Instant,
        path: Path,
        nominates: bool,
    ) -> Option<PathUpdate> {
        if let Some(index) = self.find(path) {
            self.known[index].heard = now;
            self.known[index].nominated(now, nominates);
            return None;
        }
        let mut known = Known::new(now, path);
        known.nominated(now, nominates);
        self.add(known);
        Some(PathUpdate::Authenticated(path))
    }

    /// Notes an authenticated response to a check that was sent `first` and, at `last`, again.
    pub(crate) fn note_response(
        &mut self,
        now: Instant,
        path: Path,
        (first, last): (Instant, Instant),
    ) -> Option<PathUpdate> {
        let index = match self.find(path) {
            Some(index) => index,
            None if self.known.len() < MAX_PATHS => {
                self.add(Known::new(now, path));
                self.known.len() - 1
            }
            None => return None,
        };
        let known = &mut self.known[index];
        known.heard = now;
        known.checked = true;
        known.round_trip = Some(now.saturating_duration_since(last));
        let longest = now.saturating_duration_since(first);
        known.longest_trip = Some(known.longest_trip.map_or(longest, |least| least.min(longest)));
        known.answers = known.answers.saturating_add(1);
        let first = known.answered.replace(now).is_none();
        first.then_some(PathUpdate::Validated(path))
    }

    /// Notes that a check went out on a path, which nominates it or not.
    pub(crate) fn note_check(&mut self, now: Instant, path: Path, nominates: bool) {
        let named = self.named.iter_mut().find(|named| named.path == path);
        if !nominates {
            // It may be heard and its answer lost.
            if let Some(named) = named {
                named.agreed = false;
            }
            return;
        }
        if let Some(named) = named {
            named.at = now;
            return;
        }
        if self.named.len() >= MAX_NAMED {
            self.named.remove(0);
        }
        // Mostly it is the only one, for as long as the connection.
        self.named.reserve_exact(1);
        self.named.push(Named { path, at: now, agreed: false });
    }

    /// Notes that the peer has answered a check that was sent at `sent`, and so knows whether the
    /// path is nominated.
    pub(crate) fn note_told(&mut self, path: Path, sent: Instant, nominates: bool) {
        // Where none is found, a nomination comes late: it was taken back.
        let Some(index) = self.named.iter().position(|named| named.path == path) else { return };
        if nominates {
            self.named[index].agreed = true;
        } else if self.named[index].at < sent {
            // Of two that were sent at once, the other may be the last.
            self.named.remove(index);
        }
    }

    /// Whether the peer knows that we have nominated a path.
    pub(crate) fn is_agreed(&self, path: Path) -> bool {
        self.named.iter().any(|named| named.path == path && named.agreed)
    }

    /// Paths other than the selected one that the peer may take for nominated.
    pub(crate) fn still_named(&mut self, now: Instant) -> Vec<Path> {
        let Self { known, named, selected, .. } = self;
        named.retain(|Named { path, at, .. }| {
            let is_fresh = now.saturating_duration_since(*at) < NAMED_FOR;
            is_fresh || *selected == Some(*path) || known.iter().any(|it| it.path == *path)
        });
        named.iter().map(|named| named.path).filter(|path| Some(*path) != *selected).collect()
    }

    /// Forgets what the peer was told: it has restarted.
    pub(crate) fn forget_told(&mut self) {
        self.named.clear();
    }

    /// Has a path be checked again: the engine does not know the check that was answered.
    pub(crate) fn uncheck(&mut self, path: Path) {
        if let Some(index) = self.find(path) {
            self.known[index].checked = false;
        }
    }

    /// Has the paths that `again` names be checked again.
    pub(crate) fn check_again_where(&mut self, again: impl Fn(Path) -> bool) {
        let known = self.known.iter_mut().filter(|known| again(known.path));
        known.for_each(|known| known.checked = false);
    }

    /// Counts responses from zero.
    pub(crate) fn count_anew(&mut self) {
        self.known.iter_mut().for_each(|known| known.answers = 0);
    }

    /// Responses on a path since then.
    pub(crate) fn answers(&self, path: Path) -> u32 {
        self.find(path).map_or(0, |index| self.known[index].answers)
    }

    /// The time from a check on a path to its response, the last one.
    pub(crate) fn round_trip(&self, path: Path) -> Option<Duration> {
        self.find(path).and_then(|index| self.known[index].round_trip)
    }

    /// How long a round trip on a path takes at most.
    pub(crate) fn longest_trip(&self, path: Path) -> Option<Duration> {
        self.find(path).and_then(|index| self.known[index].longest_trip)
    }

    /// The best of the other paths that have had as many responses as `answers`: one that the
    /// peer has nominated, the last one first, or that with the most.
    pub(crate) fn best_answered(&self, other_than: Path, answers: u32) -> Option<Path> {
        let others = self.known.iter().filter(|known| known.path != other_than);
        let alive = others.filter(|known| known.answers >= answers);
        alive.max_by_key(|known| (known.nominated, known.answers)).map(|known| known.path)
    }

    /// Notes that an authenticated request of so many bytes has come on a path.
    pub(crate) fn credit(&mut self, path: Path, bytes: usize) {
        if let Some(index) = self.find(path) {
            let credit = &mut self.known[index].credit;
            *credit = credit.saturating_add(bytes.saturating_mul(AMPLIFICATION));
        }
    }

    /// Takes so many bytes from what may go out on a path on which nothing has been answered;
    /// whether they may.
    pub(crate) fn spend(&mut self, path: Path, bytes: usize) -> bool {
        let Some(index) = self.find(path) else { return true };
        let Known { answered, credit, .. } = &mut self.known[index];
        if answered.is_some() {
            return true;
        }
        let left = credit.checked_sub(bytes);
        *credit = left.unwrap_or(*credit);
        left.is_some()
    }

    /// Whether a path has been answered since the pairs were formed.
    pub(crate) fn is_checked(&self, path: Path) -> bool {
        self.find(path).is_some_and(|index| self.known[index].checked)
    }

    /// Whether a path has ever been answered, and not been lost since.
    pub(crate) fn is_answered(&self, path: Path) -> bool {
        self.find(path).is_some_and(|index| self.known[index].answered.is_some())
    }

    /// How many have been, of those that are no streams.
    pub(crate) fn count_checked(&self) -> usize {
        let is_stream = |path: Path| path.encapsulation == Encapsulation::Rfc4571;
        self.known.iter().filter(|known| known.checked && !is_stream(known.path)).count()
    }

    /// Whether something authenticated has come on a socket.
    pub(crate) fn is_on(&self, socket: SocketId) -> bool {
        self.known.iter().any(|known| known.path.socket == socket)
    }

    /// Whether a check has been answered on a socket.
    pub(crate) fn is_checked_on(&self, socket: SocketId) -> bool {
        self.known.iter().any(|known| known.path.socket == socket && known.answered.is_some())
    }

    /// Whether the peer's last check on it has nominated it.
    pub(crate) fn is_nominated(&self, path: Path) -> bool {
        self.find(path).is_some_and(|index| self.known[index].nominated.is_some())
    }

    /// The validated path that the peer has nominated last and still does.
    pub(crate) fn last_nominated(&self) -> Option<Path> {
        let nominated = self.known.iter().filter(|known| known.answered.is_some());
        let nominated = nominated.filter_map(|known| Some((known.nominated?, known.path)));
        nominated.max_by_key(|(at, _)| *at).map(|(_, path)| path)
    }

    /// Whether the peer has taken back its nomination of one path, if there was any, for that of the
    /// other: that one came later, or no more than `before` it.
    pub(crate) fn is_for(&self, from: Path, to: Path, before: Duration) -> bool {
        let (Some(from), Some(to)) = (self.find(from), self.find(to)) else { return true };
        let (from, to) = (&self.known[from], &self.known[to]);
        from.taken_back
            .is_none_or(|at| to.nominated.is_some_and(|nominated| nominated + before >= at))
    }

    /// Whether the peer looks to have moved from one path to another: nothing has come on the
    /// first since the second is known or nominated, nor for `silence`.
    pub(crate) fn has_moved(&self, now: Instant, from: Path, to: Path, silence: Duration) -> bool {
        let (Some(from), Some(to)) = (self.find(from), self.find(to)) else { return false };
        let (from, to) = (&self.known[from], &self.known[to]);
        let begun = to.nominated_since.map_or(to.since, |since| to.since.max(since));
        begun > from.heard && now.saturating_duration_since(from.heard) >= silence
    }

    /// Forgets what the peer has nominated.
    pub(crate) fn forget_nominations(&mut self) {
        for known in &mut self.known {
            (known.nominated, known.nominated_since, known.taken_back) = (None, None, None);
        }
    }

    /// Has all paths be checked again: the pairs are formed anew.
    pub(crate) fn check_again(&mut self) {
        self.known.iter_mut().for_each(|known| known.checked = false);
    }

    /// Makes a path the selected one; returns when a response last came in on it.
    pub(crate) fn select(&mut self, path: Path) -> Option<Instant> {
        self.selected = Some(path);
        self.find(path).and_then(|index| self.known[index].answered)
    }

    /// Notes that a path was last answered then, as somebody else has seen.
    pub(crate) fn vouch(&mut self, path: Path, answered: Instant) {
        if let Some(index) = self.find(path) {
            let known = &mut self.known[index];
            known.heard = known.heard.max(answered);
            known.answered = known.answered.max(Some(answered));
        }
    }

    /// Forgets every path of a socket that is gone.
    pub(crate) fn remove_socket(&mut self, socket: SocketId) -> Vec<Path> {
        if self.selected.is_some_and(|path| path.socket == socket) {
            self.selected = None;
        }
        self.named.retain(|named| named.path.socket != socket);
        self.remove(|known| known.path.socket == socket)
    }

    /// Forgets every path that `gone` names, be it the selected one.
    pub(crate) fn remove_where(&mut self, gone: impl Fn(Path) -> bool) -> Vec<Path> {
        self.selected.take_if(|path| gone(*path));
        self.named.retain(|named| !gone(named.path));
        self.remove(|known| gone(known.path))
    }

    /// Forgets every path through a relay that is gone.
    pub(crate) fn remove_relayed(&mut self, socket: SocketId, server: SocketAddr) -> Vec<Path> {
        self.remove_where(|path| {
            matches!(path.encapsulation, Encapsulation::ChannelData(_))
                && (path.socket, path.remote) == (socket, server)
        })
    }

    /// Whether a path is in use, or may be soon.
    pub(crate) fn is_known(&self, path: Path) -> bool {
        self.selected == Some(path) || self.find(path).is_some()
    }

    /// Forgets every path but the selected one on which nothing was heard for `idle`.
    pub(crate) fn expire(&mut self, now: Instant, idle: Duration) -> Vec<Path> {
        let selected = self.selected;
        self.remove(|known| {
            Some(known.path) != selected && now.saturating_duration_since(known.heard) >= idle
        })
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn next_expiry(&self, idle: Duration) -> Option<Instant> {
        let others = self.known.iter().filter(|known| Some(known.path) != self.selected);
        others.map(|known| known.heard + idle).min()
    }

    /// The selected path and at most `spares` validated ones, those on other sockets and
    /// heard from lately first: what is worth being checked in the long run.
    pub(crate) fn worth_keeping(&self, spares: usize) -> Vec<Path> {
        let mut kept: Vec<Path> = self.selected.into_iter().collect();
        let mut others: Vec<&Known> = self
            .known
            .iter()
            .filter(|known| known.answered.is_some() && Some(known.path) != self.selected)
            .collect();
        others.sort_by_key(|known| std::cmp::Reverse(known.answered));
        for other_socket_only in [true, false] {
            for known in &others {
                let taken = kept.iter().any(|kept| {
                    *kept == known.path || other_socket_only && kept.socket == known.path.socket
                });
                if !taken && kept.len() < spares + usize::from(self.selected.is_some()) {
                    kept.push(known.path);
                }
            }
        }
        kept
    }

    fn find(&self, path: Path) -> Option<usize> {
        self.known.iter().position(|known| known.path == path)
    }

    /// Removes what `gone` names and returns those that had been validated or more.
    fn remove(&mut self, gone: impl Fn(&Known) -> bool) -> Vec<Path> {
        let lost = self.known.iter().filter(|known| gone(known)).map(|known| known.path).collect();
        self.known.retain(|known| !gone(known));
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(slot: u32, port: u16) -> Path {
        Path::plain(SocketId { slot, generation: 0 }, ([192, 0, 2, 1], port).into())
    }

    #[test]
    fn a_path_goes_up_the_ladder_once() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        let p = path(0, 1);
        assert_eq!(paths.note_request(now, p, false), Some(PathUpdate::Authenticated(p)));
        assert_eq!(paths.note_request(now, p, false), None);
        assert!(!paths.is_answered(p));
        assert_eq!(paths.note_response(now, p, (now, now)), Some(PathUpdate::Validated(p)));
        assert_eq!(paths.note_response(now, p, (now, now)), None);
        assert!(paths.is_answered(p));
        assert_eq!(paths.select(p), Some(now));
    }

    #[test]
    fn a_peer_has_moved_when_a_new_path_comes_up_and_the_old_one_is_silent() {
        let (mut paths, start) = (Paths::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        let (old, new, silence) = (path(0, 1), path(0, 2), Duration::from_secs(1));
        paths.note_request(start, old, true);
        paths.note_request(after(500), new, true);
        assert!(!paths.has_moved(after(999), old, new, silence), "it may be late");
        assert!(paths.has_moved(after(1000), old, new, silence));
        assert!(!paths.has_moved(after(5000), new, old, silence), "the old one is no news");
        paths.note_request(after(1500), old, true);
        assert!(!paths.has_moved(after(5000), old, new, silence), "both are there");
        assert!(!paths.has_moved(after(5000), old, path(0, 3), silence));
    }

    #[test]
    fn a_nomination_is_taken_back_by_a_later_check_that_was_answered() {
        let (mut paths, start) = (Paths::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        let (old, new) = (path(0, 1), path(0, 2));
        for path in [old, new] {
            paths.note_response(start, path, (start, start));
        }
        paths.note_check(after(1), old, true);
        paths.note_told(old, after(1), true);
        assert!(paths.is_agreed(old) && !paths.is_agreed(new));
        paths.select(new);
        assert_eq!(paths.still_named(after(3)), [old]);
        paths.note_told(old, after(1), false);
        assert_eq!(paths.still_named(after(3)), [old], "that was sent before, perhaps");
        paths.note_told(old, after(2), false);
        assert_eq!(paths.still_named(after(3)), []);
        paths.note_told(old, after(1), true);
        assert!(!paths.is_agreed(old), "it came late");
    }

    #[test]
    fn a_nomination_of_a_path_on_which_nothing_comes_is_remembered_while_the_peer_may_use_it() {
        let (mut paths, start) = (Paths::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let [silent, old, new] = [1, 2, 3].map(|port| path(0, port));
        paths.note_check(start, silent, true);
        paths.note_response(start, old, (start, start));
        paths.note_check(start, old, true);
        paths.select(new);
        assert_eq!(paths.expire(after(10), Duration::from_secs(10)), [old]);
        assert_eq!(paths.still_named(after(59)), [silent, old]);
        assert_eq!(paths.still_named(after(60)), []);
    }

    #[test]
    fn spares_are_on_other_sockets_if_there_are_any() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        for p in [path(0, 1), path(0, 2), path(0, 3), path(1, 1)] {
            paths.note_response(now, p, (now, now));
        }
        paths.note_request(now, path(2, 1), false);
        paths.select(path(0, 1));
        assert_eq!(paths.worth_keeping(2), [path(0, 1), path(1, 1), path(0, 2)]);
    }

    #[test]
    fn a_silent_path_is_lost_but_for_the_selected_one() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        let idle = Duration::from_secs(40);
        paths.note_response(now, path(0, 1), (now, now));
        paths.note_response(now, path(0, 2), (now, now));
        paths.select(path(0, 1));
        assert_eq!(paths.next_expiry(idle), Some(now + idle));
        assert_eq!(paths.expire(now + idle, idle), [path(0, 2)]);
        assert_eq!(paths.next_expiry(idle), None);
        assert_eq!(paths.remove_socket(path(0, 1).socket), [path(0, 1)]);
        assert_eq!(paths.selected(), None);
    }

    #[test]
    fn a_barred_path_is_gone_and_the_number_of_bars_is_bounded() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        paths.note_response(now, path(0, 1), (now, now));
        paths.select(path(0, 1));
        assert!(!paths.bar(path(0, 2)));
        assert!(paths.bar(path(0, 1)));
        assert!(!paths.bar(path(0, 1)), "twice is once");
        assert_eq!((paths.selected(), paths.is_barred(path(0, 1))), (None, true));
        for port in 100..200 {
            paths.bar(path(0, port));
        }
        assert!(!paths.is_barred(path(0, 1)) && paths.is_barred(path(0, 199)));
        assert_eq!(paths.barred.len(), MAX_BARRED);
        paths.lift_bars();
        assert!(!paths.is_barred(path(0, 199)));
    }

    #[test]
    fn the_number_of_paths_is_bounded() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        for port in 1..=256 {
            assert!(paths.has_room_for(path(0, port)));
            paths.note_request(now, path(0, port), false);
        }
        assert!(!paths.has_room_for(path(0, 257)));
        assert!(paths.has_room_for(path(0, 256)));
        assert_eq!(paths.note_response(now, path(0, 257), (now, now)), None);
    }
}
