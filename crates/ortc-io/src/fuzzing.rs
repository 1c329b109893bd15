//! Entrances for the fuzz targets to parsers that are otherwise private. No part of the API.

use std::net::IpAddr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::consent::stun::integrity_key;
use crate::resolver::mdns;
use crate::resolver::names::Answers;
use crate::stream::framing::{Frames, Framing, append};
use crate::stream::greeting;

/// The question for a name of the link; `None` if it cannot be asked for.
pub fn link_name_question(name: &str) -> Option<Vec<u8>> {
    mdns::question(name).ok()
}

/// The addresses that a message has for a name.
pub fn link_name_answers(message: &[u8], name: &str) -> Vec<IpAddr> {
    mdns::answers(message, name)
}

/// What answers questions for names of the link.
#[derive(Debug, Default)]
pub struct LinkNameAnswers(Answers);

impl LinkNameAnswers {
    /// Has a name stand for an address; false if it is refused.
    pub fn insert(&mut self, name: &str, address: IpAddr) -> bool {
        self.0.insert(name, address).is_ok()
    }

    /// Answers a message.
    pub fn respond(&mut self, now: Instant, message: &[u8]) -> Option<Vec<u8>> {
        self.0.answer(now, 0, message)
    }
}

/// Cuts a stream into messages, as it comes in pieces: of a TURN server, or of a peer (RFC 4571).
/// `None` once it makes no sense.
pub fn cut_stream<'a>(
    of_turn: bool,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Option<Vec<Bytes>> {
    let mut frames = Frames::new(framing(of_turn));
    let mut cut = Vec::new();
    for piece in pieces {
        frames.buffer().extend_from_slice(piece);
        while let Some(message) = frames.next().ok()? {
            cut.push(message);
        }
    }
    Some(cut)
}

/// Appends a message to a stream as it is written; to a peer, with its length.
pub fn append_to_stream(of_turn: bool, stream: &mut Vec<u8>, message: &[u8]) {
    let mut batch = BytesMut::new();
    if !of_turn {
        let length = u16::try_from(message.len()).expect("no message is longer");
        stream.extend_from_slice(&length.to_be_bytes());
    }
    append(framing(of_turn), &mut batch, message);
    stream.extend_from_slice(&batch);
}

fn framing(of_turn: bool) -> Framing {
    if of_turn { Framing::Turn } else { Framing::Rfc4571 }
}

/// Whether the first frame of a stream shows a username fragment and its password.
pub fn takes_stream(read: &[u8], username_frag: &str, password: &str) -> bool {
    let find =
        |asked: &[u8]| (asked == username_frag.as_bytes()).then(|| (integrity_key(password), ()));
    greeting::check(read, find).is_ok()
}
