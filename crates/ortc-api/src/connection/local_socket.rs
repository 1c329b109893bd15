//! The local side of a connection: how it is made, and how it is shared.

use std::sync::Arc;

use ortc_dtls::Certificate;
use ortc_ice::IceCommand;

use super::{Command, Inner, RTCConnection, RTCConnectionSide};
use crate::engine::Engine;
use crate::error::{LocalSocketError, NewConnectionError};
use crate::identity;
use crate::local_side::LocalSide;
use crate::media::lock;
use crate::socket::RTCSocket;

impl RTCConnection {
    /// The local side of this connection, for others to be made
    /// [with](crate::RTCConnectionOptions::with_socket) (ORTC drafts, "getLocalSocket"): they have its
    /// sockets, credentials, certificate and candidates, and connect to peers of their own.
    ///
    /// Checks of a peer that none of them is connected to yet are kept, 32 a socket and 10 s,
    /// until one is. A socket that this connection binds later, in
    /// [`update`](Self::update), is theirs as well. Relays of TURN are each connection's own.
    ///
    /// # Errors
    /// When the connection is closed, or has a socket actor of its own.
    #[doc(alias = "getLocalSocket")]
    pub fn local_socket(&self) -> Result<RTCSocket, LocalSocketError> {
        let Inner { id, engine, shared, has_own_sockets, .. } = &*self.inner;
        let mut state = lock(&shared.state);
        if state.closed {
            return Err(LocalSocketError::Closed);
        }
        if *has_own_sockets {
            return Err(LocalSocketError::SwappedSockets);
        }
        if let Some(side) = state.local_side.upgrade() {
            return Ok(RTCSocket::of_local_side(side));
        }
        let (local, certificate) = (shared.local.clone(), shared.certificate.clone());
        let place = id.slot as usize % engine.threads();
        let port = shared.port.upgrade();
        let side = Arc::new(LocalSide::new(engine.clone(), place, local, certificate, port));
        if let Some(peer) = state.first_peer.as_ref().and(state.remote.as_ref()) {
            // It is the first.
            let _ = side.claim(*id, &peer.username_frag);
        }
        let share = Command::Ice(IceCommand::ShareSockets);
        self.inner.send_within(&state, share).map_err(|refused| refused.error)?;
        state.local_side = Arc::downgrade(&side);
        Ok(RTCSocket::of_local_side(side))
    }
}

/// Makes the credentials of a connection, and its certificate if it was given none.
pub(super) fn new_local_side(
    engine: &Engine,
    certificate: Option<Certificate>,
) -> Result<(RTCConnectionSide, Certificate), NewConnectionError> {
    let certificate = match certificate {
        Some(certificate) => certificate,
        None => engine.certificate()?,
    };
    let side = RTCConnectionSide {
        ice: identity::credentials(engine.random()?, &certificate.sha256()),
        dtls: Some(certificate.connection_info()),
    };
    Ok((side, certificate))
}
