use std::io;

use super::MAX_PATHS;
use crate::{ConnectionId, Path, SocketId};

/// Why a table did not do as it was told. Every case is the caller's: a mistake, or a
/// command that came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The connection is not attached (any more).
    #[error("connection {0:?} is not attached")]
    UnknownConnection(ConnectionId),
    /// The slot of the connection is taken, or was by this generation or a later one.
    #[error("the slot of connection {0:?} is taken or has moved on")]
    SlotTaken(ConnectionId),
    /// The socket does not belong to the connection (any more).
    #[error("socket {0:?} does not belong to the connection")]
    ForeignSocket(SocketId),
    /// Only a validated path can be selected.
    #[error("{0:?} was selected, but is not validated")]
    NotValidated(Path),
    /// The connection has 256 paths already.
    #[error("the connection has {MAX_PATHS} paths already")]
    TooManyPaths,
    /// The path belongs to a newer connection.
    #[error("{0:?} belongs to a newer connection on the same socket")]
    Taken(Path),
    /// The socket is not there (any more), or is not one to be shared.
    #[error("socket {0:?} is not there, or is not shared")]
    NotShared(SocketId),
    /// Another connection on the socket has this username fragment.
    #[error("another connection on the socket has this username fragment")]
    UsernameTaken,
    /// Another fork has claimed this peer.
    #[error("another connection of the same local side is connected to this peer")]
    PeerTaken,
}

impl From<PathError> for io::Error {
    /// What the refusal to [join](super::PathTable::join) a socket looks like to its user.
    fn from(error: PathError) -> Self {
        let kind = match error {
            PathError::UsernameTaken => io::ErrorKind::AddrInUse,
            PathError::NotShared(_) | PathError::UnknownConnection(_) => {
                io::ErrorKind::NotConnected
            }
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
