use crate::{PayloadType, RtpError, Ssrc};

/// Length of an RTP header without CSRCs and extension (RFC 3550 §5.1).
pub(crate) const FIXED_HEADER: usize = 12;

/// In the first byte of an RTP header: padding follows the payload (RFC 3550 §5.1).
pub(crate) const PADDED: u8 = 0x20;
/// What an element of two bytes adds to a header at most, in either form: the block's own header
/// and one word.
pub(crate) const NUMBER_ROOM: usize = 8;

/// Profile of the one-byte form (RFC 8285 §4.2).
const ONE_BYTE_PROFILE: u16 = 0xBEDE;

/// Profile of the two-byte form; its low four bits are free for the application
/// (RFC 8285 §4.3).
const TWO_BYTE_PROFILE: u16 = 0x1000;

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let bytes = &bytes[at..at + 2];
    u16::from_be_bytes([bytes[0], bytes[1]])
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = &bytes[at..at + 4];
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Finds where the header of an RTP packet ends, CSRCs and extension included.
///
/// This is the boundary between what SRTP authenticates only and what it encrypts. It looks
/// at nothing behind the header, so that it serves sealed packets too.
#[inline]
pub(crate) fn header_len(packet: &[u8]) -> Result<usize, RtpError> {
    if packet.len() < FIXED_HEADER {
        return Err(RtpError::TooShort);
    }
    if packet[0] >> 6 != 2 {
        return Err(RtpError::Version);
    }
    let mut end = FIXED_HEADER + 4 * usize::from(packet[0] & 0x0f);
    if packet[0] & 0x10 != 0 {
        if packet.len() < end + 4 {
            return Err(RtpError::TooShort);
        }
        end += 4 + 4 * usize::from(u16_at(packet, end + 2));
    }
    if packet.len() < end { Err(RtpError::TooShort) } else { Ok(end) }
}

/// A plaintext RTP packet, its bounds checked once (RFC 3550 §5.1).
///
/// No accessor panics and none reaches outside of the part it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpView<'a> {
    packet: &'a [u8],
    header_len: usize,
    payload_end: usize,
}

impl<'a> RtpView<'a> {
    /// Checks the bounds of header, CSRCs, extension block and padding.
    ///
    /// The elements inside the extension block are checked as they are iterated.
    ///
    /// # Errors
    /// [`RtpError::TooShort`], [`RtpError::Version`] and [`RtpError::Padding`]: drop the packet.
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpError> {
        let header_len = header_len(packet)?;
        let mut payload_end = packet.len();
        if packet[0] & PADDED != 0 {
            let padding = usize::from(packet[packet.len() - 1]);
            if padding == 0 || padding > packet.len() - header_len {
                return Err(RtpError::Padding);
            }
            payload_end -= padding;
        }
        Ok(Self { packet, header_len, payload_end })
    }

    /// The payload type, 0 to 127.
    #[inline]
    pub fn payload_type(&self) -> PayloadType {
        PayloadType(self.packet[1] & 0x7f)
    }

    /// The marker bit.
    #[inline]
    pub fn marker(&self) -> bool {
        self.packet[1] & 0x80 != 0
    }

    /// The sequence number, without its rollovers.
    #[inline]
    pub fn sequence(&self) -> u16 {
        u16_at(self.packet, 2)
    }

    /// The timestamp, in units of the clock rate.
    #[inline]
    pub fn timestamp(&self) -> u32 {
        u32_at(self.packet, 4)
    }

    /// The synchronization source.
    #[inline]
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(u32_at(self.packet, 8))
    }

    /// Length of the header in bytes, CSRCs and extension block included.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Whether there is padding behind the payload.
    #[inline]
    pub fn is_padded(&self) -> bool {
        self.packet[0] & PADDED != 0
    }

    /// All that follows the header: the payload, and the padding if there is any.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        &self.packet[self.header_len..]
    }

    /// The payload without padding; may be empty.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.packet[self.header_len..self.payload_end]
    }

    /// The contributing sources, at most 15.
    pub fn csrcs(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        let count = usize::from(self.packet[0] & 0x0f);
        self.packet[FIXED_HEADER..FIXED_HEADER + 4 * count]
            .chunks_exact(4)
            .map(|csrc| Ssrc(u32_at(csrc, 0)))
    }

    /// The elements of the header extension (RFC 8285), in order.
    ///
    /// Empty when there is no extension, or one of another profile. A malformed element is
    /// an error, and the last item.
    pub fn extensions(&self) -> Extensions<'a> {
        let start = FIXED_HEADER + 4 * usize::from(self.packet[0] & 0x0f);
        if self.packet[0] & 0x10 == 0 {
            return Extensions { rest: &[], two_byte: false };
        }
        let profile = u16_at(self.packet, start);
        let block = &self.packet[start + 4..self.header_len];
        if profile == ONE_BYTE_PROFILE {
            Extensions { rest: block, two_byte: false }
        } else if profile & 0xfff0 == TWO_BYTE_PROFILE {
            Extensions { rest: block, two_byte: true }
        } else {
            Extensions { rest: &[], two_byte: false }
        }
    }
}

/// One element of a header extension (RFC 8285).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The local identifier: 1 to 14 in the one-byte form, 1 to 255 in the two-byte form.
    pub id: u8,
    /// Its data: 1 to 16 bytes in the one-byte form, 0 to 255 in the two-byte form.
    pub data: &'a [u8],
}

/// Iterates over the elements of a header extension; made by [`RtpView::extensions`].
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, RtpError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, after) = self.rest.split_first()?;
            if first == 0 {
                self.rest = after;
                continue;
            }
            let (id, len, data) = if self.two_byte {
                let Some((&len, data)) = after.split_first() else {
                    self.rest = &[];
                    return Some(Err(RtpError::Extension));
                };
                (first, usize::from(len), data)
            } else {
                (first >> 4, usize::from(first & 0x0f) + 1, after)
            };
            // RFC 8285 §4.2: 15 is reserved, and 0 is padding without a length; either ends it.
            if !self.two_byte && (id == 15 || id == 0) {
                self.rest = &[];
                return None;
            }
            if data.len() < len {
                self.rest = &[];
                return Some(Err(RtpError::Extension));
            }
            let (data, rest) = data.split_at(len);
            self.rest = rest;
            return Some(Ok(Extension { id, data }));
        }
    }
}

/// An RTP header to be written: no padding, no CSRCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader<'a> {
    /// The payload type; only the low seven bits are written.
    pub payload_type: PayloadType,
    /// The marker bit.
    pub marker: bool,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp.
    pub timestamp: u32,
    /// The synchronization source.
    pub ssrc: Ssrc,
    /// Extension elements. They take the one-byte form if all fit it, else the two-byte form
    /// (RFC 8285 §4.1.2: a packet has one form only).
    pub extensions: &'a [Extension<'a>],
}

impl RtpHeader<'_> {
    /// Length of the header in bytes.
    pub fn encoded_len(&self) -> usize {
        if self.extensions.is_empty() {
            return FIXED_HEADER;
        }
        FIXED_HEADER + 4 + self.block_len().next_multiple_of(4)
    }

    /// Writes the header and returns its length.
    ///
    /// # Errors
    /// [`RtpError::NoRoom`] when `out` is too short, [`RtpError::Extension`] when an element
    /// has the id 0 or more than 255 bytes; nothing is written then.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, RtpError> {
        if self.extensions.iter().any(|element| element.id == 0 || element.data.len() > 255) {
            return Err(RtpError::Extension);
        }
        let block = self.block_len().next_multiple_of(4);
        // The length field counts words in 16 bits.
        if block / 4 > usize::from(u16::MAX) {
            return Err(RtpError::Extension);
        }
        let len = self.encoded_len();
        let out = out.get_mut(..len).ok_or(RtpError::NoRoom)?;
        out[..FIXED_HEADER].copy_from_slice(&self.fixed());
        if self.extensions.is_empty() {
            return Ok(len);
        }
        out[0] |= 0x10;
        let one_byte = self.fits_one_byte();
        let profile = if one_byte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE };
        out[12..14].copy_from_slice(&profile.to_be_bytes());
        out[14..16].copy_from_slice(&((block / 4) as u16).to_be_bytes());
        let mut at = 16;
        for element in self.extensions {
            let size = element.data.len();
            if one_byte {
                out[at] = element.id << 4 | (size - 1) as u8;
                at += 1;
            } else {
                out[at] = element.id;
                out[at + 1] = size as u8;
                at += 2;
            }
            out[at..at + size].copy_from_slice(element.data);
            at += size;
        }
        out[at..].fill(0);
        Ok(len)
    }

    /// The first twelve bytes, as of a header without extension.
    #[inline]
    pub(crate) fn fixed(&self) -> [u8; FIXED_HEADER] {
        let mut out = [0; FIXED_HEADER];
        out[0] = 0x80;
        out[1] = u8::from(self.marker) << 7 | self.payload_type.0 & 0x7f;
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.0.to_be_bytes());
        out
    }

    fn fits_one_byte(&self) -> bool {
        self.extensions
            .iter()
            .all(|element| element.id <= 14 && (1..=16).contains(&element.data.len()))
    }

    fn block_len(&self) -> usize {
        let prefix = if self.fits_one_byte() { 1 } else { 2 };
        self.extensions.iter().map(|element| prefix + element.data.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(extensions: &'a [Extension<'a>]) -> RtpHeader<'a> {
        RtpHeader {
            payload_type: PayloadType(111),
            marker: true,
            sequence: 0x1234,
            timestamp: 0xdeca_fbad,
            ssrc: Ssrc(0xcafe_babe),
            extensions,
        }
    }

    fn elements(view: &RtpView<'_>) -> Vec<(u8, Vec<u8>)> {
        view.extensions().map(Result::unwrap).map(|e| (e.id, e.data.to_vec())).collect()
    }

    #[test]
    fn a_written_header_is_read_back() {
        let mut out = [0xff; 16];
        assert_eq!(header(&[]).write(&mut out), Ok(12));
        out[12..].copy_from_slice(b"abcd");
        let view = RtpView::parse(&out).unwrap();
        assert_eq!(
            (view.payload_type(), view.marker(), view.sequence(), view.timestamp(), view.ssrc()),
            (PayloadType(111), true, 0x1234, 0xdeca_fbad, Ssrc(0xcafe_babe))
        );
        assert_eq!((view.header_len(), view.payload()), (12, &b"abcd"[..]));
        assert_eq!((view.csrcs().count(), view.extensions().count()), (0, 0));
    }

    #[test]
    fn elements_take_the_one_byte_form_when_they_fit_it() {
        let list = [Extension { id: 1, data: &[0x80] }, Extension { id: 14, data: &[7; 16] }];
        let mut out = [0xff; 64];
        let len = header(&list).write(&mut out).unwrap();
        assert_eq!(len, 12 + 4 + 20);
        assert_eq!(out[12..16], [0xbe, 0xde, 0, 5]);
        let view = RtpView::parse(&out[..len]).unwrap();
        assert_eq!(elements(&view), [(1, vec![0x80]), (14, vec![7; 16])]);
        assert_eq!(view.payload(), b"");
    }

    #[test]
    fn one_long_element_or_high_id_makes_all_take_the_two_byte_form() {
        let list = [Extension { id: 15, data: b"a=b" }, Extension { id: 2, data: &[] }];
        let mut out = [0xff; 64];
        let len = header(&list).write(&mut out).unwrap();
        assert_eq!(out[12..16], [0x10, 0x00, 0, 2]);
        let view = RtpView::parse(&out[..len]).unwrap();
        assert_eq!(elements(&view), [(15, b"a=b".to_vec()), (2, vec![])]);
    }

    #[test]
    fn a_header_is_not_written_where_it_does_not_fit() {
        assert_eq!(header(&[]).write(&mut [0; 11]), Err(RtpError::NoRoom));
        let zero = [Extension { id: 0, data: &[1] }];
        assert_eq!(header(&zero).write(&mut [0; 64]), Err(RtpError::Extension));
        let long = [Extension { id: 3, data: &[1; 256] }];
        assert_eq!(header(&long).write(&mut [0; 512]), Err(RtpError::Extension));
    }

    #[test]
    fn padding_is_removed_and_its_count_checked() {
        let mut packet = [0u8; 16];
        packet[0] = 0xa0;
        for (count, expected) in [(1, Ok(3)), (4, Ok(0)), (0, Err(())), (5, Err(()))] {
            packet[15] = count;
            let got = RtpView::parse(&packet).map(|view| view.payload().len()).map_err(|error| {
                assert_eq!(error, RtpError::Padding);
            });
            assert_eq!(got, expected, "padding count {count}");
        }
        let mut empty = [0u8; 12];
        empty[0] = 0xa0;
        assert_eq!(RtpView::parse(&empty), Err(RtpError::Padding));
    }

    #[test]
    fn an_element_past_its_block_is_an_error_and_the_payload_is_never_touched() {
        // One word of block: an element of one byte, then one that claims nine.
        let mut packet = vec![0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0, 1];
        packet.extend([0x10, 0xaa, 0x28, 0xbb]);
        packet.extend([0xcc; 20]);
        let view = RtpView::parse(&packet).unwrap();
        let got: Vec<_> = view.extensions().collect();
        assert_eq!(got, [Ok(Extension { id: 1, data: &[0xaa] }), Err(RtpError::Extension)],);
        assert_eq!(view.payload(), [0xcc; 20]);
    }

    #[test]
    fn id_fifteen_ends_the_one_byte_form_and_padding_is_skipped() {
        let mut packet = vec![0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0, 2];
        packet.extend([0, 0, 0x10, 0xaa, 0xf0, 0xbb, 0x20, 0xcc]);
        assert_eq!(elements(&RtpView::parse(&packet).unwrap()), [(1, vec![0xaa])]);
        packet[12..14].copy_from_slice(&[0x10, 0x07]);
        packet[16..24].copy_from_slice(&[0, 0x0f, 2, 1, 2, 0, 0, 9]);
        let got: Vec<_> = RtpView::parse(&packet).unwrap().extensions().collect();
        assert_eq!(got, [Ok(Extension { id: 15, data: &[1, 2] }), Err(RtpError::Extension)]);
    }

    #[test]
    fn truncation_at_every_length_is_an_error_until_the_header_is_whole() {
        let mut packet = vec![0x92, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        packet.extend([0, 0, 0, 2, 0, 0, 0, 3]);
        packet.extend([0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0]);
        packet.extend(b"xy");
        for len in 0..28 {
            assert_eq!(RtpView::parse(&packet[..len]), Err(RtpError::TooShort), "{len}");
        }
        let view = RtpView::parse(&packet).unwrap();
        assert_eq!(view.csrcs().collect::<Vec<_>>(), [Ssrc(2), Ssrc(3)]);
        assert_eq!(view.payload(), b"xy");
        packet[0] = 0x52;
        assert_eq!(RtpView::parse(&packet), Err(RtpError::Version));
    }
}
