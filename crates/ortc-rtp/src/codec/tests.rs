//! Frames are cut, sent and put together: whole, lost, out of order, and against the
//! depacketizers of `rtc-rtp` where these are sound.

use std::time::{Duration, Instant};

use rtp::packetizer::Depacketizer as _;

use super::*;
use crate::{PayloadType, ReceivedPacket};

const CODECS: [CodecName; 7] = [
    CodecName::Opus,
    CodecName::Alaw,
    CodecName::Ulaw,
    CodecName::Vp8,
    CodecName::Vp9,
    CodecName::Av1,
    CodecName::H264,
];
const VIDEO: [CodecName; 4] = [CodecName::Vp8, CodecName::Vp9, CodecName::Av1, CodecName::H264];

fn bytes(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.u8(..)).collect()
}

/// An OBU with its size.
fn obu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut obu = vec![kind << 3 | 2];
    let mut len = body.len();
    while len >= 0x80 {
        obu.push(len as u8 | 0x80);
        len >>= 7;
    }
    obu.push(len as u8);
    obu.extend_from_slice(body);
    obu
}

/// A frame of about `len` bytes that has the headers of its codec, as it must come out again.
fn frame(codec: CodecName, key: bool, len: usize, random: &mut fastrand::Rng) -> Bytes {
    let mut body = bytes(random, len.max(16));
    match codec {
        CodecName::Opus => body[0] = 31 << 3,
        CodecName::Vp8 => body[0] = body[0] & !1 | u8::from(!key),
        CodecName::Vp9 => body[0] = 0x82 | u8::from(!key) << 2,
        CodecName::Av1 => {
            body[0] = if key { 0x10 } else { 0x30 };
            let mut unit = vec![0x12, 0];
            if key {
                unit.extend(obu(1, &[0, 0, 0, 4]));
            }
            unit.extend(obu(6, &body));
            return unit.into();
        }
        CodecName::H264 => {
            // No start codes by chance, no zeros at the end.
            body.iter_mut().for_each(|byte| *byte |= 0x10);
            body[1] |= 0x80;
            let mut unit = Vec::new();
            if key {
                unit.extend_from_slice(&[0, 0, 0, 1, 0x67, 0x42, 0xe0, 0x1f, 0x99]);
                unit.extend_from_slice(&[0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80]);
            }
            body[0] = if key { 0x65 } else { 0x41 };
            unit.extend_from_slice(&[0, 0, 0, 1]);
            unit.extend_from_slice(&body);
            return unit.into();
        }
        _ => {}
    }
    body.into()
}

struct Sent {
    frames: Vec<Bytes>,
    packets: Vec<ReceivedPacket>,
}

/// Frames of a codec, the first of them a key frame, cut into packets.
fn sent(codec: CodecName, count: usize, max_payload: usize, seed: u64) -> Sent {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut packetizer = Packetizer::new(codec).unwrap();
    let (mut frames, mut packets, mut sequence) = (Vec::new(), Vec::new(), 65_530);
    let now = Instant::now();
    for index in 0..count {
        let len = match codec.kind() {
            crate::TrackKind::Audio => random.usize(1..20),
            _ => random.usize(16..5_000),
        };
        let frame = frame(codec, index == 0, len, &mut random);
        let mut out = Vec::new();
        packetizer.packetize(&frame, index as u64 * 3_000, max_payload, &mut out).unwrap();
        for packet in out {
            assert!(packet.payload.len() <= max_payload, "{codec:?}");
            packets.push(ReceivedPacket {
                payload: packet.payload,
                payload_type: PayloadType(96),
                sequence,
                timestamp: packet.timestamp as u32,
                marker: packet.marker,
                received_at: now + Duration::from_millis(sequence - 65_530),
                capture_time: None,
            });
            sequence += 1;
        }
        frames.push(frame);
    }
    Sent { frames, packets }
}

fn received(codec: CodecName, packets: &[ReceivedPacket]) -> Vec<FrameEvent> {
    let mut depacketizer = Depacketizer::new(codec).unwrap();
    let mut out = Vec::new();
    packets.iter().for_each(|packet| depacketizer.handle(packet, &mut out));
    out
}

fn frames(events: &[FrameEvent]) -> Vec<&EncodedFrame> {
    let frames = events.iter().filter_map(|event| match event {
        FrameEvent::Frame(frame) => Some(frame),
        FrameEvent::Damaged(_) => None,
    });
    frames.collect()
}

#[test]
fn frames_of_every_codec_and_size_of_packet_come_out_as_they_went_in() {
    for codec in CODECS {
        for max_payload in [32, 33, 100, 256, DEFAULT_MAX_PAYLOAD] {
            let sent = sent(codec, 30, max_payload, max_payload as u64);
            let events = received(codec, &sent.packets);
            let got: Vec<_> = frames(&events).into_iter().map(|frame| &frame.data).collect();
            assert_eq!(got, sent.frames.iter().collect::<Vec<_>>(), "{codec:?} {max_payload}");
            assert_eq!(events.len(), sent.frames.len(), "no damage");
            let keys: Vec<_> = frames(&events).into_iter().map(|frame| frame.key).collect();
            let video = VIDEO.contains(&codec);
            assert_eq!(keys, (0..30).map(|at| at == 0 || !video).collect::<Vec<_>>());
            assert!(frames(&events).iter().all(|frame| frame.intact));
        }
    }
}

#[test]
fn a_missing_marker_only_delays_a_frame() {
    for codec in VIDEO {
        let mut sent = sent(codec, 10, 500, 1);
        sent.packets.iter_mut().for_each(|packet| packet.marker = false);
        let events = received(codec, &sent.packets);
        let got: Vec<_> = frames(&events).into_iter().map(|frame| &frame.data).collect();
        assert_eq!(got, sent.frames[..9].iter().collect::<Vec<_>>(), "{codec:?}");
        assert_eq!(events.len(), 9);
    }
}

#[test]
fn any_lost_packet_costs_its_frame_and_asks_for_a_key_frame() {
    for codec in VIDEO {
        let whole = sent(codec, 5, 700, 2);
        for lost in 1..whole.packets.len() {
            let damaged = whole.packets[lost].timestamp / 3_000;
            let mut packets = whole.packets.clone();
            packets.remove(lost);
            let events = received(codec, &packets);
            let got: Vec<_> = frames(&events);
            let times: Vec<_> = got.iter().map(|frame| frame.timestamp / 3_000).collect();
            let mut depacketizer = Depacketizer::new(codec).unwrap();
            packets.iter().for_each(|packet| depacketizer.handle(packet, &mut Vec::new()));
            if lost + 1 == whole.packets.len() {
                // Nobody can know yet.
                assert_eq!(times, [0, 1, 2, 3]);
                continue;
            }
            let expected: Vec<_> = (0..5).filter(|&at| at != damaged).collect();
            assert_eq!(times, expected, "{codec:?} {lost}");
            assert!(events.contains(&FrameEvent::Damaged(Damage::Lost { packets: 1 })));
            for frame in got {
                let index = (frame.timestamp / 3_000) as usize;
                assert_eq!(frame.data, whole.frames[index], "{codec:?} {lost}");
                assert_eq!(frame.intact, index < damaged as usize, "{codec:?} {lost}");
            }
            assert!(depacketizer.needs_key_frame());
        }
    }
}

#[test]
fn a_stream_that_is_joined_late_begins_with_a_whole_frame() {
    for codec in VIDEO {
        let whole = sent(codec, 4, 300, 3);
        let second = whole.packets.iter().position(|packet| packet.timestamp == 3_000).unwrap();
        let third = whole.packets.iter().position(|packet| packet.timestamp == 6_000).unwrap();
        assert!(third > second + 1);
        let events = received(codec, &whole.packets[second + 1..]);
        assert_eq!(events[0], FrameEvent::Damaged(Damage::Incomplete), "{codec:?}");
        let got: Vec<_> = frames(&events).into_iter().map(|frame| &frame.data).collect();
        assert_eq!(got, whole.frames[2..].iter().collect::<Vec<_>>(), "{codec:?}");
        assert!(frames(&events).iter().all(|frame| !frame.intact));
    }
}

#[test]
fn a_key_frame_heals() {
    for codec in VIDEO {
        let mut depacketizer = Depacketizer::new(codec).unwrap();
        let mut packets = sent(codec, 3, 800, 4).packets;
        packets.remove(2);
        let offset = packets.last().unwrap().sequence - 65_529;
        let again = sent(codec, 2, 800, 5).packets.into_iter().map(|packet| ReceivedPacket {
            sequence: packet.sequence + offset,
            timestamp: packet.timestamp + 90_000,
            ..packet
        });
        let mut out = Vec::new();
        packets.extend(again);
        packets.iter().for_each(|packet| depacketizer.handle(packet, &mut out));
        let last: Vec<_> = frames(&out).iter().rev().take(2).map(|f| (f.key, f.intact)).collect();
        assert_eq!(last, [(false, true), (true, true)], "{codec:?}");
        assert!(!depacketizer.needs_key_frame());
    }
}

#[test]
fn packets_that_overtake_each_other_are_put_in_order() {
    for codec in CODECS {
        let sent = sent(codec, 20, 200, 6);
        let mut random = fastrand::Rng::with_seed(6);
        let mut packets = sent.packets.clone();
        for at in 1..packets.len() {
            packets.swap(at, at.saturating_sub(random.usize(0..4)).max(1));
        }
        // A duplicate is dropped.
        packets.push(packets[packets.len() - 1].clone());
        let mut assembler = FrameAssembler::new([(PayloadType(96), codec)]);
        let now = sent.packets[0].received_at;
        let mut got = Vec::new();
        for packet in packets {
            assembler.push(packet);
            while let Some(event) = assembler.poll(now) {
                let FrameEvent::Frame(frame) = event else { panic!("{codec:?}: {event:?}") };
                got.push(frame.data);
            }
        }
        assert_eq!(got, sent.frames, "{codec:?}");
        let counts = assembler.counts().jitter;
        assert_eq!((counts.late + counts.duplicates, counts.given_up), (1, 0));
        assert_eq!(assembler.poll_timeout(), None);
    }
}

#[test]
fn a_gap_is_waited_for_in_time_and_in_packets() {
    let packets = sent(CodecName::Ulaw, 100, 1_000, 7).packets;
    let now = packets[0].received_at;
    let mut buffer = JitterBuffer::default();
    buffer.push(packets[0].clone(), None);
    buffer.push(packets[2].clone(), None);
    assert_eq!(buffer.poll(now).map(|packet| packet.sequence), Some(65_530));
    assert_eq!(buffer.poll(now), None);
    let due = packets[2].received_at + Duration::from_millis(100);
    assert_eq!(buffer.poll_timeout(), Some(due));
    assert_eq!(buffer.poll(due - Duration::from_nanos(1)), None);
    assert_eq!(buffer.poll(due).map(|packet| packet.sequence), Some(65_532));
    buffer.push(packets[1].clone(), None);
    for packet in &packets[4..68] {
        buffer.push(packet.clone(), None);
    }
    assert_eq!((buffer.poll(now), buffer.len()), (None, 64));
    buffer.push(packets[68].clone(), None);
    assert_eq!(buffer.poll(now).map(|packet| packet.sequence), Some(65_534));
    let expected = JitterCounts { late: 1, given_up: 2, ..JitterCounts::default() };
    assert_eq!(buffer.counts(), expected);
}

#[test]
fn what_nobody_polls_is_bounded() {
    let packets = sent(CodecName::Ulaw, 300, 1_000, 7).packets;
    let mut buffer = JitterBuffer::default();
    packets.iter().for_each(|packet| buffer.push(packet.clone(), None));
    assert_eq!((buffer.len(), buffer.counts().unread), (256, 44));
    let first = buffer.poll(packets[0].received_at).map(|packet| packet.sequence);
    assert_eq!(first, Some(65_530 + 44));
}

#[test]
fn padding_alone_and_telephone_events_are_not_missing() {
    let mut packets = sent(CodecName::Vp8, 2, 1_000, 8).packets;
    let at = packets.iter().position(|packet| packet.timestamp == 3_000).unwrap();
    for packet in &mut packets[at..] {
        packet.sequence += 2;
    }
    let between = |sequence, payload_type| ReceivedPacket {
        payload: if payload_type == 96 { Bytes::new() } else { Bytes::from_static(&[1, 2, 3, 4]) },
        payload_type: PayloadType(payload_type),
        sequence,
        ..packets[at - 1].clone()
    };
    let end = packets[at - 1].sequence;
    let (padding, event) = (between(end + 1, 96), between(end + 2, 101));
    let mut assembler = FrameAssembler::new([
        (PayloadType(96), CodecName::Vp8),
        (PayloadType(101), CodecName::Dtmf),
    ]);
    packets.into_iter().chain([padding, event]).for_each(|packet| assembler.push(packet));
    let now = Instant::now();
    let mut intact = Vec::new();
    while let Some(event) = assembler.poll(now) {
        let FrameEvent::Frame(frame) = event else { panic!("{event:?}") };
        intact.push(frame.intact);
    }
    assert_eq!(intact, [true, true]);
    assert_eq!(assembler.counts().unknown_payload_type, 1);
}

#[test]
fn truncated_and_random_payloads_never_panic_and_memory_is_bounded() {
    for codec in CODECS {
        let mut random = fastrand::Rng::with_seed(9);
        let whole = sent(codec, 6, 120, 9).packets;
        let mut depacketizer = Depacketizer::new(codec).unwrap().with_max_frame_len(2_000);
        let mut out = Vec::new();
        let mut sequence = 0;
        let mut feed = |payload: Bytes, timestamp, marker| {
            sequence += 1;
            let packet = ReceivedPacket {
                payload,
                payload_type: PayloadType(96),
                sequence,
                timestamp,
                marker,
                received_at: whole[0].received_at,
                capture_time: None,
            };
            depacketizer.handle(&packet, &mut out);
            assert!(depacketizer.buffered() <= 3_000, "{codec:?}");
            assert!(frames(&out).iter().all(|frame| frame.data.len() <= 3_000));
            out.clear();
        };
        for packet in &whole {
            for len in 0..packet.payload.len() {
                feed(packet.payload.slice(..len), packet.timestamp, packet.marker);
            }
        }
        for _ in 0..30_000 {
            let mut payload = whole[random.usize(0..whole.len())].payload.to_vec();
            payload.truncate(random.usize(0..=payload.len()));
            for _ in 0..random.usize(0..4) {
                let len = payload.len();
                if len > 0 {
                    payload[random.usize(0..len.min(8))] = random.u8(..);
                }
            }
            feed(payload.into(), random.u32(0..3) * 3_000, random.u8(..) < 20);
            let len = random.usize(0..40);
            feed(bytes(&mut random, len).into(), random.u32(0..3), random.bool());
        }
    }
}

#[test]
fn random_frames_are_refused_or_cut_but_never_panic() {
    let mut random = fastrand::Rng::with_seed(10);
    for codec in CODECS {
        let mut packetizer = Packetizer::new(codec).unwrap();
        for _ in 0..5_000 {
            let mut frame = match random.u8(0..3) {
                0 => vec![0, 0, 1],
                1 => vec![0x12, 0, 0x32],
                _ => Vec::new(),
            };
            let len = random.usize(0..100);
            frame.extend(bytes(&mut random, len));
            frame.iter_mut().for_each(|byte| {
                if random.u8(..) < 40 {
                    *byte = random.u8(0..2);
                }
            });
            let mut out = Vec::new();
            if packetizer.packetize(&frame.into(), 0, random.usize(32..64), &mut out).is_ok() {
                assert!(!out.is_empty());
            } else {
                assert!(out.is_empty());
            }
        }
    }
}

#[test]
fn what_is_no_frame_is_refused_with_a_reason() {
    let cut = |codec, frame: &'static [u8], max| {
        let mut packetizer = Packetizer::new(codec).unwrap();
        packetizer.packetize(&Bytes::from_static(frame), 0, max, &mut Vec::new())
    };
    assert_eq!(cut(CodecName::Vp8, &[], 100), Err(PacketizeError::Empty));
    assert_eq!(cut(CodecName::Vp8, &[1], 31), Err(PacketizeError::MaxPayload(31)));
    assert_eq!(
        cut(CodecName::Opus, &[31 << 3; 101], 100),
        Err(PacketizeError::TooLong { len: 101, max: 100 })
    );
    for (codec, frame) in [
        (CodecName::Opus, &[3u8][..]),
        (CodecName::Vp9, &[0x12, 1, 2]),
        (CodecName::Av1, &[0x32, 9, 1]),
        (CodecName::Av1, &[0x12, 0]),
        (CodecName::H264, &[0x65, 1, 2, 3]),
        (CodecName::H264, &[0, 0, 1, 9, 0x10]),
        (CodecName::H264, &[0, 0, 1, 0x1c, 0x10]),
    ] {
        let error = cut(codec, frame, 100).unwrap_err();
        assert!(matches!(error, PacketizeError::Malformed { codec: c, .. } if c == codec));
    }
    assert!(Packetizer::new(CodecName::Dtmf).is_none());
    assert!(Depacketizer::new(CodecName::Dtmf).is_none());
}

#[test]
fn a_frame_that_is_too_long_is_refused_on_both_sides() {
    let long = Bytes::from(vec![0u8; MAX_FRAME_LEN + 1]);
    let mut packetizer = Packetizer::new(CodecName::Vp8).unwrap();
    let error = packetizer.packetize(&long, 0, 1_000, &mut Vec::new()).unwrap_err();
    assert_eq!(error, PacketizeError::TooLong { len: MAX_FRAME_LEN + 1, max: MAX_FRAME_LEN });
    for codec in VIDEO {
        let packets = sent(codec, 3, 100, 11).packets;
        let mut depacketizer = Depacketizer::new(codec).unwrap().with_max_frame_len(150);
        let mut out = Vec::new();
        packets.iter().for_each(|packet| depacketizer.handle(packet, &mut out));
        assert!(out.contains(&FrameEvent::Damaged(Damage::TooLong)), "{codec:?}");
    }
}

#[test]
fn the_marker_of_audio_begins_a_talk_spurt() {
    let mut packetizer = Packetizer::new(CodecName::Ulaw).unwrap();
    let mut out = Vec::new();
    for timestamp in [0, 160, 480] {
        packetizer.packetize(&vec![0xff; 160].into(), timestamp, 100, &mut out).unwrap();
    }
    let got: Vec<_> =
        out.iter().map(|packet| (packet.timestamp, packet.payload.len(), packet.marker)).collect();
    let expected = [
        (0, 100, true),
        (100, 60, false),
        (160, 100, false),
        (260, 60, false),
        (480, 100, true),
        (580, 60, false),
    ];
    assert_eq!(got, expected);
}

#[test]
fn parameter_sets_share_a_packet_and_large_units_are_fragmented() {
    let mut random = fastrand::Rng::with_seed(12);
    let unit = frame(CodecName::H264, true, 250, &mut random);
    let mut out = Vec::new();
    Packetizer::new(CodecName::H264).unwrap().packetize(&unit, 0, 100, &mut out).unwrap();
    assert_eq!(out[0].payload[..8], [0x78, 0, 5, 0x67, 0x42, 0xe0, 0x1f, 0x99]);
    assert_eq!(out[0].payload[8..], [0, 4, 0x68, 0xce, 0x3c, 0x80]);
    let headers: Vec<_> = out[1..].iter().map(|packet| packet.payload[..2].to_vec()).collect();
    assert_eq!(headers, [[0x7c, 0x85], [0x7c, 0x05], [0x7c, 0x45]]);
    assert_eq!(
        out.iter().map(|packet| packet.marker).collect::<Vec<_>>(),
        [false, false, false, true]
    );
}

#[test]
fn aggregation_headers_say_what_goes_on_and_where_a_sequence_begins() {
    let mut random = fastrand::Rng::with_seed(13);
    let unit = frame(CodecName::Av1, true, 250, &mut random);
    let mut out = Vec::new();
    Packetizer::new(CodecName::Av1).unwrap().packetize(&unit, 0, 100, &mut out).unwrap();
    let headers: Vec<_> = out.iter().map(|packet| packet.payload[0]).collect();
    // Y, two elements and N; Z, Y and one element; Z and one element.
    assert_eq!(headers, [0x68, 0xd0, 0x90]);
    assert_eq!(out[0].payload[1..7], [5, 1 << 3, 0, 0, 0, 4]);
    assert_eq!(out[0].payload[7], 6 << 3, "without its size");
}

#[test]
fn vp9_says_which_frames_depend_on_others() {
    let mut random = fastrand::Rng::with_seed(14);
    let mut packetizer = Packetizer::new(CodecName::Vp9).unwrap();
    let mut flags = Vec::new();
    for key in [true, false] {
        let frame = frame(CodecName::Vp9, key, 150, &mut random);
        let mut out = Vec::new();
        packetizer.packetize(&frame, 0, 100, &mut out).unwrap();
        flags.extend(out.iter().map(|packet| packet.payload[..3].to_vec()));
    }
    assert_eq!(flags, [[0x88, 0x80, 0], [0x84, 0x80, 0], [0xc8, 0x80, 1], [0xc4, 0x80, 1]]);
}

#[test]
fn optional_fields_of_descriptors_are_skipped() {
    let packet = |sequence, payload: Vec<u8>, marker| ReceivedPacket {
        payload: payload.into(),
        payload_type: PayloadType(96),
        sequence,
        timestamp: 1,
        marker,
        received_at: Instant::now(),
        capture_time: None,
    };
    let only = |codec, packets: &[ReceivedPacket]| {
        let events = received(codec, packets);
        let [FrameEvent::Frame(frame)] = &events[..] else { panic!("{events:?}") };
        frame.data.to_vec()
    };
    // X, S; I, L, T, K; a picture id of 15 bits, TL0PICIDX, TID and KEYIDX. A tail of one byte.
    let first = packet(1, vec![0x90, 0xf0, 0x80, 1, 2, 3, 0x10, 0xaa], false);
    let tail = packet(2, vec![0x00, 0xbb], true);
    assert_eq!(only(CodecName::Vp8, &[first, tail]), [0x10, 0xaa, 0xbb]);
    // I, P, L, F, B, E: layer 0, three references, which rtc-rtp refuses.
    let flexible = packet(1, vec![0xfc, 7, 0, 3, 5, 6, 0x86, 0xaa], true);
    assert_eq!(only(CodecName::Vp9, &[flexible]), [0x86, 0xaa]);
    // I, L, B, V: two layers with their sizes, a picture group of two.
    let mut structure = vec![0xaa, 0x80, 1, 0, 9, 0x38];
    structure.extend([0; 8]);
    structure.extend([2, 0x04, 1, 0x00, 0x82, 0xaa]);
    let layer = packet(2, vec![0xac, 0x80, 1, 0x02, 9, 0x83, 0xbb], true);
    let got = only(CodecName::Vp9, &[packet(1, structure, false), layer]);
    assert_eq!(got, [0x82, 0xaa, 0x83, 0xbb]);
}

#[test]
fn the_depacketizers_of_rtc_rtp_understand_our_packets() {
    for max_payload in [50, 300, 1_100] {
        let vp8 = sent(CodecName::Vp8, 10, max_payload, 15);
        let (mut all, mut expected) = (Vec::new(), Vec::new());
        for packet in vp8.packets.iter().filter(|packet| packet.payload.len() >= 5) {
            let payload = rtp::codec::vp8::Vp8Packet::default().depacketize(&packet.payload);
            all.push(payload.unwrap());
            expected.push(packet.payload.slice(3..));
        }
        assert_eq!(all, expected);

        let vp9 = sent(CodecName::Vp9, 10, max_payload, 15);
        let mut all = Vec::new();
        for packet in &vp9.packets {
            let mut parser = rtp::codec::vp9::Vp9Packet::default();
            all.extend_from_slice(&parser.depacketize(&packet.payload).unwrap());
        }
        assert_eq!(all, vp9.frames.concat());

        let h264 = sent(CodecName::H264, 10, max_payload, 15);
        let (mut parser, mut all) = (rtp::codec::h264::H264Packet::default(), Vec::new());
        for packet in &h264.packets {
            all.extend_from_slice(&parser.depacketize(&packet.payload).unwrap());
        }
        assert_eq!(all, h264.frames.concat());

        let av1 = sent(CodecName::Av1, 10, max_payload, 15);
        let (mut parser, mut all) = (rtp::codec::av1::Av1Depacketizer::new(), Vec::new());
        for packet in &av1.packets {
            all.extend_from_slice(&parser.depacketize(&packet.payload).unwrap());
        }
        // It leaves the temporal delimiters out.
        let expected: Vec<_> = av1.frames.iter().flat_map(|frame| frame[2..].to_vec()).collect();
        assert_eq!(all, expected);
    }
}
