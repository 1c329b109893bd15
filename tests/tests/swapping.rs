//! Transport actors of a connection are swapped by handing in a factory.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use actix::{Recipient, WeakRecipient};
use ortc_api::{DtlsPorts, DtlsStart, IcePorts, IceStart, MediaPlane, RtpStart, SocketStart};
use ortc_api::{RTCDisconnectReason, RTCEvent, Transports};
use ortc_dtls::{DtlsCommand, DtlsEvent};
use ortc_ice::{IceCommand, IceEvent, IceState};
use ortc_io::sim::{self, Network};
use ortc_io::{
    Bind, DatagramKind, DatagramReceived, Path, PathUpdate, SocketCommand, SocketEvent, SocketId,
};
use ortc_rtp::{RtpCommand, RtpEvent};
use ortc_tests::{Pair, Peer, frame};

const SOON: Duration = Duration::from_secs(10);

fn pair(net: &Network, of_alice: Transports, of_bob: Transports) -> Pair {
    let hosts =
        [net.host("alice", &[[10, 0, 0, 1].into()]), net.host("bob", &[[10, 0, 0, 2].into()])];
    let [alice, bob] = hosts;
    Pair {
        alice: Peer::with_transports(alice, net.random(), of_alice),
        bob: Peer::with_transports(bob, net.random(), of_bob),
    }
}

#[test]
fn an_ice_actor_that_knows_the_way_sends_no_stun() {
    sim::run(31, |net| async move {
        let [alice, bob] = [1, 2].map(|last| SocketAddr::from(([10, 0, 0, last], 5000)));
        let fixed = |local, remote| {
            Transports::new().with_ice_actor(move |start: IceStart| {
                IcePorts::of(&FixedPath { local, remote, start, socket: None, peer: false }.start())
            })
        };
        let mut pair = pair(&net, fixed(alice, bob), fixed(bob, alice));
        let (_, source) = pair.alice.send_audio();
        pair.describe();
        pair.connect_within(SOON).await;
        let mut frames = received(&pair.bob);
        source.send(frame(7)).unwrap();
        let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
        assert_eq!(heard.data, frame(7).data);
        let transcript = net.transcript();
        assert!(transcript.iter().all(|entry| entry.kind != DatagramKind::Stun));
        let between = [(alice, bob), (bob, alice)];
        assert!(transcript.iter().all(|entry| between.contains(&(entry.from, entry.to))));
    });
}

#[test]
fn a_dtls_actor_can_be_wrapped_and_overheard() {
    sim::run(32, |net| async move {
        let log = Log::default();
        let heard = log.clone();
        let tapped = Transports::new().with_dtls_actor(move |mut start: DtlsStart| {
            let context = Context::new();
            let tap = context.address();
            let owner = std::mem::replace(&mut start.owner, tap.downgrade().recipient());
            let DtlsPorts { commands: inner, datagrams } = start.start();
            context.run(Tap::<DtlsCommand, DtlsEvent> { inner, owner, log: heard.clone() });
            DtlsPorts { commands: tap.recipient(), datagrams }
        });
        let mut pair = pair(&net, tapped, Transports::new());
        pair.connect_within(SOON).await;
        assert_eq!(log.take(), ["RoundTrip", "Start", "Connected"]);
        pair.alice.conn.close();
        pair.alice.conn.closed().await;
        assert_eq!(log.take(), ["Close", "Stopped"]);
    });
}

#[test]
fn an_rtp_actor_can_be_wrapped_and_overheard() {
    sim::run(33, |net| async move {
        let log = Log::default();
        let heard = log.clone();
        let tapped = Transports::new().with_rtp_actor(move |mut start: RtpStart| {
            let context = Context::new();
            let tap = context.address();
            let owner = std::mem::replace(&mut start.owner, tap.downgrade().recipient());
            let inner = start.start();
            context.run(Tap::<RtpCommand, RtpEvent> { inner, owner, log: heard.clone() });
            tap.recipient()
        });
        let mut pair = pair(&net, Transports::new(), tapped);
        let (_, source) = pair.alice.send_audio();
        pair.describe();
        pair.connect_within(SOON).await;
        let mut frames = received(&pair.bob);
        source.send(frame(0)).unwrap();
        tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
        assert_eq!(log.take(), ["Receive", "SetKeys", "TrackConnected"]);
    });
}

#[test]
fn a_socket_actor_that_loses_every_twentieth_datagram_only_delays() {
    let (mut sent, mut lost) = (0, 0);
    for seed in 0..20 {
        let counts = sim::run(seed, |net| async move {
            let counts = Arc::new(Mutex::new((0, 0)));
            let (shared, seed) = (Arc::clone(&counts), net.random());
            let lossy = Transports::new().with_socket_actor(move |start: SocketStart| {
                let MediaPlane { sockets: inner, routes } = start.media_plane;
                let random = fastrand::Rng::with_seed(seed);
                let actor = Lossy { inner, random, counts: Arc::clone(&shared) }.start();
                MediaPlane { sockets: actor.recipient(), routes }
            });
            let mut pair = pair(&net, lossy, Transports::new());
            pair.connect_within(Duration::from_secs(30)).await;
            ortc_tests::pass(Duration::from_secs(60)).await;
            pair.alice.conn.close();
            pair.alice.conn.closed().await;
            *counts.lock().unwrap()
        });
        sent += counts.0;
        lost += counts.1;
    }
    assert!(sent > 400, "only {sent} were sent");
    let share = f64::from(lost) / f64::from(sent);
    assert!((0.02..0.09).contains(&share), "{lost} of {sent}");
}

#[test]
fn an_actor_that_dies_takes_its_connection_with_it_and_no_other() {
    sim::run(34, |net| async move {
        let mortal = Transports::new()
            .with_ice_actor(|start: IceStart| IcePorts::of(&Mortal { _start: start }.start()));
        let mut pair = pair(&net, mortal, Transports::new());
        pair.alice.conn.set_remote_ice(pair.bob.conn.local().ice).unwrap();
        pair.alice.conn.connect().unwrap();
        let end = pair.alice.until(SOON, |event| matches!(event, RTCEvent::Disconnected(_))).await;
        let reason = RTCDisconnectReason::Internal("a transport actor has died");
        assert_eq!(end, RTCEvent::Disconnected(reason));
        pair.alice.conn.closed().await;
        assert_eq!(pair.bob.gathered().await.len(), 1);
    });
}

#[test]
fn options_tell_what_is_swapped() {
    let transports = Transports::new().with_dtls_actor(DtlsStart::start);
    assert_eq!(
        format!("{transports:?}"),
        r#"Transports { ice: "default", dtls: "swapped", rtp: "default", socket: "default" }"#
    );
}

fn received(peer: &Peer) -> ortc_api::FrameReceiver {
    peer.conn.receiving_streams()[0].tracks()[0].take_frames().unwrap()
}

/// An ICE actor for a network whose one path is known beforehand.
struct FixedPath {
    local: SocketAddr,
    remote: SocketAddr,
    start: IceStart,
    socket: Option<SocketId>,
    /// The peer is known: `Connect` has come.
    peer: bool,
}

impl FixedPath {
    fn settle(&self) {
        let (Some(socket), true) = (self.socket, self.peer) else { return };
        let path = Path::plain(socket, self.remote);
        for update in [PathUpdate::Validated(path), PathUpdate::Selected(path)] {
            self.start.sockets.do_send(SocketCommand::Path(self.start.connection, update));
        }
        self.tell(IceEvent::StateChanged(IceState::Connected));
    }

    fn tell(&self, event: IceEvent) {
        if let Some(owner) = self.start.owner.upgrade() {
            owner.do_send(event);
        }
    }
}

impl Actor for FixedPath {
    type Context = Context<Self>;
}

impl Handler<IceCommand> for FixedPath {
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
                self.peer = true;
                self.settle();
            }
            IceCommand::Close => context.stop(),
            _ => {}
        }
    }
}

impl Handler<SocketEvent> for FixedPath {
    type Result = ();

    fn handle(&mut self, event: SocketEvent, _: &mut Context<Self>) {
        if let SocketEvent::Bound { socket, .. } = event {
            self.socket = Some(socket);
            self.settle();
        }
    }
}

impl Handler<DatagramReceived> for FixedPath {
    type Result = ();

    fn handle(&mut self, _: DatagramReceived, _: &mut Context<Self>) {}
}

/// Names of the messages that went by.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, message: &impl Debug) {
        let text = format!("{message:?}");
        let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        self.0.lock().unwrap().push(name.to_owned());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Hands on commands and events, and notes them.
struct Tap<C: Message<Result = ()> + Send + 'static, E: Message<Result = ()> + Send + 'static> {
    inner: Recipient<C>,
    owner: WeakRecipient<E>,
    log: Log,
}

impl<C, E> Actor for Tap<C, E>
where
    C: Message<Result = ()> + Send + 'static,
    E: Message<Result = ()> + Send + 'static,
{
    type Context = Context<Self>;
}

macro_rules! tap {
    ($command:ty, $event:ty) => {
        impl Handler<$command> for Tap<$command, $event> {
            type Result = ();

            fn handle(&mut self, command: $command, _: &mut Context<Self>) {
                self.log.note(&command);
                self.inner.do_send(command);
            }
        }

        impl Handler<$event> for Tap<$command, $event> {
            type Result = ();

            fn handle(&mut self, event: $event, _: &mut Context<Self>) {
                self.log.note(&event);
                if let Some(owner) = self.owner.upgrade() {
                    owner.do_send(event);
                }
            }
        }
    };
}

tap!(DtlsCommand, DtlsEvent);
tap!(RtpCommand, RtpEvent);

/// A socket port that loses one control datagram in twenty on their way out.
struct Lossy {
    inner: Recipient<SocketCommand>,
    random: fastrand::Rng,
    /// Datagrams that were sent, and that were lost.
    counts: Arc<Mutex<(u32, u32)>>,
}

impl Actor for Lossy {
    type Context = Context<Self>;
}

impl Handler<SocketCommand> for Lossy {
    type Result = ();

    fn handle(&mut self, command: SocketCommand, _: &mut Context<Self>) {
        if matches!(command, SocketCommand::DelegateConsent(..)) {
            // What the port behind it would send does not come by here.
            return;
        }
        if matches!(command, SocketCommand::SendControl(_)) {
            let mut counts = self.counts.lock().unwrap();
            counts.0 += 1;
            if self.random.u8(..20) == 0 {
                counts.1 += 1;
                return;
            }
        }
        self.inner.do_send(command);
    }
}

/// An ICE actor that dies of its first word of the peer.
struct Mortal {
    _start: IceStart,
}

impl Actor for Mortal {
    type Context = Context<Self>;
}

impl Handler<IceCommand> for Mortal {
    type Result = ();

    fn handle(&mut self, command: IceCommand, context: &mut Context<Self>) {
        if matches!(command, IceCommand::Connect { .. }) {
            context.stop();
        }
    }
}

impl Handler<SocketEvent> for Mortal {
    type Result = ();

    fn handle(&mut self, _: SocketEvent, _: &mut Context<Self>) {}
}

impl Handler<DatagramReceived> for Mortal {
    type Result = ();

    fn handle(&mut self, _: DatagramReceived, _: &mut Context<Self>) {}
}
