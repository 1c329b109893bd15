//! `ortc call`: a headless peer that plays files and records what it receives.

mod channel;
mod keys;
mod new_file;
mod options;
mod player;
mod recorder;
mod session;
mod source;
mod stats;
mod stream;
mod stream_recorder;
mod summary;
mod tracks;
mod url;

pub use channel::{ChannelError, Incoming, SignalReceiver, SignalSender, connect};
pub use keys::ReceivedKey;
pub use options::{CallOptions, RecordAs};
pub use player::{Frame, PlayError, PlayOptions, Player, Progress};
pub use recorder::{RecordError, Recorder, Recording};
pub use session::{NotBegun, call};
pub use source::{PlaySource, PlaySourceError};
pub use stats::StatsLines;
pub use summary::{Ending, ReceivedTrack, SentTrack, Summary};
pub use url::{SignalUrl, SignalUrlError};
