//! A flight recorder: the last seconds of a connection, to be looked at when it has failed.
//!
//! A [`FlightRecorder`] is a ring of bytes of a fixed size. What goes over the network is noted
//! in it as it is there: STUN and DTLS whole, SRTCP whole, of SRTP the header, which is all that
//! can be read anyway; and in between what has happened, in words. When there is no room the
//! oldest goes. To note something is to copy it: nothing is allocated and nothing is looked up.
//!
//! A [`FlightRecording`] is a copy of that, which [`to_pcapng`](FlightRecording::to_pcapng) writes
//! as a file for Wireshark. There are no secrets in it: whatever is protected is noted as it is
//! sent, and keys never come here.

mod pcapng;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::{DatagramKind, Encapsulation, Path, SocketId, classify};

/// What may be chosen about a flight recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlightConfig {
    /// Bytes that each connection has for it; 4 kB at least. Default 256 kB: 10 s of a call with
    /// sound and pictures, of which each packet takes some 70.
    pub bytes: usize,
    /// What is older is left out of recordings. Default 10 s.
    pub kept_for: Duration,
}

impl Default for FlightConfig {
    fn default() -> Self {
        Self { bytes: 256 * 1024, kept_for: Duration::from_secs(10) }
    }
}

/// Least size of the ring: a DTLS record and some words.
const MIN_BYTES: usize = 4_096;

/// Most bytes that are noted of STUN, of DTLS, of RTCP: whole datagrams, as they are sent here.
const MAX_CONTROL: usize = 1_500;

/// Most bytes that are noted of RTP: its header with sources and extension. Usual ones are below.
const MAX_RTP: usize = 96;

/// Longest words, in bytes.
const MAX_WORDS: usize = 200;

/// Whether a datagram came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightDirection {
    /// It was received.
    In,
    /// It was handed to the network.
    Out,
}

/// What goes before every entry of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// Since the recorder was made, in nanoseconds.
    at: u64,
    /// `None` for words.
    direction: Option<FlightDirection>,
    /// The number of a TURN channel that it is in; 0 for none.
    channel: u16,
    /// Length on the wire.
    original: u32,
    socket: SocketId,
    remote: SocketAddr,
}

/// Bytes that a header takes, with the length of the entry before it.
const HEADER: usize = 50;

impl Header {
    fn encode(&self, entry: usize) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..4].copy_from_slice(&(entry as u32).to_le_bytes());
        out[4..12].copy_from_slice(&self.at.to_le_bytes());
        out[12] = match self.direction {
            Some(FlightDirection::In) => 0,
            Some(FlightDirection::Out) => 1,
            None => 2,
        };
        out[14..16].copy_from_slice(&self.channel.to_le_bytes());
        out[16..20].copy_from_slice(&self.original.to_le_bytes());
        out[20..24].copy_from_slice(&self.socket.slot.to_le_bytes());
        out[24..28].copy_from_slice(&self.socket.generation.to_le_bytes());
        out[28..30].copy_from_slice(&self.remote.port().to_le_bytes());
        let (is_ipv6, address) = match self.remote.ip() {
            IpAddr::V4(address) => (false, address.to_ipv6_mapped()),
            IpAddr::V6(address) => (true, address),
        };
        out[30] = u8::from(is_ipv6);
        out[32..48].copy_from_slice(&address.octets());
        out
    }

    fn decode(bytes: &[u8; HEADER]) -> Self {
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| bytes[at + n]));
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let at = u64::from(u32_at(4)) | u64::from(u32_at(8)) << 32;
        let direction = match bytes[12] {
            0 => Some(FlightDirection::In),
            1 => Some(FlightDirection::Out),
            _ => None,
        };
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[32..48]);
        let address = Ipv6Addr::from(octets);
        let address = match address.to_ipv4_mapped() {
            Some(mapped) if bytes[30] == 0 => IpAddr::V4(mapped),
            _ => IpAddr::V6(address),
        };
        Self {
            at,
            direction,
            channel: u16_at(14),
            original: u32_at(16),
            socket: SocketId { slot: u32_at(20), generation: u32_at(24) },
            remote: SocketAddr::new(address, u16_at(28)),
        }
    }
}

/// The last seconds of one connection, in a ring of a fixed size.
pub struct FlightRecorder {
    ring: Box<[u8]>,
    /// Where the oldest entry begins.
    start: usize,
    /// Bytes in use.
    used: usize,
    begun: Instant,
    kept_for: Duration,
    overwritten: u64,
}

impl fmt::Debug for FlightRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightRecorder")
            .field("bytes", &self.ring.len())
            .field("used", &self.used)
            .field("overwritten", &self.overwritten)
            .finish_non_exhaustive()
    }
}

impl FlightRecorder {
    /// Makes an empty one: the only time that memory is taken.
    pub fn new(now: Instant, config: FlightConfig) -> Self {
        Self {
            ring: vec![0; config.bytes.max(MIN_BYTES)].into(),
            start: 0,
            used: 0,
            begun: now,
            kept_for: config.kept_for,
            overwritten: 0,
        }
    }

    /// Notes a datagram as it is on the wire, sealed if it is to be.
    pub fn datagram(
        &mut self,
        now: Instant,
        direction: FlightDirection,
        path: Path,
        datagram: &[u8],
    ) {
        let most = match classify(datagram) {
            DatagramKind::Rtp => rtp_header_len(datagram).min(MAX_RTP),
            _ => MAX_CONTROL,
        };
        let noted = &datagram[..datagram.len().min(most)];
        let channel = match path.encapsulation {
            Encapsulation::ChannelData(channel) => channel,
            Encapsulation::Plain | Encapsulation::Rfc4571 => 0,
        };
        let header = Header {
            at: self.since(now),
            direction: Some(direction),
            channel,
            original: datagram.len() as u32,
            socket: path.socket,
            remote: path.remote,
        };
        self.push(header, noted);
    }

    /// Notes in words what has happened; cut after 200 bytes. It says nothing that is secret.
    pub fn words(&mut self, now: Instant, words: &str) {
        let end = words.floor_char_boundary(MAX_WORDS.min(words.len()));
        let header = Header {
            at: self.since(now),
            direction: None,
            channel: 0,
            original: end as u32,
            socket: SocketId { slot: 0, generation: 0 },
            remote: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        };
        self.push(header, &words.as_bytes()[..end]);
    }

    /// Copies what is there and not too old. `unix_time` is what the clock on the wall shows at
    /// `now`, since 1970; `local` says what address a socket has.
    pub fn recording(
        &self,
        now: Instant,
        unix_time: Duration,
        local: impl Fn(SocketId) -> Option<SocketAddr>,
    ) -> FlightRecording {
        let oldest = self.since(now).saturating_sub(nanos(self.kept_for));
        let (mut entries, mut locals) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < self.used {
            let mut header = [0; HEADER];
            self.read(at, &mut header);
            let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let header = Header::decode(&header);
            if header.at >= oldest {
                let mut bytes = vec![0; len - HEADER];
                self.read(at + HEADER, &mut bytes);
                let is_known = |(known, _): &(SocketId, SocketAddr)| *known == header.socket;
                if header.direction.is_some() && !locals.iter().any(is_known) {
                    locals.extend(local(header.socket).map(|local| (header.socket, local)));
                }
                entries.push((header, bytes.into_boxed_slice()));
            }
            at += len;
        }
        let begun = unix_time.saturating_sub(now.saturating_duration_since(self.begun));
        FlightRecording { begun, entries, locals, overwritten: self.overwritten }
    }

    fn since(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.begun))
    }

    fn push(&mut self, header: Header, bytes: &[u8]) {
        let len = HEADER + bytes.len();
        while self.ring.len() - self.used < len {
            self.drop_oldest();
        }
        let end = self.used;
        self.used += len;
        self.write(end, &header.encode(len));
        self.write(end + HEADER, bytes);
    }

    fn drop_oldest(&mut self) {
        let mut len = [0; 4];
        self.read(0, &mut len);
        let len = u32::from_le_bytes(len) as usize;
        self.start = (self.start + len) % self.ring.len();
        self.used -= len;
        self.overwritten += 1;
    }

    /// Copies out of the ring, from `at` bytes behind its oldest on.
    fn read(&self, at: usize, out: &mut [u8]) {
        let begin = (self.start + at) % self.ring.len();
        let (first, second) = out.split_at_mut(out.len().min(self.ring.len() - begin));
        first.copy_from_slice(&self.ring[begin..begin + first.len()]);
        second.copy_from_slice(&self.ring[..second.len()]);
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let begin = (self.start + at) % self.ring.len();
        let (first, second) = bytes.split_at(bytes.len().min(self.ring.len() - begin));
        self.ring[begin..begin + first.len()].copy_from_slice(first);
        self.ring[..second.len()].copy_from_slice(second);
    }
}

/// How much of an RTP packet is not encrypted; more than it has, if it is none.
fn rtp_header_len(packet: &[u8]) -> usize {
    let fixed = 12 + 4 * usize::from(packet[0] & 0x0f);
    if packet[0] & 0x10 == 0 {
        return fixed;
    }
    match packet.get(fixed + 2..fixed + 4) {
        Some(words) => fixed + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]])),
        None => fixed,
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// The last seconds of a connection, as a [`FlightRecorder`] had them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlightRecording {
    /// When the recorder was made, since 1970.
    begun: Duration,
    entries: Vec<(Header, Box<[u8]>)>,
    locals: Vec<(SocketId, SocketAddr)>,
    overwritten: u64,
}

impl FlightRecording {
    /// How many datagrams and words are in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many were noted before and have been overwritten.
    pub fn overwritten(&self) -> u64 {
        self.overwritten
    }

    /// Writes it as a file that Wireshark opens: pcapng, with IP and UDP headers made up, times in
    /// nanoseconds, and what happened as comments of the packets that follow it. `comment` is that
    /// of the file.
    pub fn to_pcapng(&self, comment: &str) -> Vec<u8> {
        pcapng::write(self, comment)
    }
}

/// Takes a recording: a function that is called once, on the thread that has it, and must not
/// block. Dropped without a call where nothing is recorded.
pub struct RecordingReply(Box<dyn FnOnce(FlightRecording) + Send>);

impl RecordingReply {
    /// Has `reply` called.
    pub fn new(reply: impl FnOnce(FlightRecording) + Send + 'static) -> Self {
        Self(Box::new(reply))
    }

    /// Hands the recording over.
    pub fn send(self, recording: FlightRecording) {
        (self.0)(recording);
    }
}

impl fmt::Debug for RecordingReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordingReply")
    }
}
