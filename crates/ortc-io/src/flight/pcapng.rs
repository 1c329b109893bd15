//! The pcapng format (draft-ietf-opsawg-pcapng), as much of it as is needed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{FlightDirection, FlightRecording, Header, nanos};

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// Packets begin with an IP header (LINKTYPE_RAW).
const RAW_IP: u16 = 101;

const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_APPLICATION: u16 = 4;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_FLAGS: u16 = 2;

/// 10⁻⁹ s.
const NANOSECONDS: u8 = 9;

const UDP: u8 = 17;

pub(super) fn write(recording: &FlightRecording, comment: &str) -> Vec<u8> {
    let mut file = Vec::new();
    let overwritten = match recording.overwritten {
        0 => String::new(),
        count => format!(" ({count} entries before these were overwritten)"),
    };
    block(&mut file, SECTION_HEADER, |body| {
        body.extend(0x1A2B_3C4D_u32.to_le_bytes());
        // Version 1.0, and a length that is not told.
        body.extend([1, 0, 0, 0]);
        body.extend([0xff; 8]);
        option(body, OPTION_COMMENT, format!("{comment}{overwritten}").as_bytes());
        option(body, OPTION_APPLICATION, b"ortc");
        option(body, OPTION_END, &[]);
    });
    block(&mut file, INTERFACE, |body| {
        body.extend(RAW_IP.to_le_bytes());
        body.extend([0; 2]);
        // No limit: each packet says how long it was.
        body.extend([0; 4]);
        option(body, OPTION_RESOLUTION, &[NANOSECONDS]);
        option(body, OPTION_END, &[]);
    });
    let mut words: Vec<(u64, &[u8])> = Vec::new();
    let mut last = None;
    for (header, bytes) in &recording.entries {
        match header.direction {
            None => words.push((header.at, bytes)),
            Some(direction) => {
                packet(&mut file, recording, header, direction, bytes, &words);
                words.clear();
                last = Some(header);
            }
        }
    }
    if !words.is_empty() {
        // No packet follows them: an empty one carries them, from and to where the last one was.
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let at = words.last().map_or(0, |(at, _)| *at);
        let header = Header {
            at,
            direction: Some(FlightDirection::Out),
            channel: 0,
            original: 0,
            socket: last.map_or(crate::SocketId { slot: 0, generation: 0 }, |last| last.socket),
            remote: last.map_or(nowhere, |last| last.remote),
        };
        packet(&mut file, recording, &header, FlightDirection::Out, &[], &words);
    }
    file
}

fn packet(
    file: &mut Vec<u8>,
    recording: &FlightRecording,
    header: &Header,
    direction: FlightDirection,
    noted: &[u8],
    words: &[(u64, &[u8])],
) {
    let is_local = |(socket, _): &&(crate::SocketId, SocketAddr)| *socket == header.socket;
    let unknown = match header.remote {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let local = recording.locals.iter().find(is_local).map_or(unknown, |(_, local)| *local);
    let (from, to) = match direction {
        FlightDirection::In => (header.remote, local),
        FlightDirection::Out => (local, header.remote),
    };
    let mut original = header.original as usize;
    let mut data = Vec::with_capacity(noted.len() + 64);
    if header.channel != 0 {
        data.extend(header.channel.to_be_bytes());
        data.extend((original as u16).to_be_bytes());
        original += 4;
    }
    data.extend_from_slice(noted);
    let headers = ip_and_udp(from, to, original);
    let captured = headers.len() + data.len();
    block(file, ENHANCED_PACKET, |body| {
        let at = nanos(recording.begun).saturating_add(header.at);
        body.extend(0_u32.to_le_bytes());
        body.extend(((at >> 32) as u32).to_le_bytes());
        body.extend((at as u32).to_le_bytes());
        body.extend((captured as u32).to_le_bytes());
        body.extend(((headers.len() + original) as u32).to_le_bytes());
        body.extend_from_slice(&headers);
        body.extend_from_slice(&data);
        pad(body);
        let flags: u32 = match direction {
            FlightDirection::In => 1,
            FlightDirection::Out => 2,
        };
        option(body, OPTION_FLAGS, &flags.to_le_bytes());
        for (said, words) in words {
            let before = header.at.saturating_sub(*said) / 1_000_000;
            let words = String::from_utf8_lossy(words);
            let comment = match before {
                0 => words.into_owned(),
                before => format!("{before} ms before: {words}"),
            };
            option(body, OPTION_COMMENT, comment.as_bytes());
        }
        option(body, OPTION_END, &[]);
    });
}

/// Headers as they may have been: what was not noted of them is made up.
fn ip_and_udp(from: SocketAddr, to: SocketAddr, payload: usize) -> Vec<u8> {
    let udp = (8 + payload) as u16;
    let mut headers = Vec::with_capacity(48);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            headers.extend([0x45, 0]);
            headers.extend((20 + udp).to_be_bytes());
            // No identification; not to be fragmented; 64 hops; the checksum comes below.
            headers.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
            headers.extend(source.octets());
            headers.extend(destination.octets());
            let checksum = checksum(&headers);
            headers[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (source, destination) => {
            headers.extend([0x60, 0, 0, 0]);
            headers.extend(udp.to_be_bytes());
            headers.extend([UDP, 64]);
            headers.extend(ipv6(source).octets());
            headers.extend(ipv6(destination).octets());
        }
    }
    headers.extend(from.port().to_be_bytes());
    headers.extend(to.port().to_be_bytes());
    headers.extend(udp.to_be_bytes());
    // No checksum of UDP.
    headers.extend([0, 0]);
    headers
}

fn ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let words =
        header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A block: its kind, its length before and behind what is in it.
fn block(file: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = file.len();
    file.extend(kind.to_le_bytes());
    file.extend([0; 4]);
    body(file);
    let len = (file.len() - start + 4) as u32;
    file[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    file.extend(len.to_le_bytes());
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    pad(body);
}

/// Blocks and what is in them begin at multiples of four, and the file begins with a block.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
