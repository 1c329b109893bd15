mod tokio_io;

#[cfg(all(test, feature = "sim"))]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, SpawnHandle, WeakAddr};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::tokio_io::TokioIo;
use crate::consent::{CONSENT_BUFFER, ConsentStats, ConsentTable, ConsentVerdict};
use crate::paths::{Admission, Parked, PathError, PathStats, PathTable, SharedStats};
use crate::{
    Attach, Bind, BindShared, ConnectionId, DatagramIo, DatagramKind, DatagramReceived, Detach,
    Detached, Encapsulation, Join, Listen, OpenStream, ReceiveBatch, SendBatch, SendControl, Share,
    SharedBound, SharedSocket, SocketCommand, SocketEvent, SocketId, classify, now, shared,
};

/// Datagrams handled in one go, at most, before other messages get their turn.
const TURN_BATCHES: usize = 4;

/// The socket port as a single actor, for a protocol crate that is used without the packet
/// forwarder: in examples, in tests, and in programs that have no media to move fast.
///
/// It keeps to the contract of [`SocketCommand`] in every respect. Media is not its trade,
/// but where there is no forwarder someone has to carry it: [`AttachMedia`] and [`SendMedia`]
/// do, a message a packet.
///
/// It stops, and closes everything, when its last address is dropped.
pub struct SocketActor {
    io: Box<dyn DatagramIo>,
    readiness: Arc<Notify>,
    paths: PathTable,
    consent: ConsentTable,
    /// Sorted by connection.
    attached: Vec<(ConnectionId, Ports)>,
    received: ReceiveBatch,
    outgoing: SendBatch,
    watcher: Option<JoinHandle<()>>,
    grace: Option<SpawnHandle>,
    consent_due: Option<SpawnHandle>,
    stats: SocketActorStats,
}

/// What a [`SocketActor`] has moved and dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketActorStats {
    /// Datagrams taken from sockets.
    pub received: u64,
    /// Of those, the ones longer than 2,048 bytes, dropped.
    pub truncated: u64,
    /// Datagrams delivered to a recipient.
    pub delivered: u64,
    /// Datagrams dropped because the mailbox of their recipient was full or closed.
    pub mailbox_full: u64,
    /// Media dropped because no [`AttachMedia`] has come.
    pub no_media_port: u64,
    /// Datagrams that the system took.
    pub sent: u64,
    /// Datagrams that it did not take.
    pub send_failed: u64,
    /// Datagrams not sent because their path is a stream of RFC 4571, which this port cannot do.
    pub encapsulated: u64,
    /// Commands refused: for connections or sockets that are gone, or against the ladder.
    pub refused: u64,
    /// Datagrams dropped because their socket or connection is gone.
    pub orphaned: u64,
    /// What has come in on shared sockets and was nobody's.
    pub shared: SharedStats,
    /// Consent of settled paths, asked for and given here.
    pub consent: ConsentStats,
}

#[derive(Debug)]
struct Ports {
    events: Recipient<SocketEvent>,
    stun: Recipient<DatagramReceived>,
    dtls: Recipient<DatagramReceived>,
    media: Option<Recipient<DatagramReceived>>,
}

/// Registers who hears the RTP and RTCP of an attached connection, and that only from
/// validated paths. Until it comes, media is dropped, counted.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct AttachMedia {
    /// The connection.
    pub connection: ConnectionId,
    /// Hears its media.
    pub media: Recipient<DatagramReceived>,
}

/// Sends one SRTP or SRTCP packet where the connection sends; dropped, counted, if it has no
/// such path.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SendMedia {
    /// The connection on whose behalf it is sent.
    pub connection: ConnectionId,
    /// The packet, sealed.
    pub datagram: Bytes,
}

/// Asks a [`SocketActor`] what it has moved and dropped: in all, and for one connection
/// (`None` if it is not attached).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "(SocketActorStats, Option<PathStats>)")]
pub struct ReadSocketStats(pub ConnectionId);

/// Says that something has arrived.
#[derive(Message)]
#[rtype(result = "()")]
struct Ready;

impl SocketActor {
    /// Makes a socket port over the system's UDP sockets.
    pub fn new() -> Self {
        let io = TokioIo::default();
        let readiness = io.readiness();
        Self::driving(io, readiness)
    }

    /// Makes a socket port over the sockets of a simulated host.
    #[cfg(feature = "sim")]
    pub fn over(io: crate::sim::SimIo) -> Self {
        let readiness = io.readiness();
        Self::driving(io, readiness)
    }

    /// Makes a socket port over any sockets; `readiness` is to be notified when something
    /// has arrived on them.
    pub fn driving(io: impl DatagramIo + 'static, readiness: Arc<Notify>) -> Self {
        Self {
            io: Box::new(io),
            readiness,
            paths: PathTable::new(),
            consent: ConsentTable::new(),
            attached: Vec::new(),
            received: ReceiveBatch::new(),
            outgoing: SendBatch::new(),
            watcher: None,
            grace: None,
            consent_due: None,
            stats: SocketActorStats::default(),
        }
    }

    fn ports(&self, connection: ConnectionId) -> Option<&Ports> {
        let index = self.attached.binary_search_by_key(&connection, |(id, _)| *id).ok()?;
        Some(&self.attached[index].1)
    }

    fn tell(&self, connection: ConnectionId, event: SocketEvent) {
        if let Some(ports) = self.ports(connection) {
            ports.events.do_send(event);
        }
    }

    fn attach(&mut self, attach: Attach) {
        let Attach { connection, events, stun, dtls } = attach;
        match self.paths.attach(connection) {
            Ok(()) => {
                let ports = Ports { events, stun, dtls, media: None };
                let index = self.attached.partition_point(|(id, _)| *id < connection);
                self.attached.insert(index, (connection, ports));
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn detach(&mut self, detach: &Detach) {
        self.consent.forget(detach.connection);
        for socket in self.paths.detach(detach.connection) {
            self.io.close(socket);
        }
        self.attached.retain(|(id, _)| *id != detach.connection);
        detach.done.do_send(Detached(detach.connection));
    }

    fn bind(&mut self, bind: Bind) {
        let Bind { connection, token, address } = bind;
        if !self.paths.is_attached(connection) {
            return self.refuse(&PathError::UnknownConnection(connection));
        }
        let event = match self.io.bind(address) {
            Ok((socket, local)) => match self.paths.bound(connection, socket, local) {
                Ok(()) => SocketEvent::Bound { token, socket, local },
                Err(error) => {
                    self.io.close(socket);
                    return self.refuse(&error);
                }
            },
            Err(error) => SocketEvent::BindFailed { token, address, error: Arc::new(error) },
        };
        self.tell(connection, event);
    }

    fn bind_shared(&mut self, bind: &BindShared) {
        let bound = shared::bind(&mut *self.io, bind.address);
        for SharedSocket { socket, local } in bound.iter().flatten() {
            self.paths.bound_shared(*socket, *local);
        }
        bind.reply.do_send(SharedBound(bound.map_err(Arc::new)));
    }

    fn release_shared(&mut self, socket: SocketId) {
        if self.paths.release(socket) {
            self.io.close(socket);
        }
    }

    fn join(&mut self, join: &Join) {
        let Join { connection, token, shared: SharedSocket { socket, local }, .. } = *join;
        let event = match self.paths.join(connection, socket, &join.username_frag, join.fork) {
            Ok(local) => SocketEvent::Bound { token, socket, local },
            Err(error) => {
                self.refuse(&error);
                let error = Arc::new(error.into());
                SocketEvent::BindFailed { token, address: local, error }
            }
        };
        self.tell(connection, event);
    }

    fn unbind(&mut self, connection: ConnectionId, socket: SocketId) {
        match self.paths.unbind(connection, socket) {
            Ok(close) => {
                if close {
                    self.io.close(socket);
                }
                self.tell(connection, SocketEvent::Unbound { socket, error: None });
                self.review_consent(connection);
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn drop_socket(&mut self, socket: SocketId, error: &Arc<io::Error>) {
        self.io.close(socket);
        for user in self.paths.unbound(socket) {
            let error = Some(Arc::clone(error));
            self.tell(user, SocketEvent::Unbound { socket, error });
            self.review_consent(user);
        }
    }

    fn enumerate(&mut self, connection: ConnectionId) {
        let interfaces = self.io.interfaces().unwrap_or_else(|error| {
            tracing::warn!(%error, "the addresses of this host cannot be enumerated");
            Vec::new()
        });
        self.tell(connection, SocketEvent::Interfaces(interfaces));
    }

    /// Has ICE take over where a connection does not send any more.
    fn review_consent(&mut self, connection: ConnectionId) {
        self.consent.review(connection, self.paths.sending_path(connection));
        self.tell_of_consent();
    }

    fn tell_of_consent(&mut self) {
        while let Some((connection, event)) = self.consent.poll_event() {
            self.tell(connection, event);
        }
    }

    fn send_consent(&mut self, path: crate::Path, datagram: &[u8]) {
        if self.outgoing.push_copy_on(path, datagram) {
            self.flush();
        } else {
            self.stats.send_failed += 1;
        }
    }

    fn flush(&mut self) {
        let report = self.io.send(&mut self.outgoing);
        self.stats.sent += report.sent as u64;
        self.stats.send_failed += report.dropped as u64;
    }

    /// Waits for the next request that is due.
    fn arm_consent(&mut self, context: &mut Context<Self>) {
        if let Some(armed) = self.consent_due.take() {
            context.cancel_future(armed);
        }
        self.consent_due = self.consent.poll_timeout().map(|(at, _)| {
            context.run_later(at.saturating_duration_since(now()), |actor, context| {
                let mut buffer = CONSENT_BUFFER;
                while let Some((path, len)) = actor.consent.poll_request(now(), &mut buffer) {
                    actor.send_consent(path, &buffer[..len]);
                }
                actor.tell_of_consent();
                actor.arm_consent(context);
            })
        });
    }

    fn send_control(&mut self, control: &SendControl) {
        let SendControl { connection, path, datagram } = control;
        let outgoing = self.paths.outgoing(now(), *connection, *path, datagram);
        let Some(path) = outgoing else { return };
        if path.encapsulation == Encapsulation::Rfc4571 {
            self.stats.encapsulated += 1;
            return;
        }
        if !self.outgoing.push_copy_on(path, datagram) {
            self.stats.send_failed += 1;
            return;
        }
        self.flush();
    }

    /// Takes what has arrived; returns whether there is more.
    fn receive(&mut self) -> bool {
        let at = now();
        let mut failed = Vec::new();
        let mut more = true;
        for _ in 0..TURN_BATCHES {
            if !more {
                break;
            }
            more = self.io.receive(&mut self.received, &mut failed);
            for index in 0..self.received.len() {
                self.take(at, index);
            }
            self.received.clear();
        }
        self.stats.truncated = self.received.truncated();
        for (socket, error) in failed {
            self.drop_socket(socket, &Arc::new(error));
        }
        more
    }

    fn deliver_parked(&mut self, connection: ConnectionId, parked: Vec<Parked>) {
        for Parked { path, received_at, datagram } in parked {
            let kind = classify(&datagram);
            self.deliver(kind, DatagramReceived { connection, path, received_at, datagram });
        }
    }

    fn take(&mut self, at: Instant, index: usize) {
        let path = self.received.unwrap(index);
        let (_, bytes) = self.received.get_mut(index);
        let kind = classify(bytes);
        self.stats.received += 1;
        if kind == DatagramKind::Stun
            && let Some(connection) = self.paths.route(at, path)
        {
            let mut buffer = CONSENT_BUFFER;
            match self.consent.handle(at, connection, path, bytes, &mut buffer) {
                ConsentVerdict::Pass => {}
                ConsentVerdict::Done => return self.tell_of_consent(),
                ConsentVerdict::Answer(len) => return self.send_consent(path, &buffer[..len]),
            }
        }
        let (_, bytes) = self.received.get_mut(index);
        if let Admission::Deliver(connection) = self.paths.admit(at, path, kind, bytes) {
            let datagram = Bytes::copy_from_slice(bytes);
            let message = DatagramReceived { connection, path, received_at: at, datagram };
            self.deliver(kind, message);
        }
    }

    fn deliver(&mut self, kind: DatagramKind, message: DatagramReceived) {
        let Some(ports) = self.ports(message.connection) else { return };
        let port = match kind {
            DatagramKind::Stun => &ports.stun,
            DatagramKind::Dtls => &ports.dtls,
            _ => match &ports.media {
                Some(media) => media,
                None => {
                    self.stats.no_media_port += 1;
                    return;
                }
            },
        };
        match port.try_send(message) {
            Ok(()) => self.stats.delivered += 1,
            Err(_) => self.stats.mailbox_full += 1,
        }
    }

    fn refuse(&mut self, error: &PathError) {
        self.stats.refused += 1;
        tracing::debug!(%error, "a command was refused");
    }

    fn arm_grace(&mut self, context: &mut Context<Self>) {
        if let Some(armed) = self.grace.take() {
            context.cancel_future(armed);
        }
        self.grace = self.paths.poll_timeout().map(|(at, _)| {
            context.run_later(at.saturating_duration_since(now()), |actor, context| {
                actor.paths.handle_timeout(now());
                actor.arm_grace(context);
            })
        });
    }
}

impl Default for SocketActor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SocketActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketActor")
            .field("connections", &self.attached.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// Tells the actor about arrivals, one message at a time, until it has stopped.
async fn watch(readiness: Arc<Notify>, actor: WeakAddr<SocketActor>) {
    loop {
        readiness.notified().await;
        let Some(address) = actor.upgrade() else { return };
        if address.send(Ready).await.is_err() {
            return;
        }
    }
}

impl Actor for SocketActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(256);
        let watcher = watch(Arc::clone(&self.readiness), context.address().downgrade());
        self.watcher = Some(actix_rt::spawn(watcher));
    }
}

impl Drop for SocketActor {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

impl Handler<Ready> for SocketActor {
    type Result = ();

    fn handle(&mut self, Ready: Ready, context: &mut Context<Self>) {
        let next = |actor: &Self| actor.paths.poll_timeout().map(|(at, _)| at);
        let before = next(self);
        if self.receive() {
            self.readiness.notify_one();
        }
        // Media may wait for its path.
        if next(self) != before {
            self.arm_grace(context);
        }
    }
}

impl Handler<SocketCommand> for SocketActor {
    type Result = ();

    fn handle(&mut self, command: SocketCommand, context: &mut Context<Self>) {
        match command {
            SocketCommand::Attach(attach) => self.attach(attach),
            SocketCommand::Detach(detach) => self.detach(&detach),
            SocketCommand::EnumerateInterfaces(connection) => self.enumerate(connection),
            SocketCommand::Bind(bind) => self.bind(bind),
            SocketCommand::OpenStream(OpenStream { connection, token, server, .. }) => {
                let error = Arc::new(io::Error::from(io::ErrorKind::Unsupported));
                self.tell(connection, SocketEvent::BindFailed { token, address: server, error });
            }
            SocketCommand::Listen(Listen { connection, token, on, .. }) => {
                let error = Arc::new(io::Error::from(io::ErrorKind::Unsupported));
                let address = on.address();
                self.tell(connection, SocketEvent::BindFailed { token, address, error });
            }
            // There is nothing that it could have heard on.
            SocketCommand::StopListening(..) => {}
            SocketCommand::BindShared(bind) => self.bind_shared(&bind),
            SocketCommand::ReleaseShared(socket) => self.release_shared(socket),
            SocketCommand::Join(join) => self.join(&join),
            SocketCommand::Share(Share { connection, socket, username_frag }) => {
                if let Err(error) = self.paths.share(connection, socket, &username_frag) {
                    self.refuse(&error);
                }
            }
            SocketCommand::ClaimPeer(connection, peer) => {
                match self.paths.claim(now(), connection, &peer) {
                    Ok(waited) => self.deliver_parked(connection, waited),
                    Err(error) => self.refuse(&error),
                }
            }
            SocketCommand::Unbind(connection, socket) => self.unbind(connection, socket),
            SocketCommand::SendControl(control) => self.send_control(&control),
            SocketCommand::SendEverywhere(connection, datagram) => {
                for path in self.paths.sending_paths(connection) {
                    let (path, datagram) = (Some(path), datagram.clone());
                    self.send_control(&SendControl { connection, path, datagram });
                }
            }
            SocketCommand::Path(connection, update) => {
                match self.paths.update(now(), connection, update) {
                    Ok(released) => {
                        self.deliver_parked(connection, released);
                        self.arm_grace(context);
                    }
                    Err(error) => self.refuse(&error),
                }
                while let Some((loser, path)) = self.paths.poll_taken() {
                    self.tell(loser, SocketEvent::PathTaken(path));
                    self.review_consent(loser);
                }
                self.review_consent(connection);
            }
            SocketCommand::DelegateConsent(connection, delegation) => {
                if self.paths.sending_path(connection) == Some(delegation.path) {
                    self.consent.delegate(now(), connection, &delegation);
                    self.paths.forget_requests(connection);
                    self.tell_of_consent();
                    self.arm_consent(context);
                } else {
                    self.stats.refused += 1;
                }
            }
            SocketCommand::ReclaimConsent(connection, token) => {
                self.consent.reclaim(connection, token);
                self.tell_of_consent();
            }
        }
    }
}

impl Handler<AttachMedia> for SocketActor {
    type Result = ();

    fn handle(&mut self, attach: AttachMedia, _: &mut Context<Self>) {
        let found = self.attached.iter_mut().find(|(id, _)| *id == attach.connection);
        match found {
            Some((_, ports)) => ports.media = Some(attach.media),
            None => self.refuse(&PathError::UnknownConnection(attach.connection)),
        }
    }
}

impl Handler<SendMedia> for SocketActor {
    type Result = ();

    fn handle(&mut self, media: SendMedia, _: &mut Context<Self>) {
        let SendMedia { connection, datagram } = media;
        self.send_control(&SendControl { connection, path: None, datagram });
    }
}

impl Handler<ReadSocketStats> for SocketActor {
    type Result = actix::MessageResult<ReadSocketStats>;

    fn handle(&mut self, read: ReadSocketStats, _: &mut Context<Self>) -> Self::Result {
        let total = SocketActorStats {
            orphaned: self.paths.orphaned(),
            shared: self.paths.shared_stats(),
            consent: self.consent.stats(),
            ..self.stats
        };
        actix::MessageResult((total, self.paths.stats(read.0)))
    }
}
