use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::ring::{Popped, RingReceiver, RingSender, ring};
use ortc_io::{ConnectionId, SrtpKeys, SrtpProfile};

use super::*;
use crate::{
    DisconnectReason, ForwardConfig, ForwardedPayloadType, OpenedRtp, OutgoingPacket, PayloadType,
    ReceivedPacket, RtcpView, RtpView, TrackSource, is_rtcp,
};

mod capture;
mod forwarding;
mod recovery;
mod redundancy;
mod tones;
mod unknown;

const OPUS: PayloadType = PayloadType(111);
const TRACK: Ssrc = Ssrc(0x1111);
const ID: ConnectionId = ConnectionId { slot: 3, generation: 1 };

/// Two sessions with a perfect wire in between, under virtual time.
struct Pair {
    now: Instant,
    a: RtpSession,
    b: RtpSession,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self::without_keys();
        pair.set_keys();
        pair
    }

    fn without_keys() -> Self {
        let now = Instant::now();
        Self { now, a: RtpSession::new(ID, 1, now), b: RtpSession::new(ID, 2, now) }
    }

    fn set_keys(&mut self) {
        self.a.set_keys(self.now, &keys(true)).unwrap();
        self.b.set_keys(self.now, &keys(false)).unwrap();
    }

    /// Sends a track from a to b; the rings hold eight packets.
    fn track(&mut self) -> (RingSender<OutgoingPacket>, RingReceiver<ReceivedPacket>) {
        let (sender, packets) = ring(8);
        self.a.add_sender(self.now, sender_config(TRACK, packets, true));
        (sender, self.receive())
    }

    fn receive(&mut self) -> RingReceiver<ReceivedPacket> {
        let (packets, receiver) = ring(8);
        let config = ReceiverConfig { ssrc: TRACK, payload_types: vec![(OPUS, 48_000)], packets };
        self.b.add_receiver(self.now, config);
        receiver
    }

    /// Passes on all that waits and returns how many datagrams each side sent.
    fn drive(&mut self) -> (usize, usize) {
        let from_a = transmits(&mut self.a, self.now);
        let from_b = transmits(&mut self.b, self.now);
        for mut datagram in from_a.clone() {
            self.b.handle_datagram(self.now, &mut datagram);
        }
        for mut datagram in from_b.clone() {
            self.a.handle_datagram(self.now, &mut datagram);
        }
        (from_a.len(), from_b.len())
    }

    /// Lets time pass, stopping at each time-out.
    fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let next = [self.a.poll_timeout(), self.b.poll_timeout()];
            match next.into_iter().flatten().map(|(at, _)| at).min() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            self.a.handle_timeout(self.now);
            self.b.handle_timeout(self.now);
            self.drive();
        }
        self.now = end;
    }
}

fn keys(client: bool) -> SrtpKeys {
    let material: Vec<u8> = (0..56).collect();
    SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &material, client).unwrap()
}

fn sender_config(ssrc: Ssrc, packets: RingReceiver<OutgoingPacket>, enabled: bool) -> SenderConfig {
    let cname = "name".to_owned();
    SenderConfig { ssrc, payload_type: OPUS, clock_rate: 48_000, cname, packets, enabled }
}

fn outgoing(n: u64) -> OutgoingPacket {
    OutgoingPacket { payload: Bytes::from(vec![n as u8; 20]), timestamp: 960 * n, marker: n == 0 }
}

fn transmits(session: &mut RtpSession, now: Instant) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    while let Some(room) = session.next_transmit(now) {
        let mut out = vec![0xee; room];
        let len = session.write_transmit(now, &mut out).expect("what was readied is written");
        // Where tones are repeated, room is made for as many as there may be.
        assert!(len <= room);
        out.truncate(len);
        datagrams.push(out);
    }
    datagrams
}

fn popped<T>(ring: &mut RingReceiver<T>) -> Vec<T> {
    std::iter::from_fn(|| match ring.pop() {
        Popped::Item(packet) => Some(packet),
        Popped::Empty | Popped::Closed => None,
    })
    .collect()
}

fn events(session: &mut RtpSession) -> Vec<RouteEvent> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

#[test]
fn what_is_pushed_on_one_side_comes_out_on_the_other() {
    let mut pair = Pair::new();
    let (sender, mut receiver) = pair.track();
    for n in 0..3 {
        sender.push(outgoing(n)).unwrap();
        assert_eq!(pair.drive(), (1, 0));
        pair.now += Duration::from_millis(20);
    }
    let got = popped(&mut receiver);
    let first = got[0].clone();
    let expected: Vec<_> = (0..3u64)
        .map(|n| ReceivedPacket {
            payload: Bytes::from(vec![n as u8; 20]),
            payload_type: OPUS,
            sequence: first.sequence + n,
            timestamp: first.timestamp.wrapping_add(960 * n as u32),
            marker: n == 0,
            received_at: first.received_at + Duration::from_millis(20 * n),
            capture_time: None,
        })
        .collect();
    assert_eq!(got, expected);
    assert_eq!(events(&mut pair.b), [RouteEvent::ReceiverConnected(ID, TRACK)]);
    assert_eq!((pair.a.stats().rtp_sent, pair.b.stats().rtp_received), (3, 3));
}

#[test]
fn reports_go_both_ways_and_tell_loss_and_round_trip() {
    let mut pair = Pair::new();
    let (sender, _receiver) = pair.track();
    for n in 0..200 {
        sender.push(outgoing(n)).unwrap();
        if n % 10 == 5 {
            transmits(&mut pair.a, pair.now);
        } else {
            pair.drive();
        }
        pair.advance(Duration::from_millis(20));
    }
    let sent = pair.a.sender_stats(TRACK).unwrap();
    let remote = sent.remote.unwrap();
    assert_eq!((sent.packets, sent.octets), (200, 4_000));
    assert!((20..=35).contains(&remote.fraction_lost), "{remote:?}");
    assert!((14..=20).contains(&remote.cumulative_lost), "{remote:?}");
    assert!(remote.round_trip.unwrap() < Duration::from_millis(1), "{remote:?}");
    let received = pair.b.receiver_stats(TRACK).unwrap();
    assert_eq!((received.packets, received.lost), (180, 19 + 1));
    let report = received.sender_report.unwrap();
    assert_eq!(report.ssrc, TRACK);
    assert!(report.packets > 100);
}

#[test]
fn sequence_numbers_go_on_while_disabled_packets_are_dropped() {
    let mut pair = Pair::new();
    let (sender, mut receiver) = pair.track();
    for n in 0..9 {
        pair.a.enable_sender(TRACK, n % 3 != 1);
        sender.push(outgoing(n)).unwrap();
        pair.drive();
    }
    let got = popped(&mut receiver);
    let first = got[0].sequence;
    let sequences: Vec<_> = got.iter().map(|packet| packet.sequence - first).collect();
    let payloads: Vec<_> = got.iter().map(|packet| packet.payload[0]).collect();
    assert_eq!((sequences, payloads), (vec![0, 1, 2, 3, 4, 5], vec![0, 2, 3, 5, 6, 8]));
    assert_eq!(pair.a.stats().send_drops.disabled, 3);
}

#[test]
fn srtp_before_the_keys_is_parked_for_64_packets_or_200_ms() {
    let mut pair = Pair::without_keys();
    pair.a.set_keys(pair.now, &keys(true)).unwrap();
    let (sender, mut receiver) = pair.track();
    let push = |pair: &mut Pair, n| {
        sender.push(outgoing(n)).unwrap();
        pair.drive();
    };
    push(&mut pair, 0);
    pair.now += Duration::from_millis(150);
    push(&mut pair, 1);
    pair.now += Duration::from_millis(100);
    pair.b.set_keys(pair.now, &keys(false)).unwrap();
    let payloads: Vec<_> = popped(&mut receiver).iter().map(|p| p.payload[0]).collect();
    assert_eq!((payloads, pair.b.stats().receive_drops.parked), (vec![1], 1));

    let mut pair = Pair::without_keys();
    for n in 0..70 {
        pair.b.handle_rtp(pair.now, &mut [n; 40]);
    }
    assert_eq!(pair.b.stats().receive_drops.parked, 6);
    let (at, why) = pair.b.poll_timeout().unwrap();
    assert_eq!(why, "parked packets expire");
    pair.b.handle_timeout(at);
    assert_eq!(pair.b.stats().receive_drops.parked, 70);
    assert_eq!(pair.b.poll_timeout(), None);
}

#[test]
fn what_is_pushed_up_to_200_ms_before_the_keys_is_sent() {
    let mut pair = Pair::without_keys();
    let (sender, mut receiver) = pair.track();
    let ms = Duration::from_millis;
    // Each packet by its own age.
    for (n, pause) in [(0, 50), (1, 150), (2, 20), (3, 29)] {
        sender.push(outgoing(n)).unwrap();
        assert_eq!(pair.drive(), (0, 0));
        pair.now += ms(pause);
    }
    assert_eq!(pair.a.stats().send_drops.no_keys, 1, "one is too old");
    sender.push(outgoing(4)).unwrap();
    pair.drive();
    pair.now += ms(2);
    pair.set_keys();
    pair.drive();
    let payloads: Vec<_> = popped(&mut receiver).iter().map(|p| p.payload[0]).collect();
    assert_eq!((payloads, pair.a.stats().send_drops.no_keys), (vec![2, 3, 4], 2));
}

#[test]
fn of_a_frame_that_is_too_old_for_the_keys_in_part_nothing_is_sent() {
    let mut pair = Pair::without_keys();
    let (sender, mut receiver) = pair.track();
    let part = |n: u64, frame: u64| OutgoingPacket { timestamp: 960 * frame, ..outgoing(n) };
    let push = |pair: &mut Pair, n, frame| {
        sender.push(part(n, frame)).unwrap();
        pair.drive();
        pair.now += Duration::from_millis(50);
    };
    for (n, frame) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        push(&mut pair, n, frame);
    }
    pair.set_keys();
    // The last of the first frame comes when the keys are there.
    assert_eq!(pair.a.stats().send_drops.no_keys, 1);
    pair.drive();
    let payloads: Vec<_> = popped(&mut receiver).iter().map(|p| p.payload[0]).collect();
    assert_eq!((payloads, pair.a.stats().send_drops.no_keys), (vec![2, 3], 2));
    // Later ones are no longer looked at, whatever their times.
    sender.push(part(4, 0)).unwrap();
    pair.drive();
    assert_eq!((popped(&mut receiver).len(), pair.a.stats().send_drops.no_keys), (1, 2));
}

#[test]
fn what_is_taken_for_want_of_a_path_does_not_age_what_comes_after_it() {
    let mut pair = Pair::without_keys();
    let (sender, mut receiver) = pair.track();
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    assert_eq!(pair.a.discard_transmits(), 1);
    pair.now += Duration::from_millis(150);
    sender.push(outgoing(1)).unwrap();
    pair.drive();
    pair.now += Duration::from_millis(150);
    pair.set_keys();
    pair.drive();
    let payloads: Vec<_> = popped(&mut receiver).iter().map(|p| p.payload[0]).collect();
    assert_eq!((payloads, pair.a.stats().send_drops.no_keys), (vec![1], 0));
}

#[test]
fn removing_a_sender_says_goodbye_and_the_peer_believes_it_after_the_grace() {
    let mut pair = Pair::new();
    let (sender, _receiver) = pair.track();
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    pair.a.remove_sender(pair.now, TRACK);
    assert_eq!(pair.drive(), (1, 0));
    pair.advance(Duration::from_millis(499));
    assert_eq!(events(&mut pair.b), [RouteEvent::ReceiverConnected(ID, TRACK)]);
    pair.advance(Duration::from_millis(1));
    let gone = RouteEvent::ReceiverDisconnected(ID, TRACK, DisconnectReason::Bye);
    assert_eq!(events(&mut pair.b), [gone]);
}

#[test]
fn a_sender_that_comes_back_goes_on_with_its_numbers_and_keys_given_again_change_nothing() {
    let mut pair = Pair::new();
    let (sender, mut receiver) = pair.track();
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    pair.a.remove_sender(pair.now, TRACK);
    pair.drive();
    pair.set_keys();
    let (sender, packets) = ring(8);
    pair.a.add_sender(pair.now, sender_config(TRACK, packets, true));
    sender.push(outgoing(1)).unwrap();
    pair.drive();
    let got = popped(&mut receiver);
    assert_eq!(got.len(), 2);
    assert_eq!(got[1].sequence, got[0].sequence + 1);
    assert_eq!(got[1].timestamp, got[0].timestamp.wrapping_add(960));
    pair.advance(Duration::from_secs(1));
    let connected = [RouteEvent::ReceiverConnected(ID, TRACK)];
    assert_eq!(events(&mut pair.b), connected, "the goodbye is revoked");
}

#[test]
fn silence_disconnects_and_the_next_packet_connects_again() {
    let mut pair = Pair::new();
    let (sender, _receiver) = pair.track();
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    pair.advance(Duration::from_secs(6));
    sender.push(outgoing(1)).unwrap();
    pair.drive();
    assert_eq!(
        events(&mut pair.b),
        [
            RouteEvent::ReceiverConnected(ID, TRACK),
            RouteEvent::ReceiverDisconnected(ID, TRACK, DisconnectReason::TimedOut),
            RouteEvent::ReceiverConnected(ID, TRACK),
        ]
    );
}

#[test]
fn closing_says_goodbye_for_every_sender_and_ends_everything() {
    let mut pair = Pair::new();
    let (sender, _receiver) = pair.track();
    let (_other, packets) = ring(8);
    pair.a.add_sender(pair.now, sender_config(Ssrc(5), packets, true));
    sender.push(outgoing(0)).unwrap();
    pair.a.next_transmit(pair.now);
    pair.a.close(pair.now);
    pair.a.close(pair.now);
    let mut datagrams = transmits(&mut pair.a, pair.now);
    assert_eq!(datagrams.len(), 1, "the readied packet is not sent any more");
    let mut opener = SrtpReceiver::from_keys(&keys(false)).unwrap();
    let len = opener.unprotect_rtcp(&mut datagrams[0]).unwrap();
    let named: Vec<_> = RtcpView::new(&datagrams[0][..len])
        .flat_map(|packet| packet.unwrap().bye_sources())
        .collect();
    assert_eq!(named, [Ssrc(5), TRACK]);
    assert_eq!(events(&mut pair.a), [RouteEvent::Closed(ID)]);
    pair.a.handle_rtp(pair.now, &mut [0x80; 40]);
    assert_eq!(pair.a.stats().receive_drops.closed, 1);
    assert_eq!((pair.a.poll_timeout(), pair.a.next_transmit(pair.now)), (None, None));
}

#[test]
fn everything_that_is_dropped_is_counted() {
    let mut pair = Pair::new();
    let (sender, receiver) = pair.track();
    for n in 0..10 {
        sender.push(outgoing(n)).unwrap();
        pair.drive();
    }
    assert_eq!(pair.b.stats().receive_drops.ring_full, 2);
    drop(receiver);
    sender.push(outgoing(10)).unwrap();
    pair.drive();

    sender.push(outgoing(11)).unwrap();
    let mut sealed = transmits(&mut pair.a, pair.now).remove(0);
    let mut forged = sealed.clone();
    forged[30] ^= 1;
    pair.b.handle_rtp(pair.now, &mut forged);
    pair.b.handle_rtp(pair.now, &mut sealed.clone());
    pair.b.handle_rtp(pair.now, &mut sealed);
    pair.b.handle_datagram(pair.now, &mut []);
    pair.b.handle_rtcp(pair.now, &mut [0x80, 200, 0, 0]);

    let (other, packets) = ring(8);
    let mut config = sender_config(Ssrc(5), packets, true);
    config.payload_type = PayloadType(96);
    pair.a.add_sender(pair.now, config);
    other.push(outgoing(0)).unwrap();
    pair.drive();
    let (packets, _ring) = ring(8);
    let payload_types = vec![(OPUS, 48_000)];
    pair.b.add_receiver(pair.now, ReceiverConfig { ssrc: Ssrc(5), payload_types, packets });

    let expected = ReceiveDrops {
        malformed: 2,
        not_authentic: 1,
        replayed: 1,
        ring_full: 2,
        ring_closed: 2,
        unknown_payload_type: 1,
        ..ReceiveDrops::default()
    };
    assert_eq!(pair.b.stats().receive_drops, expected);

    let long = OutgoingPacket { payload: vec![0; 1_500].into(), timestamp: 0, marker: false };
    sender.push(long).unwrap();
    sender.push(outgoing(12)).unwrap();
    assert!(pair.a.next_transmit(pair.now).is_some());
    other.push(outgoing(1)).unwrap();
    assert_eq!(pair.a.discard_transmits(), 2);
    let expected = SendDrops { oversized: 1, no_path: 2, ..SendDrops::default() };
    assert_eq!(pair.a.stats().send_drops, expected);
}

#[test]
fn senders_take_turns() {
    let mut pair = Pair::new();
    let (first, packets) = ring(8);
    pair.a.add_sender(pair.now, sender_config(Ssrc(1), packets, true));
    let (second, packets) = ring(8);
    pair.a.add_sender(pair.now, sender_config(Ssrc(2), packets, true));
    for n in 0..3 {
        first.push(outgoing(n)).unwrap();
        second.push(outgoing(n)).unwrap();
    }
    let order: Vec<_> = transmits(&mut pair.a, pair.now).iter().map(|bytes| bytes[11]).collect();
    assert_eq!(order, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    let transcript = |seed| {
        let now = Instant::now();
        let mut session = RtpSession::new(ID, seed, now);
        session.set_keys(now, &keys(true)).unwrap();
        let (sender, packets) = ring(8);
        session.add_sender(now, sender_config(TRACK, packets, true));
        let mut all = Vec::new();
        for n in 0..100 {
            let at = now + Duration::from_millis(20 * n);
            sender.push(outgoing(n)).unwrap();
            session.handle_timeout(at);
            all.extend(transmits(&mut session, at));
        }
        all
    };
    assert_eq!(transcript(7), transcript(7));
    assert_ne!(transcript(7), transcript(8));
}

/// 100,000 packets, a rollover at least, through a wire that loses, repeats and reorders.
#[test]
fn every_packet_that_arrives_is_delivered_once_whatever_the_wire_does() {
    const PACKETS: u64 = 100_000;
    let mut random = fastrand::Rng::with_seed(11);
    let mut pair = Pair::new();
    let (sender, mut receiver) = pair.track();
    let mut wire: Vec<Vec<u8>> = Vec::new();
    let mut got = Vec::new();
    let (mut lost, mut repeated) = (0, 0);
    for n in 0..PACKETS {
        let payload = Bytes::copy_from_slice(&n.to_be_bytes());
        sender.push(OutgoingPacket { payload, timestamp: 960 * n, marker: false }).unwrap();
        for datagram in transmits(&mut pair.a, pair.now) {
            match random.u8(0..20) {
                // The first has to arrive: packets count from there.
                0 if n > 0 => lost += 1,
                1 => {
                    repeated += 1;
                    wire.extend([datagram.clone(), datagram]);
                }
                _ => wire.push(datagram),
            }
        }
        // Up to ten wait; one of them at random goes on.
        while wire.len() > if n + 1 == PACKETS || n == 0 { 0 } else { random.usize(0..10) } {
            let mut datagram = wire.swap_remove(random.usize(0..wire.len()));
            pair.b.handle_rtp(pair.now, &mut datagram);
            got.extend(popped(&mut receiver));
        }
    }
    let base = got[0].sequence;
    for packet in &got {
        let n = packet.sequence - base;
        assert_eq!(packet.payload[..], n.to_be_bytes(), "sequence {n}");
    }
    got.sort_unstable_by_key(|packet| packet.sequence);
    assert!(got.windows(2).all(|two| two[0].sequence < two[1].sequence));
    assert!(got.last().unwrap().sequence > 1 << 16);
    let drops = ReceiveDrops { replayed: repeated, ..ReceiveDrops::default() };
    assert_eq!(pair.b.stats().receive_drops, drops);
    assert_eq!(got.len() as u64, PACKETS - lost);
    let expected = got.last().unwrap().sequence - base + 1;
    let counted = pair.b.receiver_stats(TRACK).unwrap();
    assert_eq!((counted.packets, counted.lost as u64), (PACKETS - lost, expected + lost - PACKETS));
}

#[test]
fn random_datagrams_never_panic() {
    let mut pair = Pair::new();
    let (_sender, _receiver) = pair.track();
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..5_000 {
        let mut bytes: Vec<u8> = (0..random.usize(0..80)).map(|_| random.u8(..)).collect();
        pair.b.handle_datagram(pair.now, &mut bytes);
        // What an authentic peer may say behind the seal.
        pair.b.on_compound(pair.now, &bytes);
        pair.b.deliver(pair.now, TRACK, random.u64(..1 << 48), &bytes);
        pair.b.handle_timeout(pair.now);
        pair.now += Duration::from_millis(random.u64(0..50));
    }
    assert!(pair.b.unknown.is_none());
}

/// Opens what a sends and forwards it to c, a peer of `server`.
struct Relay {
    pair: Pair,
    server: RtpSession,
    c: RtpSession,
    target: ForwardTarget,
}

const SENT: Ssrc = Ssrc(0x2222);

impl Relay {
    fn new() -> (Self, RingSender<OutgoingPacket>, RingReceiver<ReceivedPacket>) {
        let mut pair = Pair::new();
        let (sender, _) = pair.track();
        let now = pair.now;
        let (mut server, mut c) = (RtpSession::new(ID, 3, now), RtpSession::new(ID, 4, now));
        server.set_keys(now, &keys(true)).unwrap();
        c.set_keys(now, &keys(false)).unwrap();
        server.add_forward(
            now,
            ForwardConfig {
                ssrc: SENT,
                source: TrackSource { connection: ID, ssrc: TRACK },
                payload_types: vec![ForwardedPayloadType {
                    received: OPUS,
                    sent: PayloadType(96),
                    clock_rate: 48_000,
                }],
                unwrapped: Vec::new(),
                extensions: Vec::new(),
                cname: "relay".into(),
                needs_key_frames: true,
                enabled: true,
            },
        );
        let (packets, receiver) = ring(64);
        let payload_types = vec![(PayloadType(96), 48_000)];
        c.add_receiver(now, ReceiverConfig { ssrc: SENT, payload_types, packets });
        (Self { pair, server, c, target: ForwardTarget::new(SENT) }, sender, receiver)
    }

    /// Passes on all that waits anywhere.
    fn drive(&mut self) {
        let now = self.pair.now;
        for mut datagram in transmits(&mut self.pair.a, now) {
            if is_rtcp(&datagram) {
                self.pair.b.handle_rtcp(now, &mut datagram);
                if let Some(report) = self.pair.b.source_report(TRACK, 0) {
                    self.server.on_source_report(SENT, report);
                }
                continue;
            }
            let Some(opened) = self.pair.b.handle_rtp(now, &mut datagram) else { continue };
            let view = RtpView::parse(&datagram[..opened.len]).unwrap();
            let mut out = vec![0; FORWARD_ROOM];
            let run = self.server.forward_run(now, &mut self.target, 1);
            let len = run.and_then(|mut run| run.write(&view, &opened, &mut out));
            if let Some(len) = len {
                self.c.handle_datagram(now, &mut out[..len]);
            }
        }
        for mut datagram in transmits(&mut self.server, now) {
            self.c.handle_datagram(now, &mut datagram);
        }
        for mut datagram in transmits(&mut self.c, now) {
            self.server.handle_datagram(now, &mut datagram);
        }
    }

    fn advance(&mut self, ms: u64) {
        self.pair.now += Duration::from_millis(ms);
        let now = self.pair.now;
        for session in [&mut self.pair.a, &mut self.pair.b, &mut self.server, &mut self.c] {
            session.handle_timeout(now);
        }
        self.drive();
    }
}

#[test]
fn what_is_forwarded_is_reported_on_the_clock_of_its_source() {
    let (mut relay, sender, mut receiver) = Relay::new();
    for n in 0..150 {
        sender.push(outgoing(n)).unwrap();
        relay.advance(20);
    }
    let got = popped(&mut receiver);
    // The ring is smaller than what came; the first ones tell the shift.
    let shift = got[0].timestamp;
    assert!(got.iter().zip(0u32..).all(|(p, n)| p.timestamp == shift.wrapping_add(960 * n)));
    let stats = relay.c.receiver_stats(SENT).unwrap();
    let info = stats.sender_report.expect("reports go to subscribers");
    let now_at_source = info.rtp_timestamp.wrapping_sub(shift);
    assert!(now_at_source <= 150 * 960 && now_at_source > 960, "{now_at_source}");
    assert_eq!(now_at_source % 960, 0, "packets and reports are 20 ms apart here");
}

#[test]
fn a_beginning_asks_for_a_key_frame_and_so_does_the_peer() {
    let (mut relay, sender, _receiver) = Relay::new();
    let source = TrackSource { connection: ID, ssrc: TRACK };
    sender.push(outgoing(0)).unwrap();
    relay.drive();
    assert_eq!(relay.server.poll_key_frame_request(), Some((source, 0)));
    sender.push(outgoing(1)).unwrap();
    relay.drive();
    assert_eq!(relay.server.poll_key_frame_request(), None);
    // The peer has lost a picture: it says so twice, within half a second.
    let now = relay.pair.now;
    relay.c.request_key_frame(now, SENT);
    relay.c.request_key_frame(now, SENT);
    relay.drive();
    assert_eq!(relay.server.poll_key_frame_request(), Some((source, 0)));
    assert_eq!(relay.server.poll_key_frame_request(), None);
    assert_eq!(relay.c.stats().key_frames_requested, 1);
    relay.advance(500);
    assert_eq!(relay.server.poll_key_frame_request(), Some((source, 0)));
    // The picture of the source is asked for as any.
    relay.pair.b.request_key_frame(relay.pair.now, TRACK);
    let now = relay.pair.now;
    for mut datagram in transmits(&mut relay.pair.b, now) {
        relay.pair.a.handle_datagram(now, &mut datagram);
    }
    assert_eq!(relay.pair.a.stats().feedback_ignored, 0);
    assert!(events(&mut relay.pair.a).contains(&RouteEvent::KeyFrameRequested(ID, TRACK)));
}

#[test]
fn a_payload_type_that_is_not_forwarded_is_counted() {
    let (mut relay, sender, mut receiver) = Relay::new();
    relay.server.enable_sender(SENT, false);
    sender.push(outgoing(0)).unwrap();
    relay.drive();
    assert_eq!(relay.server.stats().send_drops.disabled, 1);
    relay.server.enable_sender(SENT, true);
    let mut foreign = [0; 40];
    let header = crate::RtpHeader {
        payload_type: PayloadType(5),
        marker: false,
        sequence: 1,
        timestamp: 2,
        ssrc: TRACK,
        extensions: &[],
    };
    header.write(&mut foreign).unwrap();
    let view = RtpView::parse(&foreign).unwrap();
    let mark = Default::default();
    let opened = OpenedRtp { ssrc: TRACK, index: 1, len: 0, padding: 0, mark };
    let (now, mut out) = (relay.pair.now, [0; FORWARD_ROOM]);
    let mut run = relay.server.forward_run(now, &mut relay.target, 1).unwrap();
    assert_eq!(run.write(&view, &opened, &mut out), None);
    drop(run);
    assert_eq!(relay.server.stats().send_drops.not_forwarded, 1);
    assert_eq!(popped(&mut receiver), []);
}

/// A track of another session, sent as [`TRACK`]; `extensions` are the ids that are passed on.
fn forward_config(extensions: Vec<(u8, u8)>) -> ForwardConfig {
    ForwardConfig {
        ssrc: TRACK,
        source: TrackSource { connection: ID, ssrc: Ssrc(7) },
        payload_types: vec![ForwardedPayloadType {
            received: OPUS,
            sent: OPUS,
            clock_rate: 48_000,
        }],
        unwrapped: Vec::new(),
        extensions,
        cname: "name".to_owned(),
        needs_key_frames: false,
        enabled: true,
    }
}
