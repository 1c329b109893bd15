//! Dumps of connections that have failed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ortc_io::{ConnectionId, FlightRecording, RecordingReply};

use crate::events::RTCDisconnectReason;

/// Files that one engine writes in all its life: whatever fails, a disk is not filled.
const MAX_DUMPS: usize = 100;

/// Where recordings of connections go that fail.
#[derive(Clone)]
pub(crate) struct FlightDumps(Arc<Dumps>);

struct Dumps {
    directory: PathBuf,
    written: AtomicUsize,
}

impl fmt::Debug for FlightDumps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FlightDumps").field(&self.0.directory).finish()
    }
}

impl FlightDumps {
    pub(crate) fn to(directory: PathBuf) -> Self {
        Self(Arc::new(Dumps { directory, written: AtomicUsize::new(0) }))
    }

    /// Who takes the recording of a connection that has failed, and writes it; `None` when as many
    /// have been written as may be.
    pub(crate) fn reply(
        &self,
        id: ConnectionId,
        reason: &RTCDisconnectReason,
    ) -> Option<RecordingReply> {
        let number = self.0.written.fetch_add(1, Ordering::Relaxed);
        if number >= MAX_DUMPS {
            self.0.written.store(MAX_DUMPS, Ordering::Relaxed);
            return None;
        }
        let ConnectionId { slot, generation } = id;
        let name = format!("ortc-{}-{number}-{slot}.{generation}.pcapng", std::process::id());
        let file = self.0.directory.join(name);
        let comment = format!("connection {slot}.{generation}: {reason}");
        Some(RecordingReply::new(move |recording| {
            // Not on the media thread, and what it waits for is a disk.
            let write = move || write(&file, &recording, &comment);
            if let Err(error) = std::thread::Builder::new().name("ortc-dump".into()).spawn(write) {
                tracing::warn!(%error, "a flight recording is not written");
            }
        }))
    }
}

fn write(file: &std::path::Path, recording: &FlightRecording, comment: &str) {
    match std::fs::write(file, recording.to_pcapng(comment)) {
        Ok(()) => tracing::info!(file = %file.display(), "a connection has failed: recorded"),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "a flight recording is not written");
        }
    }
}
