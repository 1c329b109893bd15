//! Telephone keys in the sound of G.711, and a gateway between them and telephone events.

use std::time::Duration;

use bytes::Bytes;
use ortc_api::{
    DTMFMediaStreamTrack, DTMFTrackEvent, FrameReceiver, FrameSender, MediaFormat, MediaFrame,
    MediaStream, MediaStreamTrack, RTCConnectionOptions, RTCDTMFEvent, RTCDTMFHandler,
    RTCTrackFilter, TrackKind, rtc_codec,
};
use ortc_dtmf::{Digit, Law, ToneDetectorConfig, ToneExtractor, ToneReport, ToneShape};
use ortc_io::sim::{self, LinkConfig, Network};
use ortc_tests::{Pair, Peer, handler_in, pass};

const SOON: Duration = Duration::from_secs(10);
const ALL: &str = "0123456789ABCD*#";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn peer(net: &Network, name: &str, last: u8, in_band: bool) -> Peer {
    let host = net.host(name, &[[10, 0, 0, last].into()]);
    let options = RTCConnectionOptions::new().with_in_band_dtmf(in_band);
    Peer::with_options(host, net.random(), options)
}

fn pair(net: &Network) -> Pair {
    Pair { alice: peer(net, "alice", 1, true), bob: peer(net, "bob", 2, true) }
}

fn send(peer: &Peer, format: MediaFormat) -> (MediaStream, FrameSender) {
    let (track, frames) = MediaStreamTrack::local(format);
    let stream = MediaStream::new();
    stream.add_track(&track);
    peer.conn.add_stream(&stream, true).unwrap();
    (stream, frames)
}

/// The `n`th 20 ms of a voice that has no tones.
fn voice(law: Law, n: u64) -> MediaFrame {
    let sample = |at: u64| (2_000.0 * (at as f64 * 0.31).sin()) as i16;
    let codes: Vec<u8> = (n * 160..(n + 1) * 160).map(|at| law.encode(sample(at))).collect();
    MediaFrame { data: Bytes::from(codes), timestamp: n * 160 }
}

fn added(peer: &Peer) -> RTCDTMFHandler {
    let added = peer.seen.iter().find_map(handler_in);
    added.expect("a track that may have keys in its sound brings a handler")
}

/// The keys that a handler has reported, until a second is silent.
async fn keys(events: &mut ortc_api::RTCDTMFEvents) -> String {
    let mut heard = String::new();
    while let Ok(Some(event)) = tokio::time::timeout(ms(1_000), events.recv()).await {
        let RTCDTMFEvent::Dtmf { tone } = event else { panic!("{event:?}") };
        heard.push_str(&tone);
    }
    heard
}

#[test]
fn every_key_is_heard_once_in_the_sound_of_either_law_and_the_sound_has_no_seam() {
    for (format, law) in [(MediaFormat::Alaw, Law::Alaw), (MediaFormat::Ulaw, Law::Ulaw)] {
        sim::run(71, |net| async move {
            let mut pair = pair(&net);
            let (_stream, frames) = send(&pair.alice, format);
            let sender = pair.alice.conn.add_dtmf_handler(None).unwrap();
            let track = pair.alice.conn.tracks(None).remove(0);
            assert_eq!(track.codecs().len(), 1, "there is no codec for the keys");
            let filter = RTCTrackFilter { kind: Some(TrackKind::Dtmf), media_stream: None };
            assert_eq!(pair.alice.conn.tracks(Some(&filter)), [track]);
            pair.describe();
            pair.connect_within(SOON).await;
            let receiver = added(&pair.bob);
            let mut events = receiver.events();
            let mut tones = receiver.track().tone_events();
            let received = pair.bob.conn.receiving_streams()[0].tracks().remove(0);
            let mut tap = received.tap(4_096).unwrap();
            for n in 0..200 {
                if n == 20 {
                    pass(ms(7)).await;
                    sender.insert_dtmf(ALL, Some(ms(80)), Some(ms(50))).unwrap();
                }
                frames.send(voice(law, n)).unwrap();
                pass(ms(if n == 20 { 13 } else { 20 })).await;
            }
            assert_eq!(keys(&mut events).await, ALL);
            let mut lengths = Vec::new();
            while let Ok(Some(event)) = tokio::time::timeout(ms(100), tones.recv()).await {
                if let DTMFTrackEvent::Tone(tone) = event {
                    lengths.push(tone.duration.as_millis());
                }
            }
            assert_eq!(lengths.len(), 16);
            assert!(lengths.iter().all(|length| (70..=90).contains(length)), "{lengths:?}");

            let mut next = None;
            while let Ok(Some(packet)) = tokio::time::timeout(ms(100), tap.recv()).await {
                assert!(next.is_none_or(|next| next == packet.timestamp), "a seam");
                next = Some(packet.timestamp.wrapping_add(packet.payload.len() as u32));
            }
        });
    }
}

#[test]
fn keys_in_the_sound_are_heard_though_packets_are_lost_and_overtaken() {
    for seed in 0..20 {
        sim::run(300 + seed, move |net| async move {
            let mut pair = pair(&net);
            let (_stream, frames) = send(&pair.alice, MediaFormat::Ulaw);
            let sender = pair.alice.conn.add_dtmf_handler(None).unwrap();
            pair.describe();
            pair.connect_within(SOON).await;
            let mut events = added(&pair.bob).events();
            net.link(LinkConfig {
                loss: 0.02,
                jitter: ms(30),
                reorder: 0.05,
                ..Default::default()
            });
            sender.insert_dtmf(ALL, Some(ms(200)), Some(ms(200))).unwrap();
            for n in 0..380 {
                frames.send(voice(Law::Ulaw, n)).unwrap();
                pass(ms(20)).await;
            }
            assert_eq!(keys(&mut events).await, ALL, "seed {seed}");
        });
    }
}

#[test]
fn a_key_whose_sound_stops_ends() {
    sim::run(72, |net| async move {
        let mut pair = pair(&net);
        let (_stream, frames) = send(&pair.alice, MediaFormat::Alaw);
        pair.alice.conn.add_dtmf_handler(None).unwrap();
        pair.describe();
        pair.connect_within(SOON).await;
        let mut tones = added(&pair.bob).track().tone_events();
        let mut generator = ortc_dtmf::ToneGenerator::new(8_000, ToneShape::default()).unwrap();
        let tone = generator.tone(Digit::from_char('7').unwrap(), ms(400));
        for (n, part) in tone.chunks(160).take(10).enumerate() {
            let data = part.iter().map(|sample| Law::Alaw.encode(*sample)).collect();
            frames.send(MediaFrame { data, timestamp: n as u64 * 160 }).unwrap();
            pass(ms(20)).await;
        }
        let mut told = Vec::new();
        while let Ok(Some(event)) = tokio::time::timeout(ms(1_000), tones.recv()).await {
            told.push(match event {
                DTMFTrackEvent::ToneStart { digit, .. } => format!("+{digit}"),
                DTMFTrackEvent::ToneStop { digit, .. } => format!("-{digit}"),
                _ => continue,
            });
        }
        assert_eq!(told, ["+7", "-7"]);
    });
}

#[test]
fn a_track_with_telephone_events_has_its_sound_left_alone() {
    sim::run(73, |net| async move {
        let mut pair = pair(&net);
        let (_stream, frames) = send(&pair.alice, MediaFormat::Alaw);
        let track = pair.alice.conn.tracks(None).remove(0);
        let mut codecs = track.codecs();
        codecs.push(rtc_codec("dtmf").unwrap());
        track.set_codecs(codecs).unwrap();
        let sender = pair.alice.conn.add_dtmf_handler(None).unwrap();
        pair.describe();
        pair.connect_within(SOON).await;
        let mut events = added(&pair.bob).events();
        let mut generator = ortc_dtmf::ToneGenerator::new(8_000, ToneShape::default()).unwrap();
        let tone = generator.tone(Digit::from_char('7').unwrap(), ms(200));
        for (n, part) in tone.chunks(160).enumerate() {
            let data = part.iter().map(|sample| Law::Alaw.encode(*sample)).collect();
            frames.send(MediaFrame { data, timestamp: n as u64 * 160 }).unwrap();
            pass(ms(20)).await;
        }
        sender.insert_dtmf("5", None, None).unwrap();
        assert_eq!(keys(&mut events).await, "5");
    });
}

#[test]
fn one_track_of_keys_goes_out_as_events_to_one_peer_and_in_the_sound_to_another() {
    sim::run(75, |net| async move {
        let mut events = Pair { alice: peer(&net, "a", 1, true), bob: peer(&net, "b", 2, true) };
        let mut sound = Pair { alice: peer(&net, "c", 3, true), bob: peer(&net, "d", 4, true) };
        let keys_of_both = DTMFMediaStreamTrack::new();
        let mut sources = Vec::new();
        for (pair, format) in [(&events, MediaFormat::Opus), (&sound, MediaFormat::Ulaw)] {
            let (track, frames) = MediaStreamTrack::local(format);
            let stream = MediaStream::new();
            stream.add_track(&track);
            stream.add_track(&keys_of_both);
            pair.alice.conn.add_stream(&stream, true).unwrap();
            sources.push(frames);
        }
        for pair in [&mut events, &mut sound] {
            pair.describe();
            pair.connect_within(SOON).await;
        }
        let mut heard = [added(&events.bob).events(), added(&sound.bob).events()];
        keys_of_both.play("12A").unwrap();
        for n in 0..60 {
            sources[1].send(voice(Law::Ulaw, n)).unwrap();
            pass(ms(20)).await;
        }
        for events in &mut heard {
            assert_eq!(keys(events).await, "12A");
        }
    });
}

/// Sound that is read of one leg and sent on to the other, with what is done to it in between.
async fn bridge(mut heard: FrameReceiver, sent: FrameSender, mut handle: impl FnMut(&mut [u8])) {
    let mut timestamp = 0;
    while let Some(frame) = heard.recv().await {
        let mut codes = frame.data.to_vec();
        if codes.is_empty() {
            continue;
        }
        handle(&mut codes);
        let len = codes.len() as u64;
        sent.send(MediaFrame { data: codes.into(), timestamp }).unwrap();
        timestamp += len;
    }
}

#[test]
fn a_gateway_converts_keys_either_way_and_nobody_hears_one_twice() {
    sim::run(74, |net| async move {
        // Ann has telephone events, Bert has keys in his sound; the gateway has a leg to each.
        let mut ann =
            Pair { alice: peer(&net, "ann", 1, false), bob: peer(&net, "left", 2, false) };
        let mut bert =
            Pair { alice: peer(&net, "bert", 3, true), bob: peer(&net, "right", 4, true) };
        let (_s1, of_ann) = send(&ann.alice, MediaFormat::Alaw);
        let (_s2, of_bert) = send(&bert.alice, MediaFormat::Alaw);
        let (_s3, to_ann) = send(&ann.bob, MediaFormat::Alaw);
        let (_s4, to_bert) = send(&bert.bob, MediaFormat::Alaw);
        let press_ann = ann.alice.conn.add_dtmf_handler(None).unwrap();
        let press_bert = bert.alice.conn.add_dtmf_handler(None).unwrap();
        let keys_to_ann: DTMFMediaStreamTrack =
            ann.bob.conn.add_dtmf_handler(None).unwrap().track();
        let keys_to_bert = bert.bob.conn.add_dtmf_handler(None).unwrap().track();
        for pair in [&mut ann, &mut bert] {
            pair.describe();
            pair.connect_within(SOON).await;
        }
        let frames =
            |peer: &Peer| peer.conn.receiving_streams()[0].tracks()[0].take_frames().unwrap();

        // From events to the sound: they are pressed again, in the place of the sound.
        let left = added(&ann.bob).track();
        for (starts, kind) in [
            (true, ortc_api::DTMFTrackEventKind::ToneStart),
            (false, ortc_api::DTMFTrackEventKind::ToneStop),
        ] {
            let keys = keys_to_bert.clone();
            left.add_tone_listener(kind, move |_, event| match event {
                DTMFTrackEvent::ToneStart { digit, .. } if starts => keys.tonestart(digit).unwrap(),
                _ => keys.tonestop().unwrap(),
            });
        }
        tokio::task::spawn_local(bridge(frames(&ann.bob), to_bert, |_| {}));

        // From the sound to events: they are taken out of it.
        let mut extractor = ToneExtractor::new(8_000, ToneDetectorConfig::default()).unwrap();
        tokio::task::spawn_local(bridge(frames(&bert.bob), to_ann, move |codes| {
            extractor.process_g711(ortc_io::now(), Law::Alaw, codes);
            while let Some(report) = extractor.poll_output() {
                match report {
                    ToneReport::Began(tone) => {
                        keys_to_ann.tonestart(tone.digit().unwrap().to_char()).unwrap();
                    }
                    ToneReport::Ended(..) => keys_to_ann.tonestop().unwrap(),
                }
            }
        }));

        let mut at_ann = added(&ann.alice).events();
        let mut at_bert = added(&bert.alice).events();
        let mut sound_at_ann =
            ann.alice.conn.receiving_streams()[0].tracks()[0].tap(4_096).unwrap();
        press_ann.insert_dtmf("0123456789", Some(ms(100)), Some(ms(100))).unwrap();
        press_bert.insert_dtmf("ABCD*#0055", Some(ms(100)), Some(ms(100))).unwrap();
        for n in 0..150 {
            of_ann.send(voice(Law::Alaw, n)).unwrap();
            of_bert.send(voice(Law::Alaw, n)).unwrap();
            pass(ms(20)).await;
        }
        assert_eq!(keys(&mut at_bert).await, "0123456789");
        assert_eq!(keys(&mut at_ann).await, "ABCD*#0055");
        // Nor would Ann's ears: what is left in the sound that goes to her has no tone.
        let mut ears = ToneExtractor::new(8_000, ToneDetectorConfig::default()).unwrap();
        let mut heard = 0;
        while let Ok(Some(packet)) = tokio::time::timeout(ms(100), sound_at_ann.recv()).await {
            if packet.payload_type.0 == 8 {
                heard += 1;
                ears.process_g711(packet.received_at, Law::Alaw, &mut packet.payload.to_vec());
            }
        }
        assert!(heard > 50, "{heard}");
        assert_eq!(ears.poll_output(), None);
    });
}
