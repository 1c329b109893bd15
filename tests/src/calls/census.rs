//! Which transport actors there still are.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::{Message, Recipient};
use ortc_api::{DtlsStart, IceStart, RtpStart, Transports};

/// What an actor is, and whether it is there.
type Known = (&'static str, Box<dyn Fn() -> bool + Send>);

/// Knows the transport actors of a program, and keeps none of them.
#[derive(Clone, Default)]
pub struct Census(Arc<Mutex<Vec<Known>>>);

impl Census {
    /// Notes an actor that is to be gone in the end.
    pub fn note<M>(&self, what: &'static str, port: &Recipient<M>)
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let port = port.downgrade();
        let is_there = move || port.upgrade().is_some_and(|port| port.connected());
        self.lock().push((what, Box::new(is_there)));
    }

    /// The default actors, noted.
    pub fn transports(&self) -> Transports {
        let [ice, dtls, rtp] = [(); 3].map(|()| self.clone());
        Transports::new()
            .with_ice_actor(move |start: IceStart| {
                let ports = start.start();
                ice.note("an ICE actor", &ports.commands);
                ports
            })
            .with_dtls_actor(move |start: DtlsStart| {
                let ports = start.start();
                dtls.note("a DTLS actor", &ports.commands);
                ports
            })
            .with_rtp_actor(move |start: RtpStart| {
                let port = start.start();
                rtp.note("an RTP actor", &port);
                port
            })
    }

    /// Those that are there.
    pub(super) fn left(&self) -> Vec<&'static str> {
        self.lock().iter().filter(|(_, is_there)| is_there()).map(|(what, _)| *what).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").field("left", &self.left()).finish_non_exhaustive()
    }
}
