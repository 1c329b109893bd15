//! What a packet costs, and which steps take it, at a rate that leaves everybody room.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::load::Outcome;
use super::plan::Plan;
use super::schedule::Schedule;
use super::session::{Session, Usage};
use super::{CONTESTANT, NAME, object, round, wanted};
use crate::bench::{Bench, Figure, Limit, Options, Row};
use crate::contestant::PEERS;
use crate::error::{Failure, Result};

pub(crate) const BENCH: Bench = Bench {
    name: NAME,
    part: "cost",
    help: "CPU time of forwarding one publisher's packets to many, and its steps",
    figures: &[
        Figure { key: "ns_per_packet", goal: None },
        Figure { key: "times_bare", goal: Some(bare_goal) },
        Figure { key: "str0m_times_ortc", goal: Some(peer_goal) },
        Figure { key: "webrtc_rs_times_ortc", goal: Some(peer_goal) },
        Figure { key: "open_ns", goal: None },
        Figure { key: "seal_ns", goal: None },
        Figure { key: "send_ns", goal: None },
        Figure { key: "rest_ns", goal: None },
        Figure { key: "p50_us", goal: None },
        Figure { key: "p99_us", goal: None },
        Figure { key: "p999_us", goal: None },
    ],
    run,
    contestant: CONTESTANT,
};

/// Who is measured, in this order: what others are compared with comes first.
const CONTESTANTS: &[&str] = &["bare", "bare-plain", "ortc", "str0m", "webrtc-rs"];

/// How often a run is tried in which a packet got lost: the machine may have been busy.
const TRIES: usize = 3;

fn numbers(parameters: &Map<String, Value>) -> Option<(u64, u64, u64, &str)> {
    let number = |key| parameters.get(key).and_then(Value::as_u64);
    let profile = parameters.get("profile")?.as_str()?;
    Some((number("subscribers")?, number("payload")?, number("burst")?, profile))
}

/// How many times the bare program's CPU time a packet may cost.
fn bare_goal(parameters: &Map<String, Value>) -> Option<Limit> {
    match numbers(parameters)? {
        (50, 1200, 8, "gcm128") => Some(Limit::AtMost(1.25)),
        // The bare program has no runs to join either: it is one that sends singly.
        (50, 160, 1, "gcm128") => Some(Limit::AtMost(1.15)),
        _ => None,
    }
}

/// How many times as much a peer is to need.
fn peer_goal(parameters: &Map<String, Value>) -> Option<Limit> {
    let usual = numbers(parameters)? == (50, 1200, 8, "gcm128");
    usual.then_some(Limit::AtLeast(4.0))
}

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for plan in Plan::all(options.quick) {
        let mut rows: Vec<Row> = Vec::new();
        for who in wanted(CONTESTANTS, options) {
            match runtime.block_on(measure(who, &plan, options)) {
                Ok(row) => rows.push(row),
                Err(failure) if PEERS.contains(&who) => println!("  left out: {failure}"),
                Err(failure) => return Err(failure),
            }
        }
        compare(&plan, &mut rows);
        rows.into_iter().for_each(&mut *report);
    }
    Ok(())
}

/// Adds to our row how it stands beside the others.
fn compare(plan: &Plan, rows: &mut [Row]) {
    let cost = |who: &str| {
        let row = rows.iter().find(|row| row.who == who)?;
        row.figures.get("ns_per_packet")?.as_f64()
    };
    let Some(ours) = cost("ortc") else { return };
    let ratios = [
        ("times_bare", cost(plan.bare()).map(|bare| ours / bare)),
        ("str0m_times_ortc", cost("str0m").map(|theirs| theirs / ours)),
        ("webrtc_rs_times_ortc", cost("webrtc-rs").map(|theirs| theirs / ours)),
    ];
    let ours = rows.iter_mut().find(|row| row.who == "ortc");
    let Some(ours) = ours else { return };
    for (key, ratio) in ratios {
        if let Some(ratio) = ratio {
            ours.figures.insert(key.into(), json!(round(ratio)));
        }
    }
}

async fn measure(who: &'static str, plan: &Plan, options: &Options) -> Result<Row> {
    let schedule = Schedule::steady(plan, plan.rate());
    let time = Duration::from_secs_f64(plan.seconds);
    let (outcome, usage) = whole(who, plan, &schedule, time, false, options).await?;
    let mut figures = figures(&outcome, &usage);
    if !PEERS.contains(&who) {
        let (_, usage) = whole(who, plan, &schedule, time / 3, true, options).await?;
        let cost = figures["ns_per_packet"].as_f64().unwrap_or(0.0);
        figures.extend(
            usage
                .split(cost)
                .into_iter()
                .map(|(key, value)| (key, json!(round(value.as_f64().unwrap_or(0.0))))),
        );
    }
    Ok(Row { who, parameters: plan.parameters(), figures })
}

/// A run in which nothing is lost.
///
/// # Errors
/// When something is lost again and again.
pub(crate) async fn whole(
    who: &'static str,
    plan: &Plan,
    schedule: &Schedule,
    time: Duration,
    timed: bool,
    options: &Options,
) -> Result<(Outcome, Usage)> {
    let mut tries = 0;
    loop {
        let mut session = Session::start(who, plan, timed, options).await?;
        session.warm_up(schedule, (time / 4).min(Duration::from_millis(500)))?;
        let (outcome, usage) = session.measure(schedule, time, 1).await?;
        if outcome.received == outcome.expected {
            return Ok((outcome, usage));
        }
        tries += 1;
        if tries == TRIES {
            return Err(Failure::new(format!(
                "{who}, {plan:?}: {} of {} packets came, and were as they were sent",
                outcome.received, outcome.expected
            )));
        }
    }
}

/// What everybody's row has.
pub(crate) fn figures(outcome: &Outcome, usage: &Usage) -> Map<String, Value> {
    object(json!({
        "ns_per_packet": round(usage.cpu_ns / outcome.expected.max(1) as f64),
        "packets_per_second": round(outcome.rate()),
        "p50_us": round(outcome.percentile_us(0.5)),
        "p99_us": round(outcome.percentile_us(0.99)),
        "p999_us": round(outcome.percentile_us(0.999)),
    }))
}
