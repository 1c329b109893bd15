//! What strangers send, and what somebody on the path does, while a call goes on beside it.
//!
//! Nobody of them has a key. So nothing of theirs is answered with more than they sent, nothing
//! is kept of it, everything is counted, and the call loses no frame.

use std::net::SocketAddr;
use std::time::Duration;

use ortc_api::{Engine, ForwarderStats, RTCConnection, RTCConnectionOptions, RTCEvent, RTCSocket};
use ortc_io::DatagramKind;
use ortc_io::paths::PathStats;
use ortc_io::sim::{self, Host, LinkConfig, Network, Verdict};
use ortc_tests::attack::{
    FRAME, Overheard, Speech, Wire, bye, client_hello, one_byte_fragment, receiver_report,
    strangers,
};
use ortc_tests::{Pair, Peer, pass};

const SOON: Duration = Duration::from_secs(10);

/// A host whose engine answers for itself.
struct Side {
    host: Host,
    engine: Engine,
}

impl Side {
    fn new(net: &Network, name: &str, last: u8) -> Self {
        let host = net.host(name, &[[10, 0, 0, last].into()]);
        Self { engine: Engine::simulated(host.io(), net.random()), host }
    }

    fn peer(&self) -> Peer {
        self.peer_with(RTCConnectionOptions::new().with_engine(self.engine.clone()))
    }

    fn peer_with(&self, options: RTCConnectionOptions) -> Peer {
        let conn = RTCConnection::new(options).expect("the engine runs");
        let events = conn.events();
        Peer { host: self.host.clone(), conn, events, seen: Vec::new() }
    }

    async fn stats(&self) -> ForwarderStats {
        self.engine.stats().await.expect("the media thread lives")
    }
}

/// A connected call under attack.
struct Call {
    net: Network,
    alice: Side,
    pair: Pair,
    to_bob: Speech,
    to_alice: Speech,
    /// Everything since before it was connected.
    wire: Wire,
    /// Where Alice and Bob are.
    at: [SocketAddr; 2],
    /// The longest that a frame takes where nobody attacks.
    delay: Duration,
}

impl Call {
    /// Alice on a socket of her own, or on a port for many, 10 ms away from Bob.
    async fn begin(net: Network, shares_a_port: bool) -> Self {
        net.link(LinkConfig { delay: Duration::from_millis(10), ..LinkConfig::default() });
        let (alice, bob) = (Side::new(&net, "alice", 1), Side::new(&net, "bob", 2));
        let wire = Wire::tap(&net);
        let port = match shares_a_port {
            true => {
                let address = ([10, 0, 0, 1], 5_000).into();
                Some(RTCSocket::bind_on(&alice.engine, address).await.expect("a free port"))
            }
            false => None,
        };
        let one = match port {
            Some(port) => alice.peer_with(RTCConnectionOptions::new().with_socket(port)),
            None => alice.peer(),
        };
        let mut pair = Pair { alice: one, bob: bob.peer() };
        let to_bob = Speech::between(&pair.alice, &pair.bob);
        let to_alice = Speech::between(&pair.bob, &pair.alice);
        pair.connect_within(SOON).await;
        let of = |last: u8| {
            let first = net.transcript().into_iter().find(|seen| seen.from.ip() == ip(last));
            first.expect("they have exchanged something").from
        };
        let at = [of(1), of(2)];
        let mut call = Self { net, alice, pair, to_bob, to_alice, wire, at, delay: Duration::ZERO };
        call.delay = call.go_on(50, |_, _| {}).await;
        call
    }

    /// Goes on for so many frames each way, with `attack` before each.
    ///
    /// Asserts that all are heard; returns how long they took at the most.
    async fn go_on(&mut self, frames: u64, mut attack: impl FnMut(&Network, u64)) -> Duration {
        let net = self.net.clone();
        let (there, back) = tokio::join!(
            self.to_bob.go_on(frames, |n| attack(&net, n)),
            self.to_alice.go_on(frames, |_| {}),
        );
        for heard in [there, back] {
            assert_eq!((heard.sent, heard.lost), (frames, 0), "{heard:?}");
        }
        there.slowest.max(back.slowest)
    }

    /// The same; asserts that no frame takes longer than where nobody attacks, but for the
    /// millisecond to which timers are exact.
    async fn is_unharmed(&mut self, frames: u64, attack: impl FnMut(&Network, u64)) {
        let slowest = self.go_on(frames, attack).await;
        let most = self.delay + Duration::from_millis(1);
        assert!(slowest <= most, "{slowest:?} where it was {:?}", self.delay);
        for peer in [&mut self.pair.alice, &mut self.pair.bob] {
            while let Ok(Some(event)) =
                tokio::time::timeout(Duration::from_millis(1), peer.events.recv()).await
            {
                peer.seen.push(event);
            }
            let ended = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
            assert!(!peer.seen.iter().any(ended), "{:?}", peer.seen);
        }
    }

    /// What was overheard on its way to Alice, of one kind.
    fn to_alice_of(&self, overheard: &[Overheard], kind: DatagramKind) -> Vec<Vec<u8>> {
        let [alice, bob] = self.at;
        let is_it = |seen: &&Overheard| (seen.from, seen.to, seen.kind) == (bob, alice, kind);
        overheard.iter().filter(is_it).map(|seen| seen.bytes.clone()).collect()
    }
}

fn ip(last: u8) -> std::net::IpAddr {
    [10, 0, 0, last].into()
}

/// Whether a datagram is for somebody who is none of the two.
fn to_a_stranger(seen: &Overheard) -> bool {
    ![ip(1), ip(2)].contains(&seen.to.ip())
}

/// 10,000 hellos from as many addresses harm no call, and none is answered.
async fn hello_from_ten_thousand(call: &mut Call, alice: SocketAddr) {
    let mut from = strangers();
    call.is_unharmed(100, |net, n| {
        for (stranger, random) in from.by_ref().take(100).zip(n * 100..) {
            net.inject(stranger, alice, &client_hello(random));
        }
    })
    .await;
    assert_eq!(call.wire.count(to_a_stranger), (0, 0));
}

#[test]
fn ten_thousand_client_hellos_at_a_port_of_many_are_answered_with_nothing() {
    sim::run(1, |net| async move {
        let mut call = Call::begin(net, true).await;
        let alice = call.at[0];
        assert_eq!(alice.port(), 5_000);
        hello_from_ten_thousand(&mut call, alice).await;
        let stats = call.alice.stats().await;
        assert_eq!(stats.shared.strangers, 10_000);
        assert_eq!((stats.paths.parked, stats.datagram_events_dropped), (0, 0));
    });
}

#[test]
fn ten_thousand_client_hellos_at_a_connection_are_answered_with_nothing() {
    sim::run(2, |net| async move {
        let mut call = Call::begin(net, false).await;
        let alice = call.at[0];
        hello_from_ten_thousand(&mut call, alice).await;
        let stats = call.alice.stats().await;
        assert_eq!((stats.paths.unvalidated, stats.paths.parked), (10_000, 0));
    });
}

/// Whoever has overheard a check can send it again from anywhere: it is authentic. What comes
/// back to that address, of ICE and of DTLS, is at most three times what came from it. Returns what is
/// counted of 10,000 datagrams that `flood` makes, a minute after they have come from 50 addresses.
async fn replay(call: &mut Call, flood: impl Fn(u64) -> Vec<u8>) -> PathStats {
    let overheard = call.wire.take();
    let checks = call.to_alice_of(&overheard, DatagramKind::Stun);
    let request = checks.iter().find(|bytes| bytes[0] == 0).expect("a check").clone();
    let victims: Vec<SocketAddr> = strangers().take(50).collect();
    let alice = call.at[0];
    let mut sent = std::collections::BTreeMap::<SocketAddr, u64>::new();
    call.is_unharmed(500, |net, n| {
        // Each victim's address says once, or a few times, that it is there; and then the flood.
        let victim = victims[n as usize % victims.len()];
        if n < 100 {
            net.inject(victim, alice, &request);
            *sent.entry(victim).or_default() += request.len() as u64;
        }
        for random in 0..20 {
            net.inject(victim, alice, &flood(random));
        }
    })
    .await;
    pass(Duration::from_secs(60)).await;
    for victim in &victims {
        let (_, dtls) =
            call.wire.count(|seen| seen.to == *victim && seen.kind == DatagramKind::Dtls);
        assert_eq!(dtls, 0, "no handshake with an address that has not answered");
        let (_, back) = call.wire.count(|seen| seen.to == *victim);
        let most = 3 * sent[victim];
        assert!(back > 0 && back <= most, "{back} bytes for {} bytes", sent[victim]);
    }
    call.alice.stats().await.paths
}

#[test]
fn an_address_that_only_replays_gets_at_most_three_times_what_it_sends() {
    sim::run(3, |net| async move {
        let mut call = Call::begin(net, false).await;
        let stats = replay(&mut call, client_hello).await;
        let PathStats { parked, park_overflow, unvalidated, .. } = stats;
        // Those of addresses that were given up in the meantime are nobody's.
        assert!(parked <= 8 && park_overflow > 8_000, "{stats:?}");
        assert!(park_overflow + unvalidated >= 9_992, "{stats:?}");
        // It had no part in any of that.
        call.is_unharmed(50, |_, _| {}).await;
    });
}

#[test]
fn media_of_an_address_that_only_replays_is_kept_for_a_second_at_most() {
    sim::run(3, |net| async move {
        let mut call = Call::begin(net, false).await;
        let stats = replay(&mut call, |_| vec![0x80; 200]).await;
        let PathStats { parked, park_overflow, unvalidated, released, .. } = stats;
        // What came a second ago makes room, in the ten seconds that all of it takes.
        assert!(parked <= 11 * 32 && park_overflow > 8_000, "{stats:?}");
        assert_eq!((park_overflow + unvalidated, released), (10_000, 0), "{stats:?}");
        call.is_unharmed(50, |_, _| {}).await;
    });
}

#[test]
fn all_that_was_on_the_wire_sent_again_changes_nothing() {
    sim::run(4, |net| async move {
        let mut call = Call::begin(net, false).await;
        call.go_on(50, |_, _| {}).await;
        let overheard = call.wire.take();
        let [alice, bob] = call.at;
        let is_theirs =
            |seen: &&Overheard| [(alice, bob), (bob, alice)].contains(&(seen.from, seen.to));
        let recorded: Vec<Overheard> = overheard.iter().filter(is_theirs).cloned().collect();
        let sealed = call.to_alice_of(&overheard, DatagramKind::Rtp).len()
            + call.to_alice_of(&overheard, DatagramKind::Rtcp).len();
        assert!(recorded.len() > 200 && sealed > 100, "{} {sealed}", recorded.len());
        let before = call.alice.stats().await;
        // Three times, a few at a time.
        let mut replay = recorded.iter().cycle().take(3 * recorded.len());
        let mut replayed = 0;
        call.is_unharmed(150, |net, _| {
            for seen in replay.by_ref().take(10) {
                net.inject(seen.from, seen.to, &seen.bytes);
                replayed += seen.bytes.len() as u64;
            }
        })
        .await;
        assert!(replay.next().is_none(), "all of it");
        // So are the responses, which answer nothing any more.
        let stats = call.pair.alice.conn.stats().await;
        let told = stats.refused_input().expect("it is always told").clone();
        assert!(told.stun_unasked_responses >= 3, "{told:?}");
        assert_eq!((told.stun_bad_integrity, told.stun_malformed), (0, 0));
        let drops = call.alice.stats().await.media.receive_drops;
        let more = drops.replayed - before.media.receive_drops.replayed;
        assert_eq!(more, 3 * sealed as u64);
        assert_eq!(drops.not_authentic, 0);
        // And nobody was made to send more than he would have: each side said its own.
        let is_control =
            |seen: &Overheard| matches!(seen.kind, DatagramKind::Stun | DatagramKind::Dtls);
        let (_, control) = call.wire.count(is_control);
        assert!(control < replayed, "{control} bytes for {replayed}");
    });
}

#[test]
fn what_alice_sends_comes_back_to_her_and_is_not_taken_for_bobs() {
    sim::run(5, |net| async move {
        let mut call = Call::begin(net, false).await;
        let before = call.alice.stats().await;
        let [alice, bob] = call.at;
        let mirror = call.net.clone();
        call.net.tap(move |seen| {
            if (seen.from, seen.to) == (alice, bob) {
                mirror.inject(bob, alice, seen.bytes);
            }
            Verdict::Pass
        });
        call.is_unharmed(1_000, |_, _| {}).await;
        let after = call.alice.stats().await;
        let reflected = after.media_datagrams.sent - before.media_datagrams.sent;
        assert!(reflected >= 1_000, "{reflected}");
        let drops = after.media.receive_drops;
        assert_eq!(drops.not_authentic + drops.replayed, reflected);
        let forged = after.consent.forged - before.consent.forged;
        assert!(forged <= 40, "requests of her own are nobody's: {forged}");
    });
}

/// From the very address of the peer, and not authentic: alerts, handshakes, fragments, goodbyes.
#[test]
fn forged_alerts_hellos_fragments_and_goodbyes_end_no_call() {
    sim::run(6, |net| async move {
        let mut call = Call::begin(net, false).await;
        let before = call.alice.stats().await;
        let [alice, bob] = call.at;
        // A fatal alert, close_notify, and BYE for everybody, none of them sealed.
        let alert = |kind: u8| [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 9, 9, 0, 2, 2, kind];
        let goodbye = [receiver_report(1), bye(1)].concat();
        let mut encrypted_in_name = goodbye.clone();
        encrypted_in_name.extend([0x80, 0, 0, 1]);
        encrypted_in_name.extend([0; 16]);
        call.is_unharmed(100, |net, n| {
            for k in 0..10_u64 {
                net.inject(bob, alice, &alert(40));
                net.inject(bob, alice, &alert(0));
                net.inject(bob, alice, &client_hello(n * 10 + k));
                net.inject(bob, alice, &one_byte_fragment((n * 10 + k) as u32));
                net.inject(bob, alice, &goodbye);
                net.inject(bob, alice, &encrypted_in_name);
            }
        })
        .await;
        let drops = call.alice.stats().await.media.receive_drops;
        let refused = drops.not_authentic + drops.not_encrypted + drops.malformed;
        let refused_before = before.media.receive_drops.total();
        assert_eq!(refused - refused_before, 2_000, "{drops:?}");
        // The application sees the rest of it as well, beside what both sides said themselves.
        let stats = call.pair.alice.conn.stats().await;
        let told = stats.refused_input().expect("it is always told").clone();
        assert!((4_000..4_010).contains(&told.dtls_after_handshake), "{told:?}");
    });
}

/// From the peer's own address, by somebody who knows it and can forge it: hellos of others and
/// fragments that lead nowhere, every millisecond of the first two seconds. A handshake does not
/// end by them. Nobody can complete one while they go on: what comes first of a message counts.
#[test]
fn a_handshake_completes_after_a_flood_of_forged_hellos() {
    sim::run(7, |net| async move {
        net.link(LinkConfig { delay: Duration::from_millis(10), ..LinkConfig::default() });
        let mut pair = Pair::new(&net);
        let other = net.clone();
        let flood = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(1));
            for n in 0..2_000_u64 {
                tick.tick().await;
                for (from, to) in [(1, 2), (2, 1)] {
                    let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 49_152));
                    other.inject(at(from), at(to), &client_hello(n));
                    other.inject(at(from), at(to), &one_byte_fragment(n as u32));
                }
            }
        });
        pair.connect_within(Duration::from_secs(15)).await;
        assert!(flood.is_finished());
        let mut speech = Speech::between(&pair.alice, &pair.bob);
        let heard = speech.go_on(50, |_| {}).await;
        assert_eq!(heard.lost, 0, "{heard:?}");
        pass(FRAME).await;
    });
}

/// Checks that are almost authentic: each is told to the application, by what is wrong with it.
#[test]
fn forged_checks_are_told_by_what_is_wrong_with_them() {
    sim::run(8, |net| async move {
        let mut call = Call::begin(net, false).await;
        let overheard = call.wire.take();
        let checks = call.to_alice_of(&overheard, DatagramKind::Stun);
        let request = checks.iter().find(|bytes| bytes[..2] == [0, 1]).expect("a check").clone();
        let before = call.pair.alice.conn.stats().await;
        let before = before.refused_input().expect("it is always told").clone();
        let settled = call.alice.stats().await.consent.forged;
        let [alice, bob] = call.at;
        let changed = |at: usize| {
            let mut bytes = request.clone();
            bytes[at] ^= 1;
            bytes
        };
        // Its transaction, which MESSAGE-INTEGRITY covers; its USERNAME, which begins with ours
        // (RFC 8445 §7.2.2); and its length.
        let username = request.windows(4).position(|it| it[..2] == [0, 6]).expect("a USERNAME");
        let (forged, foreign, cut) = (changed(19), changed(username + 4), &request[..23]);
        call.is_unharmed(50, |net, _| {
            net.inject(bob, alice, &forged);
            net.inject(bob, alice, &foreign);
            net.inject(bob, alice, cut);
        })
        .await;
        let stats = call.pair.alice.conn.stats().await;
        let told = stats.refused_input().expect("it is always told");
        // Once the path has settled, its consent is the media thread's, and so is its count.
        let settled = call.alice.stats().await.consent.forged - settled;
        assert_eq!(told.stun_bad_integrity - before.stun_bad_integrity + settled, 50, "{told:?}");
        assert_eq!(told.stun_foreign_username - before.stun_foreign_username, 50, "{told:?}");
        assert_eq!(told.stun_malformed - before.stun_malformed, 50, "{told:?}");
    });
}
