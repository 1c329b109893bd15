use std::sync::Arc;
use std::task::{Wake, Waker};

use ortc_io::now;
use ortc_io::sim::SimIo;
use tokio::sync::Notify;

use crate::PacketForwarder;

/// Steps a forwarder over simulated sockets until it stops.
///
/// Runs under the clock of the tokio runtime it is awaited in; where that is paused, time
/// passes only when this and every other task waits. The forwarder's waker must be the
/// [`local_waker`] of the same `io`.
pub async fn drive_local(mut forwarder: PacketForwarder, mut io: SimIo) {
    let readiness = io.readiness();
    loop {
        let turn = forwarder.turn(now(), &mut io);
        if turn.stopped {
            return;
        }
        if turn.more {
            tokio::task::yield_now().await;
            continue;
        }
        match turn.next {
            Some((deadline, _)) => tokio::select! {
                biased;
                () = readiness.notified() => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
            },
            None => readiness.notified().await,
        }
    }
}

/// The waker for a forwarder that [`drive_local`] steps over `io`.
pub fn local_waker(io: &SimIo) -> Waker {
    struct Readiness(Arc<Notify>);
    impl Wake for Readiness {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }
    Waker::from(Arc::new(Readiness(io.readiness())))
}
