//! What both faces share, and the tasks of the control thread that run it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use ortc_dtmf::{Digit, ReceivedTone, ToneEvent, ToneReport};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::events::{DTMFTrackEvent, RTCDTMFEvent};
use super::sending::Sending;
use super::{DTMFMediaStreamTrack, RTCDTMFHandler};
use crate::hub::{EventHub, ListenerId, Subscription};
use crate::media::{lock, random_id};

/// The keys of one end: those that are pressed here and sent, or those of a peer.
///
/// It is reached from the handles, in any thread, and run by tasks on the control threads of the
/// connections that it belongs to. Handlers are called by those tasks alone.
pub(crate) struct Tones {
    /// What draft B's handler is named by.
    pub(super) id: String,
    pub(super) label: OnceLock<String>,
    /// Of the `DTMFMediaStreamTrack`.
    pub(super) track_id: String,
    /// `None` for those of a peer.
    pub(super) sending: Option<Mutex<Sending>>,
    hubs: Mutex<Hubs>,
    /// Subscriptions that no task has taken yet: a handler that subscribes runs within one.
    pending: Mutex<Pending>,
    pub(super) changed: watch::Sender<()>,
    next_listener: AtomicU64,
}

struct Hubs {
    track: EventHub<DTMFMediaStreamTrack, DTMFTrackEvent>,
    handler: EventHub<RTCDTMFHandler, RTCDTMFEvent>,
}

#[derive(Default)]
struct Pending {
    changes: Vec<Change>,
    /// Whether nothing will ever be told any more.
    closed: bool,
}

/// A subscription on its way to its hub.
pub(super) enum Change {
    Track(Subscription<DTMFMediaStreamTrack, DTMFTrackEvent>),
    Handler(Subscription<RTCDTMFHandler, RTCDTMFEvent>),
}

impl Tones {
    fn new(sending: Option<Mutex<Sending>>, track_id: String) -> Arc<Self> {
        let hubs = Hubs { track: EventHub::new(), handler: EventHub::new() };
        Arc::new(Self {
            id: random_id(),
            label: OnceLock::new(),
            track_id,
            sending,
            hubs: Mutex::new(hubs),
            pending: Mutex::default(),
            changed: watch::Sender::new(()),
            next_listener: AtomicU64::new(0),
        })
    }

    /// Keys to be pressed here.
    pub(crate) fn sending() -> Arc<Self> {
        Self::new(Some(Mutex::default()), random_id())
    }

    /// Keys of a peer, received with the audio track that `label` names.
    pub(crate) fn receiving(label: &str) -> Arc<Self> {
        let tones = Self::new(None, Self::track_id_beside(label));
        tones.set_label(label);
        tones
    }

    /// What the track of the keys is called that come beside a received audio track.
    pub(crate) fn track_id_beside(audio: &str) -> String {
        format!("{audio}-dtmf")
    }

    /// Names the audio track that it belongs to, unless that is known.
    pub(crate) fn set_label(&self, label: &str) {
        // The first one stays: what a handler is called does not change.
        let _ = self.label.set(label.to_owned());
    }

    /// Subscribes; once all is over, a stream of events that is handed in has ended.
    pub(super) fn subscribe(&self, change: Change) {
        let mut pending = lock(&self.pending);
        if !pending.closed {
            pending.changes.push(change);
            self.changed.send_replace(());
        }
    }

    pub(super) fn next_listener(&self) -> ListenerId {
        ListenerId(self.next_listener.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes subscriptions to their hubs.
    pub(super) fn apply_changes(self: &Arc<Self>) {
        let mut hubs = lock(&self.hubs);
        loop {
            // Not locked while handlers run: they may subscribe.
            let changes = std::mem::take(&mut lock(&self.pending).changes);
            if changes.is_empty() {
                return;
            }
            let (track, handler) = (DTMFMediaStreamTrack::of(self), RTCDTMFHandler::of(self));
            for change in changes {
                match change {
                    Change::Track(subscription) => {
                        hubs.track.subscribe(subscription, Some(&track));
                    }
                    Change::Handler(subscription) => {
                        hubs.handler.subscribe(subscription, Some(&handler));
                    }
                }
            }
        }
    }

    /// Sends what is due at `now`, tells of it, and returns when there is more.
    pub(super) fn pump(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        // First, so that two control threads tell of tones in their order.
        let mut hubs = lock(&self.hubs);
        let (events, due) = lock(self.sending.as_ref()?).pump(now);
        let track = DTMFMediaStreamTrack::of(self);
        for event in events {
            match event {
                ToneEvent::Began { digit, at } => {
                    let event = DTMFTrackEvent::ToneStart { digit: digit.to_char(), at };
                    hubs.track.emit(event, Some(&track));
                }
                ToneEvent::Ended { digit, begin, duration, .. } => {
                    let stop = DTMFTrackEvent::ToneStop { digit: digit.to_char(), begin, duration };
                    hubs.track.emit(stop, Some(&track));
                    if let Some(tone) = event.tone() {
                        hubs.track.emit(DTMFTrackEvent::Tone(tone), Some(&track));
                    }
                }
                ToneEvent::QueueEmpty { .. } => {}
            }
        }
        due
    }

    /// Tells what a receiver has recognised; events that are no digits are told to nobody.
    pub(super) fn tell(self: &Arc<Self>, report: &ToneReport) {
        let mut hubs = lock(&self.hubs);
        let track = DTMFMediaStreamTrack::of(self);
        let digit = |tone: &ReceivedTone| tone.digit().map(Digit::to_char);
        match report {
            ToneReport::Began(tone) => {
                let Some(digit) = digit(tone) else { return };
                let start = DTMFTrackEvent::ToneStart { digit, at: tone.begin };
                hubs.track.emit(start, Some(&track));
                let event = RTCDTMFEvent::Dtmf { tone: digit.to_string() };
                hubs.handler.emit(event, Some(&RTCDTMFHandler::of(self)));
            }
            ToneReport::Ended(tone, _) => {
                let (Some(digit), Some(whole)) = (digit(tone), tone.tone()) else { return };
                let (begin, duration) = (tone.begin, tone.duration);
                let stop = DTMFTrackEvent::ToneStop { digit, begin, duration };
                hubs.track.emit(stop, Some(&track));
                hubs.track.emit(DTMFTrackEvent::Tone(whole), Some(&track));
            }
        }
    }

    /// Drops every handler and ends every stream of events.
    pub(super) fn close(&self) {
        let mut hubs = lock(&self.hubs);
        hubs.track.close();
        hubs.handler.close();
        let closed = Pending { changes: Vec::new(), closed: true };
        // A handler may own anything, and is not dropped within the lock.
        let pending = std::mem::replace(&mut *lock(&self.pending), closed);
        drop((hubs, pending));
    }
}

impl fmt::Debug for Tones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.sending.is_some() { "sending" } else { "receiving" };
        f.debug_struct("Tones").field("id", &self.id).field("direction", &direction).finish()
    }
}

/// The tasks that run the tones of one connection; they end with it.
pub(crate) struct ToneTasks {
    /// Whether there is a connection, and what says so: made with the first task.
    is_connected: bool,
    connected: Option<watch::Sender<bool>>,
    tasks: Vec<JoinHandle<()>>,
}

impl ToneTasks {
    pub(crate) fn new() -> Self {
        Self { is_connected: false, connected: None, tasks: Vec::new() }
    }

    /// From now on there is somebody to hear a tone.
    pub(crate) fn connected(&mut self) {
        self.is_connected = true;
        if let Some(connected) = &self.connected {
            connected.send_replace(true);
        }
    }

    /// Runs a task on this thread; it is given what says whether there is a connection.
    pub(crate) fn start<F>(&mut self, task: impl FnOnce(watch::Receiver<bool>) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        self.tasks.retain(|task| !task.is_finished());
        let is_connected = self.is_connected;
        let connected = self.connected.get_or_insert_with(|| watch::Sender::new(is_connected));
        self.tasks.push(actix_rt::spawn(task(connected.subscribe())));
    }

    pub(crate) fn close(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
}

impl Drop for ToneTasks {
    fn drop(&mut self) {
        self.close();
    }
}
