//! DTMF
#![forbid(unsafe_code)]

mod clock;
mod decimator;
mod detector;
mod digit;
mod event;
mod g711;
mod gateway;
mod generator;
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
pub use packet::EventPacket;
pub use queue::{
    InsertDtmfError, PlayError, RedundancyConfig, ToneEvent, ToneOutput, ToneQueue, ToneQueueConfig,
};
pub use receiver::{ReceivedPacket, ToneReceiver, ToneReceiverConfig, ToneReceiverCounts};
pub use redundancy::{RedundancyError, RedundantBlock, decode_redundant, encode_redundant};
pub use report::{EndReason, ReceivedTone, ToneReport, ToneSource};
pub use tone::DTMFTone;
