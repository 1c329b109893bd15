//! The shell round the connection's core: it owns the transport actors, and one timer.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Recipient, SpawnHandle,
    StreamHandler,
};
use futures_util::stream::{poll_fn, unfold};
use ortc_dtls::{Certificate, DtlsCommand, DtlsEvent};
use ortc_ice::{Fork, IceCommand, IceConfig, IceEvent, SharedHost};
use ortc_io::{Attach, Detach, Detached, SocketCommand};
use ortc_rtp::congestion::BandwidthLimits;
use ortc_rtp::{DisconnectReason, RouteCommand, RtpCommand, RtpEvent};

use crate::connection::RTCConnection;
use crate::connection::{Command, Shared, WeakRTCConnection};
use crate::core::{ConnectionCore, Input, Output, State};
use crate::dtmf::{ToneReception, ToneRoutes, ToneTasks};
use crate::ending::Open;
use crate::engine::{EngineContext, Slot, Start};
use crate::events::{RTCDisconnectReason, RTCEvent};
use crate::hub::EventHub;
use crate::local_side::LocalSide;
use crate::media::{MediaStream, lock};
use crate::received::Received;
use crate::socket::{SocketHold, SocketUse};
use crate::trace::Trace;
use crate::transports::{DtlsStart, IceStart, MediaPlane, RtpStart, SocketStart, Transports};
use crate::vigil::{ChildLost, Family, Watch};

/// How long one step of closing may take before the next is taken regardless. The media
/// thread answers within a millisecond; half a second tells a stall from a busy machine.
const STEP_TIMEOUT: Duration = Duration::from_millis(500);

/// Messages that wait for a connection before datagrams to it are dropped.
const MAILBOX: usize = 256;

/// What the streams of events of a connection are told that did not end in order.
const PANICKED: &str = "its actor, or the control thread, has panicked";

/// One connection on the control thread.
pub(crate) struct ConnectionActor {
    core: ConnectionCore,
    trace: Trace,
    hub: EventHub<RTCConnection, RTCEvent>,
    received: Received,
    tones: ToneTasks,
    shared: Arc<Shared>,
    handle: WeakRTCConnection,
    engine: Rc<EngineContext>,
    slot: Slot,
    children: Option<Rc<Children>>,
    /// Has it told when one of them has died.
    watch: Option<Watch>,
    /// What the children are made of, until the actor has started: a kilobyte.
    start: Option<Box<ChildrenStart>>,
    step_timer: Option<SpawnHandle>,
    connect_timeout: Duration,
    /// Keeps a port bound.
    port: Option<Arc<SocketHold>>,
    /// Of a fork, the local side that it shares.
    fork: Option<Arc<LocalSide>>,
    /// Keeps the actor until it has let go of everything; the children hold weak ports only.
    own: Option<Addr<Self>>,
    /// Hangs up, for whoever awaits the end, when the actor is dropped.
    _open: Open,
}

struct Children {
    ice: Recipient<IceCommand>,
    dtls: Recipient<DtlsCommand>,
    rtp: Recipient<RtpCommand>,
    media_plane: MediaPlane,
}

impl Family for Children {
    fn are_alive(&self) -> bool {
        self.ice.connected()
            && self.dtls.connected()
            && self.rtp.connected()
            && self.media_plane.is_alive()
    }
}

struct ChildrenStart {
    commands: tokio::sync::mpsc::UnboundedReceiver<Box<Command>>,
    certificate: Certificate,
    dtls: ortc_dtls::DtlsConfig,
    ice: IceConfig,
    cname: String,
    transports: Transports,
    follow_network: bool,
    bandwidth: BandwidthLimits,
}

impl ConnectionActor {
    pub(crate) fn launch(start: Start, engine: &Rc<EngineContext>) {
        let (random, cname) = start.random.split_at(16);
        let number =
            |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        let mut ice = IceConfig::new(start.shared.local.ice.clone(), number(&random[..8]))
            .with_servers(start.ice_servers)
            .with_candidate_types(start.candidate_types)
            .with_tcp_candidates(start.tcp)
            .with_interfaces(start.interfaces)
            .with_lite(start.ice_lite)
            .with_counters(start.shared.checks.clone())
            .with_seed(number(&random[8..]));
        ice.server_roots = start.ice_server_roots;
        if start.hides_addresses {
            ice = ice.with_hidden_addresses(engine.names.clone());
        }
        if let Some(port) = start.tcp_port {
            ice = ice.with_tcp_port(port);
        }
        let (ice, port, fork) = match start.socket {
            None => (ice, None, None),
            Some(SocketUse::Port { hosts, hold }) => {
                (ice.with_shared_sockets(hosts), Some(hold), None)
            }
            // The sockets are told at once, with those that come.
            Some(SocketUse::Fork(side)) => {
                let fork = Fork { complete: false };
                (ice.with_local_side_of(Vec::new(), fork), None, Some(side))
            }
        };
        let (ice_counts, dtls_counts) = (&ice.tally, &start.dtls.tally);
        lock(&start.shared.state).transport.read_counts_of(ice_counts, dtls_counts);
        let children = ChildrenStart {
            commands: start.commands,
            certificate: start.certificate,
            dtls: start.dtls,
            ice,
            transports: start.transports,
            follow_network: start.follow_network,
            bandwidth: start.bandwidth,
            // RFC 7022 §4.2: 96 random bits are enough; we have 128.
            cname: cname.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Self {
            core: ConnectionCore::new(),
            trace: Trace::new(ortc_io::now(), start.slot.id),
            hub: EventHub::new(),
            received: Received::default(),
            tones: ToneTasks::new(),
            shared: start.shared,
            handle: start.handle,
            slot: start.slot,
            engine: Rc::clone(engine),
            children: None,
            watch: None,
            start: Some(Box::new(children)),
            step_timer: None,
            connect_timeout: start.connect_timeout,
            port,
            fork,
            own: None,
            _open: start.open,
        }
        .start();
    }

    /// Starts the transport actors and registers them with the socket port.
    fn make_children(&self, start: Box<ChildrenStart>, own: &Addr<Self>) -> Children {
        let connection = self.slot.id;
        let (start, weak) = (*start, own.downgrade());
        let media_plane = self.engine.media_plane(connection).clone();
        let transports = start.transports;
        let media_plane = transports.start_socket(SocketStart { connection, media_plane });
        let MediaPlane { sockets, routes } = media_plane.clone();
        let ice = transports.start_ice(IceStart {
            config: start.ice,
            connection,
            sockets: sockets.clone(),
            owner: weak.clone().recipient(),
        });
        let dtls = transports.start_dtls(DtlsStart {
            config: start.dtls,
            certificate: start.certificate,
            connection,
            sockets: sockets.clone(),
            owner: weak.clone().recipient(),
        });
        let owner = weak.recipient();
        let rtp = transports.start_rtp(RtpStart { connection, cname: start.cname, routes, owner });
        if start.bandwidth != BandwidthLimits::default() {
            rtp.do_send(RtpCommand::LimitBandwidth(start.bandwidth));
        }
        sockets.do_send(SocketCommand::Attach(Attach {
            connection,
            events: ice.socket_events,
            stun: ice.stun,
            dtls: dtls.datagrams,
        }));
        Children { ice: ice.commands, dtls: dtls.commands, rtp, media_plane }
    }

    /// The media plane that has this connection's sockets, or the engine's if that has died.
    fn media_plane(&self) -> &MediaPlane {
        match &self.children {
            Some(children) if children.media_plane.is_alive() => &children.media_plane,
            _ => self.engine.media_plane(self.slot.id),
        }
    }

    fn feed(&mut self, input: Input, context: &mut Context<Self>) {
        self.core.handle(input);
        self.drain(context);
    }

    fn drain(&mut self, context: &mut Context<Self>) {
        while let Some(output) = self.core.poll_output() {
            self.put_out(output, context);
        }
    }

    fn put_out(&mut self, output: Output, context: &mut Context<Self>) {
        match output {
            Output::Ice(command) => self.tell(|children| send(&children.ice, command)),
            Output::Dtls(command) => self.tell(|children| send(&children.dtls, command)),
            Output::Rtp(command) => self.tell(|children| send(&children.rtp, command)),
            Output::Emit(event) => self.emit(event),
            Output::RemoteCertificate(der) => {
                lock(&self.shared.state).remote_dtls =
                    Some(ortc_dtls::RTCDtlsConnectionInfo::of_certificate(&der));
            }
            Output::Detach => {
                let done = context.address().recipient();
                let detach = Detach { connection: self.slot.id, done };
                self.media_plane().sockets.do_send(SocketCommand::Detach(detach));
            }
            Output::ArmStepTimer => {
                if let Some(timer) = self.step_timer.take() {
                    context.cancel_future(timer);
                }
                let timer = context.run_later(STEP_TIMEOUT, |actor, context| {
                    actor.step_timer = None;
                    actor.feed(Input::StepTimedOut, context);
                });
                self.step_timer = Some(timer);
            }
            Output::ArmConnectTimer => {
                context.run_later(self.connect_timeout, |actor, context| {
                    actor.feed(Input::ConnectTimedOut, context);
                });
            }
            Output::Finish => {
                self.own = None;
                context.stop();
            }
        }
    }

    /// Tells a child; one that has died takes the connection with it.
    fn tell(&mut self, tell: impl FnOnce(&Children) -> bool) {
        if !self.children.as_deref().is_some_and(tell) {
            self.core.handle(Input::ActorLost);
        }
    }

    /// What others share of this connection is complete now, and its peer may be called anew.
    fn leave_local_side(&self) {
        let side = lock(&self.shared.state).local_side.upgrade();
        if let Some(side) = side {
            side.leave(self.slot.id);
            if self.fork.is_none() {
                side.complete();
            }
        }
    }

    /// Receives a track, or goes on otherwise, with its telephone keys.
    fn receive(
        &mut self,
        command: RtpCommand,
        new: Vec<MediaStream>,
        tones: Option<Box<(ToneRoutes, ToneReception)>>,
        context: &mut Context<Self>,
    ) {
        let (routes, tones) = tones.map(|tones| *tones).unzip();
        let ToneRoutes { before, after } = routes.unwrap_or_default();
        for command in before.into_iter().chain([command]).chain(after) {
            self.put_out(Output::Rtp(command), context);
        }
        for stream in new {
            self.emit(RTCEvent::AddStream(stream));
        }
        if let Some(tones) = tones {
            self.emit(RTCEvent::AddDtmfHandler(tones.handler()));
            self.tones.start(|_| tones.run());
        }
    }

    /// Has the last seconds written down, if the connection has failed.
    fn dump(&mut self, reason: &RTCDisconnectReason) {
        use RTCDisconnectReason::{ClosedByPeer, PathLost};
        let Some(dumps) = self.engine.dumps.clone() else { return };
        let note = RtpCommand::Note(format!("disconnected: {reason}"));
        let dump = match reason {
            PathLost | ClosedByPeer => None,
            _ => dumps.reply(self.slot.id, reason),
        };
        // Where the child has died there is nothing to be had.
        let Some(children) = &self.children else { return };
        for command in [Some(note), dump.map(RtpCommand::TakeRecording)].into_iter().flatten() {
            send(&children.rtp, command);
        }
    }

    /// The application has closed: it hears nothing any more, and its handlers are dropped.
    fn fall_silent(&mut self) {
        self.leave_local_side();
        self.hub.close();
        self.received.close();
        self.tones.close();
    }

    /// Sockets that this connection shares.
    fn sockets_shared(&self, hosts: Vec<SharedHost>, complete: bool) {
        let sockets = &self.media_plane().sockets;
        let side = lock(&self.shared.state).local_side.upgrade();
        match side {
            Some(side) => side.add(sockets, hosts, complete),
            // Nobody wants them any more. Those of a port are the port's.
            None if self.port.is_some() => {}
            None => hosts.iter().for_each(|host| {
                sockets.do_send(SocketCommand::ReleaseShared(host.shared.socket));
            }),
        }
    }

    fn emit(&mut self, event: RTCEvent) {
        // The application has closed, and what is being carried out was asked for before that.
        if lock(&self.shared.state).closed {
            return;
        }
        if let RTCEvent::Candidate(candidate) = &event {
            let found = &mut lock(&self.shared.state).found;
            found.reserve_exact(1);
            found.push(candidate.clone());
        }
        if event == RTCEvent::Connected {
            self.tones.connected();
        }
        if let RTCEvent::Disconnected(reason) = &event {
            self.dump(reason);
            if reason.is_final() {
                // From now on it is as after `close`, also for who hears of it in a handler.
                lock(&self.shared.state).closed = true;
                let said_goodbye = *reason == RTCDisconnectReason::ClosedByPeer;
                self.received.end(if said_goodbye {
                    DisconnectReason::Bye
                } else {
                    DisconnectReason::TimedOut
                });
            }
        }
        let connection = self.handle.upgrade();
        self.hub.emit(event, connection.as_ref());
    }
}

/// Sends a command that must not be lost; whether there is somebody to hear it.
fn send<M>(port: &Recipient<M>, message: M) -> bool
where
    M: actix::Message + Send,
    M::Result: Send,
{
    let connected = port.connected();
    port.do_send(message);
    connected
}

impl Actor for ConnectionActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
        let own = context.address();
        // Those of the children are within it.
        let _within = self.trace.span().entered();
        if let Some(mut start) = self.start.take() {
            let (none, unused) = tokio::sync::mpsc::unbounded_channel();
            drop(none);
            let mut commands = std::mem::replace(&mut start.commands, unused);
            context.add_stream(poll_fn(move |context| commands.poll_recv(context)));
            if start.follow_network {
                let changes = self.engine.network.changes();
                context.add_stream(unfold(changes, |mut changes| async {
                    changes.changed().await.ok()?;
                    Some((NetworkChanged, changes))
                }));
            }
            let children = Rc::new(self.make_children(start, &own));
            self.watch = Some(self.engine.vigil.watch(&children, own.downgrade().recipient()));
            self.children = Some(children);
        }
        self.own = Some(own);
        self.drain(context);
    }
}

impl Drop for ConnectionActor {
    /// However the actor ends, also by a panic of its own or of the thread, the media plane lets go
    /// of its connection, and streams of events tell of it.
    fn drop(&mut self) {
        let was_closed = std::mem::replace(&mut lock(&self.shared.state).closed, true);
        if !was_closed {
            let reason = RTCDisconnectReason::Internal(PANICKED);
            self.hub.last_words(&RTCEvent::Disconnected(reason));
        }
        self.leave_local_side();
        if self.core.state() != State::Closed {
            self.media_plane().routes.do_send(RouteCommand::Close(self.slot.id));
            let done = NobodyWaits.start().recipient();
            let detach = Detach { connection: self.slot.id, done };
            self.media_plane().sockets.do_send(SocketCommand::Detach(detach));
        }
    }
}

/// Hears that a connection is detached when its own actor has died.
struct NobodyWaits;

impl Actor for NobodyWaits {
    type Context = Context<Self>;
}

impl Handler<Detached> for NobodyWaits {
    type Result = ();

    fn handle(&mut self, _: Detached, _: &mut Context<Self>) {}
}

impl StreamHandler<Box<Command>> for ConnectionActor {
    fn handle(&mut self, command: Box<Command>, context: &mut Context<Self>) {
        let _within = self.trace.span().entered();
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        match *command {
            Command::Connect(peer) => {
                lock(&self.shared.state).transport.on_connect(&peer);
                self.trace.on_connect(ortc_io::now());
                self.core.handle(Input::Connect(peer));
            }
            Command::SubscribeTrack(track, subscription) => {
                self.received.subscribe_track(&track, subscription);
            }
            Command::SubscribeStream(stream, subscription) => {
                self.received.subscribe_stream(&stream, subscription);
            }
            Command::Close => {
                self.fall_silent();
                self.core.handle(Input::Close);
            }
            Command::Subscribe(subscription) => {
                let connection = self.handle.upgrade();
                self.hub.subscribe(subscription, connection.as_ref());
            }
            Command::Ice(command) => self.put_out(Output::Ice(command), context),
            Command::Rtp(command) => self.put_out(Output::Rtp(command), context),
            Command::Tones(attachment) => self.tones.start(|connected| attachment.run(connected)),
            Command::StopReceiving { track, left, ended } => {
                self.received.remove(&track, &left, &ended);
                if let Some(ssrc) = track.received_ssrc() {
                    self.put_out(Output::Rtp(RtpCommand::RemoveReceiver(ssrc)), context);
                }
            }
            Command::Receive { track, new, command, tones } => {
                if let Some(ssrc) = track.received_ssrc() {
                    // It is known now.
                    self.hub.retract(
                        |event| matches!(event, RTCEvent::UnknownTrack(it) if it.is_of(ssrc)),
                    );
                }
                self.received.add(track, &new);
                self.receive(command, new, tones, context);
            }
            Command::ReceiveAs { command, tones } => {
                self.receive(command, Vec::new(), tones, context);
            }
        }
        self.drain(context);
    }

    /// The last handle is gone.
    fn finished(&mut self, context: &mut Context<Self>) {
        self.fall_silent();
        self.feed(Input::Close, context);
    }
}

/// Addresses of this host have come or gone.
struct NetworkChanged;

impl StreamHandler<NetworkChanged> for ConnectionActor {
    fn handle(&mut self, _: NetworkChanged, context: &mut Context<Self>) {
        if !self.core.state().is_closing() {
            self.put_out(Output::Ice(IceCommand::Update), context);
            self.drain(context);
        }
    }

    /// The engine goes; the connection is closed in order.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<ChildLost> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, _: ChildLost, context: &mut Context<Self>) {
        self.feed(Input::ActorLost, context);
    }
}

impl Handler<IceEvent> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, event: IceEvent, context: &mut Context<Self>) {
        let _within = self.trace.span().entered();
        if let IceEvent::CandidateWithdrawn(gone) = &event {
            lock(&self.shared.state).found.retain(|candidate| candidate != gone);
            let told = RTCEvent::Candidate(gone.clone());
            self.hub.retract(|event| *event == told);
        }
        if let IceEvent::SocketsShared { hosts, complete } = event {
            return self.sockets_shared(hosts, complete);
        }
        lock(&self.shared.state).transport.on_ice(&event);
        self.trace.on_ice(ortc_io::now(), &event);
        self.feed(Input::Ice(event), context);
    }
}

impl Handler<DtlsEvent> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, event: DtlsEvent, context: &mut Context<Self>) {
        let _within = self.trace.span().entered();
        lock(&self.shared.state).transport.on_dtls(&event);
        self.trace.on_dtls(ortc_io::now(), &event);
        self.feed(Input::Dtls(event), context);
    }
}

impl Handler<RtpEvent> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, event: RtpEvent, context: &mut Context<Self>) {
        let _within = self.trace.span().entered();
        self.trace.on_rtp(ortc_io::now(), &event);
        match &event {
            RtpEvent::TrackConnected(ssrc) => self.received.connected(*ssrc),
            RtpEvent::TrackDisconnected(ssrc, reason) => self.received.disconnected(*ssrc, *reason),
            // Its description may have come while this was on its way.
            RtpEvent::UnknownTrack(track) if !self.received.has(track.ssrc) => {
                self.emit(RTCEvent::UnknownTrack(track.clone().into()));
            }
            RtpEvent::UnknownTrack(_) | RtpEvent::BandwidthChanged(_) | RtpEvent::Closed => {}
            RtpEvent::KeyFrameRequested(ssrc) => {
                let connection = self.handle.upgrade();
                let sent = connection.iter().flat_map(|connection| connection.tracks(None));
                for track in sent {
                    track.source_of(*ssrc).into_iter().for_each(|it| it.want_key_frame());
                }
                return;
            }
        }
        self.feed(Input::Rtp(event), context);
    }
}

impl Handler<Detached> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, _: Detached, context: &mut Context<Self>) {
        self.feed(Input::Detached, context);
    }
}
