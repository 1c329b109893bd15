//! Consent of settled paths, kept on the media thread; see [`ortc_io::consent`].

use std::time::Instant;

use ortc_io::consent::{CONSENT_BUFFER, ConsentVerdict};
use ortc_io::{ConnectionId, ConsentDelegation, DatagramIo, FlightDirection, Path};

use crate::ForwarderEvent;
use crate::plane::Plane;

impl Plane {
    pub(crate) fn delegate_consent(
        &mut self,
        now: Instant,
        id: ConnectionId,
        delegation: &ConsentDelegation,
    ) {
        // ICE has heard, or will hear, why not, if the connection does not send there.
        if self.paths.sending_path(id) == Some(delegation.path) {
            self.consent.delegate(now, id, delegation);
            // ICE has settled: each would be remembered until it asks again.
            self.paths.forget_requests(id);
            self.tell_of_consent();
        } else {
            self.stats.stale_commands += 1;
        }
    }

    /// Has ICE take over where a connection does not send any more.
    pub(crate) fn review_consent(&mut self, id: ConnectionId) {
        self.consent.review(id, self.paths.sending_path(id));
        self.tell_of_consent();
    }

    pub(crate) fn tell_of_consent(&mut self) {
        while let Some((id, event)) = self.consent.poll_event() {
            self.outbox.push(ForwarderEvent::Socket(id, event));
        }
    }

    /// Takes a STUN datagram that is settled consent; returns whether it was.
    pub(crate) fn take_consent(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
        io: &mut impl DatagramIo,
    ) -> bool {
        let Some(id) = self.paths.route(now, path) else { return false };
        let mut buffer = CONSENT_BUFFER;
        match self.consent.handle(now, id, path, datagram, &mut buffer) {
            // Noted by whoever takes it.
            ConsentVerdict::Pass => return false,
            ConsentVerdict::Done => {
                self.record(now, id, FlightDirection::In, path, datagram);
                self.tell_of_consent();
            }
            ConsentVerdict::Answer(len) => {
                self.record(now, id, FlightDirection::In, path, datagram);
                self.record(now, id, FlightDirection::Out, path, &buffer[..len]);
                self.send_consent(path, &buffer[..len], io);
            }
        }
        true
    }

    /// Sends all requests that are due: in one batch, with all else that leaves in this turn.
    pub(crate) fn ask_for_consent(&mut self, now: Instant, io: &mut impl DatagramIo) {
        let mut buffer = CONSENT_BUFFER;
        while let Some((path, len)) = self.consent.poll_request(now, &mut buffer) {
            if self.flight.is_some()
                && let Some(id) = self.paths.route(now, path)
            {
                self.record(now, id, FlightDirection::Out, path, &buffer[..len]);
            }
            self.send_consent(path, &buffer[..len], io);
        }
        self.tell_of_consent();
    }

    fn send_consent(&mut self, path: Path, datagram: &[u8], io: &mut impl DatagramIo) {
        if self.outgoing.push_copy_on(path, datagram) {
            return;
        }
        self.flush(io);
        if !self.outgoing.push_copy_on(path, datagram) {
            self.stats.send_dropped += 1;
        }
    }
}
