//! How a received track is described, which its peer may change.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ortc_rtp::RTCTrackDescription;

use crate::media::lock;

/// The newest description of a received track, but only with the codecs that are supported.
///
/// Shared by all that read its packets: each notices by itself that it has changed.
pub(crate) struct Described {
    newest: Mutex<Arc<RTCTrackDescription>>,
    version: AtomicU32,
    /// Key frames that the application has read, and whether it has read anything.
    key_frames: AtomicU64,
    is_read: AtomicBool,
    /// Packets that have come too late for it, or that it was too slow for.
    discarded: AtomicU64,
}

impl Described {
    pub(crate) fn new(description: RTCTrackDescription) -> Arc<Self> {
        let newest = Mutex::new(Arc::new(description));
        Arc::new(Self {
            newest,
            version: AtomicU32::new(0),
            key_frames: AtomicU64::new(0),
            is_read: AtomicBool::new(false),
            discarded: AtomicU64::new(0),
        })
    }

    /// Counts a frame that the application has read, and takes how many packets have not become any.
    pub(crate) fn count_read(&self, is_key: bool, discarded: u64) {
        self.is_read.store(true, Ordering::Relaxed);
        self.discarded.store(discarded, Ordering::Relaxed);
        self.key_frames.fetch_add(u64::from(is_key), Ordering::Relaxed);
    }

    /// Key frames that it has read; `None` before it has read anything.
    pub(crate) fn key_frames_read(&self) -> Option<u64> {
        let is_read = self.is_read.load(Ordering::Relaxed);
        is_read.then(|| self.key_frames.load(Ordering::Relaxed))
    }

    /// Packets that have become no frame, though they came; `None` before it has read anything.
    pub(crate) fn discarded(&self) -> Option<u64> {
        let is_read = self.is_read.load(Ordering::Relaxed);
        is_read.then(|| self.discarded.load(Ordering::Relaxed))
    }

    pub(crate) fn newest(&self) -> Arc<RTCTrackDescription> {
        Arc::clone(&lock(&self.newest))
    }

    /// Changes it; returns what it was.
    pub(crate) fn replace(
        &self,
        description: Arc<RTCTrackDescription>,
    ) -> Arc<RTCTrackDescription> {
        let before = std::mem::replace(&mut *lock(&self.newest), description);
        self.version.fetch_add(1, Ordering::Release);
        before
    }

    /// The description, where it is another than the one that `seen` counts; it does now. What
    /// has been described first is counted by 0.
    pub(crate) fn changed(&self, seen: &mut u32) -> Option<Arc<RTCTrackDescription>> {
        let version = self.version.load(Ordering::Acquire);
        (std::mem::replace(seen, version) != version).then(|| self.newest())
    }
}
