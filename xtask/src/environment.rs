//! Programs that the tests start and that cargo cannot install.

use std::path::Path;
use std::process::Command;

use crate::process::{Failure, Outcome, execute, output, succeeds};

/// A program, under any of its names, the argument that makes it say its version, and the
/// Debian package that has it.
struct Program {
    names: &'static [&'static str],
    version: &'static str,
    package: &'static str,
}

const NEEDED: &[Program] = &[
    // Decodes recordings, so that sound is compared and not packet counts.
    Program { names: &["ffmpeg"], version: "-version", package: "ffmpeg" },
    Program { names: &["ffprobe"], version: "-version", package: "ffmpeg" },
    // The other peer of the browser tests.
    Program {
        names: &["chromium", "chromium-browser", "google-chrome"],
        version: "--version",
        package: "chromium",
    },
];

/// Makes sure that every program is there: installs it as root on Debian, else names it.
pub(crate) fn ensure() -> Outcome {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    if !can_install() {
        let packages = missing.join(" ");
        return Err(Failure::new(format!(
            "the tests need {packages}: apt-get install -y --no-install-recommends {packages}"
        )));
    }
    println!("installing {}", missing.join(" "));
    execute(apt().arg("update"))?;
    execute(apt().args(["install", "-y", "--no-install-recommends"]).args(&missing))?;
    match self::missing().as_slice() {
        [] => Ok(()),
        rest => Err(Failure::new(format!(
            "{} is installed and still cannot be started",
            rest.join(" ")
        ))),
    }
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "Dpkg::Use-Pty=0"]).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The packages of what cannot be started, each once.
fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&'static str> = NEEDED
        .iter()
        .filter(|program| {
            !program.names.iter().any(|name| succeeds(Command::new(name).arg(program.version)))
        })
        .map(|program| program.package)
        .collect();
    packages.dedup();
    packages
}

fn can_install() -> bool {
    Path::new("/etc/debian_version").exists()
        && output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
