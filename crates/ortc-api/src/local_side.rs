//! One local side of several connections: what an application forks with.

use std::sync::{Arc, Mutex};

use actix::Recipient;
use ortc_dtls::Certificate;
use ortc_ice::{IceCommand, SharedHost};
use ortc_io::{ConnectionId, SocketCommand};

use crate::connection::{Command, RTCConnectionSide, WeakRTCConnection};
use crate::engine::Engine;
use crate::error::ConnectError;
use crate::media::lock;
use crate::socket::SocketHold;

/// The sockets, credentials, certificate and candidates of a connection, for others to share.
///
/// It is kept by the sockets that an application has of it and by the forks; dropping the last
/// lets go of the sockets, which the connection itself may use on.
pub(crate) struct LocalSide {
    pub(crate) engine: Engine,
    /// The media thread that the sockets are on.
    pub(crate) place: usize,
    pub(crate) side: RTCConnectionSide,
    pub(crate) certificate: Certificate,
    /// The port that the connection was made on, which keeps the sockets; without one this does.
    pub(crate) port: Option<Arc<SocketHold>>,
    sockets: Mutex<Sockets>,
}

#[derive(Default)]
struct Sockets {
    hosts: Vec<SharedHost>,
    /// Whether the gathering of the connection is over, or the connection is.
    complete: bool,
    owner: Option<Recipient<SocketCommand>>,
    forks: Vec<WeakRTCConnection>,
    /// Who is connected to which peer, by the peer's username fragment.
    peers: Vec<(ConnectionId, String)>,
}

impl LocalSide {
    pub(crate) fn new(
        engine: Engine,
        place: usize,
        side: RTCConnectionSide,
        certificate: Certificate,
        port: Option<Arc<SocketHold>>,
    ) -> Self {
        let sockets = Mutex::new(Sockets::default());
        Self { engine, place, side, certificate, port, sockets }
    }

    /// The sockets, as far as they are bound.
    pub(crate) fn hosts(&self) -> Vec<SharedHost> {
        lock(&self.sockets).hosts.clone()
    }

    /// Notes sockets that the connection shares, and tells the forks.
    pub(crate) fn add(
        &self,
        owner: &Recipient<SocketCommand>,
        hosts: Vec<SharedHost>,
        complete: bool,
    ) {
        let mut sockets = lock(&self.sockets);
        sockets.owner.get_or_insert_with(|| owner.clone());
        for host in &hosts {
            // One address has one socket; an older one has gone with its interface.
            sockets.hosts.retain(|known| known.shared.local.ip() != host.shared.local.ip());
            sockets.hosts.push(*host);
        }
        sockets.complete |= complete;
        sockets.forks.retain(|fork| fork.upgrade().is_some());
        for fork in &sockets.forks {
            fork.tell(Command::Ice(IceCommand::AddShared { hosts: hosts.clone(), complete }));
        }
    }

    /// The connection has ended: there will be no more sockets.
    pub(crate) fn complete(&self) {
        let mut sockets = lock(&self.sockets);
        sockets.complete = true;
        for fork in &sockets.forks {
            fork.tell(Command::Ice(IceCommand::AddShared { hosts: Vec::new(), complete: true }));
        }
    }

    /// Tells a new fork of the sockets that there are, and of those that will be.
    pub(crate) fn register(&self, fork: WeakRTCConnection) {
        let mut sockets = lock(&self.sockets);
        let (hosts, complete) = (sockets.hosts.clone(), sockets.complete);
        fork.tell(Command::Ice(IceCommand::AddShared { hosts, complete }));
        sockets.forks.push(fork);
    }

    /// Notes whom a connection connects to.
    ///
    /// # Errors
    /// When another one of the same local side does already.
    pub(crate) fn claim(&self, fork: ConnectionId, peer: &str) -> Result<(), ConnectError> {
        let mut sockets = lock(&self.sockets);
        if sockets.peers.iter().any(|(other, known)| *other != fork && known == peer) {
            return Err(ConnectError::ForkExists);
        }
        sockets.peers.retain(|(other, _)| *other != fork);
        sockets.peers.push((fork, peer.to_owned()));
        Ok(())
    }

    /// A connection has ended: its peer may be called anew.
    pub(crate) fn leave(&self, fork: ConnectionId) {
        lock(&self.sockets).peers.retain(|(other, _)| *other != fork);
    }
}

impl Drop for LocalSide {
    fn drop(&mut self) {
        let sockets = lock(&self.sockets);
        if let (None, Some(owner)) = (&self.port, &sockets.owner) {
            for host in &sockets.hosts {
                owner.do_send(SocketCommand::ReleaseShared(host.shared.socket));
            }
        }
    }
}
