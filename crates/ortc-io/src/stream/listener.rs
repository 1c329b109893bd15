//! A TCP port on which peers open streams (RFC 6544), for one connection or for many.
//!
//! Whoever connects is nobody at first. So that strangers cannot have much of us, a stream
//! becomes a socket of a connection only when its first message is a binding request that names
//! the connection and shows its password; until then it is a descriptor and 2 kB, there are at
//! most 64 of these (8 of one address), and each has 5 s. At the limit the oldest gives way:
//! an honest peer needs one round trip, and to keep it out for that long takes more than
//! holding streams open.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::BytesMut;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinSet};

use super::framing::{Frames, Framing};
use super::greeting::{Refusal, check, read_first};
use super::{StreamEnd, StreamTask, ends, tune};
use crate::consent::stun::integrity_key;

/// Streams that may wait for their first message.
const MAX_WAITING: usize = 64;

/// Of these, streams from one address: several hosts may be behind a NAT.
const MAX_WAITING_OF_ONE: usize = 8;

/// How long the first message may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing is accepted after the system has refused, as it does out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A TCP port; a handle of it, which is cheap to clone. It is closed once the last handle, and
/// the last [`Listening`], is gone.
#[derive(Clone)]
pub struct StreamListener(Arc<Inner>);

struct Inner {
    local: SocketAddr,
    users: Mutex<Users>,
    counters: Counters,
    /// Its task; set at once.
    accepting: OnceLock<AbortHandle>,
}

/// By username fragment.
type Users = HashMap<Box<[u8]>, User>;

struct User {
    key: hmac::Key,
    taker: Taker,
}

type Taker = Arc<dyn Fn(AcceptedStream) + Send + Sync>;

/// What has become of streams to a [`StreamListener`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Streams that the system accepted.
    pub accepted: u64,
    /// Of these, the ones that were taken: their first message was right.
    pub taken: u64,
    /// Those whose first message did not come in 5 s.
    pub timed_out: u64,
    /// Those that gave way to newer ones, over 64 in all or 8 of one address.
    pub displaced: u64,
    /// Those whose first message was no binding request, or did not come before their end.
    pub malformed: u64,
    /// Those whose first message named nobody.
    pub unknown_username: u64,
    /// Those whose first message did not show the password.
    pub bad_integrity: u64,
    /// Times that the system refused, as it does out of descriptors.
    pub refused: u64,
}

impl ListenerStats {
    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.taken += other.taken;
        self.timed_out += other.timed_out;
        self.displaced += other.displaced;
        self.malformed += other.malformed;
        self.unknown_username += other.unknown_username;
        self.bad_integrity += other.bad_integrity;
        self.refused += other.refused;
    }
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    taken: AtomicU64,
    timed_out: AtomicU64,
    displaced: AtomicU64,
    malformed: AtomicU64,
    unknown_username: AtomicU64,
    bad_integrity: AtomicU64,
    refused: AtomicU64,
}

/// A stream whose first message was right.
pub struct AcceptedStream {
    /// For a media thread; the message is the first that comes out of it.
    pub end: StreamEnd,
    /// To be spawned.
    pub task: StreamTask,
    /// The address of ours that was connected to.
    pub local: SocketAddr,
    /// Where it is from.
    pub remote: SocketAddr,
}

/// Streams for one username fragment are taken as long as it lives.
pub struct Listening {
    listener: StreamListener,
    username_frag: Box<[u8]>,
}

impl StreamListener {
    /// Binds a port and begins to accept, by a task of this runtime; port 0 lets the system
    /// choose.
    ///
    /// # Errors
    /// Whatever the system says: address in use, not available here, out of descriptors.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = open(address)?;
        let listener = TcpListener::from_std(socket)?;
        let local = listener.local_addr()?;
        let (users, counters) = (Mutex::default(), Counters::default());
        let inner = Arc::new(Inner { local, users, counters, accepting: OnceLock::new() });
        let accepting = tokio::spawn(accept_all(listener, Arc::downgrade(&inner)));
        let _ = inner.accepting.set(accepting.abort_handle());
        Ok(Self(inner))
    }

    /// Its address, with the port that the system chose. A wildcard stays one.
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    /// Has streams taken whose first message names this username fragment and shows the
    /// password. `None` if somebody else has the fragment.
    pub fn listen(
        &self,
        username_frag: &str,
        password: &str,
        taker: impl Fn(AcceptedStream) + Send + Sync + 'static,
    ) -> Option<Listening> {
        let name: Box<[u8]> = username_frag.as_bytes().into();
        let mut users = self.0.users();
        if users.contains_key(&name) {
            return None;
        }
        let user = User { key: integrity_key(password), taker: Arc::new(taker) };
        users.insert(name.clone(), user);
        drop(users);
        Some(Listening { listener: self.clone(), username_frag: name })
    }

    /// What has become of streams so far.
    pub fn stats(&self) -> ListenerStats {
        let counters = &self.0.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ListenerStats {
            accepted: read(&counters.accepted),
            taken: read(&counters.taken),
            timed_out: read(&counters.timed_out),
            displaced: read(&counters.displaced),
            malformed: read(&counters.malformed),
            unknown_username: read(&counters.unknown_username),
            bad_integrity: read(&counters.bad_integrity),
            refused: read(&counters.refused),
        }
    }
}

impl Listening {
    /// The port.
    pub fn listener(&self) -> &StreamListener {
        &self.listener
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.listener.0.users().remove(&self.username_frag);
    }
}

impl Inner {
    fn users(&self) -> std::sync::MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose a username fragment is.
    fn find(&self, username_frag: &[u8]) -> Option<(hmac::Key, Taker)> {
        let users = self.users();
        let user = users.get(username_frag)?;
        Some((user.key.clone(), Arc::clone(&user.taker)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.get() {
            accepting.abort();
        }
    }
}

impl PartialEq for StreamListener {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for StreamListener {}

impl fmt::Debug for StreamListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamListener").field("local", &self.0.local).finish_non_exhaustive()
    }
}

impl fmt::Debug for AcceptedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, remote, .. } = self;
        f.debug_struct("AcceptedStream")
            .field("local", local)
            .field("remote", remote)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// A listening socket; one for IPv6 never takes IPv4, so that both can have the same port.
fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Or a server could not be started again for a minute.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Streams whose first message is awaited, the oldest first.
#[derive(Default)]
struct Waiting(VecDeque<(Id, IpAddr, AbortHandle)>);

impl Waiting {
    /// Makes room for one more of an address; returns whether another had to give way.
    fn make_room(&mut self, remote: IpAddr) -> bool {
        let of_one = self.0.iter().filter(|(_, ip, _)| *ip == remote).count();
        let oldest = if of_one >= MAX_WAITING_OF_ONE {
            self.0.iter().position(|(_, ip, _)| *ip == remote)
        } else {
            (self.0.len() >= MAX_WAITING).then_some(0)
        };
        let displaced = oldest.and_then(|at| self.0.remove(at));
        displaced.is_some_and(|(_, _, task)| {
            task.abort();
            true
        })
    }

    fn remove(&mut self, id: Id) {
        self.0.retain(|(of, _, _)| *of != id);
    }
}

async fn accept_all(listener: TcpListener, inner: Weak<Inner>) {
    let (mut greetings, mut waiting) = (JoinSet::new(), Waiting::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = greetings.join_next_with_id() => {
                match ended {
                    Ok((id, ())) => waiting.remove(id),
                    Err(error) => waiting.remove(error.id()),
                }
                continue;
            }
        };
        let Some(inner) = inner.upgrade() else { return };
        match accepted {
            Ok((stream, remote)) => {
                inner.counters.accepted.fetch_add(1, Ordering::Relaxed);
                let displaced = waiting.make_room(remote.ip());
                inner.counters.displaced.fetch_add(u64::from(displaced), Ordering::Relaxed);
                let task = greetings.spawn(greet(stream, remote, Arc::downgrade(&inner)));
                waiting.0.push_back((task.id(), remote.ip(), task));
            }
            Err(error) => {
                tracing::debug!(%error, "a stream is not accepted");
                inner.counters.refused.fetch_add(1, Ordering::Relaxed);
                drop(inner);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits for the first message of a stream, and hands it to whom that names.
async fn greet(mut stream: TcpStream, remote: SocketAddr, inner: Weak<Inner>) {
    let first = tokio::time::timeout(PATIENCE, read_first(&mut stream)).await;
    let Some(inner) = inner.upgrade() else { return };
    let counters = &inner.counters;
    let counter = match first {
        Err(_) => &counters.timed_out,
        Ok(first) => match first.and_then(|read| take(&inner, stream, remote, read)) {
            Ok(()) => &counters.taken,
            Err(Refusal::Malformed) => &counters.malformed,
            Err(Refusal::UnknownUsername) => &counters.unknown_username,
            Err(Refusal::BadIntegrity) => &counters.bad_integrity,
        },
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

fn take(
    inner: &Inner,
    stream: TcpStream,
    remote: SocketAddr,
    read: BytesMut,
) -> Result<(), Refusal> {
    let taker = check(&read, |name| inner.find(name))?;
    let addresses = tune(&stream).and_then(|()| stream.local_addr());
    let Ok(local) = addresses else { return Err(Refusal::Malformed) };
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let frames = Frames::with(Framing::Rfc4571, read);
    let (end, task) = ends(Box::new(stream), remote, local, frames, Framing::Rfc4571);
    taker(AcceptedStream { end, task, local, remote });
    Ok(())
}

#[cfg(test)]
mod tests;
