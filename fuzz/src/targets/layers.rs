//! Marks of layers: what a payload and a dependency descriptor say.

use ortc_rtp::{CodecName, LayerMarker};

use crate::Dice;

/// A run of packets of one encoding, as its descriptors refer to those before.
pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let codec = match dice.byte() % 4 {
        0 => CodecName::Vp8,
        1 => CodecName::Vp9,
        2 => CodecName::Av1,
        _ => CodecName::H264,
    };
    let mut marker = LayerMarker::default();
    while !dice.is_over() {
        let (encoding, timestamp) = (dice.byte(), u32::from(dice.byte()));
        let (payload, dependency) = (dice.bytes(), dice.bytes());
        let dependency = (!dependency.is_empty()).then_some(dependency);
        let before = marker.clone();
        let mark = marker.mark(codec, encoding, (payload, timestamp), dependency);
        assert!(mark.is_layered());
        let (spatial, temporal) = (mark.layer().spatial, mark.layer().temporal);
        assert!(mark.encoding < 4 && spatial < 4 && temporal < 4, "{mark:?}");
        // What a descriptor refers to is of those before, and not of how often it is read.
        let again = before.clone().mark(codec, encoding, (payload, timestamp), dependency);
        assert_eq!(again, mark);
        if codec != CodecName::Av1 {
            let other = LayerMarker::default().mark(codec, encoding, (payload, timestamp), None);
            if dependency.is_none() {
                assert_eq!(other, mark, "it has no memory");
            }
        }
    }
}
