//! What is fuzzed: functions of bytes that hold for every input, one target a file.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; `tests/corpus.rs` replays what is in `corpus`.
//! The README beside this has the steps to add one.
#![forbid(unsafe_code)]

mod dice;
mod targets;

pub use dice::Dice;

/// One thing that is fuzzed.
#[derive(Debug)]
pub struct Target {
    /// Its name, which is that of its directory in `corpus`.
    pub name: &'static str,
    /// Takes any input. It panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "candidate", run: targets::candidate::run },
    Target { name: "consent", run: targets::consent::run },
    Target { name: "description", run: targets::description::run },
    Target { name: "diagnosis", run: targets::diagnosis::run },
    Target { name: "dtls", run: targets::dtls::run },
    Target { name: "ext_headers", run: targets::ext_headers::run },
    Target { name: "fingerprint", run: targets::fingerprint::run },
    Target { name: "frames", run: targets::frames::run },
    Target { name: "ice_agent", run: targets::ice_agent::run },
    Target { name: "ice_server", run: targets::ice_server::run },
    Target { name: "jitter", run: targets::jitter::run },
    Target { name: "matroska", run: targets::matroska::run },
    Target { name: "link_names", run: targets::link_names::run },
    Target { name: "layers", run: targets::layers::run },
    Target { name: "media_file", run: targets::media_file::run },
    Target { name: "opus", run: targets::opus::run },
    Target { name: "paths", run: targets::paths::run },
    Target { name: "redundancy", run: targets::redundancy::run },
    Target { name: "rtcp", run: targets::rtcp::run },
    Target { name: "rtp", run: targets::rtp::run },
    Target { name: "session", run: targets::session::run },
    Target { name: "signalling", run: targets::signalling::run },
    Target { name: "srtp", run: targets::srtp::run },
    Target { name: "stream_frames", run: targets::stream_frames::run },
    Target { name: "telephone_event", run: targets::telephone_event::run },
    Target { name: "tone_detector", run: targets::tone_detector::run },
    Target { name: "tone_queue", run: targets::tone_queue::run },
    Target { name: "tone_receiver", run: targets::tone_receiver::run },
    Target { name: "turn_client", run: targets::turn_client::run },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
