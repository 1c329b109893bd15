use std::io;

use bytes::{Bytes, BytesMut};

/// STUN's header.
const STUN_HEADER: usize = 20;

/// Room made before each read.
const READ: usize = 16 * 1024;

/// Cuts a stream into STUN messages and channel data (RFC 8656 §12.5). At most 64 KiB of an
/// unfinished message are kept, as its length field says, and what one read brings.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Where what has been read is appended.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ);
        &mut self.buffer
    }

    /// The next whole message, without its padding.
    ///
    /// # Errors
    /// When what comes is neither: there is no finding back.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let [first, _, high, low, ..] = self.buffer[..] else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (message, padded) = match first {
            0x00..=0x3f => (STUN_HEADER + length, STUN_HEADER + length),
            0x40..=0x4f => (4 + length, 4 + length.next_multiple_of(4)),
            _ => {
                let said = "what comes is neither STUN nor channel data";
                return Err(io::Error::new(io::ErrorKind::InvalidData, said));
            }
        };
        if self.buffer.len() < padded {
            return Ok(None);
        }
        let mut whole = self.buffer.split_to(padded);
        whole.truncate(message);
        Ok(Some(whole.freeze()))
    }
}

/// Appends a message, padded if it is channel data.
pub(super) fn append(batch: &mut BytesMut, message: &[u8]) {
    batch.extend_from_slice(message);
    if message.first().is_some_and(|first| first >> 6 == 1) {
        let padded = batch.len() + message.len().next_multiple_of(4) - message.len();
        batch.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_alike_however_it_comes() {
        let mut stream = BytesMut::new();
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for length in [0usize, 1, 2, 3, 4, 1200] {
            sent.push([&[0x40, 1][..], &(length as u16).to_be_bytes(), &vec![7; length]].concat());
            let padded = length.next_multiple_of(4);
            let header = [&[1, 1][..], &(padded as u16).to_be_bytes(), &[9; 16]].concat();
            sent.push([header, vec![8; padded]].concat());
        }
        sent.iter().for_each(|message| append(&mut stream, message));
        for step in [1, 3, 1000, stream.len()] {
            let (mut frames, mut cut) = (Frames::default(), Vec::new());
            for piece in stream.chunks(step) {
                frames.buffer().extend_from_slice(piece);
                while let Some(message) = frames.next().unwrap() {
                    cut.push(message.to_vec());
                }
            }
            assert_eq!(cut, sent);
        }
    }
}
