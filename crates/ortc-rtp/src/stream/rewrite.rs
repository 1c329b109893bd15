use std::collections::VecDeque;
use std::time::Instant;

use ortc_io::prefetch;

use super::SendStream;
use super::clock::in_clock_units;
use crate::view::{FIXED_HEADER, NUMBER_ROOM, PADDED};
use crate::{Extension, ForwardedPayloadType, PayloadType, RedundantView, RtpHeader, RtpView};

/// Most elements of a header extension that are passed on: as many as the one-byte form has
/// ids for (RFC 8285 §4.2), with one of our own.
const MAX_ELEMENTS: usize = 15;

/// Runs that are remembered: an interruption is seldom, and what is sent again is a second old.
const MAX_PAST_RUNS: usize = 8;

/// Makes one sent stream out of packets that were received: the only one to decide about its
/// sequence numbers and timestamps.
///
/// | what happens | sequence numbers | timestamps |
/// |---|---|---|
/// | packets are lost or reordered before they come here | keep the gap, or the order | as received |
/// | [`pause`](Self::pause), and packets again | go on without a gap | keep the pause: the source's clock went on |
/// | [`switch`](Self::switch) to another source, and packets again | go on without a gap | go on by the time that has passed |
/// | [`insert`](Self::insert)ed packets, and packets again | go on without a gap | as received |
/// | [`pad`](Self::pad)ding, and packets again | go on without a gap, and late ones keep their order | as received |
///
/// What comes late, from before a pause, a switch or an insertion, is not sent: its number is
/// taken.
#[derive(Debug)]
pub struct Rewriter {
    payload_types: Vec<ForwardedPayloadType>,
    /// Those of `red` whose packets are sent as their primary.
    unwrapped: Vec<PayloadType>,
    /// Ids of header extension elements as received, and as sent.
    extensions: Vec<(u8, u8)>,
    run: Option<Run>,
    /// The run that the present one has followed after padding: what comes late belongs to it.
    before: Option<Run>,
    /// Runs that are over, the newest last, each with its last index: what is sent again may be
    /// of them.
    past: VecDeque<(Run, u64)>,
    /// The highest index of the source that was sent.
    highest: Option<u64>,
    /// Whether the next run goes on where the one before was interrupted.
    is_interrupted: bool,
    /// What is added to the source's timestamps; known once a packet of it was sent.
    timestamp_shift: Option<u32>,
}

/// Packets that are sent with one and the same distance between their numbers.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// The first index of the source that belongs to it.
    first: u64,
    /// What is added to the source's indices, wrapping.
    shift: u64,
}

impl Run {
    /// The place of a packet of the source in it.
    #[inline]
    fn place(self, index: u64, timestamp: u32, timestamp_shift: u32) -> Placed {
        Placed {
            index: index.wrapping_add(self.shift),
            timestamp: timestamp.wrapping_add(timestamp_shift),
            begins: false,
        }
    }
}

/// How a received packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Its payload type, as received and as sent.
    pub(crate) types: ForwardedPayloadType,
    /// Bytes at the beginning of its payload that are left out.
    pub(crate) skipped: usize,
}

/// A received packet's place in the stream that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Sequence number with its rollovers.
    pub index: u64,
    /// The timestamp.
    pub timestamp: u32,
    /// Whether it is the first after a beginning, a pause or a switch: what comes now can only
    /// be decoded from a key frame on.
    pub begins: bool,
}

impl Rewriter {
    /// Has the processor fetch what is in tables beside the rewriter.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(&self.payload_types[..]);
        prefetch(&self.extensions[..]);
    }

    /// Makes a rewriter that has seen nothing.
    ///
    /// `payload_types` are those that are passed on; `extensions` are the ids of header
    /// extension elements as received and as sent, all others are left out.
    pub fn new(payload_types: Vec<ForwardedPayloadType>, extensions: Vec<(u8, u8)>) -> Self {
        Self {
            payload_types,
            unwrapped: Vec::new(),
            extensions,
            run: None,
            before: None,
            past: VecDeque::new(),
            highest: None,
            is_interrupted: false,
            timestamp_shift: None,
        }
    }

    /// Has packets of these payload types, which are of `red` (RFC 2198), sent without what they
    /// repeat, as the payload type of what is left.
    #[must_use]
    pub fn unwrapping(mut self, unwrapped: Vec<PayloadType>) -> Self {
        self.unwrapped = unwrapped;
        self
    }

    /// Breaks off: nothing is sent for a while, and then it goes on with the same source.
    pub fn pause(&mut self) {
        self.before = None;
        self.end_run();
        self.is_interrupted = false;
    }

    /// Takes the next number for a packet that does not come from the source, at the time that
    /// has passed since the newest packet.
    pub fn insert(&mut self, now: Instant, stream: &SendStream) -> Placed {
        self.interrupt();
        Placed { index: stream.next_index(), timestamp: stream.timestamp_at(now), begins: false }
    }

    /// Makes way for packets that do not come from the source; those that were on their way are
    /// too late.
    pub fn interrupt(&mut self) {
        self.is_interrupted |= self.end_run();
        self.before = None;
    }

    /// Leaves the next number to a packet of padding. Unlike with [`insert`](Self::insert), what was
    /// on its way of the source is not too late.
    pub fn pad(&mut self) {
        let (Some(run), Some(highest)) = (self.run, self.highest) else { return };
        if run.first <= highest {
            self.end_run();
            self.before = Some(run);
        }
        self.run = Some(Run { first: highest + 1, shift: run.shift.wrapping_add(1) });
    }

    /// Ends the run; whether there was one.
    fn end_run(&mut self) -> bool {
        let Some((run, last)) = self.run.take().zip(self.highest) else { return false };
        if self.past.len() == MAX_PAST_RUNS {
            self.past.pop_front();
        }
        self.past.push_back((run, last));
        true
    }

    /// The index at the source of what was sent, or could have been, with this one; `None` for
    /// what did not come from there, or is forgotten.
    pub(crate) fn source_of(&self, sent: u64) -> Option<u64> {
        let current = self.run.zip(self.highest);
        let mut runs = current.iter().chain(self.past.iter().rev());
        runs.find_map(|(run, last)| {
            let index = sent.wrapping_sub(run.shift);
            (run.first..=*last).contains(&index).then_some(index)
        })
    }

    /// Breaks off: from now on packets come from another source, with a clock of its own.
    pub fn switch(&mut self, payload_types: Vec<ForwardedPayloadType>, extensions: Vec<(u8, u8)>) {
        *self = Self::new(payload_types, extensions);
    }

    /// How a received packet is sent; `None` if it is not.
    #[inline]
    pub(crate) fn passage(&self, packet: &RtpView<'_>) -> Option<Passage> {
        let received = packet.payload_type();
        if !self.unwrapped.is_empty() && self.unwrapped.contains(&received) {
            return self.unwrapped_passage(packet);
        }
        Some(Passage { types: self.types_of(received)?, skipped: 0 })
    }

    /// That of a packet whose primary is sent without what it repeats.
    #[inline(never)]
    fn unwrapped_passage(&self, packet: &RtpView<'_>) -> Option<Passage> {
        let primary = RedundantView::parse(packet.payload()).ok()?.primary();
        let skipped = packet.payload().len() - primary.payload.len();
        Some(Passage { types: self.types_of(primary.payload_type)?, skipped })
    }

    #[inline]
    fn types_of(&self, received: PayloadType) -> Option<ForwardedPayloadType> {
        self.payload_types.iter().copied().find(|entry| entry.received == received)
    }

    /// Most bytes that the header of `packet` takes as it is sent.
    ///
    /// `number` says that there is one more element, of two bytes, behind those that are passed on.
    #[inline]
    pub(crate) fn header_room(&self, packet: &RtpView<'_>, number: bool) -> usize {
        let added = if number { NUMBER_ROOM } else { 0 };
        added + self.own_header_room(packet)
    }

    fn own_header_room(&self, packet: &RtpView<'_>) -> usize {
        if self.extensions.is_empty() {
            return FIXED_HEADER;
        }
        // An element of one byte that becomes one of two is the worst there is.
        FIXED_HEADER + 2 * (packet.header_len() - FIXED_HEADER)
    }

    /// Finds the place of a packet in `stream`; `None` when it is too late for it.
    // Each packet of each subscriber goes through it, and a call is as much as what it does.
    #[inline(always)]
    pub(crate) fn place(
        &mut self,
        now: Instant,
        stream: &SendStream,
        index: u64,
        timestamp: u32,
        clock_rate: u32,
    ) -> Option<Placed> {
        if let (Some(run), Some(shift)) = (self.run, self.timestamp_shift)
            && index >= run.first
        {
            self.highest = self.highest.max(Some(index));
            return Some(run.place(index, timestamp, shift));
        }
        self.place_elsewhere(now, stream, index, timestamp, clock_rate)
    }

    /// The place of a packet that does not simply go on with the run.
    #[inline(never)]
    fn place_elsewhere(
        &mut self,
        now: Instant,
        stream: &SendStream,
        index: u64,
        timestamp: u32,
        clock_rate: u32,
    ) -> Option<Placed> {
        if self.run.is_none() && self.highest.is_some_and(|highest| index <= highest) {
            return None;
        }
        let begins = self.run.is_none() && !std::mem::take(&mut self.is_interrupted);
        let mut run = *self.run.get_or_insert_with(|| Run {
            first: index,
            shift: stream.next_index().wrapping_sub(index),
        });
        if index < run.first {
            run = self.before.filter(|before| index >= before.first)?;
        }
        self.highest = self.highest.max(Some(index));
        let shift = *self.timestamp_shift.get_or_insert_with(|| {
            let at = match stream.newest() {
                None => stream.timestamp_offset(),
                // The clock rate may have changed with the source.
                Some((sent_at, newest)) => {
                    let passed = in_clock_units(now.saturating_duration_since(sent_at), clock_rate);
                    newest.wrapping_add(passed.max(1))
                }
            };
            at.wrapping_sub(timestamp)
        });
        Some(Placed { begins, ..run.place(index, timestamp, shift) })
    }

    /// What a timestamp of the source is as it is sent; `None` before the first packet.
    pub(crate) fn timestamp(&self, received: u32) -> Option<u32> {
        Some(received.wrapping_add(self.timestamp_shift?))
    }

    /// Writes the header of a packet with the elements that are passed on, pairs of our own before
    /// them and a number behind; returns its length. `out` has [`header_room`](Self::header_room),
    /// and room for the pairs.
    // As with `place`.
    #[inline(always)]
    pub(crate) fn write_header(
        &self,
        header: &RtpHeader<'_>,
        packet: &RtpView<'_>,
        pairs: Option<Extension<'_>>,
        number: Option<Extension<'_>>,
        out: &mut [u8],
    ) -> Option<usize> {
        let passes = !self.extensions.is_empty() && packet.header_len() > FIXED_HEADER;
        let len = if !passes && pairs.is_none() && number.is_none() {
            *out.first_chunk_mut()? = header.fixed();
            FIXED_HEADER
        } else if let (false, None, Some(Extension { id: id @ 1..=14, data: &[high, low] })) =
            (passes, pairs, number)
        {
            // What congestion control adds to each packet, in the one-byte form (RFC 8285 §4.2).
            let (fixed, element) = out.split_first_chunk_mut()?;
            *fixed = header.fixed();
            fixed[0] |= 0x10;
            *element.first_chunk_mut()? = [0xbe, 0xde, 0, 1, id << 4 | 1, high, low, 0];
            FIXED_HEADER + NUMBER_ROOM
        } else {
            self.write_elements(header, packet, pairs, number, out)?
        };
        if packet.is_padded() {
            out[0] |= PADDED;
        }
        Some(len)
    }

    /// Writes a header with all the elements that it has to have.
    #[inline(never)]
    fn write_elements(
        &self,
        header: &RtpHeader<'_>,
        packet: &RtpView<'_>,
        pairs: Option<Extension<'_>>,
        number: Option<Extension<'_>>,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut elements = [Extension { id: 0, data: &[] }; MAX_ELEMENTS + 1];
        let mut count = 0;
        if let Some(pairs) = pairs {
            elements[0] = pairs;
            count = 1;
        }
        // A malformed element ends the block; what came before it is sound.
        for element in packet.extensions().map_while(Result::ok) {
            let known = self.extensions.iter().find(|(received, _)| *received == element.id);
            if let Some((_, id)) = known
                && count < MAX_ELEMENTS
            {
                elements[count] = Extension { id: *id, data: element.data };
                count += 1;
            }
        }
        if let Some(number) = number {
            elements[count] = number;
            count += 1;
        }
        RtpHeader { extensions: &elements[..count], ..*header }.write(out).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Ssrc;

    const VP8: ForwardedPayloadType = ForwardedPayloadType {
        received: PayloadType(96),
        sent: PayloadType(120),
        clock_rate: 90_000,
    };

    #[test]
    fn a_number_by_itself_is_written_as_any_extension_is() {
        let rewriter = Rewriter::new(vec![VP8], Vec::new());
        let bytes = [0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9];
        let packet = RtpView::parse(&bytes).unwrap();
        let header = RtpHeader {
            payload_type: PayloadType(96),
            marker: true,
            sequence: 7,
            timestamp: 8,
            ssrc: Ssrc(9),
            extensions: &[],
        };
        for (id, data) in [(1, &[1, 2][..]), (14, &[0xff, 0]), (16, &[1, 2]), (3, &[1, 2, 3])] {
            let element = Extension { id, data };
            let (mut ours, mut general) = ([0xaa; 40], [0xaa; 40]);
            let len = rewriter.write_header(&header, &packet, None, Some(element), &mut ours);
            let extensions = &[element];
            let general_len = RtpHeader { extensions, ..header }.write(&mut general).ok();
            assert_eq!((len, ours), (general_len, general), "{id}");
        }
    }

    struct Fixture {
        start: Instant,
        stream: SendStream,
        rewriter: Rewriter,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                stream: SendStream::new(Ssrc(7), VP8.sent, 90_000, 100, 5_000),
                rewriter: Rewriter::new(vec![VP8], Vec::new()),
            }
        }

        /// Sends a packet; its sequence number, timestamp and whether it is a beginning.
        fn send(&mut self, ms: u64, index: u64, timestamp: u32) -> Option<(u64, u32, bool)> {
            let now = self.start + Duration::from_millis(ms);
            let placed =
                self.rewriter.place(now, &self.stream, index, timestamp, VP8.clock_rate)?;
            self.stream.note_forwarded(now, placed, 10, true);
            Some((placed.index, placed.timestamp, placed.begins))
        }
    }

    #[test]
    fn gaps_and_reordering_of_the_source_are_kept() {
        let mut f = Fixture::new();
        assert_eq!(f.send(0, 70_000, 1_000), Some((100, 5_000, true)));
        assert_eq!(f.send(1, 70_003, 1_030), Some((103, 5_030, false)));
        assert_eq!(f.send(2, 70_001, 1_010), Some((101, 5_010, false)));
        // Before the first there is no number left.
        assert_eq!(f.send(2, 69_999, 990), None);
        assert_eq!(f.stream.newest(), Some((f.start + Duration::from_millis(1), 5_030)));
    }

    #[test]
    fn numbers_go_on_after_a_pause_and_timestamps_keep_it() {
        let mut f = Fixture::new();
        f.send(0, 10, 1_000);
        f.send(1, 12, 1_010);
        f.rewriter.pause();
        assert_eq!(f.send(900, 500, 82_000), Some((103, 86_000, true)));
        // From before the pause: its number may have been used.
        assert_eq!(f.send(901, 499, 81_990), None);
        assert_eq!(f.send(902, 501, 82_090), Some((104, 86_090, false)));
    }

    #[test]
    fn what_was_sent_is_found_again_at_the_source() {
        let mut f = Fixture::new();
        assert_eq!(f.rewriter.source_of(100), None);
        f.send(0, 10, 1_000);
        f.send(1, 13, 1_010);
        // Those in between were lost on their way here, and may have come since.
        let found = |f: &Fixture, sent| f.rewriter.source_of(sent);
        let all: Vec<_> = (99..105).map(|sent| found(&f, sent)).collect();
        assert_eq!(all, [None, Some(10), Some(11), Some(12), Some(13), None]);
        // What is inserted has no source.
        let placed = f.rewriter.insert(f.start, &f.stream);
        f.stream.note_forwarded(f.start, placed, 4, false);
        f.send(20, 14, 2_800);
        let all: Vec<_> = (102..107).map(|sent| found(&f, sent)).collect();
        assert_eq!(all, [Some(12), Some(13), None, Some(14), None]);
        f.rewriter.pause();
        f.send(900, 500, 82_000);
        let all: Vec<_> = (104..108).map(|sent| found(&f, sent)).collect();
        assert_eq!(all, [None, Some(14), Some(500), None]);
    }

    #[test]
    fn another_source_goes_on_by_the_time_that_has_passed() {
        let mut f = Fixture::new();
        f.send(0, 10, 1_000);
        f.rewriter.switch(vec![VP8], Vec::new());
        assert_eq!(f.send(100, 40_000, 4_000_000_000), Some((101, 5_000 + 9_000, true)));
        assert_eq!(f.send(110, 40_001, 4_000_000_900), Some((102, 5_000 + 9_900, false)));
        // At the same instant it is later still: a timestamp is not shared by two pictures.
        f.rewriter.switch(vec![VP8], Vec::new());
        assert_eq!(f.send(110, 1, 0), Some((103, 5_000 + 9_901, true)));
    }

    #[test]
    fn an_inserted_packet_has_a_number_of_its_own_and_time_goes_on() {
        let mut f = Fixture::new();
        f.send(0, 10, 1_000);
        f.send(10, 12, 1_900);
        let now = f.start + Duration::from_millis(15);
        let placed = f.rewriter.insert(now, &f.stream);
        assert_eq!((placed.index, placed.timestamp, placed.begins), (103, 5_900 + 450, false));
        f.stream.note_forwarded(now, placed, 4, true);
        // Its number would have been 101, and what it follows is sent.
        assert_eq!(f.send(16, 11, 1_450), None);
        assert_eq!(f.send(20, 13, 2_800), Some((104, 6_800, false)));
    }

    #[test]
    fn padding_takes_a_number_and_what_comes_late_keeps_its_own() {
        let mut f = Fixture::new();
        f.send(0, 10, 1_000);
        f.send(1, 12, 1_010);
        for expected in [103, 104] {
            f.rewriter.pad();
            assert_eq!(f.stream.next_padding().sequence, expected);
        }
        assert_eq!(f.send(2, 11, 1_005), Some((101, 5_005, false)));
        assert_eq!(f.send(3, 14, 1_020), Some((106, 5_020, false)));
        assert_eq!(f.send(4, 13, 1_015), Some((105, 5_015, false)));
        f.rewriter.pad();
        assert_eq!(f.stream.next_padding().sequence, 107);
        assert_eq!(f.send(5, 15, 1_025), Some((108, 5_025, false)));
        // Of the run before the last there is nothing known any more.
        assert_eq!(f.send(6, 11, 1_005), None);
    }

    #[test]
    fn elements_get_the_ids_of_the_receiver_and_others_are_left_out() {
        let elements = [
            Extension { id: 1, data: &[0xaa] },
            Extension { id: 2, data: &[0xbb, 0xbc] },
            Extension { id: 3, data: &[0xcc] },
        ];
        let header = RtpHeader {
            payload_type: VP8.received,
            marker: true,
            sequence: 1,
            timestamp: 2,
            ssrc: Ssrc(3),
            extensions: &elements,
        };
        let mut packet = [0; 64];
        let len = header.write(&mut packet).unwrap();
        let view = RtpView::parse(&packet[..len + 4]).unwrap();
        for (map, expected) in [
            (vec![(1, 5), (3, 4)], vec![(5, vec![0xaa]), (4, vec![0xcc])]),
            // An id of more than 14 takes the two-byte form.
            (vec![(2, 20)], vec![(20, vec![0xbb, 0xbc])]),
            (Vec::new(), Vec::new()),
        ] {
            let rewriter = Rewriter::new(vec![VP8], map);
            let mut out = [0; 96];
            let room = rewriter.header_room(&view, true);
            let number = Extension { id: 9, data: &[1, 2] };
            let sent = RtpHeader { extensions: &[], payload_type: VP8.sent, ..header };
            let len =
                rewriter.write_header(&sent, &view, None, Some(number), &mut out[..room]).unwrap();
            let view = RtpView::parse(&out[..len]).unwrap();
            let got: Vec<_> = view
                .extensions()
                .map(|element| element.map(|e| (e.id, e.data.to_vec())).unwrap())
                .collect();
            let expected = [expected, vec![(9, vec![1, 2])]].concat();
            assert_eq!((got, view.payload_type(), view.marker()), (expected, VP8.sent, true));
        }
    }
}
