//! WebSockets of pairs: the shell round [`Pairs`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::pairs::{Outbound, PairCounts, PairLimits, Pairs, PeerId, Received, Refusal};
use crate::signalling::Signal;
use crate::socket::{Attention, GOING_AWAY, close, closed, frame_of, ping, say, send};

/// How long a peer that is put out may take to read what is under way, so that it can still
/// be told why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// All pairs of a server, and who is to be woken for them.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    table: Arc<Mutex<Table>>,
    closing: watch::Receiver<bool>,
    /// Held by every connection: once all are dropped, all have ended.
    _alive: mpsc::Sender<()>,
}

#[derive(Debug)]
struct Table {
    pairs: Pairs,
    wakers: BTreeMap<PeerId, Arc<Notify>>,
}

impl Relay {
    pub(crate) fn new(
        limits: PairLimits,
        closing: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> Self {
        let table = Table { pairs: Pairs::new(limits), wakers: BTreeMap::new() };
        Self { table: Arc::new(Mutex::new(table)), closing, _alive: alive }
    }

    /// Whether the server is shutting down.
    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Serves one peer until it or the server goes.
    pub(crate) async fn serve(self, name: String, mut socket: WebSocket) {
        let woken = Arc::new(Notify::new());
        let joined = self.lock().join(&name, &woken);
        let peer = match joined {
            Ok(peer) => peer,
            Err(refusal) => {
                debug!(name, %refusal, "peer not let in");
                return refuse(&mut socket, &refusal).await;
            }
        };
        debug!(name, ?peer, "peer joined");
        // Leaves the pair however this ends, a panic included.
        let _seat = Seat { relay: &self, peer };
        let reason = self.attend(peer, &woken, &mut socket).await;
        debug!(name, ?peer, reason, "peer left");
    }

    async fn attend(&self, peer: PeerId, woken: &Notify, socket: &mut WebSocket) -> &'static str {
        let mut closing = self.closing.clone();
        let mut attention = Attention::new();
        loop {
            // What came before this peer waits for it already.
            while let Some(outbound) = self.take(peer) {
                let delivering = self.unless_put_out(peer, woken, deliver(socket, outbound));
                if let ControlFlow::Break(reason) = delivering.await {
                    return reason;
                }
            }
            tokio::select! {
                frame = socket.recv() => {
                    let frame = match frame {
                        Some(Ok(frame)) => frame,
                        Some(Err(_)) => return "broken connection",
                        None => return "closed",
                    };
                    attention.heard();
                    let received = self.receive(peer, frame);
                    if let ControlFlow::Break(reason) = answer(socket, received).await {
                        return reason;
                    }
                }
                () = woken.notified() => {}
                due = attention.due() => {
                    let pinged = match due {
                        ControlFlow::Continue(()) => ping(socket).await,
                        silent => silent,
                    };
                    if let ControlFlow::Break(reason) = pinged {
                        return reason;
                    }
                }
                () = closed(&mut closing) => {
                    close(socket, GOING_AWAY, "the server is shutting down").await;
                    return "shutdown";
                }
            }
        }
    }

    /// Cuts a delivery short that is stuck while messages pile up behind it.
    async fn unless_put_out(
        &self,
        peer: PeerId,
        woken: &Notify,
        delivering: impl Future<Output = ControlFlow<&'static str>>,
    ) -> ControlFlow<&'static str> {
        let mut delivering = pin!(delivering);
        loop {
            tokio::select! {
                delivered = &mut delivering => return delivered,
                // Nothing is lost by taking this: the inbox is looked at after each delivery.
                () = woken.notified() => {}
            }
            if self.lock().pairs.is_put_out(peer) {
                let last = timeout(LAST_WORD, delivering).await;
                return last.unwrap_or(ControlFlow::Break("does not read"));
            }
        }
    }

    fn receive(&self, peer: PeerId, frame: Message) -> Received {
        let Some(frame) = frame_of(frame) else { return Received::Nothing };
        let mut table = self.lock();
        let received = table.pairs.receive(Instant::now().into_std(), peer, frame);
        if let Received::Passed(Some(other)) = received {
            table.wake(other);
        }
        received
    }

    fn take(&self, peer: PeerId) -> Option<Outbound> {
        self.lock().pairs.take(peer)
    }

    /// Pairs now, and what has happened so far.
    pub(crate) fn counts(&self) -> (usize, PairCounts) {
        let table = self.lock();
        (table.pairs.len(), table.pairs.counts())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is whole after every call, so a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn join(&mut self, name: &str, woken: &Arc<Notify>) -> Result<PeerId, Refusal> {
        let peer = self.pairs.join(Instant::now().into_std(), name)?;
        self.wakers.insert(peer, Arc::clone(woken));
        Ok(peer)
    }

    fn wake(&self, peer: PeerId) {
        if let Some(waker) = self.wakers.get(&peer) {
            waker.notify_one();
        }
    }
}

/// A peer's place in its pair, given up on drop.
struct Seat<'a> {
    relay: &'a Relay,
    peer: PeerId,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut table = self.relay.lock();
        table.wakers.remove(&self.peer);
        if let Some(other) = table.pairs.leave(self.peer) {
            table.wake(other);
        }
    }
}

async fn deliver(socket: &mut WebSocket, outbound: Outbound) -> ControlFlow<&'static str> {
    let text = match outbound {
        Outbound::Message(text) => text,
        Outbound::Bye => Signal::Bye {}.to_text(),
        Outbound::Close(refusal) => {
            refuse(socket, &refusal).await;
            return ControlFlow::Break("put out");
        }
    };
    send(socket, Message::text(text)).await
}

async fn answer(socket: &mut WebSocket, received: Received) -> ControlFlow<&'static str> {
    match received {
        Received::Passed(_) | Received::Nothing => ControlFlow::Continue(()),
        Received::Complained(complaint) => say(socket, &Signal::Error(complaint.to_signal())).await,
        Received::Refused(refusal) => {
            refuse(socket, &refusal).await;
            ControlFlow::Break("put out")
        }
    }
}

async fn refuse(socket: &mut WebSocket, refusal: &Refusal) {
    crate::socket::refuse(socket, refusal.close_code(), refusal.to_signal()).await;
}
