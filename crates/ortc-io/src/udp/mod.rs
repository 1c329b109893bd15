//! Real sockets: the policy, on top of what the system can do (`sys`).

mod open;
mod sending;
#[cfg(target_os = "linux")]
mod sys_linux;
// Where Linux has better, its tests still see to it that this works.
#[cfg(any(not(target_os = "linux"), test))]
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "parts of it are tested"))]
mod sys_other;

#[cfg(target_os = "linux")]
mod watch;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

pub(crate) use self::open::open;
use self::open::{Buffers, size_buffers};
use self::sending::{SEND_MESSAGES, send_all};
use self::sys::{Receiver, Sender};
#[cfg(target_os = "linux")]
use self::sys_linux as sys;
#[cfg(not(target_os = "linux"))]
use self::sys_other as sys;
use crate::batch::{GRO_SLOT, MAX_DATAGRAM};
use crate::{
    DatagramIo, InterfaceAddress, ReceiveBatch, SendBatch, SendReport, SocketId, StreamEnd,
    interfaces,
};

/// Readiness events taken from the kernel in one go; the rest stay for the next.
const EVENTS: usize = 256;

/// The token of the waker; sockets have their slot.
const WAKER: Token = Token(usize::MAX);

/// Whether the kernel cuts and joins runs of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// Where the kernel and the interface can.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// How [`UdpIo`] opens and uses its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpConfig {
    /// Receive buffer per socket in bytes. The system may grant less, by its own limit
    /// (`net.core.rmem_max` of Linux) unless the process may administrate the network; that is
    /// logged once, and a warning if it is more than the default. Default 2 MiB: 100 ms at
    /// 150 Mbit/s.
    pub receive_buffer: usize,
    /// Send buffer per socket in bytes; the same holds. Default 2 MiB.
    pub send_buffer: usize,
    /// Whether runs are handed over whole, for the kernel or the interface to cut
    /// (`UDP_SEGMENT`, Linux). Default: where that works.
    pub gso: Offload,
    /// Whether runs are received whole (`UDP_GRO`, Linux). Default: where that works.
    pub gro: Offload,
}

/// What a socket's buffers are wished to have.
const DEFAULT_BUFFER: usize = 2 << 20;

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            receive_buffer: DEFAULT_BUFFER,
            send_buffer: DEFAULT_BUFFER,
            gso: Offload::Auto,
            gro: Offload::Auto,
        }
    }
}

/// What a [`UdpIo`] has done beyond what its reports say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpStats {
    /// Calls that received something.
    pub receive_calls: u64,
    /// Runs of several datagrams that arrived whole.
    pub runs_received: u64,
    /// Runs of several datagrams that the kernel took whole.
    pub runs_sent: u64,
    /// Runs that it would not take whole, sent singly.
    pub runs_split: u64,
    /// Times that a send buffer was full.
    pub send_buffer_full: u64,
    /// Messages of streams that were dropped for want of room, in both directions; known when
    /// the stream is closed.
    pub stream_dropped: u64,
}

/// Sockets of the system, for one thread that owns them all.
///
/// ```no_run
/// use ortc_io::{DatagramIo, ReceiveBatch, UdpConfig, UdpIo};
///
/// # fn main() -> std::io::Result<()> {
/// let mut io = UdpIo::new(UdpConfig::default())?;
/// io.bind("0.0.0.0:5000".parse().unwrap())?;
/// let (mut batch, mut failed) = (ReceiveBatch::new(), Vec::new());
/// loop {
///     let more = io.receive(&mut batch, &mut failed);
///     // … work on the batch …
///     batch.clear();
///     if !more {
///         io.wait(None)?;
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct UdpIo {
    config: UdpConfig,
    poll: Poll,
    /// Sockets that the poller does not know.
    #[cfg(target_os = "linux")]
    watch: watch::Watch,
    events: Events,
    waker: Arc<CoalescingWaker>,
    slots: Vec<Slot>,
    /// Slots of sockets that may have something, each at most once.
    ready: VecDeque<u32>,
    /// Whether runs are handed over whole.
    gso: bool,
    /// Whether it was said that buffers are smaller than was asked for.
    has_told_of_buffers: bool,
    sender: Sender,
    receiver: Receiver,
    /// Slots of streams, which no poller knows.
    streams: Vec<u32>,
    stats: UdpStats,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    queued: bool,
    socket: Option<Socket>,
}

#[derive(Debug)]
enum Socket {
    Udp { udp: UdpSocket, gro: bool },
    Stream { end: Box<StreamEnd>, waker: Arc<StreamWaker> },
}

impl UdpIo {
    /// Makes a set of sockets, empty at first.
    ///
    /// # Errors
    /// When the process is out of descriptors, or the system has no poller.
    pub fn new(config: UdpConfig) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        Ok(Self {
            config,
            poll,
            #[cfg(target_os = "linux")]
            watch: watch::Watch::default(),
            events: Events::with_capacity(EVENTS),
            waker: Arc::new(CoalescingWaker { waker, pending: AtomicBool::new(false) }),
            slots: Vec::new(),
            ready: VecDeque::new(),
            gso: config.gso == Offload::Auto && sys::can_segment(),
            has_told_of_buffers: false,
            sender: Sender::new(SEND_MESSAGES),
            receiver: Receiver::new(),
            streams: Vec::new(),
            stats: UdpStats::default(),
        })
    }

    /// Blocks until something may have arrived, the [`waker`](Self::waker) was woken, or
    /// `deadline` has come (at most 1 ms late, by the system's timers).
    ///
    /// Does not block while [`receive`](DatagramIo::receive) has left something behind.
    ///
    /// # Errors
    /// Those of the system's poller; none is expected. An interrupting signal is no error.
    pub fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let timeout = if self.ready.is_empty() {
            deadline.map(|at| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        match self.poll_all(timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // A swap, so that what was pushed before a skipped wake-up is seen after this.
        self.waker.pending.swap(false, Ordering::AcqRel);
        for event in &self.events {
            let Token(index) = event.token();
            if let Some(slot) = self.slots.get_mut(index).filter(|slot| !slot.queued) {
                slot.queued = true;
                self.ready.push_back(u32::try_from(index).expect("slots are counted in u32"));
            }
        }
        for number in &self.streams {
            let slot = &mut self.slots[*number as usize];
            let Some(Socket::Stream { waker, .. }) = &slot.socket else { continue };
            if waker.pending.swap(false, Ordering::AcqRel)
                && !std::mem::replace(&mut slot.queued, true)
            {
                self.ready.push_back(*number);
            }
        }
        Ok(())
    }

    /// Waits for what is watched, and for what the poller knows.
    #[cfg(target_os = "linux")]
    fn poll_all(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.watch.is_empty() {
            return self.poll.poll(&mut self.events, timeout);
        }
        self.events.clear();
        let socket = |slot: u32| match &self.slots[slot as usize].socket {
            Some(Socket::Udp { udp, .. }) => Some(udp),
            _ => None,
        };
        let found = self.watch.wait(&self.poll, socket, timeout)?;
        for number in found.sockets.into_iter().flatten() {
            let slot = &mut self.slots[number as usize];
            if !std::mem::replace(&mut slot.queued, true) {
                self.ready.push_back(number);
            }
        }
        if found.poller { self.poll.poll(&mut self.events, Some(Duration::ZERO)) } else { Ok(()) }
    }

    /// Waits for what the poller knows.
    #[cfg(not(target_os = "linux"))]
    fn poll_all(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.poll.poll(&mut self.events, timeout)
    }

    /// Has what arrives at a socket end a wait.
    fn listen(&mut self, number: u32, udp: &mut UdpSocket) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if self.watch.add(number) {
            return Ok(());
        }
        self.poll.registry().register(udp, Token(number as usize), Interest::READABLE)
    }

    /// Ends a [`wait`](Self::wait), or the next one. Of many wake-ups between two waits only
    /// the first costs a system call.
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.waker))
    }

    /// Whether runs are handed to the kernel whole at present.
    pub fn segments(&self) -> bool {
        self.gso
    }

    /// What was done beyond what the reports say.
    pub fn stats(&self) -> UdpStats {
        self.stats
    }

    /// Says once that buffers are smaller than was asked for; the default is only a wish.
    fn tell_of_buffers(&mut self, granted: Buffers) {
        let UdpConfig { receive_buffer, send_buffer, .. } = self.config;
        let is_less = granted.receive < receive_buffer || granted.send < send_buffer;
        if !is_less || self.has_told_of_buffers {
            return;
        }
        self.has_told_of_buffers = true;
        let (receive, send) = (granted.receive, granted.send);
        if receive_buffer.max(send_buffer) > DEFAULT_BUFFER {
            tracing::warn!(
                receive_buffer,
                send_buffer,
                receive,
                send,
                "the system grants smaller socket buffers; all goes on"
            );
        } else {
            tracing::debug!(receive, send, "the system grants smaller socket buffers");
        }
    }

    fn free_slot(&mut self) -> io::Result<(usize, u32)> {
        let index = self.slots.iter().position(|slot| slot.socket.is_none() && !slot.queued);
        let index = index.unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        Ok((index, u32::try_from(index).map_err(|_| io::ErrorKind::QuotaExceeded)?))
    }

    /// Receives from one socket; returns whether it has been emptied.
    fn receive_from(&mut self, number: u32, batch: &mut ReceiveBatch) -> io::Result<bool> {
        let slot = &mut self.slots[number as usize];
        let id = SocketId { slot: number, generation: slot.generation };
        let (udp, gro) = match &mut slot.socket {
            None => return Ok(true),
            Some(Socket::Udp { udp, gro }) => (&*udp, *gro),
            Some(Socket::Stream { end: stream, waker }) => {
                stream.register(&Waker::from(Arc::clone(waker)));
                while !batch.is_full() {
                    match stream.receive()? {
                        Some(message) if stream.is_framed => {
                            batch.push_framed(id, stream.remote, &message);
                        }
                        Some(message) => _ = batch.push(id, stream.remote, &message),
                        None => return Ok(true),
                    }
                }
                return Ok(false);
            }
        };
        let slot_len = if gro { GRO_SLOT } else { MAX_DATAGRAM };
        let room = batch.free_slots(slot_len);
        if room == 0 {
            return Ok(false);
        }
        let filled = self.receiver.receive(udp, batch.free(), slot_len, room)?;
        self.stats.receive_calls += 1;
        for index in 0..filled {
            let arrival = self.receiver.arrival(index);
            match arrival.remote {
                Some(remote) if !arrival.truncated => {
                    if arrival.len > arrival.segment {
                        self.stats.runs_received += 1;
                    }
                    batch.push_arrived(id, remote, index * slot_len, arrival.len, arrival.segment);
                }
                _ => batch.truncated += 1,
            }
        }
        batch.use_up(filled * slot_len);
        Ok(filled < room)
    }
}

impl DatagramIo for UdpIo {
    fn bind(&mut self, address: SocketAddr) -> io::Result<(SocketId, SocketAddr)> {
        let udp = open(address)?;
        let UdpConfig { receive_buffer: receive, send_buffer: send, .. } = self.config;
        let granted = size_buffers(&udp, Buffers { receive, send });
        self.tell_of_buffers(granted);
        let mut udp = UdpSocket::from_std(udp);
        let local = udp.local_addr()?;
        let gro = self.config.gro == Offload::Auto && sys::join_arrivals(&udp);
        let (index, number) = self.free_slot()?;
        self.listen(number, &mut udp)?;
        let slot = &mut self.slots[index];
        slot.socket = Some(Socket::Udp { udp, gro });
        Ok((SocketId { slot: number, generation: slot.generation }, local))
    }

    fn adopt(&mut self, stream: StreamEnd) -> io::Result<(SocketId, SocketAddr)> {
        let (index, number) = self.free_slot()?;
        let local = stream.local;
        let slot = &mut self.slots[index];
        let (end, pending) = (Box::new(stream), AtomicBool::new(false));
        let waker = Arc::new(StreamWaker { pending, thread: Arc::clone(&self.waker) });
        slot.socket = Some(Socket::Stream { end, waker });
        // What has come before it could wake anybody is looked for at once.
        slot.queued = true;
        let socket = SocketId { slot: number, generation: slot.generation };
        self.ready.push_back(number);
        self.streams.push(number);
        Ok((socket, local))
    }

    fn close(&mut self, socket: SocketId) {
        let slot = self.slots.get_mut(socket.slot as usize);
        if let Some(slot) = slot.filter(|slot| slot.generation == socket.generation)
            && let Some(mut gone) = slot.socket.take()
        {
            slot.generation = slot.generation.wrapping_add(1);
            match &mut gone {
                Socket::Udp { udp, .. } => {
                    #[cfg(target_os = "linux")]
                    if self.watch.remove(socket.slot) {
                        return;
                    }
                    // Closing the descriptor does the same; this only says so earlier.
                    let _ = self.poll.registry().deregister(udp);
                }
                Socket::Stream { end, .. } => {
                    self.streams.retain(|number| *number != socket.slot);
                    self.stats.stream_dropped += end.dropped();
                }
            }
        }
    }

    fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        failed: &mut Vec<(SocketId, io::Error)>,
    ) -> bool {
        while let Some(number) = self.ready.pop_front() {
            let emptied = match self.receive_from(number, batch) {
                Ok(emptied) => emptied,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => true,
                    // ICMP's word about an earlier datagram; the socket is fine.
                    io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::Interrupted => false,
                    _ => {
                        let generation = self.slots[number as usize].generation;
                        failed.push((SocketId { slot: number, generation }, error));
                        true
                    }
                },
            };
            if emptied {
                self.slots[number as usize].queued = false;
            } else {
                // Behind the others, so that a busy socket starves nobody.
                self.ready.push_back(number);
                if batch.is_full() || batch.free_slots(GRO_SLOT) == 0 {
                    return true;
                }
            }
        }
        false
    }

    fn send(&mut self, batch: &mut SendBatch) -> SendReport {
        let (slots, sender) = (&self.slots, &mut self.sender);
        let report = send_all(batch, &mut self.gso, &mut self.stats, |socket, messages| {
            Some(match find(slots, socket)? {
                Socket::Udp { udp, .. } => sender.send(udp, messages),
                Socket::Stream { end, .. } => Ok(write_to(end, messages)),
            })
        });
        batch.clear();
        report
    }

    fn interfaces(&mut self) -> io::Result<Vec<InterfaceAddress>> {
        interfaces::enumerate_interfaces()
    }
}

/// Has the calling thread run before all that are not real-time (`SCHED_FIFO` of Linux), with a
/// priority from 1 to 99 among those that are. Threads that it starts do not inherit that.
///
/// # Errors
/// Where the system has no such thing, or does not permit it: it takes `CAP_SYS_NICE`, or a
/// limit `RLIMIT_RTPRIO` of that priority. Nothing has changed then.
pub fn run_in_real_time(priority: u8) -> io::Result<()> {
    sys::run_in_real_time(priority)
}

/// Writes messages to a stream, datagram by datagram; returns how many it had room for.
fn write_to(stream: &StreamEnd, messages: &[sys::Message<'_>]) -> usize {
    let fits = |message: &&sys::Message<'_>| {
        let segment = message.segment.map_or(message.bytes.len(), usize::from).max(1);
        message.bytes.chunks(segment).all(|datagram| stream.send(datagram))
    };
    messages.iter().take_while(fits).count()
}

fn find(slots: &[Slot], id: SocketId) -> Option<&Socket> {
    let slot = slots.get(id.slot as usize)?;
    slot.socket.as_ref().filter(|_| slot.generation == id.generation)
}

/// Wakes a poller, once per wait.
#[derive(Debug)]
struct CoalescingWaker {
    waker: mio::Waker,
    /// Whether the poller has been woken since it last looked.
    pending: AtomicBool,
}

/// Wakes the thread for one stream, and says which.
#[derive(Debug)]
struct StreamWaker {
    /// Whether something has come since the thread last looked.
    pending: AtomicBool,
    thread: Arc<CoalescingWaker>,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.pending.store(true, Ordering::Release);
        self.thread.wake_by_ref();
    }
}

impl Wake for CoalescingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.pending.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            // The next one may try again.
            self.pending.store(false, Ordering::Release);
            tracing::error!(%error, "a media thread cannot be woken");
        }
    }
}
