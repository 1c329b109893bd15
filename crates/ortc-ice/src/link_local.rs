//! Addresses of a single link (RFC 3927, RFC 4291 §2.5.6).
//!
//! An IPv6 address of a link is none without its *scope*, the number of the interface that leads
//! there. That is this host's own and is never signalled: so a candidate of the peer is taken to be
//! on each link that a set candidate of ours is on, once for each, and checks find out where it is.
//! IPv4 has no such thing: the socket port binds an address to its interface.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use ortc_io::InterfaceAddress;

use crate::description::is_link_local;

/// Whether one address can be reached from the other: two of one link, or none of a single one.
pub(crate) fn is_on_one_link(local: SocketAddr, remote: SocketAddr) -> bool {
    if local.is_ipv4() != remote.is_ipv4()
        || is_link_local(local.ip()) != is_link_local(remote.ip())
    {
        return false;
    }
    match (local, remote) {
        (SocketAddr::V6(local), SocketAddr::V6(remote))
            if is_link_local(IpAddr::V6(*local.ip())) =>
        {
            local.scope_id() == remote.scope_id()
        }
        _ => true,
    }
}

/// An address of this host, as sockets are bound to it: with port 0, and its scope if it has one.
pub(crate) fn to_bind(interface: &InterfaceAddress) -> SocketAddr {
    match interface.address {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, 0, 0, interface.scope_id).into()
        }
        ip => SocketAddr::new(ip, 0),
    }
}

/// The same address with another port.
pub(crate) fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// An IPv6 address of a link, on that of this scope; others as they are.
pub(crate) fn on_link(address: SocketAddr, scope: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(address) if address.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*address.ip(), address.port(), 0, scope).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_link_are_for_those_of_the_same_one() {
        let fits = |local: &str, remote: &str| {
            is_on_one_link(local.parse().unwrap(), remote.parse().unwrap())
        };
        assert!(fits("[fe80::1%2]:1", "[fe80::2%2]:1") && !fits("[fe80::1%2]:1", "[fe80::2%3]:1"));
        assert!(!fits("[fe80::1%2]:1", "[fe80::2]:1"), "it may be on any");
        assert!(!fits("[2001:db8::1]:1", "[fe80::2%2]:1") && !fits("[fe80::1%2]:1", "[fd00::1]:1"));
        assert!(fits("169.254.1.1:1", "169.254.2.2:1") && !fits("169.254.1.1:1", "192.0.2.1:1"));
        assert!(!fits("192.0.2.1:1", "169.254.1.1:1") && fits("192.0.2.1:1", "10.0.0.1:1"));
        assert!(fits("[2001:db8::1]:1", "[fd00::1]:1") && !fits("192.0.2.1:1", "[fd00::1]:1"));
    }
}
