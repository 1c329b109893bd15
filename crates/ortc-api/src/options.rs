use ortc_dtls::{Certificate, DtlsVersion};
use ortc_ice::{InterfaceFilter, RTCIceServer};

use crate::engine::Engine;
use crate::socket::RTCSocket;
use crate::transports::Transports;

/// What an [`RTCConnection`](crate::RTCConnection) is made with (ORTC drafts, "RTCConnectionOptions").
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RTCConnectionOptions {
    /// The threads to run on; the process-wide engine when `None`.
    pub engine: Option<Engine>,
    /// STUN and TURN servers (drafts: `iceServers`): checked when the connection is made, and
    /// handed to the ICE actor. The default one does not gather from them yet, and says so in
    /// a warning.
    pub ice_servers: Vec<RTCIceServer>,
    /// Which addresses of this host become candidates; by default all but loopback.
    pub interfaces: InterfaceFilter,
    /// The socket to share; when `None`, the connection has sockets of its own.
    pub socket: Option<RTCSocket>,
    /// Lets `connect()` begin although the peer's credentials name no fingerprint: whoever can
    /// change packets on the path can then be the peer.
    pub allow_unverified_remote: bool,
    /// The certificate; a fresh one when `None`.
    pub certificate: Option<Certificate>,
    /// Has telephone keys sent and heard in the sound of G.711 tracks that are described without
    /// a `dtmf` codec, for peers that know no telephone events; by default there are none.
    pub in_band_dtmf: bool,
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

    /// Has telephone keys in the sound of tracks of A-law and µ-law that have no `dtmf` codec.
    ///
    /// Both faces of the keys work as ever:
    /// [`add_dtmf_handler`](crate::RTCConnection::add_dtmf_handler) and a
    /// [`DTMFMediaStreamTrack`](crate::DTMFMediaStreamTrack) in a stream add no codec to such a
    /// track, and put tones in the place of its sound, 40 ms after they begin; and
    /// [`receive_track`](crate::RTCConnection::receive_track) of one brings a handler, which hears
    /// tones within 60 ms. A track with a `dtmf` codec, set by
    /// [`set_codecs`](crate::RTCTrack::set_codecs) or described by the peer, has telephone events
    /// and its sound is left alone.
    #[must_use]
    pub fn with_in_band_dtmf(mut self, in_band: bool) -> Self {
        self.in_band_dtmf = in_band;
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
