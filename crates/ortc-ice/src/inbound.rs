//! What comes from the network: everything is refused until it is authenticated.

use std::time::Instant;

use is::stun::{Class, Method, StunMessage};
use ortc_io::consent::CheckEvent;
use ortc_io::{Encapsulation, Path};

use crate::description::Carrier;
use crate::engine::{Ends, Pace, verify};
use crate::transactions::TransactionId;
use crate::{IceAgent, IceState};

/// Most addresses that a peer may say it sees us under. One a socket is usual; symmetric
/// NATs make it one a pair.
const MAX_MAPPED: usize = 32;

/// The transaction identifier of a binding request of ours.
pub(crate) fn request_id(datagram: &[u8]) -> Option<TransactionId> {
    match datagram {
        [0x00, 0x01, ..] => transaction_id(datagram),
        _ => None,
    }
}

fn transaction_id(datagram: &[u8]) -> Option<TransactionId> {
    datagram.get(8..20)?.try_into().ok()
}

impl IceAgent {
    /// Takes a STUN datagram from the network.
    ///
    /// One that is malformed, unauthenticated, or of a socket whose candidate was not set is
    /// dropped and counted; it is never answered and changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        if self.state == IceState::Closed {
            return;
        }
        self.take_datagram(now, path, datagram);
        self.review_delegation(now);
    }

    fn take_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        if self.taken_by_servers(now, path, datagram) {
            return;
        }
        let Some(ends) = self.ends(path) else {
            self.stats.not_set += 1;
            return;
        };
        if self.paths.is_barred(path) {
            self.stats.barred += 1;
            return;
        }
        let (Ok(message), Some(id)) = (StunMessage::parse(datagram), transaction_id(datagram))
        else {
            self.stats.malformed += 1;
            return;
        };
        match (message.method(), message.class()) {
            (Method::Binding, Class::Request) => {
                self.handle_request(now, (path, ends), message, datagram);
            }
            (Method::Binding, Class::Success | Class::Failure) => {
                self.handle_response(now, path, message, id);
            }
            // A keep-alive (RFC 8445 §11): it has done its work on the way here.
            (Method::Binding, Class::Indication) => {}
            _ => self.stats.malformed += 1,
        }
    }

    fn handle_request(
        &mut self,
        now: Instant,
        (path, ends): (Path, Ends),
        message: StunMessage<'_>,
        datagram: &[u8],
    ) {
        // The parser lets no request pass without a username and a priority.
        let (Some((ours, theirs)), Some(priority)) = (message.split_username(), message.prio())
        else {
            self.stats.malformed += 1;
            return;
        };
        if ours != self.config.credentials.username_frag {
            let is_former = self.answer_former(now, (path, ends), &message);
            self.stats.foreign_username += u64::from(!is_former);
            return;
        }
        if !verify(&message, &self.config.credentials.password) {
            self.stats.bad_integrity += 1;
            return;
        }
        self.former.clear();
        let known = self.remote.as_ref().is_some_and(|remote| remote.username_frag == theirs);
        if !known {
            // The peer is ahead of its own signalling, at the start or after a restart.
            self.stats.requests_held += 1;
            self.stats.requests_held_dropped += self.held.push(now, path, datagram) as u64;
            return;
        }
        let (carrier, remote) = (ends.carrier, ends.remote);
        if !self.paths.has_room_for(path) || !self.remotes.has_room_for((carrier, remote)) {
            self.stats.over_limit += 1;
            return;
        }
        // Before the engine, which may select the pair at once and asks what it is.
        let source = if carrier == Carrier::Udp { remote } else { path.remote };
        let learned = self.remotes.learn((carrier, remote), source, priority);
        if let (Some((usable, description)), Carrier::Incoming, Some(engine)) =
            (learned, carrier, self.engine.as_mut())
        {
            // Another stream may have had the place, and the engine knows it as one that is gone.
            engine.add_remote(usable, description);
        }
        let nominates = message.use_candidate();
        if !self.feed_engine(now, path, message) {
            return;
        }
        self.stats.requests_received += 1;
        self.config.counters.count(CheckEvent::RequestReceived);
        let update = self.paths.note_request(now, path, nominates);
        self.output_path(update);
        self.paths.credit(path, datagram.len());
        if matches!(self.state, IceState::Checking | IceState::Disconnected) {
            self.set_pace(Pace::Answer);
        }
        self.check_back(now, path, ends);
        if nominates && !self.is_controlling() {
            self.upkeep.keep(path);
            if self.paths.selected().is_some_and(|selected| selected != path) {
                // Its checks of the selected pair are to be seen here, too.
                self.upkeep.something_new(now);
            }
        }
        self.run_engine(now);
        self.follow_nomination(now);
    }

    fn handle_response(
        &mut self,
        now: Instant,
        path: Path,
        message: StunMessage<'_>,
        id: TransactionId,
    ) {
        let Some(remote) = self.remote.as_ref() else {
            self.stats.unasked_responses += 1;
            return;
        };
        if !self.transactions.sent_on(&id, path) {
            self.stats.unasked_responses += 1;
            return;
        }
        if !verify(&message, &remote.password) {
            self.stats.bad_integrity += 1;
            return;
        }
        // Of a stream it is none that others could be reached by, and another one each time.
        let is_stream = path.encapsulation == Encapsulation::Rfc4571;
        if !is_stream && !self.takes_mapped_address(&message) {
            self.stats.over_limit += 1;
            return;
        }
        let success = message.is_successful_binding_response();
        let was_checked = self.paths.is_checked(path);
        let mut is_new = false;
        if success {
            let answered = self.transactions.answered(&id);
            // Before the engine, which may select the path at once.
            let sent = answered.as_ref().map_or((now, now), |sent| (sent.at, sent.last));
            let update = self.paths.note_response(now, path, sent);
            if let Some(sent) = answered {
                self.paths.note_told(path, sent.at, sent.nominates);
            }
            is_new = update.is_some();
            self.output_path(update);
            self.stats.responses_received += 1;
            self.config.counters.count(CheckEvent::ResponseReceived);
        }
        match (self.ends(path), self.engine.as_mut()) {
            (Some(ends), Some(engine)) if is_stream && success => {
                engine.answer(now, ends, &message);
            }
            _ => {
                // It takes none to a check of ours, nor of a pair that it has formed anew.
                if !self.feed_engine(now, path, message) && !was_checked {
                    self.paths.uncheck(path);
                }
            }
        }
        if is_new && self.paths.selected() != Some(path) {
            self.follow_choice(now, path);
        }
        if success {
            self.take_first_valid(now, path);
        }
        if success
            && self.paths.selected() == Some(path)
            && self.state == IceState::Connected
            && !self.delegation.covers(path)
        {
            // Unsettled, the pace of before may still be that of answering.
            let pace = self.upkeep.consented(now).map_or(Pace::Search, Pace::Consent);
            self.set_pace(pace);
        }
        self.run_engine(now);
        self.review_doubts(now);
        if self.state == IceState::Connected && self.paths.count_checked() >= self.pair_count() {
            self.upkeep.settle_soon(now);
        }
    }

    /// Checks a path on which a check has come and none of ours was answered: it is worth a copy of
    /// our last one there, as that may have come to a NAT too early (RFC 8445 §7.3.1.4). The
    /// engine, which makes no such checks, takes the response for that of its own.
    fn check_back(&mut self, now: Instant, path: Path, ends: Ends) {
        if self.paths.is_checked(path) || !self.upkeep.allows(path) || self.paths.is_barred(path) {
            return;
        }
        let interval = self.config.timing.check_interval;
        let Some(sent) = self.transactions.last_on(path) else { return };
        let (id, nominated) = (sent.id, sent.nominates);
        if now.saturating_duration_since(sent.last) < interval {
            return;
        }
        // Not where the other one did not: by its identifier, the response says what that was.
        let is_chosen = self.state == IceState::Connected && self.paths.selected() == Some(path);
        let nominates = nominated && is_chosen;
        let Some(check) = self.make_check(ends, id, nominates) else { return };
        if self.may_reach(path, ends, check.len()) {
            self.transactions.repeated(now, &id);
            self.count_check(path);
            self.paths.note_check(now, path, nominates);
            self.send(now, path, check);
        }
    }

    /// Whether so many bytes may go out on a path: to an address that is only known by requests
    /// from there, three times as much as has come. Their source may be forged (RFC 8445 §19.5.1).
    pub(crate) fn may_reach(&mut self, path: Path, ends: Ends, bytes: usize) -> bool {
        let Ends { carrier, remote, .. } = ends;
        let may = carrier != Carrier::Udp
            || self.remotes.is_signalled((carrier, remote))
            || self.paths.spend(path, bytes);
        self.stats.amplification_withheld += u64::from(!may);
        may
    }

    /// The engine remembers every address that a peer says it sees us under; this bounds it.
    fn takes_mapped_address(&mut self, message: &StunMessage<'_>) -> bool {
        let Some(mapped) = message.mapped_address() else { return true };
        let known = self.mapped.contains(&mapped) || self.gathering.by_address(mapped).is_some();
        if !known && self.mapped.len() < MAX_MAPPED {
            self.mapped.push(mapped);
            return true;
        }
        known
    }

    fn feed_engine(&mut self, now: Instant, path: Path, message: StunMessage<'_>) -> bool {
        let Some(ends) = self.ends(path) else { return false };
        self.engine.as_mut().is_some_and(|engine| engine.handle(now, ends, message))
    }
}
