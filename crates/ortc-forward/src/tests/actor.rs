//! The actor: the ports of the control plane.

use std::time::Duration;

use actix::{Actor, Addr};
use ortc_io::probe::Probe;
use ortc_io::{Attach, DatagramReceived, Detach, Detached, SocketCommand, sim};
use ortc_rtp::RouteCommand;

use super::*;
use crate::{ForwarderActor, TakeSnapshot};

/// The ports of one connection.
struct Ports {
    events: Probe<SocketEvent>,
    stun: Probe<DatagramReceived>,
    dtls: Probe<DatagramReceived>,
    routes: Probe<RouteEvent>,
    done: Probe<Detached>,
}

impl Ports {
    /// Attaches and opens a connection.
    fn register(forwarder: &Addr<ForwarderActor>) -> Self {
        let ports = Self {
            events: Probe::new(),
            stun: Probe::new(),
            dtls: Probe::new(),
            routes: Probe::new(),
            done: Probe::new(),
        };
        forwarder.do_send(SocketCommand::Attach(Attach {
            connection: ID,
            events: ports.events.recipient(),
            stun: ports.stun.recipient(),
            dtls: ports.dtls.recipient(),
        }));
        forwarder.do_send(RouteCommand::Open(ID, ports.routes.recipient()));
        ports
    }

    async fn bound(
        &mut self,
        forwarder: &Addr<ForwarderActor>,
        ip: &str,
    ) -> (SocketId, SocketAddr) {
        let address = format!("{ip}:0").parse().unwrap();
        forwarder.do_send(SocketCommand::Bind(Bind { connection: ID, token: 4, address }));
        match self.events.next().await {
            SocketEvent::Bound { token: 4, socket, local } => (socket, local),
            other => panic!("not bound: {other:?}"),
        }
    }

    fn detach(&self, forwarder: &Addr<ForwarderActor>) {
        let detach = Detach { connection: ID, done: self.done.recipient() };
        forwarder.do_send(SocketCommand::Detach(detach));
    }
}

#[test]
fn events_reach_the_recipients_that_were_named() {
    sim::run(51, |net| async move {
        let host = net.host("host", &["10.0.0.1".parse().unwrap()]);
        let forwarder = ForwarderActor::start_simulated(host.io(), 7);
        let mut ports = Ports::register(&forwarder);
        let (socket, local) = ports.bound(&forwarder, "10.0.0.1").await;

        forwarder.do_send(SocketCommand::EnumerateInterfaces(ID));
        let interfaces = ports.events.next().await;
        assert!(matches!(interfaces, SocketEvent::Interfaces(all) if all.len() == 2));

        let remote: SocketAddr = "10.0.0.9:9".parse().unwrap();
        let path = Path::plain(socket, remote);
        net.inject(remote, local, b"\x00\x01 stun");
        net.inject(remote, local, b"\x16 dropped");
        settle().await;
        forwarder.do_send(SocketCommand::Path(ID, PathUpdate::Validated(path)));
        settle().await;
        net.inject(remote, local, b"\x16 dtls");
        assert_eq!(ports.stun.next().await.datagram, b"\x00\x01 stun".as_slice());
        assert_eq!(ports.dtls.next().await.datagram, b"\x16 dtls".as_slice());

        forwarder.do_send(RouteCommand::Close(ID));
        assert_eq!(ports.routes.next().await, RouteEvent::Closed(ID));
        ports.detach(&forwarder);
        assert_eq!(ports.done.next().await, Detached(ID));
        let stats = forwarder.send(TakeSnapshot).await.unwrap().unwrap();
        let expected = ForwarderStats {
            received: 3,
            paths: ortc_io::paths::PathStats { unvalidated: 1, ..Default::default() },
            ..ForwarderStats::default()
        };
        assert_eq!(stats, expected);
    });
}

#[test]
fn when_the_actor_goes_its_forwarder_and_sockets_go() {
    sim::run(52, |net| async move {
        let host = net.host("host", &["10.0.0.1".parse().unwrap()]);
        let forwarder = ForwarderActor::start_simulated(host.io(), 7);
        let mut ports = Ports::register(&forwarder);
        let (_, local) = ports.bound(&forwarder, "10.0.0.1").await;
        drop(forwarder);
        settle().await;
        let mut io = host.io();
        ortc_io::DatagramIo::bind(&mut io, local).expect("the address is free again");
    });
}

#[test]
fn every_connection_hears_when_the_forwarder_dies() {
    sim::run(53, |net| async move {
        let host = net.host("host", &["10.0.0.1".parse().unwrap()]);
        let io = host.io();
        let clock = WallClock::new(ortc_io::now(), 0);
        let (core, handle, events) =
            PacketForwarder::new(&ForwarderConfig::default(), 1, clock, local_waker(&io));
        let task = actix::spawn(drive_local(core, io));
        let forwarder = ForwarderActor::new(handle.clone(), events, None).start();
        let mut ports = Ports::register(&forwarder);
        let (socket, _) = ports.bound(&forwarder, "10.0.0.1").await;
        handle.send(ForwarderCommand::Panic(None)).unwrap();
        assert!(task.await.unwrap_err().is_panic());

        let lost = ports.events.next().await;
        assert!(
            matches!(&lost, SocketEvent::Unbound { socket: s, error: Some(_) } if *s == socket),
            "{lost:?}"
        );
        assert_eq!(ports.routes.next().await, RouteEvent::Closed(ID));
        // And whatever is asked from now on is answered.
        let address = "10.0.0.1:0".parse().unwrap();
        forwarder.do_send(SocketCommand::Bind(Bind { connection: ID, token: 8, address }));
        let failed = ports.events.next().await;
        assert!(matches!(failed, SocketEvent::BindFailed { token: 8, .. }), "{failed:?}");
        ports.detach(&forwarder);
        assert_eq!(ports.done.next().await, Detached(ID));
        assert_eq!(forwarder.send(TakeSnapshot).await.unwrap(), None);
    });
}

#[test]
fn a_full_queue_costs_control_datagrams_first_and_keeps_the_order() {
    sim::run(54, |net| async move {
        let host = net.host("host", &["10.0.0.1".parse().unwrap()]);
        let io = host.io();
        let clock = WallClock::new(ortc_io::now(), 0);
        let config = ForwarderConfig { command_capacity: 4, ..ForwarderConfig::default() };
        let (core, handle, events) = PacketForwarder::new(&config, 1, clock, local_waker(&io));
        let forwarder = ForwarderActor::new(handle, events, None).start();
        let mut ports = Ports::register(&forwarder);
        // Two of the four places are taken; then 2 datagrams, 4,096 in the backlog, 4 lost.
        for _ in 0..4102 {
            let datagram = Bytes::from_static(b"\x16 hello");
            let control = SendControl { connection: ID, path: None, datagram };
            forwarder.send(SocketCommand::SendControl(control)).await.unwrap();
        }
        for token in 0..3 {
            let address = "10.0.0.1:0".parse().unwrap();
            let bind = Bind { connection: ID, token, address };
            forwarder.send(SocketCommand::Bind(bind)).await.unwrap();
        }
        settle().await;
        actix::spawn(drive_local(core, io));
        for expected in 0..3 {
            let event = ports.events.next().await;
            assert!(
                matches!(event, SocketEvent::Bound { token, .. } if token == expected),
                "{event:?}"
            );
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let stats = forwarder.send(TakeSnapshot).await.unwrap().unwrap();
        assert_eq!((stats.backlog_datagrams_dropped, stats.paths.no_path), (7, 4095));
    });
}
