//! A server of a room, for tests of what it forwards.

use std::time::Duration;

use ortc_api::{Engine, RTCConnection, RTCConnectionOptions};
use ortc_io::sim::{Host, Network};

use crate::{Pair, Peer};

/// Time enough to connect.
const SOON: Duration = Duration::from_secs(10);

/// A server of one engine, at 10.0.0.100, and its connections to everybody else.
#[derive(Debug)]
pub struct Server {
    /// Its host.
    pub host: Host,
    /// Its engine.
    pub engine: Engine,
}

impl Server {
    /// A server on a host of its own.
    pub fn new(net: &Network) -> Self {
        let host = net.host("server", &[[10, 0, 0, 100].into()]);
        let engine = Engine::simulated(host.io(), net.random());
        Self { host, engine }
    }

    /// A further connection.
    pub fn connection(&self) -> Peer {
        self.connection_with(RTCConnectionOptions::new())
    }

    /// A further connection, with these options but for the engine.
    pub fn connection_with(&self, options: RTCConnectionOptions) -> Peer {
        let options = options.with_engine(self.engine.clone());
        let conn = RTCConnection::new(options).unwrap();
        let events = conn.events();
        Peer { host: self.host.clone(), conn, events, seen: Vec::new() }
    }

    /// Connects a new peer at 10.0.0.`last`: alice is the peer, bob the server's side.
    pub async fn join(&self, net: &Network, last: u8) -> Pair {
        self.join_with(net, last, RTCConnectionOptions::new()).await
    }

    /// The same, where the server's side has these options but for the engine.
    pub async fn join_with(&self, net: &Network, last: u8, options: RTCConnectionOptions) -> Pair {
        let alice = Peer::new(net, &format!("peer {last}"), last, net.random());
        let mut pair = Pair { alice, bob: self.connection_with(options) };
        pair.connect_within(SOON).await;
        pair
    }
}
