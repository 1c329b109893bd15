use std::fmt;

use crate::{IceServerScheme, IceServerTransport, IceServerUri};

/// Why a STUN or TURN server is of no use, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerFailure {
    /// Its name could not be resolved.
    #[error("its name cannot be resolved: {0}")]
    Unresolved(String),
    /// It has not answered within 10 s.
    #[error("it does not answer")]
    TimedOut,
    /// No TCP or TLS connection to it could be made, or that has broken.
    #[error("the connection to it failed: {0}")]
    Stream(String),
    /// It does not know the user, or the credential is wrong (401, 441).
    #[error("it refuses the username or the credential ({0})")]
    Unauthorized(u16),
    /// It relays nothing for us, or not to that peer (403).
    #[error("it forbids what was asked for (403)")]
    Forbidden,
    /// It knows the socket already, or has forgotten the allocation (437).
    #[error("it has another allocation for this socket, or none any more (437)")]
    AllocationMismatch,
    /// It has no relays of the wanted kind (440, 442, 443).
    #[error("it does not relay this transport or address family ({0})")]
    Unsupported(u16),
    /// The user has as many allocations as allowed (486).
    #[error("the user's quota of allocations is used up (486)")]
    QuotaReached,
    /// It has no ports or no bandwidth left (508).
    #[error("it has no capacity left (508)")]
    InsufficientCapacity,
    /// It has sent us elsewhere, more often than is sensible (300).
    #[error("it redirects to another server, which redirects on (300)")]
    Redirected,
    /// Its answer makes no sense.
    #[error("its answer is malformed")]
    Malformed,
    /// Nothing is asked of such a server.
    #[error("it is not asked: {0}")]
    NotSupported(&'static str),
    /// Any other error.
    #[error("it answers with the error {0}")]
    Other(u16),
}

impl ServerFailure {
    /// Whether asking again later may help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::TimedOut
            | Self::Stream(_)
            | Self::AllocationMismatch
            | Self::QuotaReached
            | Self::InsufficientCapacity => true,
            // 500 is "try again" (RFC 8489 §14.8).
            Self::Other(code) => *code >= 500,
            _ => false,
        }
    }

    pub(crate) fn of_code(code: u16) -> Self {
        match code {
            300 => Self::Redirected,
            401 | 441 => Self::Unauthorized(code),
            403 => Self::Forbidden,
            437 => Self::AllocationMismatch,
            440 | 442 | 443 => Self::Unsupported(code),
            486 => Self::QuotaReached,
            508 => Self::InsufficientCapacity,
            _ => Self::Other(code),
        }
    }
}

/// Why nothing is asked of a server with this URI.
pub(crate) fn unusable(uri: &IceServerUri) -> Option<ServerFailure> {
    match (uri.scheme, uri.transport) {
        (IceServerScheme::Turns, IceServerTransport::Udp) => {
            Some(ServerFailure::NotSupported("TURN over DTLS is not spoken here"))
        }
        _ => None,
    }
}

/// A user of a TURN server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) credential: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}
