//! Media may come on every path that was checked, although the stack stays with the first that a
//! controlling peer nominates.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use actix::{Actor, Addr};
use ortc_ice::{IceCommand, IceConfig, IceEvent, RTCIceConnectionInfo};
use ortc_io::probe::Probe;
use ortc_io::{
    Bind, ConnectionId, DatagramReceived, InterfaceAddress, InterfaceKind, Path, PathUpdate,
    SocketCommand, SocketEvent, SocketId,
};
use ortc_webrtc_rs::WebrtcIceActor;

const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const SOCKET: SocketId = SocketId { slot: 0, generation: 0 };

/// An actor with a socket, and what it asks of it.
struct Side {
    actor: Addr<WebrtcIceActor>,
    sockets: Probe<SocketCommand>,
    _owner: Probe<IceEvent>,
    address: SocketAddr,
}

impl Side {
    async fn new(info: &RTCIceConnectionInfo, port: u16) -> Self {
        let (mut sockets, mut owner) = (Probe::<SocketCommand>::new(), Probe::<IceEvent>::new());
        let config = IceConfig::new(info.clone(), 7).with_loopback(true);
        let actor =
            WebrtcIceActor::new(config, ID, sockets.recipient(), owner.weak_recipient()).start();
        actor.do_send(IceCommand::Gather);
        assert!(matches!(sockets.next().await, SocketCommand::EnumerateInterfaces(ID)));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        actor.do_send(SocketEvent::Interfaces(vec![InterfaceAddress {
            name: "lo".into(),
            address: address.ip(),
            scope_id: 0,
            kind: InterfaceKind::Loopback,
        }]));
        let SocketCommand::Bind(Bind { token, .. }) = sockets.next().await else {
            panic!("a socket for the address");
        };
        actor.do_send(SocketEvent::Bound { token, socket: SOCKET, local: address });
        let IceEvent::CandidateFound(candidate) = owner.next().await else { panic!("found") };
        actor.do_send(IceCommand::SetLocalCandidate(candidate));
        Self { actor, sockets, _owner: owner, address }
    }

    fn connect(&self, remote: &RTCIceConnectionInfo, controlling: bool, peers: &[&Self]) {
        for peer in peers {
            let (ip, port) = (peer.address.ip(), peer.address.port());
            let line = format!("candidate:1 1 udp 2130706431 {ip} {port} typ host");
            self.actor.do_send(IceCommand::SetRemoteCandidate(line.parse().unwrap()));
        }
        self.actor.do_send(IceCommand::Connect { remote: remote.clone(), controlling });
    }

    /// Passes a command on to whoever it is for; tells what was validated.
    fn pass_on(&self, command: SocketCommand, peers: &[&Self]) -> Option<SocketAddr> {
        match command {
            SocketCommand::SendControl(sent) => {
                let to = sent.path.expect("a check has its path").remote;
                let peer = peers.iter().find(|peer| peer.address == to).expect("it is known");
                peer.actor.do_send(DatagramReceived {
                    connection: ID,
                    path: Path::plain(SOCKET, self.address),
                    datagram: sent.datagram,
                    received_at: ortc_io::now(),
                });
                None
            }
            SocketCommand::Path(ID, PathUpdate::Validated(path)) => Some(path.remote),
            _ => None,
        }
    }
}

#[actix::test]
async fn each_path_that_a_check_succeeds_on_is_told_of() {
    let [ours, theirs] = [1, 2].map(|seed| RTCIceConnectionInfo::from_random([seed; 32]));
    let mut controlled = Side::new(&ours, 5000).await;
    // Two sockets of one peer, each of which nominates its pair.
    let mut first = Side::new(&theirs, 6000).await;
    let mut second = Side::new(&theirs, 6001).await;
    controlled.connect(&theirs, false, &[&first, &second]);
    first.connect(&ours, true, &[&controlled]);
    second.connect(&ours, true, &[&controlled]);

    let expected = BTreeSet::from([first.address, second.address]);
    let mut validated = BTreeSet::new();
    let all = async {
        while validated != expected {
            tokio::select! {
                command = controlled.sockets.next() => {
                    validated.extend(controlled.pass_on(command, &[&first, &second]));
                }
                command = first.sockets.next() => {
                    first.pass_on(command, &[&controlled]);
                }
                command = second.sockets.next() => {
                    second.pass_on(command, &[&controlled]);
                }
            }
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(30), all).await;
    assert_eq!((all, validated), (Ok(()), expected));
}
