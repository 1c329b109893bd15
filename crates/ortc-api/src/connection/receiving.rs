//! Received tracks that their peer describes another time, and those that are let go of.

use std::sync::Arc;

use ortc_rtp::{RTCTrackDescription, RtpCommand};

use super::{Command, RTCConnection, SharedState};
use crate::codec;
use crate::dtmf::{DTMFMediaStreamTrack, ToneReception};
use crate::error::ReceiveTrackError;
use crate::media::{MediaStream, MediaStreamTrack, lock};

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

    /// Receives a track no more: its frames end, and its SSRC may be described anew. A stream
    /// that no track is left of is received no more either. An addition to the drafts, which
    /// never let go of a described track; one that is not received is ignored.
    pub fn stop_receiving(&self, track: &MediaStreamTrack) {
        let mut state = lock(&self.inner.shared.state);
        let is_it = |(_, other): &(RTCTrackDescription, MediaStreamTrack)| other == track;
        let Some(at) = state.receiving.iter().position(is_it) else { return };
        state.receiving.remove(at);
        let is_in = |stream: &&MediaStream| stream.tracks().contains(track);
        let left: Vec<_> = state.receiving_streams.iter().filter(is_in).cloned().collect();
        for stream in &left {
            stream.leave(track);
        }
        let is_ended = |stream: &mut MediaStream| stream.tracks().is_empty();
        let ended = state.receiving_streams.extract_if(.., is_ended).collect();
        // On a connection that is closed it has ended anyway.
        let stop = Command::StopReceiving { track: track.clone(), left, ended };
        let _ = self.inner.send_within(&state, stop);
    }
}
