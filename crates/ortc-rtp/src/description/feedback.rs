//! What descriptions say about feedback (RFC 4585) and packets that are sent again (RFC 4588).

use super::{CodecName, DescriptionError, RTCCodec, RTCCodecParam, RTCTrackDescription, TrackKind};
use crate::{PayloadType, Ssrc};

/// Most kinds of feedback that one codec names: a dozen are registered.
const MAX_FEEDBACK: usize = 32;
/// Longest name of one in bytes.
const MAX_FEEDBACK_LEN: usize = 64;
/// The parameter of `rtx` that names what it sends again (RFC 4588 §8.1).
const APT: &str = "apt";

/// What a receiver may send back about a track, and its sender acts upon, as `rtcpFeedback` of an
/// [`RTCCodec`] names it. The names are those of SDP's `rtcp-fb` (RFC 4585 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RtcpFeedback {
    /// `nack`: packets that were lost are sent again (RFC 4585 §6.2.1).
    Nack,
    /// `nack pli`: a picture was lost, and a key frame is asked for (RFC 4585 §6.3.1).
    PictureLoss,
    /// `ccm fir`: a key frame is asked for (RFC 5104 §4.3.1).
    FullIntraRequest,
    /// `transport-cc`: when each packet of the connection has arrived
    /// (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportWide,
    /// `goog-remb`: how much the receiver takes the path to carry
    /// (draft-alvestrand-rmcat-remb-03).
    MaximumBitrate,
    /// `ack ccfb`: when each packet of a stream has arrived (RFC 8888).
    CongestionControl,
}

impl RtcpFeedback {
    const ALL: [(Self, &str); 6] = [
        (Self::Nack, "nack"),
        (Self::PictureLoss, "nack pli"),
        (Self::FullIntraRequest, "ccm fir"),
        (Self::TransportWide, "transport-cc"),
        (Self::MaximumBitrate, "goog-remb"),
        (Self::CongestionControl, "ack ccfb"),
    ];

    /// The feedback of this name, in upper or lower case; `None` for any other, which is no
    /// error: a peer may act upon more than we send.
    pub fn parse(name: &str) -> Option<Self> {
        let known = Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        known.map(|(feedback, _)| *feedback)
    }

    /// Its name in descriptions.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(feedback, _)| *feedback == self).map_or("", |(_, name)| name)
    }
}

impl CodecName {
    /// What is acted upon when this crate sends the codec: of video, lost packets are sent again,
    /// key frames are asked for, and what may be sent is estimated. `None` for audio: what is sent again mostly comes too late
    /// to be heard.
    pub fn default_feedback(self) -> Option<Vec<String>> {
        let is_video = self.kind() == TrackKind::Video && self != Self::Rtx;
        let all = [
            RtcpFeedback::Nack,
            RtcpFeedback::PictureLoss,
            RtcpFeedback::FullIntraRequest,
            RtcpFeedback::TransportWide,
            RtcpFeedback::MaximumBitrate,
        ];
        is_video.then(|| all.iter().map(|feedback| feedback.as_str().to_owned()).collect())
    }
}

impl RTCCodec {
    /// Whether the sender of this codec acts upon that feedback.
    ///
    /// Where nothing is said, which is so in the drafts' own messages, that is
    /// [`RtcpFeedback::PictureLoss`] alone: it does no harm where it is not known.
    pub fn takes(&self, feedback: RtcpFeedback) -> bool {
        match &self.rtcp_feedback {
            None => feedback == RtcpFeedback::PictureLoss,
            Some(all) => all.iter().any(|name| RtcpFeedback::parse(name) == Some(feedback)),
        }
    }

    /// The codec `rtx` (RFC 4588) with the payload type `payload_id`, by which packets of this
    /// codec are sent again.
    ///
    /// ```
    /// use ortc_rtp::{CodecName, PayloadType};
    ///
    /// let rtx = CodecName::Vp8.default_codec().retransmitted(97);
    /// assert_eq!((&*rtx.name, rtx.payload_id, rtx.clock_rate), ("rtx", 97, Some(90_000)));
    /// assert_eq!(rtx.associated_type(), Some(PayloadType(96)));
    /// ```
    pub fn retransmitted(&self, payload_id: u8) -> Self {
        Self {
            payload_id,
            name: CodecName::Rtx.as_str().into(),
            kind: self.kind.or_else(|| self.known().map(CodecName::kind)),
            // RFC 4588 §8.6: the same as that of what it sends again.
            clock_rate: self.clock_rate,
            num_channels: None,
            params: vec![RTCCodecParam {
                name: APT.into(),
                value: Some(self.payload_id.to_string()),
            }],
            rtcp_feedback: None,
        }
    }

    /// Of `rtx`, the payload type of what it sends again, as its parameter `apt` says. `None` for
    /// other codecs, without the parameter, and where that is no payload type.
    pub fn associated_type(&self) -> Option<PayloadType> {
        if self.known() != Some(CodecName::Rtx) {
            return None;
        }
        let id: u8 = self.param(APT)?.parse().ok()?;
        (id < 0x80).then_some(PayloadType(id))
    }

    pub(super) fn validate_feedback(&self) -> Result<(), DescriptionError> {
        let (payload_id, all) = (self.payload_id, self.rtcp_feedback.as_deref());
        let all = all.unwrap_or_default();
        if all.len() > MAX_FEEDBACK {
            return Err(DescriptionError::TooMuchFeedback { payload_id, found: all.len() });
        }
        let is_name = |name: &String| {
            let is_word =
                |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic());
            name.len() <= MAX_FEEDBACK_LEN && name.split(' ').all(is_word)
        };
        if all.iter().all(is_name) {
            Ok(())
        } else {
            Err(DescriptionError::Feedback { payload_id })
        }
    }
}

impl RTCTrackDescription {
    /// The SSRC of what is sent again, if it is sent by `rtx` on a stream of its own: so where
    /// `rtxSsrc` is there, and a codec `rtx`.
    ///
    /// # Errors
    /// [`DescriptionError::RtxSsrc`] when it is no decimal number of 32 bits.
    pub fn rtx_ssrc(&self) -> Result<Option<Ssrc>, DescriptionError> {
        let Some(text) = &self.rtx_ssrc else { return Ok(None) };
        let ssrc = super::parse_ssrc(text)
            .ok_or_else(|| DescriptionError::RtxSsrc { found: super::clip(text) })?;
        Ok((!self.associated_types().is_empty()).then_some(ssrc))
    }

    /// The payload types of packets that are sent again, each behind that of the original.
    pub fn associated_types(&self) -> Vec<(PayloadType, PayloadType)> {
        let rtx = |codec: &RTCCodec| Some((codec.associated_type()?, codec.payload_type()));
        self.codecs.iter().filter_map(rtx).collect()
    }

    /// Whether the sender acts upon that feedback, whichever of its codecs it sends.
    pub fn takes(&self, feedback: RtcpFeedback) -> bool {
        let is_media = |codec: &&RTCCodec| {
            !matches!(codec.known(), Some(CodecName::Rtx | CodecName::Red | CodecName::Dtmf))
        };
        self.codecs.iter().filter(is_media).any(|codec| codec.takes(feedback))
    }

    pub(super) fn validate_retransmission(&self) -> Result<(), DescriptionError> {
        for codec in self.codecs.iter().filter(|codec| codec.known() == Some(CodecName::Rtx)) {
            let is_original = |id| {
                let original = self.codecs.iter().find(|other| other.payload_type() == id);
                original.is_some_and(|original| original.known() != Some(CodecName::Rtx))
            };
            if !codec.associated_type().is_some_and(is_original) {
                return Err(DescriptionError::AssociatedType { payload_id: codec.payload_id });
            }
        }
        if self.rtx_ssrc()?.is_some_and(|rtx| Ok(rtx) == self.ssrc()) {
            return Err(DescriptionError::SameRtxSsrc);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video() -> RTCTrackDescription {
        let vp8 = CodecName::Vp8.default_codec();
        let rtx = vp8.retransmitted(97);
        RTCTrackDescription {
            kind: TrackKind::Video,
            ssrc: "1".into(),
            msid: Vec::new(),
            codecs: vec![vp8, rtx],
            media_attributes: None,
            rtp_ext_headers: None,
            header_extensions: Vec::new(),
            rtx_ssrc: Some("2".into()),
            encodings: Vec::new(),
        }
    }

    fn with(change: impl FnOnce(&mut RTCTrackDescription)) -> Result<(), String> {
        let mut description = video();
        change(&mut description);
        description.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_acted_upon_is_named_as_in_sdp_and_silence_means_key_frames() {
        let mut codec = CodecName::Vp8.default_codec();
        let usual = ["nack", "nack pli", "ccm fir", "transport-cc", "goog-remb"];
        assert_eq!(codec.rtcp_feedback.as_deref().unwrap(), usual);
        let taken = |codec: &RTCCodec| -> Vec<_> {
            let all = RtcpFeedback::ALL.iter().map(|(feedback, _)| *feedback);
            all.filter(|feedback| codec.takes(*feedback)).map(RtcpFeedback::as_str).collect()
        };
        assert_eq!(taken(&codec), usual);
        codec.rtcp_feedback = None;
        assert_eq!(taken(&codec), ["nack pli"]);
        codec.rtcp_feedback = Some(Vec::new());
        assert!(taken(&codec).is_empty());
        codec.rtcp_feedback = Some(["Transport-CC", "x-later 7"].map(str::to_owned).into());
        assert_eq!(taken(&codec), ["transport-cc"]);
        assert_eq!(CodecName::Opus.default_codec().rtcp_feedback, None);
        assert_eq!(CodecName::Rtx.default_codec().rtcp_feedback, None);
    }

    #[test]
    fn what_is_sent_again_has_types_and_an_ssrc_of_its_own() {
        let mut description = video();
        assert_eq!(description.validate(), Ok(()));
        assert_eq!(description.rtx_ssrc(), Ok(Some(Ssrc(2))));
        assert_eq!(description.associated_types(), [(PayloadType(96), PayloadType(97))]);
        assert_eq!(description.payload_types(), [(PayloadType(96), 90_000)], "none of the track's");
        assert!(description.takes(RtcpFeedback::Nack));
        let json = serde_json::to_value(&description).unwrap();
        assert_eq!((&json["rtxSsrc"], &json["codecs"][1]["name"]), (&"2".into(), &"rtx".into()));
        description.codecs.pop();
        assert_eq!(description.rtx_ssrc(), Ok(None), "nothing is sent on it");
        assert_eq!(description.validate(), Ok(()));
    }

    #[test]
    fn rtx_without_an_original_is_refused() {
        let apt = |id: &str| {
            Err(format!(
                "the codec \"rtx\" with payload-id {id} needs a parameter apt that is the \
                 payload-id of another codec of the track (RFC 4588 §8.1)"
            ))
        };
        assert_eq!(with(|it| it.codecs[1].params.clear()), apt("97"));
        for value in ["97", "98", "", "-1", "vp8", "300"] {
            let result = with(|it| it.codecs[1].params[0].value = Some(value.into()));
            assert_eq!(result, apt("97"), "{value}");
        }
        // Not of what is sent again itself.
        let again = |it: &mut RTCTrackDescription| {
            let again = it.codecs[1].retransmitted(98);
            it.codecs.push(again);
        };
        assert_eq!(with(again), apt("98"));
        assert_eq!(
            with(|it| it.rtx_ssrc = Some("1".into())),
            Err("rtxSsrc is the ssrc of the track: what is sent again needs one of its own".into())
        );
        assert_eq!(
            with(|it| it.rtx_ssrc = Some("0x7".into())),
            Err("the rtxSsrc \"0x7\" is not a decimal number from 0 to 4294967295: pass it as a \
                 string of digits"
                .into())
        );
    }

    #[test]
    fn feedback_is_words_and_bounded() {
        let feedback = |all: Vec<String>| with(|it| it.codecs[0].rtcp_feedback = Some(all));
        assert_eq!(feedback(vec!["nack".into(); 32]), Ok(()));
        assert_eq!(
            feedback(vec!["nack".into(); 33]),
            Err("the codec with payload-id 96 has 33 entries of rtcpFeedback, at most 32 are \
                 taken"
                .into())
        );
        for name in ["", " nack", "nack  pli", "nack\npli", &"x".repeat(65)] {
            assert_eq!(
                feedback(vec![name.to_owned()]),
                Err("an rtcpFeedback of the codec with payload-id 96 is not 1 to 64 printable \
                     ASCII characters with single spaces, such as \"nack pli\""
                    .into()),
                "{name:?}"
            );
        }
    }
}
