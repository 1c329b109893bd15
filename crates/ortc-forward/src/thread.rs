use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ortc_io::UdpIo;
use ortc_io::ring::RingReceiver;

use crate::{
    ForwarderConfig, ForwarderEvent, ForwarderHandle, MAX_FORWARDERS, PacketForwarder, WallClock,
    connect,
};

/// The thread of a pinned forwarder. Dropped without [`join`](Self::join), it runs on until
/// it is stopped.
#[derive(Debug)]
pub struct ForwarderThread {
    join: JoinHandle<()>,
    /// Hangs up when the thread ends.
    finished: Receiver<()>,
}

impl ForwarderThread {
    /// Waits at most `timeout` for the thread to end; returns whether it has.
    ///
    /// Tell it to [`stop`](ForwarderHandle::stop) first.
    pub fn join(self, timeout: Duration) -> bool {
        match self.finished.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => false,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                // A panic has been reported through the event ring's hang-up.
                let _ = self.join.join();
                true
            }
        }
    }
}

/// Starts a forwarder on a thread of its own, over the system's sockets.
///
/// Should the thread panic outside of what is confined to one connection, the event ring
/// hangs up; that is all there is to notice.
///
/// # Errors
/// When the system refuses a thread or a poller.
pub fn spawn_pinned(
    config: ForwarderConfig,
) -> io::Result<(ForwarderHandle, RingReceiver<ForwarderEvent>, ForwarderThread)> {
    let mut all = spawn_connected(config, 1)?;
    Ok(all.remove(0))
}

/// Starts `count` forwarders, each on a thread of its own and over sockets of its own, that
/// are [connected](crate::connect) with each other.
///
/// # Errors
/// When the system refuses a thread or a poller, or when `count` is 0 or more than
/// [`MAX_FORWARDERS`]. Those that have been started by then stop.
pub fn spawn_connected(
    config: ForwarderConfig,
    count: usize,
) -> io::Result<Vec<(ForwarderHandle, RingReceiver<ForwarderEvent>, ForwarderThread)>> {
    if !(1..=MAX_FORWARDERS).contains(&count) {
        let message = format!("1 to {MAX_FORWARDERS} media threads are possible, not {count}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let clock = WallClock::system(ortc_io::now());
    let (mut forwarders, mut rest) = (Vec::new(), Vec::new());
    for place in 0..count as u64 {
        let io = UdpIo::new(config.udp)?;
        let seed = match config.seed {
            Some(seed) => seed.wrapping_add(place),
            None => system_seed()?,
        };
        let (forwarder, handle, events) = PacketForwarder::new(&config, seed, clock, io.waker());
        forwarders.push(forwarder);
        rest.push((io, handle, events));
    }
    connect(&mut forwarders);
    let mut started = Vec::new();
    let told = Arc::new(AtomicBool::new(false));
    for (place, (mut forwarder, (io, handle, events))) in
        forwarders.into_iter().zip(rest).enumerate()
    {
        let (alive, finished) = bounded(0);
        if config.time_steps {
            forwarder.meter_steps(cpu_time);
        }
        let scheduling = Scheduling {
            core: config.core.map(|first| first + place),
            niceness: config.niceness,
            priority: config.priority,
            told: Arc::clone(&told),
        };
        let join = std::thread::Builder::new()
            .name(format!("{}-{place}", config.name))
            .spawn(move || run(forwarder, io, scheduling, alive))?;
        started.push((handle, events, ForwarderThread { join, finished }));
    }
    Ok(started)
}

/// Where and how a thread runs.
struct Scheduling {
    core: Option<usize>,
    niceness: Option<i32>,
    priority: Option<u8>,
    /// Whether it was said that the priority is refused: by one thread for all of them.
    told: Arc<AtomicBool>,
}

/// The thread: a turn, then a wait for whatever comes first.
fn run(mut forwarder: PacketForwarder, mut io: UdpIo, scheduling: Scheduling, _alive: Sender<()>) {
    if let Some(core) = scheduling.core {
        pin(core);
    }
    if let Some(niceness) = scheduling.niceness {
        be_nice(niceness);
    }
    if let Some(priority) = scheduling.priority
        && let Err(error) = ortc_io::run_in_real_time(priority)
        && !scheduling.told.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(priority, %error, "real-time priority is refused; all threads run on");
    }
    forwarder.meter_cpu(cpu_time);
    loop {
        let now = ortc_io::now();
        let turn = forwarder.turn(now, &mut io);
        if turn.stopped {
            return;
        }
        // Also where there is more to do at once: only a wait learns what has arrived.
        let deadline = if turn.more { Some(now) } else { turn.next.map(|(at, _)| at) };
        if let Err(error) = io.wait(deadline) {
            // Nothing would ever be received again; the hang-up tells the control plane.
            tracing::error!(%error, "the poller has failed: the forwarder stops");
            return;
        }
    }
}

fn system_seed() -> io::Result<u64> {
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed)
        .map_err(|_| io::Error::other("the system gives no randomness"))?;
    Ok(u64::from_ne_bytes(seed))
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(time.tv_sec.try_into().unwrap_or(0));
    seconds + Duration::from_nanos(time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(target_os = "linux")]
fn pin(core: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let pinned = if core < CpuSet::MAX_CPU {
        let mut cores = CpuSet::new();
        cores.set(core);
        sched_setaffinity(None, &cores)
    } else {
        Err(rustix::io::Errno::INVAL)
    };
    if let Err(error) = pinned {
        tracing::warn!(core, %error, "the thread cannot be pinned; it runs on");
    }
}

/// Sets the niceness of the calling thread: on Linux each thread has its own.
#[cfg(target_os = "linux")]
fn be_nice(niceness: i32) {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), niceness) {
        tracing::warn!(niceness, %error, "the thread's priority cannot be set; it runs on");
    }
}

#[cfg(not(target_os = "linux"))]
fn be_nice(niceness: i32) {
    tracing::warn!(niceness, "threads have no priority of their own here; it runs on");
}

#[cfg(not(target_os = "linux"))]
fn pin(core: usize) {
    tracing::warn!(core, "threads cannot be pinned on this system; it runs on");
}
