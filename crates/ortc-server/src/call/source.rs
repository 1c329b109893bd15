//! What `--play` names: a file, a tone, or colour bars.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ortc_media::{ColourBars, Law, MediaReader, OpenOptions, Tone, open_all};

use super::player::PlayError;

/// The level of a tone, in decibels below full scale.
const TONE_DBFS: f64 = -12.0;

/// Something to play.
#[derive(Debug, Clone, PartialEq)]
pub enum PlaySource {
    /// A media file; its content says of what kind.
    File(PathBuf),
    /// A sine as G.711, without end: `tone` or `tone:HZ`.
    Tone {
        /// Its frequency in hertz, above 0 and at most 4,000. Default 440.
        hertz: f64,
    },
    /// Moving colour bars as VP8, without end: `bars`, `bars:WIDTHxHEIGHT` or
    /// `bars:WIDTHxHEIGHT@RATE`.
    Bars {
        /// Width in pixels, 64 to 4,096. Default 640.
        width: u16,
        /// Height in pixels, as the width. Default 360.
        height: u16,
        /// Frames in a second, 1 to 120. Default 30.
        rate: u32,
    },
}

/// Why text is no [`PlaySource`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaySourceError {
    /// It begins like a tone.
    #[error(
        "a tone is tone:HZ, above 0 and up to 4000, such as tone:440; a file of that name is ./tone:…"
    )]
    Tone,
    /// It begins like colour bars.
    #[error(
        "colour bars are bars:WIDTHxHEIGHT@RATE, of 64 to 4096 pixels and 1 to 120 frames a second, such as bars:640x360@30; a file of that name is ./bars:…"
    )]
    Bars,
    /// There is nothing in it.
    #[error("the name of a file is needed, tone:HZ or bars:WIDTHxHEIGHT@RATE")]
    Empty,
}

impl PlaySource {
    /// Whether it never ends.
    pub fn is_endless(&self) -> bool {
        !matches!(self, Self::File(_))
    }

    /// Opens it: a reader for each of its tracks, of which a file may have several.
    ///
    /// # Errors
    /// Names the file and says what is wrong with it.
    pub(crate) fn open(
        &self,
        options: &OpenOptions,
    ) -> Result<Vec<Box<dyn MediaReader>>, PlayError> {
        Ok(match *self {
            Self::File(ref path) => open_all(path, options)?,
            Self::Tone { hertz } => {
                vec![Box::new(Tone::new(options.law.unwrap_or(Law::Ulaw), hertz, TONE_DBFS))]
            }
            Self::Bars { width, height, rate } => {
                vec![Box::new(ColourBars::new(width, height, rate))]
            }
        })
    }
}

impl FromStr for PlaySource {
    type Err = PlaySourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, details) = match text.split_once(':') {
            Some((name, details)) => (name, Some(details)),
            None => (text, None),
        };
        match (name, details) {
            ("", None) => Err(PlaySourceError::Empty),
            ("tone", None) => Ok(Self::Tone { hertz: 440.0 }),
            ("tone", Some(details)) => tone(details).ok_or(PlaySourceError::Tone),
            ("bars", None) => Ok(Self::Bars { width: 640, height: 360, rate: 30 }),
            ("bars", Some(details)) => bars(details).ok_or(PlaySourceError::Bars),
            _ => Ok(Self::File(text.into())),
        }
    }
}

fn tone(text: &str) -> Option<PlaySource> {
    let hertz = text.parse().ok().filter(|hertz| *hertz > 0.0 && *hertz <= 4_000.0)?;
    Some(PlaySource::Tone { hertz })
}

fn bars(text: &str) -> Option<PlaySource> {
    let (size, rate) = text.split_once('@').unwrap_or((text, "30"));
    let (width, height) = size.split_once('x')?;
    let side = |text: &str| text.parse().ok().filter(|side| (64..=4_096).contains(side));
    let rate = rate.parse().ok().filter(|rate| (1..=120).contains(rate))?;
    Some(PlaySource::Bars { width: side(width)?, height: side(height)?, rate })
}

impl fmt::Display for PlaySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Tone { hertz } => write!(f, "tone:{hertz}"),
            Self::Bars { width, height, rate } => write!(f, "bars:{width}x{height}@{rate}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_tones_and_bars_are_told_apart() {
        let source = |text: &str| text.parse::<PlaySource>();
        let bars = |width, height, rate| Ok(PlaySource::Bars { width, height, rate });
        let tone = |hertz| Ok(PlaySource::Tone { hertz });
        let file = |path: &str| Ok(PlaySource::File(path.into()));
        assert_eq!(source("tone"), tone(440.0));
        assert_eq!(source("tone:697.5"), tone(697.5));
        assert_eq!(source("bars"), bars(640, 360, 30));
        assert_eq!(source("bars:320x180"), bars(320, 180, 30));
        assert_eq!(source("bars:320x180@15"), bars(320, 180, 15));
        for path in ["./tone:440", "a:b.ogg", "bars.ivf", "tone.wav", "there/tone:1"] {
            assert_eq!(source(path), file(path));
        }
        for text in ["tone:", "tone:0", "tone:nan", "tone:4001", "tone:a"] {
            assert_eq!(source(text), Err(PlaySourceError::Tone), "{text}");
        }
        for text in ["bars:", "bars:320", "bars:63x64", "bars:64x4097", "bars:64x64@0", "bars:x@"] {
            assert_eq!(source(text), Err(PlaySourceError::Bars), "{text}");
        }
        assert_eq!(source(""), Err(PlaySourceError::Empty));
    }

    #[test]
    fn a_source_is_written_as_it_is_read() {
        for text in ["tone:440", "tone:697.5", "bars:320x180@15", "a.ogg"] {
            assert_eq!(text.parse::<PlaySource>().unwrap().to_string(), text);
        }
    }
}
