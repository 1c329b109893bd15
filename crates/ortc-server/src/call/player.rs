//! Plays a file, a tone or colour bars at the pace of their own clock.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use ortc_media::{Law, Pacer};
use ortc_media::{MediaFormat, MediaFrame, MediaReadError, MediaReader, OpenError, OpenOptions};
use tokio::time::{Instant, sleep_until};

use super::source::PlaySource;

/// Why something cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// It cannot be opened, or is of no kind that can be played.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is not a single frame in it.
    #[error("there is nothing to play in {0}")]
    Nothing(String),
    /// A frame of it cannot be sent.
    #[error("cannot send a frame of {name}: {source}")]
    Frame {
        /// The file.
        name: String,
        /// What is wrong with the frame.
        source: ortc_api::PacketizeError,
    },
    /// The rest of it is damaged.
    #[error("cannot play {name}: {source}")]
    Media {
        /// The file.
        name: String,
        /// What is wrong with it.
        source: MediaReadError,
    },
}

/// How files are played that leave something open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlayOptions {
    /// The law in which a tone and the sound of a WAV file are sent; `None` for the file's own,
    /// and µ-law where it has none. Default `None`.
    pub law: Option<Law>,
    /// Frames of an H.264 file in a second. Default 30.
    pub frame_rate: u32,
}

impl Default for PlayOptions {
    fn default() -> Self {
        Self { law: None, frame_rate: 30 }
    }
}

/// A frame that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The frame, as the file has it.
    pub data: Bytes,
    /// Its time since the first frame, in units of the format's clock rate.
    pub media_time: u64,
    /// Its length in the same units.
    pub duration: u32,
}

/// How far something has been played.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Frames handed over.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their length in units of the format's clock rate.
    pub media_time: u64,
    /// Whether the end of the file has been reached, and heard or seen.
    pub is_complete: bool,
}

/// Something that is being played.
pub struct Player {
    source: PlaySource,
    reader: Box<dyn MediaReader>,
    /// The first frame, read while opening: a file without one cannot be played.
    first: Option<MediaFrame>,
    progress: Progress,
}

impl fmt::Debug for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, progress, .. } = self;
        f.debug_struct("Player")
            .field("source", source)
            .field("progress", progress)
            .finish_non_exhaustive()
    }
}

impl Player {
    /// Opens a source and reads the first frame of each of its tracks, so that a wrong file is known
    /// at once. Those of one file are to be played from one start.
    ///
    /// # Errors
    /// Names the file and says what is wrong with it.
    pub fn open_all(source: &PlaySource, options: PlayOptions) -> Result<Vec<Self>, PlayError> {
        let options = OpenOptions { law: options.law, frame_rate: (options.frame_rate, 1) };
        let mut players = Vec::new();
        for reader in source.open(&options)? {
            let (source, progress) = (source.clone(), Progress::default());
            let mut player = Self { source, reader, first: None, progress };
            player.first = player.next()?;
            if player.first.is_some() {
                players.push(player);
            }
        }
        match players.is_empty() {
            false => Ok(players),
            true => Err(PlayError::Nothing(source.to_string())),
        }
    }

    /// What is played.
    pub fn source(&self) -> &PlaySource {
        &self.source
    }

    /// What its frames are.
    pub fn format(&self) -> MediaFormat {
        self.reader.format()
    }

    /// How far it has been played.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Length of what was handed over.
    pub fn played(&self) -> Duration {
        let rate = u64::from(self.format().clock_rate());
        Duration::from_millis(self.progress.media_time * 1_000 / rate)
    }

    /// Hands each frame to `send` when it is due, the first at `start`, or as much later as the file
    /// has it than those of its other tracks, until the file ends or
    /// `send` returns false. Dropping the future stops at a frame; [`progress`](Self::progress)
    /// stays.
    ///
    /// # Errors
    /// The rest of the file is damaged.
    pub async fn play(
        &mut self,
        start: Instant,
        mut send: impl FnMut(Frame) -> bool,
    ) -> Result<(), PlayError> {
        let start = start + self.reader.begins();
        let mut pacer = Pacer::with_clock_rate(start.into_std(), self.format().clock_rate());
        while let Some(MediaFrame { data, duration, .. }) = self.next()? {
            let slot = pacer.next(Instant::now().into_std(), duration);
            sleep_until(slot.due.into()).await;
            let length = data.len() as u64;
            if !send(Frame { data, media_time: slot.media_time, duration }) {
                return Ok(());
            }
            self.progress.frames += 1;
            self.progress.bytes += length;
            self.progress.media_time += u64::from(duration);
        }
        sleep_until(pacer.due().into()).await;
        self.progress.is_complete = true;
        Ok(())
    }

    /// Whether at most `rest` of it is left, or it has no end at all. Reads on: nothing can be
    /// played after it.
    pub fn is_nearly_complete(&mut self, rest: Duration) -> bool {
        if self.source.is_endless() {
            return true;
        }
        let rate = u128::from(self.format().clock_rate());
        let mut left = (rest.as_millis() * rate / 1_000) as u64;
        while let Ok(Some(frame)) = self.next() {
            match left.checked_sub(frame.duration.into()) {
                Some(less) => left = less,
                None => return false,
            }
        }
        true
    }

    fn next(&mut self) -> Result<Option<MediaFrame>, PlayError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        // A frame at a time, from a local file: not worth a thread.
        let frame = self.reader.next_frame();
        frame.map_err(|source| PlayError::Media { name: self.source.to_string(), source })
    }
}

/// The same format in the terms of the API.
pub(crate) fn api_format(format: MediaFormat) -> Option<ortc_api::MediaFormat> {
    Some(match format {
        MediaFormat::Opus => ortc_api::MediaFormat::Opus,
        MediaFormat::Alaw => ortc_api::MediaFormat::Alaw,
        MediaFormat::Ulaw => ortc_api::MediaFormat::Ulaw,
        MediaFormat::Vp8 => ortc_api::MediaFormat::Vp8,
        MediaFormat::Vp9 => ortc_api::MediaFormat::Vp9,
        MediaFormat::Av1 => ortc_api::MediaFormat::Av1,
        MediaFormat::H264 => ortc_api::MediaFormat::H264,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/speech.ogg");

    fn player(source: &str) -> Player {
        let mut players =
            Player::open_all(&source.parse().unwrap(), PlayOptions::default()).unwrap();
        assert_eq!(players.len(), 1);
        players.remove(0)
    }

    #[tokio::test(start_paused = true)]
    async fn packets_come_at_the_pace_of_the_file() {
        let mut player = player(SPEECH);
        assert_eq!(player.format(), MediaFormat::Opus);
        let start = Instant::now();
        let mut index = 0;
        let sent = player.play(start, |frame| {
            assert_eq!((frame.media_time, frame.duration), (index * 960, 960));
            let late = start.elapsed() - Duration::from_millis(index * 20);
            assert!(late < Duration::from_millis(2), "{index} is {late:?} late");
            index += 1;
            true
        });
        sent.await.unwrap();
        let bytes = player.progress().bytes;
        let expected = Progress { frames: 601, bytes, media_time: 601 * 960, is_complete: true };
        assert_eq!(player.progress(), expected);
        assert!((30_000..40_000).contains(&bytes), "{bytes}");
        assert_eq!(start.elapsed().as_millis() / 10, 1202);
    }

    #[tokio::test(start_paused = true)]
    async fn sound_and_pictures_keep_step_from_one_start() {
        let start = Instant::now() + Duration::from_millis(50);
        let (mut sound, mut pictures) = (player("tone:440"), player("bars:64x64@25"));
        assert_eq!((sound.format(), pictures.format()), (MediaFormat::Ulaw, MediaFormat::Vp8));
        let mut times = [Vec::new(), Vec::new()];
        let [heard, seen] = &mut times;
        let note = |times: &mut Vec<u64>, media_time: u64, rate: u64| {
            // Timers are as fine as a millisecond.
            let due = media_time * 1_000 / rate;
            assert!(start.elapsed().as_millis() as u64 - due <= 1);
            times.push(due);
            times.len() < 100
        };
        let _ = tokio::join!(
            sound.play(start, |frame| note(heard, frame.media_time, 8_000)),
            pictures.play(start, |frame| note(seen, frame.media_time, 90_000)),
        );
        let steps = |step: u64| (0..100).map(|n| n * step).collect::<Vec<_>>();
        assert_eq!(times, [steps(20), steps(40)]);
        assert!(pictures.is_nearly_complete(Duration::ZERO), "it has no end");
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_keeps_the_progress() {
        let mut player = player(SPEECH);
        let playing = player.play(Instant::now(), |_| true);
        let stopped = tokio::time::timeout(Duration::from_millis(1010), playing).await;
        assert!(stopped.is_err());
        let progress = player.progress();
        assert_eq!((progress.frames, progress.is_complete), (51, false));
        assert_eq!(player.played(), Duration::from_millis(1020));
    }

    #[tokio::test(start_paused = true)]
    async fn it_knows_when_little_is_left() {
        for (played, nearly) in [(10_900, false), (11_100, true)] {
            let mut player = player(SPEECH);
            let playing = player.play(Instant::now(), |_| true);
            let _ = tokio::time::timeout(Duration::from_millis(played), playing).await;
            let rest = Duration::from_secs(1);
            assert_eq!(player.is_nearly_complete(rest), nearly, "after {played} ms");
        }
    }

    #[test]
    fn a_wrong_file_is_named() {
        let says = |path: &str| {
            let source = PlaySource::File(path.into());
            Player::open_all(&source, PlayOptions::default()).unwrap_err().to_string()
        };
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(
            says(manifest),
            format!(
                "{manifest} is no media file that can be played: it looks like text; supported: \
                 Ogg/Opus, WAV (PCM of 8 or 16 bits, A-law, µ-law), IVF (VP8, VP9, AV1), WebM and \
                 Matroska (of these codecs), H.264 as a byte stream (Annex B)"
            )
        );
        assert_eq!(
            says("/nowhere/x.ogg"),
            "cannot open /nowhere/x.ogg: No such file or directory (os error 2)"
        );
        assert_eq!(says("/"), "cannot open /: Is a directory (os error 21)");
    }

    #[test]
    fn a_file_without_a_frame_is_not_played() {
        let path = std::env::temp_dir().join(format!("ortc-nothing-{}.ivf", std::process::id()));
        let mut header = *b"DKIF\0\0\x20\0VP80\x40\0\x40\0\x1e\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0";
        header[24] = 0;
        std::fs::write(&path, header).unwrap();
        let opened = Player::open_all(&PlaySource::File(path.clone()), PlayOptions::default());
        std::fs::remove_file(&path).unwrap();
        let error = opened.unwrap_err().to_string();
        assert_eq!(error, format!("there is nothing to play in {}", path.display()));
    }
}
