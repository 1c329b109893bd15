//! The door of the server: how many streams are open at a time, and how long one may take.
//!
//! Whoever connects is a *newcomer* until it has been answered for the first time. Newcomers are
//! few at a time, and for a moment: of those that are too many the oldest makes room, so whoever
//! only connects, or asks byte by byte, keeps nobody else out. Later a stream is closed once the
//! server has had nothing to say on it for a while, or has not got rid of it: a WebSocket is
//! pinged, and what is written moves only as long as the peer reads.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bounds of the streams to the listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLimits {
    /// Streams at a time. Default 32,768: more than all pairs and members there can be.
    pub open: usize,
    /// Of those, such as have not been answered yet. Default 512.
    pub newcomers: usize,
    /// Of those, from one address. Default 64; a proxy in front has them answered in milliseconds.
    pub newcomers_of_address: usize,
    /// How long a newcomer may take until it is answered, TLS included. Default 10 s.
    pub first_response: Duration,
    /// How long the server may have nothing written to a stream, later. Default 75 s: WebSockets
    /// are pinged every 20 s.
    pub silence: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            open: 32_768,
            newcomers: 512,
            newcomers_of_address: 64,
            first_response: Duration::from_secs(10),
            silence: Duration::from_secs(75),
        }
    }
}

/// What has become of streams so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DoorCounts {
    /// Open now.
    pub(crate) open: usize,
    /// Taken.
    pub(crate) accepted: u64,
    /// Not taken: as many as there may be were open.
    pub(crate) refused: u64,
    /// Closed before they were answered, to make room for newer ones.
    pub(crate) displaced: u64,
    /// Closed before they were answered: they took too long.
    pub(crate) too_slow: u64,
    /// Closed later: nothing was written to them for too long.
    pub(crate) silent: u64,
}

/// Knows all streams that are open; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Doorkeeper(Arc<Keeper>);

#[derive(Debug)]
struct Keeper {
    limits: StreamLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    newcomers: VecDeque<(IpAddr, Arc<Call>)>,
    counts: DoorCounts,
}

/// Tells a newcomer that its place is needed.
#[derive(Debug, Default)]
struct Call {
    displaced: AtomicBool,
    waker: AtomicWaker,
}

impl Doorkeeper {
    pub(crate) fn new(limits: StreamLimits) -> Self {
        Self(Arc::new(Keeper { limits, state: Mutex::default() }))
    }

    /// Takes a stream from `address`, unless too many are open.
    fn admit(&self, address: IpAddr) -> Option<Ticket> {
        let limits = &self.0.limits;
        let mut state = self.0.lock();
        if state.counts.open >= limits.open {
            state.counts.refused += 1;
            return None;
        }
        let of_address = |(other, _): &&(IpAddr, Arc<Call>)| *other == address;
        if state.newcomers.iter().filter(of_address).count() >= limits.newcomers_of_address.max(1) {
            state.displace(|other| other == address);
        } else if state.newcomers.len() >= limits.newcomers.max(1) {
            state.displace(|_| true);
        }
        let call = Arc::new(Call::default());
        state.newcomers.push_back((address, Arc::clone(&call)));
        state.counts.open += 1;
        state.counts.accepted += 1;
        let deadline = Instant::now() + limits.first_response;
        Some(Ticket { keeper: Arc::clone(&self.0), call, deadline, answered: false })
    }

    pub(crate) fn counts(&self) -> DoorCounts {
        self.0.lock().counts
    }
}

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole after every call, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has the oldest newcomer of some addresses go.
    fn displace(&mut self, is_of: impl Fn(IpAddr) -> bool) {
        let oldest = self.newcomers.iter().position(|(address, _)| is_of(*address));
        if let Some((_, call)) = oldest.and_then(|at| self.newcomers.remove(at)) {
            self.counts.displaced += 1;
            call.displaced.store(true, Ordering::Release);
            call.waker.wake();
        }
    }

    fn forget(&mut self, call: &Arc<Call>) {
        self.newcomers.retain(|(_, other)| !Arc::ptr_eq(other, call));
    }
}

/// The place of a stream, given up on drop.
#[derive(Debug)]
pub(crate) struct Ticket {
    keeper: Arc<Keeper>,
    call: Arc<Call>,
    deadline: Instant,
    answered: bool,
}

impl Ticket {
    /// Completes when the stream has had its time, or has to make room.
    pub(crate) async fn expired(&self) {
        let displaced = std::future::poll_fn(|context| self.poll_displaced(context));
        tokio::select! {
            () = displaced => {}
            () = sleep_until(self.deadline) => self.keeper.lock().counts.too_slow += 1,
        }
    }

    fn poll_displaced(&self, context: &Context<'_>) -> Poll<()> {
        self.call.waker.register(context.waker());
        if self.call.displaced.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Something has been written.
    fn has_answered(&mut self) {
        self.deadline = Instant::now() + self.keeper.limits.silence;
        if !self.answered {
            self.answered = true;
            self.keeper.lock().forget(&self.call);
        }
    }

    fn count_late(&self) {
        let counts = &mut self.keeper.lock().counts;
        if self.answered {
            counts.silent += 1;
        } else {
            counts.too_slow += 1;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.keeper.lock();
        state.counts.open -= 1;
        state.forget(&self.call);
    }
}

/// A stream that ends when it has had its time.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    ticket: Ticket,
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, ticket: Ticket) -> Self {
        let timer = Box::pin(sleep_until(ticket.deadline));
        Self { stream, ticket, timer, ended: false }
    }

    /// Whether the stream may go on; wakes the task when it may not any more.
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.ended {
            if !self.ticket.answered && self.ticket.poll_displaced(context).is_ready() {
                self.ended = true;
            }
            // What was written meanwhile has moved the end; the timer follows when it fires.
            while !self.ended && self.timer.as_mut().poll(context).is_ready() {
                if self.ticket.deadline <= Instant::now() {
                    self.ticket.count_late();
                    self.ended = true;
                } else {
                    self.timer.as_mut().reset(self.ticket.deadline);
                }
            }
        }
        if self.ended { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn written(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = outcome {
            self.ticket.has_answered();
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Of one that has ended nothing more is awaited: dropped, it is closed.
        self.poll_end(context)?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

/// A listener whose streams are watched.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    keeper: Doorkeeper,
}

impl Door {
    pub(crate) fn new(listener: TcpListener, keeper: Doorkeeper) -> Self {
        Self { listener, keeper }
    }

    /// The next stream, and its place.
    pub(crate) async fn admit(&mut self) -> (TcpStream, Ticket, SocketAddr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            if let Some(ticket) = self.keeper.admit(peer.ip()) {
                return (stream, ticket, peer);
            }
        }
    }
}

impl Listener for Door {
    type Io = Watched<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, ticket, peer) = self.admit().await;
        (Watched::new(stream, ticket), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn keeper() -> Doorkeeper {
        Doorkeeper::new(StreamLimits {
            open: 4,
            newcomers: 3,
            newcomers_of_address: 2,
            ..StreamLimits::default()
        })
    }

    fn elsewhere(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_newcomers_the_oldest_of_the_same_address_goes_first() {
        let keeper = keeper();
        let other = keeper.admit(elsewhere(1)).unwrap();
        let [one, two] = [(); 2].map(|()| keeper.admit(HERE).unwrap());
        let three = keeper.admit(HERE).unwrap();
        let is_displaced = |ticket: &Ticket| ticket.call.displaced.load(Ordering::Acquire);
        assert_eq!([&other, &one, &two, &three].map(is_displaced), [false, true, false, false]);
        // All are open, displaced or not, until they are dropped.
        assert!(keeper.admit(elsewhere(2)).is_none());
        drop(one);
        let four = keeper.admit(elsewhere(2)).unwrap();
        assert_eq!([&other, &two, &three, &four].map(is_displaced), [true, false, false, false]);
        let counts = keeper.counts();
        assert_eq!((counts.open, counts.accepted, counts.refused, counts.displaced), (4, 5, 1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_byte_by_byte_has_ten_seconds() {
        let keeper = keeper();
        let (near, mut far) = duplex(64);
        let mut stream = Watched::new(near, keeper.admit(HERE).unwrap());
        let begun = Instant::now();
        let asking = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if far.write_all(b"x").await.is_err() {
                    return;
                }
            }
        };
        let reading = async {
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {}
        };
        tokio::select! {
            () = asking => panic!("not ended"),
            () = reading => {}
        }
        assert_eq!(begun.elapsed().as_secs(), 10);
        assert_eq!(keeper.counts().too_slow, 1);
        drop(stream);
        assert_eq!(keeper.counts().open, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_lives_as_long_as_something_is_written_to_it() {
        let keeper = keeper();
        let (near, mut far) = duplex(64);
        let mut stream = Watched::new(near, keeper.admit(HERE).unwrap());
        for _ in 0..20 {
            stream.write_all(b"ping").await.unwrap();
            far.read_exact(&mut [0; 4]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        // Nobody reads any more: what is written fills the buffer, and stays there.
        let begun = Instant::now();
        while stream.write_all(b"ping").await.is_ok() {}
        assert_eq!(begun.elapsed().as_secs(), 75);
        let counts = keeper.counts();
        assert_eq!((counts.silent, counts.too_slow), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_displaced_stream_ends_at_once() {
        let keeper = keeper();
        let (near, _far) = duplex(64);
        let mut stream = Watched::new(near, keeper.admit(HERE).unwrap());
        let reading = async { stream.read_u8().await.unwrap_err().kind() };
        let coming = async {
            let tickets = [(); 2].map(|()| keeper.admit(HERE));
            std::future::pending::<()>().await;
            drop(tickets);
        };
        tokio::select! {
            kind = reading => assert_eq!(kind, ErrorKind::TimedOut),
            () = coming => {}
        }
        assert_eq!(keeper.counts().displaced, 1);
    }
}
