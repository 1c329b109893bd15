//! What the agent does with TCP candidates and their streams.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use is::stun::StunMessage;
use ortc_io::{Encapsulation, ListenOn, Path, SocketId};
use tracing::debug;

use super::{Gone, Port, Wanted};
use crate::description::Carrier;
use crate::engine::{Ends, sha1_hmac};
use crate::{IceAgent, IceState, Output};

/// Ports of a range that are tried for one address.
const MAX_PORTS_TRIED: u32 = 64;

/// Longest response that the engine makes.
const MAX_RESPONSE: usize = 256;

impl IceAgent {
    /// Brings TCP candidates in line with the addresses of this host.
    pub(crate) fn gather_tcp(&mut self, now: Instant) {
        if !self.config.candidate_types.host {
            return;
        }
        let admitted = self.gathering.admitted_for_tcp();
        self.withdraw_tcp(now, &admitted);
        // Who waits to be found does not go looking.
        if self.config.tcp.active && !self.config.lite {
            for ip in &admitted {
                self.add_tcp(Carrier::Outgoing, SocketAddr::new(*ip, 0), None);
            }
        }
        if !self.config.tcp.passive {
            return;
        }
        if self.config.tcp_port.is_some() {
            match self.streams.ports.first().map(|port| port.local) {
                None => self.listen(None),
                Some(Some(local)) => self.add_passive(None, local),
                Some(None) => {}
            }
            return;
        }
        for ip in admitted {
            if !self.streams.ports.iter().any(|port| port.ip == Some(ip)) {
                self.listen(Some(ip));
            }
        }
    }

    fn withdraw_tcp(&mut self, now: Instant, admitted: &[IpAddr]) {
        let gone = self.gathering.remove_tcp(|local| !admitted.contains(&local.address.ip()));
        for local in gone {
            self.close_streams(now, |ends| (ends.carrier, ends.local) == local.end());
            self.retire(&local);
        }
        let is_gone = |port: &mut Port| port.ip.is_some_and(|ip| !admitted.contains(&ip));
        let closed: Vec<u64> =
            self.streams.ports.extract_if(.., is_gone).map(|port| port.token).collect();
        for token in closed {
            self.output(Output::StopListening(token));
        }
    }

    fn listen(&mut self, ip: Option<IpAddr>) {
        let token = self.streams.token();
        self.streams.ports.push(Port { token, ip, tried: 0, local: None });
        self.ask_for_port(token);
    }

    fn ask_for_port(&mut self, token: u64) {
        let Some(port) = self.streams.ports.iter().find(|port| port.token == token) else { return };
        let on = match (port.ip, &self.config.tcp_port) {
            (Some(ip), _) => {
                ListenOn::Own(SocketAddr::new(ip, self.gathering.port_to_try(token, port.tried)))
            }
            (None, Some(shared)) => ListenOn::Shared(shared.listener.clone()),
            (None, None) => return,
        };
        let credentials = Box::new(self.config.credentials.clone());
        self.output(Output::Listen { token, on, credentials });
    }

    /// The socket port takes streams.
    pub(crate) fn listening(&mut self, now: Instant, token: u64, local: SocketAddr) {
        match self.streams.ports.iter_mut().find(|port| port.token == token) {
            Some(port) => {
                port.local = Some(local);
                let ip = port.ip;
                self.add_passive(ip, local);
                self.after_gathering(now);
            }
            None => self.output(Output::StopListening(token)),
        }
    }

    fn add_passive(&mut self, ip: Option<IpAddr>, local: SocketAddr) {
        if ip.is_some() {
            return self.add_tcp(Carrier::Incoming, local, None);
        }
        let announced = self.config.tcp_port.as_ref().and_then(|port| port.announced);
        let stands_for = |ip: &IpAddr| {
            let is_wildcard = local.ip().is_unspecified() && ip.is_ipv4() == local.is_ipv4();
            is_wildcard || *ip == local.ip()
        };
        let mut addresses = self.gathering.admitted_for_tcp();
        addresses.retain(stands_for);
        // Where several addresses are announced as one, one is enough.
        addresses.truncate(if announced.is_some() { 1 } else { usize::MAX });
        for ip in addresses {
            self.add_tcp(Carrier::Incoming, SocketAddr::new(ip, local.port()), announced);
        }
    }

    fn add_tcp(&mut self, carrier: Carrier, address: SocketAddr, announced: Option<IpAddr>) {
        let found = self.gathering.add_tcp(carrier, address, announced).cloned();
        self.report(found.as_ref());
    }

    /// A stream or a port was refused; false if it was neither.
    pub(crate) fn tcp_failed(&mut self, now: Instant, token: u64) -> bool {
        if self.streams.open_failed(now, token) {
            return true;
        }
        let Some(at) = self.streams.ports.iter().position(|port| port.token == token) else {
            return false;
        };
        let port = &mut self.streams.ports[at];
        port.tried += 1;
        if port.ip.is_some() && port.tried < self.gathering.ports_to_try().min(MAX_PORTS_TRIED) {
            self.ask_for_port(token);
        } else {
            self.streams.ports.remove(at);
            self.stats.bind_failures += 1;
            self.after_gathering(now);
        }
        true
    }

    /// A stream of ours is open; false if it is none.
    pub(crate) fn stream_opened(&mut self, now: Instant, token: u64, socket: SocketId) -> bool {
        match self.streams.opened(now, token, socket) {
            Some((ends, check)) => self.transmit(now, ends, check),
            // What it was for is gone.
            None if token & super::TOKEN != 0 && token < super::TOKEN << 1 => {
                self.output(Output::Unbind(socket));
            }
            None => return false,
        }
        true
    }

    /// The peer has opened a stream, or somebody who has recorded a check of the peer's.
    pub(crate) fn stream_accepted(
        &mut self,
        now: Instant,
        socket: SocketId,
        local: SocketAddr,
        source: SocketAddr,
    ) {
        let passive = || {
            let fits = |end: SocketAddr| end.is_ipv4() == local.is_ipv4();
            let set = self.gathering.set_candidates().filter(|it| it.carrier == Carrier::Incoming);
            set.map(|it| it.address).filter(move |address| fits(*address))
        };
        // From behind a NAT it may have come by another address than those we know.
        let Some(ours) = passive().find(|it| *it == local).or_else(|| passive().next()) else {
            self.stats.not_set += 1;
            return self.output(Output::Unbind(socket));
        };
        let selected = self.paths.selected();
        let keeps = |socket| selected.is_some_and(|path| path.socket == socket);
        match self.streams.accepted(now, socket, (ours, source), keeps) {
            Some(displaced) => {
                self.stats.streams_accepted += 1;
                if let Some(gone) = displaced {
                    self.output(Output::Unbind(gone.socket));
                    self.after_stream(now, &gone);
                }
            }
            None => {
                self.stats.over_limit += 1;
                self.output(Output::Unbind(socket));
            }
        }
    }

    /// A stream has ended by itself; false if the socket was none.
    pub(crate) fn stream_ended(&mut self, now: Instant, socket: SocketId) -> bool {
        let was_of_use = self.paths.is_checked_on(socket);
        let Some(gone) = self.streams.ended(now, socket, was_of_use) else { return false };
        debug!(?gone, "a stream has ended");
        self.stats.streams_ended += 1;
        self.after_stream(now, &gone);
        true
    }

    /// What the engine knows of a stream is past: its pair is a new one.
    fn after_stream(&mut self, now: Instant, gone: &Gone) {
        let Ends { carrier, local, remote } = gone.ends;
        let lost = self.paths.remove_socket(gone.socket);
        if let Some(engine) = &mut self.engine {
            if carrier == Carrier::Outgoing {
                if let Some(ours) = self.gathering.by_end((carrier, local)) {
                    engine.withdraw_local(ours);
                    engine.add_local(ours);
                }
            } else if let Some((usable, description)) = self.remotes.unlearn((carrier, remote)) {
                engine.withdraw_remote(usable, &description);
            }
        }
        self.lose(now, lost);
    }

    /// Closes streams between ends that are gone for good.
    pub(crate) fn close_streams(&mut self, now: Instant, gone: impl Fn(Ends) -> bool) {
        for socket in self.streams.forget(gone) {
            self.output(Output::Unbind(socket));
            let lost = self.paths.remove_socket(socket);
            self.lose(now, lost);
        }
    }

    /// Closes streams that are of no use, and those whose path was just given up.
    pub(crate) fn close_idle_streams(&mut self, now: Instant, given_up: &[Path]) {
        let paths = &self.paths;
        let mut idle = self.streams.idle(now, |socket| paths.is_on(socket));
        let of_stream = |path: &&Path| path.encapsulation == Encapsulation::Rfc4571;
        idle.extend(given_up.iter().filter(of_stream).map(|path| path.socket));
        for socket in idle {
            if let Some(gone) = self.streams.ended(now, socket, false) {
                self.output(Output::Unbind(socket));
                self.after_stream(now, &gone);
            }
        }
    }

    /// When [`close_idle_streams`](Self::close_idle_streams) has something to do.
    pub(crate) fn idle_streams_at(&self) -> Option<Instant> {
        self.streams.next_idle(|socket| self.paths.is_on(socket))
    }

    /// A check has no stream to go on.
    pub(crate) fn want_stream(&mut self, now: Instant, ends: Ends, check: Bytes) {
        if !self.wants_streams() {
            self.stats.requests_withheld += 1;
            return;
        }
        match self.streams.want(now, ends, check) {
            Wanted::Open { token } => {
                self.stats.streams_opened += 1;
                let Ends { local, remote, .. } = ends;
                self.output(Output::OpenPeerStream { token, from: local.ip(), remote });
            }
            Wanted::Nothing => {}
            Wanted::TooMany => self.stats.over_limit += 1,
        }
    }

    /// Whether streams are worth being opened: not once a path is there that goes before them.
    fn wants_streams(&self) -> bool {
        let is_direct = |path: Path| path.encapsulation == Encapsulation::Plain;
        let does =
            self.state == IceState::Connected && self.paths.selected().is_some_and(is_direct);
        !(self.upkeep.is_settled() || does && self.upkeep.is_improving())
    }

    /// The engine's response on a stream of the peer's, with the address that the stream is from
    /// in place of its place.
    pub(crate) fn with_source(&self, path: Path, datagram: Bytes) -> Bytes {
        let Ok(response) = StunMessage::parse(&datagram) else { return datagram };
        if !response.is_successful_binding_response() {
            return datagram;
        }
        let told = StunMessage::binding_reply(response.trans_id(), path.remote);
        let (password, mut buffer) =
            (self.config.credentials.password.as_bytes(), [0; MAX_RESPONSE]);
        match told.to_bytes(Some(password), &mut buffer, sha1_hmac) {
            Ok(len) => Bytes::copy_from_slice(&buffer[..len]),
            Err(_) => datagram,
        }
    }
}
