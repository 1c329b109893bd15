//! Hosts and NATs as network namespaces of Linux. Root's to make.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A network namespace, removed at the end with everything in it.
pub struct Namespace {
    name: String,
}

/// What a NAT lets through (RFC 4787), and what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// None: the host has a public address.
    None,
    /// One mapping for all, open to all, ports of servers included: one address for one.
    Full,
    /// One mapping for all, open to who has been sent to.
    Port,
    /// A mapping for each destination.
    Sym,
    /// A firewall beside it that lets no UDP out.
    NoUdp,
}

/// Unlike any other in this process: tests run side by side.
fn number() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// A command that runs in a namespace.
pub fn in_namespace(namespace: Option<&Namespace>, program: &str) -> Command {
    match namespace {
        None => Command::new(program),
        Some(Namespace { name }) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name, program]);
            command
        }
    }
}

/// Says so, on the terminal, where namespaces cannot be made; returns whether they can.
pub fn can_make_namespaces(test: &str) -> bool {
    let name = format!("ortc-{}-{}-probe", std::process::id(), number());
    let quietly = |arguments: &[&str]| {
        let mut command = Command::new("ip");
        let run = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        run.status().is_ok_and(|status| status.success())
    };
    let can = quietly(&["netns", "add", &name])
        && quietly(&["netns", "exec", &name, "nft", "list", "ruleset"]);
    quietly(&["netns", "del", &name]);
    if !can {
        // Past what captures the output of tests that pass.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: {test} makes network namespaces, which needs root, ip and nft on Linux"
        );
    }
    can
}

impl Namespace {
    pub fn new(kind: &str) -> Self {
        let name = format!("ortc-{}-{}-{kind}", std::process::id(), number());
        run(&format!("ip netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` in it.
    fn ip(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.name));
    }

    fn exec(&self, line: &str) {
        run(&format!("ip netns exec {} {line}", self.name));
    }

    fn nft(&self, rules: &str) {
        let mut command = in_namespace(Some(self), "nft");
        let status = command.arg(rules).status().unwrap();
        assert!(status.success(), "nft {rules}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{line}");
}

/// The public network: a bridge at 203.0.113.1, and at 203.0.113.2 for servers with two addresses.
pub fn internet() -> Namespace {
    let internet = Namespace::new("internet");
    internet.ip("link add bridge0 type bridge");
    internet.ip("link set bridge0 up");
    internet.ip("addr add 203.0.113.1/24 dev bridge0");
    internet.ip("addr add 203.0.113.2/24 dev bridge0");
    // What is sent to a private address is lost, as it is out there.
    internet.ip("route add default dev lo");
    internet
}

/// A host on the public network behind a NAT of its own, whose public address ends in `last`.
pub struct Host {
    pub namespace: Namespace,
    router: Option<Namespace>,
    /// Its public address, or its router's, at first.
    public: String,
    last: u8,
    /// What delays whatever it sends and is sent.
    _delay: Option<Delay>,
}

/// A link that takes its time; it ends with this.
struct Delay(Child);

impl Drop for Delay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Host {
    pub fn new(internet: &Namespace, nat: Nat, last: u8) -> Self {
        Self::with_delay(internet, nat, last, 0)
    }

    /// One whose packets take so many milliseconds to the public network, and as many back.
    pub fn with_delay(internet: &Namespace, nat: Nat, last: u8, delay_ms: u32) -> Self {
        let host = Namespace::new("host");
        let public = format!("203.0.113.{last}");
        if nat == Nat::None {
            let delay = attach(&host, internet, &public, last, delay_ms);
            host.ip("route add default via 203.0.113.1");
            return Self { namespace: host, router: None, public, last, _delay: delay };
        }
        let router = Namespace::new("nat");
        let delay = attach(&router, internet, &public, last, delay_ms);
        router.ip("route add default via 203.0.113.1");
        let (inner, gateway) = (format!("10.{last}.0.2"), format!("10.{last}.0.1"));
        run(&format!(
            "ip link add lan netns {} type veth peer name eth0 netns {}",
            router.name, host.name
        ));
        router.ip(&format!("addr add {gateway}/24 dev lan"));
        router.ip("link set lan up");
        host.ip(&format!("addr add {inner}/24 dev eth0"));
        host.ip("link set eth0 up");
        host.ip(&format!("route add default via {gateway}"));
        router.exec("sysctl -qw net.ipv4.ip_forward=1");
        let random = if nat == Nat::Sym { "fully-random" } else { "" };
        router.nft(&format!(
            "table ip nat {{
                chain out {{
                    type nat hook postrouting priority 100;
                    oifname wan masquerade {random}
                }}
            }}"
        ));
        if nat == Nat::Full {
            router.nft(&format!(
                "table ip open {{
                    chain in {{
                        type nat hook prerouting priority -100;
                        iifname wan udp dport 1024-65535 dnat to {inner}
                        iifname wan tcp dport 8080-8089 dnat to {inner}
                    }}
                }}"
            ));
        } else {
            // Dropped without a word, as NATs do, for the host as for themselves.
            let udp = if nat == Nat::NoUdp { "iifname lan meta l4proto udp drop" } else { "" };
            router.nft(&format!(
                "table ip filter {{
                    chain pass {{
                        type filter hook forward priority 0;
                        iifname wan ct state new drop
                        {udp}
                    }}
                    chain own {{
                        type filter hook input priority 0;
                        iifname wan ct state new udp dport 1024-65535 drop
                    }}
                }}"
            ));
        }
        Self { namespace: host, router: Some(router), public, last, _delay: delay }
    }

    /// The NAT gets another public address, as from a provider at night, and knows no mapping of
    /// before.
    pub fn rebind(&self, last: u8) {
        let router = self.router.as_ref().expect("it is behind a NAT");
        let new = format!("203.0.113.{last}");
        // With the old address Linux forgets the mappings that were made for it.
        router.ip(&format!("addr del {}/24 dev wan", self.public));
        router.ip(&format!("addr add {new}/24 dev wan"));
        router.ip("route replace default via 203.0.113.1");
    }

    /// Gives it an interface on the public network beside that behind the NAT: `wan`, whose address
    /// ends in `last`. Each address is left by its own interface, and the server is reached by the
    /// NAT.
    pub fn add_interface(&self, internet: &Namespace, last: u8) {
        let host = &self.namespace;
        let (inner, gateway) = (format!("10.{}.0.2", self.last), format!("10.{}.0.1", self.last));
        host.ip(&format!("route add default via {gateway} table 100"));
        host.ip(&format!("rule add from {inner} lookup 100"));
        attach(host, internet, &format!("203.0.113.{last}"), last, 0);
        host.ip(&format!("route add 203.0.113.1 via {gateway} src {inner}"));
    }

    /// That interface is gone.
    pub fn remove_interface(&self) {
        self.namespace.ip("link del wan");
    }

    /// Has packets of DTLS handshakes counted that come in, from now on.
    pub fn count_handshakes(&self) {
        // The first byte of a record after the UDP header: 22 is a handshake (RFC 6347 §4.1).
        self.namespace.nft(
            "table ip watch {
                counter handshakes {}
                chain in {
                    type filter hook input priority -200;
                    meta l4proto udp @th,64,8 22 counter name handshakes
                }
            }",
        );
    }

    /// How many there were.
    pub fn handshakes(&self) -> u64 {
        let mut command = in_namespace(Some(&self.namespace), "nft");
        let output = command.args(["list", "counter", "ip", "watch", "handshakes"]).output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        let after = said.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        after.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    }

    /// Loses one packet of UDP in `every`, both ways, on its way to the public network.
    pub fn lose(&self, every: u32) {
        let place = self.router.as_ref().unwrap_or(&self.namespace);
        let lose = format!("meta l4proto udp numgen random mod {every} < 1 drop");
        place.nft(&format!(
            "table ip bad {{
                chain in {{
                    type filter hook prerouting priority -300;
                    iifname wan {lose}
                }}
                chain out {{
                    type filter hook postrouting priority 300;
                    oifname wan {lose}
                }}
            }}"
        ));
    }

    /// Lays cables to another host, `cable0` and so on, that lead to no router. Each has addresses
    /// of its link alone: `fe80::1` and `fe80::2`, the same on all of them, and with IPv4
    /// `169.254.N.1` and `.2`.
    pub fn lay_cables(&self, other: &Self, count: u8, ipv4: bool) {
        for number in 0..count {
            let cable = format!("cable{number}");
            run(&format!(
                "ip link add {cable} netns {} type veth peer name {cable} netns {}",
                self.namespace.name, other.namespace.name
            ));
            for (end, host) in (1..).zip([self, other]) {
                let host = &host.namespace;
                // Its own one is not wanted, as it is another on each.
                host.ip(&format!("link set {cable} addrgenmode none"));
                host.ip(&format!("addr add fe80::{end}/64 dev {cable} nodad"));
                if ipv4 {
                    host.ip(&format!("addr add 169.254.{number}.{end}/16 dev {cable}"));
                }
                host.ip(&format!("link set {cable} up"));
            }
        }
    }

    /// The cable on which most has been sent.
    pub fn busiest_cable(&self, count: u8) -> u8 {
        let sent = |number: &u8| {
            let mut command = in_namespace(Some(&self.namespace), "cat");
            let file = format!("/sys/class/net/cable{number}/statistics/tx_packets");
            let output = command.arg(file).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse::<u64>().unwrap()
        };
        (0..count).max_by_key(sent).unwrap()
    }

    /// Nothing gets through a cable any more, and nobody is told.
    pub fn cut_cable(&self, number: u8) {
        self.namespace.nft(&format!(
            "table inet cut{number} {{
                chain in {{
                    type filter hook prerouting priority -300;
                    iifname cable{number} drop
                }}
                chain out {{
                    type filter hook postrouting priority 300;
                    oifname cable{number} drop
                }}
            }}"
        ));
    }
}

/// Puts a namespace on the bridge, by an interface named `wan`.
fn attach(
    namespace: &Namespace,
    internet: &Namespace,
    address: &str,
    last: u8,
    delay_ms: u32,
) -> Option<Delay> {
    let delay = (delay_ms > 0).then(|| {
        let mut command = in_namespace(Some(internet), "python3");
        command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/delay.py")]);
        command.args([format!("wan{last}"), format!("port{last}"), delay_ms.to_string()]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "python3 and /dev/net/tun make a link with a delay");
        internet.ip(&format!("link set wan{last} netns {} name wan", namespace.name));
        Delay(process)
    });
    if delay.is_none() {
        run(&format!(
            "ip link add wan netns {} type veth peer name port{last} netns {}",
            namespace.name, internet.name
        ));
    }
    internet.ip(&format!("link set port{last} master bridge0"));
    internet.ip(&format!("link set port{last} up"));
    namespace.ip(&format!("addr add {address}/24 dev wan"));
    namespace.ip("link set wan up");
    delay
}
