use std::io;

/// Why a file cannot be read as Ogg/Opus.
#[derive(Debug, thiserror::Error)]
pub enum OggOpusReadError {
    /// There is not a single byte in it.
    #[error("the file is empty; an Ogg/Opus file is needed")]
    Empty,
    /// It does not begin with an Ogg page.
    #[error("this is no Ogg file{}; an Ogg/Opus file is needed", resemblance(*.looks_like))]
    NotOgg {
        /// What its first bytes look like, if they are known.
        looks_like: Option<&'static str>,
    },
    /// It is an Ogg file of something else.
    #[error("an Ogg file, but without an Opus stream: found {found}; an Ogg/Opus file is needed")]
    NoOpus {
        /// The codecs that were found, separated by commas.
        found: String,
    },
    /// Its Opus header is too short or of a version that is not known (RFC 7845 §5.1).
    #[error("the Opus header of this Ogg file is malformed: {reason}")]
    BadHead {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It has more than two channels, which RTP's Opus cannot carry (RFC 7587 §4.2).
    #[error(
        "this Opus file has {channels} channels in mapping family {family}; one or two channels can be sent"
    )]
    TooManyChannels {
        /// Its channels.
        channels: u8,
        /// Its channel mapping family (RFC 7845 §5.1.1).
        family: u8,
    },
    /// The comment header is missing after the Opus header (RFC 7845 §5.2).
    #[error("this Ogg/Opus file has no comment header (OpusTags) after its Opus header")]
    NoTags,
    /// A page fails its checksum or does not begin where the last one ended.
    #[error("this Ogg file is damaged at byte {offset}")]
    Damaged {
        /// Where the page begins.
        offset: u64,
    },
    /// A packet is no Opus packet or longer than RFC 7845 §6 lets it be.
    #[error("packet {index} of this Ogg/Opus file is no valid Opus packet")]
    BadPacket {
        /// Its number, from 0, headers not counted.
        index: u64,
    },
    /// The system failed to read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
}

fn resemblance(what: Option<&'static str>) -> String {
    what.map(|what| format!(", it looks like {what}")).unwrap_or_default()
}

/// Why a recording cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum OggOpusWriteError {
    /// Only one or two channels can be written (channel mapping family 0, RFC 7845 §5.1.1.1).
    #[error("{0} channels asked for; an Ogg/Opus file is written with one or two")]
    Channels(u8),
    /// The system failed to write.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
}

/// Why a media file cannot be read any further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaReadError {
    /// It is an Ogg file.
    #[error(transparent)]
    Ogg(#[from] OggOpusReadError),
    /// It is a WAV file.
    #[error("this WAV file cannot be read: {reason}")]
    Wav {
        /// What is wrong with it.
        reason: String,
    },
    /// It is an IVF file.
    #[error("this IVF file cannot be read: {reason}")]
    Ivf {
        /// What is wrong with it.
        reason: String,
    },
    /// It is a WebM or Matroska file.
    #[error("this WebM or Matroska file cannot be read: {reason}")]
    Matroska {
        /// What is wrong with it.
        reason: String,
    },
    /// It is an H.264 byte stream.
    #[error("this H.264 stream cannot be read: {reason}")]
    AnnexB {
        /// What is wrong with it.
        reason: String,
    },
    /// The system failed to read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
}
