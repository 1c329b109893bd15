//! Connections that nobody talks on: their consent is kept on the media thread, and what happens
//! to them is what always did.

use std::time::Duration;

use ortc_api::{Engine, RTCConnection, RTCConnectionOptions, RTCSocket};
use ortc_io::sim::{self, Network, TranscriptEntry};
use ortc_tests::{Pair, Peer, pass};

const SOON: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

/// A server's engine, and pairs of which alice is a peer elsewhere and bob the server's side, all
/// on its one port.
async fn server(net: &Network, peers: u8) -> (Engine, Vec<Pair>) {
    let host = net.host("server", &[[10, 0, 0, 100].into()]);
    let engine = Engine::simulated(host.io(), net.random());
    let address = "10.0.0.100:5000".parse().unwrap();
    let socket = RTCSocket::bind_each(&engine, address).await.unwrap().remove(0);
    let mut pairs = Vec::new();
    for last in 1..=peers {
        let alice = Peer::new(net, &format!("peer {last}"), last, net.random());
        let options = RTCConnectionOptions::new().with_socket(socket.clone());
        let conn = RTCConnection::new(options).unwrap();
        let events = conn.events();
        let bob = Peer { host: host.clone(), conn, events, seen: Vec::new() };
        let mut pair = Pair { alice, bob };
        pair.connect_within(SOON).await;
        pairs.push(pair);
    }
    (engine, pairs)
}

#[test]
fn a_minute_of_silence_reaches_no_actor() {
    sim::run(1, |net| async move {
        let (engine, _pairs) = server(&net, 5).await;
        pass(MINUTE).await;
        let before = engine.stats().await.unwrap();
        assert_eq!(before.consent.kept, 5);
        pass(10 * MINUTE).await;
        let after = engine.stats().await.unwrap();
        // Five connections, 120 requests each way in ten minutes.
        let requests = after.consent.requests - before.consent.requests;
        assert!((550..=650).contains(&requests), "{requests}");
        assert_eq!(after.consent.confirmed - before.consent.confirmed, requests);
        let answered = after.consent.answered - before.consent.answered;
        assert!((550..=650).contains(&answered), "{answered}");
        assert_eq!((after.consent.kept, after.consent.silent, after.consent.forged), (5, 0, 0));
        assert_eq!(after.stale_commands, before.stale_commands);
    });
}

#[test]
fn an_outage_of_one_is_noticed_and_heals_and_the_others_do_not_care() {
    sim::run(2, |net| async move {
        let (engine, mut pairs) = server(&net, 3).await;
        pass(MINUTE).await;
        let pair = &mut pairs[1];
        net.partition(&pair.alice.host, &pair.bob.host);
        pass(Duration::from_secs(12)).await;
        let stats = engine.stats().await.unwrap();
        assert_eq!((stats.consent.kept, stats.consent.silent), (2, 1));
        pass(MINUTE).await;
        net.heal(&pair.alice.host, &pair.bob.host);
        pass(MINUTE).await;
        let stats = engine.stats().await.unwrap();
        assert_eq!((stats.consent.kept, stats.consent.silent), (3, 1), "it has settled again");
        for other in [0, 2] {
            let event = tokio::time::timeout(SOON, pairs[other].bob.events.recv()).await;
            assert!(event.is_err(), "{event:?}");
        }
    });
}

#[test]
fn closing_ends_it_at_once() {
    sim::run(3, |net| async move {
        let (engine, pairs) = server(&net, 2).await;
        pass(MINUTE).await;
        assert_eq!(engine.stats().await.unwrap().consent.kept, 2);
        pairs[0].bob.conn.close();
        pairs[0].bob.conn.closed().await;
        assert_eq!(engine.stats().await.unwrap().consent.kept, 1);
    });
}

#[test]
fn the_same_seed_gives_the_same_transcript() {
    let run = |seed| -> Vec<TranscriptEntry> {
        sim::run(seed, |net| async move {
            let (_engine, _pairs) = server(&net, 3).await;
            pass(2 * MINUTE).await;
            net.transcript()
        })
    };
    let (one, again) = (run(4), run(4));
    assert!(one.len() > 3 * 2 * 2 * 15, "only {} datagrams", one.len());
    assert_eq!(one, again);
}
