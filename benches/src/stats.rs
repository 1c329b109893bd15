//! What it costs to ask connections for their statistics.

use std::time::{Duration, Instant};

use ortc_api::{
    Engine, EngineConfig, MediaFormat, MediaStream, MediaStreamTrack, RTCConnection,
    RTCConnectionOptions, RTCStatsReport,
};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::bench::{Bench, Figure, Limit, Options, Row};
use crate::error::{Failure, Result};
use crate::usage;

pub(crate) const BENCH: Bench = Bench {
    name: "stats",
    part: "",
    help: "CPU time of asking every connection for its statistics",
    figures: &[
        Figure { key: "us_per_call", goal: None },
        Figure { key: "cpu_percent_at_1_per_second", goal: Some(goal) },
        Figure { key: "json_us_per_call", goal: None },
        Figure { key: "json_bytes", goal: None },
    ],
    run,
    contestant: None,
};

/// Connections that are asked in turn.
const CONNECTIONS: [usize; 2] = [100, 1_000];

/// How long it may take until all are there.
const LIMIT: Duration = Duration::from_secs(60);

/// Tracks that each sends, and receives: a call with sound and pictures, and a screen.
const TRACKS: usize = 3;

/// Asking 1,000 connections every second is to cost a few percent of a core.
fn goal(parameters: &Map<String, Value>) -> Option<Limit> {
    let connections = parameters.get("connections")?.as_u64()?;
    (connections == 1_000).then_some(Limit::AtMost(10.0))
}

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    if !options.wants("ortc") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for connections in CONNECTIONS {
        report(runtime.block_on(measure(connections, options))?);
    }
    Ok(())
}

async fn measure(connections: usize, options: &Options) -> Result<Row> {
    let engine = Engine::new(EngineConfig::new())?;
    let all = (0..connections).map(|_| connection(&engine)).collect::<Result<Vec<_>>>()?;
    all_there(&all).await?;
    // Gathering is over by then.
    sleep(Duration::from_secs(2)).await;
    let rounds = options.scaled(20);
    let before = usage::cpu_ns();
    for _ in 0..rounds {
        for conn in &all {
            if !is_all_there(&conn.stats().await) {
                return Err(Failure::new("the statistics of a connection are not all there"));
            }
        }
    }
    let asked = usage::cpu_ns();
    let mut bytes = 0;
    for conn in &all {
        bytes += serde_json::to_string(&conn.stats().await)?.len();
    }
    let written = usage::cpu_ns();
    let calls = (rounds as usize * connections) as f64;
    let us_per_call = (asked - before) as f64 / 1e3 / calls;
    let with_json = (written - asked) as f64 / 1e3 / connections as f64;
    let object = |value: Value| value.as_object().cloned().unwrap_or_default();
    Ok(Row {
        who: "ortc",
        parameters: object(json!({ "connections": connections, "tracks": 2 * TRACKS })),
        figures: object(json!({
            "us_per_call": round(us_per_call),
            "cpu_percent_at_1_per_second": round(us_per_call * connections as f64 / 1e4),
            "json_us_per_call": round(with_json),
            "json_bytes": bytes / connections,
        })),
    })
}

fn is_all_there(stats: &RTCStatsReport) -> bool {
    stats.inbound().count() == TRACKS && stats.outbound().count() == TRACKS
}

/// Waits until the tracks of all have come to the media thread: a thousand connections made at
/// once take a while to get there.
async fn all_there(all: &[RTCConnection]) -> Result<()> {
    let limit = Instant::now() + LIMIT;
    for conn in all {
        while !is_all_there(&conn.stats().await) {
            if Instant::now() > limit {
                return Err(Failure::new("the tracks of a connection do not come to its thread"));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// One that sends tracks and is described some; it need not be connected to be asked.
fn connection(engine: &Engine) -> Result<RTCConnection> {
    let options = RTCConnectionOptions::new().with_engine(engine.clone()).with_loopback(true);
    let conn = RTCConnection::new(options)?;
    let stream = MediaStream::new();
    for format in [MediaFormat::Opus, MediaFormat::Vp8, MediaFormat::Vp8] {
        stream.add_track(&MediaStreamTrack::local(format).0);
    }
    conn.add_stream(&stream, true)?;
    for (n, track) in conn.tracks(None).iter().enumerate() {
        let mut description = track.description();
        description.ssrc = (n + 1).to_string();
        conn.receive_track(&description)?;
    }
    Ok(conn)
}

/// To three digits behind the point: more would be noise.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
