//! A unit test with a fake ICE: the test decides when there is a path, and when it is lost.
//!
//! `cargo run -p ortc-api --features sim --example fake_ice`
//!
//! What an application does when a call drops is hard to test with real checks, which take half a
//! minute to give up, and time of their own to come back. Here ICE is twenty lines that do as they
//! are told; DTLS, SRTP and the rest are what they are in production.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message};
use ortc_api::testing::introduce;
use ortc_api::{
    Engine, IcePorts, IceStart, RTCConnection, RTCConnectionOptions, RTCDisconnectReason, RTCEvent,
    RTCEvents, Transports, sim,
};
use ortc_ice::{IceCommand, IceEvent, IceState};
use ortc_io::{Bind, DatagramReceived, Path, PathUpdate, SocketCommand, SocketEvent, SocketId};

// The application: this would be your crate.

/// What is shown to a user.
#[derive(Debug, PartialEq, Eq)]
enum Banner {
    InCall,
    Reconnecting,
    Ended,
}

async fn banner(events: &mut RTCEvents) -> Banner {
    loop {
        match events.recv().await {
            Some(RTCEvent::Connected) => return Banner::InCall,
            Some(RTCEvent::Disconnected(RTCDisconnectReason::PathLost)) => {
                return Banner::Reconnecting;
            }
            Some(RTCEvent::Disconnected(_)) | None => return Banner::Ended,
            Some(_) => {}
        }
    }
}

// Its test: `#[test]`, in your crate.

fn a_call_that_drops_says_so_and_comes_back() {
    sim::run(1, |net| async move {
        let [here, there] = [1, 2].map(|n| SocketAddr::from(([10, 0, 0, n], 5000)));
        let fakes = Arc::new(Mutex::new(Vec::new()));
        let [conn, peer] = [(here, there), (there, here)].map(|(local, remote)| {
            let host = net.host(&local.to_string(), &[local.ip()]);
            let made = Arc::clone(&fakes);
            let transports = Transports::new().with_ice_actor(move |start| {
                let fake =
                    FakeIce { start, local, remote, socket: None, may_settle: false }.start();
                made.lock().expect("no test panics here").push(fake.clone());
                IcePorts::of(&fake)
            });
            let engine = Engine::simulated(host.io(), net.random());
            let options =
                RTCConnectionOptions::new().with_engine(engine).with_transports(transports);
            RTCConnection::new(options).expect("it is made")
        });
        introduce(&conn, &peer).expect("they are introduced");
        let mut events = conn.events();
        assert_eq!(banner(&mut events).await, Banner::InCall);

        let fake: Addr<FakeIce> = fakes.lock().expect("no test panics here")[0].clone();
        fake.do_send(Network(false));
        assert_eq!(banner(&mut events).await, Banner::Reconnecting);
        fake.do_send(Network(true));
        assert_eq!(banner(&mut events).await, Banner::InCall);
        peer.close();
        assert_eq!(banner(&mut events).await, Banner::Ended);
        assert!(net.elapsed() < Duration::from_secs(1), "nothing is waited for");
    });
}

fn main() {
    a_call_that_drops_says_so_and_comes_back();
    println!("the application says what it should, in {:?} and less", Duration::from_secs(1));
}

/// ICE that knows the one path there is, and that the test tells when to have it.
struct FakeIce {
    start: IceStart,
    local: SocketAddr,
    remote: SocketAddr,
    socket: Option<SocketId>,
    /// `Connect` has come.
    may_settle: bool,
}

/// What the test tells it: whether there is a network.
#[derive(Message)]
#[rtype(result = "()")]
struct Network(bool);

impl FakeIce {
    fn tell(&self, event: IceEvent) {
        if let Some(owner) = self.start.owner.upgrade() {
            owner.do_send(event);
        }
    }

    /// Has the socket port send on the path, once there is all that it takes.
    fn settle(&self) {
        let (Some(socket), true) = (self.socket, self.may_settle) else { return };
        let path = Path::plain(socket, self.remote);
        for update in [PathUpdate::Validated(path), PathUpdate::Selected(path)] {
            self.start.sockets.do_send(SocketCommand::Path(self.start.connection, update));
        }
        self.tell(IceEvent::StateChanged(IceState::Connected));
    }
}

impl Actor for FakeIce {
    type Context = Context<Self>;
}

impl Handler<Network> for FakeIce {
    type Result = ();

    fn handle(&mut self, Network(is_there): Network, _: &mut Context<Self>) {
        let state = if is_there { IceState::Connected } else { IceState::Disconnected };
        self.tell(IceEvent::StateChanged(state));
    }
}

impl Handler<IceCommand> for FakeIce {
    type Result = ();

    fn handle(&mut self, command: IceCommand, context: &mut Context<Self>) {
        match command {
            IceCommand::Gather => {
                let (connection, address) = (self.start.connection, self.local);
                let bind = Bind { connection, token: 0, address };
                self.start.sockets.do_send(SocketCommand::Bind(bind));
                self.tell(IceEvent::EndOfCandidates);
            }
            IceCommand::Connect { .. } => {
                self.may_settle = true;
                self.settle();
            }
            IceCommand::Close => {
                self.tell(IceEvent::StateChanged(IceState::Closed));
                context.stop();
            }
            _ => {}
        }
    }
}

impl Handler<SocketEvent> for FakeIce {
    type Result = ();

    fn handle(&mut self, event: SocketEvent, _: &mut Context<Self>) {
        if let SocketEvent::Bound { socket, .. } = event {
            self.socket = Some(socket);
            self.settle();
        }
    }
}

impl Handler<DatagramReceived> for FakeIce {
    type Result = ();

    /// A check of a peer with another ICE; nobody answers.
    fn handle(&mut self, _: DatagramReceived, _: &mut Context<Self>) {}
}
