//! The actor between its two ports: commands in, socket commands and events out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use ortc_ice::{
    IceActor, IceCommand, IceConfig, IceEvent, IceState, IgnoredReason, RTCIceConnectionInfo,
    ReadIceStats,
};
use ortc_io::probe::Probe;
use ortc_io::{
    Bind, ConnectionId, DatagramReceived, InterfaceAddress, InterfaceKind, Path, PathUpdate,
    SendControl, SocketCommand, SocketEvent, SocketId, now, sim,
};

const CONNECTION: ConnectionId = ConnectionId { slot: 3, generation: 1 };
const SOCKET: SocketId = SocketId { slot: 0, generation: 0 };

fn config(byte: u8) -> IceConfig {
    IceConfig::new(RTCIceConnectionInfo::from_random([byte; 32]), u64::from(byte))
}

fn local() -> SocketAddr {
    "192.0.2.1:5000".parse().unwrap()
}

/// An actor with a probe for each of its ports.
struct Bench {
    ice: Addr<IceActor>,
    sockets: Probe<SocketCommand>,
    owner: Probe<IceEvent>,
}

impl Bench {
    fn new(byte: u8) -> Self {
        let (sockets, owner) = (Probe::new(), Probe::new());
        let (port, weak) = (sockets.recipient(), owner.weak_recipient());
        let ice = IceActor::new(config(byte), CONNECTION, port, weak).start();
        Self { ice, sockets, owner }
    }

    /// Gathers the one address of a host, and sets it.
    async fn gather(&mut self) {
        self.ice.do_send(IceCommand::Gather);
        let asked = self.sockets.next().await;
        assert!(matches!(asked, SocketCommand::EnumerateInterfaces(CONNECTION)), "{asked:?}");
        self.ice.do_send(SocketEvent::Interfaces(vec![InterfaceAddress {
            name: "eth0".into(),
            address: local().ip(),
            scope_id: 0,
            kind: InterfaceKind::Network,
        }]));
        let asked = self.sockets.next().await;
        let SocketCommand::Bind(bind) = asked else { panic!("{asked:?}") };
        let address = SocketAddr::new(local().ip(), 0);
        assert_eq!(bind, Bind { connection: CONNECTION, token: bind.token, address });
        let bound = SocketEvent::Bound { token: bind.token, socket: SOCKET, local: local() };
        self.ice.do_send(bound);
        let found = self.owner.next().await;
        let IceEvent::CandidateFound(candidate) = found else { panic!("{found:?}") };
        assert_eq!(candidate.to_string(), "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host");
        assert_eq!(self.owner.next().await, IceEvent::EndOfCandidates);
        self.ice.do_send(IceCommand::SetLocalCandidate(candidate));
    }

    async fn connect(&mut self, remote: &str) {
        self.ice.do_send(IceCommand::SetRemoteCandidate(remote.parse().unwrap()));
        let remote = RTCIceConnectionInfo::from_random([2; 32]);
        self.ice.do_send(IceCommand::Connect { remote, controlling: true });
        assert_eq!(self.owner.next().await, IceEvent::StateChanged(IceState::Checking));
    }
}

#[test]
fn checks_go_out_on_the_path_and_are_repeated_by_the_clock() {
    sim::run(1, |_| async {
        let mut bench = Bench::new(1);
        bench.gather().await;
        bench.connect("candidate:1 1 udp 2130706431 198.51.100.1 6000 typ host").await;
        let start = now();
        let mut times = Vec::new();
        for _ in 0..5 {
            let command = bench.sockets.next().await;
            let SocketCommand::SendControl(SendControl { connection, path, datagram }) = command
            else {
                panic!("{command:?}")
            };
            let expected = Path::plain(SOCKET, "198.51.100.1:6000".parse().unwrap());
            assert_eq!((connection, path), (CONNECTION, Some(expected)));
            assert_eq!(datagram[..2], [0, 1], "a binding request");
            times.push((now() - start).as_millis());
        }
        // Retransmission times double; the timer of the runtime has a resolution of 1 ms.
        let expected = [0u128, 100, 300, 700, 1500];
        assert!(times.iter().zip(expected).all(|(t, e)| t.abs_diff(e) <= 10), "{times:?}");
    });
}

#[test]
fn closing_stops_the_actor_and_its_datagrams() {
    sim::run(1, |_| async {
        let mut bench = Bench::new(1);
        bench.gather().await;
        bench.connect("candidate:1 1 udp 2130706431 198.51.100.1 6000 typ host").await;
        bench.ice.do_send(IceCommand::Close);
        assert_eq!(bench.owner.next().await, IceEvent::StateChanged(IceState::Closed));
        tokio::task::yield_now().await;
        bench.sockets.drain();
        bench.sockets.expect_none_for(Duration::from_secs(60)).await;
        assert!(!bench.ice.connected());
    });
}

#[test]
fn the_actor_stops_when_its_owner_is_gone() {
    sim::run(1, |_| async {
        let Bench { ice, sockets, owner } = Bench::new(1);
        drop(owner);
        // What it would tell its owner shows that there is none.
        let stranger = "candidate:1 1 udp 2130706431 192.0.2.9 5000 typ host".parse().unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        ice.do_send(IceCommand::SetLocalCandidate(stranger));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!ice.connected());
        drop(sockets);
    });
}

#[test]
fn an_address_that_cannot_be_bound_ends_the_gathering_without_a_candidate() {
    sim::run(1, |_| async {
        let mut bench = Bench::new(1);
        bench.ice.do_send(IceCommand::Gather);
        bench.sockets.next().await;
        bench.ice.do_send(SocketEvent::Interfaces(vec![InterfaceAddress {
            name: "eth0".into(),
            address: local().ip(),
            scope_id: 0,
            kind: InterfaceKind::Network,
        }]));
        let asked = bench.sockets.next().await;
        let SocketCommand::Bind(Bind { token, address, .. }) = asked else { panic!("{asked:?}") };
        let error = Arc::new(std::io::Error::from(std::io::ErrorKind::AddrNotAvailable));
        bench.ice.do_send(SocketEvent::BindFailed { token, address, error });
        assert_eq!(bench.owner.next().await, IceEvent::EndOfCandidates);
        assert_eq!(bench.ice.send(ReadIceStats).await.unwrap().bind_failures, 1);
    });
}

#[test]
fn a_candidate_that_was_never_found_is_refused() {
    sim::run(1, |_| async {
        let mut bench = Bench::new(1);
        bench.gather().await;
        let candidate: ortc_ice::RTCIceCandidateDescription =
            "candidate:1 1 udp 2130706431 192.0.2.77 5000 typ host".parse().unwrap();
        bench.ice.do_send(IceCommand::SetLocalCandidate(candidate.clone()));
        let reason = IgnoredReason::UnknownLocal;
        assert_eq!(bench.owner.next().await, IceEvent::CandidateIgnored { candidate, reason });
    });
}

#[test]
fn two_actors_connect_through_their_ports() {
    sim::run(1, |_| async {
        let (mut a, mut b) = (Bench::new(1), Bench::new(2));
        a.gather().await;
        b.gather().await;
        // Both have the same address and socket id; the wire between them tells them apart.
        let line = "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host";
        a.connect(line).await;
        b.ice.do_send(IceCommand::SetRemoteCandidate(line.parse().unwrap()));
        let remote = RTCIceConnectionInfo::from_random([1; 32]);
        b.ice.do_send(IceCommand::Connect { remote, controlling: false });
        let mut selected = [false; 2];
        while selected != [true; 2] {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let sides = [(&mut a.sockets, &b.ice), (&mut b.sockets, &a.ice)];
            for (index, (sockets, peer)) in sides.into_iter().enumerate() {
                for command in sockets.drain() {
                    match command {
                        SocketCommand::SendControl(SendControl { datagram, .. }) => {
                            peer.do_send(DatagramReceived {
                                connection: CONNECTION,
                                path: Path::plain(SOCKET, local()),
                                received_at: now(),
                                datagram,
                            });
                        }
                        SocketCommand::Path(CONNECTION, PathUpdate::Selected(path)) => {
                            assert_eq!(path, Path::plain(SOCKET, local()));
                            selected[index] = true;
                        }
                        SocketCommand::Path(CONNECTION, _) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        for owner in [&mut a.owner, &mut b.owner] {
            let connected =
                |event| (event == IceEvent::StateChanged(IceState::Connected)).then_some(());
            owner.find(connected).await;
        }
    });
}
