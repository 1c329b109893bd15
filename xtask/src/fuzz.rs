//! `cargo xtask fuzz`: coverage-guided fuzzing with the stable toolchain.
//!
//! The targets are `ortc-fuzz`'s, a crate of the workspace whose tests replay the corpora. What
//! drives them is a workspace of its own, which only this builds: libFuzzer, and everything
//! compiled so that edges are counted. Those are flags of the stable compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::coverage::{self, Tools};
use crate::metadata;
use crate::process::{Failure, Outcome, cargo, execute, output};
use crate::tree;

/// The workspace that is built, and the program within.
const DRIVER: &str = "fuzz/libfuzzer";
const PROGRAM: &str = "ortc-fuzz-libfuzzer";

/// The inputs that are replayed with every test, a directory for each target.
const CORPORA: &str = "fuzz/corpus";

/// Seconds for each target, unless told.
const SECONDS: u64 = 60;

/// Longest input in bytes: a jumbo datagram, or a short file.
const MAX_LEN: u32 = 4_096;

/// Counts edges and notes what is compared, for libFuzzer to be guided by.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Counts regions as well, for the report of what is reached.
const COUNTED: &str = "-Cinstrument-coverage";

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    targets: Vec<String>,
    seconds: u64,
    keep: bool,
    list: bool,
    coverage: bool,
}

impl Arguments {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut parsed = Self {
            targets: Vec::new(),
            seconds: SECONDS,
            keep: false,
            list: false,
            coverage: false,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--seconds" => {
                    let seconds = rest.next().and_then(|text| text.parse().ok());
                    parsed.seconds = seconds
                        .filter(|seconds| *seconds > 0)
                        .ok_or_else(|| Failure::new("--seconds takes a number of seconds"))?;
                }
                "--keep" => parsed.keep = true,
                "--list" => parsed.list = true,
                "--coverage" => parsed.coverage = true,
                flag if flag.starts_with('-') => {
                    return Err(Failure::new(format!("there is no option `{flag}`")));
                }
                name => parsed.targets.push(name.to_owned()),
            }
        }
        Ok(parsed)
    }
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let arguments = Arguments::parse(arguments)?;
    let known = targets()?;
    if arguments.list {
        println!("{}", known.join("\n"));
        return Ok(());
    }
    if let Some(name) = arguments.targets.iter().find(|name| !known.contains(name)) {
        let known = known.join(", ");
        return Err(Failure::new(format!("there is no target `{name}`, but {known}")));
    }
    let wanted = if arguments.targets.is_empty() { known } else { arguments.targets };
    let target = PathBuf::from(metadata::workspace()?.target_directory).join("fuzz");
    if arguments.coverage {
        return report(&target, &wanted);
    }
    let program = build(&target, INSTRUMENTED)?;
    for name in &wanted {
        println!("==> {name}, {} s", arguments.seconds);
        let found = target.join("corpus").join(name);
        let kept = tree::root().join(CORPORA).join(name);
        fs::create_dir_all(&found)
            .map_err(|error| Failure::new(format!("{}: {error}", found.display())))?;
        fuzz(&program, name, arguments.seconds, &found, &kept)?;
        if arguments.keep {
            merge(&program, name, &found, &kept)?;
        }
    }
    Ok(())
}

/// The names of the targets: those of their corpora, which a test holds against the table.
fn targets() -> Outcome<Vec<String>> {
    let directory = tree::root().join(CORPORA);
    let failure = |error| Failure::new(format!("{}: {error}", directory.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).map_err(failure)? {
        names.extend(entry.map_err(failure)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn build(target: &Path, flags: &str) -> Outcome<PathBuf> {
    let host = output(Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Failure::new("`rustc -vV` does not say for what host it is"))?;
    let manifest = tree::root().join(DRIVER).join("Cargo.toml");
    let mut build = cargo(&["build", "--release", "--locked", "--manifest-path"]);
    build.arg(manifest).arg("--target-dir").arg(target);
    // Named, the flags are not those of build scripts, too.
    build.args(["--target", host]).env("RUSTFLAGS", flags);
    build.env_remove("CARGO_ENCODED_RUSTFLAGS");
    execute(&mut build).map_err(|failure| match failure {
        Failure::Exit(_) => Failure::new(
            "the fuzzer cannot be built: besides Rust it takes a C++ compiler (Debian: g++)",
        ),
        other => other,
    })?;
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    Ok(target.join(host).join("release").join(name))
}

/// Runs every input that there is once, and prints what that reaches.
fn report(target: &Path, names: &[String]) -> Outcome {
    let tools = Tools::find()?;
    let program = build(&target.join("counted"), &format!("{INSTRUMENTED} {COUNTED}"))?;
    let profiles = target.join("profiles");
    // What an earlier program has left means nothing to this one.
    let _ = fs::remove_dir_all(&profiles);
    for name in names {
        let mut replay = Command::new(&program);
        replay.env("ORTC_FUZZ_TARGET", name);
        replay.env("LLVM_PROFILE_FILE", profiles.join(format!("{name}.profraw")));
        replay.args(["-runs=0", "-verbosity=0"]).arg(format!("-max_len={MAX_LEN}"));
        replay.arg(tree::root().join(CORPORA).join(name));
        let found = target.join("corpus").join(name);
        replay.args(found.is_dir().then_some(found));
        execute(&mut replay)?;
    }
    print!("{}", coverage::table(&tools.read(&program, &profiles)?));
    Ok(())
}

/// Runs a target from both corpora; new inputs go to the first, a finding to the second.
fn fuzz(program: &Path, name: &str, seconds: u64, found: &Path, kept: &Path) -> Outcome {
    let mut fuzz = Command::new(program);
    fuzz.env("ORTC_FUZZ_TARGET", name);
    fuzz.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={MAX_LEN}"));
    // A run that takes 10 s, or 1 GB, is a finding.
    fuzz.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=1"]);
    fuzz.arg(format!("-artifact_prefix={}{}", kept.display(), std::path::MAIN_SEPARATOR));
    fuzz.arg(found).arg(kept);
    execute(&mut fuzz).map_err(|_| {
        Failure::new(format!(
            "{name}: a finding; its input is in {}, and `cargo test -p ortc-fuzz` replays it",
            kept.display()
        ))
    })
}

/// Copies those of `found` to `kept` that reach what nothing there does.
fn merge(program: &Path, name: &str, found: &Path, kept: &Path) -> Outcome {
    let mut merge = Command::new(program);
    merge.env("ORTC_FUZZ_TARGET", name).arg("-merge=1").arg(format!("-max_len={MAX_LEN}"));
    execute(merge.arg(kept).arg(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Arguments> {
        Arguments::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn targets_and_seconds_are_told_apart() {
        let expected = Arguments {
            targets: vec!["rtp".into(), "rtcp".into()],
            seconds: 5,
            keep: true,
            list: false,
            coverage: false,
        };
        assert_eq!(parse("rtp --seconds 5 rtcp --keep"), Ok(expected));
        for line in ["--seconds", "--seconds 0", "--seconds x", "--fast"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn there_are_targets() {
        assert!(targets().unwrap().contains(&"tone_queue".to_owned()));
    }
}
