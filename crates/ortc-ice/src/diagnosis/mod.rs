//! What the network of this host lets through, found out by asking STUN and TURN servers.
//!
//! A [`Diagnosis`] tells whether UDP gets out, how the NATs before this host map and filter
//! (RFC 5780, where a server helps; from several servers what can be told without), what each
//! server answers, and whether a TURN server is needed ([`NetworkReport::verdict`]). It is
//! sans-I/O, and driven like an [`IceAgent`](crate::IceAgent):
//!
//! 1. [`Diagnosis::new`] with the host's addresses and the servers.
//! 2. [`poll_output`](Diagnosis::poll_output) until it returns `None`, and carry that out: bind
//!    sockets, open streams, resolve names, send.
//! 3. Tell it what comes of that: [`handle_bound`](Diagnosis::handle_bound),
//!    [`handle_failed`](Diagnosis::handle_failed), [`handle_resolved`](Diagnosis::handle_resolved),
//!    [`handle_datagram`](Diagnosis::handle_datagram); and the time, at
//!    [`poll_timeout`](Diagnosis::poll_timeout), by [`handle_timeout`](Diagnosis::handle_timeout).
//! 4. Once there is no time-out any more, [`report`](Diagnosis::report) is complete.
//!
//! It takes 20 s at the most, and a few where all servers answer. An answer counts only from the
//! address that was to send it, with the identifier of a request that is open; whatever else comes
//! is counted ([`NetworkReport::ignored`]). Allocations are given back. What it sends is bounded:
//! 16 URIs with an address of each family, 8 addresses of this host, four copies of each question.

mod attempt;
mod behaviour;
mod report;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use ortc_io::InterfaceAddress;

use self::attempt::{Attempt, Wanted};
use self::behaviour::{Behaviour, bases};
pub use self::report::{
    AddressScope, BehaviourDiscovery, Filtering, Mapping, NatReport, NetworkReport, SeenAs,
    ServerAttempt, ServerReport, ServerResponse, ServerTransport, UdpStatus, Verdict,
};
use crate::random::Seeds;
use crate::servers::message::Message;
use crate::servers::{Login, MAX_REDIRECTS, MAX_SERVERS, PREPARATION, Taken, unusable};
use crate::{
    IceServerScheme, IceServerTransport, IceServerUri, RTCIceServer, ServerError, ServerFailure,
};

/// Most addresses of this host that are asked from.
const MAX_BASES: usize = 8;

/// Most servers that one address is seen by: two tell the mapping, the others are company.
const MAX_SEEING: usize = 8;

/// What a [`Diagnosis`] wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiagnosisOutput {
    /// Bind a UDP socket; answered by [`Diagnosis::handle_bound`] or
    /// [`handle_failed`](Diagnosis::handle_failed).
    Bind {
        /// Names the socket from now on.
        token: u64,
        /// The address; it may be a wildcard, and the port is 0.
        address: SocketAddr,
        /// The only address that it is for, if there is one: connected to that, a socket hears
        /// when nobody is there.
        remote: Option<SocketAddr>,
    },
    /// Open a stream to a server; answered alike. What comes from it are whole messages.
    OpenStream {
        /// Names the stream from now on.
        token: u64,
        /// The address of the server.
        server: SocketAddr,
        /// Over TLS, with a certificate for this name.
        tls: Option<String>,
    },
    /// Resolve a name; answered by [`Diagnosis::handle_resolved`].
    Resolve {
        /// To be repeated in the answer.
        token: u64,
        /// The name.
        host: String,
    },
    /// Send from a socket or on a stream.
    Transmit {
        /// Which one.
        token: u64,
        /// To this address; on a stream, that of the server.
        to: SocketAddr,
        /// These bytes.
        datagram: Bytes,
    },
    /// Close a socket or a stream; what was sent on it may still leave.
    Close {
        /// Which one.
        token: u64,
    },
}

#[derive(Debug)]
struct Server {
    uri: IceServerUri,
    url: String,
    login: Option<Login>,
    /// The token of the question for its addresses, and until when that waits.
    resolving: Option<(u64, Instant)>,
    addresses: Vec<SocketAddr>,
    failure: Option<ServerFailure>,
}

/// Finds out what the network lets through; see the [module](self).
#[derive(Debug)]
pub struct Diagnosis {
    interfaces: Vec<InterfaceAddress>,
    servers: Vec<Server>,
    attempts: Vec<Attempt>,
    behaviours: Vec<Behaviour>,
    /// Whether the NATs are being looked at: names are to be resolved before.
    has_bases: bool,
    ids: Seeds,
    next_token: u64,
    outputs: VecDeque<DiagnosisOutput>,
    ignored: u64,
}

impl Diagnosis {
    /// Begins with the addresses of this host; at most 16 URIs are asked. Transaction
    /// identifiers come from the seed, which is to be guessed by nobody (RFC 8489 §5).
    ///
    /// # Errors
    /// The first thing that is wrong with a server.
    pub fn new(
        now: Instant,
        interfaces: Vec<InterfaceAddress>,
        servers: &[RTCIceServer],
        seed: u64,
    ) -> Result<Self, ServerError> {
        let mut known = Vec::new();
        for server in servers {
            for (uri, url) in server.uris()?.into_iter().zip(&server.url) {
                let login = uri.username.clone().zip(server.credential.clone());
                let login = login.map(|(username, credential)| Login { username, credential });
                let failure = unusable(&uri);
                let (resolving, addresses, url) = (None, Vec::new(), url.clone());
                known.push(Server { uri, url, login, resolving, addresses, failure });
            }
        }
        known.truncate(MAX_SERVERS);
        let mut diagnosis = Self {
            interfaces,
            servers: known,
            attempts: Vec::new(),
            behaviours: Vec::new(),
            has_bases: false,
            ids: Seeds::new(seed),
            next_token: 0,
            outputs: VecDeque::new(),
            ignored: 0,
        };
        for index in 0..diagnosis.servers.len() {
            diagnosis.locate(now, index);
        }
        diagnosis.look_at_nats();
        Ok(diagnosis)
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn locate(&mut self, now: Instant, index: usize) {
        let server = &self.servers[index];
        if server.failure.is_some() {
            return;
        }
        let host = server.uri.host.clone();
        match host.parse::<IpAddr>() {
            Ok(ip) => self.located(now, index, &[ip.to_canonical()]),
            Err(_) => {
                let token = self.token();
                self.servers[index].resolving = Some((token, now + PREPARATION));
                self.outputs.push_back(DiagnosisOutput::Resolve { token, host });
            }
        }
    }

    /// Asks one address of each family that this host has, or the only one.
    fn located(&mut self, now: Instant, index: usize, ips: &[IpAddr]) {
        let has_family = |ipv4| {
            self.interfaces
                .iter()
                .any(|it| it.address.is_ipv4() == ipv4 && report::is_usable(it.address))
        };
        let first = |ipv4| ips.iter().find(|ip| ip.is_ipv4() == ipv4).copied();
        let mut chosen: Vec<IpAddr> = [true, false]
            .into_iter()
            .filter_map(|ipv4| first(ipv4).filter(|ip| has_family(ipv4) || ip.is_loopback()))
            .collect();
        if chosen.is_empty() {
            chosen.extend(ips.first());
        }
        for ip in chosen {
            let address = SocketAddr::new(ip, self.servers[index].uri.port);
            self.servers[index].addresses.push(address);
            self.attempt(now, index, address, 0);
        }
    }

    fn attempt(&mut self, now: Instant, index: usize, address: SocketAddr, redirects: u8) {
        let token = self.token();
        let Server { uri, login, .. } = &self.servers[index];
        let transport = match uri.transport {
            IceServerTransport::Udp => ServerTransport::Udp,
            IceServerTransport::Tcp if uri.is_over_tls() => ServerTransport::Tls,
            IceServerTransport::Tcp => ServerTransport::Tcp,
        };
        // A URI of a STUN server may stand beside those of a TURN server, with its credential.
        let relays = matches!(uri.scheme, IceServerScheme::Turn | IceServerScheme::Turns);
        let login = login.clone().filter(|_| relays);
        self.outputs.push_back(match transport {
            // The system chooses the interface, as it does for streams.
            ServerTransport::Udp => {
                let remote = Some(address);
                DiagnosisOutput::Bind { token, address: wildcard(address), remote }
            }
            _ => {
                let tls = (transport == ServerTransport::Tls).then(|| uri.host.clone());
                DiagnosisOutput::OpenStream { token, server: address, tls }
            }
        });
        let mut attempt = Attempt::new(now, index, address, transport, login, token);
        attempt.redirects = redirects;
        self.attempts.push(attempt);
    }

    /// Begins with the NATs once all servers' addresses are known.
    fn look_at_nats(&mut self) {
        if self.has_bases || self.servers.iter().any(|server| server.resolving.is_some()) {
            return;
        }
        self.has_bases = true;
        let mut asked: Vec<SocketAddr> = Vec::new();
        for server in &self.servers {
            if server.uri.transport == IceServerTransport::Udp && server.failure.is_none() {
                asked.extend(&server.addresses);
            }
        }
        for (interface, address) in bases(&self.interfaces, &asked, MAX_BASES) {
            let mut of_family: Vec<SocketAddr> = Vec::new();
            for server in &asked {
                let ip = address.ip();
                let is_reachable = server.is_ipv4() == ip.is_ipv4()
                    && (!ip.is_loopback() || server.ip().is_loopback());
                if is_reachable && !of_family.contains(server) && of_family.len() < MAX_SEEING {
                    of_family.push(*server);
                }
            }
            let tokens = [self.token(), self.token()];
            for token in tokens {
                self.outputs.push_back(DiagnosisOutput::Bind { token, address, remote: None });
            }
            self.behaviours.push(Behaviour::new(interface, tokens, of_family));
        }
    }

    /// A socket is bound, or a stream is open.
    pub fn handle_bound(&mut self, now: Instant, token: u64, local: SocketAddr) {
        if let Some(at) = self.attempts.iter().position(|it| it.token == token) {
            let wanted = self.attempts[at].opened(now, &mut self.ids);
            self.carry_out(now, at, wanted);
        } else if let Some(at) = self.behaviours.iter().position(|it| it.tokens.contains(&token)) {
            self.behaviours[at].bound(now, token, local, &mut self.ids);
            self.run_behaviour(now, at);
        }
    }

    /// A socket could not be bound or a stream not be opened, or it has broken; why, in words.
    pub fn handle_failed(&mut self, _now: Instant, token: u64, reason: String) {
        if let Some(attempt) = self.attempts.iter_mut().find(|it| it.token == token) {
            attempt.closed(reason);
        } else if let Some(it) = self.behaviours.iter_mut().find(|it| it.tokens.contains(&token)) {
            tracing::debug!(reason, "an address cannot be asked from");
            it.failed();
        }
    }

    /// Nothing can be sent to an address from a socket; why, in words.
    pub fn handle_send_failed(&mut self, now: Instant, token: u64, to: SocketAddr, reason: String) {
        if let Some(at) = self.behaviours.iter().position(|it| it.tokens.contains(&token)) {
            self.behaviours[at].send_failed(to);
            self.run_behaviour(now, at);
        } else {
            self.handle_failed(now, token, reason);
        }
    }

    /// The addresses of a name, or why there are none.
    pub fn handle_resolved(
        &mut self,
        now: Instant,
        token: u64,
        result: Result<Vec<IpAddr>, String>,
    ) {
        let is_it = |server: &Server| server.resolving.is_some_and(|(asked, _)| asked == token);
        let Some(index) = self.servers.iter().position(is_it) else { return };
        self.servers[index].resolving = None;
        match result {
            Ok(ips) if !ips.is_empty() => self.located(now, index, &ips),
            Ok(_) => self.unresolved(index, "it has no address".into()),
            Err(reason) => self.unresolved(index, reason),
        }
        self.look_at_nats();
    }

    fn unresolved(&mut self, index: usize, reason: String) {
        self.servers[index].resolving = None;
        self.servers[index].failure = Some(ServerFailure::Unresolved(reason));
    }

    /// Something has come in on a socket, or a message on a stream.
    pub fn handle_datagram(&mut self, now: Instant, token: u64, from: SocketAddr, datagram: &[u8]) {
        let taken = match Message::parse(datagram) {
            Some(message) => self.handle_message(now, token, from, message),
            None => Taken::Malformed,
        };
        self.ignored += u64::from(taken != Taken::Yes);
    }

    fn handle_message(
        &mut self,
        now: Instant,
        token: u64,
        from: SocketAddr,
        message: Message<'_>,
    ) -> Taken {
        if let Some(at) = self.attempts.iter().position(|it| it.token == token) {
            if self.attempts[at].address != from {
                return Taken::Unasked;
            }
            let (taken, wanted) = self.attempts[at].handle(now, message, &mut self.ids);
            self.carry_out(now, at, wanted);
            taken
        } else if let Some(at) = self.behaviours.iter().position(|it| it.tokens.contains(&token)) {
            let taken = self.behaviours[at].handle(now, token, from, message);
            self.run_behaviour(now, at);
            taken
        } else {
            Taken::Unasked
        }
    }

    /// Lets time pass; to be called at the time of [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        for index in 0..self.servers.len() {
            let resolving = &mut self.servers[index].resolving;
            if resolving.take_if(|(_, until)| *until <= now).is_some() {
                self.unresolved(index, "it takes too long".into());
            }
        }
        self.look_at_nats();
        for at in 0..self.attempts.len() {
            if self.attempts[at].poll_timeout().is_some_and(|at| at <= now) {
                let wanted = self.attempts[at].handle_timeout(now, &mut self.ids);
                self.carry_out(now, at, wanted);
            }
        }
        for at in 0..self.behaviours.len() {
            self.run_behaviour(now, at);
        }
    }

    fn carry_out(&mut self, now: Instant, at: usize, wanted: Vec<Wanted>) {
        let Attempt { server, address: to, token, redirects, .. } = self.attempts[at];
        for wanted in wanted {
            match wanted {
                Wanted::Transmit(datagram) => {
                    self.outputs.push_back(DiagnosisOutput::Transmit { token, to, datagram });
                }
                Wanted::Redirect(other) => {
                    let known =
                        self.attempts.iter().any(|it| it.server == server && it.address == other);
                    if !known && redirects < MAX_REDIRECTS {
                        self.attempts[at].is_followed();
                        self.attempt(now, server, other, redirects + 1);
                    }
                }
            }
        }
        if self.attempts[at].is_done() {
            self.outputs.push_back(DiagnosisOutput::Close { token });
        }
    }

    fn run_behaviour(&mut self, now: Instant, at: usize) {
        let behaviour = &mut self.behaviours[at];
        if behaviour.is_done() {
            return;
        }
        let tokens = behaviour.tokens;
        for (second, to, datagram) in behaviour.handle_timeout(now, &mut self.ids) {
            let token = tokens[usize::from(second)];
            self.outputs.push_back(DiagnosisOutput::Transmit { token, to, datagram });
        }
        if self.behaviours[at].is_done() {
            for token in tokens {
                self.outputs.push_back(DiagnosisOutput::Close { token });
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<DiagnosisOutput> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, and why; `None` when
    /// all is found out, or waits for a socket.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let resolving = self.servers.iter().filter_map(|server| Some(server.resolving?.1));
        let attempts = self.attempts.iter().filter_map(Attempt::poll_timeout);
        let behaviours = self.behaviours.iter().filter(|it| !it.is_done());
        let behaviours = behaviours.filter_map(Behaviour::poll_timeout);
        let own = [
            (resolving.min(), "a name takes long"),
            (attempts.min(), "a server is to be asked"),
            (behaviours.min(), "a NAT is to be tried"),
        ];
        own.into_iter().filter_map(|(at, why)| Some((at?, why))).min()
    }

    /// Whether all is found out.
    pub fn is_done(&self) -> bool {
        self.has_bases
            && self.attempts.iter().all(Attempt::is_done)
            && self.behaviours.iter().all(Behaviour::is_done)
    }

    /// What is known by now.
    pub fn report(&self) -> NetworkReport {
        let servers: Vec<_> = (0..self.servers.len()).map(|index| self.server(index)).collect();
        let nats: Vec<_> = self.behaviours.iter().filter_map(Behaviour::report).collect();
        let udp = status(&servers, &nats);
        let (interfaces, ignored) = (self.interfaces.clone(), self.ignored);
        NetworkReport { interfaces, udp, nats, servers, ignored }
    }

    fn server(&self, index: usize) -> ServerReport {
        let Server { url, failure, .. } = &self.servers[index];
        let attempts = self.attempts.iter().filter(|attempt| attempt.server == index);
        ServerReport {
            url: url.clone(),
            failure: failure.clone(),
            attempts: attempts.filter_map(Attempt::report).collect(),
        }
    }
}

fn wildcard(family: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match family {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

fn status(servers: &[ServerReport], nats: &[NatReport]) -> UdpStatus {
    let attempts = || servers.iter().flat_map(|server| &server.attempts);
    // A refusal is an answer, too.
    let answered = |attempt: &&ServerAttempt| {
        let silent = |why| matches!(why, &ServerFailure::TimedOut | ServerFailure::Stream(_));
        !attempt.result.as_ref().is_err_and(silent)
    };
    let is_udp = |attempt: &&ServerAttempt| attempt.transport == ServerTransport::Udp;
    if nats.iter().any(|nat| !nat.seen.is_empty())
        || attempts().filter(is_udp).any(|it| answered(&it))
    {
        UdpStatus::Works
    } else if attempts().any(|it| is_udp(&it)) && attempts().any(|it| answered(&it)) {
        UdpStatus::Blocked
    } else {
        UdpStatus::Unknown
    }
}
