use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::rewrite::{Beginning, LayerRewriter, Run};
use super::vp8::{Descriptor, PictureShift, Pictures};
use super::{Alignment, Demand, Hold, Layer, LayerMark, LayerRates, Sent};
use crate::stream::Placed;
use crate::{CodecName, PayloadType, QualityLimitation, RtpView};

/// How often a key frame is asked for that has not come: it takes an encoder some 100 ms, and what
/// asks or answers may be lost.
const ASK_AGAIN: Duration = Duration::from_millis(600);

/// Packets whose marker was set here, and which may be sent again: one of each picture.
const MARKED: usize = 64;

/// Which packets of a track in several layers one peer is sent, and as what.
///
/// Between encodings, and to a better spatial layer, it goes at a key frame, which it asks for; to
/// a lower temporal layer with the next picture, to a higher one where the pictures allow it.
#[derive(Debug)]
pub(crate) struct LayerSelector {
    codecs: Vec<(PayloadType, CodecName)>,
    /// Spatial layers are encodings, each of which stands for itself.
    is_simulcast: bool,
    /// What the application wants at most.
    max: Layer,
    rates: LayerRates,
    hold: Hold,
    /// What is to be sent; `None` before anything is known.
    target: Option<Layer>,
    /// Of what is sent now, the temporal and the spatial layer within the encoding.
    temporal: u8,
    spatial: u8,
    asked_at: Option<Instant>,
    alignment: Alignment,
    rewriter: LayerRewriter,
    /// Numbers of packets that end a picture only because nothing above them is sent.
    marked: VecDeque<u64>,
}

/// How a packet is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) pictures: PictureShift,
}

impl Spot {
    /// The same number and payload as it has.
    pub(crate) fn unchanged(index: u64, timestamp: u32, marker: bool) -> Self {
        Self { index, timestamp, marker, pictures: PictureShift::default() }
    }

    pub(crate) fn placed(&self) -> Placed {
        Placed { index: self.index, timestamp: self.timestamp, begins: false }
    }

    /// Copies the body of a packet, changed, and padding behind it, to `at` in `out`; returns
    /// where it ends. `None` when there is no room for it.
    pub(crate) fn copy_body(
        &self,
        at: usize,
        packet: &RtpView<'_>,
        padding: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let body = packet.body();
        let end = at + body.len();
        out.get_mut(at..end)?.copy_from_slice(body);
        self.change(&mut out[at..at + packet.payload().len()]);
        out.get_mut(end..end + padding.len())?.copy_from_slice(padding);
        Some(end + padding.len())
    }

    /// Whether the payload differs from what was received.
    pub(crate) fn changes_payload(&self) -> bool {
        self.pictures != PictureShift::default()
    }

    /// Changes the payload in a copy of it.
    pub(crate) fn change(&self, payload: &mut [u8]) {
        if let Some(descriptor) = Descriptor::parse(payload) {
            descriptor.shift(payload, self.pictures);
        }
    }
}

impl LayerSelector {
    pub(crate) fn new(codecs: Vec<(PayloadType, CodecName)>, is_simulcast: bool) -> Self {
        Self {
            codecs,
            is_simulcast,
            max: Layer::BEST,
            rates: LayerRates::default(),
            hold: Hold::default(),
            target: None,
            temporal: u8::MAX,
            spatial: 0,
            asked_at: None,
            alignment: Alignment::default(),
            rewriter: LayerRewriter::default(),
            marked: VecDeque::new(),
        }
    }

    /// Takes what the layers are, of which the numbers go on.
    pub(crate) fn configure(&mut self, codecs: Vec<(PayloadType, CodecName)>, is_simulcast: bool) {
        (self.codecs, self.is_simulcast) = (codecs, is_simulcast);
    }

    /// Sets what is wanted at most.
    pub(crate) fn set_max(&mut self, max: Layer) {
        self.max = max;
    }

    /// Takes what the layers take.
    pub(crate) fn set_rates(&mut self, rates: LayerRates) {
        self.rates = rates;
    }

    /// Takes what a sender report says of an encoding.
    pub(crate) fn on_report(&mut self, encoding: u8, ntp: u64, timestamp: u32) {
        self.alignment.set(encoding, ntp, timestamp);
    }

    /// What it asks of what may be sent.
    pub(crate) fn demand(&self, cap: Option<u64>) -> Demand {
        Demand {
            steps: self.rates.steps(self.is_simulcast, self.max),
            current: self.target.unwrap_or_default(),
            cap: cap.unwrap_or(u64::MAX),
            step: 0,
        }
    }

    /// Takes what it is given of that.
    pub(crate) fn settle(&mut self, now: Instant, demand: &Demand) {
        let Some(given) = demand.given() else { return };
        let steps = demand.steps;
        let comes = |layer: &Layer| steps.up_to(*layer).is_some_and(|it| it.layer == *layer);
        let next = match self.target.filter(comes) {
            Some(current) => self.hold.settle(now, current, given.layer),
            // What was sent does not come any more: nothing is to be waited for.
            None => given.layer,
        };
        if self.target != Some(next) {
            self.asked_at = None;
        }
        self.target = Some(next);
    }

    /// What keeps it from being sent in the best layer there is, by the choice that was made last;
    /// `before` is what did until then.
    pub(crate) fn limitation(
        &self,
        demand: &Demand,
        before: QualityLimitation,
    ) -> QualityLimitation {
        let all = self.rates.steps(self.is_simulcast, Layer::BEST);
        let (Some(best), Some(given)) = (all.as_slice().last(), demand.given()) else {
            return QualityLimitation::None;
        };
        let Some(target) = self.target else { return QualityLimitation::None };
        let is_below = |layer: Layer| layer.spatial < best.layer.spatial;
        if target == best.layer {
            // It is on its way up as long as the key frame has not come that it goes there with.
            return match self.current().is_some_and(is_below) {
                true => before,
                false => QualityLimitation::None,
            };
        }
        if target < given.layer {
            // There is room for more, which has to last before it is used.
            return before;
        }
        match demand.wanted() {
            Some(wanted) if given.layer < wanted.layer => QualityLimitation::Bandwidth,
            _ => QualityLimitation::Other,
        }
    }

    /// Whether it is known what is to be sent.
    pub(crate) fn has_target(&self) -> bool {
        self.target.is_some()
    }

    /// The layer that is sent; `None` before there is one, or while it is interrupted.
    pub(crate) fn current(&self) -> Option<Layer> {
        let encoding = self.rewriter.encoding()?;
        let spatial = if self.is_simulcast { encoding } else { self.spatial };
        Some(Layer { spatial, temporal: self.temporal.min(super::MAX_TEMPORAL as u8 - 1) })
    }

    /// The encoding that was sent last, for what reports say of it.
    pub(crate) fn last_encoding(&self) -> Option<u8> {
        self.rewriter.last_encoding()
    }

    fn wanted_encoding(&self) -> Option<u8> {
        let target = self.target?;
        Some(if self.is_simulcast { target.spatial } else { 0 })
    }

    /// The encoding of which a key frame is to be asked for now.
    pub(crate) fn poll_key_frame_request(&mut self, now: Instant) -> Option<u8> {
        let wanted = self.wanted_encoding()?;
        let is_there = self.rewriter.encoding() == Some(wanted)
            && (self.is_simulcast || self.target.is_none_or(|it| it.spatial <= self.spatial));
        if is_there {
            self.asked_at = None;
            return None;
        }
        if self.asked_at.is_some_and(|at| now < at + ASK_AGAIN) {
            return None;
        }
        self.asked_at = Some(now);
        Some(wanted)
    }

    /// The encoding of which a key frame mends the picture, if it is broken.
    pub(crate) fn shown_encoding(&self) -> u8 {
        self.rewriter.encoding().or(self.wanted_encoding()).unwrap_or(0)
    }

    /// Whether a packet is sent. One of the encoding that is sent that is not is left out of the
    /// numbers; asked again, the answer is the same.
    pub(crate) fn admits(&mut self, mark: LayerMark, index: u64, packet: &RtpView<'_>) -> bool {
        if self.rewriter.encoding() != Some(mark.encoding) {
            return self.begins_with(mark);
        }
        if !self.rewriter.is_new(index) {
            return self.rewriter.has_room_for(mark.encoding, index, packet.timestamp());
        }
        if mark.begins() {
            self.change_layers(mark);
        }
        let is_sent = mark.layer.temporal <= self.temporal && mark.layer.spatial <= self.spatial;
        if !is_sent {
            self.rewriter.skip(index, packet.timestamp());
        }
        is_sent
    }

    /// Whether another encoding is gone to with this packet.
    fn begins_with(&self, mark: LayerMark) -> bool {
        let Some(wanted) = self.wanted_encoding() else { return false };
        // To begin with, something is better than nothing.
        let is_first = self.rewriter.encoding().is_none();
        mark.is_key() && (mark.encoding == wanted || is_first && mark.encoding < wanted)
    }

    /// Changes what is sent, as a frame begins.
    fn change_layers(&mut self, mark: LayerMark) {
        let Some(target) = self.target else { return };
        if !self.is_simulcast && mark.begins_picture() {
            // What is above may go at any time; it comes again where nothing before is needed.
            let is_entered = mark.is_key() && target.spatial > self.spatial;
            if target.spatial < self.spatial || is_entered {
                self.spatial = target.spatial;
            }
        }
        // While another encoding is waited for, the one that is sent takes as little as it can if
        // it is too much.
        let is_falling = self.is_simulcast && target.spatial < mark.encoding;
        let wanted = if is_falling { 0 } else { target.temporal };
        if wanted < self.temporal || mark.is_key() {
            self.temporal = wanted;
        } else if mark.is_sync() && mark.layer.temporal <= wanted {
            self.temporal = self.temporal.max(mark.layer.temporal);
        }
    }

    /// Finds the place of a packet that is [admitted](Self::admits); `None` when there is none
    /// any more. Says as well whether another encoding begins with it.
    pub(crate) fn place(
        &mut self,
        now: Instant,
        sent: Sent,
        (mark, index): (LayerMark, u64),
        packet: &RtpView<'_>,
        clock_rate: u32,
    ) -> Option<Spot> {
        let pictures = self.pictures(packet);
        if self.rewriter.encoding() != Some(mark.encoding) {
            let target = self.target?;
            // All that depends on the key frame can be decoded.
            self.temporal = if self.is_simulcast && target.spatial != mark.encoding {
                u8::MAX
            } else {
                target.temporal
            };
            self.spatial = if self.is_simulcast { 0 } else { target.spatial };
            let beginning = Beginning {
                encoding: mark.encoding,
                index,
                timestamp: packet.timestamp(),
                clock_rate,
                pictures,
            };
            self.rewriter.begin(now, sent, &self.alignment, beginning);
        }
        let timestamp = packet.timestamp();
        let run = self.rewriter.place(sent, mark.encoding, index, timestamp, pictures)?;
        let mut spot = self.spot(run, index, packet);
        // Without what is above, the picture ends with the highest that is sent.
        let is_end = !self.is_simulcast && mark.ends() && mark.layer.spatial == self.spatial;
        if is_end && !spot.marker {
            spot.marker = true;
            if self.marked.len() == MARKED {
                self.marked.pop_front();
            }
            self.marked.push_back(spot.index);
        }
        Some(spot)
    }

    fn spot(&self, run: Run, index: u64, packet: &RtpView<'_>) -> Spot {
        // Others have picture ids too, which may have gaps.
        let is_vp8 = self.codec(packet) == Some(CodecName::Vp8);
        Spot {
            index: run.index(index),
            timestamp: run.timestamp(packet.timestamp()),
            marker: packet.marker(),
            pictures: if is_vp8 { run.pictures } else { PictureShift::default() },
        }
    }

    fn codec(&self, packet: &RtpView<'_>) -> Option<CodecName> {
        let payload_type = packet.payload_type();
        let known = self.codecs.iter().find(|(known, _)| *known == payload_type);
        known.map(|(_, codec)| *codec)
    }

    fn pictures(&self, packet: &RtpView<'_>) -> Pictures {
        let payload = packet.payload();
        match self.codec(packet) {
            Some(CodecName::Vp8) => Descriptor::parse(payload)
                .map(|descriptor| descriptor.pictures(payload))
                .unwrap_or_default(),
            _ => Pictures::default(),
        }
    }

    /// Where a packet comes from that was sent with this number: the encoding, and its index.
    pub(crate) fn source_of(&self, sent: u64) -> Option<(u8, u64)> {
        self.rewriter.source_of(sent).map(|(run, index)| (run.encoding, index))
    }

    /// How a packet is sent again that was sent, or could have been, with this number.
    pub(crate) fn spot_again(&self, sent: u64, packet: &RtpView<'_>) -> Option<Spot> {
        let (run, index) = self.rewriter.source_of(sent)?;
        let spot = self.spot(run, index, packet);
        Some(Spot { marker: spot.marker || self.marked.contains(&sent), ..spot })
    }

    /// What a timestamp of the encoding that was sent last is as it is sent.
    pub(crate) fn timestamp(&self, received: u32) -> Option<u32> {
        self.rewriter.timestamp(received)
    }

    /// Leaves the next number to a packet that does not come from the source.
    pub(crate) fn pad(&mut self, sent: Sent) {
        self.rewriter.pad(sent);
    }

    /// Breaks off; it goes on with a key frame.
    pub(crate) fn pause(&mut self) {
        self.rewriter.stop();
        self.asked_at = None;
    }
}
