//! What forwarding a packet costs: one publisher, many subscribers, all over real sockets.
//!
//! In parts, each a table of its own: [`cost`], [`busy`], [`threads`] and [`trace`].

mod bare;
mod busy;
mod clients;
mod cost;
mod counted;
mod figures;
mod handshake;
mod load;
mod ours;
mod plan;
mod schedule;
mod session;
mod threads;
mod trace;
mod turns;

use ortc_rtp::MAX_PADDING;
use serde_json::{Map, Value};

use crate::bench::{Bench, Contest, Options};
use crate::error::{Failure, Result};
pub(crate) use figures::plots;
use plan::Plan;

/// The parts in the order in which they are run.
pub(crate) const BENCHES: [Bench; 4] = [cost::BENCH, busy::BENCH, threads::BENCH, trace::BENCH];

/// What they are all called.
const NAME: &str = "forward";

/// One side of the benchmark, alone in its process.
const CONTESTANT: Option<Contest> = Some(contestant);

fn contestant(arguments: &[String]) -> Result<()> {
    let [who, plan, timed] = arguments else {
        return Err(Failure::new("whose side, of what plan, and is it timed?"));
    };
    let plan = Plan::from_argument(plan)?;
    let timed = timed == "true";
    match who.as_str() {
        "ortc" => ours::run(&plan, 0, timed, false),
        "ortc-padded" => ours::run(&plan, MAX_PADDING, timed, false),
        "ortc-numbered" => ours::run(&plan, 0, timed, true),
        "bare" => bare::run(&plan, true, timed),
        "bare-plain" => bare::run(&plan, false, timed),
        _ => Err(Failure::new(format!("{who} does not forward"))),
    }
}

/// Those of `all` that are to be measured and can be.
fn wanted(all: &[&'static str], options: &Options) -> Vec<&'static str> {
    let can = |who: &str| options.peers.is_some() || !crate::contestant::PEERS.contains(&who);
    all.iter().copied().filter(|who| options.wants(who) && can(who)).collect()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// To three digits behind the point: more would be noise.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
