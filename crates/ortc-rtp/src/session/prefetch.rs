//! What forwarding to a peer reads, fetched from memory ahead of that.

use ortc_io::prefetch;

use super::forward::ForwardTarget;
use super::outbound::{Feed, Sender};
use super::{Keys, RtpSession};

impl RtpSession {
    /// Has the processor fetch what the next steps, and then
    /// [`ForwardRun::write`](super::ForwardRun::write), look at first.
    ///
    /// Most of a forwarder's subscribers have left the caches from one burst to the next. Each of
    /// the four steps looks at what the one before has fetched, so whoever prepares the next
    /// subscribers while it writes for one never waits for memory.
    #[inline]
    pub fn prefetch(&self) {
        let Self { keys, senders, upstream, congestion, stats, datagrams, .. } = self;
        // Not a line more than is looked at: of these, there are only so many on their way at once.
        if let Some(Keys { sender, .. }) = keys {
            sender.prefetch_keys();
        }
        prefetch(senders);
        prefetch(upstream);
        congestion.prefetch();
        stats.prefetch_forwarded();
        datagrams.prefetch_sent();
    }

    /// The second step: the track, and the keys' indices.
    #[inline]
    pub fn prefetch_track(&self, target: ForwardTarget) {
        if let Some(sender) = self.senders.get(target.place()) {
            prefetch(sender);
        }
        if let Some(Keys { sender, .. }) = &self.keys {
            sender.prefetch();
        }
        self.congestion.prefetch_sending();
    }

    /// The third step: what the track is made of.
    #[inline]
    pub fn prefetch_source(&self, target: ForwardTarget) {
        if let Some(Sender { feed: Feed::Forward(forward), retransmitter, .. }) =
            self.senders.get(target.place())
        {
            forward.prefetch();
            if let Some(retransmitter) = retransmitter {
                retransmitter.prefetch();
            }
        }
        self.congestion.prefetch_sent();
    }

    /// The fourth step: what it is told by what comes.
    #[inline]
    pub fn prefetch_tables(&self, target: ForwardTarget) {
        if let Some(Sender { feed: Feed::Forward(forward), .. }) = self.senders.get(target.place())
        {
            forward.rewriter.prefetch();
        }
    }

    /// Has the processor fetch what the next step, and then [`handle_rtcp`](Self::handle_rtcp), look
    /// at first.
    ///
    /// A batch of what has come is feedback of many connections, which have left the caches since
    /// each said something last. As with [`prefetch`](Self::prefetch), whoever prepares the next ones
    /// while it handles one does not wait for memory.
    #[inline]
    pub fn prefetch_control(&self) {
        let Self { keys, congestion, closed, stats, datagrams, events, outbox, .. } = self;
        prefetch(keys);
        prefetch(congestion);
        prefetch(closed);
        prefetch(stats);
        prefetch(datagrams);
        prefetch(events);
        prefetch(outbox);
    }

    /// The second step: the windows of the keys, and where the estimate is.
    #[inline]
    pub fn prefetch_estimate(&self) {
        if let Some(Keys { receiver, .. }) = &self.keys {
            receiver.prefetch_rtcp();
        }
        self.congestion.prefetch_estimator();
    }

    /// The third step: what was sent that nothing is known of yet, and what the estimate goes by.
    #[inline]
    pub fn prefetch_unacknowledged(&self) {
        self.congestion.prefetch_feedback();
    }
}
