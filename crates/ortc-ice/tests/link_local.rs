//! Addresses of a single link, where there are no others, or beside them.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Pair, Side, config, interface, scope};
use ortc_ice::{IceCommand, IceConfig, IceEvent, IgnoredReason};

const SECOND: Duration = Duration::from_secs(1);

fn of_links(byte: u8) -> IceConfig {
    config(byte).with_link_local(true)
}

fn pair(a: &[&str], b: &[&str], links: &[[u32; 2]]) -> Pair {
    let mut pair = Pair::with_configs(1, (of_links(1), a), (of_links(2), b));
    pair.links = links.to_vec();
    pair.record = Some(Vec::new());
    pair
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// That a scope is this host's own business, and that only what is on a link is sent there.
fn assert_kept_apart(pair: &Pair) {
    for side in &pair.sides {
        for candidate in side.found() {
            assert!(!candidate.connection_address.contains('%'), "{candidate}");
        }
    }
    let of_link = |at: &SocketAddr| scope(*at).is_some() || at.ip().to_string().starts_with("169.");
    for (from, to, _) in pair.record.as_ref().unwrap() {
        assert_eq!((of_link(from), scope(*from)), (of_link(to), scope(*to)), "{from} to {to}");
    }
}

#[test]
fn two_hosts_and_a_cable_connect() {
    let mut both = pair(&["fe80::1%2"], &["fe80::2%7"], &[[2, 7]]);
    both.start();
    both.drive_until_connected(SECOND);
    let (a, b) = (both.a().selected().unwrap(), both.b().selected().unwrap());
    assert_eq!(a, (address("[fe80::1%2]:5000"), address("[fe80::2%2]:5000")));
    assert_eq!(b, (address("[fe80::2%7]:5000"), address("[fe80::1%7]:5000")));
    assert_eq!(both.a().found()[0].connection_address, "fe80::1");
    let [_, theirs] = both.a().active_pair().unwrap();
    assert_eq!((theirs.kind.as_str(), theirs.connection_address.as_str()), ("host", "fe80::2"));
    assert_kept_apart(&both);

    let mut both = pair(&["169.254.1.1"], &["169.254.2.2"], &[]);
    both.start();
    both.drive_until_connected(SECOND);
    let expected = (address("169.254.1.1:5000"), address("169.254.2.2:5000"));
    assert_eq!(both.a().selected(), Some(expected));
    assert_kept_apart(&both);
}

#[test]
fn of_several_links_the_one_is_found_that_leads_to_the_peer() {
    // The same address on both, as some routers have it.
    for (a, link) in [(["fe80::1%2", "fe80::1%3"], [3, 7]), (["fe80::1%4", "fe80::9%5"], [4, 7])] {
        let mut both = pair(&a, &["fe80::2%7"], &[link]);
        both.start();
        both.drive_until_connected(SECOND);
        assert_eq!(scope(both.a().selected().unwrap().1), Some(link[0]));
        assert_kept_apart(&both);
        // It goes on when all has settled, and the port keeps consent.
        both.delegate();
        both.advance(120 * SECOND);
        assert!(both.sides.iter().all(|side| side.is_connected() && side.states().len() == 2));
    }
}

#[test]
fn other_addresses_go_first() {
    let links = [[2, 2]];
    let mut both = pair(
        &["fe80::1%2", "169.254.1.1", "192.0.2.1"],
        &["fe80::2%2", "169.254.1.2", "198.51.100.1", "2001:db8::2"],
        &links,
    );
    both.start();
    both.drive_until_connected(SECOND);
    both.advance(3 * SECOND);
    assert_eq!(both.a().selected().unwrap().0.ip().to_string(), "192.0.2.1");
    let found = both.a().found();
    let priority =
        |address: &str| found.iter().find(|it| it.connection_address == address).unwrap().priority;
    assert!(priority("192.0.2.1") > priority("fe80::1"));
    assert!(priority("fe80::1") > priority("169.254.1.1"));
    assert_kept_apart(&both);
    // All that could be answered have been, so that it settles early.
    let sent = |side: &Side| side.sent.values().sum::<usize>();
    let before = sent(both.a());
    both.advance(20 * SECOND);
    assert!(sent(both.a()) - before < 60, "{}", sent(both.a()) - before);
}

#[test]
fn a_link_is_what_is_left_when_the_other_address_is_gone_and_it_may_come_later() {
    let mut both = pair(&["192.0.2.1"], &["fe80::2%7", "198.51.100.1"], &[[2, 7]]);
    both.start();
    both.drive_until_connected(SECOND);
    both.advance(5 * SECOND);
    both.sides[0].interfaces = vec![interface("fe80::1%2")];
    both.command(0, IceCommand::Update);
    both.drive_until(10 * SECOND, |both| {
        both.sides.iter().all(Side::is_connected)
            && both.a().selected().is_some_and(|(local, _)| scope(local) == Some(2))
            && both.b().selected().is_some_and(|(local, _)| scope(local) == Some(7))
    });
    assert_kept_apart(&both);
    // The peer says that it is gone.
    let gone = both.b().found().into_iter().find(|it| it.connection_address == "fe80::2").unwrap();
    both.command(0, IceCommand::RemoveRemoteCandidate(gone));
    assert_eq!(both.a().selected(), None);
}

#[test]
fn without_the_option_they_take_no_part() {
    let mut both = Pair::with_configs(
        1,
        (config(1), &["192.0.2.1", "fe80::1%2", "169.254.1.1"]),
        (of_links(2), &["fe80::2%2", "169.254.1.2"]),
    );
    both.links = vec![[2, 2]];
    both.start();
    both.advance(5 * SECOND);
    assert_eq!(both.a().found().len(), 1);
    assert!(both.a().sent.is_empty() && !both.a().is_connected());
    let is_ignored = |(_, event): &&(Duration, IceEvent)| {
        matches!(event, IceEvent::CandidateIgnored { reason: IgnoredReason::LinkLocal, .. })
    };
    assert_eq!(both.a().events.iter().filter(is_ignored).count(), 2);
}
