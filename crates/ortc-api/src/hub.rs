//! Who hears an event: handlers, listeners and streams, for every kind of event target.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::task::AtomicWaker;

use crate::media::lock;

/// An event of some target.
pub trait Event: Clone + Send + 'static {
    /// The kinds of events there are.
    type Kind: Copy + Eq + std::fmt::Debug + Send + 'static;

    /// How many wait for a reader at the most; then the oldest is dropped. Only events that a
    /// peer can cause at will need one.
    const LIMIT: usize = usize::MAX;

    /// The kind of this event.
    fn kind(&self) -> Self::Kind;

    /// Whether a newer event of this kind makes this one pointless.
    fn is_state(&self) -> bool;

    /// How many of this kind wait for a reader at the most; then the oldest of them is dropped.
    fn kept(&self) -> usize {
        usize::MAX
    }

    /// The event of this kind, if its kind is all that it says: then no more than that is kept.
    fn of_kind(_kind: Self::Kind) -> Option<Self> {
        None
    }
}

/// A handler of events. It runs on the control thread: it must not block.
pub(crate) type Handler<T, E> = Box<dyn FnMut(&T, E) + Send>;

/// Names a listener of an `add_event_listener` method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) u64);

/// An event that waits: every connection keeps those that it has no handler for, for as long as it
/// lives, and one with two candidates in it is some 300 bytes.
#[derive(Debug)]
enum Waiting<E: Event> {
    Kind(E::Kind),
    Whole(Box<E>),
}

impl<E: Event> Waiting<E> {
    fn new(event: E) -> Self {
        match E::of_kind(event.kind()) {
            Some(_) => Self::Kind(event.kind()),
            None => Self::Whole(Box::new(event)),
        }
    }

    fn kind(&self) -> E::Kind {
        match self {
            Self::Kind(kind) => *kind,
            Self::Whole(event) => event.kind(),
        }
    }

    fn into_event(self) -> Option<E> {
        match self {
            Self::Kind(kind) => E::of_kind(kind),
            Self::Whole(event) => Some(*event),
        }
    }
}

/// Events that wait for a reader.
///
/// Bounded by state: of candidates and streams there is one event each, and of every state
/// event only the latest is kept, at its place in the order. Other kinds have a limit.
#[derive(Debug)]
struct Backlog<E: Event>(VecDeque<Waiting<E>>);

impl<E: Event> Default for Backlog<E> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<E: Event> Backlog<E> {
    fn push(&mut self, event: E) {
        let kind = event.kind();
        if event.is_state() {
            self.0.retain(|waiting| waiting.kind() != kind);
        }
        if self.0.len() >= E::LIMIT {
            self.0.pop_front();
        }
        let is_same = |waiting: &Waiting<E>| waiting.kind() == kind;
        if event.kept() < self.0.len()
            && self.0.iter().filter(|waiting| is_same(waiting)).count() >= event.kept()
            && let Some(oldest) = self.0.iter().position(is_same)
        {
            self.0.remove(oldest);
        }
        // Few and long-lived.
        self.0.reserve_exact(1);
        self.0.push_back(Waiting::new(event));
    }

    fn pop(&mut self) -> Option<E> {
        self.0.pop_front().and_then(Waiting::into_event)
    }

    fn drain(self) -> impl Iterator<Item = E> {
        self.0.into_iter().filter_map(Waiting::into_event)
    }

    /// Keeps those of which `is_it` does not hold.
    fn retract(&mut self, is_it: impl Fn(&E) -> bool) {
        self.0.retain(|waiting| match waiting {
            Waiting::Kind(kind) => !E::of_kind(*kind).is_some_and(|event| is_it(&event)),
            Waiting::Whole(event) => !is_it(event),
        });
    }

    /// Takes out the events of a kind, in their order.
    fn take(&mut self, kind: E::Kind) -> Self {
        let kept = std::mem::take(&mut self.0);
        let (now, later): (VecDeque<_>, VecDeque<_>) =
            kept.into_iter().partition(|event| event.kind() == kind);
        self.0 = later;
        self.0.shrink_to_fit();
        Self(now)
    }
}

/// Hands the events of one target of type `T` to whoever listens. Lives in an actor.
///
/// What happens before anybody can have subscribed is kept twice: for the first stream, and
/// by kind for the first handler or listener. An application that uses both sets them one
/// after the other, and what happens in between is not to be lost on the second.
pub(crate) struct EventHub<T, E: Event> {
    /// Events of kinds that no handler or listener has been set for so far.
    unhandled: Backlog<E>,
    /// All events, until the first stream has subscribed.
    unstreamed: Option<Backlog<E>>,
    handlers: Vec<(E::Kind, Handler<T, E>)>,
    /// Kinds that have had a handler or a listener: their events are not kept any more.
    handled: Vec<E::Kind>,
    listeners: Vec<(ListenerId, E::Kind, Handler<T, E>)>,
    streams: Vec<Inlet<E>>,
}

/// How an application subscribes.
pub(crate) enum Subscription<T, E: Event> {
    /// `on_x(handler)`: replaces; `None` clears.
    Handler(E::Kind, Option<Handler<T, E>>),
    /// `add_event_listener`.
    Listener(ListenerId, E::Kind, Handler<T, E>),
    /// `remove_event_listener`.
    RemoveListener(ListenerId),
    /// `events()`.
    Stream(Inlet<E>),
}

impl<T, E: Event> EventHub<T, E> {
    pub(crate) fn new() -> Self {
        Self {
            unhandled: Backlog::default(),
            unstreamed: Some(Backlog::default()),
            handlers: Vec::new(),
            handled: Vec::new(),
            listeners: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Subscribes, and hands over what has been kept. `target` is `None` once every handle of
    /// it is gone: then nobody is left to care.
    pub(crate) fn subscribe(&mut self, subscription: Subscription<T, E>, target: Option<&T>) {
        match subscription {
            Subscription::Handler(kind, handler) => {
                self.handlers.retain(|(other, _)| *other != kind);
                if let Some(handler) = handler {
                    self.handlers.push((kind, handler));
                    self.release(kind, target);
                }
            }
            Subscription::Listener(id, kind, handler) => {
                self.listeners.push((id, kind, handler));
                self.release(kind, target);
            }
            Subscription::RemoveListener(id) => self.listeners.retain(|(other, ..)| *other != id),
            Subscription::Stream(inlet) => {
                // Without this, whoever subscribes often while nothing happens would pile up.
                self.streams.retain(Inlet::is_read);
                if !inlet.is_read() {
                    return;
                }
                for event in self.unstreamed.take().unwrap_or_default().drain() {
                    inlet.push(event);
                }
                self.streams.push(inlet);
            }
        }
    }

    /// Hands what was kept of a kind to its first handler or listener.
    fn release(&mut self, kind: E::Kind, target: Option<&T>) {
        for event in self.unhandled.take(kind).drain() {
            self.call(event, target);
        }
        if !self.handled.contains(&kind) {
            self.handled.push(kind);
        }
    }

    /// Hands out an event, or keeps it for those who are the first to ask for it.
    pub(crate) fn emit(&mut self, event: E, target: Option<&T>) {
        match &mut self.unstreamed {
            Some(backlog) => backlog.push(event.clone()),
            None => self.streams.retain(|stream| stream.push(event.clone())),
        }
        if self.handled.contains(&event.kind()) {
            self.call(event, target);
        } else {
            self.unhandled.push(event);
        }
    }

    /// Tells the streams alone, as the last event that there is: no handler is called, so it may be
    /// said while a panic unwinds.
    pub(crate) fn last_words(&mut self, event: &E) {
        self.streams.retain(|stream| stream.push(event.clone()));
    }

    /// Takes events back from those who have not heard them yet: they are not true any more.
    pub(crate) fn retract(&mut self, is_it: impl Fn(&E) -> bool) {
        self.unhandled.retract(&is_it);
        if let Some(backlog) = &mut self.unstreamed {
            backlog.retract(&is_it);
        }
        for queue in self.streams.iter().filter_map(|stream| stream.0.upgrade()) {
            lock(&queue.state).waiting.retract(&is_it);
        }
    }

    fn call(&mut self, event: E, target: Option<&T>) {
        let Some(target) = target else { return };
        for (kind, handler) in &mut self.handlers {
            if *kind == event.kind() {
                handler(target, event.clone());
            }
        }
        for (_, kind, handler) in &mut self.listeners {
            if *kind == event.kind() {
                handler(target, event.clone());
            }
        }
    }

    /// Drops every handler and ends every stream.
    pub(crate) fn close(&mut self) {
        self.handlers.clear();
        self.listeners.clear();
        self.streams.clear();
    }
}

/// The writing end of an [`Events`], which ends with it: also where it never got into a hub,
/// because the connection was gone by then.
pub(crate) struct Inlet<E: Event>(Weak<Queue<E>>);

impl<E: Event> Inlet<E> {
    fn is_read(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Hands an event over; whether there is a reader.
    fn push(&self, event: E) -> bool {
        self.0.upgrade().map(|queue| queue.push(event)).is_some()
    }
}

impl<E: Event> Drop for Inlet<E> {
    fn drop(&mut self) {
        if let Some(queue) = self.0.upgrade() {
            queue.close();
        }
    }
}

/// The events of one [`Events`] that have not been read.
#[derive(Debug)]
pub(crate) struct Queue<E: Event> {
    state: Mutex<QueueState<E>>,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct QueueState<E: Event> {
    waiting: Backlog<E>,
    closed: bool,
}

impl<E: Event> Queue<E> {
    fn push(&self, event: E) {
        lock(&self.state).waiting.push(event);
        self.waker.wake();
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.waker.wake();
    }
}

/// The events of a target as a [`Stream`]; it ends when the connection is closed.
///
/// A reader that falls behind misses no candidate and no stream; of states it sees the latest.
#[derive(Debug)]
pub struct Events<E: Event> {
    queue: Arc<Queue<E>>,
}

impl<E: Event> Events<E> {
    pub(crate) fn new() -> (Self, Inlet<E>) {
        let state = QueueState { waiting: Backlog::default(), closed: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), waker: AtomicWaker::new() });
        let inlet = Inlet(Arc::downgrade(&queue));
        (Self { queue }, inlet)
    }

    /// Waits for the next event; `None` when the connection is closed.
    pub async fn recv(&mut self) -> Option<E> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<E>> {
        self.queue.waker.register(context.waker());
        let mut state = lock(&self.queue.state);
        match state.waiting.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.waiting.0.shrink_to_fit();
                Poll::Pending
            }
        }
    }
}

impl<E: Event> Stream for Events<E> {
    type Item = E;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<E>> {
        self.poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    use crate::connection::RTCConnection;
    use crate::events::{MediaEvent, MediaEventKind, RTCDisconnectReason, RTCEvent};
    use crate::media::MediaStream;

    type Hub = EventHub<RTCConnection, RTCEvent>;

    fn drain(events: &Events<RTCEvent>) -> Vec<RTCEvent> {
        std::mem::take(&mut lock(&events.queue.state).waiting).drain().collect()
    }

    fn stream(hub: &mut Hub) -> Events<RTCEvent> {
        let (events, inlet) = Events::new();
        hub.subscribe(Subscription::Stream(inlet), None);
        events
    }

    const LOST: RTCEvent = RTCEvent::Disconnected(RTCDisconnectReason::PathLost);

    #[test]
    fn events_before_the_first_subscriber_are_kept_in_order() {
        let mut hub = Hub::new();
        hub.emit(RTCEvent::EndOfCandidates, None);
        hub.emit(RTCEvent::Connected, None);
        let events = stream(&mut hub);
        assert_eq!(drain(&events), [RTCEvent::EndOfCandidates, RTCEvent::Connected]);
        let second = stream(&mut hub);
        assert_eq!(drain(&second), []);
    }

    #[test]
    fn what_a_stream_has_heard_is_still_kept_for_the_first_handler() {
        let mut hub = EventHub::<(), MediaEvent>::new();
        let (mut events, inlet) = Events::new();
        hub.subscribe(Subscription::Stream(inlet), Some(&()));
        hub.emit(MediaEvent::Connected, Some(&()));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let by_handler = |name| {
            let heard = Arc::clone(&heard);
            let handler: Handler<(), MediaEvent> =
                Box::new(move |(), event| lock(&heard).push((name, event)));
            handler
        };
        let kind = MediaEventKind::Connected;
        hub.subscribe(Subscription::Handler(kind, Some(by_handler("first"))), Some(&()));
        let late = Subscription::Listener(ListenerId(0), kind, by_handler("late"));
        hub.subscribe(late, Some(&()));
        assert_eq!(*lock(&heard), [("first", MediaEvent::Connected)]);
        assert_eq!(lock(&events.queue.state).waiting.pop(), Some(MediaEvent::Connected));
        assert!(events.recv().now_or_never().is_none());
    }

    #[test]
    fn what_is_taken_back_is_heard_by_nobody() {
        let mut hub = Hub::new();
        hub.emit(RTCEvent::EndOfCandidates, None);
        hub.retract(|event| *event == RTCEvent::EndOfCandidates);
        let events = stream(&mut hub);
        assert_eq!(drain(&events), []);
        hub.emit(RTCEvent::EndOfCandidates, None);
        hub.emit(LOST, None);
        hub.retract(|event| *event == RTCEvent::EndOfCandidates);
        assert_eq!(drain(&events), [LOST]);
        assert_eq!(hub.unhandled.drain().collect::<Vec<_>>(), [LOST]);
    }

    #[test]
    fn state_events_coalesce_to_the_latest_at_its_place() {
        let mut hub = Hub::new();
        let events = stream(&mut hub);
        for _ in 0..1000 {
            hub.emit(RTCEvent::Connected, None);
            hub.emit(LOST, None);
        }
        hub.emit(RTCEvent::Connected, None);
        assert_eq!(drain(&events), [LOST, RTCEvent::Connected]);
    }

    #[test]
    fn streams_are_never_coalesced() {
        let mut hub = Hub::new();
        let events = stream(&mut hub);
        let (a, b) = (MediaStream::new(), MediaStream::new());
        hub.emit(RTCEvent::AddStream(a.clone()), None);
        hub.emit(RTCEvent::AddStream(b.clone()), None);
        assert_eq!(drain(&events), [RTCEvent::AddStream(a), RTCEvent::AddStream(b)]);
    }

    #[tokio::test]
    async fn a_closed_hub_ends_its_streams_after_the_last_event() {
        let mut hub = Hub::new();
        let mut events = stream(&mut hub);
        hub.emit(LOST, None);
        drop(hub);
        assert_eq!(events.recv().await, Some(LOST));
        assert_eq!(events.recv().await, None);
    }

    #[test]
    fn last_words_are_for_streams_alone() {
        let mut hub = EventHub::<(), MediaEvent>::new();
        let (events, inlet) = Events::new();
        hub.subscribe(Subscription::Stream(inlet), Some(&()));
        let handler: Handler<(), MediaEvent> = Box::new(|(), _| panic!("it may be what panicked"));
        let kind = MediaEventKind::Connected;
        hub.subscribe(Subscription::Handler(kind, Some(handler)), Some(&()));
        hub.last_words(&MediaEvent::Connected);
        let waiting = lock(&events.queue.state).waiting.0.pop_front();
        assert_eq!(waiting.and_then(Waiting::into_event), Some(MediaEvent::Connected));
    }

    #[tokio::test]
    async fn a_subscription_that_nobody_took_ends_its_stream() {
        let (mut events, inlet) = Events::<RTCEvent>::new();
        drop(Subscription::<RTCConnection, _>::Stream(inlet));
        assert_eq!(events.recv().now_or_never(), Some(None));
    }
}
