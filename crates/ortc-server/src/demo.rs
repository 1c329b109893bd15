//! Demo peers: what `ortc call` is, inside the server, so that one person alone sees a room work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ortc_api::DtlsVersion;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{interval, timeout};

use crate::call::{CallOptions, PlayOptions, PlaySource, RecordAs, SignalUrl, call};
use crate::room_server::RoomServer;
use crate::socket::closed;
use crate::tls::Authorities;

/// Demo peers at a time: each one encodes pictures.
const MAX_PEERS: usize = 4;

/// How long one stays at the most.
const STAY: Duration = Duration::from_secs(15 * 60);

/// How often it looks whether anybody else is still there, and how long it may be alone.
const LOOK: Duration = Duration::from_secs(5);

/// Why there is no demo peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoDemo {
    #[error("a demo peer is in this room already")]
    AlreadyThere,
    #[error("this server has no demo peer left: {MAX_PEERS} are in other rooms")]
    AllTaken,
    #[error("no room has such a name")]
    BadName,
}

/// The demo peers of a server.
#[derive(Debug, Clone)]
pub(crate) struct DemoPeers {
    /// By room: what is dropped to have one leave.
    peers: Arc<Mutex<BTreeMap<String, oneshot::Sender<()>>>>,
    rooms: RoomServer,
    /// `ws://HOST:PORT`, and what follows the name of a room.
    server: String,
    query: String,
    closing: watch::Receiver<bool>,
    /// Held by every peer: the server waits for them.
    alive: mpsc::Sender<()>,
}

impl DemoPeers {
    pub(crate) fn new(
        rooms: RoomServer,
        server: String,
        query: String,
        closing: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> Self {
        Self { peers: Arc::default(), rooms, server, query, closing, alive }
    }

    /// Adds one to a room, which leaves by itself when nobody else is there.
    pub(crate) fn add(&self, room: &str) -> Result<(), NoDemo> {
        let url = format!("{}/rooms/{room}{}", self.server, self.query);
        let signal: SignalUrl = url.parse().map_err(|_| NoDemo::BadName)?;
        let mut peers = self.lock();
        if peers.contains_key(room) {
            return Err(NoDemo::AlreadyThere);
        }
        if peers.len() >= MAX_PEERS {
            return Err(NoDemo::AllTaken);
        }
        let (stay, dismissed) = oneshot::channel();
        peers.insert(room.to_owned(), stay);
        drop(peers);
        let (this, room) = (self.clone(), room.to_owned());
        tokio::spawn(async move {
            let alive = this.alive.clone();
            let leave = this.clone().leaves(room.clone(), dismissed);
            let options = CallOptions {
                signal,
                authorities: Authorities::default(),
                play: vec![
                    PlaySource::Tone { hertz: 440.0 },
                    PlaySource::Bars { width: 640, height: 360, rate: 15 },
                ],
                playing: PlayOptions::default(),
                record: None,
                record_as: RecordAs::Tracks,
                ice_servers: Vec::new(),
                relay_only: false,
                tcp: false,
                mdns: false,
                link_local: false,
                dtmf_in_band: false,
                dtmf: None,
                duration: Some(STAY),
                restart_ice: None,
                dtls: DtlsVersion::default(),
                redundancy: 0,
                stats: None,
                progress: false,
            };
            match call(options, leave).await {
                Ok(summary) => tracing::debug!(room, error = summary.error, "demo peer left"),
                Err(error) => tracing::warn!(room, %error, "demo peer"),
            }
            this.lock().remove(&room);
            drop(alive);
        });
        Ok(())
    }

    /// Has the demo peer of a room leave; whether there was one.
    pub(crate) fn remove(&self, room: &str) -> bool {
        // Whoever waits for the sender hears that it is gone. The entry goes with the peer.
        let Some(stay) =
            self.lock().get_mut(room).map(|stay| std::mem::replace(stay, oneshot::channel().0))
        else {
            return false;
        };
        drop(stay);
        true
    }

    /// Completes when the demo peer is to leave: dismissed, alone, or as the server shuts down.
    async fn leaves(self, room: String, dismissed: oneshot::Receiver<()>) {
        let mut closing = self.closing.clone();
        let alone = async {
            let mut look = interval(LOOK);
            let mut was_alone = false;
            look.tick().await;
            loop {
                look.tick().await;
                let is_alone = self.rooms.members_of(&room) <= 1;
                if is_alone && was_alone {
                    return;
                }
                was_alone = is_alone;
            }
        };
        tokio::select! {
            _ = dismissed => {}
            () = closed(&mut closing) => {}
            // The loop above ends by itself; this is for a clock that stands still.
            _ = timeout(STAY * 2, alone) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, oneshot::Sender<()>>> {
        // Whole after every call, so a panic elsewhere does not spoil it.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
