use std::sync::Arc;

use ortc_dtls::{Certificate, DtlsVersion};
use ortc_ice::{CandidateTypes, InterfaceFilter, RTCIceServer};

use crate::engine::Engine;
use crate::socket::RTCSocket;
use crate::transports::Transports;

/// What an [`RTCConnection`](crate::RTCConnection) is made with (ORTC drafts, "RTCConnectionOptions").
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RTCConnectionOptions {
    /// The threads to run on; the process-wide engine when `None`.
    pub engine: Option<Engine>,
    /// STUN and TURN servers (drafts: `iceServers`): checked when the connection is made, and all
    /// asked at once. One that fails is an event
    /// ([`RTCEvent::IceServerFailed`](crate::RTCEvent::IceServerFailed)) and harms nothing.
    pub ice_servers: Vec<RTCIceServer>,
    /// Certificates (DER) by which TURN servers are trusted over TLS; the system's own roots
    /// when `None`.
    pub ice_server_roots: Option<Arc<[Vec<u8>]>>,
    /// Which types of local candidates take part: [`CandidateTypes::RELAYED`] keeps the
    /// addresses of this host from the peer.
    pub candidate_types: CandidateTypes,
    /// Which addresses of this host become candidates; by default all but loopback.
    pub interfaces: InterfaceFilter,
    /// The socket to share; when `None`, the connection has sockets of its own.
    pub socket: Option<RTCSocket>,
    /// Lets `connect()` begin although the peer's credentials name no fingerprint: whoever can
    /// change packets on the path can then be the peer.
    pub allow_unverified_remote: bool,
    /// The certificate; a fresh one when `None`.
    pub certificate: Option<Certificate>,
    /// The versions of DTLS that are spoken; 1.2 alone by default, as browsers are tested with.
    pub dtls_version: DtlsVersion,
    /// Who makes the transport actors; the default ones, unless they are swapped.
    pub transports: Transports,
}

impl RTCConnectionOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs on this engine.
    #[must_use]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Shares this socket, in place of sockets of the connection's own (ORTC drafts, "socket").
    /// The connection runs on the socket's engine.
    #[must_use]
    pub fn with_socket(mut self, socket: RTCSocket) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Names STUN and TURN servers.
    #[must_use]
    pub fn with_ice_servers(mut self, servers: impl IntoIterator<Item = RTCIceServer>) -> Self {
        self.ice_servers = servers.into_iter().collect();
        self
    }

    /// Trusts TURN servers over TLS by these certificates (DER) alone, in place of the system's
    /// roots.
    #[must_use]
    pub fn with_ice_server_roots(mut self, roots: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.ice_server_roots = Some(roots.into_iter().collect());
        self
    }

    /// Has only these types of local candidates take part; see
    /// [`candidate_types`](Self::candidate_types).
    #[must_use]
    pub fn with_candidate_types(mut self, types: CandidateTypes) -> Self {
        self.candidate_types = types;
        self
    }

    /// Makes loopback addresses candidates as well, or not.
    #[must_use]
    pub fn with_loopback(mut self, include: bool) -> Self {
        self.interfaces.loopback = include;
        self
    }

    /// Chooses the addresses that become candidates.
    #[must_use]
    pub fn with_interfaces(mut self, filter: InterfaceFilter) -> Self {
        self.interfaces = filter;
        self
    }

    /// Lets `connect()` begin without a fingerprint; see
    /// [`allow_unverified_remote`](Self::allow_unverified_remote).
    #[must_use]
    pub fn with_unverified_remote(mut self, allow: bool) -> Self {
        self.allow_unverified_remote = allow;
        self
    }

    /// Uses this certificate.
    #[must_use]
    pub fn with_certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Chooses the versions of DTLS: [`DtlsVersion::Auto`] speaks 1.3 where the peer does.
    #[must_use]
    pub fn with_dtls_version(mut self, version: DtlsVersion) -> Self {
        self.dtls_version = version;
        self
    }

    /// Swaps transport actors: ICE, DTLS, RTP, the sockets.
    #[must_use]
    pub fn with_transports(mut self, transports: Transports) -> Self {
        self.transports = transports;
        self
    }
}
