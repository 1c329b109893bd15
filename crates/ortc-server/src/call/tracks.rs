//! The tracks of a call: what is played, and what is received.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use ortc_api::{
    CodecName, FrameReceiver, FrameSender, MediaFrame, RTCCodec, RTCTrackDescription,
    ReceivedFrame, TrackKind,
};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::player::{PlayError, Player};
use super::recorder::{RecordError, Recorder, Recording};
use super::summary::{ReceivedTrack, SentTrack, TOLERANCE};

/// How often a recording is written out although no page is full.
const FLUSH: Duration = Duration::from_secs(1);

/// Something that is played into a track.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) player: Player,
    pub(crate) frames: FrameSender,
    pub(crate) ssrc: String,
}

/// What became of something that was played.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) track: SentTrack,
    /// Whether it would have gone on for ever.
    pub(crate) is_endless: bool,
    /// Whether so little was left that the call may have ended with it.
    pub(crate) is_nearly_complete: bool,
    pub(crate) error: Option<PlayError>,
}

impl Sending {
    /// Plays from `start` until the file ends or `stop` says so.
    pub(crate) async fn run(mut self, start: Instant, mut stop: watch::Receiver<bool>) -> Sent {
        let frames = &self.frames;
        let mut refused = None;
        let playing = self.player.play(start, |frame| {
            let frame = MediaFrame { data: frame.data, timestamp: frame.media_time };
            refused = frames.send(frame).err();
            refused.is_none()
        });
        let result = tokio::select! {
            result = playing => result,
            () = stopped(&mut stop) => Ok(()),
        };
        let name = || self.player.source().to_string();
        let refused = refused.map(|source| PlayError::Frame { name: name(), source });
        self.sum_up(result.err().or(refused))
    }

    /// What became of something that never got to be played.
    pub(crate) fn unplayed(self) -> Sent {
        self.sum_up(None)
    }

    fn sum_up(self, error: Option<PlayError>) -> Sent {
        let Self { mut player, frames, ssrc } = self;
        let progress = player.progress();
        let track = SentTrack {
            file: player.source().to_string(),
            ssrc,
            kind: if player.format().is_video() { TrackKind::Video } else { TrackKind::Audio },
            codec: player.format().name().to_owned(),
            frames: progress.frames,
            bytes: progress.bytes,
            dropped: frames.dropped(),
            duration_seconds: player.played().as_secs_f64(),
            complete: progress.is_complete,
        };
        let is_endless = player.source().is_endless();
        let is_nearly_complete = progress.is_complete
            || error.is_none() && progress.frames > 0 && player.is_nearly_complete(TOLERANCE);
        Sent { track, is_endless, is_nearly_complete, error }
    }
}

/// A track that is received, and recorded if there is a directory for it.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) description: RTCTrackDescription,
    pub(crate) frames: FrameReceiver,
    pub(crate) directory: Option<PathBuf>,
}

/// What became of a received track.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) track: ReceivedTrack,
    /// When the first recorded frame came.
    pub(crate) began: Option<std::time::Instant>,
    /// When the track ended by itself.
    pub(crate) ended: Option<std::time::Instant>,
    pub(crate) error: Option<RecordError>,
}

impl Received {
    /// The track, with its beginning reckoned from when the call was connected.
    pub(crate) fn summed_up(self, connected: Option<Instant>) -> ReceivedTrack {
        let since = |began: std::time::Instant| {
            Some(began.saturating_duration_since(connected?.into_std()).as_secs_f64())
        };
        ReceivedTrack {
            began_seconds: self.began.and_then(since),
            ended_seconds: self.ended.and_then(since),
            ..self.track
        }
    }
}

/// Frames that came.
#[derive(Debug, Default)]
struct Tally {
    frames: u64,
    bytes: u64,
}

impl Receiving {
    /// Receives until the track ends or `stop` says so.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Received {
        let description = &self.description;
        let mut recorder = self.directory.map(|directory| Recorder::new(&directory, description));
        let mut tally = Tally::default();
        let (mut error, mut ended) = (None, None);
        let mut flush = interval(FLUSH);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What is written is a frame at a time, to a local disk: not worth a thread.
            let result = tokio::select! {
                frame = self.frames.recv() => match frame {
                    Some(frame) => take(&frame, &mut tally, &mut recorder),
                    None => {
                        ended = Some(Instant::now().into_std());
                        break;
                    }
                },
                _ = flush.tick() => recorder.as_mut().map_or(Ok(()), Recorder::flush),
                () = stopped(&mut stop) => break,
            };
            if let Err(failed) = result {
                error = Some(failed);
                recorder = None;
            }
        }
        // What had come by then is recorded too.
        while let Some(Some(frame)) = self.frames.recv().now_or_never() {
            if let Err(failed) = take(&frame, &mut tally, &mut recorder) {
                error.get_or_insert(failed);
                recorder = None;
            }
        }
        let recording = match recorder.map(Recorder::finish) {
            None => Recording::default(),
            Some(Ok(recording)) => recording,
            Some(Err(failed)) => {
                error.get_or_insert(failed);
                Recording::default()
            }
        };
        let began = recording.began;
        let track = Self::sum_up(self.description, &self.frames, &tally, recording);
        Received { track, began, ended, error }
    }

    fn sum_up(
        description: RTCTrackDescription,
        frames: &FrameReceiver,
        tally: &Tally,
        recording: Recording,
    ) -> ReceivedTrack {
        let packets = frames.packet_counts();
        // `red` is what another is sent in.
        let is_red = |codec: &RTCCodec| codec.known() == Some(CodecName::Red);
        let media = description.codecs.iter().find(|codec| !is_red(codec));
        let described = || media.map(|codec| codec.name.clone());
        let recorded = recording.format.map(|format| format.name().to_owned());
        let mut files = recording.files.into_iter();
        let codec = recorded.or_else(described).unwrap_or_default();
        let described = ReceivedTrack::new(description.ssrc, description.msid, description.kind);
        ReceivedTrack {
            codec,
            file: files.next(),
            more_files: files.collect(),
            packets: packets.packets,
            lost: packets.lost,
            late: packets.late + recording.late,
            frames: tally.frames,
            bytes: tally.bytes,
            before_key: recording.before_key,
            undecodable: recording.undecodable,
            duration_seconds: recording.duration.as_secs_f64(),
            ..described
        }
    }
}

fn take(
    frame: &ReceivedFrame,
    tally: &mut Tally,
    recorder: &mut Option<Recorder>,
) -> Result<(), RecordError> {
    tally.frames += 1;
    tally.bytes += frame.data.len() as u64;
    recorder.as_mut().map_or(Ok(()), |recorder| recorder.push(frame))
}

pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the call is gone, which comes to the same.
    let _ = stop.wait_for(|stop| *stop).await;
}
