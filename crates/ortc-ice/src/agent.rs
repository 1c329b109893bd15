use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use ortc_io::consent::CheckEvent;
use ortc_io::{ConsentDelegation, ListenOn, Path, PathUpdate, SharedSocket, SocketEvent, SocketId};
use tracing::{debug, warn};

use crate::delegation::Delegation;
use crate::description::{Carrier, is_link_local};
use crate::doubt::Doubts;
use crate::engine::{Ends, Engine, EngineEvent, Pace};
use crate::held::HeldRequests;
use crate::inbound::request_id;
use crate::link_local::is_on_one_link;
use crate::local::{Gathering, Local, WantedSocket};
use crate::nomination::Announcement;
use crate::paths::Paths;
use crate::remote::RemoteCandidates;
use crate::servers::Servers;
use crate::state::{self, Cause};
use crate::tcp::{COMING_BACK, Streams};
use crate::transactions::{TransactionId, Transactions};
use crate::upkeep::{Due, Upkeep};
use crate::{
    IceCommand, IceConfig, IceEvent, IceState, IceStats, IgnoredReason, RTCIceCandidateDescription,
    RTCIceConnectionInfo, SharedHost,
};

/// What an [`IceAgent`] wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "it is taken out at once, and an event is rare")]
pub enum Output {
    /// Enumerate the addresses of this host; answered by [`SocketEvent::Interfaces`].
    Enumerate,
    /// Bind a UDP socket; answered by [`SocketEvent::Bound`] or [`SocketEvent::BindFailed`].
    Bind {
        /// To be repeated in the answer.
        token: u64,
        /// The address; port 0 for any.
        address: SocketAddr,
    },
    /// Use a shared socket; answered like [`Bind`](Self::Bind).
    Join {
        /// To be repeated in the answer.
        token: u64,
        /// The socket.
        shared: SharedSocket,
        /// Our username fragment, by which requests are told to be ours.
        username_frag: String,
        /// Whether other connections have it, too.
        fork: bool,
    },
    /// Let forks join a socket.
    Share {
        /// The socket.
        socket: SocketId,
        /// Our username fragment, which is theirs.
        username_frag: String,
    },
    /// A socket that was shared is not to be kept for forks any more: its address is gone.
    Release(SocketId),
    /// Have requests of the peer with this username fragment: other forks have those of others.
    ClaimPeer(String),
    /// Resolve a name; answered by [`IceAgent::handle_resolved`].
    Resolve {
        /// To be repeated in the answer.
        token: u64,
        /// The name; one that ends in `.local` is asked of the link (RFC 6762).
        host: String,
    },
    /// Open a stream to a TURN server; answered like [`Bind`](Self::Bind).
    OpenStream {
        /// To be repeated in the answer.
        token: u64,
        /// Its address.
        server: SocketAddr,
        /// Over TLS, with a certificate for this name.
        tls: Option<String>,
    },
    /// Open a stream to a passive TCP candidate of the peer; answered like [`Bind`](Self::Bind).
    OpenPeerStream {
        /// To be repeated in the answer.
        token: u64,
        /// The address of ours that it is to be from.
        from: IpAddr,
        /// The address of the candidate.
        remote: SocketAddr,
    },
    /// Take streams that show these credentials, which are ours; answered by
    /// [`SocketEvent::Listening`] or [`SocketEvent::BindFailed`].
    Listen {
        /// To be repeated in the answer, and with each stream.
        token: u64,
        /// Where.
        on: ListenOn,
        /// Our credentials.
        credentials: Box<RTCIceConnectionInfo>,
    },
    /// Take no more streams.
    StopListening(u64),
    /// Have a name of the link (`UUID.local`, RFC 6762) stand for an address of ours; it comes
    /// before the candidates that carry it.
    PublishName {
        /// The name.
        name: String,
        /// The address.
        address: IpAddr,
    },
    /// Answer for a name no longer.
    WithdrawName(String),
    /// Close a socket whose address is gone, or let go of it if it is shared.
    Unbind(SocketId),
    /// Send a STUN datagram.
    Transmit {
        /// On this path.
        path: Path,
        /// These bytes.
        datagram: Bytes,
    },
    /// Tell the socket port about a path.
    Path(PathUpdate),
    /// Have the socket port keep the consent of the selected path, if it does such a thing;
    /// answered by [`SocketEvent::ConsentDelegated`]. Until then it is kept here.
    DelegateConsent(Box<ConsentDelegation>),
    /// Take back what was delegated with this token; answered by
    /// [`SocketEvent::ConsentReturned`], and kept here from now on.
    ReclaimConsent(u64),
    /// Tell the owner.
    Event(IceEvent),
}

/// The ICE state machine of one connection: no socket, no clock, no thread.
///
/// It is driven in four steps, in any order, as often as there is reason to:
/// 1. [`handle_command`](Self::handle_command), [`handle_socket_event`](Self::handle_socket_event),
///    [`handle_datagram`](Self::handle_datagram): what has happened, and when.
/// 2. [`poll_output`](Self::poll_output) until it returns `None`: what is to be done.
/// 3. [`poll_timeout`](Self::poll_timeout): when to come back.
/// 4. [`handle_timeout`](Self::handle_timeout) at that time.
#[derive(Debug)]
pub struct IceAgent {
    pub(crate) config: IceConfig,
    pub(crate) state: IceState,
    pub(crate) remote: Option<RTCIceConnectionInfo>,
    /// Credentials of ours from before a restart, until the peer shows the new ones.
    pub(crate) former: Vec<RTCIceConnectionInfo>,
    /// Made at [`IceCommand::Connect`], so that the role precedes every pair.
    pub(crate) engine: Option<Engine>,
    pub(crate) gathering: Gathering,
    pub(crate) servers: Servers,
    pub(crate) streams: Streams,
    /// Candidates of the peer whose names are being resolved, by token.
    pub(crate) unresolved: Vec<(u64, RTCIceCandidateDescription)>,
    /// Whether the end of candidates is still to be told.
    pub(crate) is_gathering: bool,
    pub(crate) remotes: RemoteCandidates,
    pub(crate) held: HeldRequests,
    pub(crate) transactions: Transactions,
    pub(crate) paths: Paths,
    pub(crate) upkeep: Upkeep,
    pub(crate) delegation: Delegation,
    pub(crate) doubts: Doubts,
    /// Addresses that the peer saw us under.
    pub(crate) mapped: Vec<SocketAddr>,
    pub(crate) stats: IceStats,
    /// The pair that the engine has selected last.
    pub(crate) engine_choice: Option<Path>,
    /// Whether the peer is being told of a choice.
    pub(crate) announcement: Option<Announcement>,
    outputs: VecDeque<Output>,
    engine_deadline: Option<Instant>,
}

impl IceAgent {
    /// Makes an agent; it does nothing before its first command.
    pub fn new(config: IceConfig) -> Self {
        Self {
            state: IceState::AwaitingConnect,
            remote: None,
            former: Vec::new(),
            engine: None,
            gathering: Gathering::new(&config),
            servers: Servers::new(&config.servers, config.seed),
            streams: Streams::default(),
            unresolved: Vec::new(),
            is_gathering: false,
            remotes: RemoteCandidates::new(config.interfaces.link_local),
            held: HeldRequests::default(),
            transactions: Transactions::default(),
            paths: Paths::default(),
            upkeep: Upkeep::new(config.timing, config.seed),
            delegation: Delegation::default(),
            doubts: Doubts::default(),
            mapped: Vec::new(),
            stats: IceStats::default(),
            engine_choice: None,
            announcement: None,
            outputs: VecDeque::new(),
            engine_deadline: None,
            config,
        }
    }

    /// The state, as last told by [`IceEvent::StateChanged`].
    pub fn state(&self) -> IceState {
        self.state
    }

    /// Whether we nominate. May change until connected, by role conflicts (RFC 8445 §7.3.1.1).
    pub fn is_controlling(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::controlling)
    }

    /// The path that media uses.
    pub fn selected_path(&self) -> Option<Path> {
        self.paths.selected()
    }

    /// What was counted so far.
    pub fn stats(&self) -> IceStats {
        let is_controlling = self.engine.as_ref().map(Engine::controlling);
        IceStats { is_controlling, ..self.stats }
    }

    /// Carries out a command of the owner. After [`IceCommand::Close`] all are ignored.
    pub fn handle_command(&mut self, now: Instant, command: IceCommand) {
        if self.state == IceState::Closed {
            return;
        }
        match command {
            IceCommand::Gather | IceCommand::Update => self.gather(now),
            IceCommand::ShareSockets => self.share_sockets(),
            IceCommand::AddShared { hosts, complete } => {
                let had_ended = self.gathering.has_ended();
                if self.gathering.add_shared(hosts, complete) {
                    self.gather(now);
                } else if !had_ended {
                    self.after_gathering(now);
                }
            }
            IceCommand::SetLocalCandidate(candidate) => self.set_local(now, candidate),
            IceCommand::SetRemoteCandidate(candidate) => self.set_remote(now, candidate),
            IceCommand::RemoveRemoteCandidate(candidate) => self.remove_remote(now, &candidate),
            // Checks go on regardless: a peer-reflexive candidate may always turn up.
            IceCommand::RemoteEndOfCandidates => debug!("the peer has no more candidates"),
            IceCommand::Connect { remote, controlling } => self.connect(now, remote, controlling),
            IceCommand::Restart(credentials) => self.restart(now, credentials),
            IceCommand::Close => {
                self.servers.close(now);
                self.run_servers(now);
                self.change_state(Cause::CloseRequested);
                self.engine = None;
                self.held = HeldRequests::default();
            }
        }
        self.review_delegation(now);
    }

    /// Takes an answer of the socket port.
    pub fn handle_socket_event(&mut self, now: Instant, event: SocketEvent) {
        if self.state == IceState::Closed {
            return;
        }
        match event {
            SocketEvent::Interfaces(interfaces) => {
                let difference = self.gathering.interfaces(&interfaces);
                self.stats.over_limit += difference.left_out as u64;
                for local in difference.gone {
                    let socket = local.socket;
                    self.withdraw(now, local);
                    if self.gathering.is_sharing {
                        self.outputs.push_back(Output::Release(socket));
                    }
                    self.outputs.push_back(Output::Unbind(socket));
                }
                for wanted in difference.wanted {
                    self.want(wanted);
                }
                self.gather_tcp(now);
                self.withdraw_names();
                self.after_gathering(now);
            }
            SocketEvent::Bound { token, socket, local } => {
                if self.servers.opened(now, token, socket) {
                    return self.run_servers(now);
                }
                if self.stream_opened(now, token, socket) {
                    return self.review_delegation(now);
                }
                match self.gathering.bound(token, socket, local).cloned() {
                    Some(local) => {
                        self.report(Some(&local));
                        if self.gathering.is_sharing {
                            self.share(vec![local.shared_host()]);
                        }
                        self.claim_peer();
                        let shared = self.gathering.is_shared(socket);
                        // No server is on the link, or it would be asked from another address.
                        if !is_link_local(local.address.ip()) {
                            self.servers.bound(now, socket, local.address, shared);
                        }
                        self.servers_timeout(now);
                    }
                    None => self.outputs.push_back(Output::Unbind(socket)),
                }
            }
            SocketEvent::BindFailed { token, address, error } => {
                if self.servers.open_failed(now, token, &error.to_string()) {
                    return self.run_servers(now);
                }
                if self.tcp_failed(now, token) {
                    return debug!(%address, %error, "no stream");
                }
                if let Some(next) = self.gathering.bind_failed(token) {
                    return self.want(next);
                }
                warn!(%address, %error, "no candidate on this address");
                self.stats.bind_failures += 1;
                self.after_gathering(now);
            }
            SocketEvent::Listening { token, local } => self.listening(now, token, local),
            SocketEvent::Accepted { socket, local, remote, .. } => {
                self.stream_accepted(now, socket, local, remote);
            }
            SocketEvent::Unbound { socket, error } => {
                if self.stream_ended(now, socket) {
                    return self.review_delegation(now);
                }
                let reason = error.as_ref().map(ToString::to_string);
                self.servers.unbound(now, socket, reason.as_deref());
                self.run_servers(now);
                if let Some(local) = self.gathering.unbound(socket) {
                    debug!(address = %local.address, ?error, "a socket is gone");
                    self.withdraw(now, local);
                }
            }
            SocketEvent::PathTaken(path) => self.path_taken(now, path),
            SocketEvent::PathDoubted(path) => self.doubt(now, path),
            SocketEvent::ConsentDelegated { .. } | SocketEvent::ConsentReturned { .. } => {
                self.handle_consent_event(now, &event);
            }
        }
        self.review_delegation(now);
    }

    /// Lets time pass. To be called at the time that [`poll_timeout`](Self::poll_timeout)
    /// names; at other times it does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.upkeep.due(now) {
            match due {
                Due::Settle => {
                    let kept = self.paths.worth_keeping(Upkeep::spares());
                    let interval = self.upkeep.settle(kept);
                    self.set_pace(Pace::Consent(interval));
                }
                Due::Hurry => {
                    let silent = self.paths.selected();
                    self.leave_nomination(now);
                    self.paths.check_again();
                    self.set_pace(Pace::Search);
                    self.servers.doubt(now);
                    if let Some(path) = silent {
                        self.doubt(now, path);
                    }
                }
                Due::ConsentExpired => {
                    self.outputs.push_back(Output::Path(PathUpdate::SendingSuspended));
                    // Nor does a peer keep it that has not heard of a restart of ours by now.
                    self.former.clear();
                    if self.state == IceState::Connected {
                        self.change_state(Cause::ConsentExpired);
                        self.form_pairs_again(now);
                    } else if self.state == IceState::Checking && self.paths.selected().is_some() {
                        // A restart has found no path before that of before was lost.
                        self.change_state(Cause::PairsFailed);
                        self.form_pairs_again(now);
                    }
                }
                Due::Retry => {
                    self.servers.doubt(now);
                    if self.awaits_new_credentials() {
                        self.form_all_pairs(now);
                    }
                    if self.state == IceState::Connected && self.paths.selected().is_none() {
                        self.change_state(Cause::PairsFailed);
                    }
                    self.form_pairs_again(now);
                }
            }
        }
        let expired = self.paths.expire(now, self.config.timing.path_idle);
        for path in &expired {
            self.outputs.push_back(Output::Path(PathUpdate::Lost(*path)));
        }
        self.close_idle_streams(now, &expired);
        self.run_doubts(now);
        self.run_announcement(now);
        self.servers_timeout(now);
        if !self.engine_rests() {
            self.run_engine(now);
        }
        self.review_delegation(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // An idle agent holds no room for what it said last.
            self.outputs.shrink_to_fit();
        }
        output
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.state == IceState::Closed {
            return None;
        }
        let expiry = self.paths.next_expiry(self.config.timing.path_idle);
        let check = self.engine_deadline.filter(|_| !self.engine_rests());
        let own = [
            (check, "a check is due"),
            (expiry, "a path has been silent"),
            (self.idle_streams_at(), "a stream is of no use"),
            (self.servers_deadline(), "a server is to be asked"),
            (self.doubts.next(), "a path is in doubt"),
            (self.announcement.map(|it| it.next()), "the peer is to know the path"),
        ];
        own.into_iter().filter_map(|(at, why)| Some((at?, why))).chain(self.upkeep.next()).min()
    }

    fn want(&mut self, wanted: WantedSocket) {
        let WantedSocket { token, address, shared } = wanted;
        self.outputs.push_back(match shared {
            None => Output::Bind { token, address },
            Some(shared) => {
                let username_frag = self.config.credentials.username_frag.clone();
                Output::Join { token, shared, username_frag, fork: self.config.fork.is_some() }
            }
        });
    }

    /// A newer connection on the same socket has validated a path: the peer that was there is
    /// another one now.
    fn path_taken(&mut self, now: Instant, path: Path) {
        debug!(remote = %path.remote, "a newer connection has taken a path");
        self.stats.paths_taken += 1;
        let was_selected = self.paths.bar(path);
        if was_selected && self.state == IceState::Connected {
            self.change_state(Cause::PathTaken);
            self.form_pairs_again(now);
            self.run_engine(now);
        }
    }

    fn gather(&mut self, now: Instant) {
        if self.gathering.start() {
            self.is_gathering = true;
            self.outputs.push_back(Output::Enumerate);
            self.servers.start(now);
            self.run_servers(now);
        }
    }

    /// Names of addresses that are gone are answered no longer.
    fn withdraw_names(&mut self) {
        let in_use: Vec<IpAddr> = self.gathering.hosts().collect();
        let admitted = self.gathering.admitted();
        let keeps = |ip: &IpAddr| in_use.contains(ip) || admitted.contains(ip);
        let Some(aliases) = &mut self.gathering.aliases else { return };
        for name in aliases.retire(keeps) {
            self.outputs.push_back(Output::WithdrawName(name));
        }
    }

    fn share_sockets(&mut self) {
        self.gathering.is_sharing = true;
        let hosts = self.gathering.found().map(Local::shared_host).collect();
        self.share(hosts);
        self.claim_peer();
    }

    fn share(&mut self, hosts: Vec<SharedHost>) {
        for host in &hosts {
            let username_frag = self.config.credentials.username_frag.clone();
            self.outputs.push_back(Output::Share { socket: host.shared.socket, username_frag });
        }
        let complete = self.gathering.has_ended();
        self.event(IceEvent::SocketsShared { hosts, complete });
    }

    /// Where the local side is several connections', their peers tell whose a request is.
    pub(crate) fn claim_peer(&mut self) {
        if let Some(remote) = &self.remote
            && (self.gathering.is_sharing || self.config.fork.is_some())
        {
            self.outputs.push_back(Output::ClaimPeer(remote.username_frag.clone()));
        }
    }

    pub(crate) fn after_gathering(&mut self, now: Instant) {
        if self.gathering.is_asking() || self.servers.is_gathering() || self.streams.is_asking() {
            return;
        }
        // It is not at its end while another round is due.
        if self.gathering.take_again() {
            return self.gather(now);
        }
        if self.is_gathering && self.gathering.has_ended() {
            self.is_gathering = false;
            self.event(IceEvent::EndOfCandidates);
            if self.gathering.is_sharing {
                self.share(Vec::new());
            }
        }
    }

    fn set_local(&mut self, now: Instant, candidate: RTCIceCandidateDescription) {
        let Ok(set) = self.gathering.set(&candidate) else {
            let reason = IgnoredReason::UnknownLocal;
            return self.event(IceEvent::CandidateIgnored { candidate, reason });
        };
        let set = set.cloned();
        if let Some(local) = &set {
            self.add_link(local.address);
        }
        if let (Some(local), Some(engine)) = (set, &mut self.engine) {
            engine.add_local(&local);
            self.upkeep_of_new_pairs(now);
        }
    }

    /// New pairs are checked at the fast pace, even when the rest has settled.
    pub(crate) fn upkeep_of_new_pairs(&mut self, now: Instant) {
        self.prepare_channels(now);
        self.upkeep.something_new(now);
        self.set_pace(Pace::Search);
        self.run_engine(now);
    }

    /// Takes a candidate of ours out of play.
    fn withdraw(&mut self, now: Instant, local: Local) {
        let lost = self.paths.remove_socket(local.socket);
        self.servers.unbound(now, local.socket, None);
        for of_server in self.gathering.remove_of_servers(local.socket) {
            self.retire(&of_server);
        }
        self.retire(&local);
        self.lose(now, lost);
        self.run_servers(now);
    }

    /// Paths are gone for good. If the selected one is among them, all that are left are checked
    /// at once.
    pub(crate) fn lose(&mut self, now: Instant, lost: Vec<Path>) {
        for path in lost {
            self.doubts.forget(path);
            self.outputs.push_back(Output::Path(PathUpdate::Lost(path)));
        }
        if self.state == IceState::Connected && self.paths.selected().is_none() {
            self.upkeep.hurry();
            self.paths.check_again();
            self.set_pace(Pace::Search);
            // Without any path in all that time, it is not connected. Where candidates come and go,
            // the engine has always something left to try, and consent would be the first to tell.
            self.upkeep.retry_within(now, self.config.timing.retry_interval);
        }
        self.run_engine(now);
    }

    /// Starts all checks afresh, and again after a while.
    fn form_pairs_again(&mut self, now: Instant) {
        if self.state != IceState::Disconnected {
            return;
        }
        self.upkeep.hurry();
        self.paths.check_again();
        self.set_pace(Pace::Search);
        if let Some(engine) = &mut self.engine {
            engine.recreate_pairs();
        }
        // Long enough for every pair to have two turns.
        let passes = self.config.timing.check_interval * 2 * self.pair_count() as u32;
        self.upkeep.retry_after(now, self.config.timing.retry_interval.max(passes));
    }

    pub(crate) fn set_pace(&mut self, pace: Pace) {
        if let Some(engine) = &mut self.engine {
            engine.set_pace(&self.config.timing, pace);
        }
    }

    /// Lets the engine act, after everything that may have changed it.
    pub(crate) fn run_engine(&mut self, now: Instant) {
        let Some(engine) = &mut self.engine else { return };
        engine.handle_timeout(now);
        // Before what is to be sent: a check that nominates is one of the selected pair.
        while let Some(event) = self.engine.as_mut().and_then(Engine::poll_event) {
            match event {
                EngineEvent::Selected(ends) => self.select(now, ends),
                EngineEvent::PairsFailed => {
                    if self.state == IceState::Connected && self.streams.may_come_back(now) {
                        self.upkeep.retry_after(now, COMING_BACK);
                    } else if self.awaits_new_credentials() {
                        self.upkeep.retry_after(now, self.config.timing.retry_interval);
                    } else if matches!(self.state, IceState::Checking | IceState::Connected) {
                        self.change_state(Cause::PairsFailed);
                        self.form_pairs_again(now);
                    }
                }
            }
        }
        while let Some((ends, datagram)) = self.engine.as_mut().and_then(Engine::poll_transmit) {
            self.transmit(now, ends, datagram);
        }
        self.engine_deadline = self.engine.as_mut().and_then(Engine::poll_timeout);
    }

    pub(crate) fn transmit(&mut self, now: Instant, ends: Ends, datagram: Bytes) {
        let fits = ends.carrier != Carrier::Udp || is_on_one_link(ends.local, ends.remote);
        if !fits && request_id(&datagram).is_some() {
            self.stats.requests_withheld += 1;
            return;
        }
        let Some(path) = self.path_between(ends) else {
            if ends.carrier == Carrier::Outgoing {
                self.want_stream(now, ends, datagram);
            }
            return;
        };
        if let Some(id) = request_id(&datagram) {
            if !self.wants_check(path) {
                self.stats.requests_withheld += 1;
                return;
            }
            if self.is_vouched_for(path) {
                return self.vouch(now, path, &datagram);
            }
            if !self.may_reach(path, ends, datagram.len()) {
                return;
            }
            let (check, nominates) = self.check_to_send(path, datagram);
            return self.send_check(now, path, (id, check), nominates);
        }
        if !self.may_reach(path, ends, datagram.len()) {
            return;
        }
        let is_incoming = ends.carrier == Carrier::Incoming;
        let response = if is_incoming { self.with_source(path, datagram) } else { datagram };
        self.config.counters.count(CheckEvent::ResponseSent);
        self.send(now, path, response);
    }

    /// Sends a check, and notes what it says of its path.
    pub(crate) fn send_check(
        &mut self,
        now: Instant,
        path: Path,
        (id, check): (TransactionId, Bytes),
        nominates: bool,
    ) {
        self.transactions.insert(now, id, path, nominates);
        self.count_check(path);
        self.paths.note_check(now, path, nominates);
        self.send(now, path, check);
    }

    /// Counts a check that goes out: of the selected path it renews consent (RFC 7675).
    pub(crate) fn count_check(&mut self, path: Path) {
        self.stats.requests_sent += 1;
        let renews = self.state == IceState::Connected && self.paths.selected() == Some(path);
        let event = if renews { CheckEvent::ConsentRequestSent } else { CheckEvent::RequestSent };
        self.config.counters.count(event);
    }

    /// Whether a check on this path is worth sending.
    ///
    /// Once connected, one that has been answered is not: it would be repeated on every pair
    /// until the connection settles, and thousands of connections that begin at a time would
    /// have no ear for each other's handshakes. But one that is better than the selected one may be
    /// waiting for the peer to check it, who may send no more than our checks allow it to.
    fn wants_check(&self, path: Path) -> bool {
        let selected = self.paths.selected().filter(|selected| *selected != path);
        let can_wait = self.state == IceState::Connected
            && self.upkeep.is_improving()
            && self.paths.is_checked(path)
            && selected.is_some_and(|selected| self.rank(path) <= self.rank(selected));
        !can_wait && self.upkeep.allows(path) && !self.paths.is_barred(path)
    }

    fn select(&mut self, now: Instant, ends: Ends) {
        let Some(path) = self.path_between(ends) else { return };
        self.engine_choice = Some(path);
        self.follow_choice(now, path);
    }

    /// Selects the engine's choice. One that was lost, as its candidate was gone for a while, waits
    /// for its next response: the engine remembers the one before.
    pub(crate) fn follow_choice(&mut self, now: Instant, path: Path) {
        if self.engine_choice == Some(path)
            && self.paths.is_answered(path)
            && self.takes_choice(path)
        {
            self.select_path(now, path);
        }
    }

    pub(crate) fn select_path(&mut self, now: Instant, path: Path) {
        let Some(Ends { carrier, local, remote }) = self.ends(path) else { return };
        let ours = self.gathering.by_end((carrier, local)).map(|local| local.description.clone());
        let theirs = self.remotes.describe((carrier, remote)).cloned();
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return };
        let first = self.state != IceState::Connected;
        let changed = self.paths.selected() != Some(path);
        if !first && !changed && self.delegation.covers(path) {
            return; // The port knows better when it was last answered.
        }
        let answered = self.paths.select(path).unwrap_or(now);
        self.upkeep.selected(now, path, answered);
        if first || changed {
            self.outputs.push_back(Output::Path(PathUpdate::Selected(path)));
            self.event(IceEvent::ActivePair { local: ours, remote: theirs });
        }
        if first {
            if let Some(round_trip) = self.paths.longest_trip(path) {
                self.event(IceEvent::RoundTrip(round_trip));
            }
            self.change_state(Cause::PairSelected);
        }
        if first || changed {
            self.announce(now);
        }
    }

    /// The one place where the state changes.
    pub(crate) fn change_state(&mut self, cause: Cause) {
        match state::next(self.state, cause) {
            Some(next) => {
                debug!(from = ?self.state, to = ?next, ?cause, "ICE state");
                if next != self.state {
                    self.state = next;
                    self.event(IceEvent::StateChanged(next));
                }
            }
            None => tracing::error!(state = ?self.state, ?cause, "illegal change of the ICE state"),
        }
    }

    pub(crate) fn output_path(&mut self, update: Option<PathUpdate>) {
        self.outputs.extend(update.map(Output::Path));
    }

    pub(crate) fn event(&mut self, event: IceEvent) {
        self.output(Output::Event(event));
    }

    pub(crate) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}
