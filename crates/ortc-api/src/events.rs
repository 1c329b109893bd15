//! What a connection, and what it receives, tells its application.

use ortc_dtls::DtlsFailure;
use ortc_ice::{RTCIceCandidateDescription, ServerFailure};
use ortc_rtp::DisconnectReason;

use crate::dtmf::RTCDTMFHandler;
use crate::hub::{Event, Events};
use crate::media::MediaStream;
use crate::unknown::RTCUnknownTrack;

/// Unknown tracks that wait to be read of: twice what a connection keeps packets of.
const MAX_UNKNOWN_TRACKS: usize = 64;

/// One event of an [`RTCConnection`](crate::RTCConnection).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RTCEvent {
    /// A local candidate was found (drafts: `oncandidate`).
    Candidate(RTCIceCandidateDescription),
    /// A local candidate is gone, as [`update`](crate::RTCConnection::update) has found: an
    /// addition to the drafts. Tell the peer, or it goes on sending there for a while.
    CandidateWithdrawn(RTCIceCandidateDescription),
    /// All candidates of this gathering have been found (`onendofcandidates`).
    EndOfCandidates,
    /// The pair that the connection uses from now on (`onactivecandidate`); comes again when a
    /// better one is found.
    ActiveCandidate {
        /// Ours.
        local: RTCIceCandidateDescription,
        /// The peer's.
        remote: RTCIceCandidateDescription,
    },
    /// ICE has a path, DTLS has the peer's certificate, media may flow (`onconnected`).
    Connected,
    /// The peer cannot be reached, or never will be (`ondisconnected`).
    Disconnected(RTCDisconnectReason),
    /// A described track belongs to a stream that is new (`onaddstream`).
    AddStream(MediaStream),
    /// A described audio track has telephone keys (`onadddtmfhandler` of draft B).
    AddDtmfHandler(RTCDTMFHandler),
    /// The peer sends a track that nobody has described, or not yet (`onunknowntrack`). Only
    /// authenticated packets raise it; once for each track, and again when its pairs change. At
    /// most eight come in a second, and 64 wait for a reader.
    UnknownTrack(RTCUnknownTrack),
    /// What may be sent, in bits per second, all tracks and their headers together: an addition of
    /// ours. Comes when it has changed by 5 %, at most every half second, or fallen by 15 %; and
    /// not at all while the peer says nothing about what has come.
    Bandwidth(u64),
    /// A STUN or TURN server is of no use, or not any more: an addition of ours. The connection
    /// goes on without it.
    IceServerFailed {
        /// Its URI, as it was given.
        url: String,
        /// Why.
        reason: ServerFailure,
    },
}

/// Why a connection is disconnected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RTCDisconnectReason {
    /// No path works at the moment. Checks go on, and [`RTCEvent::Connected`] may come again.
    #[error("no path to the peer works")]
    PathLost,
    /// No path has been found in the time that
    /// [`connect_timeout`](crate::RTCConnectionOptions::connect_timeout) gives. Checks go on, and
    /// [`RTCEvent::Connected`] may still come.
    #[error("no path to the peer was found in time")]
    NoPath,
    /// The peer has closed the connection. Final.
    #[error("the peer has closed the connection")]
    ClosedByPeer,
    /// The peer could not be secured, or is not who was signalled. Final.
    #[error(transparent)]
    Security(#[from] DtlsFailure),
    /// Something in this process has failed. Final.
    #[error("the connection has failed: {0}")]
    Internal(&'static str),
}

impl RTCDisconnectReason {
    /// Whether the connection can never be connected again.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::PathLost | Self::NoPath)
    }
}

/// The kind of an [`RTCEvent`]: what an event handler is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RTCEventKind {
    /// [`RTCEvent::Candidate`].
    Candidate,
    /// [`RTCEvent::CandidateWithdrawn`].
    CandidateWithdrawn,
    /// [`RTCEvent::EndOfCandidates`].
    EndOfCandidates,
    /// [`RTCEvent::ActiveCandidate`].
    ActiveCandidate,
    /// [`RTCEvent::Connected`].
    Connected,
    /// [`RTCEvent::Disconnected`].
    Disconnected,
    /// [`RTCEvent::AddStream`].
    AddStream,
    /// [`RTCEvent::AddDtmfHandler`].
    AddDtmfHandler,
    /// [`RTCEvent::UnknownTrack`].
    UnknownTrack,
    /// [`RTCEvent::Bandwidth`].
    Bandwidth,
    /// [`RTCEvent::IceServerFailed`].
    IceServerFailed,
}

impl Event for RTCEvent {
    type Kind = RTCEventKind;

    fn kind(&self) -> RTCEventKind {
        match self {
            Self::Candidate(_) => RTCEventKind::Candidate,
            Self::CandidateWithdrawn(_) => RTCEventKind::CandidateWithdrawn,
            Self::EndOfCandidates => RTCEventKind::EndOfCandidates,
            Self::ActiveCandidate { .. } => RTCEventKind::ActiveCandidate,
            Self::Connected => RTCEventKind::Connected,
            Self::Disconnected(_) => RTCEventKind::Disconnected,
            Self::AddStream(_) => RTCEventKind::AddStream,
            Self::AddDtmfHandler(_) => RTCEventKind::AddDtmfHandler,
            Self::UnknownTrack(_) => RTCEventKind::UnknownTrack,
            Self::Bandwidth(_) => RTCEventKind::Bandwidth,
            Self::IceServerFailed { .. } => RTCEventKind::IceServerFailed,
        }
    }

    fn kept(&self) -> usize {
        // The only one that a peer can cause at will.
        if matches!(self, Self::UnknownTrack(_)) { MAX_UNKNOWN_TRACKS } else { usize::MAX }
    }

    fn of_kind(kind: RTCEventKind) -> Option<Self> {
        match kind {
            RTCEventKind::EndOfCandidates => Some(Self::EndOfCandidates),
            RTCEventKind::Connected => Some(Self::Connected),
            _ => None,
        }
    }

    fn is_state(&self) -> bool {
        !matches!(
            self,
            Self::Candidate(_)
                | Self::CandidateWithdrawn(_)
                | Self::AddStream(_)
                | Self::AddDtmfHandler(_)
                | Self::UnknownTrack(_)
                | Self::IceServerFailed { .. }
        )
    }
}

/// The events of an [`RTCConnection`](crate::RTCConnection).
pub type RTCEvents = Events<RTCEvent>;

/// One event of a received [`MediaStream`] or [`MediaStreamTrack`](crate::MediaStreamTrack).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaEvent {
    /// RTP has been received: of this track, or of the first track of this stream. Comes
    /// again after a disconnection.
    Connected,
    /// RTCP BYE or no RTP for a while: of this track, or of the last track of this stream.
    Disconnected(DisconnectReason),
}

/// The kind of a [`MediaEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaEventKind {
    /// [`MediaEvent::Connected`].
    Connected,
    /// [`MediaEvent::Disconnected`].
    Disconnected,
}

impl Event for MediaEvent {
    type Kind = MediaEventKind;

    fn kind(&self) -> MediaEventKind {
        match self {
            Self::Connected => MediaEventKind::Connected,
            Self::Disconnected(_) => MediaEventKind::Disconnected,
        }
    }

    fn is_state(&self) -> bool {
        true
    }
}

/// The events of a received stream or track.
pub type MediaEvents = Events<MediaEvent>;
