//! The peers of the benchmarks: other stacks that do the same job, each in its own process.
//!
//! `ortc-bench-peers WHO BENCH ARGS...` does what `ortc-bench contestant BENCH ARGS...` does,
//! with another stack. Where a stack has defaults, they are used as they are; what departs
//! from them is said where it is done.

#![forbid(unsafe_code)]

mod forward_str0m;
mod forward_webrtc_rs;
mod setup_str0m;
mod setup_webrtc_rs;
mod signalling;
mod usage;

use std::process::ExitCode;

/// How a contestant ends when it cannot go on.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

type Run = fn(&[String]) -> Result<()>;

/// Who does what; a new one is a file and a row here.
const CONTESTANTS: &[(&str, &str, Run)] = &[
    ("str0m", "setup", setup_str0m::run),
    ("webrtc-rs", "setup", setup_webrtc_rs::run),
    ("str0m", "forward", forward_str0m::run),
    ("webrtc-rs", "forward", forward_webrtc_rs::run),
];

fn main() -> ExitCode {
    usage::raise_open_files();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [who, bench, rest @ ..] = arguments.as_slice() else {
        eprintln!("Usage: ortc-bench-peers WHO BENCH [ARGS]...");
        return ExitCode::from(2);
    };
    let found = CONTESTANTS.iter().find(|(name, of, _)| name == who && of == bench);
    let Some((_, _, run)) = found else {
        eprintln!("error: nobody is `{who}` in `{bench}`");
        return ExitCode::from(2);
    };
    match run(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {who}: {error}");
            ExitCode::FAILURE
        }
    }
}
