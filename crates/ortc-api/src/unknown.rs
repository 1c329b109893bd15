//! Tracks of the peer that nobody has described.

use std::collections::BTreeMap;

use ortc_rtp::{Ssrc, UnknownTrack};

/// A track that the peer sends and nobody has described, or not yet: the argument of
/// [`RTCEvent::UnknownTrack`](crate::RTCEvent::UnknownTrack) (ORTC drafts, "onunknowntrack").
///
/// Its packets wait for 3 s, so that nothing is lost if
/// [`receive_track`](crate::RTCConnection::receive_track) follows: with a description that is on
/// its way, or with one that is made here, of the SSRC and of what the pairs say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RTCUnknownTrack {
    /// The pairs that the peer has set with
    /// [`set_rtp_ext_headers`](crate::RTCTrack::set_rtp_ext_headers), as its packets tell them;
    /// empty where they tell none, as those of a browser.
    pub rtp_ext_headers: BTreeMap<String, String>,
    /// The SSRC in decimal, as descriptions spell it: an addition to the drafts.
    pub ssrc: String,
    /// The payload type of its first packet: an addition to the drafts.
    pub payload_id: u8,
}

impl RTCUnknownTrack {
    /// Whether it is the track of this SSRC.
    pub(crate) fn is_of(&self, ssrc: Ssrc) -> bool {
        self.ssrc == ssrc.0.to_string()
    }
}

impl From<UnknownTrack> for RTCUnknownTrack {
    fn from(track: UnknownTrack) -> Self {
        let UnknownTrack { ssrc, payload_type, ext_headers } = track;
        Self { rtp_ext_headers: ext_headers, ssrc: ssrc.0.to_string(), payload_id: payload_type.0 }
    }
}
