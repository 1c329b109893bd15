//! A path that dies, and nobody tells: what media says of it makes the difference.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Pair, Side};
use ortc_ice::IceEvent;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Two sides with two addresses each, connected, settled and delegated or neither; in every role.
fn connected(seed: u64, settled: bool, first_controls: bool) -> Pair {
    let (a, b) = (["192.0.2.1", "192.0.2.2"], ["198.51.100.1", "198.51.100.2"]);
    let mut pair = Pair::new(seed, &a, &b);
    pair.delay = 25 * MS;
    if settled {
        pair.delegate();
    }
    pair.gather();
    pair.connect(0, first_controls);
    pair.connect(1, !first_controls);
    pair.drive_until_connected(2 * SECOND);
    pair.advance(if settled { 60 * SECOND + 777 * MS * seed as u32 } else { SECOND });
    pair
}

/// Nothing gets from or to this address any more.
fn kill(pair: &mut Pair, dead: SocketAddr) {
    pair.blocks = Box::new(move |from, to| from == dead || to == dead);
}

fn agree(pair: &Pair) -> bool {
    let (Some(a), Some(b)) = (pair.a().selected(), pair.b().selected()) else { return false };
    a == (b.1, b.0)
}

fn leads_to(pair: &Pair, address: SocketAddr) -> bool {
    let ends = pair.sides.iter().filter_map(Side::selected);
    ends.into_iter().any(|(local, remote)| local == address || remote == address)
}

/// How often a side was told another pair.
fn moves(side: &Side) -> usize {
    side.events.iter().filter(|(_, event)| matches!(event, IceEvent::ActivePair { .. })).count()
}

#[test]
fn a_dead_path_is_left_within_a_second_of_the_doubt() {
    for seed in 0..40 {
        let (settled, first_controls) = (seed % 2 == 0, seed % 4 < 2);
        let mut pair = connected(seed, settled, first_controls);
        let dead = pair.a().selected().unwrap().0;
        kill(&mut pair, dead);
        pair.advance(500 * MS);
        // Both hear nothing any more.
        pair.doubt(0);
        pair.doubt(1);
        let start = pair.elapsed();
        let end = pair.drive_until(5 * SECOND, |pair| agree(pair) && !leads_to(pair, dead));
        assert!(end - start < SECOND, "seed {seed}: {:?}", end - start);
        pair.advance(60 * SECOND);
        assert!(agree(&pair) && !leads_to(&pair, dead), "seed {seed}");
        for side in &pair.sides {
            assert_eq!(side.states().len(), 2, "seed {seed}: it stays connected");
            let stats = side.agent.stats();
            assert!(stats.paths_left <= 1, "seed {seed}: {stats:?}");
        }
    }
}

#[test]
fn a_path_that_is_dead_one_way_is_left_by_whoever_hears_nothing() {
    for seed in 0..40 {
        let (settled, first_controls) = (seed % 2 == 0, seed % 4 < 2);
        let mut pair = connected(seed, settled, first_controls);
        let (from, to) = pair.a().selected().unwrap();
        // What the second sends gets there, what the first sends does not.
        pair.blocks = Box::new(move |source, target| (source, target) == (from, to));
        pair.advance(500 * MS);
        pair.doubt(1);
        let start = pair.elapsed();
        let left = |pair: &Pair| pair.b().selected() != Some((to, from));
        let end = pair.drive_until(5 * SECOND, left);
        assert!(end - start < SECOND, "seed {seed}: {:?}", end - start);
        // Its media comes on another path, and where that is heard the other side has doubts, too.
        pair.advance(500 * MS);
        if pair.a().selected() == Some((from, to)) {
            pair.doubt(0);
        }
        let end = pair.drive_until(5 * SECOND, |pair| agree(pair) && left(pair));
        assert!(end - start < 2 * SECOND, "seed {seed}: {:?}", end - start);
    }
}

#[test]
fn without_media_a_dead_path_is_left_when_consent_is_overdue() {
    for seed in 0..20 {
        let mut pair = connected(seed, true, seed % 2 == 0);
        let dead = pair.a().selected().unwrap().0;
        kill(&mut pair, dead);
        let start = pair.elapsed();
        let end = pair.drive_until(20 * SECOND, |pair| agree(pair) && !leads_to(pair, dead));
        // Seven seconds after the last response, and no more than 8.2 s after the outage.
        assert!(end - start < 9 * SECOND, "seed {seed}: {:?}", end - start);
    }
}

#[test]
fn a_pause_of_the_peer_costs_a_check_and_changes_nothing() {
    let mut pair = connected(1, true, true);
    let before: Vec<usize> = pair.sides.iter().map(|side| side.sent.values().sum()).collect();
    let told: Vec<usize> = pair.sides.iter().map(moves).collect();
    pair.doubt(0);
    pair.advance(MS * 900);
    let after = |pair: &Pair, side: usize| pair.sides[side].sent.values().sum::<usize>();
    // A consent check of either may fall into that time.
    assert!(after(&pair, 0) - before[0] <= 1 + 2, "{}", after(&pair, 0) - before[0]);
    assert!(after(&pair, 1) - before[1] <= 1 + 2, "{}", after(&pair, 1) - before[1]);
    assert_eq!(pair.sides.iter().map(moves).collect::<Vec<_>>(), told);
    assert_eq!(pair.a().agent.stats().paths_doubted, 1);
    assert_eq!(pair.a().consent.as_ref().unwrap().stats().kept, 1, "the port keeps the consent");
}

#[test]
fn five_percent_loss_and_a_long_way_leave_no_path_however_often_it_is_doubted() {
    for (seed, delay) in [(1, 25 * MS), (2, 100 * MS), (3, 400 * MS)] {
        let mut pair = connected(seed, true, seed % 2 == 0);
        (pair.loss, pair.delay) = (0.05, delay);
        // It is not known yet how long the way is, as it always has been shorter.
        pair.advance(30 * SECOND);
        let told: Vec<usize> = pair.sides.iter().map(moves).collect();
        for second in 0..1800 {
            pair.doubt(second % 2);
            pair.advance(2 * SECOND);
        }
        for (side, told) in pair.sides.iter().zip(told) {
            let stats = side.agent.stats();
            assert_eq!((stats.paths_left, moves(side)), (0, told), "{delay:?}: {stats:?}");
            assert_eq!(side.states().len(), 2);
        }
    }
}

#[test]
fn a_better_path_that_comes_back_is_taken_again_and_one_that_flaps_more_and_more_seldom() {
    for first_controls in [true, false] {
        let mut pair = connected(1, true, first_controls);
        let best = pair.a().selected().unwrap();
        let mut left_after = Vec::new();
        for _ in 0..4 {
            kill(&mut pair, best.0);
            pair.advance(500 * MS);
            pair.doubt(0);
            pair.doubt(1);
            pair.drive_until(2 * SECOND, |pair| agree(pair) && !leads_to(pair, best.0));
            pair.blocks = Box::new(|_, _| false);
            let start = pair.elapsed();
            let back = |pair: &Pair| agree(pair) && pair.a().selected() == Some(best);
            left_after.push(pair.drive_until(70 * SECOND, back) - start);
            pair.advance(3 * SECOND);
        }
        assert!(left_after[0] < 10 * SECOND, "{left_after:?}");
        assert!(left_after[2] > 12 * SECOND, "{left_after:?}");
        assert!(left_after[3] > left_after[2], "{left_after:?}");
    }
}

#[test]
fn where_there_is_no_other_path_checks_are_few_and_the_one_is_found_again() {
    let mut pair = Pair::new(5, &["192.0.2.1"], &["198.51.100.1"]);
    pair.start();
    pair.drive_until_connected(SECOND);
    pair.advance(60 * SECOND);
    pair.blocks = Box::new(|_, _| true);
    let before = pair.a().agent.stats().requests_sent;
    pair.doubt(0);
    pair.advance(20 * SECOND);
    let sent = pair.a().agent.stats().requests_sent - before;
    assert!(sent < 120, "{sent} checks into the dark");
    pair.blocks = Box::new(|_, _| false);
    let start = pair.elapsed();
    let took = pair.drive_until_connected(10 * SECOND) - start;
    assert!(took < 3 * SECOND, "{took:?}");
}
