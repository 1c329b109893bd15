use thiserror::Error;

/// Bytes of one report of an event.
pub(crate) const EVENT_LEN: usize = 4;

/// Reports that are read from one payload, at most: a packet of 16 would tell of more than a
/// second of dialling, and nobody sends that.
const MAX_EVENTS: usize = 16;

/// One report of a telephone event, as it stands in a packet (RFC 4733 §2.3).
///
/// ```
/// use ortc_dtmf::TelephoneEvent;
///
/// let report = TelephoneEvent { event: 5, end: true, volume: 10, duration: 800 };
/// assert_eq!(report.encode(), [5, 0x8a, 3, 32]);
/// assert_eq!(TelephoneEvent::decode(&report.encode()), Ok(report));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// The event code: 0 to 15 are the digits, see [`Digit::from_event`](crate::Digit::from_event);
    /// the others have meanings of their own in IANA's registry.
    pub event: u8,
    /// The event is over.
    pub end: bool,
    /// The level of the tone: dBm0 without the sign, 0 to 63; what is above is sent as 63.
    pub volume: u8,
    /// How long it has lasted so far, from the packet's timestamp, in units of its clock.
    pub duration: u16,
}

/// Why a payload holds no telephone events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TelephoneEventError {
    /// It is not one or more reports of four bytes.
    #[error("a telephone-event payload of {0} bytes, not of a multiple of four")]
    Length(usize),
    /// It has more reports than anyone sends.
    #[error("a telephone-event payload of {0} events")]
    TooMany(usize),
}

impl TelephoneEvent {
    /// Writes it as a payload.
    pub fn encode(&self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.event, u8::from(self.end) << 7 | self.volume.min(63), high, low]
    }

    /// Reads the first report of a payload; the reserved bit is ignored (RFC 4733 §2.3.3).
    ///
    /// # Errors
    ///
    /// Fails when the payload is shorter than four bytes.
    pub fn decode(payload: &[u8]) -> Result<Self, TelephoneEventError> {
        let Some(&[event, flags, high, low]) = payload.first_chunk::<EVENT_LEN>() else {
            return Err(TelephoneEventError::Length(payload.len()));
        };
        Ok(Self {
            event,
            end: flags & 0x80 != 0,
            volume: flags & 0x3f,
            duration: u16::from_be_bytes([high, low]),
        })
    }

    /// Tells whether a payload of no known type is likely a report of a digit.
    ///
    /// Some peers send another payload type than they described. No packet of audio is four
    /// bytes long, has a digit in the first, a cleared reserved bit and a duration.
    pub fn is_likely_digit(payload: &[u8]) -> bool {
        payload.len() == EVENT_LEN
            && payload[0] < 16
            && payload[1] & 0x40 == 0
            && payload[2..] != [0, 0]
    }

    /// Reads all reports of a payload, each with its offset from the packet's timestamp.
    ///
    /// Several events in one packet follow each other without a pause, so each begins where
    /// the durations before it end (RFC 4733 §2.5.1.5).
    ///
    /// # Errors
    ///
    /// Fails when the length is not a multiple of four, or is none, or tells of more than 16
    /// events.
    pub fn decode_all(
        payload: &[u8],
    ) -> Result<impl Iterator<Item = (u32, Self)> + use<'_>, TelephoneEventError> {
        if payload.is_empty() || !payload.len().is_multiple_of(EVENT_LEN) {
            return Err(TelephoneEventError::Length(payload.len()));
        }
        let count = payload.len() / EVENT_LEN;
        if count > MAX_EVENTS {
            return Err(TelephoneEventError::TooMany(count));
        }
        let mut offset = 0;
        let reports = payload.chunks_exact(EVENT_LEN).filter_map(|part| Self::decode(part).ok());
        Ok(reports.enumerate().map(move |(at, report)| {
            let begin = offset;
            offset += u32::from(report.duration);
            // What is followed by another event is over, whatever its own bit says.
            let end = report.end || at + 1 < count;
            (begin, Self { end, ..report })
        }))
    }
}

/// Cuts a duration into the segments that the duration field can hold (RFC 4733 §2.5.1.3).
///
/// `units` are of the packet's clock. Yields for each segment its offset from the event's
/// timestamp, and its duration; all but the last are of 65,535 units.
pub fn segments(units: u64) -> impl Iterator<Item = (u64, u16)> {
    let full = u64::from(u16::MAX);
    let count = units.div_ceil(full).max(1);
    (0..count).map(move |at| (at * full, (units - at * full).min(full) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_comes_back_and_the_reserved_bit_is_ignored() {
        for event in [0, 15, 16, 255] {
            for (end, volume, duration) in [(false, 0, 0), (true, 63, 65_535), (false, 36, 1)] {
                let report = TelephoneEvent { event, end, volume, duration };
                assert_eq!(TelephoneEvent::decode(&report.encode()), Ok(report));
            }
        }
        let reserved = TelephoneEvent::decode(&[1, 0x40, 0, 0]);
        assert_eq!(reserved, Ok(TelephoneEvent { event: 1, end: false, volume: 0, duration: 0 }));
        let loud = TelephoneEvent { event: 1, end: false, volume: 255, duration: 0 };
        assert_eq!(loud.encode()[1], 63);
    }

    #[test]
    fn a_payload_of_another_length_is_refused() {
        for len in [0, 1, 3, 5, 7] {
            let error = TelephoneEvent::decode_all(&vec![0; len]).err();
            assert_eq!(error, Some(TelephoneEventError::Length(len)));
        }
        assert_eq!(TelephoneEvent::decode(&[0; 3]), Err(TelephoneEventError::Length(3)));
        let error = TelephoneEvent::decode_all(&[0; 68]).err();
        assert_eq!(error, Some(TelephoneEventError::TooMany(17)));
    }

    #[test]
    fn a_digit_of_an_undescribed_type_is_recognised_and_other_payloads_are_not() {
        assert!(TelephoneEvent::is_likely_digit(&[15, 0x8a, 0, 160]));
        let others: [&[u8]; 5] =
            [&[16, 10, 0, 160], &[5, 0x4a, 0, 160], &[5, 10, 0, 0], &[5, 10, 0], &[0; 160]];
        for payload in others {
            assert!(!TelephoneEvent::is_likely_digit(payload), "{payload:?}");
        }
    }

    #[test]
    fn events_in_one_packet_follow_each_other() {
        let first = TelephoneEvent { event: 1, end: false, volume: 9, duration: 800 };
        let second = TelephoneEvent { event: 2, end: false, volume: 9, duration: 160 };
        let payload = [first.encode(), second.encode()].concat();
        let read: Vec<_> = TelephoneEvent::decode_all(&payload).unwrap().collect();
        assert_eq!(read, [(0, TelephoneEvent { end: true, ..first }), (800, second)]);
    }

    #[test]
    fn a_long_event_is_cut_into_full_segments_and_a_rest() {
        let cut = |units| segments(units).collect::<Vec<_>>();
        assert_eq!(cut(0), [(0, 0)]);
        assert_eq!(cut(65_535), [(0, 65_535)]);
        assert_eq!(cut(65_536), [(0, 65_535), (65_535, 1)]);
        assert_eq!(cut(288_000).last(), Some(&(262_140, 25_860)));
    }
}
