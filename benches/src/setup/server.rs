//! Our contestant: a server over `ortc-api`, as an application would write it.

use ortc_api::{
    InterfaceFilter, RTCConnection, RTCConnectionOptions, RTCEvent, RTCEvents,
    RTCIceCandidateDescription, RTCIceConnectionInfo, RTCTrackDescription,
};
use serde_json::{Value, from_value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use crate::contestant::write_line;
use crate::error::{Failure, Result};
use crate::{lan, usage};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let candidates = arguments.first().and_then(|count| count.parse().ok());
    let candidates: usize = candidates.ok_or_else(|| Failure::new("how many candidates?"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(candidates))
}

async fn serve(candidates: usize) -> Result<()> {
    let (replies, mut waiting) = mpsc::unbounded_channel::<Value>();
    tokio::spawn(async move {
        let mut output = tokio::io::stdout();
        while let Some(reply) = waiting.recv().await {
            if write_line(&mut output, &reply).await.is_err() {
                return;
            }
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let message: Value = serde_json::from_str(&line)?;
        if message["usage"] == true {
            let (cpu_ns, rss_bytes) = (usage::cpu_ns(), usage::rss_bytes()?);
            replies.send(json!({ "usage": { "cpu_ns": cpu_ns, "rss_bytes": rss_bytes } }))?;
            continue;
        }
        let replies = replies.clone();
        tokio::spawn(async move {
            match accept(&message, candidates, &replies).await {
                Ok((connection, events)) => {
                    // A task of its own: that of a handshake is many times as large.
                    tokio::spawn(keep(message["id"].clone(), connection, events, replies));
                }
                Err(failure) => {
                    let id = &message["id"];
                    let _ = replies.send(json!({ "id": id, "failed": failure.to_string() }));
                }
            }
        });
    }
    // Whoever measured is gone, and the connections go with this process.
    Ok(())
}

/// What a side signals of itself.
pub(crate) async fn describe(connection: &RTCConnection, events: &mut RTCEvents) -> Result<Value> {
    let mut candidates: Vec<RTCIceCandidateDescription> = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            RTCEvent::Candidate(candidate) => {
                connection.set_local_candidate(&candidate)?;
                candidates.push(candidate);
            }
            RTCEvent::EndOfCandidates => break,
            _ => {}
        }
    }
    Ok(json!({ "ice": connection.local().ice, "candidates": candidates }))
}

/// Applies what the other side has signalled, and connects.
pub(crate) fn apply(connection: &RTCConnection, remote: &Value) -> Result<()> {
    connection.set_remote_ice(from_value::<RTCIceConnectionInfo>(remote["ice"].clone())?)?;
    let candidates = from_value::<Vec<RTCIceCandidateDescription>>(remote["candidates"].clone())?;
    for candidate in &candidates {
        connection.set_remote_candidate(candidate)?;
    }
    Ok(connection.connect()?)
}

/// The options of both sides: as many candidates as there are to be, and the defaults.
pub(crate) fn options(candidates: usize) -> RTCConnectionOptions {
    let only = lan::names(candidates);
    let filter = InterfaceFilter { loopback: true, ipv6: false, only, ..Default::default() };
    RTCConnectionOptions::new().with_interfaces(filter)
}

/// Waits until it is connected.
pub(crate) async fn connected(events: &mut RTCEvents) -> Result<()> {
    while let Some(event) = events.recv().await {
        match event {
            RTCEvent::Connected => return Ok(()),
            RTCEvent::Disconnected(reason) => return Err(reason.into()),
            _ => {}
        }
    }
    Err(Failure::new("closed before it was connected"))
}

async fn accept(
    offer: &Value,
    candidates: usize,
    replies: &mpsc::UnboundedSender<Value>,
) -> Result<(RTCConnection, RTCEvents)> {
    let connection = RTCConnection::new(options(candidates))?;
    let mut events = connection.events();
    let mut answer = describe(&connection, &mut events).await?;
    connection.receive_track(&from_value::<RTCTrackDescription>(offer["track"].clone())?)?;
    apply(&connection, offer)?;
    answer["id"] = offer["id"].clone();
    replies.send(answer)?;
    connected(&mut events).await?;
    replies.send(json!({ "id": offer["id"], "connected": true }))?;
    Ok((connection, events))
}

/// Holds a connection, as an application does: it hears whatever becomes of it.
async fn keep(
    id: Value,
    connection: RTCConnection,
    mut events: RTCEvents,
    replies: mpsc::UnboundedSender<Value>,
) {
    while let Some(event) = events.recv().await {
        if let RTCEvent::Disconnected(reason) = event {
            let _ = replies.send(json!({ "id": id, "failed": reason.to_string() }));
        }
    }
    drop(connection);
}
