//! Rooms of a signalling server, which people join and leave.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ortc_api::DtlsVersion;
use ortc_server::call::{CallOptions, PlayOptions, PlaySource, RecordAs, call};
use ortc_server::{Authorities, Server, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// Who joins a room in a round: each hears the others.
const MEMBERS: u64 = 3;

/// A server, in this process.
#[derive(Debug)]
pub(super) struct Rooms {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), String>>,
}

impl Rooms {
    pub(super) async fn begin() -> Result<Self, String> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = ServerConfig { listen, ..ServerConfig::default() };
        let server = Server::bind(config).await.map_err(|error| error.to_string())?;
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopped = async {
                // Gone is as good as told.
                let _ = stopped.await;
            };
            server.run(stopped).await.map_err(|error| error.to_string())
        });
        Ok(Self { address, stop, serving })
    }

    /// Has people meet in a room of this name for a second.
    pub(super) async fn meet(&self, name: u64) -> Result<u64, String> {
        let mut members = JoinSet::new();
        for member in 0..MEMBERS {
            let signal = format!("ws://{}/rooms/{name}", self.address);
            let options = CallOptions {
                signal: signal.parse().map_err(|error| format!("{signal}: {error}"))?,
                authorities: Authorities::default(),
                play: vec![PlaySource::Tone { hertz: 440.0 + 100.0 * member as f64 }],
                playing: PlayOptions::default(),
                record: None,
                record_as: RecordAs::Tracks,
                dtmf: None,
                ice_servers: Vec::new(),
                relay_only: false,
                tcp: false,
                mdns: false,
                link_local: false,
                dtmf_in_band: false,
                // They leave one after the other.
                duration: Some(Duration::from_millis(500 + 250 * member)),
                restart_ice: None,
                dtls: DtlsVersion::default(),
                redundancy: 0,
                stats: None,
                progress: false,
            };
            members.spawn(async move {
                let summary = call(options, pending()).await.map_err(|error| error.to_string())?;
                match summary.is_success() {
                    true => Ok(()),
                    false => Err(format!("a member of a room: {summary}")),
                }
            });
        }
        while let Some(member) = members.join_next().await {
            member.map_err(|error| error.to_string())??;
        }
        // Each of them, and the server's side.
        Ok(2 * MEMBERS)
    }

    /// Connections that the server has now, by what it says itself.
    pub(super) async fn open_connections(&self) -> Result<u64, String> {
        let metrics = self.metrics().await.map_err(|error| format!("/metrics: {error}"))?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("ortc_connections "));
        line.and_then(|value| value.parse().ok()).ok_or_else(|| "no ortc_connections".to_owned())
    }

    async fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    pub(super) async fn end(self) {
        let _ = self.stop.send(());
        // What it would say is no matter any more.
        let _ = self.serving.await;
    }
}
