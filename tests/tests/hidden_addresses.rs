//! Connections that signal names of the link in place of addresses, over the system's sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ortc_api::{
    Engine, EngineConfig, RTCConnection, RTCConnectionOptions, RTCEvent, TcpCandidates,
};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn two_connections_find_each_other_by_names_and_no_address_is_signalled() {
    let engine = Engine::new(EngineConfig::new()).unwrap();
    let options = || {
        RTCConnectionOptions::new()
            .with_engine(engine.clone())
            .with_loopback(true)
            .with_mdns_candidates(true)
            .with_tcp_candidates(TcpCandidates::ALL)
    };
    let one = RTCConnection::new(options()).unwrap();
    let two = RTCConnection::new(options()).unwrap();
    let signalled = Arc::new(Mutex::new(Vec::new()));
    for (own, other) in [(&one, &two), (&two, &one)] {
        let (peer, signalled) = (other.downgrade(), Arc::clone(&signalled));
        own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            conn.set_local_candidate(&candidate).unwrap();
            signalled.lock().unwrap().push(serde_json::to_string(&candidate).unwrap());
            if let Some(peer) = peer.upgrade() {
                peer.set_remote_candidate(&candidate).unwrap();
            }
        }));
        own.set_remote_ice(other.local().ice).unwrap();
        own.connect().unwrap();
    }
    let mut events = (one.events(), two.events());
    for events in [&mut events.0, &mut events.1] {
        tokio::time::timeout(LIMIT, async {
            while events.recv().await.expect("open") != RTCEvent::Connected {}
        })
        .await
        .expect("connected in time");
    }
    let signalled = signalled.lock().unwrap().clone();
    assert!(signalled.len() >= 6, "of UDP and TCP, on loopback at least: {signalled:?}");
    for candidate in signalled.iter() {
        let value: serde_json::Value = serde_json::from_str(candidate).unwrap();
        let name = value["connectionAddress"].as_str().unwrap();
        assert!(name.len() == 42 && name.ends_with(".local"), "{candidate}");
        assert!(value.get("relAddress").is_none(), "{candidate}");
        assert!(!candidate.contains("127.0.0.1") && !candidate.contains("::"), "{candidate}");
    }
    let stats = engine.name_stats();
    assert!(stats.names >= 2 && stats.answered > 0 && stats.malformed == 0, "{stats:?}");
    for connection in [one, two] {
        connection.close();
        connection.closed().await;
    }
    tokio::time::timeout(LIMIT, async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while engine.name_stats().names > 0 {
            tick.tick().await;
        }
    })
    .await
    .expect("no name outlives its connection");
}
