//! What the agent does with the candidates of the peer.

use std::net::SocketAddr;
use std::time::Instant;

use ortc_io::Encapsulation;
use tracing::debug;

use crate::description::{Carrier, Usable};
use crate::engine::MAX_PAIRS;
use crate::local::Local;
use crate::{IceAgent, IceEvent, IgnoredReason, RTCIceCandidateDescription};

impl IceAgent {
    pub(crate) fn set_remote(&mut self, now: Instant, candidate: RTCIceCandidateDescription) {
        if self.config.lite {
            self.stats.candidates_not_needed += 1;
            return;
        }
        match candidate.carrier_to_it() {
            Some(Carrier::Outgoing) if !self.config.tcp.active => {
                return self.ignore(candidate, IgnoredReason::TransportUnsupported);
            }
            Some(Carrier::Incoming) if !self.config.tcp.passive => {
                return self.ignore(candidate, IgnoredReason::TransportUnsupported);
            }
            // It has no port, and is known when it connects.
            Some(Carrier::Incoming) if candidate.validate().is_ok() => {
                self.stats.candidates_not_needed += 1;
                return;
            }
            _ => {}
        }
        let learned = self.remotes.learned_of(&candidate);
        match self.remotes.insert(candidate.clone()) {
            Ok(Some(usables)) => {
                if let Some(learned) = learned.filter(|it| it.1.priority > candidate.priority) {
                    self.unlearn_priority(&candidate, learned);
                }
                if let Some(engine) = &mut self.engine {
                    for usable in usables {
                        engine.add_remote(usable, &candidate);
                    }
                    self.upkeep_of_new_pairs(now);
                }
            }
            Ok(None) => self.stats.candidates_duplicate += 1,
            Err(IgnoredReason::NameUnresolved) if self.resolve(&candidate) => {}
            Err(reason) => self.ignore(candidate, reason),
        }
    }

    /// A relay of the peer's, the checks of which have come before word of it, was taken for a
    /// peer-reflexive candidate, and those rank above server-reflexive ones (RFC 8445 §7.1.1): a
    /// direct pair would come after the relayed one here, and before it at the peer. The engine
    /// keeps the priority of pairs that it has, so these are formed and checked anew.
    fn unlearn_priority(
        &mut self,
        candidate: &RTCIceCandidateDescription,
        (usable, learned): (Usable, RTCIceCandidateDescription),
    ) {
        if candidate.kind != "relay" {
            return; // All that is direct stays before all that is relayed.
        }
        if let Some(engine) = &mut self.engine {
            engine.withdraw_remote(usable, &learned);
        }
        let servers = &self.servers;
        self.paths.check_again_where(|path| match path.encapsulation {
            Encapsulation::Plain => path.remote == usable.address,
            Encapsulation::ChannelData(_) => {
                servers.ends(path).is_some_and(|(_, remote)| remote == usable.address)
            }
            Encapsulation::Rfc4571 => false,
        });
    }

    pub(crate) fn ignore(&mut self, candidate: RTCIceCandidateDescription, reason: IgnoredReason) {
        debug!(%candidate, %reason, "a remote candidate is ignored");
        self.stats.candidates_ignored += 1;
        self.event(IceEvent::CandidateIgnored { candidate, reason });
    }

    /// Takes a candidate of the peer out of play.
    pub(crate) fn remove_remote(&mut self, now: Instant, candidate: &RTCIceCandidateDescription) {
        let removed = self.remotes.remove(candidate);
        let ends: Vec<_> = removed.iter().map(|(usable, _)| usable.end()).collect();
        if ends.is_empty() {
            return;
        }
        if let Some(engine) = &mut self.engine {
            for (usable, description) in &removed {
                engine.withdraw_remote(*usable, description);
            }
        }
        self.close_streams(now, |of| ends.contains(&(of.carrier, of.remote)));
        let servers = &self.servers;
        let is_gone = |remote: SocketAddr| ends.contains(&(Carrier::Udp, remote));
        let lost = self.paths.remove_where(|path| match path.encapsulation {
            Encapsulation::Plain => is_gone(path.remote),
            _ => servers.ends(path).is_some_and(|(_, remote)| is_gone(remote)),
        });
        self.lose(now, lost);
    }

    /// How many pairs there are to be checked over UDP.
    pub(crate) fn pair_count(&self) -> usize {
        let locals = self.gathering.set_bases().filter(|local| local.carrier == Carrier::Udp);
        let pairs = |local: &Local| self.remotes.count_reached_from(local.address);
        locals.map(pairs).sum::<usize>().min(MAX_PAIRS)
    }

    /// Candidates of the peer that are of one link may be on that of this candidate of ours.
    pub(crate) fn add_link(&mut self, local: SocketAddr) {
        let SocketAddr::V6(address) = local else { return };
        if !address.ip().is_unicast_link_local() {
            return;
        }
        let added = self.remotes.add_link(address.scope_id());
        if let Some(engine) = &mut self.engine {
            for (usable, description) in &added {
                engine.add_remote(*usable, description);
            }
        }
    }
}
