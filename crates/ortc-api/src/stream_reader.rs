//! The tracks of a received stream together, on one axis of time.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use ortc_rtp::codec::JitterConfig;
use ortc_rtp::{FrameTime, StreamAligner};

use crate::format::ReceivedFrame;
use crate::media::{MediaStream, MediaStreamTrack};
use crate::reader::{FrameReceiver, PacketCounts, until};

/// Tracks that have ended, and of which nobody has asked.
const MAX_ENDED: usize = 1_000;

/// Reads the frames of all tracks of a received stream, each with its place in the stream: sound and
/// pictures that were captured together have one [`position`](StreamFrame::position).
///
/// The first frames of a track wait until it is known when they were captured, 0.7 s at most; see
/// [`StreamAligner`].
///
/// ```no_run
/// # async fn show(stream: ortc_api::MediaStream) {
/// let mut reader = stream.reader();
/// while let Some(ortc_api::StreamFrame { track, frame, position, .. }) = reader.recv().await {
///     println!("{position:?} {:?}: {} bytes", track.kind(), frame.data.len());
/// }
/// # }
/// ```
#[derive(Debug, Default)]
pub struct StreamReader {
    jitter: JitterConfig,
    aligner: StreamAligner<ReceivedFrame>,
    tracks: Vec<ReadTrack>,
    ended: Vec<(MediaStreamTrack, PacketCounts)>,
}

#[derive(Debug)]
struct ReadTrack {
    track: MediaStreamTrack,
    key: u64,
    frames: FrameReceiver,
    /// Whether all its frames have been taken, though some may still wait to be handed out.
    has_ended: bool,
}

/// A frame of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamFrame {
    /// The track that it is of.
    pub track: MediaStreamTrack,
    /// The frame.
    pub frame: ReceivedFrame,
    /// Its time since the stream began. It grows with every frame of a track.
    pub position: Duration,
}

impl MediaStream {
    /// Reads the frames of all received tracks of this stream that nobody reads yet. A track that
    /// joins it later is [added](StreamReader::add).
    pub fn reader(&self) -> StreamReader {
        let mut reader = StreamReader::new();
        for track in self.tracks() {
            reader.add(&track);
        }
        reader
    }
}

impl StreamReader {
    /// A reader of no track yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this track as well, from its next frame on; whether that can be: it is received, and
    /// nobody else reads it.
    pub fn add(&mut self, track: &MediaStreamTrack) -> bool {
        let Some(mut frames) = track.take_frames() else { return false };
        frames.set_jitter(self.jitter);
        let key = self.aligner.add_track();
        self.tracks.push(ReadTrack { track: track.clone(), key, frames, has_ended: false });
        true
    }

    /// Has packets of all tracks wait as `config` says: see [`FrameReceiver::set_jitter`].
    pub fn set_jitter(&mut self, config: JitterConfig) {
        self.jitter = config;
        for track in &mut self.tracks {
            track.frames.set_jitter(config);
        }
    }

    /// Waits for the next frame of any track; `None` when all tracks are gone, or there is none.
    ///
    /// Needs a tokio runtime with time enabled. Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<StreamFrame> {
        loop {
            let now = ortc_io::now();
            self.gather(now);
            // As for each track: what came while nobody read may be what another track waits for.
            let read = self.tracks.iter().filter(|it| !it.has_ended);
            let known_until = read.map(|it| it.frames.known_until(now)).min();
            if let Some(aligned) = self.aligner.poll(known_until.unwrap_or(now)) {
                let found = self.tracks.iter().find(|it| it.key == aligned.track);
                let Some(track) = found.map(|it| it.track.clone()) else { continue };
                return Some(StreamFrame {
                    track,
                    frame: aligned.item,
                    position: aligned.position,
                });
            }
            self.forget();
            if self.tracks.is_empty() {
                return None;
            }
            let deadlines = self.tracks.iter().filter_map(|it| it.frames.deadline());
            let deadline = deadlines.chain(self.aligner.poll_timeout()).min();
            let tracks = &mut self.tracks;
            // All are polled, so that each wakes this task.
            let arrived = poll_fn(|context| {
                let mut is_any = false;
                for track in tracks.iter_mut().filter(|it| !it.has_ended) {
                    is_any |= track.frames.poll_packets(context).is_ready();
                }
                if is_any { Poll::Ready(()) } else { Poll::Pending }
            });
            until(deadline, arrived).await;
        }
    }

    /// Takes no more packets of any track: what has come is handed out without waiting, and then
    /// comes the end.
    pub fn close(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.frames.close());
    }

    /// Gives the aligner the frames that are there.
    fn gather(&mut self, now: std::time::Instant) {
        for track in self.tracks.iter_mut().filter(|it| !it.has_ended) {
            while let Poll::Ready(frame) = track.frames.ready(now) {
                let Some(frame) = frame else {
                    track.has_ended = true;
                    self.aligner.end_track(track.key);
                    break;
                };
                let time = FrameTime {
                    timestamp: frame.timestamp,
                    clock_rate: frame.clock_rate,
                    capture_time: frame.capture_time,
                    received_at: frame.received_at,
                };
                self.aligner.push(track.key, time, frame);
            }
        }
    }

    /// Forgets tracks that have ended, now that all of their frames have been handed out.
    fn forget(&mut self) {
        let aligner = &self.aligner;
        let is_over = |track: &mut ReadTrack| track.has_ended && !aligner.is_waiting(track.key);
        for track in self.tracks.extract_if(.., is_over) {
            let counts = track.frames.packet_counts();
            if self.ended.len() < MAX_ENDED {
                self.ended.push((track.track, counts));
            }
        }
    }

    /// The tracks that have ended since this was called last, all of whose frames have been handed
    /// out, and what has come of them; at most 1,000.
    pub fn take_ended(&mut self) -> Vec<(MediaStreamTrack, PacketCounts)> {
        std::mem::take(&mut self.ended)
    }

    /// The tracks that are read, and what has come of them.
    pub fn tracks(&self) -> impl Iterator<Item = (&MediaStreamTrack, PacketCounts)> {
        self.tracks.iter().map(|it| (&it.track, it.frames.packet_counts()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use ortc_io::ConnectionId;
    use ortc_io::ring::{RingSender, ring};
    use ortc_rtp::{NtpTime, ReceivedPacket, Ssrc, TrackSource};

    use super::*;
    use crate::described::Described;
    use crate::reader::{self, tests::opus};

    /// A received track of Opus, and where its packets come from.
    fn received(ssrc: u32) -> (MediaStreamTrack, RingSender<ReceivedPacket>) {
        let (packets, ring) = ring(512);
        let described = Described::new(opus(ssrc));
        let frames = FrameReceiver::new(ring, &described);
        let connection = ConnectionId { slot: 0, generation: 0 };
        let source = TrackSource { connection, ssrc: Ssrc(ssrc) };
        (MediaStreamTrack::remote(described, source, frames, Weak::new()), packets)
    }

    /// A packet of 20 ms that has come now, and when it was captured, if that is told.
    fn packet(sequence: u8, captured: Option<NtpTime>) -> ReceivedPacket {
        ReceivedPacket { capture_time: captured, ..reader::tests::packet(sequence) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_of_one_track_while_nobody_read_places_the_first_frames_of_another() {
        let (one, of_one) = received(1);
        let (other, of_other) = received(2);
        let mut reader = StreamReader::new();
        assert!(reader.add(&one) && reader.add(&other));
        // By when they come, the first track would be ahead. By when they were captured, it is
        // behind by a second: 0.6 s later that is told.
        let second = |n: u64| Some(NtpTime((100 + n) << 32));
        of_one.push(packet(0, None)).unwrap();
        of_other.push(packet(0, second(0))).unwrap();
        tokio::time::advance(Duration::from_millis(600)).await;
        of_one.push(packet(30, second(1))).unwrap();
        // And nobody reads for longer than frames wait for that.
        tokio::time::advance(Duration::from_secs(5)).await;
        let mut got = Vec::new();
        for _ in 0..3 {
            let StreamFrame { track, frame, position } = reader.recv().await.unwrap();
            got.push((track == one, frame.data[1], position.as_millis()));
        }
        assert_eq!(got, [(false, 0, 0), (true, 0, 400), (true, 30, 1_000)]);
    }
}
