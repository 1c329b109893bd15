use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actix::Message;
use bytes::Bytes;
use ortc_io::ring::RingReceiver;
use ortc_io::{
    Bind, ConnectionId, ConsentDelegation, DatagramReceived, Join, PathUpdate, RecordingReply,
    SendControl, Share, SharedSocket, SocketEvent, SocketId, SrtpKeys, StreamEnd,
};
use ortc_rtp::congestion::BandwidthLimits;
use ortc_rtp::{
    ArrivalFeedback, ExtHeaders, ForwardConfig, InsertedPacket, Layer, ReceiveEncodingsConfig,
    ReceiverConfig, ReceiverUpdate, RecoverConfig, RedundancyConfig, RetransmitConfig, RouteEvent,
    SelectLayersConfig, SenderConfig, SnapshotReply, Ssrc, Tap, TonePacket, ToneRoute,
};
use tokio::sync::oneshot;

use crate::ForwarderStats;

/// What the control plane asks of a forwarder: the socket and the route commands without
/// the recipients in them, which never leave the control plane.
#[derive(Debug)]
pub enum ForwarderCommand {
    /// Registers a connection on the socket port. Comes first.
    Attach(ConnectionId),
    /// Forgets a connection and closes its sockets; answered with
    /// [`ForwarderEvent::Detached`], also when there is no such connection.
    Detach(ConnectionId),
    /// Asks for the addresses of this host.
    EnumerateInterfaces(ConnectionId),
    /// Binds a socket.
    Bind(Bind),
    /// Takes a stream to a TURN server or a peer among a connection's sockets; answered as if it
    /// had been bound, or told as accepted.
    Adopt {
        /// The connection.
        connection: ConnectionId,
        /// Repeated in the answer.
        token: u64,
        /// The address of the server or peer.
        server: SocketAddr,
        /// The stream.
        stream: Box<StreamEnd>,
        /// Whether the peer has opened it.
        accepted: bool,
    },
    /// Binds sockets that connections may share; answered with
    /// [`ForwarderEvent::SharedBound`].
    BindShared {
        /// Repeated in the answer.
        token: u64,
        /// The address to bind; see [`BindShared`](ortc_io::BindShared).
        address: SocketAddr,
    },
    /// Closes a shared socket as soon as no connection uses it.
    ReleaseShared(SocketId),
    /// Has a connection use a shared socket.
    Join(Join),
    /// Lets forks of a connection's local side join one of its sockets.
    Share(Share),
    /// Gives a fork the requests of a peer.
    ClaimPeer(ConnectionId, String),
    /// Closes one socket of a connection, or has it leave a shared one.
    Unbind(ConnectionId, SocketId),
    /// Sends one control datagram.
    SendControl(SendControl),
    /// Sends one control datagram on every path that works.
    SendEverywhere(ConnectionId, Bytes),
    /// What ICE has found out about a path.
    Path(ConnectionId, PathUpdate),
    /// Keeps the consent of a connection's settled path.
    DelegateConsent(ConnectionId, Box<ConsentDelegation>),
    /// Gives it back to ICE.
    ReclaimConsent(ConnectionId, u64),
    /// Opens a connection for media.
    Open(ConnectionId),
    /// Gives a connection its SRTP keys.
    SetKeys(ConnectionId, SrtpKeys),
    /// Adds a track to be sent.
    AddSender(ConnectionId, SenderConfig),
    /// Adds a track to be sent that another connection receives.
    AddForward(ConnectionId, ForwardConfig),
    /// Puts packets of an application among those of a forwarded track.
    Insert(ConnectionId, Ssrc, RingReceiver<InsertedPacket>),
    /// Puts telephone events in the place of a sending track's audio.
    SendTones(ConnectionId, Ssrc, RingReceiver<TonePacket>),
    /// Says where the telephone events of a receiving track go.
    ReceiveTones(ConnectionId, Ssrc, ToneRoute),
    /// Has the packets of a sending track tell pairs of it.
    SetExtHeaders(ConnectionId, ExtHeaders),
    /// Has packets of a sending track be sent again when they are lost.
    Retransmit(ConnectionId, RetransmitConfig),
    /// Has lost packets of a receiving track be asked for.
    Recover(ConnectionId, RecoverConfig),
    /// Has what packets of a receiving track repeat be put in the place of lost ones.
    Repair(ConnectionId, RedundancyConfig),
    /// Starts or stops sending a track.
    EnableSender(ConnectionId, Ssrc, bool),
    /// Removes a sending track.
    RemoveSender(ConnectionId, Ssrc),
    /// Adds a track to be received.
    AddReceiver(ConnectionId, ReceiverConfig),
    /// Changes what is taken of a receiving track.
    UpdateReceiver(ConnectionId, ReceiverUpdate),
    /// Removes a receiving track.
    RemoveReceiver(ConnectionId, Ssrc),
    /// Says which encodings a receiving track has.
    ReceiveEncodings(ConnectionId, Box<ReceiveEncodingsConfig>),
    /// Has one layer at a time of a forwarded track be sent.
    SelectLayers(ConnectionId, SelectLayersConfig),
    /// Says what is sent of such a track at most.
    LimitLayer(ConnectionId, Ssrc, Layer),
    /// Adds a listener to a receiving track.
    AddTap(ConnectionId, Ssrc, Tap),
    /// Asks a peer for a key frame of a receiving track.
    RequestKeyFrame(ConnectionId, Ssrc),
    /// Asks for a snapshot of a connection's media.
    TakeSessionSnapshot(ConnectionId, SnapshotReply),
    /// Numbers the packets of a sending track with those of all others that are, or not any more.
    NumberSent(ConnectionId, Ssrc, Option<u8>),
    /// Answers the numbers of a receiving track's packets with feedback, or not any more.
    AnswerNumbers(ConnectionId, Ssrc, Option<u8>),
    /// Reads when a receiving track's packets were captured, or not any more.
    ReadCaptureTimes(ConnectionId, Ssrc, Option<u8>),
    /// Has feedback about the packets of a sending track acted upon that have no such numbers.
    CountSent(ConnectionId, Ssrc, ArrivalFeedback),
    /// Answers the packets of a receiving track that have no such numbers.
    AnswerArrivals(ConnectionId, Ssrc, ArrivalFeedback),
    /// Sets what the estimate of what may be sent begins with and stays within.
    LimitBandwidth(ConnectionId, BandwidthLimits),
    /// Caps what is to be sent of a sending track, in bits per second.
    CapSender(ConnectionId, Ssrc, Option<u64>),
    /// Asks for the last seconds of a connection, where they are recorded.
    TakeRecording(ConnectionId, RecordingReply),
    /// Has it noted there what has happened.
    Note(ConnectionId, String),
    /// Says BYE and drops routes and keys; answered with [`RouteEvent::Closed`], also when
    /// there is no such connection.
    Close(ConnectionId),
    /// Asks for the counters; dropped without an answer when the asker has gone.
    Snapshot(oneshot::Sender<ForwarderStats>),
    /// Panics while that connection is handled, or else in between.
    #[cfg(test)]
    Panic(Option<ConnectionId>),
    /// Panics while the session that is sent a track as this one is told something of it.
    #[cfg(test)]
    PanicTelling(ortc_rtp::TrackSource, Ssrc),
}

/// What a forwarder tells the control plane.
#[derive(Debug)]
pub enum ForwarderEvent {
    /// An answer to a socket command, or a socket that failed.
    Socket(ConnectionId, SocketEvent),
    /// The answer to [`ForwarderCommand::BindShared`]: the token, and the sockets or why there
    /// are none.
    SharedBound(u64, Result<Vec<SharedSocket>, Arc<io::Error>>),
    /// All that a connection had is let go of.
    Detached(ConnectionId),
    /// What happened to a connection's media.
    Route(RouteEvent),
    /// A STUN datagram, from any address.
    Stun(DatagramReceived),
    /// A DTLS datagram from a validated path.
    Dtls(DatagramReceived),
}

/// Asks a [`ForwarderActor`](crate::ForwarderActor) for the counters of its forwarder.
///
/// Answered with `None` when the media plane has gone.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<ForwarderStats>")]
pub struct TakeSnapshot;
