use super::shared::MAX_TRANSACTIONS;
use super::*;
use DatagramKind::{Dtls, Rtp, Stun, Unknown};

const ALICE: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const SOCKET: SocketId = SocketId { slot: 2, generation: 5 };

fn path(port: u16) -> Path {
    Path::plain(SOCKET, ([10, 0, 0, 2], port).into())
}

/// A connection with one socket.
fn table() -> (PathTable, Instant) {
    let mut table = PathTable::new();
    table.attach(ALICE).unwrap();
    table.bound(ALICE, SOCKET, ([10, 0, 0, 1], 1).into()).unwrap();
    (table, Instant::now())
}

fn stats(table: &PathTable) -> PathStats {
    table.stats(ALICE).unwrap()
}

#[test]
fn each_standing_takes_what_the_ladder_says() {
    let (mut table, now) = table();
    let admissions = |table: &mut PathTable, now| {
        [(Stun, b"\x00"), (Dtls, b"\x16"), (Rtp, b"\x80")]
            .map(|(kind, datagram)| table.admit(now, path(1), kind, datagram))
    };
    let (deliver, dropped) = (Admission::Deliver(ALICE), Admission::Dropped);
    assert_eq!(admissions(&mut table, now), [deliver, dropped, dropped]);
    table.update(now, ALICE, PathUpdate::Authenticated(path(1))).unwrap();
    assert_eq!(admissions(&mut table, now), [deliver, Admission::Parked, Admission::Parked]);
    table.update(now, ALICE, PathUpdate::Validated(path(1))).unwrap();
    assert_eq!(admissions(&mut table, now), [deliver; 3]);
    table.update(now, ALICE, PathUpdate::Lost(path(1))).unwrap();
    let late = now + GRACE - Duration::from_millis(1);
    assert_eq!(admissions(&mut table, late), [deliver; 3]);
    assert_eq!(admissions(&mut table, now + GRACE), [deliver, dropped, dropped]);
    let expected = PathStats { parked: 2, released: 2, unvalidated: 4, ..PathStats::default() };
    assert_eq!(stats(&table), expected);
}

#[test]
fn everywhere_is_the_selected_path_and_what_else_was_validated_the_newest_first() {
    let (mut table, now) = table();
    let everywhere = |table: &PathTable| -> Vec<u16> {
        table.sending_paths(ALICE).iter().map(|path| path.remote.port()).collect()
    };
    table.update(now, ALICE, PathUpdate::Authenticated(path(9))).unwrap();
    assert_eq!(everywhere(&table), []);
    for port in 1..=4 {
        table.update(now, ALICE, PathUpdate::Validated(path(port))).unwrap();
    }
    assert_eq!(everywhere(&table), [4, 3, 2, 1]);
    table.update(now, ALICE, PathUpdate::Selected(path(2))).unwrap();
    table.update(now, ALICE, PathUpdate::Lost(path(3))).unwrap();
    assert_eq!(everywhere(&table), [2, 4, 1]);
    for port in 10..20 {
        table.update(now, ALICE, PathUpdate::Validated(path(port))).unwrap();
    }
    assert_eq!(everywhere(&table), [2, 19, 18, 17, 16, 15, 14, 13]);
    table.update(now, ALICE, PathUpdate::SendingSuspended).unwrap();
    assert_eq!(everywhere(&table), []);
}

#[test]
fn what_was_parked_is_released_in_order_by_its_own_path_alone() {
    let (mut table, now) = table();
    for port in [1, 2] {
        table.update(now, ALICE, PathUpdate::Authenticated(path(port))).unwrap();
    }
    for (port, datagram) in [(1, b"\x16a"), (2, b"\x16b"), (1, b"\x16c")] {
        assert_eq!(table.admit(now, path(port), Dtls, datagram), Admission::Parked);
    }
    let later = now + Duration::from_secs(1);
    let released = table.update(later, ALICE, PathUpdate::Validated(path(1))).unwrap();
    let parked = |datagram: &'static [u8]| Parked {
        path: path(1),
        received_at: now,
        datagram: Bytes::from_static(datagram),
    };
    assert_eq!(released, [parked(b"\x16a"), parked(b"\x16c")]);
    assert_eq!(table.update(later, ALICE, PathUpdate::Validated(path(1))).unwrap(), []);
    table.update(later, ALICE, PathUpdate::Lost(path(2))).unwrap();
    let expected = PathStats { parked: 3, released: 2, unvalidated: 1, ..PathStats::default() };
    assert_eq!(stats(&table), expected);
}

#[test]
fn what_is_parked_has_a_bound_for_dtls_and_one_for_media() {
    let dtls = [(10, 8), (1250, 8), (1300, 7), (10_000, 1), (10_001, 0)];
    let media = [(10, 32), (1250, 32), (1300, 30), (40_000, 1), (40_001, 0)];
    for (kind, first, cases) in [(Dtls, 20, dtls), (Rtp, 0x80, media)] {
        for (len, fit) in cases {
            let (mut table, now) = table();
            table.update(now, ALICE, PathUpdate::Authenticated(path(1))).unwrap();
            let mut datagram = vec![0; len];
            datagram[0] = first;
            for _ in 0..40 {
                table.admit(now, path(1), kind, &datagram);
            }
            let expected =
                PathStats { parked: fit, park_overflow: 40 - fit, ..PathStats::default() };
            assert_eq!(stats(&table), expected, "{kind:?} of {len} bytes");
            // The other has its room still.
            let (other, first) = if kind == Rtp { (Dtls, b"\x16") } else { (Rtp, b"\x80") };
            assert_eq!(table.admit(now, path(1), other, first), Admission::Parked);
        }
    }
}

#[test]
fn media_waits_for_a_second_and_dtls_for_as_long_as_it_takes() {
    let (mut table, now) = table();
    let at = |ms| now + Duration::from_millis(ms);
    table.update(now, ALICE, PathUpdate::Authenticated(path(1))).unwrap();
    for ms in 0..40 {
        table.admit(at(ms), path(1), Rtp, b"\x80");
    }
    table.admit(now, path(1), Dtls, b"\x16");
    // The first eight make room once their time is over.
    assert_eq!(table.admit(at(1_006), path(1), Rtp, b"\x80 late"), Admission::Parked);
    let released = table.update(at(1_020), ALICE, PathUpdate::Validated(path(1))).unwrap();
    let times: Vec<_> = released.iter().map(|parked| parked.received_at).collect();
    let waited = (21..32).map(at).chain([now, at(1_006)]);
    assert_eq!(times, waited.collect::<Vec<_>>());
    let expected = PathStats {
        parked: 34,
        released: 13,
        park_overflow: 8,
        unvalidated: 21,
        ..PathStats::default()
    };
    assert_eq!(stats(&table), expected);
}

#[test]
fn media_that_waits_is_gone_after_its_second_and_dtls_stays() {
    let (mut table, now) = table();
    let at = |ms| now + Duration::from_millis(ms);
    table.update(now, ALICE, PathUpdate::Authenticated(path(1))).unwrap();
    assert_eq!(table.poll_timeout(), None);
    for ms in [0, 400] {
        table.admit(at(ms), path(1), Rtp, b"\x80");
        table.admit(at(ms), path(1), Dtls, b"\x16");
    }
    let due = |table: &PathTable| table.poll_timeout().map(|(at, _)| at);
    let waiting = |table: &PathTable| table.get(ALICE).unwrap().parked.len();
    for (ms, next, kept) in [(999, Some(1_000), 4), (1_000, Some(1_400), 3), (1_400, None, 2)] {
        table.handle_timeout(at(ms));
        assert_eq!((due(&table), waiting(&table)), (next.map(at), kept), "at {ms} ms");
    }
    let released = table.update(at(9_000), ALICE, PathUpdate::Validated(path(1))).unwrap();
    assert_eq!(released.len(), 2);
    assert_eq!(table.get(ALICE).unwrap().parked.capacity(), 0);
    let expected = PathStats { parked: 4, released: 2, unvalidated: 2, ..PathStats::default() };
    assert_eq!(stats(&table), expected);
}

#[test]
fn sending_follows_the_selected_path_then_the_one_validated_last() {
    let (mut table, now) = table();
    assert_eq!(table.outgoing(now, ALICE, None, b"x"), None);
    let update = |table: &mut PathTable, update| {
        table.update(now, ALICE, update).map(|_| table.sending_path(ALICE))
    };
    assert_eq!(update(&mut table, PathUpdate::Authenticated(path(1))), Ok(None));
    let refused = Err(PathError::NotValidated(path(1)));
    assert_eq!(update(&mut table, PathUpdate::Selected(path(1))), refused);
    assert_eq!(update(&mut table, PathUpdate::Validated(path(1))), Ok(Some(path(1))));
    assert_eq!(update(&mut table, PathUpdate::Validated(path(2))), Ok(Some(path(2))));
    assert_eq!(update(&mut table, PathUpdate::Selected(path(1))), Ok(Some(path(1))));
    assert_eq!(update(&mut table, PathUpdate::Lost(path(1))), Ok(Some(path(2))));
    assert_eq!(update(&mut table, PathUpdate::SendingSuspended), Ok(None));
    assert_eq!(table.outgoing(now, ALICE, None, b"x"), None);
    assert_eq!(table.outgoing(now, ALICE, Some(path(9)), b"x"), Some(path(9)));
    assert_eq!(update(&mut table, PathUpdate::Selected(path(2))), Ok(Some(path(2))));
    let expected = PathStats { no_path: 1, suspended: 1, ..PathStats::default() };
    assert_eq!(stats(&table), expected);
}

#[test]
fn a_lost_path_that_is_validated_again_stays() {
    let (mut table, now) = table();
    for update in [PathUpdate::Validated, PathUpdate::Lost, PathUpdate::Validated] {
        table.update(now, ALICE, update(path(1))).unwrap();
    }
    assert_eq!(table.poll_timeout().unwrap().0, now + GRACE);
    table.handle_timeout(now + GRACE);
    assert_eq!(table.poll_timeout(), None);
    assert_eq!(table.standing(now + GRACE, path(1)), Some(Standing::Validated));
    assert_eq!(table.route(now + GRACE, path(1)), Some(ALICE));
}

#[test]
fn only_sockets_of_the_connection_count() {
    let (mut table, now) = table();
    let bob = ConnectionId { slot: 1, generation: 0 };
    table.attach(bob).unwrap();
    let refused = Err(PathError::ForeignSocket(SOCKET));
    assert_eq!(table.update(now, bob, PathUpdate::Validated(path(1))), refused);
    assert_eq!(table.outgoing(now, bob, Some(path(1)), b"x"), None);
    assert_eq!(table.stats(bob).unwrap().foreign_socket, 1);
    let stale = Path::plain(SocketId { generation: 4, ..SOCKET }, path(1).remote);
    assert_eq!(table.admit(now, stale, Stun, b"x"), Admission::Dropped);
    assert_eq!(table.admit(now, path(1), Unknown, b"x"), Admission::Dropped);
    assert_eq!((table.orphaned(), stats(&table).unknown), (1, 1));
}

#[test]
fn a_generation_that_is_gone_can_do_nothing() {
    let (mut table, now) = table();
    table.update(now, ALICE, PathUpdate::Validated(path(1))).unwrap();
    assert_eq!(table.attach(ALICE), Err(PathError::SlotTaken(ALICE)));
    assert_eq!(table.detach(ALICE), [SOCKET]);
    assert_eq!(table.detach(ALICE), []);
    assert_eq!(table.attach(ALICE), Err(PathError::SlotTaken(ALICE)));
    let next = ConnectionId { generation: 1, ..ALICE };
    table.attach(next).unwrap();
    let unknown = PathError::UnknownConnection(ALICE);
    assert_eq!(table.update(now, ALICE, PathUpdate::Validated(path(1))), Err(unknown));
    assert_eq!(table.bound(ALICE, SOCKET, path(1).remote), Err(unknown));
    assert_eq!(table.route(now, path(1)), None);
    assert_eq!(table.sending_path(next), None);
}

#[test]
fn a_socket_takes_its_paths_along() {
    let (mut table, now) = table();
    let other = SocketId { slot: 0, generation: 0 };
    table.bound(ALICE, other, ([10, 0, 0, 1], 2).into()).unwrap();
    let beside = Path::plain(other, path(1).remote);
    for path in [beside, path(1)] {
        table.update(now, ALICE, PathUpdate::Validated(path)).unwrap();
        table.update(now, ALICE, PathUpdate::Selected(path)).unwrap();
    }
    assert_eq!(table.unbound(SOCKET), [ALICE]);
    assert_eq!(table.unbound(SOCKET), []);
    assert_eq!(table.sending_path(ALICE), Some(beside));
    assert_eq!(table.detach(ALICE), [other]);
}

#[test]
fn paths_are_bounded_and_a_validated_one_displaces_an_authenticated_one() {
    let (mut table, now) = table();
    for port in 0..MAX_PATHS as u16 {
        table.update(now, ALICE, PathUpdate::Authenticated(path(port))).unwrap();
    }
    let full = Err(PathError::TooManyPaths);
    assert_eq!(table.update(now, ALICE, PathUpdate::Authenticated(path(999))), full);
    assert_eq!(table.update(now, ALICE, PathUpdate::Validated(path(999))), Ok(Vec::new()));
    assert_eq!(table.standing(now, path(0)), None);
    for port in 1..MAX_PATHS as u16 {
        table.update(now, ALICE, PathUpdate::Validated(path(port))).unwrap();
    }
    assert_eq!(table.update(now, ALICE, PathUpdate::Validated(path(1000))), full);
}

mod forks;
mod shared_socket;

/// Random commands, timeouts and datagrams for three connections, some of them stale, never
/// break what the table promises.
#[cfg(feature = "sim")]
#[test]
fn invariants_hold_under_random_operations() {
    let (mut released_in_all, mut taken_in_all) = (0, 0);
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut table, mut now) = (PathTable::new(), Instant::now());
        let mut generations = [0; 3];
        for _ in 0..400 {
            now += Duration::from_millis(rng.u64(0..1500));
            // Each connection has two sockets at most; one id in ten is stale or to come.
            let (slot, second) = (rng.u32(0..3), rng.u32(0..2));
            let off = |rng: &mut fastrand::Rng| u32::from(rng.u8(0..10) == 0);
            let generation = generations[slot as usize] + off(&mut rng);
            let id = ConnectionId { slot, generation };
            let shared = SocketId { slot: 6, generation: 0 };
            let own = SocketId { slot: 2 * slot + second, generation };
            let socket = if rng.bool() { own } else { shared };
            let path = Path::plain(socket, ([10, 0, 0, 2], rng.u16(1..6)).into());
            let update = match rng.u8(0..5) {
                0 => PathUpdate::Authenticated(path),
                1 => PathUpdate::Validated(path),
                2 => PathUpdate::Selected(path),
                3 => PathUpdate::Lost(path),
                _ => PathUpdate::SendingSuspended,
            };
            match rng.u8(0..49) {
                40 if table.socket_is_free(shared) => {
                    table.bound_shared(shared, ([10, 0, 0, 1], 9).into());
                }
                41 => drop(table.release(shared)),
                42 => drop(table.unbind(id, socket)),
                43..=45 => {
                    let fragment = ["abcd", "efgh"][second as usize];
                    let _ = table.join(id, shared, fragment, rng.bool());
                }
                46 | 47 => drop(table.share(id, socket, ["abcd", "efgh"][second as usize])),
                48 => drop(table.claim(now, id, ["peer", "else"][rng.usize(0..2)])),
                0 | 1 => drop(table.attach(id)),
                2 => {
                    table.detach(id);
                    generations[slot as usize] = generation + 1;
                }
                3..=5 if table.socket_is_free(own) => {
                    let _ = table.bound(id, own, ([10, 0, 0, 1], 1).into());
                }
                6 => drop(table.unbound(socket)),
                7 => table.handle_timeout(now),
                8..=20 => {
                    let kind = *rng.choice(&[Stun, Dtls, Rtp, Unknown]).unwrap();
                    let trusted = table.route(now, path);
                    let first = match kind {
                        Rtp => 0x80,
                        _ => 20,
                    };
                    match table.admit(now, path, kind, &[first; 1300]) {
                        Admission::Deliver(_) if kind == Stun => {}
                        Admission::Deliver(owner) => assert_eq!(trusted, Some(owner)),
                        Admission::Parked => {
                            assert!(matches!(kind, Dtls | Rtp) && trusted.is_none());
                        }
                        Admission::Dropped => {}
                    }
                }
                21 => drop(table.outgoing(now, id, rng.bool().then_some(path), b"x")),
                _ => {
                    let updated = table.update(now, id, update);
                    while let Some((loser, lost)) = table.poll_taken() {
                        assert_eq!(lost, path);
                        taken_in_all += 1;
                        let refused = Err(PathError::Taken(path));
                        assert!(loser != id || updated == refused, "{loser:?} {updated:?}");
                    }
                    if let Ok(released) = updated {
                        assert!(released.iter().all(|parked| parked.path == path));
                        released_in_all += released.len();
                    }
                }
            }
            table.check(now);
        }
    }
    assert!(released_in_all > 0, "the operations never got as far as a parked datagram");
    assert!(taken_in_all > 0, "no path was ever taken");
}

#[cfg(feature = "sim")]
impl PathTable {
    fn socket_is_free(&self, id: SocketId) -> bool {
        self.sockets.get(id.slot as usize).is_none_or(Option::is_none)
    }

    fn check(&self, now: Instant) {
        let mut known = 0;
        for (index, slot) in self.connections.iter().enumerate() {
            let Some(connection) = &slot.connection else { continue };
            let generation = slot.generation.unwrap();
            let id = ConnectionId { slot: u32::try_from(index).unwrap(), generation };
            for path in &connection.paths {
                assert_eq!(self.entry(*path).map(|entry| entry.connection), Some(id));
                assert!(connection.sockets.contains(&path.socket));
            }
            known += connection.paths.len();
            assert!(connection.paths.len() <= MAX_PATHS);
            assert!(connection.requests.len() <= MAX_TRANSACTIONS);
            let (media, dtls): (Vec<_>, Vec<_>) =
                connection.parked.iter().partition(|parked| parked.is_media());
            let bytes =
                |of: &[&Parked]| of.iter().map(|parked| parked.datagram.len()).sum::<usize>();
            assert!(dtls.len() <= MAX_PARKED && bytes(&dtls) <= MAX_PARKED_BYTES);
            assert!(media.len() <= MAX_PARKED_MEDIA && bytes(&media) <= MAX_PARKED_MEDIA_BYTES);
            let alarms = self.waiting.iter().filter(|(_, waiting)| *waiting == id);
            assert_eq!(alarms.count(), usize::from(connection.is_waiting));
            assert!(connection.is_waiting || media.is_empty());
            for parked in &connection.parked {
                assert_eq!(self.standing(now, parked.path), Some(Standing::Authenticated));
            }
            for path in connection.validated.iter().chain(&connection.selected) {
                assert_eq!(self.standing(now, *path), Some(Standing::Validated));
                assert!(connection.paths.contains(path));
            }
            let is_validated = |path: &&Path| {
                self.entry(**path).is_some_and(|entry| entry.standing == Standing::Validated)
            };
            let validated = connection.paths.iter().filter(is_validated);
            assert_eq!(validated.count(), connection.validated.len());
            for socket in &connection.sockets {
                match &self.socket(*socket).unwrap().tenancy {
                    Tenancy::Owned(owner) => assert_eq!(*owner, id),
                    Tenancy::Shared(shared) => {
                        let fragment = connection.username_frag.as_ref().unwrap();
                        assert!(shared.has_user(fragment, id));
                    }
                }
            }
        }
        let sockets = self.sockets.iter().flatten();
        assert_eq!(sockets.clone().map(|socket| socket.paths.len()).sum::<usize>(), known);
        for socket in sockets {
            for ((remote, encapsulation), entry) in &socket.paths {
                let path =
                    Path { socket: socket.id, remote: *remote, encapsulation: *encapsulation };
                if let Standing::Lingering { until } = entry.standing {
                    assert!(self.lingering.contains(&(until, path)));
                }
            }
            if let Tenancy::Shared(shared) = &socket.tenancy {
                assert!(!shared.is_idle(), "an idle socket is closed");
                let requests = self.connections.iter().filter_map(|slot| slot.connection.as_ref());
                let requests = requests.flat_map(|connection| &connection.requests);
                let on_it = requests.filter(|(_, on, _)| *on == socket.id).count();
                assert!(shared.transactions() <= on_it);
            }
        }
        assert!(self.lingering.iter().is_sorted_by_key(|(until, _)| *until));
        assert!(self.waiting.iter().is_sorted_by_key(|(until, _)| *until));
        assert!(self.taken.is_empty(), "all has been told");
    }
}
