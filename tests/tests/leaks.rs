//! Nothing is left of a connection that has gone, however it went.
//!
//! Under the simulated network everything lives on one thread, so what is allocated there and
//! not freed is exactly what tasks, actors, sockets, timers and tables have left behind. On
//! real sockets `leaks_on_real_sockets.rs` counts threads and descriptors.

mod counting;

use std::time::Duration;

use counting::live;
use ortc_api::{Engine, RTCConnection, RTCConnectionOptions, RTCEvent, RTCEventKind, RTCSocket};
use ortc_io::sim::{self, Host, LinkConfig, Network, SimConfig};
use ortc_tests::{Pair, Peer, frame, pass};

const SOON: Duration = Duration::from_secs(10);

/// What the tables of an engine may still grow by after the first connections: their capacity
/// doubles now and then. A connection takes some 100 kB, a forgotten actor at least 1 kB.
const SLACK: isize = 64 * 1024;

/// A simulation that does not remember what was on the wire.
fn quiet(seed: u64) -> SimConfig {
    SimConfig {
        transcript_limit: 0,
        time_limit: Duration::from_secs(24 * 60 * 60),
        ..SimConfig::new(seed)
    }
}

/// Two hosts, with an engine each that all their connections share.
struct Hosts {
    hosts: [Host; 2],
    engines: [Engine; 2],
}

impl Hosts {
    fn new(net: &Network) -> Self {
        let hosts =
            [("alice", 1), ("bob", 2)].map(|(name, n)| net.host(name, &[[10, 0, 0, n].into()]));
        let engines = hosts.clone().map(|host| Engine::simulated(host.io(), net.random()));
        Self { hosts, engines }
    }

    fn pair(&self) -> Pair {
        let [alice, bob] = [0, 1].map(|n| self.peer(n));
        Pair { alice, bob }
    }

    /// Sockets that are open on either host.
    fn sockets(&self) -> usize {
        self.hosts.iter().map(|host| host.bound().len()).sum()
    }

    fn peer(&self, n: usize) -> Peer {
        self.peer_with(n, RTCConnectionOptions::new().with_engine(self.engines[n].clone()))
    }

    fn peer_on(&self, n: usize, port: &RTCSocket) -> Peer {
        self.peer_with(n, RTCConnectionOptions::new().with_socket(port.clone()))
    }

    fn peer_with(&self, n: usize, options: RTCConnectionOptions) -> Peer {
        let conn = RTCConnection::new(options).expect("the engine runs");
        let events = conn.events();
        Peer { host: self.hosts[n].clone(), conn, events, seen: Vec::new() }
    }
}

/// Repeats `life` on two engines, and asserts that what lives after `count` of them is what
/// lived after the first tenth.
fn leaves_nothing<F, Fut>(seed: u64, count: usize, life: F)
where
    F: Fn(Pair, usize) -> Fut + 'static,
    Fut: Future<Output = ()>,
{
    sim::run_with(quiet(seed), |net| async move {
        let hosts = Hosts::new(&net);
        let mut after_warm_up = 0;
        for n in 0..count {
            life(hosts.pair(), n).await;
            if n + 1 == count / 10 {
                let open = hosts.pair();
                pass(Duration::from_secs(1)).await;
                assert!(hosts.sockets() >= 2, "what is open is counted");
                drop(open);
                pass(Duration::from_secs(60)).await;
                after_warm_up = live();
            }
        }
        // Timers of minutes, and the grace of replaced paths, have run out by then.
        pass(Duration::from_secs(60)).await;
        assert_not_grown(after_warm_up);
        assert_eq!(hosts.sockets(), 0);
    });
}

fn assert_not_grown(since: isize) {
    let grown = live() - since;
    assert!(grown < SLACK, "{grown} bytes more than after the warm-up");
}

#[test]
fn a_thousand_connections_that_were_closed_leave_nothing() {
    leaves_nothing(1, 500, |mut pair, n| async move {
        let (_, source) = pair.alice.send_audio();
        pair.describe();
        pair.connect_within(SOON).await;
        for n in 0..5 {
            source.send(frame(n)).unwrap();
        }
        pass(Duration::from_millis(100)).await;
        pair.alice.conn.close();
        if n % 2 == 0 {
            // Both at once, and twice.
            pair.bob.conn.close();
            pair.bob.conn.close();
        }
        tokio::time::timeout(SOON, pair.alice.conn.closed()).await.expect("closed");
        tokio::time::timeout(SOON, pair.bob.conn.closed()).await.expect("closed");
    });
}

#[test]
fn connections_that_were_dropped_without_close_leave_nothing() {
    leaves_nothing(2, 200, |mut pair, n| async move {
        let media = pair.alice.send_audio();
        pair.describe();
        pair.connect_within(SOON).await;
        let Pair { alice, bob } = pair;
        if n % 2 == 0 {
            drop((alice, bob));
        } else {
            drop(alice);
            pass(Duration::from_secs(1)).await;
            drop(bob);
        }
        drop(media);
        pass(Duration::from_secs(5)).await;
    });
}

/// All over one port of Alice's, some of them from one port of Bob's as well, so that they take
/// the path from each other.
#[test]
fn three_hundred_connections_over_one_port_leave_nothing() {
    sim::run_with(quiet(8), |net| async move {
        let hosts = Hosts::new(&net);
        let mut ports = Vec::new();
        for (n, engine) in (1..).zip(&hosts.engines) {
            ports.push(RTCSocket::bind_on(engine, ([10, 0, 0, n], 5000).into()).await.unwrap());
        }
        let mut after_warm_up = 0;
        let mut kept = None;
        for n in 0..300 {
            let mut pair = hosts.pair();
            pair.alice = hosts.peer_on(0, &ports[0]);
            if n % 3 == 0 {
                pair.bob = hosts.peer_on(1, &ports[1]);
            }
            let media = pair.alice.send_audio();
            pair.describe();
            pair.connect_within(SOON).await;
            media.1.send(frame(0)).unwrap();
            pass(Duration::from_millis(50)).await;
            if n % 2 == 0 {
                pair.alice.conn.close();
                pair.alice.conn.closed().await;
            }
            // One of before is there while the next one comes.
            kept = (n % 3 == 0).then_some((pair, media));
            if n == 100 {
                kept = None;
                pass(Duration::from_secs(60)).await;
                after_warm_up = live();
            }
        }
        drop(kept);
        pass(Duration::from_secs(60)).await;
        assert_not_grown(after_warm_up);
    });
}

/// Closed or dropped at every few milliseconds of gathering, checks and handshake, over a
/// link that takes 30 ms.
#[test]
fn connections_that_end_in_the_midst_of_the_handshake_leave_nothing() {
    sim::run_with(quiet(3), |net| async move {
        net.link(LinkConfig { delay: Duration::from_millis(30), ..LinkConfig::lossy(0.1) });
        let hosts = Hosts::new(&net);
        let mut after_warm_up = 0;
        for n in 0..300 {
            let mut pair = hosts.pair();
            if n % 5 != 0 {
                pair.signal().await;
            }
            pass(Duration::from_millis(n * 7 % 600)).await;
            match n % 3 {
                0 => drop(pair),
                1 => {
                    pair.alice.conn.close();
                    pair.alice.conn.closed().await;
                }
                _ => {
                    pair.alice.conn.close();
                    pair.bob.conn.close();
                    pair.bob.conn.close();
                    tokio::time::timeout(SOON, pair.bob.conn.closed()).await.expect("closed");
                }
            }
            pass(Duration::from_secs(90)).await;
            if n == 60 {
                after_warm_up = live();
            }
        }
        assert_not_grown(after_warm_up);
        assert_eq!(hosts.sockets(), 0);
    });
}

#[test]
fn tracks_that_come_and_go_leave_nothing() {
    sim::run_with(quiet(4), |net| async move {
        let mut pair = Hosts::new(&net).pair();
        pair.connect_within(SOON).await;
        let mut after_warm_up = 0;
        for n in 0..1000 {
            let (stream, source) = pair.alice.send_audio();
            source.send(frame(0)).unwrap();
            if n % 2 == 0 {
                pass(Duration::from_millis(20)).await;
            }
            pair.alice.conn.remove_stream(&stream);
            pass(Duration::from_millis(20)).await;
            if n == 100 {
                after_warm_up = live();
            }
        }
        assert_not_grown(after_warm_up);
    });
}

#[test]
fn subscribing_over_and_over_leaves_nothing() {
    sim::run_with(quiet(5), |net| async move {
        let peer = Hosts::new(&net).peer(0);
        let mut after_warm_up = 0;
        for n in 0..200_000 {
            drop(peer.conn.events());
            peer.conn.on_connected(Some(|_: &RTCConnection| {}));
            let id = peer.conn.add_event_listener(RTCEventKind::Connected, |_, _| {});
            peer.conn.remove_event_listener(id);
            if n % 100 == 0 {
                pass(Duration::from_millis(1)).await;
            }
            if n == 20_000 {
                after_warm_up = live();
            }
        }
        pass(Duration::from_millis(1)).await;
        assert_not_grown(after_warm_up);
    });
}

#[test]
fn gathering_over_and_over_leaves_nothing() {
    sim::run_with(quiet(6), |net| async move {
        let mut pair = Hosts::new(&net).pair();
        pair.connect_within(SOON).await;
        let mut after_warm_up = 0;
        for n in 0..2000 {
            pair.alice.conn.update().unwrap();
            pass(Duration::from_millis(10)).await;
            if n == 200 {
                after_warm_up = live();
            }
        }
        assert_not_grown(after_warm_up);
    });
}

#[test]
fn events_that_nobody_reads_do_not_pile_up() {
    sim::run_with(quiet(7), |net| async move {
        let mut pair = Hosts::new(&net).pair();
        pair.connect_within(SOON).await;
        let _unread = pair.alice.conn.events();
        let mut after_warm_up = 0;
        for n in 0..60 {
            net.partition(&pair.alice.host, &pair.bob.host);
            pair.bob
                .until(Duration::from_secs(120), |e| matches!(e, RTCEvent::Disconnected(_)))
                .await;
            net.heal(&pair.alice.host, &pair.bob.host);
            pair.bob.until(Duration::from_secs(120), |e| *e == RTCEvent::Connected).await;
            pair.bob.seen.clear();
            if n == 10 {
                after_warm_up = live();
            }
        }
        assert_not_grown(after_warm_up);
    });
}
