//! The tests of `ortc.js` and of the page, in JavaScript: of what is pure in node, of the rest in
//! Chromium and Firefox. Each file there is one test here; what fails in it is told on stderr.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use ortc_api::Certificate;

mod support;

use support::Scratch;

const JS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/js");
const BROWSER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

#[test]
fn what_is_pure_in_ortc_js_does_as_it_says() {
    let files = ["candidates", "description", "identity", "package", "tones"];
    node(
        &files.map(|name| Path::new(JS).join(format!("test/{name}.test.js"))),
        Command::new("node"),
    );
}

#[test]
fn the_drafts_example_runs_in_pages() {
    in_browsers("example");
}

#[test]
fn pages_have_the_drafts_api() {
    in_browsers("api");
}

#[test]
fn pages_and_rust_peers_see_and_hear_each_other() {
    in_browsers("rust");
}

#[test]
fn pages_and_rust_peers_restart_ice_in_the_middle_of_a_call() {
    in_browsers("restart");
}

#[test]
fn candidates_that_chromium_has_by_itself_connect() {
    in_browsers("candidates");
}

#[test]
fn people_meet_on_the_page_of_a_room() {
    in_browsers("room");
}

#[test]
fn members_of_a_room_get_pictures_of_the_size_that_they_have_room_for() {
    in_browsers("simulcast");
}

#[test]
fn layers_of_h264_vp9_and_av1_are_chosen_for_each_member_of_a_room() {
    in_browsers("layers");
}

#[test]
fn pictures_get_the_bandwidth_that_there_is() {
    in_browsers("bandwidth");
}

#[test]
fn sound_that_repeats_itself_is_heard_by_those_who_know_it_and_those_who_do_not() {
    in_browsers("redundancy");
}

#[test]
fn a_page_is_served_over_tls() {
    let scratch = Scratch::new("tls");
    // The certificate and its key, in one file.
    let pem = scratch.0.join("server.pem");
    fs::write(&pem, Certificate::generate().unwrap().to_pem()).unwrap();
    let mut command = Command::new("node");
    command.env("TLS_CERT", &pem).env("TLS_KEY", &pem);
    node(&[Path::new(BROWSER).join("tls.test.mjs")], command);
}

/// Two hosts on this one, in a namespace of their own: as root, or where users may have them.
#[test]
fn a_call_goes_on_over_a_network_that_loses_packets() {
    node(&[Path::new(BROWSER).join("loss.test.mjs")], in_a_namespace());
}

/// The same, on one host.
#[test]
fn sound_that_repeats_itself_outlives_lost_packets_in_chromium() {
    node(&[Path::new(BROWSER).join("lost-sound.test.mjs")], in_a_namespace());
}

fn in_a_namespace() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--net", "--mount", "--", "node"]);
    unshare
}

/// Several browsers at a time are enough: each test has its own, and they are not to wait for
/// those of the others.
static BROWSERS: Mutex<()> = Mutex::new(());

fn in_browsers(name: &str) {
    node(&[Path::new(BROWSER).join(format!("{name}.test.mjs"))], Command::new("node"));
}

fn node(files: &[PathBuf], mut command: Command) {
    // Beside cargo's own directory for the files of tests.
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("browser-tests");
    assert!(
        modules.join("node_modules").is_dir(),
        "{} is missing: cargo xtask test installs it",
        modules.display()
    );
    let _one_at_a_time = BROWSERS.lock().unwrap_or_else(PoisonError::into_inner);
    let status = command
        .arg("--test")
        .arg("--test-reporter=spec")
        .args(files)
        .env("ORTC", env!("CARGO_BIN_EXE_ortc"))
        .env("BROWSER_MODULES", &modules)
        .status()
        .expect("node is installed: cargo xtask test sees to it");
    assert!(status.success(), "{files:?}");
}
