use std::time::Duration;

use crate::Digit;

/// Draft B's default duration of a tone (§4.2.2.1).
pub(crate) const DEFAULT_DURATION: Duration = Duration::from_millis(100);
/// Draft B's default gap, which is its smallest as well (§4.2.2.1).
pub(crate) const DEFAULT_GAP: Duration = Duration::from_millis(50);

/// Digits that are to be played, or one that has been (ORTC draft A "DTMFTone").
///
/// As an argument of [`play`](crate::ToneQueue::play), `digits` may be several, and may have
/// what [`insert_dtmf`](crate::ToneQueue::insert_dtmf) takes. The default is no digit, with
/// draft B's 100 ms and 50 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DTMFTone {
    /// The digit or digits.
    pub digits: String,
    /// How long each sounds: to be more than nothing, and at most an hour.
    pub duration: Duration,
    /// The silence after each, at most an hour.
    pub inter_tone_gap: Duration,
}

impl DTMFTone {
    /// Digits with the default duration and gap.
    pub fn new(digits: impl Into<String>) -> Self {
        Self { digits: digits.into(), ..Self::default() }
    }
}

impl Default for DTMFTone {
    fn default() -> Self {
        Self { digits: String::new(), duration: DEFAULT_DURATION, inter_tone_gap: DEFAULT_GAP }
    }
}

/// One thing in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Tone { digit: Digit, duration: Duration, gap: Duration },
    Pause,
}

impl Item {
    /// Reads `tones` character by character; what is no tone and no `,` is left out
    /// (draft B §4.2.2.1).
    pub(crate) fn read(
        tones: &str,
        duration: Duration,
        gap: Duration,
    ) -> impl Iterator<Item = Self> {
        tones.chars().filter_map(move |c| match c {
            ',' => Some(Self::Pause),
            c => Digit::from_char(c).map(|digit| Self::Tone { digit, duration, gap }),
        })
    }

    pub(crate) fn to_char(self) -> char {
        match self {
            Self::Tone { digit, .. } => digit.to_char(),
            Self::Pause => ',',
        }
    }
}
