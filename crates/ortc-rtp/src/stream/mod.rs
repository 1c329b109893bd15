//! The streams of a connection: numbering, statistics, reports, and who is there.

mod align;
mod capture;
mod clock;
mod nack;
mod receive;
mod repair;
mod report;
mod resend;
mod rewrite;
mod send;
mod tones;

pub use align::{Aligned, FrameTime, StreamAligner};
pub use capture::CaptureClock;
pub use clock::{NtpClock, NtpTime};
pub(crate) use clock::{PICTURE_CLOCK, in_clock_units};
pub(crate) use nack::MAX_AGE as MAX_MISSING_AGE;
pub use nack::{Arrival, LossTracker};
pub use receive::{
    ReceiveStream, ReceiveStreamStats, ReceiveTimings, StreamEvent, UnknownPayloadType,
};
pub use repair::{RedundancyCounts, RedundancyRepair, RepairedPacket};
pub use report::{Reporter, RtcpScheduler};
pub(crate) use resend::{ResendBudget, ResendTimes, SealMarks, SendHistory};
pub(crate) use rewrite::Passage;
pub use rewrite::{Placed, Rewriter};
pub use send::{RemoteReport, SendStream, SendStreamStats};
pub(crate) use tones::{MAX_FILLED, MAX_REPETITION};
pub use tones::{SplitPacket, TonePlacer, ToneSplitter};
