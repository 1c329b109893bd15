//! Calls between the default engines and webrtc-rs, over the system's sockets.
//!
//! `ortc-webrtc-rs` has its engines read the system's clocks, so none of this runs in virtual
//! time; every step waits for what it needs.

use std::time::Duration;

use actix::Actor;
use ortc_api::{DtlsFailure, RTCIceConnectionInfo, RestartIceError};
use ortc_api::{DtlsPorts, DtlsStart, IcePorts, IceStart, MediaPlane, SocketStart, Transports};
use ortc_api::{
    FrameReceiver, FrameSender, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack,
};
use ortc_api::{RTCConnection, RTCConnectionOptions, RTCDisconnectReason, RTCEvent, RTCEvents};
use ortc_api::{RTCDTMFEvent, RTCDTMFHandler};
use ortc_tests::frame;
use ortc_webrtc_rs::{WebrtcDtlsActor, WebrtcIceActor, WebrtcMediaActor};

const LIMIT: Duration = Duration::from_secs(30);

fn with_ice(transports: Transports) -> Transports {
    transports.with_ice_actor(|start: IceStart| {
        let IceStart { config, connection, sockets, owner, .. } = start;
        IcePorts::of(&WebrtcIceActor::new(config, connection, sockets, owner).start())
    })
}

fn with_dtls(transports: Transports) -> Transports {
    transports.with_dtls_actor(|start: DtlsStart| {
        let DtlsStart { config, certificate, connection, sockets, owner, .. } = start;
        let actor = WebrtcDtlsActor::new(config, certificate, connection, sockets, owner);
        DtlsPorts::of(&actor.start())
    })
}

fn with_srtp(transports: Transports) -> Transports {
    transports.with_socket_actor(|start: SocketStart| {
        MediaPlane::of(&WebrtcMediaActor::new(start.connection, 0x5eed).start())
    })
}

fn all() -> Transports {
    with_srtp(with_dtls(with_ice(Transports::new())))
}

/// One side of a call.
struct Side {
    conn: RTCConnection,
    /// Heard from when the candidates have a handler: the first to listen gets what was before.
    events: Option<RTCEvents>,
    source: FrameSender,
}

impl Side {
    fn new(transports: &Transports) -> Self {
        Self::with(RTCConnectionOptions::new().with_transports(transports.clone()))
    }

    fn with(options: RTCConnectionOptions) -> Self {
        let options = options.with_loopback(true);
        let conn = RTCConnection::new(options).unwrap();
        let (track, source) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        stream.add_track(&track);
        conn.add_stream(&stream, true).unwrap();
        Self { conn, events: None, source }
    }

    /// What the roles are decided by.
    fn name(&self) -> String {
        let ice = self.conn.local().ice;
        format!("{}:{}", ice.username_frag, ice.password)
    }

    async fn until(&mut self, matches: impl Fn(&RTCEvent) -> bool) -> RTCEvent {
        let events = self.events.as_mut().expect("signalled");
        let found = async {
            loop {
                let event = events.recv().await.expect("still open");
                if matches(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(LIMIT, found).await.expect("in time")
    }

    /// The handler of the peer's keys.
    async fn added_handler(&mut self) -> RTCDTMFHandler {
        let event = self.until(|event| matches!(event, RTCEvent::AddDtmfHandler(_))).await;
        let RTCEvent::AddDtmfHandler(handler) = event else { unreachable!("matched above") };
        handler
    }

    fn receive(&self, peer: &Self) -> FrameReceiver {
        let described = peer.conn.tracks(None)[0].description();
        self.conn.receive_track(&described).unwrap().take_frames().unwrap()
    }
}

/// Two sides of which the first is the DTLS client and controlled, or the other way round.
fn sides(of_one: &Transports, of_two: &Transports, one_is_client: bool) -> (Side, Side) {
    loop {
        let (one, two) = (Side::new(of_one), Side::new(of_two));
        if (one.name() < two.name()) == one_is_client {
            return (one, two);
        }
    }
}

fn signal(one: &mut Side, two: &mut Side) {
    let of_two = two.conn.local().ice;
    signal_as(one, two, of_two);
}

/// Signals, but tells the first side these credentials of the second.
fn signal_as(one: &mut Side, two: &mut Side, of_two: RTCIceConnectionInfo) {
    let of_one = one.conn.local().ice;
    for (own, other, info) in [(&one.conn, &two.conn, of_two), (&two.conn, &one.conn, of_one)] {
        let peer = other.downgrade();
        own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            conn.set_local_candidate(&candidate).unwrap();
            if let Some(peer) = peer.upgrade() {
                peer.set_remote_candidate(&candidate).unwrap();
            }
        }));
        own.set_remote_ice(info).unwrap();
        own.connect().unwrap();
    }
    for side in [one, two] {
        side.events = Some(side.conn.events());
    }
}

/// Sends frames until one has arrived; both ends are set up by other threads.
async fn hears(source: &FrameSender, frames: &mut FrameReceiver) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let arrived = async {
        let mut n = 0;
        while n < 50 {
            tokio::select! {
                received = frames.recv() => {
                    let received = received.expect("the track is open");
                    assert_eq!((received.data.len(), received.data[0]), (9, 0x78));
                    n += 1;
                }
                _ = tick.tick() => source.send(frame(n)).unwrap(),
            }
        }
    };
    tokio::time::timeout(LIMIT, arrived).await.expect("heard in time");
}

/// Two sides that are connected, and what each hears of the other.
async fn connected(
    of_one: &Transports,
    of_two: &Transports,
    one_is_client: bool,
) -> (Side, Side, (FrameReceiver, FrameReceiver)) {
    let (mut one, mut two) = sides(of_one, of_two, one_is_client);
    let frames = (one.receive(&two), two.receive(&one));
    signal(&mut one, &mut two);
    one.until(|event| *event == RTCEvent::Connected).await;
    two.until(|event| *event == RTCEvent::Connected).await;
    (one, two, frames)
}

/// A whole call: connected, 50 frames each way, closed by one and noticed by the other.
async fn call(of_one: Transports, of_two: Transports) {
    for one_is_client in [true, false] {
        let (one, mut two, mut frames) = connected(&of_one, &of_two, one_is_client).await;
        for (side, peer) in [(&one, &two), (&two, &one)] {
            let seen = side.conn.remote().unwrap().dtls.unwrap();
            assert_eq!(seen, peer.conn.local().dtls.unwrap());
        }
        hears(&one.source, &mut frames.1).await;
        hears(&two.source, &mut frames.0).await;
        one.conn.close();
        let end = two.until(|event| matches!(event, RTCEvent::Disconnected(_))).await;
        assert_eq!(end, RTCEvent::Disconnected(RTCDisconnectReason::ClosedByPeer));
        for side in [one, two] {
            tokio::time::timeout(LIMIT, side.conn.closed()).await.expect("freed in time");
        }
    }
}

/// The matrix of {ours, webrtc-rs} for one layer: what is first calls what is second.
macro_rules! calls {
    ($($name:ident: $one:expr => $two:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            call($one, $two).await;
        }
    )*};
}

calls! {
    the_default_calls_itself: Transports::new() => Transports::new();
    webrtc_ice_calls_the_default: with_ice(Transports::new()) => Transports::new();
    webrtc_ice_calls_itself: with_ice(Transports::new()) => with_ice(Transports::new());
    webrtc_dtls_calls_the_default: with_dtls(Transports::new()) => Transports::new();
    webrtc_dtls_calls_itself: with_dtls(Transports::new()) => with_dtls(Transports::new());
    webrtc_srtp_calls_the_default: with_srtp(Transports::new()) => Transports::new();
    webrtc_srtp_calls_itself: with_srtp(Transports::new()) => with_srtp(Transports::new());
    the_whole_second_stack_calls_the_default: all() => Transports::new();
    the_second_stack_calls_itself: all() => all();
    webrtc_ice_calls_webrtc_dtls: with_ice(Transports::new()) => with_dtls(Transports::new());
    webrtc_dtls_calls_webrtc_srtp: with_dtls(Transports::new()) => with_srtp(Transports::new());
    webrtc_srtp_calls_webrtc_ice: with_srtp(Transports::new()) => with_ice(Transports::new());
}

/// Whoever tells names in place of addresses is not found by webrtc-ice, and finds it.
#[tokio::test]
async fn webrtc_ice_is_called_by_a_peer_that_hides_its_addresses() {
    for one_is_client in [true, false] {
        let (mut one, mut two) = loop {
            let one = Side::new(&with_ice(Transports::new()));
            let two = Side::with(RTCConnectionOptions::new().with_mdns_candidates(true));
            if (one.name() < two.name()) == one_is_client {
                break (one, two);
            }
        };
        let mut frames = (one.receive(&two), two.receive(&one));
        signal(&mut one, &mut two);
        for side in [&mut one, &mut two] {
            side.until(|event| *event == RTCEvent::Connected).await;
        }
        hears(&one.source, &mut frames.1).await;
        hears(&two.source, &mut frames.0).await;
    }
}

/// Pictures both ways, described with all the feedback that the default plane knows of.
async fn pictures(of_one: Transports, of_two: Transports) {
    let (mut one, mut two) = sides(&of_one, &of_two, true);
    let cameras = [&one, &two].map(|side| {
        let (track, source) = MediaStreamTrack::local(MediaFormat::Vp8);
        let stream = MediaStream::new();
        stream.add_track(&track);
        side.conn.add_stream(&stream, true).unwrap();
        source
    });
    let mut frames = [(&one, &two), (&two, &one)].map(|(side, peer)| {
        let described = peer.conn.tracks(None)[1].description();
        side.conn.receive_track(&described).unwrap().take_frames().unwrap()
    });
    signal(&mut one, &mut two);
    for side in [&mut one, &mut two] {
        side.until(|event| *event == RTCEvent::Connected).await;
    }
    for (source, frames) in cameras.iter().zip(frames.iter_mut().rev()) {
        let mut bars = ortc_media::ColourBars::new(160, 120, 30);
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let arrived = async {
            let mut heard = 0;
            while heard < 20 {
                tokio::select! {
                    received = frames.recv() => {
                        assert!(received.expect("the track is open").intact);
                        heard += 1;
                    }
                    _ = tick.tick() => {
                        let frame = bars.frame();
                        let (data, timestamp) = (frame.data.clone(), frame.timestamp);
                        source.send(MediaFrame { data, timestamp }).unwrap();
                    }
                }
            }
        };
        tokio::time::timeout(LIMIT, arrived).await.expect("seen in time");
    }
}

#[tokio::test]
async fn pictures_go_over_webrtc_srtp_and_back() {
    pictures(with_srtp(Transports::new()), Transports::new()).await;
}

#[tokio::test]
async fn pictures_go_from_the_second_stack_to_itself() {
    pictures(all(), all()).await;
}

/// By itself the stack gives up after seven checks, 1.6 s, and a peer that comes later never
/// connects.
#[tokio::test]
async fn webrtc_ice_waits_for_a_peer_that_comes_late() {
    let (mut one, mut two) = sides(&with_ice(Transports::new()), &Transports::new(), false);
    let (of_one, of_two) = (one.conn.local().ice, two.conn.local().ice);
    // One side knows all of the other, and asks; the other has not begun.
    one.conn.set_remote_ice(of_two).unwrap();
    one.conn.connect().unwrap();
    for (own, other) in [(&one.conn, &two.conn), (&two.conn, &one.conn)] {
        let peer = other.downgrade();
        own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            conn.set_local_candidate(&candidate).unwrap();
            if let Some(peer) = peer.upgrade() {
                peer.set_remote_candidate(&candidate).unwrap();
            }
        }));
    }
    for side in [&mut one, &mut two] {
        side.events = Some(side.conn.events());
    }
    let early = one.until(|event| *event == RTCEvent::Connected);
    let early = tokio::time::timeout(Duration::from_secs(4), early).await;
    assert!(early.is_err(), "nobody has answered");
    two.conn.set_remote_ice(of_one).unwrap();
    two.conn.connect().unwrap();
    for side in [&mut one, &mut two] {
        side.until(|event| *event == RTCEvent::Connected).await;
    }
}

/// A call of webrtc-ice in which the other side restarts ICE, three times; nothing is missed.
async fn restarts(of_one: Transports, of_two: Transports) {
    for one_is_client in [true, false] {
        let (one, mut two, mut frames) = connected(&of_one, &of_two, one_is_client).await;
        hears(&one.source, &mut frames.1).await;
        hears(&two.source, &mut frames.0).await;
        // What was selected on the way to that.
        while let Ok(Some(_)) = tokio::time::timeout(
            Duration::from_millis(500),
            two.events.as_mut().expect("signalled").recv(),
        )
        .await
        {}
        for _ in 0..3 {
            let ice = two.conn.restart_ice().unwrap();
            hears(&two.source, &mut frames.0).await;
            one.conn.set_remote_ice(ice).unwrap();
            one.conn.connect().unwrap();
            // It selects a pair anew once that is checked by the new credentials.
            let selected = two.until(|event| {
                let is_lost = matches!(event, RTCEvent::Disconnected(_));
                assert!(!is_lost, "{event:?}");
                matches!(event, RTCEvent::ActiveCandidate { .. })
            });
            tokio::select! {
                _ = selected => {}
                () = hears_for_ever(&one.source, &mut frames.1) => {}
            }
            hears(&one.source, &mut frames.1).await;
            hears(&two.source, &mut frames.0).await;
        }
        let lost = [&frames.0, &frames.1].map(|frames| frames.packet_counts().lost);
        assert_eq!(lost, [0, 0], "each frame of both has come");
        // By itself the stack cannot.
        assert_eq!(one.conn.restart_ice(), Err(RestartIceError::NotAlone));
    }
}

/// Goes on hearing what it sends.
async fn hears_for_ever(source: &FrameSender, frames: &mut FrameReceiver) {
    loop {
        hears(source, frames).await;
    }
}

#[tokio::test]
async fn webrtc_ice_follows_a_peer_that_restarts() {
    restarts(with_ice(Transports::new()), Transports::new()).await;
}

#[tokio::test]
async fn the_whole_second_stack_follows_a_peer_that_restarts() {
    restarts(all(), Transports::new()).await;
}

/// Media does not go on for ever to a peer that has shown none of its new credentials.
#[tokio::test]
async fn webrtc_ice_lets_go_of_a_peer_that_restarts_and_is_not_there() {
    let of_one = Transports::new().with_ice_actor(|start: IceStart| {
        let IceStart { config, connection, sockets, owner, .. } = start;
        let config = config.with_consent_timeout(Duration::from_secs(2));
        IcePorts::of(&WebrtcIceActor::new(config, connection, sockets, owner).start())
    });
    let (mut one, mut two) = sides(&of_one, &Transports::new(), true);
    let mut frames = two.receive(&one);
    signal(&mut one, &mut two);
    one.until(|event| *event == RTCEvent::Connected).await;
    two.until(|event| *event == RTCEvent::Connected).await;
    hears(&one.source, &mut frames).await;
    let real = two.conn.local().ice;
    let other = RTCIceConnectionInfo::from_random([9; 32]);
    let never = RTCIceConnectionInfo { fingerprint: real.fingerprint.clone(), ..other };
    one.conn.set_remote_ice(never).unwrap();
    one.conn.connect().unwrap();
    let end = one.until(|event| matches!(event, RTCEvent::Disconnected(_))).await;
    assert_eq!(end, RTCEvent::Disconnected(RTCDisconnectReason::PathLost));
    // It is there after all.
    one.conn.set_remote_ice(real).unwrap();
    one.conn.connect().unwrap();
    one.until(|event| *event == RTCEvent::Connected).await;
    hears(&one.source, &mut frames).await;
}

/// Keys both ways, pressed once connected, with the sound between them.
async fn keys(of_one: Transports, of_two: Transports) {
    let (mut one, mut two) = sides(&of_one, &of_two, true);
    let handlers = [&one, &two].map(|side| side.conn.add_dtmf_handler(None).unwrap());
    let mut frames = (one.receive(&two), two.receive(&one));
    signal(&mut one, &mut two);
    let received = [one.added_handler().await, two.added_handler().await];
    for side in [&mut one, &mut two] {
        side.until(|event| *event == RTCEvent::Connected).await;
    }
    hears(&one.source, &mut frames.1).await;
    hears(&two.source, &mut frames.0).await;
    for (sender, receiver) in handlers.iter().zip([&received[1], &received[0]]) {
        let mut events = receiver.events();
        sender.insert_dtmf("1A#", Some(Duration::from_millis(70)), None).unwrap();
        for expected in ["1", "A", "#"] {
            let event = tokio::time::timeout(LIMIT, events.recv()).await.expect("in time");
            assert_eq!(event, Some(RTCDTMFEvent::Dtmf { tone: expected.into() }));
        }
    }
    hears(&one.source, &mut frames.1).await;
}

#[tokio::test]
async fn keys_go_over_webrtc_srtp_and_back() {
    keys(with_srtp(Transports::new()), Transports::new()).await;
}

#[tokio::test]
async fn keys_go_from_the_second_stack_to_itself() {
    keys(all(), all()).await;
}

#[tokio::test]
async fn webrtc_dtls_releases_no_key_to_another_certificate() {
    for one_is_client in [true, false] {
        let (mut one, mut two) =
            sides(&with_dtls(Transports::new()), &Transports::new(), one_is_client);
        // Two is signalled with the fingerprint of one in place of its own.
        let mut forged = two.conn.local().ice;
        forged.fingerprint = one.conn.local().ice.fingerprint;
        signal_as(&mut one, &mut two, forged);
        let end = one.until(|event| !is_candidate(event)).await;
        let mismatch = RTCDisconnectReason::Security(DtlsFailure::FingerprintMismatch);
        assert_eq!(end, RTCEvent::Disconnected(mismatch));
        assert_eq!(one.conn.remote().unwrap().dtls, None);
    }
}

fn is_candidate(event: &RTCEvent) -> bool {
    use RTCEvent::{ActiveCandidate, Candidate, EndOfCandidates};
    matches!(event, Candidate(_) | EndOfCandidates | ActiveCandidate { .. })
}
