//! `cargo xtask test`: all tests, after making sure that what they start is there.

use crate::process::{Outcome, cargo, execute};
use crate::{environment, examples};

pub(crate) fn run_with(arguments: &[String]) -> Outcome {
    execute(cargo(&["test", "--workspace", "--all-features"]).args(arguments))
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    environment::ensure()?;
    examples::build()?;
    run_with(arguments)
}
