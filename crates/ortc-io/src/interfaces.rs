use std::io;
use std::net::IpAddr;

/// One address of one network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The system's name of the interface, for example `eth0`.
    pub name: String,
    /// The address; for IPv6 link-local addresses see [`scope_id`](Self::scope_id).
    pub address: IpAddr,
    /// The interface index that an IPv6 link-local address needs to be bound, else 0.
    pub scope_id: u32,
    /// Whether the address is of a loopback interface.
    pub kind: InterfaceKind,
}

/// What an interface leads to, as far as candidate gathering cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceKind {
    /// The host itself: gathered only when asked for.
    Loopback,
    /// Everything else.
    Network,
}

/// Asks the system for its addresses: those of interfaces that are up, in its own order.
///
/// # Errors
/// Whatever the system says.
pub fn enumerate_interfaces() -> io::Result<Vec<InterfaceAddress>> {
    let interfaces = if_addrs::get_if_addrs()?;
    Ok(interfaces
        .into_iter()
        // Interfaces that do not say (loopback, tunnels) are taken at their word.
        .filter(|interface| interface.is_oper_up() || interface.is_loopback())
        .map(|interface| {
            let address = interface.ip();
            let scoped = interface.is_link_local() && address.is_ipv6();
            InterfaceAddress {
                address,
                scope_id: interface.index.filter(|_| scoped).unwrap_or(0),
                kind: if interface.is_loopback() {
                    InterfaceKind::Loopback
                } else {
                    InterfaceKind::Network
                },
                name: interface.name,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_among_them() {
        let found = enumerate_interfaces().unwrap();
        let local = found.iter().find(|i| i.address == IpAddr::from([127, 0, 0, 1])).unwrap();
        assert_eq!((local.kind, local.scope_id), (InterfaceKind::Loopback, 0));
    }
}
