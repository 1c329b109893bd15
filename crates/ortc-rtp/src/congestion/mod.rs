//! Congestion control: how much may be sent, found out by what the receiver says about what has
//! come, and when.
//!
//! Each part can be used alone; none touches a socket or the clock.
//!
//! | part | types |
//! |---|---|
//! | feedback on the wire | [`TransportFeedback`], [`CongestionFeedback`], [`Remb`] |
//! | the receiving side | [`ArrivalLog`], [`StreamArrivals`], [`ReceiveEstimator`] |
//! | what was sent, and what became of it | [`SentHistory`], [`PacketResult`] |
//! | the send-side estimate | [`BandwidthEstimator`], [`BandwidthLimits`], [`ProbeCluster`] |
//! | when to send | [`Pacer`] |
//!
//! A sender notes each packet in a history and in an estimator; hands the feedback that comes to
//! the history, and the results to the estimator; and sends as fast as the pacer lets it, which
//! is told the [pacing rate](BandwidthEstimator::pacing_rate) and the
//! [bursts](BandwidthEstimator::poll_probe) that probe for more. The
//! [`RtpSession`](crate::RtpSession) does all that by itself for tracks whose descriptions say so.
//!
//! # Which feedback
//!
//! A description says what its sender acts upon, and its receiver gives the first of these:
//!
//! 1. `transport-cc`, where the description also has the header extension with the numbers:
//!    transport-wide feedback, the most exact one, and what browsers have;
//! 2. `ack ccfb`: RFC 8888, as exact, without an extension;
//! 3. `goog-remb`: an estimate that the receiver makes by the times in RTP timestamps, told every
//!    second. For the sender it is a cap on what it finds out otherwise, and where it finds out
//!    nothing otherwise, all that it goes by.
//!
//! A sender takes whichever of them comes.
//!
//! Sources: draft-holmer-rmcat-transport-wide-cc-extensions-01, draft-ietf-rmcat-gcc-02,
//! draft-alvestrand-rmcat-remb-03, RFC 8888.

mod aimd;
mod alr;
mod arrivals;
mod ccfb;
mod delay;
mod estimator;
mod history;
mod loss;
mod pacer;
mod probe;
mod receive_side;
mod remb;
#[cfg(test)]
mod simulation;
mod stream_arrivals;
mod throughput;
mod transport_feedback;

pub use arrivals::ArrivalLog;
pub use ccfb::{Arrival, CongestionFeedback, StreamFeedback};
pub use estimator::{BandwidthEstimator, BandwidthLimits};
pub use history::{PacketResult, SentHistory};
pub use pacer::Pacer;
pub use probe::ProbeCluster;
pub use receive_side::ReceiveEstimator;
pub use remb::Remb;
pub use stream_arrivals::StreamArrivals;
pub use transport_feedback::TransportFeedback;
