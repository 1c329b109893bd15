//! Both sides end up on one pair, the best there is, and soon: with candidates that come by the
//! signalling before or after the checks from them, and with any pair of NATs.

use std::time::Duration;

use super::SECOND;
use super::world::{NATS, NatType, World};
use crate::{IceCommand, IceConfig, IceEvent, RTCIceServer};

/// Seeds, unless `ORTC_MODEL_SEEDS` says another number.
const SEEDS: u64 = 300;

fn each_seed(name: &str, mut run: impl FnMut(u64)) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("ORTC_MODEL_FIRST").unwrap_or(0);
    for seed in first..first + number("ORTC_MODEL_SEEDS").unwrap_or(SEEDS) {
        run(seed);
    }
    eprintln!("{name}: nothing breaks a rule from seed {first} on");
}

fn with_server(config: IceConfig) -> IceConfig {
    let turn = super::turn(super::SERVER);
    config.with_servers(vec![RTCIceServer::new(format!("stun:{}", super::SERVER)), turn])
}

/// Two sides that begin at times of their own.
fn begin(seed: u64, loss: f64) -> (World, [NatType; 2]) {
    let mut random = fastrand::Rng::with_seed(seed);
    let nats = [0; 2].map(|_| *random.choice(&NATS).unwrap());
    let mut world = World::new(nats, |config| {
        let seed = random.u64(..);
        with_server(config).with_seed(seed)
    });
    world.random = random.fork();
    world.loss = loss;
    world.delay = Duration::from_millis(random.u64(0..60));
    world.signalling = Duration::from_millis(random.u64(1..300));
    let controlling = random.usize(..2);
    let late = Duration::from_millis(random.u64(0..200));
    let first = random.usize(..2);
    for side in [first, 1 - first] {
        world.gather(side);
        let remote = world.hosts[1 - side].agent.config.credentials.clone();
        let connect = IceCommand::Connect { remote, controlling: side == controlling };
        world.command(side, connect);
        world.advance(late);
    }
    (world, nats)
}

/// RFC 4787: what is sent to the mapping of a symmetric NAT comes in only from where it was made
/// for, and who has a port-restricted one cannot know that.
fn needs_relay(nats: [NatType; 2]) -> bool {
    let [one, other] = nats;
    matches!(
        (one, other),
        (NatType::Sym, NatType::Port | NatType::Sym) | (NatType::Port, NatType::Sym)
    )
}

/// The relayed address of the pair of a side, and whether it is its own.
fn relay(world: &World, side: usize) -> Option<(bool, u16)> {
    world.hosts[side].events.iter().rev().find_map(|(_, event)| match event {
        IceEvent::ActivePair { local, remote } => {
            let of = |it: &crate::RTCIceCandidateDescription| {
                (it.connection_address == "203.0.113.1").then_some(it.connection_port)
            };
            let ours = of(local).map(|port| (true, port));
            Some(ours.or(of(remote).map(|port| (false, port))))
        }
        _ => None,
    })?
}

fn agrees(world: &World, nats: [NatType; 2]) -> bool {
    let relays = [0, 1].map(|side| relay(world, side));
    let same = match relays {
        [None, None] => true,
        [Some((ours, port)), Some((theirs, other))] => ours != theirs && port == other,
        _ => false,
    };
    same && relays[0].is_some() == needs_relay(nats)
}

#[test]
fn both_sides_take_the_best_pair_within_a_second() {
    each_seed("pairs", |seed| {
        let (mut world, nats) = begin(seed, 0.0);
        assert!(world.drive(5 * SECOND, World::is_connected), "seed {seed}: {nats:?}");
        let is_there = world.drive(SECOND, |world| agrees(world, nats));
        let pairs = [0, 1].map(|side| world.hosts[side].pair());
        assert!(is_there, "seed {seed}: {nats:?}, {:?}, {pairs:?}", world.delay);
    });
}

/// How long it took in the middle, for nine in ten, for 99 in a hundred, and at most.
fn distribution(mut times: Vec<u128>) -> [u128; 4] {
    times.sort_unstable();
    if times.is_empty() {
        return [0; 4];
    }
    [50, 90, 99, 100].map(|percent| times[(times.len() * percent).div_ceil(100) - 1])
}

/// A round trip of 100 ms between any two, and a datagram in twenty is lost each way.
#[test]
fn with_loss_and_delay_they_connect_soon_and_agree_within_three_seconds() {
    let mut times = [Vec::new(), Vec::new()];
    each_seed("lossy_pairs", |seed| {
        let (mut world, nats) = begin(seed, 0.05);
        world.delay = Duration::from_millis(50);
        let begun = world.now;
        assert!(world.drive(3 * SECOND, World::is_connected), "seed {seed}: {nats:?}");
        times[usize::from(needs_relay(nats))].push((world.now - begun).as_millis());
        let is_there = world.drive(3 * SECOND, |world| agrees(world, nats));
        let pairs = [0, 1].map(|side| world.hosts[side].pair());
        assert!(is_there, "seed {seed}: {nats:?}, {pairs:?}");
    });
    let [direct, relayed] = times.map(distribution);
    eprintln!("50, 90, 99 and 100 % connect in {direct:?} ms, through a relay in {relayed:?}");
    assert!(direct[1] < 500 && relayed[1] < 1_000, "{direct:?}, {relayed:?}");
}
