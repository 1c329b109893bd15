//! Tracks that come and go for as long as a connection lasts.

use std::time::Duration;

use ortc_api::MediaStream;
use ortc_io::sim;
use ortc_tests::{Pair, frame, pass, signalled};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_track_that_is_received_no_more_has_ended_and_may_be_described_anew() {
    sim::run(1, |net| async move {
        let mut pair = Pair::new(&net);
        let (stream, source) = pair.alice.send_audio();
        let (other, _) = pair.alice.send_audio();
        pair.describe();
        pair.connect_within(SOON).await;
        let bob = &pair.bob.conn;
        let received = |stream: &MediaStream| {
            bob.receiving_streams().into_iter().find(|received| received.id() == stream.id())
        };
        let track = received(&stream).unwrap().tracks().remove(0);
        let mut frames = track.take_frames().unwrap();
        let mut events = track.events();
        source.send(frame(0)).unwrap();
        assert_eq!(frames.recv().await.unwrap().data, frame(0).data);
        bob.stop_receiving(&track);
        bob.stop_receiving(&track);
        // What is there comes to its end, and nothing of the stream is left.
        assert!(frames.recv().await.is_none());
        while events.recv().await.is_some() {}
        assert_eq!(received(&stream), None);
        assert!(received(&other).is_some());

        let description = pair.alice.conn.tracks(None)[0].description();
        let again = bob.receive_track(&signalled(&description)).unwrap();
        assert_ne!(again, track);
        let mut frames = again.take_frames().unwrap();
        pass(Duration::from_millis(20)).await;
        source.send(frame(1)).unwrap();
        assert_eq!(frames.recv().await.unwrap().data, frame(1).data);
    });
}

#[test]
fn more_tracks_come_and_go_than_srtp_has_sources_for() {
    sim::run(2, |net| async move {
        let mut pair = Pair::new(&net);
        pair.connect_within(SOON).await;
        let mut ssrcs = Vec::new();
        for n in 0..600 {
            let (stream, source) = pair.alice.send_audio();
            let description = pair.alice.conn.tracks(None)[0].description();
            ssrcs.push(description.ssrc.clone());
            let track = pair.bob.conn.receive_track(&signalled(&description)).unwrap();
            let mut frames = track.take_frames().unwrap();
            pass(Duration::from_millis(20)).await;
            source.send(frame(n)).unwrap();
            let heard = tokio::time::timeout(SOON, frames.recv()).await;
            assert_eq!(heard.unwrap().unwrap().data, frame(n).data, "track {n}");
            pair.alice.conn.remove_stream(&stream);
            pair.bob.conn.stop_receiving(&track);
            pass(Duration::from_millis(20)).await;
        }
        // Each is used again when all others have been, and no earlier.
        let mut distinct = ssrcs.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 250);
        assert_eq!((&ssrcs[..100], &ssrcs[250..350]), (&ssrcs[250..350], &ssrcs[500..]));
    });
}
