//! Calls whose network changes under them, as network namespaces: the media goes on, under the
//! same keys.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

mod support;

use support::netns::{Host, Namespace, Nat, can_make_namespaces, in_namespace, internet};
use support::{Scratch, has_recorded, until};

/// Where both reach the signalling.
const SERVER: &str = "203.0.113.1:8080";

/// Packets of a tone in a second.
const RATE: f64 = 50.0;

/// Bytes of sound in one of them.
const PACKET: u64 = 160;

/// How long a call lasts, in seconds.
const LONG: f64 = 28.0;

/// How long a gap may be, in seconds: half a second until silence tells, as much until checks do,
/// and as much for both sides to agree; ten times that on a machine that does other things, and less
/// than a second side by side with nothing else.
const HEALED: f64 = 5.0;

/// What a busy machine and a handshake take of a call that nothing interrupts, in seconds.
const SLACK: f64 = 1.5;

/// Ended with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signalling(internet: &Namespace) -> Serving {
    let mut serve = in_namespace(Some(internet), env!("CARGO_BIN_EXE_ortc"))
        .args(["serve", "--listen", SERVER])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(serve.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    Serving(serve)
}

/// A call of two hosts in which `change` happens once both hear each other; returns for how long
/// each did not hear the other, and what each says.
fn call(hosts: [&Host; 2], change: impl FnOnce()) -> [(f64, Value); 2] {
    call_with(hosts, &[], change)
}

/// The same, with further options.
fn call_with(hosts: [&Host; 2], options: &[&str], change: impl FnOnce()) -> [(f64, Value); 2] {
    let scratch = Scratch::new(&format!("moving-{:p}", hosts[0]));
    let record = ["a", "b"].map(|side| scratch.0.join(side));
    let callers = [0, 1].map(|side| {
        in_namespace(Some(&hosts[side].namespace), env!("CARGO_BIN_EXE_ortc"))
            .args(["call", "--signal", &format!("ws://{SERVER}/pairs/x"), "--json"])
            .args(["--play", "tone", "--duration", &LONG.to_string(), "--record"])
            .arg(&record[side])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let have = |bytes| record.iter().all(|record| has_recorded(record, bytes));
    until(Duration::from_secs(20), "both hear something", || have(0));
    hosts.iter().for_each(|host| host.count_handshakes());
    // Most of a second of sound on the old path, so that both ends of the gap are heard.
    until(Duration::from_secs(20), "both hear the other for a while", || have(40 * PACKET));
    change();
    let told = callers.map(|caller| {
        let output = caller.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        let packets = summary["received"][0]["packets"].as_f64().unwrap();
        ((LONG - packets / RATE).max(0.0), summary)
    });
    assert_eq!(hosts.map(Host::handshakes), [0, 0], "there is no other handshake");
    told
}

#[test]
fn media_goes_on_when_a_nat_gets_another_address() {
    if !can_make_namespaces("a NAT gets another address") {
        return;
    }
    let internet = internet();
    let _serving = signalling(&internet);
    let host = Host::new(&internet, Nat::Port, 10);
    let peer = Host::new(&internet, Nat::None, 20);
    let [(ours, at_host), (theirs, summary)] = call([&host, &peer], || host.rebind(70));
    eprintln!("another address of the NAT: gaps of {ours:.1} and {theirs:.1} s");
    assert_eq!(summary["remote_candidate"]["connectionAddress"], "203.0.113.70", "{summary}");
    let is_short = ours < HEALED + SLACK && theirs < HEALED + SLACK;
    assert!(is_short, "{ours} and {theirs} s: {at_host} {summary}");
}

#[test]
fn media_goes_on_over_another_interface_when_one_is_gone() {
    if !can_make_namespaces("media goes on over another interface") {
        return;
    }
    let internet = internet();
    let _serving = signalling(&internet);
    let host = Host::new(&internet, Nat::Port, 10);
    host.add_interface(&internet, 40);
    let peer = Host::new(&internet, Nat::None, 20);
    let [(ours, summary), (theirs, at_peer)] = call([&host, &peer], || host.remove_interface());
    eprintln!("another interface: gaps of {ours:.1} and {theirs:.1} s");
    assert_eq!(summary["local_candidate"]["connectionAddress"], "10.10.0.2", "{summary}");
    assert_eq!(at_peer["remote_candidate"]["connectionAddress"], "203.0.113.10", "{at_peer}");
    let is_short = ours < HEALED + SLACK && theirs < HEALED + SLACK;
    assert!(is_short, "{ours} and {theirs} s: {summary} {at_peer}");
}

#[test]
fn media_goes_on_over_the_other_cable_when_one_is_cut_and_nobody_is_told() {
    if !can_make_namespaces("a cable is cut") {
        return;
    }
    let internet = internet();
    let _serving = signalling(&internet);
    // Signalling gets through to the network, and nothing else.
    let hosts = [10, 20].map(|last| Host::new(&internet, Nat::NoUdp, last));
    hosts[0].lay_cables(&hosts[1], 2, true);
    let cut = || hosts[0].cut_cable(hosts[0].busiest_cable(2));
    let [(ours, summary), (theirs, other)] =
        call_with([&hosts[0], &hosts[1]], &["--link-local"], cut);
    eprintln!("another cable: gaps of {ours:.1} and {theirs:.1} s");
    for (at, summary) in (1..).zip([&summary, &other]) {
        let address = summary["local_candidate"]["connectionAddress"].as_str().unwrap();
        let of_link = [format!("fe80::{at}"), format!("169.254.0.{at}"), format!("169.254.1.{at}")];
        assert!(of_link.iter().any(|known| known == address), "{summary}");
    }
    let is_short = ours < HEALED + SLACK && theirs < HEALED + SLACK;
    assert!(is_short, "{ours} and {theirs} s: {summary} {other}");
}
