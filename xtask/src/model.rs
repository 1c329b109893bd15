//! `cargo xtask model`: random programs against what must hold, many more than CI runs.
//!
//! A model is a test that runs one program for each seed, by `ortc_tests::each_seed` or as that
//! does: a few of them in CI, and as many as the environment says here. Add one with a row in the table.

use std::path::Path;
use std::process::Command;

use crate::process::{Failure, Outcome, cargo, execute};

/// A test that runs a random program for each of many seeds.
struct Model {
    name: &'static str,
    /// Where it is: a file of tests, and the test.
    file: &'static str,
    test: &'static str,
    /// What it says that it holds.
    holds: &'static str,
}

const MODELS: &[Model] = &[
    Model {
        name: "calls",
        file: "tests/tests/calls_model.rs",
        test: "no_random_program_breaks_a_rule",
        holds: "calls, forks and forwarding against a reference, in any order of operations",
    },
    Model {
        name: "keys",
        file: "tests/tests/keys_model.rs",
        test: "at_a_loss_of_one_in_five_a_key_is_one_key_if_anything_of_it_arrives",
        holds: "telephone keys of random calls, whole connections, at 20 % loss",
    },
    Model {
        name: "lossy_tones",
        file: "crates/ortc-dtmf/tests/faults.rs",
        test: "with_loss_and_duplicates_every_key_is_reported_once_with_the_length_that_arrived",
        holds: "lengths and order of random tones at up to 50 % loss",
    },
    Model {
        name: "faulty_tones",
        file: "crates/ortc-dtmf/tests/faults.rs",
        test: "peers_without_beginnings_or_ends_are_heard",
        holds: "random tones of peers that leave out packets or have another clock",
    },
    Model {
        name: "jittery_tones",
        file: "crates/ortc-dtmf/tests/faults.rs",
        test: "jitter_within_the_hold_keeps_every_key_in_order",
        holds: "order of random tones at 20 % loss and 55 ms of jitter",
    },
    Model {
        name: "tones",
        file: "crates/ortc-dtmf/tests/faults.rs",
        test: "five_seconds_of_disorder_double_no_key_and_lose_none",
        holds: "random tones at 20 % loss, 20 % duplicates and up to 5 s of disorder",
    },
    Model {
        name: "networks",
        file: "tests/tests/topologies.rs",
        test: "both_sides_agree_on_a_pair_or_are_told_that_there_is_none",
        holds: "ICE over random networks, NATs, loss, outages and changes of address",
    },
    Model {
        name: "pairs",
        file: "crates/ortc-ice/src/servers/tests/agreement.rs",
        test: "both_sides_take_the_best_pair_within_a_second",
        holds: "one best pair on both sides of any two NATs, with a STUN and TURN server",
    },
    Model {
        name: "lossy_pairs",
        file: "crates/ortc-ice/src/servers/tests/agreement.rs",
        test: "with_loss_and_delay_they_connect_soon_and_agree_within_three_seconds",
        holds: "the same at 5 % loss and a round trip of 100 ms, and how long connecting takes",
    },
    Model {
        name: "times",
        file: "tests/tests/connecting_times.rs",
        test: "at_a_loss_of_one_in_twenty_99_of_a_hundred_connect_within_a_second",
        holds: "how long whole connections take until there are keys, on the same networks",
    },
];

/// Seeds of each model, unless told.
const SEEDS: u64 = 1_000;

/// Read by the tests: how many seeds, and the first.
const SEEDS_VARIABLE: &str = "ORTC_MODEL_SEEDS";
const FIRST_VARIABLE: &str = "ORTC_MODEL_FIRST";

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    models: Vec<String>,
    seeds: u64,
    first: u64,
}

impl Arguments {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut parsed = Self { models: Vec::new(), seeds: SEEDS, first: 0 };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut number = || {
                let number = rest.next().and_then(|text| text.parse().ok());
                number.ok_or_else(|| Failure::new(format!("{argument} takes a number")))
            };
            match argument.as_str() {
                "--seeds" => parsed.seeds = number()?,
                "--seed" => (parsed.first, parsed.seeds) = (number()?, 1),
                "--from" => parsed.first = number()?,
                flag if flag.starts_with('-') => {
                    return Err(Failure::new(format!("there is no option `{flag}`")));
                }
                name if MODELS.iter().any(|model| model.name == name) => {
                    parsed.models.push(name.to_owned());
                }
                name => {
                    let known: Vec<_> = MODELS.iter().map(|model| model.name).collect();
                    let known = known.join(", ");
                    return Err(Failure::new(format!("there is no model `{name}`, but {known}")));
                }
            }
        }
        if parsed.seeds == 0 {
            return Err(Failure::new("without a seed nothing is shown"));
        }
        Ok(parsed)
    }
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let arguments = Arguments::parse(arguments)?;
    let is_wanted = |model: &&Model| {
        arguments.models.is_empty() || arguments.models.iter().any(|name| name == model.name)
    };
    for model in MODELS.iter().filter(is_wanted) {
        println!("==> {}: {}, {} seeds", model.name, model.holds, arguments.seeds);
        let mut test = command(model);
        test.env(SEEDS_VARIABLE, arguments.seeds.to_string());
        test.env(FIRST_VARIABLE, arguments.first.to_string());
        execute(&mut test).map_err(|_| {
            Failure::new(format!(
                "{}: a seed fails; the lines above say which, and how to run it again",
                model.name
            ))
        })?;
    }
    Ok(())
}

/// Runs the test of a model.
fn command(model: &Model) -> Command {
    let target = Path::new(model.file).file_stem().unwrap_or_default().to_string_lossy();
    let of_crate = model.file.strip_prefix("crates/").and_then(|path| path.split_once("/src/"));
    match of_crate {
        // Its name has the modules that it is in before it.
        Some((package, _)) => {
            let mut test = cargo(&["test", "-p", package, "--all-features", "--lib"]);
            test.args(["--", &format!("{target}::{}", model.test), "--nocapture"]);
            test
        }
        // As `xtask test` builds it, so that nothing is built anew.
        None => {
            let mut test = cargo(&["test", "--workspace", "--all-features", "--test", &target]);
            test.args(["--", "--exact", model.test, "--nocapture"]);
            test
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Arguments> {
        Arguments::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn one_seed_or_many_are_run_of_some_models_or_all() {
        let all = Arguments { models: Vec::new(), seeds: SEEDS, first: 0 };
        assert_eq!(parse(""), Ok(all));
        let one = Arguments { models: vec!["keys".into()], seeds: 1, first: 17 };
        assert_eq!(parse("keys --seed 17"), Ok(one));
        let some = Arguments { models: vec!["tones".into()], seeds: 50, first: 1_000 };
        assert_eq!(parse("tones --seeds 50 --from 1000"), Ok(some));
        for line in ["doors", "--seed", "--seeds 0", "--seeds x", "--often"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_model_is_a_test_that_exists() {
        for Model { name, file, test, .. } in MODELS {
            let text = crate::tree::read(file).unwrap();
            assert!(text.contains(&format!("fn {test}()")), "{file} has no {test}");
            assert!(text.contains(&format!("\"{name}\",")), "{file} does not name {name}");
        }
    }
}
