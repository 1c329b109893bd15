//! The messages that two peers, or a peer and a room, exchange, one JSON object a WebSocket frame.
//!
//! `iceInfo`, `candidate` and `track` are those of the drafts' own example; `trackEnded`,
//! `trackLimit`, `candidateWithdrawn`, `capabilities`, `endOfCandidates`, `bye` and `error` are added and optional. See
//! `docs/signalling.md`.

use ortc_api::{
    CodecName, RTCCodec, RTCIceCandidateDescription, RTCIceConnectionInfo, RTCTrackDescription,
    rtc_capabilities,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that a peer, or the server, says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// The peer's ICE credentials; again after a restart.
    IceInfo(RTCIceConnectionInfo),
    /// A candidate of the peer.
    Candidate(RTCIceCandidateDescription),
    /// A candidate of the peer is gone.
    CandidateWithdrawn(RTCIceCandidateDescription),
    /// A track that the peer sends.
    Track(RTCTrackDescription),
    /// A track has ended: one that whoever says this has described.
    TrackEnded(TrackEnded),
    /// What the peer can receive.
    Capabilities(Capabilities),
    /// Whoever says this wants no more than so much of a track that has been described to it.
    TrackLimit(TrackLimit),
    /// The peer has no more candidates.
    EndOfCandidates {},
    /// The peer hangs up; the server says it too, when the peer's socket has gone.
    Bye {},
    /// What the server says is wrong.
    Error(SignalError),
}

/// One message: all that it says. Names that are not known are ignored.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Message {
    /// The sender's ICE credentials; again after a restart.
    pub ice_info: Option<RTCIceConnectionInfo>,
    /// A candidate of the sender.
    pub candidate: Option<RTCIceCandidateDescription>,
    /// A candidate of the sender is gone: nothing is to be sent there any more.
    pub candidate_withdrawn: Option<RTCIceCandidateDescription>,
    /// A track that the sender sends.
    pub track: Option<RTCTrackDescription>,
    /// A track that the sender sends no more.
    pub track_ended: Option<TrackEnded>,
    /// What the sender can receive, beside what everybody can.
    pub capabilities: Option<Capabilities>,
    /// The sender wants no more than so much of a track that is described to it.
    pub track_limit: Option<TrackLimit>,
    /// The sender has no more candidates. Whatever it holds says nothing yet.
    pub end_of_candidates: Option<Anything>,
    /// The sender hangs up, or has gone. Whatever it holds says nothing yet.
    pub bye: Option<Anything>,
    /// The server says what it did not do.
    pub error: Option<SignalError>,
}

/// A value that counts by being there.
#[derive(Debug, Clone, Copy)]
pub struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Anything {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Anything".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        true.into()
    }
}

/// Which track has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrackEnded {
    /// The SSRC, in decimal, as it was described.
    pub ssrc: String,
}

/// What a peer can receive (ORTC drafts, "RTCCapabilities").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// The codecs of sound; at most 96. That `red` is among them says that packets may repeat
    /// others (RFC 2198).
    #[cfg_attr(feature = "schema", schemars(length(max = 96)))]
    pub audio_codecs: Vec<RTCCodec>,
}

impl Capabilities {
    /// What this program can receive.
    pub fn own() -> Self {
        Self { audio_codecs: rtc_capabilities().audio_codecs }
    }

    /// Whether packets of sound may repeat others.
    pub fn has_redundancy(&self) -> bool {
        self.audio_codecs.iter().any(|codec| codec.known() == Some(CodecName::Red))
    }
}

/// How much is wanted of a track that comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TrackLimit {
    /// The SSRC, in decimal, as it was described.
    pub ssrc: String,
    /// What it is to take at most, in bits per second; absent, as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u64>,
}

/// What the server says is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignalError {
    /// A short name for programs: `pair-full`, `not-json`, …
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// Why a message cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum SignalParseError {
    /// It is not JSON.
    #[error("a message is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// It is JSON, but no object.
    #[error("a message is not a JSON object")]
    NotAnObject,
    /// One of its fields is missing or of the wrong kind.
    #[error("{path}: {reason}")]
    Field {
        /// Where: `candidate.connectionPort`.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl SignalParseError {
    /// The name of the message that is wrong, such as `iceInfo`, if that much is known.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Field { path, .. } => path.split('.').next(),
            _ => None,
        }
    }
}

impl Signal {
    /// Reads a message: all it says, in the order in which it is to be heeded.
    ///
    /// A message may say several things at once, as in the drafts' example. What it says
    /// beside the known names is ignored, and so are names whose value is null.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn parse(text: &str) -> Result<Vec<Self>, SignalParseError> {
        let value = match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => return Err(SignalParseError::NotAnObject),
            Err(error) => return Err(SignalParseError::NotJson(error)),
        };
        let said: Message = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            SignalParseError::Field { path, reason: error.into_inner().to_string() }
        })?;
        let mut signals = Vec::new();
        signals.extend(said.ice_info.map(Self::IceInfo));
        signals.extend(said.capabilities.map(Self::Capabilities));
        signals.extend(said.candidate.map(Self::Candidate));
        signals.extend(said.candidate_withdrawn.map(Self::CandidateWithdrawn));
        signals.extend(said.track.map(Self::Track));
        signals.extend(said.track_ended.map(Self::TrackEnded));
        signals.extend(said.track_limit.map(Self::TrackLimit));
        signals.extend(said.end_of_candidates.map(|_| Self::EndOfCandidates {}));
        signals.extend(said.bye.map(|_| Self::Bye {}));
        signals.extend(said.error.map(Self::Error));
        Ok(signals)
    }

    /// The message that says this.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps with string keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> RTCIceCandidateDescription {
        RTCIceCandidateDescription {
            foundation: "1".into(),
            component: 1,
            transport: "udp".into(),
            priority: 2_130_706_431,
            connection_address: "192.0.2.1".into(),
            connection_port: 50_000,
            kind: "host".into(),
            rel_address: None,
            rel_port: None,
            tcp_type: None,
        }
    }

    fn error(text: &str) -> String {
        Signal::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_drafts_example_is_spelled_as_in_the_drafts() {
        let info = RTCIceConnectionInfo {
            username_frag: "abcd".into(),
            password: "p".repeat(22),
            fingerprint: None,
        };
        let text = r#"{"iceInfo":{"usernameFrag":"abcd","password":"pppppppppppppppppppppp"}}"#;
        assert_eq!(Signal::IceInfo(info.clone()).to_text(), text);
        assert_eq!(Signal::parse(text).unwrap(), [Signal::IceInfo(info)]);

        let text = r#"{"candidate":{"foundation":"1","component":1,"transport":"udp","priority":2130706431,"connectionAddress":"192.0.2.1","connectionPort":50000,"type":"host"}}"#;
        assert_eq!(Signal::Candidate(candidate()).to_text(), text);
        assert_eq!(Signal::parse(text).unwrap(), [Signal::Candidate(candidate())]);

        let text = r#"{"track":{"kind":"audio","ssrc":"1234","msid":["s"],"codecs":[{"payload-id":111,"name":"opus","clockRate":48000,"numChannels":2}]}}"#;
        let parsed = Signal::parse(text).unwrap();
        let [track @ Signal::Track(_)] = parsed.as_slice() else { panic!("{parsed:?}") };
        assert_eq!(track.to_text(), text);
    }

    #[test]
    fn what_is_added_is_small() {
        for (signal, text) in [
            (
                Signal::TrackEnded(TrackEnded { ssrc: "1234".into() }),
                r#"{"trackEnded":{"ssrc":"1234"}}"#,
            ),
            (Signal::EndOfCandidates {}, r#"{"endOfCandidates":{}}"#),
            (
                Signal::Capabilities(Capabilities::default()),
                r#"{"capabilities":{"audioCodecs":[]}}"#,
            ),
            (
                Signal::CandidateWithdrawn(candidate()),
                r#"{"candidateWithdrawn":{"foundation":"1","component":1,"transport":"udp","priority":2130706431,"connectionAddress":"192.0.2.1","connectionPort":50000,"type":"host"}}"#,
            ),
            (Signal::Bye {}, r#"{"bye":{}}"#),
            (
                Signal::Error(SignalError { code: "c".into(), message: "m".into() }),
                r#"{"error":{"code":"c","message":"m"}}"#,
            ),
        ] {
            assert_eq!(signal.to_text(), text);
            assert_eq!(Signal::parse(text).unwrap(), [signal]);
        }
    }

    #[test]
    fn several_things_at_once_come_in_order_and_unknown_ones_not_at_all() {
        let Signal::Candidate(candidate) = Signal::Candidate(candidate()) else { unreachable!() };
        let text = format!(
            r#"{{"bye":true,"later":[1],"track":null,"candidate":{},"hello":{{}}}}"#,
            serde_json::to_string(&candidate).unwrap()
        );
        let expected = [Signal::Candidate(candidate), Signal::Bye {}];
        assert_eq!(Signal::parse(&text).unwrap(), expected);
        assert_eq!(Signal::parse("{}").unwrap(), []);
    }

    #[test]
    fn an_error_names_the_field() {
        assert_eq!(
            error(r#"{"iceInfo":{"usernameFrag":"abcd"}}"#),
            "iceInfo: missing field `password`"
        );
        assert_eq!(
            error(&Signal::Candidate(candidate()).to_text().replace("50000", "\"50000\"")),
            "candidate.connectionPort: invalid type: string \"50000\", expected u16"
        );
        assert_eq!(
            error(&Signal::Candidate(candidate()).to_text().replace("50000", "70000")),
            "candidate.connectionPort: invalid value: integer `70000`, expected u16"
        );
        assert_eq!(
            error(r#"{"track":{"kind":"audio","ssrc":"1","msid":[],"codecs":[{"name":"opus"}]}}"#),
            "track.codecs[0]: missing field `payload-id`"
        );
        assert_eq!(
            error(r#"{"candidate":"candidate:1 1 udp"}"#),
            "candidate: invalid type: string \"candidate:1 1 udp\", expected struct RTCIceCandidateDescription"
        );
        assert_eq!(error(r#"{"trackEnded":{}}"#), "trackEnded: missing field `ssrc`");
        assert_eq!(error("[]"), "a message is not a JSON object");
        assert_eq!(
            error("{"),
            "a message is not JSON: EOF while parsing an object at line 1 column 1"
        );
    }
}
