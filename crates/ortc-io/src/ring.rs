//! A bounded queue of media between an application and a media thread.
//!
//! One side pushes, the other pops; neither ever blocks. The consumer is told through a
//! [`std::task::Waker`], once per time it has run dry: an async task awaits
//! [`RingReceiver::recv`], a media thread registers a waker of its own.
//!
//! A ring that was never used has no room yet, and one whose consumer keeps up has little: it
//! is made larger, up to its capacity, when it is full, and only then is memory allocated. A
//! track that is silent, or read in time, would otherwise hold memory for seconds of media.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Items that there is room for at first: 160 ms of audio packets.
const FIRST_SEGMENT: usize = 8;

/// Makes a ring that holds at most `capacity` items.
pub fn ring<T>(capacity: usize) -> (RingSender<T>, RingReceiver<T>) {
    let shared = Arc::new(Shared {
        capacity,
        len: AtomicUsize::new(0),
        first: OnceLock::new(),
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
        consumer: AtomicWaker::new(),
        producer: AtomicWaker::new(),
    });
    let sender = RingSender { shared: Arc::clone(&shared), tail: RefCell::new(None) };
    (sender, RingReceiver { shared, head: None })
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

/// What both ends know.
#[derive(Debug)]
struct Shared<T> {
    capacity: usize,
    /// Never less than what is in the segments: counted before a push and after a pop.
    len: AtomicUsize,
    first: OnceLock<Arc<Segment<T>>>,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
    consumer: AtomicWaker,
    producer: AtomicWaker,
}

/// A queue of fixed size, and the larger one that the producer went on to when it was full.
#[derive(Debug)]
struct Segment<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    size: usize,
    next: OnceLock<Arc<Segment<T>>>,
}

impl<T> Segment<T> {
    fn new(size: usize) -> Arc<Self> {
        let (sender, receiver) = bounded(size);
        Arc::new(Self { sender, receiver, size, next: OnceLock::new() })
    }
}

/// The producing end of a ring.
#[derive(Debug)]
pub struct RingSender<T> {
    shared: Arc<Shared<T>>,
    /// Where is pushed; `None` before the first push.
    tail: RefCell<Option<Arc<Segment<T>>>>,
}

impl<T> RingSender<T> {
    /// Pushes an item and wakes the consumer if it waits.
    ///
    /// # Errors
    /// [`PushError::Full`] and [`PushError::Closed`] hand the item back.
    pub fn push(&self, item: T) -> Result<(), PushError<T>> {
        if self.is_closed() {
            return Err(PushError::Closed(item));
        }
        let shared = &self.shared;
        // Only this end counts up, so there is room from here on.
        if shared.len.load(Ordering::Acquire) >= shared.capacity {
            return Err(PushError::Full(item));
        }
        shared.len.fetch_add(1, Ordering::Relaxed);
        let mut tail = self.tail.borrow_mut();
        let pushed = match &*tail {
            Some(tail) => tail.sender.try_send(item),
            None => Err(TrySendError::Full(item)),
        };
        // Segments keep both of their ends, so that a refusal means that there is no room.
        if let Err(TrySendError::Full(item) | TrySendError::Disconnected(item)) = pushed {
            let full = tail.take();
            let size = full.as_ref().map_or(FIRST_SEGMENT, |full| full.size.saturating_mul(2));
            let segment = Segment::new(size.min(shared.capacity));
            // Empty, so it takes one; before the consumer can come here.
            let _ = segment.sender.try_send(item);
            let link = full.as_ref().map_or(&shared.first, |full| &full.next);
            let _ = link.set(Arc::clone(&segment));
            *tail = Some(segment);
        }
        shared.consumer.wake();
        Ok(())
    }

    /// Pushes an item, waiting for room.
    ///
    /// # Errors
    /// The item, when the consumer is gone.
    pub async fn send(&mut self, item: T) -> Result<(), T> {
        let mut item = Some(item);
        poll_fn(|context| self.poll_send(context, &mut item)).await
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        item: &mut Option<T>,
    ) -> Poll<Result<(), T>> {
        // Registered first: a pop between the push and the registration would be missed.
        self.shared.producer.register(context.waker());
        match self.push(item.take().expect("polled again only while pending")) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(PushError::Closed(back)) => Poll::Ready(Err(back)),
            Err(PushError::Full(back)) => {
                *item = Some(back);
                Poll::Pending
            }
        }
    }

    /// Whether the consumer is gone, so that nothing pushed will ever be taken.
    pub fn is_closed(&self) -> bool {
        self.shared.consumer_gone.load(Ordering::Acquire)
    }

    /// Items waiting for the consumer.
    pub fn len(&self) -> usize {
        self.shared.len.load(Ordering::Acquire)
    }

    /// Whether there is no room for another item.
    pub fn is_full(&self) -> bool {
        self.len() >= self.shared.capacity
    }

    /// Whether the consumer has taken everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for RingSender<T> {
    fn drop(&mut self) {
        self.shared.producer_gone.store(true, Ordering::Release);
        self.shared.consumer.wake();
    }
}

/// The consuming end of a ring.
#[derive(Debug)]
pub struct RingReceiver<T> {
    shared: Arc<Shared<T>>,
    /// Where is popped; `None` before the first pop that found something.
    head: Option<Arc<Segment<T>>>,
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
    /// Items that wait to be taken.
    pub fn len(&self) -> usize {
        self.shared.len.load(Ordering::Acquire)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Popped<T> {
        // Before looking: what was pushed before the producer went is then seen.
        let gone = self.shared.producer_gone.load(Ordering::Acquire);
        match self.take() {
            Some(item) => {
                self.shared.len.fetch_sub(1, Ordering::Release);
                self.shared.producer.wake();
                Popped::Item(item)
            }
            None if gone => Popped::Closed,
            None => Popped::Empty,
        }
    }

    fn take(&mut self) -> Option<T> {
        if self.head.is_none() {
            self.head = self.shared.first.get().cloned();
        }
        loop {
            let head = self.head.as_ref()?;
            if let Ok(item) = head.receiver.try_recv() {
                return Some(item);
            }
            let next = head.next.get()?;
            // Its last push came before there was a next one, and perhaps after our look.
            if let Ok(item) = head.receiver.try_recv() {
                return Some(item);
            }
            self.head = Some(Arc::clone(next));
        }
    }

    /// Has `waker` woken, once, at the next push or when the producer goes.
    ///
    /// Pop until [`Popped::Empty`] *after* registering, or a push in between is missed.
    pub fn register(&self, waker: &Waker) {
        self.shared.consumer.register(waker);
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
        self.shared.consumer_gone.store(true, Ordering::Release);
        while self.take().is_some() {}
        self.shared.producer.wake();
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

    #[test]
    fn a_ring_grows_up_to_its_capacity_and_keeps_the_order() {
        let (sender, mut receiver) = ring(100);
        for n in 0..100 {
            assert_eq!(sender.push(n), Ok(()));
        }
        assert_eq!(sender.push(100), Err(PushError::Full(100)));
        for n in 0..50 {
            assert_eq!(receiver.pop(), Popped::Item(n));
        }
        // What is left is in a smaller segment than the next ones go to.
        for n in 100..150 {
            assert_eq!(sender.push(n), Ok(()));
        }
        assert_eq!(sender.push(150), Err(PushError::Full(150)));
        assert_eq!(sender.len(), 100);
        for n in 50..150 {
            assert_eq!(receiver.pop(), Popped::Item(n));
        }
        assert_eq!((receiver.pop(), sender.is_empty()), (Popped::Empty, true));
    }

    #[test]
    fn a_ring_has_no_room_before_it_is_used() {
        let (sender, receiver) = ring(4096);
        assert!(sender.shared.first.get().is_none());
        sender.push([0_u8; 64]).unwrap();
        assert_eq!(receiver.shared.first.get().unwrap().size, FIRST_SEGMENT);
    }

    #[test]
    fn nothing_is_lost_between_threads_while_it_grows() {
        let (sender, mut receiver) = ring(1000);
        let producer = std::thread::spawn(move || {
            for n in 0..200_000_u32 {
                let mut item = n;
                while let Err(PushError::Full(back)) = sender.push(item) {
                    item = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        loop {
            match receiver.pop() {
                Popped::Item(n) => {
                    assert_eq!(n, expected);
                    expected += 1;
                }
                Popped::Empty => std::thread::yield_now(),
                Popped::Closed => break,
            }
        }
        producer.join().unwrap();
        assert_eq!(expected, 200_000);
    }

    #[test]
    fn what_nobody_takes_is_dropped_with_the_consumer() {
        let (sender, receiver) = ring(4);
        let item = Arc::new(());
        sender.push(Arc::clone(&item)).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&item), 1);
    }
}
