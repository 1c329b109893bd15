//! What this process has used so far.

use std::io;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process, user and system, in nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

/// That of the calling thread.
pub(crate) fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let used = clock_gettime(clock);
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    number(used.tv_sec) * 1_000_000_000 + number(used.tv_nsec)
}

/// Resident memory of this process in bytes, from `/proc/self/statm`.
///
/// # Errors
/// Where there is no such file, which is anywhere but on Linux.
pub(crate) fn rss_bytes() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other("unexpected /proc/self/statm"))?;
    Ok(pages * u64::try_from(rustix::param::page_size()).unwrap_or(4096))
}

/// Lets this process open as many files, sockets among them, as the system allows it.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A refusal shows as sockets that cannot be bound, which says more.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Has this process and those that it starts go first, where the system lets it: what else the
/// machine does then disturbs the figures less.
pub(crate) fn raise_priority() {
    /// Before everything that has not asked for more than the default, 0.
    const NICENESS: i32 = -10;
    let _ = rustix::process::setpriority_process(None, NICENESS);
}
