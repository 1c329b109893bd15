//! Two DTLS actors, joined by a pair of ports: no ICE, no sockets.
//!
//! `cargo run -p ortc-dtls --example two_endpoints`
#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use std::net::{Ipv4Addr, SocketAddr};

use actix::{Actor, Addr, Context, Handler};
use ortc_dtls::{
    Certificate, DtlsActor, DtlsCommand, DtlsConfig, DtlsEvent, DtlsRole, RTCDtlsConnectionInfo,
};
use ortc_io::{
    ConnectionId, DatagramReceived, Path, SendControl, SocketCommand, SocketId, SrtpKeys, now,
};
use tokio::sync::mpsc;

/// A socket port that carries what one actor sends to the other one.
#[derive(Default)]
struct Wire {
    far_end: Option<Addr<DtlsActor>>,
}

impl Actor for Wire {
    type Context = Context<Self>;
}

impl Handler<SocketCommand> for Wire {
    type Result = ();

    fn handle(&mut self, command: SocketCommand, _: &mut Self::Context) {
        let (connection, datagram) = match command {
            SocketCommand::SendControl(SendControl { connection, datagram, .. }) => {
                (connection, datagram)
            }
            // There is one path only.
            SocketCommand::SendEverywhere(connection, datagram) => (connection, datagram),
            _ => return,
        };
        let socket = SocketId { slot: 0, generation: 0 };
        let path = Path::plain(socket, SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
        if let Some(far_end) = &self.far_end {
            far_end.do_send(DatagramReceived { connection, path, received_at: now(), datagram });
        }
    }
}

/// Joins a wire to the actor at its far end.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Join(Addr<DtlsActor>);

impl Handler<Join> for Wire {
    type Result = ();

    fn handle(&mut self, Join(far_end): Join, _: &mut Self::Context) {
        self.far_end = Some(far_end);
    }
}

/// Hands what an actor tells its owner to `main`.
struct Owner(mpsc::UnboundedSender<DtlsEvent>);

impl Actor for Owner {
    type Context = Context<Self>;
}

impl Handler<DtlsEvent> for Owner {
    type Result = ();

    fn handle(&mut self, event: DtlsEvent, _: &mut Self::Context) {
        // `main` has left when nobody listens any more.
        let _ = self.0.send(event);
    }
}

/// An actor with its ports, and the certificate that it shows.
struct Peer {
    certificate: Certificate,
    dtls: Addr<DtlsActor>,
    wire: Addr<Wire>,
    events: mpsc::UnboundedReceiver<DtlsEvent>,
    _owner: Addr<Owner>,
}

impl Peer {
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let certificate = Certificate::generate()?;
        let (sender, events) = mpsc::unbounded_channel();
        let owner = Owner(sender).start();
        let wire = Wire::default().start();
        let dtls = DtlsActor::new(
            DtlsConfig::default(),
            certificate.clone(),
            ConnectionId { slot: 0, generation: 0 },
            wire.clone().recipient(),
            owner.downgrade().recipient(),
        )
        .start();
        Ok(Self { certificate, dtls, wire, events, _owner: owner })
    }

    async fn connected(&mut self) -> Result<(SrtpKeys, RTCDtlsConnectionInfo), String> {
        match self.events.recv().await {
            Some(DtlsEvent::Connected { keys, certificate, .. }) => {
                Ok((keys, RTCDtlsConnectionInfo::of_certificate(&certificate)))
            }
            other => Err(format!("instead of connecting: {other:?}")),
        }
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut alice, mut bob) = (Peer::start()?, Peer::start()?);
    alice.wire.send(Join(bob.dtls.clone())).await?;
    bob.wire.send(Join(alice.dtls.clone())).await?;

    // The fingerprints travel by signalling; the roles follow from it.
    let start = |role, other: &Certificate| DtlsCommand::Start {
        role,
        expected_sha256: Some(other.sha256()),
    };
    alice.dtls.send(start(DtlsRole::Client, &bob.certificate)).await?;
    bob.dtls.send(start(DtlsRole::Server, &alice.certificate)).await?;

    let (alices_keys, bob_seen) = alice.connected().await?;
    let (bobs_keys, alice_seen) = bob.connected().await?;
    println!("profile: {:?}", alices_keys.profile);
    for (name, info) in [("alice", alice_seen), ("bob", bob_seen)] {
        println!("{name}: {}", info.fingerprint);
    }
    let matching = alices_keys.local_key == bobs_keys.remote_key
        && alices_keys.remote_key == bobs_keys.local_key
        && alices_keys.local_salt == bobs_keys.remote_salt
        && alices_keys.remote_salt == bobs_keys.local_salt;
    println!("keys match: {matching}");

    alice.dtls.do_send(DtlsCommand::Close);
    match (alice.events.recv().await, bob.events.recv().await) {
        (Some(DtlsEvent::Stopped(Ok(()))), Some(DtlsEvent::Stopped(Ok(())))) if matching => {
            println!("closed");
            Ok(())
        }
        other => Err(format!("instead of closing: {other:?}").into()),
    }
}
