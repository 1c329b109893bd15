/// Names one connection within a socket port.
///
/// A slot is reused, a `(slot, generation)` pair is not: a command that arrives late for a
/// closed connection names a generation that is gone and is dropped, its keys zeroized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Index into the tables of the media plane; small and dense.
    pub slot: u32,
    /// Counts the connections that have used this slot.
    pub generation: u32,
}

/// Names one bound socket within the [`DatagramIo`](crate::DatagramIo) that bound it.
///
/// As with [`ConnectionId`], slots are reused and generations are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    /// Index into the table of sockets.
    pub slot: u32,
    /// Counts the sockets that have used this slot.
    pub generation: u32,
}
