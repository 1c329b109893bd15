//! A diagnosis of the network, whatever servers, sockets and the network do: it comes to its end in
//! its time, and says something.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_ice::RTCIceServer;
use ortc_ice::diagnosis::{Diagnosis, DiagnosisOutput};
use ortc_io::{InterfaceAddress, InterfaceKind};

use crate::Dice;

/// It takes 20 s, and a preparation may come before.
const LIMIT: Duration = Duration::from_secs(40);

/// Four copies of each question, for all servers, addresses and tests of NATs, and to spare.
const MOST_SENT: usize = 2_000;

const SERVERS: [&str; 6] = [
    "stun:192.0.2.1",
    "stuns:192.0.2.2",
    "turn:192.0.2.3",
    "turn:[2001:db8::3]?transport=tcp",
    "turns:turn.example.org",
    "stun:stun.example.org",
];

struct Run<'a> {
    dice: Dice<'a>,
    now: Instant,
    diagnosis: Diagnosis,
    /// Sockets and streams that are wanted and not there yet, by token.
    wanted: Vec<(u64, SocketAddr)>,
    resolving: Vec<u64>,
    open: BTreeSet<u64>,
    closed: BTreeSet<u64>,
    /// What was sent last: from where, to whom.
    sent: Vec<(u64, SocketAddr, Bytes)>,
    count: usize,
}

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let chosen = dice.byte();
    let servers: Vec<RTCIceServer> = SERVERS
        .iter()
        .enumerate()
        .filter(|(at, _)| chosen & (1 << at) != 0)
        .map(|(_, url)| RTCIceServer::new(*url).with_credential("alice", "secret"))
        .collect();
    let interface = |address: &str| InterfaceAddress {
        name: "eth0".into(),
        address: address.parse().expect("an address"),
        scope_id: 0,
        kind: InterfaceKind::Network,
    };
    let mut interfaces = vec![interface("10.0.0.1"), interface("2001:db8::5")];
    interfaces.truncate(usize::from(chosen >> 6));
    let start = Instant::now();
    let diagnosis = Diagnosis::new(start, interfaces, &servers, 1).expect("they can be parsed");
    let mut run = Run {
        dice,
        now: start,
        diagnosis,
        wanted: Vec::new(),
        resolving: Vec::new(),
        open: BTreeSet::new(),
        closed: BTreeSet::new(),
        sent: Vec::new(),
        count: 0,
    };
    run.drain();
    while !run.dice.is_over() {
        run.step();
        run.drain();
    }
    // Nothing happens any more but the time that passes.
    for (token, _) in std::mem::take(&mut run.wanted) {
        run.diagnosis.handle_failed(run.now, token, "no such thing".into());
        run.drain();
    }
    for token in std::mem::take(&mut run.resolving) {
        run.diagnosis.handle_resolved(run.now, token, Err("no such name".into()));
        run.drain();
    }
    for (token, _) in std::mem::take(&mut run.wanted) {
        run.diagnosis.handle_failed(run.now, token, "no such thing".into());
    }
    run.drain();
    let still = run.now;
    while let Some((at, _)) = run.diagnosis.poll_timeout() {
        assert!(at <= still + LIMIT, "it comes to an end");
        run.now = run.now.max(at);
        run.diagnosis.handle_timeout(run.now);
        run.drain();
        for (token, _) in std::mem::take(&mut run.wanted) {
            run.diagnosis.handle_failed(run.now, token, "no such thing".into());
        }
        run.drain();
    }
    assert!(run.diagnosis.is_done());
    let report = run.diagnosis.report();
    assert_eq!(report.servers.len(), servers.len());
    let _ = (report.verdict(), report.has_relay());
}

impl Run<'_> {
    fn drain(&mut self) {
        while let Some(output) = self.diagnosis.poll_output() {
            match output {
                DiagnosisOutput::Bind { token, address, .. } => self.wanted.push((token, address)),
                DiagnosisOutput::OpenStream { token, server, .. } => {
                    self.wanted.push((token, server));
                }
                DiagnosisOutput::Resolve { token, .. } => self.resolving.push(token),
                DiagnosisOutput::Transmit { token, to, datagram } => {
                    assert!(self.open.contains(&token), "there is something to send from");
                    self.count += 1;
                    assert!(self.count <= MOST_SENT, "what is sent is bounded");
                    self.sent.push((token, to, datagram));
                    if self.sent.len() > 16 {
                        self.sent.remove(0);
                    }
                }
                DiagnosisOutput::Close { token } => {
                    self.closed.insert(token);
                }
            }
        }
    }

    fn step(&mut self) {
        let operation = self.dice.byte();
        let index = usize::from(self.dice.byte());
        match operation % 8 {
            0 | 1 if !self.wanted.is_empty() => {
                let (token, near) = self.wanted.swap_remove(index % self.wanted.len());
                self.open.insert(token);
                let ip: IpAddr = match near {
                    SocketAddr::V4(_) => [10, 0, 0, 1].into(),
                    SocketAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 5].into(),
                };
                let local = SocketAddr::new(ip, 5000);
                self.diagnosis.handle_bound(self.now, token, local);
            }
            2 if !self.wanted.is_empty() => {
                let (token, _) = self.wanted.swap_remove(index % self.wanted.len());
                self.diagnosis.handle_failed(self.now, token, "no such thing".into());
            }
            3 if !self.resolving.is_empty() => {
                let token = self.resolving.swap_remove(index % self.resolving.len());
                let ips: Vec<IpAddr> = match index % 4 {
                    0 => Vec::new(),
                    1 => vec![[192, 0, 2, 9].into()],
                    2 => vec![[192, 0, 2, 9].into(), [127, 0, 0, 1].into()],
                    _ => vec![[0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into()],
                };
                self.diagnosis.handle_resolved(self.now, token, Ok(ips));
            }
            4 | 5 if !self.sent.is_empty() => self.answer(operation, index),
            6 => {
                let token = index as u64;
                let from = SocketAddr::from(([192, 0, 2, 1], 3478));
                let datagram = self.dice.bytes();
                self.diagnosis.handle_datagram(self.now, token, from, datagram);
            }
            _ => {
                self.now += Duration::from_millis(20 * index as u64);
                self.diagnosis.handle_timeout(self.now);
            }
        }
    }

    /// Something comes that has the identifier of what was sent: an answer, or nearly.
    fn answer(&mut self, operation: u8, index: usize) {
        let (token, to, request) = self.sent[index % self.sent.len()].clone();
        let error = u16::from(operation & 0x10 != 0) * 0x10;
        let method = u16::from_be_bytes([request[0], request[1]]) & !0x110 | 0x100 | error;
        let attributes = self.dice.bytes();
        let attributes = &attributes[..attributes.len() & !3];
        let mut message = method.to_be_bytes().to_vec();
        message.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
        message.extend_from_slice(&request[4..20]);
        message.extend_from_slice(attributes);
        let from = if operation & 0x20 != 0 { SocketAddr::new(to.ip(), 9) } else { to };
        if operation & 0x40 != 0 {
            self.diagnosis.handle_send_failed(self.now, token, to, "unreachable".into());
        }
        self.diagnosis.handle_datagram(self.now, token, from, &message);
    }
}
