//! Whoever connects to a server and means ill: streams that ask for nothing, ask byte by byte,
//! say too much or too long, or do not read. The members of a room go on hearing each other, and
//! others come in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use ortc_api::{FrameReceiver, FrameSender, MediaFormat, MediaFrame};
use ortc_server::{ServerConfig, StreamLimits, TlsFiles};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::interval;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

mod support;

use support::Scratch;
use support::members::{Member, Running, Wire, heard_first, patiently};

/// What one value of `/metrics` is.
async fn metric(server: &Running, name: &str) -> u64 {
    let (_, page) = server.get("/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

/// A server that has little patience, and two members of a room who hear each other.
struct Call {
    server: Running,
    members: [Member; 2],
    source: FrameSender,
    frames: FrameReceiver,
}

impl Call {
    async fn begin(streams: StreamLimits) -> Self {
        let config = ServerConfig { streams, ..ServerConfig::default() };
        Self::begin_on(Running::start_with(config).await).await
    }

    /// The same over TLS.
    async fn begin_over_tls(streams: StreamLimits) -> Self {
        let scratch = Scratch::new("hostile-tls");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let files =
            TlsFiles { certificate: scratch.0.join("cert.pem"), key: scratch.0.join("key.pem") };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let config = ServerConfig { streams, tls: Some(files), ..ServerConfig::default() };
        let mut server = Running::start_with(config).await;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let trusting = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        server.tls = Some(trusting.into());
        Self::begin_on(server).await
    }

    async fn begin_on(server: Running) -> Self {
        let (a, mut b) = (server.join("x").await, server.join("x").await);
        let source = a.publish("s", MediaFormat::Opus);
        let track = b.track().await;
        let mut frames = b.receive(&track);
        heard_first(&source, &mut frames, |n| opus(n, 0)).await;
        Self { server, members: [a, b], source, frames }
    }

    /// Plays 50 frames, one every 20 ms: all of them come.
    async fn is_unharmed(&mut self) {
        // What was sent before the first was heard has come by then, or never will.
        while tokio::time::timeout(Duration::from_millis(100), self.frames.recv()).await.is_ok() {}
        let mut tick = interval(Duration::from_millis(20));
        let playing = async {
            for n in 1_000..1_050 {
                tick.tick().await;
                self.source.send(opus(n, 1)).unwrap();
            }
        };
        let hearing = async {
            for _ in 0..50 {
                assert_eq!(self.frames.recv().await.unwrap().data[3], 1);
            }
        };
        patiently(async { tokio::join!(playing, hearing) }).await;
    }

    async fn end(self) {
        drop(self.members);
        self.server.stop().await;
    }
}

/// The `n`th frame of 20 ms of a made-up Opus stream.
fn opus(n: u16, mark: u8) -> MediaFrame {
    // TOC 0x78: CELT-only wideband, 20 ms, one frame (RFC 6716 §3.1).
    let [high, low] = n.to_be_bytes();
    MediaFrame { data: vec![0x78, high, low, mark].into(), timestamp: u64::from(n) * 960 }
}

/// Opens a stream and says this on it.
async fn say(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = patiently(TcpStream::connect(address)).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Whether the server has closed a stream; waits until it has.
async fn is_closed(stream: &mut TcpStream) {
    let ended = async {
        let mut bytes = [0; 256];
        while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {}
    };
    patiently(ended).await;
}

#[tokio::test]
async fn streams_that_ask_for_nothing_make_room_for_those_that_do() {
    let streams = StreamLimits { newcomers_of_address: 16, ..StreamLimits::default() };
    let mut call = Call::begin(streams).await;
    let address = call.server.address;
    let mut idle = Vec::new();
    for n in 0..300 {
        // Nothing, the beginning of a request, and of a WebSocket.
        let text = ["", "GET / HTTP/1.1\r\nhost: x\r\n", "GET /rooms/x HTTP/1.1\r\nupgrade:"];
        idle.push(say(address, text[n % 3]).await);
    }
    call.is_unharmed().await;
    // Somebody comes in, past all of them.
    let newcomer = call.server.join("x").await;
    for stream in &mut idle[..280] {
        is_closed(stream).await;
    }
    assert!(metric(&call.server, "ortc_http_streams_total{what=\"displaced\"}").await >= 284);
    let open = metric(&call.server, "ortc_http_streams").await;
    // The three members, this question, and sixteen that say nothing.
    assert!(open <= 3 + 1 + 16, "{open}");
    drop(newcomer);
    call.end().await;
}

#[tokio::test]
async fn who_asks_byte_by_byte_is_cut_off_and_who_is_answered_is_not() {
    let streams =
        StreamLimits { first_response: Duration::from_millis(500), ..StreamLimits::default() };
    let mut call = Call::begin(streams).await;
    let begun = Instant::now();
    let slow = |address| async move {
        let mut stream = say(address, "GET / HTTP/1.1\r\n").await;
        let mut tick = interval(Duration::from_millis(20));
        let mut byte = [0];
        for n in 0.. {
            tokio::select! {
                read = stream.read(&mut byte) => return (n, read.unwrap_or(0)),
                _ = tick.tick() => {
                    // What it meets is what is read next.
                    let _ = stream.write_all(b"a: b\r\n").await;
                }
            }
        }
        (0, 1)
    };
    let address = call.server.address;
    let slow: Vec<_> = (0..40).map(|_| tokio::spawn(slow(address))).collect();
    for one in slow {
        let (lines, read) = patiently(one).await.unwrap();
        assert!(lines > 0 && read == 0, "after {lines} lines: {read}");
    }
    assert!(begun.elapsed() >= Duration::from_millis(450), "not at once");
    assert_eq!(metric(&call.server, "ortc_http_streams_total{what=\"too_slow\"}").await, 40);
    // The members have said nothing for longer than that, and are there.
    call.is_unharmed().await;
    call.end().await;
}

/// The first bytes of a record of TLS that is to carry a hello of 512 bytes, and never does.
const HALF_A_HELLO: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];

#[tokio::test]
async fn handshakes_of_tls_that_are_not_finished_make_room_and_are_cut_off() {
    let streams = StreamLimits {
        newcomers_of_address: 16,
        first_response: Duration::from_millis(1_500),
        ..StreamLimits::default()
    };
    let mut call = Call::begin_over_tls(streams).await;
    let address = call.server.address;
    let mut idle = Vec::new();
    for n in 0..300 {
        let said = [&b""[..], &HALF_A_HELLO[..1], &HALF_A_HELLO[..]][n % 3];
        let mut stream = patiently(TcpStream::connect(address)).await.unwrap();
        stream.write_all(said).await.unwrap();
        idle.push(stream);
    }
    call.is_unharmed().await;
    // Somebody comes in, past all of them: a handshake and a WebSocket.
    let newcomer = call.server.join("x").await;
    // Those that were not displaced are cut off when their time is over.
    for stream in &mut idle {
        is_closed(stream).await;
    }
    let [displaced, too_slow] = [
        metric(&call.server, "ortc_http_streams_total{what=\"displaced\"}").await,
        metric(&call.server, "ortc_http_streams_total{what=\"too_slow\"}").await,
    ];
    assert!(displaced >= 280 && displaced + too_slow == 300, "{displaced} and {too_slow}");
    drop(newcomer);
    call.end().await;
}

#[tokio::test]
async fn handshakes_and_requests_over_tls_byte_by_byte_are_cut_off() {
    let streams =
        StreamLimits { first_response: Duration::from_millis(1_500), ..StreamLimits::default() };
    let mut call = Call::begin_over_tls(streams).await;
    let begun = Instant::now();
    let mut slow = Vec::new();
    for n in 0..30 {
        // Half of them finish the handshake, and take their time with the request within.
        let (mut stream, bytes): (Box<dyn Wire>, &[u8]) = match n % 2 {
            0 => {
                let stream = patiently(TcpStream::connect(call.server.address)).await.unwrap();
                (Box::new(stream), &HALF_A_HELLO)
            }
            _ => (call.server.open().await, b"GET / HTTP/1.1\r\nhost: x\r\n"),
        };
        slow.push(tokio::spawn(async move {
            let mut tick = interval(Duration::from_millis(20));
            // Never what would complete it.
            let mut rest = bytes.iter().copied().chain(std::iter::repeat(b'a'));
            let mut answer = [0];
            loop {
                tokio::select! {
                    read = stream.read(&mut answer) => return read.unwrap_or(0),
                    _ = tick.tick() => {
                        // What it meets is what is read next.
                        let _ = stream.write_all(&[rest.next().unwrap()]).await;
                        let _ = stream.flush().await;
                    }
                }
            }
        }));
    }
    call.is_unharmed().await;
    for one in slow {
        assert_eq!(patiently(one).await.unwrap(), 0, "it is not answered");
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_400), "not at once");
    assert_eq!(metric(&call.server, "ortc_http_streams_total{what=\"too_slow\"}").await, 30);
    // The members have said nothing for longer than that, and are there.
    call.is_unharmed().await;
    call.end().await;
}

#[tokio::test]
async fn no_more_streams_than_may_be_open_and_they_are_free_again() {
    let streams = StreamLimits { open: 20, ..StreamLimits::default() };
    let mut call = Call::begin(streams).await;
    let address = call.server.address;
    let mut idle = Vec::new();
    for _ in 0..17 {
        idle.push(say(address, "").await);
    }
    let refused = async {
        loop {
            let mut one = say(address, "GET /healthz HTTP/1.0\r\n\r\n").await;
            let mut answer = Vec::new();
            // Closed with what it said unread, it is reset.
            if one.read_to_end(&mut answer).await.is_err() || answer.is_empty() {
                return;
            }
        }
    };
    let more: Vec<_> = [say(address, "").await].into_iter().collect();
    patiently(refused).await;
    call.is_unharmed().await;
    drop((idle, more));
    let free = async {
        let newcomer = call.server.join("x").await;
        drop(newcomer);
    };
    patiently(free).await;
    assert!(metric(&call.server, "ortc_http_streams_total{what=\"refused\"}").await >= 1);
    call.end().await;
}

#[tokio::test]
async fn who_says_too_much_or_too_long_is_put_out_of_a_room_and_nobody_else() {
    let mut call = Call::begin(StreamLimits::default()).await;
    let url = format!("ws://{}/rooms/x", call.server.address);
    // A frame that nobody wants to have read: its stream ends.
    let (mut long, _) = patiently(connect_async(&url)).await.unwrap();
    let _ = long.send(Message::text("x".repeat(300 * 1024))).await;
    patiently(async { while let Some(Ok(_)) = long.next().await {} }).await;
    // Messages that are read, and answered, until there are too many.
    let many = call.server.knock("x").await;
    let mut floods = Vec::new();
    for what in 0..3 {
        let mut member = call.server.knock("x").await;
        for n in 0..2_000 {
            member.say(&match what {
                0 => json!({ "candidate": candidate(n) }),
                1 => json!({ "track": track(n) }),
                _ => json!({ "nothing": n }),
            });
        }
        floods.push(tokio::spawn(async move { member.closed().await }));
    }
    call.is_unharmed().await;
    for flood in floods {
        let closed = patiently(flood).await.unwrap();
        assert_eq!(closed, Some((4429, "too many messages a second".into())));
    }
    // Whoever was there hears of 16 tracks, which have ended by now, and of no others.
    let tracks = metric(&call.server, "ortc_room_published_tracks_total").await;
    assert_eq!(tracks, 1 + 16);
    assert!(metric(&call.server, "ortc_room_complaints_total").await >= 384);
    drop(many);
    call.is_unharmed().await;
    call.end().await;
}

fn candidate(n: u32) -> serde_json::Value {
    json!({ "foundation": n.to_string(), "component": 1, "transport": "udp", "priority": n + 1,
        "connectionAddress": format!("198.51.100.{}", n % 250 + 1), "connectionPort": 1_024 + n,
        "type": "host" })
}

fn track(n: u32) -> serde_json::Value {
    json!({ "kind": "audio", "ssrc": (n + 1).to_string(), "msid": [format!("s{n}")],
        "codecs": [{ "payload-id": 111, "name": "opus", "clockRate": 48_000 }] })
}

/// Members that are told of everything and read nothing: each delays itself alone, and what waits
/// for it is no more than what there is to be told.
#[tokio::test]
async fn members_that_do_not_read_hold_up_nobody() {
    let mut call = Call::begin(StreamLimits::default()).await;
    let url = format!("ws://{}/rooms/x", call.server.address);
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let (mut socket, _) = patiently(connect_async(&url)).await.unwrap();
        // They keep up their questions, which are answered, as far as it goes.
        for _ in 0..300 {
            socket.feed(Message::text("[]")).await.unwrap();
        }
        socket.flush().await.unwrap();
        deaf.push(socket);
    }
    call.is_unharmed().await;
    let [a, b] = &mut call.members;
    for n in 0..20 {
        let source = a.publish(&format!("more{n}"), MediaFormat::Opus);
        if n < 15 {
            b.track().await;
            let track = a.connection.tracks(None).pop().unwrap();
            a.say(&json!({ "trackEnded": { "ssrc": track.ssrc() } }));
            assert!(b.told().await["trackEnded"].is_object());
        }
        drop(source);
    }
    call.is_unharmed().await;
    drop(deaf);
    call.end().await;
}
