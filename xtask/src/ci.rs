//! `cargo xtask ci`: what CI runs, in the order that finds mistakes cheapest first.

use std::time::Instant;

use crate::process::{Outcome, cargo, execute};
use crate::{conformance, deny, environment, examples, test, tidy};

/// A step: its name and what it does.
type Step = (&'static str, fn() -> Outcome);

const STEPS: &[Step] = &[
    ("environment", environment::ensure),
    ("format", || execute(&mut cargo(&["fmt", "--all", "--check"]))),
    ("tidy", || tidy::run(&[])),
    ("conformance", || conformance::run(&[])),
    ("supply chain", deny::cheapest),
    ("clippy", || {
        execute(
            cargo(&["clippy", "--workspace", "--all-targets", "--all-features"])
                .args(["--", "-D", "warnings"]),
        )
    }),
    ("documentation", || {
        let mut doc = cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
        execute(doc.env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("release build", || execute(&mut cargo(&["build", "--release"]))),
    ("examples", || examples::run(&[])),
];

pub(crate) fn run(_: &[String]) -> Outcome {
    for (name, step) in STEPS {
        println!("==> {name}");
        let begun = Instant::now();
        step()?;
        println!("    {name}: {:.1} s", begun.elapsed().as_secs_f64());
    }
    // Last, and nothing is printed after it: the test runner's own summary ends the output. All of
    // them, whatever fails: one run tells everything.
    println!("==> tests");
    test::run_with(&["--no-fail-fast".to_owned()])
}
