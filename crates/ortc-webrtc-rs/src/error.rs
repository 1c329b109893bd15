use std::collections::BTreeSet;
use std::fmt;

use ortc_io::ConnectionId;

/// What this stack cannot do, though the ports ask for it.
///
/// None of it ends a connection. It is logged as a warning, once for each connection, where it is
/// asked for, and told to whoever has asked to hear of it: `with_report` of each actor.
///
/// ```
/// use ortc_webrtc_rs::Unsupported;
///
/// assert_eq!(Unsupported::Dtls13.to_string(), "webrtc-dtls speaks DTLS 1.2 only");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
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
    /// Names in place of addresses. Of ours there is no candidate then, and those of the peer are
    /// ignored: it is heard if it can reach us by itself.
    #[error("webrtc-ice has no names in place of addresses here: ours are no candidates")]
    HiddenAddresses,
    /// A side that only answers (RFC 8445 §2.5): it is a full one all the same.
    #[error("webrtc-ice is no lite side over our sockets: it checks as ever")]
    IceLite,
    /// Other credentials for our side in the middle of a connection (RFC 8445 §9): they stay.
    #[error("webrtc-ice restarts with other credentials of the peer only")]
    IceRestart,
    /// A role conflict (RFC 8445 §7.3.1.1): the stack drops the requests of a peer in the
    /// same role. Roles that follow from the credentials never conflict; a browser's do.
    #[error("webrtc-ice does not settle role conflicts: the peer claims our own role")]
    RoleConflict,
    /// DTLS 1.3.
    #[error("webrtc-dtls speaks DTLS 1.2 only")]
    Dtls13,
    /// A received track that is to be sent on: it is not sent.
    #[error("this media plane forwards no packets: the track is not sent")]
    Forwarding,
    /// Listening in on a track, or putting packets into one: the ring is hung up.
    #[error("this media plane has no taps")]
    Taps,
    /// Pairs that packets are to carry (`rtpExtHeaders`): they carry none.
    #[error("this media plane sends no rtpExtHeaders")]
    ExtHeaders,
    /// Lost packets that are to be sent again (RFC 4585, RFC 4588): they stay lost.
    #[error("this media plane sends nothing again")]
    Retransmission,
    /// Lost packets and key frames that are to be asked for (RFC 4585): they are not.
    #[error("this media plane asks for no lost packet and no key frame")]
    Recovery,
    /// Several encodings of one track: the best of those that are described stands for all.
    #[error("this media plane has no choice of layers")]
    Layers,
    /// Sound that repeats what was lost (RFC 2198): it is heard without.
    #[error("this media plane takes nothing that packets repeat of others")]
    Redundancy,
    /// Feedback about what has come, and an estimate of what may be sent: there is none.
    #[error("this media plane has no congestion control")]
    CongestionControl,
    /// Statistics of media: there are none.
    #[error("this media plane keeps no statistics")]
    Statistics,
    /// A recording of what was on the wire: there is none.
    #[error("this media plane records nothing")]
    Recording,
}

/// Tells what is asked for and cannot be had, each thing once.
pub(crate) struct Limits {
    connection: ConnectionId,
    told: BTreeSet<Unsupported>,
    report: Option<Box<dyn FnMut(Unsupported) + Send>>,
}

impl Limits {
    pub(crate) fn new(connection: ConnectionId) -> Self {
        Self { connection, told: BTreeSet::new(), report: None }
    }

    pub(crate) fn report_to(&mut self, report: impl FnMut(Unsupported) + Send + 'static) {
        self.report = Some(Box::new(report));
    }

    /// Something was asked for that cannot be had.
    pub(crate) fn tell(&mut self, limit: Unsupported) {
        if self.told.insert(limit) {
            tracing::warn!(connection = ?self.connection, %limit, "webrtc-rs");
            if let Some(report) = &mut self.report {
                report(limit);
            }
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("told", &self.told).finish_non_exhaustive()
    }
}
