use std::time::{Duration, Instant};

use bytes::Bytes;
use rtcp::packet::Packet;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};

use crate::compound::{
    FULL_INTRA_REQUEST, GENERIC_NACK, GOODBYE, PAYLOAD_FEEDBACK, PICTURE_LOSS, TRANSPORT_FEEDBACK,
    write_nack_entries,
};
use crate::{ReportBlock, SenderInfo, Ssrc};

/// Most sources in one compound: eight sender reports, their chunks and sixteen blocks stay
/// under 1,200 bytes.
const SENDERS_PER_COMPOUND: usize = 8;
const BLOCKS_PER_COMPOUND: usize = 16;

/// Most entries of a NACK in one compound, of which each names up to 17 packets.
const NACKS_PER_COMPOUND: usize = 128;

/// Longest CNAME that keeps [`SENDERS_PER_COMPOUND`] chunks small; RFC 7022 makes 16 bytes.
const MAX_CNAME: usize = 64;

/// Decides when reports are due (RFC 3550 §6.2, §6.3, simplified for two participants).
///
/// The interval is drawn anew each time, between half and one and a half of the mean, divided
/// by e - 3/2 (RFC 3550 §6.3.1); the first is half of that. There is no reconsideration: it
/// is for groups.
#[derive(Debug)]
pub struct RtcpScheduler {
    random: fastrand::Rng,
    mean: Duration,
    next: Instant,
}

impl RtcpScheduler {
    /// Makes a scheduler; `seed` decides all intervals.
    pub fn new(seed: u64, mean: Duration, now: Instant) -> Self {
        let mut scheduler = Self { random: fastrand::Rng::with_seed(seed), mean, next: now };
        scheduler.restart(now);
        scheduler
    }

    fn draw(&mut self) -> Duration {
        /// RFC 3550 §6.3.1: e - 3/2.
        const COMPENSATION: f64 = 1.218_28;
        self.mean.mul_f64((0.5 + self.random.f64()) / COMPENSATION)
    }

    /// When the next report is due.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Schedules anew, as if made at `now`.
    pub fn restart(&mut self, now: Instant) {
        self.next = now + self.draw() / 2;
    }

    /// Whether a report is due at `now`; if so, the next is scheduled.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.draw();
        }
        due
    }
}

/// Builds the compounds of one connection.
#[derive(Debug)]
pub struct Reporter {
    /// Whom receiver reports come from while nothing is sent.
    ssrc: Ssrc,
    cname: Bytes,
}

impl Reporter {
    /// Makes a reporter. `ssrc` stands for the connection while it sends no track; a CNAME
    /// (RFC 7022) longer than 64 bytes is cut.
    pub fn new(ssrc: Ssrc, cname: &str) -> Self {
        Self { ssrc, cname: cut(cname) }
    }

    /// Whom feedback comes from.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// Replaces the CNAME.
    pub fn set_cname(&mut self, cname: &str) {
        self.cname = cut(cname);
    }

    /// Builds sender reports for `senders` and puts `blocks` on them, or on receiver reports
    /// when there are more blocks than senders can carry; each compound has the CNAMEs.
    ///
    /// There is at least one compound, an empty receiver report if nothing else.
    pub fn reports(&self, senders: &[SenderInfo], blocks: &[ReportBlock]) -> Vec<Vec<u8>> {
        let mut senders = senders.chunks(SENDERS_PER_COMPOUND);
        let mut blocks = blocks.chunks(BLOCKS_PER_COMPOUND);
        let mut compounds = Vec::new();
        loop {
            let (sending, reporting) = (senders.next(), blocks.next());
            if sending.is_none() && reporting.is_none() && !compounds.is_empty() {
                return compounds;
            }
            let (sending, reporting) = (sending.unwrap_or_default(), reporting.unwrap_or_default());
            compounds.extend(marshal(&self.packets(sending, reporting)));
        }
    }

    /// Reports and descriptions, as every compound begins.
    fn packets(&self, senders: &[SenderInfo], blocks: &[ReportBlock]) -> Vec<Box<dyn Packet>> {
        let mut blocks: Vec<_> = blocks.iter().map(reception).collect();
        let mut packets: Vec<Box<dyn Packet>> = Vec::with_capacity(senders.len() + 2);
        for info in senders {
            packets.push(Box::new(SenderReport {
                ssrc: info.ssrc.0,
                ntp_time: info.ntp,
                rtp_time: info.rtp_timestamp,
                packet_count: info.packets,
                octet_count: info.octets,
                reports: std::mem::take(&mut blocks),
                profile_extensions: Bytes::new(),
            }));
        }
        let mut sources: Vec<_> = senders.iter().map(|info| info.ssrc).collect();
        if senders.is_empty() {
            sources.push(self.ssrc);
            packets.push(self.receiver_report(blocks));
        }
        packets.push(self.description(&sources));
        packets
    }

    /// Builds goodbyes for `sources`, behind the last reports of those in `senders` and their
    /// CNAMEs, or behind an empty report (RFC 3550 §6.1).
    pub fn goodbyes(&self, senders: &[SenderInfo], sources: &[Ssrc]) -> Vec<Vec<u8>> {
        sources
            .chunks(SENDERS_PER_COMPOUND)
            .filter_map(|leaving| {
                let infos: Vec<_> =
                    senders.iter().filter(|info| leaving.contains(&info.ssrc)).copied().collect();
                let mut compound = marshal(&self.packets(&infos, &[]))?;
                // Not with rtc-rtcp: its goodbyes are padded by three bytes, and RFC 3550
                // §6.4.1 asks for a multiple of four.
                compound.extend([0x80 | leaving.len() as u8, GOODBYE, 0, leaving.len() as u8]);
                for ssrc in leaving {
                    compound.extend(ssrc.0.to_be_bytes());
                }
                Some(compound)
            })
            .collect()
    }

    /// Builds an indication that the pictures of `source` cannot be decoded (RFC 4585 §6.3.1),
    /// behind an empty report and the CNAME.
    pub fn picture_loss(&self, source: Ssrc) -> Option<Vec<u8>> {
        let mut compound = marshal(&self.packets(&[], &[]))?;
        compound.extend([0x80 | PICTURE_LOSS, PAYLOAD_FEEDBACK, 0, 2]);
        compound.extend(self.ssrc.0.to_be_bytes());
        compound.extend(source.0.to_be_bytes());
        Some(compound)
    }

    /// Builds a request for a key frame of `source`, by the number of the request (RFC 5104
    /// §4.3.1), behind an empty report and the CNAME.
    pub fn full_intra_request(&self, source: Ssrc, number: u8) -> Option<Vec<u8>> {
        let mut compound = marshal(&self.packets(&[], &[]))?;
        compound.extend([0x80 | FULL_INTRA_REQUEST, PAYLOAD_FEEDBACK, 0, 4]);
        compound.extend(self.ssrc.0.to_be_bytes());
        compound.extend([0; 4]);
        compound.extend(source.0.to_be_bytes());
        compound.extend([number, 0, 0, 0]);
        Some(compound)
    }

    /// Builds a generic NACK (RFC 4585 §6.2.1) of packets of `source`, by their indices in
    /// ascending order, behind an empty report and the CNAME; further compounds, if they do not
    /// fit one.
    pub fn nacks(&self, source: Ssrc, lost: &[u64]) -> Vec<Vec<u8>> {
        let mut compounds = Vec::new();
        let mut rest = lost;
        while !rest.is_empty() {
            let Some(mut compound) = marshal(&self.packets(&[], &[])) else { break };
            let at = compound.len();
            compound.extend([0x80 | GENERIC_NACK, TRANSPORT_FEEDBACK, 0, 0]);
            compound.extend(self.ssrc.0.to_be_bytes());
            compound.extend(source.0.to_be_bytes());
            let named = write_nack_entries(rest, NACKS_PER_COMPOUND, &mut compound);
            let words = ((compound.len() - at) / 4 - 1) as u16;
            compound[at + 2..at + 4].copy_from_slice(&words.to_be_bytes());
            compounds.push(compound);
            rest = &rest[named..];
        }
        compounds
    }

    fn receiver_report(&self, reports: Vec<ReceptionReport>) -> Box<dyn Packet> {
        Box::new(ReceiverReport { ssrc: self.ssrc.0, reports, profile_extensions: Bytes::new() })
    }

    fn description(&self, sources: &[Ssrc]) -> Box<dyn Packet> {
        let chunk = |ssrc: &Ssrc| SourceDescriptionChunk {
            source: ssrc.0,
            items: vec![SourceDescriptionItem {
                sdes_type: SdesType::SdesCname,
                text: self.cname.clone(),
            }],
        };
        Box::new(SourceDescription { chunks: sources.iter().map(chunk).collect() })
    }
}

fn cut(cname: &str) -> Bytes {
    Bytes::copy_from_slice(&cname.as_bytes()[..cname.floor_char_boundary(MAX_CNAME)])
}

fn reception(block: &ReportBlock) -> ReceptionReport {
    ReceptionReport {
        ssrc: block.ssrc.0,
        fraction_lost: block.fraction_lost,
        total_lost: block.cumulative_lost as u32 & 0x00ff_ffff,
        last_sequence_number: block.highest_sequence,
        jitter: block.jitter,
        last_sender_report: block.last_sender_report,
        delay: block.delay_since_last,
    }
}

fn marshal(packets: &[Box<dyn Packet>]) -> Option<Vec<u8>> {
    match rtcp::packet::marshal(packets) {
        Ok(bytes) => Some(bytes.to_vec()),
        Err(error) => {
            // All counts above are within what a packet can say.
            tracing::error!(%error, "a report could not be written");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtcpView;

    fn info(ssrc: u32) -> SenderInfo {
        SenderInfo { ssrc: Ssrc(ssrc), ntp: 1 << 40, rtp_timestamp: 2, packets: 3, octets: 4 }
    }

    fn block(ssrc: u32) -> ReportBlock {
        ReportBlock {
            ssrc: Ssrc(ssrc),
            fraction_lost: 9,
            cumulative_lost: -3,
            highest_sequence: 70_000,
            jitter: 5,
            last_sender_report: 6,
            delay_since_last: 7,
        }
    }

    fn types(compound: &[u8]) -> Vec<u8> {
        RtcpView::new(compound).map(|packet| packet.unwrap().packet_type).collect()
    }

    #[test]
    fn what_is_built_is_read_back() {
        let reporter = Reporter::new(Ssrc(1), "name");
        let compounds = reporter.reports(&[info(7), info(8)], &[block(9)]);
        assert_eq!(compounds.len(), 1);
        assert_eq!(types(&compounds[0]), [200, 200, 202]);
        let packets: Vec<_> = RtcpView::new(&compounds[0]).map(Result::unwrap).collect();
        assert_eq!(packets[0].sender_info(), Some(info(7)));
        assert_eq!(packets[1].sender_info(), Some(info(8)));
        assert_eq!(packets[0].report_blocks().collect::<Vec<_>>(), [block(9)]);
        assert_eq!(packets[1].report_blocks().count(), 0);
        assert!(compounds[0].windows(6).any(|bytes| bytes == b"\x01\x04name"));
    }

    #[test]
    fn many_sources_are_spread_over_compounds_of_one_frame_each() {
        let reporter = Reporter::new(Ssrc(1), &"n".repeat(300));
        let senders: Vec<_> = (0..20).map(info).collect();
        let blocks: Vec<_> = (0..100).map(block).collect();
        let compounds = reporter.reports(&senders, &blocks);
        let mut seen = (0, 0);
        for compound in &compounds {
            assert!(compound.len() <= 1_300, "{}", compound.len());
            for packet in RtcpView::new(compound).map(Result::unwrap) {
                seen.0 += usize::from(packet.sender_info().is_some());
                seen.1 += packet.report_blocks().count();
            }
        }
        assert_eq!((compounds.len(), seen), (7, (20, 100)));
        assert_eq!(types(&reporter.reports(&[], &[])[0]), [201, 202]);
    }

    #[test]
    fn a_goodbye_names_every_source() {
        let reporter = Reporter::new(Ssrc(1), "name");
        let sources: Vec<_> = (0..40).map(Ssrc).collect();
        let compounds = reporter.goodbyes(&[info(9)], &sources);
        assert_eq!(types(&compounds[0]), [201, 202, 203]);
        assert_eq!(types(&compounds[1]), [200, 202, 203]);
        let named: Vec<_> = compounds
            .iter()
            .flat_map(|compound| RtcpView::new(compound).map(Result::unwrap))
            .flat_map(|packet| packet.bye_sources())
            .collect();
        assert_eq!(named, sources);
        assert_eq!(reporter.goodbyes(&[], &[]), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn intervals_are_random_within_bounds_and_repeat_by_seed() {
        let start = Instant::now();
        let intervals = |seed| {
            let mut scheduler = RtcpScheduler::new(seed, Duration::from_secs(1), start);
            let mut last = start;
            (0..50)
                .map(|_| {
                    let at = scheduler.next();
                    assert!(!scheduler.is_due(at - Duration::from_nanos(1)));
                    assert!(scheduler.is_due(at));
                    (at - std::mem::replace(&mut last, at)).as_millis()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(intervals(1), intervals(1));
        assert_ne!(intervals(1), intervals(2));
        let all = intervals(3);
        assert!((205..=616).contains(&all[0]), "{all:?}");
        assert!(all[1..].iter().all(|ms| (410..=1_232).contains(ms)), "{all:?}");
    }
}
