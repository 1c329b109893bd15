//! From one peer to many: what was opened once is sealed for everybody who is sent it.
//!
//! Packets stay where they were received and opened until they have been sealed for all.
//! That goes subscriber by subscriber, so that what is for one address stands in one run.

use std::time::Instant;

use ortc_io::{ConnectionId, DatagramIo, Path, ReceiveBatch, SendBatch};
use ortc_rtp::{ForwardConfig, ForwardTarget, OpenedRtp, RtpView, Ssrc, TrackSource};

use crate::link::{Link, guarded};
use crate::plane::Plane;

/// Runs that are gathered before they are handed to the network: as many as go into one
/// system call. More would only push each other out of the cache.
const RUNS_PER_FLUSH: usize = 32;

/// Who is sent a received track.
#[derive(Debug)]
pub(crate) struct Subscription {
    ssrc: Ssrc,
    subscribers: Vec<Subscriber>,
}

/// A sending track of another connection.
#[derive(Debug, Clone, Copy)]
struct Subscriber {
    connection: ConnectionId,
    target: ForwardTarget,
}

/// A packet of the batch in hand that was opened and is wanted by somebody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    source: ConnectionId,
    /// Its place in the batch.
    datagram: usize,
    rtp: OpenedRtp,
}

/// Packets that follow each other in the batch and go to one sending track.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    first: usize,
    count: usize,
    target: ForwardTarget,
}

/// What a fan-out works with; kept for its memory.
#[derive(Debug, Default)]
pub(crate) struct FanOut {
    opened: Vec<Opened>,
    /// Slots of connections that have something pending, in the order in which they came up.
    destinations: Vec<u32>,
}

impl Link {
    /// The subscribers of a track that this connection receives.
    fn subscription(&mut self, ssrc: Ssrc) -> Option<&mut Subscription> {
        let at = self.subscriptions.binary_search_by_key(&ssrc, |s| s.ssrc).ok()?;
        Some(&mut self.subscriptions[at])
    }

    /// Whether anybody is sent a track of this connection.
    pub(crate) fn is_subscribed(&self, ssrc: Ssrc) -> bool {
        self.subscriptions.binary_search_by_key(&ssrc, |s| s.ssrc).is_ok()
    }

    fn subscribe(&mut self, ssrc: Ssrc, subscriber: Subscriber) {
        let at = match self.subscriptions.binary_search_by_key(&ssrc, |s| s.ssrc) {
            Ok(at) => at,
            Err(at) => {
                self.subscriptions.insert(at, Subscription { ssrc, subscribers: Vec::new() });
                at
            }
        };
        let subscribers = &mut self.subscriptions[at].subscribers;
        let same = |other: &Subscriber| {
            other.connection == subscriber.connection && other.target.ssrc == subscriber.target.ssrc
        };
        if !subscribers.iter().any(same) {
            subscribers.push(subscriber);
        }
    }

    fn unsubscribe(&mut self, ssrc: Ssrc, gone: impl Fn(&Subscriber) -> bool) {
        if let Some(subscription) = self.subscription(ssrc) {
            subscription.subscribers.retain(|subscriber| !gone(subscriber));
        }
        self.subscriptions.retain(|subscription| !subscription.subscribers.is_empty());
    }
}

/// How far [`Link::forward`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forwarded {
    /// Nothing is pending any more.
    All,
    /// The batch is full: send it and go on.
    BatchFull,
}

/// What of the pending packets is done.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    pending: usize,
    packets: usize,
}

impl Link {
    /// Writes and seals what is pending straight into `outgoing`.
    fn forward(
        &mut self,
        now: Instant,
        path: Option<Path>,
        (opened, batch): (&[Opened], &ReceiveBatch),
        outgoing: &mut SendBatch,
        progress: &mut Progress,
    ) -> Forwarded {
        let Some(session) = &mut self.session else { return Forwarded::All };
        while let Some(pending) = self.pending.get(progress.pending) {
            let mut target = pending.target;
            let Some(path) = path else {
                session.count_no_path(pending.count as u64);
                progress.pending += 1;
                continue;
            };
            while progress.packets < pending.count {
                let Opened { datagram, rtp, .. } = opened[pending.first + progress.packets];
                // It was parsed when it was opened, and parses again.
                if let Ok(packet) = RtpView::parse(&batch.get(datagram)[..rtp.len])
                    && let Some(room) = session.forward_room(&mut target, &packet)
                {
                    let fits = outgoing.push_with(path.socket, path.remote, room, |buffer| {
                        session.write_forward(now, target, &packet, rtp.index, buffer)
                    });
                    if !fits && !outgoing.is_empty() {
                        return Forwarded::BatchFull;
                    }
                    debug_assert!(fits, "no packet is larger than a whole batch");
                }
                progress.packets += 1;
            }
            *progress = Progress { pending: progress.pending + 1, packets: 0 };
        }
        Forwarded::All
    }
}

impl Plane {
    /// Adds a track to be sent that another connection receives.
    pub(crate) fn add_forward(
        &mut self,
        now: Instant,
        id: ConnectionId,
        config: ForwardConfig,
        io: &mut impl DatagramIo,
    ) {
        let (source, ssrc) = (config.source, config.ssrc);
        self.remove_forward(id, ssrc);
        if !self.with_session(id, io, |session| session.add_forward(now, config)) {
            return;
        }
        let subscriber = Subscriber { connection: id, target: ForwardTarget::new(ssrc) };
        // The source may be on its way: its own commands come by another road.
        if let Some(link) = self.ensure(now, source.connection, io) {
            link.subscribe(source.ssrc, subscriber);
        }
    }

    /// Has a track not be fed any more by what another connection receives.
    pub(crate) fn remove_forward(&mut self, id: ConnectionId, ssrc: Ssrc) {
        let link = self.links.get_mut(id);
        let source = link.and_then(|link| link.session.as_ref()?.source_of(ssrc));
        if let Some(source) = source
            && let Some(link) = self.links.get_mut(source.connection)
        {
            link.unsubscribe(source.ssrc, |s| s.connection == id && s.target.ssrc == ssrc);
        }
    }

    /// Notes a packet of the batch that was opened.
    pub(crate) fn opened(&mut self, source: ConnectionId, datagram: usize, rtp: OpenedRtp) {
        if self.links.get_mut(source).is_some_and(|link| link.is_subscribed(rtp.ssrc)) {
            self.fan_out.opened.push(Opened { source, datagram, rtp });
        }
    }

    /// Seals what was opened of `batch` for all who are sent it.
    pub(crate) fn fan_out(&mut self, now: Instant, batch: &ReceiveBatch, io: &mut impl DatagramIo) {
        if self.fan_out.opened.is_empty() {
            return;
        }
        self.distribute();
        let mut destinations = std::mem::take(&mut self.fan_out.destinations);
        for slot in destinations.drain(..) {
            self.forward_to(now, slot, batch, io);
            if self.outgoing.runs() >= RUNS_PER_FLUSH {
                self.flush(io);
            }
        }
        self.fan_out.destinations = destinations;
        self.fan_out.opened.clear();
    }

    /// Tells every subscriber which packets it gets.
    fn distribute(&mut self) {
        let opened = std::mem::take(&mut self.fan_out.opened);
        let mut first = 0;
        while let Some(Opened { source, rtp, .. }) = opened.get(first).copied() {
            let count = opened[first..]
                .iter()
                .take_while(|other| other.source == source && other.rtp.ssrc == rtp.ssrc)
                .count();
            self.distribute_run(source, rtp.ssrc, first, count);
            first += count;
        }
        self.fan_out.opened = opened;
    }

    fn distribute_run(&mut self, source: ConnectionId, ssrc: Ssrc, first: usize, count: usize) {
        let Some(link) = self.links.get_mut(source) else { return };
        let Some(subscription) = link.subscription(ssrc) else { return };
        let subscribers = std::mem::take(&mut subscription.subscribers);
        let mut stale = false;
        for Subscriber { connection, target } in &subscribers {
            match self.links.get_mut(*connection) {
                Some(link) if link.session.is_some() => {
                    if link.pending.is_empty() {
                        self.fan_out.destinations.push(connection.slot);
                    }
                    link.pending.push(Pending { first, count, target: *target });
                }
                _ => stale = true,
            }
        }
        let link = self.links.get_mut(source).expect("it was here a moment ago");
        if let Some(subscription) = link.subscription(ssrc) {
            subscription.subscribers = subscribers;
        }
        if stale {
            self.drop_stale(source, ssrc);
        }
    }

    /// Forgets subscribers that have closed.
    fn drop_stale(&mut self, source: ConnectionId, ssrc: Ssrc) {
        let Some(link) = self.links.get_mut(source) else { return };
        let Some(subscription) = link.subscription(ssrc) else { return };
        let mut subscribers = std::mem::take(&mut subscription.subscribers);
        subscribers.retain(|subscriber| {
            self.links.get_mut(subscriber.connection).is_some_and(|link| link.session.is_some())
        });
        let link = self.links.get_mut(source).expect("it was here a moment ago");
        if let Some(subscription) = link.subscription(ssrc) {
            subscription.subscribers = subscribers;
        }
        link.unsubscribe(ssrc, |_| false);
    }

    /// Seals what is pending for one connection.
    fn forward_to(
        &mut self,
        now: Instant,
        slot: u32,
        batch: &ReceiveBatch,
        io: &mut impl DatagramIo,
    ) {
        let Some(link) = self.links.at_mut(slot) else { return };
        let id = link.id;
        let path = self.paths.sending_path(id);
        let mut progress = Progress::default();
        loop {
            let Some(link) = self.links.get_mut(id) else { return };
            let (opened, outgoing) = (&self.fan_out.opened, &mut self.outgoing);
            match guarded(|| link.forward(now, path, (opened, batch), outgoing, &mut progress)) {
                Some(Forwarded::All) => break,
                Some(Forwarded::BatchFull) => self.flush(io),
                None => return self.give_up(id, io),
            }
        }
        let Some(link) = self.links.get_mut(id) else { return };
        link.pending.clear();
        if link.session.as_ref().is_some_and(|session| session.has_key_frame_requests()) {
            self.touch(id);
        }
    }

    /// Passes on when a peer says what its timestamps mean, for the reports of those who are
    /// sent its tracks.
    pub(crate) fn pass_reports(&mut self, source: ConnectionId) {
        let count = self.links.get_mut(source).map_or(0, |link| link.subscriptions.len());
        for at in 0..count {
            let Some(link) = self.links.get_mut(source) else { return };
            let Subscription { ssrc, subscribers } = &mut link.subscriptions[at];
            let report = link.session.as_ref().and_then(|session| session.source_report(*ssrc));
            let Some((received_at, timestamp)) = report else { continue };
            let subscribers = std::mem::take(subscribers);
            for Subscriber { connection, target } in &subscribers {
                let link = self.links.get_mut(*connection);
                if let Some(session) = link.and_then(|link| link.session.as_mut()) {
                    session.on_source_report(target.ssrc, received_at, timestamp);
                }
            }
            if let Some(link) = self.links.get_mut(source) {
                link.subscriptions[at].subscribers = subscribers;
            }
        }
    }

    /// Has the peers of tracks asked for the key frames that others want of them.
    pub(crate) fn request_key_frames(
        &mut self,
        now: Instant,
        id: ConnectionId,
        io: &mut impl DatagramIo,
    ) {
        while let Some(TrackSource { connection, ssrc }) =
            self.links.get_mut(id).and_then(|link| link.session.as_mut()?.poll_key_frame_request())
        {
            if self.links.get_mut(connection).is_some() {
                self.with_session(connection, io, |session| session.request_key_frame(now, ssrc));
            }
        }
    }
}
