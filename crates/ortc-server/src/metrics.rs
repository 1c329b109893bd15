//! `/metrics`: what the server counts, in the text format of Prometheus (version 0.0.4).

use std::fmt::{Display, Write};

use ortc_api::{ForwarderStats, RecoveryStats};

use crate::door::DoorCounts;
use crate::pairs::PairCounts;
use crate::room_server::RoomsNow;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page. Without `forwarder`, the media thread has not answered.
pub(crate) fn render(
    rooms: RoomsNow,
    (pairs, pair_counts): (usize, PairCounts),
    door: DoorCounts,
    forwarder: Option<&ForwarderStats>,
) -> String {
    let mut page = Page::default();
    page.gauge("ortc_rooms", "Rooms that exist now.", rooms.rooms);
    page.gauge("ortc_room_members", "Members of all rooms now.", rooms.members);
    page.gauge("ortc_room_tracks", "Tracks published in all rooms now.", rooms.tracks);
    let counts = rooms.counts;
    page.counter("ortc_room_joins_total", "Members that joined a room.", counts.joined);
    page.counter(
        "ortc_room_refusals_total",
        "Members that were not let into a room or put out.",
        counts.refused,
    );
    page.counter("ortc_room_published_tracks_total", "Tracks published.", counts.published);
    page.counter("ortc_room_messages_total", "Messages of members heeded.", counts.messages);
    page.counter(
        "ortc_room_complaints_total",
        "Messages of members answered with an error.",
        counts.complaints,
    );
    page.gauge("ortc_pairs", "Pairs that exist now.", pairs);
    let PairCounts { joined, refused, messages, complaints } = pair_counts;
    page.counter("ortc_pair_joins_total", "Peers that joined a pair.", joined);
    page.counter(
        "ortc_pair_refusals_total",
        "Peers that were not let into a pair or put out.",
        refused,
    );
    page.counter("ortc_pair_messages_total", "Messages passed on between peers.", messages);
    page.counter(
        "ortc_pair_complaints_total",
        "Messages of peers answered with an error.",
        complaints,
    );
    page.gauge("ortc_http_streams", "Streams to the listening socket now.", door.open);
    page.labelled(
        "ortc_http_streams_total",
        "Streams to the listening socket, by what became of them.",
        "what",
        &[
            ("accepted", door.accepted),
            ("refused", door.refused),
            ("displaced", door.displaced),
            ("too_slow", door.too_slow),
            ("silent", door.silent),
        ],
    );
    page.gauge(
        "ortc_forwarder_up",
        "Whether the media thread answers.",
        u8::from(forwarder.is_some()),
    );
    if let Some(stats) = forwarder {
        page.forwarder(stats);
    }
    page.0
}

#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn forwarder(&mut self, stats: &ForwarderStats) {
        self.gauge("ortc_connections", "Connections that there are now.", stats.connections);
        self.gauge("ortc_sockets", "UDP sockets that there are now.", stats.sockets);
        self.counter(
            "ortc_forwarder_cpu_seconds_total",
            "CPU time of the media thread.",
            stats.cpu.as_secs_f64(),
        );
        self.counter("ortc_datagrams_received_total", "Datagrams received.", stats.received);
        self.counter("ortc_datagrams_sent_total", "Datagrams sent.", stats.sent);
        self.counter("ortc_send_calls_total", "System calls made for sending.", stats.send_calls);
        let media = &stats.media;
        self.labelled(
            "ortc_rtp_packets_total",
            "RTP packets of tracks, by what was done with them; received are those that an \
             application reads.",
            "what",
            &[
                ("received", media.rtp_received),
                ("sent", media.rtp_sent),
                ("forwarded", media.rtp_forwarded),
            ],
        );
        self.counter(
            "ortc_padding_bytes_total",
            "Bytes of padding that forwarded packets got to be of one size.",
            media.padding_bytes,
        );
        self.counter(
            "ortc_probe_packets_total",
            "Packets of nothing but padding, sent to find out how much a path takes.",
            media.padding_sent,
        );
        self.labelled(
            "ortc_rtcp_compounds_total",
            "RTCP compounds.",
            "what",
            &[("received", media.rtcp_received), ("sent", media.rtcp_sent)],
        );
        let srtp = &stats.media_datagrams;
        self.labelled(
            "ortc_srtp_datagrams_total",
            "RTP and RTCP datagrams, sealed.",
            "what",
            &[("received", srtp.received), ("sent", srtp.sent)],
        );
        self.labelled(
            "ortc_srtp_bytes_total",
            "Bytes of RTP and RTCP, sealed, without the headers of UDP and IP.",
            "what",
            &[("received", srtp.bytes_received), ("sent", srtp.bytes_sent)],
        );
        self.counter(
            "ortc_key_frames_requested_total",
            "Key frames that publishers were asked for.",
            media.key_frames_requested,
        );
        self.counter(
            "ortc_feedback_ignored_total",
            "RTCP feedback that nothing answers.",
            media.feedback_ignored,
        );
        self.recovery(&media.recovery);
        self.drops(stats);
        self.histograms(stats);
    }

    fn recovery(&mut self, recovery: &RecoveryStats) {
        self.labelled(
            "ortc_lost_packets_total",
            "Packets that publishers have sent in vain, by what happened: asked_for counts each \
             time that one was asked for.",
            "what",
            &[
                ("asked_for", recovery.asked_for),
                ("recovered", recovery.recovered),
                ("given_up", recovery.given_up),
            ],
        );
        self.labelled(
            "ortc_retransmissions_total",
            "Packets that subscribers have asked for again, by what became of it.",
            "what",
            &[
                ("retransmitted", recovery.retransmitted),
                ("unavailable", recovery.unavailable),
                ("too_soon", recovery.too_soon),
                ("over_budget", recovery.over_budget),
                ("not_sealed", recovery.not_sealed),
            ],
        );
    }

    fn drops(&mut self, stats: &ForwarderStats) {
        let (paths, media) = (&stats.paths, &stats.media);
        let (received, sent) = (&media.receive_drops, &media.send_drops);
        self.labelled(
            "ortc_receive_drops_total",
            "Packets received and dropped, by cause. The ring of a track that is only forwarded \
             is closed.",
            "cause",
            &[
                ("malformed", received.malformed),
                ("not_authentic", received.not_authentic),
                ("not_encrypted", received.not_encrypted),
                ("replayed", received.replayed),
                ("duplicate", received.duplicate),
                ("rtx_padding", media.recovery.padding),
                ("too_many_ssrcs", received.too_many_ssrcs),
                ("index_exhausted", received.index_exhausted),
                ("parked", received.parked),
                ("unknown_ssrc", received.unknown_ssrc),
                ("unknown_payload_type", received.unknown_payload_type),
                ("ring_full", received.ring_full),
                ("ring_closed", received.ring_closed),
                ("closed", received.closed),
                ("too_long", stats.too_long),
                ("orphaned", stats.orphaned),
                ("media_not_open", stats.media_not_open),
                ("unvalidated", paths.unvalidated),
                ("unknown_kind", paths.unknown),
                ("park_overflow", paths.park_overflow),
                ("events_full", stats.datagram_events_dropped),
                ("mailbox_full", stats.mailbox_full),
            ],
        );
        self.labelled(
            "ortc_send_drops_total",
            "Packets to be sent and dropped, by cause.",
            "cause",
            &[
                ("disabled", sent.disabled),
                ("no_keys", sent.no_keys),
                ("no_path", sent.no_path),
                ("not_forwarded", sent.not_forwarded),
                ("late", sent.late),
                ("silenced", sent.silenced),
                ("oversized", sent.oversized),
                ("other_layer", sent.other_layer),
                ("not_sealed", sent.not_sealed),
                ("rtcp", sent.rtcp),
                ("network", stats.send_dropped),
                ("control_no_path", paths.no_path),
                ("control_suspended", paths.suspended),
                ("control_foreign_socket", paths.foreign_socket),
                ("backlog", stats.backlog_datagrams_dropped),
            ],
        );
        self.labelled(
            "ortc_command_drops_total",
            "Commands to the media thread, and events of it, that were dropped, by cause.",
            "cause",
            &[
                ("stale", stats.stale_commands),
                ("refused_connection", stats.refused_connections),
                ("events_full", stats.state_events_dropped),
                ("backlog", stats.backlog_commands_dropped),
            ],
        );
        let consent = &stats.consent;
        self.labelled(
            "ortc_consent_total",
            "Consent of settled connections on the media thread (RFC 7675), by what happened.",
            "what",
            &[
                ("requested", consent.requests),
                ("confirmed", consent.confirmed),
                ("answered", consent.answered),
                ("forged", consent.forged),
                ("silent", consent.silent),
                ("refused", consent.refused),
            ],
        );
        let streams = &stats.streams;
        self.labelled(
            "ortc_streams_total",
            "Streams opened to the TCP ports for media, by what became of them.",
            "what",
            &[
                ("accepted", streams.accepted),
                ("taken", streams.taken),
                ("timed_out", streams.timed_out),
                ("displaced", streams.displaced),
                ("malformed", streams.malformed),
                ("unknown_username", streams.unknown_username),
                ("bad_integrity", streams.bad_integrity),
                ("refused", streams.refused),
            ],
        );
        self.counter(
            "ortc_panicked_connections_total",
            "Connections given up because handling them panicked.",
            stats.panicked_connections,
        );
    }

    fn histograms(&mut self, stats: &ForwarderStats) {
        let runs = &stats.runs;
        let lengths = runs.lengths.iter().zip(1u64..);
        let datagrams = lengths.clone().map(|(runs, length)| runs * length).sum();
        self.histogram(
            "ortc_run_datagrams",
            "Datagrams of one size to one address that were handed to the network together: \
             what one GSO send takes.",
            lengths.map(|(runs, length)| (length, *runs)),
            datagrams,
        );
        // The class n holds 2^n up to 2^(n+1) - 1 runs.
        let batches = runs.batches.iter().zip(1u32..);
        self.histogram(
            "ortc_batch_runs",
            "Runs that were handed to the network together.",
            batches.map(|(batches, class)| ((1u64 << class) - 1, *batches)),
            runs.lengths.iter().sum(),
        );
    }

    fn header(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.header(name, help, "gauge");
        self.line(format_args!("{name} {value}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.header(name, help, "counter");
        self.line(format_args!("{name} {value}"));
    }

    fn labelled(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.header(name, help, "counter");
        for (of, value) in values {
            self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
        }
    }

    /// A histogram of classes, each with its upper bound; the last one has none.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        classes: impl Iterator<Item = (u64, u64)>,
        sum: u64,
    ) {
        self.header(name, help, "histogram");
        let mut count = 0;
        let mut classes = classes.peekable();
        while let Some((bound, in_class)) = classes.next() {
            count += in_class;
            if classes.peek().is_some() {
                self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
            }
        }
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum {sum}"));
        self.line(format_args!("{name}_count {count}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use ortc_api::RunHistogram;

    use super::*;
    use crate::rooms::RoomCounts;

    fn now() -> RoomsNow {
        let counts = RoomCounts { joined: 7, ..RoomCounts::default() };
        RoomsNow { rooms: 1, members: 2, tracks: 3, counts }
    }

    #[test]
    fn every_line_is_a_comment_or_a_sample_and_no_name_comes_twice() {
        let stats = ForwarderStats::default();
        let page = render(now(), (4, PairCounts::default()), DoorCounts::default(), Some(&stats));
        let mut names = Vec::new();
        for line in page.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let (kind, rest) = comment.split_once(' ').unwrap();
                let name = rest.split(' ').next().unwrap();
                if kind == "TYPE" {
                    assert!(!names.contains(&name), "{name}");
                    names.push(name);
                }
                continue;
            }
            let (sample, value) = line.split_once(' ').unwrap();
            assert!(sample.starts_with(names.last().unwrap()), "{line}");
            value.parse::<f64>().unwrap();
        }
        for line in ["ortc_rooms 1", "ortc_room_members 2", "ortc_room_joins_total 7"] {
            assert!(page.lines().any(|other| other == line), "{line}");
        }
    }

    #[test]
    fn all_that_is_counted_is_told_of_in_the_manual() {
        let stats = ForwarderStats::default();
        let page = render(now(), (4, PairCounts::default()), DoorCounts::default(), Some(&stats));
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let manual = std::fs::read_to_string(root.join("docs/serve.md")).unwrap();
        let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        // Those of pairs are those of rooms.
        let names = names.filter(|name| !name.starts_with("ortc_pair_"));
        let told = |name: &str| {
            manual.contains(&format!("`{name}`")) || manual.contains(&format!("`{name}{{"))
        };
        assert_eq!(names.filter(|name| !told(name)).collect::<Vec<_>>(), [""; 0]);
        assert!(!told("ortc_rooms_total"), "the test tells names apart");
    }

    #[test]
    fn a_histogram_adds_up() {
        let mut runs = RunHistogram::default();
        (runs.lengths[0], runs.lengths[7], runs.lengths[15]) = (5, 2, 1);
        (runs.batches[0], runs.batches[2]) = (3, 1);
        let stats = ForwarderStats { runs, ..ForwarderStats::default() };
        let page = render(now(), (0, PairCounts::default()), DoorCounts::default(), Some(&stats));
        for line in [
            "ortc_run_datagrams_bucket{le=\"1\"} 5",
            "ortc_run_datagrams_bucket{le=\"7\"} 5",
            "ortc_run_datagrams_bucket{le=\"8\"} 7",
            "ortc_run_datagrams_bucket{le=\"+Inf\"} 8",
            "ortc_run_datagrams_sum 37",
            "ortc_run_datagrams_count 8",
            "ortc_batch_runs_bucket{le=\"1\"} 3",
            "ortc_batch_runs_bucket{le=\"3\"} 3",
            "ortc_batch_runs_bucket{le=\"7\"} 4",
            "ortc_batch_runs_bucket{le=\"+Inf\"} 4",
            "ortc_batch_runs_sum 8",
            "ortc_batch_runs_count 4",
        ] {
            assert!(page.lines().any(|other| other == line), "{line} in\n{page}");
        }
        assert!(!page.contains("le=\"16\""), "the last class has no bound");
    }

    #[test]
    fn a_media_thread_that_does_not_answer_is_seen() {
        let page = render(now(), (0, PairCounts::default()), DoorCounts::default(), None);
        assert!(page.lines().any(|line| line == "ortc_forwarder_up 0"));
        assert!(!page.contains("ortc_connections"));
    }
}
