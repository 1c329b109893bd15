//! `recvmmsg` with `UDP_GRO`, `sendmmsg` with `UDP_SEGMENT`, sizes of buffers and real-time
//! scheduling: the only unsafe code here.
#![allow(unsafe_code, reason = "these system calls have no safe wrapper without a copy")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_int, c_uint, c_void, cmsghdr, iovec, mmsghdr, msghdr};
use mio::net::UdpSocket;

use crate::batch::RECEIVE_CAPACITY;

/// What is sent in one go: a datagram, or a run for the kernel to cut into `segment`s.
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
        remote: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
        segment: None,
        datagrams: 0,
    };
}

/// What arrived in one slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// `None` for an address family that is not ours.
    pub(super) remote: Option<SocketAddr>,
    pub(super) len: usize,
    /// Length of all datagrams in it but the last, which may be shorter.
    pub(super) segment: usize,
    pub(super) truncated: bool,
}

/// An address as the kernel has it.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Room for one control message of up to eight bytes, aligned as `cmsghdr` has to be.
#[derive(Clone, Copy)]
#[repr(C)]
struct Control {
    header: cmsghdr,
    data: [u8; 8],
}

impl Name {
    fn new(address: SocketAddr) -> (Self, libc::socklen_t) {
        // SAFETY: all-zero bytes are a valid value of either variant: integers and arrays.
        let mut name: Self = unsafe { zeroed() };
        let len = match address {
            SocketAddr::V4(address) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(address) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                size_of::<libc::sockaddr_in6>()
            }
        };
        (name, len as libc::socklen_t)
    }

    fn address(&self) -> Option<SocketAddr> {
        // SAFETY: every byte of the union was initialised, by `zeroed` at first and by the
        // kernel since, and any bytes are a valid value of each variant. `family` lies at
        // the start of both others, by the definition of `sockaddr`.
        unsafe {
            match c_int::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                    Some(SocketAddrV4::new(ip, u16::from_be(self.v4.sin_port)).into())
                }
                libc::AF_INET6 => {
                    let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                    // The flow label differs from datagram to datagram of one sender, so it
                    // is no part of who that is.
                    let (port, scope) = (u16::from_be(self.v6.sin6_port), self.v6.sin6_scope_id);
                    Some(SocketAddrV6::new(ip, port, 0, scope).into())
                }
                _ => None,
            }
        }
    }
}

fn set_option(socket: &impl AsRawFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel
    // reads `size_of::<c_int>()` bytes from `value`, which lives through the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&value).cast::<c_void>(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel can cut runs into datagrams (Linux 4.18 and later).
pub(super) fn can_segment() -> bool {
    std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 1200))
        .is_ok()
}

/// Asks for runs to be received whole (Linux 5.0 and later); returns whether they will be.
pub(super) fn join_arrivals(socket: &UdpSocket) -> bool {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok()
}

/// Sizes the receive buffer beyond the limit of the system (`rmem_max`), which takes the right to
/// administrate the network.
pub(super) fn force_receive_buffer(socket: &impl AsRawFd, size: usize) -> io::Result<()> {
    let size = c_int::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size)
}

/// Sizes the send buffer beyond the limit of the system (`wmem_max`), with the same right.
pub(super) fn force_send_buffer(socket: &impl AsRawFd, size: usize) -> io::Result<()> {
    let size = c_int::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size)
}

/// Has the calling thread run before all that are not real-time, in the order of `priority`
/// among those that are (`SCHED_FIFO`). Its children do not inherit that.
pub(super) fn run_in_real_time(priority: u8) -> io::Result<()> {
    // SAFETY: a plain C structure of integers, for which all-zero bytes are a valid value.
    let mut parameters: libc::sched_param = unsafe { zeroed() };
    parameters.sched_priority = c_int::from(priority);
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread, and the kernel only reads `parameters`, which live through
    // the call.
    let outcome = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the error may be that of a run that was to be cut: an interface without checksum
/// offload, a segment beyond the MTU.
pub(super) fn refuses_segments(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EMSGSIZE | libc::EINVAL))
}

/// Whether it will be the same for every run.
pub(super) fn never_segments(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Whether the send buffer, or the queue of the interface, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS))
}

/// The headers of one call and what they point to, at addresses that do not change.
struct Headers {
    messages: Box<[mmsghdr]>,
    vectors: Box<[iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
}

// SAFETY: the pointers in `messages` and `vectors` are set anew before each call, to this
// very value's boxes and to buffers borrowed for the call, and are not followed otherwise.
unsafe impl Send for Headers {}

impl Headers {
    fn new(count: usize) -> Self {
        // SAFETY: all four are plain C structures of integers, arrays and raw pointers, for
        // which all-zero bytes are a valid value.
        unsafe {
            Self {
                messages: vec![zeroed(); count].into_boxed_slice(),
                vectors: vec![zeroed(); count].into_boxed_slice(),
                names: vec![zeroed(); count].into_boxed_slice(),
                controls: vec![zeroed(); count].into_boxed_slice(),
            }
        }
    }

    /// Points header `index` to its name, its control and a buffer.
    fn set(&mut self, index: usize, base: *mut u8, len: usize, name_len: u32, control: bool) {
        self.vectors[index] = iovec { iov_base: base.cast(), iov_len: len };
        // SAFETY: plain C structure, see `new`. (It has private padding on some targets, so
        // that it cannot be written as a literal.)
        let mut header: msghdr = unsafe { zeroed() };
        header.msg_name = ptr::from_mut(&mut self.names[index]).cast();
        header.msg_namelen = name_len;
        header.msg_iov = ptr::from_mut(&mut self.vectors[index]);
        header.msg_iovlen = 1;
        if control {
            header.msg_control = ptr::from_mut(&mut self.controls[index]).cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        self.messages[index] = mmsghdr { msg_hdr: header, msg_len: 0 };
    }
}

/// Sends with `sendmmsg`.
pub(super) struct Sender {
    headers: Headers,
}

impl Sender {
    pub(super) fn new(messages: usize) -> Self {
        Self { headers: Headers::new(messages) }
    }

    /// Sends as many of `messages` as the kernel takes in one call; at most as many as this
    /// was made for.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        messages: &[Message<'_>],
    ) -> io::Result<usize> {
        let headers = &mut self.headers;
        let count = messages.len().min(headers.messages.len());
        for (index, message) in messages[..count].iter().enumerate() {
            let (name, name_len) = Name::new(message.remote);
            headers.names[index] = name;
            let (base, len) = (message.bytes.as_ptr().cast_mut(), message.bytes.len());
            headers.set(index, base, len, name_len, message.segment.is_some());
            if let Some(segment) = message.segment {
                let control = &mut headers.controls[index];
                // SAFETY: computes with its argument alone.
                let (len, space) = unsafe { (libc::CMSG_LEN(2), libc::CMSG_SPACE(2)) };
                control.header.cmsg_level = libc::SOL_UDP;
                control.header.cmsg_type = libc::UDP_SEGMENT;
                control.header.cmsg_len = len as _;
                control.data[..2].copy_from_slice(&segment.to_ne_bytes());
                headers.messages[index].msg_hdr.msg_controllen = space as _;
            }
        }
        // SAFETY: the first `count` headers were set above: each points to a name, one vector
        // and at most one control in boxes of `headers`, and its vector to `message.bytes`,
        // borrowed until after the call. The kernel only reads those bytes (the pointer is
        // `*mut` because the structure serves receiving too) and writes `msg_len`.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.messages.as_mut_ptr(),
                count as c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Receives with `recvmmsg`.
pub(super) struct Receiver {
    headers: Headers,
    filled: usize,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { headers: Headers::new(RECEIVE_CAPACITY), filled: 0 }
    }

    /// Receives into up to `slots` slots of `arena`; returns how many were filled.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        arena: &mut [u8],
        slot_len: usize,
        slots: usize,
    ) -> io::Result<usize> {
        let headers = &mut self.headers;
        let mut count = 0;
        for slot in arena.chunks_exact_mut(slot_len).take(slots.min(headers.messages.len())) {
            let name_len = size_of::<Name>() as u32;
            headers.set(count, slot.as_mut_ptr(), slot.len(), name_len, true);
            count += 1;
        }
        self.filled = 0;
        // SAFETY: the first `count` headers were set above: each points to a name, one vector
        // and one control in boxes of `headers`, with their full sizes, and its vector to a
        // slot of `arena`, borrowed mutably until after the call, no two to the same. No
        // timeout is passed.
        let filled = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.messages.as_mut_ptr(),
                count as c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
        Ok(self.filled)
    }

    /// What the last call has put into a slot.
    ///
    /// # Panics
    /// When it has not filled that slot.
    pub(super) fn arrival(&self, index: usize) -> Arrival {
        assert!(index < self.filled, "slot {index} was not filled");
        let message = &self.headers.messages[index];
        let len = message.msg_len as usize;
        let control = &self.headers.controls[index];
        #[allow(clippy::unnecessary_cast, reason = "its type differs between C libraries")]
        let control_len = message.msg_hdr.msg_controllen as usize;
        let joined = control_len >= size_of::<cmsghdr>() + 4
            && control.header.cmsg_level == libc::SOL_UDP
            && control.header.cmsg_type == libc::UDP_GRO;
        let segment = joined
            .then(|| {
                let [a, b, c, d, ..] = control.data;
                usize::try_from(c_int::from_ne_bytes([a, b, c, d])).ok()
            })
            .flatten()
            .filter(|segment| *segment > 0);
        Arrival {
            remote: self.headers.names[index].address(),
            len,
            segment: segment.unwrap_or(len),
            truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("filled", &self.filled).finish_non_exhaustive()
    }
}
