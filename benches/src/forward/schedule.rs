//! When which packets are published.

use std::time::Duration;

use super::plan::Plan;
use crate::error::{Failure, Result};

/// Packets closer to each other than this are sent together: sleeping is hardly finer.
const TOGETHER: Duration = Duration::from_micros(100);

/// Bursts, which come again and again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    /// When each comes, and the bytes of its payloads.
    bursts: Vec<(Duration, Vec<usize>)>,
    /// When it begins again.
    period: Duration,
}

impl Schedule {
    /// Bursts as a plan has them, so that so many packets are forwarded a second.
    pub(crate) fn steady(plan: &Plan, rate: f64) -> Self {
        let burst = vec![plan.payload; plan.burst];
        Self { bursts: vec![(Duration::ZERO, burst)], period: plan.interval(rate) }
    }

    /// Nothing at all.
    pub(crate) fn silence() -> Self {
        Self { bursts: Vec::new(), period: Duration::ZERO }
    }

    /// A recorded trace: lines of the microseconds since the packet before and the bytes of a
    /// payload. What begins with `#` is a remark.
    ///
    /// # Errors
    /// The first line that is neither.
    pub(crate) fn parse(trace: &str) -> Result<Self> {
        let mut bursts: Vec<(Duration, Vec<usize>)> = Vec::new();
        let mut at = Duration::ZERO;
        for line in trace.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let wrong = || Failure::new(format!("not `MICROSECONDS,BYTES`: {line}"));
            let (gap, size) = line.split_once(',').ok_or_else(wrong)?;
            let gap = Duration::from_micros(gap.parse().map_err(|_| wrong())?);
            let size: usize = size.parse().map_err(|_| wrong())?;
            at += gap;
            match bursts.last_mut() {
                Some((_, burst)) if gap < TOGETHER => burst.push(size),
                _ => bursts.push((at, vec![size])),
            }
        }
        if bursts.is_empty() {
            return Err(Failure::new("a trace without a packet"));
        }
        Ok(Self { bursts, period: at + Duration::from_millis(10) })
    }

    /// All bursts, without an end.
    pub(crate) fn bursts(&self) -> impl Iterator<Item = (Duration, &[usize])> {
        let rounds = if self.bursts.is_empty() { 0 } else { u32::MAX };
        (0..rounds).flat_map(move |round| {
            let bursts = self.bursts.iter();
            bursts.map(move |(at, burst)| (self.period * round + *at, burst.as_slice()))
        })
    }

    /// One round of it.
    pub(crate) fn period(&self) -> Duration {
        self.period
    }

    /// Packets of one round, and the bytes of their payloads.
    pub(crate) fn totals(&self) -> (usize, usize) {
        let bursts = || self.bursts.iter().map(|(_, burst)| burst);
        (bursts().map(Vec::len).sum(), bursts().flatten().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_as_bursts_that_come_again() {
        let schedule = Schedule::parse("# made by hand\n0,1100\n20,1100\n30000,90\n").unwrap();
        let millis = |ms: u64, us: u64| Duration::from_micros(ms * 1000 + us);
        let first: Vec<_> = schedule.bursts().take(3).collect();
        let expected: [(Duration, &[usize]); 3] = [
            (Duration::ZERO, &[1100, 1100]),
            (millis(30, 20), &[90]),
            (millis(40, 20), &[1100, 1100]),
        ];
        assert_eq!(first, expected);
        assert_eq!(schedule.totals(), (3, 2290));
    }

    #[test]
    fn a_line_that_is_no_packet_is_named() {
        let failure = Schedule::parse("0,1100\nnow,5\n").unwrap_err();
        assert_eq!(failure.to_string(), "not `MICROSECONDS,BYTES`: now,5");
        assert!(Schedule::parse("# nothing\n").is_err());
    }
}
