//! STUN and TURN servers: who is asked, from which socket, and what comes of it.
//!
//! Sans-I/O like the rest: names are resolved and streams are opened by whoever drives the
//! agent. There is one client for each server and socket ([`StunClient`], [`TurnClient`]);
//! [`Servers`] starts them, tells their datagrams apart and adds up who has failed.

mod agent;
mod channels;
mod client;
mod failure;
pub(crate) mod message;
mod retry;
mod stun;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;
mod turn;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use md5::{Digest, Md5};
use ortc_io::{Encapsulation, Path, SocketId};

use self::client::{Client, Core, Link};
pub use self::failure::ServerFailure;
pub(crate) use self::failure::{Login, unusable};
use self::message::{Class, Message, attribute, method};
use self::retry::Held;
pub(crate) use self::stun::StunClient;
pub(crate) use self::transaction::{BRIEF_WAITS, Step, Transaction};
pub(crate) use self::turn::TurnClient;
use crate::random::Seeds;
use crate::{IceServerScheme, IceServerTransport, IceServerUri, RTCIceServer};

/// Most servers that are asked: URIs, each with its addresses.
pub(crate) const MAX_SERVERS: usize = 16;

/// Most clients: servers times sockets.
const MAX_CLIENTS: usize = 64;

/// Time between the first requests of two clients (RFC 8445 §14.2: 5 ms at least).
pub(crate) const PACE: Duration = Duration::from_millis(5);

/// How long a name may take to be resolved, and a stream to be opened.
pub(crate) const PREPARATION: Duration = Duration::from_secs(10);

/// How often a request may be sent on to another server.
pub(crate) const MAX_REDIRECTS: u8 = 3;

/// The bit that tells tokens of streams from those of sockets.
const STREAM_TOKEN: u64 = 1 << 63;

/// The key of long-term credentials (RFC 8489 §9.2.2). It protects nothing but the server's
/// own business: what is relayed is encrypted and authenticated by others.
fn long_term_key(username: &str, realm: &str, credential: &str) -> [u8; 16] {
    Md5::digest(format!("{username}:{realm}:{credential}")).into()
}

/// What a client wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send this to the server.
    Transmit(Bytes),
    /// Send this on a channel.
    TransmitOn(u16, Bytes),
    /// The server sees our socket under this address.
    Mapped(SocketAddr),
    /// What comes to this address is relayed to us.
    Allocated { relayed: SocketAddr, mapped: Option<SocketAddr> },
    /// Not any more.
    Lost(SocketAddr),
    /// Another server is to be asked.
    Redirected(SocketAddr),
    /// It does not relay to one peer.
    PeerRefused(ServerFailure),
    /// It is of no use.
    Failed(ServerFailure),
}

/// What became of a message of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    /// It answers nothing that was asked.
    Unasked,
    /// Its MESSAGE-INTEGRITY is missing or wrong.
    Forged,
    /// It breaks the grammar.
    Malformed,
}

/// What a datagram turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sorted<'a> {
    /// None of a server's.
    Foreign,
    /// One of a server's.
    Server(Taken),
    /// A peer's, which has no channel yet.
    Relayed { relayed: SocketAddr, peer: SocketAddr, datagram: &'a [u8] },
}

/// What the agent is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    Resolve { token: u64, host: String },
    Bind { token: u64, address: SocketAddr },
    Open { token: u64, server: SocketAddr, tls: Option<String> },
    Transmit { path: Path, datagram: Bytes },
    Reflexive { socket: SocketId, mapped: SocketAddr },
    Relayed(Relay),
    Lost { socket: SocketId, server: SocketAddr, relayed: SocketAddr },
    Close(SocketId),
    PeerRefused,
    Failed { uri: String, reason: ServerFailure },
}

/// A relayed address, and how it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relay {
    pub(crate) socket: SocketId,
    pub(crate) relayed: SocketAddr,
    pub(crate) mapped: Option<SocketAddr>,
    /// The server, as a small number.
    pub(crate) server: usize,
    /// Worse the larger: UDP, TCP, TLS.
    pub(crate) rank: u8,
}

#[derive(Debug)]
struct Server {
    uri: IceServerUri,
    text: String,
    login: Option<Login>,
    /// The token of the question for its addresses, and until when it waits.
    resolving: Option<(u64, Instant)>,
    addresses: Vec<SocketAddr>,
    last_failure: Option<ServerFailure>,
    /// Whether its failure has been told since it was asked last.
    told: bool,
}

#[derive(Debug, Clone, Copy)]
struct Base {
    socket: SocketId,
    address: SocketAddr,
    shared: bool,
}

/// All servers of an agent.
#[derive(Debug)]
pub(crate) struct Servers {
    servers: Vec<Server>,
    bases: Vec<Base>,
    clients: Vec<Client>,
    done: VecDeque<Done>,
    ids: Seeds,
    next_token: u64,
    /// When the next client may begin.
    next_start: Option<Instant>,
    /// Whether a client has failed, so that another may ask in its place.
    has_room: bool,
}

impl Servers {
    /// Takes what can be parsed; the rest has been refused by whoever made the configuration,
    /// or takes no part.
    pub(crate) fn new(configured: &[RTCIceServer], seed: u64) -> Self {
        let mut servers = Vec::new();
        for server in configured {
            for (uri, text) in server.uris().unwrap_or_default().into_iter().zip(&server.url) {
                let login = uri.username.clone().zip(server.credential.clone());
                let login = login.map(|(username, credential)| Login { username, credential });
                servers.push(Server {
                    uri,
                    text: text.clone(),
                    login,
                    resolving: None,
                    addresses: Vec::new(),
                    last_failure: None,
                    told: false,
                });
            }
        }
        if servers.len() > MAX_SERVERS {
            tracing::warn!(servers = servers.len(), "only the first {MAX_SERVERS} are asked");
            servers.truncate(MAX_SERVERS);
        }
        Self {
            servers,
            bases: Vec::new(),
            clients: Vec::new(),
            done: VecDeque::new(),
            ids: Seeds::new(seed ^ STREAM_TOKEN),
            next_token: STREAM_TOKEN,
            next_start: None,
            has_room: false,
        }
    }

    /// Asks all servers, or again those that have failed.
    pub(crate) fn start(&mut self, now: Instant) {
        self.clients.retain(|client| !client.is_settled() || client.has_succeeded());
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            (server.told, server.last_failure) = (false, None);
            if server.resolving.is_some() || !server.addresses.is_empty() {
                continue;
            }
            if let Some(reason) = unusable(&self.servers[index].uri) {
                self.fail(index, reason);
                continue;
            }
            let server = &mut self.servers[index];
            if let Ok(ip) = server.uri.host.parse::<IpAddr>() {
                server.addresses = vec![SocketAddr::new(ip.to_canonical(), server.uri.port)];
            } else {
                let token = self.token();
                let server = &mut self.servers[index];
                server.resolving = Some((token, now + PREPARATION));
                self.done.push_back(Done::Resolve { token, host: server.uri.host.clone() });
            }
        }
        self.spread(now);
    }

    /// A token that no other question has.
    pub(crate) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Takes the addresses of a name.
    pub(crate) fn resolved(
        &mut self,
        now: Instant,
        token: u64,
        result: Result<Vec<IpAddr>, String>,
    ) {
        let of = |server: &Server| server.resolving.is_some_and(|(asked, _)| asked == token);
        let Some(index) = self.servers.iter().position(of) else { return };
        let server = &mut self.servers[index];
        server.resolving = None;
        match result {
            Ok(ips) if !ips.is_empty() => {
                // One of each family: others are of the same machine, or as good.
                let first = |ipv4| ips.iter().find(|ip| ip.is_ipv4() == ipv4);
                let chosen = [first(true), first(false)].into_iter().flatten();
                server.addresses = chosen.map(|ip| SocketAddr::new(*ip, server.uri.port)).collect();
                self.spread(now);
            }
            Ok(_) => self.fail(index, ServerFailure::Unresolved("it has no address".into())),
            Err(error) => self.fail(index, ServerFailure::Unresolved(error)),
        }
    }

    /// A socket is there to ask from.
    pub(crate) fn bound(
        &mut self,
        now: Instant,
        socket: SocketId,
        address: SocketAddr,
        shared: bool,
    ) {
        self.bases.push(Base { socket, address, shared });
        self.spread(now);
    }

    /// A stream to a server is open; false if it is not wanted.
    pub(crate) fn opened(&mut self, now: Instant, token: u64, socket: SocketId) -> bool {
        let Some(at) = self.opening(token) else { return false };
        let is_stream = self.clients[at].base.is_none();
        self.clients[at].link = if is_stream { Link::Stream } else { Link::Socket }(socket);
        self.run(now, at, false, &|_| true);
        true
    }

    /// A stream to a server could not be opened; false if none was wanted.
    pub(crate) fn open_failed(&mut self, now: Instant, token: u64, error: &str) -> bool {
        let Some(at) = self.opening(token) else { return false };
        self.close_client(now, at, &ServerFailure::Stream(error.to_owned()));
        true
    }

    fn opening(&self, token: u64) -> Option<usize> {
        let is_it =
            |client: &Client| matches!(client.link, Link::Opening { token: t, .. } if t == token);
        self.clients.iter().position(is_it)
    }

    /// A socket is gone, and with it what was got through it.
    pub(crate) fn unbound(&mut self, now: Instant, socket: SocketId, error: Option<&str>) {
        self.bases.retain(|base| base.socket != socket);
        let is_for = |it: &mut Client| it.base == Some(socket) && it.has_own_socket();
        let gone: Vec<Client> = self.clients.extract_if(.., is_for).collect();
        for client in gone {
            let Some(own) = client.socket() else { continue };
            if let Some(relayed) = client.relayed() {
                let server = client.address;
                self.done.push_back(Done::Lost { socket: own, server, relayed });
            }
            self.done.push_back(Done::Close(own));
        }
        while let Some(at) = self.clients.iter().position(|it| it.socket() == Some(socket)) {
            if let Link::Socket(_) = self.clients[at].link {
                let client = self.clients.swap_remove(at);
                if let Some(relayed) = client.relayed() {
                    self.done.push_back(Done::Lost { socket, server: client.address, relayed });
                }
            } else {
                let reason = ServerFailure::Stream(error.unwrap_or("it was closed").to_owned());
                self.close_client(now, at, &reason);
            }
        }
    }

    fn close_client(&mut self, now: Instant, at: usize, reason: &ServerFailure) {
        let mut actions = Vec::new();
        match &mut self.clients[at].core {
            Core::Turn(turn) => turn.fail(reason.clone(), &mut actions),
            Core::Stun(stun) => {
                stun.fail(reason.clone(), &mut actions);
                self.clients[at].link = Link::Closed;
            }
        }
        self.carry_out(now, at, actions);
        self.clients[at].link = Link::Closed;
    }

    /// Makes a client for each server and socket that has none.
    fn spread(&mut self, now: Instant) {
        for index in 0..self.servers.len() {
            for address in self.servers[index].addresses.clone() {
                if self.servers[index].uri.transport == IceServerTransport::Tcp {
                    self.open_stream(now, index, address, 0);
                } else {
                    for base in self.bases.clone() {
                        self.ask_from(now, index, address, base);
                    }
                }
            }
        }
    }

    fn open_stream(&mut self, now: Instant, index: usize, address: SocketAddr, redirects: u8) {
        let known = self.clients.iter().any(|it| it.server == index && it.address == address);
        let reachable = self.bases.iter().any(|base| base.address.is_ipv4() == address.is_ipv4());
        if known || !reachable || self.clients.len() >= MAX_CLIENTS {
            return;
        }
        let server = &self.servers[index];
        let tls = server.uri.is_over_tls().then(|| server.uri.host.clone());
        let core = match (server.uri.scheme, &server.login) {
            (IceServerScheme::Stun | IceServerScheme::Stuns, _) => {
                Core::Stun(StunClient::new(now, true))
            }
            (_, Some(login)) => {
                let turn = TurnClient::new(now, login.clone(), address.is_ipv6(), true);
                Core::Turn(Box::new(turn))
            }
            (_, None) => return,
        };
        let token = self.token();
        self.done.push_back(Done::Open { token, server: address, tls });
        let link = Link::Opening { token, until: now + PREPARATION };
        self.clients.push(Client::new(index, address, link, core, redirects, None));
    }

    /// Asks for a relay from a socket for that alone: an allocation is a socket's and a server's
    /// (RFC 8656 §7.2), and that of the candidate is shared with connections that want theirs.
    fn ask_from_own_socket(
        &mut self,
        now: Instant,
        index: usize,
        address: SocketAddr,
        shared: Base,
    ) {
        let Some(login) = self.servers[index].login.clone() else { return };
        if self.clients.len() >= MAX_CLIENTS {
            return;
        }
        let token = self.token();
        let any_port = SocketAddr::new(shared.address.ip(), 0);
        self.done.push_back(Done::Bind { token, address: any_port });
        let core = Core::Turn(Box::new(TurnClient::new(now, login, address.is_ipv6(), false)));
        let link = Link::Opening { token, until: now + PREPARATION };
        let base = Some(shared.socket);
        self.clients.push(Client::new(index, address, link, core, 0, base));
    }

    fn ask_from(&mut self, now: Instant, index: usize, address: SocketAddr, base: Base) {
        let Base { socket, address: from, shared } = base;
        let relays = self.servers[index].uri.scheme == IceServerScheme::Turn;
        // Two allocations of one socket and server are one too many (RFC 8656 §7.2); a client
        // that has failed leaves room for one with another login.
        let has_allocation = |client: &Client| {
            let has_failed = client.is_settled() && !client.has_succeeded();
            relays && client.address == address && client.is_turn() && !has_failed
        };
        let known = self.clients.iter().any(|client| {
            client.base == Some(socket) && (client.server == index || has_allocation(client))
        });
        let unreachable = from.is_ipv4() != address.is_ipv4()
            || from.ip().is_loopback() && !address.ip().is_loopback();
        if known || unreachable {
            return;
        }
        if relays && shared {
            return self.ask_from_own_socket(now, index, address, base);
        }
        self.add_client(now, index, address, (socket, socket), 0);
    }

    fn add_client(
        &mut self,
        now: Instant,
        index: usize,
        address: SocketAddr,
        (base, socket): (SocketId, SocketId),
        redirects: u8,
    ) {
        if self.clients.len() >= MAX_CLIENTS {
            return;
        }
        let at = self.next_start.map_or(now, |next| next.max(now));
        self.next_start = Some(at + PACE);
        let server = &self.servers[index];
        let core = match (&server.login, server.uri.scheme) {
            (Some(login), IceServerScheme::Turn) => {
                Core::Turn(Box::new(TurnClient::new(at, login.clone(), address.is_ipv6(), false)))
            }
            _ => Core::Stun(StunClient::new(at, false)),
        };
        let link = Link::Socket(socket);
        self.clients.push(Client::new(index, address, link, core, redirects, Some(base)));
    }

    /// Whether answers are still awaited.
    pub(crate) fn is_gathering(&self) -> bool {
        self.servers.iter().any(|server| server.resolving.is_some())
            || self.clients.iter().any(|client| !client.is_settled())
    }

    pub(crate) fn poll(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// When something is due. `keep` says whether mappings are to be kept alive: not once a
    /// pair is selected, whose own checks do that.
    pub(crate) fn poll_timeout(&self, keep: bool) -> Option<Instant> {
        let resolving = self.servers.iter().filter_map(|server| Some(server.resolving?.1));
        let clients = self.clients.iter().filter_map(|client| match (&client.core, client.link) {
            (_, Link::Opening { until, .. }) => Some(until),
            (_, Link::Closed) => client.again,
            (Core::Stun(stun), _) => stun.poll_timeout(keep),
            (Core::Turn(turn), _) => turn.poll_timeout().into_iter().chain(client.again).min(),
        });
        resolving.chain(clients).min()
    }

    /// `in_use` says whether a relayed path is worth keeping.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        keep: bool,
        in_use: &dyn Fn(Path) -> bool,
    ) {
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            if server.resolving.take_if(|(_, until)| *until <= now).is_some() {
                self.fail(index, ServerFailure::Unresolved("it takes too long".into()));
            }
        }
        for at in 0..self.clients.len() {
            if self.clients[at].again.take_if(|again| *again <= now).is_some() {
                self.allocate_again(now, at);
            }
            self.run(now, at, keep, in_use);
        }
        self.fill_room(now);
    }

    fn fill_room(&mut self, now: Instant) {
        if std::mem::take(&mut self.has_room) {
            self.spread(now);
        }
    }

    fn run(&mut self, now: Instant, at: usize, keep: bool, in_use: &dyn Fn(Path) -> bool) {
        let Client { link, core, address, .. } = &mut self.clients[at];
        let (link, remote) = (*link, *address);
        let (Link::Socket(socket) | Link::Stream(socket)) = link else {
            if matches!(link, Link::Opening { until, .. } if until <= now) {
                self.close_client(now, at, &ServerFailure::TimedOut);
            }
            return;
        };
        let mut actions = Vec::new();
        match core {
            Core::Stun(stun) => stun.handle_timeout(now, keep, &mut self.ids, &mut actions),
            Core::Turn(turn) => {
                let in_use = |number| {
                    let encapsulation = Encapsulation::ChannelData(number);
                    in_use(Path { socket, remote, encapsulation })
                };
                turn.handle_timeout(now, in_use, &mut self.ids, &mut actions);
            }
        }
        self.carry_out(now, at, actions);
    }

    fn carry_out(&mut self, now: Instant, at: usize, actions: Vec<Action>) {
        let Client { server: index, address: remote, redirects, .. } = self.clients[at];
        let socket = self.clients[at].socket();
        for action in actions {
            match (action, socket) {
                (Action::Failed(reason), own) => {
                    let waits = self.retry(now, at, &reason);
                    // Who waits for his turn takes no other's place.
                    self.has_room |= !waits;
                    if let Some(own) = own.filter(|_| !waits && self.clients[at].closes_alone()) {
                        self.clients[at].link = Link::Closed;
                        self.done.push_back(Done::Close(own));
                    }
                    self.fail(index, reason);
                }
                (_, None) => {}
                (Action::Transmit(datagram), Some(socket)) => {
                    self.done
                        .push_back(Done::Transmit { path: Path::plain(socket, remote), datagram });
                }
                (Action::TransmitOn(number, datagram), Some(socket)) => {
                    let encapsulation = Encapsulation::ChannelData(number);
                    let path = Path { socket, remote, encapsulation };
                    self.done.push_back(Done::Transmit { path, datagram });
                }
                // The outer end of this very stream, which nobody can connect to.
                (Action::Mapped(_), Some(socket)) if self.clients[at].is_stream() => {
                    self.clients[at].link = Link::Closed;
                    self.done.push_back(Done::Close(socket));
                }
                (Action::Mapped(mapped), Some(socket)) => {
                    self.done.push_back(Done::Reflexive { socket, mapped });
                }
                (Action::Allocated { relayed, mapped }, Some(socket)) => {
                    self.clients[at].held = Held::Since(now);
                    self.servers[index].told = false;
                    let is_udp = matches!(self.clients[at].link, Link::Socket(_));
                    if let Some(mapped) = mapped.filter(|_| is_udp) {
                        self.done.push_back(Done::Reflexive { socket, mapped });
                    }
                    let rank = match (is_udp, self.servers[index].uri.scheme) {
                        (true, _) => 0,
                        (false, IceServerScheme::Turns) => 2,
                        (false, _) => 1,
                    };
                    let relay = Relay { socket, relayed, mapped, server: index, rank };
                    self.done.push_back(Done::Relayed(relay));
                }
                (Action::Lost(relayed), Some(socket)) => {
                    self.done.push_back(Done::Lost { socket, server: remote, relayed });
                }
                (Action::PeerRefused(reason), Some(_)) => {
                    tracing::debug!(server = %remote, %reason, "a peer is not relayed to");
                    self.done.push_back(Done::PeerRefused);
                }
                (Action::Redirected(to), Some(socket)) => {
                    let known =
                        self.clients.iter().any(|it| it.server == index && it.address == to);
                    match self.clients[at].link {
                        _ if known || redirects >= MAX_REDIRECTS => {
                            self.fail(index, ServerFailure::Redirected);
                        }
                        Link::Stream(_) => {
                            self.done.push_back(Done::Close(socket));
                            self.clients[at].link = Link::Closed;
                            self.open_stream(now, index, to, redirects + 1);
                        }
                        _ if to.is_ipv4() == remote.is_ipv4() => {
                            let base = self.clients[at].base.unwrap_or(socket);
                            self.add_client(now, index, to, (base, socket), redirects + 1);
                        }
                        _ => self.fail(index, ServerFailure::Redirected),
                    }
                }
            }
        }
    }

    /// Notes a failure, and tells of it when nothing else of that server may succeed.
    fn fail(&mut self, index: usize, reason: ServerFailure) {
        self.servers[index].last_failure = Some(reason);
        let of_it = || self.clients.iter().filter(|client| client.server == index);
        if of_it().all(Client::is_settled) && !of_it().any(Client::has_succeeded) {
            let server = &mut self.servers[index];
            if !std::mem::replace(&mut server.told, true)
                && let Some(reason) = server.last_failure.clone()
            {
                self.done.push_back(Done::Failed { uri: server.text.clone(), reason });
            }
        }
    }

    /// Looks whether a datagram is one of a server's, and takes it if so.
    pub(crate) fn handle<'a>(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &'a [u8],
    ) -> Sorted<'a> {
        let is_client = |it: &Client| it.socket() == Some(path.socket) && it.address == path.remote;
        if path.encapsulation != Encapsulation::Plain || !self.clients.iter().any(is_client) {
            return Sorted::Foreign;
        }
        let Some(message) = Message::parse(datagram) else {
            return Sorted::Server(Taken::Malformed);
        };
        match message.class {
            Class::Request => Sorted::Foreign,
            Class::Indication if message.method == method::DATA => {
                let relay =
                    self.clients.iter().filter(|it| is_client(it)).find_map(Client::relayed);
                let peer = message.address(attribute::XOR_PEER_ADDRESS);
                match (relay, peer, message.attribute(attribute::DATA)) {
                    (None, ..) => Sorted::Server(Taken::Unasked),
                    (Some(relayed), Some(peer), Some(datagram)) => {
                        Sorted::Relayed { relayed, peer, datagram }
                    }
                    _ => Sorted::Server(Taken::Malformed),
                }
            }
            Class::Indication => Sorted::Foreign,
            Class::Success | Class::Error => {
                let mut taken = Taken::Unasked;
                for at in 0..self.clients.len() {
                    if taken != Taken::Unasked || !is_client(&self.clients[at]) {
                        continue;
                    }
                    let mut actions = Vec::new();
                    taken = match &mut self.clients[at].core {
                        Core::Stun(stun) => stun.handle(now, message, &mut actions),
                        Core::Turn(turn) => turn.handle(now, message, &mut self.ids, &mut actions),
                    };
                    self.carry_out(now, at, actions);
                    if taken == Taken::Yes {
                        self.share_round_trip(at);
                    }
                }
                self.fill_room(now);
                Sorted::Server(taken)
            }
        }
    }

    /// What one client knows of its server is of use to those that wait for it.
    fn share_round_trip(&mut self, at: usize) {
        let Some(round_trip) = self.clients[at].round_trip() else { return };
        let address = self.clients[at].address;
        for client in self.clients.iter_mut().filter(|client| client.address == address) {
            client.learn(round_trip);
        }
    }

    fn relay(&mut self, relayed: SocketAddr) -> Option<usize> {
        self.clients.iter().position(|client| client.relayed() == Some(relayed))
    }

    /// The path to a peer by way of a relayed address of ours; `None` if there is none, or
    /// when it has too many peers.
    pub(crate) fn path_to(&mut self, relayed: SocketAddr, peer: SocketAddr) -> Option<Path> {
        let at = self.relay(relayed)?;
        let Client { core, address, .. } = &mut self.clients[at];
        let remote = *address;
        let Core::Turn(turn) = core else { return None };
        let encapsulation = Encapsulation::ChannelData(turn.channels.number(peer)?);
        Some(Path { socket: self.clients[at].socket()?, remote, encapsulation })
    }

    /// Our relayed address and the peer's address at the ends of a path.
    pub(crate) fn ends(&self, path: Path) -> Option<(SocketAddr, SocketAddr)> {
        let Encapsulation::ChannelData(number) = path.encapsulation else { return None };
        self.clients.iter().find_map(|client| match &client.core {
            Core::Turn(turn)
                if client.socket() == Some(path.socket) && client.address == path.remote =>
            {
                Some((turn.relayed()?, turn.peer(number)?))
            }
            _ => None,
        })
    }

    /// Sends on a relayed path, or once its channel is bound; false if it was not taken.
    pub(crate) fn send(&mut self, now: Instant, path: Path, datagram: Bytes) -> bool {
        let Encapsulation::ChannelData(number) = path.encapsulation else { return false };
        let Some((relayed, _)) = self.ends(path) else { return false };
        let Some(at) = self.relay(relayed) else { return false };
        let mut actions = Vec::new();
        let Core::Turn(turn) = &mut self.clients[at].core else { return false };
        let taken = turn.send(now, number, datagram, &mut self.ids, &mut actions);
        self.carry_out(now, at, actions);
        taken
    }

    /// Has the channel to a peer bound that is about to be checked by way of a relayed address.
    pub(crate) fn prepare(&mut self, now: Instant, relayed: SocketAddr, peer: SocketAddr) {
        let Some(at) = self.relay(relayed) else { return };
        let mut actions = Vec::new();
        if let Core::Turn(turn) = &mut self.clients[at].core {
            turn.prepare(now, peer, &mut self.ids, &mut actions);
        }
        self.carry_out(now, at, actions);
    }

    /// Gives everything back.
    pub(crate) fn close(&mut self, now: Instant) {
        for at in 0..self.clients.len() {
            let mut actions = Vec::new();
            if let Core::Turn(turn) = &mut self.clients[at].core {
                turn.release(&mut self.ids, &mut actions);
            }
            self.carry_out(now, at, actions);
        }
        self.clients.clear();
    }
}
