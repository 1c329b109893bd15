use super::*;
use crate::{RedundantBlock, TelephoneEvent, decode_redundant};

const RATE: u32 = 8_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A queue under a virtual clock, and what has come out of it.
struct Bench {
    start: Instant,
    queue: ToneQueue,
    packets: Vec<(u64, EventPacket)>,
    events: Vec<(u64, ToneEvent)>,
}

impl Bench {
    fn new(config: ToneQueueConfig) -> Self {
        let (packets, events) = (Vec::new(), Vec::new());
        Self { start: Instant::now(), queue: ToneQueue::new(config), packets, events }
    }

    fn at(&self, at: u64) -> Instant {
        self.start + ms(at)
    }

    /// Polls at each deadline up to a moment, and at that moment.
    fn run_to(&mut self, until: u64) {
        loop {
            let due = self.queue.poll_timeout().map(|(due, _)| due);
            let now = due.unwrap_or(self.at(until)).min(self.at(until)).max(self.start);
            self.poll(now);
            if due.is_none_or(|due| due > self.at(until)) {
                return;
            }
        }
    }

    fn poll(&mut self, now: Instant) {
        let at = now.duration_since(self.start).as_millis() as u64;
        while let Some(output) = self.queue.poll_output(now) {
            match output {
                ToneOutput::Packet(packet) => self.packets.push((at, packet)),
                ToneOutput::Event(event) => self.events.push((at, event)),
            }
        }
    }

    /// (milliseconds, timestamp, marker, event, end, duration) of what was sent.
    fn sent(&self) -> Vec<(u64, u32, bool, u8, bool, u16)> {
        let row = |(at, packet): &(u64, EventPacket)| {
            let report = TelephoneEvent::decode(packet.payload()).unwrap();
            assert_eq!(report, packet.report);
            (*at, packet.timestamp, packet.marker, report.event, report.end, report.duration)
        };
        self.packets.iter().map(row).collect()
    }

    /// Digit, beginning and length in ms of what has ended.
    fn played(&self) -> Vec<(char, u64, u64)> {
        let row = |(_, event): &(u64, ToneEvent)| match event {
            ToneEvent::Ended { digit, begin, duration, .. } => {
                let begin = begin.duration_since(self.start).as_millis() as u64;
                Some((digit.to_char(), begin, duration.as_millis() as u64))
            }
            _ => None,
        };
        self.events.iter().filter_map(row).collect()
    }
}

fn bench() -> Bench {
    Bench::new(ToneQueueConfig::new(RATE))
}

#[test]
fn a_tone_is_reported_every_20_ms_and_its_end_three_times() {
    let mut bench = bench();
    bench.queue.insert_dtmf(bench.start, "5", None, None).unwrap();
    bench.run_to(1_000);
    assert_eq!(
        bench.sent(),
        [
            (0, 0, true, 5, false, 160),
            (20, 0, false, 5, false, 160),
            (40, 0, false, 5, false, 320),
            (60, 0, false, 5, false, 480),
            (80, 0, false, 5, false, 640),
            (100, 0, false, 5, true, 800),
            (120, 0, false, 5, true, 800),
            (140, 0, false, 5, true, 800),
        ]
    );
    let digit = Digit::from_char('5').unwrap();
    let begin = bench.start;
    let ended = ToneEvent::Ended { digit, begin, duration: ms(100), gap: ms(50), completed: true };
    assert_eq!(
        bench.events,
        [
            (0, ToneEvent::Began { digit, at: begin }),
            (100, ended),
            (150, ToneEvent::QueueEmpty { at: bench.at(150) }),
        ]
    );
    assert!(bench.queue.is_idle());
    assert_eq!(bench.queue.poll_timeout(), None);
}

#[test]
fn insert_dtmf_reads_characters_as_draft_b_says() {
    let mut bench = bench();
    bench.queue.insert_dtmf(bench.start, "1x,a- #é*", Some(ms(70)), Some(ms(60))).unwrap();
    assert_eq!(bench.queue.tone_buffer(), "1,A#*");
    assert_eq!((bench.queue.duration(), bench.queue.inter_tone_gap()), (ms(70), ms(60)));
    bench.run_to(10);
    assert_eq!(bench.queue.tone_buffer(), ",A#*");
    bench.run_to(5_000);
    let expected = [('1', 0, 70), ('A', 2_130, 70), ('#', 2_260, 70), ('*', 2_390, 70)];
    assert_eq!(bench.played(), expected);
}

#[test]
fn the_defaults_are_100_ms_and_50_ms() {
    let mut bench = bench();
    assert_eq!((bench.queue.duration(), bench.queue.inter_tone_gap()), (ms(100), ms(50)));
    bench.queue.insert_dtmf(bench.start, "12", None, None).unwrap();
    bench.run_to(1_000);
    assert_eq!(bench.played(), [('1', 0, 100), ('2', 150, 100)]);
}

#[test]
fn what_is_out_of_range_is_an_error_that_changes_nothing() {
    let mut bench = bench();
    let now = bench.start;
    bench.queue.insert_dtmf(now, "123", Some(ms(80)), Some(ms(90))).unwrap();
    let queue = &mut bench.queue;
    let mut insert = |duration, gap| queue.insert_dtmf(now, "9", Some(ms(duration)), Some(ms(gap)));
    assert_eq!(insert(69, 50), Err(InsertDtmfError::DurationTooShort(ms(69))));
    assert_eq!(insert(6_001, 50), Err(InsertDtmfError::DurationTooLong(ms(6_001))));
    assert_eq!(insert(100, 49), Err(InsertDtmfError::GapTooShort(ms(49))));
    let many = "1".repeat(MAX_TONES + 1);
    assert_eq!(queue.insert_dtmf(now, &many, None, None), Err(InsertDtmfError::TooMany));
    assert_eq!(queue.tone_buffer(), "123");
    assert_eq!((queue.duration(), queue.inter_tone_gap()), (ms(80), ms(90)));
    for (duration, gap) in [(70, 50), (6_000, 50), (100, 60_000)] {
        queue.insert_dtmf(now, "9", Some(ms(duration)), Some(ms(gap))).unwrap();
    }
    queue.insert_dtmf(now, "9", None, Some(Duration::MAX)).unwrap();
    let message = InsertDtmfError::DurationTooShort(ms(69)).to_string();
    assert_eq!(message, "a tone lasts 70 ms at least, not 69 ms");
}

#[test]
fn insert_dtmf_replaces_what_waits_and_lets_the_tone_finish() {
    let mut bench = bench();
    bench.queue.insert_dtmf(bench.start, "123", None, None).unwrap();
    bench.run_to(30);
    bench.queue.insert_dtmf(bench.at(30), "45", Some(ms(70)), None).unwrap();
    bench.run_to(1_000);
    assert_eq!(bench.played(), [('1', 0, 100), ('4', 150, 70), ('5', 270, 70)]);
}

#[test]
fn an_empty_string_cancels_what_waits_also_within_a_pause() {
    let mut bench = bench();
    bench.queue.insert_dtmf(bench.start, "1,2", None, None).unwrap();
    bench.run_to(500);
    bench.queue.insert_dtmf(bench.at(500), "", None, None).unwrap();
    assert_eq!(bench.queue.tone_buffer(), "");
    bench.run_to(5_000);
    assert_eq!(bench.played(), [('1', 0, 100)]);
    let empty = ToneEvent::QueueEmpty { at: bench.at(500) };
    assert_eq!(bench.events.last(), Some(&(500, empty)));
    bench.queue.insert_dtmf(bench.at(5_000), "", None, None).unwrap();
    bench.queue.insert_dtmf(bench.at(5_000), "xyz", None, None).unwrap();
    bench.run_to(6_000);
    assert_eq!(bench.events.len(), 3, "nothing was played, so nothing becomes empty");
}

#[test]
fn play_adds_to_what_waits() {
    let mut bench = bench();
    bench.queue.play_digits(bench.start, "1").unwrap();
    let tones = [
        DTMFTone { digits: "23".into(), duration: ms(40), inter_tone_gap: ms(0) },
        DTMFTone { digits: "4".into(), duration: ms(200), inter_tone_gap: ms(100) },
    ];
    bench.queue.play(bench.start, &tones).unwrap();
    bench.queue.play(bench.start, &[]).unwrap();
    bench.run_to(20);
    bench.queue.play_digits(bench.at(20), "5").unwrap();
    assert_eq!(bench.queue.tone_buffer(), "2345");
    bench.run_to(2_000);
    let expected =
        [('1', 0, 100), ('2', 150, 40), ('3', 190, 40), ('4', 230, 200), ('5', 530, 100)];
    assert_eq!(bench.played(), expected);
    // Without a gap the packets of the end go out before the next begins, and timestamps differ.
    let ends: Vec<_> = bench.sent().into_iter().filter(|row| row.3 == 2 && row.4).collect();
    assert_eq!(ends, [(190, 1_200, false, 2, true, 320); 3]);
    let third = bench.sent().into_iter().find(|row| row.3 == 3);
    assert_eq!(third, Some((190, 1_520, true, 3, false, 160)));
}

#[test]
fn play_refuses_tones_without_end_or_duration_and_too_many() {
    let mut bench = bench();
    let now = bench.start;
    let tone = |duration, gap| DTMFTone { digits: "1".into(), duration, inter_tone_gap: gap };
    let hour = Duration::from_secs(3_600);
    let mut play = |duration, gap| bench.queue.play(now, &[tone(duration, gap)]);
    assert_eq!(play(ms(0), ms(50)), Err(PlayError::NoDuration));
    assert_eq!(play(hour + ms(1), ms(50)), Err(PlayError::TooLong));
    assert_eq!(play(ms(50), Duration::MAX), Err(PlayError::TooLong));
    assert_eq!(bench.queue.tone_buffer(), "");
    bench.queue.play_digits(now, &"1".repeat(MAX_TONES)).unwrap();
    assert_eq!(bench.queue.play_digits(now, "1"), Err(PlayError::TooMany));
    assert_eq!(bench.queue.tonestart(now, '1'), Err(PlayError::TooMany));
    assert_eq!(bench.queue.tonestart(now, ','), Err(PlayError::NotADigit(',')));
}

#[test]
fn a_held_tone_waits_for_what_is_played_and_lasts_until_its_key_is_released() {
    let mut bench = bench();
    bench.queue.play_digits(bench.start, "12").unwrap();
    bench.queue.tonestart(bench.at(10), '7').unwrap();
    bench.run_to(20);
    bench.queue.play_digits(bench.at(20), "3").unwrap();
    bench.run_to(1_000);
    assert_eq!(bench.queue.sounding(), Digit::from_char('7'));
    bench.queue.play_digits(bench.at(1_000), "4").unwrap();
    bench.run_to(1_003);
    bench.queue.tonestop(bench.at(1_003));
    bench.queue.tonestop(bench.at(1_004));
    bench.run_to(2_000);
    let expected =
        [('1', 0, 100), ('2', 150, 100), ('3', 300, 100), ('7', 450, 553), ('4', 1_053, 100)];
    assert_eq!(bench.played(), expected);
    let tones: Vec<DTMFTone> = bench.events.iter().filter_map(|(_, event)| event.tone()).collect();
    let seven = DTMFTone { digits: "7".into(), duration: ms(553), inter_tone_gap: ms(50) };
    assert_eq!((tones.len(), &tones[3]), (5, &seven));
    let end = bench.sent().into_iter().find(|row| row.3 == 7 && row.4);
    assert_eq!(end, Some((1_003, 3_600, false, 7, true, 4_424)));
}

#[test]
fn a_key_that_is_released_before_its_turn_sounds_as_long_as_it_was_held() {
    let mut bench = bench();
    bench.queue.play_digits(bench.start, "1").unwrap();
    bench.queue.tonestart(bench.at(0), '2').unwrap();
    bench.queue.tonestop(bench.at(80));
    bench.queue.tonestart(bench.at(85), '3').unwrap();
    bench.queue.tonestart(bench.at(90), '4').unwrap();
    bench.run_to(90);
    assert_eq!(bench.queue.tone_buffer(), "23");
    bench.run_to(1_000);
    bench.queue.tonestop(bench.at(1_000));
    bench.run_to(2_000);
    let expected = [('1', 0, 100), ('2', 150, 80), ('3', 280, 40), ('4', 370, 630)];
    assert_eq!(bench.played(), expected);
}

#[test]
fn another_key_releases_the_one_that_sounds() {
    let mut bench = bench();
    bench.queue.tonestart(bench.start, '1').unwrap();
    bench.run_to(300);
    bench.queue.tonestart(bench.at(300), '2').unwrap();
    bench.run_to(355);
    bench.queue.tonestop(bench.at(355));
    bench.run_to(1_000);
    assert_eq!(bench.played(), [('1', 0, 300), ('2', 350, 40)]);
}

#[test]
fn flush_stops_the_tone_and_empties_the_queue() {
    let mut bench = bench();
    bench.queue.play_digits(bench.start, "1234").unwrap();
    bench.queue.tonestart(bench.start, '9').unwrap();
    bench.run_to(33);
    bench.queue.flush(bench.at(33));
    bench.run_to(1_000);
    assert_eq!(bench.played(), [('1', 0, 33)]);
    let completed = bench.events.iter().find_map(|(_, event)| match event {
        ToneEvent::Ended { completed, .. } => Some(*completed),
        _ => None,
    });
    assert_eq!(completed, Some(false));
    assert!(bench.events.iter().all(|(_, event)| event.tone().is_none()), "it was not completed");
    let ends: Vec<_> = bench.sent().into_iter().filter(|row| row.4).collect();
    let end = |at| (at, 0, false, 1, true, 264);
    assert_eq!(ends, [end(33), end(53), end(73)]);
    assert_eq!(bench.events.last(), Some(&(83, ToneEvent::QueueEmpty { at: bench.at(83) })));
}

#[test]
fn a_tone_that_is_cut_at_once_does_not_take_back_what_was_said() {
    let mut bench = bench();
    bench.queue.tonestart(bench.start, '1').unwrap();
    bench.run_to(3);
    bench.queue.flush(bench.at(3));
    bench.run_to(100);
    let durations: Vec<_> = bench.sent().iter().map(|row| (row.0, row.4, row.5)).collect();
    assert_eq!(durations, [(0, false, 160), (3, true, 160), (23, true, 160), (43, true, 160)]);
}

#[test]
fn a_tone_longer_than_the_field_goes_on_in_segments() {
    let mut bench = Bench::new(ToneQueueConfig::new(48_000));
    bench.queue.insert_dtmf(bench.start, "5", Some(ms(6_000)), None).unwrap();
    bench.run_to(7_000);
    let sent = bench.sent();
    assert_eq!(sent.iter().filter(|row| row.2).count(), 1, "one marker");
    let full: Vec<_> =
        sent.iter().filter(|row| row.5 == 65_535).map(|row| (row.1, row.4)).collect();
    let expected: Vec<(u32, bool)> = (0..4).map(|at| (at * 65_535, false)).collect();
    assert_eq!(full, expected);
    let ends: Vec<_> = sent.iter().filter(|row| row.4).map(|row| (row.0, row.1, row.5)).collect();
    assert_eq!(ends, [6_000, 6_020, 6_040].map(|at| (at, 4 * 65_535, 25_860)));
    for (_, packet) in &bench.packets {
        assert_eq!((packet.begin, packet.timestamp), (bench.start, packet.timestamp_offset));
    }
}

#[test]
fn events_share_the_timestamps_of_the_audio_which_pauses() {
    let mut bench = Bench::new(ToneQueueConfig::new(48_000));
    let base = u32::MAX - 1_000;
    let mut paused = Vec::new();
    bench.queue.insert_dtmf(bench.at(25), "5", None, None).unwrap();
    for frame in 0..10u32 {
        let at = u64::from(frame) * 20;
        bench.run_to(at);
        paused.push(bench.queue.is_audio_paused());
        bench.queue.audio_sent(bench.at(at), base.wrapping_add(frame * 960));
    }
    bench.run_to(400);
    // It was asked for between the second frame and the third.
    let expected = base.wrapping_add(960 + 240);
    assert!(bench.packets.iter().all(|(_, packet)| packet.timestamp == expected));
    let expected = [false, false, true, true, true, true, true, false, false, false];
    assert_eq!(paused, expected);
}

#[test]
fn an_event_never_begins_within_the_one_before_when_audio_is_late() {
    let mut bench = bench();
    bench.queue.audio_sent(bench.start, 1_000);
    let tone = DTMFTone { digits: "11".into(), duration: ms(100), inter_tone_gap: ms(10) };
    bench.queue.play(bench.start, &[tone]).unwrap();
    bench.run_to(100);
    // A frame that was to come 30 ms earlier.
    bench.queue.audio_sent(bench.at(100), 1_560);
    bench.run_to(1_000);
    let begins: Vec<u32> = bench.sent().iter().filter(|row| row.2).map(|row| row.1).collect();
    assert_eq!(begins, [1_000, 1_800]);
}

#[test]
fn a_late_caller_keeps_the_times_and_a_very_late_one_moves_them() {
    let mut bench = bench();
    bench.queue.insert_dtmf(bench.start, "12", None, None).unwrap();
    for at in [7, 19, 53, 71, 110, 151, 160, 255] {
        bench.poll(bench.at(at));
    }
    let durations: Vec<_> = bench.sent().iter().map(|row| (row.0, row.5)).collect();
    let first = [(7, 160), (53, 320), (71, 480), (110, 800), (151, 800), (151, 800)];
    assert_eq!(durations[..6], first);
    assert_eq!(bench.played(), [('1', 0, 100), ('2', 150, 100)]);
    let mut bench = self::bench();
    bench.queue.insert_dtmf(bench.start, "12", None, None).unwrap();
    bench.poll(bench.at(5_000));
    bench.run_to(6_000);
    assert_eq!(bench.played(), [('1', 5_000, 100), ('2', 5_150, 100)]);
}

#[test]
fn nothing_begins_before_it_was_asked_for() {
    let mut bench = bench();
    bench.queue.play_digits(bench.start, "1").unwrap();
    bench.run_to(140);
    bench.queue.play_digits(bench.at(160), "2").unwrap();
    bench.poll(bench.at(160));
    bench.run_to(1_000);
    assert_eq!(bench.played(), [('1', 0, 100), ('2', 160, 100)]);
}

#[test]
fn packets_repeat_the_events_before_if_described() {
    let redundancy = Some(RedundancyConfig { payload_type: 101, events: 2 });
    let mut bench = Bench::new(ToneQueueConfig { redundancy, ..ToneQueueConfig::new(RATE) });
    bench.queue.insert_dtmf(bench.start, "1234", None, None).unwrap();
    bench.run_to(3_000);
    assert!(bench.packets.iter().all(|(_, packet)| packet.is_redundant()));
    let first = |digit: u8| {
        let (_, packet) =
            bench.packets.iter().find(|(_, packet)| packet.report.event == digit).unwrap();
        packet.clone()
    };
    assert_eq!(first(1).payload(), [101, 1, 10, 0, 160]);
    let fourth = first(4);
    let over = |event| TelephoneEvent { event, end: true, volume: 10, duration: 800 }.encode();
    let (two, three) = (over(2), over(3));
    let block =
        |timestamp_offset, payload| RedundantBlock { payload_type: 101, timestamp_offset, payload };
    assert_eq!(
        decode_redundant(fourth.payload()),
        Ok(vec![block(2_400, &two), block(1_200, &three), block(0, &[4, 10, 0, 160])])
    );
}

#[test]
fn what_the_offset_cannot_say_is_not_repeated() {
    let redundancy = Some(RedundancyConfig { payload_type: 101, events: 5 });
    let mut bench = Bench::new(ToneQueueConfig { redundancy, ..ToneQueueConfig::new(48_000) });
    bench.queue.insert_dtmf(bench.start, "1234567", None, Some(ms(150))).unwrap();
    bench.run_to(3_000);
    let (_, last) = bench.packets.last().unwrap();
    // 250 ms are 12,000 units, 500 do not fit into 14 bits.
    assert_eq!(decode_redundant(last.payload()).unwrap().len(), 2);
}

#[test]
fn a_config_out_of_range_is_brought_into_it() {
    let redundancy = Some(RedundancyConfig { payload_type: 255, events: 255 });
    let mut bench = Bench::new(ToneQueueConfig {
        clock_rate: 0,
        update_interval: ms(0),
        end_packets: 0,
        volume: 255,
        min_held: Duration::MAX,
        redundancy,
    });
    bench.queue.insert_dtmf(bench.start, "1234567890", None, None).unwrap();
    bench.queue.tonestart(bench.start, '1').unwrap();
    bench.run_to(3_000);
    let ends = bench.packets.iter().filter(|(_, packet)| packet.report.end).count();
    assert_eq!((ends, bench.packets[0].1.report.volume), (10, 63));
    assert!(bench.packets.iter().all(|(_, packet)| packet.payload().len() <= 45));
    bench.queue.tonestop(bench.at(3_000));
}

/// Random commands and polls at random times: digits come out in the order of a model, packets
/// of a tone never go back, and the queue always ends.
#[test]
fn random_programs_play_every_tone_for_its_length() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rate = rng.choice([8_000, 16_000, 48_000]).unwrap();
        let mut bench = Bench::new(ToneQueueConfig::new(rate));
        let (mut at, mut expected) = (0, Vec::new());
        for _ in 0..rng.usize(1..6) {
            let digits: String = (0..rng.usize(0..5))
                .filter_map(|_| Digit::from_event(rng.u8(..16)))
                .map(Digit::to_char)
                .collect();
            let duration = ms(rng.u64(1..3_000));
            let tone =
                DTMFTone { digits: digits.clone(), duration, inter_tone_gap: ms(rng.u64(0..200)) };
            expected.extend(digits.chars().map(|digit| (digit, duration.as_millis() as u64)));
            bench.queue.play(bench.at(at), &[tone]).unwrap();
            at += rng.u64(0..2_000);
            bench.run_to(at);
        }
        bench.run_to(at + 100_000);
        assert!(bench.queue.is_idle(), "seed {seed}");
        let played: Vec<_> = bench.played().iter().map(|row| (row.0, row.2)).collect();
        assert_eq!(played, expected, "seed {seed}");
        // On the wire: one marker and the whole length for each, and never a step back.
        let mut wire: Vec<(u8, u64, Instant)> = Vec::new();
        for (_, packet) in &bench.packets {
            let units = u64::from(packet.timestamp_offset) + u64::from(packet.report.duration);
            match wire.last_mut() {
                Some((_, told, begin)) if *begin == packet.begin => {
                    assert!(!packet.marker && units >= *told, "seed {seed}");
                    *told = units;
                }
                _ => {
                    assert!(packet.marker, "seed {seed}");
                    wire.push((packet.report.event, units, packet.begin));
                }
            }
        }
        let wire: Vec<_> = wire.iter().map(|row| (row.0, row.1)).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(digit, ms)| {
                (Digit::from_char(*digit).unwrap().event(), ms * u64::from(rate) / 1_000)
            })
            .collect();
        assert_eq!(wire, expected, "seed {seed}");
    }
}
