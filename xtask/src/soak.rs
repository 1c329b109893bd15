//! `cargo xtask soak`: connections that come and go for a long time, in release.

use std::process::Command;

use crate::metadata;
use crate::process::{Outcome, cargo, execute, succeeds};

/// A network of the process's own, in which addresses can vanish.
const ALONE: [&str; 2] = ["--map-root-user", "--net"];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let build = ["build", "--release", "--package", "ortc-tests", "--bin", "soak"];
    execute(&mut cargo(&build))?;
    let program = format!("{}/release/soak", metadata::workspace()?.target_directory);
    let can_move = succeeds(Command::new("unshare").args(ALONE).args(["ip", "link"]));
    let mut soak = match can_move {
        true => Command::new("unshare"),
        false => Command::new(&program),
    };
    if can_move {
        soak.args(ALONE).args([&program, "--changing-networks"]);
    } else {
        println!("networks stay as they are: `unshare --net` and `ip` are not to be had here");
    }
    execute(soak.args(arguments).current_dir(crate::tree::root()))
}
