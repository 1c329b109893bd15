//! RIFF/WAVE files: read as G.711, whatever they hold, and G.711 written.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::g711::Law;
use crate::resample::Resampler;
use crate::{MediaCounts, MediaFormat, MediaFrame, MediaReadError, MediaReader, MediaWriter};

/// Samples of a frame: 20 ms (RFC 3551 §4.2).
const FRAME: usize = 160;

const PCM: u16 = 1;
const ALAW: u16 = 6;
const ULAW: u16 = 7;
const EXTENSIBLE: u16 = 0xfffe;

/// Longest chunk before the sound that is skipped: pictures in tags have megabytes.
const MAX_SKIPPED: u32 = 64 << 20;

impl Law {
    fn format(self) -> MediaFormat {
        match self {
            Self::Alaw => MediaFormat::Alaw,
            Self::Ulaw => MediaFormat::Ulaw,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Samples {
    Pcm8,
    Pcm16,
    G711(Law),
}

impl Samples {
    fn bytes(self) -> usize {
        if self == Self::Pcm16 { 2 } else { 1 }
    }
}

/// Reads a WAV file as frames of G.711, 20 ms each.
///
/// It takes PCM of 8 or 16 bits and G.711, one or two channels (mixed down), at 8, 11.025, 16,
/// 22.05, 24, 32, 44.1, 48 or 96 kHz. G.711 at 8 kHz, mono, is handed out as it stands if its
/// own law is asked for. The last frame is filled up with silence.
#[derive(Debug)]
pub struct WavReader<R> {
    input: R,
    law: Law,
    samples: Samples,
    channels: usize,
    /// Bytes of sound that are left; `None` when the writer did not say.
    left: Option<u64>,
    /// Whether codes go out as they stand; else sound goes through the resampler.
    verbatim: bool,
    resampler: Resampler,
    codes: Vec<u8>,
    timestamp: u64,
    ended: bool,
}

impl<R: Read> WavReader<R> {
    /// Reads up to the sound. Frames are of `law`; by default of the file's own, and µ-law
    /// for PCM.
    ///
    /// # Errors
    /// [`MediaReadError::Wav`] says what cannot be read.
    pub fn new(mut input: R, law: Option<Law>) -> Result<Self, MediaReadError> {
        let bad = |reason: String| Err(MediaReadError::Wav { reason });
        let mut head = [0; 12];
        read_exact(&mut input, &mut head)?;
        if &head[..4] != b"RIFF" || &head[8..] != b"WAVE" {
            return bad("it does not begin as one".into());
        }
        let mut format = None;
        let left = loop {
            let mut head = [0; 8];
            read_exact(&mut input, &mut head)?;
            let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            match &head[..4] {
                // Zero, or all ones: the writer was killed, or wrote into a pipe.
                b"data" => {
                    break Some(u64::from(len)).filter(|&len| len != 0 && len != 0xffff_ffff);
                }
                b"fmt " if (16..=64).contains(&len) => {
                    let mut body = [0; 64];
                    read_exact(&mut input, &mut body[..len as usize])?;
                    format = Some(body);
                    skip(&mut input, len & 1)?;
                }
                // Chunks begin at even offsets.
                _ if len <= MAX_SKIPPED => skip(&mut input, len + (len & 1))?,
                _ => return bad(format!("it has a chunk of {len} bytes before its sound")),
            }
        };
        let Some(format) = format else { return bad("its format is not described".into()) };
        let word = |at: usize| u16::from_le_bytes([format[at], format[at + 1]]);
        let tag = if word(0) == EXTENSIBLE { word(24) } else { word(0) };
        let samples = match (tag, word(14)) {
            (PCM, 8) => Samples::Pcm8,
            (PCM, 16) => Samples::Pcm16,
            (ALAW, 8) => Samples::G711(Law::Alaw),
            (ULAW, 8) => Samples::G711(Law::Ulaw),
            (PCM, bits) => return bad(format!("PCM of {bits} bits; 8 or 16 can be read")),
            (tag, _) => {
                return bad(format!(
                    "its format has the number {tag}; PCM (1) and G.711 (6, 7) can be read"
                ));
            }
        };
        let channels = usize::from(word(2));
        if !(1..=2).contains(&channels) {
            return bad(format!("it has {channels} channels; one or two can be read"));
        }
        let rate = u32::from_le_bytes([format[4], format[5], format[6], format[7]]);
        let Some(resampler) = Resampler::new(rate) else {
            return bad(format!(
                "{rate} Hz; 8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000 and 96000 can be read"
            ));
        };
        let own = match samples {
            Samples::G711(own) => Some(own),
            _ => None,
        };
        let law = law.or(own).unwrap_or(Law::Ulaw);
        Ok(Self {
            input,
            law,
            samples,
            channels,
            left,
            verbatim: own == Some(law) && channels == 1 && rate == 8_000,
            resampler,
            codes: Vec::new(),
            timestamp: 0,
            ended: false,
        })
    }

    /// Reads a piece of the file and makes codes of it.
    fn fill(&mut self) -> Result<(), MediaReadError> {
        let block = self.channels * self.samples.bytes();
        let mut buffer = [0; 4096];
        let wanted = self.left.map_or(buffer.len() as u64, |left| left.min(buffer.len() as u64));
        let got = read_full(&mut self.input, &mut buffer[..wanted as usize])?;
        if let Some(left) = &mut self.left {
            *left -= got as u64;
        }
        self.ended = (got as u64) < wanted || self.left == Some(0) || got == 0;
        let bytes = &buffer[..got / block * block];
        if self.verbatim {
            self.codes.extend_from_slice(bytes);
            return Ok(());
        }
        let samples = self.samples;
        let sample = |bytes: &[u8]| match samples {
            Samples::Pcm8 => (f32::from(bytes[0]) - 128.0) * 256.0,
            Samples::Pcm16 => f32::from(i16::from_le_bytes([bytes[0], bytes[1]])),
            Samples::G711(law) => f32::from(law.decode(bytes[0])),
        };
        let mono: Vec<f32> = bytes
            .chunks_exact(block)
            .map(|block| {
                let sum: f32 = block.chunks_exact(samples.bytes()).map(sample).sum();
                sum / self.channels as f32
            })
            .collect();
        let mut out = Vec::new();
        self.resampler.push(&mono, &mut out);
        if self.ended {
            self.resampler.finish(&mut out);
        }
        // `as` saturates.
        self.codes.extend(out.into_iter().map(|sample| self.law.encode(sample.round() as i16)));
        Ok(())
    }
}

impl<R: Read + Send> MediaReader for WavReader<R> {
    fn format(&self) -> MediaFormat {
        self.law.format()
    }

    fn next_frame(&mut self) -> Result<Option<MediaFrame>, MediaReadError> {
        while self.codes.len() < FRAME && !self.ended {
            self.fill()?;
        }
        if self.codes.is_empty() {
            return Ok(None);
        }
        let mut data: Vec<u8> = self.codes.drain(..self.codes.len().min(FRAME)).collect();
        data.resize(FRAME, self.law.silence());
        let timestamp = self.timestamp;
        self.timestamp += FRAME as u64;
        Ok(Some(MediaFrame { data: data.into(), timestamp, duration: FRAME as u32, key: true }))
    }
}

/// Reads until `buffer` is full or the input ends.
pub(crate) fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn read_exact(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), MediaReadError> {
    if read_full(input, buffer)? == buffer.len() {
        return Ok(());
    }
    Err(MediaReadError::Wav { reason: "it ends before its sound".into() })
}

fn skip(input: &mut impl Read, len: u32) -> Result<(), MediaReadError> {
    io::copy(&mut input.take(u64::from(len)), &mut io::sink())?;
    Ok(())
}

/// Bytes before the sound in what is written.
const HEADER: usize = 58;
/// Longest file: its length has 32 bits, with room for the header.
const MAX_DATA: u64 = 0xffff_ffff - 64;
/// How much sound is written before the header is made to tell of it: half a second.
const SYNC: u64 = 4_000;
/// A frame this far before its turn was not late on the network, and a gap of more than this
/// was no silence: the sender's clock has jumped. Five seconds, and one minute.
const MAX_LATE: i64 = 5 * 8_000;
const MAX_GAP: i64 = 60 * 8_000;

/// Writes G.711 as it is received into a WAV file, as long as what was said: gaps are silence.
///
/// The header is brought up to date twice a second, so that a file whose writer was killed can
/// be read; it says all but at most the last half second.
#[derive(Debug)]
pub struct WavWriter<W> {
    output: W,
    law: Law,
    /// The timestamp at which the file begins, wrapping.
    base: Option<u64>,
    /// Samples that the header tells of.
    told: u64,
    counts: MediaCounts,
}

impl<W: Write + Seek> WavWriter<W> {
    /// Writes a header without any sound. The output has to be at its beginning.
    ///
    /// # Errors
    /// The system's.
    pub fn new(mut output: W, law: Law) -> io::Result<Self> {
        output.write_all(&header(law, 0))?;
        output.flush()?;
        Ok(Self { output, law, base: None, told: 0, counts: MediaCounts::default() })
    }

    /// Completes the header and gives the output back.
    ///
    /// # Errors
    /// The system's.
    pub fn into_inner(mut self) -> io::Result<W> {
        if self.counts.duration % 2 == 1 {
            self.output.write_all(&[0])?;
        }
        self.sync()?;
        Ok(self.output)
    }

    fn append(&mut self, codes: &[u8]) -> io::Result<()> {
        let room = MAX_DATA - self.counts.duration;
        let codes = &codes[..codes.len().min(room.try_into().unwrap_or(usize::MAX))];
        self.output.write_all(codes)?;
        self.counts.duration += codes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.told = self.counts.duration;
        self.output.seek(SeekFrom::Start(0))?;
        self.output.write_all(&header(self.law, self.told as u32))?;
        self.output.seek(SeekFrom::End(0))?;
        self.output.flush()
    }
}

impl<W: Write + Seek + Send> MediaWriter for WavWriter<W> {
    fn format(&self) -> MediaFormat {
        self.law.format()
    }

    fn write(&mut self, timestamp: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            self.counts.malformed += 1;
            return Ok(());
        }
        let position = self.counts.duration;
        let base = *self.base.get_or_insert(timestamp);
        // Both are modulo 2^64, so their distance has a sign.
        let ahead = timestamp.wrapping_sub(base).wrapping_sub(position) as i64;
        let mut data = data;
        if !(-MAX_LATE..=MAX_GAP).contains(&ahead) {
            self.base = Some(timestamp.wrapping_sub(position));
            self.counts.jumps += 1;
        } else if ahead > 0 {
            let silence = vec![self.law.silence(); ahead as usize];
            self.append(&silence)?;
            self.counts.filled += ahead as u64;
        } else if ahead < 0 {
            // What was filled, or came before, stays.
            let Some(rest) = data.get((-ahead) as usize..).filter(|rest| !rest.is_empty()) else {
                self.counts.late += 1;
                return Ok(());
            };
            data = rest;
        }
        self.append(data)?;
        self.counts.frames += 1;
        self.counts.bytes += data.len() as u64;
        if self.counts.duration - self.told >= SYNC { self.sync() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sync()
    }

    fn finish(self: Box<Self>) -> io::Result<MediaCounts> {
        let counts = self.counts;
        self.into_inner()?;
        Ok(counts)
    }

    fn counts(&self) -> MediaCounts {
        self.counts
    }
}

fn header(law: Law, samples: u32) -> [u8; HEADER] {
    let tag = match law {
        Law::Alaw => ALAW,
        Law::Ulaw => ULAW,
    };
    let mut header = [0; HEADER];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RIFF");
    put(4, &(samples + (samples & 1) + HEADER as u32 - 8).to_le_bytes());
    put(8, b"WAVEfmt ");
    put(16, &18u32.to_le_bytes());
    put(20, &tag.to_le_bytes());
    put(22, &1u16.to_le_bytes());
    put(24, &8_000u32.to_le_bytes());
    put(28, &8_000u32.to_le_bytes());
    put(32, &1u16.to_le_bytes());
    put(34, &8u16.to_le_bytes());
    put(38, b"fact");
    put(42, &4u32.to_le_bytes());
    put(46, &samples.to_le_bytes());
    put(50, b"data");
    put(54, &samples.to_le_bytes());
    header
}
