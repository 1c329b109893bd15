//! Packets of sending tracks that their receiver has lost, sent again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::prefetch;

use super::RtpSession;
use super::outbound::{Feed, MAX_DATAGRAM, Sender};
use super::recovery::ORIGINAL_NUMBER;
use crate::srtp::SrtpSender;
use crate::stream::{Passage, ResendBudget, ResendTimes, SealMarks, SendHistory, SendStream};
use crate::view::{NUMBER_ROOM, PADDED, u32_at};
use crate::{
    Extension, PayloadType, RetransmitConfig, RtpHeader, RtpView, RtxStream, SealMark, SrtpError,
    Ssrc, TrackSource,
};

/// Packets of one session that wait to be sent again: more are asked for again later.
const MAX_WAITING: usize = 512;

/// Packets that one NACK is heeded for; it could name 6,000.
const MAX_PER_NACK: usize = 512;

/// What a sender can send again, and how.
#[derive(Debug)]
pub(super) struct Retransmitter {
    rtx: Option<RtxStream>,
    /// What was sent that does not come from another session.
    history: SendHistory,
    /// Of what does, where it has to be sealed again.
    marks: SealMarks,
    times: ResendTimes,
    budget: ResendBudget,
    /// The shortest time there and back of late.
    round_trip: Option<Duration>,
}

/// A packet of another session that is to be sent again, by its numbers there and here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retransmission {
    /// The SSRC that it was sent with.
    pub ssrc: Ssrc,
    /// The sequence number that it was sent with, with its rollovers.
    pub index: u64,
    /// Where it came from.
    pub source: TrackSource,
    /// Of which encoding it is, where that has several.
    pub encoding: u8,
    /// Its sequence number there, with its rollovers.
    pub source_index: u64,
}

/// What waits to be sent again.
#[derive(Debug, Default)]
pub(super) struct Resends {
    own: VecDeque<(Ssrc, u64)>,
    forwarded: VecDeque<Retransmission>,
}

impl Resends {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Retransmitter {
    fn new(now: Instant, rtx: Option<RtxStream>) -> Self {
        Self {
            rtx,
            history: SendHistory::default(),
            marks: SealMarks::default(),
            times: ResendTimes::new(now),
            budget: ResendBudget::new(now),
            round_trip: None,
        }
    }

    /// Keeps a packet that was sealed for the first time, with its index.
    pub(super) fn keep(
        &mut self,
        now: Instant,
        index: u64,
        header: &[u8],
        payload: Bytes,
        sealed: &[u8],
    ) {
        self.budget.sent(now, sealed.len());
        if let Some(mark) = SealMark::of(sealed) {
            self.history.push(now, index, header, payload, mark);
        }
    }

    /// Notes a packet of another session that was sealed for the first time.
    pub(super) fn note_forwarded(&mut self, now: Instant, index: u64, sealed: &[u8]) {
        self.budget.sent(now, sealed.len());
        if self.rtx.is_none() {
            self.marks.push(index, SealMark::of(sealed));
        }
    }

    /// Has the processor fetch what sending looks at.
    pub(super) fn prefetch(&self) {
        let Self { rtx, marks, budget, .. } = self;
        prefetch(rtx);
        prefetch(marks);
        prefetch(budget);
    }

    /// Forgets all that was sent: it cannot be sealed again.
    pub(super) fn forget(&mut self) {
        self.history = SendHistory::default();
        self.marks = SealMarks::default();
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.history.expire(now);
    }

    /// The stream of what is sent again, and a payload type of it, for padding.
    pub(super) fn padding_stream(&self) -> Option<(Ssrc, PayloadType)> {
        let rtx = self.rtx.as_ref()?;
        Some((rtx.ssrc, rtx.payload_types.first()?.1))
    }

    /// The stream and the payload type by which packets of this type are sent again.
    fn rtx_of(&self, payload_type: PayloadType) -> Option<(Ssrc, PayloadType)> {
        let rtx = self.rtx.as_ref()?;
        let (_, sent) = rtx.payload_types.iter().find(|(original, _)| *original == payload_type)?;
        Some((rtx.ssrc, *sent))
    }
}

impl RtpSession {
    /// Has packets of a sending track be sent again when its receiver says that it has lost them,
    /// as `config` says; in place of what was said before. An SSRC that is none is ignored.
    ///
    /// What was sent is kept for a second, 1,024 packets and a megabyte at most. Those of other
    /// sessions are not: see [`poll_retransmission`](Self::poll_retransmission).
    pub fn retransmit_sender(&mut self, now: Instant, config: RetransmitConfig) {
        let RetransmitConfig { ssrc, nack, rtx } = config;
        let Some(sender) = self.sender_mut(ssrc) else { return };
        sender.retransmitter = match (nack, sender.retransmitter.take()) {
            (false, _) => None,
            (true, None) => Some(Box::new(Retransmitter::new(now, rtx))),
            (true, Some(mut before)) => {
                before.rtx = rtx;
                Some(before)
            }
        };
    }

    /// Takes what a peer says that it has lost of a track; whether it is one whose packets are
    /// sent again.
    pub(super) fn on_nack(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        lost: impl Iterator<Item = u16>,
    ) -> bool {
        let Ok(at) = self.senders.binary_search_by_key(&ssrc, Sender::ssrc) else { return false };
        let Sender { stream, feed, retransmitter, .. } = &mut self.senders[at];
        let Some(retransmitter) = retransmitter else { return false };
        stream.note_nack();
        if let Some(trip) = stream.stats().remote.and_then(|remote| remote.round_trip) {
            let known = retransmitter.round_trip.unwrap_or(trip);
            retransmitter.round_trip = Some(trip.min(known + known / 16));
        }
        let counts = &mut self.stats.recovery;
        for (n, sequence) in lost.enumerate() {
            counts.asked += 1;
            if n >= MAX_PER_NACK {
                counts.over_budget += 1;
                continue;
            }
            let newest = stream.next_index().wrapping_sub(1);
            let behind = (newest as u16).wrapping_sub(sequence);
            let Some(index) = newest.checked_sub(u64::from(behind)) else {
                counts.unavailable += 1;
                continue;
            };
            let source = match feed {
                _ if retransmitter.history.get(index).is_some() => None,
                Feed::Forward(forward) => {
                    let found = forward.source_of(index);
                    let found = found.map(|(encoding, source_index)| Retransmission {
                        ssrc,
                        index,
                        source: forward.source,
                        encoding,
                        source_index,
                    });
                    if found.is_none() {
                        counts.unavailable += 1;
                        continue;
                    }
                    found
                }
                Feed::Ring(_) => {
                    counts.unavailable += 1;
                    continue;
                }
            };
            let waiting = self.resends.own.len() + self.resends.forwarded.len();
            if waiting >= MAX_WAITING || !retransmitter.budget.has(1) {
                counts.over_budget += 1;
            } else if !retransmitter.times.may_resend(now, index, retransmitter.round_trip) {
                counts.too_soon += 1;
            } else if let Some(source) = source {
                self.resends.forwarded.push_back(source);
            } else {
                self.resends.own.push_back((ssrc, index));
            }
        }
        true
    }

    /// How many bytes of room the next packet needs that is sent again and does not come from
    /// another session.
    pub(super) fn next_resend(&mut self) -> Option<usize> {
        let overhead = self.keys.as_ref()?.sender.overhead();
        while let Some((ssrc, index)) = self.resends.own.front().copied() {
            let counts = &mut self.stats.recovery;
            let at = self.senders.binary_search_by_key(&ssrc, Sender::ssrc);
            let sender = at.ok().map(|at| &self.senders[at]).filter(|sender| sender.enabled);
            let retransmitter = sender.and_then(|sender| sender.retransmitter.as_ref());
            let kept = retransmitter.and_then(|it| Some((it, it.history.get(index)?)));
            if let Some((retransmitter, kept)) = kept {
                let header = kept.header().len() + NUMBER_ROOM + ORIGINAL_NUMBER;
                let len = header + kept.payload.len() + overhead;
                if len > MAX_DATAGRAM + NUMBER_ROOM + ORIGINAL_NUMBER {
                    counts.unavailable += 1;
                } else if retransmitter.budget.has(len) {
                    return Some(len);
                } else {
                    counts.over_budget += 1;
                }
            } else {
                counts.unavailable += 1;
            }
            self.resends.own.pop_front();
        }
        None
    }

    /// Writes and seals the packet that [`next_resend`](Self::next_resend) has found.
    pub(super) fn write_resend(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let (ssrc, index) = self.resends.own.pop_front()?;
        let at = self.senders.binary_search_by_key(&ssrc, Sender::ssrc).ok()?;
        let counted = self.senders[at].counted();
        let Sender { stream, retransmitter, number_id, .. } = &mut self.senders[at];
        let (retransmitter, number_id) = (retransmitter.as_mut()?, *number_id);
        let keys = &mut self.keys.as_mut()?.sender;
        let kept = retransmitter.history.get(index)?;
        let (header, payload) = (kept.header(), &kept.payload);
        let marker_and_type = header[1];
        let rtx = retransmitter.rtx_of(PayloadType(marker_and_type & 0x7f));
        let len = payload.len();
        let sealed = match rtx {
            Some((rtx, payload_type)) => {
                // A number that it had is another's than this packet's.
                let number = number_id.map(|id| (id, self.congestion.next_number(now)));
                let bytes = number.map(|(id, number)| (id, number.to_be_bytes()));
                let element = bytes.as_ref().map(|(id, data)| Extension { id: *id, data });
                let again = RtpHeader {
                    payload_type,
                    marker: marker_and_type & 0x80 != 0,
                    sequence: 0,
                    timestamp: u32_at(header, 4),
                    ssrc: rtx,
                    extensions: element.as_slice(),
                };
                let header_len = again.write(out).ok()?;
                let sealed = seal_rtx(keys, stream, (rtx, index), header_len, payload, out);
                self.congestion.on_resent(now, counted, rtx, out, &sealed);
                sealed
            }
            None => {
                let header_len = header.len();
                out[..header_len].copy_from_slice(header);
                keys.protect_rtp_again((index, kept.mark), header_len, payload, out)
            }
        };
        self.finish_resend(at, sealed, len)
    }

    fn finish_resend(
        &mut self,
        at: usize,
        sealed: Result<usize, SrtpError>,
        octets: usize,
    ) -> Option<usize> {
        let Sender { stream, retransmitter, .. } = &mut self.senders[at];
        let overhead = self.keys.as_ref().map_or(0, |keys| keys.sender.overhead());
        match sealed {
            Ok(len) => {
                stream.note_resent(octets);
                // The number that it had (RFC 4588 §4) is part of no payload.
                stream.note_header(len.saturating_sub(overhead + octets));
                if let Some(retransmitter) = retransmitter {
                    retransmitter.budget.spend(len);
                }
                self.stats.rtp_sent += 1;
                self.stats.recovery.retransmitted += 1;
                self.datagrams.count_sent(len);
                Some(len)
            }
            Err(error) => {
                tracing::debug!(ssrc = stream.ssrc().0, %error, "a packet is not sent again");
                self.stats.recovery.not_sealed += 1;
                None
            }
        }
    }

    /// The next packet of another session that this peer wants once more. Whoever has kept what
    /// came there writes it with [`write_retransmission`](Self::write_retransmission).
    pub fn poll_retransmission(&mut self) -> Option<Retransmission> {
        self.resends.forwarded.pop_front()
    }

    /// Whether [`poll_retransmission`](Self::poll_retransmission) has something.
    pub fn has_retransmissions(&self) -> bool {
        !self.resends.forwarded.is_empty()
    }

    /// Counts a packet that nobody has kept, or that there is no path for. It may be asked for again
    /// at once: perhaps it was only on its way.
    pub fn count_unavailable(&mut self, wanted: &Retransmission) {
        self.stats.recovery.unavailable += 1;
        if let Some(sender) = self.sender_mut(wanted.ssrc)
            && let Some(retransmitter) = &mut sender.retransmitter
        {
            retransmitter.times.forget(wanted.index);
        }
    }

    /// How many bytes of room a packet needs to be sent again, or `None` when it is not to be,
    /// counted. `packet` is the one of the source, opened.
    pub fn retransmission_room(
        &mut self,
        wanted: &Retransmission,
        packet: &RtpView<'_>,
    ) -> Option<usize> {
        let overhead = self.keys.as_ref()?.sender.overhead();
        let at = self.senders.binary_search_by_key(&wanted.ssrc, Sender::ssrc).ok()?;
        let Sender { feed, retransmitter, enabled, number_id, .. } = &self.senders[at];
        let counts = &mut self.stats.recovery;
        let (Feed::Forward(forward), Some(retransmitter), true) = (feed, retransmitter, *enabled)
        else {
            counts.unavailable += 1;
            return None;
        };
        let is_numbered = number_id.is_some();
        let passage = forward.rewriter.passage(packet);
        let has_rtx = passage.is_some_and(|it| retransmitter.rtx_of(it.types.sent).is_some());
        let header = forward.rewriter.header_room(packet, is_numbered);
        if is_numbered && !has_rtx && retransmitter.marks.get(wanted.index).is_some() {
            // The number that it had is not known any more, and under its own SSRC it may not
            // differ.
            counts.unavailable += 1;
            return None;
        }
        let room = header + ORIGINAL_NUMBER + packet.body().len() + overhead;
        if room > MAX_DATAGRAM + NUMBER_ROOM + ORIGINAL_NUMBER {
            counts.unavailable += 1;
        } else if !retransmitter.budget.has(room) {
            counts.over_budget += 1;
        } else {
            return Some(room);
        }
        None
    }

    /// Writes and seals a packet of another session once more, into `out`, which has the
    /// [room](Self::retransmission_room) that was asked for; returns its length. `None` when it
    /// cannot be sealed, counted.
    pub fn write_retransmission(
        &mut self,
        now: Instant,
        wanted: &Retransmission,
        packet: &RtpView<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let at = self.senders.binary_search_by_key(&wanted.ssrc, Sender::ssrc).ok()?;
        let counted = self.senders[at].counted();
        let keys = &mut self.keys.as_mut()?.sender;
        let Sender { stream, feed: Feed::Forward(forward), retransmitter, number_id, .. } =
            &mut self.senders[at]
        else {
            return None;
        };
        let retransmitter = retransmitter.as_mut()?;
        let Passage { types, skipped } = forward.rewriter.passage(packet)?;
        let payload_type = types.sent;
        let (payload, body) = (&packet.payload()[skipped..], &packet.body()[skipped..]);
        let rtx = retransmitter.rtx_of(payload_type);
        let spot = forward.spot_again(wanted.index, packet)?;
        let header = RtpHeader {
            payload_type: rtx.map_or(payload_type, |(_, sent)| sent),
            marker: spot.marker,
            sequence: wanted.index as u16,
            timestamp: spot.timestamp,
            ssrc: wanted.ssrc,
            extensions: &[],
        };
        let number = number_id.map(|id| (id, self.congestion.next_number(now).to_be_bytes()));
        let element = number.as_ref().map(|(id, data)| Extension { id: *id, data });
        let header_len = forward.rewriter.write_header(&header, packet, None, element, out)?;
        let octets = payload.len();
        // Without what a picture id is changed to, the packet is the one that was received.
        let mut changed = [0; MAX_DATAGRAM];
        let body = if spot.changes_payload() {
            let len = spot.copy_body(0, packet, &[], &mut changed)?;
            &changed[..len]
        } else {
            body
        };
        let sealed = match (rtx, retransmitter.marks.get(wanted.index)) {
            (Some((rtx, _)), _) => {
                // What is padded there is not here.
                out[0] &= !PADDED;
                let payload = &body[..octets];
                seal_rtx(keys, stream, (rtx, wanted.index), header_len, payload, out)
            }
            (None, Some(mark)) => {
                keys.protect_rtp_again((wanted.index, mark), header_len, body, out)
            }
            // It was never sent: it has come here late, or there was no path for it.
            (None, None) => keys.protect_rtp_behind(header_len, body, &[], out),
        };
        let sent_as = rtx.map_or(wanted.ssrc, |(rtx, _)| rtx);
        self.congestion.on_resent(now, counted, sent_as, out, &sealed);
        self.finish_resend(at, sealed, octets)
    }
}

/// Seals a payload on the stream of what is sent again (RFC 4588 §4), behind the header that `out`
/// begins with, in which the payload type is right already.
fn seal_rtx(
    keys: &mut SrtpSender,
    stream: &mut SendStream,
    (rtx, index): (Ssrc, u64),
    header_len: usize,
    payload: &[u8],
    out: &mut [u8],
) -> Result<usize, SrtpError> {
    let number = stream.next_rtx_index(rtx);
    out[2..4].copy_from_slice(&(number as u16).to_be_bytes());
    out[8..12].copy_from_slice(&rtx.0.to_be_bytes());
    let at = header_len + ORIGINAL_NUMBER;
    out[header_len..at].copy_from_slice(&(index as u16).to_be_bytes());
    out[at..at + payload.len()].copy_from_slice(payload);
    keys.protect_rtp(out, at + payload.len())
}
