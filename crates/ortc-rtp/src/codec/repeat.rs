//! Payloads that are sent once more with those after them (RFC 2198), so that one lost packet
//! is no lost sound.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::redundancy::{MAX_BLOCK, MAX_OFFSET};
use crate::{CodecName, OutgoingPacket, PayloadType, RTCCodec, RedundantBlock, write_redundant};

/// Payloads that a packet repeats at most: each adds a whole payload and 20 ms to what a burst may
/// take, and three of them stand for the longest bursts that are made good by sound alone.
pub const MAX_REPEATED: u8 = 3;

/// Has each packet of a track of sound repeat the payloads of those before it (RFC 2198).
///
/// What lies further back than 14 bits of the clock say (0.3 s at 48 kHz), or is longer than 1,023
/// bytes, is not repeated; nor is what would make the packet too long, the oldest first.
///
/// ```
/// use bytes::Bytes;
/// use ortc_rtp::codec::Repeater;
/// use ortc_rtp::{CodecName, OutgoingPacket, RedundantView};
///
/// let red = CodecName::Opus.default_codec().repeated(63, 1);
/// let mut repeater = Repeater::of(&red).unwrap();
/// let mut packet = |byte, timestamp| {
///     let payload = Bytes::copy_from_slice(&[byte]);
///     repeater.repeat(OutgoingPacket { payload, timestamp, marker: false }, 1_200).payload
/// };
/// packet(7, 0);
/// let second = packet(8, 960);
/// let blocks = RedundantView::parse(&second).unwrap();
/// let blocks: Vec<_> = blocks.blocks().map(|it| (it.timestamp_offset, it.payload)).collect();
/// assert_eq!(blocks, [(960, &[7][..]), (0, &[8])]);
/// ```
#[derive(Debug, Clone)]
pub struct Repeater {
    payload_type: PayloadType,
    generations: usize,
    /// Timestamps and payloads, the newest last.
    before: VecDeque<(u64, Bytes)>,
}

impl Repeater {
    /// Makes one for what a codec `red` describes: packets of one payload type with up to three
    /// others of the same. `None` for any other codec.
    pub fn of(red: &RTCCodec) -> Option<Self> {
        let types = red.redundant_types()?;
        let (payload_type, repeated) = types.split_first()?;
        let is_sound = !repeated.is_empty() && repeated.iter().all(|it| it == payload_type);
        let generations = repeated.len().min(MAX_REPEATED.into());
        let before = VecDeque::with_capacity(generations);
        is_sound.then_some(Self { payload_type: *payload_type, generations, before })
    }

    /// The payload type of what is in its packets.
    pub fn payload_type(&self) -> PayloadType {
        self.payload_type
    }

    /// Puts those before it into a packet, as far as its payload stays within `max_payload` bytes.
    pub fn repeat(&mut self, packet: OutgoingPacket, max_payload: usize) -> OutgoingPacket {
        let OutgoingPacket { payload, timestamp, marker } = packet;
        let block = |timestamp_offset, payload| RedundantBlock {
            payload_type: self.payload_type,
            timestamp_offset,
            payload,
        };
        let mut blocks = [block(0, &[][..]); MAX_REPEATED as usize + 1];
        let mut count = 0;
        // One byte of header before its own, and four before each of the others.
        let mut len = 1 + payload.len();
        for (at, before) in self.before.iter().rev() {
            let back =
                timestamp.checked_sub(*at).filter(|back| (1..=MAX_OFFSET.into()).contains(back));
            let longer = len + 4 + before.len();
            let Some(back) = back.filter(|_| before.len() <= MAX_BLOCK && longer <= max_payload)
            else {
                break;
            };
            (blocks[count], len) = (block(back as u16, before), longer);
            count += 1;
        }
        blocks[..count].reverse();
        blocks[count] = block(0, &payload);
        let mut bytes = vec![0; len];
        // All fields are within their bounds, but for a payload type of ours that is none.
        let written = write_redundant(&blocks[..=count], &mut bytes).ok();
        if self.before.len() == self.generations {
            self.before.pop_front();
        }
        self.before.push_back((timestamp, payload.clone()));
        let payload = if written == Some(len) { bytes.into() } else { payload };
        OutgoingPacket { payload, timestamp, marker }
    }
}

impl CodecName {
    /// Whether packets of this codec may be repeated by [`Repeater`]: each has a moment of sound
    /// by itself.
    pub fn is_repeatable(self) -> bool {
        matches!(self, Self::Opus | Self::Alaw | Self::Ulaw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RedundantView;

    fn repeater(times: u8) -> Repeater {
        Repeater::of(&CodecName::Opus.default_codec().repeated(63, times)).unwrap()
    }

    /// Offsets and lengths of the blocks of a packet.
    fn sent(repeater: &mut Repeater, timestamp: u64, len: usize) -> Vec<(u16, usize)> {
        let payload = Bytes::from(vec![timestamp as u8; len]);
        let packet = OutgoingPacket { payload, timestamp, marker: true };
        let packet = repeater.repeat(packet, 1_200);
        assert!(packet.marker && packet.timestamp == timestamp && packet.payload.len() <= 1_200);
        let view = RedundantView::parse(&packet.payload).unwrap();
        view.blocks().map(|it| (it.timestamp_offset, it.payload.len())).collect()
    }

    #[test]
    fn as_many_as_are_described_are_repeated_the_oldest_first() {
        let mut two = repeater(2);
        assert_eq!(sent(&mut two, 0, 10), [(0, 10)]);
        assert_eq!(sent(&mut two, 960, 11), [(960, 10), (0, 11)]);
        assert_eq!(sent(&mut two, 1_920, 12), [(1_920, 10), (960, 11), (0, 12)]);
        assert_eq!(sent(&mut two, 2_880, 13), [(1_920, 11), (960, 12), (0, 13)]);
        let mut many = repeater(9);
        let last = (0..9).map(|n| sent(&mut many, 960 * n, 1)).last().unwrap();
        assert_eq!(last.len(), 1 + usize::from(MAX_REPEATED));
    }

    #[test]
    fn what_is_too_far_back_or_too_long_is_left_out() {
        let mut one = repeater(1);
        sent(&mut one, 0, 10);
        assert_eq!(sent(&mut one, 16_384, 10), [(0, 10)], "more than 14 bits");
        assert_eq!(sent(&mut one, 16_384 + 16_383, 1_024), [(16_383, 10), (0, 1_024)]);
        assert_eq!(sent(&mut one, 33_000, 10), [(0, 10)], "more than 10 bits");
        assert_eq!(sent(&mut one, 0, 10), [(0, 10)], "a source that begins anew");
        assert_eq!(sent(&mut one, 0, 10), [(0, 10)], "twice at one time");
        let mut two = repeater(2);
        sent(&mut two, 0, 500);
        sent(&mut two, 960, 500);
        assert_eq!(sent(&mut two, 1_920, 600), [(960, 500), (0, 600)], "the newest goes first");
    }

    #[test]
    fn only_red_of_one_payload_type_is_for_this() {
        let opus = CodecName::Opus.default_codec();
        assert!(Repeater::of(&opus).is_none());
        assert!(Repeater::of(&CodecName::Red.default_codec()).is_none());
        assert!(Repeater::of(&opus.repeated(63, 0)).is_none());
        let mut mixed = opus.repeated(63, 1);
        mixed.params[0].value = Some("111/0".into());
        assert!(Repeater::of(&mixed).is_none());
        assert_eq!(repeater(1).payload_type(), PayloadType(111));
    }
}
