//! Every codec: what can be done is told, and frames go through whole.

use std::time::Duration;

use bytes::Bytes;
use ortc_api::{
    CodecName, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, PacketizeError, TrackKind,
    rtc_capabilities, rtc_codec,
};
use ortc_io::sim::{self, LinkConfig};
use ortc_tests::Pair;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn the_mandatory_codecs_of_the_drafts_are_there_and_no_other_name_is() {
    for name in ["opus", "alaw", "ulaw", "dtmf", "vp8", "h264", "vp9", "av1"] {
        let codec = rtc_codec(name).unwrap();
        assert_eq!(codec.name, name);
        assert_eq!(rtc_codec(&name.to_uppercase()), Some(codec));
    }
    assert_eq!(rtc_codec("PCMA"), rtc_codec("alaw"));
    assert_eq!(rtc_codec("PCMU"), rtc_codec("ulaw"));
    assert_eq!(rtc_codec("speex"), None);
    assert_eq!(rtc_codec(""), None);
    let capabilities = rtc_capabilities();
    let names = |codecs: &[ortc_api::RTCCodec]| {
        codecs.iter().map(|codec| codec.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&capabilities.audio_codecs), ["opus", "alaw", "ulaw", "dtmf", "red"]);
    let video = capabilities.video_codecs;
    assert_eq!(names(&video[..4]), ["vp8", "vp9", "av1", "h264"]);
    // Each of them is sent again when it was lost (RFC 4588), under the numbers of browsers.
    let rtx: Vec<_> = video[4..].iter().map(|rtx| (&*rtx.name, rtx.payload_id)).collect();
    assert_eq!(rtx, [("rtx", 97), ("rtx", 99), ("rtx", 46), ("rtx", 103)]);
    let originals: Vec<_> = video[..4].iter().map(|codec| Some(codec.payload_type())).collect();
    let associated: Vec<_> = video[4..].iter().map(ortc_api::RTCCodec::associated_type).collect();
    assert_eq!(associated, originals);
    let nack = |codec: &ortc_api::RTCCodec| codec.takes(ortc_api::RtcpFeedback::Nack);
    assert!(video[..4].iter().all(nack) && !capabilities.audio_codecs.iter().any(nack));
}

/// Some frames of a codec: whatever its packetizer can tell from rubbish.
fn frames(format: MediaFormat) -> Vec<Bytes> {
    let body = |head: &[u8], len: usize| {
        let mut frame = head.to_vec();
        frame.extend((head.len()..len).map(|n| 1 + (n % 251) as u8));
        Bytes::from(frame)
    };
    match format {
        MediaFormat::Opus => vec![body(&[0x78], 60), body(&[0x78], 90)],
        MediaFormat::Alaw | MediaFormat::Ulaw => vec![body(&[0xd5], 160), body(&[0xd5], 160)],
        // A key frame of 320x180 (RFC 6386 §9.1), then one that depends on it.
        MediaFormat::Vp8 => vec![
            body(&[0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00], 20_000),
            body(&[0x11, 0x02, 0x00], 3_000),
        ],
        // An IDR slice of several packets, then a small one that is not.
        MediaFormat::H264 => vec![
            body(
                &[0, 0, 0, 1, 0x67, 0x42, 0xe0, 0x1f, 9, 0, 0, 0, 1, 0x68, 7, 0, 0, 0, 1, 0x65],
                9_000,
            ),
            body(&[0, 0, 0, 1, 0x41], 500),
        ],
        other => panic!("no frames of {other:?} here"),
    }
}

#[test]
fn frames_of_every_size_go_through_whole_and_in_order() {
    use MediaFormat::{Alaw, H264, Opus, Ulaw, Vp8};
    for (seed, format) in [Opus, Alaw, Ulaw, Vp8, H264].into_iter().enumerate() {
        sim::run(seed as u64, |net| async move {
            net.link(LinkConfig {
                delay: Duration::from_millis(10),
                jitter: Duration::from_millis(5),
                reorder: 0.1,
                ..LinkConfig::default()
            });
            let mut pair = Pair::new(&net);
            let (track, source) = MediaStreamTrack::local(format);
            let stream = MediaStream::new();
            stream.add_track(&track);
            pair.alice.conn.add_stream(&stream, true).unwrap();
            pair.describe();
            pair.connect_within(SOON).await;
            let received = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
            assert_eq!(received.kind(), format.kind());
            let mut reader = received.take_frames().unwrap();
            let sent = frames(format);
            let mut first = None;
            for n in 0..20u64 {
                let data = sent[usize::from(n > 0)].clone();
                let timestamp = n * u64::from(format.clock_rate()) / 50;
                source.send(MediaFrame { data: data.clone(), timestamp }).unwrap();
                let frame = tokio::time::timeout(SOON, reader.recv()).await.unwrap().unwrap();
                assert_eq!(frame.data, data, "{format:?}, frame {n}");
                let base = *first.get_or_insert(frame.timestamp);
                assert_eq!(frame.timestamp - base, timestamp);
                let key = n == 0 || format.kind() == TrackKind::Audio;
                assert_eq!((frame.key, frame.intact), (key, true), "{format:?}, frame {n}");
                let id = CodecName::default_codec(format.codec()).payload_id;
                assert_eq!(frame.payload_id, id);
            }
            assert_eq!((reader.damages(), source.dropped()), (0, 0));
        });
    }
}

#[test]
fn what_is_no_frame_of_the_format_is_refused_and_the_next_one_is_sent() {
    sim::run(20, |net| async move {
        let mut pair = Pair::new(&net);
        let (track, source) = MediaStreamTrack::local(MediaFormat::H264);
        let stream = MediaStream::new();
        stream.add_track(&track);
        pair.alice.conn.add_stream(&stream, true).unwrap();
        pair.describe();
        pair.connect_within(SOON).await;
        let frame =
            |data: &'static [u8]| MediaFrame { data: Bytes::from_static(data), timestamp: 0 };
        assert_eq!(source.send(frame(b"")), Err(PacketizeError::Empty));
        let refused = source.send(frame(b"no start code"));
        assert!(matches!(refused, Err(PacketizeError::Malformed { .. })), "{refused:?}");
        source
            .send(MediaFrame { data: frames(MediaFormat::H264)[0].clone(), timestamp: 0 })
            .unwrap();
        let received = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
        let mut reader = received.take_frames().unwrap();
        let got = tokio::time::timeout(SOON, reader.recv()).await.unwrap().unwrap();
        assert_eq!(got.data, frames(MediaFormat::H264)[0]);
    });
}
