//! What one connection receives, others are sent: packet by packet, never decoded.

use std::time::Duration;

use bytes::Bytes;
use ortc_api::{
    AddStreamError, DisconnectReason, FrameReceiver, FrameSender, InsertError, MediaEvent,
    MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCEvent, RTCHeaderExtension,
    RTCMediaAttributes, RTCTrackDescription, TrackAttributeError, TrackKind, rtc_capabilities,
};
use ortc_io::sim::{self};
use ortc_tests::{Pair, Peer, Server, frame, pass, signalled};

const SOON: Duration = Duration::from_secs(10);

/// Signals the tracks of one side that the other does not know yet.
fn describe(from: &Peer, to: &Peer) {
    for track in from.conn.tracks(None) {
        to.conn.receive_track(&signalled(&track.description())).unwrap();
    }
}

/// Has the peer of `from` publish a stream of Opus, and the server receive it.
fn publish(from: &Pair) -> (MediaStream, FrameSender) {
    let (_, frames) = from.alice.send_audio();
    describe(&from.alice, &from.bob);
    (from.bob.conn.receiving_streams().remove(0), frames)
}

/// Has the peer of `to` be sent a stream that the server receives.
fn subscribe(to: &Pair, stream: &MediaStream) -> (MediaStreamTrack, FrameReceiver) {
    to.bob.conn.add_stream(stream, true).unwrap();
    describe(&to.bob, &to.alice);
    let track = to.alice.conn.receiving_streams().pop().unwrap().tracks().remove(0);
    let frames = track.take_frames().unwrap();
    (track, frames)
}

#[test]
fn a_received_stream_that_is_added_reaches_everybody_it_was_added_to() {
    sim::run(1, |net| async move {
        let server = Server::new(&net);
        let publisher = server.join(&net, 1).await;
        let listeners = [server.join(&net, 2).await, server.join(&net, 3).await];
        let (stream, source) = publish(&publisher);
        let mut heard = listeners.each_ref().map(|pair| subscribe(pair, &stream).1);
        // The stream keeps its name, and each listener's track has an SSRC of its own.
        for pair in &listeners {
            let track = pair.bob.conn.tracks(None).remove(0);
            assert_eq!(track.msid(), [stream.id()]);
            assert_ne!(track.ssrc(), publisher.alice.conn.tracks(None)[0].ssrc());
            assert_eq!(track.source(), &stream.tracks()[0]);
            assert_eq!(pair.bob.conn.sending_streams(), std::slice::from_ref(&stream));
        }
        pass(Duration::from_millis(20)).await;
        for n in 0..50 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        for frames in &mut heard {
            for n in 0..50 {
                let got = frames.recv().await.unwrap();
                assert_eq!(got.data, frame(n).data);
            }
            assert_eq!(frames.packet_counts().lost, 0);
        }
        // The server may read along.
        let mut own = stream.tracks()[0].take_frames().unwrap();
        assert_eq!(own.recv().await.unwrap().data, frame(0).data);
    });
}

#[test]
fn a_peer_may_be_sent_its_own_stream_back() {
    sim::run(2, |net| async move {
        let server = Server::new(&net);
        let pair = server.join(&net, 1).await;
        let (stream, source) = publish(&pair);
        let (_, mut echo) = subscribe(&pair, &stream);
        pass(Duration::from_millis(20)).await;
        source.send(frame(0)).unwrap();
        assert_eq!(echo.recv().await.unwrap().data, frame(0).data);
    });
}

#[test]
fn stop_start_and_remove_act_on_one_listener_only() {
    sim::run(3, |net| async move {
        let server = Server::new(&net);
        let publisher = server.join(&net, 1).await;
        let (one, other) = (server.join(&net, 2).await, server.join(&net, 3).await);
        let (stream, source) = publish(&publisher);
        let (track, mut heard) = subscribe(&one, &stream);
        let (_, mut heard_by_other) = subscribe(&other, &stream);
        let mut events = track.events();
        let sent = one.bob.conn.tracks(None).remove(0);
        let mut n = 0;
        let mut say = async |count: u64| {
            for _ in 0..count {
                pass(Duration::from_millis(20)).await;
                source.send(frame(n)).unwrap();
                n += 1;
            }
            pass(Duration::from_millis(20)).await;
        };
        say(3).await;
        sent.stop().unwrap();
        say(3).await;
        sent.start().unwrap();
        say(3).await;
        one.bob.conn.remove_stream(&stream);
        say(3).await;
        for n in [0, 1, 2, 6, 7, 8] {
            assert_eq!(heard.recv().await.unwrap().data, frame(n).data);
        }
        assert_eq!(heard.packet_counts().lost, 0, "a pause is no loss");
        for n in 0..12 {
            assert_eq!(heard_by_other.recv().await.unwrap().data, frame(n).data);
        }
        assert_eq!(events.recv().await, Some(MediaEvent::Connected));
        assert_eq!(events.recv().await, Some(MediaEvent::Disconnected(DisconnectReason::Bye)));
        assert!(one.bob.conn.sending_streams().is_empty());
    });
}

#[test]
fn a_publisher_that_goes_harms_nobody_and_its_stream_cannot_be_added_any_more() {
    sim::run(4, |net| async move {
        let server = Server::new(&net);
        let publisher = server.join(&net, 1).await;
        let mut listener = server.join(&net, 2).await;
        let (stream, source) = publish(&publisher);
        let (_, mut heard) = subscribe(&listener, &stream);
        pass(Duration::from_millis(20)).await;
        source.send(frame(0)).unwrap();
        assert_eq!(heard.recv().await.unwrap().data, frame(0).data);
        publisher.alice.conn.close();
        publisher.bob.conn.closed().await;
        drop(publisher);
        let late = server.join(&net, 3).await;
        let error = late.bob.conn.add_stream(&stream, true).unwrap_err();
        assert!(matches!(error, AddStreamError::CannotForward(_)), "{error:?}");
        listener.bob.conn.remove_stream(&stream);
        // Its own voice still comes through.
        let (back, voice) = listener.bob.send_audio();
        describe(&listener.bob, &listener.alice);
        let streams = listener.alice.conn.receiving_streams();
        let heard = streams.iter().find(|other| other.id() == back.id()).unwrap();
        let mut heard = heard.tracks()[0].take_frames().unwrap();
        pass(Duration::from_millis(20)).await;
        voice.send(frame(7)).unwrap();
        assert_eq!(heard.recv().await.unwrap().data, frame(7).data);
        listener.bob.conn.close();
        listener.alice.until(SOON, |event| matches!(event, RTCEvent::Disconnected(_))).await;
    });
}

#[test]
fn a_track_of_another_engine_cannot_be_forwarded() {
    sim::run(5, |net| async move {
        let server = Server::new(&net);
        let publisher = server.join(&net, 1).await;
        let (stream, _source) = publish(&publisher);
        let elsewhere = Peer::new(&net, "elsewhere", 9, 9);
        let error = elsewhere.conn.add_stream(&stream, true).unwrap_err();
        assert!(matches!(error, AddStreamError::CannotForward(_)), "{error:?}");
    });
}

#[test]
fn the_codecs_of_a_forwarded_track_can_be_renumbered_and_not_replaced() {
    sim::run(6, |net| async move {
        let server = Server::new(&net);
        let publisher = server.join(&net, 1).await;
        let listener = server.join(&net, 2).await;
        let (stream, source) = publish(&publisher);
        listener.bob.conn.add_stream(&stream, true).unwrap();
        let track = listener.bob.conn.tracks(None).remove(0);
        let mut opus = track.codecs().remove(0);
        opus.payload_id = 120;
        track.set_codecs(vec![opus]).unwrap();
        describe(&listener.bob, &listener.alice);
        let received = listener.alice.conn.receiving_streams().remove(0).tracks().remove(0);
        let mut frames = received.take_frames().unwrap();
        pass(Duration::from_millis(20)).await;
        source.send(frame(0)).unwrap();
        let got = frames.recv().await.unwrap();
        assert_eq!((got.payload_id, got.data), (120, frame(0).data));

        let ulaw = ortc_api::rtc_codec("ulaw").unwrap();
        let error = track.set_codecs(vec![ulaw]).unwrap_err();
        assert!(matches!(error, TrackAttributeError::NoSupportedCodec(_)), "{error:?}");
        let small = RTCMediaAttributes { video_max_width: Some(1), video_max_height: None };
        let error = track.set_media_attributes(vec![small]).unwrap_err();
        assert_eq!(error, TrackAttributeError::Forwarded);
    });
}

#[test]
fn header_extensions_of_a_forwarded_track_are_described_and_get_the_subscribers_ids() {
    sim::run(10, |net| async move {
        let server = Server::new(&net);
        let publisher = server.join(&net, 1).await;
        let listener = server.join(&net, 2).await;
        let extension = |uri: &str, id| RTCHeaderExtension { uri: uri.to_owned(), id };
        let abs_send_time = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
        let level = rtc_capabilities().header_extensions.remove(0).uri;
        let (_, source) = publisher.alice.send_audio();
        let track = publisher.alice.conn.tracks(None).remove(0);
        let described = RTCTrackDescription {
            header_extensions: vec![extension(&level, 3), extension(abs_send_time, 2)],
            ..track.description()
        };
        publisher.bob.conn.receive_track(&signalled(&described)).unwrap();
        let stream = publisher.bob.conn.receiving_streams().remove(0);

        // By default as they are received, but for what is of that connection only.
        listener.bob.conn.add_stream(&stream, true).unwrap();
        let sent = listener.bob.conn.tracks(None).remove(0);
        assert_eq!(sent.header_extensions(), [extension(&level, 3)]);
        sent.set_header_extensions(vec![extension(&level, 9)]).unwrap();
        assert_eq!(sent.description().header_extensions, [extension(&level, 9)]);
        describe(&listener.bob, &listener.alice);
        let received = listener.alice.conn.receiving_streams().remove(0).tracks().remove(0);
        let mut frames = received.take_frames().unwrap();
        pass(Duration::from_millis(20)).await;
        for n in 0..3 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
            // What changes in the middle costs no packet.
            sent.set_header_extensions(vec![extension(&level, 10 + n as u8)]).unwrap();
        }
        for n in 0..3 {
            assert_eq!(frames.recv().await.unwrap().data, frame(n).data);
        }
        assert_eq!(frames.packet_counts().lost, 0);

        let refused = sent.set_header_extensions(vec![extension(&level, 15)]).unwrap_err();
        assert!(matches!(refused, TrackAttributeError::Malformed(_)), "{refused:?}");
        assert_eq!(sent.header_extensions(), [extension(&level, 12)]);
        let refused = track.set_header_extensions(vec![extension(&level, 1)]).unwrap_err();
        assert_eq!(refused, TrackAttributeError::NotForwarded);
    });
}

#[test]
fn video_is_forwarded_whole_and_the_publisher_is_asked_for_a_key_frame() {
    sim::run(7, |net| async move {
        let server = Server::new(&net);
        let publisher = server.join(&net, 1).await;
        let listener = server.join(&net, 2).await;
        let (track, source) = MediaStreamTrack::local(MediaFormat::Vp8);
        let stream = MediaStream::new();
        stream.add_track(&track);
        publisher.alice.conn.add_stream(&stream, true).unwrap();
        describe(&publisher.alice, &publisher.bob);
        let received = publisher.bob.conn.receiving_streams().remove(0);
        let (track, mut frames) = subscribe(&listener, &received);
        assert_eq!(track.kind(), TrackKind::Video);
        pass(Duration::from_millis(20)).await;
        // A key frame of VP8 (RFC 6386 §9.1: the lowest bit is clear) of many packets.
        let mut key = vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00];
        key.extend((0..20_000u32).map(|n| n as u8));
        for n in 0..5 {
            let data = key.clone().into();
            source.send(MediaFrame { data, timestamp: n * 3_000 }).unwrap();
            pass(Duration::from_millis(33)).await;
        }
        for _ in 0..5 {
            let got = frames.recv().await.unwrap();
            assert_eq!((got.data.len(), got.key, got.intact), (key.len(), true, true));
        }
        track.request_key_frame();
        pass(Duration::from_millis(20)).await;
    });
}

#[test]
fn a_tap_that_is_not_read_loses_its_own_copies_only() {
    sim::run(8, |net| async move {
        let server = Server::new(&net);
        let publisher = server.join(&net, 1).await;
        let listener = server.join(&net, 2).await;
        let (stream, source) = publish(&publisher);
        let (_, mut heard) = subscribe(&listener, &stream);
        let received = stream.tracks().remove(0);
        let (mut read, slow) = (received.tap(64).unwrap(), received.tap(8).unwrap());
        pass(Duration::from_millis(20)).await;
        for n in 0..50 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        for n in 0..50 {
            assert_eq!(heard.recv().await.unwrap().data, frame(n).data);
            assert_eq!(read.recv().await.unwrap().payload, frame(n).data);
        }
        assert_eq!((read.dropped(), slow.dropped()), (0, 42));
        // One that is gone is not copied for.
        drop(slow);
        source.send(frame(50)).unwrap();
        assert_eq!(read.recv().await.unwrap().payload, frame(50).data);
        assert!(publisher.alice.conn.tracks(None)[0].source().tap(8).is_none());
    });
}

#[test]
fn inserted_packets_are_part_of_the_forwarded_stream() {
    sim::run(9, |net| async move {
        let server = Server::new(&net);
        let publisher = server.join(&net, 1).await;
        let (one, other) = (server.join(&net, 2).await, server.join(&net, 3).await);
        let (stream, source) = publish(&publisher);
        let (_, mut heard) = subscribe(&one, &stream);
        let (_, mut heard_by_other) = subscribe(&other, &stream);
        let track = one.bob.conn.tracks(None).remove(0);
        let opus = track.codecs()[0].payload_id;
        let inserter = track.inserter(4).unwrap();
        pass(Duration::from_millis(20)).await;
        let mark = frame(1_000).data;
        for n in 0..3 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        inserter.send(mark.clone(), opus, false).unwrap();
        pass(Duration::from_millis(10)).await;
        for n in 3..6 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        let expected = [0, 1, 2, 1_000, 3, 4, 5].map(|n| frame(n).data);
        let mut sequences = Vec::new();
        for data in expected {
            let got = heard.recv().await.unwrap();
            sequences.push(got.sequence);
            assert_eq!(got.data, data);
        }
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
        for n in 0..6 {
            assert_eq!(heard_by_other.recv().await.unwrap().data, frame(n).data);
        }

        let error = inserter.send(mark.clone(), 99, false).unwrap_err();
        assert_eq!(error, InsertError::NoSuchCodec(99));
        let long = Bytes::from(vec![0; 1_401]);
        assert_eq!(inserter.send(long, opus, false), Err(InsertError::TooLong(1_401)));
        let local = publisher.alice.conn.tracks(None).remove(0);
        assert_eq!(local.inserter(4).unwrap_err(), InsertError::NotForwarded);
        track.remove().unwrap();
        pass(Duration::from_millis(10)).await;
        assert!(matches!(inserter.send(mark, opus, false), Err(InsertError::Track(_))));
    });
}
