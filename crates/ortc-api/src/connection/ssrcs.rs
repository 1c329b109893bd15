//! SSRCs: those of tracks that are sent, and of what is sent again of them.

use ortc_rtp::{DescriptionError, RTCEncoding, RTCTrackDescription, Ssrc};

use super::{RTCConnection, SharedState};
use crate::error::AddStreamError;
use crate::track::RTCTrack;

/// Tracks that one connection sends in all its life, before the SSRCs of removed ones are taken
/// again: SRTP keeps the indices of 512 on either side and can forget none of them, for no index
/// may be used twice (RFC 3711 §9.1). A track of pictures has two; a few are left for RTCP.
const MAX_SSRCS: usize = 250;

impl SharedState {
    /// The SSRC in this description that another track that is received has, or what is sent
    /// again of one: packets would be taken for those of the other.
    pub(super) fn taken_ssrc(
        &self,
        description: &RTCTrackDescription,
    ) -> Result<Option<Ssrc>, DescriptionError> {
        description.ssrc()?;
        let own: Vec<_> = description.ssrcs().collect();
        let mut others =
            self.receiving.iter().map(|(it, _)| it).filter(|it| it.ssrc != description.ssrc);
        let taken_by =
            |other: &RTCTrackDescription| own.iter().copied().find(|own| is_ssrc_of(other, *own));
        Ok(others.find_map(taken_by))
    }

    /// The name of an encoding in this description that one of another track has, if the packets
    /// of both are known by that.
    pub(super) fn taken_rid<'a>(&self, description: &'a RTCTrackDescription) -> Option<&'a str> {
        let by_rid = |it: &&RTCEncoding| it.ssrc.is_none();
        let others = self.receiving.iter().map(|(it, _)| it);
        let others = others.filter(|it| it.ssrc != description.ssrc);
        let taken: Vec<_> = others.flat_map(|it| it.encodings.iter().filter(by_rid)).collect();
        let mut own = description.encodings.iter().filter(by_rid);
        own.find(|own| taken.iter().any(|it| it.rid == own.rid)).map(|own| own.rid.as_str())
    }
}

impl RTCConnection {
    /// Random SSRCs that this connection does not use yet, or has not for the longest time: of a
    /// track and, if wanted, of what is sent again of it.
    pub(super) fn free_ssrcs(
        &self,
        state: &mut SharedState,
        added: &[RTCTrack],
        also: &[(Ssrc, Option<Ssrc>)],
        wants_rtx: bool,
    ) -> Result<(Ssrc, Option<Ssrc>), AddStreamError> {
        let encodings = |track: &RTCTrack| track.sent_encodings().len().max(1);
        let sent: usize = state.sending.iter().chain(added).map(encodings).sum();
        if sent + also.len() + state.retired.len() >= MAX_SSRCS
            && let Some((ssrc, rtx)) = state.retired.pop_front()
        {
            let rtx = match rtx {
                None if wants_rtx => Some(self.free_ssrc(state, added, also, Some(ssrc))?),
                kept => kept,
            };
            return Ok((ssrc, rtx));
        }
        let ssrc = self.free_ssrc(state, added, also, None)?;
        let rtx = wants_rtx.then(|| self.free_ssrc(state, added, also, Some(ssrc))).transpose()?;
        Ok((ssrc, rtx))
    }

    /// A random SSRC that this connection does not use yet, and that is not `other`.
    fn free_ssrc(
        &self,
        state: &SharedState,
        added: &[RTCTrack],
        also: &[(Ssrc, Option<Ssrc>)],
        other: Option<Ssrc>,
    ) -> Result<Ssrc, AddStreamError> {
        loop {
            let random = self.inner.engine.random().map_err(|_| AddStreamError::Entropy)?;
            let ssrc = Ssrc(u32::from_be_bytes([random[0], random[1], random[2], random[3]]));
            let is_it = |(one, rtx): &(Ssrc, Option<Ssrc>)| *one == ssrc || *rtx == Some(ssrc);
            let taken = other == Some(ssrc)
                || state.sending.iter().chain(added).any(|track| track.ssrcs().iter().any(is_it))
                || state.retired.iter().chain(also).any(is_it)
                || state.receiving.iter().any(|(it, _)| is_ssrc_of(it, ssrc));
            if ssrc.0 != 0 && !taken {
                return Ok(ssrc);
            }
        }
    }
}

/// Whether a described track, or what is sent again of it, has this SSRC.
fn is_ssrc_of(description: &RTCTrackDescription, ssrc: Ssrc) -> bool {
    description.ssrcs().any(|own| own == ssrc)
}
