//! The threads that connections run on.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use actix::Recipient;
use ortc_dtls::{Certificate, DtlsConfig, DtlsVersion};
use ortc_forward::ForwarderActor;
use ortc_forward::{ForwarderConfig, ForwarderStats, TakeSnapshot};
use ortc_ice::InterfaceFilter;
use ortc_io::ConnectionId;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::actor::ConnectionActor;
use crate::connection::{Command, Shared, WeakRTCConnection};
use crate::error::NewConnectionError;
use crate::media::lock;
use crate::transports::{MediaPlane, Transports};

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
    /// The media thread: core, buffers, offloads.
    pub forwarder: ForwarderConfig,
    media_plane: Option<MediaPlaneFactory>,
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

    /// Has `factory` make the socket port and the route port of all connections, in place of
    /// the packet forwarder. It is called once, on the control thread.
    #[must_use]
    pub fn with_media_plane(
        mut self,
        factory: impl Fn() -> io::Result<MediaPlane> + Send + Sync + 'static,
    ) -> Self {
        self.media_plane = Some(Arc::new(factory));
        self
    }

    fn start_media_plane(self) -> io::Result<(MediaPlane, Option<Snapshots>)> {
        match self.media_plane {
            Some(factory) => Ok((factory()?, None)),
            None => {
                let forwarder = ForwarderActor::start_pinned(self.forwarder)?;
                Ok((MediaPlane::of(&forwarder), Some(forwarder.recipient())))
            }
        }
    }
}

impl std::fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineConfig")
            .field("forwarder", &self.forwarder)
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
    Start(Box<Start>),
    Stats(oneshot::Sender<Option<ForwarderStats>>),
}

/// A connection on its way to the control thread.
pub(crate) struct Start {
    pub(crate) slot: Slot,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) handle: WeakRTCConnection,
    /// Dropped when everything is let go of.
    pub(crate) closed: watch::Sender<()>,
    pub(crate) certificate: Certificate,
    pub(crate) dtls: DtlsConfig,
    pub(crate) interfaces: InterfaceFilter,
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
        let (slots, forwards) = (Arc::<Slots>::default(), config.media_plane.is_none());
        let of_thread = Arc::clone(&slots);
        // Not tokio's channel: this may be called within a runtime, and the wait is a moment.
        let (report, ready) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("ortc-control".into())
            .spawn(move || control_thread(config, of_thread, waiting, report))?;
        match ready.recv() {
            Ok(Ok(())) => {
                let randomness = Randomness::System;
                Ok(Self { inner: Arc::new(EngineInner { requests, slots, randomness, forwards }) })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the control thread has died while it started")),
        }
    }

    /// Starts the whole composition, forwarder included, on this thread over the simulated
    /// network, with all randomness from `seed`. To be called inside `ortc_io::sim::run`.
    #[cfg(feature = "sim")]
    pub fn simulated(io: ortc_io::sim::SimIo, seed: u64) -> Self {
        let (requests, waiting) = mpsc::unbounded_channel();
        let forwarder = ForwarderActor::start_simulated(io, seed);
        let media_plane = (MediaPlane::of(&forwarder), Some(forwarder.recipient()));
        let slots = Arc::<Slots>::default();
        actix_rt::spawn(serve(media_plane, Arc::clone(&slots), waiting));
        let randomness = Randomness::Seeded(Mutex::new(fastrand::Rng::with_seed(seed)));
        Self { inner: Arc::new(EngineInner { requests, slots, randomness, forwards: true }) }
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
        let request = Request::Start(Box::new(start));
        self.inner.requests.send(request).map_err(|_| NewConnectionError::EngineGone)
    }

    /// What the media thread has done and dropped since it started, over all connections.
    ///
    /// `None` when it has died, or is not the packet forwarder but another media plane.
    pub async fn stats(&self) -> Option<ForwarderStats> {
        let (reply, stats) = oneshot::channel();
        self.inner.requests.send(Request::Stats(reply)).ok()?;
        stats.await.ok()?
    }

    /// Takes a slot for a new connection.
    pub(crate) fn take_slot(&self) -> Slot {
        self.inner.slots.take()
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
    slots: Arc<Slots>,
    requests: mpsc::UnboundedReceiver<Request>,
    report: std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let system = actix::System::new();
    system.block_on(async move {
        match config.start_media_plane() {
            Ok(media_plane) => {
                // Whoever asked for the engine waits for this; a failed send is a gone caller.
                let _ = report.send(Ok(()));
                serve(media_plane, slots, requests).await;
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    });
}

/// Starts connections until nobody can ask for any, then waits for the last to close.
async fn serve(
    (media_plane, snapshots): (MediaPlane, Option<Snapshots>),
    slots: Arc<Slots>,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let context = Rc::new(EngineContext { media_plane });
    while let Some(request) = requests.recv().await {
        match request {
            Request::Start(start) => ConnectionActor::launch(*start, &context),
            Request::Stats(reply) => {
                let snapshots = snapshots.clone();
                actix_rt::spawn(async move {
                    let asked = match snapshots {
                        Some(snapshots) => snapshots.send(TakeSnapshot).await.ok().flatten(),
                        None => None,
                    };
                    // Nobody waits any more if it cannot be sent.
                    let _ = reply.send(asked);
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
    pub(crate) media_plane: MediaPlane,
}

/// The slots of connections, dense and reused; see [`ConnectionId`].
#[derive(Default)]
struct Slots {
    table: Mutex<SlotTable>,
    idle: Notify,
}

#[derive(Default)]
struct SlotTable {
    generations: Vec<u32>,
    free: Vec<u32>,
    used: usize,
}

/// A slot in use; dropping it frees it.
pub(crate) struct Slot {
    pub(crate) id: ConnectionId,
    slots: Arc<Slots>,
}

impl Slots {
    fn take(self: &Arc<Self>) -> Slot {
        let mut table = lock(&self.table);
        table.used += 1;
        let slot = table.free.pop().unwrap_or_else(|| {
            table.generations.push(0);
            u32::try_from(table.generations.len() - 1).expect("memory ends before 2^32 connections")
        });
        let generation = table.generations[slot as usize];
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
        let mut table = lock(&self.slots.table);
        table.used -= 1;
        let generation = &mut table.generations[self.id.slot as usize];
        *generation = generation.wrapping_add(1);
        table.free.push(self.id.slot);
        if table.used == 0 {
            self.slots.idle.notify_one();
        }
    }
}
