//! What a peer does that was let in, has the keys of its own connection, and turns on us.
//!
//! Everything that it sends is authentic. It may spoil its own call; what it takes of a server is
//! bounded and counted, and those who are connected beside it notice nothing.

use std::net::SocketAddr;
use std::time::Duration;

use ortc_api::{
    Engine, ForwarderStats, FrameSender, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack,
    RTCConnection, RTCConnectionOptions, RTCEvent,
};
use ortc_io::DatagramKind;
use ortc_io::sim::{self, Host, LinkConfig, Network};
use ortc_tests::attack::{Forger, Insider, Speech, Wire, bye, nack, picture_loss, receiver_report};
use ortc_tests::{Pair, Peer, pass, signalled};

const SOON: Duration = Duration::from_secs(10);

/// Alice serves two: Carol, who is a friend, and Mallory.
struct Stage {
    net: Network,
    engine: Engine,
    carol: Pair,
    mallory: Pair,
    forger: Forger,
    wire: Wire,
    /// Mallory's address, and Alice's towards her.
    between: [SocketAddr; 2],
    /// From Carol to Alice.
    speech: Speech,
    /// The longest that a frame of that takes where nobody attacks.
    delay: Duration,
}

fn peer(host: &Host, options: RTCConnectionOptions) -> Peer {
    let conn = RTCConnection::new(options).expect("the engine runs");
    let events = conn.events();
    Peer { host: host.clone(), conn, events, seen: Vec::new() }
}

impl Stage {
    /// Connects both; `prepare` has its turn before.
    async fn set(net: Network, prepare: impl FnOnce(&Pair, &Pair)) -> Self {
        net.link(LinkConfig { delay: Duration::from_millis(10), ..LinkConfig::default() });
        let host = net.host("alice", &[[10, 0, 0, 1].into()]);
        let engine = Engine::simulated(host.io(), net.random());
        let side = || peer(&host, RTCConnectionOptions::new().with_engine(engine.clone()));
        let insider = Insider::default();
        let wire = Wire::tap(&net);
        let mut carol = Pair { alice: side(), bob: Peer::new(&net, "carol", 2, net.random()) };
        let place = net.host("mallory", &[[10, 0, 0, 66].into()]);
        let hostile = Peer::with_transports(place, net.random(), insider.transports());
        let mut mallory = Pair { alice: side(), bob: hostile };
        let speech = Speech::between(&carol.bob, &carol.alice);
        prepare(&carol, &mallory);
        carol.connect_within(SOON).await;
        mallory.connect_within(SOON).await;
        let between = wire.take().into_iter().rev().find_map(|seen| {
            let is_hers = seen.from.ip() == SocketAddr::from(([10, 0, 0, 66], 0)).ip();
            is_hers.then_some([seen.from, seen.to])
        });
        let forger = insider.forger();
        let between = between.expect("she has sent something");
        let mut stage =
            Self { net, engine, carol, mallory, forger, wire, between, speech, delay: SOON };
        let quiet = stage.speech.go_on(50, |_| {}).await;
        assert_eq!(quiet.lost, 0);
        stage.delay = quiet.slowest;
        stage
    }

    /// Has Carol go on for so many frames, with what Mallory sends before each of them; asserts
    /// that all come, and in time.
    async fn is_unharmed(
        &mut self,
        frames: u64,
        mut attack: impl FnMut(&mut Forger, u64) -> Vec<Vec<u8>>,
    ) {
        let Self { net, forger, between: [from, to], .. } = self;
        let heard = self.speech.go_on(frames, |n| {
            for datagram in attack(forger, n) {
                net.inject(*from, *to, &datagram);
            }
        });
        let heard = heard.await;
        assert_eq!((heard.sent, heard.lost), (frames, 0), "{heard:?}");
        let most = self.delay + Duration::from_millis(1);
        assert!(heard.slowest <= most, "{heard:?} where it was {:?}", self.delay);
    }

    async fn stats(&self) -> ForwarderStats {
        self.engine.stats().await.expect("the media thread lives")
    }

    /// Datagrams and bytes of RTP and RTCP that have gone to Mallory.
    fn to_mallory(&self, kind: DatagramKind) -> (u64, u64) {
        let [mallory, _] = self.between;
        self.wire.count(|seen| seen.to == mallory && seen.kind == kind)
    }
}

fn events_of(peer: &mut Peer) -> Vec<RTCEvent> {
    let mut events = std::mem::take(&mut peer.seen);
    while let Some(Some(event)) = futures_now(peer.events.recv()) {
        events.push(event);
    }
    events
}

/// What a future has at once.
fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn four_thousand_tracks_that_nobody_described_are_a_few_and_counted() {
    sim::run(1, |net| async move {
        let mut stage = Stage::set(net, |_, _| {}).await;
        let before = stage.stats().await.media.receive_drops;
        stage
            .is_unharmed(100, |forger, n| {
                let unknown = b"nobody has described this";
                (0..40).map(|k| forger.rtp(1_000 + (n * 40 + k) as u32, 7, unknown)).collect()
            })
            .await;
        pass(Duration::from_secs(10)).await;
        let drops = stage.stats().await.media.receive_drops;
        let turned_away = drops.too_many_ssrcs + drops.unknown_ssrc
            - (before.too_many_ssrcs + before.unknown_ssrc);
        assert_eq!(turned_away, 4_000, "{drops:?}");
        // Eight in a second are told of, and 64 wait for whoever does not listen.
        let events = events_of(&mut stage.mallory.alice);
        let told = events.iter().filter(|event| matches!(event, RTCEvent::UnknownTrack(_))).count();
        assert!((1..=64).contains(&told), "{told}");
    });
}

#[test]
fn a_storm_of_reports_is_answered_with_no_more_reports() {
    sim::run(2, |net| async move {
        let mut stage = Stage::set(net, |_, mallory| {
            let _ = mallory.alice.send_audio();
        })
        .await;
        stage.wire.take();
        pass(Duration::from_secs(30)).await;
        let (quiet, _) = stage.to_mallory(DatagramKind::Rtcp);
        stage.wire.take();
        let before = stage.stats().await;
        stage
            .is_unharmed(1_450, |forger, _| {
                (0..7).map(|_| forger.rtcp(&receiver_report(66))).collect()
            })
            .await;
        let after = stage.stats().await;
        let heard = after.media.rtcp_received - before.media.rtcp_received;
        assert!(heard >= 1_450 * 7, "{heard}");
        let (stormy, _) = stage.to_mallory(DatagramKind::Rtcp);
        assert!(stormy <= quiet + 2, "{stormy} reports in 30 s, where {quiet} were sent before");
    });
}

/// A picture of VP8 (RFC 6386 §9.1: the lowest bit of a key frame is clear).
fn picture(n: u64, is_key: bool) -> MediaFrame {
    let mut data = match is_key {
        true => vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00],
        false => vec![0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    data.resize(1_000, n as u8);
    MediaFrame { data: data.into(), timestamp: n * 1_800 }
}

fn send_pictures(from: &Peer) -> FrameSender {
    let (track, source) = MediaStreamTrack::local(MediaFormat::Vp8);
    let stream = MediaStream::new();
    stream.add_track(&track);
    from.conn.add_stream(&stream, true).expect("a fresh stream is added");
    source
}

#[test]
fn a_storm_of_nacks_has_at_most_half_of_what_is_sent_sent_again() {
    sim::run(3, |net| async move {
        let mut pictures = None;
        let mut stage = Stage::set(net, |_, mallory| {
            let source = send_pictures(&mallory.alice);
            let track = mallory.alice.conn.tracks(None)[0].description();
            mallory.bob.conn.receive_track(&signalled(&track)).expect("a valid track");
            pictures = Some((source, track.ssrc.parse::<u32>().expect("a number")));
        })
        .await;
        let (source, ssrc) = pictures.expect("they were prepared");
        stage.wire.take();
        let mut newest = None;
        let wire = stage.wire.clone();
        let [mallory, _] = stage.between;
        let before = stage.stats().await.media.recovery;
        stage
            .is_unharmed(500, |forger, n| {
                source.send(picture(n, n == 0)).expect("it is read");
                // Of what has come, the last 680 packets, in twenty NACKs of 34.
                let of_track = |bytes: &[u8]| bytes[8..12] == ssrc.to_be_bytes();
                for seen in wire.take() {
                    if seen.to == mallory && seen.kind == DatagramKind::Rtp && of_track(&seen.bytes)
                    {
                        newest = Some(u16::from_be_bytes([seen.bytes[2], seen.bytes[3]]));
                    }
                }
                let Some(newest) = newest else { return Vec::new() };
                (0_u16..20)
                    .map(|k| {
                        let first = newest.wrapping_sub(34 * (k + 1));
                        let lost = [first, first.wrapping_add(17)];
                        forger.rtcp(&[receiver_report(66), nack(66, ssrc, lost)].concat())
                    })
                    .collect()
            })
            .await;
        let after = stage.stats().await.media.recovery;
        let (asked, again) =
            (after.asked - before.asked, after.retransmitted - before.retransmitted);
        assert!(asked > 300_000, "{asked}");
        // 500 pictures of one packet each, and a burst at the beginning.
        assert!((1..=250 + 33).contains(&again), "{again} of 500 were sent again");
        let refused = |of: ortc_api::RecoveryStats| {
            of.unavailable + of.too_soon + of.over_budget + of.not_sealed
        };
        assert_eq!(again + refused(after) - refused(before), asked, "each is accounted for");
    });
}

/// Mallory is forwarded what Carol sends, and wants a key frame of her a hundred times a second.
#[test]
fn a_storm_for_key_frames_asks_a_publisher_twice_a_second() {
    sim::run(4, |net| async move {
        let mut pictures = None;
        let mut stage = Stage::set(net, |carol, mallory| {
            let source = send_pictures(&carol.bob);
            let track = carol.bob.conn.tracks(None).pop().expect("it is sent").description();
            let received = carol.alice.conn.receive_track(&signalled(&track));
            let stream = MediaStream::new();
            stream.add_track(&received.expect("a valid track"));
            mallory.alice.conn.add_stream(&stream, true).expect("it can be forwarded");
            let sent = mallory.alice.conn.tracks(None)[0].description();
            mallory.bob.conn.receive_track(&signalled(&sent)).expect("a valid track");
            pictures = Some((source, sent.ssrc.parse::<u32>().expect("a number")));
        })
        .await;
        let (source, ssrc) = pictures.expect("they were prepared");
        let before = stage.stats().await.media.key_frames_requested;
        let mut keys = 0;
        stage
            .is_unharmed(500, |forger, n| {
                let is_key = source.take_key_frame_request();
                keys += u32::from(is_key);
                source.send(picture(n, is_key || n == 0)).expect("it is read");
                (0..2)
                    .map(|_| forger.rtcp(&[receiver_report(66), picture_loss(66, ssrc)].concat()))
                    .collect()
            })
            .await;
        let asked = stage.stats().await.media.key_frames_requested - before;
        // Ten seconds, twice in each, and at the beginning.
        assert!((10..=22).contains(&asked), "{asked}");
        assert!(keys <= 22, "{keys}");
    });
}

#[test]
fn a_goodbye_for_somebody_elses_track_ends_nothing() {
    sim::run(5, |net| async move {
        let mut stage = Stage::set(net, |_, mallory| {
            let _ = mallory.alice.send_audio();
        })
        .await;
        let of_carol = stage.carol.bob.conn.tracks(None)[0].ssrc();
        let of_alice = stage.mallory.alice.conn.tracks(None)[0].ssrc();
        let sources = [of_carol, of_alice].map(|ssrc| ssrc.parse::<u32>().expect("a number"));
        stage
            .is_unharmed(150, |forger, _| {
                sources
                    .iter()
                    .map(|ssrc| forger.rtcp(&[receiver_report(*ssrc), bye(*ssrc)].concat()))
                    .collect()
            })
            .await;
        assert_eq!(stage.mallory.alice.conn.tracks(None).len(), 1);
        let events = events_of(&mut stage.carol.alice);
        assert!(!events.iter().any(|event| matches!(event, RTCEvent::Disconnected(_))));
    });
}

/// Packets as long as a datagram can be, or longer than any that is taken, or of a byte.
#[test]
fn packets_of_every_length_are_taken_or_counted() {
    sim::run(6, |net| async move {
        let mut stage = Stage::set(net, |_, _| {}).await;
        let before = stage.stats().await;
        let mut long = 0_u64;
        stage
            .is_unharmed(50, |_, n| {
                let lengths = [1, 2, 11, 12, 13, 1_472, 2_047, 2_048, 2_049, 9_000, 65_507];
                long += lengths.iter().filter(|len| **len > 2_048).count() as u64;
                lengths
                    .into_iter()
                    .map(|len| {
                        let mut datagram = vec![n as u8; len];
                        datagram[0] = 0x80;
                        datagram
                    })
                    .collect()
            })
            .await;
        let after = stage.stats().await;
        assert_eq!(after.too_long - before.too_long, long);
        let drops = after.media.receive_drops.total() - before.media.receive_drops.total();
        assert_eq!(drops, 50 * 11 - long, "the rest is malformed, or not authentic");
    });
}
