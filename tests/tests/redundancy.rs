//! Sound whose packets repeat those before them (RFC 2198), over networks that lose some.

use std::collections::BTreeSet;
use std::time::Duration;

use ortc_api::{
    CodecName, Engine, FrameReceiver, FrameSender, MediaStream, RTCCodec, RTCConnection,
    RTCConnectionOptions, RTCInboundRtpStreamStats, rtc_capabilities, rtc_codec,
};
use ortc_io::sim::{self, Host, LinkConfig, Network};
use ortc_tests::{Pair, Peer, frame, pass};

const SOON: Duration = Duration::from_secs(60);
const FRAME_TIME: Duration = Duration::from_millis(20);
const FRAMES: u64 = 1_000;

fn lossy(loss: f64) -> LinkConfig {
    LinkConfig {
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(15),
        reorder: 0.02,
        ..LinkConfig::lossy(loss)
    }
}

/// A pair of which alice sends sound in packets that repeat so many of those before.
async fn sending(net: &Network, repeated: u8, link: LinkConfig) -> (Pair, FrameSender) {
    let options = RTCConnectionOptions::new().with_audio_redundancy(repeated);
    let host = net.host("alice", &[[10, 0, 0, 1].into()]);
    let alice = Peer::with_options(host, net.random(), options);
    let mut pair = Pair { alice, bob: Peer::new(net, "bob", 2, net.random()) };
    let source = pair.alice.send_audio().1;
    pair.describe();
    pair.connect_within(SOON).await;
    net.link(link);
    (pair, source)
}

async fn play(source: &FrameSender) {
    let mut tick = tokio::time::interval(FRAME_TIME);
    for n in 0..FRAMES {
        tick.tick().await;
        source.send(frame(n)).unwrap();
    }
    pass(Duration::from_secs(1)).await;
}

fn only_track(peer: &Peer) -> FrameReceiver {
    let streams = peer.conn.receiving_streams();
    streams[0].tracks()[0].take_frames().unwrap()
}

/// The numbers of all frames that come, each once, in order and as it was sent, until none comes
/// for a second.
async fn heard(mut frames: FrameReceiver) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    let mut began = None;
    while let Ok(Some(got)) = tokio::time::timeout(Duration::from_secs(1), frames.recv()).await {
        let n = u64::from_be_bytes(got.data[1..9].try_into().unwrap());
        assert_eq!(got.data, frame(n).data);
        assert!(numbers.last().is_none_or(|last| *last < n), "{n} after {:?}", numbers.last());
        // Its time is its own, and not that of the packet that it came in.
        let base = *began.get_or_insert(got.timestamp - n * 960);
        assert_eq!(got.timestamp - n * 960, base);
        numbers.insert(n);
    }
    numbers
}

async fn inbound(peer: &Peer) -> RTCInboundRtpStreamStats {
    peer.conn.stats().await.inbound().next().unwrap().clone()
}

#[test]
fn what_is_lost_is_heard_from_the_packets_behind_it() {
    for loss in [0.1, 0.2] {
        let mut missing = [0.0; 4];
        for repeated in [0, 1, 2, 3] {
            for seed in 0..3 {
                let share = sim::run(seed, move |net| async move {
                    let (pair, source) = sending(&net, repeated, lossy(loss)).await;
                    let frames = only_track(&pair.bob);
                    let ((), heard) = tokio::join!(play(&source), heard(frames));
                    let stats = inbound(&pair.bob).await;
                    // What is lost is told as it was, whatever became of it.
                    let lost = stats.packets_lost as f64 / FRAMES as f64;
                    assert!((lost - loss).abs() < 0.04, "{lost}");
                    let used = (stats.fec_packets_received - stats.fec_packets_discarded) as i64;
                    let expected = heard.len() as i64 - stats.packets_received as i64;
                    // Some were only overtaken, and came all the same.
                    assert!((expected..expected + 40).contains(&used), "{stats:?}");
                    let told = FRAMES as f64 * f64::from(repeated) * (1.0 - loss);
                    assert!((stats.fec_packets_received as f64 - told).abs() < 0.1 * told + 1.0);
                    1.0 - heard.len() as f64 / FRAMES as f64
                });
                missing[usize::from(repeated)] += share / 3.0;
            }
        }
        let [none, one, two, three] = missing;
        assert!((none - loss).abs() < 0.03, "{missing:?}");
        // Single losses are made good by one, pairs by two, and so on.
        assert!(one < 2.0 * loss.powi(2) + 0.002, "{missing:?}");
        assert!(two < 4.0 * loss.powi(3) + 0.002 && three < 0.006, "{missing:?}");
    }
}

#[test]
fn what_is_sent_again_as_well_comes_once() {
    for seed in 10..13 {
        sim::run(seed, |net| async move {
            let options = RTCConnectionOptions::new().with_audio_redundancy(1);
            let host = net.host("alice", &[[10, 0, 0, 1].into()]);
            let alice = Peer::with_options(host, net.random(), options);
            let mut pair = Pair { alice, bob: Peer::new(&net, "bob", 2, net.random()) };
            let source = pair.alice.send_audio().1;
            let track = pair.alice.conn.tracks(None).remove(0);
            let mut codecs = track.codecs();
            codecs.iter_mut().for_each(|codec| codec.rtcp_feedback = Some(vec!["nack".into()]));
            track.set_codecs(codecs).unwrap();
            pair.describe();
            pair.connect_within(SOON).await;
            net.link(LinkConfig { duplicate: 0.05, reorder: 0.1, ..lossy(0.15) });
            let frames = only_track(&pair.bob);
            let ((), heard) = tokio::join!(play(&source), heard(frames));
            let stats = inbound(&pair.bob).await;
            assert!(FRAMES - heard.len() as u64 <= 3, "{} heard", heard.len());
            assert!(stats.fec_packets_received > stats.fec_packets_discarded, "{stats:?}");
            assert!(stats.nack_count > 0, "{stats:?}");
            let sent = pair.alice.conn.stats().await;
            let sent = sent.outbound().next().unwrap();
            assert!(sent.retransmitted_packets_sent > 0 && sent.nack_count > 0, "{sent:?}");
            // What redundancy has brought in time is not asked for: less is than was lost.
            assert!(sent.retransmitted_packets_sent < 150, "{sent:?}");
        });
    }
}

#[test]
fn it_is_described_as_browsers_have_it_and_sent_only_when_it_is_chosen() {
    sim::run(20, |net| async move {
        let (pair, source) = sending(&net, 2, LinkConfig::default()).await;
        let track = pair.alice.conn.tracks(None).remove(0);
        let json = serde_json::to_value(track.codecs()).unwrap();
        assert_eq!(
            json[0],
            serde_json::json!({
                "payload-id": 63, "name": "red", "kind": "audio", "clockRate": 48_000,
                "numChannels": 2, "params": [{ "name": "payloadTypes", "value": "111/111/111" }],
            })
        );
        assert_eq!(json[1]["name"], "opus");
        let own = rtc_capabilities().audio_codecs;
        assert!(own.iter().any(|codec| codec.known() == Some(CodecName::Red)));
        let mut frames = only_track(&pair.bob);
        let payload_ids = async |frames: &mut FrameReceiver, from: u64| {
            let mut ids = BTreeSet::new();
            for n in from..from + 10 {
                source.send(frame(n)).unwrap();
                ids.insert(frames.recv().await.unwrap().payload_id);
                pass(FRAME_TIME).await;
            }
            ids
        };
        // A frame is one of Opus, whatever it came in.
        assert_eq!(payload_ids(&mut frames, 0).await, BTreeSet::from([111]));
        let repeated = inbound(&pair.bob).await.fec_packets_received;
        assert!((15..=20).contains(&repeated), "{repeated}");
        // Opus first: it is sent by itself, and nothing else changes.
        let codecs: Vec<RTCCodec> = track.codecs().into_iter().rev().collect();
        track.set_codecs(codecs).unwrap();
        assert_eq!(payload_ids(&mut frames, 10).await, BTreeSet::from([111]));
        assert_eq!(inbound(&pair.bob).await.fec_packets_received, repeated);
        assert_eq!(frames.packet_counts().lost, 0);
    });
}

/// A connection of a server, which has several on one host and engine.
fn at_server(host: &Host, engine: &Engine) -> Peer {
    let options = RTCConnectionOptions::new().with_engine(engine.clone());
    let conn = RTCConnection::new(options).unwrap();
    let events = conn.events();
    Peer { host: host.clone(), conn, events, seen: Vec::new() }
}

#[test]
fn through_a_server_it_goes_on_as_it_is_or_without_what_it_repeats() {
    for seed in 30..32 {
        sim::run(seed, |net| async move {
            let server = net.host("server", &[[10, 0, 1, 1].into()]);
            let engine = Engine::simulated(server.io(), net.random());
            let options = RTCConnectionOptions::new().with_audio_redundancy(1);
            let host = net.host("alice", &[[10, 0, 0, 1].into()]);
            let alice = Peer::with_options(host, net.random(), options);
            let mut publishing = Pair { alice, bob: at_server(&server, &engine) };
            let source = publishing.alice.send_audio().1;
            publishing.describe();
            publishing.connect_within(SOON).await;
            let received: MediaStream = publishing.bob.conn.receiving_streams().remove(0);
            let mut subscribed = Vec::new();
            for (last, knows_red) in [(3, true), (4, false)] {
                let peer = Peer::new(&net, "subscriber", last, net.random());
                let mut pair = Pair { alice: at_server(&server, &engine), bob: peer };
                pair.alice.conn.add_stream(&received, true).unwrap();
                if !knows_red {
                    let track = pair.alice.conn.tracks(None).remove(0);
                    track.set_codecs(vec![rtc_codec("opus").unwrap()]).unwrap();
                }
                pair.describe();
                pair.connect_within(SOON).await;
                subscribed.push(pair);
            }
            // What is lost is lost behind the server.
            for pair in &subscribed {
                net.link_from(&server, &pair.bob.host, lossy(0.1));
            }
            let hear = |at: usize| heard(only_track(&subscribed[at].bob));
            let ((), with, without) = tokio::join!(play(&source), hear(0), hear(1));
            let missing = |heard: &BTreeSet<u64>| FRAMES - heard.len() as u64;
            assert!(missing(&with) < 30, "{} with redundancy", missing(&with));
            assert!((60..150).contains(&missing(&without)), "{} without", missing(&without));
            let stats = inbound(&subscribed[1].bob).await;
            assert_eq!((stats.fec_packets_received, stats.packets_lost > 0), (0, true));
            // Each of its packets is a frame, and no more.
            let sent = subscribed[1].alice.conn.stats().await;
            let sent = sent.outbound().next().unwrap();
            assert_eq!(sent.packets_sent, FRAMES);
            assert_eq!(sent.bytes_sent, FRAMES * frame(0).data.len() as u64);
        });
    }
}
