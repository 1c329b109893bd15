use std::net::IpAddr;

use crate::random::Seeds;

/// Sets these seeds apart from others of the same agent.
const SALT: u64 = 0x616c_6961_7365_7321;

/// Random names that stand for addresses of ours: `UUID.local`, one for each address.
#[derive(Debug)]
pub(crate) struct Aliases {
    known: Vec<(IpAddr, String)>,
    seeds: Seeds,
    /// Those that are to be answered from now on.
    new: Vec<(IpAddr, String)>,
}

impl Aliases {
    pub(crate) fn new(seed: u64) -> Self {
        Self { known: Vec::new(), seeds: Seeds::new(seed ^ SALT), new: Vec::new() }
    }

    /// The name of an address, which is made up the first time.
    pub(crate) fn of(&mut self, ip: IpAddr) -> String {
        if let Some((_, name)) = self.known.iter().find(|(known, _)| *known == ip) {
            return name.clone();
        }
        let name = format!("{}.local", uuid(self.seeds.next(), self.seeds.next()));
        self.known.push((ip, name.clone()));
        self.new.push((ip, name.clone()));
        name
    }

    /// Takes the names that are to be answered.
    pub(crate) fn take_new(&mut self) -> Vec<(IpAddr, String)> {
        std::mem::take(&mut self.new)
    }

    /// Forgets the names of addresses that are not kept; returns them.
    pub(crate) fn retire(&mut self, keeps: impl Fn(&IpAddr) -> bool) -> Vec<String> {
        self.known.extract_if(.., |(ip, _)| !keeps(ip)).map(|(_, name)| name).collect()
    }
}

/// A random UUID (RFC 9562 §5.4).
fn uuid(high: u64, low: u64) -> String {
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_random_uuids_and_keep_to_their_addresses() {
        assert_eq!(uuid(0, 0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u64::MAX, u64::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let (mut aliases, mut others) = (Aliases::new(1), Aliases::new(2));
        let ips: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let names = ips.map(|ip| aliases.of(ip));
        assert_eq!(ips.map(|ip| aliases.of(ip)), names);
        assert!(names[0] != names[1] && others.of(ips[0]) != names[0]);
        assert_eq!(aliases.take_new().len(), 2);
        assert_eq!(aliases.retire(|ip| *ip == ips[0]), names[1..]);
        assert_ne!(aliases.of(ips[1]), names[1], "a name is used once");
        assert_eq!(aliases.take_new().len(), 1);
    }
}
