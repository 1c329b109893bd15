//! Contestants that are measured in turns, so that whatever else the machine does meets all of
//! them alike.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::schedule::Schedule;
use super::session::{Session, Usage};
use super::{object, round, wanted};
use crate::bench::Options;
use crate::contestant::PEERS;
use crate::error::{Failure, Result};

/// One contestant, and what was measured of it.
pub(crate) struct Entrant {
    pub(crate) session: Session,
    /// What it is measured with; by that, and by round, what came of it.
    pub(crate) schedules: Vec<Schedule>,
    pub(crate) measured: Vec<Vec<Measured>>,
}

/// A run in which nothing was lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Which round it was.
    pub(crate) round: usize,
    pub(crate) packets: f64,
    pub(crate) usage: Usage,
    /// Packets a second.
    pub(crate) rate: f64,
    /// p50, p99 and p99.9, in µs.
    pub(crate) delays: [f64; 3],
}

/// Starts those of `all` that are wanted. A peer that does not start is left out, with a word.
///
/// # Errors
/// When one of this program does not start.
pub(crate) async fn start(
    all: &[&'static str],
    plan: &Plan,
    timed: bool,
    options: &Options,
) -> Result<Vec<Entrant>> {
    let mut entrants: Vec<Entrant> = Vec::new();
    for who in wanted(all, options) {
        let started = Session::start(who, plan, timed, options).await;
        match started {
            Ok(session) => {
                entrants.push(Entrant { session, schedules: Vec::new(), measured: Vec::new() });
            }
            Err(failure) => leave_out(who, failure)?,
        }
        tend(&mut entrants)?;
    }
    Ok(entrants)
}

/// Leaves a peer out.
///
/// # Errors
/// The failure, when it is that of one of this program.
fn leave_out(who: &str, failure: Failure) -> Result<()> {
    if !PEERS.contains(&who) {
        return Err(failure);
    }
    println!("  left out: {failure}");
    Ok(())
}

/// Answers the checks of those whose turn it is not.
pub(crate) fn tend(entrants: &mut [Entrant]) -> Result<()> {
    entrants.iter_mut().try_for_each(|entrant| entrant.session.tend())
}

/// Measures everybody with all of its schedules, in so many rounds. A run in which something is
/// lost does not count.
///
/// # Errors
/// When one of this program fails; a peer is left out then.
pub(crate) async fn take(
    entrants: &mut Vec<Entrant>,
    rounds: usize,
    time: Duration,
    sample: usize,
) -> Result<()> {
    for entrant in &mut *entrants {
        entrant.measured = vec![Vec::new(); entrant.schedules.len()];
    }
    for round in 0..rounds {
        let mut at = 0;
        while at < entrants.len() {
            match entrants[at].take_turn(round, time, sample).await {
                Ok(()) => at += 1,
                Err(failure) => leave_out(entrants.remove(at).session.who, failure)?,
            }
            tend(entrants)?;
        }
    }
    Ok(())
}

/// Wants most runs of everybody to count.
///
/// # Errors
/// When they do not for one of this program; a peer is left out then.
pub(crate) fn want_most(entrants: &mut Vec<Entrant>, rounds: usize) -> Result<()> {
    let lossy = |entrant: &Entrant| entrant.measured.iter().any(|it| it.len() * 2 < rounds);
    while let Some(at) = entrants.iter().position(lossy) {
        let who = entrants.remove(at).session.who;
        leave_out(who, Failure::new(format!("{who} loses packets in most runs")))?;
    }
    Ok(())
}

impl Measured {
    /// CPU time of a packet, in nanoseconds.
    fn cost(&self) -> f64 {
        self.usage.cpu_ns / self.packets
    }
}

impl Entrant {
    async fn take_turn(&mut self, round: usize, time: Duration, sample: usize) -> Result<()> {
        for (schedule, measured) in self.schedules.iter().zip(&mut self.measured) {
            let (outcome, usage) = self.session.measure(schedule, time, sample).await?;
            if outcome.received != outcome.expected {
                self.session.settle()?;
                continue;
            }
            measured.push(Measured {
                round,
                packets: outcome.expected as f64,
                usage,
                rate: outcome.rate(),
                delays: [0.5, 0.99, 0.999].map(|part| outcome.percentile_us(part)),
            });
        }
        Ok(())
    }

    /// Runs that count.
    pub(crate) fn counted(&self, at: usize) -> usize {
        self.measured[at].len()
    }

    /// What a part of the rounds, the least of them, is not above with the schedule at `at`.
    fn quantile(&self, at: usize, part: f64, of: impl Fn(&Measured) -> f64) -> f64 {
        let mut all: Vec<f64> = self.measured[at].iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get((all.len() as f64 * part) as usize).copied().unwrap_or(0.0)
    }

    /// The median over the rounds of what was measured with the schedule at `at`.
    pub(crate) fn median(&self, at: usize, of: impl Fn(&Measured) -> f64) -> f64 {
        self.quantile(at, 0.5, of)
    }

    /// CPU time of a packet, in nanoseconds: that of the lower quartile of the rounds. Whatever else
    /// the machine does adds to it, for a second or some at a time, and never takes from it.
    pub(crate) fn cost(&self, at: usize) -> f64 {
        self.quantile(at, 0.25, Measured::cost)
    }

    /// How many times as much CPU time as another this needs for a packet, with the first schedule: the
    /// median of what it was in each round. Whatever else the machine does for some seconds adds to
    /// both then.
    pub(crate) fn times(&self, other: &Self) -> Option<f64> {
        let mut ratios: Vec<f64> = self.measured[0]
            .iter()
            .filter_map(|it| {
                let theirs = other.measured[0].iter().find(|other| other.round == it.round)?;
                Some(it.cost() / theirs.cost())
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.len() / 2;
        let (below, above) = (ratios.get(ratios.len().checked_sub(1)? / 2)?, ratios.get(middle)?);
        Some((below + above) / 2.0)
    }

    /// The delays, as figures.
    pub(crate) fn delays(&self, at: usize) -> Map<String, Value> {
        object(json!({
            "p50_us": round(self.median(at, |it| it.delays[0])),
            "p99_us": round(self.median(at, |it| it.delays[1])),
            "p999_us": round(self.median(at, |it| it.delays[2])),
        }))
    }

    /// Cost, rate and delays, as figures.
    pub(crate) fn figures(&self, at: usize) -> Map<String, Value> {
        let mut figures = self.delays(at);
        figures.insert("ns_per_packet".into(), json!(round(self.cost(at))));
        figures.insert("packets_per_second".into(), json!(self.median(at, |it| it.rate).round()));
        figures
    }

    /// All that was used with the first schedule, if this one times its steps.
    pub(crate) fn usage(&self) -> Usage {
        self.measured[0].iter().fold(Usage::default(), |sum, it| sum.plus(it.usage))
    }
}
