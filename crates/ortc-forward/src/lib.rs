//! The media plane: a pinned thread that owns the UDP sockets, demultiplexes what arrives
//! and runs SRTP and the streams of every connection in place.
//!
//! Protocol actors live on the control plane and hold nothing but recipients. This crate is
//! what stands behind them in production: [`ForwarderActor`] is both the *socket port*
//! (`Recipient<SocketCommand>`) and the *route port* (`Recipient<RouteCommand>`).
//!
//! ```text
//!  control plane   IceActor   DtlsActor   RtpActor   …          actix, arbiter threads
//!                      └──────────┼──────────┘
//!                          ForwarderActor       recipients, backlog
//!        bounded commands ↓   ↑ bounded events, one wake-up per turn     ↓↑ rings of media
//!  ─────────────────────────────────────────────────────────────────  application tasks
//!  media plane     PacketForwarder::turn(now, &mut io)          one thread, or virtual time
//!                          DatagramIo: UdpIo, or sim::SimIo
//! ```
//!
//! # Use
//!
//! [`ForwarderActor::start_pinned`] starts everything, inside an actix system. Without
//! actix, [`spawn_pinned`] gives the command handle and the event ring themselves; the
//! `static_keys` example does that. Under `sim::run` (feature `sim`),
//! `ForwarderActor::start_simulated` steps the same core by a task of the same thread.
//!
//! Driving the core yourself takes five steps: make it with [`PacketForwarder::new`]; take a
//! [`turn`](PacketForwarder::turn); if the turn says `more`, take another; else wait for the
//! sockets, the waker or the deadline, whichever is first; end when it says `stopped`.
//!
//! # One turn
//!
//! Commands (at most 128), received batches (at most 4 of 64), deadlines, then what the
//! applications have pushed; every datagram that results is written and sealed straight into
//! one batch, which leaves in one `send`; at last the events, with one wake-up for all.
//!
//! # Invariants of the hot path
//!
//! - No allocation and no lock per packet, from an application's ring to the wire and from
//!   the wire to the decrypted packet (`tests/allocation.rs` counts). The one copy is into
//!   the packet that a receiving application keeps.
//! - A datagram finds its connection by two array indexes (socket slot, connection slot) and
//!   one look-up in the socket's table of addresses. Nothing per packet grows with the number
//!   of connections: an application's push puts its connection on a ready list, deadlines lie
//!   in one heap, and only connections that something happened to are looked at.
//! - One writer per stream: only this thread assigns sequence numbers and timestamps.
//! - Everything that waits has a bound, and everything that is dropped is counted in one
//!   field of [`ForwarderStats`].
//! - State is created, keys are used and windows move only after authentication; that is the
//!   session's promise (`ortc_rtp::RtpSession`), and routes keep strangers away from it.
//!
//! # Races, decided
//!
//! - **Nomination.** What is received depends on validated paths only, what is sent on one
//!   separate value. A path that is lost is received from for 5 s more.
//! - **DTLS and media before validation** are parked and delivered once the path is validated.
//!   **SRTP before keys** is parked by the session and opened when the keys come.
//! - **Two connections on a shared socket towards one remote address.** The newer one has the
//!   path once it has validated it, and the older is told; a request takes nothing.
//! - **A connection that is gone.** Each command names a generation. Of each slot only a
//!   later generation is let in again; a command for one that is gone is dropped and
//!   counted, and its keys are zeroized. Questions are answered even so: `Close`, `Detach`,
//!   `Bind` and `Unbind` never leave anybody waiting.
//! - **Closing.** `Close`: RTCP BYE into the batch, streams and keys dropped,
//!   `RouteEvent::Closed`. DTLS then says close_notify over the path that still stands.
//!   `Detach`: the batch is sent, sockets are closed, `Detached`.
//! - **A queue that is full.** Datagrams are dropped first, everywhere: they are resent.
//!   When events pile up, commands wait, so that no answer is lost.
//! - **A panic** while a connection is handled costs that connection: its sockets are closed
//!   and reported, its routes are reported closed. A panic elsewhere ends the thread; the
//!   event ring hangs up, and the actor reports all connections.
//!
//! # From one to many
//!
//! `RouteCommand::AddForward` has a track that one connection receives be sent by another. A packet is
//! opened once, where it was received, and sealed from there for each subscriber, so that what is for
//! one address stands in one run. Each subscriber has an SSRC, numbers and header extensions of its
//! own, and loses what it is too slow for by itself. What it has lost comes from a history that is kept
//! once for all: a second, 1,024 packets and a megabyte of each encoding. Publishers are asked for a
//! key frame at most twice a second, whoever wants it.
//!
//! # Several threads
//!
//! [`spawn_connected`] starts up to [`MAX_FORWARDERS`] forwarders; [`connect`] is the same for those
//! that you drive yourself. A connection is of the one at `slot % count`. They share nothing: opened
//! packets cross by reference, in batches, over a ring of 64 batches for each direction of each pair,
//! and one that is behind loses the oldest, counted in [`ForwarderStats`].
//!
//! # What it leaves out
//!
//! Streams (TCP, TLS) are tasks of the control plane: what they carry comes and goes by bounded rings,
//! at an allocation for each message. Media of a relay and of streams is framed here, in place.
#![forbid(unsafe_code)]

mod actor;
mod clock;
mod config;
mod consent;
mod fanout;
mod flight;
mod forwarder;
mod handle;
mod hearing;
mod history;
mod link;
#[cfg(any(test, feature = "sim"))]
mod local;
mod lookahead;
mod mesh;
mod messages;
mod outbox;
mod padding;
mod plane;
mod ready;
mod registry;
mod retransmit;
mod stats;
mod tables;
mod thread;
mod timers;

#[cfg(test)]
mod tests;

pub use actor::ForwarderActor;
pub use clock::WallClock;
pub use config::ForwarderConfig;
pub use forwarder::{PacketForwarder, Turn};
pub use handle::{ForwarderHandle, SendCommandError};
#[cfg(any(test, feature = "sim"))]
pub use local::{drive_local, local_waker};
pub use mesh::{MAX_FORWARDERS, connect};
pub use messages::{ForwarderCommand, ForwarderEvent, TakeSnapshot};
pub use stats::{ForwarderStats, RunHistogram, StepTimes};
pub use thread::{ForwarderThread, spawn_connected, spawn_pinned};
