//! Benchmarks of the whole composition, beside other stacks in the same run.
//!
//! `cargo xtask bench` builds and runs this; `README.md` beside it says how to add one.

#![allow(clippy::print_stdout, reason = "the table is what it is run for")]

mod bench;
mod checks;
mod contestant;
mod error;
mod forward;
mod idle;
mod lan;
mod plot;
mod setup;
mod stats;
mod usage;

use std::process::ExitCode;

use bench::{Bench, Options, Row, table};
use error::{Failure, Result};
use serde_json::Value;

/// Every benchmark; a new one is a file and a row here. One of several parts has a row for each.
const BENCHES: &[&[Bench]] =
    &[&[setup::BENCH], &forward::BENCHES, &[idle::BENCH], &[stats::BENCH], &[checks::BENCH]];

fn main() -> ExitCode {
    usage::raise_open_files();
    usage::raise_priority();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match command(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: &[String]) -> Result<()> {
    if let [first, name, rest @ ..] = arguments
        && first == "contestant"
    {
        let contestant = find(name)?[0].contestant;
        return contestant.ok_or_else(|| Failure::new(format!("`{name}` has none")))?(rest);
    }
    let arguments = Arguments::parse(arguments)?;
    if arguments.help {
        print!("{}", help());
        return Ok(());
    }
    if let Some(file) = &arguments.from {
        let results: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        return draw(&arguments, &results);
    }
    if let Some(status) = lan::run_inside()? {
        return if status.success() { Ok(()) } else { Err(Failure::new("see above")) };
    }
    let parts = &arguments.options.parts;
    let wanted = |bench: &&&Bench| parts.is_empty() || parts.iter().any(|it| it == bench.part);
    let wanted: Vec<_> = arguments.benches.iter().filter(wanted).collect();
    if !arguments.options.given.is_empty()
        && !matches!(wanted[..], [bench] if bench.name == "forward" && bench.part == "cost")
    {
        return Err(Failure::new("`--where` is for `forward --part cost` alone"));
    }
    let mut results: Vec<Value> = Vec::new();
    for bench in wanted {
        println!("{} {}: {}", bench.name, bench.part, bench.help);
        let mut rows: Vec<Row> = Vec::new();
        (bench.run)(&arguments.options, &mut |row| {
            println!("  {}", row.to_json(bench));
            rows.push(row);
        })?;
        println!("\n{}", table(bench, &rows));
        results.extend(rows.iter().map(|row| row.to_json(bench)));
    }
    if let Some(file) = &arguments.json {
        let text = format!("{:#}\n", Value::Array(results.clone()));
        std::fs::write(file, text).map_err(|error| Failure::new(format!("{file}: {error}")))?;
    }
    draw(&arguments, &results)
}

fn draw(arguments: &Arguments, results: &[Value]) -> Result<()> {
    if let Some(directory) = &arguments.plot {
        for (name, svg) in plot::all(results) {
            let file = std::path::Path::new(directory).join(name);
            std::fs::create_dir_all(directory)?;
            std::fs::write(&file, svg)?;
            println!("wrote {}", file.display());
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static [Bench]> {
    BENCHES.iter().copied().find(|parts| parts[0].name == name).ok_or_else(|| {
        let names: Vec<_> = BENCHES.iter().map(|parts| parts[0].name).collect();
        Failure::new(format!("there is no benchmark `{name}`, but {}", names.join(", ")))
    })
}

fn help() -> String {
    let mut text = String::from(
        "Usage: cargo xtask bench [NAME]... [--part PART]... [--json FILE] [--plot DIR]\n            \
                                [--only WHO]... [--where KEY=VALUE]... [--quick]\n\n\
         Measures ortc, and others that do the same job, in one run.\n\n  \
         --part PART  runs only this part of a benchmark that has several\n  \
         --json FILE  writes the figures as an array of objects, too\n  \
         --plot DIR   draws what there are plots of, as SVG files\n  \
         --from FILE  draws the figures of an earlier --json FILE and measures nothing\n  \
         --only WHO   measures only ortc, str0m, webrtc-rs, ...\n  \
         --where KEY=VALUE  of `forward --part cost` only what has, say, subscribers=50\n  \
         --quick      does a tenth of the work, to see that it runs\n\nBenchmarks:\n",
    );
    for bench in BENCHES.iter().copied().flatten() {
        let name = format!("{} {}", bench.name, bench.part);
        text.push_str(&format!("  {name:<16}  {}\n", bench.help));
    }
    text
}

/// A contestant, by its name.
fn known(who: String) -> Result<String> {
    let all = [contestant::OURS, contestant::PEERS].concat();
    if all.contains(&who.as_str()) {
        return Ok(who);
    }
    Err(Failure::new(format!("there is no contestant `{who}`, but {}", all.join(", "))))
}

/// What a parameter is to be, as `KEY=VALUE`.
fn given(text: &str) -> Result<(String, String)> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::new(format!("`--where` needs KEY=VALUE, not `{text}`")))?;
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Default)]
struct Arguments {
    benches: Vec<&'static Bench>,
    options: Options,
    json: Option<String>,
    plot: Option<String>,
    from: Option<String>,
    help: bool,
}

impl Arguments {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || {
                rest.next()
                    .cloned()
                    .ok_or_else(|| Failure::new(format!("`{argument}` needs a value")))
            };
            match argument.as_str() {
                "--json" => parsed.json = Some(value()?),
                "--plot" => parsed.plot = Some(value()?),
                "--from" => parsed.from = Some(value()?),
                "--part" => parsed.options.parts.push(value()?),
                "--peers" => parsed.options.peers = Some(value()?),
                "--only" => parsed.options.only.push(known(value()?)?),
                "--where" => parsed.options.given.push(given(&value()?)?),
                "--quick" => parsed.options.quick = true,
                "--help" | "-h" => parsed.help = true,
                flag if flag.starts_with('-') => {
                    return Err(Failure::new(format!("there is no option `{flag}`")));
                }
                name => parsed.benches.extend(find(name)?),
            }
        }
        if parsed.benches.is_empty() {
            parsed.benches = BENCHES.iter().copied().flatten().collect();
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn no_name_is_every_benchmark() {
        let names = |line: &str| {
            let benches = parse(line).unwrap().benches;
            benches.iter().map(|bench| (bench.name, bench.part)).collect::<Vec<_>>()
        };
        let forward = ["cost", "load", "threads", "trace"].map(|part| ("forward", part));
        assert_eq!(names("forward"), forward);
        let all = [&[("setup", "")], &forward[..], &[("idle", ""), ("stats", ""), ("checks", "")]]
            .concat();
        assert_eq!(names(""), all);
        assert_eq!(parse("setup --quick").unwrap().benches.len(), 1);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (line, complaint) in [
            ("nothing", "there is no benchmark `nothing`, but setup, forward, idle, stats, checks"),
            ("--fast", "there is no option `--fast`"),
            (
                "--only pion",
                "there is no contestant `pion`, but ortc, ortc-numbered, ortc-padded, bare, \
                 bare-plain, str0m, webrtc-rs",
            ),
            ("setup --json", "`--json` needs a value"),
            ("forward --where 50", "`--where` needs KEY=VALUE, not `50`"),
        ] {
            assert_eq!(parse(line).err().unwrap().to_string(), complaint);
        }
    }
}
