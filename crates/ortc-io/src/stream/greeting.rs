//! What the first message on an accepted stream has to be.

use std::io;

use aws_lc_rs::hmac;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::framing::frame_length;
use crate::batch::FRAME_HEADER;
use crate::consent::stun::{Class, Message};

/// The longest first message: a binding request, with all that browsers put into one, has some
/// 200 bytes.
const MAX_FIRST: usize = 1024;

/// Bytes that are read at a time; what a peer sends on at once is kept for later.
const READ: usize = 2048;

/// Why a stream is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its first frame is no binding request with a username, or it ended before.
    Malformed,
    /// Nobody here has that username.
    UnknownUsername,
    /// The MESSAGE-INTEGRITY is missing, or was not made with the password.
    BadIntegrity,
}

/// Reads up to the end of the first frame; what is there then, that frame first.
pub(crate) async fn read_first(stream: &mut (impl AsyncRead + Unpin)) -> Result<BytesMut, Refusal> {
    let mut read = BytesMut::with_capacity(READ);
    loop {
        if let Some(length) = frame_length(&read) {
            if !(1..=MAX_FIRST).contains(&length) {
                return Err(Refusal::Malformed);
            }
            if read.len() >= FRAME_HEADER + length {
                return Ok(read);
            }
        }
        let got: io::Result<usize> = stream.read_buf(&mut read).await;
        if !got.is_ok_and(|got| got > 0) {
            return Err(Refusal::Malformed);
        }
    }
}

/// Checks the first frame. `find` is given the first half of its USERNAME, and returns whose it
/// is, with the key of that one's password.
pub(crate) fn check<T>(
    read: &[u8],
    find: impl FnOnce(&[u8]) -> Option<(hmac::Key, T)>,
) -> Result<T, Refusal> {
    let frame = frame_length(read).and_then(|length| read.get(FRAME_HEADER..FRAME_HEADER + length));
    let message = frame.and_then(Message::parse).filter(|message| message.class == Class::Request);
    let message = message.ok_or(Refusal::Malformed)?;
    let colon = message.username.iter().position(|byte| *byte == b':');
    let asked = &message.username[..colon.ok_or(Refusal::Malformed)?];
    let (key, user) = find(asked).ok_or(Refusal::UnknownUsername)?;
    message.verify(&key).then_some(user).ok_or(Refusal::BadIntegrity)
}
