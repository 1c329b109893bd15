//! The clients, and what they ask of the server's process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ortc_api::{
    FrameSender, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCConnection,
    RTCTrackDescription,
};
use serde_json::{Value, from_value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::BENCH;
use crate::bench::Options;
use crate::contestant::{Contestant, Output};
use crate::error::{Failure, Result};
use crate::setup::{apply, connected, describe, options};

/// How long a connection may take to be made.
const LIMIT: Duration = Duration::from_secs(20);

/// Packets of a burst, the bytes of one, and how often there is a burst.
const BURST: u64 = 8;
const PAYLOAD: usize = 1_100;
const PERIOD: Duration = Duration::from_millis(4);

/// The server's process.
pub(super) struct Server {
    contestant: Arc<Contestant>,
    waiting: Arc<Waiting>,
    connections: u64,
}

/// Who waits for which of its messages: by the id of the connection, `None` for its usage.
#[derive(Default)]
struct Waiting(Mutex<HashMap<Option<u64>, mpsc::UnboundedSender<Value>>>);

/// What the server's process has used and done so far.
pub(super) struct Usage {
    pub(super) at: Instant,
    pub(super) cpu_ns: f64,
    pub(super) rss_bytes: f64,
    pub(super) forwarded: f64,
    pub(super) consents: f64,
}

/// Nobody panics while holding one, and if so the figures are not worth anything.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<Option<u64>, mpsc::UnboundedSender<Value>>> {
        lock(&self.0)
    }

    fn wait_for(&self, id: Option<u64>) -> mpsc::UnboundedReceiver<Value> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().insert(id, sender);
        receiver
    }

    async fn read(self: Arc<Self>, mut output: Output) {
        while let Ok(Some(line)) = output.next_line().await {
            let Ok(message) = serde_json::from_str::<Value>(&line) else { break };
            if let (Some(failed), Some(id)) = (message["failed"].as_str(), message["id"].as_u64())
                && !self.lock().contains_key(&Some(id))
            {
                eprintln!("connection {id} was lost: {failed}");
                break;
            }
            let id = message["id"].as_u64();
            let is_last = message["connected"] == true;
            if let Some(waiting) = self.lock().get(&id) {
                // Whoever has given up waiting has said why.
                let _ = waiting.send(message);
            }
            if is_last {
                self.lock().remove(&id);
            }
        }
        // Whoever waits still is woken: it is over.
        self.lock().clear();
    }
}

impl Server {
    pub(super) fn start(options: &Options) -> Result<Self> {
        let (contestant, output) = Contestant::start("ortc", BENCH.name, &[], options)?;
        let waiting = Arc::new(Waiting::default());
        tokio::spawn(Arc::clone(&waiting).read(output));
        Ok(Self { contestant: Arc::new(contestant), waiting, connections: 0 })
    }

    /// Connects so many clients, some at a time, and returns them, open and idle.
    ///
    /// # Errors
    /// The first that does not connect.
    pub(super) async fn connect(
        &mut self,
        count: u64,
        concurrency: usize,
    ) -> Result<Vec<RTCConnection>> {
        let places = Arc::new(Semaphore::new(concurrency));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let client = self.client();
            let places = Arc::clone(&places);
            tasks.spawn(async move {
                let _place = places.acquire().await?;
                client.connect(RTCConnection::new(options(1))?, json!({})).await
            });
        }
        let mut open = Vec::new();
        while let Some(connected) = tasks.join_next().await {
            open.push(connected??.0);
        }
        Ok(open)
    }

    /// Asks what the server's process has used.
    ///
    /// # Errors
    /// When it has ended, or a connection that was open is no longer.
    pub(super) async fn usage(&self) -> Result<Usage> {
        let mut answer = self.waiting.wait_for(None);
        self.contestant.send(&json!({ "usage": true })).await?;
        let answer = answer.recv().await.ok_or_else(ended)?;
        let number = |key: &str| answer["usage"][key].as_f64().ok_or_else(ended);
        Ok(Usage {
            at: Instant::now(),
            cpu_ns: number("cpu_ns")?,
            rss_bytes: number("rss_bytes")?,
            forwarded: number("forwarded")?,
            consents: number("consents")?,
        })
    }

    fn client(&mut self) -> Client {
        self.connections += 1;
        Client {
            id: self.connections,
            contestant: Arc::clone(&self.contestant),
            waiting: Arc::clone(&self.waiting),
        }
    }
}

/// One client on its way.
struct Client {
    id: u64,
    contestant: Arc<Contestant>,
    waiting: Arc<Waiting>,
}

impl Client {
    /// Connects; `offer` is signalled with it. Returns the server's answer as well.
    async fn connect(
        self,
        connection: RTCConnection,
        offer: Value,
    ) -> Result<(RTCConnection, Value)> {
        let id = self.id;
        let step = Mutex::new("its candidates");
        let connecting = timeout(LIMIT, self.connect_in_time(connection, offer, &step)).await;
        connecting.unwrap_or_else(|_| {
            let step = lock(&step);
            Err(Failure::new(format!("connection {id}: {step} took longer than {LIMIT:?}")))
        })
    }

    async fn connect_in_time(
        self,
        connection: RTCConnection,
        mut offer: Value,
        step: &Mutex<&'static str>,
    ) -> Result<(RTCConnection, Value)> {
        let mut events = connection.events();
        let described = describe(&connection, &mut events).await?;
        for key in ["ice", "candidates"] {
            offer[key] = described[key].clone();
        }
        offer["id"] = self.id.into();
        let mut replies = self.waiting.wait_for(Some(self.id));
        *lock(step) = "the answer";
        self.contestant.send(&offer).await?;
        let answer = reply(&mut replies).await?;
        if answer.get("track").is_some() {
            let track = from_value::<RTCTrackDescription>(answer["track"].clone())?;
            connection.receive_track(&track)?;
        }
        *lock(step) = "the client's handshake";
        apply(&connection, &answer)?;
        connected(&mut events).await?;
        *lock(step) = "the server's handshake";
        let last = reply(&mut replies).await?;
        if last["connected"] != true {
            return Err(Failure::new(format!("an unexpected message: {last}")));
        }
        Ok((connection, answer))
    }
}

async fn reply(replies: &mut mpsc::UnboundedReceiver<Value>) -> Result<Value> {
    let reply = replies.recv().await.ok_or_else(ended)?;
    match reply["failed"].as_str() {
        Some(reason) => Err(Failure::new(reason)),
        None => Ok(reply),
    }
}

fn ended() -> Failure {
    Failure::new("the server has ended, or has lost a connection")
}

/// A publisher and its subscribers, whom the server forwards to.
pub(super) struct Load {
    frames: FrameSender,
    _open: Vec<RTCConnection>,
}

impl Load {
    pub(super) async fn connect(server: &mut Server, subscribers: u64) -> Result<Self> {
        let publisher = RTCConnection::new(options(1))?;
        let (microphone, frames) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        stream.add_track(&microphone);
        publisher.add_stream(&stream, true)?;
        let track = json!({ "track": publisher.tracks(None)[0].description() });
        let mut open = vec![server.client().connect(publisher, track).await?.0];
        for _ in 0..subscribers {
            let subscriber = RTCConnection::new(options(1))?;
            let client = server.client();
            open.push(client.connect(subscriber, json!({ "subscribe": true })).await?.0);
        }
        Ok(Self { frames, _open: open })
    }

    /// Has packets published for so long.
    ///
    /// # Errors
    /// When the publisher is gone.
    pub(super) async fn run(&self, time: Duration) -> Result<()> {
        let mut bursts = interval(PERIOD);
        bursts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        let mut timestamp = 0;
        while begun.elapsed() < time {
            bursts.tick().await;
            for _ in 0..BURST {
                timestamp += 960;
                // One frame of 20 ms (RFC 6716 §3.1), whatever is in it.
                let mut data = vec![0x55; PAYLOAD];
                data[0] = 0x78;
                let data = data.into();
                self.frames.send(MediaFrame { data, timestamp })?;
            }
        }
        Ok(())
    }
}
