//! Whether the addresses of this host have changed, for connections that follow that.

use std::cell::OnceCell;
use std::io;
use std::time::Duration;

use ortc_io::InterfaceWatch;
use tokio::sync::watch;

/// How long changes are gathered before they are told: a link that goes takes its addresses with
/// it, one that comes brings several.
const SETTLE: Duration = Duration::from_millis(50);

/// One watch for all connections of an engine, which begins with the first that asks.
pub(crate) struct NetworkWatch {
    source: Source,
    changes: OnceCell<watch::Receiver<()>>,
}

/// What tells of changes.
#[derive(Clone)]
enum Source {
    System,
    #[cfg(feature = "sim")]
    Simulated(watch::Receiver<()>),
}

impl NetworkWatch {
    /// The network of this host.
    pub(crate) fn of_system() -> Self {
        Self { source: Source::System, changes: OnceCell::new() }
    }

    /// The network of a simulated host.
    #[cfg(feature = "sim")]
    pub(crate) fn of_simulated(changes: watch::Receiver<()>) -> Self {
        Self { source: Source::Simulated(changes), changes: OnceCell::new() }
    }

    /// Changes some time after the network has. Where the system refuses to tell, that is logged
    /// once, and it never does.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        let begin = || {
            let (told, changes) = watch::channel(());
            let source = self.source.clone();
            actix_rt::spawn(async move {
                if let Err(error) = tell(source, told).await {
                    tracing::warn!(%error, "changes of this host's network go unnoticed");
                }
            });
            changes
        };
        self.changes.get_or_init(begin).clone()
    }
}

async fn tell(source: Source, told: watch::Sender<()>) -> io::Result<()> {
    let mut watch = match source {
        Source::System => Watch::System(InterfaceWatch::new()?),
        #[cfg(feature = "sim")]
        Source::Simulated(changes) => Watch::Simulated(changes),
    };
    loop {
        tokio::select! {
            changed = watch.changed() => changed?,
            // The engine has gone.
            () = told.closed() => return Ok(()),
        }
        tokio::time::sleep(SETTLE).await;
        told.send_replace(());
    }
}

enum Watch {
    System(InterfaceWatch),
    #[cfg(feature = "sim")]
    Simulated(watch::Receiver<()>),
}

impl Watch {
    async fn changed(&mut self) -> io::Result<()> {
        match self {
            Self::System(watch) => watch.changed().await,
            #[cfg(feature = "sim")]
            Self::Simulated(changes) => changes.changed().await.map_err(io::Error::other),
        }
    }
}
