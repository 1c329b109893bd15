//! Pairs on the packets of a sending track, as long as its receiver may not know them.

use super::RtpSession;
use crate::ext_headers::write_ext_headers;
use crate::view::{FIXED_HEADER, u32_at};
use crate::{CodecName, ExtHeaders, Extension, PayloadType, Ssrc, codec};

/// Packets that carry the pairs from the beginning: a second of audio at 20 ms.
const FIRST_PACKETS: u32 = 50;

/// And after these, one of so many, should the first have been lost.
const EVERY: u32 = 50;

/// Longest datagram that carries them: what IPv6 guarantees (RFC 8200 §5), less 48 for IPv6 and
/// UDP and 4 for a TURN channel. A packet with less room goes without; the last one of a frame
/// is seldom full.
const MAX_DATAGRAM: usize = 1_228;

/// Most bytes that they take: the head of the extension, and an element of 255 bytes, in words.
pub(super) const MAX_BLOCK: usize = 4 + (2 + 255_usize).next_multiple_of(4);

/// The pairs of one sending track, until a report of the receiver says that it knows the track.
#[derive(Debug)]
pub(super) struct SendExtHeaders {
    /// The extension block as it stands behind the fixed header: profile, length, one element.
    block: Box<[u8]>,
    /// Which payload types are of which codec, to know key frames by.
    codecs: Vec<(PayloadType, CodecName)>,
    carried: u32,
    passed: u32,
    /// The timestamp of the key frame that is being sent.
    key_frame: Option<u32>,
}

impl SendExtHeaders {
    fn new(id: u8, lines: &[u8], codecs: Vec<(PayloadType, CodecName)>) -> Self {
        let padded = (2 + lines.len()).next_multiple_of(4);
        let mut block = Vec::with_capacity(4 + padded);
        // RFC 8285 §4.3.
        block.extend([0x10, 0x00, 0, (padded / 4) as u8, id, lines.len() as u8]);
        block.extend_from_slice(lines);
        block.resize(4 + padded, 0);
        Self { block: block.into(), codecs, carried: 0, passed: 0, key_frame: None }
    }

    /// Bytes that it adds to a packet.
    pub(super) fn len(&self) -> usize {
        self.block.len()
    }

    /// The element alone.
    pub(super) fn element(&self) -> Extension<'_> {
        let data = &self.block[6..6 + usize::from(self.block[5])];
        Extension { id: self.block[4], data }
    }

    /// Whether the packet of this header is to carry it, which has `len` bytes without.
    pub(super) fn is_due(
        &mut self,
        header: &[u8; FIXED_HEADER],
        payload: &[u8],
        len: usize,
    ) -> bool {
        let (payload_type, timestamp) = (PayloadType(header[1] & 0x7f), u32_at(header, 4));
        let codec = self.codecs.iter().find(|(known, _)| *known == payload_type);
        if codec.is_some_and(|(_, codec)| codec::begins_key_frame(*codec, payload)) {
            self.key_frame = Some(timestamp);
        } else if self.key_frame.is_some_and(|of| of != timestamp) {
            self.key_frame = None;
        }
        self.passed = self.passed.saturating_add(1);
        let wanted = self.carried < FIRST_PACKETS || self.passed >= EVERY;
        let is_due = (wanted || self.key_frame.is_some()) && len + self.len() <= MAX_DATAGRAM;
        if is_due {
            self.carried = self.carried.saturating_add(1);
            self.passed = 0;
        }
        is_due
    }
}

impl RtpSession {
    /// Has a sending track tell pairs in its packets (ORTC drafts, "rtpExtHeaders"), from now on
    /// and in place of what it told before; none when there are none. An SSRC that is none is
    /// ignored.
    ///
    /// The first 50 packets carry them, all of each key frame, and one of 50 besides, until the
    /// peer has reported on the track; packets that are too long for it do not.
    pub fn set_ext_headers(&mut self, ext_headers: ExtHeaders) {
        let ExtHeaders { ssrc, pairs, codecs } = ext_headers;
        let id = self.ext_headers_id;
        if let Some(sender) = self.sender_mut(ssrc) {
            let lines = write_ext_headers(&pairs);
            sender.ext_headers =
                lines.map(|lines| Box::new(SendExtHeaders::new(id, &lines, codecs)));
        }
    }

    /// Notes that the peer has reported on a sending track: it knows it.
    pub(super) fn end_ext_headers(&mut self, ssrc: Ssrc) {
        if let Some(sender) = self.sender_mut(ssrc) {
            sender.ext_headers = None;
        }
    }

    /// Room that the pairs of the packet may take which waits to be written.
    pub(super) fn ext_headers_room(&self, ssrc: Ssrc) -> usize {
        let at = self.senders.binary_search_by_key(&ssrc, |sender| sender.ssrc());
        at.ok().and_then(|at| self.senders[at].ext_headers.as_ref()).map_or(0, |it| it.len())
    }
}
