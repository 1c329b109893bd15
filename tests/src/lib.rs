//! Two peers on a simulated network: the vocabulary of the tests of the whole composition.
//!
//! Everything that runs here is what runs in production, actors, message order and forwarder
//! included; only the network, the clock and the randomness are the seed's.

#![forbid(unsafe_code)]

pub mod attack;
pub mod av_sync;
pub mod calls;
mod files;
mod keys;
mod lossy;
mod model;
mod relay;
mod server;
pub mod soak;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ortc_api::{
    Engine, FrameSender, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCConnection,
    RTCConnectionOptions, RTCEvent, RTCEvents, RTCIceCandidateDescription, RTCIceConnectionInfo,
    Transports,
};
use ortc_io::sim::{Host, Network};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use files::Dir;
pub use keys::{handler_in, keys, next_handler};
pub use lossy::{lossy, picture};
pub use model::{each_seed, shrink};
pub use relay::Relay;
pub use server::Server;

/// One peer: a host of the network with an engine and a connection of its own.
#[derive(Debug)]
pub struct Peer {
    /// The host.
    pub host: Host,
    /// The connection.
    pub conn: RTCConnection,
    /// All of its events.
    pub events: RTCEvents,
    /// Events that [`Peer::until`] has passed over.
    pub seen: Vec<RTCEvent>,
}

impl Peer {
    /// A peer on a host of its own at 10.0.0.`last`.
    pub fn new(net: &Network, name: &str, last: u8, seed: u64) -> Self {
        let host = net.host(name, &[[10, 0, 0, last].into()]);
        Self::on(host, seed)
    }

    /// A peer on this host.
    pub fn on(host: Host, seed: u64) -> Self {
        Self::with_transports(host, seed, Transports::new())
    }

    /// A peer on this host, with transport actors of its own.
    pub fn with_transports(host: Host, seed: u64, transports: Transports) -> Self {
        Self::with_options(host, seed, RTCConnectionOptions::new().with_transports(transports))
    }

    /// A peer on this host, with these options but an engine of its own.
    pub fn with_options(host: Host, seed: u64, options: RTCConnectionOptions) -> Self {
        let engine = Engine::simulated(host.io(), seed);
        let conn = RTCConnection::new(options.with_engine(engine)).expect("the engine runs");
        let events = conn.events();
        Self { host, conn, events, seen: Vec::new() }
    }

    /// Waits for the first event that `matches`; what comes before it is kept in `seen`.
    ///
    /// # Panics
    /// When it does not come within `limit` of virtual time.
    pub async fn until(
        &mut self,
        limit: Duration,
        matches: impl Fn(&RTCEvent) -> bool,
    ) -> RTCEvent {
        let found = tokio::time::timeout(limit, async {
            loop {
                let event = self.events.recv().await?;
                if matches(&event) {
                    return Some(event);
                }
                self.seen.push(event);
            }
        })
        .await;
        match found {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the connection closed; before that: {:?}", self.seen),
            Err(_) => panic!("not within {limit:?}; seen: {:?}", self.seen),
        }
    }

    /// Waits until every candidate of the first gathering is known.
    pub async fn gathered(&mut self) -> Vec<RTCIceCandidateDescription> {
        self.until(Duration::from_secs(5), |event| *event == RTCEvent::EndOfCandidates).await;
        self.seen
            .iter()
            .filter_map(|event| match event {
                RTCEvent::Candidate(candidate) => Some(candidate.clone()),
                _ => None,
            })
            .collect()
    }

    /// Starts sending a stream with one Opus track; what is to be fed is returned.
    pub fn send_audio(&self) -> (MediaStream, FrameSender) {
        let (track, frames) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        stream.add_track(&track);
        self.conn.add_stream(&stream, true).expect("a fresh stream is added");
        (stream, frames)
    }

    /// The address of the first candidate.
    pub fn address(candidate: &RTCIceCandidateDescription) -> SocketAddr {
        let address = candidate.connection_address.parse().expect("an IP address");
        SocketAddr::new(address, candidate.connection_port)
    }
}

/// Passes a value through the JSON that a signalling channel would carry.
pub fn signalled<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("signalled types have a JSON form");
    serde_json::from_str(&text).expect("and are read from it")
}

/// Two peers with a signalling channel between them.
#[derive(Debug)]
pub struct Pair {
    /// One side.
    pub alice: Peer,
    /// The other.
    pub bob: Peer,
}

impl Pair {
    /// Two peers at 10.0.0.1 and 10.0.0.2.
    pub fn new(net: &Network) -> Self {
        Self {
            alice: Peer::new(net, "alice", 1, net.random()),
            bob: Peer::new(net, "bob", 2, net.random()),
        }
    }

    /// Exchanges credentials and every candidate, and calls `connect` on both sides.
    pub async fn signal(&mut self) {
        let bob = self.bob.conn.local().ice;
        self.signal_bob_as(&bob).await;
    }

    /// The same, but Alice is told these credentials of Bob, whatever his are.
    pub async fn signal_bob_as(&mut self, bob: &RTCIceConnectionInfo) {
        let alice = self.alice.conn.local().ice;
        self.alice.conn.set_remote_ice(signalled(bob)).expect("valid credentials");
        self.bob.conn.set_remote_ice(signalled(&alice)).expect("valid credentials");
        self.alice.conn.connect().expect("the remote side is set");
        self.bob.conn.connect().expect("the remote side is set");
        let ours = self.alice.gathered().await;
        let theirs = self.bob.gathered().await;
        for candidate in &ours {
            self.alice.conn.set_local_candidate(candidate).expect("it was found");
            self.bob.conn.set_remote_candidate(&signalled(candidate)).expect("it is valid");
        }
        for candidate in &theirs {
            self.bob.conn.set_local_candidate(candidate).expect("it was found");
            self.alice.conn.set_remote_candidate(&signalled(candidate)).expect("it is valid");
        }
    }

    /// Signals and waits until both sides are connected.
    ///
    /// # Panics
    /// When that takes more than `limit` of virtual time.
    pub async fn connect_within(&mut self, limit: Duration) {
        self.signal().await;
        self.alice.until(limit, |event| *event == RTCEvent::Connected).await;
        self.bob.until(limit, |event| *event == RTCEvent::Connected).await;
    }

    /// Describes every sending track of each side to the other.
    pub fn describe(&self) {
        for (from, to) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            for track in from.conn.tracks(None) {
                to.conn.receive_track(&signalled(&track.description())).expect("a valid track");
            }
        }
    }
}

/// Has two connections signal each other all that they find, as they find it, and connect.
///
/// # Errors
/// What either refuses, in words.
pub fn trickle(one: &RTCConnection, two: &RTCConnection) -> Result<(), String> {
    for (own, other) in [(one, two), (two, one)] {
        let peer = other.downgrade();
        own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            // Either may have been closed by now.
            let _ = conn.set_local_candidate(&candidate);
            if let Some(peer) = peer.upgrade() {
                let _ = peer.set_remote_candidate(&candidate);
            }
        }));
        let peer = other.downgrade();
        own.on_candidate_withdrawn(Some(move |_: &RTCConnection, candidate| {
            if let Some(peer) = peer.upgrade() {
                let _ = peer.remove_remote_candidate(&candidate);
            }
        }));
        own.set_remote_ice(other.local().ice).map_err(|error| error.to_string())?;
        own.connect().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The `n`th frame of 20 ms of a made-up Opus stream.
pub fn frame(n: u64) -> MediaFrame {
    // TOC 0x78: CELT-only wideband, 20 ms, one frame (RFC 6716 §3.1).
    let mut data = vec![0x78];
    data.extend_from_slice(&n.to_be_bytes());
    MediaFrame { data: Bytes::from(data), timestamp: n * 960 }
}

/// Lets virtual time pass. Everything that is due in it happens; the test does not wait.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The README, so that its example is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
