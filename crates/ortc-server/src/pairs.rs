//! Two peers under one name: who may join, and what is passed on. Pure: no socket, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde::de::IgnoredAny;

use crate::admission::{Bucket, is_name};
use crate::signalling::SignalError;

/// Bounds of [`Pairs`]. The defaults are far above what a call needs: about 20 messages of
/// 300 bytes a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairLimits {
    /// Pairs at a time. Default 10,000.
    pub pairs: usize,
    /// Bytes of a message. Default 64 KiB.
    pub message_bytes: usize,
    /// Messages that wait for a peer: for one that has not joined yet, or reads slowly.
    /// Default 256.
    pub waiting_messages: usize,
    /// Bytes of the messages that wait for a peer. Default 256 KiB.
    pub waiting_bytes: usize,
    /// Frames a second that a peer may send in the long run. Default 100.
    pub frames_per_second: u32,
    /// Frames that a peer may send at once. Default 400.
    pub burst: u32,
}

impl Default for PairLimits {
    fn default() -> Self {
        Self {
            pairs: 10_000,
            message_bytes: 64 * 1024,
            waiting_messages: 256,
            waiting_bytes: 256 * 1024,
            frames_per_second: 100,
            burst: 400,
        }
    }
}

/// A peer that has joined a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u64);

/// Why a peer is not let in, or is put out. Its socket is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is not one.
    #[error("a pair's name has 1 to 64 characters out of A-Z a-z 0-9 . _ ~ -")]
    BadName,
    /// Two peers are there.
    #[error("two peers are in this pair already: choose another name")]
    PairFull,
    /// One of two peers has left, the other is still there.
    #[error(
        "the call in this pair is over, but one peer has not left yet: wait, or choose another name"
    )]
    PairEnded,
    /// There are as many pairs as this server takes.
    #[error("this server has no room for another pair: try again later")]
    ServerFull,
    /// The peer sends too much.
    #[error("too many messages a second")]
    TooFast,
    /// The peer does not read what it is sent.
    #[error("too many messages wait for this peer: it does not read them")]
    TooSlow,
}

impl Refusal {
    /// The WebSocket close code: an HTTP status plus 4000.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::BadName => 4400,
            Self::TooSlow => 4408,
            Self::PairFull => 4409,
            Self::PairEnded => 4410,
            Self::TooFast => 4429,
            Self::ServerFull => 4503,
        }
    }

    /// The refusal as a message to the peer.
    pub fn to_signal(&self) -> SignalError {
        let code = match self {
            Self::BadName => "bad-name",
            Self::TooSlow => "too-slow",
            Self::PairFull => "pair-full",
            Self::PairEnded => "pair-ended",
            Self::TooFast => "too-fast",
            Self::ServerFull => "server-full",
        };
        SignalError { code: code.into(), message: self.to_string() }
    }
}

/// Why a message is not passed on. The peer is told and stays.
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
    #[error("the message has {0} bytes, at most {1} are passed on")]
    TooLong(usize, usize),
    /// The other peer has not joined yet, and no more is kept for it.
    #[error("the other peer has not joined yet, and no more messages are kept for it")]
    NothingKept,
    /// The other peer has left for good.
    #[error("the other peer has left")]
    PeerLeft,
}

impl Complaint {
    /// The complaint as a message to the peer.
    pub fn to_signal(&self) -> SignalError {
        let code = match self {
            Self::NotJson(_) => "not-json",
            Self::NotAnObject => "not-an-object",
            Self::Binary => "binary",
            Self::TooLong(..) => "too-long",
            Self::NothingKept => "nothing-kept",
            Self::PeerLeft => "peer-left",
        };
        SignalError { code: code.into(), message: self.to_string() }
    }
}

/// A frame that a peer has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Text(String),
    /// Refused, but counted.
    Binary,
    /// A ping or pong: counted only.
    Control,
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It waits for the other peer; wake that one, if it is there.
    Passed(Option<PeerId>),
    /// There was nothing to pass on.
    Nothing,
    /// Tell the sender; it stays.
    Complained(Complaint),
    /// Close the sender's socket, and call [`Pairs::leave`].
    Refused(Refusal),
}

/// What is to be sent to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    /// A message of the other peer, as it came.
    Message(String),
    /// The other peer has left.
    Bye,
    /// The peer is put out: close its socket, and call [`Pairs::leave`].
    Close(Refusal),
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairCounts {
    /// Peers that joined.
    pub joined: u64,
    /// Peers that were not let in or were put out.
    pub refused: u64,
    /// Messages passed on or kept.
    pub messages: u64,
    /// Messages not passed on.
    pub complaints: u64,
}

/// All pairs of a server.
#[derive(Debug)]
pub struct Pairs {
    limits: PairLimits,
    pairs: BTreeMap<String, Pair>,
    peers: BTreeMap<PeerId, Peer>,
    next_peer: u64,
    counts: PairCounts,
}

#[derive(Debug, Default)]
struct Pair {
    seats: [Seat; 2],
    /// Both seats have been taken: whoever leaves now ends the pair.
    complete: bool,
}

#[derive(Debug, Default)]
struct Seat {
    peer: Option<PeerId>,
    /// What waits for this seat's peer, who may be still to come.
    inbox: VecDeque<Outbound>,
    inbox_bytes: usize,
    /// Its peer does not read, and is to go.
    is_put_out: bool,
}

#[derive(Debug)]
struct Peer {
    pair: String,
    seat: usize,
    bucket: Bucket,
}

impl Pairs {
    /// No pairs yet.
    pub fn new(limits: PairLimits) -> Self {
        Self {
            limits,
            pairs: BTreeMap::new(),
            peers: BTreeMap::new(),
            next_peer: 0,
            counts: PairCounts::default(),
        }
    }

    /// Lets a peer into the pair `name`, which begins to exist with its first peer.
    ///
    /// What the first peer has sent before waits for the second: see [`take`](Self::take).
    ///
    /// # Errors
    /// The reason why it may not join.
    pub fn join(&mut self, now: Instant, name: &str) -> Result<PeerId, Refusal> {
        let result = self.seat(name);
        match result {
            Ok(seat) => {
                let id = PeerId(self.next_peer);
                self.next_peer += 1;
                let pair = self.pairs.entry(name.to_owned()).or_default();
                pair.seats[seat].peer = Some(id);
                pair.complete |= seat == 1;
                let bucket = Bucket::full(now, self.limits.burst);
                self.peers.insert(id, Peer { pair: name.to_owned(), seat, bucket });
                self.counts.joined += 1;
                Ok(id)
            }
            Err(refusal) => {
                self.counts.refused += 1;
                Err(refusal)
            }
        }
    }

    /// The seat that a peer would get in the pair `name`.
    fn seat(&self, name: &str) -> Result<usize, Refusal> {
        if !is_name(name) {
            return Err(Refusal::BadName);
        }
        match self.pairs.get(name) {
            None if self.pairs.len() >= self.limits.pairs => Err(Refusal::ServerFull),
            None => Ok(0),
            Some(pair) if !pair.complete => Ok(1),
            Some(pair) if pair.seats.iter().all(|seat| seat.peer.is_some()) => {
                Err(Refusal::PairFull)
            }
            Some(_) => Err(Refusal::PairEnded),
        }
    }

    /// Takes a frame of a peer.
    pub fn receive(&mut self, now: Instant, from: PeerId, frame: Frame) -> Received {
        let Some(peer) = self.peers.get_mut(&from) else {
            return Received::Nothing;
        };
        if !peer.bucket.take(now, self.limits.frames_per_second) {
            self.counts.refused += 1;
            return Received::Refused(Refusal::TooFast);
        }
        let (name, to) = (peer.pair.clone(), 1 - peer.seat);
        match self.pass(&name, to, frame) {
            Ok(received) => received,
            Err(complaint) => {
                self.counts.complaints += 1;
                Received::Complained(complaint)
            }
        }
    }

    fn pass(&mut self, name: &str, to: usize, frame: Frame) -> Result<Received, Complaint> {
        let text = match frame {
            Frame::Control => return Ok(Received::Nothing),
            Frame::Binary => return Err(Complaint::Binary),
            Frame::Text(text) => text,
        };
        check(&text, self.limits.message_bytes)?;
        let Some(pair) = self.pairs.get_mut(name) else {
            return Ok(Received::Nothing);
        };
        let seat = &mut pair.seats[to];
        if pair.complete && seat.peer.is_none() {
            return Err(Complaint::PeerLeft);
        }
        if seat.is_put_out {
            return Ok(Received::Nothing);
        }
        let is_full = seat.inbox.len() >= self.limits.waiting_messages
            || seat.inbox_bytes + text.len() > self.limits.waiting_bytes;
        match (is_full, seat.peer) {
            (true, None) => return Err(Complaint::NothingKept),
            (true, Some(_)) => {
                seat.inbox = VecDeque::from([Outbound::Close(Refusal::TooSlow)]);
                seat.inbox_bytes = 0;
                seat.is_put_out = true;
                self.counts.refused += 1;
            }
            (false, _) => {
                seat.inbox_bytes += text.len();
                seat.inbox.push_back(Outbound::Message(text));
                self.counts.messages += 1;
            }
        }
        Ok(Received::Passed(seat.peer))
    }

    /// Takes the next thing that is to be sent to a peer.
    pub fn take(&mut self, peer: PeerId) -> Option<Outbound> {
        let peer = self.peers.get(&peer)?;
        let seat = &mut self.pairs.get_mut(&peer.pair)?.seats[peer.seat];
        let next = seat.inbox.pop_front()?;
        if let Outbound::Message(text) = &next {
            seat.inbox_bytes -= text.len();
        }
        Some(next)
    }

    /// Whether a peer is to be put out: [`Outbound::Close`] is the next that it is sent.
    pub fn is_put_out(&self, peer: PeerId) -> bool {
        let is_put_out = self.peers.get(&peer).and_then(|peer| {
            let pair = self.pairs.get(&peer.pair)?;
            Some(pair.seats[peer.seat].is_put_out)
        });
        is_put_out.unwrap_or(false)
    }

    /// Lets a peer go. Returns the other one, who is to be woken, if it is there.
    ///
    /// The name is free again once both have left.
    pub fn leave(&mut self, peer: PeerId) -> Option<PeerId> {
        let Peer { pair: name, seat, .. } = self.peers.remove(&peer)?;
        let pair = self.pairs.get_mut(&name)?;
        pair.seats[seat] = Seat::default();
        let other = &mut pair.seats[1 - seat];
        match other.peer {
            Some(id) => {
                other.inbox.push_back(Outbound::Bye);
                Some(id)
            }
            None => {
                self.pairs.remove(&name);
                None
            }
        }
    }

    /// Pairs that exist now.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// What has happened so far.
    pub fn counts(&self) -> PairCounts {
        self.counts
    }
}

fn check(text: &str, limit: usize) -> Result<(), Complaint> {
    if text.len() > limit {
        return Err(Complaint::TooLong(text.len(), limit));
    }
    // Looks at every byte, keeps none, and does not recurse.
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| Complaint::NotJson(error.to_string()))?;
    if text.trim_start().starts_with('{') { Ok(()) } else { Err(Complaint::NotAnObject) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Bench {
        pairs: Pairs,
        now: Instant,
    }

    impl Bench {
        fn new(limits: PairLimits) -> Self {
            Self { pairs: Pairs::new(limits), now: Instant::now() }
        }

        fn join(&mut self, name: &str) -> Result<PeerId, Refusal> {
            self.pairs.join(self.now, name)
        }

        fn send(&mut self, from: PeerId, text: &str) -> Received {
            self.pairs.receive(self.now, from, Frame::Text(text.into()))
        }

        fn inbox(&mut self, peer: PeerId) -> Vec<Outbound> {
            std::iter::from_fn(|| self.pairs.take(peer)).collect()
        }
    }

    fn message(text: &str) -> Outbound {
        Outbound::Message(text.into())
    }

    #[test]
    fn what_came_before_the_second_peer_is_kept_in_order() {
        let mut bench = Bench::new(PairLimits::default());
        let a = bench.join("x").unwrap();
        assert_eq!(bench.send(a, r#"{"a":1}"#), Received::Passed(None));
        assert_eq!(bench.send(a, r#" {"a":2} "#), Received::Passed(None));
        let b = bench.join("x").unwrap();
        assert_eq!(bench.send(a, r#"{"a":3}"#), Received::Passed(Some(b)));
        let expected = [message(r#"{"a":1}"#), message(r#" {"a":2} "#), message(r#"{"a":3}"#)];
        assert_eq!(bench.inbox(b), expected);
        assert_eq!(bench.send(b, r#"{"b":1}"#), Received::Passed(Some(a)));
        assert_eq!(bench.inbox(a), [message(r#"{"b":1}"#)]);
        let counts = PairCounts { joined: 2, refused: 0, messages: 4, complaints: 0 };
        assert_eq!(bench.pairs.counts(), counts);
    }

    #[test]
    fn a_third_peer_is_refused_until_both_have_left() {
        let mut bench = Bench::new(PairLimits::default());
        let a = bench.join("x").unwrap();
        let b = bench.join("x").unwrap();
        assert_eq!(bench.join("x"), Err(Refusal::PairFull));
        assert_eq!(bench.pairs.leave(b), Some(a));
        assert_eq!(bench.inbox(a), [Outbound::Bye]);
        assert_eq!(bench.join("x"), Err(Refusal::PairEnded));
        assert_eq!(bench.send(a, "{}"), Received::Complained(Complaint::PeerLeft));
        assert_eq!(bench.pairs.leave(a), None);
        assert!(bench.pairs.is_empty());
        assert!(bench.join("x").is_ok());
        assert_eq!(bench.pairs.leave(a), None, "leaving twice does nothing");
    }

    #[test]
    fn a_peer_that_leaves_alone_takes_its_messages_along() {
        let mut bench = Bench::new(PairLimits::default());
        let a = bench.join("x").unwrap();
        bench.send(a, "{}");
        assert_eq!(bench.pairs.leave(a), None);
        bench.join("x").unwrap();
        let b = bench.join("x").unwrap();
        assert_eq!(bench.inbox(b), []);
    }

    #[test]
    fn messages_that_wait_before_the_other_leaves_are_still_delivered() {
        let mut bench = Bench::new(PairLimits::default());
        let a = bench.join("x").unwrap();
        let b = bench.join("x").unwrap();
        bench.send(a, r#"{"last":1}"#);
        assert_eq!(bench.pairs.leave(a), Some(b));
        assert_eq!(bench.inbox(b), [message(r#"{"last":1}"#), Outbound::Bye]);
    }

    #[test]
    fn names_are_checked() {
        let mut bench = Bench::new(PairLimits::default());
        for name in ["", "a b", "a/b", "é", "%20", "a\n", &"x".repeat(65)] {
            assert_eq!(bench.join(name), Err(Refusal::BadName), "{name:?}");
        }
        for name in ["x", "A-b_c.d~9", &"x".repeat(64)] {
            assert!(bench.join(name).is_ok(), "{name:?}");
        }
        assert_eq!(bench.pairs.counts().refused, 7);
    }

    #[test]
    fn what_is_no_json_object_is_sent_back_with_a_reason() {
        let mut bench = Bench::new(PairLimits { message_bytes: 100, ..Default::default() });
        let a = bench.join("x").unwrap();
        let mut complaint = |text: &str| match bench.send(a, text) {
            Received::Complained(complaint) => complaint.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            complaint("{\"a\":"),
            "the message is not JSON: EOF while parsing a value at line 1 column 5"
        );
        assert_eq!(
            complaint("hello"),
            "the message is not JSON: expected value at line 1 column 1"
        );
        assert_eq!(complaint("[1]"), "the message is not a JSON object: send {\"name\": …}");
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
        assert_eq!(complaint(&long), "the message has 108 bytes, at most 100 are passed on");
        assert!(complaint(&"[".repeat(100)).contains("EOF"));
        let binary = bench.pairs.receive(bench.now, a, Frame::Binary);
        assert_eq!(binary, Received::Complained(Complaint::Binary));
        assert_eq!(bench.pairs.counts().complaints, 6);
    }

    #[test]
    fn depth_costs_no_stack() {
        let mut bench = Bench::new(PairLimits::default());
        let a = bench.join("x").unwrap();
        let deep = "{\"a\":".repeat(9000) + "1" + &"}".repeat(9000);
        assert_eq!(bench.send(a, &deep), Received::Passed(None));
    }

    #[test]
    fn no_more_than_the_limit_is_kept_for_a_peer_to_come() {
        let limits = PairLimits { waiting_messages: 3, waiting_bytes: 20, ..Default::default() };
        let mut bench = Bench::new(limits);
        let a = bench.join("count").unwrap();
        for _ in 0..3 {
            assert_eq!(bench.send(a, "{}"), Received::Passed(None));
        }
        assert_eq!(bench.send(a, "{}"), Received::Complained(Complaint::NothingKept));
        let b = bench.join("bytes").unwrap();
        assert_eq!(bench.send(b, r#"{"a":12345678}"#), Received::Passed(None));
        let full = Received::Complained(Complaint::NothingKept);
        assert_eq!(bench.send(b, r#"{"a":12}"#), full);
        // Room comes back when it is read.
        let c = bench.join("bytes").unwrap();
        assert_eq!(bench.inbox(c).len(), 1);
        assert_eq!(bench.send(b, r#"{"a":12}"#), Received::Passed(Some(c)));
    }

    #[test]
    fn a_peer_that_does_not_read_is_put_out() {
        let limits = PairLimits { waiting_messages: 3, ..Default::default() };
        let mut bench = Bench::new(limits);
        let a = bench.join("x").unwrap();
        let b = bench.join("x").unwrap();
        for _ in 0..4 {
            assert!(!bench.pairs.is_put_out(b));
            assert_eq!(bench.send(a, "{}"), Received::Passed(Some(b)));
        }
        assert!(bench.pairs.is_put_out(b));
        assert_eq!(bench.send(a, "{}"), Received::Nothing);
        assert_eq!(bench.inbox(b), [Outbound::Close(Refusal::TooSlow)]);
        assert_eq!(bench.pairs.counts().refused, 1);
        assert_eq!(bench.pairs.leave(b), Some(a));
        assert_eq!(bench.inbox(a), [Outbound::Bye]);
    }

    #[test]
    fn a_flood_is_refused_and_a_pace_is_not() {
        let limits = PairLimits { frames_per_second: 10, burst: 5, ..Default::default() };
        let mut bench = Bench::new(limits);
        let a = bench.join("x").unwrap();
        let b = bench.join("x").unwrap();
        for _ in 0..50 {
            bench.now += Duration::from_millis(100);
            assert_eq!(bench.send(a, "{}"), Received::Passed(Some(b)));
            bench.inbox(b);
        }
        for _ in 0..4 {
            let received = bench.pairs.receive(bench.now, a, Frame::Control);
            assert_eq!(received, Received::Nothing);
        }
        assert_eq!(bench.send(a, "{}"), Received::Refused(Refusal::TooFast));
    }

    #[test]
    fn the_number_of_pairs_is_bounded() {
        let mut bench = Bench::new(PairLimits { pairs: 2, ..Default::default() });
        bench.join("a").unwrap();
        let b = bench.join("b").unwrap();
        assert_eq!(bench.join("c"), Err(Refusal::ServerFull));
        assert!(bench.join("a").is_ok(), "a second peer needs no room");
        bench.pairs.leave(b);
        assert!(bench.join("c").is_ok());
    }
}
