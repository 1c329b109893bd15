//! Streams and tracks: what is sent, and what has been received.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ortc_rtp::{DisconnectReason, RTCTrackDescription, RtpCommand, Ssrc, TrackKind, TrackSource};

use crate::connection::{Command, Inner};
use crate::described::Described;
use crate::dtmf::Tones;
use crate::events::{MediaEvent, MediaEventKind, MediaEvents};
use crate::format::MediaFormat;
use crate::hub::{Events, Handler, ListenerId, Subscription};
use crate::reader::FrameReceiver;
use crate::simulcast::LocalEncoding;
use crate::source::{FrameSender, Source};

/// Locks a mutex whose data is valid at every moment, also after a panic elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A set of tracks that belong together (Media Capture and Streams, as extended by the drafts).
///
/// Cheap to clone; clones are the same stream.
#[derive(Clone)]
pub struct MediaStream {
    inner: Arc<StreamInner>,
}

struct StreamInner {
    id: String,
    tracks: Mutex<Vec<MediaStreamTrack>>,
    /// Of a received stream: the connection, which has its listeners.
    connection: Weak<Inner>,
}

impl MediaStream {
    /// Makes an empty local stream with a random id.
    pub fn new() -> Self {
        Self::remote(random_id(), Weak::new())
    }

    /// A stream that a connection receives.
    pub(crate) fn remote(id: String, connection: Weak<Inner>) -> Self {
        let tracks = Mutex::new(Vec::new());
        Self { inner: Arc::new(StreamInner { id, tracks, connection }) }
    }

    /// The id: what the drafts call `msid`.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Adds a clone of `track` and returns that clone (ORTC drafts, "addTrack").
    ///
    /// The clone has an id of its own and carries the same frames.
    #[doc(alias = "addTrack")]
    pub fn add_track(&self, track: &MediaStreamTrack) -> MediaStreamTrack {
        let clone = track.duplicate();
        lock(&self.inner.tracks).push(clone.clone());
        clone
    }

    /// Adds a received track as it is: it belongs to this stream by its description.
    pub(crate) fn join(&self, track: &MediaStreamTrack) {
        let mut tracks = lock(&self.inner.tracks);
        tracks.reserve_exact(1);
        tracks.push(track.clone());
    }

    pub(crate) fn leave(&self, track: &MediaStreamTrack) {
        // With the telephone keys that came beside it.
        let keys = Tones::track_id_beside(track.id());
        let is_keys = |other: &MediaStreamTrack| other.tones_of().is_some() && other.id() == keys;
        lock(&self.inner.tracks).retain(|other| other != track && !is_keys(other));
    }

    /// The tracks, in the order in which they were added.
    pub fn tracks(&self) -> Vec<MediaStreamTrack> {
        lock(&self.inner.tracks).clone()
    }
}

impl Default for MediaStream {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for MediaStream {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for MediaStream {}

impl fmt::Debug for MediaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStream")
            .field("id", &self.inner.id)
            .field("tracks", &self.tracks())
            .finish()
    }
}

/// One source of sound or pictures: local, fed by a [`FrameSender`], or received, read by a
/// [`FrameReceiver`].
///
/// Cheap to clone; clones made by [`Clone`] are the same track.
#[derive(Clone)]
pub struct MediaStreamTrack {
    inner: Arc<TrackInner>,
}

struct TrackInner {
    id: String,
    kind: TrackKind,
    origin: Origin,
}

#[derive(Clone)]
enum Origin {
    Local(Arc<Source>),
    /// Several encodings of the same pictures, from the least to the best.
    Simulcast(Arc<[LocalEncoding]>),
    Remote(Arc<Reception>),
    /// Telephone keys, of either direction.
    Tones(Arc<Tones>),
}

/// What a received track is fed by, and the connection, which has its listeners.
pub(crate) struct Reception {
    pub(crate) source: TrackSource,
    /// As the peer describes it.
    pub(crate) described: Arc<Described>,
    /// Whether telephone keys are received with it.
    has_tones: AtomicBool,
    frames: Mutex<Option<FrameReceiver>>,
    connection: Weak<Inner>,
}

impl Reception {
    /// The connection that receives it, while somebody holds it.
    pub(crate) fn connection(&self) -> Option<Arc<Inner>> {
        self.connection.upgrade()
    }

    /// How it is described now, but only with the codecs that are supported.
    pub(crate) fn description(&self) -> Arc<RTCTrackDescription> {
        self.described.newest()
    }

    pub(crate) fn has_tones(&self) -> bool {
        self.has_tones.load(Ordering::Relaxed)
    }

    pub(crate) fn set_has_tones(&self) {
        self.has_tones.store(true, Ordering::Relaxed);
    }
}

impl MediaStreamTrack {
    /// Makes a local track and the end to feed it by.
    pub fn local(format: MediaFormat) -> (Self, FrameSender) {
        let source = Source::new(format);
        let origin = Origin::Local(Arc::clone(&source));
        let inner = TrackInner { id: random_id(), kind: format.kind(), origin };
        (Self { inner: Arc::new(inner) }, FrameSender::new(source))
    }

    /// Makes a local track in several encodings, and the end to feed it by of each: in the order
    /// given, whatever that is. See [`simulcast`](Self::simulcast).
    pub(crate) fn of_encodings(encodings: Vec<LocalEncoding>, kind: TrackKind) -> Self {
        let origin = Origin::Simulcast(encodings.into());
        Self { inner: Arc::new(TrackInner { id: random_id(), kind, origin }) }
    }

    /// The encodings of a local track, from the least to the best; none where it has but one.
    pub(crate) fn local_encodings(&self) -> &[LocalEncoding] {
        match &self.inner.origin {
            Origin::Simulcast(encodings) => encodings,
            Origin::Local(_) | Origin::Remote(_) | Origin::Tones(_) => &[],
        }
    }

    pub(crate) fn remote(
        described: Arc<Described>,
        source: TrackSource,
        frames: FrameReceiver,
        connection: Weak<Inner>,
    ) -> Self {
        let description = described.newest();
        let id = format!("{}-{}", description.msid.join("+"), description.ssrc);
        let (kind, frames) = (description.kind, Mutex::new(Some(frames)));
        let has_tones = AtomicBool::new(false);
        let reception = Reception { source, described, has_tones, frames, connection };
        let origin = Origin::Remote(Arc::new(reception));
        Self { inner: Arc::new(TrackInner { id, kind, origin }) }
    }

    /// A track of telephone keys.
    pub(crate) fn tones(id: String, tones: Arc<Tones>) -> Self {
        let origin = Origin::Tones(tones);
        Self { inner: Arc::new(TrackInner { id, kind: TrackKind::Dtmf, origin }) }
    }

    /// The telephone keys that it carries.
    pub(crate) fn tones_of(&self) -> Option<&Arc<Tones>> {
        match &self.inner.origin {
            Origin::Tones(tones) => Some(tones),
            Origin::Local(_) | Origin::Simulcast(_) | Origin::Remote(_) => None,
        }
    }

    /// The id: random for a local track, made of stream and SSRC for a received one.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Audio, video or dtmf.
    pub fn kind(&self) -> TrackKind {
        self.inner.kind
    }

    /// What a local track carries; `None` for a received one.
    pub fn format(&self) -> Option<MediaFormat> {
        match &self.inner.origin {
            Origin::Local(_) | Origin::Simulcast(_) => Some(self.local_source()?.format),
            Origin::Remote(_) | Origin::Tones(_) => None,
        }
    }

    /// Width and height in pixels of a local track's pictures, as its source has said.
    pub fn dimensions(&self) -> Option<(u32, u32)> {
        match &self.inner.origin {
            Origin::Local(_) | Origin::Simulcast(_) => self.local_source()?.dimensions(),
            Origin::Remote(_) | Origin::Tones(_) => None,
        }
    }

    /// Takes the frames of a received track. One reader only: `None` the second time, and for
    /// a local track.
    ///
    /// Until it is taken, the first packets wait here (512 of audio, 2,048 of video) and later
    /// ones are dropped, counted.
    pub fn take_frames(&self) -> Option<FrameReceiver> {
        match &self.inner.origin {
            Origin::Local(_) | Origin::Simulcast(_) | Origin::Tones(_) => None,
            Origin::Remote(reception) => lock(&reception.frames).take(),
        }
    }

    /// Asks the peer for a key frame of a received track (RFC 4585 §6.3.1): at once, or half a
    /// second after the last one that anybody asked for. Of a local track nothing is asked.
    pub fn request_key_frame(&self) {
        if let Some(reception) = self.reception()
            && let Some(connection) = reception.connection()
        {
            // A connection that is closed or overloaded has no picture to mend.
            let ssrc = reception.source.ssrc;
            let _ = connection.send(Command::Rtp(RtpCommand::RequestKeyFrame(ssrc)));
        }
    }

    /// Where a received track comes from; `None` for a local one.
    pub(crate) fn reception(&self) -> Option<&Reception> {
        match &self.inner.origin {
            Origin::Local(_) | Origin::Simulcast(_) | Origin::Tones(_) => None,
            Origin::Remote(reception) => Some(reception),
        }
    }

    /// The SSRC of a received track.
    pub(crate) fn received_ssrc(&self) -> Option<Ssrc> {
        self.reception().map(|reception| reception.source.ssrc)
    }

    /// Where the frames of a local track are handed out, of its best encoding where it has several;
    /// `None` for a received one.
    pub(crate) fn local_source(&self) -> Option<&Source> {
        match &self.inner.origin {
            Origin::Remote(_) | Origin::Tones(_) => None,
            Origin::Local(source) => Some(source),
            Origin::Simulcast(encodings) => encodings.last().map(|it| &*it.source),
        }
    }

    /// The same, of a track that has but one encoding.
    pub(crate) fn own_source(&self) -> Option<&Arc<Source>> {
        match &self.inner.origin {
            Origin::Local(source) => Some(source),
            Origin::Simulcast(_) | Origin::Remote(_) | Origin::Tones(_) => None,
        }
    }

    fn duplicate(&self) -> Self {
        let TrackInner { kind, origin, .. } = &*self.inner;
        Self {
            inner: Arc::new(TrackInner { id: random_id(), kind: *kind, origin: origin.clone() }),
        }
    }
}

impl PartialEq for MediaStreamTrack {
    fn eq(&self, other: &Self) -> bool {
        let same_tones = match (self.tones_of(), other.tones_of()) {
            (Some(one), Some(other_one)) => Arc::ptr_eq(one, other_one) && self.id() == other.id(),
            _ => false,
        };
        same_tones || Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for MediaStreamTrack {}

impl fmt::Debug for MediaStreamTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStreamTrack")
            .field("id", &self.inner.id)
            .field("kind", &self.inner.kind)
            .field("format", &self.format())
            .finish()
    }
}

/// Defines the events of a received stream or track; a local one never has any.
macro_rules! media_events {
    ($target:ident, $command:ident, $noun:literal, |$this:ident| $connection:expr) => {
        impl $target {
            #[doc = concat!("Sets the handler of RTP of this ", $noun, " coming in (ORTC drafts, \"onconnected\").")]
            ///
            /// Replaces the handler that was set before; `None` clears it. Handlers run on the
            /// control thread and must not block.
            pub fn on_connected<F>(&self, handler: Option<F>)
            where
                F: FnMut(&Self) + Send + 'static,
            {
                let handler = handler.map(|mut handler| -> Handler<Self, MediaEvent> {
                    Box::new(move |target, _| handler(target))
                });
                self.subscribe(Subscription::Handler(MediaEventKind::Connected, handler));
            }

            #[doc = concat!("Sets the handler of this ", $noun, " having ended (ORTC drafts, \"ondisconnected\").")]
            ///
            /// As [`on_connected`](Self::on_connected).
            pub fn on_disconnected<F>(&self, handler: Option<F>)
            where
                F: FnMut(&Self, DisconnectReason) + Send + 'static,
            {
                let handler = handler.map(|mut handler| -> Handler<Self, MediaEvent> {
                    Box::new(move |target, event| {
                        if let MediaEvent::Disconnected(reason) = event {
                            handler(target, reason);
                        }
                    })
                });
                self.subscribe(Subscription::Handler(MediaEventKind::Disconnected, handler));
            }

            /// Calls `listener` for every event of a kind, beside all others, until removed.
            #[doc(alias = "addEventListener")]
            pub fn add_event_listener(
                &self,
                kind: MediaEventKind,
                listener: impl FnMut(&Self, MediaEvent) + Send + 'static,
            ) -> ListenerId {
                let id = self.connection().map_or(ListenerId(0), |inner| inner.next_listener());
                self.subscribe(Subscription::Listener(id, kind, Box::new(listener)));
                id
            }

            /// Removes a listener; one that is gone is ignored.
            #[doc(alias = "removeEventListener")]
            pub fn remove_event_listener(&self, id: ListenerId) {
                self.subscribe(Subscription::RemoveListener(id));
            }

            /// All events from now on as a stream, and those that nobody has heard before. Of
            /// what is local, or a clone made by [`MediaStream::add_track`], it has already
            /// ended.
            pub fn events(&self) -> MediaEvents {
                let (events, inlet) = Events::new();
                self.subscribe(Subscription::Stream(inlet));
                events
            }

            fn connection(&self) -> Option<Arc<Inner>> {
                let $this = self;
                $connection
            }

            fn subscribe(&self, subscription: Subscription<Self, MediaEvent>) {
                if let Some(inner) = self.connection() {
                    // On a closed connection there is nothing to hear.
                    let _ = inner.send(Command::$command(self.clone(), subscription));
                }
            }
        }
    };
}

media_events!(MediaStream, SubscribeStream, "stream", |stream| stream.inner.connection.upgrade());
media_events!(MediaStreamTrack, SubscribeTrack, "track", |track| match &track.inner.origin {
    Origin::Local(_) | Origin::Simulcast(_) | Origin::Tones(_) => None,
    Origin::Remote(reception) => reception.connection.upgrade(),
});

/// A random identifier of 16 hexadecimal digits: for what is named, not for what is secret.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 8];
    // Without randomness an id is still unique within the process.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        bytes = COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    }
    format!("{:016x}", u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::MediaFrame;
    use crate::reader::tests::received_opus;
    use bytes::Bytes;
    use ortc_io::ring::Popped;

    #[test]
    fn an_added_track_is_a_clone_that_carries_the_same_frames() {
        let (track, frames) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        let clone = stream.add_track(&track);
        assert_ne!(clone, track);
        assert_ne!(clone.id(), track.id());
        assert_eq!(stream.tracks(), std::slice::from_ref(&clone));
        let mut outlet = clone.local_source().unwrap().open(&Arc::default());
        frames.send(MediaFrame { data: Bytes::from_static(b"x"), timestamp: 960 }).unwrap();
        let Popped::Item(packet) = outlet.pop() else { panic!("no packet") };
        assert_eq!((packet.timestamp, &packet.payload[..]), (960, &b"x"[..]));
    }

    #[test]
    fn a_received_track_has_one_reader() {
        let track = received_opus(1);
        assert!(track.take_frames().is_some());
        assert!(track.take_frames().is_none());
        assert!(track.local_source().is_none());
    }
}
