//! Datagrams for real-time media: UDP in batches, demultiplexing, and the **ports** that
//! the other ORTC crates speak through.
//!
//! Protocol crates (`ortc-ice`, `ortc-dtls`, `ortc-rtp`) never touch a socket, a thread or
//! the clock. They send [`SocketCommand`]s to a *socket port*, an
//! [`actix::Recipient<SocketCommand>`], and hear [`SocketEvent`]s and [`DatagramReceived`]
//! on the recipients that they registered there. Three things implement that port:
//!
//! | implementation | runs on | for |
//! |---|---|---|
//! | the packet forwarder of `ortc-forward` | one pinned thread | production |
//! | [`SocketActor`] | any actix system | a protocol crate used alone |
//! | either of them over the simulated network `sim` | virtual time | tests, yours included |
//!
//! All of them decide with the same core, [`paths::PathTable`], whom a datagram belongs to,
//! whether it may be taken, and where an answer goes.
//!
//! # Using the port
//!
//! 1. Send [`Attach`] with the recipients of a connection.
//! 2. Ask for [`EnumerateInterfaces`](SocketCommand::EnumerateInterfaces), [`Bind`] what you
//!    like of them, and hear of [`Bound`](SocketEvent::Bound) sockets.
//! 3. Send STUN anywhere with [`SendControl`]; all STUN that arrives is yours.
//! 4. Say what you find out about paths ([`PathUpdate`]). DTLS and media are taken from
//!    validated paths alone, and leave on the selected one.
//! 5. Once a connection has settled, hand the keeping of [`consent`] over; that is optional.
//! 6. Send [`Detach`], and wait for [`Detached`].
//!
//! Several connections may share a socket, a server's one port for instance: somebody binds it
//! with [`BindShared`], each connection [`Join`]s it under its ICE username fragment, and it is
//! closed when it was released and the last of them has gone. Whose a datagram is then, and
//! what becomes of two connections towards one remote address, is told in [`paths`].
//!
//! Where there is no UDP, a connection opens streams to its peer ([`OpenStream`]) and lets it open
//! some ([`Listen`]), at a port of its own or at a [`StreamListener`]; each is a socket with one
//! remote address, whose paths are [`Encapsulation::Rfc4571`]. The forwarder does that over real
//! sockets.
//!
//! ```
//! use actix::{Actor, Context, Handler};
//! use ortc_io::{
//!     Attach, Bind, ConnectionId, DatagramReceived, SocketActor, SocketCommand, SocketEvent,
//! };
//!
//! struct Printer;
//!
//! impl Actor for Printer {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<DatagramReceived> for Printer {
//!     type Result = ();
//!
//!     fn handle(&mut self, received: DatagramReceived, _: &mut Context<Self>) {
//!         println!("{} bytes from {}", received.datagram.len(), received.path.remote);
//!     }
//! }
//!
//! impl Handler<SocketEvent> for Printer {
//!     type Result = ();
//!
//!     fn handle(&mut self, event: SocketEvent, _: &mut Context<Self>) {
//!         println!("{event:?}");
//!         actix::System::current().stop();
//!     }
//! }
//!
//! let system = actix::System::new();
//! system.block_on(async {
//!     let (port, printer) = (SocketActor::new().start(), Printer.start());
//!     let connection = ConnectionId { slot: 0, generation: 0 };
//!     port.do_send(SocketCommand::Attach(Attach {
//!         connection,
//!         events: printer.clone().recipient(),
//!         stun: printer.clone().recipient(),
//!         dtls: printer.recipient(),
//!     }));
//!     let address = "127.0.0.1:0".parse().unwrap();
//!     port.do_send(SocketCommand::Bind(Bind { connection, token: 1, address }));
//! });
//! system.run().unwrap(); // until the event has come
//! ```
//!
//! # Moving datagrams
//!
//! Underneath, a [`DatagramIo`] moves batches: [`UdpIo`] over real sockets (`recvmmsg`,
//! `sendmmsg`, GSO and GRO where the kernel has them) or `sim::SimIo` over a seeded
//! simulated network. A component that is driven by it has one function, `turn(now, &mut
//! io)`, which receives a batch, works, sends a batch and returns its next deadline; over
//! real sockets it is called in turn with [`UdpIo::wait`], over the simulated network with
//! `SimIo::readiness` and a timer.
//!
//! # Decisions
//!
//! - **Datagrams are dropped, and counted, never queued** in this crate: a full mailbox, a
//!   full send buffer and an unknown sender are all the same to a real-time protocol. What
//!   waits (DTLS and media from paths that are not validated yet) is bounded by
//!   [`paths::MAX_PARKED`] and [`paths::MAX_PARKED_MEDIA`].
//! - **2,048 bytes** are the longest datagram taken. No protocol here sends more than an
//!   Ethernet frame holds.
//! - **Runs.** Datagrams of equal length for one
//!   address that follow each other in a [`SendBatch`] become one run, which costs a tenth
//!   of as many calls; so write them in that order.
//! - **The features** are `sim`, the simulated network, its virtual clock and the test probes, and
//!   `fuzzing`, entrances to private parsers. Nothing of either is in a production build.
//! - **Unsafe code** is round system calls that have no safe wrapper (`udp/sys_linux.rs`), the
//!   registration of one descriptor (`interface_watch.rs`) and one instruction that fetches memory
//!   (`prefetch.rs`).
//!
//! What this crate leaves out on purpose: it parses nothing beyond the first two bytes of a
//! datagram (RFC 7983), on a shared socket what names the connection in a STUN message, binding
//! messages on paths that ICE has [delegated](consent), and the first one on a stream that a peer
//! opens ([`Listen`]). Of the latter two alone it holds state and keys.

mod batch;
mod clock;
mod connection;
pub mod consent;
mod demux;
mod flight;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod interface_watch;
mod interfaces;
mod keys;
mod messages;
pub mod paths;
mod prefetch;
mod resolver;
pub mod ring;
pub mod shared;
mod socket_actor;
mod stream;
mod tally;
mod udp;

#[cfg(feature = "sim")]
pub mod probe;
#[cfg(feature = "sim")]
pub mod sim;

pub use batch::{DatagramIo, ReceiveBatch, ReceivedDatagram, SendBatch, SendReport};
pub use clock::now;
pub use connection::{ConnectionId, SocketId};
pub use consent::{ConsentCredentials, ConsentDelegation, ConsentReturn, ConsentStats};
pub use demux::{DatagramKind, classify};
pub use flight::{FlightConfig, FlightDirection, FlightRecorder, FlightRecording, RecordingReply};
pub use interface_watch::InterfaceWatch;
pub use interfaces::{InterfaceAddress, InterfaceKind, enumerate_interfaces};
pub use keys::{SrtpKeys, SrtpProfile};
pub use messages::{
    Attach, Bind, BindShared, DatagramReceived, Detach, Detached, Encapsulation, Join, Listen,
    ListenOn, OpenStream, Path, PathUpdate, SendControl, Share, SharedBound, SharedSocket,
    SocketCommand, SocketEvent, StreamKind, StreamTls,
};
pub use prefetch::{prefetch, prefetch_front};
pub use resolver::{LinkNameStats, LinkNames, PublishedName, is_of_the_link, resolve};
pub use socket_actor::{AttachMedia, ReadSocketStats, SendMedia, SocketActor, SocketActorStats};
pub use stream::{
    AcceptedStream, ListenerStats, Listening, StreamEnd, StreamListener, StreamTask,
    open_peer_stream, open_stream,
};
pub use tally::Tally;
pub use udp::{Offload, UdpConfig, UdpIo, UdpStats, run_in_real_time};
