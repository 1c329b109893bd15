//! A simulated network under a virtual clock: whole calls in milliseconds, and the same
//! seed always gives the same call.
//!
//! [`run`] starts one actix `System` on the calling thread, with tokio's time paused, and
//! hands a [`Network`] to the scenario. Hosts are put on that network, each with addresses
//! of its own; [`Host::io`] is what a real socket layer would be, a [`DatagramIo`]. Between
//! the hosts are links with loss, delay, jitter, reordering, duplication, a rate with a
//! queue and an MTU ([`LinkConfig`]), and NATs of the usual kinds ([`Nat`]). Time passes
//! only when every actor and task is waiting, and then at once; nothing sleeps.
//!
//! # Testing an application
//!
//! Anything that reaches the network through a [`DatagramIo`] or a socket port (that is:
//! every ORTC actor, and your recorder or IVR on top of them) runs in here unchanged.
//!
//! ```
//! use ortc_io::sim::{self, Fate, LinkConfig};
//! use ortc_io::{DatagramIo, ReceiveBatch, SendBatch};
//! use std::time::Duration;
//!
//! let transcript = sim::run(7, |net| async move {
//!     net.link(LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::default() });
//!     let alice = net.host("alice", &["10.0.0.1".parse().unwrap()]);
//!     let bob = net.host("bob", &["10.0.0.2".parse().unwrap()]);
//!     let (mut from, mut to) = (alice.io(), bob.io());
//!     let (socket, _) = from.bind("10.0.0.1:0".parse().unwrap()).unwrap();
//!     let (_, remote) = to.bind("10.0.0.2:5000".parse().unwrap()).unwrap();
//!
//!     let mut batch = SendBatch::new();
//!     batch.push(socket, remote, b"\x80\x00hello");
//!     from.send(&mut batch);
//!
//!     to.readiness().notified().await; // 20 ms of virtual time, none of yours
//!     let mut received = ReceiveBatch::new();
//!     to.receive(&mut received, &mut Vec::new());
//!     assert_eq!(received.get_mut(0).1, b"\x80\x00hello");
//!     net.transcript()
//! });
//! assert_eq!(transcript[0].fate, Fate::Delivered);
//! assert_eq!(transcript[0].arrived, Some(Duration::from_millis(20)));
//! ```
//!
//! A component that is stepped rather than driven by messages has this loop:
//! `loop { let deadline = component.turn(now(), &mut io); select! { biased;
//! _ = readiness.notified() => {}, _ = sleep_until(deadline) => {} } }`.
//!
//! # What makes a run repeatable
//!
//! One thread, one clock, one seed. Order comes from the seed alone as long as the code
//! under test does its part: time through [`now`](crate::now), randomness from a seed or
//! from `fastrand` (seeded by [`run`]), no iteration over hash maps, and `biased;` in every
//! `tokio::select!` (unbiased, it picks a branch by a randomness that cannot be seeded).
//! tokio's timers have a resolution of 1 ms: a datagram that is due in between is handed
//! over at the next full millisecond, in order.
//!
//! [`SimConfig::perturb`] has the seed also shuffle what the network may legally shuffle,
//! so that a test does not come to rely on one order of mailboxes.
//!
//! [`DatagramIo`]: crate::DatagramIo

mod host;
mod link;
mod nat;
mod network;
mod sockets;
mod transcript;
mod wire;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use actix::System;

pub use host::{Host, SimIo};
pub use link::LinkConfig;
pub use nat::{Nat, NatKind};
pub use network::{Network, Observed, Verdict};
pub use transcript::{Fate, TranscriptEntry};

/// How a simulation is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimConfig {
    /// The one seed of all randomness.
    pub seed: u64,
    /// Whether the order of what is simultaneous is shuffled by the seed: datagrams of
    /// different flows that are due at one instant, and how late in that instant the network
    /// gets its turn among the other tasks. Default off.
    pub perturb: bool,
    /// Entries of the transcript that are kept; later datagrams are only counted. Default
    /// 200,000, some 25 MB.
    pub transcript_limit: usize,
    /// Virtual time after which the scenario is taken to hang, and [`run_with`] panics.
    /// Default one hour.
    pub time_limit: Duration,
}

impl SimConfig {
    /// The defaults with this seed.
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            perturb: false,
            transcript_limit: 200_000,
            time_limit: Duration::from_secs(60 * 60),
        }
    }
}

/// Runs a scenario on a simulated network to its end and returns what it returns.
///
/// # Panics
/// When the scenario panics, or is not done within an hour of virtual time.
pub fn run<F, Fut, T>(seed: u64, scenario: F) -> T
where
    F: FnOnce(Network) -> Fut,
    Fut: Future<Output = T>,
{
    run_with(SimConfig::new(seed), scenario)
}

/// Runs a scenario as [`run`] does, with options.
///
/// Everything that the scenario started (actors, tasks, sockets) is gone when this returns,
/// so it may be called any number of times in a process, on any thread that is not inside a
/// runtime.
///
/// # Panics
/// When the scenario panics, or is not done within [`SimConfig::time_limit`].
pub fn run_with<F, Fut, T>(config: SimConfig, scenario: F) -> T
where
    F: FnOnce(Network) -> Fut,
    Fut: Future<Output = T>,
{
    fastrand::seed(config.seed);
    let runner = System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime without threads needs only an epoll descriptor")
    });
    let (network, outcome) = runner.block_on(async {
        let network = Network::new(config);
        let deliveries = actix_rt::spawn(network.clone().deliver());
        let outcome = tokio::time::timeout(config.time_limit, scenario(network.clone())).await;
        deliveries.abort();
        (network, outcome)
    });
    System::current().stop();
    let stopped = runner.run();
    // The tap may hold anything, the network itself included.
    network.untap();
    match (outcome, stopped) {
        (Ok(value), Ok(())) => value,
        (Err(_), _) => panic!(
            "seed {}: the scenario was not done after {:?} of virtual time",
            config.seed, config.time_limit
        ),
        (_, Err(error)) => panic!("seed {}: the actor system failed: {error}", config.seed),
    }
}
