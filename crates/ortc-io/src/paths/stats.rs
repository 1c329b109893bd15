/// What a table has dropped, parked and refused for one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathStats {
    /// Datagrams parked: DTLS, RTP and RTCP on paths that are authenticated and not yet validated.
    pub parked: u64,
    /// Of those, delivered after all.
    pub released: u64,
    /// Datagrams dropped because too much was parked already.
    pub park_overflow: u64,
    /// DTLS, RTP and RTCP datagrams dropped because nobody vouches for their path, or not in time.
    pub unvalidated: u64,
    /// Datagrams dropped because they are of no kind that belongs here.
    pub unknown: u64,
    /// Control datagrams not sent because there was no path to send them on.
    pub no_path: u64,
    /// Control datagrams not sent because sending is suspended.
    pub suspended: u64,
    /// Control datagrams not sent because their socket is not the connection's.
    pub foreign_socket: u64,
    /// Paths on a shared socket that a newer connection has taken.
    pub taken: u64,
}

/// What has come in on shared sockets and belonged to nobody: dropped, nothing kept of it, but
/// for what is [`held`](Self::held).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedStats {
    /// STUN that is no binding message, or broken.
    pub malformed: u64,
    /// Binding requests with a username fragment that no connection has.
    pub unknown_username: u64,
    /// Binding responses that answer no request, or come from another address than the one
    /// that was asked.
    pub unknown_transaction: u64,
    /// DTLS, RTP, RTCP and binding indications from addresses that are nobody's path.
    pub strangers: u64,
    /// Datagrams of no kind that belongs here.
    pub unknown: u64,
    /// Binding requests of peers that no fork had claimed yet: kept for a while, not dropped.
    pub held: u64,
    /// Of those, dropped because they had waited too long or there were too many.
    pub held_dropped: u64,
}
