use std::time::Duration;

use actix::Message;
use bytes::Bytes;
use ortc_io::SrtpKeys;

/// Which side sends the first ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DtlsRole {
    /// Sends the ClientHello.
    Client,
    /// Waits for it.
    Server,
}

/// What the owner of a DTLS actor asks of it.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum DtlsCommand {
    /// Starts the handshake in the given role. Sent once a path is validated; what the
    /// peer has sent before is kept (at most 8 datagrams).
    Start {
        /// The role, decided once.
        role: DtlsRole,
        /// SHA-256 of the certificate that the peer must present. `None` takes any
        /// certificate: only for applications that have said so.
        expected_sha256: Option<[u8; 32]>,
    },
    /// How long the path takes there and back, at most, as far as it has been measured: what is
    /// lost of a handshake is sent again accordingly.
    RoundTrip(Duration),
    /// There is no path to the peer any more: a handshake waits for one, for as long as it takes.
    PathLost,
    /// There is one again: what was sent last is sent again.
    PathFound,
    /// Sends application data; not used for media.
    SendApplicationData(Bytes),
    /// Sends close_notify and stops.
    Close,
}

/// What a DTLS actor tells its owner.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub enum DtlsEvent {
    /// The handshake is complete and the peer's certificate is the expected one.
    Connected {
        /// The SRTP master keys.
        keys: SrtpKeys,
        /// The peer's certificate, DER.
        certificate: Bytes,
        /// The version of DTLS as it is on the wire: 0xfefd is 1.2, 0xfefc is 1.3.
        version: u16,
    },
    /// The peer sent application data.
    ApplicationData(Bytes),
    /// It is over. The last event.
    Stopped(Result<(), DtlsFailure>),
    // Ok(()) after Close or the peer's close_notify.
}

/// Why a DTLS association failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DtlsFailure {
    /// The certificate is not the one that was signalled. No key was released.
    #[error(
        "the peer's certificate does not have the signalled fingerprint: somebody is in between, \
         or the signalling carried another session's iceInfo"
    )]
    FingerprintMismatch,
    /// The handshake did not finish in time.
    #[error("the DTLS handshake timed out")]
    TimedOut,
    /// The peer offered nothing in common, or broke the protocol.
    #[error("the DTLS handshake failed: {0}")]
    Protocol(String),
    /// No SRTP profile was negotiated.
    #[error("the peer negotiated no SRTP profile")]
    NoSrtpProfile,
}
