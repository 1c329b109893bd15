//! Telephone events among the audio of a track.

use super::*;
use crate::{ReceivedTonePacket, TonePacket, ToneRoute};

const TONES: PayloadType = PayloadType(101);
const SILENCE: Duration = Duration::from_millis(250);

fn tone(begin: Instant, reaches: u32, pause: Duration) -> TonePacket {
    TonePacket {
        payload: Bytes::from_static(&[5, 10, 3, 192]),
        payload_type: TONES,
        marker: false,
        begin,
        timestamp_offset: 0,
        reaches,
        pause,
    }
}

/// Payload types, sequence numbers and timestamps of what a session sends now.
fn sent(pair: &mut Pair) -> Vec<(PayloadType, u16, u32)> {
    let packets = transmits(&mut pair.a, pair.now);
    let views = packets.iter().filter(|packet| !is_rtcp(packet));
    let views = views.map(|packet| RtpView::parse(packet).unwrap());
    views.map(|it| (it.payload_type(), it.sequence(), it.timestamp())).collect()
}

#[test]
fn a_tone_silences_the_audio_until_its_end_or_for_a_moment() {
    let mut pair = Pair::new();
    let (audio, _heard) = pair.track();
    let (tones, packets) = ring(8);
    pair.a.send_tones(TRACK, packets);
    audio.push(outgoing(0)).unwrap();
    let (_, first, zero) = sent(&mut pair)[0];

    pair.now += Duration::from_millis(10);
    let begin = pair.now;
    tones.push(tone(begin, 960, SILENCE)).unwrap();
    audio.push(outgoing(1)).unwrap();
    assert_eq!(sent(&mut pair), [(TONES, first + 1, zero + 480)], "before the audio");
    assert_eq!(pair.a.stats().send_drops.silenced, 1);
    tones.push(tone(begin, 1_920, Duration::ZERO)).unwrap();
    audio.push(outgoing(2)).unwrap();
    assert_eq!(
        sent(&mut pair),
        [(TONES, first + 2, zero + 480), (OPUS, first + 3, zero + 1_920)],
        "the same timestamp, and the audio's own"
    );

    // Of the next tone no end comes.
    tones.push(tone(pair.now + Duration::from_millis(1), 960, SILENCE)).unwrap();
    sent(&mut pair);
    pair.now += SILENCE - Duration::from_millis(1);
    audio.push(outgoing(3)).unwrap();
    assert_eq!(sent(&mut pair), []);
    pair.now += Duration::from_millis(1);
    audio.push(outgoing(4)).unwrap();
    assert_eq!(sent(&mut pair), [(OPUS, first + 5, zero + 4 * 960)]);
}

#[test]
fn events_do_not_overlap_though_the_audio_comes_late() {
    let mut pair = Pair::new();
    let (audio, _heard) = pair.track();
    let (tones, packets) = ring(8);
    pair.a.send_tones(TRACK, packets);
    audio.push(outgoing(0)).unwrap();
    let (_, _, zero) = sent(&mut pair)[0];
    tones.push(tone(pair.now, 4_800, Duration::ZERO)).unwrap();
    assert_eq!(sent(&mut pair)[0].2, zero);
    // 150 ms later comes the audio of 20 ms later: by its clock the event has not ended.
    pair.now += Duration::from_millis(150);
    audio.push(outgoing(1)).unwrap();
    sent(&mut pair);
    tones.push(tone(pair.now, 4_800, Duration::ZERO)).unwrap();
    assert_eq!(sent(&mut pair)[0].2, zero + 4_800);
}

#[test]
fn a_track_without_sound_has_tones_at_their_distance_in_time() {
    let mut pair = Pair::new();
    let (_audio, _heard) = pair.track();
    let (tones, packets) = ring(8);
    pair.a.send_tones(TRACK, packets);
    let begin = pair.now;
    tones.push(tone(begin, 960, Duration::ZERO)).unwrap();
    let (_, first, zero) = sent(&mut pair)[0];
    pair.now += Duration::from_millis(1_000);
    tones.push(TonePacket { timestamp_offset: 65_535, ..tone(pair.now, 66_000, SILENCE) }).unwrap();
    assert_eq!(sent(&mut pair), [(TONES, first + 1, zero + 48_000 + 65_535)]);
}

#[test]
fn tones_of_a_disabled_or_unknown_track_go_nowhere() {
    let mut pair = Pair::new();
    let (_audio, _heard) = pair.track();
    let (tones, packets) = ring(8);
    pair.a.send_tones(TRACK, packets);
    pair.a.enable_sender(TRACK, false);
    tones.push(tone(pair.now, 960, SILENCE)).unwrap();
    assert_eq!((sent(&mut pair), pair.a.stats().send_drops.disabled), (Vec::new(), 1));
    pair.a.remove_sender(pair.now, TRACK);
    assert!(tones.is_closed());
    let (tones, packets) = ring(8);
    pair.a.send_tones(Ssrc(77), packets);
    assert!(tones.is_closed());
}

/// A pair whose track from a to b has tones; where they come, and the audio.
fn with_route() -> (
    Pair,
    RingSender<OutgoingPacket>,
    RingSender<TonePacket>,
    RingReceiver<ReceivedTonePacket>,
    RingReceiver<ReceivedPacket>,
) {
    let mut pair = Pair::new();
    let (audio, packets) = ring(8);
    pair.a.add_sender(pair.now, sender_config(TRACK, packets, true));
    let (tones, packets) = ring(8);
    pair.a.send_tones(TRACK, packets);
    let (packets, route) = ring(2);
    pair.b.receive_tones(TRACK, ToneRoute { payload_types: vec![TONES], packets });
    let (packets, heard) = ring(8);
    let payload_types = vec![(OPUS, 48_000), (TONES, 48_000)];
    pair.b.add_receiver(pair.now, ReceiverConfig { ssrc: TRACK, payload_types, packets });
    (pair, audio, tones, route, heard)
}

#[test]
fn received_tones_go_where_they_are_wanted_and_leave_only_their_numbers_in_the_audio() {
    let (mut pair, audio, tones, mut route, mut heard) = with_route();
    let start = pair.now;
    audio.push(outgoing(0)).unwrap();
    pair.drive();
    tones.push(tone(pair.now, 960, Duration::ZERO)).unwrap();
    pair.drive();
    // One is lost.
    pair.now += Duration::from_millis(20);
    audio.push(outgoing(1)).unwrap();
    transmits(&mut pair.a, pair.now);
    tones.push(tone(pair.now, 960, Duration::ZERO)).unwrap();
    pair.drive();
    let read = popped(&mut heard);
    let seen: Vec<_> = read.iter().map(|it| (it.payload_type, it.payload.is_empty())).collect();
    assert_eq!(seen, [(OPUS, false), (TONES, true), (TONES, true)]);
    let first = read[0].sequence;
    let came = popped(&mut route);
    let known: Vec<_> =
        came.iter().map(|it| (it.packet.sequence, it.previous, it.gap_at)).collect();
    assert_eq!(
        known,
        [(first + 1, Some(first), Some(start)), (first + 3, Some(first + 1), Some(pair.now)),]
    );
    assert_eq!(&came[0].packet.payload[..], [5, 10, 3, 192]);
    assert_eq!(pair.b.stats().rtp_received, 3);

    // Two are taken, a third has no room; nor has it once nobody reads any more.
    for _ in 0..3 {
        tones.push(tone(pair.now, 960, Duration::ZERO)).unwrap();
    }
    pair.drive();
    assert_eq!(pair.b.stats().receive_drops.ring_full, 1);
    drop(route);
    tones.push(tone(pair.now, 960, Duration::ZERO)).unwrap();
    pair.drive();
    assert_eq!(pair.b.stats().receive_drops.ring_closed, 1);
}

#[test]
fn what_may_be_a_tone_of_another_payload_type_is_shown_and_counted() {
    let (mut pair, _audio, tones, mut route, mut heard) = with_route();
    let other = PayloadType(96);
    tones.push(TonePacket { payload_type: other, ..tone(pair.now, 960, SILENCE) }).unwrap();
    let long = Bytes::from_static(&[5; 5]);
    let foreign = TonePacket { payload_type: other, payload: long, ..tone(pair.now, 0, SILENCE) };
    tones.push(foreign).unwrap();
    pair.drive();
    let types: Vec<_> = popped(&mut route).iter().map(|it| it.packet.payload_type).collect();
    assert_eq!((types, popped(&mut heard)), (vec![other], Vec::new()));
    assert_eq!(pair.b.stats().receive_drops.unknown_payload_type, 2);
}

#[test]
fn tones_take_numbers_among_those_that_are_forwarded() {
    let (mut relay, sender, mut receiver) = Relay::new();
    let (tones, packets) = ring(8);
    relay.server.send_tones(SENT, packets);
    let mut begin = relay.pair.now;
    for n in 0..8 {
        sender.push(outgoing(n)).unwrap();
        if n == 3 {
            begin = relay.pair.now;
        }
        // The relay's packet goes out before what it forwards in the same turn.
        let pause = if n < 5 { SILENCE } else { Duration::ZERO };
        if (3..6).contains(&n) {
            let packet = TonePacket { payload_type: PayloadType(96), ..tone(begin, 960, pause) };
            tones.push(packet).unwrap();
        }
        relay.advance(20);
    }
    let got = popped(&mut receiver);
    let numbers: Vec<_> = got.iter().map(|packet| packet.sequence).collect();
    let gapless: Vec<_> = (numbers[0]..).take(numbers.len()).collect();
    assert_eq!(numbers, gapless);
    let times: Vec<_> =
        got.iter().map(|it| it.timestamp.wrapping_sub(got[0].timestamp) / 960).collect();
    // Frame 3 was on its way already; 4 and 5 are silenced, and 6 is on time.
    assert_eq!(times, [0, 1, 2, 3, 2, 2, 2, 6, 7]);
    assert_eq!(relay.server.stats().send_drops.silenced, 2);
}
