//! Redundant payloads (RFC 2198): two parsers agree, and what is read is written again.

use ortc_dtmf::decode_redundant;
use ortc_rtp::{
    PayloadType, RedundancyConfig, RedundancyRepair, RedundantView, RtpHeader, RtpView, Ssrc,
    write_redundant,
};

pub(crate) fn run(data: &[u8]) {
    repair(data);
    let view = RedundantView::parse(data);
    let other = decode_redundant(data);
    assert_eq!(view.is_ok(), other.is_ok(), "{view:?} {other:?}");
    let (Ok(view), Ok(other)) = (view, other) else { return };
    let blocks: Vec<_> = view.blocks().collect();
    assert_eq!(blocks.last(), Some(&view.primary()));
    for (one, other) in blocks.iter().zip(&other) {
        assert_eq!(one.payload_type.0, other.payload_type);
        assert_eq!((one.timestamp_offset, one.payload), (other.timestamp_offset, other.payload));
    }
    assert_eq!(blocks.len(), other.len());
    let mut out = vec![0; data.len()];
    assert_eq!(write_redundant(&blocks, &mut out), Ok(data.len()));
    assert_eq!(out, data);
}

/// What packets of any payload repeat is found below them, and each number at most once.
fn repair(data: &[u8]) {
    const RED: PayloadType = PayloadType(63);
    let repeated = (0..128).map(PayloadType).filter(|id| *id != RED).collect();
    let config = RedundancyConfig { ssrc: Ssrc(1), redundant: vec![RED], repeated };
    let mut repair = RedundancyRepair::new(config);
    let mut seen = Vec::new();
    for (n, payload) in data.chunks(40).enumerate() {
        let index = 3 * n as u64;
        let header = RtpHeader {
            payload_type: RED,
            marker: false,
            sequence: index as u16,
            timestamp: 960 * index as u32,
            ssrc: Ssrc(1),
            extensions: &[],
        };
        let mut packet = vec![0; 12 + payload.len()];
        header.write(&mut packet).expect("there is room for a header");
        packet[12..].copy_from_slice(payload);
        let view = RtpView::parse(&packet).expect("a header and a payload");
        repair.on_packet(&view, index, |found| {
            assert!(found.index < index && payload.len() >= found.payload.len());
            seen.push(found.index);
        });
        seen.push(index);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
    assert!(repair.counts().discarded <= repair.counts().received);
}
