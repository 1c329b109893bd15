use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ortc_io::consent::ConsentTable;
use ortc_io::paths::{Parked, PathTable};
use ortc_io::{
    Bind, ConnectionId, DatagramIo, DatagramReceived, FlightConfig, FlightDirection,
    FlightRecorder, Join, PathUpdate, SendBatch, SendControl, Share, SharedSocket, SocketEvent,
    SocketId, shared,
};
use ortc_rtp::{RouteEvent, RtpSession, SessionOptions};

use crate::clock::WallClock;
use crate::fanout::{FanOut, Foreign};
use crate::flight;
use crate::link::{Link, Transmitted, guarded};
use crate::mesh::Mesh;
use crate::outbox::Outbox;
use crate::ready::ReadyList;
use crate::tables::{Entry, Slots};
use crate::timers::Timers;
use crate::{ForwarderCommand, ForwarderEvent, ForwarderStats};

/// Everything a forwarder knows, but for what it is reading from: so that a received batch
/// can be worked on in place while this changes.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) links: Slots<Link>,
    pub(crate) paths: PathTable,
    pub(crate) consent: ConsentTable,
    pub(crate) outgoing: SendBatch,
    pub(crate) fan_out: FanOut,
    pub(crate) mesh: Mesh,
    /// A packet that is to be sent again; kept for its memory.
    pub(crate) wanted: Vec<u8>,
    /// Subscribers of tracks that other forwarders receive, sorted by source.
    pub(crate) foreign: Vec<Foreign>,
    pub(crate) outbox: Outbox,
    /// What the thread is woken up for.
    pub(crate) timers: Timers,
    /// When reports are due. They are made by a turn that is taken anyway, and only what is left
    /// of them at the next of the moments that all have in common is in `timers` as well.
    pub(crate) reports: Timers,
    pub(crate) ready: ReadyList,
    pub(crate) stats: ForwarderStats,
    /// Slots to be followed up at the end of the turn.
    pub(crate) touched: Vec<u32>,
    pub(crate) seed: u64,
    pub(crate) clock: WallClock,
    /// Reads the CPU time of the thread.
    pub(crate) cpu: Option<fn() -> Duration>,
    /// The same, where the steps of forwarding are to be timed.
    pub(crate) stopwatch: Option<fn() -> Duration>,
    pub(crate) session: SessionOptions,
    /// Most padding that a forwarded packet gets.
    pub(crate) max_padding: u8,
    /// Whether the last seconds of connections are recorded.
    pub(crate) flight: Option<FlightConfig>,
}

impl Plane {
    /// Carries out one command.
    pub(crate) fn execute(
        &mut self,
        now: Instant,
        command: ForwarderCommand,
        io: &mut impl DatagramIo,
    ) {
        match command {
            ForwarderCommand::Attach(id) => self.attach(now, id, io),
            ForwarderCommand::Detach(id) => self.detach(now, id, io),
            ForwarderCommand::EnumerateInterfaces(id) => self.enumerate(id, io),
            ForwarderCommand::Bind(Bind { connection, token, address }) => {
                let bound = self.bind_for(connection, io, |io| io.bind(address));
                self.answer_bind(connection, token, address, bound);
            }
            ForwarderCommand::Adopt { connection, token, server, stream, accepted } => {
                let bound = self.bind_for(connection, io, |io| io.adopt(*stream));
                match bound {
                    bound if !accepted => self.answer_bind(connection, token, server, bound),
                    Ok((socket, local)) => {
                        let remote = server;
                        let event = SocketEvent::Accepted { token, socket, local, remote };
                        self.outbox.push(ForwarderEvent::Socket(connection, event));
                    }
                    // Dropped, it is closed.
                    Err(error) => tracing::debug!(%error, "a stream is not taken"),
                }
            }
            ForwarderCommand::BindShared { token, address } => {
                self.bind_shared(token, address, io);
            }
            ForwarderCommand::ReleaseShared(socket) => self.release_shared(socket, io),
            ForwarderCommand::Join(join) => self.join(&join),
            ForwarderCommand::Share(share) => self.share(&share),
            ForwarderCommand::ClaimPeer(id, peer) => self.claim_peer(now, id, &peer),
            ForwarderCommand::Unbind(id, socket) => self.unbind(id, socket, io),
            ForwarderCommand::SendControl(control) => self.send_control(now, &control, io),
            ForwarderCommand::SendEverywhere(connection, datagram) => {
                for path in self.paths.sending_paths(connection) {
                    let (path, datagram) = (Some(path), datagram.clone());
                    self.send_control(now, &SendControl { connection, path, datagram }, io);
                }
            }
            ForwarderCommand::Path(id, update) => self.update_path(now, id, update, io),
            ForwarderCommand::DelegateConsent(id, delegation) => {
                self.delegate_consent(now, id, &delegation);
            }
            ForwarderCommand::ReclaimConsent(id, token) => {
                self.consent.reclaim(id, token);
                self.tell_of_consent();
            }
            ForwarderCommand::Open(id) => self.open(now, id, io),
            ForwarderCommand::SetKeys(id, keys) => {
                self.note(now, id, "the keys of SRTP have come");
                let known = self.with_session(id, io, |session| {
                    if let Err(error) = session.set_keys(now, &keys) {
                        tracing::error!(?id, %error, "the SRTP keys were not taken");
                    }
                });
                self.stats.stale_keys += u64::from(!known);
            }
            ForwarderCommand::AddSender(id, sender) => {
                self.remove_forward(id, sender.ssrc);
                self.with_session(id, io, |session| session.add_sender(now, sender));
                self.listen(id, io);
            }
            ForwarderCommand::AddForward(id, forward) => self.add_forward(now, id, forward, io),
            ForwarderCommand::SetExtHeaders(id, pairs) => {
                self.with_session(id, io, |session| session.set_ext_headers(pairs));
            }
            ForwarderCommand::Retransmit(id, config) => self.retransmit(now, id, config, io),
            ForwarderCommand::Recover(id, config) => {
                self.with_session(id, io, |session| session.recover_receiver(config));
            }
            ForwarderCommand::Repair(id, config) => {
                self.with_session(id, io, |session| session.repair_receiver(config));
            }
            ForwarderCommand::EnableSender(id, ssrc, enabled) => {
                self.with_session(id, io, |session| session.enable_sender(ssrc, enabled));
            }
            ForwarderCommand::RemoveSender(id, ssrc) => {
                self.remove_forward(id, ssrc);
                self.with_session(id, io, |session| session.remove_sender(now, ssrc));
            }
            ForwarderCommand::AddReceiver(id, receiver) => {
                self.with_session(id, io, |session| session.add_receiver(now, receiver));
            }
            ForwarderCommand::UpdateReceiver(id, update) => {
                self.with_session(id, io, |session| session.update_receiver(update));
            }
            ForwarderCommand::RemoveReceiver(id, ssrc) => {
                self.with_session(id, io, |session| session.remove_receiver(ssrc));
            }
            ForwarderCommand::ReceiveEncodings(id, config) => {
                self.with_session(id, io, |session| session.receive_encodings(now, *config));
            }
            ForwarderCommand::SelectLayers(id, config) => {
                self.with_session(id, io, |session| session.select_layers(config));
            }
            ForwarderCommand::LimitLayer(id, ssrc, max) => {
                self.with_session(id, io, |session| session.limit_layer(ssrc, max));
            }
            ForwarderCommand::Insert(id, ssrc, packets) => {
                self.with_session(id, io, |session| session.insert(ssrc, packets));
                self.listen(id, io);
            }
            ForwarderCommand::SendTones(id, ssrc, packets) => {
                self.with_session(id, io, |session| session.send_tones(ssrc, packets));
                self.listen(id, io);
            }
            ForwarderCommand::ReceiveTones(id, ssrc, route) => {
                self.with_session(id, io, |session| session.receive_tones(ssrc, route));
            }
            ForwarderCommand::AddTap(id, ssrc, tap) => {
                self.with_session(id, io, |session| session.add_tap(ssrc, tap));
            }
            ForwarderCommand::RequestKeyFrame(id, ssrc) => {
                self.with_session(id, io, |session| session.request_key_frame(now, ssrc));
            }
            ForwarderCommand::TakeSessionSnapshot(id, reply) => {
                // Nothing has changed: there is nothing to follow up.
                let session = self.links.get_mut(id).and_then(|link| link.session.as_ref());
                if let Some(snapshot) = session.map(|session| session.snapshot(now)) {
                    reply.send(snapshot);
                }
            }
            ForwarderCommand::NumberSent(id, ssrc, number_id) => {
                self.with_session(id, io, |session| session.number_sent(ssrc, number_id));
            }
            ForwarderCommand::AnswerNumbers(id, ssrc, number_id) => {
                self.with_session(id, io, |session| session.acknowledge_numbers(ssrc, number_id));
            }
            ForwarderCommand::ReadCaptureTimes(id, ssrc, extension) => {
                self.with_session(id, io, |session| session.read_capture_times(ssrc, extension));
            }
            ForwarderCommand::CountSent(id, ssrc, feedback) => {
                self.with_session(id, io, |session| session.count_sent(ssrc, feedback));
            }
            ForwarderCommand::AnswerArrivals(id, ssrc, feedback) => {
                self.with_session(id, io, |session| session.acknowledge_arrivals(ssrc, feedback));
            }
            ForwarderCommand::CapSender(id, ssrc, cap) => {
                self.with_session(id, io, |session| session.cap_sender(ssrc, cap));
            }
            ForwarderCommand::LimitBandwidth(id, limits) => {
                self.with_session(id, io, |session| session.limit_bandwidth(limits));
            }
            ForwarderCommand::TakeRecording(id, reply) => self.take_recording(now, id, reply),
            ForwarderCommand::Note(id, words) => self.note(now, id, &words),
            ForwarderCommand::Close(id) => {
                if !self.close(now, id, io) {
                    self.outbox.push(ForwarderEvent::Route(RouteEvent::Closed(id)));
                }
            }
            ForwarderCommand::Snapshot(reply) => {
                let _ = reply.send(self.snapshot());
            }
            #[cfg(test)]
            ForwarderCommand::Panic(Some(id)) => {
                self.with_session(id, io, |_| panic!("a test wants it so"));
            }
            #[cfg(test)]
            ForwarderCommand::Panic(None) => panic!("a test wants it so"),
            #[cfg(test)]
            ForwarderCommand::PanicTelling(source, sent) => {
                self.tell_subscribers(source, |_, ssrc| {
                    assert_ne!(ssrc, sent, "a test wants it so");
                    false
                });
            }
        }
    }

    /// The connection, made now if its generation has not been here yet; `None`, counted,
    /// when it may not be made.
    pub(crate) fn ensure(
        &mut self,
        now: Instant,
        id: ConnectionId,
        io: &mut impl DatagramIo,
    ) -> Option<&mut Link> {
        if self.links.get_mut(id).is_none() {
            if let Some(old) = self.links.at_mut(id.slot).map(|link| link.id)
                && old.generation < id.generation
            {
                // Its owner has forgotten it; it ends as if it had been detached.
                self.detach(now, old, io);
            }
            let recorder = self.flight.map(|config| FlightRecorder::new(now, config).into());
            let link = Link::new(id, self.ready.mark(id), recorder);
            match self.links.admit(id, link) {
                Entry::Admitted(_) => {}
                Entry::Stale => {
                    self.stats.stale_commands += 1;
                    return None;
                }
                Entry::Refused => {
                    tracing::warn!(?id, "there are as many connections as allowed");
                    self.stats.refused_connections += 1;
                    return None;
                }
            }
        }
        self.links.get_mut(id)
    }

    fn attach(&mut self, now: Instant, id: ConnectionId, io: &mut impl DatagramIo) {
        if self.ensure(now, id, io).is_some() && self.paths.attach(id).is_err() {
            self.stats.stale_commands += 1;
        }
    }

    fn open(&mut self, now: Instant, id: ConnectionId, io: &mut impl DatagramIo) {
        let seed = mix(self.seed, id);
        let ntp_at_start = self.clock.ntp(now);
        let options = SessionOptions { ntp_at_start, ..self.session.clone() };
        match self.ensure(now, id, io) {
            None => {}
            Some(link) if link.session.is_none() && !link.is_closed => {
                let session = RtpSession::with_options(id, seed, now, options);
                link.session = Some(Box::new(session));
                self.touch(id);
            }
            Some(_) => self.stats.stale_commands += 1,
        }
    }

    /// Runs `work` on a connection's session; returns whether there is one.
    pub(crate) fn with_session(
        &mut self,
        id: ConnectionId,
        io: &mut impl DatagramIo,
        work: impl FnOnce(&mut RtpSession),
    ) -> bool {
        let Some(session) = self.links.get_mut(id).and_then(|link| link.session.as_mut()) else {
            self.stats.stale_commands += 1;
            return false;
        };
        if guarded(|| work(session)).is_none() {
            self.give_up(id, io);
        }
        self.touch(id);
        true
    }

    /// Listens again to what a connection's applications push, and has it followed up.
    pub(crate) fn listen(&mut self, id: ConnectionId, io: &mut impl DatagramIo) {
        let Some(link) = self.links.get_mut(id) else { return };
        if guarded(|| link.listen()).is_none() {
            self.give_up(id, io);
        }
        self.touch(id);
    }

    /// Says BYE, sends it, and lets go of streams and keys; returns whether there were any.
    fn close(&mut self, now: Instant, id: ConnectionId, io: &mut impl DatagramIo) -> bool {
        let Some(link) = self.links.get_mut(id) else { return false };
        link.is_closed = true;
        let Some(session) = link.session.as_mut() else { return false };
        for ssrc in session.forwarded() {
            self.remove_forward(id, ssrc);
        }
        let session = self.links.get_mut(id).and_then(|link| link.session.as_mut());
        let Some(session) = session else { return false };
        if guarded(|| session.close(now)).is_none() {
            self.give_up(id, io);
            return true;
        }
        self.follow_up(now, id, io);
        if let Some(link) = self.links.get_mut(id)
            && let Some(session) = link.session.take()
        {
            self.stats.media.add(session.stats());
            self.stats.media_datagrams.add(session.datagrams());
        }
        true
    }

    fn detach(&mut self, now: Instant, id: ConnectionId, io: &mut impl DatagramIo) {
        self.close(now, id, io);
        // What was said last has to leave before the sockets close.
        self.flush(io);
        if self.links.remove(id).is_some() {
            self.release(id, io);
        }
        self.outbox.push(ForwarderEvent::Detached(id));
    }

    /// Lets go of the paths, sockets and alarm of a connection; returns the sockets that it
    /// has used.
    fn release(&mut self, id: ConnectionId, io: &mut impl DatagramIo) -> Vec<SocketId> {
        self.timers.disarm(id.slot);
        self.reports.disarm(id.slot);
        self.consent.forget(id);
        if let Some(stats) = self.paths.stats(id) {
            self.stats.add_paths(&stats);
        }
        let sockets = self.paths.sockets(id).to_vec();
        for socket in self.paths.detach(id) {
            self.close_socket(socket, io);
        }
        sockets
    }

    fn enumerate(&mut self, id: ConnectionId, io: &mut impl DatagramIo) {
        let interfaces = io.interfaces().unwrap_or_else(|error| {
            tracing::warn!(%error, "the interfaces of this host cannot be listed");
            Vec::new()
        });
        self.outbox.push(ForwarderEvent::Socket(id, SocketEvent::Interfaces(interfaces)));
    }

    fn answer_bind(
        &mut self,
        connection: ConnectionId,
        token: u64,
        address: SocketAddr,
        bound: io::Result<(SocketId, SocketAddr)>,
    ) {
        let event = match bound {
            Ok((socket, local)) => SocketEvent::Bound { token, socket, local },
            Err(error) => SocketEvent::BindFailed { token, address, error: Arc::new(error) },
        };
        self.outbox.push(ForwarderEvent::Socket(connection, event));
    }

    fn bind_for<I: DatagramIo>(
        &mut self,
        id: ConnectionId,
        io: &mut I,
        bind: impl FnOnce(&mut I) -> io::Result<(SocketId, SocketAddr)>,
    ) -> io::Result<(SocketId, SocketAddr)> {
        if !self.paths.is_attached(id) {
            self.stats.stale_commands += 1;
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the connection is gone"));
        }
        let (socket, local) = bind(io)?;
        if let Err(error) = self.paths.bound(id, socket, local) {
            io.close(socket);
            return Err(io::Error::other(error));
        }
        self.stats.sockets += 1;
        Ok((socket, local))
    }

    fn bind_shared(&mut self, token: u64, address: SocketAddr, io: &mut impl DatagramIo) {
        let bound = shared::bind(io, address);
        for SharedSocket { socket, local } in bound.iter().flatten() {
            self.paths.bound_shared(*socket, *local);
            self.stats.sockets += 1;
        }
        self.outbox.push(ForwarderEvent::SharedBound(token, bound.map_err(Arc::new)));
    }

    fn release_shared(&mut self, socket: SocketId, io: &mut impl DatagramIo) {
        if self.paths.release(socket) {
            self.close_socket(socket, io);
        }
    }

    fn join(&mut self, join: &Join) {
        let Join { connection, token, shared: SharedSocket { socket, local }, .. } = *join;
        let event = match self.paths.join(connection, socket, &join.username_frag, join.fork) {
            Ok(local) => SocketEvent::Bound { token, socket, local },
            Err(error) => {
                self.stats.stale_commands += 1;
                let error = Arc::new(error.into());
                SocketEvent::BindFailed { token, address: local, error }
            }
        };
        self.outbox.push(ForwarderEvent::Socket(connection, event));
    }

    fn share(&mut self, share: &Share) {
        let Share { connection, socket, username_frag } = share;
        if let Err(error) = self.paths.share(*connection, *socket, username_frag) {
            tracing::debug!(?connection, %error, "a socket is not shared");
            self.stats.stale_commands += 1;
        }
    }

    fn claim_peer(&mut self, now: Instant, id: ConnectionId, peer: &str) {
        match self.paths.claim(now, id, peer) {
            Ok(waited) => {
                for Parked { path, received_at, datagram } in waited {
                    let datagram = DatagramReceived { connection: id, path, received_at, datagram };
                    self.outbox.push(ForwarderEvent::Stun(datagram));
                }
            }
            Err(error) => {
                tracing::debug!(?id, %error, "a peer is not claimed");
                self.stats.stale_commands += 1;
            }
        }
    }

    fn unbind(&mut self, id: ConnectionId, socket: SocketId, io: &mut impl DatagramIo) {
        self.flush(io);
        match self.paths.unbind(id, socket) {
            Ok(true) => self.close_socket(socket, io),
            Ok(false) => {}
            Err(_) => self.stats.stale_commands += 1,
        }
        let event = SocketEvent::Unbound { socket, error: None };
        self.outbox.push(ForwarderEvent::Socket(id, event));
        self.review_consent(id);
        self.touch(id);
    }

    /// Lets go of a socket that has failed.
    pub(crate) fn lose_socket(
        &mut self,
        socket: SocketId,
        error: io::Error,
        io: &mut impl DatagramIo,
    ) {
        if !self.paths.is_bound(socket) {
            return;
        }
        let error = Arc::new(error);
        for id in self.paths.unbound(socket) {
            let event = SocketEvent::Unbound { socket, error: Some(Arc::clone(&error)) };
            self.outbox.push(ForwarderEvent::Socket(id, event));
            self.review_consent(id);
            self.touch(id);
        }
        self.close_socket(socket, io);
    }

    fn close_socket(&mut self, socket: SocketId, io: &mut impl DatagramIo) {
        io.close(socket);
        self.stats.sockets -= 1;
    }

    fn send_control(&mut self, now: Instant, control: &SendControl, io: &mut impl DatagramIo) {
        let SendControl { connection, path, datagram } = control;
        let path = self.paths.outgoing(now, *connection, *path, datagram);
        let Some(path) = path else { return };
        self.record(now, *connection, FlightDirection::Out, path, datagram);
        if !self.outgoing.push_copy_on(path, datagram) {
            self.flush(io);
            self.stats.send_dropped += u64::from(!self.outgoing.push_copy_on(path, datagram));
        }
    }

    fn update_path(
        &mut self,
        now: Instant,
        id: ConnectionId,
        update: PathUpdate,
        io: &mut impl DatagramIo,
    ) {
        let updated = self.paths.update(now, id, update);
        self.note_path(now, id, &update);
        while let Some((loser, path)) = self.paths.poll_taken() {
            let event = SocketEvent::PathTaken(path);
            self.outbox.push(ForwarderEvent::Socket(loser, event));
            self.review_consent(loser);
        }
        self.review_consent(id);
        let released = match updated {
            Ok(released) => released,
            Err(error) => {
                tracing::debug!(?id, ?update, %error, "a path update is ignored");
                self.stats.stale_commands += 1;
                return;
            }
        };
        if !released.is_empty() {
            self.route_released(now, id, released, io);
        }
        self.touch(id);
    }

    /// Has ICE look after the path that a connection sends on.
    pub(crate) fn doubt(&mut self, id: ConnectionId) {
        if let Some(path) = self.paths.sending_path(id) {
            self.stats.paths_doubted += 1;
            self.outbox.push(ForwarderEvent::Socket(id, SocketEvent::PathDoubted(path)));
        }
    }

    /// Does what is due for the connection of a slot.
    pub(crate) fn handle_timeout(&mut self, now: Instant, slot: u32, io: &mut impl DatagramIo) {
        let Some(link) = self.links.at_mut(slot) else { return };
        let id = link.id;
        let Some(session) = &mut link.session else { return };
        let is_silent = link.hearing.handle_timeout(now).is_some();
        if guarded(|| session.handle_timeout(now)).is_none() {
            self.give_up(id, io);
        } else if is_silent {
            self.doubt(id);
        }
        self.touch(id);
    }

    /// Has the end of the turn follow up on a connection.
    pub(crate) fn touch(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(id)
            && !link.is_touched
        {
            link.is_touched = true;
            self.touched.push(id.slot);
        }
    }

    /// Sends what a connection has to send, tells what it has to tell and sets its alarm.
    pub(crate) fn follow_up(&mut self, now: Instant, id: ConnectionId, io: &mut impl DatagramIo) {
        if self.links.get_mut(id).is_some_and(|link| link.has_panicked) {
            return self.give_up(id, io);
        }
        let mut share = Link::share();
        let path = self.paths.sending_path(id);
        loop {
            let Some(link) = self.links.get_mut(id) else { return };
            link.is_touched = false;
            link.hearing.follow(path);
            let outgoing = &mut self.outgoing;
            match guarded(|| link.transmit(now, path, outgoing, &mut share)) {
                Some(Transmitted::All) => break,
                Some(Transmitted::Share) => {
                    link.mark.set();
                    break;
                }
                Some(Transmitted::BatchFull) if self.outgoing.is_empty() => {
                    debug_assert!(false, "no packet is larger than a whole batch");
                    break;
                }
                Some(Transmitted::BatchFull) => self.flush(io),
                None => return self.give_up(id, io),
            }
        }
        let Some(link) = self.links.get_mut(id) else { return };
        let Some(session) = &mut link.session else { return };
        let outbox = &mut self.outbox;
        let recorder = &mut link.recorder;
        let polled = guarded(|| {
            while let Some(event) = session.poll_event() {
                if let Some(recorder) = recorder {
                    recorder.words(now, &flight::words(&event));
                }
                outbox.push(ForwarderEvent::Route(event));
            }
            (session.poll_timeout(), session.poll_report())
        });
        let Some((deadline, report)) = polled else { return self.give_up(id, io) };
        let silence = link.hearing.deadline();
        self.timers.arm(id.slot, deadline.into_iter().chain(silence).min());
        self.reports.arm(id.slot, report.map(|at| (at, "a report is due")));
        if session.has_retransmissions() {
            self.serve_retransmissions(now, id, path, io);
        }
        self.request_key_frames(now, id, io);
    }

    /// Zero, at no cost, where steps are not timed.
    pub(crate) fn read_stopwatch(&self) -> Duration {
        self.stopwatch.map_or(Duration::ZERO, |read| read())
    }

    /// Hands the batch to the network.
    pub(crate) fn flush(&mut self, io: &mut impl DatagramIo) {
        if self.outgoing.is_empty() {
            return;
        }
        self.stats.runs.record(&self.outgoing);
        let begun = self.read_stopwatch();
        let report = io.send(&mut self.outgoing);
        self.stats.steps.send += self.read_stopwatch() - begun;
        self.stats.sent += report.sent as u64;
        self.stats.send_dropped += report.dropped as u64;
        self.stats.send_calls += report.calls as u64;
    }

    /// Ends a connection whose handling panicked; all others go on.
    pub(crate) fn give_up(&mut self, id: ConnectionId, io: &mut impl DatagramIo) {
        let Some(mut link) = self.links.remove(id) else { return };
        tracing::error!(?id, "handling a connection panicked: it is given up");
        self.stats.panicked_connections += 1;
        for socket in self.release(id, io) {
            let error = io::Error::other("the media plane has given up this connection");
            let event = SocketEvent::Unbound { socket, error: Some(Arc::new(error)) };
            self.outbox.push(ForwarderEvent::Socket(id, event));
        }
        if let Some(session) = link.session.take() {
            self.outbox.push(ForwarderEvent::Route(RouteEvent::Closed(id)));
            // A state that a panic has left half-changed may panic again when dropped.
            guarded(|| drop(session));
        }
    }

    /// Says BYE everywhere and closes all sockets.
    pub(crate) fn shut_down(&mut self, now: Instant, io: &mut impl DatagramIo) {
        let ids: Vec<_> = self.links.iter_mut().map(|link| link.id).collect();
        for id in ids {
            self.detach(now, id, io);
        }
    }

    fn snapshot(&mut self) -> ForwarderStats {
        let mut stats = self.stats.clone();
        stats.cpu = self.cpu.map_or(Duration::ZERO, |read| read());
        stats.connections = self.links.len() as u64;
        stats.orphaned = self.paths.orphaned();
        stats.crossed = self.mesh.crossed;
        stats.crossed_dropped = self.mesh.dropped;
        stats.shared = self.paths.shared_stats();
        stats.consent = self.consent.stats();
        stats.datagram_events_dropped = self.outbox.datagrams_dropped;
        stats.state_events_dropped = self.outbox.states_dropped;
        for link in self.links.iter_mut() {
            if let Some(session) = &link.session {
                stats.media.add(session.stats());
                stats.media_datagrams.add(session.datagrams());
            }
            if let Some(paths) = self.paths.stats(link.id) {
                stats.add_paths(&paths);
            }
        }
        stats
    }
}

/// Gives each connection randomness of its own from one seed (the finalizer of SplitMix64).
fn mix(seed: u64, id: ConnectionId) -> u64 {
    let id = (u64::from(id.slot) << 32) | u64::from(id.generation);
    let mut z = seed.wrapping_add(id.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
