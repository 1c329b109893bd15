use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use ortc_io::ring::{Popped, RingReceiver};

use super::RtpSession;
use super::ext_headers::SendExtHeaders;
use super::forward::{Forward, KeyFrameRequests};
use super::quality::Quality;
use super::retransmit::Retransmitter;
use super::tones::SendTones;
use super::unkeyed::Unkeyed;
use crate::stream::{MAX_FILLED, MAX_REPETITION, SendStream};
use crate::view::{FIXED_HEADER, NUMBER_ROOM};
use crate::{
    ArrivalFeedback, Extension, InsertedPacket, OutgoingPacket, PayloadType, RtpHeader, SenderInfo,
    Ssrc, TonePacket,
};

/// Longest datagram that is sent: an Ethernet frame without the headers of IPv4 and UDP.
pub(super) const MAX_DATAGRAM: usize = 1_472;

/// RTCP compounds that wait to be fetched: a second's worth while there is no path.
const MAX_COMPOUNDS: usize = 32;

/// Packets dropped in one go: a producer that is faster than the loop must not hold it up.
pub(super) const MAX_DROPS: usize = 1_024;

/// A track that is sent.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) stream: SendStream,
    pub(super) feed: Feed,
    /// What takes the place of the audio for moments.
    pub(super) tones: Option<SendTones>,
    /// What its packets tell of it, until the peer knows.
    pub(super) ext_headers: Option<Box<SendExtHeaders>>,
    pub(super) retransmitter: Option<Box<Retransmitter>>,
    /// Key frames that the peer wants of an application.
    pub(super) key_frames: KeyFrameRequests,
    /// Who has asked for one last by FIR, and the number of the request.
    pub(super) last_intra_request: Option<(Ssrc, u8)>,
    pub(super) enabled: bool,
    /// What has been pushed before the keys came.
    pub(super) unkeyed: Option<Box<Unkeyed>>,
    /// The header extension that its packets are numbered in.
    pub(super) number_id: Option<u8>,
    /// What else its peer says about its packets.
    pub(super) feedback: ArrivalFeedback,
    /// What is to be sent of it at most, in bits per second.
    pub(super) max_bitrate: Option<u64>,
    /// What keeps it from being sent better, if it is one of pictures.
    pub(super) quality: Option<Box<Quality>>,
    /// Packets sent when the last report was made.
    reported: u64,
}

/// Where the packets of a sender come from.
#[derive(Debug)]
pub(super) enum Feed {
    /// An application's ring.
    Ring(RingReceiver<OutgoingPacket>),
    /// Another session, by way of whoever drives both.
    Forward(Box<Forward>),
}

/// How a packet that was taken from a ring is put among the others of its stream.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// As the next one, at its own time.
    Next,
    /// Among those that are forwarded, at the time that it is sent.
    Inserted(PayloadType),
    /// As a report of an event, at the time that it began.
    Tone(TonePacket),
}

impl Place {
    /// Bytes that are added to its payload at most.
    fn growth(&self) -> usize {
        match self {
            Self::Tone(TonePacket { redundancy: Some(_), .. }) => MAX_REPETITION,
            Self::Tone(TonePacket { fill: Some(_), .. }) => MAX_FILLED,
            Self::Next | Self::Inserted(_) | Self::Tone(_) => 0,
        }
    }
}

impl Feed {
    /// The next packet of an application, and how it is put among the others.
    pub(super) fn pop(&mut self) -> Popped<(OutgoingPacket, Place)> {
        match self {
            Self::Ring(packets) => packets.pop().map(|packet| (packet, Place::Next)),
            Self::Forward(forward) => match &mut forward.inserted {
                Some(packets) => packets.pop().map(|inserted| {
                    let InsertedPacket { payload, payload_type, marker } = inserted;
                    (
                        OutgoingPacket { payload, timestamp: 0, marker },
                        Place::Inserted(payload_type),
                    )
                }),
                None => Popped::Empty,
            },
        }
    }

    /// Packets of an application that wait.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Ring(packets) => packets.len(),
            Self::Forward(_) => 0,
        }
    }

    pub(super) fn register(&self, waker: &Waker) {
        match self {
            Self::Ring(packets) => packets.register(waker),
            Self::Forward(forward) => {
                if let Some(packets) = &forward.inserted {
                    packets.register(waker);
                }
            }
        }
    }
}

impl Sender {
    pub(super) fn new(stream: SendStream, feed: Feed, enabled: bool) -> Self {
        Self {
            stream,
            feed,
            tones: None,
            ext_headers: None,
            retransmitter: None,
            key_frames: KeyFrameRequests::default(),
            last_intra_request: None,
            enabled,
            unkeyed: None,
            number_id: None,
            feedback: ArrivalFeedback::None,
            max_bitrate: None,
            quality: None,
            reported: 0,
        }
    }

    /// The next packet: tones before the audio, which they are to silence.
    pub(super) fn pop(&mut self) -> Popped<(OutgoingPacket, Place)> {
        if let Some(tones) = &mut self.tones {
            match tones.packets.pop() {
                Popped::Item(tone) => {
                    let (payload, marker) = (tone.payload.clone(), tone.marker);
                    let packet = OutgoingPacket { payload, timestamp: 0, marker };
                    return Popped::Item((packet, Place::Tone(tone)));
                }
                Popped::Empty => {}
                Popped::Closed => {
                    // The last packet may still silence the audio for a moment, and that is all.
                    if tones.placer.is_over() {
                        self.tones = None;
                    }
                }
            }
        }
        self.feed.pop()
    }

    pub(super) fn enable(&mut self, enabled: bool) {
        if let Feed::Forward(forward) = &mut self.feed
            && !enabled
        {
            forward.pause();
        }
        if self.enabled != enabled
            && let Some(quality) = &mut self.quality
        {
            quality.lift();
        }
        self.enabled = enabled;
    }

    /// What it says of itself in a report.
    fn info(&self, now: Instant, ntp: u64) -> Option<SenderInfo> {
        match &self.feed {
            Feed::Ring(_) => self.stream.sender_info(now, ntp),
            Feed::Forward(forward) => forward.sender_info(&self.stream, now, ntp),
        }
    }

    pub(super) fn ssrc(&self) -> Ssrc {
        self.stream.ssrc()
    }
}

/// What waits to be fetched.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    compounds: VecDeque<Vec<u8>>,
    /// A packet that was taken from its ring and is not written yet.
    packet: Option<(Ssrc, OutgoingPacket, Place)>,
    /// A sender that padding is to be sent with.
    padding: Option<Ssrc>,
    /// Whether a packet that is sent again was readied instead.
    is_resend: bool,
    /// The sender whose turn it is.
    turn: usize,
}

impl Outbox {
    /// Whether RTCP waits to be sent.
    pub(super) fn has_compounds(&self) -> bool {
        !self.compounds.is_empty()
    }

    /// Drops a readied packet of a sender that is gone.
    pub(super) fn forget(&mut self, ssrc: Ssrc) {
        self.packet.take_if(|(of, ..)| *of == ssrc);
        self.padding.take_if(|of| *of == ssrc);
    }

    pub(super) fn clear(&mut self) {
        self.compounds.clear();
        self.packet = None;
        self.padding = None;
    }
}

impl RtpSession {
    /// Readies the next packet to be sent and returns how many bytes of room it needs, or
    /// `None` when nothing waits.
    ///
    /// Asked again without [`write_transmit`](Self::write_transmit), it gives the same
    /// packet. RTCP goes first; then the senders take turns. For senders that are disabled, and
    /// more than 200 ms before the keys have come, what was pushed is dropped, counted.
    pub fn next_transmit(&mut self, now: Instant) -> Option<usize> {
        let Some(keys) = &self.keys else {
            self.drop_unkeyed(now);
            return None;
        };
        let (overhead, rtcp_overhead) = (keys.sender.overhead(), keys.sender.rtcp_overhead());
        if let Some(compound) = self.outbox.compounds.front() {
            return Some(compound.len() + rtcp_overhead);
        }
        if self.outbox.packet.is_none()
            && let Some(room) = self.next_resend()
        {
            self.outbox.is_resend = true;
            return Some(room);
        }
        let room = |packet: &OutgoingPacket, place: &Place| {
            FIXED_HEADER + NUMBER_ROOM + packet.payload.len() + place.growth() + overhead
        };
        if let Some((ssrc, packet, place)) = &self.outbox.packet {
            return Some(room(packet, place) + self.ext_headers_room(*ssrc));
        }
        if self.outbox.padding.is_some() {
            return Some(Self::padding_room() + overhead);
        }
        let is_held = self.holds_pictures(now);
        let mut idle = 0;
        let mut dropped = 0;
        while idle < self.senders.len() && dropped < MAX_DROPS {
            let turn = self.outbox.turn % self.senders.len();
            let sender = &mut self.senders[turn];
            if is_held && sender.is_paced() && sender.feed.waiting() > 0 {
                self.hold();
                self.outbox.turn = turn + 1;
                idle += 1;
                continue;
            }
            let drops = &mut self.stats.send_drops;
            match sender.pop() {
                Popped::Item(_) if !sender.enabled => {
                    drops.disabled += 1;
                    dropped += 1;
                }
                Popped::Item((packet, Place::Next)) if sender.is_cut(packet.timestamp) => {
                    drops.no_keys += 1;
                    dropped += 1;
                }
                Popped::Item((packet, place)) if room(&packet, &place) > MAX_DATAGRAM => {
                    drops.oversized += 1;
                    dropped += 1;
                }
                Popped::Item((packet, Place::Next | Place::Inserted(_)))
                    if sender.is_silenced(now, packet.timestamp) =>
                {
                    drops.silenced += 1;
                    dropped += 1;
                }
                Popped::Item((packet, place)) => {
                    self.outbox.turn = turn + 1;
                    let pairs = sender.ext_headers.as_ref().map_or(0, |pairs| pairs.len());
                    let needed = room(&packet, &place) + pairs;
                    self.outbox.packet = Some((sender.ssrc(), packet, place));
                    return Some(needed);
                }
                Popped::Empty | Popped::Closed => {
                    idle += 1;
                    self.outbox.turn = turn + 1;
                }
            }
        }
        self.outbox.padding = self.padding_target(now);
        self.outbox.padding.map(|_| Self::padding_room() + overhead)
    }

    /// Writes and seals the packet that [`next_transmit`](Self::next_transmit) has readied
    /// straight into `out` and returns its length.
    ///
    /// `None` when there is none, or it was dropped, counted, because it cannot be sealed; or
    /// when `out` has less room than was asked for: then the packet stays.
    pub fn write_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let keys = self.keys.as_mut()?;
        if let Some(compound) = self.outbox.compounds.front() {
            let len = compound.len();
            out.get_mut(..len + keys.sender.rtcp_overhead())?[..len].copy_from_slice(compound);
            self.outbox.compounds.pop_front();
            return match keys.sender.protect_rtcp(out, len) {
                Ok(len) => {
                    self.stats.rtcp_sent += 1;
                    self.datagrams.count_sent(len);
                    Some(len)
                }
                Err(error) => {
                    tracing::warn!(%error, "RTCP is not sealed");
                    self.stats.send_drops.not_sealed += 1;
                    None
                }
            };
        }
        if std::mem::take(&mut self.outbox.is_resend) {
            return self.write_resend(now, out);
        }
        if self.outbox.packet.is_none()
            && let Some(ssrc) = self.outbox.padding
        {
            out.get(..Self::padding_room() + keys.sender.overhead())?;
            self.outbox.padding = None;
            return self.write_padding(now, ssrc, out);
        }
        let (_, waiting, place) = self.outbox.packet.as_ref()?;
        let len = waiting.payload.len() + place.growth();
        if out.len() < FIXED_HEADER + NUMBER_ROOM + len + keys.sender.overhead() {
            return None;
        }
        let (ssrc, mut packet, place) = self.outbox.packet.take()?;
        let at = self.senders.binary_search_by_key(&ssrc, Sender::ssrc).ok()?;
        let counted = self.senders[at].counted();
        let Sender { stream, feed, tones, ext_headers, number_id, retransmitter, .. } =
            &mut self.senders[at];
        let header = match (feed, place) {
            (feed, Place::Tone(tone)) => {
                let (header, payload) = tones.as_mut()?.placer.place(now, stream, &tone);
                packet.payload = payload;
                if let Feed::Forward(forward) = feed {
                    forward.interrupt(stream);
                }
                header
            }
            (Feed::Forward(forward), Place::Inserted(payload_type)) => {
                let placed = forward.insert(now, stream);
                let header =
                    stream.note_forwarded(now, placed, packet.payload.len(), packet.marker);
                RtpHeader { payload_type, marker: packet.marker, ..header }
            }
            _ => stream.next_header(now, &packet),
        };
        let number = number_id.map(|id| (id, self.congestion.next_number(now).to_be_bytes()));
        let len = FIXED_HEADER + NUMBER_ROOM + packet.payload.len() + keys.sender.overhead();
        let is_due = |pairs: &mut Box<SendExtHeaders>| {
            out.len() >= len + pairs.len() && pairs.is_due(&header.fixed(), &packet.payload, len)
        };
        let is_due = ext_headers.as_mut().is_some_and(is_due);
        let mut elements = [Extension { id: 0, data: &[] }; 2];
        let mut count = 0;
        if let Some(pairs) = ext_headers.as_ref().filter(|_| is_due) {
            elements[count] = pairs.element();
            count += 1;
        }
        if let Some((id, data)) = &number {
            elements[count] = Extension { id: *id, data };
            count += 1;
        }
        let header = RtpHeader { extensions: &elements[..count], ..header };
        let (header_len, sealed) = match header.write(out) {
            Ok(len) => (len, keys.sender.protect_rtp_behind(len, &packet.payload, &[], out)),
            Err(error) => (0, Err(error.into())),
        };
        match sealed {
            Ok(len) => {
                self.congestion.on_sent(now, counted, (ssrc, header.sequence), len);
                self.stats.rtp_sent += 1;
                self.datagrams.count_sent(len);
                stream.note_header(header_len);
                if let Some(retransmitter) = retransmitter {
                    // All that comes from here takes the next number.
                    let index = stream.next_index().wrapping_sub(1);
                    retransmitter.keep(now, index, &out[..header_len], packet.payload, &out[..len]);
                }
                Some(len)
            }
            Err(error) => {
                tracing::warn!(ssrc = ssrc.0, %error, "RTP is not sealed");
                self.stats.send_drops.not_sealed += 1;
                None
            }
        }
    }

    /// Drops everything that waits to be sent, because there is no path, counted; returns how
    /// many packets that were.
    pub fn discard_transmits(&mut self) -> usize {
        let media = self.drain_rings();
        self.hold_nothing();
        let compounds = self.outbox.compounds.drain(..).count() as u64;
        self.stats.send_drops.no_path += media;
        self.stats.send_drops.rtcp += compounds;
        (media + compounds) as usize
    }

    /// Takes all that is in the rings, at most as much as they hold now.
    fn drain_rings(&mut self) -> u64 {
        let readied = u64::from(self.outbox.packet.take().is_some());
        readied + self.senders.iter_mut().map(Sender::drop_all).sum::<u64>()
    }

    /// Queues reports on everything sent and received since the last (RFC 3550 §6.4).
    pub(super) fn queue_reports(&mut self, now: Instant) {
        let ntp = self.clock.ntp(now);
        let mut infos = Vec::new();
        for sender in &mut self.senders {
            if let Some(retransmitter) = &mut sender.retransmitter {
                retransmitter.expire(now);
            }
            let sent = sender.stream.stats().packets;
            if sent != sender.reported {
                sender.reported = sent;
                infos.extend(sender.info(now, ntp));
            }
        }
        let mut blocks = Vec::new();
        for receiver in &mut self.receivers {
            if receiver.stream.has_news() {
                blocks.extend(receiver.stream.report(now));
            }
        }
        if infos.is_empty() && blocks.is_empty() && self.senders.is_empty() {
            return;
        }
        let compounds = self.reporter.reports(&infos, &blocks);
        self.queue(compounds);
    }

    /// Queues goodbyes for senders that have been taken out.
    pub(super) fn queue_goodbyes(&mut self, now: Instant, leaving: &[Sender]) {
        if self.keys.is_none() {
            return;
        }
        let ntp = self.clock.ntp(now);
        let infos: Vec<_> = leaving.iter().filter_map(|sender| sender.info(now, ntp)).collect();
        let ssrcs: Vec<_> = leaving.iter().map(Sender::ssrc).collect();
        let compounds = self.reporter.goodbyes(&infos, &ssrcs);
        self.queue(compounds);
    }

    pub(super) fn queue(&mut self, compounds: Vec<Vec<u8>>) {
        for compound in compounds {
            if self.outbox.compounds.len() == MAX_COMPOUNDS {
                // The newest says most.
                self.outbox.compounds.pop_front();
                self.stats.send_drops.rtcp += 1;
            }
            self.outbox.compounds.push_back(compound);
        }
    }

    pub(super) fn sender_mut(&mut self, ssrc: Ssrc) -> Option<&mut Sender> {
        let at = self.senders.binary_search_by_key(&ssrc, Sender::ssrc).ok()?;
        Some(&mut self.senders[at])
    }
}
