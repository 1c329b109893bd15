//! An application on the path of media that is forwarded: it listens in, and it puts packets in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ortc_io::ring::{PushError, RingReceiver, RingSender, ring};
use ortc_rtp::{InsertedPacket, PayloadType, ReceivedPacket, RtpCommand, Tap};

use crate::connection::Command;
use crate::error::{InsertError, TrackError};
use crate::media::MediaStreamTrack;
use crate::track::RTCTrack;

/// Longest payload that is inserted: what leaves room for headers and a tag in an Ethernet frame.
const MAX_PAYLOAD: usize = 1_400;

/// Copies of the packets of a received track, beside whoever reads or is sent it.
///
/// It is bounded: when it is not read in time, it loses the newest, counted, and nobody else
/// loses anything. Dropping it ends it.
#[derive(Debug)]
pub struct PacketTap {
    packets: RingReceiver<ReceivedPacket>,
    dropped: Arc<AtomicU64>,
}

impl PacketTap {
    /// Waits for the next packet, in the order in which they came; `None` when the track or its
    /// connection has ended.
    pub async fn recv(&mut self) -> Option<ReceivedPacket> {
        self.packets.recv().await
    }

    /// Packets that it has lost because it was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl MediaStreamTrack {
    /// Listens in on a received track, `capacity` packets at a time (at least one); `None` for a
    /// local one, and when its connection is closed or overloaded.
    ///
    /// A track takes 16 taps; one more ends at once.
    pub fn tap(&self, capacity: usize) -> Option<PacketTap> {
        let reception = self.reception()?;
        let (sender, packets) = ring(capacity.max(1));
        let dropped = Arc::<AtomicU64>::default();
        let tap = Tap { packets: sender, dropped: Arc::clone(&dropped) };
        let command = Command::Rtp(RtpCommand::AddTap(reception.source.ssrc, tap));
        reception.connection()?.send(command).ok()?;
        Some(PacketTap { packets, dropped })
    }
}

/// Puts packets among those of a forwarded track: an announcement, a tone, a mark.
///
/// They share its SSRC, are numbered with its packets and timed by when they come, so that the
/// peer sees one stream.
#[derive(Debug)]
pub struct PacketInserter {
    packets: RingSender<InsertedPacket>,
    track: RTCTrack,
}

impl PacketInserter {
    /// Sends a payload; `payload_id` is one of the track's [codecs](RTCTrack::codecs).
    ///
    /// # Errors
    /// When it is none of them, the payload is longer than 1,400 bytes, the packets before have
    /// not been sent yet, or the track is not sent any more.
    pub fn send(&self, payload: Bytes, payload_id: u8, marker: bool) -> Result<(), InsertError> {
        if !self.track.codecs().iter().any(|codec| codec.payload_id == payload_id) {
            return Err(InsertError::NoSuchCodec(payload_id));
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(InsertError::TooLong(payload.len()));
        }
        let payload_type = PayloadType(payload_id);
        self.packets.push(InsertedPacket { payload, payload_type, marker }).map_err(|error| {
            match error {
                PushError::Full(_) => InsertError::Full,
                PushError::Closed(_) => InsertError::Track(TrackError::Removed),
            }
        })
    }
}

impl RTCTrack {
    /// Makes the one inserter of a forwarded track, for `capacity` packets that wait (at least
    /// one); an earlier one ends.
    ///
    /// # Errors
    /// When the track is local, where its [`FrameSender`](crate::FrameSender) is for that; when
    /// it has been removed, or its connection closed.
    pub fn inserter(&self, capacity: usize) -> Result<PacketInserter, InsertError> {
        if self.source().reception().is_none() {
            return Err(InsertError::NotForwarded);
        }
        let (sender, packets) = ring(capacity.max(1));
        self.insert(packets)?;
        Ok(PacketInserter { packets: sender, track: self.clone() })
    }
}
