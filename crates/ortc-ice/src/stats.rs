/// What an agent has counted, most of it things it has dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceStats {
    /// Whether this side is the controlling one; `None` before there is a peer. A conflict of roles
    /// changes it.
    pub is_controlling: Option<bool>,
    /// Checks sent.
    pub requests_sent: u64,
    /// Checks not sent because the connection has settled on other pairs, or has lost the path
    /// to a newer connection.
    pub requests_withheld: u64,
    /// Checks and responses not sent because more than three times the bytes would have gone to an
    /// address than have come from there: it was not signalled, and has answered nothing.
    pub amplification_withheld: u64,
    /// Checks not sent because the socket port keeps the consent of their path.
    pub requests_vouched: u64,
    /// Times that the socket port has taken the consent of the selected path on.
    pub consents_delegated: u64,
    /// Times that it has given it back unasked.
    pub consents_returned: u64,
    /// Authenticated requests taken.
    pub requests_received: u64,
    /// Authenticated responses taken.
    pub responses_received: u64,
    /// Datagrams that are no STUN binding message or break its grammar.
    pub malformed: u64,
    /// Paths on a shared socket that a newer connection has taken.
    pub paths_taken: u64,
    /// Datagrams on such a path.
    pub barred: u64,
    /// Times that there was reason to doubt the selected path, which was checked then.
    pub paths_doubted: u64,
    /// Times that it was left for another one, as it did not answer.
    pub paths_left: u64,
    /// Datagrams on a socket whose candidate was not set.
    pub not_set: u64,
    /// Requests with another username fragment than ours.
    pub foreign_username: u64,
    /// Messages whose MESSAGE-INTEGRITY is missing or wrong.
    pub bad_integrity: u64,
    /// Responses from an address, or on a socket, that was not asked.
    pub unasked_responses: u64,
    /// Authenticated requests that wait, or waited in vain, for credentials of the peer.
    pub requests_held: u64,
    /// Of those, the ones that were dropped: over 32, or older than 10 s.
    pub requests_held_dropped: u64,
    /// What was dropped because a list was full: paths, learned or mapped addresses,
    /// interfaces.
    pub over_limit: u64,
    /// Remote candidates that take no part, malformed ones included.
    pub candidates_ignored: u64,
    /// Remote candidates that were known already.
    pub candidates_duplicate: u64,
    /// Remote candidates that are not tried, as we wait to be checked.
    pub candidates_not_needed: u64,
    /// Commands with credentials that cannot be used.
    pub credentials_refused: u64,
    /// Addresses on which no socket could be bound.
    pub bind_failures: u64,
    /// Streams that were opened to TCP candidates of the peer, or tried to be.
    pub streams_opened: u64,
    /// Streams that were taken at TCP candidates of ours.
    pub streams_accepted: u64,
    /// Streams that have ended by themselves.
    pub streams_ended: u64,
    /// Requests sent to STUN and TURN servers, retransmissions included.
    pub server_requests: u64,
    /// Their answers, those that were asked for and authenticated.
    pub server_responses: u64,
    /// Servers that were of no use.
    pub servers_failed: u64,
    /// Datagrams relayed to us from addresses without a channel, that did not show our password.
    pub stray_indications: u64,
    /// Times that a TURN server would not relay to one peer.
    pub peers_refused: u64,
}
