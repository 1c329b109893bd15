//! What this process has used so far, read as `ortc-bench` reads it of itself.

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::Result;

/// The answer to `{"usage":true}`: CPU time of all threads, and resident memory.
pub(crate) fn report() -> Result<Value> {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("unexpected /proc/self/statm")?.parse()?;
    Ok(json!({ "usage": {
        "cpu_ns": used.tv_sec * 1_000_000_000 + used.tv_nsec,
        "rss_bytes": pages * rustix::param::page_size() as u64,
    } }))
}

/// Lets this process open as many files, sockets among them, as the system allows it.
pub(crate) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
