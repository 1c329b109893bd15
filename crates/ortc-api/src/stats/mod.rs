//! Statistics of a connection in the names of webrtc-stats (W3C, "Identifiers for WebRTC's
//! Statistics API").

mod facts;
mod quality;
mod report;

use serde::{Deserialize, Serialize};

pub(crate) use facts::TransportFacts;
pub use quality::{QualityLimitationDurations, QualityLimitationReason};
pub(crate) use report::Sources;

/// All statistics of a connection at one moment: what
/// [`RTCConnection::stats`](crate::RTCConnection::stats) returns.
///
/// Its JSON is an array of objects, each with `id`, `timestamp` and `type`, spelled as in
/// webrtc-stats. An id names the same thing in every report of a connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RTCStatsReport {
    /// The objects, in a fixed order: connection, refused input, transport, candidates, certificates,
    /// codecs, tracks.
    pub stats: Vec<RTCStats>,
}

/// One object of an [`RTCStatsReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RTCStats {
    /// What the connection has dropped: an addition of ours.
    Connection(RTCConnectionStats),
    /// What has come to ICE and DTLS and was refused: an addition of ours.
    RefusedInput(RTCRefusedInputStats),
    /// The path, and what protects it.
    Transport(RTCTransportStats),
    /// The pair of candidates in use.
    CandidatePair(RTCIceCandidatePairStats),
    /// A candidate of ours.
    LocalCandidate(RTCIceCandidateStats),
    /// The candidate of the peer that is in use.
    RemoteCandidate(RTCIceCandidateStats),
    /// A certificate.
    Certificate(RTCCertificateStats),
    /// A codec that is in use.
    Codec(RTCCodecStats),
    /// A track that is received.
    InboundRtp(RTCInboundRtpStreamStats),
    /// A track that is sent.
    OutboundRtp(RTCOutboundRtpStreamStats),
    /// What the peer says that it receives of a track that is sent.
    RemoteInboundRtp(RTCRemoteInboundRtpStreamStats),
    /// What the peer says that it sends of a track that is received.
    RemoteOutboundRtp(RTCRemoteOutboundRtpStreamStats),
    /// Where a forwarded track comes from: an addition of ours.
    Route(RTCRouteStats),
}

impl RTCStats {
    /// Its id: the same in every report of a connection.
    pub fn id(&self) -> &str {
        match self {
            Self::Connection(stats) => &stats.id,
            Self::RefusedInput(stats) => &stats.id,
            Self::Transport(stats) => &stats.id,
            Self::CandidatePair(stats) => &stats.id,
            Self::LocalCandidate(stats) | Self::RemoteCandidate(stats) => &stats.id,
            Self::Certificate(stats) => &stats.id,
            Self::Codec(stats) => &stats.id,
            Self::InboundRtp(stats) => &stats.id,
            Self::OutboundRtp(stats) => &stats.id,
            Self::RemoteInboundRtp(stats) => &stats.id,
            Self::RemoteOutboundRtp(stats) => &stats.id,
            Self::Route(stats) => &stats.id,
        }
    }
}

impl RTCStatsReport {
    /// The object of this id.
    pub fn get(&self, id: &str) -> Option<&RTCStats> {
        self.stats.iter().find(|stats| stats.id() == id)
    }

    /// What was refused of what came to ICE and DTLS.
    pub fn refused_input(&self) -> Option<&RTCRefusedInputStats> {
        self.stats.iter().find_map(|stats| match stats {
            RTCStats::RefusedInput(stats) => Some(stats),
            _ => None,
        })
    }

    /// The tracks that are received.
    pub fn inbound(&self) -> impl Iterator<Item = &RTCInboundRtpStreamStats> {
        self.stats.iter().filter_map(|stats| match stats {
            RTCStats::InboundRtp(stats) => Some(stats),
            _ => None,
        })
    }

    /// The tracks that are sent.
    pub fn outbound(&self) -> impl Iterator<Item = &RTCOutboundRtpStreamStats> {
        self.stats.iter().filter_map(|stats| match stats {
            RTCStats::OutboundRtp(stats) => Some(stats),
            _ => None,
        })
    }

    /// The transport.
    pub fn transport(&self) -> Option<&RTCTransportStats> {
        self.stats.iter().find_map(|stats| match stats {
            RTCStats::Transport(stats) => Some(stats),
            _ => None,
        })
    }
}

/// Defines objects with the fields that all have, and optional ones that are left out of JSON.
macro_rules! stats {
    ($(
        $(#[$doc:meta])*
        $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
            $(? $($(#[$optional_doc:meta])* $optional:ident: $optional_type:ty,)*)?
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        #[non_exhaustive]
        pub struct $name {
            /// Names the object in every report of its connection.
            pub id: String,
            /// When it was taken, in milliseconds since 1970.
            pub timestamp: f64,
            $($(#[$field_doc])* pub $field: $type,)*
            $($(
                $(#[$optional_doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $optional: Option<$optional_type>,
            )*)?
        }
    )*};
}

stats! {
    /// What a connection has dropped, and has had to do without: `connection`, not of W3C.
    RTCConnectionStats {
        /// Packets received and dropped, for whatever cause.
        packets_discarded_on_receive: u64,
        /// Of those, such as were not authentic: other keys, or somebody in between.
        packets_not_authentic: u64,
        /// Of those, such as had come before, or far too late.
        packets_replayed: u64,
        /// Of those, such as belong to tracks that nobody has described.
        packets_of_unknown_tracks: u64,
        /// Of those, such as the application was too slow for.
        packets_not_read: u64,
        /// Packets to be sent and dropped, for whatever cause.
        packets_discarded_on_send: u64,
    }

    /// `refused-input`: what has come to ICE and DTLS of this connection and was dropped, or was
    /// answered with less than it asked for; not of W3C. All of it is 0 with transport actors other
    /// than the default ones. What nobody could be found for is counted by the engine
    /// ([`Engine::stats`](crate::Engine::stats)), and media in `connection`.
    ///
    /// Some of it is quite usual: a peer that has not been told yet, a check that took its time. Who
    /// sees thousands is attacked, or has two ends that were signalled crosswise.
    RTCRefusedInputStats {
        /// STUN messages that break their grammar, or are no binding messages.
        stun_malformed: u64,
        /// Requests with another username fragment than ours.
        stun_foreign_username: u64,
        /// Messages whose MESSAGE-INTEGRITY is missing or wrong: forged, or of an earlier session. On
        /// a path that has settled the engine counts them, for all of its connections
        /// (`ForwarderStats::consent`).
        stun_bad_integrity: u64,
        /// Responses that nobody has asked for, or from elsewhere: replayed, as a rule.
        stun_unasked_responses: u64,
        /// Messages to a candidate of ours that was not set.
        stun_not_set: u64,
        /// Authentic requests that waited for the peer's credentials, and were dropped: over 32, or
        /// older than 10 s.
        stun_requests_dropped: u64,
        /// Checks and responses that were not sent, as an address that has not answered would have
        /// got more than three times what came from it.
        stun_replies_withheld: u64,
        /// Datagrams on paths that a newer connection has taken.
        stun_barred: u64,
        /// What was dropped because a list was full: paths, learned addresses.
        stun_over_limit: u64,
        /// Candidates of the peer's signalling that take no part.
        candidates_ignored: u64,
        /// Datagrams that could be no DTLS record of an honest peer: too long, cut short, of
        /// another protocol or version.
        dtls_implausible: u64,
        /// What came too early, over the eight datagrams that wait, or to a client before its hello.
        dtls_too_early: u64,
        /// What came to a client that waits for a first answer, and was none.
        dtls_unrecognized: u64,
        /// Hellos of other clients in the midst of a handshake, after too many of them.
        dtls_foreign_hellos: u64,
        /// Handshakes that were begun afresh, as something had spoiled them.
        dtls_restarts: u64,
        /// What came after the handshake. An honest peer sends a few datagrams then, to repeat its
        /// last flight and to close; of all others nothing follows, as they are not authentic.
        dtls_after_handshake: u64,
        /// What came after the end.
        dtls_too_late: u64,
        /// Datagrams that were not sent for the limit on amplification.
        dtls_replies_withheld: u64,
    }

    /// `transport`. What ICE and DTLS exchange is not counted.
    RTCTransportStats {
        /// RTP and RTCP datagrams sent.
        packets_sent: u64,
        /// RTP and RTCP datagrams received.
        packets_received: u64,
        /// Bytes of those sent, without the headers of UDP and IP.
        bytes_sent: u64,
        /// Bytes of those received.
        bytes_received: u64,
        /// `new`, `checking`, `connected`, `disconnected` or `closed`.
        ice_state: String,
        /// `new`, `connecting`, `connected`, `closed` or `failed`.
        dtls_state: String,
        /// Our username fragment.
        ice_local_username_fragment: String,
        /// Our certificate.
        local_certificate_id: String,
        /// How often another pair was taken.
        selected_candidate_pair_changes: u32,
        ?
        /// The pair in use.
        selected_candidate_pair_id: String,
        /// The peer's certificate.
        remote_certificate_id: String,
        /// `controlling` or `controlled`, once there is a peer; absent where another ICE actor does
        /// not tell.
        ice_role: String,
        /// `client` or `server`.
        dtls_role: String,
        /// The protection profile, as IANA has it.
        srtp_cipher: String,
        /// The version of DTLS, as two bytes in hexadecimal: `FEFD` is 1.2, `FEFC` is 1.3.
        tls_version: String,
    }

    /// `candidate-pair`: the one that is in use.
    RTCIceCandidatePairStats {
        /// The transport.
        transport_id: String,
        /// Ours.
        local_candidate_id: String,
        /// The peer's.
        remote_candidate_id: String,
        /// `succeeded`, or `failed` when it does not work at the moment.
        state: String,
        /// Whether it is in use.
        nominated: bool,
        /// As those of the transport: since the connection was made, on whichever pair.
        packets_sent: u64,
        /// The same.
        packets_received: u64,
        /// The same.
        bytes_sent: u64,
        /// The same.
        bytes_received: u64,
        ?
        /// The newest round trip that RTCP has measured on any track, in seconds.
        current_round_trip_time: f64,
        /// What may be sent, in bits per second, all tracks together, as congestion control has
        /// found out.
        available_outgoing_bitrate: f64,
        /// What the peer may send, where that is found out here and told to it (REMB).
        available_incoming_bitrate: f64,
        /// Checks sent, on all pairs, since the connection was made; as the four that follow, absent
        /// where another ICE actor counts none.
        requests_sent: u64,
        /// Authentic checks that have come, those that renew consent included: nobody can tell.
        requests_received: u64,
        /// Responses sent.
        responses_sent: u64,
        /// Authentic responses.
        responses_received: u64,
        /// Requests sent to renew consent (RFC 7675).
        consent_requests_sent: u64,
    }

    /// `local-candidate` and `remote-candidate`.
    RTCIceCandidateStats {
        /// The transport.
        transport_id: String,
        /// An IP address, or a name.
        address: String,
        /// Its port.
        port: u16,
        /// `udp` or `tcp`.
        protocol: String,
        /// `host`, `srflx`, `prflx` or `relay`.
        candidate_type: String,
        /// RFC 8445 §5.1.2.
        priority: u32,
        /// Groups candidates of one base, type and server.
        foundation: String,
        ?
        /// The base of a reflexive or relayed candidate.
        related_address: String,
        /// The port of that.
        related_port: u16,
        /// Of TCP, `active`, `passive` or `so` (RFC 6544 §4.5).
        tcp_type: String,
        /// The username fragment that it is checked with; of a candidate of ours.
        username_fragment: String,
    }

    /// `certificate`.
    RTCCertificateStats {
        /// Bytes in hexadecimal with colons.
        fingerprint: String,
        /// The hash function.
        fingerprint_algorithm: String,
        ?
        /// The certificate itself, DER in base64.
        base64_certificate: String,
    }

    /// `codec`.
    RTCCodecStats {
        /// The transport.
        transport_id: String,
        /// 0 to 127.
        payload_type: u8,
        /// `audio/opus` and so on.
        mime_type: String,
        /// In Hz.
        clock_rate: u32,
        ?
        /// Of audio.
        channels: u32,
    }

    /// `inbound-rtp`.
    RTCInboundRtpStreamStats {
        /// Its SSRC.
        ssrc: u32,
        /// `audio` or `video`.
        kind: String,
        /// The transport.
        transport_id: String,
        /// The id of the [`MediaStreamTrack`](crate::MediaStreamTrack).
        track_identifier: String,
        /// Packets received.
        packets_received: u64,
        /// Payload bytes received.
        bytes_received: u64,
        /// Bytes of the headers and the padding of RTP.
        header_bytes_received: u64,
        /// Packets lost; negative when duplicates outnumber them.
        packets_lost: i64,
        /// Interarrival jitter in seconds (RFC 3550 §6.4.1).
        jitter: f64,
        /// Packets lost, and asked for again (RFC 4585 §6.2.1): NACKs sent.
        nack_count: u64,
        /// Key frames that the peer was asked for by PLI (RFC 4585 §6.3.1).
        pli_count: u64,
        /// The same by FIR (RFC 5104 §4.3.1).
        fir_count: u64,
        /// Packets that the peer has sent again on a stream of its own (RFC 4588).
        retransmitted_packets_received: u64,
        /// Their payload bytes.
        retransmitted_bytes_received: u64,
        /// Payloads that other packets have repeated (RFC 2198).
        fec_packets_received: u64,
        /// Of those, such as had come by themselves.
        fec_packets_discarded: u64,
        /// The bytes of all that they have repeated.
        fec_bytes_received: u64,
        ?
        /// The SSRC with which the peer sends packets again (RFC 4588), where it has one.
        rtx_ssrc: u32,
        /// Packets that were put in order too late to become a frame, or too slowly; of a track that
        /// the application reads.
        packets_discarded: u64,
        /// Pictures whose last packet has come; of video.
        frames_received: u64,
        /// Key frames that the application has read; of video that it reads.
        key_frames_received: u64,
        /// The codec of the last packet.
        codec_id: String,
        /// When the last packet came, in milliseconds since 1970.
        last_packet_received_timestamp: f64,
        /// What the peer says of it.
        remote_id: String,
    }

    /// `outbound-rtp`.
    RTCOutboundRtpStreamStats {
        /// Its SSRC.
        ssrc: u32,
        /// `audio` or `video`.
        kind: String,
        /// The transport.
        transport_id: String,
        /// The id of the [`MediaStreamTrack`](crate::MediaStreamTrack): not of W3C.
        track_identifier: String,
        /// Packets sent, those that were sent again included.
        packets_sent: u64,
        /// Payload bytes sent, likewise.
        bytes_sent: u64,
        /// Bytes of the headers and the padding of RTP, probes included.
        header_bytes_sent: u64,
        /// Which of the encodings of its track it is, the least being 0; 0 where there is one.
        encoding_index: u32,
        /// Packets sent again (RFC 4585, RFC 4588).
        retransmitted_packets_sent: u64,
        /// Their payload bytes.
        retransmitted_bytes_sent: u64,
        /// NACKs of the peer (RFC 4585 §6.2.1), each of which may be of several packets.
        nack_count: u64,
        /// Key frames that the peer has asked for by PLI (RFC 4585 §6.3.1).
        pli_count: u64,
        /// The same by FIR (RFC 5104 §4.3.1).
        fir_count: u64,
        /// Whether it is being sent, and not stopped.
        active: bool,
        ?
        /// The SSRC with which packets are sent again (RFC 4588), where there is one.
        rtx_ssrc: u32,
        /// The name of its encoding, where its track has several.
        rid: String,
        /// The layers of its encoding, as they were described.
        scalability_mode: String,
        /// Pictures sent; of video.
        frames_sent: u64,
        /// What keeps it from being sent better at the moment; of video.
        quality_limitation_reason: QualityLimitationReason,
        /// How long each of them did, since the track was added; of video.
        quality_limitation_durations: QualityLimitationDurations,
        /// How often pictures of another size were sent for that; of video that is forwarded in one of
        /// several layers, since the size of other pictures is not known here.
        quality_limitation_resolution_changes: u64,
        /// The codec.
        codec_id: String,
        /// What the peer says of it.
        remote_id: String,
        /// Where it comes from, if it is forwarded: not of W3C.
        route_id: String,
    }

    /// `remote-inbound-rtp`.
    RTCRemoteInboundRtpStreamStats {
        /// The SSRC.
        ssrc: u32,
        /// `audio` or `video`.
        kind: String,
        /// The transport.
        transport_id: String,
        /// The track that is sent.
        local_id: String,
        /// Packets that the peer has received, as its report has it.
        packets_received: u64,
        /// Packets that the peer has lost; negative when duplicates outnumber them.
        packets_lost: i64,
        /// Of late, 0 to 1.
        fraction_lost: f64,
        /// At the peer, in seconds.
        jitter: f64,
        ?
        /// The codec.
        codec_id: String,
        /// In seconds, as of the newest report.
        round_trip_time: f64,
        /// All of them so far, in seconds.
        total_round_trip_time: f64,
        /// How many there were.
        round_trip_time_measurements: u64,
    }

    /// `remote-outbound-rtp`.
    RTCRemoteOutboundRtpStreamStats {
        /// The SSRC.
        ssrc: u32,
        /// `audio` or `video`.
        kind: String,
        /// The transport.
        transport_id: String,
        /// The track that is received.
        local_id: String,
        /// Packets that the peer has sent, of the 32 bits that a report has.
        packets_sent: u64,
        /// Payload bytes, likewise.
        bytes_sent: u64,
        /// When it said so by its own clock, in milliseconds since 1970.
        remote_timestamp: f64,
        /// How often it has said so.
        reports_sent: u64,
        ?
        /// The codec.
        codec_id: String,
    }

    /// `route`: a track that is received on one connection and sent on another. Not of W3C.
    RTCRouteStats {
        /// The transport that it leaves by.
        transport_id: String,
        /// The track as it is sent.
        outbound_id: String,
        /// The id of the track in the statistics of the connection that receives it.
        source_inbound_id: String,
        /// The SSRC that it is received with.
        source_ssrc: u32,
        /// Names the connection that receives it, within its engine.
        source_connection: String,
        /// Packets forwarded.
        packets_forwarded: u64,
        /// Payload bytes forwarded.
        bytes_forwarded: u64,
    }
}
