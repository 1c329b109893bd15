//! Peers with several addresses each: every address of the one is paired with all of the other.

use std::time::Duration;

use ortc_api::RTCEvent;
use ortc_io::DatagramKind;
use ortc_io::sim::{self, LinkConfig, Network};
use ortc_tests::{Pair, Peer};

const SOON: Duration = Duration::from_secs(20);

fn peer(net: &Network, name: &str, subnet: u8) -> Peer {
    let addresses: Vec<_> = (1..=4).map(|last| [10, 0, subnet, last].into()).collect();
    Peer::on(net.host(name, &addresses), net.random())
}

fn pair(net: &Network) -> Pair {
    Pair { alice: peer(net, "alice", 1), bob: peer(net, "bob", 2) }
}

async fn connect(pair: &mut Pair) {
    pair.signal().await;
    for peer in [&mut pair.alice, &mut pair.bob] {
        peer.until(SOON, |event| *event == RTCEvent::Connected).await;
    }
}

#[test]
fn connects_over_reordering_and_lossy_links_in_300_of_300_seeds() {
    for (loss, from) in [(0.0, 0), (0.02, 100), (0.1, 200)] {
        for seed in from..from + 100 {
            sim::run(seed, |net| async move {
                net.link(LinkConfig {
                    delay: Duration::from_millis(5),
                    jitter: Duration::from_millis(4),
                    ..LinkConfig::lossy(loss)
                });
                connect(&mut pair(&net)).await;
            });
        }
    }
}

/// The load of one connection is what decides how many a server can take at a time: with
/// every pair checked over and over, 1,500 of them had no time for each other's handshakes.
#[test]
fn a_connection_of_16_pairs_costs_its_peers_few_checks() {
    for seed in 0..20 {
        sim::run(seed, |net| async move {
            net.link(LinkConfig { delay: Duration::from_millis(1), ..LinkConfig::default() });
            connect(&mut pair(&net)).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            let is_check = |kind: DatagramKind| kind == DatagramKind::Stun;
            let checks = net.transcript().iter().filter(|entry| is_check(entry.kind)).count();
            assert!((64..=240).contains(&checks), "seed {seed}: {checks} STUN datagrams");
        });
    }
}
