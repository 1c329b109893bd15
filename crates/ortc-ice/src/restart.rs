//! Beginning the checks, and beginning them anew with other credentials of either side.
//!
//! A restart (RFC 8445 §9) leaves media where it is until a pair is selected by the new
//! credentials. Those of the peer come by the signalling; ours go by it, and until the peer shows
//! that it has them its requests with the former ones are answered, so that it keeps its consent.

use std::time::Instant;

use bytes::Bytes;
use is::stun::StunMessage;
use ortc_io::Path;
use ortc_io::consent::CheckEvent;
use tracing::{debug, warn};

use crate::description::Carrier;
use crate::engine::{Ends, Engine, sha1_hmac, verify};
use crate::state::Cause;
use crate::transactions::Transactions;
use crate::{IceAgent, RTCIceConnectionInfo};

/// Credentials from before restarts that the peer may still know; the oldest are forgotten first.
const MAX_FORMER: usize = 4;

/// Longest response to a check: a mapped address and what authenticates it.
const MAX_RESPONSE: usize = 128;

impl IceAgent {
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        remote: RTCIceConnectionInfo,
        controlling: bool,
    ) {
        if let Err(error) = remote.validate_remote(&self.config.credentials) {
            warn!(%error, "the credentials of the peer are refused");
            self.stats.credentials_refused += 1;
            return;
        }
        let same = self.remote.as_ref().is_some_and(|known| {
            known.username_frag == remote.username_frag && known.password == remote.password
        });
        if same {
            return;
        }
        // A role that was settled with the peer outlives its restart (RFC 8445 §9).
        let begins = controlling && !self.config.lite;
        let controlling = self.engine.as_ref().map_or(begins, Engine::controlling);
        self.begin(now, remote, controlling);
    }

    /// Takes other credentials of ours.
    pub(crate) fn restart(&mut self, now: Instant, credentials: RTCIceConnectionInfo) {
        // Those are shown to others by now, who would have to show others.
        let is_shared = self.gathering.is_sharing || !self.config.shared.is_empty();
        let is_same = credentials.username_frag == self.config.credentials.username_frag;
        if is_shared || self.config.fork.is_some() || self.config.tcp.passive || is_same {
            warn!("credentials of ours that others share, or the same ones, are not changed");
            self.stats.credentials_refused += 1;
            return;
        }
        debug!("our own side restarts");
        if self.former.len() >= MAX_FORMER {
            self.former.remove(0);
        }
        self.former.push(std::mem::replace(&mut self.config.credentials, credentials));
        if let (Some(remote), Some(engine)) = (self.remote.clone(), &self.engine) {
            let controlling = engine.controlling();
            self.begin(now, remote, controlling);
        }
    }

    fn begin(&mut self, now: Instant, remote: RTCIceConnectionInfo, controlling: bool) {
        let cause = if self.engine.is_some() { Cause::Restarted } else { Cause::ConnectRequested };
        let mut engine = Engine::new(&self.config, &remote, controlling);
        self.remotes.forget_learned();
        self.paths.lift_bars();
        self.paths.check_again();
        // What was nominated before is no nomination now.
        self.paths.forget_nominations();
        self.paths.forget_told();
        self.announcement = None;
        self.engine_choice = None;
        for local in self.gathering.set_bases() {
            engine.add_local(local);
        }
        for (usable, description) in self.remotes.signalled() {
            engine.add_remote(usable, description);
        }
        self.engine = Some(engine);
        self.remote = Some(remote);
        self.claim_peer();
        self.transactions = Transactions::default();
        self.doubts.clear();
        self.mapped.clear();
        self.upkeep.hurry();
        self.upkeep.stop_retrying();
        self.change_state(cause);
        self.run_engine(now);
        let (held, dropped) = self.held.take(now);
        self.stats.requests_held_dropped += dropped as u64;
        for (path, datagram) in held {
            self.handle_datagram(now, path, &datagram);
        }
    }

    /// Whether the peer has not heard of our restart yet: until consent expires, media stays on the
    /// path that it has.
    pub(crate) fn awaits_new_credentials(&self) -> bool {
        !self.former.is_empty()
            && self.upkeep.answered().is_some()
            && self.paths.selected().is_some()
    }

    /// Answers a request of a peer that has not heard of our restart yet; false if it is none.
    pub(crate) fn answer_former(
        &mut self,
        now: Instant,
        (path, ends): (Path, Ends),
        message: &StunMessage<'_>,
    ) -> bool {
        let Some((ours, theirs)) = message.split_username() else { return false };
        let Some(former) = self.former.iter().find(|it| it.username_frag == ours) else {
            return false;
        };
        let knows = self.remote.as_ref().is_some_and(|it| it.username_frag == theirs);
        // Of a stream that the peer has opened there is none: such connections do not restart.
        let is_incoming = ends.carrier == Carrier::Incoming;
        if !knows || is_incoming || !verify(message, &former.password) {
            return false;
        }
        let reply = StunMessage::binding_reply(message.trans_id(), ends.remote);
        let mut bytes = [0; MAX_RESPONSE];
        let Ok(length) = reply.to_bytes(Some(former.password.as_bytes()), &mut bytes, sha1_hmac)
        else {
            return false;
        };
        // Only where it was heard of before: others wait for the new credentials.
        if self.paths.is_known(path) {
            self.stats.requests_received += 1;
            self.config.counters.count(CheckEvent::RequestReceived);
            self.config.counters.count(CheckEvent::ResponseSent);
            self.send(now, path, Bytes::copy_from_slice(&bytes[..length]));
        }
        true
    }
}
