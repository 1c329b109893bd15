//! What the tests start and cargo cannot install: programs, and what drives browsers.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::metadata;
use crate::process::{Failure, Outcome, execute, output, succeeds};
use crate::tree;

/// A program, under any of its names, the argument with which it succeeds if it is there and has
/// what is needed of it, and the Debian package that has it.
struct Program {
    names: &'static [&'static str],
    probe: &'static str,
    package: &'static str,
}

const NEEDED: &[Program] = &[
    // Decodes recordings, so that sound is compared and not packet counts.
    Program { names: &["ffmpeg"], probe: "-version", package: "ffmpeg" },
    Program { names: &["ffprobe"], probe: "-version", package: "ffmpeg" },
    // The other peer of the browser tests.
    Program {
        names: &["chromium", "chromium-browser", "google-chrome"],
        probe: "--version",
        package: "chromium",
    },
    // Relays calls, and stands between the NATs of the tests.
    Program { names: &["turnserver"], probe: "--version", package: "coturn" },
    Program { names: &["firefox-esr", "firefox"], probe: "--version", package: "firefox-esr" },
    // Drives both, and runs the tests of what is JavaScript.
    Program { names: &["node"], probe: "--version", package: "nodejs" },
    Program { names: &["npm"], probe: "--version", package: "npm" },
    // Reads what the flight recorder writes.
    Program { names: &["tshark"], probe: "--version", package: "tshark" },
    // Two hosts on this one, with a network between them that loses packets.
    Program { names: &["ip"], probe: "-V", package: "iproute2" },
    Program { names: &["nft"], probe: "--version", package: "nftables" },
    Program { names: &["unshare"], probe: "--version", package: "util-linux" },
    // Delays what passes between them, as no kernel need.
    Program { names: &["python3"], probe: "--version", package: "python3" },
    // The other peer of the DTMF tests, by the elements that they use: packets of telephone
    // events and the detector are in one set of plugins, RTP and G.711 in another.
    Program { names: &["gst-launch-1.0"], probe: "--version", package: "gstreamer1.0-tools" },
    Program {
        names: &["gst-inspect-1.0"],
        probe: "audioconvert",
        package: "gstreamer1.0-plugins-base",
    },
    Program {
        names: &["gst-inspect-1.0"],
        probe: "rtppcmapay",
        package: "gstreamer1.0-plugins-good",
    },
    Program {
        names: &["gst-inspect-1.0"],
        probe: "dtmfdetect",
        package: "gstreamer1.0-plugins-bad",
    },
    // Presses keys on it; Debian's own has the bindings.
    Program {
        names: &["python3", "/usr/bin/python3"],
        probe: "-cimport gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst",
        package: "python3-gst-1.0",
    },
];

/// Where the package of `tests/browser` is installed: below the target directory.
const BROWSER_MODULES: &str = "browser-tests";

/// What it is installed from.
const BROWSER_PACKAGE: &str = "crates/ortc-server/tests/browser";

/// Makes sure that everything is there that tests start.
pub(crate) fn ensure() -> Outcome {
    programs()?;
    browser_modules()
}

/// Installs what drives the browsers, by the lock file beside its `package.json`.
fn browser_modules() -> Outcome {
    let directory = Path::new(&metadata::workspace()?.target_directory).join(BROWSER_MODULES);
    let package = tree::root().join(BROWSER_PACKAGE);
    let io = |error: std::io::Error| Failure::new(format!("{}: {error}", directory.display()));
    let files = ["package.json", "package-lock.json"];
    let is_current = directory.join("node_modules/.package-lock.json").exists()
        && files.iter().all(|file| {
            let read = |place: &Path| fs::read(place.join(file)).ok();
            read(&directory) == read(&package)
        });
    if is_current {
        return Ok(());
    }
    println!("installing what drives the browsers in {}", directory.display());
    fs::create_dir_all(&directory).map_err(io)?;
    for file in files {
        fs::copy(package.join(file), directory.join(file)).map_err(io)?;
    }
    let mut npm = Command::new("npm");
    // No browser is fetched, and no script of a package run.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&directory);
    execute(&mut npm)
}

/// Makes sure that every program is there: installs it as root on Debian, else names it.
fn programs() -> Outcome {
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
            !program.names.iter().any(|name| succeeds(Command::new(name).arg(program.probe)))
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
