//! A server in this process, and members of its rooms with connections of their own.

use std::time::Duration;

use ortc_api::{MediaFormat, MediaFrame};
use ortc_server::rooms::RoomLimits;
use serde_json::{Value, json};

mod support;

use support::members::{Member, Running, heard_first, patiently};

#[tokio::test]
async fn everybody_hears_everybody_else_and_streams_of_two_members_stay_two() {
    let server = Running::start(RoomLimits::default()).await;
    let (mut a, mut b) = (server.join("x").await, server.join("x").await);
    let mut elsewhere = server.join("y").await;
    let [(of_a, _video_a), (of_b, _video_b)] = [&a, &b].map(|member| {
        let audio = member.publish("same", MediaFormat::Opus);
        (audio, member.publish("same", MediaFormat::Vp8))
    });
    // The two are told of each other: of a stream with sound and pictures.
    let (told_a, told_b) = (both(&mut a).await, both(&mut b).await);
    let [stream_b, stream_a] = [&told_a, &told_b].map(|tracks| {
        assert_eq!([&tracks[0]["kind"], &tracks[1]["kind"]], ["audio", "video"]);
        assert_eq!(tracks[0]["msid"], tracks[1]["msid"], "they are together");
        tracks[0]["msid"][0].as_str().unwrap().to_owned()
    });
    assert_ne!(stream_a, stream_b);
    assert!(stream_a.ends_with("-same") && stream_b.ends_with("-same"), "{stream_a} {stream_b}");

    // A newcomer is told of both, by the same names.
    let mut c = server.join("x").await;
    let told_c = [both(&mut c).await, both(&mut c).await].concat();
    for (source, stream, mark) in [(&of_a, &stream_a, 1), (&of_b, &stream_b, 2)] {
        let mine: Vec<_> = told_c.iter().filter(|track| track["msid"][0] == **stream).collect();
        assert_eq!(mine.len(), 2);
        let audio = mine.iter().find(|track| track["kind"] == "audio").unwrap();
        let mut frames = c.receive(audio);
        let heard = heard_first(source, &mut frames, |n| opus(n, mark)).await;
        assert_eq!(heard.data[3], mark, "who speaks is who it says");
    }
    let source = elsewhere.publish("s", MediaFormat::Opus);
    drop((source, a));
    // Neither is what happens in another room told, nor one's own track.
    let mut ended = [c.told().await, c.told().await].map(|told| told["trackEnded"].to_string());
    ended.sort();
    let of_a = told_c.iter().filter(|track| track["msid"][0] == *stream_a);
    let mut expected: Vec<_> =
        of_a.map(|track| json!({ "ssrc": track["ssrc"] }).to_string()).collect();
    expected.sort();
    assert_eq!(ended[..], expected);
    elsewhere.say(&json!({}));
    assert_eq!(elsewhere.error().await.0, "unknown", "and nothing before");
    server.stop().await;
}

#[tokio::test]
async fn tracks_are_added_later_also_to_a_stream_that_is_there() {
    let server = Running::start(RoomLimits::default()).await;
    let (a, mut b) = (server.join("x").await, server.join("x").await);
    let _audio = a.publish("s", MediaFormat::Opus);
    let first = b.track().await;
    let _video = a.publish("s", MediaFormat::Vp8);
    let second = b.track().await;
    assert_eq!((&first["kind"], &second["kind"]), (&"audio".into(), &"video".into()));
    assert_eq!(first["msid"], second["msid"]);
    assert_eq!(first["codecs"], a.described(0)["codecs"], "numbered by the publisher");
    // Said once more it is no other track, and no error.
    let again = json!({ "track": a.described(0) });
    a.say(&again);
    let voice = a.publish("voice", MediaFormat::Ulaw);
    let third = b.track().await;
    assert!(third["msid"][0].as_str().unwrap().ends_with("-voice"));
    let mut frames = b.receive(&third);
    let frame = |n| MediaFrame { data: vec![0xff; 160].into(), timestamp: u64::from(n) * 160 };
    assert_eq!(heard_first(&voice, &mut frames, frame).await.data, frame(0).data);
    server.stop().await;
}

#[tokio::test]
async fn a_leaver_is_missed_at_once_however_it_leaves() {
    let server = Running::start(RoomLimits::default()).await;
    let mut stays = server.join("x").await;
    for how in 0..3 {
        let mut leaver = server.join("x").await;
        let _source = leaver.publish("s", MediaFormat::Opus);
        let ssrc = stays.track().await["ssrc"].clone();
        match how {
            0 => leaver.say(&json!({ "bye": {} })),
            // Its media lives on: but it is the WebSocket that makes a member.
            1 => leaver.drop_socket(),
            // Its WebSocket lives on: a connection that is closed is closed for good.
            _ => leaver.connection.close(),
        }
        assert_eq!(stays.told().await, json!({ "trackEnded": { "ssrc": ssrc } }), "{how}");
        match how {
            0 | 2 => assert_eq!(leaver.closed().await, Some((1000, "bye".into()))),
            _ => leaver.disconnected().await,
        }
    }
    server.has_connections(1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_track_ends_when_its_member_says_so_or_says_bye_on_the_wire() {
    let server = Running::start(RoomLimits::default()).await;
    let (mut a, mut b) = (server.join("x").await, server.join("x").await);
    let _said = a.publish("said", MediaFormat::Opus);
    let wire = a.publish("wire", MediaFormat::Opus);
    let (said, on_wire) = (b.track().await, b.track().await);
    let mut frames = b.receive(&on_wire);
    heard_first(&wire, &mut frames, |n| opus(n, 0)).await;
    let ended = |track: &Value| json!({ "trackEnded": { "ssrc": track["ssrc"] } });
    a.say(&json!({ "trackEnded": { "ssrc": a.described(0)["ssrc"] } }));
    assert_eq!(b.told().await, ended(&said));
    a.connection.tracks(None)[1].remove().unwrap();
    assert_eq!(b.told().await, ended(&on_wire));
    // It may come back.
    let again = json!({ "track": a.described(0) });
    a.say(&again);
    let back = b.track().await;
    assert_eq!(back["msid"], said["msid"]);
    assert_ne!(back["ssrc"], said["ssrc"]);
    a.say(&json!({ "trackEnded": { "ssrc": "12" } }));
    assert_eq!(
        a.error().await,
        (
            "no-such-track".into(),
            "trackEnded: no track of ssrc 12 has been described, or it has ended already".into()
        )
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_answered_and_the_member_stays() {
    let limits = RoomLimits { member_tracks: 2, room_tracks: 3, ..RoomLimits::default() };
    let server = Running::start(limits).await;
    let (mut a, mut b) = (server.join("x").await, server.join("x").await);
    let track = |ssrc: &str, msid: &str| {
        json!({ "kind": "audio", "ssrc": ssrc, "msid": [msid],
                "codecs": [{ "payload-id": 111, "name": "opus", "clockRate": 48000 }] })
    };
    let mut without = track("1", "s");
    without.as_object_mut().unwrap().remove("codecs");
    let mut foreign = track("1", "s");
    foreign["codecs"][0]["name"] = "speex".into();
    let candidate = json!({ "foundation": "1", "component": 1, "transport": "udp", "priority": 1,
        "connectionAddress": "no address", "connectionPort": 1, "type": "host" });
    let info = json!({ "usernameFrag": "abcd", "password": "short" });
    for (message, code, text) in [
        (json!({ "track": without }), "malformed", "track: missing field `codecs`"),
        (
            json!({ "track": foreign }),
            "bad-track",
            "none of the codecs of the track is supported: speex",
        ),
        (json!({ "track": track("x", "s") }), "bad-track", "ssrc"),
        (json!({ "track": track("1", &"m".repeat(201)) }), "bad-track", "at most 200"),
        (json!({ "candidate": candidate }), "bad-candidate", "no address"),
        (json!({ "iceInfo": info }), "bad-ice-info", "iceInfo: "),
        (json!({ "hello": 1 }), "unknown", "nothing that a room knows"),
        (json!([1]), "not-an-object", "not a JSON object"),
    ] {
        a.say(&message);
        let (said, why) = a.error().await;
        assert_eq!(said, code, "{message}: {why}");
        assert!(why.contains(text), "{why}");
    }
    a.say(&json!({ "track": track("1", "s"), "unknown": 1 }));
    let first = b.track().await;
    assert!(first["msid"][0].as_str().unwrap().ends_with("-s"));
    // Described once more with other words it is another track on the same SSRC.
    a.say(&json!({ "track": track("1", "other") }));
    let (code, why) = a.error().await;
    assert_eq!(code, "bad-track");
    assert_eq!(why, "track: ssrc 1 is already received with another description");
    a.say(&json!({ "track": track("2", "s") }));
    b.track().await;
    a.say(&json!({ "track": track("3", "s") }));
    let why = "track: a member of a room publishes at most 2 tracks";
    assert_eq!(a.error().await, ("too-many-tracks".into(), why.into()));
    b.say(&json!({ "track": track("1", "s") }));
    a.track().await;
    b.say(&json!({ "track": track("2", "s") }));
    let why = "track: at most 3 tracks are published in a room";
    assert_eq!(b.error().await, ("too-many-tracks".into(), why.into()));
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_join_is_told_why() {
    let limits = RoomLimits {
        rooms: 1,
        room_members: 2,
        burst: 30,
        frames_per_second: 1,
        ..RoomLimits::default()
    };
    let server = Running::start(limits).await;
    let reason = "a room's name has 1 to 64 characters out of A-Z a-z 0-9 . _ ~ -";
    for name in ["a/b", "%20", &"x".repeat(65)] {
        assert_eq!(server.knock(name).await.closed().await, Some((4400, reason.into())), "{name}");
    }
    let (mut a, _b) = (server.join("x").await, server.join("x").await);
    let full = server.knock("x").await.closed().await;
    assert_eq!(full, Some((4409, "this room is full: 2 members are in it".into())));
    let reason = "this server has no room for another member: try again later";
    assert_eq!(server.knock("y").await.closed().await, Some((4503, reason.into())));
    for _ in 0..60 {
        a.say(&json!({}));
    }
    assert_eq!(a.closed().await, Some((4429, "too many messages a second".into())));
    server.stop().await;
}

#[tokio::test]
async fn a_member_that_is_never_connected_is_put_out_and_harms_nobody() {
    let limits = RoomLimits { connecting: Duration::from_secs(1), ..RoomLimits::default() };
    let server = Running::start(limits).await;
    let mut a = server.join("x").await;
    let mut silent = server.knock("x").await;
    silent.say(&json!({ "track": { "kind": "audio", "ssrc": "7", "msid": [],
        "codecs": [{ "payload-id": 0, "name": "ulaw" }] } }));
    let track = a.track().await;
    assert!(track["msid"][0].as_str().unwrap().ends_with("-7"), "a stream of its own: {track}");
    assert_eq!(silent.closed().await, Some((4408, "not connected within 1 s of joining".into())));
    assert_eq!(a.told().await, json!({ "trackEnded": { "ssrc": track["ssrc"] } }));
    // Its own time has passed as well, but it is connected.
    let mut b = server.join("x").await;
    let source = a.publish("s", MediaFormat::Opus);
    let track = b.track().await;
    let mut frames = b.receive(&track);
    heard_first(&source, &mut frames, |n| opus(n, 0)).await;
    server.stop().await;
}

#[tokio::test]
async fn joins_and_leaves_leave_nothing_behind() {
    let server = Running::start(RoomLimits::default()).await;
    for round in 0..5 {
        let mut members = Vec::new();
        for n in 0..4 {
            let mut member = server.join("x").await;
            let source = member.publish("s", MediaFormat::Opus);
            for _ in 0..n {
                member.track().await;
            }
            members.push((member, source));
        }
        for (n, (mut member, _)) in members.into_iter().enumerate() {
            match (n + round) % 3 {
                0 => member.say(&json!({ "bye": {} })),
                1 => member.connection.close(),
                _ => {
                    member.drop_socket();
                    member.disconnected().await;
                    continue;
                }
            }
            member.closed().await;
        }
    }
    let gone = || async {
        let page = server.get("/metrics").await.1;
        let is = |line: &str| page.lines().any(|other| other == line);
        is("ortc_connections 0") && is("ortc_sockets 0") && is("ortc_rooms 0")
    };
    patiently(async { while !gone().await {} }).await;
    let page = server.get("/metrics").await.1;
    for line in [
        "ortc_room_members 0",
        "ortc_room_tracks 0",
        "ortc_room_joins_total 20",
        "ortc_room_published_tracks_total 20",
        "ortc_forwarder_up 1",
    ] {
        assert!(page.lines().any(|other| other == line), "{line} in\n{page}");
    }
    server.stop().await;
}

#[tokio::test]
async fn metrics_count_what_is_forwarded() {
    let server = Running::start(RoomLimits::default()).await;
    let (a, mut b) = (server.join("x").await, server.join("x").await);
    let source = a.publish("s", MediaFormat::Opus);
    let track = b.track().await;
    let mut frames = b.receive(&track);
    for mark in 0..10 {
        heard_first(&source, &mut frames, |n| opus(n, mark)).await;
    }
    let (status, page) = server.get("/metrics").await;
    assert_eq!(status, 200);
    let value = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<f64>().unwrap()
    };
    assert_eq!((value("ortc_rooms "), value("ortc_room_members ")), (1.0, 2.0));
    assert_eq!((value("ortc_room_tracks "), value("ortc_connections ")), (1.0, 2.0));
    assert!(value("ortc_rtp_packets_total{what=\"forwarded\"}") >= 10.0);
    assert!(value("ortc_run_datagrams_count") >= 10.0);
    assert!(value("ortc_batch_runs_bucket{le=\"+Inf\"}") >= 10.0);
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_tells_the_members_and_ends() {
    let server = Running::start(RoomLimits::default()).await;
    let mut a = server.join("x").await;
    let closed = tokio::spawn(async move { a.closed().await });
    server.stop().await;
    assert_eq!(closed.await.unwrap(), Some((1001, "the server is shutting down".into())));
}

/// The two tracks that a member is told of next, the sound first.
async fn both(member: &mut Member) -> Vec<Value> {
    let mut tracks = vec![member.track().await, member.track().await];
    tracks.sort_by_key(|track| track["kind"].to_string());
    tracks
}

/// The `n`th frame of 20 ms of a made-up Opus stream.
fn opus(n: u16, mark: u8) -> MediaFrame {
    // TOC 0x78: CELT-only wideband, 20 ms, one frame (RFC 6716 §3.1).
    let [high, low] = n.to_be_bytes();
    MediaFrame { data: vec![0x78, high, low, mark].into(), timestamp: u64::from(n) * 960 }
}
