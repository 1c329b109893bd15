//! The server: HTTP, signalling for pairs, and rooms.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use ortc_api::{BindError, Engine, EngineConfig, RTCSocket};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::metrics;
use crate::pairs::PairLimits;
use crate::relay::Relay;
use crate::room_server::{RoomOptions, RoomServer};
use crate::rooms::RoomLimits;
use crate::signalling::{Signal, SignalError};

/// A frame longer than this ends its connection; one that is merely too long to be passed on
/// (see [`PairLimits::message_bytes`]) is answered with a reason.
const MAX_FRAME: usize = 256 * 1024;

/// How long a shutdown waits for peers to be told, and for their connections to be closed.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// How long the media thread may take to tell what it has counted.
const STATS: Duration = Duration::from_secs(1);

const INDEX: &str = include_str!("../assets/index.html");
const STYLE: &str = include_str!("../assets/style.css");

/// Nothing from elsewhere, no script, no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Where a server listens, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The address for HTTP; port 0 lets the system choose. Default 127.0.0.1:8080: whoever
    /// reaches this port may use the server.
    pub listen: SocketAddr,
    /// The one UDP address for the media of all rooms; with several media threads the ports
    /// behind it, too, one for each. Default `None`: a socket for each interface and member, on
    /// ports that the system chooses.
    pub udp: Option<SocketAddr>,
    /// Media threads, 1 by default and at most 64. A room spans all of them.
    pub threads: usize,
    /// The core that the first media thread is pinned to; the others take those behind it.
    /// Default `None`: where the scheduler has them.
    pub pin: Option<usize>,
    /// The real-time priority of the media threads, 1 to 99. Default `None`: that of any other.
    pub priority: Option<u8>,
    /// Bytes that each UDP socket buffers in each direction. Default `None`: 2 MiB.
    pub socket_buffer: Option<usize>,
    /// Limits of the signalling for pairs.
    pub pairs: PairLimits,
    /// Limits of rooms.
    pub rooms: RoomLimits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8080));
        Self {
            listen,
            udp: None,
            threads: 1,
            pin: None,
            priority: None,
            socket_buffer: None,
            pairs: PairLimits::default(),
            rooms: RoomLimits::default(),
        }
    }
}

/// Why a server does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another program listens there.
    #[error("{0} is in use by another program: stop that one, or choose another port with --listen {ip}:PORT (0 lets the system choose)", ip = url_ip(*.0))]
    AddressInUse(SocketAddr),
    /// The address belongs to no interface of this host.
    #[error(
        "{0} is no address of this host: listen on 127.0.0.1, on an address that `ip address` shows, or on all of them with 0.0.0.0"
    )]
    AddressNotAvailable(SocketAddr),
    /// The port is reserved.
    #[error("this user may not listen on {0}: choose a port from 1024 up")]
    NotPermitted(SocketAddr),
    /// Something else.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// The UDP address for media cannot be had.
    #[error("cannot take UDP for media: {0}; choose another address with --udp ADDR:PORT")]
    Udp(#[from] BindError),
    /// The threads that move media cannot be started.
    #[error("the media engine cannot be started: {0}")]
    Engine(io::Error),
    /// The listening socket failed while serving.
    #[error("the server stopped: {0}")]
    Serve(#[from] io::Error),
}

/// A server that listens, and serves once it is [`run`](Self::run).
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    pairs: PairLimits,
    rooms: RoomLimits,
    engine: Engine,
    sockets: Vec<RTCSocket>,
}

impl Server {
    /// Binds the listening socket, and starts the threads that move media.
    ///
    /// # Errors
    /// Says what to do about it.
    pub async fn bind(config: ServerConfig) -> Result<Self, ServeError> {
        let address = config.listen;
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => ServeError::AddressInUse(address),
            ErrorKind::AddrNotAvailable => ServeError::AddressNotAvailable(address),
            ErrorKind::PermissionDenied => ServeError::NotPermitted(address),
            _ => ServeError::Bind(address, error),
        })?;
        let address = listener.local_addr()?;
        let ServerConfig { udp, threads, pin, priority, socket_buffer, pairs, rooms, .. } = config;
        let mut engine = EngineConfig::new().with_threads(threads);
        engine.forwarder.core = pin;
        engine.forwarder.priority = priority;
        if let Some(bytes) = socket_buffer {
            engine = engine.with_socket_buffer(bytes);
        }
        let engine = Engine::new(engine).map_err(ServeError::Engine)?;
        let sockets = match udp {
            Some(udp) => RTCSocket::bind_each(&engine, udp).await?,
            None => Vec::new(),
        };
        Ok(Self { listener, address, pairs, rooms, engine, sockets })
    }

    /// The address as bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address as a browser on this host takes it: `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://{}", reachable(self.address))
    }

    /// What it serves, for people: a few lines.
    pub fn services(&self) -> String {
        let host = reachable(self.address);
        format!(
            "  ws://{host}/rooms/NAME  a room: forwards everybody's streams to everybody else\n  \
             ws://{host}/pairs/NAME  a pair: introduces two peers, who connect directly\n  \
             http://{host}/metrics   what is counted, for Prometheus"
        ) + &self.udp_addrs().iter().map(|address| format!("\n  udp {address}")).collect::<String>()
    }

    /// The UDP addresses of rooms, one for each media thread; none without `udp`.
    pub fn udp_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(RTCSocket::local_addr).collect()
    }

    /// The engine that runs the connections of all rooms.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Serves until `shutdown` completes; then tells the peers and waits for them, at most
    /// three seconds.
    ///
    /// # Errors
    /// If the listening socket fails.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let (closing, is_closing) = watch::channel(false);
        let (alive, mut ended) = mpsc::channel(1);
        let relay = Relay::new(self.pairs, is_closing.clone(), alive.clone());
        let (limits, engine, sockets) = (self.rooms, self.engine.clone(), self.sockets);
        let options = RoomOptions { limits, engine, sockets };
        let rooms = RoomServer::new(options, is_closing.clone(), alive);
        let host = reachable(self.address).to_string();
        let router = router(App { relay, rooms, engine: self.engine, host })
            .into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(self.listener, router)
            .with_graceful_shutdown(async move {
                shutdown.await;
                closing.send_replace(true);
            })
            .into_future();
        tokio::select! {
            result = serve => result?,
            () = patience(is_closing) => {}
        }
        // Every connection of a peer holds a sender: the channel ends with the last of them.
        let _ = timeout(SHUTDOWN, ended.recv()).await;
        Ok(())
    }
}

/// Completes when a shutdown has had its time: some client may hold its connection open.
async fn patience(mut is_closing: watch::Receiver<bool>) {
    if is_closing.wait_for(|closing| *closing).await.is_err() {
        // The server ended without being asked to.
        std::future::pending::<()>().await;
    }
    sleep(SHUTDOWN).await;
}

#[derive(Debug, Clone)]
struct App {
    relay: Relay,
    rooms: RoomServer,
    engine: Engine,
    host: String,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/style.css", get(|| async { typed("text/css; charset=utf-8", STYLE) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/pairs/{*name}", any(pair))
        .route("/rooms/{*name}", any(room))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
        .layer(axum::middleware::map_response(guard))
}

async fn index(State(app): State<App>) -> Response {
    let page = INDEX.replace("{version}", env!("CARGO_PKG_VERSION")).replace("{host}", &app.host);
    typed("text/html; charset=utf-8", page)
}

async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.relay.is_closing() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// What Prometheus reads.
async fn metrics(State(app): State<App>) -> Response {
    let stats = timeout(STATS, app.engine.stats()).await.ok().flatten();
    let text = metrics::render(app.rooms.counts(), app.relay.counts(), stats.as_ref());
    typed(metrics::CONTENT_TYPE, text)
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

async fn pair(State(app): State<App>, uri: Uri, upgrade: Upgrade) -> Response {
    let name = name_in(&uri, "/pairs/");
    match upgrade {
        Ok(upgrade) => limited(upgrade).on_upgrade(move |socket| app.relay.serve(name, socket)),
        Err(_) => not_a_websocket(),
    }
}

async fn room(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    upgrade: Upgrade,
) -> Response {
    let name = name_in(&uri, "/rooms/");
    let is_local = peer.ip().to_canonical().is_loopback();
    match upgrade {
        Ok(upgrade) => {
            limited(upgrade).on_upgrade(move |socket| app.rooms.serve(name, is_local, socket))
        }
        Err(_) => not_a_websocket(),
    }
}

/// Undecoded on purpose: a name needs no escapes, so one that has them is refused.
fn name_in(uri: &Uri, path: &str) -> String {
    uri.path().strip_prefix(path).unwrap_or_default().to_owned()
}

fn limited(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME)
}

fn not_a_websocket() -> Response {
    let message = "this is a WebSocket: connect with ws://";
    let mut response = error(StatusCode::UPGRADE_REQUIRED, "not-a-websocket", message);
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}

async fn nothing_here(uri: Uri) -> Response {
    // The path comes from the client: it is shortened, and escaped by the JSON.
    let path: String = uri.path().chars().take(100).collect();
    error(StatusCode::NOT_FOUND, "not-found", &format!("nothing is served at {path}"))
}

async fn wrong_method(method: Method) -> Response {
    let message = format!("{method} is not possible here");
    error(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", &message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let signal = SignalError { code: code.into(), message: message.into() };
    (status, typed("application/json", Signal::Error(signal).to_text())).into_response()
}

fn typed(kind: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn guard(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The address part of `ADDR:PORT`.
fn url_ip(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// An address to connect to: a server that listens on all addresses is reached on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_one_that_can_be_opened() {
        let reach = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(reach("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(reach("[::]:8080"), "[::1]:8080");
        assert_eq!(reach("192.0.2.7:8080"), "192.0.2.7:8080");
    }

    #[tokio::test]
    async fn what_is_served_is_told() {
        let server = Server::bind(config("127.0.0.1:0")).await.unwrap();
        let host = server.local_addr();
        let services = server.services();
        let lines: Vec<_> = services.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with(&format!("  ws://{host}/rooms/NAME  a room: ")), "{services}");
        assert!(lines[1].starts_with(&format!("  ws://{host}/pairs/NAME  a pair: ")), "{services}");
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_had_says_what_to_do() {
        let first = Server::bind(config("127.0.0.1:0")).await.unwrap();
        let taken = first.local_addr();
        let again = ServerConfig { listen: taken, ..ServerConfig::default() };
        assert_eq!(
            Server::bind(again).await.unwrap_err().to_string(),
            format!(
                "{taken} is in use by another program: stop that one, or choose another port \
                 with --listen 127.0.0.1:PORT (0 lets the system choose)"
            )
        );
        let foreign = Server::bind(config("192.0.2.1:0")).await.unwrap_err();
        assert!(matches!(foreign, ServeError::AddressNotAvailable(_)), "{foreign}");
    }

    fn config(listen: &str) -> ServerConfig {
        ServerConfig { listen: listen.parse().unwrap(), ..ServerConfig::default() }
    }
}
