//! `cargo xtask soak`: connections that come and go for a long time, in release.

use crate::process::{Outcome, cargo, execute};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let mut soak = cargo(&["run", "--release", "--package", "ortc-tests", "--bin", "soak", "--"]);
    execute(soak.args(arguments))
}
