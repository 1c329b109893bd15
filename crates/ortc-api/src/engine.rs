//! The threads that connections run on.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use ortc_dtls::{Certificate, DtlsConfig, DtlsVersion};
#[cfg(feature = "sim")]
use ortc_forward::ForwarderActor;
use ortc_forward::ForwarderConfig;
use ortc_ice::InterfaceFilter;
use ortc_io::ConnectionId;
use tokio::sync::{Notify, mpsc, watch};

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
    starts: mpsc::UnboundedSender<Box<Start>>,
    randomness: Randomness,
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

    fn start_media_plane(self) -> io::Result<MediaPlane> {
        match self.media_plane {
            Some(factory) => factory(),
            None => MediaPlane::forwarder(self.forwarder),
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

/// A connection on its way to the control thread.
///
/// The channel is unbounded: it holds no more than there are handles of new connections.
pub(crate) struct Start {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::UnboundedReceiver<Box<Command>>,
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
        let (starts, waiting) = mpsc::unbounded_channel();
        // Not tokio's channel: this may be called within a runtime, and the wait is a moment.
        let (report, ready) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("ortc-control".into())
            .spawn(move || control_thread(config, waiting, report))?;
        match ready.recv() {
            Ok(Ok(())) => {
                Ok(Self { inner: Arc::new(EngineInner { starts, randomness: Randomness::System }) })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the control thread has died while it started")),
        }
    }

    /// Starts the whole composition, forwarder included, on this thread over the simulated
    /// network, with all randomness from `seed`. To be called inside `ortc_io::sim::run`.
    #[cfg(feature = "sim")]
    pub fn simulated(io: ortc_io::sim::SimIo, seed: u64) -> Self {
        let (starts, waiting) = mpsc::unbounded_channel();
        let media_plane = MediaPlane::of(&ForwarderActor::start_simulated(io, seed));
        actix_rt::spawn(serve(media_plane, waiting));
        let randomness = Randomness::Seeded(Mutex::new(fastrand::Rng::with_seed(seed)));
        Self { inner: Arc::new(EngineInner { starts, randomness }) }
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
        self.inner.starts.send(Box::new(start)).map_err(|_| NewConnectionError::EngineGone)
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
    starts: mpsc::UnboundedReceiver<Box<Start>>,
    report: std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let system = actix::System::new();
    system.block_on(async move {
        match config.start_media_plane() {
            Ok(media_plane) => {
                // Whoever asked for the engine waits for this; a failed send is a gone caller.
                let _ = report.send(Ok(()));
                serve(media_plane, starts).await;
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    });
}

/// Starts connections until nobody can ask for any, then waits for the last to close.
async fn serve(media_plane: MediaPlane, mut starts: mpsc::UnboundedReceiver<Box<Start>>) {
    let context =
        Rc::new(EngineContext { media_plane, slots: RefCell::default(), idle: Notify::new() });
    while let Some(start) = starts.recv().await {
        ConnectionActor::launch(*start, &context);
    }
    let drained = async {
        while context.slots.borrow().used > 0 {
            context.idle.notified().await;
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!("connections have not closed in time and are cut off");
    }
}

/// What the connections of an engine share on its control thread.
pub(crate) struct EngineContext {
    pub(crate) media_plane: MediaPlane,
    slots: RefCell<Slots>,
    idle: Notify,
}

/// The slots of connections, dense and reused; see [`ConnectionId`].
#[derive(Default)]
struct Slots {
    generations: Vec<u32>,
    free: Vec<u32>,
    used: usize,
}

/// A slot in use; dropping it frees it.
pub(crate) struct Slot {
    pub(crate) id: ConnectionId,
    context: Rc<EngineContext>,
}

impl EngineContext {
    pub(crate) fn take_slot(self: &Rc<Self>) -> Slot {
        let mut slots = self.slots.borrow_mut();
        slots.used += 1;
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.generations.push(0);
            u32::try_from(slots.generations.len() - 1).expect("memory ends before 2^32 connections")
        });
        let generation = slots.generations[slot as usize];
        Slot { id: ConnectionId { slot, generation }, context: Rc::clone(self) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.context.slots.borrow_mut();
        slots.used -= 1;
        let generation = &mut slots.generations[self.id.slot as usize];
        *generation = generation.wrapping_add(1);
        slots.free.push(self.id.slot);
        if slots.used == 0 {
            self.context.idle.notify_one();
        }
    }
}
