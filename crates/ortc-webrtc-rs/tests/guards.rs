//! What the stack is known to be harmed by does not reach it, and a genuine peer gets through.

use actix::Actor;
use ortc_ice::{IceCommand, IceConfig, IceEvent, IgnoredReason, RTCIceConnectionInfo};
use ortc_io::probe::Probe;
use ortc_io::{ConnectionId, SocketCommand};
use ortc_webrtc_rs::WebrtcIceActor;

const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };

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
