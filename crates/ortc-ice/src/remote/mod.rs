mod agent;

use std::net::SocketAddr;

use crate::description::{Carrier, Kind, Usable, is_link_local};
use crate::link_local::{is_on_one_link, on_link};
use crate::{IgnoredReason, RTCIceCandidateDescription};

/// Most candidates taken from the signalling. A browser on a laptop sends about 15.
const MAX_SIGNALLED: usize = 100;

/// Most addresses learned from authenticated requests.
const MAX_LEARNED: usize = 100;

/// One candidate of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    usable: Usable,
    description: RTCIceCandidateDescription,
    learned: bool,
}

/// The candidates of the peer: signalled ones, and peer-reflexive ones that were learned.
#[derive(Debug, Default)]
pub(crate) struct RemoteCandidates {
    known: Vec<Known>,
    /// Whether those of a single link are of use.
    takes_link_local: bool,
    /// Signalled ones of an IPv6 link. They are known as well, once for each of our links.
    of_links: Vec<(Usable, RTCIceCandidateDescription)>,
    /// The scopes of our links.
    links: Vec<u32>,
}

impl RemoteCandidates {
    pub(crate) fn new(takes_link_local: bool) -> Self {
        Self { takes_link_local, ..Self::default() }
    }

    /// Takes a signalled candidate: `Ok(None)` if it is known already, else what can be paired;
    /// several of an IPv6 link, where it may be on any.
    pub(crate) fn insert(
        &mut self,
        description: RTCIceCandidateDescription,
    ) -> Result<Option<Vec<Usable>>, IgnoredReason> {
        let usable = description.usable()?;
        if is_link_local(usable.address.ip()) {
            let is_direct = usable.carrier == Carrier::Udp && usable.kind == Kind::Host;
            if !self.takes_link_local || !is_direct {
                return Err(IgnoredReason::LinkLocal);
            }
            if usable.address.is_ipv6() {
                return self.insert_of_link(usable, description);
            }
        }
        if self.known.iter().any(|known| !known.learned && known.usable == usable) {
            return Ok(None);
        }
        if self.count(false) >= MAX_SIGNALLED {
            return Err(IgnoredReason::TooMany);
        }
        self.add(usable, description);
        Ok(Some(vec![usable]))
    }

    fn insert_of_link(
        &mut self,
        usable: Usable,
        description: RTCIceCandidateDescription,
    ) -> Result<Option<Vec<Usable>>, IgnoredReason> {
        if self.of_links.iter().any(|(known, _)| *known == usable) {
            return Ok(None);
        }
        if self.count(false) + self.links.len() + self.of_links.len() >= MAX_SIGNALLED {
            return Err(IgnoredReason::TooMany);
        }
        let on = |scope: &u32| Usable { address: on_link(usable.address, *scope), ..usable };
        let on_all: Vec<Usable> = self.links.iter().map(on).collect();
        for usable in &on_all {
            self.add(*usable, description.clone());
        }
        self.of_links.push((usable, description));
        Ok(Some(on_all))
    }

    /// A candidate of ours is on this link; returns what may be there, too.
    pub(crate) fn add_link(&mut self, scope: u32) -> Vec<(Usable, RTCIceCandidateDescription)> {
        if self.links.contains(&scope) {
            return Vec::new();
        }
        self.links.push(scope);
        let mut added = Vec::new();
        for (usable, description) in self.of_links.clone() {
            if self.count(false) < MAX_SIGNALLED {
                let usable = Usable { address: on_link(usable.address, scope), ..usable };
                self.add(usable, description.clone());
                added.push((usable, description));
            }
        }
        added
    }

    fn add(&mut self, usable: Usable, description: RTCIceCandidateDescription) {
        self.known.retain(|known| !(known.learned && known.usable.end() == usable.end()));
        self.known.reserve_exact(1);
        self.known.push(Known { usable, description, learned: false });
    }

    /// Forgets a signalled candidate. Returns what the engine has of its address, learned ones
    /// included; nothing if another candidate has the address, or none was known.
    pub(crate) fn remove(
        &mut self,
        description: &RTCIceCandidateDescription,
    ) -> Vec<(Usable, RTCIceCandidateDescription)> {
        let Ok(usable) = description.usable() else { return Vec::new() };
        if self.of_links.iter().any(|(known, _)| *known == usable) {
            self.of_links.retain(|(known, _)| *known != usable);
            let gone = |known: &mut Known| on_link(known.usable.address, 0) == usable.address;
            let removed = self.known.extract_if(.., gone);
            return removed.map(|known| (known.usable, known.description)).collect();
        }
        let is_it = |known: &Known| !known.learned && known.usable == usable;
        if !self.known.iter().any(is_it) {
            return Vec::new();
        }
        let shares = |known: &Known| known.usable.end() == usable.end();
        let others =
            self.known.iter().any(|known| shares(known) && !known.learned && !is_it(known));
        let gone = |known: &mut Known| if others { is_it(known) } else { shares(known) };
        let removed: Vec<Known> = self.known.extract_if(.., gone).collect();
        if others {
            return Vec::new();
        }
        removed.into_iter().map(|known| (known.usable, known.description)).collect()
    }

    /// Whether checks from this end can be taken: it is known, or can be learned.
    pub(crate) fn has_room_for(&self, end: (Carrier, SocketAddr)) -> bool {
        self.count(true) < MAX_LEARNED || self.known.iter().any(|known| known.usable.end() == end)
    }

    /// Learns an end from an authenticated request (RFC 8445 §7.3.1.3), which came from `source`.
    /// `None` if it is known.
    pub(crate) fn learn(
        &mut self,
        (carrier, address): (Carrier, SocketAddr),
        source: SocketAddr,
        priority: u32,
    ) -> Option<(Usable, &RTCIceCandidateDescription)> {
        if self.known.iter().any(|known| known.usable.end() == (carrier, address)) {
            return None;
        }
        let tcp_type = match carrier {
            Carrier::Udp => None,
            Carrier::Outgoing => Some("passive".to_owned()),
            Carrier::Incoming => Some("active".to_owned()),
        };
        let description = RTCIceCandidateDescription {
            // Arbitrary, and unlike any other (RFC 8445 §7.3.1.3).
            foundation: format!("prflx{}", self.count(true) + 1),
            component: 1,
            transport: if carrier == Carrier::Udp { "udp" } else { "tcp" }.into(),
            priority,
            connection_address: source.ip().to_string(),
            connection_port: source.port(),
            kind: "prflx".into(),
            rel_address: None,
            rel_port: None,
            tcp_type,
        };
        let usable = Usable { carrier, address, kind: Kind::PeerReflexive };
        self.known.reserve_exact(1);
        self.known.push(Known { usable, description, learned: true });
        self.known.last().map(|known| (known.usable, &known.description))
    }

    /// What was learned of the end of a candidate.
    pub(crate) fn learned_of(
        &self,
        candidate: &RTCIceCandidateDescription,
    ) -> Option<(Usable, RTCIceCandidateDescription)> {
        let end = candidate.usable().ok()?.end();
        let known = self.known.iter().find(|it| it.learned && it.usable.end() == end)?;
        Some((known.usable, known.description.clone()))
    }

    /// Forgets an end that was learned.
    pub(crate) fn unlearn(
        &mut self,
        end: (Carrier, SocketAddr),
    ) -> Option<(Usable, RTCIceCandidateDescription)> {
        let at = self.known.iter().position(|it| it.learned && it.usable.end() == end)?;
        let Known { usable, description, .. } = self.known.remove(at);
        Some((usable, description))
    }

    /// Whether an end was told by the signalling, and not only learned from requests.
    pub(crate) fn is_signalled(&self, end: (Carrier, SocketAddr)) -> bool {
        self.known.iter().any(|known| !known.learned && known.usable.end() == end)
    }

    /// The signalled candidates.
    pub(crate) fn signalled(&self) -> impl Iterator<Item = (Usable, &RTCIceCandidateDescription)> {
        self.known.iter().filter(|known| !known.learned).map(|k| (k.usable, &k.description))
    }

    /// The best description of an end.
    pub(crate) fn describe(
        &self,
        end: (Carrier, SocketAddr),
    ) -> Option<&RTCIceCandidateDescription> {
        let candidates = self.known.iter().filter(|known| known.usable.end() == end);
        candidates.map(|known| &known.description).max_by_key(|description| description.priority)
    }

    /// How many addresses are reached from this one by UDP.
    pub(crate) fn count_reached_from(&self, local: SocketAddr) -> usize {
        let is_one = |usable: Usable| {
            usable.carrier == Carrier::Udp && is_on_one_link(local, usable.address)
        };
        self.known.iter().filter(|known| is_one(known.usable)).count()
    }

    /// Forgets what was learned: it was learned from a peer that has restarted.
    pub(crate) fn forget_learned(&mut self) {
        self.known.retain(|known| !known.learned);
    }

    fn count(&self, learned: bool) -> usize {
        self.known.iter().filter(|known| known.learned == learned).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(line: &str) -> RTCIceCandidateDescription {
        line.parse().unwrap()
    }

    #[test]
    fn duplicates_and_what_is_of_no_use_are_told_apart() {
        let mut remote = RemoteCandidates::default();
        let host = candidate("candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host");
        let address = "192.0.2.1:5000".parse().unwrap();
        let usable = Usable { carrier: Carrier::Udp, address, kind: Kind::Host };
        assert_eq!(remote.insert(host.clone()), Ok(Some(vec![usable])));
        assert_eq!(remote.insert(host.clone()), Ok(None));
        for (line, reason) in [
            ("candidate:1 1 udp 9 a-b.local 5000 typ host", IgnoredReason::NameUnresolved),
            ("candidate:1 1 tcp 9 192.0.2.1 9 typ host", IgnoredReason::TransportUnsupported),
            ("candidate:1 2 udp 9 192.0.2.1 9 typ host", IgnoredReason::OtherComponent),
            ("candidate:1 1 udp 9 fe80::1 9 typ host", IgnoredReason::LinkLocal),
        ] {
            assert_eq!(remote.insert(candidate(line)), Err(reason), "{line}");
        }
        let malformed = RTCIceCandidateDescription { kind: "?".into(), ..host };
        assert_eq!(remote.insert(malformed), Err(IgnoredReason::Malformed));
    }

    #[test]
    fn ends_of_tcp_are_others_than_those_of_udp() {
        let mut remote = RemoteCandidates::default();
        let address = "192.0.2.1:5000".parse().unwrap();
        let udp = candidate("candidate:1 1 udp 9 192.0.2.1 5000 typ host");
        let tcp = candidate("candidate:1 1 tcp 5 192.0.2.1 5000 typ host tcptype passive");
        remote.insert(udp.clone()).unwrap();
        let usable = remote.insert(tcp.clone()).unwrap().unwrap()[0];
        assert_eq!(usable.end(), (Carrier::Outgoing, address));
        assert_eq!(remote.describe(usable.end()), Some(&tcp));
        assert_eq!(remote.describe((Carrier::Udp, address)), Some(&udp));
        assert_eq!(remote.count_reached_from(address), 1, "by UDP");
        let (slot, source) = ("240.0.0.1:1".parse().unwrap(), "192.0.2.1:40000".parse().unwrap());
        let end = (Carrier::Incoming, slot);
        let (_, learned) = remote.learn(end, source, 7).unwrap();
        assert_eq!(
            learned.to_string(),
            "candidate:prflx1 1 tcp 7 192.0.2.1 40000 typ prflx tcptype active"
        );
        assert!(remote.unlearn(end).is_some() && remote.unlearn(end).is_none());
        assert_eq!(remote.unlearn(usable.end()), None, "it was signalled");
    }

    #[test]
    fn a_signalled_candidate_replaces_what_was_learned_of_its_address() {
        let mut remote = RemoteCandidates::default();
        let address = "192.0.2.1:5000".parse().unwrap();
        let end = (Carrier::Udp, address);
        assert!(remote.learn(end, address, 7).is_some());
        assert_eq!(remote.learn(end, address, 8), None);
        let learned = remote.describe(end).unwrap();
        assert_eq!((learned.kind.as_str(), learned.priority), ("prflx", 7));
        let host = candidate("candidate:1 1 udp 5 192.0.2.1 5000 typ host");
        remote.insert(host.clone()).unwrap();
        assert_eq!(remote.describe(end), Some(&host));
        assert_eq!(remote.count(true), 0);
    }

    #[test]
    fn what_is_removed_is_gone_unless_another_candidate_has_the_address() {
        let mut remote = RemoteCandidates::default();
        let host = candidate("candidate:1 1 udp 9 192.0.2.1 5000 typ host");
        let mapped =
            candidate("candidate:2 1 udp 8 192.0.2.1 5000 typ srflx raddr 10.0.0.1 rport 5000");
        assert_eq!(remote.remove(&host), [], "it is not known");
        remote.insert(host.clone()).unwrap();
        remote.insert(mapped.clone()).unwrap();
        assert_eq!(remote.remove(&host), []);
        let gone = remote.remove(&mapped);
        assert_eq!(gone.len(), 1);
        assert_eq!((&gone[0].1, remote.count(false)), (&mapped, 0));
    }

    #[test]
    fn what_is_of_a_link_is_on_each_of_ours_and_signalled_without_a_scope() {
        let mut remote = RemoteCandidates::new(true);
        let line = candidate("candidate:1 1 udp 9 fe80::2 5000 typ host");
        assert_eq!(remote.insert(line.clone()), Ok(Some(Vec::new())), "we are on no link yet");
        assert_eq!(remote.insert(line.clone()), Ok(None));
        let on = |scope| Usable {
            carrier: Carrier::Udp,
            address: format!("[fe80::2%{scope}]:5000").parse().unwrap(),
            kind: Kind::Host,
        };
        assert_eq!(remote.add_link(3), [(on(3), line.clone())]);
        assert_eq!(remote.add_link(3), []);
        assert_eq!(remote.add_link(4), [(on(4), line.clone())]);
        let other = candidate("candidate:1 1 udp 9 fe80::3 5000 typ host");
        assert_eq!(remote.insert(other).unwrap().unwrap().len(), 2);
        assert_eq!(remote.describe(on(4).end()), Some(&line));
        assert_eq!(remote.count_reached_from("[fe80::1%3]:1".parse().unwrap()), 2);
        assert_eq!(remote.remove(&line).len(), 2);
        assert_eq!(remote.describe(on(4).end()), None);
        assert_eq!(remote.remove(&line), []);
        for (line, reason) in [
            ("candidate:1 1 tcp 9 fe80::1 9 typ host tcptype passive", IgnoredReason::LinkLocal),
            ("candidate:1 1 udp 9 169.254.1.1 9 typ srflx", IgnoredReason::LinkLocal),
        ] {
            assert_eq!(remote.insert(candidate(line)), Err(reason), "{line}");
        }
    }

    #[test]
    fn both_lists_are_bounded() {
        let mut remote = RemoteCandidates::default();
        for port in 1..=101 {
            let line = format!("candidate:1 1 udp 9 192.0.2.1 {port} typ host");
            let expected = if port <= 100 { Ok(true) } else { Err(IgnoredReason::TooMany) };
            assert_eq!(remote.insert(candidate(&line)).map(|new| new.is_some()), expected);
        }
        for port in 200..300 {
            let address = ([192, 0, 2, 1], port).into();
            assert!(remote.learn((Carrier::Udp, address), address, 1).is_some());
        }
        assert!(!remote.has_room_for((Carrier::Udp, ([192, 0, 2, 1], 300).into())));
        assert!(remote.has_room_for((Carrier::Udp, ([192, 0, 2, 1], 299).into())));
    }
}
