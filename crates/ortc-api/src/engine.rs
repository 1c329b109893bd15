//! The threads that connections run on.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use actix::{Addr, Recipient};
use ortc_dtls::{Certificate, DtlsConfig, DtlsVersion};
use ortc_forward::{ForwarderActor, ForwarderConfig, ForwarderStats, TakeSnapshot};
use ortc_ice::{CandidateTypes, InterfaceFilter, RTCIceServer, TcpCandidates, TcpPort};
use ortc_io::{ConnectionId, FlightConfig, LinkNameStats, LinkNames};
use ortc_rtp::congestion::BandwidthLimits;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::actor::ConnectionActor;
use crate::connection::{Command, Shared, WeakRTCConnection};
use crate::ending::Open;
use crate::error::NewConnectionError;
use crate::flight::FlightDumps;
use crate::media::lock;
use crate::network::NetworkWatch;
use crate::socket::{BindRequest, SocketUse};
use crate::tcp_port::TcpPortRequest;
use crate::transports::{MediaPlane, Transports};
use crate::vigil::Vigil;

/// How long an engine that nobody holds any more waits for its connections to close: the
/// sum of what their steps may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The control thread, with the actors, and the media thread, with the sockets.
///
/// Connections share the process-wide engine unless they are given another. An engine stops
/// when the last connection, and the last clone of this handle, is gone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<EngineInner>,
}

struct EngineInner {
    requests: mpsc::UnboundedSender<Request>,
    slots: Arc<Slots>,
    randomness: Randomness,
    /// Whether received tracks can be forwarded: what the packet forwarder does.
    forwards: bool,
    /// Answers names that stand for addresses of this host.
    names: LinkNames,
}

/// Where credentials, SSRCs and certificates come from.
enum Randomness {
    System,
    #[cfg(feature = "sim")]
    Seeded(Mutex<fastrand::Rng>),
}

/// How an [`Engine`] is made.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct EngineConfig {
    /// The media threads: cores, buffers, offloads.
    pub forwarder: ForwarderConfig,
    /// How many media threads there are, 1 by default and at most 64. Connections are shared
    /// out among them; what one receives can be sent by all.
    pub threads: Threads,
    flight_dumps: Option<PathBuf>,
    media_plane: Option<MediaPlaneFactory>,
}

/// A number of media threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads(pub usize);

impl Default for Threads {
    fn default() -> Self {
        Self(1)
    }
}

type MediaPlaneFactory = Arc<dyn Fn() -> io::Result<MediaPlane> + Send + Sync>;

impl EngineConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Configures the media thread.
    #[must_use]
    pub fn with_forwarder(mut self, forwarder: ForwarderConfig) -> Self {
        self.forwarder = forwarder;
        self
    }

    /// Has `count` media threads, 1 to 64, as a rule one for each core but one.
    #[must_use]
    pub fn with_threads(mut self, count: usize) -> Self {
        self.threads = Threads(count);
        self
    }

    /// Has the media threads run in real time, with this priority from 1 to 99 (`SCHED_FIFO` of
    /// Linux). A system that refuses is logged once, and they run as any other.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.forwarder.priority = Some(priority);
        self
    }

    /// Has forwarded packets get up to `bytes` of padding within SRTP (RFC 3550 §5.1), at most 16,
    /// where that makes them of one size with those before and after: packets of one picture
    /// often differ by a byte, and only those of one size go to the kernel together. None by
    /// default; it is for subscribers that are known to take padding, as both browsers do.
    #[must_use]
    pub fn with_padding(mut self, bytes: u8) -> Self {
        self.forwarder.padding = bytes;
        self
    }

    /// Has each UDP socket buffer so many bytes in each direction, 2 MiB by default. A system
    /// that grants less is logged once, and they take what they get.
    #[must_use]
    pub fn with_socket_buffer(mut self, bytes: usize) -> Self {
        self.forwarder.udp.receive_buffer = bytes;
        self.forwarder.udp.send_buffer = bytes;
        self
    }

    /// Has a received track be taken to have ended when nothing has come of it for so long, 5 s by
    /// default.
    #[must_use]
    pub fn with_track_timeout(mut self, timeout: Duration) -> Self {
        self.forwarder.session.timings.disconnect_timeout = timeout;
        self
    }

    /// Sets the id of the header extension element in which packets tell the pairs of their track
    /// ([`RTCTrack::set_rtp_ext_headers`](crate::RTCTrack::set_rtp_ext_headers)), 1 to 255 and the
    /// same on both sides; 15 by default, which no browser has another use for.
    #[must_use]
    pub fn with_ext_headers_id(mut self, id: u8) -> Self {
        self.forwarder.session.ext_headers_id = id;
        self
    }

    /// Has the last seconds of every connection recorded in memory, for
    /// [`RTCConnection::flight_recording`](crate::RTCConnection::flight_recording) and
    /// [dumps](Self::with_flight_dumps); by default nothing is.
    #[must_use]
    pub fn with_flight_recorder(mut self, config: FlightConfig) -> Self {
        self.forwarder.flight_recorder = Some(config);
        self
    }

    /// Has a recording written to a file in `directory` when a connection fails: when it finds no
    /// path in time, is not secured, or has an internal error. At most 100 are. It turns the
    /// recorder on, if it is not.
    #[must_use]
    pub fn with_flight_dumps(mut self, directory: impl Into<PathBuf>) -> Self {
        self.forwarder.flight_recorder.get_or_insert_default();
        self.flight_dumps = Some(directory.into());
        self
    }

    /// Has `factory` make the socket port and the route port of all connections, in place of
    /// the packet forwarders. It is called once, on the control thread.
    #[must_use]
    pub fn with_media_plane(
        mut self,
        factory: impl Fn() -> io::Result<MediaPlane> + Send + Sync + 'static,
    ) -> Self {
        self.media_plane = Some(Arc::new(factory));
        self
    }

    /// How many media planes there are, each with connections of its own.
    fn places(&self) -> usize {
        if self.media_plane.is_some() { 1 } else { self.threads.0 }
    }

    fn start_media_planes(self) -> io::Result<EngineContext> {
        let dumps = self.flight_dumps.map(FlightDumps::to);
        match self.media_plane {
            Some(factory) => Ok(EngineContext {
                media_planes: vec![factory()?],
                snapshots: Vec::new(),
                network: NetworkWatch::of_system(),
                names: LinkNames::new(),
                vigil: Vigil::begin(),
                dumps,
            }),
            None => {
                let all = ForwarderActor::start_connected(self.forwarder, self.threads.0)?;
                Ok(EngineContext { dumps, ..EngineContext::of_forwarders(&all) })
            }
        }
    }
}

impl std::fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineConfig")
            .field("forwarder", &self.forwarder)
            .field("threads", &self.threads)
            .field("flight_dumps", &self.flight_dumps)
            .field("media_plane", &if self.media_plane.is_some() { "swapped" } else { "default" })
            .finish()
    }
}

/// Whom to ask for the counters of a packet forwarder.
type Snapshots = Recipient<TakeSnapshot>;

/// What the control thread is asked for.
///
/// The channel is unbounded: it holds no more than there are handles of new connections, and
/// futures that wait for an answer.
enum Request {
    Connection(Box<Start>),
    Socket(BindRequest),
    TcpPort(TcpPortRequest),
    Stats(oneshot::Sender<Option<ForwarderStats>>),
    /// A bug of the thread itself, outside of every actor and task.
    #[cfg(test)]
    Panic,
}

/// A connection on its way to the control thread.
pub(crate) struct Start {
    pub(crate) slot: Slot,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::UnboundedReceiver<Box<Command>>,
    pub(crate) handle: WeakRTCConnection,
    /// Dropped when everything is let go of.
    pub(crate) open: Open,
    pub(crate) certificate: Certificate,
    pub(crate) dtls: DtlsConfig,
    pub(crate) ice_servers: Vec<RTCIceServer>,
    pub(crate) ice_server_roots: Option<Arc<[Vec<u8>]>>,
    pub(crate) candidate_types: CandidateTypes,
    pub(crate) tcp: TcpCandidates,
    pub(crate) tcp_port: Option<TcpPort>,
    pub(crate) hides_addresses: bool,
    pub(crate) interfaces: InterfaceFilter,
    pub(crate) follow_network: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) bandwidth: BandwidthLimits,
    pub(crate) ice_lite: bool,
    pub(crate) socket: Option<SocketUse>,
    pub(crate) transports: Transports,
    /// For the tie-breaker, the CNAME and the jitter of timers.
    pub(crate) random: [u8; 32],
}

impl Engine {
    /// Starts an engine of its own threads.
    ///
    /// # Errors
    /// When the system refuses a thread or a poller.
    pub fn new(config: EngineConfig) -> io::Result<Self> {
        let (requests, waiting) = mpsc::unbounded_channel();
        let (slots, forwards) = (Slots::new(config.places()), config.media_plane.is_none());
        let (of_thread, names) = (Arc::clone(&slots), LinkNames::new());
        let names_of_thread = names.clone();
        // Not tokio's channel: this may be called within a runtime, and the wait is a moment.
        let (report, ready) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("ortc-control".into())
            .spawn(move || control_thread(config, names_of_thread, of_thread, waiting, report))?;
        match ready.recv() {
            Ok(Ok(())) => {
                let randomness = Randomness::System;
                let inner = EngineInner { requests, slots, randomness, forwards, names };
                Ok(Self { inner: Arc::new(inner) })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the control thread has died while it started")),
        }
    }

    /// Starts the whole composition, forwarder included, on this thread over the simulated
    /// network, with all randomness from `seed`. To be called inside `ortc_io::sim::run`.
    #[cfg(feature = "sim")]
    pub fn simulated(io: ortc_io::sim::SimIo, seed: u64) -> Self {
        Self::simulated_with(EngineConfig::default(), io, seed)
    }

    /// The same, configured; a media plane that was swapped, and threads, do not count.
    #[cfg(feature = "sim")]
    pub fn simulated_with(config: EngineConfig, io: ortc_io::sim::SimIo, seed: u64) -> Self {
        let (requests, waiting) = mpsc::unbounded_channel();
        let network = NetworkWatch::of_simulated(io.interface_changes());
        let forwarder = ForwarderActor::start_simulated_with(&config.forwarder, io, seed);
        let dumps = config.flight_dumps.map(FlightDumps::to);
        let context =
            EngineContext { network, dumps, ..EngineContext::of_forwarders(&[forwarder]) };
        let names = context.names.clone();
        let slots = Slots::new(1);
        actix_rt::spawn(serve(context, Arc::clone(&slots), waiting));
        let randomness = Randomness::Seeded(Mutex::new(fastrand::Rng::with_seed(seed)));
        let inner = EngineInner { requests, slots, randomness, forwards: true, names };
        Self { inner: Arc::new(inner) }
    }

    /// The engine that connections share, started when the first one is made.
    pub(crate) fn global() -> Result<Self, NewConnectionError> {
        static GLOBAL: Mutex<Weak<EngineInner>> = Mutex::new(Weak::new());
        let mut global = lock(&GLOBAL);
        if let Some(inner) = global.upgrade() {
            return Ok(Self { inner });
        }
        let engine = Self::new(EngineConfig::default()).map_err(NewConnectionError::Engine)?;
        *global = Arc::downgrade(&engine.inner);
        Ok(engine)
    }

    pub(crate) fn start(&self, start: Start) -> Result<(), NewConnectionError> {
        self.request(Request::Connection(Box::new(start)))
    }

    /// What the media threads have done and dropped since they started, over all connections.
    ///
    /// `None` when one has died, or where they are not packet forwarders but another media
    /// plane.
    pub async fn stats(&self) -> Option<ForwarderStats> {
        let (reply, stats) = oneshot::channel();
        self.request(Request::Stats(reply)).ok()?;
        stats.await.ok()?
    }

    /// What was asked and answered about names that stand for addresses of this host, since its
    /// connections hide them
    /// ([`with_mdns_candidates`](crate::RTCConnectionOptions::with_mdns_candidates)).
    pub fn name_stats(&self) -> LinkNameStats {
        self.inner.names.stats()
    }

    pub(crate) fn bind(&self, request: BindRequest) -> Result<(), NewConnectionError> {
        self.request(Request::Socket(request))
    }

    pub(crate) fn bind_tcp(&self, request: TcpPortRequest) -> Result<(), NewConnectionError> {
        self.request(Request::TcpPort(request))
    }

    fn request(&self, request: Request) -> Result<(), NewConnectionError> {
        self.inner.requests.send(request).map_err(|_| NewConnectionError::EngineGone)
    }

    /// Whether both are handles of one engine.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// How many media threads it has.
    pub fn threads(&self) -> usize {
        self.inner.slots.places
    }

    /// Takes a slot for a new connection, of the media thread at `place` or of the one that has
    /// the fewest.
    pub(crate) fn take_slot(&self, place: Option<usize>) -> Slot {
        self.inner.slots.take(place)
    }

    /// Whether connections of both engines share a media plane that forwards.
    pub(crate) fn forwards_from(&self, other: &Self) -> bool {
        self.inner.forwards && Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn random(&self) -> Result<[u8; 32], NewConnectionError> {
        let mut bytes = [0; 32];
        match &self.inner.randomness {
            Randomness::System => {
                aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NewConnectionError::Entropy)?;
            }
            #[cfg(feature = "sim")]
            Randomness::Seeded(generator) => lock(generator).fill(&mut bytes),
        }
        Ok(bytes)
    }

    pub(crate) fn certificate(&self) -> Result<Certificate, NewConnectionError> {
        let made = match &self.inner.randomness {
            Randomness::System => Certificate::generate(),
            #[cfg(feature = "sim")]
            Randomness::Seeded(generator) => Certificate::deterministic(lock(generator).u64(..)),
        };
        made.map_err(|error| NewConnectionError::Certificate(error.to_string()))
    }

    pub(crate) fn dtls_config(&self, version: DtlsVersion) -> DtlsConfig {
        let mut config = match &self.inner.randomness {
            Randomness::System => DtlsConfig::default(),
            #[cfg(feature = "sim")]
            Randomness::Seeded(generator) => DtlsConfig::deterministic(lock(generator).u64(..)),
        };
        config.version = version;
        config
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn control_thread(
    config: EngineConfig,
    names: LinkNames,
    slots: Arc<Slots>,
    requests: mpsc::UnboundedReceiver<Request>,
    report: std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let system = actix::System::new();
    system.block_on(async move {
        match config.start_media_planes() {
            Ok(media_planes) => {
                // Whoever asked for the engine waits for this; a failed send is a gone caller.
                let _ = report.send(Ok(()));
                serve(EngineContext { names, ..media_planes }, slots, requests).await;
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    });
}

/// Starts connections until nobody can ask for any, then waits for the last to close.
async fn serve(
    context: EngineContext,
    slots: Arc<Slots>,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let context = Rc::new(context);
    while let Some(request) = requests.recv().await {
        match request {
            Request::Connection(start) => ConnectionActor::launch(*start, &context),
            Request::Socket(request) => {
                let media_plane = &context.media_planes[request.place % context.media_planes.len()];
                request.start(media_plane.sockets.clone());
            }
            Request::TcpPort(request) => request.carry_out(),
            #[cfg(test)]
            Request::Panic => panic!("a bug of the control thread"),
            Request::Stats(reply) => {
                let snapshots = context.snapshots.clone();
                actix_rt::spawn(async move {
                    // Nobody waits any more if it cannot be sent.
                    let _ = reply.send(sum(&snapshots).await);
                });
            }
        }
    }
    if tokio::time::timeout(DRAIN_TIMEOUT, slots.drained()).await.is_err() {
        tracing::warn!("connections have not closed in time and are cut off");
    }
}

/// What the connections of an engine share on its control thread.
pub(crate) struct EngineContext {
    /// At least one; a connection belongs to that at its slot's remainder.
    media_planes: Vec<MediaPlane>,
    /// One for each, where they are packet forwarders.
    snapshots: Vec<Snapshots>,
    pub(crate) network: NetworkWatch,
    /// Answers names that stand for addresses of this host.
    pub(crate) names: LinkNames,
    /// Looks after the actors of connections.
    pub(crate) vigil: Rc<Vigil>,
    /// Where recordings of connections that fail go.
    pub(crate) dumps: Option<FlightDumps>,
}

/// What several forwarders have counted; `None` when there are none, or one has died.
async fn sum(snapshots: &[Snapshots]) -> Option<ForwarderStats> {
    let mut sum: Option<ForwarderStats> = None;
    for snapshot in snapshots {
        let one = snapshot.send(TakeSnapshot).await.ok().flatten()?;
        sum.get_or_insert_default().add(&one);
    }
    sum
}

impl EngineContext {
    fn of_forwarders(all: &[Addr<ForwarderActor>]) -> Self {
        Self {
            media_planes: all.iter().map(MediaPlane::of).collect(),
            snapshots: all.iter().map(|forwarder| forwarder.clone().recipient()).collect(),
            network: NetworkWatch::of_system(),
            names: LinkNames::new(),
            vigil: Vigil::begin(),
            dumps: None,
        }
    }

    pub(crate) fn media_plane(&self, connection: ConnectionId) -> &MediaPlane {
        &self.media_planes[connection.slot as usize % self.media_planes.len()]
    }
}

/// The slots of connections, reused, and dense for each media plane; see [`ConnectionId`].
struct Slots {
    /// How many media planes there are; slots belong to them by their remainders.
    places: usize,
    table: Mutex<SlotTable>,
    idle: Notify,
}

#[derive(Default)]
struct SlotTable {
    /// The next generation of each slot that has been used.
    generations: BTreeMap<u32, u32>,
    of_places: Vec<Place>,
    used: usize,
}

#[derive(Default, Clone)]
struct Place {
    free: Vec<u32>,
    /// How many slots have ever been in use at once.
    made: u32,
    used: usize,
}

/// A slot in use; dropping it frees it.
pub(crate) struct Slot {
    pub(crate) id: ConnectionId,
    slots: Arc<Slots>,
}

impl Slots {
    fn new(places: usize) -> Arc<Self> {
        // An engine of no thread does not start.
        let places = places.max(1);
        let table = SlotTable { of_places: vec![Place::default(); places], ..SlotTable::default() };
        Arc::new(Self { places, table: Mutex::new(table), idle: Notify::new() })
    }

    fn take(self: &Arc<Self>, place: Option<usize>) -> Slot {
        let mut table = lock(&self.table);
        table.used += 1;
        let least = || {
            let used = table.of_places.iter().map(|place| place.used);
            used.enumerate().min_by_key(|(_, used)| *used).map_or(0, |(place, _)| place)
        };
        let number = place.unwrap_or_else(least);
        let place = &mut table.of_places[number];
        place.used += 1;
        let slot = place.free.pop().unwrap_or_else(|| {
            place.made += 1;
            (place.made - 1) * self.places as u32 + number as u32
        });
        let generation = *table.generations.entry(slot).or_default();
        Slot { id: ConnectionId { slot, generation }, slots: Arc::clone(self) }
    }

    async fn drained(&self) {
        while lock(&self.table).used > 0 {
            self.idle.notified().await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let ConnectionId { slot, generation } = self.id;
        let mut table = lock(&self.slots.table);
        table.used -= 1;
        table.generations.insert(slot, generation.wrapping_add(1));
        let place = &mut table.of_places[slot as usize % self.slots.places];
        place.used -= 1;
        place.free.push(slot);
        if table.used == 0 {
            self.slots.idle.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
