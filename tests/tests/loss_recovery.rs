//! Pictures over a network that loses one packet in twenty.

use std::time::Duration;

use ortc_api::{
    Engine, ForwarderStats, FrameReceiver, FrameSender, MediaFormat, MediaFrame, MediaStream,
    MediaStreamTrack, RTCConnection, RTCConnectionOptions, RecoveryStats, RtcpFeedback,
};
use ortc_io::sim::{self, Host, LinkConfig, Network};
use ortc_tests::{Pair, Peer, lossy, pass, signalled};

/// Time enough to connect at that loss.
const SOON: Duration = Duration::from_secs(60);

const FRAMES: u64 = 1_500;
const FRAME_TIME: Duration = Duration::from_millis(33);

/// The `n`th picture.
fn picture(n: u64, is_key: bool) -> MediaFrame {
    ortc_tests::picture(n, is_key, n * 2_970)
}

/// A peer on a host of its own, or one of several connections of a host, with its engine.
struct Side {
    engine: Engine,
    host: Host,
}

impl Side {
    fn new(net: &Network, name: &str, last: u8) -> Self {
        let host = net.host(name, &[[10, 0, 0, last].into()]);
        Self { engine: Engine::simulated(host.io(), net.random()), host }
    }

    fn peer(&self) -> Peer {
        let options = RTCConnectionOptions::new().with_engine(self.engine.clone());
        let conn = RTCConnection::new(options).unwrap();
        let events = conn.events();
        Peer { host: self.host.clone(), conn, events, seen: Vec::new() }
    }

    async fn stats(&self) -> ForwarderStats {
        self.engine.stats().await.unwrap()
    }
}

/// Has `from` send pictures.
fn send_video(from: &Peer) -> FrameSender {
    let (track, source) = MediaStreamTrack::local(MediaFormat::Vp8);
    let stream = MediaStream::new();
    stream.add_track(&track);
    from.conn.add_stream(&stream, true).unwrap();
    source
}

/// Has `to` receive the one track of `from`.
fn receive_video(from: &Peer, to: &Peer) -> MediaStreamTrack {
    let description = from.conn.tracks(None)[0].description();
    assert!(description.takes(RtcpFeedback::Nack) && description.rtx_ssrc().unwrap().is_some());
    to.conn.receive_track(&signalled(&description)).unwrap()
}

/// Sends so many frames, a key frame whenever one is wanted, half a minute apart otherwise.
async fn play(source: &FrameSender) {
    let mut tick = tokio::time::interval(FRAME_TIME);
    for n in 0..FRAMES {
        tick.tick().await;
        let is_key = source.take_key_frame_request() || n % 900 == 0;
        source.send(picture(n, is_key)).unwrap();
    }
    pass(Duration::from_secs(2)).await;
}

/// How many frames could not be shown, from the first one on, until none comes any more. A key
/// frame is asked for while nothing can be shown: so when the very first packet was lost, which
/// nobody can know of.
async fn missing(track: &MediaStreamTrack, mut frames: FrameReceiver) -> u64 {
    let (mut first, mut shown, mut newest) = (None, 0, None);
    while let Ok(frame) = tokio::time::timeout(Duration::from_secs(10), frames.recv()).await {
        let Some(frame) = frame else { break };
        let n = u64::from_be_bytes(frame.data[10..18].try_into().unwrap());
        assert!(newest < Some(n), "{n} after {newest:?}");
        assert_eq!(frame.data, picture(n, frame.key).data);
        newest = Some(n);
        if frame.intact {
            first.get_or_insert(n);
            shown += 1;
        } else {
            track.request_key_frame();
        }
    }
    let first = first.expect("something was shown");
    assert!(first < 30, "nothing was shown before {first}");
    FRAMES - first - shown
}

#[test]
fn one_peer_shows_the_other_all_but_one_frame_in_a_thousand() {
    for seed in 0..8 {
        sim::run(seed, |net| async move {
            net.link(lossy());
            let (alice, bob) = (Side::new(&net, "alice", 1), Side::new(&net, "bob", 2));
            let mut pair = Pair { alice: alice.peer(), bob: bob.peer() };
            let source = send_video(&pair.alice);
            let track = receive_video(&pair.alice, &pair.bob);
            pair.connect_within(SOON).await;
            let frames = track.take_frames().unwrap();
            let ((), missing) = tokio::join!(play(&source), missing(&track, frames));
            assert!(missing <= FRAMES / 1_000, "seed {seed}: {missing} of {FRAMES}");
            let (sent, received) = (alice.stats().await.media, bob.stats().await.media);
            let lost = FRAMES * 4 / 20;
            assert!(received.recovery.recovered > lost / 2, "{received:?}");
            assert!(sent.recovery.retransmitted < 3 * lost, "{sent:?}");
            assert_eq!(sent.recovery.not_sealed + received.receive_drops.malformed, 0);
        });
    }
}

#[test]
fn a_room_makes_good_what_is_lost_on_either_leg() {
    for seed in 10..18 {
        sim::run(seed, |net| async move {
            net.link(lossy());
            let server = Side::new(&net, "server", 100);
            let publisher = Side::new(&net, "publisher", 1);
            let mut publishing = Pair { alice: publisher.peer(), bob: server.peer() };
            publishing.connect_within(SOON).await;
            let source = send_video(&publishing.alice);
            let published = receive_video(&publishing.alice, &publishing.bob);
            let stream = MediaStream::new();
            stream.add_track(&published);
            let mut subscribed = Vec::new();
            for last in 2..4 {
                let side = Side::new(&net, "subscriber", last);
                let mut pair = Pair { alice: side.peer(), bob: server.peer() };
                pair.connect_within(SOON).await;
                pair.bob.conn.add_stream(&stream, true).unwrap();
                let track = receive_video(&pair.bob, &pair.alice);
                subscribed.push((track, pair, side));
            }
            pass(Duration::from_millis(200)).await;
            let watch = |at: usize| {
                let track = &subscribed[at].0;
                missing(track, track.take_frames().unwrap())
            };
            let ((), one, other) = tokio::join!(play(&source), watch(0), watch(1));
            for missing in [one, other] {
                assert!(missing <= FRAMES / 1_000, "seed {seed}: {missing} of {FRAMES}");
            }
            let (sent, served) = (publisher.stats().await.media, server.stats().await.media);
            let lost = FRAMES * 4 / 20;
            // What the publisher is asked for is what the server has missed, once for all.
            assert!(sent.recovery.asked <= served.recovery.asked_for, "{sent:?}");
            assert!(sent.recovery.retransmitted < 3 * lost, "{sent:?}");
            assert!(served.recovery.recovered > lost / 2, "{served:?}");
            // What the subscribers have missed is the server's matter.
            assert!(served.recovery.retransmitted > lost, "{served:?}");
            assert_eq!(served.recovery.not_sealed, 0, "{served:?}");
            drop(subscribed);
        });
    }
}

#[test]
fn a_clean_network_is_asked_for_nothing() {
    sim::run(20, |net| async move {
        net.link(LinkConfig { delay: Duration::from_millis(50), ..LinkConfig::default() });
        let (alice, bob) = (Side::new(&net, "alice", 1), Side::new(&net, "bob", 2));
        let mut pair = Pair { alice: alice.peer(), bob: bob.peer() };
        let source = send_video(&pair.alice);
        let track = receive_video(&pair.alice, &pair.bob);
        pair.connect_within(SOON).await;
        let frames = track.take_frames().unwrap();
        let ((), missing) = tokio::join!(play(&source), missing(&track, frames));
        assert_eq!(missing, 0);
        let (sent, received) = (alice.stats().await.media, bob.stats().await.media);
        // Padding is no answer to anything: it probes for more bandwidth.
        let padding = received.recovery.padding;
        let nothing = RecoveryStats { padding, ..RecoveryStats::default() };
        assert_eq!((sent.recovery, received.recovery), (RecoveryStats::default(), nothing));
    });
}

#[test]
fn a_key_frame_that_a_peer_asks_for_is_asked_of_the_source() {
    sim::run(21, |net| async move {
        let mut pair = Pair::new(&net);
        let source = send_video(&pair.alice);
        let track = receive_video(&pair.alice, &pair.bob);
        pair.connect_within(SOON).await;
        source.send(picture(0, true)).unwrap();
        pass(Duration::from_secs(1)).await;
        assert!(!source.take_key_frame_request());
        track.request_key_frame();
        tokio::time::timeout(SOON, source.key_frame_requested()).await.unwrap();
        assert!(!source.take_key_frame_request(), "it was one");
    });
}
