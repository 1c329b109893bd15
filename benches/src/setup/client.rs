//! The clients of all contestants, and what they ask of a contestant's process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ortc_api::{MediaFormat, MediaStream, MediaStreamTrack, RTCConnection};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::BENCH;
use super::server::{apply, connected, describe, options};
use crate::bench::Options;
use crate::contestant::{Contestant, Output};
use crate::error::{Failure, Result};

/// How long a step of a connection may take; the slowest of those that are measured take some
/// 100 ms.
const LIMIT: Duration = Duration::from_secs(20);

/// A contestant that accepts connections.
pub(crate) struct Server {
    contestant: Arc<Contestant>,
    inbox: Arc<Inbox>,
    candidates: usize,
    connected: u64,
}

/// Who waits for which of the contestant's messages.
#[derive(Default)]
struct Inbox {
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By the id of the connection; `None` for the answer to `usage`.
    by_id: HashMap<Option<u64>, mpsc::UnboundedSender<Value>>,
    /// What went wrong while nobody was waiting for it.
    failures: Vec<String>,
}

/// What a contestant's process has used so far.
pub(crate) struct Usage {
    pub(crate) cpu_ns: f64,
    pub(crate) rss_bytes: f64,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, id: Option<u64>) -> mpsc::UnboundedReceiver<Value> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().by_id.insert(id, sender);
        receiver
    }

    async fn read(self: Arc<Self>, mut output: Output) {
        while let Ok(Some(line)) = output.next_line().await {
            match serde_json::from_str::<Value>(&line) {
                Ok(message) => self.deliver(message),
                Err(_) => self.state().failures.push(format!("not JSON: {line}")),
            }
        }
        // Whoever waits still is woken: the process has ended.
        self.state().by_id.clear();
    }

    fn deliver(&self, message: Value) {
        let mut state = self.state();
        let done = message["connected"] == true || message.get("usage").is_some();
        let failed = message["failed"].as_str().map(str::to_owned);
        let id = message["id"].as_u64();
        let taken = state.by_id.get(&id).is_some_and(|waiting| waiting.send(message).is_ok());
        if let (Some(reason), false) = (failed, taken) {
            state.failures.push(reason);
        }
        if done {
            state.by_id.remove(&id);
        }
    }
}

impl Server {
    /// Starts `who`.
    pub(crate) fn start(who: &str, candidates: usize, bench: &Options) -> Result<Self> {
        let arguments = [candidates.to_string()];
        let (contestant, output) = Contestant::start(who, BENCH.name, &arguments, bench)?;
        let inbox = Arc::new(Inbox::default());
        tokio::spawn(Arc::clone(&inbox).read(output));
        Ok(Self { contestant: Arc::new(contestant), inbox, candidates, connected: 0 })
    }

    /// Connects so many clients, some at a time, and returns them, open.
    ///
    /// # Errors
    /// The first that does not connect.
    pub(crate) async fn connect(
        &mut self,
        count: u64,
        concurrency: usize,
    ) -> Result<Vec<RTCConnection>> {
        let places = Arc::new(Semaphore::new(concurrency));
        let mut tasks = JoinSet::new();
        for id in self.connected..self.connected + count {
            let (contestant, inbox) = (Arc::clone(&self.contestant), Arc::clone(&self.inbox));
            let (places, candidates) = (Arc::clone(&places), self.candidates);
            tasks.spawn(async move {
                let _place = places.acquire().await?;
                connect(id, candidates, &contestant, &inbox).await
            });
        }
        let mut open = Vec::new();
        while let Some(connection) = tasks.join_next().await {
            open.push(connection??);
        }
        self.connected += count;
        Ok(open)
    }

    /// Asks what the contestant's process has used.
    ///
    /// # Errors
    /// When it has ended, or a connection that was open is no longer.
    pub(crate) async fn usage(&self) -> Result<Usage> {
        let mut answer = self.inbox.wait_for(None);
        self.contestant.send(&json!({ "usage": true })).await?;
        let answer = answer.recv().await.ok_or_else(ended)?;
        if let Some(reason) = self.inbox.state().failures.first() {
            return Err(Failure::new(format!("a connection was lost: {reason}")));
        }
        let number = |key: &str| answer["usage"][key].as_f64().ok_or_else(ended);
        Ok(Usage { cpu_ns: number("cpu_ns")?, rss_bytes: number("rss_bytes")? })
    }
}

fn ended() -> Failure {
    Failure::new("the contestant has ended")
}

/// One connection, from nothing until both sides say that they are connected.
async fn connect(
    id: u64,
    candidates: usize,
    contestant: &Contestant,
    inbox: &Inbox,
) -> Result<RTCConnection> {
    let connection = RTCConnection::new(options(candidates))?;
    let mut events = connection.events();
    let (microphone, _) = MediaStreamTrack::local(MediaFormat::Opus);
    let stream = MediaStream::new();
    stream.add_track(&microphone);
    connection.add_stream(&stream, true)?;

    let within = |awaits| Within { id, awaits };
    let described = describe(&connection, &mut events);
    let mut offer = within("the client's candidates").wait(described).await?;
    offer["id"] = id.into();
    offer["track"] = json!(connection.tracks(None)[0].description());
    let mut replies = inbox.wait_for(Some(id));
    contestant.send(&offer).await?;
    let answer = within("the answer").wait(reply(&mut replies)).await?;
    apply(&connection, &answer)?;
    within("the client's handshake").wait(connected(&mut events)).await?;
    let last = within("the contestant's handshake").wait(reply(&mut replies)).await?;
    if last["connected"] != true {
        return Err(Failure::new(format!("an unexpected message: {last}")));
    }
    Ok(connection)
}

/// A step of a connection, which is to be done within [`LIMIT`].
struct Within {
    id: u64,
    awaits: &'static str,
}

impl Within {
    async fn wait<T>(&self, step: impl Future<Output = Result<T>>) -> Result<T> {
        let Self { id, awaits } = self;
        timeout(LIMIT, step).await.unwrap_or_else(|_| {
            Err(Failure::new(format!("connection {id}: {awaits} took longer than {LIMIT:?}")))
        })
    }
}

async fn reply(replies: &mut mpsc::UnboundedReceiver<Value>) -> Result<Value> {
    let reply = replies.recv().await.ok_or_else(ended)?;
    match reply["failed"].as_str() {
        Some(reason) => Err(Failure::new(reason)),
        None => Ok(reply),
    }
}
