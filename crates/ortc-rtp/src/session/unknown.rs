//! Tracks of the peer that nobody has described, or not yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::RtpSession;
use crate::ext_headers::read_ext_headers;
use crate::view::{FIXED_HEADER, u32_at};
use crate::{PayloadType, RouteEvent, RtpView, Ssrc, UnknownTrack};

/// What may be kept of tracks that nobody has described yet, of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyLimits {
    /// How long a packet waits for a description. Default 3 s: signalling that is slower than
    /// that is broken, and a track that is never described holds no more.
    pub kept_for: Duration,
    /// Packets. Default 2,048: what the reader of a video track takes in one go.
    pub packets: usize,
    /// Bytes. Default 2 MiB: 3 s of 5 Mbit/s.
    pub bytes: usize,
    /// Tracks. Default 32: SRTP keeps the indices of 512 SSRCs and can forget none, and those
    /// that are described need room as well.
    pub tracks: usize,
}

impl Default for EarlyLimits {
    fn default() -> Self {
        Self { kept_for: Duration::from_secs(3), packets: 2_048, bytes: 2 << 20, tracks: 32 }
    }
}

/// How long a track that says nothing of itself may be unknown before it is told of: a
/// description that is right behind makes it known. One that has pairs is told of at once.
const GRACE: Duration = Duration::from_millis(200);

/// How many unknown tracks are told of in a second; others wait for the next.
const EVENTS_PER_SECOND: u8 = 8;

/// SSRCs of which the application wants no more, whose packets may still come.
const MAX_LET_GO: usize = 64;

/// What has come of tracks that nobody has described.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    /// Sorted by SSRC. They stay when their packets have expired: each is told of once.
    tracks: Vec<Track>,
    /// Opened packets, oldest first.
    packets: VecDeque<EarlyPacket>,
    bytes: usize,
    let_go: VecDeque<Ssrc>,
    /// When the second began in which events are counted, and how many there were in it.
    told: Option<(Instant, u8)>,
}

#[derive(Debug)]
struct Track {
    ssrc: Ssrc,
    payload_type: PayloadType,
    /// The lines of its pairs.
    pairs: Box<[u8]>,
    /// When it is to be told of; `None` once it was.
    due: Option<Instant>,
    /// Whether packets of it are missing here that have come.
    has_gaps: bool,
}

#[derive(Debug)]
pub(super) struct EarlyPacket {
    pub(super) received_at: Instant,
    ssrc: Ssrc,
    pub(super) index: u64,
    pub(super) packet: Box<[u8]>,
}

impl Unknown {
    /// Keeps a copy of an opened packet; returns how many packets that has cost.
    fn keep(
        &mut self,
        limits: &EarlyLimits,
        (now, index): (Instant, u64),
        packet: (&RtpView<'_>, &[u8]),
        pairs: Option<&[u8]>,
    ) -> u64 {
        let (view, bytes) = packet;
        let (ssrc, payload_type) = (view.ssrc(), view.payload_type());
        if self.let_go.contains(&ssrc) {
            return 1;
        }
        let expired = self.expire(limits, now);
        let at = match self.tracks.binary_search_by_key(&ssrc, |track| track.ssrc) {
            Ok(at) => at,
            Err(_) if self.tracks.len() >= limits.tracks => return expired + 1,
            Err(at) => {
                let due = Some(now + GRACE);
                let pairs = Box::default();
                self.tracks.insert(at, Track { ssrc, payload_type, pairs, due, has_gaps: false });
                at
            }
        };
        let track = &mut self.tracks[at];
        if let Some(pairs) = pairs.filter(|pairs| **pairs != *track.pairs) {
            track.pairs = pairs.into();
            track.due = Some(now);
        }
        let is_full =
            self.packets.len() >= limits.packets || self.bytes + bytes.len() > limits.bytes;
        if is_full {
            // The oldest stay: a track begins with a key frame.
            track.has_gaps = true;
            return expired + 1;
        }
        self.bytes += bytes.len();
        self.packets.push_back(EarlyPacket { received_at: now, ssrc, index, packet: bytes.into() });
        expired
    }

    /// Drops what has waited too long; returns how many.
    fn expire(&mut self, limits: &EarlyLimits, now: Instant) -> u64 {
        let kept_for = limits.kept_for;
        let kept = self.packets.partition_point(|early| early.received_at + kept_for < now);
        for early in self.packets.drain(..kept) {
            self.bytes -= early.packet.len();
            let at = self.tracks.binary_search_by_key(&early.ssrc, |track| track.ssrc);
            if let Ok(at) = at {
                self.tracks[at].has_gaps = true;
            }
        }
        kept as u64
    }

    /// Takes out a track that is described now: what is here of it, and whether that is not all
    /// that has come.
    fn take(&mut self, ssrc: Ssrc) -> (Vec<EarlyPacket>, bool) {
        self.let_go.retain(|other| *other != ssrc);
        let Ok(at) = self.tracks.binary_search_by_key(&ssrc, |track| track.ssrc) else {
            return (Vec::new(), false);
        };
        let track = self.tracks.remove(at);
        let (mut taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.packets).into_iter().partition(|early| early.ssrc == ssrc);
        self.packets = left.into();
        // Whoever reads them would not wait for one that was overtaken: its time is long over.
        taken.sort_by_key(|early| early.index);
        self.bytes -= taken.iter().map(|early| early.packet.len()).sum::<usize>();
        (taken, track.has_gaps)
    }

    /// Has packets of a track dropped that the application wants no more of.
    fn let_go(&mut self, ssrc: Ssrc) {
        if self.let_go.len() == MAX_LET_GO {
            self.let_go.pop_front();
        }
        self.let_go.push_back(ssrc);
    }

    /// When an event may be told, no earlier than `due`.
    fn may_tell_at(&self, due: Instant) -> Instant {
        match self.told {
            Some((since, EVENTS_PER_SECOND..)) => due.max(since + Duration::from_secs(1)),
            _ => due,
        }
    }

    /// The next track to be told of at `now`.
    fn poll_due(&mut self, now: Instant) -> Option<UnknownTrack> {
        let due = |track: &Track| track.due.is_some_and(|due| due <= now);
        let at = self.tracks.iter().position(due)?;
        if self.may_tell_at(now) > now {
            return None;
        }
        self.told = Some(match self.told {
            Some((since, count)) if now < since + Duration::from_secs(1) => (since, count + 1),
            _ => (now, 1),
        });
        let track = &mut self.tracks[at];
        track.due = None;
        Some(UnknownTrack {
            ssrc: track.ssrc,
            payload_type: track.payload_type,
            ext_headers: read_ext_headers(&track.pairs).unwrap_or_default(),
        })
    }

    fn poll_timeout(&self, limits: &EarlyLimits) -> Option<(Instant, &'static str)> {
        let expires = self.packets.front().map(|early| {
            // A moment later than the last at which it may be delivered.
            let at = early.received_at + limits.kept_for + Duration::from_millis(1);
            (at, "packets of unknown tracks expire")
        });
        let due = self.tracks.iter().filter_map(|track| track.due).min();
        let due = due.map(|due| (self.may_tell_at(due), "an unknown track is told of"));
        expires.into_iter().chain(due).min_by_key(|(at, _)| *at)
    }

    fn is_idle(&self) -> bool {
        self.tracks.is_empty() && self.packets.is_empty() && self.let_go.is_empty()
    }
}

impl RtpSession {
    /// Keeps an opened packet that no receiver is there for, and finds out what track it is of.
    pub(super) fn keep_early(
        &mut self,
        now: Instant,
        index: u64,
        packet: &RtpView<'_>,
        bytes: &[u8],
    ) {
        // The last one counts, and a malformed one ends the list.
        let elements = packet.extensions().map_while(Result::ok);
        let pairs = elements.filter(|element| element.id == self.ext_headers_id).last();
        let pairs = pairs.map(|element| element.data);
        let pairs = pairs.filter(|data| read_ext_headers(data).is_some());
        let limits = &self.early_limits;
        let unknown = self.unknown.get_or_insert_default();
        let dropped = unknown.keep(limits, (now, index), (packet, bytes), pairs);
        self.stats.receive_drops.unknown_ssrc += dropped;
        self.tell_of_unknown(now);
    }

    /// The newest packet that is kept of each track that nobody has described.
    pub(super) fn early_packets(&self) -> Vec<(Ssrc, Box<[u8]>)> {
        let Some(unknown) = &self.unknown else { return Vec::new() };
        let of = |track: &Track| {
            let mut packets = unknown.packets.iter().rev();
            let newest = packets.find(|early| early.ssrc == track.ssrc)?;
            Some((track.ssrc, newest.packet.clone()))
        };
        unknown.tracks.iter().filter_map(of).collect()
    }

    /// Whether a packet, not opened yet, is of an SSRC beyond those that may be unknown: it is
    /// to be dropped, for SRTP would have to keep state for it that described tracks need.
    pub(super) fn is_flood(&self, packet: &[u8]) -> bool {
        let Some(unknown) = &self.unknown else { return false };
        if unknown.tracks.len() < self.early_limits.tracks {
            return false;
        }
        if packet.len() < FIXED_HEADER {
            return false;
        }
        let ssrc = Ssrc(u32_at(packet, 8));
        self.receivers.binary_search_by_key(&ssrc, |receiver| receiver.ssrc()).is_err()
            && unknown.tracks.binary_search_by_key(&ssrc, |track| track.ssrc).is_err()
            && !unknown.let_go.contains(&ssrc)
            && !self.is_sent_again(ssrc)
    }

    /// Delivers what came before the description did. Where that is not all that came, a key
    /// frame is asked for.
    pub(super) fn deliver_early(&mut self, now: Instant, ssrc: Ssrc) {
        let Some(unknown) = &mut self.unknown else { return };
        self.stats.receive_drops.unknown_ssrc += unknown.expire(&self.early_limits, now);
        let (early, has_gaps) = unknown.take(ssrc);
        self.forget_unknown();
        for early in early {
            self.deliver(early.received_at, ssrc, early.index, &early.packet);
        }
        if has_gaps && self.receiver_mut(ssrc).is_some_and(|it| it.stream.may_be_video()) {
            self.request_key_frame(now, ssrc);
        }
    }

    /// Has packets of a track dropped from now on, until it is described again.
    pub(super) fn let_go(&mut self, ssrc: Ssrc) {
        self.unknown.get_or_insert_default().let_go(ssrc);
    }

    /// Whether packets of this SSRC are dropped.
    pub(super) fn is_let_go(&self, ssrc: Ssrc) -> bool {
        self.unknown.as_ref().is_some_and(|unknown| unknown.let_go.contains(&ssrc))
    }

    /// Drops packets of unknown tracks that have waited too long, and tells of tracks.
    pub(super) fn expire_unknown(&mut self, now: Instant) {
        let Some(unknown) = &mut self.unknown else { return };
        self.stats.receive_drops.unknown_ssrc += unknown.expire(&self.early_limits, now);
        self.tell_of_unknown(now);
    }

    fn tell_of_unknown(&mut self, now: Instant) {
        let Some(unknown) = &mut self.unknown else { return };
        while let Some(track) = unknown.poll_due(now) {
            tracing::debug!(ssrc = track.ssrc.0, "a track that nobody has described");
            self.events.push_back(RouteEvent::UnknownTrack(self.connection, track));
        }
    }

    pub(super) fn unknown_timeout(&self) -> Option<(Instant, &'static str)> {
        self.unknown.as_ref()?.poll_timeout(&self.early_limits)
    }

    /// A connection whose tracks are all known keeps no room for others.
    fn forget_unknown(&mut self) {
        self.unknown.take_if(|unknown| unknown.is_idle());
    }
}
