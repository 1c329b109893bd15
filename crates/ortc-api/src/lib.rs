//! `RTCConnection`: real-time media between peers, without SDP.
//!
//! Two ORTC drafts of 2013 described a WebRTC API of *connections* and *tracks* in place of
//! offers and answers. This crate is that API in Rust. Each side makes an [`RTCConnection`],
//! signals three small JSON messages by whatever means it has (its credentials, its candidates
//! and the descriptions of its tracks), and that is all: nobody is the offerer, and there is
//! no round trip.
//!
//! ```no_run
//! use bytes::Bytes;
//! use ortc_api::{
//!     MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCConnection,
//!     RTCConnectionOptions, RTCEvent,
//! };
//!
//! # async fn example(
//! #     mut signalling_in: tokio::sync::mpsc::Receiver<String>,
//! #     signal: impl Fn(serde_json::Value) + Clone + Send + 'static,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let conn = RTCConnection::new(RTCConnectionOptions::new())?;
//! signal(serde_json::json!({ "iceInfo": conn.local().ice }));
//!
//! // Apply any local candidate and send it to the peer.
//! let to_peer = signal.clone();
//! conn.on_candidate(Some(move |conn: &RTCConnection, candidate| {
//!     if conn.set_local_candidate(&candidate).is_ok() {
//!         to_peer(serde_json::json!({ "candidate": candidate }));
//!     }
//! }));
//!
//! // Send an audio track.
//! let (track, frames) = MediaStreamTrack::local(MediaFormat::Opus);
//! let stream = MediaStream::new();
//! stream.add_track(&track);
//! conn.add_stream(&stream, true)?;
//! for track in conn.tracks(None) {
//!     signal(serde_json::json!({ "track": track.description() }));
//! }
//! frames.send(MediaFrame { data: Bytes::from_static(b"\xf8\xff\xfe"), timestamp: 0 })?;
//!
//! // What the peer signals.
//! while let Some(text) = signalling_in.recv().await {
//!     let mut message: serde_json::Value = serde_json::from_str(&text)?;
//!     if message["iceInfo"].is_object() {
//!         conn.set_remote_ice(serde_json::from_value(message["iceInfo"].take())?)?;
//!         conn.connect()?;
//!     }
//!     if message["candidate"].is_object() {
//!         conn.set_remote_candidate(&serde_json::from_value(message["candidate"].take())?)?;
//!     }
//!     if message["track"].is_object() {
//!         conn.receive_track(&serde_json::from_value(message["track"].take())?)?;
//!     }
//! }
//!
//! let mut events = conn.events();
//! while let Some(event) = events.recv().await {
//!     if let RTCEvent::AddStream(stream) = event {
//!         println!("the peer sends {:?}", stream.tracks());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It works from any thread and any runtime, or none: the actors run on a control thread and
//! the packets on a media thread that the [`Engine`] owns.
//!
//! # What may be called when
//!
//! Every method answers at once, from any thread, and those that act are carried out in the
//! order in which they were called.
//!
//! | | before `connect` | twice | after `close` |
//! |---|---|---|---|
//! | `local`, `remote`, `track`, `tracks`, `sending_streams`, `receiving_streams`, `description` | answered | answered | answered as it was last |
//! | `set_remote_ice` | taken; the last counts | afterwards too, if it names the same certificate | `Closed` |
//! | `connect` | – | nothing, or an ICE restart if the credentials are others | `Closed` |
//! | `set_local_candidate` | takes part once connecting | nothing | `Closed` |
//! | `set_remote_candidate`, `set_remote_end_of_candidates` | kept, also before `set_remote_ice` | nothing | `Closed` |
//! | `update` | gathers | gathers | `Closed` |
//! | `restart_ice` | `NotConnected` | other credentials each time | `Closed` |
//! | `add_stream` | sent once connected | what is new in it is added | `Closed` |
//! | `remove_stream` | removed | nothing | nothing |
//! | `receive_track` | received once connected, and packets that came up to 3 s before | the same track, which goes on as described now; `DuplicateSsrc` for another kind or other streams | `Closed` |
//! | `RTCTrack::start`, `stop` | remembered | nothing | `Closed`; `Removed` after `remove` |
//! | `RTCTrack::remove` | removed | `Removed` | `Closed` |
//! | `set_codecs`, `set_msid`, `set_media_attributes`, `set_rtp_ext_headers`, `set_header_extensions` | described from now on | the last counts | `set_codecs`, `set_rtp_ext_headers`, `set_header_extensions`: `Closed`; the others only describe |
//! | `RTCTrack::set_max_bitrate` | counts from now on | the last counts | `Closed` |
//! | `events`, `on_x`, `add_event_listener` | the first gets what came before it | all get what comes | the stream has ended, no handler is called |
//! | `close` | closes | nothing | nothing |
//!
//! When more than 1,024 commands wait for the control thread, what acts is `Overloaded` and
//! has not happened; closing, connecting, removing and subscribing still go through. A
//! connection that its peer has closed, or that has failed, closes itself: it says so in
//! [`RTCEvent::Disconnected`], and from then on is as after `close`.
//!
//! # How much may be sent
//!
//! Video is described with transport-wide feedback: its packets are numbered, and a peer that knows
//! of it, as browsers and this crate do, says what has come. What may be sent is estimated from
//! that, and told by [`RTCEvent::Bandwidth`] in bits per second, all tracks and their headers
//! together; it never comes where the peer says nothing. Set the bit rate of an encoder by it,
//! less what sound takes. Where it begins and what it stays within is
//! [`RTCConnectionOptions::with_bandwidth`]; [`RTCTrack::set_max_bitrate`] says what a track needs
//! at most, so that no more is probed for. Packets of a picture go out in bursts of 5 ms; whoever
//! sends more than is told is delayed by half a second at most, and then adds to the queue on the
//! way. Without any of it: [`RTCTrack::set_codecs`] with codecs whose `rtcp_feedback` does not name
//! `transport-cc`.
//!
//! # What is received, and when it was sent
//!
//! [`MediaStreamTrack::take_frames`] reads one track, [`MediaStream::reader`] all tracks of a stream,
//! each frame with its place on one axis of time: sound and pictures that were captured together
//! stand together, however late the ones come. That is known by the sender's clock
//! ([`ReceivedFrame::capture_time`]), which its reports tell.
//!
//! Packets that were overtaken or lost are waited for as long as others have been late, and what is
//! sent again for a second at most. Frames come as soon as they are whole, for a recorder or a player
//! that has a buffer of its own; for one that plays what it is handed,
//! [`set_jitter`](FrameReceiver::set_jitter) with [`JitterConfig::live`] has them come evenly. What
//! never came is told by [`ReceivedFrame::lost_before`]. `ortc-media` writes files of it, as `ortc call
//! --record` does.
//!
//! # How large pictures may be
//!
//! `mediaAttributes` of a sending track bound what is sent: a picture that keeps within none
//! of the entries is withheld from that connection, counted, and others get it. The size is
//! what the key frame says, whoever encoded it. To know before encoding, tell
//! [`FrameSender::set_dimensions`]; to change the bound, [`RTCTrack::set_media_attributes`]:
//! both are [`TooLarge`] where the source is.
//!
//! # STUN and TURN servers
//!
//! [`RTCConnectionOptions::with_ice_servers`] takes them as the drafts write them; a malformed
//! one is an error of [`RTCConnection::new`]. All are asked at once, and what they say becomes
//! candidates. One that does not answer, or refuses, is [`RTCEvent::IceServerFailed`], and
//! harms nothing. What a TURN server relays goes through the media thread, in place; TURN over
//! TCP and TLS by way of a task and two bounded queues.
//!
//! [`CandidateTypes::RELAYED`] leaves nothing but relays: the peer learns no address of ours.
//!
//! [`diagnose_network`] tells what the network lets through, and whether a relay is needed.
//!
//! # Who the peer is
//!
//! Our `password` carries the fingerprint of our certificate, and `connect()` refuses a peer
//! whose credentials name none. So a connection is as safe as the channel that `iceInfo`
//! travels on, and no safer. `remote().dtls` comes from the peer's certificate, once it is
//! checked.
//!
//! # A server's one port
//!
//! By default each connection binds sockets of its own. [`RTCSocket::bind`] binds one port that
//! any number of connections share, each with credentials and a certificate of its own:
//! [`RTCConnectionOptions::with_socket`].
//!
//! # When the network changes
//!
//! [`RTCConnection::update`] gathers again: what is new comes as candidates, what is gone is
//! withdrawn, and the media goes on over what is left, under the same keys. With
//! [`RTCConnectionOptions::with_network_changes`] a connection does so by itself. Tell the peer of
//! [`RTCEvent::CandidateWithdrawn`], and have it call [`RTCConnection::remove_remote_candidate`]:
//! else it goes on sending to the old address until it notices, which takes seconds.
//!
//! # Forking
//!
//! One local side can talk to several peers: [`RTCConnection::local_socket`] stands for the
//! sockets, the credentials, the certificate and the candidates of a connection, and each
//! connection that is made [with it](RTCConnectionOptions::with_socket) has them, too, towards a
//! peer of its own. So what was signalled once, in one message to many, can be answered by all of
//! them. `examples/forking.rs` is a whole program.
//!
//! # Tracks that nobody has described
//!
//! Media may overtake its description, or have none. Packets of such a track wait for 3 s, and
//! [`RTCEvent::UnknownTrack`] says that it is there, with what it tells of itself: the pairs that
//! its sender has given it with [`RTCTrack::set_rtp_ext_headers`]. They are on its first packets
//! and on those of key frames until the receiver has reported, so the two sides need to agree on
//! nothing but what the pairs mean. Packets authenticate them, and do not encrypt them. Whatever
//! follows, a description that was late or one that the application makes of the event, goes to
//! [`RTCConnection::receive_track`]; no packet of the 3 s is lost then.
//!
//! An unknown track is told of at once if it has pairs, and after 200 ms if not, unless its
//! description has come by then. Of one connection 32 may be unknown at a time, with 2,048
//! packets and 2 MiB; what is over that is dropped and counted. An SSRC that the peer *changes*
//! is such a track: the pairs say whose it is, and a description with the same `msid` puts it in
//! the same stream. An SSRC that *both* sides send with is none of these, and harms nothing: the
//! directions have keys of their own, and reports say which is meant (RFC 3550 §8.2 is about
//! sources that share a session).
//!
//! # Statistics
//!
//! [`RTCConnection::stats`] answers in the names of webrtc-stats (W3C), as objects that serde
//! writes as a browser would: `inbound-rtp`, `outbound-rtp` and what the peer says of each,
//! `candidate-pair`, `transport`, candidates, certificates and codecs; and three of ours:
//! `connection`, with what was dropped, `route`, for a track that is forwarded, and fields that
//! say so. [`Engine::stats`] has the sums over all connections.
//!
//! # When a call has failed
//!
//! To `tracing`, a connection is a span `connection` with its id; within are the steps to the
//! first packet, each with how long it took, at the level `info`, and whatever its parts have to
//! say, down to `trace`. Nothing secret is said at any level.
//!
//! With [`EngineConfig::with_flight_recorder`] the last seconds of each connection are kept as
//! they were on the wire, in memory of a fixed size, and
//! [`EngineConfig::with_flight_dumps`] writes them to a file when it fails;
//! [`RTCConnection::flight_recording`] has them at any time. Wireshark opens such a file: what has
//! happened is in comments of packets (`frame.comment`).
//!
//! # Telephone keys
//!
//! Keys go out with an audio track, as events of RFC 4733 that take the place of its sound.
//! Both drafts' ways lead to the same queue:
//!
//! | | send | receive |
//! |---|---|---|
//! | draft B | [`RTCConnection::add_dtmf_handler`], [`RTCDTMFHandler::insert_dtmf`] | [`RTCEvent::AddDtmfHandler`], [`RTCDTMFHandler::on_dtmf`] |
//! | draft A | a [`DTMFMediaStreamTrack`] in a stream beside its audio: [`play`](DTMFMediaStreamTrack::play), [`tonestart`](DTMFMediaStreamTrack::tonestart) | the track of kind `dtmf` of a received stream: [`on_tone`](DTMFMediaStreamTrack::on_tone) |
//!
//! Either way the track's description gets a `dtmf` codec: describe the track after that, or once
//! more, in the middle of a call. Keys that are pressed before the connection is connected wait for
//! it. A key of the peer is reported once, whatever the network does. What is forwarded takes its
//! keys along, and a server may press its own in between. `examples/ivr.rs` is a voice menu.
//!
//! Where packets are lost in long runs, each may repeat the keys before its own (RFC 2198): set a
//! codec `red` for them, [`RTCCodec::repeated`], before keys are pressed. It is used where it is
//! described, in descriptions as
//! `{"payload-id": 121, "name": "red", "params": [{"name": "payloadTypes", "value": "110/110/110"}]}`
//! for two repeats of payload type 110; packets of it are understood from any peer, also with sound
//! in them.
//!
//! For peers that know no such events, [`RTCConnectionOptions::with_in_band_dtmf`] has keys in the
//! sound of A-law and µ-law. A gateway between both kinds of peer presses again what it hears:
//! `tests/tests/in_band.rs` has one, either way, in which nobody hears a key twice.
//!
//! # Sound that is lost
//!
//! Pictures that are lost are sent again; sound would come too late for that.
//! [`RTCConnectionOptions::with_audio_redundancy`] has each packet of it repeat up to three of those
//! before (RED, RFC 2198); for one track, a codec `red` before its own decides it, as
//! [`RTCCodec::repeated`] makes it. Whoever receives such a track hears what was lost as if it had
//! come, once and in order, without being told to; the statistics count it (`fecPacketsReceived`).
//!
//! # Swapping a transport
//!
//! Below a connection are four actors: ICE, DTLS, RTP and the sockets. Each speaks through
//! messages that its own crate defines, so each can be another one: a factory in
//! [`Transports`] makes it. This DTLS actor is the default one with a socket port in between
//! that counts what the handshake costs:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
//! use actix::{Actor, Context, Handler, Recipient};
//! use ortc_api::{DtlsStart, RTCConnection, RTCConnectionOptions, Transports};
//! use ortc_io::SocketCommand;
//!
//! struct Counting(Recipient<SocketCommand>, Arc<AtomicUsize>);
//!
//! impl Actor for Counting {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<SocketCommand> for Counting {
//!     type Result = ();
//!
//!     fn handle(&mut self, command: SocketCommand, _: &mut Context<Self>) {
//!         if let SocketCommand::SendControl(control) = &command {
//!             self.1.fetch_add(control.datagram.len(), Relaxed);
//!         }
//!         self.0.do_send(command);
//!     }
//! }
//!
//! # fn main() -> Result<(), ortc_api::NewConnectionError> {
//! let sent = Arc::new(AtomicUsize::new(0));
//! let total = Arc::clone(&sent);
//! let transports = Transports::new().with_dtls_actor(move |mut start: DtlsStart| {
//!     let counting = Counting(start.sockets, Arc::clone(&total));
//!     start.sockets = counting.start().recipient();
//!     start.start()
//! });
//! let conn = RTCConnection::new(RTCConnectionOptions::new().with_transports(transports))?;
//! # conn.close();
//! # Ok(())
//! # }
//! ```
//!
//! An ICE actor from scratch takes three kinds of messages, and [`IcePorts::of`] makes its
//! ports. The sockets and SRTP are swapped together ([`Transports::with_socket_actor`], for
//! all connections [`EngineConfig::with_media_plane`]), since media goes from one to the other
//! without passing an actor. `ortc-webrtc-rs` has a second set of all of them.
//!
//! # Testing what is built on it
//!
//! With the feature `sim`, an application's own tests run whole calls over a simulated network in
//! virtual time, the production composition, from one seed: `sim::run`, `Engine::simulated`, and
//! `testing::introduce` in place of a signalling channel. `examples/lossy_recorder.rs` is a voice
//! menu under test at 5 % loss, `examples/fake_ice.rs` and `examples/recorded_dtls.rs` swap a
//! transport for one that does what the test says.
//!
//! # What this crate leaves out on purpose
//!
//! SDP, codecs (frames come in and go out encoded), files (see `ortc-media`), and signalling.

#![forbid(unsafe_code)]

mod actor;
mod codec;
mod connection;
mod core;
mod described;
mod diagnose;
mod dtmf;
mod ending;
mod engine;
mod error;
mod events;
mod flight;
mod format;
mod hub;
mod identity;
mod local_side;
mod media;
mod network;
mod options;
mod reader;
mod received;
mod simulcast;
mod socket;
mod source;
mod stats;
mod stream_reader;
mod tap;
mod tcp_port;
#[cfg(feature = "sim")]
pub mod testing;
mod trace;
mod track;
mod transports;
mod unknown;
mod vigil;

pub use codec::{RTCCapabilities, rtc_capabilities, rtc_codec};
pub use connection::{RTCConnection, RTCConnectionSide, WeakRTCConnection};
pub use diagnose::diagnose_network;
pub use dtmf::{
    AddDtmfError, DTMFMediaStreamTrack, DTMFTrackEvent, DTMFTrackEventKind, DTMFTrackEvents,
    DtmfContainer, IntoTones, RTCDTMFEvent, RTCDTMFEventKind, RTCDTMFEvents, RTCDTMFHandler,
    SendsOnly, ToneError,
};
pub use engine::{Engine, EngineConfig, Threads};
pub use error::{
    AddStreamError, AnnounceError, BindError, CandidateError, ConnectError, DiagnoseError,
    InsertError, LocalSocketError, NewConnectionError, ReceiveTrackError, RestartIceError,
    SetRemoteIceError, TooLarge, TrackAttributeError, TrackError,
};
pub use events::{
    MediaEvent, MediaEventKind, MediaEvents, RTCDisconnectReason, RTCEvent, RTCEventKind, RTCEvents,
};
pub use format::{MediaFormat, MediaFrame, ReceivedFrame};
pub use hub::{Event, Events, ListenerId};
pub use media::{MediaStream, MediaStreamTrack};
pub use options::RTCConnectionOptions;
pub use ortc_dtls::{
    Certificate, CertificateError, CertificateFingerprint, DtlsFailure, DtlsVersion, HashAlgorithm,
    PemError, RTCDtlsConnectionInfo,
};
pub use ortc_dtmf::{DTMFTone, InsertDtmfError, PlayError};
pub use ortc_forward::{ForwarderStats, RunHistogram};
pub use ortc_ice::diagnosis::{
    AddressScope, BehaviourDiscovery, Filtering, Mapping, NatReport, NetworkReport, SeenAs,
    ServerAttempt, ServerReport, ServerResponse, ServerTransport, UdpStatus, Verdict,
};
pub use ortc_ice::{
    CandidateTypes, CredentialsError, InterfaceFilter, RTCIceCandidateDescription,
    RTCIceConnectionInfo, RTCIceServer, ServerError, ServerFailure, TcpCandidates,
};
#[cfg(feature = "sim")]
pub use ortc_io::sim;
pub use ortc_io::{
    FlightConfig, FlightRecording, InterfaceAddress, InterfaceKind, LinkNameStats, ListenerStats,
};
pub use ortc_rtp::codec::{JitterConfig, PacketizeError, Playout};
pub use ortc_rtp::congestion::BandwidthLimits;
pub use ortc_rtp::{
    CodecName, DescriptionError, DisconnectReason, Layer, NtpTime, PayloadType, RTCCodec,
    RTCCodecParam, RTCEncoding, RTCHeaderExtension, RTCMediaAttributes, RTCTrackDescription,
    ReceivedPacket, RecoveryStats, RtcpFeedback, ScaleFactor, TrackKind,
};
pub use reader::{FrameReceiver, PacketCounts};
pub use socket::RTCSocket;
pub use source::FrameSender;
pub use stats::{
    QualityLimitationDurations, QualityLimitationReason, RTCCertificateStats, RTCCodecStats,
    RTCConnectionStats, RTCIceCandidatePairStats, RTCIceCandidateStats, RTCInboundRtpStreamStats,
    RTCOutboundRtpStreamStats, RTCRefusedInputStats, RTCRemoteInboundRtpStreamStats,
    RTCRemoteOutboundRtpStreamStats, RTCRouteStats, RTCStats, RTCStatsReport, RTCTransportStats,
};
pub use stream_reader::{StreamFrame, StreamReader};
pub use tap::{PacketInserter, PacketTap};
pub use tcp_port::RTCTcpPort;
pub use track::{RTCTrack, RTCTrackFilter};
pub use transports::{
    DtlsPorts, DtlsStart, IcePorts, IceStart, MediaPlane, RtpStart, SocketStart, Transports,
};
pub use unknown::RTCUnknownTrack;
