//! What a call is asked for.

use std::path::PathBuf;
use std::time::Duration;

use ortc_api::{DtlsVersion, RTCIceServer};
use ortc_media::Container;

use super::player::PlayOptions;
use super::source::PlaySource;
use super::stats::StatsLines;
use super::url::SignalUrl;
use crate::tls::Authorities;

/// What a call is told to do.
#[derive(Debug, Clone, PartialEq)]
pub struct CallOptions {
    /// Whom to call: a room, or the other peer of a pair.
    pub signal: SignalUrl,
    /// By whom the certificate of that server is to be signed, if it has one.
    pub authorities: Authorities,
    /// What to play, each as a track; all belong to one stream and begin together.
    pub play: Vec<PlaySource>,
    /// How to play it.
    pub playing: PlayOptions,
    /// Where to record what is received.
    pub record: Option<PathBuf>,
    /// In which files.
    pub record_as: RecordAs,
    /// Which keys to press.
    pub dtmf: Option<String>,
    /// STUN and TURN servers to ask.
    pub ice_servers: Vec<RTCIceServer>,
    /// Whether to go through a TURN server in any case.
    pub relay_only: bool,
    /// Whether the other peer may connect over TCP. This one does in any case, if it is let.
    pub tcp: bool,
    /// Whether addresses of this host are hidden behind names of the link.
    pub mdns: bool,
    /// Whether addresses of a single link are used, too.
    pub link_local: bool,
    /// Whether keys are in the sound of tracks of G.711.
    pub dtmf_in_band: bool,
    /// How long to stay connected.
    pub duration: Option<Duration>,
    /// How often to restart ICE.
    pub restart_ice: Option<Duration>,
    /// Which DTLS is spoken.
    pub dtls: DtlsVersion,
    /// How many packets each packet of sound repeats (RFC 2198), 0 to 3.
    pub redundancy: u8,
    /// Whether to tell on stderr how it goes.
    pub progress: bool,
    /// Whether to tell of statistics while it lasts.
    pub stats: Option<StatsLines>,
}

/// In which files a call records what it receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecordAs {
    /// One for each track: what it is follows from the codec.
    #[default]
    Tracks,
    /// One for each stream, of this kind; Matroska where WebM does not have the codec.
    Streams(Container),
}
