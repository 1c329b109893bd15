//! Telephone events among the audio of a track.

use super::*;
use crate::{
    ReceivedTonePacket, RedundantView, TonePacket, TonePayloadTypes, ToneRedundancy, ToneRoute,
};

const TONES: PayloadType = PayloadType(101);
const SILENCE: Duration = Duration::from_millis(250);

fn events_only() -> TonePayloadTypes {
    TonePayloadTypes { events: vec![TONES], redundant: Vec::new() }
}

fn tone(begin: Instant, reaches: u32, pause: Duration) -> TonePacket {
    TonePacket {
        payload: Bytes::from_static(&[5, 10, 3, 192]),
        payload_type: TONES,
        marker: false,
        begin,
        timestamp_offset: 0,
        reaches,
        pause,
        redundancy: None,
        fill: None,
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
    pair.b.receive_tones(TRACK, ToneRoute { payload_types: events_only(), packets });
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

const RED: PayloadType = PayloadType(63);

/// An Opus packet of 20 ms.
const SOUND: &[u8] = b"\x78sound";

/// A tone of 100 ms that repeats two others; its payload names it.
fn repeating(begin: Instant, event: u8, pause: Duration) -> TonePacket {
    TonePacket {
        payload: Bytes::copy_from_slice(&[event, 0x8a, 0x12, 0xc0]),
        redundancy: Some(ToneRedundancy { payload_type: RED, events: 2 }),
        ..tone(begin, 4_800, pause)
    }
}

#[test]
fn tones_that_are_over_are_repeated_at_the_distance_of_their_timestamps() {
    let mut now = Instant::now();
    let mut placer = crate::stream::TonePlacer::default();
    let mut stream = SendStream::new(TRACK, OPUS, 48_000, 7, 1_000);
    let mut sent = Vec::new();
    for event in 0..4u8 {
        // The last begins long after the others: they are too far back.
        now += Duration::from_millis(if event == 3 { 900 } else { 150 });
        for pause in [SILENCE, Duration::ZERO, Duration::ZERO] {
            let packet = repeating(now, event, pause);
            let (header, payload) = placer.place(now, &mut stream, &packet);
            assert_eq!(header.payload_type, RED);
            let view = RedundantView::parse(&payload).unwrap();
            assert!(view.blocks().all(|block| block.payload_type == TONES));
            let found = view.blocks().map(|block| (block.timestamp_offset, block.payload[0]));
            sent.push(found.collect::<Vec<_>>());
        }
    }
    let expected: Vec<Vec<(u16, u8)>> = vec![
        vec![(0, 0)],
        vec![(7_200, 0), (0, 1)],
        vec![(14_400, 0), (7_200, 1), (0, 2)],
        vec![(0, 3)],
    ];
    for (of_event, expected) in sent.chunks(3).zip(&expected) {
        // Before its end, at it, and after it.
        assert_eq!(of_event, [expected.clone(), expected.clone(), expected.clone()]);
    }
}

#[test]
fn redundant_tones_and_audio_go_each_to_where_they_are_wanted() {
    let mut pair = Pair::new();
    let (redundant, packets) = ring(8);
    let config = SenderConfig { payload_type: RED, ..sender_config(TRACK, packets, true) };
    pair.a.add_sender(pair.now, config);
    let (packets, mut route) = ring(8);
    let payload_types = TonePayloadTypes { events: vec![TONES], redundant: vec![RED] };
    pair.b.receive_tones(TRACK, ToneRoute { payload_types, packets });
    let (packets, mut heard) = ring(8);
    let payload_types = vec![(OPUS, 48_000), (TONES, 48_000), (RED, 48_000)];
    pair.b.add_receiver(pair.now, ReceiverConfig { ssrc: TRACK, payload_types, packets });

    let event = [5, 0x8a, 3, 192];
    let block = |payload_type, timestamp_offset, payload| crate::RedundantBlock {
        payload_type,
        timestamp_offset,
        payload,
    };
    let mixed = [block(TONES, 960, &event[..]), block(OPUS, 0, SOUND)];
    let plain = [block(OPUS, 960, &b"before"[..]), block(OPUS, 0, SOUND)];
    for blocks in [&mixed, &plain] {
        let mut payload = [0; 64];
        let len = crate::write_redundant(blocks, &mut payload).unwrap();
        let payload = Bytes::copy_from_slice(&payload[..len]);
        redundant.push(OutgoingPacket { payload, timestamp: 0, marker: false }).unwrap();
    }
    pair.drive();
    let tones = popped(&mut route);
    let audio = popped(&mut heard);
    assert_eq!((tones.len(), audio.len()), (1, 2), "the control thread sees no other sound");
    assert_eq!(tones[0].packet.payload, audio[0].payload);
    let codecs = [(OPUS, crate::CodecName::Opus), (RED, crate::CodecName::Red)];
    let mut frames = crate::codec::FrameAssembler::new(codecs);
    audio.into_iter().for_each(|packet| frames.push(packet));
    for _ in 0..2 {
        let Some(crate::codec::FrameEvent::Frame(frame)) = frames.poll(pair.now) else { panic!() };
        assert_eq!((frame.payload_type, &frame.data[..]), (OPUS, SOUND));
    }
}

#[test]
fn a_receiver_that_is_described_anew_goes_on_with_its_numbers_and_its_tones() {
    let (mut pair, audio, tones, mut route, mut heard) = with_route();
    audio.push(outgoing(0)).unwrap();
    pair.drive();
    let update = |events: Vec<PayloadType>, ssrc| crate::ReceiverUpdate {
        ssrc,
        payload_types: vec![(OPUS, 48_000), (PayloadType(96), 48_000)],
        tones: TonePayloadTypes { events, redundant: Vec::new() },
    };
    pair.b.update_receiver(update(vec![PayloadType(96)], TRACK));
    pair.b.update_receiver(update(Vec::new(), Ssrc(77)));
    let other = TonePacket { payload_type: PayloadType(96), ..tone(pair.now, 960, SILENCE) };
    tones.push(other).unwrap();
    let former = Bytes::from_static(&[0; 20]);
    tones.push(TonePacket { payload: former, ..tone(pair.now, 960, Duration::ZERO) }).unwrap();
    audio.push(outgoing(1)).unwrap();
    pair.drive();
    let types: Vec<_> = popped(&mut route).iter().map(|it| it.packet.payload_type).collect();
    assert_eq!(types, [PayloadType(96)]);
    let read = popped(&mut heard);
    let first = read[0].sequence;
    let numbers: Vec<_> = read.iter().map(|it| it.sequence - first).collect();
    assert_eq!(numbers, [0, 1, 3], "the former payload type is taken no more");
    assert_eq!(pair.b.receiver_stats(TRACK).unwrap().packets, 3);
}

#[test]
fn sound_of_a_tone_goes_on_exactly_where_the_audio_has_stopped_and_so_does_the_audio() {
    const PCMU: PayloadType = PayloadType(0);
    for (asked, len) in [(40u64, 560u32), (47, 560), (53, 800), (59, 641), (60, 160), (44, 24)] {
        let mut pair = Pair::new();
        let (audio, packets) = ring(64);
        let config = sender_config(TRACK, packets, true);
        let config = SenderConfig { payload_type: PCMU, clock_rate: 8_000, ..config };
        pair.a.add_sender(pair.now, config);
        let (tones, packets) = ring(64);
        pair.a.send_tones(TRACK, packets);
        let start = pair.now;
        let mut spans = Vec::new();
        let mut made = 0;
        for ms in 0..400u64 {
            pair.now = start + Duration::from_millis(ms);
            // A piece every 20 ms, and the last at the end.
            let sounded = ms.saturating_sub(asked) as u32 * 8;
            let is_last = sounded >= len;
            if made < len && (is_last || sounded > 0 && sounded == made + 160) {
                let (begin, reaches) =
                    (start + Duration::from_millis(asked + 40), sounded.min(len));
                let packet = TonePacket {
                    payload: Bytes::from(vec![1; (reaches - made) as usize]),
                    payload_type: PCMU,
                    timestamp_offset: made,
                    fill: Some(0xff),
                    ..tone(begin, reaches, if is_last { Duration::ZERO } else { SILENCE })
                };
                made = reaches;
                tones.push(packet).unwrap();
            }
            if ms.is_multiple_of(20) {
                let payload = Bytes::from(vec![2; 160]);
                audio.push(OutgoingPacket { payload, timestamp: ms * 8, marker: false }).unwrap();
            }
            for packet in transmits(&mut pair.a, pair.now) {
                let view = RtpView::parse(&packet).unwrap();
                // Behind the payload is the tag.
                spans.push((view.timestamp(), view.payload().len() as u32 - 16));
            }
        }
        assert_eq!(made, len);
        for pair in spans.windows(2) {
            let [(at, len), (next, _)] = [pair[0], pair[1]];
            assert_eq!(at.wrapping_add(len), next, "asked at {asked}: {spans:?}");
        }
        let silenced = pair.a.stats().send_drops.silenced;
        assert!((1..=7).contains(&silenced), "{silenced}");
    }
}
