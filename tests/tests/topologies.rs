//! ICE over networks made at random: whatever happens on the way, both sides end up on the same
//! pair, or are told that there is none.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use ortc_api::{FrameSender, RTCConnection, RTCConnectionOptions, RTCDisconnectReason, RTCEvent};
use ortc_io::sim::{self, Host, LinkConfig, Nat, NatKind, Network, Verdict};
use ortc_tests::{Pair, Peer, each_seed, pass, signalled};

const SECOND: Duration = Duration::from_secs(1);
/// What a connection takes at most on the worst of these networks, once that lies still: one
/// round of forming all pairs again, and as many checks as loss may take.
const LIMIT: Duration = Duration::from_secs(40);

/// One peer and its network.
struct Side {
    peer: Peer,
    nat: Option<(Nat, NatKind)>,
    addresses: Vec<IpAddr>,
}

impl Side {
    fn new(net: &Network, random: &mut Rng, name: &str, number: u8) -> Self {
        let count = random.u8(1..=3);
        let kinds = [NatKind::FullCone, NatKind::AddressRestricted, NatKind::PortRestricted];
        let kind = random.bool().then(|| *random.choice(&kinds).expect("there are some"));
        let inner = |n: u8| {
            IpAddr::from(match kind {
                Some(_) => [192, 168, number, n],
                None => [10, number, 0, n],
            })
        };
        let addresses: Vec<IpAddr> = (1..=count).map(inner).collect();
        let nat = kind.map(|kind| (net.nat(name, kind, [203, 0, 113, number].into()), kind));
        let host = match &nat {
            Some((nat, _)) => nat.host(name, &addresses),
            None => net.host(name, &addresses),
        };
        let options = RTCConnectionOptions::new().with_network_changes(true);
        Self { peer: Peer::with_options(host, random.u64(..), options), nat, addresses }
    }

    fn host(&self) -> &Host {
        &self.peer.host
    }
}

/// Has candidates go over, each some time later, and late.
fn trickle(from: &RTCConnection, to: &RTCConnection, mut random: Rng) {
    let (found, gone) = (to.downgrade(), to.downgrade());
    let mut delay = move || Duration::from_millis(random.u64(0..2_000));
    let mut later = delay.clone();
    from.on_candidate(Some(move |from: &RTCConnection, candidate| {
        let (from, to, delay) = (from.downgrade(), found.clone(), delay());
        actix::spawn(async move {
            pass(delay).await;
            // One that is gone again is not set.
            let set = from.upgrade().is_some_and(|it| it.set_local_candidate(&candidate).is_ok());
            if let (true, Some(to)) = (set, to.upgrade()) {
                let _ = to.set_remote_candidate(&signalled(&candidate));
            }
        });
    }));
    from.on_candidate_withdrawn(Some(move |_: &RTCConnection, candidate| {
        let (to, delay) = (gone.clone(), later());
        actix::spawn(async move {
            pass(delay).await;
            if let Some(to) = to.upgrade() {
                let _ = to.remove_remote_candidate(&candidate);
            }
        });
    }));
}

/// Addresses that nothing gets from or to, and nobody is told.
type Dark = Arc<Mutex<Vec<IpAddr>>>;

fn dark_addresses(net: &Network) -> Dark {
    let dark = Dark::default();
    let known = Arc::clone(&dark);
    net.tap(move |seen| {
        let dark = known.lock().expect("nobody panics there");
        let is_dark = dark.contains(&seen.from.ip()) || dark.contains(&seen.to.ip());
        if is_dark { Verdict::Drop } else { Verdict::Pass }
    });
    dark
}

/// Talks on, whether anybody hears it or not.
fn talk(source: FrameSender) {
    actix::spawn(async move {
        for n in 0.. {
            let is_closed = source.send(ortc_tests::frame(n)).is_err();
            if is_closed && n > 10_000 {
                return;
            }
            pass(Duration::from_millis(100)).await;
        }
    });
}

/// Something happens to the network, or to one of its hosts.
fn disturb(
    net: &Network,
    random: &mut Rng,
    sides: &[Side; 2],
    down: &mut Vec<(usize, IpAddr)>,
    dark: &Dark,
) {
    let index = random.usize(0..2);
    let side = &sides[index];
    match random.u8(0..9) {
        7 => {
            let address = *random.choice(&side.addresses).expect("it has some");
            dark.lock().expect("nobody panics there").push(address);
        }
        8 => _ = dark.lock().expect("nobody panics there").pop(),
        0 => net.partition(sides[0].host(), sides[1].host()),
        1 => net.heal(sides[0].host(), sides[1].host()),
        2 => {
            let address = *random.choice(&side.addresses).expect("it has some");
            side.host().set_up(address, false);
            down.push((index, address));
        }
        3 => {
            if let Some((index, address)) = down.pop() {
                sides[index].host().set_up(address, true);
            }
        }
        4 => {
            if let Some((nat, _)) = &side.nat {
                nat.restart();
            }
        }
        5 => {
            let _ = side.peer.conn.update();
        }
        _ => net.link(link(random)),
    }
}

fn link(random: &mut Rng) -> LinkConfig {
    LinkConfig {
        delay: Duration::from_millis(random.u64(0..150)),
        jitter: Duration::from_millis(random.u64(0..50)),
        ..LinkConfig::lossy(random.f64() * 0.1)
    }
}

/// The pair that a side says it uses, as (from, to) addresses on the wire; what it was told last.
fn active(events: &[RTCEvent]) -> Option<(String, String)> {
    events.iter().rev().find_map(|event| match event {
        RTCEvent::ActiveCandidate { local, remote } => {
            let of = |it: &ortc_api::RTCIceCandidateDescription| {
                format!("{}:{}", it.connection_address, it.connection_port)
            };
            Some((of(local), of(remote)))
        }
        _ => None,
    })
}

fn is_connected(events: &[RTCEvent]) -> bool {
    let last = events
        .iter()
        .rev()
        .find(|event| matches!(event, RTCEvent::Connected | RTCEvent::Disconnected(_)));
    last == Some(&RTCEvent::Connected)
}

/// Two NATs that let nothing in that was not asked for, with no server to tell of their outer
/// addresses, cannot be crossed; everything else can.
fn can_be_crossed(sides: &[Side; 2]) -> bool {
    !(sides[0].nat.is_some() && sides[1].nat.is_some())
}

async fn one(net: Network, seed: u64) {
    let mut random = Rng::with_seed(seed);
    net.link(link(&mut random));
    let mut sides =
        [Side::new(&net, &mut random, "alice", 1), Side::new(&net, &mut random, "bob", 2)];
    let [alice, bob] = [&sides[0].peer.conn, &sides[1].peer.conn].map(Clone::clone);
    trickle(&alice, &bob, random.fork());
    trickle(&bob, &alice, random.fork());
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        one.set_remote_ice(signalled(&other.local().ice)).expect("valid credentials");
        pass(Duration::from_millis(random.u64(0..3_000))).await;
        one.connect().expect("the remote side is set");
    }
    // In half of them media flows all the while, so that silence tells.
    if seed % 2 == 1 {
        for (one, other) in [(&sides[0].peer, &sides[1].peer), (&sides[1].peer, &sides[0].peer)] {
            let (_, source) = one.send_audio();
            for track in one.conn.tracks(None) {
                other.conn.receive_track(&signalled(&track.description())).expect("a valid track");
            }
            talk(source);
        }
    }
    let (mut down, dark) = (Vec::new(), dark_addresses(&net));
    for _ in 0..random.usize(0..20) {
        disturb(&net, &mut random, &sides, &mut down, &dark);
        pass(Duration::from_millis(random.u64(0..8_000))).await;
    }
    // The network lies still.
    dark.lock().expect("nobody panics there").clear();
    net.heal(sides[0].host(), sides[1].host());
    for (index, address) in down {
        sides[index].host().set_up(address, true);
    }
    pass(LIMIT).await;
    for side in &mut sides {
        while let Ok(Some(event)) =
            tokio::time::timeout(Duration::ZERO, side.peer.events.recv()).await
        {
            side.peer.seen.push(event);
        }
    }
    let crossed = can_be_crossed(&sides);
    for Side { peer, .. } in &sides {
        let seen = &peer.seen;
        assert_eq!(is_connected(seen), crossed, "seed {seed}: {seen:#?}");
        let no_path = RTCEvent::Disconnected(RTCDisconnectReason::NoPath);
        assert!(crossed || seen.contains(&no_path), "seed {seed}: {seen:#?}");
    }
    if crossed {
        agree(&net, seed, &sides).await;
    }
}

/// What each side sends on is what the other sends on, seen from its end of the NATs.
async fn agree(net: &Network, seed: u64, sides: &[Side; 2]) {
    let [alice, bob] = sides.each_ref().map(|side| active(&side.peer.seen).expect("connected"));
    for (one, other, side) in [(&alice, &bob, &sides[1]), (&bob, &alice, &sides[0])] {
        // Behind a NAT, an address is not the one that the peer sees.
        if side.nat.is_none() {
            assert_eq!(one.1, other.0, "seed {seed}: {alice:?}, {bob:?}");
        }
    }
    // And what is sent there arrives.
    let [alice, bob] = sides.each_ref().map(|side| &side.peer);
    let pair = Pair { alice: peer_of(alice), bob: peer_of(bob) };
    let (_, source) = pair.alice.send_audio();
    let track = pair.alice.conn.tracks(None).pop().expect("it was added");
    pair.bob.conn.receive_track(&signalled(&track.description())).expect("a valid track");
    let heard = pair.bob.conn.receiving_streams().pop().expect("it was described");
    let mut frames = heard.tracks()[0].take_frames().expect("nobody else reads");
    net.link(LinkConfig::default());
    source.send(ortc_tests::frame(1)).expect("connected");
    let heard = tokio::time::timeout(5 * SECOND, frames.recv()).await;
    assert!(matches!(heard, Ok(Some(_))), "seed {seed}: nothing is heard");
}

fn peer_of(peer: &Peer) -> Peer {
    let conn = peer.conn.clone();
    let events = conn.events();
    Peer { host: peer.host.clone(), conn, events, seen: Vec::new() }
}

#[test]
fn both_sides_agree_on_a_pair_or_are_told_that_there_is_none() {
    each_seed("networks", 50, |seed| sim::run(seed, move |net| one(net, seed)));
}
