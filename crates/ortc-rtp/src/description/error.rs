/// What is wrong with an [`RTCTrackDescription`](crate::RTCTrackDescription): a fault of whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// The SSRC is no decimal number of 32 bits.
    #[error(
        "the ssrc {found:?} is not a decimal number from 0 to 4294967295: pass it as a string of digits"
    )]
    Ssrc {
        /// What it is, cut to 32 characters.
        found: String,
    },
    /// There is no codec.
    #[error("codecs is empty: describe at least the codec that the sender uses")]
    NoCodec,
    /// There are more codecs than payload types.
    #[error(
        "there are {found} codecs, and only 96 payload types to tell them apart: describe fewer"
    )]
    TooManyCodecs {
        /// How many there are.
        found: usize,
    },
    /// A codec has no name.
    #[error(
        "the codec with payload-id {payload_id} has an empty name: name it, for example \"opus\""
    )]
    NamelessCodec {
        /// Its payload type.
        payload_id: u8,
    },
    /// A payload type has more than seven bits.
    #[error("payload-id {payload_id} is above 127: choose one from 96 to 127")]
    PayloadIdTooLarge {
        /// What it is.
        payload_id: u8,
    },
    /// A payload type cannot be told from RTCP on the same port (RFC 5761 §4).
    #[error(
        "payload-id {payload_id} (64 to 95) cannot be told from RTCP: choose one from 96 to 127"
    )]
    PayloadIdOfRtcp {
        /// What it is.
        payload_id: u8,
    },
    /// Two codecs have the same payload type.
    #[error("payload-id {payload_id} stands for two codecs: give each its own")]
    DuplicatePayloadId {
        /// What it is.
        payload_id: u8,
    },
    /// A clock rate is zero.
    #[error("the codec {name:?} has a clockRate of 0: leave it out, or give it in Hz")]
    NoClock {
        /// The codec.
        name: String,
    },
    /// A clock rate is not that of the payload format.
    #[error(
        "the clockRate of {name:?} is always {expected}, not {found}: leave it out, or correct it"
    )]
    WrongClockRate {
        /// The codec.
        name: String,
        /// What its payload format says.
        expected: u32,
        /// What the description says.
        found: u32,
    },
    /// What a codec `red` may hold is no list of payload types.
    #[error(
        "the payloadTypes of the codec with payload-id {payload_id} are no payload types: list \
         them as \"110/110\" (RFC 2198 §5), or leave the parameter out"
    )]
    RedundantTypes {
        /// Its payload type.
        payload_id: u8,
    },
    /// A codec `rtx` does not say what it sends again.
    #[error(
        "the codec \"rtx\" with payload-id {payload_id} needs a parameter apt that is the \
         payload-id of another codec of the track (RFC 4588 §8.1)"
    )]
    AssociatedType {
        /// Its payload type.
        payload_id: u8,
    },
    /// The SSRC of what is sent again is no decimal number of 32 bits.
    #[error(
        "the rtxSsrc {found:?} is not a decimal number from 0 to 4294967295: pass it as a string \
         of digits"
    )]
    RtxSsrc {
        /// What it is, cut to 32 characters.
        found: String,
    },
    /// What is sent again has the SSRC of the track.
    #[error("rtxSsrc is the ssrc of the track: what is sent again needs one of its own")]
    SameRtxSsrc,
    /// A codec names more feedback than there is.
    #[error(
        "the codec with payload-id {payload_id} has {found} entries of rtcpFeedback, at most 32 \
         are taken"
    )]
    TooMuchFeedback {
        /// Its payload type.
        payload_id: u8,
        /// How many there are.
        found: usize,
    },
    /// A kind of feedback is no name of one.
    #[error(
        "an rtcpFeedback of the codec with payload-id {payload_id} is not 1 to 64 printable ASCII \
         characters with single spaces, such as \"nack pli\""
    )]
    Feedback {
        /// The codec's payload type.
        payload_id: u8,
    },
    /// The track belongs to too many streams.
    #[error("msid has {found} ids, at most 16 are taken")]
    TooManyMsids {
        /// How many there are.
        found: usize,
    },
    /// The id of a stream is empty or too long.
    #[error("an msid has {found} bytes: use 1 to 256")]
    MsidLength {
        /// How many it has.
        found: usize,
    },
    /// The extension header pairs do not fit one element.
    #[error(
        "rtpExtHeaders takes {found} bytes as lines of name=value, at most 255 fit: shorten it"
    )]
    ExtHeadersLength {
        /// How many they take.
        found: usize,
    },
    /// There are more encodings than anybody sends.
    #[error("there are {found} encodings, at most 4 are taken")]
    TooManyEncodings {
        /// How many there are.
        found: usize,
    },
    /// A track of sound has encodings.
    #[error("only a track of video has encodings: describe each sound as a track")]
    EncodingsOfSound,
    /// The name of an encoding is none.
    #[error("the rid {found:?} is not 1 to 16 letters, digits, hyphens and underscores")]
    Rid {
        /// What it is, cut to 32 characters.
        found: String,
    },
    /// Two encodings have the same name.
    #[error("the rid {rid:?} names two encodings: give each its own")]
    DuplicateRid {
        /// What it is.
        rid: String,
    },
    /// Nothing says which packets are those of an encoding.
    #[error(
        "the encoding {rid:?} has no ssrc, and headerExtensions has no \
         urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id to know its packets by"
    )]
    NoRidExtension {
        /// Its name.
        rid: String,
    },
    /// Two encodings have the same SSRC.
    #[error("the SSRC {ssrc} is that of two encodings: give each its own")]
    DuplicateEncodingSsrc {
        /// What it is.
        ssrc: u32,
    },
    /// Pictures are to be divided by something that makes them no smaller.
    #[error("the scaleResolutionDownBy of the encoding {rid:?} is not 1 or more")]
    Scale {
        /// The encoding.
        rid: String,
    },
    /// A scalability mode is none.
    #[error("the scalabilityMode of the encoding {rid:?} is not 1 to 16 characters, as L1T3 is")]
    ScalabilityMode {
        /// The encoding.
        rid: String,
    },
    /// There are more header extensions than any packet has.
    #[error("there are {found} headerExtensions, at most 32 are taken")]
    TooManyHeaderExtensions {
        /// How many there are.
        found: usize,
    },
    /// The name of a header extension is no URI.
    #[error(
        "the uri of the header extension with id {id} is not 1 to 256 printable ASCII characters"
    )]
    HeaderExtensionUri {
        /// Its id.
        id: u8,
    },
    /// No header extension can have this id (RFC 8285 §4.2).
    #[error("a header extension cannot have the id {id}: choose one from 1 to 14, or 16 to 255")]
    HeaderExtensionId {
        /// What it is.
        id: u8,
    },
    /// Two header extensions have the same id or the same name.
    #[error("the header extension with id {id} is there twice, by its id or by its uri")]
    DuplicateHeaderExtension {
        /// The id of the second.
        id: u8,
    },
}
