//! Several forwarders of one process, each with its own thread, connections and sockets.
//!
//! They share nothing. What a connection of one receives and a connection of another is sent
//! crosses in opened batches, by reference, over a bounded ring for each direction of each
//! pair. A connection belongs to the forwarder at the place `slot % count`.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use ortc_io::ConnectionId;
use ortc_rtp::{LayerRates, OpenedRtp, SourceReport, TrackSource};

use crate::PacketForwarder;
use crate::fanout::PacketStore;
use crate::handle::Wakeup;

/// Most forwarders that can be connected: the bits of a word.
pub const MAX_FORWARDERS: usize = 64;

/// Batches that wait for another forwarder: at 64 packets each some 10 ms of a gigabit.
const RING: usize = 64;

/// Notices that wait for another forwarder in its ring; any more wait here.
const NOTICES: usize = 64;

/// What one forwarder tells another that must not be lost, and of which there is little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Somebody here is sent this track of yours.
    Subscribe(TrackSource),
    /// Nobody is any more.
    Unsubscribe(TrackSource),
}

/// What crosses from one forwarder to another.
#[derive(Debug)]
enum Crossing {
    Packets(Arc<CrossedBatch>),
    /// A key frame of this track of yours, of this encoding, is wanted.
    KeyFrame(TrackSource, u8),
    /// A peer has said what the timestamps of its track mean.
    Report(TrackSource, SourceReport),
    /// What the layers of a track take.
    LayerRates(TrackSource, LayerRates),
}

/// Packets that were opened by one forwarder, for others to read.
#[derive(Debug, Default)]
pub(crate) struct CrossedBatch {
    bytes: Vec<u8>,
    packets: Vec<CrossedPacket>,
}

#[derive(Debug, Clone, Copy)]
struct CrossedPacket {
    source: ConnectionId,
    rtp: OpenedRtp,
    offset: usize,
}

impl CrossedBatch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }

    fn push(&mut self, source: ConnectionId, rtp: OpenedRtp, packet: &[u8]) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.packets.push(CrossedPacket { source, rtp, offset });
    }

    /// The packets with their sources, by their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, ConnectionId, OpenedRtp)> {
        self.packets.iter().enumerate().map(|(at, packet)| (at, packet.source, packet.rtp))
    }
}

impl PacketStore for CrossedBatch {
    fn packet(&self, at: usize, len: usize) -> &[u8] {
        let offset = self.packets[at].offset;
        &self.bytes[offset..offset + len]
    }
}

/// The ring towards another forwarder.
#[derive(Debug)]
struct Out {
    sender: Sender<Crossing>,
    /// The other end, to make room at: who is behind loses the oldest.
    oldest: Receiver<Crossing>,
    wakeup: Arc<Wakeup>,
    /// A ring of their own, from which nothing is ever taken to make room: their order counts.
    notice_ring: Sender<Notice>,
    /// Notices that it had no room for.
    notices: VecDeque<Notice>,
    /// Whether the packets in hand are for it.
    is_wanted: bool,
}

/// The rings from another forwarder.
#[derive(Debug)]
struct In {
    place: usize,
    crossings: Receiver<Crossing>,
    notices: Receiver<Notice>,
}

/// What came from other forwarders.
#[derive(Debug)]
pub(crate) enum Arrived {
    Packets(Arc<CrossedBatch>),
    /// From the forwarder at that place.
    Notice(usize, Notice),
    KeyFrame(TrackSource, u8),
    Report(TrackSource, SourceReport),
    LayerRates(TrackSource, LayerRates),
}

/// A forwarder's place among others.
#[derive(Debug)]
pub(crate) struct Mesh {
    place: usize,
    count: usize,
    /// By place; none towards itself.
    outs: Vec<Option<Out>>,
    ins: Vec<In>,
    /// Batches that were sent, to be used again when everybody has read them.
    pool: Vec<Arc<CrossedBatch>>,
    filling: Option<Arc<CrossedBatch>>,
    /// Packets that another forwarder was too slow for.
    pub(crate) dropped: u64,
    /// Packets that were handed to another forwarder.
    pub(crate) crossed: u64,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            place: 0,
            count: 1,
            outs: Vec::new(),
            ins: Vec::new(),
            pool: Vec::new(),
            filling: None,
            dropped: 0,
            crossed: 0,
        }
    }
}

/// Connects forwarders that have not taken a turn yet: what a connection of one receives can
/// then be forwarded by a connection of any.
///
/// A connection has to be commanded at the forwarder at `slot % forwarders.len()`.
///
/// # Panics
/// When there are more than [`MAX_FORWARDERS`].
pub fn connect(forwarders: &mut [PacketForwarder]) {
    let wakeups: Vec<_> = forwarders.iter().map(PacketForwarder::wakeup).collect();
    for (forwarder, mesh) in forwarders.iter_mut().zip(Mesh::all(&wakeups)) {
        forwarder.set_mesh(mesh);
    }
}

impl Mesh {
    /// The places of all forwarders, each woken by its own `wakeup`.
    fn all(wakeups: &[Arc<Wakeup>]) -> Vec<Self> {
        let count = wakeups.len();
        assert!(count <= MAX_FORWARDERS, "{count} forwarders cannot be connected");
        let new = |place| {
            let outs = (0..count).map(|_| None).collect();
            Self { place, count, outs, ..Self::default() }
        };
        let mut all: Vec<_> = (0..count).map(new).collect();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let (sender, receiver) = bounded(RING);
                let (notice_ring, notices) = bounded(NOTICES);
                let oldest = receiver.clone();
                all[from].outs[to] = Some(Out {
                    sender,
                    oldest,
                    wakeup: Arc::clone(&wakeups[to]),
                    notice_ring,
                    notices: VecDeque::new(),
                    is_wanted: false,
                });
                all[to].ins.push(In { place: from, crossings: receiver, notices });
            }
        }
        all
    }

    /// Where a connection belongs, unless it is here.
    pub(crate) fn elsewhere(&self, connection: ConnectionId) -> Option<usize> {
        let place = connection.slot as usize % self.count;
        (place != self.place).then_some(place)
    }

    /// Adds an opened packet to what crosses to `places`, a set of bits.
    pub(crate) fn add(&mut self, places: u64, source: ConnectionId, rtp: OpenedRtp, packet: &[u8]) {
        for (place, out) in self.outs.iter_mut().enumerate() {
            if let Some(out) = out
                && places & (1 << place) != 0
            {
                out.is_wanted = true;
                self.crossed += 1;
            }
        }
        if self.filling.is_none() {
            self.filling = Some(self.take_batch());
        }
        if let Some(batch) = self.filling.as_mut().and_then(Arc::get_mut) {
            batch.push(source, rtp, packet);
        }
    }

    /// A batch that nobody reads any more, or a new one.
    fn take_batch(&mut self) -> Arc<CrossedBatch> {
        let unused = self.pool.iter_mut().position(|batch| Arc::get_mut(batch).is_some());
        let mut batch = unused.map_or_else(Arc::default, |at| self.pool.swap_remove(at));
        if let Some(batch) = Arc::get_mut(&mut batch) {
            batch.clear();
        }
        batch
    }

    /// Hands over what was added.
    pub(crate) fn send_packets(&mut self) {
        let Some(batch) = self.filling.take() else { return };
        for out in self.outs.iter_mut().flatten() {
            if std::mem::take(&mut out.is_wanted) {
                self.dropped += out.push_packets(Arc::clone(&batch));
            }
        }
        // As many as may be under way are enough to have one back in time.
        if self.pool.len() <= RING * self.count {
            self.pool.push(batch);
        }
    }

    /// Tells the forwarder that `connection` belongs to; never lost.
    pub(crate) fn notify(&mut self, connection: ConnectionId, notice: Notice) {
        if let Some(place) = self.elsewhere(connection)
            && let Some(out) = &mut self.outs[place]
        {
            out.notices.push_back(notice);
        }
    }

    /// Asks the forwarder of a track for a key frame of it. Lost when it is too busy: whoever
    /// needs it asks again.
    pub(crate) fn request_key_frame(&mut self, source: TrackSource, encoding: u8) {
        self.tell(source.connection, Crossing::KeyFrame(source, encoding));
    }

    /// Passes a report on to everybody at `places`.
    pub(crate) fn pass_report(&mut self, places: u64, source: TrackSource, report: SourceReport) {
        self.tell_all(places, || Crossing::Report(source, report));
    }

    /// Passes on what the layers of a track take.
    pub(crate) fn pass_layer_rates(&mut self, places: u64, source: TrackSource, rates: LayerRates) {
        self.tell_all(places, || Crossing::LayerRates(source, rates));
    }

    fn tell_all(&mut self, places: u64, crossing: impl Fn() -> Crossing) {
        for (place, out) in self.outs.iter_mut().enumerate() {
            if let Some(out) = out
                && places & (1 << place) != 0
            {
                out.push(crossing());
            }
        }
    }

    fn tell(&mut self, connection: ConnectionId, crossing: Crossing) {
        if let Some(place) = self.elsewhere(connection)
            && let Some(out) = &mut self.outs[place]
        {
            out.push(crossing);
        }
    }

    /// Sends the notices that wait; whether some still do.
    pub(crate) fn flush_notices(&mut self) -> bool {
        let mut waiting = false;
        for out in self.outs.iter_mut().flatten() {
            while let Some(notice) = out.notices.front() {
                if let Err(TrySendError::Full(_)) = out.notice_ring.try_send(*notice) {
                    waiting = true;
                    break;
                }
                // A forwarder that is gone wants nothing: that is as good as told.
                out.notices.pop_front();
                out.wakeup.notify();
            }
        }
        waiting
    }

    /// The next thing that came from another forwarder.
    pub(crate) fn poll(&mut self) -> Option<Arrived> {
        for from in &self.ins {
            if let Ok(notice) = from.notices.try_recv() {
                return Some(Arrived::Notice(from.place, notice));
            }
            match from.crossings.try_recv() {
                Ok(Crossing::Packets(batch)) => return Some(Arrived::Packets(batch)),
                Ok(Crossing::KeyFrame(source, encoding)) => {
                    return Some(Arrived::KeyFrame(source, encoding));
                }
                Ok(Crossing::Report(source, report)) => {
                    return Some(Arrived::Report(source, report));
                }
                Ok(Crossing::LayerRates(source, rates)) => {
                    return Some(Arrived::LayerRates(source, rates));
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
        }
        None
    }

    /// Whether something has come.
    pub(crate) fn has_arrivals(&self) -> bool {
        self.ins.iter().any(|from| !from.crossings.is_empty() || !from.notices.is_empty())
    }
}

impl Out {
    /// Pushes what may be lost when there is no room.
    fn push(&mut self, crossing: Crossing) {
        if self.sender.try_send(crossing).is_ok() {
            self.wakeup.notify();
        }
    }

    /// Pushes a batch, in place of the oldest if there is no room; how many packets that cost.
    fn push_packets(&mut self, batch: Arc<CrossedBatch>) -> u64 {
        let mut crossing = Crossing::Packets(batch);
        let mut dropped = 0;
        while let Err(TrySendError::Full(back)) = self.sender.try_send(crossing) {
            crossing = back;
            if let Ok(Crossing::Packets(batch)) = self.oldest.try_recv() {
                dropped += batch.packets.len() as u64;
            }
        }
        self.wakeup.notify();
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use ortc_rtp::Ssrc;

    use super::*;

    const SOURCE: ConnectionId = ConnectionId { slot: 0, generation: 0 };

    fn meshes(count: usize) -> Vec<Mesh> {
        let wakeups: Vec<_> = (0..count).map(|_| Wakeup::new(Waker::noop().clone())).collect();
        Mesh::all(&wakeups)
    }

    fn rtp(index: u64) -> OpenedRtp {
        OpenedRtp { ssrc: Ssrc(1), index, len: 3, padding: 0, mark: Default::default() }
    }

    /// The indices of the packets that have come.
    fn arrived(mesh: &mut Mesh) -> Vec<u64> {
        let mut indices = Vec::new();
        while let Some(arrived) = mesh.poll() {
            if let Arrived::Packets(batch) = arrived {
                for (at, source, rtp) in batch.iter() {
                    assert_eq!((batch.packet(at, 3), source), (&b"abc"[..], SOURCE));
                    indices.push(rtp.index);
                }
            }
        }
        indices
    }

    #[test]
    fn a_batch_reaches_those_who_want_it_and_its_memory_is_used_again() {
        let mut all = meshes(3);
        for round in 0..10 {
            for n in 0..4 {
                all[0].add(0b110, SOURCE, rtp(round * 8 + n), b"abc");
            }
            for n in 4..8 {
                all[0].add(0b010, SOURCE, rtp(round * 8 + n), b"abc");
            }
            all[0].send_packets();
            let expected: Vec<_> = (round * 8..round * 8 + 8).collect();
            // Who wants some of a batch is handed all of it, and looks for its own.
            assert_eq!((arrived(&mut all[1]), arrived(&mut all[2])), (expected.clone(), expected));
        }
        assert_eq!((all[0].pool.len(), all[0].crossed, all[0].dropped), (1, 120, 0));
    }

    #[test]
    fn one_that_is_behind_loses_the_oldest_and_no_notice() {
        let mut all = meshes(3);
        let source = TrackSource { connection: SOURCE, ssrc: Ssrc(1) };
        let elsewhere =
            TrackSource { connection: ConnectionId { slot: 1, generation: 0 }, ssrc: Ssrc(2) };
        all[0].notify(elsewhere.connection, Notice::Subscribe(elsewhere));
        assert!(!all[0].flush_notices());
        for n in 0..RING as u64 + 10 {
            all[0].add(0b110, SOURCE, rtp(n), b"abc");
            all[0].send_packets();
            assert_eq!(arrived(&mut all[2]), [n]);
        }
        let indices: Vec<_> = {
            let mut indices = Vec::new();
            let mut noticed = 0;
            for _ in 0..10 * RING {
                match all[1].poll() {
                    Some(Arrived::Packets(batch)) => {
                        indices.extend(batch.iter().map(|(_, _, rtp)| rtp.index));
                    }
                    Some(Arrived::Notice(place, notice)) => {
                        assert_eq!((place, notice), (0, Notice::Subscribe(elsewhere)));
                        noticed += 1;
                    }
                    Some(other) => panic!("{other:?}"),
                    None => drop(all[0].flush_notices()),
                }
            }
            assert_eq!(noticed, 1);
            indices
        };
        let oldest = all[0].dropped;
        assert_eq!(oldest, 10);
        assert_eq!(indices, (oldest..RING as u64 + 10).collect::<Vec<_>>());
        // More than their ring holds, and in their order: the last word counts.
        let notices: Vec<_> = (0..3 * NOTICES)
            .map(|n| if n % 2 == 0 { Notice::Unsubscribe } else { Notice::Subscribe }(elsewhere))
            .collect();
        notices.iter().for_each(|notice| all[0].notify(elsewhere.connection, *notice));
        let mut told = Vec::new();
        for _ in 0..3 {
            all[0].flush_notices();
            while let Some(arrived) = all[1].poll() {
                let Arrived::Notice(0, notice) = arrived else { panic!("{arrived:?}") };
                told.push(notice);
            }
        }
        assert_eq!(told, notices);
        // A key frame may get lost; one that is wanted still is asked for again.
        all[1].request_key_frame(source, 2);
        assert!(matches!(all[0].poll(), Some(Arrived::KeyFrame(asked, 2)) if asked == source));
    }
}
