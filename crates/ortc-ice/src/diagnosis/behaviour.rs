//! The behaviour of the NAT before one address of this host (RFC 5780).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::report::{
    BehaviourDiscovery, Filtering, Mapping, NatReport, SeenAs, is_usable, mapping_of,
};
use crate::random::Seeds;
use crate::servers::message::{Builder, Class, Message, attribute, method};
use crate::servers::{BRIEF_WAITS, PACE, Step, Taken, Transaction};

/// CHANGE-REQUEST: answer from the other port (RFC 5780 §7.2).
const CHANGE_PORT: u32 = 0x2;

/// CHANGE-REQUEST: answer from the other address and the other port.
const CHANGE_BOTH: u32 = 0x4 | CHANGE_PORT;

/// What is found out, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The sockets are not there yet.
    Binding,
    /// How all servers see the socket.
    Seeing,
    /// How the other addresses of one of them do; and where that sees the second socket.
    Alternates,
    /// Whether answers come in from addresses that were not asked.
    Filtering,
    /// Whether the sockets reach each other by their outer addresses.
    Hairpinning,
    Done,
}

/// What a request is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// What a server, as it was named, sees.
    Named,
    /// What the other address of a server sees.
    Other,
    /// What a server sees of the second socket.
    Second,
    /// Whether an answer comes in from there.
    From(SocketAddr),
    /// Whether it gets to the other socket.
    Hairpin,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Seen {
        mapped: SocketAddr,
        other: Option<SocketAddr>,
        time: Duration,
    },
    /// It has come in from where it was to come, or has got through.
    Through,
    /// The server has not done as it was asked.
    NotHeeded,
}

#[derive(Debug)]
struct Asked {
    question: Question,
    /// Whether from the second socket.
    second: bool,
    to: SocketAddr,
    transaction: Transaction,
    at: Instant,
    answer: Option<Answer>,
    is_over: bool,
}

/// What is to be sent: from the second socket or not, to where, what.
pub(super) type Sent = (bool, SocketAddr, Bytes);

/// Asks from two sockets on one address: the first sends to every server and port, so that it
/// tells of mappings; the second to one alone, so that it tells who gets in.
#[derive(Debug)]
pub(super) struct Behaviour {
    interface: String,
    /// Tokens and addresses of the two sockets.
    pub(super) tokens: [u64; 2],
    bound: [Option<SocketAddr>; 2],
    servers: Vec<SocketAddr>,
    asked: Vec<Asked>,
    stage: Stage,
    /// The server that is asked for its other address, and that.
    chosen: Option<(SocketAddr, SocketAddr)>,
}

impl Behaviour {
    /// `servers` are of the address's family.
    pub(super) fn new(interface: String, tokens: [u64; 2], servers: Vec<SocketAddr>) -> Self {
        Self {
            interface,
            tokens,
            bound: [None; 2],
            servers,
            asked: Vec::new(),
            stage: Stage::Binding,
            chosen: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// A socket is there.
    pub(super) fn bound(&mut self, now: Instant, token: u64, local: SocketAddr, ids: &mut Seeds) {
        let second = usize::from(token == self.tokens[1]);
        self.bound[second] = Some(local);
        if self.stage == Stage::Binding && self.bound.iter().all(Option::is_some) {
            self.stage = Stage::Seeing;
            for (number, server) in (0..).zip(self.servers.clone()) {
                self.ask(now + PACE * number, Question::Named, false, server, 0, ids);
            }
        }
    }

    /// There is no such socket, so nothing can be told.
    pub(super) fn failed(&mut self) {
        self.stage = Stage::Done;
    }

    /// Nothing can be sent there.
    pub(super) fn send_failed(&mut self, to: SocketAddr) {
        let asked = self.asked.iter_mut().filter(|asked| asked.to == to);
        asked.for_each(|asked| asked.is_over = true);
    }

    fn ask(
        &mut self,
        at: Instant,
        question: Question,
        second: bool,
        to: SocketAddr,
        change: u32,
        ids: &mut Seeds,
    ) {
        let id = ids.transaction_id();
        let mut request = Builder::new(Class::Request, method::BINDING, id);
        if change != 0 {
            request = request.attribute(attribute::CHANGE_REQUEST, &change.to_be_bytes());
        }
        let transaction =
            Transaction::new(at, id, request.finish(), false).with_waits(&BRIEF_WAITS);
        let (answer, is_over) = (None, false);
        self.asked.push(Asked { question, second, to, transaction, at, answer, is_over });
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.asked.iter().filter(|asked| !asked.is_over).map(|asked| asked.transaction.next()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, ids: &mut Seeds) -> Vec<Sent> {
        let mut sent = Vec::new();
        loop {
            for asked in self.asked.iter_mut().filter(|asked| !asked.is_over) {
                match asked.transaction.step(now) {
                    Step::Wait => {}
                    Step::Send(request) => sent.push((asked.second, asked.to, request)),
                    Step::Expired => asked.is_over = true,
                }
            }
            let waits = self.asked.iter().any(|asked| !asked.is_over);
            if waits || matches!(self.stage, Stage::Binding | Stage::Done) {
                return sent;
            }
            self.go_on(now, ids);
        }
    }

    /// All that was asked is answered, or will not be.
    fn go_on(&mut self, now: Instant, ids: &mut Seeds) {
        self.stage = match self.stage {
            Stage::Seeing => {
                self.chosen = self.choose();
                if let Some((server, other)) = self.chosen {
                    let alternates = [
                        SocketAddr::new(other.ip(), server.port()),
                        other,
                        SocketAddr::new(server.ip(), other.port()),
                    ];
                    for to in alternates {
                        self.ask(now, Question::Other, false, to, 0, ids);
                    }
                }
                if let Some(server) = self.chosen.map(|(server, _)| server).or(self.first_seen()) {
                    self.ask(now, Question::Second, true, server, 0, ids);
                }
                Stage::Alternates
            }
            Stage::Alternates => {
                if let Some((server, other)) = self.chosen {
                    self.ask(now, Question::From(other), true, server, CHANGE_BOTH, ids);
                    let port = SocketAddr::new(server.ip(), other.port());
                    self.ask(now, Question::From(port), true, server, CHANGE_PORT, ids);
                }
                Stage::Filtering
            }
            Stage::Filtering => {
                if let Some(outer) = self.outer() {
                    self.ask(now, Question::Hairpin, false, outer[1], 0, ids);
                    self.ask(now, Question::Hairpin, true, outer[0], 0, ids);
                }
                Stage::Hairpinning
            }
            Stage::Hairpinning | Stage::Binding | Stage::Done => Stage::Done,
        };
    }

    /// The first server that has another address, which could be one.
    fn choose(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.asked.iter().find_map(|asked| match asked.answer {
            Some(Answer::Seen { other: Some(other), .. }) => {
                let is_other = other.ip() != asked.to.ip() && other.port() != asked.to.port();
                let is_sound = other.is_ipv4() == asked.to.is_ipv4()
                    && other.port() != 0
                    && is_usable(other.ip())
                    && other.ip().is_loopback() == asked.to.ip().is_loopback();
                (is_other && is_sound).then_some((asked.to, other))
            }
            _ => None,
        })
    }

    fn first_seen(&self) -> Option<SocketAddr> {
        let seen = |asked: &&Asked| matches!(asked.answer, Some(Answer::Seen { .. }));
        self.asked.iter().find(seen).map(|asked| asked.to)
    }

    /// The outer addresses of both sockets, if a NAT makes them.
    fn outer(&self) -> Option<[SocketAddr; 2]> {
        let of = |second: bool, local: SocketAddr| {
            self.asked.iter().find_map(|asked| match asked.answer {
                Some(Answer::Seen { mapped, .. }) if asked.second == second => {
                    (mapped != local && is_usable(mapped.ip()) && mapped.port() != 0)
                        .then_some(mapped)
                }
                _ => None,
            })
        };
        Some([of(false, self.bound[0]?)?, of(true, self.bound[1]?)?])
    }

    pub(super) fn handle(
        &mut self,
        now: Instant,
        token: u64,
        from: SocketAddr,
        message: Message<'_>,
    ) -> Taken {
        let second = token == self.tokens[1];
        let is_request = message.class == Class::Request;
        let asked = self.asked.iter_mut().find(|asked| {
            let hairpin = asked.question == Question::Hairpin;
            // A hairpinned request comes in on the other socket.
            asked.transaction.id == message.id
                && !asked.is_over
                && hairpin == is_request
                && (asked.second == second) != hairpin
        });
        let Some(asked) = asked else { return Taken::Unasked };
        let answer = match (asked.question, message.class) {
            (Question::Hairpin, Class::Request) => Answer::Through,
            (Question::From(wanted), Class::Success) if from == wanted => Answer::Through,
            (Question::From(_), Class::Success | Class::Error) if from == asked.to => {
                Answer::NotHeeded
            }
            (Question::Named | Question::Other | Question::Second, Class::Success)
                if from == asked.to =>
            {
                let mapped = message
                    .address(attribute::XOR_MAPPED_ADDRESS)
                    .or_else(|| message.address(attribute::MAPPED_ADDRESS));
                let Some(mapped) = mapped else { return Taken::Malformed };
                let other = message.address(attribute::OTHER_ADDRESS);
                let time = now.saturating_duration_since(asked.at);
                Answer::Seen { mapped, other, time }
            }
            (Question::Named | Question::Other | Question::Second, Class::Error)
                if from == asked.to =>
            {
                Answer::NotHeeded
            }
            _ => return Taken::Unasked,
        };
        (asked.answer, asked.is_over) = (Some(answer), true);
        Taken::Yes
    }

    pub(super) fn report(&self) -> Option<NatReport> {
        let local = self.bound[0]?;
        let seen_by = |wanted: &[Question]| -> Vec<SeenAs> {
            let seen = self.asked.iter().filter(|asked| wanted.contains(&asked.question));
            let seen = seen.filter_map(|asked| match asked.answer? {
                Answer::Seen { mapped, time, .. } => {
                    Some(SeenAs { server: asked.to, mapped, time })
                }
                _ => None,
            });
            seen.collect()
        };
        let all: Vec<_> = seen_by(&[Question::Named, Question::Other])
            .iter()
            .map(|seen| (seen.server, seen.mapped))
            .collect();
        let (behaviour, filtering) = self.filtering();
        let hairpins = || self.asked.iter().filter(|asked| asked.question == Question::Hairpin);
        let through = hairpins().any(|asked| asked.answer.is_some());
        Some(NatReport {
            interface: self.interface.clone(),
            local,
            seen: seen_by(&[Question::Named]),
            mapping: if all.is_empty() { Mapping::Unknown } else { mapping_of(local, &all) },
            filtering,
            behaviour,
            hairpinning: hairpins().next().map(|_| through),
        })
    }

    /// Who gets in. Silence of an address tells something only if it answers who asks it.
    fn filtering(&self) -> (BehaviourDiscovery, Filtering) {
        let Some((server, other)) = self.chosen else {
            return (BehaviourDiscovery::NotOffered, Filtering::Unknown);
        };
        let of = |question: Question, to: SocketAddr| {
            let it = self.asked.iter().find(|it| it.question == question && it.to == to);
            it.and_then(|asked| asked.answer)
        };
        let port = SocketAddr::new(server.ip(), other.port());
        let answers = |to| matches!(of(Question::Other, to), Some(Answer::Seen { .. }));
        let asked_from = |address| of(Question::From(address), server);
        let is_heard = matches!(of(Question::Second, server), Some(Answer::Seen { .. }));
        let used = BehaviourDiscovery::Used(server);
        match (asked_from(other), asked_from(port)) {
            (Some(Answer::Through), _) => (used, Filtering::EndpointIndependent),
            (Some(Answer::NotHeeded), _) | (_, Some(Answer::NotHeeded)) => {
                (BehaviourDiscovery::NotHeeded(server), Filtering::Unknown)
            }
            _ if !answers(other) || !is_heard => {
                (BehaviourDiscovery::OtherSilent(server, other), Filtering::Unknown)
            }
            (_, Some(Answer::Through)) => (used, Filtering::AddressDependent),
            _ if answers(port) => (used, Filtering::AddressAndPortDependent),
            _ => (BehaviourDiscovery::OtherSilent(server, port), Filtering::Unknown),
        }
    }
}

/// The addresses that servers are asked from, by their interfaces: one for each family and
/// interface, and at most `limit`.
pub(super) fn bases(
    interfaces: &[ortc_io::InterfaceAddress],
    servers: &[SocketAddr],
    limit: usize,
) -> Vec<(String, SocketAddr)> {
    let mut bases: Vec<(String, SocketAddr)> = Vec::new();
    for interface in interfaces {
        let ip: IpAddr = interface.address;
        let has_server = servers.iter().any(|server| {
            server.is_ipv4() == ip.is_ipv4() && (!ip.is_loopback() || server.ip().is_loopback())
        });
        let is_known = |(name, known): &(String, SocketAddr)| {
            *name == interface.name && known.is_ipv4() == ip.is_ipv4()
        };
        if has_server && is_usable(ip) && bases.len() < limit && !bases.iter().any(is_known) {
            bases.push((interface.name.clone(), SocketAddr::new(ip, 0)));
        }
    }
    bases
}
