use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::Network;
use super::sockets::IoState;
use crate::{DatagramIo, InterfaceAddress, ReceiveBatch, SendBatch, SendReport, SocketId};

/// A handle to a host of a simulated network; clones are the same host.
#[derive(Debug, Clone)]
pub struct Host {
    pub(super) network: Network,
    pub(super) index: usize,
}

impl Host {
    /// A socket layer of this host. A host may have several, as processes of a real one
    /// would; they share its ports. Dropping it closes its sockets.
    pub fn io(&self) -> SimIo {
        let readiness = Arc::new(Notify::new());
        let mut wire = self.network.lock();
        wire.ios.push(IoState {
            host: self.index,
            sockets: Vec::new(),
            ready: VecDeque::new(),
            readiness: Arc::clone(&readiness),
            failing: Vec::new(),
        });
        let index = wire.ios.len() - 1;
        drop(wire);
        SimIo { network: self.network.clone(), host: self.index, index, readiness }
    }

    /// The name it was given.
    pub fn name(&self) -> String {
        self.network.lock().hosts[self.index].name.clone()
    }

    /// Its addresses that are up, loopback aside.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let wire = self.network.lock();
        wire.hosts[self.index].addresses.iter().filter(|(_, up)| *up).map(|(a, _)| *a).collect()
    }

    /// Gives it a further address, which is up.
    ///
    /// # Panics
    /// When another host or NAT of the same network has it.
    pub fn add_address(&self, address: IpAddr) {
        let mut wire = self.network.lock();
        wire.add_address(self.index, address);
        wire.hosts[self.index].changes.send_replace(());
    }

    /// Has the system take nothing of what this host sends, as where it is out of buffers
    /// (`ENOBUFS`), has no route (`ENETUNREACH`), or a firewall forbids it (`EPERM`); or take it
    /// again. What is sent meanwhile counts as dropped.
    pub fn refuse_sends(&self, refuse: bool) {
        self.network.lock().hosts[self.index].refuses_sends = refuse;
    }

    /// Has the system refuse every socket with this error, as where it is out of descriptors; or
    /// bind them again. Sockets that are bound stay so.
    pub fn refuse_binds(&self, error: Option<io::ErrorKind>) {
        self.network.lock().hosts[self.index].refuses_binds = error;
    }

    /// Has every socket that this host has now fail with an error when it is read next.
    pub fn break_sockets(&self, error: io::ErrorKind) {
        self.network.lock().break_sockets(self.index, error);
    }

    /// The addresses that sockets of this host are bound to at the moment.
    pub fn bound(&self) -> Vec<SocketAddr> {
        self.network.lock().bound(self.index)
    }

    /// Takes an address up or down. While it is down it is not enumerated, nothing can be
    /// bound to it, and what is sent from or to it goes nowhere; sockets stay bound.
    ///
    /// # Panics
    /// When it is no address of this host.
    pub fn set_up(&self, address: IpAddr, up: bool) {
        let mut wire = self.network.lock();
        let host = &mut wire.hosts[self.index];
        let known = host.addresses.iter_mut().find(|(known, _)| *known == address);
        known.unwrap_or_else(|| panic!("{} has no address {address}", host.name)).1 = up;
        host.changes.send_replace(());
    }
}

/// The sockets of a simulated host.
#[derive(Debug)]
pub struct SimIo {
    network: Network,
    host: usize,
    index: usize,
    readiness: Arc<Notify>,
}

impl SimIo {
    /// Is notified (`notify_one`, so nothing is missed in between) when a datagram has
    /// arrived for one of these sockets.
    pub fn readiness(&self) -> Arc<Notify> {
        Arc::clone(&self.readiness)
    }

    /// Changes when an address of this host is added, goes up or down: what
    /// [`InterfaceWatch`](crate::InterfaceWatch) notices of a real one.
    pub fn interface_changes(&self) -> watch::Receiver<()> {
        self.network.lock().hosts[self.host].changes.subscribe()
    }
}

impl DatagramIo for SimIo {
    fn bind(&mut self, address: SocketAddr) -> io::Result<(SocketId, SocketAddr)> {
        self.network.lock().bind(self.index, address)
    }

    fn close(&mut self, socket: SocketId) {
        self.network.lock().close(self.index, socket);
    }

    fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        failed: &mut Vec<(SocketId, io::Error)>,
    ) -> bool {
        let mut wire = self.network.lock();
        let failing = &mut wire.ios[self.index].failing;
        failed.extend(failing.drain(..).map(|(socket, error)| (socket, error.into())));
        while !batch.is_full() {
            let Some((socket, remote, bytes)) = wire.take(self.index) else {
                return false;
            };
            // One that is too long is counted by the batch, as a kernel would truncate it.
            batch.push(socket, remote, &bytes);
        }
        !wire.ios[self.index].ready.is_empty()
    }

    fn send(&mut self, batch: &mut SendBatch) -> SendReport {
        let mut report = SendReport::default();
        for (socket, remote, datagram) in batch.iter() {
            let source = {
                let wire = self.network.lock();
                let refuses = wire.hosts[self.host].refuses_sends;
                let local = wire.local(self.index, socket).filter(|_| !refuses);
                local.map(|local| wire.source(self.host, local, remote))
            };
            report.calls += 1;
            match source {
                Some(from) if self.network.send(self.host, from, remote, datagram) => {
                    report.sent += 1;
                }
                _ => report.dropped += 1,
            }
        }
        batch.clear();
        report
    }

    fn interfaces(&mut self) -> io::Result<Vec<InterfaceAddress>> {
        Ok(self.network.lock().interfaces(self.host))
    }
}

impl Drop for SimIo {
    fn drop(&mut self) {
        self.network.lock().close_all(self.index);
    }
}
