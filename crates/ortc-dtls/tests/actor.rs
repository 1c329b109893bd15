//! The shell: what it sends, tells and ends with, under paused time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler};
use bytes::Bytes;
use ortc_dtls::{
    Certificate, DtlsActor, DtlsCommand, DtlsConfig, DtlsEvent, DtlsFailure, DtlsRole,
};
use ortc_io::{ConnectionId, DatagramReceived, Path, SendControl, SocketCommand, SocketId, now};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const CONNECTION: ConnectionId = ConnectionId { slot: 3, generation: 7 };

#[test]
fn a_lost_first_hello_is_sent_again_and_both_are_told_connected_and_stopped() {
    run(async {
        let (mut client, mut server) = (Peer::start(), Peer::start());
        client.begin(DtlsRole::Client, &server.certificate);
        server.begin(DtlsRole::Server, &client.certificate);
        let lost = client.sent.recv().await.expect("a hello");
        assert_eq!((lost.connection, lost.path), (CONNECTION, None));
        let (mut connected, mut stopped) = (0, 0);
        while stopped < 2 {
            tokio::select! {
                Some(sent) = client.sent.recv() => server.receive(CONNECTION, sent.datagram),
                Some(sent) = server.sent.recv() => client.receive(CONNECTION, sent.datagram),
                Some(event) = client.events.recv() => match event {
                    DtlsEvent::Connected { certificate, .. } => {
                        assert_eq!(certificate, server.certificate.der());
                        connected += 1;
                    }
                    DtlsEvent::ApplicationData(data) => {
                        assert_eq!(data, "ping");
                        client.dtls.do_send(DtlsCommand::Close);
                    }
                    DtlsEvent::Stopped(result) => {
                        assert_eq!(result, Ok(()));
                        stopped += 1;
                    }
                },
                Some(event) = server.events.recv() => match event {
                    DtlsEvent::Connected { certificate, .. } => {
                        assert_eq!(certificate, client.certificate.der());
                        connected += 1;
                        server.dtls.do_send(DtlsCommand::SendApplicationData("ping".into()));
                    }
                    DtlsEvent::ApplicationData(data) => panic!("{data:?}"),
                    DtlsEvent::Stopped(result) => {
                        assert_eq!(result, Ok(()));
                        stopped += 1;
                    }
                },
            }
        }
        assert_eq!(connected, 2);
    });
}

#[test]
fn datagrams_of_another_connection_are_ignored_and_silence_times_out() {
    run(async {
        let (mut client, mut server) = (Peer::start(), Peer::start());
        let began = now();
        client.begin(DtlsRole::Client, &server.certificate);
        server.begin(DtlsRole::Server, &client.certificate);
        let stranger = ConnectionId { generation: 8, ..CONNECTION };
        loop {
            tokio::select! {
                Some(sent) = client.sent.recv() => server.receive(stranger, sent.datagram),
                Some(event) = client.events.recv() => {
                    assert!(matches!(event, DtlsEvent::Stopped(Err(DtlsFailure::TimedOut))));
                    break;
                }
            }
        }
        assert_eq!((now() - began).as_secs(), 40);
        assert!(matches!(server.told().await, DtlsEvent::Stopped(Err(DtlsFailure::TimedOut))));
        assert!(server.sent.try_recv().is_err(), "it answered a stranger");
    });
}

#[test]
fn an_actor_stops_when_its_owner_is_gone() {
    run(async {
        let mut client = Peer::start();
        let other = Certificate::generate().unwrap();
        client.begin(DtlsRole::Client, &other);
        client.sent.recv().await.expect("a hello");
        client.owner.take();
        tokio::time::timeout(Duration::from_secs(60), async {
            while client.dtls.connected() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await
        .expect("it went on without an owner");
    });
}

fn run(test: impl Future<Output = ()> + 'static) {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime")
    };
    actix::System::with_tokio_rt(runtime).block_on(test);
}

struct Peer {
    certificate: Certificate,
    dtls: Addr<DtlsActor>,
    sent: UnboundedReceiver<SendControl>,
    events: UnboundedReceiver<DtlsEvent>,
    owner: Option<Addr<Owner>>,
}

impl Peer {
    fn start() -> Self {
        let certificate = Certificate::generate().unwrap();
        let (sends, sent) = unbounded_channel();
        let (tells, events) = unbounded_channel();
        let owner = Owner(tells).start();
        let dtls = DtlsActor::new(
            DtlsConfig::default(),
            certificate.clone(),
            CONNECTION,
            Sockets(sends).start().recipient(),
            owner.downgrade().recipient(),
        )
        .start();
        Self { certificate, dtls, sent, events, owner: Some(owner) }
    }

    fn begin(&self, role: DtlsRole, other: &Certificate) {
        self.dtls.do_send(DtlsCommand::Start { role, expected_sha256: Some(other.sha256()) });
    }

    fn receive(&self, connection: ConnectionId, datagram: Bytes) {
        let socket = SocketId { slot: 0, generation: 0 };
        let path = Path::plain(socket, SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
        self.dtls.do_send(DatagramReceived { connection, path, received_at: now(), datagram });
    }

    async fn told(&mut self) -> DtlsEvent {
        self.events.recv().await.expect("the owner is there")
    }
}

/// The socket port.
struct Sockets(UnboundedSender<SendControl>);

impl Actor for Sockets {
    type Context = Context<Self>;
}

impl Handler<SocketCommand> for Sockets {
    type Result = ();

    fn handle(&mut self, command: SocketCommand, _: &mut Self::Context) {
        match command {
            SocketCommand::SendControl(sent) => self.0.send(sent).unwrap_or_default(),
            SocketCommand::SendEverywhere(connection, datagram) => {
                let goodbye = SendControl { connection, path: None, datagram };
                self.0.send(goodbye).unwrap_or_default();
            }
            other => panic!("not for a DTLS actor: {other:?}"),
        }
    }
}

struct Owner(UnboundedSender<DtlsEvent>);

impl Actor for Owner {
    type Context = Context<Self>;
}

impl Handler<DtlsEvent> for Owner {
    type Result = ();

    fn handle(&mut self, event: DtlsEvent, _: &mut Self::Context) {
        self.0.send(event).unwrap_or_default();
    }
}
