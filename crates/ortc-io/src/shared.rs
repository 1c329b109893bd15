//! Binding sockets that connections may share, for whoever implements the socket port.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::{DatagramIo, SharedSocket};

/// Most addresses that a wildcard stands for. A host with containers has some 20.
pub const MAX_ADDRESSES: usize = 64;

/// Ports that are tried for a wildcard with port 0: the one that the system gives on the first
/// address may be taken on another.
const PORTS_TRIED: usize = 16;

/// Binds what [`BindShared`](crate::BindShared) asks for: one socket, or for a wildcard one
/// on each address of this host, all on the same port.
///
/// # Errors
/// Whatever the system says of the first address that fails (all are closed again then), and
/// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) where the host has no address of that
/// family.
pub fn bind(io: &mut dyn DatagramIo, address: SocketAddr) -> io::Result<Vec<SharedSocket>> {
    let ips = if address.ip().is_unspecified() {
        addresses(io, address.is_ipv4())?
    } else {
        vec![address.ip()]
    };
    let mut tries = if address.port() == 0 && ips.len() > 1 { PORTS_TRIED } else { 1 };
    loop {
        tries -= 1;
        match bind_each(io, &ips, address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            result => return result,
        }
    }
}

fn bind_each(
    io: &mut dyn DatagramIo,
    ips: &[IpAddr],
    address: SocketAddr,
) -> io::Result<Vec<SharedSocket>> {
    let mut bound: Vec<SharedSocket> = Vec::new();
    for ip in ips {
        let port = bound.first().map_or(address.port(), |first| first.local.port());
        let mut wanted = address;
        wanted.set_ip(*ip);
        wanted.set_port(port);
        match io.bind(wanted) {
            Ok((socket, local)) => bound.push(SharedSocket { socket, local }),
            Err(error) => {
                for SharedSocket { socket, .. } in bound {
                    io.close(socket);
                }
                return Err(error);
            }
        }
    }
    Ok(bound)
}

/// The addresses of one family, in the system's order, link-local ones aside: those mean
/// nothing to a peer on another link.
fn addresses(io: &mut dyn DatagramIo, ipv4: bool) -> io::Result<Vec<IpAddr>> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for interface in io.interfaces()? {
        let ip = interface.address;
        let is_link_local = match ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if ip.is_ipv4() == ipv4 && !is_link_local && !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    if ips.len() > MAX_ADDRESSES {
        tracing::warn!(addresses = ips.len(), "only the first {MAX_ADDRESSES} are bound");
        ips.truncate(MAX_ADDRESSES);
    }
    if ips.is_empty() {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    Ok(ips)
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::sim;

    const ADDRESSES: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];

    #[test]
    fn a_wildcard_is_every_address_on_one_port() {
        sim::run(1, |net| async move {
            let host = net.host("host", &ADDRESSES.map(IpAddr::from));
            let mut io = host.io();
            let bound = bind(&mut io, ([0, 0, 0, 0], 0).into()).unwrap();
            let ips: Vec<_> = bound.iter().map(|socket| socket.local.ip().to_string()).collect();
            assert!(ips.contains(&"10.0.0.1".into()) && ips.contains(&"10.0.0.2".into()));
            let port = bound[0].local.port();
            assert!(bound.iter().all(|socket| socket.local.port() == port && port != 0));
            let none = bind(&mut io, "[::]:5000".parse().unwrap());
            let other_family = none.map(|bound| bound.iter().all(|one| one.local.is_ipv6()));
            assert!(other_family.unwrap_or(true));
        });
    }

    #[test]
    fn a_wildcard_is_bound_whole_or_not_at_all() {
        sim::run(2, |net| async move {
            let mut io = net.host("host", &ADDRESSES.map(IpAddr::from)).io();
            let (taken, _) = io.bind(([10, 0, 0, 2], 5000).into()).unwrap();
            let refused = bind(&mut io, ([0, 0, 0, 0], 5000).into()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            io.close(taken);
            bind(&mut io, ([0, 0, 0, 0], 5000).into()).expect("nothing was left bound");
        });
    }
}
