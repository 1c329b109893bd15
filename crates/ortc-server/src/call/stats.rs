//! How a call goes, line by line while it lasts.

use std::fmt::Write;
use std::time::Duration;

use ortc_api::{
    QualityLimitationReason, RTCInboundRtpStreamStats, RTCOutboundRtpStreamStats, RTCStats,
    RTCStatsReport,
};
use serde::Serialize;

/// How often a call tells of its statistics, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsLines {
    /// How often.
    pub every: Duration,
    /// As JSON on stdout, one object a line; or for people, on stderr.
    pub json: bool,
}

/// One line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// After connecting.
    at_seconds: f64,
    stats: &'a RTCStatsReport,
}

/// A report as one line of JSON: an object with `at_seconds`, after connecting, and `stats`, in the
/// names of webrtc-stats.
pub(crate) fn to_json(at: Duration, report: &RTCStatsReport) -> String {
    let line = Line { at_seconds: (at.as_secs_f64() * 1e3).round() / 1e3, stats: report };
    serde_json::to_string(&line).unwrap_or_default()
}

/// A report for people: what was sent and received since the one before, and each track.
pub(crate) fn to_text(
    at: Duration,
    report: &RTCStatsReport,
    before: Option<&RTCStatsReport>,
) -> String {
    let Some(transport) = report.transport() else { return String::new() };
    let since = before.and_then(RTCStatsReport::transport);
    let seconds =
        since.map_or(at.as_secs_f64(), |since| (transport.timestamp - since.timestamp) / 1e3);
    let rate = Rate(seconds.max(1e-3));
    let mut text = format!("{:.0} s: sends", at.as_secs_f64());
    let sent = since.map_or(0, |since| since.bytes_sent);
    let received = since.map_or(0, |since| since.bytes_received);
    // Writing to a string does not fail.
    let _ = write!(text, " {}", rate.kbits(transport.bytes_sent, sent));
    let pair = report.stats.iter().find_map(|stats| match stats {
        RTCStats::CandidatePair(pair) => Some(pair),
        _ => None,
    });
    if let Some(available) = pair.and_then(|pair| pair.available_outgoing_bitrate) {
        let _ = write!(text, " (of {:.0})", available / 1e3);
    }
    let _ = write!(text, ", receives {} kbit/s", rate.kbits(transport.bytes_received, received));
    if let Some(trip) = pair.and_then(|pair| pair.current_round_trip_time) {
        let _ = write!(text, ", round trip {:.0} ms", trip * 1e3);
    }
    text.push('\n');
    for track in report.outbound() {
        let of_track = |other: &&RTCOutboundRtpStreamStats| other.id == track.id;
        let since = before.and_then(|before| before.outbound().find(of_track));
        outbound(&mut text, rate, track, since, report);
    }
    for track in report.inbound() {
        let of_track = |other: &&RTCInboundRtpStreamStats| other.id == track.id;
        let since = before.and_then(|before| before.inbound().find(of_track));
        inbound(&mut text, rate, track, since);
    }
    text
}

fn outbound(
    text: &mut String,
    rate: Rate,
    track: &RTCOutboundRtpStreamStats,
    before: Option<&RTCOutboundRtpStreamStats>,
    report: &RTCStatsReport,
) {
    let sent = rate.kbits(track.bytes_sent, before.map_or(0, |before| before.bytes_sent));
    let _ = write!(text, "  sent {} {}: {sent} kbit/s", track.kind, track.ssrc);
    if let Some(frames) = track.frames_sent {
        let before = before.and_then(|before| before.frames_sent).unwrap_or(0);
        let _ = write!(text, ", {:.0} pictures/s", rate.of(frames, before));
    }
    let remote = track.remote_id.as_deref().and_then(|id| report.get(id));
    if let Some(RTCStats::RemoteInboundRtp(remote)) = remote {
        let _ = write!(text, ", {:.1} % lost", remote.fraction_lost * 100.0);
    }
    let again = track.retransmitted_packets_sent;
    let again = again - before.map_or(0, |before| before.retransmitted_packets_sent.min(again));
    count(text, again, "packets sent again");
    let wanted = track.pli_count + track.fir_count;
    let had = before.map_or(0, |before| before.pli_count + before.fir_count);
    count(text, wanted.saturating_sub(had), "key frames asked for");
    text.push_str(match track.quality_limitation_reason {
        Some(QualityLimitationReason::Bandwidth) => ", takes all there is",
        Some(QualityLimitationReason::Other) => ", takes all it is let",
        _ => "",
    });
    text.push('\n');
}

fn inbound(
    text: &mut String,
    rate: Rate,
    track: &RTCInboundRtpStreamStats,
    before: Option<&RTCInboundRtpStreamStats>,
) {
    let came = rate.kbits(track.bytes_received, before.map_or(0, |before| before.bytes_received));
    let _ = write!(text, "  received {} {}: {came} kbit/s", track.kind, track.ssrc);
    if let Some(frames) = track.frames_received {
        let before = before.and_then(|before| before.frames_received).unwrap_or(0);
        let _ = write!(text, ", {:.0} pictures/s", rate.of(frames, before));
    }
    let lost = track.packets_lost - before.map_or(0, |before| before.packets_lost);
    let came = track.packets_received - before.map_or(0, |before| before.packets_received);
    let all = (lost.max(0) as u64 + came).max(1);
    let share = lost.max(0) as f64 / all as f64;
    let _ = write!(text, ", {:.1} % lost, jitter {:.0} ms", share * 100.0, track.jitter * 1e3);
    let used = |track: &RTCInboundRtpStreamStats| {
        track.fec_packets_received.saturating_sub(track.fec_packets_discarded)
    };
    let again = |track: &RTCInboundRtpStreamStats| track.retransmitted_packets_received;
    count(
        text,
        used(track) - before.map_or(0, used).min(used(track)),
        "packets of redundancy used",
    );
    count(text, again(track) - before.map_or(0, again).min(again(track)), "packets sent again");
    text.push('\n');
}

fn count(text: &mut String, count: u64, what: &str) {
    if count > 0 {
        let _ = write!(text, ", {count} {what}");
    }
}

/// Of this many seconds.
#[derive(Debug, Clone, Copy)]
struct Rate(f64);

impl Rate {
    fn of(self, now: u64, before: u64) -> f64 {
        now.saturating_sub(before) as f64 / self.0
    }

    fn kbits(self, now: u64, before: u64) -> String {
        format!("{:.0}", self.of(now, before) * 8.0 / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(ms: u64, bytes: u64, lost: i64, frames: u64) -> RTCStatsReport {
        let transport = json!({
            "type": "transport", "id": "T", "timestamp": ms, "packetsSent": 1,
            "packetsReceived": 1, "bytesSent": bytes, "bytesReceived": 2 * bytes,
            "iceState": "connected", "dtlsState": "connected",
            "iceLocalUsernameFragment": "u", "localCertificateId": "C",
            "selectedCandidatePairChanges": 1,
        });
        let pair = json!({
            "type": "candidate-pair", "id": "P", "timestamp": ms, "transportId": "T",
            "localCandidateId": "L", "remoteCandidateId": "R", "state": "succeeded",
            "nominated": true, "packetsSent": 1, "packetsReceived": 1, "bytesSent": bytes,
            "bytesReceived": bytes, "currentRoundTripTime": 0.0512,
            "availableOutgoingBitrate": 2_900_000.0,
        });
        let inbound = json!({
            "type": "inbound-rtp", "id": "I", "timestamp": ms, "ssrc": 7, "kind": "audio",
            "transportId": "T", "trackIdentifier": "t", "packetsReceived": 50 + bytes / 1_000,
            "bytesReceived": bytes, "headerBytesReceived": 0, "packetsLost": lost, "jitter": 0.0031, "nackCount": 0,
            "pliCount": 0, "firCount": 0, "retransmittedPacketsReceived": 0,
            "retransmittedBytesReceived": 0, "fecPacketsReceived": 10 * lost,
            "fecBytesReceived": 100 * lost, "fecPacketsDiscarded": 9 * lost,
        });
        let outbound = json!({
            "type": "outbound-rtp", "id": "O", "timestamp": ms, "ssrc": 8, "kind": "video",
            "transportId": "T", "trackIdentifier": "t", "packetsSent": 1, "bytesSent": bytes,
            "headerBytesSent": 0, "encodingIndex": 0, "retransmittedPacketsSent": lost, "retransmittedBytesSent": 0, "nackCount": 0,
            "pliCount": frames / 30, "firCount": 0, "active": true, "framesSent": frames,
            "remoteId": "X",
        });
        let remote = json!({
            "type": "remote-inbound-rtp", "id": "X", "timestamp": ms, "ssrc": 8, "kind": "video",
            "transportId": "T", "localId": "O", "packetsReceived": 21, "packetsLost": 3,
            "fractionLost": 0.125, "jitter": 0.0,
        });
        serde_json::from_value(json!([transport, pair, inbound, outbound, remote])).unwrap()
    }

    #[test]
    fn people_are_told_what_was_since_the_last_time() {
        let (before, now) = (report(1_000, 100_000, 2, 30), report(2_000, 250_000, 5, 60));
        let at = Duration::from_secs(2);
        assert_eq!(
            to_text(at, &now, Some(&before)),
            "2 s: sends 1200 (of 2900), receives 2400 kbit/s, round trip 51 ms\n  \
             sent video 8: 1200 kbit/s, 30 pictures/s, 12.5 % lost, 3 packets sent again, 1 key \
             frames asked for\n  \
             received audio 7: 1200 kbit/s, 2.0 % lost, jitter 3 ms, 3 packets of redundancy \
             used\n"
        );
        let first = to_text(at, &before, None);
        assert!(first.starts_with("2 s: sends 400 (of 2900), receives 800 kbit/s"), "{first}");
    }

    #[test]
    fn programs_are_told_all_of_it_in_one_line() {
        let line = to_json(Duration::from_millis(1_234), &report(1_000, 1, 0, 0));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!((&read["at_seconds"], &read["stats"][2]["ssrc"]), (&json!(1.234), &json!(7)));
    }
}
