use super::*;
use crate::{DTMFTone, RedundantBlock, ToneSource, encode_redundant};

const RATE: u32 = 8_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A receiver under a virtual clock, fed by hand.
struct Bench {
    start: Instant,
    receiver: ToneReceiver,
    sequence: u16,
    rate: u32,
    marker: bool,
}

/// A report of an event: its timestamp, its code, whether it ends, its duration.
type Report = (u32, u8, bool, u16);

impl Bench {
    fn new() -> Self {
        Self::with(ToneReceiverConfig::default())
    }

    fn with(config: ToneReceiverConfig) -> Self {
        let mut receiver = ToneReceiver::new(config);
        let start = Instant::now();
        receiver.handle_other(start, 0);
        receiver.handle_timeout(start);
        Self { start, receiver, sequence: 0, rate: RATE, marker: false }
    }

    fn at(&self, at: u64) -> Instant {
        self.start + ms(at)
    }

    /// Lets time pass up to a packet with the next sequence number.
    fn packet(&mut self, at: u64, report: Report) {
        self.sequence = self.sequence.wrapping_add(1);
        self.numbered(at, self.sequence, report);
    }

    fn numbered(&mut self, at: u64, sequence: u16, (timestamp, event, end, duration): Report) {
        self.run_to(at);
        let payload = TelephoneEvent { event, end, volume: 10, duration }.encode();
        let packet = ReceivedPacket {
            sequence,
            timestamp,
            marker: self.marker,
            clock_rate: self.rate,
            payload: &payload,
        };
        self.receiver.handle_packet(self.at(at), &packet).unwrap();
    }

    fn run_to(&mut self, at: u64) {
        while let Some((due, _)) =
            self.receiver.poll_timeout().filter(|(due, _)| *due <= self.at(at))
        {
            self.receiver.handle_timeout(due);
        }
    }

    /// All reports so far: code, beginning and length in ms, and how it ended.
    fn reports(&mut self) -> Vec<(u8, u64, u64, Option<EndReason>)> {
        let start = self.start;
        let row = |report| {
            let (tone, reason) = match report {
                ToneReport::Began(tone) => (tone, None),
                ToneReport::Ended(tone, reason) => (tone, Some(reason)),
            };
            assert_eq!(tone.source, ToneSource::TelephoneEvent);
            let begin = tone.begin.duration_since(start).as_millis() as u64;
            (tone.event, begin, tone.duration.as_millis() as u64, reason)
        };
        std::iter::from_fn(|| self.receiver.poll_output()).map(row).collect()
    }

    /// Only the ends: code and length in ms.
    fn tones(&mut self) -> Vec<(u8, u64)> {
        let ended = |row: &(u8, u64, u64, Option<EndReason>)| row.3.map(|_| (row.0, row.2));
        self.reports().iter().filter_map(ended).collect()
    }
}

/// 100 ms as most send it, beginning at 1,000 ms.
const TONE: [(u64, bool, u16); 8] = [
    (1_000, false, 160),
    (1_020, false, 160),
    (1_040, false, 320),
    (1_060, false, 480),
    (1_080, false, 640),
    (1_100, true, 800),
    (1_120, true, 800),
    (1_140, true, 800),
];

#[test]
fn a_tone_is_reported_when_it_begins_and_when_it_ends() {
    let mut bench = Bench::new();
    for (at, end, duration) in TONE {
        bench.packet(at, (7_000, 5, end, duration));
        if at == 1_000 {
            assert_eq!(bench.reports(), [(5, 980, 20, None)]);
        }
    }
    bench.run_to(9_000);
    assert_eq!(bench.reports(), [(5, 980, 100, Some(EndReason::Ended))]);
    assert_eq!(bench.receiver.poll_timeout(), None);
    let counts = ToneReceiverCounts { packets: 8, tones: 1, ..ToneReceiverCounts::default() };
    assert_eq!(*bench.receiver.counts(), counts);
}

#[test]
fn any_one_packet_is_a_tone() {
    for (at, end, duration) in TONE {
        let mut bench = Bench::new();
        bench.packet(at, (7_000, 5, end, duration));
        bench.run_to(9_000);
        let length = u64::from(duration) / 8;
        let reason = if end { EndReason::Ended } else { EndReason::TimedOut };
        let begin = at - length;
        assert_eq!(
            bench.reports(),
            [(5, begin, length, None), (5, begin, length, Some(reason))],
            "the packet at {at}"
        );
    }
}

#[test]
fn all_markers_in_one_burst_are_one_tone() {
    // Chromium, with two rates described: three packets at once, each marked.
    let mut bench = Bench::new();
    bench.marker = true;
    for _ in 0..3 {
        bench.packet(1_000, (48_000, 5, true, 960));
    }
    for _ in 0..3 {
        bench.packet(1_150, (55_200, 5, true, 960));
    }
    bench.run_to(9_000);
    assert_eq!(bench.tones(), [(5, 120), (5, 120)]);
}

#[test]
fn a_tone_whose_end_is_lost_times_out_and_what_comes_later_is_no_other() {
    let mut bench = Bench::new();
    for (at, end, duration) in &TONE[..4] {
        bench.packet(*at, (7_000, 5, *end, *duration));
    }
    bench.run_to(1_359);
    assert_eq!(bench.reports(), [(5, 980, 20, None)]);
    bench.run_to(1_360);
    assert_eq!(bench.reports(), [(5, 980, 60, Some(EndReason::TimedOut))]);
    bench.packet(4_000, (7_000, 5, true, 800));
    bench.packet(6_000, (7_000, 5, false, 640));
    bench.run_to(9_000);
    assert_eq!(bench.reports(), []);
    assert_eq!(bench.receiver.counts().timed_out, 1);
}

#[test]
fn the_next_tone_ends_one_whose_end_is_lost() {
    let mut bench = Bench::new();
    bench.packet(1_000, (7_000, 5, false, 160));
    bench.packet(1_150, (8_200, 5, false, 160));
    let replaced = (5, 980, 20, Some(EndReason::Replaced));
    assert_eq!(bench.reports(), [(5, 980, 20, None), replaced, (5, 1_130, 20, None)]);
}

#[test]
fn duplicates_and_another_order_are_the_same_tone() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new();
        let mut packets: Vec<(u16, Report)> = TONE
            .iter()
            .enumerate()
            .map(|(at, (_, end, duration))| (at as u16, (7_000, 5, *end, *duration)))
            .collect();
        packets.extend(packets.clone());
        rng.shuffle(&mut packets);
        for (sequence, report) in packets {
            bench.numbered(1_000, sequence, report);
        }
        bench.run_to(9_000);
        let reports = bench.reports();
        let (began, ended) = (reports[0], reports[1]);
        assert_eq!((began.0, began.3, ended.0), (5, None, 5), "seed {seed}");
        assert_eq!(reports.len(), 2, "seed {seed}");
    }
}

#[test]
fn durations_that_go_back_are_not_believed() {
    let mut bench = Bench::new();
    for (at, duration) in [(1_000, 160), (1_020, 400), (1_040, 240), (1_060, 320)] {
        bench.packet(at, (7_000, 5, false, duration));
    }
    bench.packet(1_080, (7_000, 5, true, 160));
    bench.run_to(9_000);
    assert_eq!(bench.tones(), [(5, 50)]);
}

#[test]
fn the_same_digit_pressed_again_is_another_tone_also_without_a_pause() {
    let mut bench = Bench::new();
    for tone in 0..4u32 {
        let timestamp = 7_000 + tone * 800;
        bench.packet(1_000 + u64::from(tone) * 100, (timestamp, 5, false, 160));
        bench.packet(1_090 + u64::from(tone) * 100, (timestamp, 5, true, 800));
    }
    bench.run_to(9_000);
    assert_eq!(bench.tones(), [(5, 100); 4]);
}

#[test]
fn a_tone_whose_packets_come_late_goes_first_if_something_is_missing() {
    let mut bench = Bench::new();
    bench.numbered(1_000, 1, (7_000, 1, true, 800));
    // 2 and 3, the second tone, are overtaken by the third.
    bench.numbered(1_300, 4, (9_400, 3, false, 160));
    bench.numbered(1_310, 3, (8_200, 2, true, 800));
    bench.numbered(1_320, 5, (9_400, 3, true, 320));
    bench.run_to(9_000);
    assert_eq!(bench.tones(), [(1, 100), (2, 100), (3, 40)]);
    assert_eq!(bench.receiver.counts().late_tones, 0);
}

#[test]
fn audio_that_takes_the_numbers_between_lets_a_tone_begin_at_once() {
    let mut bench = Bench::new();
    bench.numbered(1_000, 1, (7_000, 1, true, 800));
    for sequence in 2..10 {
        bench.receiver.handle_other(bench.at(1_100), sequence);
    }
    bench.numbered(1_300, 10, (9_400, 3, false, 160));
    assert_eq!(bench.reports().last(), Some(&(3, 1_280, 20, None)));
    bench.numbered(1_900, 20, (19_400, 4, false, 160));
    assert_eq!(bench.reports().last(), Some(&(3, 1_280, 20, Some(EndReason::TimedOut))));
    bench.run_to(1_960);
    assert_eq!(bench.reports(), [(4, 1_880, 20, None)]);
}

#[test]
fn a_tone_that_comes_later_than_that_is_marked() {
    let mut bench = Bench::new();
    bench.numbered(1_000, 1, (7_000, 1, true, 800));
    bench.numbered(1_300, 4, (9_400, 3, false, 160));
    bench.run_to(1_400);
    assert_eq!(bench.reports().last(), Some(&(3, 1_280, 20, None)));
    for sequence in [2, 3] {
        bench.numbered(1_401, sequence, (8_200, 2, true, 800));
    }
    let late: Vec<_> = std::iter::from_fn(|| bench.receiver.poll_output())
        .map(|report| match report {
            ToneReport::Began(tone) | ToneReport::Ended(tone, _) => (tone.event, tone.is_late),
        })
        .collect();
    assert_eq!(late, [(2, true), (2, true)]);
    // It has not ended the tone that goes on.
    bench.numbered(1_420, 5, (9_400, 3, true, 960));
    assert_eq!(bench.tones(), [(3, 120)]);
    assert_eq!(bench.receiver.counts().late_tones, 1);
}

#[test]
fn what_is_later_than_any_packet_gets_is_counted() {
    let mut bench = Bench::new();
    bench.numbered(1_000, 1_000, (4_000_000, 1, true, 800));
    bench.numbered(1_100, 1, (4_000_000 - 250_000, 2, true, 800));
    assert_eq!(bench.tones(), [(1, 100)]);
    assert_eq!(bench.receiver.counts().too_late, 1);
    // In a newer packet it is a peer that has set its clock back.
    bench.numbered(1_200, 1_001, (4_000_000 - 260_000, 3, true, 800));
    bench.numbered(1_300, 1_002, (4_000_000 - 258_000, 4, true, 800));
    assert_eq!(bench.tones(), [(3, 100), (4, 100)]);
}

#[test]
fn a_peer_whose_timestamps_stand_still_is_heard_again() {
    let mut bench = Bench::new();
    bench.packet(1_000, (0, 5, true, 800));
    bench.packet(1_020, (0, 5, true, 800));
    bench.packet(7_000, (0, 5, true, 800));
    assert_eq!(bench.tones(), [(5, 100), (5, 100)]);
}

#[test]
fn durations_in_another_clock_than_described_are_recognised() {
    let mut bench = Bench::new();
    for (at, _, duration) in &TONE[..5] {
        bench.packet(*at, (7_000, 5, false, 6 * duration));
    }
    bench.packet(1_100, (7_000, 5, true, 4_800));
    bench.run_to(9_000);
    assert_eq!(bench.tones(), [(5, 100)]);
    assert_eq!(bench.receiver.counts().wrong_clock, 1);
}

#[test]
fn a_network_that_stalls_is_no_other_clock() {
    let mut bench = Bench::new();
    bench.packet(1_000, (7_000, 5, false, 160));
    for (at, duration) in [(1_250, 320), (1_251, 480), (1_252, 640)] {
        bench.packet(at, (7_000, 5, false, duration));
    }
    bench.packet(1_253, (7_000, 5, true, 800));
    assert_eq!(bench.tones(), [(5, 100)]);
    assert_eq!(bench.receiver.counts().wrong_clock, 0);
}

#[test]
fn the_segments_of_a_long_tone_are_one_tone() {
    for lost in [&[][..], &[65_535 / 960], &[0, 1, 2, 3], &[67, 68, 69, 70, 71, 72]] {
        let mut bench = Bench::new();
        bench.rate = 48_000;
        // Six seconds, with an update every 20 ms.
        for step in 0..300u32 {
            let units = (step + 1) * 960;
            let segment = (units - 1) / 65_535;
            let duration = (units - segment * 65_535) as u16;
            let report = (7_000 + segment * 65_535, 5, step == 299, duration);
            if lost.contains(&(step as usize)) {
                bench.sequence += 1;
            } else {
                bench.packet(1_000 + 20 * u64::from(step), report);
            }
        }
        bench.run_to(20_000);
        assert_eq!(bench.tones(), [(5, 6_000)]);
    }
}

#[test]
fn segments_that_begin_with_a_packet_are_one_tone_too() {
    let mut bench = Bench::new();
    bench.rate = 48_000;
    for step in 0..60u16 {
        bench.packet(1_000 + 20 * u64::from(step), (0, 5, false, 960 * (step + 1)));
    }
    bench.packet(2_380, (0, 5, false, 65_535));
    for step in 0..5u16 {
        bench.packet(2_390 + 20 * u64::from(step), (66_240, 5, step == 4, 960 * (step + 1)));
    }
    bench.run_to(9_000);
    assert_eq!(bench.tones(), [(5, 1_480)]);
}

#[test]
fn a_segment_that_overtakes_the_one_before_is_no_other_tone() {
    let mut bench = Bench::new();
    bench.rate = 48_000;
    bench.numbered(1_000, 2, (65_535, 5, false, 960));
    bench.numbered(1_010, 1, (0, 5, false, 65_535));
    bench.numbered(1_020, 3, (65_535, 5, true, 1_920));
    bench.run_to(9_000);
    assert_eq!(bench.tones(), [(5, (65_535 + 1_920) / 48)]);
}

#[test]
fn several_events_in_a_packet_are_as_many_tones() {
    let mut bench = Bench::new();
    let event = |event, duration| TelephoneEvent { event, end: false, volume: 3, duration };
    let payload = [event(1, 800).encode(), event(1, 400).encode(), event(2, 160).encode()].concat();
    let packet = ReceivedPacket {
        sequence: 1,
        timestamp: 100,
        marker: true,
        clock_rate: RATE,
        payload: &payload,
    };
    bench.receiver.handle_packet(bench.at(1_000), &packet).unwrap();
    bench.packet(1_100, (1_300, 2, true, 800));
    let ended = Some(EndReason::Ended);
    assert_eq!(
        bench.reports(),
        [
            (1, 830, 100, None),
            (1, 830, 100, ended),
            (1, 930, 50, None),
            (1, 930, 50, ended),
            (2, 980, 20, None),
            (2, 980, 100, ended),
        ]
    );
}

#[test]
fn a_tone_of_which_only_redundant_blocks_arrive_is_reported_in_order() {
    let mut bench = Bench::new();
    let report =
        |event, end, duration| TelephoneEvent { event, end, volume: 10, duration }.encode();
    let (one, two, three) = (report(1, true, 800), report(2, true, 800), report(3, false, 160));
    let block = |payload_type, timestamp_offset, payload| RedundantBlock {
        payload_type,
        timestamp_offset,
        payload,
    };
    let blocks = [
        block(101, 2_400, &one[..]),
        block(0, 200, &[0x7f; 160]),
        block(101, 1_200, &two),
        block(101, 0, &three),
    ];
    let mut payload = Vec::new();
    encode_redundant(&blocks, &mut payload).unwrap();
    bench.packet(1_000, (10_000, 1, true, 800));
    assert_eq!(bench.tones(), [(1, 100)]);
    let packet = ReceivedPacket {
        sequence: bench.sequence + 1,
        timestamp: 12_400,
        marker: true,
        clock_rate: RATE,
        payload: &payload,
    };
    for _ in 0..2 {
        bench.receiver.handle_redundant(bench.at(1_320), &packet, 101).unwrap();
    }
    let ended = Some(EndReason::Ended);
    let second = [(2, 1_150, 100, None), (2, 1_150, 100, ended)];
    assert_eq!(bench.reports(), [&second[..], &[(3, 1_300, 20, None)]].concat());
    let cut = ReceivedPacket { payload: &payload[..20], ..packet };
    let error = bench.receiver.handle_redundant(bench.at(1_330), &cut, 101);
    assert_eq!(error, Err(RedundancyError::Truncated));
    assert_eq!(bench.receiver.counts().malformed, 1);
}

#[test]
fn events_that_are_no_digits_are_reported_too() {
    let mut bench = Bench::new();
    bench.packet(1_000, (7_000, 16, true, 800));
    let Some(ToneReport::Began(tone)) = bench.receiver.poll_output() else { panic!() };
    assert_eq!((tone.event, tone.digit(), tone.tone()), (16, None, None));
    assert_eq!(tone.end(), bench.at(1_000));
    bench.packet(2_000, (17_000, 11, true, 800));
    let tones: Vec<_> = std::iter::from_fn(|| bench.receiver.poll_output())
        .filter_map(|report| match report {
            ToneReport::Ended(tone, _) => tone.tone(),
            ToneReport::Began(_) => None,
        })
        .collect();
    let expected =
        DTMFTone { digits: "#".into(), duration: ms(100), inter_tone_gap: Duration::ZERO };
    assert_eq!(tones, [expected]);
}

#[test]
fn a_malformed_payload_is_counted_and_changes_nothing() {
    let mut bench = Bench::new();
    let packet = ReceivedPacket {
        sequence: 1,
        timestamp: 0,
        marker: false,
        clock_rate: 0,
        payload: &[5, 0, 0],
    };
    let error = bench.receiver.handle_packet(bench.start, &packet);
    assert_eq!(error, Err(TelephoneEventError::Length(3)));
    assert_eq!((bench.receiver.counts().malformed, bench.reports()), (1, vec![]));
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut bench = Bench::new();
    for step in 0..10_000u32 {
        bench.packet(u64::from(step), (step * 100, 5, false, 50));
    }
    let counts = *bench.receiver.counts();
    let reports = bench.reports().len();
    assert_eq!((bench.receiver.pressed.len(), reports), (REMEMBERED, MAX_REPORTS));
    assert_eq!(counts.dropped_reports + reports as u64, 2 * 10_000 - 1);
}
