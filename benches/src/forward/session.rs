//! A contestant that forwards, and the load that it is under.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::load::{Load, Outcome};
use super::plan::Plan;
use super::schedule::Schedule;
use super::{object, round};
use crate::bench::Options;
use crate::contestant::{Contestant, Lines, PEERS};
use crate::error::{Failure, Result};

/// Who is in the load, and connected to it.
pub(crate) struct Session {
    pub(crate) who: &'static str,
    contestant: Contestant,
    lines: Lines,
    load: Load,
}

/// What a contestant has used so far, or from one time to another.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: f64,
    pub(crate) open_ns: f64,
    pub(crate) seal_ns: f64,
    pub(crate) send_ns: f64,
    /// How many runs of 1, 2, … 16 datagrams were handed over.
    pub(crate) runs: [u64; 16],
}

impl Usage {
    fn parse(message: &Value) -> Self {
        let number = |key: &str| message[key].as_f64().unwrap_or(0.0);
        let run = |n: usize| message["runs"][n].as_u64().unwrap_or(0);
        Self {
            cpu_ns: number("cpu_ns"),
            open_ns: number("open_ns"),
            seal_ns: number("seal_ns"),
            send_ns: number("send_ns"),
            runs: std::array::from_fn(run),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns - before.cpu_ns,
            open_ns: self.open_ns - before.open_ns,
            seal_ns: self.seal_ns - before.seal_ns,
            send_ns: self.send_ns - before.send_ns,
            runs: std::array::from_fn(|n| self.runs[n] - before.runs[n]),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            open_ns: self.open_ns + other.open_ns,
            seal_ns: self.seal_ns + other.seal_ns,
            send_ns: self.send_ns + other.send_ns,
            runs: std::array::from_fn(|n| self.runs[n] + other.runs[n]),
        }
    }

    /// The steps as parts of what a packet costs.
    ///
    /// Reading clocks costs something, too, so that a pass where steps are timed says only
    /// which part of a packet's cost each has.
    pub(crate) fn split(&self, ns_per_packet: f64) -> Map<String, Value> {
        let part = |ns: f64| round(ns / self.cpu_ns.max(1.0) * ns_per_packet);
        let known = self.open_ns + self.seal_ns + self.send_ns;
        object(json!({
            "open_ns": part(self.open_ns),
            "seal_ns": part(self.seal_ns),
            "send_ns": part(self.send_ns),
            "rest_ns": part((self.cpu_ns - known).max(0.0)),
        }))
    }
}

impl Session {
    /// Starts `who`, and connects the load to it; on return everybody receives and opens all.
    /// With `timed` it times its steps, if it is one of those in this program.
    pub(crate) async fn start(
        who: &'static str,
        plan: &Plan,
        timed: bool,
        options: &Options,
    ) -> Result<Self> {
        let mut load = Load::bind(plan)?;
        let is_peer = PEERS.contains(&who);
        let program = if is_peer { who } else { "ortc" };
        let arguments = [who.to_owned(), plan.to_argument(), timed.to_string()];
        let (contestant, output) = Contestant::start(program, "forward", &arguments, options)?;
        let mut lines = Lines::new(who, output);
        if is_peer {
            load.meet(&contestant, &mut lines).await?;
        } else {
            contestant.send(&load.addresses()).await?;
            load.connect(&lines.next().await?)?;
        }
        load.prime().map_err(|failure| Failure::new(format!("{who}: {failure}")))?;
        Ok(Self { who, contestant, lines, load })
    }

    async fn usage(&mut self) -> Result<Usage> {
        self.contestant.send(&json!({ "usage": true })).await?;
        loop {
            let message = self.lines.next().await?;
            if message["usage"].is_object() {
                return Ok(Usage::parse(&message["usage"]));
            }
        }
    }

    /// Answers checks, while nothing is published.
    pub(crate) fn tend(&mut self) -> Result<()> {
        self.load.tend()
    }

    /// Takes what is late.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.load.settle()
    }

    /// Publishes for a while: what came of it, and what it has cost. See [`Load::run`] for
    /// `sample`.
    pub(crate) async fn measure(
        &mut self,
        schedule: &Schedule,
        time: Duration,
        sample: usize,
    ) -> Result<(Outcome, Usage)> {
        let before = self.usage().await?;
        let outcome = self.load.run(schedule, time, sample)?;
        let after = self.usage().await?;
        Ok((outcome, after.since(before)))
    }
}
