//! Lengths of Opus packets (RFC 6716 §3), by two implementations of ours: the one that reads the
//! lengths of all frames takes nothing that the other does not.

use ortc_media::opus_packet_samples;
use ortc_rtp::opus_packet_duration;

pub(crate) fn run(data: &[u8]) {
    if let Some(duration) = opus_packet_duration(data) {
        assert_eq!(opus_packet_samples(data), Some(duration));
    }
}
