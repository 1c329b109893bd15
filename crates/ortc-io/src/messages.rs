use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use actix::{Message, Recipient};
use bytes::Bytes;

use crate::{
    ConnectionId, ConsentDelegation, ConsentReturn, InterfaceAddress, SocketId, StreamListener,
};

/// How a datagram is wrapped between a socket and the remote address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encapsulation {
    /// Not at all.
    Plain,
    /// As TURN channel data with this channel number (RFC 8656 §12.4).
    ChannelData(u16),
    /// As length-prefixed frames on a TCP stream (RFC 4571).
    Rfc4571,
}

/// Where a datagram came from or is to go: a socket of ours and an address of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// The local socket.
    pub socket: SocketId,
    /// The address on the far side of it.
    pub remote: SocketAddr,
    /// How datagrams are wrapped on it.
    pub encapsulation: Encapsulation,
}

impl Path {
    /// A path without encapsulation.
    pub const fn plain(socket: SocketId, remote: SocketAddr) -> Self {
        Self { socket, remote, encapsulation: Encapsulation::Plain }
    }
}

/// What a protocol actor asks of a socket port.
///
/// Commands of one sender are carried out in the order in which they were sent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub enum SocketCommand {
    /// Registers who hears the datagrams of a connection. Comes first.
    Attach(Attach),
    /// Forgets a connection: its paths, keys and sockets. Answered with [`Detached`].
    Detach(Detach),
    /// Asks for the addresses of this host; answered with [`SocketEvent::Interfaces`] on
    /// the events recipient of the connection.
    EnumerateInterfaces(ConnectionId),
    /// Binds a UDP socket; answered with [`SocketEvent::Bound`] or [`SocketEvent::BindFailed`].
    Bind(Bind),
    /// Binds UDP sockets that connections may share; answered on a recipient of its own.
    BindShared(BindShared),
    /// Opens a stream to a TURN server or a peer; answered as if it had been bound.
    OpenStream(OpenStream),
    /// Lets a peer open streams to us; answered with [`SocketEvent::Listening`] or
    /// [`SocketEvent::BindFailed`], and each stream is a [`SocketEvent::Accepted`].
    Listen(Listen),
    /// Takes no more streams for what was asked with this token; those that are open stay.
    StopListening(ConnectionId, u64),
    /// Does not keep a shared socket any more: it is closed as soon as no connection uses it.
    ReleaseShared(SocketId),
    /// Has a connection use a shared socket; answered with [`SocketEvent::Bound`] or
    /// [`SocketEvent::BindFailed`], as if it had been bound for it.
    Join(Join),
    /// Lets forks of a connection's local side join one of its sockets.
    Share(Share),
    /// Gives a fork the requests of a peer, by the username fragment of that.
    ClaimPeer(ConnectionId, String),
    /// Closes one socket of the connection, or lets go of it if it is shared; answered with
    /// [`SocketEvent::Unbound`].
    Unbind(ConnectionId, SocketId),
    /// Sends one control datagram (STUN, DTLS). Never media.
    SendControl(SendControl),
    /// Sends one control datagram on every path that works, the selected one first: a goodbye, which
    /// nobody repeats later, and which is not to be lost with a path that has just died.
    SendEverywhere(ConnectionId, Bytes),
    /// What ICE has found out about a path.
    Path(ConnectionId, PathUpdate),
    /// Hands the consent of a settled path over; answered with
    /// [`SocketEvent::ConsentDelegated`], or not at all by a port that does not do it.
    DelegateConsent(ConnectionId, Box<ConsentDelegation>),
    /// Takes back what was delegated with this token; answered with
    /// [`SocketEvent::ConsentReturned`], if it was not given back before.
    ReclaimConsent(ConnectionId, u64),
}

/// Registers the recipients of a connection with a socket port.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The connection that is being registered.
    pub connection: ConnectionId,
    /// Hears answers to commands, and sockets that failed.
    pub events: Recipient<SocketEvent>,
    /// Hears every STUN datagram on the connection's sockets, from any address; of shared
    /// sockets, those that are the connection's.
    pub stun: Recipient<DatagramReceived>,
    /// Hears DTLS datagrams, and those only from validated paths.
    ///
    /// What comes from an authenticated path is parked (at most 8 datagrams or 10 kB a
    /// connection) and delivered once that path is validated; the rest is dropped, counted.
    pub dtls: Recipient<DatagramReceived>,
}

/// Asks a socket port to forget a connection.
#[derive(Debug, Clone)]
pub struct Detach {
    /// The connection to forget.
    pub connection: ConnectionId,
    /// Told once its sockets are closed.
    pub done: Recipient<Detached>,
}

/// Says that a socket port has let go of everything a connection had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Detached(pub ConnectionId);

/// Asks for a UDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// The connection that will own the socket.
    pub connection: ConnectionId,
    /// Repeated in the answer.
    pub token: u64,
    /// The address to bind; port 0 lets the system choose.
    pub address: SocketAddr,
}

/// Asks for a stream, which then is a socket like any other, but for one remote address.
///
/// It is closed like a socket, and reported lost like one.
#[derive(Debug, Clone)]
pub struct OpenStream {
    /// The connection that will own the stream.
    pub connection: ConnectionId,
    /// Repeated in the answer.
    pub token: u64,
    /// The address of the server, or of the peer.
    pub server: SocketAddr,
    /// What is to go through it.
    pub kind: StreamKind,
}

/// What goes through a stream, and how it is framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamKind {
    /// STUN messages and channel data, to and from a TURN server (RFC 8656 §12.5): each as if
    /// it were a datagram, framed by the port. Over TLS, if so.
    Turn(Option<StreamTls>),
    /// Whatever else is a datagram, to and from a peer (RFC 4571): its paths are
    /// [`Encapsulation::Rfc4571`].
    Peer {
        /// The address of ours that it is from.
        from: IpAddr,
    },
}

/// Lets a peer open streams to a connection, over TCP (RFC 6544).
///
/// One is the connection's once its first message is a binding request for `username_frag` whose
/// MESSAGE-INTEGRITY was made with `password`: the port looks at that before there is a socket.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The connection.
    pub connection: ConnectionId,
    /// Repeated in the answer, and with each stream; of this connection, no other has it.
    pub token: u64,
    /// Where.
    pub on: ListenOn,
    /// Our username fragment.
    pub username_frag: String,
    /// Our password.
    pub password: String,
}

/// Where streams of peers are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenOn {
    /// On a port of the connection's own; port 0 lets the system choose.
    Own(SocketAddr),
    /// On a port that connections share, told apart by their username fragments.
    Shared(StreamListener),
}

impl ListenOn {
    /// The address that is wanted, or has been bound.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Own(address) => *address,
            Self::Shared(listener) => listener.local(),
        }
    }
}

/// How a stream is secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTls {
    /// The name that the server's certificate has to be for; an IP address is one.
    pub name: String,
    /// Certificates (DER) that may have signed it; the system's own roots when `None`.
    pub roots: Option<Arc<[Vec<u8>]>>,
}

/// Asks for sockets that connections may share.
///
/// Such a socket belongs to no connection. It is closed once it was
/// [released](SocketCommand::ReleaseShared) and the last connection that had
/// [joined](SocketCommand::Join) it has gone.
#[derive(Debug, Clone)]
pub struct BindShared {
    /// The address to bind; port 0 lets the system choose. A wildcard stands for every address
    /// of its family that this host has, link-local ones aside, each bound by itself on the
    /// same port: so an answer always leaves from the address that was asked.
    pub address: SocketAddr,
    /// Told once.
    pub reply: Recipient<SharedBound>,
}

/// The answer to [`BindShared`]: all sockets, or none and why.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SharedBound(pub Result<Vec<SharedSocket>, Arc<io::Error>>);

/// A socket that connections may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedSocket {
    /// The socket.
    pub socket: SocketId,
    /// Its address, with the port that the system chose.
    pub local: SocketAddr,
}

/// Has a connection use a shared socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The connection.
    pub connection: ConnectionId,
    /// Repeated in the answer.
    pub token: u64,
    /// The socket, and its address, which is repeated if it fails.
    pub shared: SharedSocket,
    /// Binding requests that name it are the connection's (RFC 8445 §7.3); no other connection
    /// on the socket may have it, but for forks.
    pub username_frag: String,
    /// Whether it is a fork: one of several connections with this username fragment, of which
    /// each has the requests of the peer that it [claims](SocketCommand::ClaimPeer).
    pub fork: bool,
}

/// Lets forks of a connection's local side [join](Join) one of its sockets.
///
/// A socket that was its own is one to be shared from then on, and has to be
/// [released](SocketCommand::ReleaseShared).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The connection that uses the socket.
    pub connection: ConnectionId,
    /// The socket.
    pub socket: SocketId,
    /// The username fragment of the local side.
    pub username_frag: String,
}

/// Sends one control datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendControl {
    /// The connection on whose behalf it is sent.
    pub connection: ConnectionId,
    /// The path, or `None` for the connection's selected path (before one is selected: the
    /// path validated last; before that the datagram is dropped, counted).
    pub path: Option<Path>,
    /// The datagram.
    pub datagram: Bytes,
}

/// What ICE has found out about a path.
///
/// A path goes up this ladder and may skip no step but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathUpdate {
    /// A request with a valid MESSAGE-INTEGRITY came in on it. (It may have been replayed.)
    Authenticated(Path),
    /// A binding *response* came in on it: whoever is there has the password. From now on
    /// DTLS and SRTP are taken from it.
    Validated(Path),
    /// It is where the connection sends from now on.
    Selected(Path),
    /// It has gone; what still arrives on it is taken for 5 s more.
    Lost(Path),
    /// Nothing is to be sent any more (consent expired, RFC 7675 §5.1), receiving goes on.
    SendingSuspended,
}

/// What a socket port answers, on the `events` recipient of a connection.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub enum SocketEvent {
    /// The addresses of this host, loopback included.
    Interfaces(Vec<InterfaceAddress>),
    /// A socket is bound.
    Bound {
        /// The token of the [`Bind`].
        token: u64,
        /// The new socket.
        socket: SocketId,
        /// Its address, with the port that the system chose.
        local: SocketAddr,
    },
    /// A socket could not be bound.
    BindFailed {
        /// The token of the [`Bind`].
        token: u64,
        /// The address that was asked for.
        address: SocketAddr,
        /// Why not.
        error: Arc<io::Error>,
    },
    /// A port takes streams of the peer.
    Listening {
        /// The token of the [`Listen`].
        token: u64,
        /// Its address, with the port that the system chose.
        local: SocketAddr,
    },
    /// The peer has opened a stream, which is a socket from now on; what has come on it follows.
    Accepted {
        /// The token of the [`Listen`].
        token: u64,
        /// The new socket.
        socket: SocketId,
        /// Its address.
        local: SocketAddr,
        /// The address on the far side: the only one of this socket.
        remote: SocketAddr,
    },
    /// A socket is closed: asked for, or because it failed.
    Unbound {
        /// The socket that is gone.
        socket: SocketId,
        /// The failure, if it was not asked for.
        error: Option<Arc<io::Error>>,
    },
    /// A newer connection on the same shared socket has validated this path: it is lost, and
    /// will not come back.
    PathTaken(Path),
    /// There is reason to doubt the path that the connection sends on: media that came on it has
    /// stopped, or comes on another one. It may well be that nothing is sent; a check will tell.
    /// Ports that do not know of media never say so.
    PathDoubted(Path),
    /// The port keeps the consent of a path from now on; see [`consent`](crate::consent).
    ConsentDelegated {
        /// The token of the [`ConsentDelegation`].
        token: u64,
    },
    /// The port does not keep it any more.
    ConsentReturned {
        /// The token of the [`ConsentDelegation`].
        token: u64,
        /// When a response last came.
        answered: Instant,
        /// Why.
        reason: ConsentReturn,
    },
}

/// One control datagram from the network.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct DatagramReceived {
    /// The connection whose socket it came in on.
    pub connection: ConnectionId,
    /// Where it came from.
    pub path: Path,
    /// When it was taken from the socket.
    pub received_at: Instant,
    /// Its bytes.
    pub datagram: Bytes,
}
