//! Any order of joining, sending, taking and leaving keeps what the pairs promise.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ortc_server::pairs::{Frame, Outbound, PairLimits, Pairs, PeerId, Received, Refusal};

const NAMES: [&str; 3] = ["a", "b", "c"];

const LIMITS: PairLimits = PairLimits {
    pairs: 2,
    message_bytes: 64,
    waiting_messages: 4,
    waiting_bytes: 100,
    frames_per_second: 1000,
    burst: 1000,
};

/// What a test knows of one name.
#[derive(Debug, Default)]
struct Known {
    /// Who has joined, in order; `None` once it has left.
    peers: Vec<Option<PeerId>>,
    /// What each of the two seats has been sent and not taken yet.
    due: [VecDeque<Outbound>; 2],
}

#[test]
fn every_message_arrives_once_and_in_order_or_its_sender_or_reader_is_told() {
    for seed in 0..300 {
        Run::new(seed).go(400);
    }
}

struct Run {
    random: u64,
    now: Instant,
    pairs: Pairs,
    known: BTreeMap<&'static str, Known>,
    said: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let pairs = Pairs::new(LIMITS);
        Self { random: seed, now: Instant::now(), pairs, known: BTreeMap::new(), said: 0 }
    }

    fn go(&mut self, operations: usize) {
        for _ in 0..operations {
            self.now += Duration::from_millis(10);
            let name = NAMES[self.below(NAMES.len())];
            match self.below(8) {
                0 | 1 => self.join(name),
                2 => self.leave(name),
                3 | 4 => self.take(name),
                _ => self.say(name),
            }
            assert_eq!(self.pairs.len(), self.known.len());
        }
        for name in NAMES {
            self.leave(name);
            self.leave(name);
        }
        assert!(self.pairs.is_empty());
    }

    fn join(&mut self, name: &'static str) {
        let joined = self.pairs.join(self.now, name);
        let is_full = self.known.len() >= LIMITS.pairs;
        match self.known.get_mut(name) {
            None if is_full => assert_eq!(joined, Err(Refusal::ServerFull)),
            None => {
                let peers = vec![Some(joined.unwrap())];
                self.known.insert(name, Known { peers, ..Known::default() });
            }
            Some(known) => match known.peers[..] {
                [Some(_)] => known.peers.push(Some(joined.unwrap())),
                [Some(_), Some(_)] => assert_eq!(joined, Err(Refusal::PairFull)),
                _ => assert_eq!(joined, Err(Refusal::PairEnded)),
            },
        }
    }

    fn leave(&mut self, name: &'static str) {
        let Some((seat, peer)) = self.pick(name) else { return };
        let other = self.known[name].peers.get(1 - seat).copied().flatten();
        assert_eq!(self.pairs.leave(peer), other);
        assert_eq!(self.pairs.take(peer), None, "it is forgotten");
        let known = self.known.get_mut(name).unwrap();
        known.peers[seat] = None;
        match other {
            Some(_) => known.due[1 - seat].push_back(Outbound::Bye),
            None => drop(self.known.remove(name)),
        }
    }

    fn take(&mut self, name: &'static str) {
        let Some((seat, peer)) = self.pick(name) else { return };
        let due = &mut self.known.get_mut(name).unwrap().due[seat];
        assert_eq!(self.pairs.take(peer), due.pop_front());
    }

    fn say(&mut self, name: &'static str) {
        let Some((seat, peer)) = self.pick(name) else { return };
        self.said += 1;
        let fill = "x".repeat(self.below(40));
        let text = format!("{{\"n\":{},\"fill\":\"{fill}\"}}", self.said);
        let frame = Frame::Text(text.clone());
        let received = self.pairs.receive(self.now, peer, frame);
        let known = self.known.get_mut(name).unwrap();
        let other = known.peers.get(1 - seat).copied().flatten();
        let due = &mut known.due[1 - seat];
        match received {
            Received::Passed(to) => {
                assert_eq!(to, other);
                if other.is_some_and(|other| self.pairs.is_put_out(other)) {
                    *due = VecDeque::from([Outbound::Close(Refusal::TooSlow)]);
                } else {
                    due.push_back(Outbound::Message(text));
                }
            }
            Received::Nothing => assert!(self.pairs.is_put_out(other.unwrap())),
            Received::Complained(_) => assert_eq!(other, None, "only nobody cannot be reached"),
            Received::Refused(refusal) => panic!("{refusal}"),
        }
        let messages = due.iter().filter(|outbound| matches!(outbound, Outbound::Message(_)));
        assert!(messages.count() <= LIMITS.waiting_messages);
    }

    /// One of the peers that are in the pair.
    fn pick(&mut self, name: &str) -> Option<(usize, PeerId)> {
        let peers = self.known.get(name)?.peers.iter().enumerate();
        let there: Vec<_> = peers.filter_map(|(seat, peer)| Some((seat, (*peer)?))).collect();
        Some(there[self.below(there.len())])
    }

    /// SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }
}
