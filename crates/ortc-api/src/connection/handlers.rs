//! The handlers that the drafts have as attributes, one for each event.

use ortc_ice::RTCIceCandidateDescription;

use super::RTCConnection;
use crate::dtmf::RTCDTMFHandler;
use crate::events::{RTCDisconnectReason, RTCEvent, RTCEventKind};
use crate::hub::Handler;
use crate::media::MediaStream;
use crate::unknown::RTCUnknownTrack;

macro_rules! event_handler {
    (
        $(#[$doc:meta])* $name:ident, $kind:ident,
        ($($argument:ty),*), $pattern:pat => ($($value:expr),*)
    ) => {
        impl RTCConnection {
            $(#[$doc])*
            ///
            /// Replaces the handler that was set before; `None` clears it. The first handler or
            /// listener of an event hears those as well that came before it. Handlers run on
            /// the control thread and must not block.
            pub fn $name<F>(&self, handler: Option<F>)
            where
                F: FnMut(&RTCConnection $(, $argument)*) + Send + 'static,
            {
                let handler = handler.map(|mut handler| -> Handler<Self, RTCEvent> {
                    Box::new(move |connection, event| {
                        if let $pattern = event {
                            handler(connection $(, $value)*);
                        }
                    })
                });
                self.set_handler(RTCEventKind::$kind, handler);
            }
        }
    };
}

event_handler!(
    /// Sets the handler of local candidates (ORTC drafts, "oncandidate").
    on_candidate, Candidate,
    (RTCIceCandidateDescription), RTCEvent::Candidate(candidate) => (candidate)
);
event_handler!(
    /// Sets the handler of local candidates that are gone: an addition to the drafts. What was
    /// found and is gone before anybody has heard of it is not told at all.
    on_candidate_withdrawn, CandidateWithdrawn,
    (RTCIceCandidateDescription), RTCEvent::CandidateWithdrawn(candidate) => (candidate)
);
event_handler!(
    /// Sets the handler of the end of gathering (ORTC drafts, "onendofcandidates").
    on_end_of_candidates, EndOfCandidates, (), RTCEvent::EndOfCandidates => ()
);
event_handler!(
    /// Sets the handler of the active pair, local and remote (ORTC drafts, "onactivecandidate").
    on_active_candidate, ActiveCandidate,
    (RTCIceCandidateDescription, RTCIceCandidateDescription),
    RTCEvent::ActiveCandidate { local, remote } => (local, remote)
);
event_handler!(
    /// Sets the handler of being connected (ORTC drafts, "onconnected").
    on_connected, Connected, (), RTCEvent::Connected => ()
);
event_handler!(
    /// Sets the handler of being disconnected (ORTC drafts, "ondisconnected").
    on_disconnected, Disconnected,
    (RTCDisconnectReason), RTCEvent::Disconnected(reason) => (reason)
);
event_handler!(
    /// Sets the handler of new streams of the peer (ORTC drafts, "onaddstream").
    on_add_stream, AddStream, (MediaStream), RTCEvent::AddStream(stream) => (stream)
);
event_handler!(
    /// Sets the handler of tracks that nobody has described, with the pairs that they tell of
    /// themselves (ORTC drafts, "onunknowntrack").
    on_unknown_track, UnknownTrack,
    (RTCUnknownTrack), RTCEvent::UnknownTrack(track) => (track)
);
event_handler!(
    /// Sets the handler of what may be sent, in bits per second: an addition to the drafts; see
    /// [`RTCEvent::Bandwidth`].
    on_bandwidth, Bandwidth, (u64), RTCEvent::Bandwidth(bits) => (bits)
);
event_handler!(
    /// Sets the handler of telephone keys of the peer, which
    /// [`receive_track`](Self::receive_track) of an audio track with a `dtmf` codec brings (ORTC
    /// draft B, "onadddtmfhandler").
    on_add_dtmf_handler, AddDtmfHandler,
    (RTCDTMFHandler), RTCEvent::AddDtmfHandler(handler) => (handler)
);
