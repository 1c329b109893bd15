use ortc_io::prefetch;

use crate::{RtpError, SrtpError};

/// What an [`RtpSession`](crate::RtpSession) has counted since it was made.
///
/// Every packet that it was given or asked to send shows in one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// RTP packets sealed and handed out.
    pub rtp_sent: u64,
    /// Of those, packets of other sessions that were forwarded.
    pub rtp_forwarded: u64,
    /// Bytes of padding in those, added so that packets are of one size.
    pub padding_bytes: u64,
    /// Packets of nothing but padding, which probe for more bandwidth; they are in no other count.
    pub padding_sent: u64,
    /// RTCP compounds sealed and handed out.
    pub rtcp_sent: u64,
    /// RTP packets of known tracks that were opened and handed to the application.
    pub rtp_received: u64,
    /// RTCP compounds opened.
    pub rtcp_received: u64,
    /// Key frames that the peer was asked for.
    pub key_frames_requested: u64,
    /// Feedback packets (RFC 4585) in those, which nothing answers yet.
    pub feedback_ignored: u64,
    /// Packets that were lost, and sent again.
    pub recovery: RecoveryStats,
    /// What was received and dropped.
    pub receive_drops: ReceiveDrops,
    /// What was to be sent and was dropped.
    pub send_drops: SendDrops,
}

/// What became of lost packets, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryStats {
    /// Times that the peer was asked for a packet.
    pub asked_for: u64,
    /// Packets that came after they had been asked for.
    pub recovered: u64,
    /// Packets that were not waited for any longer.
    pub given_up: u64,
    /// Packets of nothing but padding on a stream of what is sent again.
    pub padding: u64,
    /// Times that the peer has asked for a packet. Each of them shows in one of those below.
    pub asked: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Not sent again: they were no longer kept, or never had been.
    pub unavailable: u64,
    /// Not sent again: they had been, less than a round trip before.
    pub too_soon: u64,
    /// Not sent again: it would have been more than half of what is sent.
    pub over_budget: u64,
    /// Not sent again: sealing failed.
    pub not_sealed: u64,
}

/// What was received and dropped, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveDrops {
    /// No packet at all, or an authentic one that is malformed.
    pub malformed: u64,
    /// The tag is wrong: other keys, or somebody in between.
    pub not_authentic: u64,
    /// SRTCP without encryption.
    pub not_encrypted: u64,
    /// Seen before, or older than the replay window.
    pub replayed: u64,
    /// Has come before, and was sent again for nothing.
    pub duplicate: u64,
    /// Of an SSRC beyond the 512 that have state, or beyond the 32 that may be undescribed.
    pub too_many_ssrcs: u64,
    /// The index ran out.
    pub index_exhausted: u64,
    /// Came before the keys, and more than 64 or longer than 200 ms before.
    pub parked: u64,
    /// Authentic, of an SSRC that nobody has described in time, or that was let go of.
    pub unknown_ssrc: u64,
    /// Of a payload type that was not described.
    pub unknown_payload_type: u64,
    /// The application has not kept up.
    pub ring_full: u64,
    /// The application is gone.
    pub ring_closed: u64,
    /// Came after the session was closed.
    pub closed: u64,
}

/// What was to be sent and was dropped, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendDrops {
    /// The sender is disabled.
    pub disabled: u64,
    /// There are no keys yet.
    pub no_keys: u64,
    /// There is no path.
    pub no_path: u64,
    /// Of a payload type that is not forwarded.
    pub not_forwarded: u64,
    /// Of another layer than the one that the peer is sent.
    pub other_layer: u64,
    /// Forwarded too late: from before a pause or a change of the source.
    pub late: u64,
    /// Audio while a tone of the same track sounds (RFC 4733 §2.4), whatever else would have kept it
    /// back.
    pub silenced: u64,
    /// Longer than an Ethernet frame.
    pub oversized: u64,
    /// Sealing failed: the index ran out, or too many SSRCs.
    pub not_sealed: u64,
    /// RTCP that was not fetched in time.
    pub rtcp: u64,
}

impl SessionStats {
    /// Has the processor fetch what is counted of each packet that is forwarded.
    #[inline]
    pub(super) fn prefetch_forwarded(&self) {
        prefetch(&self.rtp_sent);
        prefetch(&self.rtp_forwarded);
        prefetch(&self.padding_bytes);
    }

    /// Adds what another session has counted.
    pub fn add(&mut self, other: &Self) {
        let Self { receive_drops, send_drops, .. } = other;
        self.rtp_sent += other.rtp_sent;
        self.rtp_forwarded += other.rtp_forwarded;
        self.padding_bytes += other.padding_bytes;
        self.padding_sent += other.padding_sent;
        self.rtcp_sent += other.rtcp_sent;
        self.rtp_received += other.rtp_received;
        self.rtcp_received += other.rtcp_received;
        self.key_frames_requested += other.key_frames_requested;
        self.feedback_ignored += other.feedback_ignored;
        self.recovery.add(&other.recovery);
        let drops = &mut self.receive_drops;
        drops.duplicate += receive_drops.duplicate;
        drops.malformed += receive_drops.malformed;
        drops.not_authentic += receive_drops.not_authentic;
        drops.not_encrypted += receive_drops.not_encrypted;
        drops.replayed += receive_drops.replayed;
        drops.too_many_ssrcs += receive_drops.too_many_ssrcs;
        drops.index_exhausted += receive_drops.index_exhausted;
        drops.parked += receive_drops.parked;
        drops.unknown_ssrc += receive_drops.unknown_ssrc;
        drops.unknown_payload_type += receive_drops.unknown_payload_type;
        drops.ring_full += receive_drops.ring_full;
        drops.ring_closed += receive_drops.ring_closed;
        drops.closed += receive_drops.closed;
        let drops = &mut self.send_drops;
        drops.disabled += send_drops.disabled;
        drops.no_keys += send_drops.no_keys;
        drops.no_path += send_drops.no_path;
        drops.not_forwarded += send_drops.not_forwarded;
        drops.late += send_drops.late;
        drops.silenced += send_drops.silenced;
        drops.oversized += send_drops.oversized;
        drops.other_layer += send_drops.other_layer;
        drops.not_sealed += send_drops.not_sealed;
        drops.rtcp += send_drops.rtcp;
    }
}

impl SendDrops {
    /// All of them, but for those of other layers, which nobody misses.
    pub fn total(&self) -> u64 {
        let Self {
            other_layer: _,
            disabled,
            no_keys,
            no_path,
            not_forwarded,
            late,
            silenced,
            oversized,
            not_sealed,
            rtcp,
        } = *self;
        disabled
            + no_keys
            + no_path
            + not_forwarded
            + late
            + silenced
            + oversized
            + not_sealed
            + rtcp
    }
}

impl RecoveryStats {
    fn add(&mut self, other: &Self) {
        self.asked_for += other.asked_for;
        self.recovered += other.recovered;
        self.given_up += other.given_up;
        self.padding += other.padding;
        self.asked += other.asked;
        self.retransmitted += other.retransmitted;
        self.unavailable += other.unavailable;
        self.too_soon += other.too_soon;
        self.over_budget += other.over_budget;
        self.not_sealed += other.not_sealed;
    }
}

impl ReceiveDrops {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self {
            malformed,
            not_authentic,
            not_encrypted,
            replayed,
            duplicate,
            too_many_ssrcs,
            index_exhausted,
            parked,
            unknown_ssrc,
            unknown_payload_type,
            ring_full,
            ring_closed,
            closed,
        } = *self;
        malformed
            + not_authentic
            + not_encrypted
            + replayed
            + duplicate
            + too_many_ssrcs
            + index_exhausted
            + parked
            + unknown_ssrc
            + unknown_payload_type
            + ring_full
            + ring_closed
            + closed
    }

    /// Counts a packet that was not opened.
    pub(super) fn count(&mut self, error: SrtpError) {
        let counter = match error {
            SrtpError::NotAuthentic => &mut self.not_authentic,
            SrtpError::NotEncrypted => &mut self.not_encrypted,
            SrtpError::Replayed => &mut self.replayed,
            SrtpError::TooManySsrcs => &mut self.too_many_ssrcs,
            SrtpError::IndexExhausted => &mut self.index_exhausted,
            SrtpError::Malformed(_)
            | SrtpError::KeyLength
            | SrtpError::NoRoom
            | SrtpError::NotIdentical => &mut self.malformed,
        };
        *counter += 1;
    }

    pub(super) fn count_malformed(&mut self, error: RtpError) {
        tracing::trace!(%error, "an authentic packet is malformed");
        self.malformed += 1;
    }
}
