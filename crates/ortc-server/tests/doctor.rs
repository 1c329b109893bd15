//! `ortc doctor` behind NATs, as network namespaces, with coturn on two addresses; and on
//! loopback, where nobody need be root.

use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

mod support;

use support::coturn::Coturn;
use support::netns::{Host, Namespace, Nat, can_make_namespaces, in_namespace, internet};

const SERVER: &str = "203.0.113.1:3478";

/// The doctor on its way.
fn doctor(namespace: Option<&Namespace>, arguments: &[&str], servers: &[&str]) -> Child {
    let mut command = in_namespace(namespace, env!("CARGO_BIN_EXE_ortc"));
    command.arg("doctor").args(arguments);
    for server in servers {
        command.args(["--ice-server", server]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Its exit status and its object.
fn told(doctor: Child) -> (i32, Value) {
    let output = doctor.wait_with_output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code().unwrap(), json)
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Whether an object has these members, in words.
fn has(object: &Value, members: &[(&str, &str)]) {
    for (name, value) in members {
        assert_eq!(object[*name], *value, "{name} of {object:#}");
    }
}

#[test]
fn every_nat_is_recognised() {
    if !can_make_namespaces("every NAT is recognised") {
        return;
    }
    let internet = internet();
    let other = "203.0.113.2".parse().unwrap();
    let _coturn = Coturn::start_on_two(&internet, SERVER.parse().unwrap(), other);
    let turn = format!("turn:alice:secret@{SERVER}");
    let stun = format!("stun:{SERVER}");
    let nats = [Nat::None, Nat::Full, Nat::Port, Nat::Sym];
    let hosts = nats.map(|nat| (nat, Host::new(&internet, nat, 10 + nat as u8)));
    let examined = hosts.each_ref().map(|(_, host)| {
        let with = |server: &str| doctor(Some(&host.namespace), &["--json"], &[server]);
        (with(&turn), with(&stun))
    });
    for ((nat, _), (with_relay, without)) in hosts.iter().zip(examined) {
        let (mapping, filtering, verdict, missing) = match nat {
            Nat::None => ("none", "endpoint-independent", "direct", "direct"),
            Nat::Full => ("endpoint-independent", "endpoint-independent", "direct", "direct"),
            Nat::Port => (
                "endpoint-independent",
                "address-and-port-dependent",
                "direct-with-most",
                "direct-with-most",
            ),
            _ => (
                "address-and-port-dependent",
                "address-and-port-dependent",
                "relay-needed",
                "relay-missing",
            ),
        };
        let (code, report) = told(with_relay);
        has(&report, &[("verdict", verdict), ("udp", "works")]);
        assert_eq!((code, &report["exit_code"]), (0, &Value::from(0)), "{report:#}");
        let seen = &report["nats"][0];
        has(
            seen,
            &[("mapping", mapping), ("filtering", filtering), ("behaviour_discovery", "used")],
        );
        assert_eq!(seen["translated"], *nat != Nat::None);
        let attempt = &report["servers"][0]["attempts"][0];
        assert!(attempt["relayed"].as_str().unwrap().starts_with("203.0.113.1:"), "{report:#}");
        assert_eq!((&attempt["given_back"], &attempt["error"]), (&Value::from(true), &Value::Null));

        let (code, report) = told(without);
        has(&report, &[("verdict", missing)]);
        has(&report["nats"][0], &[("mapping", mapping), ("filtering", filtering)]);
        assert_eq!(code, if *nat == Nat::Sym { 3 } else { 0 }, "{report:#}");
        eprintln!("{nat:?}: {mapping}, {filtering}: {}", report["conclusion"]);
    }
}

#[test]
fn what_is_wrong_with_a_network_or_a_server_is_named() {
    if !can_make_namespaces("what is wrong with a network is named") {
        return;
    }
    let internet = internet();
    let _coturn = Coturn::start_in(&internet, SERVER.parse().unwrap());
    let open = Host::new(&internet, Nat::None, 10);
    let closed = Host::new(&internet, Nat::NoUdp, 20);
    let turn = format!("turn:alice:secret@{SERVER}");
    let wrong = format!("turn:alice:wrong@{SERVER}");
    let tcp = format!("{turn}?transport=tcp");
    // Nobody listens on a port, and nobody has an address.
    let (shut, nobody) = ("stun:203.0.113.1:9", "stun:203.0.113.99");
    let servers = [turn.as_str(), &wrong, shut, nobody];
    let in_the_open = doctor(Some(&open.namespace), &["--json"], &servers);
    let with_tcp = doctor(Some(&closed.namespace), &["--json"], &[&turn, &tcp]);
    let with_udp = doctor(Some(&closed.namespace), &["--json"], &[&turn]);

    let (code, report) = told(in_the_open);
    assert_eq!(code, 1, "all is well but for servers: {report:#}");
    let works = |index: usize| report["servers"][index]["works"] == true;
    assert_eq!([works(0), works(1), works(2), works(3)], [true, false, false, false]);
    let error = |index: usize| {
        let attempt = &report["servers"][index]["attempts"][0];
        attempt["error"].as_str().unwrap_or_else(|| panic!("{report:#}")).to_owned()
    };
    assert!(error(1).contains("refuses the username or the credential (401)"), "{}", error(1));
    assert!(error(2).contains("refused"), "{}", error(2));
    assert!(error(3).contains("answer") || error(3).contains("route"), "{}", error(3));

    let (code, report) = told(with_tcp);
    has(&report, &[("udp", "blocked"), ("verdict", "relay-needed")]);
    assert_eq!(code, 1, "TURN over UDP does not work: {report:#}");
    has(&report["servers"][0]["attempts"][0], &[("error", "it does not answer")]);
    assert_eq!(report["servers"][1]["works"], true, "{report:#}");

    let (code, report) = told(with_udp);
    has(&report, &[("udp", "unknown"), ("verdict", "unknown")]);
    assert_eq!(code, 4, "{report:#}");
}

#[test]
fn people_are_told_in_words() {
    let coturn = Coturn::start("doctor", "127.0.0.1", &[]);
    let (udp, tls) = (coturn.address, coturn.tls);
    let output = Command::new(env!("CARGO_BIN_EXE_ortc"))
        .args(["doctor", "--ice-server", &format!("turn:alice:secret@{udp}")])
        .args(["--ice-server", &format!("turn:alice:secret@{udp}?transport=tcp")])
        .args(["--ice-server", &format!("turns:alice:secret@{tls}")])
        .args(["--ice-server", &format!("stuns:{tls}")])
        .args(["--ice-server", &format!("turn:alice:wrong@{udp}")])
        .env("SSL_CERT_FILE", coturn.certificate())
        .output()
        .unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "one of them does not work: {said}");
    for line in [
        "lo       127.0.0.1                  IPv4, this host alone".to_owned(),
        format!("ok  turn:{udp}"),
        format!("{udp} over UDP: relays, by 127.0.0.1:"),
        format!("{udp} over TCP: relays, by 127.0.0.1:"),
        format!("{tls} over TLS: relays, by 127.0.0.1:"),
        format!("ok  stuns:{tls}"),
        format!("BAD turn:{udp}"),
        format!("{udp} over UDP: it refuses the username or the credential (401)"),
        "UDP works.".to_owned(),
        "no NAT: servers see it as it is".to_owned(),
        "filtering: cannot be told, no server has two addresses (RFC 5780)".to_owned(),
        "Calls connect directly with most peers.".to_owned(),
    ] {
        assert!(said.contains(&line), "{line:?} is said:\n{said}");
    }
    assert_eq!(said.matches("and given back").count(), 3, "{said}");
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn a_wrong_server_is_an_error_before_anything_is_asked() {
    let output = doctor(None, &[], &["stun:"]).wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(2), ""));
}
