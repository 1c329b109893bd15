use std::time::Duration;

use super::*;
use crate::generator::ToneShape;
use crate::{ToneGenerator, testing::noise};

/// Detections of some sound, in ms: digit, beginning, end.
fn detect(rate: u32, samples: &[i16]) -> Vec<(char, f64, f64)> {
    let mut detector = ToneDetector::new(rate, ToneDetectorConfig::default()).unwrap();
    let mut found = Vec::new();
    for frame in samples.chunks(rate as usize / 50) {
        detector.process(frame);
        while let Some(detection) = detector.poll_output() {
            if let Detection::Ended(tone) = detection {
                let ms = |at: u64| at as f64 / f64::from(rate) * 1_000.0;
                found.push((tone.digit.to_char(), ms(tone.begin), ms(tone.end)));
            }
        }
    }
    found
}

fn digits(rate: u32, samples: &[i16]) -> String {
    detect(rate, samples).iter().map(|(digit, ..)| *digit).collect()
}

/// A tone at 8,000 Hz with its frequencies off by some percent, at two levels in dBm0.
fn off(digit: Digit, (low, high): (f64, f64), (low_db, high_db): (f64, f64), ms: u32) -> Vec<i16> {
    let (f_low, f_high) = digit.frequencies();
    let wave = |at: u32, hz: f64, db: f64| {
        let angle = f64::from(at) / 8_000.0 * hz * std::f64::consts::TAU;
        AMPLITUDE_0_DBM0 * 10f64.powf(db / 20.0) * angle.sin()
    };
    let sample = |at| {
        wave(at, f_low * (1.0 + low / 100.0), low_db)
            + wave(at, f_high * (1.0 + high / 100.0), high_db)
    };
    (0..8 * ms).map(|at| sample(at).round() as i16).collect()
}

/// Tones with silence round each of them.
fn apart(tones: impl IntoIterator<Item = Vec<i16>>) -> Vec<i16> {
    let mut samples = vec![0; 803];
    for tone in tones {
        samples.extend(tone);
        samples.extend([0; 803]);
    }
    samples
}

const ALL: &str = "0123456789*#ABCD";

#[test]
fn every_digit_is_found_at_every_rate_where_it_is() {
    for rate in [8_000, 16_000, 24_000, 32_000, 48_000] {
        let mut generator = ToneGenerator::new(rate, ToneShape::default()).unwrap();
        let gap = vec![0; rate as usize / 20];
        let mut samples = gap.clone();
        for digit in Digit::all() {
            samples.extend(generator.tone(digit, Duration::from_millis(50)));
            samples.extend(&gap);
        }
        samples.extend(&gap);
        let found = detect(rate, &samples);
        assert_eq!(found.iter().map(|(digit, ..)| *digit).collect::<String>(), ALL);
        for (at, (digit, begin, end)) in (0u32..).zip(found) {
            let expected = 50.0 + 100.0 * f64::from(at);
            assert!((begin - expected).abs() < 4.0, "{rate} {digit} began {begin} {expected}");
            assert!((end - expected - 50.0).abs() < 4.0, "{rate} {digit} ended {end} {expected}");
        }
    }
}

#[test]
fn tones_within_one_and_a_half_percent_are_taken_and_beyond_three_and_a_half_are_not() {
    for percent in [(1.5, 1.5), (-1.5, -1.5), (1.5, -1.5), (-1.5, 1.5), (0.0, 1.5), (-1.5, 0.0)] {
        let tones = Digit::all().map(|digit| off(digit, percent, (-10.0, -10.0), 50));
        assert_eq!(digits(8_000, &apart(tones)), ALL, "{percent:?}");
    }
    for percent in [(3.5, 0.0), (-3.5, 0.0), (0.0, 3.5), (0.0, -3.5), (3.5, -3.5), (-3.5, -3.5)] {
        let tones = Digit::all().map(|digit| off(digit, percent, (-10.0, -10.0), 200));
        assert_eq!(digits(8_000, &apart(tones)), "", "{percent:?}");
    }
}

#[test]
fn forty_ms_are_taken_and_twenty_three_are_not_wherever_they_begin() {
    for shift in 0..40 {
        for (ms, expected) in [(40, ALL), (23, "")] {
            let tones = Digit::all().map(|digit| off(digit, (0.0, 0.0), (-10.0, -10.0), ms));
            let mut samples = vec![0; shift];
            samples.extend(apart(tones));
            assert_eq!(digits(8_000, &samples), expected, "{ms} ms, {shift}");
        }
    }
}

#[test]
fn a_pause_of_forty_ms_parts_two_tones_and_a_break_of_ten_does_not() {
    let five = Digit::from_char('5').unwrap();
    for shift in 0..40 {
        for (pause, expected) in [(40, "55"), (10, "5")] {
            let tone = off(five, (0.0, 0.0), (-10.0, -10.0), 50);
            let pause = vec![0; 8 * pause];
            let samples = [&vec![0; 800 + shift][..], &tone, &pause, &tone, &[0; 800]].concat();
            assert_eq!(digits(8_000, &samples), expected, "{} {shift}", pause.len());
        }
    }
}

#[test]
fn levels_and_twist_are_those_of_q24() {
    let taken = [(-3.0, -3.0), (-25.0, -25.0), (-14.0, -10.0), (-10.0, -18.0), (-25.0, -21.0)];
    for levels in taken {
        let tones = Digit::all().map(|digit| off(digit, (0.0, 0.0), levels, 50));
        assert_eq!(digits(8_000, &apart(tones)), ALL, "{levels:?}");
    }
    for levels in [(-29.0, -29.0), (-40.0, -10.0), (-10.0, -40.0), (-20.0, -10.0), (-10.0, -22.0)] {
        let tones = Digit::all().map(|digit| off(digit, (0.0, 0.0), levels, 200));
        assert_eq!(digits(8_000, &apart(tones)), "", "{levels:?}");
    }
}

#[test]
fn level_and_twist_are_reported() {
    let five = Digit::from_char('5').unwrap();
    let mut detector = ToneDetector::new(8_000, ToneDetectorConfig::default()).unwrap();
    detector.process(&apart([off(five, (0.0, 0.0), (-12.0, -9.0), 80)]));
    let Some(Detection::Began(tone)) = detector.poll_output() else { panic!() };
    // -12 and -9 dBm0 are -7.2 together.
    assert!((tone.level_dbm0 + 7.24).abs() < 0.3 && (tone.twist_db - 3.0).abs() < 0.2, "{tone:?}");
}

#[test]
fn tones_in_noise_are_found() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let tones = Digit::all().map(|digit| off(digit, (0.5, -0.5), (-12.0, -10.0), 50));
        let mut samples = apart(tones);
        // 15 dB below the weaker tone.
        noise(&mut rng, -27.0, &mut samples);
        assert_eq!(digits(8_000, &samples), ALL, "seed {seed}");
    }
}

#[test]
fn noise_and_single_tones_are_nothing() {
    let mut rng = fastrand::Rng::with_seed(7);
    for level in [-10.0, -20.0, -30.0] {
        let mut samples = vec![0; 8_000 * 60];
        noise(&mut rng, level, &mut samples);
        assert_eq!(digits(8_000, &samples), "", "{level}");
    }
    let tones = Digit::all().flat_map(|digit| {
        [(-10.0, -90.0), (-90.0, -10.0)].map(|levels| off(digit, (0.0, 0.0), levels, 200))
    });
    assert_eq!(digits(8_000, &apart(tones)), "");
}

#[test]
fn both_laws_of_g711_are_listened_to() {
    for law in [Law::Alaw, Law::Ulaw] {
        for level in [-3.0, -10.0, -25.0] {
            let tones = Digit::all().map(|digit| off(digit, (0.0, 0.0), (level, level), 50));
            let codes: Vec<u8> = apart(tones).iter().map(|sample| law.encode(*sample)).collect();
            let mut detector = ToneDetector::new(8_000, ToneDetectorConfig::default()).unwrap();
            let mut found = String::new();
            for frame in codes.chunks(160) {
                detector.process_g711(law, frame);
                while let Some(detection) = detector.poll_output() {
                    if let Detection::Began(tone) = detection {
                        found.push(tone.digit.to_char());
                    }
                }
            }
            assert_eq!(found, ALL, "{law:?} {level}");
        }
    }
}

#[test]
fn a_tone_is_known_55_ms_after_it_began_and_ended_45_ms_after_it_has() {
    let five = Digit::from_char('5').unwrap();
    for shift in 0..40 {
        let samples =
            [&vec![0; 800 + shift][..], &off(five, (0.0, 0.0), (-10.0, -10.0), 100)].concat();
        let mut detector = ToneDetector::new(8_000, ToneDetectorConfig::default()).unwrap();
        let (mut began, mut ended) = (None, None);
        for (at, sample) in samples.iter().chain(&[0; 800]).enumerate() {
            detector.process(&[*sample]);
            match detector.poll_output() {
                Some(Detection::Began(_)) => began = Some(at - 800 - shift),
                Some(Detection::Ended(_)) => ended = Some(at - samples.len()),
                None => {}
            }
        }
        assert!(began.is_some_and(|samples| samples < 8 * 55), "{began:?}");
        assert!(ended.is_some_and(|samples| samples < 8 * 45), "{ended:?}");
    }
}

#[test]
fn detections_that_nobody_polls_are_counted() {
    let five = Digit::from_char('5').unwrap();
    let tone = off(five, (0.0, 0.0), (-10.0, -10.0), 50);
    let mut detector = ToneDetector::new(8_000, ToneDetectorConfig::default()).unwrap();
    detector.process(&apart(std::iter::repeat_n(tone, 40)));
    assert_eq!(detector.dropped(), 2 * 40 - MAX_OUTPUT as u64);
}
