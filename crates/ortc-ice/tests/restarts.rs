//! The peer restarts ICE in the middle of a connection: other credentials, perhaps other addresses.

mod common;

use std::time::Duration;

use common::{Pair, Side, config};
use ortc_ice::{IceCommand, IceState};
use ortc_io::PathUpdate;

const SECOND: Duration = Duration::from_secs(1);

fn connected(seed: u64, delegated: bool) -> Pair {
    Pair::connected_for(60 * SECOND, seed, delegated)
}

/// The second side is another agent from now on, with other credentials; it knows those of the
/// first, and its candidates. The first is told nothing yet.
fn restart(pair: &mut Pair, byte: u8, addresses: &[&str], delegated: bool) {
    let other = Pair::with_configs(9, (config(1), &[]), (config(byte), addresses));
    let [_, b] = other.sides;
    pair.sides[1] = b;
    if delegated {
        pair.sides[1].consent = Some(ortc_io::consent::ConsentTable::new());
    }
    pair.sides[1].signals = false;
    pair.command(1, IceCommand::Gather);
    for candidate in pair.a().found() {
        pair.command(1, IceCommand::SetRemoteCandidate(candidate));
    }
    pair.connect(1, false);
}

/// The first is told.
fn tell(pair: &mut Pair) {
    pair.connect(0, true);
    for candidate in pair.b().found() {
        pair.command(0, IceCommand::SetRemoteCandidate(candidate));
    }
}

fn agree(pair: &Pair) -> bool {
    let (Some(a), Some(b)) = (pair.a().selected(), pair.b().selected()) else { return false };
    pair.sides.iter().all(Side::is_connected) && a == (b.1, b.0)
}

/// What the socket port was told of where media goes, since `from`.
fn told(side: &Side, from: Duration) -> Vec<PathUpdate> {
    let since = side.updates.iter().filter(|(at, _)| *at >= from).map(|(_, update)| *update);
    let about_sending = |update: &PathUpdate| {
        !matches!(update, PathUpdate::Authenticated(_) | PathUpdate::Validated(_))
    };
    since.filter(about_sending).collect()
}

#[test]
fn media_goes_on_while_a_restart_at_the_same_addresses_is_followed() {
    for delegated in [false, true] {
        let mut pair = connected(1, delegated);
        let (path, start) = (pair.a().agent.selected_path().unwrap(), pair.elapsed());
        restart(&mut pair, 3, &["198.51.100.1"], delegated);
        // Signalling takes its time; until then its checks wait, and media goes on.
        pair.advance(SECOND / 2);
        assert_eq!(pair.a().agent.selected_path(), Some(path));
        assert!(pair.a().agent.stats().requests_held > 0);
        tell(&mut pair);
        assert_eq!(pair.a().agent.selected_path(), Some(path), "it is sent there all the while");
        pair.drive_until(2 * SECOND, agree);
        pair.advance(5 * SECOND);
        let told = told(pair.a(), start);
        let lost = |update: &&PathUpdate| {
            matches!(update, PathUpdate::SendingSuspended) || **update == PathUpdate::Lost(path)
        };
        assert_eq!(told.iter().find(lost), None, "{told:?}");
        // And consent is that of the new credentials from now on, for long.
        pair.advance(600 * SECOND);
        assert!(agree(&pair));
        assert_eq!(pair.a().states().last().unwrap().1, IceState::Connected);
        if delegated {
            let kept = pair.sides.each_ref().map(|it| it.consent.as_ref().unwrap().stats().kept);
            assert_eq!(kept, [1, 1]);
        }
    }
}

#[test]
fn a_restart_at_other_addresses_is_followed_there() {
    let mut pair = connected(2, true);
    restart(&mut pair, 3, &["203.0.113.9"], true);
    tell(&mut pair);
    pair.drive_until(2 * SECOND, agree);
    assert_eq!(pair.a().selected().unwrap().1.ip().to_string(), "203.0.113.9");
    pair.advance(120 * SECOND);
    assert!(agree(&pair));
}

#[test]
fn a_restart_during_a_restart_is_followed_and_late_news_of_the_first_harms_nothing() {
    let mut pair = connected(3, true);
    restart(&mut pair, 3, &["203.0.113.9"], true);
    let first = (pair.b().info.clone(), pair.b().found());
    tell(&mut pair);
    pair.advance(SECOND / 50);
    restart(&mut pair, 4, &["203.0.113.10"], true);
    tell(&mut pair);
    // A candidate of the first comes late, when it is of no use any more.
    for candidate in first.1 {
        pair.command(0, IceCommand::SetRemoteCandidate(candidate));
    }
    pair.drive_until(3 * SECOND, agree);
    assert_eq!(pair.a().selected().unwrap().1.ip().to_string(), "203.0.113.10");
    pair.advance(120 * SECOND);
    assert!(agree(&pair), "{:?}", first.0);
}

#[test]
fn a_restart_in_the_middle_of_an_outage_heals_with_it() {
    for at in [5, 20, 50] {
        let mut pair = connected(4, true);
        pair.blocks = Box::new(|_, _| true);
        pair.advance(at * SECOND);
        restart(&mut pair, 3, &["203.0.113.9"], true);
        tell(&mut pair);
        pair.advance(20 * SECOND);
        pair.blocks = Box::new(|_, _| false);
        pair.drive_until(5 * SECOND, agree);
        pair.advance(60 * SECOND);
        assert!(agree(&pair));
    }
}
