//! The load's side of connections to stacks that take no keys, but shake hands: ICE by
//! `ortc-ice`, and DTLS by `webrtc-dtls`, since that lets a client offer one SRTP profile only.
//!
//! Nothing of it is measured, but that both sides go on checking each other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ortc_dtls::CertificateFingerprint;
use ortc_ice::{
    IceAgent, IceCommand, IceConfig, IceEvent, InterfaceFilter, Output, RTCIceCandidateDescription,
    RTCIceConnectionInfo,
};
use ortc_io::{
    DatagramIo, DatagramKind, Path, ReceiveBatch, SendBatch, SocketEvent, SocketId, SrtpKeys,
    SrtpProfile, UdpIo, classify,
};
use serde_json::{Value, from_value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::crypto::Certificate;

use super::handshake::{Wire, shake_hands};
use super::plan::{PUBLISHED, Plan};
use crate::contestant::{Contestant, Lines};
use crate::error::{Failure, Result};
use crate::lan;

/// How long everybody may take to connect; 200 take some 2 s.
const LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at the sockets while connections are made.
const LOOK: Duration = Duration::from_millis(1);

/// Sockets of one thread of the load, and by slot the connections on them, if any are needed.
pub(crate) struct Side {
    pub(crate) io: UdpIo,
    clients: Vec<Client>,
    outgoing: SendBatch,
    incoming: ReceiveBatch,
    tended: Instant,
}

struct Client {
    agent: IceAgent,
    socket: SocketId,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    /// Where the datagrams of its handshake go.
    to_dtls: Option<mpsc::UnboundedSender<Vec<u8>>>,
}

/// What came of connecting: by connection, the publisher's first.
pub(crate) struct Met {
    pub(crate) keys: Vec<SrtpKeys>,
    pub(crate) remotes: Vec<SocketAddr>,
    /// The SSRC that is received or sent.
    pub(crate) ssrcs: Vec<u32>,
    /// They say goodbye when they are dropped.
    _associations: Vec<DTLSConn>,
}

impl Side {
    pub(crate) fn new(io: UdpIo) -> Self {
        Self {
            io,
            clients: Vec::new(),
            outgoing: SendBatch::new(),
            incoming: ReceiveBatch::new(),
            tended: Instant::now(),
        }
    }

    /// Adds a connection on the next socket; what it signals of itself.
    fn add(&mut self, socket: SocketId, local: SocketAddr, fingerprint: &str) -> Result<Value> {
        let now = Instant::now();
        let mut info = RTCIceConnectionInfo::generate();
        info.fingerprint = Some(fingerprint.to_owned());
        let filter = InterfaceFilter {
            loopback: true,
            ipv6: false,
            only: lan::names(1),
            ..Default::default()
        };
        let tie_breaker = u64::from(local.port());
        let config = IceConfig::new(info.clone(), tie_breaker).with_interfaces(filter);
        let mut agent = IceAgent::new(config);
        agent.handle_command(now, IceCommand::Gather);
        let mut candidates = Vec::new();
        while let Some(output) = agent.poll_output() {
            match output {
                Output::Enumerate => {
                    let event = SocketEvent::Interfaces(self.io.interfaces()?);
                    agent.handle_socket_event(now, event);
                }
                Output::Bind { token, .. } => {
                    let event = SocketEvent::Bound { token, socket, local };
                    agent.handle_socket_event(now, event);
                }
                Output::Event(IceEvent::CandidateFound(candidate)) => {
                    candidates.push(candidate.clone());
                    agent.handle_command(now, IceCommand::SetLocalCandidate(candidate));
                }
                _ => {}
            }
        }
        if candidates.len() != 1 {
            return Err(Failure::new(format!("one candidate is expected: {candidates:?}")));
        }
        self.clients.push(Client { agent, socket, local, remote: None, to_dtls: None });
        Ok(json!({ "ice": info, "candidates": candidates }))
    }

    /// Takes whatever has come, while nobody else does, and does what is due.
    pub(crate) fn poll(&mut self, now: Instant) -> Result<()> {
        if self.clients.is_empty() {
            return Ok(());
        }
        self.io.wait(Some(now))?;
        let mut failed = Vec::new();
        let mut incoming = std::mem::take(&mut self.incoming);
        loop {
            incoming.clear();
            let more = self.io.receive(&mut incoming, &mut failed);
            for at in 0..incoming.len() {
                let (datagram, bytes) = incoming.get_mut(at);
                self.take(now, datagram.socket, datagram.remote, bytes);
            }
            if !more {
                break;
            }
        }
        self.incoming = incoming;
        self.tend(now);
        Ok(())
    }

    /// Takes one datagram that is not media.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        socket: SocketId,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        let Some(client) = self.clients.get_mut(socket.slot as usize) else { return };
        match classify(bytes) {
            DatagramKind::Stun => {
                client.agent.handle_datagram(now, Path::plain(socket, remote), bytes);
                self.flush(socket.slot as usize);
            }
            DatagramKind::Dtls => {
                if let Some(to_dtls) = &client.to_dtls {
                    // Once connected, nobody listens to what is repeated.
                    let _ = to_dtls.send(bytes.to_vec());
                }
            }
            _ => {}
        }
    }

    /// Does what is due, not more often than that matters.
    pub(crate) fn tend(&mut self, now: Instant) {
        if now < self.tended + LOOK {
            return;
        }
        self.tended = now;
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.agent.poll_timeout().is_some_and(|(due, _)| due <= now) {
                client.agent.handle_timeout(now);
                self.flush(at);
            }
        }
    }

    fn flush(&mut self, at: usize) {
        let client = &mut self.clients[at];
        while let Some(output) = client.agent.poll_output() {
            if let Output::Transmit { path, datagram } = output {
                self.outgoing.push(path.socket, path.remote, &datagram);
            }
        }
        if let Some(path) = client.agent.selected_path() {
            client.remote = Some(path.remote);
        }
        self.io.send(&mut self.outgoing);
    }

    fn connect(&mut self, at: usize, answer: &Value) -> Result<()> {
        let now = Instant::now();
        let client = &mut self.clients[at];
        let remote = from_value::<RTCIceConnectionInfo>(answer["ice"].clone())?;
        let candidates =
            from_value::<Vec<RTCIceCandidateDescription>>(answer["candidates"].clone())?;
        for candidate in candidates {
            client.agent.handle_command(now, IceCommand::SetRemoteCandidate(candidate));
        }
        client.agent.handle_command(now, IceCommand::Connect { remote, controlling: true });
        self.flush(at);
        Ok(())
    }

    fn send(&mut self, at: usize, datagram: &[u8]) {
        let client = &self.clients[at];
        if let Some(remote) = client.remote {
            self.outgoing.push(client.socket, remote, datagram);
            self.io.send(&mut self.outgoing);
        }
    }
}

/// Where a connection is: the publisher's is alone on its side.
fn place(connection: usize) -> (usize, usize) {
    if connection == 0 { (0, 0) } else { (1, connection - 1) }
}

/// Connects everybody: the publisher on the first side, the subscribers on the other.
pub(crate) async fn meet(
    mut sides: [&mut Side; 2],
    sockets: &[(SocketId, SocketAddr)],
    profile: SrtpProfile,
    contestant: &Contestant,
    lines: &mut Lines,
) -> Result<Met> {
    let certificate = Certificate::generate_self_signed(vec!["load.invalid".to_owned()])?;
    let der = certificate.certificate.first().ok_or_else(|| Failure::new("no certificate"))?;
    let sha256 = CertificateFingerprint::of_certificate(der).sha256();
    let sha256 = sha256.ok_or_else(|| Failure::new("no fingerprint"))?;
    let fingerprint = CertificateFingerprint::from_sha256(sha256).to_string();
    for (connection, (socket, local)) in sockets.iter().enumerate() {
        let publishes = connection == 0;
        let ssrc = if publishes { PUBLISHED } else { Plan::sent(connection - 1) };
        let mut offer = sides[place(connection).0].add(*socket, *local, &fingerprint)?;
        offer["id"] = connection.into();
        offer["publishes"] = publishes.into();
        offer["track"] = json!({ "ssrc": ssrc.0.to_string() });
        contestant.send(&offer).await?;
    }
    let (outgoing, mut to_send) = mpsc::unbounded_channel();
    let mut handshakes = JoinSet::new();
    let mut answers: HashMap<usize, Value> = HashMap::new();
    let mut done: HashMap<usize, (DTLSConn, SrtpKeys)> = HashMap::new();
    let deadline = Instant::now() + LIMIT;
    while done.len() < sockets.len() {
        if Instant::now() > deadline {
            let (answers, done) = (answers.len(), done.len());
            let message = format!("of {}, {answers} answered, {done} connected", sockets.len());
            return Err(Failure::new(message));
        }
        tokio::select! {
            line = lines.next() => {
                let message = line?;
                let id = message["id"].as_u64().unwrap_or(u64::MAX) as usize;
                if message["ice"].is_object() && id < sockets.len() {
                    let (side, at) = place(id);
                    sides[side].connect(at, &message)?;
                    answers.insert(id, message);
                }
            }
            Some((connection, datagram)) = to_send.recv() => {
                let (side, at) = place(connection);
                let datagram: Vec<u8> = datagram;
                sides[side].send(at, &datagram);
            }
            Some(outcome) = handshakes.join_next(), if !handshakes.is_empty() => {
                let (connection, outcome): (usize, Result<_>) = outcome?;
                done.insert(connection, outcome?);
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = Instant::now();
        for side in &mut sides {
            side.poll(now)?;
        }
        for connection in 0..sockets.len() {
            let (side, at) = place(connection);
            let client = &mut sides[side].clients[at];
            if client.remote.is_none() || client.to_dtls.is_some() {
                continue;
            }
            let (to_dtls, arrivals) = mpsc::unbounded_channel();
            client.to_dtls = Some(to_dtls);
            let wire = Arc::new(Wire::new(connection, client.local, outgoing.clone(), arrivals));
            let certificate = certificate.clone();
            let handshake = shake_hands(wire, certificate, profile);
            handshakes.spawn(async move { (connection, handshake.await) });
        }
    }
    let mut met =
        Met { keys: Vec::new(), remotes: Vec::new(), ssrcs: Vec::new(), _associations: Vec::new() };
    for connection in 0..sockets.len() {
        let (side, at) = place(connection);
        let lost = || Failure::new("a connection has no path");
        let (association, keys) = done.remove(&connection).ok_or_else(lost)?;
        met._associations.push(association);
        met.keys.push(keys);
        met.remotes.push(sides[side].clients[at].remote.ok_or_else(lost)?);
        // The publisher's is known; a subscriber is told what it will be sent.
        let ssrc = answers.get(&connection).and_then(|answer| answer["ssrc"].as_u64());
        let ssrc = ssrc.or_else(|| (connection == 0).then_some(PUBLISHED.0.into()));
        met.ssrcs.push(ssrc.ok_or_else(|| Failure::new("no SSRC"))? as u32);
    }
    Ok(met)
}
