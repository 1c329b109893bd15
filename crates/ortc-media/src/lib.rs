//! Media files for real-time peers.
//!
//! # Playing
//!
//! [`open`] tells what a file is by its content and hands out a [`MediaReader`], whose frames
//! go into a packetizer as they are, each with its time; [`Pacer`] says when each is due. A file of
//! several tracks has a reader for each of them: [`open_all`]. Where there is no file, [`Tone`] and [`ColourBars`] are readers without end.
//!
//! # Recording
//!
//! [`create`] begins a file for a [`MediaFormat`] and hands out a [`MediaWriter`], which takes
//! frames as they arrive, in order ([`ReorderBuffer`] puts Opus packets back into theirs). The
//! file is as long as what was said: gaps of sound are filled, pictures keep their times. Sound and
//! pictures that belong together go into one file by [`MatroskaWriter`], each frame at its time. A
//! crash costs half a second.
//!
//! | format | file | reader | writer |
//! |---|---|---|---|
//! | Opus | Ogg (RFC 7845) | [`OggOpusReader`] | [`OggOpusWriter`] |
//! | A-law, µ-law | WAV | [`WavReader`], from PCM of any usual rate as well | [`WavWriter`] |
//! | VP8, VP9, AV1 | IVF | [`IvfReader`] | [`IvfWriter`] |
//! | H.264 | byte stream (Annex B) | [`AnnexBReader`] | [`AnnexBWriter`] |
//! | several tracks of Opus, VP8, VP9, AV1 | WebM | [`MatroskaReader`] | [`MatroskaWriter`] |
//! | and of A-law, µ-law, H.264 | Matroska (RFC 9559) | [`MatroskaReader`] | [`MatroskaWriter`] |
//!
//! Everything here is synchronous and pure: no clock, no thread, no runtime, and no other
//! crate of ORTC. Nothing but PCM is decoded or encoded, so a recording holds exactly the
//! frames that were sent.
//!
//! ```
//! use ortc_media::{ColourBars, IvfReader, IvfWriter, MediaFormat, MediaReader, MediaWriter};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut bars = ColourBars::new(640, 360, 30);
//! let file = std::io::Cursor::new(Vec::new());
//! let mut writer = IvfWriter::new(file, MediaFormat::Vp8).expect("IVF holds VP8");
//! for _ in 0..30 {
//!     let frame = bars.frame();
//!     writer.write(frame.timestamp, &frame.data)?;
//! }
//! let file = writer.into_inner()?.into_inner();
//!
//! let mut reader = IvfReader::new(file.as_slice())?;
//! let mut time = 0;
//! while let Some(frame) = reader.next_frame()? {
//!     time += frame.duration;
//! }
//! assert_eq!((reader.size(), time), ((640, 360), 90_000));
//! # Ok(())
//! # }
//! ```
//!
//! Sound with a gap:
//!
//! ```
//! use ortc_media::{OggOpusConfig, OggOpusReader, OggOpusWriter};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut writer = OggOpusWriter::new(Vec::new(), OggOpusConfig::default())?;
//! writer.write(0, &[0x78, 1, 2, 3])?; // 20 ms
//! writer.write(1920, &[0x78, 4, 5, 6])?; // 20 ms are missing: they are filled
//! let file = writer.finish()?;
//!
//! let mut reader = OggOpusReader::new(file.as_slice())?;
//! let mut samples = 0;
//! while let Some(packet) = reader.read_packet()? {
//!     samples += packet.samples;
//! }
//! assert_eq!(samples, 3 * 960);
//! # Ok(())
//! # }
//! ```
//!
//! Left out on purpose: seeking, tags, multichannel streams (RTP's Opus has one or two
//! channels, RFC 7587), and cutting the padding off a file's last packet: packets are sent
//! whole.

#![forbid(unsafe_code)]

mod annexb;
mod bars;
mod ebml;
mod error;
mod frame;
mod g711;
mod ivf;
mod matroska;
mod open;
mod opus;
mod pacer;
mod page;
mod reader;
mod reorder;
mod resample;
mod sniff;
mod tone;
mod video;
mod vp8;
mod wav;
mod writer;

pub use annexb::{AnnexBReader, AnnexBWriter};
pub use bars::ColourBars;
pub use error::{MediaReadError, OggOpusReadError, OggOpusWriteError};
pub use frame::{MediaCounts, MediaFormat, MediaFrame, MediaReader, MediaWriter};
pub use g711::Law;
pub use ivf::{IvfReader, IvfWriter};
pub use matroska::{
    Container, MatroskaCounts, MatroskaFrame, MatroskaReader, MatroskaTrack, MatroskaTrackError,
    MatroskaWriter,
};
pub use open::{OpenError, OpenOptions, create, open, open_all, open_stream};
pub use opus::opus_packet_samples;
pub use pacer::{Pacer, Slot};
pub use reader::{OggOpusReader, OpusPacket};
pub use reorder::{ReorderBuffer, ReorderCounts};
pub use tone::Tone;
pub use wav::{WavReader, WavWriter};
pub use writer::{OggOpusConfig, OggOpusCounts, OggOpusWriter};
