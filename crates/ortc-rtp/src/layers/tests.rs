//! What a selector sends, of encodings whose numbers have nothing to do with each other, is one
//! stream: whatever is lost, overtaken, asked for or left out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::vp8::Descriptor;
use super::{Demand, Layer, LayerMark, LayerMeter, LayerSelector, Sent};
use crate::{CodecName, PayloadType, RtpHeader, RtpView, Ssrc};

const VP8: PayloadType = PayloadType(96);
const START: u32 = 7_000;

/// An encoder's packets, numbered as it likes.
struct Source {
    encoding: u8,
    next: u64,
    picture: u16,
    tl0: u8,
    timestamp_offset: u32,
    wants_key: bool,
    frames: u64,
    temporal_layers: u8,
}

/// A packet on its way.
#[derive(Clone)]
struct Packet {
    encoding: u8,
    index: u64,
    bytes: Vec<u8>,
}

impl Source {
    fn new(random: &mut fastrand::Rng, encoding: u8, temporal_layers: u8) -> Self {
        Self {
            encoding,
            next: u64::from(random.u16(..)) + (1 << 16),
            picture: random.u16(..) & 0x7fff,
            tl0: random.u8(..),
            timestamp_offset: random.u32(..),
            wants_key: true,
            frames: 0,
            temporal_layers,
        }
    }

    /// The packets of the next frame, which is of the `n`th picture.
    fn frame(&mut self, random: &mut fastrand::Rng, n: u64) -> Vec<Packet> {
        let is_key = std::mem::take(&mut self.wants_key);
        self.frames = if is_key { 0 } else { self.frames + 1 };
        let temporal = match (self.temporal_layers, self.frames % 4) {
            (1, _) | (_, 0) => 0,
            (2, at) => (at % 2) as u8,
            (_, 2) => 1,
            (..) => 2,
        };
        let is_sync = self.frames % 4 == u64::from(3 - temporal.min(2)) || is_key;
        self.picture = (self.picture + 1) & 0x7fff;
        self.tl0 = self.tl0.wrapping_add(u8::from(temporal == 0));
        let count = random.u64(1..=3 + 2 * u64::from(is_key));
        let timestamp = self.timestamp_offset.wrapping_add(n as u32 * 3_000);
        let packet = |at: u64| {
            let header = RtpHeader {
                payload_type: VP8,
                marker: at + 1 == count,
                sequence: (self.next + at) as u16,
                timestamp,
                ssrc: Ssrc(u32::from(self.encoding)),
                extensions: &[],
            };
            let mut bytes = vec![0; 12];
            header.write(&mut bytes).unwrap();
            bytes.push(0x80 | if at == 0 { 0x10 } else { 0 });
            bytes.push(0xe0);
            bytes.extend((self.picture | 0x8000).to_be_bytes());
            bytes.push(self.tl0);
            bytes.push(temporal << 6 | if is_sync { 0x20 } else { 0 });
            bytes.extend([u8::from(!is_key || at > 0), self.encoding]);
            bytes.extend(n.to_be_bytes());
            Packet { encoding: self.encoding, index: self.next + at, bytes }
        };
        let packets = (0..count).map(packet).collect();
        self.next += count;
        packets
    }
}

/// What one peer is sent.
struct Peer {
    selector: LayerSelector,
    sent: Sent,
    /// By number: the timestamp, the picture id, TL0PICIDX, and the packet that it was.
    packets: BTreeMap<u64, (u32, u16, u8, Packet)>,
}

impl Peer {
    fn new() -> Self {
        let selector = LayerSelector::new(vec![(VP8, CodecName::Vp8)], true);
        let sent = Sent { next_index: 500, newest: None, offset: START };
        Self { selector, sent, packets: BTreeMap::new() }
    }

    fn take(&mut self, now: Instant, packet: &Packet) -> bool {
        let view = RtpView::parse(&packet.bytes).unwrap();
        let mark = LayerMark::of(CodecName::Vp8, packet.encoding, view.payload());
        if !self.selector.admits(mark, packet.index, &view) {
            assert!(
                !self.selector.admits(mark, packet.index, &view),
                "asked again, it is the same"
            );
            return false;
        }
        assert!(self.selector.admits(mark, packet.index, &view), "asked again, it is the same");
        let (sent, of) = (self.sent, (mark, packet.index));
        let Some(spot) = self.selector.place(now, sent, of, &view, 90_000) else { return false };
        let mut payload = view.payload().to_vec();
        spot.change(&mut payload);
        let pictures = Descriptor::parse(&payload).unwrap().pictures(&payload);
        let (id, tl0) = (pictures.id.unwrap(), pictures.tl0.unwrap());
        let entry = (spot.timestamp, id, tl0, packet.clone());
        let before = self.packets.insert(spot.index, entry);
        assert!(before.is_none(), "no number is used twice");
        if spot.index >= self.sent.next_index {
            self.sent.next_index = spot.index + 1;
            self.sent.newest = Some((now, spot.timestamp));
        }
        // Asked for, it is the same packet that is found, and it is sent in the same way.
        let found = self.selector.source_of(spot.index);
        assert_eq!(found, Some((packet.encoding, packet.index)));
        let again = self.selector.spot_again(spot.index, &view).unwrap();
        assert_eq!((again.timestamp, again.pictures), (spot.timestamp, spot.pictures));
        true
    }

    fn pad(&mut self) {
        self.selector.pad(self.sent);
        self.sent.next_index += 1;
    }

    fn give(&mut self, now: Instant, layer: Layer) {
        let demand = self.selector.demand(None);
        let steps = demand.steps.as_slice();
        let step = steps.iter().rposition(|step| step.layer <= layer).unwrap_or(0);
        self.selector.settle(now, &Demand { step, ..demand });
    }
}

fn mark_of(packet: &Packet) -> LayerMark {
    let view = RtpView::parse(&packet.bytes).unwrap();
    LayerMark::of(CodecName::Vp8, packet.encoding, view.payload())
}

/// Sends 30 s of three encodings through a network, with a peer that is given any layer.
fn run(seed: u64, loss: f64, temporal_layers: u8, with_reports: bool) -> Peer {
    let mut random = fastrand::Rng::with_seed(seed);
    let start = Instant::now();
    let mut sources: Vec<_> =
        (0..3).map(|n| Source::new(&mut random, n, temporal_layers)).collect();
    let mut meter = LayerMeter::default();
    let mut peer = Peer::new();
    let mut late: Vec<(u64, Packet)> = Vec::new();
    let mut wanted = Layer::default();
    for n in 0..900u64 {
        let now = start + Duration::from_millis(33 * n);
        if with_reports && n % 30 == 0 {
            for source in &sources {
                let at = source.timestamp_offset.wrapping_add(n as u32 * 3_000);
                let ntp = (((n as u128 * 3_000) << 32) / 90_000) as u64;
                peer.selector.on_report(source.encoding, ntp, at);
            }
        }
        if random.u8(..40) == 0 {
            wanted = Layer { spatial: random.u8(..3), temporal: random.u8(..3) };
        }
        let mut packets: Vec<_> =
            sources.iter_mut().flat_map(|source| source.frame(&mut random, n)).collect();
        // What was lost on the way here comes a little later, or never.
        let (due, waiting): (Vec<_>, Vec<_>) = late.into_iter().partition(|(at, _)| *at <= n);
        late = waiting;
        packets.extend(due.into_iter().map(|(_, packet)| packet));
        for packet in packets {
            if random.f64() < loss && n > 3 {
                if random.bool() {
                    late.push((n + random.u64(1..4), packet));
                }
                continue;
            }
            if let Some(rates) = meter.on_packet(now, mark_of(&packet), packet.bytes.len()) {
                peer.selector.set_rates(rates);
                peer.give(now, wanted);
                if let Some(encoding) = peer.selector.poll_key_frame_request(now) {
                    sources[usize::from(encoding)].wants_key = true;
                }
            }
            peer.take(now, &packet);
            if loss > 0.0 && random.u8(..50) == 0 {
                peer.pad();
            }
        }
    }
    peer
}

#[test]
fn without_loss_numbers_times_and_pictures_have_no_gap() {
    let mut changes = 0;
    for seed in 0..40 {
        let peer = run(seed, 0.0, 1 + (seed % 3) as u8, seed % 2 == 0);
        let mut packets = peer.packets.iter();
        let (first, mut before) = packets.next().unwrap();
        assert_eq!((*first, before.0), (500, START));
        let mut number = *first;
        for (index, packet) in packets {
            assert_eq!(*index, number + 1, "seed {seed}");
            number = *index;
            let is_same_picture = packet.0 == before.0;
            let (id, tl0) =
                (packet.1.wrapping_sub(before.1) & 0x7fff, packet.2.wrapping_sub(before.2));
            assert_eq!(u16::from(!is_same_picture), id, "seed {seed}: picture ids");
            assert!(tl0 <= u8::from(!is_same_picture), "seed {seed}: TL0PICIDX");
            let passed = packet.0.wrapping_sub(before.0) as i32;
            assert!(passed >= 0, "seed {seed}: time goes on");
            changes += u32::from(packet.3.encoding != before.3.encoding);
            before = packet;
        }
    }
    assert!(changes > 100, "{changes}");
}

#[test]
fn with_reports_the_same_picture_has_the_same_time_in_every_encoding() {
    for seed in 100..120 {
        let peer = run(seed, 0.0, 1, true);
        let mut offset = None;
        for (timestamp, .., packet) in peer.packets.values() {
            let n = u64::from_be_bytes(packet.bytes[20..28].try_into().unwrap());
            let own = timestamp.wrapping_sub(n as u32 * 3_000);
            // A picture that was sent in the encoding before is later by the least there is.
            let known = *offset.get_or_insert(own);
            assert!(own.wrapping_sub(known) <= 1, "seed {seed}: {own} {known}");
        }
    }
}

#[test]
fn with_loss_and_padding_every_picture_keeps_its_own_time_and_id() {
    let mut gaps = 0;
    for seed in 200..240 {
        let peer = run(seed, 0.05, 1 + (seed % 3) as u8, seed % 2 == 0);
        // By time: the ids, and the pictures as their encoder knows them.
        let mut pictures: BTreeMap<u32, (u16, Vec<u8>)> = BTreeMap::new();
        let mut last = None;
        for (index, (timestamp, id, _, packet)) in &peer.packets {
            let own = packet.bytes[19..28].to_vec();
            let known = pictures.entry(timestamp.wrapping_sub(START)).or_insert((*id, own.clone()));
            assert_eq!(*known, (*id, own), "seed {seed}: one time is one picture");
            gaps += u32::from(last.is_some_and(|last| index - last > 1));
            last = Some(*index);
        }
        let ids: Vec<_> = pictures.values().map(|(id, _)| *id).collect();
        for pair in ids.windows(2) {
            let passed = pair[1].wrapping_sub(pair[0]) & 0x7fff;
            assert!((1..0x4000).contains(&passed), "seed {seed}: {pair:?}");
        }
    }
    assert!(gaps > 100, "{gaps}");
}

/// A packet of VP9 (RFC 9628 §4.2) with layer indices: one a frame of a spatial layer, of which
/// each picture has three.
fn vp9(index: u64, picture: u64, spatial: u8, temporal: u8, is_key: bool) -> Packet {
    let header = RtpHeader {
        payload_type: PayloadType(98),
        marker: spatial == 2,
        sequence: index as u16,
        timestamp: picture as u32 * 3_000,
        ssrc: Ssrc(9),
        extensions: &[],
    };
    let mut bytes = vec![0; 12];
    header.write(&mut bytes).unwrap();
    // I, P, L, B and E; the picture id, the indices, TL0PICIDX.
    bytes.push(0xac | if is_key { 0 } else { 0x40 });
    bytes.push(picture as u8 & 0x7f);
    bytes.push(temporal << 5 | 0x10 | spatial << 1 | u8::from(spatial > 0));
    bytes.extend([0, spatial, picture as u8]);
    Packet { encoding: 0, index, bytes }
}

#[test]
fn spatial_layers_go_at_any_picture_and_come_with_a_key_frame() {
    let codecs = vec![(PayloadType(98), CodecName::Vp9)];
    let mut selector = LayerSelector::new(codecs, false);
    let mut sent = Sent { next_index: 500, newest: None, offset: START };
    let mut meter = LayerMeter::default();
    let start = Instant::now();
    // What is sent of each picture: layers, and where the marker is.
    let mut pictures: Vec<(u64, Vec<u8>, Vec<bool>)> = Vec::new();
    let mut wants_key = true;
    let mut asked = Vec::new();
    for n in 0..150u64 {
        let now = start + Duration::from_millis(33 * n);
        let wanted = if (50..90).contains(&n) { 0 } else { 2 };
        let is_key = std::mem::take(&mut wants_key);
        for spatial in 0..3 {
            let packet = vp9(3 * n + u64::from(spatial), n, spatial, 0, is_key);
            let view = RtpView::parse(&packet.bytes).unwrap();
            let mark = LayerMark::of(CodecName::Vp9, 0, view.payload());
            if let Some(rates) = meter.on_packet(now, mark, 1_000) {
                selector.set_rates(rates);
                let demand = selector.demand(None);
                let steps = demand.steps.as_slice();
                let fits = |step: &super::allocation::Step| step.layer.spatial <= wanted;
                let step = steps.iter().rposition(fits).unwrap_or(0);
                selector.settle(now, &Demand { step, ..demand });
                if selector.poll_key_frame_request(now).is_some() {
                    asked.push(n);
                    wants_key = true;
                }
            }
            if !selector.admits(mark, packet.index, &view) {
                continue;
            }
            let of = (mark, packet.index);
            let spot = selector.place(now, sent, of, &view, 90_000).unwrap();
            assert_eq!(spot.index, sent.next_index, "picture {n}");
            assert!(!spot.changes_payload());
            let again = selector.spot_again(spot.index, &view).unwrap();
            assert_eq!((again.marker, again.timestamp), (spot.marker, spot.timestamp));
            sent.next_index += 1;
            sent.newest = Some((now, spot.timestamp));
            match pictures.last_mut() {
                Some((last, layers, markers)) if *last == n => {
                    layers.push(spatial);
                    markers.push(spot.marker);
                }
                _ => pictures.push((n, vec![spatial], vec![spot.marker])),
            }
        }
    }
    for (n, layers, markers) in &pictures {
        let last = layers.len() - 1;
        assert_eq!(*layers, (0..=last as u8).collect::<Vec<_>>(), "picture {n}");
        let ends: Vec<_> = (0..=last).map(|at| at == last).collect();
        assert_eq!(*markers, ends, "picture {n}: the marker is on its last packet");
    }
    let count = |n: u64| pictures.iter().find(|(at, ..)| *at == n).map_or(0, |it| it.1.len());
    assert_eq!((count(45), count(60), count(140)), (3, 1, 3), "{asked:?}");
    let risen = (90..150).find(|n| count(*n) == 3).unwrap();
    assert!(asked.iter().any(|at| *at + 1 == risen), "{asked:?} {risen}");
}
