//! Whether media still comes on the path that a connection sends on.
//!
//! A path dies without a word: nothing says so but that what came on it comes no more. ICE asks
//! for consent every five seconds only, and media 50 times in one; so the media thread listens,
//! and has ICE look after a path that has fallen silent, or whose peer sends on another one. A
//! false alarm costs one check, as a peer may just have nothing to say.

use std::time::{Duration, Instant};

use ortc_io::Path;

/// Shortest silence that tells: no buffer of a receiver hides it, and 25 packets of 20 ms are lost
/// at once by no network that works.
const SHORTEST: Duration = Duration::from_millis(500);

/// Longest silence that tells; after another two seconds consent is overdue.
const LONGEST: Duration = Duration::from_secs(5);

/// A silence tells if it is so many times as long as those that this connection has.
const UNUSUAL: u32 = 3;

/// What is taken for the longest gap of a connection at most, so that an outage is forgotten in
/// some seconds.
const LONGEST_USUAL: Duration = Duration::from_secs(2);

/// How often the longest gap of late is forgotten by an eighth.
const FORGETTING: Duration = Duration::from_secs(1);

/// For how long, and by how many packets, a peer sends on another path before that tells: when
/// both sides move to a new path, one is first.
const ELSEWHERE: (Duration, u32) = (Duration::from_millis(300), 2);

/// What is heard of one connection.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    /// Where the connection sends.
    path: Option<Path>,
    /// When something last came on that path.
    heard: Option<Instant>,
    /// Whether its silence has not been told since.
    is_listening: bool,
    /// The longest gap of late.
    usual: Duration,
    forget_at: Option<Instant>,
    /// Since when the peer sends on another path alone, and how many packets.
    elsewhere: Option<(Instant, u32)>,
}

impl Hearing {
    /// The connection sends on this path from now on.
    pub(crate) fn follow(&mut self, path: Option<Path>) {
        if self.path != path {
            *self = Self { path, usual: self.usual, ..Self::default() };
        }
    }

    /// Something authenticated has come on a path; returns whether there is reason to doubt the
    /// one that is sent on.
    pub(crate) fn hear(&mut self, now: Instant, path: Path) -> bool {
        if self.path != Some(path) {
            return self.path.is_some() && self.hear_elsewhere(now);
        }
        self.elsewhere = None;
        if let Some(heard) = self.heard.replace(now) {
            let gap = now.saturating_duration_since(heard).min(LONGEST_USUAL);
            self.usual = self.usual.max(gap);
        }
        self.is_listening = true;
        false
    }

    fn hear_elsewhere(&mut self, now: Instant) -> bool {
        let (since, count) = self.elsewhere.map_or((now, 1), |(since, n)| (since, n + 1));
        let (time, packets) = ELSEWHERE;
        let tells = count > packets && now.saturating_duration_since(since) >= time;
        // Told again only after as long once more.
        self.elsewhere = (!tells).then_some((since, count));
        tells
    }

    /// When the silence tells, if nothing comes until then.
    pub(crate) fn deadline(&self) -> Option<(Instant, &'static str)> {
        let heard = self.heard.filter(|_| self.is_listening)?;
        Some((heard + self.patience(), "the peer has fallen silent"))
    }

    /// As long as may be where nothing is known of how often something comes.
    fn patience(&self) -> Duration {
        let known = !self.usual.is_zero();
        if known { (self.usual * UNUSUAL).clamp(SHORTEST, LONGEST) } else { LONGEST }
    }

    /// Lets time pass; returns the path that has fallen silent.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Path> {
        let (at, _) = self.deadline()?;
        if now >= at {
            self.is_listening = false;
            return self.path;
        }
        if self.forget_at.is_none_or(|at| at <= now) {
            self.forget_at = Some(now + FORGETTING);
            self.usual -= self.usual / 8;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ortc_io::SocketId;

    fn path(port: u16) -> Path {
        Path::plain(SocketId { slot: 0, generation: 0 }, ([192, 0, 2, 1], port).into())
    }

    /// Has a packet come every `gap` milliseconds for `seconds`, and tells what is doubted.
    fn hear_for(hearing: &mut Hearing, from: Instant, gap: u64, seconds: u64) -> (Instant, usize) {
        let (mut now, mut doubts) = (from, 0);
        for _ in 0..seconds * 1000 / gap {
            assert!(!hearing.hear(now, path(1)));
            let next = now + Duration::from_millis(gap);
            while let Some((at, _)) = hearing.deadline().filter(|(at, _)| *at <= next) {
                doubts += usize::from(hearing.handle_timeout(at).is_some());
            }
            hearing.handle_timeout(next);
            now = next;
        }
        (now, doubts)
    }

    #[test]
    fn sound_that_stops_is_missed_after_half_a_second_and_once() {
        let (mut hearing, start) = (Hearing::default(), Instant::now());
        hearing.follow(Some(path(1)));
        assert_eq!(hearing.deadline(), None, "nothing has come yet");
        let (end, doubts) = hear_for(&mut hearing, start, 20, 10);
        assert_eq!(doubts, 0);
        let (at, _) = hearing.deadline().unwrap();
        assert_eq!(at, end - Duration::from_millis(20) + SHORTEST);
        assert_eq!(hearing.handle_timeout(at), Some(path(1)));
        assert_eq!((hearing.deadline(), hearing.handle_timeout(at + LONGEST)), (None, None));
        hearing.hear(at + LONGEST, path(1));
        assert!(hearing.deadline().is_some(), "and again once it is back");
    }

    #[test]
    fn gaps_that_a_connection_has_anyway_are_learned_and_forgotten() {
        let (mut hearing, start) = (Hearing::default(), Instant::now());
        hearing.follow(Some(path(1)));
        // A picture a second.
        let (now, doubts) = hear_for(&mut hearing, start, 1000, 60);
        assert_eq!(doubts, 0);
        // Sound again: after a while its silence is missed as soon as ever.
        let (end, _) = hear_for(&mut hearing, now, 20, 30);
        assert_eq!(hearing.deadline().unwrap().0, end - Duration::from_millis(20) + SHORTEST);
    }

    #[test]
    fn a_peer_that_sends_elsewhere_is_noticed_but_for_what_was_on_its_way() {
        let (mut hearing, now) = (Hearing::default(), Instant::now());
        hearing.follow(Some(path(1)));
        let after = |ms| now + Duration::from_millis(ms);
        assert!(!hearing.hear(after(0), path(2)) && !hearing.hear(after(400), path(2)));
        assert!(hearing.hear(after(500), path(2)));
        assert!(!hearing.hear(after(510), path(2)), "not with every packet");
        hearing.hear(after(520), path(1));
        assert!(!hearing.hear(after(900), path(2)) && !hearing.hear(after(901), path(2)));
        hearing.follow(Some(path(2)));
        assert!(!hearing.hear(after(2000), path(2)), "that is where it sends now");
        hearing.follow(None);
        assert!(!hearing.hear(after(3000), path(2)));
    }
}
