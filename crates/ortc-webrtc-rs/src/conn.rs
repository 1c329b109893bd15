//! The stack's `Conn` and `UDPMux` over a socket port.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use actix::Recipient;
use async_trait::async_trait;
use bytes::Bytes;
use ortc_io::{ConnectionId, Path, PathUpdate, SendControl, SocketCommand, SocketId};
use tokio::sync::{Mutex, Notify, mpsc};
use webrtc_ice::udp_mux::UDPMux;
use webrtc_util::{Conn, Error};

/// Datagrams that wait for the stack to read them; more are refused, and counted by whoever
/// pushes them. As many as an actor's mailbox holds would be more than it can use: a check
/// or a flight that has waited is sent again anyway.
pub(crate) const QUEUE: usize = 64;

/// Addresses of the peer that an agent has answered; it makes a candidate of each and keeps
/// them in a list without a bound.
const MAX_ANSWERED: usize = 100;

/// The first two bytes of a STUN binding success response (RFC 8489 §5).
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];

/// One datagram and where it came from.
pub(crate) type Arrival = (Bytes, SocketAddr);

/// A socket of the socket port, as the stack sees it.
///
/// What it sends leaves as [`SendControl`]; what it reads was pushed into its queue. It never
/// ends by itself: the stack spins on a connection that fails, so once its queue has hung up
/// a read waits for ever, and whoever reads is to be dropped.
pub(crate) struct PortConn {
    sockets: Recipient<SocketCommand>,
    connection: ConnectionId,
    /// The socket and its address; `None` for the connection's selected path.
    socket: Option<(SocketId, SocketAddr)>,
    arrivals: Mutex<mpsc::Receiver<Arrival>>,
    answered: std::sync::Mutex<BTreeSet<SocketAddr>>,
    /// Whether what was read last may be the first answer to a check there. One task reads.
    is_answer: AtomicBool,
    answer_handled: Notify,
    /// Where a check was answered.
    validated: std::sync::Mutex<BTreeSet<SocketAddr>>,
}

impl PortConn {
    /// Whether the stack may hear STUN from this address, or has answered too many already.
    pub(crate) fn may_hear(&self, from: SocketAddr) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.len() < MAX_ANSWERED || answered.contains(&from)
    }

    /// Notes an answer; whether it is the first to this address.
    fn note_answer(&self, to: SocketAddr) -> bool {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(to)
    }

    /// Whether a check to this address was answered, and that is known.
    fn is_validated(&self, at: SocketAddr) -> bool {
        self.validated.lock().unwrap_or_else(PoisonError::into_inner).contains(&at)
    }

    /// Notes that a check to this address was answered; whether that is new.
    pub(crate) fn note_validated(&self, at: SocketAddr) -> bool {
        self.validated.lock().unwrap_or_else(PoisonError::into_inner).insert(at)
    }

    /// Speaks through one socket to any address.
    pub(crate) fn of_socket(
        sockets: Recipient<SocketCommand>,
        connection: ConnectionId,
        socket: SocketId,
        local: SocketAddr,
    ) -> (Arc<Self>, mpsc::Sender<Arrival>) {
        Self::new(sockets, connection, Some((socket, local)))
    }

    /// Speaks through whatever path is selected.
    pub(crate) fn of_selected_path(
        sockets: Recipient<SocketCommand>,
        connection: ConnectionId,
    ) -> (Arc<Self>, mpsc::Sender<Arrival>) {
        Self::new(sockets, connection, None)
    }

    fn new(
        sockets: Recipient<SocketCommand>,
        connection: ConnectionId,
        socket: Option<(SocketId, SocketAddr)>,
    ) -> (Arc<Self>, mpsc::Sender<Arrival>) {
        let (push, arrivals) = mpsc::channel(QUEUE);
        let conn = Self {
            sockets,
            connection,
            socket,
            arrivals: Mutex::new(arrivals),
            answered: std::sync::Mutex::default(),
            is_answer: AtomicBool::new(false),
            answer_handled: Notify::new(),
            validated: std::sync::Mutex::default(),
        };
        (Arc::new(conn), push)
    }

    /// Waits until the stack has handled what may be an answer to a check, from where none is known
    /// to have come.
    pub(crate) async fn answer_handled(&self) {
        self.answer_handled.notified().await;
    }

    fn transmit(&self, path: Option<Path>, datagram: &[u8]) {
        let datagram = Bytes::copy_from_slice(datagram);
        let control = SendControl { connection: self.connection, path, datagram };
        self.sockets.do_send(SocketCommand::SendControl(control));
    }

    async fn next(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        // The stack handles what it has read before it reads again.
        if self.is_answer.swap(false, Ordering::Relaxed) {
            self.answer_handled.notify_one();
        }
        let arrival = self.arrivals.lock().await.recv().await;
        let Some((datagram, from)) = arrival else { return std::future::pending().await };
        let room = buffer.get_mut(..datagram.len()).ok_or(Error::ErrBufferShort)?;
        room.copy_from_slice(&datagram);
        let is_answer = datagram.starts_with(&BINDING_SUCCESS) && !self.is_validated(from);
        self.is_answer.store(is_answer, Ordering::Relaxed);
        Ok((datagram.len(), from))
    }
}

#[async_trait]
impl Conn for PortConn {
    async fn connect(&self, _: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        Ok(self.next(buffer).await?.0)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        self.next(buffer).await
    }

    async fn send(&self, datagram: &[u8]) -> Result<usize, Error> {
        self.transmit(None, datagram);
        Ok(datagram.len())
    }

    /// The stack answers a check only after it has verified its MESSAGE-INTEGRITY, so the
    /// answer says that the path is authenticated.
    async fn send_to(&self, datagram: &[u8], target: SocketAddr) -> Result<usize, Error> {
        let path = self.socket.map(|(socket, _)| Path::plain(socket, target));
        if let Some(path) = path
            && datagram.starts_with(&BINDING_SUCCESS)
            && self.note_answer(target)
        {
            let update = PathUpdate::Authenticated(path);
            self.sockets.do_send(SocketCommand::Path(self.connection, update));
        }
        self.transmit(path, datagram);
        Ok(datagram.len())
    }

    fn local_addr(&self) -> Result<SocketAddr, Error> {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Ok(self.socket.map_or(nowhere, |(_, local)| local))
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// A mux over one socket that one agent has to itself.
pub(crate) struct OneSocket(pub(crate) Arc<PortConn>);

#[async_trait]
impl UDPMux for OneSocket {
    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn get_conn(self: Arc<Self>, _: &str) -> Result<Arc<dyn Conn + Send + Sync>, Error> {
        let conn: Arc<dyn Conn + Send + Sync> = self.0.clone();
        Ok(conn)
    }

    async fn remove_conn_by_ufrag(&self, _: &str) {}
}

#[cfg(test)]
mod tests {
    use ortc_io::probe::Probe;

    use super::*;

    const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };

    fn address(n: u16) -> SocketAddr {
        ([192, 0, 2, 1], n).into()
    }

    #[actix::test]
    async fn of_the_addresses_that_are_answered_a_hundred_are_heard() {
        let mut sockets = Probe::<SocketCommand>::new();
        let socket = SocketId { slot: 0, generation: 0 };
        let (conn, _push) = PortConn::of_socket(sockets.recipient(), ID, socket, address(1));
        let answer = [&BINDING_SUCCESS[..], &[0; 18]].concat();
        for n in 1..=100 {
            assert!(conn.may_hear(address(n)));
            for _ in 0..2 {
                conn.send_to(&answer, address(n)).await.unwrap();
            }
        }
        assert!(conn.may_hear(address(100)) && !conn.may_hear(address(101)));
        // The first answer says that the path is authenticated, and the second nothing new.
        for n in 1..=100 {
            let authenticated = sockets.next().await;
            let SocketCommand::Path(ID, PathUpdate::Authenticated(path)) = authenticated else {
                panic!("{authenticated:?}");
            };
            assert_eq!(path, Path::plain(socket, address(n)));
            for _ in 0..2 {
                assert!(matches!(sockets.next().await, SocketCommand::SendControl(_)));
            }
        }
    }

    #[actix::test]
    async fn a_first_answer_is_handled_once_the_stack_reads_on() {
        use futures_util::FutureExt;

        let sockets = Probe::<SocketCommand>::new();
        let (conn, push) = PortConn::of_selected_path(sockets.recipient(), ID);
        let all = [(BINDING_SUCCESS, true), ([0, 1], false), (BINDING_SUCCESS, false)];
        for (n, (first, is_answer)) in all.into_iter().enumerate() {
            if n == 2 {
                assert!(conn.note_validated(address(1)) && !conn.note_validated(address(1)));
            }
            let datagram = Bytes::from([&first[..], &[0; 18]].concat());
            push.try_send((datagram, address(1))).unwrap();
            conn.recv(&mut [0; 20]).await.unwrap();
            assert_eq!(conn.answer_handled().now_or_never(), None);
            assert!(conn.recv(&mut [0; 20]).now_or_never().is_none(), "there is no more");
            assert_eq!(conn.answer_handled().now_or_never(), is_answer.then_some(()));
        }
    }

    #[actix::test]
    async fn what_is_longer_than_the_room_is_an_error_and_the_queue_has_an_end() {
        let sockets = Probe::<SocketCommand>::new();
        let (conn, push) = PortConn::of_selected_path(sockets.recipient(), ID);
        let datagram = Bytes::from_static(&[7; 20]);
        let taken = (0..100).filter(|_| push.try_send((datagram.clone(), address(1))).is_ok());
        assert_eq!(taken.count(), QUEUE);
        assert!(conn.recv(&mut [0; 19]).await.is_err());
        assert_eq!(conn.recv_from(&mut [0; 20]).await.unwrap(), (20, address(1)));
    }
}
