//! What the agent does with its servers.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use is::stun::StunMessage;
use ortc_io::{Encapsulation, Path, SocketId};
use tracing::{debug, warn};

use super::{Done, Sorted, Taken};
use crate::aliases::Aliases;
use crate::description::Carrier;
use crate::engine::{Ends, verify};
use crate::link_local::is_on_one_link;
use crate::local::Local;
use crate::{IceAgent, IceEvent, IceState, IgnoredReason, Output, RTCIceCandidateDescription};

/// Most names of the peer's that are resolved at a time; a browser has one for each interface.
const MAX_UNRESOLVED: usize = 32;

impl IceAgent {
    /// Takes the addresses of a name that [`Output::Resolve`] asked for, or why there are none.
    pub fn handle_resolved(
        &mut self,
        now: Instant,
        token: u64,
        result: Result<Vec<IpAddr>, String>,
    ) {
        if self.state == IceState::Closed {
            return;
        }
        if let Some(at) = self.unresolved.iter().position(|(asked, _)| *asked == token) {
            let (_, mut candidate) = self.unresolved.remove(at);
            match result.unwrap_or_default().first() {
                Some(ip) => {
                    candidate.connection_address = ip.to_string();
                    self.set_remote(now, candidate);
                }
                None => self.ignore(candidate, IgnoredReason::NameUnresolved),
            }
            return;
        }
        self.servers.resolved(now, token, result);
        self.run_servers(now);
    }

    /// Has the name of a candidate resolved, if it is one that a browser hides behind. Others
    /// are not: what we look up, and when, is no business of the peer's.
    pub(crate) fn resolve(&mut self, candidate: &RTCIceCandidateDescription) -> bool {
        let name = &candidate.connection_address;
        if !ortc_io::is_of_the_link(name) || self.unresolved.len() >= MAX_UNRESOLVED {
            return false;
        }
        let (token, host) = (self.servers.token(), name.clone());
        self.unresolved.push((token, candidate.clone()));
        self.output(Output::Resolve { token, host });
        true
    }

    /// Whether a datagram came from a server and has been taken; else it is a peer's.
    pub(crate) fn taken_by_servers(&mut self, now: Instant, path: Path, datagram: &[u8]) -> bool {
        match self.servers.handle(now, path, datagram) {
            Sorted::Foreign => return false,
            Sorted::Server(Taken::Yes) => self.stats.server_responses += 1,
            Sorted::Server(Taken::Unasked) => self.stats.unasked_responses += 1,
            Sorted::Server(Taken::Forged) => self.stats.bad_integrity += 1,
            Sorted::Server(Taken::Malformed) => self.stats.malformed += 1,
            Sorted::Relayed { relayed, peer, datagram } => {
                self.relayed_from_stranger(now, relayed, peer, datagram);
            }
        }
        self.run_servers(now);
        true
    }

    /// Something came to our relay from an address that has no channel. Anybody can make it
    /// look so; only what shows our password gets one.
    fn relayed_from_stranger(
        &mut self,
        now: Instant,
        relayed: SocketAddr,
        peer: SocketAddr,
        datagram: &[u8],
    ) {
        let is_ours = |message: StunMessage<'_>| {
            let ours = message.split_username().map(|(ours, _)| ours);
            message.is_binding_request()
                && ours == Some(self.config.credentials.username_frag.as_str())
                && verify(&message, &self.config.credentials.password)
        };
        if self.gathering.by_address(relayed).is_none() {
            self.stats.not_set += 1;
        } else if !StunMessage::parse(datagram).is_ok_and(is_ours) {
            self.stats.stray_indications += 1;
        } else if let Some(path) = self.servers.path_to(relayed, peer) {
            self.handle_datagram(now, path, datagram);
        } else {
            self.stats.over_limit += 1;
        }
    }

    /// What the engine takes for the two ends of a path: the base of a candidate of ours that has
    /// been set, and theirs.
    pub(crate) fn ends(&self, path: Path) -> Option<Ends> {
        let ends = match path.encapsulation {
            Encapsulation::Plain => {
                let local = self.gathering.by_socket(path.socket)?.address;
                return Some(Ends { carrier: Carrier::Udp, local, remote: path.remote });
            }
            Encapsulation::ChannelData(_) => {
                let (local, remote) = self.servers.ends(path)?;
                Ends { carrier: Carrier::Udp, local, remote }
            }
            Encapsulation::Rfc4571 => self.streams.ends(path.socket)?,
        };
        self.gathering.by_end((ends.carrier, ends.local)).map(|_| ends)
    }

    /// The path between two ends of the engine.
    pub(crate) fn path_between(&mut self, ends: Ends) -> Option<Path> {
        let known = self.gathering.by_end((ends.carrier, ends.local))?;
        if ends.carrier != Carrier::Udp {
            return self.streams.path_between(ends);
        }
        if !known.is_relayed() {
            return Some(Path::plain(known.socket, ends.remote));
        }
        let path = self.servers.path_to(ends.local, ends.remote);
        self.stats.over_limit += u64::from(path.is_none());
        path
    }

    /// Sends a check or a response, on a relayed path perhaps only when its channel is bound.
    pub(crate) fn send(&mut self, now: Instant, path: Path, datagram: Bytes) {
        if let Encapsulation::ChannelData(_) = path.encapsulation {
            self.stats.over_limit += u64::from(!self.servers.send(now, path, datagram));
            self.take_done(now);
        } else {
            self.output(Output::Transmit { path, datagram });
        }
    }

    /// Has the channels bound that checks of a search will need, so that none waits for its turn
    /// and then for its channel.
    pub(crate) fn prepare_channels(&mut self, now: Instant) {
        if self.engine.is_none() || self.state == IceState::Connected {
            return;
        }
        let relayed: Vec<SocketAddr> =
            self.gathering.set_bases().filter(|it| it.is_relayed()).map(|it| it.address).collect();
        if relayed.is_empty() {
            return;
        }
        let signalled = self.remotes.signalled().map(|(usable, _)| usable);
        let peers: Vec<SocketAddr> =
            signalled.filter(|it| it.carrier == Carrier::Udp).map(|it| it.address).collect();
        for relay in relayed {
            let reached = peers.iter().filter(|peer| is_on_one_link(relay, **peer));
            for peer in reached.filter(|peer| peer.is_ipv4() == relay.is_ipv4()) {
                self.servers.prepare(now, relay, *peer);
            }
        }
        self.take_done(now);
    }

    /// Tells the owner of a candidate, if it wants to hear of its type.
    pub(crate) fn report(&mut self, local: Option<&Local>) {
        let aliases = self.gathering.aliases.as_mut();
        for (address, name) in aliases.map(Aliases::take_new).unwrap_or_default() {
            self.output(Output::PublishName { name, address });
        }
        if let Some(description) = local.filter(|l| !l.hidden).map(|l| l.description.clone()) {
            self.event(IceEvent::CandidateFound(description));
        }
    }

    /// Carries out what the servers' clients want, and looks whether gathering is over.
    pub(crate) fn run_servers(&mut self, now: Instant) {
        self.take_done(now);
        self.after_gathering(now);
    }

    fn take_done(&mut self, now: Instant) {
        while let Some(done) = self.servers.poll() {
            match done {
                Done::Resolve { token, host } => self.output(Output::Resolve { token, host }),
                Done::Bind { token, address } => self.output(Output::Bind { token, address }),
                Done::Open { token, server, tls } => {
                    self.output(Output::OpenStream { token, server, tls });
                }
                Done::Transmit { path, datagram } => {
                    if path.encapsulation == Encapsulation::Plain {
                        self.stats.server_requests += 1;
                    }
                    self.output(Output::Transmit { path, datagram });
                }
                Done::Reflexive { socket, mapped } => {
                    let found = self.gathering.add_reflexive(socket, mapped).cloned();
                    self.report(found.as_ref());
                }
                Done::Relayed(relay) => {
                    let found = self.gathering.add_relayed(relay).cloned();
                    self.report(found.as_ref());
                }
                Done::Lost { socket, server, relayed } => {
                    self.lose_relay(now, socket, server, relayed);
                }
                Done::Close(socket) => self.output(Output::Unbind(socket)),
                Done::PeerRefused => self.stats.peers_refused += 1,
                Done::Failed { uri, reason } => {
                    warn!(server = uri, %reason, "an ICE server is of no use");
                    self.stats.servers_failed += 1;
                    self.event(IceEvent::ServerFailed { url: uri, reason });
                }
            }
        }
    }

    fn lose_relay(
        &mut self,
        now: Instant,
        socket: SocketId,
        server: SocketAddr,
        relayed: SocketAddr,
    ) {
        let lost = self.paths.remove_relayed(socket, server);
        if let Some(local) = self.gathering.remove_relayed(relayed) {
            debug!(%relayed, "a relay is gone");
            self.retire(&local);
        }
        self.lose(now, lost);
    }

    /// Takes a candidate out of the engine and tells the owner.
    pub(crate) fn retire(&mut self, local: &Local) {
        let still_used = self.gathering.by_end(local.end()).is_some();
        if let Some(engine) = self.engine.as_mut().filter(|_| local.set && !still_used) {
            engine.withdraw_local(local);
        }
        if !local.hidden {
            self.event(IceEvent::CandidateWithdrawn(local.description.clone()));
        }
    }

    /// Lets the servers' clients act at their time.
    pub(crate) fn servers_timeout(&mut self, now: Instant) {
        let paths = &self.paths;
        let keep = keeps_mappings(self.state);
        self.servers.handle_timeout(now, keep, &|path| paths.is_known(path));
        self.run_servers(now);
    }

    pub(crate) fn servers_deadline(&self) -> Option<Instant> {
        self.servers.poll_timeout(keeps_mappings(self.state))
    }
}

/// Once connected, the checks of the selected pair keep its mapping alive.
fn keeps_mappings(state: IceState) -> bool {
    matches!(state, IceState::AwaitingConnect | IceState::Checking | IceState::Disconnected)
}
