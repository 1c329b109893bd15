//! Why video is sent worse than it could be, in the words of webrtc-stats.

use ortc_rtp::{QualityLimitation, QualityLimitations};
use serde::{Deserialize, Serialize};

/// What keeps a track from being sent better ("RTCQualityLimitationReason").
///
/// Of a track that is forwarded in one of several layers, this is about the choice of the layer. Of one
/// that an application encodes, it is about what comes of it: while that takes all there is, it is
/// limited, since it would have to be more for a better picture. A track that is sent on as it comes is
/// not limited here, nor is one that is stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum QualityLimitationReason {
    /// Nothing does.
    #[default]
    None,
    /// The processor. Nothing is encoded here, so it is never said of what we send.
    Cpu,
    /// What may be sent, as congestion control has found out; or what it begins with, before it has.
    Bandwidth,
    /// The application: [`RTCTrack::set_max_bitrate`](crate::RTCTrack::set_max_bitrate),
    /// [`RTCTrack::set_max_layer`](crate::RTCTrack::set_max_layer) or
    /// [`BandwidthLimits::max`](crate::BandwidthLimits::max).
    Other,
}

/// How long each [`QualityLimitationReason`] has held, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct QualityLimitationDurations {
    /// Nothing was limited.
    pub none: f64,
    /// Always 0.
    pub cpu: f64,
    /// See [`QualityLimitationReason::Bandwidth`].
    pub bandwidth: f64,
    /// See [`QualityLimitationReason::Other`].
    pub other: f64,
}

impl From<QualityLimitation> for QualityLimitationReason {
    fn from(reason: QualityLimitation) -> Self {
        match reason {
            QualityLimitation::None => Self::None,
            QualityLimitation::Bandwidth => Self::Bandwidth,
            QualityLimitation::Other => Self::Other,
        }
    }
}

impl From<&QualityLimitations> for QualityLimitationDurations {
    fn from(of: &QualityLimitations) -> Self {
        Self {
            none: of.none.as_secs_f64(),
            cpu: 0.0,
            bandwidth: of.bandwidth.as_secs_f64(),
            other: of.other.as_secs_f64(),
        }
    }
}
