use std::time::Duration;

use actix::Message;

use crate::{
    IceStats, IgnoredReason, RTCIceCandidateDescription, RTCIceConnectionInfo, ServerFailure,
    SharedHost,
};

/// What the owner of an ICE actor asks of it.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum IceCommand {
    /// Starts gathering; candidates come as [`IceEvent::CandidateFound`]. Sent once, first.
    Gather,
    /// Lets a candidate that was found take part. Until then it sends and answers nothing.
    SetLocalCandidate(RTCIceCandidateDescription),
    /// Adds a candidate of the peer, before or after [`IceCommand::Connect`].
    SetRemoteCandidate(RTCIceCandidateDescription),
    /// A candidate of the peer is gone: its paths are lost, and nothing is sent there any more.
    /// One that was not known is ignored.
    RemoveRemoteCandidate(RTCIceCandidateDescription),
    /// The peer has no more candidates. Optional.
    RemoteEndOfCandidates,
    /// Starts the checks; sent again with other credentials, it follows a restart of the peer.
    Connect {
        /// The peer's credentials.
        remote: RTCIceConnectionInfo,
        /// The role to begin with; role conflicts are settled by tie-breaker.
        controlling: bool,
    },
    /// Takes these credentials in place of ours, which the owner signals (RFC 8445 §9): checks
    /// begin anew, and media goes on meanwhile. The sockets and candidates stay, and requests
    /// with the former ones are answered until the first with these. Refused and counted where
    /// the sockets are [shared](crate::IceConfig::shared), and with passive TCP candidates.
    Restart(RTCIceConnectionInfo),
    /// Gathers again: reports what is new, withdraws what is gone.
    Update,
    /// Lets forks join the sockets of this agent, and those that it will have, under its
    /// credentials; they are told by [`IceEvent::SocketsShared`]. Sent again, they are told
    /// again.
    ShareSockets,
    /// Tells a fork ([`IceConfig::with_local_side_of`](crate::IceConfig::with_local_side_of))
    /// which sockets of its local side there are beside those that it knows.
    AddShared {
        /// The sockets.
        hosts: Vec<SharedHost>,
        /// Whether the gathering that finds them is over.
        complete: bool,
    },
    /// Stops. Nothing is sent any more.
    Close,
}

/// What an ICE actor tells its owner.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum IceEvent {
    /// A local candidate was found: signal it to the peer and hand it back with
    /// [`IceCommand::SetLocalCandidate`].
    CandidateFound(RTCIceCandidateDescription),
    /// A local candidate is gone, as found by [`IceCommand::Update`].
    CandidateWithdrawn(RTCIceCandidateDescription),
    /// All candidates of this gathering have been reported: every server has answered or failed.
    EndOfCandidates,
    /// Sockets that forks may join: an answer to [`IceCommand::ShareSockets`], and what has come
    /// since.
    SocketsShared {
        /// The sockets.
        hosts: Vec<SharedHost>,
        /// Whether the gathering is over.
        complete: bool,
    },
    /// A candidate that was set takes no part; the session goes on without it.
    CandidateIgnored {
        /// The candidate, as it was set.
        candidate: RTCIceCandidateDescription,
        /// Why.
        reason: IgnoredReason,
    },
    /// A STUN or TURN server is of no use, or not any more; gathering goes on without it.
    ServerFailed {
        /// Its URI, as it was configured.
        url: String,
        /// Why.
        reason: ServerFailure,
    },
    /// How long the selected path takes there and back, at most; told before the state is
    /// [`Connected`](IceState::Connected), for timers of what uses the path then.
    RoundTrip(Duration),
    /// The state has changed.
    StateChanged(IceState),
    /// The pair that media uses from now on; comes again when a better one is found.
    ActivePair {
        /// Ours.
        local: RTCIceCandidateDescription,
        /// Theirs; type `prflx` if it was learned from its checks only.
        remote: RTCIceCandidateDescription,
    },
}

/// The state of an ICE actor, named by what it awaits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IceState {
    /// [`IceCommand::Connect`] has not come yet.
    AwaitingConnect,
    /// No pair has worked so far.
    Checking,
    /// A pair is selected and consent is fresh.
    Connected,
    /// Consent has expired (RFC 7675) or every pair has failed; checks go on.
    Disconnected,
    /// Closed for good.
    Closed,
}

/// Asks an ICE actor for what it has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "IceStats")]
pub struct ReadIceStats;
