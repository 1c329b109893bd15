//! Calls between hosts behind NATs, as network namespaces, with coturn in the middle.

use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;

mod support;

use support::coturn::Coturn;
use support::netns::{Host, Namespace, Nat, can_make_namespaces, in_namespace, internet};

/// How long connecting may take: every pair is to take less than one second, and on a machine
/// that does ten other things at a time no more than ten times that. How long it takes but for the
/// machine is tested in a simulated network, by the time of that.
const LIMIT_MS: f64 = 10_000.0;

const SERVER: &str = "203.0.113.1";

/// `ortc serve`, where both hosts reach it.
struct Signalling(Child);

impl Signalling {
    fn start(internet: &Namespace) -> Self {
        Self::start_with(internet, &[])
    }

    fn start_with(internet: &Namespace, options: &[&str]) -> Self {
        let mut serve = in_namespace(Some(internet), env!("CARGO_BIN_EXE_ortc"))
            .args(["serve", "--listen", &format!("{SERVER}:8080")])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let stdout = serve.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut first).unwrap();
        assert!(first.starts_with("http://203.0.113.1:8080"), "{first}");
        Self(serve)
    }
}

impl Drop for Signalling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has two hosts call each other; returns what each says of it.
fn call(name: &str, hosts: [&Host; 2], servers: &[&str], seconds: &str) -> [Value; 2] {
    call_at(&format!("pairs/{name}"), hosts, servers, seconds, &[])
}

/// The same for two seconds, with further options.
fn call_with(name: &str, hosts: [&Host; 2], servers: &[&str], options: &[&str]) -> [Value; 2] {
    call_at(&format!("pairs/{name}"), hosts, servers, "2", options)
}

fn call_at(
    path: &str,
    hosts: [&Host; 2],
    servers: &[&str],
    seconds: &str,
    options: &[&str],
) -> [Value; 2] {
    let callers = hosts.map(|host| {
        let mut command = in_namespace(Some(&host.namespace), env!("CARGO_BIN_EXE_ortc"));
        command.args(["call", "--signal", &format!("ws://{SERVER}:8080/{path}")]);
        for server in servers {
            command.args(["--ice-server", server]);
        }
        command
            .args(["--play", "tone", "--duration", seconds, "--json"])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    callers.map(|caller| {
        let output = caller.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{path}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

/// Tells how a pair came along, and checks it; returns whether it is relayed.
fn judge(name: &str, summaries: &[Value; 2], begun: Instant) -> bool {
    let kind = |summary: &Value, side: &str| summary[side]["type"].as_str().unwrap().to_owned();
    let times = summaries.each_ref().map(|summary| summary["connect_ms"].as_f64().unwrap());
    let pairs = summaries.each_ref().map(|summary| {
        format!("{}-{}", kind(summary, "local_candidate"), kind(summary, "remote_candidate"))
    });
    eprintln!(
        "{name:>10}: {:5.0} and {:5.0} ms, {} and {}, {:.1} s in all",
        times[0],
        times[1],
        pairs[0],
        pairs[1],
        begun.elapsed().as_secs_f64()
    );
    for (summary, time) in summaries.iter().zip(times) {
        assert!(time < LIMIT_MS, "{name}: {time} ms");
        let received = &summary["received"][0];
        let packets = received["packets"].as_u64().unwrap();
        assert!(packets > 40, "{name}: of the sound, {packets} packets came: {summary}");
    }
    pairs.iter().any(|pair| pair.contains("relay"))
}

#[test]
fn every_pair_of_nats_connects_by_the_best_path_that_exists() {
    every_pair_connects(false);
}

/// One packet in twenty is lost each way, for each host, and each takes 25 ms: a round trip between
/// two of them takes 100 ms.
#[test]
fn every_pair_of_nats_connects_with_loss_and_delay_as_well() {
    every_pair_connects(true);
}

fn every_pair_connects(is_bad: bool) {
    if !can_make_namespaces("every pair of NATs connects") {
        return;
    }
    let internet = internet();
    let coturn = Coturn::start_in(&internet, format!("{SERVER}:3478").parse().unwrap());
    let _signalling = Signalling::start(&internet);
    let nats = [Nat::None, Nat::Full, Nat::Port, Nat::Sym];
    let delay_ms = if is_bad { 25 } else { 0 };
    let hosts = |first: u8| {
        nats.map(|nat| (nat, Host::with_delay(&internet, nat, first + nat as u8, delay_ms)))
    };
    let servers =
        [&format!("stun:{}", coturn.address)[..], &format!("turn:alice:secret@{}", coturn.address)];
    let (ours, others) = (hosts(10), hosts(20));
    if is_bad {
        ours.iter().chain(&others).for_each(|(_, host)| host.lose(20));
    }
    // Where the last flight of a handshake is lost, one side connects a second or more before the
    // other, and is not to have hung up by then; nor before the best pair of all has been found by a
    // machine that does other things.
    let seconds = if is_bad { "10" } else { "6" };
    let meet = |(one, host): &(Nat, Host), (other, peer): &(Nat, Host)| {
        let (name, begun) = (format!("{one:?}-{other:?}"), Instant::now());
        let summaries = call(&name, [host, peer], &servers, seconds);
        let is_relayed = judge(&name, &summaries, begun);
        // RFC 4787: what is sent to the mapping of a symmetric NAT comes in only from where it was
        // made for, and who has a port-restricted one cannot know that.
        let needs_relay =
            matches!((one, other), (Nat::Sym, Nat::Port | Nat::Sym) | (Nat::Port, Nat::Sym));
        assert_eq!(is_relayed, needs_relay, "{name}: {summaries:?}");
    };
    for one in &ours {
        std::thread::scope(|scope| {
            for other in &others {
                scope.spawn(|| meet(one, other));
            }
        });
    }
}

#[test]
fn two_hosts_and_two_cables_connect_by_addresses_of_the_link() {
    if !can_make_namespaces("two hosts and two cables") {
        return;
    }
    let internet = internet();
    let _signalling = Signalling::start(&internet);
    // Signalling gets through, and nothing else.
    let hosts = [10, 20].map(|last| Host::new(&internet, Nat::NoUdp, last));
    hosts[0].lay_cables(&hosts[1], 2, false);
    let begun = Instant::now();
    let summaries = call_with("cables", [&hosts[0], &hosts[1]], &[], &["--link-local"]);
    assert!(!judge("cables", &summaries, begun), "{summaries:?}");
    for (at, summary) in summaries.iter().enumerate() {
        let address = |side: &str| summary[side]["connectionAddress"].as_str().unwrap().to_owned();
        // There are two sockets with this address, of which each gets to one of the peer's.
        assert_eq!(address("local_candidate"), format!("fe80::{}", at + 1), "{summary}");
        assert_eq!(address("remote_candidate"), format!("fe80::{}", 2 - at), "{summary}");
    }
}

#[test]
fn a_network_without_udp_is_left_by_tcp() {
    if !can_make_namespaces("a network without UDP") {
        return;
    }
    let internet = internet();
    let coturn = Coturn::start_in(&internet, format!("{SERVER}:3478").parse().unwrap());
    let _signalling = Signalling::start(&internet);
    let closed = Host::new(&internet, Nat::NoUdp, 10);
    let open = Host::new(&internet, Nat::Port, 20);
    let servers = [
        &format!("turn:alice:secret@{}", coturn.address)[..],
        &format!("turn:alice:secret@{}?transport=tcp", coturn.address),
    ];
    let begun = Instant::now();
    let summaries = call("no-udp", [&closed, &open], &servers, "2");
    assert!(judge("no-udp", &summaries, begun), "{summaries:?}");
    assert_eq!(summaries[0]["local_candidate"]["type"], "relay");
}

#[test]
fn a_network_without_udp_is_left_by_tcp_to_the_peer_itself() {
    if !can_make_namespaces("a network without UDP, and no server") {
        return;
    }
    let internet = internet();
    let _signalling = Signalling::start(&internet);
    let closed = Host::new(&internet, Nat::NoUdp, 10);
    let open = Host::new(&internet, Nat::None, 20);
    let begun = Instant::now();
    for (name, hosts) in [("tcp out", [&closed, &open]), ("tcp in", [&open, &closed])] {
        let summaries = call_with(&name.replace(' ', "-"), hosts, &[], &["--tcp"]);
        assert!(!judge(name, &summaries, begun), "{summaries:?}");
        let ends = summaries.each_ref().map(|summary| {
            let end = |side: &str| summary[side]["tcpType"].as_str().map(str::to_owned);
            (end("local_candidate"), end("remote_candidate"))
        });
        let (active, passive) = (Some("active".to_owned()), Some("passive".to_owned()));
        let of_closed = usize::from(name == "tcp in");
        assert_eq!(ends[of_closed], (active.clone(), passive.clone()), "{summaries:?}");
        assert_eq!(ends[1 - of_closed], (passive, active), "{summaries:?}");
    }
}

#[test]
fn a_room_is_reached_over_tcp_from_a_network_without_udp() {
    if !can_make_namespaces("a room that is reached over TCP") {
        return;
    }
    let internet = internet();
    let options = ["--udp", "203.0.113.1:5000", "--tcp", "203.0.113.1:443", "--threads", "2"];
    let _signalling = Signalling::start_with(&internet, &options);
    let closed = Host::new(&internet, Nat::NoUdp, 10);
    let open = Host::new(&internet, Nat::Port, 20);
    let begun = Instant::now();
    let summaries = call_at("rooms/closed", [&closed, &open], &[], "5", &[]);
    judge("room", &summaries, begun);
    let transports = summaries.each_ref().map(|summary| {
        let remote = &summary["remote_candidate"];
        (remote["transport"].as_str().unwrap(), remote["connectionPort"].as_u64().unwrap())
    });
    assert_eq!(transports[0], ("tcp", 443));
    assert_eq!(transports[1].0, "udp");
}
