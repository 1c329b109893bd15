//! Packets that repeat others, received and forwarded.

use super::*;
use crate::codec::Repeater;
use crate::{CodecName, RedundancyConfig, RedundancyCounts};

const RED: PayloadType = PayloadType(63);

/// Packets of sound that each repeat the one before.
fn repeating(count: u64) -> Vec<OutgoingPacket> {
    let red = CodecName::Opus.default_codec().repeated(RED.0, 1);
    let mut repeater = Repeater::of(&red).unwrap();
    (0..count).map(|n| repeater.repeat(outgoing(n), 1_200)).collect()
}

#[test]
fn lost_packets_are_handed_over_as_if_they_had_come() {
    let mut pair = Pair::new();
    let (sender, packets) = ring(64);
    let config = SenderConfig { payload_type: RED, ..sender_config(TRACK, packets, true) };
    pair.a.add_sender(pair.now, config);
    let (packets, mut receiver) = ring(64);
    let payload_types = vec![(OPUS, 48_000), (RED, 48_000)];
    pair.b.add_receiver(pair.now, ReceiverConfig { ssrc: TRACK, payload_types, packets });
    let (redundant, repeated) = (vec![RED], vec![OPUS]);
    pair.b.repair_receiver(RedundancyConfig { ssrc: TRACK, redundant, repeated });
    let mut late = Vec::new();
    for (n, packet) in repeating(8).into_iter().enumerate() {
        sender.push(packet).unwrap();
        for mut datagram in transmits(&mut pair.a, pair.now) {
            match n {
                2 => {}
                5 => late.push(datagram),
                _ => pair.b.handle_datagram(pair.now, &mut datagram),
            }
        }
    }
    // One was only overtaken: it is of no use any more.
    for mut datagram in late {
        pair.b.handle_datagram(pair.now, &mut datagram);
    }
    let got = popped(&mut receiver);
    let first = got[0].sequence;
    let facts: Vec<_> = got.iter().map(|it| (it.sequence - first, it.payload_type)).collect();
    let expected =
        [(0, RED), (1, RED), (2, OPUS), (3, RED), (4, RED), (5, OPUS), (6, RED), (7, RED)];
    assert_eq!(facts, expected);
    for found in [&got[2], &got[5]] {
        let n = found.sequence - first;
        assert_eq!(found.payload, outgoing(n).payload);
        assert_eq!(found.timestamp, got[0].timestamp.wrapping_add(960 * n as u32));
    }
    let snapshot = pair.b.snapshot(pair.now).receivers.remove(0);
    let octets = [0, 2, 3, 4, 5, 6].map(|n| outgoing(n).payload.len() as u64).iter().sum();
    assert_eq!(snapshot.redundancy, RedundancyCounts { received: 6, octets, discarded: 4 });
    assert_eq!((snapshot.stats.packets, snapshot.stats.lost), (7, 1));
}

#[test]
fn for_a_peer_without_red_each_packet_is_sent_on_as_its_primary() {
    let (mut relay, _, mut receiver) = Relay::new();
    let now = relay.pair.now;
    let types =
        |received| ForwardedPayloadType { received, sent: PayloadType(96), clock_rate: 48_000 };
    let config = ForwardConfig {
        ssrc: SENT,
        source: TrackSource { connection: ID, ssrc: TRACK },
        payload_types: vec![types(OPUS)],
        unwrapped: vec![RED],
        extensions: Vec::new(),
        cname: "relay".into(),
        needs_key_frames: false,
        enabled: true,
    };
    relay.server.add_forward(now, config);
    let (sender, packets) = ring(64);
    let config = SenderConfig { payload_type: RED, ..sender_config(TRACK, packets, true) };
    relay.pair.a.add_sender(now, config);
    let (packets, _kept) = ring(64);
    let payload_types = vec![(OPUS, 48_000), (RED, 48_000)];
    relay.pair.b.add_receiver(now, ReceiverConfig { ssrc: TRACK, payload_types, packets });
    for packet in repeating(5) {
        sender.push(packet).unwrap();
        relay.drive();
    }
    let got = popped(&mut receiver);
    let payloads: Vec<_> = got.iter().map(|it| (it.payload_type, it.payload.clone())).collect();
    let expected: Vec<_> = (0..5).map(|n| (PayloadType(96), outgoing(n).payload)).collect();
    assert_eq!(payloads, expected);
    assert_eq!(relay.server.sender_stats(SENT).unwrap().octets, 5 * 20);
    // One that is not what it says is not sent on at all.
    sender.push(OutgoingPacket { payload: Bytes::from_static(&[0xff]), ..outgoing(6) }).unwrap();
    relay.drive();
    assert_eq!(relay.server.stats().send_drops.not_forwarded, 1);
    assert_eq!(popped(&mut receiver), []);
}
