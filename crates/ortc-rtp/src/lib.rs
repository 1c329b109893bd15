//! RTP for real-time media: packets, SRTP in place, streams with their reports, and the
//! descriptions and commands by which a control plane directs them.
//!
//! # Layers
//!
//! Each can be used alone; none touches a socket, a thread or the clock.
//!
//! | layer | types |
//! |---|---|
//! | views of what came, bounds checked | [`RtpView`], [`RtcpView`], [`Extensions`], [`RedundantView`] |
//! | SRTP (RFC 3711, RFC 7714) in place | [`SrtpSender`], [`SrtpReceiver`], [`Seal`] |
//! | one stream, one writer | [`SendStream`], [`ReceiveStream`], [`LossTracker`], [`Reporter`], [`RtcpScheduler`], [`TonePlacer`], [`ToneSplitter`] |
//! | Opus (RFC 7587) | [`OpusPacketizer`], [`OpusDepacketizer`] |
//! | frames of every codec, cut and put together | [`codec::Packetizer`], [`codec::FrameAssembler`] |
//! | congestion control | [`congestion`] |
//! | one connection of all these | [`RtpSession`] |
//! | the control plane's side | [`RTCTrackDescription`], [`RtpActor`], [`RouteCommand`], [`RouteEvent`] |
//!
//! The media plane (`ortc-forward`) runs an [`RtpSession`] per connection on its own thread.
//! [`RtpActor`] lives in the control plane: it turns track descriptions into
//! [`RouteCommand`]s and hears [`RouteEvent`]s. Media never passes through it: packets go
//! between application and media plane in rings ([`ortc_io::ring`]).
//!
//! # Driving a session
//!
//! ```
//! use std::time::Instant;
//! use bytes::Bytes;
//! use ortc_io::ring::{Popped, ring};
//! use ortc_io::{ConnectionId, SrtpKeys, SrtpProfile};
//! use ortc_rtp::{
//!     OutgoingPacket, PayloadType, ReceiverConfig, RtpSession, SenderConfig, Ssrc,
//! };
//!
//! let now = Instant::now();
//! let id = ConnectionId { slot: 0, generation: 0 };
//! let mut alice = RtpSession::new(id, 1, now);
//! let mut bob = RtpSession::new(id, 2, now);
//! // DTLS would have exported this.
//! let material = [7; 56];
//! for (session, is_client) in [(&mut alice, true), (&mut bob, false)] {
//!     let keys = SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &material, is_client);
//!     session.set_keys(now, &keys.unwrap()).unwrap();
//! }
//!
//! let (source, packets) = ring(8);
//! let (ssrc, payload_type) = (Ssrc(1234), PayloadType(111));
//! let cname = "alice".to_owned();
//! alice.add_sender(now, SenderConfig {
//!     ssrc, payload_type, clock_rate: 48_000, cname, packets, enabled: true,
//! });
//! let (packets, mut sink) = ring(8);
//! bob.add_receiver(now, ReceiverConfig {
//!     ssrc, payload_types: vec![(payload_type, 48_000)], packets,
//! });
//!
//! let payload = Bytes::from_static(b"sound");
//! source.push(OutgoingPacket { payload, timestamp: 0, marker: true }).unwrap();
//! let mut datagram = [0; 1500];
//! while let Some(room) = alice.next_transmit(now) {
//!     let len = alice.write_transmit(now, &mut datagram[..room]).unwrap();
//!     bob.handle_datagram(now, &mut datagram[..len]);
//! }
//! let Popped::Item(packet) = sink.pop() else { panic!() };
//! assert_eq!(packet.payload, "sound");
//! assert!(bob.poll_event().is_some(), "the track is connected");
//! ```
//!
//! `examples/srtp_both_ways.rs` has the whole loop, over UDP and with time-outs.
//!
//! # What holds
//!
//! - Nothing is remembered of a packet before it has proved authentic: no SSRC, no sequence
//!   number, no state. Unencrypted SRTCP is refused.
//! - The boundary between what SRTP signs and what it encrypts is found by our own checked
//!   view, never by a parser that a malformed extension can lead astray.
//! - No input from the network panics or allocates without a bound; what is dropped is
//!   counted in [`SessionStats`].
//! - Sending allocates nothing per packet: payloads are sealed from where the application
//!   left them into the datagram. Receiving copies the payload once, for the application.
//! - Seeds and instants are arguments; the same ones give the same datagrams.
//!
//! # Loss
//!
//! [`RtpSession::recover_receiver`] has lost packets of a track be asked for by NACK (RFC 4585
//! §6.2.1), and [`RtpSession::retransmit_sender`] has them sent again. A [`LossTracker`] decides: a
//! packet that was overtaken is waited for as long as packets usually are (10 ms to begin with),
//! one that is missing still is asked for, again after each round trip, as answers have shown it to
//! be, ten times and a second at most; then a key frame is asked for instead. A longer gap than 256
//! packets is not asked for at all.
//!
//! What was sent is kept for a second, 1,024 packets and a megabyte at most. It is sent again on a
//! stream of its own (RFC 4588) where the description has one, and else exactly as it was: see
//! [`SrtpSender::protect_rtp_again`]. None is sent again more often than about once in a round trip,
//! nor more than half as many bytes as are sent for the first time; what is refused is counted in
//! [`RecoveryStats`]. Packets that were sent again on a stream of their own count as lost in
//! reports, as they were.
//!
//! Sound may repeat itself instead (RFC 2198): [`codec::Repeater`] puts earlier payloads into each
//! packet, and [`RtpSession::repair_receiver`] has what they repeat take the place of what was lost.
//!
//! # Layers
//!
//! A track may come in several encodings at once (simulcast, RFC 8853) or in scalable layers.
//! [`RtpSession::receive_encodings`] finds them by SSRC or by name (RFC 8852), and names all of them
//! by the SSRC of the track; its reader gets the best that comes. Where the track is forwarded,
//! [`RtpSession::select_layers`] has one layer at a time be sent: what may be sent is shared among
//! such tracks, each of which gets its least layer first, and then always the one that has least goes
//! a step up. A step down is at once, one up once there has been 15 % more room than it takes for a
//! second, and for longer after each relapse. Encodings and better spatial layers are gone to at a
//! key frame, which is asked for; temporal layers of VP8, VP9 and AV1 (by its dependency descriptor)
//! and spatial ones of VP9 and AV1 are left out packet by packet, and the marker is set where a
//! picture then ends. Numbers, timestamps and VP8 picture ids go on without a gap. Picture ids of VP9
//! and frame numbers of AV1 keep theirs, as their receivers expect, and of decode targets nothing is
//! rewritten.
//!
//! # Deliberately left out
//!
//! - Delay of received packets in a session: it hands them on at once. A [`codec::JitterBuffer`]
//!   belongs to who plays or records them.
//! - RTCP without RTP multiplexed with it: both drafts have RFC 5761 always.
//! - SRTP key derivation rates, MKI and the 32-bit tag: DTLS-SRTP here negotiates none.
//! - Reconsideration of RTCP intervals (RFC 3550 §6.3.3): it is for groups.
#![forbid(unsafe_code)]

mod actor;
pub mod codec;
mod compound;
pub mod congestion;
mod description;
mod error;
mod ext_headers;
mod header_extension;
mod layers;
mod messages;
mod opus;
mod redundancy;
mod session;
mod srtp;
mod stream;
mod view;

pub use actor::RtpActor;
pub use compound::{KeyFrameRequest, ReportBlock, RtcpPacket, RtcpView, SenderInfo, is_rtcp};
pub use description::{
    CodecName, DescriptionError, RTCCodec, RTCCodecParam, RTCEncoding, RTCMediaAttributes,
    RTCTrackDescription, RtcpFeedback, ScaleFactor, TrackKind,
};
pub use error::{RtpError, SrtpError};
pub use ext_headers::{DEFAULT_EXT_HEADERS_ID, read_ext_headers, write_ext_headers};
pub use header_extension::RTCHeaderExtension;
pub use layers::{Layer, LayerMark, LayerMarker, LayerRates, MAX_ENCODINGS};
pub use messages::{
    ArrivalFeedback, DisconnectReason, ExtHeaders, ForwardConfig, ForwardedPayloadType,
    InsertedPacket, KeyFrameFeedback, OutgoingPacket, PayloadType, ReceiveEncodingsConfig,
    ReceivedEncoding, ReceivedPacket, ReceivedTonePacket, ReceiverConfig, ReceiverUpdate,
    RecoverConfig, RedundancyConfig, RetransmitConfig, RouteCommand, RouteEvent, RtpCommand,
    RtpEvent, RtxStream, SelectLayersConfig, SenderConfig, SnapshotReply, Ssrc, Tap, TonePacket,
    TonePayloadTypes, ToneRedundancy, ToneRoute, TrackSource, UnknownTrack,
};
pub use opus::{
    NotOpus, OPUS_CLOCK_RATE, OpusDepacketizer, OpusFrame, OpusPacketizer, opus_packet_duration,
};
pub use redundancy::{RedundantBlock, RedundantView, write_redundant};
pub use session::{
    DatagramCounts, EarlyLimits, FORWARD_ROOM, ForwardRun, ForwardTarget, MAX_PADDING, OpenedRtp,
    QualityLimitation, QualityLimitations, ReceiveDrops, ReceiverSnapshot, RecoveryStats,
    Retransmission, RtpSession, SendDrops, SenderSnapshot, SessionOptions, SessionSnapshot,
    SessionStats, SourceReport,
};
pub use srtp::{
    RtpOpened, Seal, SealJob, SealMark, SealTicket, SerialSeal, SrtpReceiver, SrtpSender,
};
pub use stream::{
    Aligned, Arrival, CaptureClock, FrameTime, LossTracker, NtpClock, NtpTime, Placed,
    ReceiveStream, ReceiveStreamStats, ReceiveTimings, RedundancyCounts, RedundancyRepair,
    RemoteReport, RepairedPacket, Reporter, Rewriter, RtcpScheduler, SendStream, SendStreamStats,
    SplitPacket, StreamAligner, StreamEvent, TonePlacer, ToneSplitter, UnknownPayloadType,
};
pub use view::{Extension, Extensions, RtpHeader, RtpView};
