use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use bytes::Bytes;
use is::stun::{StunMessage, StunPacket};
use is::{Candidate, CandidateKind, IceAgentEvent, IceConnectionState, IceCreds, Protocol};
use tracing::dispatcher::{Dispatch, with_default};

use crate::description::{Carrier, Kind, Usable, is_link_local};
use crate::local::Local;
use crate::random::Seeds;
use crate::transactions::TransactionId;
use crate::{IceConfig, IceTiming, RTCIceCandidateDescription, RTCIceConnectionInfo};

/// Most pairs that are checked at once.
pub(crate) const MAX_PAIRS: usize = 400;

/// How much faster we check while the peer's own checks are coming in.
const ANSWER: u32 = 4;

/// How fast checks are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nothing is known to work.
    Search,
    /// Checks of the peer come in, so something works one way at least. Stands for the
    /// triggered checks of RFC 8445 §7.3.1.4, which the engine does not make: a pair is
    /// given up after the same time, but checked four times as often.
    Answer,
    /// A pair is selected and fresh; checks ask for consent, this far apart.
    Consent(Duration),
}

/// HMAC-SHA1 of aws-lc-rs for the engine.
#[derive(Debug)]
struct HmacSha1;

static HMAC_SHA1: HmacSha1 = HmacSha1;

impl is::Sha1HmacProvider for HmacSha1 {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        sha1_hmac(key, payloads)
    }
}

pub(crate) fn sha1_hmac(key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = hmac::Context::with_key(&key);
    for payload in payloads {
        context.update(payload);
    }
    let mut tag = [0; 20];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// Whether a message carries a MESSAGE-INTEGRITY made with this password.
pub(crate) fn verify(message: &StunMessage<'_>, password: &str) -> bool {
    message.verify(password.as_bytes(), sha1_hmac)
}

/// The two ends of a pair, as the engine knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) carrier: Carrier,
    /// The base of a candidate of ours.
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// What the engine has instead of our word. It pairs candidates of one protocol, and prefers UDP
/// to all others alike; so two of these stand for TCP in its two directions (RFC 6544 §6.2 pairs
/// active with passive candidates only).
const PROTOCOLS: [(Carrier, Protocol); 3] = [
    (Carrier::Udp, Protocol::Udp),
    (Carrier::Outgoing, Protocol::Tcp),
    (Carrier::Incoming, Protocol::SslTcp),
];

fn protocol(carrier: Carrier) -> Protocol {
    let found = PROTOCOLS.iter().find(|(ours, _)| *ours == carrier);
    found.map_or(Protocol::Udp, |(_, protocol)| *protocol)
}

fn carrier(protocol: Protocol) -> Carrier {
    let found = PROTOCOLS.iter().find(|(_, its)| *its == protocol);
    found.map_or(Carrier::Udp, |(carrier, _)| *carrier)
}

/// The foundation by which the engine knows a candidate that may be replaced by another of its
/// address, rather than be kept beside it for ever.
const REPLACEABLE: &str = "tmp_prflx";

/// What the engine reports, in our words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineEvent {
    Selected(Ends),
    PairsFailed,
}

/// The crate `is`, with the few of its methods that we use and its rules of use kept.
#[derive(Debug)]
pub(crate) struct Engine {
    inner: is::IceAgent,
    seeds: Seeds,
}

impl Engine {
    pub(crate) fn new(
        config: &IceConfig,
        remote: &RTCIceConnectionInfo,
        controlling: bool,
    ) -> Self {
        let mut inner = is::IceAgent::with_hmac(credentials(&config.credentials), &HMAC_SHA1);
        let IceTiming { check_interval, initial_rto, max_rto, max_retransmits, .. } = config.timing;
        inner.set_control_tie_breaker(config.tie_breaker);
        inner.set_timing_advance(check_interval);
        inner.set_initial_stun_rto(initial_rto);
        inner.set_max_stun_rto(max_rto);
        inner.set_max_stun_retransmits(max_retransmits);
        inner.set_max_candidate_pairs(MAX_PAIRS);
        // Before any candidate: pairs take their order from the role.
        inner.set_controlling(controlling);
        // It tells of credentials that it is given, the password included.
        with_default(&Dispatch::none(), || inner.set_remote_credentials(credentials(remote)));
        Self { inner, seeds: Seeds::new(config.seed) }
    }

    pub(crate) fn controlling(&self) -> bool {
        self.inner.controlling()
    }

    pub(crate) fn add_local(&mut self, local: &Local) {
        let Some(candidate) = base_of(local) else {
            return; // The interface filter admits no address that the engine refuses.
        };
        // It asks for the preference of one candidate, when that is added: this one.
        let preference = u32::from(local.preference);
        self.inner.set_local_preference(move |_: &Candidate, _: usize| preference);
        self.inner.add_local_candidate(candidate);
    }

    pub(crate) fn withdraw_local(&mut self, local: &Local) {
        if let Some(candidate) = base_of(local) {
            self.inner.invalidate_candidate(&candidate);
        }
    }

    pub(crate) fn add_remote(&mut self, usable: Usable, description: &RTCIceCandidateDescription) {
        self.inner.add_remote_candidate(remote_candidate(usable, description));
    }

    pub(crate) fn withdraw_remote(
        &mut self,
        usable: Usable,
        description: &RTCIceCandidateDescription,
    ) {
        // It may also know the address from a check that came before the candidate.
        for kind in [usable.kind, Kind::PeerReflexive] {
            let usable = Usable { kind, ..usable };
            self.inner.invalidate_candidate(&remote_candidate(usable, description));
        }
    }

    /// Takes an authenticated message; false if it is of no use.
    pub(crate) fn handle(&mut self, now: Instant, ends: Ends, message: StunMessage<'_>) -> bool {
        let Ends { carrier, local, remote } = ends;
        let proto = protocol(carrier);
        let packet = StunPacket { proto, source: remote, destination: local, message };
        self.inner.handle_packet(now, packet)
    }

    /// Lets the engine make checks.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        // It draws transaction identifiers from the thread's generator, whose next ones can be
        // told from those before: a peer that has seen some could answer, in another's name, a
        // check that it has not seen. RFC 8489 §5 wants them unpredictable.
        fastrand::seed(self.seeds.next());
        if self.inner.state() == IceConnectionState::New {
            // It traces the event of its beginning, which has our password in it.
            return with_default(&Dispatch::none(), || self.inner.handle_timeout(now));
        }
        self.inner.handle_timeout(now);
    }

    /// Answers a check of its own in the peer's stead, as if there were no NAT. `message` is the
    /// check, or another message of its transaction.
    pub(crate) fn answer(&mut self, now: Instant, ends: Ends, message: &StunMessage<'_>) {
        let Some(password) = self.inner.remote_credentials().map(|known| known.pass.clone()) else {
            return;
        };
        let reply = StunMessage::binding_reply(message.trans_id(), ends.local);
        let mut buffer = [0; 128];
        let Ok(len) = reply.to_bytes(Some(password.as_bytes()), &mut buffer, sha1_hmac) else {
            return;
        };
        if let Ok(reply) = StunMessage::parse(&buffer[..len]) {
            self.handle(now, ends, reply);
        }
    }

    /// A seed that nobody can tell from others.
    pub(crate) fn seed(&mut self) -> u64 {
        self.seeds.next()
    }

    /// An identifier for a check that is not its own.
    pub(crate) fn transaction_id(&mut self) -> TransactionId {
        self.seeds.transaction_id()
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    /// The next datagram, and between which ends.
    pub(crate) fn poll_transmit(&mut self) -> Option<(Ends, Bytes)> {
        let transmit = self.inner.poll_transmit()?;
        let datagram = Bytes::from(Vec::from(transmit.contents));
        let (local, remote) = (transmit.source, transmit.destination);
        Some((Ends { carrier: carrier(transmit.proto), local, remote }, datagram))
    }

    pub(crate) fn poll_event(&mut self) -> Option<EngineEvent> {
        loop {
            // Traced when it was queued, but for the one that is not to be.
            let event = with_default(&Dispatch::none(), || self.inner.poll_event())?;
            return Some(match event {
                IceAgentEvent::NominatedSend { proto, source, destination } => {
                    let (local, remote) = (source, destination);
                    EngineEvent::Selected(Ends { carrier: carrier(proto), local, remote })
                }
                IceAgentEvent::IceConnectionStateChange(IceConnectionState::Disconnected)
                    if self.inner.state().is_disconnected() =>
                {
                    EngineEvent::PairsFailed
                }
                _ => continue,
            });
        }
    }

    /// Checks at this pace from now on.
    pub(crate) fn set_pace(&mut self, timing: &IceTiming, pace: Pace) {
        let (max_rto, retransmits) = match pace {
            Pace::Search => (timing.max_rto, timing.max_retransmits),
            Pace::Answer => (timing.max_rto / ANSWER, timing.max_retransmits * ANSWER as usize),
            Pace::Consent(interval) => (interval, timing.max_retransmits),
        };
        self.inner.set_max_stun_rto(max_rto);
        self.inner.set_max_stun_retransmits(retransmits);
    }

    /// Forms all pairs again, as if nothing had been checked.
    pub(crate) fn recreate_pairs(&mut self) {
        self.inner.recreate_candidate_pairs();
    }
}

fn remote_candidate(usable: Usable, description: &RTCIceCandidateDescription) -> Candidate {
    if usable.carrier == Carrier::Incoming {
        // It goes with its stream and comes back with the next, many times perhaps.
        return Candidate::from_parts(
            REPLACEABLE.to_owned(),
            1,
            protocol(usable.carrier),
            description.priority,
            usable.address,
            CandidateKind::PeerReflexive,
            None,
            None,
            None,
        );
    }
    let kind = match usable.kind {
        Kind::Host => CandidateKind::Host,
        Kind::PeerReflexive => CandidateKind::PeerReflexive,
        Kind::ServerReflexive => CandidateKind::ServerReflexive,
        Kind::Relayed => CandidateKind::Relayed,
    };
    Candidate::from_parts(
        description.foundation.clone(),
        1,
        protocol(usable.carrier),
        description.priority,
        usable.address,
        kind,
        None,
        None,
        None,
    )
}

/// What the engine is to pair: a reflexive candidate is its base (RFC 8445 §6.1.2.4).
fn base_of(local: &Local) -> Option<Candidate> {
    let address = local.address;
    match local.kind {
        _ if local.carrier != Carrier::Udp => {
            Candidate::host(address, protocol(local.carrier)).ok()
        }
        Kind::Relayed => Candidate::relayed(address, address, Protocol::Udp).ok(),
        // It refuses to make such a one by itself.
        _ if address.is_ipv4() && is_link_local(address.ip()) => Some(Candidate::from_parts(
            local.description.foundation.clone(),
            1,
            Protocol::Udp,
            local.description.priority,
            address,
            CandidateKind::Host,
            None,
            None,
            None,
        )),
        _ => Candidate::host(address, Protocol::Udp).ok(),
    }
}

fn credentials(info: &RTCIceConnectionInfo) -> IceCreds {
    IceCreds { ufrag: info.username_frag.clone(), pass: info.password.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_sha1_gives_the_vectors_of_rfc_2202_for_short_and_long_keys() {
        let hex = |tag: [u8; 20]| tag.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let tag = sha1_hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex(tag), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        // Longer than the block of 64 bytes, as passwords with a fingerprint are.
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(
            hex(sha1_hmac(&[0xaa; 80], &[text])),
            "aa4ae5e15272d00e95705637ce8a3b55ed402112"
        );
    }
}
