//! How tones come to the audio track that they are sent with.

use ortc_rtp::TrackKind;

use super::{AddDtmfError, DtmfContainer, RTCDTMFHandler, Tones};
use crate::connection::{CommandError, RTCConnection};
use crate::error::{AddStreamError, TrackError};
use crate::media::{MediaStream, MediaStreamTrack};
use crate::track::{RTCTrack, RTCTrackFilter};

impl RTCConnection {
    /// Makes this connection able to send telephone keys (ORTC draft B §2.3.2.11
    /// "addDtmfHandler").
    ///
    /// They go out with an audio track that is sent already: that of the container, which is the
    /// track itself or the first audio track of a stream, or else the first audio track that is
    /// sent. The track's description gets a `dtmf` codec, so describe it to the peer afterwards.
    /// Asked again for the same track, it returns the same handler.
    ///
    /// # Errors
    /// When there is no such track.
    #[doc(alias = "addDtmfHandler")]
    pub fn add_dtmf_handler(
        &self,
        container: Option<DtmfContainer>,
    ) -> Result<RTCDTMFHandler, AddDtmfError> {
        let is_audio = |track: &MediaStreamTrack| track.kind() != TrackKind::Video;
        let track = match container {
            None => {
                let filter = RTCTrackFilter { kind: Some(TrackKind::Audio), media_stream: None };
                self.tracks(Some(&filter)).into_iter().next().ok_or(AddDtmfError::NoAudioTrack)?
            }
            Some(DtmfContainer::Track(track)) if is_audio(&track) => {
                self.track(&track).ok_or(AddDtmfError::NotSent)?
            }
            Some(DtmfContainer::Track(_)) => return Err(AddDtmfError::NoAudioTrack),
            Some(DtmfContainer::Stream(stream)) => self.audio_of(&stream)?,
        };
        if let Some(tones) = track.tones() {
            return Ok(RTCDTMFHandler::of(&tones));
        }
        let tones = Tones::sending();
        track.send_tones(&tones, true)?;
        Ok(RTCDTMFHandler::of(&tones))
    }

    /// The sending track of the first audio track of a stream.
    fn audio_of(&self, stream: &MediaStream) -> Result<RTCTrack, AddDtmfError> {
        let tracks = stream.tracks();
        let audio = tracks.iter().find(|track| track.kind() == TrackKind::Audio);
        self.track(audio.ok_or(AddDtmfError::NoAudioTrack)?).ok_or(AddDtmfError::NotSent)
    }

    /// Sends the keys of a stream that is sent with its audio (ORTC draft A). Those of a peer
    /// are forwarded with the audio that they came with.
    pub(crate) fn fold_tones(&self, stream: &MediaStream) -> Result<(), AddStreamError> {
        for track in stream.tracks() {
            let Some(tones) = track.tones_of() else { continue };
            let audio = self.audio_of(stream)?;
            if tones.sending.is_some() {
                audio.send_tones(tones, false)?;
            }
        }
        Ok(())
    }
}

impl From<CommandError> for AddDtmfError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Closed => Self::Closed,
            CommandError::Overloaded => Self::Overloaded,
        }
    }
}

impl From<TrackError> for AddDtmfError {
    fn from(error: TrackError) -> Self {
        match error {
            TrackError::Overloaded => Self::Overloaded,
            TrackError::Removed | TrackError::Closed => Self::Closed,
        }
    }
}
