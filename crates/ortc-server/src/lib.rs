//! The `ortc` program as a library: a server that tests can start in their own process, and a
//! headless peer.
//!
//! * [`Server`] serves HTTP and, as WebSockets, signalling for *pairs*: two peers that give
//!   the same name are passed each other's messages. [`pairs`] is the core of it, without a
//!   socket or a clock.
//! * It serves *rooms* as well: each member is in a call with the server, which forwards
//!   everybody's streams to everybody else. [`rooms`] is the core of that, without a socket, a
//!   clock or a connection; a task for each member owns the server's connection to it.
//! * It serves the page of a room, and `ortc.js`, the drafts' API in a browser, on which that
//!   page is built (`docs/page.md`, `docs/javascript.md`).
//! * [`signalling`] are the messages that all of them exchange.
//! * [`call`] is the headless peer: it plays media files and records what it hears and sees.
//! * [`doctor`] explains what the network lets through.
//! * [`cli`] is the command line.
//!
//! ```
//! use ortc_server::{Server, ServerConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), ortc_server::ServeError> {
//! let listen = ([127, 0, 0, 1], 0).into();
//! let server = Server::bind(ServerConfig { listen, ..ServerConfig::default() }).await?;
//! println!("{}", server.url());
//! server.run(async { /* until it completes */ }).await
//! # }
//! ```

#![forbid(unsafe_code)]

mod access;
mod admission;
pub mod call;
pub mod cli;
mod demo;
pub mod doctor;
mod door;
mod member;
mod metrics;
pub mod pairs;
mod relay;
mod room_server;
pub mod rooms;
mod serve;
pub mod signalling;
mod site;
mod socket;
mod tls;

pub use access::AccessConfig;
pub use door::StreamLimits;
pub use serve::{ServeError, Server, ServerConfig};
pub use tls::{Authorities, TlsError, TlsFiles};
