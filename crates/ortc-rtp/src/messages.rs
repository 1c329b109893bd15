use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use actix::{Message, Recipient};
use bytes::Bytes;
use ortc_io::ring::{RingReceiver, RingSender};
use ortc_io::{ConnectionId, RecordingReply, SrtpKeys};

use crate::congestion::BandwidthLimits;
use crate::{CodecName, Layer, NtpTime, RTCTrackDescription, SessionSnapshot};

/// A synchronization source (RFC 3550 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

/// An RTP payload type, 0 to 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PayloadType(pub u8);

/// One packet on its way out, before it has a header: the media thread alone assigns
/// sequence numbers and timestamps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingPacket {
    /// The payload, as the codec's packetizer made it.
    pub payload: Bytes,
    /// Media time since the start of the source, in units of the clock rate; the sender
    /// adds its random offset (RFC 3550 §5.1) and wraps.
    pub timestamp: u64,
    /// The marker bit.
    pub marker: bool,
}

/// One packet that was received, authenticated and decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPacket {
    /// The payload, padding removed.
    pub payload: Bytes,
    /// Which of the described codecs it is.
    pub payload_type: PayloadType,
    /// Sequence number with its rollovers (RFC 3550 §A.1); packets may come out of order.
    pub sequence: u64,
    /// The RTP timestamp as received.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// When it was taken from the socket.
    pub received_at: Instant,
    /// When it was captured, by the clock of its sender; `None` until that is known. See
    /// [`CaptureClock`](crate::CaptureClock).
    pub capture_time: Option<NtpTime>,
}

/// A track that is to be sent.
#[derive(Debug)]
pub struct SenderConfig {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The payload type to put on packets.
    pub payload_type: PayloadType,
    /// In Hz.
    pub clock_rate: u32,
    /// RTCP CNAME of the connection (RFC 7022).
    pub cname: String,
    /// Where the packets come from.
    pub packets: RingReceiver<OutgoingPacket>,
    /// Whether to send at once; else what is pushed is dropped until enabled.
    pub enabled: bool,
}

/// A track that is to be received.
#[derive(Debug)]
pub struct ReceiverConfig {
    /// Its SSRC, as described by the peer.
    pub ssrc: Ssrc,
    /// The payload types that are taken, with their clock rates in Hz; others are dropped
    /// and counted.
    pub payload_types: Vec<(PayloadType, u32)>,
    /// Where the packets go; when it is full the newest is dropped and counted.
    pub packets: RingSender<ReceivedPacket>,
}

/// The stream on which packets of another are sent again (RFC 4588 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtxStream {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// Payload types of the originals, and of what is sent again.
    pub payload_types: Vec<(PayloadType, PayloadType)>,
}

/// How packets of a sending track are sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetransmitConfig {
    /// The SSRC of the track.
    pub ssrc: Ssrc,
    /// Whether they are at all, when the receiver says that it has lost them (RFC 4585 §6.2.1).
    pub nack: bool,
    /// On which stream; `None` for the track's own, exactly as they were. So are packets of
    /// payload types that it does not name.
    pub rtx: Option<RtxStream>,
}

/// What may be asked for when pictures cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFrameFeedback {
    /// Nothing: there are no pictures.
    None,
    /// A key frame, by PLI (RFC 4585 §6.3.1).
    PictureLoss,
    /// A key frame, by FIR (RFC 5104 §4.3.1), for those who know nothing else.
    FullIntraRequest,
}

/// How lost packets of a receiving track are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverConfig {
    /// The SSRC of the track.
    pub ssrc: Ssrc,
    /// Whether they are asked for at all (RFC 4585 §6.2.1).
    pub nack: bool,
    /// What is asked for when they do not come.
    pub key_frames: KeyFrameFeedback,
    /// On which stream they are sent again, if not on the track's own.
    pub rtx: Option<RtxStream>,
}

/// What packets of a receiving track repeat (RFC 2198), to be put in the place of lost ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedundancyConfig {
    /// The SSRC of the track.
    pub ssrc: Ssrc,
    /// The payload types of `red`.
    pub redundant: Vec<PayloadType>,
    /// Those of what it repeats and somebody reads: of codecs with frames.
    pub repeated: Vec<PayloadType>,
}

/// Which feedback there is about the packets of a track that have no transport-wide numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArrivalFeedback {
    /// None.
    #[default]
    None,
    /// What became of each packet, by its SSRC and sequence number (RFC 8888).
    PerStream,
    /// How much the receiver takes the path to carry (draft-alvestrand-rmcat-remb-03).
    MaximumBitrate,
}

/// Where a track is received that is to be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackSource {
    /// The connection that receives it, of the same media plane.
    pub connection: ConnectionId,
    /// Its SSRC there.
    pub ssrc: Ssrc,
}

/// How a payload type of a received track is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardedPayloadType {
    /// As it is received.
    pub received: PayloadType,
    /// As it is sent.
    pub sent: PayloadType,
    /// In Hz.
    pub clock_rate: u32,
}

/// A received track that is to be sent to another peer, packet by packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardConfig {
    /// The SSRC that it is sent with.
    pub ssrc: Ssrc,
    /// Where it comes from. It need not be received yet.
    pub source: TrackSource,
    /// The payload types that are passed on, not empty; others are dropped and counted.
    pub payload_types: Vec<ForwardedPayloadType>,
    /// Payload types of `red` (RFC 2198) whose packets are passed on without what they repeat, as
    /// the payload type of what is left.
    pub unwrapped: Vec<PayloadType>,
    /// Ids of the header extension elements (RFC 8285) that are passed on, as received and as
    /// sent. Of what is sent, 0 is none and at most 14 keeps the short form.
    pub extensions: Vec<(u8, u8)>,
    /// RTCP CNAME of the connection that sends it (RFC 7022).
    pub cname: String,
    /// Whether it can be decoded only from a key frame on: one is asked for whenever it
    /// begins, and when the receiver asks.
    pub needs_key_frames: bool,
    /// Whether to send at once; else what comes is dropped until enabled.
    pub enabled: bool,
}

/// A received track that comes in several encodings, or in one of several layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveEncodingsConfig {
    /// The SSRC by which the track was added; it may be that of one encoding, or of none.
    pub ssrc: Ssrc,
    /// From the least to the best, at most 4.
    pub encodings: Vec<ReceivedEncoding>,
    /// The payload types that are taken, with their clock rates in Hz.
    pub payload_types: Vec<(PayloadType, u32)>,
    /// Their codecs, by which layers and key frames are known.
    pub codecs: Vec<(PayloadType, CodecName)>,
    /// Payload types of originals, and of what is sent again on a stream of its own.
    pub rtx_payload_types: Vec<(PayloadType, PayloadType)>,
    /// Whether lost packets are asked for, and what else.
    pub nack: bool,
    /// What is asked for when they do not come.
    pub key_frames: KeyFrameFeedback,
    /// The header extension that has the name of a packet's encoding (RFC 8852), and the one that
    /// has it of one that is sent again.
    pub rid_ids: (Option<u8>, Option<u8>),
    /// The header extension that has the dependency descriptor of AV1.
    pub dependency_id: Option<u8>,
}

/// One encoding of a received track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedEncoding {
    /// Its name, unlike those of all others of the connection.
    pub rid: String,
    /// Its SSRC; without, it is known by its name.
    pub ssrc: Option<Ssrc>,
    /// That of what is sent again.
    pub rtx_ssrc: Option<Ssrc>,
}

/// How one layer is chosen of a received track that is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectLayersConfig {
    /// The SSRC that it is sent with.
    pub ssrc: Ssrc,
    /// The codecs of the payload types that are received.
    pub codecs: Vec<(PayloadType, CodecName)>,
    /// Whether it is received in several encodings, and not in one of several layers.
    pub is_simulcast: bool,
}

/// Copies of what is received, for an application that listens in.
#[derive(Debug)]
pub struct Tap {
    /// Where they go; when it is full the newest is dropped, here only.
    pub packets: RingSender<ReceivedPacket>,
    /// Counts those that were dropped.
    pub dropped: Arc<AtomicU64>,
}

/// A packet that an application puts among those of a forwarded track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsertedPacket {
    /// The payload.
    pub payload: Bytes,
    /// The payload type to put on it.
    pub payload_type: PayloadType,
    /// The marker bit.
    pub marker: bool,
}

/// A report of a telephone event (RFC 4733), which takes the place of the audio of its track.
///
/// The media thread gives it the next sequence number, and the timestamp that the audio had
/// when the event began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TonePacket {
    /// The payload.
    pub payload: Bytes,
    /// The payload type to put on it.
    pub payload_type: PayloadType,
    /// The marker bit.
    pub marker: bool,
    /// When the event began; the same for all of its packets, and for no other's.
    pub begin: Instant,
    /// What is added to the event's timestamp, in units of the audio's clock: segments of it
    /// that are over (RFC 4733 §2.5.1.3).
    pub timestamp_offset: u32,
    /// How far the event has come from its timestamp: the next event begins no earlier.
    pub reaches: u32,
    /// How long no audio is sent from now on; zero lets it go on.
    pub pause: Duration,
    /// Has it repeat events that are over, those that zero has let the audio go on after.
    pub redundancy: Option<ToneRedundancy>,
    /// Has it be sound, of one byte a sample, that goes on where the audio has stopped: the first
    /// packet of an event and the one that lets the audio go on are filled up with this byte, so
    /// that both are whole packets of audio, 160 samples, from each other.
    pub fill: Option<u8>,
}

/// How a [`TonePacket`] repeats events before its own (RFC 2198, RFC 4733 §2.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToneRedundancy {
    /// The payload type of `red`, which goes on the packet; the event's own is within.
    pub payload_type: PayloadType,
    /// Events that are repeated, at most 5.
    pub events: u8,
}

/// Where the telephone events of a receiving track go, instead of to the reader of its audio;
/// that one gets empty packets in their place, so that no number is missing.
#[derive(Debug)]
pub struct ToneRoute {
    /// What tones are known by.
    pub payload_types: TonePayloadTypes,
    /// Where they go, and packets of payload types that were not described and are as short as
    /// a report of an event; when it is full the newest is dropped and counted.
    pub packets: RingSender<ReceivedTonePacket>,
}

/// What the telephone events of a receiving track are known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TonePayloadTypes {
    /// The payload types of `telephone-event`.
    pub events: Vec<PayloadType>,
    /// Those of `red` (RFC 2198), whose packets may hold events beside other things.
    pub redundant: Vec<PayloadType>,
}

/// What changes of a receiving track whose peer has described it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverUpdate {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The payload types that are taken, with their clock rates in Hz.
    pub payload_types: Vec<(PayloadType, u32)>,
    /// What its telephone events are known by, where a [`ToneRoute`] has said where they go.
    pub tones: TonePayloadTypes,
}

/// A packet of a telephone event that was received, and what came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedTonePacket {
    /// The packet.
    pub packet: ReceivedPacket,
    /// The highest sequence number of the track before it, audio included.
    pub previous: Option<u64>,
    /// When a packet of the track came last that something was missing before.
    pub gap_at: Option<Instant>,
}

/// What the packets of a sending track tell of it (ORTC drafts, "rtpExtHeaders").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtHeaders {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// Names and values; together, as lines of `name=value`, at most 255 bytes.
    pub pairs: BTreeMap<String, String>,
    /// Its payload types: by the codec it is known where a key frame begins.
    pub codecs: Vec<(PayloadType, CodecName)>,
}

/// A track of the peer that nobody has described (ORTC drafts, "onunknowntrack").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownTrack {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The payload type of its first packet.
    pub payload_type: PayloadType,
    /// What its packets tell of it; empty if nothing.
    pub ext_headers: BTreeMap<String, String>,
}

/// Takes a snapshot of a connection's media: a function that is called once, on the thread that
/// has it, and must not block. Dropped without a call where there is none to be had.
pub struct SnapshotReply(Box<dyn FnOnce(SessionSnapshot) + Send>);

impl SnapshotReply {
    /// Has `reply` called.
    pub fn new(reply: impl FnOnce(SessionSnapshot) + Send + 'static) -> Self {
        Self(Box::new(reply))
    }

    /// Hands the snapshot over.
    pub fn send(self, snapshot: SessionSnapshot) {
        (self.0)(snapshot);
    }
}

impl fmt::Debug for SnapshotReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotReply")
    }
}

/// What the control plane asks of the media plane.
///
/// A command for a generation that is gone is dropped, its keys zeroized.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum RouteCommand {
    /// Opens a connection on the media plane and says who hears its events. Comes first.
    Open(ConnectionId, Recipient<RouteEvent>),
    /// Gives a connection its SRTP keys; what was parked for them is opened now.
    SetKeys(ConnectionId, SrtpKeys),
    /// Adds a track to be sent.
    AddSender(ConnectionId, SenderConfig),
    /// Adds a track to be sent that another connection receives. One of the same SSRC goes on
    /// with the new source: its numbers stay continuous.
    AddForward(ConnectionId, ForwardConfig),
    /// Puts packets of an application among those of a forwarded track, numbered with them; in
    /// place of the ones that did so before.
    Insert(ConnectionId, Ssrc, RingReceiver<InsertedPacket>),
    /// Puts telephone events in the place of a sending track's audio while they sound; in place
    /// of the ones that did so before.
    SendTones(ConnectionId, Ssrc, RingReceiver<TonePacket>),
    /// Has the packets of a sending track tell pairs of it, in place of the ones before.
    SetExtHeaders(ConnectionId, ExtHeaders),
    /// Has packets of a sending track be sent again when they are lost.
    Retransmit(ConnectionId, RetransmitConfig),
    /// Has lost packets of a receiving track be asked for.
    Recover(ConnectionId, RecoverConfig),
    /// Has what packets of a receiving track repeat be put in the place of lost ones.
    Repair(ConnectionId, RedundancyConfig),
    /// Starts or stops sending a track.
    EnableSender(ConnectionId, Ssrc, bool),
    /// Removes a sending track: RTCP BYE for its SSRC.
    RemoveSender(ConnectionId, Ssrc),
    /// Adds a track to be received.
    AddReceiver(ConnectionId, ReceiverConfig),
    /// Changes what is taken of a receiving track.
    UpdateReceiver(ConnectionId, ReceiverUpdate),
    /// Says where the telephone events of a receiving track go, or of one that is added next.
    ReceiveTones(ConnectionId, Ssrc, ToneRoute),
    /// Removes a receiving track.
    RemoveReceiver(ConnectionId, Ssrc),
    /// Says which encodings a receiving track has; comes right behind it, and again when they
    /// change.
    ReceiveEncodings(ConnectionId, Box<ReceiveEncodingsConfig>),
    /// Has one layer at a time of a forwarded track be sent: the one that there is room for.
    /// Comes right behind it.
    SelectLayers(ConnectionId, SelectLayersConfig),
    /// Says what is sent of such a track at most; by default [`Layer::BEST`].
    LimitLayer(ConnectionId, Ssrc, Layer),
    /// Adds a listener to a receiving track, until it hangs up.
    AddTap(ConnectionId, Ssrc, Tap),
    /// Asks the peer for a key frame of a receiving track (RFC 4585 §6.3.1): at once, or half a
    /// second after the last time.
    RequestKeyFrame(ConnectionId, Ssrc),
    /// Asks for a snapshot of a connection's media.
    TakeSnapshot(ConnectionId, SnapshotReply),
    /// Numbers the packets of a sending track, in the header extension of this id, with those of
    /// all other tracks of the connection that are numbered, so that the peer can say what has
    /// come, and when (draft-holmer-rmcat-transport-wide-cc-extensions-01); or not any more.
    NumberSent(ConnectionId, Ssrc, Option<u8>),
    /// Answers such numbers of a receiving track, in the header extension of this id; or not any
    /// more.
    AnswerNumbers(ConnectionId, Ssrc, Option<u8>),
    /// Reads when packets of a receiving track were captured in the header extension of this id;
    /// or not any more.
    ReadCaptureTimes(ConnectionId, Ssrc, Option<u8>),
    /// Acts upon this feedback about the packets of a sending track.
    CountSent(ConnectionId, Ssrc, ArrivalFeedback),
    /// Gives this feedback about the packets of a receiving track.
    AnswerArrivals(ConnectionId, Ssrc, ArrivalFeedback),
    /// Sets what the estimate of what may be sent begins with and stays within.
    LimitBandwidth(ConnectionId, BandwidthLimits),
    /// Caps what is to be sent of a sending track, in bits per second.
    CapSender(ConnectionId, Ssrc, Option<u64>),
    /// Asks for the last seconds of a connection, where they are recorded.
    TakeRecording(ConnectionId, RecordingReply),
    /// Has it noted there what has happened.
    Note(ConnectionId, String),
    /// Sends RTCP BYE for every sending track and drops all routes and keys; answered with
    /// [`RouteEvent::Closed`]. Sockets stay until the connection is detached.
    Close(ConnectionId),
}

/// Why a receiving track is taken to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// RTCP BYE (RFC 3550 §6.6), and no packet of the SSRC since.
    Bye,
    /// No packet for the time-out.
    TimedOut,
}

/// What the media plane tells the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum RouteEvent {
    /// The first packet of a receiving track has come, or the first after it was disconnected.
    ReceiverConnected(ConnectionId, Ssrc),
    /// A receiving track has ended.
    ReceiverDisconnected(ConnectionId, Ssrc, DisconnectReason),
    /// Authentic packets of a track have come that nobody has described. Comes again when its
    /// pairs change; at most eight come in a second.
    UnknownTrack(ConnectionId, UnknownTrack),
    /// What may be sent has changed: in bits per second, all tracks together.
    BandwidthChanged(ConnectionId, u64),
    /// The peer wants a key frame of a sending track (RFC 4585 §6.3.1, RFC 5104 §4.3.1) that does
    /// not come from another connection; at most every half second.
    KeyFrameRequested(ConnectionId, Ssrc),
    /// The routes of a connection are gone.
    Closed(ConnectionId),
}

/// What the owner of an RTP actor asks of it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum RtpCommand {
    /// SRTP keys have been agreed on.
    SetKeys(SrtpKeys),
    /// Sends a track as its description says, from packets in `packets`.
    Send {
        /// SSRC and codecs; the first codec is the one that is sent.
        description: RTCTrackDescription,
        /// Where the packets come from.
        packets: RingReceiver<OutgoingPacket>,
        /// Whether to start at once.
        enabled: bool,
    },
    /// Sends a track that another connection receives, as its description says.
    Forward {
        /// SSRC and codecs as they are sent.
        description: RTCTrackDescription,
        /// Where it is received.
        source: TrackSource,
        /// As it is received there.
        received: RTCTrackDescription,
        /// Whether to start at once.
        enabled: bool,
    },
    /// Puts packets among those of a forwarded track.
    Insert(Ssrc, RingReceiver<InsertedPacket>),
    /// Puts telephone events in the place of a sending track's audio while they sound.
    SendTones(Ssrc, RingReceiver<TonePacket>),
    /// Has the packets of a sending track tell the pairs of its description.
    SetExtHeaders(RTCTrackDescription),
    /// Starts or stops a sending track.
    EnableSender(Ssrc, bool),
    /// Removes a sending track.
    RemoveSender(Ssrc),
    /// Receives a track as its description says, into `packets`.
    Receive {
        /// SSRC and codecs.
        description: RTCTrackDescription,
        /// Where the packets go.
        packets: RingSender<ReceivedPacket>,
    },
    /// Receives a track that goes on as this description says.
    UpdateReceiver(RTCTrackDescription),
    /// Says where the telephone events of a receiving track go, or of one that is received next.
    ReceiveTones(Ssrc, ToneRoute),
    /// Removes a receiving track.
    RemoveReceiver(Ssrc),
    /// Adds a listener to a receiving track.
    AddTap(Ssrc, Tap),
    /// Asks the peer for a key frame of a receiving track.
    RequestKeyFrame(Ssrc),
    /// Asks for a snapshot of the media.
    TakeSnapshot(SnapshotReply),
    /// Sets what the estimate of what may be sent begins with and stays within.
    LimitBandwidth(BandwidthLimits),
    /// Caps what is to be sent of a sending track, in bits per second.
    CapSender(Ssrc, Option<u64>),
    /// Says what is sent at most of a forwarded track that comes in several layers.
    LimitLayer(Ssrc, Layer),
    /// Asks for the last seconds, where they are recorded.
    TakeRecording(RecordingReply),
    /// Has it noted there what has happened.
    Note(String),
    /// Says BYE and lets go of everything.
    Close,
}

/// What an RTP actor tells its owner.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum RtpEvent {
    /// RTP of a receiving track has come.
    TrackConnected(Ssrc),
    /// A receiving track has ended.
    TrackDisconnected(Ssrc, DisconnectReason),
    /// RTP of a track has come that nobody has described.
    UnknownTrack(UnknownTrack),
    /// What may be sent has changed: in bits per second, all tracks together.
    BandwidthChanged(u64),
    /// The peer wants a key frame of a sending track.
    KeyFrameRequested(Ssrc),
    /// All is let go of.
    Closed,
}
