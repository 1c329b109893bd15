//! One target a file.

pub(crate) mod candidate;
pub(crate) mod description;
pub(crate) mod ext_headers;
pub(crate) mod fingerprint;
pub(crate) mod frames;
pub(crate) mod ice_server;
pub(crate) mod layers;
pub(crate) mod media_file;
pub(crate) mod opus;
pub(crate) mod redundancy;
pub(crate) mod rtcp;
pub(crate) mod rtp;
pub(crate) mod srtp;
pub(crate) mod telephone_event;
pub(crate) mod tone_detector;
pub(crate) mod tone_queue;
pub(crate) mod tone_receiver;
