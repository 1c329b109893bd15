use super::*;
use crate::RTCIceConnectionInfo;

fn gathering(ports: Option<RangeInclusive<u16>>) -> Gathering {
    let mut config = IceConfig::new(RTCIceConnectionInfo::from_random([1; 32]), 1);
    config.interfaces.loopback = true;
    config.port_range = ports;
    Gathering::new(&config)
}

fn interface(address: &str) -> InterfaceAddress {
    let address: IpAddr = address.parse().unwrap();
    let kind = if address.is_loopback() { InterfaceKind::Loopback } else { InterfaceKind::Network };
    InterfaceAddress { name: "if".into(), address, scope_id: 0, kind }
}

fn socket(slot: u32) -> SocketId {
    SocketId { slot, generation: 0 }
}

#[test]
fn addresses_alternate_between_families_with_loopback_last() {
    let all: Vec<_> =
        ["127.0.0.1", "::1", "192.0.2.1", "192.0.2.2", "2001:db8::1"].map(interface).into();
    let order = preferred_order(&gathering(None).filter, &all);
    let order: Vec<_> = order.iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(order, ["2001:db8::1", "192.0.2.1", "192.0.2.2", "::1", "127.0.0.1"]);
}

#[test]
fn addresses_of_a_link_come_after_others_with_their_scope_and_are_told_without() {
    let mut gathering = gathering(None);
    gathering.filter.link_local = true;
    let on = |address: &str, scope_id| InterfaceAddress { scope_id, ..interface(address) };
    let all = [
        on("127.0.0.1", 0),
        on("fe80::1", 2),
        // The same address is another one on another link.
        on("fe80::1", 3),
        on("fe80::9", 0),
        on("169.254.1.2", 0),
        on("192.0.2.1", 0),
    ];
    let order = preferred_order(&gathering.filter, &all);
    let order: Vec<_> = order.iter().map(ToString::to_string).collect();
    let expected =
        ["192.0.2.1:0", "[fe80::1%2]:0", "169.254.1.2:0", "[fe80::1%3]:0", "127.0.0.1:0"];
    assert_eq!(order, expected, "one without a scope cannot be bound");
    gathering.start();
    let wanted = gathering.interfaces(&all).wanted;
    assert_eq!(wanted[1].address, "[fe80::1%2]:0".parse().unwrap());
    // Whatever the answer says of the scope.
    let local = gathering.bound(wanted[1].token, socket(0), "[fe80::1]:5000".parse().unwrap());
    let local = local.unwrap().clone();
    assert_eq!(local.address, "[fe80::1%2]:5000".parse().unwrap());
    assert_eq!(local.description.connection_address, "fe80::1");
    gathering.bound(wanted[3].token, socket(1), "[fe80::1%3]:5001".parse().unwrap());
    for rest in [0, 2, 4] {
        gathering.bind_failed(wanted[rest].token);
    }
    assert!(gathering.has_ended() && gathering.start());
    let gone = gathering.interfaces(&[on("fe80::1", 3)]).gone;
    assert_eq!(gone.iter().map(|local| local.socket).collect::<Vec<_>>(), [socket(0)]);
}

#[test]
fn priorities_follow_the_formula_and_the_order() {
    let mut gathering = gathering(None);
    assert!(gathering.start());
    let difference = gathering.interfaces(&[interface("192.0.2.1"), interface("127.0.0.1")]);
    let addresses: Vec<_> = difference.wanted.iter().map(|w| w.address.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.1:0", "127.0.0.1:0"]);
    let first = gathering.bound(0, socket(0), "192.0.2.1:5000".parse().unwrap()).unwrap();
    assert_eq!(
        first.description.to_string(),
        "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host"
    );
    assert!(!gathering.has_ended());
    let second = gathering.bound(1, socket(1), "127.0.0.1:5001".parse().unwrap()).unwrap();
    assert_eq!(
        second.description.to_string(),
        "candidate:2 1 udp 2130706175 127.0.0.1 5001 typ host"
    );
    assert!(gathering.has_ended());
    assert_eq!(gathering.by_socket(socket(0)), None, "it is found, not set");
}

#[test]
fn gathering_again_finds_what_is_new_and_what_is_gone() {
    let mut gathering = gathering(None);
    gathering.start();
    gathering.interfaces(&[interface("192.0.2.1"), interface("192.0.2.2")]);
    gathering.bound(0, socket(0), "192.0.2.1:5000".parse().unwrap());
    assert!(!gathering.start(), "still running");
    gathering.bound(1, socket(1), "192.0.2.2:5000".parse().unwrap());
    assert!(gathering.take_again() && gathering.start());
    let difference = gathering.interfaces(&[interface("192.0.2.2"), interface("192.0.2.3")]);
    let gone: Vec<_> = difference.gone.iter().map(|local| local.socket).collect();
    assert_eq!(gone, [socket(0)]);
    let address = "192.0.2.3:0".parse().unwrap();
    let wanted = WantedSocket { token: 2, address, shared: None };
    assert_eq!(difference.wanted, [wanted]);
}

#[test]
fn hidden_addresses_are_nowhere_and_public_ones_are_told_as_such() {
    let mut gathering = gathering(None);
    gathering.aliases = Some(Aliases::new(1));
    gathering.start();
    gathering.interfaces(&[interface("192.0.2.1")]);
    let address: SocketAddr = "192.0.2.1:5000".parse().unwrap();
    let host = gathering.bound(0, socket(0), address).unwrap().description.clone();
    let name = host.connection_address.clone();
    assert!(ortc_io::is_of_the_link(&name), "{name}");
    let tcp = gathering.add_tcp(Carrier::Outgoing, address, None).unwrap().description.clone();
    assert_eq!(tcp.connection_address, name, "one address has one name");
    let mapped = gathering.add_reflexive(socket(0), "203.0.113.9:7".parse().unwrap()).unwrap();
    let line = mapped.description.to_string();
    assert!(line.ends_with("203.0.113.9 7 typ srflx raddr 0.0.0.0 rport 0"), "{line}");
    let public = gathering.add_reflexive(socket(0), address).unwrap().description.clone();
    assert_eq!((public.kind.as_str(), public.connection_address.as_str()), ("srflx", "192.0.2.1"));
    let relay = Relay {
        socket: socket(0),
        relayed: "198.51.100.1:9".parse().unwrap(),
        mapped: Some("203.0.113.9:7".parse().unwrap()),
        server: 0,
        rank: 0,
    };
    let line = gathering.add_relayed(relay).unwrap().description.to_string();
    assert!(line.ends_with("raddr 0.0.0.0 rport 0"), "{line}");
    assert!(gathering.set(&host).unwrap().is_some(), "it is known by its name");
}

fn shared(address: &str, from_wildcard: bool) -> SharedHost {
    let local: SocketAddr = address.parse().unwrap();
    let shared = SharedSocket { socket: socket(local.port().into()), local };
    SharedHost { shared, announced: None, from_wildcard }
}

#[test]
fn shared_sockets_are_joined_and_none_is_bound() {
    let mut gathering = gathering(Some(6000..=6002));
    let announced = Some("203.0.113.5".parse().unwrap());
    gathering.shared = vec![
        SharedHost { announced, ..shared("192.0.2.9:5009", false) },
        shared("192.0.2.2:5002", true),
        shared("192.0.2.3:5003", true),
    ];
    assert!(gathering.start());
    // One that a wildcard stood for is of use while it is there; no other one is bound.
    let interfaces = [interface("192.0.2.1"), interface("192.0.2.2")];
    let wanted = gathering.interfaces(&interfaces).wanted;
    let joined: Vec<_> = wanted.iter().map(|w| (w.address.port(), w.shared)).collect();
    let slot = |slot: usize| Some(gathering.shared[slot].shared);
    assert_eq!(joined, [(5009, slot(0)), (5002, slot(1))]);
    let local = gathering.bound(0, socket(5009), wanted[0].address).unwrap();
    assert_eq!(local.address, wanted[0].address);
    assert_eq!(
        local.description.to_string(),
        "candidate:1 1 udp 2130706431 203.0.113.5 5009 typ host"
    );
    assert_eq!(gathering.bind_failed(1), None, "there is no other port to try");
    assert!(gathering.has_ended());
    gathering.start();
    let gone = gathering.interfaces(&[]).gone;
    assert_eq!(gone, [], "what was bound by its address stays");
}

#[test]
fn tcp_candidates_say_who_connects_and_are_less_than_udp_of_their_type() {
    let mut gathering = gathering(None);
    let address: SocketAddr = "192.0.2.1:5000".parse().unwrap();
    let lines = [
        (Carrier::Outgoing, "candidate:a1 1 tcp 1524629247 192.0.2.1 9 typ host tcptype active"),
        (
            Carrier::Incoming,
            "candidate:p2 1 tcp 1520434687 192.0.2.1 5000 typ host tcptype passive",
        ),
    ];
    for (carrier, line) in lines {
        let local = gathering.add_tcp(carrier, address, None).unwrap();
        assert_eq!(local.description.to_string(), line);
        let description = local.description.clone();
        assert_eq!(gathering.add_tcp(carrier, address, None), None, "it is known");
        assert!(gathering.set(&description).unwrap().is_some());
        assert!(gathering.set(&description).unwrap().is_none(), "it is set");
    }
    assert_eq!(gathering.by_address(address), None, "it is none of UDP");
    assert!(gathering.by_end((Carrier::Incoming, address)).is_some());
    let gone = gathering.remove_tcp(|local| local.carrier == Carrier::Incoming);
    assert_eq!((gone.len(), gathering.set_bases().count()), (1, 1));
    assert!(lines.iter().all(|(_, line)| {
        let parsed: RTCIceCandidateDescription = line.parse().unwrap();
        parsed.priority < priority(Kind::ServerReflexive, 0)
            && parsed.priority > priority(Kind::Relayed, u16::MAX)
    }));
}

#[test]
fn every_port_of_a_range_is_tried_once() {
    let mut gathering = gathering(Some(6000..=6002));
    gathering.start();
    let mut ports = Vec::new();
    let mut wanted = gathering.interfaces(&[interface("192.0.2.1")]).wanted.pop();
    while let Some(socket) = wanted {
        ports.push(socket.address.port());
        wanted = gathering.bind_failed(socket.token);
    }
    ports.sort_unstable();
    assert_eq!(ports, [6000, 6001, 6002]);
    assert!(gathering.has_ended());
}

#[test]
fn the_number_of_addresses_is_bounded() {
    let mut gathering = gathering(None);
    gathering.start();
    let all: Vec<_> = (1..=40).map(|n| interface(&format!("192.0.2.{n}"))).collect();
    let difference = gathering.interfaces(&all);
    assert_eq!((difference.wanted.len(), difference.left_out), (32, 8));
}
