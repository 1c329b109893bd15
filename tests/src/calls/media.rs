//! Who hears what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ortc_api::{FrameReceiver, MediaFrame};

use super::{Failure, check, fail};

/// How long what was heard takes to be told, beside its way.
const SLACK: Duration = Duration::from_millis(500);

/// How long a frame may wait for the description of its track.
pub(super) const UNDESCRIBED: Duration = Duration::from_millis(2_800);

/// The frame number `n` of a stream of a connection, as packets of Opus.
pub(super) fn frame_of(origin: (usize, usize), n: u64) -> MediaFrame {
    // TOC 0x78: CELT-only wideband, 20 ms, one frame (RFC 6716 §3.1).
    let mut data = vec![0x78, origin.0 as u8, origin.1 as u8];
    data.extend_from_slice(&n.to_be_bytes());
    MediaFrame { data: Bytes::from(data), timestamp: n * 960 }
}

/// Whose frame it is, and which.
fn parse(data: &[u8]) -> Option<((usize, usize), u64)> {
    let [0x78, conn, stream, n @ ..] = data else { return None };
    Some(((usize::from(*conn), usize::from(*stream)), u64::from_be_bytes(n.try_into().ok()?)))
}

/// A track as its receiver has it: a connection, and an SSRC.
pub(super) type Ear = (usize, String);

/// All that was heard, by whom.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<BTreeMap<Ear, Vec<Bytes>>>>);

impl Heard {
    /// Notes what comes of a track until it ends.
    pub(super) fn listen(&self, ear: Ear, mut frames: FrameReceiver) {
        let heard = self.clone();
        actix::spawn(async move {
            while let Some(frame) = frames.recv().await {
                let mut heard = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
                heard.entry(ear.clone()).or_default().push(frame.data);
            }
        });
    }

    /// The numbers of the frames that were heard there; each is of `origin`, and in its order.
    pub(super) fn numbers(&self, ear: &Ear, origin: (usize, usize)) -> Result<Vec<u64>, Failure> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut numbers = Vec::new();
        for data in heard.get(ear).into_iter().flatten() {
            let Some((whose, n)) = parse(data) else {
                return fail("what is heard was said", format!("{ear:?}: {data:?}"));
            };
            let what = || format!("{ear:?} hears frame {n} of {whose:?}, and not of {origin:?}");
            check("everybody hears what is theirs", whose == origin, what)?;
            let is_next = numbers.last().is_none_or(|last| *last < n);
            check("frames are heard once and in order", is_next, || format!("{ear:?}: {n}"))?;
            numbers.push(n);
        }
        Ok(numbers)
    }
}

/// A frame that has to be heard, as nothing is in its way.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) ear: Ear,
    pub(super) origin: (usize, usize),
    pub(super) n: u64,
    pub(super) at: Duration,
}

impl Due {
    /// Whether it ought to have been heard by now, given when its track was described.
    pub(super) fn is_due(&self, now: Duration, described: Duration, way: Duration) -> bool {
        now > self.at.max(described) + way + SLACK
    }
}

/// What may not be heard, as its track was stopped.
#[derive(Default)]
pub(super) struct Silent(BTreeMap<Ear, Vec<u64>>);

impl Silent {
    pub(super) fn add(&mut self, ear: Ear, n: u64) {
        self.0.entry(ear).or_default().push(n);
    }

    pub(super) fn check(
        &self,
        heard: &Heard,
        ear: &Ear,
        origin: (usize, usize),
    ) -> Result<(), Failure> {
        let Some(silent) = self.0.get(ear) else { return Ok(()) };
        let numbers = heard.numbers(ear, origin)?;
        let told = numbers.iter().find(|n| silent.contains(n));
        check("a track that is stopped is silent", told.is_none(), || format!("{ear:?}: {told:?}"))
    }
}
