//! What may be sent is found out, and told: over networks whose rate changes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ortc_api::{
    BandwidthLimits, Engine, FrameReceiver, FrameSender, MediaFormat, MediaFrame, MediaStream,
    MediaStreamTrack, QualityLimitationReason, RTCConnection, RTCConnectionOptions, RTCEvent,
    RTCOutboundRtpStreamStats, RTCStats, RTCTrack,
};
use ortc_io::sim::{self, LinkConfig, Network};
use ortc_tests::{Pair, Peer, pass};

const SOON: Duration = Duration::from_secs(10);
const PICTURE: Duration = Duration::from_millis(33);

/// A call in which alice sends pictures, and hears how many bits she may send.
struct Call {
    pair: Pair,
    track: RTCTrack,
    frames: FrameSender,
    received: FrameReceiver,
    told: Arc<Mutex<Vec<u64>>>,
    sent: u64,
}

impl Call {
    async fn new(net: &Network, options: RTCConnectionOptions) -> Self {
        let host = net.host("alice", &[[10, 0, 0, 1].into()]);
        let alice = Peer::with_options(host, net.random(), options);
        Self::of(Pair { alice, bob: Peer::new(net, "bob", 2, net.random()) }).await
    }

    async fn of(pair: Pair) -> Self {
        Self::with_feedback(pair, None).await
    }

    /// The same, with a source that acts upon this feedback alone.
    async fn with_feedback(mut pair: Pair, feedback: Option<&str>) -> Self {
        pair.connect_within(SOON).await;
        let told = Arc::default();
        let theirs: Arc<Mutex<Vec<u64>>> = Arc::clone(&told);
        let hear = move |_: &RTCConnection, bits: u64| theirs.lock().unwrap().push(bits);
        pair.alice.conn.on_bandwidth(Some(hear));
        let (source, frames) = MediaStreamTrack::local(MediaFormat::Vp8);
        let stream = MediaStream::new();
        stream.add_track(&source);
        pair.alice.conn.add_stream(&stream, true).unwrap();
        let track = pair.alice.conn.tracks(None).remove(0);
        if let Some(feedback) = feedback {
            let mut codecs = track.codecs();
            codecs[0].rtcp_feedback = Some(vec![feedback.to_owned()]);
            track.set_codecs(codecs).unwrap();
        }
        pair.describe();
        let received = pair.bob.conn.receiving_streams().remove(0).tracks().remove(0);
        let received = received.take_frames().unwrap();
        Self { pair, track, frames, received, told, sent: 0 }
    }

    fn newest(&self) -> Option<u64> {
        self.told.lock().unwrap().last().copied()
    }

    /// Sends 30 pictures a second that have these bits together.
    async fn send(&mut self, seconds: u64, bits: impl Fn(&Self) -> u64) {
        for _ in 0..seconds * 30 {
            let len = (bits(self) as usize / 8 / 30).max(20);
            // Each a key frame of VP8 (RFC 6386 §9.1), so that none waits for another.
            let mut data = vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00];
            data.resize(len, 0x55);
            let frame = MediaFrame { data: data.into(), timestamp: self.sent * 3_000 };
            self.frames.send(frame).unwrap();
            self.sent += 1;
            pass(PICTURE).await;
        }
    }

    /// Nine tenths of what may be sent, as an encoder would have it.
    async fn send_what_may_be_sent(&mut self, seconds: u64) {
        self.send(seconds, |call| call.newest().unwrap_or(300_000) * 9 / 10).await;
    }

    /// What is told of the track that alice sends.
    async fn outbound(&self) -> RTCOutboundRtpStreamStats {
        self.pair.alice.conn.stats().await.outbound().next().unwrap().clone()
    }

    /// Reads what has come; how many pictures were whole.
    async fn whole(&mut self) -> u64 {
        let mut whole = 0;
        while let Ok(Some(frame)) =
            tokio::time::timeout(Duration::from_millis(500), self.received.recv()).await
        {
            whole += u64::from(frame.intact);
        }
        whole
    }
}

fn limited(rate: u64) -> LinkConfig {
    let delay = Duration::from_millis(25);
    LinkConfig { rate: Some(rate), queue: 128 * 1024, delay, ..LinkConfig::default() }
}

/// A call over 3 Mbit/s follows the rate down to 0.5 in 3 s, and back in 15.
async fn follows(net: &Network, call: &mut Call) {
    call.send_what_may_be_sent(15).await;
    let before = call.newest().unwrap();
    assert!((1_800_000..3_800_000).contains(&before), "{before} of 3 Mbit/s");
    net.link(limited(500_000));
    call.send_what_may_be_sent(3).await;
    let fallen = call.newest().unwrap();
    assert!(fallen < 600_000, "{fallen} of 0.5 Mbit/s after 3 s");
    call.send_what_may_be_sent(12).await;
    net.link(limited(3_000_000));
    call.send_what_may_be_sent(15).await;
    let risen = call.newest().unwrap();
    assert!(risen > 2_000_000, "{risen} of 3 Mbit/s after 15 s");
}

#[test]
fn a_rate_that_falls_and_rises_is_told_in_time() {
    for seed in 1..4 {
        sim::run(seed, |net| async move {
            net.link(limited(3_000_000));
            let mut call = Call::new(&net, RTCConnectionOptions::new()).await;
            follows(&net, &mut call).await;
        });
    }
}

#[test]
fn pictures_come_whole_while_it_is_probed_for_more() {
    sim::run(4, |net| async move {
        net.link(limited(4_000_000));
        let mut call = Call::new(&net, RTCConnectionOptions::new()).await;
        call.send(20, |_| 250_000).await;
        let told = call.newest().unwrap();
        assert!(told > 1_500_000, "{told} of 4 Mbit/s");
        assert_eq!(call.whole().await, call.sent, "padding is no part of a picture");
        assert_eq!(call.received.packet_counts().lost, 0);
    });
}

#[test]
fn limits_and_caps_are_kept() {
    sim::run(5, |net| async move {
        net.link(limited(4_000_000));
        let limits = BandwidthLimits { start: 500_000, min: 100_000, max: 800_000 };
        let options = RTCConnectionOptions::new().with_bandwidth(limits);
        let mut call = Call::new(&net, options).await;
        call.send_what_may_be_sent(10).await;
        // What changes by less than a twentieth is not told.
        assert!((760_000..=800_000).contains(&call.newest().unwrap()));
        call.track.set_max_bitrate(Some(400_000)).unwrap();
        assert_eq!(call.track.max_bitrate(), Some(400_000));
        call.send_what_may_be_sent(5).await;
        assert_eq!(call.newest(), Some(400_000));
        call.track.set_max_bitrate(None).unwrap();
        call.send_what_may_be_sent(10).await;
        // What changes by less than a twentieth is not told.
        assert!((760_000..=800_000).contains(&call.newest().unwrap()));
    });
}

#[test]
fn an_encoder_that_takes_all_there_is_is_limited_and_one_that_takes_less_is_not() {
    use QualityLimitationReason::{Bandwidth, None as Nothing, Other};
    sim::run(8, |net| async move {
        net.link(limited(1_000_000));
        let mut call = Call::new(&net, RTCConnectionOptions::new()).await;
        call.send_what_may_be_sent(15).await;
        let narrow = call.outbound().await;
        let spent = narrow.quality_limitation_durations.unwrap();
        assert_eq!(narrow.quality_limitation_reason, Some(Bandwidth));
        assert!(spent.bandwidth > 10.0 && spent.other == 0.0, "{spent:?}");
        // Of what size its pictures are, nobody says.
        assert_eq!(narrow.quality_limitation_resolution_changes, None);
        net.link(limited(6_000_000));
        call.send(15, |_| 700_000).await;
        let wide = call.outbound().await;
        assert_eq!(wide.quality_limitation_reason, Some(Nothing), "{:?}", call.newest());
        call.track.set_max_bitrate(Some(400_000)).unwrap();
        call.send(5, |_| 380_000).await;
        let capped = call.outbound().await;
        assert_eq!(capped.quality_limitation_reason, Some(Other));
        // It makes much less than it may.
        call.send(5, |_| 100_000).await;
        let little = call.outbound().await;
        assert_eq!(little.quality_limitation_reason, Some(Nothing));
        let spent = little.quality_limitation_durations.unwrap();
        assert!((3.0..8.0).contains(&spent.other), "{spent:?}");
    });
    // Where all of a connection is limited, it is the application as well.
    sim::run(9, |net| async move {
        net.link(limited(6_000_000));
        let limits = BandwidthLimits { start: 300_000, min: 100_000, max: 500_000 };
        let mut call = Call::new(&net, RTCConnectionOptions::new().with_bandwidth(limits)).await;
        call.send_what_may_be_sent(10).await;
        assert_eq!(call.outbound().await.quality_limitation_reason, Some(Other));
    });
}

#[test]
fn nothing_is_told_of_a_peer_that_says_nothing() {
    sim::run(6, |net| async move {
        let mut call = Call::new(&net, RTCConnectionOptions::new()).await;
        let mut codecs = call.track.codecs();
        for codec in &mut codecs {
            codec.rtcp_feedback = None;
        }
        call.track.set_codecs(codecs).unwrap();
        let before = call.newest();
        call.send(3, |_| 2_000_000).await;
        assert_eq!((before, call.newest()), (None, None));
        assert_eq!(call.whole().await, call.sent);
    });
}

#[test]
fn who_is_forwarded_a_track_has_a_bandwidth_of_its_own() {
    sim::run(7, |net| async move {
        net.link(limited(6_000_000));
        // Bob sends it on to carol, whose link takes less.
        let host = net.host("bob", &[[10, 0, 0, 2].into()]);
        let engine = Engine::simulated(host.io(), net.random());
        let side = || {
            let options = RTCConnectionOptions::new().with_engine(engine.clone());
            let conn = RTCConnection::new(options).unwrap();
            let events = conn.events();
            Peer { host: host.clone(), conn, events, seen: Vec::new() }
        };
        let alice = Peer::new(&net, "alice", 1, net.random());
        let mut call = Call::of(Pair { alice, bob: side() }).await;
        let carol = Peer::new(&net, "carol", 3, net.random());
        let mut onward = Pair { alice: carol, bob: side() };
        onward.connect_within(SOON).await;
        let slow = limited(1_000_000);
        net.link_from(&host, &onward.alice.host, slow);
        let stream = call.pair.bob.conn.receiving_streams().remove(0);
        onward.bob.conn.add_stream(&stream, true).unwrap();
        onward.describe();
        let told = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&told);
        let hear = move |_: &RTCConnection, bits: u64| theirs.store(bits, Ordering::Relaxed);
        onward.bob.conn.on_bandwidth(Some(hear));
        call.send(20, |_| 600_000).await;
        let (first, second) = (call.newest().unwrap(), told.load(Ordering::Relaxed));
        assert!(first > 2_000_000, "{first} of 6 Mbit/s");
        assert!((500_000..1_400_000).contains(&second), "{second} of 1 Mbit/s");
        let of_track = |event: &RTCEvent| matches!(event, RTCEvent::Bandwidth(_));
        onward.bob.until(SOON, of_track).await;
    });
}

/// Has alice act upon this feedback and no other.
async fn with_feedback(net: &Network, feedback: &str) -> Call {
    let host = net.host("alice", &[[10, 0, 0, 1].into()]);
    let alice = Peer::with_options(host, net.random(), RTCConnectionOptions::new());
    let pair = Pair { alice, bob: Peer::new(net, "bob", 2, net.random()) };
    Call::with_feedback(pair, Some(feedback)).await
}

#[test]
fn feedback_about_streams_is_as_good_as_that_about_numbers() {
    for seed in 10..13 {
        sim::run(seed, |net| async move {
            net.link(limited(3_000_000));
            let mut call = with_feedback(&net, "ack ccfb").await;
            follows(&net, &mut call).await;
        });
    }
}

#[test]
fn a_peer_that_only_names_a_rate_is_sent_no_more_than_that() {
    for seed in 20..23 {
        sim::run(seed, |net| async move {
            net.link(limited(1_000_000));
            let mut call = with_feedback(&net, "goog-remb").await;
            call.send_what_may_be_sent(30).await;
            let told = call.newest().unwrap();
            assert!((500_000..1_300_000).contains(&told), "{told} of 1 Mbit/s");
            let stats = call.pair.bob.conn.stats().await;
            let incoming = stats.stats.iter().find_map(|it| match it {
                RTCStats::CandidatePair(pair) => pair.available_incoming_bitrate,
                _ => None,
            });
            assert!(incoming.is_some_and(|bits| bits > 400_000.0), "{incoming:?}");
            net.link(limited(300_000));
            call.send_what_may_be_sent(10).await;
            let fallen = call.newest().unwrap();
            assert!(fallen < 400_000, "{fallen} of 0.3 Mbit/s");
        });
    }
}
