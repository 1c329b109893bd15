//! Several connections on one socket.

use super::*;
use shared::TRANSACTION_LIFETIME;

const BOB: ConnectionId = ConnectionId { slot: 1, generation: 0 };
const DELIVER_ALICE: Admission = Admission::Deliver(ALICE);
const DELIVER_BOB: Admission = Admission::Deliver(BOB);

/// Two connections on one socket, Bob the newer.
fn table() -> (PathTable, Instant) {
    let mut table = PathTable::new();
    table.bound_shared(SOCKET, ([10, 0, 0, 1], 1).into());
    for (connection, username_frag) in [(ALICE, "alic"), (BOB, "bobb")] {
        table.attach(connection).unwrap();
        assert_eq!(
            table.join(connection, SOCKET, username_frag, false),
            Ok(([10, 0, 0, 1], 1).into())
        );
    }
    (table, Instant::now())
}

fn stun(kind: [u8; 2], id: u8, attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    [&kind[..], &length, b"\x21\x12\xa4\x42", &[id; 12], attributes].concat()
}

fn request_to(username_frag: &str) -> Vec<u8> {
    stun([0, 1], 0, &[b"\x00\x06\x00\x09", username_frag.as_bytes(), b":peer\0\0\0"].concat())
}

fn request(id: u8) -> Vec<u8> {
    stun([0, 1], id, &[])
}

fn response(id: u8) -> Vec<u8> {
    stun([1, 1], id, &[])
}

fn admit(table: &mut PathTable, now: Instant, port: u16, datagram: &[u8]) -> Admission {
    table.admit(now, path(port), classify(datagram), datagram)
}

/// Validates a path for a connection; who has lost it by that.
fn validate(
    table: &mut PathTable,
    now: Instant,
    connection: ConnectionId,
    port: u16,
) -> Vec<ConnectionId> {
    for update in [PathUpdate::Authenticated(path(port)), PathUpdate::Validated(path(port))] {
        // Refusing is what some of the tests are about.
        let _ = table.update(now, connection, update);
    }
    std::iter::from_fn(|| table.poll_taken())
        .map(|(loser, lost)| {
            assert_eq!(lost, path(port));
            loser
        })
        .collect()
}

const RTP: &[u8] = b"\x80\x60 rtp";
const DTLS: &[u8] = b"\x16 dtls";

#[test]
fn a_request_goes_to_whom_it_names_from_wherever_it_comes() {
    let (mut table, now) = table();
    validate(&mut table, now, ALICE, 1);
    for port in [1, 2] {
        assert_eq!(admit(&mut table, now, port, &request_to("alic")), DELIVER_ALICE);
        assert_eq!(admit(&mut table, now, port, &request_to("bobb")), DELIVER_BOB);
        assert_eq!(admit(&mut table, now, port, &request_to("none")), Admission::Dropped);
        assert_eq!(admit(&mut table, now, port, &request(0)), Admission::Dropped);
    }
    assert_eq!(table.route(now, path(1)), Some(ALICE), "nothing has moved");
    let counted = SharedStats { unknown_username: 2, malformed: 2, ..SharedStats::default() };
    assert_eq!(table.shared_stats(), counted);
}

#[test]
fn a_response_goes_to_the_connection_that_asked_that_address() {
    let (mut table, now) = table();
    for (connection, id) in [(ALICE, 1), (BOB, 2)] {
        let sent = table.outgoing(now, connection, Some(path(1)), &request(id));
        assert_eq!(sent, Some(path(1)));
    }
    assert_eq!(admit(&mut table, now, 1, &response(1)), DELIVER_ALICE);
    assert_eq!(admit(&mut table, now, 1, &response(2)), DELIVER_BOB);
    assert_eq!(admit(&mut table, now, 2, &response(1)), Admission::Dropped);
    assert_eq!(admit(&mut table, now, 1, &response(3)), Admission::Dropped);
    assert_eq!(admit(&mut table, now + TRANSACTION_LIFETIME, 1, &response(1)), Admission::Dropped);
    assert_eq!(table.shared_stats().unknown_transaction, 3);
}

#[test]
fn requests_that_are_remembered_are_bounded_in_number_and_time_and_end_with_their_connection() {
    let (mut table, now) = table();
    let remembered = |table: &PathTable| match &table.socket(SOCKET).unwrap().tenancy {
        Tenancy::Shared(shared) => shared.transactions(),
        Tenancy::Owned(_) => panic!("it is shared"),
    };
    table.outgoing(now, BOB, Some(path(1)), &request(255)).unwrap();
    for id in 0..200 {
        table.outgoing(now, ALICE, Some(path(1)), &request(id)).unwrap();
    }
    assert_eq!(remembered(&table), MAX_TRANSACTIONS + 1);
    assert_eq!(
        admit(&mut table, now, 1, &response(255)),
        DELIVER_BOB,
        "others are not crowded out"
    );
    assert_eq!(admit(&mut table, now, 1, &response(199)), DELIVER_ALICE);
    assert_eq!(admit(&mut table, now, 1, &response(0)), Admission::Dropped);
    let later = now + TRANSACTION_LIFETIME;
    table.outgoing(later, ALICE, Some(path(1)), &request(200)).unwrap();
    assert_eq!(remembered(&table), 2);
    assert_eq!(table.detach(ALICE), []);
    assert_eq!(remembered(&table), 1);
    table.forget_requests(BOB);
    assert_eq!(remembered(&table), 0);
    assert_eq!(admit(&mut table, now, 1, &response(255)), Admission::Dropped);
    assert_eq!(table.outgoing(later, BOB, Some(path(1)), &request(9)), Some(path(1)));
    assert_eq!(admit(&mut table, later, 1, &response(9)), DELIVER_BOB);
}

#[test]
fn dtls_and_media_go_to_the_connection_whose_path_it_is() {
    let (mut table, now) = table();
    validate(&mut table, now, ALICE, 1);
    validate(&mut table, now, BOB, 2);
    table.update(now, BOB, PathUpdate::Authenticated(path(3))).unwrap();
    for (port, expected) in [(1, DELIVER_ALICE), (2, DELIVER_BOB), (4, Admission::Dropped)] {
        assert_eq!(admit(&mut table, now, port, RTP), expected);
        assert_eq!(admit(&mut table, now, port, DTLS), expected);
    }
    assert_eq!(admit(&mut table, now, 3, DTLS), Admission::Parked);
    assert_eq!(admit(&mut table, now, 3, RTP), Admission::Parked);
    assert_eq!(admit(&mut table, now, 4, b"\xff"), Admission::Dropped);
    assert_eq!(admit(&mut table, now, 1, &stun([0, 0x11], 1, &[])), DELIVER_ALICE);
    assert_eq!(table.route(now, path(2)), Some(BOB));
    let counted = SharedStats { strangers: 2, unknown: 1, ..SharedStats::default() };
    assert_eq!(table.shared_stats(), counted);
    let expected = PathStats { parked: 2, ..PathStats::default() };
    assert_eq!(table.stats(BOB), Some(expected));
}

#[test]
fn a_forged_source_takes_no_path_that_is_validated() {
    let (mut table, now) = table();
    validate(&mut table, now, ALICE, 1);
    table.update(now, ALICE, PathUpdate::Selected(path(1))).unwrap();
    // Bob's own peer sends from Alice's peer's address, with Bob's password.
    assert_eq!(admit(&mut table, now, 1, &request_to("bobb")), DELIVER_BOB);
    table.update(now, BOB, PathUpdate::Authenticated(path(1))).unwrap();
    assert_eq!(table.poll_taken(), None);
    assert_eq!(admit(&mut table, now, 1, RTP), DELIVER_ALICE);
    assert_eq!(admit(&mut table, now, 1, DTLS), DELIVER_ALICE);
    assert_eq!((table.sending_path(ALICE), table.sending_path(BOB)), (Some(path(1)), None));
    let refused = Err(PathError::NotValidated(path(1)));
    assert_eq!(table.update(now, BOB, PathUpdate::Selected(path(1))), refused);
    // Nor one that was lost a moment ago, on which packets are still in flight.
    table.update(now, ALICE, PathUpdate::Lost(path(1))).unwrap();
    table.update(now, BOB, PathUpdate::Authenticated(path(1))).unwrap();
    assert_eq!(admit(&mut table, now, 1, RTP), DELIVER_ALICE);
    // And what it says is lost is not Bob's to lose.
    table.update(now, BOB, PathUpdate::Lost(path(1))).unwrap();
    assert_eq!(admit(&mut table, now, 1, RTP), DELIVER_ALICE);
}

#[test]
fn of_two_paths_that_are_only_authenticated_the_later_counts() {
    let (mut table, now) = table();
    table.update(now, BOB, PathUpdate::Authenticated(path(1))).unwrap();
    assert_eq!(admit(&mut table, now, 1, DTLS), Admission::Parked);
    table.update(now, ALICE, PathUpdate::Authenticated(path(1))).unwrap();
    assert_eq!(table.stats(BOB).unwrap().unvalidated, 1, "what was parked from it has gone");
    assert_eq!(admit(&mut table, now, 1, DTLS), Admission::Parked);
    let released = table.update(now, ALICE, PathUpdate::Validated(path(1))).unwrap();
    assert_eq!(released.len(), 1);
    assert_eq!(table.poll_taken(), None, "what was not validated is not missed");
}

#[test]
fn the_newer_connection_takes_a_path_by_validating_it_and_keeps_it() {
    let (mut table, now) = table();
    validate(&mut table, now, ALICE, 1);
    table.update(now, ALICE, PathUpdate::Selected(path(1))).unwrap();
    assert_eq!(validate(&mut table, now, BOB, 1), [ALICE], "Alice hears of it");
    assert_eq!(admit(&mut table, now, 1, RTP), DELIVER_BOB);
    assert_eq!((table.sending_path(ALICE), table.sending_path(BOB)), (None, Some(path(1))));
    assert_eq!(table.stats(ALICE).unwrap().taken, 1);
    // The older one does not get it back while the newer one has it.
    let refused = Err(PathError::Taken(path(1)));
    assert_eq!(table.update(now, ALICE, PathUpdate::Validated(path(1))), refused);
    assert_eq!(table.poll_taken(), Some((ALICE, path(1))));
    assert_eq!(admit(&mut table, now, 1, RTP), DELIVER_BOB);
    // Requests go on to be told apart.
    assert_eq!(admit(&mut table, now, 1, &request_to("alic")), DELIVER_ALICE);
    table.detach(BOB);
    assert_eq!(validate(&mut table, now, ALICE, 1), []);
    assert_eq!(admit(&mut table, now, 1, RTP), DELIVER_ALICE);
}

#[test]
fn a_path_in_its_grace_goes_to_whoever_validates_it() {
    for (older, newer) in [(ALICE, BOB), (BOB, ALICE)] {
        let (mut table, now) = table();
        validate(&mut table, now, older, 1);
        table.update(now, older, PathUpdate::Lost(path(1))).unwrap();
        assert_eq!(validate(&mut table, now, newer, 1), [], "it was lost already");
        table.handle_timeout(now + GRACE);
        assert_eq!(table.route(now + GRACE, path(1)), Some(newer));
    }
}

#[test]
fn a_username_fragment_is_one_connections_and_free_once_that_is_gone() {
    let (mut table, now) = table();
    let next = ConnectionId { slot: 2, generation: 0 };
    table.attach(next).unwrap();
    assert_eq!(table.join(next, SOCKET, "alic", false), Err(PathError::UsernameTaken));
    assert_eq!(table.sockets(next), []);
    assert_eq!(
        table.join(ALICE, SOCKET, "alic", false),
        Ok(([10, 0, 0, 1], 1).into()),
        "twice is once"
    );
    assert_eq!(table.join(ALICE, SOCKET, "else", false), Err(PathError::UsernameTaken));
    assert_eq!(table.detach(ALICE), []);
    assert_eq!(admit(&mut table, now, 1, &request_to("alic")), Admission::Dropped);
    assert!(table.join(next, SOCKET, "alic", false).is_ok());
    assert_eq!(admit(&mut table, now, 1, &request_to("alic")), Admission::Deliver(next));
}

#[test]
fn only_a_shared_socket_that_is_there_can_be_joined() {
    let (mut table, now) = table();
    let own = SocketId { slot: 0, generation: 0 };
    table.bound(ALICE, own, ([10, 0, 0, 1], 2).into()).unwrap();
    let gone = SocketId { generation: 4, ..SOCKET };
    for socket in [own, gone] {
        assert_eq!(table.join(BOB, socket, "bobb", false), Err(PathError::NotShared(socket)));
        assert!(!table.release(socket));
    }
    let stranger = ConnectionId { slot: 9, generation: 0 };
    let unknown = PathError::UnknownConnection(stranger);
    assert_eq!(table.join(stranger, SOCKET, "strg", false), Err(unknown));
    assert_eq!(table.unbind(BOB, own), Err(PathError::ForeignSocket(own)));
    assert_eq!(table.outgoing(now, BOB, Some(Path { socket: own, ..path(1) }), b"x"), None);
    assert_eq!(table.detach(ALICE), [own]);
}

#[test]
fn a_socket_is_closed_by_the_last_who_needs_it() {
    let (mut table, now) = table();
    validate(&mut table, now, BOB, 1);
    assert_eq!(table.unbind(ALICE, SOCKET), Ok(false));
    assert_eq!(table.unbind(ALICE, SOCKET), Err(PathError::ForeignSocket(SOCKET)));
    assert!(!table.release(SOCKET), "Bob uses it");
    assert_eq!(table.detach(BOB), [SOCKET]);
    assert!(!table.is_bound(SOCKET));

    let (mut table, _) = shared_socket::table();
    assert_eq!((table.detach(ALICE), table.detach(BOB)), (vec![], vec![]));
    assert!(table.is_bound(SOCKET), "a handle keeps it");
    assert!(table.release(SOCKET));
    assert!(!table.release(SOCKET));
}

#[test]
fn all_users_hear_of_a_socket_that_has_failed() {
    let (mut table, now) = table();
    validate(&mut table, now, ALICE, 1);
    assert_eq!(table.unbound(SOCKET), [ALICE, BOB]);
    assert!(!table.is_bound(SOCKET));
    assert_eq!((table.sending_path(ALICE), table.detach(BOB)), (None, vec![]));
}

#[test]
fn a_packet_costs_one_look_up_however_many_connections_there_are() {
    let mut table = PathTable::new();
    let now = Instant::now();
    table.bound_shared(SOCKET, ([10, 0, 0, 1], 1).into());
    for slot in 0..10_000 {
        let connection = ConnectionId { slot, generation: 0 };
        table.attach(connection).unwrap();
        table.join(connection, SOCKET, &format!("{slot:04}"), false).unwrap();
        table.update(now, connection, PathUpdate::Validated(path(slot as u16))).unwrap();
    }
    let before = table.lookups();
    for slot in 0..10_000 {
        let connection = ConnectionId { slot, generation: 0 };
        assert_eq!(table.route(now, path(slot as u16)), Some(connection));
        assert_eq!(table.sending_path(connection), Some(path(slot as u16)));
    }
    assert_eq!(table.lookups() - before, 10_000);
}
