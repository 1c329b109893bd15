use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use ortc_io::consent::ConsentTable;
use ortc_io::paths::{Admission, Parked, PathTable};
use ortc_io::ring::RingReceiver;
use ortc_io::{
    ConnectionId, DatagramIo, DatagramKind, DatagramReceived, FlightDirection, Path, ReceiveBatch,
    SendBatch, SocketId, classify,
};
use ortc_rtp::MAX_PADDING;

use crate::clock::WallClock;
use crate::fanout::{FanOut, PacketStore};
use crate::handle::Wakeup;
use crate::link::guarded;
use crate::lookahead::Lookahead;
use crate::mesh::Mesh;
use crate::outbox::Outbox;
use crate::plane::Plane;
use crate::ready::ReadyList;
use crate::tables::Slots;
use crate::timers::Timers;
use crate::{ForwarderCommand, ForwarderConfig, ForwarderEvent, ForwarderHandle, ForwarderStats};

/// Commands carried out in one turn. The dearest, binding a socket, takes some 10 µs; so
/// media wait for commands about a millisecond at the very worst. For a path that
/// is validated there may be media that has waited, 32 packets at the most.
const COMMANDS_PER_TURN: usize = 128;

/// Batches of 64 datagrams received in one turn: after 256 it is time to send.
const RECEIVES_PER_TURN: usize = 4;

/// Connections on the ready list served in one turn.
const READY_PER_TURN: usize = 256;

/// When to try again to hand over events that the ring had no room for.
const OUTBOX_RETRY: Duration = Duration::from_millis(1);

/// The core of the media plane: routes every datagram of its sockets, runs SRTP and the
/// streams of every connection in place, and sends in batches.
///
/// It has no thread, clock, socket or randomness of its own. [`spawn_pinned`] steps it on
/// an operating-system thread; the `sim` feature steps it in virtual time.
///
/// [`spawn_pinned`]: crate::spawn_pinned
#[derive(Debug)]
pub struct PacketForwarder {
    commands: Receiver<ForwarderCommand>,
    wakeup: std::sync::Arc<Wakeup>,
    incoming: ReceiveBatch,
    failed: Vec<(SocketId, io::Error)>,
    plane: Plane,
}

/// What a [turn](PacketForwarder::turn) left to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// When the next turn is due at the latest, and what for.
    pub next: Option<(Instant, &'static str)>,
    /// Whether there is more to do at once: take the next turn without waiting.
    pub more: bool,
    /// Whether it has stopped and let go of everything; there is no next turn.
    pub stopped: bool,
}

impl PacketForwarder {
    /// Makes a forwarder, the handle that commands it and the ring that its events come out
    /// of.
    ///
    /// `seed` fixes all of its randomness; `clock` says what the wall clock showed at some
    /// instant, for the NTP timestamps of RTCP reports. `waker` is woken, at most once per turn, when a
    /// command or a packet to be sent has come: take a turn then.
    pub fn new(
        config: &ForwarderConfig,
        seed: u64,
        clock: WallClock,
        waker: Waker,
    ) -> (Self, ForwarderHandle, RingReceiver<ForwarderEvent>) {
        let (sender, commands) = bounded(config.command_capacity.max(1));
        let wakeup = Wakeup::new(waker);
        let (outbox, events) = Outbox::new(config.event_capacity);
        let plane = Plane {
            links: Slots::new(config.max_connections),
            paths: PathTable::new(),
            consent: ConsentTable::new(),
            outgoing: SendBatch::new(),
            fan_out: FanOut::default(),
            mesh: Mesh::default(),
            wanted: Vec::new(),
            foreign: Vec::new(),
            outbox,
            timers: Timers::default(),
            reports: Timers::default(),
            ready: ReadyList::new(config.max_connections.max(1), wakeup.clone()),
            stats: ForwarderStats::default(),
            touched: Vec::new(),
            seed,
            clock,
            cpu: None,
            stopwatch: None,
            session: config.session.clone(),
            max_padding: config.padding.min(MAX_PADDING),
            flight: config.flight_recorder,
        };
        let handle = ForwarderHandle::new(sender, wakeup.clone());
        let incoming = ReceiveBatch::new();
        (Self { commands, wakeup, incoming, failed: Vec::new(), plane }, handle, events)
    }

    pub(crate) fn set_mesh(&mut self, mesh: Mesh) {
        self.plane.mesh = mesh;
    }

    pub(crate) fn wakeup(&self) -> std::sync::Arc<Wakeup> {
        std::sync::Arc::clone(&self.wakeup)
    }

    /// Has snapshots include CPU time, as `read` gives it on the thread that takes the turns.
    pub fn meter_cpu(&mut self, read: fn() -> Duration) {
        self.plane.cpu = Some(read);
    }

    /// Times the steps of forwarding by the clock `read`, the CPU time of the thread that takes
    /// the turns; without this [`ForwarderStats::steps`] stays zero.
    pub fn meter_steps(&mut self, read: fn() -> Duration) {
        self.plane.stopwatch = Some(read);
    }

    #[cfg(test)]
    pub(crate) fn pad(&mut self, max: u8) {
        self.plane.max_padding = max;
    }

    /// How often an address was looked up so far.
    #[cfg(test)]
    pub(crate) fn lookups(&self) -> u64 {
        self.plane.paths.lookups()
    }

    /// Does all that there is to do at `now`, within bounds, and never blocks.
    ///
    /// Commands first, then what has arrived, what is due, and what applications have
    /// pushed; all that is to be sent leaves in one batch at the end, and so do the events.
    pub fn turn(&mut self, now: Instant, io: &mut impl DatagramIo) -> Turn {
        self.wakeup.answer();
        let (mut more, mut held_back) = (false, false);
        if self.wakeup.is_stopping() || self.plane.outbox.is_closed {
            return self.stop(now, io);
        }
        for left in (0..COMMANDS_PER_TURN).rev() {
            if self.plane.outbox.is_congested() {
                held_back = true;
                break;
            }
            match self.commands.try_recv() {
                Ok(command) => self.plane.execute(now, command, io),
                Err(TryRecvError::Empty) => break,
                // Nobody can command it any more.
                Err(TryRecvError::Disconnected) => return self.stop(now, io),
            }
            more |= left == 0;
        }
        more |= self.receive(now, io);
        more |= self.plane.take_arrivals(now, io);
        self.expire(now, io);
        self.plane.ask_for_consent(now, io);
        more |= self.serve_ready(io);
        while let Some(slot) = self.plane.touched.pop() {
            if let Some(id) = self.plane.links.at_mut(slot).map(|link| link.id) {
                self.plane.follow_up(now, id, io);
            }
        }
        self.plane.flush(io);
        more |= self.plane.mesh.flush_notices();
        let plane = &mut self.plane;
        let deadlines =
            [plane.timers.next(), plane.paths.poll_timeout(), plane.consent.poll_timeout()];
        let mut next = deadlines.into_iter().flatten().min();
        if self.plane.outbox.flush() {
            more |= held_back;
        } else {
            let retry = (now + OUTBOX_RETRY, "events that the control plane had no room for");
            next = Some(next.map_or(retry, |next| next.min(retry)));
        }
        more |= self.plane.ready.len() > 0;
        Turn { next, more, stopped: false }
    }

    fn stop(&mut self, now: Instant, io: &mut impl DatagramIo) -> Turn {
        self.plane.shut_down(now, io);
        self.plane.outbox.flush();
        // What still waits in the queue goes with it, keys zeroized as they drop.
        while self.commands.try_recv().is_ok() {}
        Turn { next: None, more: false, stopped: true }
    }

    /// Takes what has arrived; returns whether more may be waiting.
    fn receive(&mut self, now: Instant, io: &mut impl DatagramIo) -> bool {
        for _ in 0..RECEIVES_PER_TURN {
            self.incoming.clear();
            let more = io.receive(&mut self.incoming, &mut self.failed);
            self.plane.stats.received += self.incoming.len() as u64;
            let begun = self.plane.read_stopwatch();
            let mut ahead = Lookahead::default();
            for step in 0..self.incoming.len() + Lookahead::STEPS {
                self.plane.look_ahead(now, &self.incoming, step, &mut ahead);
                let Some(index) = step.checked_sub(Lookahead::STEPS) else { continue };
                let path = self.incoming.unwrap(index);
                let (_, bytes) = self.incoming.get_mut(index);
                self.plane.route(now, path, index, bytes, io);
            }
            self.plane.stats.steps.open += self.plane.read_stopwatch() - begun;
            self.plane.fan_out(now, &self.incoming, io);
            for (socket, error) in self.failed.drain(..) {
                self.plane.lose_socket(socket, error, io);
            }
            self.plane.stats.too_long = self.incoming.truncated();
            if !more {
                return false;
            }
        }
        true
    }

    /// Does what is due.
    fn expire(&mut self, now: Instant, io: &mut impl DatagramIo) {
        self.plane.paths.handle_timeout(now);
        // Each slot at most once a turn, should a core ask for an instant that has passed.
        let mut left = self.plane.links.len() + 1;
        // A report that is made now, as the thread is awake, needs no wake-up any more.
        while left > 0
            && let Some(slot) = self.plane.reports.fire(now)
        {
            left -= 1;
            self.plane.timers.disarm(slot);
            self.plane.handle_timeout(now, slot, io);
        }
        while left > 0
            && let Some(slot) = self.plane.timers.fire(now)
        {
            left -= 1;
            self.plane.handle_timeout(now, slot, io);
        }
    }

    /// Has the connections followed up whose applications have pushed packets; returns
    /// whether more of them wait.
    fn serve_ready(&mut self, io: &mut impl DatagramIo) -> bool {
        let plane = &mut self.plane;
        if plane.ready.has_overflowed() {
            let ids: Vec<_> = plane.links.iter_mut().map(|link| link.id).collect();
            for id in ids {
                plane.listen(id, io);
            }
        }
        for _ in 0..READY_PER_TURN.min(plane.ready.len()) {
            let Some(id) = plane.ready.pop() else { return false };
            plane.listen(id, io);
        }
        plane.ready.len() > 0
    }
}

/// How a packet of media has come.
struct Arrival {
    /// When it was taken from the socket.
    at: Instant,
    path: Path,
    kind: DatagramKind,
    /// Its place among what came with it.
    index: usize,
}

/// Media that has waited for its path.
struct Released(Vec<Vec<u8>>);

impl PacketStore for Released {
    fn packet(&self, at: usize, len: usize) -> &[u8] {
        &self.0[at][..len]
    }
}

impl Plane {
    /// Brings one datagram from the network, the `index`th of its batch, to where it belongs.
    fn route(
        &mut self,
        now: Instant,
        path: Path,
        index: usize,
        bytes: &mut [u8],
        io: &mut impl DatagramIo,
    ) {
        let kind = classify(bytes);
        if kind.is_media() {
            let arrival = Arrival { at: now, path, kind, index };
            return self.route_media(now, arrival, bytes, io);
        }
        if kind == DatagramKind::Stun && self.take_consent(now, path, bytes, io) {
            return;
        }
        let Admission::Deliver(connection) = self.paths.admit(now, path, kind, bytes) else {
            return;
        };
        self.record(now, connection, FlightDirection::In, path, bytes);
        if !self.outbox.has_room_for_datagram(kind) {
            return;
        }
        let datagram = Bytes::copy_from_slice(bytes);
        let datagram = DatagramReceived { connection, path, received_at: now, datagram };
        self.outbox.push(match kind {
            DatagramKind::Dtls => ForwarderEvent::Dtls(datagram),
            _ => ForwarderEvent::Stun(datagram),
        });
    }

    /// Brings to where it belongs what has waited for its path.
    pub(crate) fn route_released(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        released: Vec<Parked>,
        io: &mut impl DatagramIo,
    ) {
        let mut media = Released(Vec::new());
        for Parked { path, received_at, datagram } in released {
            let kind = classify(&datagram);
            if kind.is_media() {
                let arrival = Arrival { at: received_at, path, kind, index: media.0.len() };
                let mut bytes = Vec::from(datagram);
                self.route_media(now, arrival, &mut bytes, io);
                media.0.push(bytes);
            } else {
                let datagram = DatagramReceived { connection, path, received_at, datagram };
                self.outbox.push(ForwarderEvent::Dtls(datagram));
            }
        }
        self.fan_out(now, &media, io);
    }

    fn route_media(
        &mut self,
        now: Instant,
        Arrival { at, path, kind, index }: Arrival,
        bytes: &mut [u8],
        io: &mut impl DatagramIo,
    ) {
        let Some(id) = self.paths.route(now, path) else {
            // It waits for its path, or is counted.
            self.paths.admit(now, path, kind, bytes);
            return;
        };
        let link = self.links.get_mut(id);
        let Some((session, recorder, hearing)) = link
            .and_then(|link| Some((link.session.as_mut()?, &mut link.recorder, &mut link.hearing)))
        else {
            self.stats.media_not_open += 1;
            return;
        };
        if let Some(recorder) = recorder {
            recorder.datagram(now, FlightDirection::In, path, bytes);
        }
        let authentic = session.authentic();
        let mut has_work = true;
        let handled = guarded(|| match kind {
            DatagramKind::Rtcp => {
                has_work = session.handle_rtcp(at, bytes);
                None
            }
            _ => session.handle_rtp(at, bytes),
        });
        let is_authentic = handled.is_some() && session.authentic() != authentic;
        let alarm = hearing.deadline();
        let is_doubtful = is_authentic && hearing.hear(now, path);
        // An alarm that moves away is set anew when it goes off; only an earlier one is to be set now.
        has_work |= hearing.deadline().is_some_and(|(at, _)| alarm.is_none_or(|(was, _)| at < was));
        if is_doubtful {
            self.doubt(id);
        }
        match handled {
            Some(opened) => {
                if has_work {
                    self.touch(id);
                }
                if let Some(rtp) = opened {
                    self.opened(now, id, index, rtp, &bytes[..rtp.len]);
                } else if kind == DatagramKind::Rtcp {
                    self.pass_reports(id);
                }
            }
            None => self.give_up(id, io),
        }
    }
}
