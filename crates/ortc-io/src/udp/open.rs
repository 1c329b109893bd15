use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Sizes of a socket's buffers in bytes; `None` leaves the system's default.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Buffers {
    pub(crate) receive: Option<usize>,
    pub(crate) send: Option<usize>,
}

/// Opens a non-blocking UDP socket. One for IPv6 never takes IPv4, so that both can have the
/// same port.
pub(crate) fn open(address: SocketAddr, buffers: Buffers) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // A system that refuses the size altogether still has a default to work with.
    if let Some(size) = buffers.receive
        && let Err(error) = socket.set_recv_buffer_size(size)
    {
        tracing::debug!(%error, size, "the receive buffer keeps its size");
    }
    if let Some(size) = buffers.send
        && let Err(error) = socket.set_send_buffer_size(size)
    {
        tracing::debug!(%error, size, "the send buffer keeps its size");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
