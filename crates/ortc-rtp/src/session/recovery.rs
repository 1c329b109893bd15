//! Packets of receiving tracks that are missing: asked for, put back, given up.

use std::time::Instant;

use super::RtpSession;
use super::inbound::Receiver;
use crate::stream::{Arrival, LossTracker};
use crate::view::{PADDED, u16_at};
use crate::{KeyFrameFeedback, PayloadType, RecoverConfig, RtpOpened, RtxStream, Ssrc};

/// Bytes of the original's sequence number in front of what is sent again (RFC 4588 §4).
pub(super) const ORIGINAL_NUMBER: usize = 2;

/// What is missing of a receiving track, and how it is asked for.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) tracker: LossTracker,
    asks: bool,
    /// Whether only a key frame makes good what was given up.
    needs_key_frames: bool,
    rtx: Option<RtxStream>,
}

impl RtpSession {
    /// Has lost packets of a receiving track be asked for as `config` says, and taken where they
    /// are sent again; in place of what was said before. An SSRC that is none is ignored.
    pub fn recover_receiver(&mut self, config: RecoverConfig) {
        let RecoverConfig { ssrc, nack, key_frames, rtx } = config;
        self.rtx_receivers.retain(|(_, original)| *original != ssrc);
        let Some(receiver) = self.receiver_mut(ssrc) else { return };
        receiver.key_frames.is_full_intra = key_frames == KeyFrameFeedback::FullIntraRequest;
        let rtx_ssrc = rtx.as_ref().map(|rtx| rtx.ssrc);
        receiver.recovery = (nack || rtx.is_some()).then(|| {
            let before = receiver.recovery.take();
            let mut tracker = before.map(|before| before.tracker).unwrap_or_default();
            tracker.expect_rtx(rtx.is_some());
            let needs_key_frames = nack && key_frames != KeyFrameFeedback::None;
            Box::new(Recovery { tracker, asks: nack, needs_key_frames, rtx })
        });
        if let Some(rtx) = rtx_ssrc {
            let at = self.rtx_receivers.partition_point(|(other, _)| *other < rtx);
            self.rtx_receivers.insert(at, (rtx, ssrc));
        }
    }

    /// Forgets what was sent again of a track; what still comes of that is dropped.
    pub(super) fn forget_recovery(&mut self, ssrc: Ssrc) {
        let of_track = |(_, original): &mut (Ssrc, Ssrc)| *original == ssrc;
        for (rtx, _) in self.rtx_receivers.extract_if(.., of_track).collect::<Vec<_>>() {
            self.let_go(rtx);
        }
    }

    /// Whether packets of a described track are sent again on this SSRC.
    pub(super) fn is_sent_again(&self, ssrc: Ssrc) -> bool {
        self.rtx_receivers.iter().any(|(rtx, _)| *rtx == ssrc)
    }

    /// Takes note of an opened packet, and makes the original of one that was sent again, which
    /// then stands in its place. `None` for one that has come before, or has nothing in it.
    pub(super) fn restore(
        &mut self,
        now: Instant,
        opened: RtpOpened,
        packet: &mut [u8],
    ) -> Option<RtpOpened> {
        let is_rtx = |(rtx, _): &&(Ssrc, Ssrc)| *rtx == opened.ssrc;
        if let Some((_, original)) = self.rtx_receivers.iter().find(is_rtx) {
            let original = *original;
            return self.restore_original(now, original, opened, packet);
        }
        let Some(recovery) = self.recovery_mut(opened.ssrc) else { return Some(opened) };
        let arrival = recovery.tracker.on_packet(now, opened.index, false);
        self.count_arrival(now, opened.ssrc, arrival)?;
        Some(opened)
    }

    fn restore_original(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        opened: RtpOpened,
        packet: &mut [u8],
    ) -> Option<RtpOpened> {
        let RtpOpened { len, header_len, .. } = opened;
        let packet = &mut packet[..len];
        let padding = if packet[0] & PADDED == 0 { 0 } else { usize::from(packet[len - 1]) };
        let recovery = self.recovery_mut(ssrc)?;
        if len < header_len + ORIGINAL_NUMBER + padding {
            // Senders probe with padding on this SSRC.
            self.stats.recovery.padding += 1;
            return None;
        }
        let sent_as = PayloadType(packet[1] & 0x7f);
        let types = recovery.rtx.iter().flat_map(|rtx| &rtx.payload_types);
        let Some((payload_type, _)) = types.copied().find(|(_, rtx)| *rtx == sent_as) else {
            self.stats.receive_drops.unknown_payload_type += 1;
            return None;
        };
        let sequence = u16_at(packet, header_len);
        let index = recovery.tracker.index_of(sequence)?;
        let arrival = recovery.tracker.on_packet(now, index, true);
        self.count_arrival(now, ssrc, arrival)?;
        if let Some(receiver) = self.receiver_mut(ssrc) {
            receiver.stream.note_recovered();
        }
        packet.copy_within(header_len + ORIGINAL_NUMBER.., header_len);
        packet[1] = packet[1] & 0x80 | payload_type.0;
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
        Some(RtpOpened { len: len - ORIGINAL_NUMBER, header_len, index, ssrc })
    }

    /// Counts a packet; `None` for one that is of no use.
    fn count_arrival(&mut self, now: Instant, ssrc: Ssrc, arrival: Arrival) -> Option<()> {
        match arrival {
            Arrival::New => {}
            Arrival::Recovered => self.stats.recovery.recovered += 1,
            Arrival::Duplicate => {
                self.stats.receive_drops.duplicate += 1;
                return None;
            }
        }
        self.tell_of_given_up(now, ssrc);
        Some(())
    }

    fn recovery_mut(&mut self, ssrc: Ssrc) -> Option<&mut Recovery> {
        self.receiver_mut(ssrc)?.recovery.as_deref_mut()
    }

    /// When lost packets are to be asked for.
    pub(super) fn recovery_timeout(&self) -> Option<(Instant, &'static str)> {
        let asks = |receiver: &Receiver| {
            let recovery = receiver.recovery.as_ref().filter(|recovery| recovery.asks)?;
            recovery.tracker.poll_timeout()
        };
        let at = self.receivers.iter().filter_map(asks).min()?;
        Some((at, "lost packets are to be asked for"))
    }

    /// Asks for lost packets that are due.
    pub(super) fn ask_for_lost(&mut self, now: Instant) {
        if self.keys.is_none() {
            return;
        }
        let mut lost = std::mem::take(&mut self.lost);
        for at in 0..self.receivers.len() {
            let hint = self.round_trip_hint();
            let receiver = &mut self.receivers[at];
            let ssrc = receiver.ssrc();
            let Some(recovery) = receiver.recovery.as_mut().filter(|recovery| recovery.asks) else {
                continue;
            };
            if let Some(hint) = hint {
                recovery.tracker.hint_round_trip(hint);
            }
            recovery.tracker.poll(now, &mut lost);
            if !lost.is_empty() {
                let compounds = self.reporter.nacks(ssrc, &lost);
                receiver.stream.note_nacks(compounds.len() as u64);
                self.stats.recovery.asked_for += lost.len() as u64;
                self.queue(compounds);
                lost.clear();
            }
            self.tell_of_given_up(now, ssrc);
        }
        self.lost = lost;
    }

    /// What the reports of the peer say about the time there and back.
    fn round_trip_hint(&self) -> Option<std::time::Duration> {
        self.senders.iter().find_map(|sender| sender.stream.stats().remote?.round_trip)
    }

    /// Asks for a key frame where packets have been given up that cannot be done without.
    fn tell_of_given_up(&mut self, now: Instant, ssrc: Ssrc) {
        let Some(receiver) = self.receiver_mut(ssrc) else { return };
        let Some(recovery) = &mut receiver.recovery else { return };
        let given_up = recovery.tracker.take_given_up();
        if given_up == 0 {
            return;
        }
        let needs_key_frame = recovery.needs_key_frames;
        receiver.stream.note_given_up(given_up);
        self.stats.recovery.given_up += given_up;
        if needs_key_frame {
            self.request_key_frame(now, ssrc);
        }
    }

    /// Forgets what has come and gone under other keys: its numbers began anew.
    pub(super) fn reset_recovery(&mut self) {
        for receiver in &mut self.receivers {
            if let Some(recovery) = &mut receiver.recovery {
                recovery.tracker = LossTracker::new();
                recovery.tracker.expect_rtx(recovery.rtx.is_some());
            }
        }
        for sender in &mut self.senders {
            if let Some(retransmitter) = &mut sender.retransmitter {
                retransmitter.forget();
            }
        }
    }
}
