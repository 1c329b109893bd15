//! `cargo xtask sanitize`: the crate that has unsafe code, under LLVM's sanitizers.
//!
//! Their runtimes come with the stable toolchain; only the flag that turns them on is not stable,
//! hence `RUSTC_BOOTSTRAP`. The standard library is as it was built, without them: AddressSanitizer
//! replaces the allocator and the functions that move memory, and so sees what is done there all
//! the same; ThreadSanitizer sees the atomics of our code and of the crates that are built with it.

use crate::metadata;
use crate::process::{Failure, Outcome, cargo, execute, output};

/// A sanitizer, and the tests that run under it.
struct Sanitizer {
    name: &'static str,
    flags: &'static str,
    /// Options of the process that runs the tests.
    options: (&'static str, &'static str),
    /// Parts of the names of the tests; none are all.
    tests: &'static [&'static str],
}

const SANITIZERS: &[Sanitizer] = &[
    // All that ortc-io does, its system calls first: every pointer that the kernel is given.
    Sanitizer {
        name: "address",
        flags: "-Zsanitizer=address",
        options: ("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1"),
        tests: &[],
    },
    // What threads share: the rings, and the sockets with their waker.
    Sanitizer {
        name: "thread",
        flags: "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer",
        options: ("TSAN_OPTIONS", "halt_on_error=1"),
        tests: &["ring::", "udp::", "stream::"],
    },
];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let known = |name: &String| SANITIZERS.iter().any(|sanitizer| sanitizer.name == name);
    if let Some(name) = arguments.iter().find(|name| !known(name)) {
        let names: Vec<_> = SANITIZERS.iter().map(|sanitizer| sanitizer.name).collect();
        let names = names.join(", ");
        return Err(Failure::new(format!("there is no sanitizer `{name}` here, but {names}")));
    }
    let target = host()?;
    let wanted = |sanitizer: &&Sanitizer| {
        arguments.is_empty() || arguments.iter().any(|name| name == sanitizer.name)
    };
    for sanitizer in SANITIZERS.iter().filter(wanted) {
        println!("==> {}", sanitizer.name);
        let directory = format!("{}/sanitize", metadata::workspace()?.target_directory);
        let mut test = cargo(&["test", "--package", "ortc-io", "--all-features", "--lib"]);
        test.args(["--target", &target, "--target-dir", &directory, "--"]);
        test.args(sanitizer.tests);
        let (name, options) = sanitizer.options;
        test.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", sanitizer.flags).env(name, options);
        execute(&mut test)?;
    }
    Ok(())
}

/// The triple of this machine. Named, so that build scripts and macros are built without the flags.
fn host() -> Outcome<String> {
    let version = output(std::process::Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("rustc does not say what its host is"))
}
