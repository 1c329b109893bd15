//! Several encodings of one track, and scalable ones.

use serde::{Deserialize, Serialize};

use super::{DescriptionError, RTCTrackDescription, TrackKind, clip, parse_ssrc};
use crate::{MAX_ENCODINGS, Ssrc, header_extension};

/// Longest name of an encoding: RFC 8851 §10 has no bound, and one element of the one-byte form
/// (RFC 8285 §4.2) takes so much.
const MAX_RID: usize = 16;

/// Longest scalability mode that there is: `L3T3_KEY_SHIFT` has 14.
const MAX_MODE: usize = 16;

/// One of the encodings that a track is sent in at the same time (simulcast, RFC 8853), or the only
/// one, of several layers. Not in the drafts; the names of its fields are those of
/// `RTCRtpEncodingParameters` of the W3C.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RTCEncoding {
    /// Its name: 1 to 16 letters, digits, `-` or `_`, different from those of all other encodings
    /// that the connection sends. It is in its packets (RFC 8852) where it has no `ssrc`.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 16), regex(pattern = "^[A-Za-z0-9_-]+$"))
    )]
    pub rid: String,
    /// Whether it is sent; absent, it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// What it takes at most, in bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u64>,
    /// What width and height are divided by, 1 or more. An encoding is the better the less that
    /// is; among equals, the more it may take, and then the later it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_resolution_down_by: Option<ScaleFactor>,
    /// Its layers, in the words of the W3C's "Scalable Video Coding (SVC) Extension for WebRTC":
    /// `L1T3`, `L3T3_KEY`. At most 16 characters; one that is not known is as if it were absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))]
    pub scalability_mode: Option<String>,
    /// Its SSRC, in decimal; absent, its packets say that they are its by their `rid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9]+$")))]
    pub ssrc: Option<String>,
    /// The SSRC of its packets that are sent again by a codec `rtx`, in decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9]+$")))]
    pub rtx_ssrc: Option<String>,
}

/// What width and height of a picture are divided by.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ScaleFactor(#[cfg_attr(feature = "schema", schemars(range(min = 1)))] pub f64);

// Of a valid description, it is a number.
impl Eq for ScaleFactor {}

impl RTCEncoding {
    /// An encoding of this name, scaled down by this factor.
    pub fn new(rid: &str, scale_resolution_down_by: f64) -> Self {
        let scale = Some(ScaleFactor(scale_resolution_down_by));
        Self { rid: rid.to_owned(), scale_resolution_down_by: scale, ..Self::default() }
    }

    /// Checks encodings that are to be sent, whose SSRCs are not known yet.
    ///
    /// # Errors
    /// The first thing that is wrong; [`DescriptionError::TooManyEncodings`] also when there is
    /// none.
    pub fn validate_local(encodings: &[Self]) -> Result<(), DescriptionError> {
        if !(1..=MAX_ENCODINGS).contains(&encodings.len()) {
            return Err(DescriptionError::TooManyEncodings { found: encodings.len() });
        }
        for (at, encoding) in encodings.iter().enumerate() {
            Self { ssrc: None, rtx_ssrc: None, ..encoding.clone() }.validate()?;
            if encodings[..at].iter().any(|other| other.rid == encoding.rid) {
                return Err(DescriptionError::DuplicateRid { rid: encoding.rid.clone() });
            }
        }
        Ok(())
    }

    /// The place of each among them, counted from the least to the best.
    pub fn ranks(encodings: &[Self]) -> Vec<usize> {
        let scale = |it: &Self| it.scale_resolution_down_by.map_or(1.0, |scale| scale.0);
        let takes = |it: &Self| it.max_bitrate.unwrap_or(u64::MAX);
        let mut order: Vec<_> = (0..encodings.len()).collect();
        order.sort_by(|one, other| {
            let (one, other) = (&encodings[*one], &encodings[*other]);
            scale(other).total_cmp(&scale(one)).then(takes(one).cmp(&takes(other)))
        });
        let mut ranks = vec![0; encodings.len()];
        for (rank, at) in order.into_iter().enumerate() {
            ranks[at] = rank;
        }
        ranks
    }

    /// Whether it is sent.
    pub fn is_active(&self) -> bool {
        self.active != Some(false)
    }

    /// Its SSRC, if the description has one.
    pub(crate) fn ssrc_number(&self) -> Option<Ssrc> {
        parse_ssrc(self.ssrc.as_deref()?)
    }

    /// That of what is sent again.
    pub(crate) fn rtx_ssrc_number(&self) -> Option<Ssrc> {
        parse_ssrc(self.rtx_ssrc.as_deref()?)
    }

    /// How many spatial and temporal layers it has.
    pub fn layers(&self) -> (u8, u8) {
        let known = self.scalability_mode.as_deref().and_then(|mode| {
            let digits = mode.strip_prefix(['L', 'S'])?.as_bytes();
            match digits {
                [spatial @ b'1'..=b'3', b'T', temporal @ b'1'..=b'3', ..] => {
                    Some((spatial - b'0', temporal - b'0'))
                }
                _ => None,
            }
        });
        known.unwrap_or((1, 1))
    }

    fn validate(&self) -> Result<(), DescriptionError> {
        let rid = || clip(&self.rid);
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=MAX_RID).contains(&self.rid.len()) || !self.rid.bytes().all(is_letter) {
            return Err(DescriptionError::Rid { found: rid() });
        }
        if self.scale_resolution_down_by.is_some_and(|it| !(it.0 >= 1.0 && it.0.is_finite())) {
            return Err(DescriptionError::Scale { rid: rid() });
        }
        if let Some(mode) = &self.scalability_mode
            && !(1..=MAX_MODE).contains(&mode.len())
        {
            return Err(DescriptionError::ScalabilityMode { rid: rid() });
        }
        for ssrc in [&self.ssrc, &self.rtx_ssrc].into_iter().flatten() {
            parse_ssrc(ssrc).ok_or_else(|| DescriptionError::Ssrc { found: clip(ssrc) })?;
        }
        Ok(())
    }
}

impl RTCTrackDescription {
    /// Whether it comes in several layers, of which each receiver can be sent another.
    pub fn is_layered(&self) -> bool {
        self.encodings.len() > 1 || self.encodings.iter().any(|it| it.layers() != (1, 1))
    }

    /// Its encodings from the least to the best: the order in which layers are counted.
    pub fn ranked_encodings(&self) -> Vec<&RTCEncoding> {
        let ranks = RTCEncoding::ranks(&self.encodings);
        let mut ranked: Vec<_> = ranks.into_iter().zip(&self.encodings).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, encoding)| encoding).collect()
    }

    /// The SSRCs that its packets, and those that are sent again, are known to have.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + '_ {
        let own = [self.ssrc().ok(), self.rtx_ssrc().ok().flatten()];
        let of_encodings =
            self.encodings.iter().flat_map(|it| [it.ssrc_number(), it.rtx_ssrc_number()]);
        own.into_iter().chain(of_encodings).flatten()
    }

    pub(super) fn validate_encodings(&self) -> Result<(), DescriptionError> {
        let encodings = &self.encodings;
        if encodings.is_empty() {
            return Ok(());
        }
        if encodings.len() > MAX_ENCODINGS {
            return Err(DescriptionError::TooManyEncodings { found: encodings.len() });
        }
        if self.kind != TrackKind::Video {
            return Err(DescriptionError::EncodingsOfSound);
        }
        let has_rid = header_extension::id_of(&self.header_extensions, header_extension::RID);
        let mut taken: Vec<Ssrc> = Vec::new();
        for (at, encoding) in encodings.iter().enumerate() {
            encoding.validate()?;
            let rid = || encoding.rid.clone();
            if encodings[..at].iter().any(|other| other.rid == encoding.rid) {
                return Err(DescriptionError::DuplicateRid { rid: rid() });
            }
            // One alone may have that of the track.
            let is_known = encoding.ssrc.is_some() || encodings.len() == 1;
            if !is_known && has_rid.is_none() {
                return Err(DescriptionError::NoRidExtension { rid: rid() });
            }
            for ssrc in [encoding.ssrc_number(), encoding.rtx_ssrc_number()].into_iter().flatten() {
                if taken.contains(&ssrc) {
                    return Err(DescriptionError::DuplicateEncodingSsrc { ssrc: ssrc.0 });
                }
                taken.push(ssrc);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(encodings: serde_json::Value, extensions: serde_json::Value) -> RTCTrackDescription {
        serde_json::from_value(serde_json::json!({
            "kind": "video", "ssrc": "7", "msid": ["m"],
            "codecs": [{ "payload-id": 96, "name": "vp8" }],
            "encodings": encodings, "headerExtensions": extensions,
        }))
        .unwrap()
    }

    fn with_ssrcs(encodings: serde_json::Value) -> RTCTrackDescription {
        video(encodings, serde_json::json!([]))
    }

    #[test]
    fn encodings_are_read_and_written_in_the_names_of_browsers() {
        let encodings = serde_json::json!([
            { "rid": "q", "maxBitrate": 150_000, "scaleResolutionDownBy": 4.0, "ssrc": "1", "rtxSsrc": "2" },
            { "rid": "f", "active": false, "scalabilityMode": "L1T3", "ssrc": "7" },
        ]);
        let description = with_ssrcs(encodings.clone());
        assert_eq!(description.validate(), Ok(()));
        assert_eq!(serde_json::to_value(&description.encodings).unwrap(), encodings);
        assert_eq!(description.encodings[1].layers(), (1, 3));
        assert_eq!(description.ssrcs().collect::<Vec<_>>(), [7, 1, 2, 7].map(Ssrc));
        assert!(description.is_layered());
        let none = with_ssrcs(serde_json::json!([]));
        assert!(
            !none.is_layered() && serde_json::to_value(&none).unwrap().get("encodings").is_none()
        );
    }

    #[test]
    fn the_best_is_the_largest_then_the_one_that_takes_most_then_the_last() {
        for (encodings, expected) in [
            (serde_json::json!([["f", 1.0, null], ["h", 2.0, null], ["q", 4.0, null]]), "qhf"),
            (serde_json::json!([["a", null, null], ["b", null, null]]), "ab"),
            (serde_json::json!([["a", null, 9], ["b", null, 3], ["c", 1.0, null]]), "bac"),
        ] {
            let encodings = encodings.as_array().unwrap().iter().map(|it| {
                serde_json::json!({
                    "rid": it[0], "scaleResolutionDownBy": it[1], "maxBitrate": it[2],
                })
            });
            let description = with_ssrcs(encodings.collect());
            let rids: String =
                description.ranked_encodings().iter().map(|it| it.rid.as_str()).collect();
            assert_eq!(rids, expected);
        }
    }

    #[test]
    fn encodings_that_are_not_sound_are_refused() {
        let many: Vec<_> = (0..5).map(|n| serde_json::json!({ "rid": format!("r{n}") })).collect();
        for (encodings, message) in [
            (serde_json::json!([{ "rid": "" }]), DescriptionError::Rid { found: String::new() }),
            (serde_json::json!([{ "rid": "a b" }]), DescriptionError::Rid { found: "a b".into() }),
            (
                serde_json::json!([{ "rid": "a", "ssrc": "1" }, { "rid": "a", "ssrc": "2" }]),
                DescriptionError::DuplicateRid { rid: "a".into() },
            ),
            (
                serde_json::json!([{ "rid": "a", "ssrc": "1" }, { "rid": "b", "ssrc": "1" }]),
                DescriptionError::DuplicateEncodingSsrc { ssrc: 1 },
            ),
            (
                serde_json::json!([{ "rid": "a", "ssrc": "1" }, { "rid": "b" }]),
                DescriptionError::NoRidExtension { rid: "b".into() },
            ),
            (
                serde_json::json!([{ "rid": "a", "scaleResolutionDownBy": 0.5 }]),
                DescriptionError::Scale { rid: "a".into() },
            ),
            (
                serde_json::json!([{ "rid": "a", "scalabilityMode": "" }]),
                DescriptionError::ScalabilityMode { rid: "a".into() },
            ),
            (
                serde_json::json!([{ "rid": "a", "ssrc": "-1" }]),
                DescriptionError::Ssrc { found: "-1".into() },
            ),
            (serde_json::json!(many), DescriptionError::TooManyEncodings { found: 5 }),
        ] {
            assert_eq!(with_ssrcs(encodings).validate(), Err(message));
        }
        let uri = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
        let rids = serde_json::json!([{ "rid": "a" }, { "rid": "b" }]);
        let named = video(rids, serde_json::json!([{ "uri": uri, "id": 10 }]));
        assert_eq!(named.validate(), Ok(()));
        let mut sound = named;
        sound.kind = TrackKind::Audio;
        assert_eq!(sound.validate(), Err(DescriptionError::EncodingsOfSound));
    }
}
