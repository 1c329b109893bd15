//! Connections of one local side on one socket.

use super::*;
use shared::{HELD_LIFETIME, MAX_HELD};

const BOB: ConnectionId = ConnectionId { slot: 1, generation: 0 };
const CARL: ConnectionId = ConnectionId { slot: 2, generation: 0 };

/// Alice with a socket of her own, which she shares, and two forks of hers.
fn table() -> (PathTable, Instant) {
    let mut table = PathTable::new();
    for connection in [ALICE, BOB, CARL] {
        table.attach(connection).unwrap();
    }
    table.bound(ALICE, SOCKET, ([10, 0, 0, 1], 1).into()).unwrap();
    assert_eq!(table.join(BOB, SOCKET, "side", true), Err(PathError::NotShared(SOCKET)));
    assert_eq!(table.share(BOB, SOCKET, "side"), Err(PathError::ForeignSocket(SOCKET)));
    table.share(ALICE, SOCKET, "side").unwrap();
    table.share(ALICE, SOCKET, "side").unwrap();
    for connection in [BOB, CARL] {
        assert_eq!(table.join(connection, SOCKET, "side", false), Err(PathError::UsernameTaken));
        assert!(table.join(connection, SOCKET, "side", true).is_ok());
    }
    (table, Instant::now())
}

fn request(from: &str, id: u8) -> Vec<u8> {
    let username = [b"side:", from.as_bytes()].concat();
    let padding = vec![0; username.len().next_multiple_of(4) - username.len()];
    let attribute = [&[0, 6, 0, username.len() as u8][..], &username, &padding].concat();
    let length = u16::try_from(attribute.len()).unwrap().to_be_bytes();
    [&[0, 1][..], &length, b"\x21\x12\xa4\x42", &[id; 12], &attribute].concat()
}

fn admit(table: &mut PathTable, now: Instant, port: u16, datagram: &[u8]) -> Admission {
    table.admit(now, path(port), Stun, datagram)
}

#[test]
fn requests_go_to_the_fork_that_has_claimed_their_sender() {
    let (mut table, now) = table();
    for (connection, peer) in [(ALICE, "aaaa"), (BOB, "bbbb"), (CARL, "cccc")] {
        assert_eq!(table.claim(now, connection, peer), Ok(vec![]));
    }
    assert_eq!(table.claim(now, CARL, "bbbb"), Err(PathError::PeerTaken));
    for (connection, peer) in [(ALICE, "aaaa"), (BOB, "bbbb"), (CARL, "cccc")] {
        // From wherever they come.
        for port in [1, 2] {
            let admission = admit(&mut table, now, port, &request(peer, 1));
            assert_eq!(admission, Admission::Deliver(connection));
        }
    }
    // A peer that has restarted is a new name of the same one.
    assert_eq!(table.claim(now, BOB, "dddd"), Ok(vec![]));
    assert_eq!(admit(&mut table, now, 1, &request("dddd", 1)), Admission::Deliver(BOB));
    assert_eq!(admit(&mut table, now, 1, &request("bbbb", 1)), Admission::Parked);
}

#[test]
fn requests_that_nobody_has_claimed_wait_and_are_bounded_in_number_and_time() {
    let (mut table, now) = table();
    for id in 0..40 {
        assert_eq!(admit(&mut table, now, 1, &request("bbbb", id)), Admission::Parked);
    }
    let other = admit(&mut table, now, 2, &request("cccc", 99));
    assert_eq!(other, Admission::Parked);
    let stats = table.shared_stats();
    assert_eq!((stats.held, stats.held_dropped), (41, 41 - MAX_HELD as u64));
    let waited = table.claim(now, BOB, "bbbb").unwrap();
    let ids: Vec<u8> = waited.iter().map(|parked| parked.datagram[8]).collect();
    assert_eq!(ids, (9..40).collect::<Vec<u8>>());
    assert!(waited.iter().all(|parked| parked.path == path(1) && parked.received_at == now));
    assert_eq!(table.claim(now, BOB, "bbbb"), Ok(vec![]), "once");
    // What is too old says nothing new.
    assert_eq!(table.claim(now + HELD_LIFETIME, CARL, "cccc"), Ok(vec![]));
}

#[test]
fn a_socket_that_is_shared_ends_with_its_last_user_when_it_has_been_released() {
    let (mut table, _) = table();
    assert_eq!(table.detach(ALICE), []);
    assert!(!table.release(SOCKET));
    assert_eq!(table.detach(BOB), []);
    assert!(table.is_bound(SOCKET));
    assert_eq!(table.detach(CARL), [SOCKET]);
    assert!(!table.is_bound(SOCKET));
}

#[test]
fn one_of_a_port_can_be_joined_by_forks_when_it_has_shared_it() {
    let mut table = PathTable::new();
    table.bound_shared(SOCKET, ([10, 0, 0, 1], 1).into());
    for connection in [ALICE, BOB, CARL] {
        table.attach(connection).unwrap();
    }
    table.join(ALICE, SOCKET, "side", false).unwrap();
    table.join(CARL, SOCKET, "carl", false).unwrap();
    assert_eq!(table.join(BOB, SOCKET, "side", true), Err(PathError::UsernameTaken));
    assert_eq!(table.share(CARL, SOCKET, "side"), Err(PathError::UsernameTaken));
    table.share(ALICE, SOCKET, "side").unwrap();
    assert!(table.join(BOB, SOCKET, "side", true).is_ok());
    let now = Instant::now();
    table.claim(now, ALICE, "aaaa").unwrap();
    table.claim(now, BOB, "bbbb").unwrap();
    assert_eq!(admit(&mut table, now, 1, &request("aaaa", 1)), Admission::Deliver(ALICE));
    assert_eq!(admit(&mut table, now, 1, &request("bbbb", 1)), Admission::Deliver(BOB));
}
