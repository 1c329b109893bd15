//! The `ortc` program as a library: a signalling server that tests can start in their own
//! process, and a headless peer.
//!
//! * [`Server`] serves HTTP and, as WebSockets, signalling for *pairs*: two peers that give
//!   the same name are passed each other's messages. [`pairs`] is the core of it, without a
//!   socket or a clock.
//! * [`signalling`] are the messages that the two exchange.
//! * [`call`] is the headless peer: it plays Ogg/Opus files and records what it hears.
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

pub mod call;
pub mod cli;
pub mod pairs;
mod relay;
mod serve;
pub mod signalling;

pub use serve::{ServeError, Server, ServerConfig};
