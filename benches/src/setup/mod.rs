//! What setting up a connection costs a server, and what keeping it costs.
//!
//! The process that is measured accepts connections: ICE, DTLS 1.2, SRTP keys, one audio track
//! to receive, a certificate of its own each. All clients are connections of `ortc-api` in this
//! process, so that everybody answers the same peer. Memory is read while all are open.

mod client;
mod server;

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::bench::{Bench, Figure, Limit, Options, Row};
use crate::contestant::PEERS;
use crate::error::Result;
use crate::lan;
use client::Server;
pub(crate) use server::{apply, connected, describe, options};

pub(crate) const BENCH: Bench = Bench {
    name: "setup",
    part: "",
    help: "CPU and memory of a connection on the server's side: ICE, DTLS, SRTP keys",
    figures: &[
        Figure { key: "cpu_ms_per_connection", goal: Some(|_| Some(Limit::AtMost(1.0))) },
        Figure { key: "kb_per_connection", goal: Some(memory_goal) },
        Figure { key: "peak_kb_per_connection", goal: None },
        Figure { key: "idle_cpu_us_per_second", goal: None },
        Figure { key: "connections_per_second", goal: None },
    ],
    run,
    contestant: Some(server::run),
};

/// Connections whose cost is measured.
const CONNECTIONS: u64 = 2000;

/// Connections before the measured ones: whatever is made once is made by then.
const WARM_UP: u64 = 200;

/// Handshakes at a time.
const CONCURRENCY: usize = 16;

/// How long connections are left alone before memory is read: our own go down to a few
/// checked pairs 10 s after connecting, and what a handshake has left behind is gone.
const SETTLE: Duration = Duration::from_secs(15);

/// How long idle connections are watched: two rounds of consent at least.
const IDLE: Duration = Duration::from_secs(15);

fn memory_goal(parameters: &Map<String, Value>) -> Option<Limit> {
    match parameters["candidates"].as_u64()? {
        1 => Some(Limit::AtMost(32.0)),
        4 => Some(Limit::AtMost(40.0)),
        _ => None,
    }
}

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    let contestants = std::iter::once("ortc").chain(PEERS.iter().copied());
    let wanted: Vec<_> = contestants
        .filter(|who| options.wants(who) && (*who == "ortc" || options.peers.is_some()))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for candidates in [1, 4] {
        if candidates > lan::addresses() {
            println!("  no network namespaces here: left out with {candidates} candidates");
            continue;
        }
        for &who in &wanted {
            report(runtime.block_on(measure(who, candidates, options))?);
        }
    }
    Ok(())
}

async fn measure(who: &'static str, candidates: usize, options: &Options) -> Result<Row> {
    let connections = options.scaled(CONNECTIONS);
    let mut server = Server::start(who, candidates, options)?;
    let mut open = server.connect(options.scaled(WARM_UP), CONCURRENCY).await?;
    tokio::time::sleep(SETTLE).await;
    let before = server.usage().await?;

    let begun = tokio::time::Instant::now();
    open.extend(server.connect(connections, CONCURRENCY).await?);
    let seconds = begun.elapsed().as_secs_f64();
    let after = server.usage().await?;
    tokio::time::sleep(SETTLE).await;
    let settled = server.usage().await?;
    let watched = tokio::time::Instant::now();
    tokio::time::sleep(IDLE).await;
    let idle = server.usage().await?;
    let watched = watched.elapsed().as_secs_f64();

    let all = open.len() as f64;
    drop((server, open));

    let each = |value: f64| round(value / connections as f64);
    let parameters = json!({
        "connections": connections, "candidates": candidates, "concurrency": CONCURRENCY,
    });
    let figures = json!({
        "cpu_ms_per_connection": each((after.cpu_ns - before.cpu_ns) / 1e6),
        "kb_per_connection": each((settled.rss_bytes - before.rss_bytes) / 1e3),
        "peak_kb_per_connection": each((after.rss_bytes - before.rss_bytes) / 1e3),
        "idle_cpu_us_per_second": round((idle.cpu_ns - settled.cpu_ns) / 1e3 / watched / all),
        "connections_per_second": round(connections as f64 / seconds),
    });
    let object = |value: Value| value.as_object().cloned().unwrap_or_default();
    Ok(Row { who, parameters: object(parameters), figures: object(figures) })
}

/// To three digits behind the point: more would be noise.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
