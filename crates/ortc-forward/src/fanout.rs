//! From one peer to many: what was opened once is sealed for everybody who is sent it.
//!
//! Packets stay where they were received and opened until they have been sealed for all.
//! That goes subscriber by subscriber, so that what is for one address stands in one run.

#[cfg(test)]
mod tests;

use std::time::Instant;

use ortc_io::{ConnectionId, DatagramIo, Path, ReceiveBatch, SendBatch};
use ortc_rtp::{
    FORWARD_ROOM, ForwardConfig, ForwardTarget, LayerRates, MAX_ENCODINGS, OpenedRtp,
    Retransmission, RtpSession, RtpView, SourceReport, Ssrc, TrackSource,
};

use crate::flight::record_sent;
use crate::history::Histories;
use crate::link::{Link, guarded};
use crate::mesh::{Arrived, CrossedBatch, Notice};
use crate::padding::even_out;
use crate::plane::Plane;

/// Batches of other forwarders that are served in one turn.
const ARRIVALS_PER_TURN: usize = 16;

/// Where opened packets stand.
pub(crate) trait PacketStore {
    /// The packet at a place, of which `len` bytes are plaintext.
    fn packet(&self, at: usize, len: usize) -> &[u8];
}

impl PacketStore for ReceiveBatch {
    fn packet(&self, at: usize, len: usize) -> &[u8] {
        &self.get(at)[..len]
    }
}

/// Who is sent a received track.
#[derive(Debug)]
pub(crate) struct Subscription {
    ssrc: Ssrc,
    subscribers: Vec<Subscriber>,
    /// Other forwarders that have subscribers of it, as a set of bits.
    places: u64,
    /// What they may be sent again, where one of those here may.
    history: Option<Box<Histories>>,
}

/// Who is sent a track that a connection of another forwarder receives.
#[derive(Debug)]
pub(crate) struct Foreign {
    source: TrackSource,
    subscribers: Vec<Subscriber>,
    /// As of a [`Subscription`]: kept here as well, so that nothing is asked of the other.
    history: Option<Box<Histories>>,
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

impl Opened {
    /// Whether it is of the same stream of packets: of one encoding, where there are several.
    fn is_with(&self, source: ConnectionId, rtp: OpenedRtp) -> bool {
        let is_same_track = self.source == source && self.rtp.ssrc == rtp.ssrc;
        is_same_track && self.rtp.mark.encoding == rtp.mark.encoding
    }
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

    fn subscription_or_new(&mut self, ssrc: Ssrc) -> &mut Subscription {
        let at = match self.subscriptions.binary_search_by_key(&ssrc, |s| s.ssrc) {
            Ok(at) => at,
            Err(at) => {
                let new = Subscription { ssrc, subscribers: Vec::new(), places: 0, history: None };
                self.subscriptions.insert(at, new);
                at
            }
        };
        &mut self.subscriptions[at]
    }

    /// Forgets subscriptions that nobody has any more.
    fn drop_unsubscribed(&mut self) {
        self.subscriptions.retain(|it| !it.subscribers.is_empty() || it.places != 0);
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
    /// Whether a track was found elsewhere than the last time.
    has_moved: bool,
}

impl Progress {
    /// Goes on with what is pending next.
    fn next(&mut self) {
        self.pending += 1;
        self.packets = 0;
    }
}

impl Link {
    /// Writes and seals what is pending straight into `outgoing`.
    fn forward(
        &mut self,
        now: Instant,
        path: Option<Path>,
        (opened, batch): (&[Opened], &impl PacketStore),
        outgoing: &mut SendBatch,
        progress: &mut Progress,
    ) -> Forwarded {
        let Some(session) = &mut self.session else { return Forwarded::All };
        let recorder = &mut self.recorder;
        while let Some(pending) = self.pending.get(progress.pending) {
            let mut target = pending.target;
            let Some(path) = path else {
                session.count_no_path(pending.count as u64);
                progress.next();
                continue;
            };
            let packets = &opened[pending.first..pending.first + pending.count];
            let packets = &packets[progress.packets..];
            let run = session.forward_run(now, &mut target, packets.len());
            if target != pending.target {
                self.pending[progress.pending].target = target;
                progress.has_moved = true;
            }
            let Some(mut run) = run else {
                progress.next();
                continue;
            };
            for Opened { datagram, rtp, .. } in packets {
                // It was parsed when it was opened, and parses again.
                if let Ok(packet) = RtpView::parse(batch.packet(*datagram, rtp.len)) {
                    let fits = outgoing.push_on(path, FORWARD_ROOM, |buffer| {
                        let len = run.write(&packet, rtp, buffer)?;
                        record_sent(recorder, now, path, &buffer[..len]);
                        Some(len)
                    });
                    if !fits && !outgoing.is_empty() {
                        return Forwarded::BatchFull;
                    }
                    debug_assert!(fits, "no packet is larger than a whole batch");
                }
                progress.packets += 1;
            }
            progress.next();
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
        if self.mesh.elsewhere(source.connection).is_some() {
            self.foreign_or_new(source).subscribers.push(subscriber);
        } else if let Some(link) = self.ensure(now, source.connection, io) {
            // The source may be on its way: its own commands come by another road.
            link.subscription_or_new(source.ssrc).subscribers.push(subscriber);
        }
    }

    fn foreign(&mut self, source: TrackSource) -> Option<&mut Foreign> {
        let at = self.foreign.binary_search_by_key(&source, |it| it.source).ok()?;
        Some(&mut self.foreign[at])
    }

    /// The subscribers here of a track elsewhere; the first of them is told of there.
    fn foreign_or_new(&mut self, source: TrackSource) -> &mut Foreign {
        let at = match self.foreign.binary_search_by_key(&source, |it| it.source) {
            Ok(at) => at,
            Err(at) => {
                self.mesh.notify(source.connection, Notice::Subscribe(source));
                let new = Foreign { source, subscribers: Vec::new(), history: None };
                self.foreign.insert(at, new);
                at
            }
        };
        &mut self.foreign[at]
    }

    /// Takes the subscribers of a track out, to be put back when they have been served.
    fn take_subscribers(&mut self, source: TrackSource) -> Vec<Subscriber> {
        std::mem::take(match self.subscribers_mut(source) {
            Some(subscribers) => subscribers,
            None => return Vec::new(),
        })
    }

    fn subscribers_mut(&mut self, source: TrackSource) -> Option<&mut Vec<Subscriber>> {
        if self.mesh.elsewhere(source.connection).is_some() {
            return Some(&mut self.foreign(source)?.subscribers);
        }
        let link = self.links.get_mut(source.connection)?;
        Some(&mut link.subscription(source.ssrc)?.subscribers)
    }

    /// Puts the subscribers of a track back; without any, the track is forgotten.
    fn put_subscribers(&mut self, source: TrackSource, subscribers: Vec<Subscriber>) {
        let is_empty = subscribers.is_empty();
        if let Some(place) = self.subscribers_mut(source) {
            *place = subscribers;
        }
        if !is_empty {
            return;
        }
        if self.mesh.elsewhere(source.connection).is_some() {
            if let Ok(at) = self.foreign.binary_search_by_key(&source, |it| it.source) {
                self.foreign.remove(at);
                self.mesh.notify(source.connection, Notice::Unsubscribe(source));
            }
        } else if let Some(link) = self.links.get_mut(source.connection) {
            link.drop_unsubscribed();
        }
    }

    /// Has a track not be fed any more by what another connection receives.
    pub(crate) fn remove_forward(&mut self, id: ConnectionId, ssrc: Ssrc) {
        let link = self.links.get_mut(id);
        let source = link.and_then(|link| link.session.as_ref()?.source_of(ssrc));
        let Some(source) = source else { return };
        let mut subscribers = self.take_subscribers(source);
        subscribers.retain(|it| it.connection != id || it.target.ssrc != ssrc);
        self.put_subscribers(source, subscribers);
    }

    fn history_mut(&mut self, source: TrackSource) -> Option<&mut Option<Box<Histories>>> {
        if self.mesh.elsewhere(source.connection).is_some() {
            return Some(&mut self.foreign(source)?.history);
        }
        let link = self.links.get_mut(source.connection)?;
        Some(&mut link.subscription(source.ssrc)?.history)
    }

    /// Has packets of a track be kept from now on, as long as anybody is sent it.
    pub(crate) fn keep_history(&mut self, source: TrackSource) {
        if let Some(history) = self.history_mut(source) {
            history.get_or_insert_default();
        }
    }

    /// A packet of a track of another connection, if it is kept.
    pub(crate) fn kept(&mut self, now: Instant, wanted: &Retransmission) -> Option<&[u8]> {
        let histories = self.history_mut(wanted.source)?.as_ref()?;
        histories.get(now, wanted.encoding, wanted.source_index)
    }

    /// Notes a packet of the batch that was opened.
    pub(crate) fn opened(
        &mut self,
        now: Instant,
        source: ConnectionId,
        datagram: usize,
        rtp: OpenedRtp,
        packet: &[u8],
    ) {
        let Some(link) = self.links.get_mut(source) else { return };
        let rates = match &mut link.session {
            Some(session) if rtp.mark.is_layered() => session.take_layer_rates(rtp.ssrc),
            _ => None,
        };
        let Some(subscription) = link.subscription(rtp.ssrc) else { return };
        let places = subscription.places;
        if let Some(history) = &mut subscription.history {
            history.push(now, rtp.mark.encoding, rtp.index, packet);
        }
        if places != 0 {
            self.mesh.add(places, source, rtp, packet);
        }
        self.fan_out.opened.push(Opened { source, datagram, rtp });
        if let Some(rates) = rates {
            let source = TrackSource { connection: source, ssrc: rtp.ssrc };
            self.mesh.pass_layer_rates(places, source, rates);
            self.pass_layer_rates(now, source, rates);
        }
    }

    /// Takes what has come from other forwarders; whether there may be more.
    pub(crate) fn take_arrivals(&mut self, now: Instant, io: &mut impl DatagramIo) -> bool {
        for _ in 0..ARRIVALS_PER_TURN {
            match self.mesh.poll() {
                None => return false,
                Some(Arrived::Packets(batch)) => self.fan_out_crossed(now, &batch, io),
                Some(Arrived::KeyFrame(source, encoding)) => {
                    self.request_key_frame(now, source, encoding, io);
                }
                Some(Arrived::Notice(place, notice)) => self.take_notice(now, place, notice, io),
                Some(Arrived::Report(source, report)) => self.pass_report(source, report),
                Some(Arrived::LayerRates(source, rates)) => {
                    self.pass_layer_rates(now, source, rates);
                }
            }
        }
        self.mesh.has_arrivals()
    }

    fn take_notice(
        &mut self,
        now: Instant,
        place: usize,
        notice: Notice,
        io: &mut impl DatagramIo,
    ) {
        match notice {
            Notice::Subscribe(source) => {
                if let Some(link) = self.ensure(now, source.connection, io) {
                    link.subscription_or_new(source.ssrc).places |= 1 << place;
                }
            }
            Notice::Unsubscribe(source) => {
                if let Some(link) = self.links.get_mut(source.connection) {
                    if let Some(subscription) = link.subscription(source.ssrc) {
                        subscription.places &= !(1 << place);
                    }
                    link.drop_unsubscribed();
                }
            }
        }
    }

    /// Seals what another forwarder has opened for all here who are sent it.
    fn fan_out_crossed(&mut self, now: Instant, batch: &CrossedBatch, io: &mut impl DatagramIo) {
        for (datagram, source, rtp) in batch.iter() {
            let track = TrackSource { connection: source, ssrc: rtp.ssrc };
            if let Some(history) = self.foreign(track).and_then(|it| it.history.as_mut()) {
                let packet = batch.packet(datagram, rtp.len);
                history.push(now, rtp.mark.encoding, rtp.index, packet);
            }
            self.fan_out.opened.push(Opened { source, datagram, rtp });
        }
        self.fan_out(now, batch, io);
    }

    /// Seals what was opened of `batch` for all who are sent it.
    pub(crate) fn fan_out(
        &mut self,
        now: Instant,
        batch: &impl PacketStore,
        io: &mut impl DatagramIo,
    ) {
        if self.fan_out.opened.is_empty() {
            return;
        }
        let (begun, sending) = (self.read_stopwatch(), self.stats.steps.send);
        self.mesh.send_packets();
        self.even_out(batch);
        self.distribute();
        let mut destinations = std::mem::take(&mut self.fan_out.destinations);
        for (place, slot) in destinations.iter().copied().enumerate() {
            self.fetch_ahead(&destinations[place + 1..]);
            let (runs, room) = (self.outgoing.runs(), self.outgoing.remaining());
            self.forward_to(now, slot, batch, io);
            // The next one most likely gets as much, which is to stay in one piece.
            let runs = self.outgoing.runs().saturating_sub(runs);
            let bytes = room.saturating_sub(self.outgoing.remaining());
            if self.outgoing.runs() + runs > SendBatch::RUNS_PER_CALL
                || self.outgoing.remaining() < bytes + FORWARD_ROOM
            {
                self.flush(io);
            }
        }
        destinations.clear();
        self.fan_out.destinations = destinations;
        self.fan_out.opened.clear();
        let sent_meanwhile = self.stats.steps.send - sending;
        self.stats.steps.seal += (self.read_stopwatch() - begun).saturating_sub(sent_meanwhile);
    }

    /// Has packets that follow each other and are nearly of one size be of one size as they are
    /// sent: an encoder's packets of one picture often differ by a byte, and a larger one would
    /// begin another run.
    fn even_out(&mut self, batch: &impl PacketStore) {
        if self.max_padding == 0 {
            return;
        }
        let mut rest = &mut self.fan_out.opened[..];
        while let Some(Opened { source, rtp, .. }) = rest.first().copied() {
            let of_same = |other: &Opened| other.is_with(source, rtp);
            let count = rest.iter().take_while(|other| of_same(other)).count();
            let (run, others) = rest.split_at_mut(count);
            let size = |it: &Opened| {
                let packet = RtpView::parse(batch.packet(it.datagram, it.rtp.len)).ok()?;
                (!packet.is_padded()).then(|| packet.body().len())
            };
            even_out(run, self.max_padding, size, |it, bytes| it.rtp.padding = bytes);
            rest = others;
        }
    }

    /// Tells every subscriber which packets it gets.
    fn distribute(&mut self) {
        let opened = std::mem::take(&mut self.fan_out.opened);
        let mut first = 0;
        while let Some(Opened { source, rtp, .. }) = opened.get(first).copied() {
            let count =
                opened[first..].iter().take_while(|other| other.is_with(source, rtp)).count();
            let source = TrackSource { connection: source, ssrc: rtp.ssrc };
            self.distribute_run(source, first, count);
            first += count;
        }
        self.fan_out.opened = opened;
    }

    fn distribute_run(&mut self, source: TrackSource, first: usize, count: usize) {
        let mut subscribers = self.take_subscribers(source);
        let before = subscribers.len();
        for subscriber in &subscribers {
            self.links.prefetch_front(subscriber.connection.slot, Link::FRONT);
        }
        subscribers.retain(|Subscriber { connection, target }| {
            let link = self.links.get_mut(*connection);
            // One that has closed is forgotten here.
            let Some(link) = link.filter(|link| link.session.is_some()) else { return false };
            if link.pending.is_empty() {
                self.fan_out.destinations.push(connection.slot);
            }
            link.pending.push(Pending { first, count, target: *target });
            true
        });
        if before > 0 {
            self.put_subscribers(source, subscribers);
        }
    }

    /// Fetches what the next subscribers need from memory, each step of the next one that it can be
    /// of, while packets are sealed for the one before them.
    #[inline]
    fn fetch_ahead(&mut self, next: &[u32]) {
        let first: fn(&RtpSession, ForwardTarget) = |session, _| session.prefetch();
        let steps = [
            RtpSession::prefetch_tables,
            RtpSession::prefetch_source,
            RtpSession::prefetch_track,
            first,
        ];
        if let Some(slot) = next.first() {
            self.paths.prefetch(*slot);
        }
        for (slot, step) in next.iter().zip(steps) {
            if let Some(Link { session: Some(session), pending, .. }) = self.links.at(*slot)
                && let Some(Pending { target, .. }) = pending.first()
            {
                step(session, *target);
            }
        }
    }

    /// Seals what is pending for one connection.
    fn forward_to(
        &mut self,
        now: Instant,
        slot: u32,
        batch: &impl PacketStore,
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
        if progress.has_moved {
            self.note_places(id);
        }
        let Some(link) = self.links.get_mut(id) else { return };
        link.pending.clear();
        if link.session.as_ref().is_some_and(|session| session.has_key_frame_requests()) {
            self.touch(id);
        }
    }

    /// Notes where the tracks of a connection were found that it has just been sent packets on.
    #[cold]
    fn note_places(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(id) else { return };
        let pending = std::mem::take(&mut link.pending);
        for Pending { first, target, .. } in &pending {
            let Opened { source, rtp, .. } = self.fan_out.opened[*first];
            let source = TrackSource { connection: source, ssrc: rtp.ssrc };
            let subscribers = self.subscribers_mut(source).into_iter().flatten();
            let is_it = |it: &&mut Subscriber| it.connection == id && it.target.ssrc == target.ssrc;
            for subscriber in subscribers.filter(is_it) {
                subscriber.target = *target;
            }
        }
        if let Some(link) = self.links.get_mut(id) {
            link.pending = pending;
        }
    }

    /// Passes on when a peer says what its timestamps mean, for the reports of those who are
    /// sent its tracks.
    pub(crate) fn pass_reports(&mut self, connection: ConnectionId) {
        let count = self.links.get_mut(connection).map_or(0, |link| link.subscriptions.len());
        for at in 0..count {
            let Some(link) = self.links.get_mut(connection) else { return };
            let Subscription { ssrc, places, .. } = link.subscriptions[at];
            let source = TrackSource { connection, ssrc };
            for encoding in 0..MAX_ENCODINGS as u8 {
                let session = self.links.get_mut(connection).and_then(|it| it.session.as_ref());
                let report = session.and_then(|session| session.source_report(ssrc, encoding));
                let Some(report) = report else { continue };
                self.mesh.pass_report(places, source, report);
                self.pass_report(source, report);
            }
        }
    }

    /// Has those who are sent a track share what they have room for among its layers, of which it
    /// is known now what they take.
    fn pass_layer_rates(&mut self, now: Instant, source: TrackSource, rates: LayerRates) {
        self.tell_subscribers(source, |session, ssrc| {
            session.on_layer_rates(now, ssrc, rates);
            session.has_key_frame_requests()
        });
    }

    fn pass_report(&mut self, source: TrackSource, report: SourceReport) {
        self.tell_subscribers(source, |session, ssrc| {
            session.on_source_report(ssrc, report);
            false
        });
    }

    /// Tells the sessions that are sent a track; `tell` returns whether the end of the turn has to
    /// follow up on one.
    pub(crate) fn tell_subscribers(
        &mut self,
        source: TrackSource,
        mut tell: impl FnMut(&mut RtpSession, Ssrc) -> bool,
    ) {
        let subscribers = self.take_subscribers(source);
        for Subscriber { connection, target } in &subscribers {
            let Some(link) = self.links.get_mut(*connection) else { continue };
            let Some(session) = &mut link.session else { continue };
            let told = guarded(|| tell(session, target.ssrc));
            link.has_panicked |= told.is_none();
            if told != Some(false) {
                self.touch(*connection);
            }
        }
        if !subscribers.is_empty() {
            self.put_subscribers(source, subscribers);
        }
    }

    /// Has the peers of tracks asked for the key frames that others want of them.
    pub(crate) fn request_key_frames(
        &mut self,
        now: Instant,
        id: ConnectionId,
        io: &mut impl DatagramIo,
    ) {
        while let Some((source, encoding)) =
            self.links.get_mut(id).and_then(|link| link.session.as_mut()?.poll_key_frame_request())
        {
            if self.mesh.elsewhere(source.connection).is_some() {
                self.mesh.request_key_frame(source, encoding);
            } else {
                self.request_key_frame(now, source, encoding, io);
            }
        }
    }

    fn request_key_frame(
        &mut self,
        now: Instant,
        source: TrackSource,
        encoding: u8,
        io: &mut impl DatagramIo,
    ) {
        let TrackSource { connection, ssrc } = source;
        // One that has closed has no picture to give.
        if self.links.get_mut(connection).is_some_and(|link| link.session.is_some()) {
            self.with_session(connection, io, |session| {
                session.request_key_frame_of(now, ssrc, encoding);
            });
        }
    }
}
