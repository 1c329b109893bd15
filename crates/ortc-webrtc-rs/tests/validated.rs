//! Each path on which a check has succeeded is told of, although the stack stays with the first that
//! a controlling peer nominates; and none on which an answer is forged.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use actix::{Actor, Addr};
use bytes::Bytes;
use ortc_ice::{IceCommand, IceConfig, IceEvent, RTCIceConnectionInfo};
use ortc_io::probe::Probe;
use ortc_io::{
    Bind, ConnectionId, DatagramReceived, InterfaceAddress, InterfaceKind, Path, PathUpdate,
    SendControl, SocketCommand, SocketEvent, SocketId,
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

    fn receive(&self, from: SocketAddr, datagram: Bytes) {
        self.actor.do_send(DatagramReceived {
            connection: ID,
            path: Path::plain(SOCKET, from),
            datagram,
            received_at: ortc_io::now(),
        });
    }

    /// Passes a command on to whoever of these it is for; tells what was validated.
    fn pass_on(&self, command: SocketCommand, peers: &[&Self]) -> Option<SocketAddr> {
        match command {
            SocketCommand::SendControl(sent) => {
                let to = sent.path.expect("a check has its path").remote;
                if let Some(peer) = peers.iter().find(|peer| peer.address == to) {
                    peer.receive(self.address, sent.datagram);
                }
                None
            }
            SocketCommand::Path(ID, PathUpdate::Validated(path)) => Some(path.remote),
            _ => None,
        }
    }
}

/// A controlled side, and two sockets of its peer, each of which nominates its pair.
async fn sides() -> (Side, Side, Side) {
    let [ours, theirs] = [1, 2].map(|seed| RTCIceConnectionInfo::from_random([seed; 32]));
    let controlled = Side::new(&ours, 5000).await;
    let (one, other) = (Side::new(&theirs, 6000).await, Side::new(&theirs, 6001).await);
    controlled.connect(&theirs, false, &[&one, &other]);
    one.connect(&ours, true, &[&controlled]);
    other.connect(&ours, true, &[&controlled]);
    (controlled, one, other)
}

/// Whether a check is answered with it.
fn is_answer(sent: &SendControl) -> bool {
    sent.datagram.starts_with(&[1, 1])
}

#[actix::test]
async fn each_path_that_a_check_succeeds_on_is_told_of() {
    let (mut controlled, mut first, mut second) = sides().await;
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

#[actix::test]
async fn a_forged_answer_validates_nothing() {
    let (mut controlled, mut genuine, mut forged) = sides().await;
    let mut validated = BTreeSet::new();
    let mut forgeries = 0;
    let enough = async {
        // Each is handled before the check that comes after it.
        while forgeries < 6 || validated.is_empty() {
            tokio::select! {
                command = controlled.sockets.next() => {
                    let answers = matches!(&command, SocketCommand::SendControl(it) if is_answer(it));
                    let peers: &[&Side] =
                        if answers { &[&genuine] } else { &[&genuine, &forged] };
                    validated.extend(controlled.pass_on(command, peers));
                }
                command = genuine.sockets.next() => {
                    genuine.pass_on(command, &[&controlled]);
                }
                command = forged.sockets.next() => match command {
                    SocketCommand::SendControl(sent) if is_answer(&sent) => {
                        // A true answer from elsewhere, and one that was changed on its way.
                        let mut answer = sent.datagram.to_vec();
                        controlled.receive(([127, 0, 0, 1], 7000).into(), sent.datagram);
                        let integrity = answer.len() - 9;
                        answer[integrity] ^= 1;
                        controlled.receive(forged.address, answer.into());
                        forgeries += 1;
                    }
                    // It is not answered, and so goes on checking, which has it checked.
                    command => _ = forged.pass_on(command, &[&controlled]),
                },
            }
        }
    };
    let enough = tokio::time::timeout(Duration::from_secs(30), enough).await;
    assert_eq!((enough, validated), (Ok(()), BTreeSet::from([genuine.address])));
}
