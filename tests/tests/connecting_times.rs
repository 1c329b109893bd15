//! How long whole connections take until both sides have their keys, on networks that lose.

use std::time::Duration;

use ortc_api::{Engine, RTCConnection, RTCConnectionOptions, RTCEvent};
use ortc_io::sim::{self, Fate, Host, LinkConfig, NatKind, Network, TranscriptEntry};
use ortc_tests::{Relay, each_seed, pass, signalled};

/// The NATs of either side.
type Case = [Option<NatKind>; 2];

const CASES: [(&str, Case); 4] = [
    ("direct", [None, None]),
    ("reflexive", [Some(NatKind::PortRestricted); 2]),
    ("half relayed", [Some(NatKind::PortRestricted), Some(NatKind::Symmetric)]),
    ("relayed", [Some(NatKind::Symmetric); 2]),
];

/// One way between each host and everybody else: a round trip of two of them takes 100 ms, and to
/// the server half as long.
const DELAY: Duration = Duration::from_millis(25);

const SIGNALLING: Duration = Duration::from_millis(50);

/// Of datagrams that pass each host's own link, one in twenty is lost.
const LOSS: f64 = 0.05;

/// When it is no use to wait any more.
const LIMIT: Duration = Duration::from_secs(20);

/// The most that one attempt puts on the wire until both sides are connected, all hosts and the
/// server together: eight pairs and three transactions with servers on each side, a handshake, and
/// all of it through a relay twice. Of those that losses make, none repeats without a limit.
const MOST_DATAGRAMS: usize = 300;

/// What came of one attempt.
#[derive(Debug)]
struct Attempt {
    /// Of each side, when it has had a path, and its keys.
    sides: [[Duration; 2]; 2],
    transcript: Vec<TranscriptEntry>,
}

fn host(net: &Network, nat: Option<NatKind>, number: u8) -> Host {
    match nat {
        None => net.host(&format!("host {number}"), &[[203, 0, 113, number].into()]),
        Some(kind) => {
            let nat = net.nat(&format!("nat {number}"), kind, [203, 0, 113, number].into());
            nat.host(&format!("host {number}"), &[[10, number, 0, 2].into()])
        }
    }
}

/// Has candidates go over by a signalling that takes as long as media, and loses nothing.
fn trickle(from: &RTCConnection, to: &RTCConnection) {
    let to = to.downgrade();
    from.on_candidate(Some(move |from: &RTCConnection, candidate| {
        let to = to.clone();
        if from.set_local_candidate(&candidate).is_ok() {
            actix::spawn(async move {
                pass(SIGNALLING).await;
                if let Some(to) = to.upgrade() {
                    let _ = to.set_remote_candidate(&signalled(&candidate));
                }
            });
        }
    }));
}

async fn attempt(net: Network, case: Case, loss: f64) -> Attempt {
    let relay = Relay::start(&net, [203, 0, 113, 1].into());
    let hosts = [host(&net, case[0], 10), host(&net, case[1], 20)];
    let link = |hops: i32| LinkConfig {
        loss: 1.0 - (1.0 - loss).powi(hops),
        delay: DELAY * hops.unsigned_abs(),
        ..LinkConfig::default()
    };
    net.link_between(&hosts[0], &hosts[1], link(2));
    hosts.iter().for_each(|host| net.link_between(host, &relay.host, link(1)));
    let peers = hosts.each_ref().map(|host| {
        let options = RTCConnectionOptions::new()
            .with_engine(Engine::simulated(host.io(), net.random()))
            .with_ice_servers(relay.servers());
        RTCConnection::new(options).expect("the engine runs")
    });
    let events = peers.each_ref().map(RTCConnection::events);
    let began = net.elapsed();
    let [one, two] = &peers;
    for (own, other) in [(one, two), (two, one)] {
        trickle(own, other);
        own.set_remote_ice(signalled(&other.local().ice)).expect("valid credentials");
        own.connect().expect("the remote side is set");
    }
    let milestones = events.map(|mut events| {
        let net = net.clone();
        actix::spawn(async move {
            let (mut path, since) = (None, move |net: &Network| net.elapsed() - began);
            loop {
                let event = tokio::time::timeout(LIMIT, events.recv()).await;
                match event.expect("it connects in time").expect("it is not closed") {
                    RTCEvent::ActiveCandidate { .. } => _ = path.get_or_insert(since(&net)),
                    RTCEvent::Connected => return [path.expect("it has one"), since(&net)],
                    _ => {}
                }
            }
        })
    });
    let mut sides = [[Duration::ZERO; 2]; 2];
    for (side, milestones) in sides.iter_mut().zip(milestones) {
        *side = milestones.await.expect("it connects");
    }
    Attempt { sides, transcript: net.transcript() }
}

impl Attempt {
    /// How long it took until both sides had their keys.
    fn time(&self) -> u128 {
        self.sides.iter().map(|[_, keys]| keys.as_millis()).max().unwrap_or(0)
    }

    /// What took so long: when there was a path, and what was lost.
    fn story(&self) -> String {
        let lost = self.transcript.iter().filter(|entry| entry.fate == Fate::Lost);
        let lost: Vec<_> = lost
            .map(|it| format!("{:?} {} > {} at {} ms", it.kind, it.from, it.to, it.at.as_millis()))
            .collect();
        format!("path and keys after {:?}; lost: {}", self.sides, lost.join(", "))
    }
}

/// In the middle, for nine in ten, for 99 in a hundred, and at most.
fn distribution(mut values: Vec<u128>) -> [u128; 4] {
    values.sort_unstable();
    [50, 90, 99, 100].map(|percent| values[(values.len() * percent).div_ceil(100) - 1])
}

#[test]
fn without_loss_no_connection_takes_more_than_five_round_trips() {
    for (name, case) in CASES {
        let attempt = sim::run(1, move |net| attempt(net, case, 0.0));
        let (time, datagrams) = (attempt.time(), attempt.transcript.len());
        eprintln!("{name:>13}: {time} ms, {datagrams} datagrams");
        assert!(time <= 500, "{name}: {}", attempt.story());
        assert!(datagrams <= 200, "{name}: {datagrams}");
    }
}

#[test]
fn at_a_loss_of_one_in_twenty_99_of_a_hundred_connect_within_a_second() {
    let mut cases = CASES.map(|(name, case)| (name, case, Vec::new(), Vec::new()));
    each_seed("times", 100, |seed| {
        for (name, case, times, datagrams) in &mut cases {
            let case = *case;
            let attempt = sim::run(seed, move |net| attempt(net, case, LOSS));
            times.push(attempt.time());
            datagrams.push(attempt.transcript.len() as u128);
            if attempt.time() >= 1_000 {
                eprintln!("{name}, seed {seed}: {}", attempt.story());
            }
            assert!(attempt.transcript.len() <= MOST_DATAGRAMS, "{name}: {}", attempt.story());
        }
    });
    for (name, _, times, datagrams) in cases {
        let [times, datagrams] = [times, datagrams].map(distribution);
        eprintln!(
            "{name:>13}: 50, 90, 99 and 100 % connect in {times:?} ms, with {datagrams:?} datagrams"
        );
        assert!(times[2] < 1_000, "{name}: {times:?}");
    }
}
