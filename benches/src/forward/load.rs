//! The publisher and the subscribers, in the process of `ortc-bench`.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ortc_io::{DatagramIo, ReceiveBatch, SendBatch, SocketId, UdpConfig, UdpIo};
use ortc_rtp::{RtpHeader, RtpView, SrtpReceiver, SrtpSender, is_rtcp};
use serde_json::Value;

use super::plan::{PAYLOAD_TYPE, PUBLISHED, Plan, addresses_from_json, addresses_to_json};
use crate::error::{Failure, Result};

/// How long the last packets may be under way.
const DRAIN: Duration = Duration::from_secs(1);

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) expected: u64,
    /// Packets that were decrypted and were what had been sent.
    pub(crate) received: u64,
    pub(crate) seconds: f64,
    /// From before the publisher sealed a burst to after a subscriber opened a packet of it,
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
}

/// Sockets and SRTP of the publisher and the subscribers.
pub(crate) struct Load {
    plan: Plan,
    publisher: Publisher,
    sinks: Option<Sinks>,
    addresses: Vec<SocketAddr>,
    epoch: Instant,
}

struct Publisher {
    io: UdpIo,
    socket: SocketId,
    remote: SocketAddr,
    srtp: SrtpSender,
    batch: SendBatch,
    sequence: u16,
    payload: Vec<u8>,
}

struct Sinks {
    io: UdpIo,
    /// By slot of the socket.
    srtp: Vec<SrtpReceiver>,
    epoch: Instant,
    payload: usize,
}

impl Load {
    pub(crate) fn bind(plan: &Plan) -> Result<Self> {
        let epoch = Instant::now();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = UdpConfig { receive_buffer: 8 << 20, ..UdpConfig::default() };
        let mut io = UdpIo::new(config)?;
        let (socket, local) = io.bind(any)?;
        let mut addresses = vec![local];
        let publisher = Publisher {
            io,
            socket,
            remote: any,
            srtp: SrtpSender::from_keys(&plan.keys(0, true)?)?,
            batch: SendBatch::new(),
            sequence: 0,
            payload: vec![0x5a; plan.payload],
        };
        let mut io = UdpIo::new(config)?;
        let mut srtp = Vec::new();
        for subscriber in 0..plan.subscribers {
            let (socket, local) = io.bind(any)?;
            if socket.slot as usize != subscriber {
                return Err(Failure::new("sockets are expected to be numbered from 0"));
            }
            addresses.push(local);
            srtp.push(SrtpReceiver::from_keys(&plan.keys(subscriber + 1, true)?)?);
        }
        let sinks = Some(Sinks { io, srtp, epoch, payload: plan.payload });
        Ok(Self { plan: plan.clone(), publisher, sinks, addresses, epoch })
    }

    pub(crate) fn addresses(&self) -> Value {
        addresses_to_json(&self.addresses)
    }

    /// Takes the addresses of the contestant.
    pub(crate) fn connect(&mut self, contestant: &Value) -> Result<()> {
        let addresses = addresses_from_json(contestant)?;
        self.publisher.remote =
            *addresses.first().ok_or_else(|| Failure::new("no address to publish to"))?;
        // Some systems tell of a closed port only when something is sent there.
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.connect(self.publisher.remote)?;
        Ok(())
    }

    /// A tenth of a run, or half a second, whose packets are not counted.
    pub(crate) fn warm_up(&mut self) -> Result<()> {
        self.send_for(Duration::from_secs_f64((self.plan.seconds / 4.0).min(0.5))).map(drop)
    }

    pub(crate) fn run(&mut self) -> Result<Outcome> {
        self.send_for(Duration::from_secs_f64(self.plan.seconds))
    }

    fn send_for(&mut self, time: Duration) -> Result<Outcome> {
        let mut sinks = self.sinks.take().ok_or_else(|| Failure::new("the sinks are gone"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let expected = Arc::new(AtomicU64::new(u64::MAX));
        let (sinks_stop, sinks_expected) = (Arc::clone(&stop), Arc::clone(&expected));
        let receiving = std::thread::Builder::new().name("sinks".into()).spawn(move || {
            let received = sinks.receive(&sinks_stop, &sinks_expected);
            (sinks, received)
        })?;
        let begun = Instant::now();
        let mut bursts = 0u32;
        while begun.elapsed() < time {
            self.publisher.send(self.plan.burst, self.epoch)?;
            bursts += 1;
            let next = begun + self.plan.interval() * bursts;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let sent = u64::from(bursts) * (self.plan.burst * self.plan.subscribers) as u64;
        expected.store(sent, Ordering::Release);
        let deadline = Instant::now() + DRAIN;
        while !receiving.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Release);
        let (sinks, delays) =
            receiving.join().map_err(|_| Failure::new("the sinks have panicked"))?;
        self.sinks = Some(sinks);
        let mut delays = delays?;
        delays.sort_unstable();
        Ok(Outcome { expected: sent, received: delays.len() as u64, seconds, delays })
    }
}

impl Publisher {
    fn send(&mut self, burst: usize, epoch: Instant) -> Result<()> {
        let now = epoch.elapsed().as_nanos() as u64;
        self.payload[..8].copy_from_slice(&now.to_be_bytes());
        for _ in 0..burst {
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
            let (srtp, payload) = (&mut self.srtp, &self.payload);
            let room = 12 + payload.len() + srtp.overhead();
            let mut failed = None;
            self.batch.push_with(self.socket, self.remote, room, |out| {
                srtp.protect_rtp_from(&head, payload, out).map_err(|e| failed = Some(e)).ok()
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        let report = self.io.send(&mut self.batch);
        if report.sent == burst { Ok(()) } else { Err(Failure::new("the publisher cannot send")) }
    }
}

impl Sinks {
    /// Opens all that comes until as much has come as was sent, or it is to stop.
    fn receive(&mut self, stop: &AtomicBool, expected: &AtomicU64) -> Result<Vec<u64>> {
        let mut batch = ReceiveBatch::new();
        let mut failed = Vec::new();
        let mut delays = Vec::new();
        while !stop.load(Ordering::Acquire)
            && (delays.len() as u64) < expected.load(Ordering::Acquire)
        {
            self.io.wait(Some(Instant::now() + Duration::from_millis(5)))?;
            loop {
                batch.clear();
                let more = self.io.receive(&mut batch, &mut failed);
                let now = self.epoch.elapsed().as_nanos() as u64;
                for at in 0..batch.len() {
                    let (datagram, bytes) = batch.get_mut(at);
                    if is_rtcp(bytes) {
                        continue;
                    }
                    let subscriber = datagram.socket.slot as usize;
                    let opened = self.srtp[subscriber].unprotect_rtp(bytes)?;
                    let view = RtpView::parse(&bytes[..opened.len])?;
                    let payload = view.payload();
                    let sound = view.ssrc() == Plan::sent(subscriber)
                        && payload.len() == self.payload
                        && payload[8..].iter().all(|byte| *byte == 0x5a);
                    if !sound {
                        return Err(Failure::new("a packet is not what was sent"));
                    }
                    let mut at = [0; 8];
                    at.copy_from_slice(&payload[..8]);
                    delays.push(now.saturating_sub(u64::from_be_bytes(at)));
                }
                if !more {
                    break;
                }
            }
        }
        Ok(delays)
    }
}
