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
//! | [`Authenticated`](Standing::Authenticated) | [`PathUpdate::Authenticated`] | taken | parked | parked, for 1 s |
//! | [`Validated`](Standing::Validated) | [`PathUpdate::Validated`] | taken | taken | taken |
//! | [`Lingering`](Standing::Lingering) | [`PathUpdate::Lost`] | taken | taken | taken, for 5 s |
//!
//! A peer validates a path when we have answered it, we when it has answered us: it may send media on
//! it before our own check is done. Nothing of what is parked is looked into, and media takes no room
//! that DTLS has.
//!
//! What is received does not depend on what is selected: [`PathUpdate::Selected`] only says
//! where the connection sends, so a nomination never costs a datagram in flight.
//!
//! # Shared sockets
//!
//! A socket belongs to one connection, or several [`join`](PathTable::join) it. On a shared
//! socket a binding *request* belongs to the connection whose username fragment it names, from
//! wherever it comes (RFC 8445 §7.3), a *response* to the connection that has sent the request,
//! and everything else to the connection whose path it came in on. Nothing is kept of a
//! datagram that is nobody's; [`SharedStats`] counts it.
//!
//! **Two connections towards one remote address** cannot both have the path: their DTLS and
//! SRTP look alike. An authenticated request takes nothing from a path that another connection
//! has validated, since its source may be forged. Once the newer connection has validated it
//! (whoever is there knows the newer password and has seen what we sent), the path is the newer
//! one's, and the older hears that it is [taken](PathTable::poll_taken). So a peer that comes
//! back from the same port gets through, and an older connection never takes a path back.
//!
//! **Forks** are connections of one local side, with one username fragment. A connection
//! [shares](PathTable::share) its sockets, forks [join](PathTable::join) them, and each
//! [claims](PathTable::claim) the username fragment of its peer: a request belongs to whoever
//! has claimed the second half of its USERNAME. One that nobody has claimed is kept, 32 a socket
//! and 10 s at most, as a peer may be faster than the signalling that announces it.
//!
//! # Use
//!
//! 1. [`attach`](PathTable::attach) a connection, [`bound`](PathTable::bound) its sockets.
//! 2. Feed what ICE finds out to [`update`](PathTable::update); deliver what it releases, and
//!    tell who has [lost a path](PathTable::poll_taken) by it.
//! 3. Ask [`admit`](PathTable::admit) about each control datagram, [`route`](PathTable::route)
//!    about media (it only reads, and is one look-up in a socket's table of addresses, which
//!    costs the same for ten paths and for ten thousand).
//! 4. Ask [`sending_path`](PathTable::sending_path) for media, [`outgoing`](PathTable::outgoing)
//!    for control, [`sending_paths`](PathTable::sending_paths) for a goodbye.
//! 5. At [`poll_timeout`](PathTable::poll_timeout), call
//!    [`handle_timeout`](PathTable::handle_timeout).

mod error;
mod hash;
mod shared;
mod sharing;
mod stats;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::error::PathError;
use self::hash::AddressHash;
use self::shared::{Shared, TransactionId};
pub use self::stats::{PathStats, SharedStats};
use crate::{
    ConnectionId, DatagramKind, Encapsulation, Path, PathUpdate, SocketId, classify, prefetch_front,
};

/// How long a lost path is still received from: longer than what may be in flight or queued
/// on any path worth using.
pub const GRACE: Duration = Duration::from_secs(5);

/// Most DTLS datagrams that wait for the validation of their paths, per connection.
pub const MAX_PARKED: usize = 8;

/// Most bytes of DTLS that wait so, per connection.
pub const MAX_PARKED_BYTES: usize = 10_000;

/// Most RTP and RTCP datagrams that wait for the validation of their paths, per connection.
pub const MAX_PARKED_MEDIA: usize = 32;

/// Most bytes of RTP and RTCP that wait so, per connection.
pub const MAX_PARKED_MEDIA_BYTES: usize = 40_000;

/// How long RTP and RTCP wait so: for a check that is lost and sent again, and not until they are
/// of no use.
pub const MEDIA_WAIT: Duration = Duration::from_secs(1);

/// Most paths of one connection. Each stands for an authenticated request, but a request can
/// be replayed from any number of addresses.
pub const MAX_PATHS: usize = 256;

/// Most paths that something is sent on at once: of a connection that has settled there are three.
const MAX_EVERYWHERE: usize = 8;

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

impl Parked {
    /// Whether it has a time after which it is of no use.
    fn is_media(&self) -> bool {
        classify(&self.datagram).is_media()
    }
}

/// The paths of all connections of a socket port; see the [module](self).
#[derive(Debug, Default)]
pub struct PathTable {
    connections: Vec<Slot>,
    sockets: Vec<Option<SocketPaths>>,
    /// Lost paths in the order in which their grace ends; one that was validated again
    /// meanwhile is passed over.
    lingering: VecDeque<(Instant, Path)>,
    /// Connections attached so far.
    attached: u64,
    /// When media that waits for its path has to go, and whose it is; one for each connection that
    /// has some.
    waiting: VecDeque<(Instant, ConnectionId)>,
    taken: VecDeque<(ConnectionId, Path)>,
    shared: SharedStats,
    orphaned: u64,
    /// Look-ups by address so far.
    #[cfg(any(test, feature = "sim"))]
    lookups: std::cell::Cell<u64>,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Slot {
    /// The last generation that was attached.
    generation: Option<u32>,
    connection: Option<Connection>,
}

/// What is looked at where packets are sent stands in [front](Self::FRONT).
#[derive(Debug, Default)]
#[repr(C)]
struct Connection {
    selected: Option<Path>,
    suspended: bool,
    /// Counts the connections that were attached before.
    age: u64,
    /// Those that it owns and those that it has joined.
    sockets: Vec<SocketId>,
    /// The username fragment under which it has joined shared sockets.
    username_frag: Option<Box<str>>,
    /// Everything that the sockets' tables have of it.
    paths: Vec<Path>,
    /// In the order of validation.
    validated: Vec<Path>,
    parked: Vec<Parked>,
    /// Whether the table's [`waiting`](PathTable::waiting) has it.
    is_waiting: bool,
    /// Requests on shared sockets, the oldest first.
    requests: VecDeque<(Instant, SocketId, TransactionId)>,
    stats: PathStats,
}

impl Connection {
    /// Bytes of what sending looks at.
    const FRONT: usize = std::mem::offset_of!(Self, age);
}

#[derive(Debug)]
struct SocketPaths {
    id: SocketId,
    local: SocketAddr,
    tenancy: Tenancy,
    paths: HashMap<(SocketAddr, Encapsulation), Entry, AddressHash>,
}

/// Whose a socket is.
#[derive(Debug)]
enum Tenancy {
    Owned(ConnectionId),
    Shared(Shared),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    connection: ConnectionId,
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
        self.attached += 1;
        *slot = Slot {
            generation: Some(connection.generation),
            connection: Some(Connection { age: self.attached, ..Connection::default() }),
        };
        Ok(())
    }

    /// Forgets a connection and its paths; returns the sockets that are to be closed: its own,
    /// and shared ones that nobody else needs.
    pub fn detach(&mut self, connection: ConnectionId) -> Vec<SocketId> {
        let mut sockets = self.sockets(connection).to_vec();
        sockets.retain(|socket| self.unbind(connection, *socket) == Ok(true));
        if self.get(connection).is_some() {
            self.connections[connection.slot as usize].connection = None;
        }
        sockets
    }

    /// Whether a connection is attached.
    pub fn is_attached(&self, connection: ConnectionId) -> bool {
        self.get(connection).is_some()
    }

    /// The sockets that a connection uses, shared ones included.
    pub fn sockets(&self, connection: ConnectionId) -> &[SocketId] {
        self.get(connection).map_or(&[], |state| &state.sockets)
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
        let sockets = &mut self.get_mut(connection)?.sockets;
        sockets.reserve_exact(1);
        sockets.push(socket);
        self.insert_socket(socket, local, Tenancy::Owned(connection));
        Ok(())
    }

    fn insert_socket(&mut self, id: SocketId, local: SocketAddr, tenancy: Tenancy) {
        let index = id.slot as usize;
        if index >= self.sockets.len() {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(SocketPaths { id, local, tenancy, paths: HashMap::default() });
    }

    /// Has a connection let go of one socket, of its paths on it and of what was parked from
    /// them. Returns whether the socket is to be closed: it was the connection's own, or is
    /// one that nobody else needs.
    ///
    /// # Errors
    /// [`PathError::UnknownConnection`], [`PathError::ForeignSocket`].
    pub fn unbind(
        &mut self,
        connection: ConnectionId,
        socket: SocketId,
    ) -> Result<bool, PathError> {
        self.check_use(connection, socket)?;
        let state = self.get_mut(connection)?;
        state.sockets.retain(|id| *id != socket);
        let on_it = |path: &mut Path| path.socket == socket;
        let gone: Vec<Path> = state.paths.extract_if(.., on_it).collect();
        state.validated.retain(|path| path.socket != socket);
        state.selected = state.selected.filter(|path| path.socket != socket);
        state.discard(|parked| parked.path.socket == socket);
        let requests: Vec<_> = state.requests.iter().map(|(_, on, id)| (*on, *id)).collect();
        state.requests.retain(|(_, on, _)| *on != socket);
        let username_frag = state.username_frag.clone();
        let Some(entry) = self.socket_mut(socket) else { return Ok(false) };
        for path in gone {
            entry.paths.remove(&(path.remote, path.encapsulation));
        }
        let close = match &mut entry.tenancy {
            Tenancy::Owned(_) => true,
            Tenancy::Shared(shared) => {
                username_frag.iter().for_each(|fragment| shared.leave(fragment, connection));
                for (_, id) in requests.iter().filter(|(on, _)| *on == socket) {
                    shared.forget(id, connection);
                }
                shared.is_idle()
            }
        };
        if close {
            self.sockets[socket.slot as usize] = None;
        }
        Ok(close)
    }

    /// Forgets a socket that has failed, its paths and what was parked from them; returns who
    /// has used it.
    pub fn unbound(&mut self, socket: SocketId) -> Vec<ConnectionId> {
        let users: Vec<ConnectionId> = (0..)
            .zip(&self.connections)
            .filter(|(_, slot)| {
                slot.connection.as_ref().is_some_and(|state| state.sockets.contains(&socket))
            })
            .filter_map(|(number, slot)| {
                Some(ConnectionId { slot: number, generation: slot.generation? })
            })
            .collect();
        self.release(socket);
        for user in &users {
            // They use it, as was just seen.
            let _ = self.unbind(*user, socket);
        }
        users
    }

    /// Whether there is such a socket.
    pub fn is_bound(&self, socket: SocketId) -> bool {
        self.socket(socket).is_some()
    }

    /// The local address of a socket.
    pub fn local(&self, socket: SocketId) -> Option<SocketAddr> {
        self.socket(socket).map(|known| known.local)
    }

    /// Takes note of what ICE has found out. Returns what was parked and may now be
    /// delivered, of all kinds, in the order of arrival.
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
                // Of others, only what is not validated either makes way.
                let gives_way = self.holder(now, path).is_none_or(|holder| {
                    holder.connection != connection && holder.standing == Standing::Authenticated
                });
                if gives_way {
                    self.insert(connection, path, Standing::Authenticated)?;
                } else {
                    self.check_use(connection, path.socket)?;
                }
                Ok(Vec::new())
            }
            PathUpdate::Validated(path) => {
                if self.belongs_to_newer(now, connection, path) {
                    self.taken.push_back((connection, path));
                    return Err(PathError::Taken(path));
                }
                self.insert(connection, path, Standing::Validated)?;
                let state = self.get_mut(connection)?;
                if !state.validated.contains(&path) {
                    state.validated.reserve_exact(1);
                    state.validated.push(path);
                }
                Ok(state.release(now, path))
            }
            PathUpdate::Selected(path) => {
                self.check_use(connection, path.socket)?;
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
        self.holder(now, path).map(|holder| holder.standing)
    }

    /// Which connection media that came in on a path belongs to; `None` when it must not be
    /// taken.
    ///
    /// Counts nothing: what it knows no taker for is for [`admit`](Self::admit) to park or to count.
    pub fn route(&self, now: Instant, path: Path) -> Option<ConnectionId> {
        let holder = self.holder(now, path)?;
        match holder.standing {
            Standing::Validated | Standing::Lingering { .. } => Some(holder.connection),
            Standing::Authenticated => None,
        }
    }

    /// Whose path it is, unless its grace is over.
    fn holder(&self, now: Instant, path: Path) -> Option<Entry> {
        #[cfg(any(test, feature = "sim"))]
        self.lookups.set(self.lookups.get() + 1);
        let socket = self.socket(path.socket)?;
        let entry = *socket.paths.get(&(path.remote, path.encapsulation))?;
        match entry.standing {
            Standing::Lingering { until } if until <= now => None,
            _ => Some(entry),
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
        let owner = match self.socket(path.socket).map(|socket| &socket.tenancy) {
            None => {
                self.orphaned += 1;
                return Admission::Dropped;
            }
            Some(Tenancy::Owned(owner)) => *owner,
            Some(Tenancy::Shared(_)) => match self.whose(now, path, kind, datagram) {
                Ok(connection) => connection,
                Err(admission) => return admission,
            },
        };
        let standing = self.holder(now, path).filter(|holder| holder.connection == owner);
        let standing = standing.map(|holder| holder.standing);
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
            (_, Some(Standing::Authenticated)) => {
                let admission = connection.park(now, path, datagram);
                if kind.is_media() && !std::mem::replace(&mut connection.is_waiting, true) {
                    self.waiting.push_back((now + MEDIA_WAIT, owner));
                }
                admission
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

    /// Where a connection may send: [where it does](Self::sending_path), then what was validated last;
    /// at most eight paths, none while sending is suspended.
    pub fn sending_paths(&self, connection: ConnectionId) -> Vec<Path> {
        let Some(first) = self.sending_path(connection) else { return Vec::new() };
        let validated = self.get(connection).map_or(&[][..], |state| &state.validated);
        let others = validated.iter().rev().copied().filter(|path| *path != first);
        std::iter::once(first).chain(others).take(MAX_EVERYWHERE).collect()
    }

    /// Has the processor fetch what [`sending_path`](Self::sending_path) looks at.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        if let Some(slot) = self.connections.get(slot as usize) {
            prefetch_front(slot, std::mem::offset_of!(Slot, connection) + Connection::FRONT);
        }
    }

    /// Where a control datagram goes that asks for `path`; `None`, counted, when nowhere.
    ///
    /// A path that is named need not be known (connectivity checks go anywhere, and do so
    /// while sending is suspended); its socket has to be the connection's. On a shared socket,
    /// the response to a binding request is the connection's from now on, for 10 s.
    pub fn outgoing(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        path: Option<Path>,
        datagram: &[u8],
    ) -> Option<Path> {
        let sending = self.sending_path(connection);
        let owned = path.is_none_or(|path| self.check_use(connection, path.socket).is_ok());
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
        if let (Some(path), Some(id)) = (chosen, shared::request_id(datagram)) {
            self.note_request(now, connection, path, id);
        }
        chosen
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let grace = self.lingering.front().map(|(at, _)| (*at, "the grace of a lost path ends"));
        let media = self.waiting.front().map(|(at, _)| (*at, "media has waited for its path"));
        grace.into_iter().chain(media).min_by_key(|(at, _)| *at)
    }

    /// Forgets lost paths whose grace is over, and media that has waited for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, connection)) = self.waiting.pop_front_if(|(at, _)| *at <= now) {
            let Ok(state) = self.get_mut(connection) else { continue };
            let next = state.expire(now);
            state.is_waiting = next.is_some();
            if let Some(at) = next {
                let behind = self.waiting.partition_point(|(other, _)| *other <= at);
                self.waiting.insert(behind, (at, connection));
            }
        }
        while let Some((_, path)) = self.lingering.pop_front_if(|(until, _)| *until <= now) {
            let is_over = self.entry(path).is_some_and(
                |entry| matches!(entry.standing, Standing::Lingering { until } if until <= now),
            );
            if is_over {
                self.remove(path);
            }
        }
    }

    /// What was dropped, parked and refused for a connection.
    pub fn stats(&self, connection: ConnectionId) -> Option<PathStats> {
        self.get(connection).map(|state| state.stats)
    }

    /// Datagrams dropped because their socket or connection is gone.
    pub fn orphaned(&self) -> u64 {
        self.orphaned
    }

    /// How often an address was looked up so far: what a test of the hot path counts.
    #[cfg(any(test, feature = "sim"))]
    pub fn lookups(&self) -> u64 {
        self.lookups.get()
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

    fn socket_mut(&mut self, id: SocketId) -> Option<&mut SocketPaths> {
        self.sockets.get_mut(id.slot as usize)?.as_mut().filter(|socket| socket.id == id)
    }

    fn entry(&self, path: Path) -> Option<&Entry> {
        self.socket(path.socket)?.paths.get(&(path.remote, path.encapsulation))
    }

    fn check_use(&self, connection: ConnectionId, socket: SocketId) -> Result<(), PathError> {
        let state = self.get(connection).ok_or(PathError::UnknownConnection(connection))?;
        if state.sockets.contains(&socket) { Ok(()) } else { Err(PathError::ForeignSocket(socket)) }
    }

    /// Makes a path this connection's, whoever had it.
    fn insert(
        &mut self,
        connection: ConnectionId,
        path: Path,
        standing: Standing,
    ) -> Result<(), PathError> {
        self.check_use(connection, path.socket)?;
        let holder = self.entry(path).map(|entry| entry.connection);
        let is_new = holder != Some(connection);
        let full = is_new && self.get_mut(connection)?.paths.len() >= MAX_PATHS;
        if full && (standing == Standing::Authenticated || !self.evict(connection)) {
            return Err(PathError::TooManyPaths);
        }
        if is_new {
            self.displace(path);
            // Most have one or two, for as long as they live.
            let paths = &mut self.get_mut(connection)?.paths;
            paths.reserve_exact(1);
            paths.push(path);
        }
        let socket = self.socket_mut(path.socket).ok_or(PathError::ForeignSocket(path.socket))?;
        socket.paths.insert((path.remote, path.encapsulation), Entry { connection, standing });
        Ok(())
    }

    /// Takes a path from another connection; one that had it validated is to hear of it.
    fn displace(&mut self, path: Path) {
        let Some(Entry { connection, standing }) = self.remove(path) else { return };
        if standing == Standing::Validated {
            self.taken.push_back((connection, path));
            if let Ok(state) = self.get_mut(connection) {
                state.stats.taken += 1;
            }
        }
    }

    /// Forgets a path and what was parked from it.
    fn remove(&mut self, path: Path) -> Option<Entry> {
        let socket = self.socket_mut(path.socket)?;
        let entry = socket.paths.remove(&(path.remote, path.encapsulation))?;
        if let Ok(state) = self.get_mut(entry.connection) {
            state.paths.retain(|known| *known != path);
            state.leave(path);
        }
        Some(entry)
    }

    /// Makes room for a validated path at the cost of one that is only authenticated.
    fn evict(&mut self, connection: ConnectionId) -> bool {
        let Some(state) = self.get(connection) else { return false };
        let weakest = state.paths.iter().copied().find(|path| {
            self.entry(*path).is_some_and(|entry| entry.standing == Standing::Authenticated)
        });
        weakest.is_some_and(|path| self.remove(path).is_some())
    }

    fn lose(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        path: Path,
    ) -> Result<(), PathError> {
        self.check_use(connection, path.socket)?;
        let entry = self.entry(path).filter(|entry| entry.connection == connection);
        match entry.map(|entry| entry.standing) {
            None | Some(Standing::Lingering { .. }) => {}
            Some(Standing::Authenticated) => {
                self.remove(path);
            }
            Some(Standing::Validated) => {
                let until = now + GRACE;
                let standing = Standing::Lingering { until };
                self.insert(connection, path, standing)?;
                self.get_mut(connection)?.leave(path);
                self.lingering.push_back((until, path));
            }
        }
        Ok(())
    }
}

impl Connection {
    fn park(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Admission {
        let is_media = classify(datagram).is_media();
        if is_media {
            self.expire(now);
        }
        let others = self.parked.iter().filter(|parked| parked.is_media() == is_media);
        let (count, bytes) = others.fold((0, datagram.len()), |(count, bytes), other| {
            (count + 1, bytes + other.datagram.len())
        });
        let (most, most_bytes) = match is_media {
            true => (MAX_PARKED_MEDIA, MAX_PARKED_MEDIA_BYTES),
            false => (MAX_PARKED, MAX_PARKED_BYTES),
        };
        if count >= most || bytes > most_bytes {
            self.stats.park_overflow += 1;
            return Admission::Dropped;
        }
        self.stats.parked += 1;
        let datagram = Bytes::copy_from_slice(datagram);
        self.parked.push(Parked { path, received_at: now, datagram });
        Admission::Parked
    }

    fn release(&mut self, now: Instant, path: Path) -> Vec<Parked> {
        self.expire(now);
        let released = self.take_parked(|parked| parked.path == path);
        self.stats.released += released.len() as u64;
        released
    }

    /// Drops media that has waited for too long; returns when the next will have.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.discard(|parked| parked.is_media() && parked.received_at + MEDIA_WAIT <= now);
        let media = self.parked.iter().filter(|parked| parked.is_media());
        media.map(|parked| parked.received_at + MEDIA_WAIT).min()
    }

    /// Does not send on a path any more.
    fn leave(&mut self, path: Path) {
        self.validated.retain(|known| *known != path);
        self.selected = self.selected.filter(|known| *known != path);
        self.discard(|parked| parked.path == path);
    }

    fn discard(&mut self, of: impl Fn(&Parked) -> bool) {
        self.stats.unvalidated += self.take_parked(of).len() as u64;
    }

    fn take_parked(&mut self, of: impl Fn(&Parked) -> bool) -> Vec<Parked> {
        let taken = self.parked.extract_if(.., |parked| of(parked)).collect();
        if self.parked.is_empty() {
            // For as long as the connection lives there is hardly ever anything again.
            self.parked = Vec::new();
        }
        taken
    }
}

#[cfg(test)]
mod tests;
