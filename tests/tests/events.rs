//! Every event of a connection: when it comes, with what, and to whom.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ortc_api::{
    MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCConnection, RTCDisconnectReason,
    RTCEvent, RTCEventKind, RTCIceCandidateDescription, RTCTrackDescription,
};
use ortc_io::sim;
use ortc_tests::{Pair, Peer, frame, pass, signalled};

const SOON: Duration = Duration::from_secs(10);

/// What was heard, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// An event with its arguments, in short.
fn short(event: &RTCEvent) -> String {
    match event {
        RTCEvent::Candidate(candidate) => format!("candidate {}", address(candidate)),
        RTCEvent::EndOfCandidates => "endofcandidates".into(),
        RTCEvent::ActiveCandidate { local, remote } => {
            format!("activecandidate {} {}", address(local), address(remote))
        }
        RTCEvent::Connected => "connected".into(),
        RTCEvent::Disconnected(reason) => format!("disconnected {reason:?}"),
        RTCEvent::AddStream(stream) => format!("addstream {}", stream.id()),
        RTCEvent::UnknownTrack(track) => format!("unknowntrack {:?}", track.rtp_ext_headers),
        other => panic!("{other:?} is new"),
    }
}

fn address(candidate: &RTCIceCandidateDescription) -> String {
    format!("{} {}", candidate.kind, candidate.connection_address)
}

/// Sets a handler of each kind that the drafts name, which notes it with its arguments.
fn handle_all(conn: &RTCConnection, log: &Log) {
    let [a, b, c, d, e, f, g] = [(); 7].map(|()| log.clone());
    let own = conn.local().ice;
    conn.on_candidate(Some(move |conn: &RTCConnection, candidate| {
        assert_eq!(conn.local().ice, own, "the target of the event");
        a.note(short(&RTCEvent::Candidate(candidate)));
    }));
    conn.on_end_of_candidates(Some(move |_: &RTCConnection| b.note("endofcandidates")));
    conn.on_active_candidate(Some(move |_: &RTCConnection, local, remote| {
        c.note(short(&RTCEvent::ActiveCandidate { local, remote }));
    }));
    conn.on_connected(Some(move |_: &RTCConnection| d.note("connected")));
    conn.on_disconnected(Some(move |_: &RTCConnection, reason| {
        e.note(short(&RTCEvent::Disconnected(reason)));
    }));
    conn.on_add_stream(Some(move |_: &RTCConnection, stream: MediaStream| {
        f.note(short(&RTCEvent::AddStream(stream)));
    }));
    conn.on_unknown_track(Some(move |_: &RTCConnection, track| {
        g.note(short(&RTCEvent::UnknownTrack(track)));
    }));
}

fn listen_to_all(conn: &RTCConnection, log: &Log) {
    use RTCEventKind::*;
    for kind in [
        Candidate,
        EndOfCandidates,
        ActiveCandidate,
        Connected,
        Disconnected,
        AddStream,
        UnknownTrack,
    ] {
        let log = log.clone();
        conn.add_event_listener(kind, move |_, event| log.note(short(&event)));
    }
}

#[test]
fn every_event_comes_to_handlers_listeners_and_the_stream_with_its_arguments() {
    sim::run(1, |net| async move {
        let mut pair = Pair::new(&net);
        let (by_handler, by_listener) = (Log::default(), Log::default());
        handle_all(&pair.alice.conn, &by_handler);
        listen_to_all(&pair.alice.conn, &by_listener);
        pair.connect_within(SOON).await;
        let (stream, _source) = pair.bob.send_audio();
        pair.describe();
        let (_undescribed, source) = pair.bob.send_audio();
        let pairs = BTreeMap::from([("seat".to_owned(), "12".to_owned())]);
        pair.bob.conn.tracks(None)[1].set_rtp_ext_headers(pairs).unwrap();
        source.send(frame(0)).unwrap();
        pass(Duration::from_secs(1)).await;
        pair.bob.conn.close();
        pair.alice.conn.closed().await;
        while let Some(event) = pair.alice.events.recv().await {
            pair.alice.seen.push(event);
        }
        let expected = [
            "candidate host 10.0.0.1".to_owned(),
            "endofcandidates".into(),
            "activecandidate host 10.0.0.1 host 10.0.0.2".into(),
            "connected".into(),
            format!("addstream {}", stream.id()),
            "unknowntrack {\"seat\": \"12\"}".into(),
            format!("disconnected {:?}", RTCDisconnectReason::ClosedByPeer),
        ];
        assert_eq!(by_handler.take(), expected);
        assert_eq!(by_listener.take(), expected);
        // `until` has taken "connected" out of the stream.
        let seen: Vec<_> = pair.alice.seen.iter().map(short).collect();
        let rest =
            expected.iter().filter(|text| !["connected", "endofcandidates"].contains(&&***text));
        assert_eq!(seen, rest.cloned().collect::<Vec<_>>());
    });
}

#[test]
fn a_candidate_comes_for_each_address_and_the_end_after_the_last() {
    sim::run(2, |net| async move {
        let addresses = [[10, 0, 0, 1].into(), [10, 0, 0, 9].into(), [192, 168, 3, 4].into()];
        let mut peer = Peer::on(net.host("alice", &addresses), 1);
        let mut found: Vec<_> = peer.gathered().await.iter().map(address).collect();
        found.sort();
        assert_eq!(found, ["host 10.0.0.1", "host 10.0.0.9", "host 192.168.3.4"]);
        // Nothing comes after the end.
        assert!(tokio::time::timeout(SOON, peer.events.recv()).await.is_err());
    });
}

#[test]
fn everything_before_the_first_subscriber_is_kept_in_order() {
    sim::run(3, |net| async move {
        let mut pair = Pair::new(&net);
        pair.connect_within(SOON).await;
        let (stream, _source) = pair.bob.send_audio();
        pair.describe();
        pass(Duration::from_secs(60)).await;
        // The stream has heard all of it; a handler is still the first of its kind.
        let log = Log::default();
        handle_all(&pair.alice.conn, &log);
        pass(Duration::from_millis(1)).await;
        assert_eq!(
            log.take(),
            [
                "candidate host 10.0.0.1".to_owned(),
                "endofcandidates".into(),
                "activecandidate host 10.0.0.1 host 10.0.0.2".into(),
                "connected".into(),
                format!("addstream {}", stream.id()),
            ]
        );
        // The second of its kind has come too late.
        let late = Log::default();
        listen_to_all(&pair.alice.conn, &late);
        pass(Duration::from_millis(1)).await;
        assert_eq!(late.take(), [""; 0]);
    });
}

fn described(ssrc: u32, msid: &[&str]) -> RTCTrackDescription {
    let value = serde_json::json!({
        "kind": "audio", "ssrc": ssrc.to_string(), "msid": msid,
        "codecs": [{ "payload-id": 96, "name": "opus", "clockRate": 48000, "numChannels": 2 }],
    });
    serde_json::from_value(value).unwrap()
}

/// The streams that have been announced, with the tracks in them at that moment or later.
async fn announced(peer: &mut Peer) -> Vec<(String, usize)> {
    pass(Duration::from_millis(10)).await;
    let mut streams = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, peer.events.recv()).await {
        if let RTCEvent::AddStream(stream) = event {
            assert!(peer.conn.receiving_streams().contains(&stream));
            streams.push((stream.id().to_owned(), stream.tracks().len()));
        }
    }
    streams
}

fn owned<T: Clone>(pairs: &[(&str, T)]) -> Vec<(String, T)> {
    pairs.iter().map(|(id, rest)| ((*id).to_owned(), rest.clone())).collect()
}

#[test]
fn addstream_comes_once_for_each_msid_that_is_new() {
    sim::run(4, |net| async move {
        let mut peer = Peer::new(&net, "alice", 1, 1);
        peer.gathered().await;
        peer.conn.receive_track(&described(1, &["a"])).unwrap();
        assert_eq!(announced(&mut peer).await, owned(&[("a", 1)]));
        // Another track of a stream that is known.
        peer.conn.receive_track(&described(2, &["a"])).unwrap();
        assert_eq!(announced(&mut peer).await, owned::<usize>(&[]));
        // Several at once, of which one is known and one is named twice.
        peer.conn.receive_track(&described(3, &["a", "b", "c", "c"])).unwrap();
        assert_eq!(announced(&mut peer).await, owned(&[("b", 1), ("c", 1)]));
        let members: Vec<_> = peer
            .conn
            .receiving_streams()
            .iter()
            .map(|stream| (stream.id().to_owned(), stream.tracks().len()))
            .collect();
        assert_eq!(members, owned(&[("a", 3), ("b", 1), ("c", 1)]));
    });
}

#[test]
fn a_track_without_a_stream_is_what_receive_track_returns() {
    sim::run(5, |net| async move {
        let mut pair = Pair::new(&net);
        let (_, source) = pair.alice.send_audio();
        let sending = pair.alice.conn.tracks(None).remove(0);
        sending.set_msid(Vec::new()).unwrap();
        let received = pair.bob.conn.receive_track(&signalled(&sending.description())).unwrap();
        pair.connect_within(SOON).await;
        assert_eq!(announced(&mut pair.bob).await, owned::<usize>(&[]));
        assert_eq!(pair.bob.conn.receiving_streams(), []);
        source.send(frame(3)).unwrap();
        let mut frames = received.take_frames().unwrap();
        let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
        assert_eq!(heard.data, frame(3).data);
    });
}

#[test]
fn a_received_track_is_connected_only_after_its_stream_was_announced() {
    sim::run(6, |net| async move {
        let mut pair = Pair::new(&net);
        let (_, source) = pair.alice.send_audio();
        pair.connect_within(SOON).await;
        // Packets before the description: the track is connected at once when that comes.
        source.send(frame(0)).unwrap();
        pass(Duration::from_millis(100)).await;
        let log = Log::default();
        let of_stream = log.clone();
        pair.bob.conn.on_add_stream(Some(move |_: &RTCConnection, stream: MediaStream| {
            of_stream.note("addstream");
            let of_track = of_stream.clone();
            stream.tracks()[0].on_connected(Some(move |_: &_| of_track.note("track connected")));
            let of_stream = of_stream.clone();
            stream.on_connected(Some(move |_: &_| of_stream.note("stream connected")));
        }));
        pair.describe();
        source.send(frame(1)).unwrap();
        pass(Duration::from_secs(1)).await;
        let heard = log.take();
        assert_eq!(heard[0], "addstream");
        let mut rest = heard[1..].to_vec();
        rest.sort();
        assert_eq!(rest, ["stream connected", "track connected"]);
    });
}

#[test]
fn a_description_that_comes_late_loses_no_key_frame() {
    sim::run(8, |net| async move {
        let mut pair = Pair::new(&net);
        let (camera, source) = MediaStreamTrack::local(MediaFormat::Vp8);
        let stream = MediaStream::new();
        stream.add_track(&camera);
        pair.alice.conn.add_stream(&stream, true).unwrap();
        pair.connect_within(SOON).await;
        // Some twenty packets.
        let mut key = ortc_media::ColourBars::new(320, 180, 30).frame().data.to_vec();
        key.resize(20_000, 0);
        let sent = MediaFrame { data: key.into(), timestamp: 0 };
        source.send(sent.clone()).unwrap();
        pass(Duration::from_millis(900)).await;
        pair.describe();
        let track = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
        let mut frames = track.take_frames().unwrap();
        let heard = tokio::time::timeout(SOON, frames.recv()).await.unwrap().unwrap();
        assert_eq!((heard.data, heard.key, frames.damages()), (sent.data, true, 0));
    });
}

#[test]
fn disconnected_and_connected_again_tell_of_a_path_that_was_lost() {
    sim::run(7, |net| async move {
        let mut pair = Pair::new(&net);
        let log = Log::default();
        pair.connect_within(SOON).await;
        handle_all(&pair.alice.conn, &log);
        pass(Duration::from_secs(30)).await;
        log.take();
        net.partition(&pair.alice.host, &pair.bob.host);
        pass(Duration::from_secs(60)).await;
        assert_eq!(log.take(), ["disconnected PathLost"]);
        net.heal(&pair.alice.host, &pair.bob.host);
        pass(Duration::from_secs(30)).await;
        let again = log.take();
        assert!(again.contains(&"connected".to_owned()), "{again:?}");
        assert!(debug(&pair).contains("RTCConnection"));
    });
}

fn debug(value: &impl Debug) -> String {
    format!("{value:?}")
}
