//! `webrtc-ice` behind the ICE port.

use std::net::SocketAddr;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient, WeakRecipient};
use ortc_ice::{
    IceCommand, IceConfig, IceEvent, IceState, IgnoredReason, RTCIceCandidateDescription,
    RTCIceConnectionInfo, ServerFailure, TcpCandidates,
};
use ortc_io::{
    Bind, ConnectionId, DatagramReceived, InterfaceAddress, Path, PathUpdate, SocketCommand,
    SocketEvent, SocketId,
};
use tracing::{debug, warn};
use webrtc_ice::candidate::CandidateType;

use crate::agent::{AgentEvent, AgentHandle, AgentReport, AgentStart};
use crate::error::{Limits, Unsupported};

/// Messages that may wait for this actor.
const MAILBOX: usize = 256;

/// Local candidates, each of which has a socket and an agent of its own.
const MAX_LOCAL: usize = 8;

/// Candidates of the peer; the stack keeps them in lists without a bound.
const MAX_REMOTE: usize = 100;

/// Longest STUN message taken: ICE has none that would not fit an IPv6 packet of any path.
const MAX_STUN: usize = 1280;

/// Type preference of host candidates (RFC 8445 §5.1.2.2).
const HOST_TYPE_PREFERENCE: u32 = 126;

/// ICE-CONTROLLED and ICE-CONTROLLING (RFC 8445 §16.1).
const CONTROLLED: u16 = 0x8029;
const CONTROLLING: u16 = 0x802a;

/// ICE by `webrtc-ice`, for one connection.
///
/// It takes the commands and tells the events of [`ortc_ice::IceActor`], and is attached to
/// the socket port in the same way. Each local candidate that is *set* gets an agent of its
/// own, over its own socket, so that one that is not set sends and answers nothing. See the
/// [crate's documentation](crate) for what it cannot do.
pub struct WebrtcIceActor {
    config: IceConfig,
    connection: ConnectionId,
    sockets: Recipient<SocketCommand>,
    owner: WeakRecipient<IceEvent>,
    locals: Vec<Local>,
    /// Addresses that are being bound, by token.
    binding: Vec<(u64, SocketAddr)>,
    next_token: u64,
    remotes: Vec<RTCIceCandidateDescription>,
    peer: Option<Peer>,
    /// Counts the credentials of the peer; events of earlier agents are dropped.
    session: u32,
    selected: Option<Path>,
    state: IceState,
    limits: Limits,
    /// Datagrams dropped: too long, of too many addresses, or faster than they are read.
    dropped: u64,
}

/// A socket, the candidate on it, and the agent that checks it.
struct Local {
    socket: SocketId,
    address: SocketAddr,
    description: RTCIceCandidateDescription,
    set: bool,
    agent: Option<AgentHandle>,
    pair: Option<Pair>,
}

/// The pair that an agent has nominated, or its peer has.
struct Pair {
    /// By which credentials of the peer.
    session: u32,
    remote: SocketAddr,
    kind: CandidateType,
    priority: u32,
    alive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    remote: RTCIceConnectionInfo,
    controlling: bool,
}

impl WebrtcIceActor {
    /// Makes the actor of `connection`; it does nothing before its first command.
    pub fn new(
        config: IceConfig,
        connection: ConnectionId,
        sockets: Recipient<SocketCommand>,
        owner: WeakRecipient<IceEvent>,
    ) -> Self {
        Self {
            config,
            connection,
            sockets,
            owner,
            locals: Vec::new(),
            binding: Vec::new(),
            next_token: 0,
            remotes: Vec::new(),
            peer: None,
            session: 0,
            selected: None,
            state: IceState::AwaitingConnect,
            limits: Limits::new(connection),
            dropped: 0,
        }
    }

    /// Has `report` called, once for each, with what is asked of it that the stack cannot do.
    #[must_use]
    pub fn with_report(mut self, report: impl FnMut(Unsupported) + Send + 'static) -> Self {
        self.limits.report_to(report);
        self
    }

    fn tell(&self, event: IceEvent, context: &mut Context<Self>) {
        match self.owner.upgrade() {
            Some(owner) => owner.do_send(event),
            None => context.stop(),
        }
    }

    fn change(&mut self, state: IceState, context: &mut Context<Self>) {
        if self.state != state && self.state != IceState::Closed {
            debug!(connection = ?self.connection, from = ?self.state, to = ?state, "ICE");
            self.state = state;
            self.tell(IceEvent::StateChanged(state), context);
        }
    }

    fn path(&self, update: PathUpdate) {
        self.sockets.do_send(SocketCommand::Path(self.connection, update));
    }

    /// Binds a socket for each new address of the host, and lets go of those that are gone.
    fn interfaces(&mut self, interfaces: &[InterfaceAddress], context: &mut Context<Self>) {
        let admitted: Vec<_> = interfaces
            .iter()
            .filter(|interface| self.config.interfaces.admits(interface))
            // Host candidates are all that it has.
            .filter(|_| self.config.candidate_types.host)
            .map(|interface| interface.address)
            .collect();
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.locals)
            .into_iter()
            .partition(|local| admitted.contains(&local.address.ip()));
        self.locals = kept;
        for local in gone {
            self.withdraw(local, context);
        }
        for address in admitted {
            let known = self.locals.iter().map(|local| local.address.ip());
            if known.chain(self.binding.iter().map(|(_, at)| at.ip())).any(|ip| ip == address) {
                continue;
            }
            if self.locals.len() + self.binding.len() == MAX_LOCAL {
                warn!(connection = ?self.connection, %address, "more addresses than agents");
                break;
            }
            let (token, address) = (self.next_token, SocketAddr::new(address, 0));
            self.next_token += 1;
            self.binding.push((token, address));
            let bind = Bind { connection: self.connection, token, address };
            self.sockets.do_send(SocketCommand::Bind(bind));
        }
        self.end_gathering(context);
    }

    fn end_gathering(&mut self, context: &mut Context<Self>) {
        if self.binding.is_empty() {
            self.tell(IceEvent::EndOfCandidates, context);
        }
    }

    fn bound(&mut self, token: u64, socket: SocketId, address: SocketAddr) {
        // RFC 8445 §5.1.2.1: unlike for each candidate of a type.
        let preference = u32::from(u16::MAX) - token as u32 % u32::from(u16::MAX);
        let description = RTCIceCandidateDescription {
            foundation: (token + 1).to_string(),
            component: 1,
            transport: "udp".into(),
            priority: HOST_TYPE_PREFERENCE << 24 | preference << 8 | 255,
            connection_address: address.ip().to_string(),
            connection_port: address.port(),
            kind: "host".into(),
            rel_address: None,
            rel_port: None,
            tcp_type: None,
        };
        self.locals.push(Local {
            socket,
            address,
            description,
            set: false,
            agent: None,
            pair: None,
        });
    }

    fn withdraw(&mut self, local: Local, context: &mut Context<Self>) {
        self.sockets.do_send(SocketCommand::Unbind(self.connection, local.socket));
        self.tell(IceEvent::CandidateWithdrawn(local.description), context);
        self.lost(local.socket, context);
    }

    fn set_local(&mut self, candidate: RTCIceCandidateDescription, context: &mut Context<Self>) {
        let found = self.locals.iter_mut().find(|local| local.description == candidate);
        match found {
            Some(local) => {
                local.set = true;
                self.start_agents(context);
            }
            None => self.ignore(candidate, IgnoredReason::UnknownLocal, context),
        }
    }

    fn set_remote(&mut self, candidate: RTCIceCandidateDescription, context: &mut Context<Self>) {
        if let Some(reason) = unusable(&candidate) {
            if reason == IgnoredReason::NameUnresolved {
                self.limits.tell(Unsupported::HiddenAddresses);
            }
            return self.ignore(candidate, reason, context);
        }
        if self.remotes.contains(&candidate) {
            return;
        }
        if self.remotes.len() == MAX_REMOTE {
            return self.ignore(candidate, IgnoredReason::TooMany, context);
        }
        for local in &self.locals {
            if local.agent.as_ref().is_some_and(|agent| !agent.add(candidate.clone())) {
                warn!(connection = ?self.connection, %candidate, "an agent is overrun");
            }
        }
        self.remotes.push(candidate);
    }

    fn ignore(
        &self,
        candidate: RTCIceCandidateDescription,
        reason: IgnoredReason,
        context: &mut Context<Self>,
    ) {
        self.tell(IceEvent::CandidateIgnored { candidate, reason }, context);
    }

    fn connect(&mut self, peer: Peer, context: &mut Context<Self>) {
        if self.peer.as_ref() == Some(&peer) {
            return;
        }
        let first = self.peer.is_none();
        self.peer = Some(peer);
        self.session += 1;
        for local in &mut self.locals {
            local.agent = None;
        }
        if first {
            self.change(IceState::Checking, context);
        } else {
            self.let_go_of_former(context);
        }
        self.start_agents(context);
    }

    /// The peer has restarted: pairs of its former credentials go on for as long as consent lasts
    /// (RFC 7675 §5.1), since nobody renews it any more.
    fn let_go_of_former(&self, context: &mut Context<Self>) {
        let session = self.session;
        context.run_later(self.config.timing.consent_timeout, move |actor, context| {
            let mut former = Vec::new();
            for local in &mut actor.locals {
                if let Some(pair) = local.pair.as_mut().filter(|pair| pair.session < session) {
                    pair.alive = false;
                    former.push(local.socket);
                }
            }
            if actor.state != IceState::Closed {
                former.into_iter().for_each(|socket| actor.lost(socket, context));
            }
        });
    }

    /// Starts the agents of candidates that are set and have none.
    fn start_agents(&mut self, context: &mut Context<Self>) {
        let Some(peer) = &self.peer else { return };
        for local in self.locals.iter_mut().filter(|local| local.set && local.agent.is_none()) {
            let start = AgentStart {
                connection: self.connection,
                socket: local.socket,
                local: local.address,
                session: self.session,
                remote: peer.remote.clone(),
                controlling: peer.controlling,
            };
            let reports = context.address().recipient();
            let agent = AgentHandle::start(start, &self.config, self.sockets.clone(), reports);
            for candidate in &self.remotes {
                // There is room for more than are kept here.
                agent.add(candidate.clone());
            }
            local.agent = Some(agent);
        }
    }

    /// An agent has a pair. Media goes where the peer has nominated last, or where we have first,
    /// and is taken from wherever a check was answered.
    fn nominated(&mut self, socket: SocketId, pair: Pair, context: &mut Context<Self>) {
        let path = Path::plain(socket, pair.remote);
        let Some(local) = self.locals.iter_mut().find(|local| local.socket == socket) else {
            return;
        };
        local.pair = Some(pair);
        // It may be told that it is selected before it is that a check was answered.
        self.path(PathUpdate::Validated(path));
        let controlling = self.peer.as_ref().is_some_and(|peer| peer.controlling);
        if !(controlling && self.state == IceState::Connected) {
            self.select(socket, context);
        }
    }

    /// Sends on the pair of this socket's agent from now on.
    fn select(&mut self, socket: SocketId, context: &mut Context<Self>) {
        let Some(local) = self.locals.iter().find(|local| local.socket == socket) else { return };
        let Some(pair) = &local.pair else { return };
        let path = Path::plain(socket, pair.remote);
        let remote = self.remote_description(pair);
        let local = local.description.clone();
        if self.selected.replace(path) != Some(path) {
            self.tell(IceEvent::ActivePair { local, remote }, context);
        }
        self.path(PathUpdate::Selected(path));
        self.change(IceState::Connected, context);
    }

    /// The agent's pair answers again, or does not any more.
    fn hears(&mut self, socket: SocketId, alive: bool, context: &mut Context<Self>) {
        let Some(local) = self.locals.iter_mut().find(|local| local.socket == socket) else {
            return;
        };
        let Some(pair) = &mut local.pair else { return };
        pair.alive = alive;
        if alive && self.state == IceState::Disconnected {
            self.select(socket, context);
        } else if !alive {
            self.lost(socket, context);
        }
    }

    /// A pair is gone; if media went there, it goes to another that answers, or nowhere.
    fn lost(&mut self, socket: SocketId, context: &mut Context<Self>) {
        if self.selected.is_none_or(|path| path.socket != socket) {
            return;
        }
        let answers = |local: &&Local| local.pair.as_ref().is_some_and(|pair| pair.alive);
        match self.locals.iter().find(answers).map(|local| local.socket) {
            Some(other) => self.select(other, context),
            None => {
                self.path(PathUpdate::SendingSuspended);
                self.change(IceState::Disconnected, context);
            }
        }
    }

    /// A candidate of the peer is gone: media goes to another pair. The agent goes on checking it,
    /// as the stack forms no pair again, and has it back should it answer.
    fn leave(&mut self, gone: &RTCIceCandidateDescription, context: &mut Context<Self>) {
        self.remotes.retain(|remote| remote != gone);
        let is_there = |pair: &Pair| {
            pair.remote.port() == gone.connection_port
                && gone.connection_address.parse() == Ok(pair.remote.ip())
        };
        let mut left = Vec::new();
        for local in &mut self.locals {
            if let Some(pair) = local.pair.as_mut().filter(|pair| is_there(pair)) {
                pair.alive = false;
                left.push(local.socket);
            }
        }
        left.into_iter().for_each(|socket| self.lost(socket, context));
    }

    fn remote_description(&self, pair: &Pair) -> RTCIceCandidateDescription {
        let address = pair.remote;
        let known = self.remotes.iter().find(|remote| {
            remote.connection_port == address.port()
                && remote.connection_address.parse() == Ok(address.ip())
        });
        known.cloned().unwrap_or_else(|| RTCIceCandidateDescription {
            foundation: "0".into(),
            component: 1,
            transport: "udp".into(),
            priority: pair.priority,
            connection_address: address.ip().to_string(),
            connection_port: address.port(),
            kind: pair.kind.to_string(),
            rel_address: None,
            rel_port: None,
            tcp_type: None,
        })
    }

    fn close(&mut self, context: &mut Context<Self>) {
        for local in &mut self.locals {
            local.agent = None;
        }
        self.change(IceState::Closed, context);
        debug!(connection = ?self.connection, dropped = self.dropped, "ICE is over");
        context.stop();
    }

    /// Says so when the peer claims the role that we have: the stack will not answer.
    fn watch_for_conflict(&mut self, datagram: &[u8]) {
        let Some(peer) = &self.peer else { return };
        let ours = if peer.controlling { CONTROLLING } else { CONTROLLED };
        if has_attribute(datagram, ours) {
            self.limits.tell(Unsupported::RoleConflict);
        }
    }
}

/// Why a candidate of the peer takes no part, if so.
fn unusable(candidate: &RTCIceCandidateDescription) -> Option<IgnoredReason> {
    if candidate.validate().is_err() {
        Some(IgnoredReason::Malformed)
    } else if candidate.component != 1 {
        Some(IgnoredReason::OtherComponent)
    } else if !candidate.transport.eq_ignore_ascii_case("udp") {
        Some(IgnoredReason::TransportUnsupported)
    } else if candidate.connection_address.parse::<std::net::IpAddr>().is_err() {
        Some(IgnoredReason::NameUnresolved)
    } else {
        None
    }
}

/// Whether a STUN message has an attribute (RFC 8489 §14).
fn has_attribute(message: &[u8], wanted: u16) -> bool {
    let mut rest = message.get(20..).unwrap_or_default();
    while let [high, low, long, short, value @ ..] = rest {
        if u16::from_be_bytes([*high, *low]) == wanted {
            return true;
        }
        let padded = usize::from(u16::from_be_bytes([*long, *short])).next_multiple_of(4);
        rest = value.get(padded..).unwrap_or_default();
    }
    false
}

impl Actor for WebrtcIceActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        if !self.config.servers.is_empty() {
            self.limits.tell(Unsupported::IceServers);
        }
        if self.config.tcp != TcpCandidates::NONE {
            self.limits.tell(Unsupported::TcpCandidates);
        }
        if self.config.lite {
            self.limits.tell(Unsupported::IceLite);
        }
    }
}

impl Handler<IceCommand> for WebrtcIceActor {
    type Result = ();

    fn handle(&mut self, command: IceCommand, context: &mut Self::Context) {
        match command {
            IceCommand::Gather | IceCommand::Update
                if !self.config.shared.is_empty() || self.config.fork.is_some() =>
            {
                self.limits.tell(Unsupported::SharedSocket);
                self.end_gathering(context);
            }
            // Better no path than one that tells what was to be kept.
            IceCommand::Gather | IceCommand::Update if self.config.names.is_some() => {
                self.limits.tell(Unsupported::HiddenAddresses);
                self.end_gathering(context);
            }
            IceCommand::Gather | IceCommand::Update => {
                for url in self.config.servers.iter().flat_map(|server| &server.url) {
                    let reason = ServerFailure::NotSupported("webrtc-ice has host candidates here");
                    self.tell(IceEvent::ServerFailed { url: url.clone(), reason }, context);
                }
                self.sockets.do_send(SocketCommand::EnumerateInterfaces(self.connection));
            }
            IceCommand::SetLocalCandidate(candidate) => self.set_local(candidate, context),
            IceCommand::SetRemoteCandidate(candidate) => self.set_remote(candidate, context),
            IceCommand::ShareSockets => {
                self.limits.tell(Unsupported::SharedSocket);
                let shared = IceEvent::SocketsShared { hosts: Vec::new(), complete: true };
                self.tell(shared, context);
            }
            IceCommand::RemoveRemoteCandidate(candidate) => self.leave(&candidate, context),
            IceCommand::Restart(_) => self.limits.tell(Unsupported::IceRestart),
            // It has joined none.
            IceCommand::AddShared { .. } => {}
            // The stack has no use for it: it goes on checking either way.
            IceCommand::RemoteEndOfCandidates => {}
            IceCommand::Connect { remote, controlling } => {
                self.connect(Peer { remote, controlling }, context);
            }
            IceCommand::Close => self.close(context),
        }
    }
}

impl Handler<SocketEvent> for WebrtcIceActor {
    type Result = ();

    fn handle(&mut self, event: SocketEvent, context: &mut Self::Context) {
        match event {
            SocketEvent::Interfaces(interfaces) => self.interfaces(&interfaces, context),
            SocketEvent::Bound { token, socket, local } => {
                let asked = self.binding.len();
                self.binding.retain(|(waiting, _)| *waiting != token);
                if self.binding.len() < asked {
                    self.bound(token, socket, local);
                    if let Some(local) = self.locals.last() {
                        let found = IceEvent::CandidateFound(local.description.clone());
                        self.tell(found, context);
                    }
                    self.end_gathering(context);
                }
            }
            SocketEvent::BindFailed { token, address, error } => {
                warn!(connection = ?self.connection, %address, %error, "not bound");
                self.binding.retain(|(waiting, _)| *waiting != token);
                self.end_gathering(context);
            }
            // Only sockets that are shared have paths that could be.
            SocketEvent::PathTaken(_)
            | SocketEvent::Listening { .. }
            | SocketEvent::Accepted { .. } => {}
            // It keeps consent itself and delegates none, and does not leave a path.
            SocketEvent::PathDoubted(_)
            | SocketEvent::ConsentDelegated { .. }
            | SocketEvent::ConsentReturned { .. } => {}
            SocketEvent::Unbound { socket, .. } => {
                self.locals.retain(|local| local.socket != socket);
                self.lost(socket, context);
            }
        }
    }
}

impl Handler<DatagramReceived> for WebrtcIceActor {
    type Result = ();

    fn handle(&mut self, received: DatagramReceived, _: &mut Self::Context) {
        let DatagramReceived { path, datagram, .. } = received;
        self.watch_for_conflict(&datagram);
        let local = self.locals.iter().find(|local| local.socket == path.socket);
        let Some(agent) = local.and_then(|local| local.agent.as_ref()) else { return };
        if datagram.len() > MAX_STUN || !agent.push((datagram, path.remote)) {
            self.dropped += 1;
        }
    }
}

impl Handler<AgentReport> for WebrtcIceActor {
    type Result = ();

    fn handle(&mut self, report: AgentReport, context: &mut Self::Context) {
        let AgentReport { socket, session, event } = report;
        if session != self.session || self.state == IceState::Closed {
            return;
        }
        match event {
            AgentEvent::Validated { remote } => {
                if self.locals.iter().any(|local| local.socket == socket) {
                    self.path(PathUpdate::Validated(Path::plain(socket, remote)));
                }
            }
            AgentEvent::Selected { remote, kind, priority } => {
                let pair = Pair { session, remote, kind, priority, alive: true };
                self.nominated(socket, pair, context);
            }
            AgentEvent::Alive => self.hears(socket, true, context),
            AgentEvent::Silent => self.hears(socket, false, context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_behind_padded_ones() {
        let mut message = vec![0, 1, 0, 20, 0x21, 0x12, 0xa4, 0x42];
        message.extend([7; 12]);
        message.extend([0, 6, 0, 3, b'a', b':', b'b', 0]);
        message.extend([0x80, 0x2a, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(has_attribute(&message, CONTROLLING));
        assert!(!has_attribute(&message, CONTROLLED));
        for len in 0..message.len() - 12 {
            assert!(!has_attribute(&message[..len], CONTROLLING), "{len} bytes");
        }
    }

    #[test]
    fn what_the_stack_cannot_use_is_told() {
        let line = "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host";
        let of = |line: &str| unusable(&line.parse().unwrap());
        assert_eq!(of(line), None);
        assert_eq!(of(&line.replace("1 udp", "2 udp")), Some(IgnoredReason::OtherComponent));
        assert_eq!(of(&line.replace("udp", "tcp")), Some(IgnoredReason::TransportUnsupported));
        let name = line.replace("192.0.2.1", "host.local");
        assert_eq!(of(&name), Some(IgnoredReason::NameUnresolved));
        let broken = RTCIceCandidateDescription { priority: 0, ..line.parse().unwrap() };
        assert_eq!(unusable(&broken), Some(IgnoredReason::Malformed));
    }
}
