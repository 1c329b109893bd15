//! The streams of a connection: numbering, statistics, reports, and who is there.

mod clock;
mod receive;
mod report;
mod rewrite;
mod send;
mod tones;

pub use clock::NtpClock;
pub use receive::{
    ReceiveStream, ReceiveStreamStats, ReceiveTimings, StreamEvent, UnknownPayloadType,
};
pub use report::{Reporter, RtcpScheduler};
pub use rewrite::{Placed, Rewriter};
pub use send::{RemoteReport, SendStream, SendStreamStats};
pub(crate) use tones::{MAX_FILLED, MAX_REPETITION};
pub use tones::{SplitPacket, TonePlacer, ToneSplitter};
