//! One connection, and what is expected of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ortc_api::{
    FrameSender, MediaFormat, MediaStream, MediaStreamTrack, RTCConnection, RTCConnectionSide,
    RTCDisconnectReason, RTCEvent, RTCEventKind, RTCIceCandidateDescription, RTCTrack,
    WeakRTCConnection,
};
use ortc_io::sim::Network;

use super::program::STREAMS;
use super::{Failure, check, fail};
use crate::Peer;

/// How long closing may take: four steps of half a second, and a second in addition.
pub(super) const CLOSING: Duration = Duration::from_secs(3);

/// How long a path is looked for before it is said that there is none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

type Log = Arc<Mutex<Vec<(Duration, RTCEvent)>>>;

/// A connection and the reference beside it.
pub(super) struct Side {
    pub(super) number: usize,
    /// `None` once every handle was dropped.
    pub(super) conn: Option<RTCConnection>,
    pub(super) weak: WeakRTCConnection,
    pub(super) local: RTCConnectionSide,
    log: Log,
    read: usize,
    /// What was added, and the frames of it.
    pub(super) sources: Vec<Source>,

    pub(super) ice_set: bool,
    pub(super) connecting: Option<Duration>,
    /// Closed or dropped by its application.
    pub(super) closed: Option<Duration>,
    /// It has said that it is at its end.
    pub(super) ended: Option<(Duration, RTCDisconnectReason)>,
    pub(super) connected: bool,
    pub(super) was_connected: bool,
    no_path_told: bool,
    gatherings: usize,
    /// What it has found and not withdrawn, and what it has.
    pub(super) found: Vec<RTCIceCandidateDescription>,
    pub(super) gone: Vec<RTCIceCandidateDescription>,
    /// What takes part, and what it was told of its peer.
    pub(super) set: Vec<RTCIceCandidateDescription>,
    pub(super) told: Vec<RTCIceCandidateDescription>,
    pub(super) active: Option<(SocketAddr, SocketAddr)>,
    pub(super) sending: Vec<Sending>,
    /// Streams that were added and not removed, by their ids.
    pub(super) sent_streams: Vec<String>,
    /// By their SSRCs.
    pub(super) receiving: BTreeMap<String, Receiving>,
    /// Streams that it is yet to tell of.
    pub(super) announced: Vec<String>,
}

pub(super) struct Source {
    pub(super) stream: MediaStream,
    pub(super) frames: FrameSender,
    /// How many were sent.
    pub(super) sent: u64,
}

/// A track that is sent.
pub(super) struct Sending {
    pub(super) stream: usize,
    pub(super) track: RTCTrack,
    pub(super) enabled: bool,
    /// When it was added, started or stopped last.
    pub(super) since: Duration,
    /// Whose frames it carries: a connection and its stream.
    pub(super) origin: (usize, usize),
}

/// A track that is received.
pub(super) struct Receiving {
    pub(super) track: MediaStreamTrack,
    pub(super) msid: String,
    pub(super) since: Duration,
    pub(super) origin: (usize, usize),
}

impl Side {
    pub(super) fn new(number: usize, conn: RTCConnection, net: &Network) -> Self {
        let log = Log::default();
        for kind in KINDS {
            let (log, net) = (Arc::clone(&log), net.clone());
            conn.add_event_listener(kind, move |_, event| {
                let at = net.elapsed();
                log.lock().unwrap_or_else(PoisonError::into_inner).push((at, event));
            });
        }
        let sources = (0..STREAMS).map(|_| {
            let (track, frames) = MediaStreamTrack::local(MediaFormat::Opus);
            let stream = MediaStream::new();
            stream.add_track(&track);
            Source { stream, frames, sent: 0 }
        });
        Self {
            number,
            weak: conn.downgrade(),
            local: conn.local(),
            log,
            read: 0,
            sources: sources.collect(),
            ice_set: false,
            connecting: None,
            closed: None,
            ended: None,
            connected: false,
            was_connected: false,
            no_path_told: false,
            gatherings: 1,
            found: Vec::new(),
            gone: Vec::new(),
            set: Vec::new(),
            told: Vec::new(),
            active: None,
            sending: Vec::new(),
            sent_streams: Vec::new(),
            receiving: BTreeMap::new(),
            announced: Vec::new(),
            conn: Some(conn),
        }
    }

    /// Whether what acts is refused.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some() || self.ended.is_some()
    }

    /// When it began to close, if it has.
    pub(super) fn closing_since(&self) -> Option<Duration> {
        let ended = self.ended.as_ref().map(|(at, _)| *at);
        self.closed.into_iter().chain(ended).min()
    }

    /// The open connection; `None` if there is nothing to be done with it.
    pub(super) fn open(&self) -> Option<&RTCConnection> {
        self.conn.as_ref().filter(|_| !self.is_closed())
    }

    /// Whether it has closed or ended by then, told already or not.
    fn ends_by(&self, at: Duration) -> bool {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let is_end =
            |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(reason) if reason.is_final());
        self.closed.is_some() || log.iter().any(|(then, event)| *then <= at && is_end(event))
    }

    /// That it was told to gather again.
    pub(super) fn gathers(&mut self) {
        self.gatherings += 1;
    }

    /// What has happened since the last time.
    pub(super) fn news(&mut self) -> Vec<(Duration, RTCEvent)> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let news = log[self.read..].to_vec();
        self.read = log.len();
        news
    }

    /// Takes one event, if it is one that may come now. `peer` is who it talks to.
    pub(super) fn hear(
        &mut self,
        at: Duration,
        event: RTCEvent,
        peer: Option<&Self>,
        is_calm: bool,
    ) -> Result<(), Failure> {
        let who = format!("{at:?}: connection {}", self.number);
        if self.closed.is_some_and(|closed| at > closed) {
            return fail("nothing is heard after close", format!("{who}: {event:?}"));
        }
        if self.ended.is_some() {
            return fail("nothing is heard after the end", format!("{who}: {event:?}"));
        }
        match event {
            RTCEvent::Candidate(candidate) => {
                check("a candidate is found once", !self.found.contains(&candidate), || who)?;
                // It is back, with another priority maybe; withdrawn once more, it would be gone again.
                let end = |it: &RTCIceCandidateDescription| (Peer::address(it), it.kind.clone());
                self.gone.retain(|gone| end(gone) != end(&candidate));
                self.found.push(candidate);
            }
            RTCEvent::CandidateWithdrawn(candidate) => {
                let count = self.found.len();
                self.found.retain(|found| *found != candidate);
                check("what is withdrawn was found", self.found.len() + 1 == count, || who)?;
                self.set.retain(|set| *set != candidate);
                self.gone.push(candidate);
            }
            RTCEvent::EndOfCandidates => {
                check("gathering ends once", self.gatherings > 0, || who)?;
                self.gatherings -= 1;
            }
            RTCEvent::ActiveCandidate { local, remote } => {
                let (local_at, remote_at) = (Peer::address(&local), Peer::address(&remote));
                let is_set = self.set.iter().any(|set| Peer::address(set) == local_at);
                check("what is active was set", is_set, || format!("{who}: {local}"))?;
                let is_told = remote.kind == "prflx"
                    || self.told.iter().any(|told| Peer::address(told) == remote_at);
                check("what is active was told", is_told, || format!("{who}: {remote}"))?;
                self.active = Some((local_at, remote_at));
            }
            RTCEvent::Connected => self.is_connected(who, peer)?,
            RTCEvent::Disconnected(reason) => self.is_lost(at, reason, peer, is_calm)?,
            RTCEvent::AddStream(stream) => {
                // One that was forgotten, and described again, comes twice.
                let place = self.announced.iter().position(|id| id == stream.id());
                check("a new stream is told once", place.is_some(), || who)?;
                place.map(|place| self.announced.remove(place));
            }
            RTCEvent::UnknownTrack(_) | RTCEvent::Bandwidth(_) => {}
            other => return fail("such an event has no cause", format!("{who}: {other:?}")),
        }
        Ok(())
    }

    fn is_connected(&mut self, who: String, peer: Option<&Self>) -> Result<(), Failure> {
        check("what is connected gets connected no more", !self.connected, || who.clone())?;
        let Some(peer) = peer else {
            return fail("nobody is connected to nobody", who);
        };
        let can_be = self.connecting.is_some()
            && peer.connecting.is_some()
            && !self.set.is_empty()
            && !(peer.set.is_empty() && peer.gone.is_empty())
            && !(self.told.is_empty() && peer.told.is_empty());
        check("both sides want it, and know a way", can_be, || who.clone())?;
        let remote = self.conn.as_ref().and_then(RTCConnection::remote);
        let is_peer =
            remote.is_none_or(|it| it.dtls == peer.local.dtls && it.ice == peer.local.ice);
        check("the peer is who was signalled", is_peer, || who)?;
        (self.connected, self.was_connected) = (true, true);
        Ok(())
    }

    fn is_lost(
        &mut self,
        at: Duration,
        reason: RTCDisconnectReason,
        peer: Option<&Self>,
        is_calm: bool,
    ) -> Result<(), Failure> {
        use RTCDisconnectReason as Reason;
        let who = format!("{at:?}: connection {}: {reason}", self.number);
        let peer_ends = peer.is_none_or(|peer| peer.ends_by(at));
        match reason {
            Reason::PathLost => {
                // Also while DTLS goes on over it.
                let was_there = self.connected || self.connecting.is_some();
                check("what is lost was there", was_there, || who.clone())?;
                check("a calm network loses no path", !is_calm || peer_ends, || who)?;
            }
            Reason::NoPath => {
                let due = self.connecting.map(|since| since + CONNECT_TIMEOUT);
                let is_time = !self.no_path_told && due.is_some_and(|due| at >= due);
                check("no path is told once, in time", is_time && !self.was_connected, || who)?;
                self.no_path_told = true;
            }
            Reason::ClosedByPeer => {
                check("who closes has closed", peer_ends, || who)?;
            }
            Reason::Security(_) => {
                check("a calm handshake succeeds", !is_calm || peer_ends, || who)?;
            }
            _ => return fail("nothing in here fails", who),
        }
        self.connected = false;
        if reason.is_final() {
            self.ended = Some((at, reason));
        }
        Ok(())
    }
}

const KINDS: [RTCEventKind; 11] = [
    RTCEventKind::Candidate,
    RTCEventKind::CandidateWithdrawn,
    RTCEventKind::EndOfCandidates,
    RTCEventKind::ActiveCandidate,
    RTCEventKind::Connected,
    RTCEventKind::Disconnected,
    RTCEventKind::AddStream,
    RTCEventKind::AddDtmfHandler,
    RTCEventKind::UnknownTrack,
    RTCEventKind::Bandwidth,
    RTCEventKind::IceServerFailed,
];
