//! `cargo xtask soak`: connections that come and go for a long time, in release.

use std::process::Command;

use crate::metadata;
use crate::process::{Outcome, cargo, execute};

/// Has addresses vanish under the calls, in a network of the process's own.
const CHANGING: &str = "--changing-networks";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    if !arguments.iter().any(|argument| argument == CHANGING) {
        let mut soak =
            cargo(&["run", "--release", "--package", "ortc-tests", "--bin", "soak", "--"]);
        return execute(soak.args(arguments));
    }
    execute(&mut cargo(&["build", "--release", "--package", "ortc-tests", "--bin", "soak"]))?;
    let program = format!("{}/release/soak", metadata::workspace()?.target_directory);
    let mut soak = Command::new("unshare");
    soak.args(["--map-root-user", "--net", &program]).args(arguments);
    execute(soak.current_dir(crate::tree::root()))
}
