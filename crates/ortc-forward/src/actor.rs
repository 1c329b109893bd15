use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, ResponseFuture};
use ortc_io::ring::RingReceiver;
use ortc_io::{
    AcceptedStream, BindShared, ConnectionId, Listen, ListenOn, ListenerStats, Listening,
    OpenStream, SocketCommand, SocketEvent, StreamEnd, StreamKind, StreamListener, StreamTask,
};
use ortc_rtp::RouteCommand;
#[cfg(any(test, feature = "sim"))]
use ortc_rtp::SessionOptions;
use tokio::sync::oneshot;

#[cfg(any(test, feature = "sim"))]
use crate::WallClock;
use crate::registry::Registry;
use crate::thread::ForwarderThread;
use crate::{
    ForwarderCommand, ForwarderConfig, ForwarderEvent, ForwarderHandle, ForwarderStats,
    SendCommandError, TakeSnapshot,
};

/// Commands that wait in the actor when the forwarder's queue is full. Four times what a
/// busy room sends in the 12 µs to 1 ms that a turn may take.
const BACKLOG: usize = 4096;

/// How long the actor waits before it tries a full queue again.
const RETRY: Duration = Duration::from_millis(1);

/// Events dispatched before other messages of the actor get a turn.
const EVENTS_PER_POLL: usize = 64;

/// How long a stopping actor waits for its thread: far more than a turn ever takes, and
/// short enough to hold up an arbiter once.
const JOIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The socket port and the route port of the control plane, over a packet forwarder.
///
/// A thin shell: commands go to the forwarder in the order in which they came, its events to
/// the recipients that [`Attach`](ortc_io::Attach) and [`RouteCommand::Open`] named. State
/// is sent with `do_send`, datagrams with `try_send`. When the forwarder stops by itself (a
/// bug), every connection hears of it: its sockets are reported lost, and whatever was asked
/// of it is answered.
///
/// When the actor stops, so does the forwarder.
pub struct ForwarderActor {
    handle: ForwarderHandle,
    events: Option<RingReceiver<ForwarderEvent>>,
    thread: Option<ForwarderThread>,
    registry: Registry,
    backlog: VecDeque<ForwarderCommand>,
    retrying: bool,
    gone: bool,
    backlog_datagrams_dropped: u64,
    backlog_commands_dropped: u64,
    /// Who takes streams of peers.
    listening: Vec<Taking>,
    /// Of ports that are closed.
    streams: ListenerStats,
}

impl ForwarderActor {
    /// Starts a forwarder over the sockets of a simulated host, stepped by a task of this
    /// thread, and the actor in front of it: the production composition in virtual time.
    ///
    /// To be called inside an actix system, that of `sim::run` for example; `seed` fixes all
    /// of the forwarder's randomness.
    #[cfg(any(test, feature = "sim"))]
    pub fn start_simulated(io: ortc_io::sim::SimIo, seed: u64) -> Addr<Self> {
        Self::start_simulated_with(&ForwarderConfig::default(), io, seed)
    }

    /// The same, configured.
    #[cfg(any(test, feature = "sim"))]
    pub fn start_simulated_with(
        config: &ForwarderConfig,
        io: ortc_io::sim::SimIo,
        seed: u64,
    ) -> Addr<Self> {
        let waker = crate::local_waker(&io);
        let clock = WallClock::new(ortc_io::now(), SessionOptions::default().ntp_at_start);
        let (forwarder, handle, events) = crate::PacketForwarder::new(config, seed, clock, waker);
        actix::spawn(crate::drive_local(forwarder, io));
        Self::new(handle, events, None).start()
    }

    /// Starts a forwarder on a thread of its own and the actor in front of it; to be called
    /// where an actix system runs.
    ///
    /// # Errors
    /// When the system refuses a thread or a poller.
    pub fn start_pinned(config: ForwarderConfig) -> io::Result<Addr<Self>> {
        let mut all = Self::start_connected(config, 1)?;
        Ok(all.remove(0))
    }

    /// Starts `count` forwarders, each on a thread of its own, that are connected with each
    /// other, and the actors in front of them: a connection belongs to the one at
    /// `slot % count`.
    ///
    /// # Errors
    /// As [`spawn_connected`](crate::spawn_connected).
    pub fn start_connected(config: ForwarderConfig, count: usize) -> io::Result<Vec<Addr<Self>>> {
        let all = crate::spawn_connected(config, count)?.into_iter();
        Ok(all
            .map(|(handle, events, thread)| Self::new(handle, events, Some(thread)).start())
            .collect())
    }

    pub(crate) fn new(
        handle: ForwarderHandle,
        events: RingReceiver<ForwarderEvent>,
        thread: Option<ForwarderThread>,
    ) -> Self {
        Self {
            handle,
            events: Some(events),
            thread,
            registry: Registry::default(),
            backlog: VecDeque::new(),
            retrying: false,
            gone: false,
            backlog_datagrams_dropped: 0,
            backlog_commands_dropped: 0,
            listening: Vec::new(),
            streams: ListenerStats::default(),
        }
    }

    /// Hands a command on, in order; what the queue has no room for waits here.
    fn forward(&mut self, command: ForwarderCommand, context: &mut Context<Self>) {
        if self.gone {
            self.registry.refuse(&command);
        } else if self.backlog.is_empty() {
            self.push(command, context);
        } else {
            self.keep(command);
        }
    }

    fn push(&mut self, command: ForwarderCommand, context: &mut Context<Self>) {
        match self.handle.send(command) {
            Ok(()) => {}
            Err(SendCommandError::Full(command)) => {
                self.backlog.push_front(*command);
                if !self.retrying {
                    self.retrying = true;
                    context.run_later(RETRY, |actor, context| {
                        actor.retrying = false;
                        actor.flush(context);
                    });
                }
            }
            Err(SendCommandError::Stopped(command)) => self.registry.refuse(&command),
        }
    }

    fn flush(&mut self, context: &mut Context<Self>) {
        while !self.retrying {
            let Some(command) = self.backlog.pop_front() else { break };
            self.push(command, context);
        }
    }

    /// Appends to the backlog; over its bound, control datagrams go first: they are resent.
    fn keep(&mut self, command: ForwarderCommand) {
        let is_datagram =
            |command: &ForwarderCommand| matches!(command, ForwarderCommand::SendControl(_));
        if self.backlog.len() < BACKLOG {
            self.backlog.push_back(command);
        } else if is_datagram(&command) {
            self.backlog_datagrams_dropped += 1;
        } else if let Some(oldest) = self.backlog.iter().position(is_datagram) {
            self.backlog.remove(oldest);
            self.backlog_datagrams_dropped += 1;
            self.backlog.push_back(command);
        } else {
            if self.backlog_commands_dropped == 0 {
                tracing::error!("the media plane has stalled: commands are lost from now on");
            }
            self.backlog_commands_dropped += 1;
            self.registry.refuse(&command);
        }
    }

    /// Connects off this actor, which is not kept alive by it.
    fn open_stream(&mut self, open: OpenStream, context: &mut Context<Self>) {
        let OpenStream { connection, token, server, kind } = open;
        self.registry.binding(connection, token, server);
        let actor = context.address().downgrade();
        actix::spawn(async move {
            let result = match kind {
                StreamKind::Turn(tls) => ortc_io::open_stream(server, tls).await,
                StreamKind::Peer { from } => ortc_io::open_peer_stream(server, from).await,
            };
            if let Some(actor) = actor.upgrade() {
                actor.do_send(StreamOpened { connection, token, server, result });
            }
        });
    }

    /// Takes streams of a peer off this actor, which is not kept alive by it.
    fn listen(&mut self, listen: Listen, context: &mut Context<Self>) {
        let Listen { connection, token, on, username_frag, password } = listen;
        let address = on.address();
        let actor = context.address().downgrade();
        let taker = move |stream| {
            if let Some(actor) = actor.upgrade() {
                actor.do_send(StreamAccepted { connection, token, stream });
            }
        };
        let is_own = matches!(on, ListenOn::Own(_));
        let listener = match on {
            ListenOn::Own(address) => StreamListener::bind(address),
            ListenOn::Shared(listener) => Ok(listener),
        };
        let listening = listener.and_then(|listener| {
            let taken =
                || io::Error::new(io::ErrorKind::AddrInUse, "the username fragment is taken");
            listener.listen(&username_frag, &password, taker).ok_or_else(taken)
        });
        match listening {
            Ok(listening) => {
                let local = listening.listener().local();
                self.listening.push(Taking { connection, token, listening, is_own });
                self.registry.tell(connection, SocketEvent::Listening { token, local });
            }
            Err(error) => self.registry.bind_failed(connection, token, address, error),
        }
    }

    fn stop_listening(&mut self, gone: impl Fn(&Taking) -> bool) {
        for taking in self.listening.extract_if(.., |taking| gone(taking)) {
            self.streams.add(&taking.stats());
        }
    }

    /// What has become of streams; those of a port that connections share are counted with it.
    fn stream_stats(&self) -> ListenerStats {
        let mut stats = self.streams;
        self.listening.iter().for_each(|taking| stats.add(&taking.stats()));
        stats
    }

    fn forwarder_gone(&mut self) {
        if !self.gone {
            self.gone = true;
            self.backlog.clear();
            self.listening.clear();
            self.registry.fail_all();
        }
    }
}

impl Actor for ForwarderActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(256);
        if let Some(events) = self.events.take() {
            context.spawn(EventPump(events));
        }
    }

    fn stopped(&mut self, _context: &mut Context<Self>) {
        self.handle.stop();
        if let Some(thread) = self.thread.take()
            && !thread.join(JOIN_TIMEOUT)
        {
            tracing::error!("the forwarder thread has not stopped in time; it is left behind");
        }
        // Whoever still waits for an answer gets it.
        self.forwarder_gone();
    }
}

impl Handler<SocketCommand> for ForwarderActor {
    type Result = ();

    fn handle(&mut self, command: SocketCommand, context: &mut Context<Self>) {
        let command = match command {
            SocketCommand::Attach(attach) => {
                let connection = attach.connection;
                self.registry.attach(attach);
                ForwarderCommand::Attach(connection)
            }
            SocketCommand::Detach(detach) => {
                self.stop_listening(|taking| taking.connection == detach.connection);
                self.registry.detaching(detach.connection, detach.done);
                ForwarderCommand::Detach(detach.connection)
            }
            SocketCommand::EnumerateInterfaces(connection) => {
                ForwarderCommand::EnumerateInterfaces(connection)
            }
            SocketCommand::Bind(bind) => {
                self.registry.binding(bind.connection, bind.token, bind.address);
                ForwarderCommand::Bind(bind)
            }
            SocketCommand::OpenStream(open) => return self.open_stream(open, context),
            SocketCommand::Listen(listen) => return self.listen(listen, context),
            SocketCommand::StopListening(connection, token) => {
                return self.stop_listening(|taking| taking.is(connection, token));
            }
            SocketCommand::BindShared(BindShared { address, reply }) => {
                let token = self.registry.sharing(reply);
                ForwarderCommand::BindShared { token, address }
            }
            SocketCommand::ReleaseShared(socket) => ForwarderCommand::ReleaseShared(socket),
            SocketCommand::Join(join) => {
                self.registry.binding(join.connection, join.token, join.shared.local);
                ForwarderCommand::Join(join)
            }
            SocketCommand::Share(share) => ForwarderCommand::Share(share),
            SocketCommand::ClaimPeer(connection, peer) => {
                ForwarderCommand::ClaimPeer(connection, peer)
            }
            SocketCommand::Unbind(connection, socket) => {
                ForwarderCommand::Unbind(connection, socket)
            }
            SocketCommand::SendControl(control) => ForwarderCommand::SendControl(control),
            SocketCommand::SendEverywhere(connection, datagram) => {
                ForwarderCommand::SendEverywhere(connection, datagram)
            }
            SocketCommand::Path(connection, update) => ForwarderCommand::Path(connection, update),
            SocketCommand::DelegateConsent(connection, delegation) => {
                ForwarderCommand::DelegateConsent(connection, delegation)
            }
            SocketCommand::ReclaimConsent(connection, token) => {
                ForwarderCommand::ReclaimConsent(connection, token)
            }
        };
        self.forward(command, context);
    }
}

impl Handler<RouteCommand> for ForwarderActor {
    type Result = ();

    fn handle(&mut self, command: RouteCommand, context: &mut Context<Self>) {
        let command = match command {
            RouteCommand::Open(connection, events) => {
                self.registry.open(connection, events);
                ForwarderCommand::Open(connection)
            }
            RouteCommand::SetKeys(connection, keys) => ForwarderCommand::SetKeys(connection, keys),
            RouteCommand::AddSender(connection, sender) => {
                ForwarderCommand::AddSender(connection, sender)
            }
            RouteCommand::AddForward(connection, forward) => {
                ForwarderCommand::AddForward(connection, forward)
            }
            RouteCommand::SetExtHeaders(connection, pairs) => {
                ForwarderCommand::SetExtHeaders(connection, pairs)
            }
            RouteCommand::Retransmit(connection, config) => {
                ForwarderCommand::Retransmit(connection, config)
            }
            RouteCommand::Recover(connection, config) => {
                ForwarderCommand::Recover(connection, config)
            }
            RouteCommand::Repair(connection, config) => {
                ForwarderCommand::Repair(connection, config)
            }
            RouteCommand::EnableSender(connection, ssrc, enabled) => {
                ForwarderCommand::EnableSender(connection, ssrc, enabled)
            }
            RouteCommand::RemoveSender(connection, ssrc) => {
                ForwarderCommand::RemoveSender(connection, ssrc)
            }
            RouteCommand::AddReceiver(connection, receiver) => {
                ForwarderCommand::AddReceiver(connection, receiver)
            }
            RouteCommand::UpdateReceiver(connection, update) => {
                ForwarderCommand::UpdateReceiver(connection, update)
            }
            RouteCommand::ReceiveEncodings(connection, config) => {
                ForwarderCommand::ReceiveEncodings(connection, config)
            }
            RouteCommand::SelectLayers(connection, config) => {
                ForwarderCommand::SelectLayers(connection, config)
            }
            RouteCommand::LimitLayer(connection, ssrc, max) => {
                ForwarderCommand::LimitLayer(connection, ssrc, max)
            }
            RouteCommand::RemoveReceiver(connection, ssrc) => {
                ForwarderCommand::RemoveReceiver(connection, ssrc)
            }
            RouteCommand::Insert(connection, ssrc, packets) => {
                ForwarderCommand::Insert(connection, ssrc, packets)
            }
            RouteCommand::SendTones(connection, ssrc, packets) => {
                ForwarderCommand::SendTones(connection, ssrc, packets)
            }
            RouteCommand::ReceiveTones(connection, ssrc, route) => {
                ForwarderCommand::ReceiveTones(connection, ssrc, route)
            }
            RouteCommand::AddTap(connection, ssrc, tap) => {
                ForwarderCommand::AddTap(connection, ssrc, tap)
            }
            RouteCommand::RequestKeyFrame(connection, ssrc) => {
                ForwarderCommand::RequestKeyFrame(connection, ssrc)
            }
            RouteCommand::TakeSnapshot(connection, reply) => {
                ForwarderCommand::TakeSessionSnapshot(connection, reply)
            }
            RouteCommand::NumberSent(connection, ssrc, id) => {
                ForwarderCommand::NumberSent(connection, ssrc, id)
            }
            RouteCommand::AnswerNumbers(connection, ssrc, id) => {
                ForwarderCommand::AnswerNumbers(connection, ssrc, id)
            }
            RouteCommand::ReadCaptureTimes(connection, ssrc, id) => {
                ForwarderCommand::ReadCaptureTimes(connection, ssrc, id)
            }
            RouteCommand::CountSent(connection, ssrc, feedback) => {
                ForwarderCommand::CountSent(connection, ssrc, feedback)
            }
            RouteCommand::AnswerArrivals(connection, ssrc, feedback) => {
                ForwarderCommand::AnswerArrivals(connection, ssrc, feedback)
            }
            RouteCommand::CapSender(connection, ssrc, cap) => {
                ForwarderCommand::CapSender(connection, ssrc, cap)
            }
            RouteCommand::LimitBandwidth(connection, limits) => {
                ForwarderCommand::LimitBandwidth(connection, limits)
            }
            RouteCommand::TakeRecording(connection, reply) => {
                ForwarderCommand::TakeRecording(connection, reply)
            }
            RouteCommand::Note(connection, words) => ForwarderCommand::Note(connection, words),
            RouteCommand::Close(connection) => ForwarderCommand::Close(connection),
        };
        self.forward(command, context);
    }
}

impl Handler<TakeSnapshot> for ForwarderActor {
    type Result = ResponseFuture<Option<ForwarderStats>>;

    fn handle(&mut self, _: TakeSnapshot, context: &mut Context<Self>) -> Self::Result {
        let (reply, snapshot) = oneshot::channel();
        self.forward(ForwarderCommand::Snapshot(reply), context);
        let own = ForwarderStats {
            backlog_datagrams_dropped: self.backlog_datagrams_dropped,
            backlog_commands_dropped: self.backlog_commands_dropped,
            mailbox_full: self.registry.mailbox_full,
            streams: self.stream_stats(),
            ..ForwarderStats::default()
        };
        Box::pin(async move {
            let stats = snapshot.await.ok()?;
            Some(ForwarderStats {
                backlog_datagrams_dropped: own.backlog_datagrams_dropped,
                backlog_commands_dropped: own.backlog_commands_dropped,
                mailbox_full: own.mailbox_full,
                streams: own.streams,
                ..stats
            })
        })
    }
}

/// What became of an [`OpenStream`].
#[derive(Message)]
#[rtype(result = "()")]
struct StreamOpened {
    connection: ConnectionId,
    token: u64,
    server: SocketAddr,
    result: io::Result<(StreamEnd, StreamTask)>,
}

impl Handler<StreamOpened> for ForwarderActor {
    type Result = ();

    fn handle(&mut self, opened: StreamOpened, context: &mut Context<Self>) {
        let StreamOpened { connection, token, server, result } = opened;
        match result {
            Ok((stream, task)) => {
                actix::spawn(task.run());
                let stream = Box::new(stream);
                let accepted = false;
                self.forward(
                    ForwarderCommand::Adopt { connection, token, server, stream, accepted },
                    context,
                );
            }
            Err(error) => self.registry.bind_failed(connection, token, server, error),
        }
    }
}

/// A connection that takes streams of its peer.
struct Taking {
    connection: ConnectionId,
    /// Of the [`Listen`].
    token: u64,
    listening: Listening,
    /// Whether the port is the connection's alone, and closed with this.
    is_own: bool,
}

impl Taking {
    fn is(&self, connection: ConnectionId, token: u64) -> bool {
        (self.connection, self.token) == (connection, token)
    }

    fn stats(&self) -> ListenerStats {
        if self.is_own { self.listening.listener().stats() } else { ListenerStats::default() }
    }
}

/// A peer has opened a stream.
#[derive(Message)]
#[rtype(result = "()")]
struct StreamAccepted {
    connection: ConnectionId,
    token: u64,
    stream: AcceptedStream,
}

impl Handler<StreamAccepted> for ForwarderActor {
    type Result = ();

    fn handle(&mut self, accepted: StreamAccepted, context: &mut Context<Self>) {
        let StreamAccepted { connection, token, stream } = accepted;
        let AcceptedStream { end, task, remote, .. } = stream;
        // Nobody may want it any more.
        if !self.gone && self.listening.iter().any(|taking| taking.is(connection, token)) {
            actix::spawn(task.run());
            let (server, stream) = (remote, Box::new(end));
            let accepted = true;
            self.forward(
                ForwarderCommand::Adopt { connection, token, server, stream, accepted },
                context,
            );
        }
    }
}

/// Dispatches events as they come; ends when the forwarder has hung up.
struct EventPump(RingReceiver<ForwarderEvent>);

impl ActorFuture<ForwarderActor> for EventPump {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut ForwarderActor,
        context: &mut Context<ForwarderActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        if !context.connected() {
            // A future of its own would keep an actor alive that nobody can reach any more.
            context.stop();
            return Poll::Ready(());
        }
        for _ in 0..EVENTS_PER_POLL {
            let Some(event) = ready!(self.0.poll_recv(task)) else {
                tracing::error!("the packet forwarder has stopped: all its connections are lost");
                actor.forwarder_gone();
                return Poll::Ready(());
            };
            actor.registry.dispatch(event);
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}
