//! Rooms: who is in which, who publishes which tracks, and what each member is still to be
//! told. Pure: no socket, no clock, no connection.
//!
//! A member is told of every track of the others, in [`Notice`]s that wait for it: when it
//! joins, of those that are there, later of those that come and go. What came and went while
//! a member did not ask is not told, so what waits is bounded by what is published.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use crate::admission::{Bucket, is_name};
use crate::pairs::Frame;
use crate::signalling::{Signal, SignalError, SignalParseError};

/// Longest msid of a published track, in bytes: with the member's name before it, it is still
/// one that any peer takes.
const MAX_MSID: usize = 200;

/// Bounds of [`Rooms`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomLimits {
    /// Rooms at a time. Default 1,000.
    pub rooms: usize,
    /// Members of all rooms: each has a connection, with its sockets. Default 1,000.
    pub members: usize,
    /// Members of one room. Default 50.
    pub room_members: usize,
    /// Tracks that are published in one room: each member is sent all the others'. At most
    /// 250, which is what one connection sends. Default 200.
    pub room_tracks: usize,
    /// Tracks that one member publishes at a time. Default 16.
    pub member_tracks: usize,
    /// Bytes of a message. Default 64 KiB.
    pub message_bytes: usize,
    /// Frames a second that a member may send in the long run. Default 100.
    pub frames_per_second: u32,
    /// Frames that a member may send at once. Default 400.
    pub burst: u32,
    /// How long a member may take from joining to being connected. Default 60 s.
    pub connecting: Duration,
    /// How long a member whose path is lost is waited for. Default 30 s.
    pub outage: Duration,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self {
            rooms: 1_000,
            members: 1_000,
            room_members: 50,
            room_tracks: 200,
            member_tracks: 16,
            message_bytes: 64 * 1024,
            frames_per_second: 100,
            burst: 400,
            connecting: Duration::from_secs(60),
            outage: Duration::from_secs(30),
        }
    }
}

/// A member of a room. Never used again for another.
///
/// What it is called in the names of its streams, `m7`, is its [`Display`](fmt::Display).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

/// A track that a member publishes. Never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(u64);

/// Why a member is not let in, or is put out. Its socket is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is not one.
    #[error("a room's name has 1 to 64 characters out of A-Z a-z 0-9 . _ ~ -")]
    BadName,
    /// As many members are there as one room takes.
    #[error("this room is full: {0} members are in it")]
    RoomFull(usize),
    /// As many rooms or members are there as this server takes.
    #[error("this server has no room for another member: try again later")]
    ServerFull,
    /// The member sends too much.
    #[error("too many messages a second")]
    TooFast,
    /// No path to the member was found in time.
    #[error("not connected within {} s of joining", .0.as_secs_f64())]
    NotConnected(Duration),
    /// The path to the member was lost and did not come back.
    #[error("the path to this peer was lost, and has not come back within {} s", .0.as_secs_f64())]
    PathLost(Duration),
    /// The connection to the member has failed for good.
    #[error("the connection to this peer has failed: {0}")]
    Failed(String),
}

impl Refusal {
    /// The WebSocket close code: an HTTP status plus 4000.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::BadName => 4400,
            Self::NotConnected(_) | Self::PathLost(_) => 4408,
            Self::RoomFull(_) => 4409,
            Self::TooFast => 4429,
            Self::Failed(_) => 4500,
            Self::ServerFull => 4503,
        }
    }

    /// The refusal as a message to the member.
    pub fn to_signal(&self) -> SignalError {
        let code = match self {
            Self::BadName => "bad-name",
            Self::NotConnected(_) => "not-connected",
            Self::PathLost(_) => "path-lost",
            Self::RoomFull(_) => "room-full",
            Self::TooFast => "too-fast",
            Self::Failed(_) => "failed",
            Self::ServerFull => "server-full",
        };
        SignalError { code: code.into(), message: self.to_string() }
    }
}

/// Why a message is not heeded. The member is told and stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Complaint {
    /// It is not JSON.
    #[error("the message is not JSON: {0}")]
    NotJson(String),
    /// It is JSON, but no object.
    #[error("the message is not a JSON object: send {{\"name\": …}}")]
    NotAnObject,
    /// It is a binary frame.
    #[error("the message is binary: send JSON in a text frame")]
    Binary,
    /// It is too long.
    #[error("the message has {0} bytes, at most {1} are taken")]
    TooLong(usize, usize),
    /// A field of it is missing or of the wrong kind.
    #[error("{0}")]
    Malformed(String),
    /// It says nothing that is known here.
    #[error(
        "the message says nothing that a room knows: iceInfo, candidate, candidateWithdrawn, \
         endOfCandidates, track, trackEnded, trackLimit, capabilities, bye"
    )]
    Unknown,
    /// The credentials cannot be used.
    #[error("iceInfo: {0}")]
    IceInfo(String),
    /// The candidate cannot be used.
    #[error("candidate: {0}")]
    Candidate(String),
    /// The track cannot be received.
    #[error("track: {0}")]
    Track(String),
    /// A stream has a name that is too long to be passed on.
    #[error("track: an msid has {0} bytes, in a room at most {MAX_MSID} are taken")]
    MsidTooLong(usize),
    /// The member publishes as many tracks as it may.
    #[error("track: a member of a room publishes at most {0} tracks")]
    TooManyTracks(usize),
    /// The members of the room publish as many tracks as they may.
    #[error("track: at most {0} tracks are published in a room")]
    RoomFull(usize),
    /// The member publishes no such track.
    #[error("trackEnded: no track of ssrc {0} has been described, or it has ended already")]
    NoSuchTrack(String),
}

impl Complaint {
    /// The complaint as a message to the member.
    pub fn to_signal(&self) -> SignalError {
        let code = match self {
            Self::NotJson(_) => "not-json",
            Self::NotAnObject => "not-an-object",
            Self::Binary => "binary",
            Self::TooLong(..) => "too-long",
            Self::Malformed(_) => "malformed",
            Self::Unknown => "unknown",
            Self::IceInfo(_) => "bad-ice-info",
            Self::Candidate(_) => "bad-candidate",
            Self::Track(_) | Self::MsidTooLong(_) => "bad-track",
            Self::TooManyTracks(_) | Self::RoomFull(_) => "too-many-tracks",
            Self::NoSuchTrack(_) => "no-such-track",
        };
        SignalError { code: code.into(), message: self.to_string() }
    }
}

impl From<SignalParseError> for Complaint {
    fn from(error: SignalParseError) -> Self {
        match error {
            SignalParseError::NotJson(error) => Self::NotJson(error.to_string()),
            SignalParseError::NotAnObject => Self::NotAnObject,
            SignalParseError::Field { .. } => Self::Malformed(error.to_string()),
        }
    }
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The member says this.
    Heard(Vec<Signal>),
    /// Tell the member; it stays.
    Complained(Complaint),
    /// Close the member's socket, and call [`Rooms::leave`].
    Refused(Refusal),
}

/// What a member is to be told about the tracks of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Forward this track to it, and describe it.
    TrackAdded(TrackId),
    /// A track that it was told of has ended.
    TrackEnded(TrackId),
}

/// A change of what is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The track.
    pub track: TrackId,
    /// Who is to be woken, as a [`Notice`] waits for each of them.
    pub others: Vec<MemberId>,
}

/// How a member is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Not yet: a path is awaited until then.
    Awaited {
        until: Instant,
    },
    Connected,
    /// Not any more: the path is awaited again until then.
    Lost {
        until: Instant,
    },
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomCounts {
    /// Members that joined.
    pub joined: u64,
    /// Members that were not let in or were put out.
    pub refused: u64,
    /// Tracks that were published.
    pub published: u64,
    /// Messages that were heeded.
    pub messages: u64,
    /// Messages that were not.
    pub complaints: u64,
}

/// All rooms of a server.
#[derive(Debug)]
pub struct Rooms {
    limits: RoomLimits,
    rooms: BTreeMap<String, Room>,
    members: BTreeMap<MemberId, Member>,
    next_member: u64,
    next_track: u64,
    counts: RoomCounts,
}

#[derive(Debug, Default)]
struct Room {
    members: BTreeSet<MemberId>,
    tracks: BTreeMap<TrackId, MemberId>,
}

#[derive(Debug)]
struct Member {
    room: String,
    bucket: Bucket,
    reached: Reached,
    /// By SSRC, as the member has described them.
    tracks: BTreeMap<u32, TrackId>,
    notices: VecDeque<Notice>,
}

impl Member {
    fn notice(&mut self, notice: Notice) {
        if let Notice::TrackEnded(track) = notice
            && let Some(at) = self.notices.iter().position(|n| *n == Notice::TrackAdded(track))
        {
            // It was never told that there is one.
            self.notices.remove(at);
        } else {
            self.notices.push_back(notice);
        }
    }
}

impl Rooms {
    /// No rooms yet.
    pub fn new(limits: RoomLimits) -> Self {
        Self {
            limits,
            rooms: BTreeMap::new(),
            members: BTreeMap::new(),
            next_member: 0,
            next_track: 0,
            counts: RoomCounts::default(),
        }
    }

    /// Lets a member into the room `name`, which begins to exist with its first one. Notices of
    /// all tracks that are there wait for it.
    ///
    /// # Errors
    /// The reason why it may not join.
    pub fn join(&mut self, now: Instant, name: &str) -> Result<MemberId, Refusal> {
        if let Err(refusal) = self.may_join(name) {
            self.counts.refused += 1;
            return Err(refusal);
        }
        let id = MemberId(self.next_member);
        self.next_member += 1;
        let room = self.rooms.entry(name.to_owned()).or_default();
        room.members.insert(id);
        let member = Member {
            room: name.to_owned(),
            bucket: Bucket::full(now, self.limits.burst),
            reached: Reached::Awaited { until: now + self.limits.connecting },
            tracks: BTreeMap::new(),
            notices: room.tracks.keys().copied().map(Notice::TrackAdded).collect(),
        };
        self.members.insert(id, member);
        self.counts.joined += 1;
        Ok(id)
    }

    fn may_join(&self, name: &str) -> Result<(), Refusal> {
        if !is_name(name) {
            return Err(Refusal::BadName);
        }
        let limits = &self.limits;
        let room = self.rooms.get(name);
        if room.is_some_and(|room| room.members.len() >= limits.room_members) {
            return Err(Refusal::RoomFull(limits.room_members));
        }
        let is_full = room.is_none() && self.rooms.len() >= limits.rooms;
        if is_full || self.members.len() >= limits.members {
            return Err(Refusal::ServerFull);
        }
        Ok(())
    }

    /// Takes a frame of a member.
    pub fn receive(&mut self, now: Instant, from: MemberId, frame: Frame) -> Received {
        let nothing = Received::Heard(Vec::new());
        let Some(member) = self.members.get_mut(&from) else { return nothing };
        if !member.bucket.take(now, self.limits.frames_per_second) {
            self.counts.refused += 1;
            return Received::Refused(Refusal::TooFast);
        }
        let text = match frame {
            Frame::Control => return nothing,
            Frame::Binary => return Received::Complained(self.complain(Complaint::Binary)),
            Frame::Text(text) => text,
        };
        match self.understand(&text) {
            Ok(signals) => {
                self.counts.messages += 1;
                Received::Heard(signals)
            }
            Err(complaint) => Received::Complained(self.complain(complaint)),
        }
    }

    fn understand(&self, text: &str) -> Result<Vec<Signal>, Complaint> {
        let limit = self.limits.message_bytes;
        if text.len() > limit {
            return Err(Complaint::TooLong(text.len(), limit));
        }
        let signals = Signal::parse(text)?;
        if signals.is_empty() { Err(Complaint::Unknown) } else { Ok(signals) }
    }

    /// Counts a complaint, which it returns.
    pub fn complain(&mut self, complaint: Complaint) -> Complaint {
        self.counts.complaints += 1;
        complaint
    }

    /// The track of that SSRC that a member publishes.
    pub fn published(&self, member: MemberId, ssrc: u32) -> Option<TrackId> {
        self.members.get(&member)?.tracks.get(&ssrc).copied()
    }

    /// Whether a member may publish one more track, in the streams `msid`.
    ///
    /// # Errors
    /// Says why not.
    pub fn may_publish(&self, member: MemberId, msid: &[String]) -> Result<(), Complaint> {
        let Some(Member { tracks, room, .. }) = self.members.get(&member) else { return Ok(()) };
        if let Some(long) = msid.iter().find(|id| id.len() > MAX_MSID) {
            return Err(Complaint::MsidTooLong(long.len()));
        }
        if tracks.len() >= self.limits.member_tracks {
            return Err(Complaint::TooManyTracks(self.limits.member_tracks));
        }
        let there = self.rooms.get(room).map_or(0, |room| room.tracks.len());
        if there >= self.limits.room_tracks {
            return Err(Complaint::RoomFull(self.limits.room_tracks));
        }
        Ok(())
    }

    /// Publishes a track of a member. `None` if it [may not](Self::may_publish), publishes one
    /// of that SSRC already, or is gone.
    pub fn publish(&mut self, from: MemberId, ssrc: u32) -> Option<Change> {
        self.may_publish(from, &[]).ok()?;
        let member = self.members.get_mut(&from).filter(|m| !m.tracks.contains_key(&ssrc))?;
        let room = self.rooms.get_mut(&member.room)?;
        let track = TrackId(self.next_track);
        self.next_track += 1;
        member.tracks.insert(ssrc, track);
        room.tracks.insert(track, from);
        let others = others(room, from);
        self.notice(&others, Notice::TrackAdded(track));
        self.counts.published += 1;
        Some(Change { track, others })
    }

    /// Ends a track of a member; `None` if it publishes none of that SSRC.
    pub fn end(&mut self, from: MemberId, ssrc: u32) -> Option<Change> {
        let member = self.members.get_mut(&from)?;
        let track = member.tracks.remove(&ssrc)?;
        let room = self.rooms.get_mut(&member.room)?;
        room.tracks.remove(&track);
        let others = others(room, from);
        self.notice(&others, Notice::TrackEnded(track));
        Some(Change { track, others })
    }

    fn notice(&mut self, members: &[MemberId], notice: Notice) {
        for id in members {
            if let Some(member) = self.members.get_mut(id) {
                member.notice(notice);
            }
        }
    }

    /// Takes the next thing that a member is to be told.
    pub fn take(&mut self, member: MemberId) -> Option<Notice> {
        self.members.get_mut(&member)?.notices.pop_front()
    }

    /// A member is connected, or again.
    pub fn connected(&mut self, member: MemberId) {
        if let Some(member) = self.members.get_mut(&member) {
            member.reached = Reached::Connected;
        }
    }

    /// The path to a member is lost: its tracks stay, as it may come back.
    pub fn path_lost(&mut self, now: Instant, member: MemberId) {
        if let Some(member) = self.members.get_mut(&member)
            && member.reached == Reached::Connected
        {
            member.reached = Reached::Lost { until: now + self.limits.outage };
        }
    }

    /// When a member is not waited for any longer, unless it is connected by then.
    pub fn poll_timeout(&self, member: MemberId) -> Option<Instant> {
        match self.members.get(&member)?.reached {
            Reached::Awaited { until } | Reached::Lost { until } => Some(until),
            Reached::Connected => None,
        }
    }

    /// Why a member that has been waited for in vain is put out: close its socket, and call
    /// [`leave`](Self::leave).
    pub fn handle_timeout(&mut self, now: Instant, member: MemberId) -> Option<Refusal> {
        let refusal = match self.members.get(&member)?.reached {
            Reached::Awaited { until } if until <= now => {
                Refusal::NotConnected(self.limits.connecting)
            }
            Reached::Lost { until } if until <= now => Refusal::PathLost(self.limits.outage),
            _ => return None,
        };
        self.counts.refused += 1;
        Some(refusal)
    }

    /// Lets a member go, with all its tracks: what has changed for the others.
    pub fn leave(&mut self, id: MemberId) -> Vec<Change> {
        let Some(member) = self.members.get(&id) else { return Vec::new() };
        let ssrcs: Vec<u32> = member.tracks.keys().copied().collect();
        let changes = ssrcs.into_iter().filter_map(|ssrc| self.end(id, ssrc)).collect();
        if let Some(Member { room: name, .. }) = self.members.remove(&id)
            && let Some(room) = self.rooms.get_mut(&name)
        {
            room.members.remove(&id);
            if room.members.is_empty() {
                self.rooms.remove(&name);
            }
        }
        changes
    }

    /// Rooms that exist now.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there is no room.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Members of one room now.
    pub fn members_of(&self, name: &str) -> usize {
        self.rooms.get(name).map_or(0, |room| room.members.len())
    }

    /// Members of all rooms now.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Tracks that are published now.
    pub fn tracks(&self) -> usize {
        self.rooms.values().map(|room| room.tracks.len()).sum()
    }

    /// What has happened so far.
    pub fn counts(&self) -> RoomCounts {
        self.counts
    }
}

/// What a track of a member is called for the others: the streams of two members are never
/// one, those of one member stay what they are. A track of no stream is one of its own.
pub fn forwarded_msid(member: MemberId, msid: &[String], ssrc: u32) -> Vec<String> {
    if msid.is_empty() {
        return vec![format!("{member}-{ssrc}")];
    }
    msid.iter().map(|id| format!("{member}-{id}")).collect()
}

fn others(room: &Room, member: MemberId) -> Vec<MemberId> {
    room.members.iter().copied().filter(|other| *other != member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        rooms: Rooms,
        now: Instant,
    }

    impl Bench {
        fn new(limits: RoomLimits) -> Self {
            Self { rooms: Rooms::new(limits), now: Instant::now() }
        }

        fn join(&mut self, name: &str) -> MemberId {
            self.rooms.join(self.now, name).unwrap()
        }

        fn refused(&mut self, name: &str) -> Refusal {
            self.rooms.join(self.now, name).unwrap_err()
        }

        fn say(&mut self, from: MemberId, text: &str) -> Received {
            self.rooms.receive(self.now, from, Frame::Text(text.into()))
        }

        fn told(&mut self, member: MemberId) -> Vec<Notice> {
            std::iter::from_fn(|| self.rooms.take(member)).collect()
        }
    }

    #[test]
    fn everybody_is_told_of_everybody_elses_tracks_and_a_newcomer_of_all() {
        let mut bench = Bench::new(RoomLimits::default());
        let (a, b, elsewhere) = (bench.join("x"), bench.join("x"), bench.join("y"));
        let first = bench.rooms.publish(a, 1).unwrap();
        assert_eq!(first.others, [b]);
        let second = bench.rooms.publish(b, 1).unwrap();
        assert_eq!(second.others, [a]);
        assert_ne!(first.track, second.track, "two members may use one SSRC");
        assert_eq!(bench.told(a), [Notice::TrackAdded(second.track)]);
        assert_eq!(bench.told(b), [Notice::TrackAdded(first.track)]);
        let c = bench.join("x");
        let all = [Notice::TrackAdded(first.track), Notice::TrackAdded(second.track)];
        assert_eq!(bench.told(c), all);
        assert_eq!(bench.told(elsewhere), []);
        assert_eq!((bench.rooms.len(), bench.rooms.members(), bench.rooms.tracks()), (2, 4, 2));
    }

    #[test]
    fn a_leaver_takes_its_tracks_along_and_the_last_one_the_room() {
        let mut bench = Bench::new(RoomLimits::default());
        let (a, b) = (bench.join("x"), bench.join("x"));
        let [one, two] = [1, 2].map(|ssrc| bench.rooms.publish(a, ssrc).unwrap().track);
        assert_eq!(bench.told(b).len(), 2);
        let changes = bench.rooms.leave(a);
        let others = vec![b];
        let change = |track| Change { track, others: others.clone() };
        assert_eq!(changes, [change(one), change(two)]);
        assert_eq!(bench.told(b), [Notice::TrackEnded(one), Notice::TrackEnded(two)]);
        assert_eq!(bench.rooms.leave(a), [], "leaving twice does nothing");
        assert_eq!(bench.rooms.leave(b), []);
        assert!(bench.rooms.is_empty());
        assert_eq!((bench.rooms.members(), bench.rooms.tracks()), (0, 0));
    }

    #[test]
    fn what_came_and_went_unseen_is_not_told() {
        let mut bench = Bench::new(RoomLimits::default());
        let (a, b) = (bench.join("x"), bench.join("x"));
        for _ in 0..100 {
            bench.rooms.publish(a, 7).unwrap();
            bench.rooms.end(a, 7).unwrap();
        }
        assert_eq!(bench.told(b), []);
        let track = bench.rooms.publish(a, 7).unwrap().track;
        assert_eq!(bench.told(b), [Notice::TrackAdded(track)]);
        assert_eq!(bench.rooms.published(a, 7), Some(track));
        assert_eq!(bench.rooms.publish(a, 7), None, "it is published already");
        assert_eq!(bench.rooms.end(a, 8), None, "there is no such track");
    }

    #[test]
    fn rooms_members_and_tracks_are_bounded() {
        let limits = RoomLimits {
            rooms: 2,
            members: 4,
            room_members: 2,
            room_tracks: 3,
            member_tracks: 2,
            ..Default::default()
        };
        let mut bench = Bench::new(limits);
        let (a, b) = (bench.join("x"), bench.join("x"));
        assert_eq!(bench.refused("x"), Refusal::RoomFull(2));
        bench.join("y");
        assert_eq!(bench.refused("z"), Refusal::ServerFull);
        let last = bench.join("y");
        bench.rooms.leave(b);
        let b = bench.join("x");
        bench.rooms.leave(a);
        bench.rooms.leave(b);
        let (a, b) = (bench.join("x"), bench.join("x"));
        assert_eq!(bench.refused("y"), Refusal::RoomFull(2));
        bench.rooms.leave(last);
        for ssrc in [1, 2] {
            bench.rooms.publish(a, ssrc).unwrap();
        }
        assert_eq!(bench.rooms.may_publish(a, &[]), Err(Complaint::TooManyTracks(2)));
        assert_eq!(bench.rooms.publish(a, 3), None);
        bench.rooms.publish(b, 1).unwrap();
        assert_eq!(bench.rooms.may_publish(b, &[]), Err(Complaint::RoomFull(3)));
        bench.rooms.end(a, 1).unwrap();
        assert_eq!(bench.rooms.may_publish(b, &["m".repeat(200)]), Ok(()));
        let long = bench.rooms.may_publish(b, &["m".repeat(201)]);
        assert_eq!(long, Err(Complaint::MsidTooLong(201)));
        assert_eq!(bench.rooms.counts().refused, 3);
    }

    #[test]
    fn names_are_checked() {
        let mut bench = Bench::new(RoomLimits::default());
        for name in ["", "a b", "a/b", "é", "%20", "a\n", &"x".repeat(65)] {
            assert_eq!(bench.refused(name), Refusal::BadName, "{name:?}");
        }
        bench.join("A-b_c.d~9");
    }

    #[test]
    fn what_cannot_be_understood_is_sent_back_with_a_reason() {
        let mut bench = Bench::new(RoomLimits { message_bytes: 100, ..Default::default() });
        let a = bench.join("x");
        let mut complaint = |text: &str| match bench.say(a, text) {
            Received::Complained(complaint) => {
                let error = complaint.to_signal();
                (error.code, error.message)
            }
            other => panic!("{other:?}"),
        };
        let mut is = |text: &str, code: &str, message: &str| {
            assert_eq!(complaint(text), (code.to_owned(), message.to_owned()));
        };
        is(
            "{",
            "not-json",
            "the message is not JSON: EOF while parsing an object at line 1 column 1",
        );
        is("[1]", "not-an-object", "the message is not a JSON object: send {\"name\": …}");
        let unknown = "the message says nothing that a room knows: iceInfo, candidate, \
                       candidateWithdrawn, endOfCandidates, track, trackEnded, trackLimit, \
                       capabilities, bye";
        is(r#"{"hello":{}}"#, "unknown", unknown);
        let text = r#"{"track":{"kind":"audio"}}"#;
        is(text, "malformed", "track: missing field `ssrc`");
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
        is(&long, "too-long", "the message has 108 bytes, at most 100 are taken");
        let binary = bench.rooms.receive(bench.now, a, Frame::Binary);
        assert_eq!(binary, Received::Complained(Complaint::Binary));
        let heard = bench.say(a, r#"{"hello":1,"bye":{}}"#);
        assert_eq!(heard, Received::Heard(vec![Signal::Bye {}]), "what is unknown is ignored");
        let counts = RoomCounts { joined: 1, messages: 1, complaints: 6, ..Default::default() };
        assert_eq!(bench.rooms.counts(), counts);
    }

    #[test]
    fn a_flood_is_refused() {
        let limits = RoomLimits { frames_per_second: 10, burst: 5, ..Default::default() };
        let mut bench = Bench::new(limits);
        let a = bench.join("x");
        for _ in 0..50 {
            bench.now += Duration::from_millis(100);
            assert!(matches!(bench.say(a, "{}"), Received::Complained(_)));
        }
        for _ in 0..4 {
            bench.rooms.receive(bench.now, a, Frame::Control);
        }
        assert_eq!(bench.say(a, "{}"), Received::Refused(Refusal::TooFast));
    }

    #[test]
    fn a_member_is_waited_for_until_it_is_connected_and_again_when_its_path_is_lost() {
        let mut bench = Bench::new(RoomLimits::default());
        let a = bench.join("x");
        let after = |bench: &mut Bench, seconds| {
            bench.now += Duration::from_secs(seconds);
            bench.rooms.handle_timeout(bench.now, a)
        };
        assert_eq!(bench.rooms.poll_timeout(a), Some(bench.now + Duration::from_secs(60)));
        bench.rooms.path_lost(bench.now, a);
        assert_eq!(after(&mut bench, 59), None);
        assert_eq!(bench.rooms.poll_timeout(a), Some(bench.now + Duration::from_secs(1)));
        bench.rooms.connected(a);
        assert_eq!((bench.rooms.poll_timeout(a), after(&mut bench, 1000)), (None, None));
        bench.rooms.path_lost(bench.now, a);
        assert_eq!(after(&mut bench, 20), None);
        // Lost again while it is lost: the first time counts.
        bench.rooms.path_lost(bench.now, a);
        bench.rooms.publish(a, 1).unwrap();
        assert_eq!(bench.rooms.tracks(), 1, "they stay");
        let refusal = after(&mut bench, 10).unwrap();
        assert_eq!((refusal.close_code(), &*refusal.to_signal().code), (4408, "path-lost"));
        bench.rooms.connected(a);
        assert_eq!(after(&mut bench, 1000), None);

        let b = bench.join("x");
        let late = bench.now + Duration::from_secs(60);
        let refusal = bench.rooms.handle_timeout(late, b).unwrap();
        assert_eq!(refusal.to_string(), "not connected within 60 s of joining");
    }

    #[test]
    fn streams_of_two_members_are_never_one() {
        let names = |id, msid: &[&str]| {
            let msid: Vec<_> = msid.iter().map(|id| (*id).to_owned()).collect();
            forwarded_msid(MemberId(id), &msid, 5)
        };
        assert_eq!(names(1, &["a", "b"]), ["m1-a", "m1-b"]);
        assert_eq!(names(2, &["a"]), ["m2-a"]);
        assert_eq!(names(2, &[]), ["m2-5"]);
        assert_ne!(names(1, &["1-a"]), names(11, &["a"]));
    }
}
