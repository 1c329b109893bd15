//! Interactive Connectivity Establishment (RFC 8445, trickle by RFC 8838) as an actor.
//!
//! An [`IceActor`] finds a path between two hosts and keeps watch over it. It gathers the
//! candidates of its interfaces and of STUN and TURN servers, tells its owner of each, checks those that the owner
//! has *set* against the candidates of the peer, and tells the socket port which path is
//! authenticated, validated, selected or lost. It never sees media.
//!
//! # Driving it
//!
//! 1. Make an [`IceConfig`] with credentials, and an [`IceActor`] with the two ports it
//!    speaks to: the socket port (`SocketActor` of `ortc-io`, or the packet forwarder) and
//!    its owner.
//! 2. Register it at the socket port with [`SocketCommand::Attach`](ortc_io::SocketCommand).
//! 3. Send [`IceCommand::Gather`]. Signal each [`IceEvent::CandidateFound`] to the peer and
//!    hand it back with [`IceCommand::SetLocalCandidate`]. One that is not handed back sends
//!    nothing and answers nothing.
//! 4. Send what the peer signals, in any order: [`IceCommand::SetRemoteCandidate`],
//!    [`IceCommand::Connect`].
//! 5. [`IceEvent::ActivePair`] names the pair that media uses; it comes again when a better
//!    one is found.
//!
//! A server's connections can share a socket: [`IceConfig::with_shared_sockets`] has an agent
//! join it under its own username fragment and bind none. Should a newer connection validate
//! a path of such a socket, the older one's is lost, for good.
//!
//! A server that everybody can reach need not look for its peers: [`IceConfig::with_lite`].
//!
//! One local side can talk to several peers: [`IceCommand::ShareSockets`] lets *forks* in, which
//! are agents with the same credentials on the same sockets
//! ([`IceConfig::with_local_side_of`]), each connected to a peer of its own.
//!
//! # Servers
//!
//! [`IceConfig::with_servers`] names STUN and TURN servers. All are asked at once, from each of
//! the connection's sockets: `stun:` and `turn:` over UDP, `turn:…?transport=tcp`, `turns:` and
//! `stuns:` over a stream that the socket port opens. (`stuns:` tells of no candidate, only whether
//! the server answers.) [`IceEvent::EndOfCandidates`] comes when each has
//! answered or failed, which it does after 10 s at the latest; those that fail are told by
//! [`IceEvent::ServerFailed`]. Names are resolved by the actor, off the thread.
//!
//! What a TURN server relays is a path with the encapsulation
//! [`ChannelData`](ortc_io::Encapsulation::ChannelData), which the socket port frames. Peers are
//! reached through channels, which are bound as soon as both candidates are known; only checks to another
//! port of an address that has one go as Send indications, until that port has its own.
//! Allocations are given back at the end. One that is lost, as its server has restarted or the
//! stream to it has broken, is withdrawn and made again by itself: after half a second, then more
//! and more seldom, for half an hour. The new one is another candidate, to be set and signalled. A
//! server has one allocation for each socket; so a connection on a socket that it shares has
//! another one, for its relay alone.
//!
//! [`CandidateTypes`] leaves out what is not to be signalled.
//!
//! # Links without a router
//!
//! [`IceConfig::with_link_local`] gathers addresses of a single link, too. The peer's are used only
//! with one of ours on the same link; an IPv6 one is tried on each link that we have, as its scope is
//! never signalled.
//!
//! # TCP
//!
//! [`IceConfig::with_tcp_candidates`] adds TCP candidates (RFC 6544): *active* ones, which connect
//! to passive ones of the peer, and *passive* ones, each a port of its own or all on
//! [one that connections share](IceConfig::with_tcp_port). A stream is a path with the
//! encapsulation [`Rfc4571`](ortc_io::Encapsulation::Rfc4571), which the socket port frames. Pairs
//! of TCP come after all direct ones of UDP and before relays, and nothing is opened while UDP
//! works. A stream that ends is opened again by the active side, at once if it was of use, then
//! after 250 ms, doubled up to 16 s; each side has at most 16 streams of either kind, and closes
//! those that were of no use for 15 s. Simultaneous opens are not done.
//!
//! # Names in place of addresses
//!
//! [`IceConfig::with_hidden_addresses`] has host candidates carry a random name of the link, as
//! browsers do. Names of the peer's candidates (`NAME.local`) are always resolved.
//!
//! `examples/two_agents.rs` is a whole program. The actor is a shell: [`IceAgent`] is the
//! same machine without a socket, a thread or a clock, for whoever drives his own loop.
//!
//! [`diagnosis`] asks such servers what the network of this host lets through, and why a call may
//! fail.
//!
//! # How it differs from the letter of RFC 8445
//!
//! - Pairs are never frozen, as there is one stream with one component (§6.1.2.6).
//! - A nomination is not final: the controlling side nominates again when a better pair
//!   succeeds, and both go back to a spare when the selected pair fails (§8.1.1).
//! - There is no failed state (§6.1.3): while disconnected, all pairs are formed again every
//!   two seconds, so that a peer that comes late, or back, is found.
//! - A triggered check (§7.3.1.4) is a copy of the last one of its pair, if that was not answered.
//!   And while requests of the peer come in and no pair is selected, every pair is checked four
//!   times as often.
//! - A peer-reflexive candidate gets the priority of a relayed one when the signalling says that it
//!   is one (§7.3.1.3 leaves that of its checks, by which a relay would rank before what a STUN
//!   server has told of).
//! - The controlling side tells of its choice by checks of its own: of the selected pair until one
//!   is answered, and without a nomination of those that were selected before (§8.1.1 ends with the
//!   first nomination).
//! - Requests to servers wait 150 ms for a first answer, and then for one and a half of the round
//!   trips that were measured, by any request to that server, between 50 and 500 ms (RFC 8489 §6.2.1
//!   has 500 ms, unless more is known). The second copy waits as long as the first, and only those
//!   after it twice as long each.
//! - A controlled side selects the first pair of its own that works, and later what the peer nominates
//!   (§12.1.1 lets it send there; §8.1.1 would have it select nothing). It stays there when the peer
//!   nominates others, too, as those with aggressive nomination do (RFC 5245 §8.1.1.2), and leaves it
//!   for what was nominated when its own is not any more.
//! - Ten seconds after connecting, only the selected pair and two spares are checked (§8.3
//!   would free the other candidates; here they go on answering).
//! - If both sides are controlled, the one with the smaller tie-breaker takes control
//!   (§7.3.1.1 has the larger do so). It settles with peers that follow the letter as well.
//! - FINGERPRINT is sent, and not required of the peer: MESSAGE-INTEGRITY is (§7.2.2).
//! - A selected pair is left for another valid one by either side, when the socket port doubts it
//!   ([`SocketEvent::PathDoubted`](ortc_io::SocketEvent)) or a response is overdue and checks in
//!   quick succession are not answered (§12.1.1 has a controlled side stay on the nominated pair).
//! - Together, both username fragments have at most 127 characters (§5.3 allows 256 each).
//!
//! Consent is that of RFC 7675: asked for every 4 to 6 s, gone after 30 s without a
//! response. Once a connection has settled, that is [handed](ortc_io::consent) to the socket
//! port, if it takes it: [`Output::DelegateConsent`]. It comes back with the first response that
//! is overdue, and with everything that has ICE look at other paths: new candidates, a restart, a
//! socket that is gone, another nomination. Spares are checked here all the while.
//!
//! # What is left out for now
//!
//! TURN over DTLS, simultaneous opens of TCP, link-local addresses over TCP, answering a restart
//! of the peer without new credentials from the owner, and restarting a side that others share or
//! that streams are opened to. What takes no part for such a reason is reported by
//! [`IceEvent::CandidateIgnored`] and counted in [`IceStats`].

#![forbid(unsafe_code)]

mod actor;
mod agent;
mod aliases;
mod candidate_line;
mod config;
mod credentials;
mod delegation;
mod description;
pub mod diagnosis;
mod doubt;
mod engine;
mod error;
mod held;
mod inbound;
mod link_local;
mod local;
mod messages;
mod nomination;
mod paths;
mod random;
mod remote;
mod restart;
mod server;
mod servers;
mod state;
mod stats;
mod tcp;
mod transactions;
mod upkeep;

pub use actor::IceActor;
pub use agent::{IceAgent, Output};
pub use config::{
    CandidateTypes, Fork, IceConfig, IceTiming, InterfaceFilter, SharedHost, TcpCandidates, TcpPort,
};
pub use description::{RTCIceCandidateDescription, RTCIceConnectionInfo};
pub use error::{CandidateError, CredentialsError, IceError, IgnoredReason, Quoted, ServerError};
pub use messages::{IceCommand, IceEvent, IceState, ReadIceStats};
pub use server::{IceServerScheme, IceServerTransport, IceServerUri, RTCIceServer};
pub use servers::ServerFailure;
pub use stats::IceStats;
