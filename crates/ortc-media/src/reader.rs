use std::io::Read;

use bytes::Bytes;

use crate::OggOpusReadError;
use crate::opus::opus_packet_samples;
use crate::page::{CONTINUED, FIRST, LAST, Page, PageError};
use crate::sniff::looks_like;

/// Longest packet that is accepted: 48 frames of 1,275 bytes and what RFC 7845 §6 adds.
const MAX_PACKET: usize = 61_440;

/// Shortest Opus header (RFC 7845 §5.1).
const HEAD: usize = 19;

/// An Opus packet out of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpusPacket {
    /// The packet, as it goes into RTP.
    pub data: Bytes,
    /// Its length in samples at 48 kHz, 120 to 5,760.
    pub samples: u32,
}

/// Reads the packets of the first Opus stream of an Ogg file (RFC 7845).
///
/// Other streams in the file are skipped. A stream that is followed by another one (a
/// *chained* file, such as a recorded radio) is read on. Memory is bounded by one page and
/// one packet, about 130 kB, whatever the file says.
#[derive(Debug)]
pub struct OggOpusReader<R> {
    input: R,
    offset: u64,
    serial: u32,
    head: OpusHead,
    awaiting: Awaiting,
    page: Page,
    /// The next segment of `page`, and where its bytes begin.
    segment: usize,
    start: usize,
    /// What has been gathered of a packet that goes over pages.
    partial: Partial,
    packets: u64,
    lost: u64,
    truncated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OpusHead {
    channels: u8,
    pre_skip: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    Tags,
    Audio,
    /// After the end of a stream: the head of the next one.
    Head,
}

#[derive(Debug)]
enum Partial {
    None,
    Data(Vec<u8>),
    /// Its beginning is missing, or nobody needs it.
    Skipped,
}

impl<R: Read> OggOpusReader<R> {
    /// Reads up to the Opus header and checks it.
    ///
    /// Reading happens in small pieces: hand in a buffered reader.
    ///
    /// # Errors
    /// [`OggOpusReadError`] says what the file is instead, or what is wrong with it.
    pub fn new(input: R) -> Result<Self, OggOpusReadError> {
        let mut prefix = Prefixed { taken: Vec::new(), input };
        let mut offset = 0;
        let mut found: Vec<&'static str> = Vec::new();
        let page = loop {
            let page = match Page::read(&mut prefix, &mut offset) {
                Ok(page) => page,
                Err(PageError::Io(error)) => return Err(error.into()),
                Err(_) if offset > 0 => return Err(OggOpusReadError::Damaged { offset }),
                Err(_) if prefix.taken.starts_with(b"OggS") => {
                    return Err(OggOpusReadError::Damaged { offset });
                }
                Err(_) => {
                    let looks_like = looks_like(&prefix.taken);
                    return Err(OggOpusReadError::NotOgg { looks_like });
                }
            };
            // The first pages of all streams come before any other page (RFC 3533 §4).
            match page {
                Some(page) if page.flags & FIRST != 0 && page.body.starts_with(b"OpusHead") => {
                    break page;
                }
                Some(page) if page.flags & FIRST != 0 => {
                    let codec = codec(&page.body);
                    if !found.contains(&codec) {
                        found.push(codec);
                    }
                }
                None if offset == 0 => return Err(OggOpusReadError::Empty),
                _ => {
                    let found =
                        if found.is_empty() { "no stream".into() } else { found.join(", ") };
                    return Err(OggOpusReadError::NoOpus { found });
                }
            }
        };
        let head = OpusHead::parse(&page.body)?;
        Ok(Self {
            input: prefix.input,
            offset,
            serial: page.serial,
            head,
            awaiting: Awaiting::Tags,
            segment: page.lacing.len(),
            start: page.body.len(),
            page,
            partial: Partial::None,
            packets: 0,
            lost: 0,
            truncated: false,
        })
    }

    /// Channels of the stream, 1 or 2.
    pub fn channels(&self) -> u8 {
        self.head.channels
    }

    /// Samples at 48 kHz that a decoder throws away at the beginning (RFC 7845 §4.2).
    pub fn pre_skip(&self) -> u16 {
        self.head.pre_skip
    }

    /// Packets of which a part was missing: they were left out.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether the file ended in the middle of a page, as after a crash of its writer. What
    /// came before was read.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Reads the next packet; `None` at the end of the file.
    ///
    /// # Errors
    /// A damaged page, a packet that is no Opus packet, or the system's error. Do not go on
    /// after one.
    pub fn read_packet(&mut self) -> Result<Option<OpusPacket>, OggOpusReadError> {
        loop {
            while self.segment < self.page.lacing.len() {
                if let Some(data) = self.next_packet_of_page()? {
                    let samples = opus_packet_samples(&data)
                        .ok_or(OggOpusReadError::BadPacket { index: self.packets })?;
                    self.packets += 1;
                    return Ok(Some(OpusPacket { data: data.into(), samples }));
                }
            }
            if self.page.flags & LAST != 0 && self.page.serial == self.serial {
                self.awaiting = Awaiting::Head;
            }
            match Page::read(&mut self.input, &mut self.offset) {
                Ok(Some(page)) => self.enter(page)?,
                Ok(None) => return Ok(None),
                Err(PageError::Truncated) => {
                    self.truncated = true;
                    return Ok(None);
                }
                Err(PageError::Damaged) => {
                    return Err(OggOpusReadError::Damaged { offset: self.offset });
                }
                Err(PageError::Io(error)) => return Err(error.into()),
            }
        }
    }

    /// Makes `page` the current one, if it belongs to the stream.
    fn enter(&mut self, page: Page) -> Result<(), OggOpusReadError> {
        (self.segment, self.start) = (0, 0);
        let is_head = page.flags & FIRST != 0 && page.body.starts_with(b"OpusHead");
        if self.awaiting == Awaiting::Head && is_head {
            self.head = OpusHead::parse(&page.body)?;
            self.serial = page.serial;
            self.awaiting = Awaiting::Tags;
            self.partial = Partial::None;
            self.segment = page.lacing.len();
        } else if page.serial != self.serial || self.awaiting == Awaiting::Head {
            self.segment = page.lacing.len();
        } else {
            let continued = page.flags & CONTINUED != 0;
            match (&self.partial, continued) {
                (Partial::None, true) => {
                    self.lost += 1;
                    self.partial = Partial::Skipped;
                }
                (Partial::Data(_), false) => {
                    self.lost += 1;
                    self.partial = Partial::None;
                }
                (Partial::Skipped, false) => self.partial = Partial::None,
                _ => {}
            }
        }
        self.page = page;
        Ok(())
    }

    /// Takes segments up to the end of a packet, or of the page.
    fn next_packet_of_page(&mut self) -> Result<Option<Vec<u8>>, OggOpusReadError> {
        let mut end = self.start;
        let mut complete = false;
        while !complete && self.segment < self.page.lacing.len() {
            let length = self.page.lacing[self.segment];
            end += usize::from(length);
            self.segment += 1;
            complete = length < 255;
        }
        let data = &self.page.body[self.start..end];
        self.start = end;

        if self.awaiting == Awaiting::Tags {
            return self.take_tags(complete, data.starts_with(b"OpusTags")).map(|()| None);
        }
        let mut whole = match std::mem::replace(&mut self.partial, Partial::None) {
            Partial::Skipped => {
                if !complete {
                    self.partial = Partial::Skipped;
                }
                return Ok(None);
            }
            Partial::None => Vec::new(),
            Partial::Data(begun) => begun,
        };
        if whole.len() + data.len() > MAX_PACKET {
            return Err(OggOpusReadError::BadPacket { index: self.packets });
        }
        whole.extend_from_slice(data);
        if complete {
            return Ok(Some(whole));
        }
        self.partial = Partial::Data(whole);
        Ok(None)
    }

    /// Skips the comment header: it may hold a picture of megabytes.
    fn take_tags(&mut self, complete: bool, has_magic: bool) -> Result<(), OggOpusReadError> {
        if matches!(self.partial, Partial::None) && !has_magic {
            return Err(OggOpusReadError::NoTags);
        }
        if complete {
            self.awaiting = Awaiting::Audio;
            self.partial = Partial::None;
        } else {
            self.partial = Partial::Skipped;
        }
        Ok(())
    }
}

impl OpusHead {
    fn parse(head: &[u8]) -> Result<Self, OggOpusReadError> {
        let bad = |reason| Err(OggOpusReadError::BadHead { reason });
        if head.len() < HEAD {
            return bad("it is shorter than 19 bytes");
        }
        // Minor versions are compatible (RFC 7845 §5.1).
        if head[8] >> 4 != 0 {
            return bad("its version is not 1");
        }
        let (channels, family) = (head[9], head[18]);
        match (channels, family) {
            (0, _) => bad("it has no channels"),
            (1 | 2, 0) => Ok(Self { channels, pre_skip: u16::from_le_bytes([head[10], head[11]]) }),
            _ => Err(OggOpusReadError::TooManyChannels { channels, family }),
        }
    }
}

/// Keeps the first bytes that are read, to tell what they look like.
struct Prefixed<R> {
    taken: Vec<u8>,
    input: R,
}

impl<R: Read> Read for Prefixed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        let room = 16_usize.saturating_sub(self.taken.len());
        self.taken.extend_from_slice(&buffer[..count.min(room)]);
        Ok(count)
    }
}

fn codec(body: &[u8]) -> &'static str {
    const CODECS: [(&[u8], &str); 6] = [
        (b"\x01vorbis", "Vorbis"),
        (b"\x80theora", "Theora"),
        (b"Speex   ", "Speex"),
        (b"\x7fFLAC", "FLAC"),
        (b"OVP80", "VP8"),
        (b"fishead\0", "a skeleton"),
    ];
    let known = CODECS.iter().find(|(magic, _)| body.starts_with(magic));
    known.map_or("an unknown codec", |(_, name)| name)
}
