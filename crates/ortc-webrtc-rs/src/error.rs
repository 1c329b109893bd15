/// What this stack cannot do, though the ports ask for it.
///
/// None of it ends a connection: it is logged as a warning, once, where it is asked for.
///
/// ```
/// use ortc_webrtc_rs::Unsupported;
///
/// assert_eq!(Unsupported::Dtls13.to_string(), "webrtc-dtls speaks DTLS 1.2 only");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// STUN and TURN servers: the stack gathers no such candidates over sockets of others.
    #[error("webrtc-ice gathers no candidates from STUN and TURN servers over our sockets")]
    IceServers,
    /// A socket shared with other connections: there is no candidate then.
    #[error("webrtc-ice gathers no candidates on a socket that connections share")]
    SharedSocket,
    /// TCP candidates: there are none then.
    #[error("webrtc-ice has no TCP candidates over our sockets")]
    TcpCandidates,
    /// Names in place of addresses: there is no candidate then.
    #[error("webrtc-ice hides no addresses: there is no candidate")]
    HiddenAddresses,
    /// A role conflict (RFC 8445 §7.3.1.1): the stack drops the requests of a peer in the
    /// same role. Roles that follow from the credentials never conflict; a browser's do.
    #[error("webrtc-ice does not settle role conflicts: the peer claims our own role")]
    RoleConflict,
    /// DTLS 1.3.
    #[error("webrtc-dtls speaks DTLS 1.2 only")]
    Dtls13,
}
