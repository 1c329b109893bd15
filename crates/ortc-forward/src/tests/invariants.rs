//! What holds whatever is commanded and whatever arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::task::Waker;
use std::time::Instant;

use fastrand::Rng;
use ortc_io::{DatagramIo, InterfaceAddress, ReceiveBatch, SendBatch, SendReport};

use super::*;

/// Sockets that only note what was done with them.
#[derive(Default)]
pub(super) struct Sockets {
    /// Open ones by slot.
    open: BTreeMap<u32, SocketId>,
    generations: Vec<u32>,
    arriving: Vec<(SocketId, SocketAddr, Vec<u8>)>,
    failing: Vec<SocketId>,
    /// Datagrams sent, and those of them on a socket that was closed.
    pub(super) sent: usize,
    sent_on_closed: usize,
}

impl DatagramIo for Sockets {
    fn bind(&mut self, address: SocketAddr) -> io::Result<(SocketId, SocketAddr)> {
        if address.port() == 1 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let slot = (0..).find(|slot| !self.open.contains_key(slot)).unwrap();
        if self.generations.len() <= slot as usize {
            self.generations.push(0);
        }
        self.generations[slot as usize] += 1;
        let socket = SocketId { slot, generation: self.generations[slot as usize] };
        self.open.insert(slot, socket);
        Ok((socket, SocketAddr::new(address.ip(), 1000)))
    }

    fn close(&mut self, socket: SocketId) {
        if self.open.get(&socket.slot) == Some(&socket) {
            self.open.remove(&socket.slot);
        }
    }

    fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        failed: &mut Vec<(SocketId, io::Error)>,
    ) -> bool {
        let broken = self.failing.drain(..);
        failed.extend(broken.map(|socket| (socket, io::ErrorKind::NetworkDown.into())));
        for (socket, remote, datagram) in self.arriving.drain(..) {
            batch.push(socket, remote, &datagram);
        }
        false
    }

    fn send(&mut self, batch: &mut SendBatch) -> SendReport {
        let sent = batch.len();
        self.sent += sent;
        let closed = |socket: SocketId| self.open.get(&socket.slot) != Some(&socket);
        self.sent_on_closed += batch.iter().filter(|(socket, ..)| closed(*socket)).count();
        batch.clear();
        SendReport { sent, dropped: 0, calls: 1 }
    }

    fn interfaces(&mut self) -> io::Result<Vec<InterfaceAddress>> {
        Ok(Vec::new())
    }
}

#[test]
fn every_question_has_one_answer_and_every_socket_an_owner() {
    for seed in 0..200 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut now = Instant::now();
    let clock = WallClock::new(now, 0);
    let config = ForwarderConfig { max_connections: 4, ..ForwarderConfig::default() };
    let (mut forwarder, handle, mut events) =
        PacketForwarder::new(&config, seed, clock, Waker::noop().clone());
    let mut io = Sockets::default();
    let (mut asked, mut answered) = (BTreeMap::new(), BTreeMap::new());
    let mut owned: BTreeSet<SocketId> = BTreeSet::new();
    let mut rings = Vec::new();

    for step in 0..400 {
        // Five slots, of which one is beyond the limit; generations go up slowly.
        let id = ConnectionId { slot: rng.u32(..5), generation: step / 80 + rng.u32(..2) };
        let remote = SocketAddr::from(([10, 0, 0, rng.u8(..4)], 5));
        let socket = SocketId { slot: rng.u32(..6), generation: rng.u32(..6) };
        let path = Path::plain(socket, remote);
        let command = match rng.u32(..16) {
            0 | 1 => ForwarderCommand::Attach(id),
            2 => ForwarderCommand::Detach(id),
            3 | 4 => {
                let address = SocketAddr::from(([0, 0, 0, 0], u16::from(rng.u8(..4))));
                ForwarderCommand::Bind(Bind { connection: id, token: u64::from(step), address })
            }
            5 => ForwarderCommand::Unbind(id, socket),
            6 => ForwarderCommand::Path(id, PathUpdate::Authenticated(path)),
            7 => ForwarderCommand::Path(id, PathUpdate::Validated(path)),
            8 => ForwarderCommand::Path(id, PathUpdate::Selected(path)),
            9 => ForwarderCommand::Path(id, PathUpdate::Lost(path)),
            10 => ForwarderCommand::Open(id),
            11 => ForwarderCommand::SetKeys(id, keys(rng.bool())),
            12 => {
                let (sender, packets) = ring(8);
                rings.push(sender);
                ForwarderCommand::AddSender(id, sender_config(packets))
            }
            13 => ForwarderCommand::AddReceiver(id, receiver_config(ring(4).0)),
            14 => ForwarderCommand::Close(id),
            _ => ForwarderCommand::Panic(Some(id)),
        };
        let question = match &command {
            ForwarderCommand::Detach(_) => "detach",
            ForwarderCommand::Close(_) => "close",
            ForwarderCommand::Bind(_) => "bind",
            ForwarderCommand::Unbind(..) => "unbind",
            _ => "",
        };
        // A panic is rare, and prints.
        if matches!(command, ForwarderCommand::Panic(_)) && (step % 100 != 7 || seed >= 4) {
            continue;
        }
        *asked.entry(question).or_insert(0u32) += 1;
        handle.send(command).unwrap();
        for sender in &rings {
            let _ = sender.push(packet(u64::from(step)));
        }
        let len = rng.usize(..40);
        let first = rng.choice([0, 20, 64, 128, 144, 255]).unwrap();
        let mut datagram: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        if let Some(byte) = datagram.first_mut() {
            *byte = first;
        }
        io.arriving.push((socket, remote, datagram));
        if rng.u32(..50) == 0 {
            io.failing.push(socket);
        }

        let turn = forwarder.turn(now, &mut io);
        assert!(!turn.stopped);
        now += Duration::from_millis(rng.u64(..200));
        while let Popped::Item(event) = events.pop() {
            let answer = match event {
                ForwarderEvent::Detached(_) => "detach",
                ForwarderEvent::Route(RouteEvent::Closed(_)) => "close",
                ForwarderEvent::Socket(_, SocketEvent::Bound { socket, .. }) => {
                    assert!(owned.insert(socket));
                    "bind"
                }
                ForwarderEvent::Socket(_, SocketEvent::BindFailed { .. }) => "bind",
                ForwarderEvent::Socket(_, SocketEvent::Unbound { error: None, .. }) => "unbind",
                _ => "",
            };
            *answered.entry(answer).or_insert(0u32) += 1;
        }
        // What is closed is nobody's any more, said or unsaid: a detached connection's
        // sockets go without a word each.
        owned.retain(|socket| io.open.get(&socket.slot) == Some(socket));
        assert_eq!(owned.len(), io.open.len(), "seed {seed}, step {step}: an unowned socket");
    }
    for question in ["bind", "unbind"] {
        assert_eq!(asked.get(question), answered.get(question), "seed {seed}: {question}");
    }
    // A forgotten generation, a detached or a panicking connection ends unasked as well.
    for question in ["detach", "close"] {
        assert!(asked.get(question) <= answered.get(question), "seed {seed}: {question}");
    }
    assert_eq!(io.sent_on_closed, 0, "seed {seed}");
    handle.stop();
    assert!(forwarder.turn(now, &mut io).stopped);
    assert_eq!(io.open.len(), 0, "seed {seed}: a socket was left behind");
    assert!(rings.iter().all(|ring| ring.push(packet(0)).is_err()), "seed {seed}: a sender");
}
