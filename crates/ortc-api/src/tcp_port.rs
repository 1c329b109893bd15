use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ortc_ice::TcpPort;
use ortc_io::{ListenerStats, StreamListener};
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::error::{AnnounceError, BindError, NewConnectionError};

/// A TCP port that connections share for their passive TCP candidates (RFC 6544): an addition to
/// the drafts, for a server whose peers may be in networks without UDP.
///
/// Browsers connect to it by themselves once they are told of the candidate. Whoever connects
/// has to show the password of one of its connections with the first message, within five
/// seconds; those who have not are 64 at most, 8 of one address, and the oldest makes room.
///
/// A handle is cheap to clone. The port is closed once the last handle and the last connection
/// with it are gone.
///
/// ```
/// # use ortc_api::{RTCConnection, RTCConnectionOptions, RTCSocket, RTCTcpPort};
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let (udp, tcp) = ("0.0.0.0:5000".parse()?, "0.0.0.0:5000".parse()?);
/// let (socket, port) = (RTCSocket::bind(udp).await?, RTCTcpPort::bind(tcp).await?);
/// let options = RTCConnectionOptions::new().with_socket(socket).with_tcp_port(port);
/// let connection = RTCConnection::new(options)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RTCTcpPort {
    /// Whose control thread accepts.
    engine: Engine,
    listener: StreamListener,
    announced: Option<IpAddr>,
}

impl RTCTcpPort {
    /// Binds a TCP port on the process-wide engine; port 0 lets the system choose.
    ///
    /// A wildcard, `0.0.0.0` or `[::]`, stands for every address of its family that a
    /// connection's [`interfaces`](crate::RTCConnectionOptions::interfaces) admit.
    ///
    /// # Errors
    /// When the address is in use, not one of this host, or not allowed to be bound; when
    /// there is no engine.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        Self::bind_on(&Engine::global()?, address).await
    }

    /// Binds a TCP port on this engine; otherwise as [`bind`](Self::bind).
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    pub async fn bind_on(engine: &Engine, address: SocketAddr) -> Result<Self, BindError> {
        let (answer, bound) = oneshot::channel();
        engine.bind_tcp(TcpPortRequest { address, answer })?;
        let listener = bound.await.map_err(|_| NewConnectionError::EngineGone)?;
        let listener = listener.map_err(|error| BindError::of(address, Arc::new(error)))?;
        Ok(Self { engine: engine.clone(), listener, announced: None })
    }

    /// Has candidates carry this address in place of their own: the outer address of a NAT that
    /// maps one address to one, and leaves ports alone.
    ///
    /// # Errors
    /// When it is not an address of the port's family that a peer could connect to.
    pub fn with_announced(mut self, address: IpAddr) -> Result<Self, AnnounceError> {
        let local = self.listener.local();
        if address.is_ipv4() != local.is_ipv4() {
            return Err(AnnounceError::OtherFamily { announced: address, bound: local });
        }
        if address.is_unspecified() || address.is_multicast() {
            return Err(AnnounceError::NotUnicast(address));
        }
        self.announced = Some(address);
        Ok(self)
    }

    /// The address that was bound, with the port that the system chose. A wildcard stays one.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local()
    }

    /// What has become of those who have connected.
    pub fn stats(&self) -> ListenerStats {
        self.listener.stats()
    }

    pub(crate) fn for_connection(&self) -> TcpPort {
        TcpPort { listener: self.listener.clone(), announced: self.announced }
    }
}

impl fmt::Debug for RTCTcpPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engine, listener, announced } = self;
        f.debug_struct("RTCTcpPort")
            .field("engine", engine)
            .field("local_addr", &listener.local())
            .field("announced", announced)
            .finish()
    }
}

/// A port that is wanted, on its way to the control thread.
pub(crate) struct TcpPortRequest {
    address: SocketAddr,
    answer: oneshot::Sender<io::Result<StreamListener>>,
}

impl TcpPortRequest {
    /// Binds it; to be called on the control thread, which accepts from then on.
    pub(crate) fn carry_out(self) {
        // If nobody waits any more, the port is closed with what comes back.
        let _ = self.answer.send(StreamListener::bind(self.address));
    }
}
