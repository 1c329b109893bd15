//! The seam at which an application swaps the transport actors of a connection.

use std::fmt;
use std::io;
use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Recipient, WeakRecipient};
use ortc_dtls::{Certificate, DtlsActor, DtlsCommand, DtlsConfig, DtlsEvent};
use ortc_forward::{ForwarderActor, ForwarderConfig};
use ortc_ice::{IceActor, IceCommand, IceConfig, IceEvent};
use ortc_io::{ConnectionId, DatagramReceived, SocketCommand, SocketEvent};
use ortc_rtp::{RouteCommand, RtpActor, RtpCommand, RtpEvent};

/// What an ICE actor is made from.
#[derive(Debug)]
#[non_exhaustive]
pub struct IceStart {
    /// Credentials, tie-breaker, interfaces, servers.
    pub config: IceConfig,
    /// Names the connection in every command to the socket port.
    pub connection: ConnectionId,
    /// The connection's socket port. The connection attaches the actor to it before the
    /// first command comes.
    pub sockets: Recipient<SocketCommand>,
    /// Hears what the actor finds out.
    pub owner: WeakRecipient<IceEvent>,
}

/// Where an ICE actor is reached.
#[derive(Debug, Clone)]
pub struct IcePorts {
    /// Takes the connection's commands.
    pub commands: Recipient<IceCommand>,
    /// Hears the socket port's answers.
    pub socket_events: Recipient<SocketEvent>,
    /// Hears STUN.
    pub stun: Recipient<DatagramReceived>,
}

impl IceStart {
    /// Starts the default actor.
    pub fn start(self) -> IcePorts {
        let Self { config, connection, sockets, owner } = self;
        IcePorts::of(&IceActor::new(config, connection, sockets, owner).start())
    }
}

impl IcePorts {
    /// The ports of one actor that takes all of it.
    pub fn of<A>(actor: &Addr<A>) -> Self
    where
        A: Actor + Handler<IceCommand> + Handler<SocketEvent> + Handler<DatagramReceived>,
        A::Context: ToEnvelope<A, IceCommand>
            + ToEnvelope<A, SocketEvent>
            + ToEnvelope<A, DatagramReceived>,
    {
        Self {
            commands: actor.clone().recipient(),
            socket_events: actor.clone().recipient(),
            stun: actor.clone().recipient(),
        }
    }
}

/// What a DTLS actor is made from.
#[derive(Debug)]
#[non_exhaustive]
pub struct DtlsStart {
    /// Versions, timing, MTU. The role comes later, with [`DtlsCommand::Start`].
    pub config: DtlsConfig,
    /// Our certificate, whose fingerprint is signalled.
    pub certificate: Certificate,
    /// Names the connection in every command to the socket port.
    pub connection: ConnectionId,
    /// The connection's socket port.
    pub sockets: Recipient<SocketCommand>,
    /// Hears of keys and of the end.
    pub owner: WeakRecipient<DtlsEvent>,
}

/// Where a DTLS actor is reached.
#[derive(Debug, Clone)]
pub struct DtlsPorts {
    /// Takes the connection's commands.
    pub commands: Recipient<DtlsCommand>,
    /// Hears DTLS from validated paths.
    pub datagrams: Recipient<DatagramReceived>,
}

impl DtlsStart {
    /// Starts the default actor.
    pub fn start(self) -> DtlsPorts {
        let Self { config, certificate, connection, sockets, owner } = self;
        DtlsPorts::of(&DtlsActor::new(config, certificate, connection, sockets, owner).start())
    }
}

impl DtlsPorts {
    /// The ports of one actor that takes both.
    pub fn of<A>(actor: &Addr<A>) -> Self
    where
        A: Actor + Handler<DtlsCommand> + Handler<DatagramReceived>,
        A::Context: ToEnvelope<A, DtlsCommand> + ToEnvelope<A, DatagramReceived>,
    {
        Self { commands: actor.clone().recipient(), datagrams: actor.clone().recipient() }
    }
}

/// What an RTP actor is made from.
#[derive(Debug)]
#[non_exhaustive]
pub struct RtpStart {
    /// Names the connection in every command to the route port.
    pub connection: ConnectionId,
    /// The connection's RTCP CNAME (RFC 7022).
    pub cname: String,
    /// The connection's route port.
    pub routes: Recipient<RouteCommand>,
    /// Hears what becomes of tracks.
    pub owner: WeakRecipient<RtpEvent>,
}

impl RtpStart {
    /// Starts the default actor.
    pub fn start(self) -> Recipient<RtpCommand> {
        let Self { connection, cname, routes, owner } = self;
        RtpActor::new(connection, cname, routes, owner).start().recipient()
    }
}

/// What a connection's own socket actor is made from.
#[derive(Debug)]
#[non_exhaustive]
pub struct SocketStart {
    /// The connection that it is for.
    pub connection: ConnectionId,
    /// What the connection would use otherwise: to wrap, or to leave alone.
    pub media_plane: MediaPlane,
}

/// The socket port and the route port: control datagrams and media of the same sockets.
///
/// The defaults are those of an engine's packet forwarder. Whoever takes the place of one of
/// them has to know which paths are validated and selected, which goes through the socket
/// port ([`SocketCommand::Path`]), and which keys a connection has, which goes through the
/// route port ([`RouteCommand::SetKeys`]).
#[derive(Debug, Clone)]
pub struct MediaPlane {
    /// Binds sockets, sends and receives STUN and DTLS.
    pub sockets: Recipient<SocketCommand>,
    /// Sends and receives media.
    pub routes: Recipient<RouteCommand>,
}

impl MediaPlane {
    /// The ports of one actor that takes both.
    pub fn of<A>(actor: &Addr<A>) -> Self
    where
        A: Actor + Handler<SocketCommand> + Handler<RouteCommand>,
        A::Context: ToEnvelope<A, SocketCommand> + ToEnvelope<A, RouteCommand>,
    {
        Self { sockets: actor.clone().recipient(), routes: actor.clone().recipient() }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.sockets.connected() && self.routes.connected()
    }

    /// Starts the default one: a packet forwarder on a thread of its own.
    ///
    /// # Errors
    /// When the system refuses a thread or a poller.
    pub fn forwarder(config: ForwarderConfig) -> io::Result<Self> {
        Ok(Self::of(&ForwarderActor::start_pinned(config)?))
    }
}

type Factory<Start, Ports> = Arc<dyn Fn(Start) -> Ports + Send + Sync>;

/// Who makes the actors of a connection; those that are not named here are the default ones.
///
/// A factory is called once for each connection, on the control thread, where an actor can be
/// started. The actor lives as long as the connection holds its ports, and is told to close
/// first; one that dies earlier takes its connection with it, and only that. Towards the
/// connection it holds a [`WeakRecipient`], so that neither keeps the other.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Transports {
    ice: Option<Factory<IceStart, IcePorts>>,
    dtls: Option<Factory<DtlsStart, DtlsPorts>>,
    rtp: Option<Factory<RtpStart, Recipient<RtpCommand>>>,
    socket: Option<Factory<SocketStart, MediaPlane>>,
}

impl Transports {
    /// The default actors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has `factory` make the ICE actor.
    #[must_use]
    pub fn with_ice_actor(
        mut self,
        factory: impl Fn(IceStart) -> IcePorts + Send + Sync + 'static,
    ) -> Self {
        self.ice = Some(Arc::new(factory));
        self
    }

    /// Has `factory` make the DTLS actor.
    #[must_use]
    pub fn with_dtls_actor(
        mut self,
        factory: impl Fn(DtlsStart) -> DtlsPorts + Send + Sync + 'static,
    ) -> Self {
        self.dtls = Some(Arc::new(factory));
        self
    }

    /// Has `factory` make the RTP actor.
    #[must_use]
    pub fn with_rtp_actor(
        mut self,
        factory: impl Fn(RtpStart) -> Recipient<RtpCommand> + Send + Sync + 'static,
    ) -> Self {
        self.rtp = Some(Arc::new(factory));
        self
    }

    /// Has `factory` make the socket port and the route port of the connection, from those
    /// of the engine or in place of them.
    ///
    /// A port in front of another one does not see the STUN of a settled connection, unless it
    /// keeps [`SocketCommand::DelegateConsent`] to itself: ICE then goes on by itself.
    #[must_use]
    pub fn with_socket_actor(
        mut self,
        factory: impl Fn(SocketStart) -> MediaPlane + Send + Sync + 'static,
    ) -> Self {
        self.socket = Some(Arc::new(factory));
        self
    }

    pub(crate) fn has_ice_actor(&self) -> bool {
        self.ice.is_some()
    }

    pub(crate) fn has_socket_actor(&self) -> bool {
        self.socket.is_some()
    }

    pub(crate) fn start_ice(&self, start: IceStart) -> IcePorts {
        match &self.ice {
            Some(factory) => factory(start),
            None => start.start(),
        }
    }

    pub(crate) fn start_dtls(&self, start: DtlsStart) -> DtlsPorts {
        match &self.dtls {
            Some(factory) => factory(start),
            None => start.start(),
        }
    }

    pub(crate) fn start_rtp(&self, start: RtpStart) -> Recipient<RtpCommand> {
        match &self.rtp {
            Some(factory) => factory(start),
            None => start.start(),
        }
    }

    pub(crate) fn start_socket(&self, start: SocketStart) -> MediaPlane {
        match &self.socket {
            Some(factory) => factory(start),
            None => start.media_plane,
        }
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |swapped: bool| if swapped { "swapped" } else { "default" };
        f.debug_struct("Transports")
            .field("ice", &name(self.ice.is_some()))
            .field("dtls", &name(self.dtls.is_some()))
            .field("rtp", &name(self.rtp.is_some()))
            .field("socket", &name(self.socket.is_some()))
            .finish()
    }
}
