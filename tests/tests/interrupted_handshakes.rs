//! The network goes away in the middle of a DTLS handshake, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ortc_api::{DtlsVersion, RTCConnectionOptions, RTCDisconnectReason, RTCEvent};
use ortc_io::DatagramKind;
use ortc_io::sim::{self, LinkConfig, Network, Verdict};
use ortc_tests::{Pair, Peer, pass};

const SECOND: Duration = Duration::from_secs(1);

fn pair(net: &Network, version: DtlsVersion) -> Pair {
    let peer = |name: &str, last: u8| {
        let host = net.host(name, &[[10, 0, 0, last].into()]);
        let options = RTCConnectionOptions::new().with_dtls_version(version);
        Peer::with_options(host, net.random(), options)
    };
    Pair { alice: peer("alice", 1), bob: peer("bob", 2) }
}

/// Has the network go away for so long, once so many datagrams of DTLS have been sent.
async fn interrupt(net: &Network, pair: &mut Pair, last: u32, outage: Duration) {
    let seen = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&seen);
    net.tap(move |datagram| {
        let is_dtls = datagram.kind == DatagramKind::Dtls;
        if is_dtls && counted.fetch_add(1, Ordering::Relaxed) >= last {
            return Verdict::Drop;
        }
        Verdict::Pass
    });
    pair.signal().await;
    // There may be fewer, and all is well.
    for _ in 0..3_000 {
        if seen.load(Ordering::Relaxed) > last {
            break;
        }
        pass(Duration::from_millis(1)).await;
    }
    net.partition(&pair.alice.host, &pair.bob.host);
    pass(outage).await;
    net.untap();
    net.heal(&pair.alice.host, &pair.bob.host);
}

#[test]
fn both_sides_connect_when_the_network_is_back_however_long_it_was_gone() {
    for version in [DtlsVersion::V12, DtlsVersion::Auto] {
        for last in 0..6 {
            for outage in [12_u32, 25, 45, 90, 600] {
                sim::run(u64::from(last), move |net| async move {
                    net.link(LinkConfig {
                        delay: Duration::from_millis(20),
                        ..LinkConfig::default()
                    });
                    let mut pair = pair(&net, version);
                    interrupt(&net, &mut pair, last, outage * SECOND).await;
                    // ICE has noticed, and finds the path in some seconds; or else DTLS has a
                    // quarter of the outage between two attempts.
                    let limit = (outage / 4 * SECOND).min(10 * SECOND) + 10 * SECOND;
                    for peer in [&mut pair.alice, &mut pair.bob] {
                        let mut connected = false;
                        for seen in &peer.seen {
                            connected = match seen {
                                RTCEvent::Connected => true,
                                RTCEvent::Disconnected(_) => false,
                                _ => connected,
                            };
                        }
                        if !connected {
                            peer.until(limit, |event| *event == RTCEvent::Connected).await;
                        }
                        let is_end = |event: &&RTCEvent| {
                            let reason = RTCDisconnectReason::PathLost;
                            matches!(event, RTCEvent::Disconnected(it) if *it != reason)
                        };
                        assert_eq!(peer.seen.iter().find(is_end), None, "{:?}", peer.seen);
                    }
                    pass(40 * SECOND).await;
                    for peer in [&mut pair.alice, &mut pair.bob] {
                        let mut is_connected = true;
                        while let Ok(Some(event)) =
                            tokio::time::timeout(Duration::ZERO, peer.events.recv()).await
                        {
                            is_connected = match event {
                                RTCEvent::Disconnected(RTCDisconnectReason::PathLost) => false,
                                RTCEvent::Disconnected(reason) => panic!("{outage}: {reason}"),
                                RTCEvent::Connected => true,
                                _ => is_connected,
                            };
                        }
                        assert!(is_connected, "{version:?}, {outage} s");
                    }
                });
            }
        }
    }
}
