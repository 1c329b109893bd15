//! The same composition over the system's sockets and real threads.

use std::time::Duration;

use ortc_api::{
    BindError, Engine, EngineConfig, MediaFormat, MediaStream, MediaStreamTrack, RTCConnection,
    RTCConnectionOptions, RTCEvent, RTCSocket, ReceivedFrame,
};
use ortc_tests::frame;

const LIMIT: Duration = Duration::from_secs(20);

/// Connects two connections of this process, each with loopback candidates.
async fn call() -> (RTCConnection, RTCConnection) {
    let options = || RTCConnectionOptions::new().with_loopback(true);
    let one = RTCConnection::new(options()).unwrap();
    let two = RTCConnection::new(options()).unwrap();
    connect(&one, &two).await;
    (one, two)
}

/// Signals both sides to each other and waits until they are connected.
async fn connect(one: &RTCConnection, two: &RTCConnection) {
    for (own, other) in [(one, two), (two, one)] {
        let peer = other.downgrade();
        own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            conn.set_local_candidate(&candidate).unwrap();
            if let Some(peer) = peer.upgrade() {
                peer.set_remote_candidate(&candidate).unwrap();
            }
        }));
        own.set_remote_ice(other.local().ice).unwrap();
        own.connect().unwrap();
    }
    // After the handlers: the first to listen gets what was found before.
    let mut events = (one.events(), two.events());
    for events in [&mut events.0, &mut events.1] {
        tokio::time::timeout(LIMIT, async {
            while events.recv().await.expect("open") != RTCEvent::Connected {}
        })
        .await
        .expect("connected in time");
    }
}

/// Has one side send sound, and waits for the first of it that the other hears.
async fn first_heard(from: &RTCConnection, to: &RTCConnection) -> ReceivedFrame {
    let (track, source) = MediaStreamTrack::local(MediaFormat::Opus);
    let stream = MediaStream::new();
    stream.add_track(&track);
    from.add_stream(&stream, true).unwrap();
    to.receive_track(&from.tracks(None)[0].description()).unwrap();
    let received = to.receiving_streams()[0].tracks()[0].clone();
    let mut frames = received.take_frames().unwrap();
    // Both ends are set up by other threads: the first frames may be sent too early.
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let arrived = tokio::time::timeout(LIMIT, async {
        let mut n = 0;
        loop {
            tokio::select! {
                frame = frames.recv() => break frame.unwrap(),
                _ = tick.tick() => { source.send(frame(n)).unwrap(); n += 1; }
            }
        }
    });
    arrived.await.unwrap()
}

#[tokio::test]
async fn a_call_in_a_plain_tokio_runtime() {
    let (one, two) = call().await;
    assert_eq!(first_heard(&one, &two).await.data[0], 0x78);
    one.close();
    one.closed().await;
    tokio::time::timeout(LIMIT, two.closed()).await.expect("the peer's close_notify closes");
}

#[test]
fn a_connection_needs_no_runtime_of_its_own() {
    let conn = RTCConnection::new(RTCConnectionOptions::new().with_loopback(true)).unwrap();
    let (found, candidates) = std::sync::mpsc::channel();
    conn.on_candidate(Some(move |_: &RTCConnection, candidate| found.send(candidate).unwrap()));
    let candidate = candidates.recv_timeout(LIMIT).unwrap();
    assert_eq!((candidate.kind.as_str(), candidate.transport.as_str()), ("host", "udp"));
    assert_eq!(conn.local().ice.password.len(), 67);
}

/// Two clients on one port of this machine, with sound; and the port is free again afterwards.
#[tokio::test]
async fn two_calls_to_one_port() {
    let socket = RTCSocket::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = socket.local_addr().unwrap();
    let taken = std::net::UdpSocket::bind(address);
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    let refused = RTCSocket::bind(address).await;
    assert!(matches!(refused, Err(BindError::AddressInUse(other)) if other == address));
    let mut servers = Vec::new();
    for _ in 0..2 {
        let options = RTCConnectionOptions::new();
        let server = RTCConnection::new(options.clone().with_socket(socket.clone())).unwrap();
        let client = RTCConnection::new(options.with_loopback(true)).unwrap();
        connect(&server, &client).await;
        assert_eq!(first_heard(&client, &server).await.data[0], 0x78);
        servers.push((server, client));
    }
    drop(socket);
    for (server, client) in servers {
        assert!(std::net::UdpSocket::bind(address).is_err(), "it is in use");
        client.close();
        server.close();
        server.closed().await;
    }
    tokio::time::timeout(LIMIT, async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while std::net::UdpSocket::bind(address).is_err() {
            tick.tick().await;
        }
    })
    .await
    .expect("the port is free again");
}

#[tokio::test]
async fn a_room_spans_the_media_threads_of_an_engine() {
    let engine = Engine::new(EngineConfig::new().with_threads(3)).unwrap();
    let sockets = RTCSocket::bind_each(&engine, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    assert_eq!((engine.threads(), sockets.len()), (3, 3));
    let mut calls = Vec::new();
    for n in 0..4 {
        let at_server = RTCConnectionOptions::new().with_socket(sockets[n % 3].clone());
        let server = RTCConnection::new(at_server).unwrap();
        let peer = RTCConnection::new(RTCConnectionOptions::new().with_loopback(true)).unwrap();
        connect(&server, &peer).await;
        calls.push((server, peer));
    }
    let (track, source) = MediaStreamTrack::local(MediaFormat::Opus);
    let stream = MediaStream::new();
    stream.add_track(&track);
    let (at_server, publisher) = &calls[0];
    publisher.add_stream(&stream, true).unwrap();
    at_server.receive_track(&publisher.tracks(None)[0].description()).unwrap();
    let received = at_server.receiving_streams().remove(0);
    let mut heard = Vec::new();
    for (server, peer) in &calls[1..] {
        server.add_stream(&received, true).unwrap();
        let track = peer.receive_track(&server.tracks(None)[0].description()).unwrap();
        heard.push(track.take_frames().unwrap());
    }
    // All ends are set up by other threads: the first frames may be sent too early.
    let speaking = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        for n in 0.. {
            tick.tick().await;
            source.send(frame(n)).unwrap();
        }
    });
    for frames in &mut heard {
        let mut before = None;
        for _ in 0..20 {
            let got = tokio::time::timeout(LIMIT, frames.recv()).await.unwrap().unwrap();
            if let Some(before) = before {
                assert_eq!(got.sequence, before + 1);
            }
            before = Some(got.sequence);
        }
    }
    speaking.abort();

    let none = Engine::new(EngineConfig::new().with_threads(0)).unwrap_err();
    assert_eq!(none.to_string(), "1 to 64 media threads are possible, not 0");
    let high = "127.0.0.1:65535".parse().unwrap();
    let error = RTCSocket::bind_each(&engine, high).await.unwrap_err();
    assert!(matches!(error, BindError::NoPortLeft(_)), "{error}");
}

#[tokio::test]
async fn ice_restarts_in_the_middle_of_a_call() {
    let (one, two) = call().await;
    first_heard(&one, &two).await;
    for (own, other) in [(&one, &two), (&two, &one)] {
        let mut events = own.events();
        let ice = own.restart_ice().unwrap();
        other.set_remote_ice(ice.clone()).unwrap();
        other.connect().unwrap();
        // Another pair, or the same by other credentials.
        let checked = tokio::time::timeout(LIMIT, async {
            while !matches!(events.recv().await.expect("open"), RTCEvent::ActiveCandidate { .. }) {}
        });
        checked.await.expect("a pair is selected anew");
        let frag = format!("\"iceLocalUsernameFragment\":\"{}\"", ice.username_frag);
        let stats = serde_json::to_string(&own.stats().await).unwrap();
        assert!(stats.contains(&frag), "{stats}");
    }
    first_heard(&two, &one).await;
}
