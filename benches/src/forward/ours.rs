//! The packet forwarder, on its thread and its sockets, with keys that are known beforehand.

use std::net::{Ipv4Addr, SocketAddr};

use ortc_forward::{
    ForwarderCommand, ForwarderConfig, ForwarderEvent, ForwarderHandle, ForwarderStats, StepTimes,
    spawn_connected,
};
use ortc_io::ring::ring;
use ortc_io::{ConnectionId, Join, Path, PathUpdate, SocketEvent};
use ortc_rtp::{ForwardConfig, ForwardedPayloadType, ReceiverConfig, TrackSource};

use super::counted::{Asked, Counted};
use super::plan::{
    NUMBER_ID, PAYLOAD_TYPE, PUBLISHED, Plan, addresses_from_json, addresses_to_json,
};
use crate::error::{Failure, Result};

/// With `numbered`, what is sent has the numbers of transport-wide congestion control.
pub(crate) fn run(plan: &Plan, padding: u8, timed: bool, numbered: bool) -> Result<()> {
    let mut asked = Asked::new();
    let remotes = addresses_from_json(&asked.next()?)?;
    let config = ForwarderConfig { padding, time_steps: timed, ..ForwarderConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut forwarders = Vec::new();
    for (handle, mut events, _thread) in spawn_connected(config, plan.threads)? {
        // One port for all of a thread, as a server has it.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        send(&handle, ForwarderCommand::BindShared { token: 0, address })?;
        let event = runtime.block_on(events.recv());
        let Some(ForwarderEvent::SharedBound(_, Ok(bound))) = event else {
            return Err(Failure::new(format!("not bound: {event:?}")));
        };
        let shared = *bound.first().ok_or_else(|| Failure::new("no socket"))?;
        forwarders.push((handle, events, shared));
    }
    let mut locals = Vec::new();
    for (connection, remote) in remotes.iter().enumerate() {
        let id = id(connection);
        // A connection belongs to the thread at its slot's place.
        let place = connection % forwarders.len();
        let (handle, events, shared) = &mut forwarders[place];
        locals.push(shared.local);
        send(handle, ForwarderCommand::Attach(id))?;
        let username_frag = format!("connection{connection}");
        let join = Join { connection: id, token: 0, shared: *shared, username_frag, fork: false };
        send(handle, ForwarderCommand::Join(join))?;
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
            send(handle, command)?;
        }
        if connection > 0 {
            send(handle, ForwarderCommand::AddForward(id, forward(connection - 1)))?;
            if numbered {
                let ssrc = Plan::sent(connection - 1);
                send(handle, ForwarderCommand::NumberSent(id, ssrc, Some(NUMBER_ID)))?;
            }
        }
    }
    // Nobody in this process reads what is received: it is only forwarded.
    let (packets, _) = ring(1);
    let payload_types = vec![(PAYLOAD_TYPE, 90_000)];
    let receiver = ReceiverConfig { ssrc: PUBLISHED, payload_types, packets };
    send(&forwarders[0].0, ForwarderCommand::AddReceiver(id(0), receiver))?;

    println!("{}", addresses_to_json(&locals));
    asked.answer(|| {
        let mut stats = ForwarderStats::default();
        for (handle, ..) in &forwarders {
            let (reply, snapshot) = tokio::sync::oneshot::channel();
            send(handle, ForwarderCommand::Snapshot(reply))?;
            stats.add(&runtime.block_on(snapshot)?);
        }
        let ns = |time: std::time::Duration| time.as_nanos() as u64;
        let StepTimes { open, seal, send } = stats.steps;
        let runs = stats.runs.lengths;
        Ok(Counted { open_ns: ns(open), seal_ns: ns(seal), send_ns: ns(send), runs })
    })
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
        unwrapped: Vec::new(),
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
