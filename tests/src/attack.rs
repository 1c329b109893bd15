//! What somebody does who is no friend of a call, and what the call is like meanwhile.
//!
//! A stranger has [`Network::inject`] and what he has overheard ([`Wire`]). A peer that has been
//! let in and turns hostile has the keys of its connection ([`Insider`]), which no application
//! gets from the API: it overhears its own DTLS actor. [`Speech`] is the genuine call beside it,
//! with its loss and its delay in virtual time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, WeakRecipient};
use ortc_api::{DtlsStart, FrameSender, Transports};
use ortc_dtls::DtlsEvent;
use ortc_io::sim::{Network, Verdict};
use ortc_io::{DatagramKind, SrtpKeys};
use ortc_rtp::{PayloadType, RtpHeader, SrtpError, SrtpSender, Ssrc};
use tokio::time::Instant;

use crate::{Peer, frame, pass, signalled};

/// How long a frame of sound is.
pub const FRAME: Duration = Duration::from_millis(20);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A datagram that was overheard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overheard {
    /// Who has sent it, before any NAT.
    pub from: SocketAddr,
    /// For whom.
    pub to: SocketAddr,
    /// Its kind by RFC 7983.
    pub kind: DatagramKind,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Somebody on the path, who listens.
#[derive(Debug, Clone, Default)]
pub struct Wire(Arc<Mutex<Vec<Overheard>>>);

impl Wire {
    /// Listens from now on, in place of whoever listened before.
    pub fn tap(net: &Network) -> Self {
        let wire = Self::default();
        let overheard = Arc::clone(&wire.0);
        net.tap(move |seen| {
            let bytes = seen.bytes.to_vec();
            let (from, to, kind) = (seen.from, seen.to, seen.kind);
            lock(&overheard).push(Overheard { from, to, kind, bytes });
            Verdict::Pass
        });
        wire
    }

    /// What has been overheard since this was last asked.
    pub fn take(&self) -> Vec<Overheard> {
        std::mem::take(&mut *lock(&self.0))
    }

    /// Datagrams, and their bytes, of what was overheard and not taken yet.
    pub fn count(&self, is_it: impl Fn(&Overheard) -> bool) -> (u64, u64) {
        let overheard = lock(&self.0);
        let of = overheard.iter().filter(|seen| is_it(seen));
        of.fold((0, 0), |(count, bytes), seen| (count + 1, bytes + seen.bytes.len() as u64))
    }
}

/// Addresses that nobody is at, each another one.
pub fn strangers() -> impl Iterator<Item = SocketAddr> {
    (0..u32::MAX).map(|n| {
        let [_, _, high, low] = (n / 60_000).to_be_bytes();
        SocketAddr::from(([203, 0, high, low], 1_024 + (n % 60_000) as u16))
    })
}

/// A ClientHello of DTLS 1.2 in one fragment, such as it is, from whoever has this `random`.
pub fn client_hello(random: u64) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend((0..4).flat_map(|n| random.wrapping_add(n).to_be_bytes()));
    // No session, no cookie; ECDHE with AES-128-GCM; no compression.
    body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // supported_groups (RFC 8422), signature_algorithms (RFC 5246), use_srtp (RFC 5764).
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, //
        0, 13, 0, 4, 0, 2, 4, 3, //
        0, 14, 0, 5, 0, 2, 0, 7, 0,
    ];
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let length = (body.len() as u32).to_be_bytes();
    let mut message = vec![1, length[1], length[2], length[3], 0, 0, 0, 0, 0];
    message.extend(&length[1..]);
    message.extend(body);
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, (random % 200) as u8];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}

/// The `index`th byte of a handshake message of 60,000, in a record of its own.
pub fn one_byte_fragment(index: u32) -> Vec<u8> {
    let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0];
    datagram.extend((index + 100).to_be_bytes());
    datagram.extend([0, 13, 1, 0, 0xea, 0x60, 0, 0]);
    datagram.extend(&index.to_be_bytes()[1..]);
    datagram.extend([0, 0, 1, 0x55]);
    datagram
}

/// The keys of a connection, for whoever has it and does not play by the rules.
#[derive(Debug, Clone, Default)]
pub struct Insider(Arc<Mutex<Option<SrtpKeys>>>);

impl Insider {
    /// Transports that give the keys away.
    pub fn transports(&self) -> Transports {
        let keys = Arc::clone(&self.0);
        Transports::new().with_dtls_actor(move |mut start: DtlsStart| {
            let context = Context::new();
            let leak = context.address();
            let owner = std::mem::replace(&mut start.owner, leak.downgrade().recipient());
            let ports = start.start();
            context.run(Leak { owner, keys: Arc::clone(&keys), _own: Some(leak) });
            ports
        })
    }

    /// Seals as this side of the connection does.
    ///
    /// # Panics
    /// Before the connection has keys.
    pub fn forger(&self) -> Forger {
        Forger::new(lock(&self.0).clone().expect("it is connected"))
    }
}

/// Stands between a DTLS actor and its connection.
struct Leak {
    owner: WeakRecipient<DtlsEvent>,
    keys: Arc<Mutex<Option<SrtpKeys>>>,
    /// The DTLS actor knows it weakly; let go of with the connection's last word.
    _own: Option<actix::Addr<Self>>,
}

impl Actor for Leak {
    type Context = Context<Self>;
}

impl Handler<DtlsEvent> for Leak {
    type Result = ();

    fn handle(&mut self, event: DtlsEvent, _: &mut Context<Self>) {
        match &event {
            DtlsEvent::Connected { keys, .. } => *lock(&self.keys) = Some(keys.clone()),
            DtlsEvent::Stopped(_) => self._own = None,
            DtlsEvent::ApplicationData(_) => {}
        }
        if let Some(owner) = self.owner.upgrade() {
            owner.do_send(event);
        }
    }
}

/// Makes packets that are authentic, whatever is in them.
#[derive(Debug)]
pub struct Forger {
    keys: SrtpKeys,
    rtp: SrtpSender,
    rtcp: SrtpSender,
}

impl Forger {
    fn new(keys: SrtpKeys) -> Self {
        let sender = || SrtpSender::from_keys(&keys).expect("keys of the profile's length");
        let (rtp, rtcp) = (sender(), sender());
        Self { keys, rtp, rtcp }
    }

    /// A packet of a track. Of more sources than the 512 that one side may have, each is sealed
    /// as if it were the first.
    pub fn rtp(&mut self, ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
        let header = RtpHeader {
            payload_type: PayloadType(111),
            marker: false,
            sequence,
            timestamp: u32::from(sequence) * 960,
            ssrc: Ssrc(ssrc),
            extensions: &[],
        };
        let mut head = [0; 64];
        let head_len = header.write(&mut head).expect("there is room");
        let mut packet = [&head[..head_len], payload].concat();
        let len = packet.len();
        packet.resize(len + self.rtp.overhead(), 0);
        let mut sealed = self.rtp.protect_rtp(&mut packet, len);
        if sealed == Err(SrtpError::TooManySsrcs) {
            self.rtp = SrtpSender::from_keys(&self.keys).expect("as before");
            sealed = self.rtp.protect_rtp(&mut packet, len);
        }
        packet.truncate(sealed.expect("an unused number"));
        packet
    }

    /// An RTCP compound.
    pub fn rtcp(&mut self, compound: &[u8]) -> Vec<u8> {
        let mut packet = compound.to_vec();
        packet.resize(compound.len() + self.rtcp.rtcp_overhead(), 0);
        let sealed = self.rtcp.protect_rtcp(&mut packet, compound.len());
        packet.truncate(sealed.expect("an unused number"));
        packet
    }
}

/// An empty receiver report, which a compound begins with (RFC 3550 §6.4.2).
pub fn receiver_report(sender: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(sender.to_be_bytes());
    packet
}

/// A goodbye for one source (RFC 3550 §6.6).
pub fn bye(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 203, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet
}

/// A request for a key frame (RFC 4585 §6.3.1).
pub fn picture_loss(sender: u32, media: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 206, 0, 2];
    packet.extend(sender.to_be_bytes());
    packet.extend(media.to_be_bytes());
    packet
}

/// Word that these packets, and the 16 behind each, have not come (RFC 4585 §6.2.1).
pub fn nack(sender: u32, media: u32, lost: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let lost: Vec<u16> = lost.into_iter().collect();
    let mut packet = vec![0x81, 205];
    packet.extend((2 + lost.len() as u16).to_be_bytes());
    packet.extend(sender.to_be_bytes());
    packet.extend(media.to_be_bytes());
    for first in lost {
        packet.extend(first.to_be_bytes());
        packet.extend([0xff; 2]);
    }
    packet
}

/// What has come of the frames of a [`Speech`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Frames that were sent.
    pub sent: u64,
    /// Of those, such as never came.
    pub lost: u64,
    /// The longest that one took, from `send` to `recv`.
    pub slowest: Duration,
}

/// Sound from one peer to another: a frame every 20 ms.
#[derive(Debug)]
pub struct Speech {
    source: FrameSender,
    heard: Arc<Mutex<Vec<(u64, Instant)>>>,
    next: u64,
}

impl Speech {
    /// Has one peer send a track to the other, and somebody read it there.
    ///
    /// # Panics
    /// If the other has received a track of the first already.
    pub fn between(from: &Peer, to: &Peer) -> Self {
        let before = from.conn.tracks(None).len();
        let (_, source) = from.send_audio();
        let track = from.conn.tracks(None)[before].clone();
        let received = to.conn.receive_track(&signalled(&track.description()));
        let mut frames = received.expect("a valid track").take_frames().expect("nobody else reads");
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let log = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Some(frame) = frames.recv().await {
                let number = frame.data.get(1..9).and_then(|bytes| bytes.try_into().ok());
                if let Some(number) = number.map(u64::from_be_bytes) {
                    lock(&log).push((number, Instant::now()));
                }
            }
        });
        Self { source, heard, next: 0 }
    }

    /// Sends so many frames, each after `attack` has had its turn, and says what came of them.
    pub async fn go_on(&mut self, frames: u64, mut attack: impl FnMut(u64)) -> Heard {
        let first = self.next;
        let mut sent = Vec::new();
        for n in 0..frames {
            attack(n);
            sent.push(Instant::now());
            // One that there is no room for is lost.
            let _ = self.source.send(frame(self.next));
            self.next += 1;
            pass(FRAME).await;
        }
        // What is late is waited for, but not for ever.
        pass(Duration::from_secs(1)).await;
        let heard = std::mem::take(&mut *lock(&self.heard));
        let took = |(number, at): &(u64, Instant)| {
            let sent = sent.get(usize::try_from(number.checked_sub(first)?).ok()?)?;
            Some(at.saturating_duration_since(*sent))
        };
        let delays: Vec<Duration> = heard.iter().filter_map(took).collect();
        let slowest = delays.iter().max().copied().unwrap_or(Duration::MAX);
        Heard { sent: frames, lost: frames - delays.len() as u64, slowest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_is_spelled_as_the_rfcs_have_it() {
        let parsed = [receiver_report(7), nack(7, 9, [100]), picture_loss(7, 9), bye(8)].concat();
        let packets: Vec<_> = ortc_rtp::RtcpView::new(&parsed).map(Result::unwrap).collect();
        assert_eq!(packets.len(), 4);
        let (media, lost) = packets[1].nack().unwrap();
        assert_eq!((media, lost.collect::<Vec<_>>()), (Ssrc(9), (100..=116).collect()));
        assert_eq!(packets[2].key_frame_requests().count(), 1);
        assert_eq!(packets[3].bye_sources().collect::<Vec<_>>(), [Ssrc(8)]);
    }

    #[test]
    fn strangers_are_many() {
        let some: std::collections::BTreeSet<_> = strangers().take(130_000).collect();
        assert_eq!(some.len(), 130_000);
    }
}
