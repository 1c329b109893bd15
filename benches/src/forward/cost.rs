//! What a packet costs, and which steps take it, at a rate that leaves everybody room.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::schedule::Schedule;
use super::turns::{self, Entrant, Measured};
use super::{CONTESTANT, NAME, round};
use crate::bench::{Bench, Figure, Limit, Options, Row};
use crate::error::{Failure, Result};

pub(crate) const BENCH: Bench = Bench {
    name: NAME,
    part: "cost",
    help: "CPU time of forwarding one publisher's packets to many, and its steps",
    figures: &[
        Figure { key: "ns_per_packet", goal: None },
        Figure { key: "times_bare", goal: Some(bare_goal) },
        Figure { key: "numbered_times_ortc", goal: Some(numbered_goal) },
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
///
/// `ortc-numbered` is `ortc` with congestion control: it numbers what it sends, and the
/// subscribers say what has come.
const CONTESTANTS: &[&str] = &["bare", "bare-plain", "ortc", "ortc-numbered", "str0m", "webrtc-rs"];

/// Those that time their steps.
const TIMED: &[&str] = &["bare", "bare-plain", "ortc"];

/// How often everybody is measured, in turns; of the cost, the lower quartile counts, and of how many
/// times that of another it is, the median.
const ROUNDS: usize = 6;

/// How often those are that have goals, and how many times as long all of it takes: what else the
/// machine does is to count less there. It lasts for a second or some, so a round is shorter, and
/// those that are compared meet it together. Two processes of one program differ by a tenth, by
/// where their memory happens to be, so each is started several times.
const ROUNDS_WITH_GOALS: usize = 150;
const STARTS_WITH_GOALS: usize = 10;
const LONGER: f64 = 15.0;

/// Rounds after a start that do not count: congestion control is busy with finding out what there
/// is.
const WARM_UP: u32 = 5;

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

/// How many times as much congestion control may need as what is without it.
fn numbered_goal(parameters: &Map<String, Value>) -> Option<Limit> {
    let usual = numbers(parameters)? == (50, 1200, 8, "gcm128");
    usual.then_some(Limit::AtMost(1.15))
}

/// How many times as much a peer is to need.
fn peer_goal(parameters: &Map<String, Value>) -> Option<Limit> {
    let usual = numbers(parameters)? == (50, 1200, 8, "gcm128");
    usual.then_some(Limit::AtLeast(4.0))
}

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut plans = Plan::all(options.quick);
    plans.retain(|plan| options.wants_with(&plan.parameters()));
    if plans.is_empty() {
        let keys: Vec<_> = Plan::usual(false).parameters().keys().cloned().collect();
        let keys = keys.join(", ");
        return Err(Failure::new(format!("nothing has what `--where` asks for; there are {keys}")));
    }
    for plan in plans {
        let rows = runtime.block_on(measure(&plan, options))?;
        rows.into_iter().for_each(&mut *report);
    }
    Ok(())
}

/// How ours stands beside the others.
fn compare(plan: &Plan, entrants: &[Entrant]) -> Map<String, Value> {
    let find = |who: &str| entrants.iter().find(|it| it.session.who == who);
    let times = |one: &str, other: &str| find(one)?.times(find(other)?);
    let ratios = [
        ("times_bare", times("ortc", plan.bare())),
        ("numbered_times_ortc", times("ortc-numbered", "ortc")),
        ("str0m_times_ortc", times("str0m", "ortc")),
        ("webrtc_rs_times_ortc", times("webrtc-rs", "ortc")),
    ];
    let known = ratios.into_iter().filter_map(|(key, ratio)| Some((key, ratio?)));
    known.map(|(key, ratio)| (key.into(), json!(round(ratio)))).collect()
}

async fn measure(plan: &Plan, options: &Options) -> Result<Vec<Row>> {
    let schedule = Schedule::steady(plan, plan.rate());
    let parameters = plan.parameters();
    let has_goal = |figure: &Figure| figure.goal.and_then(|goal| goal(&parameters)).is_some();
    let has_goals = BENCH.figures.iter().any(has_goal);
    let (rounds, starts, longer) =
        if has_goals { (ROUNDS_WITH_GOALS, STARTS_WITH_GOALS, LONGER) } else { (ROUNDS, 1, 1.0) };
    let time = Duration::from_secs_f64(plan.seconds * longer / rounds as f64);
    let mut entrants: Vec<Entrant> = Vec::new();
    for start in 0..starts {
        let before: Vec<_> =
            entrants.drain(..).map(|entrant| (entrant.session.who, entrant.measured)).collect();
        entrants = turns::start(CONTESTANTS, plan, false, options).await?;
        entrants.iter_mut().for_each(|entrant| entrant.schedules = vec![schedule.clone()]);
        if starts > 1 {
            turns::take(&mut entrants, 1, time * WARM_UP, 1).await?;
        }
        turns::take(&mut entrants, rounds / starts, time, 1).await?;
        for (who, measured) in before {
            if let Some(entrant) = entrants.iter_mut().find(|entrant| entrant.session.who == who) {
                let all = entrant.measured[0].drain(..);
                // The rounds go on from those before.
                let now =
                    all.map(|it| Measured { round: start * rounds / starts + it.round, ..it });
                entrant.measured[0] = measured.into_iter().flatten().chain(now).collect();
            }
        }
    }
    turns::want_most(&mut entrants, rounds)?;
    // The clocks that it takes cost something, too: the split is that of another run.
    let mut timed = turns::start(TIMED, plan, true, options).await?;
    timed.iter_mut().for_each(|entrant| entrant.schedules = vec![schedule.clone()]);
    turns::take(&mut timed, rounds / 2, time, 1).await?;
    let row = |entrant: &Entrant| {
        let who = entrant.session.who;
        let mut figures = entrant.figures(0);
        if let Some(timed) = timed.iter().find(|it| it.session.who == who && it.counted(0) > 0) {
            figures.extend(timed.usage().split(entrant.cost(0)));
        }
        if who == "ortc" {
            figures.extend(compare(plan, &entrants));
        }
        Row { who, parameters: plan.parameters(), figures }
    };
    Ok(entrants.iter().map(row).collect())
}
