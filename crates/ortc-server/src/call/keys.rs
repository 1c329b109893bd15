//! Telephone keys in a call: those that are pressed, and those that come.

use std::time::Duration;

use ortc_api::{DTMFTrackEvent, DTMFTrackEvents, RTCDTMFHandler, ToneError};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Keys of the other peer that wait to be noted.
const MAX_WAITING: usize = 64;

/// Keys that a summary has; they come from the network.
const MAX_KEYS: usize = 10_000;

/// What the end of a tone takes on the wire: it is said three times, 20 ms apart.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A key that the other peer has pressed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReceivedKey {
    /// One of `0` to `9`, `A` to `D`, `*` and `#`.
    pub digit: char,
    /// When it was pressed, after connecting.
    pub began_seconds: f64,
    /// How long it was held.
    pub duration_seconds: f64,
}

/// Keys that are pressed once connected.
#[derive(Debug)]
pub(crate) struct Pressing {
    events: DTMFTrackEvents,
    left: usize,
    over_at: Option<Instant>,
}

impl Pressing {
    /// Has `tones` pressed as soon as there is somebody to hear them.
    pub(crate) fn begin(handler: &RTCDTMFHandler, tones: &str) -> Result<Self, ToneError> {
        let events = handler.track().tone_events();
        handler.insert_dtmf(tones, None, None)?;
        let left = handler.tone_buffer().chars().filter(|tone| *tone != ',').count();
        Ok(Self { events, left, over_at: None })
    }

    /// Waits for the next key to have been pressed; `None` once all have, for the first time.
    pub(crate) async fn next(&mut self) -> Option<char> {
        while self.left > 0 {
            match self.events.recv().await {
                Some(DTMFTrackEvent::ToneStop { digit, .. }) => {
                    self.left -= 1;
                    return Some(digit);
                }
                Some(_) => {}
                None => break,
            }
        }
        // Whoever waits may look at something else in between.
        let over_at = *self.over_at.get_or_insert_with(|| Instant::now() + LAST_WORDS);
        sleep_until(over_at).await;
        None
    }
}

/// A key as it has been heard.
#[derive(Debug)]
pub(crate) struct Heard {
    digit: char,
    began: std::time::Instant,
    lasted: Duration,
}

/// Keys of the other peer, of all its tracks.
#[derive(Debug)]
pub(crate) struct Listening {
    heard: mpsc::Receiver<Heard>,
    sender: mpsc::Sender<Heard>,
    keys: Vec<Heard>,
}

impl Listening {
    pub(crate) fn new() -> Self {
        let (sender, heard) = mpsc::channel(MAX_WAITING);
        Self { heard, sender, keys: Vec::new() }
    }

    /// Listens to one more track of the other peer, until it or this ends.
    pub(crate) fn listen(&self, handler: &RTCDTMFHandler) {
        let (sender, mut events) = (self.sender.clone(), handler.track().tone_events());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let DTMFTrackEvent::ToneStop { digit, begin, duration } = event {
                    let heard = Heard { digit, began: begin, lasted: duration };
                    if sender.send(heard).await.is_err() {
                        return;
                    }
                }
            }
        });
    }

    /// Waits for the next key of the other peer.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// Notes a key; returns which.
    pub(crate) fn note(&mut self, heard: Heard) -> char {
        let digit = heard.digit;
        if self.keys.len() < MAX_KEYS {
            self.keys.push(heard);
        }
        digit
    }

    /// All keys that have come, reckoned from when the call was connected.
    pub(crate) fn summed_up(mut self, connected: Option<Instant>) -> Vec<ReceivedKey> {
        while let Ok(heard) = self.heard.try_recv() {
            self.note(heard);
        }
        let since = |began: std::time::Instant| {
            let connected = connected.map(Instant::into_std);
            connected.map_or(Duration::ZERO, |at| began.saturating_duration_since(at))
        };
        let key = |heard: Heard| ReceivedKey {
            digit: heard.digit,
            began_seconds: since(heard.began).as_secs_f64(),
            duration_seconds: heard.lasted.as_secs_f64(),
        };
        self.keys.into_iter().map(key).collect()
    }
}
