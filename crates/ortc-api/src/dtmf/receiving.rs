//! Keys of the peer: from packets to digits.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use ortc_dtmf::{ReceivedPacket, TelephoneEvent, ToneReceiver, ToneReceiverConfig};
use ortc_io::ring::{RingReceiver, ring};
use ortc_rtp::{
    PayloadType, RTCCodec, RTCTrackDescription, ReceivedTonePacket, RtpCommand, Tap,
    TonePayloadTypes, ToneRoute, TrackKind,
};

use super::RTCDTMFHandler;
use super::engine::Tones;
use super::in_band::ToneHearing;
use crate::codec;
use crate::described::Described;

/// Packets between the media thread and the control thread: five seconds of tones.
const TONE_RING: usize = 256;

/// Packets of sound between them: half a second, and no tone is heard later than that.
const SOUND_RING: usize = 32;

/// A receiving track's tones on their way to the control thread.
pub(crate) struct ToneReception {
    tones: Arc<Tones>,
    packets: RingReceiver<ReceivedTonePacket>,
    /// The sound, where tones are in it.
    hearing: Option<ToneHearing>,
    described: Arc<Described>,
    described_as: u32,
    types: Types,
}

/// What has tones come here: before the track is received, and after.
#[derive(Default)]
pub(crate) struct ToneRoutes {
    pub(crate) before: Option<RtpCommand>,
    pub(crate) after: Option<RtpCommand>,
}

/// What the packets of a track are known by.
struct Types {
    tones: TonePayloadTypes,
    /// The payload types of telephone events and their clock rates, then those of the audio.
    clock_rates: Vec<(PayloadType, u32)>,
}

impl Types {
    fn of(description: &RTCTrackDescription) -> Self {
        let (dtmf, audio): (Vec<_>, Vec<_>) =
            description.codecs.iter().partition(|codec| codec::is_dtmf(codec));
        let clock =
            |codec: &RTCCodec| Some((codec.payload_type(), description.clock_rate_of(codec)?));
        let clock_rates = dtmf.into_iter().chain(audio).filter_map(clock).collect();
        Self { tones: TonePayloadTypes::of(description), clock_rates }
    }
}

impl ToneReception {
    /// Gets ready for the tones of a track that has been described, if it has a codec for them
    /// or, with `in_band`, may have them in its sound; `label` names the track.
    pub(crate) fn of(
        described: &Arc<Described>,
        label: &str,
        in_band: bool,
    ) -> Option<(ToneRoutes, Self)> {
        let description = described.newest();
        let ssrc = description.ssrc().ok()?;
        let types = Types::of(&description);
        let (sender, sound) = ring(SOUND_RING);
        let hearing = in_band.then(|| ToneHearing::of(&description, sound)).flatten();
        let is_audio = description.kind == TrackKind::Audio;
        if !is_audio || types.tones.events.is_empty() && hearing.is_none() {
            return None;
        }
        let tap = Tap { packets: sender, dropped: Arc::<AtomicU64>::default() };
        let after = hearing.is_some().then(|| RtpCommand::AddTap(ssrc, tap));
        let (sender, packets) = ring(TONE_RING);
        let route = ToneRoute { payload_types: types.tones.clone(), packets: sender };
        let routes = ToneRoutes { before: Some(RtpCommand::ReceiveTones(ssrc, route)), after };
        let (tones, described) = (Tones::receiving(label), Arc::clone(described));
        Some((routes, Self { tones, packets, hearing, described, described_as: 0, types }))
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
            let heard = || self.hearing.as_mut().and_then(ToneHearing::poll_output);
            for report in
                std::iter::from_fn(|| receiver.poll_output()).chain(std::iter::from_fn(heard))
            {
                self.tones.tell(&report);
            }
            let due = receiver.poll_timeout().map(|(due, _)| due);
            let due = [due, self.hearing.as_ref().and_then(ToneHearing::poll_timeout)];
            let due = due.into_iter().flatten().min();
            let is_due = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let sound = async {
                match &mut self.hearing {
                    Some(hearing) => hearing.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                packet = self.packets.recv() => match packet {
                    Some(packet) => self.take(&mut receiver, &packet),
                    None => return,
                },
                packet = sound => match packet {
                    Some(packet) => self.hear(packet),
                    // The track has ended, which the other ring says in a moment.
                    None => self.hearing = None,
                },
                still = changed.changed() => if still.is_err() { return },
                () = is_due => self.handle_timeout(&mut receiver, ortc_io::now()),
            }
        }
    }

    fn handle_timeout(&mut self, receiver: &mut ToneReceiver, now: Instant) {
        receiver.handle_timeout(now);
        if let Some(hearing) = &mut self.hearing {
            hearing.handle_timeout(now);
        }
    }

    /// Looks whether the track is described otherwise.
    fn look(&mut self) {
        if let Some(description) = self.described.changed(&mut self.described_as) {
            self.types = Types::of(&description);
            if !self.hearing.as_mut().is_some_and(|it| it.set_description(&description)) {
                self.hearing = None;
            }
        }
    }

    fn hear(&mut self, packet: ortc_rtp::ReceivedPacket) {
        self.look();
        if let Some(hearing) = &mut self.hearing {
            hearing.take(packet.received_at, packet);
        }
    }

    fn take(&mut self, receiver: &mut ToneReceiver, received: &ReceivedTonePacket) {
        self.look();
        let ReceivedTonePacket { packet, previous, gap_at } = received;
        let Types { tones, clock_rates } = &self.types;
        let Some(event_type) = tones.events.first() else { return };
        let described = clock_rates.iter().find(|(known, _)| *known == packet.payload_type);
        let clock_rate = match (described, clock_rates.first()) {
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
        let is_redundant = tones.redundant.contains(&packet.payload_type);
        let packet = ReceivedPacket {
            sequence: packet.sequence as u16,
            timestamp: packet.timestamp,
            marker: packet.marker,
            clock_rate,
            payload: &packet.payload,
        };
        if is_redundant {
            if let Err(error) = receiver.handle_redundant(at, &packet, event_type.0) {
                tracing::debug!(%error, "a malformed redundant payload");
            }
        } else if let Err(error) = receiver.handle_packet(at, &packet) {
            tracing::debug!(%error, "a malformed telephone event");
        }
    }
}

impl Drop for ToneReception {
    fn drop(&mut self) {
        self.tones.close();
    }
}
