//! How long packets take at 30 % and 80 % of the most that each contestant can forward.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::schedule::Schedule;
use super::session::Session;
use super::turns::{self, Entrant};
use super::{CONTESTANT, NAME, round};
use crate::bench::{Bench, Figure, Limit, Options, Row};
use crate::error::{Failure, Result};

pub(crate) const BENCH: Bench = Bench {
    name: NAME,
    part: "load",
    help: "added delay at 30 % and 80 % of the most that each can forward",
    figures: &[
        Figure { key: "max_packets_per_second", goal: None },
        Figure { key: "cpu_percent_at_max", goal: None },
        Figure { key: "packets_per_second", goal: None },
        Figure { key: "p50_us", goal: None },
        Figure { key: "p99_us", goal: None },
        Figure { key: "p99_times_bare", goal: Some(goal) },
        Figure { key: "p999_us", goal: None },
        Figure { key: "rounds", goal: None },
    ],
    run,
    contestant: CONTESTANT,
};

const CONTESTANTS: &[&str] = &["bare", "ortc", "str0m", "webrtc-rs"];

/// Percent of the most.
const LOADS: [u64; 2] = [30, 80];

/// How often everybody is measured, in turns; the median counts, as the machine may be busy
/// while one of them is.
const ROUNDS: usize = 7;

/// One subscriber in so many opens what it receives, so that the subscribers keep up.
pub(crate) const SAMPLE: usize = 10;

/// Whoever takes so many times as long for half of the packets as with little to do is falling
/// behind.
const BEHIND: f64 = 3.0;

/// Least part of the rate that the publisher has to reach for a run to count.
const ON_TIME: f64 = 0.97;

/// The search ends when the most is known to within this.
const CLOSE: f64 = 1.06;

/// Where the search begins, in packets a second: a half of what the slowest can do.
const START: f64 = 30_000.0;

/// Little to do, in packets a second.
const LITTLE: f64 = 10_000.0;

fn goal(parameters: &Map<String, Value>) -> Option<Limit> {
    let busy = parameters.get("load_percent")?.as_u64()? == 80;
    busy.then_some(Limit::AtMost(1.5))
}

/// How long each run is: long enough for somebody who is a twentieth too slow to fall behind.
pub(crate) fn time(plan: &Plan) -> Duration {
    Duration::from_secs_f64((plan.seconds / 3.0).max(0.4))
}

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for row in runtime.block_on(measure(options))? {
        report(row);
    }
    Ok(())
}

async fn measure(options: &Options) -> Result<Vec<Row>> {
    let plan = Plan::usual(options.quick);
    let time = time(&plan);
    let mut entrants = turns::start(CONTESTANTS, &plan, false, options).await?;
    let mut all_most = HashMap::new();
    for at in 0..entrants.len() {
        let most = most(&mut entrants, at, &plan, time).await?;
        let entrant = &mut entrants[at];
        let rates = LOADS.map(|percent| most.rate * percent as f64 / 100.0);
        entrant.schedules = rates.map(|rate| Schedule::steady(&plan, rate)).to_vec();
        all_most.insert(entrant.session.who, most);
    }
    let rounds = if options.quick { 3 } else { ROUNDS };
    turns::take(&mut entrants, rounds, time, SAMPLE).await?;
    let mut rows = Vec::new();
    for (at, percent) in LOADS.iter().enumerate() {
        let p99 = |entrant: &Entrant| entrant.median(at, |it| it.delays[1]);
        let bare = entrants.iter().find(|entrant| entrant.session.who == "bare").map(p99);
        for entrant in &entrants {
            let who = entrant.session.who;
            let mut parameters = plan.parameters();
            parameters.insert("load_percent".into(), json!(percent));
            // Where the machine had no room for the load, there is nothing to say of delays.
            let judged = entrant.counted(at) > 0;
            let mut figures = if judged { entrant.figures(at) } else { Map::new() };
            figures.insert("rounds".into(), json!(entrant.counted(at)));
            let most = all_most[who];
            figures.insert("max_packets_per_second".into(), json!(most.rate.round()));
            figures.insert("cpu_percent_at_max".into(), json!(most.cpu_percent.round()));
            if let Some(bare) = bare.filter(|bare| who != "bare" && judged && *bare > 0.0) {
                figures.insert("p99_times_bare".into(), json!(round(p99(entrant) / bare)));
            }
            rows.push(Row { who, parameters, figures });
        }
    }
    Ok(rows)
}

/// The most that a contestant forwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Packets a second.
    pub(crate) rate: f64,
    /// Of one core. If it is well below 100, somebody else was the limit.
    pub(crate) cpu_percent: f64,
}

/// The most that a contestant forwards without falling behind, by trying.
pub(crate) async fn most(
    entrants: &mut [Entrant],
    at: usize,
    plan: &Plan,
    time: Duration,
) -> Result<Most> {
    let (mut good, mut bad): (Option<Most>, Option<f64>) = (None, None);
    let little = Schedule::steady(plan, LITTLE);
    let (outcome, _) = entrants[at].session.measure(&little, time, SAMPLE).await?;
    let behind_us = outcome.percentile_us(0.5) * BEHIND;
    let mut rate = START;
    loop {
        let session = &mut entrants[at].session;
        let tried = tried(session, plan, rate, time, behind_us).await?;
        turns::tend(entrants)?;
        match tried {
            Some(most) => good = Some(most),
            None => bad = Some(rate),
        }
        rate = match (good, bad) {
            (Some(good), Some(bad)) if bad / good.rate <= CLOSE => return Ok(good),
            (Some(good), Some(bad)) => f64::sqrt(good.rate * bad),
            (Some(good), None) => good.rate * 1.5,
            (None, Some(bad)) if bad < START / 20.0 => {
                let who = entrants[at].session.who;
                return Err(Failure::new(format!("{who} does not keep up")));
            }
            (None, _) => rate / 2.0,
        };
    }
}

/// Whether it keeps up at a rate, two times of three: the machine may be busy at one of them,
/// and it may be luck at another.
async fn tried(
    session: &mut Session,
    plan: &Plan,
    rate: f64,
    time: Duration,
    behind_us: f64,
) -> Result<Option<Most>> {
    let schedule = Schedule::steady(plan, rate);
    let mut passed: Vec<Most> = Vec::new();
    for tries in 1..=3 {
        let (outcome, usage) = session.measure(&schedule, time, SAMPLE).await?;
        let keeps_up = outcome.received == outcome.expected
            && outcome.rate() >= rate * ON_TIME
            && outcome.percentile_us(0.5) <= behind_us;
        if keeps_up {
            let cpu_percent = usage.cpu_ns / outcome.seconds / 1e7;
            passed.push(Most { rate, cpu_percent });
        } else {
            session.settle()?;
        }
        if passed.len() == 2 {
            return Ok(passed.pop());
        }
        if tries - passed.len() == 2 {
            break;
        }
    }
    Ok(None)
}
