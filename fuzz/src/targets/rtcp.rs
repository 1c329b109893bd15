//! Compounds of RTCP.

use std::time::Instant;

use ortc_rtp::congestion::{CongestionFeedback, Remb, SentHistory, TransportFeedback};
use ortc_rtp::{RtcpView, Ssrc, is_rtcp};

pub(crate) fn run(data: &[u8]) {
    let _ = is_rtcp(data);
    let mut packets = 0;
    let now = Instant::now();
    let mut history = SentHistory::new(now, 0);
    (0..300).for_each(|number| history.on_sent(now, Ssrc(7), number, 1_000, 0));
    for packet in RtcpView::new(data) {
        packets += 1;
        assert!(packets <= data.len() / 4 + 1, "it never ends");
        let Ok(packet) = packet else { continue };
        assert!(packet.body.len() <= data.len());
        let _ = (packet.is_bye(), packet.sender_info());
        assert!(packet.report_blocks().count() <= 31);
        assert!(packet.bye_sources().count() <= 31);
        assert!(packet.key_frame_requests().count() <= data.len());
        let mut settled = 0;
        if let Some(Ok(feedback)) = TransportFeedback::parse(&packet) {
            let mut statuses = 0;
            feedback.each_status(|_, _| statuses += 1);
            assert_eq!(statuses, feedback.len());
            history.on_feedback(now, &feedback, |_| settled += 1);
        }
        if let Some(Ok(feedback)) = CongestionFeedback::parse(&packet) {
            history.on_congestion_feedback(now, &feedback, |_| settled += 1);
        }
        // Each is settled as lost and as late at the most.
        assert!(settled <= 600);
        if let Some(remb) = Remb::parse(&packet) {
            assert!(remb.ssrcs().count() <= 255);
        }
    }
}
