use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use ortc_io::ConnectionId;

use crate::handle::Wakeup;

/// The connections whose applications have pushed packets.
///
/// Each stands in it at most once, so it is bounded by the connections there are. Should
/// generations that are gone have filled it, one flag stands for all that did not fit.
#[derive(Debug)]
pub(crate) struct ReadyList {
    sender: Sender<ConnectionId>,
    receiver: Receiver<ConnectionId>,
    overflow: Arc<AtomicBool>,
    wakeup: Arc<Wakeup>,
}

impl ReadyList {
    pub(crate) fn new(capacity: usize, wakeup: Arc<Wakeup>) -> Self {
        let (sender, receiver) = bounded(capacity);
        Self { sender, receiver, overflow: Arc::default(), wakeup }
    }

    /// Makes the mark of one connection.
    pub(crate) fn mark(&self, connection: ConnectionId) -> Arc<ReadyMark> {
        Arc::new(ReadyMark {
            connection,
            marked: AtomicBool::new(false),
            sender: self.sender.clone(),
            overflow: Arc::clone(&self.overflow),
            wakeup: Arc::clone(&self.wakeup),
        })
    }

    pub(crate) fn pop(&self) -> Option<ConnectionId> {
        self.receiver.try_recv().ok()
    }

    /// How many stand in it now.
    pub(crate) fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether some did not fit since this was last asked: look at all connections.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflow.swap(false, Ordering::AcqRel)
    }
}

/// Puts one connection on the ready list; it is the waker of its senders' rings.
#[derive(Debug)]
pub(crate) struct ReadyMark {
    connection: ConnectionId,
    marked: AtomicBool,
    sender: Sender<ConnectionId>,
    overflow: Arc<AtomicBool>,
    wakeup: Arc<Wakeup>,
}

impl ReadyMark {
    /// Called before the rings are drained: what is pushed from now on marks again.
    pub(crate) fn clear(&self) {
        self.marked.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn set(&self) {
        if self.marked.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(self.connection) {
            self.overflow.store(true, Ordering::Release);
        }
        self.wakeup.notify();
    }
}

impl Wake for ReadyMark {
    fn wake(self: Arc<Self>) {
        self.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Waker;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 0 }
    }

    #[test]
    fn a_connection_stands_in_it_once_and_wakes_the_thread_once_a_turn() {
        let count = Arc::new(Count::default());
        let wakeup = Wakeup::new(Waker::from(Arc::clone(&count)));
        let list = ReadyList::new(4, Arc::clone(&wakeup));
        let (one, two) = (list.mark(id(1)), list.mark(id(2)));
        one.set();
        one.set();
        two.set();
        assert_eq!((list.len(), count.0.load(Ordering::SeqCst)), (2, 1));
        wakeup.answer();
        assert_eq!((list.pop(), list.pop(), list.pop()), (Some(id(1)), Some(id(2)), None));
        one.clear();
        one.set();
        assert_eq!((list.pop(), count.0.load(Ordering::SeqCst)), (Some(id(1)), 2));
    }

    #[test]
    fn what_does_not_fit_is_remembered_as_one_flag() {
        let list = ReadyList::new(1, Wakeup::new(Waker::noop().clone()));
        let marks = [list.mark(id(1)), list.mark(id(2))];
        marks.iter().for_each(|mark| mark.set());
        assert_eq!((list.len(), list.has_overflowed(), list.has_overflowed()), (1, true, false));
    }
}
