//! Whether the actors that connections are made of are alive.
//!
//! An actor that has panicked says nothing any more, and a call without it is none. One timer
//! looks at all connections of an engine in turn: a timer for each took a quarter of what 10,000
//! idle connections cost.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use actix::{Message, WeakRecipient};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

/// Time between two steps.
const STEP: Duration = Duration::from_secs(1);

/// Steps until each connection has been looked at.
const ROUND: usize = 8;

/// The actors that a connection is made of.
pub(crate) trait Family {
    fn are_alive(&self) -> bool;
}

/// One of them is not any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ChildLost;

/// The connections of an engine, on its control thread.
#[derive(Default)]
pub(crate) struct Vigil {
    /// By a number that no other has had.
    watched: RefCell<BTreeMap<u64, Watched>>,
    /// How many there have been.
    count: Cell<u64>,
    /// Wakes who keeps it: there is a connection, or the end.
    wake: Rc<Notify>,
}

struct Watched {
    children: Weak<dyn Family>,
    connection: WeakRecipient<ChildLost>,
}

/// Whoever drops it is not looked after any more, and nothing is left of it: an address of an actor,
/// a weak one too, keeps its mailbox.
#[must_use]
pub(crate) struct Watch {
    vigil: Weak<Vigil>,
    number: u64,
}

impl Vigil {
    /// Begins to look after connections. Ends when it is dropped.
    pub(crate) fn begin() -> Rc<Self> {
        let vigil = Rc::new(Self::default());
        actix_rt::spawn(keep(Rc::downgrade(&vigil), Rc::clone(&vigil.wake)));
        vigil
    }

    /// Has `connection` told, once within eight seconds, when one of its children has died.
    pub(crate) fn watch<F: Family + 'static>(
        self: &Rc<Self>,
        children: &Rc<F>,
        connection: WeakRecipient<ChildLost>,
    ) -> Watch {
        let children: Weak<F> = Rc::downgrade(children);
        let number = self.count.replace(self.count.get() + 1);
        self.watched.borrow_mut().insert(number, Watched { children, connection });
        self.wake.notify_one();
        Watch { vigil: Rc::downgrade(self), number }
    }

    /// Looks at an eighth of all, from below a number downwards, so that those who come meanwhile keep
    /// nobody waiting; returns below which to go on, or `None` when there is nobody.
    fn step(&self, below: u64) -> Option<u64> {
        let mut watched = self.watched.borrow_mut();
        let share = watched.len().div_ceil(ROUND);
        let from_above = watched.range(below..).rev();
        let in_turn = watched.range(..below).rev().chain(from_above).take(share);
        let mut next = below;
        let mut told = Vec::new();
        for (number, Watched { children, connection }) in in_turn {
            next = *number;
            if children.upgrade().is_none_or(|children| children.are_alive()) {
                continue;
            }
            told.push(*number);
            if let Some(connection) = connection.upgrade() {
                connection.do_send(ChildLost);
            }
        }
        for number in told {
            watched.remove(&number);
        }
        (!watched.is_empty()).then_some(next)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(vigil) = self.vigil.upgrade() {
            vigil.watched.borrow_mut().remove(&self.number);
        }
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

async fn keep(vigil: Weak<Vigil>, wake: Rc<Notify>) {
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut place = Some(u64::MAX);
    loop {
        if place.is_none() {
            wake.notified().await;
        }
        steps.tick().await;
        let Some(vigil) = vigil.upgrade() else { return };
        place = vigil.step(place.unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use actix::{Actor, Context, Handler};

    use super::*;

    /// Counts what it is told.
    struct Connection(Arc<AtomicUsize>);

    impl Actor for Connection {
        type Context = Context<Self>;
    }

    struct Children(Cell<bool>);

    impl Family for Children {
        fn are_alive(&self) -> bool {
            self.0.get()
        }
    }

    impl Handler<ChildLost> for Connection {
        type Result = ();

        fn handle(&mut self, _: ChildLost, _: &mut Context<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[actix::test]
    async fn whoever_has_lost_a_child_is_told_once_and_the_others_are_not() {
        tokio::time::pause();
        let vigil = Vigil::begin();
        let told = Arc::new(AtomicUsize::new(0));
        let connections: Vec<_> = (0..20).map(|_| Connection(Arc::clone(&told)).start()).collect();
        let families: Vec<_> = (0..20).map(|_| Rc::new(Children(Cell::new(true)))).collect();
        let mut watches: Vec<_> = families
            .iter()
            .zip(&connections)
            .map(|(children, connection)| vigil.watch(children, connection.downgrade().recipient()))
            .collect();
        tokio::time::sleep(STEP * 20).await;
        assert_eq!(told.load(Ordering::Relaxed), 0);
        families[3].0.set(false);
        families[19].0.set(false);
        tokio::time::sleep(STEP * 8).await;
        assert_eq!(told.load(Ordering::Relaxed), 2);
        tokio::time::sleep(STEP * 20).await;
        assert_eq!((told.load(Ordering::Relaxed), vigil.watched.borrow().len()), (2, 18));
        drop(watches.drain(..10));
        assert_eq!(vigil.watched.borrow().len(), 9, "whoever goes is forgotten at once");
        families[12].0.set(false);
        tokio::time::sleep(STEP * 8).await;
        assert_eq!((told.load(Ordering::Relaxed), vigil.watched.borrow().len()), (3, 8));
        // What was given up is nobody else's.
        let another = vigil.watch(&families[0], connections[0].downgrade().recipient());
        drop(watches);
        assert_eq!(vigil.watched.borrow().len(), 1);
        drop(another);
        assert!(vigil.watched.borrow().is_empty());
    }

    #[actix::test]
    async fn those_who_come_and_go_keep_nobody_waiting() {
        tokio::time::pause();
        let vigil = Vigil::begin();
        let told = Arc::new(AtomicUsize::new(0));
        let connection = Connection(Arc::clone(&told)).start();
        let family = || Rc::new(Children(Cell::new(true)));
        let watch =
            |children: &Rc<Children>| vigil.watch(children, connection.downgrade().recipient());
        let settled: Vec<_> = (0..50).map(|_| family()).collect();
        let _watches: Vec<_> = settled.iter().map(watch).collect();
        let mut guests = std::collections::VecDeque::new();
        for n in 0..300 {
            // Ten a second, for two seconds each.
            let guest = family();
            guests.push_back((watch(&guest), guest));
            if guests.len() > 20 {
                guests.pop_front();
            }
            if n == 100 {
                settled[0].0.set(false);
                settled[49].0.set(false);
            }
            tokio::time::sleep(STEP / 10).await;
        }
        assert_eq!(told.load(Ordering::Relaxed), 2, "twenty seconds later");
    }
}
