//! Sockets that several connections have.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient};
use ortc_ice::SharedHost;
use ortc_io::{BindShared, SharedBound, SharedSocket, SocketCommand};
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::error::{AnnounceError, BindError, NewConnectionError};
use crate::local_side::LocalSide;

/// A local socket that connections can share (ORTC drafts, "RTCSocket"). There are two kinds.
///
/// [`bind`](Self::bind) makes **the one port of a server**: each connection made
/// [with it](crate::RTCConnectionOptions::with_socket) has credentials and a certificate of its
/// own, and no other candidates than this socket. Its packets are told from those of the others
/// by the username fragment of its ICE checks, then by the address that has passed them.
///
/// [`RTCConnection::local_socket`](crate::RTCConnection::local_socket) is **the local side of a
/// connection**: its sockets, credentials, certificate and candidates, which connections made
/// with it have as well. Their packets are told apart by the username fragments of their peers.
///
/// A handle is cheap to clone. The sockets are closed once the last handle and the last
/// connection on them are gone.
///
/// **Two connections towards one remote address** cannot both have it, as their media look
/// alike. Who comes back from the same address and port, to a new connection, gets through: the
/// newer connection has the address once it has validated it, and the older one is told
/// [`PathLost`](crate::RTCDisconnectReason::PathLost). Nobody takes an address by forging it.
///
/// ```
/// # use ortc_api::{RTCConnection, RTCConnectionOptions, RTCSocket};
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let socket = RTCSocket::bind("0.0.0.0:5000".parse()?).await?;
/// let one = RTCConnection::new(RTCConnectionOptions::new().with_socket(socket.clone()))?;
/// let two = RTCConnection::new(RTCConnectionOptions::new().with_socket(socket))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RTCSocket(Kind);

#[derive(Clone)]
enum Kind {
    Port {
        engine: Engine,
        hold: Arc<SocketHold>,
        announced: Option<IpAddr>,
        /// The media thread that it is on, and its connections with it.
        place: usize,
    },
    LocalSide(Arc<LocalSide>),
}

impl RTCSocket {
    /// Binds a UDP port on the process-wide engine; port 0 lets the system choose.
    ///
    /// A wildcard, `0.0.0.0` or `[::]`, stands for every address of its family that this host
    /// has now, link-local ones aside. Each is bound by itself on the same port, so that an
    /// answer leaves from the address that was asked; a connection has a candidate for each
    /// that its [`interfaces`](crate::RTCConnectionOptions::interfaces) admit. An address that
    /// this host gets later needs another `RTCSocket`.
    ///
    /// # Errors
    /// When the address is in use, not one of this host, or not allowed to be bound; when
    /// there is no engine.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        Self::bind_on(&Engine::global()?, address).await
    }

    /// Binds a UDP port on this engine, on which its connections run as well; otherwise as
    /// [`bind`](Self::bind).
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    pub async fn bind_on(engine: &Engine, address: SocketAddr) -> Result<Self, BindError> {
        Self::bind_at(engine, address, 0).await
    }

    /// Binds a UDP port for each media thread of this engine, on which its connections run as
    /// well: the given one, and those that follow it. Port 0 lets the system choose each.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind), for any of them; and when the ports end before the threads
    /// do.
    pub async fn bind_each(engine: &Engine, address: SocketAddr) -> Result<Vec<Self>, BindError> {
        let mut sockets = Vec::new();
        for place in 0..engine.threads() {
            let mut address = address;
            if address.port() != 0 {
                let port = address.port().checked_add(place as u16);
                address.set_port(port.ok_or(BindError::NoPortLeft(address))?);
            }
            sockets.push(Self::bind_at(engine, address, place).await?);
        }
        Ok(sockets)
    }

    async fn bind_at(
        engine: &Engine,
        address: SocketAddr,
        place: usize,
    ) -> Result<Self, BindError> {
        let (answer, bound) = oneshot::channel();
        engine.bind(BindRequest { address, place, answer })?;
        let hold = bound.await.map_err(|_| NewConnectionError::EngineGone)?;
        let hold = hold.map_err(|error| BindError::of(address, error))?;
        let (engine, hold) = (engine.clone(), Arc::new(hold));
        Ok(Self(Kind::Port { engine, hold, announced: None, place }))
    }

    pub(crate) fn of_local_side(side: Arc<LocalSide>) -> Self {
        Self(Kind::LocalSide(side))
    }

    pub(crate) fn local_side(&self) -> Option<&Arc<LocalSide>> {
        match &self.0 {
            Kind::Port { .. } => None,
            Kind::LocalSide(side) => Some(side),
        }
    }

    pub(crate) fn place(&self) -> usize {
        match &self.0 {
            Kind::Port { place, .. } => *place,
            Kind::LocalSide(side) => side.place,
        }
    }

    /// Has candidates carry this address in place of the socket's own: the outer address of a
    /// NAT that maps one address to one, and leaves ports alone.
    ///
    /// # Errors
    /// When it is not an address of the socket's family that a peer could send to, or the
    /// socket was bound to a wildcard that stands for several addresses beside loopback, and
    /// nothing says which of them it belongs to: bind that one by its address.
    pub fn with_announced(mut self, address: IpAddr) -> Result<Self, AnnounceError> {
        let Kind::Port { hold, announced, .. } = &mut self.0 else {
            return Err(AnnounceError::LocalSide);
        };
        let local = hold.local();
        if address.is_ipv4() != local.is_ipv4() {
            return Err(AnnounceError::OtherFamily { announced: address, bound: local });
        }
        if address.is_unspecified() || address.is_multicast() {
            return Err(AnnounceError::NotUnicast(address));
        }
        let addresses = hold.outer().count();
        if addresses != 1 {
            return Err(AnnounceError::Ambiguous { addresses });
        }
        *announced = Some(address);
        Ok(self)
    }

    /// The address that was bound, with the port that the system chose. A wildcard stays one.
    ///
    /// Of a local side, that of its first socket; `None` before it is bound.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Port { hold, .. } => Some(hold.local()),
            Kind::LocalSide(side) => side.hosts().first().map(|host| host.shared.local),
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        match &self.0 {
            Kind::Port { engine, .. } => engine,
            Kind::LocalSide(side) => &side.engine,
        }
    }

    /// What a connection needs of it.
    pub(crate) fn for_connection(&self) -> SocketUse {
        let (hold, announced) = match &self.0 {
            Kind::Port { hold, announced, .. } => (hold, *announced),
            Kind::LocalSide(side) => return SocketUse::Fork(Arc::clone(side)),
        };
        let hosts = hold.bound.iter().map(|shared| SharedHost {
            shared: *shared,
            announced: announced.filter(|_| hold.outer().any(|outer| outer == shared)),
            from_wildcard: hold.from_wildcard,
        });
        SocketUse::Port { hosts: hosts.collect(), hold: Arc::clone(hold) }
    }
}

impl fmt::Debug for RTCSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RTCSocket").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

/// A connection's share in a socket, which is kept until the connection has joined it, and as
/// long as it lives.
pub(crate) enum SocketUse {
    Port { hosts: Vec<SharedHost>, hold: Arc<SocketHold> },
    Fork(Arc<LocalSide>),
}

/// Keeps bound sockets; dropping it releases them.
#[derive(Debug)]
pub(crate) struct SocketHold {
    sockets: Recipient<SocketCommand>,
    /// At least one.
    bound: Vec<SharedSocket>,
    from_wildcard: bool,
}

impl SocketHold {
    /// The address that was asked for, with the port that the system chose.
    fn local(&self) -> SocketAddr {
        let first = self.bound.first().map(|bound| bound.local);
        let first = first.expect("a socket that was bound has an address");
        match first.ip() {
            _ if !self.from_wildcard => first,
            IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), first.port()),
            IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), first.port()),
        }
    }

    /// The sockets that an announced address can be meant for.
    fn outer(&self) -> impl Iterator<Item = &SharedSocket> {
        self.bound.iter().filter(|bound| !self.from_wildcard || !bound.local.ip().is_loopback())
    }
}

impl Drop for SocketHold {
    fn drop(&mut self) {
        for bound in &self.bound {
            self.sockets.do_send(SocketCommand::ReleaseShared(bound.socket));
        }
    }
}

/// A socket that is wanted, on its way to the control thread.
pub(crate) struct BindRequest {
    address: SocketAddr,
    /// The media thread that it is for.
    pub(crate) place: usize,
    answer: oneshot::Sender<Result<SocketHold, Arc<io::Error>>>,
}

impl BindRequest {
    /// Asks the socket port; to be called on the control thread.
    pub(crate) fn start(self, sockets: Recipient<SocketCommand>) {
        Binder { sockets, request: Some(self) }.start();
    }
}

/// Hears the port's answer. Only the port knows its address: should that die, so does this,
/// and whoever asked hears that the engine is gone.
struct Binder {
    sockets: Recipient<SocketCommand>,
    request: Option<BindRequest>,
}

impl Actor for Binder {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Some(request) = &self.request {
            let (address, reply) = (request.address, context.address().recipient());
            self.sockets.do_send(SocketCommand::BindShared(BindShared { address, reply }));
        }
    }
}

impl Handler<SharedBound> for Binder {
    type Result = ();

    fn handle(&mut self, SharedBound(result): SharedBound, context: &mut Context<Self>) {
        if let Some(BindRequest { address, answer, .. }) = self.request.take() {
            let result = result.map(|bound| SocketHold {
                sockets: self.sockets.clone(),
                bound,
                from_wildcard: address.ip().is_unspecified(),
            });
            // If nobody waits any more, the sockets are released with what comes back.
            let _ = answer.send(result);
        }
        context.stop();
    }
}
