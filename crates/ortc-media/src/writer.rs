use std::io::Write;
use std::time::Duration;

use crate::OggOpusWriteError;
use crate::opus::{concealment, opus_packet_samples};
use crate::page::{FIRST, LAST, Page};

/// Media on one page: 480 ms. RFC 7845 §6 wants at most a second, a crash should cost less,
/// and a page has 27 bytes of header.
const PAGE_SAMPLES: u64 = 23_040;

/// A packet this far (5 s) before its turn was not late on the network: the sender's clock
/// has been set back.
const MAX_LATE: u64 = 5 * 48_000;

/// Longest packet that is written: it has to fit on one page.
const MAX_PACKET: usize = 61_440;

/// How a recording is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OggOpusConfig {
    /// Channels that players should play, 1 or 2. Opus packets of either kind can be in
    /// either file (RFC 7845 §5.1); RTP announces 2 and mostly carries 1. Default 1.
    pub channels: u8,
    /// Samples at 48 kHz to throw away at the beginning, for the decoder to settle
    /// (RFC 7845 §4.2). Default 312, the look-ahead of common encoders.
    pub pre_skip: u16,
    /// Sample rate of what was encoded, in Hz: told to players, used for nothing. Default 48000.
    pub input_sample_rate: u32,
    /// Number of the stream in the file; any will do where there is only one. Default 1.
    pub serial: u32,
    /// Longest gap that is filled. What is longer is taken for a jump of the sender's clock,
    /// so that one packet cannot make a file of any size. Default one minute, about 6 kB.
    pub max_gap: Duration,
}

impl Default for OggOpusConfig {
    fn default() -> Self {
        Self {
            channels: 1,
            pre_skip: 312,
            input_sample_rate: 48_000,
            serial: 1,
            max_gap: Duration::from_secs(60),
        }
    }
}

/// What went into a recording, and what did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OggOpusCounts {
    /// Packets that were given and written.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Samples at 48 kHz in the file, filled ones included.
    pub samples: u64,
    /// Samples of gaps that were filled.
    pub filled: u64,
    /// Packets not written: their time had passed.
    pub late: u64,
    /// Packets not written: no Opus packets, or too long.
    pub malformed: u64,
    /// Jumps of the sender's clock; the file goes on without a gap there.
    pub jumps: u64,
}

/// Writes Opus packets into an Ogg file as they arrive (RFC 7845).
///
/// Every packet has a media time, and the file keeps it: where packets are missing (lost, or
/// not sent in silence), it holds packets without frame data, which a decoder conceals
/// (RFC 6716 §3.2.1, §4.4). A page is written every 480 ms of media, each in one piece, so
/// whatever kills the process leaves a file that plays.
///
/// Packets are expected in order, as a [`ReorderBuffer`](crate::ReorderBuffer) hands them
/// out; one whose time has passed is dropped and counted.
#[derive(Debug)]
pub struct OggOpusWriter<W> {
    output: W,
    /// Whole pages: the headers, until they go out with the first one of sound, so that nobody sees
    /// a file without any.
    unwritten: Vec<u8>,
    max_gap: u64,
    page: Page,
    page_samples: u64,
    /// The media time at which the file begins, wrapping.
    base: Option<u64>,
    /// The first byte of the last packet: a gap is filled with its like.
    toc: u8,
    counts: OggOpusCounts,
}

impl<W: Write> OggOpusWriter<W> {
    /// Begins a file. Its headers are written with the first page.
    ///
    /// # Errors
    /// A number of channels other than 1 and 2.
    pub fn new(output: W, config: OggOpusConfig) -> Result<Self, OggOpusWriteError> {
        if !(1..=2).contains(&config.channels) {
            return Err(OggOpusWriteError::Channels(config.channels));
        }
        let page = Page {
            flags: FIRST,
            granule: 0,
            serial: config.serial,
            sequence: 0,
            lacing: Vec::new(),
            body: Vec::new(),
        };
        let mut writer = Self {
            output,
            unwritten: Vec::new(),
            max_gap: config.max_gap.as_secs().saturating_mul(48_000)
                + u64::from(config.max_gap.subsec_millis()) * 48,
            page,
            page_samples: 0,
            base: None,
            toc: 0,
            counts: OggOpusCounts::default(),
        };

        let mut head = b"OpusHead\x01".to_vec();
        head.push(config.channels);
        head.extend_from_slice(&config.pre_skip.to_le_bytes());
        head.extend_from_slice(&config.input_sample_rate.to_le_bytes());
        head.extend_from_slice(&[0, 0, 0]); // no gain, mapping family 0
        writer.page.push_packet(&head);
        writer.turn_page();

        let vendor = concat!("ortc-media ", env!("CARGO_PKG_VERSION"));
        let mut tags = b"OpusTags".to_vec();
        tags.extend_from_slice(&(vendor.len() as u32).to_le_bytes());
        tags.extend_from_slice(vendor.as_bytes());
        tags.extend_from_slice(&0_u32.to_le_bytes());
        writer.page.push_packet(&tags);
        writer.turn_page();
        Ok(writer)
    }

    /// Appends a packet that belongs at `media_time`, in samples at 48 kHz from any origin.
    ///
    /// The first packet begins the file. What is no Opus packet, or comes too late, is dropped
    /// and counted: it came from the network.
    ///
    /// # Errors
    /// The system's, when a page cannot be written.
    pub fn write(&mut self, media_time: u64, packet: &[u8]) -> std::io::Result<()> {
        let samples = match opus_packet_samples(packet) {
            Some(samples) if packet.len() <= MAX_PACKET => u64::from(samples),
            _ => {
                self.counts.malformed += 1;
                return Ok(());
            }
        };
        let position = self.counts.samples;
        let base = *self.base.get_or_insert(media_time);
        // Both are modulo 2^64, so their distance has a sign.
        let ahead = media_time.wrapping_sub(base).wrapping_sub(position) as i64;
        if ahead < -(MAX_LATE as i64) || ahead > self.max_gap.min(i64::MAX as u64) as i64 {
            self.base = Some(media_time.wrapping_sub(position));
            self.counts.jumps += 1;
        } else if ahead <= -(samples as i64) {
            self.counts.late += 1;
            return Ok(());
        } else if ahead > 0 {
            self.fill(ahead as u64)?;
        }
        self.toc = packet[0];
        self.counts.packets += 1;
        self.counts.bytes += packet.len() as u64;
        self.append(packet, samples)
    }

    /// Writes what has been gathered of a page: for a sender that has fallen silent.
    ///
    /// # Errors
    /// The system's.
    pub fn flush(&mut self) -> std::io::Result<()> {
        if self.page.lacing.is_empty() {
            return Ok(());
        }
        self.end_page()
    }

    /// Ends the stream and gives the output back.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> std::io::Result<W> {
        // Possibly without a packet: RFC 3533 §6 allows an empty page to carry the mark.
        self.page.flags |= LAST;
        self.end_page()?;
        Ok(self.output)
    }

    /// What was written and dropped so far.
    pub fn counts(&self) -> OggOpusCounts {
        self.counts
    }

    /// Fills a gap as far as whole frames go; the rest, less than a frame, stays owed and
    /// counts in the next gap.
    fn fill(&mut self, mut gap: u64) -> std::io::Result<()> {
        while let Some((toc, samples)) = concealment(self.toc, gap) {
            let samples = u64::from(samples);
            self.append(&[toc], samples)?;
            self.counts.filled += samples;
            gap -= samples;
        }
        Ok(())
    }

    fn append(&mut self, packet: &[u8], samples: u64) -> std::io::Result<()> {
        if !self.page.push_packet(packet) {
            self.end_page()?;
            let fits = self.page.push_packet(packet);
            debug_assert!(fits, "MAX_PACKET fits on an empty page");
        }
        self.counts.samples += samples;
        self.page_samples += samples;
        self.page.granule = self.counts.samples;
        if self.page_samples >= PAGE_SAMPLES {
            self.end_page()?;
        }
        Ok(())
    }

    fn end_page(&mut self) -> std::io::Result<()> {
        self.turn_page();
        self.output.write_all(&std::mem::take(&mut self.unwritten))?;
        self.output.flush()
    }

    /// Ends a page, behind those that are yet to be written.
    fn turn_page(&mut self) {
        self.unwritten.extend(self.page.encode());
        self.page.flags = 0;
        self.page.sequence = self.page.sequence.wrapping_add(1);
        self.page.lacing.clear();
        self.page.body.clear();
        self.page_samples = 0;
    }
}
