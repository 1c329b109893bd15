//! A server in this process, and WebSocket peers of every kind.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ortc_server::pairs::PairLimits;
use ortc_server::{Server, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

#[tokio::test]
async fn two_peers_hear_each_other_and_the_first_is_not_forgotten() {
    let server = Running::start(PairLimits::default()).await;
    let mut a = server.peer("x").await;
    a.say(r#"{"iceInfo":{"usernameFrag":"abcd"}}"#).await;
    a.say("{\"unknown\": [1, null, \"ä\"]}").await;
    let mut b = server.peer("x").await;
    assert_eq!(b.hear().await, r#"{"iceInfo":{"usernameFrag":"abcd"}}"#);
    assert_eq!(b.hear().await, "{\"unknown\": [1, null, \"ä\"]}", "as it came, byte by byte");
    b.say(r#"{"b":1}"#).await;
    assert_eq!(a.hear().await, r#"{"b":1}"#);
    server.stop().await;
}

#[tokio::test]
async fn a_third_peer_is_told_why_not() {
    let server = Running::start(PairLimits::default()).await;
    let (mut a, mut b) = (server.peer("x").await, server.peer("x").await);
    let mut third = server.peer("x").await;
    let reason = "two peers are in this pair already: choose another name";
    assert_eq!(third.error().await, ("pair-full".into(), reason.into()));
    assert_eq!(third.closed().await, Some((4409, reason.into())));
    // The two have noticed nothing.
    a.say(r#"{"a":1}"#).await;
    assert_eq!(b.hear().await, r#"{"a":1}"#);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_leaves_is_missed_and_the_name_is_free_once_both_have_left() {
    let server = Running::start(PairLimits::default()).await;
    let (a, mut b) = (server.peer("x").await, server.peer("x").await);
    drop(a); // without a close frame
    assert_eq!(b.hear().await, r#"{"bye":{}}"#);
    b.say("{}").await;
    assert_eq!(b.error().await, ("peer-left".into(), "the other peer has left".into()));
    assert_eq!(server.peer("x").await.closed().await.unwrap().0, 4410);
    b.leave().await;
    let mut again = server.peer("x").await;
    again.say(r#"{"again":1}"#).await;
    assert_eq!(server.peer("x").await.hear().await, r#"{"again":1}"#);
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_passed_on_is_answered_and_the_peer_stays() {
    let server = Running::start(PairLimits::default()).await;
    let (mut a, mut b) = (server.peer("x").await, server.peer("x").await);
    a.say("hello").await;
    let reason = "the message is not JSON: expected value at line 1 column 1";
    assert_eq!(a.error().await, ("not-json".into(), reason.into()));
    a.say("[]").await;
    assert_eq!(a.error().await.0, "not-an-object");
    a.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(a.error().await.0, "binary");
    a.say(&format!("{{\"a\":\"{}\"}}", "x".repeat(70_000))).await;
    let reason = "the message has 70008 bytes, at most 65536 are passed on";
    assert_eq!(a.error().await, ("too-long".into(), reason.into()));
    a.say(r#"{"still":"here"}"#).await;
    assert_eq!(b.hear().await, r#"{"still":"here"}"#);
    server.stop().await;
}

#[tokio::test]
async fn a_frame_beyond_all_measure_ends_the_connection() {
    let server = Running::start(PairLimits::default()).await;
    let (mut a, mut b) = (server.peer("x").await, server.peer("x").await);
    // The server may be gone before all of it is written.
    let _ = a.socket.send(Message::text("x".repeat(1 << 20))).await;
    assert_eq!(b.hear().await, r#"{"bye":{}}"#);
    server.stop().await;
}

#[tokio::test]
async fn names_are_checked() {
    let server = Running::start(PairLimits::default()).await;
    for name in ["a/b", "%20", "x%C3%A4", &"x".repeat(65)] {
        let reason = "a pair's name has 1 to 64 characters out of A-Z a-z 0-9 . _ ~ -";
        assert_eq!(server.peer(name).await.closed().await, Some((4400, reason.into())), "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_flood_is_stopped() {
    let limits = PairLimits { burst: 20, frames_per_second: 1, ..PairLimits::default() };
    let server = Running::start(limits).await;
    let mut a = server.peer("x").await;
    for _ in 0..21 {
        a.say("{}").await;
    }
    assert_eq!(a.closed().await, Some((4429, "too many messages a second".into())));
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_full_says_so() {
    let server = Running::start(PairLimits { pairs: 1, ..PairLimits::default() }).await;
    let _a = server.peer("x").await;
    let mut b = server.peer("y").await;
    let reason = "this server has no room for another pair: try again later";
    assert_eq!(b.closed().await, Some((4503, reason.into())));
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_put_out_and_costs_a_bounded_amount() {
    let limits = PairLimits { frames_per_second: 100_000, burst: 100_000, ..PairLimits::default() };
    let server = Running::start(limits).await;
    let (a, mut b) = (server.peer("x").await, server.peer("x").await);
    // What fills the buffers of the two systems and then the inbox of b, who reads nothing.
    let message = format!("{{\"a\":\"{}\"}}", "x".repeat(60_000));
    let (mut saying, mut hearing) = a.socket.split();
    let mut said = 0;
    let bye = loop {
        tokio::select! {
            heard = hearing.next() => break heard.unwrap().unwrap().to_string(),
            sent = saying.send(Message::text(message.as_str())) => sent.unwrap(),
        }
        said += 1;
    };
    assert_eq!(bye, r#"{"bye":{}}"#);
    let mut heard = 0;
    while let Some(Ok(Message::Text(_))) = b.socket.next().await {
        heard += 1;
    }
    assert!(heard < said, "{heard} of {said}");
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_tells_the_peers_and_ends() {
    let server = Running::start(PairLimits::default()).await;
    let mut a = server.peer("x").await;
    let closed = tokio::spawn(async move { a.closed().await });
    server.stop().await;
    assert_eq!(closed.await.unwrap(), Some((1001, "the server is shutting down".into())));
}

#[tokio::test]
async fn http_says_what_is_there_and_what_is_not() {
    let server = Running::start(PairLimits::default()).await;
    assert_eq!(server.get("/healthz").await, (200, "ok\n".into()));
    assert_eq!(server.get("/readyz").await, (200, "ready\n".into()));

    let (status, page) = server.get("/start").await;
    assert_eq!(status, 200);
    let socket = format!("<span class=\"socket\">ws://{}</span>", server.address);
    let signal = format!("--signal {socket}/pairs/hello");
    assert_eq!(page.matches(&signal).count(), 2, "two commands to copy: {page}");
    assert!(!page.contains('{'), "everything is filled in");
    let (_, head) = server.get_raw("/").await;
    assert!(head.starts_with("HTTP/1.1 303 ") && head.contains("location: /r/"), "{head}");
    let policy =
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';";
    assert!(head.contains(policy), "{head}");
    let (status, style) = server.get("/style.css").await;
    assert!(status == 200 && style.contains("prefers-color-scheme: dark"));

    let not_found = |path: &str| json!({"error": {"code": "not-found", "message": format!("nothing is served at {path}")}});
    for path in ["/rooms/", "/pairs/", "/favicon.ico"] {
        let (status, body) = server.get(path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body), (404, not_found(path)));
    }
    let (status, body) = server.get("/pairs/x").await;
    let message = "this is a WebSocket: connect with ws://";
    let expected = json!({"error": {"code": "not-a-websocket", "message": message}});
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (426, expected));
    server.stop().await;
}

struct Running {
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(pairs: PairLimits) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let server =
            Server::bind(ServerConfig { listen, pairs, ..ServerConfig::default() }).await.unwrap();
        let address = server.local_addr();
        let (shutdown, is_down) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let down = async { drop(is_down.await) };
            server.run(down).await.unwrap();
        });
        Self { address, shutdown, task }
    }

    async fn stop(self) {
        drop(self.shutdown);
        patiently(self.task).await.unwrap();
    }

    async fn peer(&self, name: &str) -> Peer {
        let url = format!("ws://{}/pairs/{name}", self.address);
        let (socket, _) = patiently(connect_async(url)).await.unwrap();
        Peer { socket }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, response) = self.get_raw(path).await;
        (status, response.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn get_raw(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        patiently(stream.read_to_string(&mut response)).await.unwrap();
        (response[9..12].parse().unwrap(), response)
    }
}

struct Peer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Peer {
    async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    async fn hear(&mut self) -> String {
        patiently(async {
            loop {
                match self.socket.next().await.unwrap().unwrap() {
                    Message::Text(text) => break text.to_string(),
                    Message::Ping(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        })
        .await
    }

    /// The code and the message of an error.
    async fn error(&mut self) -> (String, String) {
        let mut message: Value = serde_json::from_str(&self.hear().await).unwrap();
        let error = message["error"].take();
        (error["code"].as_str().unwrap().into(), error["message"].as_str().unwrap().into())
    }

    /// The code and the reason with which the server closes; messages before are skipped.
    async fn closed(&mut self) -> Option<(u16, String)> {
        patiently(async {
            loop {
                match self.socket.next().await? {
                    Ok(Message::Close(frame)) => {
                        break frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                    }
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await
    }

    /// Closes, and waits until the server has agreed: by then it has left its pair.
    async fn leave(mut self) {
        self.socket.close(None).await.unwrap();
        patiently(async { while let Some(Ok(_)) = self.socket.next().await {} }).await;
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("nothing has happened for 20 s")
}
