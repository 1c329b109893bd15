//! `cargo xtask bench`: builds what the benchmarks need, in release, and runs them.
//!
//! The peers are a workspace of their own, so that nothing else ever builds or locks them;
//! what is measured and how it is shown is `ortc-bench`'s.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::metadata;
use crate::process::{Failure, Outcome, cargo, execute};
use crate::tree;

/// The workspace of the peers, and within the target directory what it builds.
const PEERS: &str = "benches/peers";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let target = PathBuf::from(metadata::workspace()?.target_directory);
    execute(&mut cargo(&["build", "--release", "--package", "ortc-benches"]))?;
    let mut bench = Command::new(program(&target.join("release"), "ortc-bench"));
    bench.args(arguments);
    if needs_peers(arguments) {
        bench.arg("--peers").arg(build_peers(&target)?);
    }
    execute(&mut bench)
}

/// Whether somebody else is measured: the peers take minutes to build.
fn needs_peers(arguments: &[String]) -> bool {
    let (mut names, mut only) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            // What is drawn or told is measured by nobody.
            "--from" | "--help" | "-h" => return false,
            "--only" => only.extend(rest.next()),
            "--json" | "--plot" | "--part" | "--where" => drop(rest.next()),
            flag if flag.starts_with('-') => {}
            name => names.push(name),
        }
    }
    let is_with_peers = |name: &&str| matches!(*name, "setup" | "forward");
    let is_theirs = |who: &&str| matches!(*who, "str0m" | "webrtc-rs");
    (names.is_empty() || names.iter().any(is_with_peers))
        && (only.is_empty() || only.iter().any(is_theirs))
}

fn build_peers(target: &Path) -> Outcome<PathBuf> {
    let target = target.join("peers");
    let manifest = tree::root().join(PEERS).join("Cargo.toml");
    let mut build = cargo(&["build", "--release", "--locked", "--manifest-path"]);
    build.arg(&manifest).arg("--target-dir").arg(&target);
    execute(&mut build).map_err(|failure| match failure {
        Failure::Exit(_) => Failure::new(
            "the peers of the benchmarks cannot be built; `--only ortc` does without them",
        ),
        other => other,
    })?;
    Ok(program(&target.join("release"), "ortc-bench-peers"))
}

fn program(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_are_built_for_what_they_take_part_in() {
        let needs = |line: &str| {
            needs_peers(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        for line in ["", "setup", "forward --quick", "checks setup", "--only ortc --only str0m"] {
            assert!(needs(line), "{line}");
        }
        for line in ["idle", "stats checks", "setup --only ortc", "--only bare", "--from f.json"] {
            assert!(!needs(line), "{line}");
        }
        assert!(needs("--json idle"), "that is a file");
    }
}
