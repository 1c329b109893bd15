//! What the stack is known to be harmed by does not reach it, and a genuine peer gets through.

use actix::Actor;
use bytes::Bytes;
use ortc_dtls::{Certificate, DtlsCommand, DtlsConfig, DtlsEvent, DtlsRole};
use ortc_ice::{IceCommand, IceConfig, IceEvent, IgnoredReason, RTCIceConnectionInfo};
use ortc_io::probe::Probe;
use ortc_io::{ConnectionId, DatagramReceived, Path, SocketCommand, SocketId};
use ortc_webrtc_rs::{WebrtcDtlsActor, WebrtcIceActor};

const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };

/// A datagram of the peer.
fn received(datagram: Bytes) -> DatagramReceived {
    DatagramReceived {
        connection: ID,
        path: Path::plain(SocketId { slot: 0, generation: 0 }, "192.0.2.1:9".parse().unwrap()),
        datagram,
        received_at: ortc_io::now(),
    }
}

/// A handshake fragment of one byte, of a message of 30,000: what makes the stack join crumbs by
/// recursion until its stack overflows.
fn crumb(at: u32) -> Bytes {
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0];
    record.extend((at as u16).to_be_bytes());
    record.extend([0, 13, 1]);
    record.extend(&30_000u32.to_be_bytes()[1..]);
    record.extend([0, 0]);
    record.extend(&at.to_be_bytes()[1..]);
    record.extend([0, 0, 1, 0xaa]);
    Bytes::from(record)
}

/// What the other side is sent: its datagrams, in their order.
async fn sent(probe: &mut Probe<SocketCommand>) -> Bytes {
    loop {
        if let SocketCommand::SendControl(control) = probe.next().await {
            return control.datagram;
        }
    }
}

#[actix::test]
async fn thirty_thousand_crumbs_cost_nothing_and_the_handshake_goes_on() {
    let mut sockets = [Probe::<SocketCommand>::new(), Probe::<SocketCommand>::new()];
    let mut owners = [Probe::<DtlsEvent>::new(), Probe::<DtlsEvent>::new()];
    let certificates = [(); 2].map(|()| Certificate::generate().unwrap());
    let actors = [0, 1].map(|n| {
        let (to, owner) = (sockets[n].recipient(), owners[n].weak_recipient());
        let certificate = certificates[n].clone();
        WebrtcDtlsActor::new(DtlsConfig::default(), certificate, ID, to, owner).start()
    });
    for (n, role) in [(1, DtlsRole::Server), (0, DtlsRole::Client)] {
        let expected_sha256 = Some(certificates[1 - n].sha256());
        actors[n].send(DtlsCommand::Start { role, expected_sha256 }).await.unwrap();
    }
    // All but the last, which may be as short as it comes.
    for at in 0..29_999 {
        actors[1].send(received(crumb(at))).await.unwrap();
    }
    let [of_client, of_server] = &mut sockets;
    let [client, server] = &mut owners;
    let connected = async {
        let (mut ends, mut pass) = (0, true);
        while pass {
            tokio::select! {
                datagram = sent(of_client) => actors[1].do_send(received(datagram)),
                datagram = sent(of_server) => actors[0].do_send(received(datagram)),
                event = client.next() => {
                    assert!(matches!(event, DtlsEvent::Connected { .. }), "{event:?}");
                    ends += 1;
                }
                event = server.next() => {
                    assert!(matches!(event, DtlsEvent::Connected { .. }), "{event:?}");
                    ends += 1;
                }
            }
            pass = ends < 2;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), connected).await.expect("in time");
    for actor in actors {
        actor.do_send(DtlsCommand::Close);
    }
}

#[actix::test]
async fn of_the_peers_candidates_a_hundred_are_kept() {
    let (sockets, mut owner) = (Probe::<SocketCommand>::new(), Probe::<IceEvent>::new());
    let config = IceConfig::new(RTCIceConnectionInfo::from_random([1; 32]), 7);
    let actor =
        WebrtcIceActor::new(config, ID, sockets.recipient(), owner.weak_recipient()).start();
    let candidate = |port: u16| {
        format!("candidate:1 1 udp 2130706431 192.0.2.1 {port} typ host").parse().unwrap()
    };
    for port in 1..=100 {
        actor.send(IceCommand::SetRemoteCandidate(candidate(port))).await.unwrap();
    }
    // Known already.
    actor.send(IceCommand::SetRemoteCandidate(candidate(1))).await.unwrap();
    actor.send(IceCommand::SetRemoteCandidate(candidate(101))).await.unwrap();
    let IceEvent::CandidateIgnored { candidate: ignored, reason } = owner.next().await else {
        panic!("the last one is ignored");
    };
    assert_eq!((ignored, reason), (candidate(101), IgnoredReason::TooMany));
    actor.do_send(IceCommand::Close);
}
