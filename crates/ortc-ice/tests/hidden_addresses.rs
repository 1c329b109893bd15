//! Host candidates that carry names in place of addresses, in virtual time.

use std::time::Duration;

use ortc_ice::{IceCommand, TcpCandidates};
use ortc_io::LinkNames;

mod common;

use common::{Pair, config};

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";

fn pair() -> Pair {
    let hidden =
        config(1).with_hidden_addresses(LinkNames::new()).with_tcp_candidates(TcpCandidates::ALL);
    Pair::with_configs(1, (hidden, &[A]), (config(2).with_tcp_candidates(TcpCandidates::ALL), &[B]))
}

#[test]
fn a_peer_that_can_resolve_the_name_connects_and_no_candidate_has_the_address() {
    let mut pair = pair();
    pair.start();
    pair.drive_until_connected(Duration::from_secs(1));
    let found = pair.a().found();
    assert_eq!(found.len(), 3, "of UDP, and active and passive ones of TCP");
    for candidate in &found {
        let json = serde_json::to_string(candidate).unwrap();
        assert!(!json.contains(A) && !candidate.to_string().contains(A), "{json}");
        assert_eq!(candidate.connection_address, pair.a().names[0].0);
    }
    assert_eq!(pair.a().names.len(), 1);
    let [ours, _] = pair.a().active_pair().unwrap();
    assert_eq!(ours.connection_address, pair.a().names[0].0);
}

#[test]
fn who_cannot_resolve_it_learns_the_address_by_our_checks_alone() {
    let mut pair = pair();
    pair.sides[0].signals = false;
    pair.start();
    pair.drive_until_connected(Duration::from_secs(1));
    let [_, theirs] = pair.b().active_pair().unwrap();
    assert_eq!((theirs.kind.as_str(), theirs.connection_address.as_str()), ("prflx", A));
}

#[test]
fn a_name_goes_with_its_address() {
    let mut pair = pair();
    pair.start();
    pair.drive_until_connected(Duration::from_secs(1));
    let before = pair.a().names.clone();
    pair.sides[0].interfaces = vec![common::interface("192.0.2.9")];
    pair.command(0, IceCommand::Update);
    let after = &pair.a().names;
    assert_eq!((after.len(), after[0].1.to_string().as_str()), (1, "192.0.2.9"));
    assert_ne!(after[0].0, before[0].0);
}
