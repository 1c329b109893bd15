//! Received tracks that their peer describes another time.

use std::sync::Arc;

use ortc_rtp::{RTCTrackDescription, RtpCommand};

use super::{Command, RTCConnection, SharedState};
use crate::codec;
use crate::dtmf::{DTMFMediaStreamTrack, ToneReception};
use crate::error::ReceiveTrackError;
use crate::media::MediaStreamTrack;

impl RTCConnection {
    /// Goes on receiving the track at `at` of those that are received, as it is described now.
    pub(super) fn receive_as(
        &self,
        state: &mut SharedState,
        at: usize,
        description: &RTCTrackDescription,
    ) -> Result<MediaStreamTrack, ReceiveTrackError> {
        let (known, track) = state.receiving[at].clone();
        if known == *description {
            return Ok(track);
        }
        // Of another kind, or in other streams, it would have to be another object.
        let is_same_track = known.kind == description.kind && known.msid == description.msid;
        let Some(reception) = track.reception().filter(|_| is_same_track) else {
            return Err(ReceiveTrackError::DuplicateSsrc(description.ssrc.clone()));
        };
        let received = codec::received(description);
        // First, so that whoever reads the packets knows what comes.
        let before = reception.described.replace(Arc::new(received.clone()));
        let tones = if reception.has_tones() {
            None
        } else {
            ToneReception::of(&reception.described, track.id(), self.inner.in_band_dtmf)
        };
        let keys = tones.as_ref().map(|(_, tones)| DTMFMediaStreamTrack::of(tones.tones()));
        let command = RtpCommand::UpdateReceiver(received);
        let command = Command::ReceiveAs { command, tones: tones.map(Box::new) };
        if let Err(refused) = self.inner.send_within(state, command) {
            reception.described.replace(before);
            return Err(refused.error.into());
        }
        if let Some(keys) = keys {
            reception.set_has_tones();
            let streams = state.receiving_streams.iter();
            for stream in streams.filter(|stream| stream.tracks().contains(&track)) {
                stream.join(&keys);
            }
        }
        state.receiving[at].0 = description.clone();
        Ok(track)
    }
}
