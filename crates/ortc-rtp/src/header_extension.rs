//! Header extensions by name: what an id stands for is told by descriptions (RFC 8285 §5).

use serde::{Deserialize, Serialize};

use crate::{DescriptionError, RTCTrackDescription};

/// Most header extensions of one description: browsers have some 13 for video.
const MAX_HEADER_EXTENSIONS: usize = 32;

/// Longest name of one in bytes; the longest registered one has 71.
const MAX_URI_LEN: usize = 256;

/// The id that the one-byte form keeps for itself (RFC 8285 §4.2).
const RESERVED_ID: u8 = 15;

/// The numbers that all packets of a connection have together, for feedback about them.
const TRANSPORT_NUMBER: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// The id that it has by default: that of Chromium, as a browser has one id for one name.
const TRANSPORT_NUMBER_ID: u8 = 3;

/// When a frame was captured, by a clock that need not be that of reports:
/// <https://webrtc.googlesource.com/src/+/refs/heads/main/docs/native-code/rtp-hdrext/abs-capture-time>.
const CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
/// The name of the encoding that a packet is of, and that of one that is sent again (RFC 8852).
pub(crate) const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
pub(crate) const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";

/// The dependency descriptor of AV1's payload format, appendix A.
pub(crate) const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// What only concerns the two ends of one connection: times and numbers of sending, and names
/// of its own media sections. Passed on, it would lead the receiver astray.
const HOP_BY_HOP: [&str; 6] = [
    "urn:ietf:params:rtp-hdrext:toffset",
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    RID,
    REPAIRED_RID,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    TRANSPORT_NUMBER,
];

/// What is known to make sense at whoever receives the media in the end, in the order of the
/// ids that it has by default.
const END_TO_END: [&str; 8] = [
    // RFC 6464 and RFC 6465.
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "urn:ietf:params:rtp-hdrext:csrc-audio-level",
    // 3GPP TS 26.114 §7.4.5.
    "urn:3gpp:video-orientation",
    DEPENDENCY_DESCRIPTOR,
    // Those of Chromium that say something about the media.
    CAPTURE_TIME,
    "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type",
    "http://www.webrtc.org/experiments/rtp-hdrext/color-space",
];

/// A header extension of a track's packets, and the id that it has in them (RFC 8285).
///
/// Not in the drafts, which have no ids; a field of ours, and optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RTCHeaderExtension {
    /// Its name (RFC 8285 §5): 1 to 256 printable characters of ASCII without a space, for
    /// example `urn:ietf:params:rtp-hdrext:ssrc-audio-level`.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 256), regex(pattern = "^[!-~]+$"))
    )]
    pub uri: String,
    /// Its id: 1 to 14, or 16 to 255 in elements of the two-byte form. 15 is nobody's.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 1, max = 255), extend("not" = { "const": 15 }))
    )]
    pub id: u8,
}

impl RTCHeaderExtension {
    /// The extensions that are known to make sense wherever media is forwarded to, with ids from
    /// 1 on.
    pub fn known() -> impl Iterator<Item = Self> {
        (1..).zip(END_TO_END).map(|(id, uri)| Self { uri: uri.to_owned(), id })
    }

    /// That of transport-wide congestion control (draft-holmer-rmcat-transport-wide-cc-extensions-01
    /// §2), with the id that it has by default, or the lowest that `others` leave free; `None` if
    /// they leave none of the one-byte form.
    pub fn transport_number(others: &[Self]) -> Option<Self> {
        let is_free = |id: &u8| others.iter().all(|other| other.id != *id);
        let id = std::iter::once(TRANSPORT_NUMBER_ID).chain(1..RESERVED_ID).find(is_free)?;
        Some(Self { uri: TRANSPORT_NUMBER.to_owned(), id })
    }

    /// Whether it is that of transport-wide congestion control.
    pub fn is_transport_number(&self) -> bool {
        self.uri == TRANSPORT_NUMBER
    }

    /// Whether it concerns one connection only, so that it is never passed on: `abs-send-time`,
    /// the numbers of transport-wide congestion control, `toffset`, `mid`, and the ids of RTP
    /// streams. Names are compared byte by byte (RFC 8285 §5).
    pub fn is_hop_by_hop(&self) -> bool {
        HOP_BY_HOP.contains(&self.uri.as_str())
    }
}

impl RTCTrackDescription {
    /// The id of the header extension that says when a frame was captured; `None` where it is not
    /// described.
    pub(crate) fn capture_time_id(&self) -> Option<u8> {
        id_of(&self.header_extensions, CAPTURE_TIME)
    }
}

/// The id of the header extension of this name.
pub(crate) fn id_of(extensions: &[RTCHeaderExtension], uri: &str) -> Option<u8> {
    extensions.iter().find(|extension| extension.uri == uri).map(|extension| extension.id)
}

/// Checks the header extensions of a description.
pub(crate) fn validate(extensions: &[RTCHeaderExtension]) -> Result<(), DescriptionError> {
    if extensions.len() > MAX_HEADER_EXTENSIONS {
        return Err(DescriptionError::TooManyHeaderExtensions { found: extensions.len() });
    }
    for (at, RTCHeaderExtension { uri, id }) in extensions.iter().enumerate() {
        let is_printable = uri.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_printable || !(1..=MAX_URI_LEN).contains(&uri.len()) {
            return Err(DescriptionError::HeaderExtensionUri { id: *id });
        }
        if *id == 0 || *id == RESERVED_ID {
            return Err(DescriptionError::HeaderExtensionId { id: *id });
        }
        let before = &extensions[..at];
        if before.iter().any(|other| other.id == *id || other.uri == *uri) {
            return Err(DescriptionError::DuplicateHeaderExtension { id: *id });
        }
    }
    Ok(())
}

/// The ids of what is passed on, as received and as sent: what both descriptions name, and is
/// not of one connection only.
pub(crate) fn passed_on(
    received: &[RTCHeaderExtension],
    sent: &[RTCHeaderExtension],
) -> Vec<(u8, u8)> {
    let passes = received.iter().filter(|extension| !extension.is_hop_by_hop());
    passes
        .filter_map(|extension| {
            let sent = sent.iter().find(|sent| sent.uri == extension.uri)?;
            Some((extension.id, sent.id))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(uri: &str, id: u8) -> RTCHeaderExtension {
        RTCHeaderExtension { uri: uri.to_owned(), id }
    }

    #[test]
    fn ids_and_names_are_what_rfc_8285_allows_and_distinct() {
        assert_eq!(validate(&[]), Ok(()));
        for id in [1, 14, 16, 255] {
            assert_eq!(validate(&[extension("urn:a", id)]), Ok(()));
        }
        for id in [0, 15] {
            let refused = Err(DescriptionError::HeaderExtensionId { id });
            assert_eq!(validate(&[extension("urn:a", id)]), refused);
        }
        let long = "u".repeat(257);
        for uri in ["", "urn: a", "urn:\u{e9}", "urn:a\n", &long] {
            let refused = Err(DescriptionError::HeaderExtensionUri { id: 2 });
            assert_eq!(validate(&[extension(uri, 2)]), refused, "{uri:?}");
        }
        for second in [extension("urn:b", 1), extension("urn:a", 2)] {
            let refused = Err(DescriptionError::DuplicateHeaderExtension { id: second.id });
            assert_eq!(validate(&[extension("urn:a", 1), second]), refused);
        }
        let many: Vec<_> = (16..49).map(|id| extension(&format!("urn:{id}"), id)).collect();
        assert_eq!(validate(&many[..32]), Ok(()));
        let refused = Err(DescriptionError::TooManyHeaderExtensions { found: 33 });
        assert_eq!(validate(&many), refused);
    }

    #[test]
    fn what_both_sides_name_is_passed_on_but_for_what_is_of_one_connection() {
        let received = [
            extension("urn:level", 1),
            extension(HOP_BY_HOP[4], 2),
            extension("urn:only-here", 3),
            extension("urn:orientation", 20),
        ];
        let sent = [
            extension("urn:orientation", 4),
            extension("urn:only-there", 5),
            extension(HOP_BY_HOP[4], 6),
            extension("urn:level", 16),
        ];
        assert_eq!(passed_on(&received, &sent), [(1, 16), (20, 4)]);
        assert_eq!(passed_on(&received, &[]), []);
    }

    #[test]
    fn known_extensions_can_be_described_together_and_are_passed_on() {
        let known: Vec<_> = RTCHeaderExtension::known().collect();
        assert_eq!(validate(&known), Ok(()));
        assert_eq!(passed_on(&known, &known).len(), known.len());
    }
}
