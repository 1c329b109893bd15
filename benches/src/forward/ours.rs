//! The packet forwarder, on its thread and its sockets, with keys that are known beforehand.

use std::net::{Ipv4Addr, SocketAddr};

use ortc_forward::{
    ForwarderCommand, ForwarderConfig, ForwarderEvent, ForwarderHandle, spawn_pinned,
};
use ortc_io::ring::ring;
use ortc_io::{ConnectionId, Join, Path, PathUpdate, SocketEvent};
use ortc_rtp::{ForwardConfig, ForwardedPayloadType, ReceiverConfig, TrackSource};
use serde_json::{Value, json};

use super::plan::{PAYLOAD_TYPE, PUBLISHED, Plan, addresses_from_json, addresses_to_json};
use crate::error::{Failure, Result};
use crate::usage;

pub(crate) fn run(plan: &Plan) -> Result<()> {
    let mut lines = std::io::stdin().lines();
    let mut line = || -> Result<Value> {
        let line = lines.next().ok_or_else(|| Failure::new("nobody is there any more"))??;
        Ok(serde_json::from_str(&line)?)
    };
    let remotes = addresses_from_json(&line()?)?;
    let (handle, mut events, _thread) = spawn_pinned(ForwarderConfig::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // One port for all, as a server has it.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    send(&handle, ForwarderCommand::BindShared { token: 0, address })?;
    let event = runtime.block_on(events.recv());
    let Some(ForwarderEvent::SharedBound(_, Ok(bound))) = event else {
        return Err(Failure::new(format!("not bound: {event:?}")));
    };
    let shared = *bound.first().ok_or_else(|| Failure::new("no socket"))?;
    for (connection, remote) in remotes.iter().enumerate() {
        let id = id(connection);
        send(&handle, ForwarderCommand::Attach(id))?;
        let username_frag = format!("connection{connection}");
        let join = Join { connection: id, token: 0, shared, username_frag, fork: false };
        send(&handle, ForwarderCommand::Join(join))?;
        let event = runtime.block_on(events.recv());
        if !matches!(event, Some(ForwarderEvent::Socket(_, SocketEvent::Bound { .. }))) {
            return Err(Failure::new(format!("not joined: {event:?}")));
        }
        let path = Path::plain(shared.socket, *remote);
        for command in [
            ForwarderCommand::Path(id, PathUpdate::Authenticated(path)),
            ForwarderCommand::Path(id, PathUpdate::Validated(path)),
            ForwarderCommand::Path(id, PathUpdate::Selected(path)),
            ForwarderCommand::Open(id),
            ForwarderCommand::SetKeys(id, plan.keys(connection, false)?),
        ] {
            send(&handle, command)?;
        }
        if connection > 0 {
            send(&handle, ForwarderCommand::AddForward(id, forward(connection - 1)))?;
        }
    }
    let locals = vec![shared.local; remotes.len()];
    // Nobody in this process reads what is received: it is only forwarded.
    let (packets, _) = ring(1);
    let payload_types = vec![(PAYLOAD_TYPE, 90_000)];
    let receiver = ReceiverConfig { ssrc: PUBLISHED, payload_types, packets };
    send(&handle, ForwarderCommand::AddReceiver(id(0), receiver))?;

    println!("{}", addresses_to_json(&locals));
    while line()? == json!("usage") {
        println!("{}", json!({ "cpu_ns": usage::cpu_ns() }));
    }
    Ok(())
}

fn forward(subscriber: usize) -> ForwardConfig {
    ForwardConfig {
        ssrc: Plan::sent(subscriber),
        source: TrackSource { connection: id(0), ssrc: PUBLISHED },
        payload_types: vec![ForwardedPayloadType {
            received: PAYLOAD_TYPE,
            sent: PAYLOAD_TYPE,
            clock_rate: 90_000,
        }],
        extensions: Vec::new(),
        cname: "bench".to_owned(),
        needs_key_frames: false,
        enabled: true,
    }
}

fn id(connection: usize) -> ConnectionId {
    ConnectionId { slot: connection as u32, generation: 0 }
}

fn send(handle: &ForwarderHandle, command: ForwarderCommand) -> Result<()> {
    Ok(handle.send(command)?)
}
