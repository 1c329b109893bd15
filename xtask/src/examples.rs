//! `cargo xtask examples`: every example is run to its end.
//!
//! An example that no longer runs is worse than none, and one that waits for ever would
//! hang whoever tries it, so each has a time limit.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::metadata;
use crate::process::{Failure, Outcome, cargo, execute};

/// An example shows one thing between two peers in this process; the slowest waits for
/// timers of a few seconds.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(_: &[String]) -> Outcome {
    build()?;
    let metadata = metadata::workspace()?;
    let directory = Path::new(&metadata.target_directory).join("debug").join("examples");
    for package in &metadata.packages {
        for example in &package.examples {
            let begun = Instant::now();
            let program = directory.join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
            let name = format!("{}: {example}", package.name);
            run_one(&program).map_err(|reason| {
                Failure::new(format!(
                    "example {name} {reason}; see it with `cargo run -p {} --example {example} \
                     --all-features`",
                    package.name
                ))
            })?;
            println!("    {name}: {:.1} s", begun.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// Builds the programs and examples of the workspace; tests start them too.
pub(crate) fn build() -> Outcome {
    execute(&mut cargo(&["build", "--workspace", "--all-features", "--bins", "--examples"]))
}

fn run_one(program: &Path) -> Result<(), String> {
    let mut child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    match wait(&mut child, LIMIT) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("failed: {status}")),
        Ok(None) => {
            child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
            Err(format!("did not end within {} s", LIMIT.as_secs()))
        }
        Err(error) => Err(format!("cannot be waited for: {error}")),
    }
}

/// Waits for a child; `None` when the limit has passed.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        // The standard library cannot wait with a limit.
        thread::sleep(Duration::from_millis(20));
    }
}
