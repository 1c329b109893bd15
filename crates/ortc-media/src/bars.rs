use crate::vp8::{Yuv, encode_key_frame};
use crate::{MediaFormat, MediaFrame, MediaReadError, MediaReader};

/// White, yellow, cyan, green, magenta, red, blue and black at 75 %, in BT.601.
const BARS: [Yuv; 8] = [
    [180, 128, 128],
    [162, 44, 142],
    [131, 156, 44],
    [112, 72, 58],
    [84, 184, 198],
    [65, 100, 212],
    [35, 212, 114],
    [16, 128, 128],
];
const GREY: Yuv = [60, 128, 128];
const WHITE: Yuv = [235, 128, 128];

/// Colour bars as VP8, without end: for tests, and where there is nothing to show.
///
/// Eight bars stand above a grey strip, in which a white block moves a step of 16 pixels with
/// every frame. Each frame is a key frame of a few hundred bytes, so whoever joins sees it at
/// once.
#[derive(Debug, Clone)]
pub struct ColourBars {
    width: u16,
    height: u16,
    frames_per_second: u32,
    frames: u64,
}

impl ColourBars {
    /// Bars of a size in pixels (64 to 4,096 each) and a rate (1 to 120); what is outside is
    /// brought inside. A usual choice is 640 by 360 at 30.
    pub fn new(width: u16, height: u16, frames_per_second: u32) -> Self {
        Self {
            width: width.clamp(64, 4_096),
            height: height.clamp(64, 4_096),
            frames_per_second: frames_per_second.clamp(1, 120),
            frames: 0,
        }
    }

    /// The next frame.
    pub fn frame(&mut self) -> MediaFrame {
        let at = |frame: u64| frame * 90_000 / u64::from(self.frames_per_second);
        let (timestamp, next) = (at(self.frames), at(self.frames + 1));
        let data = encode_key_frame(self.width, self.height, &self.squares());
        self.frames += 1;
        MediaFrame { data: data.into(), timestamp, duration: (next - timestamp) as u32, key: true }
    }

    /// The colours of the macroblocks of the next frame.
    fn squares(&self) -> Vec<Yuv> {
        let columns = usize::from(self.width.div_ceil(16));
        let rows = usize::from(self.height.div_ceil(16));
        let strip = rows - rows.div_ceil(4);
        let marker = (self.frames % columns as u64) as usize;
        let square = |row: usize, column: usize| {
            if row < strip {
                BARS[column * BARS.len() / columns]
            } else if row > strip && (column + columns - marker) % columns < 2 {
                WHITE
            } else {
                GREY
            }
        };
        (0..rows).flat_map(|row| (0..columns).map(move |column| square(row, column))).collect()
    }
}

impl MediaReader for ColourBars {
    fn format(&self) -> MediaFormat {
        MediaFormat::Vp8
    }

    fn next_frame(&mut self) -> Result<Option<MediaFrame>, MediaReadError> {
        Ok(Some(self.frame()))
    }
}
