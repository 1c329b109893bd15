//! What a session knows of its streams at one moment, for statistics.

use std::time::{Duration, Instant};

use ortc_io::prefetch;

use super::outbound::Feed;
use super::{RtpSession, SessionStats};
use crate::{
    PayloadType, QualityLimitations, ReceiveStreamStats, RedundancyCounts, SendStreamStats, Ssrc,
    TrackSource,
};

/// The media of one connection at one moment.
///
/// It is a copy: to make one costs some 200 bytes for each track, and holds up nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionSnapshot {
    /// When it was taken, as NTP time, 32.32 bits.
    pub ntp: u64,
    /// RTP and RTCP as they went over the network.
    pub datagrams: DatagramCounts,
    /// What the whole session has counted.
    pub totals: SessionStats,
    /// The tracks that are sent, by SSRC.
    pub senders: Vec<SenderSnapshot>,
    /// The tracks that are received, by SSRC.
    pub receivers: Vec<ReceiverSnapshot>,
    /// What may be sent, in bits per second, all tracks together; `None` before the peer has said
    /// anything about what has come.
    pub available_outgoing: Option<u64>,
    /// What the peer may send, if that is found out here and told as a cap (REMB).
    pub available_incoming: Option<u64>,
}

/// RTP and RTCP as they go over the network: sealed, without the headers of UDP and IP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatagramCounts {
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Datagrams received, whatever became of them.
    pub received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

impl DatagramCounts {
    /// Adds what another session has counted.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.bytes_sent += other.bytes_sent;
        self.received += other.received;
        self.bytes_received += other.bytes_received;
    }

    /// Has the processor fetch what is counted of what is sent.
    #[inline]
    pub(super) fn prefetch_sent(&self) {
        prefetch(&self.sent);
        prefetch(&self.bytes_sent);
    }

    pub(super) fn count_sent(&mut self, len: usize) {
        self.count_all_sent(1, len as u64);
    }

    pub(super) fn count_all_sent(&mut self, datagrams: u64, bytes: u64) {
        self.sent += datagrams;
        self.bytes_sent += bytes;
    }
}

/// A track that is sent, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderSnapshot {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The payload type that it is sent with.
    pub payload_type: PayloadType,
    /// In Hz.
    pub clock_rate: u32,
    /// Whether it is being sent.
    pub enabled: bool,
    /// Where it comes from, if it is forwarded.
    pub source: Option<TrackSource>,
    /// What keeps it from being sent better; `None` of sound.
    pub quality: Option<QualityLimitations>,
    /// What was sent, and what the peer says about it.
    pub stats: SendStreamStats,
}

/// A track that is received, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverSnapshot {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The payload type of the packet that came last, and its clock rate in Hz.
    pub payload_type: Option<(PayloadType, u32)>,
    /// How long ago a packet came last.
    pub last_packet: Option<Duration>,
    /// Key frames that the peer was asked for.
    pub key_frames_requested: u64,
    /// Whether it was asked for them by FIR (RFC 5104 §4.3.1), and not by PLI.
    pub asks_by_full_intra: bool,
    /// What is sent again of it comes with this SSRC (RFC 4588), once that is known.
    pub rtx_ssrc: Option<Ssrc>,
    /// What its packets have repeated (RFC 2198).
    pub redundancy: RedundancyCounts,
    /// What has come.
    pub stats: ReceiveStreamStats,
}

impl RtpSession {
    /// RTP and RTCP as they went over the network.
    pub fn datagrams(&self) -> &DatagramCounts {
        &self.datagrams
    }

    /// How many packets of RTP and RTCP were opened, so that they are the peer's.
    pub fn authentic(&self) -> u64 {
        self.authentic
    }

    fn rtx_of(&self, ssrc: Ssrc) -> Option<Ssrc> {
        let mut known = self.rtx_receivers.iter();
        known.find(|(_, original)| *original == ssrc).map(|(rtx, _)| *rtx)
    }

    /// Copies what is known at `now`.
    pub fn snapshot(&self, now: Instant) -> SessionSnapshot {
        let sender = |sender: &super::Sender| SenderSnapshot {
            ssrc: sender.ssrc(),
            payload_type: sender.stream.payload_type(),
            clock_rate: sender.stream.clock_rate(),
            enabled: sender.enabled,
            source: match &sender.feed {
                Feed::Forward(forward) => Some(forward.source),
                Feed::Ring(_) => None,
            },
            quality: sender.limitations(now),
            stats: *sender.stream.stats(),
        };
        let receiver = |receiver: &super::Receiver| {
            let last = receiver.stream.last_packet();
            ReceiverSnapshot {
                ssrc: receiver.ssrc(),
                payload_type: last.map(|(_, payload_type, clock_rate)| (payload_type, clock_rate)),
                last_packet: last.map(|(at, ..)| now.saturating_duration_since(at)),
                key_frames_requested: receiver.key_frames.requested(),
                asks_by_full_intra: receiver.key_frames.is_full_intra,
                rtx_ssrc: self.rtx_of(receiver.ssrc()),
                redundancy: receiver.repair.as_ref().map(|it| it.counts()).unwrap_or_default(),
                stats: receiver.stream.stats(),
            }
        };
        SessionSnapshot {
            ntp: self.clock.ntp(now),
            datagrams: self.datagrams,
            totals: self.stats,
            senders: self.senders.iter().map(sender).collect(),
            receivers: self.receivers.iter().map(receiver).collect(),
            available_outgoing: self.available_outgoing_bitrate(),
            available_incoming: self.available_incoming_bitrate(),
        }
    }
}
