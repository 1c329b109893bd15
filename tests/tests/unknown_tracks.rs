//! Tracks that nobody has described, or not yet.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ortc_api::{
    FrameReceiver, FrameSender, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack,
    RTCConnection, RTCEvent, RTCTrackDescription, RTCUnknownTrack, TrackError, TrackKind,
    rtc_codec,
};
use ortc_io::sim::{self, LinkConfig};
use ortc_tests::{Pair, Peer, frame, pass, signalled};

const SOON: Duration = Duration::from_secs(10);

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// All unknown tracks that a peer has heard of and not been asked about.
async fn unknown_tracks(peer: &mut Peer) -> Vec<RTCUnknownTrack> {
    let mut tracks = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, peer.events.recv()).await {
        if let RTCEvent::UnknownTrack(track) = event {
            tracks.push(track);
        }
    }
    tracks
}

/// The `n`th frame of a made-up VP8 stream with a key frame every 2 s, at 30 a second and about
/// 1.4 Mbit/s.
fn picture(n: u64) -> MediaFrame {
    let is_key = n.is_multiple_of(60);
    let head: &[u8] = if is_key {
        &[0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00]
    } else {
        &[0x11, 0x02, 0x00]
    };
    let mut data = head.to_vec();
    data.extend_from_slice(&n.to_be_bytes());
    data.resize(if is_key { 40_000 } else { 5_000 }, 7);
    MediaFrame { data: Bytes::from(data), timestamp: n * 3_000 }
}

/// All frames of a track until it ends, and whether each is a key frame.
async fn read(mut frames: FrameReceiver) -> Vec<(Bytes, bool)> {
    let mut all = Vec::new();
    while let Some(frame) = frames.recv().await {
        all.push((frame.data, frame.key));
    }
    assert_eq!(frames.damages(), 0);
    all
}

fn send_video(peer: &Peer) -> FrameSender {
    let (track, source) = MediaStreamTrack::local(MediaFormat::Vp8);
    let stream = MediaStream::new();
    stream.add_track(&track);
    peer.conn.add_stream(&stream, true).unwrap();
    source
}

#[test]
fn a_track_that_is_described_two_seconds_late_has_every_frame() {
    for seed in 0..10 {
        sim::run(seed, |net| async move {
            net.link(LinkConfig {
                delay: Duration::from_millis(30),
                jitter: Duration::from_millis(20),
                reorder: 0.05,
                ..LinkConfig::default()
            });
            let mut pair = Pair::new(&net);
            let (video, audio) = (send_video(&pair.alice), pair.alice.send_audio().1);
            pair.connect_within(SOON).await;
            let mut readers = Vec::new();
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            for n in 0..150 {
                tick.tick().await;
                audio.send(frame(n)).unwrap();
                if n % 5 < 3 {
                    video.send(picture(n / 5 * 3 + n % 5)).unwrap();
                }
                if n == 100 {
                    for track in pair.alice.conn.tracks(None) {
                        let description = signalled(&track.description());
                        let track = pair.bob.conn.receive_track(&description).unwrap();
                        readers.push(tokio::spawn(read(track.take_frames().unwrap())));
                    }
                }
            }
            pass(Duration::from_secs(1)).await;
            pair.alice.conn.close();
            pair.bob.conn.close();
            let (sound, pictures) =
                (readers.remove(1).await.unwrap(), readers.remove(0).await.unwrap());
            let sent: Vec<_> = (0..90).map(|n| (picture(n).data, n.is_multiple_of(60))).collect();
            // Not compared as a whole: a failure would print megabytes.
            assert_eq!(pictures.len(), sent.len());
            assert!(pictures == sent);
            let sent: Vec<_> = (0..150).map(|n| (frame(n).data, true)).collect();
            assert_eq!(sound, sent);
        });
    }
}

#[test]
fn a_peer_that_is_asked_for_pairs_sends_them_and_its_tracks_are_known_by_them() {
    sim::run(1, |net| async move {
        let mut pair = Pair::new(&net);
        let sources = [pair.alice.send_audio().1, pair.alice.send_audio().1];
        // Bob has asked for these, by whatever signalling there is, and never sees a description.
        for (track, room) in pair.alice.conn.tracks(None).iter().zip(["blue", "red"]) {
            track.set_rtp_ext_headers(pairs(&[("room", room), ("seat", "12")])).unwrap();
        }
        let (report, heard) = std::sync::mpsc::channel();
        pair.bob.conn.on_unknown_track(Some(
            move |conn: &RTCConnection, track: RTCUnknownTrack| {
                let description = RTCTrackDescription {
                    kind: TrackKind::Audio,
                    ssrc: track.ssrc.clone(),
                    msid: vec![track.rtp_ext_headers["room"].clone()],
                    codecs: vec![rtc_codec("opus").unwrap()],
                    media_attributes: None,
                    rtp_ext_headers: None,
                    header_extensions: Vec::new(),
                    rtx_ssrc: None,
                    encodings: Vec::new(),
                };
                let received = conn.receive_track(&description).unwrap();
                report.send((track, received)).unwrap();
            },
        ));
        pair.connect_within(SOON).await;
        for n in 0..10 {
            sources.iter().for_each(|source| source.send(frame(n)).unwrap());
            pass(Duration::from_millis(20)).await;
        }
        pass(SOON).await;
        let mut heard: Vec<_> = heard.try_iter().collect();
        heard.sort_by_key(|(track, _)| track.rtp_ext_headers["room"].clone());
        let rooms: Vec<_> = heard.iter().map(|(track, _)| track.rtp_ext_headers.clone()).collect();
        let expected = ["blue", "red"].map(|room| pairs(&[("room", room), ("seat", "12")]));
        assert_eq!(rooms, expected);
        for ((track, received), sent) in heard.iter().zip(pair.alice.conn.tracks(None)) {
            assert_eq!((&track.ssrc, track.payload_id), (&sent.ssrc(), 111));
            let mut frames = received.take_frames().unwrap();
            for n in 0..10 {
                let got = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
                assert_eq!(got.data, frame(n).data);
            }
        }
    });
}

#[test]
fn a_description_that_is_right_behind_makes_a_track_known_without_an_event() {
    sim::run(2, |net| async move {
        let mut pair = Pair::new(&net);
        let source = pair.alice.send_audio().1;
        pair.connect_within(SOON).await;
        for n in 0..100 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
            if n == 5 {
                pair.describe();
            }
        }
        assert_eq!(unknown_tracks(&mut pair.bob).await, []);
        assert_eq!(unknown_tracks(&mut pair.alice).await, []);
    });
}

#[test]
fn one_whose_description_is_later_is_told_of_until_that_comes() {
    sim::run(3, |net| async move {
        let mut pair = Pair::new(&net);
        let source = pair.alice.send_audio().1;
        let ssrc = pair.alice.conn.tracks(None)[0].ssrc();
        pair.connect_within(SOON).await;
        source.send(frame(0)).unwrap();
        pass(Duration::from_secs(1)).await;
        // Who hears of it before the description has come hears of it once.
        let told = unknown_tracks(&mut pair.bob).await;
        let facts: Vec<_> =
            told.iter().map(|it| (&*it.ssrc, it.payload_id, it.rtp_ext_headers.len())).collect();
        assert_eq!(facts, [(&*ssrc, 111, 0)]);
        // And who asks after it does not at all.
        pair.describe();
        pass(Duration::from_secs(1)).await;
        let mut late = pair.bob.conn.events();
        let (report, heard) = std::sync::mpsc::channel();
        pair.bob.conn.on_unknown_track(Some(move |_: &RTCConnection, track| {
            report.send(track).unwrap();
        }));
        source.send(frame(1)).unwrap();
        pass(Duration::from_secs(1)).await;
        assert_eq!(heard.try_iter().count(), 0);
        assert!(tokio::time::timeout(Duration::ZERO, late.recv()).await.is_err());
    });
}

#[test]
fn a_track_that_goes_on_with_another_ssrc_is_known_by_its_pairs_and_stays_in_its_stream() {
    sim::run(4, |net| async move {
        let mut pair = Pair::new(&net);
        let (stream, source) = pair.alice.send_audio();
        let own = pairs(&[("who", "alice")]);
        pair.alice.conn.tracks(None)[0].set_rtp_ext_headers(own.clone()).unwrap();
        pair.describe();
        pair.connect_within(SOON).await;
        source.send(frame(0)).unwrap();
        pass(Duration::from_secs(2)).await;
        let before = pair.alice.conn.tracks(None)[0].description();
        pair.alice.conn.remove_stream(&stream);
        pair.alice.conn.add_stream(&stream, true).unwrap();
        let track = pair.alice.conn.tracks(None).remove(0);
        assert_ne!(track.ssrc(), before.ssrc);
        track.set_rtp_ext_headers(own.clone()).unwrap();
        source.send(frame(1)).unwrap();
        pass(Duration::from_secs(1)).await;
        let told = unknown_tracks(&mut pair.bob).await;
        let [unknown] = &told[..] else { panic!("{told:?}") };
        assert_eq!(unknown.rtp_ext_headers, own);
        let changed = RTCTrackDescription { ssrc: unknown.ssrc.clone(), ..before };
        let again = pair.bob.conn.receive_track(&changed).unwrap();
        let [received] = &pair.bob.conn.receiving_streams()[..] else { panic!("one stream") };
        assert_eq!((received.id(), received.tracks().len()), (stream.id(), 2));
        assert_eq!(again.take_frames().unwrap().recv().await.unwrap().data, frame(1).data);
    });
}

#[test]
fn both_peers_may_send_with_the_same_ssrc() {
    sim::run(5, |net| async move {
        let mut pair = Pair::new(&net);
        let (from_alice, from_bob) = (pair.alice.send_audio().1, pair.bob.send_audio().1);
        pair.connect_within(SOON).await;
        let [mut ours, mut theirs] =
            [&pair.alice, &pair.bob].map(|peer| peer.conn.tracks(None)[0].description());
        // What a peer has chosen is described as if it were what we have chosen: its packets say
        // otherwise, so nothing of this track comes, and nothing of ours is taken for it.
        let (own, other) = (ours.ssrc.clone(), theirs.ssrc.clone());
        theirs.ssrc = own.clone();
        let collides = pair.alice.conn.receive_track(&theirs).unwrap();
        theirs.ssrc = other;
        theirs.msid = vec!["theirs".into()];
        let theirs = pair.alice.conn.receive_track(&theirs).unwrap();
        ours.ssrc = own;
        let ours = pair.bob.conn.receive_track(&ours).unwrap();
        let [mut none, mut at_alice, mut at_bob] =
            [collides, theirs, ours].map(|track| track.take_frames().unwrap());
        for n in 0..50 {
            from_alice.send(frame(n)).unwrap();
            from_bob.send(frame(n + 100)).unwrap();
            assert_eq!(at_bob.recv().await.unwrap().data, frame(n).data);
            assert_eq!(at_alice.recv().await.unwrap().data, frame(n + 100).data);
        }
        assert!(tokio::time::timeout(SOON, none.recv()).await.is_err());
    });
}

#[test]
fn pairs_of_a_track_that_is_gone_are_an_error() {
    sim::run(6, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let (_stream, _source) = peer.send_audio();
        let track = peer.conn.tracks(None).remove(0);
        track.set_rtp_ext_headers(pairs(&[("a", "b")])).unwrap();
        track.remove().unwrap();
        let refused = track.set_rtp_ext_headers(pairs(&[("a", "c")]));
        assert_eq!(refused, Err(TrackError::Removed.into()));
        assert_eq!(track.rtp_ext_headers(), pairs(&[("a", "b")]));
    });
}
