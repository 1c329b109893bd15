use std::fmt;

/// Longest piece of foreign text that an error repeats.
const QUOTED: usize = 64;

/// A piece of somebody else's text, cut to 64 characters, for an error message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().take(QUOTED).collect())
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Why an input from the signalling was refused, by what it was.
///
/// All of these are the fault of whoever wrote the input: the peer, or the application in
/// between. Nothing was changed; the session goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IceError {
    /// A candidate breaks the grammar of RFC 8839 §5.1.
    #[error("malformed ICE candidate: {0}")]
    Candidate(#[from] CandidateError),
    /// Credentials break RFC 8445 §5.3, or are ours.
    #[error("unusable ICE credentials: {0}")]
    Credentials(#[from] CredentialsError),
    /// An ICE server is not described by RFC 7064 or RFC 7065.
    #[error("unusable ICE server: {0}")]
    Server(#[from] ServerError),
}

/// What is wrong with a candidate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// The line ends too early.
    #[error("the line ends before its {0}")]
    Truncated(&'static str),
    /// The line does not begin with `candidate:` or `a=candidate:`.
    #[error("the line does not begin with \"candidate:\" but with {0}")]
    NotACandidateLine(Quoted),
    /// Text that is not a candidate line at all: longer than 1,024 bytes.
    #[error("the line is longer than 1,024 bytes")]
    TooLong,
    /// Not 1 to 32 ice-chars.
    #[error("foundation {0} is not 1 to 32 letters, digits, '+' or '/'")]
    Foundation(Quoted),
    /// Not 1 to 256.
    #[error("component {0} is not a number from 1 to 256")]
    Component(Quoted),
    /// Not a token.
    #[error("transport {0} is not a token such as \"udp\"")]
    Transport(Quoted),
    /// Not 1 to 2³¹ − 1.
    #[error("priority {0} is not a number from 1 to 2147483647")]
    Priority(Quoted),
    /// Neither a usable IP address nor a name.
    #[error("connectionAddress {0} is neither a unicast IP address nor a host name")]
    Address(Quoted),
    /// Not 1 to 65535.
    #[error("connectionPort {0} is not a number from 1 to 65535")]
    Port(Quoted),
    /// `typ` is missing.
    #[error("\"typ\" is expected where {0} stands")]
    TypMissing(Quoted),
    /// Not one of RFC 8839's types.
    #[error("type {0} is none of host, srflx, prflx, relay")]
    Kind(Quoted),
    /// Not an IP address or name.
    #[error("relAddress {0} is neither an IP address nor a host name")]
    RelAddress(Quoted),
    /// Not 0 to 65535.
    #[error("relPort {0} is not a number from 0 to 65535")]
    RelPort(Quoted),
    /// Not one of RFC 6544's types.
    #[error("tcpType {0} is none of active, passive, so")]
    TcpType(Quoted),
}

/// What is wrong with credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Not 4 to 256 ice-chars.
    #[error("usernameFrag must be 4 to 256 letters, digits, '+' or '/', and is {0}")]
    UsernameFrag(Quoted),
    /// Legal, but the engine cannot write it: both fragments and a colon have 128 bytes.
    #[error("usernameFrag has {len} characters; beside ours at most {limit} fit a request")]
    UsernameFragTooLong {
        /// Its length.
        len: usize,
        /// What fits.
        limit: usize,
    },
    /// Not 22 to 256 ice-chars. (It is a secret, so only its length is told.)
    #[error("password must be 22 to 256 letters, digits, '+' or '/'; it has {len} characters")]
    Password {
        /// Its length in characters.
        len: usize,
    },
    /// The peer's credentials equal ours: a connection to itself.
    #[error("these are our own credentials: a connection cannot be made with itself")]
    Ours,
}

/// What is wrong with the description of an ICE server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// There is no URL.
    #[error("url names no server")]
    NoUrl,
    /// The scheme is none of `stun`, `stuns`, `turn`, `turns`.
    #[error("{0} does not begin with stun:, stuns:, turn: or turns:")]
    Scheme(Quoted),
    /// The host is missing or malformed.
    #[error("{0} names no valid host")]
    Host(Quoted),
    /// The port is not 1 to 65535.
    #[error("{0} has a port that is not a number from 1 to 65535")]
    Port(Quoted),
    /// The query is not `?transport=udp` or `?transport=tcp` of a TURN URI; URIs of STUN have none
    /// (RFC 7064).
    #[error(
        "{0} has a query that is not transport=udp or transport=tcp of a turn: or turns: URI; \
         stun: and stuns: URIs have none"
    )]
    Query(Quoted),
    /// A TURN server wants a user and a credential (RFC 8489 §9.2).
    #[error("{0} is a TURN server and needs a username and a credential")]
    NoCredential(Quoted),
}

/// Why a candidate that is legal takes no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoredReason {
    /// It breaks the grammar; validate it first to learn how.
    #[error("it is malformed")]
    Malformed,
    /// Its address is a name that nobody on the link knows, or none of a link (`NAME.local`):
    /// others are not looked up.
    #[error("its address is a name that cannot be resolved")]
    NameUnresolved,
    /// It is neither a UDP candidate nor an active or passive TCP candidate, or the latter, and
    /// [`TcpCandidates`](crate::TcpCandidates) has none of ours that could be paired with it.
    #[error("nothing here can be paired with its transport")]
    TransportUnsupported,
    /// Its component is not 1; RTP and RTCP always share one (RFC 5761).
    #[error("its component is not 1")]
    OtherComponent,
    /// Its address is of a single link, and those are not used
    /// ([`InterfaceFilter::link_local`](crate::InterfaceFilter::link_local)), or it is no host
    /// candidate of UDP.
    #[error("its address is link-local")]
    LinkLocal,
    /// There are 100 of the peer already.
    #[error("there are too many")]
    TooMany,
    /// It is none of the candidates that were found here.
    #[error("no such local candidate was found")]
    UnknownLocal,
}
