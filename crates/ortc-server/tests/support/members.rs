//! A server in this process, and members of its rooms: a WebSocket and a connection each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ortc_api::{
    Engine, EngineConfig, FrameReceiver, FrameSender, MediaFormat, MediaFrame, MediaStream,
    MediaStreamTrack, RTCConnection, RTCConnectionOptions, RTCEvent, RTCEvents, ReceivedFrame,
};
use ortc_server::rooms::RoomLimits;
use ortc_server::{Server, ServerConfig};
use serde_json::{Value, from_value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long a frame may take on loopback before it is sent once more.
const AGAIN: Duration = Duration::from_millis(20);

/// A running server.
pub struct Running {
    pub address: SocketAddr,
    /// The server's.
    engine: Engine,
    /// The members'.
    members: Engine,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Whom to trust, where it speaks TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A stream to a server, with TLS or without.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Running {
    pub async fn start(rooms: RoomLimits) -> Self {
        Self::start_with(ServerConfig { rooms, ..ServerConfig::default() }).await
    }

    /// Starts it with these limits, on a port of the system's choice.
    pub async fn start_with(config: ServerConfig) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ServerConfig { listen, ..config };
        let server = Server::bind(config).await.unwrap();
        let (address, engine) = (server.local_addr(), server.engine().clone());
        let (shutdown, is_down) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let down = async { drop(is_down.await) };
            server.run(down).await.unwrap();
        });
        let members = Engine::new(EngineConfig::new()).unwrap();
        Self { address, engine, members, shutdown, task, tls: None }
    }

    /// A stream to it, with its handshake done.
    pub async fn open(&self) -> Box<dyn Wire> {
        let stream = patiently(TcpStream::connect(self.address)).await.unwrap();
        match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::from(self.address.ip());
                let connector = TlsConnector::from(Arc::clone(config));
                Box::new(patiently(connector.connect(name, stream)).await.unwrap())
            }
        }
    }

    pub async fn stop(self) {
        drop(self.shutdown);
        patiently(self.task).await.unwrap();
    }

    /// Where a room of this name is.
    pub fn room(&self, name: &str) -> String {
        format!("ws://{}/rooms/{name}", self.address)
    }

    /// Waits until the server has just so many connections.
    pub async fn has_connections(&self, count: u64) {
        let is_so = async || self.engine.stats().await.unwrap().connections == count;
        patiently(async { while !is_so().await {} }).await;
    }

    /// A member that is connected.
    pub async fn join(&self, room: &str) -> Member {
        let mut member = self.member(room, true).await;
        let connected = member.state.wait_for(|state| *state == State::Connected);
        patiently(connected).await.unwrap();
        member
    }

    /// Somebody who says nothing by itself, and does not answer.
    pub async fn knock(&self, room: &str) -> Member {
        self.member(room, false).await
    }

    async fn member(&self, room: &str, answers: bool) -> Member {
        let opening = client_async(self.room(room), self.open().await);
        let (socket, _) = patiently(opening).await.unwrap();
        let options =
            RTCConnectionOptions::new().with_engine(self.members.clone()).with_loopback(true);
        let connection = RTCConnection::new(options).unwrap();
        let (say, to_say) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let (state, is_in_state) = watch::channel(State::New);
        let (close, closed) = oneshot::channel();
        let link = Link {
            connection: connection.clone(),
            events: connection.events(),
            answers,
            tell,
            state,
            close: Some(close),
        };
        if answers {
            say.send(json!({ "iceInfo": connection.local().ice }).to_string()).unwrap();
        }
        tokio::spawn(link.run(socket, to_say));
        Member { connection, say: Some(say), told, state: is_in_state, closed: Some(closed) }
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = self.open().await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        patiently(stream.read_to_string(&mut response)).await.unwrap();
        let body = response.split_once("\r\n\r\n").unwrap().1.to_owned();
        (response[9..12].parse().unwrap(), body)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Connected,
    Disconnected,
}

/// A member of a room.
pub struct Member {
    pub connection: RTCConnection,
    /// `None` once its socket has been dropped.
    say: Option<mpsc::UnboundedSender<String>>,
    told: mpsc::UnboundedReceiver<Value>,
    state: watch::Receiver<State>,
    closed: Option<oneshot::Receiver<Option<(u16, String)>>>,
}

impl Member {
    pub fn say(&self, message: &Value) {
        // Whoever has been put out says nothing any more.
        let _ = self.say.as_ref().unwrap().send(message.to_string());
    }

    /// Sends a new track of the stream `msid`, and describes it.
    pub fn publish(&self, msid: &str, format: MediaFormat) -> FrameSender {
        let (track, frames) = MediaStreamTrack::local(format);
        let stream = MediaStream::new();
        let source = stream.add_track(&track);
        self.connection.add_stream(&stream, true).unwrap();
        let sent = self.connection.track(&source).unwrap();
        sent.set_msid(vec![msid.to_owned()]).unwrap();
        self.say(&json!({ "track": sent.description() }));
        frames
    }

    /// The description of the `n`th track that is sent.
    pub fn described(&self, n: usize) -> Value {
        json!(self.connection.tracks(None)[n].description())
    }

    /// The next that is said about tracks, or an error.
    pub async fn told(&mut self) -> Value {
        patiently(self.told.recv()).await.unwrap()
    }

    /// The track that is described next.
    pub async fn track(&mut self) -> Value {
        let mut told = self.told().await;
        assert!(told["track"].is_object(), "{told}");
        told["track"].take()
    }

    /// The code and the message of the error that comes next.
    pub async fn error(&mut self) -> (String, String) {
        let told = self.told().await;
        let text = |name: &str| told["error"][name].as_str().unwrap_or_else(|| panic!("{told}"));
        (text("code").to_owned(), text("message").to_owned())
    }

    pub fn receive(&self, track: &Value) -> FrameReceiver {
        let description = from_value(track.clone()).unwrap();
        self.connection.receive_track(&description).unwrap().take_frames().unwrap()
    }

    /// The code and the reason with which the server closes the socket.
    pub async fn closed(&mut self) -> Option<(u16, String)> {
        patiently(self.closed.take().unwrap()).await.unwrap()
    }

    /// Drops the socket, without a close frame.
    pub fn drop_socket(&mut self) {
        self.say = None;
    }

    /// Waits until the server has closed the connection.
    pub async fn disconnected(&mut self) {
        let disconnected = self.state.wait_for(|state| *state == State::Disconnected);
        patiently(disconnected).await.unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.connection.close();
    }
}

/// What keeps a member in touch with the room.
struct Link {
    connection: RTCConnection,
    events: RTCEvents,
    answers: bool,
    tell: mpsc::UnboundedSender<Value>,
    state: watch::Sender<State>,
    close: Option<oneshot::Sender<Option<(u16, String)>>>,
}

impl Link {
    async fn run(
        mut self,
        socket: WebSocketStream<Box<dyn Wire>>,
        mut to_say: mpsc::UnboundedReceiver<String>,
    ) {
        let (mut sink, mut stream) = socket.split();
        loop {
            let text = tokio::select! {
                text = to_say.recv() => match text {
                    Some(text) => text,
                    None => break,
                },
                // Disabled once the connection is closed.
                Some(event) = self.events.recv() => match self.notice(event) {
                    Some(text) => text,
                    None => continue,
                },
                message = stream.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        self.heed(serde_json::from_str(&text).unwrap());
                        continue;
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let frame =
                            frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                        // The answer is a flush; what it meets does not matter any more.
                        let _ = sink.flush().await;
                        let _ = self.close.take().unwrap().send(frame);
                        break;
                    }
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => break,
                },
            };
            // A server that does not listen any more says why.
            let _ = sink.send(Message::text(text)).await;
        }
        drop((sink, stream));
        while let Some(event) = self.events.recv().await {
            self.notice(event);
        }
    }

    fn heed(&self, mut message: Value) {
        let connection = &self.connection;
        if message["iceInfo"].is_object() && self.answers {
            connection.set_remote_ice(from_value(message["iceInfo"].take()).unwrap()).unwrap();
            connection.connect().unwrap();
        } else if message["candidate"].is_object() && self.answers {
            let candidate = from_value(message["candidate"].take()).unwrap();
            connection.set_remote_candidate(&candidate).unwrap();
        } else if ["track", "trackEnded", "error"].iter().any(|name| message[name].is_object()) {
            // A test need not wait for all it is told.
            let _ = self.tell.send(message);
        }
    }

    /// What an event has the peer say.
    fn notice(&self, event: RTCEvent) -> Option<String> {
        match event {
            RTCEvent::Candidate(candidate) if self.answers => {
                self.connection.set_local_candidate(&candidate).unwrap();
                Some(json!({ "candidate": candidate }).to_string())
            }
            RTCEvent::Connected => {
                self.state.send_replace(State::Connected);
                None
            }
            RTCEvent::Disconnected(_) => {
                self.state.send_replace(State::Disconnected);
                None
            }
            _ => None,
        }
    }
}

/// Sends frames, made by number, until one arrives.
pub async fn heard_first(
    source: &FrameSender,
    frames: &mut FrameReceiver,
    frame: impl Fn(u16) -> MediaFrame,
) -> ReceivedFrame {
    patiently(async {
        let mut number = 0..;
        loop {
            source.send(frame(number.next().unwrap())).unwrap();
            if let Ok(frame) = timeout(AGAIN, frames.recv()).await {
                return frame.unwrap();
            }
        }
    })
    .await
}

pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("nothing has happened for 20 s")
}
