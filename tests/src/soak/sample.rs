//! What a process has of the system.

use std::time::Duration;

/// What this process has at one moment, with nothing going on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Since the beginning.
    pub elapsed: Duration,
    /// Connections that have been made and are closed.
    pub connections: u64,
    /// Bytes that are allocated.
    pub allocated: u64,
    /// Resident memory, in kB: what the allocator keeps of the system's, in use or not.
    pub resident_kb: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Tasks of the runtime that this is called on.
    pub tasks: u64,
}

impl Sample {
    /// Reads `/proc/self`; where there is none, all that it tells is zero.
    pub fn take(elapsed: Duration, connections: u64, allocated: u64) -> Self {
        let entries = |path| std::fs::read_dir(path).map_or(0, |entries| entries.count() as u64);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = |text: &str| text.trim().trim_end_matches(" kB").parse().ok();
        Self {
            elapsed,
            connections,
            allocated,
            resident_kb: resident.and_then(kb).unwrap_or(0),
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64,
        }
    }

    /// This one, with the least of all that is counted that any of these has.
    pub(super) fn with_least_of(&self, samples: &[Self]) -> Self {
        let least = |of: fn(&Self) -> u64| samples.iter().chain([self]).map(of).min().unwrap_or(0);
        Self {
            allocated: least(|sample| sample.allocated),
            resident_kb: least(|sample| sample.resident_kb),
            descriptors: least(|sample| sample.descriptors),
            threads: least(|sample| sample.threads),
            tasks: least(|sample| sample.tasks),
            ..*self
        }
    }
}

/// What one sample has more than another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Connections in between.
    pub connections: u64,
    /// Bytes allocated for each of them; below zero if there are fewer.
    pub allocated_per_connection: f64,
    /// Bytes of resident memory for each of them; below zero if it has shrunk.
    pub resident_per_connection: f64,
    /// File descriptors.
    pub descriptors: i64,
    /// Threads.
    pub threads: i64,
    /// Tasks.
    pub tasks: i64,
}

impl Growth {
    pub(super) fn between(from: &Sample, to: &Sample) -> Self {
        let more = |of: fn(&Sample) -> u64| of(to) as i64 - of(from) as i64;
        let connections = to.connections - from.connections;
        let each = |bytes: i64| bytes as f64 / connections.max(1) as f64;
        Self {
            connections,
            allocated_per_connection: each(more(|sample| sample.allocated)),
            resident_per_connection: each(more(|sample| sample.resident_kb) * 1024),
            descriptors: more(|sample| sample.descriptors),
            threads: more(|sample| sample.threads),
            tasks: more(|sample| sample.tasks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_a_connection_has_left_behind() {
        let from = Sample {
            elapsed: Duration::ZERO,
            connections: 100,
            allocated: 1_000_000,
            resident_kb: 5_000,
            descriptors: 10,
            threads: 4,
            tasks: 7,
        };
        let to = Sample {
            connections: 1_100,
            allocated: 1_016_000,
            resident_kb: 7_000,
            tasks: 6,
            ..from
        };
        let growth = Growth::between(&from, &to);
        assert_eq!(growth.allocated_per_connection, 16.0);
        assert_eq!(growth.resident_per_connection, 2_048.0);
        assert_eq!((growth.connections, growth.descriptors, growth.tasks), (1_000, 0, -1));
    }

    #[test]
    fn what_closes_in_one_sample_is_no_growth_and_what_stays_in_all_is() {
        let calm = Sample {
            elapsed: Duration::ZERO,
            connections: 0,
            allocated: 1,
            resident_kb: 1,
            descriptors: 34,
            threads: 9,
            tasks: 2,
        };
        let at = |connections, descriptors| Sample { connections, descriptors, ..calm };
        let of = |counts: &[u64]| {
            let samples: Vec<_> = (0..).zip(counts).map(|(n, count)| at(n, *count)).collect();
            crate::soak::growth(&samples).map(|growth| growth.descriptors)
        };
        assert_eq!(of(&[9, 9, 9, 9, 34, 35, 34, 34, 34, 35, 34, 35]), Some(0));
        assert_eq!(of(&[9, 9, 9, 9, 34, 35, 34, 34, 35, 35, 36, 35]), Some(1));
        assert_eq!(of(&[9, 9, 9, 9, 34]), None);
    }

    #[test]
    fn memory_of_one_sample_is_no_growth_and_a_leak_is() {
        let of = |leak: u64, peaks: [u64; 12]| {
            let samples: Vec<_> = (0..)
                .zip(peaks)
                .map(|(n, peak)| Sample {
                    elapsed: Duration::ZERO,
                    connections: 1_000 * n,
                    allocated: 2_000_000 + 1_000 * n * leak,
                    resident_kb: 20_000 + peak,
                    descriptors: 34,
                    threads: 9,
                    tasks: 2,
                })
                .collect();
            crate::soak::growth(&samples).unwrap()
        };
        // What the allocator has taken for a round and gives back.
        let growth = of(0, [0, 0, 0, 0, 0, 2_000, 2_100, 2_200, 0, 2_300, 2_350, 2_400]);
        assert_eq!((growth.allocated_per_connection, growth.resident_per_connection), (0.0, 0.0));
        // From the first of the warm ones to the first of the last, 4,000 connections later.
        let growth = of(70, [0, 0, 0, 0, 0, 0, 0, 0, 700, 700, 700, 700]);
        assert_eq!(growth.allocated_per_connection, 70.0);
        assert_eq!(growth.resident_per_connection, 179.2);
    }

    #[tokio::test]
    async fn a_descriptor_more_is_seen() {
        let before = Sample::take(Duration::ZERO, 0, 0);
        let _file = std::fs::File::open("/proc/self/status").unwrap();
        let _task = tokio::spawn(std::future::pending::<()>());
        let growth = Growth::between(&before, &Sample::take(Duration::ZERO, 0, 0));
        // Other tests of this process open files as well.
        assert!(growth.descriptors >= 1);
        assert_eq!(growth.tasks, 1);
    }
}
