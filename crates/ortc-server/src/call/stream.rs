//! Receives the tracks of one stream, and records them together.

use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use ortc_api::{MediaStreamTrack, RTCTrackDescription, StreamFrame, StreamReader};
use ortc_media::{Container, MediaFormat};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::new_file::NewPath;
use super::recorder::{MAX_TOLD, RecordError, media_format};
use super::stream_recorder::{Recorded, StreamRecorder};
use super::summary::ReceivedTrack;
use super::tracks::{Received, stopped};

/// How often a recording is written out although nothing completes it.
const FLUSH: Duration = Duration::from_millis(500);

/// How long a recording is kept open after its last track has ended: for one that comes in its
/// place, as of a sender that has changed its camera.
const LINGER: Duration = Duration::from_secs(2);

/// Tracks of a stream that are told of, the newest ones: they may come and go.
const MAX_MEMBERS: usize = 1_000;

/// A stream whose tracks are recorded in one file.
#[derive(Debug)]
pub(super) struct ReceivingStream {
    pub(super) name: String,
    pub(super) directory: PathBuf,
    pub(super) container: Container,
    /// Tracks that come; as many as a connection may have.
    pub(super) tracks: mpsc::UnboundedReceiver<(RTCTrackDescription, MediaStreamTrack)>,
}

/// A track of the stream, and what has come of it.
struct Member {
    track: MediaStreamTrack,
    /// What its recording is known by.
    source: u64,
    told: ReceivedTrack,
    /// Formats by payload type.
    formats: Vec<(u8, MediaFormat)>,
    began: Option<std::time::Instant>,
    ended: Option<std::time::Instant>,
    /// Positions of the first and the last recorded frame.
    span: Option<(Duration, Duration)>,
    recorded: u64,
    files: Vec<NewPath>,
}

impl ReceivingStream {
    /// Receives until the stream has ended or `stop` says so.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Vec<Received> {
        let mut reader = StreamReader::new();
        let mut recording = Recording {
            recorder: Some(StreamRecorder::new(&self.directory, &self.name, self.container)),
            members: Vec::new(),
            added: 0,
            error: None,
        };
        let mut flush = interval(FLUSH);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Since when no track is there, and whether none can come any more.
        let mut empty = Some(Instant::now());
        let mut is_closed = false;
        loop {
            let given_up = empty.map(|since| since + LINGER);
            // What is written is a cluster at a time, to a local disk: not worth a thread.
            tokio::select! {
                track = self.tracks.recv(), if !is_closed => match track {
                    Some((description, track)) => {
                        recording.add(&mut reader, description, track);
                        empty = None;
                    }
                    None if empty.is_some() => break,
                    None => is_closed = true,
                },
                frame = reader.recv(), if empty.is_none() => match frame {
                    Some(frame) => recording.push(&frame),
                    None if is_closed => break,
                    None => empty = Some(Instant::now()),
                },
                _ = flush.tick() => recording.flush(),
                // Whoever has a track after this begins another recording; one that has been sent
                // already is taken.
                () = reached(given_up) => {
                    self.tracks.close();
                    empty = Some(Instant::now());
                }
                () = stopped(&mut stop) => break,
            }
            recording.note_ended(&mut reader);
        }
        // What had come by then is recorded too.
        reader.close();
        while let Some(frame) = reader.recv().await {
            recording.push(&frame);
        }
        recording.finish(reader)
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

struct Recording {
    /// `None` once it has failed.
    recorder: Option<StreamRecorder>,
    members: Vec<Member>,
    /// Tracks so far, those that are not told of any more among them.
    added: u64,
    error: Option<RecordError>,
}

impl Recording {
    fn add(
        &mut self,
        reader: &mut StreamReader,
        description: RTCTrackDescription,
        track: MediaStreamTrack,
    ) {
        if !reader.add(&track) {
            return;
        }
        let format = |codec: &ortc_api::RTCCodec| {
            Some((codec.payload_id, codec.known().and_then(media_format)?))
        };
        let formats: Vec<_> = description.codecs.iter().filter_map(format).collect();
        if let (Some((_, format)), Some(recorder)) = (formats.first(), &mut self.recorder) {
            recorder.expect(*format);
        }
        let codec = description.codecs.first().map(|codec| codec.name.clone());
        let told = ReceivedTrack {
            codec: codec.unwrap_or_default(),
            ..ReceivedTrack::new(description.ssrc, description.msid, description.kind)
        };
        let source = self.added;
        self.added += 1;
        if self.members.len() >= MAX_MEMBERS
            && let Some(at) = self.members.iter().position(|member| member.ended.is_some())
        {
            self.members.remove(at);
        }
        self.members.push(Member {
            track,
            source,
            told,
            formats,
            began: None,
            ended: None,
            span: None,
            recorded: 0,
            files: Vec::new(),
        });
    }

    fn push(&mut self, StreamFrame { track, frame, position }: &StreamFrame) {
        // The newest of them: a track that has ended may have been described anew.
        let found = self.members.iter_mut().rev().find(|member| member.track == *track);
        let Some(member) = found else { return };
        member.told.frames += 1;
        member.told.bytes += frame.data.len() as u64;
        let Some(recorder) = &mut self.recorder else { return };
        let known = member.formats.iter().find(|(id, _)| *id == frame.payload_id);
        // Whoever made frames of the packets knew the codec.
        let Some(&(_, format)) = known else { return };
        if !frame.intact {
            match member.recorded {
                0 => member.told.before_key += 1,
                _ => member.told.undecodable += 1,
            }
            return;
        }
        match recorder.push(member.source, format, *position, &frame.data) {
            Ok(Recorded::In(path)) => {
                if member.recorded == 0 {
                    member.told.codec = format.name().to_owned();
                }
                member.recorded += 1;
                member.began.get_or_insert(frame.received_at);
                let (first, _) = *member.span.get_or_insert((*position, *position));
                member.span = Some((first, *position));
                let is_last = |last: &NewPath| last.shown() == path.shown();
                if !member.files.last().is_some_and(is_last) && member.files.len() < MAX_TOLD {
                    member.files.push(path);
                }
            }
            Ok(Recorded::WantsKeyFrame) => {
                member.told.before_key += 1;
                // One that has come before is in another file.
                if frame.key || member.recorded > 0 {
                    member.track.request_key_frame();
                }
            }
            Err(error) => self.fail(error),
        }
    }

    fn flush(&mut self) {
        if let Some(Err(error)) = self.recorder.as_mut().map(StreamRecorder::flush) {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: RecordError) {
        self.error.get_or_insert(error);
        self.recorder = None;
    }

    /// Takes note of tracks that have ended.
    fn note_ended(&mut self, reader: &mut StreamReader) {
        for (track, counts) in reader.take_ended() {
            let is_it = |member: &&mut Member| member.track == track && member.ended.is_none();
            let Some(member) = self.members.iter_mut().rev().find(is_it) else { continue };
            member.ended = Some(Instant::now().into_std());
            let told = &mut member.told;
            (told.packets, told.lost, told.late) = (counts.packets, counts.lost, counts.late);
            if let Some(recorder) = &mut self.recorder {
                recorder.end_track(member.source);
            }
        }
    }

    fn finish(mut self, mut reader: StreamReader) -> Vec<Received> {
        let by_themselves: Vec<_> = self.members.iter().map(|member| member.ended).collect();
        self.note_ended(&mut reader);
        if let Some(Err(error)) = self.recorder.take().map(StreamRecorder::finish) {
            self.error.get_or_insert(error);
        }
        let mut error = self.error;
        let members = self.members.into_iter().zip(by_themselves);
        let received = members.map(|(member, ended)| {
            let Member { mut told, began, span, recorded, files, .. } = member;
            let mut files = files.iter().filter_map(|file| Some(file.made()?.to_owned()));
            told.file = files.next();
            told.more_files = files.collect();
            told.duration_seconds = duration(span, recorded).as_secs_f64();
            Received { track: told, began, ended, error: error.take() }
        });
        received.collect()
    }
}

/// From the first frame to the end of the last, which lasts as long as the others.
fn duration(span: Option<(Duration, Duration)>, frames: u64) -> Duration {
    let Some((first, last)) = span else { return Duration::ZERO };
    let span = last - first;
    match u32::try_from(frames) {
        Ok(frames @ 2..) => span + span / (frames - 1),
        _ => span,
    }
}
