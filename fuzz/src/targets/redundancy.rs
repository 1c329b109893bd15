//! Redundant payloads (RFC 2198): two parsers agree, and what is read is written again.

use ortc_dtmf::decode_redundant;
use ortc_rtp::{RedundantView, write_redundant};

pub(crate) fn run(data: &[u8]) {
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
