use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Context, Handler, Message};

use super::*;
use crate::{DatagramIo, DatagramKind, ReceiveBatch, SendBatch, SendReport, SocketId};

const MS: Duration = Duration::from_millis(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One socket of one host.
struct Peer {
    io: SimIo,
    socket: SocketId,
    local: SocketAddr,
}

impl Peer {
    fn new(host: &Host, address: &str) -> Self {
        let mut io = host.io();
        let (socket, local) = io.bind(at(address)).unwrap();
        Self { io, socket, local }
    }

    fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        let mut batch = SendBatch::new();
        batch.push(self.socket, to, datagram);
        self.io.send(&mut batch).sent == 1
    }

    fn received(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let (mut batch, mut received) = (ReceiveBatch::new(), Vec::new());
        loop {
            let more = self.io.receive(&mut batch, &mut Vec::new());
            for index in 0..batch.len() {
                let (datagram, bytes) = batch.get_mut(index);
                received.push((datagram.remote, bytes.to_vec()));
            }
            batch.clear();
            if !more {
                return received;
            }
        }
    }
}

async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Alice, at 10.0.0.1:1000, and Bob, at 10.0.0.2:2000, each on a host.
fn pair(net: &Network) -> (Peer, Peer) {
    let alice = net.host("alice", &[ip("10.0.0.1")]);
    let bob = net.host("bob", &[ip("10.0.0.2")]);
    (Peer::new(&alice, "10.0.0.1:1000"), Peer::new(&bob, "10.0.0.2:2000"))
}

#[test]
fn a_datagram_takes_the_delay_of_its_link() {
    run(1, |net| async move {
        net.link(LinkConfig { delay: 30 * MS, ..LinkConfig::default() });
        let (mut alice, mut bob) = pair(&net);
        assert!(alice.send(bob.local, b"hello"));
        pass(29 * MS).await;
        assert_eq!(bob.received(), []);
        bob.io.readiness().notified().await;
        assert_eq!(net.elapsed(), 30 * MS);
        assert_eq!(bob.received(), [(alice.local, b"hello".to_vec())]);
        let entry = TranscriptEntry {
            at: Duration::ZERO,
            from: alice.local,
            seen_from: alice.local,
            to: bob.local,
            kind: DatagramKind::Unknown,
            len: 5,
            fate: Fate::Delivered,
            arrived: Some(30 * MS),
        };
        assert_eq!(net.transcript(), [entry]);
        assert_eq!(
            entry.to_string(),
            "       0.000 ms  10.0.0.1:1000 > 10.0.0.2:2000  unknown 5  delivered at 30.000 ms"
        );
    });
}

/// A noisy conversation of 200 datagrams each way.
fn noisy(config: SimConfig) -> Vec<TranscriptEntry> {
    run_with(config, |net| async move {
        net.link(LinkConfig {
            loss: 0.2,
            delay: 10 * MS,
            jitter: 5 * MS,
            reorder: 0.1,
            duplicate: 0.1,
            rate: Some(400_000),
            queue: 3000,
            mtu: 1500,
        });
        let (mut alice, mut bob) = pair(&net);
        for n in 0..200 {
            alice.send(bob.local, &[n; 100]);
            bob.send(alice.local, &[n; 50]);
            pass(MS).await;
            bob.received();
        }
        pass(1000 * MS).await;
        net.transcript()
    })
}

#[test]
fn the_same_seed_gives_the_same_transcript() {
    for seed in 0..20 {
        for perturb in [false, true] {
            let config = SimConfig { perturb, ..SimConfig::new(seed) };
            assert_eq!(noisy(config), noisy(config), "seed {seed}, perturb {perturb}");
        }
    }
    assert_ne!(noisy(SimConfig::new(1)), noisy(SimConfig::new(2)));
}

#[test]
fn everything_that_a_link_can_do_happens() {
    let transcript = noisy(SimConfig::new(3));
    let count = |fate| transcript.iter().filter(|entry| entry.fate == fate).count();
    assert_eq!(count(Fate::InFlight), 0);
    assert!(transcript.len() > 400, "some were duplicated");
    assert!(count(Fate::Lost) > 20, "some were lost");
    assert!(count(Fate::QueueFull) > 20, "some found the queue full");
    let arrivals = |from| {
        let of = transcript.iter().filter(move |entry| entry.from == from);
        of.filter_map(|entry| entry.arrived).collect::<Vec<_>>()
    };
    assert!(!arrivals(at("10.0.0.1:1000")).is_sorted(), "some were reordered");
}

#[test]
fn two_hundred_seeds_run_in_one_process() {
    let lost: usize = (0..200)
        .map(|seed| {
            run(seed, |net| async move {
                net.link(LinkConfig::lossy(0.3));
                let (mut alice, mut bob) = pair(&net);
                for _ in 0..10 {
                    alice.send(bob.local, b"x");
                }
                pass(10 * MS).await;
                10 - bob.received().len()
            })
        })
        .sum();
    // 2,000 throws of 0.3: a standard deviation of 20.
    assert!((500..700).contains(&lost), "{lost} of 2,000 were lost");
}

#[test]
fn jitter_keeps_order_unless_told_otherwise() {
    run(5, |net| async move {
        net.link(LinkConfig { jitter: 50 * MS, ..LinkConfig::default() });
        let (mut alice, mut bob) = pair(&net);
        for n in 0..100 {
            alice.send(bob.local, &[n]);
            pass(MS).await;
        }
        pass(100 * MS).await;
        let received: Vec<u8> = bob.received().into_iter().map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(received, (0..100).collect::<Vec<u8>>());
    });
}

#[test]
fn a_rate_spaces_datagrams_and_its_queue_has_an_end() {
    run(5, |net| async move {
        // A datagram of 1,000 bytes takes 8 ms; three may wait.
        let slow = LinkConfig {
            rate: Some(1_000_000),
            queue: 3000,
            delay: Duration::ZERO,
            ..LinkConfig::default()
        };
        net.link(slow);
        let (mut alice, bob) = pair(&net);
        for _ in 0..5 {
            alice.send(bob.local, &[0; 1000]);
        }
        pass(100 * MS).await;
        let outcome: Vec<_> = net.transcript().iter().map(|e| (e.fate, e.arrived)).collect();
        assert_eq!(
            outcome,
            [
                (Fate::Delivered, Some(8 * MS)),
                (Fate::Delivered, Some(16 * MS)),
                (Fate::Delivered, Some(24 * MS)),
                (Fate::QueueFull, None),
                (Fate::QueueFull, None),
            ]
        );
    });
}

#[test]
fn links_mtus_partitions_and_directions_are_told_apart() {
    run(5, |net| async move {
        let alice = net.host("alice", &[ip("10.0.0.1")]);
        let bob = net.host("bob", &[ip("10.0.0.2")]);
        let (mut a, mut b) = (Peer::new(&alice, "10.0.0.1:1000"), Peer::new(&bob, "10.0.0.2:2000"));
        net.link_from(&alice, &bob, LinkConfig::lossy(1.0));
        a.send(b.local, b"lost");
        b.send(a.local, b"back");
        net.link_from(&alice, &bob, LinkConfig { mtu: 128, ..LinkConfig::default() });
        a.send(b.local, &[0; 100]);
        a.send(b.local, &[0; 101]);
        pass(5 * MS).await;
        net.partition(&alice, &bob);
        b.send(a.local, b"parted");
        net.heal(&alice, &bob);
        b.send(a.local, b"healed");
        pass(5 * MS).await;
        let fates: Vec<_> = net.transcript().iter().map(|entry| entry.fate).collect();
        let [delivered, lost] = [Fate::Delivered, Fate::Lost];
        assert_eq!(
            fates,
            [lost, delivered, delivered, Fate::TooLong, Fate::Partitioned, delivered]
        );
    });
}

#[test]
fn binding_follows_the_addresses_and_ports_of_the_host() {
    use std::io::ErrorKind;

    run(5, |net| async move {
        let alice = net.host("alice", &[ip("10.0.0.1"), ip("fd00::1")]);
        let (mut one, mut two) = (alice.io(), alice.io());
        let bind = |io: &mut SimIo, address: &str| {
            io.bind(at(address)).map(|(_, local)| local.to_string()).map_err(|e| e.kind())
        };
        assert_eq!(bind(&mut one, "10.0.0.2:0"), Err(ErrorKind::AddrNotAvailable));
        assert_eq!(bind(&mut one, "10.0.0.1:0"), Ok("10.0.0.1:49152".into()));
        assert_eq!(bind(&mut two, "10.0.0.1:0"), Ok("10.0.0.1:49153".into()));
        assert_eq!(bind(&mut two, "10.0.0.1:49152"), Err(ErrorKind::AddrInUse));
        assert_eq!(bind(&mut two, "0.0.0.0:49152"), Err(ErrorKind::AddrInUse));
        assert_eq!(bind(&mut two, "[fd00::1]:49152"), Ok("[fd00::1]:49152".into()));
        assert_eq!(bind(&mut two, "127.0.0.1:49152"), Ok("127.0.0.1:49152".into()));
        drop(one);
        assert_eq!(bind(&mut two, "10.0.0.1:49152"), Ok("10.0.0.1:49152".into()));
        let names: Vec<_> =
            two.interfaces().unwrap().iter().map(|i| format!("{} {}", i.name, i.address)).collect();
        assert_eq!(names, ["lo 127.0.0.1", "lo ::1", "eth0 10.0.0.1", "eth1 fd00::1"]);
    });
}

#[test]
fn a_closed_socket_hears_nothing_and_its_slot_has_a_new_generation() {
    run(5, |net| async move {
        let (mut alice, mut bob) = pair(&net);
        alice.send(bob.local, b"to the old one");
        pass(5 * MS).await;
        bob.io.close(bob.socket);
        alice.send(bob.local, b"to nobody");
        pass(5 * MS).await;
        let (socket, local) = bob.io.bind(bob.local).unwrap();
        assert_eq!(local, bob.local);
        assert_eq!((socket.slot, socket.generation), (0, 1));
        assert_eq!(bob.received(), []);
        assert!(!bob.send(alice.local, b"from the old one"));
        let fates: Vec<_> = net.transcript().iter().map(|entry| entry.fate).collect();
        assert_eq!(fates, [Fate::Delivered, Fate::Unheard]);
    });
}

#[test]
fn an_address_that_is_down_sends_and_receives_nothing() {
    run(5, |net| async move {
        let wifi = ip("10.0.0.9");
        let alice = net.host("alice", &[ip("10.0.0.1"), wifi]);
        let bob = net.host("bob", &[ip("10.0.0.2")]);
        let (mut a, mut b) = (Peer::new(&alice, "10.0.0.9:1000"), Peer::new(&bob, "10.0.0.2:2000"));
        alice.set_up(wifi, false);
        assert_eq!(alice.addresses(), [ip("10.0.0.1")]);
        assert!(!a.send(b.local, b"out"));
        assert!(b.send(a.local, b"in"));
        pass(5 * MS).await;
        alice.set_up(wifi, true);
        assert!(b.send(a.local, b"again"));
        pass(5 * MS).await;
        assert_eq!(a.received(), [(b.local, b"again".to_vec())]);
    });
}

#[test]
fn what_a_suspended_host_hears_and_says_waits_until_it_is_resumed() {
    run(5, |net| async move {
        let host = net.host("alice", &[ip("10.0.0.1")]);
        let other = net.host("bob", &[ip("10.0.0.2")]);
        let (mut a, mut b) =
            (Peer::new(&host, "10.0.0.1:1000"), Peer::new(&other, "10.0.0.2:2000"));
        host.suspend();
        assert!(a.send(b.local, b"out"));
        assert!(b.send(a.local, b"in"));
        pass(50 * MS).await;
        assert_eq!((a.received(), b.received()), (vec![], vec![]));
        host.resume();
        a.io.readiness().notified().await;
        assert_eq!((net.elapsed(), a.received()), (50 * MS, vec![(b.local, b"in".to_vec())]));
        pass(2 * MS).await;
        assert_eq!(b.received(), [(a.local, b"out".to_vec())]);
        // What it says has an end, as has what it hears.
        host.suspend();
        let taken = (0..300).filter(|_| a.send(b.local, &[0; 1000])).count();
        assert_eq!(taken, 212);
        host.resume();
        pass(2 * MS).await;
        assert!(b.received().len() > 100);
    });
}

#[test]
fn after_a_jump_what_was_due_meanwhile_is_late() {
    run(5, |net| async move {
        let (mut alice, mut bob) = pair(&net);
        alice.send(bob.local, b"on its way");
        let timer = tokio::spawn(pass(10 * MS));
        // The timer is set.
        tokio::task::yield_now().await;
        net.jump(1_000 * MS).await;
        timer.await.unwrap();
        bob.io.readiness().notified().await;
        assert_eq!(net.elapsed(), 1_000 * MS);
        assert_eq!(bob.received().len(), 1);
    });
}

#[test]
fn a_full_receive_buffer_drops() {
    run(5, |net| async move {
        let (mut alice, mut bob) = pair(&net);
        for _ in 0..300 {
            alice.send(bob.local, &[0; 1000]);
        }
        pass(5 * MS).await;
        let count = |fate| net.transcript().iter().filter(|entry| entry.fate == fate).count();
        assert_eq!(bob.received().len(), count(Fate::Delivered));
        assert_eq!((count(Fate::Delivered), count(Fate::BufferFull)), (169, 131));
    });
}

/// Who of a known address, another port of it, and another address gets in to a socket that
/// has sent to the known address alone; and whether a second destination sees the same port.
fn nat_lets_in(kind: NatKind) -> ([bool; 3], bool) {
    run(9, move |net| async move {
        let nat = net.nat("nat", kind, ip("192.0.2.1"));
        let inner = nat.host("inner", &[ip("10.0.0.1")]);
        let server = net.host("server", &[ip("198.51.100.1"), ip("198.51.100.2")]);
        let mut peer = Peer::new(&inner, "10.0.0.1:1000");
        let mut known = Peer::new(&server, "198.51.100.1:1");
        let mut other_port = Peer::new(&server, "198.51.100.1:2");
        let mut other_address = Peer::new(&server, "198.51.100.2:1");
        peer.send(known.local, b"out");
        pass(5 * MS).await;
        let seen = known.received()[0].0;
        assert_eq!(seen.ip(), ip("192.0.2.1"));
        let mut admitted = [false; 3];
        for (index, from) in
            [&mut known, &mut other_port, &mut other_address].into_iter().enumerate()
        {
            from.send(seen, b"in");
            pass(5 * MS).await;
            admitted[index] = !peer.received().is_empty();
        }
        peer.send(other_address.local, b"out");
        pass(5 * MS).await;
        (admitted, other_address.received()[0].0 == seen)
    })
}

#[test]
fn nats_map_and_filter_by_their_kind() {
    assert_eq!(nat_lets_in(NatKind::FullCone), ([true, true, true], true));
    assert_eq!(nat_lets_in(NatKind::AddressRestricted), ([true, true, false], true));
    assert_eq!(nat_lets_in(NatKind::PortRestricted), ([true, false, false], true));
    assert_eq!(nat_lets_in(NatKind::Symmetric), ([true, false, false], false));
}

#[test]
fn nat_mappings_expire_hairpins_are_optional_and_nats_nest() {
    run(9, |net| async move {
        let carrier = net.nat("carrier", NatKind::FullCone, ip("192.0.2.1"));
        let home = carrier.nat("home", NatKind::FullCone, ip("100.64.0.1"));
        let inner = home.host("inner", &[ip("10.0.0.1")]);
        let neighbour = home.host("neighbour", &[ip("10.0.0.2")]);
        let server = net.host("server", &[ip("198.51.100.1")]);
        let mut peer = Peer::new(&inner, "10.0.0.1:1000");
        let mut beside = Peer::new(&neighbour, "10.0.0.2:1000");
        let mut outside = Peer::new(&server, "198.51.100.1:1");

        peer.send(outside.local, b"out");
        pass(5 * MS).await;
        let seen = outside.received()[0].0;
        outside.send(seen, b"in");
        pass(5 * MS).await;
        assert_eq!(peer.received(), [(outside.local, b"in".to_vec())]);

        beside.send(seen, b"hairpin");
        pass(5 * MS).await;
        assert_eq!(peer.received(), []);
        carrier.set_hairpinning(true);
        beside.send(seen, b"hairpin");
        pass(5 * MS).await;
        assert_eq!(peer.received().len(), 1);

        carrier.set_timeout(10_000 * MS);
        pass(11_000 * MS).await;
        outside.send(seen, b"late");
        pass(5 * MS).await;
        assert_eq!(peer.received(), []);
        assert_eq!(net.transcript().last().unwrap().fate, Fate::Filtered);
    });
}

#[test]
fn private_addresses_may_be_the_same_in_two_places() {
    run(9, |net| async move {
        let [left, right] =
            [("left", "192.0.2.1"), ("right", "192.0.2.2")].map(|(name, public)| {
                net.nat(name, NatKind::FullCone, ip(public)).host(name, &[ip("10.0.0.1")])
            });
        let mut a = Peer::new(&left, "10.0.0.1:1");
        let mut b = Peer::new(&right, "10.0.0.1:1");
        a.send(at("192.0.2.2:20000"), b"nobody there yet");
        pass(5 * MS).await;
        b.send(at("192.0.2.1:20000"), b"hello");
        pass(5 * MS).await;
        assert_eq!(a.received(), [(at("192.0.2.2:20000"), b"hello".to_vec())]);
        assert_eq!(b.received(), []);
    });
}

#[test]
fn a_tap_sees_stops_changes_and_replays() {
    run(9, |net| async move {
        let (mut alice, mut bob) = pair(&net);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, wire) = (Arc::clone(&seen), net.clone());
        net.tap(move |datagram| {
            log.lock().unwrap().push((datagram.kind, datagram.bytes.to_vec()));
            match datagram.bytes {
                b"stop" => Verdict::Drop,
                b"change" => Verdict::Replace(b"changed".to_vec()),
                b"twice" => {
                    wire.inject(at("203.0.113.9:9"), datagram.to, b"forged");
                    Verdict::Pass
                }
                _ => Verdict::Pass,
            }
        });
        for datagram in [&b"stop"[..], b"change", b"twice"] {
            assert!(alice.send(bob.local, datagram));
        }
        pass(5 * MS).await;
        assert_eq!(
            bob.received(),
            [
                (at("203.0.113.9:9"), b"forged".to_vec()),
                (alice.local, b"changed".to_vec()),
                (alice.local, b"twice".to_vec()),
            ]
        );
        assert_eq!(seen.lock().unwrap().len(), 3);
        net.untap();
        alice.send(bob.local, b"stop");
        pass(5 * MS).await;
        assert_eq!(bob.received().len(), 1);
        let fates: Vec<_> = net.transcript().iter().map(|entry| entry.fate).collect();
        assert_eq!(fates[0], Fate::Intercepted);
        assert_eq!(fates[1..], [Fate::Delivered; 4]);
    });
}

#[test]
fn loopback_and_wildcard_sockets_work() {
    run(9, |net| async move {
        let host = net.host("alice", &[ip("10.0.0.1")]);
        let other = net.host("bob", &[ip("10.0.0.2")]);
        let mut wild = Peer::new(&host, "0.0.0.0:1000");
        let mut local = Peer::new(&host, "127.0.0.1:2000");
        let mut remote = Peer::new(&other, "10.0.0.2:3000");
        local.send(at("127.0.0.1:1000"), b"local");
        remote.send(at("10.0.0.1:1000"), b"remote");
        assert!(!local.send(remote.local, b"loopback cannot leave"));
        wild.send(remote.local, b"out");
        pass(5 * MS).await;
        assert_eq!(
            wild.received(),
            [(local.local, b"local".to_vec()), (remote.local, b"remote".to_vec())]
        );
        assert_eq!(remote.received(), [(at("10.0.0.1:1000"), b"out".to_vec())]);
    });
}

#[test]
fn perturbation_reorders_flows_but_never_within_one() {
    let orders: Vec<Vec<u8>> = (0..20)
        .map(|seed| {
            run_with(SimConfig { perturb: true, ..SimConfig::new(seed) }, |net| async move {
                let bob = net.host("bob", &[ip("10.0.0.2")]);
                let mut bob = Peer::new(&bob, "10.0.0.2:2000");
                for n in 3..6 {
                    let address = format!("10.0.0.{n}:1000");
                    let host = net.host("peer", &[at(&address).ip()]);
                    let mut peer = Peer::new(&host, &address);
                    for m in 0..3 {
                        peer.send(bob.local, &[n * 10 + m]);
                    }
                }
                pass(5 * MS).await;
                bob.received().into_iter().map(|(_, bytes)| bytes[0]).collect()
            })
        })
        .collect();
    for order in &orders {
        for n in 3..6 {
            let flow: Vec<u8> = order.iter().copied().filter(|x| x / 10 == n).collect();
            assert_eq!(flow, [n * 10, n * 10 + 1, n * 10 + 2]);
        }
    }
    assert!(orders.iter().any(|order| *order != orders[0]));
}

struct Echo;

#[derive(Message)]
#[rtype(result = "Duration")]
struct Ask;

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Ask> for Echo {
    type Result = actix::ResponseFuture<Duration>;

    fn handle(&mut self, Ask: Ask, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async {
            let asked = crate::now();
            pass(3_000_000 * MS).await;
            crate::now() - asked
        })
    }
}

#[test]
fn actors_run_in_virtual_time() {
    let started = std::time::Instant::now();
    let waited = run(9, |_| async { Echo.start().send(Ask).await.unwrap() });
    assert_eq!(waited, 3_000_000 * MS);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
#[should_panic(expected = "seed 9: the scenario was not done after 3600s")]
fn a_scenario_that_hangs_is_ended() {
    run(9, |_| std::future::pending::<()>());
}

#[test]
fn a_run_leaves_nothing_behind() {
    struct Flag(Arc<Mutex<bool>>);
    impl Drop for Flag {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = true;
        }
    }
    let [task, tap] = [(); 2].map(|()| Arc::new(Mutex::new(false)));
    let (in_task, in_tap) = (Flag(Arc::clone(&task)), Flag(Arc::clone(&tap)));
    run(9, |net| async move {
        actix_rt::spawn(async move {
            let _held = in_task;
            std::future::pending::<()>().await;
        });
        let wire = net.clone();
        net.tap(move |_| {
            let _held = (&in_tap, &wire);
            Verdict::Pass
        });
        tokio::task::yield_now().await;
    });
    assert_eq!((*task.lock().unwrap(), *tap.lock().unwrap()), (true, true));
}

#[test]
fn the_transcript_has_a_limit_and_counts_beyond_it() {
    let config = SimConfig { transcript_limit: 2, ..SimConfig::new(1) };
    let outcome = run_with(config, |net| async move {
        let (mut alice, bob) = pair(&net);
        for _ in 0..5 {
            alice.send(bob.local, b"x");
        }
        (net.transcript().len(), net.unrecorded())
    });
    assert_eq!(outcome, (2, 3));
}

#[test]
fn a_host_that_refuses_to_send_or_to_bind_and_whose_sockets_break() {
    run(9, |net| async move {
        let host = net.host("alice", &[ip("10.0.0.1")]);
        let _bob = net.host("bob", &[ip("10.0.0.2")]);
        let mut alice = Peer::new(&host, "10.0.0.1:1000");
        host.refuse_sends(true);
        let mut batch = SendBatch::new();
        batch.push(alice.socket, at("10.0.0.2:2000"), b"lost");
        assert_eq!(alice.io.send(&mut batch), SendReport { sent: 0, dropped: 1, calls: 1 });
        host.refuse_sends(false);
        assert!(alice.send(at("10.0.0.2:2000"), b"sent"));
        host.refuse_binds(Some(ErrorKind::Other));
        assert_eq!(alice.io.bind(at("10.0.0.1:0")).unwrap_err().kind(), ErrorKind::Other);
        host.refuse_binds(None);
        let (second, _) = alice.io.bind(at("10.0.0.1:0")).unwrap();
        host.break_sockets(ErrorKind::NetworkDown);
        let mut failed = Vec::new();
        alice.io.receive(&mut ReceiveBatch::new(), &mut failed);
        let failed: Vec<_> = failed.iter().map(|(id, error)| (*id, error.kind())).collect();
        let broken = [alice.socket, second].map(|socket| (socket, ErrorKind::NetworkDown));
        assert_eq!(failed, broken);
    });
}
