use std::time::Duration;

use ortc_io::paths::{PathStats, SharedStats};
use ortc_io::{ConsentStats, ListenerStats, SendBatch};
use ortc_rtp::{DatagramCounts, SessionStats};

/// What a forwarder has done and dropped since it started.
///
/// Every datagram, command or event that it lets fall is counted in exactly one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwarderStats {
    /// Connections that there are now.
    pub connections: u64,
    /// Sockets that there are now.
    pub sockets: u64,

    /// CPU time that its thread has used; zero where it has none, in virtual time.
    pub cpu: Duration,
    /// What of it went into the steps of forwarding, where that is measured.
    pub steps: StepTimes,
    /// Datagrams taken from the network.
    pub received: u64,
    /// Datagrams that the network took.
    pub sent: u64,
    /// Datagrams that the network did not take.
    pub send_dropped: u64,
    /// System calls made for sending.
    pub send_calls: u64,

    /// How many datagrams were handed over together.
    pub runs: RunHistogram,

    /// Packets handed to other forwarders, once for each of them.
    pub crossed: u64,
    /// Of those, dropped because the other one was too slow: the oldest first.
    pub crossed_dropped: u64,

    /// Datagrams longer than any that is taken.
    pub too_long: u64,
    /// Datagrams, received or to be sent, of a connection that is gone.
    pub orphaned: u64,
    /// RTP or RTCP for a connection that is not open for media.
    pub media_not_open: u64,
    /// Times that ICE was to look after a path on which media has stopped coming.
    pub paths_doubted: u64,

    /// Commands for a connection or generation that is gone, or that came twice.
    pub stale_commands: u64,
    /// Among them, keys: zeroized.
    pub stale_keys: u64,
    /// Connections refused because there were as many as allowed.
    pub refused_connections: u64,
    /// STUN and DTLS datagrams that the control plane was too slow for.
    pub datagram_events_dropped: u64,
    /// Other events that it was too slow for.
    pub state_events_dropped: u64,
    /// Control datagrams that the actor dropped because the command queue was full.
    pub backlog_datagrams_dropped: u64,
    /// Other commands that it dropped because its backlog was full as well.
    pub backlog_commands_dropped: u64,
    /// STUN and DTLS datagrams for which the mailbox of the protocol actor had no room.
    pub mailbox_full: u64,
    /// What was dropped and parked for want of a trusted path, over all connections, those
    /// that have ended included.
    pub paths: PathStats,
    /// What has come in on shared sockets and was nobody's.
    pub shared: SharedStats,
    /// Consent of settled paths, asked for and given on the thread.
    pub consent: ConsentStats,
    /// Streams that peers have opened to ports of single connections, closed ones included.
    pub streams: ListenerStats,
    /// What the sessions of all connections have counted, ended ones included.
    pub media: SessionStats,
    /// RTP and RTCP of all connections as they went over the network, ended ones included.
    pub media_datagrams: DatagramCounts,
    /// Connections that were given up because handling them panicked.
    pub panicked_connections: u64,
}

/// CPU time of the steps of forwarding. What a thread uses beyond is for waking up, receiving,
/// commands and events.
///
/// All zero unless [`ForwarderConfig::time_steps`](crate::ForwarderConfig::time_steps) is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepTimes {
    /// Finding the connection of what has come, authenticating and decrypting it.
    pub open: Duration,
    /// Finding the subscribers, and writing and sealing a packet for each.
    pub seal: Duration,
    /// Handing what is to be sent to the network.
    pub send: Duration,
}

impl StepTimes {
    fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.seal += other.seal;
        self.send += other.send;
    }
}

/// How long the runs of datagrams were that were handed to the network: what GSO can do about
/// the cost of sending depends on nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunHistogram {
    /// `lengths[n]` runs had `n + 1` datagrams; at most 16.
    pub lengths: [u64; 16],
    /// `batches[n]` batches had `2^n` runs or more, and less than twice as many; the last one
    /// counts all that are longer.
    pub batches: [u64; 8],
}

impl RunHistogram {
    pub(crate) fn record(&mut self, batch: &SendBatch) {
        for length in batch.run_lengths() {
            self.lengths[length.clamp(1, self.lengths.len()) - 1] += 1;
        }
        let class = batch.runs().max(1).ilog2() as usize;
        self.batches[class.min(self.batches.len() - 1)] += 1;
    }
}

impl ForwarderStats {
    /// Adds what another forwarder has counted.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.sockets += other.sockets;
        self.cpu += other.cpu;
        self.steps.add(&other.steps);
        self.received += other.received;
        self.sent += other.sent;
        self.send_dropped += other.send_dropped;
        self.send_calls += other.send_calls;
        let Self { runs, shared, .. } = other;
        for (sum, one) in self.runs.lengths.iter_mut().zip(runs.lengths) {
            *sum += one;
        }
        for (sum, one) in self.runs.batches.iter_mut().zip(runs.batches) {
            *sum += one;
        }
        self.crossed += other.crossed;
        self.crossed_dropped += other.crossed_dropped;
        self.too_long += other.too_long;
        self.orphaned += other.orphaned;
        self.media_not_open += other.media_not_open;
        self.stale_commands += other.stale_commands;
        self.stale_keys += other.stale_keys;
        self.refused_connections += other.refused_connections;
        self.datagram_events_dropped += other.datagram_events_dropped;
        self.state_events_dropped += other.state_events_dropped;
        self.backlog_datagrams_dropped += other.backlog_datagrams_dropped;
        self.backlog_commands_dropped += other.backlog_commands_dropped;
        self.mailbox_full += other.mailbox_full;
        self.add_paths(&other.paths);
        self.shared.malformed += shared.malformed;
        self.shared.unknown_username += shared.unknown_username;
        self.shared.unknown_transaction += shared.unknown_transaction;
        self.shared.strangers += shared.strangers;
        self.shared.unknown += shared.unknown;
        self.shared.held += shared.held;
        self.shared.held_dropped += shared.held_dropped;
        self.add_consent(&other.consent);
        self.streams.add(&other.streams);
        self.media.add(&other.media);
        self.media_datagrams.add(&other.media_datagrams);
        self.panicked_connections += other.panicked_connections;
    }

    fn add_consent(&mut self, one: &ConsentStats) {
        let all = &mut self.consent;
        all.kept += one.kept;
        all.delegated += one.delegated;
        all.requests += one.requests;
        all.confirmed += one.confirmed;
        all.answered += one.answered;
        all.forged += one.forged;
        all.silent += one.silent;
        all.refused += one.refused;
    }

    pub(crate) fn add_paths(&mut self, one: &PathStats) {
        let all = &mut self.paths;
        all.parked += one.parked;
        all.released += one.released;
        all.park_overflow += one.park_overflow;
        all.unvalidated += one.unvalidated;
        all.unknown += one.unknown;
        all.no_path += one.no_path;
        all.suspended += one.suspended;
        all.foreign_socket += one.foreign_socket;
        all.taken += one.taken;
    }
}
