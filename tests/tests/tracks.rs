//! Sending and receiving tracks: their attributes, their life, and who is told.

use std::collections::BTreeMap;
use std::time::Duration;

use ortc_api::{
    DisconnectReason, MediaEvent, MediaEvents, MediaFormat, MediaStream, MediaStreamTrack,
    RTCCodec, RTCTrackFilter, TrackAttributeError, TrackError, TrackKind,
};
use ortc_io::sim;
use ortc_tests::{Pair, Peer, frame, pass, signalled};

const SOON: Duration = Duration::from_secs(10);

fn opus(payload_id: u8) -> RTCCodec {
    RTCCodec {
        payload_id,
        name: "Opus".into(),
        kind: None,
        clock_rate: Some(48_000),
        num_channels: Some(2),
        params: Vec::new(),
        rtcp_feedback: None,
    }
}

async fn next(events: &mut MediaEvents) -> Option<MediaEvent> {
    tokio::time::timeout(SOON, events.recv()).await.expect("an event in time")
}

#[test]
fn a_track_and_its_stream_are_connected_by_rtp_and_disconnected_by_bye() {
    sim::run(1, |net| async move {
        let mut pair = Pair::new(&net);
        let (_, source) = pair.alice.send_audio();
        pair.describe();
        let stream = pair.bob.conn.receiving_streams().remove(0);
        let mut of_stream = stream.events();
        let mut of_track = stream.tracks()[0].events();
        pair.connect_within(SOON).await;
        source.send(frame(0)).unwrap();
        assert_eq!(next(&mut of_track).await, Some(MediaEvent::Connected));
        assert_eq!(next(&mut of_stream).await, Some(MediaEvent::Connected));
        pair.alice.conn.tracks(None)[0].remove().unwrap();
        let bye = MediaEvent::Disconnected(DisconnectReason::Bye);
        assert_eq!(next(&mut of_track).await, Some(bye));
        assert_eq!(next(&mut of_stream).await, Some(bye));
        // The track and the stream are the connection's: it ends their events as well.
        pair.bob.conn.close();
        assert_eq!(next(&mut of_track).await, None);
        assert_eq!(next(&mut of_stream).await, None);
    });
}

#[test]
fn a_track_that_falls_silent_is_disconnected_and_comes_back() {
    sim::run(2, |net| async move {
        let mut pair = Pair::new(&net);
        let (_, source) = pair.alice.send_audio();
        pair.describe();
        let mut events = pair.bob.conn.receiving_streams()[0].tracks()[0].events();
        pair.connect_within(SOON).await;
        source.send(frame(0)).unwrap();
        assert_eq!(events.recv().await, Some(MediaEvent::Connected));
        let timed_out = MediaEvent::Disconnected(DisconnectReason::TimedOut);
        assert_eq!(events.recv().await, Some(timed_out));
        source.send(frame(1)).unwrap();
        assert_eq!(events.recv().await, Some(MediaEvent::Connected));
    });
}

#[test]
fn stop_and_start_act_on_the_wire() {
    sim::run(3, |net| async move {
        let mut pair = Pair::new(&net);
        let (_, source) = pair.alice.send_audio();
        pair.describe();
        let track = pair.alice.conn.tracks(None).remove(0);
        let mut frames = pair.bob.conn.receiving_streams()[0].tracks()[0].take_frames().unwrap();
        pair.connect_within(SOON).await;
        let mut next = 0;
        let mut send = || {
            source.send(frame(next)).unwrap();
            next += 1;
        };
        send();
        assert_eq!(frames.recv().await.unwrap().data, frame(0).data);
        track.stop().unwrap();
        assert!(!track.is_enabled());
        pass(Duration::from_millis(10)).await;
        send();
        pass(Duration::from_millis(10)).await;
        track.start().unwrap();
        pass(Duration::from_millis(10)).await;
        send();
        let after = frames.recv().await.unwrap();
        assert_eq!(after.data, frame(2).data);
    });
}

#[test]
fn without_autostart_nothing_is_sent_until_start() {
    sim::run(4, |net| async move {
        let mut pair = Pair::new(&net);
        let (track, source) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        stream.add_track(&track);
        pair.alice.conn.add_stream(&stream, false).unwrap();
        pair.describe();
        let mut frames = pair.bob.conn.receiving_streams()[0].tracks()[0].take_frames().unwrap();
        pair.connect_within(SOON).await;
        source.send(frame(0)).unwrap();
        pass(Duration::from_millis(50)).await;
        pair.alice.conn.tracks(None)[0].start().unwrap();
        pass(Duration::from_millis(50)).await;
        source.send(frame(1)).unwrap();
        assert_eq!(frames.recv().await.unwrap().data, frame(1).data);
    });
}

#[test]
fn the_first_supported_codec_of_the_list_is_sent() {
    sim::run(5, |net| async move {
        let mut pair = Pair::new(&net);
        let (_, source) = pair.alice.send_audio();
        let track = pair.alice.conn.tracks(None).remove(0);
        let mut speex = opus(97);
        speex.name = "speex".into();
        track.set_codecs(vec![speex.clone(), opus(98), opus(99)]).unwrap();
        assert_eq!(track.description().codecs.len(), 3);
        pair.describe();
        let mut frames = pair.bob.conn.receiving_streams()[0].tracks()[0].take_frames().unwrap();
        pair.connect_within(SOON).await;
        source.send(frame(0)).unwrap();
        assert_eq!(frames.recv().await.unwrap().payload_id, 98);
        // Also in the middle of a call.
        track.set_codecs(vec![opus(99)]).unwrap();
        pass(Duration::from_millis(10)).await;
        source.send(frame(1)).unwrap();
        assert_eq!(frames.recv().await.unwrap().payload_id, 99);

        assert_eq!(track.set_codecs(Vec::new()), Err(TrackAttributeError::NoCodec));
        assert_eq!(
            track.set_codecs(vec![speex]),
            Err(TrackAttributeError::NoSupportedCodec("speex".into()))
        );
        let twice = track.set_codecs(vec![opus(98), opus(98)]);
        assert!(matches!(twice, Err(TrackAttributeError::Malformed(_))), "{twice:?}");
        assert_eq!(track.codecs(), [opus(99)]);
    });
}

#[test]
fn attributes_that_are_set_are_described() {
    sim::run(6, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let (stream, _source) = peer.send_audio();
        let track = peer.conn.tracks(None).remove(0);
        assert_eq!(track.description().msid, [stream.id()]);
        assert_eq!(track.ssrc(), track.description().ssrc);
        track.set_msid(vec!["a".into(), "b".into()]).unwrap();
        let pairs = BTreeMap::from([("who".to_owned(), "alice".to_owned())]);
        track.set_rtp_ext_headers(pairs.clone()).unwrap();
        let described = signalled(&track.description());
        assert_eq!(
            (described.kind, &described.msid[..]),
            (TrackKind::Audio, &["a", "b"].map(String::from)[..])
        );
        assert_eq!(described.rtp_ext_headers, Some(pairs));
        let long = BTreeMap::from([("who".to_owned(), "x".repeat(255))]);
        assert_eq!(track.set_rtp_ext_headers(long), Err(TrackAttributeError::ExtHeaders));
        let odd = BTreeMap::from([("a=b".to_owned(), String::new())]);
        assert_eq!(track.set_rtp_ext_headers(odd), Err(TrackAttributeError::ExtHeaders));
    });
}

#[test]
fn a_track_of_several_streams_joins_all_of_them() {
    sim::run(7, |net| async move {
        let pair = Pair::new(&net);
        let _sources = (pair.alice.send_audio(), pair.alice.send_audio());
        let tracks = pair.alice.conn.tracks(None);
        tracks[0].set_msid(vec!["a".into(), "b".into()]).unwrap();
        tracks[1].set_msid(vec!["b".into()]).unwrap();
        pair.describe();
        let members: Vec<_> = pair
            .bob
            .conn
            .receiving_streams()
            .iter()
            .map(|stream| (stream.id().to_owned(), stream.tracks().len()))
            .collect();
        assert_eq!(members, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    });
}

#[test]
fn tracks_are_found_by_source_stream_and_kind() {
    sim::run(8, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let ((one, _first), (two, _second)) = (peer.send_audio(), peer.send_audio());
        let all = peer.conn.tracks(None);
        assert_eq!(all.len(), 2);
        assert_ne!(all[0].ssrc(), all[1].ssrc());
        let of =
            |media_stream, kind| peer.conn.tracks(Some(&RTCTrackFilter { media_stream, kind }));
        assert_eq!(of(Some(one.clone()), None), [all[0].clone()]);
        assert_eq!(of(Some(two.clone()), Some(TrackKind::Audio)), [all[1].clone()]);
        assert_eq!(of(None, Some(TrackKind::Video)), []);
        assert_eq!(peer.conn.track(&one.tracks()[0]), Some(all[0].clone()));
        let (stranger, _frames) = MediaStreamTrack::local(MediaFormat::Opus);
        assert_eq!(peer.conn.track(&stranger), None);
        assert_eq!(peer.conn.sending_streams(), [one.clone(), two.clone()]);
        // Added twice, a stream is sent once.
        peer.conn.add_stream(&one, true).unwrap();
        assert_eq!(peer.conn.tracks(None), all);
        // Whatever it is called by then, its tracks go with it.
        all[0].set_msid(vec!["renamed".into()]).unwrap();
        peer.conn.remove_stream(&one);
        assert_eq!(peer.conn.tracks(None), [all[1].clone()]);
        assert_eq!(peer.conn.sending_streams(), [two]);
        assert_eq!(all[0].start(), Err(TrackError::Removed));
        assert_eq!(one.tracks().len(), 1);
    });
}
