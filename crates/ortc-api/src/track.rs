use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use ortc_io::ring::RingReceiver;
use ortc_rtp::codec::Repeater;
use ortc_rtp::{
    CodecName, InsertedPacket, Layer, RTCCodec, RTCHeaderExtension, RTCMediaAttributes,
    RTCTrackDescription, RtcpFeedback, RtpCommand, Ssrc, TrackKind,
};

use crate::codec;
use crate::connection::{Command, Inner};
use crate::dtmf::{AddDtmfError, Sent, Tones};
use crate::error::{TrackAttributeError, TrackError};
use crate::media::{MediaStream, MediaStreamTrack, Reception, lock};
use crate::simulcast::{SentEncoding, Start};
use crate::source::{Bounds, Source};

/// Bytes that the pairs of one track may take in its packets: one RFC 8285 two-byte element.
const MAX_EXT_HEADERS: usize = 255;

/// A track that a connection sends (ORTC drafts, "RTCTrack").
///
/// Cheap to clone; clones are the same track. It does not keep its connection alive.
#[derive(Clone)]
pub struct RTCTrack {
    inner: Arc<TrackInner>,
}

struct TrackInner {
    connection: Weak<Inner>,
    source: MediaStreamTrack,
    ssrc: Ssrc,
    /// Of what is sent again.
    rtx_ssrc: Option<Ssrc>,
    /// Of a local track in several encodings, from the least to the best.
    encodings: Vec<SentEncoding>,
    /// What the source has to keep to; shared with its outlet.
    bounds: Arc<Bounds>,
    state: Mutex<TrackState>,
}

struct TrackState {
    codecs: Vec<RTCCodec>,
    msid: Vec<String>,
    ext_headers: BTreeMap<String, String>,
    /// Of a forwarded track, with the ids that it is sent with.
    header_extensions: Vec<RTCHeaderExtension>,
    max_bitrate: Option<u64>,
    enabled: bool,
    removed: bool,
    /// The telephone keys that are sent with it, and what they call it.
    tones: Option<(Arc<Tones>, u64)>,
}

impl RTCTrack {
    pub(crate) fn new(
        connection: Weak<Inner>,
        source: MediaStreamTrack,
        ssrcs: Vec<(Ssrc, Option<Ssrc>)>,
        codecs: Vec<RTCCodec>,
        stream: &MediaStream,
        enabled: bool,
    ) -> Self {
        let received = source.reception().map(Reception::description);
        let received = received.as_ref().map(|it| &it.header_extensions);
        let passes = |extension: &&RTCHeaderExtension| !extension.is_hop_by_hop();
        let mut header_extensions: Vec<_> =
            received.into_iter().flatten().filter(passes).cloned().collect();
        // Without numbers there is no feedback about them.
        if codecs.iter().any(|codec| codec.takes(RtcpFeedback::TransportWide)) {
            header_extensions.extend(RTCHeaderExtension::transport_number(&header_extensions));
        }
        let state = TrackState {
            codecs,
            msid: vec![stream.id().to_owned()],
            ext_headers: BTreeMap::new(),
            header_extensions,
            max_bitrate: None,
            enabled,
            removed: false,
            tones: None,
        };
        let encodings = SentEncoding::all(source.local_encodings(), &ssrcs);
        // The best of several stands for all, for a peer that knows of no others.
        let (ssrc, rtx_ssrc) = ssrcs.last().copied().unwrap_or((Ssrc(0), None));
        let bounds = Arc::default();
        let state = Mutex::new(state);
        let inner = TrackInner { connection, source, ssrc, rtx_ssrc, encodings, bounds, state };
        Self { inner: Arc::new(inner) }
    }

    /// The track that is sent.
    pub fn source(&self) -> &MediaStreamTrack {
        &self.inner.source
    }

    /// Audio or video.
    pub fn kind(&self) -> TrackKind {
        self.inner.source.kind()
    }

    /// The SSRC in decimal, as descriptions spell it.
    pub fn ssrc(&self) -> String {
        self.inner.ssrc.0.to_string()
    }

    /// What it is sent in, where that is several encodings.
    pub(crate) fn sent_encodings(&self) -> &[SentEncoding] {
        &self.inner.encodings
    }

    /// The SSRCs that it is sent with, each with that of what is sent again: one of each encoding.
    pub(crate) fn ssrcs(&self) -> Vec<(Ssrc, Option<Ssrc>)> {
        match &self.inner.encodings[..] {
            [] => vec![(self.inner.ssrc, self.inner.rtx_ssrc)],
            encodings => encodings.iter().map(|it| (it.ssrc, it.rtx_ssrc)).collect(),
        }
    }

    /// The local source, or encoding, that is sent with an SSRC.
    pub(crate) fn source_of(&self, ssrc: Ssrc) -> Option<&Source> {
        if let Some(encoding) = self.inner.encodings.iter().find(|it| it.ssrc == ssrc) {
            return Some(&encoding.source);
        }
        self.inner.source.local_source().filter(|_| self.inner.ssrc == ssrc)
    }

    /// Ids of the streams that this track belongs to.
    pub fn msid(&self) -> Vec<String> {
        lock(&self.inner.state).msid.clone()
    }

    /// Sets the ids of the streams that this track belongs to, for descriptions from now on.
    ///
    /// # Errors
    /// When no valid description has them.
    pub fn set_msid(&self, msid: Vec<String>) -> Result<(), TrackAttributeError> {
        let changed = RTCTrackDescription { msid, ..self.description() };
        changed.validate()?;
        lock(&self.inner.state).msid = changed.msid;
        Ok(())
    }

    /// The codecs that may be sent.
    pub fn codecs(&self) -> Vec<RTCCodec> {
        lock(&self.inner.state).codecs.clone()
    }

    /// Sets the codecs that may be sent. The first of them that is supported, and is what the
    /// source carries, is sent from now on.
    ///
    /// That may be `red` for the codec of a local track of sound ([`RTCCodec::repeated`]): then each
    /// packet repeats up to three of those before it (RFC 2198), as many as it lists, and what is
    /// lost is heard all the same. A peer that does not know `red` would hear nothing; one that
    /// gets the track forwarded by this crate, described without it, is sent each packet without
    /// what it repeats.
    ///
    /// # Errors
    /// When the list is empty, no valid description has it, or no codec in it can be sent.
    pub fn set_codecs(&self, codecs: Vec<RTCCodec>) -> Result<(), TrackAttributeError> {
        if codecs.is_empty() {
            return Err(TrackAttributeError::NoCodec);
        }
        let changed = RTCTrackDescription { codecs, ..self.description() };
        changed.validate()?;
        let chosen = self.choose(&changed.codecs);
        if chosen.is_empty() {
            let names: Vec<_> = changed.codecs.iter().map(|codec| &*codec.name).collect();
            return Err(TrackAttributeError::NoSupportedCodec(names.join(", ")));
        }
        let mut state = lock(&self.inner.state);
        for (command, outlet) in self.send_as(&state, chosen) {
            self.command(&state, command)?;
            self.install(outlet);
        }
        state.codecs = changed.codecs;
        if !state.ext_headers.is_empty() {
            // Key frames are known by the codec.
            self.tell_ext_headers(&state)?;
        }
        if let Some((tones, sink)) = &state.tones {
            tones.set_sent(*sink, self.tones_as(&state));
        }
        Ok(())
    }

    /// The telephone keys that are sent with it.
    pub(crate) fn tones(&self) -> Option<Arc<Tones>> {
        lock(&self.inner.state).tones.as_ref().map(|(tones, _)| Arc::clone(tones))
    }

    /// Has telephone keys sent with it, and a codec for them in its description; with `is_only`
    /// they end with it.
    pub(crate) fn send_tones(&self, tones: &Arc<Tones>, is_only: bool) -> Result<(), AddDtmfError> {
        let connection = self.inner.connection.upgrade().ok_or(AddDtmfError::Closed)?;
        let mut state = lock(&self.inner.state);
        match &state.tones {
            _ if state.removed => return Err(AddDtmfError::NotSent),
            Some((others, _)) if Arc::ptr_eq(others, tones) => return Ok(()),
            Some(_) => return Err(AddDtmfError::Taken),
            None => {}
        }
        let mut codecs = state.codecs.clone();
        if !codecs.iter().any(codec::is_dtmf) && self.tones_as(&state).is_none() {
            codecs.push(codec::free_dtmf(&codecs).ok_or(AddDtmfError::NoPayloadType)?);
        }
        let codecs = std::mem::replace(&mut state.codecs, codecs);
        let sent = self.tones_as(&state).ok_or(AddDtmfError::NoPayloadType)?;
        tones.set_label(self.inner.source.id());
        // Keys of a peer are forwarded with their audio, and not sent.
        let (packets, attachment) = tones.attach(sent, is_only).ok_or(AddDtmfError::Taken)?;
        let sink = attachment.sink();
        let commanded = self
            .command(&state, RtpCommand::SendTones(self.inner.ssrc, packets))
            .map_err(AddDtmfError::from)
            .and_then(|()| Ok(connection.send(Command::Tones(attachment))?));
        match commanded {
            Ok(()) => state.tones = Some((Arc::clone(tones), sink)),
            Err(_) => state.codecs = codecs,
        }
        commanded
    }

    /// What telephone keys are sent as: preferably on the clock of the audio (RFC 4733 §2.1), and
    /// repeated where `red` is described for them; or in the sound, if that is how it is done.
    fn tones_as(&self, state: &TrackState) -> Option<Sent> {
        let description = self.describe(state);
        let rate = |codec: &RTCCodec| description.clock_rate_of(codec);
        let is_audio = |codec: &&RTCCodec| codec::is_supported(self.kind(), codec);
        let audio = description.codecs.iter().find(is_audio).and_then(rate);
        let of_tones = || description.codecs.iter().filter(|codec| codec::is_dtmf(codec));
        let codec = of_tones().find(|codec| rate(codec) == audio).or_else(|| of_tones().next());
        let Some(codec) = codec else {
            let connection = self.inner.connection.upgrade()?;
            let sent = self.choose(&state.codecs);
            return sent.iter().filter(|_| connection.in_band_dtmf).find_map(Sent::in_sound);
        };
        let redundancy = codec::redundancy(&description, codec);
        Some(Sent::events(codec.payload_type(), rate(codec)?, redundancy))
    }

    /// Whether it carries telephone keys, sent here or forwarded, also in its sound.
    fn has_tones(&self) -> bool {
        let state = lock(&self.inner.state);
        state.tones.is_some() || state.codecs.iter().any(codec::is_dtmf)
    }

    /// Whether it sends the frames, or the telephone keys, of this track.
    pub(crate) fn sends(&self, source: &MediaStreamTrack) -> bool {
        let tones = source.tones_of();
        let sends_tones = || {
            let state = lock(&self.inner.state);
            let own = state.tones.as_ref().zip(tones);
            own.is_some_and(|((own, _), tones)| Arc::ptr_eq(own, tones))
        };
        self.inner.source == *source || sends_tones()
    }

    /// The codecs of a list that are sent: one, or of a forwarded track all that may come; with
    /// those by which they are sent again.
    fn choose(&self, codecs: &[RTCCodec]) -> Vec<RTCCodec> {
        let mut chosen = self.choose_originals(codecs);
        let again: Vec<_> =
            codecs.iter().filter(|it| codec::goes_with(&chosen, it)).cloned().collect();
        chosen.extend(again);
        chosen
    }

    fn choose_originals(&self, codecs: &[RTCCodec]) -> Vec<RTCCodec> {
        let source = &self.inner.source;
        if let Some(format) = source.format() {
            return codec::sent_as(format, codecs);
        }
        let received = source.reception().map(|it| it.description());
        let received = received.as_ref().map_or(&[][..], |it| &it.codecs);
        let comes = |codec: &&RTCCodec| {
            codec.known() != Some(CodecName::Rtx)
                && received.iter().any(|other| other.is_same_format(codec))
        };
        codecs.iter().filter(comes).cloned().collect()
    }

    /// The bounds on what is sent; any of them may match, none is no bound.
    pub fn media_attributes(&self) -> Vec<RTCMediaAttributes> {
        self.inner.bounds.attributes()
    }

    /// Bounds what is sent: pictures of the source that no entry admits are not sent.
    ///
    /// # Errors
    /// When the source's pictures, as it has said, are larger than every entry; and for a
    /// forwarded track, which is sent as it comes.
    pub fn set_media_attributes(
        &self,
        attributes: Vec<RTCMediaAttributes>,
    ) -> Result<(), TrackAttributeError> {
        if self.inner.source.reception().is_some() && !attributes.is_empty() {
            return Err(TrackAttributeError::Forwarded);
        }
        self.inner.bounds.set(attributes, self.inner.source.dimensions())?;
        Ok(())
    }

    /// The pairs that identify this track in its RTP packets.
    pub fn rtp_ext_headers(&self) -> BTreeMap<String, String> {
        lock(&self.inner.state).ext_headers.clone()
    }

    /// Sets the pairs that identify this track (ORTC drafts, "rtpExtHeaders"): in its packets
    /// from now on, and in descriptions.
    ///
    /// The first 50 packets tell them, those of each key frame and one of 50 besides, until the
    /// peer has reported on the track, which it does once the track is described to it. To a peer
    /// that has no description, they are what
    /// [`RTCEvent::UnknownTrack`](crate::RTCEvent::UnknownTrack) says. Packets authenticate them
    /// and do not encrypt them.
    ///
    /// # Errors
    /// When they take more than 255 bytes as lines of `name=value`, or a name has a `=` or a
    /// line has a line break in it; when the track has been removed, or its connection closed.
    #[doc(alias = "rtpExtHeaders")]
    pub fn set_rtp_ext_headers(
        &self,
        pairs: BTreeMap<String, String>,
    ) -> Result<(), TrackAttributeError> {
        let sound = |(name, value): (&String, &String)| {
            !name.is_empty() && !name.contains(['=', '\n']) && !value.contains('\n')
        };
        let lines: usize = pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        // The last line needs no line feed.
        if lines > MAX_EXT_HEADERS + 1 || !pairs.iter().all(sound) {
            return Err(TrackAttributeError::ExtHeaders);
        }
        let mut state = lock(&self.inner.state);
        let before = std::mem::replace(&mut state.ext_headers, pairs);
        let sent = self.tell_ext_headers(&state);
        if sent.is_err() {
            state.ext_headers = before;
        }
        Ok(sent?)
    }

    /// The header extensions that its packets may have (RFC 8285), with their ids. Those of a
    /// forwarded track are by default those that it is received with, but for what concerns one
    /// connection only; a local track has none. Either has that of transport-wide congestion
    /// control where its codecs have feedback about it, as those of video do.
    pub fn header_extensions(&self) -> Vec<RTCHeaderExtension> {
        lock(&self.inner.state).header_extensions.clone()
    }

    /// Sets the header extensions of a forwarded track and the ids that they are sent with,
    /// those that its peer has for them: from now on and in descriptions. One that the track is
    /// received with, by the name in the description of its sender, gets the id given here. All
    /// others are left out, and so is what concerns one connection only
    /// ([`RTCHeaderExtension::is_hop_by_hop`]), but for the numbers of transport-wide congestion
    /// control, which are this connection's own.
    ///
    /// Numbers of packets stay continuous; of video, a key frame is asked for.
    ///
    /// # Errors
    /// When no valid description has them; when the track is a local one, which sends none; when
    /// it has been removed, or its connection closed.
    pub fn set_header_extensions(
        &self,
        extensions: Vec<RTCHeaderExtension>,
    ) -> Result<(), TrackAttributeError> {
        if self.inner.source.reception().is_none() {
            return Err(TrackAttributeError::NotForwarded);
        }
        let changed = RTCTrackDescription { header_extensions: extensions, ..self.description() };
        changed.validate()?;
        let mut state = lock(&self.inner.state);
        let before = std::mem::replace(&mut state.header_extensions, changed.header_extensions);
        let chosen = self.choose(&state.codecs);
        let mut commands = self.send_as(&state, chosen).into_iter();
        let sent = commands.try_for_each(|(command, _)| self.command(&state, command));
        if sent.is_err() {
            state.header_extensions = before;
        }
        Ok(sent?)
    }

    /// Caps what is to be sent of this track, in bits per second, or not any more: an addition to
    /// the drafts.
    ///
    /// A forwarded track that comes in several layers is sent in one that takes no more, if there is
    /// one. Where all tracks of video have a cap, [`RTCEvent::Bandwidth`](crate::RTCEvent::Bandwidth)
    /// tells no more than their sum, and no more is probed for. A frame that an application sends
    /// in spite of it is sent.
    ///
    /// # Errors
    /// When the track has been removed, or its connection closed.
    pub fn set_max_bitrate(&self, bits_per_second: Option<u64>) -> Result<(), TrackError> {
        let mut state = lock(&self.inner.state);
        let of_others = bits_per_second.map(|_| 0);
        for (ssrc, _) in self.ssrcs() {
            let cap = if ssrc == self.inner.ssrc { bits_per_second } else { of_others };
            self.command(&state, RtpCommand::CapSender(ssrc, cap))?;
        }
        state.max_bitrate = bits_per_second;
        Ok(())
    }

    /// The cap that was set, in bits per second.
    pub fn max_bitrate(&self) -> Option<u64> {
        lock(&self.inner.state).max_bitrate
    }

    /// What the peer has to know to receive this track.
    #[doc(alias = "getDescription")]
    pub fn description(&self) -> RTCTrackDescription {
        self.describe(&lock(&self.inner.state))
    }

    fn describe(&self, state: &TrackState) -> RTCTrackDescription {
        let attributes = self.media_attributes();
        let is_sent_again = state.codecs.iter().any(|it| it.associated_type().is_some());
        RTCTrackDescription {
            kind: self.kind(),
            ssrc: self.ssrc(),
            msid: state.msid.clone(),
            codecs: state.codecs.clone(),
            media_attributes: (!attributes.is_empty()).then_some(attributes),
            rtp_ext_headers: (!state.ext_headers.is_empty()).then(|| state.ext_headers.clone()),
            header_extensions: state.header_extensions.clone(),
            rtx_ssrc: self.inner.rtx_ssrc.filter(|_| is_sent_again).map(|ssrc| ssrc.0.to_string()),
            encodings: self.inner.encodings.iter().map(|it| it.describe(is_sent_again)).collect(),
        }
    }

    /// Whether the track is sent while its connection is connected.
    pub fn is_enabled(&self) -> bool {
        lock(&self.inner.state).enabled
    }

    /// What has the media plane send this track, or each encoding of it, as it is set up, and for a
    /// local one the outlet to install with it.
    pub(crate) fn start_sending(&self) -> Vec<(RtpCommand, Option<Start>)> {
        let state = lock(&self.inner.state);
        let codecs = state.codecs.clone();
        self.send_as(&state, codecs)
    }

    /// The same, or what has it sent differently from now on, with the first of `codecs`.
    fn send_as(
        &self,
        state: &TrackState,
        codecs: Vec<RTCCodec>,
    ) -> Vec<(RtpCommand, Option<Start>)> {
        let enabled = state.enabled;
        let description = RTCTrackDescription { codecs, ..self.describe(state) };
        if let Some(reception) = self.inner.source.reception() {
            let (source, received) = (reception.source, (*reception.description()).clone());
            return vec![(RtpCommand::Forward { description, source, received, enabled }, None)];
        }
        let send = |source: &Arc<Source>, description: RTCTrackDescription, enabled| {
            let repeater = description.codecs.first().and_then(Repeater::of);
            let (outlet, packets) = source.outlet(&self.inner.bounds, repeater)?;
            let start = Start { source: Arc::clone(source), outlet };
            Some((RtpCommand::Send { description, packets, enabled }, Some(start)))
        };
        if self.inner.encodings.is_empty() {
            let source = self.inner.source.own_source();
            return source.and_then(|it| send(it, description, enabled)).into_iter().collect();
        }
        let encodings = self.inner.encodings.iter();
        let start =
            |it: &SentEncoding| send(&it.source, it.of(&description), enabled && it.is_active());
        encodings.filter_map(start).collect()
    }

    pub(crate) fn install(&self, start: Option<Start>) {
        if let Some(Start { source, outlet }) = start {
            source.install(outlet);
        }
    }

    /// Has the packets of each encoding tell the pairs of the track.
    fn tell_ext_headers(&self, state: &TrackState) -> Result<(), TrackError> {
        let description = self.describe(state);
        self.ssrcs().into_iter().try_for_each(|(ssrc, _)| {
            let ssrc = ssrc.0.to_string();
            let description = RTCTrackDescription { ssrc, ..description.clone() };
            self.command(state, RtpCommand::SetExtHeaders(description))
        })
    }

    /// Starts or stops one encoding of a local track that has several; the others go on.
    ///
    /// # Errors
    /// When it has none of this name; as [`start`](Self::start).
    pub fn set_encoding_active(&self, rid: &str, active: bool) -> Result<(), TrackAttributeError> {
        let known = self.inner.encodings.iter().find(|it| it.has_rid(rid));
        let encoding = known.ok_or(TrackAttributeError::NoSuchEncoding)?;
        let state = lock(&self.inner.state);
        let enabled = active && state.enabled;
        self.command(&state, RtpCommand::EnableSender(encoding.ssrc, enabled))?;
        encoding.set_active(active);
        Ok(())
    }

    /// Says which layer is sent at most of a forwarded track that comes in several, `None` for the
    /// best: an addition to the drafts. Of simulcast, `spatial` counts the encodings from the
    /// least; there may be room for less, and then less is sent.
    ///
    /// # Errors
    /// When the track is a local one; as [`start`](Self::start).
    pub fn set_max_layer(&self, max: Option<Layer>) -> Result<(), TrackAttributeError> {
        if self.inner.source.reception().is_none() {
            return Err(TrackAttributeError::NotLayered);
        }
        let state = lock(&self.inner.state);
        let max = max.unwrap_or(Layer::BEST);
        Ok(self.command(&state, RtpCommand::LimitLayer(self.inner.ssrc, max))?)
    }

    /// Starts sending, at once or when the connection is connected.
    ///
    /// # Errors
    /// When the track has been removed, or its connection closed.
    pub fn start(&self) -> Result<(), TrackError> {
        self.enable(true)
    }

    /// Stops sending; [`start`](Self::start) goes on with the same SSRC.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn stop(&self) -> Result<(), TrackError> {
        self.enable(false)
    }

    fn enable(&self, enabled: bool) -> Result<(), TrackError> {
        let mut state = lock(&self.inner.state);
        match &self.inner.encodings[..] {
            [] => self.command(&state, RtpCommand::EnableSender(self.inner.ssrc, enabled))?,
            encodings => encodings.iter().try_for_each(|it| {
                let enabled = enabled && it.is_active();
                self.command(&state, RtpCommand::EnableSender(it.ssrc, enabled))
            })?,
        }
        state.enabled = enabled;
        Ok(())
    }

    /// Removes the track from its connection, with an RTCP BYE; the stream keeps it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn remove(&self) -> Result<(), TrackError> {
        let mut state = lock(&self.inner.state);
        if state.removed {
            return Err(TrackError::Removed);
        }
        let connection = self.inner.connection.upgrade().ok_or(TrackError::Closed)?;
        connection.remove_sender(self)?;
        state.removed = true;
        if let Some((tones, sink)) = state.tones.take() {
            tones.detach(sink);
        }
        Ok(())
    }

    /// Has the media plane put packets among those that are forwarded.
    pub(crate) fn insert(&self, packets: RingReceiver<InsertedPacket>) -> Result<(), TrackError> {
        let state = lock(&self.inner.state);
        self.command(&state, RtpCommand::Insert(self.inner.ssrc, packets))
    }

    /// Passes a command on. The caller holds the state, and so the state and what is sent
    /// change in the same order; the lock of the connection comes after it, never before.
    fn command(&self, state: &TrackState, command: RtpCommand) -> Result<(), TrackError> {
        if state.removed {
            return Err(TrackError::Removed);
        }
        let connection = self.inner.connection.upgrade().ok_or(TrackError::Closed)?;
        connection.send(Command::Rtp(command)).map_err(TrackError::from)
    }

    /// Whether the track belongs to this stream.
    pub(crate) fn is_of(&self, stream: &MediaStream) -> bool {
        lock(&self.inner.state).msid.iter().any(|id| id == stream.id())
    }
}

impl PartialEq for RTCTrack {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for RTCTrack {}

impl fmt::Debug for RTCTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RTCTrack")
            .field("kind", &self.kind())
            .field("ssrc", &self.inner.ssrc.0)
            .finish_non_exhaustive()
    }
}

/// Chooses among the sending tracks of a connection (ORTC drafts, "RTCTrackFilter").
#[derive(Debug, Clone, Default)]
pub struct RTCTrackFilter {
    /// Only tracks of this stream.
    pub media_stream: Option<MediaStream>,
    /// Only tracks of this kind; `dtmf` are audio tracks with telephone keys.
    pub kind: Option<TrackKind>,
}

impl RTCTrackFilter {
    pub(crate) fn admits(&self, track: &RTCTrack) -> bool {
        self.media_stream.as_ref().is_none_or(|stream| track.is_of(stream))
            && self.kind.is_none_or(|kind| {
                track.kind() == kind || (kind == TrackKind::Dtmf && track.has_tones())
            })
    }
}
