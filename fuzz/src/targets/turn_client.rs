//! A TURN server that answers what it likes, and an agent that asks it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use md5::{Digest, Md5};
use ortc_ice::{
    IceAgent, IceCommand, IceConfig, IceEvent, Output, RTCIceConnectionInfo, RTCIceServer,
};
use ortc_io::{InterfaceAddress, InterfaceKind, Path, SocketEvent, SocketId};

use crate::Dice;

const SERVER: &str = "203.0.113.7:3478";
const REALM: &str = "example.test";

/// Longest response that is made up.
const MAX_RESPONSE: usize = 1_200;

struct World {
    now: Instant,
    agent: IceAgent,
    server: SocketAddr,
    sockets: Vec<SocketId>,
    /// Requests that wait for a response: the socket, the method, the transaction.
    asked: Vec<(SocketId, u16, [u8; 12])>,
    /// Whether anything was answered that is signed as it should be.
    answered: bool,
}

pub(crate) fn run(data: &[u8]) {
    fastrand::seed(1);
    let mut dice = Dice::new(data);
    let server = r#"{"url":"turn:alice@203.0.113.7:3478","credential":"secret"}"#;
    let server: RTCIceServer = serde_json::from_str(server).expect("it is one");
    let config = IceConfig::new(RTCIceConnectionInfo::from_random([1; 32]), 1)
        .with_servers(vec![server])
        .with_seed(1);
    let mut world = World {
        now: Instant::now(),
        agent: IceAgent::new(config),
        server: SERVER.parse().expect("it is one"),
        sockets: Vec::new(),
        asked: Vec::new(),
        answered: false,
    };
    world.command(IceCommand::Gather);
    let remote = RTCIceConnectionInfo::from_random([2; 32]);
    world.command(IceCommand::Connect { remote, controlling: dice.byte() & 1 == 0 });
    for _ in 0..100 {
        if dice.is_over() {
            break;
        }
        world.operate(&mut dice);
    }
    world.command(IceCommand::Close);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.agent.poll_timeout(), None, "closed, it rests");
}

impl World {
    fn operate(&mut self, dice: &mut Dice<'_>) {
        match dice.byte() & 0x0f {
            0..=5 => self.respond(dice),
            6 => self.challenge(),
            7 => {
                let line = "candidate:1 1 udp 2130706431 198.51.100.1 5000 typ host";
                let candidate = line.parse().expect("it is one");
                self.command(IceCommand::SetRemoteCandidate(candidate));
            }
            8 => self.command(IceCommand::Update),
            9 => {
                let bytes = dice.bytes();
                self.hear(bytes);
            }
            10 => {
                // A Data indication or channel data of any peer.
                let mut message = [&[0, 0x17, 0, 0, 0x21, 0x12, 0xa4, 0x42], &[9; 12][..]].concat();
                attributes(&mut message, dice);
                self.hear(&finish(message));
            }
            11 => self.asked.truncate(1),
            _ => self.advance(Duration::from_millis(u64::from(dice.short()))),
        }
    }

    /// Answers the oldest request: with attributes that the input has, signed or not.
    fn respond(&mut self, dice: &mut Dice<'_>) {
        if self.asked.is_empty() {
            return;
        }
        let (socket, method, id) = self.asked.remove(0);
        let how = dice.byte();
        let class: u16 = if how & 1 == 0 { 0x0100 } else { 0x0110 };
        let mut message = (class | method).to_be_bytes().to_vec();
        message.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
        message.extend(id);
        if how & 2 != 0 {
            // What a good one has: relayed and mapped addresses, and a lifetime.
            for kind in [0x0016u16, 0x0020] {
                let port = (u16::from(how) << 4 | 1) ^ 0x2112;
                let mut value = vec![0, 1];
                value.extend(port.to_be_bytes());
                value.extend([203 ^ 0x21, 0x12, 113 ^ 0xa4, 7 ^ 0x42]);
                attribute(&mut message, kind, &value);
            }
            attribute(&mut message, 0x000d, &u32::from(dice.short()).to_be_bytes());
        }
        attributes(&mut message, dice);
        if how & 4 != 0 {
            self.answered |= class == 0x0100;
            sign(&mut message);
        }
        let mut message = finish(message);
        if how & 8 != 0 && dice.byte() & 1 == 0 {
            message.truncate(usize::from(dice.byte()));
        }
        let (now, path) = (self.now, Path::plain(socket, self.server));
        self.agent.handle_datagram(now, path, &message);
        self.settle();
    }

    /// Says which realm it is, as a server does to whoever has not signed.
    fn challenge(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let (socket, method, id) = self.asked.remove(0);
        let mut message = (0x0110 | method).to_be_bytes().to_vec();
        message.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
        message.extend(id);
        attribute(&mut message, 0x0009, &[0, 0, 4, 1]);
        attribute(&mut message, 0x0014, REALM.as_bytes());
        attribute(&mut message, 0x0015, b"nonce");
        let (now, path) = (self.now, Path::plain(socket, self.server));
        self.agent.handle_datagram(now, path, &finish(message));
        self.settle();
    }

    fn hear(&mut self, bytes: &[u8]) {
        let Some(socket) = self.sockets.first().copied() else { return };
        let (now, path) = (self.now, Path::plain(socket, self.server));
        self.agent.handle_datagram(now, path, bytes);
        self.settle();
    }

    fn command(&mut self, command: IceCommand) {
        let now = self.now;
        self.agent.handle_command(now, command);
        self.settle();
    }

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while let Some((at, _)) = self.agent.poll_timeout().filter(|(at, _)| *at <= until) {
            steps += 1;
            assert!(steps < 200_000, "it never rests");
            self.now = self.now.max(at);
            let now = self.now;
            self.agent.handle_timeout(now);
            self.settle();
        }
        self.now = until;
    }

    fn settle(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.agent.poll_output() {
            outputs += 1;
            assert!(outputs < 10_000, "it never ends");
            let now = self.now;
            match output {
                Output::Enumerate => {
                    let address = IpAddr::from([192, 0, 2, 1]);
                    let (name, kind) = ("eth0".into(), InterfaceKind::Network);
                    let interface = InterfaceAddress { name, address, scope_id: 0, kind };
                    let event = SocketEvent::Interfaces(vec![interface]);
                    self.agent.handle_socket_event(now, event);
                }
                Output::Bind { token, address } => {
                    let slot = self.sockets.len() as u32;
                    let socket = SocketId { slot, generation: 0 };
                    self.sockets.push(socket);
                    let local = SocketAddr::new(address.ip(), 5_000 + slot as u16);
                    let event = SocketEvent::Bound { token, socket, local };
                    self.agent.handle_socket_event(now, event);
                }
                Output::Resolve { token, .. } => {
                    self.agent.handle_resolved(now, token, Ok(vec![self.server.ip()]));
                }
                Output::Transmit { path, datagram } if path.remote == self.server => {
                    let [high, low, _, _, _, _, _, _, rest @ ..] = &datagram[..] else { continue };
                    let kind = u16::from_be_bytes([*high, *low]);
                    if kind & 0xfff0 == 0 && self.asked.len() < 16 && rest.len() >= 12 {
                        let id = rest[..12].try_into().expect("twelve bytes");
                        self.asked.push((path.socket, kind, id));
                    }
                }
                Output::Event(IceEvent::CandidateFound(found)) if found.kind == "relay" => {
                    assert!(self.answered, "nobody has signed that there is a relay");
                }
                _ => {}
            }
        }
    }
}

/// Attributes that the input has.
fn attributes(message: &mut Vec<u8>, dice: &mut Dice<'_>) {
    for _ in 0..dice.byte() & 7 {
        let kind = dice.short();
        // Those that mean something lie close together.
        let kind = if kind & 0x0080 == 0 { kind & 0x003f } else { kind };
        let value = dice.bytes();
        if message.len() + value.len() < MAX_RESPONSE {
            attribute(message, kind, value);
        }
    }
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn finish(mut message: Vec<u8>) -> Vec<u8> {
    let length = (message.len() - 20) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    message
}

/// Puts a MESSAGE-INTEGRITY behind it (RFC 8489 §14.5), with the key of the long-term credentials.
fn sign(message: &mut Vec<u8>) {
    let length = (message.len() + 24 - 20) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let key = Md5::digest(format!("alice:{REALM}:secret"));
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let tag = hmac::sign(&key, message);
    attribute(message, 0x0008, tag.as_ref());
}
