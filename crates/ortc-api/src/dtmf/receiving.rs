//! Keys of the peer: from packets to digits.

use std::sync::Arc;

use ortc_dtmf::{ReceivedPacket, TelephoneEvent, ToneReceiver, ToneReceiverConfig};
use ortc_io::ring::{RingReceiver, ring};
use ortc_rtp::{
    PayloadType, RTCCodec, RTCTrackDescription, ReceivedTonePacket, ToneRoute, TrackKind,
};

use super::RTCDTMFHandler;
use super::engine::Tones;
use crate::codec;

/// Packets between the media thread and the control thread: five seconds of tones.
const TONE_RING: usize = 256;

/// A receiving track's tones on their way to the control thread.
pub(crate) struct ToneReception {
    tones: Arc<Tones>,
    packets: RingReceiver<ReceivedTonePacket>,
    /// The payload types of telephone events and their clock rates, those of the audio last.
    clock_rates: Vec<(PayloadType, u32)>,
}

impl ToneReception {
    /// Gets ready for the tones of a track that has been described, if it has a codec for them;
    /// `label` names the track.
    pub(crate) fn of(description: &RTCTrackDescription, label: &str) -> Option<(ToneRoute, Self)> {
        if description.kind != TrackKind::Audio {
            return None;
        }
        let (dtmf, audio): (Vec<_>, Vec<_>) =
            description.codecs.iter().partition(|codec| codec::is_dtmf(codec));
        let payload_types: Vec<_> = dtmf.iter().map(|codec| codec.payload_type()).collect();
        if payload_types.is_empty() {
            return None;
        }
        let clock =
            |codec: &RTCCodec| Some((codec.payload_type(), description.clock_rate_of(codec)?));
        let clock_rates = dtmf.into_iter().chain(audio).filter_map(clock).collect();
        let (sender, packets) = ring(TONE_RING);
        let route = ToneRoute { payload_types, packets: sender };
        Some((route, Self { tones: Tones::receiving(label), packets, clock_rates }))
    }

    /// The keys that come.
    pub(crate) fn tones(&self) -> &Arc<Tones> {
        &self.tones
    }

    /// The face of draft B.
    pub(crate) fn handler(&self) -> RTCDTMFHandler {
        RTCDTMFHandler::of(&self.tones)
    }

    /// Recognises keys on the control thread, until the track or its connection is gone.
    pub(crate) async fn run(mut self) {
        let mut receiver = ToneReceiver::new(ToneReceiverConfig::default());
        let mut changed = self.tones.changed.subscribe();
        loop {
            self.tones.apply_changes();
            while let Some(report) = receiver.poll_output() {
                self.tones.tell(&report);
            }
            let due = receiver.poll_timeout().map(|(due, _)| due);
            let is_due = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                packet = self.packets.recv() => match packet {
                    Some(packet) => self.take(&mut receiver, &packet),
                    None => return,
                },
                still = changed.changed() => if still.is_err() { return },
                () = is_due => receiver.handle_timeout(ortc_io::now()),
            }
        }
    }

    fn take(&self, receiver: &mut ToneReceiver, received: &ReceivedTonePacket) {
        let ReceivedTonePacket { packet, previous, gap_at } = received;
        let described = self.clock_rates.iter().find(|(known, _)| *known == packet.payload_type);
        let clock_rate = match (described, self.clock_rates.first()) {
            (Some((_, rate)), _) => *rate,
            // Some peers send another payload type than they describe.
            (None, Some((_, rate))) if TelephoneEvent::is_likely_digit(&packet.payload) => *rate,
            (None, _) => return,
        };
        let at = packet.received_at;
        if let Some(previous) = previous {
            // As of the last gap, so that a loss long ago holds no digit back.
            receiver.handle_other(gap_at.unwrap_or(at), *previous as u16);
        }
        let packet = ReceivedPacket {
            sequence: packet.sequence as u16,
            timestamp: packet.timestamp,
            marker: packet.marker,
            clock_rate,
            payload: &packet.payload,
        };
        if let Err(error) = receiver.handle_packet(at, &packet) {
            tracing::debug!(%error, "a malformed telephone event");
        }
    }
}

impl Drop for ToneReception {
    fn drop(&mut self) {
        self.tones.close();
    }
}
