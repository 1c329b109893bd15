//! Amplification in bytes, over sockets of the system.
//!
//! Somebody has the credentials of a connection, from whoever runs the signalling say, and an
//! address that is not his: what he has sent there is what comes back to it. Here the address is
//! a socket that passes on whatever a genuine peer sends, so all of it is authentic, and none of
//! what comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ortc_api::{
    Engine, EngineConfig, RTCConnection, RTCConnectionOptions, RTCEvent,
    RTCIceCandidateDescription, RTCSocket,
};
use ortc_tests::attack::client_hello;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

const LIMIT: Duration = Duration::from_secs(20);

/// How long it goes on: through all the retransmissions of a check.
const FOR: Duration = Duration::from_secs(6);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn first_candidate(conn: &RTCConnection) -> RTCIceCandidateDescription {
    let mut events = conn.events();
    let found = async {
        loop {
            if let Some(RTCEvent::Candidate(candidate)) = events.recv().await
                && candidate.connection_address == "127.0.0.1"
            {
                return candidate;
            }
        }
    };
    timeout(LIMIT, found).await.expect("a candidate is found")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_never_answers_gets_at_most_three_times_what_came_from_it() {
    let engine = Engine::new(EngineConfig::new()).unwrap();
    let port = RTCSocket::bind_on(&engine, LOOPBACK).await.unwrap();
    let options = RTCConnectionOptions::new().with_loopback(true);
    let alice = RTCConnection::new(options.clone().with_socket(port.clone())).unwrap();
    let mallory = RTCConnection::new(options).unwrap();
    let alice_at = port.local_addr().unwrap();
    let forged = UdpSocket::bind(LOOPBACK).await.unwrap();
    // Alice is never told of the address; Mallory takes it for hers.
    let ours = first_candidate(&alice).await;
    alice.set_local_candidate(&ours).unwrap();
    mallory.set_local_candidate(&first_candidate(&mallory).await).unwrap();
    let mut disguised = ours.clone();
    disguised.connection_port = forged.local_addr().unwrap().port();
    mallory.set_remote_candidate(&disguised).unwrap();
    alice.set_remote_ice(mallory.local().ice).unwrap();
    mallory.set_remote_ice(alice.local().ice).unwrap();
    alice.connect().unwrap();
    mallory.connect().unwrap();

    let (mut there, mut back, mut checks, mut handshakes) = (0, 0, 0, 0);
    let mut buffer = [0; 2_048];
    let end = Instant::now() + FOR;
    while let Ok(received) = timeout_at(end, forged.recv_from(&mut buffer)).await {
        let (len, from) = received.unwrap();
        if from == alice_at {
            back += len;
            handshakes += u64::from((20..64).contains(&buffer[0]));
            continue;
        }
        checks += 1;
        // One in five gets there, and hellos beside it, which do not count.
        if checks % 5 == 1 {
            forged.send_to(&buffer[..len], alice_at).await.unwrap();
            there += len;
            for n in 0..20 {
                forged.send_to(&client_hello(n), alice_at).await.unwrap();
            }
        }
    }
    assert!(there > 0 && back > 0, "{there} bytes there, {back} back");
    assert!(back <= 3 * there, "{there} bytes there, {back} back");
    assert_eq!(handshakes, 0);
    let stats = engine.stats().await.unwrap();
    assert!(stats.paths.parked <= 8 && stats.paths.park_overflow > 0, "{:?}", stats.paths);
    alice.close();
    mallory.close();
}
