//! Whether the actors that connections are made of are alive.
//!
//! An actor that has panicked says nothing any more, and a call without it is none. One timer
//! looks at all connections of an engine in turn: a timer for each took a quarter of what 10,000
//! idle connections cost.

use std::cell::RefCell;
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
    watched: RefCell<Vec<Watched>>,
    /// Wakes who keeps it: there is a connection, or the end.
    wake: Rc<Notify>,
}

struct Watched {
    /// Gone with the connection.
    children: Weak<dyn Family>,
    connection: WeakRecipient<ChildLost>,
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
        &self,
        children: &Rc<F>,
        connection: WeakRecipient<ChildLost>,
    ) {
        let children: Weak<F> = Rc::downgrade(children);
        self.watched.borrow_mut().push(Watched { children, connection });
        self.wake.notify_one();
    }

    /// Looks at an eighth of all, from a place on; returns where to go on, or `None` when there is
    /// nobody.
    fn step(&self, from: usize) -> Option<usize> {
        let mut watched = self.watched.borrow_mut();
        let mut place = from;
        for _ in 0..watched.len().div_ceil(ROUND) {
            if place >= watched.len() {
                place = 0;
            }
            let Some(Watched { children, connection }) = watched.get(place) else { break };
            let is_well = children.upgrade().map(|children| children.are_alive());
            if is_well == Some(false)
                && let Some(connection) = connection.upgrade()
            {
                connection.do_send(ChildLost);
            }
            if is_well == Some(true) {
                place += 1;
            } else {
                // What takes its place is looked at next.
                watched.swap_remove(place);
            }
        }
        (!watched.is_empty()).then_some(place)
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
    let mut place = Some(0);
    loop {
        if place.is_none() {
            wake.notified().await;
        }
        steps.tick().await;
        let Some(vigil) = vigil.upgrade() else { return };
        place = vigil.step(place.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
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
        for (children, connection) in families.iter().zip(&connections) {
            vigil.watch(children, connection.downgrade().recipient());
        }
        tokio::time::sleep(STEP * 20).await;
        assert_eq!(told.load(Ordering::Relaxed), 0);
        families[3].0.set(false);
        families[19].0.set(false);
        tokio::time::sleep(STEP * 8).await;
        assert_eq!(told.load(Ordering::Relaxed), 2);
        tokio::time::sleep(STEP * 20).await;
        assert_eq!((told.load(Ordering::Relaxed), vigil.watched.borrow().len()), (2, 18));
        drop(families);
        tokio::time::sleep(STEP * 20).await;
        assert!(vigil.watched.borrow().is_empty());
    }
}
