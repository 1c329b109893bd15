use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::batch::MAX_DATAGRAM;
use crate::udp::open;
use crate::{
    DatagramIo, InterfaceAddress, ReceiveBatch, SendBatch, SendReport, SocketId, interfaces,
};

/// UDP sockets on tokio's reactor: a datagram a call, which is enough for control traffic.
#[derive(Debug, Default)]
pub(super) struct TokioIo {
    slots: Vec<Slot>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Sockets that may have something, each at most once.
    ready: Mutex<Vec<SocketId>>,
    readiness: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    socket: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    socket: Arc<UdpSocket>,
    /// Lets the watcher look for readiness again.
    drained: Arc<Notify>,
    watcher: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl TokioIo {
    pub(super) fn readiness(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.readiness)
    }

    fn get(&self, id: SocketId) -> Option<&Socket> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.socket.as_ref().filter(|_| slot.generation == id.generation)
    }
}

impl Shared {
    fn mark(&self, id: SocketId) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&id) {
            ready.push(id);
        }
        drop(ready);
        self.readiness.notify_one();
    }

    fn take(&self) -> Vec<SocketId> {
        std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says when a socket becomes readable, once per time it was drained.
async fn watch(id: SocketId, socket: Arc<UdpSocket>, drained: Arc<Notify>, shared: Arc<Shared>) {
    while socket.readable().await.is_ok() {
        shared.mark(id);
        drained.notified().await;
    }
}

impl DatagramIo for TokioIo {
    fn bind(&mut self, address: SocketAddr) -> io::Result<(SocketId, SocketAddr)> {
        let socket = Arc::new(UdpSocket::from_std(open(address)?)?);
        let local = socket.local_addr()?;
        let index = self.slots.iter().position(|slot| slot.socket.is_none());
        let index = index.unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        let number = u32::try_from(index).map_err(|_| io::ErrorKind::QuotaExceeded)?;
        let id = SocketId { slot: number, generation: slot.generation };
        let drained = Arc::new(Notify::new());
        let watcher = actix_rt::spawn(watch(
            id,
            Arc::clone(&socket),
            Arc::clone(&drained),
            Arc::clone(&self.shared),
        ));
        slot.socket = Some(Socket { socket, drained, watcher });
        Ok((id, local))
    }

    fn close(&mut self, socket: SocketId) {
        let slot = self.slots.get_mut(socket.slot as usize);
        if let Some(slot) = slot.filter(|slot| slot.generation == socket.generation)
            && slot.socket.take().is_some()
        {
            slot.generation = slot.generation.wrapping_add(1);
        }
    }

    fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        failed: &mut Vec<(SocketId, io::Error)>,
    ) -> bool {
        // One byte more than is taken, to tell a datagram that is too long.
        let mut buffer = [0; MAX_DATAGRAM + 1];
        let mut ready = self.shared.take().into_iter();
        while let Some(id) = ready.next() {
            let Some(socket) = self.get(id) else { continue };
            loop {
                if batch.is_full() {
                    self.shared.mark(id);
                    ready.for_each(|id| self.shared.mark(id));
                    return true;
                }
                match socket.socket.try_recv_from(&mut buffer) {
                    Ok((len, remote)) => {
                        batch.push(id, remote, &buffer[..len]);
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => {
                            socket.drained.notify_one();
                            break;
                        }
                        // ICMP's word about an earlier datagram; the socket is fine.
                        io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkUnreachable
                        | io::ErrorKind::Interrupted => {}
                        _ => {
                            failed.push((id, error));
                            break;
                        }
                    },
                }
            }
        }
        false
    }

    fn send(&mut self, batch: &mut SendBatch) -> SendReport {
        let mut report = SendReport::default();
        for (id, remote, datagram) in batch.iter() {
            let sent = self.get(id).is_some_and(|socket| {
                report.calls += 1;
                socket.socket.try_send_to(datagram, remote).is_ok()
            });
            if sent {
                report.sent += 1;
            } else {
                report.dropped += 1;
            }
        }
        batch.clear();
        report
    }

    fn interfaces(&mut self) -> io::Result<Vec<InterfaceAddress>> {
        interfaces::enumerate_interfaces()
    }
}
