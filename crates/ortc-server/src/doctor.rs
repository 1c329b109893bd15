//! `ortc doctor`: what the network lets through, for people, for programs, and as an exit status.

use std::fmt::{self, Write};
use std::time::Duration;

use ortc_api::{
    AddressScope, BehaviourDiscovery, DiagnoseError, Filtering, InterfaceAddress, Mapping,
    NatReport, NetworkReport, RTCIceServer, ServerAttempt, ServerReport, ServerTransport,
    UdpStatus, Verdict, diagnose_network,
};
use serde::Serialize;

/// All is right.
const FINE: u8 = 0;

/// Calls get through, and some server does not do what it should.
const SERVER_FAILED: u8 = 1;

/// Calls do not get through to all peers: a relay is needed, and none works; or there is no
/// network.
const NOT_THROUGH: u8 = 3;

/// It cannot be told: no server was named that tells, or none answers.
const UNKNOWN: u8 = 4;

/// Asks these servers and looks at this host.
///
/// # Errors
/// Those of [`diagnose_network`].
pub async fn examine(servers: &[RTCIceServer]) -> Result<Examination, DiagnoseError> {
    Ok(Examination(diagnose_network(servers).await?))
}

/// What was found out; as text for people by `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination(NetworkReport);

impl Examination {
    /// What was found out, for programs: see `docs/doctor.md`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Json::of(self)).expect("strings, numbers and lists are JSON")
    }

    /// The exit status of the program.
    pub fn exit_code(&self) -> u8 {
        let failed = self.0.servers.iter().any(|server| !server.works());
        match self.0.verdict() {
            Verdict::RelayMissing | Verdict::NoNetwork => NOT_THROUGH,
            Verdict::Unknown if !self.0.has_relay() => UNKNOWN,
            _ if failed => SERVER_FAILED,
            _ => FINE,
        }
    }

    /// The last word, in sentences.
    fn conclusion(&self) -> String {
        let has_relay = self.0.has_relay();
        let mut said = match self.0.verdict() {
            Verdict::Direct => "Calls connect directly with everyone who can send UDP.".to_owned(),
            Verdict::DirectWithMost if has_relay => {
                "Calls connect directly with most peers. Those behind a NAT with a mapping for each \
                 destination (\"symmetric\") are reached through the TURN server."
                    .to_owned()
            }
            Verdict::DirectWithMost => {
                "Calls connect directly with most peers, but not with those behind a NAT with a \
                 mapping for each destination (\"symmetric\"): for these, name a TURN server."
                    .to_owned()
            }
            Verdict::RelayNeeded => {
                "A TURN server is needed for most peers, and there is one that works.".to_owned()
            }
            Verdict::RelayMissing => {
                "A TURN server is needed for most peers, and none that works was named: calls with \
                 them will not connect."
                    .to_owned()
            }
            Verdict::NoNetwork => {
                "This host has no address that leads anywhere: is the network up?".to_owned()
            }
            Verdict::Unknown => self.unknown(),
        };
        if self.0.udp == UdpStatus::Blocked {
            said.push_str(" UDP is blocked, so what is relayed goes over TCP, with its delays.");
        }
        said
    }

    fn unknown(&self) -> String {
        let relayed = if self.0.has_relay() {
            " Through the TURN server calls connect in any case."
        } else {
            ""
        };
        let why = if self.0.servers.is_empty() {
            "Nothing can be told without asking: name a server with --ice-server stun:HOST:PORT."
        } else if self.0.udp == UdpStatus::Works {
            "Whether calls connect directly cannot be told by one address alone: name a second \
             STUN server, or one that has two addresses (RFC 5780)."
        } else {
            "No server has answered, so nothing can be told: either they are down, or this network \
             lets nothing through to them."
        };
        format!("{why}{relayed}")
    }
}

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.0;
        writeln!(f, "Addresses of this host")?;
        for interface in &report.interfaces {
            let address = interface.address.to_string();
            writeln!(f, "  {:<8} {address:<26} {}", interface.name, kind(interface))?;
        }
        if report.interfaces.is_empty() {
            writeln!(f, "  none")?;
        }
        if !report.servers.is_empty() {
            writeln!(f, "\nServers")?;
        }
        for server in &report.servers {
            write!(f, "{}", Told(server))?;
        }
        let udp = match report.udp {
            UdpStatus::Works => "works",
            UdpStatus::Blocked => "is blocked: servers answer over TCP alone",
            UdpStatus::Unknown => "is unknown: nobody has answered",
        };
        writeln!(f, "\nUDP {udp}.")?;
        for nat in &report.nats {
            describe(nat, f)?;
        }
        writeln!(f, "\n{}", self.conclusion())
    }
}

/// What an address is.
fn kind(interface: &InterfaceAddress) -> String {
    let family = if interface.address.is_ipv4() { "IPv4" } else { "IPv6" };
    format!("{family}, {}", scope(interface).1)
}

/// The reach of an address: a word for programs, and words for people.
fn scope(interface: &InterfaceAddress) -> (&'static str, &'static str) {
    match AddressScope::of(interface.address) {
        AddressScope::Public => ("public", "public"),
        AddressScope::Private => ("private", "private"),
        AddressScope::Shared => ("shared", "of a provider with a NAT of its own"),
        AddressScope::LinkLocal => ("link-local", "for this link alone"),
        AddressScope::Loopback => ("loopback", "this host alone"),
    }
}

struct Told<'a>(&'a ServerReport);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServerReport { url, failure, attempts, .. } = self.0;
        let mark = if self.0.works() { "ok " } else { "BAD" };
        writeln!(f, "  {mark} {url}")?;
        if let Some(failure) = failure {
            writeln!(f, "      {failure}")?;
        }
        for attempt in attempts {
            writeln!(f, "      {}", tell(attempt))?;
        }
        Ok(())
    }
}

fn tell(attempt: &ServerAttempt) -> String {
    let transport = match attempt.transport {
        ServerTransport::Udp => "UDP",
        ServerTransport::Tcp => "TCP",
        ServerTransport::Tls => "TLS",
    };
    let mut told = format!("{} over {transport}: ", attempt.address);
    let answer = match &attempt.result {
        Ok(answer) => answer,
        Err(failure) => return told + &failure.to_string(),
    };
    let time = milliseconds(answer.time);
    // Writing to a string cannot fail.
    let _ = match (answer.relayed, answer.mapped) {
        (Some(relayed), _) => {
            let back =
                if answer.given_back { "and given back" } else { "not confirmed given back" };
            write!(told, "relays, by {relayed}, had after {time} {back}")
        }
        (None, Some(mapped)) => write!(told, "answers after {time}, sees {mapped}"),
        (None, None) => write!(told, "answers after {time}"),
    };
    told
}

fn describe(nat: &NatReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nWhat stands before {} ({})", nat.local.ip(), nat.interface)?;
    let Some(translated) = nat.is_translated() else {
        return writeln!(f, "  no server has answered to this address");
    };
    let mut seen: Vec<_> = nat.seen.iter().map(|seen| seen.mapped.ip()).collect();
    seen.dedup();
    let seen: Vec<_> = seen.iter().map(ToString::to_string).collect();
    match translated {
        true => writeln!(f, "  a NAT: servers see it as {}", seen.join(", "))?,
        false => writeln!(f, "  no NAT: servers see it as it is")?,
    }
    match nat.mapping {
        Mapping::None => {}
        Mapping::Unknown => writeln!(f, "  mapping: cannot be told by one server")?,
        Mapping::EndpointIndependent => {
            writeln!(f, "  mapping: one for all destinations, so peers can be told it")?;
        }
        Mapping::AddressDependent => {
            writeln!(f, "  mapping: another for each address, so peers cannot be told it")?;
        }
        Mapping::AddressAndPortDependent => {
            writeln!(
                f,
                "  mapping: another for each address and port, so peers cannot be told it"
            )?;
        }
        Mapping::DestinationDependent => {
            writeln!(f, "  mapping: another for each destination, so peers cannot be told it")?;
        }
    }
    match nat.filtering {
        Filtering::Unknown => {}
        Filtering::EndpointIndependent => {
            writeln!(f, "  filtering: none, anybody gets in once something was sent")?;
        }
        Filtering::AddressDependent => {
            writeln!(f, "  filtering: addresses get in that were sent to")?;
        }
        Filtering::AddressAndPortDependent => {
            writeln!(f, "  filtering: addresses get in that were sent to, from that port alone")?;
        }
    }
    match nat.behaviour {
        BehaviourDiscovery::Used(_) => {}
        BehaviourDiscovery::NotOffered => {
            writeln!(f, "  filtering: cannot be told, no server has two addresses (RFC 5780)")?;
        }
        BehaviourDiscovery::OtherSilent(server, other) => writeln!(
            f,
            "  filtering: cannot be told, {server} says that it is {other}, too, which is silent"
        )?,
        BehaviourDiscovery::NotHeeded(server) => writeln!(
            f,
            "  filtering: cannot be told, {server} does not answer from its other address"
        )?,
    }
    match nat.hairpinning {
        None => Ok(()),
        Some(true) => writeln!(f, "  hosts behind it reach each other by their outer addresses"),
        Some(false) => {
            writeln!(f, "  hosts behind it do not reach each other by their outer addresses")
        }
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// The whole as one object.
#[derive(Debug, Serialize)]
struct Json {
    verdict: &'static str,
    conclusion: String,
    exit_code: u8,
    udp: &'static str,
    interfaces: Vec<JsonInterface>,
    servers: Vec<JsonServer>,
    nats: Vec<JsonNat>,
    ignored: u64,
}

#[derive(Debug, Serialize)]
struct JsonInterface {
    name: String,
    address: String,
    family: &'static str,
    scope: &'static str,
}

#[derive(Debug, Serialize)]
struct JsonServer {
    url: String,
    works: bool,
    error: Option<String>,
    attempts: Vec<JsonAttempt>,
}

#[derive(Debug, Serialize)]
struct JsonAttempt {
    address: String,
    transport: &'static str,
    ms: Option<f64>,
    mapped: Option<String>,
    relayed: Option<String>,
    given_back: Option<bool>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct JsonNat {
    interface: String,
    local: String,
    translated: Option<bool>,
    mapping: &'static str,
    filtering: &'static str,
    behaviour_discovery: &'static str,
    hairpinning: Option<bool>,
    seen: Vec<JsonSeen>,
}

#[derive(Debug, Serialize)]
struct JsonSeen {
    server: String,
    mapped: String,
    ms: f64,
}

impl Json {
    fn of(examination: &Examination) -> Self {
        let report = &examination.0;
        Self {
            verdict: match report.verdict() {
                Verdict::Direct => "direct",
                Verdict::DirectWithMost => "direct-with-most",
                Verdict::RelayNeeded => "relay-needed",
                Verdict::RelayMissing => "relay-missing",
                Verdict::NoNetwork => "no-network",
                Verdict::Unknown => "unknown",
            },
            conclusion: examination.conclusion(),
            exit_code: examination.exit_code(),
            udp: match report.udp {
                UdpStatus::Works => "works",
                UdpStatus::Blocked => "blocked",
                UdpStatus::Unknown => "unknown",
            },
            interfaces: report.interfaces.iter().map(JsonInterface::of).collect(),
            servers: report.servers.iter().map(JsonServer::of).collect(),
            nats: report.nats.iter().map(JsonNat::of).collect(),
            ignored: report.ignored,
        }
    }
}

impl JsonInterface {
    fn of(interface: &InterfaceAddress) -> Self {
        Self {
            name: interface.name.clone(),
            address: interface.address.to_string(),
            family: if interface.address.is_ipv4() { "IPv4" } else { "IPv6" },
            scope: scope(interface).0,
        }
    }
}

impl JsonServer {
    fn of(server: &ServerReport) -> Self {
        Self {
            url: server.url.clone(),
            works: server.works(),
            error: server.failure.as_ref().map(ToString::to_string),
            attempts: server.attempts.iter().map(JsonAttempt::of).collect(),
        }
    }
}

impl JsonAttempt {
    fn of(attempt: &ServerAttempt) -> Self {
        let answer = attempt.result.as_ref().ok();
        let relayed = answer.and_then(|answer| answer.relayed);
        Self {
            address: attempt.address.to_string(),
            transport: match attempt.transport {
                ServerTransport::Udp => "udp",
                ServerTransport::Tcp => "tcp",
                ServerTransport::Tls => "tls",
            },
            ms: answer.map(|answer| answer.time.as_secs_f64() * 1000.0),
            mapped: answer.and_then(|answer| Some(answer.mapped?.to_string())),
            relayed: relayed.map(|relayed| relayed.to_string()),
            given_back: answer.filter(|_| relayed.is_some()).map(|answer| answer.given_back),
            error: attempt.result.as_ref().err().map(ToString::to_string),
        }
    }
}

impl JsonNat {
    fn of(nat: &NatReport) -> Self {
        let seen = nat.seen.iter().map(|seen| JsonSeen {
            server: seen.server.to_string(),
            mapped: seen.mapped.to_string(),
            ms: seen.time.as_secs_f64() * 1000.0,
        });
        Self {
            interface: nat.interface.clone(),
            local: nat.local.to_string(),
            translated: nat.is_translated(),
            mapping: match nat.mapping {
                Mapping::Unknown => "unknown",
                Mapping::None => "none",
                Mapping::EndpointIndependent => "endpoint-independent",
                Mapping::AddressDependent => "address-dependent",
                Mapping::AddressAndPortDependent => "address-and-port-dependent",
                Mapping::DestinationDependent => "destination-dependent",
            },
            filtering: match nat.filtering {
                Filtering::Unknown => "unknown",
                Filtering::EndpointIndependent => "endpoint-independent",
                Filtering::AddressDependent => "address-dependent",
                Filtering::AddressAndPortDependent => "address-and-port-dependent",
            },
            behaviour_discovery: match nat.behaviour {
                BehaviourDiscovery::NotOffered => "not-offered",
                BehaviourDiscovery::OtherSilent(..) => "other-address-silent",
                BehaviourDiscovery::NotHeeded(_) => "not-heeded",
                BehaviourDiscovery::Used(_) => "used",
            },
            hairpinning: nat.hairpinning,
            seen: seen.collect(),
        }
    }
}
