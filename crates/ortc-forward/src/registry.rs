use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actix::Recipient;
use ortc_io::{
    Attach, ConnectionId, DatagramReceived, Detached, SharedBound, SocketEvent, SocketId,
};
use ortc_rtp::RouteEvent;

use crate::{ForwarderCommand, ForwarderEvent};

/// Who hears what happens to which connection, and which questions are still open: so that
/// they can be answered even if the forwarder never will.
#[derive(Default)]
pub(crate) struct Registry {
    entries: BTreeMap<ConnectionId, Entry>,
    /// Who has asked for sockets to share, by token.
    sharing: BTreeMap<u64, Recipient<SharedBound>>,
    next_token: u64,
    /// Datagrams for which a mailbox had no room.
    pub(crate) mailbox_full: u64,
}

#[derive(Default)]
struct Entry {
    ports: Option<Attach>,
    routes: Option<Recipient<RouteEvent>>,
    done: Vec<Recipient<Detached>>,
    sockets: Vec<SocketId>,
    /// Tokens and addresses of sockets that were asked for.
    binding: Vec<(u64, SocketAddr)>,
}

impl Registry {
    pub(crate) fn attach(&mut self, attach: Attach) {
        let connection = attach.connection;
        self.entries.entry(connection).or_default().ports = Some(attach);
    }

    pub(crate) fn open(&mut self, connection: ConnectionId, events: Recipient<RouteEvent>) {
        self.entries.entry(connection).or_default().routes = Some(events);
    }

    pub(crate) fn detaching(&mut self, connection: ConnectionId, done: Recipient<Detached>) {
        self.entries.entry(connection).or_default().done.push(done);
    }

    pub(crate) fn binding(&mut self, connection: ConnectionId, token: u64, address: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&connection) {
            entry.binding.push((token, address));
        }
    }

    /// Answers that a socket or a stream could not be had.
    pub(crate) fn bind_failed(
        &mut self,
        connection: ConnectionId,
        token: u64,
        address: SocketAddr,
        error: io::Error,
    ) {
        let error = Arc::new(error);
        self.socket(connection, SocketEvent::BindFailed { token, address, error });
    }

    /// Tells a connection what has become of a port for streams.
    pub(crate) fn tell(&mut self, connection: ConnectionId, event: SocketEvent) {
        self.socket(connection, event);
    }

    /// Notes who wants sockets to share; returns the token of the answer.
    pub(crate) fn sharing(&mut self, answer: Recipient<SharedBound>) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.sharing.insert(token, answer);
        token
    }

    /// Hands an event to whom it concerns; nobody is left to hear of a connection that has
    /// been detached.
    pub(crate) fn dispatch(&mut self, event: ForwarderEvent) {
        match event {
            ForwarderEvent::Stun(datagram) => self.datagram(datagram, |ports| &ports.stun),
            ForwarderEvent::Dtls(datagram) => self.datagram(datagram, |ports| &ports.dtls),
            ForwarderEvent::Socket(connection, event) => self.socket(connection, event),
            ForwarderEvent::SharedBound(token, result) => {
                if let Some(answer) = self.sharing.remove(&token) {
                    answer.do_send(SharedBound(result));
                }
            }
            ForwarderEvent::Detached(connection) => self.detached(connection),
            ForwarderEvent::Route(event) => self.route(event),
        }
    }

    fn datagram(
        &mut self,
        datagram: DatagramReceived,
        port: impl Fn(&Attach) -> &Recipient<DatagramReceived>,
    ) {
        let entry = self.entries.get(&datagram.connection);
        if let Some(ports) = entry.and_then(|entry| entry.ports.as_ref())
            && port(ports).try_send(datagram).is_err()
        {
            self.mailbox_full += 1;
        }
    }

    fn socket(&mut self, connection: ConnectionId, event: SocketEvent) {
        let Some(entry) = self.entries.get_mut(&connection) else { return };
        match &event {
            SocketEvent::Bound { token, socket, .. } => {
                entry.binding.retain(|(open, _)| open != token);
                entry.sockets.push(*socket);
            }
            SocketEvent::BindFailed { token, .. } => {
                entry.binding.retain(|(open, _)| open != token);
            }
            SocketEvent::Accepted { socket, .. } => entry.sockets.push(*socket),
            SocketEvent::Unbound { socket, .. } => entry.sockets.retain(|open| open != socket),
            SocketEvent::Interfaces(_)
            | SocketEvent::Listening { .. }
            | SocketEvent::PathTaken(_)
            | SocketEvent::PathDoubted(_)
            | SocketEvent::ConsentDelegated { .. }
            | SocketEvent::ConsentReturned { .. } => {}
        }
        if let Some(ports) = &entry.ports {
            ports.events.do_send(event);
        }
    }

    fn route(&mut self, event: RouteEvent) {
        let (connection, closed) = match event {
            RouteEvent::KeyFrameRequested(connection, _) => (connection, false),
            RouteEvent::Closed(connection) => (connection, true),
            RouteEvent::ReceiverConnected(connection, _)
            | RouteEvent::ReceiverDisconnected(connection, ..)
            | RouteEvent::BandwidthChanged(connection, _)
            | RouteEvent::UnknownTrack(connection, _) => (connection, false),
        };
        let Some(entry) = self.entries.get_mut(&connection) else { return };
        if let Some(routes) = &entry.routes {
            routes.do_send(event);
        }
        if closed {
            entry.routes = None;
            self.forget_if_unused(connection);
        }
    }

    fn detached(&mut self, connection: ConnectionId) {
        let Some(entry) = self.entries.get_mut(&connection) else { return };
        entry.ports = None;
        entry.sockets.clear();
        entry.binding.clear();
        for done in entry.done.drain(..) {
            done.do_send(Detached(connection));
        }
        self.forget_if_unused(connection);
    }

    fn forget_if_unused(&mut self, connection: ConnectionId) {
        let unused = self.entries.get(&connection).is_some_and(|entry| {
            entry.ports.is_none() && entry.routes.is_none() && entry.done.is_empty()
        });
        if unused {
            self.entries.remove(&connection);
        }
    }

    /// Answers a command that the forwarder will never see.
    pub(crate) fn refuse(&mut self, command: &ForwarderCommand) {
        match command {
            ForwarderCommand::Bind(bind) => self.socket(
                bind.connection,
                SocketEvent::BindFailed {
                    token: bind.token,
                    address: bind.address,
                    error: stopped(),
                },
            ),
            ForwarderCommand::Adopt { accepted: true, .. } => {}
            ForwarderCommand::Adopt { connection, token, server, .. } => {
                let event =
                    SocketEvent::BindFailed { token: *token, address: *server, error: stopped() };
                self.socket(*connection, event);
            }
            ForwarderCommand::BindShared { token, .. } => {
                self.dispatch(ForwarderEvent::SharedBound(*token, Err(stopped())));
            }
            ForwarderCommand::Join(join) => self.socket(
                join.connection,
                SocketEvent::BindFailed {
                    token: join.token,
                    address: join.shared.local,
                    error: stopped(),
                },
            ),
            ForwarderCommand::Unbind(connection, socket) => self.socket(
                *connection,
                SocketEvent::Unbound { socket: *socket, error: Some(stopped()) },
            ),
            ForwarderCommand::EnumerateInterfaces(connection) => {
                self.socket(*connection, SocketEvent::Interfaces(Vec::new()));
            }
            ForwarderCommand::Detach(connection) => self.detached(*connection),
            ForwarderCommand::Open(connection) | ForwarderCommand::Close(connection) => {
                self.route(RouteEvent::Closed(*connection));
            }
            _ => {}
        }
    }

    /// Reports to every connection that the forwarder is gone, and answers what is open.
    pub(crate) fn fail_all(&mut self) {
        for (_, answer) in std::mem::take(&mut self.sharing) {
            answer.do_send(SharedBound(Err(stopped())));
        }
        let connections: Vec<_> = self.entries.keys().copied().collect();
        for connection in connections {
            let Some(entry) = self.entries.get_mut(&connection) else { continue };
            let (sockets, binding) =
                (std::mem::take(&mut entry.sockets), std::mem::take(&mut entry.binding));
            let detaching = !entry.done.is_empty();
            for (token, address) in binding {
                let error = stopped();
                self.socket(connection, SocketEvent::BindFailed { token, address, error });
            }
            for socket in sockets {
                let error = Some(stopped());
                self.socket(connection, SocketEvent::Unbound { socket, error });
            }
            self.route(RouteEvent::Closed(connection));
            if detaching {
                self.detached(connection);
            }
        }
    }
}

fn stopped() -> Arc<io::Error> {
    Arc::new(io::Error::new(io::ErrorKind::BrokenPipe, "the packet forwarder has stopped"))
}
