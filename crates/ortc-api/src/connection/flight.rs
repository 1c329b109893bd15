//! The last seconds of a connection.

use ortc_io::{FlightRecording, RecordingReply};
use ortc_rtp::RtpCommand;
use tokio::sync::oneshot;

use super::{Command, RTCConnection};

impl RTCConnection {
    /// The last seconds of the connection as they were on the wire, for a file that Wireshark
    /// opens: an addition to the drafts. `None` unless the engine
    /// [records](crate::EngineConfig::with_flight_recorder), and once the connection is closed.
    ///
    /// STUN, DTLS and SRTCP are whole in it, of SRTP the headers, and what happened as comments.
    /// There are no secrets in it; addresses and username fragments are.
    pub async fn flight_recording(&self) -> Option<FlightRecording> {
        let (reply, recording) = oneshot::channel();
        // Nobody waits any more if it cannot be sent.
        let reply = RecordingReply::new(move |recording| drop(reply.send(recording)));
        // Where it cannot be asked for, the reply is dropped and the wait is over.
        let _ = self.inner.send(Command::Rtp(RtpCommand::TakeRecording(reply)));
        recording.await.ok()
    }
}
