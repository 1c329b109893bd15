//! Rooms of a server behind a NAT that maps one address to one, as network namespaces.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

mod support;

use support::coturn::Coturn;
use support::netns::{Host, Nat, can_make_namespaces, in_namespace, internet};

/// The server's public address.
const OUTER: &str = "203.0.113.10";

/// Ended with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(host: &Host, port: u16, options: &[&str]) -> Serving {
    let mut server = in_namespace(Some(&host.namespace), env!("CARGO_BIN_EXE_ortc"))
        .args(["serve", "--listen", &format!("0.0.0.0:{port}")])
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("http://"), "{first}");
    Serving(server)
}

/// Two members behind NATs of their own, who know of no server but this one; returns what each
/// says.
fn meet(members: [&Host; 2], port: u16) -> [Value; 2] {
    let calls = members.map(|host| {
        in_namespace(Some(&host.namespace), env!("CARGO_BIN_EXE_ortc"))
            .args(["call", "--signal", &format!("ws://{OUTER}:{port}/rooms/tea")])
            .args(["--play", "tone", "--duration", "3", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    calls.map(|call| {
        let output = call.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

#[test]
fn members_find_a_server_behind_a_nat_by_what_it_announces() {
    if !can_make_namespaces("members find a server behind a NAT") {
        return;
    }
    let internet = internet();
    let coturn = Coturn::start_in(&internet, "203.0.113.1:3478".parse().unwrap());
    let server = Host::new(&internet, Nat::Full, 10);
    let members = [Host::new(&internet, Nat::Port, 20), Host::new(&internet, Nat::Sym, 30)];
    let members = members.each_ref();
    let stun = format!("stun:{}", coturn.address);
    let announced = ["--udp", "10.10.0.2:5000", "--announce", OUTER, "--ice-lite"];
    let cases = [
        // A symmetric NAT lets in what comes from there, since members send there first.
        (8080, &announced[..], "host", Some(5000)),
        // Full ICE, with a wildcard; a member's check finds the same address.
        (8081, &["--udp", "0.0.0.0:5001", "--announce", OUTER][..], "host", Some(5001)),
        // What a STUN server sees is told as well.
        (8082, &["--ice-server", &stun][..], "srflx", None),
    ];
    for (port, options, kind, media) in cases {
        let _serving = serve(&server, port, options);
        for summary in meet(members, port) {
            let remote = &summary["remote_candidate"];
            assert_eq!(remote["connectionAddress"], OUTER, "{options:?}: {summary}");
            // Learned from a check that has overtaken the signalling, it has the same address.
            let known = [kind, "prflx"].contains(&remote["type"].as_str().unwrap());
            assert!(known, "{options:?}: {summary}");
            if let Some(media) = media {
                assert_eq!(remote["connectionPort"], media, "{options:?}: {summary}");
            }
            let packets = summary["received"][0]["packets"].as_u64().unwrap();
            assert!(packets > 50, "of the other's tone, {packets} packets came: {summary}");
            eprintln!("{options:?}: connected in {} ms", summary["connect_ms"]);
        }
    }
}
