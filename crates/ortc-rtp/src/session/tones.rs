//! Telephone events among the audio of a track (RFC 4733 §2.1), in both directions.

use std::time::Instant;

use ortc_io::ring::RingReceiver;

use super::RtpSession;
use super::inbound::Receiver;
use super::outbound::Feed;
use crate::stream::{TonePlacer, ToneSplitter};
use crate::{ReceiverUpdate, Ssrc, TonePacket, ToneRoute};

/// Routes for tones whose tracks have not been added yet: one comes right before its track.
const MAX_ROUTES: usize = 16;

/// Tones of a sending track, in between its audio.
#[derive(Debug)]
pub(super) struct SendTones {
    pub(super) packets: RingReceiver<TonePacket>,
    pub(super) placer: TonePlacer,
}

impl RtpSession {
    /// Takes tones for a sending track: they go out with its SSRC and the next sequence numbers,
    /// timed by when they began, and its audio is dropped, counted, while one sounds. An SSRC
    /// that is none is ignored: its ring is dropped.
    pub fn send_tones(&mut self, ssrc: Ssrc, packets: RingReceiver<TonePacket>) {
        if let Some(sender) = self.sender_mut(ssrc) {
            sender.tones = Some(SendTones { packets, placer: TonePlacer::default() });
        }
    }

    /// Has the tones of a receiving track, or of one that is added next, go where `route` says,
    /// and not to the reader of the audio.
    pub fn receive_tones(&mut self, ssrc: Ssrc, route: ToneRoute) {
        match self.receiver_mut(ssrc) {
            Some(receiver) => receiver.tones = Some(ToneSplitter::new(route)),
            None => {
                if self.tone_routes.len() == MAX_ROUTES {
                    self.tone_routes.remove(0);
                }
                self.tone_routes.push((ssrc, route));
            }
        }
    }

    /// Takes packets of other payload types of a receiving track from now on; all else about it
    /// stays. An SSRC that is none is ignored.
    pub fn update_receiver(&mut self, update: ReceiverUpdate) {
        let ReceiverUpdate { ssrc, payload_types, tones } = update;
        if let Some(receiver) = self.receiver_mut(ssrc) {
            receiver.stream.set_payload_types(payload_types);
            if let Some(splitter) = &mut receiver.tones {
                splitter.set_payload_types(tones);
            }
        }
    }

    /// Gives a new receiver the route that has come before it.
    pub(super) fn route_tones(&mut self, receiver: &mut Receiver) {
        let ssrc = receiver.ssrc();
        if let Some(at) = self.tone_routes.iter().rposition(|(of, _)| *of == ssrc) {
            let (_, route) = self.tone_routes.remove(at);
            receiver.tones = Some(ToneSplitter::new(route));
        }
    }
}

impl super::outbound::Sender {
    /// Drops a packet of audio while a tone sounds, keeping the time that it tells.
    pub(super) fn is_silenced(&mut self, now: Instant, timestamp: u64) -> bool {
        if !self.tones.as_ref().is_some_and(|tones| tones.placer.is_sounding(now)) {
            return false;
        }
        if let Feed::Ring(_) = self.feed {
            self.stream.note_silenced(now, timestamp);
        }
        true
    }
}
