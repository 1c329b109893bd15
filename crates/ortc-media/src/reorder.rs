use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// How long a packet waits for an earlier one: 60 ms at 48 kHz, three usual packets. Networks
/// reorder by less, and a recording has no need of haste.
const DEPTH: u64 = 2880;

/// Most packets that wait, whatever their times say.
const CAPACITY: usize = 64;

/// A packet this far before what was already handed out (5 s) is not late: the sender's clock
/// has jumped, and everything after it would be late too.
const JUMP: u64 = 5 * 48_000;

/// Puts packets back into the order of their media time, within 60 ms.
#[derive(Debug, Default)]
pub struct ReorderBuffer {
    waiting: BTreeMap<u64, Bytes>,
    /// What waited when the sender's clock jumped: its times compare with nothing after it.
    before_jump: VecDeque<(u64, Bytes)>,
    /// Time of the last packet handed out.
    passed: Option<u64>,
    counts: ReorderCounts,
}

/// What a [`ReorderBuffer`] has dropped or noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReorderCounts {
    /// Dropped: a packet of the same or a later time had already been handed out.
    pub late: u64,
    /// Dropped: a packet of the same time was already waiting.
    pub duplicates: u64,
    /// The sender's clock went back by more than five seconds.
    pub jumps: u64,
}

impl ReorderBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a packet with its media time in samples at 48 kHz.
    pub fn push(&mut self, media_time: u64, packet: Bytes) {
        if let Some(passed) = self.passed
            && media_time <= passed
        {
            if passed - media_time <= JUMP {
                self.counts.late += 1;
                return;
            }
            self.before_jump.extend(std::mem::take(&mut self.waiting));
            self.passed = None;
            self.counts.jumps += 1;
            // Bounds this queue even if nobody pops: the oldest were to be handed out first.
            while self.before_jump.len() > CAPACITY {
                self.before_jump.pop_front();
                self.counts.late += 1;
            }
        }
        if self.waiting.contains_key(&media_time) {
            self.counts.duplicates += 1;
            return;
        }
        self.waiting.insert(media_time, packet);
        if self.waiting.len() > 2 * CAPACITY {
            self.waiting.pop_first();
            self.counts.late += 1;
        }
    }

    /// Hands out the next packet, once nothing before it is to be expected any more. Call it
    /// until `None` after each [`push`](Self::push).
    pub fn pop(&mut self) -> Option<(u64, Bytes)> {
        if let Some(packet) = self.before_jump.pop_front() {
            return Some(packet);
        }
        let (&first, _) = self.waiting.first_key_value()?;
        let (&last, _) = self.waiting.last_key_value()?;
        if last - first < DEPTH && self.waiting.len() <= CAPACITY {
            return None;
        }
        self.take_first()
    }

    /// Hands out the next packet without waiting: for the end of a recording.
    pub fn drain(&mut self) -> Option<(u64, Bytes)> {
        self.before_jump.pop_front().or_else(|| self.take_first())
    }

    /// What was dropped or noticed so far.
    pub fn counts(&self) -> ReorderCounts {
        self.counts
    }

    fn take_first(&mut self) -> Option<(u64, Bytes)> {
        let packet = self.waiting.pop_first()?;
        self.passed = Some(packet.0);
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(buffer: &mut ReorderBuffer, times: &[u64]) -> Vec<u64> {
        let mut out = Vec::new();
        for &time in times {
            buffer.push(time, Bytes::from_static(b"\x78"));
            out.extend(std::iter::from_fn(|| buffer.pop()).map(|(time, _)| time));
        }
        out
    }

    fn drain(buffer: &mut ReorderBuffer) -> Vec<u64> {
        std::iter::from_fn(|| buffer.drain()).map(|(time, _)| time).collect()
    }

    #[test]
    fn what_is_out_of_order_within_60_ms_comes_out_in_order() {
        let mut buffer = ReorderBuffer::new();
        let out = push(&mut buffer, &[960, 0, 2880, 1920, 3840, 4800]);
        assert_eq!(out, [0, 960, 1920]);
        assert_eq!(drain(&mut buffer), [2880, 3840, 4800]);
        assert_eq!(buffer.counts(), ReorderCounts::default());
    }

    #[test]
    fn what_is_late_or_twice_is_dropped_and_counted() {
        let mut buffer = ReorderBuffer::new();
        let out = push(&mut buffer, &[960, 1920, 1920, 2880, 3840, 0, 960]);
        assert_eq!(out, [960]);
        assert_eq!(drain(&mut buffer), [1920, 2880, 3840]);
        assert_eq!(buffer.counts(), ReorderCounts { late: 2, duplicates: 1, jumps: 0 });
    }

    #[test]
    fn a_clock_that_jumps_back_loses_nothing() {
        let mut buffer = ReorderBuffer::new();
        let mut out = push(&mut buffer, &[1_000_000, 1_000_960, 1_001_920, 1_002_880]);
        out.extend(push(&mut buffer, &[0, 960]));
        out.extend(drain(&mut buffer));
        assert_eq!(out, [1_000_000, 1_000_960, 1_001_920, 1_002_880, 0, 960]);
        assert_eq!(buffer.counts(), ReorderCounts { late: 0, duplicates: 0, jumps: 1 });
    }

    #[test]
    fn one_packet_from_the_far_future_does_not_make_the_rest_late() {
        let mut buffer = ReorderBuffer::new();
        let mut out = push(&mut buffer, &[0, u64::MAX, 960, 1920, 2880, 3840]);
        out.extend(drain(&mut buffer));
        assert_eq!(out, [0, 960, 1920, 2880, 3840, u64::MAX]);
    }

    #[test]
    fn times_that_hardly_move_cannot_fill_memory() {
        let mut buffer = ReorderBuffer::new();
        for time in 0..1000 {
            buffer.push(time, Bytes::new());
        }
        assert!(drain(&mut buffer).len() <= 2 * CAPACITY);
        assert_eq!(buffer.counts().late, 1000 - 2 * CAPACITY as u64);
    }
}
