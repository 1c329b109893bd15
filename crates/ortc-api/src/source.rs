//! Local tracks: from an application's frames to the packets of every connection.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ortc_io::ring::{RingReceiver, RingSender, ring};
use ortc_rtp::codec::{DEFAULT_MAX_PAYLOAD, PacketizeError, Packetizer, Repeater, picture_size};
use ortc_rtp::{OutgoingPacket, RTCMediaAttributes, TrackKind};

use tokio::sync::Notify;

use crate::error::TooLarge;
use crate::format::{MediaFormat, MediaFrame};
use crate::media::lock;

/// Packets between a source and the media thread: 5 s of audio at 20 ms.
const AUDIO_SEND_RING: usize = 256;
/// The same for video: two key frames of a megabyte each.
const VIDEO_SEND_RING: usize = 2_048;
/// Where the frames of a local track are handed out to the connections that send it.
pub(crate) struct Source {
    pub(crate) format: MediaFormat,
    outlets: Mutex<Vec<Outlet>>,
    dimensions: Mutex<Option<(u32, u32)>>,
    dropped: AtomicU64,
    withheld: AtomicU64,
    /// Whether a peer wants a key frame, and whom to wake then.
    wants_key_frame: AtomicBool,
    key_frame_wanted: Notify,
}

/// One connection that sends a track.
pub(crate) struct Outlet {
    packets: RingSender<OutgoingPacket>,
    capacity: usize,
    packetizer: Packetizer,
    repeater: Option<Repeater>,
    bounds: Arc<Bounds>,
}

impl Outlet {
    /// Sends a frame whole, or not at all; whether the connection is still there.
    fn send(&mut self, frame: &MediaFrame, scratch: &mut Vec<OutgoingPacket>) -> Sent {
        scratch.clear();
        let cut =
            self.packetizer.packetize(&frame.data, frame.timestamp, DEFAULT_MAX_PAYLOAD, scratch);
        if let Err(error) = cut {
            return Sent::Refused(error);
        }
        if self.packets.is_closed() {
            return Sent::Closed;
        }
        if self.packets.len() + scratch.len() > self.capacity {
            return Sent::Full;
        }
        for mut packet in scratch.drain(..) {
            if let Some(repeater) = &mut self.repeater {
                packet = repeater.repeat(packet, DEFAULT_MAX_PAYLOAD);
            }
            // There is room: only this end pushes.
            if self.packets.push(packet).is_err() {
                return Sent::Closed;
            }
        }
        Sent::Whole
    }
}

/// What became of a frame at one outlet.
enum Sent {
    Whole,
    /// The connection has not kept up.
    Full,
    /// The connection does not send the track any more.
    Closed,
    /// It is no frame of the format.
    Refused(PacketizeError),
}

/// The `mediaAttributes` of a sending track.
#[derive(Default)]
pub(crate) struct Bounds(Mutex<Vec<RTCMediaAttributes>>);

impl Bounds {
    pub(crate) fn attributes(&self) -> Vec<RTCMediaAttributes> {
        lock(&self.0).clone()
    }

    pub(crate) fn set(
        &self,
        attributes: Vec<RTCMediaAttributes>,
        dimensions: Option<(u32, u32)>,
    ) -> Result<(), TooLarge> {
        admit(&attributes, dimensions)?;
        *lock(&self.0) = attributes;
        Ok(())
    }

    fn admit(&self, dimensions: Option<(u32, u32)>) -> Result<(), TooLarge> {
        admit(&lock(&self.0), dimensions)
    }
}

/// Any entry may match; no entry is no bound, and so is a source that has not said its size.
fn admit(
    attributes: &[RTCMediaAttributes],
    dimensions: Option<(u32, u32)>,
) -> Result<(), TooLarge> {
    let Some((width, height)) = dimensions else { return Ok(()) };
    let matches = |entry: &RTCMediaAttributes| {
        entry.video_max_width.is_none_or(|max| width <= max)
            && entry.video_max_height.is_none_or(|max| height <= max)
    };
    if attributes.is_empty() || attributes.iter().any(matches) {
        Ok(())
    } else {
        Err(TooLarge { width, height })
    }
}

impl Source {
    pub(crate) fn new(format: MediaFormat) -> Arc<Self> {
        Arc::new(Self {
            format,
            outlets: Mutex::new(Vec::new()),
            dimensions: Mutex::new(None),
            dropped: AtomicU64::new(0),
            withheld: AtomicU64::new(0),
            wants_key_frame: AtomicBool::new(false),
            key_frame_wanted: Notify::new(),
        })
    }

    /// Notes that a peer wants a key frame.
    pub(crate) fn want_key_frame(&self) {
        self.wants_key_frame.store(true, Ordering::Release);
        self.key_frame_wanted.notify_one();
    }

    pub(crate) fn dimensions(&self) -> Option<(u32, u32)> {
        *lock(&self.dimensions)
    }

    /// Makes an outlet towards one connection, whose packets may repeat those before; no frame goes
    /// there before [`install`](Self::install).
    pub(crate) fn outlet(
        &self,
        bounds: &Arc<Bounds>,
        repeater: Option<Repeater>,
    ) -> Option<(Outlet, RingReceiver<OutgoingPacket>)> {
        let capacity = match self.format.kind() {
            TrackKind::Video => VIDEO_SEND_RING,
            TrackKind::Audio | TrackKind::Dtmf => AUDIO_SEND_RING,
        };
        let (packets, receiver) = ring(capacity);
        let packetizer = Packetizer::new(self.format.codec())?;
        let bounds = Arc::clone(bounds);
        Some((Outlet { packets, capacity, packetizer, repeater, bounds }, receiver))
    }

    /// Lets frames go to an outlet, and no longer to the one that it takes the place of: the
    /// sending track is the same where the bounds are.
    pub(crate) fn install(&self, outlet: Outlet) {
        let mut outlets = lock(&self.outlets);
        outlets.retain(|other| {
            !Arc::ptr_eq(&other.bounds, &outlet.bounds) && !other.packets.is_closed()
        });
        outlets.push(outlet);
    }

    #[cfg(test)]
    pub(crate) fn open(&self, bounds: &Arc<Bounds>) -> RingReceiver<OutgoingPacket> {
        let (outlet, receiver) = self.outlet(bounds, None).unwrap();
        self.install(outlet);
        receiver
    }
}

/// Feeds a local track with encoded frames.
///
/// Frames go to every connection that sends the track at that moment, at once: pacing is the
/// source's matter, in real time. Dropping the sender ends the track.
#[derive(Debug)]
pub struct FrameSender {
    source: Arc<Source>,
    /// The packets of one frame; kept for its memory.
    scratch: Mutex<Vec<OutgoingPacket>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("format", &self.format).finish_non_exhaustive()
    }
}

impl FrameSender {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self { source, scratch: Mutex::default() }
    }

    /// Sends a frame. A connection that has no room for all of it (256 packets of audio, 2,048
    /// of video) loses the frame, and one whose media attributes do not admit pictures of this
    /// size is not sent it; both are counted.
    ///
    /// # Errors
    /// When it is no frame of the track's format, or too long; nothing is sent then.
    pub fn send(&self, frame: MediaFrame) -> Result<(), PacketizeError> {
        let dimensions = {
            let mut dimensions = lock(&self.source.dimensions);
            if let Some(told) = picture_size(self.source.format.codec(), &frame.data) {
                *dimensions = Some(told);
            }
            *dimensions
        };
        let mut scratch = lock(&self.scratch);
        let mut result = Ok(());
        lock(&self.source.outlets).retain_mut(|outlet| {
            if outlet.bounds.admit(dimensions).is_err() {
                self.source.withheld.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            match outlet.send(&frame, &mut scratch) {
                Sent::Whole => true,
                Sent::Full => {
                    self.source.dropped.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Sent::Closed => false,
                Sent::Refused(error) => {
                    result = Err(error);
                    true
                }
            }
        });
        result
    }

    /// Says how large the pictures are from now on, in pixels. Key frames say it themselves;
    /// this is to know before the first one, or before the encoder is set up.
    ///
    /// # Errors
    /// When a connection that sends this track has media attributes that do not admit them:
    /// it will be sent no frame until they do, counted.
    pub fn set_dimensions(&self, width: u32, height: u32) -> Result<(), TooLarge> {
        let dimensions = Some((width, height));
        *lock(&self.source.dimensions) = dimensions;
        lock(&self.source.outlets).iter().try_for_each(|outlet| outlet.bounds.admit(dimensions))
    }

    /// Whether a peer that is sent the track has asked for a key frame since this was asked the
    /// last time, by PLI (RFC 4585 §6.3.1) or FIR (RFC 5104 §4.3.1): it cannot decode the pictures
    /// before there is one. Each connection asks at most twice a second.
    pub fn take_key_frame_request(&self) -> bool {
        self.source.wants_key_frame.swap(false, Ordering::AcqRel)
    }

    /// Waits until a peer asks for a key frame; see
    /// [`take_key_frame_request`](Self::take_key_frame_request). Cancelling it loses nothing.
    pub async fn key_frame_requested(&self) {
        while !self.take_key_frame_request() {
            self.source.key_frame_wanted.notified().await;
        }
    }

    /// Frames that some connection was not sent because its media attributes forbid it.
    pub fn withheld(&self) -> u64 {
        self.source.withheld.load(Ordering::Relaxed)
    }

    /// Connections that send the track, as of the last frame.
    pub fn outlets(&self) -> usize {
        lock(&self.source.outlets).len()
    }

    /// Frames that some connection has lost because it did not keep up.
    pub fn dropped(&self) -> u64 {
        self.source.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        lock(&self.source.outlets).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::MediaStreamTrack;
    use bytes::Bytes;
    use ortc_io::ring::Popped;

    #[test]
    fn a_slow_outlet_loses_frames_and_a_gone_one_is_forgotten() {
        let (track, frames) = MediaStreamTrack::local(MediaFormat::Opus);
        let outlet = track.local_source().unwrap().open(&Arc::default());
        let frame = MediaFrame { data: Bytes::from_static(b"x"), timestamp: 0 };
        for _ in 0..AUDIO_SEND_RING + 3 {
            frames.send(frame.clone()).unwrap();
        }
        assert_eq!((frames.dropped(), frames.outlets()), (3, 1));
        drop(outlet);
        frames.send(frame).unwrap();
        assert_eq!(frames.outlets(), 0);
    }

    #[test]
    fn an_outlet_that_takes_the_place_of_another_gets_each_frame_alone() {
        let (track, frames) = MediaStreamTrack::local(MediaFormat::Opus);
        let source = track.local_source().unwrap();
        let bounds = Arc::default();
        let [mut first, mut second] = [(); 2].map(|()| source.open(&bounds));
        drop(source.open(&Arc::default()));
        frames.send(MediaFrame { data: Bytes::from_static(b"x"), timestamp: 0 }).unwrap();
        assert!(matches!(first.pop(), Popped::Closed));
        assert!(matches!(second.pop(), Popped::Item(_)));
        assert!(matches!(second.pop(), Popped::Empty));
        // What nobody takes from is not kept, also where no frame comes.
        let mut third = source.open(&Arc::default());
        drop(second);
        assert_eq!(frames.outlets(), 2);
        let _fourth = source.open(&Arc::default());
        assert_eq!(frames.outlets(), 2);
        assert!(matches!(third.pop(), Popped::Empty));
    }

    #[test]
    fn pictures_that_no_entry_admits_are_withheld() {
        let (track, frames) = MediaStreamTrack::local(MediaFormat::Vp8);
        let bounds = Arc::new(Bounds::default());
        let entry =
            |width, height| RTCMediaAttributes { video_max_width: width, video_max_height: height };
        bounds.set(vec![entry(Some(640), None), entry(None, Some(100))], None).unwrap();
        let mut outlet = track.local_source().unwrap().open(&bounds);
        let frame = MediaFrame { data: Bytes::from_static(b"x"), timestamp: 0 };
        for (width, height, admitted) in
            [(640, 480, true), (1280, 720, false), (1280, 100, true), (641, 101, false)]
        {
            assert_eq!(frames.set_dimensions(width, height).is_ok(), admitted);
            frames.send(frame.clone()).unwrap();
            assert_eq!(matches!(outlet.pop(), Popped::Item(_)), admitted, "{width}x{height}");
        }
        assert_eq!(frames.withheld(), 2);
        let refused = bounds.set(vec![entry(Some(320), None)], track.dimensions());
        assert_eq!(refused, Err(TooLarge { width: 641, height: 101 }));
    }
}
