//! Congestion control: how much may be sent, found out by what the receiver says about what has
//! come, and when.
//!
//! Each part can be used alone; none touches a socket or the clock.
//!
//! | part | types |
//! |---|---|
//! | feedback on the wire | [`TransportFeedback`], [`CongestionFeedback`], [`Remb`] |
//! | the receiving side | [`ArrivalLog`] |
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
mod remb;
#[cfg(test)]
mod simulation;
mod throughput;
mod transport_feedback;

pub use arrivals::ArrivalLog;
pub use ccfb::{Arrival, CongestionFeedback, StreamFeedback};
pub use estimator::{BandwidthEstimator, BandwidthLimits};
pub use history::{PacketResult, SentHistory};
pub use pacer::Pacer;
pub use probe::ProbeCluster;
pub use remb::Remb;
pub use transport_feedback::TransportFeedback;
