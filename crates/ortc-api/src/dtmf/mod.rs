//! Telephone keys: draft A's `DTMFMediaStreamTrack` and draft B's `RTCDTMFHandler`, two faces of
//! one engine.

mod add;
mod engine;
mod events;
mod handler;
mod in_band;
mod receiving;
mod sending;
mod track;

pub(crate) use engine::{ToneTasks, Tones};
pub use events::{
    DTMFTrackEvent, DTMFTrackEventKind, DTMFTrackEvents, RTCDTMFEvent, RTCDTMFEventKind,
    RTCDTMFEvents,
};
pub use handler::{DtmfContainer, RTCDTMFHandler};
pub(crate) use receiving::{ToneReception, ToneRoutes};
pub(crate) use sending::{Attachment, Sent};
pub use track::{DTMFMediaStreamTrack, IntoTones};

use ortc_dtmf::{InsertDtmfError, PlayError};

/// Why keys were not pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToneError {
    /// These keys are those of the peer.
    #[error("this end receives tones, and sends none")]
    ReceivesOnly,
    /// The track that they were sent with is not sent any more, or its connection is closed.
    #[error("the audio track of the tones is not sent any more")]
    Closed,
    /// The tones are not those of draft B.
    #[error(transparent)]
    Insert(#[from] InsertDtmfError),
    /// The tones cannot be played.
    #[error(transparent)]
    Play(#[from] PlayError),
}

/// A handler was set for the tones of a peer where there are none to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this end sends tones, and receives none")]
pub struct SendsOnly;

/// Why [`add_dtmf_handler`](crate::RTCConnection::add_dtmf_handler) returned no handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddDtmfError {
    /// There is no audio track in the container, or none at all that is sent.
    #[error("there is no sending audio track: add a stream with one first")]
    NoAudioTrack,
    /// The track of the container is not sent by this connection.
    #[error("the track is not sent by this connection: add its stream first")]
    NotSent,
    /// All payload types of the track are taken.
    #[error("the track has a codec for each payload type already")]
    NoPayloadType,
    /// The audio track has the tones of another `DTMFMediaStreamTrack`.
    #[error("the audio track has the tones of another track already")]
    Taken,
    /// Commands come faster than they are carried out.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}
