//! A track in several encodings: each member of a room is sent the one that it has room for, as
//! one stream without a seam.

use std::time::Duration;

use ortc_api::{
    BandwidthLimits, FrameReceiver, FrameSender, Layer, MediaFormat, MediaFrame, MediaStream,
    MediaStreamTrack, QualityLimitationDurations, QualityLimitationReason, RTCConnectionOptions,
    RTCEncoding, RTCOutboundRtpStreamStats, RTCTrack, ReceivedFrame,
};
use ortc_io::sim::{self, LinkConfig, Network};
use ortc_tests::{Pair, Server, pass, signalled};

const PICTURE: Duration = Duration::from_millis(33);

/// What the encodings take, in bits per second, and how large their pictures are.
const ENCODINGS: [(&str, f64, u64); 3] =
    [("q", 4.0, 90_000), ("h", 2.0, 350_000), ("f", 1.0, 1_500_000)];
const WIDTH: u32 = 1_280;

/// An encoder that makes a picture in three encodings 30 times a second, and key frames only when
/// it is asked for them.
struct Camera {
    senders: Vec<FrameSender>,
    pictures: u64,
    /// Frames of each encoding so far.
    made: [u32; 3],
    keys: [u32; 3],
    is_on: [bool; 3],
    /// Whether the next picture is a key frame in every encoding.
    wants_keys: bool,
}

impl Camera {
    fn new() -> (MediaStreamTrack, Self) {
        let encodings = ENCODINGS.map(|(rid, scale, bits)| RTCEncoding {
            max_bitrate: Some(bits),
            ..RTCEncoding::new(rid, scale)
        });
        let (track, senders) = MediaStreamTrack::simulcast(MediaFormat::Vp8, &encodings).unwrap();
        let (made, keys, is_on) = ([0; 3], [0; 3], [true; 3]);
        (track, Self { senders, pictures: 0, made, keys, is_on, wants_keys: false })
    }

    /// The next picture, in every encoding that is on.
    fn shoot(&mut self) {
        self.pictures += 1;
        let wants_keys = std::mem::take(&mut self.wants_keys);
        for (n, (sender, (_, scale, bits))) in self.senders.iter().zip(ENCODINGS).enumerate() {
            if !self.is_on[n] {
                continue;
            }
            let is_key = sender.take_key_frame_request() || self.made[n] == 0 || wants_keys;
            self.keys[n] += u32::from(is_key);
            let len = bits as usize / 8 / 30 * if is_key { 3 } else { 1 };
            let (width, height) = ((WIDTH as f64 / scale) as u16, (720.0 / scale) as u16);
            // RFC 6386 §9.1.
            let mut data = vec![0x10 | u8::from(!is_key), 0, 0, 0x9d, 0x01, 0x2a];
            data.extend(width.to_le_bytes());
            data.extend(height.to_le_bytes());
            data.push(n as u8);
            data.extend(self.made[n].to_be_bytes());
            data.resize(len.max(32), 0x55);
            self.made[n] += 1;
            let frame = MediaFrame { data: data.into(), timestamp: self.pictures * 3_000 };
            sender.send(frame).unwrap();
        }
    }

    async fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 30 {
            self.shoot();
            pass(PICTURE).await;
        }
    }
}

/// A member that watches.
struct Viewer {
    pair: Pair,
    track: RTCTrack,
    frames: FrameReceiver,
    decoder: Decoder,
}

/// Notices whatever an actual decoder would stumble over.
#[derive(Default)]
struct Decoder {
    last: Option<(u8, u32, u64)>,
    /// Encodings as they were shown, each with how many pictures.
    shown: Vec<(u8, u32)>,
}

impl Decoder {
    fn take(&mut self, frame: &ReceivedFrame) {
        let encoding = frame.data[10];
        let number = u32::from_be_bytes(frame.data[11..15].try_into().unwrap());
        assert!(frame.intact, "{encoding} {number}");
        if let Some((last, before, timestamp)) = self.last {
            let is_next = last == encoding && number == before + 1;
            assert!(
                frame.key || is_next,
                "{encoding} {number} cannot be decoded after {last} {before}"
            );
            assert!(frame.timestamp > timestamp, "time goes on");
            if is_next {
                // The first after a change may have been later than it is.
                let passed = frame.timestamp - timestamp;
                assert!((2_000..=3_000).contains(&passed), "{passed} between two pictures");
            }
        } else {
            assert!(frame.key, "it begins with a key frame");
        }
        self.last = Some((encoding, number, frame.timestamp));
        match self.shown.last_mut() {
            Some((last, count)) if *last == encoding => *count += 1,
            _ => self.shown.push((encoding, 1)),
        }
    }
}

impl Viewer {
    /// Joins a room, over a link that takes so much, and watches a stream.
    async fn join(
        net: &Network,
        server: &Server,
        stream: &MediaStream,
        last: u8,
        rate: u64,
    ) -> Self {
        let pair = server.join(net, last).await;
        Self::watching(net, server, pair, stream, rate)
    }

    /// Watches a stream over a link that takes so much.
    fn watching(
        net: &Network,
        server: &Server,
        pair: Pair,
        stream: &MediaStream,
        rate: u64,
    ) -> Self {
        net.link_from(&server.host, &pair.alice.host, limited(rate));
        pair.bob.conn.add_stream(stream, true).unwrap();
        for track in pair.bob.conn.tracks(None) {
            let description = signalled(&track.description());
            assert_eq!(description.encodings, [], "it is sent as one");
            pair.alice.conn.receive_track(&description).unwrap();
        }
        let received = pair.alice.conn.receiving_streams().remove(0).tracks().remove(0);
        let track = pair.bob.conn.tracks(None).remove(0);
        let frames = received.take_frames().unwrap();
        Self { pair, track, frames, decoder: Decoder::default() }
    }

    /// Decodes what has come.
    async fn watch(&mut self) {
        while let Ok(Some(frame)) =
            tokio::time::timeout(Duration::from_millis(1), self.frames.recv()).await
        {
            self.decoder.take(&frame);
        }
    }

    /// What is told of the track that it is sent.
    async fn told(&self) -> RTCOutboundRtpStreamStats {
        self.pair.bob.conn.stats().await.outbound().next().unwrap().clone()
    }

    /// The encoding that it was shown last.
    fn shown(&self) -> Option<u8> {
        self.decoder.last.map(|(encoding, ..)| encoding)
    }
}

fn limited(rate: u64) -> LinkConfig {
    let delay = Duration::from_millis(25);
    LinkConfig { rate: Some(rate), queue: 128 * 1024, delay, ..LinkConfig::default() }
}

/// The same, where one packet in twenty is lost.
fn limited_and_lossy(rate: u64) -> LinkConfig {
    LinkConfig { loss: 0.05, jitter: Duration::from_millis(20), ..limited(rate) }
}

/// A room in which one member publishes three encodings.
async fn published(net: &Network) -> (Server, Pair, MediaStream, Camera) {
    let server = Server::new(net);
    let publisher = server.join(net, 1).await;
    let (source, camera) = Camera::new();
    let stream = MediaStream::new();
    stream.add_track(&source);
    publisher.alice.conn.add_stream(&stream, true).unwrap();
    let description = signalled(&publisher.alice.conn.tracks(None)[0].description());
    assert_eq!(description.encodings.len(), 3);
    publisher.bob.conn.receive_track(&description).unwrap();
    let received = publisher.bob.conn.receiving_streams().remove(0);
    (server, publisher, received, camera)
}

#[test]
fn each_member_gets_the_encoding_that_its_link_takes() {
    for seed in 1..4 {
        sim::run(seed, |net| async move {
            let (server, _publisher, stream, mut camera) = published(&net).await;
            let mut viewers = Vec::new();
            for (last, rate) in [(2, 3_000_000), (3, 600_000), (4, 150_000)] {
                viewers.push(Viewer::join(&net, &server, &stream, last, rate).await);
            }
            for second in 0..25 {
                camera.run(1).await;
                for viewer in &mut viewers {
                    viewer.watch().await;
                }
                if second >= 15 {
                    let shown: Vec<_> = viewers.iter().map(Viewer::shown).collect();
                    assert_eq!(shown, [Some(2), Some(1), Some(0)], "after {second} s, seed {seed}");
                }
            }
            // One key frame for each that goes to an encoding, or one for several.
            assert!(camera.keys.iter().all(|keys| *keys <= 6), "{:?}", camera.keys);
        });
    }
}

/// Runs until a viewer is shown an encoding, for so long at the most; how many seconds that took.
async fn until_shown(
    camera: &mut Camera,
    viewer: &mut Viewer,
    encoding: u8,
    seconds: u64,
) -> Option<f64> {
    for picture in 0..seconds * 30 {
        camera.shoot();
        pass(PICTURE).await;
        viewer.watch().await;
        if viewer.shown() == Some(encoding) {
            return Some(picture as f64 / 30.0);
        }
    }
    None
}

#[test]
fn a_link_that_changes_is_followed_down_at_once_and_up_in_time() {
    for seed in 11..14 {
        sim::run(seed, |net| async move {
            let (server, _publisher, stream, mut camera) = published(&net).await;
            let mut viewer = Viewer::join(&net, &server, &stream, 2, 3_000_000).await;
            assert!(until_shown(&mut camera, &mut viewer, 2, 15).await.is_some());
            camera.run(5).await;
            viewer.watch().await;
            let link = |rate| net.link_from(&server.host, &viewer.pair.alice.host, limited(rate));
            link(500_000);
            let fell = until_shown(&mut camera, &mut viewer, 1, 6).await;
            assert!(fell.is_some(), "not within 6 s, seed {seed}");
            for _ in 0..10 {
                camera.run(1).await;
                viewer.watch().await;
            }
            assert!(viewer.shown() < Some(2), "it stays there");
            let link = |rate| net.link_from(&server.host, &viewer.pair.alice.host, limited(rate));
            link(3_000_000);
            let rose = until_shown(&mut camera, &mut viewer, 2, 20).await;
            assert!(rose.is_some(), "not within 20 s, seed {seed}");
        });
    }
}

#[test]
fn what_is_lost_while_encodings_change_is_sent_again_as_it_was() {
    for seed in 51..57 {
        sim::run(seed, |net| async move {
            let (server, _publisher, stream, mut camera) = published(&net).await;
            let mut viewer = Viewer::join(&net, &server, &stream, 2, 6_000_000).await;
            assert!(until_shown(&mut camera, &mut viewer, 2, 15).await.is_some());
            let (here, there) = (&server.host, &viewer.pair.alice.host);
            net.link_from(here, there, limited_and_lossy(6_000_000));
            net.link_from(there, here, limited_and_lossy(6_000_000));
            // Whoever shows what comes would stumble over a number, a time or a picture that is
            // not the next one.
            for (change, spatial) in [0, 2, 1, 0, 1, 2].repeat(3).into_iter().enumerate() {
                viewer.track.set_max_layer(Some(Layer { spatial, temporal: 0 })).unwrap();
                let took = until_shown(&mut camera, &mut viewer, spatial, 8).await;
                assert!(took.is_some(), "change {change} to {spatial}, seed {seed}");
                // Nobody reads for longer than anything that is missing is waited for.
                camera.run(2).await;
                viewer.watch().await;
            }
            pass(Duration::from_secs(2)).await;
            viewer.watch().await;
            assert_eq!(viewer.frames.packet_counts().lost, 0, "seed {seed}");
            let served = server.engine.stats().await.unwrap().media.recovery;
            assert!(served.retransmitted > 50, "{served:?}");
        });
    }
}

#[test]
fn an_encoding_that_stops_is_left_for_another_and_gone_back_to() {
    sim::run(21, |net| async move {
        let (server, publisher, stream, mut camera) = published(&net).await;
        let mut viewer = Viewer::join(&net, &server, &stream, 2, 6_000_000).await;
        assert!(until_shown(&mut camera, &mut viewer, 2, 15).await.is_some());
        // Its encoder makes it no more, as a browser's does that has too little room.
        camera.is_on[2] = false;
        let took = until_shown(&mut camera, &mut viewer, 1, 3).await;
        assert!(took.is_some_and(|seconds| seconds < 1.5), "{took:?}");
        camera.is_on[2] = true;
        assert!(until_shown(&mut camera, &mut viewer, 2, 5).await.is_some());
        // The application stops it.
        let track = publisher.alice.conn.tracks(None).remove(0);
        track.set_encoding_active("f", false).unwrap();
        let active: Vec<_> = track.description().encodings.iter().map(|it| it.active).collect();
        assert_eq!(active, [None, None, Some(false)]);
        assert!(until_shown(&mut camera, &mut viewer, 1, 3).await.is_some());
        assert!(track.set_encoding_active("x", false).is_err());
        // And all of them for a while: what comes after that goes on.
        track.stop().unwrap();
        camera.run(5).await;
        viewer.watch().await;
        let before = viewer.decoder.shown.last().copied();
        track.start().unwrap();
        track.set_encoding_active("f", true).unwrap();
        pass(PICTURE).await;
        camera.wants_keys = true;
        assert!(until_shown(&mut camera, &mut viewer, 2, 6).await.is_some());
        assert!(viewer.decoder.shown.last().copied() != before);
    });
}

#[test]
fn a_cap_and_the_application_have_less_sent() {
    sim::run(31, |net| async move {
        let (server, _publisher, stream, mut camera) = published(&net).await;
        let mut viewer = Viewer::join(&net, &server, &stream, 2, 6_000_000).await;
        assert!(until_shown(&mut camera, &mut viewer, 2, 15).await.is_some());
        viewer.track.set_max_bitrate(Some(500_000)).unwrap();
        assert!(until_shown(&mut camera, &mut viewer, 1, 2).await.is_some());
        viewer.track.set_max_bitrate(None).unwrap();
        assert!(until_shown(&mut camera, &mut viewer, 2, 15).await.is_some());
        viewer.track.set_max_layer(Some(Layer { spatial: 0, temporal: 0 })).unwrap();
        assert!(until_shown(&mut camera, &mut viewer, 0, 2).await.is_some());
        viewer.track.set_max_layer(None).unwrap();
        assert!(until_shown(&mut camera, &mut viewer, 2, 15).await.is_some());
        // Of what is sent as it is, nothing is chosen.
        let (source, _camera) = Camera::new();
        let own = MediaStream::new();
        own.add_track(&source);
        viewer.pair.alice.conn.add_stream(&own, true).unwrap();
        let local = viewer.pair.alice.conn.tracks(None).remove(0);
        assert!(local.set_max_layer(None).is_err());
    });
}

#[test]
fn where_a_server_gives_a_member_no_more_the_reason_is_the_server() {
    sim::run(62, |net| async move {
        let (server, _publisher, stream, mut camera) = published(&net).await;
        let limits = BandwidthLimits { start: 300_000, min: 100_000, max: 700_000 };
        let options = RTCConnectionOptions::new().with_bandwidth(limits);
        let pair = server.join_with(&net, 2, options).await;
        let mut viewer = Viewer::watching(&net, &server, pair, &stream, 6_000_000);
        assert!(until_shown(&mut camera, &mut viewer, 1, 15).await.is_some());
        for _ in 0..10 {
            camera.run(1).await;
            viewer.watch().await;
        }
        assert_eq!(viewer.shown(), Some(1));
        let told = viewer.told().await;
        assert_eq!(told.quality_limitation_reason, Some(QualityLimitationReason::Other));
    });
}

fn sum(durations: &QualityLimitationDurations) -> f64 {
    let QualityLimitationDurations { none, cpu, bandwidth, other } = durations;
    none + cpu + bandwidth + other
}

#[test]
fn what_a_member_is_not_sent_is_told_with_the_reason_and_how_long() {
    use QualityLimitationReason::{Bandwidth, None as Nothing, Other};
    sim::run(61, |net| async move {
        let (server, publisher, stream, mut camera) = published(&net).await;
        let mut viewer = Viewer::join(&net, &server, &stream, 2, 6_000_000).await;
        let reason = |told: &RTCOutboundRtpStreamStats| told.quality_limitation_reason.unwrap();
        let spent = |told: &RTCOutboundRtpStreamStats| told.quality_limitation_durations.unwrap();
        let changes =
            |told: &RTCOutboundRtpStreamStats| told.quality_limitation_resolution_changes.unwrap();
        // Nobody knows at first what its link takes, so it begins with less.
        assert!(until_shown(&mut camera, &mut viewer, 0, 3).await.is_some());
        assert_eq!(reason(&viewer.told().await), Bandwidth);
        assert!(until_shown(&mut camera, &mut viewer, 2, 15).await.is_some());
        camera.run(2).await;
        viewer.watch().await;
        let best = viewer.told().await;
        assert_eq!(reason(&best), Nothing);
        assert!(changes(&best) >= 1, "{best:?}");
        // The best encoding ends, and comes again: nothing is kept back.
        camera.is_on[2] = false;
        assert!(until_shown(&mut camera, &mut viewer, 1, 3).await.is_some());
        camera.run(2).await;
        viewer.watch().await;
        let without = viewer.told().await;
        assert_eq!((reason(&without), changes(&without)), (Nothing, changes(&best)));
        assert_eq!(spent(&without).bandwidth, spent(&best).bandwidth);
        camera.is_on[2] = true;
        assert!(until_shown(&mut camera, &mut viewer, 2, 5).await.is_some());
        // Its link takes less.
        let link = |rate| net.link_from(&server.host, &viewer.pair.alice.host, limited(rate));
        link(500_000);
        assert!(until_shown(&mut camera, &mut viewer, 1, 6).await.is_some());
        for _ in 0..5 {
            camera.run(1).await;
            viewer.watch().await;
        }
        let narrow = viewer.told().await;
        assert_eq!(reason(&narrow), Bandwidth);
        let link = |rate| net.link_from(&server.host, &viewer.pair.alice.host, limited(rate));
        link(6_000_000);
        assert!(until_shown(&mut camera, &mut viewer, 2, 20).await.is_some());
        camera.run(2).await;
        viewer.watch().await;
        let wide = viewer.told().await;
        assert_eq!(reason(&wide), Nothing);
        assert!(spent(&wide).bandwidth >= spent(&best).bandwidth + 5.0, "{best:?} {wide:?}");
        assert!(changes(&wide) >= changes(&best) + 2, "down and up: {best:?} {wide:?}");
        assert_eq!(spent(&wide).other, 0.0);
        // The application wants less, by a cap and by a layer.
        viewer.track.set_max_bitrate(Some(500_000)).unwrap();
        assert!(until_shown(&mut camera, &mut viewer, 1, 2).await.is_some());
        camera.run(3).await;
        viewer.watch().await;
        let capped = viewer.told().await;
        assert_eq!(reason(&capped), Other);
        viewer.track.set_max_bitrate(None).unwrap();
        assert!(until_shown(&mut camera, &mut viewer, 2, 15).await.is_some());
        camera.run(1).await;
        viewer.watch().await;
        assert_eq!(reason(&viewer.told().await), Nothing);
        viewer.track.set_max_layer(Some(Layer { spatial: 0, temporal: 0 })).unwrap();
        assert!(until_shown(&mut camera, &mut viewer, 0, 2).await.is_some());
        camera.run(2).await;
        let small = viewer.told().await;
        assert_eq!(reason(&small), Other);
        assert!(spent(&small).other >= 5.0, "{small:?}");
        assert_eq!(spent(&small).bandwidth, spent(&wide).bandwidth);
        assert!(changes(&small) >= changes(&wide) + 3, "{wide:?} {small:?}");
        // Each second is spent with one reason.
        let passed = (small.timestamp - best.timestamp) / 1e3;
        let told = sum(&spent(&small)) - sum(&spent(&best));
        assert!((told - passed).abs() < 0.01, "{told} of {passed}");
        // Who is stopped is not limited.
        viewer.track.stop().unwrap();
        camera.run(1).await;
        assert_eq!(reason(&viewer.told().await), Nothing);
        // The encodings, as they are published.
        let stats = publisher.alice.conn.stats().await;
        let mut published: Vec<_> = stats
            .outbound()
            .map(|it| {
                assert_eq!((it.quality_limitation_resolution_changes, reason(it)), (None, Nothing));
                (it.encoding_index, it.rid.clone().unwrap())
            })
            .collect();
        published.sort();
        let rids = ENCODINGS.map(|(rid, ..)| rid.to_owned());
        let expected: Vec<_> = (0..).zip(rids).collect();
        assert_eq!(published, expected);
    });
}

#[test]
fn who_reads_a_track_gets_its_best_encoding_as_one() {
    sim::run(41, |net| async move {
        let (_server, publisher, stream, mut camera) = published(&net).await;
        let mut frames = stream.tracks()[0].take_frames().unwrap();
        let mut decoder = Decoder::default();
        let track = publisher.alice.conn.tracks(None).remove(0);
        for active in [true, false, true] {
            track.set_encoding_active("f", active).unwrap();
            for _ in 0..150 {
                camera.shoot();
                pass(PICTURE).await;
                while let Ok(Some(frame)) =
                    tokio::time::timeout(Duration::from_millis(1), frames.recv()).await
                {
                    decoder.take(&frame);
                }
            }
            assert_eq!(
                decoder.last.map(|(encoding, ..)| encoding),
                Some(if active { 2 } else { 1 })
            );
        }
        assert_eq!(frames.packet_counts().lost, 0);
    });
}
