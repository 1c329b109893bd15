//! The detector beside speech: it is no tone, and tones after it and within it are still found.

use std::time::{Duration, Instant};

use ortc_dtmf::{
    Detection, Digit, Law, ToneDetector, ToneDetectorConfig, ToneExtractor, ToneGenerator,
    ToneShape,
};

/// 24 s of the speech that is nearest to tones, as codes of µ-law.
fn speech() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/talk.wav");
    let file = std::fs::read(path).unwrap();
    let data = file.windows(4).position(|part| part == b"data").unwrap();
    let codes = file[data + 8..].to_vec();
    assert_eq!(codes.len(), 24 * 8_000);
    codes
}

fn samples() -> Vec<i16> {
    speech().iter().map(|code| Law::Ulaw.decode(*code)).collect()
}

fn heard(rate: u32, samples: &[i16]) -> String {
    let mut detector = ToneDetector::new(rate, ToneDetectorConfig::default()).unwrap();
    let mut heard = String::new();
    for frame in samples.chunks(rate as usize / 50) {
        detector.process(frame);
        while let Some(detection) = detector.poll_output() {
            if let Detection::Began(tone) = detection {
                heard.push(tone.digit.to_char());
            }
        }
    }
    heard
}

/// Louder by some dB, clipped where it has to be.
fn louder(samples: &[i16], db: f64) -> Vec<i16> {
    let gain = 10f64.powf(db / 20.0);
    // A cast of a float saturates.
    samples.iter().map(|sample| (f64::from(*sample) * gain).round() as i16).collect()
}

#[test]
fn speech_has_no_digits_at_any_level() {
    for db in [-20.0, -12.0, -6.0, 0.0, 6.0] {
        assert_eq!(heard(8_000, &louder(&samples(), db)), "", "{db} dB");
    }
}

#[test]
fn speech_has_no_digits_at_any_pitch() {
    // Played at other speeds, the same harmonics sweep over all the frequencies.
    let speech = samples();
    for percent in (60..160).step_by(2) {
        let at = |at: usize| {
            let place = at as f64 * f64::from(percent) / 100.0;
            let (whole, part) = (place as usize, place.fract());
            let [a, b] = [speech[whole], speech[whole + 1]].map(f64::from);
            (a + (b - a) * part) as i16
        };
        let len = (speech.len() - 2) * 100 / percent as usize;
        let samples: Vec<i16> = (0..len).map(at).collect();
        assert_eq!(heard(8_000, &samples), "", "at {percent} % of its speed");
    }
}

#[test]
fn speech_at_48_khz_has_no_digits() {
    let samples: Vec<i16> = samples().iter().flat_map(|sample| [*sample; 6]).collect();
    assert_eq!(heard(48_000, &samples), "");
}

#[test]
fn tones_between_words_are_found() {
    let mut speech = samples();
    let mut generator = ToneGenerator::new(8_000, ToneShape::default()).unwrap();
    for (at, digit) in Digit::all().enumerate() {
        let tone = generator.tone(digit, Duration::from_millis(80));
        let from = 8_000 + at * 11_000;
        speech[from..from + tone.len()].copy_from_slice(&tone);
    }
    assert_eq!(heard(8_000, &speech), "0123456789*#ABCD");
}

#[test]
fn speech_passes_an_extractor_untouched_but_late() {
    let speech = speech();
    let mut through = speech.clone();
    let mut extractor = ToneExtractor::new(8_000, ToneDetectorConfig::default()).unwrap();
    for frame in through.chunks_mut(160) {
        extractor.process_g711(Instant::now(), Law::Ulaw, frame);
    }
    assert_eq!(extractor.poll_output(), None);
    let delay = extractor.delay().as_millis() as usize * 8;
    // Zero has two codes.
    let decoded =
        |codes: &[u8]| codes.iter().map(|code| Law::Ulaw.decode(*code)).collect::<Vec<_>>();
    assert_eq!(decoded(&through[delay..]), decoded(&speech[..speech.len() - delay]));
}
