//! The local side of a connection: how it is made, how it is shared, and how it restarts.

use std::sync::{Arc, Weak};

use ortc_dtls::Certificate;
use ortc_ice::{IceCommand, RTCIceConnectionInfo};

use super::{Command, Inner, RTCConnection, RTCConnectionSide, Shared, SharedState};
use crate::engine::Engine;
use crate::error::{LocalSocketError, NewConnectionError, RestartIceError};
use crate::identity;
use crate::local_side::LocalSide;
use crate::media::lock;
use crate::socket::RTCSocket;

impl Shared {
    /// The local side as it is now.
    pub(super) fn side(&self, state: &SharedState) -> RTCConnectionSide {
        let side = self.local.clone();
        match &state.restarted {
            Some(ice) => RTCConnectionSide { ice: ice.clone(), ..side },
            None => side,
        }
    }
}

impl RTCConnection {
    /// The local side: credentials and certificate to signal to the peer.
    pub fn local(&self) -> RTCConnectionSide {
        let shared = &self.inner.shared;
        shared.side(&lock(&shared.state))
    }

    /// Restarts ICE with new credentials, which it returns for the application to signal
    /// (RFC 8445 §9; an addition to the drafts). The peer sets them
    /// ([`set_remote_ice`](Self::set_remote_ice)) and calls [`connect`](Self::connect) again, and
    /// may keep its own.
    ///
    /// All pairs are checked anew and the best one is taken; media goes on meanwhile on the path
    /// that it has, without a new handshake, and candidates stay as they are. To gather again, as
    /// well or alone, call [`update`](Self::update), which heals what a network does to paths: a
    /// restart is for a peer, or a server on the way, that wants other credentials after a while.
    /// A peer that is not told in time goes on for half a minute, the time that consent lasts.
    ///
    /// # Errors
    /// When the connection has never been connected, has shared its local side or shares a socket,
    /// has passive TCP candidates or an ICE actor of its own, or is closed.
    pub fn restart_ice(&self) -> Result<RTCIceConnectionInfo, RestartIceError> {
        let Inner { engine, shared, restarts, .. } = &*self.inner;
        let mut state = lock(&shared.state);
        if state.closed {
            return Err(RestartIceError::Closed);
        }
        // Whoever has been shown the local side may use its credentials still.
        let has_shared = !state.local_side.ptr_eq(&Weak::new());
        if !restarts || has_shared {
            return Err(RestartIceError::NotAlone);
        }
        // Until then the peer may decide the roles by these or by those.
        if state.remote_dtls.is_none() {
            return Err(RestartIceError::NotConnected);
        }
        let random = engine.random().map_err(|_| RestartIceError::Entropy)?;
        let ice = identity::credentials(random, &shared.certificate.sha256());
        let command = Command::Ice(IceCommand::Restart(ice.clone()));
        self.inner.send_within(&state, command).map_err(|refused| refused.error)?;
        state.restarted = Some(ice.clone());
        Ok(ice)
    }

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
        let (local, certificate) = (shared.side(&state), shared.certificate.clone());
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
