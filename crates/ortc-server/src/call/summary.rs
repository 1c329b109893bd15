//! What a call did: for people, for programs, and for the exit status.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use ortc_api::{RTCIceCandidateDescription, TrackKind};
use serde::Serialize;

use super::keys::ReceivedKey;

/// A call that ends this much early has still lasted as long as it was told: the two sides
/// connect, and hang up, some hundred milliseconds apart.
pub(crate) const TOLERANCE: Duration = Duration::from_secs(1);

/// Most warnings that are kept; they come from the network.
const MAX_WARNINGS: usize = 20;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// After `--duration`.
    Duration,
    /// All files were played, and no duration was given.
    Played,
    /// The other peer hung up.
    PeerLeft,
    /// SIGINT or SIGTERM.
    Interrupted,
    /// Something went wrong: see the error.
    Failed,
}

/// A track that was sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SentTrack {
    /// What was played, as it was given.
    pub file: String,
    /// The SSRC, in decimal.
    pub ssrc: String,
    /// Audio or video.
    pub kind: TrackKind,
    /// The name of its codec.
    pub codec: String,
    /// Frames handed to the connection.
    pub frames: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Frames that were not sent because the connection did not keep up.
    pub dropped: u64,
    /// How much of it was played.
    pub duration_seconds: f64,
    /// Whether it was played to its end.
    pub complete: bool,
}

/// A track that was received.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReceivedTrack {
    /// The SSRC, in decimal.
    pub ssrc: String,
    /// The streams that it belongs to.
    pub msid: Vec<String>,
    /// Audio or video.
    pub kind: TrackKind,
    /// The name of its codec: of what was recorded first, else of what was described first.
    pub codec: String,
    /// The recording, if it was recorded.
    pub file: Option<PathBuf>,
    /// Its continuations: one more file each time the codec changed; at most 99 are named.
    pub more_files: Vec<PathBuf>,
    /// Packets that came.
    pub packets: u64,
    /// Packets that did not come in time.
    pub lost: u64,
    /// Packets that came too late, or twice, to be of use.
    pub late: u64,
    /// Whole frames that came.
    pub frames: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Frames of video before the first key frame: not recorded.
    pub before_key: u64,
    /// Frames of video that need one that is missing: not recorded.
    pub undecodable: u64,
    /// When the first recorded frame came, after connecting: how tracks stand to each other.
    pub began_seconds: Option<f64>,
    /// When it ended, after connecting, if it did before the call: its sender has said so, in a
    /// room by leaving.
    pub ended_seconds: Option<f64>,
    /// Length of the recording, filled gaps included.
    pub duration_seconds: f64,
}

impl ReceivedTrack {
    /// One of which nothing has come.
    pub(crate) fn new(ssrc: String, msid: Vec<String>, kind: TrackKind) -> Self {
        Self {
            ssrc,
            msid,
            kind,
            codec: String::new(),
            file: None,
            more_files: Vec::new(),
            packets: 0,
            lost: 0,
            late: 0,
            frames: 0,
            bytes: 0,
            before_key: 0,
            undecodable: 0,
            began_seconds: None,
            ended_seconds: None,
            duration_seconds: 0.0,
        }
    }
}

/// What a call did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Whether the two peers were connected.
    pub connected: bool,
    /// From knowing the other peer's credentials to being connected with it, in milliseconds.
    pub connect_ms: Option<f64>,
    /// How long they were connected.
    pub duration_seconds: f64,
    /// How it ended.
    pub ended: Ending,
    /// Our side of the path that was used last.
    pub local_candidate: Option<RTCIceCandidateDescription>,
    /// Their side of it.
    pub remote_candidate: Option<RTCIceCandidateDescription>,
    /// One for each `--play`.
    pub sent: Vec<SentTrack>,
    /// One for each track that was described to us; at most 1,000.
    pub received: Vec<ReceivedTrack>,
    /// The keys of `--dtmf` that were pressed, as far as the call came.
    pub dtmf_sent: String,
    /// The keys that the other peer pressed, in order.
    pub dtmf_received: Vec<ReceivedKey>,
    /// What was odd, but did no harm; at most 20.
    pub warnings: Vec<String>,
    /// Why it did not do all it was told; null if it did.
    pub error: Option<String>,
}

impl Summary {
    /// Nothing has happened yet.
    pub(crate) fn new() -> Self {
        Self {
            connected: false,
            connect_ms: None,
            duration_seconds: 0.0,
            ended: Ending::Failed,
            local_candidate: None,
            remote_candidate: None,
            sent: Vec::new(),
            received: Vec::new(),
            dtmf_sent: String::new(),
            dtmf_received: Vec::new(),
            warnings: Vec::new(),
            error: None,
        }
    }

    /// Whether it connected and did all it was told.
    pub fn is_success(&self) -> bool {
        self.connected && self.error.is_none()
    }

    /// The summary as one JSON object, in one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, finite numbers and string keys")
    }

    /// Notes what was odd.
    pub(crate) fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }

    /// Judges whether a call of `asked` length did all it was told. What has failed before
    /// stays the reason.
    pub(crate) fn judge(&mut self, asked: Option<Duration>, is_almost_played: bool) {
        if self.error.is_some() {
            return;
        }
        let lasted = Duration::from_secs_f64(self.duration_seconds);
        let is_short = match asked {
            Some(asked) => lasted + TOLERANCE < asked,
            None => !is_almost_played,
        };
        let who = match self.ended {
            Ending::Duration | Ending::Played => return,
            Ending::PeerLeft => "the other peer hung up",
            Ending::Interrupted => "interrupted",
            Ending::Failed => "failed",
        };
        self.error = match (self.connected, asked) {
            (false, _) => Some(format!("{who} before the peers were connected")),
            (true, Some(asked)) if is_short => Some(format!(
                "{who} after {:.1} of {:.1} s",
                lasted.as_secs_f64(),
                asked.as_secs_f64()
            )),
            (true, None) if is_short => Some(format!("{who} before the files were played")),
            _ => None,
        };
    }
}

impl fmt::Display for Summary {
    /// The summary for people, a few lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connect_ms {
            Some(ms) => write!(f, "Connected in {ms:.0} ms, for {:.1} s", self.duration_seconds)?,
            None => f.write_str("Not connected")?,
        }
        if let (Some(local), Some(remote)) = (&self.local_candidate, &self.remote_candidate) {
            write!(f, ", from {} to {}", end(local), end(remote))?;
        }
        f.write_char('\n')?;
        for track in &self.sent {
            let state = if track.complete { "to its end" } else { "in part" };
            let SentTrack { file, codec, duration_seconds, frames, bytes, .. } = track;
            write!(f, "Played {file} {state}, as {codec}: {duration_seconds:.1} s in {frames} ")?;
            write!(f, "frames, {bytes} bytes")?;
            match track.dropped {
                0 => writeln!(f)?,
                dropped => writeln!(f, "; {dropped} dropped")?,
            }
        }
        for track in &self.received {
            let ReceivedTrack { ssrc, codec, frames, packets, bytes, lost, late, .. } = track;
            write!(f, "Received {codec} track {ssrc}: {frames} frames in {packets} packets, ")?;
            write!(f, "{bytes} bytes, {lost} lost, {late} late")?;
            match track.before_key + track.undecodable {
                0 => {}
                left_out => write!(f, ", {left_out} frames that cannot be decoded left out")?,
            }
            match &track.file {
                Some(file) => write!(f, "; {:.1} s in {}", track.duration_seconds, file.display())?,
                None => f.write_str("; not recorded")?,
            }
            for file in &track.more_files {
                write!(f, ", {}", file.display())?;
            }
            f.write_char('\n')?;
        }
        if !self.dtmf_sent.is_empty() {
            writeln!(f, "Pressed {}", self.dtmf_sent)?;
        }
        if !self.dtmf_received.is_empty() {
            let digits: String = self.dtmf_received.iter().map(|key| key.digit).collect();
            writeln!(f, "The other peer pressed {digits}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "Odd: {warning}")?;
        }
        match &self.error {
            Some(error) => writeln!(f, "Failed: {error}"),
            None => Ok(()),
        }
    }
}

fn end(candidate: &RTCIceCandidateDescription) -> String {
    let RTCIceCandidateDescription { connection_address: ip, connection_port: port, .. } =
        candidate;
    let over = if candidate.tcp_type.is_some() { " over TCP" } else { "" };
    let kind = format!("{}{over}", candidate.kind);
    if ip.contains(':') {
        format!("[{ip}]:{port} ({kind})")
    } else {
        format!("{ip}:{port} ({kind})")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn candidate(ip: &str) -> RTCIceCandidateDescription {
        RTCIceCandidateDescription {
            foundation: "1".into(),
            component: 1,
            transport: "udp".into(),
            priority: 7,
            connection_address: ip.into(),
            connection_port: 5000,
            kind: "host".into(),
            rel_address: None,
            rel_port: None,
            tcp_type: None,
        }
    }

    fn summary() -> Summary {
        Summary {
            connected: true,
            connect_ms: Some(42.25),
            duration_seconds: 10.0,
            ended: Ending::Duration,
            local_candidate: Some(candidate("192.0.2.1")),
            remote_candidate: Some(candidate("2001:db8::1")),
            sent: vec![SentTrack {
                file: "speech.ogg".into(),
                ssrc: "1".into(),
                kind: TrackKind::Audio,
                codec: "opus".into(),
                frames: 500,
                bytes: 30_000,
                dropped: 0,
                duration_seconds: 10.0,
                complete: false,
            }],
            received: vec![ReceivedTrack {
                ssrc: "2".into(),
                msid: vec!["s".into()],
                kind: TrackKind::Audio,
                codec: "opus".into(),
                file: Some("out/s-audio.ogg".into()),
                more_files: Vec::new(),
                packets: 499,
                lost: 1,
                late: 0,
                frames: 499,
                bytes: 29_900,
                before_key: 0,
                undecodable: 0,
                began_seconds: Some(0.03),
                ended_seconds: None,
                duration_seconds: 9.98,
            }],
            dtmf_sent: "12#".into(),
            dtmf_received: vec![ReceivedKey {
                digit: '5',
                began_seconds: 1.5,
                duration_seconds: 0.1,
            }],
            warnings: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn programs_get_one_object() {
        let value: serde_json::Value = serde_json::from_str(&summary().to_json()).unwrap();
        let candidate = |ip| {
            json!({"foundation": "1", "component": 1, "transport": "udp", "priority": 7,
                   "connectionAddress": ip, "connectionPort": 5000, "type": "host"})
        };
        let expected = json!({
            "connected": true, "connect_ms": 42.25, "duration_seconds": 10.0, "ended": "duration",
            "local_candidate": candidate("192.0.2.1"), "remote_candidate": candidate("2001:db8::1"),
            "sent": [{"file": "speech.ogg", "ssrc": "1", "kind": "audio", "codec": "opus",
                      "frames": 500, "bytes": 30_000, "dropped": 0,
                      "duration_seconds": 10.0, "complete": false}],
            "received": [{"ssrc": "2", "msid": ["s"], "kind": "audio", "codec": "opus",
                          "file": "out/s-audio.ogg", "more_files": [], "packets": 499,
                          "lost": 1, "late": 0, "frames": 499, "bytes": 29_900,
                          "before_key": 0, "undecodable": 0, "began_seconds": 0.03, "ended_seconds": null,
                          "duration_seconds": 9.98}],
            "dtmf_sent": "12#",
            "dtmf_received": [{"digit": "5", "began_seconds": 1.5, "duration_seconds": 0.1}],
            "warnings": [], "error": null,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn people_get_a_few_lines() {
        let mut summary = summary();
        summary.warn("a message is not JSON".into());
        summary.sent[0].dropped = 2;
        summary.received[0].before_key = 1;
        summary.received[0].undecodable = 2;
        summary.received[0].more_files.push("out/s-audio.wav".into());
        assert_eq!(
            summary.to_string(),
            "Connected in 42 ms, for 10.0 s, from 192.0.2.1:5000 (host) to [2001:db8::1]:5000 \
             (host)\n\
             Played speech.ogg in part, as opus: 10.0 s in 500 frames, 30000 bytes; 2 dropped\n\
             Received opus track 2: 499 frames in 499 packets, 29900 bytes, 1 lost, 0 late, 3 \
             frames that cannot be decoded left out; 10.0 s in out/s-audio.ogg, \
             out/s-audio.wav\n\
             Pressed 12#\n\
             The other peer pressed 5\n\
             Odd: a message is not JSON\n"
        );
        let mut failed = Summary::new();
        failed.error = Some("no way".into());
        assert_eq!(failed.to_string(), "Not connected\nFailed: no way\n");
    }

    #[test]
    fn success_is_having_done_what_was_told() {
        let judge = |ended, seconds: f64, asked: Option<u64>, is_almost_played| {
            let mut summary = Summary { ended, duration_seconds: seconds, ..summary() };
            summary.judge(asked.map(Duration::from_secs), is_almost_played);
            summary.error
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(judge(Ending::Duration, 10.0, Some(10), false), None);
        assert_eq!(judge(Ending::Played, 12.0, None, true), None);
        assert_eq!(judge(Ending::PeerLeft, 9.9, Some(10), false), None, "a little early");
        assert_eq!(
            judge(Ending::PeerLeft, 3.0, Some(10), true),
            some("the other peer hung up after 3.0 of 10.0 s")
        );
        assert_eq!(
            judge(Ending::Interrupted, 3.0, None, false),
            some("interrupted before the files were played")
        );
        assert_eq!(judge(Ending::Interrupted, 3.0, None, true), None, "nothing else ends it");
        assert_eq!(judge(Ending::PeerLeft, 3.0, None, true), None);

        let mut early = Summary { ended: Ending::Interrupted, ..Summary::new() };
        early.judge(None, true);
        assert_eq!(early.error, some("interrupted before the peers were connected"));
        assert!(!early.is_success());
    }

    #[test]
    fn warnings_are_bounded() {
        let mut summary = Summary::new();
        for index in 0..100 {
            summary.warn(index.to_string());
        }
        assert_eq!(summary.warnings.len(), MAX_WARNINGS);
    }
}
