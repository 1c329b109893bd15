//! The server: HTTP, and signalling for pairs.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::pairs::PairLimits;
use crate::relay::Relay;
use crate::signalling::{Signal, SignalError};

/// A frame longer than this ends its connection; one that is merely too long to be passed on
/// (see [`PairLimits::message_bytes`]) is answered with a reason.
const MAX_FRAME: usize = 256 * 1024;

/// How long a shutdown waits for peers to be told.
const SHUTDOWN: Duration = Duration::from_secs(3);

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
    /// Limits of the signalling for pairs.
    pub pairs: PairLimits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)), pairs: PairLimits::default() }
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
}

impl Server {
    /// Binds the listening socket.
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
        Ok(Self { listener, address, pairs: config.pairs })
    }

    /// The address as bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address as a browser on this host takes it: `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://{}", reachable(self.address))
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
        let relay = Relay::new(self.pairs, is_closing.clone(), alive);
        let router = router(App { relay, host: reachable(self.address).to_string() });
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
    host: String,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/style.css", get(|| async { typed("text/css; charset=utf-8", STYLE) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/pairs/{*name}", any(pair))
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

async fn pair(
    State(app): State<App>,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        let message = "this is a WebSocket: connect with ws://";
        let mut response = error(StatusCode::UPGRADE_REQUIRED, "not-a-websocket", message);
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return response;
    };
    // Undecoded on purpose: a name needs no escapes, so one that has them is refused.
    let name = uri.path().trim_start_matches("/pairs/").to_owned();
    upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| app.relay.serve(name, socket))
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
