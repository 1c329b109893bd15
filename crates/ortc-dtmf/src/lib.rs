//! DTMF without I/O: telephone events in RTP, tones in sound, and the way between them.
//!
//! | you have | you want | take |
//! |---|---|---|
//! | digits, or keys that are held | RTP packets (RFC 4733) | [`ToneQueue`] |
//! | RTP packets | digits, each once | [`ToneReceiver`] |
//! | digits | sound | [`ToneGenerator`] |
//! | sound | digits | [`ToneDetector`] |
//! | sound with tones | sound without, and digits | [`ToneExtractor`] |
//! | sound, and digits | sound with tones | [`ToneInserter`] |
//! | digits by packets and by sound | each once | [`ToneMerger`] |
//! | a payload | what it says | [`TelephoneEvent`], [`decode_redundant`] |
//!
//! All of them are plain structs: no socket, no thread, no clock and no randomness. Time is an
//! argument, what is due is polled out, and everything that grows has a bound. Nothing of ORTC is
//! needed; the commands and events are those of the ORTC drafts, draft A's
//! `DTMFMediaStreamTrack` and draft B's `RTCDTMFHandler`.
//!
//! # Sending
//!
//! A [`ToneQueue`] belongs to one RTP stream, and shares its SSRC, sequence numbers and clock with
//! the audio (RFC 4733 §2.1). It says what is to be sent and when; whoever owns the stream puts
//! the header on it. The loop of that owner:
//!
//! 1. Commands come at any time: [`insert_dtmf`](ToneQueue::insert_dtmf) replaces what waits,
//!    [`play`](ToneQueue::play) adds to it, [`tonestart`](ToneQueue::tonestart) and
//!    [`tonestop`](ToneQueue::tonestop) are a key that is held,
//!    [`flush`](ToneQueue::flush) stops everything.
//! 2. Each turn, poll [`poll_output`](ToneQueue::poll_output) until `None`: send the packets at
//!    once, with the next sequence number and their own timestamps; tell the events.
//! 3. With each frame of audio call [`audio_sent`](ToneQueue::audio_sent), so that timestamps of
//!    events are on the same clock, and drop the frame if
//!    [`is_audio_paused`](ToneQueue::is_audio_paused). Frames keep their own timestamps, so the
//!    audio goes on with the right one; a dropped frame takes no sequence number.
//! 4. Wake up at [`poll_timeout`](ToneQueue::poll_timeout), and ask again after each command.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use ortc_dtmf::{ToneOutput, ToneQueue, ToneQueueConfig};
//!
//! let mut now = Instant::now();
//! let mut queue = ToneQueue::new(ToneQueueConfig::new(48_000));
//! let mut sent = Vec::new();
//! // The audio has just sent a frame with this timestamp.
//! queue.audio_sent(now, 960_000);
//! queue.insert_dtmf(now, "5", None, None).unwrap();
//! loop {
//!     while let Some(output) = queue.poll_output(now) {
//!         if let ToneOutput::Packet(packet) = output {
//!             sent.push((packet.timestamp, packet.marker, packet.report.duration, packet.report.end));
//!         }
//!     }
//!     match queue.poll_timeout() {
//!         Some((due, _)) => now = due, // a real owner waits
//!         None => break,
//!     }
//! }
//! assert_eq!(sent[0], (960_000, true, 960, false));
//! assert_eq!(sent[4], (960_000, false, 3_840, false));
//! assert_eq!(sent[5..], [(960_000, false, 4_800, true); 3]);
//! ```
//!
//! A tone begins at the moment it is asked for, or when the gap of the one before is over, and
//! lasts exactly as long as asked: a caller that polls a little late sends late and changes
//! neither. It is reported every 20 ms, its end three times, 20 ms apart; the audio goes on after
//! the first of them. Events longer than the duration field, 1.4 s at 48 kHz, go on in segments.
//! With [`ToneQueueConfig::redundancy`] each packet repeats the events before it, as RFC 2198 has
//! it, and goes out with the payload type of `red`.
//!
//! Where a peer knows no telephone events, leave the packets alone, and let
//! [`ToneEvent::Began`] and [`ToneEvent::Ended`] start and stop a [`ToneGenerator`].
//!
//! # Receiving
//!
//! A [`ToneReceiver`] belongs to one SSRC. Give it each packet of `telephone-event`, those of
//! `red` by [`handle_redundant`](ToneReceiver::handle_redundant), and the sequence numbers of all
//! others by [`handle_other`](ToneReceiver::handle_other); after each, and at
//! [`poll_timeout`](ToneReceiver::poll_timeout), poll what it reports.
//!
//! ```
//! use std::time::Instant;
//! use ortc_dtmf::{ReceivedPacket, TelephoneEvent, ToneReceiver, ToneReceiverConfig, ToneReport};
//!
//! let mut receiver = ToneReceiver::new(ToneReceiverConfig::default());
//! let now = Instant::now();
//! receiver.handle_other(now, 99); // audio
//! // All that arrives of a tone is the last packet of its end.
//! let report = TelephoneEvent { event: 11, end: true, volume: 10, duration: 800 };
//! let packet = ReceivedPacket {
//!     sequence: 107,
//!     timestamp: 16_000,
//!     marker: false,
//!     clock_rate: 8_000,
//!     payload: &report.encode(),
//! };
//! receiver.handle_packet(now, &packet).unwrap();
//! // Something is missing before it, so it waits a moment for what may come late.
//! let (due, _) = receiver.poll_timeout().unwrap();
//! receiver.handle_timeout(due);
//! let Some(ToneReport::Ended(tone, _)) = receiver.poll_output().and(receiver.poll_output()) else {
//!     panic!("it is reported when it begins and when it ends")
//! };
//! assert_eq!((tone.digit().unwrap().to_char(), tone.duration.as_millis()), ('#', 100));
//! ```
//!
//! A key is known by the timestamp of its event, and nothing else is believed:
//!
//! - markers may be missing or everywhere, as Chromium has them when events of two rates are
//!   described beside Opus;
//! - any one packet is enough: without a beginning it begins where the duration says, without an
//!   end it ends [300 ms](ToneReceiverConfig::end_timeout) after the last packet, or with the next
//!   tone;
//! - duplicates and stragglers of the newest 128 events are recognised, up to five seconds and
//!   more after it has been reported, and are no other key;
//! - durations never go back; those in another clock than described are told by their pace;
//! - segments of a long event are one key, in whatever order they come;
//! - a peer that sets its clock back, or whose timestamps stand still, is heard all the same.
//!
//! Keys are reported in order. After a gap in the sequence numbers a beginning is held back for
//! [60 ms](ToneReceiverConfig::hold), as the gap may hold the key before; one that comes later
//! still is reported as [late](ReceivedTone::is_late). For a payload type that was not described
//! there is [`TelephoneEvent::is_likely_digit`].
//!
//! # Tones in sound
//!
//! [`ToneGenerator`] and [`ToneDetector`] work on samples of 16 bits at 8, 16, 24, 32 and 48 kHz,
//! and the detector on [`Law`]s of G.711 too. The detector keeps to ITU-T Q.24:
//!
//! | | taken | refused |
//! |---|---|---|
//! | frequencies off by | 1.5 % | 3.5 % |
//! | duration | 40 ms | 23 ms |
//! | pause | parts two tones: 40 ms | is part of one: 10 ms |
//! | level of each frequency | -25 dBm0 | -29 dBm0 |
//! | high frequency stronger by | 4 dB | 10 dB |
//! | low frequency stronger by | 8 dB | 12 dB |
//!
//! A tone is known within 55 ms of its beginning, and its end within 45 ms. Of 1,000 random tones
//! within those limits, in A-law, it misses none without noise or with noise 20 dB below the weaker
//! frequency, one at 15 and 12 dB, two at 9, and takes none for another. In 65 minutes of
//! synthetic speech of ten voices it finds no digit. (`examples/detector_figures.rs` measures both.)
//!
//! # Gateways
//!
//! [`ToneExtractor`] takes tones out of the sound of a line, and reports them as a
//! [`ToneReceiver`] would; [`ToneQueue::tonestart`] and [`tonestop`](ToneQueue::tonestop) send
//! them on. The sound comes out 70 ms late, so that a tone is gone from its very beginning:
//! whoever hears the sound and gets the events hears a digit once. [`ToneInserter`] is the other
//! way: it puts tones in place of the sound as a [`ToneReceiver`] reports them, long enough and
//! far enough apart for a line. Some peers send a tone as events and leave it in their sound: with
//! a [`ToneMerger`] behind a [`ToneReceiver`] and a [`ToneExtractor`], their keys are reported
//! once.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use ortc_dtmf::{
//!     Digit, ToneDetectorConfig, ToneExtractor, ToneGenerator, ToneInserter, ToneReport, ToneShape,
//! };
//!
//! # fn main() -> Result<(), ortc_dtmf::UnsupportedRate> {
//! let mut line = vec![0; 4_000];
//! let tone = ToneGenerator::new(8_000, ToneShape::default())?
//!     .tone(Digit::from_char('8').unwrap(), Duration::from_millis(100));
//! line[1_600..2_400].copy_from_slice(&tone);
//!
//! let mut extractor = ToneExtractor::new(8_000, ToneDetectorConfig::default())?;
//! let mut inserter = ToneInserter::new(8_000, ToneShape::default())?;
//! let mut digits = String::new();
//! for frame in line.chunks_mut(160) {
//!     extractor.process(Instant::now(), frame);
//!     assert!(frame.iter().all(|sample| *sample == 0), "the tone is gone");
//!     while let Some(report) = extractor.poll_output() {
//!         if let ToneReport::Began(tone) = report {
//!             digits.extend(tone.digit().map(Digit::to_char));
//!         }
//!         inserter.handle(&report); // as if it had gone over the network
//!     }
//!     inserter.process(frame);
//! }
//! assert_eq!(digits, "8");
//! assert!(line.iter().any(|sample| sample.abs() > 10_000), "and here again");
//! # Ok(())
//! # }
//! ```
//!
//! # Left out on purpose
//!
//! - RTP headers, SSRCs, sequence numbers, payload types: they are the stream's.
//! - The `telephone-tone` payload of RFC 4733 §4, and the meaning of events above 15: they are
//!   carried, and that is all.
//! - State events (RFC 4733 §2.3.5): a duration of nothing is one that is not known yet.
//! - Several events in a packet are read and not sent, as packets here are sent while the tone
//!   still sounds.
//! - Decoding anything but G.711.

#![forbid(unsafe_code)]

mod clock;
mod decimator;
mod detector;
mod digit;
mod event;
mod g711;
mod gateway;
mod generator;
mod merger;
mod packet;
mod pressed;
mod queue;
mod receiver;
mod redundancy;
mod report;
mod sounding;
mod spectrum;
#[cfg(test)]
mod testing;
mod tone;

pub use detector::{DetectedTone, Detection, ToneDetector, ToneDetectorConfig};
pub use digit::Digit;
pub use event::{TelephoneEvent, TelephoneEventError, segments};
pub use g711::Law;
pub use gateway::{ToneExtractor, ToneInserter};
pub use generator::{ToneGenerator, ToneShape, UnsupportedRate};
pub use merger::ToneMerger;
pub use packet::EventPacket;
pub use queue::{
    InsertDtmfError, PlayError, RedundancyConfig, ToneEvent, ToneOutput, ToneQueue, ToneQueueConfig,
};
pub use receiver::{ReceivedPacket, ToneReceiver, ToneReceiverConfig, ToneReceiverCounts};
pub use redundancy::{RedundancyError, RedundantBlock, decode_redundant, encode_redundant};
pub use report::{EndReason, ReceivedTone, ToneReport, ToneSource};
pub use tone::DTMFTone;
