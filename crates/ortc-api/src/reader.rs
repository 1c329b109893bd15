//! Received tracks: from packets to an application's frames.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ortc_io::ring::{Popped, RingReceiver};
use ortc_rtp::codec::{EncodedFrame, FrameAssembler, FrameEvent, JitterConfig};
use ortc_rtp::{ReceivedPacket, TrackKind};

use crate::described::Described;
use crate::format::ReceivedFrame;

/// Packets between the media thread and an application: 10 s of audio at 20 ms.
const AUDIO_RECEIVE_RING: usize = 512;
/// The same for video: a second of 20 Mbit/s.
const VIDEO_RECEIVE_RING: usize = 2_048;

/// Room for what is received of a kind of track.
pub(crate) const fn receive_ring(kind: TrackKind) -> usize {
    match kind {
        TrackKind::Video => VIDEO_RECEIVE_RING,
        TrackKind::Audio | TrackKind::Dtmf => AUDIO_RECEIVE_RING,
    }
}

/// Reads the frames of a received track.
///
/// Packets that were overtaken are put back in order, and those that were lost are waited for where
/// they are sent again: how long, it learns from how late packets come, up to a cap. That is counted
/// by when they came, not by when they are read: whoever looks away for a while loses nothing by it
/// that is in the ring, a second of video or ten of sound. By default a frame is handed out as soon
/// as it is whole and its turn; whoever plays frames as they come has them
/// [paced](JitterConfig::live) by [`set_jitter`](Self::set_jitter).
pub struct FrameReceiver {
    packets: RingReceiver<ReceivedPacket>,
    described: Arc<Described>,
    described_as: u32,
    assembler: FrameAssembler,
    /// The newest timestamp, as received and unwrapped.
    unwrapped: Option<(u32, u64)>,
    /// When the newest packet that was taken came.
    newest: Option<Instant>,
    /// Packets that were given up before the last frame.
    lost_before: u64,
    packets_seen: u64,
    damages: u64,
    ended: bool,
}

/// The packets of a received track, as its reader has seen them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketCounts {
    /// Packets that came, whatever became of them.
    pub packets: u64,
    /// Packets that were missing when their turn had come, and were not waited for any longer.
    pub lost: u64,
    /// Packets of no use: they came after their turn, or twice.
    pub late: u64,
}

/// Later than anything that a [`FrameAssembler`] waits for.
const AT_THE_END: Duration = Duration::from_secs(3600);

/// Waits for something that arrives, no longer than until the deadline.
pub(crate) async fn until(deadline: Option<Instant>, arrived: impl Future<Output = ()>) {
    match deadline {
        None => arrived.await,
        Some(at) => tokio::select! {
            biased;
            () = arrived => {}
            () = tokio::time::sleep_until(at.into()) => {}
        },
    }
}

impl FrameReceiver {
    pub(crate) fn new(packets: RingReceiver<ReceivedPacket>, described: &Arc<Described>) -> Self {
        Self {
            packets,
            described: Arc::clone(described),
            described_as: 0,
            assembler: FrameAssembler::for_track(&described.newest()),
            unwrapped: None,
            newest: None,
            lost_before: 0,
            packets_seen: 0,
            damages: 0,
            ended: false,
        }
    }

    /// Has packets wait as `config` says from now on: for a player
    /// [`JitterConfig::live`], for a recorder [`JitterConfig::recording`], which is the default.
    pub fn set_jitter(&mut self, config: JitterConfig) {
        self.assembler.set_jitter(config);
    }

    /// How long packets wait at present: all of them if they are paced, else those behind one that
    /// is missing.
    pub fn delay(&self) -> Duration {
        self.assembler.delay()
    }

    /// Waits for the next whole frame, in order of sending; `None` when the track is gone.
    ///
    /// Needs a tokio runtime with time enabled. Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<ReceivedFrame> {
        loop {
            match self.ready(ortc_io::now()) {
                Poll::Ready(frame) => return frame,
                Poll::Pending => {}
            }
            let deadline = self.deadline();
            let arrived = poll_fn(|context| self.poll_packets(context));
            until(deadline, arrived).await;
        }
    }

    /// Up to when it is known what has come, at `now`: whoever has looked away for long finds packets
    /// that came before anything that is missing was to be given up, and it may be among them. Those
    /// who read all the time have taken everything, and it is `now`.
    pub(crate) fn known_until(&self, now: Instant) -> Instant {
        let newest = self.newest.filter(|_| !self.ended && !self.packets.is_empty());
        newest.map_or(now, |newest| newest.min(now))
    }

    /// The next frame as of `now`, of the packets that have been taken; `None` is the end.
    pub(crate) fn ready(&mut self, now: Instant) -> Poll<Option<ReceivedFrame>> {
        let now = self.known_until(now);
        loop {
            match self.assembler.poll(if self.ended { now + AT_THE_END } else { now }) {
                Some(FrameEvent::Frame(frame)) => return Poll::Ready(Some(self.finish(frame))),
                Some(FrameEvent::Damaged(_)) => self.damages += 1,
                None if self.ended => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
    }

    /// Takes no more packets: what has come is handed out without waiting for what is missing, and
    /// then comes the end.
    pub fn close(&mut self) {
        while let Popped::Item(packet) = self.packets.pop() {
            self.take(packet);
        }
        self.ended = true;
    }

    fn take(&mut self, packet: ReceivedPacket) {
        self.packets_seen += 1;
        self.newest = self.newest.max(Some(packet.received_at));
        if let Some(description) = self.described.changed(&mut self.described_as) {
            self.assembler.set_codecs(&description);
        }
        self.assembler.push(packet);
    }

    /// When there may be a frame although no packet comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.assembler.poll_timeout()
    }

    /// Takes a packet, or the end of them.
    pub(crate) fn poll_packets(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        let Poll::Ready(packet) = self.packets.poll_recv(context) else { return Poll::Pending };
        match packet {
            Some(packet) => self.take(packet),
            None => self.ended = true,
        }
        Poll::Ready(())
    }

    /// How often something was missing: packets, or parts of a frame.
    pub fn damages(&self) -> u64 {
        self.damages
    }

    /// The packets that came and that did not, as far as they were read.
    pub fn packet_counts(&self) -> PacketCounts {
        let jitter = self.assembler.counts().jitter;
        PacketCounts {
            packets: self.packets_seen,
            lost: jitter.given_up,
            late: jitter.late + jitter.duplicates + jitter.unread,
        }
    }

    /// Whether a key frame has to come before video can be decoded.
    pub fn needs_key_frame(&self) -> bool {
        self.assembler.needs_key_frame()
    }

    fn finish(&mut self, frame: EncodedFrame) -> ReceivedFrame {
        let jitter = self.assembler.counts().jitter;
        let lost = jitter.given_up;
        let lost_before = lost - std::mem::replace(&mut self.lost_before, lost);
        self.described.count_read(frame.key, jitter.late + jitter.unread);
        ReceivedFrame {
            timestamp: self.unwrap(frame.timestamp),
            data: frame.data,
            sequence: frame.sequence,
            payload_id: frame.payload_type.0,
            key: frame.key,
            intact: frame.intact,
            received_at: frame.received_at,
            // Whoever made a frame of the packets knew the codec.
            clock_rate: self.assembler.clock_rate(frame.payload_type).unwrap_or(1),
            capture_time: frame.capture_time,
            lost_before,
        }
    }

    /// Unwraps an RTP timestamp: at most half its range away from the newest one.
    fn unwrap(&mut self, timestamp: u32) -> u64 {
        // Starts one range up, so that a reordered first packet does not go below zero.
        let (newest, at) =
            *self.unwrapped.get_or_insert((timestamp, (1 << 32) + u64::from(timestamp)));
        let distance = timestamp.wrapping_sub(newest) as i32;
        let unwrapped = at.saturating_add_signed(i64::from(distance));
        if distance > 0 {
            self.unwrapped = Some((timestamp, unwrapped));
        }
        unwrapped
    }
}

impl fmt::Debug for FrameReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReceiver")
            .field("packets", &self.packet_counts())
            .field("damages", &self.damages)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bytes::Bytes;
    use ortc_io::ConnectionId;
    use ortc_io::ring::ring;
    use ortc_rtp::{CodecName, PayloadType, RTCTrackDescription, Ssrc, TrackSource};
    use std::sync::Weak;

    use crate::media::MediaStreamTrack;

    /// A received track of Opus whose connection is gone.
    pub(crate) fn received_opus(ssrc: u32) -> MediaStreamTrack {
        let described = Described::new(opus(ssrc));
        let frames = FrameReceiver::new(ring(1).1, &described);
        let connection = ConnectionId { slot: 0, generation: 0 };
        let source = TrackSource { connection, ssrc: Ssrc(ssrc) };
        MediaStreamTrack::remote(described, source, frames, Weak::new())
    }

    fn opus_reader(packets: RingReceiver<ReceivedPacket>, ssrc: u32) -> FrameReceiver {
        FrameReceiver::new(packets, &Described::new(opus(ssrc)))
    }

    pub(crate) fn opus(ssrc: u32) -> RTCTrackDescription {
        RTCTrackDescription {
            kind: TrackKind::Audio,
            ssrc: ssrc.to_string(),
            msid: vec!["m".into()],
            codecs: vec![CodecName::Opus.default_codec()],
            media_attributes: None,
            rtp_ext_headers: None,
            header_extensions: Vec::new(),
            rtx_ssrc: None,
            encodings: Vec::new(),
        }
    }

    /// A packet of 20 ms that has come now.
    pub(crate) fn packet(sequence: u8) -> ReceivedPacket {
        ReceivedPacket {
            payload: Bytes::copy_from_slice(&[0x78, sequence]),
            payload_type: PayloadType(111),
            sequence: u64::from(sequence),
            timestamp: u32::from(sequence) * 960,
            marker: false,
            received_at: ortc_io::now(),
            capture_time: None,
        }
    }

    async fn pass(ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    #[test]
    fn timestamps_are_unwrapped_across_the_range_and_out_of_order() {
        let mut frames = opus_reader(ring(1).1, 1);
        let base = (1u64 << 32) + 0xffff_ff00;
        assert_eq!(frames.unwrap(0xffff_ff00), base);
        assert_eq!(frames.unwrap(0x0000_0100), base + 0x200);
        assert_eq!(frames.unwrap(0xffff_ff80), base + 0x80);
        assert_eq!(frames.unwrap(0x0000_0200), base + 0x300);
    }
    #[tokio::test(start_paused = true)]
    async fn frames_come_in_order_and_packets_are_counted() {
        let (sender, packets) = ring(16);
        let mut frames = opus_reader(packets, 1);
        // 1 and 2 have changed places, 4 is lost, 5 comes twice, 0 once more.
        for sequence in [0, 2, 1, 3, 5, 5, 6, 0] {
            assert!(sender.push(packet(sequence)).is_ok());
        }
        let mut marks = Vec::new();
        for _ in 0..6 {
            let frame = frames.recv().await.unwrap();
            assert_eq!(frame.clock_rate, 48_000);
            marks.push((frame.data[1], frame.lost_before));
        }
        assert_eq!(marks, [(0, 0), (1, 0), (2, 0), (3, 0), (5, 1), (6, 0)]);
        let counts = PacketCounts { packets: 8, lost: 1, late: 2 };
        assert_eq!((frames.packet_counts(), frames.damages()), (counts, 1));
        drop(sender);
        assert_eq!(frames.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_while_nobody_read_is_taken_before_anything_is_given_up() {
        let nack = || Some(vec!["nack".to_owned()]);
        for (feedback, config, late) in [
            (None, JitterConfig::recording(), 30),
            (nack(), JitterConfig::recording(), 850),
            (nack(), JitterConfig::live(), 850),
        ] {
            let (sender, packets) = ring(64);
            let mut description = opus(1);
            description.codecs[0].rtcp_feedback = feedback;
            let mut frames = FrameReceiver::new(packets, &Described::new(description));
            frames.set_jitter(config);
            sender.push(packet(0)).unwrap();
            assert_eq!(frames.recv().await.unwrap().data[1], 0);
            // Twice: 1 is lost, and comes while nobody reads; so is 4, which never does.
            for first in [1, 11] {
                pass(20).await;
                for (pause, sequence) in [(20, 1), (20, 2), (40, 4), (late, 0)] {
                    pass(pause).await;
                    sender.push(packet(first + sequence)).unwrap();
                }
                pass(2_000).await;
                for sequence in first + 5..first + 10 {
                    sender.push(packet(sequence)).unwrap();
                }
                pass(2_000).await;
                let mut got = Vec::new();
                let hour = Duration::from_secs(3600);
                while got.len() < 9
                    && let Ok(Some(frame)) = tokio::time::timeout(hour, frames.recv()).await
                {
                    got.push((frame.data[1] - first, frame.lost_before));
                }
                let lost = [0, 1, 2, 4, 5, 6, 7, 8, 9].map(|n| (n, u64::from(n == 4)));
                assert_eq!(got, lost, "{config:?}");
            }
            assert_eq!(frames.packet_counts(), PacketCounts { packets: 19, lost: 2, late: 0 });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_all_the_time_waits_for_no_packet_but_those_it_waits_for() {
        let (sender, packets) = ring(64);
        let mut frames = opus_reader(packets, 1);
        frames.set_jitter(JitterConfig::live());
        let start = ortc_io::now();
        let sending = tokio::spawn(async move {
            for sequence in 0..100 {
                sender.push(packet(sequence)).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        for sequence in 0..100_u8 {
            let frame = frames.recv().await.unwrap();
            // It is due at the moment in which the next one comes.
            let took = (ortc_io::now() - start).as_millis() as u64;
            assert_eq!((frame.data[1], took), (sequence, 20 * u64::from(sequence) + 20));
        }
        sending.await.unwrap();
    }
}
