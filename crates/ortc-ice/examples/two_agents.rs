//! Two ICE actors in one process, over real sockets on the loopback interface.
//!
//! Each candidate that one of them finds is handed to the other at once, as a signalling
//! channel would; the pair that each selects is printed.
//!
//! ```sh
//! cargo run -p ortc-ice --example two_agents
//! ```
#![allow(clippy::print_stdout, missing_docs, reason = "printing is what this program is for")]

use std::process::ExitCode;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, System};
use ortc_ice::{IceActor, IceCommand, IceConfig, IceEvent, IceState, RTCIceConnectionInfo};
use ortc_io::{Attach, ConnectionId, SocketActor, SocketCommand};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

fn main() -> ExitCode {
    System::new().block_on(async {
        match tokio::time::timeout(Duration::from_secs(10), connect_two()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => {
                println!("not connected after 10 s");
                ExitCode::FAILURE
            }
        }
    })
}

async fn connect_two() {
    let (mut alice, mut bob) = (Peer::new("alice", 0, 7), Peer::new("bob", 1, 5));
    for peer in [&alice, &bob] {
        peer.ice.do_send(IceCommand::Gather);
    }
    alice.ice.do_send(IceCommand::Connect { remote: bob.info.clone(), controlling: true });
    bob.ice.do_send(IceCommand::Connect { remote: alice.info.clone(), controlling: false });
    while !(alice.connected && bob.connected) {
        tokio::select! {
            biased;
            Some(event) = alice.events.recv() => alice.handle(event, &bob.ice),
            Some(event) = bob.events.recv() => bob.handle(event, &alice.ice),
        }
    }
    for peer in [&alice, &bob] {
        peer.ice.do_send(IceCommand::Close);
    }
}

/// One side: its actor, and what that has to tell.
struct Peer {
    name: &'static str,
    info: RTCIceConnectionInfo,
    ice: Addr<IceActor>,
    events: UnboundedReceiver<IceEvent>,
    connected: bool,
    /// The actor holds its owner weakly; this keeps it.
    _owner: Addr<Owner>,
}

impl Peer {
    fn new(name: &'static str, slot: u32, tie_breaker: u64) -> Self {
        let connection = ConnectionId { slot, generation: 0 };
        let sockets = SocketActor::new().start();
        let (sender, events) = unbounded_channel();
        let owner = Owner(sender).start();
        let info = RTCIceConnectionInfo::generate();
        let config = IceConfig::new(info.clone(), tie_breaker).with_loopback(true);
        let port = sockets.clone().recipient();
        let ice = IceActor::new(config, connection, port, owner.downgrade().recipient()).start();
        sockets.do_send(SocketCommand::Attach(Attach {
            connection,
            events: ice.clone().recipient(),
            stun: ice.clone().recipient(),
            // There is no DTLS here; were some to come, ICE would count and drop it.
            dtls: ice.clone().recipient(),
        }));
        Self { name, info, ice, events, connected: false, _owner: owner }
    }

    fn handle(&mut self, event: IceEvent, other: &Addr<IceActor>) {
        match event {
            IceEvent::CandidateFound(candidate) => {
                println!("{}: found {candidate}", self.name);
                self.ice.do_send(IceCommand::SetLocalCandidate(candidate.clone()));
                other.do_send(IceCommand::SetRemoteCandidate(candidate));
            }
            IceEvent::ActivePair { local, remote } => {
                println!("{}: selected {local}  <->  {remote}", self.name);
            }
            IceEvent::StateChanged(state) => {
                println!("{}: {state:?}", self.name);
                self.connected = state == IceState::Connected;
            }
            _ => {}
        }
    }
}

/// The owner of an ICE actor: hands its events to the loop above.
struct Owner(UnboundedSender<IceEvent>);

impl Actor for Owner {
    type Context = Context<Self>;
}

impl Handler<IceEvent> for Owner {
    type Result = ();

    fn handle(&mut self, event: IceEvent, _: &mut Self::Context) {
        // The loop ends before the actors do, and no longer listens then.
        let _ = self.0.send(event);
    }
}
