//! Each operation of a connection at each moment: before `connect`, before anybody listens,
//! twice, from several threads, after `close`.

use std::time::Duration;

use ortc_api::{
    AddStreamError, CandidateError, Engine, FrameSender, MediaFormat, MediaStream,
    MediaStreamTrack, RTCConnection, RTCConnectionOptions, RTCEvent, RTCEventKind,
    RTCIceCandidateDescription, RTCIceServer, RTCMediaAttributes, RTCTrackDescription,
    ReceiveTrackError, SetRemoteIceError, TrackAttributeError, TrackError,
};
use ortc_io::DatagramKind;
use ortc_io::sim::{self, Host};
use ortc_tests::{Pair, Peer, frame, pass, signalled};

const SOON: Duration = Duration::from_secs(10);

/// A connection that nobody listens to.
fn unheard(host: &Host, seed: u64) -> RTCConnection {
    let engine = Engine::simulated(host.io(), seed);
    RTCConnection::new(RTCConnectionOptions::new().with_engine(engine)).unwrap()
}

fn opus_track(ssrc: u32, msid: &str) -> RTCTrackDescription {
    let value = serde_json::json!({
        "kind": "audio", "ssrc": ssrc.to_string(), "msid": [msid],
        "codecs": [{ "payload-id": 96, "name": "opus", "clockRate": 48000, "numChannels": 2 }],
    });
    serde_json::from_value(value).unwrap()
}

fn remote_candidate(port: u16) -> RTCIceCandidateDescription {
    format!("candidate:1 1 udp 2130706431 10.0.0.2 {port} typ host").parse().unwrap()
}

fn audio() -> (MediaStream, FrameSender) {
    let (track, frames) = MediaStreamTrack::local(MediaFormat::Opus);
    let stream = MediaStream::new();
    stream.add_track(&track);
    (stream, frames)
}

#[test]
fn what_is_said_before_connect_and_before_any_event_holds() {
    sim::run(1, |net| async move {
        let hosts = [1, 2].map(|n| net.host(&format!("h{n}"), &[[10, 0, 0, n].into()]));
        let [alice, bob] = hosts.each_ref().map(|host| unheard(host, net.random()));
        // All of it in the very moment of construction: no task has run yet.
        let (stream, source) = audio();
        alice.add_stream(&stream, None).unwrap();
        let (stopped, silent) = audio();
        alice.add_stream(&stopped, true).unwrap();
        let sending = alice.track(&stopped.tracks()[0]).unwrap();
        sending.stop().unwrap();
        let tracks: Vec<_> = alice
            .tracks(None)
            .iter()
            .map(|track| bob.receive_track(&signalled(&track.description())).unwrap())
            .collect();
        bob.update().unwrap();
        alice.set_remote_end_of_candidates().unwrap();
        pass(Duration::from_secs(5)).await;
        // Candidates before the credentials of their side, and the credentials before connect.
        let (mut of_alice, mut of_bob) = (alice.events(), bob.events());
        for (events, own, other) in [(&mut of_alice, &alice, &bob), (&mut of_bob, &bob, &alice)] {
            let mut streams = 0;
            while let Ok(Some(event)) = tokio::time::timeout(SOON, events.recv()).await {
                match event {
                    RTCEvent::Candidate(candidate) => {
                        own.set_local_candidate(&candidate).unwrap();
                        other.set_remote_candidate(&signalled(&candidate)).unwrap();
                    }
                    RTCEvent::AddStream(_) => streams += 1,
                    _ => {}
                }
            }
            assert_eq!(streams, own.receiving_streams().len(), "kept until somebody listens");
        }
        alice.set_remote_ice(bob.local().ice).unwrap();
        bob.set_remote_ice(alice.local().ice).unwrap();
        pass(Duration::from_secs(5)).await;
        assert_eq!(net.transcript(), [], "nothing is sent before connect");
        alice.connect().unwrap();
        bob.connect().unwrap();
        for events in [&mut of_alice, &mut of_bob] {
            let connected =
                async { while events.recv().await.expect("open") != RTCEvent::Connected {} };
            tokio::time::timeout(SOON, connected).await.unwrap();
        }
        // What was started before is sent, what was stopped before is not.
        silent.send(frame(1)).unwrap();
        source.send(frame(2)).unwrap();
        let mut heard = tracks[0].take_frames().unwrap();
        let first = tokio::time::timeout(SOON, heard.recv()).await.unwrap().unwrap();
        assert_eq!(first.data, frame(2).data);
        let mut unheard = tracks[1].take_frames().unwrap();
        assert!(tokio::time::timeout(SOON, unheard.recv()).await.is_err());
        sending.start().unwrap();
        pass(Duration::from_millis(10)).await;
        silent.send(frame(3)).unwrap();
        let first = tokio::time::timeout(SOON, unheard.recv()).await.unwrap().unwrap();
        assert_eq!(first.data, frame(3).data);
    });
}

#[test]
fn establishment_begins_with_connect_and_not_with_the_remote_side() {
    sim::run(2, |net| async move {
        let mut pair = Pair::new(&net);
        let [ours, theirs] = [pair.alice.gathered().await, pair.bob.gathered().await];
        for (own, other, mine) in
            [(&pair.alice, &pair.bob, &ours), (&pair.bob, &pair.alice, &theirs)]
        {
            own.conn.set_remote_ice(other.conn.local().ice).unwrap();
            own.conn.set_local_candidate(&mine[0]).unwrap();
            other.conn.set_remote_candidate(&mine[0]).unwrap();
        }
        pass(Duration::from_secs(60)).await;
        assert_eq!(net.transcript(), []);
        pair.alice.conn.connect().unwrap();
        pair.bob.conn.connect().unwrap();
        for peer in [&mut pair.alice, &mut pair.bob] {
            peer.until(SOON, |event| *event == RTCEvent::Connected).await;
        }
    });
}

#[test]
fn the_local_side_can_be_read_at_any_time_and_never_changes() {
    sim::run(3, |net| async move {
        let mut pair = Pair::new(&net);
        let local = pair.alice.conn.local();
        assert_eq!((local.ice.username_frag.len(), local.ice.password.len()), (8, 67));
        let fingerprint = local.dtls.clone().unwrap().fingerprint;
        for (name, len) in [("sha-1", 20), ("sha-256", 32), ("sha-384", 48), ("sha-512", 64)] {
            assert_eq!(fingerprint.get(name).map(<[u8]>::len), Some(len), "{name}");
        }
        // What is handed out is a copy.
        let mut copy = pair.alice.conn.local();
        copy.ice.username_frag = "other".into();
        copy.dtls = None;
        assert_eq!(pair.alice.conn.local(), local);
        pair.connect_within(SOON).await;
        assert_eq!(pair.alice.conn.local(), local);
        pair.alice.conn.update().unwrap();
        pass(SOON).await;
        assert_eq!(pair.alice.conn.local(), local);
        pair.alice.conn.close();
        pair.alice.conn.closed().await;
        assert_eq!(pair.alice.conn.local(), local);
        // Each connection has a certificate of its own.
        assert_ne!(pair.bob.conn.local().dtls, local.dtls);
        let engine = Engine::simulated(pair.alice.host.io(), 9);
        let of_one_engine = [(); 2].map(|()| {
            let options = RTCConnectionOptions::new().with_engine(engine.clone());
            RTCConnection::new(options).unwrap().local()
        });
        assert_ne!(of_one_engine[0].dtls, of_one_engine[1].dtls);
        assert_ne!(of_one_engine[0].ice, of_one_engine[1].ice);
    });
}

#[test]
fn start_before_the_connection_waits_for_it() {
    sim::run(4, |net| async move {
        let mut pair = Pair::new(&net);
        let (stream, source) = audio();
        pair.alice.conn.add_stream(&stream, false).unwrap();
        let track = pair.alice.conn.tracks(None).remove(0);
        assert!(!track.is_enabled());
        track.start().unwrap();
        track.start().unwrap();
        assert!(track.is_enabled());
        pair.describe();
        source.send(frame(0)).unwrap();
        pair.connect_within(SOON).await;
        source.send(frame(1)).unwrap();
        let mut frames = pair.bob.conn.receiving_streams()[0].tracks()[0].take_frames().unwrap();
        let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
        assert_eq!(heard.data, frame(1).data, "what came before is not sent late");
    });
}

#[test]
fn a_stream_is_sent_by_default_and_no_more_once_it_is_removed() {
    sim::run(5, |net| async move {
        let mut pair = Pair::new(&net);
        let (stream, source) = audio();
        pair.alice.conn.add_stream(&stream, None).unwrap();
        assert!(pair.alice.conn.tracks(None)[0].is_enabled());
        pair.describe();
        pair.connect_within(SOON).await;
        let rtp = || {
            let sent = net.transcript();
            sent.iter().filter(|entry| entry.kind == DatagramKind::Rtp).count()
        };
        for n in 0..10 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        assert_eq!(rtp(), 10);
        pair.alice.conn.remove_stream(&stream);
        // A stream that is not sent, for the second time or at all, is ignored.
        pair.alice.conn.remove_stream(&stream);
        pair.alice.conn.remove_stream(&MediaStream::new());
        pass(Duration::from_millis(20)).await;
        for n in 10..20 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        assert_eq!(rtp(), 10);
        assert_eq!((source.outlets(), source.dropped()), (0, 0));
        assert_eq!(pair.alice.conn.track(&stream.tracks()[0]), None);
        // And it may come back, as a track of another SSRC.
        pair.alice.conn.add_stream(&stream, None).unwrap();
        pass(Duration::from_millis(20)).await;
        source.send(frame(20)).unwrap();
        pass(Duration::from_millis(20)).await;
        assert_eq!(rtp(), 11);
    });
}

#[test]
fn a_track_that_is_removed_is_sent_no_more_and_its_stream_keeps_it() {
    sim::run(6, |net| async move {
        let mut pair = Pair::new(&net);
        let (one, first) = MediaStreamTrack::local(MediaFormat::Opus);
        let (two, second) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        let clones = [stream.add_track(&one), stream.add_track(&two)];
        pair.alice.conn.add_stream(&stream, true).unwrap();
        pair.describe();
        pair.connect_within(SOON).await;
        let [gone, stays] = clones.each_ref().map(|of| pair.alice.conn.track(of).unwrap());
        assert_eq!((gone.source(), gone.kind()), (&clones[0], clones[0].kind()));
        gone.remove().unwrap();
        assert_eq!(gone.remove(), Err(TrackError::Removed));
        assert_eq!(gone.start(), Err(TrackError::Removed));
        let set = gone.set_codecs(gone.codecs());
        assert_eq!(set, Err(TrackAttributeError::Track(TrackError::Removed)));
        pass(Duration::from_millis(20)).await;
        first.send(frame(0)).unwrap();
        second.send(frame(1)).unwrap();
        assert_eq!((first.outlets(), second.outlets()), (0, 1));
        pass(Duration::from_secs(1)).await;
        let sent = net.transcript();
        assert_eq!(sent.iter().filter(|entry| entry.kind == DatagramKind::Rtp).count(), 1);
        assert_eq!(pair.alice.conn.tracks(None), [stays]);
        assert_eq!(pair.alice.conn.sending_streams(), std::slice::from_ref(&stream));
        assert_eq!(stream.tracks(), clones);
    });
}

#[test]
fn what_is_new_in_a_stream_is_sent_when_it_is_added_again() {
    sim::run(7, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let (stream, _first) = audio();
        peer.conn.add_stream(&stream, false).unwrap();
        let before = peer.conn.tracks(None);
        let (late, _second) = MediaStreamTrack::local(MediaFormat::Vp8);
        let late = stream.add_track(&late);
        assert_eq!(peer.conn.track(&late), None);
        peer.conn.add_stream(&stream, true).unwrap();
        let after = peer.conn.tracks(None);
        assert_eq!(after[..1], before, "it stays as it is");
        assert!(!after[0].is_enabled() && after[1].is_enabled());
        assert_eq!((after.len(), after[1].source()), (2, &late));
        assert_eq!(peer.conn.sending_streams(), [stream]);
    });
}

#[test]
fn one_source_in_two_streams_is_two_tracks_that_carry_the_same() {
    sim::run(8, |net| async move {
        let mut pair = Pair::new(&net);
        let (microphone, source) = MediaStreamTrack::local(MediaFormat::Opus);
        let streams = [(); 2].map(|()| MediaStream::new());
        let clones = streams.each_ref().map(|stream| stream.add_track(&microphone));
        assert_ne!(clones[0], clones[1]);
        for stream in &streams {
            pair.alice.conn.add_stream(stream, true).unwrap();
        }
        assert_eq!(pair.alice.conn.track(&microphone), None, "it is the clones that are sent");
        let sending = clones.each_ref().map(|clone| pair.alice.conn.track(clone).unwrap());
        assert_ne!(sending[0].ssrc(), sending[1].ssrc());
        pair.describe();
        pair.connect_within(SOON).await;
        source.send(frame(5)).unwrap();
        for stream in pair.bob.conn.receiving_streams() {
            let mut frames = stream.tracks()[0].take_frames().unwrap();
            let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
            assert_eq!(heard.data, frame(5).data);
        }
    });
}

#[test]
fn a_track_that_is_not_sent_is_none() {
    sim::run(9, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let (stream, _source) = audio();
        assert_eq!(peer.conn.track(&stream.tracks()[0]), None);
        peer.conn.remove_stream(&stream);
        // A received one is not sent either.
        let received = peer.conn.receive_track(&opus_track(1, "m")).unwrap();
        assert_eq!(peer.conn.track(&received), None);
        assert_eq!((peer.conn.tracks(None).len(), peer.conn.sending_streams().len()), (0, 0));
    });
}

#[test]
fn after_close_what_asks_is_answered_and_what_acts_is_an_error() {
    sim::run(10, |net| async move {
        let mut pair = Pair::new(&net);
        let (stream, source) = pair.alice.send_audio();
        pair.alice.conn.receive_track(&opus_track(1, "m")).unwrap();
        pair.connect_within(SOON).await;
        let conn = &pair.alice.conn;
        let track = conn.tracks(None).remove(0);
        let remote = conn.remote();
        conn.close();
        let act = || {
            assert_eq!(conn.update(), Err(CandidateError::Closed));
            assert_eq!(conn.set_remote_end_of_candidates(), Err(CandidateError::Closed));
            let candidate = conn.set_remote_candidate(&remote_candidate(5000));
            assert_eq!(candidate, Err(CandidateError::Closed));
            let ice = conn.set_remote_ice(pair.bob.conn.local().ice);
            assert_eq!(ice, Err(SetRemoteIceError::Closed));
            assert_eq!(conn.add_stream(&stream, None), Err(AddStreamError::Closed));
            let received = conn.receive_track(&opus_track(2, "m"));
            assert_eq!(received, Err(ReceiveTrackError::Closed));
            for acted in [track.start(), track.stop(), track.remove()] {
                assert_eq!(acted, Err(TrackError::Closed));
            }
            let set = track.set_codecs(track.codecs());
            assert_eq!(set, Err(TrackAttributeError::Track(TrackError::Closed)));
            conn.remove_stream(&MediaStream::new());
        };
        act();
        conn.closed().await;
        act();
        assert_eq!(conn.remote(), remote);
        assert_eq!((conn.tracks(None).len(), conn.receiving_streams().len()), (1, 1));
        assert_eq!(conn.tracks(None)[0].description(), track.description());
        // Nobody hears anything any more, and nothing waits for that.
        conn.on_connected(Some(|_: &RTCConnection| panic!("it is closed")));
        let id = conn.add_event_listener(RTCEventKind::Connected, |_, _| panic!("it is closed"));
        conn.remove_event_listener(id);
        assert_eq!(conn.events().recv().await, None);
        let received = conn.receiving_streams().remove(0);
        assert_eq!(received.events().recv().await, None);
        assert_eq!(received.tracks()[0].events().recv().await, None);
        source.send(frame(0)).unwrap();
        assert_eq!(source.outlets(), 0);
        conn.close();
    });
}

#[test]
fn a_subscription_to_what_closes_meanwhile_ends() {
    // Bob closes; Alice subscribes at every moment of her own closing, of which she has not
    // been told yet.
    for step in 0..40 {
        sim::run(step, |net| async move {
            let mut pair = Pair::new(&net);
            pair.alice.conn.receive_track(&opus_track(1, "m")).unwrap();
            pair.connect_within(SOON).await;
            pair.bob.conn.close();
            pass(Duration::from_micros(step * 50)).await;
            let stream = pair.alice.conn.receiving_streams().remove(0);
            let mut of_conn = pair.alice.conn.events();
            let (mut of_stream, mut of_track) = (stream.events(), stream.tracks()[0].events());
            let ended = async {
                while of_conn.recv().await.is_some() {}
                while of_stream.recv().await.is_some() {}
                while of_track.recv().await.is_some() {}
            };
            tokio::time::timeout(SOON, ended).await.expect("every stream of events ends");
        });
    }
}

#[test]
fn a_connection_sends_and_receives_a_bounded_number_of_tracks() {
    sim::run(11, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        for ssrc in 0..256 {
            peer.conn.receive_track(&opus_track(ssrc, "m")).unwrap();
        }
        let over = peer.conn.receive_track(&opus_track(256, "m"));
        assert_eq!(over, Err(ReceiveTrackError::TooManyTracks(256)));
        assert_eq!(peer.conn.receiving_streams()[0].tracks().len(), 256);
        // One that is known is no other.
        peer.conn.receive_track(&opus_track(0, "m")).unwrap();

        let (many, full) = (MediaStream::new(), MediaStream::new());
        let (track, _source) = MediaStreamTrack::local(MediaFormat::Opus);
        for _ in 0..257 {
            many.add_track(&track);
        }
        // All of them, or none.
        let over = peer.conn.add_stream(&many, true);
        assert_eq!(over, Err(AddStreamError::TooManyTracks(256)));
        assert_eq!((peer.conn.tracks(None).len(), peer.conn.sending_streams().len()), (0, 0));
        for _ in 0..256 {
            full.add_track(&track);
        }
        peer.conn.add_stream(&full, true).unwrap();
        let (one, _one) = audio();
        assert_eq!(peer.conn.add_stream(&one, true), Err(AddStreamError::TooManyTracks(256)));
        peer.conn.tracks(None)[7].remove().unwrap();
        peer.conn.add_stream(&one, true).unwrap();
    });
}

#[test]
fn a_flood_of_commands_is_an_error_and_what_frees_still_goes_through() {
    sim::run(12, |net| async move {
        let mut peer = Peer::new(&net, "alice", 1, 1);
        peer.gathered().await;
        let (stream, source) = peer.send_audio();
        pass(Duration::from_millis(1)).await;
        // The control thread does not run in between.
        let mut taken = 0;
        let refused = loop {
            match peer.conn.set_remote_candidate(&remote_candidate(1 + taken)) {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((refused, taken), (CandidateError::Overloaded, 1024));
        let track = peer.conn.tracks(None).remove(0);
        assert_eq!(track.stop(), Err(TrackError::Overloaded));
        assert!(track.is_enabled(), "what was refused has not happened");
        let (other, _other) = audio();
        assert_eq!(peer.conn.add_stream(&other, true), Err(AddStreamError::Overloaded));
        let received = peer.conn.receive_track(&opus_track(1, "m"));
        assert_eq!(received, Err(ReceiveTrackError::Overloaded));
        assert_eq!(peer.conn.receiving_streams(), []);
        let set = track.set_codecs(track.codecs());
        assert_eq!(set, Err(TrackAttributeError::Track(TrackError::Overloaded)));
        peer.conn.remove_stream(&stream);
        assert_eq!(peer.conn.tracks(None), []);
        pass(Duration::from_millis(10)).await;
        // Later there is room again, and what was removed in the flood is gone.
        source.send(frame(0)).unwrap();
        assert_eq!(source.outlets(), 0);
        peer.conn.add_stream(&other, true).unwrap();
        peer.conn.receive_track(&opus_track(1, "m")).unwrap();
        // Closing is never refused.
        while peer.conn.set_remote_candidate(&remote_candidate(9)).is_ok() {}
        peer.conn.close();
        tokio::time::timeout(SOON, peer.conn.closed()).await.expect("closed");
    });
}

#[test]
fn pictures_beyond_the_media_attributes_are_not_sent_and_the_source_is_told() {
    sim::run(13, |net| async move {
        let mut pair = Pair::new(&net);
        let (camera, source) = MediaStreamTrack::local(MediaFormat::Vp8);
        let stream = MediaStream::new();
        stream.add_track(&camera);
        pair.alice.conn.add_stream(&stream, true).unwrap();
        let track = pair.alice.conn.tracks(None).remove(0);
        assert_eq!(
            (track.media_attributes(), track.description().media_attributes),
            (vec![], None)
        );
        let bound = |width, height| RTCMediaAttributes {
            video_max_width: Some(width),
            video_max_height: Some(height),
        };
        track.set_media_attributes(vec![bound(320, 320), bound(640, 180)]).unwrap();
        pair.describe();
        pair.connect_within(SOON).await;
        let description = serde_json::to_value(track.description()).unwrap();
        assert_eq!(
            description["mediaAttributes"],
            serde_json::json!([
                { "videoMaxWidth": 320, "videoMaxHeight": 320 },
                { "videoMaxWidth": 640, "videoMaxHeight": 180 },
            ])
        );
        let received = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
        let mut frames = received.take_frames().unwrap();
        let bars = |width, height| {
            let frame = ortc_media::ColourBars::new(width, height, 30).frame();
            source.send(ortc_api::MediaFrame { data: frame.data.clone(), timestamp: 0 }).unwrap();
            frame.data
        };
        // The size stands in the key frame itself; nobody has to tell.
        let small = bars(320, 180);
        let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
        assert_eq!(heard.data, small);
        bars(1280, 720);
        assert!(tokio::time::timeout(SOON, frames.recv()).await.is_err());
        assert_eq!((source.withheld(), camera.dimensions()), (1, Some((1280, 720))));
        // A typed error, for whoever asks before sending, and for whoever tightens the bound.
        let error = source.set_dimensions(1280, 720).unwrap_err();
        assert_eq!((error.width, error.height), (1280, 720));
        let tighter = track.set_media_attributes(vec![bound(160, 90)]);
        assert_eq!(tighter, Err(TrackAttributeError::TooLarge(error)));
        assert_eq!(track.media_attributes().len(), 2);
        let wide = bars(640, 180);
        let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
        assert_eq!(heard.data, wide);
        track.set_media_attributes(Vec::new()).unwrap();
        let large = bars(1280, 720);
        let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
        assert_eq!(heard.data, large);
    });
}

#[test]
fn the_drafts_ice_servers_are_accepted_as_written_and_a_wrong_one_is_named() {
    sim::run(14, |net| async move {
        let host = net.host("alice", &[[10, 0, 0, 1].into()]);
        let connection = |servers: &str| {
            let servers: Vec<RTCIceServer> = serde_json::from_str(servers).unwrap();
            let engine = Engine::simulated(host.io(), 1);
            RTCConnection::new(
                RTCConnectionOptions::new().with_engine(engine).with_ice_servers(servers),
            )
        };
        let example = r#"[ { "url":"stun:stun.example.net" } ,
            { "url":"turn:user@turn.example.org", "credential":"myPassword"} ]"#;
        connection(example).unwrap();
        let sequence = r#"[{ "url": ["stun:a.example", "stun:b.example"], "credential": null }]"#;
        connection(sequence).unwrap();
        for (servers, named) in [
            (r#"[{ "url": "stun:" }]"#, "stun:"),
            (r#"[{ "url": "http://example.org" }]"#, "http://example.org"),
            (r#"[{ "url": "turn:turn.example.org" }]"#, "turn:turn.example.org"),
        ] {
            let error = connection(servers).unwrap_err().to_string();
            assert!(error.starts_with("iceServers: ") && error.contains(named), "{error}");
        }
    });
}

#[test]
fn a_peer_without_a_fingerprint_connects_only_if_that_is_allowed() {
    sim::run(15, |net| async move {
        let host = net.host("alice", &[[10, 0, 0, 1].into()]);
        let options = RTCConnectionOptions::new().with_unverified_remote(true);
        let mut alice = Peer::with_options(host, net.random(), options);
        let mut bob = Peer::new(&net, "bob", 2, net.random());
        // Bob's password, as somebody else's would be: it carries no fingerprint.
        let mut plain = bob.conn.local().ice;
        plain.fingerprint = None;
        assert_ne!(plain.password.pop(), None);
        alice.conn.set_remote_ice(plain).unwrap();
        bob.conn.set_remote_ice(alice.conn.local().ice).unwrap();
        alice.conn.connect().unwrap();
        bob.conn.connect().unwrap();
        // The password is a wrong one as well, so nothing comes of it; what counts is that it
        // has begun.
        for candidate in alice.gathered().await {
            alice.conn.set_local_candidate(&candidate).unwrap();
        }
        for candidate in bob.gathered().await {
            alice.conn.set_remote_candidate(&candidate).unwrap();
        }
        pass(Duration::from_secs(1)).await;
        assert!(net.transcript().iter().any(|entry| entry.kind == DatagramKind::Stun));
    });
}

/// On real threads: whoever comes second finds what the first has done.
#[test]
fn threads_that_do_the_same_at_once_do_it_once() {
    let conn = RTCConnection::new(RTCConnectionOptions::new().with_loopback(true)).unwrap();
    for round in 0..50 {
        let (stream, _source) = audio();
        let received = opus_track(round, &format!("m{round}"));
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    conn.add_stream(&stream, true).unwrap();
                    conn.receive_track(&received).unwrap();
                });
            }
        });
        assert_eq!(conn.tracks(None).len(), 1, "round {round}");
        assert_eq!(conn.receiving_streams().len(), 1 + round as usize);
        assert_eq!(conn.receiving_streams()[round as usize].tracks().len(), 1);
        let start = std::sync::Barrier::new(4);
        let track = conn.tracks(None).remove(0);
        let results = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    track.remove()
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        assert_eq!(conn.tracks(None), []);
        conn.remove_stream(&stream);
    }
}
