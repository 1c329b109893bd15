//! Two endpoints joined by a seeded lossy link, under virtual time.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_dtls::{
    Certificate, DtlsConfig, DtlsEndpoint, DtlsFailure, DtlsOutput, DtlsRole, DtlsVersion,
};
use ortc_io::SrtpKeys;

/// One way through the link.
const DELAY: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// One endpoint and what its owner has been told.
pub struct Peer {
    pub endpoint: DtlsEndpoint,
    pub certificate: Certificate,
    pub keys: Option<SrtpKeys>,
    pub peer_certificate: Option<Bytes>,
    pub received: Vec<Bytes>,
    pub stopped: Option<Result<(), DtlsFailure>>,
}

/// A datagram on the wire: when it was sent, by whom, its bytes.
pub type Sent = (Duration, Side, Bytes);

/// Decides what becomes of the n-th datagram of a side: the datagrams that arrive instead.
type Tamper = Box<dyn FnMut(Side, usize, Bytes) -> Vec<Bytes>>;

pub struct Pair {
    pub client: Peer,
    pub server: Peer,
    pub now: Instant,
    started: Instant,
    /// By time of arrival and order of sending.
    in_flight: BTreeMap<(Instant, usize), (Side, Bytes)>,
    pub sent: Vec<Sent>,
    loss: f64,
    random: fastrand::Rng,
    pub tamper: Tamper,
}

impl Peer {
    pub fn new(config: DtlsConfig, certificate: Certificate, now: Instant) -> Self {
        Self {
            endpoint: DtlsEndpoint::new(config, certificate.clone(), now),
            certificate,
            keys: None,
            peer_certificate: None,
            received: Vec::new(),
            stopped: None,
        }
    }
}

impl Pair {
    pub fn new(version: DtlsVersion) -> Self {
        Self::with_configs(config(version), config(version))
    }

    pub fn with_configs(client: DtlsConfig, server: DtlsConfig) -> Self {
        let certificates = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        Self::with_certificates(client, server, certificates)
    }

    pub fn with_certificates(
        client: DtlsConfig,
        server: DtlsConfig,
        certificates: (Certificate, Certificate),
    ) -> Self {
        let now = Instant::now();
        Self {
            client: Peer::new(client, certificates.0, now),
            server: Peer::new(server, certificates.1, now),
            now,
            started: now,
            in_flight: BTreeMap::new(),
            sent: Vec::new(),
            loss: 0.0,
            random: fastrand::Rng::with_seed(0),
            tamper: Box::new(|_, _, datagram| vec![datagram]),
        }
    }

    /// Loses this share of the datagrams, both ways.
    pub fn lossy(mut self, loss: f64, seed: u64) -> Self {
        self.loss = loss;
        self.random = fastrand::Rng::with_seed(seed);
        self
    }

    /// Starts both sides, each expecting the other's certificate.
    pub fn start(&mut self) {
        let (client, server) = (self.client.certificate.sha256(), self.server.certificate.sha256());
        self.start_server(Some(client));
        self.start_client(Some(server));
    }

    pub fn start_client(&mut self, expected: Option<[u8; 32]>) {
        self.client.endpoint.start(DtlsRole::Client, expected, self.now).unwrap();
    }

    pub fn start_server(&mut self, expected: Option<[u8; 32]>) {
        self.server.endpoint.start(DtlsRole::Server, expected, self.now).unwrap();
    }

    /// Starts both and drives until both are connected or one has stopped.
    pub fn connect(&mut self) {
        self.start();
        self.drive_until(Duration::from_secs(60), |pair| {
            pair.connected() || pair.client.stopped.is_some() || pair.server.stopped.is_some()
        });
    }

    pub fn connected(&self) -> bool {
        self.client.keys.is_some() && self.server.keys.is_some()
    }

    /// Both sides have the same keys, crosswise, and each other's certificate.
    pub fn assert_connected(&self) {
        let of = |peer: &Peer| peer.keys.clone().unwrap_or_else(|| panic!("{:?}", peer.stopped));
        let (client, server) = (of(&self.client), of(&self.server));
        assert_eq!(client.profile, server.profile);
        assert_eq!(client.local_key, server.remote_key);
        assert_eq!(client.local_salt, server.remote_salt);
        assert_eq!(client.remote_key, server.local_key);
        assert_eq!(client.remote_salt, server.local_salt);
        assert_ne!(client.local_key, client.remote_key);
        assert_eq!(self.client.peer_certificate.as_deref(), Some(self.server.certificate.der()));
        assert_eq!(self.server.peer_certificate.as_deref(), Some(self.client.certificate.der()));
    }

    /// Lets this much time pass.
    pub fn advance(&mut self, time: Duration) {
        self.drive_until(time, |_| false);
    }

    /// Lets time pass from event to event until `done`, at most `limit`.
    pub fn drive_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        loop {
            self.take_outputs(Side::Client);
            self.take_outputs(Side::Server);
            if done(self) {
                return;
            }
            let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
            let timers = [&self.client, &self.server]
                .into_iter()
                .filter_map(|peer| peer.endpoint.poll_timeout().map(|(at, _)| at));
            let next = arrival.into_iter().chain(timers).min().filter(|at| *at <= end);
            let Some(next) = next else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.deliver();
            for side in [Side::Client, Side::Server] {
                let now = self.now;
                let endpoint = &mut self.peer(side).endpoint;
                if endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
                    endpoint.handle_timeout(now);
                }
            }
        }
    }

    pub fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= now) {
            let (from, datagram) = entry.remove();
            let to = match from {
                Side::Client => Side::Server,
                Side::Server => Side::Client,
            };
            self.peer(to).endpoint.handle_datagram(now, &datagram);
            self.take_outputs(to);
        }
    }

    fn take_outputs(&mut self, side: Side) {
        while let Some(output) = self.peer(side).endpoint.poll_output() {
            let peer = self.peer(side);
            assert_eq!(peer.stopped, None, "nothing comes after Stopped");
            match output {
                DtlsOutput::Transmit(datagram) => self.send(side, datagram),
                DtlsOutput::Connected { keys, certificate, .. } => {
                    assert!(peer.keys.is_none(), "connected twice");
                    peer.keys = Some(keys);
                    peer.peer_certificate = Some(certificate);
                }
                DtlsOutput::ApplicationData(data) => peer.received.push(data),
                DtlsOutput::Stopped(result) => peer.stopped = Some(result),
            }
        }
    }

    fn send(&mut self, side: Side, datagram: Bytes) {
        let nth = self.sent.iter().filter(|(_, from, _)| *from == side).count();
        self.sent.push((self.now - self.started, side, datagram.clone()));
        for datagram in (self.tamper)(side, nth, datagram) {
            if self.random.f64() >= self.loss {
                let key = (self.now + DELAY, self.in_flight.len() + self.sent.len() * 1_000);
                self.in_flight.insert(key, (side, datagram));
            }
        }
    }
}

pub fn config(version: DtlsVersion) -> DtlsConfig {
    let mut config = DtlsConfig::default();
    config.version = version;
    config
}

pub const VERSIONS: [DtlsVersion; 2] = [DtlsVersion::V12, DtlsVersion::Auto];
