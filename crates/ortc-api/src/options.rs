use std::sync::Arc;
use std::time::Duration;

use ortc_dtls::{Certificate, DtlsVersion};
use ortc_ice::{CandidateTypes, InterfaceFilter, RTCIceServer, TcpCandidates};
use ortc_rtp::codec::MAX_REPEATED;
use ortc_rtp::congestion::BandwidthLimits;

use crate::engine::Engine;
use crate::socket::RTCSocket;
use crate::tcp_port::RTCTcpPort;
use crate::transports::Transports;

/// What an [`RTCConnection`](crate::RTCConnection) is made with (ORTC drafts, "RTCConnectionOptions").
#[derive(Debug, Clone)]
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
    /// Which TCP candidates there are beside those of UDP; none by default.
    pub tcp_candidates: TcpCandidates,
    /// The port of passive TCP candidates; when `None`, they have ports of the connection's own.
    pub tcp_port: Option<RTCTcpPort>,
    /// Whether host candidates carry names of the link in place of addresses; by default not.
    pub mdns_candidates: bool,
    /// Which addresses of this host become candidates; by default all but loopback.
    pub interfaces: InterfaceFilter,
    /// Whether it gathers again, as [`update`](crate::RTCConnection::update) does, whenever
    /// addresses of this host come or go; by default not.
    pub follow_network: bool,
    /// Whether it waits for the peer to find it; see [`with_ice_lite`](Self::with_ice_lite).
    pub ice_lite: bool,
    /// How long a first path is looked for before the connection says that there is none
    /// ([`NoPath`](crate::RTCDisconnectReason::NoPath)); 30 s by default. It goes on looking.
    pub connect_timeout: Duration,
    /// The socket to share: a server's port, or the local side of another connection. When
    /// `None`, the connection has sockets of its own.
    pub socket: Option<RTCSocket>,
    /// Lets `connect()` begin although the peer's credentials name no fingerprint: whoever can
    /// change packets on the path can then be the peer.
    pub allow_unverified_remote: bool,
    /// The certificate; when `None` a fresh one, or that of the local side that is shared.
    pub certificate: Option<Certificate>,
    /// Has telephone keys sent and heard in the sound of G.711 tracks that are described without
    /// a `dtmf` codec, for peers that know no telephone events; by default there are none.
    pub in_band_dtmf: bool,
    /// How many packets each packet of sound repeats, of local tracks that are added: 0 to 3. See
    /// [`with_audio_redundancy`](Self::with_audio_redundancy). Default 0.
    pub audio_redundancy: u8,
    /// What the estimate of what may be sent begins with and stays within; see
    /// [`RTCEvent::Bandwidth`](crate::RTCEvent::Bandwidth).
    pub bandwidth: BandwidthLimits,
    /// The versions of DTLS that are spoken; 1.2 alone by default, as browsers are tested with.
    pub dtls_version: DtlsVersion,
    /// Who makes the transport actors; the default ones, unless they are swapped.
    pub transports: Transports,
}

impl Default for RTCConnectionOptions {
    fn default() -> Self {
        Self {
            engine: None,
            ice_servers: Vec::new(),
            ice_server_roots: None,
            candidate_types: CandidateTypes::default(),
            tcp_candidates: TcpCandidates::NONE,
            tcp_port: None,
            mdns_candidates: false,
            interfaces: InterfaceFilter::default(),
            follow_network: false,
            in_band_dtmf: false,
            audio_redundancy: 0,
            ice_lite: false,
            connect_timeout: Duration::from_secs(30),
            socket: None,
            allow_unverified_remote: false,
            certificate: None,
            bandwidth: BandwidthLimits::default(),
            dtls_version: DtlsVersion::default(),
            transports: Transports::default(),
        }
    }
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
    /// The connection runs on the socket's engine. With the
    /// [local side](crate::RTCConnection::local_socket) of another connection it is a fork of
    /// that: it has the same credentials, certificate and candidates.
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

    /// Has TCP candidates as well (RFC 6544), for networks without UDP: an addition to the drafts.
    /// Two connections need an [active](TcpCandidates::ACTIVE) one and a
    /// [passive](TcpCandidates::PASSIVE) one; browsers have active ones. TCP is used where no
    /// direct path over UDP is found: what is lost is sent again there, and what comes behind it
    /// waits.
    ///
    /// With an active one, the peer can have this host connect to any address and port, where it
    /// sends a binding request: as by UDP.
    #[must_use]
    pub fn with_tcp_candidates(mut self, tcp: TcpCandidates) -> Self {
        self.tcp_candidates = tcp;
        self
    }

    /// Has passive TCP candidates on this port, which other connections may have as well.
    #[must_use]
    pub fn with_tcp_port(mut self, port: RTCTcpPort) -> Self {
        self.tcp_port = Some(port);
        self
    }

    /// Keeps the addresses of this host's interfaces from whoever reads what is signalled, as
    /// browsers do: host candidates carry a random name, `UUID.local`, that stands for the address
    /// (draft-ietf-mmusic-mdns-ice-candidates). Peers on the same link resolve it by multicast
    /// (RFC 6762), which this host answers on UDP port 5353 while such a connection lives; others
    /// reach it by what STUN and TURN servers say, or are reached by it. The address under which a
    /// STUN server sees this host is told as ever, and a peer sees where packets come from: to
    /// hide those, there is [`CandidateTypes::RELAYED`].
    #[must_use]
    pub fn with_mdns_candidates(mut self, hide: bool) -> Self {
        self.mdns_candidates = hide;
        self
    }

    /// Makes loopback addresses candidates as well, or not.
    #[must_use]
    pub fn with_loopback(mut self, include: bool) -> Self {
        self.interfaces.loopback = include;
        self
    }

    /// Makes addresses of a single link (169.254.0.0/16, fe80::/10) candidates as well, and uses
    /// those of the peer, or not; see [`InterfaceFilter::link_local`]. By default not.
    #[must_use]
    pub fn with_link_local(mut self, include: bool) -> Self {
        self.interfaces.link_local = include;
        self
    }

    /// Chooses the addresses that become candidates.
    #[must_use]
    pub fn with_interfaces(mut self, filter: InterfaceFilter) -> Self {
        self.interfaces = filter;
        self
    }

    /// Gathers again by itself when addresses of this host come or go, or not: an addition to the
    /// drafts. On Linux the kernel tells at once, elsewhere it takes up to 2 s.
    #[must_use]
    pub fn with_network_changes(mut self, follow: bool) -> Self {
        self.follow_network = follow;
        self
    }

    /// Has the peer find the path, as a server can that every peer reaches: candidates of the
    /// peer are not tried, which spares checks into networks that do not lead there, and
    /// connecting costs less. Two connections that both wait never connect.
    #[must_use]
    pub fn with_ice_lite(mut self, lite: bool) -> Self {
        self.ice_lite = lite;
        self
    }

    /// Sets the [`connect_timeout`](Self::connect_timeout).
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
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

    /// Has each packet of sound repeat so many of those before it (RFC 2198), at most 3, so that a
    /// lost one is heard all the same: an addition to the drafts.
    ///
    /// Local tracks of Opus and G.711 that are added are described with a codec `red` before their
    /// own, and sent as that. It is for peers that know it: this crate does, and Chromium; one that
    /// does not hears nothing. [`RTCTrack::set_codecs`](crate::RTCTrack::set_codecs) decides it for
    /// one track. Each adds the bits of the sound once more; one makes good single losses, two and
    /// three bursts of as many.
    #[must_use]
    pub fn with_audio_redundancy(mut self, packets: u8) -> Self {
        self.audio_redundancy = packets.min(MAX_REPEATED);
        self
    }

    /// Sets the bit rates that it begins with, sends at least and sends at most, all tracks
    /// together: an addition to the drafts.
    #[must_use]
    pub fn with_bandwidth(mut self, limits: BandwidthLimits) -> Self {
        self.bandwidth = limits;
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
