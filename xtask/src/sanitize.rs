//! `cargo xtask sanitize`: the crate that has unsafe code, under AddressSanitizer.
//!
//! Its runtime comes with the stable toolchain; only the flag that turns it on is not stable, hence
//! `RUSTC_BOOTSTRAP`. The standard library is as it was built, without it: AddressSanitizer replaces
//! the allocator and the functions that move memory, and so sees what is done there all the same.
//! ThreadSanitizer does not: without the atomics of the standard library's `Arc` it takes each for a
//! race, the test runner's own first.

use crate::metadata;
use crate::process::{Failure, Outcome, cargo, execute, output};

pub(crate) fn run(_: &[String]) -> Outcome {
    let target = host()?;
    let directory = format!("{}/sanitize", metadata::workspace()?.target_directory);
    let mut test = cargo(&["test", "--package", "ortc-io", "--all-features", "--lib"]);
    test.args(["--target", &target, "--target-dir", &directory]);
    test.env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1");
    execute(&mut test)
}

/// The triple of this machine. Named, so that build scripts and macros are built without the flags.
fn host() -> Outcome<String> {
    let version = output(std::process::Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("rustc does not say what its host is"))
}
