//! Telephone events among the audio of a track (RFC 4733 §2.1), in both directions.

use std::time::{Duration, Instant};

use ortc_io::ring::{PushError, RingReceiver};

use super::RtpSession;
use super::inbound::Receiver;
use super::outbound::Feed;
use crate::stream::SendStream;
use crate::{ReceivedPacket, ReceivedTonePacket, RtpView, Ssrc, TonePacket, ToneRoute};

/// Routes for tones whose tracks have not been added yet: one comes right before its track.
const MAX_ROUTES: usize = 16;

/// Length of a payload that reports one event (RFC 4733 §2.3): what a peer may send with another
/// payload type than it has described.
const ONE_REPORT: usize = 4;

/// Tones of a sending track, in between its audio.
#[derive(Debug)]
pub(super) struct SendTones {
    pub(super) packets: RingReceiver<TonePacket>,
    /// The newest event: when it began, its timestamp, and the one that it reaches to.
    newest: Option<(Instant, u32, u32)>,
    paused_until: Option<Instant>,
}

/// Everything of a [`TonePacket`] but its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToneMark {
    pub(super) begin: Instant,
    pub(super) timestamp_offset: u32,
    pub(super) reaches: u32,
    pub(super) pause: Duration,
}

impl SendTones {
    fn new(packets: RingReceiver<TonePacket>) -> Self {
        Self { packets, newest: None, paused_until: None }
    }

    /// Whether a tone sounds at `now`, so that no audio is sent.
    pub(super) fn is_sounding(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Whether nothing has been sent, or what was sent last has let the audio go on.
    pub(super) fn is_over(&self) -> bool {
        self.paused_until.is_none()
    }

    /// Notes a packet that is sent at `now`; returns its timestamp.
    pub(super) fn place(&mut self, now: Instant, stream: &SendStream, mark: ToneMark) -> u32 {
        let ToneMark { begin, timestamp_offset, reaches, pause } = mark;
        let timestamp = match self.newest {
            Some((of, timestamp, _)) if of == begin => timestamp,
            newest => {
                let timestamp = stream.timestamp_of(begin);
                // Audio that came late has moved the clock back by some milliseconds. Events
                // must not overlap, or a receiver takes two for one (RFC 4733 §2.5.1.4).
                let second = stream.in_clock_units(Duration::from_secs(1)).max(2);
                match newest {
                    Some((_, _, free)) if (1..second).contains(&free.wrapping_sub(timestamp)) => {
                        free
                    }
                    _ => timestamp,
                }
            }
        };
        self.newest = Some((begin, timestamp, timestamp.wrapping_add(reaches)));
        self.paused_until = (!pause.is_zero()).then(|| now + pause);
        timestamp.wrapping_add(timestamp_offset)
    }
}

/// Where the tones of a receiving track go, and what is known of its sequence numbers.
#[derive(Debug)]
pub(super) struct ReceiveTones {
    route: ToneRoute,
    /// The highest index so far.
    newest: Option<u64>,
    /// When it was last seen that something may be missing.
    gap_at: Option<Instant>,
}

impl ReceiveTones {
    fn new(route: ToneRoute) -> Self {
        Self { route, newest: None, gap_at: None }
    }

    /// Takes a packet of the track; `None` when it is no tone, else whether there was room.
    ///
    /// `is_described` is false for a payload type of no codec of the track: that of a tone, if
    /// it is as short as one; whoever reads it looks closer.
    pub(super) fn take(
        &mut self,
        now: Instant,
        view: &RtpView<'_>,
        index: u64,
        is_described: bool,
        packet: impl FnOnce() -> ReceivedPacket,
    ) -> Option<Result<(), PushError<()>>> {
        let is_tone = match is_described {
            true => self.route.payload_types.contains(&view.payload_type()),
            false => view.payload().len() == ONE_REPORT,
        };
        let previous = self.newest;
        if previous.is_none_or(|newest| index > newest + 1) {
            self.gap_at = Some(now);
        }
        self.newest = previous.max(Some(index));
        if !is_tone {
            return None;
        }
        // A ring that nobody reads may be full as well.
        if self.route.packets.is_full() && !self.route.packets.is_closed() {
            return Some(Err(PushError::Full(())));
        }
        let tone = ReceivedTonePacket { packet: packet(), previous, gap_at: self.gap_at };
        Some(self.route.packets.push(tone).map_err(|error| match error {
            PushError::Full(_) => PushError::Full(()),
            PushError::Closed(_) => PushError::Closed(()),
        }))
    }
}

impl RtpSession {
    /// Takes tones for a sending track: they go out with its SSRC and the next sequence numbers,
    /// timed by when they began, and its audio is dropped, counted, while one sounds. An SSRC
    /// that is none is ignored: its ring is dropped.
    pub fn send_tones(&mut self, ssrc: Ssrc, packets: RingReceiver<TonePacket>) {
        if let Some(sender) = self.sender_mut(ssrc) {
            sender.tones = Some(SendTones::new(packets));
        }
    }

    /// Has the tones of a receiving track, or of one that is added next, go where `route` says,
    /// and not to the reader of the audio.
    pub fn receive_tones(&mut self, ssrc: Ssrc, route: ToneRoute) {
        match self.receiver_mut(ssrc) {
            Some(receiver) => receiver.tones = Some(ReceiveTones::new(route)),
            None => {
                if self.tone_routes.len() == MAX_ROUTES {
                    self.tone_routes.remove(0);
                }
                self.tone_routes.push((ssrc, route));
            }
        }
    }

    /// Gives a new receiver the route that has come before it.
    pub(super) fn route_tones(&mut self, receiver: &mut Receiver) {
        let ssrc = receiver.ssrc();
        if let Some(at) = self.tone_routes.iter().rposition(|(of, _)| *of == ssrc) {
            let (_, route) = self.tone_routes.remove(at);
            receiver.tones = Some(ReceiveTones::new(route));
        }
    }
}

impl super::outbound::Sender {
    /// Drops a packet of audio while a tone sounds, keeping the time that it tells.
    pub(super) fn is_silenced(&mut self, now: Instant, timestamp: u64) -> bool {
        if !self.tones.as_ref().is_some_and(|tones| tones.is_sounding(now)) {
            return false;
        }
        if let Feed::Ring(_) = self.feed {
            self.stream.note_silenced(now, timestamp);
        }
        true
    }
}
