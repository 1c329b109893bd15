//! What more media threads bring: as many packets more as there are threads, at best.

use serde_json::{Map, Value, json};

use super::busy::{Most, SAMPLE, most, time};
use super::plan::Plan;
use super::schedule::Schedule;
use super::{CONTESTANT, NAME, round, turns};
use crate::bench::{Bench, Figure, Limit, Options, Row};
use crate::error::Result;

pub(crate) const BENCH: Bench = Bench {
    name: NAME,
    part: "threads",
    help: "the most that one and two media threads forward, and what a packet costs",
    figures: &[
        Figure { key: "max_packets_per_second", goal: None },
        Figure { key: "cpu_percent_at_max", goal: None },
        Figure { key: "times_one_thread", goal: Some(goal) },
        Figure { key: "ns_per_packet", goal: None },
        Figure { key: "p50_us", goal: None },
        Figure { key: "p99_us", goal: None },
    ],
    run,
    contestant: CONTESTANT,
};

const THREADS: [usize; 2] = [1, 2];

/// With fewer, the publisher and the subscribers stand in the way of the second thread.
const ENOUGH_CORES: usize = 6;

fn goal(parameters: &Map<String, Value>) -> Option<Limit> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let two = parameters.get("threads")?.as_u64()? == 2;
    let limit = if cores >= ENOUGH_CORES { Limit::AtLeast } else { Limit::NotJudged };
    two.then_some(limit(1.8))
}

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut one_thread = None;
    for threads in THREADS {
        let plan = Plan { threads, ..Plan::usual(options.quick) };
        let Some((mut row, most)) = runtime.block_on(measure(&plan, options))? else { continue };
        let one_thread = *one_thread.get_or_insert(most.rate);
        if threads > 1 {
            let times = round(most.rate / one_thread);
            row.figures.insert("times_one_thread".into(), json!(times));
        }
        report(row);
    }
    Ok(())
}

async fn measure(plan: &Plan, options: &Options) -> Result<Option<(Row, Most)>> {
    let mut entrants = turns::start(&["ortc"], plan, false, options).await?;
    let Some(entrant) = entrants.first_mut() else { return Ok(None) };
    entrant.schedules = vec![Schedule::steady(plan, plan.rate())];
    turns::take(&mut entrants, 3, time(plan), SAMPLE).await?;
    turns::want_most(&mut entrants, 3)?;
    let most = most(&mut entrants, 0, plan, time(plan)).await?;
    let mut figures = entrants[0].figures(0);
    figures.insert("max_packets_per_second".into(), json!(most.rate.round()));
    figures.insert("cpu_percent_at_max".into(), json!(most.cpu_percent.round()));
    Ok(Some((Row { who: "ortc", parameters: plan.parameters(), figures }, most)))
}
