//! The statistics of a connection.

use ortc_rtp::{RtpCommand, SnapshotReply};
use tokio::sync::oneshot;

use super::{Command, RTCConnection};
use crate::media::lock;
use crate::stats::{RTCStatsReport, Sources};

impl RTCConnection {
    /// What the connection has done and how well, in the names of webrtc-stats (W3C): an addition
    /// to the drafts.
    ///
    /// It costs one command to the media thread and one answer, and may be asked for every second
    /// on a thousand connections. Once the connection is closed, and where the media plane is
    /// another one than the packet forwarder, only what the control plane knows is in it: the
    /// transport, candidates and certificates.
    ///
    /// Ids stay the same from report to report. Counters count since the connection, or the
    /// track, was made.
    #[doc(alias = "getStats")]
    pub async fn stats(&self) -> RTCStatsReport {
        let (reply, snapshot) = oneshot::channel();
        // Nobody waits any more if it cannot be sent.
        let reply = SnapshotReply::new(move |snapshot| drop(reply.send(snapshot)));
        // Where it cannot be asked for, the reply is dropped and the wait is over.
        let _ = self.inner.send(Command::Rtp(RtpCommand::TakeSnapshot(reply)));
        let media = snapshot.await.ok();
        let shared = &self.inner.shared;
        let sources = {
            let state = lock(&shared.state);
            Sources {
                facts: state.transport.clone(),
                checks: shared.checks.read(),
                username_frag: shared.side(&state).ice.username_frag,
                local_certificate: shared.certificate.der().to_vec(),
                found: state.found.clone(),
                sending: state.sending.clone(),
                receiving: state.receiving.clone(),
                media,
            }
        };
        // Not within the lock: tracks have locks of their own, which come first.
        sources.report()
    }
}
