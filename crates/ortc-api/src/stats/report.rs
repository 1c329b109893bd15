//! Puts a report together of what the two planes know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ortc_dtls::{CertificateFingerprint, DtlsRole};
use ortc_ice::{IceState, RTCIceCandidateDescription};
use ortc_io::consent::CheckCounts;
use ortc_rtp::{
    PayloadType, RTCTrackDescription, ReceiverSnapshot, SenderSnapshot, SessionSnapshot, TrackKind,
};

use super::{
    RTCCertificateStats, RTCCodecStats, RTCConnectionStats, RTCIceCandidatePairStats,
    RTCIceCandidateStats, RTCInboundRtpStreamStats, RTCOutboundRtpStreamStats,
    RTCRefusedInputStats, RTCRemoteInboundRtpStreamStats, RTCRemoteOutboundRtpStreamStats,
    RTCRouteStats, RTCStats, RTCStatsReport, RTCTransportStats, TransportFacts,
};
use crate::media::MediaStreamTrack;
use crate::track::RTCTrack;

const TRANSPORT: &str = "T01";
const LOCAL_CERTIFICATE: &str = "CFlocal";
const REMOTE_CERTIFICATE: &str = "CFremote";

/// 1970-01-01T00:00:00Z in seconds since 1900.
const UNIX_EPOCH: u64 = 2_208_988_800;

/// What a report is made of, as it was at one moment.
pub(crate) struct Sources {
    pub(crate) facts: TransportFacts,
    pub(crate) checks: CheckCounts,
    pub(crate) username_frag: String,
    pub(crate) local_certificate: Vec<u8>,
    /// Local candidates that were found.
    pub(crate) found: Vec<RTCIceCandidateDescription>,
    pub(crate) sending: Vec<RTCTrack>,
    pub(crate) receiving: Vec<(RTCTrackDescription, MediaStreamTrack)>,
    /// `None` where the media plane has nothing to say.
    pub(crate) media: Option<SessionSnapshot>,
}

impl Sources {
    /// The report.
    pub(crate) fn report(self) -> RTCStatsReport {
        let timestamp = self.media.as_ref().map_or_else(now, |media| from_ntp(media.ntp));
        let report = Report { timestamp, stats: Vec::new() };
        report.assemble(&self)
    }
}

struct Report {
    timestamp: f64,
    stats: Vec<RTCStats>,
}

impl Report {
    fn assemble(mut self, sources: &Sources) -> RTCStatsReport {
        self.connection(sources.media.as_ref());
        self.refused_input(&sources.facts);
        self.transport(sources);
        self.certificates(sources);
        if let Some(media) = &sources.media {
            for receiver in &media.receivers {
                self.inbound(receiver, sources);
            }
            for sender in &media.senders {
                self.outbound(sender, sources);
            }
        }
        RTCStatsReport { stats: self.stats }
    }

    fn connection(&mut self, media: Option<&SessionSnapshot>) {
        let Some(media) = media else { return };
        let (received, sent) = (&media.totals.receive_drops, &media.totals.send_drops);
        self.stats.push(RTCStats::Connection(RTCConnectionStats {
            id: "P".to_owned(),
            timestamp: self.timestamp,
            packets_discarded_on_receive: received.total(),
            packets_not_authentic: received.not_authentic + received.not_encrypted,
            packets_replayed: received.replayed,
            packets_of_unknown_tracks: received.unknown_ssrc + received.too_many_ssrcs,
            packets_not_read: received.ring_full,
            packets_discarded_on_send: sent.total(),
        }));
    }

    fn refused_input(&mut self, facts: &TransportFacts) {
        let (ice, dtls) = (facts.ice_counts.read(), facts.dtls_counts.read());
        self.stats.push(RTCStats::RefusedInput(RTCRefusedInputStats {
            id: "RI".to_owned(),
            timestamp: self.timestamp,
            stun_malformed: ice.malformed,
            stun_foreign_username: ice.foreign_username,
            stun_bad_integrity: ice.bad_integrity,
            stun_unasked_responses: ice.unasked_responses,
            stun_not_set: ice.not_set,
            stun_requests_dropped: ice.requests_held_dropped,
            stun_replies_withheld: ice.amplification_withheld,
            stun_barred: ice.barred,
            stun_over_limit: ice.over_limit,
            candidates_ignored: ice.candidates_ignored,
            dtls_implausible: dtls.dropped_implausible,
            dtls_too_early: dtls.dropped_parked,
            dtls_unrecognized: dtls.dropped_unrecognized,
            dtls_foreign_hellos: dtls.dropped_hellos,
            dtls_restarts: dtls.restarts,
            dtls_after_handshake: dtls.received_connected,
            dtls_too_late: dtls.dropped_stopped,
            dtls_replies_withheld: dtls.dropped_amplification,
        }));
    }

    fn transport(&mut self, sources: &Sources) {
        let (facts, timestamp) = (&sources.facts, self.timestamp);
        let counts = sources.media.as_ref().map(|media| media.datagrams).unwrap_or_default();
        let pair = facts.pair.as_deref();
        let pair_id = pair.map(|(local, remote)| {
            format!("CP{}_{}", candidate_id('L', local), candidate_id('R', remote))
        });
        self.stats.push(RTCStats::Transport(RTCTransportStats {
            id: TRANSPORT.to_owned(),
            timestamp,
            packets_sent: counts.sent,
            packets_received: counts.received,
            bytes_sent: counts.bytes_sent,
            bytes_received: counts.bytes_received,
            ice_state: facts.ice_state().to_owned(),
            dtls_state: facts.dtls_state().to_owned(),
            ice_local_username_fragment: sources.username_frag.clone(),
            local_certificate_id: LOCAL_CERTIFICATE.to_owned(),
            selected_candidate_pair_changes: facts.pair_changes,
            selected_candidate_pair_id: pair_id.clone(),
            remote_certificate_id: facts
                .remote_certificate
                .as_ref()
                .map(|_| REMOTE_CERTIFICATE.to_owned()),
            ice_role: facts.ice_counts.read().is_controlling.map(|is_controlling| {
                if is_controlling { "controlling" } else { "controlled" }.to_owned()
            }),
            dtls_role: facts.role.map(|role| match role {
                DtlsRole::Client => "client".to_owned(),
                DtlsRole::Server => "server".to_owned(),
            }),
            srtp_cipher: facts.srtp_cipher().map(str::to_owned),
            tls_version: facts.version.map(|version| format!("{version:04X}")),
        }));
        let mut locals: Vec<_> = sources.found.iter().collect();
        if let (Some((local, remote)), Some(id)) = (pair, pair_id) {
            let works = facts.ice == Some(IceState::Connected);
            let bitrate =
                |of: fn(&SessionSnapshot) -> Option<u64>| Some(of(sources.media.as_ref()?)? as f64);
            // There is no pair without a check.
            let checks = Some(sources.checks).filter(|it| *it != CheckCounts::default());
            self.stats.push(RTCStats::CandidatePair(RTCIceCandidatePairStats {
                id,
                timestamp,
                transport_id: TRANSPORT.to_owned(),
                local_candidate_id: candidate_id('L', local),
                remote_candidate_id: candidate_id('R', remote),
                state: if works { "succeeded" } else { "failed" }.to_owned(),
                nominated: true,
                packets_sent: counts.sent,
                packets_received: counts.received,
                bytes_sent: counts.bytes_sent,
                bytes_received: counts.bytes_received,
                current_round_trip_time: sources.media.as_ref().and_then(round_trip),
                available_outgoing_bitrate: bitrate(|media| media.available_outgoing),
                available_incoming_bitrate: bitrate(|media| media.available_incoming),
                requests_sent: checks.map(|it| it.requests_sent),
                requests_received: checks.map(|it| it.requests_received),
                responses_sent: checks.map(|it| it.responses_sent),
                responses_received: checks.map(|it| it.responses_received),
                consent_requests_sent: checks.map(|it| it.consent_requests_sent),
            }));
            // One that was withdrawn meanwhile, or that the peer alone knows.
            if !locals.contains(&local) {
                locals.push(local);
            }
            self.stats.push(RTCStats::RemoteCandidate(candidate(timestamp, 'R', remote, None)));
        }
        let ours = Some(&sources.username_frag);
        let locals = locals.into_iter().map(|local| candidate(timestamp, 'L', local, ours));
        self.stats.extend(locals.map(RTCStats::LocalCandidate));
    }

    fn certificates(&mut self, sources: &Sources) {
        let local = Some(&sources.local_certificate[..]);
        let remote = sources.facts.remote_certificate.as_deref();
        for (id, der) in [(LOCAL_CERTIFICATE, local), (REMOTE_CERTIFICATE, remote)] {
            let Some(der) = der else { continue };
            let sha256 = CertificateFingerprint::of_certificate(der).sha256().unwrap_or_default();
            let hex: Vec<_> = sha256.iter().map(|byte| format!("{byte:02X}")).collect();
            self.stats.push(RTCStats::Certificate(RTCCertificateStats {
                id: id.to_owned(),
                timestamp: self.timestamp,
                fingerprint: hex.join(":"),
                fingerprint_algorithm: "sha-256".to_owned(),
                base64_certificate: Some(STANDARD.encode(der)),
            }));
        }
    }

    /// A codec in use, told once; its id.
    fn codec(
        &mut self,
        direction: char,
        payload_type: PayloadType,
        description: &RTCTrackDescription,
    ) -> Option<String> {
        let codec = description.codecs.iter().find(|it| it.payload_type() == payload_type)?;
        let id = format!("C{direction}{}_{}", payload_type.0, codec.name);
        if !self.stats.iter().any(|stats| stats.id() == id) {
            self.stats.push(RTCStats::Codec(RTCCodecStats {
                id: id.clone(),
                timestamp: self.timestamp,
                transport_id: TRANSPORT.to_owned(),
                payload_type: payload_type.0,
                mime_type: format!("{}/{}", kind(description.kind), mime(&codec.name)),
                clock_rate: description.clock_rate_of(codec).unwrap_or_default(),
                channels: codec.num_channels,
            }));
        }
        Some(id)
    }

    fn inbound(&mut self, receiver: &ReceiverSnapshot, sources: &Sources) {
        let of_ssrc = |(described, track): &&(RTCTrackDescription, MediaStreamTrack)| {
            track.received_ssrc() == Some(receiver.ssrc)
                || described.ssrcs().any(|ssrc| ssrc == receiver.ssrc)
        };
        // Let go of meanwhile.
        let Some((description, track)) = sources.receiving.iter().find(of_ssrc) else { return };
        let (ssrc, timestamp) = (receiver.ssrc.0, self.timestamp);
        let (id, remote_id) = (format!("IT{ssrc}"), format!("ROT{ssrc}"));
        let (payload_type, clock_rate) = receiver.payload_type.unzip();
        let codec_id = payload_type.and_then(|it| self.codec('I', it, description));
        let kind = kind(description.kind).to_owned();
        let report = receiver.stats.sender_report;
        let is_video = description.kind == TrackKind::Video;
        let (requested, by_full_intra) =
            (receiver.key_frames_requested, receiver.asks_by_full_intra);
        self.stats.push(RTCStats::InboundRtp(RTCInboundRtpStreamStats {
            id: id.clone(),
            timestamp,
            ssrc,
            kind: kind.clone(),
            transport_id: TRANSPORT.to_owned(),
            track_identifier: track.id().to_owned(),
            packets_received: receiver.stats.packets,
            bytes_received: receiver.stats.octets,
            header_bytes_received: receiver.stats.header_octets,
            packets_lost: receiver.stats.lost,
            jitter: seconds(receiver.stats.jitter, clock_rate),
            nack_count: receiver.stats.nacks,
            pli_count: if by_full_intra { 0 } else { requested },
            fir_count: if by_full_intra { requested } else { 0 },
            retransmitted_packets_received: receiver.stats.recovered,
            retransmitted_bytes_received: receiver.stats.recovered_octets,
            fec_packets_received: receiver.redundancy.received,
            fec_packets_discarded: receiver.redundancy.discarded,
            fec_bytes_received: receiver.redundancy.octets,
            rtx_ssrc: receiver.rtx_ssrc.map(|ssrc| ssrc.0),
            packets_discarded: track.reception().and_then(|it| it.described.discarded()),
            frames_received: is_video.then_some(receiver.stats.frames),
            key_frames_received: track
                .reception()
                .filter(|_| is_video)
                .and_then(|it| it.described.key_frames_read()),
            codec_id: codec_id.clone(),
            last_packet_received_timestamp: receiver
                .last_packet
                .map(|ago| timestamp - ago.as_secs_f64() * 1_000.0),
            remote_id: report.map(|_| remote_id.clone()),
        }));
        if let Some(report) = report {
            self.stats.push(RTCStats::RemoteOutboundRtp(RTCRemoteOutboundRtpStreamStats {
                id: remote_id,
                timestamp,
                ssrc,
                kind,
                transport_id: TRANSPORT.to_owned(),
                local_id: id,
                packets_sent: report.packets.into(),
                bytes_sent: report.octets.into(),
                remote_timestamp: from_ntp(report.ntp),
                reports_sent: receiver.stats.sender_reports,
                codec_id,
            }));
        }
    }

    fn outbound(&mut self, sender: &SenderSnapshot, sources: &Sources) {
        let of_ssrc =
            |track: &&RTCTrack| track.ssrcs().iter().any(|(ssrc, _)| *ssrc == sender.ssrc);
        let Some(track) = sources.sending.iter().find(of_ssrc) else { return };
        let description = track.description();
        let (ssrc, timestamp) = (sender.ssrc.0, self.timestamp);
        let (id, remote_id) = (format!("OT{ssrc}"), format!("RIT{ssrc}"));
        let route_id = sender.source.map(|source| format!("RT{}_{ssrc}", source.ssrc.0));
        let codec_id = self.codec('O', sender.payload_type, &description);
        let kind = kind(description.kind).to_owned();
        let remote = sender.stats.remote;
        let is_video = description.kind == TrackKind::Video;
        let quality = sender.quality.as_ref().filter(|_| is_video);
        let encodings = track.sent_encodings();
        let encoding_index = encodings.iter().position(|it| it.ssrc == sender.ssrc).unwrap_or(0);
        let encoding = description.encodings.get(encoding_index);
        let rtx_ssrc = track.ssrcs().into_iter().find(|(ssrc, _)| *ssrc == sender.ssrc);
        self.stats.push(RTCStats::OutboundRtp(RTCOutboundRtpStreamStats {
            id: id.clone(),
            timestamp,
            ssrc,
            kind: kind.clone(),
            transport_id: TRANSPORT.to_owned(),
            track_identifier: track.source().id().to_owned(),
            packets_sent: sender.stats.packets + sender.stats.resent_packets,
            bytes_sent: sender.stats.octets + sender.stats.resent_octets,
            header_bytes_sent: sender.stats.header_octets,
            encoding_index: encoding_index as u32,
            retransmitted_packets_sent: sender.stats.resent_packets,
            retransmitted_bytes_sent: sender.stats.resent_octets,
            nack_count: sender.stats.nacks,
            pli_count: sender.stats.picture_losses,
            fir_count: sender.stats.full_intra_requests,
            rtx_ssrc: rtx_ssrc.and_then(|(_, rtx)| rtx).map(|ssrc| ssrc.0),
            rid: encoding.map(|it| it.rid.clone()),
            scalability_mode: encoding.and_then(|it| it.scalability_mode.clone()),
            frames_sent: is_video.then_some(sender.stats.frames),
            quality_limitation_reason: quality.map(|it| it.reason.into()),
            quality_limitation_durations: quality.map(Into::into),
            quality_limitation_resolution_changes: quality.and_then(|it| it.resolution_changes),
            active: sender.enabled,
            codec_id: codec_id.clone(),
            remote_id: remote.map(|_| remote_id.clone()),
            route_id: route_id.clone(),
        }));
        if let Some(remote) = remote {
            self.stats.push(RTCStats::RemoteInboundRtp(RTCRemoteInboundRtpStreamStats {
                id: remote_id,
                timestamp,
                ssrc,
                kind,
                transport_id: TRANSPORT.to_owned(),
                local_id: id.clone(),
                packets_received: remote.received,
                packets_lost: remote.cumulative_lost.into(),
                fraction_lost: f64::from(remote.fraction_lost) / 256.0,
                jitter: seconds(remote.jitter, Some(sender.clock_rate)),
                codec_id,
                round_trip_time: remote.round_trip.map(|time| time.as_secs_f64()),
                total_round_trip_time: Some(sender.stats.total_round_trip.as_secs_f64()),
                round_trip_time_measurements: Some(sender.stats.round_trips),
            }));
        }
        if let (Some(route_id), Some(source)) = (route_id, sender.source) {
            let connection = source.connection;
            self.stats.push(RTCStats::Route(RTCRouteStats {
                id: route_id,
                timestamp,
                transport_id: TRANSPORT.to_owned(),
                outbound_id: id,
                source_inbound_id: format!("IT{}", source.ssrc.0),
                source_ssrc: source.ssrc.0,
                source_connection: format!("{}.{}", connection.slot, connection.generation),
                packets_forwarded: sender.stats.packets,
                bytes_forwarded: sender.stats.octets,
            }));
        }
    }
}

/// Of all tracks, what the report with the shortest round trip says.
fn round_trip(media: &SessionSnapshot) -> Option<f64> {
    let times = media.senders.iter().filter_map(|sender| sender.stats.remote?.round_trip);
    times.min().map(|time| time.as_secs_f64())
}

fn candidate_id(side: char, candidate: &RTCIceCandidateDescription) -> String {
    let RTCIceCandidateDescription { transport, connection_address, connection_port, kind, .. } =
        candidate;
    format!("I{side}{kind}_{transport}_{connection_address}_{connection_port}")
}

fn candidate(
    timestamp: f64,
    side: char,
    candidate: &RTCIceCandidateDescription,
    username_fragment: Option<&String>,
) -> RTCIceCandidateStats {
    RTCIceCandidateStats {
        id: candidate_id(side, candidate),
        timestamp,
        transport_id: TRANSPORT.to_owned(),
        address: candidate.connection_address.clone(),
        port: candidate.connection_port,
        protocol: candidate.transport.clone(),
        candidate_type: candidate.kind.clone(),
        priority: candidate.priority,
        foundation: candidate.foundation.clone(),
        related_address: candidate.rel_address.clone(),
        related_port: candidate.rel_port,
        tcp_type: candidate.tcp_type.clone(),
        username_fragment: username_fragment.cloned(),
    }
}

fn kind(kind: TrackKind) -> &'static str {
    match kind {
        TrackKind::Video => "video",
        TrackKind::Audio | TrackKind::Dtmf => "audio",
    }
}

/// The name of a codec in IANA's registry of media types.
fn mime(name: &str) -> &str {
    match &*name.to_ascii_lowercase() {
        "alaw" => "PCMA",
        "ulaw" => "PCMU",
        "dtmf" => "telephone-event",
        "vp8" => "VP8",
        "vp9" => "VP9",
        "av1" => "AV1",
        "h264" => "H264",
        _ => name,
    }
}

fn seconds(units: u32, clock_rate: Option<u32>) -> f64 {
    match clock_rate {
        None | Some(0) => 0.0,
        Some(clock_rate) => f64::from(units) / f64::from(clock_rate),
    }
}

/// NTP time, 32.32 bits, in milliseconds since 1970.
fn from_ntp(ntp: u64) -> f64 {
    let seconds = (ntp >> 32) as f64 - UNIX_EPOCH as f64;
    let fraction = (ntp & 0xffff_ffff) as f64 / 4_294_967_296.0;
    (seconds + fraction) * 1_000.0
}

/// Where the media plane has no clock to tell.
fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64() * 1_000.0)
}
