//! Congestion control feedback of RFC 8888 on the wire.

use crate::compound::TRANSPORT_FEEDBACK;
use crate::view::{u16_at, u32_at};
use crate::{RtcpPacket, RtpError, Ssrc};

/// Its format among transport-layer feedback (RFC 8888 §3.1).
const FORMAT: u8 = 11;

/// Reports of one stream in one packet (RFC 8888 §3.1: half of the sequence numbers).
const MAX_REPORTS: usize = 16_384;

/// Offsets of arrival times: 13 bits, of which these are none (RFC 8888 §3.1).
const TOO_EARLY: u16 = 0x1ffe;
const NO_TIME: u16 = 0x1fff;

/// Feedback about packets by the SSRCs and sequence numbers that they have anyway, its bounds
/// checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CongestionFeedback<'a> {
    blocks: &'a [u8],
    timestamp: u32,
}

/// What a report says about the packets of one stream (RFC 8888 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamFeedback<'a> {
    /// The stream.
    pub ssrc: Ssrc,
    /// The RTP sequence number of the first packet that it is about.
    pub begin: u16,
    reports: &'a [u8],
}

impl StreamFeedback<'_> {
    /// How many packets it is about.
    pub fn len(&self) -> usize {
        self.reports.len() / 2
    }

    /// Whether it is about none.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// Whether and how the packet of this number came; `None` when nothing is said about it.
    pub fn arrival(&self, sequence: u16) -> Option<Option<Arrival>> {
        let at = 2 * usize::from(sequence.wrapping_sub(self.begin));
        let report = u16_at(self.reports.get(at..at + 2)?, 0);
        let offset = report & NO_TIME;
        Some((report & 0x8000 != 0).then(|| Arrival {
            ecn: (report >> 13 & 3) as u8,
            before_report: (offset < TOO_EARLY).then_some(offset),
        }))
    }
}

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The two bits of explicit congestion notification.
    pub ecn: u8,
    /// How long before the [time](CongestionFeedback::timestamp) of the report, in 1,024ths of a
    /// second; `None` when it is not said.
    pub before_report: Option<u16>,
}

impl<'a> CongestionFeedback<'a> {
    /// Reads it; `None` when the packet is something else.
    ///
    /// # Errors
    /// [`RtpError::TooShort`] when a block is cut off, [`RtpError::Length`] when one is about more
    /// than 16,384 packets: drop it.
    pub fn parse(packet: &RtcpPacket<'a>) -> Option<Result<Self, RtpError>> {
        (packet.packet_type == TRANSPORT_FEEDBACK && packet.count == FORMAT)
            .then(|| Self::read(packet.body))
    }

    fn read(body: &'a [u8]) -> Result<Self, RtpError> {
        if body.len() < 8 {
            return Err(RtpError::TooShort);
        }
        let (blocks, timestamp) = body[4..].split_at(body.len() - 8);
        let mut rest = blocks;
        while !rest.is_empty() {
            let head = rest.get(..8).ok_or(RtpError::TooShort)?;
            let count = usize::from(u16_at(head, 6));
            if count > MAX_REPORTS {
                return Err(RtpError::Length);
            }
            rest = rest.get(block_len(count)..).ok_or(RtpError::TooShort)?;
        }
        Ok(Self { blocks, timestamp: u32_at(timestamp, 0) })
    }

    /// When it was made, on the receiver's clock: the middle 32 bits of an NTP timestamp.
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// What it says, stream by stream.
    pub fn streams(&self) -> impl Iterator<Item = StreamFeedback<'a>> + use<'a> {
        let mut rest = self.blocks;
        std::iter::from_fn(move || {
            let head = rest.get(..8)?;
            let count = usize::from(u16_at(head, 6));
            let (block, behind) = rest.split_at_checked(block_len(count))?;
            rest = behind;
            let reports = &block[8..8 + 2 * count];
            Some(StreamFeedback { ssrc: Ssrc(u32_at(head, 0)), begin: u16_at(head, 4), reports })
        })
    }

    /// Begins one that says something about streams; followed by
    /// [`write_stream`](Self::write_stream) of each, and by [`finish`](Self::finish).
    pub fn begin(sender: Ssrc, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend([0x80 | FORMAT, TRANSPORT_FEEDBACK, 0, 0]);
        out.extend(sender.0.to_be_bytes());
        start
    }

    /// Appends what became of the packets of one stream from `begin` on, at most 16,384.
    pub fn write_stream(
        ssrc: Ssrc,
        begin: u16,
        arrivals: impl Iterator<Item = Option<Arrival>>,
        out: &mut Vec<u8>,
    ) {
        out.extend(ssrc.0.to_be_bytes());
        out.extend(begin.to_be_bytes());
        let count_at = out.len();
        out.extend([0; 2]);
        let mut count = 0u16;
        for arrival in arrivals.take(MAX_REPORTS) {
            let report = arrival.map_or(0, |Arrival { ecn, before_report }| {
                let offset = before_report.map_or(NO_TIME, |offset| offset.min(TOO_EARLY));
                0x8000 | u16::from(ecn & 3) << 13 | offset
            });
            out.extend(report.to_be_bytes());
            count += 1;
        }
        if count % 2 == 1 {
            out.extend([0; 2]);
        }
        out[count_at..count_at + 2].copy_from_slice(&count.to_be_bytes());
    }

    /// Ends the one that was begun at `start`, at this time of the receiver's clock.
    pub fn finish(start: usize, timestamp: u32, out: &mut Vec<u8>) {
        out.extend(timestamp.to_be_bytes());
        let words = ((out.len() - start) / 4 - 1) as u16;
        out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
    }
}

/// Length of a block about this many packets, filled up to whole words.
fn block_len(count: usize) -> usize {
    8 + (2 * count).next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtcpView;

    fn built() -> Vec<u8> {
        let mut out = Vec::new();
        let start = CongestionFeedback::begin(Ssrc(1), &mut out);
        let came = |before| Some(Arrival { ecn: 1, before_report: before });
        let first = [came(Some(100)), None, came(None)];
        CongestionFeedback::write_stream(Ssrc(7), 0xffff, first.into_iter(), &mut out);
        CongestionFeedback::write_stream(Ssrc(8), 5, [came(Some(3))].into_iter(), &mut out);
        CongestionFeedback::finish(start, 0xaabb_ccdd, &mut out);
        out
    }

    #[test]
    fn what_is_built_is_read_again() {
        let bytes = built();
        let packet = RtcpView::new(&bytes).next().unwrap().unwrap();
        let feedback = CongestionFeedback::parse(&packet).unwrap().unwrap();
        assert_eq!(feedback.timestamp(), 0xaabb_ccdd);
        let came = |before_report| Some(Some(Arrival { ecn: 1, before_report }));
        let streams: Vec<_> = feedback.streams().collect();
        let heads: Vec<_> = streams.iter().map(|it| (it.ssrc, it.begin, it.len())).collect();
        assert_eq!(heads, [(Ssrc(7), 0xffff, 3), (Ssrc(8), 5, 1)]);
        let first = [0xfffe, 0xffff, 0, 1, 2].map(|sequence| streams[0].arrival(sequence));
        assert_eq!(first, [None, came(Some(100)), Some(None), came(None), None]);
        assert_eq!(streams[1].arrival(5), came(Some(3)));
    }

    #[test]
    fn what_is_cut_off_or_of_any_bytes_is_refused_or_read() {
        let bytes = built();
        let packet = RtcpView::new(&bytes).next().unwrap().unwrap();
        for len in 0..packet.body.len() {
            let body = &packet.body[..len];
            if let Some(Ok(feedback)) = CongestionFeedback::parse(&RtcpPacket { body, ..packet }) {
                // Where a block ends, what follows is taken for the time.
                assert!(feedback.streams().count() < 2, "{len}");
            }
        }
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..20_000 {
            let body: Vec<_> = (0..random.usize(0..80)).map(|_| random.u8(..)).collect();
            if let Some(Ok(feedback)) =
                CongestionFeedback::parse(&RtcpPacket { body: &body, ..packet })
            {
                let told: usize = feedback.streams().map(|it| it.len()).sum();
                assert!(told <= body.len());
            }
        }
    }
}
