//! When a connection has let go of everything.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Held by what a connection consists of; whoever waits for the end is woken when it is dropped.
pub(crate) struct Open(Arc<Semaphore>);

/// For those who wait.
#[derive(Clone)]
pub(crate) struct Ending(Arc<Semaphore>);

/// Makes both ends. A semaphore that is never given a permit is the smallest thing that does it: a
/// channel takes five times as much, for every connection.
pub(crate) fn ending() -> (Open, Ending) {
    let closed = Arc::new(Semaphore::new(0));
    (Open(Arc::clone(&closed)), Ending(closed))
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Ending {
    /// Waits for the end; at once if it was before.
    pub(crate) async fn wait(&self) {
        // There is no permit, so this ends with an error, when it is closed.
        let _ = self.0.acquire().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whoever_waits_is_woken_by_the_end_and_not_before() {
        let (open, ending) = ending();
        let (early, late) = (ending.clone(), ending);
        assert!(early.wait().now_or_never().is_none());
        drop(open);
        assert!(early.wait().now_or_never().is_some() && late.wait().now_or_never().is_some());
    }
}
