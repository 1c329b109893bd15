//! Compounds of RTCP.

use ortc_rtp::{RtcpView, is_rtcp};

pub(crate) fn run(data: &[u8]) {
    let _ = is_rtcp(data);
    let mut packets = 0;
    for packet in RtcpView::new(data) {
        packets += 1;
        assert!(packets <= data.len() / 4 + 1, "it never ends");
        let Ok(packet) = packet else { continue };
        assert!(packet.body.len() <= data.len());
        let _ = (packet.is_bye(), packet.sender_info());
        assert!(packet.report_blocks().count() <= 31);
        assert!(packet.bye_sources().count() <= 31);
        assert!(packet.key_frame_requests().count() <= data.len());
    }
}
