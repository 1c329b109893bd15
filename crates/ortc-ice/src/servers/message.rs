//! STUN as servers speak it (RFC 8489 §5, RFC 8656 §18), read and written.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::engine::sha1_hmac;
use crate::transactions::TransactionId;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;

/// Longest value that is taken for a realm, a nonce or a name: 128 characters of UTF-8, and
/// what coturn makes of them (RFC 8489 §14.9: fewer than 128 characters, at most 509 bytes).
pub(crate) const MAX_TEXT: usize = 763;

pub(crate) mod method {
    pub(crate) const BINDING: u16 = 0x001;
    pub(crate) const ALLOCATE: u16 = 0x003;
    pub(crate) const REFRESH: u16 = 0x004;
    pub(crate) const SEND: u16 = 0x006;
    pub(crate) const DATA: u16 = 0x007;
    pub(crate) const CHANNEL_BIND: u16 = 0x009;
}

pub(crate) mod attribute {
    pub(crate) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(crate) const CHANGE_REQUEST: u16 = 0x0003;
    pub(crate) const USERNAME: u16 = 0x0006;
    pub(crate) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(crate) const ERROR_CODE: u16 = 0x0009;
    pub(crate) const CHANNEL_NUMBER: u16 = 0x000c;
    pub(crate) const LIFETIME: u16 = 0x000d;
    pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(crate) const DATA: u16 = 0x0013;
    pub(crate) const REALM: u16 = 0x0014;
    pub(crate) const NONCE: u16 = 0x0015;
    pub(crate) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(crate) const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub(crate) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(crate) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(crate) const ALTERNATE_SERVER: u16 = 0x8023;
    pub(crate) const RESPONSE_ORIGIN: u16 = 0x802b;
    pub(crate) const OTHER_ADDRESS: u16 = 0x802c;
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// A message whose grammar has been checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) class: Class,
    pub(crate) method: u16,
    pub(crate) id: TransactionId,
    whole: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message; `None` if it breaks the grammar.
    pub(crate) fn parse(whole: &'a [u8]) -> Option<Self> {
        let (header, body) = whole.split_at_checked(HEADER)?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if kind >> 14 != 0
            || length != body.len()
            || length % 4 != 0
            || header[4..8] != MAGIC_COOKIE
        {
            return None;
        }
        let class = match (kind >> 4 & 1) | (kind >> 7 & 2) {
            0 => Class::Request,
            1 => Class::Indication,
            2 => Class::Success,
            _ => Class::Error,
        };
        let method = (kind & 0xf) | (kind >> 1 & 0x70) | (kind >> 2 & 0xf80);
        let message = Self { class, method, id: header[8..].try_into().ok()?, whole };
        let mut rest = body;
        while !rest.is_empty() {
            rest = next(rest)?.2;
        }
        Some(message)
    }

    /// The value of an attribute; what follows the MESSAGE-INTEGRITY is not looked at
    /// (RFC 8489 §14.5).
    pub(crate) fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        self.find(wanted).map(|(_, value)| value)
    }

    /// An attribute and where it begins.
    fn find(&self, wanted: u16) -> Option<(usize, &'a [u8])> {
        let mut rest = &self.whole[HEADER..];
        while let Some((kind, value, after)) = next(rest) {
            if kind == wanted {
                return Some((self.whole.len() - rest.len(), value));
            }
            if kind == attribute::MESSAGE_INTEGRITY {
                return None;
            }
            rest = after;
        }
        None
    }

    /// An address, the XORed form of which is undone.
    pub(crate) fn address(&self, kind: u16) -> Option<SocketAddr> {
        let value = self.attribute(kind)?;
        let is_plain = matches!(
            kind,
            attribute::MAPPED_ADDRESS
                | attribute::ALTERNATE_SERVER
                | attribute::RESPONSE_ORIGIN
                | attribute::OTHER_ADDRESS
        );
        let mut mask = [0; 16];
        if !is_plain {
            mask[..4].copy_from_slice(&MAGIC_COOKIE);
            mask[4..].copy_from_slice(&self.id);
        }
        let family = *value.get(1)?;
        let port = u16::from_be_bytes([*value.get(2)? ^ mask[0], *value.get(3)? ^ mask[1]]);
        let ip: IpAddr = match family {
            1 => <[u8; 4]>::try_from(xored(value.get(4..8)?, &mask)).ok()?.into(),
            2 => <[u8; 16]>::try_from(xored(value.get(4..20)?, &mask)).ok()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// A number of 32 bits.
    pub(crate) fn number(&self, kind: u16) -> Option<u32> {
        self.attribute(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The code of an error response: 300 to 699.
    pub(crate) fn error_code(&self) -> Option<u16> {
        let value = self.attribute(attribute::ERROR_CODE)?;
        let (class, number) = (value.get(2)? & 7, *value.get(3)?);
        ((3..=6).contains(&class) && number < 100)
            .then(|| u16::from(class) * 100 + u16::from(number))
    }

    /// Whether its MESSAGE-INTEGRITY was made with this key.
    pub(crate) fn verify(&self, key: &[u8]) -> bool {
        let Some((at, tag)) = self.find(attribute::MESSAGE_INTEGRITY) else { return false };
        // The length covers everything up to the attribute itself (RFC 8489 §14.5).
        let Ok(length) = u16::try_from(at + 24 - HEADER) else { return false };
        let expected =
            sha1_hmac(key, &[&self.whole[..2], &length.to_be_bytes(), &self.whole[4..at]]);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, tag).is_ok()
    }
}

fn xored(value: &[u8], mask: &[u8; 16]) -> Vec<u8> {
    value.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

/// The first attribute, and what follows it.
fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(4)?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let value = rest.get(..length)?;
    Some((u16::from_be_bytes([head[0], head[1]]), value, rest.get(length.next_multiple_of(4)..)?))
}

/// Writes a message.
#[derive(Debug)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    id: TransactionId,
}

impl Builder {
    pub(crate) fn new(class: Class, method: u16, id: TransactionId) -> Self {
        let class = match class {
            Class::Request => 0x0000,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        };
        // Every method that is used here is below 16, so its bits lie together.
        let mut bytes = (class | method & 0xf).to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC_COOKIE);
        bytes.extend_from_slice(&id);
        Self { bytes, id }
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        // Whatever is put in here is shorter than `MAX_TEXT`.
        self.bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn xor_address(self, kind: u16, address: SocketAddr) -> Self {
        let mut mask = [0; 16];
        mask[..4].copy_from_slice(&MAGIC_COOKIE);
        mask[4..].copy_from_slice(&self.id);
        let mut value = vec![0, if address.is_ipv4() { 1 } else { 2 }];
        value.extend(xored(&address.port().to_be_bytes(), &mask));
        value.extend(match address.ip() {
            IpAddr::V4(ip) => xored(&ip.octets(), &mask),
            IpAddr::V6(ip) => xored(&ip.octets(), &mask),
        });
        self.attribute(kind, &value)
    }

    pub(crate) fn finish(mut self) -> Bytes {
        let length = (self.bytes.len() - HEADER) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
        self.bytes.into()
    }

    /// Ends the message with a MESSAGE-INTEGRITY.
    pub(crate) fn finish_with(mut self, key: &[u8]) -> Bytes {
        let length = (self.bytes.len() + 24 - HEADER) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let tag = sha1_hmac(key, &[&self.bytes]);
        self.attribute(attribute::MESSAGE_INTEGRITY, &tag).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let addresses: [SocketAddr; 2] =
            ["192.0.2.1:32853".parse().unwrap(), "[2001:db8::1]:32853".parse().unwrap()];
        for address in addresses {
            let bytes = Builder::new(Class::Success, method::ALLOCATE, [7; 12])
                .xor_address(attribute::XOR_RELAYED_ADDRESS, address)
                .attribute(attribute::LIFETIME, &600u32.to_be_bytes())
                .attribute(attribute::REALM, b"abc")
                .finish_with(b"key");
            let message = Message::parse(&bytes).unwrap();
            assert_eq!((message.class, message.method), (Class::Success, method::ALLOCATE));
            assert_eq!(message.address(attribute::XOR_RELAYED_ADDRESS), Some(address));
            assert_eq!(message.number(attribute::LIFETIME), Some(600));
            assert_eq!(message.attribute(attribute::REALM), Some(&b"abc"[..]));
            assert!(message.verify(b"key") && !message.verify(b"kez"));
            for index in 0..bytes.len() {
                let mut forged = bytes.to_vec();
                forged[index] ^= 1;
                assert!(!Message::parse(&forged).is_some_and(|forged| forged.verify(b"key")));
                assert!(Message::parse(&bytes[..index]).is_none());
            }
        }
    }

    #[test]
    fn the_sample_request_of_rfc_5769_verifies_with_its_long_term_key() {
        // RFC 5769 §2.4: long-term credentials, with the key MD5(user:realm:password).
        let hex = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383\
                   e382af e382b90000 0015001c662f2f3439 39 6b39353464364f4c33346f4c394653547679\
                   3634734100140 00b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85\
                   c9a28ca89666";
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let message = Message::parse(&bytes).unwrap();
        let name = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        let key = super::super::long_term_key(name, "example.org", "TheMatrIX");
        assert!(message.verify(&key));
    }

    #[test]
    fn any_bytes_can_be_read() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut read, kinds) = (0, [attribute::ERROR_CODE, attribute::XOR_MAPPED_ADDRESS, 0x0001]);
        for _ in 0..50_000 {
            let mut builder = Builder::new(Class::Error, method::ALLOCATE, [1; 12]);
            for _ in 0..random.usize(0..3) {
                let value: Vec<u8> = (0..random.usize(0..24)).map(|_| random.u8(..3)).collect();
                builder = builder.attribute(random.choice(kinds).unwrap(), &value);
            }
            let mut bytes = builder.finish().to_vec();
            if random.bool() {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            if let Some(message) = Message::parse(&bytes) {
                read += 1;
                message.error_code();
                kinds.iter().for_each(|kind| _ = message.address(*kind));
                message.verify(b"key");
            }
        }
        assert!(read > 10_000);
    }
}
