//! Transport-wide feedback on the wire (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

use crate::compound::TRANSPORT_FEEDBACK;
use crate::view::u16_at;
use crate::{RtcpPacket, RtpError, Ssrc};

/// Its format among transport-layer feedback.
const FORMAT: u8 = 15;

/// SSRCs, base, count, reference time and count of feedback packets.
const FIXED: usize = 16;

/// Units of the reference time in ticks of 250 µs: 64 ms.
const REFERENCE_UNITS: i64 = 256;

/// Numbers that one packet of feedback may be about. The format has room for 65,535, of which a
/// run of missing ones takes two bytes: enough to keep the receiver of it busy.
pub(crate) const MAX_STATUSES: usize = 8_192;

/// What ends a packet that is built here: with it, a compound stays below any usual MTU.
const MAX_BUILT_STATUSES: usize = 400;

/// Symbols of the status chunks.
const MISSING: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// A packet of transport-wide feedback, its bounds checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    base: u16,
    count: u16,
    reference: i32,
    feedback_count: u8,
    chunks: &'a [u8],
    /// When packets came, of those that have; behind the last chunk.
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    /// Reads it; `None` when the packet is something else.
    ///
    /// # Errors
    /// [`RtpError::TooShort`] when chunks or deltas are missing, [`RtpError::Length`] when it is
    /// about more than 8,192 packets: drop it.
    pub fn parse(packet: &RtcpPacket<'a>) -> Option<Result<Self, RtpError>> {
        (packet.packet_type == TRANSPORT_FEEDBACK && packet.count == FORMAT)
            .then(|| Self::read(packet.body))
    }

    fn read(body: &'a [u8]) -> Result<Self, RtpError> {
        if body.len() < FIXED {
            return Err(RtpError::TooShort);
        }
        let word = i32::from_be_bytes([body[12], body[13], body[14], body[15]]);
        let (base, count, rest) = (u16_at(body, 8), u16_at(body, 10), &body[FIXED..]);
        if usize::from(count) > MAX_STATUSES {
            return Err(RtpError::Length);
        }
        // The deltas begin behind the last chunk, and are as many as the chunks say.
        let (mut left, mut deltas, mut len) = (count, rest, 0);
        while left > 0 {
            let (chunk, behind) = deltas.split_at_checked(2).ok_or(RtpError::TooShort)?;
            let chunk = u16_at(chunk, 0);
            let symbols = symbols_of(chunk).min(left);
            // A run of none says nothing, and would have no end.
            if symbols == 0 {
                return Err(RtpError::TooShort);
            }
            len += deltas_len(chunk, symbols);
            (left, deltas) = (left - symbols, behind);
        }
        let chunks = &rest[..rest.len() - deltas.len()];
        let deltas = deltas.get(..len).ok_or(RtpError::TooShort)?;
        // Shifted as a signed number, the 24 bits keep their sign.
        let reference = word >> 8;
        Ok(Self { base, count, reference, feedback_count: body[15], chunks, deltas })
    }

    /// The number of the first packet that it is about.
    pub fn base(&self) -> u16 {
        self.base
    }

    /// How many packets it is about.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether it is about none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its reference time in units of 64 ms of the receiver's clock, 24 bits.
    pub fn reference(&self) -> i32 {
        self.reference
    }

    /// Its own number, modulo 256.
    pub fn feedback_count(&self) -> u8 {
        self.feedback_count
    }

    /// Tells `each` of the packets that it is about, in their order: the number, and when it came, in
    /// ticks of 250 µs since the [reference time](Self::reference); `None` if it has not.
    #[inline]
    pub fn each_status(&self, mut each: impl FnMut(u16, Option<i64>)) {
        let (mut number, mut left) = (self.base, self.count);
        let (mut deltas, mut at) = (self.deltas, 0);
        let mut tell = |symbol: u8| {
            let (delta, rest) = match (symbol, deltas) {
                (SMALL_DELTA, [small, rest @ ..]) => (Some(i64::from(*small)), rest),
                (LARGE_DELTA, [high, low, rest @ ..]) => {
                    (Some(i64::from(i16::from_be_bytes([*high, *low]))), rest)
                }
                _ => (None, deltas),
            };
            deltas = rest;
            let arrived = delta.map(|delta| {
                at += delta;
                at
            });
            each(number, arrived);
            number = number.wrapping_add(1);
        };
        for chunk in self.chunks.chunks_exact(2) {
            let chunk = u16_at(chunk, 0);
            let symbols = symbols_of(chunk).min(left);
            left -= symbols;
            (0..symbols).for_each(|at| tell(symbol_at(chunk, at)));
        }
    }
}

/// Bytes of the delta that belongs to a symbol. The symbol 3 is reserved: nothing follows.
fn delta_len(symbol: u8) -> usize {
    match symbol {
        SMALL_DELTA => 1,
        LARGE_DELTA => 2,
        _ => 0,
    }
}

/// How many symbols a status chunk has room for.
fn symbols_of(chunk: u16) -> u16 {
    match chunk >> 14 {
        0b10 => 14,
        0b11 => 7,
        _ => chunk & 0x1fff,
    }
}

/// Bytes of the deltas that belong to the first symbols of a status chunk.
fn deltas_len(chunk: u16, symbols: u16) -> usize {
    match chunk >> 14 {
        // A vector of bits, each a small delta.
        0b10 => ((chunk & 0x3fff) >> (14 - symbols)).count_ones() as usize,
        0b11 => (0..symbols).map(|at| delta_len(symbol_at(chunk, at))).sum(),
        _ => usize::from(symbols) * delta_len(symbol_at(chunk, 0)),
    }
}

/// A symbol of a status chunk.
#[inline]
fn symbol_at(chunk: u16, at: u16) -> u8 {
    let symbol = match chunk >> 14 {
        0b10 => chunk >> (13 - at) & 1,
        0b11 => chunk >> (12 - 2 * at) & 3,
        _ => chunk >> 13 & 3,
    };
    symbol as u8
}

/// Builds packets of transport-wide feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedbackHeader {
    pub(crate) sender: Ssrc,
    pub(crate) media: Ssrc,
    pub(crate) feedback_count: u8,
}

impl FeedbackHeader {
    /// Appends one packet about the numbers from `base` on, with the ticks of 250 µs at which
    /// they came; returns how many it is about: as many as fit, and none if none has come.
    pub(crate) fn write(
        &self,
        base: u16,
        arrivals: impl Iterator<Item = Option<i64>>,
        out: &mut Vec<u8>,
    ) -> usize {
        let mut symbols = [MISSING; MAX_BUILT_STATUSES];
        let mut deltas = [0i16; MAX_BUILT_STATUSES];
        // As many as end with one that has come, and as many as have been looked at.
        let mut count = 0;
        let mut reference = None;
        let mut newest = 0;
        for (at, arrival) in arrivals.take(MAX_BUILT_STATUSES).enumerate() {
            let Some(tick) = arrival else { continue };
            if reference.is_none() {
                let start = tick.div_euclid(REFERENCE_UNITS);
                newest = start * REFERENCE_UNITS;
                reference = Some(start);
            }
            let Ok(delta) = i16::try_from(tick - newest) else { break };
            newest = tick;
            symbols[at] = if (0..=255).contains(&delta) { SMALL_DELTA } else { LARGE_DELTA };
            deltas[at] = delta;
            count = at + 1;
        }
        let Some(reference) = reference else { return 0 };
        let start = out.len();
        out.extend([0x80 | FORMAT, TRANSPORT_FEEDBACK, 0, 0]);
        out.extend(self.sender.0.to_be_bytes());
        out.extend(self.media.0.to_be_bytes());
        out.extend(base.to_be_bytes());
        out.extend((count as u16).to_be_bytes());
        out.extend(&(reference as u32).to_be_bytes()[1..]);
        out.push(self.feedback_count);
        write_chunks(&symbols[..count], out);
        for (symbol, delta) in symbols[..count].iter().zip(&deltas) {
            match *symbol {
                SMALL_DELTA => out.push(*delta as u8),
                LARGE_DELTA => out.extend(delta.to_be_bytes()),
                _ => {}
            }
        }
        pad(start, out);
        count
    }
}

/// Fills a packet up to whole words and writes its length. Padding that is said to be padding
/// ends with its own length (RFC 3550 §6.4.1).
fn pad(start: usize, out: &mut Vec<u8>) {
    let len = out.len() - start;
    let padding = len.next_multiple_of(4) - len;
    if padding > 0 {
        out[start] |= 0x20;
        out.extend(std::iter::repeat_n(0, padding - 1));
        out.push(padding as u8);
    }
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

fn write_chunks(mut symbols: &[u8], out: &mut Vec<u8>) {
    while let Some(first) = symbols.first().copied() {
        let run = symbols.iter().take_while(|symbol| **symbol == first).count();
        let short = symbols.iter().take(14).all(|symbol| *symbol <= SMALL_DELTA);
        let (chunk, taken) = if run >= 14 || run == symbols.len() || (!short && run >= 7) {
            (u16::from(first) << 13 | run as u16, run)
        } else if short {
            let taken = symbols.len().min(14);
            let bits = symbols[..taken]
                .iter()
                .rev()
                .fold((0, 14 - taken as u16), |(v, at), s| (v | u16::from(*s) << at, at + 1));
            (0x8000 | bits.0, taken)
        } else {
            let taken = symbols.len().min(7);
            let bits = symbols[..taken]
                .iter()
                .rev()
                .fold((0, 7 - taken as u16), |(v, at), s| (v | u16::from(*s) << (2 * at), at + 1));
            (0xc000 | bits.0, taken)
        };
        out.extend(chunk.to_be_bytes());
        symbols = &symbols[taken..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtcpView;

    const HEADER: FeedbackHeader =
        FeedbackHeader { sender: Ssrc(1), media: Ssrc(2), feedback_count: 7 };

    fn read(bytes: &[u8]) -> TransportFeedback<'_> {
        let packet = RtcpView::new(bytes).next().unwrap().unwrap();
        TransportFeedback::parse(&packet).unwrap().unwrap()
    }

    /// Builds it and reads it again: the base ticks are those of the reference.
    fn through(base: u16, arrivals: &[Option<i64>]) -> Vec<(u16, Option<i64>)> {
        let mut bytes = Vec::new();
        HEADER.write(base, arrivals.iter().copied(), &mut bytes);
        let feedback = read(&bytes);
        assert_eq!((feedback.base(), feedback.feedback_count()), (base, 7));
        let start = i64::from(feedback.reference()) * REFERENCE_UNITS;
        statuses(&feedback).map(|(n, at)| (n, at.map(|at| start + at))).collect()
    }

    fn statuses(feedback: &TransportFeedback<'_>) -> impl Iterator<Item = (u16, Option<i64>)> {
        let mut all = Vec::new();
        feedback.each_status(|number, at| all.push((number, at)));
        all.into_iter()
    }

    #[test]
    fn the_example_of_a_peer_is_read() {
        // A run of two small deltas, one missing, one large delta that is negative.
        let bytes = [
            0x8f, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0, 4, 0, 0, 3, 9, 0xd4, 0x80, 40,
            80, 0xff, 0xf0, 0, 0,
        ];
        let feedback = read(&bytes);
        assert_eq!((feedback.len(), feedback.reference(), feedback.feedback_count()), (4, 3, 9));
        assert_eq!(
            statuses(&feedback).collect::<Vec<_>>(),
            [(0xffff, Some(40)), (0, Some(120)), (1, None), (2, Some(104))]
        );
    }

    #[test]
    fn what_is_built_is_read_again_whatever_is_missing() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let share = random.f64();
            let mut tick = random.i64(0..1 << 30);
            let mut arrivals: Vec<_> = (0..random.usize(1..MAX_BUILT_STATUSES))
                .map(|_| {
                    tick += random.i64(-100..400);
                    (random.f64() < share).then_some(tick)
                })
                .collect();
            arrivals.push(Some(tick));
            let base = random.u16(..);
            let expected: Vec<_> = (0..arrivals.len())
                .map(|at| (base.wrapping_add(at as u16), arrivals[at]))
                .collect();
            assert_eq!(through(base, &arrivals), expected);
        }
    }

    #[test]
    fn one_packet_ends_where_a_delta_or_the_room_does() {
        let mut out = Vec::new();
        let far = [Some(0), None, Some(40_000), Some(40_001)];
        assert_eq!(HEADER.write(0, far.into_iter(), &mut out), 1);
        let many = (0..1_000).map(Some);
        out.clear();
        assert_eq!(HEADER.write(0, many, &mut out), MAX_BUILT_STATUSES);
        assert!(out.len() < 1_200 && out.len().is_multiple_of(4), "{}", out.len());
        out.clear();
        assert_eq!(HEADER.write(0, [None; 5].into_iter(), &mut out), 0);
        assert!(out.is_empty());
    }

    #[test]
    fn times_before_the_reference_and_of_any_day_are_kept() {
        assert_eq!(
            through(5, &[Some(300), Some(100), Some(-5)]),
            [(5, Some(300)), (6, Some(100)), (7, Some(-5))]
        );
        let mut bytes = Vec::new();
        HEADER.write(0, [Some((1 << 32) + 3)].into_iter(), &mut bytes);
        assert_eq!(read(&bytes).reference(), 0, "24 bits of it are sent");
    }

    #[test]
    fn what_is_short_too_long_or_without_end_is_refused() {
        let mut whole = Vec::new();
        let arrivals = (0..30).map(|n| (n % 3 > 0).then_some(n * 200));
        HEADER.write(9, arrivals, &mut whole);
        let packet = RtcpView::new(&whole).next().unwrap().unwrap();
        for len in 0..packet.body.len() {
            let body = &packet.body[..len];
            let cut = TransportFeedback::parse(&RtcpPacket { body, ..packet });
            assert_eq!(cut, Some(Err(RtpError::TooShort)), "{len}");
        }
        let refused = |count: u16, chunks: &[u8]| {
            let mut body = vec![0; 16];
            body[10..12].copy_from_slice(&count.to_be_bytes());
            body.extend(chunks);
            let packet = RtcpPacket { count: FORMAT, packet_type: TRANSPORT_FEEDBACK, body: &body };
            TransportFeedback::parse(&packet).map(|read| read.map(|_| ()))
        };
        assert_eq!(refused(9_000, &[]), Some(Err(RtpError::Length)));
        // A run of length zero.
        assert_eq!(refused(9, &[0, 0, 0, 9]), Some(Err(RtpError::TooShort)));
        assert_eq!(TransportFeedback::parse(&RtcpPacket { count: 1, ..packet }), None);
    }

    #[test]
    fn anything_at_all_is_read_without_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let body: Vec<_> = (0..random.usize(0..60)).map(|_| random.u8(..)).collect();
            let packet = RtcpPacket { count: FORMAT, packet_type: TRANSPORT_FEEDBACK, body: &body };
            if let Some(Ok(feedback)) = TransportFeedback::parse(&packet) {
                assert_eq!(statuses(&feedback).count(), feedback.len());
                let mut left = feedback.count;
                let len_of = |chunk: &[u8]| {
                    let chunk = u16_at(chunk, 0);
                    let symbols = symbols_of(chunk).min(left);
                    left -= symbols;
                    (0..symbols).map(|at| delta_len(symbol_at(chunk, at))).sum::<usize>()
                };
                let len = feedback.chunks.chunks_exact(2).map(len_of).sum::<usize>();
                assert_eq!(len, feedback.deltas.len());
                let came = statuses(&feedback).filter(|(_, at)| at.is_some()).count();
                assert!((came..=2 * came).contains(&len), "none is taken for missing");
            }
        }
    }
}
