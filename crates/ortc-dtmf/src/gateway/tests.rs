use super::*;
use crate::testing::noise;

const FIVE: u8 = 5;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn received(event: u8, duration: Duration, is_late: bool) -> ReceivedTone {
    let source = ToneSource::TelephoneEvent;
    ReceivedTone { event, begin: Instant::now(), duration, volume: 10, source, is_late }
}

fn began(event: u8) -> ToneReport {
    ToneReport::Began(received(event, ms(20), false))
}

fn ended(event: u8, length: u64) -> ToneReport {
    ToneReport::Ended(received(event, ms(length), false), EndReason::Ended)
}

/// Digits and lengths in ms that a detector finds.
fn heard(rate: u32, samples: &[i16]) -> Vec<(char, u64)> {
    let mut detector = ToneDetector::new(rate, ToneDetectorConfig::default()).unwrap();
    let mut heard = Vec::new();
    for frame in samples.chunks(rate as usize / 50) {
        detector.process(frame);
        while let Some(detection) = detector.poll_output() {
            if let Detection::Ended(tone) = detection {
                let length = (tone.end - tone.begin) as f64 / f64::from(rate) * 1_000.0;
                heard.push((tone.digit.to_char(), length.round() as u64));
            }
        }
    }
    heard
}

/// Tones of 50 to 200 ms, 60 ms apart, in a little noise; and the digits in them.
fn line(rate: u32, seed: u64) -> (Vec<i16>, String) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut generator = ToneGenerator::new(rate, ToneShape::default()).unwrap();
    let mut samples = vec![0; rate as usize / 10 + rng.usize(0..200)];
    let mut digits = String::new();
    for digit in Digit::all() {
        digits.push(digit.to_char());
        samples.extend(generator.tone(digit, ms(rng.u64(50..200))));
        samples.extend(vec![0; rate as usize * 6 / 100]);
    }
    samples.extend(vec![0; rate as usize / 2]);
    noise(&mut rng, -50.0, &mut samples);
    (samples, digits)
}

#[test]
fn tones_become_reports_and_nobody_hears_them_in_the_sound() {
    for (seed, rate) in (0..10).flat_map(|seed| [8_000, 16_000, 48_000].map(|rate| (seed, rate))) {
        let (mut samples, digits) = line(rate, seed);
        let untouched = samples.clone();
        let mut extractor = ToneExtractor::new(rate, ToneDetectorConfig::default()).unwrap();
        let (start, mut told) = (Instant::now(), String::new());
        let frame = rate as usize / 50;
        for (at, frame) in (1u32..).zip(samples.chunks_mut(frame)) {
            extractor.process(start + at * ms(20), frame);
            while let Some(report) = extractor.poll_output() {
                if let ToneReport::Began(tone) = report {
                    assert_eq!(tone.source, ToneSource::InBand);
                    told.push(tone.digit().unwrap().to_char());
                }
            }
        }
        assert_eq!(told, digits);
        assert_eq!(heard(rate, &samples), [], "seed {seed}");
        // Not even a part: nothing is louder than the noise.
        let loudest = samples.iter().map(|sample| sample.abs()).max().unwrap();
        assert!(loudest < 400, "seed {seed}, {rate} Hz: {loudest}");
        // What is before the first tone comes out as it was, and late.
        let delay = units(extractor.delay(), rate) as usize;
        let quiet = rate as usize / 20;
        assert_eq!(samples[delay..delay + quiet], untouched[..quiet]);
    }
}

#[test]
fn a_report_has_the_times_of_the_tone() {
    let start = Instant::now();
    let mut extractor = ToneExtractor::new(8_000, ToneDetectorConfig::default()).unwrap();
    let mut generator = ToneGenerator::new(8_000, ToneShape::default()).unwrap();
    let tone = generator.tone(Digit::from_char('5').unwrap(), ms(120));
    let mut samples = [&[0; 1_600][..], &tone, &[0; 1_600]].concat();
    let mut reports = Vec::new();
    for (at, frame) in (1u32..).zip(samples.chunks_mut(160)) {
        extractor.process(start + at * ms(20), frame);
        reports.extend(std::iter::from_fn(|| extractor.poll_output()));
    }
    let [ToneReport::Began(began), ToneReport::Ended(ended, EndReason::Ended)] = reports[..] else {
        panic!("{reports:?}")
    };
    assert_eq!((began.event, ended.event, ended.begin), (FIVE, FIVE, began.begin));
    let off = |at: Instant, expected: u64| {
        (at.duration_since(start).as_secs_f64() * 1_000.0 - expected as f64).abs()
    };
    assert!(off(ended.begin, 200) < 3.0 && off(ended.end(), 320) < 3.0, "{ended:?}");
    // -10 and -8 dBm0 are -6 together.
    assert_eq!(ended.volume, 6);
}

#[test]
fn sound_that_is_no_tone_passes_the_extractor() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut samples = vec![0; 8_000];
    noise(&mut rng, -20.0, &mut samples);
    let before = samples.clone();
    let mut extractor = ToneExtractor::new(8_000, ToneDetectorConfig::default()).unwrap();
    for frame in samples.chunks_mut(160) {
        extractor.process(Instant::now(), frame);
    }
    assert_eq!(samples[560..], before[..8_000 - 560]);
    assert_eq!(samples[..560], [0; 560]);
}

#[test]
fn reports_become_tones_of_their_length_in_place_of_the_sound() {
    for rate in [8_000, 48_000] {
        let mut inserter = ToneInserter::new(rate, ToneShape::default()).unwrap();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut sound = vec![0; rate as usize];
        noise(&mut rng, -12.0, &mut sound);
        let original = sound.clone();
        let frame = rate as usize / 50;
        for (at, frame) in sound.chunks_mut(frame).enumerate() {
            match at {
                10 => inserter.handle(&began(FIVE)),
                16 => inserter.handle(&ended(FIVE, 120)),
                _ => {}
            }
            assert_eq!(inserter.is_sounding(), (10..17).contains(&at), "{at}");
            inserter.process(frame);
        }
        let tone = heard(rate, &sound);
        assert!(matches!(tone[..], [('5', 115..125)]), "{tone:?}");
        assert_eq!(sound[..10 * frame], original[..10 * frame]);
        assert_eq!(sound[17 * frame..], original[17 * frame..]);
    }
}

#[test]
fn digits_that_come_faster_than_a_line_takes_them_wait() {
    let mut inserter = ToneInserter::new(8_000, ToneShape::default()).unwrap();
    for event in [1, 1, 2, 2, 2] {
        inserter.handle(&began(event));
        inserter.handle(&ended(event, 10));
    }
    // A late one goes behind; what is no digit has no tone.
    inserter.handle(&ToneReport::Began(received(3, ms(80), true)));
    inserter.handle(&ToneReport::Ended(received(3, ms(80), true), EndReason::Replaced));
    inserter.handle(&began(16));
    inserter.handle(&ended(16, 100));
    let mut samples = vec![0; 8_000];
    inserter.process(&mut samples);
    let digits: String = heard(8_000, &samples).iter().map(|(digit, _)| *digit).collect();
    assert_eq!(digits, "112223");
    assert!(!inserter.is_sounding());
}

#[test]
fn a_tone_whose_end_is_never_reported_ends_with_the_next() {
    let mut inserter = ToneInserter::new(8_000, ToneShape::default()).unwrap();
    let mut samples = vec![0; 8_000];
    inserter.handle(&began(1));
    inserter.process(&mut samples[..2_400]);
    // Another, which ends after the one that goes on: the late one does not end it.
    inserter.handle(&ToneReport::Began(received(9, ms(80), true)));
    inserter.handle(&ToneReport::Ended(received(9, ms(80), true), EndReason::Replaced));
    inserter.process(&mut samples[2_400..4_000]);
    inserter.handle(&began(2));
    inserter.handle(&ended(2, 100));
    inserter.process(&mut samples[4_000..]);
    let heard = heard(8_000, &samples);
    assert!(matches!(heard[..], [('1', 495..506), ('9', 75..86), ('2', 95..106)]), "{heard:?}");
}

#[test]
fn tones_that_wait_without_end_are_counted() {
    let mut inserter = ToneInserter::new(8_000, ToneShape::default()).unwrap();
    for _ in 0..100 {
        inserter.handle(&began(1));
    }
    assert_eq!(inserter.dropped(), 100 - MAX_WAITING as u64);
}

#[test]
fn a_digit_that_goes_from_a_line_to_events_and_back_is_heard_once() {
    for law in [Law::Alaw, Law::Ulaw] {
        let (samples, digits) = line(8_000, 5);
        let mut codes: Vec<u8> = samples.iter().map(|sample| law.encode(*sample)).collect();
        let mut extractor = ToneExtractor::new(8_000, ToneDetectorConfig::default()).unwrap();
        let mut inserter = ToneInserter::new(8_000, ToneShape::default()).unwrap();
        codes.extend([law.encode(0); 32_000]);
        let start = Instant::now();
        for (at, frame) in (1u32..).zip(codes.chunks_mut(160)) {
            extractor.process_g711(start + at * ms(20), law, frame);
            while let Some(report) = extractor.poll_output() {
                inserter.handle(&report);
            }
            inserter.process_g711(law, frame);
        }
        let decoded: Vec<i16> = codes.iter().map(|code| law.decode(*code)).collect();
        let back: String = heard(8_000, &decoded).iter().map(|(digit, _)| *digit).collect();
        assert_eq!(back, digits);
    }
}
