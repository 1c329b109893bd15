//! TCP candidates (RFC 6544) over the system's sockets: no datagram of these calls is signalled.

use std::net::SocketAddr;
use std::time::Duration;

use ortc_api::{
    BindError, Engine, EngineConfig, FrameReceiver, FrameSender, MediaFormat, MediaStream,
    MediaStreamTrack, RTCConnection, RTCConnectionOptions, RTCEvent, RTCIceCandidateDescription,
    RTCTcpPort, TcpCandidates,
};
use ortc_tests::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(20);

type Candidate = RTCIceCandidateDescription;

fn options(tcp: TcpCandidates) -> RTCConnectionOptions {
    RTCConnectionOptions::new().with_loopback(true).with_tcp_candidates(tcp)
}

/// Signals TCP candidates only, and waits until both are connected; the pair of the second.
async fn connect(one: &RTCConnection, two: &RTCConnection) -> (Candidate, Candidate) {
    for (own, other) in [(one, two), (two, one)] {
        let peer = other.downgrade();
        own.on_candidate(Some(move |conn: &RTCConnection, candidate: Candidate| {
            if candidate.transport == "tcp" {
                conn.set_local_candidate(&candidate).unwrap();
                if let Some(peer) = peer.upgrade() {
                    peer.set_remote_candidate(&candidate).unwrap();
                }
            }
        }));
        own.set_remote_ice(other.local().ice).unwrap();
        own.connect().unwrap();
    }
    // After the handlers: the first to listen gets what was found before.
    let mut events = (one.events(), two.events());
    let mut pair = None;
    for events in [&mut events.0, &mut events.1] {
        tokio::time::timeout(LIMIT, async {
            loop {
                match events.recv().await.expect("open") {
                    RTCEvent::Connected => return,
                    RTCEvent::ActiveCandidate { local, remote } => pair = Some((local, remote)),
                    _ => {}
                }
            }
        })
        .await
        .expect("connected in time");
    }
    pair.expect("a pair comes before the handshake")
}

/// Sound from one connection to another.
struct Sound {
    source: FrameSender,
    frames: FrameReceiver,
    sent: u64,
}

impl Sound {
    fn new(from: &RTCConnection, to: &RTCConnection) -> Self {
        let (track, source) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        stream.add_track(&track);
        from.add_stream(&stream, true).unwrap();
        let track = to.receive_track(&from.tracks(None)[0].description()).unwrap();
        Self { source, frames: track.take_frames().unwrap(), sent: 0 }
    }

    /// Sends until something arrives that was sent after this was called.
    async fn flows(&mut self) {
        let since = self.sent;
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let arrived = tokio::time::timeout(LIMIT, async {
            loop {
                tokio::select! {
                    frame = self.frames.recv() => {
                        let frame = frame.expect("the track goes on");
                        assert_eq!(frame.data[0], 0x78);
                        if frame.data[1..] >= since.to_be_bytes()[..] {
                            return;
                        }
                    }
                    _ = tick.tick() => {
                        self.source.send(frame(self.sent)).unwrap();
                        self.sent += 1;
                    }
                }
            }
        });
        arrived.await.expect("sound in time");
    }
}

#[tokio::test]
async fn a_call_over_a_stream_alone() {
    let one = RTCConnection::new(options(TcpCandidates::ACTIVE)).unwrap();
    let two = RTCConnection::new(options(TcpCandidates::PASSIVE)).unwrap();
    let (local, remote) = connect(&one, &two).await;
    let of = |it: &Candidate| (it.transport.clone(), it.tcp_type.clone().unwrap_or_default());
    assert_eq!(of(&local), ("tcp".into(), "passive".into()));
    assert_eq!(of(&remote), ("tcp".into(), "active".into()));
    Sound::new(&one, &two).flows().await;
    Sound::new(&two, &one).flows().await;
    one.close();
    one.closed().await;
    tokio::time::timeout(LIMIT, two.closed()).await.expect("the peer's close_notify closes");
}

/// Passes streams on to an address, until it is told to cut them.
async fn proxy(to: SocketAddr, cut: watch::Receiver<u32>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut cut = cut.clone();
            cut.mark_unchanged();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    local
}

#[tokio::test]
async fn a_stream_that_is_cut_is_opened_again_and_sound_goes_on() {
    let one = RTCConnection::new(options(TcpCandidates::ACTIVE)).unwrap();
    let two = RTCConnection::new(options(TcpCandidates::PASSIVE)).unwrap();
    let (cutter, cut) = watch::channel(0);
    // All that the peer is told of is the proxy.
    let port = {
        let mut events = two.events();
        tokio::time::timeout(LIMIT, async {
            loop {
                if let RTCEvent::Candidate(candidate) = events.recv().await.unwrap()
                    && candidate.transport == "tcp"
                    && candidate.connection_address == "127.0.0.1"
                {
                    two.set_local_candidate(&candidate).unwrap();
                    break candidate;
                }
            }
        })
        .await
        .unwrap()
    };
    let to = format!("{}:{}", port.connection_address, port.connection_port).parse().unwrap();
    let proxy = proxy(to, cut).await;
    one.set_remote_candidate(&Candidate { connection_port: proxy.port(), ..port }).unwrap();
    let events = one.events();
    tokio::spawn({
        let (one, mut events) = (one.downgrade(), events);
        async move {
            while let Some(event) = events.recv().await {
                if let (RTCEvent::Candidate(candidate), Some(one)) = (event, one.upgrade())
                    && candidate.transport == "tcp"
                {
                    one.set_local_candidate(&candidate).unwrap();
                }
            }
        }
    });
    one.set_remote_ice(two.local().ice).unwrap();
    two.set_remote_ice(one.local().ice).unwrap();
    one.connect().unwrap();
    two.connect().unwrap();
    let mut there = Sound::new(&one, &two);
    let mut back = Sound::new(&two, &one);
    for round in 1..4 {
        there.flows().await;
        back.flows().await;
        cutter.send_replace(round);
    }
    there.flows().await;
    back.flows().await;
}

#[tokio::test]
async fn connections_of_several_threads_share_one_port_whatever_strangers_send() {
    let engine = Engine::new(EngineConfig::new().with_threads(2)).unwrap();
    let port = RTCTcpPort::bind_on(&engine, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = port.local_addr();
    let refused = RTCTcpPort::bind_on(&engine, address).await;
    assert!(matches!(refused, Err(BindError::AddressInUse(other)) if other == address));
    // Some say nothing, some say half of something, one talks of something else.
    let mut strangers = Vec::new();
    for n in 0..40 {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            stranger.write_all(&[0, 100, 0, 1, 0]).await.unwrap();
        }
        strangers.push(stranger);
    }
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(other.read(&mut [0; 64]).await.unwrap_or(0), 0, "closed without a word");
    let mut calls = Vec::new();
    for _ in 0..4 {
        let at_server = RTCConnectionOptions::new().with_loopback(true);
        let at_server = at_server.with_engine(engine.clone()).with_tcp_port(port.clone());
        let server = RTCConnection::new(at_server).unwrap();
        let client = RTCConnection::new(options(TcpCandidates::ACTIVE)).unwrap();
        connect(&server, &client).await;
        let (mut there, mut back) = (Sound::new(&client, &server), Sound::new(&server, &client));
        there.flows().await;
        back.flows().await;
        calls.push((server, client, there, back));
    }
    for (_, _, there, back) in &mut calls {
        there.flows().await;
        back.flows().await;
    }
    let stats = port.stats();
    assert_eq!((stats.malformed, stats.bad_integrity), (1, 0), "{stats:?}");
    // Of each client one for each address that it has.
    assert!(stats.taken >= 4, "{stats:?}");
    assert!(stats.displaced >= 32, "{stats:?}");
    drop(strangers);
    for (server, client, ..) in calls {
        client.close();
        server.close();
        server.closed().await;
    }
    drop(port);
    tokio::time::timeout(LIMIT, async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while TcpStream::connect(address).await.is_ok() {
            tick.tick().await;
        }
    })
    .await
    .expect("the port is free again");
}
