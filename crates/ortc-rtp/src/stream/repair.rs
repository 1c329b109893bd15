//! Lost packets of a received track, out of those that repeat them (RFC 2198).

use crate::redundancy::RedundantBlock;
use crate::{PayloadType, RedundancyConfig, RedundantView, RtpView};

/// Packets behind the newest that are remembered: more than any packet repeats.
const WINDOW: u64 = 64;

/// Finds, among what packets repeat, those that have not come.
///
/// It belongs to one stream, and sees all of its packets. What is repeated says when it was and
/// not which number it had: it takes the number before, or the next one below that is missing, as
/// long as the times around it agree. So nothing is found twice, whether packets were lost,
/// overtaken or sent again, and whatever else shares their numbers.
#[derive(Debug)]
pub struct RedundancyRepair {
    redundant: Vec<PayloadType>,
    repeated: Vec<PayloadType>,
    first: Option<u64>,
    highest: u64,
    /// What has come or was found: bit n is for the highest index less n.
    known: u64,
    /// Of those, the ones that were found.
    found: u64,
    /// By the remainder of the index.
    timestamps: [u32; WINDOW as usize],
    counts: RedundancyCounts,
}

/// What a [`RedundancyRepair`] has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedundancyCounts {
    /// Payloads that packets have repeated.
    pub received: u64,
    /// Their bytes.
    pub octets: u64,
    /// Of those, such as had come already, or found no place.
    pub discarded: u64,
}

/// A packet that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairedPacket<'a> {
    /// Sequence number with its rollovers.
    pub index: u64,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// Its payload type.
    pub payload_type: PayloadType,
    /// Its payload.
    pub payload: &'a [u8],
}

impl RedundancyRepair {
    /// Makes the one of a stream.
    pub fn new(config: RedundancyConfig) -> Self {
        let RedundancyConfig { redundant, repeated, .. } = config;
        Self {
            redundant,
            repeated,
            first: None,
            highest: 0,
            known: 0,
            found: 0,
            timestamps: [0; WINDOW as usize],
            counts: RedundancyCounts::default(),
        }
    }

    /// Looks for packets of other payload types from now on.
    pub fn set_payload_types(&mut self, config: RedundancyConfig) {
        (self.redundant, self.repeated) = (config.redundant, config.repeated);
    }

    /// What it has seen.
    pub fn counts(&self) -> RedundancyCounts {
        self.counts
    }

    /// Takes a packet of the stream with its index. Hands those to `found` that it repeats and that
    /// have not come, the newest first; says whether it has been found itself before, and so is of
    /// no use to whoever was given that.
    pub fn on_packet<'a>(
        &mut self,
        packet: &RtpView<'a>,
        index: u64,
        mut found: impl FnMut(RepairedPacket<'a>),
    ) -> bool {
        let was_found = self.bit(index).is_some_and(|bit| self.found & bit != 0);
        self.note(index, packet.timestamp());
        if !self.redundant.contains(&packet.payload_type()) {
            return was_found;
        }
        let Ok(view) = RedundantView::parse(packet.payload()) else { return was_found };
        let mut blocks = [None; 16];
        let mut count = 0;
        for (place, block) in blocks.iter_mut().zip(view.blocks()) {
            *place = Some(block);
            count += 1;
        }
        let mut below = index;
        // The last one is the primary.
        let repeated = blocks[..count].iter().rev().skip(1).flatten();
        for block in repeated {
            if !self.repeated.contains(&block.payload_type) {
                continue;
            }
            self.counts.received += 1;
            self.counts.octets += block.payload.len() as u64;
            let timestamp = packet.timestamp().wrapping_sub(block.timestamp_offset.into());
            let place = self.place(below, timestamp, block);
            below = place.unwrap_or(below.saturating_sub(1));
            let Some(place) = place else {
                self.counts.discarded += 1;
                continue;
            };
            self.note(place, timestamp);
            self.found |= self.bit(place).unwrap_or(0);
            let RedundantBlock { payload_type, payload, .. } = *block;
            found(RepairedPacket { index: place, timestamp, payload_type, payload });
        }
        was_found
    }

    /// The highest missing index below `below` that a payload of this time can have had.
    fn place(&self, below: u64, timestamp: u32, block: &RedundantBlock<'_>) -> Option<u64> {
        let first = self.first?;
        if block.timestamp_offset == 0 || block.payload.is_empty() {
            return None;
        }
        let mut missing = None;
        for index in (first..below).rev().take(WINDOW as usize) {
            let Some(bit) = self.bit(index) else { break };
            if self.known & bit == 0 {
                missing = missing.or(Some(index));
                continue;
            }
            let other = self.timestamps[(index % WINDOW) as usize];
            match timestamp.wrapping_sub(other) as i32 {
                // It has come.
                0 => return None,
                // The first before it.
                1.. => return missing,
                // It was before that one, and what is missing above is none of it.
                _ => missing = None,
            }
        }
        missing
    }

    /// The bit of an index; `None` when that is no longer remembered, or newer than all.
    fn bit(&self, index: u64) -> Option<u64> {
        let behind = self.highest.checked_sub(index).filter(|behind| *behind < WINDOW)?;
        self.first.is_some().then_some(1 << behind)
    }

    fn note(&mut self, index: u64, timestamp: u32) {
        if self.first.is_none() {
            (self.first, self.highest) = (Some(index), index);
        }
        if let Some(ahead) = index.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            let shift = |bits: u64| u32::try_from(ahead).ok().and_then(|n| bits.checked_shl(n));
            self.known = shift(self.known).unwrap_or(0);
            self.found = shift(self.found).unwrap_or(0);
            self.highest = index;
        }
        if let Some(bit) = self.bit(index) {
            self.known |= bit;
            self.timestamps[(index % WINDOW) as usize] = timestamp;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::Repeater;
    use crate::{CodecName, OutgoingPacket, RtpHeader, Ssrc};

    const RED: PayloadType = PayloadType(63);
    const OPUS: PayloadType = PayloadType(111);

    /// A sender of 20 ms of Opus in each packet that repeats `times` before it, and what its
    /// receiver has had of it.
    struct Stream {
        packets: Vec<Vec<u8>>,
        repair: RedundancyRepair,
        /// Index and first byte of all that there was to hear.
        heard: Vec<(u64, u8)>,
    }

    fn packet(payload_type: PayloadType, index: u64, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let header = RtpHeader {
            payload_type,
            marker: false,
            sequence: index as u16,
            timestamp,
            ssrc: Ssrc(1),
            extensions: &[],
        };
        let mut bytes = vec![0; 12 + payload.len()];
        header.write(&mut bytes).unwrap();
        bytes[12..].copy_from_slice(payload);
        bytes
    }

    impl Stream {
        fn new(times: u8) -> Self {
            let red = CodecName::Opus.default_codec().repeated(RED.0, times);
            let mut repeater = Repeater::of(&red).unwrap();
            let packets = (0..200u64).map(|n| {
                let payload = Bytes::from(vec![n as u8; 40]);
                let sent = OutgoingPacket { payload, timestamp: 960 * n, marker: false };
                let sent = repeater.repeat(sent, 1_200);
                // It wraps on the way.
                let timestamp = (sent.timestamp as u32).wrapping_sub(50_000);
                packet(RED, n, timestamp, &sent.payload)
            });
            let config =
                RedundancyConfig { ssrc: Ssrc(1), redundant: vec![RED], repeated: vec![OPUS] };
            let packets = packets.collect();
            Self { packets, repair: RedundancyRepair::new(config), heard: Vec::new() }
        }

        fn take(&mut self, index: u64) {
            let bytes = self.packets[index as usize].clone();
            let view = RtpView::parse(&bytes).unwrap();
            let mut heard = Vec::new();
            let was_found = self.repair.on_packet(&view, index, |found| {
                assert_eq!(found.payload_type, OPUS);
                assert_eq!(found.timestamp, (960 * found.index as u32).wrapping_sub(50_000));
                heard.push((found.index, found.payload[0]));
            });
            self.heard.extend(heard);
            if !was_found {
                self.heard.push((index, index as u8));
            }
        }
    }

    #[test]
    fn what_is_lost_is_found_once_and_what_has_come_is_not() {
        let mut stream = Stream::new(1);
        for index in [10, 11, 13, 14, 17, 18] {
            stream.take(index);
        }
        let indices: Vec<_> = stream.heard.iter().map(|(index, _)| *index).collect();
        // Of two in a row, one generation brings back one; the first had repeated what was before.
        assert_eq!(indices, [10, 11, 12, 13, 14, 16, 17, 18]);
        assert!(stream.heard.iter().all(|(index, byte)| *index == u64::from(*byte)));
        assert_eq!(
            stream.repair.counts(),
            RedundancyCounts { received: 6, octets: 240, discarded: 4 }
        );
        // The lost one was only late.
        stream.take(12);
        stream.take(15);
        assert_eq!(stream.heard.len(), 9);
    }

    #[test]
    fn with_any_losses_and_any_order_nothing_is_heard_twice_or_in_a_wrong_place() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let times = random.u8(1..=3);
            let mut stream = Stream::new(times);
            let mut order: Vec<u64> = (0..200).filter(|_| random.f64() > 0.2).collect();
            for at in 0..order.len() {
                if random.f64() < 0.1 {
                    let other = (at + random.usize(0..6)).min(order.len() - 1);
                    order.swap(at, other);
                }
            }
            for index in &order {
                stream.take(*index);
            }
            let mut indices: Vec<_> = stream.heard.iter().map(|(index, _)| *index).collect();
            assert!(stream.heard.iter().all(|(index, byte)| *index == u64::from(*byte)), "{seed}");
            indices.sort_unstable();
            indices.dedup();
            assert_eq!(indices.len(), stream.heard.len(), "seed {seed}");
            assert!(order.iter().all(|index| indices.binary_search(index).is_ok()), "seed {seed}");
            // A fifth is lost: of those that others repeat, hardly any is missing.
            let missing = 200 - indices.len();
            assert!(
                missing <= [0, 22, 10, 6][usize::from(times)],
                "{missing} with {times}: {seed}"
            );
        }
    }

    #[test]
    fn telephone_events_in_between_are_not_taken_for_sound() {
        let mut stream = Stream::new(1);
        stream.take(1);
        // Numbers 2 and 3 are events; then the sound goes on with what 1 was.
        let mut take = |index, bytes: &[u8]| {
            let view = RtpView::parse(bytes).unwrap();
            let mut found = 0;
            stream.repair.on_packet(&view, index, |_| found += 1);
            found
        };
        let event =
            packet(PayloadType(110), 2, 960u32.wrapping_mul(2).wrapping_sub(50_000), &[1, 0, 0, 0]);
        assert_eq!(take(2, &event), 0);
        // Of 4, with 1 repeated, when 3 was lost: it has come, whatever its number.
        let payload = stream_payload(1, 1);
        let late = packet(RED, 4, 960u32.wrapping_mul(2).wrapping_sub(50_000), &payload);
        assert_eq!(take(4, &late), 0);
    }

    /// What packet 2 has when it repeats packet 1.
    fn stream_payload(times: u8, before: u8) -> Vec<u8> {
        let mut repeater =
            Repeater::of(&CodecName::Opus.default_codec().repeated(RED.0, times)).unwrap();
        let mut last = Bytes::new();
        for n in [before, before + 1] {
            let payload = Bytes::from(vec![n; 40]);
            let sent = OutgoingPacket { payload, timestamp: 960 * u64::from(n), marker: false };
            last = repeater.repeat(sent, 1_200).payload;
        }
        last.to_vec()
    }

    #[test]
    fn any_bytes_and_jumps_of_numbers_are_taken() {
        let mut random = fastrand::Rng::with_seed(3);
        let config = RedundancyConfig { ssrc: Ssrc(1), redundant: vec![RED], repeated: vec![OPUS] };
        let mut repair = RedundancyRepair::new(config);
        for _ in 0..20_000 {
            let payload: Vec<_> = (0..random.usize(0..60)).map(|_| random.u8(..)).collect();
            let index = random.u64(..) >> random.u32(0..64);
            let bytes = packet(RED, index, random.u32(..), &payload);
            repair.on_packet(&RtpView::parse(&bytes).unwrap(), index, |found| {
                assert!(found.index < index);
            });
        }
    }
}
