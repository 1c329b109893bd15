use std::collections::VecDeque;
use std::time::Instant;

use crate::TelephoneEvent;
use crate::event::EVENT_LEN;
use crate::redundancy::MAX_OFFSET;

/// Events before the one that is sent that a packet repeats, at most: RFC 4733 §2.6.1 speaks
/// of five.
pub(crate) const MAX_REDUNDANCY: usize = 5;

/// Five headers and blocks, the primary's header and the primary.
const CAPACITY: usize = MAX_REDUNDANCY * (4 + EVENT_LEN) + 1 + EVENT_LEN;

/// A telephone-event packet that is due: everything but what the stream's owner puts on it.
///
/// The owner adds SSRC and sequence number, which go on from the audio's, and the payload type
/// of `telephone-event`, or, if it is [`redundant`](Self::is_redundant), that of `red`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPacket {
    /// The RTP timestamp: that of the event, or of this segment of it.
    pub timestamp: u32,
    /// How much of `timestamp` is segments that are over; 0 for events that fit into the
    /// duration field. An owner that has its own idea of the event's timestamp adds this to it.
    pub timestamp_offset: u32,
    /// When the event began; the same for all of its packets.
    pub begin: Instant,
    /// The marker bit: on the first packet of the event.
    pub marker: bool,
    /// What the payload reports.
    pub report: TelephoneEvent,
    len: u8,
    redundant: bool,
    payload: [u8; CAPACITY],
}

impl EventPacket {
    /// The payload, of 4 bytes, or up to 45 if it is redundant.
    pub fn payload(&self) -> &[u8] {
        &self.payload[..usize::from(self.len)]
    }

    /// The payload is one of RFC 2198, and goes out with the payload type of `red`.
    pub fn is_redundant(&self) -> bool {
        self.redundant
    }
}

/// What packets repeat of events that are over, as RFC 2198 has it.
#[derive(Debug)]
pub(crate) struct Redundancy {
    payload_type: u8,
    events: usize,
    /// Timestamp and last report of events that are over, the newest last.
    past: VecDeque<(u32, TelephoneEvent)>,
}

impl Redundancy {
    pub(crate) fn new(payload_type: u8, events: u8) -> Self {
        let events = usize::from(events).min(MAX_REDUNDANCY);
        Self { payload_type: payload_type & 0x7f, events, past: VecDeque::new() }
    }

    pub(crate) fn remember(&mut self, timestamp: u32, report: TelephoneEvent) {
        self.past.push_back((timestamp, report));
        if self.past.len() > self.events {
            self.past.pop_front();
        }
    }

    /// Writes the payload of a packet; an event that is over reports no others that are newer.
    pub(crate) fn packet(
        this: Option<&Self>,
        timestamp: u32,
        timestamp_offset: u32,
        begin: Instant,
        marker: bool,
        report: TelephoneEvent,
    ) -> EventPacket {
        let mut payload = [0; CAPACITY];
        let mut len = 0;
        let mut write = |bytes: &[u8]| {
            payload[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        if let Some(this) = this {
            let past = this.past.iter().filter_map(|(then, report)| {
                let back = timestamp.wrapping_sub(*then);
                // What the 14 bits cannot say is left out: 0.3 s at 48 kHz, 2 s at 8 kHz.
                (1..=MAX_OFFSET).contains(&back).then_some((back, report))
            });
            for (back, _) in past.clone() {
                let head =
                    1 << 31 | u32::from(this.payload_type) << 24 | back << 10 | EVENT_LEN as u32;
                write(&head.to_be_bytes());
            }
            write(&[this.payload_type]);
            for (_, report) in past {
                write(&report.encode());
            }
        }
        write(&report.encode());
        EventPacket {
            timestamp,
            timestamp_offset,
            begin,
            marker,
            report,
            len: len as u8,
            redundant: this.is_some(),
            payload,
        }
    }
}
