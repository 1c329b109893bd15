//! The project's own commands: `cargo xtask --help` lists them.
//!
//! A dispatcher and one file a command. It is built on every run of the CI, so it has one
//! dependency, `serde_json`, to read what `cargo metadata` says.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "printing is what a command-line tool is for")]

mod bench;
mod ci;
mod conformance;
mod coverage;
mod deny;
mod environment;
mod examples;
mod fuzz;
mod license;
mod metadata;
mod model;
mod process;
mod sanitize;
mod schema;
mod soak;
mod test;
mod tidy;
mod tree;

use std::process::ExitCode;

use process::{Failure, Outcome};

/// A command: its name and arguments, what it does, and the function that does it.
struct Command {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Outcome,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "ci",
        arguments: "",
        help: "Everything that must hold before a change is merged; CI runs exactly this",
        run: ci::run,
    },
    Command {
        name: "test",
        arguments: "[ARGS]...",
        help: "Installs or names what the tests need, then runs them; ARGS go to `cargo test`",
        run: test::run,
    },
    Command {
        name: "bench",
        arguments: "[NAME]... [--part PART]... [--json FILE] [--plot DIR] [--only WHO]... \
                    [--where KEY=VALUE]... [--quick] [--from FILE]",
        help: "Builds, in release, and runs the benchmarks NAME, or all: ortc beside str0m and \
               webrtc-rs in the same run, as a table with ratios and goals. --part runs only that \
               part of one; --json writes the figures to FILE, too, and --plot draws them; --only \
               measures WHO alone (ortc, bare, str0m, webrtc-rs, …), --where of `forward --part cost` \
               what has these parameters; --quick does a tenth of the work; --from draws the figures \
               of an earlier FILE and measures nothing. benches/README.md says what is measured, and \
               how to add to it",
        run: bench::run,
    },
    Command {
        name: "model",
        arguments: "[NAME]... [--seeds N] [--from N | --seed N]",
        help: "Runs random programs against what must hold, 1,000 seeds of each model NAME, or of \
               all, where CI runs some dozens. --seeds says how many, --from the first, --seed the only \
               one. A seed that fails is told with the command to run it again",
        run: model::run,
    },
    Command {
        name: "fuzz",
        arguments: "[TARGET]... [--seconds N] [--keep] [--list] [--coverage]",
        help: "Fuzzes each TARGET, or all, for N seconds (60), guided by coverage. It takes a C++ \
               compiler, and no nightly. A finding stops it and is kept in fuzz/corpus, where \
               every test run replays it; --keep adds inputs there that reach new code. \
               --coverage prints which lines of the crates all inputs reach, and which not. \
               fuzz/README.md says how to add a target",
        run: fuzz::run,
    },
    Command {
        name: "soak",
        arguments: "[--minutes N] [--plot FILE] [--changing-networks]",
        help: "Has connections, forwarded tracks and rooms come and go for N minutes (10), and shows \
               what the process holds whenever all are closed: memory, descriptors, threads, tasks. \
               It fails when something grows with every connection. --plot draws the lines (SVG). \
               --changing-networks has addresses vanish and come back under the calls, in a \
               network of its own, which takes Linux, `unshare` and `ip`",
        run: soak::run,
    },
    Command {
        name: "sanitize",
        arguments: "",
        help: "Runs the tests of ortc-io, which alone has unsafe code, under AddressSanitizer. It \
               takes no nightly",
        run: sanitize::run,
    },
    Command {
        name: "examples",
        arguments: "",
        help: "Builds every example of the workspace and runs each to its end",
        run: examples::run,
    },
    Command {
        name: "tidy",
        arguments: "",
        help: "House rules that neither rustc nor clippy knows",
        run: tidy::run,
    },
    Command {
        name: "conformance",
        arguments: "[--open | --meet ID [TEST]...]",
        help: "Checks docs/conformance.md; lists its open rows, or marks a row as met by tests",
        run: conformance::run,
    },
    Command {
        name: "schema",
        arguments: "",
        help: "Writes docs/ortc.schema.json, docs/ortc.d.ts and signalled.d.ts of the npm package from \
               the types of what is signalled; CI fails when they are stale",
        run: schema::run,
    },
    Command {
        name: "deny",
        arguments: "[--builtin]",
        help: "Checks licences, bans and sources with cargo-deny, which it installs if need be, \
               or with the built-in check that CI falls back to",
        run: deny::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", usage());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("error: there is no command `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    if rest.first().is_some_and(|argument| matches!(argument.as_str(), "--help" | "-h")) {
        println!("cargo xtask {} {}\n\n{}", command.name, command.arguments, command.help);
        return ExitCode::SUCCESS;
    }
    let outcome = if let (true, [unknown, ..]) = (command.arguments.is_empty(), rest) {
        Err(Failure::new(format!("{name} takes no arguments, and not `{unknown}`")))
    } else {
        (command.run)(rest)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Exit(code)) => ExitCode::from(code),
        Err(Failure::Message(message)) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("Usage: cargo xtask COMMAND\n\nCommands:\n");
    for command in COMMANDS {
        let call = format!("{} {}", command.name, command.arguments);
        text.push_str(&format!("  {}\n      {}\n", call.trim_end(), command.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_lists_every_command_once() {
        let usage = usage();
        for command in COMMANDS {
            let line = format!("\n  {}", command.name);
            assert_eq!(usage.matches(&line).count(), 1, "{}", command.name);
        }
    }
}
