//! The server: HTTP, signalling for pairs, and rooms.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::serve::IncomingStream;
use ortc_api::{
    AnnounceError, BindError, Engine, EngineConfig, RTCIceServer, RTCSocket, RTCTcpPort,
    ServerError,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls;

use crate::access::{AccessConfig, Denied};
use crate::admission::is_name;
use crate::demo::{DemoPeers, NoDemo};
use crate::door::{Door, Doorkeeper, StreamLimits};
use crate::metrics;
use crate::pairs::PairLimits;
use crate::relay::Relay;
use crate::room_server::{RoomOptions, RoomServer};
use crate::rooms::RoomLimits;
use crate::signalling::{Signal, SignalError};
use crate::site::{Site, guard, typed};
use crate::socket::{closed, refuse};
use crate::tls::{TlsError, TlsFiles, TlsListener};

/// A frame longer than this ends its connection; one that is merely too long to be passed on
/// (see [`PairLimits::message_bytes`]) is answered with a reason.
const MAX_FRAME: usize = 256 * 1024;

/// How long a shutdown waits for peers to be told, and for their connections to be closed.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// How long the media thread may take to tell what it has counted.
const STATS: Duration = Duration::from_secs(1);

/// The WebSocket close code of somebody who has not the token: HTTP 401 plus 4000.
const BAD_TOKEN: u16 = 4401;

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
    /// The address that is told in place of that of [`udp`](Self::udp): the outer one of a NAT that
    /// maps one address to one, and leaves ports alone. Default `None`.
    pub announce: Option<IpAddr>,
    /// Whether rooms wait for their members to find them, as a server can that all of them reach;
    /// peers on this host are met all the same. Default false.
    pub ice_lite: bool,
    /// STUN and TURN servers that the connections of rooms ask. Default: none.
    pub ice_servers: Vec<RTCIceServer>,
    /// The one TCP address for the media of all rooms, for members in networks without UDP.
    /// Default `None`: they cannot come in.
    pub tcp: Option<SocketAddr>,
    /// Media threads, 1 by default and at most 64. A room spans all of them.
    pub threads: usize,
    /// The core that the first media thread is pinned to; the others take those behind it.
    /// Default `None`: where the scheduler has them.
    pub pin: Option<usize>,
    /// The real-time priority of the media threads, 1 to 99. Default `None`: that of any other.
    pub priority: Option<u8>,
    /// Bytes that each UDP socket buffers in each direction. Default `None`: 2 MiB.
    pub socket_buffer: Option<usize>,
    /// Most bytes of padding that forwarded packets get to be of one size, at most 16; see
    /// [`EngineConfig::with_padding`]. Default 0.
    pub padding: u8,
    /// The directory in which connections that fail leave a recording of their last seconds, as
    /// files for Wireshark. Default `None`: nothing is recorded.
    pub record_failures: Option<PathBuf>,
    /// Limits of the signalling for pairs.
    pub pairs: PairLimits,
    /// Limits of rooms.
    pub rooms: RoomLimits,
    /// Limits of the streams to [`listen`](Self::listen).
    pub streams: StreamLimits,
    /// Who may use it.
    pub access: AccessConfig,
    /// The certificate, for `https` and `wss`. Default `None`: `http` and `ws`.
    pub tls: Option<TlsFiles>,
    /// Serve the page from this directory, that of this crate's sources, instead of from the
    /// program itself: for those who work on it. Default `None`.
    pub page_source: Option<PathBuf>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8080));
        Self {
            listen,
            udp: None,
            announce: None,
            ice_lite: false,
            ice_servers: Vec::new(),
            tcp: None,
            threads: 1,
            pin: None,
            priority: None,
            socket_buffer: None,
            padding: 0,
            record_failures: None,
            pairs: PairLimits::default(),
            rooms: RoomLimits::default(),
            streams: StreamLimits::default(),
            access: AccessConfig::default(),
            tls: None,
            page_source: None,
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
    /// The TCP address for media cannot be had.
    #[error("cannot take TCP for media: {0}; choose another address with --tcp ADDR:PORT")]
    Tcp(BindError),
    /// Recordings of connections that fail cannot be written there.
    #[error(
        "cannot record failures into {dir}: {1}; choose another directory with --record-failures DIR", dir = .0.display()
    )]
    Recordings(PathBuf, io::Error),
    /// The announced address makes no sense.
    #[error("cannot announce that address: {0}")]
    Announce(#[from] AnnounceError),
    /// A STUN or TURN server is malformed.
    #[error("cannot ask a server for candidates: {0}")]
    IceServer(#[from] ServerError),
    /// A TURN server has one relay for a socket, and all members would share it.
    #[error(
        "{0} cannot relay for the one port of --udp: leave out --udp, or use the TURN server over TCP, {0}?transport=tcp"
    )]
    SharedRelay(String),
    /// The certificate cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
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
    door: Doorkeeper,
    access: AccessConfig,
    tls: Option<Arc<rustls::ServerConfig>>,
    page_source: Option<PathBuf>,
    engine: Engine,
    sockets: Vec<RTCSocket>,
    ice_lite: bool,
    ice_servers: Vec<RTCIceServer>,
    tcp: Option<RTCTcpPort>,
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
        let ServerConfig { udp, threads, pin, priority, socket_buffer, padding, .. } = config;
        let ServerConfig { tcp, announce, ice_lite, ice_servers, .. } = config;
        let ServerConfig { pairs, rooms, streams, access, tls, page_source, .. } = config;
        let record_failures = config.record_failures;
        check(&ice_servers, udp.is_some())?;
        let tls = tls.map(|files| files.read()).transpose()?;
        let mut engine = EngineConfig::new().with_threads(threads).with_padding(padding);
        engine.forwarder.core = pin;
        engine.forwarder.priority = priority;
        if let Some(bytes) = socket_buffer {
            engine = engine.with_socket_buffer(bytes);
        }
        if let Some(directory) = record_failures {
            // Whoever needs a recording later needs to hear of it now.
            let made = tokio::fs::create_dir_all(&directory).await;
            made.map_err(|error| ServeError::Recordings(directory.clone(), error))?;
            engine = engine.with_flight_dumps(directory);
        }
        let engine = Engine::new(engine).map_err(ServeError::Engine)?;
        let mut sockets = match udp {
            Some(udp) => RTCSocket::bind_each(&engine, udp).await?,
            None => Vec::new(),
        };
        if let Some(announced) = announce {
            let announced = sockets.into_iter().map(|socket| socket.with_announced(announced));
            sockets = announced.collect::<Result<_, _>>()?;
        }
        let tcp = match tcp {
            Some(tcp) => Some(RTCTcpPort::bind_on(&engine, tcp).await.map_err(ServeError::Tcp)?),
            None => None,
        };
        Ok(Self {
            listener,
            address,
            pairs,
            rooms,
            door: Doorkeeper::new(streams),
            access,
            tls,
            page_source,
            engine,
            sockets,
            ice_lite,
            ice_servers,
            tcp,
        })
    }

    /// The address as bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address as a browser on this host takes it: `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", reachable(self.address))
    }

    /// What it serves, for people: a few lines.
    pub fn services(&self) -> String {
        let url = self.url();
        let socket = url.replacen("http", "ws", 1);
        // Which it is, whoever started this knows, and no log has to.
        let (link, query) = match self.access.token {
            Some(_) => ("#token=TOKEN", "?token=TOKEN"),
            None => ("", ""),
        };
        format!(
            "  {url}/r/NAME{link}    the page of a room: open it in two tabs\n  \
             {socket}/rooms/NAME{query}  a room: forwards everybody's streams to everybody else\n  \
             {socket}/pairs/NAME{query}  a pair: introduces two peers, who connect directly\n  \
             {url}/metrics   what is counted, for Prometheus"
        ) + &self.udp_addrs().iter().map(|address| format!("\n  udp {address}")).collect::<String>()
            + &self.tcp_addr().map(|address| format!("\n  tcp {address}")).unwrap_or_default()
    }

    /// The UDP addresses of rooms, one for each media thread; none without `udp`.
    pub fn udp_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(RTCSocket::local_addr).collect()
    }

    /// The TCP address of rooms; none without `tcp`.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(RTCTcpPort::local_addr)
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
        let url = self.url();
        let (closing, is_closing) = watch::channel(false);
        let (alive, mut ended) = mpsc::channel(1);
        let relay = Relay::new(self.pairs, is_closing.clone(), alive.clone());
        let (limits, engine, sockets) = (self.rooms, self.engine.clone(), self.sockets);
        let (ice_lite, ice_servers, tcp) = (self.ice_lite, self.ice_servers, self.tcp);
        let options = RoomOptions { limits, engine, sockets, ice_lite, ice_servers, tcp };
        let rooms = RoomServer::new(options, is_closing.clone(), alive.clone());
        // Behind TLS, peers in this process come in by a door of their own.
        let inner = match &self.tls {
            Some(_) => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?),
            None => None,
        };
        let own = match &inner {
            Some(listener) => listener.local_addr()?,
            None => reachable(self.address),
        };
        let query = self.access.token.as_ref().map(|token| format!("?token={token}"));
        let demo = DemoPeers::new(
            rooms.clone(),
            format!("ws://{own}"),
            query.unwrap_or_default(),
            is_closing.clone(),
            alive,
        );
        // Whoever opens the address of a server of this host alone, in two tabs, meets there.
        let lobby = self.address.ip().is_loopback().then(room_name);
        let site = Site::new(self.page_source, url, lobby);
        let (engine, access, door) = (self.engine, self.access, self.door.clone());
        let app = App { relay, rooms, engine, site, demo, access, door };
        let listener = Door::new(self.listener, self.door.clone());
        let make_service = router(app).into_make_service_with_connect_info::<Remote>();
        let mut told = is_closing.clone();
        let shut_down = async move {
            shutdown.await;
            closing.send_replace(true);
        };
        let outer: Serving = match self.tls {
            Some(tls) => {
                let listener = TlsListener::new(listener, tls)?;
                let serve = axum::serve(listener, make_service.clone());
                Box::pin(serve.with_graceful_shutdown(shut_down).into_future())
            }
            None => {
                let serve = axum::serve(listener, make_service.clone());
                Box::pin(serve.with_graceful_shutdown(shut_down).into_future())
            }
        };
        let within: Serving = match inner {
            Some(listener) => {
                let told = async move { closed(&mut told).await };
                let door = Door::new(listener, self.door);
                let serve = axum::serve(door, make_service).with_graceful_shutdown(told);
                Box::pin(serve.into_future())
            }
            None => Box::pin(std::future::ready(Ok(()))),
        };
        tokio::select! {
            result = async { tokio::try_join!(outer, within) } => { result?; }
            () = patience(is_closing) => {}
        }
        // Every connection of a peer holds a sender: the channel ends with the last of them.
        let _ = timeout(SHUTDOWN, ended.recv()).await;
        Ok(())
    }
}

/// Looks whether servers can be asked for the candidates of rooms.
fn check(servers: &[RTCIceServer], shares_a_port: bool) -> Result<(), ServeError> {
    for server in servers {
        for (uri, url) in server.uris()?.iter().zip(&server.url) {
            if shares_a_port && uri.relays_over_udp() {
                return Err(ServeError::SharedRelay(url.clone()));
            }
        }
    }
    Ok(())
}

/// A name that nobody guesses.
fn room_name() -> String {
    // Seeded anew in each process, from the system.
    let random = || RandomState::new().hash_one(());
    format!("{:016x}", random())
}

type Serving = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
struct Remote(SocketAddr);

impl Connected<IncomingStream<'_, Door>> for Remote {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Remote {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
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
    site: Site,
    demo: DemoPeers,
    access: AccessConfig,
    door: Doorkeeper,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/pairs/{*name}", any(pair))
        .route("/rooms/{*name}", any(room))
        .route("/r/{name}/demo", post(add_demo).delete(remove_demo))
        .fallback(site_or_nothing)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
        .layer(axum::middleware::map_response(guard))
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
    let mut stats = timeout(STATS, app.engine.stats()).await.ok().flatten();
    if let Some(stats) = &mut stats {
        stats.streams.add(&app.rooms.stream_stats());
    }
    let door = app.door.counts();
    let text = metrics::render(app.rooms.counts(), app.relay.counts(), door, stats.as_ref());
    typed(metrics::CONTENT_TYPE, text)
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

async fn pair(State(app): State<App>, uri: Uri, headers: HeaderMap, upgrade: Upgrade) -> Response {
    let name = name_in(&uri, "/pairs/");
    join(&app.access, &uri, &headers, upgrade, {
        let relay = app.relay.clone();
        move |socket| relay.serve(name, socket)
    })
}

async fn room(
    State(app): State<App>,
    ConnectInfo(Remote(peer)): ConnectInfo<Remote>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    let name = name_in(&uri, "/rooms/");
    let is_local = peer.ip().to_canonical().is_loopback();
    join(&app.access, &uri, &headers, upgrade, {
        let rooms = app.rooms.clone();
        move |socket| rooms.serve(name, is_local, socket)
    })
}

/// Lets a peer in by a WebSocket, if it may.
fn join<F>(
    access: &AccessConfig,
    uri: &Uri,
    headers: &HeaderMap,
    upgrade: Upgrade,
    serve: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    if let Err(denied) = access.check_origin(headers) {
        return forbidden(denied);
    }
    let Ok(upgrade) = upgrade else { return not_a_websocket() };
    match access.check_token(uri) {
        Ok(()) => limited(upgrade).on_upgrade(serve),
        // As a message: a page never sees the status of an upgrade.
        Err(denied) => limited(upgrade).on_upgrade(async move |mut socket| {
            let signal = SignalError { code: "bad-token".into(), message: denied.to_string() };
            refuse(&mut socket, BAD_TOKEN, signal).await;
        }),
    }
}

fn forbidden(denied: Denied) -> Response {
    let code = match denied {
        Denied::Origin => "bad-origin",
        Denied::Token => "bad-token",
    };
    error(StatusCode::FORBIDDEN, code, &denied.to_string())
}

/// Adds a demo peer to a room.
async fn add_demo(
    State(app): State<App>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Err(denied) = app.access.check_page(&headers).and(app.access.check_token(&uri)) {
        return forbidden(denied);
    }
    let added = if is_name(&name) { app.demo.add(&name) } else { Err(NoDemo::BadName) };
    let refused = match added {
        Ok(()) => return StatusCode::NO_CONTENT.into_response(),
        Err(refused) => refused,
    };
    let (status, code) = match refused {
        NoDemo::AlreadyThere => (StatusCode::CONFLICT, "demo-already-there"),
        NoDemo::AllTaken => (StatusCode::SERVICE_UNAVAILABLE, "no-demo-left"),
        NoDemo::BadName => (StatusCode::BAD_REQUEST, "bad-name"),
    };
    error(status, code, &refused.to_string())
}

/// Has the demo peer of a room leave.
async fn remove_demo(
    State(app): State<App>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Err(denied) = app.access.check_page(&headers).and(app.access.check_token(&uri)) {
        return forbidden(denied);
    }
    match app.demo.remove(&name) {
        true => StatusCode::NO_CONTENT.into_response(),
        false => error(StatusCode::NOT_FOUND, "no-demo", "no demo peer is in this room"),
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

/// A file of the site, or nothing.
async fn site_or_nothing(State(app): State<App>, method: Method, uri: Uri) -> Response {
    match app.site.get(uri.path()) {
        Some(response) if method == Method::GET || method == Method::HEAD => response,
        Some(_) => wrong_method(method).await,
        None => {
            // The path comes from the client: it is shortened, and escaped by the JSON.
            let path: String = uri.path().chars().take(100).collect();
            error(StatusCode::NOT_FOUND, "not-found", &format!("nothing is served at {path}"))
        }
    }
}

async fn wrong_method(method: Method) -> Response {
    let message = format!("{method} is not possible here");
    error(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", &message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let signal = SignalError { code: code.into(), message: message.into() };
    (status, typed("application/json", Signal::Error(signal).to_text())).into_response()
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
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0].split("  ").nth(1), Some(&*format!("http://{host}/r/NAME")));
        assert!(lines[1].starts_with(&format!("  ws://{host}/rooms/NAME  a room: ")), "{services}");
        assert!(lines[2].starts_with(&format!("  ws://{host}/pairs/NAME  a pair: ")), "{services}");
        let token = Some("s3cret".to_owned());
        let access = AccessConfig { token, ..AccessConfig::default() };
        let asking = ServerConfig { access, ..config("127.0.0.1:0") };
        let services = Server::bind(asking).await.unwrap().services();
        let links =
            ["/r/NAME#token=TOKEN ", "/rooms/NAME?token=TOKEN ", "/pairs/NAME?token=TOKEN "];
        assert!(links.iter().all(|link| services.contains(link)), "{services}");
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

    #[tokio::test]
    async fn what_cannot_be_told_to_members_is_an_error() {
        let refused = async |change: &dyn Fn(&mut ServerConfig)| {
            let mut config = config("127.0.0.1:0");
            config.udp = Some(([127, 0, 0, 1], 0).into());
            change(&mut config);
            Server::bind(config).await.unwrap_err().to_string()
        };
        let family = refused(&|config| config.announce = Some([0; 16].into())).await;
        assert!(family.starts_with("cannot announce that address: :: cannot stand"), "{family}");
        let turn = RTCIceServer::new("turn:192.0.2.1").with_credential("alice", "secret");
        let relay = refused(&|config| config.ice_servers = vec![turn.clone()]).await;
        assert!(relay.contains("turn:192.0.2.1?transport=tcp"), "{relay}");
        let malformed = RTCIceServer::new("turn:192.0.2.1");
        let malformed = refused(&|config| config.ice_servers = vec![malformed.clone()]).await;
        assert!(malformed.contains("needs a username"), "{malformed}");
    }

    fn config(listen: &str) -> ServerConfig {
        ServerConfig { listen: listen.parse().unwrap(), ..ServerConfig::default() }
    }
}
