//! Waiting for a few sockets without a poller that watches them all the time.
//!
//! Whoever watches a socket is told of it each time that something has left its send buffer, also
//! who does not want to know: with `epoll`, two locks for each message, with interrupts disabled.
//! With single packets over loopback that is a twentieth of what sending costs. `poll` watches
//! only while the thread waits, when nothing is sent.

use std::io;
use std::time::Duration;

use mio::net::UdpSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Sockets that are waited for like that: each costs some 50 ns for each time, and a media thread
/// with more than these has one for each connection, most of which are idle.
const SOCKETS: usize = 4;

/// Which sockets those are, by their slots.
#[derive(Debug, Default)]
pub(super) struct Watch {
    slots: [Option<u32>; SOCKETS],
}

/// Who has something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Slots of sockets.
    pub(super) sockets: [Option<u32>; SOCKETS],
    pub(super) poller: bool,
}

impl Watch {
    /// Takes a socket, if there is room for one more.
    pub(super) fn add(&mut self, slot: u32) -> bool {
        let place = self.slots.iter_mut().find(|place| place.is_none());
        place.map(|place| *place = Some(slot)).is_some()
    }

    /// Forgets a socket; whether it was one of these.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let place = self.slots.iter_mut().find(|place| **place == Some(slot));
        place.map(|place| *place = None).is_some()
    }

    /// Waits until something is there on one of these sockets, or the poller has something.
    ///
    /// # Errors
    /// Those of the system; [`Interrupted`](io::ErrorKind::Interrupted) is one of them.
    pub(super) fn wait<'a>(
        &self,
        poller: &mio::Poll,
        socket: impl Fn(u32) -> Option<&'a UdpSocket>,
        timeout: Option<Duration>,
    ) -> io::Result<Found> {
        let poller = PollFd::new(poller.registry(), PollFlags::IN);
        let mut polled = [(); SOCKETS + 1].map(|()| poller.clone());
        let mut found = Found { sockets: [None; SOCKETS], poller: false };
        let mut count = 0;
        for slot in self.slots.iter().flatten() {
            if let Some(udp) = socket(*slot) {
                found.sockets[count] = Some(*slot);
                count += 1;
                polled[count] = PollFd::new(udp, PollFlags::IN);
            }
        }
        // What is too long for the system is forever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        poll(&mut polled[..=count], timeout.as_ref())?;
        // An error counts, too: receiving tells of it.
        let has_something = |polled: &PollFd<'_>| !polled.revents().is_empty();
        found.poller = has_something(&polled[0]);
        for (slot, polled) in found.sockets.iter_mut().zip(&polled[1..]) {
            slot.take_if(|_| !has_something(polled));
        }
        Ok(found)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }
}
