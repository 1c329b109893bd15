//! As much STUN as consent takes: binding requests and their responses (RFC 8489).

use std::net::SocketAddr;

use aws_lc_rs::{constant_time, hmac};

/// A STUN transaction identifier (RFC 8489 §5).
pub(crate) type TransactionId = [u8; 12];

/// Room for any message that is written here: 20 bytes of header, a username of at most 513 and
/// everything else that a request has.
pub(crate) const MAX_MESSAGE: usize = 640;

const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;

/// Attributes (RFC 8489 §14, RFC 8445 §16.1).
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// An attribute with its head of four bytes.
const INTEGRITY_LEN: usize = 4 + 20;
const FINGERPRINT_LEN: usize = 4 + 4;

/// What the checksum of FINGERPRINT is mixed with (RFC 8489 §14.7).
const FINGERPRINT_MASK: u32 = 0x5354_554e;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Request,
    Success,
    Error,
}

/// A binding message that keeps to the grammar. Nothing in it is authenticated until
/// [`verify`](Self::verify) says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    bytes: &'a [u8],
    pub(crate) class: Class,
    pub(crate) id: TransactionId,
    pub(crate) username: &'a [u8],
    pub(super) has_priority: bool,
    pub(super) uses_candidate: bool,
    pub(super) is_controlling: bool,
    pub(super) is_controlled: bool,
    /// Whether there is an attribute that has to be understood (RFC 8489 §14) and is not.
    pub(super) is_unusual: bool,
    /// Where MESSAGE-INTEGRITY begins.
    integrity: Option<usize>,
}

impl<'a> Message<'a> {
    /// Reads a binding request or response; `None` for all else, broken messages included.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, attributes) = bytes.split_at_checked(HEADER)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length != attributes.len() || header[4..8] != MAGIC_COOKIE {
            return None;
        }
        let class = match u16::from_be_bytes([header[0], header[1]]) {
            REQUEST => Class::Request,
            SUCCESS => Class::Success,
            ERROR => Class::Error,
            _ => return None,
        };
        let mut message = Self {
            bytes,
            class,
            id: header[8..].try_into().ok()?,
            username: &[],
            has_priority: false,
            uses_candidate: false,
            is_controlling: false,
            is_controlled: false,
            is_unusual: false,
            integrity: None,
        };
        let mut at = HEADER;
        while at < bytes.len() {
            let head = bytes.get(at..at + 4)?;
            let kind = u16::from_be_bytes([head[0], head[1]]);
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = bytes.get(at + 4..at + 4 + len)?;
            message.note(kind, value, at)?;
            at += 4 + len.next_multiple_of(4);
        }
        (at == bytes.len()).then_some(message)
    }

    /// Takes an attribute that begins at `at`; `None` if it is broken.
    fn note(&mut self, kind: u16, value: &'a [u8], at: usize) -> Option<()> {
        match kind {
            FINGERPRINT => {
                let sum: [u8; 4] = value.try_into().ok()?;
                let is_last = at + FINGERPRINT_LEN == self.bytes.len();
                return (is_last && fingerprint(&self.bytes[..at]) == sum).then_some(());
            }
            // What comes behind it is not authenticated, and no part of the message (§14.5).
            _ if self.integrity.is_some() => {}
            MESSAGE_INTEGRITY => {
                self.integrity = (value.len() == 20).then_some(at);
                return self.integrity.map(drop);
            }
            USERNAME => self.username = value,
            PRIORITY => self.has_priority = true,
            USE_CANDIDATE => self.uses_candidate = true,
            ICE_CONTROLLED => self.is_controlled = true,
            ICE_CONTROLLING => self.is_controlling = true,
            ERROR_CODE | XOR_MAPPED_ADDRESS => {}
            _ => self.is_unusual |= kind < 0x8000,
        }
        Some(())
    }

    /// Whether its MESSAGE-INTEGRITY was made with this key (RFC 8489 §14.5).
    pub(crate) fn verify(&self, key: &hmac::Key) -> bool {
        let Some(at) = self.integrity else { return false };
        // Authenticated is the length that the message has with this attribute as the last.
        let Ok(length) = u16::try_from(at + INTEGRITY_LEN - HEADER) else { return false };
        let mut context = hmac::Context::with_key(key);
        context.update(&self.bytes[..2]);
        context.update(&length.to_be_bytes());
        context.update(&self.bytes[4..at]);
        let tag = &self.bytes[at + 4..at + INTEGRITY_LEN];
        constant_time::verify_slices_are_equal(context.sign().as_ref(), tag).is_ok()
    }
}

/// The key of MESSAGE-INTEGRITY with short-term credentials (RFC 8489 §9.1.1): the password, its
/// two blocks hashed once and for all.
pub(crate) fn integrity_key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

/// What a request asks with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// `theirs:ours`.
    pub(crate) username: &'a str,
    pub(crate) controlling: bool,
    pub(crate) tie_breaker: u64,
    pub(crate) priority: u32,
}

/// Writes a binding request but for what differs from one to the next: its transaction and what
/// is computed over it. To be [sealed](seal).
pub(crate) fn request(asking: Asking<'_>) -> Box<[u8]> {
    let Asking { username, controlling, tie_breaker, priority } = asking;
    let mut out = header(REQUEST);
    attribute(&mut out, USERNAME, username.as_bytes());
    let role = if controlling { ICE_CONTROLLING } else { ICE_CONTROLLED };
    attribute(&mut out, role, &tie_breaker.to_be_bytes());
    attribute(&mut out, PRIORITY, &priority.to_be_bytes());
    if controlling {
        // The pair is the nominated one.
        attribute(&mut out, USE_CANDIDATE, &[]);
    }
    out.into_boxed_slice()
}

/// Writes a success response to a request from `remote` into `out`; returns its length.
pub(super) fn response(
    id: &TransactionId,
    remote: SocketAddr,
    key: &hmac::Key,
    out: &mut [u8; MAX_MESSAGE],
) -> usize {
    let mut mapped = [0; 20];
    let (family, len) = match remote {
        SocketAddr::V4(address) => {
            mapped[4..8].copy_from_slice(&address.ip().octets());
            (1, 8)
        }
        SocketAddr::V6(address) => {
            mapped[4..20].copy_from_slice(&address.ip().octets());
            (2, 20)
        }
    };
    mapped[1] = family;
    mapped[2..4].copy_from_slice(&remote.port().to_be_bytes());
    // Mixed with the cookie, the port with its first half (§14.2), and the identifier.
    let mask = MAGIC_COOKIE.iter().chain(id);
    mapped[4..].iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    mapped[2] ^= MAGIC_COOKIE[0];
    mapped[3] ^= MAGIC_COOKIE[1];
    out[..HEADER].copy_from_slice(&header(SUCCESS));
    out[HEADER..HEADER + 2].copy_from_slice(&XOR_MAPPED_ADDRESS.to_be_bytes());
    out[HEADER + 2..HEADER + 4].copy_from_slice(&(len as u16).to_be_bytes());
    out[HEADER + 4..HEADER + 4 + len].copy_from_slice(&mapped[..len]);
    seal(HEADER + 4 + len, id, key, out)
}

/// Gives the message in `out[..len]` its transaction, MESSAGE-INTEGRITY and FINGERPRINT; returns
/// its length.
pub(crate) fn seal(
    len: usize,
    id: &TransactionId,
    key: &hmac::Key,
    out: &mut [u8; MAX_MESSAGE],
) -> usize {
    out[8..HEADER].copy_from_slice(id);
    let mut end = len + INTEGRITY_LEN;
    set_length(out, end);
    let tag = hmac::sign(key, &out[..len]);
    out[len..len + 4].copy_from_slice(&[0x00, 0x08, 0, 20]);
    out[len + 4..end].copy_from_slice(tag.as_ref());
    set_length(out, end + FINGERPRINT_LEN);
    let sum = fingerprint(&out[..end]);
    out[end..end + 4].copy_from_slice(&[0x80, 0x28, 0, 4]);
    out[end + 4..end + 8].copy_from_slice(&sum);
    end += FINGERPRINT_LEN;
    end
}

fn set_length(out: &mut [u8; MAX_MESSAGE], end: usize) {
    out[2..4].copy_from_slice(&((end - HEADER) as u16).to_be_bytes());
}

fn header(kind: u16) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    out[..2].copy_from_slice(&kind.to_be_bytes());
    out[4..8].copy_from_slice(&MAGIC_COOKIE);
    out
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn fingerprint(message: &[u8]) -> [u8; 4] {
    (crc32(message) ^ FINGERPRINT_MASK).to_be_bytes()
}

/// The checksum of ITU-T V.42, by bytes.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut value = n as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[n] = value;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of RFC 5769 §2.1, whose password and fingerprint are known.
    const REQUEST_OF_RFC_5769: &str = "000100582112a442b7e7a701bc34d686fa87dfae\
        802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36\
        000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
        80280004e57a3bcf";

    /// The response of RFC 5769 §2.2: 192.0.2.1, port 32853.
    const RESPONSE_OF_RFC_5769: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae\
        8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599fd9e90c3\
        8c7489f92af9ba53f06be7d780280004c07d4c96";

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn the_messages_of_rfc_5769_are_read_and_verified() {
        let key = integrity_key("VOkJxbRl1RmTxUk/WvJxBt");
        let request = bytes(REQUEST_OF_RFC_5769);
        let message = Message::parse(&request).unwrap();
        assert_eq!((message.class, message.username), (Class::Request, &b"evtj:h6vY"[..]));
        assert!(message.has_priority && message.is_controlled && !message.is_controlling);
        assert!(!message.uses_candidate && !message.is_unusual);
        assert!(message.verify(&key));
        assert!(!message.verify(&integrity_key("VOkJxbRl1RmTxUk/WvJxBu")));
        let response = bytes(RESPONSE_OF_RFC_5769);
        let message = Message::parse(&response).unwrap();
        assert_eq!((message.class, message.id[0]), (Class::Success, 0xb7));
        assert!(message.verify(&key));
    }

    #[test]
    fn what_is_written_is_read_and_a_changed_bit_is_noticed() {
        let key = integrity_key("a password that is quite long, with a fingerprint in it, and on");
        let asking =
            Asking { username: "them:us", controlling: true, tie_breaker: 7, priority: 1 << 24 };
        let mut out = [0; MAX_MESSAGE];
        let template = request(asking);
        out[..template.len()].copy_from_slice(&template);
        let len = seal(template.len(), &[9; 12], &key, &mut out);
        let message = Message::parse(&out[..len]).unwrap();
        assert_eq!((message.id, message.username), ([9; 12], &b"them:us"[..]));
        assert!(message.uses_candidate && message.is_controlling && message.verify(&key));
        // What stands behind MESSAGE-INTEGRITY it does not cover.
        for bit in 0..(len - FINGERPRINT_LEN) * 8 {
            let mut changed = out[..len].to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Message::parse(&changed).is_none_or(|message| !message.verify(&key)), "{bit}");
        }
        for cut in 0..len {
            assert!(Message::parse(&out[..cut]).is_none());
        }
        for remote in ["192.0.2.1:32853", "[2001:db8::1]:9"] {
            let len = response(&[9; 12], remote.parse().unwrap(), &key, &mut out);
            let message = Message::parse(&out[..len]).unwrap();
            assert_eq!((message.class, message.id), (Class::Success, [9; 12]));
            assert!(message.verify(&key));
        }
        let id: TransactionId = bytes(RESPONSE_OF_RFC_5769)[8..20].try_into().unwrap();
        response(&id, "192.0.2.1:32853".parse().unwrap(), &key, &mut out);
        assert_eq!(out[20..32], bytes("002000080001a147e112a643")[..]);
    }

    #[test]
    fn an_attribute_that_must_be_understood_and_is_not_is_noticed() {
        let key = integrity_key("password");
        let mut template = header(REQUEST);
        attribute(&mut template, 0x7fff, &[1]);
        let mut out = [0; MAX_MESSAGE];
        out[..template.len()].copy_from_slice(&template);
        let len = seal(template.len(), &[1; 12], &key, &mut out);
        assert!(Message::parse(&out[..len]).unwrap().is_unusual);
    }

    #[test]
    fn the_checksum_is_that_of_v_42() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
