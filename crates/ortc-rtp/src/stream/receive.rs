use std::time::{Duration, Instant};

use super::capture::CaptureClock;
use super::clock::{NtpTime, PICTURE_CLOCK, in_65536ths, in_clock_units};
use crate::{DisconnectReason, PayloadType, ReportBlock, RtpView, SenderInfo, Ssrc};

/// When a received stream is taken to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveTimings {
    /// How long it may be without RTP. Reports do not count: a peer that has stopped the
    /// track goes on reporting. Default 5 s: Opus in silence sends every 400 ms, and a
    /// change of network takes seconds.
    pub disconnect_timeout: Duration,
    /// How long after an RTCP BYE newer RTP of the same SSRC revokes it. Default 500 ms:
    /// Chromium says BYE and goes on when tracks are negotiated anew.
    pub bye_grace: Duration,
}

impl Default for ReceiveTimings {
    fn default() -> Self {
        Self { disconnect_timeout: Duration::from_secs(5), bye_grace: Duration::from_millis(500) }
    }
}

/// What has happened to a received stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// Its first packet has come, or the first since it was disconnected.
    Connected,
    /// It has ended, for now.
    Disconnected(DisconnectReason),
}

/// Where a received stream stands, named by what it awaits.
///
/// | state | RTP | BYE | time |
/// |---|---|---|---|
/// | `AwaitingFirst` | `AwaitingNext`, connected | – | – |
/// | `AwaitingNext` | – | `AwaitingRevocation` | `AwaitingReturn`, disconnected: timed out |
/// | `AwaitingRevocation` | newer: `AwaitingNext` | – | `AwaitingReturn`, disconnected: BYE |
/// | `AwaitingReturn` | newer: `AwaitingNext`, connected | – | – |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "states are named by what they await")]
enum State {
    AwaitingFirst,
    AwaitingNext { since: Instant },
    AwaitingRevocation { bye_at: Instant },
    AwaitingReturn,
}

/// What moves a stream from one [`State`] to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// A packet; whether it is newer than all before.
    Rtp {
        newer: bool,
    },
    Bye,
    Time,
}

/// One track on its way in: statistics, reports, and whether it is there at all.
#[derive(Debug)]
pub struct ReceiveStream {
    ssrc: Ssrc,
    payload_types: Vec<(PayloadType, u32)>,
    timings: ReceiveTimings,
    state: State,
    /// The first and the highest index (RFC 3550 §A.1; SRTP has counted the rollovers).
    range: Option<(u64, u64)>,
    received: u64,
    /// Of those that were sent again on a stream of their own: to reports they are lost (RFC 4588
    /// §6.3), or nobody would learn of the loss.
    recovered: u64,
    recovered_octets: u64,
    nacks: u64,
    given_up: u64,
    /// Whether the next packet is one of them.
    is_recovered: bool,
    octets: u64,
    header_octets: u64,
    sender_reports: u64,
    frames: u64,
    jitter: Jitter,
    /// When a packet came last, its payload type, and the clock rate of that.
    last_packet: Option<(Instant, PayloadType, u32)>,
    last_sender_report: Option<(Instant, SenderInfo)>,
    capture: CaptureClock,
    /// The header extension that says when a packet was captured.
    capture_id: Option<u8>,
    /// Expected and received when the last report was made (RFC 3550 §A.3).
    reported: (u64, u64),
}

/// The estimate of RFC 3550 §A.8, in sixteenths of a clock unit.
#[derive(Debug, Default)]
struct Jitter {
    /// Clock rate, arrival and timestamp of the packet before.
    last: Option<(u32, Instant, u32)>,
    sixteenths: u32,
}

impl Jitter {
    fn on_packet(&mut self, now: Instant, clock_rate: u32, timestamp: u32) {
        if let Some((rate, arrival, before)) = self.last
            && rate == clock_rate
        {
            let elapsed = in_clock_units(now.saturating_duration_since(arrival), clock_rate);
            let transit = elapsed.wrapping_sub(timestamp.wrapping_sub(before)) as i32;
            let difference = transit.unsigned_abs();
            self.sixteenths = self
                .sixteenths
                .saturating_add(difference)
                .saturating_sub((self.sixteenths.saturating_add(8)) >> 4);
        }
        self.last = Some((clock_rate, now, timestamp));
    }
}

/// What a [`ReceiveStream`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveStreamStats {
    /// Packets received, those that were sent again on a stream of their own included.
    pub packets: u64,
    /// Of those, the ones that were sent again on a stream of their own.
    pub recovered: u64,
    /// Their payload bytes.
    pub recovered_octets: u64,
    /// NACKs sent (RFC 4585 §6.2.1), each of which may be of many packets.
    pub nacks: u64,
    /// Packets that were asked for in vain.
    pub given_up: u64,
    /// Payload bytes received.
    pub octets: u64,
    /// Bytes of headers and of padding.
    pub header_octets: u64,
    /// Sender reports of it that have come.
    pub sender_reports: u64,
    /// Pictures received, of a track of video, the last packet of each.
    pub frames: u64,
    /// Packets lost so far; negative when duplicates outnumber them.
    pub lost: i64,
    /// Interarrival jitter in units of the clock rate.
    pub jitter: u32,
    /// Highest sequence number with its rollovers.
    pub highest_sequence: u64,
    /// The newest sender report.
    pub sender_report: Option<SenderInfo>,
}

/// Why a packet is none of the stream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload type {0:?} was not described")]
pub struct UnknownPayloadType(pub PayloadType);

impl ReceiveStream {
    /// Makes a stream that awaits its first packet.
    ///
    /// `payload_types` are those that are taken, with their clock rates in Hz.
    pub fn new(
        ssrc: Ssrc,
        payload_types: Vec<(PayloadType, u32)>,
        timings: ReceiveTimings,
    ) -> Self {
        Self {
            ssrc,
            payload_types,
            timings,
            state: State::AwaitingFirst,
            range: None,
            received: 0,
            recovered: 0,
            recovered_octets: 0,
            nacks: 0,
            given_up: 0,
            is_recovered: false,
            octets: 0,
            header_octets: 0,
            sender_reports: 0,
            frames: 0,
            jitter: Jitter::default(),
            last_packet: None,
            last_sender_report: None,
            capture: CaptureClock::new(),
            capture_id: None,
            reported: (0, 0),
        }
    }

    /// Takes packets of these payload types from now on; all else goes on.
    pub fn set_payload_types(&mut self, payload_types: Vec<(PayloadType, u32)>) {
        self.payload_types = payload_types;
    }

    /// The clock rate of one of its payload types in Hz.
    pub(crate) fn clock_rate_of(&self, payload_type: PayloadType) -> Option<u32> {
        let known = self.payload_types.iter().find(|(known, _)| *known == payload_type);
        known.map(|(_, clock_rate)| *clock_rate)
    }

    /// Its SSRC.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// Whether one of its payload types has the clock of video (RFC 3551 §5).
    pub(crate) fn may_be_video(&self) -> bool {
        self.payload_types.iter().any(|(_, clock_rate)| *clock_rate == PICTURE_CLOCK)
    }

    /// Takes an authentic packet with its index, the sequence number with its rollovers.
    ///
    /// # Errors
    /// [`UnknownPayloadType`]: drop the packet; it changes nothing.
    pub fn on_packet(
        &mut self,
        now: Instant,
        packet: &RtpView<'_>,
        index: u64,
    ) -> Result<Option<StreamEvent>, UnknownPayloadType> {
        let payload_type = packet.payload_type();
        let (_, clock_rate) = *self
            .payload_types
            .iter()
            .find(|(known, _)| *known == payload_type)
            .ok_or(UnknownPayloadType(payload_type))?;
        let newer = self.range.is_none_or(|(_, highest)| index > highest);
        self.range = Some(match self.range {
            None => (index, index),
            Some((first, highest)) => (first.min(index), highest.max(index)),
        });
        if std::mem::take(&mut self.is_recovered) {
            self.recovered += 1;
            self.recovered_octets += packet.payload().len() as u64;
        } else {
            self.received += 1;
        }
        self.octets += packet.payload().len() as u64;
        let around = packet.header_len() + packet.body().len() - packet.payload().len();
        self.header_octets += around as u64;
        self.frames += u64::from(packet.marker() && clock_rate == PICTURE_CLOCK);
        // What comes late has been delayed by more than the network.
        if newer {
            self.jitter.on_packet(now, clock_rate, packet.timestamp());
        }
        self.last_packet = Some((now, payload_type, clock_rate));
        if let Some(id) = self.capture_id
            && let Some(element) = packet.extensions().flatten().find(|element| element.id == id)
        {
            self.capture.on_element(packet.timestamp(), clock_rate, element.data);
        }
        Ok(self.advance(now, Input::Rtp { newer }))
    }

    /// Notes that the next packet was sent again on a stream of its own.
    pub(crate) fn note_recovered(&mut self) {
        self.is_recovered = true;
    }

    /// Counts NACKs.
    pub(crate) fn note_nacks(&mut self, nacks: u64) {
        self.nacks += nacks;
    }

    /// Counts packets that were given up.
    pub(crate) fn note_given_up(&mut self, packets: u64) {
        self.given_up += packets;
    }

    /// Takes a sender report of the stream.
    pub fn on_sender_report(&mut self, now: Instant, info: SenderInfo) {
        self.last_sender_report = Some((now, info));
        self.sender_reports += 1;
        // Before the first packet, it counts as the first codec does.
        let last = self.last_packet.map(|(_, _, clock_rate)| clock_rate);
        let first = self.payload_types.first().map(|(_, clock_rate)| *clock_rate);
        if let Some(clock_rate) = last.or(first) {
            self.capture.on_sender_report(&info, clock_rate);
        }
    }

    /// Reads when packets were captured in the header extension of this id, or not, without one.
    pub fn set_capture_extension(&mut self, id: Option<u8>) {
        self.capture_id = id;
    }

    /// When the packet that came last, or one like it with this timestamp, was captured; see
    /// [`CaptureClock`].
    pub fn capture_time(&self, timestamp: u32) -> Option<NtpTime> {
        let (_, _, clock_rate) = self.last_packet?;
        self.capture.capture_time(timestamp, clock_rate)
    }

    /// The newest sender report, and when it came.
    pub fn sender_report(&self) -> Option<(Instant, SenderInfo)> {
        self.last_sender_report
    }

    /// Takes an RTCP BYE for the stream. It counts once newer RTP has not followed for
    /// [`ReceiveTimings::bye_grace`].
    pub fn on_bye(&mut self, now: Instant) {
        let event = self.advance(now, Input::Bye);
        debug_assert_eq!(event, None, "a goodbye only starts the time of grace");
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::AwaitingFirst | State::AwaitingReturn => None,
            State::AwaitingNext { since } => {
                Some((since + self.timings.disconnect_timeout, "a track may have timed out"))
            }
            State::AwaitingRevocation { bye_at } => {
                Some((bye_at + self.timings.bye_grace, "a goodbye may stand"))
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<StreamEvent> {
        self.advance(now, Input::Time)
    }

    /// The one place where the state changes.
    fn advance(&mut self, now: Instant, input: Input) -> Option<StreamEvent> {
        let due = self.poll_timeout().is_some_and(|(at, _)| now >= at);
        let (next, event) = match (self.state, input) {
            (State::AwaitingFirst, Input::Rtp { .. }) => {
                (State::AwaitingNext { since: now }, Some(StreamEvent::Connected))
            }
            (State::AwaitingReturn, Input::Rtp { newer: true }) => {
                (State::AwaitingNext { since: now }, Some(StreamEvent::Connected))
            }
            (State::AwaitingNext { .. }, Input::Rtp { .. })
            | (State::AwaitingRevocation { .. }, Input::Rtp { newer: true }) => {
                (State::AwaitingNext { since: now }, None)
            }
            (State::AwaitingNext { .. }, Input::Bye) => {
                (State::AwaitingRevocation { bye_at: now }, None)
            }
            (State::AwaitingNext { .. }, Input::Time) if due => {
                (State::AwaitingReturn, Some(StreamEvent::Disconnected(DisconnectReason::TimedOut)))
            }
            (State::AwaitingRevocation { .. }, Input::Time) if due => {
                (State::AwaitingReturn, Some(StreamEvent::Disconnected(DisconnectReason::Bye)))
            }
            // Stragglers, goodbyes to nobody, and time that is not up.
            (state, _) => (state, None),
        };
        if let Some(event) = event {
            tracing::debug!(ssrc = self.ssrc.0, ?input, ?event, "receiving track");
        }
        self.state = next;
        event
    }

    /// Whether packets have come since the last report was made.
    pub fn has_news(&self) -> bool {
        self.received != self.reported.1
    }

    /// Makes a report block at `now` (RFC 3550 §6.4.1); the next counts losses from here.
    ///
    /// `None` before the first packet.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let (_, highest) = self.range?;
        let expected = self.expected();
        let (expected_before, received_before) = self.reported;
        let newly_expected = expected - expected_before;
        let newly_lost = newly_expected.saturating_sub(self.received - received_before);
        self.reported = (expected, self.received);
        let fraction = (newly_lost * 256).checked_div(newly_expected).unwrap_or(0);
        let (last_sender_report, delay_since_last) =
            self.last_sender_report.map_or((0, 0), |(at, info)| {
                ((info.ntp >> 16) as u32, in_65536ths(now.saturating_duration_since(at)))
            });
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: fraction.min(255) as u8,
            // 24 bits, signed.
            cumulative_lost: self.lost().clamp(-(1 << 23), (1 << 23) - 1) as i32,
            highest_sequence: highest as u32,
            jitter: self.jitter.sixteenths >> 4,
            last_sender_report,
            delay_since_last,
        })
    }

    fn expected(&self) -> u64 {
        self.range.map_or(0, |(first, highest)| highest - first + 1)
    }

    fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// When a packet came last, its payload type, and the clock rate of that in Hz.
    pub fn last_packet(&self) -> Option<(Instant, PayloadType, u32)> {
        self.last_packet
    }

    /// What it has counted.
    pub fn stats(&self) -> ReceiveStreamStats {
        ReceiveStreamStats {
            packets: self.received + self.recovered,
            recovered: self.recovered,
            recovered_octets: self.recovered_octets,
            nacks: self.nacks,
            given_up: self.given_up,
            octets: self.octets,
            header_octets: self.header_octets,
            sender_reports: self.sender_reports,
            frames: self.frames,
            lost: self.lost(),
            jitter: self.jitter.sixteenths >> 4,
            highest_sequence: self.range.map_or(0, |(_, highest)| highest),
            sender_report: self.last_sender_report.map(|(_, info)| info),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RtpHeader;

    const SSRC: Ssrc = Ssrc(5);

    struct Fixture {
        start: Instant,
        stream: ReceiveStream,
    }

    impl Fixture {
        fn new() -> Self {
            let types = vec![(PayloadType(111), 48_000)];
            let stream = ReceiveStream::new(SSRC, types, ReceiveTimings::default());
            Self { start: Instant::now(), stream }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn packet(&mut self, ms: u64, index: u64, timestamp: u32) -> Option<StreamEvent> {
            let mut bytes = [0; 22];
            let header = RtpHeader {
                payload_type: PayloadType(111),
                marker: false,
                sequence: index as u16,
                timestamp,
                ssrc: SSRC,
                extensions: &[],
            };
            header.write(&mut bytes).unwrap();
            let view = RtpView::parse(&bytes).unwrap();
            self.stream.on_packet(self.at(ms), &view, index).unwrap()
        }
    }

    #[test]
    fn the_first_packet_connects_and_silence_disconnects_until_the_next() {
        let mut f = Fixture::new();
        assert_eq!(f.stream.poll_timeout(), None);
        assert_eq!(f.packet(0, 10, 0), Some(StreamEvent::Connected));
        assert_eq!(f.packet(20, 11, 960), None);
        assert_eq!(f.stream.poll_timeout().unwrap().0, f.at(5_020));
        assert_eq!(f.stream.handle_timeout(f.at(5_019)), None);
        let timed_out = StreamEvent::Disconnected(DisconnectReason::TimedOut);
        assert_eq!(f.stream.handle_timeout(f.at(5_020)), Some(timed_out));
        assert_eq!((f.stream.handle_timeout(f.at(9_000)), f.stream.poll_timeout()), (None, None));
        assert_eq!(f.packet(9_001, 12, 0), Some(StreamEvent::Connected));
    }

    #[test]
    fn a_goodbye_stands_unless_newer_packets_follow() {
        let mut f = Fixture::new();
        f.stream.on_bye(f.at(0));
        assert_eq!(f.stream.poll_timeout(), None, "a goodbye to nobody");
        f.packet(0, 10, 0);
        f.stream.on_bye(f.at(100));
        assert_eq!(f.packet(200, 11, 960), None);
        assert_eq!(f.stream.handle_timeout(f.at(601)), None, "revoked");
        f.stream.on_bye(f.at(700));
        assert_eq!(f.packet(750, 9, 0), None, "a straggler revokes nothing");
        f.stream.on_bye(f.at(800));
        let bye = StreamEvent::Disconnected(DisconnectReason::Bye);
        assert_eq!(f.stream.handle_timeout(f.at(1_200)), Some(bye));
        assert_eq!(f.packet(1_300, 8, 0), None, "nor does it connect");
        assert_eq!(f.packet(1_400, 12, 0), Some(StreamEvent::Connected));
    }

    #[test]
    fn losses_are_reported_since_the_last_report_and_in_all() {
        let mut f = Fixture::new();
        assert_eq!(f.stream.report(f.at(0)), None);
        for index in [65_530, 65_531, 65_535, 65_536] {
            f.packet(0, index, 0);
        }
        let info = SenderInfo {
            ssrc: SSRC,
            ntp: 0x1111_2222_3333_4444,
            rtp_timestamp: 0,
            packets: 0,
            octets: 0,
        };
        f.stream.on_sender_report(f.at(0), info);
        let first = f.stream.report(f.at(500)).unwrap();
        assert_eq!(
            first,
            ReportBlock {
                ssrc: SSRC,
                fraction_lost: (3 * 256 / 7) as u8,
                cumulative_lost: 3,
                highest_sequence: 0x1_0000,
                jitter: 0,
                last_sender_report: 0x2222_3333,
                delay_since_last: 32_768,
            }
        );
        assert!(!f.stream.has_news());
        f.packet(0, 65_537, 0);
        f.packet(0, 65_532, 0);
        assert!(f.stream.has_news());
        let second = f.stream.report(f.at(500)).unwrap();
        assert_eq!((second.fraction_lost, second.cumulative_lost), (0, 2));
    }

    #[test]
    fn jitter_is_none_on_time_and_follows_rfc_3550_when_late() {
        let mut f = Fixture::new();
        for n in 0..50 {
            f.packet(20 * n, n, 960 * n as u32);
        }
        assert_eq!(f.stream.stats().jitter, 0);
        // 10 ms late: 480 units of difference, a sixteenth of which is 30.
        f.packet(1_010, 50, 960 * 50);
        assert_eq!(f.stream.stats().jitter, 30);
    }

    #[test]
    fn an_undescribed_payload_type_changes_nothing() {
        let mut f = Fixture::new();
        let bytes = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5];
        let view = RtpView::parse(&bytes).unwrap();
        let got = f.stream.on_packet(f.at(0), &view, 1);
        assert_eq!(got, Err(UnknownPayloadType(PayloadType(96))));
        assert_eq!(f.stream.stats(), ReceiveStreamStats::default());
    }

    #[test]
    fn the_legal_transitions_are_these() {
        let start = Instant::now();
        let later = start + Duration::from_secs(10);
        let states = [
            State::AwaitingFirst,
            State::AwaitingNext { since: start },
            State::AwaitingRevocation { bye_at: start },
            State::AwaitingReturn,
        ];
        let inputs = [
            ("newer", Input::Rtp { newer: true }),
            ("older", Input::Rtp { newer: false }),
            ("bye", Input::Bye),
            ("time", Input::Time),
        ];
        let name = |state: State| match state {
            State::AwaitingFirst => "first",
            State::AwaitingNext { .. } => "next",
            State::AwaitingRevocation { .. } => "revocation",
            State::AwaitingReturn => "return",
        };
        let mut table = Vec::new();
        for state in states {
            for (input_name, input) in inputs {
                let mut stream = Fixture::new().stream;
                stream.state = state;
                let event = stream.advance(later, input);
                if event.is_some() || stream.state != state {
                    let event = event.map_or("-".to_owned(), |event| format!("{event:?}"));
                    let (from, to) = (name(state), name(stream.state));
                    table.push(format!("{from} + {input_name} = {to}: {event}"));
                }
            }
        }
        assert_eq!(
            table,
            [
                "first + newer = next: Connected",
                "first + older = next: Connected",
                "next + newer = next: -",
                "next + older = next: -",
                "next + bye = revocation: -",
                "next + time = return: Disconnected(TimedOut)",
                "revocation + newer = next: -",
                "revocation + time = return: Disconnected(Bye)",
                "return + newer = next: Connected",
            ]
        );
    }
}
