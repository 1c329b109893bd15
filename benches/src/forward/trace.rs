//! What a browser really sends: sizes and times of a recorded track, which are seldom equal.

use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::schedule::Schedule;
use super::turns::{self, Entrant};
use super::{CONTESTANT, NAME, round};
use crate::bench::{Bench, Figure, Limit, Options, Row};
use crate::error::Result;

pub(crate) const BENCH: Bench = Bench {
    name: NAME,
    part: "trace",
    help: "CPU time of forwarding a recorded video of Chromium, 720p, and its runs",
    figures: &[
        Figure { key: "ns_per_packet", goal: None },
        Figure { key: "times_bare", goal: Some(goal) },
        Figure { key: "packets_per_run", goal: None },
        Figure { key: "open_ns", goal: None },
        Figure { key: "seal_ns", goal: None },
        Figure { key: "send_ns", goal: None },
        Figure { key: "rest_ns", goal: None },
        Figure { key: "p50_us", goal: None },
        Figure { key: "p99_us", goal: None },
    ],
    run,
    contestant: CONTESTANT,
};

/// The last evens out the packets of a picture, by padding.
const CONTESTANTS: &[&str] = &["bare", "ortc", "ortc-padded"];

/// Its first lines say how it was recorded.
const TRACE: &str = include_str!("../../data/chromium-720p.csv");

fn goal(_: &Map<String, Value>) -> Option<Limit> {
    Some(Limit::AtMost(1.4))
}

fn run(options: &Options, report: &mut dyn FnMut(Row)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let schedule = Schedule::parse(TRACE)?;
    let (packets, bytes) = schedule.totals();
    let plan = Plan::usual(options.quick);
    let mut parameters = Map::new();
    parameters.insert("trace".into(), json!("chromium-720p"));
    parameters.insert("subscribers".into(), json!(plan.subscribers));
    parameters.insert("mean_payload".into(), json!(bytes / packets));
    parameters.insert("profile".into(), plan.parameters()["profile"].clone());
    let measured = runtime.block_on(measure(&plan, &schedule, options))?;
    let bare = measured.iter().find(|(who, ..)| *who == "bare").map(|(_, cost, ..)| *cost);
    for (who, cost, mut figures, runs) in measured {
        let all = runs.iter().sum::<u64>().max(1);
        let sent: u64 = runs.iter().zip(1..).map(|(runs, length)| runs * length).sum();
        figures.insert("packets_per_run".into(), json!(round(sent as f64 / all as f64)));
        figures.insert("run_lengths".into(), json!(runs));
        if let Some(bare) = bare.filter(|_| who != "bare") {
            figures.insert("times_bare".into(), json!(round(cost / bare)));
        }
        report(Row { who, parameters: parameters.clone(), figures });
        println!("{}", histogram(who, &runs));
    }
    Ok(())
}

/// Who, what a packet costs, all figures, and how many runs of which length there were.
type Replayed = (&'static str, f64, Map<String, Value>, [u64; 16]);

async fn measure(plan: &Plan, schedule: &Schedule, options: &Options) -> Result<Vec<Replayed>> {
    // All of it each time: its parts differ.
    let (rounds, time) = match options.quick {
        true => (1, schedule.period() / 2),
        false => (3, schedule.period()),
    };
    let mut entrants = turns::start(CONTESTANTS, plan, false, options).await?;
    let mut timed = turns::start(CONTESTANTS, plan, true, options).await?;
    for entrant in entrants.iter_mut().chain(&mut timed) {
        entrant.schedules = vec![schedule.clone()];
    }
    turns::take(&mut entrants, rounds, time, 1).await?;
    turns::want_most(&mut entrants, rounds)?;
    turns::take(&mut timed, 1, time, 1).await?;
    turns::want_most(&mut timed, 1)?;
    let replayed = |(entrant, timed): (&Entrant, &Entrant)| {
        let (cost, usage) = (entrant.cost(0), timed.usage());
        let mut figures = entrant.figures(0);
        figures.extend(usage.split(cost));
        (entrant.session.who, cost, figures, usage.runs)
    };
    Ok(entrants.iter().zip(&timed).map(replayed).collect())
}

/// How many datagrams were handed over together, as bars.
fn histogram(who: &str, runs: &[u64; 16]) -> String {
    let all = runs.iter().sum::<u64>().max(1);
    let mut text = format!("  {who}: datagrams of a run, and how many runs had so many\n");
    for (count, length) in runs.iter().zip(1..).filter(|(count, _)| **count > 0) {
        let percent = *count as f64 * 100.0 / all as f64;
        let bar = "#".repeat((percent / 2.0).round() as usize);
        text.push_str(&format!("  {length:>4} {percent:>5.1} % {bar}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_trace_is_a_video_of_720_lines() {
        let schedule = Schedule::parse(TRACE).unwrap();
        let (packets, bytes) = schedule.totals();
        let megabits = bytes as f64 * 8.0 / 1e6 / schedule.period().as_secs_f64();
        assert!((1.0..3.0).contains(&megabits), "{megabits} Mbit/s");
        assert!(packets > 1000, "{packets} packets");
    }

    #[test]
    fn runs_are_shown_by_their_share() {
        let mut runs = [0; 16];
        (runs[0], runs[7]) = (1, 3);
        let expected = "  ortc: datagrams of a run, and how many runs had so many\n     \
                        1  25.0 % #############\n     8  75.0 % ######################################\n";
        assert_eq!(histogram("ortc", &runs), expected);
    }
}
