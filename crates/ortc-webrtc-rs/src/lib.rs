//! A second set of transport actors: the webrtc-rs 0.17 line behind the ports of ORTC.
//!
//! The default actors run `is`, `dimpl` and an SRTP of our own. These run `webrtc-ice`,
//! `webrtc-dtls` and `webrtc-srtp`, and take the same messages. They show that the ports fit
//! more than one engine, they let two independent implementations be tested against each
//! other, and whoever trusts that stack more may use it.
//!
//! | actor | takes the place of | runs |
//! |---|---|---|
//! | [`WebrtcIceActor`] | `IceActor` of `ortc-ice` | an agent for each local candidate, over our `UDPMux` |
//! | [`WebrtcDtlsActor`] | `DtlsActor` of `ortc-dtls` | a `DTLSConn` over our `Conn` |
//! | [`WebrtcMediaActor`] | the packet forwarder, for one connection | two SRTP contexts, over `SocketActor` |
//!
//! Each can be used without the others. With `ortc-api` (which this crate does not import) it
//! takes a few lines for each:
//!
//! ```text
//! let transports = Transports::new()
//!     .with_ice_actor(|it| {
//!         let actor = WebrtcIceActor::new(it.config, it.connection, it.sockets, it.owner);
//!         IcePorts::of(&actor.start())
//!     })
//!     .with_dtls_actor(|it| {
//!         let (config, certificate) = (it.config, it.certificate);
//!         let actor =
//!             WebrtcDtlsActor::new(config, certificate, it.connection, it.sockets, it.owner);
//!         DtlsPorts::of(&actor.start())
//!     })
//!     .with_socket_actor(move |it| {
//!         MediaPlane::of(&WebrtcMediaActor::new(it.connection, seed).start())
//!     });
//! ```
//!
//! # Who owns what
//!
//! The sockets stay those of the socket port. The stack sends through it and is handed what
//! comes for it; it binds nothing. So with the default media plane the packets still take
//! the fast path, whichever engine found it: what an agent does is told to the socket port as
//! path updates. An answer to a check makes a path authenticated, since the stack answers only
//! what it has verified; an answer to one of its own makes a path validated, and so one to send on
//! while there is no better; a nominated pair is selected.
//!
//! SRTP has no port of its own, on purpose: in the forwarder it works in place, in batches,
//! from a shared plaintext, and a seam in there would cost every packet. It is swapped with the
//! sockets, at the route port, where [`WebrtcMediaActor`] runs the streams and reports of
//! `ortc-rtp` over `webrtc-srtp`.
//!
//! # What it cannot do
//!
//! Each of these is an [`Unsupported`], logged where it is asked for, and told to whoever has asked
//! to hear of it: `with_report` of each actor, for a factory that wants to refuse such a connection.
//!
//! - **Role conflicts** ([`Unsupported::RoleConflict`]): two peers of this project never have
//!   one, a browser that begins as controlling may.
//! - **STUN and TURN servers** ([`Unsupported::IceServers`]), **TCP**
//!   ([`Unsupported::TcpCandidates`]), names as addresses, the peer's or ours
//!   ([`Unsupported::HiddenAddresses`]), lite sides ([`Unsupported::IceLite`]), and restarts of our
//!   own side ([`Unsupported::IceRestart`]). Those of the peer are followed, by agents that begin
//!   afresh; media goes on meanwhile, as long as consent lasts.
//! - **A socket shared by connections** ([`Unsupported::SharedSocket`]).
//! - **DTLS 1.3** ([`Unsupported::Dtls13`]).
//! - **Forwarding** ([`Unsupported::Forwarding`]), and **taps** of a track, and so telephone keys
//!   in its sound ([`Unsupported::Taps`]). Those in packets go both ways.
//! - **Feedback**: lost packets are not sent again ([`Unsupported::Retransmission`]) nor asked for,
//!   and neither are key frames ([`Unsupported::Recovery`]); nobody says what has come, or estimates
//!   what may be sent ([`Unsupported::CongestionControl`]).
//! - **Pairs** (`rtpExtHeaders`) are not sent ([`Unsupported::ExtHeaders`]).
//! - **Statistics of media** ([`Unsupported::Statistics`]), and recordings of what was on the wire
//!   ([`Unsupported::Recording`]).
//!
//! Consent is the stack's own: with another ICE actor over this crate's sockets, or the other way
//! round, nothing is delegated, and either keeps its own.
//!
//! What follows from how the stack works, and nobody can ask for:
//!
//! - **Another pair**: an agent nominates once and stays, and so it does as controlled. What is
//!   left is one pair for each local candidate: media goes to another one when the first falls
//!   silent, or when the peer nominates it, or takes its candidate back.
//! - **A lost last flight** of the DTLS handshake is not repeated: at 30 % loss one handshake
//!   in six runs into the time-out.
//! - **Media before its description** is dropped, and **tracks that nobody has described** are not
//!   told of: state is made for described tracks only, see below.
//! - **Virtual time**: the stack reads the system's clocks and wants tokio, so its tests run
//!   over real sockets.
//!
//! # What it is guarded against
//!
//! The stack is not safe to be shown everything. So that it is in this place:
//!
//! - A candidate that is not set has no agent, and a peer that comes late is waited for: by
//!   itself the stack checks what it finds at once, and gives up after seven requests.
//! - Addresses that an agent has answered are bounded (100), as are candidates (100) and
//!   queues (64); messages over 1,280 bytes do not reach it.
//! - Before DTLS, handshake fragments are counted (256) and crumbs under 64 bytes refused:
//!   30,000 of them abort a process by recursion. Early encrypted records are counted (32).
//! - The fingerprint is compared in the stack's verifier, and again before keys are released.
//! - SRTP is shown packets of described tracks only, and SRTCP of at most 257 sources, since
//!   it makes state before it authenticates; replay windows are on; SRTCP with E = 0 and
//!   short SRTCP are refused before; header extensions are checked before; a panic costs the
//!   packet.
//!
//! # Dependencies
//!
//! This crate links `ring`, as the stack does. No other crate here does, which is one reason
//! for its being a crate of its own.

#![forbid(unsafe_code)]

mod agent;
mod conn;
mod dtls;
mod error;
mod gate;
mod ice;
mod media;
mod srtp;

pub use dtls::WebrtcDtlsActor;
pub use error::Unsupported;
pub use ice::WebrtcIceActor;
pub use media::WebrtcMediaActor;
