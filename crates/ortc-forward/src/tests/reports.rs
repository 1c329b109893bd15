//! Reports are made by whoever is awake, and wake the thread up only when they cannot wait.

use std::task::Waker;
use std::time::Instant;

use super::invariants::Sockets;
use super::*;
use crate::Turn;

/// How far apart the moments are at which reports wake the thread up at the latest, with some
/// room for rounding.
const TICK: Duration = Duration::from_millis(32);

/// A forwarder of one connection that has sent a packet, and so has something to report.
struct Sending {
    forwarder: PacketForwarder,
    io: Sockets,
    now: Instant,
    turn: Turn,
    /// Kept, as without them it would stop.
    _ends: (ForwarderHandle, RingReceiver<ForwarderEvent>, RingSender<OutgoingPacket>),
}

impl Sending {
    fn start() -> Self {
        let now = Instant::now();
        let clock = WallClock::new(now, 0);
        let waker = Waker::noop().clone();
        let (mut forwarder, handle, events) =
            PacketForwarder::new(&ForwarderConfig::default(), 1, clock, waker);
        let (packets, receiver) = ring(8);
        let socket = SocketId { slot: 0, generation: 1 };
        let path = Path::plain(socket, ([10, 0, 0, 2], 5).into());
        let address = SocketAddr::from(([10, 0, 0, 1], 0));
        for command in [
            ForwarderCommand::Attach(ID),
            ForwarderCommand::Bind(Bind { connection: ID, token: 0, address }),
            ForwarderCommand::Path(ID, PathUpdate::Authenticated(path)),
            ForwarderCommand::Path(ID, PathUpdate::Validated(path)),
            ForwarderCommand::Path(ID, PathUpdate::Selected(path)),
            ForwarderCommand::Open(ID),
            ForwarderCommand::SetKeys(ID, keys(true)),
            ForwarderCommand::AddSender(ID, sender_config(receiver)),
        ] {
            handle.send(command).unwrap();
        }
        packets.push(packet(0)).unwrap();
        let mut io = Sockets::default();
        let turn = forwarder.turn(now, &mut io);
        assert_eq!(io.sent, 1, "the packet");
        Self { forwarder, io, now, turn, _ends: (handle, events, packets) }
    }

    /// Takes a turn at some moment; how many datagrams it has sent.
    fn turn_at(&mut self, now: Instant) -> usize {
        let before = self.io.sent;
        self.now = now;
        self.turn = self.forwarder.turn(now, &mut self.io);
        self.io.sent - before
    }

    /// When the thread is to wake up for a report.
    fn wakes_at(&self) -> Instant {
        let (at, reason) = self.turn.next.unwrap();
        assert_eq!(reason, "a report is due");
        at
    }
}

#[test]
fn a_report_is_sent_when_the_thread_wakes_up_for_it() {
    let mut sending = Sending::start();
    for _ in 0..20 {
        let at = sending.wakes_at();
        assert_eq!(sending.turn_at(at), 1);
        assert!(sending.wakes_at() > at);
    }
}

#[test]
fn a_report_that_a_turn_has_made_wakes_nobody_up() {
    let mut sending = Sending::start();
    let mut early = 0;
    for _ in 0..20 {
        let wakes_at = sending.wakes_at();
        // Something else has it take a turn every millisecond.
        let mut made = 0;
        while made == 0 {
            let now = sending.now + Duration::from_millis(1);
            made = sending.turn_at(now);
        }
        assert_eq!(made, 1);
        assert!(sending.now < wakes_at + Duration::from_millis(1), "it is late");
        assert!(sending.now + TICK > wakes_at, "it is too early");
        if sending.now < wakes_at {
            early += 1;
            assert!(sending.wakes_at() > wakes_at, "it would wake up for nothing");
        }
    }
    assert!(early > 10, "{early} of 20 were made before the thread would have woken up");
}
