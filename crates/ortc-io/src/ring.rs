//! A bounded queue of media between an application and a media thread.
//!
//! One side pushes, the other pops; neither ever blocks or allocates. The consumer is told
//! through a [`std::task::Waker`], once per time it has run dry: an async task awaits
//! [`RingReceiver::recv`], a media thread registers a waker of its own.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

/// Makes a ring that holds at most `capacity` items.
pub fn ring<T>(capacity: usize) -> (RingSender<T>, RingReceiver<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(capacity);
    let consumer = Arc::new(AtomicWaker::new());
    let producer = Arc::new(AtomicWaker::new());
    (
        RingSender {
            sender: Some(sender),
            consumer: Arc::clone(&consumer),
            producer: Arc::clone(&producer),
        },
        RingReceiver { receiver: Some(receiver), consumer, producer },
    )
}

/// Why an item was not pushed; it is handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError<T> {
    /// The consumer has not kept up.
    #[error("the ring is full")]
    Full(T),
    /// The consumer is gone.
    #[error("the consumer of the ring is gone")]
    Closed(T),
}

/// The producing end of a ring.
#[derive(Debug)]
pub struct RingSender<T> {
    /// `None` only while being dropped, so that the consumer is woken after the hang-up.
    sender: Option<Sender<T>>,
    consumer: Arc<AtomicWaker>,
    producer: Arc<AtomicWaker>,
}

impl<T> RingSender<T> {
    /// Pushes an item and wakes the consumer if it waits.
    ///
    /// # Errors
    /// [`PushError::Full`] and [`PushError::Closed`] hand the item back.
    pub fn push(&self, item: T) -> Result<(), PushError<T>> {
        let Some(sender) = &self.sender else {
            return Err(PushError::Closed(item));
        };
        match sender.try_send(item) {
            Ok(()) => {
                self.consumer.wake();
                Ok(())
            }
            Err(TrySendError::Full(item)) => Err(PushError::Full(item)),
            Err(TrySendError::Disconnected(item)) => Err(PushError::Closed(item)),
        }
    }

    /// Pushes an item, waiting for room.
    ///
    /// # Errors
    /// The item, when the consumer is gone.
    pub async fn send(&mut self, item: T) -> Result<(), T> {
        let mut item = Some(item);
        poll_fn(|context| {
            // Registered first: a pop between the push and the registration would be missed.
            self.producer.register(context.waker());
            match self.push(item.take().expect("polled again only while pending")) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(PushError::Closed(back)) => Poll::Ready(Err(back)),
                Err(PushError::Full(back)) => {
                    item = Some(back);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Whether the consumer is gone, so that nothing pushed will ever be taken.
    pub fn is_closed(&self) -> bool {
        // Each end holds one reference, and nobody else.
        Arc::strong_count(&self.consumer) == 1
    }

    /// Items waiting for the consumer.
    pub fn len(&self) -> usize {
        self.sender.as_ref().map_or(0, Sender::len)
    }

    /// Whether there is no room for another item.
    pub fn is_full(&self) -> bool {
        self.sender.as_ref().is_none_or(Sender::is_full)
    }

    /// Whether the consumer has taken everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for RingSender<T> {
    fn drop(&mut self) {
        self.sender = None;
        self.consumer.wake();
    }
}

/// The consuming end of a ring.
#[derive(Debug)]
pub struct RingReceiver<T> {
    /// `None` only while being dropped, so that the producer is woken after the hang-up.
    receiver: Option<Receiver<T>>,
    consumer: Arc<AtomicWaker>,
    producer: Arc<AtomicWaker>,
}

/// What [`RingReceiver::pop`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Popped<T> {
    /// The oldest item.
    Item(T),
    /// Nothing now.
    Empty,
    /// Nothing any more: the producer is gone.
    Closed,
}

impl<T> Popped<T> {
    /// Changes an item that was found.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Popped<U> {
        match self {
            Self::Item(item) => Popped::Item(change(item)),
            Self::Empty => Popped::Empty,
            Self::Closed => Popped::Closed,
        }
    }
}

impl<T> RingReceiver<T> {
    /// Takes the oldest item.
    pub fn pop(&mut self) -> Popped<T> {
        let Some(receiver) = &self.receiver else {
            return Popped::Closed;
        };
        match receiver.try_recv() {
            Ok(item) => {
                self.producer.wake();
                Popped::Item(item)
            }
            Err(TryRecvError::Empty) => Popped::Empty,
            Err(TryRecvError::Disconnected) => Popped::Closed,
        }
    }

    /// Has `waker` woken, once, at the next push or when the producer goes.
    ///
    /// Pop until [`Popped::Empty`] *after* registering, or a push in between is missed.
    pub fn register(&self, waker: &Waker) {
        self.consumer.register(waker);
    }

    /// Polls for the oldest item; `None` when the producer is gone.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.register(context.waker());
        match self.pop() {
            Popped::Item(item) => Poll::Ready(Some(item)),
            Popped::Closed => Poll::Ready(None),
            Popped::Empty => Poll::Pending,
        }
    }

    /// Waits for the oldest item; `None` when the producer is gone and the ring is empty.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_recv(context)).await
    }
}

impl<T> Drop for RingReceiver<T> {
    fn drop(&mut self) {
        self.receiver = None;
        self.producer.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_full_ring_hands_the_item_back() {
        let (sender, mut receiver) = ring(1);
        assert_eq!(sender.push(1), Ok(()));
        assert_eq!(sender.push(2), Err(PushError::Full(2)));
        assert_eq!(receiver.pop(), Popped::Item(1));
        assert_eq!(receiver.pop(), Popped::Empty);
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.push(3), Err(PushError::Closed(3)));
    }

    #[test]
    fn the_consumer_is_woken_once_per_registration() {
        let (sender, receiver) = ring(4);
        let count = Arc::new(Count::default());
        receiver.register(&Waker::from(Arc::clone(&count)));
        sender.push(1).unwrap();
        sender.push(2).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_gone_producer_wakes_the_consumer_after_the_hang_up() {
        let (sender, mut receiver) = ring::<u8>(1);
        let count = Arc::new(Count::default());
        receiver.register(&Waker::from(Arc::clone(&count)));
        drop(sender);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(receiver.pop(), Popped::Closed);
    }

    #[tokio::test]
    async fn send_waits_for_room() {
        let (mut sender, mut receiver) = ring(1);
        let producer = tokio::spawn(async move {
            for n in 0..100 {
                sender.send(n).await.unwrap();
            }
        });
        let mut got = Vec::new();
        while let Some(n) = receiver.recv().await {
            got.push(n);
        }
        producer.await.unwrap();
        assert_eq!(got, (0..100).collect::<Vec<_>>());
    }
}
