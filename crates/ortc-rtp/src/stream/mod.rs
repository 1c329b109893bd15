//! The streams of a connection: numbering, statistics, reports, and who is there.

mod clock;
mod receive;
mod report;
mod rewrite;
mod send;

pub use clock::NtpClock;
pub use receive::{
    ReceiveStream, ReceiveStreamStats, ReceiveTimings, StreamEvent, UnknownPayloadType,
};
pub use report::{Reporter, RtcpScheduler};
pub use rewrite::{Placed, Rewriter};
pub use send::{RemoteReport, SendStream, SendStreamStats};
