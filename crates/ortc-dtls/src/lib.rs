//! DTLS for SRTP (RFC 5763, 5764): certificates, fingerprints, the handshake, key export.
//!
//! [`DtlsEndpoint`] is the protocol: a state machine without socket, clock or thread, over
//! the [`dimpl`] engine. [`DtlsActor`] is the shell that joins it to a socket port and an
//! owner. Either can be used alone; `examples/two_endpoints.rs` shows two actors without ICE.
//!
//! # The drive loop of an endpoint
//!
//! 1. [`DtlsEndpoint::new`] with a [`DtlsConfig`] and a [`Certificate`]; signal the
//!    certificate's SHA-256 to the peer. Datagrams that come now are parked (at most eight).
//! 2. [`DtlsEndpoint::start`] with the role and the peer's fingerprint.
//! 3. [`DtlsEndpoint::poll_output`] until `None`: transmit, take the keys, stop.
//! 4. Wait for a datagram or for [`DtlsEndpoint::poll_timeout`].
//! 5. [`DtlsEndpoint::handle_datagram`] or [`DtlsEndpoint::handle_timeout`], and back to 3.
//!
//! ```
//! use std::time::Instant;
//! use ortc_dtls::{Certificate, DtlsConfig, DtlsEndpoint, DtlsOutput, DtlsRole};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = Instant::now();
//! let (ours, theirs) = (Certificate::generate()?, Certificate::generate()?);
//! let mut client = DtlsEndpoint::new(DtlsConfig::default(), ours.clone(), now);
//! let mut server = DtlsEndpoint::new(DtlsConfig::default(), theirs.clone(), now);
//! client.start(DtlsRole::Client, Some(theirs.sha256()), now)?;
//! server.start(DtlsRole::Server, Some(ours.sha256()), now)?;
//!
//! let mut connected = 0;
//! while connected < 2 {
//!     while let Some(output) = client.poll_output() {
//!         match output {
//!             DtlsOutput::Transmit(datagram) => server.handle_datagram(now, &datagram),
//!             DtlsOutput::Connected { .. } => connected += 1,
//!             other => panic!("{other:?}"),
//!         }
//!     }
//!     while let Some(output) = server.poll_output() {
//!         match output {
//!             DtlsOutput::Transmit(datagram) => client.handle_datagram(now, &datagram),
//!             DtlsOutput::Connected { .. } => connected += 1,
//!             other => panic!("{other:?}"),
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is guaranteed
//!
//! - No key leaves before the peer's certificate was compared with the signalled fingerprint,
//!   and nothing more is sent to a peer that has another one.
//! - A fatal error before the end of the handshake begins a fresh one, a bounded number of
//!   times; a panic of the engine costs this association only.
//! - Memory is bounded whatever comes in; what is dropped is counted in [`DtlsStats`].
//!
//! # After the handshake
//!
//! The engine keeps what its handshake has needed for as long as it lives: certificates,
//! transcripts, flights, 11 kB in all. In DTLS 1.2, where no other keys ever come, it is let go of
//! once both sides are connected: what is left is to seal and open records under two keys, and
//! that takes 300 bytes. The cipher suites that the engine is given note the keys, and the numbers
//! that have been used and seen, so numbers go on and replays are known. The ciphers are aws-lc's
//! before and after. A client whose last flight has not been answered is sent the answer again, the
//! same records: each time that its Finished proves to be its own, else more and more seldom, and
//! never more bytes than it has sent for it (beside one copy in advance on a long path). In DTLS
//! 1.3 keys change and messages are acknowledged, so the engine stays.
//!
//! # What is left out on purpose
//!
//! No certificate chains, names or dates are checked: the fingerprint is the identity
//! (RFC 8122). No resumption, no renegotiation, no pre-shared keys. The order of SRTP
//! profiles is the engine's: AEAD_AES_256_GCM, AEAD_AES_128_GCM, AES128_CM_SHA1_80.
//! When a fingerprint does not match, the peer is sent no alert; it times out.
//!
//! Departures from RFC 6347 §4.2.4.1: the first retransmission comes after 200 ms, and they are
//! never more than [`DtlsConfig::max_rto`] apart. With a [round trip](DtlsEndpoint::set_round_trip) that
//! ICE has measured, it comes after one and a quarter of that and 20 ms, as RFC 9147 §5.8.2 lets it, and
//! so does the second; from then on they double. If a round trip takes 40 ms or more, a client's first
//! hello and a server's last flight go out twice, a quarter of a round trip apart.

#![forbid(unsafe_code)]

mod actor;
mod association;
mod certificate;
mod config;
#[cfg(feature = "sim")]
mod deterministic;
mod endpoint;
mod error;
mod final_flight;
mod fingerprint;
mod messages;
mod pace;
mod pem;
mod record;
mod records;
mod state;
mod suites;

pub use actor::DtlsActor;
pub use certificate::Certificate;
pub use config::{DtlsConfig, DtlsVersion};
pub use endpoint::{DtlsEndpoint, DtlsOutput, DtlsStats};
pub use error::{CertificateError, DtlsError, FingerprintError, PemError};
pub use fingerprint::{CertificateFingerprint, HashAlgorithm, RTCDtlsConnectionInfo};
pub use messages::{DtlsCommand, DtlsEvent, DtlsFailure, DtlsRole};
