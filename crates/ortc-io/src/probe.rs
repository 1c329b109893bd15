//! A probe for every port: an actor that collects what it is sent, for a test to await.
//!
//! ```
//! use ortc_io::probe::Probe;
//! use ortc_io::{ConnectionId, Detached, sim};
//! use std::time::Duration;
//!
//! sim::run(1, |_| async {
//!     let mut probe = Probe::<Detached>::new();
//!     let port = probe.recipient(); // this is what the actor under test would be given
//!     port.do_send(Detached(ConnectionId { slot: 0, generation: 0 }));
//!     assert_eq!(probe.next().await.0.slot, 0);
//!     probe.expect_none_for(Duration::from_secs(5)).await;
//! });
//! ```

use std::any::type_name;
use std::fmt::Debug;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message, Recipient, WeakRecipient};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout, timeout_at};

/// How long [`Probe::next`] waits: longer than any protocol here takes to give up, and
/// nothing at all in virtual time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Collects messages of one type; see the [module](self).
///
/// It keeps what it has been sent until a test takes it, without a bound.
#[derive(Debug)]
pub struct Probe<M: Message<Result = ()> + Debug + Send + Unpin + 'static> {
    collector: Addr<Collector<M>>,
    messages: UnboundedReceiver<M>,
}

impl<M: Message<Result = ()> + Debug + Send + Unpin + 'static> Probe<M> {
    /// Starts a probe on the current actix system.
    #[allow(clippy::new_without_default, reason = "it starts an actor")]
    pub fn new() -> Self {
        let (sender, messages) = unbounded_channel();
        Self { collector: Collector { sender }.start(), messages }
    }

    /// The port to hand to the actor under test.
    pub fn recipient(&self) -> Recipient<M> {
        self.collector.clone().recipient()
    }

    /// The port to hand to an actor that holds only a weak one, as towards a parent. It
    /// lasts as long as the probe.
    pub fn weak_recipient(&self) -> WeakRecipient<M> {
        self.collector.downgrade().recipient()
    }

    /// Waits for the next message.
    ///
    /// # Panics
    /// When none comes for 60 s (of virtual time, in a simulation).
    pub async fn next(&mut self) -> M {
        self.next_within(PATIENCE).await
    }

    /// Waits for the next message for at most `patience`.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_within(&mut self, patience: Duration) -> M {
        match timeout(patience, self.messages.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) | Err(_) => panic!("no {} came for {patience:?}", type_name::<M>()),
        }
    }

    /// Waits for the first message that `pick` accepts; those before it are dropped.
    ///
    /// # Panics
    /// When none of that sort comes for 60 s, whatever else does.
    pub async fn find<T>(&mut self, mut pick: impl FnMut(M) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.messages.recv()).await {
                Ok(Some(message)) => {
                    if let Some(found) = pick(message) {
                        return found;
                    }
                }
                Ok(None) | Err(_) => {
                    panic!("no {} of that sort came for {PATIENCE:?}", type_name::<M>())
                }
            }
        }
    }

    /// Lets time pass and makes sure that nothing comes.
    ///
    /// # Panics
    /// When a message is there already, or one comes.
    pub async fn expect_none_for(&mut self, duration: Duration) {
        if let Ok(Some(message)) = timeout(duration, self.messages.recv()).await {
            panic!("this came where nothing should: {message:?}");
        }
    }

    /// Takes what has come so far, without waiting.
    pub fn drain(&mut self) -> Vec<M> {
        std::iter::from_fn(|| self.messages.try_recv().ok()).collect()
    }
}

#[derive(Debug)]
struct Collector<M> {
    sender: UnboundedSender<M>,
}

impl<M: Unpin + 'static> Actor for Collector<M> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // A probe is not what overflows in a test.
        context.set_mailbox_capacity(4096);
    }
}

impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Collector<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Context<Self>) {
        // A test that has dropped its probe no longer cares.
        let _ = self.sender.send(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim;

    #[derive(Debug, PartialEq, Message)]
    #[rtype(result = "()")]
    struct Number(u32);

    #[test]
    fn messages_come_in_order_and_can_be_picked() {
        sim::run(1, |_| async {
            let mut probe = Probe::new();
            let (strong, weak) = (probe.recipient(), probe.weak_recipient());
            for n in 0..6 {
                strong.do_send(Number(n));
            }
            weak.upgrade().unwrap().do_send(Number(6));
            assert_eq!(probe.next().await, Number(0));
            assert_eq!(probe.find(|Number(n)| (n > 2).then_some(n)).await, 3);
            tokio::task::yield_now().await;
            assert_eq!(probe.drain(), [Number(4), Number(5), Number(6)]);
            probe.expect_none_for(Duration::from_secs(3600 - 60)).await;
        });
    }

    #[test]
    #[should_panic(expected = "Number came for 60s")]
    fn waiting_in_vain_fails() {
        sim::run(1, |_| async {
            Probe::<Number>::new().next().await;
        });
    }

    #[test]
    #[should_panic(expected = "this came where nothing should: Number(7)")]
    fn what_should_not_come_fails() {
        sim::run(1, |_| async {
            let mut probe = Probe::new();
            probe.recipient().do_send(Number(7));
            probe.expect_none_for(Duration::from_secs(1)).await;
        });
    }
}
