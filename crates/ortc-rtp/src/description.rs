mod encoding;
mod error;
mod feedback;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::encoding::{RTCEncoding, ScaleFactor};
pub use self::error::DescriptionError;
pub use self::feedback::RtcpFeedback;
use crate::{PayloadType, RTCHeaderExtension, Ssrc, header_extension};

/// Most codecs in one description: there are 96 payload types beside RTCP.
const MAX_CODECS: usize = 96;
/// Most streams that one track may belong to, and the longest id of one in bytes.
const MAX_MSIDS: usize = 16;
const MAX_MSID_LEN: usize = 256;
/// Most bytes of all extension header pairs as `name=value` lines: one RFC 8285 element.
const MAX_EXT_HEADERS: usize = 255;
/// The parameter of `red` that lists what it may hold; the name is that of the ORTC API of the
/// W3C's community group, whose drafts have the same object.
const PAYLOAD_TYPES: &str = "payloadTypes";
/// Payload types that RTCP takes for itself when both share a port (RFC 5761 §4).
const RTCP_CLASH: std::ops::RangeInclusive<u8> = 64..=95;

/// The kind of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TrackKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Telephone keys (ORTC draft A, `DTMFMediaStreamTrack`).
    Dtmf,
}

/// A codec that the drafts name ("getRTCCodec"), and those that came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CodecName {
    /// RFC 7587.
    Opus,
    /// G.711 A-law, RFC 3551 §4.5.14.
    Alaw,
    /// G.711 µ-law, RFC 3551 §4.5.14.
    Ulaw,
    /// Telephone events, RFC 4733.
    Dtmf,
    /// Redundant payloads of the codecs beside it, RFC 2198: what was lost is repeated.
    Red,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// The RTP payload format of the Alliance for Open Media.
    Av1,
    /// RFC 6184.
    H264,
    /// Packets of the codecs beside it that are sent again, RFC 4588.
    Rtx,
}

impl CodecName {
    /// All of them, with their names in descriptions.
    const ALL: [(Self, &str); 10] = [
        (Self::Opus, "opus"),
        (Self::Alaw, "alaw"),
        (Self::Ulaw, "ulaw"),
        (Self::Dtmf, "dtmf"),
        (Self::Red, "red"),
        (Self::Vp8, "vp8"),
        (Self::Vp9, "vp9"),
        (Self::Av1, "av1"),
        (Self::H264, "h264"),
        (Self::Rtx, "rtx"),
    ];

    /// Other names of theirs: those of RTP (RFC 3551 §6, RFC 4733 §7.1.1).
    const ALIASES: [(Self, &str); 3] =
        [(Self::Alaw, "PCMA"), (Self::Ulaw, "PCMU"), (Self::Dtmf, "telephone-event")];

    /// All known codecs, audio first, each kind in the order of preference.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.iter().map(|(codec, _)| *codec)
    }

    /// The codec of this name, in upper or lower case; `PCMA`, `PCMU` and `telephone-event`
    /// are other names of `alaw`, `ulaw` and `dtmf`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .chain(&Self::ALIASES)
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map(|(codec, _)| *codec)
    }

    /// Its name in descriptions.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(codec, _)| *codec == self).map_or("", |(_, name)| name)
    }

    /// What it carries.
    pub fn kind(self) -> TrackKind {
        match self {
            Self::Opus | Self::Alaw | Self::Ulaw | Self::Red => TrackKind::Audio,
            Self::Dtmf => TrackKind::Dtmf,
            Self::Vp8 | Self::Vp9 | Self::Av1 | Self::H264 | Self::Rtx => TrackKind::Video,
        }
    }

    /// The clock rate in Hz where a description has none. Telephone events (RFC 4733 §2.1) and
    /// redundant payloads take that of the audio beside them, and this only where there is none.
    pub fn default_clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Alaw | Self::Ulaw | Self::Dtmf | Self::Red => 8_000,
            Self::Vp8 | Self::Vp9 | Self::Av1 | Self::H264 | Self::Rtx => 90_000,
        }
    }

    /// The payload type that it has where nothing else was agreed: the static one of
    /// RFC 3551 §6, or the one that browsers use.
    pub fn default_payload_type(self) -> PayloadType {
        PayloadType(match self {
            Self::Ulaw => 0,
            Self::Alaw => 8,
            Self::Av1 => 45,
            Self::Red => 63,
            Self::Vp8 => 96,
            Self::Rtx => 97,
            Self::Vp9 => 98,
            Self::H264 => 102,
            Self::Dtmf => 110,
            Self::Opus => 111,
        })
    }

    /// The codec as it is described by default: with its
    /// [payload type](Self::default_payload_type), clock rate, channels and parameters.
    ///
    /// `dtmf` and `red` have no clock rate: they take that of the audio beside them. What `red`
    /// repeats is to be added, see [`RTCCodec::repeated`]. H.264 is constrained
    /// baseline, level 3.1, in packetization mode 1 (RFC 6184 §8.1), as browsers have it. `rtx`
    /// is that of VP8; see [`RTCCodec::retransmitted`] for others. Feedback is that of
    /// [`CodecName::default_feedback`].
    pub fn default_codec(self) -> RTCCodec {
        let param = |name: &str, value: &str| RTCCodecParam {
            name: name.into(),
            value: Some(value.into()),
        };
        RTCCodec {
            payload_id: self.default_payload_type().0,
            name: self.as_str().into(),
            kind: Some(self.kind()),
            clock_rate: (!self.is_beside_audio()).then(|| self.default_clock_rate()),
            num_channels: match self {
                // RFC 7587 §7: always 2, whatever is inside.
                Self::Opus => Some(2),
                Self::Alaw | Self::Ulaw => Some(1),
                _ => None,
            },
            params: match self {
                Self::H264 => vec![
                    param("level-asymmetry-allowed", "1"),
                    param("packetization-mode", "1"),
                    param("profile-level-id", "42e01f"),
                ],
                Self::Rtx => vec![param("apt", "96")],
                _ => Vec::new(),
            },
            rtcp_feedback: self.default_feedback(),
        }
    }

    /// Whether its payload format allows no other clock rate.
    fn has_fixed_clock_rate(self) -> bool {
        !matches!(self, Self::Alaw | Self::Ulaw | Self::Dtmf | Self::Red | Self::Rtx)
    }

    /// Whether it is no sound of its own, but stands beside a codec that is.
    fn is_beside_audio(self) -> bool {
        matches!(self, Self::Dtmf | Self::Red)
    }
}

/// A codec with its payload type (ORTC drafts, "RTCCodec").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RTCCodec {
    /// RTP payload type: 0 to 63 or 96 to 127.
    #[serde(rename = "payload-id")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 127)))]
    pub payload_id: u8,
    /// `opus`, `alaw`, `ulaw`, `dtmf`, `red`, `vp8`, `h264`, `rtx`, … compared without regard to case.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub name: String,
    /// `audio`, `video` or `dtmf` (ORTC draft A's example).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<TrackKind>,
    /// RTP clock rate in Hz; where there is none, [`CodecName::default_clock_rate`] holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub clock_rate: Option<u32>,
    /// Channels of sound; for Opus always 2, whatever is inside (RFC 7587 §7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_channels: Option<u32>,
    /// Format parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<RTCCodecParam>,
    /// What the sender acts upon, and a receiver may send it, in the words of SDP's `rtcp-fb`
    /// (RFC 4585 §4.2): `nack`, `nack pli`, `ccm fir`, `transport-cc`, `goog-remb`, `ack ccfb`;
    /// at most 32, and what is not known is ignored. Absent, it is `nack pli`. A field of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = 32), inner(length(max = 64), regex(pattern = "^[!-~]+( [!-~]+)*$")))
    )]
    pub rtcp_feedback: Option<Vec<String>>,
}

/// A format parameter of a codec (ORTC drafts, "RTCCodecParam").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RTCCodecParam {
    /// For example `useinbandfec`.
    pub name: String,
    /// Its value; null for a flag.
    #[serde(default)]
    pub value: Option<String>,
}

/// A bound on what is sent (ORTC drafts, "RTCMediaAttributes").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RTCMediaAttributes {
    /// Widest picture in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_max_width: Option<u32>,
    /// Highest picture in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_max_height: Option<u32>,
}

/// What a peer has to know of a track to receive it (ORTC drafts, "RTCTrackDescription").
///
/// It travels as JSON in the drafts' own spelling. Unknown fields are ignored; a missing one
/// is an error that names it. Whatever came from outside goes through
/// [`validate`](Self::validate).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RTCTrackDescription {
    /// Audio or video; for telephone keys alone, dtmf.
    pub kind: TrackKind,
    /// The SSRC, in decimal: 0 to 4294967295.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9]+$")))]
    pub ssrc: String,
    /// Ids of the streams that the track belongs to: at most 16, of 1 to 256 bytes each.
    #[cfg_attr(feature = "schema", schemars(length(max = 16), inner(length(min = 1, max = 256))))]
    pub msid: Vec<String>,
    /// The codecs that may be sent, the preferred one first; 1 to 96.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 96)))]
    pub codecs: Vec<RTCCodec>,
    /// Bounds on what is sent; any entry may match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_attributes: Option<Vec<RTCMediaAttributes>>,
    /// Pairs that identify the track in its RTP packets: at most 255 bytes as lines of
    /// `name=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp_ext_headers: Option<BTreeMap<String, String>>,
    /// The header extensions that its packets may have, with their ids; at most 32, and no id or
    /// name twice. What is not named here may be in packets, and means nothing. A field of ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub header_extensions: Vec<RTCHeaderExtension>,
    /// The SSRC of packets that are sent again by a codec `rtx` (RFC 4588), in decimal; not that
    /// of the track. Without one, what is sent again is sent on the track's own. A field of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9]+$")))]
    pub rtx_ssrc: Option<String>,
    /// The encodings that it is sent in at the same time, at most 4, in any order; only of video.
    /// Where there are several, `ssrc` names the track, and is that of the best encoding or of
    /// none. A field of ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 4)))]
    pub encodings: Vec<RTCEncoding>,
}

impl RTCCodec {
    /// Which of the known codecs it is; `None` for any other, which is no error: a peer may
    /// describe more than we support.
    pub fn known(&self) -> Option<CodecName> {
        CodecName::parse(&self.name)
    }

    /// Whether packets of the one are packets of the other but for the payload type: the same
    /// codec and clock rate, and the parameters without which a decoder would not take them.
    pub fn is_same_format(&self, other: &Self) -> bool {
        let same_name = match (self.known(), other.known()) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.name.eq_ignore_ascii_case(&other.name),
            _ => false,
        };
        let clock = |codec: &Self| {
            codec.clock_rate.or_else(|| codec.known().map(CodecName::default_clock_rate))
        };
        // `red` has the clock of what it repeats, whether it says so or not.
        let is_red = self.known() == Some(CodecName::Red);
        same_name
            && (is_red || clock(self) == clock(other))
            && match self.known() {
                // RFC 6184 §8.1: without the parameter, mode 0. The profile is in the first
                // two of three bytes; a decoder of one level is asked for another all the time.
                Some(CodecName::H264) => {
                    let profile = |codec: &Self| {
                        let id = codec.param("profile-level-id").unwrap_or("42e01f");
                        id.get(..4).map(str::to_ascii_lowercase)
                    };
                    let mode = |codec: &Self| codec.param("packetization-mode") == Some("1");
                    mode(self) == mode(other) && profile(self) == profile(other)
                }
                // What it repeats is of the same payload types.
                Some(CodecName::Red) => self.redundant_types() == other.redundant_types(),
                // What it sends again is of the same payload type.
                Some(CodecName::Rtx) => self.associated_type() == other.associated_type(),
                // RFC 9628 §6.1.
                Some(CodecName::Vp9) => {
                    self.param("profile-id").unwrap_or("0")
                        == other.param("profile-id").unwrap_or("0")
                }
                // The payload format of AV1, §7.2.3.
                Some(CodecName::Av1) => {
                    self.param("profile").unwrap_or("0") == other.param("profile").unwrap_or("0")
                }
                _ => true,
            }
    }

    /// The value of a parameter, by its name in any case.
    fn param(&self, name: &str) -> Option<&str> {
        let param = self.params.iter().find(|param| param.name.eq_ignore_ascii_case(name))?;
        param.value.as_deref()
    }

    /// Its payload type.
    pub fn payload_type(&self) -> PayloadType {
        PayloadType(self.payload_id)
    }

    /// The codec `red` (RFC 2198) with the payload type `payload_id`, by which packets of this
    /// codec repeat up to `times` of those before.
    ///
    /// It has the parameter `payloadTypes`, which lists what may be in a packet, as the format
    /// parameters of RFC 2198 §5 do: `"110/110/110"` for telephone events of payload type 110
    /// and the two before. Its clock rate and channels are those of the codec: of Opus, 48,000 and
    /// 2, as browsers have them.
    ///
    /// ```
    /// use ortc_rtp::{CodecName, PayloadType};
    ///
    /// let red = CodecName::Dtmf.default_codec().repeated(121, 2);
    /// assert_eq!((&*red.name, red.payload_id), ("red", 121));
    /// assert_eq!(red.params[0].value.as_deref(), Some("110/110/110"));
    /// assert_eq!(red.redundant_types(), Some(vec![PayloadType(110); 3]));
    /// ```
    pub fn repeated(&self, payload_id: u8, times: u8) -> Self {
        let types = vec![self.payload_id.to_string(); usize::from(times) + 1];
        let payload_types =
            RTCCodecParam { name: PAYLOAD_TYPES.into(), value: Some(types.join("/")) };
        let params = vec![payload_types];
        let (clock_rate, num_channels) = (self.clock_rate, self.num_channels);
        Self { payload_id, params, clock_rate, num_channels, ..CodecName::Red.default_codec() }
    }

    /// Of `red`, what its packets may hold, as its parameter `payloadTypes` says: the primary's
    /// payload type first, then those of what is repeated. `None` for other codecs, without the
    /// parameter, and where that is no list of payload types.
    pub fn redundant_types(&self) -> Option<Vec<PayloadType>> {
        if self.known() != Some(CodecName::Red) {
            return None;
        }
        let types = self.param(PAYLOAD_TYPES)?.split('/').map(|number| number.parse().ok());
        types.map(|number| number.filter(|id| *id < 0x80).map(PayloadType)).collect()
    }

    fn validate(&self) -> Result<(), DescriptionError> {
        let payload_id = self.payload_id;
        if self.name.is_empty() {
            return Err(DescriptionError::NamelessCodec { payload_id });
        }
        if payload_id > 127 {
            return Err(DescriptionError::PayloadIdTooLarge { payload_id });
        }
        if RTCP_CLASH.contains(&payload_id) {
            return Err(DescriptionError::PayloadIdOfRtcp { payload_id });
        }
        let expected = self
            .known()
            .filter(|codec| codec.has_fixed_clock_rate())
            .map(CodecName::default_clock_rate);
        match self.clock_rate {
            _ if self.param(PAYLOAD_TYPES).is_some()
                && self.known() == Some(CodecName::Red)
                && self.redundant_types().is_none() =>
            {
                Err(DescriptionError::RedundantTypes { payload_id })
            }
            Some(0) => Err(DescriptionError::NoClock { name: self.name.clone() }),
            Some(found) if expected.is_some_and(|expected| expected != found) => {
                Err(DescriptionError::WrongClockRate {
                    name: self.name.clone(),
                    expected: expected.unwrap_or_default(),
                    found,
                })
            }
            _ => self.validate_feedback(),
        }
    }
}

impl RTCTrackDescription {
    /// Its SSRC.
    ///
    /// # Errors
    /// [`DescriptionError::Ssrc`] when it is no decimal number of 32 bits.
    pub fn ssrc(&self) -> Result<Ssrc, DescriptionError> {
        parse_ssrc(&self.ssrc).ok_or_else(|| DescriptionError::Ssrc { found: clip(&self.ssrc) })
    }

    /// Checks everything that the types leave open. Codecs that are not known are no error.
    ///
    /// # Errors
    /// The first thing that is wrong; the message says what to do about it.
    pub fn validate(&self) -> Result<(), DescriptionError> {
        self.ssrc()?;
        if self.codecs.is_empty() {
            return Err(DescriptionError::NoCodec);
        }
        if self.codecs.len() > MAX_CODECS {
            return Err(DescriptionError::TooManyCodecs { found: self.codecs.len() });
        }
        for (at, codec) in self.codecs.iter().enumerate() {
            codec.validate()?;
            let payload_id = codec.payload_id;
            if self.codecs[..at].iter().any(|other| other.payload_id == payload_id) {
                return Err(DescriptionError::DuplicatePayloadId { payload_id });
            }
        }
        self.validate_retransmission()?;
        self.validate_encodings()?;
        if self.msid.len() > MAX_MSIDS {
            return Err(DescriptionError::TooManyMsids { found: self.msid.len() });
        }
        if let Some(msid) = self.msid.iter().find(|msid| !(1..=MAX_MSID_LEN).contains(&msid.len()))
        {
            return Err(DescriptionError::MsidLength { found: msid.len() });
        }
        let lines = self.rtp_ext_headers.iter().flatten();
        let found: usize = lines.map(|(name, value)| name.len() + value.len() + 2).sum();
        // The last line needs no line feed.
        if found > MAX_EXT_HEADERS + 1 {
            return Err(DescriptionError::ExtHeadersLength { found: found - 1 });
        }
        header_extension::validate(&self.header_extensions)
    }

    /// The clock rate of one of its codecs in Hz: its own, or the default of its name; that of
    /// the first audio codec for telephone events and `red`, that of the original for `rtx`.
    /// `None` for an unknown codec without one.
    pub fn clock_rate_of(&self, codec: &RTCCodec) -> Option<u32> {
        let own = |codec: &RTCCodec| {
            codec.clock_rate.or_else(|| codec.known().map(CodecName::default_clock_rate))
        };
        let is_beside = |codec: &RTCCodec| codec.known().is_some_and(CodecName::is_beside_audio);
        if codec.clock_rate.is_none() && is_beside(codec) {
            let audio = self.codecs.iter().find(|codec| !is_beside(codec));
            return audio.and_then(own).or_else(|| own(codec));
        }
        if codec.clock_rate.is_none()
            && let Some(original) = codec.associated_type()
        {
            let original = self.codecs.iter().find(|codec| codec.payload_type() == original);
            return original.and_then(own).or_else(|| own(codec));
        }
        own(codec)
    }

    /// The id of the header extension with the numbers of transport-wide congestion control, if its
    /// sender acts upon feedback about them.
    pub fn transport_number_id(&self) -> Option<u8> {
        let acts = self.codecs.iter().any(|codec| codec.takes(RtcpFeedback::TransportWide));
        let mut named = self.header_extensions.iter().filter(|it| it.is_transport_number());
        named.next().filter(|_| acts).map(|extension| extension.id)
    }

    /// The payload types of a codec.
    pub fn payload_types_of(&self, codec: CodecName) -> Vec<PayloadType> {
        let of_it = self.codecs.iter().filter(|described| described.known() == Some(codec));
        of_it.map(RTCCodec::payload_type).collect()
    }

    /// The payload types that can be received, with their clock rates in Hz; codecs that are
    /// unknown and name none are left out, and so is `rtx`, which has an SSRC of its own.
    pub fn payload_types(&self) -> Vec<(PayloadType, u32)> {
        self.codecs
            .iter()
            .filter(|codec| codec.known() != Some(CodecName::Rtx))
            .filter_map(|codec| Some((codec.payload_type(), self.clock_rate_of(codec)?)))
            .collect()
    }
}

/// An SSRC in decimal, without a sign.
fn parse_ssrc(text: &str) -> Option<Ssrc> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| text.parse().ok().map(Ssrc)).flatten()
}

/// Keeps foreign text short enough for a message.
fn clip(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPUS: &str = r#"{"kind":"audio","ssrc":"1234","msid":["m1"],"codecs":[
        {"payload-id":96,"name":"opus","clockRate":48000,"numChannels":2}]}"#;
    const OPUS_AND_DTMF: &str = r#"{"kind":"audio","ssrc":"1234","msid":["m1"],"codecs":[
        {"payload-id":96,"name":"opus","kind":"audio","clockRate":48000,"numChannels":2},
        {"payload-id":101,"name":"dtmf","kind":"dtmf"}]}"#;

    fn parse(json: &str) -> RTCTrackDescription {
        serde_json::from_str(json).unwrap()
    }

    fn codec(payload_id: u8, name: &str, clock_rate: Option<u32>) -> RTCCodec {
        let (kind, num_channels) = (None, None);
        let (params, rtcp_feedback) = (vec![], None);
        let name = name.into();
        RTCCodec { payload_id, name, kind, clock_rate, num_channels, params, rtcp_feedback }
    }

    fn with(change: impl FnOnce(&mut RTCTrackDescription)) -> Result<(), DescriptionError> {
        let mut description = parse(OPUS);
        change(&mut description);
        description.validate()
    }

    #[test]
    fn the_examples_of_the_drafts_are_read_and_written_unchanged() {
        for json in [OPUS, OPUS_AND_DTMF] {
            let description = parse(json);
            assert_eq!(description.validate(), Ok(()));
            let expected: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_value(&description).unwrap(), expected);
        }
        assert_eq!(parse(OPUS).ssrc(), Ok(Ssrc(1234)));
        assert_eq!(
            parse(OPUS_AND_DTMF).payload_types(),
            [(PayloadType(96), 48_000), (PayloadType(101), 48_000)]
        );
    }

    #[test]
    fn every_optional_field_survives_the_round_trip() {
        let json = serde_json::json!({
            "kind": "video", "ssrc": "0", "msid": [],
            "codecs": [{
                "payload-id": 97, "name": "H264",
                "params": [{ "name": "packetization-mode", "value": "1" }, { "name": "x", "value": null }],
                "rtcpFeedback": ["nack", "ack ccfb"],
            }],
            "mediaAttributes": [{ "videoMaxWidth": 640 }, { "videoMaxHeight": 480 }],
            "rtpExtHeaders": { "room": "7" },
            "headerExtensions": [{ "uri": "urn:3gpp:video-orientation", "id": 4 }],
            "rtxSsrc": "77",
        });
        let description: RTCTrackDescription = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(description.validate(), Ok(()));
        assert_eq!(serde_json::to_value(&description).unwrap(), json);
        assert_eq!(description.payload_types(), [(PayloadType(97), 90_000)]);
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_named() {
        let extended = OPUS.replacen('{', r#"{"future":{"a":[1]},"#, 1);
        assert_eq!(parse(&extended), parse(OPUS));
        for field in ["kind", "ssrc", "msid", "codecs"] {
            let mut value: serde_json::Value = serde_json::from_str(OPUS).unwrap();
            value.as_object_mut().unwrap().remove(field);
            let error = serde_json::from_value::<RTCTrackDescription>(value).unwrap_err();
            assert_eq!(error.to_string(), format!("missing field `{field}`"));
        }
    }

    #[test]
    fn a_header_extension_that_is_not_sound_is_refused_by_name() {
        let read = |extensions: serde_json::Value| {
            let mut value: serde_json::Value = serde_json::from_str(OPUS).unwrap();
            value["headerExtensions"] = extensions;
            serde_json::from_value::<RTCTrackDescription>(value)
                .map_err(|error| error.to_string())
                .and_then(|description| description.validate().map_err(|error| error.to_string()))
        };
        for (extensions, message) in [
            (serde_json::json!([{ "id": 1 }]), "missing field `uri`"),
            (serde_json::json!([{ "uri": "urn:a" }]), "missing field `id`"),
            (
                serde_json::json!([{ "uri": "urn:a", "id": 256 }]),
                "invalid value: integer `256`, expected u8",
            ),
            (
                serde_json::json!([{ "uri": "urn:a", "id": 15 }]),
                "a header extension cannot have the id 15: choose one from 1 to 14, or 16 to 255",
            ),
            (
                serde_json::json!([{ "uri": "urn:a", "id": 1 }, { "uri": "urn:b", "id": 1 }]),
                "the header extension with id 1 is there twice, by its id or by its uri",
            ),
            (
                serde_json::json!([{ "uri": "a b", "id": 1 }]),
                "the uri of the header extension with id 1 is not 1 to 256 printable ASCII \
                 characters",
            ),
        ] {
            assert_eq!(read(extensions), Err(message.to_owned()));
        }
        assert_eq!(read(serde_json::json!([{ "uri": "urn:a", "id": 1, "later": 2 }])), Ok(()));
    }

    #[test]
    fn an_ssrc_is_decimal_and_of_32_bits() {
        for (text, expected) in [("0", Some(0)), ("4294967295", Some(u32::MAX)), ("007", Some(7))] {
            let description = RTCTrackDescription { ssrc: text.into(), ..parse(OPUS) };
            assert_eq!(description.ssrc().ok().map(|ssrc| ssrc.0), expected);
        }
        for text in ["", "4294967296", "-1", "+1", " 1", "0x10", "1.0", "\u{661}"] {
            let result = with(|description| description.ssrc = text.into());
            assert_eq!(result, Err(DescriptionError::Ssrc { found: text.into() }));
        }
    }

    #[test]
    fn payload_types_are_seven_bits_distinct_and_not_those_of_rtcp() {
        for payload_id in [0, 8, 63, 96, 127] {
            assert_eq!(with(|d| d.codecs[0].payload_id = payload_id), Ok(()));
        }
        for payload_id in [64, 72, 95] {
            let result = with(|d| d.codecs[0].payload_id = payload_id);
            assert_eq!(result, Err(DescriptionError::PayloadIdOfRtcp { payload_id }));
        }
        let result = with(|d| d.codecs[0].payload_id = 128);
        assert_eq!(result, Err(DescriptionError::PayloadIdTooLarge { payload_id: 128 }));
        let result = with(|d| d.codecs.push(codec(96, "vp8", None)));
        assert_eq!(result, Err(DescriptionError::DuplicatePayloadId { payload_id: 96 }));
    }

    #[test]
    fn red_says_what_it_may_hold() {
        let mut description = parse(OPUS);
        let opus = description.codecs[0].clone();
        description.codecs.push(opus.repeated(63, 1));
        assert_eq!(description.validate(), Ok(()));
        let red = description.codecs[1].clone();
        assert_eq!(red.redundant_types(), Some(vec![PayloadType(96); 2]));
        assert_eq!(description.clock_rate_of(&red), Some(48_000), "that of the audio");
        assert!(red.is_same_format(&red) && !red.is_same_format(&opus.repeated(63, 2)));
        assert_eq!(opus.redundant_types(), None);
        for (value, expected) in
            [("96", Some(1)), ("96/128", None), ("96/", None), ("", None), ("opus", None)]
        {
            description.codecs[1].params[0].value = Some(value.into());
            let types = description.codecs[1].redundant_types();
            assert_eq!(types.map(|types| types.len()), expected, "{value}");
            let malformed = Err(DescriptionError::RedundantTypes { payload_id: 63 });
            let valid = if expected.is_some() { Ok(()) } else { malformed };
            assert_eq!(description.validate(), valid, "{value}");
        }
        description.codecs[1].params.clear();
        assert_eq!(description.validate(), Ok(()), "it is enough to receive");
    }

    #[test]
    fn the_names_of_rtp_are_other_names() {
        for (name, expected) in
            [("pcma", "alaw"), ("PCMU", "ulaw"), ("telephone-event", "dtmf"), ("Ulaw", "ulaw")]
        {
            assert_eq!(CodecName::parse(name).map(CodecName::as_str), Some(expected));
        }
    }

    #[test]
    fn default_codecs_are_valid_together_and_those_of_browsers() {
        let codecs: Vec<_> = CodecName::all().map(CodecName::default_codec).collect();
        let expected: Vec<_> = CodecName::all().map(Some).collect();
        assert_eq!(codecs.iter().map(RTCCodec::known).collect::<Vec<_>>(), expected);
        let mut description = parse(OPUS);
        description.codecs = codecs;
        assert_eq!(description.validate(), Ok(()));
        let got: Vec<_> = description
            .codecs
            .iter()
            .map(|codec| (codec.payload_id, codec.clock_rate, codec.num_channels))
            .collect();
        let expected = [
            (111, Some(48_000), Some(2)),
            (8, Some(8_000), Some(1)),
            (0, Some(8_000), Some(1)),
            (110, None, None),
            (63, None, None),
            (96, Some(90_000), None),
            (98, Some(90_000), None),
            (45, Some(90_000), None),
            (102, Some(90_000), None),
            (97, Some(90_000), None),
        ];
        assert_eq!(got, expected);
        let params: Vec<_> = description.codecs[8]
            .params
            .iter()
            .map(|param| (param.name.as_str(), param.value.as_deref()))
            .collect();
        let expected = [
            ("level-asymmetry-allowed", Some("1")),
            ("packetization-mode", Some("1")),
            ("profile-level-id", Some("42e01f")),
        ];
        assert_eq!(params, expected);
    }

    #[test]
    fn codecs_are_known_in_any_case_and_have_default_clock_rates() {
        let rates: Vec<_> = ["OPUS", "Alaw", "ulaw", "dtmf", "VP8", "vp9", "av1", "H264"]
            .iter()
            .map(|name| CodecName::parse(name).unwrap().default_clock_rate())
            .collect();
        assert_eq!(rates, [48_000, 8_000, 8_000, 8_000, 90_000, 90_000, 90_000, 90_000]);
        assert!(CodecName::ALL.iter().all(|(name, text)| name.as_str() == *text));
        assert_eq!(CodecName::parse("speex"), None);
        let mut description = parse(OPUS);
        description.codecs.push(codec(97, "speex", None));
        description.codecs.push(codec(98, "speex", Some(16_000)));
        assert_eq!(description.validate(), Ok(()));
        let expected = [(PayloadType(96), 48_000), (PayloadType(98), 16_000)];
        assert_eq!(description.payload_types(), expected);
        description.codecs = vec![codec(101, "dtmf", None)];
        assert_eq!(description.payload_types(), [(PayloadType(101), 8_000)]);
    }

    #[test]
    fn wrong_codecs_are_refused() {
        assert_eq!(with(|d| d.codecs.clear()), Err(DescriptionError::NoCodec));
        let result = with(|d| d.codecs = (0..97).map(|_| codec(0, "x", None)).collect());
        assert_eq!(result, Err(DescriptionError::TooManyCodecs { found: 97 }));
        let result = with(|d| d.codecs[0].name.clear());
        assert_eq!(result, Err(DescriptionError::NamelessCodec { payload_id: 96 }));
        let result = with(|d| d.codecs[0].clock_rate = Some(0));
        assert_eq!(result, Err(DescriptionError::NoClock { name: "opus".into() }));
        let (name, expected, found) = ("opus".into(), 48_000, 16_000);
        let result = with(|d| d.codecs[0].clock_rate = Some(16_000));
        assert_eq!(result, Err(DescriptionError::WrongClockRate { name, expected, found }));
    }

    #[test]
    fn what_grows_is_bounded() {
        let result = with(|d| d.msid = vec!["m".into(); 17]);
        assert_eq!(result, Err(DescriptionError::TooManyMsids { found: 17 }));
        let result = with(|d| d.msid = vec!["m".repeat(257)]);
        assert_eq!(result, Err(DescriptionError::MsidLength { found: 257 }));
        assert_eq!(
            with(|d| d.msid = vec![String::new()]),
            Err(DescriptionError::MsidLength { found: 0 })
        );
        let pairs = |len: usize| Some(BTreeMap::from([("n".to_owned(), "v".repeat(len))]));
        assert_eq!(with(|d| d.rtp_ext_headers = pairs(253)), Ok(()));
        let result = with(|d| d.rtp_ext_headers = pairs(254));
        assert_eq!(result, Err(DescriptionError::ExtHeadersLength { found: 256 }));
    }
}
