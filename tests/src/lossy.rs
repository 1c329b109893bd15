use std::time::Duration;

use ortc_api::MediaFrame;
use ortc_io::sim::LinkConfig;

/// 5 % of all packets are lost each way, 50 ms one way, up to 20 ms more, and some are overtaken.
pub fn lossy() -> LinkConfig {
    LinkConfig {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(20),
        reorder: 0.02,
        ..LinkConfig::lossy(0.05)
    }
}

/// A frame of VP8 with its number in it (RFC 6386 §9.1: the lowest bit of a key frame is clear).
pub fn picture(n: u64, is_key: bool, timestamp: u64) -> MediaFrame {
    let mut data = match is_key {
        true => vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00],
        false => vec![0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    data.extend(n.to_be_bytes());
    data.resize(if is_key { 20_000 } else { 4_000 }, n as u8);
    MediaFrame { data: data.into(), timestamp }
}
