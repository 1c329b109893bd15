use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::Notify;

use super::transcript::Fate;
use super::wire::Wire;
use crate::SocketId;

/// Bytes that the receive buffer of a simulated socket holds: what Linux gives a socket.
const RECEIVE_BUFFER: usize = 208 * 1024;

/// What the kernel charges for a datagram beside its bytes, about.
const DATAGRAM_OVERHEAD: usize = 256;

/// The first port given to a socket that asked for none (RFC 6335 §6: dynamic ports).
pub(super) const FIRST_PORT: u16 = 49_152;

pub(super) struct IoState {
    pub(super) host: usize,
    pub(super) sockets: Vec<SocketSlot>,
    /// Slots with datagrams waiting, each at most once, in the order of arrival.
    pub(super) ready: VecDeque<u32>,
    pub(super) readiness: Arc<Notify>,
    /// Sockets whose next read fails.
    pub(super) failing: Vec<(SocketId, io::ErrorKind)>,
}

#[derive(Default)]
pub(super) struct SocketSlot {
    pub(super) generation: u32,
    pub(super) socket: Option<Socket>,
}

pub(super) struct Socket {
    pub(super) local: SocketAddr,
    pub(super) queue: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) buffered: usize,
}

// What the hosts of a network do with their sockets.
impl Wire {
    pub(super) fn bind(
        &mut self,
        io: usize,
        wanted: SocketAddr,
    ) -> io::Result<(SocketId, SocketAddr)> {
        let host = self.ios[io].host;
        if let Some(error) = self.hosts[host].refuses_binds {
            return Err(error.into());
        }
        let ip = wanted.ip();
        if !ip.is_unspecified() && !self.is_up(host, ip) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = match wanted.port() {
            0 => self.free_port(host, ip).ok_or(io::ErrorKind::AddrInUse)?,
            port if self.is_bound(host, ip, port) => return Err(io::ErrorKind::AddrInUse.into()),
            port => port,
        };
        let local = SocketAddr::new(ip, port);
        let socket = Socket { local, queue: VecDeque::new(), buffered: 0 };
        let slots = &mut self.ios[io].sockets;
        let slot = slots.iter().position(|slot| slot.socket.is_none()).unwrap_or_else(|| {
            slots.push(SocketSlot::default());
            slots.len() - 1
        });
        slots[slot].socket = Some(socket);
        let slot_number = u32::try_from(slot).expect("as many sockets as ports");
        Ok((SocketId { slot: slot_number, generation: slots[slot].generation }, local))
    }

    pub(super) fn close(&mut self, io: usize, id: SocketId) {
        let slot = self.ios[io].sockets.get_mut(id.slot as usize);
        if let Some(slot) = slot.filter(|slot| slot.generation == id.generation)
            && slot.socket.take().is_some()
        {
            slot.generation = slot.generation.wrapping_add(1);
        }
    }

    /// Has the next read of every socket of a host fail.
    pub(super) fn break_sockets(&mut self, host: usize, error: io::ErrorKind) {
        for io in self.ios.iter_mut().filter(|io| io.host == host) {
            for (slot, SocketSlot { generation, socket }) in (0..).zip(&io.sockets) {
                if socket.is_some() {
                    io.failing.push((SocketId { slot, generation: *generation }, error));
                }
            }
            io.readiness.notify_one();
        }
    }

    /// Lets go of everything a [`SimIo`](super::SimIo) had.
    pub(super) fn close_all(&mut self, io: usize) {
        self.ios[io].sockets.clear();
        self.ios[io].ready.clear();
    }

    pub(super) fn local(&self, io: usize, id: SocketId) -> Option<SocketAddr> {
        let slot = self.ios[io].sockets.get(id.slot as usize)?;
        let socket = slot.socket.as_ref().filter(|_| slot.generation == id.generation)?;
        Some(socket.local)
    }

    /// What the sockets of a host are bound to.
    pub(super) fn bound(&self, host: usize) -> Vec<SocketAddr> {
        let of_host = self.ios.iter().filter(|io| io.host == host);
        let sockets = of_host.flat_map(|io| io.sockets.iter().filter_map(|s| s.socket.as_ref()));
        sockets.map(|socket| socket.local).collect()
    }

    pub(super) fn is_up(&self, host: usize, ip: IpAddr) -> bool {
        ip.is_loopback() || self.hosts[host].addresses.iter().any(|(a, up)| *a == ip && *up)
    }

    fn is_bound(&self, host: usize, ip: IpAddr, port: u16) -> bool {
        self.ios
            .iter()
            .filter(|io| io.host == host)
            .flat_map(|io| io.sockets.iter().filter_map(|slot| slot.socket.as_ref()))
            .any(|socket| {
                let bound = socket.local;
                let overlap = bound.ip() == ip
                    || (bound.is_ipv4() == ip.is_ipv4()
                        && (bound.ip().is_unspecified() || ip.is_unspecified()));
                bound.port() == port && overlap
            })
    }

    fn free_port(&mut self, host: usize, ip: IpAddr) -> Option<u16> {
        for _ in FIRST_PORT..=u16::MAX {
            let port = self.hosts[host].next_port;
            self.hosts[host].next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.is_bound(host, ip, port) {
                return Some(port);
            }
        }
        None
    }

    /// The address that a datagram of a socket bound to `local` leaves from.
    pub(super) fn source(&self, host: usize, local: SocketAddr, to: SocketAddr) -> SocketAddr {
        if !local.ip().is_unspecified() {
            return local;
        }
        if to.ip().is_loopback() || self.is_up(host, to.ip()) {
            return SocketAddr::new(to.ip(), local.port());
        }
        let addresses = &self.hosts[host].addresses;
        let first = addresses.iter().find(|(a, up)| *up && a.is_ipv4() == to.is_ipv4());
        SocketAddr::new(first.map_or(local.ip(), |(address, _)| *address), local.port())
    }

    /// Puts a datagram into the receive buffer of whoever is bound there.
    pub(super) fn hand_over(
        &mut self,
        host: usize,
        to: SocketAddr,
        from: SocketAddr,
        bytes: Vec<u8>,
    ) -> Fate {
        for io in self.ios.iter_mut().filter(|io| io.host == host) {
            for (index, slot) in io.sockets.iter_mut().enumerate() {
                let Some(socket) = &mut slot.socket else { continue };
                let local = socket.local;
                let wildcard = local.ip().is_unspecified() && local.is_ipv4() == to.is_ipv4();
                if local.port() != to.port() || (local.ip() != to.ip() && !wildcard) {
                    continue;
                }
                let cost = bytes.len() + DATAGRAM_OVERHEAD;
                if socket.buffered + cost > RECEIVE_BUFFER {
                    return Fate::BufferFull;
                }
                socket.buffered += cost;
                socket.queue.push_back((from, bytes));
                let number = u32::try_from(index).expect("as many sockets as ports");
                if !io.ready.contains(&number) {
                    io.ready.push_back(number);
                }
                io.readiness.notify_one();
                return Fate::Delivered;
            }
        }
        Fate::Unheard
    }

    /// Takes the next datagram that waits for an io.
    pub(super) fn take(&mut self, io: usize) -> Option<(SocketId, SocketAddr, Vec<u8>)> {
        let io = &mut self.ios[io];
        while let Some(number) = io.ready.front().copied() {
            let slot = &mut io.sockets[number as usize];
            let id = SocketId { slot: number, generation: slot.generation };
            let taken = slot.socket.as_mut().and_then(|socket| {
                let (remote, bytes) = socket.queue.pop_front()?;
                socket.buffered -= bytes.len() + DATAGRAM_OVERHEAD;
                Some((remote, bytes))
            });
            match taken {
                Some((remote, bytes)) => return Some((id, remote, bytes)),
                None => io.ready.pop_front(),
            };
        }
        None
    }
}
