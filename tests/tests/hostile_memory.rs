//! What floods have us keep: bytes that are allocated and not freed, counted.
//!
//! Under the simulated network everything lives on one thread, and so does what this counts. The
//! senders of a flood keep nothing that they have sent.

mod counting;

use std::net::SocketAddr;
use std::time::Duration;

use counting::Held;
use ortc_api::{
    CandidateError, Engine, RTCConnection, RTCConnectionOptions, RTCIceCandidateDescription,
    RTCSocket, RTCTrackDescription, ReceiveTrackError,
};
use ortc_io::sim::{self, Network, SimConfig};
use ortc_tests::attack::{Insider, client_hello, one_byte_fragment, receiver_report, strangers};
use ortc_tests::{Pair, Peer, pass};

const SOON: Duration = Duration::from_secs(10);

const KIB: isize = 1024;

/// What may be in a simulated socket's buffer, in queues and in tables that have grown once.
const IN_TRANSIT: isize = 1024 * KIB;

/// A simulation that does not remember what was on the wire.
fn quiet(seed: u64) -> SimConfig {
    SimConfig { transcript_limit: 0, ..SimConfig::new(seed) }
}

fn run<F: Future<Output = ()>>(seed: u64, scenario: impl FnOnce(Network) -> F) {
    sim::run_with(quiet(seed), scenario);
}

fn peer(engine: &Engine, host: sim::Host, options: RTCConnectionOptions) -> Peer {
    let conn = RTCConnection::new(options.with_engine(engine.clone())).expect("the engine runs");
    let events = conn.events();
    Peer { host, conn, events, seen: Vec::new() }
}

/// Injects so many times what `make` makes, a hundred in a millisecond.
async fn flood(
    net: &Network,
    to: SocketAddr,
    count: u64,
    mut make: impl FnMut(u64) -> (SocketAddr, Vec<u8>),
) {
    for n in 0..count {
        let (from, datagram) = make(n);
        net.inject(from, to, &datagram);
        if n % 100 == 99 {
            pass(Duration::from_millis(1)).await;
        }
    }
    pass(Duration::from_millis(100)).await;
}

#[test]
fn a_hundred_thousand_strangers_leave_nothing() {
    run(1, |net| async move {
        let host = net.host("alice", &[[10, 0, 0, 1].into()]);
        let engine = Engine::simulated(host.io(), 1);
        let port = ([10, 0, 0, 1], 5_000).into();
        let socket = RTCSocket::bind_on(&engine, port).await.expect("a free port");
        let options = RTCConnectionOptions::new().with_socket(socket.clone());
        let mut pair =
            Pair { alice: peer(&engine, host, options), bob: Peer::new(&net, "b", 2, 2) };
        pair.connect_within(SOON).await;
        let mut from = strangers();
        let hello = |n: u64, from: &mut dyn Iterator<Item = SocketAddr>| {
            (from.next().expect("many"), client_hello(n))
        };
        flood(&net, port, 1_000, |n| hello(n, &mut from)).await;
        let held = Held::from_now();
        flood(&net, port, 100_000, |n| hello(n, &mut from)).await;
        let stats = engine.stats().await.expect("the media thread lives");
        assert_eq!(stats.shared.strangers, 101_000);
        assert!(held.most() < IN_TRANSIT, "{} bytes at a time", held.most());
        assert!(held.now() < 4 * KIB, "{} bytes left", held.now());
    });
}

/// Two sides, the second of which gives its keys away, and where they are.
async fn connected(net: &Network) -> (Pair, Engine, Insider, SocketAddr, SocketAddr) {
    let [alice, mallory] = [("alice", 1), ("mallory", 66)]
        .map(|(name, last)| net.host(name, &[[10, 0, 0, last].into()]));
    let engine = Engine::simulated(alice.io(), 1);
    let insider = Insider::default();
    let mut pair = Pair {
        alice: peer(&engine, alice, RTCConnectionOptions::new()),
        bob: Peer::with_transports(mallory, 2, insider.transports()),
    };
    pair.connect_within(SOON).await;
    let [to, from] = [&pair.alice, &pair.bob].map(|side| side.host.bound()[0]);
    (pair, engine, insider, from, to)
}

/// 2 MiB of packets that may belong to a track that is described in a moment, and what tells of
/// 32 tracks; no more, and only for three seconds.
#[test]
fn a_flood_of_tracks_holds_two_mebibytes_for_three_seconds() {
    run(2, |net| async move {
        let (pair, engine, insider, from, to) = connected(&net).await;
        let mut forger = insider.forger();
        let payload = [0x78; 1_100];
        let held = Held::from_now();
        flood(&net, to, 20_000, |n| {
            // Of the forty, eight are too many.
            let ssrc = 1_000 + (n % 40) as u32;
            (from, forger.rtp(ssrc, (n / 40) as u16, &payload))
        })
        .await;
        let most = held.most();
        assert!((1_000 * KIB..2_048 * KIB + IN_TRANSIT + 512 * KIB).contains(&most), "{most}");
        pass(Duration::from_secs(10)).await;
        drop(forger);
        let left = held.now();
        assert!(left < 256 * KIB, "{left} bytes: 512 replay windows, and what was told of");
        let drops = engine.stats().await.expect("the media thread lives").media.receive_drops;
        assert_eq!(drops.unknown_ssrc + drops.too_many_ssrcs + drops.replayed, 20_000, "{drops:?}");
        drop(pair);
    });
}

#[test]
fn a_storm_of_reports_leaves_nothing() {
    run(3, |net| async move {
        let (pair, engine, insider, from, to) = connected(&net).await;
        let mut forger = insider.forger();
        flood(&net, to, 1_000, |_| (from, forger.rtcp(&receiver_report(66)))).await;
        let held = Held::from_now();
        flood(&net, to, 50_000, |_| (from, forger.rtcp(&receiver_report(66)))).await;
        assert!(held.most() < IN_TRANSIT, "{} bytes at a time", held.most());
        assert!(held.now() < 4 * KIB, "{} bytes left", held.now());
        let heard = engine.stats().await.expect("the media thread lives").media.rtcp_received;
        assert!(heard >= 51_000, "{heard}");
        drop(pair);
    });
}

#[test]
fn a_hello_in_many_fragments_holds_what_a_few_do() {
    run(4, |net| async move {
        let (pair, engine, _, from, to) = connected(&net).await;
        let first = Held::from_now();
        flood(&net, to, 1_000, |n| (from, one_byte_fragment(n as u32))).await;
        assert!(first.now() < 128 * KIB, "{} bytes left", first.now());
        let held = Held::from_now();
        flood(&net, to, 29_000, |n| (from, one_byte_fragment(n as u32 + 1_000))).await;
        assert!(held.most() < IN_TRANSIT, "{} bytes at a time", held.most());
        assert!(held.now() < 4 * KIB, "{} bytes left", held.now());
        assert_eq!(engine.stats().await.expect("the media thread lives").connections, 1);
        drop(pair);
    });
}

/// A signalling server, or the peer behind it, that says more than there is to say.
#[test]
fn floods_of_candidates_and_of_tracks_are_errors_beyond_a_bound() {
    run(5, |net| async move {
        let (pair, ..) = connected(&net).await;
        let conn = &pair.alice.conn;
        let held = Held::from_now();
        let mut overloaded = 0;
        for n in 0..20_000_u32 {
            let candidate = candidate(n);
            match conn.set_remote_candidate(&candidate) {
                Ok(()) => {}
                Err(CandidateError::Overloaded) => overloaded += 1,
                Err(other) => panic!("{other}"),
            }
            if n % 5_000 == 4_999 {
                pass(Duration::from_secs(1)).await;
            }
        }
        // 1,024 wait at a time, four times.
        assert_eq!(overloaded, 20_000 - 4 * 1_024);
        assert!(held.most() < 3_072 * KIB, "{} bytes at a time", held.most());
        let mut taken = 0;
        for n in 0..2_000_u32 {
            match conn.receive_track(&track(n)) {
                Ok(_) => taken += 1,
                Err(ReceiveTrackError::TooManyTracks(256)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(taken, 256);
        pass(Duration::from_secs(60)).await;
        // A hundred candidates, and the pairs of ICE that are made of them; 256 tracks.
        assert!(held.now() < 3_072 * KIB, "{} bytes left", held.now());
        let id = conn.receiving_streams();
        assert_eq!(id.len(), 256);
    });
}

fn candidate(n: u32) -> RTCIceCandidateDescription {
    let [_, _, high, low] = n.to_be_bytes();
    let text = format!(
        r#"{{"foundation":"{n}","component":1,"transport":"udp","priority":{},
            "connectionAddress":"198.51.{high}.{low}","connectionPort":9,"type":"host"}}"#,
        n + 1
    );
    serde_json::from_str(&text).expect("a candidate")
}

fn track(n: u32) -> RTCTrackDescription {
    let text = format!(
        r#"{{"kind":"audio","ssrc":"{}","msid":["m{n}"],
            "codecs":[{{"payload-id":96,"name":"opus","clockRate":48000,"numChannels":2}}]}}"#,
        n + 1
    );
    serde_json::from_str(&text).expect("a track")
}
