//! Two DTLS endpoints, and a network that cuts, changes, repeats and forges their records.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_dtls::{Certificate, DtlsConfig, DtlsEndpoint, DtlsOutput, DtlsRole, DtlsVersion};
use ortc_io::SrtpKeys;

use crate::Dice;

/// Datagrams that may be on their way.
const MAX_FLYING: usize = 32;

struct Peer {
    endpoint: DtlsEndpoint,
    keys: Option<SrtpKeys>,
    stopped: bool,
    /// Whether it may ever be connected.
    may_connect: bool,
}

struct World {
    now: Instant,
    /// The client, and the server.
    peers: [Peer; 2],
    flying: VecDeque<(usize, Bytes)>,
}

fn certificates() -> &'static [Certificate; 2] {
    static MADE: OnceLock<[Certificate; 2]> = OnceLock::new();
    MADE.get_or_init(|| [1, 2].map(|seed| Certificate::deterministic(seed).expect("a good seed")))
}

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let how = dice.byte();
    let now = Instant::now();
    let version = [DtlsVersion::default(), DtlsVersion::Auto][usize::from(how & 1)];
    let peers = [0, 1].map(|n| {
        let mut config = DtlsConfig::deterministic(n as u64);
        config.version = version;
        Peer {
            endpoint: DtlsEndpoint::new(config, certificates()[n].clone(), now),
            keys: None,
            stopped: false,
            may_connect: how >> (n + 1) & 1 == 0,
        }
    });
    let mut world = World { now, peers, flying: VecDeque::new() };
    if how & 8 != 0 {
        // Before it knows its role.
        world.inject(&mut dice);
    }
    for (n, role) in [(1, DtlsRole::Server), (0, DtlsRole::Client)] {
        let expected = certificates()[1 - n].sha256();
        let expected = if world.peers[n].may_connect { expected } else { [7; 32] };
        world.peers[n].endpoint.start(role, Some(expected), now).expect("it is the first time");
        world.settle(n);
    }
    for _ in 0..100 {
        if dice.is_over() {
            break;
        }
        world.operate(&mut dice);
    }
    // Whatever was done to them, they come to an end.
    for _ in 0..300 {
        (0..world.flying.len()).for_each(|_| world.deliver());
        world.advance(Duration::from_millis(500));
    }
    for peer in &world.peers {
        assert!(peer.keys.is_some() || peer.stopped, "it waits for ever");
    }
    if let [Some(client), Some(server)] = world.peers.each_ref().map(|peer| peer.keys.as_ref()) {
        assert_eq!(client.local_key, server.remote_key);
        assert_eq!(client.remote_key, server.local_key);
        assert_eq!(client.profile, server.profile);
    }
}

impl World {
    fn operate(&mut self, dice: &mut Dice<'_>) {
        match dice.byte() & 0x0f {
            0 => self.inject(dice),
            1 => drop(self.flying.pop_front()),
            2 => self.flying.rotate_left(1.min(self.flying.len())),
            3 => {
                if let Some(again) = self.flying.front().cloned() {
                    self.flying.push_back(again);
                }
            }
            4 => self.change(dice, |bytes, at, by| bytes[at] ^= by),
            5 => self.change(dice, |bytes, at, _| bytes.truncate(at)),
            6 => {
                // As if it came from the other side.
                if let Some((to, _)) = self.flying.front_mut() {
                    *to = 1 - *to;
                }
            }
            7 => self.change(dice, |bytes, at, by| bytes.insert(at, by)),
            8 => {
                let (now, n) = (self.now, usize::from(dice.byte() & 1));
                let message = dice.bytes();
                let _ = self.peers[n].endpoint.send_application_data(now, message);
                self.settle(n);
            }
            9 if dice.byte() == 0 => {
                let now = self.now;
                self.peers[0].endpoint.close(now);
                self.settle(0);
            }
            10 => self.advance(Duration::from_millis(u64::from(dice.short()))),
            _ => {
                self.deliver();
                self.advance(Duration::from_millis(10));
            }
        }
    }

    fn change(&mut self, dice: &mut Dice<'_>, change: impl Fn(&mut Vec<u8>, usize, u8)) {
        let (at, by) = (usize::from(dice.short()), dice.byte());
        if let Some((_, bytes)) = self.flying.front_mut().filter(|(_, bytes)| !bytes.is_empty()) {
            let mut changed = bytes.to_vec();
            let at = at % changed.len();
            change(&mut changed, at, by);
            *bytes = changed.into();
        }
    }

    /// Any bytes, as a record with a good header or as they are.
    fn inject(&mut self, dice: &mut Dice<'_>) {
        let how = dice.byte();
        let bytes = dice.bytes();
        let (now, n) = (self.now, usize::from(how & 1));
        let mut record = Vec::new();
        if how & 2 != 0 {
            record.extend([20 + (how >> 2 & 7), 0xfe, 0xfd, 0, how >> 5, 0, 0, 0, 0, 0, how]);
            record.extend((bytes.len() as u16).to_be_bytes());
        }
        record.extend(bytes);
        self.peers[n].endpoint.handle_datagram(now, &record);
        self.settle(n);
    }

    fn deliver(&mut self) {
        if let Some((to, bytes)) = self.flying.pop_front() {
            let now = self.now;
            self.peers[to].endpoint.handle_datagram(now, &bytes);
            self.settle(to);
        }
    }

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        loop {
            let due = |n: usize| self.peers[n].endpoint.poll_timeout().map(|(at, _)| (at, n));
            let next = [due(0), due(1)].into_iter().flatten().min();
            let Some((at, n)) = next.filter(|(at, _)| *at <= until) else { break };
            steps += 1;
            assert!(steps < 10_000, "it never rests");
            self.now = self.now.max(at);
            let now = self.now;
            self.peers[n].endpoint.handle_timeout(now);
            self.settle(n);
        }
        self.now = until;
    }

    fn settle(&mut self, n: usize) {
        let mut outputs = 0;
        while let Some(output) = self.peers[n].endpoint.poll_output() {
            outputs += 1;
            assert!(outputs < 1_000, "it never ends");
            let peer = &mut self.peers[n];
            assert!(!peer.stopped, "a life after the end");
            match output {
                DtlsOutput::Transmit(datagram) if self.flying.len() < MAX_FLYING => {
                    self.flying.push_back((1 - n, datagram));
                }
                DtlsOutput::Connected { keys, certificate, .. } => {
                    assert!(peer.may_connect, "the certificate is not the expected one");
                    assert!(peer.keys.is_none(), "connected twice");
                    assert_eq!(certificate, certificates()[1 - n].der());
                    peer.keys = Some(keys);
                }
                DtlsOutput::ApplicationData(_) => assert!(peer.keys.is_some()),
                DtlsOutput::Stopped(_) => peer.stopped = true,
                DtlsOutput::Transmit(_) => {}
            }
        }
    }
}
