//! Draft B's face.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ortc_dtmf::Digit;

use super::engine::{Change, Tones};
use super::events::{RTCDTMFEvent, RTCDTMFEventKind, RTCDTMFEvents};
use super::{DTMFMediaStreamTrack, SendsOnly, ToneError};
use crate::hub::{Events, Handler, ListenerId, Subscription};
use crate::media::{MediaStream, MediaStreamTrack, lock};

/// Sends telephone keys with an audio track, or receives those of a peer (ORTC draft B §4).
///
/// A sending one comes from [`add_dtmf_handler`](crate::RTCConnection::add_dtmf_handler), a
/// receiving one with [`RTCEvent::AddDtmfHandler`](crate::RTCEvent::AddDtmfHandler). Cheap to
/// clone; clones are the same handler.
#[derive(Clone)]
pub struct RTCDTMFHandler {
    pub(super) tones: Arc<Tones>,
}

impl RTCDTMFHandler {
    pub(crate) fn of(tones: &Arc<Tones>) -> Self {
        Self { tones: Arc::clone(tones) }
    }

    /// A random name of its own.
    pub fn id(&self) -> &str {
        &self.tones.id
    }

    /// The name of its audio track: the track's id.
    pub fn label(&self) -> &str {
        self.tones.label.get().map_or("", String::as_str)
    }

    /// Draft A's face of the same keys: it tells when tones start and stop.
    pub fn track(&self) -> DTMFMediaStreamTrack {
        DTMFMediaStreamTrack::of(&self.tones)
    }

    /// What is still to be played, without the tone that sounds (ORTC draft B §4.2); of a
    /// receiving one nothing.
    #[doc(alias = "toneBuffer")]
    pub fn tone_buffer(&self) -> String {
        let sending = self.tones.sending.as_ref();
        sending.map_or_else(String::new, |sending| lock(sending).queue().tone_buffer())
    }

    /// The digit that sounds, of a sending one.
    pub fn sounding(&self) -> Option<char> {
        lock(self.tones.sending.as_ref()?).queue().sounding().map(Digit::to_char)
    }

    /// How long each tone lasts, as the newest [`insert_dtmf`](Self::insert_dtmf) has it;
    /// 100 ms before.
    pub fn duration(&self) -> Duration {
        let sending = self.tones.sending.as_ref();
        sending.map_or(Duration::from_millis(100), |sending| lock(sending).queue().duration())
    }

    /// The silence between tones, as the newest [`insert_dtmf`](Self::insert_dtmf) has it;
    /// 50 ms before.
    #[doc(alias = "interToneGap")]
    pub fn inter_tone_gap(&self) -> Duration {
        let sending = self.tones.sending.as_ref();
        sending.map_or(Duration::from_millis(50), |sending| lock(sending).queue().inter_tone_gap())
    }

    /// Plays these tones in place of those that are still to be played (ORTC draft B
    /// §4.2.2.1); `""` cancels those.
    ///
    /// `0` to `9`, `A` to `D`, `a` to `d`, `#` and `*` are tones, `,` is a pause of 2 s, other
    /// characters are left out. A tone lasts 100 ms unless told, 70 to 6,000 ms; the gap between
    /// them is 50 ms unless told, and no less. The tone that sounds goes on to its end. Until the
    /// connection is connected tones wait.
    ///
    /// # Errors
    /// When it is a receiving handler, the track is not sent any more, or a limit is not kept;
    /// then nothing has changed.
    #[doc(alias = "insertDTMF")]
    pub fn insert_dtmf(
        &self,
        tones: &str,
        duration: Option<Duration>,
        inter_tone_gap: Option<Duration>,
    ) -> Result<(), ToneError> {
        let sending = self.tones.sending.as_ref().ok_or(ToneError::ReceivesOnly)?;
        lock(sending).open_queue()?.insert_dtmf(ortc_io::now(), tones, duration, inter_tone_gap)?;
        self.tones.changed.send_replace(());
        Ok(())
    }

    /// Sets the handler of keys that the peer presses (ORTC draft B §4.2.1 "ondtmf").
    ///
    /// Replaces the handler that was set before; `None` clears it. The first one hears those
    /// keys as well that came before it. Handlers run on the control thread and must not block.
    ///
    /// # Errors
    /// When it is a sending handler.
    pub fn on_dtmf<F>(&self, handler: Option<F>) -> Result<(), SendsOnly>
    where
        F: FnMut(&Self, String) + Send + 'static,
    {
        if self.tones.sending.is_some() {
            return Err(SendsOnly);
        }
        let handler = handler.map(|mut handler| -> Handler<Self, RTCDTMFEvent> {
            Box::new(move |target, event| {
                let RTCDTMFEvent::Dtmf { tone } = event;
                handler(target, tone);
            })
        });
        let kind = RTCDTMFEventKind::Dtmf;
        self.tones.subscribe(Change::Handler(Subscription::Handler(kind, handler)));
        Ok(())
    }

    /// Calls `listener` for every event of a kind, beside all others, until removed; a sending
    /// one has none.
    #[doc(alias = "addEventListener")]
    pub fn add_event_listener(
        &self,
        kind: RTCDTMFEventKind,
        listener: impl FnMut(&Self, RTCDTMFEvent) + Send + 'static,
    ) -> ListenerId {
        let id = self.tones.next_listener();
        let subscription = Subscription::Listener(id, kind, Box::new(listener));
        self.tones.subscribe(Change::Handler(subscription));
        id
    }

    /// Removes a listener; one that is gone is ignored.
    #[doc(alias = "removeEventListener")]
    pub fn remove_event_listener(&self, id: ListenerId) {
        self.tones.subscribe(Change::Handler(Subscription::RemoveListener(id)));
    }

    /// All events from now on as a stream, and those that nobody has heard before. It ends with
    /// the connection.
    pub fn events(&self) -> RTCDTMFEvents {
        let (events, inlet) = Events::new();
        self.tones.subscribe(Change::Handler(Subscription::Stream(inlet)));
        events
    }
}

impl PartialEq for RTCDTMFHandler {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tones, &other.tones)
    }
}

impl Eq for RTCDTMFHandler {}

impl fmt::Debug for RTCDTMFHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RTCDTMFHandler")
            .field("id", &self.id())
            .field("label", &self.label())
            .field("sends", &self.tones.sending.is_some())
            .finish()
    }
}

/// What says which audio track
/// [`add_dtmf_handler`](crate::RTCConnection::add_dtmf_handler) is for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DtmfContainer {
    /// The first audio track of this stream.
    Stream(MediaStream),
    /// This track.
    Track(MediaStreamTrack),
}

impl From<&MediaStream> for DtmfContainer {
    fn from(stream: &MediaStream) -> Self {
        Self::Stream(stream.clone())
    }
}

impl From<&MediaStreamTrack> for DtmfContainer {
    fn from(track: &MediaStreamTrack) -> Self {
        Self::Track(track.clone())
    }
}
