//! Draft A's face.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use ortc_dtmf::{DTMFTone, Digit, PlayError, ToneQueue};

use super::ToneError;
use super::engine::{Change, Tones};
use super::events::{DTMFTrackEvent, DTMFTrackEventKind, DTMFTrackEvents};
use crate::hub::{Events, Handler, ListenerId, Subscription};
use crate::media::{MediaStreamTrack, lock};

/// A track of telephone keys, of kind `dtmf` (ORTC draft A, "DTMFMediaStreamTrack").
///
/// Constructed, it sends: put it into a stream beside an audio track, and add the stream to a
/// connection; its keys go out with that audio. Received, it is one of the tracks of the stream:
/// [`of_track`](Self::of_track). It is a [`MediaStreamTrack`], and is dereferenced to it. Cheap
/// to clone; clones are the same track.
#[derive(Clone)]
pub struct DTMFMediaStreamTrack {
    track: MediaStreamTrack,
    tones: Arc<Tones>,
}

impl DTMFMediaStreamTrack {
    /// Makes a track to send keys with.
    pub fn new() -> Self {
        Self::of(&Tones::sending())
    }

    pub(crate) fn of(tones: &Arc<Tones>) -> Self {
        let track = MediaStreamTrack::tones(tones.track_id.clone(), Arc::clone(tones));
        Self { track, tones: Arc::clone(tones) }
    }

    /// The track of keys that a track is; `None` for sound and pictures.
    pub fn of_track(track: &MediaStreamTrack) -> Option<Self> {
        let tones = Arc::clone(track.tones_of()?);
        Some(Self { track: track.clone(), tones })
    }

    /// Whether it sends keys; else it receives those of a peer.
    pub fn is_sending(&self) -> bool {
        self.tones.sending.is_some()
    }

    /// Plays tones after those that are still to be played (ORTC draft A, "play"): the digits
    /// of a string, a [`DTMFTone`], a sequence of them, or nothing.
    ///
    /// Digits of a string last 100 ms each and are 50 ms apart. Before the track is sent, tones
    /// wait.
    ///
    /// # Errors
    /// When the track is a received one or is not sent any more, or the tones have no duration,
    /// are longer than an hour, or are more than 1,024; then nothing is added.
    pub fn play(&self, tones: impl IntoTones) -> Result<(), ToneError> {
        let tones = tones.into_tones();
        self.command(|queue| queue.play(ortc_io::now(), &tones))
    }

    /// Stops the tone that sounds, and takes back all that is still to be played (ORTC draft A,
    /// "flush").
    ///
    /// # Errors
    /// When the track is a received one, or is not sent any more.
    pub fn flush(&self) -> Result<(), ToneError> {
        self.command(|queue| {
            queue.flush(ortc_io::now());
            Ok(())
        })
    }

    /// Presses a key: its tone starts after all that is still to be played, and sounds until
    /// [`tonestop`](Self::tonestop) (ORTC draft A, "tonestart").
    ///
    /// # Errors
    /// As [`play`](Self::play), and when it is no digit.
    pub fn tonestart(&self, digit: char) -> Result<(), ToneError> {
        self.command(|queue| queue.tonestart(ortc_io::now(), digit))
    }

    /// Releases the key; without one that is held it does nothing (ORTC draft A, "tonestop").
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn tonestop(&self) -> Result<(), ToneError> {
        self.command(|queue| {
            queue.tonestop(ortc_io::now());
            Ok(())
        })
    }

    /// The digit that sounds, of a track that sends.
    pub fn sounding(&self) -> Option<char> {
        lock(self.tones.sending.as_ref()?).queue().sounding().map(Digit::to_char)
    }

    fn command(
        &self,
        command: impl FnOnce(&mut ToneQueue) -> Result<(), PlayError>,
    ) -> Result<(), ToneError> {
        let sending = self.tones.sending.as_ref().ok_or(ToneError::ReceivesOnly)?;
        command(lock(sending).open_queue()?)?;
        self.tones.changed.send_replace(());
        Ok(())
    }

    /// Sets the handler of a tone that starts (ORTC draft A, "ontonestart").
    ///
    /// Replaces the handler that was set before; `None` clears it. The first one hears those
    /// tones as well that came before it. Handlers run on the control thread and must not block.
    pub fn on_tonestart<F>(&self, handler: Option<F>)
    where
        F: FnMut(&Self, char) + Send + 'static,
    {
        self.set_handler(DTMFTrackEventKind::ToneStart, handler, |event| match event {
            DTMFTrackEvent::ToneStart { digit, .. } => Some(digit),
            _ => None,
        });
    }

    /// Sets the handler of a tone that has stopped (ORTC draft A, "ontonestop").
    ///
    /// As [`on_tonestart`](Self::on_tonestart).
    pub fn on_tonestop<F>(&self, handler: Option<F>)
    where
        F: FnMut(&Self, char) + Send + 'static,
    {
        self.set_handler(DTMFTrackEventKind::ToneStop, handler, |event| match event {
            DTMFTrackEvent::ToneStop { digit, .. } => Some(digit),
            _ => None,
        });
    }

    /// Sets the handler of a digit that has been completed, with the duration that it really had
    /// (ORTC draft A, "ontone").
    ///
    /// As [`on_tonestart`](Self::on_tonestart).
    pub fn on_tone<F>(&self, handler: Option<F>)
    where
        F: FnMut(&Self, DTMFTone) + Send + 'static,
    {
        self.set_handler(DTMFTrackEventKind::Tone, handler, |event| match event {
            DTMFTrackEvent::Tone(tone) => Some(tone),
            _ => None,
        });
    }

    fn set_handler<F, A: 'static>(
        &self,
        kind: DTMFTrackEventKind,
        handler: Option<F>,
        argument: impl Fn(DTMFTrackEvent) -> Option<A> + Send + 'static,
    ) where
        F: FnMut(&Self, A) + Send + 'static,
    {
        let handler = handler.map(|mut handler| -> Handler<Self, DTMFTrackEvent> {
            Box::new(move |target, event| {
                if let Some(argument) = argument(event) {
                    handler(target, argument);
                }
            })
        });
        self.tones.subscribe(Change::Track(Subscription::Handler(kind, handler)));
    }

    /// Calls `listener` for every event of tones of a kind, beside all others, until removed.
    pub fn add_tone_listener(
        &self,
        kind: DTMFTrackEventKind,
        listener: impl FnMut(&Self, DTMFTrackEvent) + Send + 'static,
    ) -> ListenerId {
        let id = self.tones.next_listener();
        let subscription = Subscription::Listener(id, kind, Box::new(listener));
        self.tones.subscribe(Change::Track(subscription));
        id
    }

    /// Removes a listener; one that is gone is ignored.
    pub fn remove_tone_listener(&self, id: ListenerId) {
        self.tones.subscribe(Change::Track(Subscription::RemoveListener(id)));
    }

    /// All events of tones from now on as a stream, and those that nobody has heard before. Of a
    /// received track it ends with the connection.
    pub fn tone_events(&self) -> DTMFTrackEvents {
        let (events, inlet) = Events::new();
        self.tones.subscribe(Change::Track(Subscription::Stream(inlet)));
        events
    }
}

impl Default for DTMFMediaStreamTrack {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for DTMFMediaStreamTrack {
    type Target = MediaStreamTrack;

    fn deref(&self) -> &MediaStreamTrack {
        &self.track
    }
}

impl PartialEq for DTMFMediaStreamTrack {
    fn eq(&self, other: &Self) -> bool {
        self.track == other.track
    }
}

impl Eq for DTMFMediaStreamTrack {}

impl fmt::Debug for DTMFMediaStreamTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DTMFMediaStreamTrack")
            .field("id", &self.track.id())
            .field("sends", &self.is_sending())
            .finish()
    }
}

/// What [`DTMFMediaStreamTrack::play`] plays (ORTC draft A, "play").
pub trait IntoTones {
    /// The tones, one after another.
    fn into_tones(self) -> Vec<DTMFTone>;
}

impl IntoTones for &str {
    fn into_tones(self) -> Vec<DTMFTone> {
        vec![DTMFTone::new(self)]
    }
}

impl IntoTones for String {
    fn into_tones(self) -> Vec<DTMFTone> {
        vec![DTMFTone::new(self)]
    }
}

impl IntoTones for DTMFTone {
    fn into_tones(self) -> Vec<DTMFTone> {
        vec![self]
    }
}

impl IntoTones for Vec<DTMFTone> {
    fn into_tones(self) -> Vec<DTMFTone> {
        self
    }
}

impl IntoTones for &[DTMFTone] {
    fn into_tones(self) -> Vec<DTMFTone> {
        self.to_vec()
    }
}

impl<const N: usize> IntoTones for [DTMFTone; N] {
    fn into_tones(self) -> Vec<DTMFTone> {
        self.into()
    }
}

impl<T: IntoTones> IntoTones for Option<T> {
    fn into_tones(self) -> Vec<DTMFTone> {
        self.map_or_else(Vec::new, T::into_tones)
    }
}
