use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::credentials::is_ice_char;
use crate::error::Quoted;
use crate::{CandidateError, IgnoredReason};

/// ICE credentials of one side, as they are signalled (ORTC draft A and B, "RTCIceConnectionInfo").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RTCIceConnectionInfo {
    /// The username fragment: 4 to 256 ice-chars (RFC 8445 §5.3).
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 4, max = 256), regex(pattern = "^[A-Za-z0-9+/]+$"))
    )]
    pub username_frag: String,
    /// The password: 22 to 256 ice-chars.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 22, max = 256), regex(pattern = "^[A-Za-z0-9+/]+$"))
    )]
    pub password: String,
    /// SHA-256 fingerprint of the certificate, `sha-256 AB:CD:…`: an addition of ours, optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// One ICE candidate, as it is signalled (ORTC draft A and B, "RTCIceCandidateDescription").
///
/// The same thing as a line of text (RFC 8839 §5.1) is its [`Display`](std::fmt::Display) and
/// [`FromStr`](std::str::FromStr):
///
/// ```
/// use ortc_ice::RTCIceCandidateDescription;
///
/// let line = "candidate:1 1 udp 2130706431 192.0.2.33 10000 typ host generation 0";
/// let candidate: RTCIceCandidateDescription = line.parse()?;
/// assert_eq!(candidate.connection_port, 10000);
/// assert_eq!(candidate.to_string(), "candidate:1 1 udp 2130706431 192.0.2.33 10000 typ host");
/// # Ok::<(), ortc_ice::CandidateError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RTCIceCandidateDescription {
    /// Groups candidates of one base, type and server: 1 to 32 ice-chars.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 32), regex(pattern = "^[A-Za-z0-9+/]+$"))
    )]
    pub foundation: String,
    /// Always 1: RTP and RTCP share a component (RFC 5761).
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 256)))]
    pub component: u32,
    /// `udp` (or `tcp`), in lower case.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z0-9_.+-]{1,32}$")))]
    pub transport: String,
    /// RFC 8445 §5.1.2: 1 to 2³¹ − 1. (The drafts say `int`; the text, unsigned.)
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 2147483647)))]
    pub priority: u32,
    /// An IP address, or a name.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 255)))]
    pub connection_address: String,
    /// A port, 1 to 65535 (9 for active TCP).
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    pub connection_port: u16,
    /// `host`, `srflx`, `prflx` or `relay`.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["host", "srflx", "prflx", "relay"])))]
    pub kind: String,
    /// The base of a reflexive or relayed candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rel_address: Option<String>,
    /// The port of that base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rel_port: Option<u16>,
    /// Of a TCP candidate, who connects (RFC 6544 §4.5): it does (`active`), or it waits to be
    /// connected to (`passive`); `so` is both at once. An addition of ours, in the spelling of
    /// browsers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["active", "passive", "so", null])))]
    pub tcp_type: Option<String>,
}

/// What a pair of candidates goes over, which its two ends have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Carrier {
    /// UDP, a relay's included.
    Udp,
    /// TCP, and we connect: our active candidates, their passive ones.
    Outgoing,
    /// TCP, and the peer connects: our passive candidates, their active ones.
    Incoming,
}

/// The type of a candidate, in the order of RFC 8445 §5.1.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Host,
    PeerReflexive,
    ServerReflexive,
    Relayed,
}

impl Kind {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "host" => Self::Host,
            "prflx" => Self::PeerReflexive,
            "srflx" => Self::ServerReflexive,
            "relay" => Self::Relayed,
            _ => return None,
        })
    }
}

/// A candidate of the peer that passed every check and can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usable {
    pub(crate) carrier: Carrier,
    pub(crate) address: SocketAddr,
    pub(crate) kind: Kind,
}

impl Usable {
    /// What it is known by: several candidates may have it.
    pub(crate) fn end(&self) -> (Carrier, SocketAddr) {
        (self.carrier, self.address)
    }
}

impl RTCIceCandidateDescription {
    /// Checks every field (RFC 8839 §5.1), without judging whether the candidate is of use.
    ///
    /// # Errors
    /// The first field that is wrong, with its value.
    pub fn validate(&self) -> Result<(), CandidateError> {
        let foundation = self.foundation.as_bytes();
        if !(1..=32).contains(&foundation.len()) || !foundation.iter().copied().all(is_ice_char) {
            return Err(CandidateError::Foundation(Quoted::new(&self.foundation)));
        }
        if !(1..=256).contains(&self.component) {
            return Err(CandidateError::Component(Quoted::new(&self.component.to_string())));
        }
        if !is_token(&self.transport) {
            return Err(CandidateError::Transport(Quoted::new(&self.transport)));
        }
        if !(1..1 << 31).contains(&self.priority) {
            return Err(CandidateError::Priority(Quoted::new(&self.priority.to_string())));
        }
        match parse_address(&self.connection_address) {
            Some(Address::Ip(ip)) if !is_unicast(ip) => {
                return Err(CandidateError::Address(Quoted::new(&self.connection_address)));
            }
            Some(_) => {}
            None => return Err(CandidateError::Address(Quoted::new(&self.connection_address))),
        }
        if self.connection_port == 0 {
            return Err(CandidateError::Port(Quoted::new("0")));
        }
        if Kind::parse(&self.kind).is_none() {
            return Err(CandidateError::Kind(Quoted::new(&self.kind)));
        }
        match (&self.rel_address, &self.tcp_type) {
            (Some(address), _) if parse_address(address).is_none() => {
                Err(CandidateError::RelAddress(Quoted::new(address)))
            }
            (_, Some(kind)) if !["active", "passive", "so"].contains(&kind.as_str()) => {
                Err(CandidateError::TcpType(Quoted::new(kind)))
            }
            _ => Ok(()),
        }
    }

    /// What pairs with it go over, seen from the other side; `None` for what is not supported:
    /// simultaneous opens, and TCP candidates that do not say who connects.
    pub(crate) fn carrier_to_it(&self) -> Option<Carrier> {
        let is = |transport: &str| self.transport.eq_ignore_ascii_case(transport);
        match self.tcp_type.as_deref() {
            _ if is("udp") => Some(Carrier::Udp),
            Some("passive") if is("tcp") => Some(Carrier::Outgoing),
            Some("active") if is("tcp") => Some(Carrier::Incoming),
            _ => None,
        }
    }

    /// What checks can be made with, or why none can.
    pub(crate) fn usable(&self) -> Result<Usable, IgnoredReason> {
        self.validate().map_err(|_| IgnoredReason::Malformed)?;
        if self.component != 1 {
            return Err(IgnoredReason::OtherComponent);
        }
        let carrier = self.carrier_to_it().ok_or(IgnoredReason::TransportUnsupported)?;
        let kind = Kind::parse(&self.kind).ok_or(IgnoredReason::Malformed)?;
        match parse_address(&self.connection_address) {
            Some(Address::Ip(ip)) => {
                Ok(Usable { carrier, address: SocketAddr::new(ip, self.connection_port), kind })
            }
            _ => Err(IgnoredReason::NameUnresolved),
        }
    }
}

/// What may stand where an address is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Ip(IpAddr),
    Name,
}

/// An IP address (an IPv4-mapped one as IPv4), or a host name by RFC 1123 §2.1.
///
/// An IPv6 address may stand in brackets, as in `RTCIceCandidate.address` of Chromium.
pub(crate) fn parse_address(text: &str) -> Option<Address> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(v6) = bare {
        return Some(Address::Ip(IpAddr::V6(v6.parse().ok()?).to_canonical()));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(Address::Ip(ip.to_canonical()));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits is a mistyped IPv4 address (RFC 1123 §2.1).
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next()?;
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    (name.len() <= 253 && name.split('.').all(label) && !numeric).then_some(Address::Name)
}

/// Whether an address can be one end of a path.
fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

/// Whether an address is of a single link.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_token(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_may_stand_in_brackets_and_nothing_else_may() {
        let ip = |text: &str| Some(Address::Ip(text.parse().unwrap()));
        assert_eq!(parse_address("[fd00::2]"), ip("fd00::2"));
        assert_eq!(parse_address("fd00::2"), ip("fd00::2"));
        assert_eq!(parse_address("[::ffff:192.0.2.1]"), ip("192.0.2.1"));
        for text in ["[192.0.2.1]", "[fd00::2", "fd00::2]", "[]", "[example.org]", "10.0.0.300"] {
            assert_eq!(parse_address(text), None, "{text}");
        }
    }
}
