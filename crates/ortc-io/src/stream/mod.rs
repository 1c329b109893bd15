//! Streams to TURN servers and peers, over TCP or TLS, as sockets of a media thread.
//!
//! A media thread moves datagrams and never blocks; a stream wants an event loop and, over TLS,
//! a state machine. So a task of the control plane has the stream, and two bounded rings lead
//! from it to the [`StreamEnd`] that the thread has among its sockets. Each message costs an
//! allocation and two wake-ups at worst, which is what TCP costs here: it is the last resort of
//! a network without UDP. What a ring has no room for is dropped, as a datagram would be.

pub(crate) mod framing;
pub(crate) mod greeting;
mod listener;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use self::framing::{Frames, Framing};
pub use self::listener::{AcceptedStream, ListenerStats, Listening, StreamListener};
use crate::StreamTls;
use crate::ring::{Popped, RingReceiver, RingSender, ring};

/// Messages that wait in each direction: 300 kB of full packets, 100 ms at 25 Mbit/s.
const CAPACITY: usize = 256;

/// How long connecting may take, and the TLS handshake as much again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that may wait in the system to be sent to a peer: some 50 full packets.
#[cfg(target_os = "linux")]
const NOT_SENT: u32 = 64 * 1024;

/// Bytes written in one go.
const WRITE_BATCH: usize = 64 * 1024;

/// What both ends know.
#[derive(Debug, Default)]
struct Shared {
    failure: OnceLock<String>,
    /// Messages that there was no room for.
    dropped: AtomicU64,
}

/// A stream among the sockets of a media thread, handed to
/// [`DatagramIo::adopt`](crate::DatagramIo::adopt). Dropping it closes the stream, once what
/// was sent has left.
#[derive(Debug)]
pub struct StreamEnd {
    incoming: RingReceiver<Bytes>,
    outgoing: RingSender<Bytes>,
    shared: Arc<Shared>,
    /// The address of the server or peer: where everything comes from and goes to.
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Whether what goes through are frames of RFC 4571.
    pub(crate) is_framed: bool,
}

impl StreamEnd {
    /// The address on the far side.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Sends a message; false, counted, if there is no room. One without its frame would make
    /// nonsense of all that follows, and is dropped as well.
    pub fn send(&self, message: &[u8]) -> bool {
        let fits = !self.is_framed || framing::is_frame(message);
        let sent = fits && self.outgoing.push(Bytes::copy_from_slice(message)).is_ok();
        self.shared.dropped.fetch_add(u64::from(!sent), Ordering::Relaxed);
        sent
    }

    /// Has `waker` woken at the next message.
    pub(crate) fn register(&self, waker: &Waker) {
        self.incoming.register(waker);
    }

    /// The next message that has come; an error when the stream is gone.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Bytes>> {
        match self.incoming.pop() {
            Popped::Item(message) => Ok(Some(message)),
            Popped::Empty => Ok(None),
            Popped::Closed => {
                let failure = self.shared.failure.get().map_or("it has ended", String::as_str);
                Err(io::Error::other(format!("the stream is gone: {failure}")))
            }
        }
    }

    /// The address that it has here.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next message, for whoever has no media thread.
    ///
    /// # Errors
    /// When the stream is gone.
    pub async fn recv(&mut self) -> io::Result<Bytes> {
        std::future::poll_fn(|context| {
            // Before it is looked, or what comes in between would not wake anybody.
            self.register(context.waker());
            match self.receive() {
                Ok(Some(message)) => Poll::Ready(Ok(message)),
                Ok(None) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Messages that were dropped for want of room, in both directions.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// The task's end of a stream.
pub struct StreamTask {
    stream: Box<dyn Duplex>,
    incoming: RingSender<Bytes>,
    outgoing: RingReceiver<Bytes>,
    shared: Arc<Shared>,
    frames: Frames,
    framing: Framing,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Connects to a TURN server, over TLS if so. The task is to be spawned; the end is for a
/// media thread.
///
/// # Errors
/// Whatever the system says; what is wrong with a certificate;
/// [`TimedOut`](io::ErrorKind::TimedOut) after 5 s, or 10 s with TLS.
pub async fn open_stream(
    server: SocketAddr,
    tls: Option<StreamTls>,
) -> io::Result<(StreamEnd, StreamTask)> {
    let stream = in_time(TcpStream::connect(server)).await?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let stream: Box<dyn Duplex> = match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(in_time(tls::secure(stream, tls)).await?),
    };
    Ok(ends(stream, server, local, Frames::new(Framing::Turn), Framing::Turn))
}

/// Connects to a peer (RFC 6544), from this address of ours; otherwise as [`open_stream`].
///
/// # Errors
/// Whatever the system says; [`TimedOut`](io::ErrorKind::TimedOut) after 5 s.
pub async fn open_peer_stream(
    peer: SocketAddr,
    from: IpAddr,
) -> io::Result<(StreamEnd, StreamTask)> {
    let stream = in_time(connect_from(from, peer)).await?;
    tune(&stream)?;
    let local = stream.local_addr()?;
    let framing = Framing::Rfc4571;
    Ok(ends(Box::new(stream), peer, local, Frames::new(framing), framing))
}

/// Has a stream send at once, and no more wait in the system than is needed to keep it going:
/// what waits here is dropped when it is too much, what waits there is late.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT)?;
    Ok(())
}

async fn connect_from(from: IpAddr, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(peer).await
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

fn ends(
    stream: Box<dyn Duplex>,
    remote: SocketAddr,
    local: SocketAddr,
    frames: Frames,
    framing: Framing,
) -> (StreamEnd, StreamTask) {
    let shared = Arc::new(Shared::default());
    let (to_thread, incoming) = ring(CAPACITY);
    let (outgoing, from_thread) = ring(CAPACITY);
    let is_framed = framing == Framing::Rfc4571;
    let of_task = Arc::clone(&shared);
    let end = StreamEnd { incoming, outgoing, shared, remote, local, is_framed };
    let (incoming, outgoing, shared) = (to_thread, from_thread, of_task);
    (end, StreamTask { stream, incoming, outgoing, shared, frames, framing })
}

impl StreamTask {
    /// Moves messages until either side closes.
    pub async fn run(self) {
        let Self { stream, mut incoming, outgoing, shared, frames, framing } = self;
        let (reader, writer) = tokio::io::split(stream);
        let ended = tokio::select! {
            read = read_all(reader, frames, &mut incoming, &shared) => read,
            written = write_all(writer, framing, outgoing) => written,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a stream has ended");
            let _ = shared.failure.set(error.to_string());
        }
        // Dropping this ring, and nothing before that, tells the media thread, which then looks for
        // the failure.
        drop(incoming);
    }
}

async fn read_all(
    mut reader: impl AsyncRead + Unpin,
    mut frames: Frames,
    incoming: &mut RingSender<Bytes>,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        while let Some(message) = frames.next()? {
            let room = incoming.push(message).is_ok();
            shared.dropped.fetch_add(u64::from(!room), Ordering::Relaxed);
        }
        if reader.read_buf(frames.buffer()).await? == 0 {
            return Err(io::Error::other("closed by the other side"));
        }
    }
}

async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    framing: Framing,
    mut outgoing: RingReceiver<Bytes>,
) -> io::Result<()> {
    let mut batch = BytesMut::new();
    while let Some(message) = outgoing.recv().await {
        framing::append(framing, &mut batch, &message);
        while batch.len() < WRITE_BATCH
            && let Popped::Item(message) = outgoing.pop()
        {
            framing::append(framing, &mut batch, &message);
        }
        writer.write_all(&batch).await?;
        writer.flush().await?;
        batch.clear();
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUN: [u8; 20] =
        [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn turn_ends(stream: tokio::io::DuplexStream) -> (StreamEnd, StreamTask) {
        let address = "127.0.0.1:1".parse().unwrap();
        let frames = Frames::new(Framing::Turn);
        ends(Box::new(stream), address, address, frames, Framing::Turn)
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(work)
    }

    #[test]
    fn messages_cross_in_both_directions_and_closing_flushes() {
        run(async {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let (mut end, task) = turn_ends(ours);
            tokio::spawn(task.run());
            theirs.write_all(&STUN[..7]).await.unwrap();
            theirs.write_all(&[&STUN[7..], &[0x40, 0, 0, 1, 9, 0, 0, 0]].concat()).await.unwrap();
            assert_eq!(end.recv().await.unwrap(), STUN[..]);
            assert_eq!(end.recv().await.unwrap(), [0x40, 0, 0, 1, 9][..]);
            assert!(end.send(&[0x40, 0, 0, 1, 7]) && end.send(&STUN));
            drop(end);
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [&[0x40, 0, 0, 1, 7, 0, 0, 0], &STUN[..]].concat());
        });
    }

    #[test]
    fn a_stream_that_ends_or_makes_no_sense_is_reported() {
        for (sent, said) in [(&b""[..], "closed by the other side"), (b"SSH-2.0-other", "neither")]
        {
            run(async {
                let (ours, mut theirs) = tokio::io::duplex(64);
                let (mut end, task) = turn_ends(ours);
                tokio::spawn(task.run());
                theirs.write_all(sent).await.unwrap();
                if sent.is_empty() {
                    drop(theirs);
                }
                let error = end.recv().await.unwrap_err().to_string();
                assert!(error.contains(said), "{error}");
            });
        }
    }

    /// Whether the failure was known when it was woken last.
    struct Look {
        shared: Arc<Shared>,
        knew: std::sync::Mutex<Option<bool>>,
    }

    impl std::task::Wake for Look {
        fn wake(self: Arc<Self>) {
            *self.knew.lock().unwrap() = Some(self.shared.failure.get().is_some());
        }
    }

    #[test]
    fn why_a_stream_has_ended_is_known_before_it_is_told_that_it_has() {
        run(async {
            let (ours, theirs) = tokio::io::duplex(64);
            let (mut end, task) = turn_ends(ours);
            let look = Arc::new(Look { shared: Arc::clone(&end.shared), knew: None.into() });
            end.register(&Waker::from(Arc::clone(&look)));
            assert!(end.receive().unwrap().is_none());
            drop(theirs);
            task.run().await;
            assert_eq!(*look.knew.lock().unwrap(), Some(true));
        });
    }

    #[test]
    fn what_there_is_no_room_for_is_dropped_and_counted() {
        run(async {
            let (ours, _theirs) = tokio::io::duplex(1);
            let (end, _task) = turn_ends(ours);
            let sent = (0..300).filter(|_| end.send(&STUN)).count();
            assert_eq!((sent, end.dropped()), (CAPACITY, 300 - CAPACITY as u64));
        });
    }
}
