//! Actors over the socket actor over the simulated network: everything but the kernel.

use std::net::IpAddr;
use std::time::Duration;

use actix::{Actor, Addr};
use ortc_ice::{IceActor, IceCommand, IceConfig, IceEvent, IceState, RTCIceConnectionInfo};
use ortc_io::probe::Probe;
use ortc_io::sim::{self, Fate, Host, LinkConfig, Network, TranscriptEntry};
use ortc_io::{Attach, ConnectionId, ConsentStats, ReadSocketStats, SocketActor, SocketCommand};

/// One side, with its signalling kept for the test to carry.
struct Peer {
    info: RTCIceConnectionInfo,
    ice: Addr<IceActor>,
    sockets: Addr<SocketActor>,
    events: Probe<IceEvent>,
    connected: bool,
}

const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };

impl Peer {
    fn new(host: &Host, byte: u8) -> Self {
        let connection = CONNECTION;
        let sockets = SocketActor::over(host.io()).start();
        let events = Probe::new();
        let info = RTCIceConnectionInfo::from_random([byte; 32]);
        let config = IceConfig::new(info.clone(), u64::from(byte));
        let port = sockets.clone().recipient();
        let ice = IceActor::new(config, connection, port, events.weak_recipient()).start();
        sockets.do_send(SocketCommand::Attach(Attach {
            connection,
            events: ice.clone().recipient(),
            stun: ice.clone().recipient(),
            dtls: ice.clone().recipient(),
        }));
        ice.do_send(IceCommand::Gather);
        Self { info, ice, sockets, events, connected: false }
    }

    /// What the port has done for consent.
    async fn consent(&self) -> ConsentStats {
        self.sockets.send(ReadSocketStats(CONNECTION)).await.unwrap().0.consent
    }

    /// Carries what this side has said to the other.
    fn signal(&mut self, other: &Addr<IceActor>) {
        for event in self.events.drain() {
            match event {
                IceEvent::CandidateFound(candidate) => {
                    self.ice.do_send(IceCommand::SetLocalCandidate(candidate.clone()));
                    other.do_send(IceCommand::SetRemoteCandidate(candidate));
                }
                IceEvent::StateChanged(state) => self.connected = state == IceState::Connected,
                _ => {}
            }
        }
    }
}

fn hosts(network: &Network) -> (Host, Host) {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let alice = network.host("alice", &[ip("10.0.0.1"), ip("10.0.1.1")]);
    let bob = network.host("bob", &[ip("10.0.0.2")]);
    (alice, bob)
}

async fn connect(alice: &mut Peer, bob: &mut Peer, controlling: [bool; 2]) {
    let command =
        |peer: &Peer, controlling| IceCommand::Connect { remote: peer.info.clone(), controlling };
    alice.ice.do_send(command(bob, controlling[0]));
    bob.ice.do_send(command(alice, controlling[1]));
    while !(alice.connected && bob.connected) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        alice.signal(&bob.ice);
        bob.signal(&alice.ice);
    }
}

/// Connects two hosts over a link and tells how long it took, and what was sent.
fn call(seed: u64, link: LinkConfig, controlling: [bool; 2]) -> (Duration, Vec<TranscriptEntry>) {
    sim::run(seed, |network| async move {
        network.link(link);
        let (alice, bob) = hosts(&network);
        let (mut alice, mut bob) = (Peer::new(&alice, 1), Peer::new(&bob, 2));
        connect(&mut alice, &mut bob, controlling).await;
        (network.elapsed(), network.transcript())
    })
}

#[test]
fn two_hundred_seeds_connect_at_thirty_percent_loss() {
    let link = || LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::lossy(0.3) };
    let times: Vec<_> = (0..200).map(|seed| call(seed, link(), [true, false]).0).collect();
    let slowest = times.iter().max().unwrap();
    assert!(*slowest < Duration::from_secs(4), "{slowest:?}");
}

#[test]
fn the_same_seed_gives_the_same_transcript() {
    let link = || LinkConfig { delay: Duration::from_millis(5), ..LinkConfig::lossy(0.2) };
    let (first, second) = (call(7, link(), [true; 2]), call(7, link(), [true; 2]));
    assert_eq!(first, second);
    assert_ne!(first.1, call(8, link(), [true; 2]).1);
}

#[test]
fn a_partition_of_a_minute_heals() {
    sim::run(3, |network| async move {
        let (a, b) = hosts(&network);
        let (mut alice, mut bob) = (Peer::new(&a, 1), Peer::new(&b, 2));
        connect(&mut alice, &mut bob, [true, false]).await;
        network.partition(&a, &b);
        tokio::time::sleep(Duration::from_secs(60)).await;
        alice.signal(&bob.ice);
        bob.signal(&alice.ice);
        assert_eq!((alice.connected, bob.connected), (false, false));
        network.heal(&a, &b);
        let start = network.elapsed();
        while !(alice.connected && bob.connected) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            alice.signal(&bob.ice);
            bob.signal(&alice.ice);
        }
        let took = network.elapsed() - start;
        assert!(took < Duration::from_secs(4), "{took:?}");
    });
}

#[test]
fn the_port_keeps_the_consent_of_a_settled_connection_and_ice_is_told_of_an_outage() {
    sim::run(5, |network| async move {
        let (a, b) = hosts(&network);
        let (mut alice, mut bob) = (Peer::new(&a, 1), Peer::new(&b, 2));
        connect(&mut alice, &mut bob, [true, false]).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let before = alice.consent().await;
        assert_eq!((before.kept, bob.consent().await.kept), (1, 1));
        tokio::time::sleep(Duration::from_secs(600)).await;
        let after = alice.consent().await;
        let requests = after.requests - before.requests;
        assert!((110..=130).contains(&requests), "{requests}");
        assert_eq!(after.confirmed - before.confirmed, requests);
        network.partition(&a, &b);
        tokio::time::sleep(Duration::from_secs(10)).await;
        for peer in [&mut alice, &mut bob] {
            let stats = peer.consent().await;
            assert_eq!((stats.kept, stats.silent), (0, 1));
            let changes = |event: &IceEvent| matches!(event, IceEvent::StateChanged(_));
            assert_eq!(peer.events.drain().iter().filter(|event| changes(event)).count(), 0);
        }
        network.heal(&a, &b);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!((alice.consent().await.kept, bob.consent().await.kept), (1, 1));
    });
}

#[test]
fn a_withheld_candidate_never_shows_on_the_wire() {
    let (alice_address, transcript) = sim::run(4, |network| async move {
        let (a, b) = hosts(&network);
        let (mut alice, mut bob) = (Peer::new(&a, 1), Peer::new(&b, 2));
        alice.ice.do_send(IceCommand::Connect { remote: bob.info.clone(), controlling: true });
        bob.ice.do_send(IceCommand::Connect { remote: alice.info.clone(), controlling: false });
        let mut withheld = None;
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            for event in alice.events.drain() {
                // Signalled, so that the peer does try it, but never set.
                if let IceEvent::CandidateFound(candidate) = event {
                    bob.ice.do_send(IceCommand::SetRemoteCandidate(candidate.clone()));
                    if candidate.connection_address == "10.0.0.1" {
                        withheld = Some(candidate);
                    } else {
                        alice.ice.do_send(IceCommand::SetLocalCandidate(candidate));
                    }
                } else if event == IceEvent::StateChanged(IceState::Connected) {
                    alice.connected = true;
                }
            }
            bob.signal(&alice.ice);
        }
        assert!(alice.connected && bob.connected);
        let withheld = withheld.expect("it was found");
        let address: std::net::SocketAddr =
            format!("{}:{}", withheld.connection_address, withheld.connection_port)
                .parse()
                .unwrap();
        (address, network.transcript())
    });
    assert!(transcript.iter().any(|entry| entry.to == alice_address), "the peer tried it");
    assert!(transcript.iter().all(|entry| entry.from != alice_address));
    assert!(transcript.iter().any(|entry| entry.fate == Fate::Delivered));
}
