//! Tones into sound and back: how many a detector misses and mistakes, by noise.
//!
//! With a file of speech, 16 bits at 8,000 Hz without a header, it counts what the detector takes
//! for tones in it: `cargo run --release -p ortc-dtmf --example detector_figures -- FILE...`

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::error::Error;
use std::time::{Duration, Instant};

use ortc_dtmf::{Detection, Digit, Law, ToneDetector, ToneDetectorConfig};

/// Amplitude of 0 dBm0 in 16 bits.
const FULL: f64 = 22_826.0;

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        println!("1000 tones a row: 40 to 100 ms, each frequency off by up to 1.5 %, the");
        println!(
            "stronger at -16 to -3 dBm0, a twist of -8 to +4 dB, in A-law; noise is below the"
        );
        println!("weaker\n");
        println!("| noise | missed | wrong |\n|---|---|---|");
        for noise in [None, Some(24.0), Some(20.0), Some(15.0), Some(12.0), Some(9.0)] {
            let (missed, wrong) = random_tones(noise)?;
            let name = noise.map_or("none".into(), |db| format!("-{db} dB"));
            println!("| {name} | {missed} | {wrong} |");
        }
    }
    let (mut hits, mut seconds, mut busy) = (0, 0.0, Duration::ZERO);
    for file in &files {
        let samples: Vec<i16> = std::fs::read(file)
            .map_err(|error| format!("{file}: {error}"))?
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        let begun = Instant::now();
        hits += digits(&samples)?.len();
        busy += begun.elapsed();
        seconds += samples.len() as f64 / 8_000.0;
    }
    if !files.is_empty() {
        let ns = busy.as_secs_f64() * 1e9 / (seconds * 50.0);
        println!("{hits} hits in {:.1} minutes; {ns:.0} ns for 20 ms", seconds / 60.0);
    }
    Ok(())
}

/// How many of a thousand random tones are missed, and how many others are found.
fn random_tones(noise: Option<f64>) -> Result<(usize, usize), Box<dyn Error>> {
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut missed, mut wrong) = (0, 0);
    for _ in 0..1_000 {
        let digit = Digit::from_event(rng.u8(..16)).expect("there are sixteen");
        let mut samples = vec![0.0; 800 + rng.usize(..40)];
        // The stronger frequency; the weaker is above -25 dBm0, as Q.24 has it.
        let level = -16.0 + 13.0 * rng.f64();
        let twist = -8.0 + 12.0 * rng.f64();
        let (low, high) = (level - twist.max(0.0), level + twist.min(0.0));
        let (f_low, f_high) = digit.frequencies();
        let mut wave = |hz: f64, dbm0: f64| {
            let hz = hz * (1.0 + 0.015 * (2.0 * rng.f64() - 1.0));
            let (turn, amplitude) = (rng.f64(), FULL * 10f64.powf(dbm0 / 20.0));
            move |at: usize| {
                amplitude * ((at as f64 / 8_000.0 * hz + turn) * std::f64::consts::TAU).sin()
            }
        };
        let (low_wave, high_wave) = (wave(f_low, low), wave(f_high, high));
        let len = 8 * rng.usize(40..=100);
        samples.extend((0..len).map(|at| low_wave(at) + high_wave(at)));
        samples.resize(samples.len() + 800, 0.0);
        let deviation = noise.map_or(0.0, |db| {
            FULL * 10f64.powf((low.min(high) - db) / 20.0) / std::f64::consts::SQRT_2
        });
        let sound: Vec<i16> = samples
            .iter()
            .map(|sample| {
                let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
                Law::Alaw.decode(Law::Alaw.encode((sample + normal * deviation) as i16))
            })
            .collect();
        let found = digits(&sound)?;
        let right = found.iter().filter(|other| **other == digit).count();
        missed += usize::from(right == 0);
        wrong += found.len() - right.min(1);
    }
    Ok((missed, wrong))
}

fn digits(samples: &[i16]) -> Result<Vec<Digit>, Box<dyn Error>> {
    let mut detector = ToneDetector::new(8_000, ToneDetectorConfig::default())?;
    let mut digits = Vec::new();
    for frame in samples.chunks(160) {
        detector.process(frame);
        while let Some(detection) = detector.poll_output() {
            if let Detection::Began(tone) = detection {
                digits.push(tone.digit);
            }
        }
    }
    Ok(digits)
}
