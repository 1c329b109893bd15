//! What fails below an application, and what is lost then: threads, actors, sockets, clocks.
//! docs/reliability.md has the table.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient};
use ortc_api::{
    DtlsPorts, DtlsStart, Engine, IcePorts, IceStart, MediaPlane, RTCConnection,
    RTCConnectionOptions, RTCDisconnectReason, RTCEvent, RtpStart, SocketStart, Transports,
};
use ortc_dtls::DtlsCommand;
use ortc_ice::IceCommand;
use ortc_io::sim::{self, Host, Network};
use ortc_io::{ConnectionId, DatagramReceived, SocketEvent};
use ortc_rtp::{RouteCommand, RtpCommand, SnapshotReply};
use ortc_tests::attack::{FRAME, Speech};
use ortc_tests::{Pair, Peer, pass};

const SOON: Duration = Duration::from_secs(10);

/// Two hosts with an engine each, for several calls between them.
struct Hosts([(Host, Engine); 2]);

impl Hosts {
    fn new(net: &Network) -> Self {
        Self([("alice", 1), ("bob", 2)].map(|(name, last)| {
            let host = net.host(name, &[[10, 0, 0, last].into()]);
            let engine = Engine::simulated(host.io(), net.random());
            (host, engine)
        }))
    }

    fn pair(&self, of_alice: Transports) -> Pair {
        let peer = |(host, engine): &(Host, Engine), transports: Transports| {
            let options = RTCConnectionOptions::new().with_engine(engine.clone());
            let conn = RTCConnection::new(options.with_transports(transports)).expect("it runs");
            let events = conn.events();
            Peer { host: host.clone(), conn, events, seen: Vec::new() }
        };
        let [alice, bob] = &self.0;
        Pair { alice: peer(alice, of_alice), bob: peer(bob, Transports::new()) }
    }
}

fn is_end(event: &RTCEvent) -> bool {
    matches!(event, RTCEvent::Disconnected(_))
}

/// Hears all that has been told so far.
async fn events_so_far(peer: &mut Peer) -> Vec<RTCEvent> {
    let mut events = std::mem::take(&mut peer.seen);
    while let Ok(Some(event)) =
        tokio::time::timeout(Duration::from_millis(1), peer.events.recv()).await
    {
        events.push(event);
    }
    events
}

/// Whom to tell something on the media thread, and as whom.
type Door = Arc<Mutex<Option<(ConnectionId, Recipient<RouteCommand>)>>>;

/// Transports whose route port can be got at.
fn with_a_door(door: &Door) -> Transports {
    let door = Arc::clone(door);
    Transports::new().with_socket_actor(move |start: SocketStart| {
        let MediaPlane { routes, .. } = &start.media_plane;
        *door.lock().unwrap() = Some((start.connection, routes.clone()));
        start.media_plane
    })
}

#[test]
fn a_media_thread_that_dies_ends_the_connections_of_its_engine_and_no_others() {
    sim::run(1, |net| async move {
        let (hosts, door) = (Hosts::new(&net), Door::default());
        let mut calls = [hosts.pair(with_a_door(&door)), hosts.pair(Transports::new())];
        for call in &mut calls {
            call.connect_within(SOON).await;
        }
        let elsewhere = Peer::new(&net, "carol", 3, 3);
        let mut third = Pair { alice: elsewhere, bob: Peer::new(&net, "dave", 4, 4) };
        let mut speech = Speech::between(&third.alice, &third.bob);
        third.connect_within(SOON).await;

        let (id, routes) = door.lock().unwrap().take().expect("it was opened");
        let bug = SnapshotReply::new(|_| panic!("a bug of the media plane"));
        routes.do_send(RouteCommand::TakeSnapshot(id, bug));
        for call in &mut calls {
            let reason = RTCDisconnectReason::Internal("the media thread gave it up");
            call.alice.until(SOON, |event| *event == RTCEvent::Disconnected(reason.clone())).await;
            tokio::time::timeout(SOON, call.alice.conn.closed()).await.expect("it lets go");
            assert!(call.alice.conn.connect().is_err());
        }
        let [(_, engine), _] = &hosts.0;
        assert!(engine.stats().await.is_none(), "there is nobody to ask");
        // The other side misses them by consent, and keeps running.
        for call in &mut calls {
            call.bob.until(Duration::from_secs(60), is_end).await;
        }
        let heard = speech.go_on(50, |_| {}).await;
        assert_eq!((heard.sent, heard.lost), (50, 0));
        assert!(hosts.0[1].1.stats().await.is_some());
        // What is begun on the dead engine ends, and does not hang.
        let options = RTCConnectionOptions::new().with_engine(engine.clone());
        if let Ok(conn) = RTCConnection::new(options) {
            let closed = tokio::time::timeout(Duration::from_secs(20), conn.closed()).await;
            closed.expect("it ends by itself");
        }
    });
}

/// An actor in the place of one of the connection's, which panics at its first command.
struct Broken;

impl Actor for Broken {
    type Context = Context<Self>;
}

macro_rules! panics_at {
    ($($message:ty),*) => {$(
        impl Handler<$message> for Broken {
            type Result = ();

            fn handle(&mut self, _: $message, _: &mut Context<Self>) {
                panic!("a bug of the actor");
            }
        }
    )*};
}

panics_at!(IceCommand, DtlsCommand, RtpCommand, SocketEvent, DatagramReceived);

#[test]
fn an_actor_that_panics_costs_its_connection_whichever_it_is() {
    sim::run(2, |net| async move {
        let hosts = Hosts::new(&net);
        let mut other = hosts.pair(Transports::new());
        let mut speech = Speech::between(&other.alice, &other.bob);
        other.connect_within(SOON).await;
        let broken = [
            Transports::new().with_ice_actor(|_: IceStart| IcePorts::of(&Broken.start())),
            Transports::new().with_dtls_actor(|_: DtlsStart| DtlsPorts::of(&Broken.start())),
            Transports::new().with_rtp_actor(|_: RtpStart| Broken.start().recipient()),
        ];
        for transports in broken {
            let mut doomed = hosts.pair(transports);
            let media = doomed.alice.send_audio();
            doomed.alice.conn.set_remote_ice(doomed.bob.conn.local().ice).unwrap();
            doomed.bob.conn.set_remote_ice(doomed.alice.conn.local().ice).unwrap();
            // It may have died by now.
            let _ = doomed.alice.conn.connect();
            doomed.bob.conn.connect().unwrap();
            for candidate in doomed.bob.gathered().await {
                doomed.bob.conn.set_local_candidate(&candidate).unwrap();
                let _ = doomed.alice.conn.set_remote_candidate(&candidate);
            }
            let events = std::mem::take(&mut doomed.alice.seen);
            for candidate in events.into_iter().chain(events_so_far(&mut doomed.alice).await) {
                if let RTCEvent::Candidate(candidate) = candidate {
                    let _ = doomed.alice.conn.set_local_candidate(&candidate);
                    doomed.bob.conn.set_remote_candidate(&candidate).unwrap();
                }
            }
            tokio::time::timeout(SOON, doomed.alice.conn.closed()).await.expect("it ends");
            drop(media);
        }
        let heard = speech.go_on(50, |_| {}).await;
        assert_eq!((heard.sent, heard.lost), (50, 0));
        assert!(!events_so_far(&mut other.alice).await.iter().any(is_end));
    });
}

/// An actor that is gone from one moment to the next, in the midst of a call.
struct Mortal(Recipient<RtpCommand>);

impl Actor for Mortal {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.run_later(SOON, |_, context| context.stop());
    }
}

impl Handler<RtpCommand> for Mortal {
    type Result = ();

    fn handle(&mut self, command: RtpCommand, _: &mut Context<Self>) {
        self.0.do_send(command);
    }
}

#[test]
fn an_actor_that_is_gone_in_the_midst_of_a_call_ends_it_within_eight_seconds() {
    sim::run(3, |net| async move {
        let hosts = Hosts::new(&net);
        let mortal = Transports::new()
            .with_rtp_actor(|start: RtpStart| Mortal(start.start()).start().recipient());
        let mut call = hosts.pair(mortal);
        call.connect_within(SOON).await;
        let reason = RTCDisconnectReason::Internal("a transport actor has died");
        let end = call.alice.until(Duration::from_secs(19), is_end).await;
        assert_eq!(end, RTCEvent::Disconnected(reason));
        call.alice.conn.closed().await;
    });
}

/// Out of buffers, without a route, or forbidden: the system takes nothing for two seconds. Lost
/// is what is sent in them, and all of it is counted.
#[test]
fn what_the_system_does_not_take_is_lost_and_counted_and_the_call_goes_on() {
    sim::run(4, |net| async move {
        let hosts = Hosts::new(&net);
        let mut call = hosts.pair(Transports::new());
        let mut speech = Speech::between(&call.alice, &call.bob);
        let mut back = Speech::between(&call.bob, &call.alice);
        call.connect_within(SOON).await;
        assert_eq!(speech.go_on(50, |_| {}).await.lost, 0);
        let [(host, engine), _] = &hosts.0;
        let before = engine.stats().await.unwrap();
        let (there, heard) = tokio::join!(
            speech.go_on(200, |n| {
                if n == 50 || n == 150 {
                    host.refuse_sends(n == 50);
                }
            }),
            back.go_on(200, |_| {}),
        );
        assert_eq!((there.sent, heard.lost), (200, 0));
        assert!((99..=101).contains(&there.lost), "{there:?}");
        let after = engine.stats().await.unwrap();
        let dropped = after.send_dropped - before.send_dropped;
        assert!((there.lost..there.lost + 20).contains(&dropped), "{dropped}: reports as well");
        assert_eq!(speech.go_on(50, |_| {}).await.lost, 0);
        assert!(!events_so_far(&mut call.alice).await.iter().any(is_end));
        assert!(!events_so_far(&mut call.bob).await.iter().any(is_end));
    });
}

/// A socket that fails is gone, and with it its candidate: the call goes on by another one. The
/// application hears that it was withdrawn, and `update` binds it anew.
#[test]
fn a_socket_that_fails_costs_its_path_and_an_update_brings_it_back() {
    sim::run(5, |net| async move {
        let hosts = Hosts::new(&net);
        let mut call = hosts.pair(Transports::new());
        let mut speech = Speech::between(&call.alice, &call.bob);
        call.connect_within(SOON).await;
        let [(host, engine), _] = &hosts.0;
        host.break_sockets(ErrorKind::NetworkDown);
        let withdrawn = |event: &RTCEvent| matches!(event, RTCEvent::CandidateWithdrawn(_));
        let gone = call.alice.until(SOON, withdrawn).await;
        let RTCEvent::CandidateWithdrawn(gone) = gone else { unreachable!() };
        call.bob.conn.remove_remote_candidate(&gone).unwrap();
        call.alice.conn.update().unwrap();
        for candidate in call.alice.gathered().await {
            if call.alice.conn.set_local_candidate(&candidate).is_ok() {
                call.bob.conn.set_remote_candidate(&candidate).unwrap();
            }
        }
        pass(SOON).await;
        let heard = speech.go_on(50, |_| {}).await;
        assert_eq!((heard.sent, heard.lost), (50, 0));
        assert_eq!(engine.stats().await.unwrap().sockets, 1);
    });
}

/// Out of descriptors: no socket for a new call, which finds no candidate and says so; those that
/// are there go on, and with descriptors there are sockets again.
#[test]
fn without_descriptors_new_calls_find_nothing_and_old_ones_go_on() {
    sim::run(6, |net| async move {
        let hosts = Hosts::new(&net);
        let mut old = hosts.pair(Transports::new());
        let mut speech = Speech::between(&old.alice, &old.bob);
        old.connect_within(SOON).await;
        let [(host, _), _] = &hosts.0;
        // `EMFILE` has no kind of its own.
        host.refuse_binds(Some(ErrorKind::Other));
        let mut new = hosts.pair(Transports::new());
        assert_eq!(new.alice.gathered().await, [], "it has ended, with nothing");
        assert_eq!(speech.go_on(50, |_| {}).await.lost, 0);
        host.refuse_binds(None);
        new.alice.conn.update().unwrap();
        new.alice.seen.clear();
        assert_eq!(new.alice.gathered().await.len(), 1);
        new.signal_found_by_alice().await;
        new.alice.until(SOON, |event| *event == RTCEvent::Connected).await;
    });
}

trait Signalled {
    async fn signal_found_by_alice(&mut self);
}

impl Signalled for Pair {
    /// As `signal`, where Alice has gathered already.
    async fn signal_found_by_alice(&mut self) {
        let (ours, theirs) = (self.alice.conn.local().ice, self.bob.conn.local().ice);
        self.alice.conn.set_remote_ice(theirs).unwrap();
        self.bob.conn.set_remote_ice(ours).unwrap();
        self.alice.conn.connect().unwrap();
        self.bob.conn.connect().unwrap();
        for event in std::mem::take(&mut self.alice.seen) {
            if let RTCEvent::Candidate(candidate) = event {
                self.alice.conn.set_local_candidate(&candidate).unwrap();
                self.bob.conn.set_remote_candidate(&candidate).unwrap();
            }
        }
        for candidate in self.bob.gathered().await {
            self.bob.conn.set_local_candidate(&candidate).unwrap();
            self.alice.conn.set_remote_candidate(&candidate).unwrap();
        }
    }
}

/// The monotonic clock jumps: the whole process was suspended, or the machine. Whatever was due
/// in between is due at once; shorter than consent lasts, nothing else has happened.
#[test]
fn a_gap_in_time_shorter_than_consent_ends_no_call() {
    for seconds in [1, 5, 20] {
        sim::run(seconds, |net| async move {
            let hosts = Hosts::new(&net);
            let mut call = hosts.pair(Transports::new());
            let mut speech = Speech::between(&call.alice, &call.bob);
            call.connect_within(SOON).await;
            assert_eq!(speech.go_on(100, |_| {}).await.lost, 0);
            tokio::time::advance(Duration::from_secs(seconds)).await;
            pass(FRAME).await;
            let heard = speech.go_on(100, |_| {}).await;
            assert_eq!((heard.sent, heard.lost), (100, 0), "after {seconds} s");
            for peer in [&mut call.alice, &mut call.bob] {
                assert!(!events_so_far(peer).await.iter().any(is_end), "after {seconds} s");
            }
        });
    }
}

/// Longer than that, nothing may be sent before the peer has consented anew (RFC 7675 §5.1): the
/// path is lost, and found again by itself.
#[test]
fn after_a_longer_gap_the_path_is_found_again() {
    for seconds in [40, 600] {
        sim::run(seconds, |net| async move {
            let hosts = Hosts::new(&net);
            let mut call = hosts.pair(Transports::new());
            let mut speech = Speech::between(&call.alice, &call.bob);
            call.connect_within(SOON).await;
            assert_eq!(speech.go_on(100, |_| {}).await.lost, 0);
            tokio::time::advance(Duration::from_secs(seconds)).await;
            let lost = RTCEvent::Disconnected(RTCDisconnectReason::PathLost);
            for peer in [&mut call.alice, &mut call.bob] {
                pass(SOON).await;
                let events = events_so_far(peer).await;
                let told: Vec<_> = events
                    .into_iter()
                    .filter(|event| is_end(event) || *event == RTCEvent::Connected)
                    .collect();
                // States that nobody has read in between are one.
                assert!(
                    told.is_empty() || told == [lost.clone(), RTCEvent::Connected],
                    "after {seconds} s: {told:?}"
                );
            }
            let heard = speech.go_on(100, |_| {}).await;
            assert_eq!((heard.sent, heard.lost), (100, 0), "after {seconds} s");
        });
    }
}
