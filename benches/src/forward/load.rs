//! The publisher and the subscribers, in the process of `ortc-bench`.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ortc_io::{DatagramIo, ReceiveBatch, SendBatch, SocketId, UdpConfig, UdpIo};
use ortc_rtp::congestion::ArrivalLog;
use ortc_rtp::{RtpHeader, RtpView, SrtpReceiver, SrtpSender, Ssrc, is_rtcp};
use serde_json::Value;

use super::clients::{Met, Side, meet};
use super::plan::{
    NUMBER_ID, PAYLOAD_TYPE, PUBLISHED, Plan, addresses_from_json, addresses_to_json,
};
use super::schedule::Schedule;
use crate::contestant::{Contestant, Lines};
use crate::error::{Failure, Result};

/// How long the last packets may be under way.
const DRAIN: Duration = Duration::from_secs(1);

/// How long somebody who has just connected may take until all goes through.
const PRIME: Duration = Duration::from_secs(10);

/// How long those packets are waited for: an application that has just been told of a track
/// may lose the first.
const SILENCE: Duration = Duration::from_millis(200);

/// When a packet was published, and its length, lead its payload; the rest is [`FILLING`].
const LEAD: usize = 10;

/// The longest payload.
const LONGEST: usize = 1500;

/// What payloads are filled with.
const FILLING: [u8; LONGEST] = [0x5a; LONGEST];

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) expected: u64,
    /// Packets that came, and that were what had been sent where they were opened.
    pub(crate) received: u64,
    pub(crate) seconds: f64,
    /// From before the publisher sealed a burst to after a subscriber received a packet of it,
    /// in nanoseconds, sorted.
    delays: Vec<u64>,
}

impl Outcome {
    pub(crate) fn percentile_us(&self, part: f64) -> f64 {
        let at = (self.delays.len() as f64 * part) as usize;
        self.delays
            .get(at.min(self.delays.len().saturating_sub(1)))
            .map_or(0.0, |ns| *ns as f64 / 1e3)
    }

    /// Packets a second that were to come.
    pub(crate) fn rate(&self) -> f64 {
        self.expected as f64 / self.seconds
    }
}

/// Sockets and SRTP of the publisher and the subscribers.
pub(crate) struct Load {
    plan: Plan,
    publisher: Publisher,
    sinks: Option<Sinks>,
    sockets: Vec<(SocketId, SocketAddr)>,
    epoch: Instant,
    /// Connections to a contestant that takes no keys.
    met: Option<Met>,
}

struct Publisher {
    side: Side,
    socket: SocketId,
    remote: SocketAddr,
    srtp: SrtpSender,
    batch: SendBatch,
    sequence: u16,
    payload: Vec<u8>,
}

struct Sinks {
    side: Side,
    /// By slot of the socket: the SSRC that is received, and what opens it.
    srtp: Vec<(u32, SrtpReceiver)>,
    /// By slot of the socket: what says what has come, where packets are numbered.
    answers: Vec<Answer>,
    outgoing: SendBatch,
    epoch: Instant,
}

/// Feedback of one subscriber about what it has opened.
struct Answer {
    socket: SocketId,
    log: ArrivalLog,
    srtp: SrtpSender,
    remote: Option<SocketAddr>,
    compound: Vec<u8>,
}

impl Answer {
    /// Notes a packet, if it is numbered.
    fn note(&mut self, now: Instant, remote: SocketAddr, packet: &RtpView<'_>, len: usize) {
        let mut elements = packet.extensions().map_while(|element| element.ok());
        let Some(element) = elements.find(|element| element.id == NUMBER_ID) else { return };
        let Ok(number) = <[u8; 2]>::try_from(element.data) else { return };
        self.remote = Some(remote);
        self.log.on_packet(now, u16::from_be_bytes(number), packet.ssrc(), len);
    }

    /// Says what has come, if that is due.
    fn write(&mut self, now: Instant, batch: &mut SendBatch) -> Result<()> {
        self.compound.clear();
        let (Some(remote), true) =
            (self.remote, self.log.write_due(now, Ssrc(1), &mut self.compound))
        else {
            return Ok(());
        };
        let len = self.compound.len();
        self.compound.resize(len + self.srtp.rtcp_overhead(), 0);
        let sealed = self.srtp.protect_rtcp(&mut self.compound, len)?;
        batch.push(self.socket, remote, &self.compound[..sealed]);
        Ok(())
    }
}

/// What a run asks of the sinks.
#[derive(Debug, Default)]
struct Task {
    stop: AtomicBool,
    expected: AtomicU64,
    /// One subscriber in so many opens what it receives; the others count.
    sample: usize,
}

impl Load {
    pub(crate) fn bind(plan: &Plan) -> Result<Self> {
        let epoch = Instant::now();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = UdpConfig { receive_buffer: 8 << 20, ..UdpConfig::default() };
        let mut io = UdpIo::new(config)?;
        let (socket, local) = io.bind(any)?;
        let mut sockets = vec![(socket, local)];
        let publisher = Publisher {
            side: Side::new(io),
            socket,
            remote: any,
            srtp: SrtpSender::from_keys(&plan.keys(0, true)?)?,
            batch: SendBatch::new(),
            sequence: 0,
            payload: FILLING.to_vec(),
        };
        let mut io = UdpIo::new(config)?;
        let (mut srtp, mut answers) = (Vec::new(), Vec::new());
        for subscriber in 0..plan.subscribers {
            let (socket, local) = io.bind(any)?;
            if socket.slot as usize != subscriber {
                return Err(Failure::new("sockets are expected to be numbered from 0"));
            }
            sockets.push((socket, local));
            let receiver = SrtpReceiver::from_keys(&plan.keys(subscriber + 1, true)?)?;
            srtp.push((Plan::sent(subscriber).0, receiver));
            answers.push(Answer {
                socket,
                log: ArrivalLog::new(),
                srtp: SrtpSender::from_keys(&plan.keys(subscriber + 1, true)?)?,
                remote: None,
                compound: Vec::new(),
            });
        }
        let outgoing = SendBatch::new();
        let sinks = Some(Sinks { side: Side::new(io), srtp, answers, outgoing, epoch });
        Ok(Self { plan: plan.clone(), publisher, sinks, sockets, epoch, met: None })
    }

    pub(crate) fn addresses(&self) -> Value {
        let addresses: Vec<_> = self.sockets.iter().map(|(_, local)| *local).collect();
        addresses_to_json(&addresses)
    }

    /// Takes the addresses of a contestant that has the keys.
    pub(crate) fn connect(&mut self, contestant: &Value) -> Result<()> {
        let addresses = addresses_from_json(contestant)?;
        self.publisher.remote =
            *addresses.first().ok_or_else(|| Failure::new("no address to publish to"))?;
        // Some systems tell of a closed port only when something is sent there.
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.connect(self.publisher.remote)?;
        Ok(())
    }

    /// Connects to a contestant that has no keys before ICE and DTLS are done.
    pub(crate) async fn meet(&mut self, contestant: &Contestant, lines: &mut Lines) -> Result<()> {
        let sinks = self.sinks.as_mut().ok_or_else(gone)?;
        let sides = [&mut self.publisher.side, &mut sinks.side];
        let met = meet(sides, &self.sockets, self.plan.profile, contestant, lines).await?;
        self.publisher.srtp = SrtpSender::from_keys(&met.keys[0])?;
        self.publisher.remote = met.remotes[0];
        for (n, srtp) in sinks.srtp.iter_mut().enumerate() {
            *srtp = (met.ssrcs[n + 1], SrtpReceiver::from_keys(&met.keys[n + 1])?);
        }
        self.met = Some(met);
        Ok(())
    }

    /// Publishes until everybody receives and opens everything.
    pub(crate) fn prime(&mut self) -> Result<()> {
        let burst = Schedule::steady(&self.plan, self.plan.rate());
        let deadline = Instant::now() + PRIME;
        loop {
            let outcome = self.send(&burst, Duration::ZERO, 1, SILENCE)?;
            if outcome.received == outcome.expected {
                return Ok(());
            }
            if Instant::now() > deadline {
                let Outcome { received, expected, .. } = outcome;
                return Err(Failure::new(format!("only {received} of {expected} packets come")));
            }
        }
    }

    /// Publishes for a while. One subscriber in `sample` opens all that it receives, and counts
    /// in the delays; a session that has left some unopened has to go on with the same sample.
    pub(crate) fn run(
        &mut self,
        schedule: &Schedule,
        time: Duration,
        sample: usize,
    ) -> Result<Outcome> {
        self.send(schedule, time, sample, DRAIN)
    }

    /// Answers the checks of a contestant that this is connected to, while nothing is published.
    pub(crate) fn tend(&mut self) -> Result<()> {
        let now = Instant::now();
        self.publisher.side.poll(now)?;
        self.sinks.as_mut().ok_or_else(gone)?.side.poll(now)
    }

    /// Takes what is late, until nothing more comes.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let nothing = Schedule::silence();
        while self.send(&nothing, SILENCE, 1_000_000, Duration::ZERO)?.received > 0 {}
        Ok(())
    }

    fn send(
        &mut self,
        schedule: &Schedule,
        time: Duration,
        sample: usize,
        drain: Duration,
    ) -> Result<Outcome> {
        let mut sinks = self.sinks.take().ok_or_else(gone)?;
        let task = Task { sample, expected: AtomicU64::new(u64::MAX), ..Task::default() };
        let task = Arc::new(task);
        let theirs = Arc::clone(&task);
        let receiving = std::thread::Builder::new().name("sinks".into()).spawn(move || {
            let received = sinks.receive(&theirs);
            (sinks, received)
        })?;
        let begun = Instant::now();
        let mut sent = 0;
        let mut failed = None;
        for (at, sizes) in schedule.bursts() {
            // Also when it is late: after the time is up, nothing more is sent.
            if at > time || sent > 0 && begun.elapsed() > time {
                break;
            }
            std::thread::sleep((begun + at).saturating_duration_since(Instant::now()));
            if let Err(failure) = self.publisher.send(sizes, self.epoch) {
                failed = Some(failure);
                break;
            }
            sent += (sizes.len() * self.plan.subscribers) as u64;
        }
        if sent == 0 {
            std::thread::sleep(time);
        }
        let seconds = begun.elapsed().max(time).as_secs_f64();
        task.expected.store(sent, Ordering::Release);
        let deadline = Instant::now() + drain;
        while !receiving.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
            self.publisher.side.poll(Instant::now())?;
        }
        task.stop.store(true, Ordering::Release);
        let (sinks, received) =
            receiving.join().map_err(|_| Failure::new("the sinks have panicked"))?;
        self.sinks = Some(sinks);
        if let Some(failure) = failed {
            return Err(failure);
        }
        let (received, mut delays) = received?;
        delays.sort_unstable();
        Ok(Outcome { expected: sent, received, seconds, delays })
    }
}

fn gone() -> Failure {
    Failure::new("the sinks are gone")
}

impl Publisher {
    fn send(&mut self, sizes: &[usize], epoch: Instant) -> Result<()> {
        self.side.poll(Instant::now())?;
        let now = epoch.elapsed().as_nanos() as u64;
        self.payload[..8].copy_from_slice(&now.to_be_bytes());
        for size in sizes {
            let header = RtpHeader {
                payload_type: PAYLOAD_TYPE,
                marker: false,
                sequence: self.sequence,
                timestamp: (now / 11_111) as u32,
                ssrc: PUBLISHED,
                extensions: &[],
            };
            self.sequence = self.sequence.wrapping_add(1);
            let mut head = [0; 12];
            header.write(&mut head)?;
            self.payload[8..LEAD].copy_from_slice(&(*size as u16).to_be_bytes());
            let (srtp, payload) = (&mut self.srtp, &self.payload[..*size]);
            let room = 12 + payload.len() + srtp.overhead();
            let mut failed = None;
            self.batch.push_with(self.socket, self.remote, room, |out| {
                srtp.protect_rtp_from(&head, payload, out).map_err(|e| failed = Some(e)).ok()
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        let report = self.side.io.send(&mut self.batch);
        let sent = report.sent == sizes.len();
        if sent { Ok(()) } else { Err(Failure::new("the publisher cannot send")) }
    }
}

impl Sinks {
    /// Takes all that comes until as much has come as was sent, or it is to stop: how many
    /// packets, and the delays of those that were opened.
    fn receive(&mut self, task: &Task) -> Result<(u64, Vec<u64>)> {
        let mut batch = ReceiveBatch::new();
        let mut failed = Vec::new();
        let mut delays = Vec::new();
        let mut received = 0;
        while !task.stop.load(Ordering::Acquire) && received < task.expected.load(Ordering::Acquire)
        {
            self.side.io.wait(Some(Instant::now() + Duration::from_millis(5)))?;
            loop {
                batch.clear();
                let more = self.side.io.receive(&mut batch, &mut failed);
                let now = Instant::now();
                let at_ns = now.saturating_duration_since(self.epoch).as_nanos() as u64;
                for at in 0..batch.len() {
                    let (datagram, bytes) = batch.get_mut(at);
                    if !matches!(bytes.first(), Some(128..=191)) {
                        self.side.take(now, datagram.socket, datagram.remote, bytes);
                        continue;
                    }
                    if is_rtcp(bytes) {
                        continue;
                    }
                    received += 1;
                    let subscriber = datagram.socket.slot as usize;
                    if subscriber.is_multiple_of(task.sample) {
                        let (ssrc, srtp) = &mut self.srtp[subscriber];
                        let opened = srtp.unprotect_rtp(bytes)?;
                        let published = published(&bytes[..opened.len], *ssrc)?;
                        if let Ok(view) = RtpView::parse(&bytes[..opened.len]) {
                            let answer = &mut self.answers[subscriber];
                            answer.note(now, datagram.remote, &view, opened.len);
                        }
                        delays.push(at_ns.saturating_sub(published));
                    }
                }
                if !more {
                    break;
                }
            }
            self.side.tend(Instant::now());
            for answer in &mut self.answers {
                answer.write(Instant::now(), &mut self.outgoing)?;
            }
            if !self.outgoing.is_empty() {
                self.side.io.send(&mut self.outgoing);
            }
        }
        Ok((received, delays))
    }
}

/// When a packet was published, in nanoseconds since the epoch.
fn published(packet: &[u8], ssrc: u32) -> Result<u64> {
    let view = RtpView::parse(packet)?;
    let payload = view.payload();
    let wrong = || Failure::new("a packet is not what was sent");
    let (lead, filling) = payload.split_at_checked(LEAD).ok_or_else(wrong)?;
    let mut at = [0; 8];
    at.copy_from_slice(&lead[..8]);
    let len = u16::from_be_bytes([lead[8], lead[9]]) as usize;
    let sound = view.ssrc().0 == ssrc
        && payload.len() == len
        && FILLING.get(..filling.len()).is_some_and(|expected| expected == filling);
    if sound { Ok(u64::from_be_bytes(at)) } else { Err(wrong()) }
}
