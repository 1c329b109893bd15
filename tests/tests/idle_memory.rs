//! What a connection that nobody talks on holds: what only the way there needs is let go of.
//!
//! Under the simulated network everything lives on one thread, so what is allocated there and
//! not freed is what connections hold, both sides of each, to the byte and the same in each run.
//! What the process takes for it is measured by `cargo xtask bench idle`.

mod counting;

use std::time::Duration;

use counting::live;
use ortc_api::{Engine, RTCConnection, RTCConnectionOptions, RTCSocket};
use ortc_io::sim::{self, Host, SimConfig};
use ortc_tests::{Pair, Peer, pass};

const SOON: Duration = Duration::from_secs(10);

/// Longer than pairs are checked, paths linger and transactions are remembered.
const SETTLE: Duration = Duration::from_secs(60);

/// Connections before it is measured: whatever is made once is made by then.
const WARM_UP: usize = 20;
const COUNTED: usize = 100;

fn peer(host: &Host, options: RTCConnectionOptions) -> Peer {
    let conn = RTCConnection::new(options).expect("the engine runs");
    let events = conn.events();
    Peer { host: host.clone(), conn, events, seen: Vec::new() }
}

/// Bytes that both sides of a connection hold, one of them on a port that all share.
fn bytes_of_both_sides() -> isize {
    let config = SimConfig {
        transcript_limit: 0,
        time_limit: Duration::from_secs(60 * 60),
        ..SimConfig::new(1)
    };
    sim::run_with(config, |net| async move {
        let [caller, server] =
            [("caller", 1), ("server", 2)].map(|(name, n)| net.host(name, &[[10, 0, 0, n].into()]));
        let engines = [&caller, &server].map(|host| Engine::simulated(host.io(), net.random()));
        let address = "10.0.0.2:5000".parse().unwrap();
        let port = RTCSocket::bind_each(&engines[1], address).await.unwrap().remove(0);
        let mut open = Vec::with_capacity(WARM_UP + COUNTED);
        let mut before = 0;
        for number in 0..WARM_UP + COUNTED {
            if number == WARM_UP {
                pass(SETTLE).await;
                before = live();
            }
            let own = RTCConnectionOptions::new().with_engine(engines[0].clone());
            let shared = RTCConnectionOptions::new().with_socket(port.clone());
            let mut pair = Pair { alice: peer(&caller, own), bob: peer(&server, shared) };
            pair.connect_within(SOON).await;
            open.push(pair);
        }
        pass(SETTLE).await;
        (live() - before) / COUNTED as isize
    })
}

#[test]
fn an_idle_connection_holds_little_and_always_the_same() {
    /// What it was when this was written, and a tenth more.
    const LIMIT: isize = 57_000;
    let bytes = bytes_of_both_sides();
    assert!(bytes < LIMIT, "{bytes} bytes");
    // As a caught leak would be none: this is what the count is worth.
    assert!(bytes > LIMIT / 2, "{bytes} bytes: the limit is to be lowered");
}
