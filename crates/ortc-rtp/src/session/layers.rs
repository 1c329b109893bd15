//! Received tracks in several layers, and what each peer is sent of those of others.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::ring::{PushError, ring};

use super::RtpSession;
use super::inbound::Receiver;
use super::outbound::{Feed, Sender};
use crate::layers::{
    Demand, Layer, LayerMark, LayerMarker, LayerMeter, LayerRates, LayerSelector, Sent, allocate,
};
use crate::stream::{PICTURE_CLOCK, StreamEvent};
use crate::{
    CodecName, KeyFrameFeedback, NtpTime, PayloadType, QualityLimitation, ReceiveEncodingsConfig,
    ReceivedEncoding, ReceivedPacket, ReceiverConfig, RecoverConfig, RtpView, RtxStream,
    SelectLayersConfig, Ssrc,
};

/// What a packet has round it beside its header and payload: those of UDP and IPv4, and the tag.
pub(super) const AROUND: usize = 28 + 16;

/// How often what may be sent is shared anew at the most.
const SHARED_EVERY: Duration = Duration::from_millis(100);

/// How often what else is sent is measured, and what is averaged over.
const MEASURED_EVERY: Duration = Duration::from_millis(400);

/// A received track in several layers.
#[derive(Debug)]
pub(super) struct Layered {
    track: Ssrc,
    /// From the least to the best.
    encodings: Vec<Encoding>,
    payload_types: Vec<(PayloadType, u32)>,
    codecs: Vec<(PayloadType, CodecName)>,
    rtx_payload_types: Vec<(PayloadType, PayloadType)>,
    nack: bool,
    key_frames: KeyFrameFeedback,
    rid_ids: (Option<u8>, Option<u8>),
    /// Encodings whose packets come, as a set of bits.
    connected: u8,
    meter: LayerMeter,
    /// The header extension that has the dependency descriptor.
    dependency_id: Option<u8>,
    /// What its layers take, if nobody has been told yet.
    news: Option<LayerRates>,
    reader: Reader,
}

#[derive(Debug)]
struct Encoding {
    rid: Box<str>,
    ssrc: Option<Ssrc>,
    rtx_ssrc: Option<Ssrc>,
    marker: LayerMarker,
}

/// What is handed to the application: the best that there is.
#[derive(Debug)]
struct Reader {
    selector: LayerSelector,
    sent: Option<Sent>,
}

/// How what may be sent was shared the last time.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    shared_at: Option<Instant>,
    demands: Vec<Demand>,
    /// What else is sent: when it was measured, bytes until then, and bits per second.
    measured: Option<(Instant, u64)>,
    others: f64,
}

impl Layered {
    fn mark(&mut self, codec: CodecName, encoding: u8, view: &RtpView<'_>) -> Option<LayerMark> {
        let marker = &mut self.encodings.get_mut(usize::from(encoding))?.marker;
        let dependency = self.dependency_id.and_then(|id| {
            let mut elements = view.extensions().map_while(Result::ok);
            elements.find(|element| element.id == id).map(|element| element.data)
        });
        Some(marker.mark(codec, encoding, (view.payload(), view.timestamp()), dependency))
    }

    fn codec(&self, payload_type: PayloadType) -> Option<CodecName> {
        let known = self.codecs.iter().find(|(known, _)| *known == payload_type);
        known.map(|(_, codec)| *codec)
    }
}

impl RtpSession {
    /// Takes what encodings a receiving track has, which was added by the SSRC of its description;
    /// in place of what was said before. Those without an SSRC are found by their packets.
    ///
    /// [`OpenedRtp`](crate::OpenedRtp) and events name all of them by the SSRC of the track; its
    /// reader gets the best that comes, as one stream.
    pub fn receive_encodings(&mut self, now: Instant, config: ReceiveEncodingsConfig) {
        let ReceiveEncodingsConfig { ssrc: track, encodings, payload_types, codecs, .. } = config;
        if self.receiver_mut(track).is_none() || encodings.is_empty() {
            return;
        }
        let at = self.layered.binary_search_by_key(&track, |it| it.track);
        let before = at.ok().map(|at| self.layered.remove(at));
        let is_simulcast = encodings.len() > 1;
        let mut reader = before.map(|it| (it.reader, it.meter, it.encodings));
        let known = reader.as_mut().map(|(.., encodings)| std::mem::take(encodings));
        let encodings: Vec<_> = encodings
            .into_iter()
            .take(crate::MAX_ENCODINGS)
            .map(|ReceivedEncoding { rid, ssrc, rtx_ssrc }| {
                let bound = known.iter().flatten().find(|it| *it.rid == *rid);
                let own = (!is_simulcast).then_some(track);
                Encoding {
                    ssrc: ssrc.or(bound.and_then(|it| it.ssrc)).or(own),
                    rtx_ssrc: rtx_ssrc.or(bound.and_then(|it| it.rtx_ssrc)),
                    rid: rid.into(),
                    marker: bound.map(|it| it.marker.clone()).unwrap_or_default(),
                }
            })
            .collect();
        let (reader, meter) = match reader {
            Some((mut reader, meter, _)) => {
                reader.selector.configure(codecs.clone(), is_simulcast);
                (reader, meter)
            }
            None => {
                let selector = LayerSelector::new(codecs.clone(), is_simulcast);
                (Reader { selector, sent: None }, LayerMeter::default())
            }
        };
        let gone = known.iter().flatten().filter_map(|it| it.ssrc);
        let gone: Vec<_> = gone
            .filter(|ssrc| *ssrc != track && !encodings.iter().any(|it| it.ssrc == Some(*ssrc)))
            .collect();
        let layered = Layered {
            track,
            encodings,
            payload_types,
            codecs,
            rtx_payload_types: config.rtx_payload_types,
            nack: config.nack,
            key_frames: config.key_frames,
            rid_ids: config.rid_ids,
            connected: 0,
            meter,
            dependency_id: config.dependency_id,
            news: None,
            reader,
        };
        let at = self.layered.partition_point(|it| it.track < track);
        let count = layered.encodings.len();
        self.layered.insert(at, layered);
        for ssrc in gone {
            self.drop_receiver(ssrc);
        }
        for encoding in 0..count {
            self.set_up_encoding(now, at, encoding);
        }
        self.bind_early(now);
    }

    /// Has the packets of an encoding be received whose SSRC is known.
    fn set_up_encoding(&mut self, now: Instant, at: usize, encoding: usize) {
        let Layered { track, payload_types, rtx_payload_types, nack, key_frames, .. } =
            &self.layered[at];
        let (track, nack, key_frames) = (*track, *nack, *key_frames);
        let Encoding { ssrc: Some(ssrc), rtx_ssrc, .. } = self.layered[at].encodings[encoding]
        else {
            return;
        };
        let rtx = rtx_ssrc
            .filter(|_| !rtx_payload_types.is_empty())
            .map(|ssrc| RtxStream { ssrc, payload_types: rtx_payload_types.clone() });
        let payload_types = payload_types.clone();
        let layer = Some((track, encoding as u8));
        let number_id = self.receiver_mut(track).and_then(|receiver| receiver.number_id);
        let is_new = match self.receivers.binary_search_by_key(&ssrc, Receiver::ssrc) {
            Ok(known) => {
                let receiver = &mut self.receivers[known];
                receiver.layer = layer;
                receiver.stream.set_payload_types(payload_types);
                false
            }
            Err(place) => {
                // What comes is handed to the reader of the track.
                let packets = ring(1).0;
                let config = ReceiverConfig { ssrc, payload_types, packets };
                let mut receiver = Receiver::new(config, self.timings);
                (receiver.layer, receiver.number_id) = (layer, number_id);
                self.receivers.insert(place, receiver);
                true
            }
        };
        self.recover_receiver(RecoverConfig { ssrc, nack, key_frames, rtx });
        if is_new {
            self.deliver_early(now, ssrc);
        }
    }

    /// Lets go of the encodings of a track that is received no more.
    pub(super) fn remove_encodings(&mut self, track: Ssrc) {
        let Ok(at) = self.layered.binary_search_by_key(&track, |it| it.track) else { return };
        let layered = self.layered.remove(at);
        for ssrc in layered.encodings.iter().filter_map(|it| it.ssrc) {
            if ssrc != track {
                self.drop_receiver(ssrc);
            }
        }
    }

    fn drop_receiver(&mut self, ssrc: Ssrc) {
        self.forget_recovery(ssrc);
        if let Ok(at) = self.receivers.binary_search_by_key(&ssrc, Receiver::ssrc) {
            self.receivers.remove(at);
            self.let_go(ssrc);
        }
    }

    /// Finds out which encoding an opened packet is of, by the name that it has (RFC 8852), if
    /// its SSRC is not known.
    pub(super) fn bind_encoding(&mut self, now: Instant, ssrc: Ssrc, packet: &[u8]) {
        if self.layered.is_empty()
            || self.receivers.binary_search_by_key(&ssrc, Receiver::ssrc).is_ok()
            || self.is_sent_again(ssrc)
            // What was let go of for another SSRC does not come back.
            || self.is_let_go(ssrc)
        {
            return;
        }
        let Some((at, encoding, is_repair)) = self.encoding_of(packet) else { return };
        let bound = &mut self.layered[at].encodings[encoding];
        let place = if is_repair { &mut bound.rtx_ssrc } else { &mut bound.ssrc };
        let before = place.replace(ssrc);
        tracing::debug!(ssrc = ssrc.0, rid = &*bound.rid, is_repair, "an encoding is found");
        // Its sender has begun anew with another SSRC.
        if let Some(before) = before.filter(|before| !is_repair && *before != ssrc)
            && before != self.layered[at].track
        {
            self.drop_receiver(before);
        }
        self.set_up_encoding(now, at, encoding);
    }

    /// The track and the encoding that a packet names, and whether as one that is sent again.
    fn encoding_of(&self, packet: &[u8]) -> Option<(usize, usize, bool)> {
        let view = RtpView::parse(packet).ok()?;
        self.layered.iter().enumerate().find_map(|(at, layered)| {
            let (rid_id, repaired_id) = layered.rid_ids;
            view.extensions().map_while(Result::ok).find_map(|element| {
                let is_repair = repaired_id == Some(element.id);
                if !is_repair && rid_id != Some(element.id) {
                    return None;
                }
                let mut encodings = layered.encodings.iter();
                let encoding = encodings.position(|it| it.rid.as_bytes() == element.data)?;
                Some((at, encoding, is_repair))
            })
        })
    }

    /// Has packets that came before their track was described find their encodings.
    fn bind_early(&mut self, now: Instant) {
        for (ssrc, packet) in self.early_packets() {
            self.bind_encoding(now, ssrc, &packet);
        }
    }

    /// Hands an opened packet of an encoding to the reader of its track, if that is sent this one;
    /// what the packet is.
    pub(super) fn deliver_layer(
        &mut self,
        now: Instant,
        (track, encoding): (Ssrc, u8),
        (index, view): (u64, &RtpView<'_>),
        capture_time: Option<NtpTime>,
    ) -> Option<LayerMark> {
        let at = self.layered.binary_search_by_key(&track, |it| it.track).ok()?;
        let head = self.receivers.binary_search_by_key(&track, Receiver::ssrc).ok()?;
        let layered = &mut self.layered[at];
        let codec = layered.codec(view.payload_type())?;
        let mark = layered.mark(codec, encoding, view)?;
        let len = view.header_len() + view.body().len() + AROUND;
        let rates = layered.meter.on_packet(now, mark, len);
        layered.news = rates.or(layered.news);
        let packets = &self.receivers[head].packets;
        let drops = &mut self.stats.receive_drops;
        if packets.is_closed() || packets.is_full() {
            let count =
                if packets.is_closed() { &mut drops.ring_closed } else { &mut drops.ring_full };
            *count += 1;
            return Some(mark);
        }
        let Reader { selector, sent } = &mut layered.reader;
        let mut wanted = None;
        if let Some(rates) = rates {
            selector.set_rates(rates);
            let mut demand = [selector.demand(None)];
            allocate(u64::MAX, &mut demand);
            selector.settle(now, &demand[0]);
            wanted = selector.poll_key_frame_request(now);
        }
        let rate = layered.payload_types.iter().find(|(known, _)| *known == view.payload_type());
        let clock_rate = rate.map_or(PICTURE_CLOCK, |(_, rate)| *rate);
        if selector.admits(mark, index, view) {
            // It begins with the numbers that it has.
            let so_far = sent.get_or_insert(Sent {
                next_index: index,
                newest: None,
                offset: view.timestamp(),
            });
            if let Some(spot) = selector.place(now, *so_far, (mark, index), view, clock_rate) {
                if spot.index >= so_far.next_index {
                    *so_far = Sent {
                        next_index: spot.index + 1,
                        newest: Some((now, spot.timestamp)),
                        ..*so_far
                    };
                }
                let mut payload = Bytes::copy_from_slice(view.payload());
                if spot.changes_payload() {
                    let mut changed = Vec::from(payload);
                    spot.change(&mut changed);
                    payload = changed.into();
                }
                let packet = ReceivedPacket {
                    payload,
                    payload_type: view.payload_type(),
                    sequence: spot.index,
                    timestamp: spot.timestamp,
                    marker: spot.marker,
                    received_at: now,
                    capture_time,
                };
                match packets.push(packet) {
                    Ok(()) => self.stats.rtp_received += 1,
                    Err(PushError::Full(_)) => drops.ring_full += 1,
                    Err(PushError::Closed(_)) => drops.ring_closed += 1,
                }
            }
        }
        if let Some(encoding) = wanted {
            self.request_key_frame_of(now, track, encoding);
        }
        Some(mark)
    }

    /// What has happened to a track, of which this has happened to an encoding: it is connected
    /// from the first one on that is until the last.
    pub(super) fn merge_events(
        &mut self,
        (track, encoding): (Ssrc, u8),
        event: Option<StreamEvent>,
    ) -> Option<StreamEvent> {
        let event = event?;
        let at = self.layered.binary_search_by_key(&track, |it| it.track).ok()?;
        let connected = &mut self.layered[at].connected;
        let (before, bit) = (*connected, 1 << encoding);
        match event {
            StreamEvent::Connected => *connected |= bit,
            StreamEvent::Disconnected(_) => *connected &= !bit,
        }
        ((before == 0) != (*connected == 0)).then_some(event)
    }

    /// The SSRC of an encoding of a receiving track, if it is known.
    pub(super) fn encoding_ssrc(&self, track: Ssrc, encoding: u8) -> Option<Ssrc> {
        match self.layered.binary_search_by_key(&track, |it| it.track) {
            Ok(at) => self.layered[at].encodings.get(usize::from(encoding))?.ssrc,
            Err(_) => (encoding == 0).then_some(track),
        }
    }

    /// The SSRC of the encoding that the reader of a track gets, where it has several.
    pub(super) fn read_encoding(&self, track: Ssrc) -> Option<Ssrc> {
        let at = self.layered.binary_search_by_key(&track, |it| it.track).ok()?;
        let shown = self.layered[at].reader.selector.shown_encoding();
        self.layered[at].encodings.get(usize::from(shown))?.ssrc
    }

    /// All that an encoding of a track has to have as the track has it.
    pub(super) fn encodings_of(&self, track: Ssrc) -> impl Iterator<Item = Ssrc> + use<> {
        let at = self.layered.binary_search_by_key(&track, |it| it.track);
        let ssrcs: Vec<_> = at
            .ok()
            .into_iter()
            .flat_map(|at| self.layered[at].encodings.iter().filter_map(|it| it.ssrc))
            .filter(|ssrc| *ssrc != track)
            .collect();
        ssrcs.into_iter()
    }

    /// What the layers of a receiving track take, where that has been worked out anew since it was
    /// asked.
    pub fn take_layer_rates(&mut self, track: Ssrc) -> Option<LayerRates> {
        let at = self.layered.binary_search_by_key(&track, |it| it.track).ok()?;
        self.layered[at].news.take()
    }

    /// Takes what the encodings of a receiving track say of their timestamps, so that its reader's
    /// go on from one to the other.
    pub(super) fn align_reader(&mut self, (track, encoding): (Ssrc, u8), ntp: u64, timestamp: u32) {
        if let Ok(at) = self.layered.binary_search_by_key(&track, |it| it.track) {
            self.layered[at].reader.selector.on_report(encoding, ntp, timestamp);
        }
    }

    /// Has one layer at a time be sent of a forwarded track. An SSRC that is not forwarded is
    /// ignored.
    pub fn select_layers(&mut self, config: SelectLayersConfig) {
        let SelectLayersConfig { ssrc, codecs, is_simulcast } = config;
        let Some(Sender { feed: Feed::Forward(forward), .. }) = self.sender_mut(ssrc) else {
            return;
        };
        match &mut forward.selector {
            Some(selector) => selector.configure(codecs, is_simulcast),
            none => *none = Some(Box::new(LayerSelector::new(codecs, is_simulcast))),
        }
        self.share_layers_anew();
    }

    /// Says what is sent at most of a forwarded track in several layers. An SSRC that is none is
    /// ignored.
    pub fn limit_layer(&mut self, ssrc: Ssrc, max: Layer) {
        if let Some(selector) = self.selector_mut(ssrc) {
            selector.set_max(max);
            self.share_layers_anew();
        }
    }

    /// The layer of its source that a forwarded track is sent in; `None` before there is one, and
    /// where there are no several.
    pub fn sent_layer(&self, ssrc: Ssrc) -> Option<Layer> {
        let at = self.senders.binary_search_by_key(&ssrc, Sender::ssrc).ok()?;
        match &self.senders[at].feed {
            Feed::Forward(forward) => forward.selector.as_ref()?.current(),
            Feed::Ring(_) => None,
        }
    }

    fn selector_mut(&mut self, ssrc: Ssrc) -> Option<&mut LayerSelector> {
        match &mut self.sender_mut(ssrc)?.feed {
            Feed::Forward(forward) => forward.selector.as_deref_mut(),
            Feed::Ring(_) => None,
        }
    }

    /// Takes what the layers of the source of a forwarded track take.
    pub fn on_layer_rates(&mut self, now: Instant, ssrc: Ssrc, rates: LayerRates) {
        if let Some(selector) = self.selector_mut(ssrc) {
            selector.set_rates(rates);
            // One that is not sent yet does not wait for its turn.
            if !selector.has_target() {
                self.share_layers_anew();
            }
            self.share_layers(now);
        }
    }

    /// Has what may be sent be shared anew as soon as it is looked at.
    pub(super) fn share_layers_anew(&mut self) {
        self.sharing.shared_at = None;
    }

    /// Shares what may be sent among the tracks in several layers, and asks for key frames of
    /// those that they go to.
    pub(super) fn share_layers(&mut self, now: Instant) {
        let layered = |sender: &Sender| match &sender.feed {
            Feed::Forward(forward) => sender.enabled && forward.selector.is_some(),
            Feed::Ring(_) => false,
        };
        let is_soon = |at: Instant| now < at + SHARED_EVERY;
        if self.sharing.shared_at.is_some_and(is_soon) {
            return;
        }
        // Also where there is nothing to share: to look at all tracks takes its time.
        self.sharing.shared_at = Some(now);
        if !self.senders.iter().any(layered) {
            return;
        }
        let is_numbered = self.senders.iter().any(|it| layered(it) && it.number_id.is_some());
        let budget = match (self.estimated_bitrate(), is_numbered) {
            (Some(bits), _) => bits,
            (None, true) => self.congestion.limits.start,
            // Nothing will ever be known.
            (None, false) => u64::MAX,
        };
        let others = self.measure_others(now, layered);
        let budget = budget.saturating_sub(others);
        // What there can ever be, however much gets through.
        let most = self.congestion.limits.max.saturating_sub(others);
        let mut demands = std::mem::take(&mut self.sharing.demands);
        demands.clear();
        for sender in self.senders.iter().filter(|sender| layered(sender)) {
            if let Feed::Forward(forward) = &sender.feed
                && let Some(selector) = &forward.selector
            {
                demands.push(selector.demand(sender.max_bitrate));
            }
        }
        allocate(budget, &mut demands);
        let is_capped = self.is_estimate_capped();
        let mut given = demands.iter();
        for sender in self.senders.iter_mut().filter(|sender| layered(sender)) {
            if let Feed::Forward(forward) = &mut sender.feed
                && let Some(selector) = &mut forward.selector
                && let Some(demand) = given.next()
            {
                selector.settle(now, demand);
                if let Some(encoding) = selector.poll_key_frame_request(now) {
                    self.upstream.push(forward.source, encoding);
                }
                if let Some(quality) = &mut sender.quality {
                    let is_limited = is_capped || demand.next_needs().is_some_and(|it| it > most);
                    let reason = match selector.limitation(demand, quality.reason()) {
                        QualityLimitation::Bandwidth if is_limited => QualityLimitation::Other,
                        reason => reason,
                    };
                    quality.judge(now, reason, selector.current().map(|layer| layer.spatial));
                }
            }
        }
        self.sharing.demands = demands;
    }

    /// What is sent beside tracks in several layers, in bits per second.
    fn measure_others(&mut self, now: Instant, layered: impl Fn(&Sender) -> bool) -> u64 {
        let bytes = |sender: &Sender| {
            let stats = sender.stream.stats();
            let again = stats.resent_octets + stats.resent_packets * AROUND as u64;
            let first = stats.octets + stats.packets * AROUND as u64;
            again + if layered(sender) { 0 } else { first }
        };
        let sharing = &mut self.sharing;
        let Some((at, before)) = sharing.measured else {
            sharing.measured = Some((now, self.senders.iter().map(bytes).sum()));
            return 0;
        };
        let passed = now.saturating_duration_since(at);
        if passed >= MEASURED_EVERY {
            let sum: u64 = self.senders.iter().map(bytes).sum();
            let bits = 8.0 * sum.saturating_sub(before) as f64 / passed.as_secs_f64();
            sharing.others += (bits - sharing.others) / 2.0;
            sharing.measured = Some((now, sum));
        }
        sharing.others as u64
    }
}
