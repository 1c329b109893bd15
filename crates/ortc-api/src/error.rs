use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ortc_ice::{CredentialsError, ServerError};
use ortc_rtp::DescriptionError;

use crate::dtmf::AddDtmfError;

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewConnectionError {
    /// A STUN or TURN server of the options is malformed.
    #[error("iceServers: {0}")]
    IceServer(#[from] ServerError),
    /// The control thread or the media thread could not be started.
    #[error("the media engine could not be started: {0}")]
    Engine(#[source] io::Error),
    /// The engine has been stopped, or its thread has died.
    #[error("the media engine is gone: make a new one")]
    EngineGone,
    /// The socket was bound on another engine than the connection is to run on.
    #[error("the socket was bound on another engine: leave out the engine, or bind it there")]
    OtherEngine,
    /// A certificate was given beside a local side, which has one.
    #[error("the socket is the local side of a connection, whose certificate it brings")]
    SocketHasCertificate,
    /// A socket was given beside transports that have sockets of their own.
    #[error("a socket cannot be shared by a connection with a socket actor of its own")]
    SwappedSockets,
    /// The certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Certificate(String),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Entropy,
}

/// Why nothing could be found out about the network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiagnoseError {
    /// A STUN or TURN server is malformed.
    #[error("{0}")]
    IceServer(#[from] ServerError),
    /// The addresses of this host could not be had.
    #[error("the system does not tell the addresses of this host: {0}")]
    Interfaces(#[source] io::Error),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Entropy,
}

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket has the address.
    #[error("{0} is in use")]
    AddressInUse(SocketAddr),
    /// This host does not have the address; for a wildcard, it has none of that family.
    #[error("{0} is no address of this host")]
    AddressNotAvailable(SocketAddr),
    /// The system does not let this process have the address.
    #[error("this process may not bind {0}; ports below 1024 want a privilege")]
    PermissionDenied(SocketAddr),
    /// There is a port to be bound for each media thread, and the ports end before those do.
    #[error("no port is left for every media thread behind {0}: choose a lower one")]
    NoPortLeft(SocketAddr),
    /// Anything else that the system says.
    #[error("{address} could not be bound: {error}")]
    Failed {
        /// The address.
        address: SocketAddr,
        /// What it says.
        #[source]
        error: Arc<io::Error>,
    },
    /// There is no engine to bind it on.
    #[error(transparent)]
    Engine(#[from] NewConnectionError),
}

impl BindError {
    pub(crate) fn of(address: SocketAddr, error: Arc<io::Error>) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse(address),
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable(address),
            io::ErrorKind::PermissionDenied => Self::PermissionDenied(address),
            _ => Self::Failed { address, error },
        }
    }
}

/// Why an address cannot be announced for a socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// IPv4 for IPv6, or the other way round.
    #[error("{announced} cannot stand for {bound}, which is of the other family")]
    OtherFamily {
        /// What was to be announced.
        announced: IpAddr,
        /// What is bound.
        bound: SocketAddr,
    },
    /// The socket is a connection's local side, whose candidates are what they are.
    #[error("the local side of a connection announces its own candidates")]
    LocalSide,
    /// A wildcard or a multicast address.
    #[error("{0} is no address that a peer could send to")]
    NotUnicast(IpAddr),
    /// The wildcard stands for several addresses, or for loopback only.
    #[error("the wildcard stands for {addresses} addresses beside loopback: bind the one meant")]
    Ambiguous {
        /// How many, loopback aside.
        addresses: usize,
    },
}

/// Why a connection has no local side to share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocalSocketError {
    /// The connection has a socket actor of its own, which others cannot use.
    #[error("a connection with a socket actor of its own shares no socket")]
    SwappedSockets,
    /// Commands come faster than they are carried out.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why ICE was not restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestartIceError {
    /// The peer may not know the first credentials yet.
    #[error("ICE restarts once it has connected: the peer may not know our credentials yet")]
    NotConnected,
    /// Others show or are shown the same credentials, or the ICE actor is not ours.
    #[error(
        "credentials stay where the local side or a socket is shared, with passive TCP \
         candidates, and with an ICE actor of one's own"
    )]
    NotAlone,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Entropy,
    /// Commands come faster than they are carried out.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why the peer's ICE information was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetRemoteIceError {
    /// The username fragment or the password is malformed, or our own.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Not a SHA-256 fingerprint.
    #[error("fingerprint must be \"sha-256\" and 32 bytes as AB:CD:… (RFC 8122 §5)")]
    Fingerprint,
    /// Other credentials after `connect()` that name another certificate.
    #[error(
        "these credentials name another certificate than the ones that connect() began with: \
         make a new RTCConnection for a new peer"
    )]
    FingerprintChanged,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why `connect()` did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The remote side is not known yet.
    #[error("the remote side is not set: call set_remote_ice() with the peer's iceInfo first")]
    RemoteNotSet,
    /// Nothing says which certificate the peer must have.
    #[error(
        "the peer's iceInfo names no certificate fingerprint: have it send one, or allow an \
         unverified remote in the options"
    )]
    NoFingerprint,
    /// Another connection of the same local side is connected to this peer.
    #[error(
        "another connection with this local side is connected to this peer: one local side talks \
         to a peer once"
    )]
    ForkExists,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why a candidate was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// The description is malformed.
    #[error("malformed candidate: {0}")]
    Malformed(#[from] ortc_ice::CandidateError),
    /// A local candidate that this connection has not found.
    #[error("no such local candidate: hand back a description from the candidate event")]
    NotOurs,
    /// Commands come faster than they are carried out.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why a stream was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddStreamError {
    /// There is nothing in the stream that could be sent.
    #[error("the stream has no track")]
    Empty,
    /// A track of the stream was received, and cannot be forwarded: its connection is gone, or
    /// it and this one do not share the packet forwarder of one engine.
    #[error(
        "track {0} was received and cannot be forwarded: it takes two connections of one engine, \
         both open and neither with a socket actor of its own"
    )]
    CannotForward(String),
    /// The telephone keys of the stream cannot be sent with its audio.
    #[error("the dtmf track of the stream cannot be sent: {0}")]
    Dtmf(#[from] AddDtmfError),
    /// More tracks than one connection carries.
    #[error("one connection sends at most {0} tracks")]
    TooManyTracks(usize),
    /// The system gave no random bytes for an SSRC.
    #[error("the system gave no random bytes")]
    Entropy,
    /// Commands come faster than they are carried out.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why a track will not be received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveTrackError {
    /// The description is malformed.
    #[error("malformed track description: {0}")]
    Malformed(#[from] DescriptionError),
    /// None of the codecs is supported (the drafts' TODO of "receiveTrack").
    #[error("none of the codecs of the track is supported: {0}")]
    NoSupportedCodec(String),
    /// The SSRC is in use by another track of this connection.
    #[error("ssrc {0} is already received with another description")]
    DuplicateSsrc(String),
    /// An encoding has the name of one of another track of this connection, and no SSRC.
    #[error("the rid {0:?} is that of an encoding of another track: name each differently")]
    DuplicateRid(String),
    /// More tracks than one connection carries.
    #[error("one connection receives at most {0} tracks")]
    TooManyTracks(usize),
    /// Commands come faster than they are carried out.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why a sending track could not be started, stopped or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// The track has been removed from its connection.
    #[error("the track has been removed from its connection")]
    Removed,
    /// Commands come faster than they are carried out.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why a packet was not put among those of a forwarded track.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// The track is local.
    #[error("the track is not forwarded: send frames through its FrameSender")]
    NotForwarded,
    /// No codec of the track has this payload type.
    #[error("payload-id {0} is none of the track's codecs")]
    NoSuchCodec(u8),
    /// The payload does not fit into a packet.
    #[error("a payload of {0} bytes does not fit into a packet: 1400 do")]
    TooLong(usize),
    /// The packets before have not been sent yet.
    #[error("as many packets wait as may")]
    Full,
    /// The track is removed, its connection closed or overloaded.
    #[error(transparent)]
    Track(#[from] TrackError),
}

/// Why an attribute of a sending track was not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackAttributeError {
    /// No description with this attribute is valid.
    #[error(transparent)]
    Malformed(#[from] DescriptionError),
    /// An empty list of codecs.
    #[error("a track needs at least one codec")]
    NoCodec,
    /// Nothing in the list can be sent from the track's source.
    #[error("none of these codecs is supported for this track: {0}")]
    NoSupportedCodec(String),
    /// The pictures of a forwarded track are sent as they come.
    #[error("a forwarded track is sent as it comes: bound it where it is sent first")]
    Forwarded,
    /// A local track sends no header extensions.
    #[error("only a forwarded track has header extensions: describe none")]
    NotForwarded,
    /// The track has no encoding of this name.
    #[error("the track has no encoding of this rid")]
    NoSuchEncoding,
    /// A local track is sent in all its layers.
    #[error("only of a forwarded track one layer is chosen: stop encodings of a local one")]
    NotLayered,
    /// The pairs do not fit into a packet.
    #[error("rtpExtHeaders are lines of name=value, of at most 255 bytes together")]
    ExtHeaders,
    /// What the source sends is not admitted.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The track is removed, its connection closed or overloaded.
    #[error(transparent)]
    Track(#[from] TrackError),
}

/// Pictures are larger than what the media attributes of a sending track admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pictures of {width}x{height} are larger than every entry of mediaAttributes")]
pub struct TooLarge {
    /// Width of the source's pictures in pixels.
    pub width: u32,
    /// Their height.
    pub height: u32,
}
