//! What is signalled of tracks and sides, in JSON.

use ortc_ice::RTCIceConnectionInfo;
use ortc_rtp::{RTCCodec, RTCTrackDescription, TonePayloadTypes};

pub(crate) fn run(data: &[u8]) {
    if let Ok(description) = serde_json::from_slice::<RTCTrackDescription>(data) {
        let written = serde_json::to_vec(&description).expect("what was read is written");
        let again: RTCTrackDescription =
            serde_json::from_slice(&written).expect("and what is written is read");
        assert_eq!(again, description);
        if description.validate().is_ok() {
            assert!(description.ssrc().is_ok());
            let described = description.codecs.len();
            assert!(description.payload_types().len() <= described);
            let tones = TonePayloadTypes::of(&description);
            assert!(tones.events.len() + tones.redundant.len() <= described);
            for codec in &description.codecs {
                assert!(codec.is_same_format(codec), "{codec:?}");
                let _ = description.clock_rate_of(codec);
            }
            let redundant =
                |codec: &RTCCodec| codec.redundant_types().is_none_or(|it| !it.is_empty());
            assert!(description.codecs.iter().all(redundant));
        }
    }
    if let Ok(info) = serde_json::from_slice::<RTCIceConnectionInfo>(data) {
        let written = serde_json::to_vec(&info).expect("what was read is written");
        assert_eq!(serde_json::from_slice(&written).ok(), Some(info));
    }
}
