//! What every system can do: a datagram a call.

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use crate::batch::MAX_DATAGRAM;

/// What is sent in one go: a datagram. (`segment` is never set here.)
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) remote: SocketAddr,
    pub(super) segment: Option<u16>,
    pub(super) datagrams: usize,
}

impl Message<'_> {
    pub(super) const EMPTY: Message<'static> = Message {
        bytes: &[],
        remote: SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0)),
        segment: None,
        datagrams: 0,
    };
}

/// What arrived in one slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) remote: Option<SocketAddr>,
    pub(super) len: usize,
    pub(super) segment: usize,
    pub(super) truncated: bool,
}

pub(super) fn can_segment() -> bool {
    false
}

pub(super) fn join_arrivals(_: &UdpSocket) -> bool {
    false
}

pub(super) fn force_receive_buffer(_: &impl Sized, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn force_send_buffer(_: &impl Sized, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn run_in_real_time(_: u8) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "threads have no priority of their own here"))
}

pub(super) fn refuses_segments(_: &io::Error) -> bool {
    false
}

pub(super) fn never_segments(_: &io::Error) -> bool {
    false
}

pub(super) fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[derive(Debug)]
pub(super) struct Sender;

impl Sender {
    pub(super) fn new(_: usize) -> Self {
        Self
    }

    /// Sends the first of `messages`.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        messages: &[Message<'_>],
    ) -> io::Result<usize> {
        let Some(message) = messages.first() else { return Ok(0) };
        socket.send_to(message.bytes, message.remote).map(|_| 1)
    }
}

#[derive(Debug)]
pub(super) struct Receiver {
    arrivals: Vec<Arrival>,
    /// One byte more than is taken, to tell a datagram that is too long.
    buffer: Box<[u8; MAX_DATAGRAM + 1]>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { arrivals: Vec::new(), buffer: Box::new([0; MAX_DATAGRAM + 1]) }
    }

    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        arena: &mut [u8],
        slot_len: usize,
        slots: usize,
    ) -> io::Result<usize> {
        self.arrivals.clear();
        for slot in arena.chunks_exact_mut(slot_len).take(slots) {
            match socket.recv_from(&mut self.buffer[..]) {
                Ok((len, remote)) => {
                    let truncated = len > slot.len().min(MAX_DATAGRAM);
                    if !truncated {
                        slot[..len].copy_from_slice(&self.buffer[..len]);
                    }
                    let remote = Some(remote);
                    self.arrivals.push(Arrival { remote, len, segment: len, truncated });
                }
                Err(error) if self.arrivals.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(self.arrivals.len())
    }

    pub(super) fn arrival(&self, index: usize) -> Arrival {
        self.arrivals[index]
    }
}
