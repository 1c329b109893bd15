//! Local tracks that are sent in several encodings at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ortc_rtp::{DescriptionError, RTCEncoding, RTCTrackDescription, Ssrc, TrackKind};

use crate::format::MediaFormat;
use crate::media::MediaStreamTrack;
use crate::source::{FrameSender, Outlet, Source};

/// One encoding of a local track.
pub(crate) struct LocalEncoding {
    encoding: RTCEncoding,
    pub(crate) source: Arc<Source>,
}

/// One encoding as a connection sends it.
pub(crate) struct SentEncoding {
    encoding: RTCEncoding,
    pub(crate) source: Arc<Source>,
    pub(crate) ssrc: Ssrc,
    pub(crate) rtx_ssrc: Option<Ssrc>,
    is_active: AtomicBool,
}

/// An outlet, and the source that feeds it.
pub(crate) struct Start {
    pub(crate) source: Arc<Source>,
    pub(crate) outlet: Outlet,
}

impl SentEncoding {
    pub(crate) fn all(encodings: &[LocalEncoding], ssrcs: &[(Ssrc, Option<Ssrc>)]) -> Vec<Self> {
        let sent = |(it, (ssrc, rtx_ssrc)): (&LocalEncoding, &(Ssrc, Option<Ssrc>))| Self {
            encoding: it.encoding.clone(),
            source: Arc::clone(&it.source),
            ssrc: *ssrc,
            rtx_ssrc: *rtx_ssrc,
            is_active: AtomicBool::new(it.encoding.is_active()),
        };
        encodings.iter().zip(ssrcs).map(sent).collect()
    }

    pub(crate) fn has_rid(&self, rid: &str) -> bool {
        self.encoding.rid == rid
    }

    pub(crate) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    pub(crate) fn set_active(&self, active: bool) {
        self.is_active.store(active, Ordering::Relaxed);
    }

    /// How it is described among the others.
    pub(crate) fn describe(&self, is_sent_again: bool) -> RTCEncoding {
        let rtx_ssrc = self.rtx_ssrc.filter(|_| is_sent_again);
        RTCEncoding {
            active: (!self.is_active()).then_some(false),
            ssrc: Some(self.ssrc.0.to_string()),
            rtx_ssrc: rtx_ssrc.map(|ssrc| ssrc.0.to_string()),
            ..self.encoding.clone()
        }
    }

    /// The description of this encoding alone.
    pub(crate) fn of(&self, track: &RTCTrackDescription) -> RTCTrackDescription {
        RTCTrackDescription {
            ssrc: self.ssrc.0.to_string(),
            rtx_ssrc: self.rtx_ssrc.map(|ssrc| ssrc.0.to_string()),
            encodings: Vec::new(),
            ..track.clone()
        }
    }
}

impl MediaStreamTrack {
    /// Makes a local track in several encodings of the same pictures (simulcast), and the end to
    /// feed each of them by, in the order of `encodings`: an addition to the drafts.
    ///
    /// A room sends each member the one that it has room for. So that it can go from one to
    /// another, all have the same timestamps for the same picture, and each makes a key frame when
    /// [it is asked to](FrameSender::take_key_frame_request). SSRCs in `encodings` are ignored.
    ///
    /// # Errors
    /// When there are more than four, or none, when two have the same `rid` or one has none, and
    /// when the format is one of sound.
    pub fn simulcast(
        format: MediaFormat,
        encodings: &[RTCEncoding],
    ) -> Result<(Self, Vec<FrameSender>), DescriptionError> {
        RTCEncoding::validate_local(encodings)?;
        if format.kind() != TrackKind::Video {
            return Err(DescriptionError::EncodingsOfSound);
        }
        let sources: Vec<_> = encodings.iter().map(|_| Source::new(format)).collect();
        let senders = sources.iter().cloned().map(FrameSender::new).collect();
        let mut ranked: Vec<_> = RTCEncoding::ranks(encodings).into_iter().zip(0..).collect();
        ranked.sort_unstable();
        let local = |(_, at): (usize, usize)| LocalEncoding {
            encoding: encodings[at].clone(),
            source: Arc::clone(&sources[at]),
        };
        let local = ranked.into_iter().map(local).collect();
        Ok((Self::of_encodings(local, TrackKind::Video), senders))
    }
}
