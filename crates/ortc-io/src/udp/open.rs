use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::sys::{force_receive_buffer, force_send_buffer};
#[cfg(target_os = "linux")]
use crate::interfaces::enumerate_interfaces;

/// Opens a non-blocking UDP socket. One for IPv6 never takes IPv4, so that both can have the
/// same port.
pub(crate) fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    if let SocketAddr::V4(address) = address
        && address.ip().is_link_local()
    {
        bind_to_link(&socket, *address.ip());
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Has a socket use the interface that has this address alone: of an IPv4 link, no route tells which
/// one is meant (RFC 3927 §3.2). Where that is not permitted, routes have to do.
#[cfg(target_os = "linux")]
fn bind_to_link(socket: &Socket, address: Ipv4Addr) {
    let interfaces = enumerate_interfaces().unwrap_or_default();
    let Some(found) = interfaces.iter().find(|found| found.address == address) else { return };
    if let Err(error) = socket.bind_device(Some(found.name.as_bytes())) {
        tracing::debug!(%address, %error, "not bound to its interface");
    }
}

#[cfg(not(target_os = "linux"))]
fn bind_to_link(_: &Socket, _: Ipv4Addr) {}

/// Sizes of a socket's buffers in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Buffers {
    pub(super) receive: usize,
    pub(super) send: usize,
}

/// Sizes the buffers of a socket, beyond the limit of the system where that is permitted; returns
/// what it has got.
///
/// A system that refuses a size altogether still has a default to work with.
pub(super) fn size_buffers(socket: &UdpSocket, wanted: Buffers) -> Buffers {
    // More than that is a number that the system cannot be told.
    let most = i32::MAX as usize / 2;
    let wanted = Buffers { receive: wanted.receive.min(most), send: wanted.send.min(most) };
    let sizes = SockRef::from(socket);
    if force_receive_buffer(socket, wanted.receive).is_err() {
        let _ = sizes.set_recv_buffer_size(wanted.receive);
    }
    if force_send_buffer(socket, wanted.send).is_err() {
        let _ = sizes.set_send_buffer_size(wanted.send);
    }
    // Linux says twice what it was told: half of it is for its own bookkeeping.
    let share = if cfg!(target_os = "linux") { 2 } else { 1 };
    Buffers {
        receive: sizes.recv_buffer_size().unwrap_or(0) / share,
        send: sizes.send_buffer_size().unwrap_or(0) / share,
    }
}
