//! One question of multicast DNS (RFC 6762), asked on every link that this host is on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::{InterfaceAddress, interfaces};

pub(super) const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The group of IPv6 (RFC 6762 §3).
pub(super) const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
pub(super) const PORT: u16 = 5353;

/// When the question is asked, from the start, and when it is given up.
const ASK: [u64; 3] = [0, 250, 1000];
const GIVE_UP: Duration = Duration::from_secs(3);

/// Most datagrams that are looked at for one name: on a busy link, others talk as well.
const MAX_HEARD: usize = 512;

/// Most links that are asked.
const MAX_LINKS: usize = 32;

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_AAAA: u16 = 28;

/// The addresses of a name, by whoever answers first.
pub(super) async fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    let interfaces = interfaces::enumerate_interfaces()?;
    let (four, six) = (open(&interfaces)?, open_v6(&interfaces));
    let question = question(name)?;
    let (start, mut heard) = (Instant::now(), 0);
    let (mut buffer, mut other) = ([0; 2048], [0; 2048]);
    for (asked, at) in ASK.iter().enumerate() {
        for link in &four.1 {
            // A link that cannot be sent on is none where the name could be.
            let _ = SockRef::from(&four.0).set_multicast_if_v4(link);
            let _ = four.0.send_to(&question, (GROUP, PORT)).await;
        }
        if let Some((socket, links)) = &six {
            for link in links {
                let _ = SockRef::from(socket).set_multicast_if_v6(*link);
                let _ = socket.send_to(&question, (GROUP_V6, PORT)).await;
            }
        }
        let next = ASK.get(asked + 1).map_or(GIVE_UP, |next| Duration::from_millis(*next));
        debug_assert!(Duration::from_millis(*at) < next);
        loop {
            let received = timeout_at(start + next, async {
                let on_six = async {
                    match &six {
                        Some((socket, _)) => socket.recv_from(&mut other).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    received = four.0.recv_from(&mut buffer) => (received, false),
                    received = on_six => (received, true),
                }
            });
            let Ok((received, is_on_six)) = received.await else { break };
            heard += 1;
            if heard > MAX_HEARD {
                return Err(io::Error::other("too many others talk on the link"));
            }
            // What is not from that port is no answer (RFC 6762 §11).
            let Some((len, _)) = received.ok().filter(|(_, from)| from.port() == PORT) else {
                continue;
            };
            let message = if is_on_six { &other[..len] } else { &buffer[..len] };
            let addresses = answers(message, name);
            if !addresses.is_empty() {
                return Ok(addresses);
            }
        }
    }
    Err(io::Error::other("nobody on the link knows it"))
}

/// A socket that hears the answers on all links, beside others of this host.
fn open(interfaces: &[InterfaceAddress]) -> io::Result<(UdpSocket, Vec<Ipv4Addr>)> {
    let socket = beside_others(Domain::IPV4)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(255)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
    let mut links = Vec::new();
    for interface in interfaces {
        if let IpAddr::V4(address) = interface.address
            && links.len() < MAX_LINKS
            && socket.join_multicast_v4(&GROUP, &address).is_ok()
        {
            links.push(address);
        }
    }
    Ok((UdpSocket::from_std(socket.into())?, links))
}

/// The same on IPv6, if there is a link with it.
fn open_v6(interfaces: &[InterfaceAddress]) -> Option<(UdpSocket, Vec<u32>)> {
    let socket = beside_others(Domain::IPV6).ok()?;
    socket.set_only_v6(true).ok()?;
    socket.set_multicast_loop_v6(true).ok()?;
    socket.set_multicast_hops_v6(255).ok()?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into()).ok()?;
    let mut links = Vec::new();
    for InterfaceAddress { scope_id, .. } in interfaces {
        // Of each interface with IPv6 there is one address that says which it is.
        if *scope_id != 0
            && !links.contains(scope_id)
            && links.len() < MAX_LINKS
            && socket.join_multicast_v6(&GROUP_V6, *scope_id).is_ok()
        {
            links.push(*scope_id);
        }
    }
    if links.is_empty() {
        return None;
    }
    Some((UdpSocket::from_std(socket.into()).ok()?, links))
}

/// A socket that shares its port with those of others.
pub(super) fn beside_others(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Asks for both kinds of addresses.
pub(crate) fn question(name: &str) -> io::Result<Vec<u8>> {
    let mut message = vec![0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
    for kind in [TYPE_A, TYPE_AAAA] {
        append_name(&mut message, name)?;
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
    }
    Ok(message)
}

/// Appends a name, label by label.
pub(super) fn append_name(message: &mut Vec<u8>, name: &str) -> io::Result<()> {
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len));
        message.push(len.ok_or(io::ErrorKind::InvalidInput)?);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    Ok(())
}

/// The name at `at`, in lower case, and where what follows it begins. Names that are longer than
/// any (RFC 1035 §2.3.4), and what is no text, are malformed.
pub(super) fn read_name(message: &[u8], at: usize) -> Option<(String, usize)> {
    let end = skip_name(message, at)?;
    let (mut at, mut name) = (at, String::new());
    // Pointers lead backwards only, so there is an end.
    loop {
        match *message.get(at)? {
            0 => return Some((name, end)),
            len @ 1..=63 => {
                let label = message.get(at + 1..at + 1 + usize::from(len))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&std::str::from_utf8(label).ok()?.to_ascii_lowercase());
                at += 1 + usize::from(len);
            }
            high @ 0xc0.. => {
                let low = *message.get(at + 1)?;
                let to = usize::from(u16::from_be_bytes([high & 0x3f, low]));
                at = Some(to).filter(|to| *to < at)?;
            }
            _ => return None,
        }
        if name.len() > 253 {
            return None;
        }
    }
}

/// Whether a message that asks says that it knows this address of a name (RFC 6762 §7.1).
pub(super) fn has_answer(message: &[u8], name: &str, address: IpAddr) -> bool {
    let mut found = Vec::new();
    let _ = read_records(message, name, &mut found);
    found.contains(&address)
}

/// The addresses that a response has for a name; none if it is something else.
pub(crate) fn answers(message: &[u8], name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    // What is cut off or malformed has been read as far as it goes.
    let _ = read(message, name, &mut found);
    found
}

fn read(message: &[u8], name: &str, found: &mut Vec<IpAddr>) -> Option<()> {
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let is_response = word(2)? & 0xf80f == 0x8000;
    if !is_response {
        return None;
    }
    read_records(message, name, found)
}

fn read_records(message: &[u8], name: &str, found: &mut Vec<IpAddr>) -> Option<()> {
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(message, at)? + 4;
    }
    // Answers, authorities and additional records are alike.
    let records = usize::from(word(6)?) + usize::from(word(8)?) + usize::from(word(10)?);
    for _ in 0..records {
        let is_it = is_name(message, at, name);
        at = skip_name(message, at)?;
        let (kind, class, len) = (word(at)?, word(at + 2)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + len)?;
        at += 10 + len;
        // The topmost bit of the class says that others are outdated (RFC 6762 §10.2).
        if !is_it || class & 0x7fff != 1 || found.len() >= super::MAX_ADDRESSES {
            continue;
        }
        match kind {
            TYPE_A => found.push(<[u8; 4]>::try_from(data).ok()?.into()),
            TYPE_AAAA => found.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?).to_canonical()),
            _ => {}
        }
    }
    Some(())
}

/// Where what follows a name begins.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Whether the name at `at` is `wanted`, in any case of its letters.
fn is_name(message: &[u8], mut at: usize, wanted: &str) -> bool {
    let mut labels = wanted.strip_suffix('.').unwrap_or(wanted).split('.');
    // Pointers lead backwards only, so there is an end.
    loop {
        match message.get(at) {
            Some(0) => return labels.next().is_none(),
            Some(len @ 1..=63) => {
                let label = message.get(at + 1..at + 1 + usize::from(*len));
                let same =
                    |(label, wanted): (&[u8], &str)| label.eq_ignore_ascii_case(wanted.as_bytes());
                if !label.zip(labels.next()).is_some_and(same) {
                    return false;
                }
                at += 1 + usize::from(*len);
            }
            Some(high @ 0xc0..) => {
                let low = message.get(at + 1).copied().unwrap_or(u8::MAX);
                let to = usize::from(u16::from_be_bytes([high & 0x3f, low]));
                if to >= at {
                    return false;
                }
                at = to;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "1f4712db-ea17-4bcf-a596-105139dfd8bf.local";

    /// A response with the question, and the answer's name as a pointer to it.
    fn response(name: &str, kind: u16, data: &[u8]) -> Vec<u8> {
        let mut message = question(name).unwrap();
        message.truncate(12 + name.len() + 2 + 4);
        message[2] = 0x84;
        (message[5], message[7]) = (1, 1);
        message.extend_from_slice(&[0xc0, 12]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0x80, 1, 0, 0, 0, 120, 0, data.len() as u8]);
        message.extend_from_slice(data);
        message
    }

    #[test]
    fn answers_are_those_of_the_name_alone() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let v4 = response(&NAME.to_uppercase(), TYPE_A, &[192, 0, 2, 7]);
        assert_eq!(answers(&v4, NAME), [ip("192.0.2.7")]);
        let v6 =
            response(NAME, TYPE_AAAA, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(answers(&v6, NAME), [ip("2001:db8::1")]);
        let other = response("other.local", TYPE_A, &[192, 0, 2, 7]);
        assert_eq!(answers(&other, NAME), [] as [IpAddr; 0]);
        assert_eq!(answers(&question(NAME).unwrap(), NAME), [] as [IpAddr; 0], "no response");
        for len in 0..v4.len() {
            assert_eq!(answers(&v4[..len], NAME), [] as [IpAddr; 0]);
        }
    }

    #[test]
    fn any_bytes_can_be_read_and_names_that_turn_in_circles_end() {
        let mut random: u64 = 1;
        let whole = response(NAME, TYPE_A, &[192, 0, 2, 7]);
        for _ in 0..50_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = whole.clone();
            let at = (random >> 33) as usize % bytes.len();
            bytes[at] = (random >> 24) as u8;
            answers(&bytes, NAME);
        }
        let mut circle = whole;
        circle[12 + NAME.len() + 6..][..2].copy_from_slice(&[0xc0, 12 + NAME.len() as u8 + 6]);
        assert_eq!(answers(&circle, NAME), [] as [IpAddr; 0]);
    }

    #[tokio::test]
    async fn a_name_is_resolved_on_the_link_it_is_on() {
        let (responder, links) = open(&interfaces::enumerate_interfaces().unwrap()).unwrap();
        assert!(!links.is_empty(), "loopback at least");
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (len, _) = responder.recv_from(&mut buffer).await.unwrap();
                if buffer[..len] == question(NAME).unwrap() {
                    for link in &links {
                        SockRef::from(&responder).set_multicast_if_v4(link).unwrap();
                        let answer = response(NAME, TYPE_A, &[192, 0, 2, 7]);
                        let _ = responder.send_to(&answer, (GROUP, PORT)).await;
                    }
                }
            }
        });
        let found = super::super::resolve(NAME.into()).await;
        assert_eq!(found, Ok(vec!["192.0.2.7".parse().unwrap()]));
        answering.abort();
    }

    #[test]
    fn names_of_the_link_have_one_label() {
        use super::super::is_of_the_link;
        assert!(is_of_the_link(NAME) && is_of_the_link("a.LOCAL."));
        for name in ["local", "a.b.local", "a.example", "a.local.example", "192.0.2.1"] {
            assert!(!is_of_the_link(name), "{name}");
        }
    }
}
