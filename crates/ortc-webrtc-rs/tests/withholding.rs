//! A candidate that was found and not set takes no part, although the stack itself would use
//! whatever it has.

use actix::Actor;
use ortc_ice::{IceCommand, IceConfig, IceEvent, IgnoredReason, RTCIceConnectionInfo};
use ortc_io::probe::Probe;
use ortc_io::{
    Bind, ConnectionId, InterfaceAddress, InterfaceKind, SocketCommand, SocketEvent, SocketId,
};
use ortc_webrtc_rs::WebrtcIceActor;

const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };

fn interface(address: &str) -> InterfaceAddress {
    InterfaceAddress {
        name: "lo".into(),
        address: address.parse().unwrap(),
        scope_id: 0,
        kind: InterfaceKind::Loopback,
    }
}

#[actix::test]
async fn only_the_socket_of_a_set_candidate_sends() {
    let (mut sockets, mut owner) = (Probe::<SocketCommand>::new(), Probe::<IceEvent>::new());
    let ours = RTCIceConnectionInfo::from_random([1; 32]);
    let config = IceConfig::new(ours, 7).with_loopback(true);
    let actor =
        WebrtcIceActor::new(config, ID, sockets.recipient(), owner.weak_recipient()).start();

    actor.do_send(IceCommand::Gather);
    assert!(matches!(sockets.next().await, SocketCommand::EnumerateInterfaces(ID)));
    let interfaces = vec![interface("127.0.0.1"), interface("127.0.0.2")];
    actor.do_send(SocketEvent::Interfaces(interfaces));
    let mut found = Vec::new();
    for slot in 0..2 {
        let SocketCommand::Bind(Bind { token, address, .. }) = sockets.next().await else {
            panic!("a socket for each address");
        };
        let local = (address.ip(), 5000).into();
        let socket = SocketId { slot, generation: 0 };
        actor.do_send(SocketEvent::Bound { token, socket, local });
        let IceEvent::CandidateFound(candidate) = owner.next().await else { panic!("found") };
        assert_eq!(candidate.connection_address, address.ip().to_string());
        found.push(candidate);
    }
    assert_eq!(owner.next().await, IceEvent::EndOfCandidates);

    let foreign = "candidate:1 1 udp 1 192.0.2.1 9 typ host".parse().unwrap();
    actor.do_send(IceCommand::SetLocalCandidate(foreign));
    let ignored = owner.next().await;
    assert!(matches!(
        ignored,
        IceEvent::CandidateIgnored { reason: IgnoredReason::UnknownLocal, .. }
    ));

    let remote = RTCIceConnectionInfo::from_random([2; 32]);
    actor.do_send(IceCommand::Connect { remote, controlling: true });
    let peer = "candidate:1 1 udp 2130706431 127.0.0.1 6000 typ host".parse().unwrap();
    actor.do_send(IceCommand::SetRemoteCandidate(peer));
    actor.do_send(IceCommand::SetLocalCandidate(found[0].clone()));
    for _ in 0..5 {
        let SocketCommand::SendControl(check) = sockets.next().await else { panic!("a check") };
        let path = check.path.unwrap();
        assert_eq!((path.socket.slot, path.remote), (0, "127.0.0.1:6000".parse().unwrap()));
    }
    actor.do_send(IceCommand::Close);
}
