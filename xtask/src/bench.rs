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
    // `--only ortc` asks for nobody of theirs: the peers take minutes to build.
    let is_ours = |who: &str| matches!(who, "ortc" | "ortc-padded" | "bare" | "bare-plain");
    let alone = arguments.windows(2).all(|pair| pair[0] != "--only" || is_ours(&pair[1]))
        && arguments.iter().any(|argument| argument == "--only");
    execute(&mut cargo(&["build", "--release", "--package", "ortc-benches"]))?;
    let mut bench = Command::new(program(&target.join("release"), "ortc-bench"));
    bench.args(arguments);
    if !alone {
        bench.arg("--peers").arg(build_peers(&target)?);
    }
    execute(&mut bench)
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
