use std::time::{Duration, Instant};

use ortc_dtmf::DTMFTone;

use crate::hub::{Event, Events};

/// Events that wait for a reader or a first handler: an hour of dialling. What is over is lost,
/// the oldest first.
const MAX_WAITING: usize = 1_024;

/// One event of a [`DTMFMediaStreamTrack`](crate::DTMFMediaStreamTrack): each comes when the tone
/// is sent, or has been received.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DTMFTrackEvent {
    /// A tone has started (ORTC draft A, "ontonestart").
    ToneStart {
        /// Which.
        digit: char,
        /// When.
        at: Instant,
    },
    /// A tone has stopped (ORTC draft A, "ontonestop").
    ToneStop {
        /// Which.
        digit: char,
        /// When it had started.
        begin: Instant,
        /// How long it has sounded.
        duration: Duration,
    },
    /// One digit has been completed, with the duration that it really had (ORTC draft A,
    /// "ontone"). A tone that [`flush`](crate::DTMFMediaStreamTrack::flush) cut has none.
    Tone(DTMFTone),
}

/// The kind of a [`DTMFTrackEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DTMFTrackEventKind {
    /// [`DTMFTrackEvent::ToneStart`].
    ToneStart,
    /// [`DTMFTrackEvent::ToneStop`].
    ToneStop,
    /// [`DTMFTrackEvent::Tone`].
    Tone,
}

impl Event for DTMFTrackEvent {
    type Kind = DTMFTrackEventKind;
    const LIMIT: usize = MAX_WAITING;

    fn kind(&self) -> DTMFTrackEventKind {
        match self {
            Self::ToneStart { .. } => DTMFTrackEventKind::ToneStart,
            Self::ToneStop { .. } => DTMFTrackEventKind::ToneStop,
            Self::Tone(_) => DTMFTrackEventKind::Tone,
        }
    }

    fn is_state(&self) -> bool {
        false
    }
}

/// The events of a [`DTMFMediaStreamTrack`](crate::DTMFMediaStreamTrack).
pub type DTMFTrackEvents = Events<DTMFTrackEvent>;

/// One event of a receiving [`RTCDTMFHandler`](crate::RTCDTMFHandler).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RTCDTMFEvent {
    /// The peer has pressed a key (ORTC draft B, "ondtmf"); comes when its tone begins.
    Dtmf {
        /// One of `0` to `9`, `A` to `D`, `#` and `*`.
        tone: String,
    },
}

/// The kind of an [`RTCDTMFEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RTCDTMFEventKind {
    /// [`RTCDTMFEvent::Dtmf`].
    Dtmf,
}

impl Event for RTCDTMFEvent {
    type Kind = RTCDTMFEventKind;
    const LIMIT: usize = MAX_WAITING;

    fn kind(&self) -> RTCDTMFEventKind {
        match self {
            Self::Dtmf { .. } => RTCDTMFEventKind::Dtmf,
        }
    }

    fn is_state(&self) -> bool {
        false
    }
}

/// The events of an [`RTCDTMFHandler`](crate::RTCDTMFHandler).
pub type RTCDTMFEvents = Events<RTCDTMFEvent>;
