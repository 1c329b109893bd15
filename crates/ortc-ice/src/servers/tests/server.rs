use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::servers::long_term_key;
use crate::servers::message::{Builder, Class, Message, attribute, method};

/// What the server does with its next request, out of the ordinary.
#[derive(Debug, Clone)]
pub(crate) enum Script {
    Silence,
    Error(u16),
    Stale,
    Alternate(SocketAddr),
    /// Succeeds, but says so without a MESSAGE-INTEGRITY, or with another's.
    Unsigned,
    WronglySigned,
}

#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) client: SocketAddr,
    pub(crate) relay: SocketAddr,
    pub(crate) channels: Vec<(u16, SocketAddr)>,
    pub(crate) lifetime: u32,
}

/// A STUN and TURN server of one user, `alice` with `secret`.
#[derive(Debug)]
pub(crate) struct ScriptedServer {
    pub(crate) address: SocketAddr,
    pub(crate) allocations: Vec<Allocation>,
    pub(crate) script: VecDeque<Script>,
    /// Method and class of everything that was asked.
    pub(crate) asked: Vec<(u16, SocketAddr)>,
    nonce: u32,
    next_port: u16,
}

/// What a host puts on the wire: from, to, bytes.
pub(crate) type Packet = (SocketAddr, SocketAddr, Bytes);

impl ScriptedServer {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.parse().unwrap(),
            allocations: Vec::new(),
            script: VecDeque::new(),
            asked: Vec::new(),
            nonce: 1,
            next_port: 50000,
        }
    }

    /// Begins with other nonces.
    pub(crate) fn restart(&mut self) {
        self.nonce += 1;
    }

    pub(crate) fn owns(&self, address: SocketAddr) -> bool {
        address == self.address || self.allocations.iter().any(|it| it.relay == address)
    }

    pub(crate) fn handle(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Vec<Packet> {
        if to != self.address {
            return self.relay_in(from, to, bytes);
        }
        if bytes[0] & 0xc0 == 0x40 {
            return self.relay_out(from, bytes);
        }
        let Some(request) = Message::parse(bytes) else { return Vec::new() };
        if (request.class, request.method) == (Class::Indication, method::SEND) {
            return self.relay_indication(from, request);
        }
        assert_eq!(request.class, Class::Request);
        self.asked.push((request.method, from));
        let answer = match self.script.pop_front() {
            Some(Script::Silence) => return Vec::new(),
            Some(Script::Error(code)) => self.sign(error(request, code)),
            Some(Script::Alternate(server)) => {
                let family = [0, 1].into_iter().chain(server.port().to_be_bytes());
                let IpAddr::V4(ip) = server.ip() else { panic!("{server}") };
                let value: Vec<u8> = family.chain(ip.octets()).collect();
                error(request, 300).attribute(attribute::ALTERNATE_SERVER, &value).finish()
            }
            Some(Script::Stale) => {
                self.nonce += 1;
                self.challenge(request, 438)
            }
            Some(Script::Unsigned) => self.succeed(from, request).finish(),
            Some(Script::WronglySigned) => self.succeed(from, request).finish_with(b"another"),
            None if request.method == method::BINDING => self.succeed(from, request).finish(),
            None => match request.attribute(attribute::NONCE) {
                None => self.challenge(request, 401),
                Some(nonce) if nonce != self.nonce.to_be_bytes() => self.challenge(request, 438),
                Some(_) if !request.verify(&self.key()) => self.challenge(request, 401),
                // It has restarted, or has given the allocation up.
                Some(_) if self.knows_not(from, request) => self.sign(error(request, 437)),
                Some(_) => {
                    let answer = self.succeed(from, request);
                    self.sign(answer)
                }
            },
        };
        vec![(self.address, from, answer)]
    }

    fn knows_not(&self, from: SocketAddr, request: Message<'_>) -> bool {
        let is_known = self.allocations.iter().any(|it| it.client == from);
        let needs_one = [method::REFRESH, method::CHANNEL_BIND].contains(&request.method);
        !is_known && needs_one
    }

    fn key(&self) -> [u8; 16] {
        long_term_key("alice", "example.test", "secret")
    }

    fn sign(&self, answer: Builder) -> Bytes {
        answer.finish_with(&self.key())
    }

    fn challenge(&self, request: Message<'_>, code: u16) -> Bytes {
        error(request, code)
            .attribute(attribute::REALM, b"example.test")
            .attribute(attribute::NONCE, &self.nonce.to_be_bytes())
            .finish()
    }

    fn succeed(&mut self, from: SocketAddr, request: Message<'_>) -> Builder {
        let answer = Builder::new(Class::Success, request.method, request.id);
        match request.method {
            method::BINDING => answer.xor_address(attribute::XOR_MAPPED_ADDRESS, from),
            method::ALLOCATE => {
                // A copy of the request may come after its answer has left (RFC 8656 §7.2).
                let known = self.allocations.iter().find(|it| it.client == from);
                let relay = known.map(|it| it.relay).unwrap_or_else(|| {
                    self.next_port += 1;
                    SocketAddr::new(self.address.ip(), self.next_port)
                });
                let (client, channels) = (from, Vec::new());
                if known.is_none() {
                    self.allocations.push(Allocation { client, relay, channels, lifetime: 600 });
                }
                answer
                    .xor_address(attribute::XOR_RELAYED_ADDRESS, relay)
                    .xor_address(attribute::XOR_MAPPED_ADDRESS, from)
                    .attribute(attribute::LIFETIME, &600u32.to_be_bytes())
            }
            method::REFRESH => {
                let lifetime = request.number(attribute::LIFETIME).unwrap();
                let at = self.allocations.iter().position(|it| it.client == from).unwrap();
                self.allocations[at].lifetime = lifetime;
                if lifetime == 0 {
                    self.allocations.remove(at);
                }
                answer.attribute(attribute::LIFETIME, &lifetime.to_be_bytes())
            }
            method::CHANNEL_BIND => {
                let number = (request.number(attribute::CHANNEL_NUMBER).unwrap() >> 16) as u16;
                let peer = request.address(attribute::XOR_PEER_ADDRESS).unwrap();
                let allocation = self.allocations.iter_mut().find(|it| it.client == from).unwrap();
                let same = |(n, p): &(u16, SocketAddr)| (*n == number) == (*p == peer);
                assert!(allocation.channels.iter().all(same), "one number, one peer");
                if !allocation.channels.contains(&(number, peer)) {
                    allocation.channels.push((number, peer));
                }
                answer
            }
            other => panic!("a client does not send {other:#x}"),
        }
    }

    fn relay_indication(&self, from: SocketAddr, message: Message<'_>) -> Vec<Packet> {
        let peer = message.address(attribute::XOR_PEER_ADDRESS).unwrap();
        let data = Bytes::copy_from_slice(message.attribute(attribute::DATA).unwrap());
        let allocation = self.allocations.iter().find(|it| it.client == from);
        let permits = |it: &&Allocation| it.channels.iter().any(|(_, to)| to.ip() == peer.ip());
        allocation.filter(permits).map(|it| (it.relay, peer, data)).into_iter().collect()
    }

    fn relay_out(&self, from: SocketAddr, bytes: &[u8]) -> Vec<Packet> {
        let Some(allocation) = self.allocations.iter().find(|it| it.client == from) else {
            return Vec::new();
        };
        let number = u16::from_be_bytes([bytes[0], bytes[1]]);
        let to = allocation.channels.iter().find(|(known, _)| *known == number);
        let data = Bytes::copy_from_slice(&bytes[4..]);
        to.map(|(_, peer)| (allocation.relay, *peer, data)).into_iter().collect()
    }

    fn relay_in(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Vec<Packet> {
        let Some(allocation) = self.allocations.iter().find(|it| it.relay == to) else {
            return Vec::new();
        };
        let wrapped = if let Some((number, _)) = allocation.channels.iter().find(|c| c.1 == from) {
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            [&number.to_be_bytes()[..], &length, bytes].concat().into()
        } else if allocation.channels.iter().any(|(_, peer)| peer.ip() == from.ip()) {
            indication(from, bytes)
        } else {
            return Vec::new();
        };
        vec![(self.address, allocation.client, wrapped)]
    }
}

pub(crate) fn indication(peer: SocketAddr, data: &[u8]) -> Bytes {
    Builder::new(Class::Indication, method::DATA, [9; 12])
        .xor_address(attribute::XOR_PEER_ADDRESS, peer)
        .attribute(attribute::DATA, data)
        .finish()
}

fn error(request: Message<'_>, code: u16) -> Builder {
    let (class, number) = ((code / 100) as u8, (code % 100) as u8);
    Builder::new(Class::Error, request.method, request.id)
        .attribute(attribute::ERROR_CODE, &[0, 0, class, number])
}
