use std::io;

use bytes::{Buf, Bytes, BytesMut};

use crate::batch::FRAME_HEADER;

/// STUN's header.
const STUN_HEADER: usize = 20;

/// Room made before each read.
const READ: usize = 16 * 1024;

/// How messages follow each other on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each says how long it is: STUN and channel data (RFC 8656 §12.5).
    Turn,
    /// Each behind its length, in two bytes (RFC 4571 §2).
    Rfc4571,
}

/// Cuts a stream into messages. At most 64 KiB of an unfinished one are kept, as its length
/// field says, and what one read brings.
#[derive(Debug)]
pub(crate) struct Frames {
    framing: Framing,
    buffer: BytesMut,
}

impl Frames {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, buffer: BytesMut::new() }
    }

    /// Begins with what has been read before.
    pub(crate) fn with(framing: Framing, buffer: BytesMut) -> Self {
        Self { framing, buffer }
    }

    /// Where what has been read is appended.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ);
        &mut self.buffer
    }

    /// The next whole message, without its padding or its length.
    ///
    /// # Errors
    /// When what comes on a stream to a TURN server is neither: there is no finding back.
    pub(crate) fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self.framing {
            Framing::Turn => self.next_of_turn(),
            Framing::Rfc4571 => Ok(self.next_framed()),
        }
    }

    fn next_of_turn(&mut self) -> io::Result<Option<Bytes>> {
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

    fn next_framed(&mut self) -> Option<Bytes> {
        loop {
            let length = frame_length(&self.buffer)?;
            if self.buffer.len() < FRAME_HEADER + length {
                return None;
            }
            let mut whole = self.buffer.split_to(FRAME_HEADER + length);
            // An empty frame says nothing (RFC 4571 §2).
            if length > 0 {
                whole.advance(FRAME_HEADER);
                return Some(whole.freeze());
            }
        }
    }
}

/// The length of the frame that a stream of RFC 4571 begins with.
pub(crate) fn frame_length(stream: &[u8]) -> Option<usize> {
    let [high, low, ..] = *stream else { return None };
    Some(usize::from(u16::from_be_bytes([high, low])))
}

/// Whether a message is one frame of RFC 4571, as the media thread writes them.
pub(crate) fn is_frame(message: &[u8]) -> bool {
    frame_length(message).is_some_and(|length| FRAME_HEADER + length == message.len())
}

/// Appends a message as it is to be written: channel data padded, frames as they are.
pub(crate) fn append(framing: Framing, batch: &mut BytesMut, message: &[u8]) {
    batch.extend_from_slice(message);
    if framing == Framing::Turn && message.first().is_some_and(|first| first >> 6 == 1) {
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
        sent.iter().for_each(|message| append(Framing::Turn, &mut stream, message));
        for step in [1, 3, 1000, stream.len()] {
            let (mut frames, mut cut) = (Frames::new(Framing::Turn), Vec::new());
            for piece in stream.chunks(step) {
                frames.buffer().extend_from_slice(piece);
                while let Some(message) = frames.next().unwrap() {
                    cut.push(message.to_vec());
                }
            }
            assert_eq!(cut, sent);
        }
    }
    #[test]
    fn frames_are_cut_alike_and_empty_ones_say_nothing() {
        let sent: Vec<Vec<u8>> =
            [1, 0, 2, 1200, 0, 65_535].iter().map(|length| vec![7; *length]).collect();
        let mut stream = BytesMut::new();
        for datagram in &sent {
            let frame = [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat();
            assert!(is_frame(&frame) && !is_frame(datagram));
            append(Framing::Rfc4571, &mut stream, &frame);
        }
        let whole: Vec<_> = sent.into_iter().filter(|datagram| !datagram.is_empty()).collect();
        for step in [1, 3, 1000, stream.len()] {
            let (mut frames, mut cut) = (Frames::new(Framing::Rfc4571), Vec::new());
            for piece in stream.chunks(step) {
                frames.buffer().extend_from_slice(piece);
                while let Some(message) = frames.next().unwrap() {
                    cut.push(message.to_vec());
                }
            }
            assert_eq!(cut, whole);
        }
    }
}
