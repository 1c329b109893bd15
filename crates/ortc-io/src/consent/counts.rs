use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happens to the checks of a connection's pairs (RFC 8445 §7, RFC 7675).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckEvent {
    /// A request was sent on a pair that is not settled.
    RequestSent,
    /// A request was sent to renew consent.
    ConsentRequestSent,
    /// An authentic request has come; nobody can tell which of the two it is.
    RequestReceived,
    /// A response was sent.
    ResponseSent,
    /// An authentic response has come.
    ResponseReceived,
}

/// Counts the checks of a connection, wherever they are sent: by ICE, and by the socket port that it
/// has handed the consent of its path to.
///
/// A handle: clones count together, and only those are equal.
#[derive(Debug, Clone, Default)]
pub struct CheckCounters(Arc<[AtomicU64; 5]>);

/// What [`CheckCounters`] have counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckCounts {
    /// Requests sent, without those that renew consent.
    pub requests_sent: u64,
    /// Requests sent to renew consent.
    pub consent_requests_sent: u64,
    /// Authentic requests of either kind.
    pub requests_received: u64,
    /// Responses sent.
    pub responses_sent: u64,
    /// Authentic responses.
    pub responses_received: u64,
}

impl CheckCounters {
    /// Counts one more.
    pub fn count(&self, event: CheckEvent) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> CheckCounts {
        let of = |event: CheckEvent| self.0[event as usize].load(Ordering::Relaxed);
        CheckCounts {
            requests_sent: of(CheckEvent::RequestSent),
            consent_requests_sent: of(CheckEvent::ConsentRequestSent),
            requests_received: of(CheckEvent::RequestReceived),
            responses_sent: of(CheckEvent::ResponseSent),
            responses_received: of(CheckEvent::ResponseReceived),
        }
    }
}

impl PartialEq for CheckCounters {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CheckCounters {}
