//! The last seconds of connections, noted as they go; see [`ortc_io::FlightRecorder`].

use std::time::{Duration, Instant};

use ortc_io::{ConnectionId, FlightDirection, FlightRecorder, Path, PathUpdate, RecordingReply};
use ortc_rtp::{DisconnectReason, RouteEvent};

use crate::plane::Plane;

/// 1970-01-01T00:00:00Z in seconds since 1900.
const UNIX_EPOCH: u64 = 2_208_988_800;

/// Notes a media datagram that is sent, where a connection has a recorder.
#[inline]
pub(crate) fn record_sent(
    recorder: &mut Option<Box<FlightRecorder>>,
    now: Instant,
    path: Path,
    datagram: &[u8],
) {
    if let Some(recorder) = recorder {
        recorder.datagram(now, FlightDirection::Out, path, datagram);
    }
}

impl Plane {
    /// Notes a datagram of a connection, if that is wanted at all.
    pub(crate) fn record(
        &mut self,
        now: Instant,
        id: ConnectionId,
        direction: FlightDirection,
        path: Path,
        datagram: &[u8],
    ) {
        if self.flight.is_some()
            && let Some(recorder) = self.links.get_mut(id).and_then(|link| link.recorder.as_mut())
        {
            recorder.datagram(now, direction, path, datagram);
        }
    }

    /// Notes what has happened to a connection.
    pub(crate) fn note(&mut self, now: Instant, id: ConnectionId, words: &str) {
        if self.flight.is_some()
            && let Some(recorder) = self.links.get_mut(id).and_then(|link| link.recorder.as_mut())
        {
            recorder.words(now, words);
        }
    }

    pub(crate) fn note_path(&mut self, now: Instant, id: ConnectionId, update: &PathUpdate) {
        if self.flight.is_none() {
            return;
        }
        let words = match update {
            PathUpdate::Authenticated(path) => format!("{} knows our credentials", path.remote),
            PathUpdate::Validated(path) => format!("{} has answered", path.remote),
            PathUpdate::Selected(path) => format!("sends to {} from now on", path.remote),
            PathUpdate::Lost(path) => format!("the path to {} is lost", path.remote),
            PathUpdate::SendingSuspended => "consent has expired: sends nothing".to_owned(),
        };
        self.note(now, id, &words);
    }

    /// Hands out the last seconds of a connection; the question is dropped where there are none.
    pub(crate) fn take_recording(&mut self, now: Instant, id: ConnectionId, reply: RecordingReply) {
        let unix_time = since_1970(self.clock.ntp(now));
        let recorder = self.links.get_mut(id).and_then(|link| link.recorder.as_ref());
        if let Some(recorder) = recorder {
            let paths = &self.paths;
            reply.send(recorder.recording(now, unix_time, |socket| paths.local(socket)));
        }
    }
}

/// An event in words.
pub(crate) fn words(event: &RouteEvent) -> String {
    match event {
        RouteEvent::ReceiverConnected(_, ssrc) => format!("track {} is connected", ssrc.0),
        RouteEvent::ReceiverDisconnected(_, ssrc, DisconnectReason::Bye) => {
            format!("track {} has said goodbye", ssrc.0)
        }
        RouteEvent::ReceiverDisconnected(_, ssrc, DisconnectReason::TimedOut) => {
            format!("nothing more comes of track {}", ssrc.0)
        }
        RouteEvent::UnknownTrack(_, track) => {
            format!("nobody has described track {}", track.ssrc.0)
        }
        RouteEvent::KeyFrameRequested(_, ssrc) => {
            format!("a key frame of track {} is wanted", ssrc.0)
        }
        RouteEvent::BandwidthChanged(_, bits) => format!("{bits} bit/s may be sent"),
        RouteEvent::Closed(_) => "closed".to_owned(),
    }
}

/// NTP time, 32.32 bits, on the clock that begins in 1970.
fn since_1970(ntp: u64) -> Duration {
    let nanos = ((ntp & 0xffff_ffff) * 1_000_000_000) >> 32;
    Duration::from_secs((ntp >> 32).saturating_sub(UNIX_EPOCH)) + Duration::from_nanos(nanos)
}
