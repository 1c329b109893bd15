//! A STUN and TURN server on a host of a simulated network, as coturn is on a real one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;
use md5::{Digest, Md5};
use ortc_api::RTCIceServer;
use ortc_io::sim::{Host, Network, SimIo};
use ortc_io::{DatagramIo, ReceiveBatch, SendBatch, SocketId};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const PORT: u16 = 3478;
const REALM: &[u8] = b"example.test";
const NONCE: &[u8] = b"0123456789abcdef";

const BINDING: u16 = 0x001;
const ALLOCATE: u16 = 0x003;
const REFRESH: u16 = 0x004;
const SEND: u16 = 0x016;
const DATA_INDICATION: u16 = 0x017;
const CHANNEL_BIND: u16 = 0x009;

const CHANNEL_NUMBER: u16 = 0x000c;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const NONCE_ATTRIBUTE: u16 = 0x0015;

/// What one client has.
#[derive(Debug)]
struct Allocation {
    client: SocketAddr,
    socket: SocketId,
    relayed: SocketAddr,
    channels: BTreeMap<u16, SocketAddr>,
}

/// A server of one user, `alice` with `secret`, which runs as long as the network.
///
/// It relays over IPv4 and UDP, by channels and indications, to peers that a channel has been bound
/// for, by their IP address (RFC 8656 §9).
#[derive(Debug)]
pub struct Relay {
    /// Its host.
    pub host: Host,
    address: SocketAddr,
}

impl Relay {
    /// Starts one at this address.
    ///
    /// # Panics
    /// When somebody has the address.
    pub fn start(net: &Network, ip: IpAddr) -> Self {
        let host = net.host("relay", &[ip]);
        let address = SocketAddr::new(ip, PORT);
        let mut io = host.io();
        let (socket, _) = io.bind(address).expect("the port is free");
        actix::spawn(async move {
            let mut server = Server { io, socket, ip, allocations: Vec::new() };
            let readiness = server.io.readiness();
            let mut batch = ReceiveBatch::new();
            loop {
                readiness.notified().await;
                server.turn(&mut batch);
            }
        });
        Self { host, address }
    }

    /// What a peer is to be told of it.
    pub fn servers(&self) -> [RTCIceServer; 2] {
        let turn = RTCIceServer::new(format!("turn:{}", self.address));
        let stun = RTCIceServer::new(format!("stun:{}", self.address));
        [stun, turn.with_credential("alice", "secret")]
    }
}

struct Server {
    io: SimIo,
    socket: SocketId,
    ip: IpAddr,
    allocations: Vec<Allocation>,
}

impl Server {
    fn turn(&mut self, batch: &mut ReceiveBatch) {
        let mut more = true;
        while more {
            batch.clear();
            more = self.io.receive(batch, &mut Vec::new());
            let mut out = SendBatch::new();
            for index in 0..batch.len() {
                let (datagram, bytes) = batch.get_mut(index);
                let bytes = bytes.to_vec();
                let answer = self.take(datagram.socket, datagram.remote, &bytes);
                let Some((socket, to, bytes)) = answer else { continue };
                out.push(socket, to, &bytes);
            }
            self.io.send(&mut out);
        }
    }

    fn take(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<(SocketId, SocketAddr, Vec<u8>)> {
        if socket != self.socket {
            return self.inward(socket, from, bytes);
        }
        if bytes.first()? & 0xc0 == 0x40 {
            let allocation = self.allocations.iter().find(|it| it.client == from)?;
            let number = u16::from_be_bytes([bytes[0], *bytes.get(1)?]);
            let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
            let peer = allocation.channels.get(&number)?;
            return Some((allocation.socket, *peer, bytes.get(4..4 + length)?.to_vec()));
        }
        let id: [u8; 12] = bytes.get(8..20)?.try_into().ok()?;
        let method = u16::from_be_bytes([bytes[0], bytes[1]]);
        if method == SEND {
            let allocation = self.allocations.iter().find(|it| it.client == from)?;
            let peer = address(attribute(bytes, XOR_PEER_ADDRESS)?)?;
            let may = allocation.channels.values().any(|known| known.ip() == peer.ip());
            if !may {
                return None;
            }
            return Some((allocation.socket, peer, attribute(bytes, DATA)?.to_vec()));
        }
        let answer = if method == BINDING {
            Answer::new(0x101, id).address(0x0020, from).finish(None)
        } else if attribute(bytes, NONCE_ATTRIBUTE).is_none() {
            Answer::new(0x110 | method, id)
                .attribute(0x0009, &[0, 0, 4, 1])
                .attribute(0x0014, REALM)
                .attribute(NONCE_ATTRIBUTE, NONCE)
                .finish(None)
        } else {
            self.grant(method, from, bytes, id)?.finish(Some(&key()))
        };
        Some((self.socket, from, answer))
    }

    fn grant(
        &mut self,
        method: u16,
        from: SocketAddr,
        bytes: &[u8],
        id: [u8; 12],
    ) -> Option<Answer> {
        let answer = Answer::new(0x100 | method, id);
        let known = self.allocations.iter().position(|it| it.client == from);
        let lifetime = 600u32.to_be_bytes();
        match (method, known) {
            (ALLOCATE, known) => {
                let at = match known {
                    Some(at) => at,
                    None => {
                        let (socket, relayed) = self.io.bind(SocketAddr::new(self.ip, 0)).ok()?;
                        let channels = BTreeMap::new();
                        let allocation = Allocation { client: from, socket, relayed, channels };
                        self.allocations.push(allocation);
                        self.allocations.len() - 1
                    }
                };
                let relayed = self.allocations[at].relayed;
                let answer = answer.address(0x0016, relayed).address(0x0020, from);
                Some(answer.attribute(0x000d, &lifetime))
            }
            (REFRESH, Some(at)) => {
                let asked = attribute(bytes, 0x000d).unwrap_or(&lifetime);
                if asked == [0; 4] {
                    self.io.close(self.allocations.remove(at).socket);
                }
                Some(answer.attribute(0x000d, asked))
            }
            (CHANNEL_BIND, Some(at)) => {
                let number = attribute(bytes, CHANNEL_NUMBER)?;
                let number = u16::from_be_bytes([number[0], *number.get(1)?]);
                let peer = address(attribute(bytes, XOR_PEER_ADDRESS)?)?;
                self.allocations[at].channels.insert(number, peer);
                Some(answer)
            }
            _ => None,
        }
    }

    /// What a peer sends to a relayed address.
    fn inward(
        &self,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<(SocketId, SocketAddr, Vec<u8>)> {
        let allocation = self.allocations.iter().find(|it| it.socket == socket)?;
        let mut channels = allocation.channels.iter();
        let message = if let Some((number, _)) = channels.find(|(_, peer)| **peer == from) {
            let length = u16::try_from(bytes.len()).ok()?;
            [&number.to_be_bytes()[..], &length.to_be_bytes(), bytes].concat()
        } else if allocation.channels.values().any(|peer| peer.ip() == from.ip()) {
            let indication = Answer::new(DATA_INDICATION, [9; 12]).address(XOR_PEER_ADDRESS, from);
            indication.attribute(DATA, bytes).finish(None)
        } else {
            return None;
        };
        Some((self.socket, allocation.client, message))
    }
}

fn key() -> [u8; 16] {
    Md5::digest([&b"alice:"[..], REALM, b":secret"].concat()).into()
}

/// The value of an attribute.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(20..)?;
    loop {
        let (head, after) = rest.split_at_checked(4)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if u16::from_be_bytes([head[0], head[1]]) == wanted {
            return after.get(..length);
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
}

/// A XORed address of IPv4.
fn address(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*value.get(2)? ^ COOKIE[0], *value.get(3)? ^ COOKIE[1]]);
    let mut ip: [u8; 4] = value.get(4..8)?.try_into().ok()?;
    ip.iter_mut().zip(COOKIE).for_each(|(byte, mask)| *byte ^= mask);
    Some(SocketAddr::from((ip, port)))
}

/// A message that is being written.
struct Answer(Vec<u8>);

impl Answer {
    fn new(kind: u16, id: [u8; 12]) -> Self {
        Self([&kind.to_be_bytes()[..], &[0, 0], &COOKIE, &id].concat())
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).expect("a datagram is shorter");
        self.0.extend([kind.to_be_bytes(), length.to_be_bytes()].concat());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn address(self, kind: u16, address: SocketAddr) -> Self {
        let IpAddr::V4(ip) = address.ip() else { panic!("{address} is not of IPv4") };
        let [high, low] = address.port().to_be_bytes();
        let mut value = vec![0, 1, high ^ COOKIE[0], low ^ COOKIE[1]];
        value.extend(ip.octets().iter().zip(COOKIE).map(|(byte, mask)| byte ^ mask));
        self.attribute(kind, &value)
    }

    fn finish(mut self, key: Option<&[u8]>) -> Vec<u8> {
        let more = if key.is_some() { 24 } else { 0 };
        let length = u16::try_from(self.0.len() - 20 + more).expect("a datagram is shorter");
        self.0[2..4].copy_from_slice(&length.to_be_bytes());
        if let Some(key) = key {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
            let tag = hmac::sign(&key, &self.0);
            self = self.attribute(0x0008, tag.as_ref());
        }
        self.0
    }
}
