//! Several connections on one socket; see "Shared sockets" in the parent module.

use std::net::SocketAddr;
use std::time::Instant;

use super::shared::{
    self, Asked, MAX_TRANSACTIONS, Peeked, Shared, TRANSACTION_LIFETIME, TransactionId,
};
use super::{Admission, Parked, PathError, PathTable, SharedStats, SocketPaths, Standing, Tenancy};
use crate::{ConnectionId, DatagramKind, Path, SocketId};

impl PathTable {
    /// Notes a socket that was bound to be shared. It is somebody's until it was
    /// [released](Self::release) and the last connection has left it.
    pub fn bound_shared(&mut self, socket: SocketId, local: SocketAddr) {
        self.insert_socket(socket, local, Tenancy::Shared(Shared::new()));
    }

    /// Has a connection share a socket: requests that name `username_frag` are its own from
    /// now on. Returns the address of the socket.
    ///
    /// Forks may share a username fragment, once its first holder has [shared](Self::share) the
    /// socket: a request is then that of the fork that has [claimed](Self::claim) its sender.
    ///
    /// # Errors
    /// [`PathError::NotShared`], [`PathError::UsernameTaken`],
    /// [`PathError::UnknownConnection`]; nothing has changed then.
    pub fn join(
        &mut self,
        connection: ConnectionId,
        socket: SocketId,
        username_frag: &str,
        fork: bool,
    ) -> Result<SocketAddr, PathError> {
        let known = self.get(connection).ok_or(PathError::UnknownConnection(connection))?;
        if known.username_frag.as_ref().is_some_and(|other| **other != *username_frag) {
            return Err(PathError::UsernameTaken);
        }
        let Some(entry) = self.socket_mut(socket) else {
            return Err(PathError::NotShared(socket));
        };
        let Tenancy::Shared(shared) = &mut entry.tenancy else {
            return Err(PathError::NotShared(socket));
        };
        if !shared.join(username_frag, connection, fork) {
            return Err(PathError::UsernameTaken);
        }
        let local = entry.local;
        let state = self.get_mut(connection)?;
        if !state.sockets.contains(&socket) {
            state.sockets.reserve_exact(1);
            state.sockets.push(socket);
        }
        state.username_frag = Some(username_frag.into());
        Ok(local)
    }

    /// Lets forks of a connection's local side [join](Self::join) a socket that it uses. One that
    /// was its own becomes one to be shared, which is somebody's until it is
    /// [released](Self::release).
    ///
    /// # Errors
    /// [`PathError::UnknownConnection`], [`PathError::ForeignSocket`],
    /// [`PathError::UsernameTaken`]; nothing has changed then.
    pub fn share(
        &mut self,
        connection: ConnectionId,
        socket: SocketId,
        username_frag: &str,
    ) -> Result<(), PathError> {
        self.check_use(connection, socket)?;
        let known = self.get(connection).and_then(|state| state.username_frag.as_deref());
        if known.is_some_and(|other| other != username_frag) {
            return Err(PathError::UsernameTaken);
        }
        let Some(entry) = self.socket_mut(socket) else {
            return Err(PathError::ForeignSocket(socket));
        };
        match &mut entry.tenancy {
            Tenancy::Shared(shared) => {
                if !shared.share(username_frag, connection) {
                    return Err(PathError::UsernameTaken);
                }
            }
            Tenancy::Owned(_) => {
                let mut shared = Shared::new();
                shared.join(username_frag, connection, true);
                shared.first = Some(connection);
                entry.tenancy = Tenancy::Shared(shared);
            }
        }
        self.get_mut(connection)?.username_frag = Some(username_frag.into());
        Ok(())
    }

    /// Gives a fork the requests that name `peer` as their sender, on all sockets that it has
    /// joined. Returns those that have waited for it: 32 a socket and 10 s at most.
    ///
    /// # Errors
    /// [`PathError::PeerTaken`], [`PathError::UnknownConnection`]; nothing has changed then.
    pub fn claim(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: &str,
    ) -> Result<Vec<Parked>, PathError> {
        let known = self.get(connection).ok_or(PathError::UnknownConnection(connection))?;
        let (Some(own), sockets) = (known.username_frag.clone(), known.sockets.clone()) else {
            return Ok(Vec::new());
        };
        let mut released = Vec::new();
        for socket in sockets {
            let entry = self.socket_mut(socket).map(|entry| &mut entry.tenancy);
            if let Some(Tenancy::Shared(shared)) = entry {
                let waited = shared.claim(now, &own, connection, peer);
                released.extend(waited.ok_or(PathError::PeerTaken)?);
            }
        }
        Ok(released)
    }

    /// Whoever bound a socket to be shared does not need it any more; returns whether it is to
    /// be closed, as no connection does either.
    pub fn release(&mut self, socket: SocketId) -> bool {
        let Some(SocketPaths { tenancy: Tenancy::Shared(shared), .. }) = self.socket_mut(socket)
        else {
            return false;
        };
        shared.held = false;
        let close = shared.is_idle();
        if close {
            self.sockets[socket.slot as usize] = None;
        }
        close
    }

    /// The next connection that a path was taken from, or refused to: a newer one has
    /// validated it. It is to be told.
    pub fn poll_taken(&mut self) -> Option<(ConnectionId, Path)> {
        self.taken.pop_front()
    }

    /// What has come in on shared sockets and was nobody's.
    pub fn shared_stats(&self) -> SharedStats {
        self.shared
    }

    /// Whether a path is validated for a connection that was attached after this one.
    pub(super) fn belongs_to_newer(
        &self,
        now: Instant,
        connection: ConnectionId,
        path: Path,
    ) -> bool {
        let age = |id| self.get(id).map(|state| state.age);
        self.holder(now, path).is_some_and(|holder| {
            holder.standing == Standing::Validated && age(holder.connection) > age(connection)
        })
    }

    /// Whose a datagram on a shared socket is. `None` when it is kept until a fork claims its
    /// sender, or was dropped and counted.
    pub(super) fn whose(
        &mut self,
        now: Instant,
        path: Path,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Result<ConnectionId, Admission> {
        let holder = self.holder(now, path).map(|holder| holder.connection);
        let stats = &mut self.shared;
        let socket = self.sockets.get_mut(path.socket.slot as usize).and_then(Option::as_mut);
        let Some(Tenancy::Shared(shared)) = socket.map(|socket| &mut socket.tenancy) else {
            self.orphaned += 1;
            return Err(Admission::Dropped);
        };
        let found = match kind {
            DatagramKind::Stun => match shared::peek(datagram) {
                Some(Peeked::Request { asked, asking }) => match shared.asked(asked, asking) {
                    Asked::One(connection) => Ok(connection),
                    Asked::Nobody => Err(&mut stats.unknown_username),
                    Asked::NotClaimed => {
                        stats.held += 1;
                        stats.held_dropped += shared.hold(now, path, (asked, asking), datagram);
                        return Err(Admission::Parked);
                    }
                },
                Some(Peeked::Response(id)) => {
                    let asker = shared.asker(now, &id, path.remote).or(shared.first);
                    asker.ok_or(&mut stats.unknown_transaction)
                }
                Some(Peeked::Indication) => holder.ok_or(&mut stats.strangers),
                None => shared.first.ok_or(&mut stats.malformed),
            },
            DatagramKind::TurnChannel => holder.or(shared.first).ok_or(&mut stats.unknown),
            DatagramKind::Unknown => holder.ok_or(&mut stats.unknown),
            _ => holder.ok_or(&mut stats.strangers),
        };
        found.map_err(|count| {
            *count += 1;
            Admission::Dropped
        })
    }

    /// Remembers whose request it was, if the socket is shared; the connection's oldest make
    /// room.
    pub(super) fn note_request(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        path: Path,
        id: TransactionId,
    ) {
        let socket = self.sockets.get_mut(path.socket.slot as usize).and_then(Option::as_mut);
        let Some(Tenancy::Shared(shared)) = socket.map(|socket| &mut socket.tenancy) else {
            return;
        };
        shared.sent(now, id, connection, path.remote);
        let Ok(state) = self.get_mut(connection) else { return };
        state.requests.push_back((now, path.socket, id));
        loop {
            let Ok(state) = self.get_mut(connection) else { return };
            let Some(&(at, on, oldest)) = state.requests.front() else { return };
            let age = now.saturating_duration_since(at);
            if state.requests.len() <= MAX_TRANSACTIONS && age < TRANSACTION_LIFETIME {
                return;
            }
            state.requests.pop_front();
            let socket = self.socket_mut(on);
            if let Some(Tenancy::Shared(shared)) = socket.map(|socket| &mut socket.tenancy) {
                shared.forget(&oldest, connection);
            }
        }
    }

    /// Forgets what a connection has asked on shared sockets: it has settled, and asks no more.
    /// A response that is still on its way is as good as lost.
    pub fn forget_requests(&mut self, connection: ConnectionId) {
        let Ok(state) = self.get_mut(connection) else { return };
        for (_, on, id) in std::mem::take(&mut state.requests) {
            let socket = self.socket_mut(on);
            if let Some(Tenancy::Shared(shared)) = socket.map(|socket| &mut socket.tenancy) {
                shared.forget(&id, connection);
            }
        }
    }
}
