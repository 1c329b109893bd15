//! The limit: a program that does nothing but receive, open, seal and send.
//!
//! One thread, one socket, one publisher, no routing, no statistics, no checks but the tag's:
//! whatever forwards more carefully than this can only be slower.
#![allow(unsafe_code, reason = "the limit is what the system calls cost, without a wrapper")]

use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ortc_rtp::{SrtpReceiver, SrtpSender};

use super::counted::{Asked, Counted};
use super::plan::{Plan, addresses_from_json, addresses_to_json};
use crate::error::{Failure, Result};
use crate::usage;

/// Datagrams received at once.
const RECEIVE: usize = 64;
/// Room for one datagram.
const SLOT: usize = 2048;
/// Messages sent at once.
const SEND: usize = 32;
/// Datagrams of one message, where the kernel cuts it.
const SEGMENTS: usize = 16;

pub(crate) fn run(plan: &Plan, segments: bool, timed: bool) -> Result<()> {
    let mut asked = Asked::new();
    let remotes = addresses_from_json(&asked.next()?)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 8 << 20)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, 8 << 20)?;
    let local = socket.local_addr()?;
    println!("{}", addresses_to_json(&vec![local; remotes.len()]));

    let stop = Arc::new(AtomicBool::new(false));
    let counted = Arc::new(Mutex::new(Counted::default()));
    let forwarder = Forwarder::new(plan, socket.try_clone()?, &remotes, segments)?;
    let mut forwarder = Forwarder { timed: timed.then(|| Arc::clone(&counted)), ..forwarder };
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            forwarder.turn()?;
        }
        Ok::<(), Failure>(())
    });
    asked.answer(|| Ok(counted.lock().unwrap_or_else(PoisonError::into_inner).clone()))?;
    stop.store(true, Ordering::Relaxed);
    // Wakes it once more.
    socket.send_to(&[0], local)?;
    thread.join().map_err(|_| Failure::new("the bare program has panicked"))?
}

struct Forwarder {
    socket: UdpSocket,
    publisher: SrtpReceiver,
    subscribers: Vec<(SrtpSender, libc::sockaddr_in, [u8; 12])>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    segments: bool,
    /// Where what its steps take is counted, if it is.
    timed: Option<Arc<Mutex<Counted>>>,
    counted: Counted,
}

/// A packet that was opened: where it stands, how long it is, and how long its header.
struct Opened {
    at: usize,
    len: usize,
    header: usize,
}

impl Forwarder {
    fn new(plan: &Plan, socket: UdpSocket, remotes: &[SocketAddr], segments: bool) -> Result<Self> {
        let mut subscribers = Vec::new();
        for (n, remote) in remotes.iter().enumerate().skip(1) {
            let SocketAddr::V4(v4) = remote else { return Err(Failure::new("IPv4 is expected")) };
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            let mut header = [0; 12];
            header[8..].copy_from_slice(&Plan::sent(n - 1).0.to_be_bytes());
            subscribers.push((SrtpSender::from_keys(&plan.keys(n, false)?)?, name, header));
        }
        Ok(Self {
            socket,
            publisher: SrtpReceiver::from_keys(&plan.keys(0, false)?)?,
            subscribers,
            incoming: vec![0; RECEIVE * SLOT],
            outgoing: vec![0; SEND * SEGMENTS * SLOT],
            segments,
            timed: None,
            counted: Counted::default(),
        })
    }

    fn clock(&self) -> u64 {
        if self.timed.is_some() { usage::thread_cpu_ns() } else { 0 }
    }

    fn turn(&mut self) -> Result<()> {
        let lengths = self.receive()?;
        let begun = self.clock();
        let mut opened = Vec::with_capacity(lengths.len());
        for (n, len) in lengths.iter().enumerate() {
            let at = n * SLOT;
            if let Ok(packet) = self.publisher.unprotect_rtp(&mut self.incoming[at..at + len]) {
                opened.push(Opened { at, len: packet.len, header: packet.header_len });
            }
        }
        if opened.is_empty() {
            return Ok(());
        }
        let sealing = self.clock();
        self.counted.open_ns += sealing - begun;
        let sent_before = self.counted.send_ns;
        let mut messages: Vec<(usize, usize, usize, usize)> = Vec::with_capacity(SEND);
        let mut used = 0;
        for n in 0..self.subscribers.len() {
            for packets in self.runs(&opened) {
                let (begin, mut segment) = (used, 0);
                for (place, Opened { at, len, header }) in packets.iter().enumerate() {
                    let packet = &self.incoming[*at..*at + *len];
                    let (srtp, _, head) = &mut self.subscribers[n];
                    head[..8].copy_from_slice(&packet[..8]);
                    let body = &packet[*header..];
                    let sealed = srtp.protect_rtp_from(head, body, &mut self.outgoing[used..])?;
                    used += sealed;
                    if place == 0 {
                        segment = sealed;
                    }
                }
                messages.push((n, begin, used - begin, segment));
                if messages.len() == SEND {
                    self.send(&messages)?;
                    messages.clear();
                    used = 0;
                }
            }
        }
        self.send(&messages)?;
        let sent_meanwhile = self.counted.send_ns - sent_before;
        self.counted.seal_ns += (self.clock() - sealing).saturating_sub(sent_meanwhile);
        if let Some(shared) = &self.timed {
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = self.counted.clone();
        }
        Ok(())
    }

    /// Packets that go in one message: of one length, the last one shorter.
    fn runs<'a>(&self, opened: &'a [Opened]) -> impl Iterator<Item = &'a [Opened]> + use<'a> {
        let most = if self.segments { SEGMENTS } else { 1 };
        let mut rest = opened;
        std::iter::from_fn(move || {
            let first = rest.first()?;
            let equal = rest.iter().take(most).take_while(|it| it.len == first.len).count();
            let shorter = rest.get(equal).is_some_and(|it| it.len < first.len) && equal < most;
            let (run, others) = rest.split_at(equal + usize::from(shorter));
            rest = others;
            Some(run)
        })
    }

    /// Waits for datagrams; their lengths, one in each slot.
    fn receive(&mut self) -> Result<Vec<usize>> {
        // SAFETY: all-zero bytes are a valid value of these structures of integers and pointers.
        let mut vectors: [libc::iovec; RECEIVE] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; RECEIVE] = unsafe { zeroed() };
        for (n, slot) in self.incoming.chunks_exact_mut(SLOT).enumerate() {
            vectors[n] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT };
            headers[n].msg_hdr.msg_iov = &raw mut vectors[n];
            headers[n].msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the headers point to vectors, and those into the arena: all live through the
        // call, and each slot is its own.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                RECEIVE as libc::c_uint,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| std::io::Error::last_os_error())?;
        Ok(headers[..count].iter().map(|header| header.msg_len as usize).collect())
    }

    /// Sends runs: the subscriber, where the run begins, its length, and that of a datagram.
    fn send(&mut self, messages: &[(usize, usize, usize, usize)]) -> Result<()> {
        let begun = self.clock();
        // SAFETY: all-zero bytes are a valid value of these structures of integers and pointers.
        let mut vectors: [libc::iovec; SEND] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; SEND] = unsafe { zeroed() };
        let mut controls = [[0u64; 3]; SEND];
        for (n, (subscriber, begin, len, segment)) in messages.iter().copied().enumerate() {
            let run = &mut self.outgoing[begin..begin + len];
            vectors[n] = libc::iovec { iov_base: run.as_mut_ptr().cast(), iov_len: len };
            let header = &mut headers[n].msg_hdr;
            header.msg_name = (&raw mut self.subscribers[subscriber].1).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[n];
            header.msg_iovlen = 1;
            if len > segment {
                header.msg_control = controls[n].as_mut_ptr().cast();
                // SAFETY: these only compute lengths, and a pointer to the control message that
                // `msg_control` has room for: 24 bytes, aligned to 8.
                unsafe {
                    header.msg_controllen = libc::CMSG_SPACE(2) as usize;
                    let control = libc::CMSG_FIRSTHDR(header);
                    (*control).cmsg_level = libc::SOL_UDP;
                    (*control).cmsg_type = libc::UDP_SEGMENT;
                    (*control).cmsg_len = libc::CMSG_LEN(2) as usize;
                    ptr::write_unaligned(libc::CMSG_DATA(control).cast(), segment as u16);
                }
            }
        }
        let mut sent = 0;
        while sent < messages.len() {
            // SAFETY: all that the headers point to lives through the call.
            let count = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    headers[sent..].as_mut_ptr(),
                    (messages.len() - sent) as libc::c_uint,
                    0,
                )
            };
            sent += usize::try_from(count).map_err(|_| std::io::Error::last_os_error())?;
        }
        self.counted.send_ns += self.clock() - begun;
        if self.timed.is_some() {
            for (_, _, len, segment) in messages {
                self.counted.run(len.div_ceil((*segment).max(1)));
            }
        }
        Ok(())
    }
}

fn set_option(socket: &UdpSocket, level: i32, option: i32, value: i32) -> Result<()> {
    // SAFETY: the kernel reads four bytes from `value`, which lives through the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}
