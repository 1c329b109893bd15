//! Any order of joining, publishing, ending, asking and leaving keeps what rooms promise.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ortc_server::rooms::{
    Change, Complaint, MemberId, Notice, Refusal, RoomLimits, Rooms, TrackId,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What a test knows of one member.
#[derive(Debug)]
struct Known {
    room: &'static str,
    /// What it publishes.
    own: BTreeMap<u32, TrackId>,
    /// What it has been told of and not been told the end of.
    heard: BTreeSet<TrackId>,
    connected: bool,
    deadline: Option<Instant>,
}

#[test]
fn every_member_knows_the_tracks_of_the_others_once_it_has_asked() {
    for seed in 0..200 {
        Run::new(seed).go(500);
    }
}

struct Run {
    random: u64,
    now: Instant,
    limits: RoomLimits,
    rooms: Rooms,
    known: BTreeMap<MemberId, Known>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let limits = RoomLimits {
            rooms: 2,
            members: 6,
            room_members: 4,
            room_tracks: 5,
            member_tracks: 3,
            ..RoomLimits::default()
        };
        let rooms = Rooms::new(limits.clone());
        Self { random: seed, now: Instant::now(), limits, rooms, known: BTreeMap::new() }
    }

    fn go(&mut self, operations: usize) {
        for _ in 0..operations {
            self.now += Duration::from_secs(1);
            match self.below(12) {
                0 | 1 => self.join(),
                2 => self.leave(),
                3..=5 => self.publish(),
                6 | 7 => self.end(),
                8 => self.reach(),
                9 => self.wait(),
                _ => self.ask(),
            }
            self.check();
        }
        for member in self.members() {
            while self.hear(member) {}
            assert_eq!(self.known[&member].heard, self.of_others(member));
        }
        for member in self.members() {
            self.rooms.leave(member);
            self.known.remove(&member);
            self.check();
        }
        assert!(self.rooms.is_empty());
    }

    fn check(&self) {
        let rooms: BTreeSet<_> = self.known.values().map(|member| member.room).collect();
        let tracks: usize = self.known.values().map(|member| member.own.len()).sum();
        assert_eq!(self.rooms.len(), rooms.len());
        assert_eq!((self.rooms.members(), self.rooms.tracks()), (self.known.len(), tracks));
        for (id, member) in &self.known {
            assert_eq!(self.rooms.poll_timeout(*id), member.deadline);
        }
    }

    fn join(&mut self) {
        let room = NAMES[self.below(NAMES.len())];
        let there = self.known.values().filter(|member| member.room == room).count();
        let rooms: BTreeSet<_> = self.known.values().map(|member| member.room).collect();
        let joined = self.rooms.join(self.now, room);
        if there >= self.limits.room_members {
            assert_eq!(joined, Err(Refusal::RoomFull(4)));
        } else if self.known.len() >= self.limits.members
            || there == 0 && rooms.len() >= self.limits.rooms
        {
            assert_eq!(joined, Err(Refusal::ServerFull));
        } else {
            let member = Known {
                room,
                own: BTreeMap::new(),
                heard: BTreeSet::new(),
                connected: false,
                deadline: Some(self.now + self.limits.connecting),
            };
            assert!(self.known.insert(joined.unwrap(), member).is_none(), "a new name");
        }
    }

    fn leave(&mut self) {
        let Some(id) = self.pick() else { return };
        let others = self.others(id);
        let changes = self.rooms.leave(id);
        let member = self.known.remove(&id).unwrap();
        let change = |track: &TrackId| Change { track: *track, others: others.clone() };
        let expected: Vec<_> = member.own.values().map(change).collect();
        assert_eq!(changes, expected);
        assert_eq!((self.rooms.take(id), self.rooms.poll_timeout(id)), (None, None));
    }

    fn publish(&mut self) {
        let Some(id) = self.pick() else { return };
        let ssrc = self.below(5) as u32;
        let others = self.others(id);
        let room = self.known[&id].room;
        let in_room = self.known.values().filter(|m| m.room == room).map(|m| m.own.len());
        let in_room: usize = in_room.sum();
        let may = self.rooms.may_publish(id, &[]);
        let change = self.rooms.publish(id, ssrc);
        let own = &mut self.known.get_mut(&id).unwrap().own;
        if own.len() >= self.limits.member_tracks {
            assert_eq!((may, change), (Err(Complaint::TooManyTracks(3)), None));
        } else if in_room >= self.limits.room_tracks {
            assert_eq!((may, change), (Err(Complaint::RoomFull(5)), None));
        } else if let Entry::Vacant(free) = own.entry(ssrc) {
            let change = change.unwrap();
            assert_eq!(change.others, others);
            free.insert(change.track);
        } else {
            assert_eq!((may, change), (Ok(()), None));
        }
    }

    fn end(&mut self) {
        let Some(id) = self.pick() else { return };
        let ssrc = self.below(5) as u32;
        let others = self.others(id);
        let published = self.rooms.published(id, ssrc);
        let change = self.rooms.end(id, ssrc);
        let track = self.known.get_mut(&id).unwrap().own.remove(&ssrc);
        assert_eq!(published, track);
        assert_eq!(change, track.map(|track| Change { track, others }));
    }

    fn reach(&mut self) {
        let Some(id) = self.pick() else { return };
        let is_found = self.below(2) == 0;
        let member = self.known.get_mut(&id).unwrap();
        if is_found {
            self.rooms.connected(id);
            (member.connected, member.deadline) = (true, None);
        } else {
            self.rooms.path_lost(self.now, id);
            if std::mem::take(&mut member.connected) {
                member.deadline = Some(self.now + self.limits.outage);
            }
        }
    }

    fn wait(&mut self) {
        let Some(id) = self.pick() else { return };
        let is_due = self.known[&id].deadline.is_some_and(|at| at <= self.now);
        let refusal = self.rooms.handle_timeout(self.now, id);
        assert_eq!(refusal.is_some(), is_due, "{refusal:?}");
    }

    fn ask(&mut self) {
        if let Some(id) = self.pick() {
            self.hear(id);
        }
    }

    /// Has a member told one thing; whether there was one.
    fn hear(&mut self, id: MemberId) -> bool {
        let there = self.of_others(id);
        let notice = self.rooms.take(id);
        let heard = &mut self.known.get_mut(&id).unwrap().heard;
        match notice {
            Some(Notice::TrackAdded(track)) => {
                assert!(there.contains(&track), "only of what is there");
                assert!(heard.insert(track), "and once");
            }
            Some(Notice::TrackEnded(track)) => {
                assert!(!there.contains(&track) && heard.remove(&track));
            }
            None => assert_eq!(*heard, there),
        }
        notice.is_some()
    }

    fn members(&self) -> Vec<MemberId> {
        self.known.keys().copied().collect()
    }

    fn others(&self, id: MemberId) -> Vec<MemberId> {
        let room = self.known[&id].room;
        let is_other = |(other, member): &(&MemberId, &Known)| member.room == room && **other != id;
        self.known.iter().filter(is_other).map(|(other, _)| *other).collect()
    }

    /// What the others in a member's room publish.
    fn of_others(&self, id: MemberId) -> BTreeSet<TrackId> {
        let others = self.others(id);
        others.iter().flat_map(|other| self.known[other].own.values().copied()).collect()
    }

    fn pick(&mut self) -> Option<MemberId> {
        let members = self.members();
        if members.is_empty() { None } else { Some(members[self.below(members.len())]) }
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
