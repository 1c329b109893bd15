//! What connections cost that nobody talks on: consent, memory, and what the packets of others
//! cost beside them.

mod client;
mod server;

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, Figure, Limit, Options, Row};
use crate::error::{Failure, Result};
use client::{Load, Server, Usage};

pub(crate) const BENCH: Bench = Bench {
    name: "idle",
    part: "",
    help: "CPU time and memory of idle connections, and of packets forwarded beside them",
    figures: &[
        Figure { key: "cpu_percent", goal: Some(cpu_goal) },
        Figure { key: "kb_per_connection", goal: Some(memory_goal) },
        Figure { key: "ns_per_packet", goal: None },
        Figure { key: "times_fewest", goal: Some(flat_goal) },
    ],
    run,
    contestant: Some(server::run),
};

/// So many idle connections, one after the other in the same server.
const STEPS: [u64; 4] = [10, 100, 1_000, 10_000];

/// Handshakes at a time.
const CONCURRENCY: usize = 16;

/// How long connections are left alone before they are watched: those of one candidate settle
/// 2.5 s after connecting, and what a handshake has left behind is gone.
const SETTLE: Duration = Duration::from_secs(10);

/// How long they are watched: three rounds of consent.
const WATCH: Duration = Duration::from_secs(15);

/// Subscribers of the packets that are forwarded beside them.
const SUBSCRIBERS: u64 = 10;

fn connections(parameters: &Map<String, Value>) -> Option<u64> {
    parameters.get("connections").and_then(Value::as_u64)
}

fn cpu_goal(parameters: &Map<String, Value>) -> Option<Limit> {
    (connections(parameters)? == 10_000).then_some(Limit::AtMost(6.0))
}

fn memory_goal(parameters: &Map<String, Value>) -> Option<Limit> {
    (connections(parameters)? == 10_000).then_some(Limit::AtMost(32.0))
}

/// Flat: what differs by less than that is noise on a machine with other work.
fn flat_goal(parameters: &Map<String, Value>) -> Option<Limit> {
    (connections(parameters)? == 10_000).then_some(Limit::AtMost(1.1))
}

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    if !options.wants("ortc") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(options, report))
}

async fn measure(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    let steps = if options.quick { &STEPS[..3] } else { &STEPS[..] };
    let mut server = Server::start(options)?;
    // Whatever is made once is made by then.
    let load = Load::connect(&mut server, SUBSCRIBERS).await?;
    load.run(Duration::from_secs(1)).await?;
    sleep(SETTLE).await;
    let mut open = Vec::new();
    let mut fewest = None;
    let mut before = server.usage().await?;
    for &wanted in steps {
        let more = wanted - open.len() as u64;
        open.extend(server.connect(more, CONCURRENCY).await?);
        sleep(SETTLE).await;
        let settled = server.usage().await?;
        let idle = watch(&server, options).await?;
        let ns_per_packet = forward(&server, &load, idle, options).await?;
        let fewest = *fewest.get_or_insert(ns_per_packet);
        let kb = (settled.rss_bytes - before.rss_bytes) / 1e3 / more as f64;
        let parameters = json!({ "connections": wanted, "subscribers": SUBSCRIBERS });
        let mut figures = json!({
            "cpu_percent": round(idle * 100.0),
            "consents_per_second": round(consents(&settled, &server.usage().await?)),
            "ns_per_packet": round(ns_per_packet),
            "times_fewest": round(ns_per_packet / fewest),
        });
        // Fewer vanish in what the process takes and gives back in between.
        if more >= 900 {
            figures["kb_per_connection"] = json!(round(kb));
        }
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        report(Row { who: "ortc", parameters: object(parameters), figures: object(figures) });
        before = server.usage().await?;
    }
    drop((load, open));
    Ok(())
}

/// What the server's process uses while all are idle, as a share of one core.
async fn watch(server: &Server, options: &Options) -> Result<f64> {
    let (before, begun) = (server.usage().await?, Instant::now());
    sleep(if options.quick { WATCH / 3 } else { WATCH }).await;
    let after = server.usage().await?;
    Ok((after.cpu_ns - before.cpu_ns) / 1e9 / begun.elapsed().as_secs_f64())
}

/// What a packet costs that is sent to a subscriber, but for what the idle connections use.
async fn forward(server: &Server, load: &Load, idle: f64, options: &Options) -> Result<f64> {
    let (before, begun) = (server.usage().await?, Instant::now());
    load.run(Duration::from_secs(options.scaled(10))).await?;
    let (after, seconds) = (server.usage().await?, begun.elapsed().as_secs_f64());
    let packets = after.forwarded - before.forwarded;
    if packets < 1_000.0 {
        return Err(Failure::new(format!("only {packets} packets were forwarded")));
    }
    Ok((after.cpu_ns - before.cpu_ns - idle * seconds * 1e9) / packets)
}

/// Requests and answers of the media thread in a second.
fn consents(before: &Usage, after: &Usage) -> f64 {
    let seconds = (after.at - before.at).as_secs_f64();
    (after.consents - before.consents) / seconds
}

/// To three digits behind the point: more would be noise.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
