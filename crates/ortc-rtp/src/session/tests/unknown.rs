//! Tracks that nobody has described, and what packets tell of themselves.

use std::collections::BTreeMap;

use super::*;
use crate::{
    CodecName, ExtHeaders, Extension, RtpHeader, SrtpSender, UnknownTrack, read_ext_headers,
};

const VP8: PayloadType = PayloadType(96);

fn pairs(seat: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("seat".to_owned(), seat.to_owned())])
}

fn ext_headers(seat: &str) -> ExtHeaders {
    ExtHeaders { ssrc: TRACK, pairs: pairs(seat), codecs: vec![(VP8, CodecName::Vp8)] }
}

fn unknown(ext_headers: BTreeMap<String, String>) -> RouteEvent {
    RouteEvent::UnknownTrack(ID, UnknownTrack { ssrc: TRACK, payload_type: OPUS, ext_headers })
}

/// A sender of a, and a b that knows nothing of it.
fn undescribed() -> (Pair, RingSender<OutgoingPacket>) {
    let mut pair = Pair::new();
    let (sender, packets) = ring(64);
    pair.a.add_sender(pair.now, sender_config(TRACK, packets, true));
    (pair, sender)
}

#[test]
fn packets_that_come_before_their_description_are_kept_for_three_seconds() {
    let (mut pair, sender) = undescribed();
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    pair.advance(Duration::from_millis(1_900));
    sender.push(outgoing(1)).unwrap();
    pair.drive();
    pair.advance(Duration::from_millis(1_200));
    let mut receiver = pair.receive();
    let payloads: Vec<_> = popped(&mut receiver).iter().map(|p| p.payload[0]).collect();
    assert_eq!((payloads, pair.b.stats().receive_drops.unknown_ssrc), (vec![1], 1));
    let connected = RouteEvent::ReceiverConnected(ID, TRACK);
    assert_eq!(events(&mut pair.b), [unknown(BTreeMap::new()), connected]);
    assert!(pair.b.unknown.is_none(), "nothing is kept of a track that is known");
}

#[test]
fn a_track_with_pairs_is_told_of_at_once_and_again_when_they_change() {
    let (mut pair, sender) = undescribed();
    pair.a.set_ext_headers(ext_headers("12"));
    for n in 0..10 {
        sender.push(outgoing(n)).unwrap();
        pair.drive();
    }
    assert_eq!(events(&mut pair.b), [unknown(pairs("12"))]);
    pair.a.set_ext_headers(ext_headers("13"));
    sender.push(outgoing(10)).unwrap();
    pair.drive();
    pair.advance(Duration::from_secs(5));
    sender.push(outgoing(11)).unwrap();
    pair.drive();
    assert_eq!(events(&mut pair.b), [unknown(pairs("13"))]);
}

#[test]
fn one_without_pairs_is_told_of_when_no_description_is_right_behind() {
    let (mut pair, sender) = undescribed();
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    pair.advance(Duration::from_millis(199));
    assert_eq!(events(&mut pair.b), []);
    let mut receiver = pair.receive();
    pair.advance(Duration::from_secs(1));
    assert_eq!(events(&mut pair.b), [RouteEvent::ReceiverConnected(ID, TRACK)]);
    assert_eq!(popped(&mut receiver).len(), 1);

    let (mut pair, sender) = undescribed();
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    pair.advance(Duration::from_millis(200));
    assert_eq!(events(&mut pair.b), [unknown(BTreeMap::new())]);
}

#[test]
fn the_first_packets_tell_pairs_then_one_of_fifty_until_the_peer_reports() {
    let (mut pair, sender) = undescribed();
    pair.a.set_ext_headers(ext_headers("12"));
    let mut carried = Vec::new();
    let mut send = |pair: &mut Pair, n: u64| {
        sender.push(outgoing(n)).unwrap();
        for mut datagram in transmits(&mut pair.a, pair.now) {
            if !is_rtcp(&datagram) {
                let elements = RtpView::parse(&datagram).unwrap().extensions();
                let data: Vec<_> = elements.map(|it| it.unwrap()).collect();
                if let [Extension { id: 15, data }] = data[..] {
                    assert_eq!(read_ext_headers(data), Some(pairs("12")));
                    carried.push(n);
                }
            }
            pair.b.handle_datagram(pair.now, &mut datagram);
        }
    };
    (0..120).for_each(|n| send(&mut pair, n));
    let _receiver = pair.receive();
    pair.advance(Duration::from_secs(3));
    (120..300).for_each(|n| send(&mut pair, n));
    let expected: Vec<_> = (0..50).chain([99]).collect();
    assert_eq!(carried, expected);
}

#[test]
fn packets_of_key_frames_tell_pairs_where_there_is_room() {
    let mut pair = Pair::new();
    let (sender, packets) = ring(64);
    let config = SenderConfig {
        payload_type: VP8,
        clock_rate: 90_000,
        ..sender_config(TRACK, packets, true)
    };
    pair.a.add_sender(pair.now, config);
    pair.a.set_ext_headers(ext_headers("12"));
    // Frames of two packets, the first without room; of each tenth the first says that it is a
    // key frame.
    let mut carried = Vec::new();
    for frame in 0..100u64 {
        let key = if frame.is_multiple_of(10) { 0 } else { 1 };
        for (first, len) in [(0x10, 1_190), (0x00, 100)] {
            let mut payload = vec![0; len];
            payload[..2].copy_from_slice(&[first, key]);
            let timestamp = 3_000 * frame;
            sender
                .push(OutgoingPacket { payload: payload.into(), timestamp, marker: false })
                .unwrap();
            for datagram in transmits(&mut pair.a, pair.now) {
                let view = RtpView::parse(&datagram).unwrap();
                assert!(datagram.len() <= 1_228);
                if view.extensions().count() > 0 {
                    carried.push((frame, first));
                }
            }
        }
    }
    // The first fifty that have room, which is one of each frame; then those of key frames and
    // one that has room after fifty without.
    let expected: Vec<_> = (0..50).chain([50, 60, 70, 80, 90]).map(|frame| (frame, 0)).collect();
    assert_eq!(carried, expected);
}

#[test]
fn a_forwarded_track_tells_pairs_of_its_own_beside_what_it_passes_on() {
    let mut pair = Pair::new();
    pair.a.add_forward(pair.now, forward_config(vec![(1, 3)]));
    pair.a.set_ext_headers(ext_headers("12"));
    let elements = [Extension { id: 1, data: &[0xaa] }, Extension { id: 15, data: b"seat=1" }];
    let header = RtpHeader {
        payload_type: OPUS,
        marker: false,
        sequence: 1,
        timestamp: 2,
        ssrc: Ssrc(7),
        extensions: &elements,
    };
    let mut packet = [0; 80];
    let len = header.write(&mut packet).unwrap() + 20;
    let view = RtpView::parse(&packet[..len]).unwrap();
    let mut target = ForwardTarget::new(TRACK);
    let mark = Default::default();
    let opened = OpenedRtp { ssrc: TRACK, index: 1, len: 0, padding: 0, mark };
    let mut out = vec![0; FORWARD_ROOM];
    let mut run = pair.a.forward_run(pair.now, &mut target, 1).unwrap();
    let len = run.write(&view, &opened, &mut out).unwrap();
    drop(run);
    let sent = RtpView::parse(&out[..len]).unwrap();
    let sent: Vec<_> = sent.extensions().map(Result::unwrap).collect();
    let expected = [Extension { id: 15, data: b"seat=12" }, Extension { id: 3, data: &[0xaa] }];
    assert_eq!(sent, expected);
}

/// Seals an empty packet of any SSRC with a fresh context of a's keys.
fn sealed(contexts: &mut Vec<SrtpSender>, ssrc: u32, sequence: u16) -> Vec<u8> {
    if ssrc.is_multiple_of(200) {
        contexts.push(SrtpSender::from_keys(&keys(true)).unwrap());
    }
    let header = RtpHeader {
        payload_type: OPUS,
        marker: false,
        sequence,
        timestamp: 0,
        ssrc: Ssrc(ssrc),
        extensions: &[],
    };
    let mut packet = vec![0; 64];
    let len = header.write(&mut packet).unwrap();
    let len = contexts.last_mut().unwrap().protect_rtp(&mut packet, len + 4).unwrap();
    packet.truncate(len);
    packet
}

#[test]
fn of_ten_thousand_ssrcs_few_are_told_of_and_described_tracks_go_on() {
    let mut pair = Pair::new();
    let mut contexts = Vec::new();
    let mut told = 0;
    for ssrc in 0..10_000 {
        let mut packet = sealed(&mut contexts, 200_000 + ssrc, 1);
        assert_eq!(pair.b.handle_rtp(pair.now, &mut packet), None);
        told += events(&mut pair.b).len();
        pair.now += Duration::from_millis(1);
        pair.b.handle_timeout(pair.now);
    }
    told += events(&mut pair.b).len();
    assert_eq!(told, 32, "each that is kept, and no other");
    let drops = pair.b.stats().receive_drops;
    assert_eq!((drops.too_many_ssrcs, drops.unknown_ssrc), (10_000 - 32, 32));

    let (sender, mut receiver) = pair.track();
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    assert_eq!(popped(&mut receiver).len(), 1);
}

#[test]
fn at_most_eight_are_told_of_in_a_second() {
    let mut pair = Pair::new();
    let mut contexts = Vec::new();
    for ssrc in 0..32 {
        let mut packet = sealed(&mut contexts, 200_000 + ssrc, 1);
        pair.b.handle_rtp(pair.now, &mut packet);
    }
    let mut counts = Vec::new();
    for _ in 0..5 {
        pair.advance(Duration::from_millis(999));
        counts.push(events(&mut pair.b).len());
    }
    assert_eq!(counts, [8, 8, 8, 8, 0]);
}

#[test]
fn memory_of_unknown_tracks_is_bounded_and_the_beginning_is_kept() {
    let options = SessionOptions {
        early: EarlyLimits { packets: 4, bytes: 100, ..EarlyLimits::default() },
        ..SessionOptions::default()
    };
    let (mut pair, sender) = undescribed();
    pair.b = RtpSession::with_options(ID, 2, pair.now, options);
    pair.b.set_keys(pair.now, &keys(false)).unwrap();
    for n in 0..10 {
        sender.push(outgoing(n)).unwrap();
    }
    pair.drive();
    // Three of 32 bytes fit into 100.
    assert_eq!(pair.b.stats().receive_drops.unknown_ssrc, 7);
    let mut receiver = pair.receive();
    let payloads: Vec<_> = popped(&mut receiver).iter().map(|p| p.payload[0]).collect();
    assert_eq!(payloads, [0, 1, 2]);
}

#[test]
fn a_late_description_that_has_missed_something_asks_for_a_key_frame_of_video_only() {
    for (clock_rate, asks) in [(48_000, 0), (90_000, 1)] {
        let (mut pair, sender) = undescribed();
        sender.push(outgoing(0)).unwrap();
        pair.drive();
        pair.advance(Duration::from_secs(4));
        let (packets, _receiver) = ring(8);
        let config =
            ReceiverConfig { ssrc: TRACK, payload_types: vec![(OPUS, clock_rate)], packets };
        pair.b.add_receiver(pair.now, config);
        assert_eq!(pair.b.stats().key_frames_requested, asks);
    }
}

#[test]
fn what_is_let_go_of_is_not_unknown_and_may_be_described_again() {
    let mut pair = Pair::new();
    let (sender, _receiver) = pair.track();
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    pair.b.remove_receiver(TRACK);
    sender.push(outgoing(1)).unwrap();
    pair.drive();
    pair.advance(Duration::from_secs(1));
    assert_eq!(events(&mut pair.b), [RouteEvent::ReceiverConnected(ID, TRACK)]);
    assert_eq!(pair.b.stats().receive_drops.unknown_ssrc, 1);
    let mut receiver = pair.receive();
    sender.push(outgoing(2)).unwrap();
    pair.drive();
    assert_eq!(popped(&mut receiver).len(), 1);
}

#[test]
fn nothing_is_told_of_packets_that_are_not_authentic() {
    let mut pair = Pair::new();
    for n in 0..100u8 {
        let mut forged = vec![0x80, 111, 0, n, 0, 0, 0, 0, 0, 0, 0, n];
        forged.extend([0; 40]);
        pair.b.handle_rtp(pair.now, &mut forged);
    }
    pair.advance(Duration::from_secs(1));
    assert_eq!(events(&mut pair.b), []);
    assert!(pair.b.unknown.is_none());
}

#[test]
fn both_sides_may_send_with_one_ssrc() {
    let mut pair = Pair::new();
    let (from_a, mut at_b) = pair.track();
    let (from_b, packets) = ring(8);
    pair.b.add_sender(pair.now, sender_config(TRACK, packets, true));
    let (packets, mut at_a) = ring(8);
    let config = ReceiverConfig { ssrc: TRACK, payload_types: vec![(OPUS, 48_000)], packets };
    pair.a.add_receiver(pair.now, config);
    for n in 0..100 {
        from_a.push(outgoing(n)).unwrap();
        from_b.push(outgoing(n + 100)).unwrap();
        pair.drive();
        pair.advance(Duration::from_millis(20));
        let heard = (popped(&mut at_b), popped(&mut at_a));
        let payloads = |packets: &[ReceivedPacket]| -> Vec<u8> {
            packets.iter().map(|packet| packet.payload[0]).collect()
        };
        assert_eq!((payloads(&heard.0), payloads(&heard.1)), (vec![n as u8], vec![n as u8 + 100]));
    }
    // Each side's reports are about what it receives, and its goodbye about what it sends.
    for session in [&pair.a, &pair.b] {
        let remote = session.sender_stats(TRACK).unwrap().remote.unwrap();
        assert_eq!(remote.cumulative_lost, 0);
    }
    pair.a.remove_sender(pair.now, TRACK);
    pair.advance(Duration::from_secs(1));
    let gone = RouteEvent::ReceiverDisconnected(ID, TRACK, DisconnectReason::Bye);
    assert!(events(&mut pair.b).contains(&gone));
    assert!(!events(&mut pair.a).contains(&gone));
}

#[test]
fn what_comes_back_from_the_network_is_not_taken_for_the_peers() {
    let mut pair = Pair::new();
    let (sender, _receiver) = pair.track();
    sender.push(outgoing(0)).unwrap();
    for mut datagram in transmits(&mut pair.a, pair.now) {
        pair.a.handle_datagram(pair.now, &mut datagram);
    }
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.a.stats().receive_drops.not_authentic, 1);
    assert!(!events(&mut pair.a).iter().any(|it| matches!(it, RouteEvent::UnknownTrack(..))));
}
