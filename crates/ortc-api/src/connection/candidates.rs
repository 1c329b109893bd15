//! Where the two sides may be reached.

use ortc_ice::{IceCommand, RTCIceCandidateDescription};

use super::{Command, RTCConnection};
use crate::error::CandidateError;
use crate::media::lock;

impl RTCConnection {
    /// Lets a local candidate take part (ORTC drafts, "setLocalCandidate").
    ///
    /// A candidate that was found and not set sends nothing and answers nothing.
    ///
    /// # Errors
    /// When it is not one of the candidates that this connection has found.
    #[doc(alias = "setLocalCandidate")]
    pub fn set_local_candidate(
        &self,
        candidate: &RTCIceCandidateDescription,
    ) -> Result<(), CandidateError> {
        let state = lock(&self.inner.shared.state);
        if state.closed {
            return Err(CandidateError::Closed);
        }
        if !state.found.contains(candidate) {
            return Err(CandidateError::NotOurs);
        }
        let command = Command::Ice(IceCommand::SetLocalCandidate(candidate.clone()));
        self.inner.send_within(&state, command).map_err(|refused| refused.error.into())
    }

    /// Adds a candidate of the peer (ORTC drafts, "setRemoteCandidate"), before or after
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    /// When it is malformed.
    #[doc(alias = "setRemoteCandidate")]
    pub fn set_remote_candidate(
        &self,
        candidate: &RTCIceCandidateDescription,
    ) -> Result<(), CandidateError> {
        candidate.validate()?;
        Ok(self.inner.send(Command::Ice(IceCommand::SetRemoteCandidate(candidate.clone())))?)
    }

    /// Takes back a candidate of the peer that is gone: an addition to the drafts, for what
    /// [`RTCEvent::CandidateWithdrawn`](crate::RTCEvent::CandidateWithdrawn) tells at the other
    /// side. Other paths are looked for at once if it was in use. One that was not set is ignored.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn remove_remote_candidate(
        &self,
        candidate: &RTCIceCandidateDescription,
    ) -> Result<(), CandidateError> {
        candidate.validate()?;
        Ok(self.inner.send(Command::Ice(IceCommand::RemoveRemoteCandidate(candidate.clone())))?)
    }

    /// Says that the peer has no more candidates. Optional, and an addition to the drafts.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn set_remote_end_of_candidates(&self) -> Result<(), CandidateError> {
        Ok(self.inner.send(Command::Ice(IceCommand::RemoteEndOfCandidates))?)
    }

    /// Gathers again, after the network has changed (ORTC drafts, "update").
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn update(&self) -> Result<(), CandidateError> {
        Ok(self.inner.send(Command::Ice(IceCommand::Update))?)
    }
}
