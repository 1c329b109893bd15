//! Media files of every format.

use std::io::Cursor;

use ortc_media::{OpenOptions, open_stream};

/// Frames that are read of one file: an input has no more bytes than that.
const MAX_FRAMES: usize = 100_000;

pub(crate) fn run(data: &[u8]) {
    let input = Cursor::new(data.to_vec());
    let Ok(mut reader) = open_stream(input, "input", &OpenOptions::default()) else { return };
    let _ = reader.format();
    let mut frames = 0;
    while let Ok(Some(frame)) = reader.next_frame() {
        frames += 1;
        assert!(frames <= MAX_FRAMES, "it never ends");
        // A length of one byte in front of one becomes a start code of four.
        assert!(frame.data.len() <= data.len() * 3 + 64 * 1024, "more than was there");
    }
}
