/// Why bytes are not an RTP or RTCP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtpError {
    /// It ends before its headers do.
    #[error("the packet is too short")]
    TooShort,
    /// The version is not 2 (RFC 3550 §5.1, §6.1).
    #[error("the version is not 2")]
    Version,
    /// The padding count is zero or larger than the payload.
    #[error("the padding count is wrong")]
    Padding,
    /// An RTCP length field points past the end of the packet.
    #[error("an RTCP length points past the end")]
    Length,
    /// An extension element reaches past its block, or does not fit the buffer.
    #[error("a header extension element is malformed")]
    Extension,
    /// The buffer to write into is too small.
    #[error("the buffer is too small")]
    NoRoom,
}

/// Why a packet was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// A master key or salt has not the length of its profile: a fault of the key exchange.
    #[error("the master key or salt does not have the length that the SRTP profile requires")]
    KeyLength,
    /// The packet is malformed: a fault of whoever sent it.
    #[error("the packet is malformed: {0}")]
    Malformed(#[from] RtpError),
    /// The authentication tag is wrong: other keys, or somebody in between.
    #[error("the packet is not authentic")]
    NotAuthentic,
    /// The SRTCP packet is not encrypted (E = 0); refused, although RFC 3711 §3.4 has it.
    #[error("the SRTCP packet is not encrypted")]
    NotEncrypted,
    /// The index was seen before, or is older than the replay window (RFC 3711 §3.3.2).
    #[error("the packet is a replay, or too old to tell")]
    Replayed,
    /// What is to be sealed again is not what was sealed under its index before: a fault of the
    /// caller, and nothing that may be sent.
    #[error("the packet is not what was sealed under its index before")]
    NotIdentical,
    /// More SSRCs than a connection may have.
    #[error("too many SSRCs")]
    TooManySsrcs,
    /// The packet index is used up: new keys are needed (RFC 3711 §9.2).
    #[error("the packet index is used up; agree on new keys")]
    IndexExhausted,
    /// The buffer has no room for the tag: a fault of the caller.
    #[error("the buffer has no room for the authentication tag")]
    NoRoom,
}
