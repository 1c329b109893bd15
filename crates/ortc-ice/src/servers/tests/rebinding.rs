//! A NAT forgets its mappings, and gets another address, in the middle of a connection.

use std::time::Duration;

use super::world::{NatType, World};
use super::{SECOND, stun};

#[test]
fn a_peer_follows_the_other_side_to_its_new_mapping() {
    let mut longest = [Duration::ZERO; 2];
    // The side that is moved to controls, or does not; at different times of its consent.
    for (moved, followed) in [(0, 1), (1, 0)] {
        for offset in 0..10 {
            let mut world = World::new([NatType::None; 2], stun);
            world.hosts[moved].nat.kind = NatType::Port;
            world.connect();
            assert!(world.drive(SECOND, World::is_connected));
            world.advance(100 * SECOND + Duration::from_millis(700 * offset));
            let before = world.now;
            let public = [203, 0, 113, 99].into();
            world.hosts[moved].nat.rebind(public);
            let follows = |world: &World| {
                let path = world.hosts[followed].agent.selected_path();
                path.is_some_and(|path| path.remote.ip() == public)
            };
            assert!(world.drive(30 * SECOND, follows), "{moved} {offset}");
            longest[followed] = longest[followed].max(world.now - before);
            world.advance(60 * SECOND);
            assert!(world.is_connected());
        }
    }
    // The controlled side validates the path with the first check, which comes after 6 s at the
    // latest, and follows the next one; the other gives up the old path before.
    let controlled = longest[1];
    assert!(controlled <= 10 * SECOND, "{controlled:?}");
}
