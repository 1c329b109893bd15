//! What forwarding a packet costs: one publisher, many subscribers, all over real sockets.

mod bare;
mod load;
mod ours;
mod plan;

use serde_json::{Map, Value, json};

use crate::bench::{Bench, Figure, Options, Row};
use crate::contestant::Contestant;
use crate::error::{Failure, Result};
use load::Load;
use plan::Plan;

pub(crate) const BENCH: Bench = Bench {
    name: "forward",
    help: "CPU time and added delay of forwarding one publisher's packets to many",
    figures: &[
        Figure { key: "ns_per_packet", goal: None },
        Figure { key: "times_bare", goal: Some(goal) },
        Figure { key: "p50_us", goal: None },
        Figure { key: "p99_us", goal: None },
        Figure { key: "p999_us", goal: None },
        Figure { key: "cpu_percent", goal: None },
    ],
    run,
    contestant: Some(contestant),
};

/// Who is measured, in this order: what others are compared with comes first.
const CONTESTANTS: &[&str] = &["bare", "bare-plain", "ortc"];

/// How many times the bare program's CPU time a packet may cost.
fn goal(parameters: &Map<String, Value>) -> Option<f64> {
    let number = |key| parameters.get(key).and_then(Value::as_u64);
    match (number("subscribers")?, number("payload")?, number("burst")?) {
        (50, 1200, 8) => Some(1.25),
        // The bare program has no runs to join either: it is one that sends singly.
        (50, 160, 1) => Some(1.15),
        _ => None,
    }
}

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    for plan in Plan::all(options.quick) {
        let mut bare = None;
        for who in CONTESTANTS.iter().copied().filter(|who| options.wants(who)) {
            let mut row = measure(who, &plan, options)?;
            let cost = row.figures.get("ns_per_packet").and_then(Value::as_f64);
            if who == plan.bare() {
                bare = cost;
            }
            if let (Some(bare), Some(cost)) = (bare, cost)
                && who == "ortc"
            {
                row.figures.insert("times_bare".into(), json!(cost / bare));
            }
            report(row);
        }
    }
    Ok(())
}

fn measure(who: &'static str, plan: &Plan, options: &Options) -> Result<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Ours and the bare programs are all in this one.
        let arguments = [who.to_owned(), plan.to_argument()];
        let (contestant, mut output) = Contestant::start("ortc", "forward", &arguments, options)?;
        let mut load = Load::bind(plan)?;
        contestant.send(&load.addresses()).await?;
        let mut answer = async || -> Result<Value> {
            let line = output.next_line().await?;
            let line = line.ok_or_else(|| Failure::new(format!("{who} has ended")))?;
            Ok(serde_json::from_str(&line)?)
        };
        load.connect(&answer().await?)?;
        load.warm_up()?;
        contestant.send(&json!("usage")).await?;
        let before = answer().await?;
        let outcome = load.run()?;
        contestant.send(&json!("usage")).await?;
        let after = answer().await?;
        contestant.send(&json!("stop")).await?;
        let spent = |key: &str| {
            let at = |value: &Value| value.get(key).and_then(Value::as_u64).unwrap_or(0);
            at(&after).saturating_sub(at(&before)) as f64
        };
        if outcome.received != outcome.expected {
            return Err(Failure::new(format!(
                "{who}, {plan:?}: {} of {} packets came, and were as they were sent",
                outcome.received, outcome.expected
            )));
        }
        let mut figures = Map::new();
        let packets = outcome.expected as f64;
        figures.insert("ns_per_packet".into(), json!(spent("cpu_ns") / packets));
        figures.insert("p50_us".into(), json!(outcome.percentile_us(0.5)));
        figures.insert("p99_us".into(), json!(outcome.percentile_us(0.99)));
        figures.insert("p999_us".into(), json!(outcome.percentile_us(0.999)));
        let percent = spent("cpu_ns") / outcome.seconds / 1e7;
        figures.insert("cpu_percent".into(), json!(percent));
        Ok(Row { who, parameters: plan.parameters(), figures })
    })
}

/// One side of the benchmark, alone in its process.
fn contestant(arguments: &[String]) -> Result<()> {
    let [who, plan] = arguments else { return Err(Failure::new("whose side is missing")) };
    let plan = Plan::from_argument(plan)?;
    match who.as_str() {
        "ortc" => ours::run(&plan),
        "bare" => bare::run(&plan, true),
        "bare-plain" => bare::run(&plan, false),
        _ => Err(Failure::new(format!("{who} does not forward"))),
    }
}
