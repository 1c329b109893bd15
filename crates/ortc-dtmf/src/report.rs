use std::time::{Duration, Instant};

use crate::{DTMFTone, Digit};

/// A tone that a [`ToneReceiver`](crate::ToneReceiver) or a gateway has recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedTone {
    /// The event code: 0 to 15 are the digits.
    pub event: u8,
    /// When it began, as far as can be told from what has arrived.
    pub begin: Instant,
    /// How long it has lasted so far, or in all once it has ended.
    pub duration: Duration,
    /// Its level: dBm0 without the sign.
    pub volume: u8,
    /// What it was recognised by.
    pub source: ToneSource,
    /// One that began after it has been reported before it.
    pub is_late: bool,
}

impl ReceivedTone {
    /// The digit; `None` for events that are none, such as 16, a flash.
    pub fn digit(&self) -> Option<Digit> {
        Digit::from_event(self.event)
    }

    /// What draft A's event `tone` tells of it: its digit and its duration, and no gap, which
    /// nobody knows yet. `None` for events that are no digits.
    pub fn tone(&self) -> Option<DTMFTone> {
        let digits = self.digit()?.to_string();
        Some(DTMFTone { digits, duration: self.duration, inter_tone_gap: Duration::ZERO })
    }

    /// When it ended, or the moment that is known of it so far.
    pub fn end(&self) -> Instant {
        self.begin + self.duration
    }
}

/// What a tone was recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToneSource {
    /// Packets of RFC 4733.
    TelephoneEvent,
    /// The sound itself.
    InBand,
}

/// How it was noticed that a tone has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The peer said so, or the sound fell silent.
    Ended,
    /// Nothing more has arrived of it for a while.
    TimedOut,
    /// Another tone has begun.
    Replaced,
}

/// What is reported of a tone: once that it began, once that it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToneReport {
    /// It has begun.
    Began(ReceivedTone),
    /// It has ended.
    Ended(ReceivedTone, EndReason),
}
