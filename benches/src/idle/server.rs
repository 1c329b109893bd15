//! Our contestant: a server with one port, which forwards what one connection publishes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ortc_api::{
    Engine, EngineConfig, MediaStream, RTCConnection, RTCConnectionOptions, RTCEvent, RTCEvents,
    RTCSocket, RTCTrackDescription,
};
use serde_json::{Value, from_value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use crate::contestant::write_line;
use crate::error::{Failure, Result};
use crate::setup::{apply, connected, describe};
use crate::usage;

/// What all connections share.
struct Shared {
    engine: Engine,
    socket: RTCSocket,
    published: Mutex<Option<MediaStream>>,
    replies: mpsc::UnboundedSender<Value>,
}

pub(super) fn run(_: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve())
}

async fn serve() -> Result<()> {
    let (replies, mut waiting) = mpsc::unbounded_channel::<Value>();
    tokio::spawn(async move {
        let mut output = tokio::io::stdout();
        while let Some(reply) = waiting.recv().await {
            if write_line(&mut output, &reply).await.is_err() {
                return;
            }
        }
    });
    let engine = Engine::new(EngineConfig::new())?;
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = RTCSocket::bind_each(&engine, address).await?.remove(0);
    let published = Mutex::new(None);
    let shared = Arc::new(Shared { engine, socket, published, replies });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let message: Value = serde_json::from_str(&line)?;
        let shared = Arc::clone(&shared);
        if message["usage"] == true {
            let stats = shared.engine.stats().await.ok_or_else(|| Failure::new("no stats"))?;
            let consents = stats.consent.requests + stats.consent.answered;
            shared.replies.send(json!({ "usage": {
                "cpu_ns": usage::cpu_ns(), "rss_bytes": usage::rss_bytes()?,
                "forwarded": stats.media.rtp_forwarded, "consents": consents,
            } }))?;
            continue;
        }
        tokio::spawn(async move {
            let id = message["id"].clone();
            match accept(&message, &shared).await {
                // A task of its own: that of a handshake is many times as large.
                Ok((connection, events)) => {
                    drop(tokio::spawn(keep(id, connection, events, shared)));
                }
                Err(failure) => {
                    let failed = json!({ "id": id, "failed": failure.to_string() });
                    let _ = shared.replies.send(failed);
                }
            }
        });
    }
    Ok(())
}

async fn accept(offer: &Value, shared: &Shared) -> Result<(RTCConnection, RTCEvents)> {
    let options = RTCConnectionOptions::new().with_socket(shared.socket.clone());
    let connection = RTCConnection::new(options)?;
    let mut events = connection.events();
    let mut answer = describe(&connection, &mut events).await?;
    let published = || shared.published.lock().unwrap_or_else(PoisonError::into_inner);
    if offer.get("track").is_some() {
        connection.receive_track(&from_value::<RTCTrackDescription>(offer["track"].clone())?)?;
        *published() = connection.receiving_streams().pop();
    } else if offer["subscribe"] == true {
        let stream = published().clone().ok_or_else(|| Failure::new("nothing is published"))?;
        connection.add_stream(&stream, true)?;
        answer["track"] = json!(connection.tracks(None)[0].description());
    }
    apply(&connection, offer)?;
    answer["id"] = offer["id"].clone();
    shared.replies.send(answer)?;
    connected(&mut events).await?;
    shared.replies.send(json!({ "id": offer["id"], "connected": true }))?;
    Ok((connection, events))
}

/// Holds a connection, as an application does: it hears whatever becomes of it.
async fn keep(id: Value, connection: RTCConnection, mut events: RTCEvents, shared: Arc<Shared>) {
    while let Some(event) = events.recv().await {
        if let RTCEvent::Disconnected(reason) = event {
            let _ = shared.replies.send(json!({ "id": id, "failed": reason.to_string() }));
        }
    }
    drop(connection);
}
