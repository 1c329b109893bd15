//! A peer that nominates every pair it checks, as Firefox does, and checks a spare because we have:
//! that takes nobody away from a path that is alive.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use common::{Pair, info};
use ortc_ice::IceEvent;

const SECOND: Duration = Duration::from_secs(1);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Pairs whose second side, which is controlled, has settled on the first of two paths, and what they
/// are.
fn settled() -> impl Iterator<Item = (Pair, String)> {
    (0..10).flat_map(|seed| [(seed, false), (seed, true)]).map(|(seed, delegated)| {
        let time = Duration::from_millis(20_000 + 700 * seed);
        let pair = Pair::connected_for(time, seed, delegated);
        assert_eq!(pair.b().selected().unwrap().1, address(SELECTED));
        (pair, format!("seed {seed}, delegated: {delegated}"))
    })
}

fn hmac_sha1(key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
    let mut context =
        hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
    payloads.iter().for_each(|payload| context.update(payload));
    context.sign().as_ref().try_into().unwrap()
}

const SELECTED: &str = "192.0.2.1:5000";
const SPARE: &str = "192.0.2.2:5001";

/// A check of the first side comes to the second one, and nominates its path or not.
fn check(pair: &mut Pair, from: &str, nominates: bool) {
    let mut indication = [7; 20];
    indication[..8].copy_from_slice(&[0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    let id = is::stun::StunMessage::parse(&indication).unwrap().trans_id();
    let (ours, theirs) = (info(1), info(2));
    let username = format!("{}:{}", theirs.username_frag, ours.username_frag);
    let check = is::stun::StunMessage::binding_request(&username, id, true, 1, 7, nominates);
    let mut bytes = [0; 512];
    let length = check.to_bytes(Some(theirs.password.as_bytes()), &mut bytes, hmac_sha1).unwrap();
    pair.inject(1, address(from), address("198.51.100.1:5000"), &bytes[..length]);
}

fn changes(pair: &Pair) -> usize {
    pair.b().events.iter().filter(|(_, event)| matches!(event, IceEvent::ActivePair { .. })).count()
}

#[test]
fn a_live_path_is_not_left_for_a_spare_that_is_nominated_too() {
    for (mut pair, which) in settled() {
        let before = changes(&pair);
        check(&mut pair, SPARE, true);
        pair.advance(3 * SECOND);
        assert_eq!(changes(&pair), before, "{which}");
    }
}

#[test]
fn checks_for_consent_that_nominate_nothing_lead_to_no_path_that_was_nominated_long_before() {
    for (mut pair, which) in settled() {
        let (selected, spare) = (address(SELECTED), address(SPARE));
        // The first side, which is one of ours, is not to say anything else.
        pair.blocks = Box::new(move |from, _| [selected, spare].contains(&from));
        let before = changes(&pair);
        for from in [SELECTED, SPARE] {
            check(&mut pair, from, true);
        }
        pair.advance(4 * SECOND);
        pair.blocks = Box::new(|_, _| false);
        check(&mut pair, SELECTED, false);
        assert_eq!(changes(&pair), before, "{which}");
    }
}

#[test]
fn a_dead_path_is_left_within_a_second_for_a_spare_that_is_nominated() {
    for (mut pair, which) in settled() {
        let (dead, spare) = (address(SELECTED), address(SPARE));
        pair.blocks = Box::new(move |from, to| from == dead || to == dead);
        // A second later than anything that was under way.
        pair.advance(Duration::from_millis(1_050));
        check(&mut pair, SPARE, true);
        let start = pair.elapsed();
        let took =
            pair.drive_until(5 * SECOND, |pair| pair.b().selected().unwrap().1 == spare) - start;
        assert!(took <= SECOND, "{which}: {took:?}");
    }
}
