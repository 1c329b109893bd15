use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::SimConfig;
use super::host::Host;
use super::link::LinkConfig;
use super::nat::{Nat, NatKind};
use super::transcript::TranscriptEntry;
use super::wire::{INTERNET, Wire};
use crate::{DatagramKind, classify, now};

/// A handle to a simulated network; clones are the same network.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    wire: Mutex<Wire>,
    tap: Mutex<Option<Tap>>,
    /// Tells the delivering task that something earlier may be due.
    launched: Notify,
}

type Tap = Box<dyn FnMut(&Observed<'_>) -> Verdict + Send>;

/// A datagram that a tap sees, as it leaves its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed<'a> {
    /// When, since the start of the simulation.
    pub at: Duration,
    /// The address it is sent from, before any NAT.
    pub from: SocketAddr,
    /// The address it is sent to.
    pub to: SocketAddr,
    /// Its kind by RFC 7983.
    pub kind: DatagramKind,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What a tap wants done with a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let it pass.
    Pass,
    /// Take it off the wire.
    Drop,
    /// Send this in its place.
    Replace(Vec<u8>),
}

impl Network {
    pub(super) fn new(config: SimConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                wire: Mutex::new(Wire::new(config, now())),
                tap: Mutex::new(None),
                launched: Notify::new(),
            }),
        }
    }

    /// Puts a host with these public addresses on the network, all of them up. It also has
    /// 127.0.0.1, and ::1 if any of its addresses is IPv6, for itself alone.
    ///
    /// # Panics
    /// When another host or NAT has one of the addresses.
    pub fn host(&self, name: &str, addresses: &[IpAddr]) -> Host {
        self.add_host(name, addresses, INTERNET)
    }

    /// Puts a NAT with this public address on the network.
    ///
    /// # Panics
    /// When another host or NAT has that address.
    pub fn nat(&self, name: &str, kind: NatKind, public: IpAddr) -> Nat {
        self.add_nat(name, kind, public, INTERNET)
    }

    /// Sets what links do that have no configuration of their own, from now on.
    pub fn link(&self, config: LinkConfig) {
        self.lock().default_link = config;
    }

    /// Sets what the link from one host to another does, from now on; that direction only.
    pub fn link_from(&self, from: &Host, to: &Host, config: LinkConfig) {
        self.lock().set_link(from.index, to.index, Some(config));
    }

    /// Sets what the links between two hosts do, from now on; both directions.
    pub fn link_between(&self, a: &Host, b: &Host, config: LinkConfig) {
        self.link_from(a, b, config);
        self.link_from(b, a, config);
    }

    /// Stops everything between two hosts. What is on its way still arrives.
    pub fn partition(&self, a: &Host, b: &Host) {
        self.lock().set_partition(a.index, b.index, true);
    }

    /// Ends a [`partition`](Self::partition).
    pub fn heal(&self, a: &Host, b: &Host) {
        self.lock().set_partition(a.index, b.index, false);
    }

    /// Has time pass all at once, as it does for processes that were suspended together, or when
    /// a machine wakes up: every timer that was due meanwhile is due now, and late. What was on
    /// its way arrives now as well.
    pub async fn jump(&self, time: Duration) {
        tokio::time::advance(time).await;
    }

    /// Has `tap` see, stop or change every datagram as it leaves its host; a former tap is
    /// gone. It may use the network, [`inject`](Self::inject) included.
    pub fn tap(&self, tap: impl FnMut(&Observed<'_>) -> Verdict + Send + 'static) {
        *self.tap_slot() = Some(Box::new(tap));
    }

    /// Removes the tap.
    pub fn untap(&self) {
        let tap = self.tap_slot().take();
        // Dropped outside the lock: it may hold handles to this network.
        drop(tap);
    }

    /// Puts a forged or replayed datagram on the network, which arrives at once and bypasses
    /// links and the tap. NATs on the way to `to` filter it by `from`, whoever that is; `to`
    /// may also be a private address, which is then reached from within its network.
    pub fn inject(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.lock().inject(now(), from, to, datagram.to_vec());
        self.shared.launched.notify_one();
    }

    /// All datagrams so far, in the order of sending; those beyond the limit are missing
    /// ([`unrecorded`](Self::unrecorded)).
    pub fn transcript(&self) -> Vec<TranscriptEntry> {
        self.lock().transcript.entries().to_vec()
    }

    /// Datagrams beyond the limit of the transcript.
    pub fn unrecorded(&self) -> u64 {
        self.lock().transcript.unrecorded()
    }

    /// Virtual time since the start of the simulation.
    pub fn elapsed(&self) -> Duration {
        self.lock().elapsed(now())
    }

    /// A random number from the seed of this simulation, for the scenario's own decisions.
    pub fn random(&self) -> u64 {
        self.lock().rng.u64(..)
    }

    pub(super) fn add_host(&self, name: &str, addresses: &[IpAddr], realm: usize) -> Host {
        let index = self.lock().add_host(name, addresses, realm);
        Host { network: self.clone(), index }
    }

    pub(super) fn add_nat(&self, name: &str, kind: NatKind, public: IpAddr, outer: usize) -> Nat {
        let index = self.lock().add_nat(name, kind, public, outer);
        Nat { network: self.clone(), index }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire> {
        // A test that panicked while building a network has said all there is to say.
        self.shared.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tap_slot(&self) -> MutexGuard<'_, Option<Tap>> {
        self.shared.tap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a datagram from a host. Returns whether the host itself could.
    pub(super) fn send(&self, host: usize, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
        if let Some(held) = &mut self.lock().hosts[host].held {
            return held.push(from, to, bytes);
        }
        let at = now();
        let bytes = match self.consult_tap(at, from, to, bytes) {
            Verdict::Pass => bytes.to_vec(),
            Verdict::Replace(other) => other,
            Verdict::Drop => {
                self.lock().intercepted(at, from, to, bytes);
                return true;
            }
        };
        let sent = self.lock().transmit(at, host, from, to, bytes);
        self.shared.launched.notify_one();
        sent
    }

    fn consult_tap(&self, at: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Verdict {
        // Taken out while it is called, so that it may use the network, even replace itself.
        let Some(mut tap) = self.tap_slot().take() else {
            return Verdict::Pass;
        };
        let at = self.lock().elapsed(at);
        let verdict = tap(&Observed { at, from, to, kind: classify(bytes), bytes });
        self.tap_slot().get_or_insert(tap);
        verdict
    }

    /// Hands over datagrams when they are due, for as long as it is polled.
    pub(super) async fn deliver(self) {
        loop {
            let next = self.lock().next_due();
            match next {
                None => self.shared.launched.notified().await,
                Some(due) if due > now() => {
                    tokio::select! {
                        biased;
                        () = self.shared.launched.notified() => {}
                        () = tokio::time::sleep_until(due.into()) => {}
                    }
                }
                Some(_) => {
                    let turns = {
                        let mut wire = self.lock();
                        if wire.config.perturb { wire.rng.u32(0..4) } else { 0 }
                    };
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                    self.lock().deliver_due(now());
                    // Even where nothing takes time, others get their turn.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = self.lock();
        f.debug_struct("Network")
            .field("seed", &wire.config.seed)
            .field("hosts", &wire.hosts.len())
            .field("nats", &wire.nats.len())
            .finish_non_exhaustive()
    }
}
