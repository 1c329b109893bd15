//! Which paths a connection has, how far ICE has trusted each, and what waits for that.
//!
//! [`PathTable`] is the core that every socket port shares: [`SocketActor`](crate::SocketActor)
//! and the packet forwarder decide with it whom a datagram belongs to, whether it may be
//! taken, and where the answer goes.
//!
//! # The ladder
//!
//! | standing | entered by | STUN | DTLS | RTP and RTCP |
//! |---|---|---|---|---|
//! | none | – | taken | dropped | dropped |
//! | [`Authenticated`](Standing::Authenticated) | [`PathUpdate::Authenticated`] | taken | parked | dropped |
//! | [`Validated`](Standing::Validated) | [`PathUpdate::Validated`] | taken | taken | taken |
//! | [`Lingering`](Standing::Lingering) | [`PathUpdate::Lost`] | taken | taken | taken, for 5 s |
//!
//! What is received does not depend on what is selected: [`PathUpdate::Selected`] only says
//! where the connection sends, so a nomination never costs a datagram in flight.
//!
//! # Use
//!
//! 1. [`attach`](PathTable::attach) a connection, [`bound`](PathTable::bound) its sockets.
//! 2. Feed what ICE finds out to [`update`](PathTable::update); deliver what it releases.
//! 3. Ask [`admit`](PathTable::admit) about each control datagram, [`route`](PathTable::route)
//!    about media (it only reads, and is one binary search among a socket's paths).
//! 4. Ask [`sending_path`](PathTable::sending_path) for media, [`outgoing`](PathTable::outgoing)
//!    for control.
//! 5. At [`poll_timeout`](PathTable::poll_timeout), call
//!    [`handle_timeout`](PathTable::handle_timeout).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{ConnectionId, DatagramKind, Encapsulation, Path, PathUpdate, SocketId};

/// How long a lost path is still received from: longer than what may be in flight or queued
/// on any path worth using.
pub const GRACE: Duration = Duration::from_secs(5);

/// Most datagrams that wait for the validation of their paths, per connection.
pub const MAX_PARKED: usize = 8;

/// Most bytes that wait for the validation of their paths, per connection.
pub const MAX_PARKED_BYTES: usize = 10_000;

/// Most paths of one connection. Each stands for an authenticated request, but a request can
/// be replayed from any number of addresses.
pub const MAX_PATHS: usize = 256;

/// Most connections of one table: a slot number beyond is a mistake, not a load.
const MAX_CONNECTIONS: u32 = 1 << 20;

/// How far ICE trusts a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// An authenticated request came in on it, which may have been replayed.
    Authenticated,
    /// An authenticated response came in on it.
    Validated,
    /// It was validated and has been lost.
    Lingering {
        /// When it stops being received from.
        until: Instant,
    },
}

/// What is to be done with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Give it to this connection.
    Deliver(ConnectionId),
    /// Nothing: it is parked until its path is validated.
    Parked,
    /// Nothing: it has been counted.
    Dropped,
}

/// A datagram that waited for the validation of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Where it came from.
    pub path: Path,
    /// When it was taken from the socket.
    pub received_at: Instant,
    /// Its bytes.
    pub datagram: Bytes,
}

/// What a table has dropped, parked and refused for one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathStats {
    /// DTLS datagrams parked.
    pub parked: u64,
    /// Of those, delivered after all.
    pub released: u64,
    /// DTLS datagrams dropped because too much was parked already.
    pub park_overflow: u64,
    /// DTLS, RTP and RTCP datagrams dropped because nobody vouches for their path.
    pub unvalidated: u64,
    /// Datagrams dropped because they are of no kind that belongs here.
    pub unknown: u64,
    /// Control datagrams not sent because there was no path to send them on.
    pub no_path: u64,
    /// Control datagrams not sent because sending is suspended.
    pub suspended: u64,
    /// Control datagrams not sent because their socket is not the connection's.
    pub foreign_socket: u64,
}

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
}

/// The paths of all connections of a socket port; see the [module](self).
#[derive(Debug, Default)]
pub struct PathTable {
    connections: Vec<Slot>,
    sockets: Vec<Option<SocketPaths>>,
    /// The earliest end of a grace, or an earlier instant.
    next_expiry: Option<Instant>,
    orphaned: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// The last generation that was attached.
    generation: Option<u32>,
    connection: Option<Connection>,
}

#[derive(Debug, Default)]
struct Connection {
    sockets: Vec<SocketId>,
    paths: usize,
    /// In the order of validation.
    validated: Vec<Path>,
    selected: Option<Path>,
    suspended: bool,
    parked: Vec<Parked>,
    parked_bytes: usize,
    stats: PathStats,
}

#[derive(Debug)]
struct SocketPaths {
    id: SocketId,
    local: SocketAddr,
    owner: ConnectionId,
    /// Sorted by remote address and encapsulation.
    paths: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    remote: SocketAddr,
    encapsulation: Encapsulation,
    standing: Standing,
}

impl PathTable {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a connection.
    ///
    /// # Errors
    /// [`PathError::SlotTaken`] when its slot is in use, or was by this generation or a later
    /// one.
    pub fn attach(&mut self, connection: ConnectionId) -> Result<(), PathError> {
        if connection.slot >= MAX_CONNECTIONS {
            return Err(PathError::SlotTaken(connection));
        }
        let index = connection.slot as usize;
        if index >= self.connections.len() {
            self.connections.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.connections[index];
        let used = slot.generation.is_some_and(|last| connection.generation <= last);
        if used || slot.connection.is_some() {
            return Err(PathError::SlotTaken(connection));
        }
        *slot = Slot {
            generation: Some(connection.generation),
            connection: Some(Connection::default()),
        };
        Ok(())
    }

    /// Forgets a connection and its paths; returns its sockets, which are to be closed.
    pub fn detach(&mut self, connection: ConnectionId) -> Vec<SocketId> {
        if self.get(connection).is_none() {
            return Vec::new();
        }
        let slot = &mut self.connections[connection.slot as usize];
        let sockets = slot.connection.take().map_or_else(Vec::new, |gone| gone.sockets);
        for socket in &sockets {
            self.sockets[socket.slot as usize] = None;
        }
        sockets
    }

    /// Whether a connection is attached.
    pub fn is_attached(&self, connection: ConnectionId) -> bool {
        self.get(connection).is_some()
    }

    /// Notes a socket that was bound for a connection.
    ///
    /// # Errors
    /// [`PathError::UnknownConnection`]; the socket is then to be closed.
    pub fn bound(
        &mut self,
        connection: ConnectionId,
        socket: SocketId,
        local: SocketAddr,
    ) -> Result<(), PathError> {
        self.get_mut(connection)?.sockets.push(socket);
        let index = socket.slot as usize;
        if index >= self.sockets.len() {
            self.sockets.resize_with(index + 1, || None);
        }
        let paths = SocketPaths { id: socket, local, owner: connection, paths: Vec::new() };
        self.sockets[index] = Some(paths);
        Ok(())
    }

    /// Forgets a socket, its paths and what was parked from them; returns whose it was.
    pub fn unbound(&mut self, socket: SocketId) -> Option<ConnectionId> {
        let owner = self.owner(socket)?;
        let gone = self.sockets[socket.slot as usize].take()?;
        if let Ok(connection) = self.get_mut(owner) {
            connection.sockets.retain(|id| *id != socket);
            connection.paths -= gone.paths.len();
            connection.validated.retain(|path| path.socket != socket);
            connection.selected = connection.selected.filter(|path| path.socket != socket);
            connection.discard(|path| path.socket == socket);
        }
        Some(owner)
    }

    /// Whose socket it is.
    pub fn owner(&self, socket: SocketId) -> Option<ConnectionId> {
        self.socket(socket).map(|known| known.owner)
    }

    /// The local address of a socket.
    pub fn local(&self, socket: SocketId) -> Option<SocketAddr> {
        self.socket(socket).map(|known| known.local)
    }

    /// Takes note of what ICE has found out. Returns what was parked and may now be
    /// delivered, in the order of arrival.
    ///
    /// # Errors
    /// [`PathError`]; nothing has changed then.
    pub fn update(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        update: PathUpdate,
    ) -> Result<Vec<Parked>, PathError> {
        self.get_mut(connection)?;
        match update {
            PathUpdate::Authenticated(path) => {
                if self.standing(now, path).is_none() {
                    self.insert(connection, path, Standing::Authenticated)?;
                }
                Ok(Vec::new())
            }
            PathUpdate::Validated(path) => {
                self.insert(connection, path, Standing::Validated)?;
                let state = self.get_mut(connection)?;
                if !state.validated.contains(&path) {
                    state.validated.push(path);
                }
                Ok(state.release(path))
            }
            PathUpdate::Selected(path) => {
                self.check_owner(connection, path.socket)?;
                let state = self.get_mut(connection)?;
                if !state.validated.contains(&path) {
                    return Err(PathError::NotValidated(path));
                }
                state.selected = Some(path);
                state.suspended = false;
                Ok(Vec::new())
            }
            PathUpdate::Lost(path) => {
                self.lose(now, connection, path)?;
                Ok(Vec::new())
            }
            PathUpdate::SendingSuspended => {
                self.get_mut(connection)?.suspended = true;
                Ok(Vec::new())
            }
        }
    }

    /// How far a path is trusted; `None` when nobody vouches for it (any more).
    pub fn standing(&self, now: Instant, path: Path) -> Option<Standing> {
        let socket = self.socket(path.socket)?;
        let index = socket.find(path.remote, path.encapsulation).ok()?;
        match socket.paths[index].standing {
            Standing::Lingering { until } if until <= now => None,
            standing => Some(standing),
        }
    }

    /// Which connection media that came in on a path belongs to; `None` when it must not be
    /// taken.
    ///
    /// Counts nothing, so that a caller may ask once for a batch:
    /// [`count_unvalidated`](Self::count_unvalidated) is for what it drops.
    pub fn route(&self, now: Instant, path: Path) -> Option<ConnectionId> {
        match self.standing(now, path)? {
            Standing::Validated | Standing::Lingering { .. } => self.owner(path.socket),
            Standing::Authenticated => None,
        }
    }

    /// Counts `datagrams` dropped on a socket because [`route`](Self::route) knew no taker.
    pub fn count_unvalidated(&mut self, socket: SocketId, datagrams: u64) {
        match self.owner(socket).and_then(|owner| self.get_mut(owner).ok()) {
            Some(connection) => connection.stats.unvalidated += datagrams,
            None => self.orphaned += datagrams,
        }
    }

    /// Decides about a datagram that came in, parks or counts it.
    pub fn admit(
        &mut self,
        now: Instant,
        path: Path,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Admission {
        let Some(owner) = self.owner(path.socket) else {
            self.orphaned += 1;
            return Admission::Dropped;
        };
        let standing = self.standing(now, path);
        let Ok(connection) = self.get_mut(owner) else {
            return Admission::Dropped;
        };
        match (kind, standing) {
            (DatagramKind::Unknown | DatagramKind::TurnChannel, _) => {
                connection.stats.unknown += 1;
                Admission::Dropped
            }
            (DatagramKind::Stun, _)
            | (_, Some(Standing::Validated | Standing::Lingering { .. })) => {
                Admission::Deliver(owner)
            }
            (DatagramKind::Dtls, Some(Standing::Authenticated)) => {
                connection.park(now, path, datagram)
            }
            _ => {
                connection.stats.unvalidated += 1;
                Admission::Dropped
            }
        }
    }

    /// Where a connection sends: the selected path, else the one validated last; `None` when
    /// there is neither or sending is suspended.
    pub fn sending_path(&self, connection: ConnectionId) -> Option<Path> {
        let state = self.get(connection).filter(|state| !state.suspended)?;
        state.selected.or_else(|| state.validated.last().copied())
    }

    /// Where a control datagram goes that asks for `path`; `None`, counted, when nowhere.
    ///
    /// A path that is named need not be known (connectivity checks go anywhere, and do so
    /// while sending is suspended); its socket has to be the connection's.
    pub fn outgoing(&mut self, connection: ConnectionId, path: Option<Path>) -> Option<Path> {
        let sending = self.sending_path(connection);
        let owned = path.is_none_or(|path| self.check_owner(connection, path.socket).is_ok());
        let Ok(state) = self.get_mut(connection) else {
            self.orphaned += 1;
            return None;
        };
        if !owned {
            state.stats.foreign_socket += 1;
            return None;
        }
        let chosen = path.or(sending);
        if chosen.is_none() {
            let count =
                if state.suspended { &mut state.stats.suspended } else { &mut state.stats.no_path };
            *count += 1;
        }
        chosen
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.next_expiry.map(|at| (at, "the grace of a lost path ends"))
    }

    /// Forgets lost paths whose grace is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|at| at > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        for socket in self.sockets.iter_mut().flatten() {
            let before = socket.paths.len();
            socket.paths.retain(|entry| match entry.standing {
                Standing::Lingering { until } if until <= now => false,
                Standing::Lingering { until } => {
                    next = Some(next.map_or(until, |at| at.min(until)));
                    true
                }
                Standing::Authenticated | Standing::Validated => true,
            });
            let gone = before - socket.paths.len();
            let slot = &mut self.connections[socket.owner.slot as usize];
            if let Some(connection) = &mut slot.connection {
                connection.paths -= gone;
            }
        }
        self.next_expiry = next;
    }

    /// What was dropped, parked and refused for a connection.
    pub fn stats(&self, connection: ConnectionId) -> Option<PathStats> {
        self.get(connection).map(|state| state.stats)
    }

    /// Datagrams dropped because their socket or connection is gone.
    pub fn orphaned(&self) -> u64 {
        self.orphaned
    }

    fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let slot = self.connections.get(id.slot as usize)?;
        slot.connection.as_ref().filter(|_| slot.generation == Some(id.generation))
    }

    fn get_mut(&mut self, id: ConnectionId) -> Result<&mut Connection, PathError> {
        self.connections
            .get_mut(id.slot as usize)
            .filter(|slot| slot.generation == Some(id.generation))
            .and_then(|slot| slot.connection.as_mut())
            .ok_or(PathError::UnknownConnection(id))
    }

    fn socket(&self, id: SocketId) -> Option<&SocketPaths> {
        self.sockets.get(id.slot as usize)?.as_ref().filter(|socket| socket.id == id)
    }

    fn check_owner(&self, connection: ConnectionId, socket: SocketId) -> Result<(), PathError> {
        match self.owner(socket) {
            Some(owner) if owner == connection => Ok(()),
            _ => Err(PathError::ForeignSocket(socket)),
        }
    }

    fn insert(
        &mut self,
        connection: ConnectionId,
        path: Path,
        standing: Standing,
    ) -> Result<(), PathError> {
        self.check_owner(connection, path.socket)?;
        let full = self.get_mut(connection)?.paths >= MAX_PATHS;
        let socket = self.socket(path.socket).ok_or(PathError::ForeignSocket(path.socket))?;
        let refused = full
            && socket.find(path.remote, path.encapsulation).is_err()
            && (standing == Standing::Authenticated || !self.evict(connection));
        if refused {
            return Err(PathError::TooManyPaths);
        }
        let Some(Some(socket)) = self.sockets.get_mut(path.socket.slot as usize) else {
            return Err(PathError::ForeignSocket(path.socket));
        };
        match socket.find(path.remote, path.encapsulation) {
            Ok(index) => socket.paths[index].standing = standing,
            Err(index) => {
                let Path { remote, encapsulation, .. } = path;
                socket.paths.insert(index, Entry { remote, encapsulation, standing });
                self.get_mut(connection)?.paths += 1;
            }
        }
        Ok(())
    }

    /// Makes room for a validated path at the cost of one that is only authenticated.
    fn evict(&mut self, connection: ConnectionId) -> bool {
        let Ok(state) = self.get_mut(connection) else { return false };
        let sockets = state.sockets.clone();
        for id in sockets {
            let Some(Some(socket)) = self.sockets.get_mut(id.slot as usize) else { continue };
            let weakest = |entry: &Entry| entry.standing == Standing::Authenticated;
            if let Some(index) = socket.paths.iter().position(weakest) {
                let Entry { remote, encapsulation, .. } = socket.paths.remove(index);
                let path = Path { socket: id, remote, encapsulation };
                if let Ok(state) = self.get_mut(connection) {
                    state.paths -= 1;
                    state.discard(|parked| parked == path);
                }
                return true;
            }
        }
        false
    }

    fn lose(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        path: Path,
    ) -> Result<(), PathError> {
        self.check_owner(connection, path.socket)?;
        let Some(Some(socket)) = self.sockets.get_mut(path.socket.slot as usize) else {
            return Err(PathError::ForeignSocket(path.socket));
        };
        let Ok(index) = socket.find(path.remote, path.encapsulation) else {
            return Ok(());
        };
        match socket.paths[index].standing {
            Standing::Lingering { .. } => return Ok(()),
            Standing::Authenticated => {
                socket.paths.remove(index);
                self.get_mut(connection)?.paths -= 1;
            }
            Standing::Validated => {
                let until = now + GRACE;
                socket.paths[index].standing = Standing::Lingering { until };
                self.next_expiry = Some(self.next_expiry.map_or(until, |at| at.min(until)));
            }
        }
        let state = self.get_mut(connection)?;
        state.validated.retain(|known| *known != path);
        state.selected = state.selected.filter(|known| *known != path);
        state.discard(|parked| parked == path);
        Ok(())
    }
}

impl SocketPaths {
    fn find(&self, remote: SocketAddr, encapsulation: Encapsulation) -> Result<usize, usize> {
        self.paths.binary_search_by(|entry| {
            (entry.remote, entry.encapsulation).cmp(&(remote, encapsulation))
        })
    }
}

impl Connection {
    fn park(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Admission {
        if self.parked.len() >= MAX_PARKED || self.parked_bytes + datagram.len() > MAX_PARKED_BYTES
        {
            self.stats.park_overflow += 1;
            return Admission::Dropped;
        }
        self.stats.parked += 1;
        self.parked_bytes += datagram.len();
        let datagram = Bytes::copy_from_slice(datagram);
        self.parked.push(Parked { path, received_at: now, datagram });
        Admission::Parked
    }

    fn release(&mut self, path: Path) -> Vec<Parked> {
        let released = self.take_parked(|parked| parked == path);
        self.stats.released += released.len() as u64;
        released
    }

    fn discard(&mut self, of: impl Fn(Path) -> bool) {
        let discarded = self.take_parked(of);
        self.stats.unvalidated += discarded.len() as u64;
    }

    fn take_parked(&mut self, of: impl Fn(Path) -> bool) -> Vec<Parked> {
        let taken: Vec<Parked> = self.parked.extract_if(.., |parked| of(parked.path)).collect();
        self.parked_bytes -= taken.iter().map(|parked| parked.datagram.len()).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests;
