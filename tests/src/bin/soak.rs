//! `cargo xtask soak`: connections and rooms come and go for a long time, and what is left of
//! them is shown.
#![deny(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command-line tool")]

#[path = "../../tests/counting/mod.rs"]
mod counting;

use std::process::ExitCode;
use std::time::Duration;

use counting::live_everywhere;
use ortc_tests::soak::{Sample, Soak, Until, growth, plot};

/// Lives of a round.
const ROUND: u64 = 400;

/// More than this allocated for each connection is a leak: a table may have grown.
const ALLOCATED: f64 = 16.0;

/// More than this of the system's memory for each connection is one too, over what an allocator
/// does by itself.
const RESIDENT: f64 = 256.0;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let (mut minutes, mut file, mut changes) = (10.0, None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} takes a value"));
        match argument.as_str() {
            "--minutes" => {
                minutes = value()?.parse().map_err(|_| "--minutes takes a number".to_owned())?;
            }
            "--plot" => file = Some(value()?),
            "--changing-networks" => changes = true,
            other => return Err(format!("there is no option `{other}`")),
        }
    }
    if !(f64::MIN_POSITIVE..=1e5).contains(&minutes) {
        return Err("--minutes takes a number above 0".to_owned());
    }
    println!(
        "{:>9} {:>12} {:>14} {:>13} {:>12} {:>8} {:>6}",
        "seconds",
        "connections",
        "allocated, kB",
        "resident, kB",
        "descriptors",
        "threads",
        "tasks"
    );
    let mut soak = match changes {
        true => Soak::begin_on_changing_networks(live_everywhere).await?,
        false => Soak::begin(live_everywhere).await?,
    };
    let until = Until::Elapsed(Duration::from_secs_f64(minutes * 60.0));
    let samples = soak.run(until, ROUND, show).await?;
    soak.end().await;
    if let Some(file) = file {
        std::fs::write(&file, plot(&samples)).map_err(|error| format!("{file}: {error}"))?;
    }
    let growth = growth(&samples).ok_or("too few rounds to say anything")?;
    println!(
        "since the warm-up, over {} connections: {:.1} bytes allocated and {:.1} resident each, {:+} descriptors, {:+} threads, {:+} tasks",
        growth.connections,
        growth.allocated_per_connection,
        growth.resident_per_connection,
        growth.descriptors,
        growth.threads,
        growth.tasks
    );
    let is_flat = growth.allocated_per_connection < ALLOCATED
        && growth.resident_per_connection < RESIDENT
        && growth.descriptors <= 0
        && growth.tasks <= 0;
    match is_flat {
        true => Ok(()),
        false => Err("something grows with every connection".to_owned()),
    }
}

fn show(sample: &Sample) {
    let Sample { elapsed, connections, allocated, resident_kb, descriptors, threads, tasks } =
        sample;
    println!(
        "{:>9.0} {connections:>12} {:>14} {resident_kb:>13} {descriptors:>12} {threads:>8} {tasks:>6}",
        elapsed.as_secs_f64(),
        allocated / 1024,
    );
}
