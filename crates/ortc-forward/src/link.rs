use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use ortc_io::{ConnectionId, FlightRecorder, Path, SendBatch};
use ortc_rtp::RtpSession;

use crate::fanout::{Pending, Subscription};
use crate::flight::record_sent;
use crate::hearing::Hearing;
use crate::ready::ReadyMark;

/// Packets of one connection that are sealed before others get a turn. At 64 a burst of a
/// key frame goes out in four runs of 16, and nobody waits longer than about 20 µs for it.
const TRANSMITS_PER_TURN: usize = 64;

/// One connection on the media plane.
///
/// What a packet needs is reached from here without a further lookup. What is looked at where
/// packets are sent to it stands in [front](Self::FRONT).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    /// SRTP and streams; `None` until opened and once closed.
    pub(crate) session: Option<Box<RtpSession>>,
    /// What of the batch in hand it is still to be sent.
    pub(crate) pending: Vec<Pending>,
    /// Its last seconds, where they are recorded.
    pub(crate) recorder: Option<Box<FlightRecorder>>,
    /// Who is sent what this connection receives, sorted by SSRC.
    pub(crate) subscriptions: Vec<Subscription>,
    /// Whether this turn has done anything to it that [`Link::transmit`] has to follow up.
    pub(crate) is_touched: bool,
    /// Whether handling it has panicked: the end of the turn gives it up.
    pub(crate) has_panicked: bool,
    /// Whether it was closed; it is not opened again.
    pub(crate) is_closed: bool,
    /// Whether media comes on the path that it sends on.
    pub(crate) hearing: Hearing,
    pub(crate) mark: Arc<ReadyMark>,
    waker: Waker,
}

/// How far [`Link::transmit`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transmitted {
    /// Nothing waits any more.
    All,
    /// The connection has had its share of this turn.
    Share,
    /// The batch is full: send it and go on.
    BatchFull,
}

impl Link {
    pub(crate) fn new(
        id: ConnectionId,
        mark: Arc<ReadyMark>,
        recorder: Option<Box<FlightRecorder>>,
    ) -> Self {
        Self {
            id,
            session: None,
            subscriptions: Vec::new(),
            pending: Vec::new(),
            is_touched: false,
            has_panicked: false,
            is_closed: false,
            recorder,
            hearing: Hearing::default(),
            waker: Waker::from(Arc::clone(&mark)),
            mark,
        }
    }

    /// Bytes of what sending looks at.
    pub(crate) const FRONT: usize = std::mem::offset_of!(Self, subscriptions);

    /// Has the applications' rings mark this connection at the next push.
    ///
    /// Comes before the rings are drained, or a push in between is missed.
    pub(crate) fn listen(&mut self) {
        self.mark.clear();
        if let Some(session) = &mut self.session {
            session.register(&self.waker);
        }
    }

    /// Writes and seals what waits to be sent straight into `batch`, up to the `share` that
    /// is left of this turn. Without a path to send on, all of it is dropped, counted by the
    /// session.
    pub(crate) fn transmit(
        &mut self,
        now: Instant,
        path: Option<Path>,
        batch: &mut SendBatch,
        share: &mut usize,
    ) -> Transmitted {
        let Some(session) = &mut self.session else { return Transmitted::All };
        let Some(path) = path else {
            session.discard_transmits();
            return Transmitted::All;
        };
        while let Some(room) = session.next_transmit(now) {
            if *share == 0 {
                return Transmitted::Share;
            }
            let recorder = &mut self.recorder;
            let fits = batch.push_on(path, room, |buffer| {
                let len = session.write_transmit(now, buffer)?;
                record_sent(recorder, now, path, &buffer[..len]);
                Some(len)
            });
            if !fits {
                return Transmitted::BatchFull;
            }
            *share -= 1;
        }
        Transmitted::All
    }

    /// The share of a connection that has not sent yet in this turn.
    pub(crate) const fn share() -> usize {
        TRANSMITS_PER_TURN
    }
}

/// Runs work for one connection; `None` when it panicked.
///
/// Its state is never looked at again after that: see `Plane::give_up`.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
