//! Carries a program out, and looks at it after each step.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ortc_api::{
    AddStreamError, CandidateError, ConnectError, Engine, LocalSocketError, NewConnectionError,
    RTCConnection, RTCConnectionOptions, RTCSocket, ReceiveTrackError, SetRemoteIceError,
    TrackError,
};
use ortc_io::sim::{Host, LinkConfig, Network};

use super::media::{Due, Ear, Heard, Silent, UNDESCRIBED, frame_of};
use super::program::{FORWARDED, HOSTS, Operation, Program, Shape};
use super::side::{CLOSING, Receiving, Sending, Side};
use super::wire::Watch;
use super::{Census, Failure, MakeTransports, check, fail};
use crate::{Peer, pass, signalled};

/// The port of [`Shape::Port`].
const PORT: u16 = 5_000;

/// How long a track has to have been started or stopped for its frames to know.
const SETTLED: Duration = Duration::from_millis(15);

pub(super) struct World<'a> {
    pub(super) net: Network,
    pub(super) program: &'a Program,
    transports: &'a MakeTransports<'a>,
    pub(super) census: Census,
    pub(super) hosts: Vec<Host>,
    pub(super) engines: Vec<Engine>,
    pub(super) port: Option<RTCSocket>,
    pub(super) sides: Vec<Option<Side>>,
    pub(super) is_calm: bool,
    pub(super) delay: Duration,
    watch: Watch,
    pub(super) heard: Heard,
    due: Vec<Due>,
    /// Who wants to hear no more of a track, until it is described again: what comes is dropped.
    forgotten: BTreeSet<Ear>,
    silent: Silent,
    /// Until when each host was suspended; what it had to say goes out only then.
    suspended: [Option<Duration>; HOSTS],
}

pub(super) fn address(host: usize, n: usize) -> IpAddr {
    [10, 0, host as u8, n as u8 + 1].into()
}

impl<'a> World<'a> {
    pub(super) fn new(
        net: Network,
        program: &'a Program,
        transports: &'a MakeTransports<'a>,
    ) -> Self {
        let hosts: Vec<_> = (0..HOSTS)
            .map(|n| net.host(&format!("host {n}"), &[address(n, 0), address(n, 1)]))
            .collect();
        let engines: Vec<_> =
            hosts.iter().map(|host| Engine::simulated(host.io(), net.random())).collect();
        Self {
            watch: Watch::over(&net),
            sides: (0..program.shape.connections()).map(|_| None).collect(),
            is_calm: program.is_calm(),
            delay: LinkConfig::default().delay,
            heard: Heard::default(),
            due: Vec::new(),
            forgotten: BTreeSet::new(),
            silent: Silent::default(),
            suspended: [None; HOSTS],
            net,
            program,
            transports,
            census: Census::default(),
            hosts,
            engines,
            port: None,
        }
    }

    /// Binds the port that connections are on, where the shape says so.
    pub(super) async fn bind_port(&mut self) -> Result<(), Failure> {
        if self.program.shape == Shape::Port {
            let bound = RTCSocket::bind_on(&self.engines[0], (address(0, 0), PORT).into()).await;
            self.port = Some(bound.map_err(|error| failure("a port can be bound", error))?);
        }
        Ok(())
    }

    /// Carries out one operation, and looks at what has come of it.
    pub(super) async fn step(&mut self, operation: Operation) -> Result<(), Failure> {
        use Operation as Op;
        match operation {
            Op::Create(conn) => self.create(conn)?,
            Op::SetIce(conn) => self.set_ice(conn)?,
            Op::Connect(conn) => self.connect(conn)?,
            Op::SetLocal(conn, n) => self.set_local(conn, n)?,
            Op::SetRemote(conn, n) => self.set_remote(conn, n)?,
            Op::Signal(conn) => self.signal(conn)?,
            Op::Withdraw(conn) => self.withdraw(conn)?,
            Op::EndOfCandidates(conn) => {
                self.candidate(conn, |it| it.set_remote_end_of_candidates())?;
            }
            Op::Update(conn) => self.update(conn)?,
            Op::AddStream(conn, stream, autostart) => self.add_stream(conn, stream, autostart)?,
            Op::RemoveStream(conn, stream) => self.remove_stream(conn, stream),
            Op::Start(conn, stream) => self.enable(conn, stream, true)?,
            Op::Stop(conn, stream) => self.enable(conn, stream, false)?,
            Op::RemoveTrack(conn, stream) => self.remove_track(conn, stream)?,
            Op::Describe(conn, stream) => self.describe(conn, stream)?,
            Op::Forget(conn, stream) => self.forget(conn, stream),
            Op::Forward(conn, stream) => self.forward(conn, stream)?,
            Op::Talk(conn, stream, frames) => self.talk(conn, stream, frames).await?,
            Op::Close(conn) => self.close(conn),
            Op::Drop(conn) => self.drop(conn),
            Op::Wait(ms) => pass(Duration::from_millis(ms)).await,
            Op::Jump(ms) => self.net.jump(Duration::from_millis(ms)).await,
            Op::Link(loss, delay) => {
                self.delay = self.delay.max(Duration::from_millis(delay));
                let (loss, delay) = (f64::from(loss) / 100.0, Duration::from_millis(delay));
                self.net.link(LinkConfig { loss, delay, ..LinkConfig::default() });
            }
            Op::Part(a, b) if a < b && b < HOSTS => {
                self.net.partition(&self.hosts[a], &self.hosts[b]);
            }
            Op::Heal(a, b) if a < b && b < HOSTS => {
                self.net.heal(&self.hosts[a], &self.hosts[b]);
            }
            Op::Part(..) | Op::Heal(..) => {}
            Op::Down(host, n) if host < HOSTS => {
                self.hosts[host].set_up(address(host, n % 2), false);
            }
            Op::Up(host, n) if host < HOSTS => {
                self.hosts[host].set_up(address(host, n % 2), true);
            }
            Op::Suspend(host) if host < HOSTS => {
                self.hosts[host].suspend();
                self.suspended[host] = Some(Duration::MAX);
            }
            Op::Resume(host) if host < HOSTS => self.resume(host),
            Op::Down(..) | Op::Up(..) | Op::Suspend(_) | Op::Resume(_) => {}
        }
        self.observe()
    }

    /// A side that there is or was.
    pub(super) fn side(&self, conn: usize) -> Option<&Side> {
        self.sides.get(conn)?.as_ref()
    }

    fn side_mut(&mut self, conn: usize) -> Option<&mut Side> {
        self.sides.get_mut(conn)?.as_mut()
    }

    pub(super) fn peer_of(&self, conn: usize) -> Option<&Side> {
        self.side(self.program.shape.peer(conn)?)
    }

    /// A side with a handle to call, and the handle.
    fn callable(&self, conn: usize) -> Option<(&Side, RTCConnection)> {
        let side = self.side(conn)?;
        Some((side, side.conn.clone()?))
    }

    fn create(&mut self, conn: usize) -> Result<(), Failure> {
        if conn >= self.sides.len() || self.sides[conn].is_some() {
            return Ok(());
        }
        let shape = self.program.shape;
        let options = RTCConnectionOptions::new().with_transports((self.transports)(&self.census));
        let options = match (shape, conn, &self.port) {
            (Shape::Port, 0 | 2, Some(port)) => options.with_socket(port.clone()),
            (Shape::Forks, 2 | 4, _) if let Some((of, handle)) = self.callable(0) => {
                let expected = if of.is_closed() { Err(LocalSocketError::Closed) } else { Ok(()) };
                let socket = handle.local_socket();
                same("local_socket", &socket.as_ref().map(|_| ()).map_err(|it| *it), &expected)?;
                let Ok(socket) = socket else { return Ok(()) };
                options.with_socket(socket)
            }
            _ => options.with_engine(self.engines[shape.host(conn)].clone()),
        };
        let made = RTCConnection::new(options)
            .map_err(|error: NewConnectionError| failure("a connection can be made", error))?;
        self.sides[conn] = Some(Side::new(conn, made, &self.net));
        Ok(())
    }

    pub(super) fn set_ice(&mut self, conn: usize) -> Result<(), Failure> {
        let Some(peer) = self.peer_of(conn).map(|peer| signalled(&peer.local.ice)) else {
            return Ok(());
        };
        let Some((side, handle)) = self.callable(conn) else { return Ok(()) };
        let expected = if side.is_closed() { Err(SetRemoteIceError::Closed) } else { Ok(()) };
        same("set_remote_ice", &handle.set_remote_ice(peer), &expected)?;
        if let Some(side) = self.side_mut(conn) {
            side.ice_set |= expected.is_ok();
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, conn: usize) -> Result<(), Failure> {
        let now = self.net.elapsed();
        let Some((side, handle)) = self.callable(conn) else { return Ok(()) };
        let expected = match side {
            side if side.is_closed() => Err(ConnectError::Closed),
            side if side.ice_set => Ok(()),
            _ => Err(ConnectError::RemoteNotSet),
        };
        // What is on the wire from now on may be.
        if let (true, Some(side)) = (expected.is_ok(), self.side_mut(conn)) {
            side.connecting.get_or_insert(now);
        }
        self.permit();
        same("connect", &handle.connect(), &expected)
    }

    /// Something that is asked about candidates.
    fn candidate(
        &self,
        conn: usize,
        act: impl FnOnce(&RTCConnection) -> Result<(), CandidateError>,
    ) -> Result<(), Failure> {
        let Some((side, handle)) = self.callable(conn) else { return Ok(()) };
        let expected = if side.is_closed() { Err(CandidateError::Closed) } else { Ok(()) };
        same("a call about candidates", &act(&handle), &expected)
    }

    fn set_local(&mut self, conn: usize, n: usize) -> Result<(), Failure> {
        let Some(found) = self.side(conn).and_then(|side| side.found.get(n)).cloned() else {
            return Ok(());
        };
        if let Some(side) = self.side_mut(conn)
            && !side.is_closed()
            && !side.set.contains(&found)
        {
            side.set.push(found.clone());
        }
        self.permit();
        self.candidate(conn, |it| it.set_local_candidate(&found))
    }

    fn set_remote(&mut self, conn: usize, n: usize) -> Result<(), Failure> {
        let Some(peer) = self.peer_of(conn) else { return Ok(()) };
        let Some(theirs) = peer.found.iter().chain(&peer.gone).nth(n).map(signalled) else {
            return Ok(());
        };
        self.candidate(conn, |it| it.set_remote_candidate(&theirs))?;
        if let Some(side) = self.side_mut(conn) {
            side.told.push(theirs);
        }
        Ok(())
    }

    pub(super) fn signal(&mut self, conn: usize) -> Result<(), Failure> {
        let Some(count) = self.side(conn).map(|side| side.found.len()) else { return Ok(()) };
        for n in 0..count {
            self.set_local(conn, n)?;
            if let Some(peer) = self.program.shape.peer(conn) {
                self.set_remote(peer, n)?;
            }
        }
        Ok(())
    }

    pub(super) fn withdraw(&mut self, conn: usize) -> Result<(), Failure> {
        let Some(peer) = self.program.shape.peer(conn) else { return Ok(()) };
        for gone in self.side(conn).map(|side| side.gone.clone()).unwrap_or_default() {
            self.candidate(peer, |it| it.remove_remote_candidate(&signalled(&gone)))?;
        }
        Ok(())
    }

    pub(super) fn update(&mut self, conn: usize) -> Result<(), Failure> {
        self.candidate(conn, RTCConnection::update)?;
        // What it finds is its forks' as well.
        let of_forks: &[usize] = match (self.program.shape, conn) {
            (Shape::Forks, 0) => &[2, 4],
            _ => &[],
        };
        for number in of_forks.iter().chain([&conn]) {
            if let Some(side) = self.side_mut(*number) {
                side.gathers();
            }
        }
        Ok(())
    }

    fn add_stream(&mut self, conn: usize, stream: usize, autostart: bool) -> Result<(), Failure> {
        let now = self.net.elapsed();
        let Some((side, handle)) = self.callable(conn) else { return Ok(()) };
        let Some(source) = side.sources.get(stream) else { return Ok(()) };
        let (stream_of, source_of) = (source.stream.clone(), source.stream.tracks().remove(0));
        let expected = if side.is_closed() { Err(AddStreamError::Closed) } else { Ok(()) };
        same("add_stream", &handle.add_stream(&stream_of, autostart), &expected)?;
        if expected.is_err() {
            return Ok(());
        }
        let track = handle.track(&source_of);
        let Some(side) = self.side_mut(conn) else { return Ok(()) };
        if !side.sent_streams.iter().any(|id| id == stream_of.id()) {
            side.sent_streams.push(stream_of.id().to_owned());
        }
        if side.sending.iter().all(|sent| sent.stream != stream) {
            let Some(track) = track else {
                return fail("what is added is sent", format!("{conn}: {stream}"));
            };
            let origin = (conn, stream);
            side.sending.push(Sending { stream, track, enabled: autostart, since: now, origin });
        }
        Ok(())
    }

    fn forward(&mut self, conn: usize, stream: usize) -> Result<(), Failure> {
        let (1 | 2, Shape::Relay, now) = (conn, self.program.shape, self.net.elapsed()) else {
            return Ok(());
        };
        let (other, as_stream) = (3 - conn, FORWARDED + stream);
        let Some((from, _)) = self.callable(conn) else { return Ok(()) };
        let Some(id) = self
            .peer_of(conn)
            .and_then(|it| it.sources.get(stream))
            .map(|it| it.stream.id().to_owned())
        else {
            return Ok(());
        };
        let Some(received) = from.receiving.values().find(|it| it.msid == id) else {
            return Ok(());
        };
        let streams = from.conn.as_ref().map(RTCConnection::receiving_streams).unwrap_or_default();
        let Some(stream_of) = streams.into_iter().find(|it| it.id() == id) else {
            return fail("what is received is in a stream", format!("{conn}: {stream}"));
        };
        let (track_of, origin) = (received.track.clone(), received.origin);
        let Some((to, handle)) = self.callable(other) else { return Ok(()) };
        let expected = if to.is_closed() { Err(AddStreamError::Closed) } else { Ok(()) };
        same("add_stream of what is received", &handle.add_stream(&stream_of, true), &expected)?;
        if expected.is_err() {
            return Ok(());
        }
        let track = handle.track(&track_of);
        let Some(side) = self.side_mut(other) else { return Ok(()) };
        if !side.sent_streams.contains(&id) {
            side.sent_streams.push(id);
        }
        let is_known = |sent: &Sending| track.as_ref() == Some(&sent.track);
        if !side.sending.iter().any(is_known) {
            let Some(track) = track else {
                return fail("what is added is sent", format!("{other}: {as_stream}"));
            };
            side.sending.push(Sending {
                stream: as_stream,
                track,
                enabled: true,
                since: now,
                origin,
            });
        }
        Ok(())
    }

    fn remove_stream(&mut self, conn: usize, stream: usize) {
        let Some((side, handle)) = self.callable(conn) else { return };
        let Some(source) = side.sources.get(stream) else { return };
        let stream_of = source.stream.clone();
        let is_closed = side.is_closed();
        handle.remove_stream(&stream_of);
        let Some(side) = self.side_mut(conn) else { return };
        side.sent_streams.retain(|id| id != stream_of.id());
        if !is_closed {
            side.sending.retain(|sent| sent.stream != stream);
        }
    }

    fn enable(&mut self, conn: usize, stream: usize, on: bool) -> Result<(), Failure> {
        let now = self.net.elapsed();
        let Some((side, _)) = self.callable(conn) else { return Ok(()) };
        let is_closed = side.is_closed();
        let Some(side) = self.side_mut(conn) else { return Ok(()) };
        for sent in side.sending.iter_mut().filter(|sent| sent.stream == stream) {
            let expected = if is_closed { Err(TrackError::Closed) } else { Ok(()) };
            let done = if on { sent.track.start() } else { sent.track.stop() };
            same("start or stop", &done, &expected)?;
            if done.is_ok() && sent.enabled != on {
                (sent.enabled, sent.since) = (on, now);
            }
        }
        Ok(())
    }

    fn remove_track(&mut self, conn: usize, stream: usize) -> Result<(), Failure> {
        let Some((side, _)) = self.callable(conn) else { return Ok(()) };
        let is_closed = side.is_closed();
        let Some(side) = self.side_mut(conn) else { return Ok(()) };
        for sent in side.sending.iter().filter(|sent| sent.stream == stream) {
            let expected = if is_closed { Err(TrackError::Closed) } else { Ok(()) };
            same("remove", &sent.track.remove(), &expected)?;
            if expected.is_ok() {
                same("remove, again", &sent.track.remove(), &Err(TrackError::Removed))?;
            }
        }
        if !is_closed {
            side.sending.retain(|sent| sent.stream != stream);
        }
        Ok(())
    }

    pub(super) fn describe(&mut self, conn: usize, stream: usize) -> Result<(), Failure> {
        let now = self.net.elapsed();
        let Some(side) = self.side(conn) else { return Ok(()) };
        let described: Vec<_> = side
            .sending
            .iter()
            .filter(|sent| sent.stream == stream)
            .map(|sent| (signalled(&sent.track.description()), sent.origin))
            .collect();
        let Some(to) = self.program.shape.peer(conn) else { return Ok(()) };
        for (description, origin) in described {
            let Some((peer, handle)) = self.callable(to) else { return Ok(()) };
            let expected = if peer.is_closed() { Err(ReceiveTrackError::Closed) } else { Ok(()) };
            let track = handle.receive_track(&description);
            same("receive_track", &track.as_ref().map(|_| ()).map_err(Clone::clone), &expected)?;
            let Ok(track) = track else { continue };
            let ssrc = description.ssrc.clone();
            let (msid, ear): (String, Ear) = (description.msid[0].clone(), (to, ssrc.clone()));
            let Some(peer) = self.side_mut(to) else { return Ok(()) };
            if peer.receiving.contains_key(&ssrc) {
                continue;
            }
            if peer.receiving.values().all(|other| other.msid != msid) {
                peer.announced.push(msid.clone());
            }
            let Some(frames) = track.take_frames() else {
                return fail("a new track has frames", format!("{ear:?}"));
            };
            peer.receiving.insert(ssrc, Receiving { track, msid, since: now, origin });
            self.forgotten.remove(&ear);
            self.heard.listen(ear, frames);
        }
        Ok(())
    }

    fn forget(&mut self, conn: usize, stream: usize) {
        let (Some(side), Some(to)) = (self.side(conn), self.program.shape.peer(conn)) else {
            return;
        };
        let sent = side.sending.iter().filter(|sent| sent.stream == stream);
        let ssrcs: Vec<_> = sent.map(|sent| sent.track.ssrc()).collect();
        let Some((_, handle)) = self.callable(to) else { return };
        let Some(peer) = self.side_mut(to) else { return };
        for ssrc in ssrcs {
            if let Some(gone) = peer.receiving.remove(&ssrc) {
                handle.stop_receiving(&gone.track);
                self.due.retain(|due| due.ear != (to, ssrc.clone()));
                self.forgotten.insert((to, ssrc));
                return;
            }
        }
    }

    pub(super) async fn talk(
        &mut self,
        conn: usize,
        stream: usize,
        frames: u64,
    ) -> Result<(), Failure> {
        for _ in 0..frames {
            let at = self.net.elapsed();
            let Some(side) = self.side_mut(conn) else { return Ok(()) };
            let Some(source) = side.sources.get_mut(stream) else { return Ok(()) };
            let n = source.sent;
            source.sent += 1;
            if let Err(error) = source.frames.send(frame_of((conn, stream), n)) {
                return fail("a frame is sent", error.to_string());
            }
            self.expect(conn, (conn, stream), n, at);
            pass(Duration::from_millis(20)).await;
            self.observe()?;
        }
        Ok(())
    }

    /// Notes who has to hear a frame, and who may not.
    fn expect(&mut self, conn: usize, origin: (usize, usize), n: u64, at: Duration) {
        let (Some(side), Some(to)) = (self.side(conn), self.program.shape.peer(conn)) else {
            return;
        };
        let Some(sent) = side.sending.iter().find(|sent| sent.origin == origin) else { return };
        let (ear, has_settled) = ((to, sent.track.ssrc()), at >= sent.since + SETTLED);
        let can_hear = side.connected && !side.is_closed();
        match sent.enabled {
            false if has_settled => self.silent.add(ear, n),
            true if has_settled && can_hear && self.is_calm && !self.forgotten.contains(&ear) => {
                self.due.push(Due { ear, origin, n, at });
            }
            _ => {}
        }
    }

    pub(super) fn resume(&mut self, host: usize) {
        if self.suspended[host] == Some(Duration::MAX) {
            self.suspended[host] = Some(self.net.elapsed());
        }
        // What has waited may go.
        self.permit();
        self.hosts[host].resume();
    }

    pub(super) fn close(&mut self, conn: usize) {
        let now = self.net.elapsed();
        let Some((_, handle)) = self.callable(conn) else { return };
        handle.close();
        if let Some(side) = self.side_mut(conn) {
            side.closed.get_or_insert(now);
        }
    }

    fn drop(&mut self, conn: usize) {
        let now = self.net.elapsed();
        if let Some(side) = self.side_mut(conn)
            && side.conn.take().is_some()
        {
            side.closed.get_or_insert(now);
        }
    }

    /// Says to the watch who may send: candidates that take part in what is not closed.
    fn permit(&self) {
        let now = self.net.elapsed();
        let mut permitted = BTreeSet::new();
        for side in self.sides.iter().flatten().filter(|side| side.connecting.is_some()) {
            let suspended = self.suspended[self.program.shape.host(side.number)];
            let since = side.closing_since().max(suspended.filter(|_| side.is_closed()));
            if since.is_none_or(|since| now <= since.saturating_add(CLOSING)) {
                // What is withdrawn may have to say that.
                permitted.extend(side.set.iter().chain(&side.gone).map(Peer::address));
            }
        }
        self.watch.permit(permitted);
    }

    /// Looks at everything.
    pub(super) fn observe(&mut self) -> Result<(), Failure> {
        self.hear()?;
        self.permit();
        self.watch.check()?;
        let now = self.net.elapsed();
        for side in self.sides.iter().flatten() {
            look_at(side)?;
            for (ssrc, received) in &side.receiving {
                let ear = (side.number, ssrc.clone());
                self.heard.numbers(&ear, received.origin)?;
                self.silent.check(&self.heard, &ear, received.origin)?;
            }
        }
        self.look_for_the_due(now)
    }

    /// Takes the events of all sides, in their order.
    fn hear(&mut self) -> Result<(), Failure> {
        let sides = self.sides.iter_mut().flatten();
        let mut news: Vec<_> = sides
            .flat_map(|side| {
                let number = side.number;
                side.news().into_iter().map(move |(at, event)| (at, number, event))
            })
            .collect();
        news.sort_by_key(|(at, ..)| *at);
        for (at, number, event) in news {
            let Some(mut side) = self.sides[number].take() else { continue };
            let heard = side.hear(at, event, self.peer_of(number), self.is_calm);
            self.sides[number] = Some(side);
            heard?;
        }
        Ok(())
    }

    fn look_for_the_due(&mut self, now: Duration) -> Result<(), Failure> {
        let way = self.delay;
        for due in std::mem::take(&mut self.due) {
            let (to, ssrc) = &due.ear;
            let listener = self.side(*to);
            if listener.is_none_or(Side::is_closed) || self.peer_of(*to).is_none_or(Side::is_closed)
            {
                continue;
            }
            let described = listener.and_then(|side| side.receiving.get(ssrc));
            match described {
                None if now > due.at + UNDESCRIBED => continue,
                Some(received) if received.since > due.at + UNDESCRIBED => continue,
                Some(received) if due.is_due(now, received.since, way) => {
                    let heard = self.heard.numbers(&due.ear, due.origin)?;
                    let what = || format!("{now:?}: {due:?} is not among {heard:?}");
                    check("in a calm network all is heard", heard.contains(&due.n), what)?;
                }
                _ => self.due.push(due),
            }
        }
        Ok(())
    }
}

/// What a connection says of itself.
fn look_at(side: &Side) -> Result<(), Failure> {
    let Some(conn) = side.open() else { return Ok(()) };
    let who = side.number;
    let tracks = conn.tracks(None);
    let expected: Vec<_> = side.sending.iter().map(|sent| sent.track.clone()).collect();
    same("tracks", &tracks, &expected)?;
    for sent in &side.sending {
        let is_same = sent.track.is_enabled() == sent.enabled;
        check("a track is as it was set", is_same, || format!("{who}: {}", sent.stream))?;
    }
    let ids: Vec<_> = conn.sending_streams().iter().map(|it| it.id().to_owned()).collect();
    same("sending_streams", &ids, &side.sent_streams)?;
    let msids: BTreeSet<_> = side.receiving.values().map(|it| it.msid.clone()).collect();
    let streams = conn.receiving_streams();
    let received: BTreeSet<_> = streams.iter().map(|it| it.id().to_owned()).collect();
    same("receiving_streams", &(received, streams.len()), &(msids.clone(), msids.len()))?;
    same("local", &conn.local(), &side.local)
}

fn same<T: PartialEq + Debug>(what: &'static str, got: &T, expected: &T) -> Result<(), Failure> {
    let says = || format!("{what}: {got:?} and not {expected:?}");
    check("what is asked is answered as documented", got == expected, says)
}

pub(super) fn failure(rule: &'static str, error: impl std::fmt::Display) -> Failure {
    Failure { rule, what: error.to_string() }
}

/// As seen by the peer: the addresses of a pair the other way round.
pub(super) fn turned((from, to): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    (to, from)
}
