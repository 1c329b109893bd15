//! The rooms of a server: what the tasks of all members share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::WebSocket;
use ortc_api::{
    Engine, ListenerStats, MediaStream, MediaStreamTrack, RTCConnection, RTCConnectionOptions,
    RTCIceServer, RTCSocket, RTCTcpPort, RTCTrackDescription,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::debug;

use crate::member::Member;
use crate::pairs::Frame;
use crate::rooms::{
    Change, Complaint, MemberId, Notice, Received, Refusal, RoomCounts, RoomLimits, Rooms, TrackId,
    forwarded_msid,
};
use crate::socket::refuse;

/// What rooms are made with.
#[derive(Debug)]
pub(crate) struct RoomOptions {
    pub(crate) limits: RoomLimits,
    /// Runs the connections towards all members: only within one can tracks be forwarded.
    pub(crate) engine: Engine,
    /// Shared by the members, one for each media thread; if there is none, each has its own.
    pub(crate) sockets: Vec<RTCSocket>,
    /// Whether members that are not on this host have to find the server.
    pub(crate) ice_lite: bool,
    /// Whom to ask for candidates.
    pub(crate) ice_servers: Vec<RTCIceServer>,
    /// Where members come in who have no UDP.
    pub(crate) tcp: Option<RTCTcpPort>,
}

/// All rooms of a server.
#[derive(Debug, Clone)]
pub(crate) struct RoomServer {
    table: Arc<Mutex<Table>>,
    engine: Engine,
    sockets: Arc<[RTCSocket]>,
    ice_lite: bool,
    ice_servers: Arc<[RTCIceServer]>,
    tcp: Option<RTCTcpPort>,
    /// Members that have been given a socket: the next one gets the next.
    seated: Arc<AtomicUsize>,
    closing: watch::Receiver<bool>,
    /// Held by every member: once all are dropped, all have ended.
    _alive: mpsc::Sender<()>,
}

#[derive(Debug)]
struct Table {
    rooms: Rooms,
    wakers: BTreeMap<MemberId, Arc<Notify>>,
    published: BTreeMap<TrackId, Published>,
}

/// A track of a member, ready to be added to the connections of the others.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// A stream with this track alone: tracks come and go one by one.
    pub(crate) stream: MediaStream,
    /// The track, as it is in that stream.
    pub(crate) track: MediaStreamTrack,
    /// The streams that it belongs to, as the others know them.
    pub(crate) msid: Vec<String>,
}

/// What became of a description.
#[derive(Debug)]
pub(crate) enum Publication {
    /// A new track, as the member's connection receives it.
    New(MediaStreamTrack),
    /// It is known: signalling channels repeat messages.
    Known,
}

impl RoomServer {
    pub(crate) fn new(
        options: RoomOptions,
        closing: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> Self {
        let RoomOptions { limits, engine, sockets, ice_lite, ice_servers, tcp } = options;
        let rooms = Rooms::new(limits);
        let table = Table { rooms, wakers: BTreeMap::new(), published: BTreeMap::new() };
        Self {
            table: Arc::new(Mutex::new(table)),
            engine,
            sockets: sockets.into(),
            ice_lite,
            ice_servers: ice_servers.into(),
            tcp,
            seated: Arc::default(),
            closing,
            _alive: alive,
        }
    }

    /// Serves one member until it or the server goes. `is_local` if it is on this host.
    pub(crate) async fn serve(self, name: String, is_local: bool, mut socket: WebSocket) {
        let woken = Arc::new(Notify::new());
        let joined = self.lock().join(&name, &woken);
        let id = match joined {
            Ok(id) => id,
            Err(refusal) => {
                debug!(name, %refusal, "member not let in");
                let error = refusal.to_signal();
                return refuse(&mut socket, refusal.close_code(), error).await;
            }
        };
        debug!(name, %id, "member joined");
        // Leaves the room however this ends, a panic included.
        let seat = Seat { rooms: &self, id };
        let connection = match RTCConnection::new(self.connection_options(is_local)) {
            Ok(connection) => connection,
            Err(error) => {
                drop(seat);
                let refusal = Refusal::Failed(error.to_string());
                return refuse(&mut socket, refusal.close_code(), refusal.to_signal()).await;
            }
        };
        let member = Member::new(&self, id, connection, woken, self.closing.clone());
        let reason = member.attend(&mut socket, seat).await;
        debug!(name, %id, reason, "member left");
    }

    /// How the server's connections are made. Those to members on this host may run over
    /// loopback, which may be all that there is, and look for their members themselves: what is
    /// announced to others may lead nowhere from here.
    fn connection_options(&self, is_local: bool) -> RTCConnectionOptions {
        let mut options = RTCConnectionOptions::new()
            .with_engine(self.engine.clone())
            .with_loopback(is_local)
            .with_ice_lite(self.ice_lite && !is_local)
            .with_ice_servers(self.ice_servers.iter().cloned());
        if let Some(tcp) = &self.tcp {
            options = options.with_tcp_port(tcp.clone());
        }
        let number = self.seated.fetch_add(1, Ordering::Relaxed);
        match self.sockets.get(number % self.sockets.len().max(1)) {
            Some(socket) => options.with_socket(socket.clone()),
            None => options,
        }
    }

    /// What has become of streams to the TCP port of all rooms.
    pub(crate) fn stream_stats(&self) -> ListenerStats {
        self.tcp.as_ref().map(RTCTcpPort::stats).unwrap_or_default()
    }

    /// Takes a frame of a member.
    pub(crate) fn receive(&self, from: MemberId, frame: Frame) -> Received {
        self.lock().rooms.receive(now(), from, frame)
    }

    /// Counts a complaint about what a member has said.
    pub(crate) fn complain(&self, complaint: Complaint) -> Complaint {
        self.lock().rooms.complain(complaint)
    }

    /// Receives a track that a member describes, and publishes it to the others.
    pub(crate) fn publish(
        &self,
        from: MemberId,
        connection: &RTCConnection,
        description: &RTCTrackDescription,
    ) -> Result<Publication, Complaint> {
        let complaint = |error: &dyn std::fmt::Display| Complaint::Track(error.to_string());
        let ssrc = description.ssrc().map_err(|error| complaint(&error))?.0;
        // In decimal without leading zeros, as the connection compares them by their spelling.
        let description = RTCTrackDescription { ssrc: ssrc.to_string(), ..description.clone() };
        let receive = || connection.receive_track(&description).map_err(|error| complaint(&error));
        // One lock for the question, the answer and the deed: members publish at once.
        let mut table = self.lock();
        if table.rooms.published(from, ssrc).is_some() {
            receive()?;
            return Ok(Publication::Known);
        }
        table.rooms.may_publish(from, &description.msid)?;
        let received = receive()?;
        let Some(change) = table.rooms.publish(from, ssrc) else { return Ok(Publication::Known) };
        let stream = MediaStream::new();
        let track = stream.add_track(&received);
        let msid = forwarded_msid(from, &description.msid, ssrc);
        table.published.insert(change.track, Published { stream, track, msid });
        table.wake(&change);
        Ok(Publication::New(received))
    }

    /// Ends a track of a member; whether there was one of that SSRC.
    pub(crate) fn end(&self, from: MemberId, ssrc: u32) -> bool {
        let mut table = self.lock();
        let Some(change) = table.rooms.end(from, ssrc) else { return false };
        table.ended(&change);
        true
    }

    /// Takes the next thing that a member is to be told, with the track if it has not ended.
    pub(crate) fn take(&self, member: MemberId) -> Option<(Notice, Option<Published>)> {
        let mut table = self.lock();
        let notice = table.rooms.take(member)?;
        let published = match notice {
            Notice::TrackAdded(track) => table.published.get(&track).cloned(),
            Notice::TrackEnded(_) => None,
        };
        Some((notice, published))
    }

    pub(crate) fn connected(&self, member: MemberId) {
        self.lock().rooms.connected(member);
    }

    pub(crate) fn path_lost(&self, member: MemberId) {
        self.lock().rooms.path_lost(now(), member);
    }

    pub(crate) fn poll_timeout(&self, member: MemberId) -> Option<Instant> {
        self.lock().rooms.poll_timeout(member).map(Instant::from_std)
    }

    pub(crate) fn handle_timeout(&self, member: MemberId) -> Option<Refusal> {
        self.lock().rooms.handle_timeout(now(), member)
    }

    /// How many are in a room.
    pub(crate) fn members_of(&self, name: &str) -> usize {
        self.lock().rooms.members_of(name)
    }

    /// What there is now, and what has happened so far.
    pub(crate) fn counts(&self) -> RoomsNow {
        let rooms = &self.lock().rooms;
        RoomsNow {
            rooms: rooms.len(),
            members: rooms.members(),
            tracks: rooms.tracks(),
            counts: rooms.counts(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is whole after every call, so a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rooms of a server at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomsNow {
    pub(crate) rooms: usize,
    pub(crate) members: usize,
    pub(crate) tracks: usize,
    pub(crate) counts: RoomCounts,
}

impl Table {
    fn join(&mut self, name: &str, woken: &Arc<Notify>) -> Result<MemberId, Refusal> {
        let member = self.rooms.join(now(), name)?;
        self.wakers.insert(member, Arc::clone(woken));
        Ok(member)
    }

    fn ended(&mut self, change: &Change) {
        self.published.remove(&change.track);
        self.wake(change);
    }

    fn wake(&self, change: &Change) {
        for waker in change.others.iter().filter_map(|other| self.wakers.get(other)) {
            waker.notify_one();
        }
    }
}

/// A member's place in its room, given up on drop: from then on its tracks have ended.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    rooms: &'a RoomServer,
    id: MemberId,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut table = self.rooms.lock();
        table.wakers.remove(&self.id);
        for change in table.rooms.leave(self.id) {
            table.ended(&change);
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
