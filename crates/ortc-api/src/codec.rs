//! Which codecs this crate sends and receives.

use ortc_rtp::codec::Repeater;
use ortc_rtp::{
    CodecName, RTCCodec, RTCHeaderExtension, RTCTrackDescription, RtcpFeedback, ToneRedundancy,
    TrackKind,
};

use crate::format::MediaFormat;

/// What this crate can send and receive (ORTC drafts, "RTCCapabilities").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RTCCapabilities {
    /// The audio codecs, `dtmf` among them.
    pub audio_codecs: Vec<RTCCodec>,
    /// The video codecs, and behind them `rtx` for each of them (RFC 4588).
    pub video_codecs: Vec<RTCCodec>,
    /// The header extensions that are known to make sense wherever media is forwarded to, with
    /// ids that they may have. Others that both sides of a forwarded track describe are passed on
    /// too, unless they concern one connection only, as that of transport-wide congestion control
    /// does, which is the last. Not in the drafts.
    pub header_extensions: Vec<RTCHeaderExtension>,
}

/// What this crate can send and receive.
#[doc(alias = "getRTCCapabilities")]
pub fn rtc_capabilities() -> RTCCapabilities {
    let own = CodecName::all().filter(|codec| *codec != CodecName::Rtx);
    let (video, audio): (Vec<_>, Vec<_>) = own.partition(|codec| codec.kind() == TrackKind::Video);
    // `red` is no codec of its own: it is that of Opus, as browsers have it.
    let describe = |codecs: Vec<CodecName>| {
        codecs.into_iter().map(|codec| match codec {
            CodecName::Red => redundant(&CodecName::Opus.default_codec(), 1),
            codec => codec.default_codec(),
        })
    };
    let mut header_extensions: Vec<_> = RTCHeaderExtension::known().collect();
    header_extensions.extend(RTCHeaderExtension::transport_number(&header_extensions));
    RTCCapabilities {
        audio_codecs: describe(audio).collect(),
        video_codecs: with_retransmission(describe(video).collect()),
        header_extensions,
    }
}

/// The codec of this name, with the payload type that browsers use; `None` when unknown.
///
/// Names are compared without regard to case: `opus`, `alaw` (or `PCMA`), `ulaw` (or `PCMU`),
/// `dtmf`, `red`, `vp8`, `vp9`, `av1`, `h264`, `rtx`. What `red` repeats is to be added: see
/// [`RTCCodec::repeated`]; and `rtx` is that of VP8, see [`RTCCodec::retransmitted`].
#[doc(alias = "getRTCCodec")]
pub fn rtc_codec(name: &str) -> Option<RTCCodec> {
    CodecName::parse(name).map(CodecName::default_codec)
}

/// The codecs that a local track of this format is offered with; of sound, each packet repeats so
/// many of those before it.
pub(crate) fn offered(format: MediaFormat, repeated: u8) -> Vec<RTCCodec> {
    let codec = format.codec().default_codec();
    if repeated > 0 && format.codec().is_repeatable() {
        return vec![redundant(&codec, repeated), codec];
    }
    with_retransmission(vec![codec])
}

fn redundant(codec: &RTCCodec, repeated: u8) -> RTCCodec {
    codec.repeated(CodecName::Red.default_payload_type().0, repeated)
}

/// The codecs that a received track is forwarded with: as they are received, but for what the
/// sender acts upon, which is us.
pub(crate) fn forwarded(received: &RTCTrackDescription) -> Vec<RTCCodec> {
    let mut codecs = received.codecs.clone();
    for codec in &mut codecs {
        let own = codec.known().and_then(CodecName::default_feedback);
        // Of sound, nothing is sent again unless its source does so.
        let nack = RtcpFeedback::Nack;
        codec.rtcp_feedback =
            own.or_else(|| codec.takes(nack).then(|| vec![nack.as_str().to_owned()]));
    }
    with_retransmission(codecs)
}

/// The same codecs without what only the media plane does: acting upon feedback.
pub(crate) fn without_feedback(mut codecs: Vec<RTCCodec>) -> Vec<RTCCodec> {
    codecs.retain(|codec| codec.known() != Some(CodecName::Rtx));
    codecs.iter_mut().for_each(|codec| codec.rtcp_feedback = None);
    codecs
}

/// Adds `rtx` for each codec of pictures that has none yet, under the number that browsers use,
/// the next one, or any that is free.
fn with_retransmission(mut codecs: Vec<RTCCodec>) -> Vec<RTCCodec> {
    let pictures = |codec: &&RTCCodec| is_supported(TrackKind::Video, codec);
    for codec in codecs.iter().filter(pictures).cloned().collect::<Vec<_>>() {
        let is_free = |id: &u8| !codecs.iter().any(|codec| codec.payload_id == *id);
        let mut wanted = [codec.payload_id + 1].into_iter().chain(96..=127).chain(35..=63);
        let sent_again = |other: &RTCCodec| other.associated_type() == Some(codec.payload_type());
        if !codecs.iter().any(sent_again)
            && let Some(id) = wanted.find(|id| !(64..=95).contains(id) && *id < 128 && is_free(id))
        {
            codecs.push(codec.retransmitted(id));
        }
    }
    codecs
}

/// Whether packets of this codec, or those of `rtx` for it, are among `chosen`.
pub(crate) fn goes_with(chosen: &[RTCCodec], codec: &RTCCodec) -> bool {
    let original = codec.associated_type();
    chosen.iter().any(|it| original == Some(it.payload_type()))
}

/// Whether frames of tracks of `kind` can be received with this codec.
pub(crate) fn is_supported(kind: TrackKind, codec: &RTCCodec) -> bool {
    let has_frames = |known| !matches!(known, CodecName::Dtmf | CodecName::Red | CodecName::Rtx);
    codec.known().is_some_and(|known| known.kind() == kind && has_frames(known))
}

/// A description with only those codecs that are received: those with frames, and what is beside
/// them.
pub(crate) fn received(description: &RTCTrackDescription) -> RTCTrackDescription {
    let mut received = description.clone();
    received.codecs.retain(|codec| {
        is_supported(description.kind, codec)
            || matches!(codec.known(), Some(CodecName::Dtmf | CodecName::Red))
            || codec.associated_type().is_some_and(|original| {
                let codecs = &description.codecs;
                codecs
                    .iter()
                    .any(|it| it.payload_type() == original && is_supported(description.kind, it))
            })
    });
    received
}

/// Whether it is that of the telephone keys beside audio.
pub(crate) fn is_dtmf(codec: &RTCCodec) -> bool {
    codec.known() == Some(CodecName::Dtmf)
}

/// The codec of telephone keys with a payload type that `others` leave free; `None` when there
/// is none left.
pub(crate) fn free_dtmf(others: &[RTCCodec]) -> Option<RTCCodec> {
    let default = CodecName::Dtmf.default_codec();
    // What browsers use, what the drafts' examples have, and all that are for this (RFC 3551 §6).
    let mut wanted = [default.payload_id, 101].into_iter().chain(96..=127);
    let payload_id = wanted.find(|id| !others.iter().any(|codec| codec.payload_id == *id))?;
    Some(RTCCodec { payload_id, ..default })
}

/// How telephone events are repeated, if a codec `red` is described that does.
pub(crate) fn redundancy(
    description: &RTCTrackDescription,
    dtmf: &RTCCodec,
) -> Option<ToneRedundancy> {
    description.codecs.iter().find_map(|codec| {
        let types = codec.redundant_types()?;
        let times = types.iter().filter(|id| **id == dtmf.payload_type()).count();
        let events = times.checked_sub(1).filter(|events| *events > 0)?;
        let events = u8::try_from(events).unwrap_or(u8::MAX);
        Some(ToneRedundancy { payload_type: codec.payload_type(), events })
    })
}

/// The codecs of a list that a local track of this format is sent as: the first that can be, which
/// may be `red`, with what that repeats behind it.
pub(crate) fn sent_as(format: MediaFormat, codecs: &[RTCCodec]) -> Vec<RTCCodec> {
    let repeated = |red: &RTCCodec| {
        let payload_type = Repeater::of(red)?.payload_type();
        let codec = codecs.iter().find(|codec| codec.payload_type() == payload_type)?;
        (carries(format, codec) && format.codec().is_repeatable()).then_some(codec)
    };
    let choice = codecs.iter().find_map(|codec| {
        if carries(format, codec) {
            return Some(vec![codec.clone()]);
        }
        Some(vec![codec.clone(), repeated(codec)?.clone()])
    });
    choice.unwrap_or_default()
}

/// Whether a track of this format can be sent as this codec.
pub(crate) fn carries(format: MediaFormat, codec: &RTCCodec) -> bool {
    codec.known() == Some(format.codec())
}
