//! Any sound: tones begin and end in turn, and what is muted is silent.

use std::time::{Duration, Instant};

use ortc_dtmf::{Law, ToneDetectorConfig, ToneExtractor, ToneInserter, ToneReport, ToneShape};

use crate::Dice;

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let law = if dice.byte() & 1 == 0 { Law::Alaw } else { Law::Ulaw };
    let mut extractor =
        ToneExtractor::new(8_000, ToneDetectorConfig::default()).expect("a known rate");
    let mut inserter = ToneInserter::new(8_000, ToneShape::default()).expect("a known rate");
    let start = Instant::now();
    let mut sounding = None;
    let repeats = usize::from(dice.byte() & 0x0f) + 1;
    let frame = usize::from(dice.byte()).max(1);
    // Sound that repeats is likelier to be a tone than sound that does not.
    let sound = dice.rest().repeat(repeats);
    for (n, codes) in sound.chunks(frame).enumerate() {
        let now = start + Duration::from_millis(20 * n as u64);
        let mut codes = codes.to_vec();
        extractor.process_g711(now, law, &mut codes);
        while let Some(report) = extractor.poll_output() {
            match report {
                ToneReport::Began(tone) => assert_eq!(sounding.replace(tone.event), None),
                ToneReport::Ended(tone, _) => assert_eq!(sounding.take(), Some(tone.event)),
            }
            inserter.handle(&report);
        }
        inserter.process_g711(law, &mut codes);
    }
}
